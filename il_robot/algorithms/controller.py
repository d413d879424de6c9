"""The controller of a trained policy: runner and chunk buffer in one process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from il_robot.config import build
from il_robot.control.chunks import ChunkBuffer, Execution
from il_robot.errors import ConfigError
from il_robot.policies.assessor import load_assessor
from il_robot.policies.checkpoint import load_checkpoint
from il_robot.policies.residual_runner import Runner, make_runner
from il_robot.spec import RobotSpec
from il_robot.types import ActionChunk, Float32, Observation

_GRID = 1e-4  # of a control step: stamps are floats


class PolicyController:
    """Drives an environment with a policy (implements :class:`il_robot.protocols.Controller`).

    The buffer is the very one the arbiter uses; here the network answers at once, or as late as
    ``delay`` says, in the time of the observations, so that an episode repeats.

    Args:
        runner: Observation to chunk; an attribute, too.
        spec: The robot driven; actions are clipped to its position limits, because a
            regression may end a hair outside them.
        execution: How chunks are executed.
        delay: Artificial latency [s]: the answer to the observation of t arrives at t + delay.
            While one is computed no other starts, as in the policy node. Where no plan covers
            an instant, the arms hold: the last action, at first the measured state.

    Raises:
        ConfigError: a delay that is negative or not finite.
    """

    def __init__(
        self, runner: Runner, spec: RobotSpec, execution: Execution, delay: float = 0.0
    ) -> None:
        if not 0 <= delay < math.inf:
            raise ConfigError(f'delay must be >= 0 s and finite, got {delay}')
        self.runner, self._delay = runner, delay
        runner.frozen = math.ceil(delay / spec.dt - _GRID)
        self._arriving: tuple[float, ActionChunk] | None = None
        self._held: Float32 | None = None
        self._slack = _GRID * spec.dt
        self._lower, self._upper = spec.lower, spec.upper
        self._buffer = ChunkBuffer(runner.chunk_size, spec.dim, spec.dt, execution)

    @property
    def signals(self) -> tuple[float, float, float]:
        """Novelty, doubt and risk of the newest prediction; NaN where they are not known."""
        return self.runner.novelty, self.runner.doubt, self.runner.risk

    @property
    def stamp(self) -> float:
        """Time of the observation behind the newest chunk that came [s]; -inf before the first."""
        return self._buffer.stamp

    def reset(self, rng: np.random.Generator) -> None:
        """Forget the chunks and the history; seed a stochastic policy."""
        self._buffer.clear()
        self._arriving = self._held = None
        self.runner.reset(rng)

    def act(self, observation: Observation) -> Float32:
        """The ``(D,)`` action for the observation's instant [rad, m]."""
        now = observation.stamp
        self.runner.observe(observation)
        self._receive(now)
        if self._arriving is None and self._buffer.due(now):
            self._ask(now)
        action = self._buffer.action(now)
        if action is None and self._arriving is None:  # n_action_steps longer than the chunk
            self._ask(now)
            action = self._buffer.action(now)
        if action is None:
            action = observation.state if self._held is None else self._held
        self._held = np.clip(action, self._lower, self._upper)
        return self._held

    def _ask(self, now: float) -> None:
        """Compute the answer to the observation of ``now``."""
        self._arriving = now + self._delay, self.runner.predict()
        self._receive(now)

    def _receive(self, now: float) -> None:
        if self._arriving is not None and now >= self._arriving[0] - self._slack:
            self._buffer.push(self._arriving[1])
            self._arriving = None


@dataclass(frozen=True)
class PolicyFactory:
    """Makes the controller of a checkpoint for an environment; picklable, for evaluation.

    Attributes:
        checkpoint: The checkpoint's (or run's) folder.
        execution: How chunks are executed; the checkpoint's own when None.
        device: Where the network runs.
        runtime: See :mod:`il_robot.policies.runtime`, which says why it is not ``auto``.
        novelty: See :class:`~il_robot.policies.runner.PolicyRunner`.
        assessor: File of the policy's assessor (:mod:`il_robot.policies.assessor`), where doubt
            and risk are wanted.
        delay: See :class:`PolicyController`.
    """

    checkpoint: Path
    execution: Execution | None = None
    device: str = 'cpu'
    runtime: str = 'torch'
    novelty: bool = False
    assessor: Path | None = None
    delay: float = 0.0

    def __call__(self, env: Any) -> PolicyController:
        """Load the policy for ``env.unwrapped.robot``; this process gets one torch thread.

        Raises:
            CheckpointError: missing, damaged, or of another robot.
            ConfigError: mode ``rtc`` with a policy that cannot continue a plan.
        """
        # Batch 1 is too small to share, and as many worker processes as cores are running.
        torch.set_num_threads(1)
        robot = env.unwrapped.robot
        checkpoint, policy = load_checkpoint(self.checkpoint, robot=robot, device=self.device)
        execution = self.execution or build(Execution, checkpoint.execution, 'checkpoint')
        assessor = load_assessor(self.assessor, checkpoint.hash) if self.assessor else None
        runner = make_runner(checkpoint, policy, robot, self.runtime, execution=execution,
                             novelty=self.novelty, assessor=assessor)
        return PolicyController(runner, robot, execution, self.delay)
