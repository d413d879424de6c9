"""From the press of stop until nothing moves: time and joint travel, and what outlives a restart.

The graph in real time: simulator, arbiter, and the expert, who drives at full speed. Again and
again a new episode begins, the expert takes over, and at a random moment somebody presses stop.
Measured, in the time of the robot's stamps:

- the control periods from the observation that was the newest at the press to the first command
  after the stop;
- from that command until the command stands, and until the measured joints do (< 0.02 rad/s);
- how far any arm joint moves from where it was measured at the press.

Then, stopped, every node is killed and started again, one after the other, and asked to go on.

    python3 benchmarks/estop.py [--presses 100]

Writes benchmarks/results/estop.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / 'test' / 'nodes')]

import numpy as np  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from ros_graph import PATIENT_QOS, Graph, open_graph  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

import il_robot.sim as sim  # noqa: E402
from il_robot.nodes import convert, topics  # noqa: E402

SPEC = sim.default_robot()
JOINTS = np.array([name not in SPEC.gripper_names for name in SPEC.joint_names])
STILL = 0.02
"""Below that a measured joint stands [rad/s]."""
NODES = {'sim': {'real_time_factor': 1.0}, 'arbiter': {'use_sim_time': True},
         'expert': {'use_sim_time': True}}


class Cell:
    """The graph, and everything heard, by stamp."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.running = {name: graph.start(name, **values) for name, values in NODES.items()}
        self.states: dict[float, Any] = {}
        self.commands: dict[float, Any] = {}
        self.modes = graph.collect(DiagnosticArray, topics.MODE, PATIENT_QOS)
        self.labels = graph.collect(JointState, topics.EXPERT_PROPOSAL, topics.PROPOSAL_QOS)
        for kept, topic in ((self.states, topics.JOINT_STATES), (self.commands, topics.COMMAND)):
            graph.subscribe(JointState, topic, self._keeper(kept), PATIENT_QOS)
        self.requests = graph.publisher(String, topics.REQUEST, topics.REQUEST_QOS)

    @staticmethod
    def _keeper(kept: dict[float, Any]) -> Any:
        def keep(message: JointState) -> None:
            kept[round(convert.seconds(message.header.stamp), 4)] = np.array(message.position)
        return keep

    @property
    def mode(self) -> str:
        """What the arbiter said last."""
        return convert.status_values(self.modes[-1])['mode'] if self.modes else ''

    def ask(self, word: str, mode: str) -> float:
        """Request until the mode is there; the newest stamp at the first request."""
        newest, end = max(self.states, default=0.0), 0.0
        while self.mode != mode:
            if time.monotonic() > end:
                end = time.monotonic() + 2.0
                self.requests.publish(String(data=word))
            self.graph._executor.spin_once(timeout_sec=0.01)
        return newest

    def wait(self, seconds: float) -> None:
        """Listen for some time."""
        end = time.monotonic() + seconds
        self.graph.until(lambda: time.monotonic() > end)

    def press(self, rng: np.random.Generator) -> dict[str, float]:
        """One stop of an expert at work."""
        assert self.graph.call(Trigger, topics.SIM_RESET).success
        self.wait(0.3)
        self.ask('engage', 'TELEOP')
        self.wait(rng.uniform(0.3, 1.8))
        newest = self.ask('stop', 'STOPPED')
        first = round(convert.seconds(next(
            m for m in self.modes if convert.status_values(m)['mode'] == 'STOPPED'
            and convert.seconds(m.header.stamp) >= newest).header.stamp), 4)
        self.wait(0.8)
        result = self._result(newest, first)
        self.ask('reset', 'HOLD')
        self.modes.clear()
        self.states.clear()
        self.commands.clear()
        self.wait(0.1)
        return result

    def _result(self, newest: float, first: float) -> dict[str, float]:
        stamps = sorted(self.states)
        measured = np.array([self.states[s] for s in stamps])[:, JOINTS]
        speed = np.abs(np.diff(measured, axis=0)).max(axis=1) / np.diff(stamps)
        at = stamps.index(newest)
        moving = [s for s, v in zip(stamps[1:], speed) if v > STILL and s >= first]
        sent = sorted(s for s in self.commands if s >= first - 1e-4)
        commanded = np.array([self.commands[s] for s in sent])[:, JOINTS]
        changes = np.flatnonzero(np.abs(np.diff(commanded, axis=0)).max(axis=1) > 0)
        return {
            'periods_to_the_stop': round((first - newest) / SPEC.dt),
            'command_stands_s': round(sent[changes[-1] + 1] - first, 4) if len(changes) else 0.0,
            'joints_stand_s': round(moving[-1] - first, 4) if moving else 0.0,
            'speed_at_the_press_rad_s': float(speed[max(at - 1, 0)]),
            'travel_rad': float(np.abs(measured[-1] - measured[at]).max())}

    def restart(self, name: str) -> dict[str, Any]:
        """Kill a node of a stopped graph, start it again, and ask everybody to go on."""
        self.running[name].kill()
        self.wait(0.2)  # for its last words
        for heard in (self.modes, self.labels, self.states):
            heard.clear()  # a simulator that begins anew is at rest, and its time at 0
        self.running[name] = self.graph.start(name, **NODES[name])
        self.graph.until(lambda: self.modes and self.labels and self.states, f'{name} again')
        self.wait(1.0)
        before = self.states[max(self.states)][JOINTS]
        for word in ('run', 'engage', 'release', 'hold'):
            self.requests.publish(String(data=word))
            self.wait(0.4)
        moved = np.abs(self.states[max(self.states)][JOINTS] - before).max()
        return {'killed': name, 'mode': self.mode, 'moved_rad': round(float(moved), 6)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--presses', type=int, default=100)
    parser.add_argument('--output', type=Path, default=HERE / 'results' / 'estop.json')
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, open_graph(folder) as graph:
        cell = Cell(graph)
        graph.until(lambda: cell.labels and cell.commands and cell.states, 'all nodes')
        presses = [cell.press(rng) for _ in range(args.presses)]
        cell.ask('stop', 'STOPPED')
        restarts = [cell.restart(name) for name in NODES]
    rows = {key: np.array([p[key] for p in presses]) for key in presses[0]}
    quantiles = {'p50': 0.5, 'p95': 0.95, 'max': 1.0}
    result = {
        'command': f'python3 benchmarks/estop.py --presses {args.presses}',
        'machine': f'{os.cpu_count()} cores, {platform.machine()}',
        'presses': args.presses, 'control_period_s': SPEC.dt,
        **{key: {k: round(float(np.quantile(v, q)), 4) for k, q in quantiles.items()}
           for key, v in rows.items()},
        'restarted_while_stopped': restarts}
    print(json.dumps(result, indent=1))
    args.output.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
