"""What can go wrong on purpose; everything is off by default and drawn from the episode's seed."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

EVENT_WINDOW = (10, 110)
"""Control ticks between which shoves and drops happen."""
DROP_TICKS = 8
NOISE_CORRELATION = 0.82
"""Per tick; exp(-0.02 s / 0.1 s)."""
BURST_TICKS = 25
"""Control ticks for which noise that comes in bursts is on or off; 0.5 s at 50 Hz."""


@dataclass(frozen=True)
class Disturbances:
    """Parameters of the disturbances of one episode.

    Attributes:
        shoves: How many times a part is pushed, at random ticks.
        shove_speed: Largest speed a push gives [m/s].
        action_noise: Standard deviation added to the executed action [rad; widths scaled by
            the gripper's range over pi], correlated over time (time constant 0.1 s).
        noise_share: Share of the time in which that noise acts, in bursts of 0.5 s. Below 1 it
            may be larger than what the task's finest phase forgives: in between, the expert
            shows how to come back, and finishes.
        action_delay: Control ticks between command and execution.
        observation_noise: Standard deviation on joint positions [rad] and part positions [m].
        friction_scale, mass_scale: Half width of a log-uniform factor (0.5 means /1.5 to *1.5).
        start_posture: Standard deviation of the start posture around rest [rad].
        camera_jitter: Standard deviation of camera position [m] and aim [m].
        drops: How many times all grippers are forced open for 8 ticks.
    """

    shoves: int = 0
    shove_speed: float = 0.6
    action_noise: float = 0.0
    noise_share: float = 1.0
    action_delay: int = 0
    observation_noise: float = 0.0
    friction_scale: float = 0.0
    mass_scale: float = 0.0
    start_posture: float = 0.0
    camera_jitter: float = 0.0
    drops: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise ValueError(f'{field.name} must be >= 0, got {value}')
        if self.noise_share > 1:
            raise ValueError(f'noise_share must be from 0 to 1, got {self.noise_share}')
        most = EVENT_WINDOW[1] - EVENT_WINDOW[0]
        for name in ('shoves', 'drops'):
            if getattr(self, name) > most:
                raise ValueError(f'{name} must be at most {most}, got {getattr(self, name)}')


def event_ticks(rng: np.random.Generator, count: int) -> frozenset[int]:
    """Distinct ticks at which ``count`` events happen."""
    low, high = EVENT_WINDOW
    return frozenset(int(t) for t in rng.choice(np.arange(low, high), count, replace=False)) \
        if count else frozenset()


def factor(rng: np.random.Generator, spread: float) -> float:
    """A log-uniform factor in [1 / (1 + spread), 1 + spread]."""
    limit = np.log1p(spread)
    return float(np.exp(rng.uniform(-limit, limit)))


def correlated(
    rng: np.random.Generator, previous: NDArray[np.float64], sigma: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The next value of a stationary AR(1) process with standard deviation ``sigma``."""
    a = NOISE_CORRELATION
    fresh = rng.standard_normal(previous.shape)
    return a * previous + np.sqrt(1 - a * a) * sigma * fresh
