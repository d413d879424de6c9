"""The expert node: the scripted expert behind the topics of a human operator.

It labels every observation on ``expert/proposal``, whether it drives or not; that is what DAgger
learns from. By parameter ``gate`` it also asks to drive: never, at the start of each episode
(``always``), when the robot calls for help (``called``), or by the rule of
:mod:`il_robot.control.gate_rule` (``rule``).
"""

from __future__ import annotations

import sys
import time as wall
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from il_robot.config import build, key_values
from il_robot.control.chunks import ChunkBuffer
from il_robot.control.gate_rule import (
    Driver,
    StartRule,
    TakeoverConfig,
    TakeoverRule,
    Verdict,
    disagreement,
    driver_of,
)
from il_robot.control.observe import ObservationAssembler
from il_robot.control.stats import Rate
from il_robot.errors import ConfigError, unknown
from il_robot.nodes import convert, topics
from il_robot.nodes.node import Complaints, declare, run_node
from il_robot.resources import named_config
from il_robot.sim.bimanual_env import episode_streams
from il_robot.sim.experts import Style, make_expert
from il_robot.sim.tasks import make_task
from il_robot.spec import load_robot_spec
from il_robot.statistics import Percentiles
from il_robot.types import Float32, Observation

GATES = ('never', 'always', 'called', 'rule')


class ExpertNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__('expert')
        fixed = partial(declare, self, read_only=True)
        robot = fixed('robot', 'sim_dual_arm', 'robot: a name in config/robots, or a file')
        self.spec = load_robot_spec(named_config('robots', robot))
        options = fixed('task_options', [''], 'KEY=VALUE, for example clearance=0.002')
        self._task = make_task(
            fixed('task', 'transfer_cube', 'transfer_cube, insert_peg or lift_tray'),
            key_values(list(filter(None, options)), 'task_options'))
        self._variation = fixed(
            'variation', 0.0, 'how much the style varies between episodes', low=0.0, high=1.0)
        seed = fixed('seed', 0, 'of the style, until sim/episode names one', low=0)
        max_age = fixed(
            'max_object_age', 0.1, 'oldest object pose that counts [s]', low=0.001, high=5.0)
        self._rule = self._make_rule(fixed(
            'gate', 'never', 'when to ask to drive: never, always, called or rule'))
        self._expert = self._make_expert(seed)
        self._assembler = ObservationAssembler(
            self._task.objects, period=self.spec.dt, max_age=max_age)
        self._complain = Complaints(self)
        self._rate, self._thinking = Rate(), Percentiles()
        self._episode, self._begun = '', float('-inf')
        self._stage, self._solved = 0, False
        self._call = ''
        self._driver, self._verdict = Driver.NOBODY, Verdict('', float('nan'), float('nan'))
        self._label: tuple[float, Float32] | None = None
        self._policy = ''
        self._buffer: ChunkBuffer | None = None
        self._recording = ('', '')
        self._make_interfaces()

    def _make_rule(self, gate: str) -> StartRule | TakeoverRule | None:
        default = TakeoverConfig()
        config = build(TakeoverConfig, {
            name: declare(self, f'rule.{name}', value, meaning, low=0.0, read_only=True)
            for name, value, meaning in (
                ('engage_distance', default.engage_distance,
                 'disagreement from which to take over [rad]'),
                ('release_distance', default.release_distance,
                 'disagreement under which to give back [rad]'),
                ('window', default.window, 'over which it is averaged [s]'),
                ('stall_time', default.stall_time, 'without progress: take over [s]'),
                ('min_correction', default.min_correction, 'shortest correction [s]'),
                ('max_correction', default.max_correction, 'longest correction [s]'))}, 'rule')
        if gate not in GATES:
            raise ConfigError(unknown('gate', gate, GATES))
        return {'never': None, 'always': StartRule(), 'called': StartRule(starts=False),
                'rule': TakeoverRule(config)}[gate]

    def _make_expert(self, seed: int) -> Any:
        style = Style.sample(episode_streams(seed)['style'], self._variation)
        return make_expert(self._task, self.spec, style)

    def _make_interfaces(self) -> None:
        self._proposal = self.create_publisher(
            JointState, topics.EXPERT_PROPOSAL, topics.PROPOSAL_QOS)
        self._request = self.create_publisher(String, topics.REQUEST, topics.REQUEST_QOS)
        self._diagnostics = self.create_publisher(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        # What belongs to joint states is published before them, and a wait set is worked off in
        # this order.
        self._listen(DiagnosticArray, topics.SIM_EPISODE, self._on_episode, topics.LATCHED_QOS)
        for name in self._task.objects:
            self._listen(PoseStamped, topics.object_pose(name), partial(self._on_object, name),
                         topics.STATE_QOS)
        if self._rule is not None:
            for topic, callback in ((topics.MODE, self._on_mode),
                                    (topics.RECORDING, self._on_recording),
                                    (topics.POLICY_STATUS, self._on_policy_status)):
                self._listen(DiagnosticArray, topic, callback, topics.LATCHED_QOS)
            self._listen(JointTrajectory, topics.POLICY_PROPOSAL, self._on_chunk,
                         topics.CHUNK_QOS)
        self._listen(JointState, topics.JOINT_STATES, self._on_state, topics.STATE_QOS)
        self.create_timer(1.0, self._publish_diagnostics,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _listen(self, kind: Any, topic: str, callback: Callable[[Any], None], qos: Any) -> None:
        """Subscribe; a bad message is complained about and ignored."""
        self.create_subscription(kind, topic, self._complain.guard(topic, callback), qos)

    # -- what comes in ----------------------------------------------------------------------
    def _on_episode(self, message: DiagnosticArray) -> None:
        values = convert.status_values(message)
        try:
            seed, self._stage = int(values['seed']), int(values['stage'])
            self._solved = values['terminated'] == 'true'
            episode, task = values['episode'], values['task']
        except (KeyError, ValueError) as error:
            raise ConfigError(f'{topics.SIM_EPISODE}: {error} is missing or wrong') from None
        if task != self._task.name:
            self._complain('task', f'the simulator runs {task}, this expert solves '
                           f'{self._task.name}; set parameter task of one of them')
        if episode != self._episode:
            self._episode, self._begun = episode, convert.seconds(message.header.stamp)
            self._expert = self._make_expert(seed)
            self._begin()

    def _on_recording(self, message: DiagnosticArray) -> None:
        values = convert.status_values(message)
        state = (values.get('state', ''), values.get('episode', ''))
        if state[0] == 'recording' and state != self._recording:
            self._begin()
        self._recording = state

    def _begin(self) -> None:
        """An episode starts."""
        if self._rule is not None:
            self._rule.reset()
        if self._buffer is not None:
            self._buffer.clear()
        self._label = None

    def _on_object(self, name: str, message: PoseStamped) -> None:
        pose = convert.pose(message, topics.object_pose(name))
        self._assembler.put_object(name, convert.seconds(message.header.stamp), pose)
        self._answer()

    def _on_mode(self, message: DiagnosticArray) -> None:
        self._driver = driver_of(*convert.driving(message, self.spec))
        self._call = convert.status_values(message).get('help', '')

    def _on_policy_status(self, message: DiagnosticArray) -> None:
        policy, buffer = convert.chunk_buffer(message, self.spec)
        if policy != self._policy:
            self._policy, self._buffer = policy, buffer

    def _on_chunk(self, message: JointTrajectory) -> None:
        # A chunk of the last episode may still have been on its way.
        if self._buffer is not None and convert.seconds(message.header.stamp) >= self._begun:
            self._buffer.push(convert.chunk(message, self.spec, topics.POLICY_PROPOSAL))

    def _on_state(self, message: JointState) -> None:
        state = convert.positions_by_name(
            message.name, message.position, self.spec, topics.JOINT_STATES)
        why = self._assembler.put_state(convert.seconds(message.header.stamp), state)
        if why:
            self._complain(topics.JOINT_STATES, f'ignored a message: {why}')
        self._answer()

    # -- what goes out ----------------------------------------------------------------------
    def _answer(self) -> None:
        """Label the newest observation once it is complete."""
        observation = self._assembler.take()
        if observation is None:
            return
        begun = wall.perf_counter()
        label = self._expert(observation).position
        if self._rule is not None:
            # The request first: it then counts for the decision this proposal is part of.
            self._ask(observation)
        self._label = (observation.stamp, label)
        self._proposal.publish(convert.joint_state(observation.stamp, self.spec, label))
        now = wall.perf_counter()
        self._thinking.add(now - begun)
        self._rate.tick(now)

    def _ask(self, observation: Observation) -> None:
        """Ask the rule, and request what it says.

        It compares the last label, not this one: the policy's answer to this observation may
        still be on its way.
        """
        distance = None
        if self._label is not None and self._buffer is not None:
            stamp, label = self._label
            action = self._buffer.action(stamp)
            if action is not None:
                distance = disagreement(action, label, self.spec)
        if self._solved:
            return
        assert self._rule is not None
        self._verdict = self._rule.update(
            observation.stamp, self._driver, distance, self._stage, self._call)
        if self._verdict.request:
            self._request.publish(String(data=self._verdict.request))
            self.get_logger().info(f'{self._verdict.request}: {self._verdict.reason}')

    def _publish_diagnostics(self) -> None:
        missing = [topics.object_pose(name) for name in self._assembler.missing()]
        rate = self._rate.hertz(wall.perf_counter())
        level, message = 'ok', f'solves {self._task.name}'
        if missing:
            level, message = 'warn', f'waiting for {", ".join(missing)}'
            self._complain('objects', f'{message}; does the simulator run {self._task.name}?')
        elif rate == 0:
            level, message = 'stale', f'no {topics.JOINT_STATES}'
        values: dict[str, Any] = {
            'labels_per_s': rate, 'driver': self._driver.value,
            'disagreement': self._verdict.value, 'threshold': self._verdict.threshold,
            **{f'thinking_{k}_ms': 1e3 * v for k, v in self._thinking.values().items()},
            **{f'ignored {k}': v for k, v in self._complain.counts.items()}}
        now = self.get_clock().now().nanoseconds * 1e-9
        self._diagnostics.publish(
            convert.status_message(now, 'expert', values, message, level))


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the exit code."""
    return run_node(ExpertNode, args)


if __name__ == '__main__':
    sys.exit(main())
