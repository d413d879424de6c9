"""An environment that costs next to nothing, so that what is around it is what is measured."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

DIM, LENGTH = 14, 200


class Trivial(gymnasium.Env[Any, Any]):
    """Observations and actions of 14 numbers; episodes of 200 steps."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (DIM,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (DIM,), np.float32)

    def __init__(self) -> None:
        self._obs = np.zeros(DIM, np.float32)
        self._count = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """A new episode."""
        super().reset(seed=seed)
        self._count = 0
        self._obs = self.np_random.uniform(-1, 1, DIM).astype(np.float32)
        return self._obs, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """The reward is for the action that is the observation."""
        self._count += 1
        reward = -float(np.abs(action - self._obs).mean())
        return self._obs, reward, False, self._count >= LENGTH, {}
