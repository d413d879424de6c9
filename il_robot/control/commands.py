"""Which commands a robot obeys: those that answer its own newest observations.

The stamp of a command is that of the joint states it answers. In lockstep only the answer to the
present observation counts; in real time the newest one, while it is young. No clock: the time of
the present observation is passed in.
"""

from __future__ import annotations

import numpy as np

from il_robot.spec import RobotSpec
from il_robot.types import Float32

# Clocks of two machines never agree exactly [s].
_FUTURE = 0.05
# How far a first command may lie from the measured posture, and each one from the last one beside
# what its speed allows [rad]: an arbiter begins where the robot is, and drives lag.
_FIRST, _NEXT = 0.25, 0.02
_FASTER = 1.5
# After one that was too far away: so many must go on from one another before one counts again.
_AGREE = 3


def obeyed_speed(spec: RobotSpec) -> Float32:
    """``(D,)`` for :class:`CommandBuffer`: half as much again as joints may; any of grippers."""
    arm = np.array([name not in spec.gripper_names for name in spec.joint_names])
    speed: Float32 = np.where(arm, _FASTER * spec.velocity, np.inf).astype(np.float32)
    return speed


def _is_far(position: Float32, start: Float32, elapsed: float | None, speed: Float32) -> bool:
    if elapsed is None:
        reach = np.where(np.isfinite(speed), _FIRST, np.inf)
    else:
        reach = speed * elapsed + _NEXT
    return bool((np.abs(position - start) > reach).any())


class CommandBuffer:
    """Keeps the command that counts. No lock: calls are serialised by the caller.

    Args:
        lockstep: Only the present observation's answer counts.
        timeout: Age from which a command no longer counts, in real time [s].
        speed: ``(D,)`` from one command to the next beyond which it is not obeyed in real time
            [rad/s, m/s]; infinite where any is. None: of all.
    """

    def __init__(
        self, *, lockstep: bool, timeout: float, speed: Float32 | None = None
    ) -> None:
        self.lockstep, self.timeout, self._speed = lockstep, timeout, speed
        self.begin(float('-inf'))

    def begin(self, now: float) -> None:
        """Forget everything; answers to observations before ``now`` [s] no longer count."""
        self._begun = now
        self._newest = float('-inf')
        self._position: Float32 | None = None
        self._doubted = 0
        self._candidate: tuple[float, Float32] | None = None

    def put(
        self, stamp: float, position: Float32, now: float, measured: Float32 | None = None
    ) -> str:
        """Take a command.

        With a ``speed``, one that is further from the last one than its joints get in the time
        between does not come from an arbiter; the first one, or the first after a silence, is
        compared with where the robot is. After such a one none counts until three go on from one
        another: what is torn at random may happen to be near.

        Args:
            stamp: Of the observation it answers [s].
            position: ``(D,)`` targets [rad, m].
            now: Time of the present observation [s].
            measured: ``(D,)`` positions in it, where there is a ``speed``.

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
        elif self._speed is not None and measured is not None:
            why = self._doubt(stamp, position, self._before(now, measured, stamp), self._speed)
            if why:
                return why
        self._newest, self._position = stamp, position
        return ''

    def _before(self, now: float, measured: Float32, stamp: float
                ) -> tuple[Float32, float | None]:
        """What a command is compared with, and how long before it that was [s]; None: a start."""
        last = self.get(now)
        return (measured, None) if last is None else (last, stamp - self._newest)

    def _doubt(
        self, stamp: float, position: Float32, before: tuple[Float32, float | None],
        speed: Float32,
    ) -> str:
        """Why a command is not believed; empty where it is."""
        if _is_far(position, *before, speed):
            self._doubted, self._candidate = _AGREE, None
            return 'too far away'
        if self._doubted:
            if self._candidate and _is_far(
                    position, self._candidate[1], stamp - self._candidate[0], speed):
                self._doubted = _AGREE
            self._candidate = stamp, position
            self._doubted -= 1
        return 'soon after one too far away' if self._doubted else ''

    def get(self, now: float) -> Float32 | None:
        """The command ``(D,)`` to execute from ``now`` on; None means hold."""
        if self._position is None or self.age(now) > (0.0 if self.lockstep else self.timeout):
            return None
        return self._position

    def age(self, now: float) -> float:
        """Time since the observation that was answered last [s]; infinite at first."""
        return now - self._newest
