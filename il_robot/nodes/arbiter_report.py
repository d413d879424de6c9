"""What the arbiter says of itself and of the graph: ``session/mode``, diagnostics, the log."""

from __future__ import annotations

import math
import time as wall
from collections import Counter
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from il_robot.control.decision import Decision
from il_robot.control.roll_call import RollCall
from il_robot.nodes import convert, topics
from il_robot.nodes.node import Complaints
from il_robot.spec import RobotSpec
from il_robot.statistics import Percentiles
from il_robot.types import ControlMode

_NODES = ('sim', 'hardware', 'teleop', 'expert', 'policy', 'gate', 'recorder')
"""Whose end is worth a word, since nobody else may notice it."""
_STATE_SILENCE = 0.25
"""Without joint_states for so long [wall s] the robot is reported as lost."""


class ArbiterReport:
    """Publishes and logs; decides nothing.

    Args:
        node: Whose publishers they are.
        spec: The robot.
        complain: Says what is wrong, now and then.
        lockstep: Whether a silent robot may just be waiting.
    """

    def __init__(
        self, node: Node, spec: RobotSpec, complain: Complaints, *, lockstep: bool
    ) -> None:
        self._node, self._spec = node, spec
        self._complain, self._lockstep = complain, lockstep
        self._mode = node.create_publisher(DiagnosticArray, topics.MODE, topics.LATCHED_QOS)
        self._diagnostics = node.create_publisher(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        node.create_subscription(
            DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, topics.DIAGNOSTICS_QOS)
        self._roll = RollCall(_NODES)
        self._last: Decision | None = None
        self._since = math.inf
        self._stopped = ''
        self._latencies: list[float] = []
        self.policy_age = Percentiles()
        """From the observation behind a policy's chunk to the command made of it [s]."""
        self.counts: Counter[str] = Counter()
        self.heard = 0.0
        """When joint_states came last [wall s]."""

    @property
    def silent(self) -> bool:
        """Whether the robot has not reported its state for a while."""
        return wall.perf_counter() - self.heard > _STATE_SILENCE

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        if message.status:
            self._roll.heard(message.status[0].name)

    def decided(self, stamp: float, decision: Decision, latency: float | None) -> None:
        """Take note of a decision.

        Args:
            stamp: Of the command [s].
            decision: What was decided.
            latency: From the arrival of the joint_states to the command [s]; None where none
                arrived.
        """
        before, self._last, self._stopped = self._last, decision, ''
        if decision.changed or stamp < self._since:
            self._since = stamp
        if latency is not None:
            self._latencies.append(latency)
        logger = self._node.get_logger()
        if decision.changed:
            text = f'{decision.mode.name}: {decision.reason}'
            if decision.fault or decision.help:
                logger.warning(text)
            else:
                logger.info(text)
            self.publish_mode()
        if before is not None and decision.discarded != before.discarded:
            logger.info(f'correction {decision.discarded[-1]} is discarded: it teaches nothing')
        for text in decision.refused:
            self._complain(f'refused {text}', f'refused {text}')
        if decision.limited:
            self.counts['limited'] += 1
            self._complain('limit', f'command limited: {decision.limited}')

    def stopped(self, reason: str) -> None:
        """A stop that the next decision will carry out, when the robot reports its state again."""
        self._stopped = reason
        self._node.get_logger().warning(f'STOPPED: {reason}')
        self.publish_mode()

    def publish_mode(self) -> None:
        """With the stamp of the first command it is true for, however often it is said."""
        decision = self._last
        if self._stopped:
            self._publish_stop()
            return
        if decision is None:
            return
        values: dict[str, Any] = {'mode': decision.mode.name}
        for arm, driver in zip(self._spec.arms, decision.drivers):
            values[f'driver_{arm.name}'] = driver.name.lower()
        values |= {
            'intervention': decision.intervention, 'correction': decision.correction,
            'discarded': ' '.join(map(str, decision.discarded)),
            'suspended': decision.suspended, 'help': decision.help, 'reason': decision.reason}
        values['silent'] = ' '.join(self._roll.silent)
        self._mode.publish(convert.status_message(
            self._since, topics.MODE, values, decision.reason,
            'warn' if decision.fault or decision.help else 'ok'))

    def _publish_stop(self) -> None:
        now = self._node.get_clock().now().nanoseconds * 1e-9
        nobody = {f'driver_{arm.name}': 'hold' for arm in self._spec.arms}
        self._mode.publish(convert.status_message(now, topics.MODE, {
            'mode': ControlMode.STOPPED.name, **nobody, 'intervention': False, 'correction': 0,
            'discarded': '', 'suspended': False, 'help': '', 'reason': self._stopped,
            'silent': ' '.join(self._roll.silent)}, self._stopped, 'warn'))

    def _call_roll(self) -> None:
        """Say once that a node fell silent, and once that it is back."""
        gone, back = self._roll.call()
        for name in gone:
            self._node.get_logger().warning(
                f'{name} has fallen silent: it was ended, died, or hangs')
        for name in back:
            self._node.get_logger().info(f'{name} is back')

    def publish_diagnostics(self) -> None:
        """Once a second: who is there, who is not, and how fast commands leave."""
        latencies, self._latencies = sorted(self._latencies), []
        self._call_roll()
        level, message = self._judge()
        values: dict[str, Any] = {
            'nodes': ' '.join(self._roll.present), 'silent': ' '.join(self._roll.silent),
            'decisions_per_s': len(latencies), **self.counts}
        if latencies:
            for percent in (50, 95, 99):
                index = min(len(latencies) - 1, len(latencies) * percent // 100)
                values[f'latency_p{percent}_ms'] = 1e3 * latencies[index]
        values |= {f'policy_age_{k}_ms': 1e3 * v for k, v in self.policy_age.values().items()}
        values |= {f'ignored {k}': v for k, v in self._complain.counts.items()}
        now = self._node.get_clock().now().nanoseconds * 1e-9
        self._diagnostics.publish(
            convert.status_message(now, 'arbiter', values, message, level))

    def _judge(self) -> tuple[str, str]:
        """Level and message of the diagnostics, the worst last."""
        level, message = 'ok', 'waiting for joint_states'
        if self._last is not None:
            message = self._last.mode.name
            if self._last.fault or self._last.help:
                level, message = 'warn', f'{message}: {self._last.reason}'
        if self._roll.silent:
            level, message = 'warn', f'{message}; silent: {", ".join(self._roll.silent)}'
        rivals = self._node.count_publishers(topics.COMMAND) - 1
        if rivals > 0:
            level = 'error'
            message = f'{rivals} other publisher(s) on {topics.COMMAND}: stop them'
            self._complain('rivals', f'{message} (one that died goes by itself within 20 s)')
        elif self.silent and not self._lockstep:
            level, message = 'stale', 'no joint_states: is sim or hardware running?'
            if self._last is not None:
                self._complain('state', message)
        return level, message
