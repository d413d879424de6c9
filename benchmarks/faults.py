"""What breaks while arms move, and what the robot does then: kills, stops, and nonsense.

The whole graph at half of real time: simulator, arbiter, a policy that keeps the arms moving, an
expert who corrects now and then, a recorder. At random moments one node is killed, or stopped for
a while (SIGSTOP), and started again; between the faults short episodes are recorded and finished.
Then everything that is listened to gets nonsense: wrong names, lengths and types of words, NaN,
infinity, stamps from the past and the future.

    python3 benchmarks/faults.py [--faults 200] [--messages 100000] [--seed 0]

Measured, in robot time: from the last word of who drove to HOLD, beyond the time-out after which
he counts as lost (expert 0.2 s; policy 0.5 s, or where its plan ends: here after 0.2 s); after the
death of the arbiter, how long the joints still move; limits of the commanded stream; who died of
what he heard; finished episodes lost.

Writes benchmarks/results/faults.json; exit code 0 where nothing was violated, lost or crashed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue  # noqa: E402
from fault_cell import FACTOR, SPEC, TIMEOUTS, Cell  # noqa: E402
from geometry_msgs.msg import PoseStamped  # noqa: E402
from rich.progress import track  # noqa: E402
from ros_graph import open_graph  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402

from il_robot.data.dataset import open_dataset  # noqa: E402
from il_robot.nodes import convert, topics  # noqa: E402

EVERY = 8
"""An episode is recorded after so many faults."""


def fault(cell: Cell, rng: np.random.Generator, nodes: list[str]) -> dict[str, Any]:
    """One fault: who, how, and what came of it."""
    name = str(rng.choice(nodes))
    kind = str(rng.choice(['kill', 'stop']))
    cell.ask('run', 'AUTONOMOUS')
    driver = 'policy'
    if rng.random() < 0.4:
        cell.ask('engage', 'CORRECTION', 'TELEOP')
        driver = 'expert'
    cell.wait(rng.uniform(0.3, 1.0))
    count, mode = len(cell.modes), cell.mode
    before = dict(cell.newest)
    cell.signal(name, kind)
    cell.wait(1.2 / FACTOR)
    row: dict[str, Any] = {
        'node': name, 'kind': kind, 'drove': driver, 'mode_before': mode,
        'clock_before': before['sim'],
        'went_on_s': {n: round(t - before['sim'], 3) for n, t in cell.newest.items()
                      if np.isfinite(t)}}
    held = [(t, v) for t, v in cell.modes[count:] if v['mode'] == 'HOLD']
    row['modes'] = [(round(t, 2), v['mode'], v['reason']) for t, v in cell.modes[count - 1:]]
    if name == driver:
        last = cell.newest[name] if kind == 'stop' or held else np.nan
        row['held'] = bool(held)
        row['periods_after_timeout'] = round(
            (held[0][0] - last - TIMEOUTS[name]) / SPEC.dt, 2) if held else None
    elif name == 'arbiter':
        row['moved_on_s'] = round(max(cell.moved - cell.newest[name], 0.0), 3)
    elif name != 'sim':  # nobody who drives, or answers: all goes on
        row['held'] = bool(held)
    if held:
        row['why'] = held[0][1]['reason']
    row['hung'] = cell.restore(name, kind)
    return row


def nonsense(cell: Cell, rng: np.random.Generator, messages: int) -> dict[str, Any]:
    """Send it, as fast as it goes, while a policy tries to drive."""
    names, now = list(SPEC.joint_names), lambda: cell.newest['sim']
    values = [np.nan, np.inf, -np.inf, 1e308, -1e30, 0.0, 5.0]

    def stamp() -> Any:
        at = now() + float(rng.choice([0.0, 0.02, -5.0, 1e6, -1e9]))
        return convert.time(min(max(at, 0.0), 2.0**31 - 1))

    def joints() -> JointState:
        size = int(rng.choice([0, 1, 5, SPEC.dim, SPEC.dim, SPEC.dim, 40]))
        message = JointState(
            name=[str(n) for n in rng.choice([*names, '', 'left_thumb', 'x' * 300], size)]
            if rng.random() < 0.5 else names,
            position=[float(v) for v in rng.choice(values, size)])
        message.header.stamp = stamp()
        return message

    def chunk() -> JointTrajectory:
        message = JointTrajectory(joint_names=names if rng.random() < 0.7 else ['a', 'b'])
        for _ in range(int(rng.integers(0, 4))):
            point = JointTrajectoryPoint(positions=joints().position)
            point.time_from_start.sec = int(rng.integers(-5, 5))
            message.points.append(point)
        message.header.stamp = stamp()
        return message

    def word() -> String:
        return String(data=str(rng.choice(
            ['engag', 'engage nobody', '', 'help', 'help ' + 'x' * 500, '\x00\n', 'run now',
             'stop everything', '$(reboot)', 'discard_correction 3'])))

    def status() -> DiagnosticArray:
        keys = ['mode', 'seed', 'stage', 'episode', 'checkpoint', 'chunk_size', 'execution_mode']
        message = DiagnosticArray(status=[DiagnosticStatus(values=[
            KeyValue(key=str(rng.choice(keys)), value=str(rng.choice(['', '-1', 'nan', 'x'])))
            for _ in range(int(rng.integers(0, 6)))])])
        message.header.stamp = stamp()
        return message

    def pose() -> PoseStamped:
        message = PoseStamped()
        message.pose.position.x = float(rng.choice(values))
        message.pose.orientation.w = float(rng.choice(values))
        message.header.stamp = stamp()
        return message

    targets = [
        (JointState, topics.JOINT_STATES, topics.STATE_QOS, joints),
        (JointState, topics.TELEOP_PROPOSAL, topics.PROPOSAL_QOS, joints),
        (JointState, topics.EXPERT_PROPOSAL, topics.PROPOSAL_QOS, joints),
        (JointTrajectory, topics.POLICY_PROPOSAL, topics.CHUNK_QOS, chunk),
        (String, topics.REQUEST, topics.REQUEST_QOS, word),
        (DiagnosticArray, topics.POLICY_STATUS, topics.LATCHED_QOS, status),
        (DiagnosticArray, topics.SIM_EPISODE, topics.LATCHED_QOS, status),
        (DiagnosticArray, topics.MODE, topics.LATCHED_QOS, status),
        (PoseStamped, topics.object_pose('cube'), topics.STATE_QOS, pose)]
    cell.deaf = {'state', 'mode', 'proposal'}  # our own
    _send(cell, targets, messages * 9 // 10, 'nonsense')
    cell.deaf |= {'command'}
    _send(cell, [(JointState, topics.COMMAND, topics.COMMAND_QOS, joints)], messages // 10,
          'nonsense for the robot')
    cell.wait(5.0)  # until the last of it has come
    cell.deaf = set()
    cell.lives += 1
    alive = {name: process.popen.poll() is None for name, process in cell.running.items()}
    cell.ask('hold', 'HOLD')
    cell.ask('run', 'AUTONOMOUS')
    return {'messages': messages, 'topics': len(targets) + 1, 'alive': alive,
            'drives_again': True}


def _send(cell: Cell, targets: list[Any], messages: int, what: str) -> None:
    """So many messages, to each topic in turn."""
    publishers = [(cell.graph.publisher(kind, topic, qos), make)
                  for kind, topic, qos, make in targets]
    for number in track(range(messages), what, refresh_per_second=0.5):
        publisher, make = publishers[number % len(publishers)]
        publisher.publish(make())
        if number % 20 == 0:
            cell.graph._executor.spin_once(timeout_sec=0.0)
    for publisher, _ in publishers:
        cell.graph.node.destroy_publisher(publisher)
    cell.wait(1.0)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line for each node and kind of fault."""
    lines = []
    for node in dict.fromkeys(r['node'] for r in rows):
        for kind in ('kill', 'stop'):
            for drove in (True, False):
                mine = [r for r in rows if r['node'] == node and r['kind'] == kind
                        and (r['drove'] == node) is drove]
                if not mine:
                    continue
                line: dict[str, Any] = {
                    'node': node, 'fault': kind, 'it_drove': drove, 'n': len(mine)}
                for key in ('periods_after_timeout', 'moved_on_s'):
                    values = [r[key] for r in mine if r.get(key) is not None]
                    if values:
                        line[f'{key}_max'] = max(values)
                if 'held' in mine[0]:
                    line['held'] = sum(r['held'] for r in mine)
                    line['why'] = sorted({r['why'] for r in mine if r.get('why')})
                lines.append(line)
    return lines


def main() -> int:
    """Break things, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--faults', type=int, default=200)
    parser.add_argument('--messages', type=int, default=100_000)
    parser.add_argument('--nodes', nargs='*', help='only these are broken')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--output', type=Path, default=HERE / 'results' / 'faults.json')
    args = parser.parse_args()
    rng, rows, finished = np.random.default_rng(args.seed), [], 0
    with tempfile.TemporaryDirectory() as folder:
        with open_graph(folder) as graph:
            cell = Cell(graph)
            graph.until(lambda: all(cell.heard.values()), 'all nodes')
            finished += cell.record()
            for number in track(range(args.faults), 'faults', refresh_per_second=0.5):
                rows.append(fault(cell, rng, args.nodes or list(cell.settings)))
                if number % EVERY == 0:
                    finished += cell.record()
            finished += cell.record()
            stream = cell.violations()
            print(json.dumps({'faults': summary(rows), 'limits': stream}), flush=True)
            fuzz = nonsense(cell, rng, args.messages)
            finished += cell.record()
            stream_after = cell.violations()
        kept = len(open_dataset(cell.output / 'dataset').episodes)
    result = {
        'command': f'python3 benchmarks/faults.py --faults {args.faults} '
                   f'--messages {args.messages} --seed {args.seed}',
        'machine': f'{os.cpu_count()} cores, {platform.machine()}', 'seed': args.seed,
        'timeouts_s': TIMEOUTS, 'faults': summary(rows),
        'surprises': [r for r in rows if (r['node'] == r['drove']) is not r.get(
            'held', r['node'] == r['drove'])],
        'hung_at_start': [*(r['hung'] for r in rows if r['hung']), *cell.hung],
        'limits': stream_after, 'limits_before_nonsense': stream, 'nonsense': fuzz,
        'episodes': {'finished': finished, 'in_the_dataset': kept}}
    print(json.dumps(result, indent=1))
    args.output.write_text(json.dumps(result, indent=1) + '\n')
    late = [r for r in result['faults'] if r.get('periods_after_timeout_max', 0) > 2]
    unheld = [r for r in result['faults'] if r['it_drove'] and r.get('held') != r['n']]
    return int(bool(late or unheld or stream_after['violations'] or kept < finished
                    or not all(fuzz['alive'].values())))


if __name__ == '__main__':
    sys.exit(main())
