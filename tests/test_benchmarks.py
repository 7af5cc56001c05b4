"""The scripts under benchmarks/ do what they say."""

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"


def test_shell_scripts_parse():
    for script in (ROOT / "benchmarks").glob("*.sh"):
        subprocess.run(["bash", "-n", script], check=True)


def test_a_benchmark_trains_only_what_has_not_finished(tmp_path):
    """Two seeds of CartPole: a second call trains nothing, changed code or flags train again."""
    shutil.copytree(
        ROOT / "benchmarks", tmp_path / "benchmarks", ignore=lambda *_: ["runs", "results"]
    )
    shutil.copy(ROOT / "ppo_continuous.py", tmp_path)
    script = shutil.copy(ROOT / "ppo.py", tmp_path)
    results = tmp_path / "benchmarks/results/runs.csv"

    def train(seeds="7-8", steps=3000):
        command = [sys.executable, "benchmarks/train.py", "test", seeds, "ppo.py"]
        command += ["--total-timesteps", steps, "--eval-episodes", 1]
        options = {"check": True, "capture_output": True, "text": True}
        return subprocess.run(map(str, command), cwd=tmp_path, **options).stdout.count("seed")

    def rows():
        with open(results) as file:
            return list(csv.DictReader(file))

    assert train() == 2 and [row["seed"] for row in rows()] == ["7", "8"]
    for row in rows():
        assert 3000 <= int(row["steps"]) < 5000 and float(row["training_return"]) > 9
        assert float(row["greedy_return"]) > 9 and row["machine"] and row["packages"]
    lines = results.read_text().splitlines()
    results.write_text("\n".join(lines[:2]) + "\n")  # as an interrupt leaves it
    with open(script, "a") as file:
        file.write("# a comment\n")
    assert train() == 1 and results.read_text().splitlines()[:2] == lines[:2]
    with open(script, "a") as file:
        file.write("x = 1\n")
    assert train("8") == 1 and train("8", steps=4000) == 1 and len(rows()) == 1
    with open(tmp_path / "benchmarks/results/curves/test.csv") as file:
        points = [(row["seed"], row["step"]) for row in csv.DictReader(file)]
    assert {seed for seed, _ in points} == {"8"} and len(set(points)) == len(points)


def test_the_numbers_of_the_pages_are_those_of_the_present_scripts(monkeypatch):
    """Every number of a marked block stands in a table of results/, every table is made of runs
    in results/runs.csv, and every run is one of the scripts as they are."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from train import RUNS, SAME, SCRIPTS, check_code, read_csv

    check_code(read_csv(RUNS))
    results = ROOT / "benchmarks/results"
    known = set(re.findall(NUMBER, " ".join([*SCRIPTS.values(), *SAME])))
    for path in (*results.rglob("*.csv"), ROOT / "benchmarks/published.csv"):
        with open(path, newline="") as file:
            known.update(*(re.findall(NUMBER, cell) for row in csv.reader(file) for cell in row))
    for page in (ROOT / "README.md", ROOT / "benchmarks/README.md"):
        blocks = re.findall(r"<!-- (\w+) -->(.*?)<!-- /\1 -->", page.read_text(), re.DOTALL)
        assert blocks, page
        for name, block in blocks:
            assert set(re.findall(NUMBER, block)) <= known, (page.name, name)


def test_results_of_other_code_are_refused(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from train import SCRIPTS, check_code

    ours = [{"code": code} for code in SCRIPTS.values()]
    ours += [{"code": f"edited {row['code']}"} for row in ours] + [{"code": "rival 1.0"}]
    assert check_code(ours) == ours
    for code in ("0" * 12, "edited " + "0" * 12):
        with pytest.raises(SystemExit, match="not in the tree"):
            check_code([{"code": code}])


def test_every_ablation_edits_its_script(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import ablations

    for environment in ablations.ENVIRONMENTS.values():
        original = (ROOT / environment["script"]).read_text()
        copy = tmp_path / environment["script"]
        for name, _, *edit in environment["ablations"]:
            ablations.write_copy(copy, edit)
            compile(copy.read_text(), name, "exec")
            assert (copy.read_text() != original) == bool(edit)


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
    steps_per_second, start_up, memory = speed.ours("CartPole-v1", "ppo", "")
    assert 500 < steps_per_second < 1e6 and 0.5 < start_up < 60 and 100 < memory < 4000
    assert 1000 < speed.environments("CartPole-v1", 4, seconds=0.2) < 1e8


def test_plot_draws_the_curves_of_runs(ppo, train):
    for package in ("matplotlib", "scipy"):
        pytest.importorskip(package)
    train(ppo, total_timesteps=3000)
    command = [sys.executable, ROOT / "benchmarks/plot.py", "runs/CartPole-v1__*"]
    subprocess.run(command, check=True)
    assert Path("curves.png").stat().st_size > 10_000
