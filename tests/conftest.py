"""How the tests load the two scripts, run them and read back what they wrote.

pytest tests                          all but the slow tests
pytest tests --slow                   only the slow tests, minutes each
pytest tests --script my_ppo.py       an edited copy: what every correct PPO passes
PPO_SCRIPTS=folder pytest tests       other copies of ppo.py and ppo_continuous.py
"""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

# The number of an event file within its process. Files of the same second are sorted by it as text,
# in which 10 would come before 9.
event_file_writer._global_uid = event_file_writer.AtomicCounter(10_000)

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(os.environ.get("PPO_SCRIPTS", ROOT)).resolve()
sys.path.insert(0, str(Path(__file__).parent))  # so that --env-id envs:Name-v0 finds envs.py


def load(name, path=None):
    """The script as a module."""
    spec = importlib.util.spec_from_file_location(name, path or SCRIPTS / f"{name}.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests, and only them")
    parser.addoption("--script", help="check an edited copy of a script: tests marked any_ppo")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes minutes; runs only with --slow")
    config.addinivalue_line("markers", "any_ppo: holds for every correct PPO; runs with --script")
    if config.getoption("--script"):  # in the environment, where pytest-xdist's workers find it
        os.environ["PPO_SCRIPT"] = str(Path(config.getoption("--script")).resolve())


def original_of(path):
    """Which of the two scripts an edited copy began as."""
    return "ppo_continuous" if "def to_env" in path.read_text() else "ppo"


def pytest_collection_modifyitems(config, items):
    slow, edited = config.getoption("--slow"), config.getoption("--script")
    skip = pytest.mark.skip(reason="not slow" if slow else "slow: needs --slow")
    for item in items:
        if slow != ("slow" in item.keywords):
            item.add_marker(skip)
    if edited:
        name = original_of(Path(edited))
        items[:] = [
            item
            for item in items
            if "any_ppo" in item.keywords and item.callspec.params["script"] == name
        ]


@pytest.fixture(params=["ppo", "ppo_continuous"])
def script(request):
    """Each of the two scripts, or the edited copy, which may import modules beside it."""
    edited = os.environ.get("PPO_SCRIPT")
    if edited:
        request.getfixturevalue("monkeypatch").syspath_prepend(Path(edited).parent)
    return load(request.param, edited and Path(edited))


@pytest.fixture
def ppo():
    return load("ppo")


@pytest.fixture
def ppo_continuous():
    return load("ppo_continuous")


def read_run(folder):
    """{tag: [(step, value), ..]} of the TensorBoard files of a run."""
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
        script.main(script.Args(**{"eval_episodes": 0, **args}))
        (run,) = (folder / "runs").iterdir()
        return read_run(run)

    return run
