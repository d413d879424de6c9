"""The gate node: decides live when the expert takes over from the policy and when he gives back.

The same gates as without ROS (:mod:`il_robot.control.gates`), once for each answer of the policy
(:mod:`il_robot.control.gate_watch`). Those by which the robot itself calls (ensemble, safe, lazy,
thrifty) request ``help``: the arms stand until somebody comes. ``beta`` and ``human`` request
``engage``.
``gate/state`` has every verdict: the number looked at, the threshold, the reason.

Thresholds that were learned for a policy come with it on ``policy/status``; a policy that is
swapped brings its own.
"""

from __future__ import annotations

import sys
import time as wall
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from il_robot.config import key_values
from il_robot.control.gate_rule import driver_of
from il_robot.control.gate_thresholds import with_thresholds
from il_robot.control.gate_watch import LEARNED, GateWatch
from il_robot.control.gates import Gate, Signals, Verdict, make_gate
from il_robot.control.stats import Rate
from il_robot.errors import ConfigError
from il_robot.nodes import convert, topics
from il_robot.nodes.node import Complaints, declare, run_node
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec

_THRESHOLD = 'threshold '


class GateNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__('gate')
        fixed = partial(declare, self, read_only=True)
        robot = fixed('robot', 'sim_dual_arm', 'robot: a name in config/robots, or a file')
        self.spec = load_robot_spec(named_config('robots', robot))
        self._name = fixed(
            'gate', 'ensemble', 'beta, human, ensemble, safe, lazy or thrifty (never: only watch)')
        self._options = key_values(list(filter(None, fixed(
            'options', [''], 'KEY=VALUE of the gate, instead of learned thresholds'))), 'options')
        self._seed = fixed('seed', 0, 'of chance, until sim/episode names one', low=0)
        self._watch = GateWatch(self.spec, self._make_gate({}))
        self._complain = Complaints(self)
        self._rate = Rate()
        self._episode, self._policy = '', ''
        self._last: tuple[Signals, Verdict] | None = None
        self._make_interfaces()

    def _make_gate(self, thresholds: dict[str, float]) -> Gate:
        return make_gate(
            self._name, {**with_thresholds(self._name, {}, thresholds), **self._options})

    def _make_interfaces(self) -> None:
        self._state = self.create_publisher(
            DiagnosticArray, topics.GATE_STATE, topics.CHUNK_QOS)
        self._request = self.create_publisher(String, topics.REQUEST, topics.REQUEST_QOS)
        self._diagnostics = self.create_publisher(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        for kind, topic, callback, qos in (
            (DiagnosticArray, topics.SIM_EPISODE, self._on_episode, topics.LATCHED_QOS),
            (DiagnosticArray, topics.MODE, self._on_mode, topics.LATCHED_QOS),
            (DiagnosticArray, topics.POLICY_STATUS, self._on_policy, topics.LATCHED_QOS),
            (DiagnosticArray, topics.POLICY_ASSESSMENT, self._on_assessment, topics.CHUNK_QOS),
            (JointState, topics.EXPERT_PROPOSAL, self._on_label, topics.PROPOSAL_QOS),
            (JointTrajectory, topics.POLICY_PROPOSAL, self._on_chunk, topics.CHUNK_QOS),
        ):
            self.create_subscription(kind, topic, self._then_decide(topic, callback), qos)
        self.create_timer(1.0, self._publish_diagnostics,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _then_decide(self, topic: str, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """After every message, decide."""
        take = self._complain.guard(topic, callback)

        def act(message: Any) -> None:
            take(message)
            self._decide()
        return act

    # -- what comes in ----------------------------------------------------------------------
    def _on_episode(self, message: DiagnosticArray) -> None:
        values = convert.status_values(message)
        try:
            episode, seed, stage = values['episode'], int(values['seed']), int(values['stage'])
            over = values['terminated'] == 'true'
        except (KeyError, ValueError) as error:
            raise ConfigError(f'{topics.SIM_EPISODE}: {error} is missing or wrong') from None
        if episode != self._episode:
            self._episode, self._seed = episode, seed
            self._begin()
        self._watch.progress(stage, over)

    def _begin(self) -> None:
        # as the rounds without ROS seed it, for equal episodes
        self._watch.begin(np.random.default_rng([self._seed, 3]))

    def _on_mode(self, message: DiagnosticArray) -> None:
        self._watch.drive(driver_of(*convert.driving(message, self.spec)))

    def _on_policy(self, message: DiagnosticArray) -> None:
        policy, buffer = convert.chunk_buffer(message, self.spec)
        if policy == self._policy:
            return
        self._policy = policy
        try:
            learned = {key.removeprefix(_THRESHOLD): float(value)
                       for key, value in convert.status_values(message).items()
                       if key.startswith(_THRESHOLD)}
        except ValueError as error:
            raise ConfigError(f'{topics.POLICY_STATUS}: {error}') from None
        self._watch.replace(self._make_gate(learned), buffer)
        self._begin()
        self.get_logger().info(f'{policy.split()[0]} is watched by {self._watch.gate}')

    def _on_chunk(self, message: JointTrajectory) -> None:
        self._watch.chunk(convert.chunk(message, self.spec, topics.POLICY_PROPOSAL))

    def _on_label(self, message: JointState) -> None:
        self._watch.label(convert.seconds(message.header.stamp), convert.positions_by_name(
            message.name, message.position, self.spec, topics.EXPERT_PROPOSAL))

    def _on_assessment(self, message: DiagnosticArray) -> None:
        values = convert.status_values(message)
        try:
            signals = {name: float(values[name]) for name in LEARNED}
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f'{topics.POLICY_ASSESSMENT}: {error} is missing or wrong') from None
        self._watch.think(convert.seconds(message.header.stamp), signals)

    # -- what goes out ----------------------------------------------------------------------
    def _decide(self) -> None:
        decided = self._watch.decide()
        if decided is None:
            return
        self._last = signals, verdict = decided
        self._rate.tick(wall.perf_counter())
        word = self._watch.request(signals, verdict)
        if word:
            text = f'help {verdict.reason}' if word == 'help' else word
            self._request.publish(String(data=text))
            self.get_logger().info(f'{word}: {verdict.reason}')
        values = asdict(signals)
        values.pop('wish')
        self._state.publish(convert.status_message(values.pop('now'), topics.GATE_STATE, {
            'gate': self._watch.gate.name, 'move': verdict.move.value,
            'value': repr(verdict.value), 'threshold': repr(verdict.threshold), 'request': word,
            **{key: repr(v) if isinstance(v, float) else v for key, v in values.items()}},
            verdict.reason))

    def _publish_diagnostics(self) -> None:
        rate = self._rate.hertz(wall.perf_counter())
        level, message = 'ok', f'gate {self._watch.gate.name}'
        needed = self._watch.gate.needs.intersection(LEARNED)
        if needed and not self.count_publishers(topics.POLICY_ASSESSMENT):
            level = 'warn'
            message = (f'gate {self._watch.gate.name} looks at {", ".join(sorted(needed))}, but '
                       f'nobody publishes {topics.POLICY_ASSESSMENT}: start the policy node '
                       'with assess:=true')
            self._complain('assessment', message)
        values: dict[str, Any] = {
            'verdicts_per_s': rate,
            **{f'ignored {k}': v for k, v in self._complain.counts.items()}}
        if self._last is not None:
            values |= {'value': self._last[1].value, 'threshold': self._last[1].threshold}
        now = self.get_clock().now().nanoseconds * 1e-9
        self._diagnostics.publish(convert.status_message(now, 'gate', values, message, level))


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the exit code."""
    return run_node(GateNode, args)


if __name__ == '__main__':
    sys.exit(main())
