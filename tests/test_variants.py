"""Variants: the patches of benchmarks/variants and the small edits of its README.md apply to the
scripts as they are, train, resume and evaluate."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import envs as small
import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import ROOT, load, read_run

VARIANTS = ROOT / "benchmarks/variants"
README = (VARIANTS / "README.md").read_text()
PATCHES = sorted(path.stem for path in VARIANTS.glob("*.patch"))
NAMES = [(name, "ppo_continuous" if "continuous" in name else "ppo") for name in PATCHES]
NAMES.append(("torchrun", "ppo_continuous"))
SHORT = dict(num_envs=4, num_steps=16, num_minibatches=2, update_epochs=2, total_timesteps=300)
FAST = dict(num_envs=8, num_steps=32, num_minibatches=4, learning_rate=3e-3, gamma=0.9)


class Allowed(gym.Env):
    """Two of four actions are allowed in each of eight steps, and 1 is for the lower one of them:
    8 is the best return. The other two raise an error."""

    observation_space = gym.spaces.Box(0, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(4)

    def draw(self):
        self.allowed = sorted(self.np_random.permutation(4)[:2])
        return np.zeros(1, np.float32), {"action_mask": np.isin(range(4), self.allowed)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.draw()

    def step(self, action):
        assert action in self.allowed
        reward = float(action == self.allowed[0])
        self.t += 1
        obs, info = self.draw()
        return obs, reward, self.t == 8, False, info


class Recall(gym.Env):
    """A sign is shown first; 1 for each of eight actions that has it: 8, without memory 4.5."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.sign = 0, self.np_random.choice([-1, 1])
        return np.full(1, self.sign, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.zeros(1, np.float32), float(action == (self.sign > 0)), self.t == 8, False, {}


gym.register("Allowed-v0", Allowed)
gym.register("Recall-v0", Recall)
ENVS = {"cnn": "envs:Pixels-v0", "multidiscrete": "envs:Heads-v0", "action_mask": "Allowed-v0"}
ENVS["gru"] = "Recall-v0"


def env_of(name, script):
    return ENVS.get(name, "envs:Match-v0" if script == "ppo" else "envs:MatchBox-v0")


def patched(name, script, folder):
    """The path of a copy of the script with a patch, in a folder of its own."""
    folder = folder / "copy"
    folder.mkdir(exist_ok=True)
    shutil.copy(ROOT / f"{script}.py", folder)
    command = ["git", "apply", "--include", f"{script}.py", VARIANTS / f"{name}.patch"]
    subprocess.run(command, cwd=folder, check=True)
    assert (folder / f"{script}.py").read_text() != (ROOT / f"{script}.py").read_text()
    return folder / f"{script}.py"


def the_run(folder):
    """The only run directory, its checkpoint and its curves."""
    (run,) = (folder / "runs").iterdir()
    return run, torch.load(run / "checkpoint.pt", weights_only=True), read_run(run)


def reloaded(module, checkpoint):
    args = module.Args(**checkpoint["args"])
    agent = module.Agent(module.make_envs(args, 1), args)
    agent.load_state_dict(checkpoint["agent"])
    return agent, args


@pytest.mark.parametrize("name, script", NAMES)
def test_a_variant_trains_resumes_and_evaluates(name, script, tmp_path, monkeypatch):
    """In the first of the four minibatches of each update the ratio is 1: what the rollout knew, as
    masks and hidden states, the update knows too. A reloaded agent has the returns of the run."""
    module = load(script, patched(name, script, tmp_path))
    kls, ppo_loss = [], module.ppo_loss

    def spy(*args, **kwargs):
        loss, log = ppo_loss(*args, **kwargs)
        kls.append(abs(log["approx_kl"].item()))
        return loss, log

    monkeypatch.setattr(module, "ppo_loss", spy)
    monkeypatch.chdir(tmp_path)
    module.main(module.Args(env_id=env_of(name, script), eval_episodes=3, **SHORT))
    run, before, logged = the_run(tmp_path)
    assert len(logged["losses/policy_loss"]) >= 3
    more = {"resume": str(run), "total_timesteps": 600}
    module.main(module.Args(**before["args"] | more))
    run, after, logged = the_run(tmp_path)
    steps = [step for step, _ in logged["losses/policy_loss"]]
    assert steps == sorted(set(steps)) and steps[-1] == after["global_step"] >= 600
    assert after["optimizer"]["state"][0]["step"] > before["optimizer"]["state"][0]["step"]
    assert max(kls[::4]) < 1e-6 < max(kls)
    agent, args = reloaded(module, after)
    seed = int(np.random.default_rng(args.seed).integers(2**31))
    returns = module.evaluate(agent, module.make_envs(args, args.eval_episodes), seed)
    assert returns.mean() == pytest.approx(logged["eval/episodic_return"][-1][1])


@pytest.mark.parametrize("name, script", [x for x in NAMES if x[0] != "torchrun"])
def test_a_variant_learns(name, script, tmp_path, train):
    """Nearly the best return, 8, of a small environment: where there is one, one that the script
    itself cannot learn."""
    module = load(script, patched(name, script, tmp_path))
    steps = 12_000 if name == "multidiscrete" else 6000
    env_id = env_of(name, script)
    logged = train(module, env_id=env_id, eval_episodes=50, total_timesteps=steps, **FAST)
    assert logged["eval/episodic_return"][0][1] >= 7.8


def test_gru_forgets_where_an_episode_starts(tmp_path):
    """What came before does not reach the hidden state, what came since does; it starts at 0."""
    module = load("ppo", patched("gru", "ppo", tmp_path))
    args = module.Args()
    agent = module.Agent(module.make_envs(args, 2), args)
    obs, starts, h = torch.randn(6, 2, 4), torch.zeros(6, 2, dtype=torch.bool), torch.randn(2, 64)
    starts[3, 0] = True
    other = obs.clone()
    other[2] += 1
    hidden = agent.remember(obs, starts, h)
    assert torch.allclose(hidden[3, 0], agent.gru(obs[3, 0], torch.zeros(64)), atol=1e-6)
    changed = hidden != agent.remember(other, starts, h)
    assert changed.any(-1).T.tolist() == [[0, 0, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]]


def test_action_mask_needs_a_mask(tmp_path, train):
    module = load("ppo", patched("action_mask", "ppo", tmp_path))
    with pytest.raises(KeyError, match="action_mask"):
        train(module, env_id="CartPole-v1", **SHORT)


def test_cnn_refuses_images_with_the_channels_first(tmp_path, train, monkeypatch):
    module = load("ppo", patched("cnn", "ppo", tmp_path))
    images = gym.spaces.Box(0, 255, (2, 4, 4), np.uint8)
    monkeypatch.setattr(small.Pixels, "observation_space", images)
    with pytest.raises(AssertionError, match="H, W, C"):
        train(module, env_id="envs:Pixels-v0", **SHORT)


def test_multidiscrete_has_the_densities_of_independent_choices(tmp_path):
    module = load("ppo", patched("multidiscrete", "ppo", tmp_path))
    args = module.Args(env_id="envs:Heads-v0")
    agent = module.Agent(module.make_envs(args, 1), args)
    torch.nn.init.normal_(agent.actor[-1].weight)
    obs, actions = torch.eye(4), torch.tensor([[0, 0], [1, 1], [0, 2], [1, 2]])
    logits = agent.actor(agent.normalize(obs))
    heads = [torch.distributions.Categorical(logits=x) for x in (logits[:, :2], logits[:, 3:])]
    log_pi = agent.policy(obs)
    log_prob = sum(head.log_prob(a) for head, a in zip(heads, actions.T, strict=True))
    assert torch.allclose(module.log_prob(log_pi, actions), log_prob)
    assert torch.allclose(module.entropy(log_pi), sum(head.entropy() for head in heads))


def test_continuous_squashed_has_the_density_of_tanh_of_a_normal(tmp_path):
    module = load("ppo_continuous", patched("continuous_squashed", "ppo_continuous", tmp_path))
    mean, log_std = torch.randn(20_000, 1), torch.full((20_000, 1), -0.5)
    squashed = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(mean, log_std.exp()),
        torch.distributions.TanhTransform(cache_size=1),
    )
    actions = squashed.sample()
    log_prob = squashed.log_prob(actions).sum(-1)
    assert torch.allclose(module.log_prob((mean, log_std), actions.atanh()), log_prob, atol=1e-2)
    entropy = module.entropy((mean, log_std))
    assert entropy.mean().item() == pytest.approx(-log_prob.mean().item(), abs=0.05)


def test_rnd_gets_used_to_where_episodes_end(tmp_path, train, monkeypatch):
    """No one acts on an episode's last observation, here 7, but it has a bonus."""
    module, seen = load("ppo", patched("rnd", "ppo", tmp_path)), []
    bonus = module.Agent.bonus

    def record(self, obs):
        seen.extend(obs[(obs == 7).all(-1)] if torch.is_grad_enabled() else [])
        return bonus(self, obs)

    monkeypatch.setattr(module.Agent, "bonus", record)
    train(module, env_id="envs:Marked-v0", **SHORT)
    assert len(seen) > 10


@pytest.mark.parametrize("target_kl, grows", [(1e-9, True), (1e3, False)])
def test_penalty_follows_the_kl(tmp_path, train, target_kl, grows):
    module = load("ppo", patched("penalty", "ppo", tmp_path))
    train(module, env_id="envs:Match-v0", target_kl=target_kl, **SHORT)
    (file,) = tmp_path.glob("*/runs/*/checkpoint.pt")
    beta = torch.load(file, weights_only=True)["agent"]["beta"]
    assert beta >= 8 if grows else beta <= 1 / 8


# An edited copy: what every correct PPO passes


def check(copy, *options):
    command = [sys.executable, "-m", "pytest", "tests", "-n", "0", "-q", "--script", copy, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("passes", [True, False])
def test_script_checks_a_copy(tmp_path, passes):
    """The commands of the README make a copy that passes; a mistake in it is found."""
    (commands,) = re.findall(r"^(cp ppo\.py .*\n.*git apply .*)$", README, re.MULTILINE)
    commands = commands.replace("cnn", "network")  # which keeps to vectors
    shutil.copy(ROOT / "ppo.py", tmp_path)
    shutil.copytree(VARIANTS, tmp_path / "benchmarks/variants")
    subprocess.run(["bash", "-ec", commands], cwd=tmp_path, check=True)
    copy = tmp_path / "my_ppo.py"
    text = copy.read_text()
    assert text == patched("network", "ppo", tmp_path).read_text()
    if not passes:
        wrong = text.replace("valid[t] = ~next_done", "valid[t] = True")
        assert wrong != text
        copy.write_text(wrong)
    result = check(copy, "-k", "reset_steps or one_episode")
    assert (result.returncode == 0) == passes, result.stdout
    assert " passed" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name, script", NAMES)
def test_a_variant_passes_the_checks_of_a_copy(name, script, tmp_path):
    if name in ENVS:
        pytest.skip("needs environments of its own")
    # A resumed rnd has more parameters than actor and critic.
    options = ["-k", "not goes_on"] if name == "rnd" else []
    result = check(patched(name, script, tmp_path), *options)
    assert result.returncode == 0, result.stdout[-3000:]


# Several processes

KEEP_WEIGHTS = """
import atexit, os, runpy, sys
import torch

init = torch.optim.Adam.__init__

def keep(self, params, **kwargs):
    params = list(params)
    init(self, params, **kwargs)
    file = f"weights-{os.environ.get('RANK', 0)}.pt"
    atexit.register(lambda: torch.save([p.detach() for p in params], file))

torch.optim.Adam.__init__ = keep
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_torchrun_stops_and_resumes(tmp_path):
    """SIGTERM to torchrun leaves a checkpoint, which two processes resume."""
    (tmp_path / "keep_weights.py").write_text(KEEP_WEIGHTS)
    script = str(patched("torchrun", "ppo", tmp_path).relative_to(tmp_path))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = os.environ | {"PYTHONPATH": str(ROOT / "tests")}

    def start(*argv):
        return subprocess.Popen([sys.executable, *argv], cwd=tmp_path, env=env)

    flags = ["--env-id", "envs:Match-v0", "--num-envs", "4", "--eval-episodes", "2"]
    flags += ["--total-timesteps", "1000000000"]
    process = start(*torchrun, "keep_weights.py", script, *flags)
    deadline = time.time() + 60
    while not list(tmp_path.glob("runs/*/checkpoint.pt")):
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) != 0
    weights = [torch.load(tmp_path / f"weights-{rank}.pt") for rank in range(2)]
    assert all(torch.equal(x, y) for x, y in zip(*weights, strict=True))
    run, checkpoint, logged = the_run(tmp_path)
    step, agent = checkpoint["global_step"], checkpoint["agent"]
    assert torch.equal(agent["actor.0.weight"], weights[1][0])
    assert agent["obs_rms.count"] == step  # all samples of both
    steps = [x for x, _ in logged["charts/SPS"]]
    assert steps[-1] == step and max(np.diff(steps)) > 4 * 64

    resume = [script, "--resume", str(run), "--total-timesteps", str(step + 2000)]
    assert start(*torchrun, *resume).wait(timeout=60) == 0
    run, checkpoint, logged = the_run(tmp_path)
    assert step + 2000 <= checkpoint["global_step"] < step + 2000 + 2 * 4 * 64
    assert checkpoint["agent"]["obs_rms.count"] == checkpoint["global_step"]
    assert logged["eval/episodic_return"][-1][0] == checkpoint["global_step"]


# The small edits of the README

EDITS = {}
for line in re.findall(r"^\|(.*`)\ \|$", README, re.MULTILINE):
    name, script, old, new = (cell.strip() for cell in line.split("|"))
    if name:
        scripts = ["ppo", "ppo_continuous"] if script == "both" else [script.removesuffix(".py")]
        current = [EDITS.setdefault((name, script), []) for script in scripts]
    for edit in current:
        edit.append((old, new))


def edited(name, script, folder):
    text = (ROOT / f"{script}.py").read_text()
    for old, new in EDITS[name, script]:
        first, rest = re.fullmatch(r"`([^`]*)`(.*)", old).groups()
        block = {" to its `)`": r"\n(?:.*\n)*?\1\)"}.get(rest, "")
        lines = re.findall("`([^`]*)`", new)
        text, found = re.subn(
            rf"^( *){re.escape(first)}{block}$",
            lambda match: "\n".join(match[1] + line for line in lines),  # noqa: B023
            text,
            flags=re.MULTILINE,
        )
        assert found == (2 if rest == " (twice)" else 1), old
    (folder / "edited.py").write_text(text)
    return load(script, folder / "edited.py")


@pytest.mark.parametrize("name, script", EDITS)
def test_an_edit_trains(name, script, tmp_path, monkeypatch):
    module = edited(name, script, tmp_path)
    monkeypatch.chdir(tmp_path)
    flags = re.findall(r"run it with `(.*)`", name)
    args = module.tyro.cli(module.Args, args=" ".join(flags).split(), default=module.Args(**SHORT))
    args.env_id = env_of(name, script)
    module.main(args)
    _, checkpoint, logged = the_run(tmp_path)
    assert len(logged["losses/policy_loss"]) >= 3
    assert reloaded(module, checkpoint)
