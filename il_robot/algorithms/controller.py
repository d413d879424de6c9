"""Controllers for episodes in process: a policy with its chunk buffer, and the expert."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from il_robot.control.chunks import ChunkBuffer, Execution
from il_robot.policies.runner import PolicyRunner
from il_robot.spec import RobotSpec
from il_robot.types import Action, Float32, Observation


class PolicyController:
    """Drives an environment with a policy (implements :class:`il_robot.protocols.Controller`).

    The buffer is the very one the arbiter uses; here the network answers at once, so a chunk
    is never late.

    Args:
        runner: Observation to chunk.
        spec: The robot driven; actions are clipped to its position limits, because a
            regression may end a hair outside them.
        execution: How chunks are executed.
    """

    def __init__(self, runner: PolicyRunner, spec: RobotSpec, execution: Execution) -> None:
        self._runner = runner
        self._lower, self._upper = spec.lower, spec.upper
        self._buffer = ChunkBuffer(runner.chunk_size, spec.dim, spec.dt, execution)

    def reset(self, rng: np.random.Generator) -> None:
        """Forget the chunks and the history; seed a stochastic policy."""
        self._buffer.clear()
        self._runner.reset(rng)

    def act(self, observation: Observation) -> Float32:
        """The ``(D,)`` action for the observation's instant [rad, m]."""
        now = observation.stamp
        self._runner.observe(observation)
        if self._buffer.due(now):
            self._buffer.push(self._runner.predict())
        action = self._buffer.action(now)
        if action is None:  # n_action_steps longer than the chunk
            self._buffer.push(self._runner.predict())
            action = self._buffer.action(now)
        assert action is not None, 'a fresh chunk covers its own instant'
        return np.clip(action, self._lower, self._upper)


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
