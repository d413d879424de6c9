"""The hardware node in front of a process that keeps the topic contract of ros2_control."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from ros_graph import ROOT, TIMEOUT, Process, open_graph
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String

from il_robot.launch_options import loopback
from il_robot.nodes import convert, topics
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec

LEFT_ARM = '/openarm/left_forward_position_controller/commands'
LEFT_HAND = '/openarm/left_gripper_controller/commands'


def patient(profile, folder):
    """A profile whose rates and time-outs a loaded machine can keep."""
    data = yaml.safe_load(named_config('robots', profile).read_text())
    for source in data['hardware']['sources']:
        source |= {'min_rate': 10.0, 'timeout': 1.0}
    file = Path(folder) / f'{profile}.yaml'
    file.write_text(yaml.safe_dump(data))
    return str(file)


class StandIn(Process):
    """The process stand_in.py."""

    def __init__(self, graph, robot, *arguments):
        self.name, self.log = 'stand_in', graph.folder / f'stand_in_{len(graph.processes)}.log'
        environment = {**os.environ, 'ROS_DOMAIN_ID': str(graph.domain),
                       'ROS_LOG_DIR': str(graph.folder), 'OMP_NUM_THREADS': '1',
                       **loopback({})}
        with self.log.open('w') as log:
            self.popen = subprocess.Popen(
                [sys.executable, 'test/nodes/stand_in.py', robot, *arguments],
                cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        graph.processes.append(self)


class Station:
    """A hardware node, its robot, and this test in the place of the arbiter."""

    def __init__(self, graph, profile, *arguments, **parameters):
        self.graph, self.file = graph, patient(profile, graph.folder)
        self.spec = load_robot_spec(self.file)
        self.target, self.answering = None, True
        self.states = []
        self.status = graph.collect(String, 'stand_in/status', 10)
        self.diagnostics = graph.collect(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        graph.subscribe(JointState, topics.JOINT_STATES, self.on_state, topics.STATE_QOS)
        self.command = graph.node.create_publisher(
            JointState, topics.COMMAND, topics.COMMAND_QOS)
        self.words = graph.node.create_publisher(String, 'stand_in/do', 10)
        self.robot = StandIn(graph, self.file, *arguments)
        self.node = graph.start('hardware', robot=self.file, **parameters)

    def on_state(self, message):
        self.states.append(message)
        if self.answering and self.target is not None:
            stamp = convert.seconds(message.header.stamp)
            self.command.publish(convert.joint_state(
                stamp, self.spec, self.target.astype(np.float32)))

    @property
    def at(self):
        message = self.states[-1]
        return np.array(message.position)

    def go(self, target):
        """Ask for a posture and wait until the arms are there."""
        self.target = np.asarray(target, float)
        self.graph.until(lambda: self.states and np.allclose(
            self.at, self.target, atol=0.01), 'the arms to arrive')

    def report(self):
        """What the robot tells from now on."""
        count = len(self.status)
        self.graph.until(lambda: len(self.status) > count + 1, 'a report of the robot')
        return json.loads(self.status[-1].data)

    def phase(self, word):
        """Wait until diagnostics say so; the message."""
        count = len(self.diagnostics)

        def found():
            return next((d for d in self.diagnostics[count:]
                         if convert.status_values(d).get('phase') == word), None)
        return self.graph.until(found, f'phase {word}').status[0]

    def refused(self, *texts):
        """Wait until exactly these problems are told."""
        def found():
            values = convert.status_values(self.diagnostics[-1]) if self.diagnostics else {}
            problems = [v for k, v in sorted(values.items()) if k.startswith('problem_')]
            return len(problems) == len(texts) and all(map(str.__contains__, problems, texts))
        self.graph.until(found, f'problems {texts}')
        assert self.diagnostics[-1].status[0].level == DiagnosticStatus.ERROR
        assert not self.states

    def tell(self, word):
        """Make the robot misbehave."""
        self.graph.until(lambda: self.words.get_subscription_count() > 0)
        self.words.publish(String(data=word))


@pytest.fixture(scope='module')
def station(tmp_path_factory):
    """One robot that the tests of this module share; each leaves it following."""
    with open_graph(tmp_path_factory.mktemp('hardware')) as graph:
        station = Station(graph, 'openarm')
        graph.until(lambda: station.states, 'joint states')
        yield station


def rest(station, **joints):
    """The rest posture, off its limits, with these joints elsewhere."""
    target = np.clip(station.spec.rest + 0.1, station.spec.lower, station.spec.upper).astype(float)
    for arm in station.spec.arms:
        target[station.spec.arm_slice(arm.name).stop - 1] = 0.04
    for name, value in joints.items():
        target[station.spec.index(name)] = value
    return target


def test_both_arms_in_one_message_and_set_points_in_the_drivers_names_and_units(station):
    station.go(rest(station, left_joint1=0.5, left_joint3=0.4, right_joint1=0.3,
                    left_gripper=0.06))
    message = station.states[-1]
    assert tuple(message.name) == station.spec.joint_names
    assert len(message.velocity) == station.spec.dim
    assert not message.effort  # the driver knows none
    stamps = [convert.seconds(m.header.stamp) for m in station.states]
    assert (np.diff(stamps) > 0).all()
    command = station.report()['command']
    assert command[LEFT_ARM]['openarm_left_joint1'] == pytest.approx(-0.5, abs=0.01)
    assert command[LEFT_ARM]['openarm_left_joint3'] == pytest.approx(0.4, abs=0.01)
    assert command[LEFT_HAND]['openarm_left_finger_joint1'] == pytest.approx(0.03, abs=0.001)
    assert station.phase('streaming').level == DiagnosticStatus.OK
    values = convert.status_values(station.diagnostics[-1])
    assert float(values['setpoints_per_s']) > 0
    assert float(values['/openarm/joint_states hz']) > 0


def test_the_robot_dies_and_comes_back_elsewhere(station):
    station.go(rest(station))
    sent = station.graph.collect(Float64MultiArray, LEFT_ARM, 10)
    station.robot.kill()
    status = station.phase('robot lost')
    assert status.level == DiagnosticStatus.ERROR
    assert 'no joint states on /openarm/joint_states' in status.message
    states, setpoints = len(station.states), len(sent)
    station.phase('robot lost')
    assert len(station.states) == states
    assert len(sent) == setpoints

    station.robot = StandIn(station.graph, station.file, '--at', 'openarm_left_joint4=1.2')
    station.graph.until(lambda: len(sent) > setpoints + 5, 'set-points again')
    first = np.array(sent[setpoints].data)
    assert first[3] == pytest.approx(1.2, abs=0.05)  # from where the arm is now
    station.go(rest(station))
    station.phase('streaming')


def test_a_jump_of_the_state_is_complained_about_and_the_arms_stay_there(station):
    station.go(rest(station))
    station.tell('block')
    station.tell('jump openarm_left_joint4 1.5')
    station.graph.until(lambda: 'left_joint4 by 1.5' in station.node.output, 'a complaint')
    station.tell('free')
    station.go(rest(station))
    station.phase('streaming')


def test_silence_of_the_command_is_held_and_said(station):
    station.go(rest(station))
    station.answering = False
    status = station.phase('holding')
    assert status.level == DiagnosticStatus.WARN
    assert 'no command for' in status.message
    np.testing.assert_allclose(station.at, rest(station), atol=0.02)
    station.answering = True
    station.phase('streaming')


def test_two_commanders_are_not_obeyed(station):
    station.go(rest(station))
    rival = station.graph.node.create_publisher(JointState, topics.COMMAND, topics.COMMAND_QOS)
    assert '2 nodes write the command' in station.phase('holding').message
    station.graph.node.destroy_publisher(rival)
    station.phase('streaming')


def test_bad_commands_are_counted_and_change_nothing(station):
    station.go(rest(station))
    stamp = station.states[-1].header.stamp
    good = convert.joint_state(
        convert.seconds(stamp), station.spec, rest(station).astype(np.float32))
    nan = convert.joint_state(
        convert.seconds(stamp), station.spec, rest(station).astype(np.float32))
    nan.position[3] = float('nan')
    for message in (JointState(), JointState(name=good.name), nan,
                    JointState(name=['left_elbow'], position=[1.0])):
        message.header.stamp = stamp
        station.command.publish(message)
    old = convert.joint_state(1.0, station.spec, rest(station, left_joint1=1.0).astype('f4'))
    station.command.publish(old)
    station.graph.until(lambda: int(convert.status_values(
        station.diagnostics[-1]).get('ignored command', 0)) >= 4)
    assert station.phase('streaming').level == DiagnosticStatus.OK
    np.testing.assert_allclose(station.at, rest(station), atol=0.02)


def test_a_robot_that_does_not_fit_is_refused_until_it_does(tmp_path):
    """One node, and one wrong robot after the other in front of it."""
    with open_graph(tmp_path) as graph:
        station = Station(graph, 'openarm', '--no-controllers')
        station.refused(*4 * ['no controller listens'])
        station.robot.kill()
        station.robot = StandIn(
            graph, station.file, '--reverse', '--rate', '4', '--without', 'openarm_left_joint3',
            '--at', 'openarm_right_joint6=2.0', '--narrow', 'openarm_right_joint2')
        station.refused(
            'no openarm_left_joint3 (our left_joint3); other joints there: head_pan',
            *2 * ['in this order; the robot file says'],
            'for openarm_right_joint2, wider than its URDF',
            'needs 10 Hz',
            'right_joint6 is at 2.0000 (openarm_right_joint6 = 2.0000), outside')
        station.robot.kill()
        station.robot = StandIn(graph, station.file)
        graph.until(lambda: station.states, 'the robot that fits')
        station.go(rest(station))


def test_trajectories_are_followed_and_not_refused(tmp_path):
    with open_graph(tmp_path) as graph:
        station = Station(graph, 'aloha_viperx')
        station.go(rest(station, left_waist=0.4, right_elbow=0.8, right_gripper=0.02))
        report = station.report()
        arms = '/follower_{}/arm_controller/joint_trajectory'
        assert report['command'][arms.format('left')]['waist'] == pytest.approx(0.4, abs=0.02)
        assert report['command'][arms.format('right')]['elbow'] == pytest.approx(0.8, abs=0.02)
        hand = report['command']['/follower_right/gripper_controller/joint_trajectory']
        assert hand['left_finger'] == pytest.approx(0.031, abs=0.001)
        assert not any(report['refused'].values()), report


def test_a_gripper_behind_an_action_gets_few_goals(tmp_path):
    pytest.importorskip('control_msgs', reason='not on PyPI; comes with a ROS installation')
    with open_graph(tmp_path) as graph:
        station = Station(graph, 'dual_franka')
        station.go(rest(station, left_gripper=0.02, right_gripper=0.07))
        report = station.report()
        hand = '/{}/franka_gripper/gripper_action'
        assert report['command'][hand.format('left')]['fr3_finger_joint1'] == pytest.approx(0.01)
        assert report['command'][hand.format('right')]['fr3_finger_joint1'] == pytest.approx(0.035)
        assert 1 <= report['received'][hand.format('left')] < 10


def test_a_dry_run_shows_what_it_would_send_and_moves_nothing(tmp_path):
    with open_graph(tmp_path) as graph:
        station = Station(graph, 'openarm', '--no-controllers', dry_run=True)
        shown = graph.collect(JointState, topics.DRY_RUN, topics.STATE_QOS)
        graph.until(lambda: station.states)
        before = station.at
        station.target = rest(station)
        message = graph.until(lambda: next(
            (m for m in shown if m.header.frame_id == LEFT_ARM), None), 'a dry set-point')
        assert message.name == [f'openarm_left_joint{i}' for i in range(1, 8)]
        graph.until(lambda: {m.header.frame_id for m in shown} == {
            c.topic for c in station.spec.wiring.controllers}, 'all controllers')
        np.testing.assert_allclose(station.at, before)


def test_the_life_cycle_by_hand(tmp_path):
    with open_graph(tmp_path) as graph:
        station = Station(graph, 'openarm', '--without', 'openarm_left_joint1', autostart=False)

        def change(transition):
            request = ChangeState.Request(transition=Transition(id=transition))
            return graph.call(ChangeState, 'hardware/change_state', request).success

        def state():
            return graph.call(GetState, 'hardware/get_state').current_state.label

        assert state() == 'unconfigured'
        assert change(Transition.TRANSITION_CONFIGURE)
        station.refused('no openarm_left_joint1')
        assert not change(Transition.TRANSITION_ACTIVATE)
        assert state() == 'inactive'
        station.robot.kill()
        station.robot = StandIn(graph, station.file)
        graph.until(lambda: change(Transition.TRANSITION_ACTIVATE), 'activation')
        station.go(rest(station))
        assert change(Transition.TRANSITION_DEACTIVATE)
        station.phase('inactive')
        assert change(Transition.TRANSITION_CLEANUP)
        assert change(Transition.TRANSITION_CONFIGURE)
        graph.until(lambda: change(Transition.TRANSITION_ACTIVATE), 'activation')
        count = len(station.states)
        graph.until(lambda: len(station.states) > count)


@pytest.mark.parametrize(('robot', 'remap', 'said'), [
    ('sim_dual_arm', [], 'sim_dual_arm has no hardware section'),
    ('openarm', ['-r', 'joint_states:=/openarm/joint_states'], 'also the name of our own'),
    pytest.param('dual_franka', [], 'install ros-$ROS_DISTRO-control-msgs',
                 marks=pytest.mark.skipif(bool(find_spec('control_msgs')), reason='installed')),
])
def test_a_robot_file_that_cannot_work_ends_the_node_with_one_line(robot, remap, said):
    result = subprocess.run(
        [sys.executable, '-m', 'il_robot.nodes.hardware', '--ros-args', '-p', f'robot:={robot}',
         *remap], capture_output=True, text=True, cwd=ROOT, timeout=TIMEOUT,
        env={**os.environ, **loopback({})})
    assert result.returncode == 2
    assert said in result.stderr
    assert result.stderr.count('\n') == 1
