"""The scripts under benchmarks/ do what they say."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


def test_shell_scripts_parse():
    for script in (ROOT / "benchmarks").glob("*.sh"):
        subprocess.run(["bash", "-n", script], check=True)


def test_a_benchmark_trains_only_what_has_not_finished(tmp_path):
    """The runner on CartPole with two seeds: a second call trains nothing, an edit trains again."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=lambda *_: ["runs"])
    for name in ("ppo.py", "ppo_continuous.py"):
        shutil.copy(ROOT / name, tmp_path)
    # train.sh calls `python`: this one, also where no environment is activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    flags = ["--total-timesteps", "1500", "--eval-episodes", "1"]

    def train():
        command = ["benchmarks/train.sh", "test", "ppo.py", "7-8", *flags]
        options = {"check": True, "capture_output": True, "text": True}
        return subprocess.run(command, cwd=tmp_path, env=os.environ | {"PATH": path}, **options)

    assert train().stdout.count("greedy return") == 2
    assert train().stdout == ""
    (tmp_path / "benchmarks/runs/test/8/finished").unlink()  # as an interrupt leaves it
    assert train().stdout.count("greedy return") == 1
    summarize = [
        sys.executable,
        "-c",
        "import summarize as s; s.compare('t', 'run', {'a': 'test'})",
    ]
    subprocess.run(summarize, cwd=tmp_path / "benchmarks", check=True, capture_output=True)
    rows = (tmp_path / "benchmarks/results/t.csv").read_text().splitlines()
    assert rows[0] == "run,seed,greedy_return" and len(rows) == 3
    assert "| a | 2 |" in (tmp_path / "benchmarks/results/t.md").read_text()
    with open(tmp_path / "ppo.py", "a") as script:
        script.write("# changed\n")
    assert train().stdout.count("greedy return") == 2


def test_the_figure_of_the_clip_is_drawn_from_the_scripts_loss(monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import figures

    for ratio, advantage, expected in ((1.1, 1, 1.1), (1.5, 1, 1.2), (0.5, -1, -0.8), (2, -1, -2)):
        assert figures.clipped_surrogate(ratio, advantage) == pytest.approx(expected)


def test_speed_measures_between_the_updates(monkeypatch):
    """The short form of speed.py: it reads the speed of a run from the curves."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import speed

    monkeypatch.setattr(speed, "STEPS", 4000)
    assert 500 < speed.ours("CartPole-v1", "ppo", "") < 1e6
    assert 1000 < speed.environments("CartPole-v1", 4, seconds=0.2) < 1e8
