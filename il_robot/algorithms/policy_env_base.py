"""What environments have in common that a trained policy is improved in.

Reward, ends and time; and recorded episodes as transitions. :mod:`il_robot.algorithms.policy_env`
has the two ways to act in them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from il_robot.algorithms.evaluate import as_observation
from il_robot.algorithms.replay import Transitions
from il_robot.algorithms.returning import FURTHER, progress_of
from il_robot.errors import CheckpointError, ConfigError
from il_robot.policies.checkpoint import Checkpoint, check_robot
from il_robot.types import Float32, Observation

RewardKind = Literal['sparse', 'staged', 'progress']

DictEnv = gym.Env[Any, Float32]


@dataclass(frozen=True, eq=False)
class Recorded:
    """One recorded episode of N control steps.

    Attributes:
        observations: N + 1, or N where the end was not observed.
        actions: ``(N, D)`` executed [rad, m].
        reward: ``(N,)`` of the environment; None where it was not recorded.
        success: How it ended.
    """

    observations: Sequence[Observation]
    actions: Float32
    reward: Float32 | None
    success: bool


class PolicyEnv(gym.Wrapper[Float32, Float32, Any, Float32]):
    """An environment of vectors around one of a task.

    The reward is ``sparse``: 1 for the success; or ``staged``: that and the environment's own; or
    ``progress``: that and what its ``progress()``, a number that is 1 where the task is solved,
    rose by. The own one of the bimanual tasks is a difference of the stage. Differences of a
    potential leave the best policy the best without a discount (Ng et al., ICML 1999); with one,
    what comes late counts less, also the success itself. With ``progress`` the time is
    also over where nothing has got further for a while: most steps of a policy that often fails
    are of standing where it is stuck, and teach nothing.

    Args:
        env: With Dict observations, ``info['success']`` and ``unwrapped.robot``.
        checkpoint: Description of the policy.
        reward: See above.
        stuck: How long nothing may get further [s]; 0 for as long as the environment lasts.
        action_dim: Length of an action here.
        observation_dim: Length of an observation here.
        limit: Of each number of an action.
    """

    def __init__(
        self, env: DictEnv, checkpoint: Checkpoint, reward: RewardKind, stuck: float,
        action_dim: int, observation_dim: int, limit: float,
    ) -> None:
        super().__init__(env)
        self._own: Any = env  # with Dict observations
        robot = env.unwrapped.robot  # type: ignore[attr-defined]
        if checkpoint.action_dim != robot.dim:
            raise CheckpointError(
                f'the policy has actions of {checkpoint.action_dim} numbers, the environment '
                f'takes {robot.dim}: fine-tune it in the environment of the robot it was trained '
                f'on')
        check_robot(checkpoint, robot)
        check_seen(checkpoint)
        self._robot, self._kind = robot, reward
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (observation_dim,), np.float32)
        self.action_space = gym.spaces.Box(-limit, limit, (action_dim,), np.float32)
        self._steps, self._episodes = 0, 0
        self._progress = None if reward != 'progress' else progress_of(env)
        self._reached = self._best = 0.0
        self._best_at, self._patience = 0, round(stuck / robot.dt) if stuck else math.inf

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32, dict[str, Any]]:
        """As the environment's."""
        obs, info = self._own.reset(seed=seed, options=options)
        self._steps, self._episodes = 0, self._episodes + 1
        if self._progress is not None:
            self._reached = self._best = self._progress()
            self._best_at = 0
        # as run_episode seeds a policy, where the environment tells its seed
        self._begin(np.random.default_rng([int(info.get('seed', self._episodes)), 1]))
        return self._see(as_observation(obs, 0.0)), info

    def _execute(
        self, actions: Float32
    ) -> tuple[Float32, float, bool, bool, dict[str, Any]]:
        """Control steps ``(n, D)`` [rad, m], until the episode ends."""
        robot, total = self._robot, 0.0
        for number, action in enumerate(actions):
            obs, reward, terminated, truncated, info = self._own.step(
                np.clip(action, robot.lower, robot.upper))
            if not math.isfinite(float(reward)):
                raise ConfigError(
                    f'the environment gave reward {reward} at step {self._steps}: nothing can be '
                    f'learned from that; repair its reward')
            self._steps += 1
            total += float(reward) if self._kind == 'staged' else 0.0
            ended = terminated or truncated
            if ended or number == len(actions) - 1:
                break
            self._pass(as_observation(obs, self._steps * robot.dt))
        if ended and 'success' not in info:
            raise ConfigError(
                f"the environment's info must have 'success' (bool) to learn from; it has "
                f'{", ".join(info) or "nothing"}')
        total += bool(ended and info['success'])
        if self._progress is not None:
            before, self._reached = self._reached, self._progress()
            total += self._reached - before
            if self._reached > self._best + FURTHER:
                self._best, self._best_at = self._reached, self._steps
            truncated |= not terminated and self._steps - self._best_at >= self._patience
        seen = self._see(as_observation(obs, self._steps * robot.dt))
        return seen, total, bool(terminated), bool(truncated), info

    def transitions(self, episode: Recorded) -> list[Transitions]:
        """What a recorded episode would have been here: one for each step to begin with.

        Raises:
            ConfigError: staged rewards of an episode that has none.
            SpecError: it lacks an object that the policy looks at.
        """
        count = len(episode.actions)
        if self._kind == 'progress':
            raise ConfigError(
                'a recording does not say how far its task was at each step: take --reward sparse '
                'or staged, or leave out --dataset')
        if self._kind == 'staged' and episode.reward is None:
            raise ConfigError(
                'the dataset has no rewards (next.reward): take --reward sparse, which follows '
                'from the outcome of each episode')
        self._begin(np.random.default_rng(0))
        seen, actions = [], []
        for number, observation in enumerate(episode.observations):
            # on the grid of the control period, whatever a recording's stamps are
            observation = replace(observation, stamp=number * self._robot.dt)
            seen.append(self._see(observation))
            if number < count:
                following = episode.actions[number:number + self._length]
                actions.append(self._action_of(observation, following))
        if len(seen) == count:  # the end was not observed
            seen.append(seen[-1])
        reward = np.zeros(count, np.float32)
        if self._kind == 'staged' and episode.reward is not None:
            reward += episode.reward
        reward[-1] += episode.success
        return self._strided(
            np.stack(seen), self._held(np.stack(actions)), reward, success=episode.success)

    def _strided(
        self, seen: Float32, actions: Float32, reward: Float32, *, success: bool
    ) -> list[Transitions]:
        """Decisions over the steps that they are executed for, from each of the first ones on."""
        length, count = self._length, len(actions)
        ends = np.minimum(np.arange(count) + length, count)
        total = np.concatenate([[0.0], np.cumsum(reward, dtype=np.float64)])
        whole = Transitions(
            seen[:count], actions, (total[ends] - total[:count]).astype(np.float32), seen[ends],
            (ends == count) & success)
        return [whole[first::length] for first in range(min(length, count))]

    # what the two ways differ in
    _length: int

    def _begin(self, rng: np.random.Generator) -> None:
        raise NotImplementedError

    def _pass(self, observation: Observation) -> None:
        raise NotImplementedError

    def _see(self, observation: Observation) -> Float32:
        raise NotImplementedError

    def _action_of(self, observation: Observation, executed: Float32) -> Float32:
        raise NotImplementedError

    def _held(self, actions: Float32) -> Float32:
        """What a decision at each step would have been, of the actions of all."""
        return actions


def check_seen(checkpoint: Checkpoint) -> None:
    """Raise a :class:`ConfigError` unless joints and object poses are all that a policy sees."""
    if checkpoint.observation.cameras:
        raise ConfigError(
            'fine-tuning is for policies of joints and object poses, and this one sees pictures '
            f'({", ".join(checkpoint.observation.cameras)}): take one of a recipe without cameras')
