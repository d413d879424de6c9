"""``il_robot train``: a policy from a dataset."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from il_robot.apps.evaluate import SimFactory
from il_robot.apps.interrupt import stop_on_interrupt
from il_robot.apps.options import add_task_options, task_arguments
from il_robot.errors import ConfigError, unknown

if TYPE_CHECKING:
    from il_robot.algorithms.bc import TrainResult
    from il_robot.algorithms.recipe import Recipe
    from il_robot.data.dataset import Dataset
    from il_robot.spec import RobotSpec


def add_parser(subparsers: Any) -> None:
    """Add ``train`` to the command line."""
    parser = subparsers.add_parser(
        'train', help='train a policy',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Train a policy by behaviour cloning on a LeRobotDataset v3.0.',
        epilog='examples:\n'
               '  il_robot train --policy chunk_mlp --dataset outputs/cube --output outputs/run\n'
               '  il_robot train --policy mlp --dataset outputs/cube --output outputs/mlp \\\n'
               '      --set model.hidden=[512,512,512] --set training.batch_size=128\n'
               '  il_robot train --policy act --dataset outputs/cube --output outputs/act \\\n'
               '      --evaluate 1000\n'
               '  il_robot train --policy act --dataset outputs/more --output outputs/tuned \\\n'
               '      --start outputs/act --steps 1000 --set training.learning_rate=1e-4\n'
               '  torchrun --nproc-per-node 2 -m il_robot train --policy act ...\n'
               '  il_robot train --output outputs/run --resume\n'
               'Ctrl-C saves a checkpoint; --resume goes on exactly there.')
    which = parser.add_mutually_exclusive_group()
    which.add_argument('--policy', metavar='NAME', help='a recipe of config/train, see README')
    which.add_argument('--config', metavar='FILE', help='a recipe of your own (YAML)')
    parser.add_argument('--dataset', type=Path, help='folder of the dataset')
    parser.add_argument('--output', type=Path, required=True, help='folder of the run')
    parser.add_argument('--resume', action='store_true', help='go on with the run in --output')
    parser.add_argument(
        '--start', type=Path, metavar='CHECKPOINT',
        help='go on from the weights of a checkpoint (or of a run) with other data: fine-tuning')
    parser.add_argument('--steps', type=int, help='short for --set training.steps=N')
    parser.add_argument('--seed', type=int, help='short for --set training.seed=N')
    parser.add_argument(
        '--set', action='append', default=[], metavar='KEY=VALUE',
        help='change a key of the recipe, for example training.learning_rate=3e-4')
    parser.add_argument(
        '--robot', metavar='NAME',
        help='the robot (of config/robots, or a YAML file), where the dataset does not say it')
    parser.add_argument(
        '--evaluate', type=int, metavar='N',
        help='try the policy in simulation every N steps and keep the best checkpoint, '
             'OUTPUT/best; short for --set training.evaluate_every=N')
    parser.add_argument(
        '--workers', type=int, help='processes that evaluate (default: one per core)')
    parser.add_argument(
        '--assess', type=float, metavar='SHARE',
        help='then also learn when the policy needs help (for the gates safe, lazy, thrifty), '
             'with thresholds that call for it in this share of the states, for example 0.2')
    add_task_options(parser)
    parser.set_defaults(run=run, task=None)  # the dataset knows its task


def run(args: argparse.Namespace) -> int:
    """Train; returns 0, or 130 after Ctrl-C (a checkpoint is saved)."""
    # Read once, when torch is loaded. By default waiting threads spin, and beside any other
    # busy process a step of a small network then takes 10 times as long.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    from il_robot.algorithms.runs import read_run
    from il_robot.data.dataset import open_dataset

    if args.resume:
        recipe, data = read_run(args.output)
        if args.policy or args.config or args.set or args.steps or args.seed is not None \
                or args.evaluate is not None or args.start:
            raise ConfigError(
                '--resume goes on with the recipe of the run; leave out --policy, --config, '
                '--set, --start, --steps, --seed and --evaluate, or start a new run in another '
                '--output')
        dataset = open_dataset(args.dataset or data['dataset'])
        robot = _robot(args.robot, data['robot'])
        environment = data.get('trial', {})
    else:
        if args.dataset is None:
            raise ConfigError('--dataset is needed: the folder of `il_robot record`')
        recipe = _recipe(args)
        dataset = open_dataset(args.dataset)
        robot = _robot(args.robot, None)
        if args.task and not recipe.training.evaluate_every:
            raise ConfigError('--task says where to evaluate: add --evaluate N, every N steps')
        environment = _environment(args, dataset, recipe) if recipe.training.evaluate_every else {}
    if args.assess is not None and not 0 < args.assess < 1:
        raise ConfigError(f'--assess must be between 0 and 1, got {args.assess}')
    if args.assess is not None and recipe.observation.cameras:
        raise ConfigError('--assess is for policies without cameras')
    return _train(dataset, recipe, args, robot, environment)


def _environment(
    args: argparse.Namespace, dataset: Dataset, recipe: Recipe
) -> dict[str, Any]:
    """Arguments of :func:`il_robot.sim.make`: the task of the dataset, or the one given."""
    from il_robot.algorithms.samples import dataset_task
    from il_robot.checkpoints import camera_arguments
    from il_robot.data.frames import check_cameras
    from il_robot.sim.tasks import task_names

    task = args.task or dataset_task(dataset)
    if not task:
        raise ConfigError(
            f'{args.dataset} does not name one task to evaluate in: add --task, one of '
            f'{", ".join(task_names())}')
    if task not in task_names():
        raise ConfigError(unknown('task', task, task_names()))
    seen = recipe.observation
    recorded = check_cameras(dataset, seen.cameras, seen.image_size)
    return {**task_arguments(args), 'task': task, **camera_arguments(recorded, dataset.spec)}


def _recipe(args: argparse.Namespace) -> Recipe:
    from il_robot.algorithms.recipe import load_recipe
    from il_robot.resources import named_config

    settings = list(args.set)
    if args.steps is not None:
        settings.append(f'training.steps={args.steps}')
    if args.seed is not None:
        settings.append(f'training.seed={args.seed}')
    if args.evaluate is not None:
        settings.append(f'training.evaluate_every={args.evaluate}')
    return load_recipe(named_config('train', args.config or args.policy or 'chunk_mlp'), settings)


def _robot(name: str | None, saved: dict[str, Any] | None) -> RobotSpec | None:
    from il_robot.resources import named_config
    from il_robot.spec import load_robot_spec, robot_spec_from_dict

    if name is not None:
        return load_robot_spec(named_config('robots', name))
    return robot_spec_from_dict(saved, 'run.json') if saved else None


def _train(
    dataset: Dataset, recipe: Recipe, args: argparse.Namespace, robot: RobotSpec | None,
    environment: dict[str, Any],
) -> int:
    from il_robot.algorithms.bc import train
    from il_robot.algorithms.progress import frame_lines, training_bar
    from il_robot.algorithms.team import join_team
    from il_robot.algorithms.trials import Trial
    from il_robot.checkpoints import list_checkpoints
    from il_robot.policies.checkpoint import read_description

    output = args.output
    done = list_checkpoints(output) if args.resume else []
    start = read_description(done[-1]).step if done else 0
    with join_team() as team:
        if team.leads and not args.resume:
            print(f'{recipe.policy} on {len(dataset.episodes)} episodes, {len(dataset)} steps '
                  f'({dataset.path})' + (f', {team.size} processes' if team.size > 1 else ''))
        # torchrun passes the terminal's Ctrl-C on, so that it comes twice
        with stop_on_interrupt(insist=team.size == 1) as stopped, \
                training_bar(recipe.training.steps, start, shown=team.leads) as bar:
            trial = None
            if environment:
                workers = args.workers or len(os.sched_getaffinity(0))
                trial = Trial(SimFactory(environment), environment, workers, bar.trying)
            result = train(
                dataset, recipe, output, robot=robot, resume=args.resume, start=args.start,
                trial=trial, team=team, on_log=bar.show, on_frames=frame_lines(),
                should_stop=stopped)
        if team.leads:
            if args.assess is not None and result.finished:
                _assess(result.checkpoint, dataset, args.assess, recipe.training.seed)
            _conclude(result, recipe.training.steps, output, environment)
    return 0 if result.finished else 130


def _assess(checkpoint: Path, dataset: Dataset, share: float, seed: int) -> None:
    """An assessor into the checkpoint's folder."""
    from il_robot.algorithms.assess import AssessTraining, train_assessor
    from il_robot.config import build
    from il_robot.policies.assessor import ASSESSOR, save_assessor

    config = build(AssessTraining, {'budget': share}, '--assess')
    assessor = train_assessor(checkpoint, dataset, config, seed)
    save_assessor(checkpoint / ASSESSOR, assessor)
    print('assessor: ' + ', '.join(
        f'{name} {value:.3g}' for name, value in assessor.config.thresholds.items()))


def _conclude(
    result: TrainResult, steps: int, output: Path, environment: dict[str, Any]
) -> None:
    """Say what there is now and how to go on."""
    from il_robot.algorithms.trials import BEST

    print(f'checkpoint: {result.checkpoint}')
    if result.best:
        print(f'best: {output / BEST} (step {result.best["step"]:.0f}, '
              f'{100 * result.best["success"]:.0f} % of {result.best["episodes"]:.0f} episodes); '
              f'measure it on others:\n  il_robot evaluate --policy '
              f'{shlex.quote(str(output / BEST))} --task {environment["task"]}')
    if not result.finished:
        print(f'stopped at step {result.step} of {steps}; to go on:\n'
              f'  il_robot train --output {shlex.quote(str(output))} --resume')
