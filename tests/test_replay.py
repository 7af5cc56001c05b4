"""Whole runs of main, replayed. From what the environments returned, the sampled actions, the
permutations and the initial weights, everything else is computed again in float64 and in another
way: episodes are lists, moments are those of all samples so far, and tests/numpy_ppo.py does the
updates."""

import collections
import copy
import types

import gymnasium as gym
import numpy as np
import numpy_ppo
import pytest
import torch
from numpy.testing import assert_allclose as close


class Recorded(gym.vector.VectorEnv):
    """Keeps what it received and returned. The first episode ends in the first rollout of 16 steps,
    the next ones in the fourth, and all others last 4 steps on average; they end by termination,
    truncation or both. The rewards of reset steps are nonsense. What one step returns is so large
    that (17) and (18) clip it."""

    metadata = {"autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP}
    low, high = np.array([-1.0, 0.0]), np.array([1.0, 6.0])
    outlier = 200  # the step of large observations and rewards
    made = None  # the last one

    def __init__(self, num_envs, continuous):
        box = gym.spaces.Box(self.low, self.high, dtype=np.float64)
        self.num_envs = num_envs
        self.single_action_space = box if continuous else gym.spaces.Discrete(4)
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.action_space, self.observation_space = (
            gym.vector.utils.batch_space(space, num_envs)
            for space in (self.single_action_space, self.single_observation_space)
        )
        self.observations, self.steps = [], []
        Recorded.made = self

    def observe(self):
        noise = self.np_random.normal(size=(self.num_envs, 3))
        if len(self.steps) == self.outlier:
            noise *= 30
        self.observations.append([1.0, 0.1, 4.0] * noise + [0.0, 3.0, -5.0])
        return self.observations[-1].copy()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = np.array([5, 55, 58])
        return self.observe(), {}

    def step(self, actions):
        random, N = self.np_random, self.num_envs
        resets = self.left == 0
        lengths = random.geometric(0.25, N) + 45 * (len(self.steps) < 16)
        self.left = np.where(resets, lengths, self.left - 1)
        ends, how = (self.left == 0) & ~resets, random.integers(3, size=N)
        terminated, truncated = ends & (how != 0), ends & (how != 1)
        rewards = np.where(resets, 50.0, random.normal(len(self.steps) / 200, 1.0, N))
        if len(self.steps) == self.outlier:
            rewards[ends] = 50.0
        self.steps.append((np.copy(actions), rewards, terminated, truncated))
        return self.observe(), rewards.copy(), terminated.copy(), truncated.copy(), {}


gym.register("Recorded-v0", vector_entry_point=Recorded, kwargs={"continuous": False})
gym.register("RecordedBox-v0", vector_entry_point=Recorded, kwargs={"continuous": True})


def small(script, **changes):
    """Arguments of a run of about 17 updates."""
    env_id = {"ppo": "Recorded-v0", "ppo_continuous": "RecordedBox-v0"}[script.__name__]
    args = dict(env_id=env_id, seed=7, num_envs=3, num_steps=16, total_timesteps=700)
    args |= dict(num_minibatches=3, update_epochs=2, learning_rate=1e-2, gamma=0.9)
    args |= dict(gae_lambda=0.8, ent_coef=0.02, vf_coef=0.7, eval_episodes=0)
    return script.Args(**args | changes)


@pytest.fixture
def record(script, train, monkeypatch):
    """record(args) runs main. Returned is what a replay begins with: environments, actions,
    permutations, initial weights; and what it is to arrive at: the state of the agent at every
    step, what `gae` was given, the last checkpoint, curves. By the clock a step takes 0.25 s."""
    run = types.SimpleNamespace()
    gae, randperm = script.gae, torch.randperm

    class RecordedAgent(script.Agent):
        def sample(self, obs):
            actions = super().sample(obs)
            run.actions.append(actions.numpy().copy())
            run.states.append(copy.deepcopy(self.state_dict()))
            return actions

    def record_gae(*args):
        run.gae.append(copy.deepcopy(args))
        return gae(*args)

    def record_permutation(*args, **kwargs):
        run.permutations.append(randperm(*args, **kwargs))
        return run.permutations[-1]

    monkeypatch.setattr(script, "Agent", RecordedAgent)
    monkeypatch.setattr(script, "gae", record_gae)
    monkeypatch.setattr(torch, "randperm", record_permutation)
    clock = types.SimpleNamespace(time=lambda: 100 + len(Recorded.made.steps) / 4)
    monkeypatch.setattr(script, "time", clock)

    def start(args):
        vars(run).update(actions=[], states=[], gae=[], permutations=[])
        run.curves = train(script, **vars(args))
        (path,) = script.Path("runs").iterdir()
        run.checkpoint = torch.load(path / "checkpoint.pt", weights_only=True)
        run.states.append(run.checkpoint["agent"])
        run.envs = Recorded.made
        return copy.copy(run)

    return start


def replay_episodes(rewards, dones, gamma):
    """Which steps are samples (16), D_t of (18), both (steps, N); and the episodes that ended, as
    (step, return, length)."""
    valid, discounted, ended = np.zeros_like(dones), np.zeros_like(rewards), []
    for n in range(rewards.shape[1]):
        episode = []
        for t in range(len(rewards)):
            if t > 0 and dones[t - 1, n]:
                episode = []
                continue
            episode.append(rewards[t, n])
            valid[t, n] = True
            discounted[t, n] = np.polyval(episode, gamma)  # Σ_k γ^(t-k) r_k
            if dones[t, n]:
                ended.append((t, sum(episode), len(episode)))
    return valid, discounted, sorted(ended, key=lambda episode: episode[0])


def replay(run, args):
    """What is expected of every rollout and its update."""
    T, K = args.num_steps, args.update_epochs
    first = T if args.norm_obs else 0  # the first rollout that is learned from begins here
    obs = np.float32(run.envs.observations).astype(float)  # (steps + 1, N, D)
    _, rewards, terminated, truncated = map(np.array, zip(*run.envs.steps, strict=True))
    dones = terminated | truncated
    actions, permutations = np.array(run.actions), iter(run.permutations)
    valid, discounted, ended = replay_episodes(rewards, dones, args.gamma)

    weights = {name: x.numpy().astype(float) for name, x in run.states[0].items()}
    actor, critic = (numpy_ppo.network(weights, name) for name in ("actor", "critic"))
    learner = numpy_ppo.PPO(actor, critic, weights.get("log_std"), args)
    names = [name for name in weights if name.startswith(("actor", "critic", "log_std"))]
    mean, var, global_step, updates = 0.0, 1.0, 0, []
    for end in range(T, len(rewards) + 1, T):
        rollout = slice(end - T, end)
        for name in names:  # else rounding errors would grow from update to update
            weights[name][...] = run.states[end - T][name]
        now = types.SimpleNamespace(valid=valid[rollout], log=[])
        remaining = 1 - global_step / args.total_timesteps
        now.learning_rate = args.learning_rate * (remaining if args.anneal_lr else 1)  # (19)
        now.global_step = global_step = global_step + now.valid.sum()
        now.ended = [episode for episode in ended if episode[0] < end]
        if end > first:
            now.obs = obs[end - T : end + 1]
            if args.norm_obs:
                now.obs = ((now.obs - mean) / np.sqrt(var + 1e-8)).clip(-10, 10)  # (17)
            now.rewards = rewards[rollout]
            if args.norm_reward:
                D_var = discounted[first:end][valid[first:end]].var()
                now.rewards = (now.rewards / np.sqrt(D_var + 1e-8)).clip(-10, 10)  # (18)
            now.values = learner.value(now.obs)
            now.ends = terminated[rollout], dones[rollout]
            columns = zip(now.rewards.T, now.values.T, *(x.T for x in now.ends), strict=True)
            advantages = [numpy_ppo.gae(*x, args.gamma, args.gae_lambda) for x in columns]
            advantages, values = np.array(advantages).T, now.values[:-1]
            batch = dict(obs=now.obs[:-1], actions=actions[rollout], advantages=advantages)
            batch |= dict(returns=advantages + values, values=values)  # (6)
            now.batch = batch = {k: x[now.valid] for k, x in batch.items()}
            batch["logprobs"] = learner.logprobs(batch["obs"], batch["actions"])
            for _ in range(K):
                order, kls = next(permutations).numpy(), []
                assert sorted(order) == list(range(now.valid.sum()))
                for indices in np.array_split(order, args.num_minibatches):
                    minibatch = {k: x[indices] for k, x in batch.items()}
                    now.log.append(learner.update(minibatch, now.learning_rate))
                    kls.append(now.log[-1]["approx_kl"])
                if args.target_kl is not None and np.mean(kls) > args.target_kl:
                    break
        now.state = {name: weights[name].copy() for name in names}  # after the update
        if args.norm_obs:
            counted = obs[:end][valid[:end]]
            mean, var = counted.mean(0), counted.var(0)
            now.state |= {"obs_rms.mean": mean, "obs_rms.var": var, "obs_rms.count": len(counted)}
        updates.append(now)
    assert next(permutations, None) is None
    return updates


def expected_curves(updates):
    curves = collections.defaultdict(dict)
    episodes = 0
    for i, now in enumerate(updates):
        if not now.log:
            continue
        returns, values = now.batch["returns"], now.batch["values"]
        metrics = {f"losses/{k}": np.mean([log[k] for log in now.log]) for k in now.log[0]}
        metrics["losses/explained_variance"] = 1 - (returns - values).var() / returns.var()
        metrics["charts/learning_rate"] = now.learning_rate
        metrics["charts/SPS"] = now.global_step / ((i + 1) * len(now.valid) / 4)
        if new := now.ended[episodes:]:
            metrics["charts/episodic_return"] = np.mean([total for _, total, _ in new])
            metrics["charts/episodic_length"] = np.mean([length for _, _, length in new])
            last = [total for _, total, _ in now.ended[-100:]]
            metrics["charts/episodic_return_100"] = np.mean(last)
        episodes = len(now.ended)
        for tag, value in metrics.items():
            curves[tag][now.global_step] = value
    return curves


PLAIN = dict(norm_obs=False, norm_reward=False, norm_adv=False, clip_vloss=False, anneal_lr=False)


@pytest.mark.parametrize(
    "changes", [{}, {"target_kl": 0.001}, {"norm_obs": False}, PLAIN], ids=lambda x: "-".join(x)
)
def test_main_is_replayed_from_what_the_environments_returned(script, record, changes):
    """(4) to (20): the agent after every update, what rollouts carry over, all of the curves, what
    the environments received."""
    args = small(script, **changes)
    run, T = record(args), args.num_steps
    updates = list(replay(run, args))
    untrained = 1 if args.norm_obs else 0
    assert [bool(now.log) for now in updates] == [i >= untrained for i in range(len(updates))]

    for i, now in enumerate(updates, 1):
        state = run.states[i * T]
        for name, expected in now.state.items():
            close(state[name], expected, rtol=1e-4, atol=2e-4)
        for other in run.states[i * T : (i + 1) * T]:  # it stands still while it acts
            assert all(torch.equal(state[name], other[name]) for name in state)
    for now, given in zip(updates[untrained:], run.gae, strict=True):
        rewards, values, *ends, gamma, gae_lambda = given
        close(rewards[now.valid], now.rewards[now.valid], rtol=1e-5)
        close(values, now.values, rtol=1e-4, atol=2e-4)
        assert np.array_equal(ends, now.ends)
        assert (gamma, gae_lambda) == (args.gamma, args.gae_lambda)

    curves = expected_curves(updates)
    value_clipfrac = curves.pop("losses/value_clipfrac")
    assert run.curves.keys() == curves.keys()
    for tag, expected in curves.items():
        assert dict(run.curves[tag]) == pytest.approx(expected, rel=1e-3, abs=1e-5), tag
    steps = list(curves["charts/SPS"])
    assert steps[-2] < args.total_timesteps <= steps[-1]
    returns = [total for _, total, _ in updates[-1].ended]
    assert run.checkpoint["recent_returns"] == pytest.approx(returns[-100:], rel=1e-5)
    assert run.checkpoint["global_step"] == steps[-1]

    sent, actions = np.array([step[0] for step in run.envs.steps]), np.array(run.actions)
    if script.__name__ == "ppo_continuous":  # the bounds are [-1, 1] and [0, 6]
        actions = np.clip([0, 3] + [1, 3] * actions, Recorded.low, Recorded.high)
    close(sent, actions, rtol=1e-5, atol=1e-6)

    # What is to be seen here was there to be seen.
    assert len(steps) > 12 and len(returns) > 110
    assert 0 < len(curves["charts/episodic_return"]) < len(steps)
    assert max(curves["losses/clipfrac"].values()) > 0.05
    assert (max(value_clipfrac.values()) > 0.1) == args.clip_vloss
    if args.norm_obs:
        assert max(np.abs(now.obs).max() for now in updates[1:]) == 10
    if args.norm_reward:
        assert max(now.rewards[now.valid].max() for now in updates[1:]) == 10
    if args.target_kl is not None:
        assert len({len(now.log) for now in updates[1:]}) == 2


def test_target_kl_ends_an_update_after_the_epoch_whose_kl_exceeds_it(script, record):
    """A target just below the mean KL of an epoch, and one just above it."""
    args = small(script, total_timesteps=50, update_epochs=4, learning_rate=2e-3)
    _, update = replay(record(args), args)
    kl = np.reshape([log["approx_kl"] for log in update.log], (4, -1)).mean(1)
    assert (kl[1:] > 1.1 * kl[:-1]).all()  # so that each target has one epoch to end at
    for i in range(3):
        for target, epochs in ((0.99 * kl[i], i + 1), (1.01 * kl[i], i + 2)):
            run = record(small(script, **vars(args) | {"target_kl": float(target)}))
            assert len(run.permutations) == epochs
