"""Some of many environments, in this process or in one of their own.

A vector environment of Gymnasium steps them one after the other and lets the next episode follow
in the step that ends one.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from il_robot.errors import SimulationError
from il_robot.types import Float32

MakeWorld = Callable[[], 'gym.Env[Float32, Any]']


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


class Part(Protocol):
    """Some worlds that are stepped together.

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


class Here:
    """Worlds of this process (:class:`Part`).

    Args:
        make_world: Makes one.
        count: How many.
    """

    def __init__(self, make_world: MakeWorld, count: int) -> None:
        self._envs = SyncVectorEnv([make_world] * count, autoreset_mode=AutoresetMode.SAME_STEP)
        self._asked: Any = None
        self.steps = 0

    def spaces(self) -> tuple[gym.Space[Any], gym.Space[Any]]:
        """See :class:`Part`."""
        return self._envs.single_observation_space, self._envs.single_action_space

    def ask(self, what: Any) -> None:
        """See :class:`Part`."""
        self._asked = what

    def waits_for(self) -> None:
        """See :class:`Part`."""

    def answer(self) -> Step:
        """See :class:`Part`."""
        if isinstance(self._asked, list):
            return Step.begun(self._envs.reset(seed=self._asked)[0])
        return Step.of(self._envs.step(self._asked))

    def close(self) -> None:
        """See :class:`Part`."""
        with suppress(Exception):  # what is broken need not close well
            self._envs.close()


class Process:
    """Worlds of a process of their own (:class:`Part`).

    Args:
        make_world: Makes one; picklable.
        count: How many.
    """

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
        """See :class:`Part`; waits until the process has begun.

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
        """See :class:`Part`."""
        self.spaces()
        with suppress(OSError):  # a dead one shows when its answer is awaited
            self._end.send(what)

    def waits_for(self) -> Connection:
        """See :class:`Part`."""
        return self._end

    def answer(self) -> Step:
        """See :class:`Part`."""
        step: Step = self._received()
        return step

    def _received(self) -> Any:
        found = self._end.recv()
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        """See :class:`Part`."""
        self._end.close()
        self._process.terminate()
        self._process.join()


def _serve(end: Connection, make_world: MakeWorld, count: int) -> None:
    """What a process does: spaces first, then an answer to each question."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is its parent's
    torch.set_num_threads(1)  # batches are too small to share
    with suppress(EOFError, OSError):  # its parent has closed, or died
        try:
            place = Here(make_world, count)
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
