"""Control ticks per second in lockstep over topics: sim, expert and a relay, three processes.

The same episodes in process are the reference, in turns with those over topics. CPU time per
tick says what limits it on a machine that is not busy with something else: it is the sum of the
three processes, of which one works at a time.

    python3 benchmarks/graph_lockstep.py [--episodes 5]

Writes benchmarks/results/graph_lockstep.json. Target: >= 100 ticks/s (2x real time).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / 'test' / 'nodes')]

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from ros_graph import Graph, open_graph  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

import il_robot.sim as sim  # noqa: E402
from il_robot.nodes import convert, topics  # noqa: E402

TASK = 'transfer_cube'


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def in_process(env: Any, seed: int) -> tuple[int, float]:
    """Ticks of one episode of the expert, and the wall time it took."""
    env.reset(seed=seed)
    start, ticks, ended = time.perf_counter(), 0, False
    while not ended:
        *_, terminated, truncated, _ = env.step(env.expert().position)
        ticks, ended = ticks + 1, terminated or truncated
    return ticks, time.perf_counter() - start


class Relay:
    """Lets the expert drive: each proposal becomes the command."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.ticks = graph, 0
        self.episode: dict[str, str] = {}
        command = graph.publisher(JointState, topics.COMMAND, topics.COMMAND_QOS)
        graph.subscribe(DiagnosticArray, topics.SIM_EPISODE, self._on_episode, topics.LATCHED_QOS)
        graph.subscribe(JointState, topics.EXPERT_PROPOSAL, command.publish, topics.PROPOSAL_QOS)
        graph.subscribe(JointState, topics.JOINT_STATES, self._on_state, topics.STATE_QOS)
        graph.until(lambda: self.ticks > 20)

    def _on_episode(self, message: DiagnosticArray) -> None:
        self.episode = convert.status_values(message)

    def _on_state(self, _: JointState) -> None:
        self.ticks += 1

    def run(self, seed: int) -> tuple[int, float]:
        """Ticks of one episode, and the wall time it took."""
        self.graph.set_parameters('sim', seed=seed)
        self.graph.call(Trigger, topics.SIM_RESET)
        start, ticks = time.perf_counter(), self.ticks
        self.graph.until(lambda: self.episode['seed'] == str(seed)
                         and self.episode['terminated'] == 'true')
        return self.ticks - ticks, time.perf_counter() - start


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--episodes', type=int, default=5)
    args = parser.parse_args()
    here: list[float] = []
    there: list[float] = []
    env = sim.make(TASK)
    with tempfile.TemporaryDirectory() as folder, open_graph(folder) as graph:
        pids = {name: graph.start(name, **parameters).popen.pid for name, parameters in (
            ('sim', {'lockstep': True, 'task': TASK}), ('expert', {'task': TASK}))}
        pids['relay'] = os.getpid()
        relay = Relay(graph)
        cpu, total = dict.fromkeys(pids, 0.0), 0
        for seed in range(args.episodes):
            ticks, seconds = in_process(env, seed)
            here.append(ticks / seconds)
            before = {name: cpu_seconds(pid) for name, pid in pids.items()}
            ticks, seconds = relay.run(seed)
            there.append(ticks / seconds)
            total += ticks
            for name, pid in pids.items():
                cpu[name] += cpu_seconds(pid) - before[name]
    result = {
        'command': f'python3 benchmarks/graph_lockstep.py --episodes {args.episodes}',
        'machine': f'{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}',
        'python': platform.python_version(), 'rclpy': version('rclpy'),
        'task': TASK, 'n': args.episodes,
        'ticks_per_s': {'in_process': median(here), 'over_topics': median(there)},
        'ratio_to_in_process': median(a / b for a, b in zip(there, here)),
        'ratio_to_real_time': median(there) * sim.default_robot().dt,
        'cpu_ms_per_tick': {name: 1e3 * seconds / total for name, seconds in cpu.items()},
    }
    print(json.dumps(result, indent=1))
    path = HERE / 'results' / 'graph_lockstep.json'
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
