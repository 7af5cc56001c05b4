"""The README's figures, from benchmarks/results and the script's own functions, and its tables.

pip install matplotlib==3.11.2 && python benchmarks/figures.py
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import ppo  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9})
TAGS = {
    "charts/episodic_return": "return",
    "losses/approx_kl": "approximate KL",
    "losses/clipfrac": "clip fraction",
}


def save(figure, name: str) -> None:
    figure.tight_layout()
    figure.savefig(HERE / "results" / name, dpi=110, metadata={"Software": None})


def read_curves(name: str) -> dict:
    """(run, tag) -> one (steps, values) pair a seed."""
    points = defaultdict(lambda: defaultdict(list))
    with open(HERE / "results" / f"{name}_curves.csv") as file:
        for row in csv.DictReader(file):
            point = float(row["step"]), float(row["value"])
            points[row["run"], row["tag"]][row["seed"]].append(point)
    return {key: [np.array(seed).T for seed in seeds.values()] for key, seeds in points.items()}


def draw_curves(name: str, figure_name: str, range_too: bool) -> None:
    """Median over seeds of what an update logged, smoothed over 10k steps, against steps."""
    curves = read_curves(name)
    runs = list(dict.fromkeys(run for run, _ in curves))
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2))
    colors = plt.get_cmap("tab20").colors
    grid = np.arange(5_000, 300_000, 2_500)
    for axis, (tag, label) in zip(axes, TAGS.items(), strict=True):
        for run, color in zip(runs, colors if len(runs) > 1 else ["C0"], strict=False):
            seeds = []
            for steps, values in curves[run, tag]:
                near = [values[abs(steps - x) <= 5_000] for x in grid]
                seeds.append([part.mean() if len(part) else np.nan for part in near])
            axis.plot(grid / 1000, np.nanmedian(seeds, 0), label=run, color=color, lw=1.4)
            if range_too:
                low, high = np.nanmin(seeds, 0), np.nanmax(seeds, 0)
                axis.fill_between(grid / 1000, low, high, color=color, alpha=0.2, lw=0)
        axis.set(xlabel="thousand environment steps", ylabel=label)
    axes[0].axhline(200, color="gray", lw=0.8, ls=":")
    if len(runs) > 1:
        axes[1].set_yscale("log")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right", fontsize=8)
        figure.subplots_adjust(right=0.84)
        figure.set_size_inches(12.5, 3.4)
        figure.tight_layout(rect=(0, 0, 0.84, 1))
        figure.savefig(HERE / "results" / figure_name, dpi=110, metadata={"Software": None})
    else:
        save(figure, figure_name)


def draw_objective() -> None:
    """(9) for the three cases of Â, and the single state with two actions."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    for advantage in (1.0, -1.0, 0.0):
        ratios = torch.linspace(0, 2, 401)
        objective = [ppo.clipped_surrogate(r, torch.tensor(advantage), 0.2) for r in ratios]
        left.plot(ratios, objective, label=f"Â = {advantage:+.0f}" if advantage else "Â = 0")
    left.set(xlabel="ratio r", ylabel="clipped objective, ε = 0.2")
    left.legend()
    for epsilon in (0.1, 0.2, 0.4):
        theta, path = 0.05, [0.05]
        for _ in range(25):
            theta = climb(theta, epsilon)
            path.append(theta)
        right.plot(path, marker=".", label=f"ε = {epsilon}")
    right.set(xlabel="update", ylabel="θ, probability of the better action")
    right.legend()
    save(figure, "objective.png")


def climb(theta: float, epsilon: float) -> float:
    """Ascend the expected objective of a single state, rewards 1 and 0, until the clip stops it."""
    old = torch.tensor([theta, 1 - theta])
    advantages = torch.tensor([1 - theta, -theta])
    logit = torch.logit(torch.tensor(theta))
    for _ in range(400):
        logit.requires_grad_()
        ratio = torch.stack([logit.sigmoid(), (-logit).sigmoid()]) / old
        parts = (ppo.clipped_surrogate(ratio[i], advantages[i], epsilon) for i in range(2))
        objective = sum(p * part for p, part in zip(old, parts, strict=True))
        (gradient,) = torch.autograd.grad(objective, logit)
        logit = (logit + 0.02 * gradient.sign()).detach()
    return logit.sigmoid().item()


def fill_readme() -> None:
    """Put results/NAME.md between <!-- NAME --> and <!-- /NAME --> of the README."""
    readme = HERE.parent / "README.md"
    text = readme.read_text()
    for table in sorted((HERE / "results").glob("*.md")):
        start, end = f"<!-- {table.stem} -->", f"<!-- /{table.stem} -->"
        before, rest = text.split(start)
        text = before + start + "\n\n" + table.read_text() + "\n" + end + rest.split(end)[1]
    readme.write_text(text)


if __name__ == "__main__":
    draw_objective()
    if (HERE / "results/lunarlander_curves.csv").exists():
        draw_curves("lunarlander", "lunarlander.png", range_too=True)
    if (HERE / "results/ablations_curves.csv").exists():
        draw_curves("ablations", "ablations.png", range_too=False)
    fill_readme()
