"""Several processes: what they share, what each has of its own, and how they end together.

Most are forks of this process, set up as torchrun sets up its own; what is torchrun's part
(signals, a process that dies, two hosts, restarts) is run by torchrun.
"""

import hashlib
import io
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import envs as small
import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import ROOT, read_run

ENV_ID = {"ppo": "CartPole-v1", "ppo_continuous": "Pendulum-v1"}
TARGET_KL = {"ppo": 2e-4, "ppo_continuous": 5e-5}  # some updates of SMALL end early
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SMALL = dict(num_envs=3, num_steps=16, num_minibatches=4, update_epochs=2, eval_episodes=0)


def small_env(script, name):
    return f"envs:{name}-v0" if script.__name__ == "ppo" else f"envs:{name}Box-v0"


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


@pytest.fixture
def processes(tmp_path, monkeypatch):
    """processes(number, work) is what work(rank) returns in each of so many processes."""
    monkeypatch.chdir(tmp_path)

    def run(number, work):
        port = free_port()
        children = []
        for rank in range(number):
            children.append(os.fork())
            if children[-1] == 0:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_PORT": port}
                os.environ |= {"WORLD_SIZE": str(number), "MASTER_ADDR": "127.0.0.1"}
                os.environ |= {"TORCHELASTIC_RUN_ID": "test"}
                signal.alarm(60)
                try:
                    torch.save(work(rank), tmp_path / f"{rank}.pt")
                    os._exit(0)
                except BaseException as error:
                    print(f"rank {rank}: {error!r}", file=sys.stderr, flush=True)
                    os._exit(getattr(error, "code", 1) or 1)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert codes == [0] * number
        return [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(number)]

    return run


def main_and_its_state(script, **args):
    """The agent and the optimiser as they are when main is done."""
    kept, open_run = [], script.open_run

    def keep(args, rank, agent, optimizer):
        kept[:] = agent, optimizer
        return open_run(args, rank, agent, optimizer)

    script.open_run = keep
    script.main(script.Args(**args))
    return kept


def digest(agent, optimizer):
    file = io.BytesIO()
    torch.save([agent.state_dict(), optimizer.state_dict()], file)
    return hashlib.sha256(file.getvalue()).hexdigest()


def the_run():
    (run,) = Path("runs").iterdir()
    return run


# What the processes share


@pytest.mark.parametrize("number", [2, 3])
def test_processes_stay_alike_bit_for_bit(script, processes, number):
    """Weights, optimiser and statistics, also where --target-kl ends some of the updates early;
    what they learn from is not the same. The checkpoint of the first is that of all."""

    def work(rank):
        acted_on, seeded = [], script.Agent.act

        class Agent(script.Agent):
            def act(self, obs, **greedy):
                acted_on.append((obs.clone(), torch.get_rng_state()))
                return seeded(self, obs, **greedy)

        script.Agent = Agent
        args = SMALL | dict(env_id=ENV_ID[script.__name__], total_timesteps=2000)
        target_kl = TARGET_KL[script.__name__]
        agent, optimizer = main_and_its_state(script, target_kl=target_kl, **args)
        return digest(agent, optimizer), *acted_on[1], agent.state_dict()  # [0]: of zeros

    results = processes(number, work)
    digests, *first, agents = zip(*results, strict=True)
    assert len(set(digests)) == 1
    for tensors in first:  # observations, the generator's state
        assert not any(torch.equal(x, y) for x, y in itertools.combinations(tensors, 2))
    checkpoint = torch.load(the_run() / "checkpoint.pt", weights_only=True)
    assert all(torch.equal(x, checkpoint["agent"][name]) for name, x in agents[1].items())
    minibatches = checkpoint["optimizer"]["state"][0]["step"].item()
    one_epoch = checkpoint["progress"]["update"] * SMALL["num_minibatches"]
    assert one_epoch < minibatches < 2 * one_epoch  # --target-kl had its say
    check_counts(number)


def check_counts(number):
    """All processes' steps are counted, and curves are written once."""
    run = the_run()
    progress = torch.load(run / "checkpoint.pt", weights_only=True)["progress"]
    logged = read_run(run)
    steps = [step for step, _ in logged["losses/policy_loss"]]
    assert len(steps) == progress["update"] and steps[-1] == progress["global_step"] >= 2000
    samples = number * SMALL["num_envs"] * SMALL["num_steps"]
    added = np.diff([0, *steps])
    assert (added <= samples).all() and added.max() > 0.8 * samples


def test_moments_and_episodes_are_those_of_all_processes(script, processes):
    """Of observations and of discounted sums, over several rollouts with ends."""

    def work(rank):
        small.Marked.acted_on, sums, running_sum = [], [], script.running_sum
        ends, gae = [], script.gae

        def count_ends(rewards, values, terminated, dones, gamma, gae_lambda):
            ends.append(dones.sum())
            return gae(rewards, values, terminated, dones, gamma, gae_lambda)

        def record(x, valid, start, gamma):
            result = running_sum(x, valid, start, gamma)
            if gamma == 0.9:
                sums.extend(result[valid])
            return result

        script.running_sum, script.gae = record, count_ends
        env_id = small_env(script, "Marked")
        agent, _ = main_and_its_state(
            script, env_id=env_id, gamma=0.9, total_timesteps=240, vectorisation="sync", **SMALL
        )
        return small.Marked.acted_on, sums, agent.obs_moments, agent.return_moments, sum(ends)

    results = processes(2, work)
    for kind in (0, 1):  # observations, sums
        rows = np.concatenate([np.array(result[kind], dtype=float) for result in results])
        rows = rows.reshape(len(rows), -1)
        deviations = ((rows - rows.mean(0)) ** 2).sum(0)
        expected = [np.full(rows.shape[1], len(rows)), rows.mean(0), deviations]
        for result in results:
            assert result[kind + 2].numpy() == pytest.approx(np.array(expected), rel=1e-9, abs=1e-9)
    assert read_run(the_run())["charts/SPS"][-1][0] == len(results[0][0] + results[1][0])
    progress = torch.load(the_run() / "checkpoint.pt", weights_only=True)["progress"]
    assert 10 < len(progress["recent_returns"]) == sum(result[-1] for result in results) <= 100


def test_two_processes_make_the_update_of_one_with_all_their_samples(script, processes):
    """The same environments and actions in one process give the same gradients and weights within
    rounding: in one minibatch without normalisation, as each process normalises its advantages."""
    T, N = 6, 3  # no episode ends so soon
    args = dict(env_id=ENV_ID[script.__name__], num_steps=T, total_timesteps=1, num_minibatches=1)
    args |= dict(norm_obs=False, norm_reward=False, norm_adv=False, update_epochs=1)
    args |= dict(eval_episodes=0, vectorisation="sync", max_grad_norm=float("inf"))
    reset, act = gym.vector.SyncVectorEnv.reset, script.Agent.act

    def together(rank):
        seeds, actions = [], []

        def record_reset(self, *, seed, options=None):
            seeds.extend(range(seed, seed + N))
            return reset(self, seed=seed)

        def record_act(self, obs):
            actions.append(act(self, obs))
            return actions[-1]

        gym.vector.SyncVectorEnv.reset, script.Agent.act = record_reset, record_act
        agent, optimizer = main_and_its_state(script, num_envs=N, **args)
        return seeds, actions[1:], agent.state_dict(), optimizer.state_dict()["state"]

    (seeds_0, actions_0, weights, adam), (seeds_1, actions_1, *_) = processes(2, together)

    def alone(rank):
        seeds = seeds_0 + seeds_1
        actions = iter([torch.cat(x) for x in zip(actions_0, actions_1, strict=True)])
        gym.vector.SyncVectorEnv.reset = lambda self, *, seed, options=None: reset(self, seed=seeds)
        script.Agent.act = lambda self, obs: next(actions) if obs.ndim == 2 else act(self, obs)
        agent, optimizer = main_and_its_state(script, num_envs=2 * N, **args)
        return agent.state_dict(), optimizer.state_dict()["state"]

    ((weights_alone, adam_alone),) = processes(1, alone)
    for name, x in weights_alone.items():
        assert torch.allclose(x, weights[name], rtol=1e-4, atol=1e-6), name
    for i, state in adam_alone.items():
        scale = state["exp_avg"].abs().max()
        assert scale > 0 and (state["exp_avg"] - adam[i]["exp_avg"]).abs().max() < 1e-5 * scale


# As one process


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "name, threshold", [("TwoStates", 0.99), ("Truncated", 0.59), ("Match", 7.9)]
)
def test_learns(script, processes, name, threshold, seed):
    args = dict(num_envs=4, num_steps=32, num_minibatches=4, learning_rate=3e-3, gamma=0.9)
    args |= dict(total_timesteps=10_000, seed=seed, env_id=small_env(script, name))
    processes(2, lambda rank: script.main(script.Args(**args)))
    assert read_run(the_run())["eval/episodic_return"][0][1] >= threshold


def test_a_signal_to_one_process_ends_all_after_the_same_update(script, processes):
    def work(rank):
        act, calls = script.Agent.act, []

        def interrupt(agent, obs, **greedy):
            calls.append(1)
            if rank == 1 and len(calls) == 100:
                signal.raise_signal(signal.SIGINT)
            return act(agent, obs, **greedy)

        script.Agent.act = interrupt
        interrupted = False
        try:
            script.main(script.Args(env_id=ENV_ID[script.__name__], **SMALL))
        except KeyboardInterrupt:
            interrupted = True
        return interrupted, len(calls)

    (in_first, calls), in_second = processes(2, work)
    assert (in_first, in_second) == (False, (True, calls))
    assert 100 <= calls < 100 + SMALL["num_steps"] + 2
    assert (the_run() / "checkpoint.pt").exists()


def test_same_seed_same_numbers_bit_for_bit(script, processes, tmp_path, monkeypatch):
    digests = []
    for i, seed in enumerate((3, 3, 4)):
        folder = tmp_path / str(i)
        folder.mkdir()

        def work(rank, folder=folder, seed=seed):
            os.chdir(folder)
            args = SMALL | dict(env_id=ENV_ID[script.__name__], total_timesteps=1000, seed=seed)
            return digest(*main_and_its_state(script, **args))

        digests += [processes(2, work)[0]]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--gamma 2", "--gamma 2.0: allowed is 0 <= x <= 1"),
        ("--num-minibatches 9999", "allowed is at most T*N"),
        ("--env-id Nowhere-v0", "--env-id Nowhere-v0"),
        ("--resume runs/nowhere", "--resume runs/nowhere"),
    ],
)
def test_bad_input_is_refused(script, processes, monkeypatch, tmp_path, flags, message):
    monkeypatch.setattr(sys, "argv", ["", "--total-timesteps", "1", *flags.split()])

    def work(rank):
        with pytest.raises(script.Refused) as refusal:
            script.main(script.parse_args())
        return str(refusal.value)

    assert all(message in line for line in processes(2, work))
    assert not (tmp_path / "runs").exists()


# What torchrun does


@linux
def test_no_thread_outlives_the_run(script, tmp_path):
    """One that talks to the others may still work when the interpreter ends, and abort it."""
    code = f"""
import {script.__name__} as script, os
script.main(script.Args(total_timesteps=1, eval_episodes=0))
for task in os.listdir("/proc/self/task"):
    print("thread", open(f"/proc/self/task/{{task}}/comm").read())
"""
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "test"}
    alone |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    alone["PYTHONPATH"] = os.path.dirname(script.__file__)
    command = [sys.executable, "-c", code]
    output = subprocess.check_output(command, env=os.environ | alone, cwd=tmp_path, text=True)
    assert "thread python" in output and "gloo" not in output


@pytest.fixture
def torchrun(ppo, tmp_path, monkeypatch):
    """torchrun(processes, *flags) starts so many of ppo.py in an empty folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    started = []

    def start(number, *flags, options=("--standalone",)) -> subprocess.Popen:
        command = [sys.executable, "-m", "torch.distributed.run", *options]
        command += ["--nproc-per-node", number, ppo.__file__, *flags]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([*map(str, command)], **streams))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.communicate()


def until_saved(run_of, seconds=60):
    """The folder of the run once it has a checkpoint."""
    end = time.time() + seconds
    while not (checkpoints := list(Path(run_of).glob("runs/*/checkpoint.pt"))):
        assert time.time() < end
        time.sleep(0.05)
    return checkpoints[0].parent


def worker(torchrun, rank):
    """The process id of one of torchrun's processes."""
    for line in subprocess.check_output(["ps", "-eo", "pid,ppid"], text=True).splitlines()[1:]:
        pid, parent = map(int, line.split())
        if parent == torchrun.pid:
            environment = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
            if f"RANK={rank}" in environment:
                return pid
    raise AssertionError("it is not there")


ENDLESS = ("--total-timesteps", "inf", "--no-anneal-lr", "--checkpoint-interval", 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_torchrun_saves(torchrun, tmp_path, number):
    process = torchrun(2, "--total-timesteps", 10**6, "--checkpoint-interval", 10**6)
    for _ in range(10):
        assert process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    (line,) = re.findall(r"^.* after step .*$", err, re.MULTILINE)
    assert line.startswith(number.name)
    run = the_run()
    assert torch.load(run / "checkpoint.pt", weights_only=True)["progress"]["global_step"] > 10_000
    logged = read_run(run)
    assert len({step for step, _ in logged["charts/SPS"]}) == len(logged["charts/SPS"])


@linux
@pytest.mark.parametrize("rank, numbers", [(0, [2]), (1, [1, 3])])
def test_kill_9_ends_the_job_and_others_go_on(torchrun, tmp_path, rank, numbers):
    """The error names the process; resuming with one, two and three gives the full count."""
    process = torchrun(2, *ENDLESS)
    run = until_saved(tmp_path)
    os.kill(worker(process, rank), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert re.search(rf"rank\s*: {rank} ", err) and "SIGKILL" in err
    steps = []
    for number in numbers:
        before = torch.load(run / "checkpoint.pt", weights_only=True)["progress"]
        total = before["global_step"] + 5000
        flags = ["--resume", run, "--total-timesteps", total, "--eval-episodes", 0]
        resumed = torchrun(number, *flags)
        out, err = resumed.communicate(timeout=60)
        assert resumed.returncode == 0, err
        steps.append(
            torch.load(run / "checkpoint.pt", weights_only=True)["progress"]["global_step"]
        )
        assert total <= steps[-1] <= total + number * 16 * 64
    logged = read_run(run)
    assert logged["charts/SPS"][-1][0] == steps[-1]
    assert len({step for step, _ in logged["charts/SPS"]}) == len(logged["charts/SPS"])


@linux
def test_torchrun_restarts_a_run_that_it_resumes(torchrun, tmp_path, monkeypatch):
    """--max-restarts: the processes go on from the last checkpoint by themselves."""
    process = torchrun(2, *ENDLESS)
    run = until_saved(tmp_path)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    before = torch.load(run / "checkpoint.pt", weights_only=True)["progress"]["global_step"]
    flags = ["--resume", run, "--total-timesteps", before + 50_000, "--eval-episodes", 0]
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    process = torchrun(2, *flags, options=("--standalone", "--max-restarts", 3))
    for _ in range(10):
        assert process.stdout.readline()
    os.kill(worker(process, 1), signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "Connection refused" not in err  # by a process of before
    progress = torch.load(run / "checkpoint.pt", weights_only=True)["progress"]
    assert progress["global_step"] >= before + 50_000


def test_restarts_that_would_hang_are_refused(torchrun):
    process = torchrun(1, options=("--max-restarts", 1))
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0 and "DISABLE_SHARE_RDZV_TCP_STORE=1, see README" in err
    assert not os.path.exists("runs")
