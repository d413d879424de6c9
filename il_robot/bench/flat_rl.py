"""Reinforcement on an environment with a flat observation: alone, after imitation, as imitation.

The algorithms are those of :mod:`il_robot.algorithms`, with one setting for all environments, and
observations and rewards in units of their own deviation; see :mod:`il_robot.bench.flat`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.wrappers.utils import RunningMeanStd

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
_PER_STEP = 10  # steps of ppo to one of sac_demos, each of which costs as much as ten


def _ppo_config(task: Task, **settings: Any) -> PPOConfig:
    return PPOConfig(**{
        'gamma': task.application.gamma, 'rollout': 2048, 'epochs': 10, 'batch_size': 256,
        'learning_rate': 3e-4, 'critic': HIDDEN, 'std': 0.5, 'target_kl': 0.05, 'max_kl': 0.0,
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
    units = _Units.of(task, tried, follow=True)
    return _learn(task, units, _ppo_config(task, std=1.0), 0, steps_of(tried))


def bc_ppo(task: Task) -> Outcome:
    """A cloned policy, then PPO anchored to it (:mod:`il_robot.algorithms.ppo`)."""
    shown = [task.show(number) for number in range(task.application.demonstrations)]
    config = _ppo_config(task, std=0.2, warmup=task.application.steps // 10, anchor=0.1,
                         anchor_steps=task.application.steps, learning_rate=1e-4, max_kl=0.1)
    # what was cloned must not see its observations change
    units = _Units.of(task, shown, clone(task, shown))
    return _learn(task, units, config, steps_of(shown), steps_of(shown))


def gail(task: Task) -> Outcome:
    """Imitation by an adversary (Ho and Ermon 2016): demonstrations, no reward."""
    shown = [task.show(number) for number in range(task.application.demonstrations)]
    seen = [*shown, *_at_random(task)]
    units = _Units.of(task, seen)
    obs, labels = rows_of(shown)
    judge = GAIL(units.observation(obs), labels, task.choices, GAILConfig(), task.seed,
                 None if task.choices else (task.low, task.high))
    return _learn(task, units, _ppo_config(task, std=1.0, learning_rate=1e-3),
                  len(labels), steps_of(seen), judge)


def _at_random(task: Task) -> list[Episode]:
    """Episodes of random actions: what there is to see, and to gain, without a policy."""
    return [drive(task.env, SHOWN + 1000 * task.seed + k,
                  lambda _: task.env.action_space.sample()) for k in range(_LOOKED_AT)]


class _Units:
    """Makes an environment whose observations and rewards are in units of their own size.

    Critics learn by squares, and a temperature is beside a reward: without it what one of them
    learns in a thousand updates takes another, whose returns are a hundred times greater, a
    hundred thousand. As Stable-Baselines3's VecNormalize, whose mean of rewards is not taken away
    either.

    Args:
        make: The environment's own.
        net: Whose input observations are scaled as.
        gamma: Discount of the returns.
    """

    def __init__(self, make: MakeFlat, net: Scaled, gamma: float) -> None:
        self.net, self.gamma = net, gamma
        self._make = make
        self._returns = RunningMeanStd(0.0)
        self._reward: float | None = None
        self._seen: RunningMeanStd | None = None

    @classmethod
    def of(cls, task: Task, episodes: Sequence[Episode],
           actor: Actor | Categorical | None = None, *, follow: bool = False) -> _Units:
        """Rewards over the deviation of returns so far, observations over theirs at first.

        Args:
            task: Whose.
            episodes: What was seen until now.
            actor: One that has a network already.
            follow: Let observations be over the deviation of all that the worlds show.
        """
        obs = np.concatenate([e.obs for e in episodes])
        net = (actor or task.actor(obs)).net
        assert isinstance(net, Scaled)
        units = cls(task.make, net, task.application.gamma)
        units._returns.update(np.concatenate([_returns(e.reward, units.gamma) for e in episodes]))
        if follow:
            units._seen = RunningMeanStd(0.0, obs.shape[1:])
            units._seen.update(obs)
        return units

    def fix_reward(self) -> None:
        """From now on its unit stays: that of what is remembered does, too."""
        self._reward = self._unit()

    def _unit(self) -> float:
        return 1.0 / (float(np.sqrt(self._returns.var)) or 1.0)

    def __call__(self) -> gym.Env[Float32, Any]:
        return _InUnits(self._make(), self)

    def new_observation(self, obs: Float32) -> Float32:
        """``(O,)`` that a world shows, scaled."""
        if self._seen is not None:
            self._seen.update(obs[None])
            self.net.scale_by(self._seen.mean, np.sqrt(self._seen.var))
        return self.observation(obs)

    def new_reward(self, reward: float, to_here: float) -> float:
        """Scaled; ``to_here``: the rewards of the episode so far, discounted."""
        if self._reward is not None:
            return self._reward * reward
        self._returns.update(np.array([to_here]))
        return self._unit() * reward

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
            rewards = np.array([self.new_reward(r, 0.0) for r in e.reward], np.float32)
            replay.extend(Transitions(obs[:-1], e.did, rewards, obs[1:], ends))
        return replay


class _InUnits(gym.Wrapper[Float32, Any, Float32, Any]):
    """One world of :class:`_Units`."""

    def __init__(self, env: gym.Env[Float32, Any], units: _Units) -> None:
        super().__init__(env)
        self._units, self._to_here = units, 0.0

    def reset(self, **options: Any) -> tuple[Float32, dict[str, Any]]:
        obs, info = self.env.reset(**options)
        self._to_here = 0.0
        return self._units.new_observation(obs), info

    def step(self, action: Any) -> tuple[Float32, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._to_here = self._units.gamma * self._to_here + float(reward)
        return (self._units.new_observation(obs),
                self._units.new_reward(float(reward), self._to_here), terminated, truncated, info)


def _returns(reward: Float32, gamma: float) -> Float32:
    """From each step on, discounted: ``(T,)``."""
    found, to_come = np.zeros(len(reward), np.float32), 0.0
    for k in reversed(range(len(reward))):
        to_come = found[k] = reward[k] + gamma * to_come
    return found


def sac_demos(task: Task) -> Outcome:
    """Soft actor-critic, half of every batch demonstrations, critics with layer normalisation.

    These are of RLPD (Ball et al. 2023); its ten critics and twenty updates per step are not:
    they take a hundred times as long. A tenth of the application's steps: off-policy learning
    takes fewer, and longer for each.

    Raises:
        ConfigError: the actions are choices.
    """
    if task.choices:
        raise ConfigError('sac_demos is for actions that are numbers; these are choices')
    limit = float(np.max(np.abs([task.low, task.high])))
    if not np.isfinite(limit):
        raise ConfigError('sac_demos is for actions that have bounds; these have none')
    application = task.application
    shown = [task.show(number) for number in range(application.demonstrations)]
    config = RLPDConfig(
        gamma=application.gamma, n_step=1, updates=1.0, actor_every=1, std=0.5, temperature=0.01,
        correlation=0.0, warmup=1000, hidden=(256, 256))
    seen = [*shown, *_at_random(task)]
    units = _Units.of(task, seen)
    units.fix_reward()
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
