"""What gates look at, learned and measured on a dataset with corrections.

:func:`row_signals` computes for every row what a gate would have seen there;
:func:`train_assessor` learns doubt and risk (:mod:`il_robot.policies.assessor`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from il_robot.algorithms.recipe import Training
from il_robot.algorithms.samples import held_out_episodes
from il_robot.config import build
from il_robot.control.gate_rule import disagreement
from il_robot.control.gate_thresholds import budgeted
from il_robot.data.dataset import Dataset
from il_robot.data.windows import window_index
from il_robot.errors import ConfigError
from il_robot.policies.assessor import Assessor, AssessorConfig
from il_robot.policies.checkpoint import Checkpoint, load_checkpoint
from il_robot.policies.ensemble import EnsemblePolicy, spread
from il_robot.policies.features import batch_features, robot_hands
from il_robot.types import Float64, Outcome, Source

_BATCH = 1024
_SMOOTHING = 0.05
"""Of the targets: nets that are sure of everything tell no risky state from a riskier one."""
_LEAST_RISK = 0.25
"""A state that the policy solves three times of four needs nobody, whatever the budget."""


@dataclass(frozen=True)
class AssessTraining:
    """How doubt and risk are learned.

    Attributes:
        steps: Gradient steps of each.
        batch_size: Rows.
        learning_rate: Of Adam.
        budget: Share of the states the expert may be asked for; decides the tolerance and all
            thresholds.
    """

    steps: int = 2_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    budget: float = 0.2

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise ValueError('steps, batch_size and learning_rate must be positive')
        if not 0 < self.budget < 1:
            raise ValueError(f'budget must be between 0 and 1, got {self.budget}')


@dataclass(frozen=True, eq=False)
class Rows:
    """What a policy sees, says and is told in every row of a dataset.

    Attributes:
        features: ``(N, n_obs_steps, F)``, normalised.
        action: ``(N, D)`` the policy's first action, normalised.
        novelty: ``(N,)`` disagreement of an ensemble; NaN of other policies.
        discrepancy: ``(N,)`` to the expert's label [rad]; NaN without one.
    """

    features: torch.Tensor
    action: torch.Tensor
    novelty: Float64
    discrepancy: Float64


def row_signals(checkpoint: Path, dataset: Dataset, seed: int = 0) -> Rows:
    """Run a policy over all rows.

    Args:
        checkpoint: Of a policy without cameras.
        dataset: Of the robot it was trained on.
        seed: Of policies that sample.

    Raises:
        ConfigError: the policy needs pictures, or does not say its robot.
    """
    described, policy = load_checkpoint(checkpoint)
    robot = described.robot
    if robot is None or described.observation.cameras:
        raise ConfigError(f'{checkpoint}: signals need a policy without cameras and its robot')
    objects = {name: dataset.objects[:, i] for i, name in enumerate(dataset.object_names)}
    features = described.normalizer.normalize('features', batch_features(
        dataset.state, objects, described.layout, robot_hands(robot)))
    windows = window_index(dataset.starts, dataset.stops, 1, policy.n_obs_steps)
    past, _ = windows.observation_rows(np.arange(len(windows)))
    observed = torch.from_numpy(features[past])
    generator = torch.Generator().manual_seed(seed)
    actions, novelty = [], []
    with torch.inference_mode():
        for part in observed.split(_BATCH):
            batch, noise = {'features': part}, policy.draw(len(part), generator)
            if isinstance(policy, EnsemblePolicy):
                said = spread(policy.members(batch, noise))
                actions.append(said.mean)
                novelty.append(said.disagreement.mean(1))
            else:
                actions.append(policy(batch, noise))
                novelty.append(torch.full((len(part),), torch.nan))
    chunk = torch.cat(actions)
    first = described.normalizer.unnormalize('action', chunk.numpy())[:, 0]
    first = np.clip(first + described.base * dataset.state, robot.lower, robot.upper)
    discrepancy = np.array([
        disagreement(a, b, robot) if np.isfinite(b).all() else np.nan
        for a, b in zip(first, dataset.expert)])
    return Rows(observed, chunk[:, 0], torch.cat(novelty).double().numpy(), discrepancy)


def success_targets(dataset: Dataset) -> tuple[Float64, NDArray[np.bool_]]:
    """Whether the policy would have solved the task from each row, as far as is known.

    A policy that was taken over from had been about to fail; one that was not did what the
    episode's outcome says. Once the expert drives, the outcome is his.

    Returns:
        ``(N,)`` 1 or 0, and ``(N,)`` where it is known: rows that the policy drove; and those of
        demonstrations, as 1, for a policy that does as they did.
    """
    solved, known = np.zeros(len(dataset)), np.zeros(len(dataset), dtype=bool)
    by_policy = (dataset.source == int(Source.POLICY)).any(1)
    for episode in dataset.episodes:
        rows = slice(episode.start, episode.stop)
        if episode.outcome is Outcome.UNKNOWN:
            continue
        taken = np.flatnonzero(dataset.intervention[rows])
        last = episode.start + taken[-1] + 1 if taken.size else episode.start
        success = episode.outcome is Outcome.SUCCESS
        known[rows] = by_policy[rows] | (not taken.size and success)
        solved[last:episode.stop] = success  # before it, somebody had to help
    return solved, known


def train_assessor(
    checkpoint: Path, dataset: Dataset, config: AssessTraining, seed: int = 0
) -> Assessor:
    """Learn doubt and risk from all rows, and find the thresholds that spend the budget.

    The most different rows are unsafe: the tolerance is the budget's quantile of the discrepancies
    in episodes held out of the policy's training. The other thresholds are quantiles of what it
    thinks where it drove alone, or would be likely to (:func:`_visited`).

    Args:
        checkpoint: Of the policy.
        dataset: With labels, and outcomes of episodes that the policy drove.
        config: How.
        seed: Of weights and batches.

    Raises:
        ConfigError: the policy needs pictures, or nothing is labelled.
    """
    rows = row_signals(checkpoint, dataset, seed)
    described, policy = load_checkpoint(checkpoint)
    fresh = _not_learned(described, dataset, policy.chunk_size)
    honest = rows.discrepancy[fresh & np.isfinite(rows.discrepancy)]
    if not honest.size:
        honest = rows.discrepancy
    tolerance = budgeted(honest, config.budget)
    labelled = np.isfinite(rows.discrepancy)
    solved, known = success_targets(dataset)
    about = AssessorConfig(
        described.hash, rows.features[0].numel(), rows.action.shape[1], tolerance=tolerance)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        assessor = Assessor(about)
    targets = torch.from_numpy(np.stack([rows.discrepancy > tolerance, solved], 1)).float()
    masks = np.stack([labelled, known], 1)
    _fit(assessor, rows, targets, torch.from_numpy(masks), config, seed)
    doubt, risk = assessor.eval().assess(rows.features, rows.action).double().numpy().T
    seen = _visited(described.hash, dataset, fresh)
    thresholds = {
        name: budgeted(values[seen], config.budget)
        for name, values in (('novelty', rows.novelty), ('doubt', doubt), ('risk', risk))
        if np.isfinite(values[seen]).any()}
    thresholds['risk'] = max(thresholds['risk'], _LEAST_RISK)
    thresholds |= {'low_risk': min(thresholds['risk'], max(
                       float(np.median(risk[seen])), _LEAST_RISK / 2)),
                   'discrepancy': float(np.nanmean(honest))}
    assessor.config = replace(about, thresholds=thresholds)
    return assessor


def _not_learned(
    described: Checkpoint, dataset: Dataset, chunk_size: int
) -> NDArray[np.bool_]:
    """``(N,)`` rows of the episodes that were held out of the training of a policy.

    Where it was trained the policy is closer to the expert, and surer of itself, than anywhere
    else: thresholds measured there call for help in every state that it visits by itself.
    """
    mask = np.zeros(len(dataset), dtype=bool)
    own = [e.checkpoint == described.hash for e in dataset.episodes]
    # it had not driven when it was trained
    learned = dataset.first_episodes(own.index(True)) if any(own) else dataset
    config = build(Training, described.training, 'checkpoint: training')
    for episode in held_out_episodes(learned, config, chunk_size):
        mask[dataset.starts[episode]:dataset.stops[episode]] = True
    return mask


def _visited(
    checkpoint: str, dataset: Dataset, fresh: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """``(N,)`` rows like those that the policy visits when it drives.

    Best those where it drove itself, else where others drove, else those it did not learn from.
    """
    driven = (dataset.source == int(Source.POLICY)).any(1)
    own = np.zeros(len(dataset), dtype=bool)
    # A policy that is stuck stays so until the time is over: states like one another, which would
    # outnumber all others.
    most = max((len(e) for e in dataset.episodes if not driven[e.start:e.stop].any()),
               default=len(dataset))
    for episode in dataset.episodes:
        own[episode.start:episode.stop] = episode.checkpoint == checkpoint
        driven[episode.start + most:episode.stop] = False
    for rows in (driven & own, driven, fresh):
        if rows.any():
            return rows
    return np.ones(len(dataset), dtype=bool)


def _fit(
    assessor: Assessor, rows: Rows, targets: torch.Tensor, masks: torch.Tensor,
    config: AssessTraining, seed: int,
) -> None:
    """Binary cross-entropy over the rows whose target is known, both classes counting the same.

    Unsafe rows are few, and who sees few of them learns to say "safe".
    """
    optimizer = torch.optim.Adam(assessor.parameters(), config.learning_rate)
    positive = (targets * masks).sum(0)
    balance = ((masks.sum(0) - positive) / positive.clamp_min(1)).clamp(0.1, 10)
    loss = nn.BCEWithLogitsLoss(reduction='none', pos_weight=balance)
    rng = np.random.default_rng([seed, 5])
    some = np.flatnonzero(masks.any(1).numpy())
    for _ in range(config.steps):
        chosen = torch.from_numpy(rng.choice(some, config.batch_size))
        logits = assessor(rows.features[chosen], rows.action[chosen])
        smooth = targets[chosen] * (1 - 2 * _SMOOTHING) + _SMOOTHING
        error = loss(logits, smooth) * masks[chosen]
        optimizer.zero_grad()
        (error.sum(0) / masks[chosen].sum(0).clamp_min(1)).sum().backward()
        optimizer.step()
