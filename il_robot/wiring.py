"""The wiring of one real robot: every name of its ``hardware`` section resolved and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from il_robot.errors import unknown
from il_robot.hardware_spec import HardwareSpec, JointMap, Kind, StateSource


@dataclass(frozen=True)
class WiredJoint:
    """One joint: ``ours = gain * driver's + offset``; limits in our units.

    ``description`` is the topic of the URDF it stands in, or empty.
    """

    name: str
    driver: str
    gain: float
    offset: float
    lower: float
    upper: float
    velocity: float
    gripper: bool
    description: str


@dataclass(frozen=True)
class WiredSource:
    """One topic of joint states; ``joints`` are indices of the robot's vectors."""

    topic: str
    min_rate: float
    timeout: float
    joints: tuple[int, ...]


@dataclass(frozen=True)
class WiredController:
    """One controller; ``joints`` are indices of the robot's vectors in its own order."""

    topic: str
    kind: Kind
    joints: tuple[int, ...]
    max_effort: float
    verify: bool


@dataclass(frozen=True)
class Wiring:
    """A HardwareSpec with all names resolved for one robot, joints in vector order."""

    joints: tuple[WiredJoint, ...]
    sources: tuple[WiredSource, ...]
    controllers: tuple[WiredController, ...]

    def drivers(self, joints: Sequence[int]) -> list[str]:
        """The driver's names of these joints."""
        return [self.joints[i].driver for i in joints]


class Limits(Protocol):
    """What is needed of a row of the joint table."""

    @property
    def name(self) -> str:
        """Table name."""

    @property
    def lower(self) -> float:
        """[rad or m]."""

    @property
    def upper(self) -> float:
        """[rad or m]."""

    @property
    def velocity(self) -> float:
        """[rad/s or m/s]."""


def wire(
    hardware: HardwareSpec, arms: Mapping[str, str], joints: Sequence[Limits]
) -> Wiring:
    """Resolve all names.

    Args:
        hardware: The section.
        arms: Prefix of each arm by its name, in vector order.
        joints: The joint table of one arm, gripper last.

    Raises:
        ValueError: an unknown joint or placeholder, a limit wider than the joint table's, a joint
            without or with two sources or controllers, two joints with one driver's name.
    """
    names = _Names(arms, [j.name for j in joints])
    for key in hardware.joints:
        if key not in names.table and key not in names.index:
            raise ValueError(unknown('joint', key, [*names.table, *names.index], 'joints'))
    wired = tuple(
        _wire_joint(hardware, names, arm, limits, gripper=limits is joints[-1])
        for arm in arms for limits in joints)
    sources = _wire_sources(hardware, names)
    _refuse_equal_names(wired, sources)
    return Wiring(wired, sources, _wire_controllers(hardware, names))


class _Names:
    """Which joint of which arm a text means."""

    def __init__(self, arms: Mapping[str, str], table: Sequence[str]) -> None:
        self.arms, self.table = arms, table
        self.index = {
            prefix + name: i for i, (prefix, name) in enumerate(
                (prefix, name) for prefix in arms.values() for name in table)}

    def fill(self, text: str, arm: str, joint: str = '') -> str:
        """The text with its placeholders replaced."""
        values = {'arm': arm, 'prefix': self.arms[arm]} | ({'joint': joint} if joint else {})
        try:
            return text.format_map(values)
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                f'{text!r}: {error}; placeholders are {", ".join(f"{{{v}}}" for v in values)}'
            ) from None

    def per_topic(self, topic: str) -> list[tuple[str, list[str]]]:
        """(topic, arms that it carries): one per arm where it names the arm."""
        filled = {arm: self.fill(topic, arm) for arm in self.arms}
        return [(t, [a for a in self.arms if filled[a] == t])
                for t in dict.fromkeys(filled.values())]

    def find(self, texts: Sequence[str], arms: Sequence[str], where: str) -> list[int]:
        """Vector indices of joints given by our name, or by table name on a topic of one arm."""
        found = []
        for text in texts:
            if text in self.index:
                name = text
            elif text in self.table and len(arms) == 1:
                name = self.arms[arms[0]] + text
            else:
                valid = [*self.index, *(self.table if len(arms) == 1 else ())]
                raise ValueError(unknown('joint', text, valid, where))
            if not any(name in [self.arms[a] + t for t in self.table] for a in arms):
                raise ValueError(f'{where}: {name} is not of arm {", ".join(arms)}')
            found.append(self.index[name])
        return found


def _wire_joint(
    hardware: HardwareSpec, names: _Names, arm: str, limits: Limits, *, gripper: bool
) -> WiredJoint:
    name = names.arms[arm] + limits.name
    how = hardware.joints.get(name) or hardware.joints.get(limits.name) or JointMap()
    narrowed = []
    for what, own, table, widest in (
        ('lower', how.lower, limits.lower, max), ('upper', how.upper, limits.upper, min),
        ('velocity', how.velocity, limits.velocity, min),
    ):
        value = table if own is None else own
        if value != widest(value, table):
            raise ValueError(
                f"{name}: {what} {value:g} is wider than the joint table's {table:g}; the "
                'hardware section only narrows')
        narrowed.append(value)
    lower, upper, velocity = narrowed
    if not (lower < upper and velocity > 0):
        raise ValueError(f'{name}: needs lower < upper and velocity > 0')
    return WiredJoint(
        name, names.fill(how.name or hardware.joint_name, arm, limits.name),
        how.sign * how.scale, how.offset, lower, upper, velocity, gripper,
        names.fill(hardware.description, arm))


def _wire_sources(hardware: HardwareSpec, names: _Names) -> tuple[WiredSource, ...]:
    owner: dict[int, str] = {}
    found: list[tuple[StateSource, str, list[int]]] = []
    # Sources that name their joints come first; the others get what is left.
    for source in sorted(hardware.sources, key=lambda s: not s.joints):
        for topic, arms in names.per_topic(source.topic):
            if source.joints:
                # One list of table names serves a topic of several arms, too: order is free.
                texts = [
                    name for text in source.joints for name in (
                        [names.arms[a] + text for a in arms] if text in names.table else [text])]
                joints = names.find(texts, arms, topic)
            else:
                joints = [
                    names.index[names.arms[a] + name] for a in arms for name in names.table
                    if names.index[names.arms[a] + name] not in owner]
            if not joints:
                raise ValueError(f'{topic}: all its joints have another source already')
            found.append((source, topic, joints))
            _claim(owner, joints, topic, list(names.index), 'source')
    _refuse_left_out(owner, list(names.index), 'source')
    order = {source: i for i, source in enumerate(hardware.sources)}
    found.sort(key=lambda f: order[f[0]])
    return tuple(
        WiredSource(topic, source.min_rate, source.timeout, tuple(joints))
        for source, topic, joints in found)


def _wire_controllers(hardware: HardwareSpec, names: _Names) -> tuple[WiredController, ...]:
    owner: dict[int, str] = {}
    wired = []
    for controller in hardware.controllers:
        for topic, arms in names.per_topic(controller.topic):
            joints = names.find(controller.joints, arms, topic)
            _claim(owner, joints, topic, list(names.index), 'controller')
            wired.append(WiredController(
                topic, controller.kind, tuple(joints), controller.max_effort,
                controller.verify))
    _refuse_left_out(owner, list(names.index), 'controller')
    topics = [c.topic for c in wired]
    twice = sorted({t for t in topics if topics.count(t) > 1})
    if twice:
        raise ValueError(f'controller topic named twice: {", ".join(twice)}')
    return tuple(wired)


def _claim(
    owner: dict[int, str], joints: Sequence[int], topic: str, names: Sequence[str], what: str
) -> None:
    for joint in joints:
        if joint in owner:
            raise ValueError(
                f'{names[joint]} has two {what}s: {owner[joint]} and {topic}')
        owner[joint] = topic


def _refuse_left_out(owner: Mapping[int, str], names: Sequence[str], what: str) -> None:
    left_out = [name for i, name in enumerate(names) if i not in owner]
    if left_out:
        raise ValueError(f'no {what} for {", ".join(left_out)}')


def _refuse_equal_names(joints: Sequence[WiredJoint], sources: Sequence[WiredSource]) -> None:
    """Two joints with one name could not be told apart where they share a topic."""
    for topic in dict.fromkeys(s.topic for s in sources):
        seen: dict[str, str] = {}
        for i in (i for s in sources if s.topic == topic for i in s.joints):
            other = seen.setdefault(joints[i].driver, joints[i].name)
            if other != joints[i].name:
                raise ValueError(
                    f'{topic}: {other} and {joints[i].name} are both called '
                    f'{joints[i].driver!r} there')
