"""Devices that say where an arm shall be: leader arms, hands, and triggers for grippers.

None of them moves an arm by being taken over: a leader has to match or its distance fades, a
hand counts relative to where it was when the clutch closed, a trigger counts once it has passed
the fingers' opening.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

import numpy as np

from il_robot.control.teleop_config import HandConfig, LeaderConfig, LeaderJoint
from il_robot.errors import ConfigError, unknown
from il_robot.kinematics import Pose
from il_robot.rotations import rotation_rpy, rotation_vector
from il_robot.spec import RobotSpec
from il_robot.types import Float64

T = TypeVar('T')
# A stamp that goes back by more than this is a driver that was started again [s].
_RESTART = 1.0


class Stream(Generic[T]):
    """The newest value of a device, and when it came.

    Args:
        timeout: Age from which it no longer counts [s].
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.value: T | None = None
        self._heard, self._stamp = -1e9, 0.0

    def offer(self, value: T, now: float, stamp: float = 0.0) -> bool:
        """Take in a value; False where it is not newer than the last one by its own stamp.

        A driver that repeats an old measurement, or one that arrives late, is no news. Without a
        stamp (0) every value counts.

        Args:
            value: What came.
            now: Monotonic time it came at [s].
            stamp: Time of the message, in whichever clock [s].
        """
        if stamp and self._stamp - _RESTART < stamp <= self._stamp:
            return False
        self.value, self._heard, self._stamp = value, now, stamp
        return True

    def fresh(self, now: float) -> T | None:
        """The value, or None where it is too old."""
        return self.value if now - self._heard <= self.timeout else None


class Pickup:
    """A trigger that takes the gripper over where it is, as faders do on a mixing desk.

    Args:
        tolerance: How close counts as there [m].
    """

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self.release()

    def release(self) -> None:
        """Let go of the gripper."""
        self._taken, self._above = False, 0.0

    def goal(self, wanted: float, width: float) -> float | None:
        """The opening to go to [m], or None until the trigger has met the present one."""
        side = wanted - width
        if abs(side) <= self._tolerance or side * self._above < 0:
            self._taken = True
        self._above = side
        return wanted if self._taken else None


class Hand:
    """A hand that carries the eef along, relative to where both were when the clutch closed.

    Args:
        config: Scale, frame and limits.
    """

    def __init__(self, config: HandConfig) -> None:
        self.config = config
        self._to_base = rotation_rpy(config.rotation)
        self._poses: Stream[Pose] = Stream(config.timeout)
        self._anchor: tuple[Pose, Pose, float] | None = None

    def offer(self, pose: Pose, now: float, stamp: float) -> str:
        """Take in a pose of the hand in its own frame; why it was not used, or empty."""
        last = self._poses.fresh(now)
        if not self._poses.offer(pose, now, stamp):
            return 'a pose that is no newer than the last one'
        if last is None:
            self.release()
        else:
            way = float(np.linalg.norm(pose.position - last.position))
            angle = float(np.linalg.norm(rotation_vector(pose.rotation @ last.rotation.T)))
            if way > self.config.jump or angle > self.config.turn:
                self.release()
                return (f'the hand jumped by {way:.2f} m and {angle:.1f} rad: '
                        'the arm goes on from where it is')
        return ''

    def alive(self, now: float) -> bool:
        """Whether the hand is seen."""
        return self._poses.fresh(now) is not None

    def release(self) -> None:
        """Open the clutch: the next goal starts from where hand and eef are then."""
        self._anchor = None

    def goal(self, eef: Pose, fraction: float, now: float) -> Pose | None:
        """Where the eef shall be, in ``base``; None where the hand is not seen.

        Args:
            eef: Where it is.
            fraction: Of the configured scale; a change starts anew from here.
            now: Monotonic time [s].
        """
        hand = self._poses.fresh(now)
        if hand is None:
            self.release()
            return None
        if self._anchor is None or self._anchor[2] != fraction:
            self._anchor = hand, eef, fraction
        hand0, eef0, _ = self._anchor
        turn = self._to_base @ hand.rotation @ hand0.rotation.T @ self._to_base.T
        way = self._to_base @ (hand.position - hand0.position)
        return Pose(turn @ eef0.rotation, eef0.position + self.config.scale * fraction * way)


class LeaderMap:
    """Joint names and positions of a leader as targets of the robot.

    Args:
        spec: The robot.
        config: The map, checked against it.
    """

    def __init__(self, spec: RobotSpec, config: LeaderConfig) -> None:
        self.arms = config.arms or tuple(arm.name for arm in spec.arms)
        self._joints = {
            arm: [config.joints.get(name, LeaderJoint(name))
                  for name in spec.joint_names[spec.arm_slice(arm)]]
            for arm in self.arms}

    def read(self, names: Sequence[str], positions: Sequence[float]) -> Mapping[str, Float64]:
        """Arm to targets ``(n + 1,)`` of the arms that the message is about.

        Args:
            names: Joints of the leader, in any order; further ones are not looked at.
            positions: As many positions.

        Raises:
            ConfigError: lengths differ, a joint twice, not finite, an arm incomplete or none at
                all; the names that are missing and those that came are given.
        """
        if len(names) != len(positions) or len(set(names)) != len(names):
            raise ConfigError(
                f'leader: {len(names)} names ({len(set(names))} different) and '
                f'{len(positions)} positions; each joint needs one of each')
        values = dict(zip(names, positions))
        out = {}
        for arm, joints in self._joints.items():
            missing = [j.joint for j in joints if j.joint not in values]
            if len(missing) == len(joints) and len(self.arms) > 1:
                continue
            if missing:
                raise ConfigError(
                    f'leader: no {", ".join(missing)} for the {arm} arm; '
                    f'{unknown("joint", missing[0], names)}; correct `leader: joints`')
            target = np.array([j.sign * j.scale * values[j.joint] + j.offset for j in joints])
            if not np.isfinite(target).all():
                raise ConfigError(f'leader: a position of the {arm} arm is NaN or infinity')
            out[arm] = target
        if not out:
            raise ConfigError(
                f'leader: no joint of any arm among {", ".join(names) or "none"}; needs '
                f'{", ".join(j.joint for joints in self._joints.values() for j in joints)}')
        return out


class Leader:
    """One leader arm: follows it once it matches, or with an offset that fades.

    Args:
        config: How it takes over.
        joint_names: The arm's joints without gripper, for words.
    """

    def __init__(self, config: LeaderConfig, joint_names: Sequence[str]) -> None:
        self.config = config
        self._names = tuple(joint_names)
        self._offset: Float64 | None = None
        self.waiting = ''

    def release(self) -> None:
        """No longer follow."""
        self._offset, self.waiting = None, ''

    def goal(self, leader: Float64, joints: Float64, dt: float) -> Float64 | None:
        """Joint targets ``(n,)`` [rad], or None while the leader does not match.

        Args:
            leader: ``(n,)`` the leader in the robot's joints.
            joints: ``(n,)`` where the arm is.
            dt: Time since the last call [s].
        """
        if self._offset is None:
            apart = np.abs(joints - leader)
            worst = int(np.argmax(apart))
            if self.config.engage == 'match' and apart[worst] > self.config.tolerance:
                self.waiting = f'move the leader: {self._names[worst]} is {apart[worst]:.2f} off'
                return None
            self._offset, self.waiting = joints - leader, ''
        most = self.config.converge_speed * dt
        self._offset = self._offset - np.clip(self._offset, -most, most)
        return leader + self._offset
