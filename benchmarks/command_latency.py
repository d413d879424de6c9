"""From joint_states to the command that answers them: the arbiter beside bare rclpy relays.

A measuring process publishes joint_states at the control rate and takes the time until the command
of the same stamp arrives. Four routes, each in a namespace of its own, have blocks of some seconds
in turns; outside its block a route is silent.

    autonomous   measurer -> arbiter -> measurer; a policy's chunks are in the arbiter's buffer,
                 a new one comes after each command (20 steps, temporal ensembling)
    relay        measurer -> relay -> measurer
    teleop       measurer -> relay that proposes -> arbiter in lockstep -> measurer: the command
                 to an observation waits for the proposal that was made from it
    chain        measurer -> relay -> relay -> measurer

A relay does nothing: it sends a ready-made JointState, as long as a command, with the stamp and
positions of the one that came in. It runs on the executor the arbiter has, or, with --executor
single, on that of rclpy.spin(). Nowhere is a policy or an expert computed.

    python3 benchmarks/command_latency.py [--rates 50 100] [--repeats 12] [--seconds 3]

Writes benchmarks/results/command_latency.json. Targets: p50 <= 1.5x and p99 <= 2x of the relays.
ROS_DOMAIN_ID is respected where it is set.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / 'test' / 'nodes')]

import numpy as np  # noqa: E402
import rclpy  # noqa: E402
import yaml  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from ros_graph import ros_domain  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from il_robot.config import load_yaml  # noqa: E402
from il_robot.launch_options import loopback  # noqa: E402
from il_robot.nodes import convert, topics  # noqa: E402
from il_robot.nodes.node import events_executor, run_node  # noqa: E402
from il_robot.resources import named_config  # noqa: E402
from il_robot.spec import RobotSpec, load_robot_spec  # noqa: E402
from il_robot.types import ActionChunk  # noqa: E402

REFERENCES = {'autonomous': 'relay', 'teleop': 'chain'}
"""What is measured, and what it is compared with: as many hops through as many processes."""
ROUTES = [route for pair in REFERENCES.items() for route in pair]
HOPS = {'autonomous': 2, 'relay': 2, 'teleop': 3, 'chain': 3}
MODES = {'autonomous': ('run', 'AUTONOMOUS'), 'teleop': ('engage', 'TELEOP')}
LIMITS = {'p50': 1.5, 'p99': 2.0}
EXECUTORS = {'events': events_executor, 'single': SingleThreadedExecutor}
ROBOT = 'sim_dual_arm'
CHUNK = 20
WARM_UP, GRACE = 0.5, 1.0  # [s]


class Relay(Node):
    """What there is to compare with: a JointState in, another out."""

    def __init__(self, source: str, target: str) -> None:
        super().__init__('relay')
        self._out = self.create_publisher(JointState, target, topics.COMMAND_QOS)
        spec = load_robot_spec(named_config('robots', ROBOT))
        self._answer = JointState(name=list(spec.joint_names))
        self.create_subscription(JointState, source, self._on_state, topics.STATE_QOS)

    def _on_state(self, message: JointState) -> None:
        self._answer.header, self._answer.position = message.header, message.position
        self._out.publish(self._answer)


class Route:
    """One route seen from the measurer. Its stamps go on only while it is used."""

    def __init__(self, node: Node, name: str, spec: RobotSpec) -> None:
        self.name, self._spec = name, spec
        self.mode = ''
        self._tick = 0
        self._sent: dict[bytes, int] = {}
        self._latencies: list[float] = []
        zeros = np.zeros(spec.dim)
        self._state = serialize_message(convert.joint_state(0.0, spec, spec.rest, zeros, zeros))

        def publisher(kind: Any, topic: str, qos: Any) -> Any:
            return node.create_publisher(kind, f'{name}/{topic}', qos)

        self._states = publisher(JointState, topics.JOINT_STATES, topics.STATE_QOS)
        node.create_subscription(
            JointState, f'{name}/{topics.COMMAND}', self._on_command, topics.COMMAND_QOS, raw=True)
        if name in MODES:
            self._requests = publisher(String, topics.REQUEST, topics.REQUEST_QOS)
            node.create_subscription(
                DiagnosticArray, f'{name}/{topics.MODE}', self._on_mode, topics.LATCHED_QOS)
        self._chunks: Any = None
        if name == 'autonomous':
            self._chunks = publisher(JointTrajectory, topics.POLICY_PROPOSAL, topics.CHUNK_QOS)
            self._chunk = serialize_message(convert.chunk_message(ActionChunk(
                0.0, np.arange(CHUNK) * spec.dt, np.tile(spec.rest, (CHUNK, 1))), spec))
            self._status = publisher(DiagnosticArray, topics.POLICY_STATUS, topics.LATCHED_QOS)
            self._status.publish(convert.status_message(0.0, topics.POLICY_STATUS, {
                'checkpoint': 'none', 'chunk_size': CHUNK, 'execution_mode': 'ensemble',
                'n_action_steps': 1, 'decay': 0.1}))

    def send(self) -> None:
        """Report the state of the next tick."""
        self._tick += 1
        when = convert.time(self._tick * self._spec.dt)
        stamp = struct.pack('<iI', when.sec, when.nanosec)
        data = self._state[:4] + stamp + self._state[12:]
        self._sent[stamp] = time.monotonic_ns()
        self._states.publish(data)

    def _on_command(self, data: bytes) -> None:
        now = time.monotonic_ns()
        stamp = bytes(data[4:12])
        sent = self._sent.pop(stamp, None)
        if sent is None:
            return
        self._latencies.append(1e-6 * (now - sent))
        if self._chunks is not None:
            self._chunks.publish(self._chunk[:4] + stamp + self._chunk[12:])

    def _on_mode(self, message: DiagnosticArray) -> None:
        self.mode = convert.status_values(message)['mode']

    @property
    def ready(self) -> bool:
        """Whether it answers, in the mode that is to be measured; else that mode is requested."""
        word, mode = MODES.get(self.name, ('', self.mode))
        if self.mode != mode:
            self._requests.publish(String(data=word))
        return bool(self._latencies) and self.mode == mode

    @property
    def answered(self) -> bool:
        """Whether no answer is under way."""
        return not self._sent

    def take(self) -> tuple[list[float], int]:
        """Latencies [ms] since the last call, and how many states got no answer."""
        taken = self._latencies, len(self._sent)
        self._latencies, self._sent = [], {}
        return taken


class Measurer:
    """The node of this process; the leaner, the more of a latency is the route's own."""

    def __init__(self, spec: RobotSpec) -> None:
        self._dt = spec.dt
        self._node = Node('measurer')
        self._executor = events_executor()
        self.routes = [Route(self._node, name, spec) for name in ROUTES]
        self._executor.add_node(self._node)

    def prepare(self, processes: dict[str, Process]) -> None:
        """Every route answers, the arbiters in the modes to be measured."""
        for route in self.routes:
            self._get_ready(route, processes)

    def _get_ready(self, route: Route, processes: dict[str, Process]) -> None:
        end = time.monotonic() + 60.0
        for _ in range(5):  # for the word that it holds to come
            route.send()
            self._spin(self._dt)
        while not route.ready:
            dead = [name for name, p in processes.items() if p.popen.poll() is not None]
            if dead or time.monotonic() > end:
                raise RuntimeError(f'{route.name} does not get ready (mode {route.mode!r}, '
                                   f'ended: {dead})')
            route.send()
            self._spin(self._dt)

    def block(
        self, route: Route, seconds: float, running: dict[str, Process]
    ) -> dict[str, Any]:
        """One block: latencies [ms], what went wrong, and processor time by process [s]."""
        mine = {name: p for name, p in running.items() if p.route == route.name}
        self._get_ready(route, running)  # an arbiter holds after the silence since its last block
        self._ticks(route, WARM_UP)
        route.take()
        cpu = {name: p.cpu_seconds() for name, p in mine.items()}
        late = self._ticks(route, seconds)
        cpu = {name: p.cpu_seconds() - cpu[name] for name, p in mine.items()}
        if route.name in MODES and route.mode != MODES[route.name][1]:
            raise RuntimeError(f'{route.name} fell into mode {route.mode}')
        latencies, lost = route.take()
        return {'latencies': latencies, 'unanswered': lost, 'late_ticks': late, 'cpu': cpu}

    def _ticks(self, route: Route, seconds: float) -> int:
        """Send states at the control rate until all are answered; how many came late."""
        late, start = 0, time.monotonic()
        for i in range(round(seconds / self._dt)):
            wait = start + i * self._dt - time.monotonic()
            late += wait < -0.5 * self._dt
            self._spin(wait)
            route.send()
        end = time.monotonic() + GRACE
        while not route.answered and time.monotonic() < end:
            self._spin(self._dt)
        return late

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (wait := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=wait)

    def close(self) -> None:
        """Destroy the node."""
        self._executor.shutdown()
        self._node.destroy_node()


class Process:
    """One process of a route, in its namespace."""

    def __init__(self, folder: Path, name: str, route: str, words: Sequence[str]) -> None:
        self.route = route
        self._log = (folder / f'{name}.log').open('w')
        self.popen = subprocess.Popen(
            [sys.executable, *words, '-r', f'__ns:=/{route}'], cwd=HERE.parent,
            stdout=self._log, stderr=subprocess.STDOUT)

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f'/proc/{self.popen.pid}/stat').read_text().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def stop(self) -> None:
        """As Ctrl-C."""
        self.popen.terminate()
        try:
            self.popen.wait(20)
        except subprocess.TimeoutExpired:
            self.popen.kill()
        self._log.close()


@contextmanager
def processes(folder: Path, robot: Path, executor: str) -> Iterator[dict[str, Process]]:
    """All processes of the four routes."""
    def relay(source: str, target: str) -> list[str]:
        return [__file__, '--executor', executor, '--relay', source, target, '--ros-args']

    def arbiter(lockstep: str) -> list[str]:
        return ['-m', 'il_robot.nodes.arbiter', '--ros-args', '-p', f'robot:={robot}',
                '-p', f'lockstep:={lockstep}']

    commands = {
        'arbiter': ('autonomous', arbiter('false')),
        'relay': ('relay', relay(topics.JOINT_STATES, topics.COMMAND)),
        'proposer': ('teleop', relay(topics.JOINT_STATES, topics.TELEOP_PROPOSAL)),
        'lockstep arbiter': ('teleop', arbiter('true')),
        'first relay': ('chain', relay(topics.JOINT_STATES, topics.TELEOP_PROPOSAL)),
        'second relay': ('chain', relay(topics.TELEOP_PROPOSAL, topics.COMMAND)),
    }
    started: dict[str, Process] = {}
    try:
        for name, (route, words) in commands.items():
            started[name] = Process(folder, name, route, words)
        yield started
    finally:
        for process in started.values():
            process.stop()


def robot_at(folder: Path, rate: float) -> Path:
    """The robot's description with another control rate."""
    data: dict[str, Any] = dict(load_yaml(named_config('robots', ROBOT)))
    data['rates'] = {**data['rates'], 'control': rate}
    file = folder / f'{ROBOT}_{rate:g}.yaml'
    file.write_text(yaml.safe_dump(data))
    return file


def measure(rate: float, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All routes at one control rate."""
    robot = robot_at(folder, rate)
    rclpy.init()
    measurer = Measurer(load_robot_spec(robot))
    blocks: dict[str, list[dict[str, Any]]] = {name: [] for name in ROUTES}
    stolen = steal()
    with processes(folder, robot, args.executor) as running:
        measurer.prepare(running)
        for repeat in range(args.repeats):
            for route in measurer.routes[::1 if repeat % 2 else -1]:
                blocks[route.name].append(measurer.block(route, args.seconds, running))
            medians = {name: round(median(b[-1]['latencies']), 3) for name, b in blocks.items()}
            print(f'{rate:g} Hz, repeat {repeat + 1}: p50 [ms] {medians}', flush=True)
    measurer.close()
    rclpy.try_shutdown()
    return {
        'n_per_route': args.repeats * round(args.seconds * rate), 'load': os.getloadavg()[0],
        'stolen_by_the_host_s': round(steal() - stolen, 1),
        'routes': {name: {'hops': HOPS[name], **summary(blocks[name])} for name in ROUTES},
        'comparison': {name: compare(blocks[name], blocks[reference])
                       for name, reference in REFERENCES.items()},
    }


def percentiles(block: dict[str, Any]) -> dict[str, float]:
    """p50 and p99 [ms]."""
    p50, p99 = np.quantile(block['latencies'], (0.5, 0.99)).tolist()
    return {'p50': p50, 'p99': p99}


def summary(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the blocks of p50 and p99, counts, processor time of one answer."""
    each = [percentiles(block) for block in blocks]
    answers = sum(len(block['latencies']) for block in blocks)
    return {
        **{f'{name}_ms': median(e[name] for e in each) for name in LIMITS},
        **{name: sum(block[name] for block in blocks) for name in ('unanswered', 'late_ticks')},
        'cpu_ms_per_answer': {name: 1e3 * sum(block['cpu'][name] for block in blocks) / answers
                              for name in blocks[0]['cpu']}}


def compare(blocks: list[dict[str, Any]], reference: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratio of the medians, that of neighbouring blocks (median, quartiles), the target."""
    ours, theirs = summary(blocks), summary(reference)
    result: dict[str, Any] = {}
    for name, limit in LIMITS.items():
        each = [percentiles(a)[name] / percentiles(b)[name] for a, b in zip(blocks, reference)]
        ratio = ours[f'{name}_ms'] / theirs[f'{name}_ms']
        low, middle, high = np.quantile(each, (0.25, 0.5, 0.75)).tolist()
        result[name] = {'ratio': ratio, 'of_single_repeats': middle, 'quartiles': [low, high],
                        'target': limit, 'met': ratio <= limit}
    return result


def steal() -> float:
    """Time the host took from this machine so far [s], all cores."""
    return int(Path('/proc/stat').read_text().split()[8]) / os.sysconf('SC_CLK_TCK')


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rates', type=float, nargs='+', default=[50.0, 100.0])
    parser.add_argument('--repeats', type=int, default=12)
    parser.add_argument('--seconds', type=float, default=3.0)
    parser.add_argument('--executor', choices=EXECUTORS, default='events')
    parser.add_argument('--relay', nargs=2, help=argparse.SUPPRESS)
    args, _ = parser.parse_known_args()
    if args.relay:
        sys.exit(run_node(lambda: Relay(*args.relay), None, EXECUTORS[args.executor]))
    given = os.environ.get('ROS_DOMAIN_ID')
    with tempfile.TemporaryDirectory() as name, (
            nullcontext(given) if given else ros_domain()) as domain:
        os.environ |= {'ROS_DOMAIN_ID': str(domain), 'ROS_LOG_DIR': name,
                       **loopback({})}
        rates = {f'{rate:g}_hz': measure(rate, args, Path(name)) for rate in args.rates}
    result = {
        'command': 'python3 benchmarks/command_latency.py --rates '
                   f'{" ".join(f"{r:g}" for r in args.rates)} --repeats {args.repeats} '
                   f'--seconds {args.seconds:g} --executor {args.executor}',
        'machine': f'{platform.machine()}, {os.cpu_count()} cores',
        'python': platform.python_version(), 'rclpy': version('rclpy'), 'robot': ROBOT,
        'executor_of_the_relays': args.executor, 'repeats': args.repeats, **rates}
    print(json.dumps(result, indent=1))
    (HERE / 'results' / 'command_latency.json').write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
