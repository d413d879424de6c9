"""What the safety gate guarantees for one robot: the optional ``safety:`` section of a robot file.

Everything has a default, so that a robot that names nothing is guarded all the same. The limits
here are hard ones: the joint table's acceleration is what a handover is comfortable with, and
drivers who drive alone exceed it by several times (docs/safety.md says by how much, measured).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Literal

Mode = Literal['clip', 'slow', 'reject']


@dataclass(frozen=True)
class Clearance:
    """Distances that are kept between commanded shapes [m].

    Attributes:
        links: Between an arm and another one, where one of both shapes is no hand.
        hands: Between hands (palm, fingers) of different arms; fingers among themselves are
            not concerned.
        fingers: Between fingers of different arms; none: they are not watched, because they meet
            where one hand gives a part to the other.
        table: Between an arm and the table's plane z = 0.
        own: Between a hand and the first links of the same arm.
        held: Added to the size of all fingers, for a part that they hold.
    """

    links: float = 0.02
    hands: float = 0.01
    fingers: float | None = None
    table: float = 0.0
    own: float = 0.0
    held: float = 0.0

    def __post_init__(self) -> None:
        if not self.held >= 0:
            raise ValueError(f'held is a size and must be >= 0 m, got {self.held:g}')
        for name in ('links', 'hands', 'table', 'own'):
            if not 0 <= getattr(self, name) <= 1.0:
                raise ValueError(f'{name} must be in [0, 1] m, got {getattr(self, name):g}')


@dataclass(frozen=True)
class Workspace:
    """A box in ``base`` that the tool points of all arms stay in: two corners [m]."""

    lower: tuple[float, float, float]
    upper: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not all(a < b for a, b in zip(self.lower, self.upper)):
            raise ValueError(f'workspace: lower {self.lower} must be < upper {self.upper}')


@dataclass(frozen=True)
class Model:
    """A URDF whose collision shapes are watched, for robots without ``geometry:``.

    Attributes:
        urdf: The file, of one arm or of all (made by xacro, not the xacro itself); a relative
            one lies beside the robot file.
        joint_name: What it calls a joint, with ``{joint}``, and with ``{arm}`` or ``{prefix}``
            where it has all arms; the first arm is read.
        base: The link whose frame is the arm's ``base``; empty: what the first joint hangs on.
        tool: The link whose origin the workspace box holds; empty: there is no box.
        meshes: Folder for file names that begin with ``package://``; empty: where ROS has the
            package.
    """

    urdf: str
    joint_name: str = '{joint}'
    base: str = ''
    tool: str = ''
    meshes: str = ''

    def __post_init__(self) -> None:
        try:
            name = self.joint_name.format(joint='a', arm='', prefix='')
        except (KeyError, IndexError, ValueError):
            name = ''
        if 'a' not in name or '{joint}' not in self.joint_name:
            raise ValueError('model.joint_name needs {joint}, and may have {arm} and {prefix}, '
                             f'got {self.joint_name!r}')


@dataclass(frozen=True)
class SafetySpec:
    """The ``safety:`` section.

    Attributes:
        mode: What happens with a command that breaks a limit: each joint goes as far as it may
            (``clip``), all go the same part of their way (``slow``), or none goes on and all
            brake (``reject``).
        acceleration: Hard limit over the joint table's acceleration, >= 1.
        jerk_time: How long acceleration takes from 0 to the hard limit [s]; their quotient is
            the jerk limit.
        gripper_speed: Fastest gripper command over the joint table's velocity.
        position_margin: Distance kept to a joint's position limits [rad].
        start_jump: A first command further than this from the measured posture is approached
            slowly [rad].
        start_speed: Part of the velocity limits on that way, in (0, 1].
        following: A joint measured further than this from its command does not follow [rad];
            more than what contact or a slow drive does to it.
        following_time: After so long of that, everything holds where it is measured [s].
        clearance: See :class:`Clearance`; needs the robot's model.
        workspace: See :class:`Workspace`; none: no box.
        model: See :class:`Model`; none: that of ``geometry``, or no distances.
    """

    mode: Mode = 'clip'
    acceleration: float = 6.0
    jerk_time: float = 0.02
    gripper_speed: float = 5.0
    position_margin: float = 0.0
    start_jump: float = 0.5
    start_speed: float = 0.2
    following: float = 0.5
    following_time: float = 0.5
    clearance: Clearance = field(default_factory=Clearance)
    workspace: Workspace | None = None
    model: Model | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.acceleration < inf:
            raise ValueError(f'acceleration must be >= 1, got {self.acceleration:g}: the limit '
                             'of a handover is part of what is always allowed')
        if not 0 < self.start_speed <= 1:
            raise ValueError(f'start_speed must be in (0, 1], got {self.start_speed:g}')
        if not 0 <= self.position_margin <= 0.5:
            raise ValueError(
                f'position_margin must be in [0, 0.5] rad, got {self.position_margin:g}')
        for name in ('jerk_time', 'gripper_speed', 'start_jump', 'following', 'following_time'):
            if not 0 < getattr(self, name) < inf:
                raise ValueError(f'{name} must be > 0, got {getattr(self, name):g}')
