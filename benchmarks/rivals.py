"""PPO of Stable-Baselines3 or SBX with one of two settings; writes TensorBoard files.

    python benchmarks/rivals.py sb3 zoo --env-id LunarLander-v3 --seed 1

default: the library's defaults, one environment. zoo: what rl-baselines3-zoo has for LunarLander in
hyperparams/ppo.yml. cleanrl: the setting of CleanRL's ppo.py, for speed.py.
"""

import argparse

import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure

SETTINGS = {
    "default": {"n_envs": 1},
    "zoo": {
        "n_envs": 16,
        "n_steps": 1024,
        "batch_size": 64,
        "n_epochs": 4,
        "gamma": 0.999,
        "gae_lambda": 0.98,
        "ent_coef": 0.01,
    },
    "cleanrl": {"n_envs": 4, "n_steps": 128, "batch_size": 128, "n_epochs": 4},
    "cleanrl-continuous": {"n_envs": 1, "n_steps": 2048, "batch_size": 64, "n_epochs": 10},
}

parser = argparse.ArgumentParser()
parser.add_argument("library", choices=["sb3", "sbx"])
parser.add_argument("setting", choices=SETTINGS)
parser.add_argument("--env-id", default="LunarLander-v3")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--total-timesteps", type=int, default=1_000_000)
parser.add_argument("--render-mode")
args = parser.parse_args()

torch.set_num_threads(1)
if args.library == "sbx":
    from sbx import PPO
else:
    from stable_baselines3 import PPO
setting = dict(SETTINGS[args.setting])
# By default make_vec_env sets rgb_array, for which LunarLander simulates particles.
options = {"render_mode": args.render_mode}
envs = make_vec_env(args.env_id, setting.pop("n_envs"), seed=args.seed, env_kwargs=options)
model = PPO("MlpPolicy", envs, device="cpu", seed=args.seed, **setting)
model.set_logger(configure("logs", ["tensorboard"]))
model.learn(args.total_timesteps, log_interval=1)
