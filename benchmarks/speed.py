"""Training speed in environment steps per second: ours, CleanRL, Stable-Baselines3 and SBX.

    pip install -r benchmarks/requirements.txt
    git clone https://github.com/vwxyzjn/cleanrl benchmarks/runs/cleanrl
    python benchmarks/speed.py              results/speed.{csv,md}

Every measurement is a process of its own with one thread. The implementations take turns, four
rounds of them, so that a machine whose speed drifts does not favor one. A speed does not include
the time until the end of the first update: imports, compilation, the first reset.
"""

import csv
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium as gym
from summarize import HERE, origin, read_scalars

ROUNDS = 4
STEPS = 100_000
CLEANRL = HERE / "runs/cleanrl/cleanrl"
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
# JAX has no such variable; XLA takes the number of its threads from the cores it may use.
ONE_CORE = ["taskset", "-c", "0"] if sys.platform == "linux" else []

# CleanRL's setting as our flags and in Stable-Baselines3's words, per script
DISCRETE = "--num-envs 4 --num-steps 128 --num-minibatches 4 --update-epochs 4"
CONTINUOUS = "--num-envs 1 --num-steps 2048 --num-minibatches 32 --update-epochs 10"
SB3 = {
    "ppo": {"n_envs": 4, "n_steps": 128, "batch_size": 128, "n_epochs": 4},
    "ppo_continuous": {"n_envs": 1, "n_steps": 2048, "batch_size": 64, "n_epochs": 10},
}
TASKS = [
    ("CartPole-v1", "ppo", f"{DISCRETE} --no-norm-obs --no-norm-reward"),
    ("LunarLander-v3", "ppo", f"{DISCRETE} --no-norm-obs --no-norm-reward"),
    ("HalfCheetah-v5", "ppo_continuous", CONTINUOUS),
]


def run(*command):
    """Run a Python program in an empty folder on one core; the TensorBoard scalars it wrote."""
    with TemporaryDirectory() as folder:
        argv = [*ONE_CORE, sys.executable, *map(str, command)]
        subprocess.run(argv, cwd=folder, env=os.environ | THREADS, check=True, capture_output=True)
        (events,) = Path(folder).rglob("events.out.tfevents*")
        return read_scalars(events.parent)


def steps_per_second(events):
    """From the first to the last event of a curve with one event per update."""
    first, *_, last = events
    return (last.step - first.step) / (last.wall_time - first.wall_time)


def ours(env_id, script, flags):
    path = HERE.parent / f"{script}.py"
    task = f"--env-id {env_id} --total-timesteps {STEPS} --eval-episodes 0"
    return steps_per_second(run(path, *task.split(), *flags.split())["losses/policy_loss"])


def cleanrl(env_id, script):
    path = CLEANRL / {"ppo": "ppo.py", "ppo_continuous": "ppo_continuous_action.py"}[script]
    scalars = run(path, "--env-id", env_id, "--total-timesteps", STEPS, "--no-cuda")
    return steps_per_second(scalars["losses/policy_loss"])


def stable_baselines(library, env_id, script):
    return steps_per_second(run(__file__, library, env_id, script)["time/iterations"])


def train_stable_baselines(library, env_id, script):
    """The process of `stable_baselines`: PPO of stable_baselines3 or sbx with CleanRL's setting."""
    import torch
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.logger import configure

    if library == "sbx":
        from sbx import PPO
    else:
        from stable_baselines3 import PPO
    torch.set_num_threads(1)
    setting = dict(SB3[script])
    envs = make_vec_env(env_id, setting.pop("n_envs"))
    model = PPO("MlpPolicy", envs, device="cpu", **setting)
    model.set_logger(configure("logs", ["tensorboard"]))
    model.learn(STEPS, log_interval=1)


def environments(env_id, num_envs, seconds=3.0):
    """Steps per second of the bare vector environment with random actions."""
    envs = gym.make_vec(env_id, num_envs)
    envs.reset(seed=1)
    envs.action_space.seed(1)
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        envs.step(envs.action_space.sample())
        steps += num_envs
    return steps / (time.perf_counter() - start)


def main():
    names = "ours", "ours --compile", "CleanRL", "SB3", "SBX", "ours, its defaults", "environment"
    rows = []
    for env_id, script, flags in TASKS:
        num_envs = SB3[script]["n_envs"]
        for round_ in range(ROUNDS):
            speeds = (
                ours(env_id, script, flags),
                ours(env_id, script, f"{flags} --compile"),
                cleanrl(env_id, script),
                stable_baselines("stable_baselines3", env_id, script),
                stable_baselines("sbx", env_id, script),
                ours(env_id, script, ""),
                environments(env_id, num_envs),
            )
            rows += [
                [env_id, name, round_, round(speed)]
                for name, speed in zip(names, speeds, strict=True)
            ]
            print(env_id, *(f"{x:,.0f}" for x in speeds), flush=True)
    with open(HERE / "results/speed.csv", "w", newline="") as file:
        header = ["environment", "implementation", "round", "steps_per_second"]
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    table = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for env_id, *_ in TASKS:
        medians = [
            statistics.median(row[3] for row in rows if row[:2] == [env_id, name]) for name in names
        ]
        table.append(f"| {env_id} | {' | '.join(f'{x:,.0f}' for x in medians)} |")
    (HERE / "results/speed.md").write_text("\n".join([*table, "", origin(), ""]))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train_stable_baselines(*sys.argv[1:])
    else:
        main()
