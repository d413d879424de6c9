"""``il_robot record``: demonstrations into a LeRobotDataset v3.0."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from il_robot.apps.options import add_task_options, task_arguments
from il_robot.config import key_values
from il_robot.demonstrations import FINE_NOISE, NOISE, shaken
from il_robot.errors import ConfigError, SimulationError

if TYPE_CHECKING:
    from il_robot.data.writer import DatasetWriter
    from il_robot.sim.bimanual_env import BimanualEnv

FIRST_SEED = 10_000
"""Demonstrations start here; evaluation uses the seeds from 0, so that they never meet."""


def add_parser(subparsers: Any) -> None:
    """Add ``record`` to the command line."""
    parser = subparsers.add_parser(
        'record', help='record demonstrations',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Record demonstrations of the scripted expert into a LeRobotDataset v3.0.',
        epilog='example:\n  il_robot record --expert --task transfer_cube --episodes 50 '
               '--output outputs/cube\nCtrl-C keeps every finished episode; the same command '
               'with --resume goes on.')
    parser.add_argument(
        '--expert', action='store_true', required=True, help='the scripted expert drives')
    parser.add_argument('--episodes', type=int, default=50, help='to record (default 50)')
    parser.add_argument('--output', type=Path, required=True, help='folder of the dataset')
    parser.add_argument(
        '--resume', action='store_true', help='go on with a dataset until it has --episodes')
    parser.add_argument(
        '--seed', type=int, default=FIRST_SEED, help='of the first episode (default %(default)s)')
    parser.add_argument(
        '--noise', type=float,
        help='noise on the executed action [rad]; labels stay clean (default '
             f'{NOISE[0]}; insert_peg {FINE_NOISE["insert_peg"][0]}, half of the time)')
    parser.add_argument(
        '--variation', type=float, default=0.0,
        help="how much the expert's style varies between episodes, 0 to 1 (default 0)")
    parser.add_argument(
        '--cameras', nargs='*', default=[], metavar='NAME', help="cameras to record, or 'all'")
    parser.add_argument(
        '--image-size', default=None, metavar='WxH', help="for example 320x240; the camera's own")
    parser.add_argument(
        '--keep-failures', action='store_true', help='record failed episodes too')
    add_task_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Record; returns 0, or 130 after Ctrl-C (what is finished is kept)."""
    from il_robot.data.writer import DatasetWriter

    if args.episodes < 1:
        raise ConfigError(f'--episodes must be >= 1, got {args.episodes}')
    if args.noise is not None and not 0 <= args.noise <= 0.1:
        raise ConfigError(f'--noise must be 0 to 0.1 rad, got {args.noise}')
    if not 0 <= args.variation <= 1:
        raise ConfigError(f'--variation must be 0 to 1, got {args.variation}')
    if (args.output / 'meta' / 'info.json').exists() and not args.resume:
        raise ConfigError(
            f'{args.output} is a dataset already; --resume adds to it, or give a new folder')
    env = _make_env(args)
    try:
        cameras = [
            replace(c, width=env.image_size(c)[0], height=env.image_size(c)[1])
            for c in env.cameras
        ]
        with DatasetWriter.open(args.output, env.robot, env.task.objects, cameras) as writer:
            for line in writer.repaired:
                print(f'repaired: {line}')
            return _record(env, writer, args)
    finally:
        env.close()


def _make_env(args: argparse.Namespace) -> BimanualEnv:
    from il_robot import sim

    options = task_arguments(args)
    options['disturbances'] = {
        **shaken(args.task, args.noise), **key_values(args.disturb, '--disturb')}
    cameras = args.cameras
    if cameras == ['all']:
        cameras = [c.name for c in sim.default_robot().cameras]
    return sim.make(
        **options, cameras=cameras, image_size=_image_size(args.image_size),
        expert_variation=args.variation)


def _image_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.partition('x')
    if not (width.isdigit() and height.isdigit() and int(width) % 2 == int(height) % 2 == 0):
        raise ConfigError(f'--image-size {text!r}: write WxH with even numbers, as 320x240')
    return int(width), int(height)


def _next_seed(path: Path, first: int) -> int:
    """The seed after the last one recorded, so that no episode is recorded twice."""
    from il_robot.data.dataset import open_dataset

    return max([first, *(episode.seed + 1 for episode in open_dataset(path).episodes)])


def _record(env: BimanualEnv, writer: DatasetWriter, args: argparse.Namespace) -> int:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from il_robot.algorithms.collect import record_demonstration
    from il_robot.types import EpisodeInfo, Outcome

    seed = _next_seed(args.output, args.seed) if writer.n_episodes else args.seed
    failures = 0
    done = writer.n_episodes
    columns = (
        TextColumn('record'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn('{task.description}'))
    try:
        with Progress(*columns) as progress:
            bar = progress.add_task('', total=args.episodes, completed=done)
            while done < args.episodes:
                info = EpisodeInfo(env.task.name, env.task.language, seed=seed)
                outcome = record_demonstration(
                    env, writer, info, keep_failures=args.keep_failures)
                seed += 1
                failed = outcome is not Outcome.SUCCESS
                failures += failed
                done += not failed or args.keep_failures
                progress.update(
                    bar, completed=done, description=f'{failures} failed' if failures else '')
                if failures > 20 and failures > 3 * done:
                    raise SimulationError(
                        f'{failures} of {failures + done} demonstrations failed: the expert '
                        'cannot do this task with these disturbances; make them smaller')
        writer.flush()
    except KeyboardInterrupt:
        writer.flush()
        print(f'\n{writer.n_episodes} episodes are safe in {args.output}; the same command with '
              '--resume goes on')
        return 130
    print(f'{writer.n_episodes} episodes, {writer.n_frames} steps in {args.output} '
          f'({failures} failed{"" if args.keep_failures else ", not kept"})')
    return 0
