"""Position, velocity, acceleration and jerk of each joint, kept for ever: what may come next.

A command moves in steps: ``a' = a + j h``, ``v' = v + a' h``, ``x' = x + v' h`` with the time
``h`` since the last one, whatever it was (speeds are differences of what was sent, as a controller
sees them). Limits are on ``j``, ``a'``, ``v'`` and ``x'``. A state may be entered only if the
brake below keeps all four from there on, however the times go on:

* velocity: ``v + a |a| / (2 J)`` stays inside, what is reached while ``a`` returns to 0;
* position: ``x + D(v, a)`` stays inside, where ``D`` is the way of a stop with limited jerk.

The brake is ``a' = sqrt((J h)^2 + 2 J |v|) - J h`` against ``v`` (the law of time-optimal control
in discrete time: Han, "From PID to Active Disturbance Rejection Control", IEEE TIE 2009, section
III-A), as far as ``j`` and ``a`` allow. With it neither quantity ever grows, for any ``h``
(test/control/test_safety.py searches for a counterexample): so what the gate admits once it
can brake from, and the brake itself is always admitted.
"""

from __future__ import annotations

from math import copysign, sqrt

import numpy as np
from numpy.typing import NDArray

from il_robot.types import Float64

Bools = NDArray[np.bool_]

# What float32 positions leave open of a velocity, relative to its limit; of the rest, rounding.
SPEED_SLACK, SLACK = 2e-5, 1e-9
_STEPS = 12


def stop_way(v: float, a: float, most: float, jerk: float) -> float:
    """How far a joint still moves in positive direction when it brakes [rad].

    Args:
        v: Its velocity [rad/s].
        a: Its acceleration [rad/s^2].
        most: Acceleration limit.
        jerk: Jerk limit.
    """
    a = max(a, -most)
    t = a / jerk
    peak = v + 0.5 * a * t
    if peak <= 0.0:
        return 0.0
    if a < 0.0 and a * a >= 2.0 * jerk * v:
        v = max(v, 0.0)
        return v * sqrt(2.0 * v / jerk) / 3.0
    if peak * jerk <= most * most:
        stop = peak * sqrt(peak / jerk)
    else:
        stop = 0.5 * peak * (peak / most + most / jerk)
    return max(stop + v * t + a * t * t / 3.0, 0.0)


def stop_ways(v: Float64, a: Float64, most: Float64, jerk: Float64) -> Float64:
    """:func:`stop_way` of arrays."""
    a = np.maximum(a, -most)
    t = a / jerk
    at = a * t
    peak = v + 0.5 * at
    up = np.maximum(peak, 0.0)
    stop = up * np.where(up * jerk <= most * most, np.sqrt(up / jerk),
                         0.5 * (up / most + most / jerk))
    way = np.maximum(stop + t * (v + at / 3.0), 0.0)
    beyond = (at >= 2.0 * v) & (a < 0.0)
    if beyond.any():
        rest = (2.0 * jerk * np.maximum(v, 0.0)) ** 1.5 / (6.0 * jerk * jerk)
        way = np.where(beyond, rest, way)
    ways: Float64 = np.where(peak > 0.0, way, 0.0)
    return ways


def _root(step: float, square: float) -> float:
    """``sqrt(step^2 + square) - step``, precise where ``step`` is large."""
    return square / (sqrt(step * step + square) + step)


def brake(v: float, a: float, h: float, most: float, jerk: float) -> float:
    """The acceleration ``a'`` that stops a joint as soon as the limits allow [rad/s^2]."""
    step = jerk * h
    wanted = -copysign(min(_root(step, 2.0 * jerk * abs(v)), most), v)
    if abs(v) < 1e-9:
        wanted = -v / h
    return min(max(wanted, a - step, -most), a + step, most)


class JointLimits:
    """The limits of ``N`` joints; stateless.

    Args:
        lower: ``(N,)`` position limits [rad].
        upper: The same.
        velocity: ``(N,)`` [rad/s].
        acceleration: ``(N,)`` [rad/s^2].
        jerk: ``(N,)`` [rad/s^3].
    """

    def __init__(self, lower: Float64, upper: Float64, velocity: Float64, acceleration: Float64,
                 jerk: Float64) -> None:
        self.lower, self.upper = lower, upper
        self.velocity, self.acceleration, self.jerk = velocity, acceleration, jerk
        self._signs = np.array([[1.0], [-1.0]])
        # Position limits upward and, mirrored, downward.
        self._ends = np.stack([upper, -lower])
        self._rows = [*zip(lower.tolist(), upper.tolist(), acceleration.tolist(), jerk.tolist())]

    def ways(self, v: Float64, a: Float64) -> Float64:
        """``(2, N)`` how far joints still move up and down when they brake [rad]."""
        return stop_ways(self._signs * v, self._signs * a, self.acceleration, self.jerk)

    def broken(self, x: Float64, v: Float64, a: Float64, before: Float64, h: float,
               speed: Float64, ways: Float64) -> tuple[Bools, dict[str, Bools]]:
        """Which joints may not enter a state.

        Args:
            x: ``(N,)`` the next command.
            v: Its velocity.
            a: Its acceleration.
            before: Acceleration of the command before it.
            h: Time since then [s].
            speed: ``(N,)`` velocity limits now.
            ways: Of ``v`` and ``a``.

        Returns:
            ``(N,)`` bool of all reasons together; and by reason, where there is one at all.
        """
        jerk = np.abs(a - before) > self.jerk * h * (1 + SLACK)
        size = np.abs(a)
        acceleration = size > self.acceleration * (1 + SLACK)
        # Opposite signs slow down: what counts is the present velocity itself.
        toward = np.abs(v + 0.5 * a * size / self.jerk)
        velocity = np.maximum(np.abs(v), toward) > speed * (1 + SPEED_SLACK)
        position: Bools = np.any(self._signs * x + ways > self._ends + SLACK, axis=0)
        every = jerk | acceleration | velocity | position
        if not every.any():
            return every, {}
        return every, {'jerk': jerk, 'acceleration': acceleration, 'velocity': velocity,
                       'braking': position}

    def brakes(self, v: Float64, a: Float64, h: float) -> Float64:
        """``(N,)`` :func:`brake` of all joints."""
        step = self.jerk * h
        size = np.abs(v)
        square = 2.0 * self.jerk * size
        wanted = -np.sign(v) * np.minimum(
            square / (np.sqrt(step * step + square) + step), self.acceleration)
        wanted = np.where(size < 1e-9, -v / h, wanted)
        low = np.maximum(a - step, -self.acceleration)
        high = np.minimum(a + step, self.acceleration)
        braking: Float64 = np.minimum(np.maximum(wanted, low), high)
        return braking

    def nearest(self, i: int, x: float, v: float, a: float, h: float, goal: float, wanted: float,
                pace: float, speed: float) -> float:
        """The admissible ``a'`` of one joint that is nearest to the wanted one [rad/s^2].

        Where that is not admissible, the target behind it is approached so that the joint could
        stop there.

        Args:
            i: The joint.
            x: The last command [rad].
            v: Its velocity [rad/s].
            a: Its acceleration [rad/s^2].
            h: Time since then [s].
            goal: The acceleration that is wanted [rad/s^2].
            wanted: The target that lies behind it [rad].
            pace: How fast it moves [rad/s].
            speed: Velocity limit now [rad/s].
        """
        lower, upper, most, jerk = self._rows[i]
        safe = brake(v, a, h, most, jerk)
        sign = 1.0
        if goal < safe:  # mirrored, so that it is a matter of going up
            sign = -1.0
            x, v, a, safe, goal, pace = -x, -v, -a, -safe, -goal, -pace
            wanted, upper = -wanted, -lower
        step = jerk * h
        left = speed - v
        fast = _root(step, 2.0 * jerk * left) if left > 0.0 else safe
        high = max(safe, min(goal, a + step, most, fast))
        if high > safe:
            high = _under(high, safe, x, v, h, upper, 0.0, most, jerk)
        if safe < high < goal:
            high = _under(high, safe, x, v, h, wanted, pace, most, jerk)
        return float(sign * high)


def _under(high: float, safe: float, x: float, v: float, h: float, wall: float, pace: float,
           most: float, jerk: float) -> float:
    """The largest ``a'`` in [safe, high] that can still stop before a wall; else ``safe``."""
    good, to = safe, high
    for _ in range(_STEPS):
        end = v + to * h
        if x + end * h + stop_way(end - pace, to, most, jerk) <= wall:
            good = to
            if to == high:
                break
        else:
            high = to
        to = 0.5 * (good + high)
    return good
