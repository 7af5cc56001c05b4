"""Environments of variants.sh, for --env-id environments:NAME with this folder on PYTHONPATH: NAME
is CartPoleWithoutVelocities-v1 or, with MinAtar installed, MinAtar/Breakout-v1 and the like."""

from contextlib import suppress

import gymnasium as gym
from gymnasium.wrappers import TransformObservation


def cartpole_without_velocities(**options):
    """Positions of cart and pole alone: how they move is to be remembered."""
    env, positions = gym.make("CartPole-v1", **options), [0, 2]
    bounds = env.observation_space
    space = gym.spaces.Box(bounds.low[positions], bounds.high[positions], dtype=bounds.dtype)
    return TransformObservation(env, lambda obs: obs[positions], space)


gym.register("CartPoleWithoutVelocities-v1", cartpole_without_velocities)
with suppress(ImportError):
    from minatar.gym import register_envs

    register_envs()
