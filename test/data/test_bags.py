"""Bags: what is written comes back, to us and to rosbags; a file cut anywhere keeps its start."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import ros_messages as ros
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer
from rosbags.highlevel import AnyReader

from il_robot.data import bags as bags_module
from il_robot.data.bag_reader import BagReader, is_bag
from il_robot.data.bag_repair import repair
from il_robot.data.bag_thread import BagThread
from il_robot.data.bags import BagWriter
from il_robot.data.message_definitions import message_definition
from il_robot.errors import DatasetError

NAMES = ('/joint_states', '/object/cube/pose')
START = 1_795_000_000_000_000_000


def messages(n=30):
    for i in range(n):
        stamp = 1000.0 + 0.02 * i
        yield NAMES[0], ros.joints(stamp, ['a', 'b'], [i, -i]), START + i * 20_000_000
        if i % 3 == 0:
            yield NAMES[1], ros.pose(stamp, [i, 0, 0, 0, 0, 0, 1]), START + i * 20_000_000 + 1


def write(path, n=30, flush_every=10, close=True):
    bag = BagWriter(path, {'task': 'x'}, 'kilted')
    bag.add_topic(ros.topic(NAMES[0], ros.JOINTS))
    bag.add_topic(ros.topic(NAMES[1], ros.POSE))
    for i, (name, data, log_time) in enumerate(messages(n)):
        bag.write(name, data, log_time, log_time - 5)
        if i % flush_every == flush_every - 1:
            bag.flush()
    if close:
        bag.close({'outcome': 'success'})
    return bag


def test_what_was_written_comes_back(tmp_path):
    write(tmp_path / 'bag')
    with BagReader(tmp_path / 'bag') as bag:
        assert bag.whole and bag.described and not bag.problems
        assert bag.metadata == {'task': 'x', 'outcome': 'success'}
        assert bag.distro == 'kilted'
        read = [(name, bytes(m.data), m.log_time) for name, m in bag.all_messages()]
        assert read == list(messages())
        assert all(m.publish_time == m.log_time - 5 for _, m in bag.all_messages())
        third = bag.decode(NAMES[0], bag.messages(NAMES[0])[3])
        assert third.name == ['a', 'b'] and list(third.position) == [3, -3]
        assert bag.topics[NAMES[0]] == ros.topic(NAMES[0], ros.JOINTS)
        assert bag.messages('/nothing') == []


def test_rosbags_reads_the_same(tmp_path):
    """Counts alone say little: with the QoS of metadata.yaml unequal, rosbags yields nothing."""
    write(tmp_path / 'bag')
    with AnyReader([tmp_path / 'bag']) as reader:
        assert {c.topic: c.msgcount for c in reader.connections} == {NAMES[0]: 30, NAMES[1]: 10}
        read = [(c.topic, bytes(data), t) for c, t, data in reader.messages()]
        assert read == list(messages())
        connection = next(c for c in reader.connections if c.topic == NAMES[0])
        assert connection.digest == ros.STORE.hash_rihs01(ros.JOINTS)
        qos = connection.ext.offered_qos_profiles[0]
        assert (qos.reliability.name, qos.durability.name, qos.depth) == (
            'RELIABLE', 'VOLATILE', 10)
        last = [reader.deserialize(d, c.msgtype) for c, _, d in reader.messages()][-1]
        assert last.position.tolist() == [29, -29]


def test_metadata_says_what_rosbag2_says(tmp_path):
    write(tmp_path / 'bag')
    text = (tmp_path / 'bag' / 'metadata.yaml').read_text()
    data = yaml.safe_load(text)['rosbag2_bagfile_information']
    assert '&' not in text  # yaml-cpp of rosbag2 needs no anchors; other readers fail on them
    assert data['version'] == 9 and data['storage_identifier'] == 'mcap'
    assert data['relative_file_paths'] == ['bag_0.mcap']
    assert data['message_count'] == 40 == data['files'][0]['message_count']
    assert data['starting_time'] == {'nanoseconds_since_epoch': START}
    assert data['duration'] == {'nanoseconds': 29 * 20_000_000}
    assert data['custom_data'] == {'task': 'x', 'outcome': 'success'}
    topic = data['topics_with_message_count'][0]['topic_metadata']
    assert topic['offered_qos_profiles'][0]['reliability'] == 'reliable'
    assert topic['type_description_hash'].startswith('RIHS01_')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The bytes of a bag of several chunks, and where its messages lie."""
    path = tmp_path_factory.mktemp('whole') / 'bag'
    write(path)
    return (path / 'bag_0.mcap').read_bytes(), tmp_path_factory.mktemp('cut')


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1), zeros=st.integers(0, 3000))
def test_cut_at_any_byte_the_start_is_readable(whole, share, zeros):
    """A kill cuts the file; a power cut may leave zeros in its place."""
    data, folder = whole
    bag = folder / 'bag'
    shutil.rmtree(bag, ignore_errors=True)
    bag.mkdir()
    cut = int(share * (len(data) - 1))
    (bag / 'bag_0.mcap').write_bytes(data[:cut] + b'\0' * zeros)
    if cut < 8:
        with pytest.raises(DatasetError, match='not an MCAP file|cannot read'):
            BagReader(bag)
        return
    with BagReader(bag) as reader:
        assert not reader.whole and len(reader.problems) == 1
        read = [(n, bytes(m.data), m.log_time) for n, m in reader.all_messages()]
    assert read == list(messages())[:len(read)]
    if not read:
        with pytest.raises(DatasetError, match='no whole message'):
            repair(bag)
        return
    said = repair(bag)
    assert f'{len(read)} whole messages kept' in said[0]
    assert repair(bag) == []
    with AnyReader([bag]) as foreign:
        assert [(c.topic, bytes(d), t) for c, t, d in foreign.messages()] == read
    with BagReader(bag) as reader:
        assert reader.whole and reader.metadata['task'] == 'x'


@settings(max_examples=80, deadline=None)
@given(share=st.floats(0, 1), value=st.integers(0, 255), cut=st.booleans())
def test_a_wrong_byte_is_an_error_of_ours_or_none(whole, share, value, cut):
    data, folder = whole
    path = folder / 'wrong.mcap'
    wrong = bytearray(data)
    wrong[int(share * (len(data) - 1))] = value
    path.write_bytes(wrong[:-20] if cut else wrong)
    try:
        with BagReader(path) as bag:
            for name, message in bag.all_messages():
                bag.decode(name, message)
    except DatasetError:
        pass


def test_flushed_messages_survive_without_close(tmp_path):
    bag = write(tmp_path / 'bag', n=30, flush_every=13, close=False)
    with BagReader(tmp_path / 'bag') as reader:
        assert reader.summary.messages == 39  # 3 flushes of 13; the 40th was not flushed
        assert not reader.described
    with pytest.raises(DatasetError, match='being recorded now'):
        repair(tmp_path / 'bag')
    bag.abandon()
    assert repair(tmp_path / 'bag')


def test_lost_metadata_is_made_anew(tmp_path):
    write(tmp_path / 'bag')
    before = (tmp_path / 'bag' / 'metadata.yaml').read_text()
    (tmp_path / 'bag' / 'metadata.yaml').unlink()
    said = repair(tmp_path / 'bag')
    assert len(said) == 1 and 'made anew: 40 messages' in said[0]
    after = (tmp_path / 'bag' / 'metadata.yaml').read_text()
    assert after == before.replace('ros_distro: kilted', "ros_distro: ''")


@pytest.mark.parametrize('compression', list(CompressionType))
@pytest.mark.parametrize('chunked', [True, False])
def test_bags_of_others_are_read(tmp_path, compression, chunked):
    folder = tmp_path / 'bag'
    folder.mkdir()
    with (folder / 'x.mcap').open('wb') as file:
        writer = Writer(file, compression=compression, use_chunking=chunked, chunk_size=500)
        writer.start('ros2')
        ids = {}
        for name, kind in zip(NAMES, (ros.JOINTS, ros.POSE)):
            topic = ros.topic(name, kind)
            schema = writer.register_schema(kind, 'ros2msg', topic.definition.encode())
            ids[name] = writer.register_channel(name, 'cdr', schema, {})
        strange = writer.register_channel('/json', 'json', 0, {})
        for name, data, log_time in messages():
            writer.add_message(ids[name], log_time, data, log_time)
        writer.add_message(strange, START, b'{}', START)
        writer.finish()
    with BagReader(folder) as bag:
        assert bag.whole and not bag.described
        assert [(n, bytes(m.data), m.log_time) for n, m in bag.all_messages()] == list(messages())
        assert len(bag.problems) == 1 and '/json is left out' in bag.problems[0]
    with BagReader(folder / 'x.mcap') as bag:
        assert bag.summary.messages == 40


def test_what_is_no_bag_is_refused(tmp_path):
    with pytest.raises(DatasetError, match='no such folder'):
        BagReader(tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DatasetError, match=r'lacks \*\.mcap'):
        BagReader(tmp_path / 'empty')
    assert not is_bag(tmp_path / 'empty')
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'metadata.yaml').write_text(
        'rosbag2_bagfile_information: {storage_identifier: sqlite3}')
    with pytest.raises(DatasetError, match='stored as sqlite3; MCAP is read.*ros2 bag convert'):
        BagReader(other)


def test_a_bag_is_never_written_over(tmp_path):
    write(tmp_path / 'bag')
    with pytest.raises(DatasetError, match='exists; a bag is never written over'):
        BagWriter(tmp_path / 'bag', {})
    (tmp_path / 'file').write_text('')
    with pytest.raises(DatasetError, match='cannot write to'):
        BagWriter(tmp_path / 'file' / 'bag', {})


# -- the thread ------------------------------------------------------------------------------
def thread(path, **options):
    bag = BagThread(path, {'task': 'x'}, **options)
    bag.add_topic(ros.topic(NAMES[0], ros.JOINTS))
    bag.add_topic(ros.topic(NAMES[1], ros.POSE))
    return bag


def test_the_thread_writes_everything(tmp_path):
    bag = thread(tmp_path / 'bag')
    for name, data, log_time in messages(200):
        bag.write(name, data, log_time)
    bag.close({'outcome': 'failure'})
    bag.join()
    assert bag.done and not bag.error and not bag.dropped
    with BagReader(tmp_path / 'bag') as reader:
        assert [(n, bytes(m.data), m.log_time) for n, m in reader.all_messages()] == list(
            messages(200))
        assert reader.metadata == {'task': 'x', 'outcome': 'failure'}


def test_discard_leaves_nothing(tmp_path):
    bag = thread(tmp_path / 'bag')
    bag.discard()
    bag.join()
    assert not bag.error and not list(tmp_path.iterdir())


def test_a_full_disk_ends_the_bag_and_keeps_what_is_there(tmp_path, monkeypatch):
    room = [20_000]

    def full(descriptor, data, write=os.write):
        if room[0] < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0] -= len(data)
        return write(descriptor, data)

    monkeypatch.setattr(bags_module.os, 'write', full)
    monkeypatch.setattr(bags_module, '_CHUNK_BYTES', 2000)
    bag = thread(tmp_path / 'bag')
    for name, data, log_time in messages(400):
        bag.write(name, data, log_time)
    bag.close({'outcome': 'success'})
    bag.join()
    monkeypatch.undo()
    assert bag.done and bag.error == os.strerror(errno.ENOSPC)
    bag.write(NAMES[0], b'', 0)  # later messages are ignored, nothing is raised
    with BagReader(tmp_path / 'bag') as reader:
        kept = [(n, bytes(m.data), m.log_time) for n, m in reader.all_messages()]
    assert 0 < len(kept) < 400 and kept == list(messages(400))[:len(kept)]


def test_a_slow_disk_drops_and_counts(tmp_path):
    bag = thread(tmp_path / 'bag', waiting_bytes=1000)
    sent = 0
    while not bag.dropped and sent < 10_000:
        bag.write(NAMES[0], bytes(600), START + sent)
        sent += 1
    bag.close({})
    bag.join()
    assert bag.dropped and bag.messages + bag.dropped == sent


def test_killed_recorder_loses_only_the_end(tmp_path):
    """A real process, a real SIGKILL; half a second after a message it is safe."""
    code = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[2])
import test_bags as t
bag = t.thread(t.Path(sys.argv[1]))
for name, data, log_time in t.messages(100):
    bag.write(name, data, log_time)
time.sleep(1.0)
bag.write(t.NAMES[0], b'late', t.START)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, '-c', code, str(tmp_path / 'bag'), str(Path(__file__).parent)])
    assert done.returncode == -9
    assert 'whole messages kept' in repair(tmp_path / 'bag')[0]
    with BagReader(tmp_path / 'bag') as reader:
        assert [(n, bytes(m.data), m.log_time) for n, m in reader.all_messages()][:134] == list(
            messages(100))


# -- definitions -----------------------------------------------------------------------------
def test_definitions_follow_references(tmp_path):
    def define(package, name, text, hash_string=''):
        folder = tmp_path / package / 'msg'
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'{name}.msg').write_text(text)
        if hash_string:
            (folder / f'{name}.json').write_text(
                f'{{"type_hashes": [{{"type_name": "{package}/msg/{name}", '
                f'"hash_string": "{hash_string}"}}]}}')

    define('a', 'Top', 'Part[] parts # of Nothing\nb/Leaf[3] leaf\nint32 N=3\nstring<=5 s\n',
           'RIHS01_1')
    define('a', 'Part', 'b/Leaf leaf\nfloat64[<=7] x\n')
    define('b', 'Leaf', 'bool yes\n')
    text, type_hash = message_definition('a/msg/Top', (tmp_path,))
    assert type_hash == 'RIHS01_1'
    assert [line for line in text.splitlines() if line.startswith('MSG:')] == [
        'MSG: a/Part', 'MSG: b/Leaf']
    assert message_definition('b/msg/Leaf', (tmp_path,)) == ('bool yes\n', '')
    (tmp_path / 'b' / 'msg' / 'Leaf.msg').unlink()
    message_definition.cache_clear()
    with pytest.raises(DatasetError, match='b/msg/Leaf is not installed.*install the package b'):
        message_definition('a/msg/Top', (tmp_path,))
