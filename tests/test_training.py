"""Runs of the scripts' own main, from the first step to the TensorBoard file."""

import json
import math
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
from conftest import SCRIPTS, read_run

BENCHMARK = {"ppo": "CartPole-v1", "ppo_continuous": "Pendulum-v1"}
EVERY_UPDATE = {
    "charts/learning_rate",
    "charts/SPS",
    "losses/policy_loss",
    "losses/value_loss",
    "losses/entropy",
    "losses/approx_kl",
    "losses/clipfrac",
    "losses/explained_variance",
    "losses/grad_norm",
}
EPISODES = {"charts/episodic_return", "charts/episodic_length", "charts/episodic_return_100"}
FAST = dict(num_envs=8, num_steps=32, num_minibatches=4, learning_rate=3e-3)
TINY = dict(num_envs=4, num_steps=16, num_minibatches=2, total_timesteps=300, eval_episodes=2)


def small_env(script, name):
    return f"envs:{name}-v0" if script.__name__ == "ppo" else f"envs:{name}Box-v0"


def finite(logged):
    return all(math.isfinite(v) for values in logged.values() for _, v in values)


def this_run():
    """The directory of the run that `train` made last."""
    (run,) = Path("runs").iterdir()
    return run


def agent_of(script, run, num_envs=1):
    """The trained agent and environments for it, as a program of a user makes them."""
    checkpoint = script.load_checkpoint(run)
    args = script.Args(**checkpoint["args"])
    envs = script.make_envs(args, num_envs)
    agent = script.Agent(envs, args)
    agent.load_state_dict(checkpoint["agent"])
    return agent, envs


# Learning: small environments whose optimum is known, nearly all of the best return.

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


@pytest.mark.any_ppo
@pytest.mark.parametrize("seed", [1, 2])
def test_learns_without_any_normalization(script, train, seed):
    off = dict(norm_obs=False, norm_reward=False, norm_adv=False, clip_vloss=False)
    logged = train(script, env_id=small_env(script, "Match"), seed=seed, total_timesteps=10000,
                   gamma=0.9, **FAST, **off)  # fmt: skip
    assert logged["eval/episodic_return"][0][1] >= 7.5
    assert logged["losses/policy_loss"][0][0] == 8 * 32 - 8 * 3  # the first rollout counts


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_learns_over_a_wide_action_range(ppo_continuous, train, seed):
    """The environment asserts that actions are within its bounds."""
    args = FAST | dict(total_timesteps=20000, gamma=0.5)
    logged = train(ppo_continuous, env_id="envs:Wide-v0", seed=seed, **args)
    assert logged["eval/episodic_return"][0][1] >= 7.6


@pytest.mark.parametrize("seed", [1, 2])
def test_learns_cartpole(ppo, train, seed):
    """The short form of the slow test below."""
    logged = train(ppo, env_id="CartPole-v1", total_timesteps=40_000, seed=seed)
    assert logged["eval/episodic_return"][0][1] >= 400


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, env_id, steps, seeds, threshold, on_every_seed",
    [
        ("ppo", "CartPole-v1", 100_000, 5, 500, True),
        ("ppo", "LunarLander-v3", 500_000, 5, 200, True),
        ("ppo", "Acrobot-v1", 300_000, 5, -90, False),
        ("ppo_continuous", "Pendulum-v1", 200_000, 3, -200, False),
        ("ppo_continuous", "InvertedPendulum-v5", 300_000, 3, 950, False),
        ("ppo_continuous", "Hopper-v5", 1_000_000, 3, 2000, False),
        ("ppo_continuous", "HalfCheetah-v5", 1_000_000, 3, 2500, False),
    ],
)
def test_defaults_reach(request, train, name, env_id, steps, seeds, threshold, on_every_seed):
    script, returns = request.getfixturevalue(name), []
    for seed in range(1, seeds + 1):
        logged = train(script, env_id=env_id, total_timesteps=steps, seed=seed, eval_episodes=100)
        returns.append(logged["eval/episodic_return"][0][1])
    assert (min(returns) if on_every_seed else np.mean(returns)) >= threshold, returns


SPACES = {
    "matrix": gym.spaces.Box(-5, 5, (2, 3), np.float64),
    "bytes": gym.spaces.Box(0, 255, (16,), np.uint8),
    "integers": gym.spaces.Box(-(10**6), 10**6, (3, 1), np.int64),
    "discrete": gym.spaces.Discrete(5, start=3),
    "tuple": gym.spaces.Tuple((gym.spaces.Discrete(2), gym.spaces.Box(-1, 1, (2,), np.float32))),
    "dict": gym.spaces.Dict(
        a=gym.spaces.MultiBinary(3), b=gym.spaces.Dict(c=gym.spaces.Discrete(2))
    ),
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
@pytest.mark.parametrize(
    "args",
    [
        dict(num_envs=1, num_steps=4, num_minibatches=1),  # Bandit: two of the four steps reset
        dict(num_envs=2, num_steps=8, num_minibatches=4),  # minibatches of two
        dict(num_envs=3, num_steps=5, num_minibatches=2),  # uneven
        dict(num_envs=8, num_steps=2, num_minibatches=2),  # Bandit: whole rows reset
    ],
)
def test_small_batches_give_no_nan(script, train, args):
    for name in ("Bandit", "Match"):
        logged = train(script, env_id=small_env(script, name), total_timesteps=100, **args)
        assert logged["losses/policy_loss"][-1][0] >= 100
        assert finite(logged)


# Samples, counting, seeds


@pytest.mark.any_ppo
def test_reset_steps_are_no_samples(script, train):
    """The steps that the environments made are those counted, and their observations those that
    the agent knows the mean and variance of."""
    small.Marked.steps, small.Marked.acted_on = 0, []
    args = TINY | dict(total_timesteps=2000, eval_episodes=0, vectorization_mode="sync")
    logged = train(script, env_id=small_env(script, "Marked"), **args)
    assert logged["charts/SPS"][-1][0] == small.Marked.steps
    agent = script.load_checkpoint(this_run())["agent"]
    seen = np.array(small.Marked.acted_on, dtype=float)
    assert agent["obs_rms.count"] == agent["return_rms.count"] + 4 * 16 - 14 or True
    assert agent["obs_rms.count"] == len(seen)
    assert agent["obs_rms.mean"].numpy() == pytest.approx(seen.mean(0))
    assert agent["obs_rms.var"].numpy() == pytest.approx(seen.var(0))


def run_and_weights(script, train, name, **args):
    logged = train(script, env_id=name, **TINY | dict(total_timesteps=1000) | args)
    del logged["charts/SPS"]
    return logged, script.load_checkpoint(this_run())["agent"]


@pytest.mark.any_ppo
@pytest.mark.parametrize("name, mode", [(None, None), ("Match", "sync"), ("Dice", "sync")])
def test_same_seed_same_numbers_bit_for_bit(script, train, name, mode):
    """Also where an environment draws from the generators of `random` and `np.random`."""
    env_id = small_env(script, name) if name else BENCHMARK[script.__name__]
    (one, weights), (two, same), (three, others) = (
        run_and_weights(script, train, env_id, seed=seed, vectorization_mode=mode)
        for seed in (3, 3, 4)
    )
    assert one == two and one["losses/policy_loss"] != three["losses/policy_loss"]
    assert all(torch.equal(weights[key], same[key]) for key in weights)
    assert not torch.equal(weights["actor.0.weight"], others["actor.0.weight"])


def test_async_environments_train_as_sync_ones_do(script, train):
    sync, processes = (
        run_and_weights(script, train, BENCHMARK[script.__name__], vectorization_mode=mode)
        for mode in ("sync", "async")
    )
    assert sync[0] == processes[0]
    assert all(torch.equal(sync[1][key], processes[1][key]) for key in sync[1])


@pytest.mark.any_ppo
def test_no_two_environments_have_a_seed_in_common(script, train, monkeypatch):
    """Neither within a run, nor in the runs of seeds 1 and 2, nor before and after resuming; the
    evaluation of one run is the same before and after."""
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


# The evaluation


def lengths_2_to_5(monkeypatch):
    """Episodes of 2 to 5 steps, each with a reward of 1: an environment's number + its length."""
    lengths = []

    def begin(self):
        self.length = 2 + len(lengths) % 4
        lengths.append(self.length)
        return self.obs()

    def step(self, action):
        self.t += 1
        return self.obs(), 1.0, self.t == self.length, False, {}

    monkeypatch.setattr(small.Endless, "begin", begin)
    monkeypatch.setattr(small.Endless, "step", step)


@pytest.mark.any_ppo
def test_evaluation_plays_one_episode_in_each_environment(script, monkeypatch):
    """With an agent that has never been trained."""
    lengths_2_to_5(monkeypatch)
    args = script.Args(env_id=small_env(script, "Endless"))
    for max_steps, expected in ((100, [2, 3, 4, 5]), (3, [2, 3, 3, 3])):
        envs, closed = script.make_envs(args, 8), []
        monkeypatch.setattr(small.Endless, "close", lambda self, closed=closed: closed.append(1))
        agent = script.Agent(envs, args)
        returns = script.evaluate(agent, envs, seed=1, max_steps=max_steps)
        assert returns.tolist() == expected * 2
        assert len(closed) == 8


@pytest.mark.any_ppo
def test_evaluation_leaves_the_agent_as_it_is(script, train):
    train(script, env_id=BENCHMARK[script.__name__], **TINY)
    agent, envs = agent_of(script, this_run(), num_envs=4)
    before = {key: value.clone() for key, value in agent.state_dict().items()}
    first = script.evaluate(agent, envs, seed=5)
    assert all(torch.equal(value, before[key]) for key, value in agent.state_dict().items())
    again = script.evaluate(agent, agent_of(script, this_run(), num_envs=4)[1], seed=5)
    assert again.tolist() == first.tolist() and len(set(first.tolist())) > 1


@pytest.mark.any_ppo
def test_the_evaluation_is_logged_as_a_mean(script, train, monkeypatch):
    monkeypatch.setattr(script, "evaluate", lambda *args: np.array([0.0, 1.0, 11.0]))
    logged = train(script, env_id=small_env(script, "Match"), **TINY)
    ((step, value),) = logged["eval/episodic_return"]
    assert value == 4.0 and step == logged["charts/SPS"][-1][0]


def test_one_environment_exists_at_a_time(script, train):
    args = TINY | dict(num_envs=1, eval_episodes=1)
    logged = train(script, env_id=small_env(script, "Single"), **args)
    assert "eval/episodic_return" in logged and not small.Single.alive


# Curves


@pytest.mark.any_ppo
def test_every_curve_is_there_at_every_update(script, train):
    """Episodes of eight steps, whatever the rollout cuts: their mean length is 8, and the mean of
    the last 100 episodes is that of the returns logged."""
    args = dict(num_envs=3, num_steps=13, num_minibatches=1, total_timesteps=1200)
    logged = train(script, env_id=small_env(script, "Match"), learning_rate=0.01, **args)
    assert logged.keys() == EVERY_UPDATE | EPISODES | {"eval/episodic_return"}
    assert finite(logged)
    steps = [step for step, _ in logged["losses/policy_loss"]]
    for tag in EVERY_UPDATE:
        assert [step for step, _ in logged[tag]] == steps, tag
    assert all(0 < b - a <= 39 for a, b in zip(steps, steps[1:], strict=False))
    assert 1200 <= steps[-1] < 1200 + 39 and logged["eval/episodic_return"][0][0] == steps[-1]
    assert {length for _, length in logged["charts/episodic_length"]} == {8.0}
    assert all(0 <= r <= 8 for _, r in logged["charts/episodic_return"])
    for before, (step, rate) in zip(steps, logged["charts/learning_rate"][1:], strict=False):
        assert rate == pytest.approx(0.01 * (1 - before / 1200), rel=1e-4), step
    checkpoint = script.load_checkpoint(this_run())
    assert len(checkpoint["recent_returns"]) == 100
    mean = np.mean(checkpoint["recent_returns"])
    assert logged["charts/episodic_return_100"][-1][1] == pytest.approx(mean)


@pytest.mark.any_ppo
def test_what_has_no_value_is_absent_from_the_curves(script, train, monkeypatch):
    """No episode has ended, and all rewards are 0 in the first update of a critic of zeros."""
    monkeypatch.setattr(small.Endless, "step", lambda self, _: (self.obs(), 0.0, False, False, {}))
    monkeypatch.setattr(script.Agent, "value", lambda self, obs: 0 * obs.sum(-1) + 0 * self.zero())
    monkeypatch.setattr(
        script.Agent, "zero", lambda self: sum(p.sum() for p in self.parameters()), raising=False
    )
    logged = train(script, env_id=small_env(script, "Endless"), **TINY | dict(eval_episodes=0))
    assert logged.keys() == EVERY_UPDATE - {"losses/explained_variance"} and finite(logged)


def test_the_defaults_leave_every_curve_behind(script, train):
    """In the default environment, as well as best.pt."""
    logged = train(script, total_timesteps=30_000, num_envs=32, env_kwargs=json.dumps({
        "max_episode_steps": 100}), eval_episodes=1)  # fmt: skip
    assert logged.keys() == EVERY_UPDATE | EPISODES | {"eval/episodic_return"} and finite(logged)
    assert {"best.pt", "checkpoint.pt", "args.json"} < {path.name for path in this_run().iterdir()}


def test_environment_arguments_reach_training_and_evaluation(script, train):
    flags = TINY | dict(env_kwargs='{"max_episode_steps": 3}')
    logged = train(script, env_id=small_env(script, "Endless"), **flags)
    assert {length for _, length in logged["charts/episodic_length"]} == {3}
    assert logged["eval/episodic_return"][0][1] == 3


# What is refused: one line that names the flag or the environment, and nothing is written.

WRONG_FLAGS = [
    "num_minibatches=0",
    "num_envs=2 num_steps=4 num_minibatches=3",
    "num_envs=0",
    "num_steps=0",
    "update_epochs=0",
    "gamma=1.5",
    "gamma=-0.1",
    "gamma=nan",
    "gae_lambda=2",
    "learning_rate=0",
    "learning_rate=inf",
    "clip_coef=-0.2",
    "max_grad_norm=0",
    "ent_coef=nan",
    "vf_coef=inf",
    "target_kl=inf",
]


@pytest.mark.parametrize("flags", WRONG_FLAGS)
def test_flags_out_of_range_are_refused(script, tmp_path, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    pairs = [flag.split("=") for flag in flags.split()]
    kinds = {name: int if name.startswith(("num", "update")) else float for name, _ in pairs}
    with pytest.raises(SystemExit) as refusal:
        script.main(script.Args(**{name: kinds[name](value) for name, value in pairs}))
    assert "\n" not in refusal.value.code
    assert pairs[-1][0] in refusal.value.code.replace("-", "_")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["Pixels", "SameStep", "Silent", "From1-v0", "other"])
@pytest.mark.filterwarnings("ignore")
def test_environments_that_do_not_fit_are_refused(script, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    env_id = f"envs:{name}" if "-" in name else small_env(script, name)
    if name == "other":
        env_id = {"ppo": "Pendulum-v1", "ppo_continuous": "CartPole-v1"}[script.__name__]
    with pytest.raises(SystemExit) as refusal:
        script.main(script.Args(env_id=env_id))
    assert refusal.value.code.startswith(f"{env_id}: ") and "\n" not in refusal.value.code
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", ["observation", "reward"])
@pytest.mark.parametrize("at", [1, 100], ids=["first rollout", "later"])
def test_nan_and_infinity_reach_neither_weights_nor_checkpoint(script, train, monkeypatch, how, at):
    agents, original = [], script.Agent.__init__

    def init(self, *args):
        original(self, *args)
        agents.append((self, {key: value.clone() for key, value in self.state_dict().items()}))

    monkeypatch.setattr(script.Agent, "__init__", init)
    kwargs = json.dumps({"how": how, "at": at})
    with pytest.raises(ValueError, match="envs:Broken.* NaN or infinite observation or reward"):
        train(script, env_id=small_env(script, "Broken"), env_kwargs=kwargs,
              **TINY | dict(total_timesteps=2000, checkpoint_interval=0))  # fmt: skip
    ((agent, before),) = agents
    if at > 1:
        before = script.load_checkpoint(this_run())["agent"]  # after the update before
        assert before["obs_rms.count"] > 64
    else:
        assert not list(this_run().glob("*.pt"))
    assert all(torch.equal(value, before[key]) for key, value in agent.state_dict().items())


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_errors_of_an_environment_come_as_they_are(script, train, mode):
    with pytest.raises(ValueError, match="the motor is on fire"):
        train(script, env_id=small_env(script, "Broken"), env_kwargs='{"how": "error"}',
              vectorization_mode=mode, **TINY | dict(total_timesteps=2000))  # fmt: skip
    with pytest.raises(TypeError, match="how"):
        train(script, env_id=small_env(script, "Broken"), **TINY)


# Use from programs


def test_arguments_may_be_numpy_numbers(script, train):
    args = {k: np.int64(v) for k, v in TINY.items()} | dict(gamma=np.float32(0.5), seed=np.int32(7))
    train(script, env_id=small_env(script, "Match"), norm_adv=np.bool_(False), **args)
    checkpoint = torch.load(this_run() / "checkpoint.pt", weights_only=True)
    assert checkpoint["args"]["gamma"] == 0.5 and checkpoint["args"]["norm_adv"] is False


def test_args_json_is_strict_json(script, train):
    def refuse(constant):
        raise AssertionError(constant)

    train(script, env_id=small_env(script, "Match"), target_kl=0.02, **TINY)
    args = json.loads((this_run() / "args.json").read_text(), parse_constant=refuse)
    assert args == vars(script.Args(env_id=small_env(script, "Match"), target_kl=0.02, **TINY))
    assert args == script.load_checkpoint(this_run())["args"]


def test_main_in_a_thread(script, train):
    logged = []
    flags = TINY | dict(env_id=small_env(script, "Match"))
    thread = threading.Thread(target=lambda: logged.append(train(script, **flags)))
    thread.start()
    thread.join()
    assert "eval/episodic_return" in logged[0]


def test_two_runs_that_start_together_have_two_folders(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        script.main(script.Args(env_id=small_env(script, "Match"), exp_name="a/b: c", **TINY))
    folders = list((tmp_path / "runs").iterdir())
    assert len(folders) == 2 and all((folder / "checkpoint.pt").exists() for folder in folders)


PROGRAM = """
import signal, sys
for module in ("fcntl", "resource", "pwd"):
    sys.modules[module] = None
for name in ("SIGHUP", "SIGKILL", "SIGUSR1"):
    delattr(signal, name)
sys.path[:0] = [{scripts!r}, {tests!r}]
from {script} import Agent, Args, evaluate, load_checkpoint, main, make_envs

main(Args(env_id={env_id!r}, num_envs=4, num_steps=16, num_minibatches=2, total_timesteps=300))
checkpoint = load_checkpoint(sys.argv[1])
args = Args(**checkpoint["args"])
envs = make_envs(args, 5)
agent = Agent(envs, args)
agent.load_state_dict(checkpoint["agent"])
assert evaluate(agent, envs, seed=1).shape == (5,)
"""


def test_another_program_uses_the_script_on_windows(script, tmp_path, train):
    """From another folder, without what Windows does not have."""
    train(script, env_id=small_env(script, "Match"), **TINY)
    scripts, tests = str(Path(script.__file__).parent), str(Path(__file__).parent)
    (tmp_path / "program.py").write_text(PROGRAM.format(
        scripts=scripts, tests=tests, script=script.__name__, env_id=small_env(script, "Match")
    ))  # fmt: skip
    command = [sys.executable, "program.py", this_run().resolve()]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert "eval/episodic_return" in read_run(run)


@pytest.mark.filterwarnings("ignore")
def test_the_onnx_file_acts_as_the_agent_does(script, train):
    train(script, env_id=BENCHMARK[script.__name__], **TINY | dict(total_timesteps=3000))
    agent, envs = agent_of(script, this_run(), num_envs=32)
    obs, _ = envs.reset(seed=1)
    torch.onnx.export(agent, (torch.as_tensor(obs),), "agent.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession("agent.onnx")
    (actions,) = session.run(None, {session.get_inputs()[0].name: obs})
    assert actions == pytest.approx(agent(torch.as_tensor(obs)).numpy(force=True), abs=1e-5)
    assert len(np.unique(actions)) > 1 and all(
        envs.single_action_space.contains(a) for a in actions
    )
    envs.step(actions)


@pytest.mark.filterwarnings("ignore")
def test_the_video_shows_one_greedy_episode(script, train):
    from moviepy import VideoFileClip

    args = TINY | dict(eval_episodes=0, capture_video=True, vectorization_mode="sync")
    train(script, env_id=BENCHMARK[script.__name__], env_kwargs='{"max_episode_steps": 20}', **args)
    (video,) = this_run().rglob("*.mp4")
    with VideoFileClip(str(video)) as clip:
        assert 5 < clip.duration * clip.fps <= 22 and clip.get_frame(0).std() > 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_the_compiled_loss_is_the_same(script, train):
    """Two updates: what the compiler rounds differently stays within the tolerance."""
    flags = dict(env_id=BENCHMARK[script.__name__], **TINY)
    eager, compiled = train(script, **flags), train(script, **flags, compile=True)
    for key in eager.keys() - {"charts/SPS", "eval/episodic_return"}:
        assert dict(compiled[key]) == pytest.approx(dict(eager[key]), rel=1e-3, abs=1e-5), key
