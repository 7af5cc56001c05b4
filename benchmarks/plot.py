"""Learning curves of your own runs: a line per script and environment, the IQM over seeds with its
95% bootstrap interval.

    python benchmarks/plot.py 'runs/LunarLander-v3__*' 'runs/CartPole-v1__*'     curves.png
"""

import glob
import json
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from summarize import iqm
from train import read_scalars

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
POINTS = 50


def main(patterns, file="curves.png"):
    curves = defaultdict(list)
    for run in sorted(path for pattern in patterns for path in glob.glob(pattern)):
        args = json.loads(Path(run, "args.json").read_text())
        events = read_scalars(run).get("charts/episodic_return_100", [])
        if events:
            steps, values = zip(*((e.step, e.value) for e in events), strict=True)
            curves[args["exp_name"], args["env_id"]].append((steps, values))
    if not curves:
        sys.exit(f"no runs with finished episodes in {' '.join(patterns)}")

    figure, axis = plt.subplots(figsize=(8.4, 4.8), layout="constrained")
    for color, ((script, env_id), runs) in zip(COLORS * 9, curves.items(), strict=False):
        # Up to where the shortest run ends, and from where the last one has finished an episode
        first, last = max(x[0] for x, _ in runs), min(x[-1] for x, _ in runs)
        steps = np.linspace(first, last, POINTS)
        line, low, high = iqm(np.array([np.interp(steps, *run) for run in runs]))
        axis.fill_between(steps, low, high, color=color, alpha=0.2, lw=0)
        axis.plot(steps, line, color=color, lw=2)
        label = f" {script}, {env_id}\n {len(runs)} seeds"
        axis.annotate(label, (last, line[-1]), color=color, va="center")
    axis.set(xlabel="environment steps", ylabel="mean return of the last 100 episodes")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)
    print(file)


if __name__ == "__main__":
    main(sys.argv[1:])
