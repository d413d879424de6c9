"""The messages of a bag as the streams that :mod:`il_robot.data.align` takes.

No ROS is needed: messages are decoded by the definitions that the bag holds. A message that
does not fit (unknown or missing joint, NaN, wrong length) is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from il_robot.data.align import Pictures, Streams, Track, track
from il_robot.data.bag_reader import BagReader
from il_robot.data.pictures import decode_picture, raw_picture
from il_robot.data.stream_check import stamp_of
from il_robot.errors import DatasetError
from il_robot.spec import RobotSpec
from il_robot.types import ActionChunk, Float32, Source, UInt8

JOINT_STATES, COMMAND, MODE = 'joint_states', 'command', 'session/mode'
_MODES = ('ensemble', 'newest', 'blend', 'rtc')
EXPERT, CHUNKS, POLICY_STATUS = 'expert/proposal', 'policy/proposal', 'policy/status'
SIM_EPISODE = 'sim/episode'
_TOLERANCE = 1e-2  # of a quaternion's length


class _MisfitError(Exception):
    """A message that does not fit; the text says why."""


@dataclass
class BagStreams:
    """What a bag holds of one episode, decoded.

    Attributes:
        streams: For the aligner, without the simulator's verdict.
        chunks: The policy's chunks.
        policy_status: The policy's last word about itself; empty where there is none.
        sim_episode: The simulator's words about its episode: (stamp [s], values).
        misfits: Reason to number of messages left out.
    """

    streams: Streams
    chunks: list[ActionChunk]
    policy_status: dict[str, str]
    sim_episode: list[tuple[float, dict[str, str]]]
    misfits: Counter[str] = field(default_factory=Counter)


def read_streams(
    bag: BagReader, names: Mapping[str, str], spec: RobotSpec, cameras: Sequence[str],
    driver: Source | None = None,
) -> BagStreams:
    """Decode what an episode needs.

    Args:
        bag: An open bag; pictures are read from it later, so keep it open.
        names: Our topic name to the bag's (``joint_states`` to ``/joint_states``).
        spec: The robot.
        cameras: Cameras whose pictures are wanted.
        driver: Who drove both arms, for bags without ``session/mode``.

    Raises:
        DatasetError: a topic that is needed is not there; all that lack are named.
    """
    reader = _Reader(bag, names, spec)
    reader.check([JOINT_STATES, COMMAND, *([] if driver is not None else [MODE])], cameras)
    objects = {
        name.split('/')[1]: reader.track(name, reader.pose, 7)
        for name in sorted(names) if name.startswith('object/') and name.endswith('/pose')
        and reader.has(name)}
    arms = len(spec.arms)
    streams = Streams(
        states=reader.track(JOINT_STATES, reader.joints, spec.dim),
        commands=reader.track(COMMAND, reader.joints, spec.dim),
        modes=(reader.track(MODE, reader.mode, arms + 1) if driver is None
               else track([-np.inf], [[driver] * arms + [0]])),
        expert=reader.track(EXPERT, reader.joints, spec.dim) if reader.has(EXPERT) else None,
        objects=objects,
        pictures={camera: reader.pictures(camera) for camera in cameras},
        discarded=frozenset(
            int(n) for _, values in reader.statuses(MODE)
            for n in values.get('discarded', '').split() if n.isdecimal()),
    )
    for name in (JOINT_STATES, COMMAND):
        if not len(streams.states if name == JOINT_STATES else streams.commands):
            said = ', '.join(reader.misfits) or 'no message came'
            raise DatasetError(f'{bag.path}: {name} has no message that fits: {said}')
    chunks = [chunk for _, chunk in reader.each(CHUNKS, reader.chunk)]
    status = [values for _, values in reader.statuses(POLICY_STATUS) if _says_how(values)]
    return BagStreams(
        streams, chunks, status[-1] if status else {},
        [s for s in reader.statuses(SIM_EPISODE) if _counts(s[1])], reader.misfits)


def _says_how(status: Mapping[str, str]) -> bool:
    """Whether a policy's status says how its chunks are executed; nodes ignore others, too."""
    try:
        steps = int(status['chunk_size']), int(status['n_action_steps'])
        return (min(steps) >= 1 and isfinite(float(status['decay']))
                and status['execution_mode'] in _MODES)
    except (KeyError, ValueError):
        return False


def _counts(episode: Mapping[str, str]) -> bool:
    """Whether an episode's numbers are numbers."""
    return all(value.removeprefix('-').isdecimal() for key, value in episode.items()
               if key in ('seed', 'stage', 'episode'))


class _Reader:
    """Decodes the topics of one bag for one robot."""

    def __init__(self, bag: BagReader, names: Mapping[str, str], spec: RobotSpec) -> None:
        self._bag, self._names, self._spec = bag, names, spec
        self._orders: dict[tuple[str, ...], list[int]] = {}
        self.misfits: Counter[str] = Counter()

    def has(self, name: str) -> bool:
        """Whether there is any message of it."""
        return bool(self._bag.messages(self._names.get(name, '')))

    def camera_topic(self, camera: str) -> str:
        """The topic that holds a camera's pictures; compressed ones first."""
        raw = f'camera/{camera}/image_raw'
        return f'{raw}/compressed' if self.has(f'{raw}/compressed') else raw

    def check(self, needed: Sequence[str], cameras: Sequence[str]) -> None:
        missing = [name for name in needed if not self.has(name)]
        missing += [self.camera_topic(c) for c in cameras if not self.has(self.camera_topic(c))]
        if missing:
            there = ', '.join(sorted(n for n in self._bag.topics if self._bag.messages(n)))
            hint = '; where no arbiter ran, say who drove' if MODE in missing else ''
            raise DatasetError(
                f'{self._bag.path} has no message of {", ".join(missing)}; it has '
                f'{there or "none at all"}{hint}')

    def each(self, name: str, convert: Callable[[Any], Any]) -> Iterator[tuple[float, Any]]:
        """(header stamp [s], value) of every message that fits."""
        topic = self._names.get(name, '')
        for message in self._bag.messages(topic):
            decoded = self._bag.decode(topic, message)
            try:
                value = convert(decoded)
            except _MisfitError as misfit:
                self.misfits[f'{name}: {misfit}'] += 1
                continue
            stamp = decoded.header.stamp
            yield float(stamp.sec) + 1e-9 * float(stamp.nanosec), value

    def track(self, name: str, convert: Callable[[Any], Any], width: int) -> Track:
        found = list(self.each(name, convert))
        values = np.array([v for _, v in found], np.float32).reshape(len(found), width)
        return track([s for s, _ in found], values)

    def statuses(self, name: str) -> Iterator[tuple[float, dict[str, str]]]:
        """The key/value pairs of a DiagnosticArray's first status."""
        return self.each(name, lambda m: (
            {v.key: v.value for v in m.status[0].values} if m.status else {}))

    def joints(self, message: Any) -> Float32:
        """``(D,)`` positions of a JointState."""
        return self._by_name(message.name, message.position)

    def _by_name(self, names: Sequence[str], values: Sequence[float]) -> Float32:
        if len(names) != len(values):
            raise _MisfitError(f'{len(names)} names but {len(values)} positions')
        order = self._order(tuple(names))
        out = np.empty(self._spec.dim, np.float32)
        out[order] = values
        if not np.isfinite(out).all():
            raise _MisfitError('a position is NaN or infinite')
        return out

    def _order(self, names: tuple[str, ...]) -> list[int]:
        """Where the values of these names stand in a vector."""
        if names not in self._orders:
            index = {name: i for i, name in enumerate(self._spec.joint_names)}
            strange = [n for n in names if n not in index]
            missing = [n for n in index if n not in names]
            if strange or missing or len(set(names)) != len(names):
                raise _MisfitError(
                    f'joints unknown: {", ".join(strange) or "none"}, missing: '
                    f'{", ".join(missing) or "none"}' if strange or missing
                    else 'a joint is there twice')
            self._orders[names] = [index[name] for name in names]
        return self._orders[names]

    def pose(self, message: Any) -> Float32:
        """``(7,)`` of a PoseStamped."""
        p, q = message.pose.position, message.pose.orientation
        out = np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w], np.float32)
        if not np.isfinite(out).all() or abs(np.linalg.norm(out[3:]) - 1.0) > _TOLERANCE:
            raise _MisfitError('not a pose')
        return out

    def mode(self, message: Any) -> list[int]:
        """Driver of each arm, then the number of the correction, 0 without one."""
        values = {v.key: v.value for v in message.status[0].values} if message.status else {}
        try:
            drivers = [Source[values[f'driver_{arm.name}'].upper()] for arm in self._spec.arms]
        except KeyError as error:
            raise _MisfitError(f'{error} is missing or no driver') from None
        if values.get('intervention') != 'true':
            return [*drivers, 0]
        # An arbiter that does not count them has one.
        number = values.get('correction') or '1'
        if not number.isdecimal():
            raise _MisfitError(f'correction {number!r} is no number')
        return [*drivers, int(number)]

    def chunk(self, message: Any) -> ActionChunk:
        """A JointTrajectory as a chunk."""
        stamp = float(message.header.stamp.sec) + 1e-9 * float(message.header.stamp.nanosec)
        if not message.points:
            raise _MisfitError('a chunk without points')
        rows = [self._by_name(message.joint_names, p.positions) for p in message.points]
        times = stamp + np.array([
            p.time_from_start.sec + 1e-9 * p.time_from_start.nanosec for p in message.points])
        if (np.diff(times) <= 0).any():
            raise _MisfitError('times that do not increase')
        return ActionChunk(stamp, times, np.stack(rows))

    def pictures(self, camera: str) -> Pictures:
        """The pictures of a camera by stamp, decoded when asked for."""
        topic = self._names[self.camera_topic(camera)]
        messages = self._bag.messages(topic)
        compressed = self._bag.topics[topic].type.endswith('CompressedImage')
        stamps = [stamp_of(bytes(m.data[:16])) for m in messages]
        order = track(stamps, np.arange(len(messages))[:, None], np.int64)

        def load(n: int) -> UInt8:
            decoded = self._bag.decode(topic, messages[int(order.values[n, 0])])
            try:
                return decode_picture(decoded.data) if compressed else raw_picture(decoded)
            except DatasetError as error:
                raise DatasetError(f'{topic} at {order.stamps[n]:.3f} s: {error}') from None

        return Pictures(order.stamps, load)
