"""One job per seed, in parallel worlds.

What becomes of a seed does not depend on the worker that got it, nor on how many there are. A
worker that dies costs its seed, which is reported; the others go on.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from il_robot.errors import ConfigError, IlRobotError

T = TypeVar('T')
# An environment with Dict observations (state, objects, images), `info['success']`, and
# `unwrapped.robot`; what il_robot.sim makes, or your own.
MakeEnv = Callable[[], Any]
MakeController = Callable[[Any], Any]
Job = Callable[[Any, Any, int], T]
"""Environment, controller and seed to a result."""
Finish = Callable[[int, 'T | str'], bool]
"""A seed with its result, or with why there is none; says whether to go on."""

_POLL = 0.2  # how often should_stop is asked [s]


def run_seeds(
    make_env: MakeEnv,
    make_controller: MakeController,
    job: Job[T],
    seeds: Sequence[int],
    finish: Finish[T],
    *,
    workers: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
    parents: bool = False,
) -> None:
    """Do a job for every seed.

    Args:
        make_env: Makes an environment; with more than one worker it must be picklable (a
            function or a dataclass of a module), and so must the next two.
        make_controller: Makes the controller that drives a given environment.
        job: What is done with both; its result must not be a text.
        seeds: Each is done once, in no particular order.
        finish: Called here with each result, or with a traceback.
        workers: Processes; 1 does everything in this one.
        should_stop: Asked often; True leaves the rest undone.
        parents: Processes even where there is one worker, each of which may start others.

    Raises:
        ConfigError: what cannot be sent to a worker.
        IlRobotError: whatever the factories raise; nothing can be done then.
        RuntimeError: the same for other exceptions.
    """
    if workers == 1 and not parents:
        _run_here(make_env, make_controller, job, seeds, finish, should_stop)
    elif seeds:
        _run_in_workers(make_env, make_controller, job, seeds, min(workers, len(seeds)), finish,
                        should_stop, parents)


def _run_here(
    make_env: MakeEnv, make_controller: MakeController, job: Job[T], seeds: Sequence[int],
    finish: Finish[T], should_stop: Callable[[], bool],
) -> None:
    waiting = deque(seeds)
    outcome: T | str = ''
    while waiting:
        with closing(make_env()) as env:  # a new one after an exception
            controller = make_controller(env)
            while waiting and not should_stop():
                seed = waiting.popleft()
                try:
                    outcome = job(env, controller, seed)
                except IlRobotError:
                    raise
                except Exception:
                    outcome = traceback.format_exc()
                if not finish(seed, outcome):
                    return
                if isinstance(outcome, str):
                    break
            else:
                return


def _run_in_workers(
    make_env: MakeEnv, make_controller: MakeController, job: Job[T], seeds: Sequence[int],
    workers: int, finish: Finish[T], should_stop: Callable[[], bool], parents: bool,
) -> None:
    """Hand seeds to worker processes one by one; a dead worker is replaced."""
    try:
        work = pickle.dumps((make_env, make_controller, job))
    except Exception as error:
        raise ConfigError(
            f'make_env, make_controller and job must be picklable to run in workers (functions or '
            f'dataclasses of a module): {error}; or use workers=1') from None
    waiting = deque(seeds)
    pool = {w.connection: w for w in (_Worker(work, parents) for _ in range(workers))}
    try:
        while pool and not should_stop():
            for ready in wait(list(pool), timeout=_POLL):
                worker = pool[ready]  # type: ignore[index]
                seed, outcome = worker.receive()
                alive = not isinstance(outcome, str)
                if not alive and should_stop():
                    return  # whoever stops all of a session's processes stops this one, too
                if seed is not None and outcome is not None and not finish(seed, outcome):
                    return
                if not alive:
                    del pool[worker.connection]
                    worker.stop()
                    if waiting:
                        worker = _Worker(work, parents)
                        pool[worker.connection] = worker
                elif waiting:
                    worker.send(waiting.popleft())
                else:
                    del pool[worker.connection]
                    worker.stop()
    finally:
        for worker in pool.values():
            worker.stop()


class _Worker:
    """A process with its own world; it gets seeds and answers results."""

    def __init__(self, work: bytes, parent: bool) -> None:
        # spawn: a fork would copy locks held by torch's and the renderer's threads
        context = multiprocessing.get_context('spawn')
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work), daemon=not parent)
        self._process.start()
        theirs.close()
        self._seed: int | None = None

    def send(self, seed: int) -> None:
        """Start an episode; that the worker is dead shows when its answer is received."""
        self._seed = seed
        with suppress(OSError):
            self.connection.send(seed)

    def receive(self) -> tuple[int | None, Any]:
        """The seed it worked on and what came of it; (None, None) when it has just started.

        Raises:
            IlRobotError: the factories failed, or a mistake that every episode would repeat.
            RuntimeError: the factories failed otherwise.
        """
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            answer = f'the worker process died with exit code {self._process.exitcode}'
        if isinstance(answer, IlRobotError):
            raise answer
        if isinstance(answer, str) and self._seed is None:
            raise RuntimeError(f'a worker could not start:\n{answer}')
        return self._seed, answer

    def stop(self) -> None:
        """End the process."""
        self.connection.close()
        self._process.terminate()
        self._process.join()


def _serve(connection: Connection, work: bytes) -> None:
    """A worker's life: build, then one job per seed received; ends with the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        make_env, make_controller, job = pickle.loads(work)
        env = make_env()
        controller = make_controller(env)
        connection.send(None)
        while True:
            connection.send(job(env, controller, connection.recv()))
    except (EOFError, BrokenPipeError):
        return
    except IlRobotError as error:
        connection.send(error)
    except Exception:
        connection.send(traceback.format_exc())


def _end_with_parent() -> None:
    """A parent that was killed leaves nobody who waits for the answer, and frees its locks."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
