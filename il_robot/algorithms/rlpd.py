"""RLPD (Ball et al., ICML 2023): soft actor-critic, half of every batch demonstrations.

Ball, Smith, Kostrikov and Levine, "Efficient Online Reinforcement Learning with Offline Data".
From there: half and half, critics with layer normalisation, an ensemble of them of which the
least of a random subset is the target, several updates per step. From soft actor-critic
(Haarnoja et al., 2018): the squashed Gaussian, its entropy held by a temperature. Returns go over
n steps. Here in addition, all of it optional:

- a warm-up: the critics learn what the policy is worth before it changes, so that it is not
  destroyed by critics that know nothing;
- exploration that stays for a while (:class:`~il_robot.algorithms.actor.CorrelatedNoise`);
- an anchor: squared distance to the demonstrated actions;
- targets between the least and the greatest return that there can be.

With the actor a correction on top of a frozen policy
(:class:`~il_robot.algorithms.policy_env.ResidualEnv`) this is residual reinforcement learning.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from il_robot.algorithms.actor import Actor, CorrelatedNoise
from il_robot.algorithms.critics import Critics, WrittenOut
from il_robot.algorithms.optimizer import AdamW, RunningMean
from il_robot.algorithms.replay import Replay
from il_robot.algorithms.world_parts import Step
from il_robot.algorithms.worlds import Worlds
from il_robot.policies.backpropagation import Perceptron
from il_robot.policies.policy import Gradients
from il_robot.types import Float32


@dataclass(frozen=True)
class RLPDConfig:
    """Of the learner.

    Attributes:
        gamma: Discount per decision.
        n_step: Decisions that a return goes over.
        batch_size: Transitions per update.
        demonstrations: Share of the batch that is demonstrations.
        updates: Updates of the critics per decision of one world; may be less than 1.
        actor_every: Updates of the critics per one of the actor.
        learning_rate: Of all networks.
        critics: Size of the ensemble, E.
        subset: How many of them, drawn anew each time, the target's minimum goes over.
        hidden: Widths of the critics' hidden layers.
        polyak: Share of the weights that the target networks take over per update.
        average: Of the actor's weights over its updates, exponential; the mean is what comes out,
            while the newest one explores. 0 for the newest.
        std: Exploration at first, in units of the action (squashed: before squashing).
        entropy: Of the actor, per number of the action [nats], that the temperature holds.
        temperature: At first.
        correlation: Of the exploration from one decision to the next.
        anchor: Weight of the squared distance to demonstrated actions.
        shrink: Weight of the squared mean of the actor before squashing: beside a limit the
            slope is 0, and an actor that was sent there by young critics would stay.
        low: Least return that there can be.
        high: Greatest.
        warmup: Decisions at first in which the actor stays as it is; the critics learn.
        capacity: Transitions remembered.
    """

    gamma: float = 0.995
    n_step: int = 5
    batch_size: int = 256
    demonstrations: float = 0.5
    updates: float = 0.5
    actor_every: int = 2
    learning_rate: float = 3e-4
    critics: int = 2
    subset: int = 2
    hidden: tuple[int, ...] = (256, 256)
    polyak: float = 0.005
    average: float = 0.0
    std: float = 0.3
    entropy: float = -1.0
    temperature: float = 0.01
    correlation: float = 0.8
    anchor: float = 0.0
    shrink: float = 0.001
    low: float = -math.inf
    high: float = math.inf
    warmup: int = 10_000
    capacity: int = 1_000_000

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1 or not 0 <= self.correlation < 1:
            raise ValueError('gamma must be in (0, 1] and correlation in [0, 1), got '
                             f'{self.gamma} and {self.correlation}')
        if not 0 <= self.demonstrations <= 1:
            raise ValueError(f'demonstrations must be in [0, 1], got {self.demonstrations}')
        if not 1 <= self.subset <= self.critics:
            raise ValueError(
                f'subset must be from 1 to critics ({self.critics}), got {self.subset}')
        for name in ('n_step', 'batch_size', 'actor_every', 'capacity'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be >= 1, got {getattr(self, name)}')


class RLPD:
    """The learner; nothing of it knows an environment.

    Args:
        actor: Trained in place.
        obs_dim: O.
        action_dim: A.
        config: See there.
        seed: Of weights and all random numbers here.

    Attributes:
        mean: The actor's network with its mean weights.
    """

    def __init__(
        self, actor: Actor, obs_dim: int, action_dim: int, config: RLPDConfig, seed: int
    ) -> None:
        self.config, self.actor = config, actor
        torch.manual_seed(seed)
        self.critics = Critics(obs_dim + action_dim, config.hidden, config.critics)
        self.target = copy.deepcopy(self.critics).requires_grad_(False)
        self.tuned = _Tuned(actor, math.log(config.temperature))
        self._entropy = config.entropy * action_dim
        self._value, self._target = WrittenOut(self.critics), WrittenOut(self.target)
        self._net = Perceptron.of(actor.net)
        self._critic_step = AdamW(self.critics, 0.0)
        self._actor_step = AdamW(self.tuned, 0.0)
        self.mean = RunningMean(actor.net, config.average)
        self._generator = torch.Generator().manual_seed(seed)
        self._rng = np.random.default_rng([seed, 7])
        self.updates = 0

    def batch(self, online: Replay, demonstrations: Replay | None) -> dict[str, torch.Tensor]:
        """Half and half, or as configured; the demonstrations come first."""
        config = self.config
        parts = []
        share = round(config.demonstrations * config.batch_size) if demonstrations else 0
        if demonstrations is not None and share:
            parts.append(demonstrations.sample(share, self._rng))
        if share < config.batch_size:
            parts.append(online.sample(config.batch_size - share, self._rng))
        return {key: torch.from_numpy(np.concatenate([p[key] for p in parts]))
                for key in parts[0]}

    def update(self, batch: dict[str, torch.Tensor], *, actor: bool, demonstrations: int = 0
               ) -> dict[str, torch.Tensor]:
        """One step of the critics and, every so often, of the actor.

        Args:
            batch: See :meth:`batch`.
            actor: Whether the actor may move.
            demonstrations: How many of the first rows are demonstrations.

        Returns:
            Losses and means, detached.
        """
        out = self._update_critics(batch)
        self.updates += 1
        if actor and self.updates % self.config.actor_every == 0:
            out |= self._update_actor(batch, demonstrations)
            self.mean.update(self.updates)
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.target.parameters()), list(self.critics.parameters()),
                self.config.polyak)
        return out

    def _update_critics(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        config = self.config
        following = batch['next_obs']
        with torch.inference_mode():
            mean = self._forward(following)
            action, log_p = self.actor.around(
                mean, self.actor.noise(len(mean), self._generator))
            values = self._target.values(torch.cat([following, action], 1))
            if config.subset < config.critics:
                values = values[self._rng.permutation(config.critics)[:config.subset]]
            value = values.amin(0) - self.tuned.log_temperature.exp() * log_p
            target = (batch['reward'] + batch['discount'] * value).clamp(config.low, config.high)
            loss, gradients = self._value.error(
                torch.cat([batch['obs'], batch['action']], 1), target)
        self._critic_step.update(gradients, config.learning_rate)
        # copies: what was made in inference mode may not be changed outside of it
        return {'critic_loss': loss.clone(), 'value': target.mean().clone()}

    def _update_actor(
        self, batch: dict[str, torch.Tensor], demonstrations: int
    ) -> dict[str, torch.Tensor]:
        config, actor, obs = self.config, self.actor, batch['obs']
        noise = actor.noise(len(obs), self._generator)
        answer = self._forward(obs)
        with torch.inference_mode():
            mean = answer.detach()
            action, log_p = actor.around(mean, noise)
            value, by_input = self._value.slope(torch.cat([obs, action], 1))
            temperature = self.tuned.log_temperature.exp()
            entropy = -log_p.mean()
            loss = -temperature * entropy - value
            by_mean, by_log_std = actor.slopes(
                mean, noise, -by_input[:, obs.shape[1]:], temperature / len(obs))
            if config.shrink and not math.isinf(actor.limit):
                loss += config.shrink * mean.square().mean()
                by_mean += mean * (2 * config.shrink / mean.numel())
            if config.anchor and demonstrations:
                near = actor.squashed(mean[:demonstrations])
                away = near - batch['action'][:demonstrations]
                loss += config.anchor * away.square().mean()
                slope = 1.0 if math.isinf(actor.limit) else (
                    actor.limit - near.square() / actor.limit)
                by_mean[:demonstrations] += away * slope * (2 * config.anchor / away.numel())
            by_temperature = temperature * (entropy - self._entropy)
        gradients = [by_temperature, by_log_std, *self._by_weights(by_mean, answer)]
        with torch.inference_mode():
            self._actor_step.update(gradients, config.learning_rate)
        # copies: what was made in inference mode may not be changed outside of it
        return {'actor_loss': loss.clone(), 'entropy': entropy.clone(),
                'temperature': temperature.clone()}

    def _forward(self, obs: torch.Tensor) -> torch.Tensor:
        """The answer of the actor's network ``(B, A)``, to be used before the next one."""
        if self._net is None:
            answer: torch.Tensor = self.actor.net(obs)
            return answer
        with torch.inference_mode():
            return self._net.forward(obs)

    def _by_weights(self, slope: torch.Tensor, answer: torch.Tensor) -> Gradients:
        """Derivatives by the weights of that network of those by its newest answer."""
        if self._net is None:
            return torch.autograd.grad(
                answer, list(self.actor.net.parameters()), slope.clone())
        with torch.inference_mode():
            self._net.slope.copy_(slope)
            return self._net.backward()

    def state(self) -> dict[str, torch.Tensor]:
        """All tensors needed to go on."""
        state = {'updates': torch.tensor(self.updates)}
        for name, module in self._modules():
            state |= {f'{name}.{k}': v for k, v in module.state_dict().items()}
        for name, step in self._optimizers():
            for key, values in step.state().items():
                state |= {f'{name}.{key}.{k}': v for k, v in values.items()}
        return state

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """The inverse of :meth:`state`; random numbers go on from the updates done."""
        for name, module in self._modules():
            module.load_state_dict(_part(state, name))
        for name, step in self._optimizers():
            step.restore({key: _part(state, f'{name}.{key}') for key in step.state()})
        self.updates = int(state['updates'])
        self._rng = np.random.default_rng([self.updates, 7])
        self._generator.manual_seed(self.updates)

    def _modules(self) -> tuple[tuple[str, nn.Module], ...]:
        # without a mean it is the actor's own network
        mean = (('mean', self.mean.policy),) if self.config.average else ()
        return ('tuned', self.tuned), ('critics', self.critics), ('target', self.target), *mean

    def _optimizers(self) -> tuple[tuple[str, AdamW], ...]:
        return ('critic_step', self._critic_step), ('actor_step', self._actor_step)


class _Tuned(nn.Module):
    """What the actor's steps change."""

    def __init__(self, actor: Actor, log_temperature: float) -> None:
        super().__init__()
        self.actor = actor
        self.log_temperature = nn.Parameter(torch.tensor(log_temperature))


def _part(state: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(f'{name}.'): v for k, v in state.items() if k.startswith(f'{name}.')}


class Trainer:
    """The loop around the learner: the worlds step while it learns.

    Args:
        worlds: In which the actor acts.
        learner: See there.
        demonstrations: None for none.
        seed: Of the exploration.

    Attributes:
        steps: Decisions of single worlds done.
        online: What was experienced.
    """

    def __init__(
        self, worlds: Worlds, learner: RLPD, demonstrations: Replay | None, seed: int
    ) -> None:
        config = learner.config
        self.worlds, self.learner, self.steps = worlds, learner, 0
        space = worlds.action_space
        self._low, self._high = space.low, space.high
        self._demonstrations = demonstrations
        self.online = Replay(config.capacity, worlds.obs_dim, space.shape[0], config.gamma,
                             config.n_step)
        self._seed, self._generator = seed, torch.Generator().manual_seed(seed)
        self._noise = CorrelatedNoise(
            (worlds.count, space.shape[0]), config.correlation, self._generator)
        self._acted: list[tuple[Float32, Float32]] = []
        self._owed = 0.0

    def go_on_from(self, steps: int) -> None:
        """Count on from so many decisions, in other episodes and with other noise."""
        self.steps = self.worlds.begun = steps
        self._generator.manual_seed(self._seed + steps)

    def run(
        self, until: int, on_step: Callable[[Step, dict[str, torch.Tensor]], None],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Go on until so many decisions are done.

        The processes of the worlds take turns; while one is waited for or learned from, the
        others step. The same number of them brings the same.

        Args:
            until: Decisions.
            on_step: Called after every step of the worlds of a process, with the losses of the
                last update.
            should_stop: Asked after every step of all worlds.

        Returns:
            False where it was stopped.
        """
        worlds = self.worlds
        if not self._acted:
            obs, noise = worlds.reset(), self._noise.next()
            self._acted = [
                self._act(i, obs[part], noise[part]) for i, part in enumerate(worlds.parts)]
        while self.steps < until:
            if should_stop():
                return False
            noise = self._noise.next()
            for i, part in enumerate(worlds.parts):
                step = worlds.finish_part(i)
                self._remember(step, *self._acted[i])
                self._acted[i] = self._act(i, step.obs, noise[part])
                losses = self._learn(len(step.reward))
                self.steps += len(step.reward)
                on_step(step, losses)
        return True

    def _act(self, part: int, obs: Float32, noise: torch.Tensor) -> tuple[Float32, Float32]:
        """Let the worlds of one process begin a step; what they saw and what they do."""
        with torch.no_grad():
            action = self.learner.actor.act(torch.from_numpy(obs), noise)
        did = action.numpy().clip(self._low, self._high)
        self.worlds.begin_part(part, did)
        return obs, did

    def _learn(self, decisions: int) -> dict[str, torch.Tensor]:
        """As many updates as so many decisions call for; the losses of the last one."""
        config, losses = self.learner.config, dict[str, torch.Tensor]()
        self._owed += config.updates * decisions
        share = round(config.demonstrations * config.batch_size)
        while self._owed >= 1:
            self._owed -= 1
            if len(self.online) >= config.batch_size:
                losses = self.learner.update(
                    self.learner.batch(self.online, self._demonstrations),
                    actor=self.steps >= config.warmup,
                    demonstrations=share if self._demonstrations else 0)
        return losses

    def _remember(self, step: Step, obs: Float32, did: Float32) -> None:
        for row, world in enumerate(range(step.first, step.first + len(step.reward))):
            if step.lost:
                self.online.forget(world)
                continue
            self.online.add(
                world, obs[row].copy(), did[row], float(step.reward[row]),
                step.next_obs[row].copy(), terminated=bool(step.terminated[row]),
                truncated=bool(step.truncated[row]))
