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

from il_robot.control.compiled import compiled, warm
from il_robot.types import Float64

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]

# What float32 positions leave open of a velocity, relative to its limit; of the rest, rounding.
SPEED_SLACK, SLACK = 2e-5, 1e-9
_STEPS = 12
# Bits of what a joint would break, with the words for them.
JERK, ACCELERATION, VELOCITY, BRAKING = 1, 2, 4, 8
BROKEN = {'jerk': JERK, 'acceleration': ACCELERATION, 'velocity': VELOCITY, 'braking': BRAKING}


@compiled
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


@compiled
def _root(step: float, square: float) -> float:
    """``sqrt(step^2 + square) - step``, precise where ``step`` is large."""
    return square / (sqrt(step * step + square) + step)


@compiled
def brake(v: float, a: float, h: float, most: float, jerk: float) -> float:
    """The acceleration ``a'`` that stops a joint as soon as the limits allow [rad/s^2]."""
    step = jerk * h
    wanted = -copysign(min(_root(step, 2.0 * jerk * abs(v)), most), v)
    if abs(v) < 1e-9:
        wanted = -v / h
    return min(max(wanted, a - step, -most), a + step, most)


@compiled
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


@compiled
def _nearest(x: float, v: float, a: float, h: float, goal: float, wanted: float, pace: float,
             speed: float, lower: float, upper: float, most: float, jerk: float) -> float:
    """See :meth:`JointLimits.nearest`."""
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
    if safe < high < goal and wanted == wanted:
        high = _under(high, safe, x, v, h, wanted, pace, most, jerk)
    return sign * high


@compiled
def _ways(v: Float64, a: Float64, most: Float64, jerk: Float64, out: Float64) -> None:
    """See :meth:`JointLimits.ways`; ``out`` ``(2, N)`` is written."""
    for i in range(len(v)):
        out[0, i] = stop_way(v[i], a[i], most[i], jerk[i])
        out[1, i] = stop_way(-v[i], -a[i], most[i], jerk[i])


@compiled
def _brakes(v: Float64, a: Float64, h: float, most: Float64, jerk: Float64, out: Float64) -> None:
    """:func:`brake` of all joints; ``out`` ``(N,)`` is written."""
    for i in range(len(v)):
        out[i] = brake(v[i], a[i], h, most[i], jerk[i])


@compiled
def breaks(x: float, v: float, a: float, before: float, h: float, speed: float, lower: float,
           upper: float, most: float, jerk: float) -> int:
    """Bits of what one joint would break, see :meth:`JointLimits.broken`."""
    bits = 0
    if abs(a - before) > jerk * h * (1.0 + SLACK):
        bits |= JERK
    if abs(a) > most * (1.0 + SLACK):
        bits |= ACCELERATION
    # Opposite signs slow down: what counts is the present velocity itself.
    toward = abs(v + 0.5 * a * abs(a) / jerk)
    if max(abs(v), toward) > speed * (1.0 + SPEED_SLACK):
        bits |= VELOCITY
    if (x + stop_way(v, a, most, jerk) > upper + SLACK
            or -x + stop_way(-v, -a, most, jerk) > -lower + SLACK):
        bits |= BRAKING
    return bits


@compiled
def _broken(x: Float64, v: Float64, a: Float64, before: Float64, h: float, speed: Float64,
            lower: Float64, upper: Float64, most: Float64, jerk: Float64, out: Bytes) -> None:
    """See :meth:`JointLimits.broken`; ``out`` ``(N,)`` is written."""
    for i in range(len(x)):
        out[i] = breaks(x[i], v[i], a[i], before[i], h, speed[i], lower[i], upper[i], most[i],
                        jerk[i])


@compiled
def unhurried(wanted: float, x: float, dt: float, lower: float, upper: float, comfort: float
              ) -> float:
    """The command next to ``wanted`` from which one joint can stop, see :func:`comfortable`."""
    change = comfort * dt
    square, twice = change * change, 2.0 * comfort
    down = (sqrt(square + twice * max(x - lower, 0.0)) - change) * dt
    up = (sqrt(square + twice * max(upper - x, 0.0)) - change) * dt
    return min(max(wanted, x - down), x + up)


@compiled
def comfortable(wanted: Float64, x: Float64, dt: float, speed: Float64, lower: Float64,
                upper: Float64, comfort: Float64, slow: Float64, out: Float64) -> None:
    """Commands within velocity limits, and slow where a position limit is near.

    With ``v = step / dt`` the longest step that leaves room to brake before a limit is the one
    for which ``v^2 / (2 a) + v dt = room``.

    Args:
        wanted: ``(N,)`` [rad].
        x: ``(N,)`` the last commands.
        dt: Time since then [s].
        speed: ``(N,)`` velocity limits now.
        lower: ``(N,)`` position limits.
        upper: The same.
        comfort: ``(N,)`` acceleration with which a joint brakes before them; 0: as it likes.
        slow: ``(N,)`` written: within velocity limits.
        out: ``(N,)`` written: the result.
    """
    for i in range(len(x)):
        step = speed[i] * dt
        slow[i] = out[i] = min(max(wanted[i], x[i] - step), x[i] + step)
        if comfort[i] > 0.0:
            out[i] = unhurried(slow[i], x[i], dt, lower[i], upper[i], comfort[i])


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
        self._rows = [*zip(acceleration.tolist(), jerk.tolist())]
        warm(self._touch)

    def _touch(self) -> None:
        """Everything compiled once: now and not on the way."""
        zero = np.zeros(len(self.lower))
        self.brakes(zero, zero, 1.0)
        self.ways(zero, zero)
        self.broken(self.lower, zero, zero, zero, 1.0, self.velocity, self.lower, self.upper)
        self.nearest(0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0)
        comfortable(zero, zero, 1.0, zero, zero, zero, zero, zero.copy(), zero.copy())

    def ways(self, v: Float64, a: Float64) -> Float64:
        """``(2, N)`` how far joints still move up and down when they brake [rad]."""
        out = np.empty((2, len(v)))
        _ways(v, a, self.acceleration, self.jerk, out)
        return out

    def broken(self, x: Float64, v: Float64, a: Float64, before: Float64, h: float,
               speed: Float64, lower: Float64, upper: Float64) -> Bytes:
        """Which joints may not enter a state, and why.

        Args:
            x: ``(N,)`` the next command.
            v: Its velocity.
            a: Its acceleration.
            before: Acceleration of the command before it.
            h: Time since then [s].
            speed: ``(N,)`` velocity limits now.
            lower: ``(N,)`` position limits now: where a joint is beyond its own, there.
            upper: The same.

        Returns:
            ``(N,)`` bits of ``BROKEN``.
        """
        out = np.empty(len(x), np.uint8)
        _broken(x, v, a, before, h, speed, lower, upper, self.acceleration, self.jerk, out)
        return out

    def brakes(self, v: Float64, a: Float64, h: float) -> Float64:
        """``(N,)`` :func:`brake` of all joints."""
        out = np.empty(len(v))
        _brakes(v, a, h, self.acceleration, self.jerk, out)
        return out

    def nearest(self, i: int, x: float, v: float, a: float, h: float, goal: float, wanted: float,
                pace: float, speed: float, lower: float, upper: float) -> float:
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
            wanted: The target that lies behind it [rad]; NaN: it is no place to stop at.
            pace: How fast it moves [rad/s].
            speed: Velocity limit now [rad/s].
            lower: Position limits now, see :meth:`broken`.
            upper: The same.
        """
        return float(_nearest(x, v, a, h, goal, wanted, pace, speed, lower, upper,
                              *self._rows[i]))
