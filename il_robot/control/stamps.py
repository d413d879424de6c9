"""Which stamps of a robot's state are believed; no clock of its own.

One message with a stamp from the future would make everything after it old, and one from the past
would look like a simulation that began anew. So a jump counts only once the next message agrees.
"""

from __future__ import annotations

from typing import Literal

Verdict = Literal['next', 'old', 'suspect', 'restart']


class Stamps:
    """Judges stamps in the order of arrival.

    Args:
        jump: Steps longer than that, forward or backward, have to be confirmed [s].
        trusting: They need not be: in lockstep the sender waits for an answer, and there is one.

    Attributes:
        last: The newest stamp that was believed [s]; -inf before the first.
    """

    def __init__(self, jump: float = 1.0, *, trusting: bool = False) -> None:
        if not jump > 0:
            raise ValueError(f'jump must be > 0 s, got {jump}')
        self._jump, self._trusting = jump, trusting
        self.last = float('-inf')
        self._suspect: float | None = None

    def judge(self, stamp: float) -> Verdict:
        """What to do with a message of this stamp [s].

        Returns:
            ``next``: take it. ``old``: before the last one, ignore it. ``suspect``: far from the
            last one, ignore it unless the next one confirms it. ``restart``: time went back, and
            that is confirmed: take it and begin anew.
        """
        first = self.last == float('-inf')
        far = not first and abs(stamp - self.last) > self._jump
        if far and not self._trusting:
            before, self._suspect = self._suspect, stamp
            if before is None or not 0.0 < stamp - before <= self._jump:
                return 'suspect'
        elif not far and not first and stamp < self.last:
            return 'old'
        back = stamp < self.last
        self._suspect, self.last = None, stamp
        return 'restart' if back else 'next'
