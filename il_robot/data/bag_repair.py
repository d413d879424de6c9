"""Mending a bag whose recorder was killed, or whose disk was full."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from il_robot.data import layout
from il_robot.data.bag_reader import BagReader
from il_robot.data.bags import BagWriter, write_metadata
from il_robot.errors import DatasetError


def repair(path: Path) -> list[str]:
    """Make a bag that was cut off (kill, power, full disk) a valid one again.

    The good part is written to a new file, which replaces the old one when it is durable.

    Returns:
        One line per thing done; empty where the bag was in order.

    Raises:
        DatasetError: no bag of ours, one that is being written, one without any whole message,
            or no room on the disk.
    """
    with BagReader(path) as bag:
        if bag.whole and bag.described:
            return []
        if len(bag.files) != 1 or not path.is_dir():
            raise DatasetError(
                f'{path}: only a folder with one file is mended here; see ros2 bag reindex')
        if not bag.summary.messages:
            raise DatasetError(f'{path} holds no whole message; nothing to repair')
        file = bag.files[0]
        with file.open('rb') as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DatasetError(f'{path} is being recorded now; end the episode first') \
                    from None
            try:
                said = [] if bag.whole else _rewrite(bag, file)
                write_metadata(path, [file.name], bag.summary, bag.metadata, bag.distro)
            except OSError as error:
                raise DatasetError(f'cannot repair {path}: {error.strerror}') from None
    return [*said, f'{path.name}: metadata.yaml made anew: {bag.summary.messages} messages']


def _rewrite(bag: BagReader, file: Path) -> list[str]:
    """Copy the whole messages of a cut-off file to a good one in its place."""
    work = file.parent.with_name(f'.{file.parent.name}.repair')
    shutil.rmtree(work, ignore_errors=True)
    try:
        writer = BagWriter(work, bag.metadata)
        for topic in bag.topics.values():
            writer.add_topic(topic)
        for name, message in bag.all_messages():
            writer.write(name, bytes(message.data), message.log_time, message.publish_time)
        writer.close()
        layout.publish(writer.file, file)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return [f'{file.name}: {problem}; {bag.summary.messages} whole messages kept'
            for problem in bag.problems]
