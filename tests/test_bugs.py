"""The catalogue of mistakes, tests/bugs.md: each of its sections names the test that notices. That
test passes on the scripts as they are, being one of this suite; with the mistake made in a copy it
must fail, by its assertion. One in four is made always, the others with --slow. One of them:

    pytest tests/test_bugs.py --slow -k gae_decays_without
"""

import dataclasses
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ROOT


@dataclasses.dataclass(frozen=True)
class Bug:
    title: str
    script: str
    what_it_does: str
    old: tuple[str, ...]  # lines, without the indentation of their place
    new: tuple[str, ...]
    test: str

    def __str__(self):
        return slug(self.title)


def slug(title):
    return "_".join(re.findall(r"\w+", title.lower()))


SECTION = re.compile(
    r"(?P<title>.+)\n\n"
    r"(In `(?P<script>\w+)\.py`:\n\n)?"
    r"(?P<what_it_does>(.+\n)+)\n"
    r"```diff\n(?P<old>(- .+\n)+)(?P<new>(\+ .+\n)*)```\n\n"
    r"Noticed by\s`(?P<test>tests/\w+\.py::[^`\s]+)`\.\n*"
)
SECTIONS = (ROOT / "tests/bugs.md").read_text().split("\n## ")[1:]


def parse(section):
    parts = SECTION.fullmatch(section)
    if parts is None:
        return None
    parts = parts.groupdict()
    parts["script"] = parts["script"] or "ppo"
    for sign in ("old", "new"):
        parts[sign] = tuple(line[2:] for line in parts[sign].splitlines())
    return Bug(**parts)


BUGS = [bug for bug in map(parse, SECTIONS) if bug]


def make(bug, text):
    """The text of a script with the mistake in it, as deep as the line was that it replaces."""
    lines, k = text.splitlines(), len(bug.old)
    stripped, old = [line.strip() for line in lines], [line.strip() for line in bug.old]
    places = [i for i in range(len(lines)) if stripped[i : i + k] == old]
    assert len(places) == 1, f"{bug.old} stands in {bug.script}.py {len(places)} times"
    (i,) = places
    indentation = lines[i].removesuffix(lines[i].lstrip())
    lines[i : i + k] = [indentation + line for line in bug.new]
    return "\n".join(lines) + "\n"


def run_on_copies(bugs, folders):
    """What pytest printed of each, one after the other."""
    for bug, folder in zip(bugs, folders, strict=True):
        for name in ("ppo", "ppo_continuous"):
            text = (ROOT / f"{name}.py").read_text()
            (folder / f"{name}.py").write_text(make(bug, text) if name == bug.script else text)
    jobs = [word for bug, folder in zip(bugs, folders, strict=True) for word in (folder, bug.test)]
    subprocess.run([sys.executable, ROOT / "tests/forks.py", *jobs], cwd=ROOT, check=True)
    return [(folder / "output.txt").read_text() for folder in folders]


def seconds(output):
    match = re.search(r"1 failed.* in ([\d.]+)s", output)
    return float(match[1]) if match else float("inf")


@pytest.fixture(scope="module")
def outputs(request, tmp_path_factory):
    """What pytest printed for each bug; two at a time."""
    items = [item for item in request.session.items if item.name.startswith("test_is_noticed[")]
    items = [item for item in items if not item.get_closest_marker("skip")]
    bugs = [item.callspec.params["bug"] for item in items]
    folders = [tmp_path_factory.mktemp(str(bug)) for bug in bugs]
    halves = (slice(0, None, 2), slice(1, None, 2))
    with ThreadPoolExecutor(2) as pool:
        outputs = pool.map(lambda half: run_on_copies(bugs[half], folders[half]), halves)
        return {
            bug: output
            for half, texts in zip(halves, outputs, strict=True)
            for bug, output in zip(bugs[half], texts, strict=True)
        }


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: slug(section.split("\n")[0]))
def test_has_all_its_parts(section):
    """A title, what the mistake does, one or two lines, the test that notices; and it compiles."""
    bug = parse(section)
    assert bug, "not of the form of the other sections"
    assert 1 <= len(bug.old) <= 2 and len(bug.new) <= 2 and bug.old != bug.new
    compile(make(bug, (ROOT / f"{bug.script}.py").read_text()), str(bug), "exec")


def test_there_are_many():
    assert len(SECTIONS) >= 50
    assert len({str(bug) for bug in BUGS}) == len(SECTIONS)


def often_or_not(i, bug):
    return pytest.param(bug, id=str(bug), marks=[pytest.mark.slow] if i % 4 else [])


@pytest.mark.parametrize("bug", map(often_or_not, range(len(BUGS)), BUGS))
def test_is_noticed(bug, outputs, tmp_path):
    output = outputs[bug]
    if seconds(output) >= 10:  # perhaps the machine was busy: once more, alone
        (output,) = run_on_copies([bug], [tmp_path])
    by_assertion = r"^FAILED \S+ - (assert|AssertionError)"
    assert re.search(by_assertion, output, re.MULTILINE), output[-2000:]
    assert seconds(output) < 10, output[-200:]
