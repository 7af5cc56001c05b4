"""Runs that end early and go on: kill -9, Ctrl-C, SIGTERM, closed terminals, checkpoints, W&B.

What starts processes runs for ppo.py alone, as these lines are the same in both scripts.
"""

import itertools
import os
import pty
import re
import runpy
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from signal import SIGINT, SIGTERM

import envs as small
import numpy as np
import pytest
import torch
from conftest import SCRIPTS, read_run
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.tensorboard import SummaryWriter

PPO = str(SCRIPTS / "ppo.py")
NEVER = ("--checkpoint-interval", "1e9")  # except after the first update
TINY = dict(num_envs=4, num_steps=16, num_minibatches=2, total_timesteps=1000, eval_episodes=0)


def load(file):
    return torch.load(file, map_location="cpu", weights_only=True)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.01)
    return result


def first_checkpoint():
    return wait_for(lambda: next(Path("runs").glob("*/checkpoint.pt"), None))


def check(folder):
    """Curves up to the checkpoint, no step twice and none missing: a gap of more than a rollout is
    where an update, or the first rollout, has been interrupted or only started the statistics."""
    checkpoint, logged = load(folder / "checkpoint.pt"), read_run(folder)
    rollout = checkpoint["args"]["num_envs"] * checkpoint["args"]["num_steps"]
    steps = [step for step, _ in logged["losses/policy_loss"]]
    assert all(0 < gap <= 2 * rollout for gap in np.diff([0, *steps]))
    assert steps[-1] == checkpoint["global_step"]
    for tag, values in logged.items():
        assert len({step for step, _ in values}) == len(values), tag
    return checkpoint, logged


@pytest.fixture
def run(monkeypatch):
    """run(file, *flags) does in this process what `python file *flags` does."""
    handler = signal.getsignal(SIGTERM)

    def run(file, *flags):
        monkeypatch.setattr(sys, "argv", [*map(str, [file, *flags])])
        runpy.run_path(sys.argv[0], run_name="__main__")

    yield run
    signal.signal(SIGTERM, handler)


@pytest.fixture
def trained(script, train):
    """trained(..) is the directory of a finished run."""

    def run(**args):
        env_id = "envs:Match-v0" if script.__name__ == "ppo" else "envs:MatchBox-v0"
        train(script, env_id=env_id, **TINY | args)
        (folder,) = Path("runs").iterdir()
        return folder

    return run


# Resuming


@pytest.mark.any_ppo
def test_a_resumed_run_goes_on_where_it_was(script, run, trained):
    """Before its next update it has the weights and the optimizer of the checkpoint."""
    folder = trained()
    before, seen = load(folder / "checkpoint.pt"), []

    def before_a_step(optimizer, *_):
        if not seen:
            seen.append({p.sum().item() for g in optimizer.param_groups for p in g["params"]})
            state = optimizer.state_dict()["state"]
            seen.append({k: v["exp_avg"].clone() for k, v in state.items()})

    hook = register_optimizer_step_pre_hook(before_a_step)
    run(script.__file__, "--resume", folder, "--total-timesteps", 1400)
    hook.remove()
    after, logged = check(folder)
    assert seen[0] <= {value.sum().item() for value in before["agent"].values()}
    moments = before["optimizer"]["state"]
    assert seen[1] and all(torch.equal(seen[1][k], moments[k]["exp_avg"]) for k in seen[1])
    updates = len(logged["losses/policy_loss"])
    assert after["optimizer"]["state"][0]["step"] == updates * script.Args().update_epochs * 2
    assert after["agent"]["obs_rms.count"] == after["global_step"] >= 1400
    rollout = after["agent"]["obs_rms.count"] - after["agent"]["return_rms.count"]
    assert 0 < rollout <= 4 * 16  # the first, which only starts the statistics
    assert len(after["recent_returns"]) == 100  # though only 50 have ended since
    assert after["args"]["resume"] is None  # so that a program can start such a run anew


def test_flags_beside_resume_win_and_others_are_those_of_the_run(script, run, trained):
    folder = trained(learning_rate=0.01, anneal_lr=False, gamma=0.5)
    run(script.__file__, "--resume", folder, "--total-timesteps", 1500)
    middle, logged = check(folder)
    assert {rate for _, rate in logged["charts/learning_rate"]} == {np.float32(0.01)}
    flags = ("--total-timesteps", 2500, "--learning-rate", 0.02, "--anneal-lr")
    run(script.__file__, "--resume", folder, *flags)
    after, logged = check(folder)
    start, rates = middle["global_step"], dict(logged["charts/learning_rate"])
    first = min(step for step in rates if step > start)
    assert rates[first] == pytest.approx(0.02 * (1 - start / 2500))
    assert after["args"]["gamma"] == 0.5 and 1500 <= start < 2500 <= after["global_step"]


@pytest.mark.any_ppo
@pytest.mark.parametrize("file", ["checkpoint.pt", "old.pt"])
def test_a_checkpoint_is_only_evaluated(script, run, trained, capsys, file):
    """That of a finished run, or an older one: the run and its curves stay as they are."""
    folder = trained(eval_episodes=2)
    torch.save(load(folder / "checkpoint.pt") | {"global_step": 100}, folder / "old.pt")
    before = {x: x.read_bytes() for x in folder.iterdir() if x.suffix in (".pt", ".json")}
    logged = read_run(folder)
    flags = ("--total-timesteps", 1, "--eval-episodes", 7)
    run(script.__file__, "--resume", folder / file, *flags)
    assert "7 episodes" in capsys.readouterr().out
    assert all(x.read_bytes() == content for x, content in before.items())
    assert read_run(folder) == logged and len(logged["eval/episodic_return"]) == 1


@pytest.mark.any_ppo
def test_best_pt_is_of_the_best_100_episodes(script, run, trained, monkeypatch):
    assert not (trained(total_timesteps=400) / "best.pt").exists()  # 50 episodes
    folder = trained(total_timesteps=5000, gamma=0.9, learning_rate=3e-3)
    best, curve = load(folder / "best.pt"), dict(read_run(folder)["charts/episodic_return_100"])
    mean = {step: mean for step, mean in curve.items() if step >= 8 * (100 + 4)}
    assert np.mean(best["recent_returns"]) == pytest.approx(max(mean.values()))
    assert mean[best["global_step"]] == max(mean.values()) > 5
    # After resuming the last 100 episodes are worse, though better than those of the checkpoint, as
    # if the run had been killed after it.
    content = (folder / "best.pt").read_bytes()
    file = folder / "checkpoint.pt"
    torch.save(load(file) | {"recent_returns": [-1.0] * 100}, file)
    monkeypatch.setattr(small.Match, "reward_scale", 0.1)
    run(script.__file__, "--resume", folder, "--total-timesteps", 7000)
    assert (folder / "best.pt").read_bytes() == content
    assert np.mean(load(folder / "checkpoint.pt")["recent_returns"]) < 1


@pytest.mark.any_ppo
def test_resume_takes_a_directory_or_one_of_its_checkpoints(script, run, trained):
    """What was logged after the checkpoint is gone."""
    folder = trained(total_timesteps=2000)
    for file in ("best.pt", "", "checkpoint.pt"):
        start = load(folder / (file or "checkpoint.pt"))["global_step"]
        with SummaryWriter(folder) as writer:
            writer.add_scalar("charts/SPS", -1.0, start + 1)
            writer.add_scalar("charts/SPS", -1.0, start + 10**6)
        run(script.__file__, "--resume", folder / file, "--total-timesteps", start + 500)
        after, logged = check(folder)
        assert start + 500 <= after["global_step"] < start + 500 + 64
        assert all(value > 0 for _, value in logged["charts/SPS"])


def test_speed_and_checkpoints_go_by_the_clock(script, trained, monkeypatch):
    """A clock that each look at it puts forward by a second: the speed counts from the resumption,
    and more than the interval lies between two checkpoints but for the last one."""
    folder = trained()
    start, seconds, saved, save = load(folder / "checkpoint.pt"), [1000], [], torch.save

    def clock():
        seconds[0] += 1
        return seconds[0]

    def save_and_note(state, file):
        saved.extend(seconds if Path(file).stem == "checkpoint" else [])
        save(state, file)

    monkeypatch.setattr(script, "time", types.SimpleNamespace(time=clock))
    monkeypatch.setattr(torch, "save", save_and_note)
    flags = {"total_timesteps": 4000, "checkpoint_interval": 10, "resume": str(folder)}
    script.main(script.Args(**start["args"] | flags))
    speeds = [(x - start["global_step"], sps) for x, sps in read_run(folder)["charts/SPS"]]
    assert all(sps <= steps for steps, sps in speeds if steps > 0) and speeds[-1][0] > 2000
    assert len(saved) > 4 and (np.diff(saved[:-1]) > 10).all()


def test_the_scripts_of_a_run_are_kept(script, run, trained, tmp_path):
    folder, source = trained(), Path(script.__file__)
    edited = tmp_path / source.name
    edited.write_bytes(source.read_bytes() + b"# edited")
    assert (folder / f"{source.stem}-0.py").read_bytes() == source.read_bytes()
    for file in (edited, source):
        step = load(folder / "checkpoint.pt")["global_step"]
        run(file, "--resume", folder, "--total-timesteps", step + 100)
        assert (folder / f"{source.stem}-{step}.py").read_bytes() == file.read_bytes()
    copies = len(list(folder.glob("*.py")))
    run(edited, "--resume", folder, "--total-timesteps", 1)  # only evaluates
    assert len(list(folder.glob("*.py"))) == copies == 3


def test_a_full_disk_leaves_the_last_checkpoint_whole(script, trained, monkeypatch):
    save, files = torch.save, []

    def save_until_it_is_full(state, file):
        files.append(file)
        if len(files) < 5:
            return save(state, file)
        Path(file).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", save_until_it_is_full)
    with pytest.raises(OSError, match="No space left"):
        trained(checkpoint_interval=0)
    (folder,) = Path("runs").iterdir()
    step = load(folder / "checkpoint.pt")["global_step"]
    assert 0 < step < 1000 and step in dict(read_run(folder)["charts/SPS"])


# Processes that are ended


def members(group):
    """How many processes of a group are alive."""
    lines = subprocess.check_output(["ps", "-A", "-o", "pgid=,stat="], text=True).splitlines()
    return sum(int(line.split()[0]) == group and "Z" not in line for line in lines)


@pytest.fixture
def command(tmp_path, monkeypatch):
    """command(*flags) starts ppo.py in an empty folder, in a process group of its own."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.chdir(tmp_path)
    processes, pipe = [], subprocess.PIPE

    def start(*flags, program=(sys.executable, PPO)):
        options = dict(stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        processes.append(subprocess.Popen([*map(str, [*program, *flags])], **options))
        return processes[-1]

    yield start
    for process in processes:
        if members(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def end(process, number, to_group=True):
    """Send a signal after some updates: all processes end, and the state of then is saved."""
    checkpoint = first_checkpoint()
    step = load(checkpoint)["global_step"]
    time.sleep(0.7)
    os.killpg(process.pid, number) if to_group else process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    wait_for(lambda: not members(process.pid), seconds=5)
    assert load(checkpoint)["global_step"] > step
    return output


KILLS = """
import os, random, runpy, signal, sys, time
from pathlib import Path
import gymnasium, torch._dynamo, torch.utils.tensorboard, tqdm, tyro  # once: copies start fast

def start(*flags):
    time.sleep(1 - time.time() % 1)  # TensorBoard sorts files of the same second by pid, as text
    pid = os.fork()
    if pid == 0:
        sys.argv = [sys.argv[1], *flags]
        runpy.run_path(sys.argv[0], run_name="__main__")
        os._exit(0)
    return pid

moments, pid, begin = random.Random(1), start(*sys.argv[3:]), time.time()
while not (checkpoints := list(Path("runs").glob("*/checkpoint.pt"))):
    time.sleep(0.01)
startup = time.time() - begin
for _ in range(int(sys.argv[2])):
    time.sleep(moments.uniform(0, 4 * startup))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    step = torch.load(checkpoints[0], weights_only=True)["global_step"]
    print("step", step, flush=True)
    pid = start("--resume", str(checkpoints[0].parent))
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
pid = start("--resume", str(checkpoints[0].parent), "--total-timesteps", str(step + 10_000))
assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_kill_9(command, kills):
    """At random moments of the start and of some updates after it."""
    flags = ("--total-timesteps", 10**9, "--checkpoint-interval", 0.1, "--no-anneal-lr")
    process = command(kills, *flags, program=(sys.executable, "-c", KILLS, PPO))
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    saved = [int(step) for step in re.findall(r"step (\d+)", output)]
    assert len(saved) == kills and saved == sorted(saved) and len(set(saved)) > kills / 4
    checkpoint, logged = check(first_checkpoint().parent)
    total = checkpoint["args"]["total_timesteps"]
    assert saved[-1] < total <= checkpoint["global_step"] < total + 1024
    assert all(gap <= 1024 for gap in np.diff([step for step, _ in logged["charts/SPS"]]))


METHOD = """
import multiprocessing, runpy, sys
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    del sys.argv[:2]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
QUICK = [
    ("sync", SIGINT, "group"),
    ("fork", SIGTERM, "process"),
    ("spawn", SIGTERM, "group"),
    ("forkserver", SIGINT, "group"),
]
MODES = ["sync", "native", "fork", "spawn", "forkserver"]
OTHERS = set(itertools.product(MODES, (SIGINT, SIGTERM), ("group", "process"))) - set(QUICK)
OTHERS = [pytest.param(*case, marks=pytest.mark.slow) for case in sorted(OTHERS)]


@pytest.mark.parametrize("mode, number, receiver", QUICK + OTHERS)
def test_a_signal_saves_and_ends(ppo, command, run, tmp_path, mode, number, receiver):
    """In each vectorization mode, async with each way of starting processes."""
    (tmp_path / "program.py").write_text(METHOD)
    processes = mode not in ("sync", "native")
    flags = ["--vectorization-mode", "async" if processes else mode] * (mode != "native")
    program = (sys.executable, *(("program.py", mode) if processes else ()), PPO)
    process = command("--num-envs", 2, *NEVER, *flags, program=program)
    output = end(process, number, receiver == "group")
    folder = first_checkpoint().parent
    assert process.returncode == -SIGINT and f"--resume runs/{folder.name}" in output
    step = load(folder / "checkpoint.pt")["global_step"]
    run(PPO, "--resume", folder, "--total-timesteps", step + 500, "--eval-episodes", 0)
    assert check(folder)[0]["global_step"] >= step + 500


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from ppo import Args, main
try:
    main(Args(checkpoint_interval=1e9, vectorization_mode="async", num_envs=4))
except KeyboardInterrupt:
    print("caught")
"""


def test_a_program_gets_the_keyboard_interrupt(command):
    process = command(SCRIPTS, program=(sys.executable, "-c", PROGRAM))
    assert "caught" in end(process, SIGINT) and process.returncode == 0


def test_the_other_end_of_a_pipe_ends_too(command):
    line = f"{sys.executable} {PPO} {' '.join(NEVER)} 2>&1 | tee log"
    end(command(program=("bash", "-c", line)), SIGINT)


def test_a_second_signal_leaves_a_whole_checkpoint(command):
    process = command("--checkpoint-interval", 0)
    checkpoint = first_checkpoint()
    for _ in range(5):
        process.send_signal(SIGTERM)
        time.sleep(0.005)
    process.communicate(timeout=20)
    assert process.returncode != 0 and load(checkpoint)["global_step"] > 0


def test_a_signal_in_a_slow_first_rollout(command, run):
    """Six seconds long; what is left can be resumed."""
    process = command("--env-id", "envs:Slow-v0", "--num-envs", 2)
    folder = Path(process.stdout.readline().split()[-1])
    time.sleep(1)
    start = time.monotonic()
    process.send_signal(SIGTERM)
    process.communicate(timeout=20)
    assert time.monotonic() - start < 3 and process.returncode == -SIGINT
    assert (folder / "checkpoint.pt").exists()
    assert load(folder / "checkpoint.pt")["global_step"] == 0
    run(PPO, "--resume", folder, "--env-id", "envs:Match-v0", "--total-timesteps", 500)
    assert check(folder)[0]["global_step"] >= 500


def test_a_terminal_that_closes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, PPO, "--checkpoint-interval", "0.3"])
    assert b"run directory" in os.read(terminal, 1000)
    checkpoint = first_checkpoint()
    time.sleep(1)
    closed = time.time()
    os.close(terminal)
    wait_for(lambda: os.waitpid(pid, os.WNOHANG)[0])
    assert checkpoint.stat().st_mtime > closed - 0.3 - 0.5  # the interval and an update
    assert load(checkpoint)["global_step"] > 2048


def test_an_error_does_not_hang_on_environments_in_processes(command):
    """An error in main itself, while the environments wait."""
    flags = ["--env-kwargs", '{"how": "observation"}', "--vectorization-mode", "async"]
    process = command("--env-id", "envs:Broken-v0", "--num-envs", 4, *flags)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1 and "NaN or infinite" in output
    wait_for(lambda: not members(process.pid), seconds=5)


# Weights & Biases


def test_a_tracked_run_stays_tracked_under_its_name(script, run, trained, monkeypatch):
    calls = []
    wandb = types.SimpleNamespace(init=lambda **x: calls.append(x), finish=lambda: calls.append(0))
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    folder = trained(track=True, wandb_project_name="mine")
    run(script.__file__, "--resume", folder, "--total-timesteps", 2000)
    run(script.__file__, "--resume", folder, "--total-timesteps", 3000, "--no-track")
    first, done, second, done_too = calls
    assert first["id"] == first["name"] == second["id"] == second["name"] == folder.name
    assert first["project"] == second["project"] == "mine" and done == done_too == 0
    assert second["reinit"] == "finish_previous"  # after an error in a program, not the old one
    assert second["resume"] == "allow" and second["config"]["total_timesteps"] == 2000
    run(script.__file__, "--resume", folder, "--total-timesteps", 1, "--track")
    assert calls[-2]["config"] is None  # what is only evaluated keeps its own


def test_wandb_offline(command, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    process = command("--track", "--total-timesteps", 3000, "--eval-episodes", 1)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    (file,) = Path("wandb").glob("offline-run-*/*.wandb")
    data, name = file.read_bytes(), first_checkpoint().parent.name
    for text in (name, "losses/policy_loss", "charts/SPS", "eval/episodic_return", "global_step"):
        assert text.encode() in data, text
