"""How long the property tests of safety were searched: the same tests, ever other examples.

    python3 benchmarks/property_search.py [--minutes 20] [TEST ...]

`make test` runs each with the same few hundred examples every time. Here pytest runs them again
and again, with another seed of Hypothesis each time, until the time is over; counted are the
examples that passed. A failure is printed with its seed, and the exit code is 1.

Writes benchmarks/results/property_search.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'benchmarks' / 'results' / 'property_search.json'
TESTS = (
    'test/control/test_safety.py::test_for_any_input_whatever_the_output_keeps_all_limits_and_'
    'comes_to_rest',
    'test/control/test_handover.py::test_whatever_drivers_do_the_limits_hold',
    'test/control/test_gates.py::test_laws_of_every_gate',
    'test/control/test_gate_rule.py::test_requests_alternate_and_never_come_thick_and_fast',
    'test/control/test_gate_watch.py::test_every_observation_is_judged_at_most_once_and_never_half',
)
_NAME = re.compile(r'^(test/\S+?)(\[\S+\])?:$')
_COUNT = re.compile(r'(\d+) passing, (\d+) failing')
_SECONDS = re.compile(r'during generate phase \((\d+\.\d+) seconds\)')


def search(tests: list[str], seed: int) -> tuple[int, dict[str, list[float]], str]:
    """One run of pytest: exit code, by test passing and failing examples and seconds, output."""
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-p', 'no:xdist',
         f'--hypothesis-seed={seed}', '--hypothesis-show-statistics', *tests],
        cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, 'HYPOTHESIS_PROFILE': 'search', 'OMP_NUM_THREADS': '1'})
    found: dict[str, list[float]] = {}
    name = ''
    for line in done.stdout.splitlines():
        if match := _NAME.match(line):
            name = match[1]
            found.setdefault(name, [0.0, 0.0, 0.0])
        if name and (match := _SECONDS.search(line)):
            found[name][2] += float(match[1])
        if name and (match := _COUNT.search(line)):
            found[name][0] += int(match[1])
            found[name][1] += int(match[2])
    return done.returncode, found, done.stdout


def main() -> int:
    """Search until the time is over."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('tests', nargs='*', default=list(TESTS), metavar='TEST')
    parser.add_argument('--minutes', type=float, default=20.0)
    args = parser.parse_args()
    begun, runs, broken = time.monotonic(), 0, list[int]()
    totals: dict[str, dict[str, Any]] = {}
    while time.monotonic() - begun < 60 * args.minutes:
        code, found, output = search(args.tests, runs)
        if code not in (0, 1) or not found:
            raise SystemExit(output)
        if code:
            broken.append(runs)
            print(output)
        for name, (passing, failing, seconds) in found.items():
            entry = totals.setdefault(name, {'passing': 0, 'failing': 0, 'seconds': 0.0})
            entry['passing'] += int(passing)
            entry['failing'] += int(failing)
            entry['seconds'] += seconds
        runs += 1
        print(f'{(time.monotonic() - begun) / 60:.1f} min, {runs} runs: '
              f'{sum(e["passing"] for e in totals.values())} examples', flush=True)
    RESULTS.write_text(json.dumps({
        'command': f'python3 benchmarks/property_search.py --minutes {args.minutes:g}',
        'hypothesis': version('hypothesis'), 'runs': runs, 'seeds_that_failed': broken,
        'tests': totals}, indent=1) + '\n')
    print(json.dumps(totals, indent=1))
    return int(bool(broken))


if __name__ == '__main__':
    sys.exit(main())
