"""Every method on an environment with a flat observation: imitation, reinforcement, and both.

Each takes an :class:`~il_robot.bench.application.Application`, a seed and a budget, and tells how
it went as a curve: what it had taken (labels of the expert, steps of the environment, seconds) and
how well it then did, on the same evaluation seeds for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from il_robot.algorithms.actor import Actor, Categorical
from il_robot.algorithms.gail import GAIL, GAILConfig
from il_robot.algorithms.optimizer import AdamW
from il_robot.algorithms.ppo import PPO, PPOConfig, PPOTrainer
from il_robot.algorithms.replay import Replay, Transitions
from il_robot.algorithms.rlpd import RLPD, RLPDConfig, Trainer
from il_robot.algorithms.worlds import Returns, Worlds
from il_robot.bench.application import Act, Application, Episode, MakeFlat, Teacher, drive, scores
from il_robot.errors import ConfigError
from il_robot.policies.mlp import mlp
from il_robot.types import Float32

EVALUATED = range(200)
"""Reset seeds of every evaluation."""
_SHOWN = 1_000_000
_HIDDEN = (64, 64)
_POINTS = 8  # of a curve
_BATCH, _RATE = 64, 1e-3
_WORLDS = 8


@dataclass
class Point:
    """What was taken so far and how well it does then.

    Attributes:
        labels: Actions of the expert.
        steps: Of the environment, without evaluations.
        seconds: Of training and collecting, without evaluations.
        scores: Of the evaluation episodes, in order of their seeds.
        switches: Times that the expert took over.
    """

    labels: int
    steps: int
    seconds: float
    scores: list[float]
    switches: int = 0


@dataclass
class Outcome:
    """What a method did.

    Attributes:
        points: In order.
        parameters: Of what is deployed.
        latency_ms: p50 and p99 of one answer.
    """

    points: list[Point] = field(default_factory=list)
    parameters: int = 0
    latency_ms: tuple[float, float] = (0.0, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


class Scaled(nn.Module):
    """Observations less their mean over their deviation, then a perceptron."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, obs: Float32, outputs: int) -> None:
        super().__init__()
        self.register_buffer('mean', torch.from_numpy(obs.mean(0)))
        self.register_buffer('scale', torch.from_numpy(obs.std(0)).clamp_min(1e-2))
        self.net = mlp(obs.shape[1], _HIDDEN, outputs)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """``(B, outputs)``."""
        answer: torch.Tensor = self.net((obs - self.mean) / self.scale)
        return answer


class Task:
    """One application while a method works on it."""

    def __init__(self, application: Application, seed: int, evaluated: Sequence[int]) -> None:
        self.application, self.seed, self.evaluated = application, seed, evaluated
        self.make = MakeFlat(application)
        self.env = self.make()
        self.teacher = Teacher(application, self.env)
        space = self.env.action_space
        self.choices = int(getattr(space, 'n', 0))
        self.width = self.choices or int(np.prod(space.shape or ()))
        none = np.zeros(0, np.float32)
        self.low: Float32 = getattr(space, 'low', none)
        self.high: Float32 = getattr(space, 'high', none)
        self.outcome = Outcome()
        self._away, self._begun = 0.0, time.perf_counter()
        torch.manual_seed(seed)
        torch.set_num_threads(1)

    def show(self, number: int) -> Episode:
        """A demonstration."""
        return drive(self.env, _SHOWN + 1000 * self.seed + number, self.teacher, self.teacher)

    def actor(self, obs: Float32, std: float = 0.5) -> Actor | Categorical:
        """An untrained policy."""
        net = Scaled(obs, self.width)
        return Categorical(net) if self.choices else Actor(net, self.width, std)

    def act(self, actor: Actor | Categorical) -> Act:
        """Without noise, within the environment's bounds."""
        def answer(obs: Float32) -> NDArray[Any]:
            with torch.inference_mode():
                action: NDArray[Any] = actor(torch.from_numpy(obs)).numpy()
            return action if self.choices else action.clip(self.low, self.high)
        return answer

    def judge(self, actor: Actor | Categorical, *, labels: int, steps: int, switches: int = 0
              ) -> None:
        """Another point of the curve."""
        begun = time.perf_counter()
        seconds = begun - self._begun - self._away
        found = scores(self.make, self.act(actor), self.evaluated)
        self.outcome.points.append(Point(labels, steps, seconds, found, switches))
        self._away += time.perf_counter() - begun

    def finish(self, actor: Actor | Categorical) -> Outcome:
        """The whole of it."""
        self.outcome.parameters = sum(p.numel() for p in actor.net.parameters())
        answer, obs = self.act(actor), self.env.reset(seed=0)[0][None]
        took = []
        for _ in range(300):
            begun = time.perf_counter()
            answer(obs)
            took.append(1e3 * (time.perf_counter() - begun))
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


def _steps(episodes: Sequence[Episode]) -> int:
    return sum(len(e.did) for e in episodes)


def clone(task: Task, episodes: Sequence[Episode]) -> Actor | Categorical:
    """Behavioural cloning of labelled episodes, from fresh weights."""
    obs, labels = rows_of(episodes)
    actor = task.actor(obs)
    fit(actor, obs, labels, fit_steps(len(obs)), task.seed)
    return actor


def bc(task: Task) -> Outcome:
    """Demonstrations alone: 1, 2, 5, ... of them."""
    shown: list[Episode] = []
    most = task.application.demonstrations
    for count in sorted({n for n in (1, 2, 5, 10, 20, 50, 100) if n <= most} | {most}):
        shown += [task.show(number) for number in range(len(shown), count)]
        actor = clone(task, shown)
        task.judge(actor, labels=_steps(shown), steps=_steps(shown))
    return task.finish(actor)


def dagger(task: Task) -> Outcome:
    """DAgger (Ross et al. 2011): the policy drives, the expert labels all of it.

    As many episodes as ``bc`` has, one demonstration first; by chance the expert drives a control
    step, half as often in each round.
    """
    episodes = [task.show(0)]
    actor = clone(task, episodes)
    task.judge(actor, labels=_steps(episodes), steps=_steps(episodes), switches=0)
    rng, switches = np.random.default_rng([task.seed, 3]), 0
    rounds = [n for n in (1, 2, 5, 10, 20, 50, 100) if n <= task.application.demonstrations]
    for number, (have, want) in enumerate(zip(rounds, rounds[1:]), 1):
        share, answer = 0.5**number, task.act(actor)
        for k in range(have, want):
            drove: list[bool] = []

            def drives(obs: Float32, share: float = share, drove: list[bool] = drove,
                       answer: Act = answer) -> Any:
                drove.append(bool(rng.random() < share))
                return task.teacher(obs) if drove[-1] else answer(obs[None])[0]

            episodes.append(drive(
                task.env, _SHOWN + 1000 * task.seed + k, drives, task.teacher))
            switches += int(np.sum(np.diff([False, *drove]) > 0))
        actor = clone(task, episodes)
        task.judge(actor, labels=_steps(episodes), steps=_steps(episodes), switches=switches)
    return task.finish(actor)


def _ppo_config(task: Task, **settings: Any) -> PPOConfig:
    return PPOConfig(**{
        'gamma': task.application.gamma, 'rollout': 4096, 'epochs': 10, 'batch_size': 256,
        'learning_rate': 3e-4, 'critic': _HIDDEN, 'std': 0.5, 'target_kl': 0.05,
        'entropy': 0.0, **settings})


def _learn(task: Task, actor: Actor | Categorical, config: PPOConfig, labels: int, begun: int,
           shape: Any = None) -> Outcome:
    """PPO in worlds of its own, a point of the curve every now and then."""
    with Worlds(task.make, _WORLDS, seed=_SHOWN + task.seed, processes=False) as worlds:
        learner = PPO(actor, worlds.obs_dim, config, task.seed)
        trainer = PPOTrainer(worlds, learner, shape)
        task.judge(actor, labels=labels, steps=begun)
        for until in np.linspace(0, task.application.steps, _POINTS + 1)[1:].astype(int):
            trainer.run(int(until), Returns())
            task.judge(actor, labels=labels, steps=begun + trainer.steps)
    return task.finish(actor)


def ppo(task: Task) -> Outcome:
    """Reinforcement learning alone (Schulman et al. 2017): no expert."""
    obs = drive(task.env, _SHOWN + task.seed, lambda _: task.env.action_space.sample()).obs
    return _learn(task, task.actor(obs, 1.0), _ppo_config(task, std=1.0), 0, 0)


def bc_ppo(task: Task) -> Outcome:
    """A cloned policy, then PPO anchored to it (:mod:`il_robot.algorithms.ppo`)."""
    shown = [task.show(number) for number in range(task.application.demonstrations)]
    config = _ppo_config(task, std=0.2, warmup=task.application.steps // 10, anchor=0.1,
                         anchor_steps=task.application.steps, learning_rate=1e-4)
    actor = clone(task, shown)
    if isinstance(actor, Actor):
        with torch.no_grad():
            actor.log_std.fill_(float(np.log(config.std)))
    return _learn(task, actor, config, _steps(shown), _steps(shown))


def gail(task: Task) -> Outcome:
    """Imitation by an adversary (Ho and Ermon 2016): demonstrations, no reward."""
    shown = [task.show(number) for number in range(task.application.demonstrations)]
    obs, labels = rows_of(shown)
    judge = GAIL(obs, labels, task.choices, GAILConfig(), task.seed)
    return _learn(task, task.actor(obs, 1.0), _ppo_config(task, std=1.0, learning_rate=1e-3),
                  len(labels), len(labels), judge)


def rlpd(task: Task) -> Outcome:
    """Soft actor-critic, half of every batch demonstrations (Ball et al. 2023).

    Raises:
        ConfigError: the actions are choices.
    """
    if task.choices:
        raise ConfigError('rlpd is for actions that are numbers; these are choices')
    application = task.application
    shown = [task.show(number) for number in range(application.demonstrations)]
    config = RLPDConfig(
        gamma=application.gamma, n_step=1, updates=0.5, actor_every=1, std=0.5, temperature=0.1,
        correlation=0.0, warmup=1000, hidden=(256, 256))
    limit = float(np.max(np.abs([task.low, task.high])))
    replay = Replay(_steps(shown), shown[0].obs.shape[1], task.width, config.gamma, config.n_step)
    for e in shown:
        ends = np.zeros(len(e.did), bool)
        ends[-1] = e.terminated
        replay.extend(Transitions(e.obs[:-1], e.did, e.reward, e.obs[1:], ends))
    obs, _ = rows_of(shown)
    net = Scaled(obs, task.width)
    actor, steps = Actor(net, task.width, config.std, limit), application.steps // 10
    with Worlds(task.make, 2, seed=_SHOWN + task.seed, processes=False) as worlds:
        learner = RLPD(actor, worlds.obs_dim, task.width, config, task.seed)
        trainer = Trainer(worlds, learner, replay, task.seed)
        for until in np.linspace(0, steps, _POINTS + 1)[1:].astype(int):
            trainer.run(int(until), Returns())
            task.judge(actor, labels=_steps(shown), steps=_steps(shown) + trainer.steps)
    return task.finish(actor)


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


REFERENCES: dict[str, Callable[[Task], Outcome]] = {'expert': expert, 'random': random}
METHODS: dict[str, Callable[[Task], Outcome]] = {
    'bc': bc, 'dagger': dagger, 'gail': gail, 'ppo': ppo, 'bc_ppo': bc_ppo, 'rlpd': rlpd}
