"""PPO (Schulman et al. 2017) that begins with a cloned policy and does not destroy it.

Schulman, Wolski, Dhariwal, Radford and Klimov, "Proximal Policy Optimization Algorithms"; returns
by generalised advantage estimation (Schulman et al., ICLR 2016). With a policy that can do
something already, the textbook version forgets it within a few updates: its critic knows nothing,
so that the first advantages are noise. Hence, all of it optional:

- a warm-up: the critic learns what the policy is worth before the policy changes;
- an anchor: KL divergence from the cloned policy, with a weight that falls linearly (the auxiliary
  term of Rajeswaran et al., "Learning Complex Dexterous Manipulation with Deep Reinforcement
  Learning and Demonstrations" (DAPG), RSS 2018, falls with the iterations, too);
- a guard: an update that moved the policy further than ``max_kl`` is undone, and the steps become
  smaller; ``target_kl`` ends an update's epochs early;
- steps that follow from it, ``adaptive``: smaller where the way is used up before half of an
  update's epochs are over, larger where all of them need less than half of it.

Without them it is the textbook version, for any environment with ``Box`` or ``Discrete`` actions.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from il_robot.algorithms.actor import Actor, Categorical
from il_robot.algorithms.optimizer import AdamW, clip
from il_robot.algorithms.rollout import Collector, Rollout
from il_robot.algorithms.surrogate import SurrogateGradient
from il_robot.algorithms.world_parts import Step
from il_robot.algorithms.worlds import Worlds
from il_robot.policies.backpropagation import Perceptron, RegressionGradient
from il_robot.policies.mlp import mlp
from il_robot.policies.policy import Batch, Gradients, Losses
from il_robot.types import Float32

_ADAPT = 1.5
"""Factor by which adaptive steps change from one update to the next, at most."""


@dataclass(frozen=True)
class PPOConfig:
    """Of the learner.

    Attributes:
        gamma: Discount per decision.
        lam: Of generalised advantage estimation.
        rollout: Decisions of all worlds together per update.
        epochs: Passes over them.
        batch_size: Decisions per gradient step.
        clip: Of the ratio of the likelihoods.
        learning_rate: Of the policy.
        critic_rate: Of the critic.
        critic: Widths of its hidden layers.
        entropy: Weight of the policy's entropy.
        grad_clip: Largest norm of each gradient.
        std: Exploration at first, in units of the action.
        target_kl: Divergence from the policy that acted at which an update ends; 0 for never.
        max_kl: At which it is undone; 0 for never.
        adaptive: Whether ``learning_rate`` is only the first one; needs ``target_kl``.
        anchor: Weight of the divergence from the policy at the beginning.
        anchor_end: That weight after ``anchor_steps``.
        anchor_steps: Decisions over which it falls.
        warmup: Decisions at first in which only the critic learns.
    """

    gamma: float = 0.995
    lam: float = 0.95
    rollout: int = 8192
    epochs: int = 5
    batch_size: int = 512
    clip: float = 0.2
    learning_rate: float = 1e-4
    critic_rate: float = 1e-3
    critic: tuple[int, ...] = (256, 256)
    entropy: float = 0.0
    grad_clip: float = 0.5
    std: float = 0.1
    target_kl: float = 0.02
    max_kl: float = 0.1
    adaptive: bool = False
    anchor: float = 0.0
    anchor_end: float = 0.0
    anchor_steps: int = 1_000_000
    warmup: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1 or not 0 <= self.lam <= 1:
            raise ValueError(
                f'gamma must be in (0, 1] and lam in [0, 1], got {self.gamma} and {self.lam}')
        for name in ('rollout', 'epochs', 'batch_size', 'anchor_steps'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be >= 1, got {getattr(self, name)}')
        for name in ('clip', 'learning_rate', 'critic_rate', 'std'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name} must be > 0, got {getattr(self, name)}')
        if self.adaptive and not self.target_kl:
            raise ValueError('adaptive needs target_kl > 0: the way that an update may go')


def advantages(
    rollout: Rollout, value: Float32, next_value: Float32, gamma: float, lam: float
) -> Float32:
    """Generalised advantage estimates ``(T, W)``.

    Args:
        rollout: What happened.
        value: ``(T, W)`` the critic's of ``obs``.
        next_value: ``(T, W)`` of ``next_obs``; where the time was over it counts, where the task
            ended it does not.
        gamma: Discount.
        lam: Of the estimate.
    """
    error = rollout.reward + gamma * ~rollout.terminated * next_value - value
    out = np.zeros_like(error)
    following = np.zeros_like(error[0])
    for t in range(len(error) - 1, -1, -1):
        following = error[t] + gamma * lam * ~rollout.ended[t] * following
        out[t] = following
    return out


class PPO:
    """The learner; nothing of it knows an environment.

    Args:
        actor: Trained in place.
        obs_dim: O.
        config: See there.
        seed: Of the critic's weights and of all random numbers here.

    Raises:
        ValueError: an actor with a limit: at it an action has no density.

    Attributes:
        undone: Updates that the guard took back.
        steps: Decisions learned from.
    """

    def __init__(
        self, actor: Actor | Categorical, obs_dim: int, config: PPOConfig, seed: int
    ) -> None:
        if isinstance(actor, Actor) and not math.isinf(actor.limit):
            raise ValueError(
                f'PPO needs an actor without limit, got {actor.limit}: squashed actions have no '
                f'density at it; the worlds hold actions within their bounds')
        self.actor, self.config = actor, config
        torch.manual_seed(seed)
        self.critic = mlp(obs_dim, config.critic, 1)
        self.start = copy.deepcopy(actor.net).requires_grad_(False).eval()
        self._optimizers = {
            'actor': AdamW(actor, 0.0), 'critic': AdamW(self.critic, 0.0)}
        self._fit = RegressionGradient(self.critic, 'mse')
        self._gradient: Callable[
            [Batch, float, float, float], tuple[Losses, Gradients]] = self._autograd
        if isinstance(actor, Actor) and (net := Perceptron.of(actor.net)) is not None:
            self._gradient = SurrogateGradient(actor, net)
        self._generator = torch.Generator().manual_seed(seed)
        self.undone = self.steps = 0

    def noise(self, steps: int, worlds: int) -> list[torch.Tensor]:
        """``(W, A)`` for each of so many steps."""
        return [self.actor.noise(worlds, self._generator) for _ in range(steps)]

    def act(self, obs: Float32, noise: torch.Tensor) -> tuple[NDArray[Any], Float32]:
        """Actions ``(W, A)`` and their log-density ``(W,)``."""
        with torch.inference_mode():
            action, log_p = self.actor.around(self.actor.net(torch.from_numpy(obs)), noise)
            return action.numpy(), log_p.numpy()

    def update(self, rollout: Rollout) -> dict[str, torch.Tensor]:
        """Learn from a rollout; losses and divergences, detached."""
        config = self.config
        flat = {k: torch.from_numpy(v.reshape(-1, *v.shape[2:])) for k, v in (
            ('obs', rollout.obs), ('action', rollout.action), ('log_p', rollout.log_p))}
        with torch.no_grad():
            value = self.critic(flat['obs'])[:, 0].numpy().reshape(rollout.reward.shape)
            following = torch.from_numpy(rollout.next_obs.reshape(len(flat['obs']), -1))
            next_value = self.critic(following)[:, 0].numpy().reshape(value.shape)
            if config.anchor or config.anchor_end:
                flat['start'] = self.start(flat['obs'])
        gain = advantages(rollout, value, next_value, config.gamma, config.lam)
        flat['target'] = torch.from_numpy((gain + value).reshape(-1)).float()
        spread = gain.std() + 1e-8
        flat['gain'] = torch.from_numpy(((gain - gain.mean()) / spread).reshape(-1)).float()
        moves = self.steps >= config.warmup
        self.steps += len(flat['obs'])
        before = copy.deepcopy(
            (self.actor.state_dict(), self._optimizers['actor'].state())) if moves else None
        out, epochs = self._epochs(flat, moves=moves)
        if before is not None:
            self._guard(float(out['kl']), epochs, *before)
        # copies: what was made in inference mode may not be changed outside of it
        return {key: value.clone() for key, value in out.items()} | {
            'undone': torch.tensor(float(self.undone)),
            'learning_rate': torch.tensor(self.config.learning_rate)}

    def _guard(
        self, kl: float, epochs: int, weights: Mapping[str, Any], means: Mapping[str, Any]
    ) -> None:
        """Take back an update that went too far in so many epochs; adapt the steps of the next.

        The optimizer's running means go back with the weights: they would lead there again, and
        for ever where a gradient was no number.
        """
        config, factor = self.config, 1.0
        if config.max_kl and not kl < config.max_kl:
            self.actor.load_state_dict(weights)
            self._optimizers['actor'].restore(means)
            self.undone += 1
            factor = 0.5
        elif config.adaptive and not kl < config.target_kl and epochs <= config.epochs / 2:
            factor = 1 / _ADAPT
        elif config.adaptive and kl < config.target_kl / 2:
            factor = _ADAPT
        self.config = replace(config, learning_rate=factor * config.learning_rate)

    def _epochs(
        self, flat: dict[str, torch.Tensor], *, moves: bool
    ) -> tuple[dict[str, torch.Tensor], int]:
        """Losses, divergences, and how many epochs were made."""
        config, count = self.config, len(flat['obs'])
        size = min(config.batch_size, count)
        out: dict[str, torch.Tensor] = {}
        epochs = 0
        while epochs < config.epochs:
            order = torch.randperm(count, generator=self._generator)[:count // size * size]
            # gathered at once: rows of a small batch cost as much as those of a large one
            parts = {key: values[order].split(size) for key, values in flat.items()}
            for i in range(len(order) // size):
                batch = {key: part[i] for key, part in parts.items()}
                out |= self._critic_step(batch)
                if moves:
                    out |= self._actor_step(batch)
            epochs += 1
            if moves:
                out['kl'] = self._divergence(flat)
                if config.target_kl and not float(out['kl']) < config.target_kl:
                    break
        return out, epochs

    def _critic_step(self, batch: dict[str, torch.Tensor]) -> Losses:
        loss, gradients = self._fit(
            {'features': batch['obs'], 'action': batch['target'][:, None, None]})
        self._follow('critic', gradients, self.config.critic_rate)
        return {'critic_loss': loss['loss']}

    def _actor_step(self, batch: dict[str, torch.Tensor]) -> Losses:
        config = self.config
        share = min(1.0, self.steps / config.anchor_steps)
        anchor = config.anchor + share * (config.anchor_end - config.anchor)
        losses, gradients = self._gradient(batch, config.clip, config.entropy, anchor)
        self._follow('actor', gradients, config.learning_rate)
        return losses

    def _autograd(
        self, batch: Batch, clip: float, entropy: float, anchor: float
    ) -> tuple[Losses, Gradients]:
        """What :class:`SurrogateGradient` does, for any network and for choices."""
        log_p = self.actor.log_prob(batch['obs'], batch['action'])
        ratio = (log_p - batch['log_p']).exp()
        gain = batch['gain']
        loss = -torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain).mean()
        if entropy:
            spread = self.actor.entropy() if isinstance(self.actor, Actor) else -log_p.mean()
            loss = loss - entropy * spread
        out = {'actor_loss': loss.detach()}
        if 'start' in batch:
            far = self.actor.divergence(self.actor.net(batch['obs']), batch['start']).mean()
            loss = loss + anchor * far
            out['from_start'] = far.detach()
        return out, torch.autograd.grad(loss, list(self.actor.parameters()), allow_unused=True)

    def _follow(self, name: str, gradients: Gradients, rate: float) -> None:
        if self.config.grad_clip:
            clip(gradients, self.config.grad_clip)
        self._optimizers[name].update(gradients, rate)

    def _divergence(self, flat: dict[str, torch.Tensor]) -> torch.Tensor:
        """Of the present policy from the one that acted; Schulman, "Approximating KL", 2020."""
        with torch.no_grad():
            change = self.actor.log_prob(flat['obs'], flat['action']) - flat['log_p']
            return (change.exp() - 1 - change).mean()

    def state(self) -> dict[str, torch.Tensor]:
        """All tensors needed to go on."""
        state = {'steps': torch.tensor(self.steps), 'undone': torch.tensor(self.undone),
                 'learning_rate': torch.tensor(self.config.learning_rate, dtype=torch.float64)}
        for name, module in self._modules():
            state |= {f'{name}.{k}': v for k, v in module.state_dict().items()}
        for name, step in self._optimizers.items():
            for key, values in step.state().items():
                state |= {f'{name}_step.{key}.{k}': v for k, v in values.items()}
        return state

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """The inverse of :meth:`state`; random numbers go on from the decisions learned from."""
        for name, module in self._modules():
            module.load_state_dict({k.removeprefix(f'{name}.'): v for k, v in state.items()
                                    if k.startswith(f'{name}.')})
        for name, step in self._optimizers.items():
            step.restore({key: {
                k.removeprefix(f'{name}_step.{key}.'): v for k, v in state.items()
                if k.startswith(f'{name}_step.{key}.')} for key in step.state()})
        self.steps, self.undone = int(state['steps']), int(state['undone'])
        self.config = replace(self.config, learning_rate=float(state['learning_rate']))
        self._generator.manual_seed(self.steps)

    def _modules(self) -> tuple[tuple[str, nn.Module], ...]:
        return ('actor', self.actor), ('critic', self.critic), ('start', self.start)


class PPOTrainer:
    """The loop around the learner.

    Args:
        worlds: In which the actor acts.
        learner: See there.
        shape: Replaces the rewards ``(T, W)`` of a rollout before it is learned from: imitation
            (:mod:`il_robot.algorithms.gail`); None leaves them.
        threads: With which the learner computes, while worlds in other processes wait.

    Attributes:
        steps: Decisions of single worlds done.
    """

    def __init__(
        self, worlds: Worlds, learner: PPO,
        shape: Callable[[Rollout], tuple[Float32, dict[str, torch.Tensor]]] | None = None,
        threads: int = 1,
    ) -> None:
        self.worlds, self.learner, self._shape = worlds, learner, shape
        self._threads = threads
        self.steps = 0
        self._collector = Collector(worlds, learner)
        self._losses: dict[str, torch.Tensor] = {}

    def go_on_from(self, steps: int) -> None:
        """Count on from so many decisions, in other episodes."""
        self.steps = self.worlds.begun = steps

    def run(
        self, until: int, on_step: Callable[[Step, dict[str, torch.Tensor]], None],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Go on until so many decisions are done, whole rollouts of them.

        Args:
            until: Decisions.
            on_step: Called after every step of the worlds of a process, with the losses of the
                last update.
            should_stop: Asked after every step; what was begun is thrown away then.

        Returns:
            False where it was stopped.
        """
        length = math.ceil(self.learner.config.rollout / self.worlds.count)
        while self.steps < until:
            rollout = self._collector.collect(
                length, lambda step: on_step(step, self._losses), should_stop)
            if rollout is None:
                return False
            self.steps += rollout.reward.size
            self._losses = {}
            if self._shape is not None:
                reward, self._losses = self._shape(rollout)
                rollout = replace(rollout, reward=reward)
            acting = torch.get_num_threads()
            torch.set_num_threads(self._threads)
            self._losses = self._losses | self.learner.update(rollout)
            torch.set_num_threads(acting)
        return True
