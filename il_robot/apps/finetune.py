"""``il_robot finetune``: imitation, then reinforcement learning in simulation."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from il_robot.apps.evaluate import SimFactory
from il_robot.apps.interrupt import stop_on_interrupt
from il_robot.apps.options import add_task_options, task_arguments
from il_robot.config import key_values
from il_robot.errors import ConfigError

if TYPE_CHECKING:
    from il_robot.algorithms.finetune_config import FinetuneConfig

PICTURE = 'finetune.png'


def add_parser(subparsers: Any) -> None:
    """Add ``finetune`` to the command line."""
    parser = subparsers.add_parser(
        'finetune', help='improve a trained policy by reinforcement learning',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Improve a trained policy by reinforcement learning in simulation. What comes '
                    'out is an ordinary checkpoint.',
        epilog='examples:\n'
               '  il_robot finetune --from outputs/run --output outputs/better \\\n'
               '      --dataset outputs/cube --task transfer_cube --disturb shoves=1\n'
               '  il_robot finetune --from outputs/mlp --algorithm rlpd --output outputs/rlpd \\\n'
               '      --dataset outputs/cube --set updates=1\n'
               '  il_robot finetune --output outputs/better --resume\n'
               '  il_robot finetune --output outputs/better --resume --minutes 90\n'
               'Ctrl-C saves everything; --resume goes on there, or after the end with other '
               '--minutes, --steps, --target or --patience. docs/reinforcement.md says which '
               'algorithm is for what.')
    parser.add_argument('--from', dest='start', type=Path, metavar='CHECKPOINT',
                        help='a checkpoint, or a training run, whose newest one is taken')
    parser.add_argument('--output', type=Path, required=True, help='folder of the run')
    parser.add_argument('--resume', action='store_true', help='go on with the run in --output')
    parser.add_argument('--algorithm', metavar='NAME',
                        help='residual (default), residual_ppo: correct the policy as it is, '
                             'whatever its kind; '
                             'filtered: imitate its own successes, again and again, whatever its '
                             'kind; awr: every step of its tries by its advantage; rlpd, ppo: '
                             'change a perceptron')
    parser.add_argument('--dataset', type=Path, help='demonstrations and corrections to learn '
                        'from beside its own experience')
    _add_learning_options(parser)
    add_task_options(parser)
    parser.set_defaults(run=run, task=None)  # the checkpoint knows its task


def _add_learning_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--reward',
                        help='sparse (default): 1 for the success; staged: that and the '
                             'stages; progress: that and how far the task has come')
    parser.add_argument('--stuck', type=float, metavar='SECONDS',
                        help='progress: a try ends when it has got no further for so long '
                             '(default 2; 0: never)')
    parser.add_argument('--minutes', type=float,
                        help='most time (default 45)')
    parser.add_argument('--steps', type=int,
                        help='most decisions (default 1000000)')
    parser.add_argument('--every', type=int, metavar='N',
                        help='evaluate every N decisions (default 25000; filtered, awr: 100000, '
                             'the length of a round)')
    parser.add_argument('--evaluate-episodes', type=int, metavar='N',
                        help='in each evaluation (default 200)')
    parser.add_argument('--target', type=float,
                        help='success rate at which it ends (default 0.98)')
    parser.add_argument('--patience', type=int, metavar='N',
                        help='end after N evaluations without a new best (default: never)')
    parser.add_argument('--limit', type=float,
                        help='residual, residual_ppo: largest correction, in deviations of the '
                             'demonstrated actions (default 0.5); a policy that '
                             'is corrected already keeps its own, and --hold')
    parser.add_argument('--hold', type=int, metavar='N',
                        help='residual, residual_ppo: control steps that a correction stays '
                             '(default 10)')
    parser.add_argument('--worlds', type=int,
                        help='in which it drives at once (default 4)')
    parser.add_argument('--seed', type=int, help='of everything (default 0)')
    parser.add_argument('--workers', type=int, help='processes that evaluate (default: one per '
                        'core)')
    parser.add_argument('--set', action='append', default=[], metavar='KEY=VALUE',
                        help="an option of the algorithm's own configuration")


def run(args: argparse.Namespace) -> int:
    """Fine-tune; returns 0, or 130 after Ctrl-C."""
    # Read once, when torch is loaded; see il_robot.apps.train.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    import torch

    from il_robot.algorithms.finetune import Around, finetune
    from il_robot.algorithms.finetune_config import extend_finetune, open_finetune, read_finetune
    from il_robot.checkpoints import find_checkpoint

    if not args.resume:
        if args.start is None:
            raise ConfigError('--from is needed: a checkpoint or a training run')
        start = find_checkpoint(args.start)
        open_finetune(args.output, _config(args), start, args.dataset, _environment(args, start))
    else:
        extend_finetune(args.output, **_extension(args))
    _, _, _, environment = read_finetune(args.output)
    workers = args.workers or len(os.sched_getaffinity(0))
    # worlds and the learner take turns on the cores; a small network gains nothing from two
    torch.set_num_threads(1)
    with stop_on_interrupt() as stopped:
        finished = finetune(args.output, Around(
            SimFactory(environment), workers, stopped, lambda r: _note(args.output, r)))
    if not finished:
        print(f'stopped; to go on:\n  il_robot finetune --output '
              f'{shlex.quote(str(args.output))} --resume')
        return 130
    print(f'written: {find_checkpoint(args.output)}, {args.output / PICTURE}')
    return 0


_NAMES = ('algorithm', 'steps', 'minutes', 'every', 'evaluate_episodes', 'target', 'patience',
          'worlds', 'seed', 'reward', 'stuck', 'limit', 'hold')
_EXTENDING = 'minutes', 'steps', 'target', 'patience'


def _config(args: argparse.Namespace) -> FinetuneConfig:
    from il_robot.algorithms.finetune_config import TRYING, FinetuneConfig
    from il_robot.config import build

    values = {name: getattr(args, name) for name in _NAMES if getattr(args, name) is not None}
    if args.every is None and args.algorithm in TRYING:
        values['every'] = 100_000
    if args.evaluate_episodes is not None:
        values['final_episodes'] = args.evaluate_episodes
    return build(FinetuneConfig, {
        **values, 'options': key_values(args.set, '--set')}, 'finetune')


def _extension(args: argparse.Namespace) -> dict[str, Any]:
    """When else the run shall end.

    Raises:
        ConfigError: anything else of it shall change.
    """
    fixed = {'from': args.start, 'dataset': args.dataset, 'set': args.set, 'task': args.task,
             'width': args.width != 'nominal', 'disturb': args.disturb,
             'task-option': args.task_option}
    fixed |= {name.replace('_', '-'): getattr(args, name)
              for name in _NAMES if name not in _EXTENDING}
    given = [f'--{name}' for name, value in fixed.items() if value not in (None, False, [])]
    if given:
        raise ConfigError(
            f'--resume goes on with the run as it is; leave out {", ".join(given)} (what may be '
            f'given: {", ".join(f"--{name}" for name in _EXTENDING)}), or begin another run in '
            f'another --output')
    return {name: getattr(args, name) for name in _EXTENDING if getattr(args, name) is not None}


def _environment(args: argparse.Namespace, start: Path) -> dict[str, Any]:
    from il_robot.policies.checkpoint import read_description

    task = args.task or read_description(start).task
    if not task:
        raise ConfigError(f'{start} does not name its task: add --task')
    return task_arguments(argparse.Namespace(**{**vars(args), 'task': task}))


def _note(output: Path, record: Mapping[str, Any]) -> None:
    """A line for the terminal, and the picture anew."""
    from il_robot.algorithms.finetune_config import read_records
    from il_robot.algorithms.plots import plot_finetune

    low, high = (100 * v for v in record['interval_95'])
    text = {'start': 'before', 'end': 'at the end', 'during': f'{record["steps"]} steps'}
    more = ', taken back' if record.get('taken_back') else ''
    print(f'  {text[record["kind"]]}: {record["successes"]} of {record["evaluated"]} = '
          f'{100 * record["success_rate"]:.1f} % [{low:.1f}, {high:.1f}], '
          f'{record["minutes"]:.1f} min{more}'
          + (f' ({record["why"]})' if record.get('why') else ''))
    plot_finetune({record['algorithm']: read_records(output)}, output / PICTURE)
