"""The chunk buffer: overlapping action chunks in, the action for this instant out.

Two ways of executing chunks, both used by the arbiter and by evaluation in process:

- ``ensemble``: every chunk that covers ``now`` votes, with the weights ``exp(-m i)`` where
  ``i = 0`` is the oldest (temporal ensembling; Zhao et al., "Learning Fine-Grained Bimanual
  Manipulation with Low-Cost Hardware", RSS 2023, section IV-B).
- ``newest``: receding horizon; the newest chunk alone drives until the next one is due
  (Chi et al., "Diffusion Policy", RSS 2023, section II-D).

Steps are found by their time, so the steps of a late chunk that have already passed are
skipped, and a slow network costs freshness, never a jump back in time. Between two steps the
targets are interpolated, so ``now`` need not lie on the chunk's grid.

A chunk of one step (a one-step policy) is no plan that ends, but the newest target: it stays until
the next one comes, at most :data:`HELD`. In real time every answer comes after its own instant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from il_robot.errors import ActionError
from il_robot.types import ActionChunk, Float32

# Positions inside a chunk are rounded to this fraction of a step, so that `now` on the grid
# gives the stored target itself and not a mixture of two. Wall-clock seconds as floats are that
# coarse: 2.4e-7 s is 1.2e-5 of a step at 50 Hz.
_GRID = 1e-4
HELD = 0.5
"""How long the target of a one-step policy stays [s]; an arm that hears no more stands there."""


@dataclass(frozen=True)
class Execution:
    """How chunks are executed.

    Attributes:
        mode: ``ensemble`` or ``newest``, see the module.
        n_action_steps: Control steps from one prediction to the next.
        decay: ``m`` of the weights ``exp(-m i)``, ``i = 0`` the oldest chunk; 0 is the plain
            mean, negative values favour the newest. Ignored in mode ``newest``.
    """

    mode: Literal['ensemble', 'newest'] = 'ensemble'
    n_action_steps: int = 1
    decay: float = 0.1

    def __post_init__(self) -> None:
        if self.n_action_steps < 1:
            raise ValueError(f'n_action_steps must be >= 1, got {self.n_action_steps}')
        if not math.isfinite(self.decay):
            raise ValueError(f'decay must be finite, got {self.decay}')


class ChunkBuffer:
    """Holds the newest chunks of one driver and gives the action for any instant they cover.

    No clock and no lock: the caller passes ``now`` and serialises its calls.

    Args:
        chunk_size: Most steps a chunk may have, T.
        dim: Length of an action, D.
        dt: Control period [s]; also the duration of a chunk of one step.
        execution: See :class:`Execution`.
    """

    def __init__(self, chunk_size: int, dim: int, dt: float, execution: Execution) -> None:
        self.execution = execution
        self._dt = dt
        # One prediction per n_action_steps: more than this many never overlap.
        n = -(-chunk_size // execution.n_action_steps) if execution.mode == 'ensemble' else 1
        self._positions = np.zeros((n, chunk_size, dim), np.float32)
        self._start = np.zeros(n)
        self._rate = np.ones(n)
        self._size = np.zeros(n)
        # ring[newest]: slots from the oldest to the newest.
        self._ring = (np.arange(n) + np.arange(1, n + 1)[:, None]) % n
        # weights[k - 1, :k]: normalised weights of k chunks, oldest first. The largest exponent
        # is taken out first, so that no decay overflows.
        exponent = -execution.decay * np.arange(n)
        exponent = exponent - np.maximum.accumulate(exponent)[:, None]
        weights = np.tril(np.exp(np.minimum(exponent, 0.0)))
        self._weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
        self.clear()

    def clear(self) -> None:
        """Forget everything (new episode, handover, stop)."""
        self._size[:] = 0
        self._newest = 0
        self._stamp = -math.inf

    @property
    def stamp(self) -> float:
        """Time of the observation behind the newest chunk [s]; -inf while empty."""
        return self._stamp

    def push(self, chunk: ActionChunk) -> bool:
        """Add a chunk.

        Returns:
            Whether it was taken: False for one not newer than the newest (a reply that was
            overtaken on its way).

        Raises:
            ActionError: too long, wrong D, or times that are not evenly spaced.
        """
        steps, dim = chunk.positions.shape
        _, most, expected = self._positions.shape
        if not 1 <= steps <= most or dim != expected:
            raise ActionError(
                f'chunk has shape {chunk.positions.shape}, expected (1 to {most}, {expected})'
            )
        period = self._dt
        if steps > 1:
            gaps = np.diff(chunk.times)
            period = float(gaps.mean())
            if np.abs(gaps - period).max() > 1e-3 * period:
                raise ActionError(f'chunk times must be evenly spaced, got steps {gaps} s')
        if chunk.stamp <= self._stamp:
            return False
        slot = (self._newest + 1) % len(self._start)
        self._positions[slot, :steps] = chunk.positions
        self._positions[slot, steps:] = chunk.positions[-1]
        self._start[slot] = chunk.times[0]
        self._rate[slot] = 1.0 / period
        self._size[slot] = steps
        self._newest, self._stamp = slot, chunk.stamp
        return True

    def due(self, now: float) -> bool:
        """Whether the next prediction should be made from the observation of ``now``."""
        elapsed = (now - self._stamp) / self._dt
        return elapsed >= self.execution.n_action_steps - _GRID

    def action(self, now: float) -> Float32 | None:
        """The ``(D,)`` action for ``now``, or None when no chunk covers it (empty or stale)."""
        slots = self._ring[self._newest]
        where = (now - self._start[slots]) * self._rate[slots]
        where = np.rint(where / _GRID) * _GRID
        live = (where >= 0) & (where < self._size[slots])
        if not live.any():
            held = where[-1] / self._rate[slots[-1]]  # of the newest
            if self._size[slots[-1]] == 1 and 0 <= held <= HELD:
                last: Float32 = self._positions[slots[-1], 0].copy()
                return last
            return None
        slots, where = slots[live], where[live]
        count = len(slots)
        step = where.astype(np.intp)
        votes = self._positions[slots, step]
        fraction = (where - step).astype(np.float32)[:, None]
        if fraction.any():
            following = np.minimum(step + 1, self._positions.shape[1] - 1)
            votes = votes + fraction * (self._positions[slots, following] - votes)
        action: Float32 = votes[0] if count == 1 else self._weights[count - 1, :count] @ votes
        return action
