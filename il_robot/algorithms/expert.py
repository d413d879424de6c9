"""The controller that lets an environment's own expert drive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from il_robot.types import Action, Float32, Observation


class ExpertController:
    """Lets the expert drive.

    Args:
        expert: Labels the environment's present state.
    """

    def __init__(self, expert: Callable[[], Action]) -> None:
        self._expert = expert

    def reset(self, rng: np.random.Generator) -> None:
        """Nothing to forget: an expert holds no state."""

    def act(self, observation: Observation) -> Float32:
        """The ``(D,)`` expert action [rad, m]."""
        return self._expert().position



def expert_controller(env: Any) -> ExpertController:
    """The environment's own expert."""
    return ExpertController(env.unwrapped.expert)
