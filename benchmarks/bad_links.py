"""Bad connections between robot, policy and arbiter: what the commands and the robot do then.

Simulator, arbiter, a policy that keeps the arms moving, expert and recorder at half of real time.
One of three topics goes through a process that delays, drops, repeats, reorders or tears its
messages (benchmarks/bad_link.py); each fault lasts some seconds, then the connection is good again
and the policy is asked to drive.

    joint_states      to arbiter, policy and expert
    policy/proposal   to the arbiter
    command           to the robot

    python3 benchmarks/bad_links.py [--seconds 8] [--pulls 20]

Measured: the share of the time in which the policy still drives; limits of the commands that the
arbiter sent; the fastest measured joint over its velocity limit; whether the policy drives again.
Where ``ip netns`` is permitted (root), the policy also runs in a network of its own, joined by a
cable that is pulled again and again: commands, mode and return as above.

Prints a table and writes benchmarks/results/bad_links.json; exit code 0 where no limit was
violated, nobody died, and the policy drove again after every fault.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
from fault_cell import FACTOR, JOINTS, SPEC, TIMEOUTS, Cell  # noqa: E402
from ros_graph import PATIENT_QOS, open_graph  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from il_robot.nodes import topics  # noqa: E402

FAULTS: tuple[tuple[str, float], ...] = (
    ('good', 0.0), ('delay', 0.05), ('delay', 0.1), ('delay', 0.3), ('jitter', 0.1),
    ('jitter', 0.3), ('drop', 0.1), ('drop', 0.5), ('silence', 0.5), ('reorder', 5),
    ('flood', 20), ('corrupt', 0.1), ('corrupt', 1.0))
"""Kind and value: s of the wall, shares, s of every second, or numbers of messages."""
LINKS = {
    topics.JOINT_STATES: ('JointState', ('arbiter', 'policy', 'expert')),
    topics.POLICY_PROPOSAL: ('JointTrajectory', ('arbiter',)),
    topics.COMMAND: ('JointState', ('sim',))}


class Measured:
    """What one cell did since :meth:`begin`."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._fastest = 0.0
        self._last: tuple[float, Any] | None = None
        cell.graph.subscribe(JointState, topics.JOINT_STATES, self._on_state, PATIENT_QOS)

    def _on_state(self, message: JointState) -> None:
        stamp = message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec
        position = np.array(message.position)
        if self._last is not None and stamp > self._last[0]:
            speed = np.abs(position - self._last[1]) / (stamp - self._last[0])
            self._fastest = max(self._fastest, float((speed / SPEC.velocity)[JOINTS].max()))
        self._last = (stamp, position)

    def begin(self) -> None:
        """From now on."""
        self._cell.lives += 1
        self._cell.commands.clear()
        self._fastest, self._begun = 0.0, self._cell.newest['sim']
        self._count = len(self._cell.modes)

    def row(self) -> dict[str, Any]:
        """Until now."""
        cell, now = self._cell, self._cell.newest['sim']
        begin = max(self._count - 1, 0)
        modes = cell.modes[begin:]
        # by the robot's clock, whatever the arbiter takes for the time
        at = [*np.maximum(cell.modes_at[begin:], self._begun), now]
        drove = sum(b - a for (_, v), a, b in zip(modes, at, at[1:]) if v['mode'] == 'AUTONOMOUS')
        reasons = sorted({v['reason'].split(':')[0] for _, v in modes[1:] if v['mode'] == 'HOLD'})
        return {'policy_drove': round(float(drove) / max(now - self._begun, 1e-9), 3),
                'held_for': reasons,
                'fastest_joint_over_limit': round(self._fastest, 3), **cell.violations()}


def again(cell: Cell) -> bool:
    """Whether the policy drives within some seconds when asked."""
    try:
        cell.ask('run', 'AUTONOMOUS')
        cell.wait(1.0)
        cell.ask('run', 'AUTONOMOUS')
    except AssertionError:
        return False
    return True


def bad_link(topic: str, seconds: float) -> list[dict[str, Any]]:
    """All faults of one connection."""
    kind, listeners = LINKS[topic]
    through = f'through/{topic}'
    remapped = {name: ['-r', f'{topic}:={through}'] for name in listeners}
    rows = []
    with tempfile.TemporaryDirectory() as folder, open_graph(folder) as graph:
        graph.run('bad_link', str(HERE / 'bad_link.py'), kind, topic, through)
        cell = Cell(graph, remapped)
        order = graph.publisher(String, f'{topic}/link', topics.REQUEST_QOS)
        graph.until(lambda: all(cell.heard.values()), 'all nodes')
        measured = Measured(cell)
        for name, value in FAULTS:
            cell.ask('run', 'AUTONOMOUS')
            cell.wait(1.0)
            measured.begin()
            order.publish(String(data=json.dumps({'kind': name, 'value': value})))
            cell.wait(seconds)
            row = {'topic': topic, 'fault': name, 'value': value, **measured.row()}
            order.publish(String(data=json.dumps({'kind': 'good', 'value': 0.0})))
            cell.wait(1.0)
            row['drives_again'] = again(cell)
            rows.append(row)
            print(row, flush=True)
    return rows


@contextmanager
def cable() -> Iterator[tuple[str, str, str]]:
    """Two networks and a cable between them: their names, and the cable's end in the first."""
    names = [f'il{os.getpid()}{side}' for side in 'ab']
    ends = [f'e{n}' for n in names]

    def ip(*words: str) -> None:
        subprocess.run(['ip', *words], check=True, capture_output=True, timeout=20)

    try:
        for name in names:
            ip('netns', 'add', name)
        ip('link', 'add', ends[0], 'netns', names[0], 'type', 'veth', 'peer', 'name', ends[1],
           'netns', names[1])
        for number, (name, end) in enumerate(zip(names, ends)):
            ip('-n', name, 'addr', 'add', f'10.77.0.{number + 1}/24', 'dev', end)
            for device in ('lo', end):
                ip('-n', name, 'link', 'set', device, 'up')
                ip('-n', name, 'link', 'set', device, 'multicast', 'on')
        yield names[0], names[1], ends[0]
    finally:
        for name in names:
            subprocess.run(['ip', 'netns', 'del', name], capture_output=True, check=False)


def pull(there: str, end: str, times: int) -> dict[str, Any]:
    """In the robot's network: pull the cable to the policy's again and again."""
    rows: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    os.environ['FASTDDS_BUILTIN_TRANSPORTS'] = 'UDPv4'  # no shared memory between two hosts
    with tempfile.TemporaryDirectory() as folder, open_graph(folder, 'SUBNET') as graph:
        cell = Cell(graph, elsewhere={'policy': ('ip', 'netns', 'exec', there)})
        graph.until(lambda: all(cell.heard.values()), 'all nodes')
        measured = Measured(cell)
        for _ in range(times):
            cell.ask('run', 'AUTONOMOUS')
            cell.wait(rng.uniform(0.5, 1.5))
            measured.begin()
            count = len(cell.modes)
            _set(end, 'down')
            cell.wait(1.5 / FACTOR)
            held = [t for t, v in cell.modes[count:] if v['mode'] == 'HOLD']
            last = cell.newest['policy']
            row = {**measured.row(), 'held': bool(held), 'periods_after_timeout': round(
                (held[0] - last - TIMEOUTS['policy']) / SPEC.dt, 2) if held else None}
            begun = time.monotonic()
            _set(end, 'up')
            now = time.monotonic()
            graph.until(lambda now=now: cell.heard['policy'] > now, 'the policy after the cable')
            row['heard_again_s'] = round(time.monotonic() - begun, 2)
            row['drives_again'] = again(cell)
            rows.append(row)
            print(row, flush=True)
    return {'pulled': times, 'rows': rows}


def _set(end: str, state: str) -> None:
    subprocess.run(['ip', 'link', 'set', end, state], check=True, timeout=20)


def partition(times: int) -> dict[str, Any]:
    """The whole of it; why not, where it is not permitted."""
    try:
        with cable() as (here, there, end), tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / 'rows.json'
            subprocess.run(['ip', 'netns', 'exec', here, sys.executable, __file__, '--inside',
                            there, end, str(times), str(out)], check=True)
            found: dict[str, Any] = json.loads(out.read_text())
            return found
    except (OSError, subprocess.CalledProcessError) as error:
        why = (getattr(error, 'stderr', None) or str(error).encode()).decode().strip()
        return {'not_done': why}


def good(rows: Sequence[dict[str, Any]]) -> bool:
    """No limit violated, and the policy drove again after each."""
    return all(r['violations'] == 0 and r['drives_again'] for r in rows)


def words(fault: str, value: float) -> str:
    """A fault as people say it."""
    return {
        'good': 'none', 'delay': f'{1e3 * value:.0f} ms later',
        'jitter': f'0 to {1e3 * value:.0f} ms later, out of order',
        'drop': f'{100 * value:.0f} % lost', 'silence': 'silent half of each second',
        'reorder': f'each {value:.0f} in random order', 'flood': f'each {value:.0f} times',
        'corrupt': f'{100 * value:.0f} % torn'}[fault]


def table(result: dict[str, Any]) -> str:
    """Markdown: what each fault did on each connection."""
    lines = ['| messages are | joint_states | policy/proposal | command |', '|---|---|---|---|']
    by_fault: dict[tuple[str, float], dict[str, Any]] = {}
    for row in result['links']:
        by_fault.setdefault((row['fault'], row['value']), {})[row['topic']] = row
    for (fault, value), found in by_fault.items():
        cells = []
        for topic in LINKS:
            row = found.get(topic)
            cells.append('-' if row is None else ', '.join(filter(None, [
                f'{100 * row["policy_drove"]:.0f} %',
                f'{row["violations"]} limits violated' if row['violations'] else '',
                '' if row['drives_again'] else 'does not drive again'])))
        lines.append(f'| {words(fault, value)} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=8.0, help='that each fault lasts [wall]')
    parser.add_argument('--pulls', type=int, default=20)
    parser.add_argument('--links', nargs='*', default=list(LINKS))
    parser.add_argument('--table', action='store_true', help='only print what is there')
    parser.add_argument('--inside', nargs=4, help=argparse.SUPPRESS)
    parser.add_argument('--output', type=Path, default=HERE / 'results' / 'bad_links.json')
    args = parser.parse_args()
    if args.inside:
        there, end, times, out = args.inside
        Path(out).write_text(json.dumps(pull(there, end, int(times))))
        return 0
    if args.table:
        print(table(json.loads(args.output.read_text())))
        return 0
    rows = [row for topic in args.links for row in bad_link(topic, args.seconds)]
    cut = partition(args.pulls) if args.pulls else {'rows': []}
    result = {
        'command': f'python3 benchmarks/bad_links.py --seconds {args.seconds:g} '
                   f'--pulls {args.pulls}',
        'machine': f'{os.cpu_count()} cores, {platform.machine()}',
        'time_factor': FACTOR, 'links': rows, 'cable': cut}
    args.output.write_text(json.dumps(result, indent=1) + '\n')
    print(table(result))
    return int(not good([*rows, *cut.get('rows', [])]))


if __name__ == '__main__':
    sys.exit(main())
