import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from ros_graph import open_graph
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

import il_robot.sim as sim
from il_robot.nodes import convert, topics
from il_robot.types import ActionChunk

SPEC = sim.default_robot()


def test_an_episode_over_topics_equals_one_in_process(graph):
    """sim, expert and a relay that lets it drive: same joints bit for bit, and solved."""
    graph.start('sim', lockstep=True, seed=2, disturbances=['action_noise=0.005', 'shoves=1'])
    graph.start('expert', variation=0.5)
    states = graph.collect(JointState, topics.JOINT_STATES, topics.STATE_QOS)
    episodes = graph.collect(DiagnosticArray, topics.SIM_EPISODE, topics.LATCHED_QOS)
    command = graph.publisher(JointState, topics.COMMAND, topics.COMMAND_QOS)
    graph.subscribe(
        JointState, topics.EXPERT_PROPOSAL, command.publish, topics.PROPOSAL_QOS)
    graph.until(lambda: states and convert.seconds(states[-1].header.stamp) > 0.2)
    assert graph.call(Trigger, topics.SIM_RESET).message.endswith('transfer_cube, seed 3')

    def ended():
        values = convert.status_values(episodes[-1])
        return values['seed'] == '3' and values['terminated'] == 'true'

    graph.until(ended, 'the end of the episode')
    assert convert.status_values(episodes[-1])['success'] == 'true'
    end = convert.seconds(episodes[-1].header.stamp)
    start = next(convert.seconds(m.header.stamp) for m in episodes
                 if convert.status_values(m)['seed'] == '3')
    graph.until(lambda: convert.seconds(states[-1].header.stamp) >= end)
    seen = [np.array(m.position, np.float32) for m in states
            if start <= convert.seconds(m.header.stamp) <= end]

    env = sim.make('transfer_cube', expert_variation=0.5,
                   disturbances={'action_noise': 0.005, 'shoves': 1})
    env.reset(seed=3)
    expected, terminated = [env.observation().state], False
    while not terminated:
        *_, terminated, _, _ = env.step(env.expert().position)
        expected.append(env.observation().state)
    assert np.array_equal(seen, expected)


class World:
    """A robot, parts and an arbiter played by the test."""

    def __init__(self, graph, **parameters):
        self.graph = graph
        self.process = graph.start('expert', **parameters)
        self.env = sim.make('transfer_cube')
        self.env.reset(seed=0)
        node = graph.node
        self.cube = graph.publisher(
            PoseStamped, topics.object_pose('cube'), topics.STATE_QOS)
        self.state = graph.publisher(JointState, topics.JOINT_STATES, topics.STATE_QOS)
        self.episode = node.create_publisher(
            DiagnosticArray, topics.SIM_EPISODE, topics.LATCHED_QOS)
        self.mode = node.create_publisher(DiagnosticArray, topics.MODE, topics.LATCHED_QOS)
        self.labels = graph.collect(JointState, topics.EXPERT_PROPOSAL, topics.PROPOSAL_QOS)
        self.requests = graph.collect(String, topics.REQUEST, topics.REQUEST_QOS)
        graph.until(lambda: node.count_publishers(topics.EXPERT_PROPOSAL)
                    and node.count_publishers(topics.REQUEST))
        self.tick = 0

    def show(self, pose=None):
        """Publish the present observation at the next stamp; the stamp."""
        self.tick += 1
        stamp = self.tick * SPEC.dt
        observation = self.env.observation()
        pose = observation.objects['cube'] if pose is None else pose
        self.cube.publish(convert.pose_message(stamp, pose))
        self.state.publish(convert.joint_state(stamp, SPEC, observation.state))
        return stamp

    def label(self):
        """The label of the next observation."""
        stamp = convert.time(self.show())
        self.graph.until(
            lambda: self.labels and self.labels[-1].header.stamp == stamp, 'the label')
        return convert.positions_by_name(
            self.labels[-1].name, self.labels[-1].position, SPEC, 'label')

    def say(self, **status):
        """Publish sim/episode."""
        values = {'episode': 1, 'seed': 0, 'task': 'transfer_cube', 'stage': 0,
                  'terminated': False, **status}
        self.episode.publish(
            convert.status_message(self.tick * SPEC.dt, topics.SIM_EPISODE, values))

    def drive(self, mode, driver, call=''):
        """Publish session/mode."""
        drivers = {f'driver_{arm.name}': driver for arm in SPEC.arms}
        self.mode.publish(convert.status_message(
            self.tick * SPEC.dt, topics.MODE, {'mode': mode, 'help': call, **drivers}))

    def until_requested(self, text, count=1):
        """Go on until it was requested so often."""
        def asked():
            self.label()
            return sum(m.data == text for m in self.requests) >= count
        self.graph.until(asked, f'{count} x {text}')


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    with open_graph(tmp_path_factory.mktemp('expert')) as graph:
        yield World(graph)


def test_every_observation_is_labelled_though_nobody_asked_it_to_drive(world):
    for _ in range(3):
        assert np.array_equal(world.label(), world.env.expert().position)
        world.env.step(world.env.expert().position)
    assert not world.requests


def test_bad_messages_are_ignored_and_counted(world):
    world.label()
    count = len(world.labels)
    now = world.tick * SPEC.dt
    old, short, nan = (convert.joint_state(now, SPEC, SPEC.rest) for _ in range(3))
    short.position.pop()
    nan.position[0] = float('nan')
    for message in (old, short, nan):
        world.state.publish(message)
    world.cube.publish(convert.pose_message(now, np.zeros(7, np.float32)))  # no quaternion
    world.episode.publish(convert.status_message(0.0, topics.SIM_EPISODE, {'seed': 'x'}))
    world.label()
    assert len(world.labels) == count + 1
    world.graph.until(lambda: 'not a pose' in world.process.output)
    assert 'is not newer' in world.process.output


def test_without_its_objects_it_says_what_it_waits_for(world):
    diagnostics = world.graph.collect(
        DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
    count = len(world.labels)
    world.tick += 50  # the last pose is too old now
    world.state.publish(convert.joint_state(world.tick * SPEC.dt, SPEC, SPEC.rest))
    world.graph.until(lambda: any(
        'waiting for object/cube/pose' in m.status[0].message for m in diagnostics))
    assert len(world.labels) == count
    world.label()


def test_a_robot_that_starts_anew_is_labelled_again(world):
    world.tick += 1000
    world.label()
    world.tick -= 1000
    world.label()


def test_gate_always_engages_once_per_episode(graph):
    world = World(graph, gate='always')
    world.say(episode=1)
    world.drive('HOLD', 'hold')
    world.until_requested('engage', 2)  # again, since nothing happened
    world.drive('TELEOP', 'expert')
    graph.until(lambda: 'engage' in world.process.output)
    world.label()
    count = len(world.requests)
    for _ in range(30):
        world.label()
    assert len(world.requests) <= count + 1  # one may have been on its way
    world.drive('HOLD', 'hold', 'risk 0.8 over 0.5')  # it comes when it is called
    world.until_requested('engage', len(world.requests) + 1)
    graph.until(lambda: 'called for help: risk 0.8 over 0.5' in world.process.output)
    world.say(episode=2)
    world.drive('HOLD', 'hold')
    world.until_requested('engage', len(world.requests) + 1)


def test_gate_rule_takes_over_from_a_policy_that_stalls_and_gives_back(graph):
    world = World(graph, gate='rule', **{
        'rule.stall_time': 0.3, 'rule.min_correction': 0.1, 'rule.window': 0.1})
    status = graph.node.create_publisher(
        DiagnosticArray, topics.POLICY_STATUS, topics.LATCHED_QOS)
    chunks = graph.publisher(JointTrajectory, topics.POLICY_PROPOSAL, topics.CHUNK_QOS)
    status.publish(convert.status_message(0.0, topics.POLICY_STATUS, {
        'checkpoint': 'abc', 'chunk_size': 1, 'execution_mode': 'newest', 'n_action_steps': 1,
        'decay': 0.0}))
    world.say(episode=1)
    world.drive('AUTONOMOUS', 'policy')

    def policy_proposes(offset):
        """The expert's own action, or one far from it."""
        action = world.label() + np.float32(offset)
        stamp = world.tick * SPEC.dt
        chunks.publish(convert.chunk_message(
            ActionChunk(stamp, np.array([stamp]), action[None]), SPEC))

    def requested(text, offset):
        policy_proposes(offset)
        return any(m.data == text for m in world.requests)

    graph.until(lambda: requested('engage', 0.0), 'engage')
    graph.until(lambda: 'no progress' in world.process.output)
    world.drive('CORRECTION', 'expert')
    diagnostics = graph.collect(
        DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
    graph.until(lambda: any(
        convert.status_values(m).get('driver') == 'expert' for m in diagnostics))
    world.say(episode=1, stage=1)  # the task goes on
    graph.until(lambda: requested('release', 0.0), 'release')
    graph.until(lambda: 'the task went on to stage 1' in world.process.output)
    world.drive('AUTONOMOUS', 'policy')
    world.requests.clear()
    graph.until(lambda: requested('engage', 0.5), 'engage for disagreement')
    graph.until(lambda: 'disagree by' in world.process.output)


@pytest.mark.parametrize(('parameters', 'words'), [
    ({'gate': 'allways'}, 'always'),
    ({'task': 'lift_try'}, 'lift_tray'),
    ({'gate': 'rule', 'rule.engage_distance': 0.01}, 'release_distance'),
])
def test_a_wrong_parameter_is_one_line_and_exit_code_2(graph, parameters, words):
    process = graph.start('expert', **parameters)
    assert process.popen.wait(60) == 2
    assert process.output.startswith('error:') and words in process.output
    assert 'Traceback' not in process.output
    graph.processes.remove(process)
