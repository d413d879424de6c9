"""What the scripted experts share: one arm's measured pose, and small steps towards a goal.

Everything is a function of the measured state, so an expert can label any state. Far moves go
straight in joint space, near moves straight in Cartesian space: a Cartesian path between a
hand that points down and one that points forward would pass the wrist singularity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from il_robot.kinematics import ArmKinematics, Pose
from il_robot.rotations import matrix_from_quaternion, matrix_from_vector, rotation_vector
from il_robot.spec import RobotSpec
from il_robot.types import Action, Float64, Observation

JOINT_STEP = 0.050
"""Largest joint step per control tick at speed 1 [rad] (2.5 rad/s at 50 Hz)."""
LINEAR_STEP, ANGULAR_STEP = 0.010, 0.06
"""Largest Cartesian step per control tick at speed 1 [m], [rad]."""
LATERAL_WINDOW = 0.012
"""Sideways error under which an open hand may go over a part [m] (free play of the fingers)."""

_CARRIED = 0.06
"""Height from which nothing but a hand holds a part [m]."""


@dataclass(frozen=True)
class Style:
    """How an expert moves; varies demonstrations without changing what is right.

    Attributes:
        speed: Factor on all step sizes.
        lift: Added to the heights it lifts and approaches from [m].
        meet: ``(x, y, z)`` added to the place where the arms meet [m].
    """

    speed: float = 1.0
    lift: float = 0.0
    meet: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def sample(cls, rng: np.random.Generator, amount: float = 1.0) -> Style:
        """A random style; ``amount`` 0 gives the plain one, 1 clearly different motions."""
        u = rng.uniform(-amount, amount, 5)
        meet = (float(0.03 * u[2]), float(0.03 * u[3]), float(0.02 * u[4]))
        return cls(1.0 - 0.2 * abs(float(u[0])), 0.02 * float(u[1]), meet)


PLAIN = Style()


@dataclass(frozen=True)
class Hand:
    """One arm as measured: joints ``(6,)`` [rad], gripper width [m], eef pose."""

    name: str
    kinematics: ArmKinematics
    joints: Float64
    width: float
    eef: Pose


class Hands:
    """Reads both arms out of an observation and assembles the action."""

    def __init__(self, spec: RobotSpec) -> None:
        self.spec = spec
        self.kinematics = {arm.name: ArmKinematics.from_spec(spec, arm) for arm in spec.arms}
        self._slices = {arm.name: spec.arm_slice(arm.name) for arm in spec.arms}

    def read(self, observation: Observation) -> dict[str, Hand]:
        """Both hands by name."""
        hands = {}
        for name, kinematics in self.kinematics.items():
            values = observation.state[self._slices[name]].astype(np.float64)
            hands[name] = Hand(
                name, kinematics, values[:-1], float(values[-1]), kinematics.fk(values[:-1]))
        return hands

    def action(self, moves: Mapping[str, tuple[Float64, float]]) -> Action:
        """The action of (joint targets ``(6,)`` [rad], width [m]) per arm, inside limits."""
        target = np.empty(self.spec.dim, np.float32)
        for name, (joints, width) in moves.items():
            target[self._slices[name]] = [*joints, width]
        return Action(np.clip(target, self.spec.lower, self.spec.upper))


def part_pose(observation: Observation, name: str) -> Pose:
    """A named part's pose from an observation."""
    vector = observation.objects[name].astype(np.float64)
    return Pose(matrix_from_quaternion(vector[3:]), vector[:3])


def joint_move(hand: Hand, goal: Float64, speed: float) -> Float64:
    """One step straight in joint space from the measured joints towards ``goal`` ``(6,)``."""
    delta = goal - hand.joints
    largest = float(np.abs(delta).max())
    step = JOINT_STEP * speed
    return goal if largest <= step else hand.joints + delta * (step / largest)


def cartesian_move(hand: Hand, goal: Pose, speed: float) -> Float64:
    """One step straight in Cartesian space from the measured pose towards ``goal``.

    Falls back to a joint-space step where the straight path leaves the reachable space.
    """
    linear = goal.position - hand.eef.position
    angular = rotation_vector(goal.rotation @ hand.eef.rotation.T)
    distance, angle = float(np.linalg.norm(linear)), float(np.linalg.norm(angular))
    fraction = min(1.0, LINEAR_STEP * speed / max(distance, 1e-9),
                   ANGULAR_STEP * speed / max(angle, 1e-9))
    pose = Pose(
        matrix_from_vector(angular * fraction) @ hand.eef.rotation,
        hand.eef.position + linear * fraction)
    joints = hand.kinematics.solve(pose, hand.joints)
    # A step this small cannot need a large turn of a joint: that is a change of branch.
    if joints is not None and float(np.abs(joints - hand.joints).max()) < 0.35:
        return joints
    return far_move(hand, goal, speed)


def far_move(hand: Hand, goal: Pose, speed: float) -> Float64:
    """One joint-space step towards the goal pose; stays where the goal is out of reach."""
    joints = hand.kinematics.solve(goal, hand.joints)
    return hand.joints if joints is None else joint_move(hand, joints, speed)


def go(hand: Hand, goal: Pose, speed: float, near: float = 0.05) -> Float64:
    """A far move, or within ``near`` [m] and 0.35 rad of the goal a Cartesian one."""
    distance, angle = pose_error(hand.eef, goal)
    if distance < near and angle < 0.35:
        return cartesian_move(hand, goal, speed)
    return far_move(hand, goal, speed)


def pose_error(a: Pose, b: Pose) -> tuple[float, float]:
    """Distance [m] and angle [rad] between two poses."""
    cosine = 0.5 * (float(np.trace(a.rotation.T @ b.rotation)) - 1.0)
    return float(np.linalg.norm(a.position - b.position)), float(np.arccos(np.clip(cosine, -1, 1)))


def approach(hand: Hand, grasp: Pose, clear: float, speed: float) -> tuple[Float64, bool]:
    """Bring an open hand over a part along the grasp's approach axis.

    Args:
        hand: The measured hand.
        grasp: Wanted eef pose at the grasp.
        clear: Distance before the grasp from which to come [m].
        speed: Factor on step sizes.

    Returns:
        Joint targets ``(6,)`` [rad], and whether the hand is where it may close.
    """
    axis = grasp.rotation[:, 0]
    error = grasp.inverse_apply(hand.eef.position)
    lateral = float(np.hypot(error[1], error[2]))
    _, angle = pose_error(hand.eef, grasp)
    if lateral < LATERAL_WINDOW and angle < 0.2:
        # Go deeper only as far as the sideways error is already corrected.
        centred = max(0.0, 1.0 - lateral / LATERAL_WINDOW)
        depth = error[0] + min(-error[0], LINEAR_STEP * speed * centred) if error[0] < 0 else 0.0
        goal = Pose(grasp.rotation, grasp.position + axis * depth)
        ready = abs(error[0]) < 0.008 and abs(error[1]) < 0.009 and angle < 0.15
        return cartesian_move(hand, goal, speed), bool(ready)
    before = Pose(grasp.rotation, grasp.position - axis * clear)
    if error[0] > -0.6 * clear and lateral < 0.15 and _points_along(hand, axis):
        # Beside the part and low: back out first.
        out = Pose(hand.eef.rotation, hand.eef.position - axis * (error[0] + clear))
        return cartesian_move(hand, out, speed), False
    return go(hand, before, speed), False


def _points_along(hand: Hand, axis: Float64) -> bool:
    return float(hand.eef.rotation[:, 0] @ axis) > 0.7


def holds(
    hand: Hand, part: Pose, point: Float64, thickness: float, along: float, slack: float = 0.005,
    further: float = 0.0,
) -> bool:
    """Whether a hand holds a part, judged from geometry alone.

    Args:
        hand: The measured hand.
        part: The part's pose.
        point: Where on the part it should be held, in the part's frame ``(3,)`` [m].
        thickness: The part's width between the fingers [m].
        along: Free play along the fingers' width (hand z) [m].
        slack: How much wider than the part the fingers may be open [m].
        further: How much further out on the fingers it may be in the air [m].
    """
    local = hand.eef.inverse_apply(part.apply(point))
    more = further if part.position[2] > _CARRIED else 0.0
    inside = abs(local[0]) < 0.020 + more and abs(local[1]) < 0.011 and (
        abs(local[2]) < along + more)
    return bool(inside and thickness - 0.006 < hand.width < thickness + slack)


def carry(hand: Hand, part: Pose, goal: Pose) -> Pose:
    """The eef pose that brings a rigidly held part from where it is to ``goal``."""
    return goal @ part.inverse() @ hand.eef


def top_down(kinematics: ArmKinematics, position: Float64, yaw: float) -> Pose:
    """An eef pose pointing down; at yaw 0 the fingers open across the arm's forward axis.

    ``yaw`` turns it about the world's z [rad].
    """
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    down = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    return Pose(turn @ kinematics.base.rotation @ down, position)

