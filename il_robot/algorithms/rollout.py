"""What a stochastic policy did in many worlds: so many steps of each, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from il_robot.algorithms.world_parts import Step
from il_robot.algorithms.worlds import Worlds
from il_robot.types import Float32


@dataclass(frozen=True, eq=False)
class Rollout:
    """T decisions of W worlds.

    Attributes:
        obs: ``(T, W, O)``.
        action: ``(T, W, A)``, or ``(T, W)`` where they are numbers of a choice.
        log_p: ``(T, W)`` of the actions, when they were taken [nats].
        reward: ``(T, W)``.
        next_obs: ``(T, W, O)``.
        terminated: ``(T, W)``.
        ended: ``(T, W)``.
    """

    obs: Float32
    action: NDArray[Any]
    log_p: Float32
    reward: Float32
    next_obs: Float32
    terminated: NDArray[np.bool_]
    ended: NDArray[np.bool_]


class Acting(Protocol):
    """Who acts in the worlds."""

    def noise(self, steps: int, worlds: int) -> list[torch.Tensor]:
        """``(W, A)`` for each of so many steps."""

    def act(self, obs: Float32, noise: torch.Tensor) -> tuple[NDArray[Any], Float32]:
        """Actions ``(W, A)`` and their log-density ``(W,)``."""


class Collector:
    """Steps worlds, no process waiting for another.

    Args:
        worlds: They stand where the last rollout ended.
        acting: Who acts in them; beyond the bounds of the actions it is held at them.
    """

    def __init__(self, worlds: Worlds, acting: Acting) -> None:
        self._worlds, self._acting = worlds, acting
        space = worlds.action_space
        self._bounds = (space.low, space.high) if hasattr(space, 'low') else None
        self._obs: list[Float32] | None = None

    def collect(
        self, length: int, on_step: Callable[[Step], None], should_stop: Callable[[], bool]
    ) -> Rollout | None:
        """``length`` steps of all worlds; None if stopped, with which they begin anew.

        Args:
            length: T.
            on_step: Called after every step of the worlds of a process.
            should_stop: Asked after every step.
        """
        worlds, parts = self._worlds, self._worlds.parts
        # drawn at once, so that it does not matter who is ready first
        noise = self._acting.noise(length, worlds.count)
        if self._obs is None:
            obs = worlds.reset()
            self._obs = [obs[part] for part in parts]
        rows: list[list[tuple[Any, ...]]] = [[] for _ in parts]
        acted = {i: self._act(i, noise[0][part]) for i, part in enumerate(parts)}
        while acted:
            stopped = should_stop()
            for i in list(acted) if stopped else worlds.ready(acted):
                step = worlds.finish_part(i)
                if step.lost:
                    rows[i] = []  # its episodes have no end
                else:
                    rows[i].append((self._obs[i], *acted[i], step.reward, step.next_obs,
                                    step.terminated, step.ended))
                self._obs[i] = step.obs
                on_step(step)
                if len(rows[i]) == length:
                    del acted[i]
                elif not stopped:
                    acted[i] = self._act(i, noise[len(rows[i])][parts[i]])
            if stopped:
                self._obs = None
                return None
        each = [[np.stack(values) for values in zip(*part)] for part in rows]
        return Rollout(*(np.concatenate(values, 1) for values in zip(*each)))

    def _act(self, part: int, noise: torch.Tensor) -> tuple[NDArray[Any], Float32]:
        """Let the worlds of one process begin a step; what they do and its log-density."""
        assert self._obs is not None
        action, log_p = self._acting.act(self._obs[part], noise)
        self._worlds.begin_part(
            part, action if self._bounds is None else action.clip(*self._bounds))
        return action, log_p
