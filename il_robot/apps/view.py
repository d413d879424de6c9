"""``il_robot view``: watch an expert or a policy, in PyBullet's window or as a video."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from il_robot.apps.options import add_task_options, task_arguments
from il_robot.errors import ConfigError


def add_parser(subparsers: Any) -> None:
    """Add ``view`` to the command line."""
    parser = subparsers.add_parser(
        'view', help='watch the expert or a policy',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Watch episodes in a window (--gui) or film them into a video.',
        epilog='examples:\n  il_robot view --task lift_tray --output outputs/tray.mp4\n'
               '  il_robot view --policy outputs/run --gui')
    parser.add_argument('--policy', default='expert', metavar='expert|FOLDER',
                        help='default %(default)s')
    parser.add_argument('--episodes', type=int, default=1, help='default %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='of the first episode (default 0)')
    parser.add_argument('--gui', action='store_true', help="PyBullet's window, in real time")
    parser.add_argument('--output', type=Path, default=Path('outputs/view.mp4'),
                        help='video, where --gui is not given (default %(default)s)')
    add_task_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show or film the episodes; returns 0."""
    from il_robot.apps.evaluate import SimFactory, controller_factory, film
    from il_robot.data.video import write

    if args.episodes < 1 or args.seed < 0:
        raise ConfigError('--episodes must be >= 1 and --seed >= 0')
    make_controller, _, seen = controller_factory(args.policy)
    seeds = range(args.seed, args.seed + args.episodes)
    mode = 'human' if args.gui else 'rgb_array'
    make_env = SimFactory({**task_arguments(args), **seen, 'render_mode': mode})
    if args.gui:
        _show(make_env, make_controller, seeds)
        return 0
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write(args.output, film(make_env, make_controller, seeds), fps=25)
    print(f'written: {args.output}')
    return 0


def _show(make_env: Any, make_controller: Any, seeds: range) -> None:
    """Play the episodes at the robot's own speed."""
    import numpy as np

    env = make_env()
    try:
        controller = make_controller(env)
        for seed in seeds:
            env.reset(seed=seed)
            controller.reset(np.random.default_rng([seed, 1]))
            ended, due = False, time.monotonic()
            while not ended:
                _, _, terminated, truncated, info = env.step(controller.act(env.observation()))
                ended = terminated or truncated
                due += env.robot.dt
                time.sleep(max(0.0, due - time.monotonic()))
            print(f'seed {seed}: {"success" if info["success"] else info["stage_name"]}')
    finally:
        env.close()
