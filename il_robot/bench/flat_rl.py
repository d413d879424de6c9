"""Reinforcement on an environment with a flat observation: alone, after imitation, as imitation.

The algorithms are those of :mod:`il_robot.algorithms`, with the settings that textbooks give for
small problems; see :mod:`il_robot.bench.flat`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from il_robot.algorithms.actor import Actor, Categorical
from il_robot.algorithms.gail import GAIL, GAILConfig
from il_robot.algorithms.ppo import PPO, PPOConfig, PPOTrainer
from il_robot.algorithms.replay import Replay, Transitions
from il_robot.algorithms.rlpd import RLPD, RLPDConfig, Trainer
from il_robot.algorithms.worlds import Returns, Worlds
from il_robot.bench.application import Episode, MakeFlat, drive
from il_robot.bench.flat import HIDDEN, SHOWN, Scaled, Task, clone, rows_of, steps_of
from il_robot.bench.outcome import Outcome
from il_robot.errors import ConfigError
from il_robot.types import Float32

_POINTS = 8  # of a curve
_WORLDS = 8
_LOOKED_AT = 10  # episodes at random, of which inputs are normalised
_PER_STEP = 10  # steps of ppo to one of rlpd, whose every step is learned from many times


def _ppo_config(task: Task, **settings: Any) -> PPOConfig:
    return PPOConfig(**{
        'gamma': task.application.gamma, 'rollout': 4096, 'epochs': 10, 'batch_size': 256,
        'learning_rate': 3e-4, 'critic': HIDDEN, 'std': 0.5, 'target_kl': 0.05,
        'entropy': 0.0, **settings})


def _learn(task: Task, units: _Units, config: PPOConfig, labels: int, begun: int,
           shape: Any = None) -> Outcome:
    """PPO in worlds of its own, a point of the curve every now and then."""
    # one network: it learns in those units, and drives in the environment's own
    learns, drives = (task.around(net, config.std) for net in (units.net.net, units.net))
    with Worlds(units, _WORLDS, seed=SHOWN + task.seed, processes=0) as worlds:
        learner = PPO(learns, worlds.obs_dim, config, task.seed)
        trainer = PPOTrainer(worlds, learner, shape)
        task.judge(drives, labels=labels, steps=begun)
        steps = task.application.steps
        for until in np.linspace(0, steps, _POINTS + 1)[1:].astype(int):
            trainer.run(int(until), Returns())
            task.judge(drives, labels=labels, steps=begun + trainer.steps, last=until == steps)
    return task.finish(drives)


def ppo(task: Task) -> Outcome:
    """Reinforcement learning alone (Schulman et al. 2017): no expert."""
    tried = _at_random(task)
    return _learn(task, _Units.of(task, tried), _ppo_config(task, std=1.0), 0, steps_of(tried))


def bc_ppo(task: Task) -> Outcome:
    """A cloned policy, then PPO anchored to it (:mod:`il_robot.algorithms.ppo`)."""
    shown = [task.show(number) for number in range(task.application.demonstrations)]
    config = _ppo_config(task, std=0.2, warmup=task.application.steps // 10, anchor=0.1,
                         anchor_steps=task.application.steps, learning_rate=1e-4)
    units = _Units.of(task, shown, clone(task, shown))
    return _learn(task, units, config, steps_of(shown), steps_of(shown))


def gail(task: Task) -> Outcome:
    """Imitation by an adversary (Ho and Ermon 2016): demonstrations, no reward."""
    shown = [task.show(number) for number in range(task.application.demonstrations)]
    units = _Units.of(task, shown)
    obs, labels = rows_of(shown)
    judge = GAIL(units.observation(obs), labels, task.choices, GAILConfig(), task.seed)
    return _learn(task, units, _ppo_config(task, std=1.0, learning_rate=1e-3),
                  len(labels), len(labels), judge)


def _at_random(task: Task) -> list[Episode]:
    """Episodes of random actions: what there is to see, and to gain, without a policy."""
    return [drive(task.env, SHOWN + 1000 * task.seed + k,
                  lambda _: task.env.action_space.sample()) for k in range(_LOOKED_AT)]


@dataclass(frozen=True)
class _Units:
    """Makes an environment whose observations and rewards are in units of their own size.

    Critics learn by squares, and a temperature is beside a reward: without it what one of them
    learns in a thousand updates takes another, whose returns are a hundred times greater, a
    hundred thousand.

    Attributes:
        make: The environment's own.
        net: Whose input observations are scaled as.
        reward: One of the environment's, in the new unit.
    """

    make: MakeFlat
    net: Scaled
    reward: float

    @classmethod
    def of(cls, task: Task, episodes: Sequence[Episode],
           actor: Actor | Categorical | None = None) -> _Units:
        """From what was seen; rewards over the deviation of the returns to come.

        ``actor``: One that has a network already.
        """
        returns = np.concatenate([_returns(e.reward, task.application.gamma) for e in episodes])
        if actor is None:
            actor = task.actor(np.concatenate([e.obs for e in episodes]))
        assert isinstance(actor.net, Scaled)
        return cls(task.make, actor.net, 1.0 / (float(returns.std()) or 1.0))

    def __call__(self) -> gym.Env[Float32, Any]:
        env = self.make()
        return gym.wrappers.TransformReward(
            gym.wrappers.TransformObservation(env, self.observation, env.observation_space),
            lambda reward: self.reward * float(reward))

    def observation(self, obs: Float32) -> Float32:
        """``(..., O)``."""
        scaled: Float32 = self.net.scaled(torch.from_numpy(obs)).numpy()
        return scaled

    def recorded(self, episodes: Sequence[Episode], config: RLPDConfig) -> Replay:
        """To learn from."""
        replay = Replay(steps_of(episodes), episodes[0].obs.shape[1], episodes[0].did.shape[1],
                        config.gamma, config.n_step)
        for e in episodes:
            ends = np.zeros(len(e.did), bool)
            ends[-1] = e.terminated
            obs = self.observation(e.obs)
            replay.extend(Transitions(
                obs[:-1], e.did, self.reward * e.reward, obs[1:], ends))
        return replay


def _returns(reward: Float32, gamma: float) -> Float32:
    """From each step on, discounted: ``(T,)``."""
    found, to_come = np.zeros(len(reward), np.float32), 0.0
    for k in reversed(range(len(reward))):
        to_come = found[k] = reward[k] + gamma * to_come
    return found


def rlpd(task: Task) -> Outcome:
    """Soft actor-critic, half of every batch demonstrations (Ball et al. 2023).

    A tenth of the application's steps: off-policy learning takes fewer, and longer for each.

    Raises:
        ConfigError: the actions are choices.
    """
    if task.choices:
        raise ConfigError('rlpd is for actions that are numbers; these are choices')
    limit = float(np.max(np.abs([task.low, task.high])))
    if not np.isfinite(limit):
        raise ConfigError('rlpd is for actions that have bounds; these have none')
    application = task.application
    shown = [task.show(number) for number in range(application.demonstrations)]
    config = RLPDConfig(
        gamma=application.gamma, n_step=1, updates=1.0, actor_every=1, std=0.5, temperature=0.01,
        correlation=0.0, warmup=1000, hidden=(256, 256))
    seen = [*shown, *_at_random(task)]
    units = _Units.of(task, seen)
    learns, drives = (Actor(net, task.width, config.std, limit)
                      for net in (units.net.net, units.net))
    steps = max(1, application.steps // _PER_STEP)
    with Worlds(units, 2, seed=SHOWN + task.seed, processes=0) as worlds:
        learner = RLPD(learns, worlds.obs_dim, task.width, config, task.seed)
        trainer = Trainer(worlds, learner, units.recorded(shown, config), task.seed)
        for until in np.linspace(0, steps, _POINTS + 1)[1:].astype(int):
            trainer.run(int(until), Returns())
            task.judge(drives, labels=steps_of(shown), steps=steps_of(seen) + trainer.steps,
                       last=until == steps)
    return task.finish(drives)
