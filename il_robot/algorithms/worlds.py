"""Many environments at once, in processes, that outlive the death of one of them.

Gymnasium's own vector environments do the work; a finished episode is followed by the next one in
the same step. Where a process dies (out of memory, a crash of the physics) all worlds are made
anew, the episodes that were running are lost, and it is counted.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState
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
    """

    obs: Float32
    reward: Float32
    next_obs: Float32
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    success: NDArray[np.bool_]
    lost: bool = False

    @property
    def ended(self) -> NDArray[np.bool_]:
        """``(W,)``."""
        return self.terminated | self.truncated


@dataclass
class Returns:
    """Sums of rewards, as an ``on_step`` of a trainer.

    Attributes:
        finished: Of every episode that has ended, in order.
    """

    finished: list[float] = field(default_factory=list)
    _running: Float32 | None = None

    def __call__(self, step: Step, losses: Mapping[str, torch.Tensor] | None = None) -> None:
        """Take note of a step."""
        if self._running is None or step.lost:
            self._running = np.zeros(len(step.reward), np.float32)
        self._running += step.reward
        self.finished += self._running[step.ended].tolist()
        self._running[step.ended] = 0

    def mean(self, episodes: int = 100) -> float:
        """Of the newest episodes; NaN of none."""
        return float(np.mean(self.finished[-episodes:])) if self.finished else float('nan')


@dataclass
class Worlds:
    """W environments; use it as a context manager.

    Attributes:
        make_world: Makes one, with ``Box`` observations; with processes it must be picklable.
        count: W.
        seed: Of all the episodes.
        processes: One for each world, or none.
        crashes: How often a process died.
    """

    make_world: MakeWorld
    count: int
    seed: int
    processes: bool = True
    crashes: int = field(default=0, init=False)
    _envs: VectorEnv[Any, Any, Any] | None = field(default=None, init=False)
    _since: int = field(default=0, init=False)

    def __enter__(self) -> Worlds:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def envs(self) -> VectorEnv[Any, Any, Any]:
        """Gymnasium's; made where there are none."""
        if self._envs is None:
            makers = [_World(self.make_world)] * self.count
            if self.processes:
                try:
                    self._envs = AsyncVectorEnv(
                        makers, context='spawn', autoreset_mode=AutoresetMode.SAME_STEP)
                except EOFError:
                    raise SimulationError(
                        'the process of a world ended before it began; what it said stands '
                        'above') from None
            else:
                self._envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
        return self._envs

    @property
    def obs_dim(self) -> int:
        """O."""
        space = self.envs.single_observation_space
        assert space.shape is not None
        return space.shape[0]

    @property
    def action_space(self) -> Any:
        """Of one world."""
        return self.envs.single_action_space

    def reset(self) -> Float32:
        """Episodes start in all worlds; ``(W, O)``."""
        rng = np.random.default_rng([self.seed, self.crashes])
        # Apart from the seeds of evaluations, which count from 0.
        seeds = (2**30 + rng.integers(2**30, size=self.count)).tolist()
        self._since = 0
        obs, _ = self.envs.reset(seed=seeds)
        return np.asarray(obs, np.float32)

    def begin(self, actions: Any) -> None:
        """Start a step ``(W, A)``; :meth:`finish` waits for it."""
        if isinstance(self.envs, AsyncVectorEnv):
            with suppress(OSError):  # a dead one shows when its answer is awaited
                self.envs.step_async(actions)
        else:
            self._actions = actions

    def finish(self) -> Step:
        """The step that :meth:`begin` started.

        Raises:
            IlRobotError: what a world raises of that kind, which every try would raise.
            SimulationError: worlds die again and again.
        """
        try:
            if isinstance(self.envs, AsyncVectorEnv):
                found = self.envs.step_wait()
            else:
                found = self.envs.step(self._actions)
        except IlRobotError:
            raise
        except Exception as error:
            return self._restart(error)
        self._since += 1
        obs, reward, terminated, truncated, info = found
        obs = np.asarray(obs, np.float32)
        following, success = obs, np.zeros(self.count, bool)
        if 'final_obs' in info:
            following = obs.copy()
            for i in np.flatnonzero(info['_final_obs']):
                following[i] = info['final_obs'][i]
            success[:] = info.get('final_info', {}).get('success', success)
        return Step(obs, reward.astype(np.float32), following, terminated, truncated, success)

    def _restart(self, error: Exception) -> Step:
        """All worlds anew."""
        self.crashes += 1
        if self._since < _ENOUGH and self.crashes >= _MOST_CRASHES:
            raise SimulationError(
                f'{self.crashes} worlds died, the last one after {self._since} steps: '
                f'{type(error).__name__}: {error}') from error
        self.close()
        obs = self.reset()
        none = np.zeros(self.count, bool)
        return Step(obs, np.zeros(self.count, np.float32), obs, none, none, none, lost=True)

    def close(self) -> None:
        """End all processes; the next use makes new ones."""
        if self._envs is not None:
            with suppress(Exception):
                if isinstance(self._envs, AsyncVectorEnv):
                    # otherwise it first waits for the answer of a process that has died
                    self._envs._state = AsyncState.DEFAULT
                    self._envs.close(terminate=True)
                else:
                    self._envs.close()
        self._envs = None


@dataclass(frozen=True)
class _World:
    """Makes a world in a process of its own, which Ctrl-C leaves to its parent."""

    make_world: MakeWorld

    def __call__(self) -> gym.Env[Float32, Any]:
        """The world."""
        if multiprocessing.parent_process() is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            torch.set_num_threads(1)  # batch 1 is too small to share
        return self.make_world()
