"""What is told before anything is written: one line on standard error, exit code 2, no file."""

import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import SCRIPTS
from envs import Bandit, Small

COUNT, FRACTION, WEIGHT, POSITIVE = "1 <= x <= 10**6", "0 <= x <= 1", "0 <= x < inf", "x > 0"
OUT_OF_RANGE = [
    ("--seed -1", "0 <= x < 2**63"),
    ("--seed 9223372036854775808", "0 <= x < 2**63"),
    ("--num-threads 0", COUNT),
    ("--total-timesteps 0", POSITIVE),
    ("--total-timesteps -5", POSITIVE),
    ("--num-envs 0", COUNT),
    ("--num-envs -8", COUNT),
    ("--num-envs 10000000", COUNT),
    ("--num-steps 0", COUNT),
    ("--num-steps 10000000", COUNT),
    ("--learning-rate -1e-3", WEIGHT),
    ("--learning-rate nan", WEIGHT),
    ("--learning-rate inf", WEIGHT),
    ("--gamma 1.5", FRACTION),
    ("--gamma -0.1", FRACTION),
    ("--gamma nan", FRACTION),
    ("--gae-lambda 2", FRACTION),
    ("--gae-lambda nan", FRACTION),
    ("--num-minibatches 0", COUNT),
    ("--num-envs 4 --num-minibatches 100000", "at most T*N = "),
    ("--num-envs 2 --num-steps 4 --num-minibatches 9", "at most T*N = 8"),
    ("--update-epochs 0", COUNT),
    ("--clip-coef 0", POSITIVE),
    ("--clip-coef -0.2", POSITIVE),
    ("--clip-coef nan", POSITIVE),
    ("--ent-coef -0.01", WEIGHT),
    ("--ent-coef inf", WEIGHT),
    ("--vf-coef -1", WEIGHT),
    ("--vf-coef nan", WEIGHT),
    ("--max-grad-norm 0", POSITIVE),
    ("--max-grad-norm nan", POSITIVE),
    ("--target-kl 0", POSITIVE),
    ("--target-kl -1", POSITIVE),
    ("--eval-episodes -1", "0 <= x <= 10**6"),
    ("--checkpoint-interval 0", COUNT),
]
BAD_ENVIRONMENT = [
    ("--env-id CartPol-v1", "Did you mean: `CartPole`"),
    ("--env-id CartPole-v9", "versioned environments: [ `v0`, `v1` ]"),
    ("--env-id LunarLander-v2", "use `LunarLander-v3` instead"),
    ("--env-id Nonsense-v0", "doesn't exist"),
    ("--env-id ''", "Malformed environment ID"),
    ("--env-id no_such_module:Env-v0", "No module named 'no_such_module'"),
    ("--env-id envs:Image-v0", "vectors but no images"),
    ("--env-id envs:Unsized-v0", "vectors but no images"),
    ("--env-id envs:SameStep-v0", "resets by AutoresetMode.SAME_STEP"),
    ("--env-id envs:Blind-v0", "(0,), float32), acts in"),
    ("--env-id envs:Buttons-v0", "acts in MultiBinary(3)"),
    ("--env-id envs:Integers-v0", "Boxes of floats in ppo_continuous.py"),
    ("--env-id envs:Pair-v0", "acts in Tuple(Discrete(2), Discrete(2))"),
]
BAD_RESUME = [
    ("--resume nowhere", "nowhere/checkpoint.pt"),
    ("--resume nowhere/checkpoint.pt", "nowhere/checkpoint.pt"),
    ("--resume ''", "--resume"),
    ("--resume empty", "empty/checkpoint.pt"),
    ("--resume file", "file/checkpoint.pt"),
    ("--resume truncated", "truncated"),
    ("--resume garbage", "garbage"),
    ("--resume hollow", "hollow"),
    ("--resume pipe", "a link or pipe"),
    ("--resume linked", "a link or pipe"),
    ("--resume mistyped", "mistyped"),
    ("--resume pickle", "weights_only"),
    ("--resume foreign", "unexpected keyword argument 'dropout'"),
    ("--resume run --no-norm-obs", "obs_moments"),
    ("--resume run --no-norm-reward", "return_moments"),
    ("--resume run --env-id envs:Wider-v0", "size mismatch for actor.0.weight"),
    ("--resume run --gamma 2", FRACTION),
]


class Image(Small):
    observation_space = gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)


class Unsized(Small):
    observation_space = gym.spaces.Sequence(gym.spaces.Discrete(3))


class Wider(Bandit):
    observation_space = gym.spaces.Box(-1, 1, (5,), np.float32)


class Unbuildable(Small):
    def __init__(self, **_):
        raise RuntimeError("the licence has run out")


class Blind(Small):
    observation_space = gym.spaces.Box(-1, 1, (0,), np.float32)


class Buttons(Small):
    def __init__(self):
        self.action_space = gym.spaces.MultiBinary(3)


class Integers(Small):
    def __init__(self):
        self.action_space = gym.spaces.Box(0, 9, (1,), np.int64)


class Pair(Small):
    def __init__(self):
        self.action_space = gym.spaces.Tuple([gym.spaces.Discrete(2)] * 2)


def same_step(num_envs, **options):
    mode = gym.vector.AutoresetMode.SAME_STEP
    return gym.vector.SyncVectorEnv([lambda: Bandit(**options)] * num_envs, autoreset_mode=mode)


CONTINUOUS_OR_NOT = {"Image": Image, "Unsized": Unsized, "Wider": Wider, "Blind": Blind}
OTHERS = {
    "Dark": Bandit,
    "Unbuildable": Unbuildable,
    "Pair": Pair,
    "Buttons": Buttons,
    "Integers": Integers,
}


@pytest.fixture
def refused(script, monkeypatch, tmp_path, capsys):
    """refused(flags) is the one line that the command ends with."""
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    continuous = {"continuous": script.__name__ != "ppo"}
    for name, env in CONTINUOUS_OR_NOT.items():
        gym.register(f"{name}-v0", env, kwargs=continuous)
    for name, env in OTHERS.items():
        gym.register(f"{name}-v0", env)
    gym.register("SameStep-v0", vector_entry_point=same_step, kwargs=continuous)
    monkeypatch.chdir(tmp_path)

    def run(flags: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        # Where a refusal has gone missing, one update is trained.
        short = [] if "total-timesteps" in flags else ["--total-timesteps", "1"]
        argv = [script.__name__ + ".py", *short, *(flag.strip("'") for flag in flags.split())]
        monkeypatch.setattr(sys, "argv", argv)
        capsys.readouterr()
        with pytest.raises(script.Refused) as refusal:
            script.main(script.parse_args())
        out, err = capsys.readouterr()
        line = str(refusal.value)
        assert err == "" and "\n" not in line
        assert out == "" or "--resume run" in flags  # says which environment that is
        assert sorted(tmp_path.rglob("*")) == before
        return line

    return run


@pytest.mark.parametrize("flags, message", OUT_OF_RANGE)
def test_out_of_range(refused, flags, message):
    """The line names the flag and the value that was given and what is allowed."""
    line = refused(flags)
    *_, flag, value = flags.split()
    assert line.startswith(f"{flag} ")
    assert message in line and "allowed is" in line
    assert str(float(value))[:4] in line or value in line


@pytest.mark.parametrize("flags, message", BAD_ENVIRONMENT)
def test_bad_environment(refused, flags, message):
    line = refused(flags)
    assert message in line and flags.split()[1].strip("'").split(":")[-1] in line


def test_the_other_script_is_named(script, refused):
    if script.__name__ == "ppo":
        assert "Boxes of floats in ppo_continuous.py" in refused("--env-id Pendulum-v1")
    else:
        assert "Discrete and MultiDiscrete in ppo.py" in refused("--env-id CartPole-v1")


def test_a_program_is_refused_the_same_arguments(script):
    with pytest.raises(script.Refused, match="--gae-lambda 2: allowed is 0 <= x <= 1"):
        script.Args(gae_lambda=2)


def test_an_error_inside_an_environment_keeps_its_traceback(script, refused):
    args = script.Args(env_id="Unbuildable-v0", total_timesteps=1)
    with pytest.raises(RuntimeError, match="the licence has run out"):
        script.main(args)


@pytest.mark.parametrize("flags, message", BAD_RESUME)
def test_bad_resume(script, refused, train, tmp_path, monkeypatch, flags, message):
    broken = ("empty", "truncated", "garbage", "pickle", "foreign", "hollow", "pipe", "linked",
              "mistyped")  # fmt: skip
    for name in broken:
        (tmp_path / name).mkdir()
    env_id = "CartPole-v1" if script.__name__ == "ppo" else "Pendulum-v1"
    train(script, env_id=env_id, total_timesteps=1, eval_episodes=0)
    (run,) = tmp_path.glob("*/runs/*")
    run = run.rename(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    whole = (run / "checkpoint.pt").read_bytes()
    (tmp_path / "file").write_text("")
    (tmp_path / "truncated/checkpoint.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "garbage/checkpoint.pt").write_bytes(b"garbage" * 1000)
    torch.save({"args": Small}, tmp_path / "pickle/checkpoint.pt")
    torch.save({"args": {"dropout": 0.1}}, tmp_path / "foreign/checkpoint.pt")
    (tmp_path / "hollow/checkpoint.pt").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe/checkpoint.pt")
    (tmp_path / "linked/checkpoint.pt").write_bytes(whole)
    (tmp_path / "linked/checkpoint.pt.tmp").symlink_to(tmp_path / "file")
    torch.save({"args": {"gamma": "high"}}, tmp_path / "mistyped/checkpoint.pt")
    line = refused(flags)
    assert message in line and ("--resume" in line or "--gamma" in line)


def test_every_flag_with_a_number_has_a_rule(script):
    for field in script.Args.__dataclass_fields__.values():
        has_rule = hasattr(field.type, "__metadata__")
        assert has_rule == (type(field.default) in (int, float))


def test_a_real_command_is_refused_in_one_line(script, tmp_path):
    for flags in ("--gamma 2", "--env-id CartPol-v1", "--resume nowhere"):
        command = [sys.executable, SCRIPTS / f"{script.__name__}.py", *flags.split()]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 2 and result.stdout == ""
        assert result.stderr.startswith(flags.split()[0]) and result.stderr.count("\n") == 1
        assert not list(tmp_path.iterdir())
