"""A try that gets nowhere goes back to where it still got on, and does something else from there.

Ecoffet, Huizinga, Lehman, Stanley and Clune, "First return, then explore", Nature 2021: whoever
explores from the start of an episode mostly repeats its beginning, well or badly. Here a policy
drives until the task has got no further for a while. Then the episode is played again up to a
moment before that, which a simulator does bit for bit; from there the policy drives with an offset
on the joints that stays for a while, since it comes back from anything shorter. What got further
is the way on, and the next place to come back to. What is kept in the end is one episode without
its dead ends: the policy's own, and better than it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from il_robot.algorithms.evaluate import as_observation
from il_robot.errors import ConfigError
from il_robot.spec import RobotSpec
from il_robot.types import Float32, Float64, Source, Step

FURTHER = 0.005
"""That is progress; the rest is noise."""
_PATIENCE = 50  # control steps without progress after which a way is given up
_BACK = 75  # most control steps from a dead end back to where another way begins
_LASTS = 15, 100  # control steps that an offset stays
_FADE = 5  # control steps in which it comes and goes


def progress_of(env: Any) -> Callable[[], float]:
    """What tells how far the task of an environment is, from 0 to 1 where it is solved.

    Raises:
        ConfigError: nothing does.
    """
    progress: Callable[[], float] | None = getattr(env.unwrapped, 'progress', None)
    if progress is None:
        raise ConfigError(
            f'{env.unwrapped} has no progress(), which says from 0 to 1 how far its task is: take '
            f'--reward sparse or staged')
    return progress


def noise_units(robot: RobotSpec) -> Float64:
    """``(D,)`` what 1 rad of noise is on each joint: on a gripper that share of its stroke."""
    return np.array([robot.gripper.upper / np.pi if name in robot.gripper_names else 1.0
                     for name in robot.joint_names])


@dataclass
class Way:
    """What was done from the start on.

    Attributes:
        steps: The rows.
        actions: Their ``(D,)`` actions.
        progress: Before each of them, and at the end.
        success: Whether the task was solved.
        stage: Highest stage reached.
        stage_name: Its name.
    """

    steps: list[Step] = field(default_factory=list)
    actions: list[Float32] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)
    success: bool = False
    stage: int = 0
    stage_name: str = ''

    @property
    def furthest(self) -> int:
        """How many steps lead to where it came furthest."""
        best = max(self.progress)
        return next(i for i, p in enumerate(self.progress) if p >= best - FURTHER)

    def cut(self, count: int) -> Way:
        """Its first steps."""
        return Way(self.steps[:count], self.actions[:count], self.progress[:count])


class Offset:
    """``(D,)`` [rad, m] that comes, stays for a while and goes."""

    def __init__(self, rng: np.random.Generator, scale: float, unit: Float64) -> None:
        self._lasts = int(rng.integers(*_LASTS))
        size = scale * 10.0 ** rng.uniform(-0.5, 0.5)
        self._value = size * unit * rng.standard_normal(len(unit))
        self._age = 0

    def next(self) -> Float64:
        """Of this control step."""
        self._age += 1
        share = min(self._age, self._lasts - self._age) / _FADE
        return self._value * min(max(share, 0.0), 1.0)


class Returning:
    """Finds a way through one episode.

    Args:
        env: Of one episode after the other, each the same for the same seed.
        policy: Drives; ``reset(rng)`` and ``act(observation)``.
        scale: Deviation of the offsets on the joints [rad], times or by 3.
        tries: Most ways that are begun beside the first.

    Attributes:
        steps: Control steps simulated so far.
    """

    def __init__(self, env: Any, policy: Any, scale: float, tries: int) -> None:
        self._env, self._policy, self._scale, self._tries = env, policy, scale, tries
        own = env.unwrapped
        self._progress = progress_of(env)
        self._robot = own.robot
        self._unit = noise_units(own.robot)
        self.steps = 0

    def find(self, seed: int) -> Way:
        """The way that came furthest; without its dead ends where it succeeded."""
        rng = np.random.default_rng([seed, 5])
        best = way = self._go(seed, Way(), None)
        for _ in range(self._tries):
            if best.success:
                break
            end = best.furthest
            start = max(0, end - int(rng.integers(0, _BACK)))
            way = self._go(seed, best.cut(start), Offset(rng, self._scale, self._unit))
            if way.success or max(way.progress) > max(best.progress) + FURTHER:
                best = way
        return best

    def _go(self, seed: int, way: Way, offset: Offset | None) -> Way:
        """Play a way again, and go on from its end until nothing gets further."""
        obs, info = self._env.reset(seed=seed)
        for action in way.actions:
            obs, *_, info = self._env.step(action)
        self.steps += len(way.actions)
        self._policy.reset(np.random.default_rng([seed, 1, len(way.actions)]))
        way.progress.append(self._progress())
        best, since, ended = max(way.progress), 0, False
        while not ended and since < _PATIENCE:
            observation = as_observation(obs, len(way.steps) * self._robot.dt)
            proposal = self._policy.act(observation)
            action = proposal
            if offset is not None:
                action = np.clip(proposal + offset.next(), self._robot.lower,
                                 self._robot.upper).astype(np.float32)
            obs, reward, terminated, truncated, info = self._env.step(action)
            self.steps += 1
            way.steps.append(Step(
                observation, self._env.unwrapped.executed,
                (Source.POLICY,) * len(self._robot.arms), policy=proposal, reward=float(reward),
                success=bool(info['success'])))
            way.actions.append(action)
            way.progress.append(self._progress())
            since += 1
            if way.progress[-1] > best + FURTHER:
                best, since = way.progress[-1], 0
            ended = terminated or truncated
        way.success = bool(info['success'])
        way.stage, way.stage_name = int(info.get('stage', 0)), str(info.get('stage_name', ''))
        return way
