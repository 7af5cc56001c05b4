"""PPO-Clip (proximal policy optimization) for discrete actions, Discrete and MultiDiscrete.

    python ppo.py --env-id LunarLander-v3 --seed 2
    python ppo.py --resume runs/NAME --eval-episodes 100 --capture-video

(1) to (20) are the equations of README.md. Shapes: T steps a rollout, N environments, B valid
samples of a rollout, M a minibatch, D observation size, H heads (action components). Images,
recurrence, action masks: benchmarks/variants. ppo_continuous.py is this file for Box actions.
"""

# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "torch==2.13.0",
#     "gymnasium[box2d,classic-control,mujoco]==1.4.0",
#     "mujoco==3.3.7",
#     'numpy==2.4.6; python_version >= "3.11"',
#     'numpy==2.2.6; python_version < "3.11"',
#     "tyro==1.0.17",
#     "tensorboard==2.21.0",
#     "wandb==0.31.0",
#     "moviepy==2.2.1",
# ]
# ///

from pathlib import Path

SOURCE = Path(__file__).read_bytes()  # what runs: read before the imports, which take seconds

import copy
import fcntl
import json
import math
import os
import re
import signal
import sys
import textwrap
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from datetime import datetime
from types import SimpleNamespace
from typing import Annotated, Literal

import gymnasium as gym
import numpy as np
import torch
import torch.distributed.nn  # now: imported later, by torch.optim, it keeps the process group
import tyro
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.wrappers.vector import FlattenObservation, RecordVideo
from torch import distributed, nn
from torch.utils.tensorboard import SummaryWriter


class RunError(Exception):
    """Ends a run; on the command line with one line and exit code 1 instead of a traceback."""


class Refused(RunError):
    """Ends it before anything is written, with exit code 2."""


@contextmanager
def in_one_line(what, *kinds, end=Refused):
    """Exceptions of these kinds become one line."""
    try:
        yield
    except kinds as error:
        raise end(f"{what}: {textwrap.shorten(str(error), 300)}") from None


def within(rule):
    """A range as the metavar of a flag: --help shows it, Args holds to it."""
    return tyro.conf.arg(metavar=rule)


Count = Annotated[int, within("1 <= x <= 10**6")]
Fraction = Annotated[float, within("0 <= x <= 1")]
Weight = Annotated[float, within("0 <= x < inf")]
Positive = Annotated[float, within("x > 0")]


@dataclass(frozen=True)
class Args:
    exp_name: str = Path(__file__).stem
    """name of the experiment, a part of the run's folder"""
    seed: Annotated[int, within("0 <= x < 2**63")] = 1
    """seed of all randomness: the same numbers bit for bit on one CPU with the same flags"""
    torch_deterministic: bool = True
    """use cuDNN's deterministic kernels only"""
    cuda: bool = False
    """run the networks on the GPU; networks this small are faster on the CPU"""
    num_threads: Count = 1
    """CPU threads of torch; networks this small are fastest with one"""
    compile: bool = False
    """torch.compile the loss: half a minute at first, then faster updates; needs a C++ compiler"""
    track: bool = False
    """log to Weights & Biases too"""
    wandb_project_name: str = "ppo"
    """Weights & Biases: the project"""
    wandb_entity: str | None = None
    """Weights & Biases: the team; None is your own account"""
    capture_video: bool = False
    """record videos of the first environment into the run's folder"""
    env_id: str = "CartPole-v1"
    """environment by Gymnasium's name; my_module:MyEnv-v0 imports my_module first"""
    vectorisation: Literal["sync", "async"] | None = None
    """async: one process an environment; None: the environment's own vector version, else sync"""
    total_timesteps: Positive = 500_000
    """environment steps, 5e5 or inf too; training ends after the first update that reaches them"""
    num_envs: Count = 16
    """N, parallel environments"""
    num_steps: Count = 64
    """T, steps of each environment in a rollout; an update learns from T·N samples"""
    learning_rate: Weight = 2e-3
    """α₀, Adam's step size (19)"""
    anneal_lr: bool = True
    """let the step size fall linearly to 0 (19)"""
    gamma: Fraction = 0.995
    """γ, discount (1): a reward 1 / (1 − γ) steps ahead weighs 1/e; 1 does not discount"""
    gae_lambda: Fraction = 0.98
    """λ of GAE (5): 0 trusts the critic (biased), 1 trusts the sampled rewards (noisy)"""
    num_minibatches: Count = 8
    """minibatches an epoch, of M = ⌈T·N / num_minibatches⌉ samples each"""
    update_epochs: Count = 4
    """K, passes over the samples of a rollout"""
    norm_adv: bool = True
    """normalise the advantages Â of each minibatch (7)"""
    clip_coef: Positive = 0.2
    """ε, how far the ratio r(θ) may leave 1 before there is no more to gain (9)"""
    clip_vloss: bool = True
    """clip how far the value moves in an update, by ε too (10)"""
    ent_coef: Weight = 0.01
    """c2, weight of the entropy bonus (12); 0 switches it off"""
    vf_coef: Weight = 0.5
    """c1, weight of the value loss (12)"""
    max_grad_norm: Positive = 0.5
    """g_max, longer gradients are scaled down to this norm (13); inf switches it off"""
    target_kl: Positive = math.inf
    """end an update after the epoch that brings its KL (14) above this, say 0.02; inf: never"""
    norm_obs: bool = True
    """normalise observations by their running mean and variance (17)"""
    norm_reward: bool = True
    """divide rewards by the running standard deviation of the discounted return (18)"""
    eval_episodes: Annotated[int, within("0 <= x <= 10**6")] = 10
    """episodes of the greedy policy at the end; 0 switches it off"""
    checkpoint_interval: Count = 20
    """updates from one checkpoint.pt in the run's folder to the next; the end has one too"""
    resume: str | None = None
    """folder or checkpoint.pt of a run to go on with; its arguments hold but for those given"""

    def __post_init__(self):
        for field in fields(self):
            x = getattr(self, field.name)
            for rule in getattr(field.type, "__metadata__", ()):
                if not eval(rule.metavar, {"x": x, "inf": math.inf}):
                    flag = field.name.replace("_", "-")
                    raise Refused(f"--{flag} {x}: allowed is {rule.metavar}")


def parse_args():
    """Args from the command line; beside --resume the defaults are that run's."""
    if sys.stdout:
        sys.stdout.reconfigure(errors="replace")  # a log in ASCII has ? for λ
    args = tyro.cli(Args, description=__doc__)
    if args.resume is not None:
        default = replace(load_checkpoint(args.resume)["args"], track=False)
        show(f"{args.resume} is a run in {default.env_id}")  # may import a module
        args = tyro.cli(Args, default=default)
    return args


def show(line, **options):
    """Print; that nobody reads any more (a closed pipe or terminal) counts as SIGHUP."""
    try:
        print(line, flush=True, **options)
    except OSError:
        sys.stdout = None  # or Python tries once more as it leaves
        signal.raise_signal(signal.SIGHUP)


def require_finite(what, x):
    """Raise at the first NaN or infinity of x, whose rows are what there is many of."""
    bad = ~np.isfinite(x)
    if bad.any():
        raise RunError(f"{what} {np.argwhere(bad)[0, 0]} is {x[bad][0]}")


@contextmanager
def deferred_signals():
    """Yield a list for the first Ctrl-C, SIGTERM or SIGHUP, which takes effect after the block.
    A second one takes effect at once. What is ignored (under nohup) stays ignored."""
    received, before = [], {}

    def restore():
        for number in before:
            signal.signal(number, before[number])

    def receive(number, frame):
        received.append(number)
        restore()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, receive)
    try:
        yield received
    finally:
        restore()
    if received:
        signal.raise_signal(received[0])


def make_envs(args, num_envs):
    """A gym.vector.VectorEnv of observations (num_envs, D), reset by the step after an end."""
    render = {"render_mode": "rgb_array"} if args.capture_video else {}
    # The processes of async leave Ctrl-C, which reaches them as well, to this one.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with in_one_line(f"--env-id {args.env_id}", gym.error.Error, ImportError):
            envs = gym.make_vec(args.env_id, num_envs, args.vectorisation, **render)
    finally:
        signal.signal(signal.SIGINT, interrupt)
    space, actions = envs.single_observation_space, envs.single_action_space
    if not isinstance(space, Box) or len(space.shape) != 1:
        envs = FlattenObservation(envs)
    shape, mode = envs.single_observation_space.shape, envs.metadata.get("autoreset_mode")
    is_image = space.dtype == np.uint8 and len(space.shape) > 1
    seen = shape and 0 not in shape and not is_image
    acts = isinstance(actions, Discrete | MultiDiscrete) and 0 not in actions.shape
    if not seen or not acts or mode != gym.vector.AutoresetMode.NEXT_STEP:
        raise Refused(
            f"{args.env_id} observes {space}, acts in {actions}, resets by {mode}. Allowed are "
            "vectors but no images, AutoresetMode.NEXT_STEP, and actions of Discrete and "
            "MultiDiscrete in ppo.py, of Boxes of floats in ppo_continuous.py"
        )
    return envs


def layer_init(layer, gain=2**0.5):
    """Orthogonal weights, zero bias."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(inputs, activation, outputs, gain):
    """(.., inputs) -> (.., outputs), with two hidden layers."""
    return nn.Sequential(
        layer_init(nn.Linear(inputs, 64)),
        activation,
        layer_init(nn.Linear(64, 64)),
        activation,
        layer_init(nn.Linear(64, outputs), gain),
    )


class Agent(nn.Module):
    """Policy, value and the statistics that normalise observations and rewards."""

    def __init__(self, envs, args):
        super().__init__()
        self.space = space = envs.single_action_space
        nvec = np.ravel(space.n if isinstance(space, Discrete) else space.nvec)
        # Heads are as long as the longest; the choices that a head lacks are never taken.
        missing = np.arange(max(nvec)) >= nvec[:, None]
        self.register_buffer("missing", torch.as_tensor(missing))  # (H, choices)
        D = envs.single_observation_space.shape[0]
        self.actor = mlp(D, nn.ReLU(), missing.size, gain=0.01)
        self.critic = mlp(D, nn.Tanh(), 1, gain=1.0)
        # Buffers, so that a saved agent is complete; rows: count, mean, sum of squared deviations.
        moments = torch.zeros(3, D, dtype=torch.float64)
        self.register_buffer("obs_moments", moments if args.norm_obs else None)
        self.register_buffer("return_moments", moments[:, :1].clone() if args.norm_reward else None)

    @torch.inference_mode()
    def normalize_obs(self, obs, count=None):
        """(17) ô = clip((o − μ) / √(σ² + 1e-8), ±10), (N, D) -> (N, D), once obs[count] count."""
        require_finite("observation of environment", obs)
        obs = torch.as_tensor(obs, dtype=torch.float64, device=next(self.parameters()).device)
        if self.obs_moments is not None:
            if count is not None:
                update_moments(self.obs_moments, obs, count)
            n, mean, m2 = self.obs_moments
            obs = ((obs - mean) / (m2 / n + 1e-8).sqrt()).clamp(-10, 10)
        return obs.float()

    @torch.inference_mode()
    def scale_rewards(self, rewards, sums):
        """(18) r ← clip(r / √(Var R + 1e-8), ±10), (T, N) -> (T, N), once the sums R (B,) count."""
        require_finite("reward of environment", rewards.T)
        if self.return_moments is not None:
            update_moments(self.return_moments, sums[:, None], np.ones(len(sums)))
            n, _, m2 = self.return_moments.numpy(force=True)
            rewards = (rewards / np.sqrt(m2 / n + 1e-8)).clip(-10, 10)
        return rewards

    def value(self, obs):
        """V(s), (.., D) -> (..): squeezed here, as (M, 1) against (M,) would broadcast."""
        return self.critic(obs).squeeze(-1)

    def policy(self, obs):
        """Logits of the heads, (.., D) -> (.., H, choices)."""
        logits = self.actor(obs).unflatten(-1, self.missing.shape)
        return logits.masked_fill(self.missing, -1e8)

    @torch.inference_mode()
    def act(self, obs, greedy=False):
        """A sample, or the mode, (.., D) -> (.., H): the argmax with or without Gumbel noise."""
        logits = self.policy(obs)
        noise = 0 if greedy else torch.empty_like(logits).exponential_().log()
        return (logits - noise).argmax(-1)

    def to_env(self, actions):
        """Actions (N, H) counted from 0 -> as the environments take them."""
        actions = actions.numpy(force=True).reshape(-1, *self.space.shape)
        return (actions + self.space.start).astype(self.space.dtype)


def log_prob_and_entropy(logits, actions):
    """log π(a|s) and the entropy of π(·|s), (.., H, choices), (.., H) -> (..), (..)."""
    log_pi = logits.log_softmax(-1)
    # (20) log π(a|s) = Σ_i log π_i(a_i|s)
    log_prob = log_pi.gather(-1, actions.unsqueeze(-1)).sum((-2, -1))
    # (11) H = E[−Σ_a π(a|s) log π(a|s)], here before the mean; heads add up
    entropy = -(log_pi.exp() * log_pi).sum((-2, -1))
    return log_prob, entropy


def update_moments(moments, x, count):
    """Count the rows x[count] of (n, D), if any, into moments (3, D): Welford, for a batch."""
    n, mean, m2 = moments
    x, count = torch.as_tensor(x).to(mean), torch.as_tensor(count).to(mean)
    delta = x - mean
    n += count.sum()
    mean += count @ delta / n
    m2 += count @ (delta * (x - mean))


def running_sum(x, valid, start, gamma):
    """(18) R_t = γ R_{t−1} (1 − done_{t−1}) + x_t, 0 at reset steps, R_{−1} = start; all (T, N)."""
    sums, last = np.empty_like(x), start
    for t in range(len(x)):
        last = (gamma * last + x[t]) * valid[t]
        sums[t] = last
    return sums


def gae(rewards, values, terminated, dones, gamma, gae_lambda):
    """Generalised advantage estimation: (T, N) and values (T+1, N) -> advantages (T, N)."""
    # (4) δ_t = r_t + γ V(s_{t+1}) (1 − terminated_t) − V(s_t)
    deltas = rewards + gamma * values[1:] * ~terminated - values[:-1]
    # (5) Â_t = δ_t + γλ (1 − done_t) Â_{t+1}
    advantages, last = np.empty_like(values[1:]), 0.0
    for t in reversed(range(len(deltas))):
        last = deltas[t] + gamma * gae_lambda * last * ~dones[t]
        advantages[t] = last
    return advantages


def normalize_advantages(advantages):
    """(7) Â ← (Â − mean) / (std + 1e-8), (M,) -> (M,)."""
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def clipped_surrogate(ratio, advantages, clip_coef):
    """(9) L^CLIP = E[min(r Â, clip(r, 1−ε, 1+ε) Â)], to be maximised."""
    clipped = ratio.clamp(1 - clip_coef, 1 + clip_coef)
    return torch.min(ratio * advantages, clipped * advantages).mean()


def clipped_value_loss(new_values, values, returns, clip_coef):
    """(10) L^VF = ½ E[max((V_θ − R̂)², (V_old + clip(V_θ − V_old, −ε, ε) − R̂)²)]"""
    clipped = values + (new_values - values).clamp(-clip_coef, clip_coef)
    return 0.5 * torch.max((new_values - returns).square(), (clipped - returns).square()).mean()


def approx_kl(ratio):
    """(14) KL ≈ E[(r − 1) − log r], never negative."""
    return (ratio - 1 - ratio.log()).mean()


def clip_fraction(ratio, clip_coef):
    """(15) clipfrac = E[|r − 1| > ε]."""
    return ((ratio - 1).abs() > clip_coef).float().mean()


def explained_variance(values, returns):
    """(15) EV = 1 − Var(R̂ − V) / Var(R̂): 1 for a perfect critic, 0 for one that knows the mean."""
    return 1 - (returns - values).var(correction=0) / returns.var(correction=0)


def ppo_loss(agent, args, *, obs, actions, logprobs, advantages, returns, values):
    """The loss of a minibatch, obs (M, D), actions (M, H), all else (M,), and what to log of it."""
    new_logprobs, entropy = log_prob_and_entropy(agent.policy(obs), actions)
    # (8) r(θ) = exp(log π_θ(a|s) − log π_old(a|s))
    ratio = (new_logprobs - logprobs).exp()
    if args.norm_adv and len(advantages) > 1:  # one sample has no std
        advantages = normalize_advantages(advantages)
    policy_loss = -clipped_surrogate(ratio, advantages, args.clip_coef)
    value_clip = args.clip_coef if args.clip_vloss else math.inf
    value_loss = clipped_value_loss(agent.value(obs), values, returns, value_clip)
    entropy = entropy.mean()
    # (12) loss = −L^CLIP + c1 L^VF − c2 H
    loss = policy_loss + args.vf_coef * value_loss - args.ent_coef * entropy
    return loss, {
        "losses/policy_loss": policy_loss.detach(),
        "losses/value_loss": value_loss.detach(),
        "losses/entropy": entropy.detach(),
        "losses/approx_kl": approx_kl(ratio.detach()),
        "losses/clipfrac": clip_fraction(ratio.detach(), args.clip_coef),
    }


def minibatch_indices(B, largest, M):
    """A shuffle of B samples, (⌈largest / M⌉, M), filled up from its start; largest of any B."""
    return torch.randperm(B)[torch.arange(math.ceil(largest / M) * M) % B].view(-1, M)


def gather(*values):
    """The values of all processes that torchrun started, by rank; without it, of this one alone."""
    of_each = [values]
    if distributed.is_initialized():
        of_each = [None] * distributed.get_world_size()
        distributed.all_gather_object(of_each, values)
    return zip(*of_each, strict=True)


def average(agent, terms):
    """Gradients and terms of the loss over all those processes, in place and as one vector."""
    if distributed.is_initialized():
        gradients = [p.grad for p in agent.parameters() if p.grad is not None]
        tensors = [*gradients, *terms.values()]
        total = nn.utils.parameters_to_vector(tensors)
        distributed.all_reduce(total)
        nn.utils.vector_to_parameters(total / distributed.get_world_size(), tensors)


def mean_of(logged):
    """Of what the minibatches of an update logged, name -> number."""
    columns = {k: torch.stack([terms[k] for terms in logged]).numpy(force=True) for k in logged[0]}
    require_finite("gradient of minibatch", columns["losses/grad_norm"])
    return {k: column.mean() for k, column in columns.items()}


def evaluate(agent, envs, seed, max_steps=30_000):
    """Returns of the greedy policy, one episode an environment: the first to end are short ones.
    Those that have not ended after max_steps steps are left out. Closes envs."""
    obs, infos = envs.reset(seed=seed)
    returns, running = np.zeros(envs.num_envs), np.ones(envs.num_envs, dtype=bool)
    for t in range(max_steps):
        actions = agent.act(agent.normalize_obs(obs), greedy=True)
        obs, rewards, terminated, truncated, infos = envs.step(agent.to_env(actions))
        require_finite("evaluation: reward of environment", rewards)
        returns += rewards * running
        running &= ~(terminated | truncated)
        if not running.any():
            break
        if t % 1000 == 999:
            show(f"evaluation: {t + 1:,} steps, {running.sum()} of {running.size} episodes go on")
    envs.close()
    return returns[~running]


def load_checkpoint(path):
    """The checkpoint of a run, by its folder or itself; its arguments as Args."""
    folder = Path(path.removesuffix("checkpoint.pt"))
    with in_one_line(f"--resume {path}", Exception):
        if any(file.is_symlink() or file.is_fifo() for file in folder.rglob("*")):
            raise ValueError("a link or pipe in a run's folder may lead out of it")
        checkpoint = torch.load(folder / "checkpoint.pt", "cpu", weights_only=True)
        return checkpoint | {"args": Args(**checkpoint["args"])}


def save(run, args, agent, optimizer):
    """Write checkpoint.pt, all that --resume needs, after the curves up to it."""
    for name, tensor in agent.state_dict().items():  # after the last step, and sums of squares
        require_finite(name, tensor.numpy(force=True))
    run.progress.saved_step = run.progress.global_step
    checkpoint = {
        "args": vars(args) | {"resume": None},
        "progress": vars(run.progress),
        "agent": agent.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }
    run.writer.flush()
    path, temporary = run.folder / "checkpoint.pt", run.folder / "checkpoint.pt.tmp"
    # Whatever happens, the file is there and whole, as it was or as it shall be.
    with deferred_signals(), in_one_line(path, OSError, RuntimeError, end=RunError):
        with open(temporary, "wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def restore(progress, args, agent, optimizer):
    """Go on where the checkpoint of --resume, if any, was saved."""
    if args.resume is None:
        return
    checkpoint = load_checkpoint(args.resume)
    with in_one_line(f"--resume {args.resume} does not fit", Exception):
        agent.load_state_dict(checkpoint["agent"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        torch.set_rng_state(checkpoint["rng"])
        vars(progress).update(checkpoint["progress"])
    torch.cuda.manual_seed_all(args.seed + progress.global_step)


@contextmanager
def open_run(args, rank, agent, optimizer):
    """Yield a run: its folder, curves and progress, and the list `stop` of signals to end it.

    The folder is a new one or that of --resume; no other process writes to it meanwhile.
    """
    progress = SimpleNamespace(
        global_step=0, update=0, wall_time=0.0, recent_returns=[], saved_step=None
    )
    run = SimpleNamespace(progress=progress)
    if rank > 0:  # of torchrun's processes the first alone writes
        with deferred_signals() as run.stop:
            restore(progress, args, agent, optimizer)
            yield run
        return
    if args.resume:
        folder = Path(args.resume.removesuffix("checkpoint.pt"))
    else:
        name = f"{args.env_id}__{args.exp_name}__{args.seed}__{datetime.now():%Y%m%d-%H%M%S-%f}"
        folder = Path("runs", re.sub(r"[^\w.-]", "-", name))
        with in_one_line("no folder for the run", OSError):
            folder.mkdir(parents=True)
    run.folder = folder
    with deferred_signals() as run.stop, open(folder / "lock", "a") as lock:
        with in_one_line(f"{folder}: another process is writing to it", BlockingIOError):
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        restore(progress, args, agent, optimizer)
        tracker = track(folder, args) if args.track else nullcontext()
        resume = f"python {os.path.relpath(__file__)} --resume {folder}"
        show(f"{folder}, to go on with it: {resume}")
        step, reason = progress.global_step, "failed"
        with tracker, SummaryWriter(folder, purge_step=step + 1) as run.writer:
            if step < args.total_timesteps:  # else it is only evaluated
                # What it began with stays, and what it goes on with is put beside it.
                suffix = f"-{step}" if args.resume else ""
                settings, script = json.dumps(vars(args), indent=2), Path(__file__)
                (folder / f"args{suffix}.json").write_text(settings)
                (folder / f"{script.stem}{suffix}.py").write_bytes(SOURCE)
                run.writer.add_text("args", settings, step)
            run.start_time = time.perf_counter() - progress.wall_time
            try:
                yield run
                reason = signal.Signals(run.stop[0]).name if run.stop else "done"
            except SystemExit:
                raise RunError("the environment called sys.exit") from None
            finally:
                at = f"after step {progress.global_step:,}, saved at step {progress.saved_step}"
                show(f"{reason} {at}, to go on: {resume}", file=sys.stderr)


def track(folder, args):
    """Log to Weights & Biases as well, on resuming under the same id."""
    with in_one_line("--track", Exception):
        import wandb

        options = {"id": folder.resolve().name, "resume": "allow", "sync_tensorboard": True}
        return wandb.init(args.wandb_entity, args.wandb_project_name, config=vars(args), **options)


def log(run, args, metrics, returns, lengths):
    """An update's metrics, and of the episodes that ended in it, to the curves and the terminal."""
    progress = run.progress
    progress.wall_time = time.perf_counter() - run.start_time
    progress.recent_returns = (progress.recent_returns + returns.tolist())[-100:]
    recent, sps = progress.recent_returns, progress.global_step / progress.wall_time
    metrics |= {"charts/wall_time": progress.wall_time, "charts/SPS": sps}
    if returns.size:
        metrics["charts/episodic_return"] = returns.mean()
        metrics["charts/episodic_length"] = lengths.mean()
    if len(recent) == 100:
        metrics["charts/episodic_return_100"] = np.mean(recent)
    for tag, value in metrics.items():
        if math.isfinite(value):  # one without data is absent
            run.writer.add_scalar(tag, value, progress.global_step)
    left = max(args.total_timesteps - progress.global_step, 0) / sps
    mean = f"{np.mean(recent):.1f}" if recent else "-"
    line = f"{progress.global_step:>10,} steps {sps:>8,.0f}/s {left:>6.0f} s left  return {mean:>8}"
    show(line)


VIDEO = {"record_first_only": True, "video_length": 1000}  # steps, an episode may have no end


def report(run, args, agent, seed):
    """Evaluate the greedy policy, and record it where videos are asked for."""
    step = run.progress.global_step
    if args.eval_episodes:
        returns, result = evaluate(agent, make_envs(args, args.eval_episodes), seed), "-"
        if returns.size:
            run.writer.add_scalar("eval/episodic_return", returns.mean(), step)
            result = f"{returns.mean():.1f} +- {returns.std():.1f}"
        show(f"greedy return {result} ({returns.size} of {args.eval_episodes} episodes)")
    if args.capture_video:
        # Of the first environment again, as all of them would be rendered.
        envs = RecordVideo(make_envs(args, 1), f"{run.folder}/videos/eval-{step}", **VIDEO)
        evaluate(agent, envs, seed)


def set_up_torch(args):
    """Threads, determinism, seed and processes; returns the device and this process's rank."""
    torch.set_num_threads(args.num_threads)
    torch.backends.cudnn.deterministic = args.torch_deterministic
    torch.manual_seed(args.seed)
    if args.cuda and not torch.cuda.is_available():
        raise Refused("--cuda: torch finds no GPU")
    rank = 0
    if distributed.is_torchelastic_launched():  # by torchrun
        # Restarted, they may look for those that died: pytorch/pytorch issue 135712.
        shared_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        if shared_store and os.environ["TORCHELASTIC_MAX_RESTARTS"] != "0":
            raise Refused("--max-restarts: needs TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1, see README")
        if args.cuda:
            torch.cuda.set_device(distributed.get_node_local_rank())
        distributed.init_process_group()
        rank = distributed.get_rank()
    return torch.device("cuda" if args.cuda else "cpu"), rank


def main(args):
    T, N = args.num_steps, args.num_envs
    M = math.ceil(T * N / args.num_minibatches)
    if args.num_minibatches > T * N:
        raise Refused(f"--num-minibatches {args.num_minibatches}: allowed is at most T*N = {T * N}")
    device, rank = set_up_torch(args)
    # Environment i gets env_seed + i: seeds 1 and 2 must not share environments, nor evaluation.
    seeds = np.random.SeedSequence([args.seed, rank])
    env_seed, eval_seed = (seeds.generate_state(2) >> 1).tolist()
    envs = make_envs(args, N)
    agent = Agent(envs, args).to(device)
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5, fused=True)
    initial_lrs = [group["lr"] for group in optimizer.param_groups]
    minibatch_loss = torch.compile(ppo_loss) if args.compile else ppo_loss

    # A rollout; obs[T] and values[T] belong to the state after its last step.
    obs = torch.zeros(T + 1, N, *envs.single_observation_space.shape, device=device)
    actions = torch.zeros_like(agent.act(obs[:-1]))
    valid, terminated, dones = np.zeros((3, T, N), dtype=bool)
    rewards, discounted, episodic_return, episodic_length = np.zeros((4, T, N))
    next_valid = np.ones(N, dtype=bool)

    with open_run(args, rank, agent, optimizer) as run:
        progress = run.progress
        finished = progress.global_step >= args.total_timesteps
        if args.capture_video and not finished:
            envs = RecordVideo(envs, f"{run.folder}/videos/train-{progress.global_step}", **VIDEO)
        next_obs, infos = envs.reset(seed=env_seed + progress.global_step)
        if rank > 0:
            torch.manual_seed(env_seed + progress.global_step)  # the weights were those of all
        while not finished:
            # (19) α = α₀ (1 − global_step / total_timesteps)
            fraction_left = 1 - args.anneal_lr * progress.global_step / args.total_timesteps
            for group, initial_lr in zip(optimizer.param_groups, initial_lrs, strict=True):
                group["lr"] = initial_lr * fraction_left

            seen, moments = [], copy.deepcopy(agent.obs_moments)
            # Rollout, with only what the environment needs in the loop.
            for t in range(T):
                # (16) valid_t = 1 − done_{t−1}: the step after an episode's end only resets.
                valid[t] = next_valid
                seen.append(next_obs)
                obs[t] = agent.normalize_obs(next_obs, count=next_valid)
                actions[t] = agent.act(obs[t])
                step = envs.step(agent.to_env(actions[t]))
                next_obs, rewards[t], terminated[t], truncated, infos = step
                dones[t] = terminated[t] | truncated
                next_valid = ~dones[t]
            obs[T] = agent.normalize_obs(next_obs)
            B = int(valid.sum())
            # Of the running episodes: R of (18); with γ = 1 the return and, of ones, the length.
            discounted = running_sum(rewards, valid, discounted[-1], args.gamma)
            episodic_return = running_sum(rewards, valid, episodic_return[-1], 1.0)
            episodic_length = running_sum(np.ones((T, N)), valid, episodic_length[-1], 1.0)
            samples, sums, seen_by_all = gather(B, discounted[valid], np.stack(seen)[valid])
            progress.global_step += sum(samples)
            if len(samples) > 1 and args.norm_obs:
                # Not what this process saw moves the statistics, but what all of them did.
                agent.obs_moments = moments
                update_moments(moments, np.concatenate(seen_by_all), np.ones(sum(samples)))
            if 0 in samples:
                continue  # with one environment and one step, a rollout can be a mere reset

            # Advantages, once per rollout.
            scaled_rewards = agent.scale_rewards(rewards, np.concatenate(sums))
            with torch.no_grad():
                values = agent.value(obs).numpy(force=True)
                logprobs, _ = log_prob_and_entropy(agent.policy(obs[:-1]), actions)
            advantages = gae(scaled_rewards, values, terminated, dones, args.gamma, args.gae_lambda)
            # (6) R̂_t = Â_t + V_old(s_t)
            returns = advantages + values[:-1]

            # Update, on the valid samples: (T, N, ..) -> (B, ..).
            rollout = {
                "obs": obs[:-1],
                "actions": actions,
                "logprobs": logprobs,
                "advantages": advantages,
                "returns": returns,
                "values": values[:-1],
            }
            batch = {k: torch.as_tensor(x, device=device)[valid] for k, x in rollout.items()}
            explained, logged = explained_variance(batch["values"], batch["returns"]), []
            for _ in range(args.update_epochs):
                for indices in minibatch_indices(B, max(samples), M).to(device):
                    minibatch = {k: x[indices] for k, x in batch.items()}
                    loss, terms = minibatch_loss(agent, args, **minibatch)
                    optimizer.zero_grad()
                    loss.backward()
                    average(agent, terms)
                    # (13) g ← g · min(1, g_max / ‖g‖₂)
                    grad_norm = nn.utils.clip_grad_norm_(agent.parameters(), args.max_grad_norm)
                    optimizer.step()
                    logged.append(terms | {"losses/grad_norm": grad_norm})
                metrics = mean_of(logged)
                if metrics["losses/approx_kl"] > args.target_kl:
                    break
            progress.update += 1

            metrics["charts/learning_rate"] = optimizer.param_groups[0]["lr"]
            here = run.stop, explained.item(), episodic_return[dones], episodic_length[dones]
            stops, explained, returns, lengths = gather(*here)
            metrics["losses/explained_variance"] = np.mean(explained)
            finished = any(stops) or progress.global_step >= args.total_timesteps
            if rank == 0:
                log(run, args, metrics, np.concatenate(returns), np.concatenate(lengths))
                if finished or progress.update % args.checkpoint_interval == 0:
                    save(run, args, agent, optimizer)

        envs.close()
        if distributed.is_initialized():
            distributed.destroy_process_group()
        if rank == 0 and not run.stop:
            report(run, args, agent, eval_seed)


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    try:
        main(parse_args())
    except RunError as error:
        print(error, file=sys.stderr)
        sys.exit(2 if isinstance(error, Refused) else 1)
