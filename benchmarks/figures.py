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
    figure.savefig(HERE / "results" / name, dpi=110, metadata={"Software": None})


def read_curves(name: str) -> dict:
    """(run, tag) -> one {step: value} a seed."""
    seeds = defaultdict(lambda: defaultdict(dict))
    with open(HERE / "results" / f"{name}_curves.csv") as file:
        for row in csv.DictReader(file):
            seeds[row["run"], row["tag"]][row["seed"]][int(row["step"])] = float(row["value"])
    return {key: list(value.values()) for key, value in seeds.items()}


def draw_curves(name: str) -> None:
    """Return, KL and clip fraction against steps: medians over seeds; of a single run the range."""
    curves = read_curves(name)
    runs = list(dict.fromkeys(run for run, _ in curves))
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for axis, (tag, label) in zip(axes, TAGS.items(), strict=True):
        for i, run in enumerate(runs):
            seeds = curves[run, tag]
            steps = sorted(set.intersection(*(set(seed) for seed in seeds)))
            values = [[seed[step] for step in steps] for seed in seeds]
            x, color = (
                np.array(steps) / 1000,
                plt.get_cmap("tab20" if len(runs) > 1 else "tab10")(i),
            )
            axis.plot(x, np.median(values, 0), label=run, color=color, lw=1.4)
            if len(runs) == 1:
                low, high = np.min(values, 0), np.max(values, 0)
                axis.fill_between(x, low, high, color=color, alpha=0.2, lw=0)
        axis.set(xlabel="thousand environment steps", ylabel=label)
    axes[0].axhline(200, color="gray", lw=0.8, ls=":")
    if len(runs) > 1:
        axes[1].set(yscale="log", ylim=(1e-4, None))
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    save(figure, f"{name}.png")


def draw_objective() -> None:
    """(9) for the three cases of Â, and the single state with two actions."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
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
    draw_curves("lunarlander")
    draw_curves("variants")
    fill_readme()
