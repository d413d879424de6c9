"""What recording costs and loses: three 640x480 cameras at 30 Hz and all control topics at 50 Hz.

A source process publishes ready-made messages and counts them; the recorder runs as it does in
a session. Counted are the messages of the bag against those sent, the processor time of the
recorder's process, and how long the request that ends the episode takes. The reference in the
same run is a bare process that subscribes to the same topics raw and appends the bytes to a
file: what is left is checks, index and durability.

    python3 benchmarks/recorder.py [--seconds 60] [--modes compressed raw]

Writes benchmarks/results/recorder.json. Raw pictures go through config/fastdds_shm.xml.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from PIL import Image as Picture
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import synthetic_episodes as synthetic  # noqa: E402

from il_robot.data.bag_reader import BagReader  # noqa: E402
from il_robot.data.stream_check import stamp_of  # noqa: E402
from il_robot.launch_options import loopback  # noqa: E402
from il_robot.nodes import convert, topics  # noqa: E402
from il_robot.types import ActionChunk  # noqa: E402

SPEC = synthetic.robot()
VIEWS = synthetic.cameras(SPEC, 3)
CONTROL, CAMERA = 50.0, 30.0
LIMIT_CORES, LIMIT_STOP = 0.5, 0.3
LATE = 0.02  # [s] from when a tick of the source counts as late
STOPS = 5
SETTLE = 1.0  # [s]


def control_messages() -> dict[str, tuple[type, bytes]]:
    """Every topic of 50 Hz, with a message as long as a real one."""
    zeros = np.zeros(SPEC.dim)
    state = convert.joint_state(0.0, SPEC, SPEC.rest, zeros, zeros)
    target = convert.joint_state(0.0, SPEC, SPEC.rest)
    times = np.arange(20) * SPEC.dt
    chunk = convert.chunk_message(
        ActionChunk(0.0, times, np.tile(SPEC.rest, (20, 1))), SPEC)
    pose = convert.pose_message(0.0, np.array([0, 0, 0, 0, 0, 0, 1], np.float32))
    messages = {
        topics.JOINT_STATES: (JointState, state), topics.COMMAND: (JointState, target),
        topics.TELEOP_PROPOSAL: (JointState, target), topics.EXPERT_PROPOSAL: (JointState, target),
        topics.POLICY_PROPOSAL: (JointTrajectory, chunk),
        **{topics.object_pose(name): (PoseStamped, pose) for name in synthetic.OBJECTS},
    }
    return {name: (kind, serialize_message(m)) for name, (kind, m) in messages.items()}


def camera_messages(mode: str) -> dict[str, tuple[type, list[bytes]]]:
    """Every camera's topic, with a few pictures that carry sensor noise."""
    rng = np.random.default_rng(0)
    found: dict[str, tuple[type, list[bytes]]] = {}
    for view in VIEWS:
        pictures = []
        for i in range(4):
            rgb = synthetic.picture(view, 10 * i)
            rgb = np.clip(rgb + rng.normal(0, 4, rgb.shape), 0, 255).astype(np.uint8)
            if mode == 'raw':
                pictures.append(serialize_message(convert.image_message(0.0, view.name, rgb)))
            else:
                out = io.BytesIO()
                Picture.fromarray(rgb).save(out, 'JPEG', quality=90)
                pictures.append(serialize_message(
                    convert.compressed_message(0.0, view.name, out.getvalue())))
        name = (topics.image if mode == 'raw' else topics.compressed)(view.name)
        found[name] = (Image if mode == 'raw' else CompressedImage, pictures)
    return found


def stamped(data: bytes, stamp: float) -> bytes:
    """The same message with another stamp."""
    whole = int(stamp)
    return data[:4] + struct.pack('<iI', whole, round((stamp - whole) * 1e9)) + data[12:]


def source(mode: str) -> None:
    """Publish for as long as each line of standard input says [s]; answer with the counts."""
    rclpy.init()
    node = Node('source')
    control, cameras = control_messages(), camera_messages(mode)
    publish = node.create_publisher
    out = {n: publish(kind, n, topics.STATE_QOS) for n, (kind, _) in control.items()}
    out |= {n: publish(kind, n, topics.IMAGE_QOS) for n, (kind, _) in cameras.items()}
    print('ready', flush=True)
    for line in sys.stdin:
        while any(p.get_subscription_count() == 0 for p in out.values()):
            time.sleep(0.02)
        sent = dict.fromkeys(out, 0)
        late = 0
        start, first = time.monotonic(), time.time()
        ticks = sorted(
            [(i / CONTROL, 0, i) for i in range(round(float(line) * CONTROL))]
            + [(i / CAMERA + 1e-3, 1, i) for i in range(round(float(line) * CAMERA))])
        for when, kind, i in ticks:
            wait = start + when - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            late += wait < -LATE
            now = time.time()
            for name in cameras if kind else control:
                data = cameras[name][1][i % 4] if kind else control[name][1]
                out[name].publish(stamped(data, now))
                sent[name] += 1
        print(json.dumps({'sent': sent, 'first': first, 'late': late / len(ticks)}), flush=True)
    node.destroy_node()
    rclpy.try_shutdown()


def bare(mode: str, file: Path) -> None:
    """The reference: subscribe raw to the same topics and append the bytes to a file."""
    rclpy.init()
    node = Node('bare')
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)

    def receive(data: bytes) -> None:
        os.write(descriptor, data)

    for name, (kind, _) in control_messages().items():
        node.create_subscription(kind, name, receive, topics.EVERY_MESSAGE_QOS, raw=True)
    for name, (kind, _) in camera_messages(mode).items():
        node.create_subscription(kind, name, receive, topics.EVERY_IMAGE_QOS, raw=True)
    with suppress(ExternalShutdownException):
        rclpy.spin(node)


def cpu(pid: int) -> float:
    """Processor time of a process so far [s], all threads."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def steal() -> float:
    """Time the host took from this machine so far [s], all cores."""
    return int(Path('/proc/stat').read_text().split()[8]) / os.sysconf('SC_CLK_TCK')


@contextmanager
def process(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A child that is interrupted at the end."""
    child = subprocess.Popen([sys.executable, *command], text=True, **options)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()


def measure(mode: str, seconds: float, folder: Path) -> dict[str, Any]:
    """One mode: the reference, then the recorder."""
    os.environ['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)
    os.environ['ROS_LOG_DIR'] = str(folder)
    os.environ.update({
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'FASTDDS_DEFAULT_PROFILES_FILE': str(HERE.parent / 'config' / 'fastdds_shm.xml')}
        if mode == 'raw' else loopback({}))
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE}
    with process(__file__, '--source', mode, **pipes) as player:
        assert player.stdin and player.stdout
        player.stdout.readline()

        def play(length: float, pid: int) -> tuple[dict[str, Any], float]:
            """The source's answer and the cores the process used meanwhile."""
            assert player.stdin and player.stdout
            before, began = cpu(pid), time.monotonic()
            player.stdin.write(f'{length}\n')
            player.stdin.flush()
            answer = json.loads(player.stdout.readline())
            return answer, (cpu(pid) - before) / (time.monotonic() - began)

        with process(__file__, '--bare', mode, str(folder / 'bare')) as reference:
            play(1.0, reference.pid)
            _, cores = play(min(seconds, 15.0), reference.pid)
        result = record(mode, seconds, folder, play)
    (folder / 'bare').unlink()
    result['reference cores'] = round(cores, 3)
    result['cores, ratio to the reference'] = round(result['cores'] / cores, 2)
    return result


def record(
    mode: str, seconds: float, folder: Path,
    play: Callable[[float, int], tuple[dict[str, Any], float]],
) -> dict[str, Any]:
    """The recorder under the load of the source."""
    rclpy.init()
    node = Node('benchmark')
    clients = {w: node.create_client(Trigger, topics.service_of(w)) for w in (
        'start', 'success', 'discard')}

    def call(word: str) -> float:
        clients[word].wait_for_service(60.0)
        began = time.monotonic()
        future = clients[word].call_async(Trigger.Request())
        rclpy.spin_until_future_complete(node, future, timeout_sec=60.0)
        elapsed = time.monotonic() - began
        answer = future.result()
        assert answer is not None and answer.success, answer
        return elapsed

    output = folder / mode
    with process('-m', 'il_robot.nodes.recorder', '--ros-args', '-p', f'output:={output}',
                 '-p', f'image_transport:={mode}', '-p', 'task:=benchmark',
                 cwd=HERE.parent) as recorder:
        play(1.0, recorder.pid)
        call('start')
        stolen = steal()
        answer, cores = play(seconds, recorder.pid)
        stolen = (steal() - stolen) / seconds / (os.cpu_count() or 1)
        time.sleep(SETTLE)  # what was sent last is still under way
        stops = [call('success')]
        (bag_path,) = (output / 'bags').iterdir()
        while not (bag_path / 'metadata.yaml').exists():
            time.sleep(0.05)
        lost, got = compare(bag_path, answer)
        for _ in range(STOPS):
            call('start')
            play(1.0, recorder.pid)
            stops.append(call('discard'))
    node.destroy_node()
    rclpy.try_shutdown()
    size = sum(f.stat().st_size for f in bag_path.iterdir())
    return {
        'seconds': seconds, 'messages sent': sum(answer['sent'].values()), 'messages lost': lost,
        'messages in the bag': got, 'MB/s': round(size / seconds / 1e6, 1),
        'cores': round(cores, 3), 'limit cores': LIMIT_CORES,
        'stop [s]': round(stops[0], 4), 'stop, median of all [s]': round(
            statistics.median(stops), 4), 'stop, longest of all [s]': round(max(stops), 4),
        'limit stop [s]': LIMIT_STOP, 'late ticks of the source': round(answer['late'], 4),
        'stolen by the host': round(stolen, 3),
    }


def compare(path: Path, answer: dict[str, Any]) -> tuple[dict[str, int], int]:
    """Messages sent and not in the bag by topic, and how many are in it."""
    lost, got = {}, 0
    with BagReader(path) as bag:
        for name, sent in answer['sent'].items():
            there = sum(stamp_of(bytes(m.data[:16])) >= answer['first']
                        for m in bag.messages(f'/{name}'))
            got += there
            if there != sent:
                lost[name] = sent - there
    return lost, got


def main() -> int:
    """Run and write the result; exit code 1 where a limit is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=60.0)
    parser.add_argument(
        '--modes', nargs='+', default=['compressed', 'raw'], choices=['compressed', 'raw'])
    parser.add_argument('--source', help=argparse.SUPPRESS)
    parser.add_argument('--bare', nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.source:
        source(arguments.source)
        return 0
    if arguments.bare:
        bare(arguments.bare[0], Path(arguments.bare[1]))
        return 0
    results = {}
    for mode in arguments.modes:
        with tempfile.TemporaryDirectory() as folder:
            results[mode] = measure(mode, arguments.seconds, Path(folder))
        print(mode, json.dumps(results[mode], indent=2), flush=True)
    data = {
        'command': f'python3 benchmarks/recorder.py --seconds {arguments.seconds:g} --modes '
                   f'{" ".join(arguments.modes)}',
        'load': '3 cameras 640x480 at 30 Hz and 7 topics at 50 Hz',
        'results': results,
        'machine': {'processor': platform.machine(), 'cores': os.cpu_count(),
                    'system': platform.system(), 'python': platform.python_version()},
    }
    file = HERE / 'results' / 'recorder.json'
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(data, indent=2) + '\n')
    good = all(not r['messages lost'] and r['cores'] <= LIMIT_CORES and r['stop [s]'] < LIMIT_STOP
               for r in results.values())
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
