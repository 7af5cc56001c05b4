"""What each part of ppo.py contributes: LunarLander-v3 without it, or with another choice.

    python benchmarks/ablations.py [SEEDS]       two hours on two cores with ten seeds

Results are in results/runs.csv as 'ablation NAME'. What they are compared with are the runs of
lunarlander.sh, of the same seeds.
"""

import os
import subprocess
import sys

from train import HERE, code_hash

SURROGATE = "policy_loss = -torch.min(ratio * advantages, clipped_ratio * advantages).mean()"
POLICY_GRADIENT = "policy_loss = -(log_prob(policy, actions) * advantages).mean()"
RETURNS = "returns = advantages + values[:-1]"
OVER_THE_BATCH = f"""{RETURNS}
            advantages = (advantages - advantages[valid].mean()) / advantages[valid].std()"""
CRITIC = """        self.critic = nn.Sequential(
            layer_init(nn.Linear(D, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 64)),
            nn.Tanh(),
            layer_init(nn.Linear(64, 1), std=1.0),
        )
"""
SHARED = """        last = layer_init(nn.Linear(64, 1), std=1.0)
        self.critic = nn.Sequential(*self.actor[:-1], last)
"""
ONE_STEP = "--update-epochs 1 --num-minibatches 1"

# Name, flags, and for an edit either a patch or what is replaced in the script and by what
ABLATIONS = [
    ("no value clipping", "--no-clip-vloss"),
    ("no reward scaling", "--no-norm-reward"),
    ("no observation normalization", "--no-norm-obs"),
    ("no advantage normalization", "--no-norm-adv"),
    ("advantages normalized over the batch", "--no-norm-adv", RETURNS, OVER_THE_BATCH),
    ("no annealing", "--no-anneal-lr"),
    ("no gradient clipping", "--max-grad-norm 1e9"),
    ("no entropy bonus", "--ent-coef 0"),
    ("no clip", "--clip-coef 1e6 --no-clip-vloss"),
    ("K = 1", "--update-epochs 1"),
    ("K = 10", "--update-epochs 10"),
    ("λ = 0", "--gae-lambda 0"),
    ("λ = 1", "--gae-lambda 1"),
    ("initialization of PyTorch", "", "nn.init.orthogonal_(layer.weight, std)", "pass"),
    ("last layer of the actor not small", "", "std=0.01", "std=1.0"),
    ("truncation is termination", "", "~terminated[t] - values[t]", "~dones[t] - values[t]"),
    ("reset steps are samples", "", "valid[t] = ~next_done", "valid[t] = True"),
    ("tanh in the actor", "", "nn.ReLU()", "nn.Tanh()"),
    ("shared hidden layers", "", CRITIC, SHARED),
    ("wide network with LayerNorm", "", "network.patch"),
    ("KL penalty instead of the clip", "", "penalty.patch"),
    ("policy gradient", ONE_STEP, SURROGATE, POLICY_GRADIENT),
    ("REINFORCE with a baseline", f"{ONE_STEP} --gae-lambda 1", SURROGATE, POLICY_GRADIENT),
]


def write_copy(copy, edit):
    """A copy of ppo.py with the edit: (), (patch,) or (old, new)."""
    text = (HERE.parent / "ppo.py").read_text(encoding="utf-8")
    if len(edit) == 2:
        old, new = edit
        assert old in text, old
        text = text.replace(old, new)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(text, encoding="utf-8")
    if len(edit) == 1:
        subprocess.run(["patch", "-s", copy, HERE / "variants" / edit[0]], check=True)


def main():
    seeds = sys.argv[1] if len(sys.argv) > 1 else "101-110"
    code = f"edited {code_hash(HERE.parent / 'ppo.py')}"
    for i, (name, flags, *edit) in enumerate(ABLATIONS):
        copy = HERE / f"runs/scripts/ablation-{i}/ppo.py"
        write_copy(copy, edit)
        command = [sys.executable, HERE / "train.py", f"ablation {name}", seeds, code]
        command += ["--env-id", "LunarLander-v3", "--total-timesteps", 500_000]
        command += ["--eval-episodes", 100, *flags.split()]
        environment = os.environ | {"COMMAND": f"{sys.executable} {copy}"}
        subprocess.run([*map(str, command)], check=True, env=environment)


if __name__ == "__main__":
    main()
