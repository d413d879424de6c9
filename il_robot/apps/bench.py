"""``il_robot bench``: methods x environments x seeds, and one report."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from il_robot.apps.interrupt import stop_on_interrupt
from il_robot.errors import ConfigError, unknown
from il_robot.resources import named_config

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from il_robot.bench.suite import Cell, Suite


def add_parser(subparsers: Any) -> None:
    """Add ``bench`` to the command line."""
    parser = subparsers.add_parser(
        'bench', help='compare methods on several environments and write a report',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Run every method of a suite on every environment with every seed, one after '
                    'the other on each core, and write OUTPUT/report.html. What is finished '
                    'stays: the same command goes on where it was.',
        epilog='examples:\n'
               '  il_robot bench --suite quick --output outputs/quick\n'
               '  il_robot bench --env CartPole-v1 --expert my_module:expert \\\n'
               '      --output outputs/mine\n'
               '  il_robot bench --suite applications --output outputs/apps --ray auto')
    parser.add_argument('--suite', metavar='NAME|FILE.yaml',
                        help='a name in config/bench, or a file')
    parser.add_argument('--env', help="your own environment: Gymnasium's id, or MODULE:ID")
    parser.add_argument('--expert', metavar='MODULE:CALLABLE',
                        help='its expert: called with the environment and an observation')
    parser.add_argument('--methods', nargs='*', metavar='NAME',
                        help="only these of the suite's (with --env: of all)")
    parser.add_argument('--environments', nargs='*', metavar='NAME',
                        help="only these of the suite's")
    parser.add_argument('--seeds', type=int, nargs='*', help="instead of the suite's")
    parser.add_argument('--workers', type=int, help='processes, also of --ray local (default: one '
                                                    'per core)')
    parser.add_argument('--ray', metavar='ADDRESS', default='',
                        help="a Ray cluster instead: auto, local, or its address (needs "
                             "'il_robot[ray]')")
    parser.add_argument('--output', type=Path, required=True)
    parser.add_argument('--report', action='store_true', help='only write the report anew')
    parser.add_argument('--into', type=Path, nargs='*', default=[], metavar='FILE.md',
                        help='also write the tables into documents, between "<!-- bench: SUITE '
                             '-->" and "<!-- end of bench -->"')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns 0, 1 when a cell failed, 130 after Ctrl-C."""
    # read when torch and numpy are loaded, in the processes of the cells, too: one core for each
    for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
        os.environ.setdefault(name, '1')
    from il_robot.bench.outcome import REFERENCES
    from il_robot.bench.pool import run_local, run_ray
    from il_robot.bench.suite import FAILED, RESULTS, opened
    from il_robot.data.layout import write_json

    if args.workers is not None and args.workers < 1:
        raise ConfigError(f'--workers must be >= 1, got {args.workers}')
    if args.workers and args.ray not in ('', 'local'):
        raise ConfigError('--workers is for this machine; the cluster itself says how many it has')
    suite, output = _suite(args), args.output
    failed = 0

    def done(cell: Cell, result: dict[str, Any] | str) -> None:
        nonlocal failed
        if isinstance(result, str):
            failed += 1
            path = (output / FAILED / cell.path).with_suffix('.txt')
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(result)
            print(f'  {cell.path.with_suffix("")}: {result.strip().splitlines()[-1]}',
                  file=sys.stderr)
            return
        path = output / RESULTS / cell.path
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, result)
        (output / FAILED / cell.path).with_suffix('.txt').unlink(missing_ok=True)
        last = result['points'][-1]
        print(f'  {cell.path.with_suffix("")}: {sum(last["scores"]) / len(last["scores"]):.3f}, '
              f'{result["wall_seconds"]:.0f} s', flush=True)

    finished = True
    with opened(suite, output), stop_on_interrupt() as should_stop:
        if not args.report:
            cells = list(suite.cells())
            if all(c.method in REFERENCES for c in cells):
                raise ConfigError('nothing to compare: sac_demos is for actions that are numbers')
            cells = [c for c in cells if not (output / RESULTS / c.path).exists()]
            print(f'{suite.name}: {len(cells)} to run')
            workers = args.workers or len(os.sched_getaffinity(0))
            finished = (
                run_ray(cells, output, args.ray, done, should_stop, args.workers) if args.ray
                else run_local(cells, output, workers, done, should_stop))
        _report(args)
    if not finished:
        print('stopped; the same command goes on')
        return 130
    return int(failed > 0)


def _suite(args: argparse.Namespace) -> Suite:
    from il_robot.bench.application import Application
    from il_robot.bench.suite import Suite, load_suite

    if bool(args.suite) == bool(args.env):
        raise ConfigError('give --suite, or --env and --expert')
    if args.env:
        if not args.expert:
            raise ConfigError('--env needs --expert MODULE:CALLABLE')
        sys.path.insert(0, os.getcwd())
        suite = Suite(args.env, {args.env: Application(args.env, args.expert)})
    else:
        suite = load_suite(named_config('bench', args.suite))
    return _chosen(suite, args)


def _chosen(suite: Suite, args: argparse.Namespace) -> Suite:
    """The part of a suite that is asked for.

    Raises:
        ConfigError: it has no such method or environment.
    """
    from il_robot.bench.suite import METHODS

    environments = args.environments or [*suite.applications, *suite.scenes]
    known = [*(METHODS if suite.applications else ()), *suite.pipelines]
    methods = args.methods or [*suite.methods, *suite.pipelines]
    for name, among in (*((m, known) for m in args.methods or ()),
                        *((e, [*suite.applications, *suite.scenes]) for e in environments)):
        if name not in among:
            raise ConfigError(f'{suite.name}: ' + unknown('name', name, among))
    applications = {k: v for k, v in suite.applications.items() if k in environments}
    scenes = {k: v for k, v in suite.scenes.items() if k in environments}
    flat = tuple(m for m in methods if m in METHODS and m not in suite.pipelines)
    pipelines = {k: v for k, v in suite.pipelines.items()
                 if k in methods and (not v.scenes or scenes.keys() & set(v.scenes))}
    try:
        return replace(
            suite, methods=flat, applications=applications if flat else {}, pipelines=pipelines,
            scenes=scenes if pipelines else {},
            seeds=tuple(args.seeds) if args.seeds else suite.seeds)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _command(args: argparse.Namespace, suite: Mapping[str, Any], present: Collection[str]) -> str:
    """That makes all that is in the folder, whatever part of it was asked for now, elsewhere.

    Args:
        args: Of the command line.
        suite: What the folder is of.
        present: Environments with results.
    """
    words = ['--suite', args.suite] if args.suite else ['--env', args.env, '--expert', args.expert]
    whole = _suite(argparse.Namespace(**{
        **vars(args), 'methods': None, 'environments': None, 'seeds': None}))
    for name, ours, all_of_it in (
            ('methods', [*(suite['methods'] if suite['applications'] else ()),
                         *suite['pipelines']],
             [*(whole.methods if whole.applications else ()), *whole.pipelines]),
            ('environments', [e for e in (*suite['applications'], *suite['scenes'])
                              if e in present],
             [*whole.applications, *whole.scenes]),
            ('seeds', suite['seeds'], whole.seeds)):
        if set(ours) != set(all_of_it):
            words += [f'--{name}', *map(str, ours)]
    again = f'outputs/{args.output.resolve().name}_again'
    return f'il_robot bench {shlex.join([*words, "--output", again])}'


def _report(args: argparse.Namespace) -> None:
    from il_robot.bench.documents import fill
    from il_robot.bench.measures import curves, without_scale
    from il_robot.bench.report import write_report
    from il_robot.bench.suite import SUITE, read_failed, read_results

    output, cells = args.output, read_results(args.output)
    found = curves(cells)
    if not found:
        print('nothing to report yet')
        for name, why in without_scale(cells).items():
            print(f'  {name}: {why}')
        return
    suite = json.loads((output / SUITE).read_text())['suite']
    command = _command(args, suite, {c['environment'] for c in cells})
    page = write_report(cells, suite, output, command, read_failed(output))
    print(f'written: {page}')
    for path in args.into:
        print(f'{path}: {fill(path, suite["name"], found)} tables')
