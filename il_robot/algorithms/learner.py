"""What changes while a policy trains, one step of it, and all of it as tensors.

The order of the windows is a function of (seed, epoch) and the learning rate one of the step;
the optimiser, the mean of the weights and the random generators are in the state: going on from
it gives, on a CPU, the bits of a run that was never interrupted.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.adamw import adamw

from il_robot.algorithms.recipe import Training
from il_robot.algorithms.samples import Samples
from il_robot.algorithms.team import ALONE, Team
from il_robot.errors import CheckpointError
from il_robot.policies.policy import PART, Batch, Losses, Policy, draw_rows

_VALIDATION_BATCH = 4096
_GATHERED = 4096  # windows gathered at once: a small batch costs as much as a large one


class AdamW:
    """AdamW (Loshchilov and Hutter, ICLR 2019): torch's fused kernel without its Optimizer class.

    The first use of that class loads torch's compiler, which takes as long as torch itself.

    Args:
        policy: Its trainable weights are optimised.
        weight_decay: Decoupled from the gradient.
    """

    def __init__(self, policy: Policy, weight_decay: float) -> None:
        self._parameters = {n: p for n, p in policy.named_parameters() if p.requires_grad}
        self._weight_decay = weight_decay
        self._step = {n: torch.zeros((), device=p.device) for n, p in self._parameters.items()}
        self._mean = {n: torch.zeros_like(p) for n, p in self._parameters.items()}
        self._square = {n: torch.zeros_like(p) for n, p in self._parameters.items()}

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """Steps, and running means of the gradient and its square, each by parameter."""
        return {'step': self._step, 'exp_avg': self._mean, 'exp_avg_sq': self._square}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def update(self, learning_rate: float) -> None:
        """One step along the gradients, of the weights that have one."""
        moving: dict[str, torch.Tensor] = {
            n: p for n, p in self._parameters.items() if p.grad is not None}
        with torch.no_grad():
            adamw(
                list(moving.values()), [cast('torch.Tensor', p.grad) for p in moving.values()],
                [self._mean[n] for n in moving], [self._square[n] for n in moving], [],
                [self._step[n] for n in moving], fused=True, amsgrad=False, beta1=0.9,
                beta2=0.999, lr=learning_rate, weight_decay=self._weight_decay, eps=1e-8,
                maximize=False)


@dataclass(eq=False)
class Learner:
    """What changes while training.

    Attributes:
        policy: The weights being optimised.
        averaged: Their running mean; ``policy`` itself where none is kept.
        loss: Of a batch; with a backward pass that averages over the team.
        optimizer: AdamW of the policy.
        generator: Of all random numbers but dropout.
        step: Steps done.
        order: The windows of this epoch.
        gathered: The next batches of this epoch, one behind the other.
    """

    policy: Policy
    averaged: Policy
    loss: Callable[[Batch, torch.Generator], Losses]
    optimizer: AdamW
    generator: torch.Generator
    step: int = 0
    order: NDArray[np.int64] | None = None
    gathered: Batch | None = None


def new_learner(policy: Policy, config: Training, team: Team = ALONE) -> Learner:
    """At step 0, with fresh weights."""
    optimizer = AdamW(policy, config.weight_decay)
    generator = torch.Generator(next(policy.parameters()).device).manual_seed(config.seed)
    averaged = copy.deepcopy(policy) if config.ema_decay else policy
    return Learner(policy.train(), averaged, team.shared(policy), optimizer, generator)


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

    with autocast(learner.generator.device, config.precision):
        losses = learner.loss(batch, learner.generator)
    learner.optimizer.zero_grad()
    # shares are to be summed, and the team averages gradients
    (losses['loss'] * team.size if team.size > 1 else losses['loss']).backward()
    if config.grad_clip:
        torch.nn.utils.clip_grad_norm_(learner.policy.parameters(), config.grad_clip)
    learner.optimizer.update(schedule(learner.step, config))
    learner.step += 1
    if config.ema_decay:
        # a mean over the steps there are, until there are enough of them
        decay = min(config.ema_decay, learner.step / (10 + learner.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(learner.averaged.parameters()), list(learner.policy.parameters()), 1 - decay)
            for mean, value in zip(learner.averaged.buffers(), learner.policy.buffers()):
                mean.copy_(value)
    return {name: loss.detach() for name, loss in losses.items()}


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
        learner.gathered = samples.batch(
            samples.train, learner.order[begin:begin + many * size])
    return {key: value[part * size:(part + 1) * size] for key, value in learner.gathered.items()}


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
        for key, values in learner.optimizer.state().items():
            for name, value in values.items():
                value.copy_(state[f'optimizer.{key}.{name}'])
        learner.step = int(state['step'])
        learner.generator.set_state(state['random.policy'])
        torch.set_rng_state(state['random.cpu'])
        if device.type == 'cuda':
            torch.cuda.set_rng_state(state['random.cuda'], device)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f'cannot go on from this training state: {error}') from None
