"""``il_robot demo``: record, train, evaluate, with the very commands a user would type."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from il_robot.errors import ConfigError


def add_parser(subparsers: Any) -> None:
    """Add ``demo`` to the command line."""
    parser = subparsers.add_parser(
        'demo', help='the whole loop in a few minutes',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='The expert records demonstrations, a chunk policy trains on them, and is '
                    'evaluated on seeds it has never seen; each step is printed as the command '
                    'it is.',
        epilog='example:\n  il_robot demo --output outputs/demo\n'
               'Ctrl-C at any time: the same command goes on where it was.')
    parser.add_argument('--output', type=Path, default=Path('outputs/demo'),
                        help='folder for everything (default %(default)s)')
    parser.add_argument('--task', default='transfer_cube', help='default %(default)s')
    parser.add_argument('--demonstrations', type=int, default=50, help='default %(default)s')
    parser.add_argument('--steps', type=int, help="training steps (default: the recipe's)")
    parser.add_argument('--episodes', type=int, default=200,
                        help='evaluation episodes (default %(default)s)')
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class _Part:
    """One command of the demo: what it is for, its words, and what it leaves when done."""

    title: str
    words: list[str]
    done: Path
    begun: Path
    resume: list[str]


def run(args: argparse.Namespace) -> int:
    """Run the parts that are not done; the exit code of the first that fails, or 0."""
    if args.demonstrations < 2 or args.episodes < 1:
        raise ConfigError('--demonstrations must be >= 2 and --episodes >= 1')
    times: list[tuple[str, float]] = []
    for number, part in enumerate(_parts(args), 1):
        words = part.resume if part.begun.exists() else part.words
        print(f'\n== {number}. {part.title}\n$ il_robot {shlex.join(words)}', flush=True)
        if part.done.exists():
            print(f'done before: {part.done}')
            continue
        started = time.monotonic()
        code = _call(words)
        if code:
            print(f'\nstopped with exit code {code}; the same command goes on from here:\n'
                  f'  il_robot demo {shlex.join(sys.argv[2:])}'.rstrip(), file=sys.stderr)
            return code
        times.append((part.title, time.monotonic() - started))
    _summary(args.output, times)
    return 0


def _parts(args: argparse.Namespace) -> list[_Part]:
    out = args.output
    dataset, run_folder, report = out / 'dataset', out / 'chunk_mlp', out / 'evaluation.json'
    record = ['record', '--expert', '--task', args.task, '--output', str(dataset),
              '--episodes', str(args.demonstrations)]
    train = ['train', '--policy', 'chunk_mlp', '--dataset', str(dataset),
             '--output', str(run_folder)]
    if args.steps:
        train += ['--steps', str(args.steps)]
    evaluate = ['evaluate', '--policy', str(run_folder), '--task', args.task,
                '--episodes', str(args.episodes), '--output', str(report), '--video', '9']
    return [
        _Part('The expert records demonstrations', record, run_folder,
              dataset, [*record, '--resume']),
        _Part('A chunk policy trains on them', train, report,
              run_folder, ['train', '--output', str(run_folder), '--resume']),
        _Part('Evaluation on unseen seeds', evaluate, report.with_suffix('.mp4'),
              report, [*evaluate, '--resume']),
    ]


def _call(words: list[str]) -> int:
    """Run one command as a child; Ctrl-C reaches the child, which tidies up by itself."""
    child = subprocess.Popen([sys.executable, '-m', 'il_robot', *words])
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue


def _summary(out: Path, times: list[tuple[str, float]]) -> None:
    from rich.console import Console
    from rich.table import Table

    result = json.loads((out / 'evaluation.json').read_text())['summary']
    low, high = (100 * v for v in result['interval_95'])
    table = Table(title='il_robot demo', show_header=False)
    for title, seconds in times:
        table.add_row(title, f'{seconds:.0f} s')
    table.add_row('Success', f'{result["successes"]} of {result["episodes"]} = '
                  f'{100 * result["success_rate"]:.1f} % [{low:.1f}, {high:.1f}]')
    for name in ('evaluation.png', 'evaluation.mp4', 'dataset', 'chunk_mlp'):
        table.add_row('', str(out / name))
    console = Console()
    console.print(table)
    console.print('Next: look at the video; il_robot dataset plot; il_robot record --help')
