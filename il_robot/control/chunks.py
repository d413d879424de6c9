"""The chunk buffer: overlapping action chunks in, the action for this instant out.

The ways of executing chunks, used by the arbiter and by evaluation in process:

- ``ensemble``: every chunk that covers ``now`` votes, with the weights ``exp(-m i)`` where
  ``i = 0`` is the oldest (temporal ensembling; Zhao et al., "Learning Fine-Grained Bimanual
  Manipulation with Low-Cost Hardware", RSS 2023, section IV-B).
- ``newest``: receding horizon; the newest chunk alone drives until the next one is due
  (Chi et al., "Diffusion Policy", RSS 2023, section II-D).
- ``blend``: as ``newest``, but from the instant a chunk comes in the action fades from what was
  being executed to it, over ``blend_steps``, by a polynomial whose first and second derivatives
  are 0 at both ends: position, velocity and acceleration have no step that the plans have not.
- ``rtc``: as ``newest`` here; the policy itself continues the plan that is being executed
  (:mod:`il_robot.policies.inpainting`). Because the newest chunk alone drives, that plan is the
  policy's own last chunk, and no second buffer need be kept in step with this one.

Steps are found by their time, so the steps of a late chunk that have already passed are
skipped, and a slow network costs freshness, never a jump back in time. Between two steps the
targets are interpolated (:func:`between`), so ``now`` need not lie on the chunk's grid.

A chunk of one step (a one-step policy) is no plan that ends, but the newest target: it stays until
the next one comes, at most :data:`HELD`. In real time every answer comes after its own instant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from il_robot.control.compiled import compiled, warm
from il_robot.errors import ActionError
from il_robot.types import ActionChunk, Float32, Float64

# Positions inside a chunk are rounded to this fraction of a step, so that `now` on the grid
# gives the stored target itself and not a mixture of two. Wall-clock seconds as floats are that
# coarse: 2.4e-7 s is 1.2e-5 of a step at 50 Hz.
_GRID = 1e-4
HELD = 0.5
"""How long the target of a one-step policy stays [s]; an arm that hears no more stands there."""

# As far back a stamp belongs to another time [s].
_RESTART = 1.0


@dataclass(frozen=True)
class Execution:
    """How chunks are executed.

    Attributes:
        mode: ``ensemble``, ``newest``, ``blend`` or ``rtc``, see the module.
        n_action_steps: Control steps from one prediction to the next.
        decay: ``m`` of the weights ``exp(-m i)``, ``i = 0`` the oldest chunk; 0 is the plain
            mean, negative values favour the newest. Of mode ``ensemble`` alone.
        blend_steps: Control steps that a fade takes; 0 switches at once. Of mode ``blend``.
        inpaint: How the policy continues the plan, see :mod:`il_robot.policies.inpainting`. Of
            mode ``rtc``.
    """

    mode: Literal['ensemble', 'newest', 'blend', 'rtc'] = 'ensemble'
    n_action_steps: int = 1
    decay: float = 0.1
    blend_steps: int = 5
    inpaint: Literal['replace', 'guide'] = 'replace'

    def __post_init__(self) -> None:
        if self.n_action_steps < 1:
            raise ValueError(f'n_action_steps must be >= 1, got {self.n_action_steps}')
        if not math.isfinite(self.decay):
            raise ValueError(f'decay must be finite, got {self.decay}')
        if self.blend_steps < 0:
            raise ValueError(f'blend_steps must be >= 0, got {self.blend_steps}')

    @property
    def inpainting(self) -> Literal['replace', 'guide'] | None:
        """How the policy must continue its last chunk; None where it need not."""
        return self.inpaint if self.mode == 'rtc' else None


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
        self._plain = execution.mode != 'blend'
        # One prediction per n_action_steps: more than this many never overlap, or fade.
        n = 1
        if execution.mode == 'ensemble':
            n = -(-chunk_size // execution.n_action_steps)
        elif execution.mode == 'blend':
            n = 2 + execution.blend_steps // execution.n_action_steps
        self._positions = np.zeros((n, chunk_size, dim), np.float32)
        self._start = np.zeros(n)
        self._rate = np.ones(n)
        self._size = np.zeros(n)
        self._since = np.full(n, -math.inf)
        # ring[newest]: slots from the oldest to the newest.
        self._ring = (np.arange(n) + np.arange(1, n + 1)[:, None]) % n
        # weights[k - 1, :k]: normalised weights of k chunks, oldest first. The largest exponent
        # is taken out first, so that no decay overflows.
        exponent = -execution.decay * np.arange(n)
        exponent = exponent - np.maximum.accumulate(exponent)[:, None]
        weights = np.tril(np.exp(np.minimum(exponent, 0.0)))
        self._weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
        self._size[:] = self._newest = 0
        warm(lambda: self.action(0.0))  # what is compiled, now and not on the way
        self.clear()

    def clear(self) -> None:
        """Forget everything (new episode, handover, stop)."""
        self._size[:] = 0
        self._newest = 0
        self._stamp = self._asked = -math.inf

    @property
    def stamp(self) -> float:
        """Time of the observation behind the newest chunk [s]; -inf while empty."""
        return self._stamp

    def push(self, chunk: ActionChunk) -> bool:
        """Add a chunk.

        Returns:
            Whether it was taken: False for one not newer than the newest (a reply that was
            overtaken on its way). One that is older by more than a second is none of those:
            time began anew, or the newest was wrong, and all others are forgotten.

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
        if chunk.stamp < self._stamp - _RESTART:
            self.clear()
        elif chunk.stamp <= self._stamp:
            return False
        slot = (self._newest + 1) % len(self._start)
        self._positions[slot, :steps] = chunk.positions
        self._positions[slot, steps:] = chunk.positions[-1]
        self._start[slot] = chunk.times[0]
        self._rate[slot] = 1.0 / period
        self._size[slot] = steps
        self._since[slot] = self._asked
        self._newest, self._stamp = slot, chunk.stamp
        return True

    def due(self, now: float) -> bool:
        """Whether the next prediction should be made from the observation of ``now``."""
        elapsed = (now - self._stamp) / self._dt
        return elapsed >= self.execution.n_action_steps - _GRID

    def action(self, now: float) -> Float32 | None:
        """The ``(D,)`` action for ``now``, or None when no chunk covers it (empty or stale).

        In mode ``blend`` a chunk fades in from the last ``now`` before it came, so that nobody
        but the one who executes the actions may ask.
        """
        self._asked = now
        if self._plain:
            out = np.empty(self._positions.shape[2], np.float32)
            if vote(now, _GRID, self._ring[self._newest], self._start, self._rate, self._size,
                    self._positions, self._weights, out):
                return out
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
        if self.execution.mode == 'blend':
            # what an ended plan stood at last is still what the arm has to be led away from
            live |= (where >= 0) & (self._size[slots] > 0) & (
                where < self._size[slots] + HELD * self._rate[slots])
            slots, where = slots[live], np.minimum(where[live], self._size[slots][live] - 1)
            return self._faded(now, slots, self._interpolated(slots, where))
        slots, where = slots[live], where[live]
        count = len(slots)
        votes = self._interpolated(slots, where)
        action: Float32 = votes[0] if count == 1 else self._weights[count - 1, :count] @ votes
        return action

    def _interpolated(self, slots: NDArray[np.intp], where: Float64) -> Float32:
        """The targets ``(N, D)`` of chunks at positions within them.

        Between two steps, where the robot is controlled faster than the policy plans or not in
        step with it: without a jump of velocity, and nowhere beyond the targets beside it
        (:func:`between`).
        """
        step = where.astype(np.intp)
        votes: Float32 = self._positions[slots, step]
        fraction = (where - step).astype(np.float32)[:, None]
        if fraction.any():
            last = self._size[slots].astype(np.intp) - 1
            around = np.clip(step + np.arange(-1, 3)[:, None], 0, last)
            votes = between(self._positions[slots, around], fraction,
                            (step == 0)[:, None], (step + 1 >= last)[:, None])
        return votes

    def _faded(self, now: float, slots: NDArray[np.intp], votes: Float32) -> Float32:
        """Each plan over the older ones, as far as it has faded in."""
        length = max(self.execution.blend_steps, _GRID) * self._dt
        share = smooth_step((now - self._since[slots]) / length)
        first = int(np.flatnonzero(share >= 1)[-1]) if (share >= 1).any() else 0
        action: Float32 = votes[first]
        for k in range(first + 1, len(slots)):
            action = action + np.float32(share[k]) * (votes[k] - action)
        return action


@compiled
def vote(now: float, grid: float, slots: NDArray[np.intp], start: Float64, rate: Float64,
         size: Float64, positions: Float32, weights: Float32, out: Float32) -> bool:
    """The mean of the plans that cover ``now``, where it is a step of each: the usual case.

    Args:
        now: [s].
        grid: What positions within a plan are rounded to [steps].
        slots: ``(N,)`` plans from the oldest to the newest.
        start: ``(N,)`` time of the first step [s].
        rate: ``(N,)`` steps per second.
        size: ``(N,)`` steps.
        positions: ``(N, T, D)`` targets.
        weights: ``(N, N)`` row ``k - 1``: of ``k`` plans, the oldest first.
        out: ``(D,)`` written.

    Returns:
        Whether it is that case.
    """
    count = 0
    for slot in slots:
        where = np.rint((now - start[slot]) * rate[slot] / grid) * grid
        if 0 <= where < size[slot]:
            count += 1
            if np.float32(where - int(where)) != 0:
                return False
    out[:] = 0
    k = 0
    for slot in slots:
        where = np.rint((now - start[slot]) * rate[slot] / grid) * grid
        if 0 <= where < size[slot]:
            for i in range(len(out)):
                out[i] += weights[count - 1, k] * positions[slot, int(where), i]
            k += 1
    return count > 0


def between(around: Float32, fraction: Float32, first: NDArray[np.bool_],
            last: NDArray[np.bool_]) -> Float32:
    """Cubic Hermite interpolation that keeps monotony.

    Fritsch and Butland, "A Method for Constructing Local Monotone Piecewise Cubic Interpolants",
    SIAM J. Sci. Stat. Comput. 1984, for equal steps: a slope is the harmonic mean of those of the
    two steps beside it, and 0 where they differ in sign.

    Args:
        around: ``(4, N, D)`` values at steps -1, 0, 1 and 2.
        fraction: ``(N, 1)`` where, in [0, 1) from step 0 to 1.
        first: ``(N, 1)`` nothing is before step 0.
        last: ``(N, 1)`` nothing is behind step 1.

    Returns:
        ``(N, D)``.
    """
    steps = np.diff(around, axis=0)
    product = steps[:-1] * steps[1:]
    total = steps[:-1] + steps[1:]
    slopes = np.where(product > 0, 2.0 * product / np.where(total == 0, 1.0, total), 0.0)
    start = np.where(first, steps[1], slopes[0])
    end = np.where(last, steps[1], slopes[1])
    t = fraction
    value: Float32 = (around[1] + t * (start + t * (
        3.0 * steps[1] - 2.0 * start - end + t * (start + end - 2.0 * steps[1])))
    ).astype(np.float32)
    return value


def smooth_step(x: Float64) -> Float64:
    """The polynomial ``6 x^5 - 15 x^4 + 10 x^3`` from 0 to 1, constant outside [0, 1]."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * x * (10.0 + x * (6.0 * x - 15.0))
