"""When a gripper that only obeys actions gets a new goal; no clock."""

from __future__ import annotations


class GripperGoals:
    """Turns a stream of targets into few goals, one at a time.

    Args:
        tolerance: Targets this close to the last goal are that goal.
        period: Goals are at least so far apart [s].
    """

    def __init__(self, tolerance: float, period: float = 0.2) -> None:
        self._tolerance, self._period = tolerance, period
        self.forget()

    def forget(self) -> None:
        """The next target becomes a goal, whatever was sent before."""
        self._goal: float | None = None
        self._time = float('-inf')

    def send(self, target: float, now: float) -> bool:
        """Whether the target becomes a goal at ``now`` [s]; it then counts as sent."""
        same = self._goal is not None and abs(target - self._goal) <= self._tolerance
        if same or now - self._time < self._period:
            return False
        self._goal, self._time = target, now
        return True
