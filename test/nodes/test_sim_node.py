import os
import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from ros_graph import open_graph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_srvs.srv import SetBool, Trigger

import il_robot.sim as sim
from il_robot.nodes import convert, topics
from il_robot.sim.disturbances import Disturbances


class Robot:
    """The test's end of a simulator: hears everything, commands."""

    def __init__(self, graph, objects=('cube',)):
        self.graph, self.spec = graph, sim.default_robot()
        self.states = graph.collect(JointState, topics.JOINT_STATES, topics.STATE_QOS)
        self.clock = graph.collect(Clock, topics.CLOCK, topics.STATE_QOS)
        self.episodes = graph.collect(DiagnosticArray, topics.SIM_EPISODE, topics.LATCHED_QOS)
        self.diagnostics = graph.collect(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        self.poses = {
            name: graph.collect(PoseStamped, topics.object_pose(name), topics.STATE_QOS)
            for name in objects}
        self.command = graph.publisher(JointState, topics.COMMAND, topics.COMMAND_QOS)
        graph.until(lambda: self.states and self.episodes)

    @property
    def stamp(self):
        return convert.seconds(self.states[-1].header.stamp)

    @property
    def status(self):
        return convert.status_values(self.episodes[-1])

    def position(self, message=None):
        message = message or self.states[-1]
        return convert.positions_by_name(message.name, message.position, self.spec, 'state')

    def send(self, position, stamp=None):
        stamp = self.stamp if stamp is None else stamp
        self.command.publish(convert.joint_state(stamp, self.spec, position))

    def answer(self, position):
        """Command, and wait for the observation after it."""
        stamp = self.stamp
        self.send(position)
        self.graph.until(lambda: self.stamp > stamp, 'the next observation')

    def reset(self):
        """Reset, and wait for the first observation."""
        response = self.graph.call(Trigger, topics.SIM_RESET)
        assert response.success, response.message
        begun = lambda: convert.seconds(self.episodes[-1].header.stamp)  # noqa: E731
        self.graph.until(lambda: response.message == (
            'episode {episode}: {task}, seed {seed}'.format(**self.status)), 'the episode')
        self.graph.until(lambda: self.stamp >= begun(), 'the first observation')
        return response.message


@pytest.fixture(scope='module')
def robot(tmp_path_factory):
    """A simulator in lockstep that the tests of this module share; each resets it."""
    with open_graph(tmp_path_factory.mktemp('sim')) as graph:
        graph.start('sim', lockstep=True, disturbances=['action_noise=0.01'])
        yield Robot(graph)


def start_episode(robot, seed, **parameters):
    assert robot.graph.set_parameters('sim', seed=seed, **parameters) == []
    return robot.reset()


def test_lockstep_equals_the_environment_in_process(robot):
    """Same seed, same commands: same joints, parts and stage, bit for bit; noise included."""
    start_episode(robot, 7)
    env = sim.make('transfer_cube', disturbances=Disturbances(action_noise=0.01))
    env.reset(seed=7)
    for _ in range(30):
        observation = env.observation()
        cube = robot.poses['cube']
        robot.graph.until(lambda c=cube: c[-1].header.stamp == robot.states[-1].header.stamp)
        assert np.array_equal(robot.position(), observation.state)
        assert np.array_equal(convert.pose(cube[-1], 'cube'), observation.objects['cube'])
        action = env.expert().position
        env.step(action)
        robot.answer(action)
    position, velocity, effort = env.world.joint_states()
    assert np.allclose(robot.states[-1].velocity, velocity)
    assert np.allclose(robot.states[-1].effort, effort)


def test_lockstep_counts_one_tick_per_answer_and_ignores_other_stamps(robot):
    start_episode(robot, 1)
    stamp, rest = robot.stamp, robot.spec.rest
    robot.send(rest, stamp - robot.spec.dt)
    robot.send(rest, stamp + robot.spec.dt)
    robot.send(rest)
    robot.graph.until(lambda: robot.stamp > stamp)
    robot.send(rest, stamp)  # answered already
    robot.diagnostics.clear()
    robot.graph.until(lambda: any(
        int(convert.status_values(m).get('commands of another stamp', 0)) >= 3
        for m in robot.diagnostics), 'all three counted')
    assert robot.stamp == pytest.approx(stamp + robot.spec.dt)
    assert convert.seconds(robot.clock[-1].clock) == robot.stamp


def test_a_command_counts_by_names_in_any_order(robot):
    start_episode(robot, 1)
    goal = robot.spec.rest.copy()
    goal[0] += 0.2
    for _ in range(40):
        message = convert.joint_state(robot.stamp, robot.spec, goal)
        message.name.reverse()
        message.position.reverse()
        stamp = robot.stamp
        robot.command.publish(message)
        robot.graph.until(lambda s=stamp: robot.stamp > s)
    assert np.allclose(robot.position()[:6], goal[:6], atol=0.03)


@pytest.mark.parametrize('spoil', [
    lambda m: m.position.pop(),
    lambda m: m.position.__setitem__(3, float('nan')),
    lambda m: m.name.__setitem__(2, 'left_shoulde'),
    lambda m: m.name.__setitem__(2, m.name[1]),
], ids=['too short', 'nan', 'misspelt', 'twice'])
def test_a_bad_command_moves_nothing_and_kills_nothing(robot, spoil):
    start_episode(robot, 1)
    stamp = robot.stamp
    message = convert.joint_state(stamp, robot.spec, robot.spec.rest)
    spoil(message)
    robot.command.publish(message)
    start_episode(robot, 1)  # served after that message
    assert robot.stamp == pytest.approx(stamp + robot.spec.dt)
    robot.answer(robot.spec.rest)


def test_resets_count_seeds_up_and_go_on_in_time(robot):
    assert start_episode(robot, 41).endswith('transfer_cube, seed 41')
    first = robot.stamp
    assert robot.reset().endswith('seed 42')
    assert robot.stamp == pytest.approx(first + robot.spec.dt)
    assert robot.status['stage_name'] == 'start' and robot.status['success'] == 'false'
    start_episode(robot, 41)
    again = robot.position()
    env = sim.make('transfer_cube')
    env.reset(seed=41)
    assert np.array_equal(again, env.observation().state)


def test_another_task_from_the_next_reset_on(robot):
    tray = robot.graph.collect(PoseStamped, topics.object_pose('tray'), topics.STATE_QOS)
    assert start_episode(robot, 3, task='lift_tray').endswith('lift_tray, seed 3')
    robot.answer(robot.spec.rest)
    robot.graph.until(lambda: tray, 'a pose of the tray')
    assert start_episode(robot, 3, task='transfer_cube').endswith('transfer_cube, seed 3')


@pytest.mark.parametrize(('parameters', 'words'), [
    ({'task': 'lift_try'}, 'lift_tray'),
    ({'width': 'huge'}, 'narrow'),
    ({'disturbances': ['shovess=1']}, 'shoves'),
    ({'disturbances': ['shoves']}, 'KEY=VALUE'),
    ({'task_options': ['size=0.5']}, '0.02 to 0.06'),
    ({'real_time_factor': 0.0}, 'real_time_factor'),
    ({'seed': -1}, 'seed'),
    ({'lockstep': False}, 'read-only'),
])
def test_a_wrong_parameter_is_refused_with_what_is_right(robot, parameters, words):
    reasons = robot.graph.set_parameters('sim', **parameters)
    assert len(reasons) == 1 and words in reasons[0]


def test_pause_keeps_the_answer_for_later(robot):
    start_episode(robot, 1)
    assert robot.graph.call(SetBool, topics.SIM_PAUSE, SetBool.Request(data=True)).success
    stamp = robot.stamp
    robot.send(robot.spec.rest)
    assert robot.graph.call(Trigger, topics.SIM_DISTURB).success  # served after the command
    assert robot.stamp == stamp
    robot.graph.call(SetBool, topics.SIM_PAUSE, SetBool.Request(data=False))
    robot.graph.until(lambda: robot.stamp > stamp)


def test_disturb_pushes_a_part(robot):
    start_episode(robot, 1)
    before = convert.pose(robot.poses['cube'][-1], 'cube')
    robot.graph.call(Trigger, topics.SIM_DISTURB)
    for _ in range(5):
        robot.answer(robot.spec.rest)
    robot.graph.until(lambda: robot.poses['cube'][-1].header.stamp == (
        robot.states[-1].header.stamp))
    after = convert.pose(robot.poses['cube'][-1], 'cube')
    assert np.abs(after - before)[:2].max() > 0.005


def test_two_writers_are_obeyed_by_none(robot):
    start_episode(robot, 1)
    rival = robot.graph.node.create_publisher(JointState, topics.COMMAND, topics.COMMAND_QOS)
    process = robot.graph.processes[0]

    def complained():
        robot.send(robot.spec.rest)
        return '2 publishers on command' in process.output

    robot.graph.until(complained, 'a complaint about two writers')
    robot.graph.call(Trigger, topics.SIM_DISTURB)
    stamp = robot.stamp
    robot.send(robot.spec.upper)
    robot.graph.call(Trigger, topics.SIM_DISTURB)  # served after that command
    assert robot.stamp == stamp
    robot.graph.node.destroy_publisher(rival)

    def moves():
        robot.send(robot.spec.rest)
        return robot.stamp > stamp

    robot.graph.until(moves, 'obedience to the only writer')
    assert np.allclose(robot.position(), robot.spec.rest, atol=0.05)


def test_without_answers_lockstep_goes_on_holding(graph):
    graph.start('sim', lockstep=True, lockstep_timeout=0.05)
    robot = Robot(graph)
    start = robot.stamp
    graph.until(lambda: robot.stamp > start + 4.5 * robot.spec.dt)
    assert np.allclose(robot.position(), robot.spec.rest, atol=0.01)


def test_real_time_obeys_the_newest_command_and_holds_when_it_falls_silent(graph):
    process = graph.start('sim', real_time_factor=2.0)
    robot = Robot(graph)
    goal = robot.spec.rest.copy()
    goal[0] += 0.2

    def there():
        robot.send(goal)
        return abs(robot.position()[0] - goal[0]) < 0.02

    graph.until(there, 'the goal')
    graph.until(lambda: 'for 0.2 s: holding' in process.output, 'silence noticed')
    count, held = len(robot.states), robot.position()
    graph.until(lambda: len(robot.states) > count + 10)
    assert np.allclose(robot.position(), held, atol=0.02)
    stamps = [convert.seconds(m.header.stamp) for m in robot.states]
    assert np.allclose(np.diff(stamps), robot.spec.dt)
    robot.send(robot.spec.rest, robot.stamp + 1.0)
    graph.until(lambda: 'ahead of joint_states' in process.output, 'the future refused')
    # A command on its way while the world is reset is not for the new episode.
    before = robot.stamp
    robot.reset()
    robot.send(goal, before)
    graph.until(lambda: any('of the last episode' in str(m) for m in robot.diagnostics))
    assert robot.position()[0] < goal[0] - 0.1


def test_pictures_come_before_joint_states_in_lockstep(graph):
    names = ['overhead', 'wrist_left']
    graph.start('sim', lockstep=True, cameras=names, image_size=[64, 48], seed=5,
                image_transport='both')
    qos = topics.IMAGE_SUBSCRIBER_QOS
    raw = {n: graph.collect(Image, topics.image(n), qos) for n in names}
    jpeg = {n: graph.collect(CompressedImage, topics.compressed(n), qos) for n in names}
    info = graph.collect(CameraInfo, topics.camera_info('overhead'), qos)
    robot = Robot(graph)
    robot.reset()
    robot.answer(robot.spec.rest)
    stamp = robot.states[-1].header.stamp
    graph.until(lambda: all(raw[n] and jpeg[n] and raw[n][-1].header.stamp == stamp
                            and jpeg[n][-1].header.stamp == stamp for n in names))
    env = sim.make('transfer_cube', cameras=names, image_size=(64, 48))
    env.reset(seed=6)
    env.step(robot.spec.rest)
    for name in names:
        picture = convert.image(raw[name][-1], name)
        assert np.array_equal(picture, env.observation().images[name])
        assert bytes(jpeg[name][-1].data[:3]) == b'\xff\xd8\xff'
    assert (info[-1].width, info[-1].height) == (64, 48)
    assert info[-1].k[2] == 32.0 and info[-1].k[0] == info[-1].k[4] > 0


def test_real_time_pictures_come_at_the_cameras_rate_and_survive_a_dead_process(graph):
    process = graph.start('sim', cameras=['front'], image_size=[64, 48])
    pictures = graph.collect(
        CompressedImage, topics.compressed('front'), topics.IMAGE_SUBSCRIBER_QOS)
    graph.until(lambda: len(pictures) > 20)
    stamps = [convert.seconds(m.header.stamp) for m in pictures]
    assert np.min(np.diff(stamps)) > 0.5 / 30.0
    children = Path(f'/proc/{process.popen.pid}/task/{process.popen.pid}/children').read_text()
    drawing, = [int(pid) for pid in children.split()
                if 'spawn_main' in Path(f'/proc/{pid}/cmdline').read_text()]
    os.kill(drawing, signal.SIGKILL)
    count = len(pictures)
    graph.until(lambda: 'camera process died' in process.output, 'a complaint')
    graph.until(lambda: len(pictures) > count + 3, 'pictures again')


@pytest.mark.parametrize(('parameters', 'words'), [
    ({'cameras': ['overhed']}, 'overhead'),
    ({'image_transport': 'jpeg', 'cameras': ['front']}, 'compressed'),
    ({'real_time_factor': 2}, 'write 2.0'),
    ({'seed': -3}, 'out of range'),
])
def test_a_wrong_start_is_one_line_and_exit_code_2(graph, parameters, words):
    process = graph.start('sim', **parameters)
    assert process.popen.wait(60) == 2
    assert process.output.startswith('error:') and words in process.output
    assert 'Traceback' not in process.output
    graph.processes.remove(process)
