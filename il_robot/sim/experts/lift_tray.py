"""Scripted expert for lift_tray: grasp both handles, then move both hands as one body.

Both eef targets derive from one wanted pose of the tray, a small step from the measured one,
so that the arms never pull against each other.
"""

from __future__ import annotations

import numpy as np

from il_robot.kinematics import Pose
from il_robot.rotations import matrix_from_vector
from il_robot.sim.experts.motion import (
    PLAIN,
    Hand,
    Hands,
    Style,
    approach,
    cartesian_move,
    holds,
    part_pose,
    top_down,
)
from il_robot.sim.tasks.lift_tray import LiftTray
from il_robot.spec import RobotSpec
from il_robot.types import Action, Float64, Observation

_CLEAR = 0.09
_GRASP_HEIGHT = 0.036
"""Height of the eef above the tray's bottom when it holds a handle [m]."""
_SLACK = 0.010
"""Opening beyond the handle's thickness [m] that still holds: arms that pull twist the hands."""
_LIFT_TO = 0.22
_LINEAR, _ANGULAR = 0.008, 0.02
"""Largest step of the tray per control tick [m], [rad]: faster, and the ball rolls off."""


class LiftTrayExpert:
    """See the module; implements :class:`il_robot.protocols.Expert`."""

    def __init__(self, spec: RobotSpec, task: LiftTray, style: Style = PLAIN) -> None:
        self.task, self.style = task, style
        self._hands = Hands(spec)
        self._open = spec.gripper.upper
        self._points = {
            'left': np.array([-task.handle_x, 0.0, _GRASP_HEIGHT]),
            'right': np.array([task.handle_x, 0.0, _GRASP_HEIGHT]),
        }

    def __call__(self, observation: Observation) -> Action:
        """The label for this observation, any reachable state."""
        hands = self._hands.read(observation)
        tray = part_pose(observation, 'tray')
        held = {
            name: holds(
                hand, tray, self._points[name], self.task.handle[0], along=0.03, slack=_SLACK)
            for name, hand in hands.items()
        }
        goal = self._next_pose(tray)
        moves = {}
        for name, hand in hands.items():
            point = self._points[name]
            if all(held.values()):
                # Where the hand belongs on the tray, not where it is: arms that pull against each
                # other relax. How deep it grasped stays, or the tray would tilt.
                depth = float(tray.inverse_apply(hand.eef.position)[2])
                target = self._grasp(hand, goal, goal.apply([point[0], point[1], depth]))
                moves[name] = cartesian_move(hand, target, self.style.speed), 0.0
            elif held[name]:
                moves[name] = hand.joints, 0.0
            else:
                moves[name] = self._pick(hand, tray, point)
        return self._hands.action(moves)

    def _next_pose(self, tray: Pose) -> Pose:
        """A small step of the tray towards level and lifted."""
        up = tray.rotation[:, 2]
        level = np.cross(up, [0.0, 0.0, 1.0])
        angle = float(np.linalg.norm(level))
        turn = matrix_from_vector(level * min(1.0, _ANGULAR / max(angle, 1e-9)))
        rise = _LIFT_TO + self.style.lift - float(tray.position[2])
        step = np.clip(rise, -_LINEAR, _LINEAR) * self.style.speed
        return Pose(turn @ tray.rotation, tray.position + np.array([0.0, 0.0, step]))

    def _pick(self, hand: Hand, tray: Pose, point: Float64) -> tuple[Float64, float]:
        position = tray.apply(point)
        position[2] = max(position[2], 0.018)
        grasp = self._grasp(hand, tray, position)
        joints, ready = approach(hand, grasp, _CLEAR + self.style.lift, self.style.speed)
        return joints, 0.0 if ready else self._open

    def _grasp(self, hand: Hand, tray: Pose, position: Float64) -> Pose:
        """From above, fingers across the handle (along the tray's x)."""
        axis = tray.rotation[:, 0]
        base = hand.kinematics.base.rotation
        yaw = float(np.arctan2(axis[1], axis[0]) - np.arctan2(base[1, 1], base[0, 1]))
        # Two yaws half a turn apart fit; both wrists turn the same way, centred on -90 deg.
        return top_down(hand.kinematics, position, yaw % np.pi - np.pi)
