"""How much each row of a dataset with corrections counts in training.

Intervention weighting: Mandlekar et al., "Human-in-the-Loop Imitation Learning using Remote
Teleoperation" (IWR), 2020, section IV: what a person does where the policy went wrong is rare
and matters most, so corrections and the rest are given equal shares.

Recovery and correction apart: Hu et al., "RaC: Robot Learning for Long-Horizon Tasks by Scaling
Recovery and Correction", 2025: a person first brings the robot back to where things look
familiar, then goes on with the task.

Standing still: who took over and does not know what to do says that nothing moves, in a state the
policy is stuck in as well. Kim et al., "OpenVLA: An Open-Source Vision-Language-Action Model",
2024, leave such steps out of demonstrations, too.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from il_robot.data.dataset import Dataset
from il_robot.types import Float32, Source

_STILL = 0.05
"""A command that moves no joint faster than that stands still [rad/s, m/s]."""


class Phase(IntEnum):
    """What a row is part of."""

    DEMONSTRATION = 0
    """A person or the expert drives, and no policy had driven before."""
    POLICY = 1
    """A policy drives an arm."""
    BEFORE = 2
    """A policy drives, and somebody takes over soon: it was doing something wrong."""
    RECOVERY = 3
    """The beginning of a correction."""
    CORRECTION = 4
    """The rest of it."""


@dataclass(frozen=True)
class Weights:
    """Weights of rows in the loss, by phase; those of weight 0 are left out.

    Attributes:
        demonstration, policy, before, recovery, correction: See :class:`Phase`. Policy-driven
            rows count only where they have a label.
        before_seconds: How long before a takeover ``before`` begins [s].
        recovery_seconds: How long a correction is ``recovery`` [s].
        share: Of recovery and correction together in the sum of all weights; 0.5 is IWR; 0
            leaves it as it comes out.
        standing: Factor on the rows in which a person or the expert drives and moves nothing, for
            ``standing_seconds`` at least; 0 leaves them out.
        standing_seconds: See ``standing`` [s].
    """

    demonstration: float = 1.0
    policy: float = 1.0
    before: float = 1.0
    recovery: float = 1.0
    correction: float = 1.0
    before_seconds: float = 0.0
    recovery_seconds: float = 0.0
    share: float = 0.0
    standing: float = 1.0
    standing_seconds: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f'{field.name} must be >= 0, got {getattr(self, field.name)}')
        if self.share >= 1:
            raise ValueError(f'share must be below 1, got {self.share}')
        if not self.standing_seconds > 0:
            raise ValueError(f'standing_seconds must be > 0, got {self.standing_seconds}')


def phases(dataset: Dataset, before: float, recovery: float) -> NDArray[np.int8]:
    """``(N,)`` the :class:`Phase` of each row.

    Args:
        dataset: With who drove and what was an intervention.
        before: How long before a takeover :attr:`Phase.BEFORE` begins [s].
        recovery: How long a correction is :attr:`Phase.RECOVERY` [s].
    """
    by_policy = (dataset.source == int(Source.POLICY)).any(axis=1)
    correcting = dataset.intervention
    out = np.where(by_policy, Phase.POLICY, Phase.DEMONSTRATION).astype(np.int8)
    out[correcting] = Phase.CORRECTION
    ahead, length = (round(seconds * dataset.fps) for seconds in (before, recovery))
    for episode in dataset.episodes:
        inside = correcting[episode.start:episode.stop]
        for taken in episode.start + np.flatnonzero(np.diff(inside.astype(int), prepend=0) == 1):
            for rows, belongs, phase in (
                (slice(max(episode.start, taken - ahead), taken), by_policy & ~correcting,
                 Phase.BEFORE),
                (slice(taken, min(episode.stop, taken + length)), correcting, Phase.RECOVERY),
            ):
                out[rows][belongs[rows]] = phase
    return out


def standing(dataset: Dataset, seconds: float) -> NDArray[np.bool_]:
    """``(N,)`` rows of stretches in which nobody moved anything, although no policy drove.

    Args:
        dataset: With who drove.
        seconds: Shortest stretch [s].
    """
    change = np.abs(np.diff(dataset.action, axis=0, prepend=dataset.action[:1])).max(axis=1)
    still = (change < _STILL / dataset.fps) & (dataset.source != int(Source.POLICY)).all(axis=1)
    out = np.zeros(len(still), dtype=bool)
    for episode in dataset.episodes:
        inside = np.pad(still[episode.start:episode.stop].astype(int), 1)
        inside[1] = 0  # of the first row nobody knows what came before
        begins, ends = (episode.start + np.flatnonzero(np.diff(inside) == way) for way in (1, -1))
        for begin, end in zip(begins, ends):
            out[begin:end] = end - begin >= seconds * dataset.fps
    return out


def row_weights(dataset: Dataset, usable: NDArray[np.bool_], weights: Weights) -> Float32:
    """``(N,)`` weight of each row, mean 1 over the usable ones.

    Args:
        dataset: Of the rows.
        usable: ``(N,)`` rows with a label; the others get 0.
        weights: What is wanted.
    """
    phase = phases(dataset, weights.before_seconds, weights.recovery_seconds)
    table = np.array([getattr(weights, p.name.lower()) for p in Phase])
    out = np.where(usable, table[phase], 0.0)
    if dataset.weight is not None:
        out *= dataset.weight
    if weights.standing != 1.0:
        out[standing(dataset, weights.standing_seconds)] *= weights.standing
    corrected = phase >= Phase.RECOVERY
    total, part = out.sum(), out[corrected].sum()
    if weights.share and 0 < part < total:
        out[corrected] *= weights.share / part
        out[~corrected] *= (1 - weights.share) / (total - part)
    mean = out[usable].mean() if usable.any() else 0.0
    return (out / mean if mean else out).astype(np.float32)
