"""Whole runs of main once more. From what the environments returned, the sampled actions, the
shuffles and the initial weights, all the rest is replayed in float64, by another road: episodes are
lists, moments are of all that came before, no rollout carries anything over; tests/oracle.py does
the updates. Then what else main is to count, log and pass on."""

import collections
import copy
import dataclasses
import itertools
import math
import types

import gymnasium as gym
import numpy as np
import oracle
import pytest
import torch


class Recorded(gym.vector.VectorEnv):
    """Keeps what it returned. The first episodes end in the third rollout of 16 steps, all others
    after 4 steps on average: by termination, by truncation, or both. The rewards of reset steps are
    nonsense. What one step returns is so large that (17) and (18) clip it."""

    metadata = {"autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP}
    made = None  # the last one
    exceptional = 200  # the step of large observations and rewards
    low, high = np.array([-1.0, 0.0]), np.array([1.0, 6.0])

    def __init__(self, num_envs, continuous):
        box = gym.spaces.Box(self.low, self.high, dtype=np.float64)
        self.num_envs = num_envs
        self.single_action_space = box if continuous else gym.spaces.Discrete(4, start=2)
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.action_space, self.observation_space = (
            gym.vector.utils.batch_space(space, num_envs)
            for space in (self.single_action_space, self.single_observation_space)
        )
        self.observations, self.steps = [], []
        Recorded.made = self

    def observe(self):
        noise = self.np_random.normal(size=(self.num_envs, 3))
        if len(self.steps) == self.exceptional:
            noise *= 30
        self.observations.append([1.0, 0.1, 10.0] * noise + [0.0, 3.0, -5.0])
        return self.observations[-1].copy()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 37 + 3 * np.arange(self.num_envs)
        return self.observe(), {}

    def step(self, actions):
        random, N = self.np_random, self.num_envs
        resets = self.left == 0
        self.left = np.where(resets, random.geometric(0.25, N), self.left - 1)
        kind, ends = random.integers(3, size=N), (self.left == 0) & ~resets
        terminated, truncated = ends & (kind != 0), ends & (kind != 1)
        rewards = np.where(resets, 50.0, random.normal(len(self.steps) / 200, 1.0, N))
        if len(self.steps) == self.exceptional:
            rewards[ends] = 30.0
        self.steps.append((np.copy(actions), rewards, terminated, truncated))
        return self.observe(), rewards.copy(), terminated.copy(), truncated.copy(), {}


for name, continuous in {"Recorded-v0": False, "RecordedBox-v0": True}.items():
    gym.register(name, vector_entry_point=Recorded, kwargs={"continuous": continuous})


def small(script, **changes):
    """Arguments of a run of 18 updates, one of which ends with the 99th episode (by the seed)."""
    env_id = {"ppo": "Recorded-v0", "ppo_continuous": "RecordedBox-v0"}[script.__name__]
    args = dict(env_id=env_id, seed=26, num_envs=3, num_steps=16, total_timesteps=700)
    args |= dict(num_minibatches=3, update_epochs=2, learning_rate=1e-2, gamma=0.9, gae_lambda=0.8)
    args |= dict(ent_coef=0.02, vf_coef=0.7, eval_episodes=0, checkpoint_interval=1)
    return script.Args(**args | changes)


@pytest.fixture
def record(script, train, monkeypatch):
    """record(args) runs main. Returned is what a replay begins with: environments, actions,
    shuffles, initial weights; and what it ends with: what `act` and `gae` were given, checkpoints,
    curves."""
    run = types.SimpleNamespace()
    gae, minibatch_indices, save = script.gae, script.minibatch_indices, script.save

    class RecordedAgent(script.Agent):
        def __init__(self, *args):
            super().__init__(*args)
            run.weights = {
                name: parameter.numpy(force=True).astype(float)
                for name, parameter in self.named_parameters()
            }

        def act(self, obs):
            actions = super().act(obs)
            if obs.ndim == 2:  # not the rollout of zeros that only gives the actions' shape
                run.acted_on.append(obs.numpy().copy())
                run.actions.append(actions.numpy().copy())
            return actions

    def record_gae(*args):
        run.gae.append(copy.deepcopy(args))
        return gae(*args)

    def record_shuffle(*args):
        run.shuffles.append(minibatch_indices(*args))
        return run.shuffles[-1]

    def record_checkpoint(run_of_main, *args):
        save(run_of_main, *args)
        path = run_of_main.folder / "checkpoint.pt"
        run.checkpoints.append(torch.load(path, weights_only=True))

    monkeypatch.setattr(script, "Agent", RecordedAgent)
    monkeypatch.setattr(script, "gae", record_gae)
    monkeypatch.setattr(script, "minibatch_indices", record_shuffle)
    monkeypatch.setattr(script, "save", record_checkpoint)

    def start(args):
        vars(run).update(actions=[], shuffles=[], acted_on=[], gae=[], checkpoints=[])
        run.curves = train(script, **vars(args))
        run.envs = Recorded.made
        return copy.copy(run)

    return start


def replay_episodes(rewards, dones, gamma):
    """Which steps are valid (16), the discounted sums R of (18), both (steps, N); and the episodes
    that ended, as (step, return, length)."""
    valid, R, ended = np.zeros_like(dones), np.zeros_like(rewards), []
    for n in range(rewards.shape[1]):
        episode = []
        for t in range(len(rewards)):
            if t > 0 and dones[t - 1, n]:
                episode = []
                continue
            episode.append(rewards[t, n])
            valid[t, n] = True
            R[t, n] = np.polyval(episode, gamma)  # Σ_k γ^(t−k) r_k
            if dones[t, n]:
                ended.append((t, sum(episode), len(episode)))
    return valid, R, sorted(ended, key=lambda episode: episode[0])


def normalised(obs, counted):
    """(17) from all observations counted so far."""
    return ((obs - counted.mean(0)) / np.sqrt(counted.var(0) + 1e-8)).clip(-10, 10)


def layers(weights, net):
    """The network as tests/oracle.py has it; its updates reach the weights."""
    return [(weights[f"{net}.{i}.weight"].T, weights[f"{net}.{i}.bias"]) for i in (0, 2, 4)]


def sent(script, actions):
    """What the environments are to receive for sampled actions (.., N, H)."""
    if script.__name__ == "ppo":
        return 2 + actions[..., 0]
    return (Recorded.low + Recorded.high + (Recorded.high - Recorded.low) * actions) / 2


def replay(script, run, args):
    """Yield the updates, each with its rollout and what is to come of it."""
    T, K = args.num_steps, args.update_epochs
    M = -(-T * args.num_envs // args.num_minibatches)
    all_obs = np.array(run.envs.observations)  # (steps + 1, N, D)
    _, all_rewards, terminated, truncated = map(np.array, zip(*run.envs.steps, strict=True))
    all_dones = terminated | truncated
    valid, R, ended = replay_episodes(all_rewards, all_dones, args.gamma)

    weights, adam, global_step = copy.deepcopy(run.weights), oracle.Adam(), 0
    actor, critic = layers(weights, "actor"), layers(weights, "critic")
    policy, log_std = oracle.discrete_policy, weights.get("log_std")
    if log_std is not None:
        policy = oracle.normal_policy

    for update in range(len(all_rewards) // T):
        start, end = update * T, (update + 1) * T
        now = types.SimpleNamespace(weights=weights, valid=valid[start:end])
        now.terminated, now.dones = terminated[start:end], all_dones[start:end]
        now.ended = [episode for episode in ended if start <= episode[0] < end]
        now.obs = []
        for t in range(start, end + 1):
            counted = min(t + 1, end)  # obs[T] counts as the first of the next rollout
            now.obs.append(normalised(all_obs[t], all_obs[:counted][valid[:counted]]))
        now.obs = np.array(now.obs)
        deviation = np.sqrt(R[:end][valid[:end]].var() + 1e-8)
        now.rewards = (all_rewards[start:end] / deviation).clip(-10, 10)
        now.values = oracle.forward(critic, now.obs, oracle.TANH)[1].squeeze(-1)
        advantages, returns = oracle.advantages_and_returns(
            now.rewards, now.values, now.terminated, now.dones, args.gamma, args.gae_lambda
        )
        actions = np.array(run.actions[start:end])
        obs, actions, advantages, returns, values = (
            x[now.valid] for x in (now.obs[:-1], actions, advantages, returns, now.values[:-1])
        )
        old_log_pi, _, _ = policy(actor, log_std, obs, actions)
        now.explained_variance = 1 - (returns - values).var() / returns.var()

        B = len(obs)
        shuffles = [rows.numpy() for rows in run.shuffles[update * K : (update + 1) * K]]
        orders = [rows.ravel()[:B] for rows in shuffles]
        for rows, order in zip(shuffles, orders, strict=True):
            assert sorted(order) == list(range(B))
            assert (rows == np.resize(order, (-(-B // M), M))).all()
        # (19)
        now.learning_rate = args.learning_rate * (1 - global_step / args.total_timesteps)
        batch = obs, actions, old_log_pi, advantages, returns, values
        numbers = vars(args) | {"M": M, "learning_rate": now.learning_rate}
        now.log = oracle.update_by_minibatches(
            policy, actor, critic, log_std, batch, orders, numbers, adam
        )
        now.global_step = global_step = global_step + B
        yield now


def test_main_is_replayed_from_what_the_environments_returned(script, record):
    """(4) to (20): what rollouts carry over, the weights after every update, all of the curves."""
    args = small(script)
    run, T = record(args), args.num_steps
    curves, returns, counts = collections.defaultdict(list), [], []
    obs, scaled = [], []
    updates = zip(replay(script, run, args), run.gae, run.checkpoints, strict=True)
    for update, (now, given_to_gae, checkpoint) in enumerate(updates):
        acted_on = np.array(run.acted_on[update * T : (update + 1) * T])
        assert acted_on == pytest.approx(now.obs[:-1], rel=1e-5, abs=1e-6)
        rewards, values, terminated, dones, *gamma_and_lambda = given_to_gae
        assert rewards[now.valid] == pytest.approx(now.rewards[now.valid], rel=1e-9)
        assert values == pytest.approx(now.values, rel=1e-4, abs=1e-5)
        assert (terminated == now.terminated).all() and (dones == now.dones).all()
        assert gamma_and_lambda == [args.gamma, args.gae_lambda]
        for name, weight in now.weights.items():
            assert checkpoint["agent"][name].numpy() == pytest.approx(weight, abs=2e-5), name

        obs.extend(acted_on)
        scaled.extend(rewards[now.valid])
        returns += [total for _, total, _ in now.ended]
        counts.append(len(returns))
        assert checkpoint["progress"]["recent_returns"] == pytest.approx(returns[-100:])
        assert checkpoint["progress"]["global_step"] == now.global_step
        metrics = {f"losses/{name}": numbers.mean() for name, numbers in now.log.items()}
        metrics["losses/explained_variance"] = now.explained_variance
        metrics["charts/learning_rate"] = now.learning_rate
        if now.ended:
            _, episodic_return, episodic_length = np.mean(now.ended, axis=0)
            metrics["charts/episodic_return"] = episodic_return
            metrics["charts/episodic_length"] = episodic_length
        if len(returns) >= 100:
            metrics["charts/episodic_return_100"] = np.mean(returns[-100:])
        for tag, number in metrics.items():
            curves[tag].append((now.global_step, number))

    value_clipfrac = curves.pop("losses/value_clipfrac")  # has no curve
    assert run.curves.keys() == curves.keys() | {"charts/SPS", "charts/wall_time"}
    for tag, expected in curves.items():
        assert dict(run.curves[tag]) == pytest.approx(dict(expected), rel=1e-4, abs=1e-6), tag
    steps = [step for step, _ in run.curves["charts/SPS"]]
    assert steps == [step for step, _ in curves["losses/policy_loss"]]
    assert steps[-2] < args.total_timesteps <= steps[-1]
    actions = np.array([step[0] for step in run.envs.steps])
    wanted = sent(script, np.array(run.actions))
    low, high = (0, 9) if script.__name__ == "ppo" else (Recorded.low, Recorded.high)
    assert actions == pytest.approx(np.clip(wanted, low, high), rel=1e-5)

    # What is to be seen here was there to be seen.
    assert len(steps) >= 12 and 0 < len(curves["charts/episodic_return"]) < len(steps)
    assert max(number for _, number in curves["losses/clipfrac"]) > 0.1
    assert max(number for _, number in value_clipfrac) > 0.1
    assert np.max(obs) == 10 and np.max(scaled) == 10
    assert 99 in counts and counts[-1] > 120
    assert abs(np.mean(returns[:100]) - np.mean(returns[-100:])) > 0.1


def test_target_kl_ends_an_update_after_the_epoch_that_exceeds_it(script, record):
    """A target just below the KL of the minibatches up to an epoch, and one just above it."""
    args = small(script, total_timesteps=1, update_epochs=4, learning_rate=2e-3)
    (first,) = replay(script, record(args), args)
    kl = np.mean(first.log["approx_kl"].reshape(4, -1), axis=1)
    kl = (np.cumsum(kl) / [1, 2, 3, 4]).tolist()
    assert all(later > 1.1 * kl for kl, later in itertools.pairwise(kl))
    for i in range(3):
        for target, epochs in ((0.99 * kl[i], i + 1), (1.01 * kl[i], i + 2)):
            run = record(dataclasses.replace(args, target_kl=target))
            assert len(run.shuffles) == epochs
            assert run.curves["losses/approx_kl"][0][1] == pytest.approx(kl[epochs - 1], rel=1e-3)


def test_sps_is_global_step_over_the_time_since_the_start(script, train, monkeypatch):
    """By a clock that a step of the environments puts forward by a quarter of a second."""
    clock = types.SimpleNamespace(perf_counter=lambda: 100 + len(Recorded.made.steps) / 4)
    monkeypatch.setattr(script, "time", clock)
    curves = train(script, **vars(small(script)))
    speeds, times = curves["charts/SPS"], curves["charts/wall_time"]
    assert len(speeds) == len(times) >= 12
    for update, ((step, sps), (_, wall_time)) in enumerate(zip(speeds, times, strict=True), 1):
        assert wall_time == pytest.approx(update * 16 / 4)
        assert sps == pytest.approx(step / wall_time)


def test_checkpoints_count_the_updates(script, record):
    """One every 5, and one at the end."""
    run = record(small(script, checkpoint_interval=5))
    updates = len(run.curves["losses/policy_loss"])
    assert [c["progress"]["update"] for c in run.checkpoints] == [
        5,
        10,
        15,
        updates,
    ] and updates in range(16, 20)


@pytest.mark.parametrize("num_threads, deterministic", [(1, True), (2, False)])
def test_threads_and_determinism_reach_torch(
    script, train, monkeypatch, num_threads, deterministic
):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", not deterministic)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        args = small(script, total_timesteps=1, num_threads=num_threads,
                     torch_deterministic=deterministic)  # fmt: skip
        train(script, **vars(args))
        assert torch.get_num_threads() == num_threads
        assert torch.backends.cudnn.deterministic == deterministic
    finally:
        torch.set_num_threads(threads)


DEFAULTS = {  # of ppo.py, of ppo_continuous.py where that differs
    "exp_name": ("ppo", "ppo_continuous"),
    "seed": 1,
    "torch_deterministic": True,
    "cuda": False,
    "num_threads": 1,
    "compile": False,
    "track": False,
    "wandb_project_name": "ppo",
    "wandb_entity": None,
    "capture_video": False,
    "env_id": ("CartPole-v1", "HalfCheetah-v5"),
    "vectorisation": None,
    "total_timesteps": (500_000, 1_000_000),
    "num_envs": (16, 8),
    "num_steps": (64, 256),
    "learning_rate": (2e-3, 8e-4),
    "anneal_lr": True,
    "gamma": (0.995, 0.99),
    "gae_lambda": (0.98, 0.95),
    "num_minibatches": (8, 16),
    "update_epochs": (4, 5),
    "norm_adv": True,
    "clip_coef": 0.2,
    "clip_vloss": True,
    "ent_coef": (0.01, 0.0),
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
    "target_kl": math.inf,
    "norm_obs": True,
    "norm_reward": True,
    "eval_episodes": 10,
    "checkpoint_interval": 20,
    "resume": None,
}


def test_defaults(script):
    which = ("ppo", "ppo_continuous").index(script.__name__)
    assert vars(script.Args()) == {
        name: default[which] if isinstance(default, tuple) else default
        for name, default in DEFAULTS.items()
    }
