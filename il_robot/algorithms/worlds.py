"""Many environments at once, in processes, that outlive the death of one of them.

A process has several worlds in a vector environment of Gymnasium, which steps them one after the
other and lets the next episode follow in the step that ends one: with one world each, as much time
goes by in waiting for messages as in physics. Processes can be stepped on their own, so that none
waits for the slowest, which Gymnasium's vector environment of processes has no words for. What
comes out does not depend on how many processes there are. Where one dies (out of memory, a crash
of the physics) its worlds are made anew, the episodes that were running are lost, and it is
counted.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from il_robot.errors import IlRobotError, SimulationError
from il_robot.types import Float32

MakeWorld = Callable[[], 'gym.Env[Float32, Any]']
_ENOUGH = 1000
"""Steps of a world after which it counts as having worked."""
_MOST_CRASHES = 3


@dataclass(frozen=True, eq=False)
class Step:
    """What a step of W worlds brought.

    Attributes:
        obs: ``(W, O)`` to act on next: of the next episode where one has ended.
        reward: ``(W,)``.
        next_obs: ``(W, O)`` what the action led to, also where the episode has ended.
        terminated: ``(W,)`` the task ended there.
        truncated: ``(W,)`` the time was over.
        success: ``(W,)`` of the episodes that have ended; False elsewhere.
        lost: The running episodes are lost, and nothing else here counts but ``obs``.
        first: Number of the first of these worlds, which follow each other.
    """

    obs: Float32
    reward: Float32
    next_obs: Float32
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    success: NDArray[np.bool_]
    lost: bool = False
    first: int = 0

    @property
    def ended(self) -> NDArray[np.bool_]:
        """``(W,)``."""
        return self.terminated | self.truncated

    @classmethod
    def of(cls, found: tuple[Any, ...]) -> Step:
        """What Gymnasium's step of several worlds returned."""
        obs, reward, terminated, truncated, info = found
        obs = np.asarray(obs, np.float32)
        following, success = obs, np.zeros(len(obs), bool)
        if 'final_obs' in info:
            following = obs.copy()
            for i in np.flatnonzero(info['_final_obs']):
                following[i] = info['final_obs'][i]
            success[:] = info.get('final_info', {}).get('success', success)
        return cls(obs, reward.astype(np.float32), following, terminated, truncated, success)

    @classmethod
    def begun(cls, obs: Any, *, lost: bool = False) -> Step:
        """What there is where episodes have just begun."""
        obs, none = np.asarray(obs, np.float32), np.zeros(len(obs), bool)
        return cls(obs, np.zeros(len(obs), np.float32), obs, none, none, none, lost)

    @classmethod
    def joined(cls, steps: Sequence[Step]) -> Step:
        """Of all worlds; none of them lost."""
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(step, name) for step in steps])
            for name in ('obs', 'reward', 'next_obs', 'terminated', 'truncated', 'success')}
        return cls(**columns)


@dataclass
class Returns:
    """Sums of rewards, as an ``on_step`` of a trainer.

    Attributes:
        finished: Of every episode that has ended, in order.
    """

    finished: list[float] = field(default_factory=list)
    _running: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))

    def __call__(self, step: Step, losses: Mapping[str, torch.Tensor] | None = None) -> None:
        """Take note of a step."""
        end = step.first + len(step.reward)
        if end > len(self._running):
            self._running = np.pad(self._running, (0, end - len(self._running)))
        running = self._running[step.first:end]
        running += step.reward
        if step.lost:
            running[:] = 0
        self.finished += running[step.ended].tolist()
        running[step.ended] = 0

    def mean(self, episodes: int = 100) -> float:
        """Of the newest episodes; NaN of none."""
        return float(np.mean(self.finished[-episodes:])) if self.finished else float('nan')


@dataclass
class Worlds:
    """W environments; use it as a context manager.

    Step all of them (:meth:`begin`, :meth:`finish`), or the part of each process when it is
    ready (:meth:`begin_part`, :meth:`ready`, :meth:`finish_part`).

    Attributes:
        make_world: Makes one, with ``Box`` observations; with processes it must be picklable.
        count: W.
        seed: Of all the episodes.
        processes: At least so many share them evenly; 0 for this one, None for all cores.
        crashes: How often a process died.
    """

    make_world: MakeWorld
    count: int
    seed: int
    processes: int | None = None
    crashes: int = field(default=0, init=False)
    _running: list[_Part] = field(default_factory=list, init=False)

    def __enter__(self) -> Worlds:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def parts(self) -> list[slice]:
        """Which worlds each process has."""
        size = self.count if self.processes == 0 else share_size(self.count, self.processes)
        return [slice(i, i + size) for i in range(0, self.count, size)]

    @property
    def obs_dim(self) -> int:
        """O."""
        shape = self._parts[0].spaces()[0].shape
        assert shape is not None
        return int(shape[-1])

    @property
    def action_space(self) -> Any:
        """Of one world."""
        return self._parts[0].spaces()[1]

    @property
    def _parts(self) -> list[_Part]:
        """Made where there are none."""
        if not self._running:
            self._running = [self._make(part) for part in self.parts]
        return self._running

    def _make(self, part: slice) -> _Part:
        kind = _Here if self.processes == 0 else _Process
        return kind(self.make_world, part.stop - part.start)

    def reset(self) -> Float32:
        """Episodes start in all worlds; ``(W, O)``."""
        for i in range(len(self.parts)):
            self._parts[i].ask(self._seeds(i))
        return np.concatenate([part.answer().obs for part in self._parts])

    def _seeds(self, part: int) -> list[int]:
        rng = np.random.default_rng([self.seed, self.crashes])
        # Apart from the seeds of evaluations, which count from 0.
        seeds: list[int] = (2**30 + rng.integers(2**30, size=self.count)).tolist()
        return seeds[self.parts[part]]

    def begin(self, actions: NDArray[Any]) -> None:
        """Start a step ``(W, A)`` of all worlds; :meth:`finish` waits for it."""
        for i, part in enumerate(self.parts):
            self.begin_part(i, actions[part])

    def finish(self) -> Step:
        """The step that :meth:`begin` started.

        Raises:
            IlRobotError: what a world raises of that kind, which every try would raise.
            SimulationError: worlds die again and again.
        """
        steps = [self.finish_part(i) for i in range(len(self.parts))]
        if any(step.lost for step in steps):
            return Step.begun(self.reset(), lost=True)
        return Step.joined(steps)

    def begin_part(self, part: int, actions: NDArray[Any]) -> None:
        """Start a step of the worlds of one process."""
        self._parts[part].ask(actions)

    def ready(self, begun: Iterable[int]) -> list[int]:
        """Those of these parts, which have begun a step, that have done it; waits for one."""
        waiting = {self._parts[i].waits_for(): i for i in begun}
        if None in waiting:
            return [waiting[None]]
        found = wait([connection for connection in waiting if connection is not None])
        return sorted(waiting[each] for each in found if isinstance(each, Connection))

    def finish_part(self, part: int) -> Step:
        """The step that :meth:`begin_part` started; raises what :meth:`finish` does."""
        place = self._parts[part]
        try:
            step = place.answer()
        except IlRobotError:
            raise
        except Exception as error:
            step = self._restart(part, error)
        else:
            place.steps += 1
        return replace(step, first=self.parts[part].start)

    def _restart(self, part: int, error: Exception) -> Step:
        """The worlds of one process anew."""
        self.crashes += 1
        dead = self._parts[part]
        if dead.steps < _ENOUGH and self.crashes >= _MOST_CRASHES:
            raise SimulationError(
                f'{self.crashes} worlds died, the last one after {dead.steps} steps: '
                f'{type(error).__name__}: {error}') from error
        dead.close()
        fresh = self._parts[part] = self._make(self.parts[part])
        fresh.ask(self._seeds(part))
        return Step.begun(fresh.answer().obs, lost=True)

    def close(self) -> None:
        """End all processes; the next use makes new ones."""
        for part in self._running:
            part.close()
        self._running = []


def share_size(count: int, processes: int | None) -> int:
    """Worlds of each process, all of them alike: the most with which there are enough processes.

    Args:
        count: Worlds.
        processes: Wanted at least; None for as many as this process may use cores.
    """
    wanted = len(os.sched_getaffinity(0)) if processes is None else processes
    return max(size for size in range(1, count + 1)
               if count % size == 0 and count // size >= min(wanted, count))


class _Part(Protocol):
    """Some of the worlds.

    Attributes:
        steps: Done.
    """

    steps: int

    def spaces(self) -> tuple[gym.Space[Any], gym.Space[Any]]:
        """Of a world: what is observed and what is done."""

    def ask(self, what: Any) -> None:
        """Seeds ``[w]`` for new episodes, or actions ``(w, A)``."""

    def waits_for(self) -> Connection | None:
        """On which the answer comes; None where it is there."""

    def answer(self) -> Step:
        """To what was asked."""

    def close(self) -> None:
        """The end."""


class _Here:
    """Worlds of this process (:class:`_Part`)."""

    def __init__(self, make_world: MakeWorld, count: int) -> None:
        self._envs = SyncVectorEnv([make_world] * count, autoreset_mode=AutoresetMode.SAME_STEP)
        self._asked: Any = None
        self.steps = 0

    def spaces(self) -> tuple[gym.Space[Any], gym.Space[Any]]:
        """See :class:`_Part`."""
        return self._envs.single_observation_space, self._envs.single_action_space

    def ask(self, what: Any) -> None:
        """See :class:`_Part`."""
        self._asked = what

    def waits_for(self) -> None:
        """See :class:`_Part`."""

    def answer(self) -> Step:
        """See :class:`_Part`."""
        if isinstance(self._asked, list):
            return Step.begun(self._envs.reset(seed=self._asked)[0])
        return Step.of(self._envs.step(self._asked))

    def close(self) -> None:
        """See :class:`_Part`."""
        with suppress(Exception):  # what is broken need not close well
            self._envs.close()


class _Process:
    """Worlds of a process of their own (:class:`_Part`)."""

    def __init__(self, make_world: MakeWorld, count: int) -> None:
        context = multiprocessing.get_context('spawn')  # threads of torch do not survive a fork
        self._end, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, make_world, count), daemon=True)
        self._process.start()
        theirs.close()
        self._spaces: tuple[gym.Space[Any], gym.Space[Any]] | None = None
        self.steps = 0

    def spaces(self) -> tuple[gym.Space[Any], gym.Space[Any]]:
        """See :class:`_Part`; waits until the process has begun.

        Raises:
            SimulationError: it ended before.
        """
        if self._spaces is None:
            try:
                self._spaces = self._received()
            except (EOFError, OSError):
                raise SimulationError(
                    'the process of a world ended before it began; what it said stands '
                    'above') from None
        return self._spaces

    def ask(self, what: Any) -> None:
        """See :class:`_Part`."""
        self.spaces()
        with suppress(OSError):  # a dead one shows when its answer is awaited
            self._end.send(what)

    def waits_for(self) -> Connection:
        """See :class:`_Part`."""
        return self._end

    def answer(self) -> Step:
        """See :class:`_Part`."""
        step: Step = self._received()
        return step

    def _received(self) -> Any:
        found = self._end.recv()
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        """See :class:`_Part`."""
        self._end.close()
        self._process.terminate()
        self._process.join()


def _serve(end: Connection, make_world: MakeWorld, count: int) -> None:
    """What a process does: spaces first, then an answer to each question."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is its parent's
    torch.set_num_threads(1)  # batches are too small to share
    with suppress(EOFError, OSError):  # its parent has closed, or died
        try:
            place = _Here(make_world, count)
        except Exception as error:
            end.send(_sendable(error))
            return
        end.send(place.spaces())
        while True:
            place.ask(end.recv())
            try:
                told: Any = place.answer()
            except Exception as error:
                told = _sendable(error)
            end.send(told)


def _sendable(error: Exception) -> Exception:
    """The same, or its traceback where it cannot go from process to process."""
    with suppress(Exception):
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    return RuntimeError(''.join(traceback.format_exception(error)))
