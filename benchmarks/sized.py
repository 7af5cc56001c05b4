"""An environment with as many observations as its name says, for throughput.py."""

import gymnasium as gym
import numpy as np


class Observe(gym.Env):
    """Noise of a given size; 100 steps an episode, the reward is the action."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, size: int):
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        return self.observe(), float(action), False, self.t == 100, {}

    def observe(self) -> np.ndarray:
        return self.np_random.standard_normal(self.observation_space.shape, dtype=np.float32)


for size in (4, 64, 1024, 16384):
    gym.register(f"Observe{size}-v0", lambda size=size: Observe(size))
