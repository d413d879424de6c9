"""Worlds that stay: worker processes with an environment each, for many short batches of jobs.

:func:`il_robot.algorithms.workers.run_seeds` starts its processes anew for every call, which is
right for one evaluation and too slow for a learner that asks for a few episodes every second.
Here they live on. Results come in the order of the jobs, so that they depend neither on the
number of workers nor on which was faster. A worker that dies is replaced and counted, and its job
is done again, once.
"""

from __future__ import annotations

import pickle
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Generic, TypeVar

from il_robot.algorithms.workers import MakeController, MakeEnv, Worker
from il_robot.errors import ConfigError, IlRobotError, SimulationError

Task = TypeVar('Task')
Result = TypeVar('Result')

_POLL = 0.2  # how often should_stop is asked [s]
_MOST_TRIES = 2


class StoppedError(Exception):
    """Somebody asked to stop; nothing of the batch counts."""


class Worlds(Generic[Task, Result]):
    """A pool; use it as a context manager.

    Args:
        make_env: Makes an environment; with more than one worker it must be picklable, and so
            must the next two.
        make_driver: Makes what drives a given environment; stays with it.
        job: ``job(env, driver, task)`` gives the result, which is not a text.
        workers: Processes; 1 does everything in this one.

    Attributes:
        crashes: How many workers (or, with one worker, worlds) died and were replaced.
    """

    def __init__(
        self, make_env: MakeEnv, make_driver: MakeController,
        job: Callable[[Any, Any, Task], Result], workers: int = 1,
    ) -> None:
        self._make_env, self._make_driver, self._job = make_env, make_driver, job
        self._workers, self.crashes = workers, 0
        self._here: tuple[Any, Any] | None = None
        self._idle: list[Worker] = []
        self._busy: dict[Any, tuple[Worker, int | None]] = {}
        self._work = b''
        if workers > 1:
            try:
                self._work = pickle.dumps((make_env, make_driver, job))
            except Exception as error:
                raise ConfigError(
                    f'make_env must be picklable to run in workers (a function or a dataclass of '
                    f'a module): {error}; or use workers=1') from None

    def __enter__(self) -> Worlds[Task, Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes; the next :meth:`run` starts new ones."""
        for worker in [*self._idle, *(w for w, _ in self._busy.values())]:
            worker.stop()
        self._idle, self._busy = [], {}
        if self._here is not None:
            self._here[0].close()
            self._here = None

    def run(
        self, tasks: Sequence[Task], *,
        on_result: Callable[[Result], None] = lambda result: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> list[Result]:
        """Do all tasks.

        Args:
            tasks: Picklable, where there are several workers.
            on_result: Called with each result as it comes, in no particular order.
            should_stop: Asked often.

        Returns:
            The results in the order of the tasks.

        Raises:
            StoppedError: ``should_stop`` said so.
            SimulationError: a task killed its worker twice, or raised twice.
            IlRobotError: what a factory or job raises of that kind, which every try would raise.
        """
        run = self._run_here if self._workers == 1 else self._run_in_workers
        return run(tasks, on_result, should_stop)

    def _run_here(
        self, tasks: Sequence[Task], on_result: Callable[[Result], None],
        should_stop: Callable[[], bool],
    ) -> list[Result]:
        results = []
        for task in tasks:
            for attempt in range(1, _MOST_TRIES + 1):
                if should_stop():
                    raise StoppedError
                if self._here is None:
                    env = self._make_env()
                    self._here = env, self._make_driver(env)
                try:
                    results.append(self._job(*self._here, task))
                    break
                except IlRobotError:
                    raise
                except Exception:
                    self._note_crash(attempt, task, traceback.format_exc())
                    with suppress(Exception):
                        self._here[0].close()
                    self._here = None
            on_result(results[-1])
        return results

    def _run_in_workers(
        self, tasks: Sequence[Task], on_result: Callable[[Result], None],
        should_stop: Callable[[], bool],
    ) -> list[Result]:
        results: dict[int, Result] = {}
        tries = [0] * len(tasks)
        waiting = deque(range(len(tasks)))
        while len(results) < len(tasks):
            if should_stop():
                self.close()  # what is half done belongs to no batch
                raise StoppedError
            missing = min(self._workers, len(tasks)) - len(self._idle) - len(self._busy)
            for _ in range(max(0, missing)):
                worker = Worker(self._work)
                self._busy[worker.connection] = worker, None
            while waiting and self._idle:
                worker, number = self._idle.pop(), waiting.popleft()
                worker.send(tasks[number])
                self._busy[worker.connection] = worker, number
            for ready in wait(list(self._busy), timeout=_POLL):
                worker, done = self._busy.pop(ready)
                _, answer = worker.receive()
                if isinstance(answer, str):
                    worker.stop()
                    if done is not None:
                        tries[done] += 1
                        self._note_crash(tries[done], tasks[done], answer)
                        waiting.appendleft(done)
                    continue
                self._idle.append(worker)
                if done is not None:
                    results[done] = answer
                    on_result(answer)
        return [results[i] for i in range(len(tasks))]

    def _note_crash(self, tries: int, task: Task, why: str) -> None:
        self.crashes += 1
        if tries >= _MOST_TRIES:
            raise SimulationError(f'{task} broke its world {tries} times: {why}')
