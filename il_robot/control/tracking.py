"""What is believed of a robot's measured positions, and whether it follows its commands.

A single state far from the last one is a fault of a message, a bus or a second publisher. Who
follows it sends the arms there. So a jump has to be confirmed by states that go on from it for a
while; until then nothing is decided, and the robot holds by itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from il_robot.control.vectors import apart
from il_robot.spec import RobotSpec
from il_robot.types import Float32

CONFIRMED = 0.2
"""How long states have to go on from a jump until it is believed [s]."""
# A measured joint that moved this much more than its velocity allows was not moved by us [rad].
_TELEPORT = 0.1
_ROUNDING = 1e-6
_NONE = np.zeros(0, np.int64)


class Tracking:
    """Judges measured states ``(D,)`` [rad, m] in order; no clock, no lock.

    Args:
        spec: The robot; its ``safety`` says from when on it does not follow.
    """

    def __init__(self, spec: RobotSpec) -> None:
        self._dt, self._safety = spec.dt, spec.safety
        self._possible = (3.0 * spec.velocity * spec.dt + _TELEPORT).astype(np.float64)
        self._following = np.where(
            [name in spec.gripper_names for name in spec.joint_names], np.inf,
            spec.safety.following)
        self._last: Float32 | None = None
        self._at = -np.inf
        self._suspect: tuple[float, Float32] | None = None  # since when, and the newest
        self._expected = False
        self._followed = -np.inf

    @property
    def begun(self) -> bool:
        """Whether a state was believed so far."""
        return self._last is not None

    def expect_jump(self) -> None:
        """The next state may be anywhere: a new episode."""
        self._expected = True

    def doubts(self, now: float, state: Float32, command: Float32) -> bool:
        """Whether a state is not to be decided upon: it jumped, and is not confirmed yet.

        Args:
            now: Its time [s].
            state: Measured.
            command: The last one sent.
        """
        if self._last is None or self._expected \
                or not self._jumped(self._last, state, now - self._at, command).size:
            self._suspect = None
            return False
        if self._suspect is None or (np.abs(state - self._suspect[1]) > self._possible).any():
            self._suspect = now, state
        since = self._suspect[0]
        self._suspect = since, state
        return now - since < CONFIRMED - _ROUNDING

    def believe(self, now: float, state: Float32, command: Float32) -> NDArray[np.int64]:
        """Take a state; which joints jumped since the last one, all of them at first."""
        last, elapsed = self._last, now - self._at
        self._last, self._at = state, now
        self._suspect, self._expected = None, False
        if last is None:
            jumped = np.arange(len(state))
        else:
            jumped = self._jumped(last, state, elapsed, command)
        if jumped.size:
            self._followed = now
        return jumped

    def _jumped(
        self, last: Float32, state: Float32, elapsed: float, command: Float32
    ) -> NDArray[np.int64]:
        """Which joints cannot have moved so far since the last state."""
        start = last
        if elapsed > 1.5 * self._dt:
            # After a silence it may be anywhere on its way to the last command.
            start = np.clip(state, np.minimum(last, command), np.maximum(last, command))
        elif not apart(state, start, self._possible):
            return _NONE
        return np.flatnonzero(np.abs(state - start) > self._possible)

    def lagging(self, now: float, state: Float32, command: Float32) -> NDArray[np.int64]:
        """Which joints have been far from their commands for too long.

        Never grippers: these close on parts. Where there are any, the next call begins anew.
        """
        if not apart(state, command, self._following):
            self._followed = now
        if now - self._followed < self._safety.following_time:
            return _NONE
        self._followed = now
        return np.flatnonzero(np.abs(state - command) > self._following)
