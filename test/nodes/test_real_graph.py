"""``il_robot launch run robot:=real`` in front of a process that keeps ros2_control's contract."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from ros_graph import PATIENT_QOS
from sensor_msgs.msg import JointState
from small_policy import write_lively_policy
from std_msgs.msg import Float64MultiArray, String
from test_hardware_node import StandIn, patient

from il_robot.data.bag_reader import BagReader
from il_robot.nodes import convert, topics
from il_robot.spec import load_robot_spec, robot_spec_from_dict


class Laboratory:
    """A launched graph, its robot, and somebody who asks and looks."""

    def __init__(self, graph, *robot):
        self.graph, self.file = graph, patient('openarm', graph.folder)
        self.spec = load_robot_spec(self.file)
        self.output = graph.folder / 'session'
        policy = write_lively_policy(graph.folder / 'policy', self.spec, width=0.04)
        self.states = graph.collect(JointState, topics.JOINT_STATES, PATIENT_QOS)
        self.commands = graph.collect(JointState, topics.COMMAND, PATIENT_QOS)
        self.modes = graph.collect(DiagnosticArray, topics.MODE, topics.LATCHED_QOS)
        self.recordings = graph.collect(DiagnosticArray, topics.RECORDING, topics.LATCHED_QOS)
        self.diagnostics = graph.collect(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        self.status = graph.collect(String, 'stand_in/status', 10)
        self.setpoints = {c.topic: graph.collect(Float64MultiArray, c.topic, 10)
                          for c in self.spec.wiring.controllers}
        self.start_robot(*robot)
        self.launch = graph.run(
            'launch', '-m', 'il_robot', 'launch', 'run', 'robot:=real', f'profile:={self.file}',
            f'policy:={policy}', 'device:=cpu', 'task:=wave', f'output:={self.output}')
        self.requests = graph.publisher(String, topics.REQUEST, topics.REQUEST_QOS)

    def start_robot(self, *arguments):
        self.robot = StandIn(self.graph, self.file, *arguments)

    def ask(self, word, condition):
        """Request it until the condition holds."""
        timer = self.graph.node.create_timer(
            1.0, lambda: self.requests.publish(String(data=word)))
        self.requests.publish(String(data=word))
        self.graph.until(condition, f'the effect of {word}')
        self.graph.node.destroy_timer(timer)

    @property
    def mode(self):
        return convert.status_values(self.modes[-1]).get('mode') if self.modes else ''

    def recording(self, **values):
        said = convert.status_values(self.recordings[-1]) if self.recordings else {}
        return all(said.get(key) == value for key, value in values.items())

    def says(self, text):
        """Wait until the launch has said it."""
        self.graph.until(lambda: text in self.launch.output, f'{text!r}')

    def report(self):
        """What the robot tells from now on."""
        count = len(self.status)
        self.graph.until(lambda: len(self.status) > count + 1, 'a report of the robot')
        return json.loads(self.status[-1].data)

    def reports(self):
        """Wait for two more diagnostics of hardware."""
        self.diagnostics.clear()
        self.graph.until(
            lambda: sum(m.status[0].name == 'hardware' for m in self.diagnostics) > 1)

    def silence(self):
        """Wait until neither set-points nor commands come any more; returns how many came.

        What was under way on a busy machine may still come during the first reports.
        """
        for _ in range(10):
            counts = [len(self.commands), *(len(m) for m in self.setpoints.values())]
            self.reports()
            if counts == [len(self.commands), *(len(m) for m in self.setpoints.values())]:
                return counts[0]
        raise AssertionError(f'still {counts} messages after 20 reports')

    def streaming(self):
        """Wait for a second in which set-points went out faster than commands came in."""
        count = len(self.diagnostics)

        def fast():
            for message in self.diagnostics[count:]:
                values = convert.status_values(message)
                if values.get('phase') == 'streaming' and float(values['setpoints_per_s']) > (
                        1.2 * float(values.get('commands_per_s', 'inf'))):
                    return values
            return None

        return self.graph.until(fast, 'set-points between the commands')

    def drive(self):
        """Ask the policy to drive until it does and the measured arms move."""
        count = len(self.states)
        self.ask('run', lambda: self.mode == 'AUTONOMOUS' and len(self.states) > count + 20
                 and np.ptp([m.position for m in self.states[-20:]], axis=0).max() > 0.02)


def test_a_policy_drives_a_real_robot_that_dies_and_returns(graph):
    lab = Laboratory(graph)
    lab.says('openarm: everything fits')
    lab.ask('start', lambda: lab.recording(state='recording'))
    before = lab.report()['at']
    graph.until(lambda: lab.mode == 'HOLD', 'the mode')  # nobody asked the policy to drive
    lab.drive()
    values = lab.streaming()
    assert float(values['commands_per_s']) > 0
    report = lab.report()
    assert not any(report['refused'].values()) and report['at'] != before
    assert all(report['received'].values())
    for messages in lab.setpoints.values():
        assert np.isfinite([m.data for m in messages]).all()
    # a busy machine may have left more gaps than a dataset takes; the bag is whole all the same
    lab.ask('success', lambda: lab.recording(state='idle', outcome='success'))
    check_bag(lab)

    lab.robot.kill()
    lab.says('robot lost')
    lab.says('no joint states on /openarm/joint_states')
    lab.says('no joint_states: is sim or hardware running?')
    commands = lab.silence()

    states = len(lab.states)
    lab.start_robot('--at', 'openarm_left_joint4=0.8')
    graph.until(lambda: len(lab.states) > states + 5, 'joint states')
    elbow = lab.spec.index('left_joint4')
    graph.until(lambda: lab.mode == 'HOLD', 'hold')
    first = np.array([m.position for m in lab.states[states:]])
    np.testing.assert_allclose(first[:, elbow], 0.8, atol=0.02)  # it stays where it is
    graph.until(lambda: len(lab.commands) > commands, 'a command')
    assert lab.commands[commands].position[elbow] == pytest.approx(0.8, abs=0.02)
    lab.drive()
    lab.streaming()
    assert lab.launch.stop() == 0
    assert 'does not end' not in lab.launch.output


def check_bag(lab):
    (path,) = (lab.output / 'bags').iterdir()
    with BagReader(path) as bag:
        assert bag.whole and bag.metadata['task'] == 'wave'
        assert robot_spec_from_dict(json.loads(bag.metadata['robot']), 'bag') == lab.spec
        for topic in ('/joint_states', '/command', '/policy/proposal', '/session/mode'):
            assert bag.messages(topic), topic
        drivers = {convert.status_values(bag.decode('/session/mode', m))['driver_left']
                   for m in bag.messages('/session/mode')}
    assert drivers == {'hold', 'policy'}


def test_a_robot_that_does_not_fit_its_profile_is_not_moved(graph):
    """The launch says what does not fit, and goes on once it does."""
    lab = Laboratory(graph, '--reverse', '--narrow', 'openarm_right_joint2')
    lab.says('the arms stay where they are until this fits')
    lab.says('openarm_right_joint2, wider than its URDF')
    lab.says('in this order; the robot file says')
    before = lab.report()['at']
    lab.diagnostics.clear()
    lab.requests.publish(String(data='run'))
    graph.until(lambda: sum('refused' in m.status[0].message for m in lab.diagnostics) > 2)
    report = lab.report()
    assert report['at'] == before and not any(report['received'].values())
    assert not lab.states and not lab.commands and lab.mode == ''
    lab.robot.kill()
    lab.start_robot()
    lab.says('openarm: everything fits')
    lab.drive()


def child(parent, module):
    """The process that runs a module of ours below another."""
    (found,) = [
        int(pid) for pid in Path(f'/proc/{parent}/task/{parent}/children').read_text().split()
        if module in Path(f'/proc/{pid}/cmdline').read_text()]
    return found


def test_hardware_that_dies_is_started_again_and_the_arms_stay(graph):
    lab = Laboratory(graph)
    lab.says('openarm: everything fits')
    lab.drive()
    os.kill(child(lab.launch.popen.pid, 'il_robot.nodes.hardware'), signal.SIGKILL)
    lab.says('[hardware] died (signal 9)')
    lab.says('no joint_states: is sim or hardware running?')
    held = lab.report()['command']
    lab.says('[hardware] starts again')
    graph.until(lambda: lab.launch.output.count('openarm: everything fits') == 2, 'a second check')
    graph.until(lambda: lab.mode == 'HOLD', 'hold')
    # the controllers keep what they have; the last command may have been a little ahead of it
    for topic, command in lab.report()['command'].items():
        assert command == pytest.approx(held[topic], abs=0.1)
    lab.drive()
