"""The two scripts belong together, and what README.md says and runs is so."""

import ast
import inspect
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request

import gymnasium as gym
import onnxruntime
import pytest
import torch
from conftest import ROOT, load

README = (ROOT / "README.md").read_text()
SCRIPTS = [ROOT / "ppo.py", ROOT / "ppo_continuous.py"]


def parts(path):
    """Name -> code of the top-level functions and of the methods of classes, without comments."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{x.name}": ast.unparse(x) for x in node.body if hasattr(x, "name")
            }
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = ast.unparse(node)
    return found


def test_the_scripts_differ_only_in_what_depends_on_the_action():
    one, other = map(parts, SCRIPTS)
    assert other.keys() - one.keys() == {"Agent.to_env"} and not one.keys() - other.keys()
    differing = {name for name in one if one[name] != other[name]}
    policy = {f"Agent.{name}" for name in ("__init__", "policy", "sample", "forward")}
    assert differing == policy | {"make_envs", "log_prob", "entropy", "main"}
    # main: the shape of the stored actions and the actions of the environment
    lines, other_lines = one["main"].splitlines(), other["main"].splitlines()
    assert len(lines) == len(other_lines)
    assert sum(a != b for a, b in zip(lines, other_lines, strict=True)) == 2


def test_the_scripts_have_the_same_flags():
    one, other = (inspect.signature(load(path.stem).Args).parameters for path in SCRIPTS)
    assert other.keys() - one.keys() == {"log_std_init"} and not one.keys() - other.keys()


def test_every_equation_has_a_line_in_both_scripts_and_in_the_readme():
    for path in SCRIPTS:
        body = path.read_text().split("\nclass RunningMeanStd")[1]
        for number in range(4, 21):
            assert f"({number})" in body, (path.name, number)
    rows = re.findall(r"^\| \*\*\((\d+)\)\*\* .*", README, re.MULTILINE)
    assert rows == [str(number) for number in range(1, 21)]


def test_the_equations_of_the_readme_link_to_their_lines():
    lines = SCRIPTS[0].read_text().splitlines()
    number, links = None, 0
    for row in re.findall(r"^\| (?:\*\*\(\d+\)\*\*)?.*ppo\.py#L.*", README, re.MULTILINE):
        number = (re.findall(r"^\| \*\*(\(\d+\))", row) or [number])[0]
        (line,) = re.findall(r"ppo\.py#L(\d+)", row)
        assert number in lines[int(line) - 1], row
        links += 1
    assert links == 19


def test_the_metadata_of_the_scripts_has_the_pins():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [re.sub(r"\s+#.*", "", line) for line in lines]
    for path in SCRIPTS:
        (block,) = re.findall(r"# /// script\n(.*?)# ///\n", path.read_text(), re.DOTALL)
        listed = re.findall(r"#     [\"'](.*)[\"'],", block)
        assert listed == pins


def test_help_names_every_flag(monkeypatch, capsys):
    for path in SCRIPTS:
        monkeypatch.setattr(sys, "argv", [path.name, "--help"])
        with pytest.raises(SystemExit, match="0"):
            runpy.run_path(str(path), run_name="__main__")
        text = capsys.readouterr().out
        for flag in inspect.signature(load(path.stem).Args).parameters:
            assert f"--{flag.replace('_', '-')}" in text


# The commands and the program of the README


def readme_commands():
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line.split("   #")[0].strip() for block in blocks for line in block.splitlines()]
    elsewhere = ("--help", "--track")  # test_help_names_every_flag, test_wandb_offline
    return [x for x in lines if "python ppo" in x and not any(flag in x for flag in elsewhere)]


@pytest.fixture
def finished_run(tmp_path, monkeypatch):
    """A short finished run runs/NAME of ppo.py in the working directory."""
    monkeypatch.chdir(tmp_path)
    ppo = load("ppo")
    ppo.main(ppo.Args(total_timesteps=3000, eval_episodes=1))
    (run,) = (tmp_path / "runs").iterdir()
    return run.rename(tmp_path / "runs/NAME")


@pytest.mark.parametrize("command", readme_commands())
def test_a_command_of_the_readme_runs(command, finished_run, tmp_path, monkeypatch, capfd):
    (tmp_path / "my_module.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('MyEnv-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = shlex.split(command)
    while "=" in words[0]:  # PYTHONPATH=tests; it is on the path here
        words.pop(0)
    argv = words[1:] + ([] if "--resume" in words else ["--total-timesteps", "2500"])
    monkeypatch.setattr(sys, "argv", argv)
    runpy.run_path(str(ROOT / argv[0]), run_name="__main__")
    assert "greedy return" in capfd.readouterr().out
    assert len(list((tmp_path / "runs").iterdir())) == (1 if "--resume" in words else 2)
    if "--capture-video" in words:
        assert list(finished_run.glob("videos/*/*.mp4"))


def test_there_are_such_commands():
    assert len(readme_commands()) >= 8


def test_tensorboard_shows_the_runs(finished_run):
    assert "\ntensorboard --logdir runs\n" in README
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", "runs", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = next(x for x in process.stderr if "http://" in x)
            (url,) = re.findall(r"http://\S+/", line)
            tags, end = {}, time.monotonic() + 30
            while not tags and time.monotonic() < end:  # it reads the files in the background
                with urllib.request.urlopen(f"{url}data/plugin/scalars/tags") as page:
                    tags = json.load(page)
            assert "charts/episodic_return" in tags["NAME"]
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv")
def test_uv_installs_what_the_script_needs_and_runs_it(tmp_path):
    assert "`uv run ppo.py`" in README
    command = ["uv", "run", "--python", sys.executable, ROOT / "ppo.py"]
    command += ["--total-timesteps", "3000"]
    output = subprocess.check_output(command, cwd=tmp_path, text=True)
    assert "greedy return" in output


def test_the_program_of_the_readme_uses_a_trained_policy(finished_run, tmp_path, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(program, names)
    mean, *_ = capsys.readouterr().out.splitlines()
    assert 8 <= float(mean) <= 500
    session = onnxruntime.InferenceSession("policy.onnx")
    obs = torch.randn(1, 4)
    (actions,) = session.run(None, {session.get_inputs()[0].name: obs.numpy()})
    assert actions.tolist() == names["agent"](obs).tolist()
    assert isinstance(names["envs"], gym.vector.VectorEnv)


def test_readme_links_lead_somewhere():
    for page in (ROOT / "README.md", ROOT / "benchmarks/README.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), target


def test_windows_can_check_out_every_file():
    paths = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    assert paths and not set(paths) & set('<>:"\\|?*')
