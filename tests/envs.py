"""Small environments whose optimum is known. Unless said otherwise each comes with two actions, as
Discrete (Name-v0, for ppo.py) and as a Box whose sign decides (NameBox-v0, for the other)."""

import random
import time

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete


def everything():
    """Which actions are allowed, for the variant with masks; and, as an environment with statistics
    of its own has it, 'episode'."""
    return {"action_mask": np.ones(2, dtype=np.int8), "episode": {"r": 0.0}}


class Small(gym.Env):
    """`continuous` exchanges two actions for the sign of a real one; `choice` gives 0 or 1 back."""

    observation_space = Box(-1, 1, (1,), np.float32)

    def __init__(self, continuous: bool = False):
        self.continuous = continuous
        self.action_space = Box(-1, 1, (1,), np.float32) if continuous else Discrete(2)

    def choice(self, action) -> int:
        return int(action[0] > 0) if self.continuous else int(action)

    def obs(self, value=0.0):
        return np.full(self.observation_space.shape, value, self.observation_space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.begin(), everything()

    def begin(self):
        return self.obs()


class Bandit(Small):
    """One state, rewards 0 and 1: the best return is 1."""

    def step(self, action):
        return self.obs(), float(self.choice(action)), True, False, everything()


class TwoStates(Small):
    """Two states in sequence, the second action alone decides the reward: the best return is 1."""

    def step(self, action):
        self.t += 1
        reward = float(self.choice(action)) if self.t == 2 else 0.0
        return self.obs(1.0), reward, self.t == 2, False, everything()


class Truncated(Small):
    """Action 0 ends the episode with 1. Action 1 gives 0.4 and goes on, until a limit of two steps
    cuts the episode off. Going on is worth 0.4 / (1 − γ) where truncation is bootstrapped through,
    4 for γ = 0.9, and 0.4 + 0.36 where it counts as an end. The best (cut off) return is 0.8."""

    def step(self, action):
        self.t += 1
        if self.choice(action) == 0:
            return self.obs(), 1.0, True, False, everything()
        return self.obs(), 0.4, False, self.t == 2, everything()


class Match(Small):
    """Eight steps; 1 for the action that has the sign of the observation: the best return is 8."""

    scale, offset, reward_scale = 1.0, 0.0, 1.0

    def draw(self):
        self.sign = self.np_random.choice([-1, 1])
        return self.obs(self.scale * self.sign + self.offset)

    def begin(self):
        return self.draw()

    def step(self, action):
        self.t += 1
        reward = self.reward_scale * (self.choice(action) == (self.sign > 0))
        return self.draw(), float(reward), self.t == 8, False, everything()


class Huge(Match):
    """Match with observations and rewards of scale 1e6, the former off centre: 8e6 is the best."""

    observation_space = Box(-np.inf, np.inf, (1,), np.float64)
    scale, offset, reward_scale = 1e6, 5e6, 1e6


class Heads(Small):
    """MultiDiscrete, starting at 5 and 7; reward 1 for the two right choices of 2 and 3 in each of
    four states: the best return of the eight steps is 8. Discrete actions only."""

    observation_space = Discrete(4)

    def __init__(self):
        self.action_space = MultiDiscrete([2, 3], start=[5, 7])

    def draw(self):
        self.state = int(self.np_random.integers(4))
        return self.state

    def begin(self):
        return self.draw()

    def step(self, action):
        assert self.action_space.contains(action), action
        self.t += 1
        right = action[0] == 5 + self.state // 2 and action[1] == 7 + self.state % 3
        return self.draw(), float(right), self.t == 8, False, everything()


class Wide(Small):
    """Box of shape (2, 1) from −1000 to 3000; 1 minus the distance to (2000, −500) over 4000, so
    that 8 is the best return of the eight steps. Continuous actions only."""

    def __init__(self):
        self.action_space = Box(-1000, 3000, (2, 1), np.float32)

    def step(self, action):
        assert self.action_space.contains(action), action
        self.t += 1
        distance = np.abs(action - [[2000.0], [-500.0]]).mean()
        return self.obs(), 1 - float(distance) / 4000, self.t == 8, False, everything()


class Endless(Small):
    """An episode that never ends."""

    def step(self, action):
        return self.obs(), 1.0, False, False, everything()


class Marked(Small):
    """Episodes of 1 to 6 steps, ended or cut off; an episode's last observation is 7, which no one
    acts on, and so no sample may hold. Counts its steps and keeps every observation acted on."""

    observation_space = Box(-10, 10, (2,), np.float32)
    steps = 0
    acted_on = []

    def draw(self):
        self.last = self.np_random.normal(size=2).astype(np.float32)
        return self.last

    def begin(self):
        self.length = self.np_random.integers(1, 7)
        return self.draw()

    def step(self, action):
        self.t += 1
        Marked.steps += 1
        Marked.acted_on.append(self.last)
        end = self.t == self.length
        obs = self.obs(7.0) if end else self.draw()
        even = self.t % 2 == 0
        reward = float(self.np_random.normal())
        return obs, reward, bool(end and even), bool(end and not even), everything()


class Composite(Match):
    """Match seen through a Dict of a matrix of integers and a Discrete."""

    observation_space = Dict(sign=Box(-1, 1, (2, 1), np.int8), other=Discrete(3, start=1))

    def obs(self, value=0.0):
        return {"sign": np.full((2, 1), value, np.int8), "other": 1 + self.t % 3}


class Pixels(Match):
    """Match seen as an image, white or black; for the variant with a convolution."""

    observation_space = Box(0, 255, (4, 4, 2), np.uint8)

    def obs(self, value=0.0):
        return np.full((4, 4, 2), 255 if value > 0 else 0, np.uint8)


class Dice(Match):
    """Match whose signs and rewards come from the two global generators."""

    def draw(self):
        self.sign = random.choice([-1, 1])
        return self.obs(self.sign * np.random.uniform(0.5, 1))


class Single(Match):
    """Match that cannot be made a second time before it is closed, as a robot or a port."""

    alive = False

    def __init__(self, continuous: bool = False):
        super().__init__(continuous)
        assert not Single.alive, "there is one already"
        Single.alive = True

    def close(self):
        Single.alive = False


class Broken(Match):
    """Match that breaks in step `at` of each copy, or is slow, as `how` says."""

    def __init__(self, how: str, at: int = 100, continuous: bool = False):
        super().__init__(continuous)
        self.how, self.steps_left = how, at

    def step(self, action):
        self.steps_left -= 1
        obs, reward, *others = super().step(action)
        if self.how == "slow":
            time.sleep(0.05)
        elif self.steps_left == 0 and self.how == "error":
            raise ValueError("the motor is on fire")
        elif self.steps_left == 0:
            obs, reward = (self.obs(np.nan), 0.0) if self.how == "observation" else (obs, np.inf)
        return obs, reward, *others


class From1(Small):
    """Actions 1 and 2, which the scripts do not support."""

    def __init__(self):
        self.action_space = Discrete(2, start=1)


def same_step(num_envs, **kwargs):
    """A vector environment that resets in the step that ends an episode."""
    mode = gym.vector.AutoresetMode.SAME_STEP
    return gym.vector.SyncVectorEnv([lambda: Endless(**kwargs)] * num_envs, autoreset_mode=mode)


def silent(num_envs, **kwargs):
    """A vector environment that does not say when it resets."""
    envs = gym.vector.SyncVectorEnv([lambda: Endless(**kwargs)] * num_envs)
    envs.metadata = {}
    return envs


BOTH = (Bandit, TwoStates, Truncated, Match, Huge, Endless, Marked, Composite, Pixels)
for env in (*BOTH, Dice, Single, Broken):
    name = env.__name__
    gym.register(f"{name}-v0", env)
    gym.register(f"{name}Box-v0", env, kwargs={"continuous": True})
for env in (Heads, Wide, From1):
    gym.register(f"{env.__name__}-v0", env)
gym.register("Slow-v0", Broken, kwargs={"how": "slow"})
for name, make in (("SameStep", same_step), ("Silent", silent)):
    gym.register(f"{name}-v0", vector_entry_point=make)
    gym.register(f"{name}Box-v0", vector_entry_point=make, kwargs={"continuous": True})
