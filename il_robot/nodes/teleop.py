"""The teleop node: an operator's device as proposals and requests.

Callbacks hand what comes in to :class:`il_robot.control.teleop.Teleop`; every joint_states message
is answered by one proposal with the same stamp, for the arms whose operator is there. Keys and
buttons become requests at once. In a terminal the node shows who drives each arm and what the
keys do.
"""

from __future__ import annotations

import sys
import time as wall
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from glob import glob
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, Twist
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Float32 as Float32Message
from std_msgs.msg import String

from il_robot.control.stats import Rate
from il_robot.control.teleop import RobotView, Teleop
from il_robot.control.teleop_config import TeleopConfig, load_pad, load_teleop_config
from il_robot.control.teleop_screen import ScreenView, screen
from il_robot.errors import ConfigError, IlRobotError
from il_robot.kinematics import Pose
from il_robot.nodes import convert, topics
from il_robot.nodes.devices import JoystickFile, Terminal
from il_robot.nodes.node import Complaints, declare, run_node
from il_robot.resources import named_config
from il_robot.rotations import matrix_from_quaternion
from il_robot.spec import load_robot_spec
from il_robot.types import Float32

_POLL = 0.02
_DRAW = 0.1
_SILENCE = 0.5
"""Without joint_states for so long [wall s] the screen says so."""
_ARBITER_SILENCE = 2.0
"""The same for session/mode, which comes at least twice a second."""
_NOTICE = 5.0
"""How long a complaint or a notice stays on the screen [s]."""


class TeleopNode(Node):
    """See the module.

    Args:
        stack: Closes what has to be closed at the very end: the terminal.
    """

    def __init__(self, stack: ExitStack) -> None:
        super().__init__('teleop')
        fixed = partial(declare, self, read_only=True)
        robot = fixed('robot', 'sim_dual_arm', 'robot: a name in config/robots, or a file')
        self.spec = load_robot_spec(named_config('robots', robot))
        config = self._load(
            fixed('device', '', 'keyboard, gamepad, leader, pose or twist; empty: by config'),
            fixed('config', '', 'a name in config/teleop, or a file; empty: named as the device'))
        pad = fixed('pad', '', 'layout of the pad: a name in config/teleop/pads, or a file')
        speed = fixed('speed', 0.0, 'fraction of full speed to start with; 0: the configured one',
                      low=0.0, high=1.0)
        arms = fixed('arms', '', 'the arms to speak for, with commas; empty: all')
        self.teleop = Teleop(
            self.spec, config, [arm.strip() for arm in arms.split(',') if arm.strip()],
            speed or None, load_pad(pad) if pad else None)
        rate = fixed('rate', 0.0, 'most proposals per second; 0: the control rate',
                     low=0.0, high=1000.0)
        self._period = 1.0 / (rate or self.spec.rates.control)
        device_file = fixed('device_file', '', 'of the pad, such as /dev/input/js0; empty: topic '
                            f'{topics.JOY}')
        self._joystick = JoystickFile(device_file) if device_file else None
        self._complain = Complaints(self)
        self._complaint, self._notice = ('', -1e9), ('', -1e9)
        self._state: tuple[float, Float32] | None = None
        self._command: tuple[float, Float32 | None] = (-1e9, None)
        self._mode: dict[str, str] = {}
        self._drivers: dict[str, Any] = {}
        self._recorder: dict[str, str] = {}
        self._answered = -1e9
        self._heard = {'state': -1e9, 'mode': -1e9, 'draw': -1e9}
        self._states, self._proposals = Rate(), Rate()
        self._rivals = ''
        self._make_interfaces(config)
        self._terminal = self._open_terminal(config, stack)

    def _load(self, device: str, name: str) -> TeleopConfig:
        config = load_teleop_config(name or device or 'keyboard', self.spec)
        if device and config.device != device:
            raise ConfigError(f'{name} is a configuration for {config.device}, not for {device}')
        return config

    def _open_terminal(self, config: TeleopConfig, stack: ExitStack) -> Terminal | None:
        """The terminal: needed by the keyboard, welcome to any other device."""
        keyboard = config.device == 'keyboard'
        try:
            terminal = stack.enter_context(Terminal(controlling=keyboard))
        except ConfigError:
            if keyboard:
                raise
            return None
        self.teleop.terminal = True
        return terminal

    def _make_interfaces(self, config: TeleopConfig) -> None:
        self._proposal = self.create_publisher(
            JointState, topics.TELEOP_PROPOSAL, topics.PROPOSAL_QOS)
        self._request = self.create_publisher(String, topics.REQUEST, topics.REQUEST_QOS)
        self._diagnostics = self.create_publisher(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        listen = partial(self._listen, qos=topics.DEVICE_SUBSCRIBER_QOS)
        if config.gamepad and self._joystick is None:
            listen(Joy, topics.JOY, self._on_joy, qos=topics.JOY_QOS)
        if config.leader:
            listen(JointState, topics.LEADER_STATES, self._on_leader)
        for arm in self.teleop.arms:
            if config.pose:
                listen(PoseStamped, topics.hand('pose', arm), partial(self._on_hand, arm))
                listen(Float32Message, topics.hand('clutch', arm), partial(
                    self._on_fraction, topics.hand('clutch', arm),
                    partial(self.teleop.clutch, arm)))
            if config.twist:
                listen(Twist, topics.hand('twist', arm), partial(self._on_twist, arm))
            if not config.leader:
                listen(Float32Message, topics.hand('gripper', arm), partial(
                    self._on_fraction, topics.hand('gripper', arm),
                    partial(self.teleop.squeeze, arm)))
        self._listen(DiagnosticArray, topics.MODE, self._on_mode, topics.LATCHED_QOS)
        self._listen(DiagnosticArray, topics.RECORDING, self._on_recorder, topics.LATCHED_QOS)
        # A wait set is worked off in this order: the state is answered knowing the last command.
        self._listen(JointState, topics.COMMAND, self._on_command, topics.COMMAND_QOS)
        self._listen(JointState, topics.JOINT_STATES, self._on_state, topics.STATE_QOS)
        # Wall time: an operator's hands do not follow a simulation's clock.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_POLL, self._poll, clock=steady)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)

    def _listen(self, kind: Any, topic: str, callback: Callable[[Any], None], qos: Any) -> None:
        """Subscribe; a bad message is complained about and ignored."""
        def guarded(message: Any) -> None:
            try:
                callback(message)
            except IlRobotError as error:
                self._warn(topic, f'ignored a message: {error}')
        self.create_subscription(kind, topic, guarded, qos)

    def _warn(self, key: str, text: str) -> None:
        self._complain(key, text)
        self._complaint = (text, wall.monotonic())

    # -- what comes in ----------------------------------------------------------------------
    def _on_joy(self, message: Joy) -> None:
        self._ask(self.teleop.joy(*convert.joy(message, topics.JOY), wall.monotonic()))

    def _on_leader(self, message: JointState) -> None:
        ignored = self.teleop.leader(
            message.name, message.position, wall.monotonic(),
            convert.seconds(message.header.stamp))
        if ignored:
            self._warn(topics.LEADER_STATES, f'{topics.LEADER_STATES}: {ignored}')

    def _on_hand(self, arm: str, message: PoseStamped) -> None:
        topic = topics.hand('pose', arm)
        pose = convert.pose(message, topic)
        ignored = self.teleop.hand(
            arm, Pose(matrix_from_quaternion(pose[3:]), pose[:3].astype(float)),
            wall.monotonic(), convert.seconds(message.header.stamp))
        if ignored:
            self._warn(topic, f'{topic}: {ignored}')

    def _on_twist(self, arm: str, message: Twist) -> None:
        twist = convert.twist(message, topics.hand('twist', arm))
        self.teleop.twist(arm, twist, wall.monotonic())

    def _on_fraction(
        self, topic: str, take: Callable[[float, float], None], message: Float32Message
    ) -> None:
        take(convert.fraction(message, topic), wall.monotonic())

    def _on_mode(self, message: DiagnosticArray) -> None:
        _, drivers = convert.driving(message, self.spec)
        self._drivers = dict(zip((arm.name for arm in self.spec.arms), drivers))
        self._mode = convert.status_values(message)
        self._heard['mode'] = wall.monotonic()

    def _on_recorder(self, message: DiagnosticArray) -> None:
        self._recorder = convert.status_values(message)

    def _on_command(self, message: JointState) -> None:
        command = convert.positions_by_name(
            message.name, message.position, self.spec, topics.COMMAND)
        self._command = (convert.seconds(message.header.stamp), command)

    def _on_state(self, message: JointState) -> None:
        state = convert.positions_by_name(
            message.name, message.position, self.spec, topics.JOINT_STATES)
        stamp = convert.seconds(message.header.stamp)
        self._state = (stamp, state)
        now = self._heard['state'] = wall.monotonic()
        self._states.tick(now)
        if 0.0 <= stamp - self._answered < 0.9 * self._period:
            return  # the robot reports faster than proposals are wanted
        self._read_devices(now)
        self._propose(now, stamp, state)

    # -- devices ----------------------------------------------------------------------------
    def _poll(self) -> None:
        now = wall.monotonic()
        self._read_devices(now)
        if self._terminal is not None and now - self._heard['draw'] >= _DRAW:
            self._heard['draw'] = now
            self._forget_notice(now)
            self._terminal.draw(screen(self.teleop, self._view(now), *self._terminal.size()))

    def _forget_notice(self, now: float) -> None:
        text, since = self._notice
        if self.teleop.notice != text:
            self._notice = (self.teleop.notice, now)
        elif now - since > _NOTICE:
            self.teleop.notice = ''

    def _read_devices(self, now: float) -> None:
        """Keys and pad; the requests they make go out at once."""
        if self._terminal is not None:
            data = self._terminal.read()
            if data is None:
                self._lose_terminal()
            else:
                self._ask(self.teleop.keys(data, now))
        if self._joystick is not None and self._joystick.poll():
            pad = self._joystick.state
            try:
                self._ask(self.teleop.joy(pad.axes, pad.buttons, now))
            except IlRobotError as error:
                self._warn('pad', f'{self._joystick.path}: {error}')
        if self.teleop.quit:
            self.get_logger().info('quit by the operator')
            raise SystemExit(0)

    def _lose_terminal(self) -> None:
        self._terminal, self.teleop.terminal = None, False
        self.get_logger().warning('the terminal is gone')
        if self.teleop.config.device == 'keyboard':
            raise SystemExit(0)

    # -- what goes out ----------------------------------------------------------------------
    def _ask(self, requests: Sequence[str]) -> None:
        for request in requests:
            self._request.publish(String(data=request))
            self.get_logger().info(f'request {request}')

    def _propose(self, now: float, stamp: float, state: Float32) -> None:
        self._answered = stamp
        heard = now - self._heard['mode'] <= _ARBITER_SILENCE
        proposal = self.teleop.propose(now, RobotView(
            stamp, state, self._command[1], self._command[0], self._drivers if heard else {}))
        if (proposal == proposal).any():  # not all NaN
            self._proposal.publish(convert.joint_state(stamp, self.spec, proposal))
            self._proposals.tick(now)

    def _trouble(self, now: float) -> list[str]:
        """What is wrong, most urgent first."""
        out = []
        if now - self._heard['state'] > _SILENCE:
            out.append(f'no {topics.JOINT_STATES}: is sim or hardware running?')
        if self._mode.get('silent') and now - self._heard['mode'] <= _ARBITER_SILENCE:
            out.append(f'fallen silent: {self._mode["silent"]}')
        if self._rivals:
            out.append(self._rivals)
        if self._joystick is not None and self._joystick.trouble:
            out.append(self._joystick.trouble)
        if now - self._complaint[1] < _NOTICE:
            out.append(self._complaint[0])
        return out

    def _absent(self, now: float) -> tuple[str, ...]:
        return tuple(arm for arm in self.teleop.arms if not self.teleop.alive(arm, now))

    def _view(self, now: float) -> ScreenView:
        heard = now - self._heard['mode'] <= _ARBITER_SILENCE
        mode = self._mode if heard else {}
        widths = {}
        if self._state is not None:
            last = {arm: self.spec.arm_slice(arm).stop - 1 for arm in self.teleop.arms}
            widths = {arm: float(self._state[1][i]) for arm, i in last.items()}
        return ScreenView(
            mode=mode.get('mode', ''), reason=mode.get('reason', ''),
            drivers={arm: mode.get(f'driver_{arm}', '?') for arm in self.teleop.arms},
            recorder=self._recorder.get('state', ''), episode=self._recorder.get('episode', ''),
            widths=widths, trouble=tuple(self._trouble(now)), absent=self._absent(now))

    def _publish_diagnostics(self) -> None:
        now = wall.monotonic()
        rivals = self.count_publishers(topics.TELEOP_PROPOSAL) - 1
        self._rivals = (
            f'{rivals} more publish {topics.TELEOP_PROPOSAL}: stop them' if rivals > 0 else '')
        if self._terminal is not None:
            self._terminal.redraw()
        device, absent, trouble = self.teleop.config.device, self._absent(now), self._trouble(now)
        level, message = 'ok', f'{device}: operator there'
        if trouble:
            level, message = 'warn', trouble[0]
        if absent:
            level, message = 'stale', f'{device} is silent for {" and ".join(absent)}'
            self._complain('silent', message + self._advice())
        values = {
            'proposals_per_s': self._proposals.hertz(now),
            'joint_states_per_s': self._states.hertz(now), 'speed': self.teleop.fraction,
            'arms': ' '.join(self.teleop.selected),
            **{f'ignored {key}': count for key, count in self._complain.counts.items()}}
        stamp = self.get_clock().now().nanoseconds * 1e-9
        self._diagnostics.publish(
            convert.status_message(stamp, 'teleop', values, message, level))

    def _advice(self) -> str:
        """Where the device should come from."""
        if self.teleop.config.device != 'gamepad':
            return ''
        files = sorted(glob('/dev/input/js*'))
        if self._joystick is None and files:
            return (f': nobody publishes {topics.JOY}? device_file:={files[0]} reads the pad '
                    'without a joy node')
        return f': {self._joystick.trouble}' if self._joystick else f': is {topics.JOY} published?'


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the exit code."""
    with ExitStack() as stack:
        return run_node(lambda: TeleopNode(stack), args)


if __name__ == '__main__':
    sys.exit(main())
