"""What each part of the scripts contributes: training without it, or with another choice.

    python benchmarks/ablations.py LunarLander-v3 [SEEDS]    2 to 4 hours: two cores, ten seeds
    python benchmarks/ablations.py MountainCar-v0 [SEEDS]    10 minutes
    python benchmarks/ablations.py Hopper-v5 [SEEDS]         7 to 17 hours

Results are in results/runs.csv as 'ENVIRONMENT ablation NAME'. They are compared with the default
settings on the same seeds, from lunarlander.sh and defaults.sh.
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
RELU_CRITIC = ("ReLU in the critic", "", "nn.Tanh()", "nn.ReLU()")
ABLATIONS = [
    ("no clip", "--clip-coef 1e6 --no-clip-vloss"),
    ("no reward scaling", "--no-norm-reward"),
    ("no observation normalization", "--no-norm-obs"),
    ("no advantage normalization", "--no-norm-adv"),
    ("truncation is termination", "", "~terminated[t] - values[t]", "~dones[t] - values[t]"),
    ("no annealing", "--no-anneal-lr"),
    ("no value clipping", "--no-clip-vloss"),
    ("λ = 1", "--gae-lambda 1"),
    ("λ = 0", "--gae-lambda 0"),
    ("K = 1", "--update-epochs 1"),
    ("K = 10", "--update-epochs 10"),
    ("policy gradient", ONE_STEP, SURROGATE, POLICY_GRADIENT),
    ("REINFORCE with a baseline", f"{ONE_STEP} --gae-lambda 1", SURROGATE, POLICY_GRADIENT),
    ("tanh in the actor", "", "nn.ReLU()", "nn.Tanh()"),
    RELU_CRITIC,
    ("initialization of PyTorch", "", "nn.init.orthogonal_(layer.weight, std)", "pass"),
    ("last layer of the actor not small", "", "std=0.01", "std=1.0"),
    ("no gradient clipping", "--max-grad-norm 1e9"),
    ("advantages normalized over the batch", "--no-norm-adv", RETURNS, OVER_THE_BATCH),
    ("reset steps are samples", "", "valid[t] = ~next_done", "valid[t] = True"),
    ("shared hidden layers", "", CRITIC, SHARED),
]
ENVIRONMENTS = {
    "LunarLander-v3": {
        "script": "ppo.py",
        "steps": 500_000,
        "ablations": [
            *ABLATIONS,
            ("no entropy bonus", "--ent-coef 0"),
            ("wide network with LayerNorm", "", "network.patch"),
            ("KL penalty instead of the clip", "", "penalty.patch"),
        ],
    },
    "MountainCar-v0": {"script": "ppo.py", "steps": 500_000, "ablations": [RELU_CRITIC]},
    "Hopper-v5": {
        "script": "ppo_continuous.py",
        "steps": 1_000_000,
        "ablations": [
            *ABLATIONS,
            ("tanh-squashed normal distribution", "", "continuous_squashed.patch"),
            ("Beta distribution", "", "continuous_beta.patch"),
            ("σ depends on the state", "", "continuous_state_std.patch"),
        ],
    },
}


def write_copy(copy, edit):
    """A copy of the script of the same name with the edit: (), (patch,) or (old, new)."""
    text = (HERE.parent / copy.name).read_text(encoding="utf-8")
    if len(edit) == 2:
        old, new = edit
        assert old in text, old
        text = text.replace(old, new)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(text, encoding="utf-8")
    if len(edit) == 1:
        subprocess.run(["patch", "-s", copy, HERE / "variants" / edit[0]], check=True)


def main():
    env_id, *seeds = sys.argv[1:]
    script, steps, ablations = ENVIRONMENTS[env_id].values()
    code = f"edited {code_hash(HERE.parent / script)}"
    for i, (name, flags, *edit) in enumerate(ablations):
        copy = HERE / f"runs/scripts/{env_id}-{i}/{script}"
        write_copy(copy, edit)
        command = [sys.executable, HERE / "train.py", f"{env_id} ablation {name}"]
        command += [*(seeds or ["101-110"]), code, "--env-id", env_id, "--total-timesteps", steps]
        command += ["--eval-episodes", 100, *flags.split()]
        environment = os.environ | {"COMMAND": f"{sys.executable} {copy}"}
        subprocess.run([*map(str, command)], check=True, env=environment)


if __name__ == "__main__":
    main()
