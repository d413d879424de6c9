"""Event files, against the bytes of the format and against TensorBoard where it is installed."""

import struct

import pytest

from il_robot.algorithms import events

RECORDS = [{'step': 20, 'loss': 0.5, 'rate': 100.0, 'learning_rate': 1e-3},
           {'step': 300, 'success': 0.25, 'success_low': 0.1, 'success_high': 0.5, 'episodes': 8}]


def files(folder):
    return list((folder / events.FOLDER).iterdir())


def read(path):
    """(messages) of a file whose checksums are right."""
    data, messages = path.read_bytes(), []
    while data:
        (length,) = struct.unpack('<Q', data[:8])
        record, data = data[:length + 16], data[length + 16:]
        assert events.frame(record[12:-4]) == record
        messages.append(record[12:-4])
    return messages


def test_the_checksum_is_castagnolis():
    assert events.crc32c(b'123456789') == 0xE3069283  # RFC 3720, B.4 and the usual check value
    assert events.crc32c(bytes(32)) == 0x8A9136AA


def test_an_event_has_the_bytes_of_the_protocol():
    assert events.event(1.5, 300, {'loss/a': 0.5}) == bytes.fromhex(
        '09 000000000000f83f' '10 ac02' '2a 0f' '0a 0d' '0a 06 6c6f73732f61' '15 0000003f')


def test_a_resumed_file_has_every_record_once(tmp_path):
    first = events.EventFile(tmp_path, [])
    first.write(RECORDS[0])
    first.write({'step': 40, 'loss': 9.0})  # behind the checkpoint from which it is resumed
    second = events.EventFile(tmp_path, RECORDS[:1])
    second.write(RECORDS[1])
    [file] = files(tmp_path)
    version, *rest = read(file)
    assert version.endswith(b'brain.Event:2')
    assert [m[9:12] for m in rest] == [b'\x10\x14\x2a', b'\x10\xac\x02']
    assert b'loss/loss' in rest[0] and b'training/learning_rate' in rest[0]
    assert b'success/success_low' in rest[1] and b'episodes' not in rest[1]


def test_tensorboard_reads_it(tmp_path):
    accumulator = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator', reason='it is no dependency')
    file = events.EventFile(tmp_path, RECORDS[:1])
    file.write(RECORDS[1])
    found = accumulator.EventAccumulator(str(tmp_path / events.FOLDER))
    found.Reload()
    for tag, step, value in (('loss/loss', 20, 0.5), ('success/success', 300, 0.25)):
        [scalar] = found.Scalars(tag)
        assert (scalar.step, scalar.value) == (step, value)
