"""The contracts between layers; at most four methods each."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from il_robot.types import Action, Float32, Observation


@runtime_checkable
class Expert(Protocol):
    """Labels any reachable state; holds no state between calls."""

    def __call__(self, observation: Observation) -> Action:
        """The action the expert would take now; ``(D,)`` joint targets [rad, m]."""


@runtime_checkable
class Controller(Protocol):
    """Anything that drives an environment: expert, policy with its chunk buffer, replay."""

    def reset(self, rng: np.random.Generator) -> None:
        """Forget the last episode."""

    def act(self, observation: Observation) -> Float32:
        """The ``(D,)`` action for this instant [rad, m]."""
