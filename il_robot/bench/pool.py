"""Cells in parallel: processes of this machine, or of many through Ray.

Either way a cell does the same on one thread, and its seed decides what it draws. Where a cell
fails the others go on.
"""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from il_robot import __version__
from il_robot.algorithms.workers import run_seeds
from il_robot.bench.suite import Cell
from il_robot.errors import ConfigError, IlRobotError

_PATIENCE = 5.0  # for the first answer of a cluster [s]
OnDone = Callable[[Cell, 'dict[str, Any] | str'], None]
"""A cell with its result, or with why there is none."""


def attempt(cell: Cell, output: Path) -> dict[str, Any] | str:
    """A cell's result, or why there is none."""
    try:
        return cell.run(output)
    except IlRobotError as error:
        return str(error)
    except Exception:
        return traceback.format_exc()


@dataclass(frozen=True)
class _Cells:
    """What a worker process has."""

    cells: tuple[Cell, ...]
    output: Path

    def __call__(self) -> _Cells:
        return self

    def close(self) -> None:
        """Nothing is open."""


def _nobody(cells: _Cells) -> None:
    """Nothing drives here."""


def _attempt_one(cells: _Cells, _: None, number: int) -> tuple[dict[str, Any] | str]:
    return (attempt(cells.cells[number], cells.output),)


def run_local(
    cells: Sequence[Cell], output: Path, workers: int, on_done: OnDone,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """All cells in processes of their own; False where it was stopped.

    A process that dies costs its cell; a stop ends the processes, and what a pipeline has done so
    far is in its files.
    """
    left = set(range(len(cells)))

    def finish(number: int, outcome: tuple[dict[str, Any] | str] | str) -> bool:
        left.discard(number)
        on_done(cells[number], outcome if isinstance(outcome, str) else outcome[0])
        return True

    if cells:
        run_seeds(_Cells(tuple(cells), output), _nobody, _attempt_one, range(len(cells)), finish,
                  workers=workers, should_stop=should_stop, parents=True)
    return not left


def run_ray(
    cells: Sequence[Cell], output: Path, address: str, on_done: OnDone,
    should_stop: Callable[[], bool] = lambda: False, workers: int | None = None,
) -> bool:
    """All cells on the machines of a Ray cluster; False where it was stopped.

    Args:
        cells: What is to be done.
        output: Folder of the run; a pipeline goes on there after a kill where all machines share
            it, else its files are on the machine that it ran on.
        address: Of the cluster, ``auto``, or ``local`` for one made here.
        on_done: Called with each that has ended.
        should_stop: Asked often.
        workers: Of a cluster made here; None: one per core.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError("--ray needs Ray: pip install 'il_robot[ray]'") from None
    try:
        _check_address(address)
        own = {'num_cpus': workers} if address == 'local' else {'address': address}
        ray.init(**own, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f'no Ray cluster at {address}: {error}') from None
    try:
        remote = ray.remote(num_cpus=1, max_retries=1)(attempt)
        running = {remote.remote(cell, output.resolve()): cell for cell in cells}
        while running and not should_stop():
            done, _ = ray.wait(list(running), timeout=0.5)
            for reference in done:
                cell = running.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayError as error:
                    result = f'its process died: {error}'
                if isinstance(result, dict) and result['version'] != __version__:
                    result = (f'a machine of the cluster has il_robot {result["version"]}, this '
                              f'one {__version__}: they would not be comparable')
                on_done(cell, result)
        return not running
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Whether anybody is there: Ray itself would ask for minutes.

    Raises:
        OSError: nobody.
        ValueError: no address.
    """
    if address not in ('auto', 'local'):
        host, _, port = address.rpartition('://')[2].rpartition(':')
        socket.create_connection((host, int(port)), _PATIENCE).close()
