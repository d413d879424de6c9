"""Does the whole graph keep 50 Hz? Missed ticks and jitter beside a node that does nothing.

``il_robot launch run`` as a user would start it: simulator with two cameras, policy of ACT's size
(width 256, chunks of 100, fresh weights; an answer to every observation), arbiter, recorder with
its converter, session, each a process. Beside them an empty node: one timer of the control period
on the executor that the arbiter has, and nothing else. It stands for what this machine, as busy
as it is, can give to any node of rclpy.

Counted are instants: when the publisher of ``command`` and ``joint_states`` wrote each message
(its source time stamp, so that the listener's own delays play no part) and when the empty node's
timer was called. A tick is missed where the gap to the one before is over 1.5 periods; the jitter
is the distance of a gap from the period.

    python3 benchmarks/real_time.py [--minutes 10] [--every 1] [--launch real_time:=40 ...]

The policy answers each observation with ``--every 1``, every eighth with ``--every 8``;
``--launch`` adds arguments of the launch.

Writes benchmarks/results/real_time.json. Targets: missed ticks of command <= those of the empty
node + 0.1 % of all ticks; jitter p99 of command <= 2x of the empty node. ROS_DOMAIN_ID is
respected where it is set.
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
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / 'test' / 'nodes')]

import numpy as np  # noqa: E402
import rclpy  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from graph_real_time import children, family, steal  # noqa: E402
from rclpy.clock import Clock, ClockType  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.signals import SignalHandlerOptions  # noqa: E402
from ros_graph import ros_domain  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402

from il_robot.data.normalizer import fit_normalizer  # noqa: E402
from il_robot.launch_options import loopback  # noqa: E402
from il_robot.nodes import convert, topics  # noqa: E402
from il_robot.nodes.node import events_executor, run_node  # noqa: E402
from il_robot.policies.act import ACTConfig  # noqa: E402
from il_robot.policies.checkpoint import Checkpoint, save_checkpoint  # noqa: E402
from il_robot.policies.features import FeatureLayout  # noqa: E402
from il_robot.resources import named_config  # noqa: E402
from il_robot.spec import load_robot_spec  # noqa: E402

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
CAMERAS, IMAGE_SIZE = 'overhead,wrist_left', '320x240'
NODES = 5  # sim, policy, arbiter, recorder, session
MISSED = 1.5  # periods
SETTLE = 15.0  # [s] from the first command until the measurement starts
ALLOWANCE, JITTER = 1e-3, 2.0


EVERY_OBSERVATION = {'mode': 'ensemble', 'n_action_steps': 1, 'decay': 0.1}


def act_checkpoint(folder: Path, execution: Mapping[str, Any] = EVERY_OBSERVATION) -> Path:
    """A policy of ACT's size with fresh weights, which stays near the rest posture."""
    rng = np.random.default_rng(0)
    layout = FeatureLayout(SPEC.joint_names, ('cube',))
    normalizer = fit_normalizer({
        'features': rng.normal(size=(50, layout.dim)),
        'action': SPEC.rest + 0.02 * rng.normal(size=(50, SPEC.dim))})
    description = Checkpoint(
        'act', ACTConfig(), layout, normalizer, SPEC,
        execution, task='transfer_cube')
    save_checkpoint(folder, description, description.make_policy().eval())
    return folder


class EmptyNode(Node):
    """A timer of the control period that notes when it was called [monotonic ns]."""

    def __init__(self, file: Path) -> None:
        super().__init__('empty')
        self._file = file.open('wb', buffering=8192)
        self.create_timer(
            SPEC.dt, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _tick(self) -> None:
        self._file.write(time.time_ns().to_bytes(8, 'little'))

    def destroy_node(self) -> None:
        """Write what is left."""
        self._file.close()
        super().destroy_node()


class Listener:
    """Notes when messages were written, and what the nodes say of themselves."""

    def __init__(self) -> None:
        self._node = Node('listener')
        # the events executor of the wheels cannot pass on a message's information
        self._executor = SingleThreadedExecutor()
        self.written: dict[str, array[int]] = {}
        self.diagnostics: dict[str, dict[str, str]] = {}
        for topic in (topics.JOINT_STATES, topics.COMMAND):
            self._node.create_subscription(
                JointState, topic, self._note(self.written.setdefault(topic, array('q'))),
                topics.EVERY_MESSAGE_QOS, raw=True)
        self._node.create_subscription(
            DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, topics.DIAGNOSTICS_QOS)
        self._executor.add_node(self._node)

    @staticmethod
    def _note(instants: array[int]) -> Callable[[bytes, Any], None]:
        def on_message(_: bytes, info: Any) -> None:
            instants.append(info['source_timestamp'])
        return on_message

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics[status.name] = {
                **convert.status_values(message), 'message': status.message}

    def spin(self, seconds: float) -> None:
        """Listen for so long."""
        end = time.monotonic() + seconds
        while (wait := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=wait)

    def close(self) -> None:
        """Destroy the node."""
        self._executor.shutdown()
        self._node.destroy_node()


class Graph:
    """The launch, the empty node and the listener."""

    def __init__(self, folder: Path, launch: subprocess.Popen[bytes], empty: Path) -> None:
        self.folder, self.launch, self._empty = folder, launch, empty
        self.listener = Listener()

    def wait(self) -> None:
        """Until commands flow and everything has settled."""
        end = time.monotonic() + 180.0
        while (not self.listener.written[topics.COMMAND]
               or len(children(self.launch.pid)) < NODES):
            self.check()
            if time.monotonic() > end:
                raise RuntimeError(f'no commands\n{self.log()}')
            self.listener.spin(0.2)
        self.listener.spin(SETTLE)

    def check(self) -> None:
        """Raises where the launch has ended."""
        if self.launch.poll() is not None:
            raise RuntimeError(f'the launch ended\n{self.log()}')

    def log(self) -> str:
        """What the nodes said."""
        return (self.folder / 'launch.log').read_text()

    def instants(self) -> dict[str, np.ndarray[Any, Any]]:
        """When commands and states were written and the empty timer called so far [s]."""
        data = self._empty.read_bytes() if self._empty.exists() else b''
        empty = np.frombuffer(data[:len(data) // 8 * 8], '<i8')
        return {**{name: 1e-9 * np.array(values) for name, values in
                   self.listener.written.items()}, 'empty': 1e-9 * empty}


@contextmanager
def running(folder: Path, policy: Path, more: Sequence[str] = ()) -> Iterator[Graph]:
    """The graph in this domain, stopped as by Ctrl-C; ``more`` arguments of the launch."""
    empty = folder / 'empty.bin'
    with (folder / 'launch.log').open('w') as log:
        launch = subprocess.Popen(
            [sys.executable, '-m', 'il_robot', 'launch', 'run', f'policy:={policy}',
             f'cameras:={CAMERAS}', f'image_size:={IMAGE_SIZE}', 'device:=cpu',
             f'output:={folder / "session"}', *more],
            cwd=HERE.parent, stdout=log, stderr=subprocess.STDOUT)
        beside = subprocess.Popen([sys.executable, __file__, '--empty', str(empty)])
        try:
            graph = Graph(folder, launch, empty)
            graph.wait()
            yield graph
        finally:
            for process in (launch, beside):
                process.send_signal(signal.SIGINT)
            for process in (launch, beside):
                process.wait(90)
            graph.listener.close()


def regularity(instants: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Ticks, missed ones, and the jitter [ms] of instants [s]."""
    gaps = np.diff(instants)
    jitter = 1e3 * np.abs(gaps - SPEC.dt)
    p50, p99, most = np.quantile(jitter, (0.5, 0.99, 1.0)).tolist()
    span = instants[-1] - instants[0]
    return {'ticks': len(instants), 'rate_hz': (len(instants) - 1) / span,
            'missed': int((gaps > MISSED * SPEC.dt).sum()),
            'missed_share': float((gaps > MISSED * SPEC.dt).mean()),
            'jitter_p50_ms': p50, 'jitter_p99_ms': p99, 'jitter_max_ms': most}


def between(instants: np.ndarray[Any, Any], begin: float, end: float) -> np.ndarray[Any, Any]:
    """Those in [begin, end) [s]."""
    return instants[(instants >= begin) & (instants < end)]


def real_time_table(instants: dict[str, Any], begin: float, end: float) -> dict[str, Any]:
    """The table of this benchmark, with intervals from its minutes."""
    rows = {name: regularity(between(values, begin, end)) for name, values in instants.items()}
    ours, empty = rows[topics.COMMAND], rows['empty']
    minutes = [[regularity(between(instants[name], t, t + 60.0))['jitter_p99_ms']
                for name in (topics.COMMAND, 'empty')]
               for t in np.arange(begin, end - 59.0, 60.0)]
    ratios = [a / b for a, b in minutes]
    more = ours['missed_share'] - empty['missed_share']
    ratio = ours['jitter_p99_ms'] / empty['jitter_p99_ms']
    return {
        'seconds': end - begin, **rows,
        'missed_more_than_empty': {
            'value': more, 'target': ALLOWANCE, 'met': more <= ALLOWANCE},
        'jitter_p99_ratio': {
            'value': ratio, 'target': JITTER, 'met': ratio <= JITTER,
            'of_minutes_quartiles': np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
            if ratios else []}}


def machine() -> dict[str, Any]:
    """Where this ran."""
    return {'machine': f'{platform.machine()}, {os.cpu_count()} cores',
            'python': platform.python_version(), 'rclpy': version('rclpy'),
            'torch': version('torch')}


@contextmanager
def place() -> Iterator[Path]:
    """A folder and a ROS domain of one's own."""
    given = os.environ.get('ROS_DOMAIN_ID')
    with tempfile.TemporaryDirectory() as name, (
            nullcontext(given) if given else ros_domain()) as domain:
        os.environ |= {'ROS_DOMAIN_ID': str(domain), 'ROS_LOG_DIR': name,
                       **loopback({})}
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)  # Ctrl-C is Python's
        try:
            yield Path(name)
        finally:
            rclpy.try_shutdown()


def main() -> int:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--every', type=int, default=1)
    parser.add_argument('--launch', nargs='*', default=[], metavar='KEY:=VALUE')
    parser.add_argument('--output', type=Path, default=HERE / 'results' / 'real_time.json')
    parser.add_argument('--empty', type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.empty:
        return run_node(lambda: EmptyNode(args.empty), [], events_executor)
    execution = EVERY_OBSERVATION if args.every == 1 else {
        'mode': 'blend', 'n_action_steps': args.every}
    with place() as folder, running(
            folder, act_checkpoint(folder / 'policy', execution), args.launch) as graph:
        begin, stolen, loads = time.time(), steal(), []
        while time.time() - begin < 60.0 * args.minutes:
            graph.listener.spin(5.0)
            graph.check()
            loads.append(os.getloadavg()[0])
        table = real_time_table(graph.instants(), begin, time.time())
        stolen = steal() - stolen
        names = sorted(family(graph.launch.pid))
    result = {
        'command': f'python3 benchmarks/real_time.py --minutes {args.minutes:g} --every '
                   f'{args.every} --launch {" ".join(args.launch)}', **machine(),
        'processes': names, 'load': float(np.median(loads)), 'stolen_by_the_host_s': stolen,
        'table': table}  # a topic is named command, too
    print(json.dumps(result, indent=1))
    args.output.write_text(json.dumps(result, indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
