"""The gates in their node: the same verdicts as without ROS, and help in the real graph."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import ListParameters
from ros_graph import open_graph
from sensor_msgs.msg import JointState
from small_policy import write_lively_policy
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

import il_robot.sim as sim
from il_robot.control.gate_rule import disagreement
from il_robot.control.gates import GATES, Move, Signals, make_gate
from il_robot.nodes import convert, topics
from il_robot.types import ActionChunk

SPEC = sim.default_robot()
SEED = 7
OPTIONS = {'beta': {'period': 0.1}, 'safe': {'doubt': 0.6}, 'lazy': {'doubt': 0.6},
           'human': {}, 'never': {}, 'ensemble': {'discrepancy': 0.09},
           'thrifty': {'risk': 0.5, 'low_risk': 0.5}}
"""What the command line of the node says; the thresholds below come with the policy."""
LEARNED = {'novelty': 0.45, 'discrepancy': 0.03}


@pytest.fixture(scope='module')
def stream():
    """A recorded episode: the expert's labels, an inaccurate policy, and what it thinks."""
    env, rng = sim.make('transfer_cube'), np.random.default_rng(0)
    env.reset(seed=SEED)
    rows, error, thoughts = [], 0.0, np.full(3, 0.4)
    for tick in range(120):
        label = env.expert().position
        much = 0.05 if tick // 30 % 2 else 0.002  # now and then it is far off
        error = 0.8 * error + much * rng.standard_normal(SPEC.dim)
        thoughts = np.clip(thoughts + 0.1 * rng.standard_normal(3), 0, 1)
        action = (label + error).astype(np.float32)
        stage = env.step(label)[4]['stage']
        rows.append((tick * SPEC.dt, action, label, thoughts.tolist(), stage))
    env.close()
    return rows


def offline(gate, stream):
    """(signals, verdict) of every row, the gate always being obeyed."""
    gate.reset(np.random.default_rng([SEED, 3]))
    correcting, out, before = False, [], 0
    for stamp, action, label, thoughts, stage in stream:
        signals = Signals(
            stamp, correcting, *thoughts, disagreement(action, label, SPEC), before)
        verdict = gate.update(signals)
        out.append((signals, verdict))
        correcting = {Move.KEEP: correcting, Move.TAKE: True, Move.GIVE: False}[verdict.move]
        before = stage
    return out


class World:
    """Everybody but the gate, played by the test."""

    def __init__(self, graph, name):
        self.graph, self.node = graph, graph.start(
            'gate', gate=name, options=[f'{k}={v}' for k, v in OPTIONS[name].items()] or [''])
        self.publish = {
            topic: graph.publisher(kind, topic, qos) for kind, topic, qos in (
                (DiagnosticArray, topics.SIM_EPISODE, topics.LATCHED_QOS),
                (DiagnosticArray, topics.MODE, topics.LATCHED_QOS),
                (DiagnosticArray, topics.POLICY_STATUS, topics.LATCHED_QOS),
                (DiagnosticArray, topics.POLICY_ASSESSMENT, topics.CHUNK_QOS),
                (JointState, topics.EXPERT_PROPOSAL, topics.PROPOSAL_QOS),
                (JointTrajectory, topics.POLICY_PROPOSAL, topics.CHUNK_QOS))}
        self.states = graph.collect(DiagnosticArray, topics.GATE_STATE, topics.CHUNK_QOS)
        self.requests = graph.collect(String, topics.REQUEST, topics.REQUEST_QOS)
        graph.until(lambda: graph.node.count_publishers(topics.GATE_STATE)
                    and graph.node.count_publishers(topics.REQUEST))
        self.say(topics.POLICY_STATUS, checkpoint='abc', chunk_size=1, execution_mode='newest',
                 n_action_steps=1, decay=0.01,
                 **{f'threshold {k}': v for k, v in LEARNED.items()})
        self.told = None

    def say(self, topic, stamp=0.0, **values):
        self.publish[topic].publish(convert.status_message(stamp, topic, values))

    def tell(self, stage, correcting):
        """Stage and driver; what is said here counts for the next observation."""
        if (stage, correcting) == self.told:
            return
        self.told = stage, correcting
        mode, driver = ('CORRECTION', 'expert') if correcting else ('AUTONOMOUS', 'policy')
        self.say(topics.SIM_EPISODE, episode=1, seed=SEED, stage=stage, terminated=False)
        self.say(topics.MODE, mode=mode, help='',
                 **{f'driver_{arm.name}': driver for arm in SPEC.arms})
        for _ in range(3):  # it has been heard once the node has answered something asked later
            self.graph.call(ListParameters, 'gate/list_parameters')

    def show(self, signals, row):
        """One row; what the node says of it."""
        stamp, action, label, thoughts, _ = row
        self.tell(signals.stage, signals.correcting)
        self.say(topics.POLICY_ASSESSMENT, stamp, **{
            name: repr(v) for name, v in zip(('novelty', 'doubt', 'risk'), thoughts)})
        self.publish[topics.EXPERT_PROPOSAL].publish(convert.joint_state(stamp, SPEC, label))
        self.publish[topics.POLICY_PROPOSAL].publish(convert.chunk_message(
            ActionChunk(stamp, np.array([stamp]), action[None]), SPEC))
        self.graph.until(
            lambda: self.states and self.states[-1].header.stamp == convert.time(stamp),
            f'the verdict on {stamp}')
        return convert.status_values(self.states[-1]), self.states[-1].status[0].message


@pytest.mark.parametrize('name', GATES)
def test_the_node_decides_as_the_gate_without_ros(name, stream, tmp_path):
    fields = make_gate(name).__dataclass_fields__
    learned = {k: v for k, v in LEARNED.items() if k in fields}
    expected = offline(make_gate(name, {**learned, **OPTIONS[name]}), stream)
    moves = [verdict.move for _, verdict in expected]
    assert name == 'never' or {Move.TAKE, Move.GIVE} <= set(moves), 'the stream tests nothing'
    with open_graph(tmp_path) as graph:
        world = World(graph, name)
        for row, (signals, verdict) in zip(stream, expected):
            values, reason = world.show(signals, row)
            said = {key: values[key] for key in ('move', 'value', 'threshold')}
            assert said == {'move': verdict.move.value, 'value': repr(verdict.value),
                            'threshold': repr(verdict.threshold)}, row[0]
            assert reason == verdict.reason
            for key in make_gate(name).needs:
                assert values[key] == repr(getattr(signals, key))
        asked = {m.data.split()[0] for m in world.requests}
        call = 'help' if name in ('ensemble', 'safe', 'lazy', 'thrifty') else 'engage'
        assert asked == (set() if name == 'never' else {call, 'release'})


def test_the_robot_calls_and_the_expert_comes_and_goes(graph):
    """In the whole graph, in lockstep: HOLD with the reason, a correction, and on it goes."""
    policy = write_lively_policy(graph.folder / 'policy', SPEC, ['cube'], members=3)
    graph.start('sim', lockstep=True, lockstep_timeout=30.0)
    arbiter = graph.start('arbiter', lockstep=True, lockstep_timeout=5.0, use_sim_time=True)
    expert = graph.start('expert', gate='called', use_sim_time=True)
    graph.start('policy', checkpoint=str(policy), device='cpu', assess=True, use_sim_time=True)
    states = graph.collect(DiagnosticArray, topics.GATE_STATE, topics.CHUNK_QOS)
    graph.start('gate', gate='ensemble', options=['novelty=0.3'], use_sim_time=True)
    modes = graph.collect(DiagnosticArray, topics.MODE, topics.LATCHED_QOS)
    session = graph.start('session', episodes=2, driver='policy', max_seconds=8.0,
                          output=str(graph.folder / 'results'), use_sim_time=True)
    graph.processes.remove(session)  # it ends
    graph.until(lambda: 'CORRECTION' in [convert.status_values(m)['mode'] for m in modes],
                'a correction')
    assert 'HOLD: help wanted from the expert: the ensemble disagrees by' in arbiter.output
    assert 'engage: called for help: the ensemble disagrees by' in expert.output
    graph.until(lambda: any(
        convert.status_values(m)['correcting'] == 'true' for m in states), 'watch while he drives')
    assert session.popen.wait(120) == 0


@pytest.mark.parametrize(('settings', 'why'), [
    ({'gate': 'luck'}, 'luck'),
    ({'gate': 'safe', 'options': ['doubt=2.0']}, 'from 0 to 1'),
    ({'gate': 'safe', 'options': ['novelty=0.3']}, 'novelty'),
])
def test_wrong_parameters(graph, settings, why):
    node = graph.start('gate', **settings)
    graph.processes.remove(node)
    assert node.popen.wait(60) == 2
    assert why in node.output and 'Traceback' not in node.output


def test_a_policy_that_cannot_assess_itself_is_refused(graph):
    policy = write_lively_policy(graph.folder / 'policy', SPEC, ['cube'])
    node = graph.start('policy', checkpoint=str(policy), device='cpu', assess=True)
    graph.until(lambda: 'it cannot tell when it needs help' in node.output, 'the reason')
    assert '--assess 0.2' in node.output
