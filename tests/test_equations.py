"""Every equation of README.md, computed in another way: plain Python, NumPy, finite differences,
sums over all actions. The numbers in the names are those of the equations: pytest -k eq_9"""

import itertools
import json
import math
from pathlib import Path
from statistics import NormalDist, mean, stdev
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import numpy_ppo
import pytest
import torch
from numpy.testing import assert_allclose as close
from torch.autograd import grad


class Scripted(gym.Env):
    """Episodes that give these rewards whatever the actions. The observation is the number of
    steps so far, and -1 at the end, where no one acts."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def __init__(self, rewards, continuous):
        self.rewards = rewards
        box = gym.spaces.Box(-1, 1, (1,), np.float32)
        self.action_space = box if continuous else gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        reward, self.t = self.rewards[self.t], self.t + 1
        end = self.t == len(self.rewards)
        return np.full(1, -1 if end else self.t, np.float32), float(reward), end, False, {}


gym.register("ppo-v0", Scripted, kwargs={"continuous": False})
gym.register("ppo_continuous-v0", Scripted, kwargs={"continuous": True})


def scripted(script, rewards, **flags):
    """Flags of a run that learns from every rollout."""
    flags = dict(num_envs=2, num_minibatches=1, update_epochs=1, norm_obs=False) | flags
    return flags | dict(
        env_id=f"{script.__name__}-v0", env_kwargs=json.dumps(dict(rewards=rewards))
    )


def checkpoint(script):
    """The last one of the run in this folder."""
    (run,) = Path("runs").iterdir()
    return script.load_checkpoint(run)


def tensor(x):
    return torch.as_tensor(x, dtype=torch.float64)


def loss_of(script, policy, actions, logprobs, advantages=None, values=None, **flags):
    """ppo_loss of a minibatch, with an agent that returns `policy` and the new ones of `values`,
    (new, old, returns). Without other flags it is -L^CLIP."""
    zeros = torch.zeros_like(logprobs)
    new_values, old_values, returns = [zeros] * 3 if values is None else values
    agent = SimpleNamespace(policy=lambda obs: policy, value=lambda obs: new_values)
    minibatch = dict(obs=zeros, actions=actions, logprobs=logprobs, returns=returns)
    minibatch |= dict(advantages=zeros if advantages is None else tensor(advantages))
    args = script.Args(**dict(norm_adv=False, vf_coef=0.0, ent_coef=0.0) | flags)
    return script.ppo_loss(agent, args, values=old_values, **minibatch)


def loss_at(script, ratios, *args, **flags):
    """The same for given ratios (8): of some policy and actions, with log π_old that fits."""
    M, rng = len(ratios), np.random.default_rng(0)
    if script.__name__ == "ppo":
        policy, actions = tensor(rng.normal(size=(M, 3))).log_softmax(-1), torch.arange(M) % 3
    else:
        mean, log_std, actions = tensor(rng.normal(size=(3, M, 2)))
        policy = mean, log_std
    logprobs = script.log_prob(policy, actions) - tensor(ratios).log()
    return loss_of(script, policy, actions, logprobs, *args, **flags)


RATIOS = [0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 2.0]


def l_clip(script, ratios, advantages, epsilon=0.2):
    return -loss_at(script, ratios, advantages, clip_coef=epsilon)[0]


BENCHMARK = {"ppo": "CartPole-v1", "ppo_continuous": "Pendulum-v1"}


def make_agent(script, **flags):
    args = script.Args(env_id=BENCHMARK[script.__name__], **flags)
    torch.manual_seed(0)
    return script.Agent(script.make_envs(args, 2), args), args


# (1) to (6): returns, the policy gradient, advantages


def random_rollout(seed, T=40, N=5):
    """Rewards, values and ends, with reset steps (16) between the episodes."""
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(T, N)), rng.normal(size=(T + 1, N))
    terminated, truncated = rng.random((2, T, N)) < 0.15
    valid = np.ones((T, N), dtype=bool)
    for t in range(1, T):
        valid[t] = ~(terminated | truncated)[t - 1]
        terminated[t] &= valid[t]
        truncated[t] &= valid[t]
    rewards[~valid] = 1e3  # whatever stands there must not matter
    return rewards, values, terminated, terminated | truncated, valid


@pytest.mark.parametrize("seed", range(3))
def test_eq_1_eq_6_lambda_1_gives_the_bootstrapped_discounted_return(script, seed):
    rewards, values, terminated, dones, valid = random_rollout(seed)
    returns = script.gae(rewards, values, terminated, dones, 0.97, 1.0) + values[:-1]
    for n in range(rewards.shape[1]):
        ends = [t + 1 for t in range(len(rewards)) if dones[t, n]] + [len(rewards)]
        starts = [0] + [t + 1 for t in ends[:-1]]  # the step after an end only resets
        for start, end in zip(starts, ends, strict=True):
            last = 0.0 if terminated[end - 1, n] else values[end, n]
            expected = numpy_ppo.discounted_returns(rewards[start:end, n], 0.97, last)
            close(returns[start:end, n], expected)


THETA = [0.3, -0.2, 0.5]
GRID = np.linspace(-9, 9, 2001)


def probabilities(script, theta):
    """All actions of one state (of a Normal policy a fine grid), and their probabilities."""
    if script.__name__ == "ppo":
        return np.arange(3), np.array(numpy_ppo.softmax(theta))
    normal = NormalDist(theta[0], math.exp(theta[1]))
    return GRID, np.array([normal.pdf(a) for a in GRID]) * 0.009


def f(actions):
    return np.sin(1.5 * actions) + 0.4


def surrogate(script, theta, theta_old, f, epsilon):
    """E_old[L^CLIP] of one state with the advantages f(a), by ppo_loss."""
    actions, p_old = probabilities(script, theta_old)
    M = len(actions)

    def policy(theta):
        if script.__name__ == "ppo":
            return theta.log_softmax(-1).expand(M, 3)
        return theta[:1].expand(M, 1), theta[1:2].expand(M, 1)

    advantages = M * p_old * f(actions)
    actions = torch.as_tensor(actions if script.__name__ == "ppo" else actions[:, None])
    logprobs = script.log_prob(policy(tensor(theta_old)), actions)
    return -loss_of(script, policy(theta), actions, logprobs, advantages, clip_coef=epsilon)[0]


def test_eq_2_eq_9_at_theta_old_the_surrogate_has_the_policy_gradient(script):
    """That of the expected return, for which finite differences are taken; whatever the baseline
    and ε."""
    theta = tensor(THETA).requires_grad_()
    for baseline, epsilon in itertools.product((0, 17), (0.01, 0.2, 1.0)):
        objective = surrogate(script, theta, THETA, lambda a, b=baseline: f(a) - b, epsilon)
        (gradient,) = grad(objective, theta)
        for i, step in enumerate(1e-5 * np.eye(3)):
            actions, up = probabilities(script, list(THETA + step))
            actions, down = probabilities(script, list(THETA - step))
            close(gradient[i], ((up - down) * f(actions)).sum() / 2e-5, atol=1e-7)
        assert abs(gradient).max() > 0.01


def test_eq_2_eq_8_the_ratio_turns_expectations_under_old_into_those_under_new(script):
    theta, epsilon = tensor(THETA), 1e9  # which clips nothing
    actions, p = probabilities(script, THETA)
    for theta_old in ([0.1, 0.1, 0.2], [-0.5, 0.4, 0.0]):
        close(surrogate(script, theta, theta_old, f, epsilon), p @ f(actions))
        close(surrogate(script, theta, theta_old, np.ones_like, epsilon), 1)  # E_old[r] = 1


def test_eq_2_two_states_in_sequence_put_the_gradient_on_the_decisive_action(ppo):
    """The reward is the second action, 0 or 1: E[∂/∂θ_1] = 0 and E[∂/∂θ_2] = θ_2 (1 - θ_2)."""
    logits = tensor([0.4, -0.3]).requires_grad_()
    policy = torch.stack([torch.zeros_like(logits), logits], -1).log_softmax(-1)  # of each state
    actions = torch.tensor(list(itertools.product((0, 1), repeat=2)))  # (4 episodes, 2 steps)
    logprobs = ppo.log_prob(policy.expand(4, 2, 2), actions).detach()
    advantages = 8 * (logprobs.sum(1).exp() * actions[:, 1])[:, None].expand(4, 2)
    minibatch = actions.flatten(), logprobs.flatten(), advantages.flatten()
    (gradient,) = grad(-loss_of(ppo, policy.repeat(4, 1), *minibatch)[0], logits)
    theta = logits.detach().sigmoid()
    close(gradient, [0, theta[1] * (1 - theta[1])], atol=1e-12)


def test_eq_3_exact_values_give_the_exact_advantage(script):
    """λ = 0, γ = 0.5: in s_0 action 0 ends the episode with 1, action 1 leads to s_1, which ends
    with 3; π is uniform. So Q is 1 and 1.5, V(s_0) 1.25, V(s_1) 3."""
    rewards = np.array([[1.0, 0.0], [0.0, 3.0]])  # columns: action 0, action 1
    values = np.array([[1.25, 1.25], [9.0, 3.0], [9.0, 9.0]])
    ends = np.array([[True, False], [False, True]])
    advantages = script.gae(rewards, values, ends, ends, 0.5, 0.0)
    close(advantages[0], [-0.25, 0.25])
    assert advantages[1, 1] == 0


def test_eq_4_truncation_bootstraps_and_termination_does_not(script):
    rewards, values = np.ones((1, 2)), np.array([[0.0, 0.0], [10.0, 10.0]])
    terminated, dones = np.array([[True, False]]), np.array([[True, True]])
    assert script.gae(rewards, values, terminated, dones, 0.9, 0.95).tolist() == [[1.0, 10.0]]


@pytest.mark.parametrize("seed", range(3))
def test_eq_4_eq_5_gae_is_the_sum_of_discounted_td_errors(script, seed):
    *rollout, valid = random_rollout(seed)
    advantages = script.gae(*rollout, 0.97, 0.9)
    for n in range(valid.shape[1]):
        expected = numpy_ppo.gae(*(x[:, n] for x in rollout), 0.97, 0.9)
        close(advantages[valid[:, n], n], np.array(expected)[valid[:, n]])


# (7) to (15), (20): the loss


def test_eq_7_advantages_of_a_minibatch_get_mean_0_and_sample_std_1(script):
    """With ratios of 1 the gradient of L^CLIP is the advantage of each sample, over M."""
    for x in ([3.0, -1.0, 7.0, 2.5], [3.0, -1.0], [2.5, 2.5]):
        ratios = torch.ones(len(x), dtype=torch.float64, requires_grad=True)
        loss, _ = loss_at(script, ratios, x, norm_adv=True)
        expected = [(a - mean(x)) / (stdev(x) + 1e-8) for a in x]
        close(-len(x) * grad(loss, ratios)[0], expected, atol=1e-12)


def test_eq_8_the_ratio_is_1_until_the_first_step_and_pi_old_stays(script, train):
    flags = dict(env_id=BENCHMARK[script.__name__], num_envs=2, num_steps=64, total_timesteps=200)
    flags |= dict(num_minibatches=1, anneal_lr=False)
    curves = train(script, **flags, update_epochs=1)
    for name in ("approx_kl", "clipfrac", "policy_loss"):  # the mean advantage is 0
        close([value for _, value in curves[f"losses/{name}"]], 0, atol=1e-6)
    curves = train(script, **flags, update_epochs=8)
    assert all(value > 1e-6 for _, value in curves["losses/approx_kl"])


TABLES = [  # of README.md, ε = 0.2: A, ratio, L^CLIP, whether it is flat (None at a boundary)
    (1, [0.5, 0.7, 0.8, 1.0, 1.1], [0.5, 0.7, 0.8, 1.0, 1.1], False),
    (1, [1.2], [1.2], None),
    (1, [1.3, 1.5, 2.0], [1.2, 1.2, 1.2], True),
    (-1, [0.5, 0.7], [-0.8, -0.8], True),
    (-1, [0.8], [-0.8], None),
    (-1, [1.0, 1.1, 1.2, 1.3, 1.5, 2.0], [-1.0, -1.1, -1.2, -1.3, -1.5, -2.0], False),
    (0, [0.5, 0.8, 1.0, 1.2, 2.0], [0.0] * 5, True),
]


def test_eq_9_tables(script):
    for advantage, ratios, objectives, flat in TABLES:
        for r, objective in zip(ratios, objectives, strict=True):
            ratio = tensor([r]).requires_grad_()
            value = l_clip(script, ratio, [advantage])
            close(value.item(), objective, err_msg=f"A = {advantage}, r = {r}")
            if flat is not None:
                slope = 0 if flat else advantage
                close(grad(value, ratio)[0], [slope], err_msg=f"slope, A = {advantage}, r = {r}")


def test_eq_9_is_the_mean_over_the_minibatch(script):
    rng = np.random.default_rng(1)
    ratios, advantages = np.exp(rng.normal(size=50)), rng.normal(size=50)
    expected = mean(map(numpy_ppo.surrogate, ratios, advantages, [0.3] * 50))
    close(l_clip(script, ratios, advantages, 0.3), expected)


def test_eq_9_three_action_softmax(ppo):
    """Logits 0, A = (1, 0, -1): where the objective stops rewarding, on the way to ∝ exp(A)."""
    target = numpy_ppo.softmax([1.0, 0.0, -1.0])
    close(target, [0.665, 0.245, 0.090], atol=5e-4)
    close([3 * p for p in target], [1.996, 0.734, 0.270], atol=5e-4)
    uniform, actions = tensor([1 / 3]).log(), torch.tensor([0])
    for advantage, p, flat in ((1, 0.399, 0), (1, 0.401, 1), (-1, 0.268, 0), (-1, 0.266, 1)):
        policy = tensor([[p, 1 - p]]).log().requires_grad_()
        loss, _ = loss_of(ppo, policy, actions, uniform, [advantage])
        assert (grad(loss, policy)[0][0, 0] == 0) == flat


def climb(ppo, theta, epsilon, rate):
    """One update of the single state with two actions of rewards 1 and 0, π(a_1) = θ, in
    expectation: both actions, with advantages weighted by 2 π_old. Here J(θ) = θ."""
    logprobs = tensor([theta, 1 - theta]).log()
    advantages = [2 * theta * (1 - theta), -2 * (1 - theta) * theta]
    logit = tensor([math.log(theta / (1 - theta))]).requires_grad_()
    for _ in range(200):
        policy = torch.stack([logit, torch.zeros_like(logit)], -1).log_softmax(-1).expand(2, 2)
        loss, _ = loss_of(ppo, policy, torch.arange(2), logprobs, advantages, clip_coef=epsilon)
        logit = (logit - rate * grad(loss, logit)[0].sign()).detach().requires_grad_()
    return logit.sigmoid().item()


def test_eq_9_theta_climbs_to_1_in_steps_that_the_clip_bounds(ppo):
    """An update ends where both ratios have left [1 - ε, 1 + ε], neither earlier nor later."""
    theta = 0.1
    while (bound := max(1.2 * theta, theta + 0.2 * (1 - theta))) < 0.99:
        theta = climb(ppo, theta, 0.2, rate=0.02)
        assert bound <= theta < bound + 0.02 * 0.25


def test_eq_9_without_a_clip_range_the_policy_freezes(ppo):
    moves = [climb(ppo, 0.5, epsilon, rate=1e-3) - 0.5 for epsilon in (0.2, 1e-2, 1e-6)]
    assert moves[0] > 0.04 and 0.005 < moves[1] < 0.006 and 0 < moves[2] < 0.0003


def test_eq_10_value_loss_against_plain_python(script):
    rng = np.random.default_rng(1)
    values = tensor(rng.normal(size=(3, 50)))
    for epsilon in (0.2, 1.0, math.inf):
        expected = mean(numpy_ppo.value_loss(*v, epsilon) for v in values.T.tolist())
        flags = dict(vf_coef=1.0, clip_vloss=epsilon < math.inf, clip_coef=min(epsilon, 1.0))
        close(loss_at(script, np.ones(50), values=values, **flags)[0], expected)


def test_eq_10_value_loss_is_flat_where_the_value_has_overshot(script):
    """V_old = 0, ε = 0.2: past ε towards the target there is nothing to gain, and an error in the
    other direction counts in full."""
    for new, target, expected, flat in (
        (0.1, 1.0, 0.405, False),
        (0.3, 1.0, 0.320, True),  # as if it were 0.2
        (1.0, 1.0, 0.320, True),
        (-0.3, 1.0, 0.845, False),
        (0.3, 0.1, 0.020, False),
    ):
        v = tensor([new]).requires_grad_()
        values = v, tensor([0.0]), tensor([target])
        loss, _ = loss_at(script, [1.0], values=values, vf_coef=1.0)
        close(loss.item(), expected)
        close(grad(loss, v)[0], 0 if flat else new - target)


def test_eq_11_eq_20_categorical_against_plain_python(ppo):
    logits = np.random.default_rng(2).normal(size=(2, 4))
    probs = [numpy_ppo.softmax(row) for row in logits.tolist()]
    log_pi = tensor(logits).log_softmax(-1)
    close(ppo.entropy(log_pi), [numpy_ppo.entropy(p) for p in probs])
    for action in range(4):
        expected = [math.log(p[action]) for p in probs]
        close(ppo.log_prob(log_pi, torch.tensor([action, action])), expected)
    deterministic = tensor([[50.0, -50.0], [0.0, 0.0]]).log_softmax(-1)
    close(ppo.entropy(deterministic), [0, math.log(2)], atol=1e-12)


def test_eq_11_eq_20_normal_against_density_and_quadrature(ppo_continuous):
    """Independent components: their densities multiply and their entropies add up."""
    mean, log_std = [0.5, -1.0], [0.2, -0.7]
    normals = [NormalDist(m, math.exp(s)) for m, s in zip(mean, log_std, strict=True)]
    policy = tensor([mean]), tensor([log_std])
    for action in ([0.0, 0.0], [3.0, -1.5]):
        log_pi = ppo_continuous.log_prob(policy, tensor([action]))
        expected = math.prod(n.pdf(a) for n, a in zip(normals, action, strict=True))
        close(log_pi.exp(), [expected])
    grid = np.linspace(-12, 12, 4001)
    density = [np.array([n.pdf(x) for x in grid]) + 1e-300 for n in normals]
    expected = sum(-(p * np.log(p)).sum() * 0.006 for p in density)
    close(ppo_continuous.entropy(policy), [expected], rtol=1e-6)


def test_eq_12_the_loss_weighs_its_three_parts(script):
    rng = np.random.default_rng(5)
    values, advantages = tensor(rng.normal(size=(3, 7))), rng.normal(size=7)

    def loss(**flags):
        return loss_at(script, RATIOS, advantages, values, **flags)[0].item()

    policy_loss = -l_clip(script, RATIOS, advantages).item()
    value_loss = mean(numpy_ppo.value_loss(*v, 0.2) for v in values.T.tolist())
    close(loss(vf_coef=0.7), policy_loss + 0.7 * value_loss)
    entropy = policy_loss - loss(ent_coef=1.0)
    close(entropy, loss_at(script, RATIOS)[1]["entropy"])
    close(loss(vf_coef=0.7, ent_coef=0.3), policy_loss + 0.7 * value_loss - 0.3 * entropy)


def test_eq_13_the_gradient_is_shortened_and_not_turned(script, train):
    """After its first step Adam holds a tenth of the gradient."""

    def first_gradient(max_grad_norm):
        flags = scripted(script, [1.0, 2.0, 3.0], num_steps=8, total_timesteps=1)
        curves = train(script, **flags, max_grad_norm=max_grad_norm)
        adam = checkpoint(script)["optimizer"]["state"].values()
        gradient = 10 * torch.cat([x["exp_avg"].flatten() for x in adam])
        return gradient, curves["losses/grad_norm"][0][1]

    gradient, norm = first_gradient(1e6)
    close(gradient.norm(), norm, rtol=1e-5)
    shortened, same_norm = first_gradient(norm / 3)
    close(shortened, gradient / 3, rtol=1e-4, atol=1e-7)
    close(same_norm, norm, rtol=1e-6)  # logged as it was before


def test_eq_14_kl_against_plain_python_and_never_negative(script):
    kl = loss_at(script, RATIOS)[1]["approx_kl"]
    close(kl, mean(map(numpy_ppo.approx_kl, RATIOS)))
    agent, _ = make_agent(script)  # not by rounding either, in float32
    obs = torch.randn(1000, agent.actor[0].in_features)
    policy, actions = agent.policy(obs), agent.sample(obs)
    for scale in (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-2, 1.0):
        logprobs = script.log_prob(policy, actions).detach() + scale * torch.randn(1000)
        assert loss_of(script, policy, actions, logprobs)[1]["approx_kl"] >= 0


def test_eq_15_clip_fraction(script):
    close(loss_at(script, RATIOS, clip_coef=0.2)[1]["clipfrac"], 4 / 7)
    close(loss_at(script, RATIOS, clip_coef=0.6)[1]["clipfrac"], 1 / 7)


def test_eq_15_explained_variance(script, train, monkeypatch):
    """It is absent where the returns do not vary."""
    flags = scripted(script, [0] * 99, num_steps=8, total_timesteps=1)
    for c, expected in ((0, 1), (1, 0.75), (-3, -1.25), (-1, None)):  # Â = c V, so R̂ = (1 + c) V
        monkeypatch.setattr(script, "gae", lambda rewards, values, *_, c=c: c * values[:-1])
        curves = train(script, **flags)
        (explained,) = dict(curves.get("losses/explained_variance", [(0, None)])).values()
        assert explained == (expected and pytest.approx(expected, rel=1e-4))


# (16) to (19): samples, normalization, annealing


def test_eq_16_steps_that_only_reset_are_no_samples_and_do_not_count(script, train, monkeypatch):
    """Episodes of 3 steps and rollouts of 3: [0 1 2] [reset 0 1] [2 reset 0] [1 2 reset]."""
    seen, ppo_loss = [], script.ppo_loss

    def record(*args, **minibatch):
        seen.append(sorted(minibatch["obs"].flatten().tolist()))
        return ppo_loss(*args, **minibatch)

    monkeypatch.setattr(script, "ppo_loss", record)
    curves = train(script, **scripted(script, [1, 1, 1], num_steps=3, total_timesteps=18))
    assert [step for step, _ in curves["losses/entropy"]] == [6, 10, 14, 18]
    assert seen == [[0, 0, 1, 1, 2, 2], [0, 0, 1, 1], [0, 0, 2, 2], [1, 1, 2, 2]]


@pytest.mark.parametrize("offset, scale", [(0, 1), (1e6, 1), (-3e6, 1e6), (123456.789, 0)])
def test_eq_17_moments_are_numpys(script, offset, scale):
    rms = script.RunningMeanStd(4)
    x = offset + scale * np.random.default_rng(3).normal(size=(300, 4))
    for batch in np.split(x, [1, 9, 12, 112]):
        rms.update(torch.as_tensor(batch))
    assert rms.count == 300
    close(rms.mean, x.mean(0))
    close(rms.var, x.var(0), rtol=1e-6, atol=1e-12)
    assert (rms.var >= 0).all()


def test_eq_17_observations_are_normalized_and_clipped(script):
    """A feature that never varies and one far from 0 are no exception; float64 is rounded, as it
    is in training."""
    agent, _ = make_agent(script)
    D = agent.actor[0].in_features
    x = np.random.default_rng(4).normal([123456.789, 1e6, 0, 7][:D], [0, 1, 2, 0][:D], (200, D))
    exact, x = x, x.astype(np.float32).astype(np.float64)
    agent.obs_rms.update(torch.as_tensor(x))
    assert torch.equal(agent.normalize(torch.as_tensor(exact)), agent.normalize(torch.as_tensor(x)))
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-8)
    close(agent.normalize(torch.as_tensor(x)), expected, atol=1e-4)
    far = torch.as_tensor(x + [0, 1e3, -1e9, 0][:D])
    assert agent.normalize(far)[0, 1:3].tolist() == [10, -10]
    assert torch.equal(agent.value(far), agent.critic(agent.normalize(far)).squeeze(-1))
    assert agent.value(far).isfinite().all() and agent.obs_rms.count == 200


def test_eq_17_without_norm_obs_observations_are_raw(script):
    agent, _ = make_agent(script, norm_obs=False)
    obs = 1e3 * torch.randn(5, agent.actor[0].in_features)
    agent.obs_rms.update(obs)
    assert torch.equal(agent.normalize(obs), obs)


def test_eq_17_a_fresh_agent_acts_and_evaluates(script):
    agent, args = make_agent(script)
    assert np.isfinite(script.evaluate(agent, script.make_envs(args, 2), 0)).all()
    assert agent.sample(torch.randn(3, agent.actor[0].in_features)).isfinite().all()


def test_eq_17_the_first_rollout_only_starts_the_statistics(script, train):
    flags = scripted(script, [1, 1, 1], num_steps=8, norm_obs=True)
    assert "losses/entropy" not in train(script, **flags, total_timesteps=12)
    first = checkpoint(script)
    assert first["optimizer"]["state"] == {} and first["agent"]["return_rms.count"] == 0
    assert first["agent"]["obs_rms.count"] == 12
    close(first["agent"]["obs_rms.mean"], [1])  # of 0, 1, 2; the -1 at the end is not acted on
    close(first["agent"]["obs_rms.var"], [2 / 3])
    curves = train(script, **flags, total_timesteps=13)
    assert [step for step, _ in curves["losses/entropy"]] == [24]


def test_eq_18_rewards_are_divided_by_the_std_of_the_discounted_return(script, train, monkeypatch):
    """γ = 0.5: it is 1, 2.5, 4.25 in every episode, although rollouts of 3 steps cut them; the
    fourth rollout begins with the second step of an episode, as in (16)."""
    rewards, gae = [], script.gae
    monkeypatch.setattr(script, "gae", lambda *args: rewards.append(args[0].copy()) or gae(*args))
    flags = scripted(script, [1, 2, 3], num_steps=3, total_timesteps=18, gamma=0.5)
    train(script, **flags)
    state, D = checkpoint(script)["agent"], [1, 2.5, 4.25]
    assert state["return_rms.count"] == 18
    close([state["return_rms.mean"], state["return_rms.var"]], [np.mean(D), np.var(D)])
    close(rewards[3][:2, 0], [2 / np.std(D), 3 / np.std(D)], rtol=1e-6)
    train(script, **flags, norm_reward=False)
    assert rewards[4].tolist() == [[1, 1], [2, 2], [3, 3]]
    # Clipped: γ = 0, a reward of ±1 once in 200 steps, so that the std is 0.07.
    for reward in (1.0, -1.0):
        flags = scripted(script, [reward] + [0.0] * 199, num_steps=200, total_timesteps=1)
        train(script, **flags, gamma=0.0)
        assert rewards[-1][0].tolist() == [10 * reward] * 2


def test_eq_19_the_learning_rate_falls_linearly_to_0(script, train):
    flags = scripted(script, [1] * 99, num_steps=10, total_timesteps=80, learning_rate=4e-3)
    rates = train(script, **flags)["charts/learning_rate"]
    assert [step for step, _ in rates] == [20, 40, 60, 80]
    close([rate for _, rate in rates], [4e-3, 3e-3, 2e-3, 1e-3], rtol=1e-5)
    assert checkpoint(script)["optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-3)
    rates = train(script, **flags, anneal_lr=False)["charts/learning_rate"]
    close([rate for _, rate in rates], 4e-3, rtol=1e-5)


# Sampling, the networks, the units of actions


def test_eq_20_samples_follow_the_policy(script):
    agent, _ = make_agent(script, **{"log_std_init": -0.7} if "cont" in script.__name__ else {})
    agent.actor[-1] = torch.nn.Linear(64, 4 if script.__name__ == "ppo" else 1)
    agent.actor[-1].bias.data = torch.linspace(0.5, -1.5, agent.actor[-1].out_features)
    obs = torch.zeros(100_000, agent.actor[0].in_features)
    actions = agent.sample(obs)
    if script.__name__ == "ppo":
        frequencies = actions.bincount() / len(obs)
        close(frequencies, agent.policy(obs[0]).exp().detach(), atol=0.005)
    else:
        normal = NormalDist(agent.policy(obs[0])[0].item(), math.exp(-0.7))
        for q in (0.05, 0.3, 0.5, 0.8, 0.99):
            close(np.quantile(actions, q), normal.inv_cdf(q), atol=0.02)


def test_initial_weights_are_orthogonal_with_their_gains(script):
    agent, _ = make_agent(script)
    for net, last_gain in ((agent.actor, 0.01), (agent.critic, 1.0)):
        layers = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
        for layer, gain in zip(layers, (2**0.5, 2**0.5, last_gain), strict=True):
            close(torch.linalg.svdvals(layer.weight.detach()), gain, rtol=1e-4)
            assert not layer.bias.any()


def test_the_initial_log_std_may_be_an_integer(ppo_continuous):
    agent, _ = make_agent(ppo_continuous, log_std_init=-1)
    assert agent.log_std.tolist() == [-1.0]


def test_observations_may_have_any_leading_shape(script):
    agent, _ = make_agent(script)
    for shape in ((), (5,), (1, 5), (3, 1)):
        obs = torch.randn(*shape, agent.actor[0].in_features)
        policy, actions = agent.policy(obs), agent.sample(obs)
        assert agent.value(obs).shape == shape and agent(obs).shape == actions.shape
        assert script.log_prob(policy, actions).shape == script.entropy(policy).shape == shape


def test_actor_and_critic_share_no_parameter(script):
    agent, _ = make_agent(script)
    agent.value(torch.randn(5, agent.actor[0].in_features)).sum().backward()
    assert all(x.grad is None for x in agent.actor.parameters())
    assert all(x.grad is not None for x in agent.critic.parameters())


def test_actions_are_scaled_to_the_bounds_and_clipped(ppo_continuous):
    """Where a bound is missing they are not scaled. Actions may be matrices."""

    def to_env(low, high, actions):
        box = gym.spaces.Box(np.array(low), np.array(high), dtype=np.float64)
        obs = gym.spaces.Box(-1, 1, (3,))
        envs = SimpleNamespace(single_observation_space=obs, single_action_space=box)
        agent = ppo_continuous.Agent(envs, ppo_continuous.Args())
        assert agent.sample(torch.zeros(5, 3)).shape == (5, box.low.size)
        return agent.to_env(tensor(actions)).tolist()

    inf = np.inf
    low, high = [[-1000.0, -inf], [5.0, -inf]], [[3000.0, inf], [inf, -5.0]]
    actions = [[0.0, 0.0, 0.5, 0.5], [-0.5, -20.0, 7.0, -9.0], [7.0, 1e9, 6.0, -6.0]]
    expected = [[1000, 0, 5, -5], [0, -20, 7, -9], [3000, 1e9, 6, -6]]
    assert np.reshape(to_env(low, high, actions), (3, 4)).tolist() == expected
    low, high = [[0.0, 0.0], [0.0, -2.0]], [[2.0, 4.0], [6.0, 0.0]]
    assert to_env(low, high, [[0.0, 0.5, -0.5, -0.5]]) == [[[1.0, 3.0], [1.5, -1.5]]]


def test_calling_the_agent_gives_the_greedy_action_of_the_environment(script):
    agent, _ = make_agent(script)
    with torch.no_grad():
        agent.actor[-1].weight[:] = 0
        for bias in (0.25, -0.25, 5.0):
            agent.actor[-1].bias[-1] = bias  # Pendulum's torque lies in [-2, 2]
            expected = bias > 0 if script.__name__ == "ppo" else [min(2 * bias, 2.0)]
            assert agent(torch.randn(4, agent.actor[0].in_features)).tolist() == [expected] * 4
    assert not agent(torch.zeros(agent.actor[0].in_features)).requires_grad  # so .numpy() works
