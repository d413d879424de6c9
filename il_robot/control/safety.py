"""The last thing before the wire: position and velocity limits, for every source alike.

Grippers obey position limits only: their target is a set point, and the drive behind it limits
speed and force (closing on a part means a target the fingers never reach).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from il_robot.spec import RobotSpec
from il_robot.types import Float32


@dataclass(frozen=True)
class Limited:
    """What the gate changed: reason (``position``, ``velocity``) to the joints concerned."""

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
        self._speed = (speed_scale * spec.velocity).astype(np.float64)
        self._unlimited = np.array([name in spec.gripper_names for name in spec.joint_names])
        # Clipped all the same, but not worth a word: a network's target a hair outside the
        # range; float32 rounding of a step that was just possible.
        self._quiet = {'position': 0.02 * (spec.upper - spec.lower), 'velocity': 1e-6}

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
        step = np.where(self._unlimited, np.inf, self._speed * dt)
        limited = np.clip(inside, previous - step, previous + step).astype(np.float32)
        if (limited == command).all():
            return limited, Limited()
        reasons = {}
        for why, a, b in (('position', command, inside), ('velocity', inside, limited)):
            where = np.flatnonzero(np.abs(a - b) > self._quiet[why])
            if where.size:
                reasons[why] = tuple(spec.joint_names[i] for i in where)
        return limited, Limited(reasons)
