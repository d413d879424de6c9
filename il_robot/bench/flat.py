"""Imitation on an environment with a flat observation, and what all methods there share.

A method works on a :class:`Task`, and tells how it went as a curve: what it had taken (labels of
the expert, steps of the environment, seconds) and how well it then did, on the same evaluation
seeds for all. Those that also use rewards are in :mod:`il_robot.bench.flat_rl`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from il_robot.algorithms.actor import Actor, Categorical
from il_robot.algorithms.optimizer import AdamW
from il_robot.bench.application import Act, Application, Episode, MakeFlat, Teacher, drive, scores
from il_robot.bench.outcome import Outcome, Point
from il_robot.policies.backpropagation import Perceptron, Wrapped
from il_robot.policies.mlp import mlp
from il_robot.types import Float32

SHOWN = 1_000_000
"""First reset seed of demonstrations and of what is tried; evaluations have those below."""
HIDDEN = (64, 64)
_BATCH, _RATE = 64, 1e-3
_FLAT, _FAR = 1e-2, 5.0


class Scaled(nn.Module, Wrapped):
    """Observations less their mean over their deviation, at most 5 of it, then a perceptron."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, obs: Float32, outputs: int) -> None:
        super().__init__()
        self.register_buffer('mean', torch.zeros(obs.shape[1]))
        self.register_buffer('scale', torch.ones(obs.shape[1]))
        self.scale_by(obs.mean(0), obs.std(0))
        self.net = mlp(obs.shape[1], HIDDEN, outputs)

    def scale_by(self, mean: NDArray[Any], spread: NDArray[Any]) -> None:
        """From now on; what has not varied yet may do so later, by its own units."""
        self.mean.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(np.where(spread > _FLAT, spread, 1.0)))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """``(B, outputs)``."""
        answer: torch.Tensor = self.net(self.scaled(obs))
        return answer

    def scaled(self, obs: torch.Tensor) -> torch.Tensor:
        """What the perceptron is given: ``(..., O)``."""
        return ((obs - self.mean) / self.scale).clamp(-_FAR, _FAR)

    def perceptron(self) -> Perceptron:
        """See :class:`~il_robot.policies.backpropagation.Wrapped`."""
        return Perceptron(self.net, before=self.scaled)


class Task:
    """One application while a method works on it.

    Args:
        application: What is to be done.
        seed: Of everything.
        evaluated: Reset seeds of the evaluation episodes.
        on_the_way: Those of the evaluations before the last; None: all.
    """

    def __init__(
        self, application: Application, seed: int, evaluated: Sequence[int],
        on_the_way: Sequence[int] | None = None,
    ) -> None:
        self.application, self.seed, self.evaluated = application, seed, evaluated
        self._on_the_way = evaluated if on_the_way is None else on_the_way
        self.make = MakeFlat(application)
        self.env = self.make()
        self.teacher = Teacher(application, self.env)
        space = self.env.action_space
        self.choices = int(getattr(space, 'n', 0))
        self.width = self.choices or int(np.prod(space.shape or ()))
        none = np.zeros(0, np.float32)
        self.low: Float32 = getattr(space, 'low', none)
        self.high: Float32 = getattr(space, 'high', none)
        space.seed(seed)
        self.outcome = Outcome()
        self._away, self._begun = 0.0, time.process_time()
        torch.manual_seed(seed)
        torch.set_num_threads(1)

    def show(self, number: int) -> Episode:
        """A demonstration."""
        return drive(self.env, SHOWN + 1000 * self.seed + number, self.teacher, self.teacher,
                     self.application.noise)

    def actor(self, obs: Float32, std: float = 0.5) -> Actor | Categorical:
        """An untrained policy."""
        return self.around(Scaled(obs, self.width), std)

    def around(self, net: nn.Module, std: float) -> Actor | Categorical:
        """A policy whose answers, or preferences, a network gives."""
        return Categorical(net, self.width) if self.choices else Actor(net, self.width, std)

    def act(self, actor: Actor | Categorical) -> Act:
        """Without noise, within the environment's bounds."""
        def answer(obs: Float32) -> NDArray[Any]:
            with torch.inference_mode():
                action: NDArray[Any] = actor(torch.from_numpy(obs)).numpy()
            return action if self.choices else action.clip(self.low, self.high)
        return answer

    @property
    def seconds(self) -> float:
        """Of the processor so far, without evaluations."""
        return time.process_time() - self._begun - self._away

    def judge(self, actor: Actor | Categorical, *, labels: int, steps: int, switches: int = 0,
              seconds: float | None = None, last: bool = False) -> None:
        """Another point of the curve; ``seconds``: what it cost, where that is not all so far."""
        seconds = self.seconds if seconds is None else seconds
        begun = time.process_time()
        found = scores(self.make, self.act(actor),
                       self.evaluated if last else self._on_the_way)
        self.outcome.points.append(Point(labels, steps, seconds, found, switches))
        self._away += time.process_time() - begun

    def finish(self, actor: Actor | Categorical) -> Outcome:
        """The whole of it."""
        self.outcome.parameters = sum(p.numel() for p in actor.net.parameters())
        answer, obs = self.act(actor), self.env.reset(seed=0)[0][None]
        took = []
        for _ in range(300):
            begun = time.thread_time()
            answer(obs)
            took.append(1e3 * (time.thread_time() - begun))
        p50, p99 = np.quantile(took[50:], (0.5, 0.99)).tolist()
        self.outcome.latency_ms = p50, p99
        self.env.close()
        return self.outcome


def fit(actor: Actor | Categorical, obs: Float32, labels: NDArray[Any], steps: int, seed: int
        ) -> None:
    """Regression, or classification, of the labels."""
    seen = torch.from_numpy(obs)
    wanted = torch.from_numpy(labels if labels.ndim == 1 else labels.astype(np.float32))
    step, generator = AdamW(actor.net, 0.0), torch.Generator().manual_seed(seed)
    for k in range(steps):
        rows = torch.randint(len(seen), (min(_BATCH, len(seen)),), generator=generator)
        answer = actor.net(seen[rows])
        loss = (functional.cross_entropy(answer, wanted[rows].long()) if wanted.ndim == 1
                else (answer - wanted[rows]).square().mean())
        gradients = torch.autograd.grad(loss, list(actor.net.parameters()))
        step.update(gradients, _RATE * (1.0 - k / steps))


def rows_of(episodes: Sequence[Episode]) -> tuple[Float32, NDArray[Any]]:
    """Labelled observations."""
    labels = [e.labels for e in episodes if e.labels is not None]
    return np.concatenate([e.obs[:-1] for e in episodes]), np.concatenate(labels)


def fit_steps(rows: int) -> int:
    """Of an imitation: 200 passes, at least 2000 and at most 20000 steps."""
    return int(np.clip(200 * rows // _BATCH, 2000, 20_000))


def steps_of(episodes: Sequence[Episode]) -> int:
    """Of all of them."""
    return sum(len(e.did) for e in episodes)


def clone(task: Task, episodes: Sequence[Episode]) -> Actor | Categorical:
    """Behavioural cloning of labelled episodes, from fresh weights."""
    obs, labels = rows_of(episodes)
    actor = task.actor(obs)
    fit(actor, obs, labels, fit_steps(len(obs)), task.seed)
    return actor


def sizes(most: int) -> list[int]:
    """Numbers of episodes of a curve: 1, 2, 5, 10, ... and the most."""
    return sorted({n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500) if n <= most} | {most})


def bc(task: Task) -> Outcome:
    """Demonstrations alone: 1, 2, 5, ... of them, each number cloned by itself."""
    shown: list[Episode] = []
    collected = 0.0
    counts = sizes(task.application.demonstrations)
    for count in counts:
        begun = task.seconds
        shown += [task.show(number) for number in range(len(shown), count)]
        collected += task.seconds - begun
        begun = task.seconds
        actor = clone(task, shown)
        task.judge(actor, labels=steps_of(shown), steps=steps_of(shown),
                   seconds=collected + task.seconds - begun, last=count == counts[-1])
    return task.finish(actor)


def dagger(task: Task) -> Outcome:
    """DAgger (Ross et al. 2011): the policy drives, the expert labels all of it.

    As many episodes as ``bc`` has, one demonstration first; by chance the expert drives a control
    step, half as often in each round.
    """
    episodes = [task.show(0)]
    actor = clone(task, episodes)
    rounds = sizes(task.application.demonstrations)
    task.judge(actor, labels=steps_of(episodes), steps=steps_of(episodes),
               last=len(rounds) == 1)
    rng, switches = np.random.default_rng([task.seed, 3]), 0
    for number, (have, want) in enumerate(zip(rounds, rounds[1:]), 1):
        share, answer = 0.5**number, task.act(actor)
        for k in range(have, want):
            drove: list[bool] = []

            def drives(obs: Float32, share: float = share, drove: list[bool] = drove,
                       answer: Act = answer) -> Any:
                drove.append(bool(rng.random() < share))
                return task.teacher(obs) if drove[-1] else answer(obs[None])[0]

            episodes.append(drive(
                task.env, SHOWN + 1000 * task.seed + k, drives, task.teacher))
            switches += takeovers(drove)
        actor = clone(task, episodes)
        task.judge(actor, labels=steps_of(episodes), steps=steps_of(episodes), switches=switches,
                   last=want == rounds[-1])
    return task.finish(actor)


def takeovers(drove: Sequence[bool]) -> int:
    """How often somebody began to drive."""
    return int((np.diff(np.array([False, *drove], int)) > 0).sum())


def expert(task: Task) -> Outcome:
    """The expert himself: the end of the scale."""
    found = [drive(task.env, seed, task.teacher).score(task.application.score)
             for seed in task.evaluated]
    task.outcome.points.append(Point(0, 0, 0.0, found))
    return task.outcome


def random(task: Task) -> Outcome:
    """Actions at random: its beginning."""
    task.env.action_space.seed(task.seed)
    found = [drive(task.env, seed, lambda _: task.env.action_space.sample()).score(
        task.application.score) for seed in task.evaluated]
    task.outcome.points.append(Point(0, 0, 0.0, found))
    return task.outcome
