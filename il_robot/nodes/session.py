"""The session node: runs episodes in the simulator and writes how they went.

It does what somebody would do with a few keys (:mod:`il_robot.control.session`), through the
same requests and services. It ends by itself after the last episode.
"""

from __future__ import annotations

import json
import os
import sys
import time as wall
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from il_robot.config import build
from il_robot.control.session import EpisodeOutcome, Phase, Reset, Session, SessionConfig, View
from il_robot.data.stream_check import stamp_of
from il_robot.nodes import convert, topics
from il_robot.nodes.node import Complaints, declare, run_node
from il_robot.statistics import wilson
from il_robot.types import ControlMode

_PERIOD = 0.02
_SIMULATOR = 'sim'
# A reset unanswered for so long is asked for again: the simulator died over it [wall s].
_LOST = 10.0
# What is waited for longer than this deserves a word, and again after the second [wall s].
_LONG, _AGAIN = 5.0, 30.0


class SessionNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__('session')
        fixed = partial(declare, self, read_only=True)
        fixed('robot', 'sim_dual_arm', 'robot: a name in config/robots, or a file')
        self.session = Session(build(SessionConfig, {
            'episodes': fixed('episodes', 0, 'how many; 0: without end', low=0),
            'driver': fixed(
                'driver', 'policy', 'who starts: policy, human (the expert) or operator, who '
                'begins and ends the episodes himself'),
            'record': fixed('record', False, 'whether a recorder takes part'),
            'seed': fixed('seed', 0, 'of the first episode', low=0, high=2**31 - 1),
            'max_seconds': fixed(
                'max_seconds', 0.0, 'longest episode [s of robot time]; 0: as long as the '
                'simulator allows', low=0.0)}, 'session'))
        self._task = fixed('task', '', 'written into the results')
        output = fixed('output', '', 'folder of session.json; empty: none')
        self._file = Path(output) / 'session.json' if output else None
        self._complain = Complaints(self)
        self._view: dict[str, Any] = {}
        self._reported = 0
        self._begun = wall.monotonic()
        self._speak = self._begun + _LONG
        self._resetting = -_LOST
        self._request = self.create_publisher(String, topics.REQUEST, topics.REQUEST_QOS)
        self._set_seed: Any = self.create_client(SetParameters, f'{_SIMULATOR}/set_parameters')
        self._reset: Any = self.create_client(Trigger, topics.SIM_RESET)
        subscribe = self.create_subscription
        subscribe(JointState, topics.JOINT_STATES, self._on_state, topics.STATE_QOS)
        for topic, callback in (
            (topics.SIM_EPISODE, self._on_episode), (topics.MODE, self._on_mode),
            (topics.RECORDING, self._on_recorder), (topics.POLICY_STATUS, self._on_policy),
        ):
            subscribe(DiagnosticArray, topic, callback, topics.LATCHED_QOS)
        if self.session.config.driver == 'policy':
            subscribe(JointTrajectory, topics.POLICY_PROPOSAL, self._on_proposal,
                      topics.CHUNK_QOS, raw=True)
        self.create_timer(_PERIOD, self._step, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # -- what comes in ----------------------------------------------------------------------
    def _on_state(self, message: JointState) -> None:
        self._view['stamp'] = convert.seconds(message.header.stamp)
        self._step()  # a fast simulation must not wait for the timer

    def _on_episode(self, message: DiagnosticArray) -> None:
        values = convert.status_values(message)
        try:
            self._view |= {
                'episode': int(values['episode']), 'seed': int(values['seed']),
                'stage_name': values['stage_name'],
                **{key: values[key] == 'true' for key in ('success', 'terminated', 'truncated')}}
        except (KeyError, ValueError) as error:
            self._complain(topics.SIM_EPISODE,
                           f'{topics.SIM_EPISODE}: {error!r} is missing or wrong')

    def _on_mode(self, message: DiagnosticArray) -> None:
        values = convert.status_values(message)
        if values.get('mode') in ControlMode.__members__:
            self._view |= {'mode': ControlMode[values['mode']],
                           # an arbiter that was started again knows of no driver
                           'lost': ' lost: ' in (reason := values.get('reason', ''))
                           or reason == 'started'}

    def _on_recorder(self, message: DiagnosticArray) -> None:
        values = convert.status_values(message)
        self._view |= {
            'recorder': values.get('state'), 'outcome': values.get('outcome', ''),
            'recorder_episode': int(values.get('sim_episode') or -1)}

    def _on_policy(self, message: DiagnosticArray) -> None:
        self._view['policy_ready'] = convert.status_values(message).get('state') == 'active'

    def _on_proposal(self, data: bytes) -> None:
        self._view['policy_stamp'] = stamp_of(data)

    # -- what goes out ----------------------------------------------------------------------
    def _step(self) -> None:
        phase, now = self.session.phase, wall.monotonic()
        for wish in self.session.step(now, View(**self._view)):
            if isinstance(wish, Reset):
                self._reset_to(wish.seed, now)
            else:
                self._request.publish(String(data=wish))
        for result in self.session.results[self._reported:]:
            self._report(result)
        if self.session.phase is not phase:
            self._speak = now + _LONG
        elif self.session.waiting and now > self._speak:
            self._speak = now + _AGAIN
            self.get_logger().warning(f'waiting for {self.session.waiting}')
        if self.session.phase is Phase.DONE:
            self.get_logger().info('all episodes are done')
            raise SystemExit(0)

    def _reset_to(self, seed: int, now: float) -> None:
        """Set the simulator's seed, then reset it; one at a time."""
        if now - self._resetting < _LOST or not (
                self._set_seed.service_is_ready() and self._reset.service_is_ready()):
            return
        self._resetting = now
        value = Parameter('seed', value=seed).to_parameter_msg()
        future = self._set_seed.call_async(SetParameters.Request(parameters=[value]))
        future.add_done_callback(lambda _: self._reset.call_async(
            Trigger.Request()).add_done_callback(self._reset_done))

    def _reset_done(self, future: Any) -> None:
        self._resetting = -_LOST
        if not future.result().success:
            self._complain(topics.SIM_RESET, f'{topics.SIM_RESET}: {future.result().message}')

    def _report(self, result: EpisodeOutcome) -> None:
        self._reported += 1
        total, results = self.session.config.episodes, self.session.results
        solved = sum(r.success for r in results)
        interval = wilson(solved, len(results))
        elapsed = wall.monotonic() - self._begun
        left = elapsed / len(results) * (total - len(results))
        word = 'success' if result.success else f'failed at {result.stage_name}'
        corrected = f', {result.interventions} correction(s)' if result.interventions else ''
        self.get_logger().info(
            f'episode {len(results)}{f" of {total}" if total else ""} (seed {result.seed}): '
            f'{word} in {result.seconds:.1f} s{corrected}; {solved} of {len(results)} = '
            f'{solved / len(results):.0%} [{100 * interval[0]:.0f}, {100 * interval[1]:.0f}]'
            + (f', {left:.0f} s left' if total else ''))
        if self._file is not None:
            self._write(solved, interval)

    def _write(self, solved: int, interval: tuple[float, float]) -> None:
        """Replace the result file; a reader never sees half of one."""
        assert self._file is not None
        results = self.session.results
        data = {
            'task': self._task, 'driver': self.session.config.driver,
            'episodes': len(results), 'successes': solved,
            'success_rate': solved / len(results), 'interval_95': interval,
            'seed': self.session.config.seed,
            'wall_seconds': wall.monotonic() - self._begun,
            'results': [asdict(r) for r in results]}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            half = self._file.with_suffix('.tmp')
            half.write_text(json.dumps(data, indent=1))
            os.replace(half, self._file)
        except OSError as error:
            self.get_logger().error(f'{self._file} not written: {error.strerror}')


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the exit code."""
    return run_node(SessionNode, args)


if __name__ == '__main__':
    sys.exit(main())
