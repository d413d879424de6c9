"""Most commands of most drivers are admissible: a quick look that says so, compiled.

The safety gate (:mod:`il_robot.control.safety`) stands between an observation and its command, 50
times a second on processors that do other work in between, so that what it costs is code that has
to be fetched anew each time. Here one compiled function answers for the usual case, bit for bit as
the gate would, and leaves all others to it: test/control/test_admission.py compares the two.
"""

from __future__ import annotations

from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from il_robot.control.compiled import compiled, warm
from il_robot.control.safety_limits import breaks, stop_way, unhurried
from il_robot.types import Float32, Float64


class Joints(NamedTuple):
    """Of ``N`` joints; all ``(N,)`` [rad, m, s].

    Attributes:
        lower: Position limits.
        upper: The same.
        speed: Velocity limits.
        acceleration: Acceleration limits.
        jerk: Jerk limits.
        comfort: With what a joint brakes before its position limits; 0: as it likes.
        gripper: Those of which only position limits and rate count.
    """

    lower: Float64
    upper: Float64
    speed: Float64
    acceleration: Float64
    jerk: Float64
    comfort: Float64
    gripper: NDArray[np.bool_]


@compiled
def _admitted(command: Float32, target: Float64, measured: Float32, state: Float64, h: float,
              dt: float, standing: bool, joints: Joints, out: Float64) -> bool:
    """See :class:`Admission`."""
    for i in range(len(command)):
        wanted, before = float(command[i]), state[0, i]
        # What is outside may stay there or come in.
        low, high = min(joints.lower[i], before), max(joints.upper[i], before)
        if not isfinite(wanted) or wanted < low or wanted > high:
            return False
        goal = wanted
        if len(target):
            goal = target[i] if target[i] != target[i] else min(max(target[i], low), high)
        if standing and not joints.gripper[i] and goal == goal and goal != before:
            return False  # is that a start from far away?
        step = joints.speed[i] * dt
        slow = min(max(wanted, before - step), before + step)
        if joints.comfort[i] > 0.0:
            slow = unhurried(slow, before, dt, joints.lower[i], joints.upper[i],
                             joints.comfort[i])
        if slow != wanted:
            return False
        v = (wanted - before) / h
        a = (v - state[1, i]) / h
        most, jerk = joints.acceleration[i], joints.jerk[i]
        if not joints.gripper[i] and breaks(
                wanted, v, a, state[2, i], h, joints.speed[i], low, high, most, jerk):
            return False
        out[0, i], out[1, i], out[2, i], out[3, i] = wanted, v, (v - state[1, i]) / h, goal
        # What it may pass on its way to rest, as the gate reckons.
        speed = state[1, i] + a * h
        place = before + speed * h
        out[4, i] = place - stop_way(-speed, -a, most, jerk)
        out[5, i] = place + stop_way(speed, a, most, jerk)
        if joints.gripper[i] and len(measured):
            out[4, i], out[5, i] = min(place, measured[i]), max(place, measured[i])
    return True


class Admission:
    """The quick look; stateless.

    Args:
        joints: The robot's limits.
    """

    def __init__(self, joints: Joints) -> None:
        self._joints = joints
        self._no_target, self._no_measurement = np.zeros(0), np.zeros(0, np.float32)
        rest = joints.lower.astype(np.float32)
        state = np.zeros((3, len(rest)))
        warm(lambda: self(rest, None, None, state, 1.0, 1.0, standing=True))

    def __call__(
        self, command: Float32, target: Float64 | None, measured: Float32 | None,
        state: Float64, h: float, dt: float, *, standing: bool,
    ) -> Float64 | None:
        """What the gate would do with a command that it may send as it is.

        Args:
            command: ``(N,)`` wanted [rad, m].
            target: ``(N,)`` what it is on the way to; NaN where nobody drives, None: itself.
            measured: ``(N,)`` positions.
            state: ``(3, N)`` position, velocity and acceleration of the last command.
            h: Time since then [s].
            dt: The same, as far as it counts for speeds [s].
            standing: Nobody drove so far: a target elsewhere is left to the gate.

        Returns:
            ``(6, N)``: position, velocity, acceleration, target, and the ends of all that the
            joints may pass until they rest; None: the gate has to see to it.
        """
        out = np.empty((6, len(command)))
        # Of one type and layout, whatever came: another one would be compiled on the way.
        admitted = _admitted(
            np.array(command, np.float32),
            self._no_target if target is None else np.array(target, np.float64),
            self._no_measurement if measured is None else np.array(measured, np.float32),
            state, h, dt, standing, self._joints, out)
        return out if admitted else None
