"""Scripted expert for transfer_cube: pick with the right arm, offer, take with the left.

The right hand grasps from above and turns to horizontal; the cube's upper and lower faces are
then free for the left gripper, rolled by 90 degrees. Which phase it is follows from the
geometry of the observation alone.
"""

from __future__ import annotations

import numpy as np

from il_robot.kinematics import Pose
from il_robot.sim.experts.motion import (
    PLAIN,
    Hand,
    Hands,
    Style,
    approach,
    cartesian_move,
    far_move,
    go,
    holds,
    joint_move,
    part_pose,
    pose_error,
    top_down,
)
from il_robot.sim.tasks.transfer_cube import TransferCube
from il_robot.spec import RobotSpec
from il_robot.types import Action, Float64, Observation

_MEET = np.array([0.0, 0.0, 0.27])
_TAKE_CLEAR, _PICK_CLEAR = 0.10, 0.10
_LEFT_SIDE = -0.02
"""A cube further left on the table [m] lies under the waiting left hand."""
_CENTRE = np.zeros(3)


class TransferCubeExpert:
    """See the module; implements :class:`il_robot.protocols.Expert`."""

    def __init__(self, spec: RobotSpec, task: TransferCube, style: Style = PLAIN) -> None:
        self.task, self.style = task, style
        self._hands = Hands(spec)
        self._open, self._rest = spec.gripper.upper, spec.rest
        self._rest_joints = {
            arm.name: spec.rest[spec.arm_slice(arm.name)][:-1].astype(np.float64)
            for arm in spec.arms
        }
        right = self._hands.kinematics['right'].base.rotation
        # Horizontal: eef x and y along the arm's own forward and sideways axes.
        self._offer_rotation = right
        self._meet = _MEET + np.array(style.meet)

    def __call__(self, observation: Observation) -> Action:
        """The label for this observation, any reachable state."""
        hands = self._hands.read(observation)
        left, right = hands['left'], hands['right']
        cube = part_pose(observation, 'cube')
        has_left = self._holds(left, cube)
        has_right = self._holds(right, cube)
        if has_left:
            right_move = self._release(right, cube)
            left_move = self._keep(left, cube, has_right)
        elif has_right:
            right_move = self._offer(right, cube)
            left_move = self._take(left, right, cube)
        else:
            right_move = self._pick(right, cube)
            left_move = self._make_room(left, cube), self._open
        return self._hands.action({'left': left_move, 'right': right_move})

    def _holds(self, hand: Hand, cube: Pose) -> bool:
        # An expert who let go of a cube far out on the fingers would teach a policy whose grasp
        # is a little worse than his own to drop what it holds.
        return holds(hand, cube, _CENTRE, self.task.size, along=0.018, further=0.012)

    def _pick(self, hand: Hand, cube: Pose) -> tuple[Float64, float]:
        """From above, on whichever pair of upright faces needs the least turning."""
        position = cube.position.copy()
        position[2] = max(position[2], 0.018)
        grasp = _nearest_yaw(hand, cube, position, self._hands.kinematics['right'].base.rotation)
        joints, ready = approach(hand, grasp, _PICK_CLEAR + self.style.lift, self.style.speed)
        return joints, 0.0 if ready else self._open

    def _offer(self, hand: Hand, cube: Pose) -> tuple[Float64, float]:
        """Lift, then turn to horizontal with the cube at the meeting point."""
        if cube.position[2] < 0.08 and hand.eef.rotation[2, 0] < -0.8:
            up = Pose(hand.eef.rotation, hand.eef.position + np.array([0.0, 0.0, 0.05]))
            return cartesian_move(hand, up, self.style.speed), 0.0
        offset = hand.eef.rotation.T @ (cube.position - hand.eef.position)
        goal = Pose(self._offer_rotation, self._meet - self._offer_rotation @ offset)
        return go(hand, goal, self.style.speed), 0.0

    def _take(self, left: Hand, right: Hand, cube: Pose) -> tuple[Float64, float]:
        """Once the cube is offered, come from the free side; before, wait next to it."""
        _, angle = pose_error(right.eef, Pose(self._offer_rotation, self._meet))
        offered = float(np.linalg.norm(cube.position - self._meet)) < 0.02 and angle < 0.2
        if not offered:
            return self._make_room(left, cube), self._open
        joints, ready = approach(
            left, Pose(_take_rotation(right, cube), cube.position), _TAKE_CLEAR, self.style.speed)
        return joints, 0.0 if ready else self._open

    def _wait(self, left: Hand) -> Float64:
        """Beside the meeting point, already turned."""
        rotation = self._offer_rotation
        x, y = -rotation[:, 0], rotation[:, 2]
        turned = np.column_stack([x, y, np.cross(x, y)])
        goal = Pose(turned, self._meet - x * (_TAKE_CLEAR + 0.02))
        return go(left, goal, self.style.speed)

    def _make_room(self, left: Hand, cube: Pose) -> Float64:
        """Wait, but not above a cube that fell on the left side: the right hand goes there."""
        if cube.position[0] > _LEFT_SIDE:
            return self._wait(left)
        return joint_move(left, self._rest_joints['left'], self.style.speed)

    def _keep(self, left: Hand, cube: Pose, both: bool) -> tuple[Float64, float]:
        """Stay where the other hand still holds, else bring the cube to the meeting point."""
        goal = Pose(left.eef.rotation, self._meet + left.eef.position - cube.position)
        if both:
            return left.kinematics.solve(left.eef, left.joints), 0.0  # type: ignore[return-value]
        return go(left, goal, self.style.speed), 0.0

    def _release(self, right: Hand, cube: Pose) -> tuple[Float64, float]:
        """Open where it is, then back out along its own approach."""
        away = float(np.linalg.norm(right.eef.position - cube.position))
        if right.width < self.task.size + 0.02 and away < 0.06:
            return right.joints, self._open
        if away < 0.12:
            back = Pose(right.eef.rotation, right.eef.position - 0.05 * right.eef.rotation[:, 0])
            return cartesian_move(right, back, self.style.speed), self._open
        rest = right.kinematics.fk(self._rest_joints['right'])
        return far_move(right, rest, self.style.speed), self._open


def _take_rotation(right: Hand, cube: Pose) -> Float64:
    """Facing the right hand, fingers across its fingers and flat on the cube's faces.

    The cube may have turned between the right fingers.
    """
    across = right.eef.rotation[:, 2]
    along = cube.rotation.T @ across
    face = int(np.argmax(np.abs(along)))
    y = np.copysign(1.0, along[face]) * cube.rotation[:, face]
    x = -right.eef.rotation[:, 0]
    x = x - (x @ y) * y
    x /= np.linalg.norm(x)
    return np.column_stack([x, y, np.cross(x, y)])


def _nearest_yaw(hand: Hand, cube: Pose, position: Float64, base: Float64) -> Pose:
    """The top-down grasp across two opposite upright faces nearest to the hand's own yaw."""
    upright = int(np.argmax(np.abs(cube.rotation[2])))
    axis = cube.rotation[:, (upright + 1) % 3]
    face = float(np.arctan2(axis[1], axis[0]))
    down = hand.eef.rotation[2, 0] < -0.5
    # Near the part the measured yaw decides (no flipping back at 45 degrees), else the base's.
    y = hand.eef.rotation[:, 1] if down else base[:, 1]
    wanted = float(np.arctan2(y[1], y[0]))
    turned = face + np.pi / 2 * np.round((wanted - face) / (np.pi / 2))
    yaw = turned - float(np.arctan2(base[1, 1], base[0, 1]))
    return top_down(hand.kinematics, position, yaw)
