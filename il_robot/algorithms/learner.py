"""What changes while a policy, or an estimator of poses, trains; one step; all of it as tensors.

The order of the windows is a function of (seed, epoch) and the learning rate one of the step;
the optimiser, the mean of the weights and the random generators are in the state: going on from
it gives, on a CPU, the bits of a run that was never interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from il_robot.algorithms.optimizer import AdamW, RunningMean, clip
from il_robot.algorithms.recipe import Training
from il_robot.algorithms.samples import Samples
from il_robot.algorithms.team import ALONE, Team
from il_robot.errors import CheckpointError
from il_robot.policies.policy import (
    PART,
    Batch,
    ClosedForm,
    Gradients,
    Losses,
    Trainee,
    draw_rows,
)

_VALIDATION_BATCH = 4096
_GATHERED = 4096  # windows gathered at once: a small batch costs as much as a large one


@dataclass(eq=False)
class Learner:
    """What changes while training.

    Attributes:
        policy: The weights being optimised.
        mean: Their running mean.
        gradient: Losses of a batch, detached, and the gradients that are to be followed.
        optimizer: AdamW of the policy.
        generator: Of all random numbers but dropout.
        step: Steps done.
        order: The windows of this epoch.
        gathered: The next batches of this epoch, those of each key in a row.
    """

    policy: Trainee
    mean: RunningMean
    gradient: ClosedForm
    optimizer: AdamW
    generator: torch.Generator
    step: int = 0
    order: NDArray[np.int64] | None = None
    gathered: dict[str, tuple[torch.Tensor, ...]] | None = None

    @property
    def averaged(self) -> Trainee:
        """What is validated and saved: the mean, or ``policy`` where none is kept."""
        return self.mean.policy


def new_learner(policy: Trainee, config: Training, team: Team = ALONE) -> Learner:
    """At step 0, with fresh weights."""
    optimizer = AdamW(policy, config.weight_decay)
    generator = torch.Generator(next(policy.parameters()).device).manual_seed(config.seed)
    mean = RunningMean(policy, config.ema_decay)
    gradient = None
    if generator.device.type == 'cpu' and config.precision != 'bf16' and team.size == 1:
        gradient = policy.closed_form()
    if gradient is None:
        gradient = autograd(policy, config.precision, team)
    return Learner(policy.train(), mean, gradient, optimizer, generator)


def autograd(policy: Trainee, precision: str = 'fp32', team: Team = ALONE) -> ClosedForm:
    """The gradient of any loss; in a team, of the sum of all processes' shares."""
    parameters = [p for p in policy.parameters() if p.requires_grad]
    device = parameters[0].device

    def gradient(batch: Batch, generator: torch.Generator) -> tuple[Losses, Gradients]:
        with autocast(device, precision):
            losses = policy.loss(batch, generator)
        for parameter in parameters:
            parameter.grad = None
        losses['loss'].backward()
        return {k: v.detach() for k, v in losses.items()}, team.gradients(parameters)

    return gradient


def schedule(step: int, config: Training) -> float:
    """Learning rate of step ``step`` (0 is the first): linear warm-up, cosine to zero."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Where matrix products are in bfloat16, as ``training.precision`` says."""
    if precision == 'auto' and device.type == 'cuda' and torch.cuda.is_bf16_supported():
        precision = 'bf16'
    if precision != 'bf16':
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def train_step(
    learner: Learner, samples: Samples, config: Training, team: Team = ALONE
) -> Losses:
    """One step of AdamW.

    Returns:
        The losses, detached and still on the device; in a team, this process's share of them.
    """
    count = len(samples.train)
    size = min(config.batch_size, count)
    epoch, turn = divmod(learner.step, count // size)
    if turn == 0 or learner.order is None:  # a new epoch, or the first step after a resume
        learner.order = np.random.default_rng([config.seed, epoch]).permutation(count)
        learner.gathered = None
    rows = team.rows(size)
    batch = _next_batch(learner, samples, size, turn, rows, team)
    team.describe(batch, rows, size)
    if config.feature_noise:
        features = batch['features']
        noise = draw_rows(len(features), batch.get(PART), lambda n: features.new_empty(
            n, *features.shape[1:]).normal_(generator=learner.generator))
        batch['features'] = features + config.feature_noise * noise

    losses, gradients = learner.gradient(batch, learner.generator)
    if config.grad_clip:
        clip(gradients, config.grad_clip)
    learner.optimizer.update(gradients, schedule(learner.step, config))
    learner.step += 1
    learner.mean.update(learner.step)
    return losses


def _next_batch(
    learner: Learner, samples: Samples, size: int, turn: int, rows: slice, team: Team
) -> Batch:
    """The batch of a turn of this epoch; without pictures, several are gathered at once."""
    assert learner.order is not None
    if team.size > 1 or samples.frames is not None:
        return samples.batch(
            samples.train, learner.order[turn * size:(turn + 1) * size][rows])
    many = max(1, _GATHERED // size)
    part = turn % many
    if part == 0 or learner.gathered is None:  # None in the middle: after a resume
        begin = (turn - part) * size
        windows = samples.batch(samples.train, learner.order[begin:begin + many * size])
        learner.gathered = {key: value.split(size) for key, value in windows.items()}
    return {key: batches[part] for key, batches in learner.gathered.items()}


def validation_loss(learner: Learner, samples: Samples, config: Training) -> float:
    """Mean loss of the averaged weights over all held-out windows, with the same noise always."""
    assert samples.validation is not None
    policy = learner.averaged
    generator = torch.Generator(samples.features.device).manual_seed(config.seed)
    count, total = len(samples.validation), 0.0
    policy.eval()
    with torch.inference_mode(), autocast(learner.generator.device, config.precision):
        # pictures are large: as many as fit in training
        size = _VALIDATION_BATCH if samples.frames is None else config.batch_size
        for start in range(0, count, size):
            windows = np.arange(start, min(start + size, count))
            batch = samples.batch(samples.validation, windows)
            total += float(policy.loss(batch, generator)['loss']) * len(windows)
    policy.train()
    return total / count


def training_state(learner: Learner) -> dict[str, torch.Tensor]:
    """All tensors needed to go on exactly here."""
    state = {f'policy.{k}': v for k, v in learner.policy.state_dict().items()}
    if learner.averaged is not learner.policy:
        state |= {f'averaged.{k}': v for k, v in learner.averaged.state_dict().items()}
    for key, values in learner.optimizer.state().items():
        state |= {f'optimizer.{key}.{name}': value for name, value in values.items()}
    state['step'] = torch.tensor(learner.step)
    state['random.policy'] = learner.generator.get_state()
    state['random.cpu'] = torch.get_rng_state()
    if learner.generator.device.type == 'cuda':
        state['random.cuda'] = torch.cuda.get_rng_state(learner.generator.device)
    return state


def restore(learner: Learner, state: Mapping[str, torch.Tensor]) -> None:
    """The inverse of :func:`training_state`.

    Raises:
        CheckpointError: the state belongs to another policy or device.
    """
    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {k[len(prefix):]: v for k, v in state.items() if k.startswith(prefix)}

    device = learner.generator.device
    try:
        learner.policy.load_state_dict(part('policy.'))
        if learner.averaged is not learner.policy:
            learner.averaged.load_state_dict(part('averaged.'))
        learner.optimizer.restore(
            {key: part(f'optimizer.{key}.') for key in learner.optimizer.state()})
        learner.step = int(state['step'])
        learner.generator.set_state(state['random.policy'])
        torch.set_rng_state(state['random.cpu'])
        if device.type == 'cuda':
            torch.cuda.set_rng_state(state['random.cuda'], device)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f'cannot go on from this training state: {error}') from None
