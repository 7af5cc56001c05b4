"""Runs of the scripts' own main, from the first step to the TensorBoard file."""

import math
import shutil
import subprocess
import sys
import time
import types

import envs as small
import gymnasium as gym
import numpy as np
import oracle
import pytest
import torch
from conftest import ROOT, SCRIPTS, read_run

CARTPOLE_OR_PENDULUM = {"ppo": "CartPole-v1", "ppo_continuous": "Pendulum-v1"}
METRICS = {
    "charts/learning_rate",
    "charts/SPS",
    "charts/wall_time",
    "losses/policy_loss",
    "losses/value_loss",
    "losses/entropy",
    "losses/approx_kl",
    "losses/clipfrac",
    "losses/explained_variance",
    "losses/grad_norm",
}


def finite(logged):
    return all(math.isfinite(v) for values in logged.values() for _, v in values)


def small_env(script, name):
    return f"envs:{name}-v0" if script.__name__ == "ppo" else f"envs:{name}Box-v0"


def copied(x):
    """x with its arrays and tensors as they are now: the rollout's are written anew each time."""
    if isinstance(x, np.ndarray):
        return x.copy()
    if isinstance(x, torch.Tensor):
        return x.detach().clone()
    if isinstance(x, tuple | list):
        return type(x)(map(copied, x))
    return {k: copied(v) for k, v in x.items()} if isinstance(x, dict) else x


class Spy:
    """Records the calls of a function that it takes the place of in a module or class."""

    def __init__(self, monkeypatch, owner, name):
        self.calls, original = [], getattr(owner, name)

        def spy(*args, **kwargs):
            result = original(*args, **kwargs)
            call = types.SimpleNamespace(args=args, kwargs=kwargs, result=result)
            self.calls.append(
                types.SimpleNamespace(**{k: copied(x) for k, x in vars(call).items()})
            )
            return result

        monkeypatch.setattr(owner, name, spy)


# The update


@pytest.mark.parametrize("flags", [{}, {"clip_vloss": False, "ent_coef": 0.1, "clip_coef": 0.02}])
def test_an_update_is_the_one_written_in_numpy(script, train, monkeypatch, flags):
    """(4) to (15), the shuffles, the fill of the last minibatch and Adam: every parameter and every
    logged loss after one update of a real run, against tests/oracle.py."""
    start = {}
    original_init = script.Agent.__init__

    def init(self, *args, **kwargs):
        original_init(self, *args, **kwargs)
        start["agent"] = self
        start["state"] = {k: v.numpy().astype(float) for k, v in self.state_dict().items()}

    monkeypatch.setattr(script.Agent, "__init__", init)
    gae, value = Spy(monkeypatch, script, "gae"), Spy(monkeypatch, script.Agent, "value")
    log_prob = Spy(monkeypatch, script, "log_prob_and_entropy")
    act = Spy(monkeypatch, script.Agent, "act")
    shuffle = Spy(monkeypatch, torch, "randperm")
    numbers = dict(num_envs=4, num_steps=16, num_minibatches=4, update_epochs=3, gamma=0.95)
    numbers |= dict(learning_rate=1e-2, gae_lambda=0.9, clip_coef=0.2, ent_coef=0.01, vf_coef=0.7)
    numbers |= dict(max_grad_norm=0.3, clip_vloss=True) | flags
    logged = train(script, env_id=small_env(script, "Marked"), total_timesteps=1, eval_episodes=0,
                   **numbers)  # fmt: skip

    rewards, values, terminated, dones = gae.calls[0].args[:4]
    obs = value.calls[0].args[1].numpy().astype(float)
    actions = np.stack([call.result.numpy() for call in act.calls[-16:]])
    old_log_pi = log_prob.calls[0].result[0].numpy(force=True).astype(float)
    advantages, returns = oracle.advantages_and_returns(
        rewards.astype(float), values.astype(float), terminated, dones, 0.95, 0.9
    )
    valid = np.ones_like(dones)
    valid[1:] = ~dones[:-1]
    assert not valid.all()
    storage = (obs[:-1], actions, old_log_pi, advantages, returns, values[:-1].astype(float))
    batch = [x[valid] for x in storage]
    orders = [call.result.numpy() for call in shuffle.calls]
    assert [sorted(order) for order in orders] == [list(range(valid.sum()))] * 3

    state = start["state"]
    layers = {
        net: [(state[f"{net}.{i}.weight"].T, state[f"{net}.{i}.bias"]) for i in (0, 2, 4)]
        for net in ("actor", "critic")
    }
    policy = oracle.discrete_policy if script.__name__ == "ppo" else oracle.normal_policy
    log_std = state.get("log_std")
    means = oracle.update(policy, *layers.values(), log_std, batch, orders, numbers | {"M": 16})
    for name, after in start["agent"].state_dict().items():
        if "moments" not in name and name != "missing":
            assert after.numpy() == pytest.approx(state[name], abs=2e-5), name
    for name, mean in zip(
        ("policy_loss", "value_loss", "entropy", "grad_norm"), means, strict=True
    ):
        assert logged[f"losses/{name}"][0][1] == pytest.approx(mean, rel=1e-3, abs=1e-5)


@pytest.mark.any_ppo
def test_8_ratio_is_one_on_the_first_minibatch_of_every_update(script, train, monkeypatch):
    kl, gae = Spy(monkeypatch, script, "approx_kl"), Spy(monkeypatch, script, "gae")
    original, firsts = script.gae, []

    def mark(*args, **kwargs):
        firsts.append(len(kl.calls))
        return original(*args, **kwargs)

    monkeypatch.setattr(script, "gae", mark)
    train(script, env_id=CARTPOLE_OR_PENDULUM[script.__name__], total_timesteps=6000, num_steps=64)
    assert len(gae.calls) == len(firsts) >= 5
    for first in firsts:
        ratio = kl.calls[first].args[0]
        assert (ratio - 1).abs().max() < 1e-5
    later = [kl.calls[first + 8].args[0] for first in firsts]
    assert max((ratio - 1).abs().max() for ratio in later) > 1e-3  # and moves afterwards


def test_7_minibatch_advantages_are_normalised_unless_switched_off(script, train, monkeypatch):
    env_id = CARTPOLE_OR_PENDULUM[script.__name__]
    for norm_adv in (True, False):
        with monkeypatch.context() as patch:
            surrogate = Spy(patch, script, "clipped_surrogate")
            train(script, env_id=env_id, total_timesteps=1, norm_adv=norm_adv, eval_episodes=0)
        for call in surrogate.calls:
            advantages = call.args[1]
            normal = abs(advantages.mean()) < 1e-5 and abs(advantages.std() - 1) < 1e-4
            assert normal == norm_adv


@pytest.mark.any_ppo
def test_5_advantages_are_computed_once_a_rollout_without_gradient(script, train, monkeypatch):
    original, calls = script.gae, []

    def gae(*args):
        advantages = original(*args)
        assert isinstance(advantages, np.ndarray)
        calls.append(advantages)
        return advantages

    monkeypatch.setattr(script, "gae", gae)
    logged = train(script, env_id=small_env(script, "Match"), total_timesteps=3000, num_steps=64)
    assert len(calls) == len(logged["losses/policy_loss"]) >= 3


def test_13_gradients_are_clipped(script, train, monkeypatch):
    step = Spy(monkeypatch, torch.optim.Adam, "step")
    norms = []
    original = torch.optim.Adam.step

    def record(self, *args, **kwargs):
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(torch.stack([g.norm() for g in grads]).norm().item())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", record)
    logged = train(script, env_id=small_env(script, "Match"), total_timesteps=1, max_grad_norm=0.01)
    assert step.calls and max(norms) == pytest.approx(0.01, rel=1e-2)
    assert logged["losses/grad_norm"][0][1] > 0.01  # logged as it was before the clip
    norms.clear()
    logged = train(script, env_id=small_env(script, "Match"), total_timesteps=1, max_grad_norm=1e9)
    assert np.mean(norms) == pytest.approx(logged["losses/grad_norm"][0][1])  # short ones stay


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_losses_are_the_same(script, train, monkeypatch):
    """Two updates: what the compiler rounds differently stays within the tolerance."""
    compiler = Spy(monkeypatch, torch, "compile")
    flags = dict(env_id=CARTPOLE_OR_PENDULUM[script.__name__], total_timesteps=1500)
    eager, compiled = train(script, **flags), train(script, **flags, compile=True)
    assert len(compiler.calls) == 1
    for key in eager.keys() - {"charts/SPS", "charts/wall_time"}:
        assert dict(compiled[key]) == pytest.approx(dict(eager[key]), rel=1e-3, abs=1e-5), key


def test_19_the_learning_rate_falls_with_global_step(script, train):
    for anneal in (True, False):
        logged = train(script, env_id=small_env(script, "Match"), total_timesteps=5000,
                       learning_rate=0.5, anneal_lr=anneal, eval_episodes=0)  # fmt: skip
        start = 0
        for step, lr in logged["charts/learning_rate"]:
            assert lr == pytest.approx(0.5 * (1 - start / 5000) if anneal else 0.5)
            start = step
        assert start >= 5000


def test_19_every_parameter_group_is_annealed(script, train, monkeypatch):
    """In proportion to the rate that it began with: actor and critic may have their own."""
    adam, made = torch.optim.Adam, []

    def two_rates(parameters, lr, **options):
        first, *others = parameters
        groups = [{"params": [first], "lr": 10 * lr}, {"params": others}]
        made.append(adam(groups, lr=lr, **options))
        return made[0]

    monkeypatch.setattr(torch.optim, "Adam", two_rates)
    logged = train(script, env_id=small_env(script, "Match"), total_timesteps=5000,
                   eval_episodes=0)  # fmt: skip
    lr = script.Args().learning_rate
    start = logged["charts/SPS"][-2][0]
    rates = [group["lr"] for group in made[0].param_groups]
    assert rates == pytest.approx([10 * lr * (1 - start / 5000), lr * (1 - start / 5000)])


def test_target_kl_ends_the_update(script, train, monkeypatch):
    shuffle = Spy(monkeypatch, torch, "randperm")
    env_id = CARTPOLE_OR_PENDULUM[script.__name__]
    train(script, env_id=env_id, total_timesteps=1, eval_episodes=0)
    assert len(shuffle.calls) == script.Args().update_epochs
    shuffle.calls.clear()
    train(script, env_id=env_id, total_timesteps=1, eval_episodes=0, target_kl=1e-9)
    assert len(shuffle.calls) == 1


# Reset steps, counting, normalisation, randomness


def test_20_the_rollout_samples_and_the_evaluation_does_not(script, train, monkeypatch):
    act = Spy(monkeypatch, script.Agent, "act")
    train(script, env_id=small_env(script, "Match"), total_timesteps=1)
    greedy = [call.kwargs.get("greedy", False) for call in act.calls]
    steps = script.Args().num_steps + 1  # and one for the shape of an action
    assert greedy == [False] * steps + [True] * 8


def test_the_evaluation_is_logged_as_a_mean(script, train, monkeypatch):
    monkeypatch.setattr(script, "evaluate", lambda *args: np.array([0.0, 1.0, 11.0]))
    logged = train(script, env_id=small_env(script, "Match"), total_timesteps=1)
    assert [value for _, value in logged["eval/episodic_return"]] == [4.0]


@pytest.mark.any_ppo
def test_16_reset_steps_are_no_samples(script, train, monkeypatch):
    """An observation of 7 is never acted on: it enters neither update, nor count, nor moments."""
    small.Marked.steps, small.Marked.acted_on = 0, []
    value = Spy(monkeypatch, script.Agent, "value")
    moments = Spy(monkeypatch, script, "update_moments")
    logged = train(script, env_id=small_env(script, "Marked"), total_timesteps=3000,
                   norm_obs=False, eval_episodes=0)  # fmt: skip
    batches = [c.args[1] for c in value.calls if c.args[1].ndim == 2]
    assert len(batches) > 50
    assert not any((batch == 7).any() for batch in batches)
    last_step = logged["charts/SPS"][-1][0]
    assert last_step == small.Marked.steps == sum(c.args[2].sum() for c in moments.calls)


@pytest.mark.any_ppo
def test_17_the_agent_knows_the_moments_of_what_it_acted_on(script, train, monkeypatch):
    small.Marked.acted_on = []
    agents = Spy(monkeypatch, script.Agent, "__init__")
    train(script, env_id=small_env(script, "Marked"), total_timesteps=2000, eval_episodes=0)
    (agent,) = (call.args[0] for call in agents.calls)
    seen = np.array(small.Marked.acted_on, dtype=float)
    count, mean, m2 = agent.obs_moments.numpy()
    assert count.tolist() == [len(seen)] * 2
    assert mean == pytest.approx(seen.mean(0))
    assert m2 / count == pytest.approx(seen.var(0))
    assert set(agent.state_dict()) >= {"obs_moments", "return_moments"}


@pytest.mark.any_ppo
def test_evaluation_leaves_the_agent_as_it_is(script, monkeypatch, tmp_path):
    args = script.Args(env_id=small_env(script, "Match"))
    envs = script.make_envs(args, 4)
    agent = script.Agent(envs, args)
    agent.normalize_obs(np.random.default_rng(0).normal(size=(4, 1)), count=np.ones(4, bool))
    before = {key: value.clone() for key, value in agent.state_dict().items()}
    first = script.evaluate(agent, envs, seed=5)
    envs = script.make_envs(args, 4)
    assert all(torch.equal(value, before[key]) for key, value in agent.state_dict().items())
    assert script.evaluate(agent, envs, seed=5).tolist() == first.tolist()


@pytest.mark.any_ppo
def test_evaluation_plays_one_episode_in_each_environment(script, monkeypatch):
    """Episodes of 2 to 5 steps with a reward of 1: the returns are the lengths, short or long."""

    def step(self, action):
        self.t += 1
        return self.obs(), 1.0, bool(self.t == self.length), False, {}

    monkeypatch.setattr(small.Marked, "step", step)
    lengths = []
    monkeypatch.setattr(small.Marked, "begin", lambda self: self.obs())

    def reset(self, *, seed=None, options=None):
        gym.Env.reset(self, seed=seed)
        self.t, self.length = 0, 2 + len(lengths) % 4
        lengths.append(self.length)
        return self.obs(), {}

    monkeypatch.setattr(small.Marked, "reset", reset)
    args = script.Args(env_id=small_env(script, "Marked"), norm_obs=False)
    envs = script.make_envs(args, 8)
    agent = script.Agent(envs, args)
    assert script.evaluate(agent, envs, seed=1).tolist() == [2, 3, 4, 5] * 2


@pytest.mark.any_ppo
def test_every_finished_episode_is_logged(script, train):
    """Eight steps an episode, whatever the rollout cuts: each update's mean length is 8, and the
    mean of the last 100 episodes appears with the hundredth."""
    logged = train(script, env_id=small_env(script, "Match"), num_envs=3, num_steps=13,
                   num_minibatches=1, total_timesteps=1200)  # fmt: skip
    assert {length for _, length in logged["charts/episodic_length"]} == {8.0}
    assert all(0 <= r <= 8 for _, r in logged["charts/episodic_return"])
    # 3 environments finish an episode every 9 of their steps, one of which resets.
    assert "charts/episodic_return_100" in logged
    first_step, _ = logged["charts/episodic_return_100"][0]
    assert 100 * 8 <= first_step <= 100 * 8 + 5 * 3 * 13


def first_observations(script, train, monkeypatch, seed):
    with monkeypatch.context() as patch:
        reset = Spy(patch, gym.vector.SyncVectorEnv, "reset")
        train(script, env_id=CARTPOLE_OR_PENDULUM[script.__name__], vectorisation="sync", seed=seed,
              total_timesteps=1)  # fmt: skip
    return [{tuple(obs) for obs in call.result[0].tolist()} for call in reset.calls]


@pytest.mark.any_ppo
def test_seeds_share_no_initial_observation_nor_does_evaluation(script, train, monkeypatch):
    train_1, eval_1 = first_observations(script, train, monkeypatch, 1)
    train_2, eval_2 = first_observations(script, train, monkeypatch, 2)
    assert len(train_1 | eval_1 | train_2 | eval_2) == 2 * (script.Args().num_envs + 10)


@pytest.mark.any_ppo
@pytest.mark.parametrize("vectorisation", ["sync", None])
def test_same_seed_same_numbers_bit_for_bit(script, train, vectorisation):
    env_id = CARTPOLE_OR_PENDULUM[script.__name__]
    runs = [
        train(script, env_id=env_id, total_timesteps=5000, seed=seed, vectorisation=vectorisation)
        for seed in (3, 3, 4)
    ]
    for run in runs:
        del run["charts/SPS"], run["charts/wall_time"]
    assert runs[0] == runs[1]
    assert runs[0]["losses/policy_loss"] != runs[2]["losses/policy_loss"]


# Small environments whose optimum is known: three seeds, nearly all of the best return.

FAST = dict(num_envs=8, num_steps=32, num_minibatches=4, learning_rate=3e-3)
SMALL = {
    "Bandit": (dict(total_timesteps=6000), 0.99),
    "TwoStates": (dict(total_timesteps=8000), 0.99),
    "Truncated": (dict(total_timesteps=10000, gamma=0.9), 0.59),
    "Match": (dict(total_timesteps=10000, gamma=0.9), 7.9),
    "Huge": (dict(total_timesteps=10000, gamma=0.9), 7.9e6),
    "Composite": (dict(total_timesteps=10000, gamma=0.9), 7.9),
}


@pytest.mark.any_ppo
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", SMALL)
def test_learns(script, train, name, seed):
    args, threshold = SMALL[name]
    logged = train(script, env_id=small_env(script, name), seed=seed, **FAST | args)
    assert logged["eval/episodic_return"][0][1] >= threshold


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_learns_multidiscrete(ppo, train, seed):
    args = FAST | dict(total_timesteps=20000, gamma=0.9)
    logged = train(ppo, env_id="envs:Heads-v0", seed=seed, **args)
    assert logged["eval/episodic_return"][0][1] >= 7.9


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_learns_over_a_wide_action_range(ppo_continuous, train, seed):
    args = FAST | dict(total_timesteps=20000, gamma=0.5)
    logged = train(ppo_continuous, env_id="envs:Wide-v0", seed=seed, **args)
    assert logged["eval/episodic_return"][0][1] >= 7.6


def test_the_unclipped_action_is_what_is_learned_from(ppo_continuous, train, monkeypatch):
    """The environment asserts that actions are within its bounds; the stored ones leave them."""
    log_prob = Spy(monkeypatch, ppo_continuous, "log_prob_and_entropy")
    train(ppo_continuous, env_id="envs:Wide-v0", total_timesteps=1, num_steps=16, eval_episodes=0)
    stored = log_prob.calls[0].args[1]
    assert stored.dtype == torch.float32 and (stored.abs() > 1).any()
    assert stored.shape == (16, ppo_continuous.Args().num_envs, 2)


@pytest.mark.parametrize("seed", [1, 2])
def test_learns_cartpole(ppo, train, seed):
    """The short form of the slow test below."""
    logged = train(ppo, env_id="CartPole-v1", total_timesteps=40_000, seed=seed)
    assert logged["eval/episodic_return"][0][1] >= 400


# What cannot go wrong


SPACES = {
    "matrix": gym.spaces.Box(-5, 5, (2, 3), np.float64),
    "bytes": gym.spaces.Box(0, 255, (16,), np.uint8),
    "integers": gym.spaces.Box(-(10**6), 10**6, (3, 1), np.int64),
    "discrete": gym.spaces.Discrete(5, start=3),
    "multidiscrete": gym.spaces.MultiDiscrete([2, 3], start=[1, 0]),
    "multibinary": gym.spaces.MultiBinary((2, 2)),
    "tuple": gym.spaces.Tuple((gym.spaces.Discrete(2), gym.spaces.Box(-1, 1, (2,), np.float32))),
    "dict": gym.spaces.Dict(
        a=gym.spaces.MultiBinary(3), b=gym.spaces.Dict(c=gym.spaces.Discrete(2))
    ),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_observation_spaces(script, train, monkeypatch, space):
    """Flattened by Gymnasium; the reward is the first entry of the flat observation."""

    def draw(self):
        self.last = space.sample()
        return self.last

    def step(self, action):
        self.t += 1
        reward = float(gym.spaces.flatten(space, self.last)[0])
        return draw(self), reward, self.t == 4, False, {}

    monkeypatch.setattr(small.Small, "observation_space", space)
    monkeypatch.setattr(small.Small, "begin", draw)
    monkeypatch.setattr(small.Bandit, "step", step)
    logged = train(script, env_id=small_env(script, "Bandit"), num_envs=2, num_steps=16,
                   total_timesteps=128, norm_obs=False)  # fmt: skip
    assert finite(logged) and "eval/episodic_return" in logged


@pytest.mark.parametrize(
    "args",
    [
        dict(num_envs=1, num_steps=1, num_minibatches=1, total_timesteps=40),
        dict(num_envs=1, num_steps=2, num_minibatches=1, total_timesteps=40),
        dict(num_envs=2, num_steps=4, num_minibatches=8, total_timesteps=64),  # minibatches of one
        dict(num_envs=3, num_steps=5, num_minibatches=4, total_timesteps=100),  # uneven
        dict(num_envs=4, num_steps=8, num_minibatches=32, total_timesteps=64),
    ],
)
@pytest.mark.any_ppo
def test_small_batches_give_no_nan(script, train, args):
    for name in ("Bandit", "Match"):
        logged = train(script, env_id=small_env(script, name), **args)
        assert logged["losses/policy_loss"][-1][0] >= args["total_timesteps"]
        assert finite(logged)


@pytest.mark.any_ppo
def test_an_episode_that_never_ends(script, train, capsys, monkeypatch):
    """Nothing is averaged over no episode, neither while training nor in the evaluation."""
    monkeypatch.setattr(script.evaluate, "__defaults__", (2_500,))
    logged = train(script, env_id=small_env(script, "Endless"), total_timesteps=2048,
                   eval_episodes=3)  # fmt: skip
    assert "charts/episodic_return" not in logged and finite(logged)
    assert "eval/episodic_return" not in logged
    out = capsys.readouterr().out
    assert "return        -" in out and "nan" not in out
    assert "evaluation: 2,000 steps, 3 of 3 episodes go on" in out
    assert "greedy return - (0 of 3 episodes)" in out


def test_metrics_without_data_are_absent(script, train):
    """Rewards of zero and a critic that starts at zero: returns that do not vary have no EV."""
    logged = train(script, env_id=small_env(script, "Bandit"), num_envs=1, num_steps=1,
                   num_minibatches=1, total_timesteps=5, eval_episodes=0)  # fmt: skip
    assert set(logged) == METRICS - {"losses/explained_variance"} | {
        "charts/episodic_return",
        "charts/episodic_length",
    }


def run_command(*args, cwd):
    return subprocess.run([sys.executable, *args], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize(
    "command", ["ppo.py", "ppo_continuous.py --env-id Hopper-v5"], ids=["ppo", "ppo_continuous"]
)
def test_the_smallest_run_leaves_every_metric_behind(command, tmp_path):
    script, *flags = f"{command} --num-envs 1 --num-steps 64 --total-timesteps 256".split()
    result = run_command(str(SCRIPTS / script), *flags, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (run,) = (tmp_path / "runs").iterdir()
    lines = result.stdout.splitlines()
    assert f"--resume runs/{run.name}" in lines[0] and "greedy return" in lines[-1]
    assert "steps" in lines[1]
    assert f"--resume runs/{run.name}" in result.stderr and result.stderr.count("\n") == 1
    logged = read_run(run)
    episode = {"charts/episodic_return", "charts/episodic_length", "eval/episodic_return"}
    assert set(logged) == METRICS | episode
    assert finite(logged)
    assert [step for step, _ in logged["charts/SPS"]][-1] >= 256


def test_help_is_a_page_that_teaches(script, tmp_path):
    seconds = []
    while len(seconds) < 3 and min(seconds, default=9) >= 8:  # as the machine may be busy
        start = time.perf_counter()
        result = run_command(script.__file__, "--help", cwd=tmp_path)
        seconds.append(time.perf_counter() - start)
    assert result.returncode == 0 and not list(tmp_path.iterdir())
    assert min(seconds) < 8  # about 3 s on an idle machine
    for field in script.Args.__dataclass_fields__:
        assert f"--{field.replace('_', '-')}" in result.stdout
    for symbol in ("α₀", "γ", "λ", "ε", "c1", "c2", "N,", "T,", "K,", "M =", "g_max", "Â"):
        assert symbol in result.stdout, symbol


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused(script):
    with pytest.raises(script.Refused, match="--cuda: torch finds no GPU"):
        script.main(script.Args(cuda=True))


def test_async_environments_train_as_sync_ones_do(script, train):
    env_id = CARTPOLE_OR_PENDULUM[script.__name__]
    sync, in_processes = (
        train(script, env_id=env_id, num_envs=2, total_timesteps=512, vectorisation=v,
              eval_episodes=2)["losses/policy_loss"]
        for v in ("sync", "async")
    )  # fmt: skip
    assert sync == in_processes


# The bar of the defaults, about 45 minutes, one run after the other: pytest --slow


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, env_id, steps, seeds, threshold, on_every_seed",
    [
        ("ppo", "CartPole-v1", 100_000, 5, 500, True),
        ("ppo", "LunarLander-v3", 500_000, 5, 200, True),
        ("ppo", "Acrobot-v1", 300_000, 5, -85, False),
        ("ppo", "MountainCar-v0", 500_000, 5, -115, False),
        ("ppo_continuous", "Pendulum-v1", 200_000, 3, -200, False),
        ("ppo_continuous", "InvertedPendulum-v5", 300_000, 3, 1000, False),
        ("ppo_continuous", "Hopper-v5", 1_000_000, 3, 2400, False),
        ("ppo_continuous", "HalfCheetah-v5", 1_000_000, 3, 2500, False),
    ],
)
def test_defaults_reach(tmp_path, name, env_id, steps, seeds, threshold, on_every_seed):
    returns = []
    for seed in range(1, seeds + 1):
        flags = f"--env-id {env_id} --total-timesteps {steps} --seed {seed} --eval-episodes 100"
        result = run_command(str(ROOT / f"{name}.py"), *flags.split(), cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        returns.append(float(result.stdout.split("greedy return ")[1].split()[0]))
    assert (min(returns) if on_every_seed else np.mean(returns)) >= threshold, returns
