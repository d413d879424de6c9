"""Set-points at 100 Hz: the hardware node beside a bare rclpy node that does nothing else.

Both run at once, in front of the same stand-in for a robot (test/nodes/stand_in.py, OpenArm, 16
joints). The bare node publishes as many arrays from a 100 Hz timer and passes the joint states on
as they are. Compared are the spread of the set-points' period, the delay from the driver's stamp
to the arrival of the joint states, and CPU time.

    python3 benchmarks/hardware_stream.py [--seconds 30]

Writes benchmarks/results/hardware_stream.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / 'test' / 'nodes')]

import numpy as np  # noqa: E402
from rclpy.clock import Clock, ClockType  # noqa: E402
from rclpy.node import Node  # noqa: E402
from ros_graph import Graph, open_graph  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import Float64MultiArray  # noqa: E402

from il_robot.launch_options import loopback  # noqa: E402
from il_robot.nodes import convert, topics  # noqa: E402
from il_robot.nodes.node import events_executor, run_node  # noqa: E402
from il_robot.resources import named_config  # noqa: E402
from il_robot.spec import load_robot_spec  # noqa: E402

ROBOT = 'openarm'
SPEC = load_robot_spec(named_config('robots', ROBOT))
DRIVER = SPEC.wiring.sources[0].topic
ARRAYS = [len(c.joints) for c in SPEC.wiring.controllers]
SIDES = ('hardware', 'bare')


class Bare(Node):
    """What there is to compare with."""

    def __init__(self) -> None:
        super().__init__('bare')
        publishers = [
            self.create_publisher(Float64MultiArray, f'bare/array_{i}', topics.SETPOINT_QOS)
            for i in range(len(ARRAYS))]
        messages = [Float64MultiArray(data=[0.0] * n) for n in ARRAYS]
        states = self.create_publisher(JointState, 'bare/joint_states', topics.STATE_QOS)
        self.create_subscription(JointState, DRIVER, states.publish, topics.DRIVER_STATE_QOS)
        self.create_timer(
            0.01, lambda: [p.publish(m) for p, m in zip(publishers, messages)],
            clock=Clock(clock_type=ClockType.STEADY_TIME))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def measure(graph: Graph, pids: dict[str, int], seconds: float) -> dict[str, dict[str, float]]:
    """Period error, delay and CPU of both, over the same time."""
    arrivals: dict[str, list[float]] = {side: [] for side in SIDES}
    delays: dict[str, list[float]] = {side: [] for side in SIDES}
    first = SPEC.wiring.controllers[0].topic
    for side, topic in zip(SIDES, (first, 'bare/array_0')):
        graph.subscribe(Float64MultiArray, topic, partial(on_array, arrivals[side]), 10)
    for side, topic in zip(SIDES, (topics.JOINT_STATES, 'bare/joint_states')):
        graph.subscribe(JointState, topic, partial(on_state, graph, delays[side]), 10)
    command = graph.node.create_publisher(JointState, topics.COMMAND, topics.COMMAND_QOS)
    graph.subscribe(JointState, topics.JOINT_STATES, command.publish, topics.STATE_QOS)
    graph.until(lambda: min(map(len, arrivals.values())) > 100, 'both streams')
    for values in (*arrivals.values(), *delays.values()):
        values.clear()
    before = {side: cpu_seconds(pid) for side, pid in pids.items()}
    end = time.monotonic() + seconds
    graph.until(lambda: time.monotonic() > end, timeout=seconds + 60)
    result = {}
    for side, pid in pids.items():
        error = np.abs(np.diff(arrivals[side]) - 0.01)
        result[side] = {
            'setpoints_per_s': len(arrivals[side]) / seconds,
            **{f'period_error_p{p}_ms': 1e3 * float(np.percentile(error, p)) for p in (50, 99)},
            **{f'state_delay_p{p}_ms': 1e3 * float(np.percentile(delays[side], p))
               for p in (50, 99)},
            'cpu_percent': 100 * (cpu_seconds(pid) - before[side]) / seconds}
    return result


def on_array(arrivals: list[float], _: Float64MultiArray) -> None:
    """When it came."""
    arrivals.append(time.perf_counter())


def on_state(graph: Graph, delays: list[float], message: JointState) -> None:
    """Delay since the driver's stamp."""
    now = 1e-9 * graph.node.get_clock().now().nanoseconds
    delays.append(now - convert.seconds(message.header.stamp))


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seconds', type=float, default=30.0)
    parser.add_argument('--bare', action='store_true', help=argparse.SUPPRESS)
    args, _ = parser.parse_known_args()
    if args.bare:
        sys.exit(run_node(Bare, [], events_executor))
    with tempfile.TemporaryDirectory() as folder, open_graph(folder) as graph:
        environment = {**os.environ, 'ROS_DOMAIN_ID': str(graph.domain),
                       **loopback({})}
        others = [subprocess.Popen([sys.executable, *words], env=environment) for words in (
            [str(HERE.parent / 'test/nodes/stand_in.py'), ROBOT], [__file__, '--bare'])]
        try:
            node = graph.start('hardware', robot=ROBOT)
            measured = measure(
                graph, {'hardware': node.popen.pid, 'bare': others[1].pid}, args.seconds)
        finally:
            for process in others:
                process.terminate()
                process.wait()
    ours, bare = (measured[side] for side in SIDES)
    result = {
        'command': f'python3 benchmarks/hardware_stream.py --seconds {args.seconds:g}',
        'machine': f'{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}',
        'python': platform.python_version(), 'rclpy': version('rclpy'), 'robot': ROBOT,
        'n': round(args.seconds * ours['setpoints_per_s']), **measured,
        'ratio': {key: ours[key] / max(bare[key], 1e-9) for key in ours}}
    print(json.dumps(result, indent=1))
    (HERE / 'results' / 'hardware_stream.json').write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
