"""``il_robot dataset``: look at datasets, check, mend and convert them."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from il_robot.apps import convert
from il_robot.errors import DatasetError

if TYPE_CHECKING:
    from il_robot.data.dataset import Dataset


def add_parser(subparsers: Any) -> None:
    """Add ``dataset`` and its commands to the command line."""
    parser = subparsers.add_parser(
        'dataset', help='look at a dataset, check it, mend it',
        description='Look at a dataset, check it, mend it (LeRobotDataset v3.0).',
        epilog='example: il_robot dataset info outputs/transfer_cube',
    )
    commands = parser.add_subparsers(dest='dataset_command', metavar='COMMAND', required=True)
    for name, (run, text, example) in _COMMANDS.items():
        command = commands.add_parser(
            name, help=text, description=f'{text[0].upper()}{text[1:]}.',
            epilog=f'example: il_robot dataset {name} {example}')
        command.add_argument('path', type=Path, help="the dataset's folder")
        if name == 'verify':
            command.add_argument('--no-decode', action='store_true',
                                 help='count video frames instead of decoding each')
        if name in ('plot', 'video'):
            command.add_argument('--episode', type=int, default=0, metavar='N',
                                 help='episode number, from 0 (negative: from the end)')
            command.add_argument('--output', type=Path, metavar='FILE',
                                 help='where to write (default: beside you, named after both)')
        command.set_defaults(run=run)
    convert.add_parser(commands)


def run_info(arguments: argparse.Namespace) -> int:
    """Print what a dataset holds."""
    from rich.console import Console
    from rich.table import Table

    from il_robot.data.dataset import open_dataset

    dataset = open_dataset(arguments.path)
    table = Table(title=str(arguments.path), show_header=False, title_justify='left')
    table.add_column(style='bold')
    table.add_column(overflow='fold')
    for label, value in _facts(dataset):
        table.add_row(label, value)
    Console().print(table)
    return 0


def _facts(dataset: Dataset) -> list[tuple[str, str]]:
    """Label and text of each line of ``info``."""
    import numpy as np

    from il_robot.data.features import is_image
    from il_robot.data.keys import camera_name

    records, spec = dataset.episodes, dataset.spec
    lengths = dataset.stops - dataset.starts
    labelled = np.isfinite(dataset.expert).all(axis=1)
    return [
        ('robot', f'{spec.name} ({", ".join(a.name for a in spec.arms)}; '
                  f'{spec.dim} values)' if spec else 'not said'),
        ('episodes', str(len(records))),
        ('rows', f'{len(dataset)} at {dataset.fps:g} Hz, {_duration(len(dataset) / dataset.fps)}'
                 f'; an episode has {lengths.min()} to {lengths.max()}, '
                 f'median {np.median(lengths):.0f}'),
        ('outcomes', _counts(r.outcome.value for r in records)),
        ('tasks', _counts(r.task or r.language or 'not said' for r in records)),
        ('rounds', _counts(str(r.round) for r in records)),
        ('checkpoints', _counts(r.checkpoint for r in records if r.checkpoint) or 'none drove'),
        ('who drove', _sources(dataset)),
        ('interventions', f'{dataset.intervention.mean():.1%} of the rows'),
        ('discarded', f'{dataset.discarded.mean():.1%} of the rows'),
        ('expert labels', f'{labelled.mean():.1%} of the rows'),
        ('cameras', ', '.join(
            f'{camera_name(key)} {feature["shape"][0]} x {feature["shape"][1]}'
            for key, feature in dataset.features.items() if is_image(feature)) or 'none'),
        ('objects', ', '.join(dataset.object_names) or 'none'),
        ('size', _sizes(dataset.path)),
        ('hash', dataset.hash),
    ]


def _counts(names: Iterable[str]) -> str:
    return ', '.join(f'{name}: {n}' for name, n in sorted(Counter(names).items()))


def _sources(dataset: Dataset) -> str:
    """Share of the rows each source drove, per arm."""
    from il_robot.types import Source

    if dataset.spec is None or (dataset.source < 0).any():
        return 'not said'
    lines = []
    for arm, drove in zip(dataset.spec.arms, dataset.source.T):
        shares = ', '.join(f'{Source(value).name.lower()} {n / len(dataset):.1%}'
                           for value, n in sorted(Counter(drove.tolist()).items()))
        lines.append(f'{arm.name}: {shares}')
    return '\n'.join(lines)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f'{int(minutes)} min {rest:.0f} s' if minutes else f'{rest:.1f} s'


def _sizes(path: Path) -> str:
    """Bytes on disk, all and by kind."""
    total = 0
    parts = []
    for kind in ('data', 'videos', 'meta'):
        size = sum(f.stat().st_size for f in (path / kind).rglob('*') if f.is_file())
        total += size
        parts.append(f'{kind} {size / 1e6:.1f}')
    return f'{total / 1e6:.1f} MB ({", ".join(parts)})'


def run_verify(arguments: argparse.Namespace) -> int:
    """Check every invariant; exit code 1 where one fails."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from il_robot.data.verify import verify

    report = verify(arguments.path, decode=not arguments.no_decode)
    table = Table(title=f'{arguments.path}  hash {report.hash or "none"}', title_justify='left')
    for column in ('check', 'holds', 'what'):
        table.add_column(column)
    for check in report.checks:
        holds = '[green]yes[/]' if check.ok else f'[red]no ({len(check.problems)})[/]'
        table.add_row(check.name, holds, check.meaning)
    console = Console()
    console.print(table)
    for line in report.failed():
        console.print(f'[red]{escape(line)}[/]', soft_wrap=True)
    if not report.ok:
        console.print(f'mend it: il_robot dataset repair {arguments.path}', soft_wrap=True)
    return 0 if report.ok else 1


def run_repair(arguments: argparse.Namespace) -> int:
    """Mend a dataset and say what was done."""
    from il_robot.data.repair import repair

    said = repair(arguments.path)
    for line in said or ['nothing to repair']:
        print(line)
    return 0


def run_plot(arguments: argparse.Namespace) -> int:
    """Draw one episode to a PNG."""
    from il_robot.apps.episode_plot import plot_episode
    from il_robot.data.dataset import open_dataset

    dataset = open_dataset(arguments.path)
    episode = _episode(dataset, arguments.episode)
    file = _output(arguments, dataset, episode, '.png')
    plot_episode(dataset, episode, file)
    print(file)
    return 0


def run_video(arguments: argparse.Namespace) -> int:
    """Write the cameras of one episode, side by side, to an mp4."""
    from il_robot.data import video
    from il_robot.data.dataset import open_dataset

    dataset = open_dataset(arguments.path)
    episode = _episode(dataset, arguments.episode)
    if not dataset.cameras:
        raise DatasetError(
            f'{arguments.path} has no cameras, so there is no video; record with cameras, or '
            f'look at the joints with: il_robot dataset plot {arguments.path}')
    file = _output(arguments, dataset, episode, '.mp4')
    streams = [dataset.frames(episode, camera) for camera in dataset.cameras]
    frames = video.write(file, map(video.grid, zip(*streams)), dataset.fps)
    print(f'{file} ({frames} frames; {", ".join(dataset.cameras)})')
    return 0


def _episode(dataset: Dataset, number: int) -> int:
    count = len(dataset.episodes)
    if not -count <= number < count:
        raise DatasetError(f'no episode {number}: {dataset.path} has {count}, 0 to {count - 1}')
    return number % count


def _output(
    arguments: argparse.Namespace, dataset: Dataset, episode: int, suffix: str
) -> Path:
    """Where to write; the folder must exist, the suffix is fixed by the format."""
    name = f'{dataset.path.resolve().name}_episode_{episode:03d}{suffix}'
    file: Path = arguments.output or Path(name)
    if file.suffix != suffix:
        raise DatasetError(f'--output {file} must end in {suffix}')
    if not file.parent.is_dir():
        raise DatasetError(f'--output {file}: there is no folder {file.parent}')
    return file


_COMMANDS = {
    'info': (run_info, 'print what a dataset holds', 'outputs/transfer_cube'),
    'verify': (run_verify, 'check files, numbers, limits, videos and statistics',
               'outputs/transfer_cube'),
    'repair': (run_repair, 'set aside what a killed recorder left, rebuild the totals',
               'outputs/transfer_cube'),
    'plot': (run_plot, 'draw the joints of one episode and who drove (PNG)',
             'outputs/transfer_cube --episode 3'),
    'video': (run_video, 'write the cameras of one episode side by side (mp4)',
              'outputs/transfer_cube --episode 3 --output three.mp4'),
}
