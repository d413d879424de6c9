"""The whole graph for hours: memory, file handles, threads, rate and latency over time.

The graph of benchmarks/real_time.py (simulator with two cameras, policy of ACT's size, arbiter,
recorder with its converter, session, and an empty node beside them), the policy asked for a chunk
every 8 control steps, so that other work has room on two cores. Every minute one line is added to
a file: memory (PSS, RSS), file handles and threads of every process, rate, missed ticks and jitter
of ``command`` and of the empty node, latencies of arbiter and policy, disk used. So a run that is
cut short is still worth its minutes; Ctrl-C ends it early, and its real length is written.

    python3 benchmarks/soak.py [--minutes 120] [--log soak.jsonl] [--launch real_time:=40 ...]

Writes benchmarks/results/soak.json and soak.png; ``--table`` only makes both again from the
minutes in soak.json. Flat means: over the second half of the run, the straight line through the
minutes of a process's RSS rises by less than 2 % of its mean per hour or by less than 1 MB per
hour, whichever is more, and handles and threads by less than one. (PSS is noted, too, but rises
and falls with other programs that share a library: it shrinks wherever another torch starts.)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import numpy as np  # noqa: E402
from graph_real_time import family, memory, steal  # noqa: E402
from real_time import (  # noqa: E402
    Graph,
    act_checkpoint,
    between,
    machine,
    place,
    real_time_table,
    regularity,
    running,
)

from il_robot.nodes import topics  # noqa: E402

RESOURCES = ('pss_mb', 'rss_mb', 'handles', 'threads')
RISE, LEAST = 0.02, 1.0  # per hour: share of the mean, and MB that never count


def resources(launch: int) -> dict[str, dict[str, float]]:
    """Of each process of the launch by name; those that have just ended left out."""
    found: dict[str, dict[str, float]] = {}
    for name, pids in family(launch).items():
        for pid in pids:
            with suppress(OSError, ValueError, KeyError):
                used = memory(pid)
                entry = found.setdefault(name, dict.fromkeys(RESOURCES, 0.0))
                entry['pss_mb'] += used['pss']
                entry['rss_mb'] += used['rss']
                entry['handles'] += len(os.listdir(f'/proc/{pid}/fd'))
                entry['threads'] += len(os.listdir(f'/proc/{pid}/task'))
    return found


def sample(graph: Graph, begun: float, since: float) -> dict[str, Any]:
    """What one minute was like."""
    now, said = time.time(), graph.listener.diagnostics
    instants = {name: between(values, since, now) for name, values in graph.instants().items()}
    return {
        'minute': (now - begun) / 60.0, 'load': os.getloadavg()[0],
        'resources': resources(graph.launch.pid),
        **{name: regularity(values) for name, values in instants.items() if len(values) > 1},
        'latency': {node: {key: float(value) for key, value in said.get(node, {}).items()
                           if 'latency' in key or 'inference' in key}
                    for node in ('arbiter', 'policy')},
        'disk_mb': sum(f.stat().st_size for f in (graph.folder / 'session').rglob('*')
                       if f.is_file()) / 1e6}


def slope(minutes: list[float], values: list[float]) -> float:
    """Rise per hour of the straight line through them."""
    return float(np.polyfit(np.array(minutes) / 60.0, values, 1)[0]) if len(minutes) > 2 else 0.0


def flatness(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Rise per hour of every process's resources over the second half."""
    half = samples[len(samples) // 2:]
    names = set.intersection(*(set(s['resources']) for s in half))
    table: dict[str, Any] = {}
    for name in sorted(names - {'starting'}):
        row: dict[str, Any] = {'flat': True}
        for key in ('rss_mb', 'handles', 'threads'):
            values = [s['resources'][name][key] for s in half]
            rise = slope([s['minute'] for s in half], values)
            bound = max(RISE * float(np.mean(values)), LEAST)
            row[key] = {'first': samples[0]['resources'].get(name, {}).get(key),
                        'last': values[-1], 'rise_per_hour': rise}
            row['flat'] = row['flat'] and rise < bound
        table[name] = row
    return table


def plot(samples: list[dict[str, Any]], path: Path) -> None:
    """Memory, handles and threads, rate and jitter, latency over the minutes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout='constrained')
    (memory_axes, handle_axes), (rate_axes, latency_axes) = figure.subplots(2, 2)
    minutes = [s['minute'] for s in samples]
    names = sorted({n for s in samples for n in s['resources']} - {'starting'})
    for name in names:
        rows = [s['resources'].get(name, {}) for s in samples]
        memory_axes.plot(minutes, [r.get('rss_mb', np.nan) for r in rows], label=name)
        handle_axes.plot(minutes, [r.get('handles', np.nan) for r in rows], label=name)
        handle_axes.plot(minutes, [r.get('threads', np.nan) for r in rows], ':')
    memory_axes.set(ylabel='RSS [MB]', ylim=(0, None))
    memory_axes.legend(fontsize=7)
    handle_axes.set(ylabel='file handles (lines), threads (dots)', ylim=(0, None))
    for name, label in ((topics.COMMAND, 'command'), ('empty', 'empty node')):
        rate_axes.plot(minutes, [s[name]['jitter_p99_ms'] for s in samples],
                       label=f'{label}: jitter p99 [ms]')
    rate_axes.plot(minutes, [s[topics.COMMAND]['rate_hz'] for s in samples],
                   label='command: rate [Hz]')
    rate_axes.set(ylim=(0, None), xlabel='minutes')
    rate_axes.legend(fontsize=7)
    for node, key in (('arbiter', 'latency_p50_ms'), ('arbiter', 'latency_p99_ms'),
                      ('policy', 'latency_p50_ms'), ('policy', 'latency_p99_ms')):
        latency_axes.plot(minutes, [s['latency'][node].get(key, np.nan) for s in samples],
                          label=f'{node} {key[8:11]}')
    latency_axes.set(ylabel='latency [ms]', xlabel='minutes', yscale='log')
    latency_axes.legend(fontsize=7)
    for axes in (memory_axes, handle_axes, rate_axes, latency_axes):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def write(samples: list[dict[str, Any]], table: dict[str, Any], args: Any, more: Any) -> None:
    """The result and its picture."""
    result = {
        'command': f'python3 benchmarks/soak.py --minutes {args.minutes:g} --launch '
                   f'{" ".join(args.launch)}', **machine(),
        'asked_minutes': args.minutes, 'minutes': samples[-1]['minute'], **more,
        'flatness_of_second_half': flatness(samples), 'real_time': table,
        'disk_mb': samples[-1]['disk_mb'], 'samples': samples}
    (HERE / 'results' / 'soak.json').write_text(json.dumps(result, indent=1) + '\n')
    plot(samples, HERE / 'results' / 'soak.png')
    print(json.dumps({k: v for k, v in result.items() if k != 'samples'}, indent=1))


def again() -> int:
    """Table and picture from the minutes that are there."""
    path = HERE / 'results' / 'soak.json'
    result = json.loads(path.read_text())
    result['flatness_of_second_half'] = flatness(result['samples'])
    path.write_text(json.dumps(result, indent=1) + '\n')
    plot(result['samples'], path.with_suffix('.png'))
    for name, row in result['flatness_of_second_half'].items():
        print(name, row)
    return 0


def main() -> int:
    """Run until the time is over or Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=120.0)
    parser.add_argument('--log', type=Path, default=Path('soak.jsonl'))
    parser.add_argument('--table', action='store_true')
    parser.add_argument('--launch', nargs='*', default=[], metavar='KEY:=VALUE')
    args = parser.parse_args()
    if args.table:
        return again()
    samples: list[dict[str, Any]] = []
    with place() as folder, running(folder, act_checkpoint(
            folder / 'policy', {'mode': 'blend', 'n_action_steps': 8}), args.launch) as graph:
        begun = since = time.time()
        stolen = steal()
        with suppress(KeyboardInterrupt), args.log.open('w') as log:
            while time.time() - begun < 60.0 * args.minutes:
                graph.listener.spin(60.0)
                graph.check()
                samples.append(sample(graph, begun, since))
                since = time.time()
                log.write(json.dumps(samples[-1]) + '\n')
                log.flush()
                print(f'{samples[-1]["minute"]:.0f} min: '
                      f'{samples[-1][topics.COMMAND]["rate_hz"]:.2f} Hz', flush=True)
        table = real_time_table(graph.instants(), begun, since)
        more = {'stolen_by_the_host_s': steal() - stolen,
                'episodes_recorded': graph.log().count('episode '),
                'nodes_that_died': graph.log().count('] died'),
                'tracebacks': graph.log().count('Traceback')}
    write(samples, table, args, more)
    return 0


if __name__ == '__main__':
    sys.exit(main())
