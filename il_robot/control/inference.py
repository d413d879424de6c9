"""Runs a policy beside everything else: a thread in which the newest observation wins.

No torch and no ROS: the policy is whatever observes and predicts. A slow network costs freshness
only; a chunk says by its stamp which observation it answers.
"""

from __future__ import annotations

import math
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from il_robot.errors import IlRobotError
from il_robot.types import ActionChunk, Observation

_GRID = 1e-6
_REMEMBERED = 10


class Runner(Protocol):
    """A policy with its normalisation (:class:`il_robot.policies.runner.PolicyRunner`).

    Attributes:
        frozen: Control steps from the newest observation that will have been executed when the
            answer comes; set before each prediction.
    """

    frozen: int

    def reset(self, rng: np.random.Generator) -> None:
        """Forget the last episode."""

    def observe(self, observation: Observation) -> None:
        """Take the observation of one control step."""

    def predict(self) -> ActionChunk:
        """The chunk that starts at the newest observation's time."""


@dataclass(frozen=True)
class Timing:
    """How long an answer took [s].

    Attributes:
        latency: From the observation's arrival to the chunk.
        wait: Of that, until the network began.
        inference: Of that, the network.
        late: Whether the next answer was due before this one was there.
    """

    latency: float
    wait: float
    inference: float
    late: bool


class InferenceWorker:
    """Answers observations with chunks; see the module. Close it in the end.

    The policy sees every observation, in order (its history is in control steps), but answers
    only the newest, and only where a prediction is due.

    Args:
        dt: Control period [s].
        on_chunk: Called from the thread with each answer and how long it took.
        on_error: Called from the thread with a sentence when a prediction failed.
        clock: Seconds, for the timing.
    """

    def __init__(
        self, dt: float, on_chunk: Callable[[ActionChunk, Timing], None],
        on_error: Callable[[str], None], clock: Callable[[], float],
    ) -> None:
        self._dt, self._on_chunk, self._on_error, self._clock = dt, on_chunk, on_error, clock
        self._runner: Runner | None = None
        self._n_action_steps = 1
        self._answered = float('-inf')
        # Conservative, as Black et al. 2025 (arXiv 2506.07339): the slowest of the last ones.
        self._latencies: deque[float] = deque(maxlen=_REMEMBERED)
        self._pending: list[np.random.Generator | tuple[Observation, float]] = []
        self._wake = threading.Condition()
        self._predicting = threading.RLock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name='inference', daemon=True)
        self._thread.start()

    def replace(
        self, runner: Runner | None, n_action_steps: int = 1,
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        """Go on with another policy, or with none.

        Returns when no chunk of the old one comes any more. ``announce`` is called after the
        last chunk of the old policy and before the first one of the new.
        """
        with self._predicting:
            self.clear()
            self._runner, self._n_action_steps = runner, n_action_steps
            self._answered = float('-inf')
            self._latencies.clear()
            announce()

    def reset(self, rng: np.random.Generator) -> None:
        """An episode starts with the next observation."""
        with self._wake:
            self._pending.append(rng)

    def submit(self, observation: Observation) -> None:
        """Take the observation of one control step."""
        with self._wake:
            self._pending.append((observation, self._clock()))
            self._wake.notify()

    def clear(self) -> None:
        """Forget what is pending; returns when no answer to it comes any more."""
        with self._wake:
            self._pending.clear()
        with self._predicting:
            pass

    def close(self) -> None:
        """End the thread; a second call does nothing."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._pending or self._closed)
                if self._closed:
                    return
            with self._predicting:
                with self._wake:
                    pending, self._pending = self._pending, []
                if self._runner is not None:
                    self._answer(self._runner, pending)

    def _answer(
        self, runner: Runner, pending: list[np.random.Generator | tuple[Observation, float]]
    ) -> None:
        newest: tuple[float, float] | None = None
        try:
            for item in pending:
                if isinstance(item, np.random.Generator):
                    runner.reset(item)
                    self._answered, newest = float('-inf'), None
                else:
                    runner.observe(item[0])
                    newest = (item[0].stamp, item[1])
            if newest is None or not self._due(newest[0]):
                return
            begun = self._clock()
            runner.frozen = math.ceil(max(self._latencies, default=0.0) / self._dt)
            chunk = runner.predict()
            self._answered = newest[0]
            now = self._clock()
            self._latencies.append(now - newest[1])
            self._on_chunk(chunk, Timing(
                now - newest[1], begun - newest[1], now - begun,
                now - newest[1] > self._n_action_steps * self._dt))
        except IlRobotError as error:
            self._on_error(str(error))
        except Exception:
            # Whatever a network throws (out of memory, a driver) must not end the thread.
            self._on_error(traceback.format_exc())

    def _due(self, stamp: float) -> bool:
        elapsed = (stamp - self._answered) / self._dt
        # Time that went back is a robot that started anew.
        return elapsed < 0 or elapsed >= self._n_action_steps - _GRID
