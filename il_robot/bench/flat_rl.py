"""Reinforcement on an environment with a flat observation: alone, after imitation, as imitation.

The algorithms are those of :mod:`il_robot.algorithms`, with the settings that textbooks give for
small problems; see :mod:`il_robot.bench.flat`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from il_robot.algorithms.actor import Actor, Categorical
from il_robot.algorithms.gail import GAIL, GAILConfig
from il_robot.algorithms.ppo import PPO, PPOConfig, PPOTrainer
from il_robot.algorithms.replay import Replay, Transitions
from il_robot.algorithms.rlpd import RLPD, RLPDConfig, Trainer
from il_robot.algorithms.worlds import Returns, Worlds
from il_robot.bench.application import drive
from il_robot.bench.flat import HIDDEN, SHOWN, Scaled, Task, clone, rows_of, steps_of
from il_robot.bench.outcome import Outcome
from il_robot.errors import ConfigError

_POINTS = 8  # of a curve
_WORLDS = 8
_LOOKED_AT = 10  # episodes at random, of which inputs are normalised
_PER_STEP = 10  # steps of ppo to one of rlpd, whose every step is learned from many times


def _ppo_config(task: Task, **settings: Any) -> PPOConfig:
    return PPOConfig(**{
        'gamma': task.application.gamma, 'rollout': 4096, 'epochs': 10, 'batch_size': 256,
        'learning_rate': 3e-4, 'critic': HIDDEN, 'std': 0.5, 'target_kl': 0.05,
        'entropy': 0.0, **settings})


def _learn(task: Task, actor: Actor | Categorical, config: PPOConfig, labels: int, begun: int,
           shape: Any = None) -> Outcome:
    """PPO in worlds of its own, a point of the curve every now and then."""
    with Worlds(task.make, _WORLDS, seed=SHOWN + task.seed, processes=0) as worlds:
        learner = PPO(actor, worlds.obs_dim, config, task.seed)
        trainer = PPOTrainer(worlds, learner, shape)
        task.judge(actor, labels=labels, steps=begun)
        steps = task.application.steps
        for until in np.linspace(0, steps, _POINTS + 1)[1:].astype(int):
            trainer.run(int(until), Returns())
            task.judge(actor, labels=labels, steps=begun + trainer.steps, last=until == steps)
    return task.finish(actor)


def ppo(task: Task) -> Outcome:
    """Reinforcement learning alone (Schulman et al. 2017): no expert."""
    obs = np.concatenate([
        drive(task.env, SHOWN + 1000 * task.seed + k, lambda _: task.env.action_space.sample()).obs
        for k in range(_LOOKED_AT)])
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
    return _learn(task, actor, config, steps_of(shown), steps_of(shown))


def gail(task: Task) -> Outcome:
    """Imitation by an adversary (Ho and Ermon 2016): demonstrations, no reward."""
    shown = [task.show(number) for number in range(task.application.demonstrations)]
    obs, labels = rows_of(shown)
    judge = GAIL(obs, labels, task.choices, GAILConfig(), task.seed)
    return _learn(task, task.actor(obs, 1.0), _ppo_config(task, std=1.0, learning_rate=1e-3),
                  len(labels), len(labels), judge)


def rlpd(task: Task) -> Outcome:
    """Soft actor-critic, half of every batch demonstrations (Ball et al. 2023).

    A tenth of the application's steps: off-policy learning takes fewer, and longer for each.

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
    if not np.isfinite(limit):
        raise ConfigError('rlpd is for actions that have bounds; these have none')
    replay = Replay(
        steps_of(shown), shown[0].obs.shape[1], task.width, config.gamma, config.n_step)
    for e in shown:
        ends = np.zeros(len(e.did), bool)
        ends[-1] = e.terminated
        replay.extend(Transitions(e.obs[:-1], e.did, e.reward, e.obs[1:], ends))
    obs, _ = rows_of(shown)
    net = Scaled(obs, task.width)
    actor = Actor(net, task.width, config.std, limit)
    steps = max(1, application.steps // _PER_STEP)
    with Worlds(task.make, 2, seed=SHOWN + task.seed, processes=0) as worlds:
        learner = RLPD(actor, worlds.obs_dim, task.width, config, task.seed)
        trainer = Trainer(worlds, learner, replay, task.seed)
        for until in np.linspace(0, steps, _POINTS + 1)[1:].astype(int):
            trainer.run(int(until), Returns())
            task.judge(actor, labels=steps_of(shown), steps=steps_of(shown) + trainer.steps,
                       last=until == steps)
    return task.finish(actor)
