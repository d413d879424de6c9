"""Forward and closed-form inverse kinematics of a 6-axis arm with a spherical wrist.

Joint axes z-y-y-x-y-x (waist, shoulder, elbow, forearm_roll, wrist_angle, wrist_rotate). At
zero the upper arm points up and the forearm forward. The tool frame ``eef`` has x along the
approach, y along the opening of the fingers, z out of the back of the hand. Wrist and elbow
have no offsets, so position and orientation decouple (Pieper 1968) and there are
2 (waist) x 2 (elbow) x 2 (wrist) branches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from il_robot.errors import SpecError
from il_robot.rotations import axis_rotations, rotation_rpy
from il_robot.spec import ArmSpec, RobotSpec
from il_robot.types import Float64

_SINGULAR = 1e-10
# A nearly stretched elbow is known to the root of the rounding error only [rad].
_LIMIT_SLACK = 1e-6
DOF = 6
_AXES = (2, 1, 1, 0, 1, 0)
"""Of waist, shoulder, shoulder and elbow together, forearm roll, wrist angle, wrist rotate."""


@dataclass(frozen=True)
class Pose:
    """A frame in ``base``: rotation ``(3, 3)`` and position ``(3,)`` [m]."""

    rotation: Float64
    position: Float64

    def apply(self, point: ArrayLike) -> Float64:
        """A point ``(3,)`` given in this frame, in ``base`` [m]."""
        moved: Float64 = self.rotation @ np.asarray(point) + self.position
        return moved

    def inverse_apply(self, point: ArrayLike) -> Float64:
        """A point ``(3,)`` given in ``base``, in this frame [m]."""
        local: Float64 = self.rotation.T @ (np.asarray(point) - self.position)
        return local

    def __matmul__(self, other: Pose) -> Pose:
        return Pose(self.rotation @ other.rotation, self.apply(other.position))

    def inverse(self) -> Pose:
        """The frame ``base`` seen from here."""
        return Pose(self.rotation.T, -(self.rotation.T @ self.position))


@dataclass(frozen=True)
class ArmKinematics:
    """Kinematics of one arm in the frame ``base``.

    Attributes:
        base: The arm's base frame in ``base``.
        shoulder_height, upper_arm, forearm, hand: Lengths [m].
        lower, upper: ``(6,)`` joint limits [rad], used by :meth:`solve` only.
    """

    base: Pose
    shoulder_height: float
    upper_arm: float
    forearm: float
    hand: float
    lower: Float64
    upper: Float64

    @classmethod
    def from_spec(cls, spec: RobotSpec, arm: ArmSpec | str) -> ArmKinematics:
        """The kinematics of one arm of a robot.

        Raises:
            SpecError: the robot has no spherical-wrist geometry, or not six joints.
        """
        arm = spec.arm(arm) if isinstance(arm, str) else arm
        g = spec.geometry
        if g is None or len(spec.joints) != DOF:
            raise SpecError(
                f'{spec.name}: closed-form kinematics needs `geometry` and {DOF} joints per arm'
            )
        return cls(
            Pose(rotation_rpy(arm.base.rpy), np.array(arm.base.xyz)),
            g.shoulder_height, g.upper_arm, g.forearm, g.hand,
            np.array([j.lower for j in spec.joints]), np.array([j.upper for j in spec.joints]),
        )

    @cached_property
    def _origin(self) -> Float64:
        return self.base.apply([0.0, 0.0, self.shoulder_height])

    def _frames(self, q: ArrayLike) -> tuple[Float64, Float64, Float64, Float64]:
        """Rotation up to the elbow pitch, wrist centre, and hand rotation, in the arm's base."""
        q1, q2, q3, q4, q5, q6 = (float(v) for v in np.asarray(q))
        c1, s1 = math.cos(q1), math.sin(q1)
        c23, s23 = math.cos(q2 + q3), math.sin(q2 + q3)
        r = self.upper_arm * math.sin(q2) + self.forearm * c23
        z = self.upper_arm * math.cos(q2) - self.forearm * s23
        wrist = np.array([c1 * r, s1 * r, z])
        r03 = np.array([[c1 * c23, -s1, c1 * s23], [s1 * c23, c1, s1 * s23], [-s23, 0.0, c23]])
        c4, s4, c5, s5 = math.cos(q4), math.sin(q4), math.cos(q5), math.sin(q5)
        c6, s6 = math.cos(q6), math.sin(q6)
        r36 = np.array([
            [c5, s5 * s6, s5 * c6],
            [s4 * s5, c4 * c6 - s4 * c5 * s6, -c4 * s6 - s4 * c5 * c6],
            [-c4 * s5, s4 * c6 + c4 * c5 * s6, -s4 * s6 + c4 * c5 * c6],
        ])
        elbow = np.array([c1, s1, 0.0]) * (self.upper_arm * math.sin(q2))
        elbow[2] = self.upper_arm * math.cos(q2)
        return r03, wrist, r03 @ r36, elbow

    def fk(self, q: ArrayLike) -> Pose:
        """The eef pose in ``base`` for joint angles ``(6,)`` [rad]."""
        _, wrist, rotation, _ = self._frames(q)
        rotation = self.base.rotation @ rotation
        wrist = self.base.rotation @ wrist + self._origin
        return Pose(rotation, wrist + self.hand * rotation[:, 0])

    def fk_batch(self, q: ArrayLike) -> tuple[Float64, Float64]:
        """The eef poses in ``base`` for many joint angles ``(N, 6)`` [rad].

        Returns:
            Rotations ``(N, 3, 3)`` and positions ``(N, 3)`` [m]; one row gives the same bits as
            it does among many.
        """
        q = np.asarray(q, dtype=np.float64)
        pitch = q[:, 1] + q[:, 2]
        turns = axis_rotations(_AXES, np.concatenate([q[:, :2], pitch[:, None], q[:, 3:]], 1))
        both = turns[:, :1] @ turns[:, 1:3]
        upper, forearm = both[:, 0], both[:, 1]
        hand = forearm @ turns[:, 3] @ turns[:, 4] @ turns[:, 5]
        reached = (self.upper_arm * upper[:, :, 2] + self.forearm * forearm[:, :, 0]
                   + self.hand * hand[:, :, 0])
        rotation, position = self.base.rotation @ hand, self.base.rotation @ reached[:, :, None]
        return rotation, position[:, :, 0] + self._origin

    def ik(self, pose: Pose, near: ArrayLike | None = None) -> Float64:
        """All joint angles that reach an eef pose, joint limits not looked at.

        Args:
            pose: Wanted eef pose in ``base``.
            near: ``(6,)`` angles that settle the free joint at a singularity (waist above the
                shoulder, straight wrist); zeros when not given.

        Returns:
            ``(n, 6)`` [rad] in [-pi, pi], n = 8 branches, or 0 when out of reach.
        """
        ref = np.zeros(DOF) if near is None else np.asarray(near, dtype=np.float64)
        rotation = self.base.rotation.T @ pose.rotation
        wrist = self.base.rotation.T @ (
            pose.position - self.hand * pose.rotation[:, 0] - self._origin
        )
        x, y, z = (float(v) for v in wrist)
        l1, l2 = self.upper_arm, self.forearm
        sin3 = (l1 * l1 + l2 * l2 - x * x - y * y - z * z) / (2.0 * l1 * l2)
        if abs(sin3) > 1.0 + 1e-9:
            return np.empty((0, DOF))
        q3_up = math.asin(max(-1.0, min(1.0, sin3)))
        radius = math.hypot(x, y)
        q1_front = math.atan2(y, x) if radius > _SINGULAR else float(ref[0])
        solutions = []
        for q1, r in ((q1_front, radius), (_wrap(q1_front + math.pi), -radius)):
            for q3 in (q3_up, _wrap(math.pi - q3_up)):
                a, b = l1 - l2 * math.sin(q3), l2 * math.cos(q3)
                q2 = math.atan2(a * r - b * z, b * r + a * z)
                solutions += [
                    (q1, q2, q3, *wrist_angles)
                    for wrist_angles in _wrist(rotation, q1, q2 + q3, ref)
                ]
        return np.array(solutions)

    def solve(self, pose: Pose, near: ArrayLike) -> Float64 | None:
        """The branch inside the joint limits nearest to ``near`` ``(6,)`` [rad], or None.

        Angles are taken modulo 2 pi where the limits allow it, so that a wrist never turns
        around to reach the same pose.
        """
        ref = np.asarray(near, dtype=np.float64)
        candidates = self.ik(pose, ref)
        if not len(candidates):
            return None
        turn, lower, upper = 2.0 * math.pi, self.lower - _LIMIT_SLACK, self.upper + _LIMIT_SLACK
        candidates = candidates + turn * np.round((ref - candidates) / turn)
        candidates = np.where(candidates > upper, candidates - turn, candidates)
        candidates = np.where(candidates < lower, candidates + turn, candidates)
        inside = ((candidates >= lower) & (candidates <= upper)).all(axis=1)
        if not inside.any():
            return None
        candidates = np.clip(candidates[inside], self.lower, self.upper)
        nearest: Float64 = candidates[int(np.argmin(np.abs(candidates - ref).max(axis=1)))]
        return nearest

    def jacobian(self, q: ArrayLike) -> Float64:
        """Geometric Jacobian ``(6, 6)`` of the eef in ``base``.

        Rows: linear velocity [m/rad] (3), angular velocity [rad/rad] (3); columns: joints.
        """
        q = np.asarray(q, dtype=np.float64)
        r03, wrist, rotation, elbow = self._frames(q)
        eef = wrist + self.hand * rotation[:, 0]
        y1 = np.array([-math.sin(q[0]), math.cos(q[0]), 0.0])
        wrist_y = r03 @ np.array([0.0, math.cos(q[3]), math.sin(q[3])])
        axes = np.stack([[0.0, 0.0, 1.0], y1, y1, r03[:, 0], wrist_y, rotation[:, 0]])
        origins = np.stack([np.zeros(3), np.zeros(3), elbow, wrist, wrist, wrist])
        linear = np.cross(axes, eef - origins)
        return np.concatenate([self.base.rotation @ linear.T, self.base.rotation @ axes.T])


def _wrap(angle: float) -> float:
    """The same angle in [-pi, pi]."""
    return math.remainder(angle, 2.0 * math.pi)


def _wrist(
    rotation: Float64, q1: float, q23: float, ref: Float64
) -> list[tuple[float, float, float]]:
    """Both XYX Euler solutions of R36 = R03^T R.

    At the singularity only q4 + q6 (or q4 - q6) is given: the answers are then the pair
    nearest to ``ref`` and the pair nearest to zero, which is always within symmetric limits.
    """
    c1, s1, c, s = math.cos(q1), math.sin(q1), math.cos(q23), math.sin(q23)
    r03_t = np.array([[c1 * c, s1 * c, -s], [-s1, c1, 0.0], [c1 * s, s1 * s, c]])
    r = (r03_t @ rotation).tolist()
    sin5 = math.hypot(r[1][0], r[2][0])
    q5 = math.atan2(sin5, r[0][0])
    if sin5 < _SINGULAR:
        sign = math.copysign(1.0, r[0][0])
        total = math.atan2(r[2][1], r[1][1])
        pairs = [
            (a + 0.5 * _wrap(total - a - sign * b), q5)
            for a, b in ((float(ref[3]), float(ref[5])), (0.0, 0.0))
        ]
    else:
        q4 = math.atan2(r[1][0], -r[2][0])
        pairs = [(q4, q5), (q4 + math.pi, -q5)]
    solutions = []
    for q4, q5 in pairs:
        c4, s4 = math.cos(q4), math.sin(q4)
        # The middle row of Rx(-q4) R36 holds q6 alone, and well where q4 is hardly determined.
        q6 = math.atan2(-c4 * r[1][2] - s4 * r[2][2], c4 * r[1][1] + s4 * r[2][1])
        solutions.append((_wrap(q4), q5, q6))
    return solutions
