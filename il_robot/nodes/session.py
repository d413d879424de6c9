"""The session node: runs episodes unattended and writes how they went.

It does what an operator would do with a few keys (:mod:`il_robot.control.session`), through the
same requests and services. It ends by itself after the last episode.
"""

from __future__ import annotations

import json
import os
import sys
import time as wall
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.client import Client
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from il_robot.control.session import RESET, EpisodeOutcome, Phase, Session, SessionConfig, View
from il_robot.errors import ConfigError
from il_robot.nodes import convert, topics
from il_robot.nodes.node import declare, run_node
from il_robot.statistics import wilson
from il_robot.types import ControlMode

_PERIOD = 0.02


class SessionNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__('session')
        declare(self, 'robot', 'sim_dual_arm', 'robot: a name in config/robots, or a file')
        driver = declare(self, 'driver', 'policy', 'who starts: policy or human', read_only=True)
        if driver not in ('policy', 'human'):
            raise ConfigError(f"driver: 'policy' or 'human', got {driver!r}")
        config = SessionConfig(
            episodes=declare(self, 'episodes', 10, 'how many', low=1, read_only=True),
            driver=driver,
            record=declare(self, 'record', False, 'whether a recorder takes part',
                           read_only=True),
            max_seconds=declare(self, 'max_seconds', 8.0, 'longest episode [s of robot time]',
                                low=0.1, read_only=True))
        self._task = declare(self, 'task', '', 'written into the results', read_only=True)
        output = declare(self, 'output', '', 'folder of session.json; empty: none',
                         read_only=True)
        self._file = Path(output) / 'session.json' if output else None
        self.session = Session(config)
        self._view: dict[str, Any] = {}
        self._reported = 0
        self._begun = wall.monotonic()
        self._request = self.create_publisher(String, topics.REQUEST, topics.REQUEST_QOS)
        self._reset: Client[Trigger.Request, Trigger.Response] = self.create_client(
            Trigger, topics.SIM_RESET)
        subscribe = self.create_subscription
        subscribe(JointState, topics.JOINT_STATES, self._on_state, topics.STATE_QOS)
        for topic, callback in (
            (topics.SIM_EPISODE, self._on_episode), (topics.MODE, self._on_mode),
            (topics.RECORDING, self._on_recorder), (topics.POLICY_STATUS, self._on_policy),
        ):
            subscribe(DiagnosticArray, topic, callback, topics.LATCHED_QOS)
        self.create_timer(_PERIOD, self._step, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # -- what comes in ----------------------------------------------------------------------
    def _on_state(self, message: JointState) -> None:
        self._view['stamp'] = convert.seconds(message.header.stamp)
        if self.session.phase is Phase.RUN:
            self._step()  # a fast simulation must not wait for the timer

    def _on_episode(self, message: DiagnosticArray) -> None:
        values = convert.status_values(message)
        try:
            self._view |= {
                'episode': int(values['episode']), 'seed': int(values['seed']),
                'success': values['success'] == 'true',
                'terminated': values['terminated'] == 'true',
                'stage_name': values['stage_name']}
        except (KeyError, ValueError) as error:
            self.get_logger().warning(f'{topics.SIM_EPISODE}: {error!r} is missing or wrong')

    def _on_mode(self, message: DiagnosticArray) -> None:
        name = convert.status_values(message).get('mode', '')
        if name in ControlMode.__members__:
            self._view['mode'] = ControlMode[name]

    def _on_recorder(self, message: DiagnosticArray) -> None:
        self._view['recorder'] = convert.status_values(message).get('state')

    def _on_policy(self, message: DiagnosticArray) -> None:
        values = convert.status_values(message)
        self._view['policy_ready'] = values.get('state', 'active') == 'active'

    # -- what goes out ----------------------------------------------------------------------
    def _step(self) -> None:
        for word in self.session.step(wall.monotonic(), View(**self._view)):
            if word == RESET:
                if self._reset.service_is_ready():
                    self._reset.call_async(Trigger.Request())
            else:
                self._request.publish(String(data=word))
        for result in self.session.results[self._reported:]:
            self._report(result)
        if self.session.phase is Phase.DONE:
            self.get_logger().info('all episodes are done')
            raise SystemExit(0)

    def _report(self, result: EpisodeOutcome) -> None:
        self._reported += 1
        results = self.session.results
        solved = sum(r.success for r in results)
        low, high = (100 * v for v in wilson(solved, len(results)))
        elapsed = wall.monotonic() - self._begun
        left = elapsed / len(results) * (self.session.config.episodes - len(results))
        word = 'success' if result.success else f'failed at {result.stage_name}'
        corrected = f', {result.interventions} correction(s)' if result.interventions else ''
        self.get_logger().info(
            f'episode {len(results)} of {self.session.config.episodes} (seed {result.seed}): '
            f'{word} in {result.seconds:.1f} s{corrected}; {solved} of {len(results)} = '
            f'{100 * solved / len(results):.0f} % [{low:.0f}, {high:.0f}], {left:.0f} s left')
        if self._file is not None:
            self._write(solved, (low / 100, high / 100))

    def _write(self, solved: int, interval: tuple[float, float]) -> None:
        """Replace the result file; a reader never sees half of one."""
        assert self._file is not None
        results = self.session.results
        data = {
            'task': self._task, 'driver': self.session.config.driver,
            'episodes': len(results), 'successes': solved,
            'success_rate': solved / len(results), 'interval_95': interval,
            'wall_seconds': wall.monotonic() - self._begun,
            'results': [asdict(r) for r in results]}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial = self._file.with_suffix('.tmp')
            partial.write_text(json.dumps(data, indent=1))
            os.replace(partial, self._file)
        except OSError as error:
            self.get_logger().error(f'{self._file} not written: {error.strerror}')


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the exit code."""
    return run_node(SessionNode, args)


if __name__ == '__main__':
    sys.exit(main())
