"""Tables of what benchmarks/train.sh trained, as CSV and Markdown in results/.

python benchmarks/summarize.py lunarlander            results/lunarlander.{csv,md}, .._curves.csv
python benchmarks/summarize.py defaults ENV [ENV ..]  results/defaults.{csv,md}
python benchmarks/summarize.py variants               results/variants.{csv,md}
"""

import csv
import hashlib
import os
import platform
import re
import subprocess
import sys
import tokenize
from collections import defaultdict
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

HERE = Path(__file__).parent
CURVES = ("charts/episodic_return", "losses/approx_kl", "losses/clipfrac")


def read_scalars(folder):
    """Tag -> list of events (wall_time, step, value) of a run directory."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}


def read_seeds(name):
    """Seed -> scalars of the finished runs of one name."""
    folders = sorted((HERE / "runs" / name).iterdir(), key=lambda path: int(path.name))
    finished = [folder for folder in folders if (folder / "finished").exists()]
    return {int(x.name): read_scalars(next((x / "runs").iterdir())) for x in finished}


def greedy_returns(seeds):
    return [scalars["eval/episodic_return"][-1].value for scalars in seeds.values()]


def time_to_200(scalars):
    """Steps, and seconds since the first update, until the last 100 episodes have a mean of 200."""
    start = scalars["losses/policy_loss"][0].wall_time
    for event in scalars.get("charts/episodic_return_100", []):
        if event.value >= 200:
            return event.step, event.wall_time - start
    return None, None


def interval(x):
    """95% bootstrap interval of the mean over seeds."""
    means = np.random.default_rng(0).choice(x, (10_000, len(x))).mean(1)
    return np.percentile(means, [2.5, 97.5])


def code_hash(path):
    """Of the code alone: comments and docstrings may be reworded without new results."""
    with open(path, "rb") as file:
        tokens = [t.string for t in tokenize.tokenize(file.readline) if t.type != tokenize.COMMENT]
    code = "".join("".join(x.split()) for x in tokens if not x.startswith('"""'))
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def origin():
    """Which scripts, at which commit, on which machine."""
    scripts = [HERE.parent / "ppo.py", HERE.parent / "ppo_continuous.py"]
    hashes = [code_hash(path) for path in scripts]
    command = ["git", "log", "-1", "--format=%h", "--", *map(str, scripts)]
    commit = subprocess.run(command, cwd=HERE, capture_output=True, text=True).stdout.strip()
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    return (
        f"Commit {commit}, hash of ppo.py {hashes[0]}, of ppo_continuous.py {hashes[1]}; "
        f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}."
    )


def write(name, header, rows, table):
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    with open(results / f"{name}.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    if table:
        (results / f"{name}.md").write_text("\n".join([*table, "", origin(), ""]))
        print("\n".join(table))


def write_curves(name, seeds, width=5_000):
    """What the updates logged, as means over windows of `width` steps, at the windows' middles."""
    rows = []
    for seed, scalars in seeds.items():
        for tag in CURVES:
            windows = defaultdict(list)
            for event in scalars[tag]:
                windows[event.step // width].append(event.value)
            for window, values in sorted(windows.items()):
                rows.append([seed, int((window + 0.5) * width), tag, f"{np.mean(values):.5g}"])
    write(f"{name}_curves", ["seed", "step", "tag", "value"], rows, [])


def lunarlander():
    seeds = read_seeds("LunarLander-v3")
    returns = greedy_returns(seeds)
    rows, table = (
        [],
        ["| seed | steps to 200 | seconds to 200 | greedy return |", "|---|---|---|---|"],
    )
    for (seed, scalars), greedy in zip(seeds.items(), returns, strict=True):
        steps, seconds = time_to_200(scalars)
        rows.append([seed, steps, seconds and round(seconds, 1), round(greedy, 1)])
        table.append("| " + " | ".join("-" if x is None else f"{x:,}" for x in rows[-1]) + " |")
    columns = list(zip(*rows, strict=True))[1:]
    medians = [np.median([np.inf if x is None else x for x in column]) for column in columns]
    table.append("| median | " + " | ".join(f"{x:,.1f}".removesuffix(".0") for x in medians) + " |")
    solved = sum(row[1] is not None for row in rows)
    above = sum(greedy > 200 for greedy in returns)
    verdict = f"{solved} of {len(rows)} seeds solved, {above} with a greedy return above 200"
    header = ["seed", "steps_to_200", "seconds_to_200", "greedy_return"]
    write_curves("lunarlander", seeds)
    write("lunarlander", header, rows, [*table, "", verdict])


def compare(name, first_column, runs):
    """A row per run: its greedy return over seeds."""
    rows = []
    table = [f"| {first_column} | seeds | mean [95% interval] | median | worst | best |"]
    table.append("|---|---|---|---|---|---|")
    for run, folder in runs.items():
        seeds = read_seeds(folder)
        greedy = greedy_returns(seeds)
        low, high = interval(greedy)
        rows += [[run, seed, round(x, 1)] for seed, x in zip(seeds, greedy, strict=True)]
        table.append(
            f"| {run} | {len(greedy)} | {np.mean(greedy):.1f} [{low:.1f}, {high:.1f}] "
            f"| {np.median(greedy):.1f} | {min(greedy):.1f} | {max(greedy):.1f} |"
        )
    write(name, [first_column, "seed", "greedy_return"], rows, table)


if __name__ == "__main__":
    what, *names = sys.argv[1:]
    if what == "lunarlander":
        lunarlander()
    elif what == "defaults":
        compare("defaults", "environment", {name: name for name in names})
    else:
        folders = sorted((HERE / "runs/variants").glob("*/*"), key=os.path.getctime)
        runs = {f"{x.parent.name}, {x.name}": x.relative_to(HERE / "runs") for x in folders}
        compare("variants", "variant", runs)
