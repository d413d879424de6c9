"""Scripted expert for insert_peg: each arm lifts one part, the peg goes in along its axis.

Both hands point down all the time; the tube is held still and the peg is aligned to the tube
as measured.
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
    carry,
    cartesian_move,
    go,
    holds,
    part_pose,
    pose_error,
    top_down,
)
from il_robot.sim.tasks.insert_peg import InsertPeg
from il_robot.spec import RobotSpec
from il_robot.types import Action, Float64, Observation

_TUBE_AT = np.array([-0.06, 0.0, 0.20])
_CLEAR = 0.10
_GAP = 0.030
"""Distance between tip and mouth where the peg is aligned [m]."""
_STEP = 0.008
"""Largest step into the tube per control tick [m]."""
_INSIDE = 0.004
"""Depth from which the walls guide the peg [m]."""
_FINGER_HEIGHT = 0.018
"""Lowest eef height [m]; lower, the finger tips rub on the table and do not close."""


class InsertPegExpert:
    """See the module; implements :class:`il_robot.protocols.Expert`."""

    def __init__(self, spec: RobotSpec, task: InsertPeg, style: Style = PLAIN) -> None:
        self.task, self.style = task, style
        self._hands = Hands(spec)
        self._open = spec.gripper.upper
        self._tube_at = _TUBE_AT + np.array(style.meet)
        # Held away from the ends that meet, so that the hands stay apart.
        self._points = {'peg': np.array([0.035, 0.0, 0.0]), 'tube': np.array([-0.02, 0.0, 0.0])}
        self._thickness = {'peg': task.peg_width, 'tube': task.tube_width}

    def __call__(self, observation: Observation) -> Action:
        """The label for this observation, any reachable state."""
        hands = self._hands.read(observation)
        tube = _upright(part_pose(observation, 'tube'), np.eye(3))
        parts = {'peg': _upright(part_pose(observation, 'peg'), tube.rotation), 'tube': tube}
        held = {
            name: self._holds(hands[arm], parts[name], name)
            for arm, name in (('right', 'peg'), ('left', 'tube'))
        }
        moves = {}
        for arm, name in (('right', 'peg'), ('left', 'tube')):
            hand, part = hands[arm], parts[name]
            if not held[name]:
                moves[arm] = self._pick(hand, part, name)
            elif part.position[2] < 0.06 and self._low(hand):
                moves[arm] = self._lift(hand), 0.0
            elif name == 'tube':
                goal = Pose(np.eye(3), self._tube_at)
                moves[arm] = go(hand, carry(hand, part, goal), self.style.speed), 0.0
            else:
                moves[arm] = self._insert(hand, part, parts['tube'], held['tube']), 0.0
        return self._hands.action(moves)

    def _holds(self, hand: Hand, part: Pose, name: str) -> bool:
        return holds(hand, part, self._points[name], self._thickness[name], along=0.035)

    def _low(self, hand: Hand) -> bool:
        return bool(hand.eef.rotation[2, 0] < -0.8)

    def _pick(self, hand: Hand, part: Pose, name: str) -> tuple[Float64, float]:
        """From above, fingers across the part's long axis."""
        axis = part.rotation[:, 0]
        base = hand.kinematics.base.rotation
        yaw = float(np.arctan2(axis[1], axis[0]) - np.arctan2(base[1, 0], base[0, 0]))
        yaw = (yaw + np.pi / 2) % np.pi - np.pi / 2
        position = part.apply(self._points[name])
        position[2] = max(position[2], _FINGER_HEIGHT)
        grasp = top_down(hand.kinematics, position, yaw)
        joints, ready = approach(hand, grasp, _CLEAR + self.style.lift, self.style.speed)
        return joints, 0.0 if ready else self._open

    def _lift(self, hand: Hand) -> Float64:
        up = Pose(hand.eef.rotation, hand.eef.position + np.array([0.0, 0.0, 0.05]))
        return cartesian_move(hand, up, self.style.speed)

    def _insert(self, hand: Hand, peg: Pose, tube: Pose, tube_held: bool) -> Float64:
        """Align before the mouth, then go in only as far as the alignment allows.

        In front of the mouth the allowed sideways error of the tip narrows like a funnel down
        to what the clearance admits. Beside it the peg waits and centres, far off it backs out.
        """
        placed = tube_held and np.linalg.norm(tube.position - self._tube_at) < 0.02
        frame = tube if placed else Pose(np.eye(3), self._tube_at)
        mouth = 0.5 * (self.task.tube_length + self.task.peg_length)
        depth = mouth - float(frame.inverse_apply(peg.position)[0])
        tip = frame.inverse_apply(peg.apply([-0.5 * self.task.peg_length, 0.0, 0.0]))
        lateral = float(np.hypot(tip[1], tip[2]))
        _, angle = pose_error(peg, frame)
        if not placed or depth < -_GAP - 0.015 or angle > 0.15:
            goal = Pose(frame.rotation, frame.apply([mouth + _GAP, 0.0, 0.0]))
            return go(hand, carry(hand, peg, goal), self.style.speed)
        funnel = 0.42 * self.task.clearance + 0.25 * max(0.0, -depth - 0.003)
        if depth > _INSIDE:
            want = min(self.task.depth + 0.015, depth + _STEP)
        elif lateral < funnel and angle < 0.06:
            want = depth + (_STEP if depth < -0.012 else 0.5 * _STEP)
        elif lateral < 3.0 * funnel and angle < 0.06:
            want = min(depth, -0.001)
        else:
            want = -0.4 * _GAP
        goal = Pose(frame.rotation, frame.apply([mouth - want, 0.0, 0.0]))
        return cartesian_move(hand, carry(hand, peg, goal), self.style.speed)


def _upright(part: Pose, reference: Float64) -> Pose:
    """The same part with the frame, among those its symmetry allows, nearest to ``reference``.

    Peg and tube look the same after quarter turns about their axis and half turns across it,
    so a part that was dropped on another face or turned around needs no turning back.
    """
    best = max(_SYMMETRY, key=lambda s: float(np.trace(reference.T @ part.rotation @ s)))
    return Pose(part.rotation @ best, part.position)


def _symmetry() -> list[Float64]:
    quarter = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
    half = np.diag([-1.0, -1.0, 1.0])
    turns = [np.linalg.matrix_power(quarter, k) for k in range(4)]
    return [t @ flip for t in turns for flip in (np.eye(3), half)]


_SYMMETRY = _symmetry()
