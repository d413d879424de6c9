"""What an algorithm uses of a dataset: masks over episodes and rows, and a split.

Masks are plain boolean arrays and combine with ``&``, ``|``, ``~``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from il_robot.data.dataset import Dataset
from il_robot.errors import DatasetError, unknown
from il_robot.types import Outcome, Source

Bool = NDArray[np.bool_]
Int64 = NDArray[np.int64]


def episode_mask(
    dataset: Dataset,
    *,
    outcomes: Collection[str] | None = None,
    rounds: Collection[int] | None = None,
    tasks: Collection[str] | None = None,
    episodes: Collection[int] | None = None,
) -> Bool:
    """``(E,)`` episodes that satisfy everything given.

    Args:
        dataset: The dataset.
        outcomes: ``success``, ``failure``, ``unknown`` (or :class:`types.Outcome`).
        rounds: DAgger rounds.
        tasks: Registered task names or instructions.
        episodes: Positions in ``dataset.episodes``.

    Raises:
        DatasetError: a name or number that the dataset does not have.
    """
    records = dataset.episodes
    mask = np.ones(len(records), dtype=bool)
    if outcomes is not None:
        wanted = {Outcome(o) for o in _known('outcome', outcomes, [o.value for o in Outcome])}
        mask &= [r.outcome in wanted for r in records]
    if rounds is not None:
        present = _known('round', rounds, sorted({r.round for r in records}))
        mask &= [r.round in present for r in records]
    if tasks is not None:
        names = _known('task', tasks, sorted({t for r in records for t in (r.task, r.language)}))
        mask &= [r.task in names or r.language in names for r in records]
    if episodes is not None:
        chosen = _known('episode', episodes, range(len(records)))
        mask &= [i in chosen for i in range(len(records))]
    return mask


def row_mask(
    dataset: Dataset,
    *,
    episodes: Bool | None = None,
    sources: Collection[Source] | None = None,
    arm: str | None = None,
    intervention: bool | None = None,
    labelled: bool | None = None,
) -> Bool:
    """``(N,)`` rows that satisfy everything given.

    Args:
        dataset: The dataset.
        episodes: ``(E,)`` mask of episodes (:func:`episode_mask`).
        sources: Who drove; with several arms every arm must have one of them.
        arm: Look at this arm's source alone.
        intervention: Rows inside (True) or outside (False) an intervention.
        labelled: Rows with (True) or without (False) an expert's label.

    Raises:
        DatasetError: unknown arm, or a dataset that does not say who drove.
    """
    mask = np.ones(len(dataset), dtype=bool)
    if episodes is not None:
        mask &= np.asarray(episodes)[dataset.episode_of_row]
    if sources is not None:
        mask &= np.isin(_sources(dataset, arm), [int(s) for s in sources]).all(axis=1)
    if intervention is not None:
        mask &= dataset.intervention == intervention
    if labelled is not None:
        mask &= np.isfinite(dataset.expert).all(axis=1) == labelled
    return mask


def split_episodes(
    n_episodes: int, fractions: Sequence[float], rng: np.random.Generator
) -> tuple[Int64, ...]:
    """Split episodes at random; each part is sorted, together they are all episodes.

    Args:
        n_episodes: How many there are.
        fractions: Share of each part, summing to 1.
        rng: The same generator state gives the same split.

    Raises:
        DatasetError: fractions that are not positive or do not sum to 1.
    """
    shares = np.asarray(fractions, dtype=float)
    if not len(shares) or (shares <= 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise DatasetError(f'fractions must be positive and sum to 1, got {list(fractions)}')
    edges = np.rint(np.cumsum(shares)[:-1] * n_episodes).astype(int)
    return tuple(np.sort(part) for part in np.split(rng.permutation(n_episodes), edges))


def mask_of(n_episodes: int, positions: Sequence[int] | Int64) -> Bool:
    """``(E,)`` mask that is True at these positions."""
    mask = np.zeros(n_episodes, dtype=bool)
    mask[np.asarray(positions, dtype=np.int64)] = True
    return mask


def _known(what: str, wanted: Collection[object], valid: Collection[object]) -> set[object]:
    chosen = {w.value if isinstance(w, Outcome) else w for w in wanted}
    for name in chosen:
        if name not in valid:
            raise DatasetError(unknown(what, name, map(str, valid)))
    return chosen


def _sources(dataset: Dataset, arm: str | None) -> Int64:
    if (dataset.source < 0).any():
        raise DatasetError(f'{dataset.path} does not say who drove (no column "source")')
    if arm is None:
        return dataset.source
    arms = [a.name for a in dataset.spec.arms] if dataset.spec else []
    if arm not in arms:
        raise DatasetError(unknown('arm', arm, arms, str(dataset.path)))
    return dataset.source[:, [arms.index(arm)]]
