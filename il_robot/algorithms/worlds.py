"""Many environments at once, in processes, that outlive the death of one of them.

Gymnasium's own vector environments do the work; a finished episode is followed by the next one in
the same step. A process has several worlds, which it steps one after the other: with one world
each, as much time goes by in waiting for messages as in physics. What comes out does not depend on
how many processes there are. Where one dies (out of memory, a crash of the physics) all worlds are
made anew, the episodes that were running are lost, and it is counted.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState
from gymnasium.vector.utils import batch_space
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
        processes: At least so many share them evenly; 0 for this one, None for all cores.
        crashes: How often a process died.
    """

    make_world: MakeWorld
    count: int
    seed: int
    processes: int | None = None
    crashes: int = field(default=0, init=False)
    _envs: VectorEnv[Any, Any, Any] | None = field(default=None, init=False)
    _since: int = field(default=0, init=False)

    def __enter__(self) -> Worlds:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def envs(self) -> VectorEnv[Any, Any, Any]:
        """Gymnasium's, of worlds or of one :class:`_Share` per process; made where none are."""
        if self._envs is None and self.processes == 0:
            self._envs = _several(self.make_world, self.count)
        elif self._envs is None:
            size = share_size(self.count, self.processes)
            shares = [_Share(self.make_world, size, i) for i in range(self.count // size)]
            try:
                self._envs = AsyncVectorEnv(
                    shares, context='spawn', autoreset_mode=AutoresetMode.DISABLED)
            except EOFError:
                raise SimulationError(
                    'the process of a world ended before it began; what it said stands '
                    'above') from None
        return self._envs

    @property
    def obs_dim(self) -> int:
        """O."""
        space: Any = self.envs.single_observation_space
        return int((space['obs'] if self._parallel else space).shape[-1])

    @property
    def action_space(self) -> Any:
        """Of one world."""
        envs = self.envs
        return envs.call('single')[0] if isinstance(envs, AsyncVectorEnv) \
            else envs.single_action_space

    @property
    def _parallel(self) -> bool:
        return isinstance(self.envs, AsyncVectorEnv)

    def reset(self) -> Float32:
        """Episodes start in all worlds; ``(W, O)``."""
        rng = np.random.default_rng([self.seed, self.crashes])
        # Apart from the seeds of evaluations, which count from 0.
        seeds = (2**30 + rng.integers(2**30, size=self.count)).tolist()
        self._since = 0
        if not self._parallel:
            return np.asarray(self.envs.reset(seed=seeds)[0], np.float32)
        return self._step_of(self.envs.reset(options={'seeds': seeds})[0]).obs

    def begin(self, actions: Any) -> None:
        """Start a step ``(W, A)``; :meth:`finish` waits for it."""
        if isinstance(self.envs, AsyncVectorEnv):
            with suppress(OSError):  # a dead one shows when its answer is awaited
                self.envs.step_async(actions.reshape(self.envs.num_envs, -1, *actions.shape[1:]))
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
                step = self._step_of(self.envs.step_wait()[0])
            else:
                step = Step.of(self.envs.step(self._actions))
        except IlRobotError:
            raise
        except Exception as error:
            return self._restart(error)
        self._since += 1
        return step

    def _step_of(self, shares: Mapping[str, NDArray[Any]]) -> Step:
        """The ``(P, W / P, ...)`` of all processes as one."""
        whole: dict[str, Any] = {
            k: v.reshape(self.count, *v.shape[2:]) for k, v in shares.items()}
        # shared memory knows no bool
        return Step(**{k: v if v.dtype == np.float32 else v.astype(bool)
                       for k, v in whole.items()})

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


def share_size(count: int, processes: int | None) -> int:
    """Worlds of each process, all of them alike: the most with which there are enough processes.

    Args:
        count: Worlds.
        processes: Wanted at least; None for as many as this process may use cores.
    """
    wanted = len(os.sched_getaffinity(0)) if processes is None else processes
    return max(size for size in range(1, count + 1)
               if count % size == 0 and count // size >= min(wanted, count))


def _several(make_world: MakeWorld, count: int) -> VectorEnv[Any, Any, Any]:
    return SyncVectorEnv([make_world] * count, autoreset_mode=AutoresetMode.SAME_STEP)


@dataclass(frozen=True)
class _Share:
    """Makes the worlds of one process, which leaves Ctrl-C to its parent.

    Attributes:
        make_world: Makes one of them.
        size: How many.
        index: Of the process.
    """

    make_world: MakeWorld
    size: int
    index: int

    def __call__(self) -> gym.Env[Any, Any]:
        """The worlds as one environment."""
        if multiprocessing.parent_process() is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            torch.set_num_threads(1)  # batches are too small to share
        return _Together(_several(self.make_world, self.size), self.index)


class _Together(gym.Env[Any, Any]):
    """Several worlds as one environment that never ends and whose observation is a whole step.

    Observations go from process to process through shared memory; anything else is pickled.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], index: int) -> None:
        self._envs, self._index = envs, index
        self.single = envs.single_action_space
        self.action_space = batch_space(self.single, envs.num_envs)
        dim = envs.single_observation_space.shape
        assert dim is not None
        shapes = {'obs': dim, 'next_obs': dim, 'reward': ()}
        self._names = [each.name for each in fields(Step) if each.name != 'lost']
        self.observation_space = gym.spaces.Dict({
            name: gym.spaces.Box(-np.inf, np.inf, (envs.num_envs, *shapes[name]), np.float32)
            if name in shapes else gym.spaces.MultiBinary(envs.num_envs)
            for name in self._names})

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Episodes with seeds ``options['seeds']`` of the worlds of all processes."""
        count = self._envs.num_envs
        assert options is not None
        obs, _ = self._envs.reset(
            seed=options['seeds'][self._index * count:(self._index + 1) * count])
        none = np.zeros(count, bool)
        return self._told(Step(obs, np.zeros(count, np.float32), obs, none, none, none)), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """A step of each."""
        return self._told(Step.of(self._envs.step(action))), 0.0, False, False, {}

    def close(self) -> None:
        """All of them."""
        self._envs.close()

    def _told(self, step: Step) -> dict[str, Any]:
        return {name: getattr(step, name) for name in self._names}
