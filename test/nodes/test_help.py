"""A policy asks for help in the real graph: who comes, dies over it, or does not come."""

import json

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from small_policy import write_lively_policy
from std_msgs.msg import String

import il_robot.sim as sim
from il_robot.data.dataset import open_dataset
from il_robot.nodes import convert, topics
from il_robot.types import Outcome, Source

SPEC = sim.default_robot()
CALL = 'risk 0.8 over 0.5'


class Cell:
    """Simulator, arbiter and a policy in lockstep, and what they say."""

    def __init__(self, graph):
        self.graph = graph
        policy = write_lively_policy(graph.folder / 'policy', SPEC, ['cube'])
        graph.start('sim', lockstep=True, lockstep_timeout=30.0)
        self.arbiter = graph.start('arbiter', lockstep=True, lockstep_timeout=5.0,
                                   use_sim_time=True)
        graph.start('policy', checkpoint=str(policy), device='cpu', use_sim_time=True)
        self.modes = graph.collect(DiagnosticArray, topics.MODE, topics.LATCHED_QOS)
        self.policies = graph.collect(DiagnosticArray, topics.POLICY_STATUS, topics.LATCHED_QOS)
        self.diagnostics = graph.collect(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        self.requests = graph.publisher(String, topics.REQUEST, topics.REQUEST_QOS)

    def known(self, name):
        """Wait until the arbiter reports to hear from a node."""
        self.graph.until(lambda: any(name in convert.status_values(m).get('nodes', '').split()
                                     for m in self.diagnostics), f'the arbiter to know of {name}')

    @property
    def mode(self):
        return convert.status_values(self.modes[-1]) if self.modes else {}

    def ask(self, word, condition):
        """Request it until the condition holds."""
        self.graph.ask(self.requests, word, condition)

    def until_mode(self, mode):
        self.graph.until(lambda: self.mode.get('mode') == mode, mode)


def test_the_expert_comes_dies_and_its_correction_is_taken_back(graph):
    """And all of it is one episode."""
    cell = Cell(graph)
    output = graph.folder / 'session'
    graph.start('recorder', output=str(output), use_sim_time=True)
    recorder = graph.collect(DiagnosticArray, topics.RECORDING, topics.LATCHED_QOS)
    # it takes over when called, and neither by itself nor gives back
    expert = graph.start('expert', gate='rule', use_sim_time=True, **{
        'rule.engage_distance': 90.0, 'rule.stall_time': 900.0, 'rule.min_correction': 900.0,
        'rule.max_correction': 1000.0})

    def said(key):
        return convert.status_values(recorder[-1]).get(key) if recorder else None

    graph.until(lambda: said('state') == 'idle' and cell.policies, 'all nodes')
    cell.known('expert')
    cell.ask('start', lambda: said('state') == 'recording')
    cell.ask('run', lambda: cell.mode['mode'] == 'AUTONOMOUS')
    cell.ask(f'help {CALL}', lambda: cell.mode['mode'] != 'AUTONOMOUS')
    cell.until_mode('CORRECTION')
    assert f'HOLD: help wanted from the expert: {CALL}' in cell.arbiter.output
    assert f'engage: called for help: {CALL}' in expert.output
    assert (cell.mode['driver_left'], cell.mode['correction']) == ('expert', '1')
    expert.kill()
    graph.processes.remove(expert)
    cell.until_mode('HOLD')
    assert 'operator lost: no fresh proposal from expert' in cell.mode['reason']
    assert cell.mode['suspended'] == 'true'
    cell.ask('run', lambda: cell.mode['mode'] == 'AUTONOMOUS')
    cell.ask('discard_correction', lambda: cell.mode['discarded'] == '1')
    graph.until(lambda: 'correction 1 is discarded' in cell.arbiter.output)
    assert said('state') == 'recording', 'all of it is one episode'
    cell.ask('failure', lambda: said('saved') == '1')

    dataset = open_dataset(output / 'dataset')
    (episode,) = dataset.episodes
    assert episode.outcome is Outcome.FAILURE and dataset.intervention.any()
    np.testing.assert_array_equal(dataset.discarded, dataset.intervention)
    assert (dataset.source[dataset.discarded] == Source.EXPERT).all()
    drivers = [int(s) for s, before in zip(
        dataset.source[1:, 0], dataset.source[:-1, 0]) if s != before]
    assert drivers == [Source.POLICY, Source.HOLD, Source.EXPERT, Source.HOLD, Source.POLICY]


def test_when_nobody_comes_the_episode_fails_and_says_so(graph):
    cell = Cell(graph)
    file = graph.folder / 'results' / 'session.json'
    session = graph.start(
        'session', episodes=1, driver='policy', max_seconds=60.0, help_timeout=1.0,
        output=str(file.parent), use_sim_time=True)
    graph.processes.remove(session)  # it ends
    cell.until_mode('AUTONOMOUS')
    cell.ask(f'help {CALL}', lambda: cell.mode['help'] == CALL)
    assert 'neither teleop nor expert is there' in cell.mode['reason']
    assert session.popen.wait(60) == 0
    (result,) = json.loads(file.read_text())['results']
    assert not result['success']
    assert result['reason'].startswith(f'help was wanted ({CALL}), and nobody came within 1.')
    assert result['reason'] in session.output
    graph.until(lambda: cell.mode['help'] == '' and cell.mode['suspended'] == 'false')
