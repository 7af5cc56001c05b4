"""The scripts under benchmarks/ do what they say, and training keeps its speed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, read_run


def test_shell_scripts_parse():
    for script in (ROOT / "benchmarks").glob("*.sh"):
        subprocess.run(["bash", "-n", script], check=True)


def test_a_benchmark_trains_only_what_has_not_finished(tmp_path):
    """The runner on CartPole with two seeds: a second call trains nothing, an edit trains again."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=lambda *_: ["runs"])
    shutil.copy(ROOT / "ppo.py", tmp_path)

    # train.sh calls `python`: this one, also where no environment is activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def train():
        command = ["benchmarks/train.sh", "test", "ppo.py", "2", "--total-timesteps", "1"]
        options = {"check": True, "capture_output": True, "text": True}
        return subprocess.run(command, cwd=tmp_path, env=os.environ | {"PATH": path}, **options)

    assert train().stdout.count("greedy return") == 2
    assert train().stdout == ""
    (tmp_path / "benchmarks/runs/test/2/finished").unlink()  # as an interrupt leaves it
    assert train().stdout.count("greedy return") == 1
    with open(tmp_path / "ppo.py", "a") as script:
        script.write("# changed\n")
    assert train().stdout.count("greedy return") == 2


def test_training_keeps_a_part_of_the_environments_speed(script, monkeypatch):
    """The short form of throughput.py: half of what it measures, as the machine may be busy."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import throughput

    env_id = {"ppo": "LunarLander-v3", "ppo_continuous": "HalfCheetah-v5"}[script.__name__]
    flags = f"--env-id {env_id} --total-timesteps 10000"
    ratios = []
    while len(ratios) < 3 and max(ratios, default=0) < 0.2:
        sps = throughput.train(flags, ROOT / f"{script.__name__}.py")["sps"]
        ratios.append(sps / throughput.raw(env_id, script.Args().num_envs, seconds=1.0))
    assert max(ratios) >= 0.2, ratios


def test_the_update_waits_for_no_number(script, train, monkeypatch):
    """As many reads of tensors with 2 minibatches as with 16; an epoch's means at its end."""
    reads, counts = [], []

    def counted(original):
        return lambda *args, **kwargs: reads.append(original) or original(*args, **kwargs)

    for name in ("item", "__bool__", "__float__", "tolist", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, counted(getattr(torch.Tensor, name)))
    env_id = {"ppo": "CartPole-v1", "ppo_continuous": "Pendulum-v1"}[script.__name__]
    for numbers in ((2, 4), (16, 4), (16, 8)):
        reads.clear()
        train(script, env_id=env_id, total_timesteps=1, eval_episodes=0, num_steps=32,
              num_minibatches=numbers[0], update_epochs=numbers[1])  # fmt: skip
        counts.append(len(reads))
    assert counts[1] == counts[0] and counts[2] - counts[1] == 4 * 6


@pytest.fixture
def with_envpool(tmp_path, monkeypatch):
    """Runs python in an empty folder, with benchmarks/envpool_envs.py to be imported."""
    pytest.importorskip("envpool")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "benchmarks")}

    def run(name, *command):
        (tmp_path / name).mkdir()
        options = {"cwd": tmp_path / name, "env": environment, "check": True, "text": True}
        subprocess.run([sys.executable, *map(str, command)], **options)
        return tmp_path / name

    return run


def test_envpool_learns_and_takes_the_seed(with_envpool):
    def train(name, seed):
        flags = ["--env-id", "envpool_envs:CartPole-v1", "--seed", seed]
        folder = with_envpool(name, ROOT / "ppo.py", *flags, "--total-timesteps", 40_000)
        return read_run(next(folder.glob("runs/*")))

    runs = [train("first", 1), train("again", 1), train("other", 2)]
    losses = [run["losses/policy_loss"] for run in runs]
    assert losses[0] == losses[1] != losses[2]
    assert all(run["eval/episodic_return"][0][1] > 300 for run in runs)


def test_envpool_resets_on_the_step_after_an_end(with_envpool):
    """That step has the reset observation, no reward and no end, whatever the action."""
    with_envpool(
        "steps",
        "-c",
        """
import gymnasium as gym
import numpy as np

for env_id, longest in (("CartPole-v1", 500), ("LunarLander-v3", 1000)):
    envs = gym.make_vec("envpool_envs:" + env_id, 4)
    envs.action_space.seed(1)
    envs.reset(seed=1)
    done, ends = np.zeros(4, bool), 0
    while ends < 20:
        obs, reward, terminated, truncated, infos = envs.step(envs.action_space.sample())
        assert (infos["elapsed_step"][done] == 0).all() and (reward[done] == 0).all()
        assert (infos["elapsed_step"][~done] > 0).all() and (infos["elapsed_step"] <= longest).all()
        assert not (terminated | truncated)[done].any()
        done = terminated | truncated
        ends += done.sum()
""",
    )
