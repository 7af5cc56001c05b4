"""LunarLander-v3, untrained and then after about 30 seconds of training: results/lunarlander.gif

python benchmarks/gif.py
"""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from moviepy import ImageSequenceClip
from PIL import Image, ImageDraw

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import ppo  # noqa: E402


def episode(agent, env, label, every=4):
    """Every few frames of a greedy episode, and the last one for a while, with a label."""
    obs, _ = env.reset(seed=7)
    frames, ended = [], False
    while not ended:
        action = agent(torch.as_tensor(obs).unsqueeze(0)).item()
        obs, _, terminated, truncated, _ = env.step(action)
        image = Image.fromarray(env.render())
        ImageDraw.Draw(image).text((20, 15), label, fill="white", font_size=36)
        frames.append(np.asarray(image))
        ended = terminated or truncated
    return [*frames[::every], *[frames[-1]] * 10]


args = ppo.Args(env_id="LunarLander-v3", total_timesteps=250_000, eval_episodes=0)
envs = ppo.make_envs(args, 1)
torch.manual_seed(args.seed)
untrained = ppo.Agent(envs, args)
ppo.main(args)
run = max(Path("runs").glob("LunarLander-v3__*"), key=lambda path: path.stat().st_mtime)
trained = ppo.Agent(envs, args)
trained.load_state_dict(ppo.load_checkpoint(run)["agent"])

env = gym.make("LunarLander-v3", render_mode="rgb_array")
frames = episode(untrained, env, "untrained") + episode(trained, env, "after 30 s of training")
clip = ImageSequenceClip(frames, fps=12)
clip.resized(width=300).write_gif(HERE / "results/lunarlander.gif", logger=None)
