"""Tables of results/runs.csv, as results/tables/*.csv and, between markers such as
<!-- environments --> and <!-- /environments -->, in README.md and benchmarks/README.md.

    python benchmarks/summarize.py         the other commands run it at their end

Only runs of the scripts as they are now are shown. IQM is the interquartile mean over seeds,
with its 95% bootstrap interval (Agarwal et al. 2021).
"""

import sys
from collections import defaultdict

import numpy as np
from scipy import stats
from train import HERE, RUNS, code_hash, read_csv, write_csv

SCRIPTS = {name: code_hash(HERE.parent / name) for name in ("ppo.py", "ppo_continuous.py")}
LANDER = "LunarLander-v3"
RIVALS = ["CleanRL", "SBX, zoo's setting", "SB3, zoo's setting", "SB3, its defaults"]


def runs():
    """Name -> rows of its runs. Ours carry the hash of a script, which must be a present one."""
    found = defaultdict(list)
    for row in read_csv(RUNS):
        if " " not in row["code"] and row["code"] not in SCRIPTS.values():
            sys.exit(f"{row['name']}: results of code {row['code']}, which is not in the tree")
        found[row["name"]].append(row)
    return found


def iqm(x):
    """Interquartile mean over seeds, the first axis, and the ends of its 95% bootstrap interval."""
    middle = stats.trim_mean(x, 0.25)
    if len(x) < 2:
        return middle, middle, middle
    options = {"method": "percentile", "n_resamples": 5000, "rng": 0}
    ends = stats.bootstrap((x,), lambda x, axis: stats.trim_mean(x, 0.25, axis), **options)
    return middle, *ends.confidence_interval


def show(x):
    """12.3 [11.0, 13.5], with as many digits as its size deserves"""
    if not len(x):
        return "-"
    digits = 0 if max(np.abs(x)) >= 1000 else 1
    return "{0:.{n}f} [{1:.{n}f}, {2:.{n}f}]".format(*iqm(x), n=digits)


def column(rows, name, missing=None):
    return [float(row[name]) if row[name] else missing for row in rows]


def table(name, header, rows):
    """Write results/tables/NAME.csv; the same as Markdown."""
    if not rows:
        return "Not measured yet."
    path = HERE / f"results/tables/{name}.csv"
    write_csv(path, [dict(zip(header, row, strict=True)) for row in rows])
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def code(found):
    """Which scripts, on which machines, as a sentence."""
    hashes = ", ".join(f"{name} {value}" for name, value in SCRIPTS.items())
    machines = sorted({row["machine"] for rows in found.values() for row in rows})
    return f"Hashes of the code: {hashes}. Machine: {'; '.join(machines)}."


def pitch(found):
    """The sentence of README.md."""
    rows = found[LANDER]
    steps, seconds = to_200(rows, "steps"), to_200(rows, "seconds")
    return f"{verdict(found)}, in a median of {steps:,.0f} steps and {seconds:.0f} seconds"


def headline(found):
    header = ["", "seeds", "solved", "median steps to 200", "median seconds to 200", "steps/s"]
    lines = []
    for name in [LANDER, *RIVALS]:
        if rows := found.get(name):
            steps, seconds = to_200(rows, "steps"), to_200(rows, "seconds")
            speed = np.divide(column(rows, "steps"), column(rows, "seconds"))
            lines.append(
                [
                    "**ours**" if name == LANDER else name,
                    len(rows),
                    sum(row["steps_to_200"] != "" for row in rows),
                    f"{steps:,.0f}" if steps < np.inf else "not reached",
                    f"{seconds:,.0f}" if seconds < np.inf else "not reached",
                    f"{np.median(speed):,.0f}",
                ]
            )
    return table("headline", header, lines)


def thousands(environment):
    steps = int(environment["steps"])
    return f"{steps // 1_000_000}M" if steps >= 1_000_000 else f"{steps // 1000}k"


def environments(found):
    baselines = {row["environment"]: row for row in read_csv(HERE / "results/baselines.csv")}
    published = defaultdict(list)
    for row in read_csv(HERE / "published.csv"):
        published[row["environment"]].append(f"{row['return']} ({row['source']})")
    header = ["environment", "steps", "seeds", "greedy return", "training return", "best"]
    header += ["untrained", "zero action", "published"]
    lines = []
    for environment in read_csv(HERE / "environments.csv"):
        rows, env_id = found.get(environment["name"]), environment["env_id"]
        if rows:
            lines.append(
                [
                    environment["name"],
                    thousands(environment),
                    len(rows),
                    show(column(rows, "greedy_return")),
                    show(column(rows, "training_return")),
                    show([x for x in column(rows, "best_return", -np.inf) if x > -np.inf]),
                    baselines[env_id]["untrained"],
                    baselines[env_id]["nothing"],
                    "; ".join(published[env_id]) or "-",
                ]
            )
    return table("environments", header, lines)


def results(found):
    """The table of README.md: greedy return and, where there are any, published ones."""
    published = defaultdict(dict)
    for row in read_csv(HERE / "published.csv"):
        source, _, about = row["source"].partition(", ")
        published[row["environment"]][source] = row["return"] + (about and f" ({about})")
    sources = ("CleanRL", "zoo", "Tianshou")
    lines = []
    for environment in read_csv(HERE / "environments.csv"):
        rows, env_id = found.get(environment["name"]), environment["env_id"]
        if rows:
            returns = show(column(rows, "greedy_return"))
            cells = [published[env_id].get(source, "-") for source in sources]
            lines.append([environment["name"], thousands(environment), len(rows), returns, *cells])
    header = ["environment", "steps", "seeds", "greedy return", "CleanRL", "SB3 zoo", "Tianshou"]
    return table("results", header, lines)


def tuning(found):
    """The settings that were tried on seeds 1 to 10, from results/tuning.csv."""
    greedy, steps = defaultdict(list), defaultdict(list)
    for row in read_csv(HERE / "results/tuning.csv"):
        key = row["setting"], row["environment"]
        greedy[key].append(float(row["greedy_return"]))
        steps[key].append(float(row["steps_to_200"] or np.inf))
    header = ["setting", LANDER, "steps to 200", "Acrobot-v1", "MountainCar-v0"]
    lines = []
    for setting in dict.fromkeys(setting for setting, _ in greedy):
        returns = []
        for environment in (LANDER, "Acrobot-v1", "MountainCar-v0"):
            x = greedy.get((setting, environment))
            returns.append(f"{np.median(x):.1f}, {min(x):.1f} ({len(x)})" if x else "-")
        lines.append(
            [setting, returns[0], f"{np.median(steps[setting, LANDER]):,.0f}", *returns[1:]]
        )
    return table("tuning", header, lines)


def speed(found):
    """Medians over the rounds of results/speed.csv."""
    cells = defaultdict(list)
    for row in read_csv(HERE / "results/speed.csv"):
        if row["code"] not in SCRIPTS.values():
            sys.exit(f"results/speed.csv is of code {row['code']}, which is not in the tree")
        for what in ("steps_per_second", "start_up", "memory"):
            cells[row["implementation"], row["environment"], what].append(float(row[what] or 0))

    def median(*key):
        return f"{np.median(cells[key]):,.0f}" if any(cells[key]) else "-"

    names = dict.fromkeys(name for name, _, _ in cells)
    environments = list(dict.fromkeys(environment for _, environment, _ in cells))
    header = ["steps/s", *environments, "start-up, seconds", "memory, MB"]
    lines = [
        [
            name,
            *(median(name, environment, "steps_per_second") for environment in environments),
            median(name, LANDER, "start_up"),
            median(name, LANDER, "memory"),
        ]
        for name in names
    ]
    return table("speed", header, lines)


TABLES = [code, pitch, headline, lunarlander, results, environments, tuning, speed]


def main():
    found = runs()
    for page in (HERE.parent / "README.md", HERE / "README.md"):
        text = page.read_text(encoding="utf-8")
        for make in TABLES:
            start, end = f"<!-- {make.__name__} -->", f"<!-- /{make.__name__} -->"
            if start in text:
                before, rest = text.split(start)
                old, after = rest.split(end)
                line = "\n\n" if old.startswith("\n") else ""  # or within a sentence
                text = before + start + line + make(found) + line + end + after
        page.write_text(text, encoding="utf-8")
    print(verdict(found))


if __name__ == "__main__":
    main()
