"""Teleoperation: what an operator does with a device, as joint targets and requests.

No clock, no ROS, no device: :class:`Teleop` is fed bytes of a terminal, Joy numbers, poses, twists
and leader positions with the time they came at, and answers each measured state with a proposal.
An arm follows its command until the arbiter says that the operator drives it, and starts from
there, so that a takeover never moves it. An arm whose operator is gone is absent from the
proposal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from il_robot.control.teleop_arm import OperatedArm
from il_robot.control.teleop_config import PadLayout, TeleopConfig, load_pad
from il_robot.control.teleop_follow import LeaderMap
from il_robot.control.teleop_gamepad import Pad
from il_robot.control.teleop_keyboard import Keyboard
from il_robot.control.teleop_motion import ArmIntent, mirrored
from il_robot.control.teleop_vocabulary import AXES, GRIPPER, REQUESTS
from il_robot.errors import ConfigError, unknown
from il_robot.kinematics import Pose
from il_robot.spec import RobotSpec
from il_robot.types import Float32, Float64, Source

COMMAND_AGE = 0.5
"""With a command older than this against the measured state, nobody executes proposals [s]."""


@dataclass(frozen=True, eq=False)
class RobotView:
    """What the graph says of the robot now.

    Attributes:
        stamp: Time of the measured state [s].
        state: ``(D,)`` measured [rad, m].
        command: ``(D,)`` the newest command, None before the first.
        command_stamp: The stamp it answers [s].
        drivers: Who drives each arm, as the arbiter says; empty where there is none.
    """

    stamp: float
    state: Float32
    command: Float32 | None = None
    command_stamp: float = -np.inf
    drivers: Mapping[str, Source] = field(default_factory=dict)


class Teleop:
    """One operator with one device; see the module.

    Args:
        spec: The robot.
        config: What the device means.
        arms: The arms the operator speaks for; empty for all.
        fraction: Speed to start with, one of the steps; None for the configured one.
        pad: Layout of the pad; None for the configured one.

    Raises:
        ConfigError: an unknown arm or speed, a control the pad does not have, or Cartesian motion
            on a robot without closed-form kinematics.
    """

    def __init__(
        self, spec: RobotSpec, config: TeleopConfig, arms: Sequence[str] = (),
        fraction: float | None = None, pad: PadLayout | None = None,
    ) -> None:
        self.spec, self.config = spec, config
        known = [arm.name for arm in spec.arms]
        for arm in arms:
            if arm not in known:
                raise ConfigError(unknown('arm', arm, known))
        self._leaders = LeaderMap(spec, config.leader) if config.leader else None
        mapped = self._leaders.arms if self._leaders else known
        self._arms = {name: OperatedArm(spec, name, config)
                      for name in known if name in mapped and name in (arms or known)}
        if not self._arms:
            raise ConfigError(f'no leader for {", ".join(arms)}; there is one for '
                              f'{", ".join(mapped)}')
        self._cartesian = all(arm.model.kinematics for arm in self._arms.values())
        if not self._cartesian and config.device in ('pose', 'twist'):
            raise ConfigError(
                f'{spec.name} has no closed-form kinematics (`geometry` in its file) and cannot '
                f'be moved by {config.device}: use keyboard, gamepad or leader')
        self.fraction = config.speed.start if fraction is None else fraction
        if self.fraction not in config.speed.steps:
            steps = ', '.join(f'{step:g}' for step in config.speed.steps)
            raise ConfigError(f'speed {self.fraction:g} is not one of the steps {steps}')
        self._keyboard = Keyboard(config.keyboard) if config.keyboard else None
        self._pad = Pad(config.gamepad, pad or load_pad(config.gamepad.layout)) \
            if config.gamepad else None
        self.terminal = False
        """Whether a terminal is open: the operator at the keyboard is there while it is."""
        self.selected = tuple(self._arms)
        self.mirror, self.joint_mode, self.frame = False, not self._cartesian, config.frame
        self.quit, self.notice = False, ''
        self._stamp: float | None = None
        self._driven: frozenset[str] = frozenset()

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms the operator speaks for."""
        return tuple(self._arms)

    # -- what the operator does -------------------------------------------------------------
    def keys(self, data: bytes, now: float) -> list[str]:
        """Bytes of the terminal (also none, regularly); the requests to publish."""
        if self._keyboard is None:
            return []
        requests = self._act_all(self._keyboard.feed(data, now))
        if self._keyboard.unknown:
            key, self._keyboard.unknown = self._keyboard.unknown, ''
            self.notice = f'{key} does nothing' + (' (Caps Lock?)' if key.isupper() else '')
        return requests

    def joy(self, axes: Sequence[float], buttons: Sequence[int], now: float) -> list[str]:
        """A Joy message; the requests to publish.

        Raises:
            ConfigError: too few axes or buttons for the pad's layout.
        """
        return self._act_all(self._pad.read(axes, buttons, now)) if self._pad else []

    def leader(
        self, names: Sequence[str], positions: Sequence[float], now: float, stamp: float
    ) -> str:
        """Joint positions of the leader; why they were not used, or empty.

        Raises:
            ConfigError: names or positions that do not fit the map.
        """
        targets = self._leaders.read(names, positions) if self._leaders else {}
        late = [arm for arm, target in targets.items()
                if arm in self._arms and not self._arms[arm].leader.offer(target, now, stamp)]
        return f'{" and ".join(late)}: positions no newer than the last ones' if late else ''

    def hand(self, arm: str, pose: Pose, now: float, stamp: float) -> str:
        """A pose of a hand; why it was not used, or empty."""
        return self._arms[arm].hand.offer(pose, now, stamp)

    def clutch(self, arm: str, value: float, now: float) -> None:
        """The grip button of a hand, 0 to 1."""
        self._arms[arm].clutch.offer(value, now)

    def squeeze(self, arm: str, value: float, now: float) -> None:
        """A gripper's trigger: 0 open, 1 closed."""
        self._arms[arm].squeeze.offer(value, now)

    def twist(self, arm: str, twist: Float64, now: float) -> None:
        """A twist ``(6,)`` in the units of the configuration."""
        self._arms[arm].twist.offer(twist, now)
        self._arms[arm].touched.offer(True, now)

    # -- actions ----------------------------------------------------------------------------
    def _act_all(self, actions: Sequence[str]) -> list[str]:
        return [request for action in actions if (request := self.act(action))]

    def act(self, action: str) -> str:
        """Carry out an action; the request to publish, or empty where it concerns us alone.

        Raises:
            ConfigError: no such action.
        """
        self.notice = ''
        word, _, argument = action.partition(' ')
        if action in ('takeover', 'engage', 'release'):
            return self._takeover(action)
        if action in REQUESTS:
            return action
        local = {
            'select': lambda: self._select(argument), 'mirror': self._mirror,
            'faster': lambda: self._change_speed(1), 'slower': lambda: self._change_speed(-1),
            'mode': self._change_mode, 'frame': self._change_frame,
            'gripper': self._toggle_grippers, 'quit': self._quit,
        }
        if word not in local:
            raise ConfigError(unknown('action', action, {*REQUESTS, 'takeover', *local}))
        local[word]()
        return ''

    def _takeover(self, action: str) -> str:
        """Engage or release the selected arms; ``takeover`` releases where all are driven."""
        if action == 'takeover':
            action = 'release' if self._driven.issuperset(self.selected) else 'engage'
        everything = len(self.selected) == len(self.spec.arms)
        return action if everything else ' '.join([action, *self.selected])

    def _select(self, argument: str) -> None:
        names = tuple(self._arms)
        if argument == 'next':
            at = names.index(self.selected[0]) + 1 if len(self.selected) == 1 else 0
            self.selected = (names[at % len(names)],)
        elif argument == 'both':
            self.selected = names
        elif argument in names:
            self.selected = (argument,)
        else:
            self.notice = unknown('arm', argument, names)
            return
        self.mirror = False

    def _mirror(self) -> None:
        if len(self._arms) != 2:
            self.notice = f'mirrored motion needs two arms, here is {", ".join(self._arms)}'
            return
        self.selected, self.mirror = tuple(self._arms), True

    def _change_speed(self, by: int) -> None:
        steps = self.config.speed.steps
        self.fraction = steps[min(max(steps.index(self.fraction) + by, 0), len(steps) - 1)]

    def _change_mode(self) -> None:
        if not self._cartesian:
            self.notice = f'{self.spec.name} has no closed-form kinematics: joint by joint only'
            return
        self.joint_mode = not self.joint_mode
        if self._keyboard:
            self._keyboard.release()

    def _change_frame(self) -> None:
        self.frame = 'eef' if self.frame == 'base' else 'base'

    def _toggle_grippers(self) -> None:
        arms = self._driven.intersection(self.selected)
        for arm in arms:
            self._arms[arm].toggle_gripper()
        if self._keyboard:
            # a key that closes it slowly still counts as held for a moment
            self._keyboard.release()
        if not arms:
            self.notice = 'take over first: the gripper is not yours'

    def _quit(self) -> None:
        self.quit = True

    # -- proposals --------------------------------------------------------------------------
    def alive(self, arm: str, now: float) -> bool:
        """Whether the operator of an arm is there."""
        if self.config.device == 'keyboard':
            return self.terminal
        if self.config.device == 'gamepad':
            return self._pad is not None and self._pad.alive(now)
        return self._arms[arm].alive(now)

    def propose(self, now: float, view: RobotView) -> Float32:
        """The targets for a measured state.

        Args:
            now: Monotonic time [s], the clock of the devices.
            view: The robot; its stamps may be of another clock (a simulation's).

        Returns:
            ``(D,)`` inside the position limits, NaN for the arms nobody speaks for. An arm that
            the operator drives moves no faster than the velocity limits; another one is where
            its command is.
        """
        dt = 0.0 if self._stamp is None else view.stamp - self._stamp
        dt = min(max(dt, 0.0), 2.0 * self.spec.dt)
        self._stamp = view.stamp
        heard = abs(view.stamp - view.command_stamp) <= COMMAND_AGE
        command = view.command if heard else None
        self._driven = frozenset(
            arm for arm in self._arms
            if command is not None and view.drivers.get(arm) is Source.TELEOP)
        motion = self._motion(now)
        out = np.full(self.spec.dim, np.nan, np.float32)
        for arm in self._arms.values():
            alive = self.alive(arm.name, now)
            last = (view.state if command is None else command)[arm.where].astype(np.float64)
            drives = alive and arm.name in self._driven
            if not (drives and arm.drives):
                arm.follow(last)
            if drives:
                arm.drives = True
                arm.move(self._intent(arm, motion, now, dt), last, dt)
            if alive:
                out[arm.where] = arm.target
        if motion and not self._driven:
            self.notice = 'take over first: no arm is yours'
        return np.clip(out, self.spec.lower, self.spec.upper)

    def waiting(self, arm: str) -> str:
        """Why an arm that was taken over does not move as asked, or empty."""
        follower = self._arms[arm].follower
        if self._arms[arm].blocked:
            return 'at a limit: move it another way'
        return follower.waiting if follower else ''

    def _motion(self, now: float) -> dict[str, float]:
        """Axis to value in [-1, 1] of keys or sticks."""
        if self.config.device == 'keyboard' and self._keyboard:
            return self._keyboard.motion(now, joints=self.joint_mode)
        if self.config.device == 'gamepad' and self._pad:
            return self._pad.motion(now, joints=self.joint_mode)
        return {}

    def _intent(
        self, arm: OperatedArm, motion: Mapping[str, float], now: float, dt: float
    ) -> ArmIntent:
        if self.config.device not in ('keyboard', 'gamepad'):
            return arm.follow_device(now, dt, self.fraction, self.frame)
        if self.config.device == 'gamepad' and not (self._pad and self._pad.enabled(now)):
            arm.release_gripper()
            return ArmIntent()
        if arm.name not in self.selected:
            return arm.gripping(0.0, self.fraction)
        return self._steered(arm, motion)

    def _steered(self, arm: OperatedArm, motion: Mapping[str, float]) -> ArmIntent:
        """Keys and sticks: rates of the selected arms, the second one mirrored where asked."""
        speed = self.config.speed
        mirror = self.mirror and arm.name != self.selected[0]
        intent = arm.gripping(motion.get(GRIPPER, 0.0), self.fraction)
        if self.joint_mode:
            rates = np.array([motion.get(f'j{i + 1}', 0.0) for i in range(len(self.spec.joints))])
            if mirror and self.config.mirror:
                rates *= self.config.mirror
            return replace(intent, joint_rates=rates * speed.joint * self.fraction)
        full = np.repeat([speed.linear, speed.angular], 3)
        twist = np.array([motion.get(axis, 0.0) for axis in AXES]) * full * self.fraction
        if not mirror:
            return replace(intent, twist=arm.in_base(twist, self.frame))
        first = self._arms[self.selected[0]].in_base(twist, self.frame)
        return replace(intent, twist=mirrored(first, self._mirror_normal()))

    def _mirror_normal(self) -> Float64:
        """Unit vector across the mirror: from the first arm's base to the second's, level."""
        first, second = (np.array(self.spec.arm(name).base.xyz) for name in self._arms)
        way = (second - first) * [1.0, 1.0, 0.0]
        size = float(np.linalg.norm(way))
        return way / size if size > 0.0 else np.array([1.0, 0.0, 0.0])
