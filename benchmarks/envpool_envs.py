"""EnvPool's environments: --env-id envpool_envs:LunarLander-v3 with this folder on PYTHONPATH."""

import os
from functools import partial

import envpool
import gymnasium as gym


class Pool(gym.vector.VectorEnv):
    metadata = {"autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP}  # EnvPool's only one

    def __init__(self, name, num_envs, **options):
        self.num_envs, threads = num_envs, int(os.environ.get("ENVPOOL_THREADS", 1))
        options |= {"num_envs": num_envs, "num_threads": threads}
        # Seeds are a pool's, not reset's; without one all runs would have the same.
        self.make = partial(envpool.make_gymnasium, name, **options)
        spec = envpool.make_spec(name, **options)
        self.single_observation_space, self.single_action_space = spec.observation_space, ...

    def reset(self, *, seed=None, options=None):
        self.pool = self.make(seed=seed)
        return self.pool.reset()

    def step(self, actions):
        return self.pool.step(actions)
