"""Kill a run of ppo.py with kill -9 at random moments, resume it each time, and check what is left:

    python tests/kill.py --kills 50 --total-timesteps 300000

Every checkpoint can be read, the run ends with its full step count, and TensorBoard's reader shows
no step twice and none missing. --seed and all other flags are ppo.py's.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import torch
from conftest import SCRIPTS, read_run


def start(script: Path, *flags: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, script, *flags], stdout=subprocess.DEVNULL)


def kill_and_resume(script: Path, flags: list[str], kills: int, seconds: float, seed: int) -> Path:
    """The folder of a run in runs/ that finished after so many kills, each at a random moment of
    the first `seconds` of a process; the first waits for a checkpoint to resume from."""
    rng = random.Random(seed)
    process = start(script, *flags)
    while not (checkpoints := list(Path("runs").glob("*/checkpoint.pt"))):
        assert process.poll() is None, "the run ended before its first checkpoint"
        time.sleep(0.01)
    (checkpoint,) = checkpoints
    steps = []
    for _ in range(kills):
        time.sleep(rng.uniform(0, seconds))
        if process.poll() is None:
            process.kill()
        assert process.wait() in (0, -9)
        steps.append(torch.load(checkpoint, weights_only=True)["progress"]["global_step"])
        process = start(script, "--resume", str(checkpoint.parent))
    assert process.wait() == 0
    assert steps == sorted(steps)
    print(f"{kills} kills, at checkpoints of {len(set(steps))} different steps")
    return checkpoint.parent


def check(run: Path, finished: bool = True) -> None:
    """The curves go from one update to the next, up to the checkpoint of the end."""
    checkpoint = torch.load(run / "checkpoint.pt", weights_only=True)
    args, progress, logged = checkpoint["args"], checkpoint["progress"], read_run(run)
    steps = [step for step, _ in logged["losses/policy_loss"]]
    assert steps[-1] == progress["global_step"] and len(steps) == progress["update"]
    assert not finished or steps[-1] >= args["total_timesteps"]
    samples = args["num_envs"] * args["num_steps"]
    assert all(0 < b - a <= samples for a, b in zip([0, *steps], steps, strict=False))
    logged.pop("eval/episodic_return", None)  # a finished run may be evaluated again
    for tag, values in logged.items():
        assert len({step for step, _ in values}) == len(values), tag
    assert [event.name for event in run.glob("*.tmp")] == []


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--script", default=SCRIPTS / "ppo.py")
    ours, flags = parser.parse_known_args()
    os.makedirs("runs", exist_ok=True)
    flags += ["--seed", str(ours.seed)]
    run = kill_and_resume(Path(ours.script), flags, ours.kills, ours.seconds, ours.seed)
    check(run)
    values = read_run(run)["eval/episodic_return"]
    print(f"{run}: greedy return {values[-1][1]:.1f}")
