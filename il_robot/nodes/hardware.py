"""The hardware node: a real robot behind the topics of the simulated one.

Joint states of its drivers come in, set-points for its ros2_control controllers go out; names,
units and limits are those of the robot file's ``hardware`` section. A lifecycle node:
``configure`` listens and compares the robot with its file, ``activate`` is refused while they do
not fit, and from then on the arms follow ``command``. With ``autostart`` (the default) both happen
by themselves, the second once everything fits.
"""

from __future__ import annotations

import sys
import time as wall
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from il_robot.control.hardware import Hardware, Phase, Tick
from il_robot.control.hardware_check import Findings, UrdfLimit, check, urdf_limits
from il_robot.errors import ConfigError, IlRobotError
from il_robot.nodes import convert, topics
from il_robot.nodes.controllers import Link, gripper_command, open_links
from il_robot.nodes.node import Complaints, declare, events_executor, run_node
from il_robot.nodes.writers import Writers
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec
from il_robot.types import Float64

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
_LEVELS = {
    Phase.WAITING: 'ok', Phase.STARTING: 'ok', Phase.STREAMING: 'ok', Phase.HOLDING: 'warn',
    Phase.LOST: 'error'}
# Rates are measured over so long [s]; a window cut short by a transition does not count.
_WINDOW = 1.0


class HardwareNode(LifecycleNode):
    """See the module."""

    def __init__(self) -> None:
        super().__init__('hardware')
        robot = declare(self, 'robot', 'sim_dual_arm', 'robot: a name in config/robots, or a file',
                        read_only=True)
        self.spec = load_robot_spec(named_config('robots', robot))
        rate = declare(self, 'rate', 0.0, "set-points per second; 0: the robot file's",
                       low=0.0, high=1000.0, read_only=True)
        self.hardware = Hardware(self.spec, rate=rate, command_timeout=declare(
            self, 'command_timeout', 0.2, 'age from which a command no longer counts [s]',
            low=0.02, high=10.0, read_only=True))
        self._dry_run = declare(
            self, 'dry_run', False, f'send nothing; show on {topics.DRY_RUN} what would be sent',
            read_only=True)
        self._autostart = declare(
            self, 'autostart', True, 'configure, and activate once everything fits')
        self._refuse_what_cannot_work()
        self._complain = Complaints(self)
        self._counts: Counter[str] = Counter()
        self._active = False
        self._links: Sequence[Link] = ()
        self._inputs: list[Subscription] = []
        self._descriptions: dict[str, dict[str, UrdfLimit]] = {}
        self._findings: Findings | None = None
        self._checked_since = 0.0
        self._tick = Tick(Phase.WAITING, 'no command yet')
        self._since = wall.monotonic()
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        self.create_timer(_WINDOW, self._each_second, clock=self._steady)

    def _refuse_what_cannot_work(self) -> None:
        for controller in self.spec.wiring.controllers:
            if controller.kind == 'gripper_action':
                gripper_command(controller.topic)
        ours = self.resolve_topic_name(topics.JOINT_STATES)
        for source in self.spec.wiring.sources:
            if self.resolve_topic_name(source.topic) == ours:
                raise ConfigError(
                    f"the driver's {source.topic} is also the name of our own joint_states: start "
                    'the driver in a namespace, or give its joint_state_broadcaster '
                    'use_local_topics')

    # -- life cycle -------------------------------------------------------------------------
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen to the drivers and look for the controllers."""
        wiring = self.spec.wiring
        self._links = open_links(self, wiring, dry_run=self._dry_run)
        subscribe = self.create_subscription
        self._inputs = [
            subscribe(JointState, source.topic, partial(self._on_state, number),
                      topics.DRIVER_STATE_QOS) for number, source in enumerate(wiring.sources)]
        self._inputs += [
            subscribe(String, topic, partial(self._on_description, topic), topics.LATCHED_QOS)
            for topic in {j.description for j in wiring.joints} - {''}]
        self._states = self.create_publisher(JointState, topics.JOINT_STATES, topics.STATE_QOS)
        self._writers = Writers(self, topics.COMMAND)
        self._inputs.append(subscribe(
            JointState, topics.COMMAND, self._on_command, topics.COMMAND_QOS,
            event_callbacks=self._writers.events))
        self._restart_window(wall.monotonic())
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Follow commands, unless something does not fit."""
        if self._findings is not None and self._findings.problems:
            self.get_logger().error('refused:\n  ' + '\n  '.join(self._findings.problems))
            return FAILURE
        if self._findings is None or not self.hardware.checked(self._checked_since):
            self.get_logger().error('still measuring; activate again in a moment')
            return FAILURE
        for note in self._findings.notes:
            self.get_logger().info(note)
        self._tick = Tick(Phase.WAITING, 'no command yet')
        self._streamer = self.create_timer(
            self.hardware.period, self._on_tick, clock=self._steady)
        self._active = True
        self.get_logger().info(
            f'{self.spec.name}: everything fits' + ('; dry run' if self._dry_run else ''))
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Send nothing any more; the controllers keep what they have."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop listening."""
        for link in self._links:
            link.close()
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self.destroy_publisher(self._states)
        self._links, self._inputs, self._findings = (), [], None
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From any state: stop."""
        self._stop()
        return super().on_shutdown(state)

    def _stop(self) -> None:
        # Who stops the node by hand does not want it to start again by itself.
        self._autostart = False
        if self._active:
            self._active = False
            self.destroy_timer(self._streamer)
            self.hardware.distrust('deactivated', wall.monotonic())

    # -- what comes in ----------------------------------------------------------------------
    def _ros_time(self) -> float:
        return float(self.get_clock().now().nanoseconds) * 1e-9

    def _on_state(self, source: int, message: JointState) -> None:
        now = wall.monotonic()
        wrong = self.hardware.measurements.put(
            source, message.name, message.position, message.velocity, message.effort,
            stamp=convert.seconds(message.header.stamp), clock=self._ros_time(), now=now)
        if wrong:
            self._complain(self.spec.wiring.sources[source].topic, wrong)
        state = self.hardware.state(now) if self._active else None
        if state is not None:
            self._counts['joint_states_per_s'] += 1
            self._states.publish(convert.joint_state(
                state.stamp, self.spec, state.position, _known(state.velocity),
                _known(state.effort)))

    def _on_description(self, topic: str, message: String) -> None:
        try:
            self._descriptions[topic] = urdf_limits(message.data)
        except ValueError as error:
            self._complain(topic, f'{topic}: {error}')

    def _on_command(self, message: JointState) -> None:
        if not self._active or self._rivals():
            return
        try:
            position = convert.positions_by_name(
                message.name, message.position, self.spec, topics.COMMAND)
        except IlRobotError as error:
            self._complain(topics.COMMAND, f'ignored a message: {error}')
            return
        wrong = self.hardware.command(
            convert.seconds(message.header.stamp), position, wall.monotonic())
        if wrong:
            self._complain(f'{topics.COMMAND} {wrong}', f'ignored a {topics.COMMAND} {wrong}')
        else:
            self._counts['commands_per_s'] += 1

    def _rivals(self) -> int:
        """Nodes that write the command beside one."""
        return max(0, self._writers.count() - 1)

    # -- what goes out ----------------------------------------------------------------------
    def _on_tick(self) -> None:
        tick = self.hardware.tick(wall.monotonic(), rivals=self._rivals())
        if tick.phase is Phase.LATE:
            self._counts['stalls'] += 1
            return
        before, self._tick = self._tick.phase, tick
        if tick.phase is not before:
            self._say(tick)
        elif tick.phase is Phase.STREAMING and tick.reason:
            self._complain('lead', tick.reason)
        if tick.rows is None or tick.goal is None:
            return
        rows, goal = self.hardware.to_driver(tick.rows), self.hardware.to_driver(tick.goal)
        for link in self._links:
            link.send(self._ros_time(), rows, goal, self.hardware.period)
        self._counts['setpoints_per_s'] += 1

    def _say(self, tick: Tick) -> None:
        text = ': '.join(filter(None, [tick.phase.value, tick.reason]))
        level = _LEVELS[tick.phase]
        # One line each: rclpy lets a line of code log with one severity only.
        if level == 'error':
            self.get_logger().error(text)
        elif level == 'warn':
            self.get_logger().warning(text)
        else:
            self.get_logger().info(text)

    # -- once a second ----------------------------------------------------------------------
    def _each_second(self) -> None:
        now = wall.monotonic()
        if self._links and now - self._since > 0.9 * _WINDOW:
            self._findings, self._checked_since = self._check(now), self._since
        if self._active and self._findings is not None:
            self._watch(self._findings, now)
        elif self._autostart and not self._links:
            self.trigger_configure()
        elif self._autostart and self._findings is not None:
            if self._findings.problems:
                self._refuse(self._findings.problems)
            else:
                self.trigger_activate()
        self._publish_diagnostics(now)
        self._restart_window(now)

    def _watch(self, findings: Findings, now: float) -> None:
        """While active: stop where the robot is no longer the one that was checked."""
        if findings.wrong:
            self.hardware.distrust(findings.wrong[0], now)
        if self._tick.phase is Phase.LOST and findings.problems:
            self._refuse(findings.problems)
        elif not findings.problems and self._tick.phase is Phase.LOST:
            self.hardware.checked(self._checked_since)

    def _refuse(self, problems: Sequence[str]) -> None:
        # Numbers change from second to second; what is said once is what the problems are about.
        about = ', '.join(dict.fromkeys(text.split(':')[0] for text in problems))
        self._complain(f'refused {about}', 'the arms stay where they are until this fits:\n  '
                       + '\n  '.join(problems))

    def _check(self, now: float) -> Findings:
        found = check(
            self.spec.wiring, self.hardware.measurements, now,
            controllers=[link.seen() for link in self._links],
            descriptions=self._descriptions, dry_run=self._dry_run)
        if self.count_publishers(self._states.topic_name) > 1:
            found.wrong.append(
                f'another node publishes {self._states.topic_name}: stop it (a second hardware, '
                'or sim?)')
        return found

    def _restart_window(self, now: float) -> None:
        self._since = now
        self.hardware.measurements.count_from(now)
        for key in [k for k in self._counts if k.endswith('_per_s')]:
            del self._counts[key]
        for link in self._links:
            link.ask()

    def _publish_diagnostics(self, now: float) -> None:
        problems = self._findings.problems if self._findings is not None else []
        if self._active:
            level, message = _LEVELS[self._tick.phase], self._tick.reason or 'streaming'
            if self._tick.phase is Phase.STREAMING and self._tick.reason:
                level = 'warn'  # the arms do not follow
            elif problems and level == 'ok':
                level, message = 'warn', problems[0]
        elif problems:
            level, message = 'error', f'refused: {problems[0]}'
        else:
            level, message = 'warn', 'inactive' if self._links else 'not configured'
        seconds = max(now - self._since, 1e-9)
        values: dict[str, Any] = {
            'phase': self._tick.phase.value if self._active else 'inactive',
            'dry_run': self._dry_run,
            **{k: v / seconds if k.endswith('_per_s') else v for k, v in self._counts.items()},
            **self._source_values(now),
            **{f'problem_{i}': text for i, text in enumerate(problems, 1)},
            **{f'ignored {k}': v for k, v in self._complain.counts.items()
               if not k.startswith('refused')}}
        self._diagnostics.publish(
            convert.status_message(self._ros_time(), 'hardware', values, message, level))

    def _source_values(self, now: float) -> dict[str, float]:
        measurements = self.hardware.measurements
        rates, values = measurements.rates(now), {}
        for number, source in enumerate(self.spec.wiring.sources):
            joints = list(source.joints)
            values[f'{source.topic} hz'] = float(rates[joints].min())
            values[f'{source.topic} age_ms'] = 1e3 * (
                now - float(measurements.arrival[joints].min()))
            values[f'{source.topic} clock_ms'] = 1e3 * measurements.skew[number]
        return values


def _known(values: Float64) -> Float64 | None:
    """None where a driver tells nothing at all."""
    return None if np.isnan(values).all() else values


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the exit code."""
    return run_node(HardwareNode, args, events_executor, real_time=True)


if __name__ == '__main__':
    sys.exit(main())
