"""Environments of variants.sh, for --env-id environments:NAME with this folder on PYTHONPATH: NAME
is CartPoleWithoutVelocities-v1, DeepSea-v0 or, with MinAtar installed, MinAtar/Breakout-v1 and
FlatBreakout-v1."""

from contextlib import suppress

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import FlattenObservation, TransformObservation


def cartpole_without_velocities(**options):
    """Positions of cart and pole alone: how they move is to be remembered."""
    env, positions = gym.make("CartPole-v1", **options), [0, 2]
    bounds = env.observation_space
    space = gym.spaces.Box(bounds.low[positions], bounds.high[positions], dtype=bounds.dtype)
    return TransformObservation(env, lambda obs: obs[positions], space)


def flat_breakout(**options):
    """Breakout of MinAtar with the pixels as a vector."""
    return FlattenObservation(gym.make("MinAtar/Breakout-v1", **options))


class DeepSea(gym.Env):
    """The deep sea of Osband et al. 2020 (bsuite): a diver sinks through `depth` rows, a column to
    the left or to the right in each. To the right costs 0.01 / depth; in the lower right corner,
    which only the right action in every row leads to, is a reward of 1. The best return is 0.99."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, depth=12):
        self.depth = depth
        self.observation_space = gym.spaces.Box(0, 1, (2 * depth,), np.float32)

    def observe(self):
        one_hot = np.zeros((2, self.depth + 1), np.float32)
        one_hot[0, self.row] = one_hot[1, self.column] = 1
        return one_hot[:, : self.depth].ravel()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.row = self.column = 0
        return self.observe(), {}

    def step(self, action):
        self.row += 1
        self.column = max(self.column + (1 if action == 1 else -1), 0)
        end = self.row == self.depth
        reward = float(end and self.column == self.depth) - 0.01 / self.depth * (action == 1)
        return self.observe(), reward, end, False, {}


gym.register("DeepSea-v0", DeepSea)
gym.register("CartPoleWithoutVelocities-v1", cartpole_without_velocities)
with suppress(ImportError):
    from minatar.gym import register_envs

    register_envs()
    gym.register("FlatBreakout-v1", flat_breakout)
