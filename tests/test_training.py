"""Runs of the scripts' own main, from the first step to the TensorBoard file."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import envs as small
import gymnasium as gym
import numpy as np
import onnxruntime
import pytest
import torch
from conftest import read_run
from gymnasium.spaces import Discrete

BENCHMARK = {"ppo": "CartPole-v1", "ppo_continuous": "Pendulum-v1"}
EVERY_UPDATE = {"charts/learning_rate", "charts/SPS", "losses/policy_loss", "losses/value_loss"}
EVERY_UPDATE |= {"losses/entropy", "losses/approx_kl", "losses/clipfrac", "losses/grad_norm"}
EVERY_UPDATE |= {"losses/explained_variance"}
EPISODES = {"charts/episodic_return", "charts/episodic_length", "charts/episodic_return_100"}
TINY = dict(num_envs=4, num_steps=16, num_minibatches=2, total_timesteps=300, eval_episodes=2)


def small_env(script, name):
    return f"envs:{name}-v0" if script.__name__ == "ppo" else f"envs:{name}Box-v0"


def finite(logged):
    return all(np.isfinite(value) for values in logged.values() for _, value in values)


def this_run():
    """The directory of the run that `train` made last."""
    (run,) = Path("runs").iterdir()
    return run


def agent_of(script, num_envs):
    """The agent of this run and environments for it, as a program makes them."""
    checkpoint = script.load_checkpoint(this_run())
    args = script.Args(**checkpoint["args"])
    envs = script.make_envs(args, num_envs)
    agent = script.Agent(envs, args)
    agent.load_state_dict(checkpoint["agent"])
    return agent, envs


# Learning: small environments whose best return is known


OFF = dict(norm_obs=False, norm_reward=False, norm_adv=False, clip_vloss=False)
SMALL = {
    "Bandit": (dict(total_timesteps=5000), 1),
    "TwoStates": (dict(total_timesteps=6000), 1),
    "Truncated": (dict(total_timesteps=10_000), 0.8),  # 1 where truncation is an end
    "Match": (dict(total_timesteps=7000), 8),
    "Match, nothing normalized": (dict(total_timesteps=10_000) | OFF, 8),
    "Huge": (dict(total_timesteps=7000), 8e6),
    "Composite": (dict(total_timesteps=7000), 8),
}
FAST = dict(num_envs=8, num_steps=32, num_minibatches=4, learning_rate=3e-3, gamma=0.9)
FAST |= dict(eval_episodes=10)


@pytest.mark.any_ppo
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", SMALL)
def test_learns(script, train, name, seed):
    args, best = SMALL[name]
    env_id = small_env(script, name.split(",")[0])
    logged = train(script, env_id=env_id, seed=seed, **FAST | args)
    assert logged["eval/episodic_return"][0][1] == pytest.approx(best, rel=0.01)


@pytest.mark.parametrize("seed", [1, 2])
def test_learns_over_a_wide_action_range(ppo_continuous, train, seed):
    """The environment asserts that actions are within its bounds."""
    args = FAST | dict(total_timesteps=12_000, gamma=0.5)
    logged = train(ppo_continuous, env_id="envs:Wide-v0", seed=seed, **args)
    assert logged["eval/episodic_return"][0][1] >= 7.6


SLOW = [
    ("ppo", "CartPole-v1", 100_000, 5, 500, True),
    ("ppo", "LunarLander-v3", 500_000, 5, 200, True),
    ("ppo", "Acrobot-v1", 300_000, 5, -85, False),
    ("ppo_continuous", "Pendulum-v1", 200_000, 3, -200, False),
    ("ppo_continuous", "InvertedPendulum-v5", 300_000, 3, 1000, False),
    ("ppo_continuous", "Hopper-v5", 1_000_000, 3, 2400, False),
    ("ppo_continuous", "HalfCheetah-v5", 1_000_000, 3, 2500, False),
]
SLOW = [pytest.param(*case, marks=pytest.mark.slow) for case in SLOW]


@pytest.mark.parametrize(
    "name, env_id, steps, seeds, threshold, on_every_seed",
    [("ppo", "CartPole-v1", 40_000, 1, 400, True), *SLOW],
)
def test_defaults_reach(request, train, name, env_id, steps, seeds, threshold, on_every_seed):
    script, returns = request.getfixturevalue(name), []
    for seed in range(1, seeds + 1):
        logged = train(script, env_id=env_id, total_timesteps=steps, seed=seed, eval_episodes=100)
        returns.append(logged["eval/episodic_return"][0][1])
    assert (min(returns) if on_every_seed else np.mean(returns)) >= threshold, returns


SPACES = {
    "matrix": gym.spaces.Box(-5, 5, (2, 3), np.float64),
    "integers": gym.spaces.Box(-(10**6), 10**6, (3, 1), np.int64),
    "booleans": gym.spaces.Box(0, 1, (3,), np.bool_),
    "discrete": Discrete(5, start=3),
    "tuple": gym.spaces.Tuple([Discrete(2), gym.spaces.Box(-1, 1, (2,), np.float32)]),
    "dict": gym.spaces.Dict(a=gym.spaces.MultiBinary(3), b=gym.spaces.Dict(c=Discrete(2))),
}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_observation_spaces(script, train, monkeypatch, space):
    """All that Gymnasium can flatten; the agent has one input for each number."""
    monkeypatch.setattr(small.Small, "observation_space", space)
    monkeypatch.setattr(small.Small, "obs", lambda self, value=0.0: space.sample())
    logged = train(script, env_id=small_env(script, "Bandit"), **TINY)
    assert finite(logged) and "eval/episodic_return" in logged
    mean = script.load_checkpoint(this_run())["agent"]["obs_rms.mean"]
    assert mean.shape == (gym.spaces.flatdim(space),)


@pytest.mark.any_ppo
@pytest.mark.parametrize("N, T, minibatches", [(1, 4, 1), (8, 2, 2), (2, 8, 4), (3, 5, 2)])
def test_small_batches_give_no_nan(script, train, N, T, minibatches):
    """In Bandit every other step of an environment resets, so that in some steps all do."""
    args = dict(num_envs=N, num_steps=T, num_minibatches=minibatches, total_timesteps=100)
    for name in ("Bandit", "Match"):
        logged = train(script, env_id=small_env(script, name), **args)
        assert logged["losses/policy_loss"][-1][0] >= 100 and finite(logged)


# Samples and seeds


@pytest.mark.any_ppo
def test_reset_steps_are_no_samples(script, train):
    """The steps that the environments made are those counted, and their observations those that
    the agent knows the mean and variance of."""
    small.Marked.steps, small.Marked.acted_on = 0, []
    args = TINY | dict(total_timesteps=2000, eval_episodes=0)
    logged = train(script, env_id=small_env(script, "Marked"), **args)
    assert logged["charts/SPS"][-1][0] == small.Marked.steps
    agent = script.load_checkpoint(this_run())["agent"]
    seen = np.array(small.Marked.acted_on, dtype=float)
    assert agent["obs_rms.count"] == len(seen) == small.Marked.steps
    assert agent["obs_rms.mean"].numpy() == pytest.approx(seen.mean(0))
    assert agent["obs_rms.var"].numpy() == pytest.approx(seen.var(0))


@pytest.mark.any_ppo
@pytest.mark.parametrize(
    "name, modes", [("", (None, None)), ("Dice", ("sync", "sync")), ("", ("sync", "async"))]
)
def test_same_seed_same_numbers_bit_for_bit(script, train, name, modes):
    """Curves and weights; also where environments draw from `random` and `np.random`."""
    curves, weights = [], []
    for seed, mode in ((3, modes[0]), (3, modes[1]), (4, modes[0])):
        env_id = small_env(script, name) if name else BENCHMARK[script.__name__]
        args = TINY | dict(total_timesteps=1000, seed=seed, vectorization_mode=mode)
        curves.append(train(script, env_id=env_id, **args))
        del curves[-1]["charts/SPS"]
        weights.append(script.load_checkpoint(this_run())["agent"])
    assert curves[0] == curves[1] != curves[2]
    equal = [torch.equal(weights[0][k], weights[1][k]) for k in weights[0]]
    assert all(equal) and not torch.equal(weights[0]["obs_rms.mean"], weights[2]["obs_rms.mean"])


@pytest.mark.any_ppo
def test_no_two_environments_have_a_seed_in_common(script, train, monkeypatch):
    """Neither in one run, nor in those of seeds 1 and 2, nor before and after resuming, but the
    evaluation of a run is the same before and after."""
    seeds, original = [], small.Match.reset

    def reset(self, *, seed=None, options=None):
        seeds.extend([] if seed is None else [seed])
        return original(self, seed=seed, options=options)

    monkeypatch.setattr(small.Match, "reset", reset)
    for seed in (2, 1):
        train(script, env_id=small_env(script, "Match"), seed=seed, **TINY)
    flags = script.load_checkpoint(this_run())["args"] | {"total_timesteps": 1000}
    script.main(script.Args(**flags | {"resume": str(this_run())}))
    seeds_2, seeds_1, resumed = seeds[:6], seeds[6:12], seeds[12:]
    assert len({*seeds_2, *seeds_1, *resumed}) == 6 + 6 + 4
    assert resumed[4:] == seeds_1[4:]  # of the evaluation


@pytest.mark.any_ppo
def test_seeds_1_and_2_begin_with_other_weights(script, train, monkeypatch):
    """And torch has as many threads as asked for."""
    weights, original, threads = [], script.Agent.__init__, torch.get_num_threads()

    def init(self, *args):
        original(self, *args)
        weights.append(torch.cat([p.detach().flatten() for p in self.parameters()]))

    monkeypatch.setattr(script.Agent, "__init__", init)
    for seed, num_threads in ((1, 1), (2, 2), (1, 1)):
        train(script, env_id=small_env(script, "Match"), seed=seed, num_threads=num_threads, **TINY)
        assert torch.get_num_threads() == num_threads
    torch.set_num_threads(threads)
    assert torch.equal(weights[0], weights[2]) and (weights[0] - weights[1]).abs().max() > 0.1


# The evaluation


@pytest.mark.any_ppo
@pytest.mark.parametrize("max_steps, expected", [(100, [2, 3, 4, 5]), (3, [2, 3, 3, 3])])
def test_evaluation_plays_one_episode_in_each_environment(script, monkeypatch, max_steps, expected):
    """Episodes of 2, 3, 4, 5, 2, .. steps, each with a reward of 1; of an agent without training,
    with the return so far of an episode that does not end."""
    lengths, closed = [], []

    def begin(self):
        self.length = 2 + len(lengths) % 4
        lengths.append(self.length)
        return self.obs()

    def step(self, action):
        self.t += 1
        return self.obs(), 1.0, self.t == self.length, False, {}

    def close(self):
        closed.append(self)

    for name, method in (("begin", begin), ("step", step), ("close", close)):
        monkeypatch.setattr(small.Endless, name, method)
    args = script.Args(env_id=small_env(script, "Endless"))
    envs = script.make_envs(args, 8)
    returns = script.evaluate(script.Agent(envs, args), envs, seed=1, max_steps=max_steps)
    assert returns.tolist() == expected * 2 and len(closed) == 8


@pytest.mark.any_ppo
def test_evaluation_leaves_the_agent_as_it_is(script, train):
    train(script, env_id=BENCHMARK[script.__name__], **TINY)
    agent, envs = agent_of(script, num_envs=4)
    before = {key: value.clone() for key, value in agent.state_dict().items()}
    first = script.evaluate(agent, envs, seed=5)
    assert all(torch.equal(value, before[key]) for key, value in agent.state_dict().items())
    again = script.evaluate(agent, agent_of(script, num_envs=4)[1], seed=5)
    assert again.tolist() == first.tolist() and len(set(first.tolist())) > 1


def test_one_environment_exists_at_a_time(script, train):
    args = TINY | dict(num_envs=1, eval_episodes=1)
    logged = train(script, env_id=small_env(script, "Single"), **args)
    assert "eval/episodic_return" in logged and not small.Single.alive


def test_environment_arguments_reach_training_and_evaluation(script, train):
    flags = TINY | dict(env_kwargs='{"max_episode_steps": 3}')
    logged = train(script, env_id=small_env(script, "Endless"), **flags)
    assert {length for _, length in logged["charts/episodic_length"]} == {3}
    assert logged["eval/episodic_return"][0][1] == 3


# Curves


@pytest.mark.any_ppo
def test_every_curve_is_there_at_every_update(script, train, monkeypatch):
    """Episodes of eight steps, whatever the rollout cuts."""
    monkeypatch.setattr(script, "evaluate", lambda *args: np.array([0.0, 1.0, 11.0]))
    args = dict(num_envs=3, num_steps=13, num_minibatches=1, total_timesteps=1200, eval_episodes=3)
    logged = train(script, env_id=small_env(script, "Match"), **args)
    assert logged.keys() >= EVERY_UPDATE | EPISODES | {"eval/episodic_return"} and finite(logged)
    steps = [step for step, _ in logged["losses/policy_loss"]]
    for tag in EVERY_UPDATE:
        assert [step for step, _ in logged[tag]] == steps, tag
    assert all(0 < gap <= 39 for gap in np.diff(steps)) and 1200 <= steps[-1] < 1200 + 39
    assert logged["eval/episodic_return"] == [(steps[-1], 4.0)]
    assert {length for _, length in logged["charts/episodic_length"]} == {8.0}
    last_100 = script.load_checkpoint(this_run())["recent_returns"]
    assert len(last_100) == 100
    assert logged["charts/episodic_return_100"][-1][1] == pytest.approx(np.mean(last_100))


@pytest.mark.any_ppo
def test_what_has_no_value_is_absent(script, train, monkeypatch):
    """No episode has ended, and all returns are 0."""
    monkeypatch.setattr(small.Endless, "step", lambda self, _: (self.obs(), 0.0, False, False, {}))
    args = TINY | dict(eval_episodes=0, gamma=0)
    logged = train(script, env_id=small_env(script, "Endless"), **args)
    absent = EPISODES | {"losses/explained_variance", "eval/episodic_return"}
    assert logged.keys() >= EVERY_UPDATE - absent and not logged.keys() & absent and finite(logged)


# What is refused, before anything is written


WRONG = [{name: -0.1} for name in ("gamma", "gae_lambda", "clip_coef", "max_grad_norm")]
WRONG += [{name: 1.5} for name in ("gamma", "gae_lambda")] + [dict(update_epochs=0)]
# A batch too small for its minibatches
WRONG += [{**batch, "num_minibatches": 3} for batch in (
    dict(num_envs=2, num_steps=4), dict(num_envs=0), dict(num_steps=0))]  # fmt: skip
WRONG += [dict(num_minibatches=0)]


@pytest.mark.parametrize("flags", WRONG, ids=str)
def test_flags_out_of_range_are_refused(script, tmp_path, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match=f"^--{list(flags)[-1].replace('_', '-')} "):
        script.main(script.Args(**TINY | flags))
    assert not list(tmp_path.iterdir())


OTHERS = [dict(ent_coef=np.nan), dict(clip_coef=np.inf), dict(seed=-1), dict(learning_rate=-1)]


@pytest.mark.parametrize("flags", OTHERS, ids=str)
def test_other_wrong_numbers_raise_before_anything_is_written(script, tmp_path, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError):
        script.main(script.Args(env_id=small_env(script, "Match"), **TINY | flags))
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name, message",
    [
        ("Pixels", "too many values to unpack"),
        ("SameStep", "NEXT_STEP"),
        ("Silent", "NEXT_STEP"),
        ("From1-v0", "does not support actions Discrete"),
        ("other", "does not support actions"),
    ],
)
def test_environments_that_do_not_fit_are_refused(script, tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    env_id = f"envs:{name}" if "-" in name else small_env(script, name)
    if name == "other":
        env_id = {"ppo": "Pendulum-v1", "ppo_continuous": "CartPole-v1"}[script.__name__]
    with pytest.raises(ValueError, match=message):
        script.main(script.Args(env_id=env_id, **TINY))
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["observation", "reward"])
@pytest.mark.parametrize("at", [1, 100], ids=["first rollout", "later"])
def test_nan_and_infinity_reach_neither_weights_nor_checkpoint(script, train, monkeypatch, how, at):
    agents, original = [], script.Agent.__init__

    def init(self, *args):
        original(self, *args)
        agents.append((self, {key: value.clone() for key, value in self.state_dict().items()}))

    monkeypatch.setattr(script.Agent, "__init__", init)
    args = TINY | dict(env_kwargs=json.dumps({"how": how, "at": at}), checkpoint_interval=0)
    with pytest.raises(ValueError, match="envs:Broken.* NaN or infinite observation or reward"):
        train(script, env_id=small_env(script, "Broken"), **args | dict(total_timesteps=2000))
    ((agent, before),) = agents
    if at == 100:  # the checkpoint after the last update
        before = script.load_checkpoint(this_run())["agent"]
        assert before["obs_rms.count"] > 64
    assert all(torch.equal(value, before[key]) for key, value in agent.state_dict().items())
    assert bool(list(this_run().glob("*.pt"))) == (at == 100)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_errors_of_an_environment_come_as_they_are(script, train, mode):
    env_id, args = small_env(script, "Broken"), TINY | dict(total_timesteps=2000)
    with pytest.raises(ValueError, match="the motor is on fire"):
        train(script, env_id=env_id, vectorization_mode=mode, env_kwargs='{"how": "error"}', **args)
    with pytest.raises(TypeError, match="how"):
        train(script, env_id=env_id, vectorization_mode=mode, **args)


# Use from programs


def test_arguments_may_be_numpy_numbers_and_are_kept_as_json(script, train):
    def refuse(constant):
        raise AssertionError(constant)

    args = dict(env_id=small_env(script, "Match"), gamma=0.5, norm_adv=False, target_kl=0.25) | TINY
    kinds = {int: np.int32, float: np.float32, bool: np.bool_, str: str}
    train(script, **{name: kinds[type(value)](value) for name, value in args.items()})
    kept = json.loads((this_run() / "args.json").read_text(), parse_constant=refuse)
    assert kept == vars(script.Args(**args))
    assert torch.load(this_run() / "checkpoint.pt", weights_only=True)["args"] == kept


def test_two_runs_in_a_thread_have_two_folders(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = script.Args(env_id=small_env(script, "Match"), exp_name="a/b: c", **TINY)
    thread = threading.Thread(target=lambda: (script.main(args), script.main(args)))
    thread.start()
    thread.join()
    runs = [read_run(run) for run in Path("runs").iterdir()]
    assert len(runs) == 2 and all("eval/episodic_return" in logged for logged in runs)


PROGRAM = """
import signal, sys
sys.modules |= dict.fromkeys(("fcntl", "resource", "pwd"))
for name in ("SIGHUP", "SIGKILL", "SIGUSR1"):
    delattr(signal, name)
sys.path[:0] = sys.argv[2:]
from ppo import Agent, Args, evaluate, load_checkpoint, main, make_envs

main(Args(env_id="envs:Match-v0", num_envs=4, total_timesteps=1000))
checkpoint = load_checkpoint(sys.argv[1])
args = Args(**checkpoint["args"])
envs = make_envs(args, 5)
agent = Agent(envs, args)
agent.load_state_dict(checkpoint["agent"])
assert evaluate(agent, envs, seed=1).shape == (5,)
"""


def test_another_program_uses_the_script_on_windows(ppo, tmp_path, train):
    """From another folder, without what Windows does not have."""
    train(ppo, env_id="envs:Match-v0", **TINY)
    folders = [Path(ppo.__file__).parent, Path(__file__).parent]
    command = [sys.executable, "-c", PROGRAM, this_run().resolve(), *folders]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert "eval/episodic_return" in read_run(run)


@pytest.mark.filterwarnings("ignore")
def test_the_onnx_file_acts_as_the_agent_does(script, train):
    train(script, env_id=BENCHMARK[script.__name__], **TINY | dict(total_timesteps=3000))
    agent, envs = agent_of(script, num_envs=32)
    obs, _ = envs.reset(seed=1)
    torch.onnx.export(agent, (torch.as_tensor(obs),), "agent.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession("agent.onnx")
    (actions,) = session.run(None, {session.get_inputs()[0].name: obs})
    assert actions == pytest.approx(agent(torch.as_tensor(obs)).numpy(force=True), abs=1e-5)
    assert len(np.unique(actions)) > 1 and all(map(envs.single_action_space.contains, actions))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", [None, "sync"])
def test_the_video_shows_one_greedy_episode(script, train, mode):
    from moviepy import VideoFileClip

    args = TINY | dict(eval_episodes=0, capture_video=True, vectorization_mode=mode)
    train(script, env_id=BENCHMARK[script.__name__], env_kwargs='{"max_episode_steps": 20}', **args)
    (video,) = this_run().rglob("*.mp4")
    with VideoFileClip(str(video)) as clip:
        assert 5 < clip.duration * clip.fps <= 22 and clip.get_frame(0).std() > 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_the_compiled_loss_is_the_same(script, train):
    """Up to how the compiler rounds."""
    flags = dict(env_id=BENCHMARK[script.__name__], **TINY)
    eager, compiled = train(script, **flags), train(script, **flags, compile=True)
    for key in eager.keys() - {"charts/SPS", "eval/episodic_return"}:
        assert dict(compiled[key]) == pytest.approx(dict(eager[key]), rel=1e-3, abs=1e-5), key
