"""Does this robot fit its file? Asked before anything moves; every finding names what to do."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from il_robot.control.measurements import CLOCK_TOLERANCE, Measurements
from il_robot.wiring import WiredController, WiredJoint, Wiring

# A joint at its stop measures a little beyond it: this part of its range is let pass.
_BEYOND = 0.02
# URDFs are written with rounded numbers.
_ROUNDED = 1e-3


@dataclass(frozen=True)
class UrdfLimit:
    """A joint's limits as its URDF says, in the driver's units; infinite where it says none."""

    lower: float
    upper: float
    velocity: float


@dataclass(frozen=True)
class ControllerSeen:
    """What the graph shows of one controller.

    Attributes:
        listeners: Subscribers of its topic, or servers of its action.
        rivals: Other nodes that write to it.
        joints: Its parameter ``joints``; None where nobody answered.
    """

    listeners: int
    rivals: int = 0
    joints: tuple[str, ...] | None = None


@dataclass
class Findings:
    """What was found.

    Attributes:
        wrong: Not there, or not as the robot's file says: nothing may move.
        unsuitable: Slow, out of its limits, unknown: no reason to stop, but one not to start.
        notes: Only worth knowing.
    """

    wrong: list[str] = field(default_factory=list)
    unsuitable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What speaks against starting."""
        return self.wrong + self.unsuitable


def urdf_limits(text: str) -> dict[str, UrdfLimit]:
    """The limits of every movable joint in a URDF.

    Raises:
        ValueError: not XML, or a limit that is no number.
    """
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f'not a URDF: {error}') from None
    limits = {}
    for joint in root.iter('joint'):
        limit = joint.find('limit')
        if limit is None or 'name' not in joint.attrib:
            continue
        wide = joint.get('type') == 'continuous'
        limits[joint.attrib['name']] = UrdfLimit(
            -np.inf if wide else float(limit.get('lower', 0.0)),
            np.inf if wide else float(limit.get('upper', 0.0)),
            float(limit.get('velocity', np.inf)))
    return limits


def check(
    wiring: Wiring, measurements: Measurements, now: float, *,
    controllers: Sequence[ControllerSeen],
    descriptions: Mapping[str, Mapping[str, UrdfLimit]], dry_run: bool = False,
) -> Findings:
    """Compare what was measured and seen with the robot's file.

    Args:
        wiring: Of the robot.
        measurements: Counted over the last second or more.
        now: Time that never steps [s].
        controllers: As in ``wiring.controllers``.
        descriptions: Limits by the URDF's topic, as far as they came.
        dry_run: Nothing will be sent: missing controllers are notes.
    """
    found = Findings()
    _check_states(wiring, measurements, now, found)
    for controller, seen in zip(wiring.controllers, controllers):
        _check_controller(wiring, controller, seen, found, dry_run=dry_run)
    if any(c.kind == 'trajectory' for c in wiring.controllers):
        _check_clocks(wiring, measurements, found)
    for joint in wiring.joints:
        limit = descriptions.get(joint.description, {}).get(joint.driver)
        if limit is not None:
            _check_limits(joint, limit, found)
    silent = sorted({j.description for j in wiring.joints} - {''} - descriptions.keys())
    if silent:
        found.notes.append(f'no URDF on {", ".join(silent)}: limits not compared')
    unknown = [j.driver for j in wiring.joints
               if j.description in descriptions and j.driver not in descriptions[j.description]]
    if unknown:
        found.notes.append(f'not in the URDF: {", ".join(unknown)}')
    return found


def _check_states(
    wiring: Wiring, measurements: Measurements, now: float, found: Findings
) -> None:
    rates = measurements.rates(now)
    for number, source in enumerate(wiring.sources):
        if not measurements.messages[number]:
            found.wrong.append(
                f'{source.topic}: no message; is the driver running and its '
                f'joint_state_broadcaster active? (ros2 topic hz {source.topic})')
            continue
        missing = [i for i in source.joints if measurements.counts[i] == 0]
        if missing:
            names = ', '.join(f'{wiring.joints[i].driver} (our {wiring.joints[i].name})'
                              for i in missing)
            others = ', '.join(sorted(measurements.extras[number])) or 'none'
            found.wrong.append(
                f'{source.topic}: no {names}; other joints there: {others}')
        present = [i for i in source.joints if i not in missing]
        rate = min((float(rates[i]) for i in present), default=source.min_rate)
        if rate < source.min_rate:
            found.unsuitable.append(
                f'{source.topic}: {rate:.1f} Hz, needs {source.min_rate:g} Hz; raise the '
                "broadcaster's rate, or lower min_rate knowingly")
        if measurements.extras[number] and not missing:
            found.notes.append(f'{source.topic}: not used: '
                               f'{", ".join(sorted(measurements.extras[number]))}')
        for i in present:
            _check_position(wiring.joints[i], float(measurements.position[i]), found)


def _check_position(joint: WiredJoint, position: float, found: Findings) -> None:
    beyond = _BEYOND * (joint.upper - joint.lower)
    if not joint.lower - beyond <= position <= joint.upper + beyond:
        theirs = (position - joint.offset) / joint.gain
        found.unsuitable.append(
            f'{joint.name} is at {position:.4f} ({joint.driver} = {theirs:.4f}), outside '
            f'[{joint.lower:g}, {joint.upper:g}]; move it by hand, or correct its sign, scale, '
            'offset or limits')


def _check_controller(
    wiring: Wiring, controller: WiredController, seen: ControllerSeen, found: Findings, *,
    dry_run: bool,
) -> None:
    topic = controller.topic
    if not seen.listeners:
        (found.notes if dry_run else found.wrong).append(
            f'{topic}: no controller listens; load and activate it (ros2 control '
            'list_controllers), or correct the topic')
    if seen.rivals:
        (found.notes if dry_run else found.wrong).append(
            f'{topic}: {seen.rivals} other node(s) write to it; stop them')
    if controller.kind == 'gripper_action' or not controller.verify:
        return
    expected = tuple(wiring.drivers(controller.joints))
    if seen.joints is None:
        if seen.listeners:
            found.unsuitable.append(
                f'{topic}: the controller does not say which joints it moves (its parameter '
                'joints); if it is none of ros2_control, set verify: false')
    elif controller.kind == 'forward' and seen.joints != expected:
        found.wrong.append(
            f'{topic}: the controller moves {", ".join(seen.joints)} in this order; the robot '
            f'file says {", ".join(expected)}')
    elif sorted(seen.joints) != sorted(expected):
        found.wrong.append(
            f'{topic}: the controller moves {", ".join(sorted(seen.joints))}; the robot file '
            f'says {", ".join(sorted(expected))}')


def _check_clocks(wiring: Wiring, measurements: Measurements, found: Findings) -> None:
    for number, source in enumerate(wiring.sources):
        skew = measurements.skew[number]
        if np.isfinite(skew) and abs(skew) > CLOCK_TOLERANCE:
            found.unsuitable.append(
                f'{source.topic}: its stamps are {abs(skew):.3f} s '
                f'{"behind" if skew > 0 else "ahead of"} our clock, and trajectories carry times: '
                'synchronise the machines (chrony, PTP)')


def _check_limits(joint: WiredJoint, urdf: UrdfLimit, found: Findings) -> None:
    """Our limits, in the driver's units, must not be wider than the URDF's."""
    ours = sorted((v - joint.offset) / joint.gain for v in (joint.lower, joint.upper))
    slack = _ROUNDED * (ours[1] - ours[0])
    if ours[0] < urdf.lower - slack or ours[1] > urdf.upper + slack:
        found.wrong.append(
            f'{joint.name}: [{joint.lower:g}, {joint.upper:g}] is '
            f'[{ours[0]:.4f}, {ours[1]:.4f}] for {joint.driver}, wider than its URDF: '
            f'[{urdf.lower:.4f}, {urdf.upper:.4f}]')
    speed = joint.velocity / abs(joint.gain)
    # What a URDF says of a gripper's speed is seldom meant; its drive limits it anyway.
    if not joint.gripper and speed > urdf.velocity * (1 + _ROUNDED):
        found.wrong.append(
            f'{joint.name}: velocity {joint.velocity:g} is {speed:.4f} for {joint.driver}, more '
            f"than its URDF's {urdf.velocity:.4f}")
