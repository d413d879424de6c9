"""Cells in parallel: processes of this machine, or of many through Ray.

Either way a cell does the same: it is one process with one thread, and its seed decides what it
draws. Where a cell fails the others go on.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

from il_robot.bench.suite import Cell
from il_robot.errors import ConfigError, IlRobotError

OnDone = Callable[[Cell, 'dict[str, Any] | str'], None]
"""A cell with its result, or with why there is none."""


def attempt(cell: Cell) -> dict[str, Any] | str:
    """A cell's result, or why there is none."""
    os.environ['OMP_NUM_THREADS'] = '1'
    try:
        return cell.run()
    except IlRobotError as error:
        return str(error)
    except Exception:
        return traceback.format_exc()


def run_local(
    cells: Sequence[Cell], workers: int, on_done: OnDone,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """All cells in processes of their own; False where it was stopped."""
    context = multiprocessing.get_context('spawn')
    waiting = list(cells)
    running: dict[Future[Any], Cell] = {}
    with ProcessPoolExecutor(workers, context) as pool:
        while waiting or running:
            while waiting and len(running) < workers and not should_stop():
                cell = waiting.pop(0)
                running[pool.submit(attempt, cell)] = cell
            if not running:
                return False
            for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                cell = running.pop(future)
                error = future.exception()
                on_done(cell, f'its process died: {error}' if error else future.result())
    return True


def run_ray(
    cells: Sequence[Cell], address: str, on_done: OnDone,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """All cells on the machines of a Ray cluster; False where it was stopped.

    Args:
        cells: What is to be done.
        address: Of the cluster, ``auto``, or ``local`` for one made here.
        on_done: Called with each that has ended.
        should_stop: Asked often.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
    """
    try:
        import ray  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise ConfigError("--ray needs Ray: pip install 'il_robot[ray]'") from None
    try:
        ray.init(address=None if address == 'local' else address, log_to_driver=False,
                 logging_level='warning')
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(f'no Ray cluster at {address}: {error}') from None
    try:
        remote = ray.remote(num_cpus=1, max_retries=1)(attempt)
        running = {remote.remote(cell): cell for cell in cells}
        while running and not should_stop():
            done, _ = ray.wait(list(running), timeout=0.5)
            for reference in done:
                cell = running.pop(reference)
                try:
                    on_done(cell, ray.get(reference))
                except ray.exceptions.RayError as error:
                    on_done(cell, f'its process died: {error}')
        return not running
    finally:
        ray.shutdown()
