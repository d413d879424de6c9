"""A dataset made ready for supervised training: labels, split, normaliser, windows, tensors.

A low-dimensional dataset is small, so all of it lies on the device; a batch is index
arithmetic (:mod:`il_robot.data.windows`) and one gather per tensor, without a data loader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from il_robot.algorithms.frames import Frames
from il_robot.algorithms.recipe import Training
from il_robot.algorithms.weights import Weights, row_weights
from il_robot.data import keys
from il_robot.data.dataset import Dataset
from il_robot.data.filters import episode_mask, row_mask, split_episodes
from il_robot.data.normalizer import Normalizer, fit_normalizer
from il_robot.data.recombine import Recombined, Scene, recombine
from il_robot.data.windows import WindowIndex, window_index
from il_robot.errors import DatasetError, unknown
from il_robot.policies.features import FeatureLayout, Hands, batch_features, relative_mask
from il_robot.policies.policy import Batch
from il_robot.types import Float32, Source

_LEAST = 1e-4
"""Smallest unit of an action [rad, m]."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Normalised tensors of all rows, and the windows over them.

    Attributes:
        features: ``(N, F)`` on the device.
        labels: ``(N, D)`` on the device; 0 where there is no label. Normalised, but where
            ``base`` says otherwise.
        train: Windows to train on.
        validation: Windows of the episodes held out, or None.
        normalizer: Keys ``features`` and ``action``, fitted on the training rows.
        base: ``(N, D)`` what relative targets are relative to [rad, m], 0 for absolute ones;
            None where all are absolute. Labels are then raw, and normalised by window.
        frames: Pictures of all rows, where cameras are observed.
        weights: ``(N,)`` importance of the window that begins at each row, on the device; None
            where all are equal.
    """

    features: torch.Tensor
    labels: torch.Tensor
    train: WindowIndex
    validation: WindowIndex | None
    normalizer: Normalizer
    base: torch.Tensor | None = None
    frames: Frames | None = None
    weights: torch.Tensor | None = None

    def batch(self, index: WindowIndex, windows: NDArray[np.int64]) -> Batch:
        """The batch of windows ``(B,)`` of ``index``; keys: :mod:`il_robot.policies.policy`."""
        rows, padding = index.action_rows(windows)
        past, _ = index.observation_rows(windows)
        batch = {'features': _gather(self.features, past), 'action': _gather(self.labels, rows)}
        if self.base is not None:
            batch['action'] = self._relative(batch['action'], _gather(self.base, past[:, -1:]))
        if index.chunk_size > 1:  # an anchor always has its label
            batch['is_pad'] = torch.from_numpy(padding).to(self.features.device)
        if self.weights is not None:
            batch['weight'] = _gather(self.weights, past[:, -1:])[:, 0]
        return batch if self.frames is None else {**batch, **self.frames.batch(past)}

    def _relative(self, action: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        """``(B, T, D)`` raw targets, normalised relative to ``(B, 1, D)`` where the robot is."""
        offset, scale = self._units
        return (action - base - offset) / scale

    @cached_property
    def _units(self) -> tuple[torch.Tensor, torch.Tensor]:
        entry = self.normalizer.entries['action']
        return (torch.from_numpy(entry.offset).to(self.labels),
                torch.from_numpy(entry.scale).to(self.labels))


def _gather(values: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
    """``(N, ...)`` values at ``(B, T)`` rows; index_select is 3x as fast as ``values[rows]``."""
    flat = torch.from_numpy(rows.reshape(-1)).to(values.device)
    return values.index_select(0, flat).unflatten(0, rows.shape)


def check_columns(dataset: Dataset) -> None:
    """Refuse a dataset from which nothing can be learned.

    Raises:
        DatasetError: it lacks the state or the action.
    """
    lacking = [key for key in (keys.STATE, keys.ACTION) if key not in dataset.columns]
    if lacking:
        raise DatasetError(
            f'{dataset.path} lacks {" and ".join(lacking)}, without which nothing can be learned; '
            f'it has: {", ".join(sorted(dataset.columns))}')


def dataset_layout(
    dataset: Dataset, objects: tuple[str, ...] | None = None, hands: tuple[str, ...] = (),
    scales: tuple[float, ...] = (),
) -> FeatureLayout:
    """Every joint of a dataset, the objects named, or every one, the hands and scales named.

    Raises:
        DatasetError: it lacks an object.
    """
    for name in objects or ():
        if name not in dataset.object_names:
            raise DatasetError(
                f'{unknown("object", name, dataset.object_names, str(dataset.path))} '
                f'(observation.objects)')
    names = dataset.features[keys.STATE].get('names')
    if isinstance(names, dict):  # LeRobot also writes {'motors': [...]}
        names = next(iter(names.values()), None)
    width = dataset.state.shape[1]
    if names is None or len(names) != width:
        names = [f'state_{i}' for i in range(width)]
    return FeatureLayout(
        tuple(map(str, names)), dataset.object_names if objects is None else objects, hands,
        scales if hands else ())


def dataset_task(dataset: Dataset) -> str:
    """The task all episodes share, or empty."""
    tasks = {episode.task for episode in dataset.episodes}
    return tasks.pop() if len(tasks) == 1 else ''


def labels_of(
    dataset: Dataset, label: str, policy_successes: bool = False
) -> tuple[Float32, NDArray[np.bool_], NDArray[np.bool_]]:
    """What each row teaches.

    Args:
        dataset: The dataset.
        label: See ``Training.label``.
        policy_successes: See ``Training``; where rows of the dataset have weights, these decide.

    Returns:
        ``(N, D)`` labels, 0 where there is none; ``(N,)`` whether there is one: with
        ``expert``, rows that a policy drove and no expert labelled teach nothing, and those of
        discarded corrections never do; and ``(N,)`` whether what was done is what the label
        says.
    """
    kept = ~dataset.discarded
    if label == 'executed':
        return np.where(kept[:, None], dataset.action, np.float32(0)), kept, kept
    proposed, by_policy = row_mask(dataset, labelled=True), _by_policy(dataset)
    own = np.zeros(len(dataset), dtype=bool)
    if dataset.weight is not None:
        own = by_policy & ~proposed & (dataset.weight > 0)
    elif policy_successes:
        own = by_policy & ~proposed & row_mask(
            dataset, episodes=episode_mask(dataset, outcomes=['success']))
    usable = kept & (proposed | ~by_policy | own)
    labels = np.where(proposed[:, None], dataset.expert, dataset.action)
    return np.where(usable[:, None], labels, np.float32(0)), usable, kept & (~by_policy | own)


def _by_policy(dataset: Dataset) -> NDArray[np.bool_]:
    """``(N,)`` a policy drove an arm.

    What an expert said meanwhile was not done: it labels that row, but not a chunk from there.
    """
    return (dataset.source == int(Source.POLICY)).any(axis=1)


def make_samples(
    dataset: Dataset, layout: FeatureLayout, config: Training,
    chunk_size: int, n_obs_steps: int, device: torch.device, hands: Hands | None = None,
    relative: Sequence[str] = (), normalizer: Normalizer | None = None,
) -> Samples:
    """Labels, split by episode, normaliser, windows, tensors.

    Args:
        dataset: What to learn from.
        layout: Of the features.
        config: Which labels and episodes, how they are normalised and weighted.
        chunk_size: Of the policy.
        n_obs_steps: Of the policy.
        device: Where the tensors go.
        hands: Of the arms whose poses are features.
        relative: Joints whose labels are relative to where they are.
        normalizer: The one to use; fitted on the training rows where None.

    Raises:
        DatasetError: nothing is left to train on, or a value is not finite.
    """
    labels, usable, followed = labels_of(dataset, config.label, config.policy_successes)
    weights = row_weights(dataset, usable, config.weights)
    state, poses, starts, stops = dataset.state, dataset.objects, dataset.starts, dataset.stops
    begins = _begins(usable, followed, weights, chunk_size)
    held_in, held_out = _split(dataset, config, begins)
    if config.recombine:
        new = _recombined(dataset, config, held_in, hands or {})
        slices = [hand.where for hand in (hands or {}).values()]
        held_in = np.concatenate([held_in, len(starts) + np.arange(len(new.starts))])
        starts = np.concatenate([starts, len(dataset) + new.starts])
        stops = np.concatenate([stops, len(dataset) + new.stops])
        state = np.concatenate([state, new.arms(state, slices)])
        poses = np.concatenate([poses, new.objects(poses)])
        labels = np.concatenate([labels, new.arms(labels, slices)])
        usable, followed, begins = (
            np.concatenate([rows, rows[new.arm_rows].all(1)])
            for rows in (usable, followed, begins))
        weights = np.concatenate([weights, weights[new.arm_rows].min(1)])
    objects = {name: poses[:, i] for i, name in enumerate(dataset.object_names)}
    features = batch_features(state, objects, layout, hands)
    for what, array in (('observations', features), ('labels', labels)):
        bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
        if bad.size:
            raise DatasetError(
                f'{dataset.path}: {what} of {bad.size} rows have NaN or infinity, first row '
                f'{bad[0]}; see: il_robot dataset verify'
            )

    def windows(episodes: NDArray[np.int64]) -> WindowIndex:
        return window_index(starts[episodes], stops[episodes], chunk_size, n_obs_steps,
                            usable=usable, followed=followed, rows=begins)

    train = windows(held_in)
    base = state * relative_mask(layout.joints, relative) if relative else None
    normalizer = normalizer or fit_normalizer(
        {'features': features[train.anchors], 'action': _targets(labels, base, train)},
        config.normalization, least={'features': config.feature_floor, 'action': _LEAST},
        clip={'features': config.feature_clip}, by_step=('action',) if relative else (),
    )
    if base is None:
        labels = normalizer.normalize('action', labels)
    return Samples(
        torch.from_numpy(normalizer.normalize('features', features)).to(device),
        torch.from_numpy(labels).to(device),
        train, windows(held_out) if held_out.size else None, normalizer,
        None if base is None else torch.from_numpy(base).to(device),
        weights=(None if config.weights == Weights() and dataset.weight is None
                 else torch.from_numpy(weights).to(device)),
    )


def held_out_episodes(
    dataset: Dataset, config: Training, chunk_size: int
) -> NDArray[np.int64]:
    """Positions of the episodes that a training with this configuration does not learn from.

    Args:
        dataset: What was learned from.
        config: Of the training.
        chunk_size: Of the policy.

    Raises:
        DatasetError: there was nothing to train on.
    """
    _, usable, followed = labels_of(dataset, config.label, config.policy_successes)
    weights = row_weights(dataset, usable, config.weights)
    return _split(dataset, config, _begins(usable, followed, weights, chunk_size))[1]


def _begins(
    usable: NDArray[np.bool_], followed: NDArray[np.bool_], weights: Float32, chunk_size: int
) -> NDArray[np.bool_]:
    """``(N,)`` where a window may begin.

    Where a policy stands still, the expert beside it says "one step ahead" again and again: as a
    chunk, that teaches to stand still.
    """
    begins = usable & followed
    if chunk_size == 1 or not begins.any():
        begins = usable
    return begins & (weights > 0)


def with_objects(
    samples: Samples, dataset: Dataset, layout: FeatureLayout, hands: Hands | None,
    estimated: Mapping[str, Float32],
) -> Samples:
    """The same samples, the poses of some objects in the features replaced.

    Args:
        samples: Of the dataset, not recombined.
        dataset: The dataset.
        layout: Of the features.
        hands: As for :func:`make_samples`.
        estimated: ``(N, 7)`` by object.
    """
    recorded = {name: dataset.objects[:, i] for i, name in enumerate(dataset.object_names)}
    features = batch_features(dataset.state, {**recorded, **estimated}, layout, hands)
    features = samples.normalizer.normalize('features', features)
    return replace(samples, features=torch.from_numpy(features).to(samples.features.device))


def _targets(labels: Float32, base: Float32 | None, train: WindowIndex) -> Float32:
    """What actions are normalised by: ``(M, D)`` labels, or ``(m, T, D)`` relative ones.

    The windows that are cut off by an episode's end are left out, unless all are.
    """
    if base is None:
        return labels[train.anchors]
    rows, padding = train.action_rows(np.arange(len(train)))
    whole = ~padding.any(1)
    chosen = whole if whole.any() else np.ones(len(train), dtype=bool)
    return labels[rows[chosen]] - base[train.anchors[chosen], None]


def _recombined(
    dataset: Dataset, config: Training, episodes: NDArray[np.int64], hands: Hands
) -> Recombined:
    """New episodes out of those to train on.

    Raises:
        DatasetError: the robot's kinematics is not known, or the arms never work apart.
    """
    if not hands:
        raise DatasetError(
            'training.recombine needs to know where the hands are, but the kinematics of this '
            'robot is not known (or observation.hands=false); set training.recombine=0')
    positions = np.stack([hand.frames(dataset.state)[1] for hand in hands.values()], 1)
    starts, stops = dataset.starts[episodes], dataset.stops[episodes]
    scene = Scene(positions, dataset.objects[:, :, :3].astype(np.float64), starts, stops)
    rows = round(config.recombine * int((stops - starts).sum()))
    return recombine(
        scene, rows, config.recombine_distance, np.random.default_rng([config.seed, 2]))


def _split(
    dataset: Dataset, config: Training, begins: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the episodes to train on and of those held out.

    Those without a row ``(N,)`` at which a window may begin are neither.
    """
    rounds = {e.round for e in dataset.episodes}
    if config.last_rounds:
        rounds = {0} & rounds | {*sorted(rounds - {0})[-config.last_rounds:]}
    chosen = np.flatnonzero(episode_mask(dataset, outcomes=config.outcomes, rounds=rounds))
    if not chosen.size:
        found = sorted({e.outcome.value for e in dataset.episodes})
        raise DatasetError(
            f'{dataset.path} has no episode with outcome {" or ".join(config.outcomes)}; '
            f'it has: {", ".join(found)} (training.outcomes)'
        )
    teaching = np.array([
        begins[start:stop].any() for start, stop in zip(dataset.starts, dataset.stops)])
    if not teaching[chosen].any():
        raise DatasetError(
            f'no row of the {chosen.size} chosen episodes of {dataset.path} has a label: a policy '
            f'drove and no expert spoke; set training.label=executed to learn what was done')
    chosen = chosen[teaching[chosen]]
    if config.validation == 0:
        return chosen, chosen[:0]
    if chosen.size < 2:
        raise DatasetError(
            f'{dataset.path} has one usable episode, of which training.validation='
            f'{config.validation} cannot be held out; record more, or set it to 0')
    rng = np.random.default_rng(config.seed)
    train, validation = split_episodes(
        chosen.size, [1 - config.validation, config.validation], rng)
    if not train.size:  # a large share of very few episodes
        train, validation = validation, train
    return chosen[train], chosen[validation]
