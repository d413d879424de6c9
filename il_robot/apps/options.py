"""Command-line options that several sub-commands share."""

from __future__ import annotations

import argparse
from typing import Any

from il_robot.config import key_values


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """``--task --width --disturb --task-option``: which environment."""
    group = parser.add_argument_group('task')
    group.add_argument('--task', default='transfer_cube', help='default: %(default)s')
    group.add_argument(
        '--width', default='nominal', help='reset width: narrow, nominal (default), wide')
    group.add_argument(
        '--disturb', action='append', default=[], metavar='KEY=VALUE',
        help='a disturbance, for example shoves=2; may be given again')
    group.add_argument(
        '--task-option', action='append', default=[], metavar='KEY=VALUE',
        help='a parameter of the task, for example clearance=0.002 (insert_peg)')


def task_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of :func:`il_robot.sim.make` from those options.

    Raises:
        ConfigError: text that is not KEY=VALUE.
    """
    return {
        'task': args.task,
        'width': args.width,
        'disturbances': key_values(args.disturb, '--disturb'),
        'task_options': key_values(args.task_option, '--task-option'),
    }
