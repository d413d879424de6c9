"""An environment as reinforcement learning on top of a trained policy sees it.

Observations are the policy's own normalised features, actions are in deviations of the
demonstrated actions, so that every algorithm for vectors in and vectors out does its work there
(Gymnasium, ``Box`` to ``Box``). Two ways:

- :class:`DirectEnv`: the action is what the policy answers, as many steps as it executes of a
  chunk. What is learned takes the policy's place.
- :class:`ResidualEnv`: the policy drives as it always did, through the very runner that the
  policy node has, and the action is a correction of each of its control steps. What is seen has
  the policy's own action at its end.

Both also tell a recorded episode as transitions (``transitions``, of their
:mod:`base <il_robot.algorithms.policy_env_base>`), so that demonstrations and corrections are
experience like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from il_robot.algorithms.policy_env_base import DictEnv, PolicyEnv, RewardKind
from il_robot.config import build, to_dict
from il_robot.control.chunks import Execution
from il_robot.errors import ConfigError
from il_robot.policies.checkpoint import Checkpoint, load_checkpoint
from il_robot.policies.policy import Policy
from il_robot.policies.registry import model_config
from il_robot.policies.residual import ResidualConfig, ResidualPolicy
from il_robot.policies.residual_runner import ResidualRunner
from il_robot.policies.runner import PolicyRunner
from il_robot.types import Float32, Observation

_WIDE = 4.0
"""Largest normalised action of :class:`DirectEnv`: no demonstration goes that far."""


class DirectEnv(PolicyEnv):
    """Actions take the place of the policy's answer.

    Args:
        env: See :class:`PolicyEnv`.
        checkpoint: Description of the policy.
        policy: Its weights do not count.
        reward: See :class:`PolicyEnv`.
        stuck: See there.
    """

    def __init__(
        self, env: DictEnv, checkpoint: Checkpoint, policy: Policy, reward: RewardKind = 'sparse',
        stuck: float = 0.0,
    ) -> None:
        self._length = executed_steps(checkpoint, policy)
        robot = env.unwrapped.robot  # type: ignore[attr-defined]
        super().__init__(
            env, checkpoint, reward, stuck, self._length * checkpoint.action_dim,
            checkpoint.layout.dim * policy.n_obs_steps, _WIDE)
        self._runner = PolicyRunner(checkpoint, policy, robot)
        entry = checkpoint.normalizer.entries['action']
        shape = (self._length, robot.dim)
        self._unit, self._offset = (
            np.broadcast_to(v[:self._length] if v.ndim == 2 else v, shape)
            for v in (entry.scale, entry.offset))
        self._relative = checkpoint.base
        self._state: Float32 = robot.rest

    def step(self, action: Float32) -> tuple[Float32, float, bool, bool, dict[str, Any]]:
        """One answer ``(n D,)``, normalised, executed."""
        steps = action.reshape(self._length, -1) * self._unit + self._offset
        return self._execute((steps + self._relative * self._state).astype(np.float32))

    def _begin(self, rng: np.random.Generator) -> None:
        self._runner.reset(rng)

    def _pass(self, observation: Observation) -> None:
        self._runner.observe(observation)

    def _see(self, observation: Observation) -> Float32:
        self._runner.observe(observation)
        self._state = observation.state
        return self._runner.features().ravel()

    def _action_of(self, observation: Observation, executed: Float32) -> Float32:
        missing = self._length - len(executed)
        executed = np.concatenate([executed, np.repeat(executed[-1:], missing, 0)])
        own = (executed - self._relative * observation.state - self._offset) / self._unit
        return own.ravel().clip(-_WIDE, _WIDE).astype(np.float32)


class ResidualEnv(PolicyEnv):
    """Actions correct what the policy does, each for as many steps as a correction stays.

    Args:
        env: See :class:`PolicyEnv`.
        checkpoint: Description of a corrected policy.
        policy: That; only its base counts.
        reward: See :class:`PolicyEnv`.
        stuck: See there.
    """

    def __init__(
        self, env: DictEnv, checkpoint: Checkpoint, policy: ResidualPolicy,
        reward: RewardKind = 'sparse', stuck: float = 0.0,
    ) -> None:
        robot = env.unwrapped.robot  # type: ignore[attr-defined]
        super().__init__(
            env, checkpoint, reward, stuck, checkpoint.action_dim,
            checkpoint.layout.dim * policy.n_obs_steps + checkpoint.action_dim, policy.limit)
        self._runner = ResidualRunner(checkpoint, policy, robot)
        self._base: Float32 = robot.rest
        self._length = policy.hold

    def step(self, action: Float32) -> tuple[Float32, float, bool, bool, dict[str, Any]]:
        """The base's actions, all of them corrected by the same ``(D,)`` deviations."""
        total, correction = 0.0, action * self._runner.unit
        for _ in range(self._length):
            seen, reward, terminated, truncated, info = self._execute(
                (self._base + correction)[None].astype(np.float32))
            total += reward
            if terminated or truncated:
                break
        return seen, total, terminated, truncated, info

    def _begin(self, rng: np.random.Generator) -> None:
        self._runner.reset(rng)

    def _pass(self, observation: Observation) -> None:
        raise AssertionError('executed one by one')

    def _see(self, observation: Observation) -> Float32:
        self._runner.observe(observation)
        self._base = self._runner.plan(1)[0]
        return self._runner.inputs(self._base)

    def _action_of(self, observation: Observation, executed: Float32) -> Float32:
        own: Float32 = (executed[0] - self._base) / self._runner.unit
        return own

    def _held(self, actions: Float32) -> Float32:
        # one correction for all the steps: nearest to what was executed is the mean
        limit = self._runner.limit
        means = [actions[i:i + self._length].mean(0) for i in range(len(actions))]
        return np.stack(means).clip(-limit, limit).astype(np.float32)


def executed_steps(checkpoint: Checkpoint, policy: Policy) -> int:
    """Control steps that an answer of the policy is executed for.

    Raises:
        ConfigError: the answers are mixed, so that none of them is an action.
    """
    execution = build(Execution, checkpoint.execution, 'checkpoint')
    if policy.chunk_size == 1:
        return 1
    if execution.mode == 'newest':
        return execution.n_action_steps
    raise ConfigError(
        f'chunks executed in mode {execution.mode} are no actions, since several of them are '
        f'mixed: take --execution mode=newest n_action_steps={max(1, policy.chunk_size // 2)}, '
        f'or --algorithm residual, which corrects what comes of them')


def residual_policy(
    checkpoint: Checkpoint, policy: Policy, hidden: tuple[int, ...], limit: float, hold: int = 1
) -> tuple[Checkpoint, ResidualPolicy]:
    """A policy that corrects another one, by nothing so far; torch's generator draws its weights.

    Raises:
        ConfigError: see :class:`~il_robot.policies.residual.ResidualConfig`.
    """
    config = build(ResidualConfig, {
        'policy': checkpoint.policy, 'model': to_dict(checkpoint.model),
        'execution': dict(checkpoint.execution), 'hidden': hidden, 'limit': limit,
        'hold': hold}, 'residual')
    config = model_config('residual', to_dict(config), 'residual')
    corrected = ResidualPolicy(
        policy, config, checkpoint.layout.dim * policy.n_obs_steps, checkpoint.action_dim)
    with torch.no_grad():
        for parameter in corrected.trunk[-1].parameters():
            parameter.zero_()
    return replace(
        checkpoint, policy='residual', model=config, start=checkpoint.hash, hash='',
        execution=to_dict(Execution(mode='newest', n_action_steps=1))), corrected


@dataclass(frozen=True)
class PolicyEnvFactory:
    """Makes such an environment; picklable.

    Attributes:
        make_env: Makes the environment itself.
        checkpoint: Folder of the policy: a corrected one is to be corrected, any other replaced.
        reward: See :class:`PolicyEnv`.
        stuck: See there.
    """

    make_env: Callable[[], Any]
    checkpoint: Path
    reward: RewardKind = 'sparse'
    stuck: float = 0.0

    def __call__(self) -> DirectEnv | ResidualEnv:
        """A fresh one; this process gets one torch thread.

        Raises:
            CheckpointError: missing, damaged, or of another robot.
            ConfigError: the policy's chunks are no actions.
        """
        checkpoint, policy = load_checkpoint(self.checkpoint)
        if isinstance(policy, ResidualPolicy):
            return ResidualEnv(self.make_env(), checkpoint, policy, self.reward, self.stuck)
        return DirectEnv(self.make_env(), checkpoint, policy, self.reward, self.stuck)
