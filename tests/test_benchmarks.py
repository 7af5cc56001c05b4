"""The variants under benchmarks/ apply to the script as it is, and run."""

import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, read_run

VARIANTS = sorted((ROOT / "benchmarks/variants").glob("*.patch"))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.stem)
def test_variant_runs(variant, tmp_path):
    shutil.copy(ROOT / "ppo.py", tmp_path)
    subprocess.run(["git", "apply", variant], cwd=tmp_path, check=True)
    flags = ["--num-envs", "2", "--num-steps", "32", "--total-timesteps", "200"]
    subprocess.run([sys.executable, "ppo.py", *flags], cwd=tmp_path, check=True)
    (run,) = (tmp_path / "runs").iterdir()
    assert len(read_run(run)["losses/policy_loss"]) == 4


def test_shell_scripts_parse():
    for script in (ROOT / "benchmarks").glob("*.sh"):
        subprocess.run(["bash", "-n", script], check=True)


def test_a_benchmark_trains_only_what_has_not_finished(tmp_path):
    """The runner on CartPole with two seeds: a second call trains nothing, an edit trains again."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=lambda *_: ["runs"])
    shutil.copy(ROOT / "ppo.py", tmp_path)

    def train():
        command = ["benchmarks/train.sh", "test", "ppo.py", "2", "--total-timesteps", "1"]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)

    assert train().stdout.count("greedy return") == 2
    assert train().stdout == ""
    (tmp_path / "benchmarks/runs/test/2/finished").unlink()  # as an interrupt leaves it
    assert train().stdout.count("greedy return") == 1
    with open(tmp_path / "ppo.py", "a") as script:
        script.write("# changed\n")
    assert train().stdout.count("greedy return") == 2
