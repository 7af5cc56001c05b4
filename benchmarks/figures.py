"""The figures, drawn from benchmarks/results and from the loss of ppo.py itself, and the tables in
benchmarks/README.md.

pip install -r benchmarks/requirements.txt && python benchmarks/figures.py
"""

import csv
import math
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import ppo  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

BLUE, GRAY, GREEN, ORANGE = "#0072B2", "#999999", "#009E73", "#D55E00"  # Okabe and Ito
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 11})
CURVES = {
    "charts/episodic_return": "Return",
    "losses/approx_kl": "Approximate KL",
    "losses/clipfrac": "Clip fraction",
}
ROWS = {
    1: [0.5, 0.8, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0],
    -1: [0.5, 0.7, 0.8, 1.0, 1.2, 1.5, 2.0],
    0: [0.5, 1.0, 2.0],
}


def save(figure, name):
    (HERE / "results").mkdir(exist_ok=True)
    figure.savefig(HERE / "results" / name, dpi=200, metadata={"Software": None})


def clipped_surrogate(ratio, advantage, clip_coef=0.2):
    """L^CLIP of one sample (9), as ppo_loss of the script computes it, and its gradient in r."""
    ratio = torch.tensor([ratio], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    # Two actions: the first one has log π = log r, and log π_old = 0
    log_pi = torch.stack([ratio.log(), zero], dim=-1)
    agent = SimpleNamespace(policy=lambda obs: log_pi, value=lambda obs: zero)
    args = ppo.Args(clip_coef=clip_coef, norm_adv=False)
    batch = {name: zero for name in ("obs", "logprobs", "returns", "values")}
    batch |= {"actions": torch.tensor([0]), "advantages": zero + advantage}
    _, metrics = ppo.ppo_loss(agent, args, **batch)
    return -metrics["policy_loss"].item()


def draw_clip_cases():
    """L^CLIP over the ratio for positive, negative and zero advantage."""
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 3.2), sharey=True, layout="constrained")
    titles = {
        1: "A = +1: no gain beyond 1 + ε",
        -1: "A = −1: no gain below 1 − ε",
        0: "A = 0: nothing to learn",
    }
    x = np.linspace(0.01, 2, 400)
    for axis, (advantage, title) in zip(axes, titles.items(), strict=True):
        y = np.array([clipped_surrogate(r, advantage) for r in x])
        flat = np.abs(np.gradient(y, x)) < 1e-6
        axis.axvspan(0.8, 1.2, color=GREEN, alpha=0.12, lw=0)
        axis.plot(x, advantage * x, color=GRAY, ls="--", lw=1)
        axis.plot(x, np.where(flat, np.nan, y), color=BLUE, lw=2)
        axis.plot(x, np.where(flat, y, np.nan), color=GRAY, lw=3)
        rows = ROWS[advantage]
        axis.plot(rows, [clipped_surrogate(r, advantage) for r in rows], "o", color=BLUE, ms=4)
        axis.set(title=title, xlabel="ratio r", xticks=[0, 0.8, 1.2, 2])
        axis.title.set_size(11)
    axes[0].set_ylabel("L^CLIP, ε = 0.2")
    axes[0].text(1.25, 1.75, "r·A", color=GRAY)
    axes[0].text(1.35, 0.95, "no gradient", color=GRAY)
    save(figure, "clip_cases.png")


def draw_lunarlander():
    """Return, KL and clip fraction per update of lunarlander.sh: every seed and the median."""
    seeds = defaultdict(lambda: defaultdict(dict))
    with open(HERE / "results/lunarlander_curves.csv") as file:
        for row in csv.DictReader(file):
            seeds[row["tag"]][row["seed"]][int(row["step"])] = float(row["value"])
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 3.0), layout="constrained")
    for axis, (tag, title) in zip(axes, CURVES.items(), strict=True):
        steps = sorted(set().union(*seeds[tag].values()))
        values = np.array([[seed.get(t, math.nan) for t in steps] for seed in seeds[tag].values()])
        x = np.array(steps) / 1000
        axis.plot(x, values.T, color=BLUE, alpha=0.2, lw=0.7)
        axis.plot(x, np.nanmedian(values, 0), color=BLUE, lw=2)
        axis.set(xlabel="steps (thousands)")
        axis.set_title(title, size=10)
    axes[0].axhline(200, color=ORANGE, lw=1, ls="--")
    axes[1].axhline(0.02, color=ORANGE, lw=1, ls="--")
    save(figure, "lunarlander.png")


def fill_readme():
    """Put results/NAME.md between <!-- NAME --> and <!-- /NAME --> of benchmarks/README.md."""
    readme = HERE / "README.md"
    text = readme.read_text()
    for table in sorted((HERE / "results").glob("*.md")):
        start, end = f"<!-- {table.stem} -->", f"<!-- /{table.stem} -->"
        if start in text:
            before, rest = text.split(start)
            text = before + start + "\n\n" + table.read_text() + "\n" + end + rest.split(end)[1]
    readme.write_text(text)


if __name__ == "__main__":
    draw_clip_cases()
    if (HERE / "results/lunarlander_curves.csv").exists():
        draw_lunarlander()
    fill_readme()
