"""The controller of a trained policy: runner and chunk buffer in one process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from il_robot.config import build
from il_robot.control.chunks import ChunkBuffer, Execution
from il_robot.policies.assessor import load_assessor
from il_robot.policies.checkpoint import load_checkpoint
from il_robot.policies.runner import PolicyRunner
from il_robot.spec import RobotSpec
from il_robot.types import Float32, Observation


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

    @property
    def signals(self) -> tuple[float, float, float]:
        """Novelty, doubt and risk of the newest prediction; NaN where they are not known."""
        return self._runner.novelty, self._runner.doubt, self._runner.risk

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
    """

    checkpoint: Path
    execution: Execution | None = None
    device: str = 'cpu'
    runtime: str = 'torch'
    novelty: bool = False
    assessor: Path | None = None

    def __call__(self, env: Any) -> PolicyController:
        """Load the policy for ``env.unwrapped.robot``; this process gets one torch thread.

        Raises:
            CheckpointError: missing, damaged, or of another robot.
        """
        # Batch 1 is too small to share, and as many worker processes as cores are running.
        torch.set_num_threads(1)
        robot = env.unwrapped.robot
        checkpoint, policy = load_checkpoint(self.checkpoint, robot=robot, device=self.device)
        execution = self.execution or build(Execution, checkpoint.execution, 'checkpoint')
        assessor = load_assessor(self.assessor, checkpoint.hash) if self.assessor else None
        runner = PolicyRunner(checkpoint, policy, robot, self.runtime, novelty=self.novelty,
                              assessor=assessor)
        return PolicyController(runner, robot, execution)
