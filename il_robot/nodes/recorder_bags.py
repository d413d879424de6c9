"""The bags of one recorder: opened, filled, closed, and on into the dataset.

At any time at most one is being filled; those that ended still take their last messages until
all topics have come that far. A finished bag goes to the converter.
"""

from __future__ import annotations

import os
import time as wall
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rclpy.node import Node

from il_robot.data.bag_ledger import unconverted
from il_robot.data.bag_thread import BagThread
from il_robot.data.convert_process import ConvertProcess
from il_robot.data.episode_session import Discard, End
from il_robot.data.stream_check import StreamCheck, have_come
from il_robot.errors import DatasetError
from il_robot.nodes.node import Complaints
from il_robot.nodes.raw_topics import RawMessage, RawTopics
from il_robot.types import Outcome

_CONVERTER_PATIENCE = 3.0


@dataclass
class Bag:
    """A bag in the making; ``told`` once its thread knows how it ends."""

    thread: BagThread
    start: float
    end: End | None = None
    closing: float = 0.0
    told: bool = False


class RecorderBags:
    """See the module.

    Args:
        node: Whose logger it is.
        output: Folder of ``bags`` and ``dataset``.
        dt: Control period [s].
        raw: The topics that are recorded.
        complain: Says what is wrong, now and then.

    Attributes:
        open: The bag that is being filled.
        number: Of the next episode.
        saved: Episodes in the dataset, as far as known.
        outcome: How the last episode ended.
        reason: What happened last, in words.
        trouble: What is wrong, in words; empty where nothing is.
    """

    def __init__(
        self, node: Node, output: Path, dt: float, raw: RawTopics, complain: Complaints
    ) -> None:
        self._node, self._output, self._dt = node, output, dt
        self._topics, self._complain = raw, complain
        self.folder = output / 'bags'
        self.open: Bag | None = None
        self._closing: list[Bag] = []
        self._converter = ConvertProcess(output / 'dataset')
        self.number = 1 + max(
            (int(p.name[8:14]) for p in self.folder.glob('episode_[0-9]*')), default=-1)
        self.saved = 0
        self.outcome, self.reason, self.trouble = '', 'started', ''

    @property
    def waiting(self) -> int:
        """Bags that are not in the dataset yet."""
        return len(self._closing) + self._converter.waiting

    def take_up_old(self) -> None:
        """Bags of an earlier run that never became episodes: nothing recorded is lost."""
        logger = self._node.get_logger()
        ready, unfinished = unconverted(self.folder, self._output / 'dataset')
        for bag in ready:
            logger.info(f'{bag.name} of an earlier run goes into the dataset now')
            self._converter.submit(bag)
        if unfinished:
            logger.warning(
                f'{len(unfinished)} episode(s) of an earlier run have no outcome '
                f'({", ".join(bag.name for bag in unfinished[:3])} ...); to keep one: '
                f'{self._converter.command} --outcome success')

    # -- filling ----------------------------------------------------------------------------
    def begin(self, start: float, metadata: Mapping[str, str]) -> BagThread | None:
        """Open a bag for an episode from ``start`` [s] on; None where the disk refuses."""
        stamp = datetime.now(timezone.utc).strftime('%Y%m%dT%H%M%SZ')
        path = self.folder / f'episode_{self.number:06d}_{stamp}'
        try:
            self._converter.start()
            thread = BagThread(path, dict(metadata), os.environ.get('ROS_DISTRO', ''))
        except (DatasetError, OSError) as error:
            self.trouble = self.reason = f'start: cannot record to {path}: {error}'
            self._complain('disk', self.trouble)
            return None
        self.number += 1
        self.outcome, self.reason = '', f'recording {path.name}'
        self.open = Bag(thread, start)
        return thread

    def receive(self, message: RawMessage) -> None:
        """A message for every bag that still takes some."""
        for bag in (self.open, *self._closing):
            if bag is not None and not bag.told:
                self.write(bag.thread, message)

    def write(self, thread: BagThread, message: RawMessage) -> None:
        """A message for one bag."""
        topic = message.stream.topic
        if self.add_topic(thread, topic, message.stream.plan.type):
            thread.write(topic, message.data, message.received, message.sent)

    def add_topic(self, thread: BagThread, topic: str, kind: type) -> bool:
        """Make a topic known to a bag; whether it can be recorded."""
        if thread.knows(topic):
            return True
        try:
            thread.add_topic(self._topics.describe(topic, kind))
        except DatasetError as error:
            self._complain(topic, f'{topic} is not recorded: {error}')
            return False
        return True

    # -- ending -----------------------------------------------------------------------------
    def end(self, event: End) -> None:
        """The episode is over; the bag takes what is still on its way."""
        bag = self._close()
        bag.end, bag.closing = event, wall.monotonic()
        self.outcome = event.outcome.value
        self.reason = f'{bag.thread.path.name}: {event.outcome.value} ({event.reason})'

    def discard(self, event: Discard) -> None:
        """Throw the episode away."""
        bag = self._close()
        bag.thread.discard()
        bag.told = True
        self.outcome = 'discarded'
        self.reason = f'{bag.thread.path.name}: discarded ({event.reason})'

    def _close(self) -> Bag:
        bag, self.open = self.open, None
        assert bag is not None
        self._closing.append(bag)
        return bag

    def give_up(self) -> None:
        """The disk refuses: what is there stays, the rest of the graph goes on."""
        bag, self.open = self.open, None
        assert bag is not None
        self._closed(bag)

    # -- in the background ------------------------------------------------------------------
    def poll(self, on_change: Callable[[], None]) -> None:
        """Close bags whose last messages have come, hand finished ones to the converter."""
        for bag in list(self._closing):
            if bag.end and have_come(
                    self._checks(), bag.end.end, self._dt, wall.monotonic() - bag.closing):
                self._tell(bag)
            if bag.thread.done:
                self._closing.remove(bag)
                self._closed(bag)
                on_change()
        for report in self._converter.poll():
            self._report(report)
            on_change()

    def _checks(self) -> Iterable[StreamCheck]:
        return (stream.check for stream in self._topics.streams.values())

    @staticmethod
    def _tell(bag: Bag) -> None:
        """Say how the episode ended, once; the thread then finishes the bag."""
        if bag.end and not bag.told:
            bag.told = True
            bag.thread.close({'end': repr(bag.end.end), 'outcome': bag.end.outcome.value,
                              'reason': bag.end.reason})

    def _closed(self, bag: Bag) -> None:
        thread, name = bag.thread, bag.thread.path.name
        if thread.error:
            self.trouble = self.reason = (
                f'{name}: {thread.error} after {thread.messages} messages; what was written is '
                f'kept. Make room, then: {self._converter.command}')
            self.outcome = 'failed'
            self._node.get_logger().error(self.trouble)
            return
        if thread.dropped:
            self._node.get_logger().error(
                f'{name}: the disk was too slow, {thread.dropped} messages were dropped')
        self.trouble = ''
        if bag.end is not None:
            self._converter.submit(thread.path)

    def _report(self, report: Mapping[str, Any]) -> None:
        name = Path(report['bag']).name
        if 'error' in report:
            self.trouble = self.reason = f'{name} is kept but not in the dataset: ' \
                f'{report["error"]}'
            self._node.get_logger().error(self.trouble)
            return
        self.saved = report['episode'] + 1
        self.reason = (f'{name}: episode {report["episode"]} of the dataset, '
                       f'{report["rows"]} rows, {report["outcome"]}')
        self._node.get_logger().info(self.reason)
        for note in report['notes']:
            self._node.get_logger().warning(f'{name}: {note}')

    def finish(self, newest: float) -> None:
        """Finish all: an open episode stays as a bag, without outcome it is not converted.

        Args:
            newest: Stamp of the newest joint state [s].
        """
        ended = [*self._closing]
        if self.open is not None:
            self.end(End(newest, Outcome.UNKNOWN, 'the recorder was stopped'))
            self._node.get_logger().warning(
                f'stopped while recording: {self._closing[-1].thread.path} is kept, without '
                f'outcome; to keep the episode: {self._converter.command} --outcome success')
        for bag in self._closing:
            self._tell(bag)
            bag.thread.join()
        for bag in ended:
            self._closed(bag)
        left = self._converter.close(_CONVERTER_PATIENCE)
        for report in self._converter.poll():
            self._report(report)
        if left:
            self._node.get_logger().info(
                f'{left} bag(s) still go into the dataset in the background')
