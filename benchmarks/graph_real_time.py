"""The whole graph in real time: does it keep the control rate, and what does it need?

``il_robot launch correct`` runs as a user would start it: simulator (state only), expert, policy,
arbiter, recorder, session, each a process. This process only listens, to joint_states, command and
diagnostics. Memory is the proportional set size (PSS) of all processes, the supervisor and the
recorder's converter included; resident memory (RSS) counts shared pages once per process.

    python3 benchmarks/graph_real_time.py [--seconds 60] [--repeats 3] [--policy FOLDER]

Without --policy a small chunk_mlp is trained first (a minute): how well it does plays no part.
Writes benchmarks/results/graph_real_time.json. Targets: <= 2.5 GB and real time kept.
ROS_DOMAIN_ID is respected where it is set.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / 'test' / 'nodes')]

import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.node import Node  # noqa: E402
from ros_graph import ros_domain  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402

from il_robot.data.stream_check import stamp_of  # noqa: E402
from il_robot.launch_options import loopback  # noqa: E402
from il_robot.nodes import convert, topics  # noqa: E402
from il_robot.nodes.node import events_executor  # noqa: E402
from il_robot.resources import named_config  # noqa: E402
from il_robot.spec import load_robot_spec  # noqa: E402

TASK = 'transfer_cube'
DT = load_robot_spec(named_config('robots', 'sim_dual_arm')).dt
LIMIT_GB, LIMIT_RATE = 2.5, 0.99
NODES = ('sim', 'expert', 'policy', 'arbiter', 'recorder', 'session')
SETTLE = 10.0  # [s] from the first command until the measurement starts
GAP = 1.5  # periods between two messages from which a tick was missed
LATENCIES = ('latency_p50_ms', 'latency_p95_ms', 'latency_p99_ms')


class Listener:
    """Notes when which stamp arrived, and what the nodes say of themselves."""

    def __init__(self) -> None:
        self._node = Node('listener')
        self._executor = events_executor()
        self.arrivals: dict[str, list[tuple[float, float]]] = {}
        self.diagnostics: dict[str, list[dict[str, str]]] = {}
        for topic in (topics.JOINT_STATES, topics.COMMAND):
            self._node.create_subscription(
                JointState, topic, self._note(self.arrivals.setdefault(topic, [])),
                topics.EVERY_MESSAGE_QOS, raw=True)
        self._node.create_subscription(
            DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, topics.DIAGNOSTICS_QOS)
        self._executor.add_node(self._node)

    @staticmethod
    def _note(arrivals: list[tuple[float, float]]) -> Callable[[bytes], None]:
        def on_message(data: bytes) -> None:
            arrivals.append((time.monotonic(), stamp_of(bytes(data[:16]))))
        return on_message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics.setdefault(status.name, []).append(convert.status_values(message))

    def spin(self, seconds: float) -> None:
        """Listen for so long."""
        end = time.monotonic() + seconds
        while (wait := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=wait)

    def forget(self) -> None:
        """Start anew."""
        for arrivals in self.arrivals.values():
            arrivals.clear()
        self.diagnostics.clear()

    def close(self) -> None:
        """Destroy the node."""
        self._executor.shutdown()
        self._node.destroy_node()


def il_robot(*words: str) -> None:
    """Run one il_robot command."""
    print('$ il_robot', *words, flush=True)
    subprocess.run([sys.executable, '-m', 'il_robot', *words], cwd=HERE.parent, check=True,
                   stdout=subprocess.DEVNULL)


def train(folder: Path) -> Path:
    """A chunk_mlp that has seen a few demonstrations."""
    dataset, run = folder / 'demonstrations', folder / 'policy'
    il_robot('record', '--expert', '--task', TASK, '--episodes', '5', '--output', str(dataset))
    il_robot('train', '--policy', 'chunk_mlp', '--dataset', str(dataset), '--output', str(run),
             '--steps', '300')
    return run


@contextmanager
def launched(policy: Path, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``il_robot launch correct``, stopped as by Ctrl-C."""
    with (output.parent / f'{output.name}.log').open('w') as log:
        launch = subprocess.Popen(
            [sys.executable, '-m', 'il_robot', 'launch', 'correct', f'task:={TASK}',
             f'policy:={policy}', f'output:={output}', 'device:=cpu'],
            cwd=HERE.parent, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield launch
        finally:
            launch.send_signal(signal.SIGINT)
            launch.wait(60)


def family(pid: int) -> dict[str, list[int]]:
    """Processes under ``pid`` and itself: name to pids (the nodes by their names)."""
    found: dict[str, list[int]] = {'supervisor': [pid]}
    for child in children(pid):
        words: list[str] = []
        with suppress(OSError):
            words = Path(f'/proc/{child}/cmdline').read_text().split('\0')
        name = next((w.rpartition('.')[2] for w in words if w.startswith('il_robot.nodes.')),
                    'starting')
        found.setdefault(name, []).append(child)
        for helper in children(child):
            found.setdefault(f'child of {name}', []).append(helper)
    return found


def children(pid: int) -> list[int]:
    """Direct children, of all threads."""
    text = ''
    with suppress(OSError):
        for task in Path(f'/proc/{pid}/task').iterdir():
            text += (task / 'children').read_text()
    return [int(word) for word in text.split()]


def memory(pid: int) -> dict[str, float]:
    """PSS and RSS of a process [MB]."""
    lines = Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()[1:]
    values = {line.split(':')[0]: int(line.split()[1]) for line in lines}
    return {'pss': values['Pss'] / 1024, 'rss': values['Rss'] / 1024}


def cpu_seconds(pid: int) -> float:
    """User and system time so far, of children that have ended too."""
    fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf('SC_CLK_TCK')


def processes(launch: int) -> dict[str, dict[str, float]]:
    """Memory [MB] and processor time [s] of all, by name; those that have just ended left out."""
    result: dict[str, dict[str, float]] = {}
    for name, pids in family(launch).items():
        for pid in pids:
            with suppress(OSError, ValueError, KeyError):
                entry = result.setdefault(name, {'pss': 0.0, 'rss': 0.0, 'cpu': 0.0})
                for key, value in {**memory(pid), 'cpu': cpu_seconds(pid)}.items():
                    entry[key] += value
    return result


def measure(policy: Path, output: Path, seconds: float) -> dict[str, Any]:
    """One run of the graph."""
    listener = Listener()
    try:
        with launched(policy, output) as launch:
            end = time.monotonic() + 120.0
            while not listener.arrivals[topics.COMMAND] or len(family(launch.pid)) <= len(NODES):
                if time.monotonic() > end or launch.poll() is not None:
                    raise RuntimeError((output.parent / f'{output.name}.log').read_text())
                listener.spin(0.2)
            listener.spin(SETTLE)
            listener.forget()
            first, stolen, load = processes(launch.pid), steal(), []
            begun = time.monotonic()
            samples = []
            while time.monotonic() - begun < seconds:
                listener.spin(1.0)
                samples.append(processes(launch.pid))
                load.append(os.getloadavg()[0])
            wall = time.monotonic() - begun
            stolen = steal() - stolen
    finally:
        listener.close()
    return {
        'seconds': wall, 'load': median(load), 'stolen_by_the_host_s': stolen,
        **rates(listener.arrivals, wall), 'ticks_given_up_by_sim': given_up(listener.diagnostics),
        'arbiter': arbiter(listener.diagnostics),
        'memory': usage(samples), 'cpu_cores': cores(first, samples[-1], wall)}


def rates(arrivals: dict[str, list[tuple[float, float]]], wall: float) -> dict[str, Any]:
    """Rates, and ticks without a command or later than they should be."""
    states, commands = (arrivals[t] for t in (topics.JOINT_STATES, topics.COMMAND))
    span = commands[-1][0] - commands[0][0]
    stamps = np.unique([stamp for _, stamp in commands])
    answered = set(stamps.tolist())
    first, last = min(answered), max(answered)
    gaps = np.diff([when for when, _ in commands])
    gone = states[-1][1] - states[0][1]
    return {
        'states': len(states), 'commands': len(commands),
        'control_rate_hz': (len(commands) - 1) / span,
        'real_time_factor': gone / (states[-1][0] - states[0][0]),
        'ticks_missing_in_command_stamps': int(
            np.rint(np.diff(stamps)[np.diff(stamps) > GAP * DT] / DT - 1).sum()),
        'states_without_command': sum(
            first <= stamp <= last and stamp not in answered for _, stamp in states),
        'late_arrivals_of_commands': int((gaps > GAP * DT).sum()),
        'longest_gap_ms': 1e3 * float(gaps.max())}


def given_up(diagnostics: dict[str, list[dict[str, str]]]) -> int:
    """Ticks the simulator did not catch up with meanwhile."""
    counts = [int(values['lost_ticks']) for values in diagnostics['sim']]
    return counts[-1] - counts[0]


def arbiter(diagnostics: dict[str, list[dict[str, str]]]) -> dict[str, float]:
    """What it says of its latency, once a second: median and worst second [ms]."""
    result: dict[str, float] = {}
    for name in LATENCIES:
        values = [float(v[name]) for v in diagnostics['arbiter'] if name in v]
        result |= {name: median(values), f'{name}_worst_second': max(values)}
    return result


def usage(samples: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """The moment of most PSS: sums [GB] and each process [MB]."""
    most = max(samples, key=lambda s: sum(p['pss'] for p in s.values()))
    rss = max(sum(p['rss'] for p in s.values()) for s in samples)
    return {'pss_gb': sum(p['pss'] for p in most.values()) / 1024, 'rss_gb': rss / 1024,
            'pss_mb': {name: round(p['pss'], 1) for name, p in most.items()},
            'rss_mb': {name: round(p['rss'], 1) for name, p in most.items()}}


def cores(first: dict[str, Any], last: dict[str, Any], wall: float) -> dict[str, float]:
    """Cores each used, and all together."""
    used = {name: (last[name]['cpu'] - first[name]['cpu']) / wall
            for name in last if name in first}
    return {name: round(c, 3) for name, c in {**used, 'all': sum(used.values())}.items()}


def steal() -> float:
    """Time the host took from this machine so far [s], all cores."""
    return int(Path('/proc/stat').read_text().split()[8]) / os.sysconf('SC_CLK_TCK')


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=60.0)
    parser.add_argument('--repeats', type=int, default=3)
    parser.add_argument('--policy', type=Path)
    args = parser.parse_args()
    given = os.environ.get('ROS_DOMAIN_ID')
    with tempfile.TemporaryDirectory() as name, (
            nullcontext(given) if given else ros_domain()) as domain:
        os.environ |= {'ROS_DOMAIN_ID': str(domain), 'ROS_LOG_DIR': name,
                       **loopback({})}
        folder = Path(name)
        policy = args.policy.absolute() if args.policy else train(folder)
        rclpy.init()
        runs = []
        for repeat in range(args.repeats):
            runs.append(measure(policy, folder / f'session_{repeat}', args.seconds))
            print(json.dumps(runs[-1], indent=1), flush=True)
        rclpy.try_shutdown()
    gigabytes = max(run['memory']['pss_gb'] for run in runs)
    factor = median(run['real_time_factor'] for run in runs)
    result = {
        'command': f'python3 benchmarks/graph_real_time.py --seconds {args.seconds:g} '
                   f'--repeats {args.repeats}',
        'machine': f'{platform.machine()}, {os.cpu_count()} cores',
        'python': platform.python_version(), 'rclpy': version('rclpy'),
        'torch': version('torch'), 'task': TASK, 'n': args.repeats,
        'pss_gb': {'value': gigabytes, 'target': LIMIT_GB, 'met': gigabytes <= LIMIT_GB},
        'real_time_factor': {'value': factor, 'target': LIMIT_RATE, 'met': factor >= LIMIT_RATE},
        'runs': runs}
    print(json.dumps({k: v for k, v in result.items() if k != 'runs'}, indent=1))
    (HERE / 'results' / 'graph_real_time.json').write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
