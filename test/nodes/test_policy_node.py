from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('rclpy')

import torch
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from in_process import states_in_process
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from relay import Relay
from ros_graph import open_graph
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

import il_robot.sim as sim
from il_robot.algorithms.policy_env import residual_policy
from il_robot.control.chunks import Execution
from il_robot.data.normalizer import fit_normalizer
from il_robot.nodes import convert, topics
from il_robot.policies.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from il_robot.policies.features import FeatureLayout
from il_robot.policies.mlp import ChunkMLPConfig
from il_robot.spec import JointSpec

SPEC = sim.default_robot()


def write_checkpoint(folder, seed=0, robot=SPEC, broken=False):
    """A small untrained policy that moves a little around the rest posture."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    layout = FeatureLayout(robot.joint_names, ('cube',))
    normalizer = fit_normalizer({
        'features': rng.normal(size=(50, layout.dim)),
        'action': SPEC.rest + 0.05 * rng.normal(size=(50, robot.dim))})
    description = Checkpoint(
        'chunk_mlp', ChunkMLPConfig((16,), chunk_size=6, n_obs_steps=2), layout, normalizer,
        robot, {'mode': 'ensemble', 'n_action_steps': 2, 'decay': 0.1}, task='transfer_cube')
    policy = description.make_policy().eval()
    if broken:
        with torch.no_grad():
            next(policy.parameters()).fill_(float('nan'))
    return save_checkpoint(folder, description, policy)


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    """Folder with checkpoints ``a``, ``b`` and the hashes of both."""
    folder = tmp_path_factory.mktemp('checkpoints')
    hashes = {name: write_checkpoint(folder / name, i) for i, name in enumerate('ab')}
    other = replace(SPEC, name='other', joints=(
        *SPEC.joints[:-1], JointSpec('wrist_turn', -1.0, 1.0, 1.0, 1.0, 1.0)))
    write_checkpoint(folder / 'other', robot=other)
    write_checkpoint(folder / 'broken', broken=True)
    return folder, hashes


class Robot:
    """A robot with a cube, played by the test."""

    def __init__(self, graph, **parameters):
        self.graph = graph
        self.process = graph.start('policy', **parameters)
        self.cube = graph.node.create_publisher(
            PoseStamped, topics.object_pose('cube'), topics.STATE_QOS)
        self.state = graph.publisher(JointState, topics.JOINT_STATES, topics.STATE_QOS)
        self.chunks = graph.collect(JointTrajectory, topics.POLICY_PROPOSAL, topics.CHUNK_QOS)
        self.statuses = graph.collect(
            DiagnosticArray, topics.POLICY_STATUS, topics.LATCHED_QOS)
        graph.until(lambda: graph.node.count_publishers(topics.POLICY_PROPOSAL))
        self.tick = 0

    @property
    def status(self):
        return convert.status_values(self.statuses[-1]) if self.statuses else {}

    def show(self):
        """Publish the next observation; its stamp."""
        self.tick += 1
        stamp = self.tick * SPEC.dt
        pose = np.array([0.1, 0.0, 0.02, 0, 0, 0, 1], np.float32)
        self.cube.publish(convert.pose_message(stamp, pose))
        self.state.publish(convert.joint_state(stamp, SPEC, SPEC.rest))
        return convert.time(stamp)

    def answered(self):
        """Show the next observation and wait for whatever chunk is of it or later."""
        count = len(self.chunks)

        def more():
            self.show()
            return len(self.chunks) > count
        return self.graph.until(more, 'a chunk')

    def change(self, transition):
        """A life cycle transition; whether it succeeded."""
        return self.graph.call(ChangeState, 'policy/change_state', ChangeState.Request(
            transition=Transition(id=transition))).success

    def reload(self, checkpoint):
        assert self.graph.set_parameters('policy', checkpoint=str(checkpoint)) == []
        return self.graph.call(Trigger, topics.POLICY_RELOAD)

    def life(self):
        return self.graph.call(GetState, 'policy/get_state').current_state.label


@pytest.fixture(scope='module')
def robot(tmp_path_factory, checkpoints):
    """A robot whose policy node was told nothing yet."""
    with open_graph(tmp_path_factory.mktemp('policy')) as graph:
        yield Robot(graph, autostart=False)


def test_life_cycle(robot, checkpoints):
    folder, hashes = checkpoints
    assert robot.life() == 'unconfigured'
    assert not robot.change(Transition.TRANSITION_CONFIGURE)  # no checkpoint
    robot.graph.until(lambda: 'checkpoint is empty' in robot.process.output)
    assert robot.graph.set_parameters('policy', checkpoint=str(folder / 'a')) == []
    assert robot.change(Transition.TRANSITION_CONFIGURE)
    assert robot.change(Transition.TRANSITION_ACTIVATE)
    robot.answered()
    robot.graph.until(lambda: robot.status.get('state') == 'active')
    assert robot.status['checkpoint'] == hashes['a']
    identity, buffer = convert.chunk_buffer(robot.statuses[-1], SPEC)
    assert buffer.execution == Execution('ensemble', 2, 0.1) and hashes['a'] in identity
    assert robot.change(Transition.TRANSITION_DEACTIVATE)
    robot.graph.until(lambda: robot.status['state'] == 'inactive')
    count = len(robot.chunks)
    for _ in range(5):
        robot.show()
    assert robot.life() == 'inactive' and len(robot.chunks) == count
    assert robot.change(Transition.TRANSITION_CLEANUP)
    assert robot.change(Transition.TRANSITION_CONFIGURE)
    assert robot.change(Transition.TRANSITION_ACTIVATE)
    robot.answered()


def activate(robot, checkpoint):
    """Whatever the last test left: this checkpoint is active."""
    assert robot.graph.set_parameters(
        'policy', checkpoint=str(checkpoint), execution=['']) == []
    if robot.life() != 'active':
        if robot.life() == 'unconfigured':
            assert robot.change(Transition.TRANSITION_CONFIGURE)
        assert robot.change(Transition.TRANSITION_ACTIVATE)
    assert robot.reload(checkpoint).success


def test_every_second_observation_is_due(robot, checkpoints):
    """n_action_steps 2: chunks answer each other observation, with its stamp and grid."""
    activate(robot, checkpoints[0] / 'a')
    assert robot.change(Transition.TRANSITION_DEACTIVATE)
    assert robot.change(Transition.TRANSITION_ACTIVATE)
    robot.chunks.clear()
    due = []
    for _ in range(3):
        due.append(robot.show())
        robot.graph.until(lambda: len(robot.chunks) == len(due), 'the chunk that is due')
        robot.show()
    assert [m.header.stamp for m in robot.chunks] == due
    chunk = convert.chunk(robot.chunks[-1], SPEC, 'chunk')
    np.testing.assert_allclose(chunk.times, chunk.stamp + SPEC.dt * np.arange(6))
    assert chunk.positions.shape == (6, SPEC.dim)


def test_reload_swaps_at_once(robot, checkpoints):
    folder, hashes = checkpoints
    activate(robot, folder / 'a')
    response = robot.reload(folder / 'b')
    assert response.success and response.message == hashes['b']
    robot.graph.until(lambda: robot.status['checkpoint'] == hashes['b'])
    assert robot.status['state'] == 'active'
    robot.answered()


@pytest.mark.parametrize(('checkpoint', 'words'), [
    ('nowhere', ['no such folder']),
    ('other', ['right_wrist_rotate', 'right_wrist_turn']),  # both sides
    ('broken', ['NaN']),
])
def test_after_a_failed_reload_the_old_policy_goes_on(robot, checkpoints, checkpoint, words):
    folder, hashes = checkpoints
    activate(robot, folder / 'a')
    response = robot.reload(folder / checkpoint)
    assert not response.success and 'goes on' in response.message
    assert all(word in response.message for word in words)
    robot.answered()
    robot.graph.until(lambda: robot.status['checkpoint'] == hashes['a'])


def test_a_wrong_execution_or_device_is_refused_with_what_is_right(robot, checkpoints):
    activate(robot, checkpoints[0] / 'a')
    for values, words in (
        ({'execution': ['mode=newst']}, 'newest'),
        ({'execution': ['n_action_steps=7']}, '6 steps of a chunk'),
        ({'device': 'cuda:99'}, 'cuda:99'),
    ):
        assert robot.graph.set_parameters('policy', **values) == []
        response = robot.reload(checkpoints[0] / 'a')
        assert not response.success and words in response.message
        assert robot.graph.set_parameters('policy', execution=[''], device='cpu') == []


def test_a_corrected_policy_is_swapped_in_as_any_other(robot, checkpoints, tmp_path):
    folder = tmp_path / 'corrected'
    described, corrected = residual_policy(
        *load_checkpoint(checkpoints[0] / 'a'), (8,), 0.5)
    save_checkpoint(folder, described, corrected)
    activate(robot, checkpoints[0] / 'a')
    robot.answered()
    before = np.array(robot.chunks[-1].points[0].positions)
    assert robot.reload(folder).success
    robot.answered()
    assert robot.status['policy'] == 'residual' and robot.status['execution_mode'] == 'newest'
    # nothing is corrected yet: it drives as the policy does
    np.testing.assert_allclose(robot.chunks[-1].points[0].positions, before, atol=2e-2)


def test_bad_observations_kill_nothing(robot, checkpoints):
    activate(robot, checkpoints[0] / 'a')
    robot.answered()
    diagnostics = robot.graph.collect(
        DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
    message = convert.joint_state((robot.tick + 1) * SPEC.dt, SPEC, SPEC.rest)
    message.name[3] = 'nose'
    robot.state.publish(message)
    robot.graph.until(lambda: any(
        'ignored joint_states' in convert.status_values(m) for m in diagnostics))
    values = convert.status_values(diagnostics[-1])
    for name in ('latency', 'wait', 'inference'):
        assert float(values[f'{name}_p50_ms']) <= float(values[f'{name}_p99_ms']), values
    assert float(values['wait_max_ms']) <= float(values['latency_max_ms'])
    assert int(values['late']) >= 0
    robot.answered()
    robot.tick -= 100  # a robot that started anew
    robot.answered()


def test_a_node_without_a_checkpoint_starts_with_the_first_reload(graph, checkpoints):
    folder, hashes = checkpoints
    robot = Robot(graph)
    robot.graph.until(lambda: 'checkpoint is empty' in robot.process.output)
    assert robot.reload(folder / 'b').message == hashes['b']
    assert robot.life() == 'active'
    robot.answered()


def test_an_episode_over_topics_equals_one_in_process(graph, checkpoints):
    """sim, policy and its chunk buffer in lockstep: the joints of evaluation, bit for bit."""
    folder = checkpoints[0] / 'a'
    graph.start('sim', lockstep=True, seed=10)
    graph.start('policy', checkpoint=str(folder), execution=['mode=newest', 'n_action_steps=3'],
                runtime='torch')
    relay = Relay(graph, SPEC)
    graph.until(lambda: len(relay.states) > 30, 'the policy drives')
    assert graph.call(Trigger, topics.SIM_RESET).message.endswith('seed 11')
    graph.until(lambda: relay.episode['seed'] == '11' and len(relay.states) >= 40)
    assert np.array_equal(relay.states[:40], states_in_process(
        folder, 11, 40, Execution('newest', 3)))
