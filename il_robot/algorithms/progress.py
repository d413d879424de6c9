"""Progress bars (rich) for training and evaluation, as callbacks of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from il_robot.algorithms.evaluate import EpisodeResult
from il_robot.statistics import wilson

if TYPE_CHECKING:
    from il_robot.algorithms.runs import Record  # at run time it would load torch


def _progress(name: str, console: Console | None) -> Progress:
    return Progress(
        TextColumn(name), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn('eta'), TimeRemainingColumn(), TextColumn('{task.description}'),
        console=console,
    )


@contextmanager
def training_bar(
    steps: int, start: int = 0, console: Console | None = None
) -> Iterator[Callable[[Record], None]]:
    """The ``on_log`` of :func:`il_robot.algorithms.bc.train`: step, time, losses, rate."""
    with _progress('train', console) as progress:
        bar = progress.add_task('', total=steps, completed=start)
        validation = ''

        def show(record: Record) -> None:
            nonlocal validation
            if 'validation_loss' in record:
                validation = f', validation {record["validation_loss"]:.4f}'
            losses = ', '.join(
                f'{name} {value:.4f}' for name, value in record.items()
                if name not in ('step', 'rate', 'validation_loss'))
            text = f'{losses}{validation}, {record["rate"]:.0f} steps/s'
            progress.update(bar, completed=int(record['step']), description=text)

        yield show


@contextmanager
def evaluation_bar(
    episodes: int, done: int = 0, successes: int = 0, console: Console | None = None
) -> Iterator[Callable[[EpisodeResult], None]]:
    """The ``on_result`` of :func:`il_robot.algorithms.evaluate.evaluate`: running success."""
    with _progress('evaluate', console) as progress:
        bar = progress.add_task('', total=episodes, completed=done)
        counts = [successes, done]

        def show(result: EpisodeResult) -> None:
            counts[0] += result.success
            counts[1] += 1
            _update(progress, bar, *counts)

        yield show


def _update(progress: Progress, bar: TaskID, successes: int, done: int) -> None:
    low, high = wilson(successes, done)
    text = f'{successes}/{done} solved, {100 * low:.0f}-{100 * high:.0f} %'
    progress.update(bar, completed=done, description=text)
