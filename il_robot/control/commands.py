"""Which commands a robot obeys: those that answer its own newest observations.

The stamp of a command is that of the joint states it answers. In lockstep only the answer to the
present observation counts; in real time the newest one, while it is young. No clock: the time of
the present observation is passed in.
"""

from __future__ import annotations

from il_robot.types import Float32

# Clocks of two machines never agree exactly [s].
_FUTURE = 0.05


class CommandBuffer:
    """Keeps the command that counts. No lock: calls are serialised by the caller.

    Args:
        lockstep: Only the present observation's answer counts.
        timeout: Age from which a command no longer counts, in real time [s].
    """

    def __init__(self, *, lockstep: bool, timeout: float) -> None:
        self.lockstep, self.timeout = lockstep, timeout
        self.begin(float('-inf'))

    def begin(self, now: float) -> None:
        """Forget everything; answers to observations before ``now`` [s] no longer count."""
        self._begun = now
        self._newest = float('-inf')
        self._position: Float32 | None = None

    def put(self, stamp: float, position: Float32, now: float) -> str:
        """Take a command.

        Args:
            stamp: Of the observation it answers [s].
            position: ``(D,)`` targets [rad, m].
            now: Time of the present observation [s].

        Returns:
            Why it does not count, in a few words; empty where it does.
        """
        if stamp > now + _FUTURE:
            return 'from the future'
        if self.lockstep:
            if stamp != now:
                return 'of another stamp'
        elif stamp < self._begun:
            return 'of the last episode'
        elif stamp <= self._newest:
            return 'out of order'
        elif now - stamp > self.timeout:
            return 'too old'
        self._newest, self._position = stamp, position
        return ''

    def get(self, now: float) -> Float32 | None:
        """The command ``(D,)`` to execute from ``now`` on; None means hold."""
        if self._position is None or self.age(now) > (0.0 if self.lockstep else self.timeout):
            return None
        return self._position

    def age(self, now: float) -> float:
        """Time since the observation that was answered last [s]; infinite at first."""
        return now - self._newest
