"""How a real robot hangs on ros2_control: the optional ``hardware:`` section of a robot file.

A joint is named in three ways: its table name (``elbow``), our name with the arm's prefix
(``left_elbow``) and the driver's own. Everything is matched by name. Texts may contain ``{arm}``,
``{prefix}`` and ``{joint}``; a topic with ``{arm}`` in it exists once per arm and carries that
arm's joints only, one without carries those of all arms. Per joint::

    ours = sign * scale * driver's + offset        [rad; grippers: opening in m]

:mod:`il_robot.wiring` resolves the names for one robot.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal['forward', 'trajectory', 'gripper_action']


@dataclass(frozen=True)
class JointMap:
    """One joint of the driver; ``lower``, ``upper`` and ``velocity`` narrow the joint table.

    Attributes:
        name: The driver's name; empty takes ``HardwareSpec.joint_name``.
        sign: -1 where the driver turns the other way.
        scale: Our unit over the driver's, > 0.
        offset: Added after scaling [rad or m].
        lower: Narrower lower limit, in our units.
        upper: Narrower upper limit, in our units.
        velocity: Lower velocity limit, in our units.
    """

    name: str = ''
    sign: Literal[1, -1] = 1
    scale: float = 1.0
    offset: float = 0.0
    lower: float | None = None
    upper: float | None = None
    velocity: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.scale < float('inf'):
            raise ValueError(f'scale must be > 0, got {self.scale:g} (use sign: -1 to mirror)')


@dataclass(frozen=True)
class StateSource:
    """A topic of sensor_msgs/JointState (joint_state_broadcaster, a gripper's driver).

    Attributes:
        topic: Its name.
        min_rate: The robot is refused when its joints come slower [Hz].
        timeout: Age from which a measurement is stale [s].
        joints: What it carries; empty: all joints that no other source of the arm names.
    """

    topic: str
    min_rate: float
    timeout: float = 0.1
    joints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.topic:
            raise ValueError('topic is empty')
        if not (0 < self.min_rate < 1e5 and 0 < self.timeout < 60):
            raise ValueError(f'{self.topic}: min_rate [Hz] and timeout [s] must be > 0')
        if self.timeout * self.min_rate < 1:
            raise ValueError(
                f'{self.topic}: at {self.min_rate:g} Hz every measurement would be older than the '
                f'timeout of {self.timeout:g} s')


@dataclass(frozen=True)
class Controller:
    """A controller that obeys us.

    Attributes:
        topic: Where it listens: ``<controller>/commands`` (forward),
            ``<controller>/joint_trajectory`` (trajectory), or the action's name.
        kind: ``forward`` (std_msgs/Float64MultiArray: forward_command_controller,
            position_controllers), ``trajectory`` (trajectory_msgs/JointTrajectory:
            joint_trajectory_controller) or ``gripper_action``
            (control_msgs/action/GripperCommand).
        joints: Our joints in the order of the controller's own parameter ``joints``.
        max_effort: Of a gripper action, in the driver's units; 0: the driver's default.
        verify: Ask the controller for its joints before anything moves; false where something
            else than a controller of ros2_control listens, which could not answer.
    """

    topic: str
    kind: Kind
    joints: tuple[str, ...]
    max_effort: float = 0.0
    verify: bool = True

    def __post_init__(self) -> None:
        if not self.topic or not self.joints:
            raise ValueError('a controller needs a topic and its joints in order')
        if self.kind == 'gripper_action' and len(self.joints) != 1:
            raise ValueError(f'{self.topic}: a gripper action moves exactly one joint')


@dataclass(frozen=True)
class HardwareSpec:
    """The ``hardware:`` section.

    Attributes:
        sources: Where joint states come from.
        controllers: Where set-points go; together they move every joint exactly once.
        joint_name: The driver's joint names, where they follow a pattern.
        joints: Exceptions by table name (all arms) or by our name (one arm, which wins).
        description: Topic of the URDF, whose limits must not be narrower than ours; or empty.
        rate: How often set-points are streamed [Hz].
        lookahead: From a command's arrival until its target is reached [s]; 0: one control
            period. More than that rides out late commands.
        start_speed: Part of the velocity limits until the first target is reached, in (0, 1].
        max_lead: Set-points run at most so far ahead of the measured arm [rad]: after a
            protective stop nothing is left to catch up with.
        jump_margin: A measurement that differs from the one before by more than this, and by
            more than the joint can move, is a jump [rad].
    """

    sources: tuple[StateSource, ...]
    controllers: tuple[Controller, ...]
    joint_name: str = '{prefix}{joint}'
    joints: dict[str, JointMap] = field(default_factory=dict)
    description: str = ''
    rate: float = 100.0
    lookahead: float = 0.0
    start_speed: float = 0.2
    max_lead: float = 0.5
    jump_margin: float = 0.1

    def __post_init__(self) -> None:
        if not self.sources or not self.controllers:
            raise ValueError('hardware needs sources and controllers')
        if not 0 < self.start_speed <= 1:
            raise ValueError(f'start_speed must be in (0, 1], got {self.start_speed:g}')
        if not 1 <= self.rate <= 1000:
            raise ValueError(f'rate must be in [1, 1000] Hz, got {self.rate:g}')
        if not 0 <= self.lookahead <= 1:
            raise ValueError(f'lookahead must be in [0, 1] s, got {self.lookahead:g}')
        if not (self.max_lead > 0 and self.jump_margin > 0):
            raise ValueError('max_lead and jump_margin must be > 0')
