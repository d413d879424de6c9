"""Small environments and experts for the tests of the benchmark; importable by name."""

import os

import gymnasium as gym
import numpy as np


class Wheel(gym.Env):
    """Turn to 0 within 30 steps; how far it is off is the cost."""

    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    observation_space = gym.spaces.Dict({'angle': gym.spaces.Box(-9, 9, (1,), np.float64)})

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.angle, self.steps = self.np_random.uniform(-3, 3), 0
        return {'angle': np.array([self.angle])}, {}

    def step(self, action):
        self.angle += 0.4 * float(action[0])
        self.steps += 1
        near = abs(self.angle) < 0.1
        return ({'angle': np.array([self.angle])}, -abs(self.angle), False, self.steps >= 30,
                {'is_success': near})


class Millimetres(Wheel):
    """The same in another unit, exactly."""

    def reset(self, **options):
        obs, info = super().reset(**options)
        return {'angle': 1024 * obs['angle']}, info

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return {'angle': 1024 * obs['angle']}, 1024 * reward, *rest


class Switches(Wheel):
    """Actions of a kind that is not supported."""

    action_space = gym.spaces.MultiBinary(3)


class FromOne(Wheel):
    """Choices that do not begin with 0."""

    action_space = gym.spaces.Discrete(2, start=1)


class Valve(Wheel):
    """An action from 0 to 10, which is the reward."""

    action_space = gym.spaces.Box(0, 10, (1,), np.float32)

    def step(self, action):
        obs, _, terminated, truncated, info = super().step([0.0])
        return obs, float(action[0]), terminated, truncated, info


class Words(Wheel):
    """Observations that are no numbers."""

    observation_space = gym.spaces.Sequence(gym.spaces.Discrete(3))


def expert(env, obs):
    return np.array([np.clip(-2.5 * obs['angle'][0], -1, 1)])


def fine_expert(env, obs):
    return expert(env, {'angle': obs['angle'] / 1024})


def tired(env, obs):
    raise RuntimeError('no more')


def confused(env, obs):
    return np.array([np.nan])


def wide(env, obs):
    return np.zeros(7)


def deadly(env, obs):
    os._exit(3)


def silent(env, obs):
    return None


def wordy(env, obs):
    return 'left'


def half(env, obs):
    return 0.5


def valve_expert(env, obs):
    return np.array([7.5])


ASKED = [0]


def counting(env, obs):
    ASKED[0] += 1
    return expert(env, obs)


not_callable = 3
