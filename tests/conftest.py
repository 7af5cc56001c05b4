"""How the tests load the two scripts, run them and read back what they wrote."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parent.parent
# The catalogue of mistakes points this at a folder with an edited copy.
SCRIPTS = Path(os.environ.get("PPO_SCRIPTS", ROOT))
sys.path.insert(0, str(Path(__file__).parent))  # so that --env-id envs:Name-v0 finds envs.py


def load(name: str, path: Path | None = None):
    """The script as a module."""
    spec = importlib.util.spec_from_file_location(name, path or SCRIPTS / f"{name}.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests, and only them")
    parser.addoption("--script", help="check an edited copy: what every right PPO passes")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: minutes long; only with --slow")
    config.addinivalue_line("markers", "any_ppo: holds whatever the network; runs with --script")
    if config.getoption("--script"):
        os.environ["PPO_SCRIPT"] = str(Path(config.getoption("--script")).resolve())


def kind_of(path: Path) -> str:
    """Which of the two scripts an edited copy began as, by its first line."""
    return "ppo_continuous" if "continuous" in path.read_text().partition("\n")[0] else "ppo"


def pytest_collection_modifyitems(config, items):
    slow, edited = config.getoption("--slow"), config.getoption("--script")
    skip = pytest.mark.skip(reason="only without --slow" if slow else "slow: needs --slow")
    kept = []
    for item in items:
        if edited and "any_ppo" not in item.keywords:
            continue
        if edited and item.callspec.params["script"] != kind_of(Path(edited)):
            continue
        kept.append(item)
        if slow != ("slow" in item.keywords):
            item.add_marker(skip)
    items[:] = kept


@pytest.fixture(params=["ppo", "ppo_continuous"])
def script(request):
    edited = os.environ.get("PPO_SCRIPT")
    return load(request.param, edited and Path(edited))


@pytest.fixture
def ppo():
    return load("ppo")


@pytest.fixture
def ppo_continuous():
    return load("ppo_continuous")


def read_run(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> [(step, value), ..] of a run's TensorBoard file."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


@pytest.fixture
def train(tmp_path, monkeypatch):
    """train(script, env_id=.., ..) runs main in an empty folder and returns what it logged."""

    def run(script, **args):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        monkeypatch.chdir(folder)
        script.main(script.Args(**args))
        (run,) = (folder / "runs").iterdir()
        return read_run(run)

    return run
