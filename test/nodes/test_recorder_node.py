"""The recorder with a real player on the other side of real topics."""

import filecmp
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

import recorder_player as played
from diagnostic_msgs.msg import DiagnosticArray
from rosbags.highlevel import AnyReader
from std_msgs.msg import String
from std_srvs.srv import Trigger

from il_robot.apps.main import main
from il_robot.data.bag_reader import BagReader
from il_robot.data.dataset import open_dataset
from il_robot.data.verify import verify
from il_robot.launch_options import loopback
from il_robot.nodes import convert, topics
from il_robot.types import Outcome

ROOT = Path(__file__).parents[2]
BURST = 60
"""Ticks played without waiting, at five times their pace: what the queues hold for certain."""


class Recording:
    """A recorder, a player, and the recorder's own words."""

    def __init__(self, graph, output):
        self.graph, self.output = graph, output
        self.status = graph.collect(DiagnosticArray, topics.RECORDING, topics.LATCHED_QOS)
        self.diagnostics = graph.collect(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        self.player, self.sent, self.before = None, 0, 0

    def record(self, *arguments, **parameters):
        """Start a recorder and wait until it is ready."""
        seen = len(self.status)
        self.recorder = self.graph.start(
            'recorder', *arguments, output=str(self.output), **parameters)
        self.before = self.sent
        self.diagnostics.clear()
        self.graph.until(lambda: len(self.status) > seen, 'the recorder')
        return self.recorder

    def play(self, ticks, **wrong):
        """Play ticks; the stamp of the state reached, once the recorder has taken it."""
        if self.player is None:
            environment = {**os.environ, 'ROS_DOMAIN_ID': str(self.graph.domain),
                           **loopback({}), 'OMP_NUM_THREADS': '1'}
            self.player = subprocess.Popen(
                [sys.executable, played.__file__], env=environment, cwd=ROOT, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        while ticks > BURST:
            assert not wrong, f'at most {BURST} ticks with something wrong'
            self.play(BURST)
            ticks -= BURST
        self.player.stdin.write(json.dumps({'ticks': ticks, **wrong}) + '\n')
        self.player.stdin.flush()
        line = self.player.stdout.readline()
        assert line, 'the player ended\n' + self.graph.output()
        answer = json.loads(line)
        self.sent = answer['sent'][topics.JOINT_STATES]
        self.graph.until(lambda: self.taken() == self.sent - self.before,
                         'the recorder took every joint state')
        return answer['end']

    def taken(self):
        """Joint states that the recorder has taken, by its diagnostics."""
        values = self.stream(topics.JOINT_STATES)
        return int(values['messages']) if values else 0

    def stream(self, name):
        """What the newest diagnostics say of a stream."""
        found = [s for s in (self.diagnostics[-1].status if self.diagnostics else ())
                 if s.name == f'recorder: {name}']
        return {v.key: v.value for v in found[0].values} if found else None

    def call(self, word):
        """Request by service."""
        return self.graph.call(Trigger, topics.service_of(word))

    def says(self, **values):
        """Wait until the newest status says all of this; its values."""
        def same():
            said = convert.status_values(self.status[-1]) if self.status else {}
            return said if all(said.get(k) == v for k, v in values.items()) else None
        return self.graph.until(same, f'session/episode {values}')

    def close(self):
        if self.player is not None:
            self.player.stdin.close()
            self.player.wait(30)

    @property
    def bags(self):
        return sorted((self.output / 'bags').iterdir())


@pytest.fixture
def recording(graph, tmp_path):
    made = Recording(graph, tmp_path / 'session')
    yield made
    made.close()


def check_rows(dataset, episode, first):
    """The rows of an episode are the steps that were played from tick ``first`` on."""
    record = dataset.episodes[episode]
    rows = slice(record.start, record.stop)
    script = played.script()
    steps = [script[(first + i) % played.LENGTH] for i in range(len(record))]
    nothing = np.full(dataset.spec.dim, np.nan)
    for column, wanted in (
        (dataset.state, [s.observation.state for s in steps]),
        (dataset.action, [s.action for s in steps]),
        (dataset.policy, [s.policy for s in steps]),
        (dataset.expert, [nothing if s.expert is None else s.expert for s in steps]),
        (dataset.source, [s.source for s in steps]),
        (dataset.intervention, [s.intervention for s in steps]),
        (dataset.columns['observation.environment_state'], [
            np.concatenate([s.observation.objects[n] for n in dataset.object_names])
            for s in steps]),
    ):
        np.testing.assert_array_equal(column[rows], wanted)


def same_files(a, b):
    """Whether two datasets hold the same files, byte for byte (but the writer's lock)."""
    files, others = (
        sorted(p.relative_to(d) for p in d.rglob('*') if p.is_file() and '.il_robot' not in
               p.parts) for d in (a, b))
    assert files == others
    return all(filecmp.cmp(a / f, b / f, shallow=False) for f in files)


def test_episodes_become_bags_and_a_dataset(recording, tmp_path):
    """Two episodes, by service and by request; then the same dataset again from the bags."""
    recording.record(task='lift_tray', language='lift the tray', round=3)
    refused = recording.call('success')
    assert not refused.success and 'no episode is being recorded' in refused.message
    refused = recording.call('start')
    assert not refused.success and 'no joint_states have come' in refused.message
    first = recording.play(20)
    started = recording.call('start')
    assert started.success, started.message
    recording.says(state='recording')
    refused = recording.call('start')
    assert not refused.success and 'an episode is being recorded' in refused.message
    second = recording.play(60)
    assert recording.call('success').success
    recording.says(state='idle', saved='1', outcome='success')

    request = recording.graph.publisher(String, topics.REQUEST, topics.REQUEST_QOS)
    request.publish(String(data='start'))
    recording.says(state='recording')
    request.publish(String(data='engage left'))  # not for the recorder
    recording.play(30)
    request.publish(String(data='discard'))
    recording.says(state='idle', outcome='discarded')
    assert len(recording.bags) == 1
    recording.call('start')
    recording.play(40)
    request.publish(String(data='failure'))
    recording.says(state='idle', saved='2', outcome='failure')

    dataset = open_dataset(recording.output / 'dataset')
    assert [len(e) for e in dataset.episodes] == [60, 40]
    assert [e.outcome for e in dataset.episodes] == [Outcome.SUCCESS, Outcome.FAILURE]
    assert {(e.task, e.language, e.round, e.checkpoint) for e in dataset.episodes} == {
        ('lift_tray', 'lift the tray', 3, 'c0ffee')}
    check_rows(dataset, 0, 20)
    check_rows(dataset, 1, 110)
    assert dataset.cameras == tuple(v.name for v in played.VIEWS)
    report = verify(recording.output / 'dataset')
    assert report.ok, report.failed()

    with AnyReader([recording.bags[0]]) as bag:
        counts = {c.topic: c.msgcount for c in bag.connections}
        states = [bag.deserialize(d, c.msgtype) for c, _, d in bag.messages()
                  if c.topic == '/joint_states']
        stamps = [m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for m in states]
        during = {s for s in stamps if first <= s <= second}
        assert len(during) == 61 and counts['/joint_states'] == len(stamps)
        qos = {c.topic: c.ext.offered_qos_profiles[0] for c in bag.connections}
        assert qos['/session/mode'].durability.name == 'TRANSIENT_LOCAL'
        assert qos['/command'].reliability.name == 'RELIABLE'
        assert {'/sim/episode', '/session/episode', '/policy/status'} & counts.keys() == {
            '/session/episode', '/policy/status'}
    again = tmp_path / 'again'
    assert main(['dataset', 'convert', str(recording.output / 'bags'), '--output',
                 str(again)]) == 0
    assert same_files(recording.output / 'dataset', again)
    assert recording.recorder.stop() == 0


def test_trouble_is_said_at_once(recording):
    """Each trouble in its own episode's log; the node goes on."""
    recording.record(cameras=[played.VIEWS[0].name])
    recording.play(10)
    recording.call('start')
    front = played.VIEWS[0].name
    for wrong, words in (
        ({'gap': 10}, 'joint_states: a gap of 0.2'),
        ({'frozen': front}, f'{topics.compressed(front)}: 31 equal pictures in a row'),
        ({'order': True}, 'joint_states: joint names or their order changed'),
        ({}, 'its stamps are'),  # scripted stamps are not the wall clock's
    ):
        recording.play(40, **wrong)
        recording.graph.until(lambda words=words: words in recording.recorder.output, words)
    black = 'the picture is black'
    while black not in recording.recorder.output:  # judged once a second
        recording.play(10, black=front)
    assert float(recording.stream(topics.JOINT_STATES)['expected']) == 50
    assert recording.stream(topics.COMMAND)['lost'] == '0'
    (own,) = [s for s in recording.diagnostics[-1].status if s.name == 'recorder']
    warned = {v.key: v.value for v in own.values}
    assert int(warned['warned joint_states gap']) >= 1


def test_a_killed_recorder_loses_only_the_end(recording, capsys):
    """kill -9 in the middle of an episode; the next recorder says what to do."""
    first = recording.record()
    recording.play(10)
    recording.call('start')
    path = Path(convert.status_values(recording.status[-1])['output']) / 'bags'
    recording.play(220)

    def on_disk():
        with BagReader(next(path.iterdir())) as bag:
            return len(bag.messages('/joint_states')) > 200

    recording.graph.until(on_disk, 'most of the episode on the disk')
    first.kill()
    recording.record()
    recording.graph.until(
        lambda: '1 episode(s) of an earlier run have no outcome' in recording.recorder.output)
    assert main(['dataset', 'convert', str(path), '--outcome', 'success', '--output',
                 str(recording.output / 'dataset')]) == 0
    assert 'whole messages kept' in capsys.readouterr().out
    dataset = open_dataset(recording.output / 'dataset')
    assert len(dataset) > 90
    check_rows(dataset, 0, 10)
    with AnyReader([next(path.iterdir())]) as bag:
        assert bag.message_count > 500


def test_a_full_disk_is_said_once_and_nothing_else_suffers(recording):
    """A limit on the size of files stands for a full disk."""
    recorder = recording.record()
    recording.play(10)
    recording.call('start')
    recording.play(40)
    file = next(recording.bags[0].glob('*.mcap'))

    def safe():
        with BagReader(recording.bags[0]) as bag:
            return bag.summary.messages > 100

    recording.graph.until(safe, 'messages on the disk')
    limit = file.stat().st_size + 20_000
    resource.prlimit(recorder.popen.pid, resource.RLIMIT_FSIZE, (limit, limit))
    recording.play(100)
    recording.graph.until(lambda: 'File too large after' in recorder.output, 'the complaint')
    said = recording.says(state='idle', outcome='failed')
    assert 'what was written is kept' in said['reason']
    assert recording.call('start').success
    recording.play(10)
    recording.call('success')
    recording.says(state='idle', outcome='success', saved='1')
    assert recorder.output.count('File too large') == 1
    with BagReader(recording.bags[0]) as bag:
        assert not bag.whole and bag.summary.messages > 100
    assert recorder.stop() == 0


def test_auto_follows_the_simulator_and_ctrl_c_keeps_the_bag(recording):
    recorder = recording.record(auto='sim', use_sim_time=True)
    recording.play(5)
    recording.play(30, seed=1, success=1)
    recording.says(state='idle', outcome='success', saved='1')
    recording.play(25, seed=2)
    recording.says(state='recording')
    second = recording.graph.start('recorder', output=str(recording.output))
    recording.graph.processes.remove(second)
    recording.play(20, seed=3)
    recording.says(state='recording', saved='2')
    assert second.popen.wait(60) == 2  # one recorder per folder
    assert 'is being written by process' in second.output and 'Traceback' not in second.output
    assert recorder.stop() == 0
    assert 'stopped while recording' in recorder.output
    dataset = open_dataset(recording.output / 'dataset')
    assert [(len(e), e.seed, e.outcome) for e in dataset.episodes] == [
        (30, 1, Outcome.SUCCESS), (25, 2, Outcome.UNKNOWN)]
    assert dataset.episodes[0].language == 'lift the tray'
    check_rows(dataset, 0, 5)
    check_rows(dataset, 1, 35)
    with BagReader(recording.bags[2]) as bag:
        assert bag.whole and bag.metadata['outcome'] == 'unknown'
