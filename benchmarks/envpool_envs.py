"""EnvPool's environments: --env-id envpool_envs:LunarLander-v3, with this folder on PYTHONPATH."""

import os
from functools import partial

import envpool
import gymnasium as gym
from gymnasium.vector.utils import batch_space

THREADS = int(os.environ.get("ENVPOOL_THREADS", 1))


class Pool(gym.vector.VectorEnv):
    metadata = {"autoreset_mode": gym.vector.AutoresetMode.NEXT_STEP}

    def __init__(self, name, num_envs, **options):
        self.make = partial(envpool.make_gymnasium, name, num_threads=THREADS, **options)
        self.num_envs, spec = num_envs, envpool.make_spec(name, **options)
        self.single_observation_space = spec.observation_space
        self.single_action_space = spec.action_space
        self.observation_space = batch_space(spec.observation_space, num_envs)
        self.action_space = batch_space(spec.action_space, num_envs)

    def reset(self, *, seed=None, options=None):  # EnvPool takes a seed here only
        self.pool = self.make(num_envs=self.num_envs, seed=(seed or 0) % 2**31)
        return self.pool.reset()

    def step(self, actions):
        return self.pool.step(actions)


for name in envpool.list_all_envs():
    spec = gym.registry.setdefault(name, gym.envs.registration.EnvSpec(name))
    spec.vector_entry_point = partial(Pool, name)
