"""Train something with several seeds, and keep what came of each in results/runs.csv.

    python benchmarks/train.py NAME SEEDS ppo.py [flags]
    python benchmarks/train.py "LunarLander-v3" 101-110 ppo.py --env-id LunarLander-v3

Runs one seed per core at a time, each pinned to its core with one thread. Instead of ppo.py it
can be any command that takes --seed and writes TensorBoard files (see rivals.sh). A seed that is in
results/runs.csv with the same code and flags is not trained again: an interrupted benchmark
continues where it was. results/curves/NAME.csv has the curves, as means over windows of steps.
"""

import csv
import hashlib
import os
import platform
import queue
import re
import subprocess
import sys
import time
import tokenize
from collections import defaultdict
from importlib.metadata import version
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

HERE = Path(__file__).parent.resolve()
RUNS = HERE / "results/runs.csv"
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
LIMIT = float(os.environ.get("LIMIT", "inf"))  # seconds for one run; a longer one is cut there
WINDOW = 10_000  # steps

# Our name of a curve, and what ours, CleanRL and Stable-Baselines3 (with SBX) call it
CURVES = {
    "return": ("charts/episodic_return_100", "charts/episodic_return", "rollout/ep_rew_mean"),
    "kl": ("losses/approx_kl", "losses/approx_kl", "train/approx_kl"),
    "clipfrac": ("losses/clipfrac", "losses/clipfrac", "train/clip_fraction"),
}


def code_hash(path):
    """Of the code alone: comments and docstrings may be reworded without new results."""
    with open(path, "rb") as file:
        tokens = [t.string for t in tokenize.tokenize(file.readline) if t.type != tokenize.COMMENT]
    code = "".join("".join(x.split()) for x in tokens if not x.startswith('"""'))
    return hashlib.sha256(code.encode()).hexdigest()[:12]


SCRIPTS = {name: code_hash(HERE.parent / name) for name in ("ppo.py", "ppo_continuous.py")}
# Earlier code that gives the same numbers as the present one, bit for bit; same.sh shows it
SAME = {
    "d62b8991bc00": "9d21e39b5b2b fe18c3f1d79c cf862569bef2 3a1d648dee60 f6d380caf5c0 "
    "ad6bdd381b35 b69cc09ec888 f3ecd81f5a3c",
    "6ce8ac7b2b03": "705145f6d549 731019d84dfe 9386764dc7ee 712a75385fe3 6991f3e87ef2 "
    "c136cef17f9c fadc6afeffc0 a7cee235ff00",
}
SAME = {earlier: present for present, codes in SAME.items() for earlier in codes.split()}


def present_code(code):
    """`code` with the hash of earlier code replaced by that of the present one."""
    for earlier, present in SAME.items():
        code = code.replace(earlier, present)
    return code


def check_code(rows):
    """Ours carry the hash of a script, which must be a present one, and edited copies that of the
    script before the edit; others have a name and a version."""
    for row in rows:
        code = present_code(row["code"]).removeprefix("edited ")
        if " " not in code and code not in SCRIPTS.values():
            sys.exit(f"there are results of code {code}, which is not in the tree: {row}")
    return rows


def machine():
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    return f"{cpu}, {os.cpu_count()} cores"


def packages():
    versions = [f"{name} {version(name)}" for name in ("torch", "gymnasium", "mujoco")]
    return ", ".join([f"Python {platform.python_version()}", *versions])


def read_scalars(folder):
    """Tag -> list of events (wall_time, step, value) of a run directory."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}


def read_curves(folder, start):
    """Curve -> array of (step, seconds since `start`, value); the return is that of the last 100
    episodes."""
    scalars, curves = read_scalars(folder), {}
    for name, tags in CURVES.items():
        tag = next((tag for tag in tags if tag in scalars), None)
        events = [(e.step, e.wall_time - start, e.value) for e in scalars.get(tag, [])]
        curves[name] = np.array(events).reshape(-1, 3)
        if name == "return" and tag == "charts/episodic_return":  # CleanRL logs each episode
            x = curves[name][:, 2]
            curves[name][:, 2] = [x[max(0, i - 99) : i + 1].mean() for i in range(len(x))]
    return curves, scalars


def windows(curves):
    """Rows (step, seconds, return, kl, clipfrac): means over WINDOW steps."""
    rows = defaultdict(lambda: defaultdict(list))
    for name, events in curves.items():
        for step, seconds, value in events:
            row = rows[int(step // WINDOW)]
            row[name].append(value)
            row["seconds"].append(seconds)
    for window, row in sorted(rows.items()):
        means = [f"{np.mean(row[name]):.5g}" if row[name] else "" for name in CURVES]
        yield [int((window + 0.5) * WINDOW), f"{np.mean(row['seconds']):.1f}", *means]


def read_csv(path):
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def train(name, seed, command, flags, core):
    """One run: its row of runs.csv and the rows of its curves."""
    folder = HERE / "runs" / name / f"{seed}-{time.time_ns()}"
    folder.mkdir(parents=True)
    pin = ["taskset", "-c", str(core)] if sys.platform == "linux" else []
    argv = [*pin, *command, *flags, "--seed", str(seed)]
    start = time.time()
    with open(folder / "output.txt", "w") as output:
        options = {
            "cwd": folder,
            "env": os.environ | ONE_THREAD,
            "stdout": output,
            "stderr": output,
        }
        try:
            subprocess.run(argv, check=True, timeout=min(LIMIT, 1e6), **options)
        except subprocess.TimeoutExpired:
            pass
        except subprocess.CalledProcessError:
            print((folder / "output.txt").read_text()[-2000:])
            raise
    (events,) = folder.rglob("events.out.tfevents*")
    curves, scalars = read_curves(events.parent, start)
    returns = curves["return"]
    solved = returns[returns[:, 2] >= 200]
    last_step, last_second, _ = max(tuple(x[-1]) for x in curves.values() if len(x))
    greedy = scalars.get("eval/episodic_return")
    best = max(returns[:, 2], default=np.nan)
    for file in events.parent.glob("best.pt"):  # ours: of 100 episodes, not fewer
        best = np.mean(torch.load(file)["recent_returns"])
    row = {
        "name": name,
        "seed": seed,
        "steps": int(last_step),
        "seconds": f"{last_second:.1f}",
        "training_return": f"{returns[-1, 2]:.2f}",
        "best_return": f"{best:.2f}",
        "greedy_return": f"{greedy[-1].value:.2f}" if greedy else "",
        "steps_to_200": int(solved[0, 0]) if len(solved) else "",
        "seconds_to_200": f"{solved[0, 1]:.1f}" if len(solved) else "",
        "flags": " ".join(flags),
    }
    print(", ".join(f"{key} {value}" for key, value in row.items() if key != "flags"), flush=True)
    return row, [[name, seed, *x] for x in windows(curves)]


def main():
    name, seeds, script, *flags = sys.argv[1:]
    first, _, last = seeds.partition("-")
    if script.endswith(".py"):
        command = [sys.executable, str(Path(script).resolve())]
        about = {"code": code_hash(script), "machine": machine(), "packages": packages()}
    else:  # another implementation and its version (rivals.sh), or 'edited HASH' (ablations.py)
        command = os.environ["COMMAND"].split()
        versions = packages() if script.startswith("edited ") else ""
        about = {"code": script, "machine": machine(), "packages": versions}

    def is_same(row):
        same_code = present_code(row["code"]) == about["code"]
        return same_code and row["name"] == name and row["flags"] == " ".join(flags)

    done = {int(row["seed"]) for row in read_csv(RUNS) if is_same(row)}
    todo = [seed for seed in range(int(first), int(last or first) + 1) if seed not in done]
    cores = queue.SimpleQueue()
    jobs = int(os.environ.get("JOBS", os.cpu_count()))
    for core in range(jobs):
        cores.put(core)

    def job(seed):
        core = cores.get()
        try:
            return train(name, seed, command, flags, core)
        finally:
            cores.put(core)

    # Each finished run is written at once; runs of this name with other code or flags are dropped.
    with ThreadPool(jobs) as pool:
        for row, curve in pool.imap_unordered(job, todo):
            row |= about
            kept = [x for x in read_csv(RUNS) if x["name"] != name or is_same(x)]
            kept = [x for x in kept if (x["name"], x["seed"]) != (name, str(row["seed"]))]
            write_csv(RUNS, sorted([*kept, row], key=lambda x: (x["name"], int(x["seed"]))))
            path = HERE / "results/curves" / f"{name}.csv"
            seeds = {x["seed"] for x in kept if x["name"] == name}
            header = ["name", "seed", "step", "seconds", *CURVES]
            curves = [x for x in read_csv(path) if x["seed"] in seeds]
            write_csv(path, [*curves, *(dict(zip(header, x, strict=True)) for x in curve)])


if __name__ == "__main__":
    main()
