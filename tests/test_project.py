"""What holds the project to its shape."""

import difflib
import re
import sys
import tokenize

import pytest
from conftest import ROOT

PPO, CONTINUOUS = (ROOT / name for name in ("ppo.py", "ppo_continuous.py"))


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="splits f-strings into tokens")
@pytest.mark.parametrize("script", [PPO, CONTINUOUS], ids=lambda path: path.stem)
def test_size_in_tokens(script):
    """Without comments, docstrings, newlines and indents; a line has one idea."""
    left_out = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    left_out |= {tokenize.ENCODING, tokenize.ENDMARKER}
    with open(script, "rb") as file:
        tokens = [
            token
            for token in tokenize.tokenize(file.readline)
            if token.type not in left_out and not token.string.startswith('"""')
        ]
    assert len(tokens) <= 5250
    assert len(tokens) / len({token.start[0] for token in tokens}) <= 10.5


def test_more_than_half_of_main_is_ppo():
    """Lines from the annealing to the last optimiser step, of all lines of main that hold code."""
    for script in (PPO, CONTINUOUS):
        main = script.read_text().split("\ndef main")[1].split("\nif __name__")[0]
        start, end = (
            main.index("            # (19)"),
            main.index("            progress.update += 1"),
        )
        code, ppo = (
            [line for line in text.splitlines() if line.strip() and line.strip()[0] != "#"]
            for text in (main, main[start:end])
        )
        assert len(ppo) >= 0.55 * len(code)


def test_the_scripts_differ_by_at_most_90_lines():
    """As `diff ppo.py ppo_continuous.py | grep -c '^[<>]'` counts them."""
    one, other = (script.read_text().splitlines() for script in (PPO, CONTINUOUS))
    differing = [line for line in difflib.ndiff(one, other) if line[0] in "+-"]
    assert 0 < len(differing) <= 90


def test_what_has_nothing_to_do_with_actions_is_the_same_in_both_scripts():
    texts = [script.read_text().split("\ndef parse_args")[1] for script in (PPO, CONTINUOUS)]
    parts = [dict(re.findall(r"^(def \w+|class \w+)(.*?)(?=^\S)", x, re.M | re.S)) for x in texts]
    assert parts[0].keys() == parts[1].keys() and len(parts[0]) > 25
    differing = {name for name in parts[0] if parts[0][name] != parts[1][name]}
    assert differing == {"def make_envs", "class Agent", "def log_prob_and_entropy", "def ppo_loss"}


def test_every_equation_has_a_line_in_both_scripts():
    for script in (PPO, CONTINUOUS):
        text = script.read_text()
        for number in range(4, 21):
            assert f"({number})" in text.split("class Agent")[1], number


def test_the_readme_quotes_lines_that_are_there():
    readme = (ROOT / "README.md").read_text()
    code = {
        line.strip() for script in (PPO, CONTINUOUS) for line in script.read_text().splitlines()
    }
    section = readme.split("## The equations")[1].split("## Implementation details")[0]
    quoted = [
        line.strip()
        for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        for line in block.splitlines()
    ]
    assert len(quoted) > 20
    for line in quoted:
        assert line in code, line
    assert re.findall(r"\\tag\{(\d+)\}", section) == [str(n) for n in range(1, 21)]


def test_the_inline_metadata_has_the_pins_of_the_requirements():
    """PEP 723, for uv run ppo.py."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [line.partition("  #")[0] for line in lines]
    for script in (PPO, CONTINUOUS):
        (block,) = re.findall(r"^# /// script$\n((?:#.*\n)+?)# ///$", script.read_text(), re.M)
        inside = re.sub(r"^# ?", "", block, flags=re.M)
        names = {}
        exec(inside.replace("requires-python", "requires_python"), names)
        assert names["dependencies"] == pins and names["requires_python"] == ">=3.10"


def test_the_readme_names_files_and_flags_that_exist():
    readme = (ROOT / "README.md").read_text()
    for path in re.findall(r"\]\((?!http)([^)]+)\)", readme):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"benchmarks/\w+\.(?:sh|py)", readme):
        assert (ROOT / path).exists(), path
    fields = re.findall(r"^    (\w+): ", PPO.read_text(), re.M)
    flags = {"--" + name.replace("_", "-") for name in fields}
    flags |= {flag.replace("--", "--no-") for flag in flags}
    flags |= {"--help", "--logdir", "--slow", "--script", "--upgrade"}  # not the scripts'
    flags |= {
        "--standalone",
        "--nproc-per-node",
        "--max-restarts",
        "--nnodes",
        "--rdzv-backend",
        "--rdzv-endpoint",
    }
    for flag in re.findall(r"--[a-z][a-z-]+", readme):
        assert flag in flags, flag


def test_top_level_is_what_the_design_says():
    names = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    allowed = {"ppo.py", "ppo_continuous.py", "requirements.txt", "benchmarks", "tests"}
    assert names - {"runs", "wandb", "__pycache__"} <= allowed | {"README.md", "LICENSE"}


def test_ci_runs_the_readmes_test_command():
    (command,) = re.findall(
        r"^pip install .* pytest tests$", (ROOT / "README.md").read_text(), re.M
    )
    assert command in (ROOT / ".ci/run").read_text().splitlines()
