"""Speed of the scripts beside the bare environments, CleanRL, Stable-Baselines3 and an older
version of ppo.py, on one thread each.

pip install stable-baselines3==2.9.2 matplotlib==3.11.2 envpool==1.2.5
git clone https://github.com/vwxyzjn/cleanrl benchmarks/runs/cleanrl
python benchmarks/throughput.py speed     results/speed.{csv,md}: steps a second
python benchmarks/throughput.py solve     results/solve.{csv,md}: LunarLander-v3, time to 200
python benchmarks/throughput.py scaling   results/scaling.{csv,md,png}: cost against sizes
python benchmarks/throughput.py processes results/{,more_}processes.{csv,md}: torchrun, time to 200
python benchmarks/throughput.py splits    results/{splits,more_splits}.{csv,md}: other settings
python benchmarks/throughput.py parts     results/parts.{csv,md}: torchrun, seconds of an update
python benchmarks/throughput.py envpool   results/envpool.{csv,md}: EnvPool beside Gymnasium

Each measurement is a process of its own. Figures that are compared stand in the same row and were
measured in turns, on a machine that did nothing else; solve and what runs torchrun use two cores,
the others one.
"""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import gymnasium as gym
import numpy as np
from summarize import HERE, origin, time_to_200
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

PPO = HERE.parent / "ppo.py"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# Settings that others are run with, as flags of ppo.py; SB3's names beside them.
CLEANRL = "--num-envs 4 --num-steps 128 --num-minibatches 4 --update-epochs 4"
WITHOUT = "--no-norm-obs --no-norm-reward"  # CleanRL's ppo.py and SB3 normalise neither
ZOO = "--num-envs 16 --num-steps 1024 --num-minibatches 256 --update-epochs 4"
SB3_ZOO = {"n_envs": 16, "n_steps": 1024, "batch_size": 64, "n_epochs": 4}
SB3_ZOO |= {"gae_lambda": 0.98, "gamma": 0.999, "ent_coef": 0.01}
SB3_OWN = "--num-envs 1 --num-steps 2048 --num-minibatches 32 --update-epochs 10"
SB3_DEFAULTS = {"n_envs": 1, "n_steps": 2048, "batch_size": 64, "n_epochs": 10}
NETWORK_LATENCY = 0.05  # ms a message between hosts, an assumption: TCP in one data centre
OLDER = "11c8902"  # the last commit whose rollout was in NumPy, with one vector of parameters


def run(command: list, folder: str) -> tuple[str, int]:
    """Standard output, and the largest resident size in KiB (of Linux; macOS counts in bytes)."""
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(HERE)}
    options = {"cwd": folder, "env": environment, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, *map(str, command)], **options)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return output, usage.ru_maxrss


def train(flags: str, script: Path = PPO) -> dict:
    """One run of ours: steady steps a second (without the first update), memory, time to 200."""
    with TemporaryDirectory() as folder:
        start = time.time()
        _, memory = run([script, *flags.split(), "--eval-episodes", 0], folder)
        (path,) = Path(folder, "runs").iterdir()
        events = EventAccumulator(str(path), size_guidance={"scalars": 0})
        events.Reload()
        scalars = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
        started = events.Tensors("args/text_summary")[0].wall_time
    first, *_, last = scalars["charts/wall_time"]
    steps_to_200, seconds_to_200 = time_to_200(scalars) or (None, last.value)
    return {
        "sps": (last.step - first.step) / (last.value - first.value),
        "memory": memory / 1024,
        "steps_to_200": steps_to_200,
        "seconds_to_200": seconds_to_200,
        "start_up": started - start,
    }


def until_200(processes: int, flags: str) -> dict:
    """One run of ours on LunarLander-v3, ended once the last 100 episodes have a mean of 200."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
    command = [*launch, PPO] if processes > 1 else [PPO]
    command += ["--env-id", "LunarLander-v3", "--eval-episodes", 0, *flags.split()]
    with TemporaryDirectory() as folder:
        start = time.time()
        options = {"cwd": folder, "env": {**os.environ, **ONE_THREAD}, "text": True}
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([sys.executable, *map(str, command)], **options)
        for line in process.stdout:
            mean = line.split()[-1]
            if "return" in line and mean != "-" and float(mean) >= 200:
                process.send_signal(signal.SIGINT)
        process.wait()
        (path,) = Path(folder, "runs").iterdir()
        events = EventAccumulator(str(path), size_guidance={"scalars": 0})
        events.Reload()
        scalars = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
        started = events.Tensors("args/text_summary")[0].wall_time
    first, *_, last = scalars["charts/wall_time"]
    steps, seconds = time_to_200(scalars) or (None, last.value)
    return {
        "sps": (last.step - first.step) / (last.value - first.value),
        "update": (last.value - first.value) / (len(scalars["charts/wall_time"]) - 1),
        "steps_to_200": steps,
        "seconds_to_200": seconds,
        "start_up": started - start,
    }


def cleanrl(env_id: str, steps: int) -> float:
    """Steady steps a second of CleanRL's ppo.py, with its defaults."""
    with TemporaryDirectory() as folder:
        flags = ["--env-id", env_id, "--total-timesteps", steps, "--no-cuda"]
        run([HERE / "runs/cleanrl/cleanrl/ppo.py", *flags], folder)
        (path,) = Path(folder, "runs").iterdir()
        events = EventAccumulator(str(path), size_guidance={"scalars": 0})
        events.Reload()
        first, *_, last = events.Scalars("charts/SPS")
    return (last.step - first.step) / (last.wall_time - first.wall_time)


def sb3(env_id: str, steps: int, settings: dict, seed: int = 1) -> dict:
    """One run of Stable-Baselines3, as a process."""
    arguments = [env_id, steps, json.dumps(settings), seed, time.time()]
    with TemporaryDirectory() as folder:
        output, memory = run([__file__, "sb3", *arguments], folder)
    return json.loads(output.splitlines()[-1]) | {"memory": memory / 1024}


def sb3_process(env_id: str, steps: str, settings: str, seed: str, launched: str) -> None:
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    class UntilSolved(BaseCallback):
        def _on_training_start(self):
            self.start, self.solved_at = time.time(), None

        def _on_step(self):
            episodes = self.model.ep_info_buffer
            returns = [episode["r"] for episode in episodes] if any(self.locals["dones"]) else []
            if len(returns) == 100 and np.mean(returns) >= 200:
                self.solved_at = self.num_timesteps
            return self.solved_at is None

    torch.set_num_threads(1)
    settings = json.loads(settings)
    envs = make_vec_env(env_id, settings.pop("n_envs"), seed=int(seed))
    model, callback = (
        PPO("MlpPolicy", envs, device="cpu", seed=int(seed), **settings),
        UntilSolved(),
    )
    model.learn(int(steps), callback)
    seconds = time.time() - callback.start
    result = {"sps": model.num_timesteps / seconds, "seconds_to_200": seconds}
    result |= {"steps_to_200": callback.solved_at, "start_up": callback.start - float(launched)}
    print(json.dumps(result))


def default(flag: str, script: Path = PPO) -> int:
    """The default of a flag that is a whole number."""
    return int(re.search(rf"^    {flag}: .* = ([\d_]+)$", script.read_text(), re.MULTILINE)[1])


def at(commit: str) -> Path:
    """The script as it was at a commit, of a repository with its history."""
    path = HERE / "runs" / "commits" / commit / "ppo.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    show = ["git", "show", f"{commit}:ppo.py"]
    path.write_bytes(subprocess.run(show, cwd=HERE, check=True, stdout=subprocess.PIPE).stdout)
    return path


def raw(env_id: str, num_envs: int, seconds: float = 4.0) -> float:
    """Steps a second of the vector environment alone, under random actions."""
    code = f"import throughput; print(throughput.step_only({env_id!r}, {num_envs}, {seconds}))"
    return float(run(["-c", code], HERE)[0])


def step_only(env_id: str, num_envs: int, seconds: float) -> float:
    envs = gym.make_vec(env_id, num_envs)
    actions = [envs.action_space.sample() for _ in range(100)]
    envs.reset(seed=0)
    for action in actions:
        envs.step(action)
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        for action in actions:
            envs.step(action)
        steps += len(actions) * num_envs
    return steps / (time.perf_counter() - start)


def write(name: str, header: list[str], rows: list[list], table: list[str] = ()) -> None:
    with open(HERE / "results" / f"{name}.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    if table:
        (HERE / "results" / f"{name}.md").write_text("\n".join([*table, "", origin(), ""]))
        print("\n".join(table))


def speed(rounds: int = 4) -> None:
    """Rows: what is compared, ours, the other; medians of rounds, ratios within each round."""
    cartpole, lander = "CartPole-v1", "LunarLander-v3"
    continuous = HERE.parent / "ppo_continuous.py"
    cheetah = "HalfCheetah-v5"
    cases = {
        f"{cartpole}, CleanRL's setting": (
            lambda: train(f"--env-id {cartpole} --total-timesteps 60000 {CLEANRL} {WITHOUT}"),
            ("environment", lambda: raw(cartpole, 4)),
        ),
        f"{cartpole}, the same setting": (
            lambda: train(f"--env-id {cartpole} --total-timesteps 60000 {CLEANRL} {WITHOUT}"),
            ("CleanRL", lambda: cleanrl(cartpole, 30_000)),
        ),
        f"{cartpole}, the same, normalised": (
            lambda: train(f"--env-id {cartpole} --total-timesteps 60000 {CLEANRL}"),
            ("environment", lambda: raw(cartpole, 4)),
        ),
        f"{lander}, CleanRL's setting": (
            lambda: train(f"--env-id {lander} --total-timesteps 50000 {CLEANRL} {WITHOUT}"),
            ("environment", lambda: raw(lander, 4)),
        ),
        f"{lander}, the same setting": (
            lambda: train(f"--env-id {lander} --total-timesteps 50000 {CLEANRL} {WITHOUT}"),
            ("CleanRL", lambda: cleanrl(lander, 30_000)),
        ),
        f"{lander}, the same, normalised": (
            lambda: train(f"--env-id {lander} --total-timesteps 50000 {CLEANRL}"),
            ("environment", lambda: raw(lander, 4)),
        ),
        f"{lander}, defaults": (
            lambda: train(f"--env-id {lander} --total-timesteps 60000"),
            ("environment", lambda: raw(lander, default("num_envs"))),
        ),
        f"{lander}, defaults, --compile": (
            lambda: train(f"--env-id {lander} --total-timesteps 60000 --compile"),
            ("environment", lambda: raw(lander, default("num_envs"))),
        ),
        f"{cheetah}, defaults": (
            lambda: train(f"--env-id {cheetah} --total-timesteps 30000", continuous),
            ("environment", lambda: raw(cheetah, default("num_envs", continuous))),
        ),
        f"{lander}, SB3 zoo's setting, at first": (
            lambda: train(f"--env-id {lander} --total-timesteps 80000 {ZOO} {WITHOUT}"),
            ("SB3", lambda: sb3(lander, 32_768, SB3_ZOO)["sps"]),
        ),
        f"{lander}, SB3's defaults": (
            lambda: train(f"--env-id {lander} --total-timesteps 20000 {SB3_OWN} {WITHOUT}"),
            ("SB3", lambda: sb3(lander, 8_192, SB3_DEFAULTS)["sps"]),
        ),
    }
    for env_id, steps in ((lander, 60_000), (cartpole, 100_000)):
        flags = f"--env-id {env_id} --total-timesteps {steps}"
        older = (f"commit {OLDER}", lambda flags=flags: train(flags, at(OLDER))["sps"])
        cases[f"{env_id}, each one's defaults"] = (lambda flags=flags: train(flags), older)
        cases[f"{env_id}, each one's defaults, ours with --compile"] = (
            lambda flags=flags: train(f"{flags} --compile"),
            older,
        )
    rows = []
    for round_ in range(rounds):
        for case, (ours, (other, reference)) in cases.items():
            rows.append([case, other, round_ + 1, round(ours()["sps"]), round(reference())])
            print(*rows[-1], flush=True)
    table = ["| | ours, steps/s | compared with | its steps/s | ratio [range] |"]
    table += ["|---|---|---|---|---|"]
    for case, (_, (other, _)) in cases.items():
        sps, reference = np.array([row[3:] for row in rows if row[0] == case]).T
        ratios = sps / reference
        table.append(
            f"| {case} | {np.median(sps):,.0f} | {other} | {np.median(reference):,.0f}"
            f" | {np.median(ratios):.2f} [{ratios.min():.2f}, {ratios.max():.2f}] |"
        )
    table += ["", f"Medians of {rounds} rounds, one thread; ratios within a round."]
    write("speed", ["case", "compared_with", "round", "steps_s", "its_steps_s"], rows, table)


def solve(seeds: int = 10, long_seeds: int = 3, steps: int = 1_000_000) -> None:
    """Ours with the defaults, SB3 with its zoo's setting, ours with that; two at a time."""
    lander = "LunarLander-v3"
    finished = HERE / "runs" / "solve"
    finished.mkdir(parents=True, exist_ok=True)
    # What SB3 does besides: a constant learning rate, no value clip, no normalisation.
    like_sb3 = f"{ZOO} {WITHOUT} --gamma 0.999 --learning-rate 3e-4 --no-anneal-lr --no-clip-vloss"
    programs = {
        "ours": lambda seed: train(f"--env-id {lander} --seed {seed}"),
        "SB3 zoo": lambda seed: sb3(lander, steps, SB3_ZOO, seed),
        "ours, SB3 zoo's setting": lambda seed: train(
            f"--env-id {lander} --total-timesteps {steps} --seed {seed} {like_sb3}"
        ),
    }

    def job(name: str, seed: int) -> dict:
        path = finished / f"{name}-{seed}.json"  # remove it to measure again
        if not path.exists():
            path.write_text(json.dumps(programs[name](seed)))
        return json.loads(path.read_text())

    names = list(programs)
    theirs = [("SB3 zoo", seed + 1) for seed in range(long_seeds)]
    ours = [("ours", seed + 1) for seed in range(seeds)]
    alike = [("ours, SB3 zoo's setting", seed + 1) for seed in range(long_seeds)]
    jobs = [*theirs[:2], *ours, *theirs[2:], *alike]  # the first two at the same time, mostly
    with ThreadPoolExecutor(2) as two:
        results = dict(zip(jobs, two.map(lambda x: job(*x), jobs), strict=True))
    header = ["program", "seed", "steps_to_200", "seconds_to_200", "steps_s", "start_up"]
    rows = [
        [*key, x["steps_to_200"], *(round(x[y], 1) for y in ("seconds_to_200", "sps", "start_up"))]
        for key, x in results.items()
    ]
    table = ["| | seconds to 200, each seed | median | its steps | steps/s | start-up, s |"]
    table += ["|---|---|---|---|---|---|"]
    medians = {}
    for name in names:
        mine = sorted((row for row in rows if row[0] == name), key=lambda row: row[1])
        each = ", ".join(f"{'' if row[2] else '≥ '}{row[3]:.0f}" for row in mine)
        medians[name] = np.median([row[3] if row[2] else np.inf for row in mine])
        in_steps = np.median([row[2] or np.inf for row in mine])
        if np.isinf(medians[name]):
            medians[name] = np.median([row[3] for row in mine])
            median = f"≥ {medians[name]:.0f} | -"
        else:
            median = f"{medians[name]:.1f} | {in_steps:,.0f}"
        sps, start_up = np.median([row[4:] for row in mine], axis=0)
        table.append(f"| {name} | {each} | {median} | {sps:,.0f} | {start_up:.1f} |")
    ratio = medians["SB3 zoo"] / medians["ours"]
    table += ["", f"≥: not solved in {steps:,} steps (ours 500,000), the time of all of them."]
    table += [f"SB3's median is {ratio:.0f} times ours. One thread each, two processes at a time."]
    write("solve", header, rows, table)


def scaling(rounds: int = 3) -> None:
    """Time and memory against four sizes, each with the rest as it is by default."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    def wider(width: int) -> Path:
        """The script with another hidden width, edited as a user would."""
        path = HERE / "runs" / f"ppo_{width}.py"
        lines = PPO.read_text().splitlines(keepends=True)
        path.write_text("".join(re.sub(r"\b64\b", str(width), x) if "nn.Linear(" in x else x
                                for x in lines))  # fmt: skip
        return path

    # Size -> its value on the axis, flags, samples of a rollout, script.
    observe = "--env-id sized:Observe{}-v0"
    T, N = default("num_steps"), default("num_envs")
    axes = {
        "environments": ([1, 4, 16, 64, 256, 1024], lambda n: (n, f"--num-envs {n}", T * n, PPO)),
        "steps": ([8, 32, 128, 512, 2048], lambda n: (n, f"--num-steps {n}", N * n, PPO)),
        "weights (width 16 to 1024)": (
            [16, 64, 256, 1024],  # of two networks with 4 inputs, 2 and 1 outputs
            lambda n: (2 * n * n + 15 * n + 3, "", T * N, wider(n)),
        ),
        "observations": ([4, 64, 1024, 16384], lambda n: (n, observe.format(n), T * N, PPO)),
    }
    rows = []
    table = ["| | from | to | steps/s | MiB | time grows as | memory grows as |"]
    table += ["|---|---|---|---|---|---|---|"]
    figure, plots = plt.subplots(2, 4, figsize=(11, 4.5), layout="constrained", sharey="row")
    for (top, bottom), (axis, (sizes, case)) in zip(plots.T, axes.items(), strict=True):
        points = []
        for size in sizes:
            x, flags, samples, script = case(size)
            flags += f" --total-timesteps {max(8 * samples, 8192)}"
            results = [train(flags, script) for _ in range(rounds)]
            sps, memory = (np.median([result[y] for result in results]) for y in ("sps", "memory"))
            points.append((x, samples, sps, memory))
            rows.append([axis, x, round(sps), round(memory)])
            print(*rows[-1], flush=True)
        x, samples, sps, memory = np.array(points).T
        times = samples / sps  # of an update
        growth = [(np.diff(np.log(y)) / np.diff(np.log(x))).max() for y in (times, memory)]
        table.append(
            f"| {axis} | {x[0]:,.0f} | {x[-1]:,.0f} | {sps[0]:,.0f} to {sps[-1]:,.0f}"
            f" | {memory[0]:.0f} to {memory[-1]:.0f} | x^{growth[0]:.2f} | x^{growth[1]:.2f} |"
        )
        top.loglog(x, sps, marker=".")
        bottom.loglog(x, memory, marker=".")
        bottom.set(xlabel=axis)
    plots[0, 0].set(ylabel="steps a second")
    plots[1, 0].set(ylabel="largest resident size, MiB")
    figure.savefig(HERE / "results" / "scaling.png", dpi=110, metadata={"Software": None})
    table += [
        "",
        f"Medians of {rounds} runs. Growth of an update's time and of memory: the steepest part.",
    ]
    write("scaling", ["axis", "size", "steps_s", "memory_mib"], rows, table)


PROCESSES = [
    (1, ""),
    (2, ""),
    (1, "--learning-rate 3e-3"),
    (2, "--learning-rate 3e-3"),
    (2, "--num-minibatches 4 --learning-rate 5e-3"),
]
MORE_PROCESSES = [
    (1, ""),
    (2, "--num-minibatches 6 --learning-rate 3e-3"),
    (2, "--num-minibatches 2 --learning-rate 5e-3 --update-epochs 8"),
]
SPLITS = [
    (1, ""),
    (2, ""),
    (1, "--learning-rate 3e-3"),
    (2, "--learning-rate 3e-3"),
    (2, "--num-minibatches 4"),
    (2, "--num-minibatches 4 --learning-rate 3e-3"),
    (2, "--num-minibatches 16"),
    (2, "--num-steps 32"),
    (2, "--num-envs 8"),
]
MORE_SPLITS = [
    (1, ""),
    (2, "--num-minibatches 4 --learning-rate 5e-3"),
    (2, "--num-minibatches 4 --learning-rate 3e-3 --update-epochs 6"),
    (2, "--num-minibatches 6 --learning-rate 3e-3"),
    (2, "--num-minibatches 2 --learning-rate 5e-3 --update-epochs 8"),
]


def splits() -> None:
    compare_processes("splits", SPLITS, range(101, 109))
    compare_processes("more_splits", MORE_SPLITS, range(101, 109))


def processes() -> None:
    compare_processes("processes", PROCESSES, range(1, 21))
    compare_processes("more_processes", MORE_PROCESSES, range(21, 41))


def compare_processes(name: str, settings: list[tuple[int, str]], seeds: range) -> None:
    """Each number of processes with its flags, in turns; ratios are to the first's, by seed."""
    finished = HERE / "runs" / name
    finished.mkdir(parents=True, exist_ok=True)
    results = {setting: [] for setting in settings}
    for seed in seeds:
        for number, flags in settings:
            path = finished / f"{number} {flags} {seed}.json"  # remove it to measure again
            if not path.exists():
                path.write_text(json.dumps(until_200(number, f"{flags} --seed {seed}")))
            results[number, flags].append(json.loads(path.read_text()))
            print(number, flags, seed, results[number, flags][-1], flush=True)
    table = ["| processes | each with | steps/s | ratio [range] | solved | steps to 200 |"]
    table[0] += " seconds to 200 | ratio | start-up, s |"
    table.append("|---" * 9 + "|")
    header = ["processes", "flags", "seed", "steps_s", "steps_to_200", "seconds_to_200", "start_up"]
    rows, one = [], settings[0]

    def column(setting, key):
        """Of all seeds, infinite where a run did not get to 200."""
        unsolved = key.endswith("_200")
        return np.array(
            [np.inf if unsolved and x["steps_to_200"] is None else x[key] for x in results[setting]]
        )

    for setting in settings:
        number, flags = setting
        for seed, x in zip(seeds, results[setting], strict=True):
            rounded = (round(x[key], 1) for key in ("seconds_to_200", "start_up"))
            rows.append([*setting, seed, round(x["sps"]), x["steps_to_200"], *rounded])
        faster = column(setting, "sps") / column(one, "sps")
        steps, seconds = (column(setting, f"{key}_to_200") for key in ("steps", "seconds"))
        table.append(
            f"| {number} | {f'`{flags}`' if flags else 'the defaults'}"
            f" | {np.median(column(setting, 'sps')):,.0f}"
            f" | {np.median(faster):.2f} [{faster.min():.2f}, {faster.max():.2f}]"
            f" | {np.isfinite(steps).sum()} of {len(steps)} | {np.median(steps):,.0f}"
            f" | {np.median(seconds):.1f}"
            f" | {np.median(seconds) / np.median(column(one, 'seconds_to_200')):.2f}"
            f" | {np.median(column(setting, 'start_up')):.1f} |"
        )
    table += [
        "",
        f"LunarLander-v3, seeds {seeds[0]} to {seeds[-1]}, medians; one thread a process.",
    ]
    write(name, header, rows, table)


def parts(rounds: int = 3) -> None:
    """Seconds of an update = rollout and advantages + minibatches * (loss and step + all-reduce).

    The two terms from runs of 1 and of 8 epochs, the all-reduce from what a minibatch takes more
    than with one process; with more processes than cores that holds waiting for a core, too.
    """
    rows, epochs = [], (1, 8)
    for round_ in range(rounds):
        for number in (1, 2, 3, 4):
            updates = [
                until_200(number, f"--total-timesteps {80_000 * number} --update-epochs {x}")
                for x in epochs
            ]
            rows.append([number, round_ + 1, *(round(1000 * x["update"], 2) for x in updates)])
            print(*rows[-1], flush=True)
    table = ["| processes | rollout, ms | a minibatch, ms | of it all-reduce, ms | update, ms |"]
    table[0] += " steps/s |"
    table.append("|---" * 6 + "|")
    M = default("num_minibatches")
    samples, K = default("num_steps") * default("num_envs"), default("update_epochs")
    measured = {}

    def add(name, number, rollout, minibatch):
        update, extra = rollout + K * M * minibatch, minibatch - measured[1][1]
        table.append(
            f"| {name} | {rollout:.1f} | {minibatch:.2f} | {extra:.2f} | {update:.1f}"
            f" | {number * samples / update * 1000:,.0f} |"
        )

    for number in (1, 2, 3, 4):
        low, high = np.median([row[2:] for row in rows if row[0] == number], axis=0)
        minibatch = (high - low) / ((epochs[1] - epochs[0]) * M)
        measured[number] = low - M * epochs[0] * minibatch, minibatch
        add(number, number, *measured[number])
    # A ring passes 2 (P - 1) messages; 2 processes on one machine have measured the rest.
    for number in (8, 64):
        latency = 2 * (number - 2) * NETWORK_LATENCY
        rollout, minibatch = measured[2]
        add(f"{number} hosts, on paper", number, rollout + latency, minibatch + latency)
    table += ["", f"LunarLander-v3, the defaults, medians of {rounds} runs, one thread a process."]
    write("parts", ["processes", "round", "ms_1_epoch", "ms_8_epochs"], rows, table)


def envpool(rounds: int = 2) -> None:
    """Steps a second of the vector environment alone, and of training with the defaults."""
    cases = [("CartPole-v1", 16), ("CartPole-v1", 64), ("LunarLander-v3", 16)]
    cases += [("LunarLander-v3", 64), ("HalfCheetah-v5", 16), ("HalfCheetah-v5", 64)]
    rows = []
    for round_ in range(rounds):
        for env_id, N in cases:
            row = [env_id, N, round_ + 1, raw(env_id, N)]
            for threads in "12":
                os.environ["ENVPOOL_THREADS"] = threads
                row.append(raw(f"envpool_envs:{env_id}", N))
            continuous = HERE.parent / "ppo_continuous.py"
            script = continuous if env_id.startswith("Half") else PPO
            os.environ["ENVPOOL_THREADS"] = "1"
            for name in (env_id, f"envpool_envs:{env_id}"):
                flags = f"--env-id {name} --num-envs {N} --total-timesteps {40 * 64 * N}"
                row.append(train(flags, script)["sps"])
            rows.append([*row[:3], *map(round, row[3:])])
            print(*rows[-1], flush=True)
    table = ["| | N | Gymnasium | EnvPool | with 2 threads | training | with EnvPool | ratio |"]
    table.append("|---" * 8 + "|")
    for env_id, N in cases:
        medians = np.median([row[3:] for row in rows if row[:2] == [env_id, N]], axis=0)
        cells = [f"{x:,.0f}" for x in medians] + [f"{medians[4] / medians[3]:.2f}"]
        table.append(f"| {env_id} | {N} | {' | '.join(cells)} |")
    table += ["", "Steps/s of the environments alone, and of training on one thread with N of them"]
    table[-1] += f" and\nthe defaults otherwise; medians of {rounds} rounds. EnvPool 1.2.5."
    header = ["environment", "num_envs", "round", "gymnasium", "envpool", "envpool_2_threads"]
    write("envpool", [*header, "training", "training_envpool"], rows, table)


if __name__ == "__main__":
    commands = {"speed": speed, "solve": solve, "scaling": scaling, "sb3": sb3_process}
    commands |= {"processes": processes, "splits": splits, "parts": parts, "envpool": envpool}
    commands[sys.argv[1]](*sys.argv[2:])
