"""The figures, from benchmarks/results and from the loss of ppo.py itself: results/*.png

pip install -r benchmarks/requirements.txt && python benchmarks/figures.py
"""

import re
import sys
from collections import defaultdict
from types import SimpleNamespace

import matplotlib
import numpy as np
import torch
from summarize import CLIPS, EPOCHS, LANDER, RIVALS, iqm
from torch import nn
from train import HERE, code_hash, read_csv

sys.path.insert(0, str(HERE.parent))
import ppo  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

BLUE, GRAY, GREEN, ORANGE = "#0072B2", "#999999", "#009E73", "#D55E00"  # Okabe and Ito
PINK, YELLOW = "#CC79A7", "#E69F00"
# Figures are shown at a width of 840 pixels: 9 points are 12 pixels.
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10})
ROWS = {
    1: [0.5, 0.8, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0],
    -1: [0.5, 0.7, 0.8, 1.0, 1.2, 1.5, 2.0],
    0: [0.5, 1.0, 2.0],
}


def save(figure, name, about="", script="ppo.py"):
    text = f"{about}code {code_hash(HERE.parent / script)}"
    figure.text(1, 0, text, ha="right", va="top", size=9, color=GRAY)
    figure.savefig(
        HERE / "results" / name, dpi=200, bbox_inches="tight", metadata={"Software": None}
    )
    plt.close(figure)


def read_curves(name):
    """Column -> {seed: values} of results/curves/NAME.csv."""
    columns = defaultdict(lambda: defaultdict(list))
    for row in read_csv(HERE / f"results/curves/{name}.csv"):
        for column in ("step", "seconds", "return", "kl", "clipfrac"):
            columns[column][row["seed"]].append(float(row[column] or "nan"))
    return columns


def clipped_surrogate(ratio, advantage, clip_coef=0.2):
    """L^CLIP of one sample (9), as ppo_loss of the script computes it."""
    ratio = torch.tensor([ratio], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    # Two actions: the first one has log π = log ρ, and log π_old = 0
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
        axis.set(title=title, xlabel="ratio ρ", xticks=[0, 0.8, 1.2, 2])
        axis.title.set_size(11)
    axes[0].set_ylabel("L^CLIP, ε = 0.2")
    axes[0].text(1.25, 1.75, "ρ·A", color=GRAY)
    axes[0].text(1.35, 0.95, "no gradient", color=GRAY)
    save(figure, "clip_cases.png")


def train_toy(reward, steps, clip_coef, updates=12, epochs=20, samples=1024):
    """PPO on `steps` states in sequence with two actions each, π(a_t = 1) = θ_t, by ppo_loss.
    Per epoch: θ, θ/θ_old and the objective; per update: the mean reward, J, and the gradient of J
    with respect to θ, estimated from the samples."""
    torch.manual_seed(1)
    logits = torch.zeros(steps, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=0.7)
    args = ppo.Args(clip_coef=clip_coef, norm_adv=False, vf_coef=0, ent_coef=0)
    log = defaultdict(list)
    for _ in range(updates):
        old = logits.detach().sigmoid()
        actions = (torch.rand(samples, steps) < old).long()
        rewards = reward(actions).double()
        # ∂ log π(a) / ∂θ is 1/θ for action 1 and -1/(1 - θ) for action 0
        scores = actions / old - (1 - actions) / (1 - old)
        log["gradient"].append((scores * rewards[:, None]).mean(0).tolist())
        log["reward"].append(rewards.mean().item())
        log["J"].append(old[-1].item())
        advantages = (rewards - rewards.mean())[:, None].expand(-1, steps)
        zeros = torch.zeros_like(advantages)
        logprobs = torch.where(actions == 1, old.log(), (1 - old).log())
        for _ in range(epochs):
            policy = torch.stack([-logits, logits], -1)
            policy = nn.functional.logsigmoid(policy).expand(samples, steps, 2)
            agent = SimpleNamespace(
                policy=lambda obs, policy=policy: policy,
                value=lambda obs, zeros=zeros: zeros,
            )
            batch = {"obs": zeros, "actions": actions, "logprobs": logprobs}
            batch |= {"advantages": advantages, "returns": zeros, "values": zeros}
            loss, _ = ppo.ppo_loss(agent, args, **batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            theta = logits.detach().sigmoid()
            log["theta"].append(theta.tolist())
            log["ratio"].append((theta / old).tolist())
            log["objective"].append(-loss.item())
    return {name: np.array(values) for name, values in log.items()}


def draw_toy(name, title, reward, steps):
    """Four panels: the parameter, the ratio, the objective or the gradients, the reward."""
    runs = {0.2: BLUE, 1e6: ORANGE}
    figure, axes = plt.subplots(1, 4, figsize=(8.4, 2.6), layout="constrained")
    for clip_coef, color in runs.items():
        log = train_toy(reward, steps, clip_coef)
        label = "ε = 0.2" if clip_coef == 0.2 else "no clip"
        epochs = np.arange(len(log["theta"])) / (len(log["theta"]) / len(log["J"]))
        for state in range(steps):
            style = "-" if state == steps - 1 else ":"
            axes[0].plot(epochs, log["theta"][:, state], style, color=color, label=label)
            axes[1].plot(epochs, log["ratio"][:, state], style, color=color, lw=1)
            if steps > 1 and clip_coef == 0.2:
                axes[2].plot(log["gradient"][:, state], style, color=color)
        if steps == 1:
            axes[2].plot(epochs, log["objective"], color=color, lw=1)
        axes[3].plot(log["J"], color=color)
        axes[3].plot(log["reward"], ".", color=color, ms=5)
    axes[1].axhspan(0.8, 1.2, color=GREEN, alpha=0.15, lw=0)
    if steps > 1:
        for expectation in (0, 1):
            axes[2].axhline(expectation, color=GRAY, lw=1, ls="--")
    axes[0].set(title="θ", ylim=(0, 1.03))
    axes[1].set(title="ratio, window", ylim=(0, 2.1))
    axes[2].set(title="objective" if steps == 1 else "gradients, 0 and 1")
    axes[3].set(title="reward (dots), J(θ)", ylim=(0, 1.03))
    for axis in axes:
        axis.title.set_size(10)
        axis.set_xlabel("update")
    axes[0].text(0.97, 0.2, "ε = 0.2", color=BLUE, ha="right", transform=axes[0].transAxes)
    axes[0].text(0.97, 0.05, "no clip", color=ORANGE, ha="right", transform=axes[0].transAxes)
    figure.suptitle(title, size=11, x=0.01, ha="left")
    save(figure, name)


def draw_toys():
    draw_toy(
        "single_state.png",
        "One state, rewards 0 and 1: the clip limits each update",
        lambda actions: actions[:, 0],
        steps=1,
    )
    draw_toy(
        "two_states.png",
        "Two states: the second action decides (solid), the first has gradient 0 (dotted)",
        lambda actions: actions[:, 1],
        steps=2,
    )


def draw_lunarlander():
    """Return, KL and clip fraction of lunarlander.sh: every seed and the median."""
    curves = read_curves(LANDER)
    titles = {"return": "Every seed passes 200", "kl": "KL", "clipfrac": "Clip fraction"}
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.8), layout="constrained")
    for axis, (column, title) in zip(axes, titles.items(), strict=True):
        for seed, steps in curves["step"].items():
            axis.plot(np.divide(steps, 1000), curves[column][seed], color=BLUE, alpha=0.25, lw=0.8)
        length = min(map(len, curves["step"].values()))
        median = np.nanmedian([x[:length] for x in curves[column].values()], 0)
        axis.plot(np.divide(steps[:length], 1000), median, color=BLUE, lw=2)
        axis.set(xlabel="thousand steps", title=title)
        axis.title.set_size(10)
    axes[0].axhline(200, color=ORANGE, lw=1, ls="--")
    axes[1].axhline(0.02, color=ORANGE, lw=1, ls="--")
    seeds = len(curves["step"])
    save(figure, "lunarlander.png", f"LunarLander-v3, default settings, {seeds} seeds; ")


def band(x, y, points):
    """IQM over seeds of y at those points of x where all seeds have data, and its interval."""
    first, last = max(v[0] for v in x.values()), min(v[-1] for v in x.values())
    points = points[(points >= first) & (points <= last)]
    return points, *iqm(np.array([np.interp(points, x[seed], y[seed]) for seed in x]))


def draw_headline():
    """Return over seconds and over steps: ours and the other implementations on LunarLander-v3."""
    figure, axes = plt.subplots(
        1, 2, figsize=(8.4, 4), layout="constrained", width_ratios=(5, 3), sharey=True
    )
    grids = {"seconds": np.geomspace(2, 1000, 150), "step": np.linspace(5e3, 1e6, 150)}
    labels = {LANDER: "ppo.py, its defaults", "CleanRL": "CleanRL, its defaults"}
    colors = [BLUE, ORANGE, GREEN, PINK, YELLOW]
    for name, color in zip([LANDER, *RIVALS], colors, strict=True):
        if not (HERE / f"results/curves/{name}.csv").exists():
            continue
        curves = read_curves(name)
        label = f"{labels.get(name, name)} ({len(curves['step'])} seeds)"
        for axis, (column, grid) in zip(axes, grids.items(), strict=True):
            points, middle, low, high = band(curves[column], curves["return"], grid)
            axis.fill_between(points, low, high, color=color, alpha=0.2, lw=0)
            axis.plot(points, middle, color=color, lw=2.5 if name == LANDER else 1.5, label=label)
    for axis in axes:
        axis.axhline(200, color="black", lw=0.8, ls="--")
    ticks = [3, 10, 30, 100, 300, 900]
    axes[0].set(xscale="log", xlim=(2.5, 1000), ylim=(-340, 300))
    axes[0].set(
        xlabel="seconds since launch, one CPU core (log scale)",
        ylabel="mean return of 100 episodes",
    )
    axes[0].set_xticks(ticks, ticks)
    axes[0].minorticks_off()
    axes[0].legend(frameon=False, labelcolor="linecolor", handlelength=0, loc="lower right")
    axes[1].set(xlabel="environment steps")
    axes[1].set_xticks([0, 5e5, 1e6], ["0", "500k", "1M"])
    axes[0].set_title("LunarLander: ppo.py is the first to reach 200 by time", loc="left", size=11)
    axes[1].set_title("and by environment steps", loc="left", size=11)
    save(figure, "headline.png", "interquartile mean over seeds, 95% interval; ")


def draw_ratchet(epochs):
    """Return and KL of ratchet.sh for each clip range: every seed, and the IQM."""
    figure, axes = plt.subplots(
        2, 4, figsize=(8.4, 4), sharex=True, sharey="row", layout="constrained"
    )
    for (top, bottom), (clip, text) in zip(axes.T, CLIPS.items(), strict=True):
        curves = read_curves(f"clip {clip}, {epochs} epochs")
        steps = np.linspace(2e4, 4.9e5, 100)
        for axis, column in ((top, "return"), (bottom, "kl")):
            for seed, x in curves["step"].items():
                axis.plot(x, curves[column][seed], color=BLUE, alpha=0.3, lw=0.7)
            points, middle, *_ = band(curves["step"], curves[column], steps)
            axis.plot(points, middle, color=BLUE, lw=2)
        top.axhline(200, color=ORANGE, lw=1, ls="--")
        name = "no clip" if text == "none" else f"ε = {text}"
        top.set_title(f"{name}, {len(curves['step'])} seeds", size=10)
        bottom.axhline(0.02, color=ORANGE, lw=1, ls="--")
        bottom.set(yscale="log", xlabel="steps")
        bottom.set_xticks([0, 250_000, 500_000], ["0", "250k", "500k"])
    axes[0, 0].set_ylabel("return")
    axes[1, 0].set_ylabel("approximate KL")
    title = f"K = {epochs}: the looser the clip, the larger the KL; returns are noisy"
    figure.suptitle(title, size=11, x=0.01, ha="left")
    save(figure, f"ratchet_{epochs}.png", "LunarLander-v3, seeds and their IQM; ")


def draw_return_and_kl(epochs):
    """Both in one panel, with the clip and without: IQM over seeds, return solid, KL dashed."""
    figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
    right = axis.twinx()
    right.spines["right"].set_visible(True)
    for clip, color, label in (("0.2", BLUE, "ε = 0.2"), ("1e6", ORANGE, "no clip")):
        curves = read_curves(f"clip {clip}, {epochs} epochs")
        steps = np.linspace(2e4, 4.9e5, 100)
        for side, column, style in ((axis, "return", "-"), (right, "kl", "--")):
            points, middle, *_ = band(curves["step"], curves[column], steps)
            side.plot(points, middle, style, color=color, label=label)
    axis.set(xlabel="steps", ylabel="return (solid)")
    axis.set_title("20 epochs: without the clip the KL is 100 to 170 times larger", size=11)
    axis.set_xticks([0, 250_000, 500_000], ["0", "250k", "500k"])
    right.set(yscale="log", ylabel="approximate KL (dashed)")
    axis.legend(frameon=False, labelcolor="linecolor", handlelength=0, loc="center right")
    seeds = len(curves["step"])
    save(figure, "return_and_kl.png", f"LunarLander-v3, K = {epochs}, IQM over {seeds} seeds; ")


def draw_ablations(table, title, run, script):
    """Forest plot of a table of ablations: differences to the default settings."""
    rows = read_csv(HERE / f"results/tables/{table}.csv")[::-1]
    figure, axes = plt.subplots(
        1, 2, figsize=(8.4, 0.9 + 0.24 * len(rows)), sharey=True, layout="constrained"
    )
    for axis, column in zip(axes, ("return over the run", "greedy return"), strict=True):
        for y, row in enumerate(rows):
            middle, low, high = map(float, re.findall(r"[+-]\d+\.\d+", row[column]))
            color = GRAY if low <= 0 <= high else BLUE if low > 0 else ORANGE
            axis.plot([low, high], [y, y], color=color)
            axis.plot(middle, y, "o", color=color, ms=4)
        axis.axvline(0, color="black", lw=0.8)
        axis.set_title(f"{column}, difference", size=10)
    axes[0].set_yticks(range(len(rows)), [row["change"] for row in rows])
    figure.suptitle(title, size=11)
    seeds = "/".join(sorted({row["seeds"] for row in rows}))
    save(figure, f"{table}.png", f"{run}, {seeds} seeds, 95% interval; ", script)


if __name__ == "__main__":
    draw_clip_cases()
    draw_toys()
    draw_lunarlander()
    draw_headline()
    for epochs in EPOCHS:
        names = [f"clip {clip}, {epochs} epochs" for clip in CLIPS]
        if all((HERE / f"results/curves/{name}.csv").exists() for name in names):
            draw_ratchet(epochs)
    draw_return_and_kl(epochs=20)
    if (HERE / "results/tables/ablations.csv").exists():
        draw_ablations(
            "ablations",
            "λ = 0, one gradient step, no clip, raw advantages and K = 1 slow learning most",
            "LunarLander-v3, 500k steps",
            "ppo.py",
        )
    if (HERE / "results/tables/ablations_hopper.csv").exists():
        draw_ablations(
            "ablations_hopper",
            "No clip, no reward scaling and, on two of four seeds, no small last layer cost most",
            "Hopper-v5, 1M steps",
            "ppo_continuous.py",
        )
