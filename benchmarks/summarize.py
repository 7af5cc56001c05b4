"""Tables of what benchmarks/train.sh left in benchmarks/runs, as CSV and Markdown in results/.

python benchmarks/summarize.py lunarlander            results/lunarlander.{csv,md}, ..._curves.csv
python benchmarks/summarize.py heldout                results/heldout.{csv,md}
python benchmarks/summarize.py killed                 results/killed.{csv,md}
python benchmarks/summarize.py defaults ENV [ENV ..]  results/defaults.{csv,md}
python benchmarks/summarize.py variants               results/variants.{csv,md}, ..._curves.csv
python benchmarks/summarize.py sweep                  results/sweep.{csv,md}
"""

import csv
import os
import platform
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

HERE = Path(__file__).parent
CURVES = ("charts/episodic_return", "losses/approx_kl", "losses/clipfrac")


def read_seeds(name: str) -> list[dict]:
    """What each finished seed of a run logged: tag -> events, and its greedy return."""
    seeds = []
    for folder in sorted((HERE / "runs" / name).iterdir(), key=lambda path: int(path.name)):
        if not (folder / "finished").exists():
            continue
        (run,) = (folder / "runs").iterdir()
        events = EventAccumulator(str(run), size_guidance={"scalars": 0})
        events.Reload()
        scalars = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
        greedy = scalars["eval/episodic_return"][0].value
        seeds.append({"seed": int(folder.name), "greedy": greedy, "scalars": scalars})
    return seeds


def time_to_200(scalars: dict) -> tuple[int, float] | None:
    """Steps and seconds until the mean of the last 100 episodes reached 200, if it did."""
    means, times = scalars.get("charts/episodic_return_100", []), scalars["charts/wall_time"]
    step = next((event.step for event in means if event.value >= 200), None)
    return step and (step, next(event.value for event in times if event.step == step))


def interval(x: list[float]) -> tuple[float, float]:
    """95% bootstrap interval of the mean."""
    means = np.random.default_rng(0).choice(x, (10_000, len(x))).mean(1)
    return tuple(np.percentile(means, [2.5, 97.5]))


def origin() -> str:
    """Which commit of the scripts, on what machine."""

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=HERE, capture_output=True, text=True).stdout

    scripts = ("--", "../ppo.py", "../ppo_continuous.py")
    commit = git("log", "-1", "--format=%h", *scripts).strip()
    commit += " with changes" if git("diff", "HEAD", *scripts) else ""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    return f"Commit {commit}, {cpu}, {os.cpu_count()} cores, Python {platform.python_version()}."


def write(name: str, header: list[str], rows: list[list], table: list[str]) -> None:
    results = HERE / "results"
    with open(results / f"{name}.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    if table:
        (results / f"{name}.md").write_text("\n".join([*table, "", origin(), ""]))
        print("\n".join(table))


def write_curves(name: str, runs: dict[str, list[dict]], width: int = 5_000) -> None:
    """What the updates logged, as means over windows of `width` steps, at the windows' middles."""
    rows = []
    for run, seeds in runs.items():
        for seed in seeds:
            for tag in CURVES:
                windows = defaultdict(list)
                for event in seed["scalars"][tag]:
                    windows[event.step // width].append(event.value)
                for window, values in sorted(windows.items()):
                    step = int((window + 0.5) * width)
                    rows.append([run, seed["seed"], step, tag, f"{np.mean(values):.5g}"])
    write(f"{name}_curves", ["run", "seed", "step", "tag", "value"], rows, [])


def lunarlander(name: str) -> None:
    seeds = read_seeds(name)
    rows, table = (
        [],
        ["| seed | steps to 200 | seconds to 200 | greedy return |", "|---|---|---|---|"],
    )
    for seed in seeds:
        steps, seconds = time_to_200(seed["scalars"]) or (None, None)
        rows.append([seed["seed"], steps, seconds and round(seconds, 1), round(seed["greedy"], 1)])
    for row in rows:
        table.append("| " + " | ".join("-" if x is None else f"{x:,}" for x in row) + " |")
    columns = list(zip(*rows, strict=True))[1:]
    medians = [np.median([np.inf if x is None else x for x in column]) for column in columns]
    table.append("| median | " + " | ".join(f"{x:,.1f}".removesuffix(".0") for x in medians) + " |")
    above = sum(row[-1] > 200 for row in rows)
    verdict = f"{above} of {len(rows)} seeds above 200"
    header = ["seed", "steps_to_200", "seconds_to_200", "greedy_return"]
    write(name, header, rows, [*table, "", verdict])
    if name == "lunarlander":
        write_curves(name, {name: seeds})


def spread(greedy: list[float]) -> str:
    """Cells of a table: number, mean and interval, median, worst, best."""
    low, high = interval(greedy)
    return (
        f"{len(greedy)} | {np.mean(greedy):.1f} [{low:.1f}, {high:.1f}] | {np.median(greedy):.1f}"
        f" | {min(greedy):.1f} | {max(greedy):.1f}"
    )


def compare(name: str, first_column: str, runs: dict[str, list[dict]]) -> None:
    """A row for each run: the greedy return over its seeds."""
    rows = []
    table = [f"| {first_column} | seeds | mean [95% interval] | median | worst | best |"]
    table.append("|---|---|---|---|---|---|")
    for run, seeds in runs.items():
        greedy = [seed["greedy"] for seed in seeds]
        rows.extend([run, i + 1, round(x, 1)] for i, x in enumerate(greedy))
        table.append(f"| {run} | {spread(greedy)} |")
    write(name, [first_column, "seed", "greedy_return"], rows, table)


def flags(run: str, after: str) -> str:
    """The flags that a run of train.sh was given, after the one named and its value."""
    (first, *_) = (HERE / "runs" / run).glob("*/finished")
    return re.sub(rf".*{after} \S+", "", first.read_text().strip()).strip()


def variants() -> None:
    """Each beside the script as it is, in the order of variants.sh: of a patch its first sentence
    and its lines, else its flags."""
    names = (
        "Taxi",
        "CartPoleWithoutVelocities",
        "Breakout",
        "DeepSea",
        "MountainCar-c2=0",
        "MountainCar",
    )
    names += ("LunarLanderContinuous", "LunarLander")
    rows, curves = [], {}
    table = ["| | lines | seeds | mean [95% interval] | median | worst | best |"]
    table.append("|---|---|---|---|---|---|---|")
    for environment in names:
        runs = sorted((HERE / "runs/variants" / environment).iterdir(), key=os.path.getctime)
        runs.sort(key=lambda path: path.name != "base")
        given = flags(f"variants/{environment}/base", "--eval-episodes").replace(
            "environments:", ""
        )
        table.append(f"| **`{given}`** | | | | | | |")
        for path in runs:
            seeds = read_seeds(path.relative_to(HERE / "runs"))
            greedy = [seed["greedy"] for seed in seeds]
            rows.extend([environment, path.name, i + 1, round(x, 1)] for i, x in enumerate(greedy))
            patch, what, lines = HERE / "variants" / f"{path.name}.patch", "", ""
            if path.name == "base":
                what = "the script as it is"
            elif patch.exists():
                about, _, diff = patch.read_text().partition("\n\n")
                first_sentence = re.split(r"[.:] ", about.replace("\n", " ") + " ")[0]
                what = f"`{path.name}`: {first_sentence}"
                lines = len(re.findall(r"^[+-](?![+-]{2} )", diff, re.MULTILINE))
            else:
                what = f"`{flags(path.relative_to(HERE / 'runs'), '--total-timesteps')}`"
            table.append(f"| {what} | {lines} | {spread(greedy)} |")
            if environment == "LunarLander":
                curves[path.name] = seeds
    write("variants", ["environment", "variant", "seed", "greedy_return"], rows, table)
    write_curves("variants", curves, width=10_000)


def killed() -> None:
    """Runs that were killed and resumed against the unbroken ones of the same seeds."""
    unbroken, broken = read_seeds("lunarlander"), read_seeds("killed")
    rows = [
        [a["seed"], round(a["greedy"], 1), round(b["greedy"], 1)]
        for a, b in zip(unbroken, broken, strict=True)
    ]
    table = ["| seed | unbroken | killed and resumed |", "|---|---|---|"]
    table += [f"| {' | '.join(map(str, row))} |" for row in rows]
    before, after = np.array(rows)[:, 1:].T
    table.append(f"| mean | {before.mean():.1f} | {after.mean():.1f} |")
    low, high = (100 * x / before.mean() for x in interval(after - before))
    difference = 100 * (after - before).mean() / before.mean()
    verdict = f"Difference: {difference:+.1f}% of the unbroken mean [{low:+.1f}%, {high:+.1f}%]"
    write("killed", ["seed", "unbroken", "killed"], rows, [*table, "", verdict])


if __name__ == "__main__":
    (HERE / "results").mkdir(exist_ok=True)
    what, *names = sys.argv[1:]
    if what in ("lunarlander", "heldout"):
        lunarlander(what)
    elif what == "killed":
        killed()
    elif what == "defaults":
        compare(what, "environment", {name: read_seeds(name) for name in names})
    elif what == "variants":
        variants()
    else:
        best = f"`{flags('sweep/best', '--eval-episodes')}`"
        runs = {"defaults": read_seeds("sweep/defaults"), best: read_seeds("sweep/best")}
        compare("sweep", "setting", runs)
