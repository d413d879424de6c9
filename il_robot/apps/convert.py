"""``il_robot dataset convert``: recorded bags into a LeRobot dataset."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from il_robot.errors import ConfigError, IlRobotError, unknown

if TYPE_CHECKING:
    from il_robot.data.bag_convert import BagConverter, Converted, ConvertOptions

_OUTCOMES = ('success', 'failure', 'unknown')


def add_parser(commands: Any) -> None:
    """Add ``convert`` to the commands of ``dataset``."""
    parser = commands.add_parser(
        'convert', help='append recorded bags to a dataset',
        description='Append recorded rosbag2 bags (MCAP) to a LeRobotDataset v3.0; a bag whose '
                    'recorder was killed is mended first. No ROS is needed. What the recorder '
                    'noted in the bag counts where no option says otherwise.',
        epilog='example: il_robot dataset convert outputs/session/bags --output outputs/again')
    parser.add_argument(
        'bags', nargs='+', metavar='BAG',
        help='a bag, or a folder of bags; - reads names from standard input, one a line')
    parser.add_argument('--output', type=Path, required=True, help='folder of the dataset')
    parser.add_argument('--robot', help='robot config, for bags of other recorders')
    parser.add_argument('--task', default='', help='task name')
    parser.add_argument('--language', default='', help='the instruction in words')
    parser.add_argument('--outcome', choices=_OUTCOMES, help='how the episodes ended')
    parser.add_argument('--round', type=int, help='DAgger round, 0 = demonstrations')
    parser.add_argument('--cameras', nargs='*', metavar='NAME', help='cameras of the dataset')
    parser.add_argument(
        '--driver', choices=('teleop', 'expert', 'policy'),
        help='who drove, for bags without session/mode')
    parser.add_argument(
        '--allow-gaps', action='store_true', help='take episodes with many rows missing, too')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Convert; 1 where a bag could not be."""
    from il_robot.control.replay import policy_actions
    from il_robot.data.bag_convert import BagConverter

    with BagConverter(arguments.output, policy_actions, _options(arguments)) as converter:
        if arguments.bags == ['-']:
            return _serve(converter)
        failed = 0
        for bag in [b for name in arguments.bags for b in _bags(Path(name))]:
            try:
                _print(converter.add(bag), arguments.output)
            except IlRobotError as error:
                failed += 1
                print(f'{bag}: {error}', file=sys.stderr)
    return 1 if failed else 0


def _options(arguments: argparse.Namespace) -> ConvertOptions:
    from il_robot.data.bag_convert import ConvertOptions
    from il_robot.resources import named_config
    from il_robot.spec import load_robot_spec
    from il_robot.types import Outcome, Source

    spec = load_robot_spec(named_config('robots', arguments.robot)) if arguments.robot else None
    cameras = arguments.cameras
    if spec is not None:
        for name in cameras or ():
            spec.camera(name)
    return ConvertOptions(
        spec, arguments.task, arguments.language,
        Outcome(arguments.outcome) if arguments.outcome else None, arguments.round,
        None if cameras is None else tuple(cameras),
        Source[arguments.driver.upper()] if arguments.driver else None, arguments.allow_gaps)


def _bags(path: Path) -> Iterator[Path]:
    """The bag itself, or all bags of a folder in the order of their names.

    Raises:
        ConfigError: neither.
    """
    from il_robot.data.bag_reader import is_bag

    if is_bag(path):
        yield path
        return
    found = [f for f in sorted(path.iterdir()) if f.is_dir() and is_bag(f)] \
        if path.is_dir() else []
    if not found:
        near = [p.name for p in path.parent.iterdir() if is_bag(p)] if path.parent.is_dir() else []
        raise ConfigError(f'no bag at {path}' if path.exists() else unknown(
            'bag', path.name, near, str(path.parent)))
    yield from found


def _print(done: Converted, dataset: Path) -> None:
    if done.rows:
        print(f'{done.bag}: episode {done.episode} of {dataset}, {done.rows} rows, '
              f'{done.outcome.value}')
    for note in done.notes:
        print(f'{done.bag}: {note}')


def _serve(converter: BagConverter) -> int:
    """Bags from standard input, one report in JSON per bag; ends with the input."""
    for line in sys.stdin:
        bag = Path(line.strip())
        try:
            done = converter.add(bag)
            report = {'bag': str(bag), 'episode': done.episode, 'rows': done.rows,
                      'outcome': done.outcome.value, 'notes': done.notes}
        except IlRobotError as error:
            report = {'bag': str(bag), 'error': str(error)}
        print(json.dumps(report), flush=True)
    return 0
