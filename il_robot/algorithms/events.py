"""Scalars for TensorBoard, without TensorBoard: event files are framed protocol buffers.

A file is a sequence of records: length (uint64), its checksum, an ``Event`` message, its
checksum (``tensorflow/core/lib/io/record_writer.cc``); the message is
``tensorflow/core/util/event.proto`` with wall time, step and a summary of named floats.
``pip install tensorboard`` and ``tensorboard --logdir outputs`` show them.

Not tensorboardX (2.6.5): its SummaryWriter hands records to a thread through a queue, and
``flush()`` does not wait for it; in 298 of 300 calls the record was not in the file yet. A crash
would take it along, and a full disk would be told by the thread, a record later or at exit. Here
a record is in the file when :meth:`EventFile.write` returns, or that raises.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from pathlib import Path

FOLDER = 'tensorboard'


def _crc_table() -> list[int]:
    """CRC-32C (Castagnoli), reflected polynomial 0x82F63B78."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """The checksum of the frames, before it is masked."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def frame(message: bytes) -> bytes:
    """One record of the file."""
    def checked(data: bytes) -> bytes:
        crc = crc32c(data)
        masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        return data + struct.pack('<I', masked)

    return checked(struct.pack('<Q', len(message))) + checked(message)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _text(field: int, data: bytes) -> bytes:
    """A field of strings or messages (wire type 2)."""
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


def event(wall_time: float, step: int, scalars: Mapping[str, float]) -> bytes:
    """The ``Event`` with these scalars."""
    values = b''.join(
        _text(1, _text(1, tag.encode()) + struct.pack('<Bf', 2 << 3 | 5, value))
        for tag, value in scalars.items())
    return struct.pack('<Bd', 1 << 3 | 1, wall_time) + b'\x10' + _varint(step) + _text(5, values)


def tagged(record: Mapping[str, float]) -> dict[str, float]:
    """The scalars of a record of ``metrics.jsonl``: losses, success, and how training goes."""
    groups = {'rate': 'training', 'learning_rate': 'training', 'success': 'success',
              'success_low': 'success', 'success_high': 'success'}
    return {f'{groups.get(name, "loss")}/{name}': value for name, value in record.items()
            if name not in ('step', 'episodes')}


class EventFile:
    """One event file of a run; older ones are removed, whose steps it has again.

    Args:
        output: The run's folder.
        records: What was logged before.
    """

    def __init__(self, output: Path, records: list[dict[str, float]]) -> None:
        folder = output / FOLDER
        folder.mkdir(exist_ok=True)
        old = list(folder.glob('events.out.tfevents.*'))
        now = time.time()
        self._path = folder / f'events.out.tfevents.{time.time_ns()}.il_robot'
        version = struct.pack('<Bd', 1 << 3 | 1, now) + _text(3, b'brain.Event:2')
        self._path.write_bytes(frame(version) + b''.join(
            frame(event(now, int(r['step']), tagged(r))) for r in records))
        for path in old:
            path.unlink()

    def write(self, record: Mapping[str, float]) -> None:
        """Append a record."""
        with self._path.open('ab') as file:
            file.write(frame(event(time.time(), int(record['step']), tagged(record))))
