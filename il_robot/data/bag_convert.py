"""A recorded bag becomes an episode of a LeRobot dataset.

The recorder and ``il_robot dataset convert`` both run this on the finished bag, so an episode
recorded live and one converted later are the same, bit for bit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np

from il_robot.data import layout
from il_robot.data.align import Alignment, Streams, align, track
from il_robot.data.bag_ledger import converted, note
from il_robot.data.bag_reader import BagReader
from il_robot.data.bag_repair import repair
from il_robot.data.bag_streams import COMMAND, BagStreams, read_streams
from il_robot.data.features import object_names
from il_robot.data.stream_check import stamp_of
from il_robot.data.writer import DatasetWriter
from il_robot.errors import DatasetError
from il_robot.spec import CameraSpec, RobotSpec, robot_spec_from_dict
from il_robot.types import ActionChunk, EpisodeInfo, Float32, Float64, Outcome, Source

MAX_MISSING = 0.05
"""Share of the control periods without a row from which an episode is refused."""

UNSETTLED = 0.25
"""How much of the end of a cut-off recording is not used: topics arrive independently [s]."""

PolicyReplay = Callable[
    [Sequence[ActionChunk], Mapping[str, str], Float64, RobotSpec], Float32]
"""``control.replay.policy_actions``: this layer does not import the control layer."""

_NAMES = re.compile(
    r'(?:^|/)(joint_states|command|session/mode|(?:expert|policy)/proposal|policy/status|'
    r'sim/episode|object/[^/]+/pose|camera/[^/]+/image_raw(?:/compressed)?)$')


@dataclass(frozen=True)
class ConvertOptions:
    """What the user says; None and empty: as the bag says.

    Attributes:
        spec: The robot, for bags of other recorders.
        task, language: See :class:`EpisodeInfo`.
        outcome: How the episode ended.
        round: DAgger round.
        cameras: Cameras of the dataset.
        driver: Who drove both arms, for bags without ``session/mode``.
        allow_gaps: Take an episode with many rows missing.
    """

    spec: RobotSpec | None = None
    task: str = ''
    language: str = ''
    outcome: Outcome | None = None
    round: int | None = None
    cameras: tuple[str, ...] | None = None
    driver: Source | None = None
    allow_gaps: bool = False


@dataclass(frozen=True)
class Converted:
    """One bag that became an episode.

    Attributes:
        bag: Name of the bag.
        episode: Index in the dataset.
        rows: Its rows; 0 where it had been converted before.
        outcome: How it ended.
        notes: What deserves a word.
    """

    bag: str
    episode: int
    rows: int
    outcome: Outcome
    notes: tuple[str, ...]


class BagConverter:
    """Appends bags to one dataset; the dataset stays locked until :meth:`close`.

    Args:
        dataset: Folder of the dataset; made with the first bag.
        replay: ``control.replay.policy_actions``.
        options: What the user says.
    """

    def __init__(self, dataset: Path, replay: PolicyReplay, options: ConvertOptions) -> None:
        self._dataset, self._replay, self._options = dataset, replay, options
        self._writer: DatasetWriter | None = None
        self._columns: tuple[RobotSpec, tuple[str, ...], tuple[CameraSpec, ...]] | None = None

    def add(self, path: Path) -> Converted:
        """Convert one bag; it is mended first where its recorder was killed.

        Raises:
            DatasetError: it lacks a topic, too much is missing, or the dataset is of another
                robot or has other columns; bag and dataset are as before.
        """
        with BagReader(path) as bag:
            mended = bag.whole and (bag.described or path.is_file())
        notes = [] if mended else repair(path)
        with BagReader(path) as bag:
            key = f'{path.resolve().name} {bag.summary.first}'
            done = converted(self._dataset).get(key)
            if done is not None:
                return Converted(
                    path.name, done, 0, Outcome.UNKNOWN,
                    (f'it is episode {done} of {self._dataset} already',))
            return self._add(path, bag, key, [*notes, *bag.problems])

    def close(self) -> None:
        """Let go of the dataset."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> BagConverter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _add(self, path: Path, bag: BagReader, key: str, notes: list[str]) -> Converted:
        spec = self._spec(bag)
        cameras = self._cameras(bag, spec)
        found = read_streams(bag, topic_names(bag), spec, cameras, self._options.driver)
        aligned, info = self._align(bag, found, spec)
        notes += aligned.report.lines()
        if info.discarded:
            rows = sum(stop - start for start, stop in info.discarded)
            notes.append(f'{rows} rows of discarded corrections stay, and teach nothing')
        notes += [f'{count} message(s) left out: {why}' for why, count in found.misfits.items()]
        if aligned.report.missing > MAX_MISSING and not self._options.allow_gaps:
            raise DatasetError(
                f'{path.name}: {aligned.report.missing:.0%} of the control periods have no row '
                f'({"; ".join(notes)}); the bag is kept, --allow-gaps takes it all the same')
        views = [_sized(spec.camera(name), found) for name in cameras]
        writer = self._open(spec, self._objects(found), tuple(views))
        notes += writer.repaired if not writer.n_episodes else ()
        self._write(writer, aligned, info)
        episode = writer.n_episodes
        note(self._dataset, key, episode)
        writer.end(info.outcome).result()
        return Converted(path.name, episode, len(aligned), info.outcome, tuple(notes))

    @staticmethod
    def _write(writer: DatasetWriter, aligned: Alignment, info: EpisodeInfo) -> None:
        writer.begin(info)
        try:
            for step in aligned.steps():
                writer.add(step)
        except BaseException:
            writer.discard()
            raise

    # -- what is known of the episode -------------------------------------------------------
    def _spec(self, bag: BagReader) -> RobotSpec:
        if self._options.spec is not None:
            return self._options.spec
        if 'robot' not in bag.metadata:
            raise DatasetError(
                f'{bag.path} does not say of which robot it is: give --robot NAME')
        return robot_spec_from_dict(json.loads(bag.metadata['robot']), str(bag.path))

    def _cameras(self, bag: BagReader, spec: RobotSpec) -> tuple[str, ...]:
        if self._options.cameras is not None:
            return self._options.cameras
        if 'cameras' in bag.metadata:
            return tuple(json.loads(bag.metadata['cameras']))
        names = topic_names(bag)
        return tuple(
            c.name for c in spec.cameras
            if {f'camera/{c.name}/image_raw', f'camera/{c.name}/image_raw/compressed'} & {*names})

    def _align(
        self, bag: BagReader, found: BagStreams, spec: RobotSpec
    ) -> tuple[Alignment, EpisodeInfo]:
        said, options = bag.metadata, self._options
        start = float(said.get('start', '-inf'))
        end = float(said['end']) if 'end' in said else _complete_until(bag, found.streams, spec)
        sim = _same_episode(found.sim_episode, start, end + 0.5 * spec.dt)
        values = sim[-1][1] if sim else {}
        outcome = options.outcome or Outcome(said.get('outcome', 'unknown'))
        if outcome is Outcome.UNKNOWN and values.get('success') == 'true':
            outcome = Outcome.SUCCESS
        success = track([s for s, _ in sim], [[v.get('success') == 'true'] for _, v in sim])
        aligned = align(
            replace(found.streams, success=success if sim else None), spec, start, end,
            solved=outcome is Outcome.SUCCESS,
            policy_actions=lambda t: self._replay(
                found.chunks, found.policy_status, t, spec))
        task = options.task or said.get('task') or values.get('task') or 'unnamed'
        language = options.language or said.get('language') or values.get('language')
        drove = (aligned.sources == Source.POLICY).any()
        round_ = options.round if options.round is not None else int(said.get('round', '0'))
        return aligned, EpisodeInfo(
            task, language or task.replace('_', ' '), outcome, int(values.get('seed', '-1')),
            round_, found.policy_status.get('checkpoint', '') if drove else '',
            aligned.discarded)

    # -- the dataset ------------------------------------------------------------------------
    def _open(
        self, spec: RobotSpec, objects: tuple[str, ...], cameras: tuple[CameraSpec, ...]
    ) -> DatasetWriter:
        """The writer; anew where the columns differ, which an existing dataset refuses."""
        if self._writer is None or self._columns != (spec, objects, cameras):
            self.close()
            self._writer = DatasetWriter.open(
                self._dataset, spec, objects, cameras)
            self._columns = (spec, objects, cameras)
        return self._writer

    def _objects(self, found: BagStreams) -> tuple[str, ...]:
        """The objects in the order of the dataset, else in that of the simulator."""
        orders = [tuple(v.get('objects', '').split()) for _, v in found.sim_episode[-1:]]
        if (self._dataset / layout.INFO).is_file():
            orders.insert(0, object_names(layout.read_info(self._dataset)['features']))
        names = tuple(found.streams.objects)
        return next((order for order in orders if sorted(order) == sorted(names)), names)


def _complete_until(bag: BagReader, streams: Streams, spec: RobotSpec) -> float:
    """Where an episode that nobody ended ends [s]: as far as there are commands.

    Topics are received independently, so at the cut of a killed recording a label or the word
    of who drove may have been on its way still; what came in the last moment is not trusted.
    """
    topic = bag.messages(topic_names(bag)[COMMAND])
    safe = bag.summary.last - UNSETTLED * 1e9 if 'start' in bag.metadata else float('inf')
    settled = [stamp_of(bytes(m.data)) for m in topic if m.log_time <= safe]
    newest = min(max(settled, default=np.inf), streams.commands.stamps[-1])
    return float(newest) + 0.75 * spec.dt


def topic_names(bag: BagReader) -> dict[str, str]:
    """Our topic name to the bag's, for example ``joint_states`` to ``/robot/joint_states``.

    Raises:
        DatasetError: two topics of the bag could be meant.
    """
    if 'topics' in bag.metadata:
        return {str(k): str(v) for k, v in json.loads(bag.metadata['topics']).items()}
    names: dict[str, str] = {}
    for topic in bag.topics:
        match = _NAMES.search(topic)
        if match is None or not bag.messages(topic):
            continue
        if match[1] in names:
            raise DatasetError(
                f'{bag.path}: both {names[match[1]]} and {topic} could be {match[1]}; convert '
                'a bag of one robot')
        names[match[1]] = topic
    return names


def _same_episode(
    said: list[tuple[float, dict[str, str]]], start: float, end: float
) -> list[tuple[float, dict[str, str]]]:
    """What the simulator said of the episode that ran at ``start``, up to ``end`` [s]."""
    def identity(values: Mapping[str, str]) -> tuple[str | None, str | None]:
        return values.get('episode'), values.get('seed')

    running = [v for s, v in said if s <= start][-1:] or [v for _, v in said][:1]
    return [(s, v) for s, v in said if s < end and identity(v) == identity(running[0])]


def _sized(camera: CameraSpec, found: BagStreams) -> CameraSpec:
    """The camera with the size of its pictures."""
    height, width = found.streams.pictures[camera.name].load(0).shape[:2]
    return replace(camera, width=width, height=height)
