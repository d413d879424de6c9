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

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from il_robot.algorithms.world_parts import Here, MakeWorld, Part, Process, Step
from il_robot.errors import IlRobotError, SimulationError
from il_robot.types import Float32

_ENOUGH = 1000
"""Steps of a world after which it counts as having worked."""
_MOST_CRASHES = 3


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
        begun: Decisions of earlier sessions: other episodes than theirs.
        crashes: How often a process died.
    """

    make_world: MakeWorld
    count: int
    seed: int
    processes: int | None = None
    begun: int = 0
    crashes: int = field(default=0, init=False)
    _running: list[Part] = field(default_factory=list, init=False)

    def __enter__(self) -> Worlds:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
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
    def _parts(self) -> list[Part]:
        """Made where there are none."""
        if not self._running:
            self._running = [self._make(part) for part in self.parts]
        return self._running

    def _make(self, part: slice) -> Part:
        kind = Here if self.processes == 0 else Process
        return kind(self.make_world, part.stop - part.start)

    def reset(self) -> Float32:
        """Episodes start in all worlds; ``(W, O)``."""
        for i, part in enumerate(self._parts):
            part.ask(self._seeds(i))
        return np.concatenate([self.finish_part(i).obs for i in range(len(self.parts))])

    def _seeds(self, part: int) -> list[int]:
        rng = np.random.default_rng([self.seed, self.crashes, self.begun])
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
        return replace(self.finish_part(part), lost=True)

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
