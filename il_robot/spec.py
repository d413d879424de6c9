"""RobotSpec: the arms, their joints in order, limits, grippers, cameras and rates.

Read from ``config/robots/<name>.yaml``; everything that needs a joint name, an index or a
limit asks this object, so that no order is ever assumed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from il_robot.config import build, load_yaml, to_dict
from il_robot.errors import ActionError, SpecError, unknown
from il_robot.hardware_spec import HardwareSpec
from il_robot.safety_spec import SafetySpec
from il_robot.types import Float32, as_float32
from il_robot.wiring import Wiring, wire


@dataclass(frozen=True)
class JointSpec:
    """One joint's limits: position [rad or m], velocity, acceleration, effort [Nm or N]."""

    name: str
    lower: float
    upper: float
    velocity: float
    acceleration: float
    effort: float

    def __post_init__(self) -> None:
        if not self.lower < self.upper:
            raise ValueError(f'joint {self.name}: lower {self.lower} must be < upper {self.upper}')
        for limit in ('velocity', 'acceleration', 'effort'):
            if not getattr(self, limit) > 0:
                raise ValueError(f'joint {self.name}: {limit} must be > 0')


@dataclass(frozen=True)
class Geometry:
    """Lengths of an arm with a spherical wrist [m] (see :mod:`il_robot.kinematics`)."""

    shoulder_height: float
    upper_arm: float
    forearm: float
    hand: float

    def __post_init__(self) -> None:
        if not min(self.shoulder_height, self.upper_arm, self.forearm, self.hand) > 0:
            raise ValueError('lengths must be > 0')


@dataclass(frozen=True)
class Frame:
    """A fixed frame: translation [m] and fixed-axis roll, pitch, yaw [rad]."""

    xyz: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rpy: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class ArmSpec:
    """One arm: name, joint prefix, base frame, rest posture (joints, then gripper width)."""

    name: str
    prefix: str
    base: Frame
    rest: tuple[float, ...]


@dataclass(frozen=True)
class CameraSpec:
    """A camera fixed in ``parent``: looks from ``xyz`` at ``target`` [m], ``fovy`` [deg]."""

    name: str
    parent: str
    xyz: tuple[float, float, float]
    target: tuple[float, float, float]
    up: tuple[float, float, float]
    fovy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        if not 0 < self.fovy < 180 or self.width < 1 or self.height < 1:
            raise ValueError(f'camera {self.name}: needs 0 < fovy < 180 and an image size >= 1')
        if np.allclose(np.cross(np.subtract(self.target, self.xyz), self.up), 0):
            raise ValueError(f'camera {self.name}: up must not be parallel to the line of sight')


@dataclass(frozen=True)
class Rates:
    """Rates [Hz]; physics runs ``physics_substeps`` times per control tick."""

    control: float
    physics_substeps: int
    camera: float

    def __post_init__(self) -> None:
        if not 0 < self.control < np.inf or not 0 < self.camera < np.inf:
            raise ValueError('rates must be > 0')
        if self.physics_substeps < 1:
            raise ValueError('physics_substeps must be >= 1')


@dataclass(frozen=True)
class RobotSpec:
    """A robot with one or more equal arms, described by name.

    The order of every state and action vector is: for each arm in ``arms``, its joints in
    ``joints`` order, then its gripper. Use :meth:`index` and :meth:`arm_slice`, never
    "the first half".

    How a real one is wired (``hardware``) and guarded (``safety``) is no part of what a policy
    learns: it counts neither in equality nor in :attr:`hash`, and datasets and checkpoints do not
    keep it.
    """

    name: str
    rates: Rates
    joints: tuple[JointSpec, ...]
    gripper: JointSpec
    arms: tuple[ArmSpec, ...]
    cameras: tuple[CameraSpec, ...] = ()
    geometry: Geometry | None = None
    hardware: HardwareSpec | None = field(default=None, compare=False)
    safety: SafetySpec = field(default_factory=SafetySpec, compare=False)
    source: str = field(default='', compare=False)

    def __post_init__(self) -> None:
        if not self.arms or not self.joints:
            raise ValueError('a robot needs at least one arm and one joint')
        for what, values in (
            ('arm', [a.name for a in self.arms]),
            ('arm prefix', [a.prefix for a in self.arms]),
            ('joint', list(self.joint_names)),
            ('camera', [c.name for c in self.cameras]),
        ):
            twice = sorted({v for v in values if values.count(v) > 1})
            if twice:
                raise ValueError(f'{what} named twice: {", ".join(twice)}')
        names = [j.name for j in (*self.joints, self.gripper)]
        for arm in self.arms:
            if len(arm.rest) != len(names):
                raise ValueError(
                    f'arm {arm.name}: rest has {len(arm.rest)} values, needs {len(names)}: '
                    f'{", ".join(names)}'
                )
        rest, lower, upper = self.rest, self.lower, self.upper
        outside = np.flatnonzero(~((rest >= lower) & (rest <= upper)))
        if outside.size:
            raise ValueError('; '.join(
                f'rest of {self.joint_names[i]} = {rest[i]:g} is outside '
                f'[{lower[i]:g}, {upper[i]:g}]' for i in outside))
        narrow = [j.name for j in self.joints
                  if 2 * self.safety.position_margin >= j.upper - j.lower]
        if narrow:
            raise ValueError(
                f'safety.position_margin {self.safety.position_margin:g} rad leaves no room for '
                f'{", ".join(narrow)}')
        if self.hardware is not None:
            _ = self.wiring

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        """All joint names with prefix, in vector order; grippers included."""
        return tuple(a.prefix + j.name for a in self.arms for j in (*self.joints, self.gripper))

    @cached_property
    def gripper_names(self) -> frozenset[str]:
        """Those of :attr:`joint_names` that are gripper widths [m]; the rest are angles [rad]."""
        return frozenset(a.prefix + self.gripper.name for a in self.arms)

    @property
    def dim(self) -> int:
        """Length of a state or action vector."""
        return len(self.joint_names)

    @cached_property
    def dt(self) -> float:
        """Control period [s]."""
        return 1.0 / self.rates.control

    def _column(self, attribute: str) -> Float32:
        one = [getattr(j, attribute) for j in (*self.joints, self.gripper)]
        return as_float32(one * len(self.arms), (self.dim,), attribute)

    @cached_property
    def lower(self) -> Float32:
        """``(D,)`` lower position limits [rad, m]."""
        return self._column('lower')

    @cached_property
    def upper(self) -> Float32:
        """``(D,)`` upper position limits [rad, m]."""
        return self._column('upper')

    @cached_property
    def velocity(self) -> Float32:
        """``(D,)`` velocity limits [rad/s, m/s]."""
        return self._column('velocity')

    @cached_property
    def acceleration(self) -> Float32:
        """``(D,)`` acceleration limits [rad/s^2, m/s^2]."""
        return self._column('acceleration')

    @cached_property
    def effort(self) -> Float32:
        """``(D,)`` effort limits [Nm, N]."""
        return self._column('effort')

    @cached_property
    def rest(self) -> Float32:
        """``(D,)`` rest posture [rad, m]."""
        return as_float32([v for a in self.arms for v in a.rest], (self.dim,), 'rest')

    @cached_property
    def wiring(self) -> Wiring:
        """The driver's name, scale and limits of every joint, its source and its controller.

        Raises:
            SpecError: the robot has no ``hardware`` section.
            ValueError: the section does not fit the joints (also raised in construction).
        """
        if self.hardware is None:
            raise SpecError(
                f'{self.name} has no hardware section: it can only be simulated. '
                'docs/real_robot.md says how to write one')
        return wire(
            self.hardware, {a.name: a.prefix for a in self.arms}, (*self.joints, self.gripper))

    def arm(self, name: str) -> ArmSpec:
        """The arm of that name.

        Raises:
            SpecError: no such arm.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise SpecError(unknown('arm', name, [a.name for a in self.arms], self.name))

    def arm_slice(self, name: str) -> slice:
        """Where that arm's joints and gripper stand in a vector (gripper last)."""
        size = len(self.joints) + 1
        start = self.arms.index(self.arm(name)) * size
        return slice(start, start + size)

    def index(self, joint: str) -> int:
        """The vector index of a prefixed joint name.

        Raises:
            SpecError: no such joint.
        """
        try:
            return self.joint_names.index(joint)
        except ValueError:
            raise SpecError(unknown('joint', joint, self.joint_names, self.name)) from None

    def camera(self, name: str) -> CameraSpec:
        """The camera of that name.

        Raises:
            SpecError: no such camera.
        """
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise SpecError(unknown('camera', name, [c.name for c in self.cameras], self.name))

    def check_action(self, action: Any, *, clip: bool = False) -> Float32:
        """A float32 ``(D,)`` action that is finite and inside the position limits.

        Args:
            action: ``(D,)`` numbers [rad, m].
            clip: Bring values outside the limits to the limit instead of refusing them.

        Raises:
            ActionError: wrong shape, NaN, or (without ``clip``) outside the limits; every
                offending joint is named with its limits.
        """
        array = as_float32(action, (self.dim,), 'action')
        if not np.isfinite(array).all():
            bad = [self.joint_names[i] for i in np.flatnonzero(~np.isfinite(array))]
            raise ActionError(f'action has NaN or infinity for {", ".join(bad)}')
        if clip:
            return np.clip(array, self.lower, self.upper)
        outside = np.flatnonzero((array < self.lower) | (array > self.upper))
        if outside.size:
            raise ActionError('action outside limits: ' + '; '.join(
                f'{self.joint_names[i]} = {array[i]:.4g} not in '
                f'[{self.lower[i]:g}, {self.upper[i]:g}]' for i in outside))
        return array

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, without the file it came from, its wiring and its guard."""
        data = to_dict(self)
        del data['source'], data['hardware'], data['safety']
        return data

    @cached_property
    def hash(self) -> str:
        """16 hex digits over :meth:`to_dict`; equal specs have equal hashes."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_robot_spec(path: Path | str) -> RobotSpec:
    """Read a robot description.

    Raises:
        ConfigError: the file is missing, has an unknown key or a bad value (all named).
    """
    data = load_yaml(path)
    return build(RobotSpec, {**data, 'source': str(path)}, str(path))


def robot_spec_from_dict(data: dict[str, Any], where: str) -> RobotSpec:
    """The inverse of :meth:`RobotSpec.to_dict` (for checkpoints and datasets)."""
    return build(RobotSpec, data, where)


def spec_differences(ours: RobotSpec, theirs: RobotSpec) -> list[str]:
    """One line per difference that matters for running a policy: ``what: ours | theirs``.

    Arms, joint names and order, position limits and the control rate count; cameras are
    compared by the policy that uses them.
    """
    lines = []
    arms = [[a.name for a in spec.arms] for spec in (ours, theirs)]
    if arms[0] != arms[1]:
        lines.append(f'arms: {arms[0]} | {arms[1]}')
    for what in ('joint_names', 'lower', 'upper'):
        a, b = getattr(ours, what), getattr(theirs, what)
        if len(a) != len(b) or any(x != y for x, y in zip(a, b)):
            lines.append(f'{what}: {[*map(_short, a)]} | {[*map(_short, b)]}')
    if ours.rates.control != theirs.rates.control:
        lines.append(f'control rate [Hz]: {ours.rates.control:g} | {theirs.rates.control:g}')
    return lines


def _short(value: Any) -> str:
    return value if isinstance(value, str) else f'{value:g}'
