"""Progress bars (rich) for training and evaluation, as callbacks of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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

from il_robot.algorithms.evaluate import EpisodeResult, Evaluation
from il_robot.algorithms.records import NO_LOSS, Record
from il_robot.statistics import wilson

if TYPE_CHECKING:
    import torch

    from il_robot.data.frames import OnFrames


def _progress(name: str, console: Console | None, shown: bool = True) -> Progress:
    return Progress(
        TextColumn(name), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn('eta'), TimeRemainingColumn(), TextColumn('{task.description}'),
        console=console, disable=not shown,
    )


class TrainingBar:
    """Step, time left, losses, success and rate, as one line that moves."""

    def __init__(self, progress: Progress, steps: int, start: int) -> None:
        self._progress = progress
        self._bar = progress.add_task('', total=steps, completed=start)
        self._losses = self._validation = self._success = self._rate = ''

    def show(self, record: Record) -> None:
        """The ``on_log`` of :func:`il_robot.algorithms.bc.train`."""
        if 'success' in record:
            self._success = ', success {:.0f} % [{:.0f}, {:.0f}]'.format(
                *(100 * record[key] for key in ('success', 'success_low', 'success_high')))
        else:
            self._losses = ', '.join(
                f'{name} {value:.4f}' for name, value in record.items()
                if name not in (*NO_LOSS, 'validation_loss'))
            self._rate = f', {record["rate"]:.0f} steps/s'
        if 'validation_loss' in record:
            self._validation = f', validation {record["validation_loss"]:.4f}'
        text = self._losses + self._validation + self._success + self._rate
        self._progress.update(self._bar, completed=int(record['step']), description=text)

    def trying(self, result: EpisodeResult, evaluation: Evaluation) -> None:
        """The ``on_result`` of :class:`il_robot.algorithms.trials.Trial`."""
        done = len(evaluation.results)
        solved = sum(e.success for e in evaluation.results.values())
        text = f'evaluation: {solved}/{done} solved, {len(evaluation.remaining)} to go'
        self._progress.update(self._bar, description=text)


def frame_lines() -> OnFrames:
    """The ``on_frames`` of :func:`il_robot.algorithms.bc.train`: a line per camera and fifth."""
    shown: dict[str, int] = {}

    def show(camera: str, done: int, total: int) -> None:
        fifth = 5 * done // total
        if fifth != shown.get(camera, 0):
            shown[camera] = fifth
            print(f'decoding {camera}: {done} of {total} frames')

    return show


@contextmanager
def training_bar(
    steps: int, start: int = 0, console: Console | None = None, shown: bool = True
) -> Iterator[TrainingBar]:
    """A bar from ``start`` to ``steps``; nothing at all unless ``shown``."""
    with _progress('train', console, shown) as progress:
        yield TrainingBar(progress, steps, start)


class FinetuneBar:
    """Decisions, time left, success of the newest episodes and losses, as one line."""

    def __init__(self, progress: Progress, until: int, start: int, minutes: float) -> None:
        self._progress, self._minutes = progress, minutes
        self._bar = progress.add_task('', total=until, completed=start)
        self._shown = 0.0

    def show(
        self, steps: int, spent: float, recent: Sequence[bool],
        losses: Mapping[str, torch.Tensor],
    ) -> None:
        """At most a few times a second; between them nothing is computed.

        Args:
            steps: Decisions done.
            spent: Of the time [min].
            recent: Whether the newest episodes succeeded.
            losses: Newest ones.
        """
        now = time.monotonic()
        if now - self._shown < 0.5:
            return
        self._shown = now
        text = (f'{spent:.1f} of {self._minutes:g} min, '
                f'{sum(recent)}/{len(recent)} explored to success')
        for name, value in losses.items():
            text += f', {name.replace("_", " ")} {float(value):.3g}'
        self._progress.update(self._bar, completed=steps, description=text)


@contextmanager
def finetune_bar(
    until: int, start: int, minutes: float, console: Console | None = None, shown: bool = True
) -> Iterator[FinetuneBar]:
    """A bar from ``start`` to the next evaluation; nothing at all unless ``shown``.

    Args:
        until: Decisions at which it is.
        start: Decisions done.
        minutes: Of the whole run.
        console: Where it is shown.
        shown: See above.
    """
    with _progress('explore', console, shown) as progress:
        yield FinetuneBar(progress, until, start, minutes)


@contextmanager
def evaluation_bar(
    episodes: int | None, done: int = 0, successes: int = 0, console: Console | None = None,
    *, name: str = 'evaluate', shown: bool = True,
) -> Iterator[Callable[[EpisodeResult], None]]:
    """The ``on_result`` of :func:`il_robot.algorithms.evaluate.evaluate`: running success.

    Without a number of ``episodes`` the bar has no end.
    """
    with _progress(name, console, shown) as progress:
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
