"""What a device means: maps of keys, pads, leader arms, hands and twists as checked dataclasses.

Read from ``config/teleop/<name>.yaml``. Motions are written as on a teach pendant: ``x+``,
``yaw-``, ``gripper+`` (opens), ``j2-`` (the second joint of an arm). Everything else an operator
can ask for is an action. ``l1+left_x`` is left_x while l1 is held.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from il_robot.config import build, load_yaml
from il_robot.control.teleop_vocabulary import (
    BUTTONS,
    KEYS,
    LOCAL,
    REQUESTS,
    STEERED,
    STICKS,
    TRIGGERS,
    applies,
    check_maps,
)
from il_robot.errors import ConfigError, unknown
from il_robot.resources import named_config
from il_robot.spec import RobotSpec

Device = Literal['keyboard', 'gamepad', 'leader', 'pose', 'twist']


@dataclass(frozen=True)
class Speeds:
    """How fast, at full speed; the operator chooses a fraction of it.

    Attributes:
        linear, angular: Of the gripper [m/s, rad/s]; for hands, the most it follows with.
        joint: Of a joint, joint by joint [rad/s].
        gripper: Of the fingers' opening [m/s].
        steps: Fractions of full speed to choose from, increasing.
        start: The step to start with.
        limit: Fraction of the robot's velocity limits that teleoperation never exceeds.
    """

    linear: float
    angular: float
    joint: float
    gripper: float
    steps: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    start: float = 0.5
    limit: float = 1.0

    def __post_init__(self) -> None:
        for name in ('linear', 'angular', 'joint', 'gripper'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name} must be > 0')
        if not self.steps or list(self.steps) != sorted({*self.steps}) or not (
                self.steps[0] > 0 and self.steps[-1] <= 1):
            raise ValueError(f'steps must increase within (0, 1], got {self.steps}')
        if self.start not in self.steps:
            raise ValueError(f'start {self.start:g} is not one of the steps {self.steps}')
        if not 0 < self.limit <= 1:
            raise ValueError(f'limit must be in (0, 1], got {self.limit:g}')


@dataclass(frozen=True)
class KeyboardConfig:
    """Keys of a terminal.

    Attributes:
        motion: Key to motion in Cartesian mode; gripper keys work in both modes.
        joints: Key to motion in joint mode.
        actions: Key to action.
        tap: One press moves for this long [s].
        hold: A repeating key counts as held for this long after its last event [s].
        repeat_delay: Events of a key closer than this are one press going on [s]; a little more
            than the terminal waits before it repeats a key.
    """

    motion: dict[str, str] = field(default_factory=dict)
    joints: dict[str, str] = field(default_factory=dict)
    actions: dict[str, str] = field(default_factory=dict)
    tap: float = 0.1
    hold: float = 0.15
    repeat_delay: float = 0.7

    def __post_init__(self) -> None:
        check_maps(self.motion, self.joints, self.actions, KEYS, KEYS)
        if not 0 < self.tap <= self.hold < self.repeat_delay:
            raise ValueError('needs 0 < tap <= hold < repeat_delay')


@dataclass(frozen=True)
class GamepadConfig:
    """What the sticks and buttons of a pad do.

    Attributes:
        layout: Which pad: a file in config/teleop/pads.
        deadman: The button without which nothing moves; empty for none.
        motion: Stick or trigger to motion in Cartesian mode. A stick's positive way is left or
            up, a trigger's is pressed. Triggers work in both modes.
        joints: Stick to motion in joint mode.
        actions: Button to action.
        dead_zone: Of the sticks, as a fraction.
        timeout: Without news of the pad for this long, the operator is gone [s].
    """

    layout: str
    deadman: str
    motion: dict[str, str] = field(default_factory=dict)
    joints: dict[str, str] = field(default_factory=dict)
    actions: dict[str, str] = field(default_factory=dict)
    dead_zone: float = 0.1
    timeout: float = 0.3

    def __post_init__(self) -> None:
        check_maps(
            self.motion, self.joints, self.actions, (*STICKS, *TRIGGERS), BUTTONS, held=BUTTONS)
        if self.deadman and self.deadman not in BUTTONS:
            raise ValueError(unknown('deadman', self.deadman, BUTTONS))
        if not 0 <= self.dead_zone < 1 or not self.timeout > 0:
            raise ValueError('needs 0 <= dead_zone < 1 and timeout > 0')


@dataclass(frozen=True)
class PadLayout:
    """Where the controls of one make of pad stand in sensor_msgs/Joy.

    Attributes:
        axes, triggers, buttons: Control to index.
        hats: Button of a cross that reports as an axis: index and sign, ``6+``.
        trigger_released: Value of a trigger at rest; pressed it is -1.
        labels: What is printed on the controls.
    """

    axes: dict[str, int]
    triggers: dict[str, int]
    buttons: dict[str, int]
    hats: dict[str, str] = field(default_factory=dict)
    trigger_released: float = 1.0
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for mapping, valid in (
            (self.axes, STICKS), (self.triggers, TRIGGERS),
            ({**self.buttons, **self.hats}, BUTTONS),
            (self.labels, (*STICKS, *TRIGGERS, *BUTTONS)),
        ):
            for control in mapping:
                if control not in valid:
                    raise ValueError(unknown('control', control, valid))
        for control, text in self.hats.items():
            if re.fullmatch(r'\d+[+-]', text) is None:
                raise ValueError(f'{control}: write the axis and its sign as 6+, got {text!r}')


@dataclass(frozen=True)
class LeaderJoint:
    """One joint of a leader arm: position = sign * scale * leader + offset [rad or m]."""

    joint: str
    sign: Literal[1, -1] = 1
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class LeaderConfig:
    """Leader arms on ``leader/joint_states``.

    Attributes:
        joints: Joint of the robot (with prefix) to the leader's; the same name where absent.
        arms: The arms that have a leader; empty for all.
        engage: ``match``: an arm follows once the leader is within ``tolerance`` of it;
            ``converge``: it follows at once and the distance fades.
        tolerance: Of each joint [rad].
        converge_speed: How fast the distance that is left fades [rad/s]; 0 keeps it.
        timeout: A leader silent for this long is gone [s].
    """

    joints: dict[str, LeaderJoint] = field(default_factory=dict)
    arms: tuple[str, ...] = ()
    engage: Literal['match', 'converge'] = 'match'
    tolerance: float = 0.1
    converge_speed: float = 0.3
    timeout: float = 0.2

    def __post_init__(self) -> None:
        if not self.tolerance > 0 or not self.timeout > 0 or self.converge_speed < 0:
            raise ValueError('needs tolerance > 0, timeout > 0 and converge_speed >= 0')


@dataclass(frozen=True)
class HandConfig:
    """Hands of an operator as poses on ``teleop/pose/<arm>``.

    Attributes:
        scale: Metres of the gripper per metre of the hand at full speed.
        rotation: Roll, pitch, yaw of the hand's frame in ``base`` [rad].
        clutch: ``topic``: an arm follows while ``teleop/clutch/<arm>`` is above one half;
            ``always``: as long as the operator drives.
        jump, turn: Two poses in a row further apart were lost tracking, not the hand [m, rad].
        timeout: A hand unseen for this long is gone [s].
    """

    scale: float = 1.0
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    clutch: Literal['topic', 'always'] = 'topic'
    jump: float = 0.1
    turn: float = 0.5
    timeout: float = 0.2

    def __post_init__(self) -> None:
        if not min(self.scale, self.jump, self.turn, self.timeout) > 0:
            raise ValueError('scale, jump, turn and timeout must be > 0')


@dataclass(frozen=True)
class TwistConfig:
    """Twists on ``teleop/twist/<arm>``, for example of a SpaceMouse.

    Attributes:
        units: ``fraction``: each component in [-1, 1] of full speed; ``speed``: m/s and rad/s.
        dead_zone: Fraction of full speed below which a component is zero.
        timeout: Without a twist for this long nothing moves [s].
        lost: Without a twist for this long the operator is gone [s]; drivers of a SpaceMouse
            fall silent while nobody touches it.
    """

    units: Literal['fraction', 'speed'] = 'fraction'
    dead_zone: float = 0.05
    timeout: float = 0.2
    lost: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.dead_zone < 1 or not 0 < self.timeout <= self.lost:
            raise ValueError('needs 0 <= dead_zone < 1 and 0 < timeout <= lost')


@dataclass(frozen=True)
class TeleopConfig:
    """One way to teleoperate.

    Attributes:
        device: What moves the arms; its own section below is needed.
        speed: How fast.
        frame: Axes of a twist: of ``base``, or of the gripper (``eef``).
        mirror: Factor per joint for the second arm when both move mirrored, joint by joint.
        keyboard, gamepad, leader, pose, twist: The devices. Beside a device that moves the arms,
            keyboard and gamepad may give actions.
    """

    device: Device
    speed: Speeds
    frame: Literal['base', 'eef'] = 'base'
    mirror: tuple[float, ...] = ()
    keyboard: KeyboardConfig | None = None
    gamepad: GamepadConfig | None = None
    leader: LeaderConfig | None = None
    pose: HandConfig | None = None
    twist: TwistConfig | None = None

    def __post_init__(self) -> None:
        if getattr(self, self.device) is None:
            raise ValueError(f'device is {self.device}, but there is no section {self.device}')
        for name in ('leader', 'pose', 'twist'):
            if name != self.device and getattr(self, name) is not None:
                raise ValueError(f'device is {self.device}; leave the section {name} out')
        for name in STEERED - {self.device}:
            section = getattr(self, name)
            if section is not None and (section.motion or section.joints):
                raise ValueError(f'{name}: only {self.device} moves the arms; leave motion out')


def load_teleop_config(name: str, spec: RobotSpec) -> TeleopConfig:
    """Read and check ``config/teleop/<name>.yaml`` or a YAML file for this robot.

    A file without keys takes the actions of ``keyboard.yaml``.

    Raises:
        ConfigError: no such file, an unknown key, value, control, arm or joint (all named).
    """
    path = named_config('teleop', name)
    data = load_yaml(path)
    if 'keyboard' not in data:
        keys = load_yaml(named_config('teleop', 'keyboard'))
        device = str(data.get('device'))
        data['keyboard'] = {'actions': {
            key: action for key, action in keys['keyboard']['actions'].items()
            if applies(action, device)}}
    config = build(TeleopConfig, data, str(path))
    _check_robot(config, spec, str(path))
    return config


def load_pad(name: str) -> PadLayout:
    """Read ``config/teleop/pads/<name>.yaml`` or a YAML file.

    Raises:
        ConfigError: no such file, or a key or control that does not exist.
    """
    path = named_config('teleop/pads', name)
    return build(PadLayout, load_yaml(path), str(path))


def _check_robot(config: TeleopConfig, spec: RobotSpec, where: str) -> None:
    arms = [arm.name for arm in spec.arms]
    actions = {*REQUESTS, *LOCAL, *(f'select {arm}' for arm in arms)}
    for section in (config.keyboard, config.gamepad):
        for control, action in (section.actions if section else {}).items():
            place = f'{where}: {control}'
            if action not in actions:
                raise ConfigError(unknown('action', action, actions, place))
            if not applies(action, config.device):
                raise ConfigError(f'{place}: {action!r} means nothing to a {config.device}')
    if config.mirror and len(config.mirror) != len(spec.joints):
        raise ConfigError(
            f'{where}: mirror has {len(config.mirror)} factors, {spec.name} has '
            f'{len(spec.joints)} joints per arm')
    if config.leader:
        for arm in config.leader.arms:
            if arm not in arms:
                raise ConfigError(unknown('arm', arm, arms, f'{where}: leader: arms'))
        for joint in config.leader.joints:
            if joint not in spec.joint_names:
                raise ConfigError(
                    unknown('joint', joint, spec.joint_names, f'{where}: leader: joints'))
