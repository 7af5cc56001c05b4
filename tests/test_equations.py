"""Every equation of the README against another road to its answer: plain Python, NumPy in float64,
finite differences, quadrature. Numbers in names are the equations'."""

import itertools
import math
from statistics import NormalDist

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import load

EPSILON = 0.2


def tensor(x):
    return torch.tensor(x, dtype=torch.float64)


# Two policies of one state for each script, as (θ -> policy, all actions with weights): E over the
# actions of a Categorical is a sum, of a Normal a sum over a fine grid.


def softmax_policy(theta):
    return theta.view(1, 3)


def normal_policy(theta):
    return theta[:1], theta[1:2]


def policy_and_actions(script):
    if script.__name__ == "ppo":
        return softmax_policy, torch.arange(3).view(3, 1), torch.ones(3, dtype=torch.float64)
    grid = torch.linspace(-12, 12, 24001, dtype=torch.float64)
    return normal_policy, grid.view(-1, 1), torch.full_like(grid, grid[1] - grid[0])


THETA, THETA_OLD = tensor([0.3, -0.2, 0.5]), tensor([0.1, 0.1, 0.2])


def log_prob(script, theta, actions):
    policy, _, _ = policy_and_actions(script)
    p = policy(theta)
    p = p.expand(len(actions), 1, 3) if script.__name__ == "ppo" else p
    return script.log_prob_and_entropy(p, actions)[0]


def expectation(script, theta, f):
    """E_{a ~ π_θ} f(a), by summation."""
    _, actions, weights = policy_and_actions(script)
    return (log_prob(script, theta, actions).exp() * weights * f(actions)).sum()


def some_advantage(actions):
    return (1.5 * actions.double().squeeze(-1)).sin() + 0.4


def test_2_policy_gradient_is_the_gradient_of_the_objective(script):
    theta = THETA.clone().requires_grad_()
    weight = log_prob(script, THETA, policy_and_actions(script)[1]).exp()
    score = log_prob(script, theta, policy_and_actions(script)[1])
    _, actions, weights = policy_and_actions(script)
    (score_gradient,) = torch.autograd.grad(
        (weight * weights * score * some_advantage(actions)).sum(), theta
    )
    for i, h in itertools.product(range(3), [1e-5]):
        step = torch.zeros(3, dtype=torch.float64)
        step[i] = h
        up, down = (expectation(script, THETA + s, some_advantage) for s in (step, -step))
        assert score_gradient[i] == pytest.approx((up - down).item() / (2 * h), abs=1e-7)


def test_2_a_baseline_leaves_the_expected_gradient_as_it_is(script):
    _, actions, weights = policy_and_actions(script)
    gradients = []
    for baseline in (0.0, 17.0):
        theta = THETA.clone().requires_grad_()
        old = log_prob(script, THETA, actions).exp()
        score = log_prob(script, theta, actions)
        objective = (old * weights * score * (some_advantage(actions) - baseline)).sum()
        gradients.append(torch.autograd.grad(objective, theta)[0])
    assert torch.allclose(gradients[0], gradients[1], atol=1e-9)
    assert gradients[0].abs().max() > 0.01


def test_2_the_ratio_moves_an_expectation_from_the_old_policy_to_the_new(script):
    def weighted(actions):
        ratio = (log_prob(script, THETA, actions) - log_prob(script, THETA_OLD, actions)).exp()
        return ratio * some_advantage(actions)

    new = expectation(script, THETA, some_advantage)
    assert expectation(script, THETA_OLD, weighted).item() == pytest.approx(new.item(), abs=1e-9)
    one = expectation(script, THETA_OLD, lambda a: weighted(a) / some_advantage(a))
    assert one.item() == pytest.approx(1, abs=1e-9)  # E_old[r] = 1


def test_2_single_state_two_actions_has_return_theta(ppo):
    """Rewards 1 and 0, π(a_1) = θ: J(θ) = θ."""
    for theta in (0.1, 0.5, 0.9):
        logits = tensor([[[math.log(theta), math.log(1 - theta)]]] * 2)
        log_pi, _ = ppo.log_prob_and_entropy(logits, torch.tensor([[0], [1]]))
        assert (log_pi.exp() * tensor([1.0, 0.0])).sum().item() == pytest.approx(theta)


def test_2_two_states_put_the_gradient_on_the_second_decision(ppo):
    """The second action alone decides the reward: E[∂/∂θ_1] = 0, E[∂/∂θ_2] = θ_2 (1 − θ_2)."""
    theta = tensor([0.4, -0.3]).requires_grad_()
    total = 0.0
    for a1, a2 in itertools.product((0, 1), repeat=2):
        logits = torch.stack([theta, torch.zeros(2, dtype=torch.float64)], -1).unsqueeze(1)
        log_pi, _ = ppo.log_prob_and_entropy(logits, torch.tensor([[1 - a1], [1 - a2]]))
        total = total + log_pi.sum().exp().detach() * log_pi.sum() * float(a2)
    gradient = torch.autograd.grad(total, theta)[0]
    p = 1 / (1 + math.exp(0.3))
    assert gradient[0].item() == pytest.approx(0, abs=1e-12)
    assert gradient[1].item() == pytest.approx(p * (1 - p))


# (1), (3) to (6), (16): advantages


def random_rollout(seed, T=40, N=5):
    """Rewards, values and ends with the reset steps that NEXT_STEP autoreset puts between them."""
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(T, N)), rng.normal(size=(T + 1, N))
    terminated, truncated = np.zeros((2, T, N), dtype=bool)
    for t, n in itertools.product(range(T), range(N)):
        if t == 0 or not (terminated | truncated)[t - 1, n]:  # a reset step does not end
            terminated[t, n], truncated[t, n] = rng.random() < 0.15, rng.random() < 0.15
    valid = np.ones((T, N), dtype=bool)
    valid[1:] = ~(terminated | truncated)[:-1]
    rewards[~valid] = 1e3  # whatever stands there must not matter
    return rewards, values, terminated, terminated | truncated, valid


@pytest.mark.parametrize("seed", range(5))
def test_4_5_gae_is_the_forward_double_sum(script, seed):
    """Â_t = Σ_l (γλ)^l δ_{t+l} up to the episode's end or the rollout's, term by term."""
    rewards, values, terminated, dones, valid = random_rollout(seed)
    advantages = script.gae(rewards, values, terminated, dones, 0.97, 0.9)
    T, N = rewards.shape
    for t, n in itertools.product(range(T), range(N)):
        if not valid[t, n]:
            continue
        expected, weight = 0.0, 1.0
        for k in range(t, T):
            next_value = 0.0 if terminated[k, n] else values[k + 1, n]
            expected += weight * (rewards[k, n] + 0.97 * next_value - values[k, n])
            if dones[k, n]:
                break
            weight *= 0.97 * 0.9
        assert advantages[t, n] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_1_6_lambda_one_gives_the_bootstrapped_return(script, seed):
    """G_t = r_t + γ G_{t+1}, which starts from V where the rollout or a truncation cuts it."""
    rewards, values, terminated, dones, valid = random_rollout(seed)
    returns = script.gae(rewards, values, terminated, dones, 0.97, 1.0) + values[:-1]
    T, N = rewards.shape
    for n in range(N):
        G = values[T, n]
        for t in reversed(range(T)):
            if dones[t, n]:
                G = 0.0 if terminated[t, n] else values[t + 1, n]
            G = rewards[t, n] + 0.97 * G
            if valid[t, n]:
                assert returns[t, n] == pytest.approx(G, abs=1e-9)


def test_3_exact_values_give_the_exact_advantage(script):
    """λ = 0 and the true V: E[Â(s, a)] = Q(s, a) − V(s); a two-state chain by hand, γ = 0.5."""
    # s0: action 0 ends with 1, action 1 goes to s1, which ends with 3. π is uniform.
    v1, q0, q1 = 3.0, 1.0, 0.5 * 3.0
    v0 = (q0 + q1) / 2
    rewards = np.array([[1.0, 0.0], [0.0, 3.0]])  # column: action 0, action 1
    values = np.array([[v0, v0], [9.0, v1], [9.0, 9.0]])
    ends = np.array([[True, False], [False, True]])
    advantages = script.gae(rewards, values, ends, ends, 0.5, 0.0)
    assert advantages[0] == pytest.approx([q0 - v0, q1 - v0])
    assert advantages[1, 1] == pytest.approx(0.0)


def test_4_truncation_bootstraps_and_termination_does_not(script):
    rewards, values = np.ones((1, 2)), np.array([[0.0, 0.0], [10.0, 10.0]])
    terminated, dones = np.array([[True, False]]), np.array([[True, True]])
    assert script.gae(rewards, values, terminated, dones, 0.9, 0.95).tolist() == [[1.0, 10.0]]


# (7) to (15): the update


def test_7_advantages_have_mean_0_and_sample_std_1(script):
    x = np.random.default_rng(0).normal(3, 5, size=7)
    expected = (x - x.mean()) / (x.std(ddof=1) + 1e-8)
    assert script.normalize_advantages(tensor(x)).numpy() == pytest.approx(expected)
    assert script.normalize_advantages(torch.full((4,), 2.5)).tolist() == [0, 0, 0, 0]


# ε = 0.2; ratio, advantage, L^CLIP, whether the gradient is zero (None: at a boundary)
CLIP_TABLE = [
    (0.5, 1, 0.5, False),
    (0.8, 1, 0.8, False),
    (1.0, 1, 1.0, False),
    (1.1, 1, 1.1, False),
    (1.2, 1, 1.2, None),
    (1.3, 1, 1.2, True),
    (1.5, 1, 1.2, True),
    (2.0, 1, 1.2, True),
    (0.5, -1, -0.8, True),
    (0.7, -1, -0.8, True),
    (0.8, -1, -0.8, None),
    (1.0, -1, -1.0, False),
    (1.2, -1, -1.2, False),
    (1.5, -1, -1.5, False),
    (2.0, -1, -2.0, False),
    *((r, 0, 0.0, True) for r in (0.5, 0.8, 1.0, 1.2, 2.0)),
]


@pytest.mark.parametrize("r, advantage, objective, flat", CLIP_TABLE)
def test_9_clipped_surrogate_table(script, r, advantage, objective, flat):
    ratio = tensor([r]).requires_grad_()
    value = script.clipped_surrogate(ratio, tensor([float(advantage)]), EPSILON)
    assert value.item() == pytest.approx(objective)
    if flat is not None:
        assert torch.autograd.grad(value, ratio)[0].item() == (0.0 if flat else advantage)


def test_9_is_a_mean_over_the_minibatch(script):
    ratios, advantages = tensor([0.5, 1.5, 1.0]), tensor([1.0, 1.0, -2.0])
    expected = (0.5 + 1.2 - 2.0) / 3
    assert script.clipped_surrogate(ratios, advantages, 0.2).item() == pytest.approx(expected)


def test_9_three_action_softmax(ppo):
    """Logits 0, Â = (1, 0, −1): the target ∝ exp(Â), and where the objective stops rewarding."""
    advantages = tensor([1.0, 0.0, -1.0])
    target = advantages.softmax(-1)
    assert target.tolist() == pytest.approx([0.665, 0.245, 0.090], abs=5e-4)
    assert (3 * target).tolist() == pytest.approx([1.996, 0.734, 0.270], abs=5e-4)
    for action, stops_at in ((0, 0.400), (2, 0.267)):
        for p, flat in ((stops_at - 0.002, action == 2), (stops_at + 0.002, action == 0)):
            ratio = tensor([3 * p]).requires_grad_()
            value = ppo.clipped_surrogate(ratio, advantages[action : action + 1], EPSILON)
            assert (torch.autograd.grad(value, ratio)[0].item() == 0) == flat


@pytest.mark.parametrize("epsilon", [0.05, 0.2, 1.0])
def test_9_at_theta_old_the_surrogate_has_the_policy_gradient(script, epsilon):
    """∇L^CLIP = ∇E[log π_θ Â] at θ = θ_old, for any ε > 0."""
    _, actions, _ = policy_and_actions(script)
    actions = actions[:: max(len(actions) // 7, 1)]
    advantages = some_advantage(actions)
    theta = THETA.clone().requires_grad_()
    new = log_prob(script, theta, actions)
    surrogate = script.clipped_surrogate((new - new.detach()).exp(), advantages, epsilon)
    (gradient,) = torch.autograd.grad(surrogate, theta, retain_graph=True)
    (expected,) = torch.autograd.grad((new * advantages).mean(), theta)
    assert torch.allclose(gradient, expected, atol=1e-12)
    assert expected.abs().max() > 1e-3


def test_9_with_epsilon_0_good_directions_have_no_gradient(script):
    ratio = tensor([1.1, 0.9]).requires_grad_()
    value = script.clipped_surrogate(ratio, tensor([1.0, -1.0]), 0.0)
    assert torch.autograd.grad(value, ratio)[0].tolist() == [0.0, 0.0]


def climb(ppo, theta, epsilon, gradient_steps=200, rate=0.05):
    """One update of the single state with two actions of rewards 1 and 0, in expectation: ascend
    Σ_a π_old(a) min(r Â, clip(r) Â) over the logit of θ, Â = (1 − θ_old, −θ_old)."""
    old = tensor([theta, 1 - theta])
    advantages, logit = tensor([1 - theta, -theta]), tensor(math.log(theta / (1 - theta)))
    for _ in range(gradient_steps):
        logit.requires_grad_()
        new = torch.stack([logit.sigmoid(), (-logit).sigmoid()])
        parts = [
            old[i] * ppo.clipped_surrogate((new / old)[i : i + 1], advantages[i : i + 1], epsilon)
            for i in range(2)
        ]
        (gradient,) = torch.autograd.grad(sum(parts), logit)
        logit = (logit + rate * gradient.sign() * (gradient != 0)).detach()
    return logit.sigmoid().item()


def test_9_theta_climbs_to_1_in_steps_that_the_clip_bounds(ppo):
    """An update stops where both ratios have left [1 − ε, 1 + ε], neither earlier nor later."""
    theta = 0.1
    while (bound := max(theta * 1.2, theta + 0.2 * (1 - theta))) < 1:
        theta = climb(ppo, theta, 0.2)
        assert bound <= theta < bound + 0.05 * 0.25
    assert theta > 0.8 and climb(ppo, theta, 0.2) > 0.999  # no bound is left below 1


def test_10_value_loss_against_plain_python(script):
    rng = np.random.default_rng(1)
    new, old, returns = rng.normal(size=(3, 50))
    for epsilon in (0.2, 1.0, float("inf")):
        expected = 0.0
        for v, v_old, g in zip(new, old, returns, strict=True):
            clipped = v_old + min(max(v - v_old, -epsilon), epsilon)
            expected += 0.5 * max((v - g) ** 2, (clipped - g) ** 2) / 50
        loss = script.clipped_value_loss(tensor(new), tensor(old), tensor(returns), epsilon)
        assert loss.item() == pytest.approx(expected)


def test_10_value_loss_is_flat_where_the_value_has_overshot(script):
    """V_old = 0: past ε towards the target there is nothing to gain, away from it everything."""
    for v, flat in ((0.1, False), (0.3, True), (-0.3, False)):
        new = tensor([v]).requires_grad_()
        loss = script.clipped_value_loss(new, tensor([0.0]), tensor([1.0]), 0.2)
        assert (torch.autograd.grad(loss, new)[0].item() == 0) == flat


def test_11_20_categorical_heads_against_enumeration(ppo):
    """Two heads of 2 and 3 choices, the shorter one padded by a mask as Agent does it."""
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(2, 3))
    logits[0, 2] = -1e8

    def probs(row):
        weights = [math.exp(x) if x > -1e7 else 0.0 for x in row]
        return [w / sum(weights) for w in weights]

    p0, p1 = probs(logits[0]), probs(logits[1])
    entropy = 0.0
    for a0, a1 in itertools.product(range(2), range(3)):
        log_pi, h = ppo.log_prob_and_entropy(tensor(logits)[None], torch.tensor([[a0, a1]]))
        assert log_pi.item() == pytest.approx(math.log(p0[a0] * p1[a1]))
        entropy -= p0[a0] * p1[a1] * math.log(p0[a0] * p1[a1])
    assert h.item() == pytest.approx(entropy)


def test_11_20_normal_against_the_density(ppo_continuous):
    mean, log_std = [0.5, -1.0], [0.2, -0.7]
    normals = [NormalDist(m, math.exp(s)) for m, s in zip(mean, log_std, strict=True)]
    for action in ([0.0, 0.0], [3.0, -1.5]):
        policy = tensor([mean]), tensor([log_std])
        log_pi, entropy = ppo_continuous.log_prob_and_entropy(policy, tensor([action]))
        density = math.prod(n.pdf(a) for n, a in zip(normals, action, strict=True))
        assert log_pi.item() == pytest.approx(math.log(density))
    grid = np.linspace(-12, 12, 100001)
    expected = 0.0
    for n in normals:
        p = np.array([n.pdf(x) for x in grid[::10]])
        expected -= (p * np.log(p + 1e-300)).sum() * (grid[10] - grid[0])
    assert entropy.item() == pytest.approx(expected, rel=1e-6)


def test_11_entropy_is_of_each_state(ppo, ppo_continuous):
    logits = tensor([[[0.0, 0.0]], [[50.0, -50.0]]])
    _, entropy = ppo.log_prob_and_entropy(logits, torch.zeros(2, 1, dtype=torch.int64))
    assert entropy.tolist() == pytest.approx([math.log(2), 0.0])
    log_std = tensor([[0.0, 0.0], [1.0, 2.0]])
    _, entropy = ppo_continuous.log_prob_and_entropy((0 * log_std, log_std), 0 * log_std)
    assert entropy.tolist() == pytest.approx([math.log(2 * math.pi * math.e) + x for x in (0, 3)])


def test_20_samples_follow_the_policy(script, monkeypatch):
    torch.manual_seed(0)
    n = 200_000
    agent, _ = make_agent(script, ENV[script.__name__])
    if script.__name__ == "ppo":
        logits = tensor([[0.0, 1.0, -1.0], [2.0, 0.0, -1e8]])
        monkeypatch.setattr(agent, "policy", lambda obs: logits.expand(len(obs), 2, 3))
        actions = agent.act(torch.zeros(n, 4))
        for head in range(2):
            frequencies = actions[:, head].bincount(minlength=3) / n
            expected = logits[head].softmax(-1)
            assert frequencies.tolist() == pytest.approx(expected.tolist(), abs=0.005)
        assert agent.act(torch.zeros(1, 4), greedy=True).tolist() == [[1, 0]]
    else:
        mean, log_std = tensor([0.5, -1.0]), tensor([0.2, -0.7])
        monkeypatch.setattr(
            agent, "policy", lambda obs: (mean.expand(len(obs), 2), log_std.expand(len(obs), 2))
        )
        actions = agent.act(torch.zeros(n, 3))
        assert actions.mean(0).tolist() == pytest.approx(mean.tolist(), abs=0.02)
        assert actions.std(0).tolist() == pytest.approx(log_std.exp().tolist(), abs=0.02)
        assert agent.act(torch.zeros(1, 3), greedy=True).tolist() == [mean.tolist()]


def test_14_15_kl_and_clip_fraction_against_plain_python(script):
    ratios = [0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 2.0]
    kl, clipfrac = (
        script.approx_kl(tensor(ratios)),
        script.clip_fraction(tensor(ratios), EPSILON),
    )
    assert kl.item() == pytest.approx(sum(r - 1 - math.log(r) for r in ratios) / 7)
    assert clipfrac.item() == pytest.approx(4 / 7)


def test_14_kl_is_never_negative(script):
    torch.manual_seed(0)
    for scale in (1e-6, 1e-4, 1e-2, 1.0):
        ratio = (scale * torch.randn(1000)).exp()
        assert script.approx_kl(ratio) >= 0


def test_15_explained_variance(script):
    returns = tensor([1.0, 2.0, 3.0, 6.0])
    assert script.explained_variance(returns, returns).item() == 1
    assert script.explained_variance(torch.full((4,), 3.0), returns).item() == pytest.approx(0)
    values = np.array([0.0, 2.0, 5.0, 4.0])
    expected = 1 - np.var(returns.numpy() - values) / np.var(returns.numpy())
    assert script.explained_variance(tensor(values), returns).item() == pytest.approx(expected)


# (17), (18): normalisation


@pytest.mark.parametrize("offset, scale", [(0, 1), (1e6, 1), (-3e6, 1e6)])
def test_17_moments_are_numpys(script, offset, scale):
    """Batches of any size, empty ones too, with every observation in float64."""
    rng = np.random.default_rng(3)
    x = offset + scale * rng.normal(size=(300, 4))
    moments, start = torch.zeros(3, 4, dtype=torch.float64), 0
    for n in itertools.cycle([1, 8, 0, 3]):
        new = x[start : start + n]
        rows = np.concatenate([new, np.full((2, 4), 7.0)])
        script.update_moments(moments, rows, np.arange(len(rows)) < len(new))
        start += n
        if start >= len(x):
            break
    count, mean, m2 = moments.numpy()
    assert count.tolist() == [300] * 4
    assert mean == pytest.approx(x.mean(0))
    assert m2 / count == pytest.approx(x.var(0), rel=1e-6)


def make_agent(script, env_id, num_envs=3, **flags):
    args = script.Args(env_id=env_id, **flags)
    envs = script.make_envs(args, num_envs)
    return script.Agent(envs, args), envs


ENV = {"ppo": "CartPole-v1", "ppo_continuous": "Pendulum-v1"}


def test_17_observations_count_once_and_only_where_asked(script):
    agent, envs = make_agent(script, ENV[script.__name__])
    rng = np.random.default_rng(4)
    D = envs.single_observation_space.shape[0]
    counted = []
    for _ in range(20):
        obs, valid = 5 + 3 * rng.normal(size=(3, D)), rng.random(3) < 0.7
        valid[0] = True
        counted.extend(obs[valid])
        normalised = agent.normalize_obs(obs, count=valid)
        mean, var = np.mean(counted, 0), np.var(counted, 0)
        expected = np.clip((obs - mean) / np.sqrt(var + 1e-8), -10, 10)
        assert normalised.numpy() == pytest.approx(expected, rel=1e-4, abs=1e-4)
    before = agent.obs_moments.clone()
    far = agent.normalize_obs(np.full((3, D), 1e9))
    assert far.tolist() == [[10.0] * D] * 3  # clipped
    assert torch.equal(agent.obs_moments, before)  # not counted


def test_17_18_can_be_switched_off(script):
    agent, envs = make_agent(script, ENV[script.__name__], norm_obs=False, norm_reward=False)
    obs = np.full((3, envs.single_observation_space.shape[0]), 123.0)
    assert agent.normalize_obs(obs, count=np.ones(3, bool)).tolist() == obs.tolist()
    rewards = np.full((2, 3), 99.0)
    assert agent.scale_rewards(rewards, rewards.ravel()).tolist() == rewards.tolist()


def test_18_discounted_sums_against_plain_python(script):
    rng = np.random.default_rng(5)
    rewards, _, _, dones, valid = random_rollout(6)
    start = rng.normal(size=rewards.shape[1])
    sums = script.running_sum(rewards, valid, start, 0.9)
    for n in range(rewards.shape[1]):
        running = start[n]
        for t in range(len(rewards)):
            running = 0.9 * running + rewards[t, n] if valid[t, n] else 0.0
            assert sums[t, n] == pytest.approx(running)


def test_18_rewards_are_divided_by_the_deviation_of_the_discounted_return(script):
    agent, _ = make_agent(script, ENV[script.__name__])
    rng = np.random.default_rng(7)
    seen = []
    for _ in range(3):
        rewards, discounted = 50 * rng.normal(size=(4, 3)), 100 + 20 * rng.normal(size=(4, 3))
        valid = rng.random((4, 3)) < 0.7
        seen.extend(discounted[valid])
        scaled = agent.scale_rewards(rewards, discounted[valid])
        expected = np.clip(rewards / np.sqrt(np.var(seen) + 1e-8), -10, 10)
        assert scaled == pytest.approx(expected, rel=1e-5)
    assert agent.scale_rewards(np.full((1, 3), 1e9), np.zeros(0)).tolist() == [[10.0] * 3]


# The networks and the action spaces


def test_initialisation_is_orthogonal_with_the_right_gains(script):
    agent, _ = make_agent(script, ENV[script.__name__])
    for net, last_gain in ((agent.actor, 0.01), (agent.critic, 1.0)):
        layers = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
        assert [layer.out_features for layer in layers[:2]] == [64, 64]
        for layer, gain in zip(layers, (2**0.5, 2**0.5, last_gain), strict=True):
            singular = torch.linalg.svdvals(layer.weight)
            assert torch.allclose(singular, torch.full_like(singular, gain), rtol=1e-4)
            assert not layer.bias.any()


def test_policy_and_value_take_any_leading_shape(script):
    agent, envs = make_agent(script, ENV[script.__name__])
    for shape in ((), (5,), (3, 5)):
        obs = torch.randn(*shape, *envs.single_observation_space.shape)
        policy, actions = agent.policy(obs), agent.act(obs).clone()
        log_pi, entropy = script.log_prob_and_entropy(policy, actions)
        assert agent.value(obs).shape == log_pi.shape == entropy.shape == shape


def test_actor_and_critic_share_no_parameter(script):
    agent, _ = make_agent(script, ENV[script.__name__])
    agent.value(torch.randn(5, agent.actor[0].in_features)).sum().backward()
    assert all(p.grad is None for p in agent.actor.parameters())
    assert all(p.grad is not None for p in agent.critic.parameters())


def test_discrete_actions_start_where_the_space_starts(ppo):
    envs = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
    envs.single_action_space = gym.spaces.Discrete(3, start=-4)
    agent = ppo.Agent(envs, ppo.Args())
    assert agent.to_env(torch.tensor([[0], [2]])).tolist() == [-4, -2]
    start = [[1, 0], [3, 7]]  # transposed it would be another
    envs.single_action_space = gym.spaces.MultiDiscrete([[2, 3], [4, 5]], start=start)
    agent = ppo.Agent(envs, ppo.Args())
    actions = agent.to_env(torch.tensor([[0, 0, 0, 0], [1, 2, 3, 4]]))
    assert actions.tolist() == [[[1, 0], [3, 7]], [[2, 2], [6, 11]]]
    logits = agent.policy(torch.randn(2, 4))
    assert logits.softmax(-1)[0, 0, 2:].tolist() == [0, 0, 0]
    log_pi, entropy = ppo.log_prob_and_entropy(logits, torch.zeros(2, 4, dtype=torch.int64))
    (log_pi.sum() + entropy.sum()).backward()  # and training cannot bring them back
    missing = agent.missing.flatten()
    assert missing.tolist() == [c >= n for n in (2, 3, 4, 5) for c in range(5)]
    assert not agent.actor[-1].bias.grad[missing].any()
    assert not agent.actor[-1].weight.grad[missing].any()


def test_actions_have_the_type_of_their_space(ppo, ppo_continuous):
    envs = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync")
    envs.single_action_space = gym.spaces.MultiDiscrete([2, 3], dtype=np.uint8)
    agent = ppo.Agent(envs, ppo.Args())
    assert agent.to_env(agent.act(torch.zeros(2, 4))).dtype == np.uint8
    for dtype in (np.float32, np.float64):
        envs.single_action_space = gym.spaces.Box(-1, 1, (3,), dtype)
        agent = ppo_continuous.Agent(envs, ppo_continuous.Args())
        assert agent.to_env(agent.act(torch.zeros(2, 4))).dtype == dtype


def test_continuous_actions_map_to_finite_bounds_and_are_clipped(ppo_continuous):
    """One bound alone: [-1, 1] lies beside it, so that the first policy does not sit on it."""
    envs = gym.make_vec("Pendulum-v1", num_envs=2, vectorization_mode="sync")
    low, high = [-1000.0, -np.inf, 5.0, -np.inf], [3000.0, np.inf, np.inf, 5.0]
    envs.single_action_space = gym.spaces.Box(np.array(low), np.array(high), dtype=np.float64)
    agent = ppo_continuous.Agent(envs, ppo_continuous.Args())
    actions = agent.to_env(torch.tensor([[0.0, 0.0, 0.5, 0.5], [-0.5, -20.0, -7.0, 9.0]]))
    assert actions.tolist() == [[1000.0, 0.0, 6.5, 4.5], [0.0, -20.0, 5.0, 5.0]]
    assert agent.to_env(torch.tensor([[7.0, 1e9, 0.0, 0.0]]))[0, :2].tolist() == [3000.0, 1e9]


def test_both_scripts_hold_the_same_code():
    """What does not depend on the action type is the same text, line by line."""
    import inspect

    one, other = load("ppo"), load("ppo_continuous")
    differing = {"Args", "make_envs", "Agent", "log_prob_and_entropy", "ppo_loss"}
    names = [
        name
        for name, x in vars(one).items()
        if getattr(x, "__module__", None) == "ppo" and name not in differing
    ]
    assert len(names) > 25
    for name in names:
        assert inspect.getsource(getattr(one, name)) == inspect.getsource(getattr(other, name))
    for name in ("normalize_obs", "scale_rewards", "value"):
        sources = [inspect.getsource(getattr(x.Agent, name)) for x in (one, other)]
        assert sources[0] == sources[1], name
