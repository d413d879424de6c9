"""The last thing before the wire: position and velocity limits, for every source alike.

A joint approaches a position limit no faster than it can brake, so that whatever happens next, a
stop within the acceleration limit does not end behind it. Acceleration itself is limited where
drivers change (:mod:`il_robot.control.handover`).

Grippers obey position limits only: their target is a set point, and the drive behind it limits
speed and force (closing on a part means a target the fingers never reach).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from il_robot.spec import RobotSpec
from il_robot.types import Float32, Float64


@dataclass(frozen=True)
class Limited:
    """What the gate changed: reason to the joints concerned.

    Reasons are ``position``, ``velocity`` and ``braking`` (too fast so close to a position limit).
    """

    joints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.joints)

    def __str__(self) -> str:
        return '; '.join(f'{why} limit: {", ".join(who)}' for why, who in self.joints.items())


class SafetyGate:
    """Limits a command against the one before it.

    Args:
        spec: Limits and order.
        speed_scale: Factor on the velocity limits, in (0, 1].
    """

    def __init__(self, spec: RobotSpec, speed_scale: float = 1.0) -> None:
        if not 0 < speed_scale <= 1:
            raise ValueError(f'speed_scale must be in (0, 1], got {speed_scale}')
        self._spec = spec
        self.speed = (speed_scale * spec.velocity).astype(np.float64)
        """``(D,)`` velocity limits [rad/s, m/s]."""
        self._unlimited = np.array([name in spec.gripper_names for name in spec.joint_names])
        # Clipped all the same, but not worth a word: a network's target a hair outside the
        # range; float32 rounding of a step that was just possible.
        self._quiet = {'position': 0.02 * (spec.upper - spec.lower), 'velocity': 1e-6,
                       'braking': 1e-3}

    def limit(self, command: Float32, previous: Float32, dt: float) -> tuple[Float32, Limited]:
        """The nearest command inside the limits.

        Args:
            command: ``(D,)`` wanted targets [rad, m], finite.
            previous: ``(D,)`` the command before.
            dt: Time since then [s].

        Returns:
            The command to send, and what was changed.
        """
        spec = self._spec
        inside = np.clip(command, spec.lower, spec.upper)
        step = np.where(self._unlimited, np.inf, self.speed * dt)
        slow = np.clip(inside, previous - step, previous + step)
        down = self._brakeable(previous - spec.lower, dt)
        up = self._brakeable(spec.upper - previous, dt)
        limited = np.clip(slow, previous - down, previous + up).astype(np.float32)
        if (limited == command).all():
            return limited, Limited()
        reasons = {}
        for why, a, b in (('position', command, inside), ('velocity', inside, slow),
                          ('braking', slow, limited)):
            where = np.flatnonzero(np.abs(a - b) > self._quiet[why])
            if where.size:
                reasons[why] = tuple(spec.joint_names[i] for i in where)
        return limited, Limited(reasons)

    def _brakeable(self, room: Float32, dt: float) -> Float64:
        """The longest step ``(D,)`` [rad] toward a limit that leaves room to brake before it.

        With ``v = step / dt`` it is ``v^2 / (2 a) + v dt = room``.
        """
        change = self._spec.acceleration.astype(np.float64) * dt
        room = np.maximum(room, 0.0)
        speed = np.sqrt(change * change + 2.0 * self._spec.acceleration * room) - change
        step: Float64 = np.where(self._unlimited, np.inf, speed * dt)
        return step
