"""One arm as the operator has it: its target, its devices, and what they want of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from il_robot.control.teleop_config import HandConfig, TeleopConfig, TwistConfig
from il_robot.control.teleop_follow import Hand, Leader, Pickup, Stream
from il_robot.control.teleop_motion import ArmIntent, ArmModel, advance
from il_robot.spec import RobotSpec
from il_robot.types import Float64

# Targets run ahead of the command by no more than the robot could do in this time [s].
_LEASH = 0.3
# A trigger takes the gripper from this fraction of the range on.
_PICKUP = 0.1
_CLUTCHED = 0.5


class OperatedArm:
    """See the module.

    Args:
        spec: The robot.
        name: The arm.
        config: What the devices mean.
    """

    def __init__(self, spec: RobotSpec, name: str, config: TeleopConfig) -> None:
        self.name, self.config = name, config
        self.where = spec.arm_slice(name)
        self.model = ArmModel.from_spec(spec, name, config.speed.limit)
        self.target = spec.rest[self.where].astype(np.float64)
        self.drives = False
        self.blocked = False
        self._grip: float | None = None
        self._pickup = Pickup(_PICKUP * float(self.model.upper[-1] - self.model.lower[-1]))
        twist = config.twist or TwistConfig()
        self.twist: Stream[Float64] = Stream(twist.timeout)
        self.touched: Stream[bool] = Stream(twist.lost)
        self.hand = Hand(config.pose or HandConfig())
        self.clutch: Stream[float] = Stream(self.hand.config.timeout)
        self.squeeze: Stream[float] = Stream(np.inf)
        leader = config.leader
        self.leader: Stream[Float64] = Stream(leader.timeout if leader else 0.0)
        self.follower = Leader(leader, spec.joint_names[self.where][:-1]) if leader else None

    def alive(self, now: float) -> bool:
        """Whether the device of this arm alone is heard: leader, hand, twist."""
        if self.config.device == 'leader':
            return self.leader.fresh(now) is not None
        if self.config.device == 'pose':
            return self.hand.alive(now)
        return self.touched.fresh(now) is not None

    def follow(self, position: Float64) -> None:
        """Be where the robot is ``(n + 1,)``, and forget everything relative."""
        self.target = np.clip(position, self.model.lower, self.model.upper)
        self.drives = self.blocked = False
        self.hand.release()
        self.release_gripper()
        if self.follower:
            self.follower.release()

    def move(self, intent: ArmIntent, command: Float64, dt: float) -> None:
        """Advance the target; it never runs away from a command that something holds back."""
        leash = _LEASH * self.model.velocity
        target = advance(self.model, self.target, intent, dt)
        self.blocked = dt > 0 and bool(intent.twist.any()) and \
            np.array_equal(target[:-1], self.target[:-1])
        self.target = np.clip(target, command - leash, command + leash)

    def toggle_gripper(self) -> None:
        """Open where it is closed further than half, else close."""
        lower, upper = float(self.model.lower[-1]), float(self.model.upper[-1])
        self._grip = lower if self.target[-1] > 0.5 * (lower + upper) else upper
        self._pickup.release()

    def release_gripper(self) -> None:
        """Stop opening or closing; a trigger has to meet the opening again."""
        self._grip = None
        self._pickup.release()

    def in_base(self, twist: Float64, frame: str) -> Float64:
        """A twist ``(6,)`` along the axes of ``base`` or of the gripper (``eef``), in ``base``."""
        if frame == 'base' or not twist.any():
            return twist
        rotation = self.model.eef(self.target).rotation
        return np.concatenate([rotation @ twist[:3], rotation @ twist[3:]])

    # -- what the devices want --------------------------------------------------------------
    def follow_device(self, now: float, dt: float, fraction: float, frame: str) -> ArmIntent:
        """The intent of the arm's own device: leader, hand, twist.

        Args:
            now: Monotonic time [s].
            dt: Time since the last call [s].
            fraction: Speed the operator chose.
            frame: Axes of a twist.
        """
        if self.config.device == 'leader':
            return self._leader_intent(now, dt)
        if self.config.device == 'pose':
            return self._hand_intent(now, fraction)
        return self._twist_intent(now, fraction, frame)

    def _leader_intent(self, now: float, dt: float) -> ArmIntent:
        leader = self.leader.fresh(now)
        if leader is None or self.follower is None:
            return ArmIntent()
        goal = self.follower.goal(leader[:-1], self.target[:-1], dt)
        if goal is None:
            return ArmIntent()
        return ArmIntent(
            joints=goal, gripper=self._pickup.goal(float(leader[-1]), float(self.target[-1])))

    def _hand_intent(self, now: float, fraction: float) -> ArmIntent:
        gripping = self.gripping(0.0, fraction)
        closed = (self.clutch.fresh(now) or 0.0) > _CLUTCHED
        if not closed and self.hand.config.clutch == 'topic':
            self.hand.release()
            return gripping
        speed = self.config.speed
        return replace(
            gripping, pose=self.hand.goal(self.model.eef(self.target), fraction, now),
            pose_speed=(speed.linear, speed.angular))

    def _twist_intent(self, now: float, fraction: float, frame: str) -> ArmIntent:
        gripping = self.gripping(0.0, fraction)
        twist, config, speed = self.twist.fresh(now), self.config.twist, self.config.speed
        if twist is None or config is None:
            return gripping
        full = np.repeat([speed.linear, speed.angular], 3)
        share = np.clip(twist / full if config.units == 'speed' else twist, -1.0, 1.0)
        share = np.where(np.abs(share) < config.dead_zone, 0.0, share)
        return replace(gripping, twist=self.in_base(share * full * fraction, frame))

    def gripping(self, value: float, fraction: float) -> ArmIntent:
        """The gripper by rate, by toggle or by trigger, in that order.

        Args:
            value: Of the gripper axis, in [-1, 1]; positive opens.
            fraction: Speed the operator chose.
        """
        most = self.config.speed.gripper
        if value:
            self.release_gripper()
            return ArmIntent(gripper_rate=value * most * fraction)
        if self._grip is not None:
            grip = self._grip
            if abs(grip - self.target[-1]) < 1e-9:
                self._grip = None
            return ArmIntent(gripper=grip, gripper_speed=most)
        squeezed = self.squeeze.value
        if squeezed is None:
            return ArmIntent()
        lower, upper = float(self.model.lower[-1]), float(self.model.upper[-1])
        wanted = upper - squeezed * (upper - lower)
        return ArmIntent(gripper=self._pickup.goal(wanted, float(self.target[-1])))
