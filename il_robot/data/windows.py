"""Windows over the rows of a dataset: observations behind a row, actions ahead of it.

Everything is index arithmetic on whole batches; the rows themselves are gathered with one
``take`` (``array[rows]``), in numpy or on any device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from il_robot.errors import DatasetError

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class WindowIndex:
    """The windows of a dataset; window ``i`` is anchored at row ``anchors[i]``.

    Attributes:
        anchors: ``(M,)`` row at which a window's newest observation and first action stand.
        start: ``(M,)`` first row of the anchor's episode.
        stop: ``(M,)`` one past the last row of the anchor's episode.
        chunk_size: Actions per window, ``T``.
        n_obs_steps: Observations per window.
        usable: ``(N,)`` rows with a valid label, or None where all are.
        followed: ``(N,)`` rows whose label was executed, or None where all were. Labels behind
            another row belong to a future that its label would not have led to.
    """

    anchors: Int64
    start: Int64
    stop: Int64
    chunk_size: int
    n_obs_steps: int
    usable: Bool | None = None
    followed: Bool | None = None

    def __len__(self) -> int:
        return len(self.anchors)

    def action_rows(self, windows: Int64) -> tuple[Int64, Bool]:
        """Rows of the actions of a batch of windows.

        Args:
            windows: ``(B,)`` window numbers.

        Returns:
            ``(B, T)`` rows, clamped to the episode's last row, and ``(B, T)`` padding: True
            where the row lies beyond the episode, has no valid label, or comes after a row
            whose label was not executed.
        """
        wanted = self.anchors[windows, None] + np.arange(self.chunk_size)
        last = self.stop[windows, None] - 1
        rows = np.minimum(wanted, last)
        padding = wanted > last
        if self.usable is not None:
            padding |= ~self.usable[rows]
        if self.followed is not None:
            astray = np.logical_or.accumulate(~self.followed[rows], axis=1)
            padding[:, 1:] |= astray[:, :-1]
        return rows, padding

    def observation_rows(self, windows: Int64) -> tuple[Int64, Bool]:
        """Rows of the observations of a batch of windows, oldest first, the anchor last.

        Returns:
            ``(B, n_obs_steps)`` rows, clamped to the episode's first row, and padding: True
            where the row lies before the episode.
        """
        first = self.start[windows, None]
        wanted = self.anchors[windows, None] + np.arange(1 - self.n_obs_steps, 1)
        return np.maximum(wanted, first), wanted < first


def window_index(
    episode_starts: Int64,
    episode_stops: Int64,
    chunk_size: int,
    n_obs_steps: int = 1,
    rows: Bool | None = None,
    usable: Bool | None = None,
    followed: Bool | None = None,
) -> WindowIndex:
    """Index every window of the given episodes.

    Args:
        episode_starts: ``(E,)`` first row of each episode (``Dataset.starts``).
        episode_stops: ``(E,)`` one past the last row of each episode.
        chunk_size: Actions per window.
        n_obs_steps: Observations per window.
        rows: ``(N,)`` rows that may anchor a window (a filter); None for all.
        usable: ``(N,)`` rows with a valid label; others count as padding. An anchor without
            one is left out.
        followed: ``(N,)`` rows whose label was executed; None for all.

    Raises:
        DatasetError: sizes below 1, or no window is left.
    """
    if chunk_size < 1 or n_obs_steps < 1:
        raise DatasetError(
            f'chunk_size and n_obs_steps must be >= 1, got {chunk_size} and {n_obs_steps}'
        )
    lengths = episode_stops - episode_starts
    start = np.repeat(episode_starts, lengths)
    stop = np.repeat(episode_stops, lengths)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    anchors = start + within
    keep = np.ones(len(anchors), dtype=bool)
    for mask in (rows, usable):
        if mask is not None:
            keep &= mask[anchors]
    if not keep.any():
        raise DatasetError(
            f'no window left: {len(anchors)} rows in {len(lengths)} episodes, none passes the '
            f'filters; loosen them or record such rows'
        )
    return WindowIndex(
        anchors[keep], start[keep], stop[keep], chunk_size, n_obs_steps, usable, followed)


def gather(array: NDArray[Any], rows: Int64) -> NDArray[Any]:
    """``(N, ...)`` values at ``(B, T)`` rows: ``(B, T, ...)``."""
    return array.take(rows, axis=0)
