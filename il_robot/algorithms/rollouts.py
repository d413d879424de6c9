"""Episodes for reinforcement learning: what was seen, tried and gained, in any environment.

The policy drives through the very runner and chunk buffer of evaluation
(:class:`~il_robot.algorithms.controller.PolicyController`), so that without exploration an
episode is, bit for bit, the one that ``il_robot evaluate`` runs. An entry is one prediction: where
a chunk is executed for several control steps, their rewards are summed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from il_robot.algorithms.controller import PolicyController
from il_robot.algorithms.evaluate import EpisodeResult, as_observation
from il_robot.algorithms.exploration import ExploringPolicy, Noise
from il_robot.config import build
from il_robot.control.chunks import Execution
from il_robot.errors import CheckpointError, ConfigError
from il_robot.policies.checkpoint import check_robot, load_checkpoint
from il_robot.policies.runner import PolicyRunner
from il_robot.types import Float32

RewardKind = Literal['sparse', 'staged']


@dataclass(frozen=True, eq=False)
class Task:
    """One episode to run.

    Attributes:
        seed: Reset seed of the environment.
        attempt: Which of several tries from there: another exploration.
        noise: The exploration.
        weights: Of the policy, by name in its state dict; those that are missing stay.
    """

    seed: int
    attempt: int = 0
    noise: Noise = Noise()
    weights: Mapping[str, Float32] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, eq=False)
class Rollout:
    """An episode of N predictions.

    Attributes:
        result: How it went.
        attempt: Of the task.
        features: ``(N + 1, n_obs_steps F)`` normalised; the last ones are of the end.
        base: ``(N + 1, D)`` see :class:`~il_robot.algorithms.exploration.Notes`.
        deviation: ``(N, D)`` likewise.
        offset: ``(N, D)`` likewise.
        reward: ``(N,)`` of the environment, summed until the next prediction.
        terminated: Whether the task ended the episode, and not the clock.
    """

    result: EpisodeResult
    attempt: int
    features: Float32
    base: Float32
    deviation: Float32
    offset: Float32
    reward: Float32
    terminated: bool

    def __len__(self) -> int:
        return len(self.reward)

    def rewards(self, kind: RewardKind) -> Float32:
        """``(N,)``; see :func:`rewards_of`."""
        return rewards_of(self.reward, self.result.success, kind)


def rewards_of(reward: Float32, success: bool, kind: RewardKind) -> Float32:
    """The rewards of an episode.

    Args:
        reward: ``(N,)`` of the environment.
        success: How it ended.
        kind: ``sparse``: 1 for the success. ``staged``: that and the environment's own; those of
            the bimanual tasks are differences of the stage, which leave the best policy the best
            (Ng et al., ICML 1999).
    """
    out = np.zeros_like(reward) if kind == 'sparse' else reward.copy()
    out[-1] += success
    return out


class Driver:
    """A policy that explores, with the chunk buffer of evaluation.

    Args:
        checkpoint: Folder of the policy; its weights are replaced by those of each task.
        env: What it drives.
        prepare: Makes the policy that drives of the one in the checkpoint.
    """

    def __init__(
        self, checkpoint: Path, env: Any, prepare: Callable[[Any, Any], Any] | None = None
    ) -> None:
        torch.set_num_threads(1)  # batch 1 is too small to share
        robot = env.unwrapped.robot
        described, policy = load_checkpoint(checkpoint)
        check_action_space(described.action_dim, robot.dim, str(checkpoint))
        check_robot(described, robot, str(checkpoint))
        self._policy = ExploringPolicy(
            policy if prepare is None else prepare(described, policy)).eval()
        self._runner = PolicyRunner(described, self._policy, robot)
        execution = build(Execution, described.execution, 'checkpoint')
        self._controller = PolicyController(self._runner, robot, execution)
        self._runner.warm_up()

    def reset(self, task: Task) -> None:
        """Take the task's weights; an episode starts."""
        if task.weights:
            own = self._policy.policy.state_dict()
            for name, value in task.weights.items():
                own[name].copy_(torch.from_numpy(value))
        self._controller.reset(np.random.default_rng([task.seed, 1]))
        self._policy.begin(task.noise, np.random.default_rng([task.seed, 5, task.attempt]))

    @property
    def predictions(self) -> int:
        """In this episode so far."""
        return len(self._policy.notes.base)

    def act(self, obs: dict[str, Any], stamp: float) -> Float32:
        """The action ``(D,)`` [rad, m]."""
        return self._controller.act(as_observation(obs, stamp))

    def end(self, obs: dict[str, Any], stamp: float) -> dict[str, Float32]:
        """What was noted, with features and answer where the episode ended."""
        self._policy.explores = False
        self._runner.observe(as_observation(obs, stamp))
        self._runner.predict()
        notes = self._policy.notes
        return {'features': np.stack(notes.features), 'base': np.stack(notes.base),
                'deviation': np.stack(notes.deviation[:-1]), 'offset': np.stack(notes.offset[:-1])}


@dataclass(frozen=True)
class DriverFactory:
    """Makes the driver of an environment; picklable.

    Attributes:
        checkpoint: See :class:`Driver`.
        prepare: Likewise.
    """

    checkpoint: Path
    prepare: Callable[[Any, Any], Any] | None = None

    def __call__(self, env: Any) -> Driver:
        """Load the policy.

        Raises:
            CheckpointError: missing, damaged, or of another robot.
        """
        return Driver(self.checkpoint, env, self.prepare)


def run_rollout(env: Any, driver: Driver, task: Task) -> Rollout:
    """One episode.

    Raises:
        ConfigError: a reward is not a finite number, or the environment does not say whether it
            succeeded.
    """
    dt = env.unwrapped.robot.dt
    obs, info = env.reset(seed=task.seed)
    driver.reset(task)
    rewards: list[float] = []
    length, stage, stage_name, ended, terminated = 0, 0, '', False, False
    while not ended:
        action = driver.act(obs, length * dt)
        obs, reward, terminated, truncated, info = env.step(action)
        if not math.isfinite(reward):
            raise ConfigError(
                f'the environment gave reward {reward} at step {length} of seed {task.seed}: '
                f'nothing can be learned from that; repair its reward')
        rewards += [0.0] * (driver.predictions - len(rewards))
        rewards[-1] += float(reward)
        length += 1
        if info.get('stage', 0) >= stage:
            stage, stage_name = int(info.get('stage', 0)), str(info.get('stage_name', ''))
        ended = terminated or truncated
    if 'success' not in info:
        raise ConfigError(
            f"the environment's info must have 'success' (bool) to learn from; it has "
            f'{", ".join(info) or "nothing"}')
    result = EpisodeResult(
        task.seed, bool(info['success']), length, sum(rewards), stage, stage_name)
    return Rollout(result, task.attempt, **driver.end(obs, length * dt),
                   reward=np.array(rewards, np.float32), terminated=bool(terminated))


def check_action_space(policy: int, env: int, where: str) -> None:
    """Refuse a policy whose actions have another length than the environment's.

    Raises:
        CheckpointError: it has.
    """
    if policy != env:
        raise CheckpointError(
            f'{where} has actions of {policy} numbers, the environment takes {env}: fine-tune it '
            f'in the environment of the robot it was trained on')
