"""What holds the project to its shape."""

import difflib
import re

from conftest import ROOT

PPO, CONTINUOUS = (ROOT / name for name in ("ppo.py", "ppo_continuous.py"))


def test_each_script_has_at_most_505_lines():
    for script in (PPO, CONTINUOUS):
        assert len(script.read_text().splitlines()) <= 505


def test_the_scripts_differ_by_at_most_90_lines():
    """As `diff ppo.py ppo_continuous.py | grep -c '^[<>]'` counts them."""
    one, other = (script.read_text().splitlines() for script in (PPO, CONTINUOUS))
    differing = [line for line in difflib.ndiff(one, other) if line[0] in "+-"]
    assert 0 < len(differing) <= 90


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


def test_the_readmes_program_evaluates_a_saved_policy(ppo, train, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    train(ppo, total_timesteps=2000, eval_episodes=0)
    (run,) = tmp_path.glob("*/runs/*")
    (program,) = re.findall(
        r"```python\n(import torch.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    capsys.readouterr()
    exec(program.replace("runs/NAME", str(run)), {})
    returns = [float(x) for x in capsys.readouterr().out.strip("[]\n").split()]
    assert len(returns) == 10 and min(returns) > 8


def test_the_readme_names_files_and_flags_that_exist():
    readme = (ROOT / "README.md").read_text()
    for path in re.findall(r"\]\((?!http)([^)]+)\)", readme):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"benchmarks/\w+\.(?:sh|py)", readme):
        assert (ROOT / path).exists(), path
    fields = re.findall(r"^    (\w+): ", PPO.read_text(), re.M)
    flags = {"--" + name.replace("_", "-") for name in fields}
    flags |= {flag.replace("--", "--no-") for flag in flags}
    flags |= {"--help", "--logdir", "--slow", "--upgrade"}  # of tyro, tensorboard, pytest, pip
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
