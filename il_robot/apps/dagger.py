"""``il_robot dagger``: rounds of correction in simulation, with the scripted expert."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from il_robot.apps.evaluate import SimFactory
from il_robot.apps.interrupt import stop_on_interrupt
from il_robot.apps.options import add_task_options, task_arguments
from il_robot.config import key_values
from il_robot.demonstrations import FINE_NOISE, NOISE, shaken, steady_noise
from il_robot.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from il_robot.algorithms.dagger_config import DaggerConfig
    from il_robot.algorithms.recipe import Recipe

PICTURE = 'dagger.png'


def add_parser(subparsers: Any) -> None:
    """Add ``dagger`` to the command line."""
    parser = subparsers.add_parser(
        'dagger', help='rounds of correction by the scripted expert, in simulation',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='DAgger and its relatives: the policy drives, the expert labels what it '
                    'visits or takes over, the policy is trained again on everything.',
        epilog='examples:\n'
               '  il_robot dagger --task transfer_cube --policy mlp --output outputs/dagger \\\n'
               '      --seeds 0 1 2 --compare\n'
               '  il_robot dagger --policy chunk_mlp --gate human --no-relabel \\\n'
               '      --disturb shoves=1 --output outputs/hg_dagger\n'
               '  il_robot dagger --output outputs/dagger --resume\n'
               'Ctrl-C stops at a point to go on from; --resume goes on exactly there.')
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--policy', metavar='NAME', help='a recipe of config/train (default mlp)')
    which.add_argument('--config', metavar='FILE', help='a recipe of your own (YAML)')
    parser.add_argument('--output', type=Path, required=True, help='folder of the runs')
    parser.add_argument('--resume', action='store_true', help='go on with the runs in --output')
    for name, default, meaning in (
        ('rounds', 5, 'of correction'), ('demonstrations', 10, 'episodes before the first round'),
        ('episodes', 20, 'of each round'), ('evaluate-episodes', 200, 'after each round'),
    ):
        parser.add_argument(f'--{name}', type=int, default=default,
                            help=f'{meaning} (default %(default)s)')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0], metavar='SEED',
                        help='one run for each (default 0)')
    parser.add_argument(
        '--gate', default='beta', help='who takes over when: beta (the default), never, human, '
        'ensemble, safe, lazy, thrifty')
    parser.add_argument('--gate-option', action='append', default=[], metavar='KEY=VALUE',
                        help='of the gate, for example beta=0.3')
    parser.add_argument('--budget', type=float, default=0.0,
                        help='share of the states the expert may be asked for: finds thresholds '
                             'anew in every round (ensemble, safe, lazy, thrifty)')
    parser.add_argument('--alone', type=int, default=10, metavar='N',
                        help='episodes more that the policy drives without help at the beginning '
                             'of a round, where thresholds are learned (default %(default)s)')
    parser.add_argument('--decay', type=float, default=0.5,
                        help='of beta from round to round (default %(default)s)')
    parser.add_argument('--no-relabel', action='store_true',
                        help='the expert labels only where he drives')
    parser.add_argument('--compare', action='store_true',
                        help='also train on demonstrations alone, as many as there are labels')
    parser.add_argument('--warm-steps', type=int, default=0, metavar='N',
                        help='each round goes on from the policy of the round before with N '
                             'steps; otherwise it trains from fresh weights')
    parser.add_argument('--first', type=Path, metavar='RUNS',
                        help='--output of runs with the same demonstrations, for example with '
                             'another gate: their first policies are taken')
    parser.add_argument('--noise', type=float,
                        help='on what the expert does, not on his labels [rad] (default '
                             f'{NOISE[0]}; insert_peg {FINE_NOISE["insert_peg"][0]}, half of the '
                             'time, and none on corrections)')
    parser.add_argument('--exact-corrections', action='store_true', help='none on corrections')
    parser.add_argument('--quiet-demonstrations', action='store_true',
                        help='demonstrate without what --disturb asks for: most people do')
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                        help='change a key of the recipe')
    parser.add_argument('--workers', type=int, help='processes (default: one per core)')
    add_task_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the rounds; returns 0, or 130 after Ctrl-C."""
    # Read once, when torch is loaded; see il_robot.apps.train.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    from il_robot.algorithms.dagger import Surroundings, dagger
    from il_robot.algorithms.dagger_config import read_dagger

    folders = _resumed(args) if args.resume else _opened(args)
    workers = args.workers or len(os.sched_getaffinity(0))
    with stop_on_interrupt() as stopped:
        for folder in folders:
            _, _, environment = read_dagger(folder)
            print(f'{folder}:')
            finished = dagger(folder, Surroundings(
                SimFactory(environment['env']), SimFactory(environment['demonstrations']),
                workers, stopped, lambda record: _note(args.output, record)))
            if not finished:
                print(f'stopped; to go on:\n  il_robot dagger --output '
                      f'{shlex.quote(str(args.output))} --resume')
                return 130
    print(f'written: {args.output / PICTURE}')
    return 0


def _opened(args: argparse.Namespace) -> list[Path]:
    """Make the folders of new runs."""
    from il_robot.algorithms.dagger_config import check_gate, open_dagger

    recipe, folders = _recipe(args), []
    arguments = task_arguments(args)
    disturbed = {} if args.quiet_demonstrations else arguments['disturbances']
    disturbances = {**shaken(args.task, args.noise), **disturbed}
    environment = {'env': arguments,
                   'demonstrations': {**arguments, 'disturbances': disturbances}}
    if len(set(args.seeds)) != len(args.seeds):
        raise ConfigError(f'--seeds must differ, got {args.seeds}')
    if args.output.exists() and (args.output.is_file() or any(args.output.iterdir())):
        raise ConfigError(
            f'{args.output} is not empty; add --resume to go on with the runs there, or give '
            f'another --output')
    for seed in args.seeds:
        config = _config(args, seed)
        check_gate(config, recipe)
        folders.append(args.output / f'seed_{seed}')
        open_dagger(folders[-1], config, recipe, environment,
                    args.first / folders[-1].name if args.first else None)
    return folders


def _config(args: argparse.Namespace, seed: int) -> DaggerConfig:
    from il_robot.algorithms.dagger_config import DaggerConfig
    from il_robot.config import build

    return build(DaggerConfig, {
        'rounds': args.rounds, 'demonstrations': args.demonstrations, 'episodes': args.episodes,
        'gate': args.gate, 'options': key_values(args.gate_option, '--gate-option'),
        'decay': args.decay, 'budget': args.budget, 'alone': args.alone,
        'relabel': not args.no_relabel,
        'noise': 0.0 if args.exact_corrections else steady_noise(args.task, args.noise),
        'compare': args.compare, 'warm_steps': args.warm_steps,
        'evaluate_episodes': args.evaluate_episodes, 'seed': seed}, 'dagger')


def _resumed(args: argparse.Namespace) -> list[Path]:
    folders = sorted(args.output.glob('seed_*'), key=lambda p: int(p.name.partition('_')[2]))
    if not folders:
        raise ConfigError(f'no run to go on with in {args.output}')
    return folders


def _recipe(args: argparse.Namespace) -> Recipe:
    from il_robot.algorithms.recipe import load_recipe
    from il_robot.resources import named_config

    return load_recipe(named_config('train', args.config or args.policy or 'mlp'), args.set)


def _note(output: Path, record: Mapping[str, Any]) -> None:
    """A line for the terminal, and the picture anew."""
    from il_robot.algorithms.dagger import read_rounds
    from il_robot.algorithms.plots import plot_rounds

    low, high = (100 * v for v in record['interval_95'])
    name = record['method'] if record['round'] else 'demonstrations'
    print(f'  round {record["round"]} ({name}): {record["labels"]} labels, '
          f'{record["expert_seconds"]:.0f} s driven by the expert, {record["switches"]} '
          f'takeovers; {record["successes"]} of {record["evaluated"]} = '
          f'{100 * record["success_rate"]:.1f} % [{low:.1f}, {high:.1f}]')
    records = [r for folder in sorted(output.glob('seed_*')) for r in read_rounds(folder)]
    plot_rounds(records, output / PICTURE)
