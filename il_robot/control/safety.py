"""The last thing before the wire, for human, expert, policy and hold alike: the safety gate.

What goes out is inside the position limits and keeps hard limits of velocity, acceleration and
jerk, whatever was wanted (:mod:`il_robot.control.safety_limits`); the shapes of the arms keep
their distances and the tool points their box (:mod:`il_robot.control.clearance`), now and until
the arms have come to rest if they brake from here. A command that is admissible goes through bit
for bit. Before that, comfort: a joint approaches a position limit no faster than the joint
table's acceleration can brake, and a stop after a change of driver is of that kind
(:mod:`il_robot.control.handover`). docs/safety.md says what is guaranteed and what is not.

Grippers have position limits and a hard rate: their target is a set point, and the drive behind
it limits speed and force (closing on a part means a target the fingers never reach).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from il_robot.control.admission import Admission, Joints
from il_robot.control.clearance import Clearances
from il_robot.control.distances import Distances
from il_robot.control.safety_limits import BROKEN, JointLimits, comfortable
from il_robot.spec import RobotSpec
from il_robot.types import Float32, Float64

# Commands closer than this part of a control period are one: their difference says nothing.
_INSTANT = 0.1
# After longer than that any speed is 0 [s]; infinity is no time.
_LONGEST = 1e9
# Nothing holds back a gripper's set point but position limits and rate [m/s^2, m/s^3].
_ANY_ACCELERATION, _ANY_JERK = 1e9, 1e12
# Of positions: a command in float32 and what it stands for [rad, m].
_SAME = 1e-6
# The first command after a start is reached when no joint is further away than that [rad].
_REACHED = 0.05


@dataclass(frozen=True)
class Limited:
    """What the gate changed: reason to the joints concerned.

    Reasons are ``position``, ``velocity``, ``braking`` (too fast so close to a position limit),
    ``acceleration``, ``jerk``, ``start`` (far from the measured posture), ``not finite``,
    ``shape``, ``distance LINK - LINK`` and ``workspace ARM``; the last two concern all joints.
    """

    joints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.joints)

    def __str__(self) -> str:
        return '; '.join(f'{why} limit: {", ".join(who)}' for why, who in self.joints.items())


class SafetyGate:
    """Keeps what was sent, and limits what comes next. No clock.

    Args:
        spec: Limits and order.
        speed_scale: Factor on the velocity limits, in (0, 1].
        clearances: Of the robot's shapes; None where it has no model: no distance is watched.
    """

    def __init__(self, spec: RobotSpec, speed_scale: float = 1.0,
                 clearances: Clearances | None = None) -> None:
        if not 0 < speed_scale <= 1:
            raise ValueError(f'speed_scale must be in (0, 1], got {speed_scale}')
        self._spec, self._safety = spec, spec.safety
        self.speed = (speed_scale * spec.velocity).astype(np.float64)
        """``(D,)`` velocity limits [rad/s, m/s]."""
        gripper = self._gripper = np.array(
            [name in spec.gripper_names for name in spec.joint_names])
        margin = np.where(gripper, 0.0, self._safety.position_margin)
        self._lower = spec.lower.astype(np.float64) + margin
        self._upper = spec.upper.astype(np.float64) - margin
        hard = self._safety.acceleration * spec.acceleration.astype(np.float64)
        self._fastest = np.where(gripper, self._safety.gripper_speed * spec.velocity, self.speed)
        self.limits = JointLimits(
            self._lower, self._upper, self._fastest,
            np.where(gripper, _ANY_ACCELERATION, hard),
            np.where(gripper, _ANY_JERK, hard / self._safety.jerk_time))
        self._distances = None if clearances is None else Distances(
            clearances, self.limits, gripper)
        self._arm_names = tuple(n for n in spec.joint_names if n not in spec.gripper_names)
        self._comfort = np.where(gripper, 0.0, spec.acceleration.astype(np.float64))
        self._admission = Admission(Joints(
            self._lower, self._upper, self._fastest, self.limits.acceleration, self.limits.jerk,
            self._comfort, gripper))
        # Clipped all the same, but not worth a word: a network's target a hair outside the
        # range; float32 rounding of a step that was just possible.
        self._quiet: dict[str, Any] = {
            'position': 0.02 * (spec.upper - spec.lower), 'velocity': 1e-6,
            'braking': 1e-3, 'hard': 1e-4}
        self._inside = self._target = self._goal = np.zeros(spec.dim)
        self._state = np.zeros((3, spec.dim))  # position, velocity, acceleration
        self._low, self._high = self._lower, self._upper
        self._speed = self._fastest
        self._wanted = [self._goal, self._goal]
        self._late = 0.0
        self.restart(np.clip(spec.rest, spec.lower, spec.upper))

    # -- state ------------------------------------------------------------------------------
    def restart(self, position: Float32) -> None:
        """At rest at ``(D,)`` [rad, m]; what comes far from there is approached slowly."""
        self.command: Float32 = position.astype(np.float32)
        """``(D,)`` what was sent last [rad, m]."""
        self._state[0] = position
        self._starting: bool | None = None
        self.rest()

    def rest(self) -> None:
        """The robot stood still meanwhile."""
        self._state = np.stack([self._state[0], *np.zeros((2, self._spec.dim))])
        self._wanted, self._late, self._stood = [self._x, self._x], 0.0, True

    @property
    def _x(self) -> Float64:
        x: Float64 = self._state[0]
        return x

    @property
    def _v(self) -> Float64:
        v: Float64 = self._state[1]
        return v

    @property
    def _a(self) -> Float64:
        a: Float64 = self._state[2]
        return a

    # -- what comes next --------------------------------------------------------------------
    def limit(self, command: Float32, dt: float,
              measured: Float32 | None = None, target: Float64 | None = None
              ) -> tuple[Float32, Limited]:
        """The command to send.

        Args:
            command: ``(D,)`` wanted targets [rad, m]. With NaN, infinity or another shape the
                arms brake.
            dt: Time since the last call [s], however long.
            measured: ``(D,)`` measured positions; of use where fingers are far from their target.
            target: ``(D,)`` what the drivers want, of which ``command`` may be the beginning;
                NaN where nobody drives. It decides on a slow start; ``command`` when not given.

        Returns:
            It, and what was changed.
        """
        spec = self._spec
        if not dt > 0:
            dt = 0.0
        h = min(self._late + dt, spec.dt if self._stood else _LONGEST)
        if h < _INSTANT * spec.dt:
            self._late = h
            return self.command, Limited()
        self._late, self._stood = 0.0, False
        if command.shape == (spec.dim,) and self._admitted(command, h, measured, target):
            return self.command, Limited()
        reasons: dict[str, tuple[str, ...]] = {}
        if np.shape(command) != (spec.dim,):
            reasons['shape'] = spec.joint_names
            wanted = None
        elif not np.isfinite(command).all():
            reasons['not finite'] = self._names(~np.isfinite(command))
            wanted = None
        else:
            wanted = self._comfortable(command, min(h, 2.0 * spec.dt), reasons, target)
        a = self._hard(wanted, h, reasons)
        if self._distances is not None:
            a = self._clear(self._distances, a, h, measured, reasons)
        return self._enter(a, wanted, h), Limited(reasons)

    def _admitted(self, command: Float32, h: float, measured: Float32 | None,
                  target: Float64 | None) -> bool:
        """Whether a command can go out as it is, which most can, and then it has."""
        if self._starting:
            return False
        new = self._admission(command, target, measured, self._state, h,
                              min(h, 2.0 * self._spec.dt), standing=self._starting is None)
        if new is None:
            return False
        if self._distances is not None and not self._distances.free(new[4], new[5]):
            return False
        self._state, self._wanted = new[:3], [new[3], self._wanted[0]]
        self.command = np.array(command, np.float32)
        return True

    def _enter(self, a: Float64 | None, wanted: Float64 | None, h: float) -> Float32:
        """Send what was decided; ``a`` None: the wanted command as it is."""
        if a is None:
            assert wanted is not None
            v = (wanted - self._x) / h
            self._state = np.stack([wanted, v, (v - self._v) / h])
        else:
            v = self._v + a * h
            # Against rounding: no command is beyond a limit by 1e-20.
            self._state = np.stack([np.clip(
                self._x + v * h, np.minimum(self._lower, self._x),
                np.maximum(self._upper, self._x)), v, a])
        self.command = self._x.astype(np.float32)
        return self.command

    def _names(self, where: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(self._spec.joint_names[i] for i in np.flatnonzero(where))

    def _comfortable(self, command: Float32, dt: float, reasons: dict[str, tuple[str, ...]],
                     target: Float64 | None) -> Float64:
        """Inside position and velocity limits, and slow where a limit is near."""
        before = self._x
        # What is outside may stay there or come in.
        self._low, self._high = np.minimum(self._lower, before), np.maximum(self._upper, before)
        inside = self._inside = np.clip(command, self._low, self._high).astype(np.float64)
        goal = inside if target is None else np.clip(target, self._low, self._high)
        self._target = goal
        self._speed = self._slowed(goal, reasons)
        if target is not None:
            # A command on the way to what is wanted, or to rest, is no place to stop at.
            self._inside = np.where(np.abs(goal - inside) <= _SAME, inside, np.nan)
        slow, limited = np.empty((2, len(inside)))
        comfortable(inside, before, dt, self._speed, self._lower, self._upper, self._comfort, slow,
                    limited)
        if (limited == command).all():
            return limited
        for why, a, b in (('position', command, inside), ('velocity', inside, slow),
                          ('braking', slow, limited)):
            where = np.abs(a - b) > self._quiet[why]
            if where.any():
                reasons[why] = self._names(where)
        if self._safety.mode == 'slow' and reasons:
            return self._together(before, inside, limited)
        return limited.astype(np.float32).astype(np.float64)

    def _hard(self, wanted: Float64 | None, h: float, reasons: dict[str, tuple[str, ...]]
              ) -> Float64 | None:
        """The accelerations ``(D,)`` that the joints' limits allow; None: those of ``wanted``."""
        limits, x, v = self.limits, self._x, self._v
        if wanted is None:
            return limits.brakes(v, self._a, h)
        if self._rejects(reasons):
            # Who goes on asking for it from a standstill gets there slowly.
            self._starting = self._starting or not v.any()
            return limits.brakes(v, self._a, h)
        speed = self._speed
        goal_v = (wanted - x) / h
        goal = (goal_v - v) / h
        bits = limits.broken(wanted, goal_v, goal, self._a, h, speed, self._low, self._high)
        # Grippers are inside position limits and rate already, and that is all.
        broken = (bits > 0) & ~self._gripper
        if not broken.any():
            self._wanted, self._goal = [self._target, self._wanted[0]], goal
            return None
        pace = self._pace(self._target, h)
        safe, a = limits.brakes(v, self._a, h), goal.copy()
        for i in np.flatnonzero(broken).tolist():
            a[i] = limits.nearest(i, float(x[i]), float(v[i]), float(self._a[i]), h,
                                  float(goal[i]), float(self._inside[i]), float(pace[i]),
                                  float(speed[i]), float(self._low[i]), float(self._high[i]))
        changed = broken & (np.abs(a - goal) * h * h > self._quiet['hard'])
        for name, bit in BROKEN.items():
            where = changed & (bits & bit > 0)
            if where.any():
                reasons[name] = self._names(where)
        if self._rejects(reasons):
            return safe
        if self._safety.mode == 'slow':
            a = self._together(safe, goal, a)
        return a

    def _together(self, start: Float64, goal: Float64, possible: Float64) -> Float64:
        """From ``start`` towards ``goal``, all arm joints the part of the way that each can go."""
        way = np.where(self._gripper, 0.0, goal - start)
        part = np.where(
            np.abs(way) > 1e-9, (possible - start) / np.where(way == 0, 1.0, way), 1.0)
        share = float(np.clip(part, 0.0, 1.0).min())
        return np.where(self._gripper, possible, start + share * way)

    def _rejects(self, reasons: Mapping[str, tuple[str, ...]]) -> bool:
        """Whether a command is rejected for that: not for a gripper's set point, nor a start."""
        return self._safety.mode == 'reject' and not self._starting and any(
            name in self._arm_names for names in reasons.values() for name in names)

    def _slowed(self, inside: Float64, reasons: dict[str, tuple[str, ...]]) -> Float64:
        """Velocity limits ``(D,)`` now: low while the first command after a start is far away."""
        if self._starting is False or np.isnan(inside[~self._gripper]).all():
            return self._fastest
        inside = np.where(np.isnan(inside), self._x, inside)
        gap = np.where(self._gripper, 0.0, np.abs(inside - self._x))
        if self._starting is None:
            if not gap.any():
                return self._fastest  # nobody drives yet
            self._starting = bool(gap.max() > self._safety.start_jump)
        elif gap.max() < _REACHED:
            self._starting = False
        if not self._starting:
            return self._fastest
        reasons['start'] = self._names(gap >= _REACHED)
        return np.where(self._gripper, self._fastest, self._safety.start_speed * self._fastest)

    def _pace(self, wanted: Float64, h: float) -> Float64:
        """How fast the target moves ``(D,)`` [rad/s], as far as it can be believed."""
        newest, older = (wanted - self._wanted[0]) / h, (self._wanted[0] - self._wanted[1]) / h
        self._wanted = [wanted, self._wanted[0]]
        same = newest * older > 0
        pace = np.where(same, np.sign(newest) * np.minimum(np.abs(newest), np.abs(older)), 0.0)
        return np.clip(pace, -self._fastest, self._fastest)

    def _clear(self, distances: Distances, a: Float64 | None, h: float,
               measured: Float32 | None, reasons: dict[str, tuple[str, ...]]) -> Float64 | None:
        """As far towards ``a`` (None: the wanted command) as distances allow."""
        possible, close = distances.nearest(
            self._goal if a is None else a, self._state, h, measured,
            reject=self._safety.mode == 'reject')
        if not close:
            return a
        reasons[close] = self._arm_names
        return possible
