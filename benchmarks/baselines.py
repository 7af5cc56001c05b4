"""What costs no training, over 100 episodes each: an untrained agent (greedy, ten seeds of ten
episodes) and one that does nothing, that is always takes action 0, or the zero vector.

    python benchmarks/baselines.py         results/baselines.csv
"""

import sys

import numpy as np
import torch
from train import HERE, read_csv, write_csv

sys.path.insert(0, str(HERE.parent))
import ppo  # noqa: E402
import ppo_continuous  # noqa: E402


class Nothing(torch.nn.Module):
    """An agent whose action is always zero."""

    def __init__(self, envs):
        super().__init__()
        self.action = torch.nn.Parameter(torch.as_tensor(envs.action_space.sample()) * 0, False)

    def forward(self, obs):
        return self.action


rows = []
environments = {row["env_id"]: row["script"] for row in read_csv(HERE / "environments.csv")}
for env_id, name in environments.items():
    script = {"ppo.py": ppo, "ppo_continuous.py": ppo_continuous}[name]
    args = script.Args(env_id=env_id)
    untrained = []
    for seed in range(10):
        torch.manual_seed(seed)
        envs = script.make_envs(args, 10)
        untrained.extend(script.evaluate(script.Agent(envs, args), envs, seed))
    envs = script.make_envs(args, 100)
    nothing = script.evaluate(Nothing(envs), envs, seed=0)
    row = {"untrained": np.mean(untrained), "nothing": np.mean(nothing)}
    rows.append({"environment": env_id} | {k: f"{x:.1f}" for k, x in row.items()})
    print(rows[-1], flush=True)
write_csv(HERE / "results/baselines.csv", rows)
