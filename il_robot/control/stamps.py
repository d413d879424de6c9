"""Which stamps of a robot's state are believed; no clock of its own.

One message with a stamp from the future would make everything after it old, and one from the past
would look like a simulation that began anew. So a jump counts only once the next ones agree.
"""

from __future__ import annotations

from typing import Literal

_ROUNDING = 1e-6
Verdict = Literal['next', 'old', 'suspect', 'restart']


class Stamps:
    """Judges stamps in the order of arrival.

    Args:
        jump: Steps longer than that, forward or backward, have to be confirmed [s].
        agree: For how long later stamps have to go on from one that jumped [s].
        trusting: They need not be: in lockstep the sender waits for an answer, and there is one.

    Attributes:
        last: The newest stamp that was believed [s]; -inf before the first.
    """

    def __init__(
        self, jump: float = 1.0, agree: float = 0.1, *, trusting: bool = False
    ) -> None:
        if not jump > 0:
            raise ValueError(f'jump must be > 0 s, got {jump}')
        self._jump, self._agree, self._trusting = jump, agree, trusting
        self.last = float('-inf')
        self._suspects: tuple[float, float] | None = None  # the first and the newest

    def judge(self, stamp: float) -> Verdict:
        """What to do with a message of this stamp [s].

        Returns:
            ``next``: take it. ``old``: before the last one, ignore it. ``suspect``: far from the
            last one, ignore it until the next ones confirm it. ``restart``: time went back, and
            that is confirmed: take it and begin anew.
        """
        first = self.last == float('-inf')
        far = not first and abs(stamp - self.last) > self._jump
        if far and not self._trusting:
            begun, newest = self._suspects or (stamp, stamp)
            if not 0.0 < stamp - newest <= self._jump:
                begun = stamp
            self._suspects = begun, stamp
            if stamp - begun < self._agree - _ROUNDING:
                return 'suspect'
        elif not far and not first and stamp < self.last:
            return 'old'
        back = stamp < self.last
        self._suspects, self.last = None, stamp
        return 'restart' if back else 'next'
