"""Runs that end early and go on: checkpoints, kill -9, Ctrl-C, full disks, broken environments."""

import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import ROOT, SCRIPTS, read_run
from kill import check, kill_and_resume

ENV_ID = {"ppo": "CartPole-v1", "ppo_continuous": "Pendulum-v1"}


# Starts processes; its lines are the same in both scripts, as tests/test_project.py sees to.
of_ppo_alone = pytest.mark.parametrize("script", ["ppo"], indirect=True)


def small_env(script, name):
    return f"envs:{name}-v0" if script.__name__ == "ppo" else f"envs:{name}Box-v0"


@pytest.fixture
def command(script, tmp_path, monkeypatch):
    """command(*flags) starts the script as a process of its own in an empty folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    processes = []

    def start(*flags, script=script.__file__, **options) -> subprocess.Popen:
        argv = [sys.executable, script, *map(str, flags)]
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
    script.main(script.parse_args())


@pytest.fixture
def trained(script, train, tmp_path):
    """trained(..) is the folder of a finished run."""

    def run(**args):
        train(script, env_id=ENV_ID[script.__name__], **args)
        (folder,) = tmp_path.glob("*/runs/*")
        return folder

    return run


# What a checkpoint holds


@pytest.mark.any_ppo
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
    agent = script.Agent(script.make_envs(args, 5), args)
    agent.load_state_dict(checkpoint["agent"])
    _, eval_seed = (np.random.SeedSequence(args.seed).generate_state(2) >> 1).tolist()

    def again():
        return original(agent, script.make_envs(args, 5), eval_seed).tolist()

    assert again() == returns[0].tolist()
    resume(script, monkeypatch, run)
    assert returns[1].tolist() == returns[0].tolist()
    agent.obs_moments[:] = torch.tensor([[1.0], [0.0], [1.0]])  # without its statistics
    assert again() != returns[0].tolist()


def test_a_resumed_run_goes_on_where_it_was(script, trained, monkeypatch):
    run = trained(total_timesteps=6000, eval_episodes=1, learning_rate=1e-3, num_steps=64,
                  num_minibatches=4)  # fmt: skip
    before = load(run)
    start, states, seeds = before["progress"]["global_step"], [], []
    act, reset = script.Agent.act, gym.vector.SyncVectorEnv.reset

    def record_act(self, *args, **kwargs):
        states.append(torch.get_rng_state())
        return act(self, *args, **kwargs)

    def record_reset(self, *, seed, **kwargs):
        seeds.append(seed)
        return reset(self, seed=seed, **kwargs)

    monkeypatch.setattr(script.Agent, "act", record_act)
    monkeypatch.setattr(gym.vector.SyncVectorEnv, "reset", record_reset)
    flags = ("--total-timesteps", 20000, "--vectorisation", "sync")
    resume(script, monkeypatch, run, *flags)
    after, logged = load(run), read_run(run)
    check(run)
    changed = {"total_timesteps": 20000, "vectorisation": "sync"}
    assert after["args"] == before["args"] | changed
    # Optimiser, statistics, generator and counters go on; the step size is that of the new total.
    steps = [x["optimizer"]["state"][0]["step"].item() for x in (before, after)]
    updates = [sum(step <= x["progress"]["global_step"] for step, _ in logged["charts/SPS"])
               for x in (before, after)]  # fmt: skip
    assert (
        updates == [before["progress"]["update"], after["progress"]["update"]]
        and updates[1] > updates[0] > 2
    )
    assert steps[1] / steps[0] == pytest.approx(updates[1] / updates[0], rel=0.1)
    assert after["agent"]["obs_moments"][0, 0] == after["progress"]["global_step"] > start
    assert after["agent"]["return_moments"][0, 0] == after["progress"]["global_step"]
    assert torch.equal(states[1], before["rng"])  # states[0] is of the shape of an action
    env_seed, eval_seed = (np.random.SeedSequence(1).generate_state(2) >> 1).tolist()
    assert seeds == [env_seed + start, eval_seed]  # other episodes than at the beginning
    rates = dict(logged["charts/learning_rate"])
    first = min(step for step in rates if step > start)
    assert rates[first] == pytest.approx(1e-3 * (1 - start / 20000))
    times = [value for _, value in logged["charts/wall_time"]]
    assert times == sorted(times)
    evaluations = [step for step, _ in logged["eval/episodic_return"]]
    assert evaluations == [start, after["progress"]["global_step"]]


@pytest.mark.any_ppo
def test_the_last_100_episodes_are_remembered(script, trained, monkeypatch):
    run = trained(total_timesteps=25000, eval_episodes=0)
    before = load(run)
    remembered = before["progress"]["recent_returns"]
    assert len(remembered) == 100
    resume(script, monkeypatch, run, "--total-timesteps", before["progress"]["global_step"] + 1)
    after = load(run)["progress"]["recent_returns"]
    new = next((n for n in range(100) if after[: 100 - n] == remembered[n:]), 100)
    assert len(after) == 100 and new < 50


@pytest.mark.any_ppo
def test_a_finished_run_is_only_evaluated(script, trained, monkeypatch, capsys):
    """With other flags and an edited script too: what it was made by stays on record."""
    run = trained(total_timesteps=3000, eval_episodes=2)
    logged = read_run(run)
    before = {path.name: path.read_bytes() for path in run.iterdir() if "events" not in path.name}
    monkeypatch.setattr(script, "SOURCE", script.SOURCE + b"# edited")
    resume(script, monkeypatch, run, "--eval-episodes", 7, "--gamma", 0.5)
    assert "(7 of 7 episodes)" in capsys.readouterr().out.splitlines()[-1]
    assert before == {x.name: x.read_bytes() for x in run.iterdir() if "events" not in x.name}
    again = read_run(run)
    assert len(again.pop("eval/episodic_return")) == 2
    assert len(logged.pop("eval/episodic_return")) == 1
    assert again == logged


@pytest.mark.any_ppo
def test_the_folder_holds_the_script_and_the_arguments(script, trained, monkeypatch):
    run = trained(total_timesteps=1, eval_episodes=0, gamma=0.5)
    path = Path(script.__file__)
    assert (run / path.name).read_bytes() == path.read_bytes()
    first = json.loads((run / "args.json").read_text())
    assert script.Args(**first) == script.Args(**load(run)["args"]) and first["gamma"] == 0.5
    # On resuming with other ones these stay, and the new ones go beside them.
    step = load(run)["progress"]["global_step"]
    monkeypatch.setattr(script, "SOURCE", script.SOURCE + b"# edited")
    resume(script, monkeypatch, run, "--total-timesteps", 3000, "--gamma", 0.6)
    assert json.loads((run / "args.json").read_text()) == first
    assert json.loads((run / f"args-{step}.json").read_text())["gamma"] == 0.6
    assert (run / path.name).read_bytes() == path.read_bytes()
    assert (run / f"{path.stem}-{step}.py").read_bytes().endswith(b"# edited")


def test_resuming_takes_the_checkpoint_too_and_tracks_nothing_unasked(
    script, trained, monkeypatch, capsys
):
    run = trained(total_timesteps=1, eval_episodes=0)
    checkpoint = load(run)
    checkpoint["args"] |= {"track": True, "env_id": "envs:Match-v0"}
    torch.save(checkpoint, run / "checkpoint.pt")
    monkeypatch.setattr(sys, "argv", ["", "--resume", str(run / "checkpoint.pt")])
    args = script.parse_args()
    assert not args.track and args.env_id == "envs:Match-v0"
    assert "is a run in envs:Match-v0" in capsys.readouterr().out


# One run, one folder, one writer


@of_ppo_alone
def test_two_runs_that_start_together_have_two_folders(script, command, tmp_path):
    flags = ("--env-id", ENV_ID[script.__name__], "--total-timesteps", 1, "--exp-name", "a/b: c")
    processes = [command(*flags) for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    folders = list((tmp_path / "runs").iterdir())
    assert len(folders) == 2 and all(re.fullmatch(r"[\w.-]+", folder.name) for folder in folders)
    assert {folder.name in output for folder in folders for output in outputs} == {True, False}
    for folder in folders:
        check(folder)
        assert {"args.json", "checkpoint.pt"} < {path.name for path in folder.iterdir()}


@of_ppo_alone
def test_a_name_that_is_too_long(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(script.Refused, match="File name too long"):
        script.main(script.Args(env_id=ENV_ID[script.__name__], exp_name="x" * 300))


@of_ppo_alone
def test_a_second_writer_is_refused(script, command, tmp_path):
    env_id = ENV_ID[script.__name__]
    first = command("--env-id", env_id, "--checkpoint-interval", 1)
    while not (checkpoints := list(tmp_path.glob("runs/*/checkpoint.pt"))):
        time.sleep(0.05)
    before = sorted(checkpoints[0].parent.iterdir())
    short = ("--total-timesteps", 1, "--eval-episodes", 0)
    second = command("--resume", checkpoints[0].parent, *short)
    out, err = second.communicate()
    assert second.returncode == 2 and out.count("\n") == err.count("\n") == 1
    assert "another process is writing to it" in err
    assert sorted(checkpoints[0].parent.iterdir()) == before
    first.kill()
    first.wait()
    third = command("--resume", checkpoints[0].parent, *short)
    third.communicate()
    assert third.returncode == 0


def resident_sizes(process, at):
    """KiB of the process when it reports the step counts `at`."""
    sizes = []
    next(process.stdout)  # names the folder
    for line in process.stdout:
        if int(line.split()[0].replace(",", "")) >= at[len(sizes)]:
            sizes.append(int(subprocess.check_output(["ps", "-o", "rss=", "-p", str(process.pid)])))
            if len(sizes) == len(at):
                return sizes


@of_ppo_alone
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


@of_ppo_alone
def test_curves_after_the_last_checkpoint_are_purged_on_resuming(script, trained, monkeypatch):
    """What a killed run had logged since: a step is there once, as the resumed run has it."""
    run = trained(total_timesteps=1000, eval_episodes=0)
    step = load(run)["progress"]["global_step"]
    with script.SummaryWriter(run) as writer:
        writer.add_scalar("charts/SPS", -1.0, step + 1)
    resume(script, monkeypatch, run, "--total-timesteps", step + 1, "--eval-episodes", 0)
    assert -1.0 not in [value for _, value in read_run(run)["charts/SPS"]]
    check(run)


@of_ppo_alone
def test_curves_and_checkpoint_are_on_the_disk_before_it_replaces_the_last(
    script, train, monkeypatch
):
    save, flush, fsync, replace = script.save, script.SummaryWriter.flush, os.fsync, os.replace
    order, steps = [], []

    def record_save(run, *args):
        save(run, *args)
        logged = read_run(run.folder)["charts/SPS"]
        steps.append((load(run.folder)["progress"]["global_step"], logged[-1][0]))

    def record_flush(self):
        order.append("flush")
        flush(self)

    def record_fsync(file):
        whole = os.fstat(file).st_size > 5000
        order.append("fsync" if whole else "too early")
        fsync(file)

    monkeypatch.setattr(script, "save", record_save)
    monkeypatch.setattr(script.SummaryWriter, "flush", record_flush)
    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", lambda *paths: order.append("replace") or replace(*paths))
    env_id = ENV_ID[script.__name__]
    train(
        script, env_id=env_id, total_timesteps=5000, num_envs=8, num_steps=64, checkpoint_interval=2
    )
    assert len(steps) > 4 and all(saved == logged for saved, logged in steps)
    assert order[: 3 * len(steps)] == ["flush", "fsync", "replace"] * len(steps)


# Ends that come from outside


@pytest.mark.any_ppo
def test_kill_9(script, tmp_path, monkeypatch):
    """The short form of tests/kill.py."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    flags = ["--env-id", ENV_ID[script.__name__], "--total-timesteps", "40000",
             "--checkpoint-interval", "1"]  # fmt: skip
    run = kill_and_resume(Path(script.__file__), flags, kills=3, seconds=5, seed=0)
    check(run)
    assert len(read_run(run)["eval/episodic_return"]) >= 1  # again when killed after training


@pytest.mark.slow
def test_kill_9_at_50_moments(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    flags = ["--env-id", ENV_ID[script.__name__], "--total-timesteps", "1200000",
             "--checkpoint-interval", "1"]  # fmt: skip
    run = kill_and_resume(Path(script.__file__), flags, kills=50, seconds=10, seed=1)
    check(run)


@pytest.mark.any_ppo
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_sigterm_and_sighup_save_and_leave(script, command, tmp_path, number):
    """The update is finished and saved, whenever they come; the process ends as by that signal."""
    process = command("--env-id", ENV_ID[script.__name__], "--checkpoint-interval", 10**6)
    for _ in range(10):
        process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=5)
    (run,) = (tmp_path / "runs").iterdir()
    (line,) = err.splitlines()
    assert (run / "checkpoint.pt").exists()
    checkpoint = load(run)
    step = checkpoint["progress"]["global_step"]
    assert process.returncode == -number
    assert (
        line.startswith(f"{number.name} after step {step:,}")
        and f"--resume runs/{run.name}" in line
    )
    assert step > 5000 and read_run(run)["charts/SPS"][-1][0] == step
    updates = checkpoint["optimizer"]["state"][0]["step"].item()
    args = script.Args(**checkpoint["args"])
    assert updates > checkpoint["progress"]["update"] * args.update_epochs * (
        args.num_minibatches - 3
    )
    check(run, finished=False)


@of_ppo_alone
def test_a_second_ctrl_c_leaves_at_once_whatever_the_length_of_a_rollout(script, command, tmp_path):
    process = command("--env-id", ENV_ID[script.__name__], "--num-steps", 10**6, "--num-envs", 1)
    process.stdout.readline()
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    start = time.perf_counter()
    process.send_signal(signal.SIGINT)
    process.wait()
    assert time.perf_counter() - start < 3


@of_ppo_alone
def test_a_program_that_catches_keyboard_interrupt(script, command, tmp_path):
    """main saves and ends there too, and the handlers that were there before are there after."""
    program = tmp_path / "program.py"
    program.write_text(f"""
import signal, sys
sys.path.insert(0, {str(SCRIPTS)!r})
from {script.__name__} import Args, main
signal.signal(signal.SIGTERM, handler := lambda *_: print("my handler"))
try:
    main(Args(env_id="{ENV_ID[script.__name__]}", eval_episodes=0))
except KeyboardInterrupt:
    print("caught")
assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
assert signal.getsignal(signal.SIGTERM) == handler
""")
    process = command(script=program)
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0 and out.splitlines()[-1] == "caught" and "Traceback" not in err
    (run,) = (tmp_path / "runs").iterdir()
    assert load(run)["progress"]["global_step"] == read_run(run)["charts/SPS"][-1][0]


@of_ppo_alone
def test_signals_that_are_ignored_stay_ignored(script):
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with script.deferred_signals() as received:
            signal.raise_signal(signal.SIGHUP)
        assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)


@of_ppo_alone
def test_a_signal_while_saving_waits_for_the_checkpoint(script, train, monkeypatch, tmp_path):
    replace, saved = os.replace, []

    def interrupted(source, target):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT) if not saved else None
        replace(source, target)
        saved.append(target)

    monkeypatch.setattr(os, "replace", lambda *x: interrupted(*x))
    with pytest.raises(KeyboardInterrupt):
        train(script, env_id=ENV_ID[script.__name__], checkpoint_interval=1)
    assert saved and saved[-1].exists()
    assert not list(tmp_path.glob("*/runs/*/checkpoint.pt.tmp"))


@of_ppo_alone
def test_a_reader_that_goes_away_ends_the_run_with_its_checkpoint(script, command, tmp_path):
    process = command("--env-id", ENV_ID[script.__name__], "--checkpoint-interval", 10**6)
    for _ in range(3):
        process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait() == -signal.SIGHUP
    (run,) = (tmp_path / "runs").iterdir()
    assert err.count("\n") == 1 and f"--resume runs/{run.name}" in err
    assert load(run)["progress"]["global_step"] == read_run(run)["charts/SPS"][-1][0]


@of_ppo_alone
def test_output_that_cannot_show_it_changes_nothing(script, command, tmp_path, monkeypatch):
    """Neither characters that are not ASCII, nor that there is no output at all."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    flags = ("--env-id", ENV_ID[script.__name__], "--total-timesteps", 1)
    process = command(*flags, "--exp-name", "λ")
    out, err = process.communicate()
    assert process.returncode == 0 and "greedy return" in out and "Traceback" not in err
    process = command(*flags, preexec_fn=lambda: os.close(1))
    assert "Traceback" not in process.communicate()[1] and process.returncode == 0
    for run in (tmp_path / "runs").iterdir():
        assert "eval/episodic_return" in read_run(run)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@of_ppo_alone
def test_async_ends_without_a_traceback(script, command, tmp_path, method):
    """At the end, and at a Ctrl-C, which reaches the processes of the environments as well."""
    program = tmp_path / "program.py"
    program.write_text(f"""
import multiprocessing, sys
sys.path.insert(0, {str(SCRIPTS)!r})
import {script.__name__} as script
if __name__ == "__main__":
    multiprocessing.set_start_method("{method}")
    script.main(script.parse_args())
""")
    flags = ("--env-id", ENV_ID[script.__name__], "--vectorisation", "async", "--num-envs", 2,
             "--eval-episodes", 2)  # fmt: skip
    process = command(*flags, "--total-timesteps", 300, script=program)
    _, err = process.communicate()
    assert process.returncode == 0 and err.startswith("done") and err.count("\n") == 1
    process = command(*flags, script=program, start_new_session=True)
    for _ in range(3):
        process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert err.startswith("SIGINT after step") and err.count("Traceback") == 1
    assert err.splitlines()[-1] == "KeyboardInterrupt"  # as the program does not catch it


@of_ppo_alone
def test_a_full_disk_leaves_the_last_checkpoint_whole(script, command, tmp_path):
    """After the first checkpoint no file may become as long as that."""
    process = command("--env-id", ENV_ID[script.__name__], "--checkpoint-interval", 2)
    while not (checkpoints := list(tmp_path.glob("runs/*/checkpoint.pt"))):
        time.sleep(0.05)
    (checkpoint,) = checkpoints
    limit = checkpoint.stat().st_size - 1000
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    _, err = process.communicate()
    place, line = err.strip().splitlines()
    assert process.returncode == 1 and place.startswith("failed after step")
    assert "File too large" in line and str(checkpoint.relative_to(tmp_path)) in line
    assert zipfile.is_zipfile(checkpoint) and load(checkpoint.parent)["progress"]["global_step"] > 0


@of_ppo_alone
def test_a_folder_that_cannot_be_made(script, command, tmp_path):
    (tmp_path / "runs").write_text("a file")
    process = command("--env-id", ENV_ID[script.__name__])
    _, err = process.communicate()
    (line,) = err.strip().splitlines()
    assert process.returncode == 2 and "Not a directory" in line and "runs/" in line
    assert (tmp_path / "runs").read_text() == "a file"


@pytest.mark.parametrize(
    "how, first_update, message",
    [
        ("observation", False, "observation of environment 5 is inf"),
        ("reward", False, "reward of environment 5 is nan"),
        ("error", False, "the motor is on fire"),
        ("reset", True, "observation of environment 5 is nan"),
        ("loss", True, "of minibatch"),
        ("exit", False, "the environment called sys.exit"),
        ("huge", False, "return_moments"),
    ],
    ids=["observation", "reward", "error", "reset", "loss", "exit", "huge"],
)
@of_ppo_alone
def test_what_breaks_is_named_and_the_last_checkpoint_stays(
    script, command, tmp_path, how, first_update, message
):
    env_id = small_env(script, f"Broken-{how}") if how != "loss" else ENV_ID[script.__name__]
    flags = ["--learning-rate", "1e30"] if how == "loss" else []
    process = command("--env-id", env_id, "--num-steps", 64, "--num-minibatches", 4,
                      "--checkpoint-interval", 1, "--total-timesteps", 20_000, *flags)  # fmt: skip
    _, err = process.communicate()
    (run,) = (tmp_path / "runs").iterdir()
    lines = [line for line in err.splitlines() if line.strip() and "gymnasium" not in line]
    places = [line for line in lines if line.startswith("failed after step ")]
    assert len(places) == 1
    place = places[0]
    last_line = lines[-1]
    assert process.returncode == 1
    assert message in (err if how == "error" else last_line)
    saved = run / "checkpoint.pt"
    # An error of an environment comes with its traceback, all else in one line.
    assert ("Traceback" in err and "envs.py" in err) == (how == "error")
    assert how in ("error", "reset") or len(lines) == 2
    assert f"--resume runs/{run.name}" in place
    assert saved.exists() == (not first_update)
    if first_update:
        assert "saved at step None" in place
        return
    checkpoint = load(run)
    step = checkpoint["progress"]["global_step"]
    assert f"saved at step {step}," in place
    assert f"after step {step:,}," in place or how in ("reward", "huge")
    for tensor in checkpoint["agent"].values():
        assert torch.isfinite(tensor).all()


# Videos and Weights & Biases


@of_ppo_alone
def test_videos_of_training_and_evaluation(script, trained, monkeypatch):
    from moviepy import VideoFileClip

    run = trained(total_timesteps=1500, eval_episodes=1, capture_video=True)
    resume(script, monkeypatch, run, "--eval-episodes", 2)
    videos = sorted(path.relative_to(run / "videos") for path in run.rglob("*.mp4"))
    steps = load(run)["progress"]["global_step"]
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


@of_ppo_alone
def test_weights_and_biases_offline(script, command, tmp_path, monkeypatch):
    train_with_wandb(command, monkeypatch, "--total-timesteps", 3000)
    check_wandb(tmp_path, number_of_logs=1)


@pytest.mark.slow
@of_ppo_alone
def test_weights_and_biases_goes_on_with_the_same_run(script, command, tmp_path, monkeypatch):
    env_id = ENV_ID[script.__name__]
    train_with_wandb(command, monkeypatch, "--env-id", env_id, "--total-timesteps", 3000)
    run = check_wandb(tmp_path, number_of_logs=1)
    train_with_wandb(command, monkeypatch, "--resume", run, "--total-timesteps", 6000)
    check_wandb(tmp_path, number_of_logs=2)
