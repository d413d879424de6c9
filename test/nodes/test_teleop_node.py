"""The teleop node as a process: keys through a pseudo-terminal, pads, leader arms and hands."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, Twist
from ros_graph import ROOT, TIMEOUT, ros_domain
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Float32, String

from il_robot.bringup import parameter_text
from il_robot.kinematics import ArmKinematics
from il_robot.launch_options import loopback
from il_robot.nodes import convert, topics
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec
from il_robot.types import Source

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
LEFT, RIGHT = SPEC.arm_slice('left'), SPEC.arm_slice('right')


class Robot:
    """Robot and arbiter in one: each tick publishes a state and takes the proposal for it."""

    def __init__(self, graph):
        self.graph, self.stamp, self.position = graph, 10.0, SPEC.rest.copy()
        self.drivers = dict.fromkeys(('left', 'right'), Source.HOLD)
        self.feed = lambda: None
        self.proposals = graph.collect(
            JointState, topics.TELEOP_PROPOSAL, topics.PROPOSAL_QOS)
        self.requests = graph.collect(String, topics.REQUEST, topics.REQUEST_QOS)
        self.diagnostics = graph.collect(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        self.command = graph.publisher(JointState, topics.COMMAND, topics.COMMAND_QOS)
        self.mode = graph.publisher(DiagnosticArray, topics.MODE, topics.LATCHED_QOS)
        self.states = graph.publisher(JointState, topics.JOINT_STATES, topics.STATE_QOS)

    def asked(self, *words):
        self.graph.until(lambda: [m.data for m in self.requests] == list(words),
                         f'requests {words}, came {[m.data for m in self.requests]}')
        self.requests.clear()

    def drive(self, driver, *arms, ticks=3):
        """Let ``driver`` drive these arms from now on."""
        self.drivers |= dict.fromkeys(arms, driver)
        for _ in range(ticks):
            self.tick()

    def publish(self):
        values = {'mode': 'TELEOP', 'intervention': False, 'reason': 'a test',
                  **{f'driver_{arm}': d.name.lower() for arm, d in self.drivers.items()}}
        self.mode.publish(convert.status_message(self.stamp, topics.MODE, values))
        self.command.publish(convert.joint_state(self.stamp, SPEC, self.position))
        self.stamp += SPEC.dt
        self.states.publish(convert.joint_state(self.stamp, SPEC, self.position))

    def tick(self):
        """One control tick; the proposal ``(D,)`` for it, NaN where an arm is absent.

        On a machine that stalls, the device counts as silent and nothing is proposed: again then.
        """
        tries, again = 0, 0.0

        def answered():
            nonlocal tries, again
            if time.monotonic() > again:
                tries, again = tries + 1, time.monotonic() + 0.5
                self.feed()
                self.publish()
            return self.proposals and abs(convert.seconds(
                self.proposals[-1].header.stamp) - self.stamp) < 1e-6

        self.graph.until(answered, 'a proposal')
        message = self.proposals[-1]
        proposal = convert.positions_by_name(
            message.name, message.position, SPEC, 'proposal', whole_arms=True)
        step = np.abs(proposal - self.position)
        assert tries > 1 or np.nanmax(step - SPEC.velocity * SPEC.dt) <= 1e-4
        for arm, driver in self.drivers.items():
            where = SPEC.arm_slice(arm)
            if driver is Source.TELEOP and np.isfinite(proposal[where]).all():
                self.position[where] = proposal[where]
        return proposal

    def until_moved(self, arm, axis, metres, each=lambda: None):
        """Tick until an arm has moved so far along an axis of base; the way of its gripper."""
        before = self.eef(arm).position

        def moved():
            each()
            self.tick()
            return self.eef(arm).position[axis] - before[axis] > metres

        self.graph.until(moved, f'{metres} m of the {arm} arm')
        return self.eef(arm).position - before

    def diagnosed(self, key, at_least=1):
        """Wait until diagnostics count this."""
        def count():
            values = convert.status_values(self.diagnostics[-1]) if self.diagnostics else {}
            return int(values.get(key, 0)) >= at_least
        self.graph.until(count, f'{key} >= {at_least} in diagnostics')

    def silent(self):
        """Wait until diagnostics say so of the device, from now on."""
        self.diagnostics.clear()
        self.graph.until(lambda: any(
            'is silent' in m.status[0].message for m in self.diagnostics), 'a silent device')

    def eef(self, arm):
        return ArmKinematics.from_spec(SPEC, arm).fk(self.position[SPEC.arm_slice(arm)][:-1])


class PtyProcess:
    """The node in a terminal of its own, as after ssh; keeps what the screen was sent.

    With ``launched`` the terminal is not its standard input, as under ros2 launch.
    """

    def __init__(self, graph, *, module='il_robot.nodes.teleop', launched=False, **parameters):
        self.name, self.output = 'teleop', ''
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
        self.before = termios.tcgetattr(self._slave)
        command = [sys.executable, '-m', module]
        if parameters:
            command.append('--ros-args')
        for key, value in parameters.items():
            command += ['-p', f'{key}:={parameter_text(value)}']

        def own_terminal():
            os.setsid()
            fcntl.ioctl(self._slave, termios.TIOCSCTTY, 0)

        environment = {
            **os.environ, 'ROS_DOMAIN_ID': str(graph.domain), 'ROS_LOG_DIR': str(graph.folder),
            **loopback({}), 'OMP_NUM_THREADS': '1'}
        standard = subprocess.DEVNULL if launched else self._slave
        self.popen = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=standard, stdout=standard, stderr=standard,
            preexec_fn=own_terminal)
        self._stopped = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        graph.processes.append(self)

    def _read(self):
        while not self._stopped.is_set():
            if select.select([self._master], [], [], 0.05)[0]:
                self.output += os.read(self._master, 65536).decode(errors='replace')

    def type(self, text):
        os.write(self._master, text)

    def after(self):
        """Terminal settings once the process has ended."""
        return termios.tcgetattr(self._slave)

    def stop(self, number=signal.SIGINT):
        """Send a signal where it still runs; the exit code, when all output has been read."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        code = self.popen.wait(TIMEOUT)
        if not self._stopped.is_set():
            while select.select([self._master], [], [], 0.2)[0]:
                threading.Event().wait(0.05)
            self._stopped.set()
            self._reader.join()
        return code


def run_and_fail(arguments, domain, **options):
    """Start the node where it cannot start; exit code and what it says."""
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain),
                   **loopback({})}
    result = subprocess.run(
        [sys.executable, '-m', 'il_robot.nodes.teleop', '--ros-args', *arguments], cwd=ROOT,
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=TIMEOUT, start_new_session=True, **options)
    return result.returncode, result.stderr.strip()


# -- keyboard -----------------------------------------------------------------------------------
def test_an_operator_at_a_terminal(graph):
    """Takes over one arm, moves it, gives it back; records; stops; the terminal is as before."""
    terminal = PtyProcess(graph, speed=1.0)
    robot = Robot(graph)
    robot.tick()
    terminal.type(b'1')
    terminal.type(b' ')
    robot.asked('engage left')
    robot.drive(Source.TELEOP, 'left')
    right = robot.position[RIGHT].copy()
    moved = robot.until_moved('left', 0, 0.01, each=lambda: terminal.type(b'l'))
    np.testing.assert_allclose(moved[1:], 0.0, atol=1e-3)
    np.testing.assert_array_equal(robot.position[RIGHT], right)
    terminal.type(b'r')
    robot.asked('start')
    graph.until(lambda: 'driven by teleop' in terminal.output and 'TELEOP: a test'
                in terminal.output, 'the screen')
    # what is typed before the key's repeat delay is over would be taken for its repetition
    terminal.type(b's')
    robot.asked('success')
    robot.drive(Source.HOLD, 'left')
    held = robot.position.copy()
    terminal.type(b'l')
    for _ in range(5):
        robot.tick()
    np.testing.assert_array_equal(robot.position, held)
    terminal.type(b'\x1b')
    robot.asked('stop')
    assert terminal.stop(signal.SIGTERM) == 0
    assert terminal.after() == terminal.before
    assert terminal.output.count('\x1b[?1049h') == terminal.output.count('\x1b[?1049l') == 1


@pytest.mark.parametrize(('key', 'launched'), [(b'\x03', False), (b'q', True)])
def test_keys_that_end_it(graph, key, launched):
    terminal = PtyProcess(graph, launched=launched)
    graph.until(lambda: 'driven by' in terminal.output, 'the screen')
    terminal.type(key)
    assert terminal.popen.wait(TIMEOUT) == 0
    assert terminal.stop() == 0
    assert terminal.after() == terminal.before
    assert terminal.output.rstrip().endswith('\x1b[?1049l')


def test_a_crash_restores_the_terminal(graph, monkeypatch):
    crash = graph.folder / 'crash.py'
    crash.write_text('from il_robot.nodes.devices import Terminal\n'
                     'with Terminal():\n    raise RuntimeError("a bug")\n')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join((str(graph.folder), str(ROOT))))
    terminal = PtyProcess(graph, module='crash')
    graph.processes.remove(terminal)
    assert terminal.popen.wait(TIMEOUT) == 1
    terminal.stop()
    assert terminal.after() == terminal.before
    # the traceback comes on the screen that is left behind, where it can be read
    assert 'a bug' in terminal.output.split('\x1b[?1049l')[1]


@pytest.mark.parametrize(('arguments', 'message'), [
    ([], 'the keyboard needs a terminal, and standard input is none'),
    (['-p', 'device:=keybord'], "did you mean 'keyboard'"),
    (['-p', 'device:=leader', '-p', 'config:=pose'], 'pose is a configuration for pose'),
    (['-p', 'device:=pose', '-p', 'arms:=middle'], "unknown arm 'middle'"),
    (['-p', 'device:=gamepad', '-p', 'pad:=xbx'], "did you mean 'xbox'"),
])
def test_what_cannot_start_says_why_in_one_line(arguments, message):
    with ros_domain() as domain:
        code, text = run_and_fail(arguments, domain)
    assert code == 2
    assert text.startswith('error: ') and message in text and '\n' not in text


def test_a_leader_for_a_joint_that_does_not_exist(tmp_path):
    file = tmp_path / 'mine.yaml'
    file.write_text(yaml.safe_dump({
        'device': 'leader', 'speed': {'linear': 1.0, 'angular': 1.0, 'joint': 1.0, 'gripper': 0.1},
        'leader': {'joints': {'left_wast': {'joint': 'a'}}}}))
    with ros_domain() as domain:
        code, text = run_and_fail(['-p', f'config:={file}'], domain)
    assert code == 2
    assert "unknown joint 'left_wast'" in text and "did you mean 'left_waist'" in text


# -- pad ----------------------------------------------------------------------------------------
def joy(left_y=0.0, deadman=False, south=False):
    message = Joy(axes=[0.0, left_y, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0], buttons=[0] * 11)
    message.buttons[5], message.buttons[0] = int(deadman), int(south)
    return message


def test_a_pad_on_joy(graph):
    graph.start('teleop', device='gamepad')
    publisher = graph.publisher(Joy, topics.JOY, topics.JOY_QOS)
    robot = Robot(graph)

    def ticks(message, n):
        robot.feed = lambda: publisher.publish(message)
        for _ in range(n):
            robot.tick()

    robot.publish()  # nobody at the pad yet: no proposal
    ticks(joy(), 2)
    for south in (False, True):
        publisher.publish(joy(south=south))
    robot.asked('engage')
    ticks(joy(), 1)
    robot.drive(Source.TELEOP, 'left', 'right', ticks=0)
    before = robot.eef('right').position
    ticks(joy(left_y=1.0), 4)
    np.testing.assert_allclose(robot.eef('right').position, before, atol=1e-6)
    ticks(joy(left_y=1.0, deadman=True), 1)
    moved = robot.until_moved('right', 1, 0.01)
    np.testing.assert_allclose(moved[[0, 2]], 0.0, atol=1e-3)
    # the driver dies: both arms are absent, and diagnostics say so
    robot.silent()
    robot.proposals.clear()
    robot.publish()
    publisher.publish(Joy(axes=[float('nan')] * 8, buttons=[0] * 11))
    publisher.publish(Joy(axes=[0.0], buttons=[]))
    robot.diagnosed('ignored joy', 2)
    assert not robot.proposals


def test_a_pad_without_a_joy_node(graph, tmp_path):
    """The device file itself: events as the kernel writes them, unplugged and plugged in again."""
    file = tmp_path / 'js0'
    os.mkfifo(file)
    graph.start('teleop', device='gamepad', device_file=str(file), pad='xbox')
    robot = Robot(graph)

    def plug_in():
        pad = os.open(file, os.O_RDWR)
        write(pad, 0x82, *((i, -32767 if i in (2, 5) else 0) for i in range(8)))
        write(pad, 0x81, *((i, 0) for i in range(11)))
        return pad

    def write(pad, kind, *values):
        os.write(pad, b''.join(struct.pack('=IhBB', 0, v, kind, i) for i, v in values))

    pad = plug_in()
    graph.until(lambda: robot.publish() or robot.proposals, 'a proposal once the pad is there')
    write(pad, 0x01, (0, 1), (0, 0))
    write(pad, 0x01, (0, 1))
    robot.asked('engage')
    robot.drive(Source.TELEOP, 'left', 'right')
    write(pad, 0x01, (5, 1))
    write(pad, 0x02, (1, -32767))  # up, which is forward
    robot.until_moved('left', 1, 0.01)
    os.close(pad)
    robot.silent()
    robot.proposals.clear()
    pad = plug_in()
    graph.until(lambda: robot.publish() or robot.proposals, 'a proposal once it is back')
    os.close(pad)


# -- leader, hands, twists ----------------------------------------------------------------------
def test_leader_arms(graph):
    node = graph.start('teleop', device='leader', arms='left')
    leader = graph.publisher(JointState, topics.LEADER_STATES, topics.STATE_QOS)
    robot = Robot(graph)
    names = list(SPEC.joint_names[LEFT])
    at = SPEC.rest[LEFT].astype(float)
    count = [0]

    def send(names=names, positions=None):
        count[0] += 1
        message = JointState(name=names, position=at.tolist() if positions is None else positions)
        message.header.stamp = convert.time(100.0 + 0.02 * count[0])
        leader.publish(message)

    robot.feed = send
    assert np.isnan(robot.tick()[RIGHT]).all()
    robot.drive(Source.TELEOP, 'left', ticks=0)
    at[0] += 0.3  # too far: the arm waits
    for _ in range(5):
        robot.tick()
    assert robot.position[0] == SPEC.rest[0]
    at[0] = 0.05

    def arrived():
        robot.tick()
        return abs(robot.position[0] - at[0]) < 1e-3

    graph.until(arrived, 'the arm to follow')
    at[0] = 0.3
    graph.until(arrived, 'the arm to follow')
    # wrong messages are named and harmless
    send(names=['wast', *names[1:]])
    send(positions=[float('nan')] * 7)
    robot.diagnosed(f'ignored {topics.LEADER_STATES}', 2)
    graph.until(lambda: 'no left_waist for the left arm' in node.output, 'the complaint')
    robot.tick()


def test_a_hand_with_clutch_and_trigger(graph):
    graph.start('teleop', device='pose', arms='right')
    publishers = {
        'pose': graph.publisher(PoseStamped, topics.hand('pose', 'right'), 10),
        'clutch': graph.publisher(Float32, topics.hand('clutch', 'right'), 10),
        'gripper': graph.publisher(Float32, topics.hand('gripper', 'right'), 10)}
    robot = Robot(graph)
    hand = {'x': 0.0, 'clutch': 0.0, 'gripper': 0.0}

    def send():
        pose = np.array([hand['x'], 0, 0, 0, 0, 0, 1], np.float32)
        publishers['pose'].publish(convert.pose_message(0.0, pose, 'vr'))
        for name in ('clutch', 'gripper'):
            publishers[name].publish(Float32(data=hand[name]))

    robot.feed = send
    robot.drive(Source.TELEOP, 'right', ticks=0)
    before = robot.eef('right').position
    for _ in range(10):
        hand['x'] += 0.005
        robot.tick()
    np.testing.assert_allclose(robot.eef('right').position, before, atol=1e-6)
    hand['clutch'] = 1.0
    for _ in range(5):
        robot.tick()

    def forward():
        hand['x'] += 0.005

    # forward of the hand is +y of base
    start = hand['x']
    moved = robot.until_moved('right', 1, 0.05, each=forward)
    assert moved[1] <= hand['x'] - start + 1e-6
    np.testing.assert_allclose(moved[[0, 2]], 0.0, atol=1e-3)
    hand['gripper'] = 1.0

    def closed():
        robot.tick()
        return robot.position[RIGHT.stop - 1] == 0.0

    graph.until(closed, 'the gripper to close')
    publishers['gripper'].publish(Float32(data=1.5))
    robot.diagnosed(f'ignored {topics.hand("gripper", "right")}')


def test_a_twist(graph):
    graph.start('teleop', device='twist')
    publisher = graph.publisher(Twist, topics.hand('twist', 'left'), 10)
    robot = Robot(graph)
    twist = Twist()
    twist.linear.z = 1.0
    robot.feed = lambda: publisher.publish(twist)
    robot.tick()
    robot.drive(Source.TELEOP, 'left', ticks=0)
    moved = robot.until_moved('left', 2, 0.01)
    np.testing.assert_allclose(moved[:2], 0.0, atol=1e-3)
    assert np.isnan(robot.tick()[RIGHT]).all()
    # what is no robot state is not answered
    robot.proposals.clear()
    robot.states.publish(JointState(name=['left_waist'], position=[0.0]))
    broken = convert.joint_state(robot.stamp + 1.0, SPEC, robot.position)
    broken.position[3] = float('nan')
    robot.states.publish(broken)
    robot.diagnosed(f'ignored {topics.JOINT_STATES}', 2)
    assert not robot.proposals
    robot.tick()
