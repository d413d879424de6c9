"""Several processes train one policy (``torchrun``): who does what, and how they agree.

Every process holds the whole dataset and the same weights and takes its rows of every batch;
``training.batch_size`` stays the size of the whole. Losses and gradients are shares of those of
the whole batch and are summed (:func:`il_robot.policies.policy.masked_mean`); random numbers are
drawn for the whole batch in every process (:func:`il_robot.policies.policy.draw_rows`). So the
result is that of one process up to the order of summation, and the number of processes may
change on resume. Dropout alone is drawn by each process for itself.

Process 0 alone writes, validates and evaluates; the others wait for it in the next step.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch

from il_robot.errors import ConfigError, IlRobotError
from il_robot.policies.policy import PART, Batch, Gradients, Losses

T = TypeVar('T')

# Process 0 may evaluate for hours; that a process died is noticed by torchrun.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Team:
    """One of ``size`` processes; the default trains alone, and all its methods do nothing.

    Attributes:
        rank: 0 leads.
        size: Processes.
        local_rank: Which process on this machine; its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """This process's rows of a batch of ``count``."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def describe(self, batch: Batch, rows: slice, count: int) -> None:
        """Note in the batch which rows of the whole it has, where there are others."""
        if self.size > 1:
            batch[PART] = torch.tensor([rows.start, count])

    def device(self, name: str) -> str:
        """The device of this process, where a recipe asks for ``name``.

        Raises:
            ConfigError: one GPU for several processes.
        """
        if self.size == 1:
            return name
        if ':' in name:
            raise ConfigError(
                f'training.device={name} is one GPU for {self.size} processes; use cuda, which '
                f'gives each its own, or auto')
        if name == 'cuda' or (name == 'auto' and torch.cuda.is_available()):
            return f'cuda:{self.local_rank}'
        return name

    def seed_dropout(self, seed: int, step: int) -> None:
        """Give every process but the first random numbers of its own from torch's generator."""
        if self.rank:
            state = np.random.SeedSequence([seed, step, self.rank]).generate_state(1)
            torch.manual_seed(int(state[0]))

    def any(self, flag: bool) -> bool:
        """Whether it is True in any process."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag))
        torch.distributed.all_reduce(flags)
        return bool(flags)

    def total(self, losses: Losses) -> Losses:
        """The sum of each loss over the processes."""
        if self.size == 1 or not losses:
            return losses
        values = torch.stack(list(losses.values()))
        torch.distributed.all_reduce(values)
        return dict(zip(losses, values))

    def first(self, act: Callable[[], T]) -> T | None:
        """Let process 0 act while the others wait: its result, None in the others.

        Raises:
            IlRobotError: whatever it raised, in process 0.
            SystemExit: in the others, since the message is needed once.
        """
        if self.size == 1:
            return act()
        result, error = None, None
        if self.leads:
            try:
                result = act()
            except IlRobotError as caught:
                error = caught
        if self.any(error is not None):
            if error is not None:
                raise error
            raise SystemExit(2)
        return result

    def gradients(self, parameters: Sequence[torch.Tensor]) -> Gradients:
        """The sum of each parameter's gradient over the processes, in one message.

        Not torch's DistributedDataParallel: it keeps the process group, and so the group's
        threads, alive until the interpreter ends, and in one run of ten these abort the process
        then (torch 2.13, gloo). What it would win, sending while the backward pass still runs,
        is little for nets of this size.
        """
        if self.size == 1:
            return [p.grad for p in parameters]
        flat = torch.cat([
            (torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        torch.distributed.all_reduce(flat)
        parts = flat.split([p.numel() for p in parameters])
        return [part.view_as(p) for part, p in zip(parts, parameters)]


ALONE = Team()


@contextmanager
def join_team(environment: Mapping[str, str] = os.environ) -> Iterator[Team]:
    """The team that ``torchrun`` describes in the environment; alone without it."""
    size = int(environment.get('WORLD_SIZE', 1))
    if size == 1:
        yield ALONE
        return
    local_rank = int(environment.get('LOCAL_RANK', 0))
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    torch.distributed.init_process_group(
        'cpu:gloo,cuda:nccl' if gpu else 'gloo', timeout=_PATIENCE)
    try:
        yield Team(int(environment['RANK']), size, local_rank)
    finally:
        torch.distributed.destroy_process_group()
