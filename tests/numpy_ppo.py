"""PPO twice more, as steps from the equations to the PyTorch of the scripts.

Part 1 computes the equations for one sample or one environment in plain Python, with floats and
lists. Part 2 is the whole update in NumPy, with every derivative written by hand. Nothing here is
shared with the scripts: the tests compare them with it. Numbers in parentheses refer to the
equations in README.md.
"""

import math

import numpy as np

# Part 1: plain Python


def discounted_returns(rewards, gamma, bootstrap=0.0):
    """(1) G_t = r_t + γ G_{t+1} for every t; `bootstrap` is the G after the last reward."""
    returns = []
    for reward in reversed(rewards):
        bootstrap = reward + gamma * bootstrap
        returns.append(bootstrap)
    return returns[::-1]


def gae(rewards, values, terminated, dones, gamma, gae_lambda):
    """(4), (5) Â_t = Σ_l (γλ)^l δ_{t+l} up to the episode's end, as a sum from each t forward.

    One environment: T rewards, T + 1 values.
    """
    T = len(rewards)
    deltas = []
    for t in range(T):
        next_value = 0.0 if terminated[t] else values[t + 1]
        deltas.append(rewards[t] + gamma * next_value - values[t])
    advantages = []
    for t in range(T):
        end = next((k for k in range(t, T) if dones[k]), T - 1)
        terms = [(gamma * gae_lambda) ** (k - t) * deltas[k] for k in range(t, end + 1)]
        advantages.append(sum(terms))
    return advantages


def clip(x, low, high):
    return min(max(x, low), high)


def surrogate(ratio, advantage, epsilon):
    """(9) L^CLIP of one sample."""
    return min(ratio * advantage, clip(ratio, 1 - epsilon, 1 + epsilon) * advantage)


def value_loss(value, old_value, target, epsilon=math.inf):
    """(10) L^VF of one sample; an infinite ε clips nothing."""
    clipped_value = old_value + clip(value - old_value, -epsilon, epsilon)
    return 0.5 * max((value - target) ** 2, (clipped_value - target) ** 2)


def softmax(logits):
    """The probabilities of a categorical policy."""
    weights = [math.exp(x) for x in logits]
    return [w / sum(weights) for w in weights]


def entropy(probabilities):
    """(11) -Σ_a π(a) log π(a)"""
    return -sum(p * math.log(p) for p in probabilities)


def approx_kl(ratio):
    """(14) of one sample."""
    return ratio - 1 - math.log(ratio)


# Part 2: NumPy, in float64

# An activation, and its derivative as a function of its output.
RELU = (lambda x: np.maximum(x, 0), lambda y: y > 0)
TANH = (np.tanh, lambda y: 1 - y**2)


def network(weights, name):
    """The layers (weight, bias) of a torch.nn.Sequential, from its arrays {"name.0.weight": ..}.
    They are views: what changes them changes the arrays."""
    return [(weights[f"{name}.{i}.weight"].T, weights[f"{name}.{i}.bias"]) for i in (0, 2, 4)]


def forward(layers, x, activation):
    """[input of the first layer, .., input of the last layer, output]"""
    xs = [x]
    for weight, bias in layers[:-1]:
        xs.append(activation[0](xs[-1] @ weight + bias))
    weight, bias = layers[-1]
    return [*xs, xs[-1] @ weight + bias]


def backward(layers, xs, d_output, activation):
    """Derivatives for [weight, bias, weight, ..] from that for the output, (M, outputs)."""
    gradients = []
    for i in reversed(range(len(layers))):
        gradients = [xs[i].T @ d_output, d_output.sum(0), *gradients]
        # Through the layer and the activation before it; before the first layer it is not used.
        d_output = d_output @ layers[i][0].T * activation[1](xs[i])
    return gradients


def categorical(logits, log_std, actions):
    """log π(a|s), the entropy (11), and what turns their derivatives into those of the logits."""
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    chosen = np.eye(p.shape[-1])[actions]
    entropies = -(p * np.log(p)).sum(-1)

    def pull_back(d_logprob, d_entropy):
        # ∂ log π(a) / ∂ logit_i = 1[i = a] - p_i,  ∂H / ∂ logit_i = -p_i (log p_i + H)
        d_logits = d_logprob[:, None] * (chosen - p)
        return d_logits - d_entropy[:, None] * p * (np.log(p) + entropies[:, None]), None

    return np.log((p * chosen).sum(-1)), entropies, pull_back


def normal(mean, log_std, actions):
    """The same of independent Normal components; log σ does not depend on the state."""
    z = (actions - mean) / np.exp(log_std)
    logprobs = (-(z**2) / 2 - log_std - np.log(2 * np.pi) / 2).sum(-1)  # (20)
    entropies = np.full(len(mean), (log_std + np.log(2 * np.pi * np.e) / 2).sum())

    def pull_back(d_logprob, d_entropy):
        # ∂ log π / ∂ mean = z / σ,  ∂ log π / ∂ log σ = z² - 1,  ∂H / ∂ log σ = 1
        d_mean = d_logprob[:, None] * z / np.exp(log_std)
        return d_mean, (d_logprob[:, None] * (z**2 - 1) + d_entropy[:, None]).sum(0)

    return logprobs, entropies, pull_back


class PPO:
    """Actor, critic and Adam. The arrays that it is given change in place; log_std is None for
    discrete actions; args holds the coefficients, under the names of the scripts' flags."""

    def __init__(self, actor, critic, log_std, args):
        self.actor, self.critic, self.log_std, self.args = actor, critic, log_std, args
        self.parameters = [x for layer in [*actor, *critic] for x in layer]
        self.parameters += [] if log_std is None else [log_std]
        self.policy = categorical if log_std is None else normal
        self.adam_steps = 0
        self.m = [np.zeros_like(x) for x in self.parameters]
        self.v = [np.zeros_like(x) for x in self.parameters]

    def value(self, obs):
        return forward(self.critic, obs, TANH)[-1][..., 0]

    def logprobs(self, obs, actions):
        return self.policy(forward(self.actor, obs, RELU)[-1], self.log_std, actions)[0]

    def gradient(self, obs, actions, logprobs, advantages, returns, values):
        """The derivatives of the loss (12) for `parameters`, and the loss and its parts."""
        M, epsilon = len(obs), self.args.clip_coef
        if self.args.norm_adv:
            advantages = (advantages - advantages.mean()) / (advantages.std(ddof=1) + 1e-8)  # (7)

        actor_xs = forward(self.actor, obs, RELU)
        new_logprobs, entropies, pull_back = self.policy(actor_xs[-1], self.log_std, actions)
        ratio = np.exp(new_logprobs - logprobs)  # (8)
        # (9) is flat past the clip range in the direction that improves the objective. Elsewhere
        # it is ratio · Â, and ∂ ratio / ∂ log π = ratio.
        flat = np.where(advantages > 0, ratio > 1 + epsilon, ratio < 1 - epsilon)
        objective = np.where(flat, ratio.clip(1 - epsilon, 1 + epsilon), ratio) * advantages
        d_logprob = np.where(flat, 0, -ratio * advantages) / M

        critic_xs = forward(self.critic, obs, TANH)
        change = critic_xs[-1][:, 0] - values
        error = critic_xs[-1][:, 0] - returns
        clipped_error = values + change.clip(-epsilon, epsilon) - returns
        # (10) is flat where the clipped error is the larger one, as it does not depend on V_θ.
        overshot = self.args.clip_vloss * (clipped_error**2 > error**2) * (abs(change) > epsilon)
        squared_error = np.where(overshot, clipped_error, error) ** 2
        d_value = self.args.vf_coef * np.where(overshot, 0, error) / M

        d_output, d_log_std = pull_back(d_logprob, np.full(M, -self.args.ent_coef / M))
        gradients = backward(self.actor, actor_xs, d_output, RELU)
        gradients += backward(self.critic, critic_xs, d_value[:, None], TANH)
        gradients += [] if d_log_std is None else [d_log_std]
        metrics = {
            "policy_loss": -objective.mean(),
            "value_loss": 0.5 * squared_error.mean(),
            "entropy": entropies.mean(),
            "approx_kl": (ratio - 1 - np.log(ratio)).mean(),  # (14)
            "clipfrac": (abs(ratio - 1) > epsilon).mean(),  # (15)
            "grad_norm": np.sqrt(sum((g**2).sum() for g in gradients)),
            "value_clipfrac": overshot.mean(),  # not a curve of the scripts
        }
        return gradients, metrics

    def update(self, minibatch, learning_rate):
        """One step of Adam with the gradient clipped by (13); returns the metrics."""
        gradients, metrics = self.gradient(**minibatch)
        scale = min(1, self.args.max_grad_norm / metrics["grad_norm"])
        self.adam_steps += 1
        for x, g, m, v in zip(self.parameters, gradients, self.m, self.v, strict=True):
            m += 0.1 * (scale * g - m)
            v += 0.001 * ((scale * g) ** 2 - v)
            m_hat = m / (1 - 0.9**self.adam_steps)
            v_hat = v / (1 - 0.999**self.adam_steps)
            x -= learning_rate * m_hat / (np.sqrt(v_hat) + 1e-5)
        return metrics
