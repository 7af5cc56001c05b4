"""PPO's update once more, in NumPy and float64 with every derivative by hand: what the scripts'
torch code is compared with. Shapes and symbols as there; one Discrete head or one Box."""

import numpy as np

# An activation, and its derivative as a function of its value.
RELU = (lambda x: x * (x > 0), lambda y: y > 0)
TANH = (np.tanh, lambda y: 1 - y**2)


def forward(layers, x, activation):
    """The inputs of each layer and the output, of a network of (weight, bias) layers."""
    inputs = []
    for i, (weight, bias) in enumerate(layers):
        inputs.append(x)
        x = x @ weight + bias
        x = activation[0](x) if i < len(layers) - 1 else x
    return inputs, x


def backward(layers, inputs, gradient, activation):
    """Gradients of the layers, from the one at the output, (M, outputs)."""
    gradients = []
    for (weight, _), x in zip(reversed(layers), reversed(inputs), strict=True):
        gradients.append((x.T @ gradient, gradient.sum(0)))
        gradient = (gradient @ weight.T) * activation[1](x)  # unused before the first layer
    return gradients[::-1]


def advantages_and_returns(rewards, values, terminated, dones, gamma, lam):
    advantages = np.zeros_like(rewards)
    for n in range(rewards.shape[1]):
        running = 0.0
        for t in reversed(range(len(rewards))):
            bootstrap = 0.0 if terminated[t, n] else gamma * values[t + 1, n]
            delta = rewards[t, n] + bootstrap - values[t, n]
            running = delta + (0.0 if dones[t, n] else gamma * lam * running)
            advantages[t, n] = running
    return advantages, advantages + values[:-1]


def discrete_policy(actor, _, obs, actions):
    """log π, H, and how the gradients with respect to them reach the actor's output and log σ."""
    inputs, logits = forward(actor, obs, RELU)
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    p = shifted / shifted.sum(-1, keepdims=True)
    chosen = np.eye(p.shape[1])[actions[:, 0]]
    log_pi = np.log((p * chosen).sum(-1))
    entropies = -(p * np.log(p)).sum(-1)

    def pull_back(d_log_pi, d_entropy):
        d_logits = d_log_pi[:, None] * (chosen - p)
        d_logits += d_entropy[:, None] * -p * (np.log(p) + entropies[:, None])
        return backward(actor, inputs, d_logits, RELU), None

    return log_pi, entropies, pull_back


def normal_policy(actor, log_std, obs, actions):
    inputs, mean = forward(actor, obs, RELU)
    std = np.exp(log_std)
    z = (actions - mean) / std
    log_pi = (-(z**2) / 2 - log_std - np.log(2 * np.pi) / 2).sum(-1)
    entropies = np.full(len(obs), (log_std + np.log(2 * np.pi * np.e) / 2).sum())

    def pull_back(d_log_pi, d_entropy):
        d_log_std = (d_log_pi[:, None] * (z**2 - 1) + d_entropy[:, None]).sum(0)
        return backward(actor, inputs, d_log_pi[:, None] * z / std, RELU), d_log_std

    return log_pi, entropies, pull_back


class Adam:
    """Of eps 1e-5 and the usual decays; changes parameters in place."""

    def __init__(self):
        self.steps, self.moments = 0, {}

    def step(self, parameters, gradients, learning_rate):
        self.steps += 1
        for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
            m, s = self.moments.get(i, (0.0, 0.0))
            self.moments[i] = m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g**2
            m_hat, s_hat = m / (1 - 0.9**self.steps), s / (1 - 0.999**self.steps)
            p -= learning_rate * m_hat / (np.sqrt(s_hat) + 1e-5)


def update_by_minibatches(policy, actor, critic, log_std, batch, orders, args, adam):
    """Change the layers in place as an update with the shuffles `orders` (K, ..) does, for M > 1.
    Returns what each minibatch would log, name -> array."""
    obs, actions, old_log_pi, advantages, returns, old_values = batch
    M, epsilon = args["M"], args["clip_coef"]
    log = []
    for order in orders:
        for start in range(0, len(order), M):
            mb = np.resize(order, -(-len(order) // M) * M)[start : start + M]
            A = (advantages[mb] - advantages[mb].mean()) / (advantages[mb].std(ddof=1) + 1e-8)
            log_pi, entropies, pull_back = policy(actor, log_std, obs[mb], actions[mb])
            log_ratio = log_pi - old_log_pi[mb]
            ratio = np.exp(log_ratio)
            flat = ((A > 0) & (ratio > 1 + epsilon)) | ((A < 0) & (ratio < 1 - epsilon))
            objective = np.where(flat, np.clip(ratio, 1 - epsilon, 1 + epsilon), ratio) * A
            d_log_pi = np.where(flat, 0.0, -A * ratio) / M

            inputs, v = forward(critic, obs[mb], TANH)
            v, v_old, R = v[:, 0], old_values[mb], returns[mb]
            move = v - v_old
            clipped = v_old + np.clip(move, -epsilon, epsilon)
            use_clipped = (clipped - R) ** 2 > (v - R) ** 2
            if not args["clip_vloss"]:
                use_clipped[:] = False
            d_v = np.where(use_clipped, (clipped - R) * (abs(move) < epsilon), v - R) / M
            value_loss = 0.5 * np.where(use_clipped, clipped - R, v - R) ** 2

            d_actor, d_log_std = pull_back(d_log_pi, np.full(M, -args["ent_coef"] / M))
            d_critic = backward(critic, inputs, args["vf_coef"] * d_v[:, None], TANH)
            parameters = [p for layer in (*actor, *critic) for p in layer]
            gradients = [g for layer in (*d_actor, *d_critic) for g in layer]
            if d_log_std is not None:
                parameters, gradients = [*parameters, log_std], [*gradients, d_log_std]
            norm = np.sqrt(sum((g**2).sum() for g in gradients))
            shrink = min(1.0, args["max_grad_norm"] / (norm + 1e-6))
            adam.step(parameters, [shrink * g for g in gradients], args["learning_rate"])
            log.append(
                {
                    "policy_loss": -objective.mean(),
                    "value_loss": value_loss.mean(),
                    "entropy": entropies.mean(),
                    "grad_norm": norm,
                    "approx_kl": (np.expm1(log_ratio) - log_ratio).mean(),
                    "clipfrac": (abs(ratio - 1) > epsilon).mean(),
                    "value_clipfrac": use_clipped.mean(),
                }
            )
    return {name: np.array([row[name] for row in log]) for name in log[0]}


def update(policy, actor, critic, log_std, batch, orders, args):
    """The same from a new optimiser. Returns the means of policy loss, value loss, entropy and
    gradient norm over minibatches."""
    log = update_by_minibatches(policy, actor, critic, log_std, batch, orders, args, Adam())
    return np.array([log[k].mean() for k in ("policy_loss", "value_loss", "entropy", "grad_norm")])
