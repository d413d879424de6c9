"""Environments of Gymnasium with a scripted expert each, as the flat learners see them.

Observations become one row of numbers (Gymnasium's own ``FlattenObservation``); an action is a row
of numbers or one of a few choices.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from il_robot.errors import ConfigError
from il_robot.types import Float32

Act = Callable[[Float32], NDArray[Any]]
"""Actions ``(N, A)`` or choices ``(N,)`` for observations ``(N, O)``."""
_SUCCESS = ('is_success', 'success')


@dataclass(frozen=True)
class Application:
    """One environment.

    Attributes:
        env: Gymnasium's id, with ``module:`` before it where a package registers it; or
            ``module:callable``, which makes one.
        expert: ``module:callable``; called with the environment (unwrapped by the expert as it
            likes) and its own observation, it returns an action of the environment's own.
        options: Further arguments of ``gymnasium.make``, or of the callable.
        score: Which number of an episode counts: its ``return``, or its ``success`` (of ``info``).
        gamma: Discount that suits its horizon.
        steps: Of the environment that reinforcement learning may take.
        demonstrations: Episodes of the expert that methods without a teacher begin with.
        noise: Deviation of Gaussian noise on what the expert does when he demonstrates, not on
            his labels; actions that are numbers go from -1 to 1.
    """

    env: str
    expert: str
    options: Mapping[str, Any] = field(default_factory=dict)
    score: str = 'return'
    gamma: float = 0.99
    steps: int = 200_000
    demonstrations: int = 10
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.noise < 1:
            raise ValueError(f'noise must be from 0 to below 1, got {self.noise}')
        if self.score not in ('return', 'success'):
            raise ValueError(f'score must be return or success, got {self.score}')
        if not 0 < self.gamma <= 1:
            raise ValueError(f'gamma must be in (0, 1], got {self.gamma}')
        for name in ('steps', 'demonstrations'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be >= 1, got {getattr(self, name)}')


@dataclass(frozen=True)
class MakeFlat:
    """Makes the environment, flattened; picklable. Actions with bounds go from -1 to 1."""

    application: Application

    def __call__(self) -> gym.Env[Float32, Any]:
        """A fresh one.

        Raises:
            ConfigError: it does not exist, or its spaces are of another kind.
        """
        given = self.application
        try:
            env = _make(given.env)(**given.options)
        except (gym.error.Error, ImportError, TypeError) as error:
            raise ConfigError(f'{given.env} cannot be made: {error}') from None
        if not isinstance(env, gym.Env):
            raise ConfigError(f'{given.env} made {env!r}, which is no environment of Gymnasium')
        space = env.action_space
        if isinstance(space, gym.spaces.Box) and len(space.shape) == 1:
            if np.isfinite([space.low, space.high]).all():
                env = gym.wrappers.RescaleAction(env, np.float32(-1), np.float32(1))
        elif not isinstance(space, gym.spaces.Discrete) or space.start != 0:
            raise ConfigError(
                f'{given.env} has actions of {space}: supported are Discrete from 0 on and Box '
                'with one axis')
        try:
            flat = gym.wrappers.FlattenObservation(env)
        except NotImplementedError:
            flat = None
        if flat is None or not isinstance(flat.observation_space, gym.spaces.Box):
            raise ConfigError(
                f'{given.env} has observations of {env.observation_space}, which cannot be '
                'written as one row of numbers: supported is what FlattenObservation makes a Box '
                'of')
        return gym.wrappers.TransformObservation(
            flat, lambda obs: np.asarray(obs, np.float32),
            gym.spaces.Box(-np.inf, np.inf, flat.observation_space.shape, np.float32))


def _make(name: str) -> Callable[..., Any]:
    """What makes an environment."""
    module, _, attribute = name.partition(':')
    if attribute and hasattr(importlib.import_module(module), attribute):
        return load_callable(name)
    return partial(gym.make, name)


def load_callable(name: str) -> Callable[..., Any]:
    """``module:callable``.

    Raises:
        ConfigError: there is none.
    """
    module, _, attribute = name.partition(':')
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f'{name!r}: {error}; write MODULE:CALLABLE, with the module on '
                          'PYTHONPATH') from None
    if not callable(found):
        raise ConfigError(f'{name!r} is no callable')
    called: Callable[..., Any] = found
    return called


def _inside(env: Any, wrapper: type) -> Any:
    """What the outermost wrapper of a kind wraps."""
    found = False
    while not found:
        found, env = isinstance(env, wrapper), env.env
    return env


class Teacher:
    """The expert of one environment.

    Args:
        application: Whose.
        env: Flattened.

    Raises:
        ConfigError: the expert is no callable.
    """

    def __init__(self, application: Application, env: gym.Env[Float32, Any]) -> None:
        self._name, self._env = application.expert, env
        self._expert = load_callable(application.expert)
        own: Any = _inside(env, gym.wrappers.FlattenObservation)
        self._observations = own.observation_space
        self._scaled = isinstance(own, gym.wrappers.RescaleAction)
        self._actions: Any = own.env.action_space if self._scaled else own.action_space
        self._asked: Float32 | None = None
        self._answer: Any = None

    def __call__(self, obs: Float32) -> Any:
        """Its action for an observation of the flattened environment.

        He is asked once for each: an expert may remember what he did.

        Raises:
            ConfigError: it raised, or its action is none of the environment's.
        """
        if obs is not self._asked:
            self._answer, self._asked = self._ask(obs), obs
        return self._answer

    def _ask(self, obs: Float32) -> Any:
        own = gym.spaces.unflatten(self._observations, obs)
        try:
            action = self._expert(self._env, own)
        except Exception as error:
            raise ConfigError(
                f'the expert {self._name} raised {type(error).__name__}: {error}') from error
        space = self._actions
        try:
            if isinstance(space, gym.spaces.Discrete):
                found = np.asarray(action)
                fits = found.shape == () and found == np.int64(found) and space.contains(
                    np.int64(found))
                answer: Any = np.int64(found) if fits else None
            else:
                found = np.clip(np.asarray(action, np.float32), space.low, space.high)
                fits = found.shape == space.shape and bool(np.isfinite(found).all())
                answer = 2 * (found - space.low) / (space.high - space.low) - 1 \
                    if fits and self._scaled else found
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise ConfigError(f'the expert {self._name} answered {action!r}; an action here is '
                              f'{space}')
        return answer


@dataclass(frozen=True, eq=False)
class Episode:
    """One that was driven.

    Attributes:
        obs: ``(T + 1, O)``.
        did: ``(T, A)`` or ``(T,)`` what was executed.
        labels: The same of the expert, or None.
        reward: ``(T,)``.
        terminated: Whether the task ended it.
        success: What ``info`` says at the end; None where nothing.
    """

    obs: Float32
    did: NDArray[Any]
    labels: NDArray[Any] | None
    reward: Float32
    terminated: bool
    success: bool | None

    def score(self, kind: str) -> float:
        """Its return, or its success.

        Raises:
            ConfigError: nothing says whether it was one.
        """
        if kind == 'return':
            return float(self.reward.sum())
        if self.success is None:
            raise ConfigError(f"info has none of {', '.join(_SUCCESS)} at the end of an episode: "
                              'take score: return')
        return float(self.success)


def drive(
    env: gym.Env[Float32, Any], seed: int, act: Callable[[Float32], Any],
    teacher: Callable[[Float32], Any] | None = None, noise: float = 0.0,
) -> Episode:
    """One episode.

    Args:
        env: Flattened.
        seed: Of its reset, and of the noise.
        act: Drives.
        teacher: Labels every state, where there is one.
        noise: On what is done; choices have none.
    """
    obs, _ = env.reset(seed=seed)
    space: Any = env.action_space
    rng = np.random.default_rng([seed, 5])
    shaken = noise > 0 and isinstance(space, gym.spaces.Box)
    seen, did, labels, rewards = [obs], [], [], []
    while True:
        if teacher is not None:
            labels.append(teacher(obs))
        action = act(obs)
        if shaken:
            action = np.clip(action + noise * rng.standard_normal(np.shape(action)), space.low,
                             space.high).astype(np.float32)
        did.append(action)
        obs, reward, terminated, truncated, info = env.step(did[-1])
        seen.append(obs)
        rewards.append(reward)
        if terminated or truncated:
            break
    said = [bool(info[key]) for key in _SUCCESS if key in info]
    return Episode(
        np.stack(seen), np.stack(did), np.stack(labels) if labels else None,
        np.array(rewards, np.float32), bool(terminated), said[0] if said else None)


def scores(make: MakeFlat, act: Act, seeds: Sequence[int], most: int = 25) -> list[float]:
    """Of an episode of each seed, driven without noise, ``most`` of them at once."""
    waiting, found = list(enumerate(seeds)), [0.0] * len(seeds)
    envs = [make() for _ in range(min(most, len(waiting)))]
    running: dict[int, tuple[int, Float32, float]] = {}
    kind = make.application.score
    while waiting or running:
        for slot in range(len(envs)):
            if slot not in running and waiting:
                place, seed = waiting.pop(0)
                running[slot] = place, envs[slot].reset(seed=seed)[0], 0.0
        slots = list(running)
        actions = act(np.stack([running[s][1] for s in slots]))
        for slot, action in zip(slots, actions):
            place, _, total = running[slot]
            obs, reward, terminated, truncated, info = envs[slot].step(action)
            running[slot] = place, obs, total + float(reward)
            if terminated or truncated:
                said = [bool(info[key]) for key in _SUCCESS if key in info]
                found[place] = Episode(
                    obs[None], np.zeros(0), None, np.array([running[slot][2]], np.float32),
                    bool(terminated), said[0] if said else None).score(kind)
                del running[slot]
    for env in envs:
        env.close()
    return found
