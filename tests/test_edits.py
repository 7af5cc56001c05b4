"""Usual edits of a stranger, made on a copy: each works as it reads, or fails loudly."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, load

ADAM = "torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5, fused=True)"
AGENT = "    agent = Agent(envs, args).to(device)\n"


def edited(script, tmp_path, *replacements):
    text = (ROOT / f"{script.__name__}.py").read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "edited" / f"{script.__name__}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return load(script.__name__, path)


@pytest.fixture
def trains_match(script, train, tmp_path, monkeypatch):
    """trains_match(*replacements): the edited script reaches the optimum of a small environment."""

    def run(*replacements):
        copy = edited(script, tmp_path, *replacements)
        monkeypatch.setitem(sys.modules, script.__name__, copy)
        (folder := tmp_path / "runs of the copy").mkdir()
        monkeypatch.chdir(folder)
        env_id = "envs:Match-v0" if script.__name__ == "ppo" else "envs:MatchBox-v0"
        returns, evaluate = [], copy.evaluate
        monkeypatch.setattr(copy, "evaluate", lambda *x: returns.append(evaluate(*x)) or returns[0])
        numbers = dict(num_envs=8, num_steps=32, num_minibatches=4, learning_rate=3e-3)
        copy.main(copy.Args(env_id=env_id, total_timesteps=10_000, gamma=0.9, **numbers))
        assert returns[0].mean() >= 7.9
        (checkpoint,) = folder.glob("runs/*/checkpoint.pt")
        return torch.load(checkpoint, weights_only=True)

    return run


@pytest.mark.parametrize(
    "old, new",
    [
        ("nn.ReLU()", "nn.SiLU()"),
        ("        activation,\n", "        nn.LayerNorm(64),\n        nn.SiLU(),\n"),
        ("optimizer.zero_grad()", "agent.zero_grad()"),
        (AGENT, AGENT.replace("to(device)", "to(device).double().float()")),
        (ADAM, ADAM.replace("Adam(", "AdamW(")),
        (ADAM, ADAM.replace("Adam(agent.parameters()", "RMSprop(agent.parameters()").replace(
            ", fused=True", "")),
    ],
    ids=["SiLU", "LayerNorm", "agent.zero_grad", "double_and_back", "AdamW", "RMSprop"],
)  # fmt: skip
def test_an_edit_in_one_place_trains(trains_match, old, new):
    trains_match((old, new))


def test_a_frozen_network_stays_as_it_is(trains_match):
    """AdamW decays what has a gradient: what is frozen has none."""
    frozen = "    agent.frozen = nn.Linear(1, 1).requires_grad_(False)\n"
    start = "    nn.init.ones_(agent.frozen.weight)\n"
    weight_decay = ADAM.replace("Adam(", "AdamW(").replace("eps", "weight_decay=0.1, eps")
    checkpoint = trains_match((AGENT, AGENT + frozen + start), (ADAM, weight_decay))
    assert checkpoint["agent"]["frozen.weight"].item() == 1.0


def test_a_warm_up_counted_in_updates_survives_resuming(script, tmp_path, monkeypatch):
    scaled = ("initial_lr * fraction_left", "initial_lr * min(progress.update / 20, 1)")
    copy = edited(script, tmp_path, scaled)
    monkeypatch.chdir(tmp_path)
    env_id = "envs:Match-v0" if script.__name__ == "ppo" else "envs:MatchBox-v0"
    numbers = dict(env_id=env_id, num_envs=4, num_steps=16, num_minibatches=1, eval_episodes=0)
    copy.main(copy.Args(total_timesteps=600, **numbers))
    (run,) = (tmp_path / "runs").iterdir()
    for total in (900, 3000):
        before = torch.load(run / "checkpoint.pt", weights_only=True)["progress"]["update"]
        copy.main(copy.Args(total_timesteps=total, resume=str(run), **numbers))
        after = torch.load(run / "checkpoint.pt", weights_only=True)
        update = after["progress"]["update"]
        assert update > before > 5
        rate = after["optimizer"]["param_groups"][0]["lr"] / copy.Args().learning_rate
        assert rate == pytest.approx(min((update - 1) / 20, 1))


def test_a_minibatch_is_passed_by_name(script):
    """Returns and values cannot change places unnoticed."""
    agent = script.Agent(script.make_envs(script.Args(), 1), script.Args())
    with pytest.raises(TypeError, match="positional"):
        script.ppo_loss(agent, script.Args(), *[torch.zeros(4)] * 6)


def test_script_checks_an_edited_copy(tmp_path):
    """The README's commands: two variants that do not touch each other; they run; and a mistake."""
    section = (ROOT / "README.md").read_text().split("To begin with two of them:")[1]
    copy_and_patch, run, check = re.match(
        r"\n\n```bash\n(cp .*\n.*git apply)\npython (.*)\npytest (.*)\n```", section
    ).groups()
    shutil.copy(ROOT / "ppo.py", tmp_path)
    shutil.copytree(ROOT / "benchmarks/variants", tmp_path / "benchmarks/variants")
    subprocess.run(["bash", "-ec", copy_and_patch], cwd=tmp_path, check=True)
    short = ["--total-timesteps", "1", "--eval-episodes", "1"]
    subprocess.run([sys.executable, *run.split(), *short], cwd=tmp_path, check=True)
    assert check == "tests --script my_ppo.py"
    copy = tmp_path / "my_ppo.py"
    right = copy.read_text()
    wrong = right.replace("valid[t] = next_valid", "valid[t] = True")
    assert "nn.SiLU()" in right and "AdamW" in right and right != wrong
    for text, passes in ((right, True), (wrong, False)):
        copy.write_text(text)
        argv = [sys.executable, "-m", "pytest", "tests", "--script", copy, "-n", "0", "-q",
                "-k", "ratio or reset_steps or Match or reloaded"]  # fmt: skip
        result = subprocess.run(
            argv, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ)
        )
        assert (result.returncode == 0) == passes, result.stdout[-2000:]
        assert " passed" in result.stdout
