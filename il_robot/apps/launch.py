"""``il_robot launch``: the same processes as ``ros2 launch``, where that does not exist."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

from il_robot.errors import ConfigError
from il_robot.launch_options import (
    LAUNCH_NAMES,
    arguments,
    discovery_environment,
    parse_options,
)

if TYPE_CHECKING:
    from il_robot.bringup import NodeSpec


def add_parser(subparsers: Any) -> None:
    """Add ``launch`` to the command line."""
    table = '\n'.join(
        f'  {name}:={default or "..."}\n      {text}' for name, default, text in arguments())
    parser = subparsers.add_parser(
        'launch', help='start the ROS 2 nodes of a mode',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f'Start the ROS 2 nodes of a mode: {", ".join(LAUNCH_NAMES)}. The same as '
                    '"ros2 launch il_robot NAME.launch.py key:=value", for machines without '
                    'ros2 launch.\n\narguments (with defaults):\n' + table,
        epilog='examples:\n'
               '  il_robot launch record task:=transfer_cube teleop:=expert episodes:=5\n'
               '  il_robot launch run policy:=outputs/run episodes:=50 lockstep:=true\n'
               '  il_robot launch correct policy:=outputs/run teleop:=keyboard\n'
               'Ctrl-C stops all nodes.')
    parser.add_argument('name', metavar='NAME', help=', '.join(LAUNCH_NAMES))
    parser.add_argument('settings', nargs='*', metavar='key:=value')
    parser.add_argument('--print', action='store_true', help='print the processes, start none')
    parser.add_argument(
        '--quiet', action='store_true', help='only results, warnings and errors')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Supervise until Ctrl-C; the exit code."""
    from il_robot.bringup import describe

    options = parse_options(_settings(args.settings))
    specs = describe(args.name, options)
    if args.print:
        for spec in specs:
            print(shlex.join([spec.executable, *spec.ros_arguments()]))
        return 0
    foreign = [s.executable for s in specs if s.package != 'il_robot']
    if foreign:
        raise ConfigError(
            f'{", ".join(foreign)} needs a ROS installation: use ros2 launch il_robot '
            f'{args.name}.launch.py there')
    _check_ros(specs)
    from il_robot.apps.supervisor import Supervisor

    lacking, found = discovery_environment(options, os.environ)
    os.environ.update(lacking)
    if not args.quiet:
        print(found)
    return Supervisor(specs, colour=sys.stdout.isatty(), quiet=args.quiet).run()


def _settings(texts: list[str]) -> dict[str, str]:
    settings = {}
    for text in texts:
        key, mark, value = text.partition(':=')
        if not mark:
            raise ConfigError(f'{text!r}: write key:=value')
        settings[key] = value
    return settings


def _check_ros(specs: list[NodeSpec]) -> None:
    from importlib.util import find_spec

    if find_spec('rclpy') is None:
        raise ConfigError(
            "ROS 2 is not installed here: source a ROS 2 installation, or pip install "
            "'il_robot[ros]'")
    terminals = [s.executable for s in specs if s.terminal]
    if terminals and not sys.stdin.isatty():
        raise ConfigError(f'{terminals[0]} reads the keyboard: start this in a terminal')
