"""The growing table of the episode being recorded; adding a row costs microseconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from il_robot.data import keys
from il_robot.errors import DatasetError
from il_robot.spec import RobotSpec
from il_robot.types import EpisodeInfo, Float32, Step

_FIRST_CAPACITY = 512


class EpisodeRows:
    """Rows of one open episode, copied in as they come."""

    def __init__(self, spec: RobotSpec, object_names: Sequence[str], info: EpisodeInfo) -> None:
        self.info = info
        self.length = 0
        self._arms = len(spec.arms)
        self._objects = tuple(object_names)
        self._names = frozenset(object_names)
        self._capacity = _FIRST_CAPACITY
        shapes: dict[str, tuple[tuple[int, ...], str]] = {
            keys.STATE: ((spec.dim,), 'float32'),
            keys.ACTION: ((spec.dim,), 'float32'),
            keys.PROPOSAL_POLICY: ((spec.dim,), 'float32'),
            keys.PROPOSAL_EXPERT: ((spec.dim,), 'float32'),
            keys.SOURCE: ((self._arms,), 'int64'),
            keys.INTERVENTION: ((), 'bool'),
            keys.REWARD: ((), 'float32'),
            keys.SUCCESS: ((), 'bool'),
        }
        if object_names:
            shapes[keys.OBJECTS] = ((7 * len(object_names),), 'float32')
        self._table = {
            key: np.empty((self._capacity, *shape), dtype)
            for key, (shape, dtype) in shapes.items()
        }

    def add(self, step: Step) -> None:
        """Append one row.

        Raises:
            DatasetError: a wrong shape, NaN in state or action, or other objects than the
                dataset's; the row is not added.
        """
        if self.length == self._capacity:
            self._capacity *= 2
            for key, old in self._table.items():
                self._table[key] = np.empty((self._capacity, *old.shape[1:]), old.dtype)
                self._table[key][:self.length] = old
        i, table = self.length, self._table
        observation = step.observation
        self._put(keys.STATE, observation.state)
        self._put(keys.ACTION, step.action)
        self._put_proposal(keys.PROPOSAL_POLICY, step.policy)
        self._put_proposal(keys.PROPOSAL_EXPERT, step.expert)
        if len(step.source) != self._arms:
            raise DatasetError(f'source needs one value per arm ({self._arms}), got {step.source}')
        table[keys.SOURCE][i] = step.source
        if observation.objects.keys() != self._names:
            raise DatasetError(
                f'objects of the dataset are {list(self._objects)}, the step has '
                f'{list(observation.objects)}'
            )
        for j, name in enumerate(self._objects):
            table[keys.OBJECTS][i, 7 * j:7 * j + 7] = observation.objects[name]
        if not math.isfinite(step.reward):
            raise DatasetError(f'{keys.REWARD} is {step.reward}; not recorded')
        table[keys.INTERVENTION][i] = step.intervention
        table[keys.REWARD][i] = step.reward
        table[keys.SUCCESS][i] = step.success
        self.length += 1

    def _put_proposal(self, key: str, value: Float32 | None) -> None:
        if value is None:
            self._table[key][self.length] = np.nan
        else:
            self._put(key, value)

    def _put(self, key: str, value: Float32) -> None:
        column = self._table[key]
        value = np.asarray(value)
        if value.shape != column.shape[1:]:
            raise DatasetError(
                f'{key} must have shape {column.shape[1:]}, got {value.shape}')
        # The sum of squares is finite only where all are, and costs a fifth of looking at each.
        if not math.isfinite(value.dot(value)) and not np.isfinite(value).all():
            bad = np.flatnonzero(~np.isfinite(value)).tolist()
            raise DatasetError(f'{key} has NaN or infinity at indices {bad}; not recorded')
        column[self.length] = value

    def columns(
        self, episode: int, first_index: int, task_index: int, fps: float
    ) -> dict[str, NDArray[Any]]:
        """The finished table: key to ``(n,)`` or ``(n, D)``.

        Args:
            episode: Episode index.
            first_index: Global index of the first row.
            task_index: Index of the instruction.
            fps: Rows per second [Hz].
        """
        n = self.length
        frame = np.arange(n, dtype=np.int64)
        source = self._table[keys.SOURCE][:n]
        return {
            **{key: column[:n] for key, column in self._table.items()},
            keys.SOURCE: source[:, 0] if self._arms == 1 else source,
            keys.ROUND: np.full(n, self.info.round, dtype=np.int64),
            keys.DONE: frame == n - 1,
            keys.TIMESTAMP: (frame / fps).astype(np.float32),
            keys.FRAME: frame,
            keys.EPISODE: np.full(n, episode, dtype=np.int64),
            keys.INDEX: first_index + frame,
            keys.TASK: np.full(n, task_index, dtype=np.int64),
        }
