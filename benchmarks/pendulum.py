"""Gymnasium's Pendulum-v1 for many episodes at once, and an expert for it; numpy only.

Both halves of dagger_vs_imitation.py import it, each in its own environment, so that they have
the same expert and are evaluated on the same episodes; :func:`differences` compares it with
Gymnasium's own. An episode has 200 steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTH = 200
#: Episodes, of every round; round 0 is the expert's alone.
EPISODES = 3
EVALUATED = range(200)
"""Reset seeds of the evaluation; rounds draw theirs from 1 000 000."""
TORQUE, SPEED = 2.0, 8.0
_UPRIGHT = 5.0  # energy at rest, standing [J]
_DT, _G = 0.05, 10.0

Array = NDArray[Any]
Rounds = list[tuple[float, float, float]]


def expert(observation: Array) -> Array:
    """Torques ``(N, 1)`` float32 for observations ``(N, 3)``: cosine, sine, speed [rad/s].

    Pumps energy until there is enough to stand (Astrom and Furuta, "Swinging up a pendulum by
    energy control", Automatica 2000), then holds it upright.
    """
    cosine, sine, speed = np.asarray(observation, np.float64).T
    angle = np.arctan2(sine, cosine)
    lacking = _UPRIGHT + 0.4 - speed**2 / 6 - _UPRIGHT * cosine
    pump = 3.0 * lacking * np.where(np.abs(speed) < 1e-3, 1.0, np.tanh(2.0 * speed))
    hold = -12.0 * angle - 3.5 * speed
    near = np.abs(angle + 0.2 * speed) < 0.5
    torque = np.clip(np.where(near, hold, pump), -TORQUE, TORQUE)
    return torque[:, None].astype(np.float32)


def starts(seeds: range) -> tuple[Array, Array]:
    """Angles and speeds ``(N,)`` at which the episodes of these reset seeds begin."""
    states = np.array([np.random.Generator(np.random.PCG64(seed)).uniform(
        (-np.pi, -1.0), (np.pi, 1.0)) for seed in seeds])
    return states[:, 0], states[:, 1]


def beta(schedule: str, number: int) -> float:
    """The expert's share of round ``number``.

    Args:
        schedule: ``linear``, the imitation library's default, or ``exponential``, that of
            `il_robot dagger`.
        number: 0 is the first.
    """
    return max(0.0, 1.0 - number / 15) if schedule == 'linear' else 0.5**number


def observe(angle: Array, speed: Array) -> Array:
    """``(N, 3)`` float32."""
    return np.stack([np.cos(angle), np.sin(angle), speed], 1).astype(np.float32)


def returns(act: Callable[[Array], Array], seeds: range) -> Array:
    """Sums of rewards ``(N,)`` of the episodes of these reset seeds.

    Args:
        act: Torques ``(N, 1)`` for observations ``(N, 3)``.
        seeds: Those of ``env.reset(seed=...)``, which begins alike.
    """
    angle, speed = starts(seeds)
    total = np.zeros(len(angle))
    for _ in range(LENGTH):
        torque = np.clip(act(observe(angle, speed))[:, 0], -TORQUE, TORQUE)
        wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
        total -= wrapped**2 + 0.1 * speed**2 + 0.001 * torque**2
        speed = np.clip(
            speed + (1.5 * _G * np.sin(angle) + 3.0 * torque) * _DT, -SPEED, SPEED)
        angle = angle + speed * _DT
    return total


class Clock:
    """Time since it was made, without that of the evaluations.

    Args:
        target: Mean return at which to stop.

    Attributes:
        rounds: Of each so far: seconds, seconds of the processor, mean return of the policy.
    """

    def __init__(self, target: float) -> None:
        self._target, self.rounds = target, Rounds()
        self._begin = _now()

    def reached(self, act: Callable[[Array], Array]) -> bool:
        """Evaluate the policy of a round; whether it is as good as wanted."""
        begin = _now()
        found = float(returns(act, EVALUATED).mean())
        wall, processor = (begin - self._begin).tolist()
        self.rounds.append((wall, processor, found))
        self._begin += _now() - begin
        return found >= self._target


def _now() -> Array:
    return np.array([time.perf_counter(), time.process_time()])


def differences(env: Any, seed: int = 5) -> float:
    """Difference of an episode's return to that of Gymnasium's environment, driven likewise."""
    observation, _ = env.reset(seed=seed)
    total, ended = 0.0, False
    while not ended:
        observation, reward, terminated, truncated, _ = env.step(expert(observation[None])[0])
        total, ended = total + float(reward), terminated or truncated
    return abs(total - float(returns(expert, range(seed, seed + 1))[0]))
