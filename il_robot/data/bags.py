"""Writing rosbag2 folders with MCAP storage.

A bag is a folder with ``<name>_0.mcap`` and ``metadata.yaml`` (version 9), as ``ros2 bag``
makes it. Messages are stored as they came over the wire. What is known of the episode stands in
MCAP metadata records named ``il_robot``, the later ones adding to the earlier, and for people in
``custom_data`` of metadata.yaml.

What was flushed survives a kill, what was synced a power cut: chunks are complete in
themselves, and :mod:`il_robot.data.bag_reader` reads a file that ends anywhere.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from mcap.writer import CompressionType, Writer

from il_robot.data import layout
from il_robot.errors import DatasetError

METADATA = 'metadata.yaml'
RECORD = 'il_robot'
_VERSION = 9
# Larger ones cost twice the time for raw images, in copies.
_CHUNK_BYTES = 1024 * 1024
_FOREVER = {'sec': 9223372036, 'nsec': 854775807}
# Shown in metadata.yaml, which people read: not the whole robot.
_LONG = 400

Qos = Mapping[str, Any]


def qos(
    reliability: str = 'reliable', durability: str = 'volatile', depth: int = 10,
    history: str = 'keep_last',
) -> Qos:
    """One offered QoS profile in the words of rosbag2; without deadline and lifespan."""
    return {
        'history': history, 'depth': depth, 'reliability': reliability,
        'durability': durability, 'deadline': _FOREVER, 'lifespan': _FOREVER,
        'liveliness': 'automatic', 'liveliness_lease_duration': _FOREVER,
        'avoid_ros_namespace_conventions': False,
    }


@dataclass(frozen=True)
class Topic:
    """One recorded topic.

    Attributes:
        name: Full name, for example ``/joint_states``.
        type: For example ``sensor_msgs/msg/JointState``.
        definition: The message definition (:mod:`il_robot.data.message_definitions`).
        type_hash: ``RIHS01_...``, or empty.
        qos: What its publishers offer, one profile each (:func:`qos`).
    """

    name: str
    type: str
    definition: str
    type_hash: str = ''
    qos: tuple[Qos, ...] = ()


@dataclass
class TopicCount:
    """Messages of one topic so far."""

    topic: Topic
    messages: int = 0


@dataclass
class Summary:
    """What metadata.yaml says of the messages; times in [ns] since the epoch."""

    counts: dict[str, TopicCount] = field(default_factory=dict)
    first: int = 0
    last: int = 0

    @property
    def messages(self) -> int:
        """Messages of all topics."""
        return sum(count.messages for count in self.counts.values())

    def count(self, name: str, log_time: int) -> None:
        """Take note of one message."""
        self.first = min(self.first or log_time, log_time)
        self.last = max(self.last, log_time)
        self.counts[name].messages += 1


class BagWriter:
    """Writes one bag; not for several threads.

    Every method raises :class:`OSError` where the disk refuses; what was flushed before stays
    readable then.

    Args:
        path: The bag's folder; must not exist.
        metadata: What is known beforehand (text by name).
        distro: Name of the ROS distribution, for metadata.yaml.

    Raises:
        DatasetError: the folder exists or cannot be made.
    """

    def __init__(self, path: Path, metadata: Mapping[str, str], distro: str = '') -> None:
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            raise DatasetError(f'{path} exists; a bag is never written over') from None
        except OSError as error:
            raise DatasetError(f'cannot write to {path.parent}: {error.strerror}') from None
        self.path = path
        self.file = path / f'{path.name}_0.mcap'
        self.summary = Summary()
        self._distro = distro
        self._metadata = dict(metadata)
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._out = _File(self.file)
        # Any: its methods are not annotated, and _File is a file only as far as it needs one
        self._mcap: Any = Writer(
            cast(Any, self._out), chunk_size=_CHUNK_BYTES, compression=CompressionType.NONE)
        self._mcap.start(profile='ros2', library='il_robot')
        self._mcap.add_metadata(RECORD, self._metadata)

    def add_topic(self, topic: Topic) -> None:
        """Make a topic known; before its first message."""
        if topic.type not in self._schemas:
            self._schemas[topic.type] = self._mcap.register_schema(
                topic.type, 'ros2msg', topic.definition.encode())
        # rosbags matches a topic by this text; it must say the same as metadata.yaml.
        profiles = _dump([dict(profile) for profile in topic.qos]) if topic.qos else ''
        self._channels[topic.name] = self._mcap.register_channel(
            topic.name, 'cdr', self._schemas[topic.type],
            {'offered_qos_profiles': profiles, 'topic_type_hash': topic.type_hash})
        self.summary.counts[topic.name] = TopicCount(topic)

    def write(self, name: str, data: bytes, log_time: int, publish_time: int = 0) -> None:
        """Append one serialized message.

        Args:
            name: A topic made known before.
            data: CDR bytes with their encapsulation header.
            log_time: When it was received [ns since the epoch].
            publish_time: When it was sent; 0 = not known, then ``log_time``.
        """
        self._mcap.add_message(
            self._channels[name], log_time, data, publish_time or log_time)
        self.summary.count(name, log_time)

    def flush(self) -> None:
        """Hand everything to the operating system as a complete chunk: survives a kill."""
        self._mcap.flush()

    def sync(self) -> None:
        """Wait until what was flushed survives a power cut."""
        os.fdatasync(self._out.descriptor)

    def close(self, metadata: Mapping[str, str] | None = None) -> None:
        """Write index and metadata.yaml, durably.

        Args:
            metadata: What has become known since; added to the bag.
        """
        if metadata:
            self._metadata |= metadata
            self._mcap.flush()
            self._mcap.add_metadata(RECORD, dict(metadata))
        self._mcap.finish()
        os.fsync(self._out.descriptor)
        self._out.close()
        write_metadata(self.path, [self.file.name], self.summary, self._metadata, self._distro)

    def abandon(self) -> None:
        """Stop without index and metadata.yaml (the disk failed); what is there stays."""
        self._out.close()

    def discard(self) -> None:
        """Remove the bag."""
        self._out.close()
        shutil.rmtree(self.path)


class _File:
    """The plain file below the mcap writer: no buffer that could be lost, one lock."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._offset = 0

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        while view:
            written = os.write(self.descriptor, view)
            self._offset += written
            view = view[written:]
        return len(data)

    def tell(self) -> int:
        return self._offset

    def flush(self) -> None:
        """There is no buffer."""

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class _Dumper(getattr(yaml, 'CSafeDumper', yaml.SafeDumper)):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True  # other readers know no anchors


def _dump(data: Any) -> str:
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)).strip()


def load_yaml(text: str) -> Any:
    """Read YAML with the fast loader, where libyaml is there.

    Raises:
        yaml.YAMLError: it is damaged.
    """
    return yaml.load(text, getattr(yaml, 'CSafeLoader', yaml.SafeLoader))


def write_metadata(
    path: Path, files: Sequence[str], summary: Summary, metadata: Mapping[str, str], distro: str,
) -> None:
    """Write ``metadata.yaml`` atomically and durably."""
    start = {'nanoseconds_since_epoch': summary.first}
    duration = {'nanoseconds': summary.last - summary.first}
    information = {
        'version': _VERSION,
        'storage_identifier': 'mcap',
        'duration': duration,
        'starting_time': start,
        'message_count': summary.messages,
        'topics_with_message_count': [
            {
                'topic_metadata': {
                    'name': count.topic.name, 'type': count.topic.type,
                    'serialization_format': 'cdr',
                    'offered_qos_profiles': [dict(profile) for profile in count.topic.qos],
                    'type_description_hash': count.topic.type_hash,
                },
                'message_count': count.messages,
            }
            for count in summary.counts.values()
        ],
        'compression_format': '',
        'compression_mode': '',
        'relative_file_paths': list(files),
        'files': [
            {'path': file, 'starting_time': start, 'duration': duration,
             'message_count': summary.messages}
            for file in files
        ],
        'custom_data': {k: v for k, v in metadata.items() if len(v) < _LONG},
        'ros_distro': distro,
    }
    text = _dump({'rosbag2_bagfile_information': information}) + '\n'
    layout.replace(path / METADATA, lambda file: file.write_text(text, encoding='utf-8'))
