"""The mistakes of mutations.txt: the test that each one names passes on the scripts as they are and
must fail when a copy has the mistake. One in eight is tried always, the others
with --slow. To try some of them: pytest tests/test_mutations.py --slow -k truncation
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = ("equations", "replay", "training", "resume")


@dataclass
class Mutation:
    title: str
    script: str
    test: str  # selects the test that fails, as pytest -k does
    old: str
    new: str


def parse(block):
    title, *lines = block.splitlines()
    title, script, test = re.fullmatch(r"(.*) \((?:(\w+), )?(.*)\)", title).groups()
    old, new = ("\n".join(x[2:] for x in lines if x[0] == sign) for sign in "-+")
    return Mutation(title, script or "ppo", test, old, new)


BLOCKS = (ROOT / "tests/mutations.txt").read_text().strip().split("\n\n")[1:]
MUTATIONS = [parse(block) for block in BLOCKS]


def run_in_forks():
    """The child process of `noticed_by`. It imports what the tests import once and forks for every
    line 'FOLDER<tab>TEST' on standard input: pytest runs the test on the scripts in FOLDER."""
    import gymnasium  # noqa: F401
    import torch.utils.tensorboard  # noqa: F401
    import tyro  # noqa: F401

    for line in sys.stdin:
        folder, test = line.rstrip("\n").split("\t")
        if os.fork() == 0:
            output = os.open(Path(folder) / "output.txt", os.O_CREAT | os.O_WRONLY)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.environ |= {"PPO_SCRIPTS": folder, "COLUMNS": "500"}
            tests = [str(ROOT / f"tests/test_{name}.py") for name in FILES]
            options = ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "-W", "ignore"]
            pytest.main([*options, *tests, "-k", test])
            sys.stdout.flush()
            os._exit(0)
        os.wait()
        print("done", flush=True)


@pytest.fixture(scope="module")
def noticed_by(tmp_path_factory):
    argv = [sys.executable, __file__]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(argv, cwd=ROOT, **pipes) as process:

        def run(mutation):
            folder = tmp_path_factory.mktemp("copy")
            for name in ("ppo", "ppo_continuous"):
                text = (ROOT / f"{name}.py").read_text()
                if name == mutation.script:
                    text = text.replace(mutation.old, mutation.new)
                (folder / f"{name}.py").write_text(text)
            process.stdin.write(f"{folder}\t{mutation.test}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"
            return (folder / "output.txt").read_text()

        yield run
        process.stdin.close()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.title)
def test_the_place_of_a_mistake_is_there_once(mutation):
    text = (ROOT / f"{mutation.script}.py").read_text()
    assert text.count(mutation.old) == 1
    compile(text.replace(mutation.old, mutation.new), mutation.title, "exec")


def rarely(i, mutation):
    slug = re.sub(r"\W+", "_", mutation.title.lower())
    return pytest.param(mutation, id=slug, marks=[pytest.mark.slow] if i % 8 else [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("mutation", [rarely(i, x) for i, x in enumerate(MUTATIONS)])
def test_is_noticed(mutation, noticed_by):
    output = noticed_by(mutation)
    failed = re.search(
        r"^FAILED .* - (assert|AssertionError|Failed|StopIteration)", output, re.MULTILINE
    )
    assert failed, output[-2000:]


if __name__ == "__main__":
    run_in_forks()
