"""Worlds that count their steps, and die when told to; importable in a process of its own."""

import os
from contextlib import suppress
from dataclasses import dataclass

import gymnasium as gym
import numpy as np


class Counting(gym.Env):
    """Counts its steps; ends by itself after `length` of them, by the clock after 8."""

    observation_space = gym.spaces.Box(-9e9, 9e9, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, length=5, dies_at=None, flag='', raises=None):
        self._length, self._dies, self._flag, self._raises = length, dies_at, flag, raises

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.mark = 0, self.np_random.uniform()
        self._die_if_told()
        return self._obs(), {}

    def step(self, action):
        self.count += 1
        if self._raises:
            raise self._raises
        self._die_if_told()
        over = self.count >= self._length
        return self._obs(), float(action[0]), over, self.count >= 8, {'success': over}

    def _die_if_told(self):
        if self.count == self._dies:
            with suppress(FileExistsError):  # somebody has died of it already
                if self._flag:
                    open(self._flag, 'x').close()
                os._exit(3)

    def _obs(self):
        return np.array([self.count, self.mark], np.float32)


@dataclass(frozen=True)
class Make:
    """Picklable."""

    options: tuple = ()

    def __call__(self):
        return Counting(**dict(self.options))
