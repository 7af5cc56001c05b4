"""Speed, start-up and memory: ours, CleanRL, Stable-Baselines3 and SBX at the same setting.

    pip install -r benchmarks/requirements.txt && bash benchmarks/fetch_cleanrl.sh
    python benchmarks/speed.py              results/speed.csv

Every measurement is a process of its own with one thread on one core, or two such processes in the
row of torchrun.patch. The implementations take turns, four rounds of them, so that a machine whose
speed drifts does not favor one. Speed is in environment steps per second after the first update, in
which SBX compiles, start-up in seconds until then, memory in MB at its peak.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium as gym
from train import HERE, ONE_THREAD, code_hash, machine, packages, read_scalars, write_csv

ROUNDS = 4
STEPS = 20_000
CLEANRL = HERE / "runs/cleanrl"
PIN = ["taskset", "-c", "0"] if sys.platform == "linux" else []

# CleanRL's setting in our flags
DISCRETE = "--num-envs 4 --num-steps 128 --num-minibatches 4 --no-norm-obs --no-norm-reward"
CONTINUOUS = "--num-envs 1 --num-steps 2048 --num-minibatches 32 --update-epochs 10"
TASKS = [
    ("CartPole-v1", "ppo", DISCRETE),
    ("LunarLander-v3", "ppo", DISCRETE),
    ("HalfCheetah-v5", "ppo_continuous", CONTINUOUS),
]


def measure(*command, pin=PIN):
    """Steps per second, seconds to the end of the first update, MB: of one process."""
    with TemporaryDirectory() as folder:
        start = time.time()
        process = subprocess.Popen(
            [*pin, *map(str, command)],
            cwd=folder,
            env=os.environ | ONE_THREAD,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, command
        (events,) = Path(folder).rglob("events.out.tfevents*")
        scalars = read_scalars(events.parent)
    # SB3 and SBX log before each update, so that the first one is over at their second point.
    curve = scalars.get("losses/policy_loss") or scalars["time/fps"][1:]
    first, *_, last = curve
    speed = (last.step - first.step) / (last.wall_time - first.wall_time)
    return speed, first.wall_time - start, usage.ru_maxrss / 1024


def ours(env_id, script, flags):
    flags = f"--env-id {env_id} --total-timesteps {STEPS} --eval-episodes 0 {flags}"
    return measure(sys.executable, HERE.parent / f"{script}.py", *flags.split())


def torchrun(env_id, script):
    """Steps per second of two processes on two cores, at our default settings."""
    flags = f"--env-id {env_id} --total-timesteps {5 * STEPS} --eval-episodes 0"
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    patch = ["git", "apply", "--include", f"{script}.py", HERE / "variants/torchrun.patch"]
    with TemporaryDirectory() as folder:  # outside of the repository, as git apply needs it
        copy = shutil.copy(HERE.parent / f"{script}.py", folder)
        subprocess.run(patch, cwd=folder, check=True)
        return measure(*run, copy, *flags.split(), pin=())[0], "", ""


def cleanrl(env_id, script):
    """With Gymnasium 0.29, in which the environments have older versions."""
    path = {"ppo": "ppo.py", "ppo_continuous": "ppo_continuous_action.py"}[script]
    env_id = env_id.replace("-v3", "-v2").replace("-v5", "-v4")
    flags = f"--env-id {env_id} --total-timesteps {STEPS} --no-cuda"
    return measure(CLEANRL / "venv/bin/python", CLEANRL / "cleanrl" / path, *flags.split())


def rival(library, env_id, script):
    setting = {"ppo": "cleanrl", "ppo_continuous": "cleanrl-continuous"}[script]
    flags = f"{library} {setting} --env-id {env_id} --total-timesteps {STEPS}"
    return measure(sys.executable, HERE / "rivals.py", *flags.split())


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
    rows = []
    for round_ in range(ROUNDS):
        for env_id, script, flags in TASKS:
            measured = {
                "ours": ours(env_id, script, flags),
                "ours, --compile": ours(env_id, script, f"{flags} --compile"),
                "CleanRL": cleanrl(env_id, script),
                "SB3": rival("sb3", env_id, script),
                "SBX": rival("sbx", env_id, script),
                "ours, our defaults": ours(env_id, script, ""),
                "ours, our defaults, two processes": torchrun(env_id, script),
                "environment": (environments(env_id, 4 if script == "ppo" else 1), "", ""),
            }
            for name, values in measured.items():
                row = {"environment": env_id, "implementation": name, "round": round_}
                keys = "steps_per_second", "start_up", "memory"
                row |= {k: x and round(x, 1) for k, x in zip(keys, values, strict=True)}
                rows.append(row | {"code": code_hash(HERE.parent / f"{script}.py")})
                print(rows[-1], flush=True)
    for row in rows:
        row |= {"machine": machine(), "packages": packages()}
    write_csv(HERE / "results/speed.csv", rows)


if __name__ == "__main__":
    main()
