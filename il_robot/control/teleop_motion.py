"""From what an operator wants of one arm to its next absolute joint targets.

Cartesian motion takes the closed-form inverse kinematics next to the last target; where that is
out of reach, against a limit or too fast (near a singularity), a damped least-squares step
(Nakamura & Hanafusa 1986; Buss 2009, "Introduction to inverse kinematics", eq. 11). Joint angles
are the only state, so nothing winds up behind a limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from il_robot.errors import SpecError
from il_robot.kinematics import ArmKinematics, Pose
from il_robot.rotations import matrix_from_vector, rotation_vector
from il_robot.spec import RobotSpec
from il_robot.types import Float64

# Length that makes metres and radians comparable: about an upper arm [m].
_LENGTH = 0.3
_DAMPING = 0.05
# How far a slowed-down step may lead astray, as a fraction of the step and of the largest joint
# step: a wrist that turns on the spot at a singularity stays below it, another branch never does.
_ASTRAY = 0.05
# What is not asked for (turning while moving straight, or moving while turning) weighs more, and a
# damped step has to lead closer by at least this fraction: an arm that is pushed against a limit
# slides along it or stops, and does not wander off.
_UNASKED = 10.0
_PROGRESS = 0.1


def _zeros() -> Float64:
    return np.zeros(6)


@dataclass(frozen=True, eq=False)
class ArmIntent:
    """What the operator wants of one arm now; nothing given: stay.

    At most one of pose, joint_rates and joints counts, in that order, before the twist.

    Attributes:
        twist: ``(6,)`` velocity of the eef in ``base`` [m/s, rad/s].
        pose: Where the eef shall go, not faster than ``pose_speed``.
        pose_speed: Linear and angular [m/s, rad/s].
        joint_rates: ``(n,)`` [rad/s].
        joints: ``(n,)`` where the joints shall go [rad].
        gripper_rate: Of the opening [m/s].
        gripper: Opening to go to [m]; before the rate.
        gripper_speed: How fast at most [m/s].
    """

    twist: Float64 = field(default_factory=_zeros)
    pose: Pose | None = None
    pose_speed: tuple[float, float] = (0.0, 0.0)
    joint_rates: Float64 | None = None
    joints: Float64 | None = None
    gripper_rate: float = 0.0
    gripper: float | None = None
    gripper_speed: float = np.inf


@dataclass(frozen=True, eq=False)
class ArmModel:
    """Limits and kinematics of one arm; the gripper is the last entry.

    Attributes:
        lower, upper: ``(n + 1,)`` [rad, m].
        velocity: ``(n + 1,)`` [rad/s, m/s], never exceeded.
        kinematics: None where the robot has no closed form; then there is no Cartesian motion.
    """

    lower: Float64
    upper: Float64
    velocity: Float64
    kinematics: ArmKinematics | None

    @classmethod
    def from_spec(cls, spec: RobotSpec, arm: str, limit: float = 1.0) -> ArmModel:
        """The model of one arm, with ``limit`` of the robot's velocities."""
        where = spec.arm_slice(arm)
        try:
            kinematics = ArmKinematics.from_spec(spec, arm)
        except SpecError:
            kinematics = None
        return cls(
            spec.lower[where].astype(np.float64), spec.upper[where].astype(np.float64),
            limit * spec.velocity[where].astype(np.float64), kinematics)

    def eef(self, target: Float64) -> Pose:
        """The eef pose in ``base`` at ``(n + 1,)`` targets.

        Raises:
            SpecError: the robot has no closed-form kinematics.
        """
        if self.kinematics is None:
            raise SpecError('Cartesian motion needs a robot with closed-form kinematics')
        return self.kinematics.fk(target[:-1])


def advance(model: ArmModel, target: Float64, intent: ArmIntent, dt: float) -> Float64:
    """The next target of one arm.

    Args:
        model: The arm.
        target: ``(n + 1,)`` last target, inside the limits [rad, m].
        intent: What is wanted.
        dt: Time since the last target [s].

    Returns:
        ``(n + 1,)`` inside the limits; no entry differs from ``target`` by more than
        ``model.velocity * dt``; the same numbers where nothing is wanted.
    """
    bound = model.velocity * dt
    goal = target.copy()
    if intent.pose is not None:
        goal[:-1] = _cartesian(model, target, _toward(model.eef(target), intent, dt), bound)
    elif intent.joint_rates is not None:
        goal[:-1] += intent.joint_rates * dt
    elif intent.joints is not None:
        goal[:-1] = intent.joints
    elif intent.twist.any():
        goal[:-1] = _cartesian(model, target, intent.twist * dt, bound)
    if intent.gripper is not None:
        most = min(intent.gripper_speed, float(model.velocity[-1])) * dt
        goal[-1] += np.clip(intent.gripper - target[-1], -most, most)
    else:
        goal[-1] += intent.gripper_rate * dt
    goal = np.clip(goal, target - bound, target + bound)
    return np.clip(goal, model.lower, model.upper)


def _toward(here: Pose, intent: ArmIntent, dt: float) -> Float64:
    """The displacement ``(6,)`` from a pose to the wanted one, no faster than allowed."""
    assert intent.pose is not None
    step = np.concatenate([
        intent.pose.position - here.position,
        rotation_vector(intent.pose.rotation @ here.rotation.T)])
    for part, speed in zip((slice(0, 3), slice(3, 6)), intent.pose_speed):
        size = float(np.linalg.norm(step[part]))
        if size > speed * dt:
            step[part] *= speed * dt / size
    return step


def _cartesian(model: ArmModel, target: Float64, step: Float64, bound: Float64) -> Float64:
    """Joint angles ``(n,)`` after a small displacement ``(6,)`` of the eef [m, rad].

    Of the exact solution and the damped step, each slowed down to the bound, the exact one counts
    as long as it leads where it should: another branch of the arm, or the far side of a
    singularity, would swing the arm on its way there. Nothing moves where neither leads closer.
    """
    kinematics = model.kinematics
    if kinematics is None or not step.any():
        return target[:-1]
    q, bound = target[:-1], bound[:-1]
    here = kinematics.fk(q)
    goal = Pose(matrix_from_vector(step[3:]) @ here.rotation, here.position + step[:3])
    weight = _weight(step)
    away = _distance(here, goal, weight)
    exact = kinematics.solve(goal, q)
    if exact is not None:
        slowed = _slow_down(q, exact, bound)
        astray = _ASTRAY * (2.0 * away + float(bound.max()))
        if _distance(kinematics.fk(slowed), goal, weight) <= away + astray:
            return slowed
    damped = _slow_down(q, q + _damped_step(model, q, step, weight), bound)
    closer = _distance(kinematics.fk(damped), goal, weight) < (1.0 - _PROGRESS) * away
    return damped if closer else q


def _weight(step: Float64) -> tuple[float, float]:
    """Weights of metres and radians for a displacement ``(6,)``."""
    linear, angular = 1.0 / _LENGTH, 1.0
    if not step[3:].any():
        angular *= _UNASKED
    elif not step[:3].any():
        linear *= _UNASKED
    return linear, angular


def _slow_down(q: Float64, goal: Float64, bound: Float64) -> Float64:
    """As far towards ``goal`` as one step allows, all joints by the same factor."""
    move = goal - q
    excess = float(np.max(np.abs(move) / np.maximum(bound, 1e-12)))
    return goal if excess <= 1.0 else q + move / excess


def _distance(a: Pose, b: Pose, weight: tuple[float, float]) -> float:
    """Between two poses: the larger of the weighted way and the weighted angle."""
    way = float(np.linalg.norm(a.position - b.position))
    angle = float(np.linalg.norm(rotation_vector(a.rotation @ b.rotation.T)))
    return max(weight[0] * way, weight[1] * angle)


def _damped_step(
    model: ArmModel, q: Float64, step: Float64, weight: tuple[float, float]
) -> Float64:
    """Damped least squares for a displacement ``(6,)``; joints at a limit take no part.

    A joint that would pass its limit is taken to it, and the others solved for the rest.
    """
    assert model.kinematics is not None
    weights = np.repeat(weight, 3)
    jacobian = model.kinematics.jacobian(q) * weights[:, None]
    wanted = step * weights
    lower, upper = model.lower[:-1], model.upper[:-1]
    move, free = np.zeros_like(q), np.ones(q.shape, bool)
    while free.any():
        J = jacobian[:, free]
        rest = wanted - jacobian[:, ~free] @ move[~free]
        move[free] = J.T @ np.linalg.solve(J @ J.T + _DAMPING**2 * np.eye(6), rest)
        stopped = free & ((q + move < lower) | (q + move > upper))
        if not stopped.any():
            break
        move[stopped] = (np.clip(q + move, lower, upper) - q)[stopped]
        free &= ~stopped
    return move


def mirrored(twist: Float64, normal: Float64) -> Float64:
    """A twist ``(6,)`` seen in a mirror whose plane has this unit normal ``(3,)``.

    Linear velocity is a vector, angular velocity an axial one: it turns the other way.
    """
    linear, angular = twist[:3], twist[3:]
    return np.concatenate([
        linear - 2.0 * normal * (normal @ linear), 2.0 * normal * (normal @ angular) - angular])
