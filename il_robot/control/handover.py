"""From one driver's command to the next: position, velocity and acceleration stay in their limits.

A driver who drives alone is obeyed exactly. When the driver changes, the command goes on with the
velocity it has; what lies between it and the new driver's target, in position and in velocity,
fades along a cubic within the handover time. Where that would be too fast the command follows as
quickly as the limits allow (the braking law of time-optimal control in discrete time: Han, "From
PID to Active Disturbance Rejection Control", IEEE TIE 2009, section III-A, here relative to a
moving target) and the handover lasts longer: it is over once the command was where the driver
wants it twice in a row, which is when velocities agree, too. A driver whose own commands change
faster than the limit (policies do, experts do) may never be that quiet; with him it is over as
soon as reaching him takes no harder a change than the one he makes himself at that moment.

Without a driver the command brakes: all joints come to rest at the same time, so that two arms
that hold one part do not pull it apart.

Grippers keep their rule (:mod:`il_robot.control.safety`): they fade, and have no other limit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from il_robot.control.safety import Limited, SafetyGate
from il_robot.spec import RobotSpec
from il_robot.types import Float32, Float64

# Share of the acceleration limit for catching up; the rest is for the target's own changes.
_CATCH_UP = 0.5
# Weight of the newest tick in the target's speed. Policies jitter by several times the limit from
# tick to tick; without a mean the command chases the jitter and never catches up with the rest
# (benchmarks/handover.py).
_NEWEST = 0.5


class Motion:
    """The command as it moves; no clock.

    Args:
        spec: The robot.
        gate: What limits every command.
        handover_time: How long a change of driver takes to fade [s].
        always: Whether a handover never ends: acceleration is then limited all the time.
    """

    def __init__(
        self, spec: RobotSpec, gate: SafetyGate, handover_time: float, *, always: bool = False
    ) -> None:
        self._gate, self._time, self._always = gate, handover_time, always
        self._lower, self._upper = spec.lower, spec.upper
        self._gripper = np.array([name in spec.gripper_names for name in spec.joint_names])
        acceleration = spec.acceleration.astype(np.float64)
        self._acceleration = np.where(self._gripper, np.inf, acceleration)
        self._speed = np.where(self._gripper, np.inf, gate.speed)
        zeros = np.zeros(spec.dim)
        self.command: Float32 = zeros.astype(np.float32)
        self._last = self.command, 0.0  # the command before, and the time between the two
        self._fading, self._landed, self._held = (zeros > 0 for _ in range(3))
        self._quiet, self._none = False, zeros > 0
        self._none.flags.writeable = False
        self._since, self._offset, self._slope, self._goal, self._drift, self._pace = (
            zeros.copy() for _ in range(6))
        self._plain = np.zeros(spec.dim, dtype=np.intp)  # ticks since all has faded

    def restart(self, position: Float32) -> None:
        """At rest at ``(D,)`` [rad, m], with nothing left of any handover."""
        self.command = position
        self._gate.restart(position)
        self.stop()

    def rest(self) -> None:
        """At rest: the robot stood still meanwhile."""
        self._gate.rest()
        self.stop()

    def stop(self) -> None:
        """Somebody pressed stop: at rest as soon as the gate's hard limits allow."""
        self._last = self.command, 0.0
        self._fading = np.zeros_like(self._fading)

    @property
    def _velocity(self) -> Float64:
        before, dt = self._last
        if dt <= 0:
            return np.zeros(len(before))
        return np.where(self._gripper, 0.0, (self.command.astype(np.float64) - before) / dt)

    @property
    def changing(self) -> NDArray[np.bool_]:
        """``(D,)`` joints that are being handed over, or brake."""
        if self._quiet:
            return self._none
        changing: NDArray[np.bool_] = self._fading | (self._held & (self._velocity != 0))
        return changing

    def advance(
        self, target: Float64, rate: Float64, begun: NDArray[np.bool_] | None, now: float,
        dt: float, elapsed: float | None = None, measured: Float32 | None = None,
    ) -> Limited:
        """Move the command on by one tick.

        Args:
            target: ``(D,)`` what the drivers want now [rad, m]; NaN where nobody drives.
            rate: ``(D,)`` how fast that moves [rad/s], 0 where it is not known; of use for
                joints whose driver is new.
            begun: ``(D,)`` joints whose driver is new; None: no driver is new, and each joint
                has one.
            now: Time [s].
            dt: Time since the last call [s], as far as it counts.
            elapsed: The same, all of it; ``dt`` when not given.
            measured: ``(D,)`` measured positions [rad, m], for the gate.

        Returns:
            What the gate changed.
        """
        wanted = target
        if begun is not None or not self._quiet:
            wanted = self._changed(target, rate, self._none if begun is None else begun, now, dt)
        before = self.command
        self.command, limited = self._gate.limit(
            wanted.astype(np.float32), dt if elapsed is None else elapsed, measured, target)
        if dt > 0:
            self._last = before, dt
        return limited

    def _changed(
        self, target: Float64, rate: Float64, begun: NDArray[np.bool_], now: float, dt: float
    ) -> Float64:
        """The next command ``(D,)`` where drivers change, or nobody drives."""
        self._held = np.isnan(target)
        self._fading &= ~self._held
        begun = begun & ~self._held
        wanted = target
        if self._held.any():
            wanted = np.where(self._held, self._brake(dt), target)
        if begun.any() or self._fading.any():
            inside = np.clip(target, self._lower, self._upper)  # where a handover can end
            self._begin(begun, inside, rate, now - dt, dt)
            wanted = np.where(self._fading, self._follow(inside, now, dt), wanted)
        self._quiet = not (self._held.any() or self._fading.any())
        return wanted

    def _begin(
        self, joints: NDArray[np.bool_], target: Float64, rate: Float64, since: float, dt: float
    ) -> None:
        """Note what lay between the last command and where the new target was then."""
        self._offset[joints] = (self.command - target + rate * dt)[joints]
        slope = np.where(self._gripper, 0.0, self._velocity - rate)
        self._slope[joints] = slope[joints]
        self._goal[joints] = self.command[joints]
        self._drift[joints] = self._pace[joints] = self._velocity[joints]
        self._since[joints], self._plain[joints] = since, 0
        self._fading |= joints
        self._landed &= ~joints

    def _brake(self, dt: float) -> Float64:
        """The next command ``(D,)`` of joints that nobody drives."""
        needed = np.abs(self._velocity) / self._acceleration
        longest = float(needed[self._held].max(initial=0.0))
        left = 1.0 - dt / longest if longest > dt else 0.0
        return self.command + left * dt * self._velocity

    def _follow(self, target: Float64, now: float, dt: float) -> Float64:
        """The next command ``(D,)`` of joints that are being handed over."""
        if dt <= 0:
            return self.command.astype(np.float64)
        s = np.clip((now - self._since) / self._time, 0.0, 1.0)
        left = (1 - s) ** 2
        fading = left * ((1 + 2 * s) * self._offset + s * self._time * self._slope)
        goal = np.where(s < 1, target + fading, target)
        last = np.abs(self._goal - self.command)
        pace, before = (goal - self._goal) / dt, self._pace
        self._drift += _NEWEST * (pace - self._drift)
        behind = goal - self.command - dt * self._drift
        # The speed from which one can still stop there, braking a little less with each tick.
        brake = _CATCH_UP * np.where(self._gripper, 1.0, self._acceleration) * dt
        speed = np.sqrt(0.25 * brake * brake + 2 * brake / dt * np.abs(behind)) - 0.5 * brake
        velocity, change = self._velocity, self._acceleration * dt
        close = self._gripper | (np.minimum(np.abs(behind), last) <= brake * dt)
        direct = (goal - self.command) / dt
        wanted = np.where(close, direct, self._drift + np.sign(behind) * speed)
        taken = np.clip(wanted, velocity - change, velocity + change)
        taken = np.clip(taken, -self._speed, self._speed)
        there = close & (taken == wanted)
        self._plain = np.where(s >= 1, self._plain + 1, 0)
        landed = there & (s >= 1)
        if not self._always:
            # Three ticks: until then what fades is in the driver's own change, too.
            jump = np.where(self._plain > 2, np.abs(pace - before), 0.0)
            free = (np.abs(direct) <= self._speed) & (jump > change) & (
                np.abs(direct - velocity) <= jump)
            self._fading &= ~(landed & self._landed | free)
            there |= free
        self._landed, self._goal, self._pace = landed, goal, pace
        return np.where(there, goal, self.command + dt * taken)


class Rate:
    """How fast a source's proposal moves; nobody's who starts from the command he finds.

    An operator's proposal is the command itself until he drives: its rate would be that of the
    driver before him.
    """

    def __init__(self, spec: RobotSpec) -> None:
        self._speed = spec.velocity.astype(np.float64)
        self._last: tuple[float, Float32] | None = None
        self._before: tuple[float, Float32] | None = None

    def update(self, position: Float32 | None, now: float) -> None:
        """Take note of the proposal ``(D,)`` at ``now`` [s], NaN or None where there is none."""
        if position is None:
            self._last = self._before = None
        elif self._last is None or now > self._last[0]:
            self._before, self._last = self._last, (now, position)

    @property
    def value(self) -> Float64:
        """``(D,)`` [rad/s], within the velocity limits; 0 where it is not known."""
        if self._last is None or self._before is None:
            return np.zeros(len(self._speed))
        change = (self._last[1] - self._before[1]) / (self._last[0] - self._before[0])
        return np.where(
            np.isnan(change), 0.0, np.minimum(np.maximum(change, -self._speed), self._speed))
