"""Runs a policy that is corrected in every control step (:mod:`il_robot.policies.residual`).

The base policy's chunks go through a chunk buffer of its own, with its own execution: a plan that
is averaged, or followed for several steps. What comes out for this instant is corrected. To the
outside that is a policy which answers every observation, and whose newest answer counts.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from il_robot.config import build
from il_robot.control.chunks import ChunkBuffer, Execution
from il_robot.errors import ConfigError
from il_robot.policies.assessor import Assessor
from il_robot.policies.checkpoint import Checkpoint
from il_robot.policies.policy import Policy
from il_robot.policies.registry import model_config
from il_robot.policies.residual import ResidualPolicy, bounded
from il_robot.policies.runner import PolicyRunner
from il_robot.spec import RobotSpec
from il_robot.types import ActionChunk, Float32, Observation


class ResidualRunner:
    """As :class:`~il_robot.policies.runner.PolicyRunner`; ask it in every control step.

    Args:
        checkpoint: Description of the weights.
        policy: The policy, on the device where the base shall run; the correction is too small
            to gain by another one than the CPU.
        spec: The robot driven.
        runtime: Of the base policy.

    Attributes:
        frozen: As there; it does not count here.
        chunk_size: Longest plan.
        unit: ``(D,)`` the deviation of the demonstrated actions [rad, m]: a correction of 1.
        limit: Largest correction.

    Raises:
        CheckpointError: trained on another robot.
        ConfigError: the base executes its chunks in a way that has no plan to be corrected.
    """

    novelty = doubt = risk = float('nan')

    def __init__(
        self, checkpoint: Checkpoint, policy: ResidualPolicy, spec: RobotSpec,
        runtime: str = 'torch',
    ) -> None:
        config = checkpoint.model
        described = replace(
            checkpoint, policy=config.policy, execution=config.execution,
            model=model_config(config.policy, config.model, 'residual: model'))
        execution = build(Execution, config.execution, 'residual: execution')
        if execution.mode == 'blend':
            raise ConfigError(
                'a correction needs the plan that is being executed, which mode blend makes only '
                'where it is executed: take mode newest or ensemble')
        self._base = PolicyRunner(
            described, policy.base, spec, runtime, inpaint=execution.inpainting)
        self._buffer = ChunkBuffer(self._base.chunk_size, spec.dim, spec.dt, execution)
        self._trunk, self._dt = copy.deepcopy(policy.trunk).cpu().eval(), spec.dt
        self.chunk_size, self.frozen, self.limit = self._base.chunk_size, 0, policy.limit
        self._hold = policy.hold
        entry = checkpoint.normalizer.entries['action']
        # of the first step, where each step of a chunk has its own
        self.unit, self._offset = (
            v[0] if v.ndim == 2 else v for v in (entry.scale, entry.offset))
        self._relative = checkpoint.base
        self._seen: Observation | None = None
        self._correction: Float32 | None = None
        self._held = 0  # observations since it was made

    def reset(self, rng: np.random.Generator) -> None:
        """Forget the last episode and seed the base policy's randomness."""
        self._buffer.clear()
        self._base.reset(rng)
        self._seen = self._correction = None

    def observe(self, observation: Observation) -> None:
        """Take the observation of one control step."""
        self._base.observe(observation)
        self._seen = observation
        self._held += 1

    def plan(self, steps: int) -> Float32:
        """``(N, D)`` of the base policy from now on [rad, m], at least 1 and at most ``steps``.

        Raises:
            RuntimeError: nothing was observed since the reset.
        """
        if self._seen is None:
            raise RuntimeError('plan() needs an observation: call observe() first')
        now = self._seen.stamp
        action = None
        if not self._buffer.due(now):
            action = self._buffer.action(now)
        if action is None:
            self._buffer.push(self._base.predict())
            action = self._buffer.action(now)
        plan = [action]
        while len(plan) < steps and plan[-1] is not None:
            plan.append(self._buffer.action(now + len(plan) * self._dt))
        found = [p for p in plan if p is not None]
        if not found:
            raise RuntimeError(f'the base policy has no action for {now} s')
        return np.stack(found)

    def inputs(self, action: Float32) -> Float32:
        """What the correction looks at: features, then the base's action ``(D,)``, normalised."""
        assert self._seen is not None
        own = (action - self._relative * self._seen.state - self._offset) / self.unit
        return np.concatenate([self._base.features().ravel(), own.astype(np.float32)])

    def predict(self) -> ActionChunk:
        """The base's plan from now on, all of it corrected as its first step is.

        Raises:
            SpecError: as the base policy's runner.
            RuntimeError: nothing was observed since the reset.
        """
        plan = self.plan(self.chunk_size)
        assert self._seen is not None
        if self._correction is None or self._held >= self._hold:
            with torch.inference_mode():
                seen = torch.from_numpy(self.inputs(plan[0]))[None]
                self._correction = bounded(self._trunk(seen), self.limit)[0].numpy()
            self._held = 0
        stamp = self._seen.stamp
        times = stamp + np.arange(len(plan), dtype=np.float64) * self._dt
        return ActionChunk(stamp, times, plan + self._correction * self.unit)

    def warm_up(self) -> None:
        """As the base policy's, and the correction too."""
        self._base.warm_up()
        self.observe(self._base.at_rest())
        self.predict()
        self.reset(np.random.default_rng(0))

    def describe(self) -> dict[str, Any]:
        """Of the base policy."""
        return self._base.describe()


Runner = PolicyRunner | ResidualRunner


def make_runner(
    checkpoint: Checkpoint, policy: Policy, spec: RobotSpec, runtime: str = 'torch', *,
    execution: Execution, novelty: bool = False, assessor: Assessor | None = None,
) -> Runner:
    """What runs a policy of any kind; see the classes.

    Args:
        checkpoint: Description of the weights.
        policy: The policy, on its device.
        spec: The robot driven.
        runtime: See :class:`~il_robot.policies.runtime.PolicyRuntime`.
        execution: How its chunks will be executed.
        novelty: See :class:`~il_robot.policies.runner.PolicyRunner`.
        assessor: Likewise.

    Raises:
        CheckpointError: trained on another robot.
        ConfigError: as the classes; or a corrected policy that shall be executed as its base is.
    """
    if not isinstance(policy, ResidualPolicy):
        return PolicyRunner(checkpoint, policy, spec, runtime, novelty=novelty,
                            assessor=assessor, inpaint=execution.inpainting)
    if novelty or assessor is not None:
        raise ConfigError('a corrected policy does not tell when it needs help: run its base')
    if execution.mode != 'newest' or execution.n_action_steps != 1:
        raise ConfigError(
            'a corrected policy corrects in every control step: execution mode=newest '
            f'n_action_steps=1, not mode={execution.mode} '
            f'n_action_steps={execution.n_action_steps}; how its base plans is in its model')
    return ResidualRunner(checkpoint, policy, spec, runtime)

