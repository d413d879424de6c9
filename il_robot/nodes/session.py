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

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from il_robot.config import build
from il_robot.control.reminder import Reminder
from il_robot.control.session import Phase, Session
from il_robot.control.session_view import EpisodeOutcome, SessionConfig
from il_robot.nodes.node import Complaints, declare, run_node
from il_robot.nodes.session_port import SessionPort
from il_robot.statistics import wilson

_PERIOD = 0.02


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
                'simulator allows', low=0.0),
            'help_timeout': fixed(
                'help_timeout', 30.0, 'if nobody answers a call for help for so long [s of robot '
                'time], the episode has failed', low=0.1)}, 'session'))
        self._task = fixed('task', '', 'written into the results')
        output = fixed('output', '', 'folder of session.json; empty: none')
        self._file = Path(output) / 'session.json' if output else None
        self._complain = Complaints(self)
        self._reported = 0
        self._begun = wall.monotonic()
        self._reminder = Reminder()
        self._port = SessionPort(self, self._complain, self._step,
                                 proposals=self.session.config.driver == 'policy')
        self.create_timer(_PERIOD, self._step, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # -- what goes out ----------------------------------------------------------------------
    def _step(self) -> None:
        now = wall.monotonic()
        self._port.carry_out(self.session.step(now, self._port.view))
        for result in self.session.results[self._reported:]:
            self._report(result)
        if self._reminder.due(now, self.session.waiting):
            self.get_logger().warning(f'waiting for {self.session.waiting}')
        if self.session.phase is Phase.DONE:
            self.get_logger().info('all episodes are done')
            raise SystemExit(0)

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
            + (f', {left:.0f} s left' if total else '')
            + (f'; {result.reason}' if result.reason else ''))
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
