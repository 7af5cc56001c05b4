"""The variants in benchmarks/variants apply to the scripts as they are, keep to their sizes, run,
resume, and pass what every right PPO passes."""

import re
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, load, read_run

VARIANTS = {path.stem: path for path in sorted((ROOT / "benchmarks/variants").glob("*.patch"))}
# Lines, those taken out and those put in; 6 for what is not named.
LINES = {"network": 12, "cnn": 45, "gru": 60, "action_mask": 30, "rnd": 35, "distributions": 12}
LINES |= {"annealed": 10, "two_learning_rates": 10, "adamw_warmup": 10, "dual_clip": 15}
LINES |= {"continuous_squashed": 20, "continuous_beta": 30, "continuous_state_std": 12}
LINES |= {"continuous_rpo": 15}
ENVS = {"action_mask": "Taxi-v4", "cnn": "envs:Pixels-v0"}
CHECKS = """
tests/test_training.py::test_8_ratio_is_one_on_the_first_minibatch_of_every_update[{0}]
tests/test_training.py::test_16_reset_steps_are_no_samples[{0}]
tests/test_training.py::test_evaluation_plays_one_episode_in_each_environment[{0}]
tests/test_training.py::test_every_finished_episode_is_logged[{0}]
tests/test_training.py::test_small_batches_give_no_nan[{0}-args3]
tests/test_resume.py::test_a_reloaded_policy_evaluates_to_the_same_returns_bit_for_bit[{0}]
"""
# What a variant is meant to break, or the environments of the tests do not have.
EXCEPT = {"continuous_rpo": "test_8_", "rnd": "test_16_", "cnn": "test_"}


def script_of(name):
    return "ppo_continuous" if name.startswith("continuous_") else "ppo"


def apply(name, folder):
    """The script with a variant, in a folder."""
    folder.mkdir(exist_ok=True)
    script = shutil.copy(ROOT / f"{script_of(name)}.py", folder)
    subprocess.run(["git", "apply", VARIANTS[name]], cwd=folder, check=True)
    return folder / script


def train(module, folder, monkeypatch, **args):
    """The folder of a run in an empty folder, 4 updates unless said otherwise."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    sizes = {"num_envs": 4, "num_steps": 16, "num_minibatches": 2, "total_timesteps": 200}
    module.main(module.Args(**sizes | args))
    (run,) = (folder / "runs").iterdir()
    return run


@pytest.mark.parametrize("name", VARIANTS)
def test_size(name):
    about, _, diff = VARIANTS[name].read_text().partition("\n\n")
    assert len(about) > 50 and about.endswith(".")
    lines = re.findall(r"^[+-](?![+-]{2} )", diff, re.MULTILINE)
    assert 0 < len(lines) <= LINES.get(name, 6)


@pytest.mark.parametrize("name", VARIANTS)
def test_runs_and_resumes(name, tmp_path, monkeypatch):
    module = load(script_of(name), apply(name, tmp_path / "script"))
    env_id = ENVS.get(name, "CartPole-v1" if script_of(name) == "ppo" else "Pendulum-v1")
    args = {"env_id": env_id, "norm_obs": name != "cnn", "vectorisation": "sync"}
    run = train(module, tmp_path / "run", monkeypatch, **args)
    before = torch.load(run / "checkpoint.pt", weights_only=True)
    monkeypatch.setattr(sys, "argv", ["", "--resume", str(run), "--total-timesteps", "400"])
    module.main(module.parse_args())
    after = torch.load(run / "checkpoint.pt", weights_only=True)
    steps = [step for step, _ in read_run(run)["losses/policy_loss"]]
    assert len(steps) == after["progress"]["update"] > before["progress"]["update"] >= 4
    assert any((after["agent"][name] != tensor).any() for name, tensor in before["agent"].items())


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """What pytest printed for each variant that has checks; one after the other."""
    folders, jobs = {}, []
    for name in VARIANTS:
        unmeant = EXCEPT.get(name, "none")
        checks = [x for x in CHECKS.format(script_of(name)).split() if unmeant not in x]
        if checks:
            folders[name] = tmp_path_factory.mktemp(name)
            apply(name, folders[name])
            jobs += [folders[name], " ".join(checks)]
    subprocess.run([sys.executable, ROOT / "tests/forks.py", *jobs], cwd=ROOT, check=True)
    return {name: (folder / "output.txt").read_text() for name, folder in folders.items()}


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "cnn"])
def test_passes_the_checks_of_an_edited_copy(name, outputs):
    """Those of pytest --script that take no time."""
    expected = len(CHECKS.split()) - (name in EXCEPT)
    assert re.search(rf"^{expected} passed", outputs[name], re.MULTILINE), outputs[name][-2000:]
    assert "failed" not in outputs[name].splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in EXCEPT])
def test_passes_all_checks_of_an_edited_copy(name, tmp_path):
    if name == "reinforce":
        pytest.skip("learns nothing in several epochs")
    copy = apply(name, tmp_path / "script")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "tests", "--script", copy]
    subprocess.run(command, cwd=ROOT, check=True)


def test_a_convolution_learns_from_images(tmp_path, monkeypatch):
    module = load("ppo", apply("cnn", tmp_path / "script"))
    args = {"env_id": "envs:Pixels-v0", "gamma": 0.9, "norm_obs": False, "num_envs": 8}
    args |= {"num_steps": 32, "num_minibatches": 4, "total_timesteps": 8000}
    run = train(module, tmp_path / "run", monkeypatch, **args)
    ((_, greedy),) = read_run(run)["eval/episodic_return"]
    assert greedy >= 7.9


def test_distributions_give_the_same_numbers(ppo, tmp_path):
    module = load("ppo", apply("distributions", tmp_path / "script"))
    logits = torch.randn(7, 3, 4)
    actions = torch.randint(4, (7, 3))
    for a, b in zip(*(x.log_prob_and_entropy(logits, actions) for x in (ppo, module)), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_memory_is_empty_where_an_episode_begins(tmp_path):
    """What came before does not reach it; what came since does."""
    module = load("ppo", apply("gru", tmp_path / "script"))
    args = module.Args()
    agent = module.Agent(module.make_envs(args, 2), args)
    obs, kept, memory = torch.randn(6, 2, 4), torch.ones(6, 2), torch.randn(2, 64)
    kept[3, 0] = 0
    features = agent.remember(obs, kept, memory)
    other = obs.clone()
    other[2] += 1
    changed = (agent.remember(other, kept, memory) != features).any(-1)
    assert changed.T.tolist() == [
        [False, False, True, False, False, False],
        [False] * 2 + [True] * 4,
    ]
