"""Two nodes that answer on one topic, noticed by what they say."""

from __future__ import annotations

import numpy as np

from il_robot.types import Float32


class Contest:
    """Notices that more than one node proposes on a topic that belongs to one.

    A node answers an observation once: several observations with two different answers each have
    been answered by two nodes.

    Args:
        memory: How long a conflict counts [s of robot time].
        conflicts: So many within that time make a contest.
    """

    def __init__(self, memory: float = 1.0, conflicts: int = 3) -> None:
        self._memory, self._conflicts = memory, conflicts
        self._stamp = float('nan')
        self._values: Float32 | None = None
        self._seen: list[float] = []

    def put(self, stamp: float, values: Float32) -> bool:
        """Note a proposal.

        Args:
            stamp: Of the observation it answers [s].
            values: What it says, NaN where nothing.

        Returns:
            Whether several nodes are at it, so that none should count.
        """
        self._seen = [s for s in self._seen if 0 <= stamp - s < self._memory]
        if stamp == self._stamp and not np.array_equal(
                values, self._values, equal_nan=True):  # type: ignore[arg-type]
            self._seen.append(stamp)
        self._stamp, self._values = stamp, values
        return len(self._seen) >= self._conflicts
