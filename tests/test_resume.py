"""Runs that end early and go on: checkpoints, kill -9, Ctrl-C, full disks, broken environments."""

import resource
import signal
import struct
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import torch
from conftest import ROOT, SCRIPTS, read_run
from kill import check, kill_and_resume

ENV_ID = {"ppo": "CartPole-v1", "ppo_continuous": "Pendulum-v1"}


def small_env(script, name):
    return f"envs:{name}-v0" if script.__name__ == "ppo" else f"envs:{name}Box-v0"


@pytest.fixture
def command(script, tmp_path, monkeypatch):
    """command(*flags) starts the script as a process of its own in an empty folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    processes = []

    def start(*flags, **options) -> subprocess.Popen:
        argv = [sys.executable, SCRIPTS / f"{script.__name__}.py", *map(str, flags)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen(argv, cwd=tmp_path, **streams, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def load(run):
    return torch.load(run / "checkpoint.pt", weights_only=True)


def resume(script, monkeypatch, run, *flags):
    monkeypatch.setattr(sys, "argv", ["", "--resume", str(run), *map(str, flags)])
    script.main(*script.parse_args())


@pytest.fixture
def trained(script, train, tmp_path):
    """trained(..) is the folder of a finished run."""

    def run(**args):
        train(script, env_id=ENV_ID[script.__name__], **args)
        (folder,) = tmp_path.glob("*/runs/*")
        return folder

    return run


# What a checkpoint holds


def test_a_reloaded_policy_evaluates_to_the_same_returns_bit_for_bit(script, trained, monkeypatch):
    """With a new agent, after loading the checkpoint alone; normalisation is on."""
    returns, original = [], script.evaluate

    def evaluate(*args):
        returns.append(original(*args))
        return returns[-1]

    monkeypatch.setattr(script, "evaluate", evaluate)
    run = trained(total_timesteps=5000, eval_episodes=5)
    checkpoint = load(run)
    args = script.Args(**checkpoint["args"])
    assert args.norm_obs and args.norm_reward
    envs = script.make_envs(args, 5)
    agent = script.Agent(envs)
    agent.load_state_dict(checkpoint["agent"])
    _, eval_seed = (np.random.SeedSequence(args.seed).generate_state(2) >> 1).tolist()
    assert original(agent, envs, eval_seed).tolist() == returns[0].tolist()
    forgetful = script.Agent(envs)
    for name in ("actor", "critic"):
        getattr(forgetful, name).load_state_dict(getattr(agent, name).state_dict())
    forgetful.obs_moments[:] = torch.tensor([[1.0], [0.0], [1.0]])
    assert original(forgetful, envs, eval_seed).tolist() != returns[0].tolist()
    resume(script, monkeypatch, run)
    assert returns[1].tolist() == returns[0].tolist()


def test_a_resumed_run_goes_on_where_it_was(script, trained, monkeypatch):
    run = trained(total_timesteps=6000, eval_episodes=1, learning_rate=1e-3, num_steps=64,
                  num_minibatches=4)  # fmt: skip
    before = load(run)
    start, samples = before["global_step"], []
    original = script.sample

    def sample(policy, noise):
        samples.append(noise)
        return original(policy, noise)

    monkeypatch.setattr(script, "sample", sample)
    resume(script, monkeypatch, run, "--total-timesteps", 20000)
    after, logged = load(run), read_run(run)
    check(run)
    assert after["args"] == before["args"] | {"total_timesteps": 20000, "resume": str(run)}
    # Optimiser, statistics, generator and counters go on; the step size is that of the new total.
    steps = [load["optimizer"]["state"][0]["step"].item() for load in (before, after)]
    updates = [sum(step <= load["global_step"] for step, _ in logged["charts/SPS"])
               for load in (before, after)]  # fmt: skip
    assert steps[1] / steps[0] == pytest.approx(updates[1] / updates[0], rel=0.1)
    assert after["agent"]["obs_moments"][0, 0] == after["global_step"] > start
    assert after["agent"]["return_moments"][0, 0] == after["global_step"]
    torch.set_rng_state(before["rng"])
    noise = next(noise for noise in samples if isinstance(noise, np.ndarray))
    if script.__name__ == "ppo":
        expected = -torch.empty(64, 8, *noise.shape[-2:]).exponential_().log().numpy()
    else:
        expected = torch.randn(64, 8, noise.shape[-1]).numpy()
    assert noise.tolist() == expected[0].tolist()
    rates = dict(logged["charts/learning_rate"])
    first = min(step for step in rates if step > start)
    assert rates[first] == pytest.approx(1e-3 * (1 - start / 20000))
    times = [value for _, value in logged["charts/wall_time"]]
    assert times == sorted(times)
    assert [step for step, _ in logged["eval/episodic_return"]] == [after["global_step"] + 1]


def test_the_last_100_episodes_are_remembered(script, trained, monkeypatch):
    flags = {"num_steps": 256} if script.__name__ == "ppo" else {"num_steps": 1500}
    run = trained(total_timesteps=15000, eval_episodes=0, **flags)
    before = load(run)["recent_returns"]
    assert len(before) > 50
    resume(script, monkeypatch, run, "--total-timesteps", load(run)["global_step"] + 1)
    after = load(run)["recent_returns"]
    new = len(after) - len(before) if len(after) < 100 else after.index(before[-1], 0) - 99
    assert before[-1] in after and len(after) <= 100 and new != 0


def test_a_finished_run_is_only_evaluated(script, trained, monkeypatch, capsys):
    run = trained(total_timesteps=3000, eval_episodes=2)
    before, logged = (run / "checkpoint.pt").read_bytes(), read_run(run)
    resume(script, monkeypatch, run, "--eval-episodes", 7)
    assert "(7 episodes)" in capsys.readouterr().out.splitlines()[-1]
    assert (run / "checkpoint.pt").read_bytes() == before
    again = read_run(run)
    assert len(again.pop("eval/episodic_return")) == len(logged.pop("eval/episodic_return")) == 1
    assert again == logged


def test_the_folder_holds_the_script_and_the_arguments(script, trained):
    run = trained(total_timesteps=1, eval_episodes=0, gamma=0.5)
    path = SCRIPTS / f"{script.__name__}.py"
    assert (run / path.name).read_bytes() == path.read_bytes()
    text = (run / "args.txt").read_text()
    assert eval(text, {"Args": script.Args}) == script.Args(**load(run)["args"])
    assert "gamma=0.5,\n" in text and len(text.splitlines()) > 25


def resident_sizes(process, at):
    """KiB of the process when it reports the step counts `at`."""
    sizes = []
    for line in process.stdout:
        if int(line.split()[0].replace(",", "")) >= at[len(sizes)]:
            sizes.append(int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(process.pid)])))
            if len(sizes) == len(at):
                return sizes


def test_memory_stays_flat(script, command):
    flags = ("--total-timesteps", 10**6, "--env-id", ENV_ID[script.__name__])
    early, late = resident_sizes(command(*flags), at=[10_000, 40_000])
    assert late < 1.05 * early


@pytest.mark.slow
def test_memory_stays_flat_over_5_million_steps(ppo, tmp_path):
    argv = [sys.executable, SCRIPTS / "ppo.py", "--total-timesteps", "5001000"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        early, late = resident_sizes(process, at=[500_000, 5_000_000])
    print(f"{early} KiB after 500k steps, {late} KiB after 5M: {late / early - 1:+.1%}")
    assert late < 1.05 * early


# Ends that come from outside


def test_the_curves_are_on_the_disk_before_a_checkpoint(script, train, monkeypatch):
    save, flush, order, steps = script.save, script.SummaryWriter.flush, [], []

    def record_save(snapshot, path):
        order.append("save")
        logged = read_run(path.parent).get("charts/SPS", [(0, 0.0)])
        steps.append((snapshot["global_step"], logged[-1][0]))
        save(snapshot, path)

    def record_flush(self):
        order.append("flush")
        flush(self)

    monkeypatch.setattr(script, "save", record_save)
    monkeypatch.setattr(script.SummaryWriter, "flush", record_flush)
    env_id = ENV_ID[script.__name__]
    train(script, env_id=env_id, total_timesteps=5000, num_steps=64, checkpoint_interval=2)
    assert len(steps) > 4 and all(saved == logged for saved, logged in steps)
    assert order[: 2 * len(steps)] == ["flush", "save"] * len(steps)


def test_kill_9(script, tmp_path, monkeypatch):
    """The short form of tests/kill.py."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    flags = ["--env-id", ENV_ID[script.__name__], "--total-timesteps", "40000",
             "--checkpoint-interval", "1"]  # fmt: skip
    run = kill_and_resume(SCRIPTS / f"{script.__name__}.py", flags, kills=3, seconds=5, seed=0)
    check(run)
    assert len(read_run(run)["eval/episodic_return"]) == 1


@pytest.mark.slow
def test_kill_9_at_50_moments(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    flags = ["--env-id", ENV_ID[script.__name__], "--total-timesteps", "1200000",
             "--checkpoint-interval", "1"]  # fmt: skip
    run = kill_and_resume(SCRIPTS / f"{script.__name__}.py", flags, kills=50, seconds=10, seed=1)
    check(run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_save_and_leave(script, command, tmp_path, number):
    """Also in the middle of an update: what is saved is the end of the update before."""
    process = command("--env-id", ENV_ID[script.__name__], "--checkpoint-interval", 10**9)
    for _ in range(10):
        process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=5)
    (run,) = (tmp_path / "runs").iterdir()
    last_line = err.splitlines()[-1]
    assert process.returncode != 0 and "Traceback" not in err
    assert last_line.startswith("KeyboardInterrupt") and f"{run.name}/checkpoint.pt" in last_line
    step = load(run)["global_step"]
    assert step > 5000 and read_run(run)["charts/SPS"][-1][0] >= step


def test_ctrl_c_leaves_at_once_whatever_the_length_of_a_rollout(script, command, tmp_path):
    process = command("--env-id", ENV_ID[script.__name__], "--num-steps", 10**6, "--num-envs", 1)
    while not list(tmp_path.glob("runs/*/checkpoint.pt")):
        time.sleep(0.05)
    time.sleep(1)
    start = time.perf_counter()
    process.send_signal(signal.SIGINT)
    process.wait()
    assert time.perf_counter() - start < 3


def test_a_full_disk_leaves_the_last_checkpoint_whole(script, command, tmp_path):
    """Files may not grow beyond what the first checkpoint needs, but not the later ones."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))

    process = command("--env-id", ENV_ID[script.__name__], "--checkpoint-interval", 2,
                      preexec_fn=limit)  # fmt: skip
    _, err = process.communicate()
    (run,) = (tmp_path / "runs").iterdir()
    (line,) = err.strip().splitlines()
    assert process.returncode == 1
    assert line.startswith("OSError(27, 'File too large')") and f"{run.name}/checkpoint.pt" in line
    assert zipfile.is_zipfile(run / "checkpoint.pt")
    assert load(run)["global_step"] == 0


def test_a_folder_that_cannot_be_made(script, command, tmp_path):
    (tmp_path / "runs").write_text("a file")
    process = command("--env-id", ENV_ID[script.__name__])
    _, err = process.communicate()
    (line,) = err.strip().splitlines()
    assert process.returncode == 1 and "Not a directory" in line and "runs" not in line.split("/")
    assert (tmp_path / "runs").read_text() == "a file"


@pytest.mark.parametrize(
    "how, first_update, message",
    [
        ("observation", False, "observation of environment 5 is inf"),
        ("reward", False, "reward of environment 5 is nan"),
        ("error", False, "the motor is on fire"),
        ("reset", True, "observation of environment 5 is nan"),
        ("loss", True, "losses/policy_loss of minibatch"),
    ],
    ids=["observation", "reward", "error", "reset", "loss"],
)
def test_what_breaks_is_named_and_the_last_checkpoint_stays(
    script, command, tmp_path, how, first_update, message
):
    if script.__name__ != "ppo" and how in ("reward", "error", "reset"):
        pytest.skip("the same lines as in ppo.py")
    env_id = small_env(script, f"Broken-{how}") if how != "loss" else ENV_ID[script.__name__]
    flags = ["--learning-rate", "1e30"] if how == "loss" else []
    process = command("--env-id", env_id, "--num-steps", 64, "--num-minibatches", 4,
                      "--checkpoint-interval", 1, *flags)  # fmt: skip
    _, err = process.communicate()
    (run,) = (tmp_path / "runs").iterdir()
    last_line = err.splitlines()[-1]
    assert process.returncode == 1
    assert message in last_line and f"{run.name}/checkpoint.pt" in last_line
    # An error of an environment comes with its traceback, all else in one line.
    assert ("Traceback" in err and "envs.py" in err) == (how == "error")
    checkpoint = load(run)
    assert (checkpoint["global_step"] == 0) == first_update
    assert f"after step {checkpoint['global_step']:,}" in last_line or how in ("reward", "loss")
    for tensor in checkpoint["agent"].values():
        assert torch.isfinite(tensor).all()


# Videos and Weights & Biases


def test_videos_of_training_and_evaluation(script, trained, monkeypatch):
    from moviepy import VideoFileClip

    run = trained(total_timesteps=1500, eval_episodes=1, capture_video=True)
    resume(script, monkeypatch, run, "--eval-episodes", 2)
    videos = sorted(path.relative_to(run / "videos") for path in run.rglob("*.mp4"))
    steps = load(run)["global_step"]
    assert {str(path.parent) for path in videos} == {"train-0", f"eval-{steps}"}
    assert len(videos) >= 2
    for path in videos:
        with VideoFileClip(run / "videos" / path) as clip:
            assert clip.duration * clip.fps > 5 and clip.get_frame(0).std() > 0


def read_wandb(path):
    """Run id and the names of the metrics of an offline run: the format is LevelDB's log."""
    from wandb.proto import wandb_internal_pb2

    data, position, record, run_id, keys = path.read_bytes(), 7, b"", None, set()
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            message = wandb_internal_pb2.Record.FromString(record)
            run_id = message.run.run_id or run_id
            keys |= {item.key or "/".join(item.nested_key) for item in message.history.item}
            record = b""
    return run_id, keys


def train_with_wandb(command, monkeypatch, *flags):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert command("--track", "--eval-episodes", 1, *flags).wait() == 0


def check_wandb(tmp_path, number_of_logs):
    (run,) = (tmp_path / "runs").iterdir()
    logs = [read_wandb(path) for path in tmp_path.glob("wandb/offline-run-*/*.wandb")]
    assert len(logs) == number_of_logs
    for run_id, keys in logs:
        assert run_id == run.name
        assert keys > {"losses/policy_loss", "charts/SPS", "eval/episodic_return", "global_step"}
    return run


def test_weights_and_biases_offline(script, command, tmp_path, monkeypatch):
    if script.__name__ != "ppo":
        pytest.skip("the same lines as in ppo.py; takes a quarter of a minute")
    train_with_wandb(command, monkeypatch, "--total-timesteps", 3000)
    check_wandb(tmp_path, number_of_logs=1)


@pytest.mark.slow
def test_weights_and_biases_goes_on_with_the_same_run(script, command, tmp_path, monkeypatch):
    env_id = ENV_ID[script.__name__]
    train_with_wandb(command, monkeypatch, "--env-id", env_id, "--total-timesteps", 3000)
    run = check_wandb(tmp_path, number_of_logs=1)
    train_with_wandb(command, monkeypatch, "--resume", run, "--total-timesteps", 6000)
    check_wandb(tmp_path, number_of_logs=2)
