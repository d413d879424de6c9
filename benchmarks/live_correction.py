"""Live correction in real time: from the button to the expert's command, and the swap of a policy.

The whole graph runs in real time: simulator, arbiter, a policy that keeps the arms moving, and the
expert. Again and again somebody asks for the expert (`engage`) at a random moment, later for the
policy again. Measured is how many control periods lie between the observation that was the newest
when the button was pressed and the first one that the expert's command answers, and the time
until that command is on the wire. Then the policy of the running node is swapped as between two
rounds: `hold`, `policy/reload` with another checkpoint, `run`; measured is how long nobody drives.

    python3 benchmarks/live_correction.py [--presses 100] [--swaps 20]

Writes benchmarks/results/live_correction.json. Targets: at most 2 control periods; a swap
stops the motion for less than 0.5 s.
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

os.environ.setdefault('OMP_NUM_THREADS', '1')

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / 'test' / 'nodes')]

import numpy as np  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from ros_graph import PATIENT_QOS, Graph, open_graph  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from small_policy import write_lively_policy  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

import il_robot.sim as sim  # noqa: E402
from il_robot.nodes import convert, topics  # noqa: E402

SPEC = sim.default_robot()


class Cell:
    """The graph, and when what was heard (arrival by stamp)."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.policies = [
            str(write_lively_policy(graph.folder / name, SPEC, ['cube'], width))
            for name, width in (('one', 0.01), ('other', 0.008))]
        graph.start('sim', real_time_factor=1.0)
        graph.start('arbiter', use_sim_time=True)
        graph.start('expert', use_sim_time=True)
        graph.start('policy', checkpoint=self.policies[0], device='cpu', use_sim_time=True)
        self.newest = 0.0
        self.commands: dict[float, float] = {}
        self.chunks = 0
        self.modes = graph.collect(DiagnosticArray, topics.MODE, PATIENT_QOS)
        graph.subscribe(JointState, topics.JOINT_STATES, self._on_state, topics.STATE_QOS)
        graph.subscribe(JointState, topics.COMMAND, self._on_command, PATIENT_QOS)
        graph.subscribe(JointTrajectory, topics.POLICY_PROPOSAL, self._on_chunk, PATIENT_QOS)
        self.requests = graph.publisher(String, topics.REQUEST, topics.REQUEST_QOS)
        self.labels = graph.collect(JointState, topics.EXPERT_PROPOSAL, topics.PROPOSAL_QOS)

    def _on_state(self, message: JointState) -> None:
        self.newest = convert.seconds(message.header.stamp)

    def _on_command(self, message: JointState) -> None:
        self.commands[convert.seconds(message.header.stamp)] = time.monotonic()

    def _on_chunk(self, message: JointTrajectory) -> None:
        self.chunks += 1

    @property
    def mode(self) -> str:
        """What the arbiter said last."""
        return convert.status_values(self.modes[-1])['mode'] if self.modes else ''

    def ask(self, word: str, mode: str, patience: float = 2.0) -> tuple[float, float]:
        """Request, again where nothing comes of it: wall time and newest stamp when it was."""
        end, first = 0.0, None
        while self.mode != mode:
            if time.monotonic() > end:
                end = time.monotonic() + patience
                first = (time.monotonic(), self.newest)
                self.requests.publish(String(data=word))
            self.graph._executor.spin_once(timeout_sec=0.01)
        assert first is not None, f'{mode} before {word}'
        return first

    def wait(self, seconds: float) -> None:
        """Listen for some time."""
        end = time.monotonic() + seconds
        self.graph.until(lambda: time.monotonic() > end)

    def press(self, rng: np.random.Generator) -> tuple[float, float]:
        """One takeover: control periods, and seconds until the command."""
        self.wait(rng.uniform(0.3, 0.6))
        begun, newest = self.ask('engage', 'CORRECTION')
        stamp = convert.seconds(self.modes[-1].header.stamp)
        self.graph.until(lambda: stamp in self.commands, 'the command')
        result = ((stamp - newest) / SPEC.dt, self.commands[stamp] - begun)
        self.wait(rng.uniform(0.3, 0.6))
        self.ask('run', 'AUTONOMOUS')
        return result

    def swap(self, number: int) -> dict[str, float]:
        """One swap: how long nobody drives, and the reload in it [s]."""
        self.wait(0.5)
        self.graph.set_parameters('policy', checkpoint=self.policies[1 - number % 2])
        self.ask('hold', 'HOLD')
        held = convert.seconds(self.modes[-1].header.stamp)
        begun = time.monotonic()
        assert self.graph.call(Trigger, topics.POLICY_RELOAD).success
        took = time.monotonic() - begun
        self.ask('run', 'AUTONOMOUS', 0.05)
        return {'pause_s': convert.seconds(self.modes[-1].header.stamp) - held, 'reload_s': took}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--presses', type=int, default=100)
    parser.add_argument('--swaps', type=int, default=20)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, open_graph(folder) as graph:
        cell = Cell(graph)
        graph.until(lambda: cell.chunks and cell.labels and cell.commands, 'all nodes')
        cell.ask('run', 'AUTONOMOUS')
        presses = [cell.press(rng) for _ in range(args.presses)]
        swaps = [cell.swap(i) for i in range(args.swaps)]
    periods, seconds = np.array(presses).T
    quantiles = dict(zip(('p50', 'p99', 'max'), (0.5, 0.99, 1.0)))
    result = {
        'command': f'python3 benchmarks/live_correction.py --presses {args.presses} '
                   f'--swaps {args.swaps}',
        'machine': f'{platform.machine()}, {os.cpu_count()} cores', 'load': os.getloadavg()[0],
        'button_to_expert_command': {
            'n': len(presses), 'control_period_s': SPEC.dt,
            'periods': {k: float(np.quantile(periods, q)) for k, q in quantiles.items()},
            'seconds': {k: float(np.quantile(seconds, q)) for k, q in quantiles.items()},
            'target_periods': 2, 'within': float((periods <= 2 + 1e-6).mean())},
        'swap': {
            'n': len(swaps), 'target_s': 0.5,
            **{key: {k: float(np.quantile([s[key] for s in swaps], q))
                     for k, q in quantiles.items()} for key in ('pause_s', 'reload_s')}}}
    print(json.dumps(result, indent=1))
    (HERE / 'results' / 'live_correction.json').write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
