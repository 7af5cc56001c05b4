"""Mistakes that people make in PPO, worst first, each with the test that notices it. The test passes
on the scripts as they are; with the mistake made in a copy it must fail by an assertion. One in four
is tried always, the others with --slow. To try one of them:

    pytest tests/test_mutations.py --slow -k truncation
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@dataclass
class Mutation:
    title: str
    old: str  # stands in the script once
    new: str
    test: str  # selects the test that fails, as pytest -k does
    script: str = "ppo"


MUTATIONS = [
    Mutation(
        "Truncation is treated as termination",
        "gamma * values[t + 1] * ~terminated[t]",
        "gamma * values[t + 1] * ~dones[t]",
        "eq_4_truncation",
    ),
    Mutation(
        "Bootstraps through termination",
        "values[t + 1] * ~terminated[t]",
        "values[t + 1]",
        "eq_4_truncation",
    ),
    Mutation(
        "GAE runs across the end of an episode",
        "gae_lambda * ~dones[t] * advantage",
        "gae_lambda * advantage",
        "eq_4_eq_5_gae",
    ),
    Mutation(
        "Reset steps are trained on", "valid[t] = next_valid", "valid[t] = True", "eq_16_steps"
    ),
    Mutation(
        "Reset steps of the previous rollout are forgotten",
        "                valid[t] = next_valid",
        "                valid[t] = next_valid if t else True",
        "main_is_replayed",
    ),
    Mutation(
        "The value of the wrong step is bootstrapped",
        "gamma * values[t + 1]",
        "gamma * values[t]",
        "eq_3_exact",
    ),
    Mutation(
        "GAE goes forward in time",
        "in reversed(range(len(rewards)))",
        "in range(len(rewards))",
        "eq_4_eq_5_gae",
    ),
    Mutation(
        "The critic learns the advantages",
        "returns = advantages + values[:-1]",
        "returns = advantages",
        "main_is_replayed",
    ),
    Mutation(
        "Old log-probabilities are taken under the new policy",
        "log_prob(policy, actions) - logprobs",
        "log_prob(policy, actions) - log_prob(policy, actions).detach()",
        "eq_8_the_ratio_is_1",
    ),
    Mutation(
        "The log-ratio is taken for the ratio",
        "ratio = logratio.exp()",
        "ratio = 1 + logratio",
        "eq_9_three_action",
    ),
    Mutation(
        "The policy loss has the wrong sign",
        "policy_loss = -torch.min(",
        "policy_loss = torch.min(",
        "eq_9_tables",
    ),
    Mutation(
        "The ratio is clipped from above only",
        "ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)",
        "ratio.clamp(max=1 + args.clip_coef)",
        "eq_9_tables",
    ),
    Mutation(
        "The ratio is not clipped",
        "clipped_ratio = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)",
        "clipped_ratio = ratio",
        "eq_9_tables",
    ),
    Mutation(
        "Advantages are divided by their variance",
        "(advantages.std() + 1e-8)",
        "(advantages.var() + 1e-8)",
        "eq_7",
    ),
    Mutation(
        "Advantages are not centered", "(advantages - advantages.mean()) /", "advantages /", "eq_7"
    ),
    Mutation(
        "The clipped value loss takes the minimum",
        "torch.max(squared_error,",
        "torch.min(squared_error,",
        "eq_10_value_loss_against",
    ),
    Mutation(
        "The value is clipped around its target",
        "values + (new_values - values).clamp",
        "returns + (new_values - returns).clamp",
        "eq_10_value_loss_against",
    ),
    Mutation(
        "The clipped value loss is always used",
        "squared_error = torch.max(squared_error, (clipped_values - returns) ** 2)",
        "squared_error = (clipped_values - returns) ** 2",
        "eq_10_value_loss_against",
    ),
    Mutation(
        "The entropy is minimized",
        "- args.ent_coef * mean_entropy",
        "+ args.ent_coef * mean_entropy",
        "eq_12",
    ),
    Mutation(
        "The weight of the value loss is ignored",
        "args.vf_coef * value_loss",
        "value_loss",
        "eq_12",
    ),
    Mutation(
        "The entropy has the wrong sign",
        "return -(log_pi.exp() * log_pi)",
        "return (log_pi.exp() * log_pi)",
        "eq_11_eq_20_categorical",
    ),
    Mutation(
        "The value keeps an axis and broadcasts",
        "self.critic(self.normalize(obs)).squeeze(-1)",
        "self.critic(self.normalize(obs))",
        "any_leading_shape",
    ),
    Mutation(
        "The noise of the sample has the wrong sign",
        "(log_pi - torch.empty_like(log_pi)",
        "(log_pi + torch.empty_like(log_pi)",
        "eq_20_samples",
    ),
    Mutation(
        "The last layer of the policy is large",
        "layer_init(nn.Linear(64, A), std=0.01)",
        "layer_init(nn.Linear(64, A))",
        "initial_weights",
    ),
    Mutation(
        "Gradients are not set to zero",
        "optimizer.zero_grad()",
        "optimizer.step",
        "main_is_replayed",
    ),
    Mutation(
        "The gradient is not clipped",
        "agent.parameters(), args.max_grad_norm,",
        "agent.parameters(), 1e9,",
        "eq_13",
    ),
    Mutation(
        "Samples are drawn with replacement",
        "torch.randperm(B, device=device).tensor_split",
        "torch.randint(B, (B,), device=device).tensor_split",
        "main_is_replayed",
    ),
    Mutation(
        "Samples are not shuffled",
        "torch.randperm(B, device=device).tensor_split",
        "torch.arange(B, device=device).tensor_split",
        "main_is_replayed",
    ),
    Mutation(
        "Actions belong to the next observation",
        '"obs": obs[:-1],',
        '"obs": obs[1:],',
        "main_is_replayed",
    ),
    Mutation(
        "The learning rate grows",
        "(remaining if args.anneal_lr",
        "(1 - remaining if args.anneal_lr",
        "eq_19",
    ),
    Mutation(
        "An update with a small KL is ended",
        ".mean() > args.target_kl",
        ".mean() < args.target_kl",
        "target_kl_ends",
    ),
    Mutation(
        "The target of the KL is compared with that of all epochs",
        "logs[-args.num_minibatches :]",
        "logs",
        "target_kl_ends",
    ),
    Mutation(
        "The statistics move before the update",
        "            logs = []\n",
        '            logs = []\n            agent.obs_rms.update(batch["obs"])\n',
        "main_is_replayed",
    ),
    Mutation(
        "Reset steps enter the statistics",
        'agent.obs_rms.update(batch["obs"])',
        "agent.obs_rms.update(obs[:-1].flatten(0, 1))",
        "main_is_replayed",
    ),
    Mutation(
        "The statistics forget the rollouts before",
        "self.count = total",
        "self.count = torch.zeros_like(total) + n",
        "eq_17_moments",
    ),
    Mutation(
        "The mean of batches has no part in the variance",
        " + delta**2 * self.count * n / total",
        "",
        "eq_17_moments",
    ),
    Mutation(
        "Normalized observations are not clipped",
        ".clamp(-10, 10)  # (17)",
        "  # (17)",
        "eq_17_observations",
    ),
    Mutation(
        "The first rollout is learned from",
        "agent.obs_rms.update(obs[:-1][valid])\n                continue",
        "agent.obs_rms.update(obs[:-1][valid])",
        "eq_17_the_first",
    ),
    Mutation(
        "Rewards are divided by their own standard deviation",
        "torch.as_tensor(discounted_returns[valid], device=device)",
        "torch.as_tensor(rewards[valid], device=device)",
        "eq_18",
    ),
    Mutation(
        "The discounted return runs across episodes",
        "+ rewards[t]) * valid[t]",
        "+ rewards[t])",
        "eq_18",
    ),
    Mutation(
        "Scaled rewards are not clipped", ".clip(-10, 10)  # (18)", "  # (18)", "main_is_replayed"
    ),
    Mutation(
        "The KL is that of another estimator",
        "(logratio.expm1() - logratio).mean()",
        "(-logratio).mean()",
        "eq_14",
    ),
    Mutation(
        "The explained variance divides by the residual",
        "1 - residual_var / returns_var",
        "1 - returns_var / residual_var",
        "eq_15_explained",
    ),
    Mutation(
        "Reset steps count as steps", "global_step += B", "global_step += T * N", "eq_16_steps"
    ),
    Mutation(
        "The evaluation counts what follows the first episode",
        "returns += rewards * running",
        "returns += rewards",
        "evaluation_plays",
    ),
    Mutation(
        "The evaluation ends with the first episode",
        "if not running.any():",
        "if not running.all():",
        "evaluation_plays",
    ),
    Mutation(
        "The evaluation is not greedy",
        "return self.policy(obs).argmax(-1)",
        "return self.sample(obs)",
        "calling_the_agent",
    ),
    Mutation(
        "Resuming starts with a fresh optimizer",
        '        optimizer.load_state_dict(checkpoint["optimizer"])\n',
        "",
        "a_resumed_run",
    ),
    Mutation(
        "Resuming forgets the best return",
        'best_return = checkpoint["best_return"]',
        "best_return = -np.inf",
        "a_resumed_run or best_pt",
    ),
    Mutation(
        "Seeds 1 and 2 share environments",
        "next_obs, _ = envs.reset(seed=env_seed)",
        "next_obs, _ = envs.reset(seed=args.seed)",
        "no_two_environments",
    ),
    Mutation(
        "A resumed run repeats its episodes",
        "default_rng([args.seed, global_step])",
        "default_rng([args.seed, 0])",
        "no_two_environments",
    ),
    Mutation(
        "An interrupted run saves nothing",
        '        save("checkpoint")  # first: printing fails if stdout is a closed pipe\n',
        "",
        "a_signal_in_a_slow",
    ),
    Mutation(
        "The density of the components is averaged",
        "math.log(2 * math.pi) / 2).sum(-1)",
        "math.log(2 * math.pi) / 2).mean(-1)",
        "eq_11_eq_20_normal",
        script="ppo_continuous",
    ),
    Mutation(
        "The density lacks the standard deviation",
        "-(z**2 / 2 + log_std +",
        "-(z**2 / 2 +",
        "eq_11_eq_20_normal",
        script="ppo_continuous",
    ),
    Mutation(
        "The noise is scaled by the logarithm",
        "mean + log_std.exp() * torch.randn_like",
        "mean + log_std * torch.randn_like",
        "eq_20_samples",
        script="ppo_continuous",
    ),
    Mutation(
        "Actions are not scaled to the bounds",
        "actions = self.action_bias + self.action_scale * actions",
        "actions = actions",
        "actions_are_scaled",
        script="ppo_continuous",
    ),
    Mutation(
        "Actions may leave the bounds",
        "return actions.clamp(self.action_low, self.action_high)",
        "return actions",
        "actions_are_scaled",
        script="ppo_continuous",
    ),
    Mutation(
        "A standard deviation per state that no gradient reaches",
        "return mean, self.log_std.expand_as(mean)",
        "return mean, self.log_std.detach().expand_as(mean)",
        "main_is_replayed",
        script="ppo_continuous",
    ),
]


def run_in_forks():
    """The child process of `noticed_by`. It imports what the tests import once and forks for every
    line 'FOLDER<tab>TEST' on standard input: pytest runs the test on the scripts in FOLDER."""
    import gymnasium  # noqa: F401
    import torch.utils.tensorboard  # noqa: F401
    import tyro  # noqa: F401

    for line in sys.stdin:
        folder, test = line.rstrip("\n").split("\t")
        if os.fork() == 0:
            output = os.open(Path(folder) / "output.txt", os.O_CREAT | os.O_WRONLY)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.environ |= {"PPO_SCRIPTS": folder, "COLUMNS": "500"}
            tests = [str(ROOT / f"tests/test_{name}.py") for name in FILES]
            options = ["-q", "-x", "-n", "0", "-p", "no:cacheprovider", "-W", "ignore"]
            pytest.main([*options, *tests, "-k", f"({test}) and not slow"])
            sys.stdout.flush()
            os._exit(0)
        os.wait()
        print("done", flush=True)


FILES = ("equations", "replay", "training", "resume")


@pytest.fixture(scope="module")
def noticed_by(tmp_path_factory):
    argv = [sys.executable, __file__]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(argv, cwd=ROOT, **pipes) as process:

        def run(mutation):
            folder = tmp_path_factory.mktemp("copy")
            for name in ("ppo", "ppo_continuous"):
                text = (ROOT / f"{name}.py").read_text()
                if name == mutation.script:
                    text = text.replace(mutation.old, mutation.new)
                (folder / f"{name}.py").write_text(text)
            process.stdin.write(f"{folder}\t{mutation.test}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"
            return (folder / "output.txt").read_text()

        yield run
        process.stdin.close()


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.title)
def test_the_place_of_a_mistake_is_there_once(mutation):
    text = (ROOT / f"{mutation.script}.py").read_text()
    assert text.count(mutation.old) == 1
    compile(text.replace(mutation.old, mutation.new), mutation.title, "exec")


def rarely(i, mutation):
    slug = re.sub(r"\W+", "_", mutation.title.lower())
    return pytest.param(mutation, id=slug, marks=[pytest.mark.slow] if i % 4 else [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("mutation", map(rarely, range(len(MUTATIONS)), MUTATIONS))
def test_is_noticed(mutation, noticed_by):
    output = noticed_by(mutation)
    assert re.search(r"^FAILED .*|^E  ", output, re.MULTILINE), output[-2000:]
    assert "1 failed" in output, output[-2000:]


if __name__ == "__main__":
    run_in_forks()
