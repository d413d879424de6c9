"""Reading rosbag2 folders with MCAP storage, whole ones and those cut off at any byte.

The file is mapped into memory and indexed by one pass over its record headers, so that an image
is read from the disk only when somebody asks for it.
"""

from __future__ import annotations

import io
import mmap
import struct
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import lz4.frame
import yaml
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.records import Channel, Metadata, Schema
from mcap_ros2.decoder import DecoderFactory

from il_robot.data.bags import METADATA, RECORD, Summary, Topic, TopicCount, load_yaml
from il_robot.errors import DatasetError

_MAGIC = b'\x89MCAP0\r\n'
_HEADER = struct.Struct('<BQ')
_MESSAGE = struct.Struct('<HIQQ')
_CHUNK = struct.Struct('<QQQII')
_SCHEMA, _CHANNEL, _IN_CHUNK_MESSAGE, _CHUNK_RECORD, _METADATA_RECORD, _DATA_END = \
    0x03, 0x04, 0x05, 0x06, 0x0C, 0x0F
_OPCODES = range(0x01, 0x10)
# Decompressed chunks that are kept (foreign bags; ours are not compressed).
_KEPT_CHUNKS = 4


class _DamagedError(Exception):
    """From here on the file cannot be read."""


# What reading damaged records can raise besides.
_DAMAGE = (_DamagedError, struct.error, ValueError, RuntimeError, McapError, zstandard.ZstdError,
           yaml.YAMLError)


@dataclass(frozen=True)
class Message:
    """One stored message; ``data`` is read when asked for.

    Attributes:
        log_time: When it was received [ns since the epoch].
        publish_time: When it was sent [ns since the epoch].
    """

    log_time: int
    publish_time: int
    _block: _Block
    _start: int
    _stop: int

    @property
    def data(self) -> memoryview:
        """CDR bytes with their encapsulation header."""
        return self._block.view()[self._start:self._stop]


class _Block:
    """Records that stand together: a chunk, or the file itself."""

    def __init__(self, view: memoryview, compression: str, size: int,
                 cache: OrderedDict[int, memoryview]) -> None:
        self._raw, self._compression, self._size, self._cache = view, compression, size, cache

    def view(self) -> memoryview:
        if not self._compression:
            return self._raw
        key = id(self)
        if key not in self._cache:
            self._cache[key] = _decompress(self._raw, self._compression, self._size)
            while len(self._cache) > _KEPT_CHUNKS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]


class BagReader:
    """An open bag.

    Args:
        path: The bag's folder, or one ``.mcap`` file.

    Attributes:
        path: As given.
        files: Its storage files, in order.
        topics: Topic by full name.
        summary: Counts and times of what can be read.
        metadata: What the recorder noted (empty in other people's bags).
        distro: ROS distribution it was recorded with, where metadata.yaml says so.
        whole: Every file has its end.
        described: metadata.yaml is there and readable.
        problems: What is wrong with the files, one line each.

    Raises:
        DatasetError: no bag, another storage than MCAP, or not readable from the start.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        said = information(self.path)
        self.files = _files(self.path, said)
        self.topics: dict[str, Topic] = {}
        self.summary = Summary()
        self.metadata: dict[str, str] = {}
        self.distro = str(said.get('ros_distro') or '')
        self.described, self.whole = bool(said), True
        self.problems: list[str] = []
        self._messages: dict[str, list[Message]] = {}
        self._decoders: dict[str, Callable[[bytes], Any]] = {}
        self._cache: OrderedDict[int, memoryview] = OrderedDict()
        self._maps = [self._scan(file) for file in self.files]
        for messages in self._messages.values():
            messages.sort(key=lambda message: message.log_time)

    def messages(self, name: str) -> list[Message]:
        """All messages of a topic in the order of their receipt; empty for an unknown one."""
        return self._messages.get(name, [])

    def all_messages(self) -> Iterator[tuple[str, Message]]:
        """Every message with its topic's name, in the order of receipt."""
        everything = [(m.log_time, name, m) for name, ms in self._messages.items() for m in ms]
        everything.sort(key=lambda entry: entry[0])
        for _, name, message in everything:
            yield name, message

    def decode(self, name: str, message: Message) -> Any:
        """A message as an object with the fields of its definition (no ROS needed).

        Raises:
            DatasetError: the bytes do not fit the definition.
        """
        try:
            return self._decoder(name)(bytes(message.data))
        except Exception as error:  # the decoder is not ours; it promises nothing about damage
            raise DatasetError(
                f'{self.path}: a message of {name} cannot be decoded: {error}') from None

    def close(self) -> None:
        """Let go of the files; messages cannot be read afterwards."""
        self._messages.clear()
        self._cache.clear()
        for mapped in self._maps:
            # A view that somebody still holds keeps its map alive; it ends with the view.
            try:
                mapped.close()
            except BufferError:
                continue

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _decoder(self, name: str) -> Callable[[bytes], Any]:
        if name not in self._decoders:
            topic = self.topics[name]
            schema = Schema(id=1, data=topic.definition.encode(), encoding='ros2msg',
                            name=topic.type)
            decoder = DecoderFactory().decoder_for('cdr', schema)
            assert decoder is not None
            self._decoders[name] = decoder
        return self._decoders[name]

    # -- indexing ---------------------------------------------------------------------------
    def _scan(self, file: Path) -> mmap.mmap:
        try:
            with file.open('rb') as stream:
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise DatasetError(f'cannot read {file}: {error}') from None
        view = memoryview(mapped)
        if bytes(view[:8]) != _MAGIC:
            raise DatasetError(f'{file} is not an MCAP file')
        ended = mapped[-8:] == _MAGIC and len(mapped) > 8
        index = _Index(self, view)
        position = 8
        try:
            while True:
                position, opcode, start = index.record(view, position)
                if opcode == _DATA_END:
                    break
                index.top_level(opcode, start, position)
            if not ended:
                raise _DamagedError('it ends within the index')
        except _DAMAGE as problem:
            self.problems.append(f'{problem} ({len(view) - position} bytes cannot be read)')
            self.whole = False
        return mapped


class _Index:
    """Fills a reader from the records of one file."""

    def __init__(self, bag: BagReader, view: memoryview) -> None:
        self._bag, self._view = bag, view
        self._file = _Block(view, '', len(view), bag._cache)
        self._schemas: dict[int, Any] = {}
        self._channels: dict[int, str] = {}

    @staticmethod
    def record(view: memoryview, position: int) -> tuple[int, int, int]:
        """(end, opcode, start of the content) of the record at a position."""
        if position == len(view):
            raise _DamagedError('it ends without an end mark')
        if position + _HEADER.size > len(view):
            raise _DamagedError('it ends within a record')
        opcode, length = _HEADER.unpack_from(view, position)
        start = position + _HEADER.size
        if opcode not in _OPCODES:
            raise _DamagedError('it holds bytes that are no record')
        if start + length > len(view):
            raise _DamagedError('it ends within a record')
        return start + length, opcode, start

    def top_level(self, opcode: int, start: int, stop: int) -> None:
        if opcode == _CHUNK_RECORD:
            self._chunk(start, stop)
        elif opcode == _METADATA_RECORD:
            record = Metadata.read(_stream(self._view[start:stop]))
            if record.name == RECORD:
                self._bag.metadata |= record.metadata
        else:
            self._in_block(self._file, self._view, opcode, start, stop)

    def _chunk(self, start: int, stop: int) -> None:
        view = self._view
        *_, size, crc, length = _CHUNK.unpack_from(view, start)
        records = start + _CHUNK.size + length
        compression = bytes(view[records - length:records]).decode(errors='replace')
        block = _Block(view[records + 8:stop], compression, size, self._bag._cache)
        content = block.view()
        if crc and zlib.crc32(content) != crc:
            raise _DamagedError('a chunk does not match its check sum')
        position = 0
        while position < len(content):
            position, opcode, begin = self.record(content, position)
            self._in_block(block, content, opcode, begin, position)

    def _in_block(
        self, block: _Block, content: memoryview, opcode: int, start: int, stop: int
    ) -> None:
        if opcode == _IN_CHUNK_MESSAGE:
            channel, _, log_time, publish_time = _MESSAGE.unpack_from(content, start)
            name = self._channels.get(channel)
            if name is not None:
                self._bag._messages[name].append(
                    Message(log_time, publish_time, block, start + _MESSAGE.size, stop))
                self._bag.summary.count(name, log_time)
        elif opcode == _SCHEMA:
            schema = Schema.read(_stream(content[start:stop]))
            self._schemas[schema.id] = schema
        elif opcode == _CHANNEL:
            self._channel(content[start:stop])

    def _channel(self, content: memoryview) -> None:
        channel = Channel.read(_stream(content))
        schema = self._schemas.get(channel.schema_id)
        if schema is None or schema.encoding != 'ros2msg' or channel.message_encoding != 'cdr':
            said = schema.encoding if schema else 'no schema'
            self._bag.problems.append(
                f'{channel.topic} is left out: {said}, {channel.message_encoding}; '
                f'ros2msg and cdr are read')
            return
        profiles = load_yaml(channel.metadata.get('offered_qos_profiles', '') or '[]')
        topic = Topic(
            channel.topic, schema.name, schema.data.decode(),
            channel.metadata.get('topic_type_hash', ''), tuple(profiles or ()))
        self._channels[channel.id] = topic.name
        if topic.name not in self._bag.topics:
            self._bag.topics[topic.name] = topic
            self._bag._messages[topic.name] = []
            self._bag.summary.counts[topic.name] = TopicCount(topic)


def _stream(content: memoryview) -> Any:
    return ReadDataStream(io.BytesIO(content))


def _decompress(raw: memoryview, compression: str, size: int) -> memoryview:
    if compression == 'zstd':
        return memoryview(zstandard.decompress(raw, size))
    if compression == 'lz4':
        return memoryview(lz4.frame.decompress(raw))
    raise _DamagedError(f'compression {compression!r} is unknown; zstd and lz4 are read')


def information(path: Path) -> dict[str, Any]:
    """metadata.yaml of a bag; empty where there is none or it is damaged."""
    file = path / METADATA
    if not file.is_file():
        return {}
    try:
        data = load_yaml(file.read_text(encoding='utf-8'))
        return dict(data['rosbag2_bagfile_information'])
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        return {}


def _files(path: Path, said: dict[str, Any]) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DatasetError(f'no bag at {path}: there is no such folder')
    storage = said.get('storage_identifier', 'mcap')
    if storage != 'mcap':
        raise DatasetError(
            f'{path} is stored as {storage}; MCAP is read. Convert it once with: ros2 bag convert')
    named = [path / Path(str(f)).name for f in said.get('relative_file_paths', [])]
    files = named or sorted(path.glob('*.mcap'))
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise DatasetError(f'{path} is not a bag: it lacks {", ".join(missing) or "*.mcap"}')
    return files


def is_bag(path: Path) -> bool:
    """Whether a path is a bag: a folder with ``.mcap`` files or metadata.yaml, or such a file."""
    if path.is_file():
        return path.suffix == '.mcap'
    return (path / METADATA).is_file() or any(path.glob('*.mcap'))
