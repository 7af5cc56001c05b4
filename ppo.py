"""PPO-Clip (proximal policy optimization) for discrete actions, Discrete and MultiDiscrete.

    python ppo.py --env-id LunarLander-v3 --total-timesteps 300000
    python ppo.py --resume runs/NAME --eval-episodes 100 --capture-video

(1) to (20) are the equations of README.md. Shapes: T steps a rollout, N environments, B valid
samples of a rollout, M a minibatch, D observation size, H heads (action components). Left out:
images, recurrence, action masks. ppo_continuous.py is this file for Box actions.
"""

import io
import os
import signal
import sys
import time
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, NoReturn

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's, for matrices too small for more

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.wrappers.vector import FlattenObservation, RecordVideo
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import nn
from torch.utils.tensorboard import SummaryWriter


@dataclass(frozen=True)
class Args:
    exp_name: str = Path(__file__).stem
    """name of the experiment, a part of the run's folder"""
    seed: Annotated[int, "0 <= seed < 2**63"] = 1
    """seed of all randomness; on the CPU the same seed gives the same numbers, bit for bit"""
    torch_deterministic: bool = True
    """use cuDNN's deterministic kernels only"""
    cuda: bool = False
    """run the networks on the GPU; networks this small are faster on the CPU"""
    num_threads: Annotated[int, "1 <= num_threads <= 1024"] = 1
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
    total_timesteps: Annotated[int, "total_timesteps >= 1"] = 500_000
    """environment steps; training ends after the first update that reaches them"""
    num_envs: Annotated[int, "1 <= num_envs <= 10**5"] = 8
    """N, parallel environments"""
    num_steps: Annotated[int, "1 <= num_steps <= 10**6"] = 128
    """T, steps of each environment in a rollout; an update learns from T·N samples"""
    learning_rate: Annotated[float, "0 <= learning_rate < inf"] = 2e-3
    """α₀, Adam's step size (19)"""
    anneal_lr: bool = True
    """let the step size fall linearly to 0 (19)"""
    gamma: Annotated[float, "0 <= gamma <= 1"] = 0.995
    """γ, discount (1): a reward 1 / (1 − γ) steps ahead weighs 1/e; 1 does not discount"""
    gae_lambda: Annotated[float, "0 <= gae_lambda <= 1"] = 0.98
    """λ of GAE (5): 0 trusts the critic (biased), 1 trusts the sampled rewards (noisy)"""
    num_minibatches: Annotated[int, "1 <= num_minibatches <= num_steps * num_envs"] = 8
    """minibatches an epoch, of M = ⌈T·N / num_minibatches⌉ samples each"""
    update_epochs: Annotated[int, "update_epochs >= 1"] = 4
    """K, passes over the samples of a rollout"""
    norm_adv: bool = True
    """normalise the advantages Â of each minibatch (7)"""
    clip_coef: Annotated[float, "clip_coef > 0"] = 0.2
    """ε, how far the ratio r(θ) may leave 1 before there is no more to gain (9)"""
    clip_vloss: bool = True
    """clip how far the value moves in an update, by ε too (10)"""
    ent_coef: Annotated[float, "0 <= ent_coef < inf"] = 0.01
    """c2, weight of the entropy bonus (12); 0 switches it off"""
    vf_coef: Annotated[float, "0 <= vf_coef < inf"] = 0.5
    """c1, weight of the value loss (12)"""
    max_grad_norm: Annotated[float, "max_grad_norm > 0"] = 0.5
    """g_max, longer gradients are scaled down to this norm (13); inf switches it off"""
    target_kl: Annotated[float | None, "target_kl is None or target_kl > 0"] = None
    """end an update after the epoch that brings its KL (14) above this, say 0.02; None: never"""
    norm_obs: bool = True
    """normalise observations by their running mean and variance (17)"""
    norm_reward: bool = True
    """divide rewards by the running standard deviation of the discounted return (18)"""
    eval_episodes: Annotated[int, "0 <= eval_episodes <= 10**5"] = 10
    """episodes of the greedy policy at the end; 0 switches it off"""
    checkpoint_interval: Annotated[int, "checkpoint_interval >= 1"] = 20
    """updates from one checkpoint.pt in the run's folder to the next; the end has one too"""
    resume: str | None = None
    """folder of a run to go on with; its arguments hold, but for those given beside this one"""


def refuse(problem: str) -> NoReturn:
    """Leave before anything is written, with one line on standard error and exit code 2."""
    print(" ".join(problem.split()), file=sys.stderr)
    raise SystemExit(2)


def parse_args() -> tuple[Args, dict]:
    """The command line and, with --resume, the checkpoint, whose arguments are its defaults."""
    args, checkpoint = tyro.cli(Args, description=__doc__), {}
    if args.resume is not None:
        try:
            checkpoint = torch.load(f"{args.resume}/checkpoint.pt", "cpu", weights_only=True)
            args = tyro.cli(Args, description=__doc__, default=Args(**checkpoint["args"]))
        except Exception as error:
            refuse(f"--resume {args.resume}: {error}. Give the folder of a run of this script")
    for field in fields(args):
        for rule in getattr(field.type, "__metadata__", ()):
            if not eval(rule, {"inf": float("inf")}, vars(args)):
                refuse(f"--{field.name} {getattr(args, field.name)}: allowed is {rule}")
    return args, checkpoint


def require_finite(what: str, x: np.ndarray) -> None:
    """Raise at the first NaN or infinity of x, whose rows are what there is many of."""
    if not np.isfinite(x).all():
        index = tuple(np.argwhere(~np.isfinite(x))[0])
        raise FloatingPointError(f"{what} {index[0]} is {x[index]}")


def make_envs(args: Args, num_envs: int) -> gym.vector.VectorEnv:
    """Environments with observations (num_envs, D), reset by the step after an episode's end."""
    render = {"render_mode": "rgb_array"} if args.capture_video else {}
    try:
        envs = gym.make_vec(args.env_id, num_envs, args.vectorisation, **render)
    except Exception as error:
        refuse(f"--env-id {args.env_id}: {error} (gymnasium.pprint_registry() lists all)")
    space = envs.single_observation_space
    is_image = space.dtype == np.uint8 and len(space.shape) > 1
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
        envs = FlattenObservation(envs)
    if is_image or not isinstance(envs.single_observation_space, gym.spaces.Box):
        refuse(f"{args.env_id} observes {space}: only vectors are supported, no images")
    if envs.metadata.get("autoreset_mode") != gym.vector.AutoresetMode.NEXT_STEP:
        refuse(f"{args.env_id}: only environments with AutoresetMode.NEXT_STEP are supported")
    return envs


def save(snapshot: dict, path: Path) -> None:
    """Write so that path is, whatever happens, the last checkpoint or this one, and whole."""
    torch.save(snapshot, buffer := io.BytesIO())
    with open(f"{path}.tmp", "wb") as file:
        file.write(buffer.getvalue())
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.tmp", path)


def layer_init(inputs: int, outputs: int, gain: float = 2**0.5) -> list[torch.Tensor]:
    """Orthogonal weights (inputs, outputs), zero bias."""
    return [nn.init.orthogonal_(torch.empty(inputs, outputs), gain), torch.zeros(outputs)]


def mlp(x, weights, activation):
    """Two hidden layers, (.., D) -> (.., outputs), of tensors or of NumPy arrays alike."""
    W1, b1, W2, b2, W3, b3 = weights
    return activation(activation(x @ W1 + b1) @ W2 + b2) @ W3 + b3


def to_numpy(weights: nn.ParameterList) -> list[np.ndarray]:
    """Weights for `mlp` in the rollout: NumPy takes a fifth of torch's time for so few rows."""
    return [weight.numpy(force=True) for weight in weights]


class Agent(nn.Module):
    """Policy, value and the statistics that normalise observations and rewards."""

    def __init__(self, envs: gym.vector.VectorEnv, norm_obs: bool = True, norm_reward: bool = True):
        super().__init__()
        space, D = envs.single_action_space, envs.single_observation_space.shape[0]
        self.action_start, self.action_shape = np.ravel(space.start), space.shape
        nvec = np.ravel(space.n if isinstance(space, gym.spaces.Discrete) else space.nvec).tolist()
        self.heads = H, choices = len(nvec), max(nvec)
        actor = layer_init(D, 64) + layer_init(64, 64) + layer_init(64, H * choices, gain=0.01)
        critic = layer_init(D, 64) + layer_init(64, 64) + layer_init(64, 1, gain=1.0)
        # Choices that a head lacks beside the longest one get a bias that rules them out for good.
        actor[-1] -= 1e8 * (torch.arange(choices) >= torch.as_tensor(nvec)[:, None]).flatten()
        self.actor, self.critic = nn.ParameterList(actor), nn.ParameterList(critic)
        # Buffers, so that a saved agent is complete; rows: count, mean, sum of squared deviations.
        moments = torch.zeros(3, D, dtype=torch.float64)
        self.register_buffer("obs_moments", moments if norm_obs else None)
        self.register_buffer("return_moments", moments[:, :1].clone() if norm_reward else None)

    def policy(self, obs, actor):
        """Logits of the heads, (.., D) -> (.., H, choices), of tensors or NumPy arrays."""
        relu = torch.relu if isinstance(obs, torch.Tensor) else lambda x: np.maximum(x, 0)
        return mlp(obs, actor, relu).reshape(*obs.shape[:-1], *self.heads)

    def value(self, obs: torch.Tensor) -> torch.Tensor:
        """V(s), (.., D) -> (..): squeezed here, as (M, 1) against (M,) would broadcast."""
        return mlp(obs, self.critic, torch.tanh).squeeze(-1)

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """Actions (N, H) counted from 0 -> as the environments take them."""
        return (actions + self.action_start).reshape(-1, *self.action_shape)

    def normalize_obs(self, obs: np.ndarray, count: np.ndarray | None = None) -> np.ndarray:
        """(17) ô = clip((o − μ) / √(σ² + 1e-8), ±10), (N, D) -> (N, D), once obs[count] count."""
        require_finite("observation of environment", obs)
        if self.obs_moments is not None:
            moments = self.obs_moments.numpy()
            if count is not None:
                update_moments(moments, obs, count)
            n, mean, m2 = moments
            obs = ((obs - mean) / np.sqrt(m2 / n + 1e-8)).clip(-10, 10)
        return obs.astype(np.float32)

    def scale_rewards(self, rewards: np.ndarray, sums: np.ndarray, count: np.ndarray) -> np.ndarray:
        """(18) r ← clip(r / √(Var R + 1e-8), ±10), once the sums R[count] count; all (T, N)."""
        require_finite("reward of environment", rewards.T)
        if self.return_moments is not None:
            update_moments(self.return_moments.numpy(), sums.reshape(-1, 1), count.ravel())
            n, _, m2 = self.return_moments.numpy()
            rewards = (rewards / np.sqrt(m2 / n + 1e-8)).clip(-10, 10)
        return rewards


def update_moments(moments: np.ndarray, x: np.ndarray, count: np.ndarray) -> None:
    """Count the rows x[count] of (n, D), if any, into moments (3, D): Welford, for a batch."""
    n, mean, m2 = moments
    delta = x - mean
    n += np.count_nonzero(count)
    mean += count @ delta / n
    m2 += count @ (delta * (x - mean))


def sample(logits: np.ndarray, noise: np.ndarray | float) -> np.ndarray:
    """A sample of softmax(logits) is the argmax under Gumbel noise; the mode, the one without."""
    return (logits + noise).argmax(-1)


def log_prob_and_entropy(logits: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """log π(a|s) and the mean entropy, (.., H, choices), (.., H) -> (..), ()."""
    log_pi = logits.log_softmax(-1)
    # (20) log π(a|s) = Σ_i log π_i(a_i|s)
    log_prob = log_pi.gather(-1, actions.unsqueeze(-1)).sum((-2, -1))
    # (11) H = E[−Σ_a π(a|s) log π(a|s)], heads add up
    entropy = -(log_pi.exp() * log_pi).sum((-2, -1)).mean()
    return log_prob, entropy


def running_sum(x: np.ndarray, valid: np.ndarray, start: np.ndarray, gamma: float) -> np.ndarray:
    """(18) R_t = γ R_{t−1} (1 − done_{t−1}) + x_t, 0 at reset steps, R_{−1} = start; all (T, N)."""
    sums, last = np.empty_like(x), start
    for t in range(len(x)):
        sums[t] = last = (gamma * last + x[t]) * valid[t]
    return sums


def gae(rewards, values, terminated, dones, gamma: float, gae_lambda: float) -> np.ndarray:
    """Generalised advantage estimation: (T, N) and values (T+1, N) -> advantages (T, N)."""
    # (4) δ_t = r_t + γ V(s_{t+1}) (1 − terminated_t) − V(s_t)
    deltas = rewards + gamma * values[1:] * ~terminated - values[:-1]
    # (5) Â_t = δ_t + γλ (1 − done_t) Â_{t+1}
    advantages, last = np.empty_like(values[1:]), 0.0
    for t in reversed(range(len(deltas))):
        advantages[t] = last = deltas[t] + gamma * gae_lambda * last * ~dones[t]
    return advantages


def normalize_advantages(advantages: torch.Tensor) -> torch.Tensor:
    """(7) Â ← (Â − mean) / (std + 1e-8), (M,) -> (M,)."""
    return (advantages - advantages.mean()) / (advantages.std() + 1e-8)


def clipped_surrogate(ratio: torch.Tensor, advantages: torch.Tensor, clip_coef: float):
    """(9) L^CLIP = E[min(r Â, clip(r, 1−ε, 1+ε) Â)], to be maximised."""
    clipped = ratio.clamp(1 - clip_coef, 1 + clip_coef)
    return torch.min(ratio * advantages, clipped * advantages).mean()


def clipped_value_loss(new_values, values, returns, clip_coef: float) -> torch.Tensor:
    """(10) L^VF = ½ E[max((V_θ − R̂)², (V_old + clip(V_θ − V_old, −ε, ε) − R̂)²)]"""
    clipped = values + (new_values - values).clamp(-clip_coef, clip_coef)
    return 0.5 * torch.max((new_values - returns).square(), (clipped - returns).square()).mean()


def kl_and_clipfrac(ratio: torch.Tensor, clip_coef: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(14) KL ≈ E[(r − 1) − log r] and (15) clipfrac = E[|r − 1| > ε]."""
    return (ratio - 1 - ratio.log()).mean(), ((ratio - 1).abs() > clip_coef).float().mean()


def explained_variance(values: torch.Tensor, returns: torch.Tensor) -> torch.Tensor:
    """(15) EV = 1 − Var(R̂ − V) / Var(R̂): 1 for a perfect critic, 0 for one that knows the mean."""
    return 1 - (returns - values).var(correction=0) / returns.var(correction=0)


def evaluate(agent: Agent, envs: gym.vector.VectorEnv, seed: int) -> np.ndarray:
    """Returns (N,) of the greedy policy, one episode an environment: the first to end are short."""
    actor, (obs, _) = to_numpy(agent.actor), envs.reset(seed=seed)
    returns, running = np.zeros(envs.num_envs), np.ones(envs.num_envs, dtype=bool)
    for _ in range(100_000):
        actions = sample(agent.policy(agent.normalize_obs(obs), actor), noise=0.0)
        obs, rewards, terminated, truncated, _ = envs.step(agent.to_env(actions))
        returns += rewards * running
        running &= ~(terminated | truncated)
        if not running.any():
            break
    return returns


def main(args: Args, checkpoint: dict | None = None) -> None:
    T, N = args.num_steps, args.num_envs
    M = -(-T * N // args.num_minibatches)
    value_clip = args.clip_coef if args.clip_vloss else float("inf")
    device = torch.device("cuda" if args.cuda and torch.cuda.is_available() else "cpu")
    if args.cuda and device.type == "cpu":
        print("--cuda: torch finds no GPU, the CPU is used")
    torch.set_num_threads(args.num_threads)
    torch.backends.cudnn.deterministic = args.torch_deterministic
    torch.manual_seed(args.seed)
    name = f"{args.env_id}__{args.exp_name}__{args.seed}__{int(time.time())}"
    folder = Path(args.resume or f"runs/{name.replace('/', '-').replace(':', '-')}")
    path = folder / "checkpoint.pt"
    envs = make_envs(args, N)
    if not isinstance(envs.single_action_space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        refuse(f"{args.env_id} acts in {envs.single_action_space}: Box is for ppo_continuous.py")
    agent = Agent(envs, args.norm_obs, args.norm_reward)
    agent.actor.to(device), agent.critic.to(device)  # the rollout and its statistics are the CPU's
    # Weights and gradients become views of one vector θ each: one call for all instead of twelve.
    parameters = list(agent.parameters())
    theta = nn.Parameter(nn.utils.parameters_to_vector(parameters))
    nn.utils.vector_to_parameters(theta.data, parameters)
    theta.grad = torch.zeros_like(theta)
    for p, grad in zip(parameters, theta.grad.split([p.numel() for p in parameters]), strict=True):
        p.grad = grad.view_as(p)
    optimizer = torch.optim.Adam([theta], lr=args.learning_rate, eps=1e-5, fused=True)
    global_step, wall_time, recent_returns, snapshot = 0, 0.0, [], None
    if checkpoint:
        try:
            agent.load_state_dict(checkpoint["agent"])
            optimizer.load_state_dict(checkpoint["optimizer"])
            torch.set_rng_state(checkpoint["rng"])
            global_step, wall_time = checkpoint["global_step"], checkpoint["wall_time"]
            recent_returns = checkpoint["recent_returns"]
        except Exception as error:
            refuse(f"--resume {args.resume}: {error}. Give the folder of a run of this script")

    def last_words(kind, error, trace):
        if snapshot and not isinstance(error, OSError):
            writer.flush()
        if kind is KeyboardInterrupt and snapshot:
            save(snapshot, path)
        elif not isinstance(error, FloatingPointError | OSError | KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        end = f"after step {global_step:,}; last good checkpoint: {path if path.exists() else None}"
        print(f"\n{error!r} {end}", file=sys.stderr)

    sys.excepthook = last_words
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # saves and leaves, like Ctrl-C
    if args.track:
        import wandb

        options = {"id": folder.resolve().name, "resume": "allow", "sync_tensorboard": True}
        wandb.init(args.wandb_entity, args.wandb_project_name, config=vars(args), **options)
    writer = SummaryWriter(folder, purge_step=global_step + 1)  # of what a killed run logged later
    writer.add_text("args", str(args), global_step + 1)
    (folder / "args.txt").write_text(str(args).replace(", ", ",\n"))
    (folder / Path(__file__).name).write_bytes(Path(__file__).read_bytes())
    if args.capture_video and global_step < args.total_timesteps:
        envs = RecordVideo(envs, f"{folder}/videos/train-{global_step}", record_first_only=True)

    # A rollout, in NumPy; obs[T] and values[T] belong to the state after its last step.
    obs = np.zeros((T + 1, N, *envs.single_observation_space.shape), dtype=np.float32)
    actions = sample(agent.policy(obs[:-1], to_numpy(agent.actor)), noise=0.0)
    valid, terminated, dones = np.zeros((3, T, N), dtype=bool)
    rewards, discounted, episodic_return, episodic_length = np.zeros((4, T, N))
    # Environment i gets env_seed + i: seeds 1 and 2 must not share environments, nor evaluation.
    env_seed, eval_seed = (np.random.SeedSequence(args.seed).generate_state(2) >> 1).tolist()
    next_obs, _ = envs.reset(seed=env_seed + global_step)
    next_valid = np.ones(N, dtype=bool)

    def minibatch_loss(obs, actions, advantages, returns, values, logprobs):
        """The loss of M samples, its terms and the ratios (M,)."""
        new_logprobs, entropy = log_prob_and_entropy(agent.policy(obs, agent.actor), actions)
        # (8) r(θ) = exp(log π_θ(a|s) − log π_old(a|s))
        ratio = (new_logprobs - logprobs).exp()
        if args.norm_adv and M > 1:  # one sample has no std
            advantages = normalize_advantages(advantages)
        policy_loss = -clipped_surrogate(ratio, advantages, args.clip_coef)
        value_loss = clipped_value_loss(agent.value(obs), values, returns, value_clip)
        # (12) loss = −L^CLIP + c1 L^VF − c2 H
        loss = policy_loss + args.vf_coef * value_loss - args.ent_coef * entropy
        return loss, policy_loss.detach(), value_loss.detach(), entropy.detach(), ratio.detach()

    if args.compile:
        minibatch_loss = torch.compile(minibatch_loss)
    start_time = time.perf_counter() - wall_time
    for update in range(sys.maxsize):
        # To memory at every update, for Ctrl-C at any moment; from there to the disk at intervals.
        state = {"args": vars(args), "agent": agent.state_dict(), "rng": torch.get_rng_state()}
        state |= {"optimizer": optimizer.state_dict(), "recent_returns": recent_returns}
        snapshot = deepcopy(state | {"global_step": global_step, "wall_time": wall_time})
        finished = global_step >= args.total_timesteps
        if (finished or update % args.checkpoint_interval == 0) and (update or not checkpoint):
            writer.flush()  # here only, as it waits for the disk
            save(snapshot, path)
        if finished:
            break
        # (19) α = α₀ (1 − global_step / total_timesteps)
        fraction_left = 1 - global_step / args.total_timesteps if args.anneal_lr else 1.0
        optimizer.param_groups[0]["lr"] = args.learning_rate * fraction_left

        # Rollout, with only what the environment needs in the loop.
        noise = -torch.empty(T, N, *agent.heads).exponential_().log().numpy()
        actor = to_numpy(agent.actor)
        for t in range(T):
            # (16) valid_t = 1 − done_{t−1}: the step after an episode's end only resets.
            valid[t] = next_valid
            obs[t] = agent.normalize_obs(next_obs, count=next_valid)
            actions[t] = sample(agent.policy(obs[t], actor), noise[t])
            next_obs, rewards[t], terminated[t], truncated, _ = envs.step(agent.to_env(actions[t]))
            dones[t] = terminated[t] | truncated
            next_valid = ~dones[t]
        obs[T] = agent.normalize_obs(next_obs)
        B = int(valid.sum())
        global_step += B
        # Sums over the running episodes: R of (18); with γ = 1 the return and, of ones, the length.
        discounted = running_sum(rewards, valid, discounted[-1], args.gamma)
        episodic_return = running_sum(rewards, valid, episodic_return[-1], 1.0)
        episodic_length = running_sum(np.ones((T, N)), valid, episodic_length[-1], 1.0)
        if B == 0:
            continue  # with one environment and one step, a rollout can be a mere reset
        # Advantages, once per rollout.
        values = agent.value(torch.as_tensor(obs, device=device)).numpy(force=True)
        scaled_rewards = agent.scale_rewards(rewards, discounted, valid)
        advantages = gae(scaled_rewards, values, terminated, dones, args.gamma, args.gae_lambda)
        # (6) R̂_t = Â_t + V_old(s_t)
        returns = advantages + values[:-1]

        # Update, on the valid samples: (T, N, ..) -> (B, ..).
        rollout = (obs[:-1], actions, advantages, returns, values[:-1])
        batch = [torch.as_tensor(x[valid], device=device) for x in rollout]
        b_obs, b_actions, _, b_returns, b_values = batch
        b_logprobs, _ = log_prob_and_entropy(agent.policy(b_obs, agent.actor), b_actions)
        batch.append(b_logprobs.detach())
        # ⌈B / M⌉ minibatches of M samples, the last one filled up from the start of the shuffle.
        repeat = torch.arange(-(-B // M) * M) % B
        losses, ratios = [], []
        for _ in range(args.update_epochs):
            order = torch.randperm(B)[repeat].view(-1, M).to(device)
            for minibatch in zip(*(x[order] for x in batch), strict=True):
                loss, *terms, ratio = minibatch_loss(*minibatch)
                theta.grad.zero_()
                loss.backward()
                # (13) g ← g · min(1, g_max / ‖g‖₂)
                grad_norm = theta.grad.norm()
                theta.grad *= (args.max_grad_norm / grad_norm).clamp(max=1)
                optimizer.step()
                # Metrics stay tensors until the update is over: reading one waits for it.
                losses.append(torch.stack((*terms, grad_norm)))
                ratios.append(ratio)
            kl, clipfrac = kl_and_clipfrac(torch.stack(ratios), args.clip_coef)
            if args.target_kl is not None and kl > args.target_kl:
                break

        metrics = {"losses/approx_kl": kl.item(), "losses/clipfrac": clipfrac.item()}
        names = ("losses/policy_loss", "losses/value_loss", "losses/entropy", "losses/grad_norm")
        for name, column in zip(names, torch.stack(losses).T.numpy(force=True), strict=True):
            require_finite(f"{name} of minibatch", column)
            metrics[name] = column.mean()
        metrics["losses/explained_variance"] = explained_variance(b_values, b_returns).item()
        if dones.any():
            metrics["charts/episodic_return"] = episodic_return[dones].mean()
            metrics["charts/episodic_length"] = episodic_length[dones].mean()
        recent_returns = (recent_returns + episodic_return[dones].tolist())[-100:]
        if len(recent_returns) == 100:
            metrics["charts/episodic_return_100"] = np.mean(recent_returns)
        metrics["charts/learning_rate"] = optimizer.param_groups[0]["lr"]
        metrics["charts/wall_time"] = wall_time = time.perf_counter() - start_time
        metrics["charts/SPS"] = sps = global_step / wall_time
        known = [Summary.Value(tag=k, simple_value=v) for k, v in metrics.items() if np.isfinite(v)]
        writer.file_writer.add_summary(Summary(value=known), global_step)  # one call: 10 times less
        recent = np.mean(recent_returns or np.nan)
        left = max(args.total_timesteps - global_step, 0) / sps
        line = f"{global_step:>10,} steps {sps:>8,.0f}/s {left:>6.0f} s left  return {recent:>8.1f}"
        print(line, end="\r" if sys.stdout.isatty() else "\n", flush=True)
    envs.close()
    if args.eval_episodes:
        envs = make_envs(args, args.eval_episodes)
        returns = evaluate(agent, envs, eval_seed)
        print(f"\ngreedy return {returns.mean():.1f}±{returns.std():.1f} ({returns.size} episodes)")
        writer.add_scalar("eval/episodic_return", returns.mean(), global_step + 1)
    if args.capture_video:  # of the first environment again, as all of them would be rendered
        envs = RecordVideo(make_envs(args, 1), f"{folder}/videos/eval-{global_step}")
        evaluate(agent, envs, eval_seed)
        envs.close()
    writer.close()


if __name__ == "__main__":
    main(*parse_args())
