"""The algorithms of reinforcement learning as fine-tuning sees them: one interface."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import nn

from il_robot.algorithms.actor import Actor
from il_robot.algorithms.filtered import Filtered
from il_robot.algorithms.finetune_config import (
    CORRECTING,
    ON_POLICY,
    TRYING,
    FinetuneConfig,
)
from il_robot.algorithms.policy_env import PolicyEnvFactory, executed_steps
from il_robot.algorithms.policy_env_base import Recorded
from il_robot.algorithms.ppo import PPO, PPOConfig, PPOTrainer
from il_robot.algorithms.replay import Replay, Transitions
from il_robot.algorithms.rlpd import RLPD, RLPDConfig, Trainer
from il_robot.algorithms.workers import MakeEnv
from il_robot.algorithms.world_parts import Step
from il_robot.algorithms.worlds import Worlds
from il_robot.config import build
from il_robot.data import keys
from il_robot.data.dataset import Dataset, open_dataset
from il_robot.errors import ConfigError, DatasetError
from il_robot.policies.backpropagation import Perceptron, Wrapped
from il_robot.policies.checkpoint import load_checkpoint
from il_robot.policies.mlp import MLPPolicy
from il_robot.policies.policy import Policy
from il_robot.policies.residual import ResidualPolicy, bounded
from il_robot.types import Outcome

OnStep = Callable[[Step, dict[str, torch.Tensor]], None]


class Method(Protocol):
    """An algorithm at work on one policy."""

    @property
    def steps(self) -> int:
        """Decisions done."""

    @property
    def crashes(self) -> int:
        """How often worlds died and were replaced."""

    def run(self, until: int, on_step: OnStep, should_stop: Callable[[], bool]) -> bool:
        """Go on until so many decisions are done; False where it was stopped."""

    def write_into(self, policy: Policy) -> None:
        """Give a policy the weights as they are now."""

    def take_back(self, policy: Policy) -> None:
        """Go on from the weights of this one, more carefully."""

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, NDArray[Any]]]:
        """All that is needed to go on: tensors, and what was experienced."""

    def restore(
        self, tensors: Mapping[str, torch.Tensor], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """The inverse of :meth:`state`."""

    def close(self) -> None:
        """End all processes."""


class AnswerNet(nn.Module, Wrapped):
    """The first steps of a policy's answer as one row: ``(B, n_obs_steps F)`` to ``(B, n D)``."""

    def __init__(self, policy: MLPPolicy, steps: int) -> None:
        super().__init__()
        self.policy, self._steps = policy, steps

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """See the class."""
        features = obs.unflatten(1, (self.policy.n_obs_steps, -1))
        answer: torch.Tensor = self.policy({'features': features}, obs[:, :0])
        return answer[:, :self._steps].flatten(1)

    def perceptron(self) -> Perceptron:
        """See :class:`~il_robot.policies.backpropagation.Wrapped`."""
        last = self.policy.trunk[-1]
        assert isinstance(last, nn.Linear)
        width = last.out_features // self.policy.chunk_size
        return Perceptron(self.policy.trunk, self._steps * width)


class Correction(nn.Module):
    """What a corrected policy adds, ``(B, O)`` to ``(B, D)`` within its limit."""

    def __init__(self, policy: ResidualPolicy) -> None:
        super().__init__()
        self.trunk, self._limit = policy.trunk.requires_grad_(True).train(), policy.limit

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return bounded(self.trunk(obs), self._limit)


class _Trained:
    """What learning off-policy and on-policy have in common (:class:`Method`)."""

    _net: nn.Module
    _worlds: Worlds
    _trainer: Trainer | PPOTrainer

    @property
    def steps(self) -> int:
        """See :class:`Method`."""
        return self._trainer.steps

    @property
    def crashes(self) -> int:
        """See :class:`Method`."""
        return self._worlds.crashes

    def run(self, until: int, on_step: OnStep, should_stop: Callable[[], bool]) -> bool:
        """See :class:`Method`."""
        return self._trainer.run(until, on_step, should_stop)

    def write_into(self, policy: Policy) -> None:
        """See :class:`Method`."""
        net_of(policy).load_state_dict(_inner(self._outcome).state_dict())

    @property
    def _outcome(self) -> nn.Module:
        """What is deployed."""
        return self._net

    def _load(self, policy: Policy) -> None:
        for net in {self._net, self._outcome}:
            _inner(net).load_state_dict(net_of(policy).state_dict())

    def close(self) -> None:
        """See :class:`Method`."""
        self._worlds.close()


class OffPolicy(_Trained):
    """RLPD on a policy of its own, or on a correction (:class:`Method`).

    Args:
        config: Of the run.
        start: Checkpoint that it begins with.
        make_env: Makes the environment.
        dataset: Demonstrations and corrections; None for none.

    Raises:
        ConfigError: a policy that it cannot change.
        DatasetError: nothing in the dataset can be learned from.
    """

    _trainer: Trainer

    def __init__(
        self, config: FinetuneConfig, start: Path, make_env: MakeEnv, dataset: Path | None
    ) -> None:
        factory = PolicyEnvFactory(make_env, start, config.reward, config.stuck)
        limit = config.limit if config.algorithm == 'residual' else math.inf
        options = default_options(config) | dict(config.options)
        learner = build(RLPDConfig, options, f'{config.algorithm}: options')
        self._worlds = Worlds(
            factory, config.worlds, config.seed, config.processes if config.worlds > 1 else 0)
        demonstrations = None
        if dataset is not None:
            demonstrations = read_experience(factory, open_dataset(dataset), learner)
        self._net = trained_net(start, config.algorithm)
        dims = self._worlds.obs_dim, self._worlds.action_space.shape[0]
        actor = Actor(self._net, dims[1], learner.std, limit)
        self._trainer = Trainer(
            self._worlds, RLPD(actor, *dims, learner, config.seed), demonstrations, config.seed)

    @property
    def _outcome(self) -> nn.Module:
        return self._trainer.learner.mean.policy

    def take_back(self, policy: Policy) -> None:
        """See :class:`Method`; the critics stay, and the actor moves half as fast."""
        self._load(policy)
        learner = self._trainer.learner
        learner.config = replace(
            learner.config, actor_every=2 * learner.config.actor_every)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, NDArray[Any]]]:
        """See :class:`Method`."""
        learner = self._trainer.learner
        tensors = learner.state() | {
            'steps': torch.tensor(self.steps),
            'actor_every': torch.tensor(learner.config.actor_every)}
        return tensors, self._trainer.online.state()

    def restore(
        self, tensors: Mapping[str, torch.Tensor], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """See :class:`Method`."""
        learner = self._trainer.learner
        learner.restore(tensors)
        learner.config = replace(learner.config, actor_every=int(tensors['actor_every']))
        self._trainer.go_on_from(int(tensors['steps']))
        self._trainer.online.restore(dict(arrays))


class OnPolicy(_Trained):
    """PPO on a policy of its own, or on a correction (:class:`Method`).

    Args:
        config: Of the run.
        start: Checkpoint that it begins with.
        make_env: Makes the environment.

    Raises:
        ConfigError: a policy that it cannot change.
    """

    _trainer: PPOTrainer

    def __init__(self, config: FinetuneConfig, start: Path, make_env: MakeEnv) -> None:
        learner = build(
            PPOConfig, {**ppo_defaults(config), **config.options}, f'{config.algorithm}: options')
        factory = PolicyEnvFactory(make_env, start, config.reward, config.stuck)
        self._worlds = Worlds(
            factory, config.worlds, config.seed, config.processes if config.worlds > 1 else 0)
        policy = load_checkpoint(start)[1]
        self._net = Correction(policy) if isinstance(policy, ResidualPolicy) \
            else trained_net(start, config.algorithm)
        space = self._worlds.action_space
        actor = Actor(self._net, space.shape[0], learner.std)
        cores = 1 if self._worlds.processes == 0 else len(os.sched_getaffinity(0))
        self._trainer = PPOTrainer(
            self._worlds, PPO(actor, self._worlds.obs_dim, learner, config.seed), threads=cores)

    def take_back(self, policy: Policy) -> None:
        """See :class:`Method`; the critic stays, and steps become half as large."""
        self._load(policy)
        learner = self._trainer.learner
        learner.config = replace(
            learner.config, learning_rate=0.5 * learner.config.learning_rate)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, NDArray[Any]]]:
        """See :class:`Method`; nothing that was experienced is kept."""
        return self._trainer.learner.state(), {}

    def restore(
        self, tensors: Mapping[str, torch.Tensor], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """See :class:`Method`."""
        self._trainer.learner.restore(tensors)
        self._trainer.go_on_from(self._trainer.learner.steps)


def ppo_defaults(config: FinetuneConfig) -> dict[str, Any]:
    """What fine-tuning changes of PPO's own defaults, which are the textbook's.

    Progress says within a second what a motion was worth, so that it looks no further ahead.
    """
    if config.reward == 'progress':
        near = {'gamma': 0.98, 'std': 0.2, 'learning_rate': 1e-4, 'adaptive': True,
                'rollout': 4096, 'warmup': 40_000, 'anchor': 0.02}
        if config.algorithm not in CORRECTING:
            return near
        # the same time in fewer decisions, each of which goes further
        return near | {'gamma': 0.98**config.hold, 'lam': 0.75, 'std': 0.1, 'rollout': 2048,
                       'batch_size': 256, 'warmup': 40_000 // config.hold}
    return {'warmup': 20_000, 'anchor': 0.1}


def default_options(config: FinetuneConfig) -> dict[str, Any]:
    """What follows from the reward: the least and the greatest return, and how far it looks.

    What a correction brought shows within a second as progress, and critics learn that from few
    tries of little noise.
    """
    if config.reward == 'progress':
        near = {'gamma': 0.99**config.hold, 'n_step': 3, 'std': 0.2, 'entropy': -2.5,
                'temperature': 0.001, 'correlation': 0.3, 'warmup': 8000, 'average': 0.999}
        return {'low': -1.0, 'high': 2.0} | (near if config.algorithm in CORRECTING else {})
    return {'low': 0.0, 'high': 1.0} if config.reward == 'sparse' else {}


def make_method(
    config: FinetuneConfig, start: Path, make_env: MakeEnv, dataset: Path | None
) -> Method:
    """The algorithm of a run, at its beginning.

    Raises:
        ConfigError: a policy that it cannot change.
        DatasetError: nothing in the dataset can be learned from.
    """
    if config.algorithm in TRYING:
        return Filtered(config, start, make_env, dataset)
    if config.algorithm in ON_POLICY:
        return OnPolicy(config, start, make_env)
    return OffPolicy(config, start, make_env, dataset)


def trained_net(start: Path, algorithm: str) -> nn.Module:
    """What of the policy of a checkpoint is trained.

    Raises:
        ConfigError: a policy that is changed by reinforcement learning as a whole must be a
            perceptron.
    """
    checkpoint, policy = load_checkpoint(start)
    if isinstance(policy, ResidualPolicy):
        return policy.trunk.requires_grad_(True).train()
    if not isinstance(policy, MLPPolicy):
        raise ConfigError(
            f'{algorithm} changes the policies mlp and chunk_mlp; this is {checkpoint.policy}: '
            f'take --algorithm residual_ppo or residual, which correct policies of every kind')
    return AnswerNet(policy.train(), executed_steps(checkpoint, policy))


def net_of(policy: Policy) -> nn.Module:
    """The same of any policy."""
    return policy.trunk if isinstance(policy, ResidualPolicy) else policy


def _inner(net: nn.Module) -> nn.Module:
    if isinstance(net, Correction):
        return net.trunk
    return net.policy if isinstance(net, AnswerNet) else net


def read_experience(
    factory: PolicyEnvFactory, dataset: Dataset, learner: RLPDConfig
) -> Replay:
    """The episodes of a dataset whose outcome is known, as transitions.

    Raises:
        DatasetError: none succeeded.
        ConfigError: staged rewards of a dataset without rewards.
    """
    episodes = [e for e in dataset.episodes if e.outcome is not Outcome.UNKNOWN and len(e) > 1]
    if not any(e.outcome is Outcome.SUCCESS for e in episodes):
        raise DatasetError(
            f'{dataset.path} has no episode that succeeded, so that nothing in it is rewarded; '
            f'mark outcomes when recording, or leave out --dataset')
    env = factory()
    parts: list[Transitions] = []
    try:
        for episode in episodes:
            rows = slice(episode.start, episode.stop)
            recorded = Recorded(
                [dataset.observation(row) for row in range(episode.start, episode.stop)],
                dataset.action[rows],
                dataset.reward[rows] if keys.REWARD in dataset.columns else None,
                episode.outcome is Outcome.SUCCESS)
            parts += env.transitions(recorded)
    finally:
        env.close()
    first = parts[0]
    replay = Replay(sum(map(len, parts)), first.obs.shape[1], first.action.shape[1],
                    learner.gamma, learner.n_step)
    for part in parts:
        replay.extend(part)
    return replay
