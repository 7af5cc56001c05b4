"""PPO for continuous actions in one file (Schulman et al. 2017, arXiv:1707.06347).

    python ppo_continuous.py --env-id Hopper-v5 --seed 2

Numbers in parentheses in the code are equations of README.md. Shapes: T = num_steps, N = num_envs,
B = samples in a rollout, M = samples in a minibatch, D = size of an observation,
A = number of actions (ppo.py) or size of an action (ppo_continuous.py).
`diff ppo.py ppo_continuous.py` shows what depends on the type of action.
"""

# Dependencies, which `uv run` reads
# /// script
# requires-python = ">=3.10"
# dependencies = [
#     "torch==2.13.0",
#     "gymnasium[box2d,classic-control,mujoco]==1.4.0",
#     "mujoco==3.15.0",
#     'numpy==2.4.6; python_version >= "3.11"',
#     'numpy==2.2.6; python_version < "3.11"',
#     "tyro==1.0.17",
#     "tensorboard==2.21.0",
#     "tqdm==4.70.1",
#     "wandb==0.31.0",
#     "moviepy==2.2.1",
# ]
# ///

import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm


@dataclass
class Args:
    env_id: str = "HalfCheetah-v5"  # Gymnasium id; my_module:MyEnv-v0 imports my_module first
    env_kwargs: str = "{}"  # environment arguments as JSON: '{"max_episode_steps": 200}'
    total_timesteps: int = 1_000_000  # environment steps to train for
    num_envs: int = 8  # N, parallel environments; usual: 1 to 16
    num_steps: int = 256  # T, steps per environment in each rollout; usual: 32 to 2048
    learning_rate: float = 8e-4  # learning rate of Adam; usual: 1e-4 to 1e-3
    anneal_lr: bool = True  # anneal the learning rate linearly to 0, eq. 19
    gamma: float = 0.99  # γ, discount factor, eq. 1; usual: 0.9 to 0.999
    gae_lambda: float = 0.95  # λ of generalized advantage estimation, eq. 5; usual: 0.9 to 1
    num_minibatches: int = 16  # minibatches per epoch, of nearly equal size M; usual M: 64 to 256
    update_epochs: int = 5  # K, epochs per update; usual: 3 to 10
    norm_adv: bool = True  # normalize the advantages of each minibatch, eq. 7
    clip_coef: float = 0.2  # ε, clip range of the ratio, eq. 9; usual: 0.1 to 0.3; 1e6: no clip
    clip_vloss: bool = True  # also clip the change in the value to ±ε, eq. 10
    ent_coef: float = 0.0  # c2, weight of the entropy bonus, eq. 12; usual: 0 to 0.01
    vf_coef: float = 0.5  # c1, weight of the value loss, eq. 12
    max_grad_norm: float = 0.5  # maximum norm of the gradient, eq. 13; 1e9: no clip
    log_std_init: float = -0.5  # initial log σ of the policy
    target_kl: float | None = None  # stop an update after an epoch with mean KL above this, eq. 14
    norm_obs: bool = True  # normalize observations by their running mean and variance, eq. 17
    norm_reward: bool = True  # divide rewards by the std of the running discounted return, eq. 18

    # The run
    exp_name: str = Path(__file__).stem  # name of the experiment, part of the run directory's name
    seed: int = 1  # random seed; the same flags give identical runs on the same CPU
    vectorization_mode: Literal["sync", "async"] | None = None  # default: vector version, else sync
    torch_deterministic: bool = True  # use only deterministic cuDNN kernels
    cuda: bool = False  # train on the GPU; small networks are faster on the CPU
    num_threads: int = 1  # CPU threads of PyTorch; small networks are fastest with one
    compile: bool = False  # compile the loss with torch.compile; needs a C++ compiler
    track: bool = False  # also log to Weights & Biases
    wandb_project_name: str = "ppo"  # Weights & Biases project
    wandb_entity: str | None = None  # Weights & Biases team; default: your own account
    eval_episodes: int = 10  # greedy episodes at the end, one environment each; 0 skips them
    capture_video: bool = False  # record one greedy episode at the end, at most 1000 steps
    checkpoint_interval: float = 30  # seconds between checkpoints
    resume: str | None = None  # run directory or checkpoint to resume; its flags apply unless given


def make_envs(args, num_envs, **kwargs):
    """Create a gym.vector.VectorEnv; kwargs are passed to the environment.

    Observations are flattened to (num_envs, D), unless they have three dimensions, as images do.
    An environment whose episode has ended resets in its next step, which ignores the action and
    returns reward 0 and the first observation of the next episode (AutoresetMode.NEXT_STEP).
    So the step that ends an episode returns its last observation. return_queue and length_queue of
    the result hold the returns and lengths of the last 100 episodes.
    """
    kwargs = json.loads(args.env_kwargs) | kwargs
    # To wrap each environment, add wrappers=[MyWrapper] here; this needs mode sync or async.
    envs = gym.make_vec(args.env_id, num_envs, args.vectorization_mode, **kwargs)
    action_space = envs.single_action_space
    if not isinstance(action_space, gym.spaces.Box) or action_space.dtype.kind != "f":
        raise ValueError(f"{Path(__file__).name} does not support actions {action_space}")
    if envs.metadata.get("autoreset_mode") != gym.vector.AutoresetMode.NEXT_STEP:
        raise ValueError(f"{args.env_id} does not autoreset in NEXT_STEP mode")
    obs_space = envs.single_observation_space
    if not isinstance(obs_space, gym.spaces.Box) or len(obs_space.shape) not in (1, 3):
        envs = gym.wrappers.vector.FlattenObservation(envs)
    # A key of its own: the environment's infos may have statistics under "episode" already.
    return gym.wrappers.vector.RecordEpisodeStatistics(envs, buffer_length=100, stats_key="ppo")


def layer_init(layer, std=2**0.5):
    nn.init.orthogonal_(layer.weight, std)
    nn.init.zeros_(layer.bias)
    return layer


class RunningMeanStd(nn.Module):
    """Mean, variance and std of all samples so far; buffers are saved with the agent."""

    def __init__(self, *shape):
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("var", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("std", torch.ones(shape, dtype=torch.float64))

    def update(self, x):
        """Update with a batch of samples, (B, *shape) (Chan et al. 1979)."""
        x = x.double()
        n = len(x)
        total = self.count + n
        delta = x.mean(0) - self.mean
        m2 = self.var * self.count + x.var(0, correction=0) * n + delta**2 * self.count * n / total
        self.count = total
        self.mean = self.mean + delta * n / total
        self.var = m2 / total
        self.std = (self.var + 1e-8).sqrt()  # computed here, not at every step


class Agent(nn.Module):
    """Actor and critic. Methods take raw observations; (..) is any number of leading axes."""

    def __init__(self, envs, args):
        super().__init__()
        (D,) = envs.single_observation_space.shape  # for images see benchmarks/variants/cnn.patch
        low = torch.as_tensor(envs.single_action_space.low)
        high = torch.as_tensor(envs.single_action_space.high)
        A = low.numel()
        self.norm_obs = args.norm_obs
        self.obs_rms = RunningMeanStd(D)
        self.return_rms = RunningMeanStd()  # of discounted returns (18); here so that it is saved
        # ReLU is several times faster than tanh, and the actor runs at every step. The critic does
        # not; with ReLU in it, MountainCar-v0 was never solved.
        self.actor = nn.Sequential(
            layer_init(nn.Linear(D, 64)),
            nn.ReLU(),
            layer_init(nn.Linear(64, 64)),
            nn.ReLU(),
            layer_init(nn.Linear(64, A), std=0.01),
        )
        self.log_std = nn.Parameter(torch.full((A,), float(args.log_std_init)))
        self.critic = nn.Sequential(
            layer_init(nn.Linear(D, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 1), std=1.0),
        )
        # Policy outputs in [-1, 1] map onto the bounds. Without both bounds they are not scaled.
        bounded = (high - low).isfinite()
        self.register_buffer("action_scale", torch.where(bounded, (high - low) / 2, 1))
        self.register_buffer("action_bias", torch.where(bounded, (high + low) / 2, 0))
        self.register_buffer("action_low", low)
        self.register_buffer("action_high", high)

    def normalize(self, obs):
        obs = obs.float()  # as in training, even where the environment returns float64
        if self.norm_obs:
            obs = ((obs - self.obs_rms.mean) / self.obs_rms.std).clamp(-10, 10).float()  # (17)
        return obs

    def value(self, obs):
        """V(s), (.., D) -> (..)"""
        return self.critic(self.normalize(obs)).squeeze(-1)

    def policy(self, obs):
        """Mean and log σ of the normal distribution π(·|s), (.., D) -> (.., A) and (.., A)"""
        mean = self.actor(self.normalize(obs))
        return mean, self.log_std.expand_as(mean)

    @torch.no_grad()
    def sample(self, obs):
        """Actions drawn from π(·|s)"""
        mean, log_std = self.policy(obs)
        return mean + log_std.exp() * torch.randn_like(mean)

    def to_env(self, actions):
        """Actions of the policy, (.., A), in the environment's shape, scaled and clipped"""
        actions = actions.reshape(*actions.shape[:-1], *self.action_low.shape)
        actions = self.action_bias + self.action_scale * actions
        return actions.clamp(self.action_low, self.action_high)

    @torch.no_grad()
    def forward(self, obs):
        """The greedy action, as passed to the environment; for evaluate and torch.onnx.export"""
        mean, log_std = self.policy(obs)
        return self.to_env(mean)


def log_prob(policy, actions):
    """log π(a|s) -> (..); policy is what Agent.policy returns"""
    mean, log_std = policy
    z = (actions - mean) / log_std.exp()
    return -(z**2 / 2 + log_std + np.log(2 * np.pi) / 2).sum(-1)  # (20)


def entropy(policy):
    """Entropy of π(·|s) -> (..); policy is what Agent.policy returns"""
    mean, log_std = policy
    return (log_std + np.log(2 * np.pi * np.e) / 2).sum(-1)  # (11)


def gae(rewards, values, terminated, dones, gamma, gae_lambda):
    """Advantages, (T, N), by generalized advantage estimation; values is (T + 1, N), V(s_T) last.

    If dones[t], step t + 1 only resets, and its advantage is meaningless: ~dones[t] keeps it out of
    the episode that has ended, and main drops it (16).
    """
    advantages = np.zeros_like(rewards)
    advantage = 0.0
    for t in reversed(range(len(rewards))):
        # A terminal state has value 0. A truncated episode would have continued: values[t + 1] is
        # the value of its last observation (see make_envs).
        delta = rewards[t] + gamma * values[t + 1] * ~terminated[t] - values[t]  # (4)
        advantage = delta + gamma * gae_lambda * ~dones[t] * advantage  # (5)
        advantages[t] = advantage
    return advantages


def ppo_loss(agent, args, *, obs, actions, logprobs, advantages, returns, values):
    """The loss of a minibatch of M samples from `rollout` in main, and the metrics to log."""
    policy = agent.policy(obs)
    logratio = log_prob(policy, actions) - logprobs
    ratio = logratio.exp()  # (8)

    if args.norm_adv:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)  # (7)
    clipped_ratio = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
    policy_loss = -torch.min(ratio * advantages, clipped_ratio * advantages).mean()  # (9)

    new_values = agent.value(obs)
    squared_error = (new_values - returns) ** 2
    if args.clip_vloss:
        clipped_values = values + (new_values - values).clamp(-args.clip_coef, args.clip_coef)
        squared_error = torch.max(squared_error, (clipped_values - returns) ** 2)
    value_loss = 0.5 * squared_error.mean()  # (10)

    mean_entropy = entropy(policy).mean()
    loss = policy_loss + args.vf_coef * value_loss - args.ent_coef * mean_entropy  # (12)
    metrics = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": mean_entropy,
        "approx_kl": (logratio.expm1() - logratio).mean(),  # (14), expm1(x) = exp(x) - 1
        "clipfrac": ((ratio - 1).abs() > args.clip_coef).float().mean(),  # (15)
    }
    return loss, {name: x.detach() for name, x in metrics.items()}


def evaluate(agent, envs, seed, max_steps=30_000):
    """Returns of the greedy policy, (num_envs,); closes envs.

    One episode per environment: taking the first n to finish would favor short ones. An episode
    that is still running after max_steps counts with its return so far.
    """
    device = next(agent.parameters()).device
    obs, _ = envs.reset(seed=seed)
    returns = np.zeros(envs.num_envs)
    running = np.ones(envs.num_envs, dtype=bool)
    for _ in range(max_steps):
        actions = agent(torch.as_tensor(obs, device=device)).cpu().numpy()
        obs, rewards, terminated, truncated, _ = envs.step(actions)
        returns += rewards * running
        running &= ~(terminated | truncated)
        if not running.any():
            break
    envs.close()
    return returns


def load_checkpoint(path):
    """Load a checkpoint file, or the checkpoint.pt of a run directory."""
    file = Path(path, "checkpoint.pt") if Path(path).is_dir() else path
    return torch.load(file, map_location="cpu", weights_only=True)


def main(args):
    """Train, save and evaluate. args.resume restores the state; __main__ restores the flags."""
    # JSON turns NumPy numbers, which torch.load(weights_only=True) refuses, into plain ones, and
    # rejects NaN and infinity.
    args_json = json.dumps(vars(args), indent=2, default=np.generic.item, allow_nan=False)
    args = Args(**json.loads(args_json))
    T, N = args.num_steps, args.num_envs
    # A minibatch needs two samples for the std in (7). In the worst case every other step is a
    # reset, which leaves T // 2 samples per environment (16).
    limit = N * (T // 2) // 2
    assert 1 <= args.num_minibatches <= limit, f"--num-minibatches must be from 1 to {limit}"
    assert args.update_epochs >= 1, "--update-epochs must be at least 1"
    assert 0 <= args.gamma <= 1, "--gamma must be from 0 to 1"
    assert 0 <= args.gae_lambda <= 1, "--gae-lambda must be from 0 to 1"
    assert args.clip_coef >= 0, "--clip-coef must not be negative"
    assert args.max_grad_norm >= 0, "--max-grad-norm must not be negative"
    checkpoint = load_checkpoint(args.resume) if args.resume else {"global_step": 0}
    global_step = start_step = checkpoint["global_step"]

    # Usually environment i is seeded with env_seed + i. Drawn from seed and step, env_seed
    # keeps runs with seeds 1 and 2 from sharing episodes, and a resumed run from repeating its own.
    rng = np.random.default_rng([args.seed, global_step])
    seed, env_seed = rng.integers(2**31, size=2).tolist()
    random.seed(seed)  # this and np.random are for environments that draw from them
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = args.torch_deterministic
    torch.set_num_threads(args.num_threads)
    device = torch.device("cuda" if args.cuda else "cpu")

    envs = make_envs(args, N)
    agent = Agent(envs, args).to(device)
    optimizer = torch.optim.Adam(agent.parameters(), lr=args.learning_rate, eps=1e-5, fused=True)
    loss_fn = torch.compile(ppo_loss, dynamic=True) if args.compile else ppo_loss
    best_return = -np.inf

    # Resume, or make a run directory
    if args.resume:
        agent.load_state_dict(checkpoint["agent"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        envs.return_queue.extend(checkpoint["recent_returns"])
        run_dir = Path(args.resume) if Path(args.resume).is_dir() else Path(args.resume).parent
        if (run_dir / "best.pt").exists():
            best_return = np.mean(load_checkpoint(run_dir / "best.pt")["recent_returns"])
    else:
        name = f"{args.env_id}__{args.exp_name}__{args.seed}__{datetime.now():%Y%m%d-%H%M%S-%f}"
        run_dir = Path("runs", name.replace("/", "-").replace(":", "-"))
        run_dir.mkdir(parents=True)
        (run_dir / "args.json").write_text(args_json)
    trains = global_step < args.total_timesteps  # else the checkpoint is only evaluated
    if trains:  # The script may change between resumptions: each one leaves a copy.
        shutil.copyfile(__file__, run_dir / f"{Path(__file__).stem}-{global_step}.py")
    if args.track:
        import wandb

        wandb.init(
            project=args.wandb_project_name,
            entity=args.wandb_entity,
            name=run_dir.resolve().name,
            id=run_dir.resolve().name,
            resume="allow",
            reinit="finish_previous",  # closes a run that an error left open
            config=vars(args) if trains else None,  # an evaluation keeps the stored one
            sync_tensorboard=True,
        )
    # Steps after the checkpoint are logged again; TensorBoard hides the old points.
    writer = SummaryWriter(run_dir, purge_step=global_step + 1 if trains else None)
    print(f"run directory: {run_dir}", flush=True)

    def save(name):
        writer.flush()  # so that the curves reach at least as far as the checkpoint
        state = {
            "args": vars(args) | {"resume": None},  # main(Args(**these)) starts a new run
            "agent": agent.state_dict(),
            "optimizer": optimizer.state_dict(),
            "global_step": global_step,
            "recent_returns": [float(x) for x in envs.return_queue],
        }
        # Renaming is atomic: a checkpoint is never half-written.
        torch.save(state, run_dir / f"{name}.tmp")
        os.replace(run_dir / f"{name}.tmp", run_dir / f"{name}.pt")

    # Rollout storage: tensors for the agent, arrays for the environments and gae. obs[T] is the
    # observation after the last step.
    obs = torch.zeros(T + 1, N, *envs.single_observation_space.shape, device=device)
    actions = torch.zeros(T, N, *agent.log_std.shape, device=device)  # (T, N, A)
    rewards = np.zeros((T, N), dtype=np.float32)
    discounted_returns = np.zeros((T, N))
    valid, terminated, dones = np.zeros((3, T, N), dtype=bool)

    next_obs, _ = envs.reset(seed=env_seed)
    next_done = np.zeros(N, dtype=bool)
    discounted_return = np.zeros(N)
    logged_episodes = 0
    start_time = time.time()
    last_save = 0.0  # so that the first update is saved
    progress = tqdm(
        total=args.total_timesteps,
        initial=global_step,
        unit=" steps",
        mininterval=1 if sys.stderr.isatty() else 30,  # seconds
    )
    try:
        while global_step < args.total_timesteps:
            remaining = 1 - global_step / args.total_timesteps if args.anneal_lr else 1
            optimizer.param_groups[0]["lr"] = args.learning_rate * remaining  # (19)

            # Rollout
            for t in range(T):
                obs[t] = torch.as_tensor(next_obs)
                valid[t] = ~next_done  # (16), a step that only resets is not a sample
                actions[t] = agent.sample(obs[t])
                env_actions = agent.to_env(actions[t]).cpu().numpy()  # π is that of actions[t]
                next_obs, rewards[t], terminated[t], truncated, _ = envs.step(env_actions)
                dones[t] = next_done = terminated[t] | truncated
                # (18), discounted sum of the rewards so far; a reset step sets it to 0
                discounted_return = (args.gamma * discounted_return + rewards[t]) * valid[t]
                discounted_returns[t] = discounted_return
            obs[T] = torch.as_tensor(next_obs)
            B = int(valid.sum())
            global_step += B  # steps that only reset do not count
            if not (obs.isfinite().all() and np.isfinite(rewards).all()):
                raise ValueError(f"{args.env_id} returned a NaN or infinite observation or reward")

            # The first rollout acted without statistics: it is used only to initialize them.
            if args.norm_obs and agent.obs_rms.count == 0:
                agent.obs_rms.update(obs[:-1][valid])
                continue

            # Advantages. The agent has not changed since it acted, so one pass over the whole
            # rollout gives V_old and log π_old. (With dropout, store them while acting instead.)
            with torch.no_grad():
                values = agent.value(obs).cpu().numpy()
                logprobs = log_prob(agent.policy(obs[:-1]), actions)
            scaled_rewards = rewards
            if args.norm_reward:
                # Updated before use, unlike obs_rms: no action depends on the scale of rewards.
                agent.return_rms.update(torch.as_tensor(discounted_returns[valid], device=device))
                scaled_rewards = (rewards / agent.return_rms.std.item()).clip(-10, 10)  # (18)
            advantages = gae(scaled_rewards, values, terminated, dones, args.gamma, args.gae_lambda)
            returns = advantages + values[:-1]  # (6)

            # Update, on the valid samples: (T, N, ..) -> (B, ..)
            rollout = {
                "obs": obs[:-1],
                "actions": actions,
                "logprobs": logprobs,
                "advantages": advantages,
                "returns": returns,
                "values": values[:-1],
            }
            batch = {k: torch.as_tensor(x, device=device)[valid] for k, x in rollout.items()}
            logs = []
            for _ in range(args.update_epochs):
                for indices in torch.randperm(B, device=device).tensor_split(args.num_minibatches):
                    minibatch = {k: x[indices] for k, x in batch.items()}
                    loss, log = loss_fn(agent, args, **minibatch)
                    optimizer.zero_grad()
                    loss.backward()
                    # (13); a NaN raises here, before it reaches the weights and a checkpoint
                    log["grad_norm"] = nn.utils.clip_grad_norm_(
                        agent.parameters(), args.max_grad_norm, error_if_nonfinite=True
                    )
                    optimizer.step()
                    logs.append(log)
                if args.target_kl is not None:
                    kls = [x["approx_kl"] for x in logs[-args.num_minibatches :]]  # of this epoch
                    if torch.stack(kls).mean() > args.target_kl:
                        break
            # After the update, so that the agent learns with the statistics that it acted with.
            if args.norm_obs:
                agent.obs_rms.update(batch["obs"])

            # Log
            metrics = {f"losses/{k}": torch.stack([x[k] for x in logs]).mean() for k in logs[0]}
            returns_var = batch["returns"].var()
            if returns_var > 0:
                residual_var = (batch["returns"] - batch["values"]).var()
                metrics["losses/explained_variance"] = 1 - residual_var / returns_var  # (15)
            metrics["charts/learning_rate"] = optimizer.param_groups[0]["lr"]
            metrics["charts/SPS"] = (global_step - start_step) / (time.time() - start_time)
            mean_return = np.mean(envs.return_queue) if envs.return_queue else np.nan
            new_episodes = envs.episode_count - logged_episodes
            if new_episodes:
                metrics["charts/episodic_return"] = np.mean(list(envs.return_queue)[-new_episodes:])
                metrics["charts/episodic_length"] = np.mean(list(envs.length_queue)[-new_episodes:])
                metrics["charts/episodic_return_100"] = mean_return
                logged_episodes = envs.episode_count
            for name, value in metrics.items():
                writer.add_scalar(name, value, global_step)

            # best.pt: the agent right after the highest mean return of 100 training episodes so far
            if len(envs.return_queue) == 100 and mean_return > best_return:
                best_return = mean_return
                save("best")
            if time.time() - last_save > args.checkpoint_interval:
                save("checkpoint")
                last_save = time.time()
            progress.set_postfix_str(
                f"return {mean_return:.1f}, KL {metrics['losses/approx_kl']:.4f}", refresh=False
            )
            progress.update(global_step - progress.n)
    except KeyboardInterrupt:
        save("checkpoint")  # first: printing fails if stdout is a closed pipe
        print(f"interrupted; resume with: python {Path(__file__).name} --resume {run_dir}")
        raise
    if trains:
        save("checkpoint")
    progress.close()
    envs.close()

    # Evaluate; the seed is the same for every evaluation of a run
    eval_seed = int(np.random.default_rng(args.seed).integers(2**31))
    if args.eval_episodes > 0:
        greedy = evaluate(agent, make_envs(args, args.eval_episodes), eval_seed)
        print(f"greedy return {greedy.mean():.1f} (std {greedy.std():.1f}, {len(greedy)} episodes)")
        if trains:  # an evaluation alone is only printed
            writer.add_scalar("eval/episodic_return", greedy.mean(), global_step)
    if args.capture_video:
        videos = f"{run_dir}/videos/{global_step}"
        video_envs = make_envs(args, 1, render_mode="rgb_array")
        video_envs = gym.wrappers.vector.RecordVideo(video_envs, videos)
        evaluate(agent, video_envs, eval_seed, max_steps=1000)
        if args.track:
            wandb.log({"video": wandb.Video(f"{videos}/rl-video-episode-0.mp4")})
    writer.close()
    if args.track:
        wandb.finish()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM acts like Ctrl-C
    args = tyro.cli(Args, description=__doc__)
    if args.resume:  # parse again, with the flags of the run as defaults
        args = tyro.cli(Args, default=Args(**load_checkpoint(args.resume)["args"]))
    main(args)
