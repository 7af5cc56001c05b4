"""Tables of results/*.csv, as results/tables/*.csv and, between markers such as
<!-- environments --> and <!-- /environments -->, in README.md and benchmarks/README.md.

    python benchmarks/summarize.py         the shell scripts run it at their end

Only results of the scripts as they are now are shown. IQM is the interquartile mean over seeds,
with its 95% bootstrap interval (Agarwal et al. 2021).
"""

from collections import defaultdict

import numpy as np
from scipy import stats
from train import HERE, RUNS, SCRIPTS, check_code, read_csv, write_csv

LANDER = "LunarLander-v3"
ZOO = "SB3, zoo's setting"
FRONT_PAGE = [
    "CartPole-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "LunarLander-v3",
    "Pendulum-v1",
    "BipedalWalker-v3",
    "Swimmer-v5",
    "Hopper-v5",
    "HalfCheetah-v5",
    "Walker2d-v5",
    "Ant-v5",
    "Humanoid-v5",
]
RIVALS = ["CleanRL", "SBX, zoo's setting", ZOO, "SB3, its defaults"]

EPOCHS = (4, 10, 20)
CLIPS = {"0.2": "0.2", "0.5": "0.5", "1.0": "1", "1e6": "none"}
STANDARD = ["standard setting"]
STANDARD += [f"{STANDARD[0]}, normalized", f"{STANDARD[0]}, normalized, annealed"]


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
    if not x:
        return "-"
    digits = 0 if max(np.abs(x)) >= 1000 else 1
    return "{0:.{n}f} [{1:.{n}f}, {2:.{n}f}]".format(*iqm(x), n=digits)


def column(rows, name, missing=None):
    return [float(row[name]) if row[name] else missing for row in rows]


def median_to_200(rows, what):
    """Until the last 100 episodes have a mean of 200, in steps or seconds, as text."""
    median = np.median(column(rows, f"{what}_to_200", np.inf))
    return f"{median:,.0f}" if median < np.inf else "not reached"


def solved(rows):
    return sum(row["steps_to_200"] != "" for row in rows)


def thousands(environment):
    steps = int(environment["steps"])
    return f"{steps // 1_000_000}M" if steps >= 1_000_000 else f"{steps // 1000}k"


def table(name, header, rows):
    """Write results/tables/NAME.csv; the same as Markdown."""
    if not rows:
        return "Not measured yet."
    path = HERE / f"results/tables/{name}.csv"
    write_csv(path, [dict(zip(header, row, strict=True)) for row in rows])
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


# Each of these functions makes the block of its name.


def code(runs):
    hashes = ", ".join(f"{name} {value}" for name, value in SCRIPTS.items())
    rows = [row for rows in runs.values() for row in rows]
    machines, ours = ({row[x] for row in rows} - {""} for x in ("machine", "packages"))
    machine, version = "; ".join(sorted(machines)), "; ".join(sorted(ours))
    return (
        f"Hashes of the code: {hashes} (train.py lists earlier ones with the same numbers). "
        f"Machine: {machine}. Our runs used {version}."
    )


def pitch(runs):
    rows = runs[LANDER]
    steps, seconds = median_to_200(rows, "steps"), median_to_200(rows, "seconds")
    return (
        f"{solved(rows)} of {len(rows)} seeds reach 200 (mean return of 100 episodes), after a "
        f"median of {steps} steps and {seconds} seconds"
    )


def healthy(runs):
    """Shares of the training of the LunarLander runs, from the curves."""
    curves = read_csv(HERE / f"results/curves/{LANDER}.csv")
    kl = np.array([float(row["kl"]) for row in curves if row["kl"]])
    clipfrac = np.array([float(row["clipfrac"]) for row in curves if row["clipfrac"]])
    inside = np.mean((clipfrac >= 0.05) & (clipfrac <= 0.3))
    row = [f"{np.mean(kl < 0.02):.0%}", f"{inside:.0%}", f"{np.mean(clipfrac < 0.05):.0%}"]
    table("healthy", ["KL below 0.02", "clip fraction 0.05 to 0.3", "below 0.05"], [row])
    seeds = len({row["seed"] for row in curves})
    return (
        f"In {seeds} runs on LunarLander-v3 with the default settings, with each curve averaged "
        f"over windows of 10k steps, {row[0]} of the KL values are below 0.02; {row[1]} of the "
        f"clip fractions are between 0.05 and 0.3, and {row[2]} are below 0.05, mostly at the end, "
        "where the learning rate is small."
    )


def headline(runs):
    lines = []
    for name in [LANDER, *RIVALS]:
        if rows := runs[name]:
            speed = np.divide(column(rows, "steps"), column(rows, "seconds"))
            times = median_to_200(rows, "steps"), median_to_200(rows, "seconds")
            name = "**ours**" if name == LANDER else name
            lines.append([name, len(rows), solved(rows), *times, f"{np.median(speed):,.0f}"])
    header = ["", "seeds", "solved", "median steps to 200", "median seconds to 200", "steps/s"]
    return table("headline", header, lines)


def slowdown(runs):
    """Steps per second of SB3 over the run, from the curves of all seeds."""
    lines = []
    for name in (ZOO, f"{ZOO}, rendered"):
        seeds = defaultdict(list)
        for row in read_csv(HERE / f"results/curves/{name}.csv"):
            seeds[row["seed"]].append((float(row["step"]), float(row["seconds"])))
        if seeds:
            line = [name, len(seeds)]
            for first, last in ((0, 1e5), (2e5, 4e5), (4e5, 6e5), (6e5, 8e5), (8e5, 1e6)):
                speeds = []
                for points in seeds.values():
                    inside = [point for point in points if first <= point[0] <= last]
                    steps, seconds = np.subtract(inside[-1], inside[0])
                    speeds.append(steps / seconds)
                line.append(f"{np.median(speeds):,.0f}")
            lines.append(line)
    header = [
        "steps/s",
        "seeds",
        "0 to 100k",
        "200k to 400k",
        "400k to 600k",
        "600k to 800k",
        "800k to 1M",
    ]
    return table("slowdown", header, lines)


def lunarlander(runs):
    columns = ("seed", "steps_to_200", "seconds_to_200", "greedy_return")
    lines = [[row[column] or "-" for column in columns] for row in runs[LANDER]]
    header = ["seed", "steps to 200", "seconds to 200", "greedy return"]
    return table("lunarlander", header, lines)


def published(env_id):
    """Source -> published result, such as "1443 ± 46 (v4)"."""
    found = {}
    for row in read_csv(HERE / "published.csv"):
        if row["environment"] == env_id:
            source, _, about = row["source"].partition(", ")
            found[source] = row["return"] + (about and f" ({about})")
    return found


def results(runs):
    """The table of README.md: greedy return with the default settings, and published ones."""
    lines = []
    for environment in read_csv(HERE / "environments.csv"):
        if (rows := runs[environment["name"]]) and environment["name"] in FRONT_PAGE:
            others = published(environment["env_id"])
            cells = [others.get(source, "-") for source in ("CleanRL", "zoo", "Tianshou")]
            returns = show(column(rows, "greedy_return"))
            lines.append([environment["name"], thousands(environment), len(rows), returns, *cells])
    header = ["environment", "steps", "seeds", "greedy return", "CleanRL", "SB3 zoo", "Tianshou"]
    return table("results", header, lines)


def environments(runs):
    baselines = {row["environment"]: row for row in read_csv(HERE / "results/baselines.csv")}
    lines = []
    for environment in read_csv(HERE / "environments.csv"):
        if (rows := runs[environment["name"]]) and not environment["flags"]:
            env_id = environment["env_id"]
            line = [environment["name"], thousands(environment), len(rows)]
            for name in ("greedy_return", "training_return", "best_return"):
                line.append(show([x for x in column(rows, name, -np.inf) if np.isfinite(x)]))
            lines.append([*line, baselines[env_id]["untrained"], baselines[env_id]["nothing"]])
    header = ["environment", "steps", "seeds", "greedy return", "training return", "best"]
    return table("environments", [*header, "untrained", "zero action"], lines)


def flags(runs):
    """Greedy return with the flags of environments.csv, and with the default settings."""
    lines = []
    for environment in read_csv(HERE / "environments.csv"):
        if (rows := runs[environment["name"]]) and environment["flags"]:
            env_id = environment["env_id"]
            base = runs.get(f"{env_id} ({thousands(environment)})", runs[env_id])
            returns = [show(column(x, "greedy_return")) for x in (base, rows)]
            others = ", ".join(f"{source} {x}" for source, x in published(env_id).items())
            setting = f"`{environment['flags']}`"
            lines.append([env_id, thousands(environment), setting, len(rows), *returns, others])
    header = ["environment", "steps", "flags", "seeds", "default settings", "with the flags"]
    return table("flags", [*header, "published"], lines)


def ratchet(runs):
    """ratchet.sh: return at the end, best return, and mean KL of the last 100,000 steps."""
    names = {f"clip {clip}, {epochs} epochs": (epochs, clip) for epochs in EPOCHS for clip in CLIPS}
    lines = []
    for name, (epochs, clip) in names.items():
        if rows := runs[name]:
            kls = defaultdict(list)
            for point in read_csv(HERE / f"results/curves/{name}.csv"):
                if float(point["step"]) > 400_000 and point["kl"]:
                    kls[point["seed"]].append(float(point["kl"]))
            returns = [show(column(rows, x)) for x in ("training_return", "best_return")]
            kl = f"{np.median([np.mean(x) for x in kls.values()]):.3g}"
            lines.append([epochs, CLIPS[clip], len(rows), solved(rows), *returns, kl])
    header = [
        "epochs",
        "clip range",
        "seeds",
        "solved",
        "return at the end",
        "best",
        "KL at the end",
    ]
    return table("ratchet", header, lines)


def standard(runs):
    """The standard setting of ratchet.sh, and with our normalization and annealing."""
    lines = []
    for name in STANDARD:
        if rows := runs[name]:
            returns = [show(column(rows, x)) for x in ("training_return", "best_return")]
            steps = median_to_200(rows, "steps")
            lines.append([name, len(rows), solved(rows), steps, *returns])
    header = ["", "seeds", "solved", "median steps to 200", "return at the end", "best"]
    return table("standard", header, lines)


def tuning(runs):
    """The settings that were tried on seeds 1 to 10, from results/tuning.csv."""
    greedy, steps = defaultdict(list), defaultdict(list)
    for row in read_csv(HERE / "results/tuning.csv"):
        key = row["setting"], row["environment"]
        greedy[key].append(float(row["greedy_return"]))
        steps[key].append(float(row["steps_to_200"] or np.inf))
    lines = []
    for setting in dict.fromkeys(setting for setting, _ in greedy):
        line = [setting, f"{np.median(steps[setting, LANDER]):,.0f}"]
        for environment in (LANDER, "Acrobot-v1", "MountainCar-v0"):
            x = greedy.get((setting, environment))
            line.append(f"{np.median(x):.1f}, {min(x):.1f} ({len(x)})" if x else "-")
        lines.append(line)
    header = ["setting", "steps to 200", LANDER, "Acrobot-v1", "MountainCar-v0"]
    return table("tuning", header, lines)


def difference(x, y):
    """Difference of two IQMs over seeds, and the ends of its 95% bootstrap interval."""

    def statistic(x, y, axis=0):
        return stats.trim_mean(x, 0.25, axis) - stats.trim_mean(y, 0.25, axis)

    options = {"method": "percentile", "n_resamples": 5000, "rng": 0, "vectorized": True}
    ends = stats.bootstrap((x, y), statistic, **options)
    return statistic(x, y), *ends.confidence_interval


def mean_returns(name, seeds):
    """Of each seed, the mean over the whole run of the training return."""
    returns = defaultdict(list)
    for row in read_csv(HERE / f"results/curves/{name}.csv"):
        if row["return"] and row["seed"] in seeds:
            returns[row["seed"]].append(float(row["return"]))
    return [np.mean(x) for x in returns.values()]


def tuning_flags(runs):
    """What was tried for single environments, from results/tuning_flags.csv."""
    returns = defaultdict(list)
    for row in check_code(read_csv(HERE / "results/tuning_flags.csv")):
        returns[row["environment"], row["flags"]].append(row["greedy_return"])
    lines = [[env, flags and f"`{flags}`", ", ".join(x)] for (env, flags), x in returns.items()]
    return table("tuning_flags", ["environment", "flags", "greedy return, seed 1, 2, .."], lines)


def ablation_table(runs, env_id, table_name):
    """Differences to the default settings, for the same seeds, the largest loss first."""
    lines = []
    prefix = f"{env_id} ablation "
    for name, rows in runs.items():
        if name.startswith(prefix) and len(rows) > 1:
            seeds = [row["seed"] for row in rows]
            base = [row for row in runs[env_id] if row["seed"] in seeds]
            pairs = [(mean_returns(x, seeds) for x in (name, env_id))]
            pairs += [(column(x, "greedy_return") for x in (rows, base))]
            found = [difference(*pair) for pair in pairs]
            lines.append([found[0][0], name.removeprefix(prefix), len(rows), *found])
    cells = [
        [name, seeds, *("{:+.1f} [{:+.1f}, {:+.1f}]".format(*x) for x in found)]
        for _, name, seeds, *found in sorted(lines, key=lambda line: line[0])
    ]
    header = ["change", "seeds", "return over the run", "greedy return"]
    return table(table_name, header, cells)


def ablations(runs):
    return ablation_table(runs, LANDER, "ablations")


def ablations_hopper(runs):
    return ablation_table(runs, "Hopper-v5", "ablations_hopper")


def variants(runs):
    """Greedy return of the unmodified script and of a variant, from variants.sh."""
    lines = []
    for name, rows in list(runs.items()):
        variant, _, environment = name.removeprefix("variant ").partition(", ")
        if name.startswith("variant ") and variant != "base":
            seeds = {row["seed"] for row in rows}
            base = [x for x in runs[f"variant base, {environment}"] if x["seed"] in seeds]
            returns = [show(column(x, "greedy_return")) for x in (base, rows)]
            lines.append(
                [environment, thousands(rows[0]), len(rows), returns[0], variant, returns[1]]
            )
    header = ["environment", "steps", "seeds", "unmodified script", "variant", "with the variant"]
    return table("variants", header, lines)


def speed(runs):
    """Medians over the rounds of results/speed.csv."""
    cells = defaultdict(list)
    for row in check_code(read_csv(HERE / "results/speed.csv")):
        for what in ("steps_per_second", "start_up", "memory"):
            cells[row["implementation"], row["environment"], what].append(float(row[what] or 0))

    def median(*key):
        digits = 1 if key[-1] == "start_up" else 0
        return f"{np.median(cells[key]):,.{digits}f}" if any(cells[key]) else "-"

    names = dict.fromkeys(name for name, _, _ in cells)
    envs = list(dict.fromkeys(env_id for _, env_id, _ in cells))
    lines = []
    for name in names:
        speeds = [median(name, env_id, "steps_per_second") for env_id in envs]
        others = [median(name, LANDER, what) for what in ("start_up", "memory")]
        lines.append([name, *speeds, *others])
    return table("speed", ["steps/s", *envs, "start-up, seconds", "memory, MB"], lines)


BLOCKS = [
    code,
    pitch,
    healthy,
    headline,
    slowdown,
    lunarlander,
    results,
    environments,
    flags,
    ratchet,
    standard,
    tuning,
    tuning_flags,
    ablations,
    ablations_hopper,
    variants,
    speed,
]


def main():
    runs = defaultdict(list)
    for row in check_code(read_csv(RUNS)):
        runs[row["name"]].append(row)
    for page in (HERE.parent / "README.md", HERE / "README.md"):
        text = page.read_text(encoding="utf-8")
        for make in BLOCKS:
            start, end = f"<!-- {make.__name__} -->", f"<!-- /{make.__name__} -->"
            if start in text:
                before, rest = text.split(start)
                old, after = rest.split(end)
                line = "\n\n" if old.startswith("\n") else ""  # or within a sentence
                text = before + start + line + make(runs) + line + end + after
        page.write_text(text, encoding="utf-8")
    print(f"{solved(runs[LANDER])} of {len(runs[LANDER])} held-out seeds solved")


if __name__ == "__main__":
    main()
