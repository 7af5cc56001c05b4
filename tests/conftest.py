"""How the tests load the two scripts, run them and read back what they wrote."""

import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parent.parent
# The bug museum points this at a folder with a patched copy.
SCRIPTS = Path(os.environ.get("PPO_SCRIPTS", ROOT))
sys.path.insert(0, str(Path(__file__).parent))  # so that --env-id envs:Name-v0 finds envs.py


def load(name: str):
    """The script as a module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: minutes long; only with --slow")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests, and only them")


def pytest_collection_modifyitems(config, items):
    slow = config.getoption("--slow")
    skip = pytest.mark.skip(reason="only without --slow" if slow else "slow: needs --slow")
    for item in items:
        if slow != ("slow" in item.keywords):
            item.add_marker(skip)


@pytest.fixture(params=["ppo", "ppo_continuous"])
def script(request):
    return load(request.param)


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

    # main sets both for the rest of its process.
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    terminate = signal.getsignal(signal.SIGTERM)

    def run(script, **args):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        monkeypatch.chdir(folder)
        script.main(script.Args(**args))
        (run,) = (folder / "runs").iterdir()
        return read_run(run)

    yield run
    signal.signal(signal.SIGTERM, terminate)
