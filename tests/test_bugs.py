"""The bug museum: each tests/bugs/*.patch puts a classic mistake into ppo.py, and its first line
names the test that notices. That test passes on the script as it is, being one of this suite; on
the patched copy it must fail, by its assertion. To look at one: git apply tests/bugs/NAME.patch"""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ROOT

BUGS = sorted((ROOT / "tests/bugs").glob("*.patch"))


def test_there_are_many():
    assert len(BUGS) >= 20


def run_on_patched_copy(bug, folder):
    for name in ("ppo.py", "ppo_continuous.py"):
        shutil.copy(ROOT / name, folder)
    applied = subprocess.run(["git", "apply", bug], cwd=folder, capture_output=True, text=True)
    if applied.returncode != 0:
        return applied.stderr
    test = bug.read_text().splitlines()[0].removeprefix("Caught by ")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", test],
        cwd=ROOT,
        env=os.environ | {"PPO_SCRIPTS": str(folder), "COLUMNS": "500"},
        capture_output=True,
        text=True,
    ).stdout


def seconds(output):
    match = re.search(r"1 failed in ([\d.]+)s", output)
    return float(match[1]) if match else float("inf")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """What pytest printed for each bug; two at a time, as most of it is starting up."""
    folders = [tmp_path_factory.mktemp(bug.stem) for bug in BUGS]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(BUGS, pool.map(run_on_patched_copy, BUGS, folders), strict=True))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.stem)
def test_is_caught(bug, outputs, tmp_path):
    output = outputs[bug]
    if seconds(output) >= 10:  # perhaps the machine was busy: once more, alone
        output = run_on_patched_copy(bug, tmp_path)
    by_assertion = r"^FAILED \S+ - (assert|AssertionError)"
    assert re.search(by_assertion, output, re.MULTILINE), output[-2000:]
    assert seconds(output) < 10, output[-200:]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.stem)
def test_is_one_or_two_lines(bug):
    changed = re.findall(r"^[+-](?![+-])", bug.read_text(), re.MULTILINE)
    assert 1 <= len(changed) <= 4  # a changed line stands there before and after
