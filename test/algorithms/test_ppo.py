from dataclasses import dataclass, replace

import counting
import gymnasium as gym
import numpy as np
import pytest
import torch

from il_robot.algorithms.actor import Actor, Categorical
from il_robot.algorithms.ppo import PPO, PPOConfig, PPOTrainer, advantages
from il_robot.algorithms.rollout import Rollout
from il_robot.algorithms.worlds import Worlds
from il_robot.policies.mlp import mlp


class Target(gym.Env):
    """One number must follow another; ten steps."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, discrete=False):
        self._discrete = discrete
        self.action_space = gym.spaces.Discrete(3) if discrete else gym.spaces.Box(
            -1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self._draw(), {}

    def _draw(self):
        self.target = self.np_random.uniform(-1, 1)
        return np.array([self.target, self.target**2], np.float32)

    def step(self, action):
        self.count += 1
        did = float(action) - 1 if self._discrete else float(action[0])
        reward = -abs(did - np.round(self.target)) if self._discrete else -(did - self.target)**2
        return self._draw(), reward, False, self.count >= 10, {}


@dataclass(frozen=True)
class Make:
    discrete: bool = False

    def __call__(self):
        return Target(self.discrete)


def learner(config, discrete=False):
    torch.manual_seed(0)
    net = mlp(2, (32,), 3 if discrete else 1)
    return PPO(Categorical(net, 3) if discrete else Actor(net, 1, config.std), 2, config, 0)


def returns(learned, discrete=False, steps=6000):
    """Mean reward of the first and last thousand decisions."""
    rewards = []
    with Worlds(Make(discrete), 4, 0, processes=0) as worlds:
        trainer = PPOTrainer(worlds, learned)
        assert trainer.run(steps, lambda step, losses: rewards.append(step.reward.mean()))
    return np.mean(rewards[:250]), np.mean(rewards[-250:])


@pytest.mark.parametrize('discrete', [False, True])
def test_it_learns(discrete):
    config = PPOConfig(gamma=0.5, rollout=500, epochs=10, batch_size=100, learning_rate=3e-3,
                       std=0.5, target_kl=0, max_kl=0, entropy=0.001)
    first, last = returns(learner(config, discrete), discrete)
    assert last > 0.5 * first  # rewards are negative


def test_what_it_experiences_does_not_depend_on_the_processes():
    rollouts = []
    for processes in (0, 2):
        learned = learner(PPOConfig(rollout=80, warmup=10_000))
        with Worlds(counting.Make(), 4, 0, processes) as worlds:
            trainer = PPOTrainer(worlds, learned, lambda r: rollouts.append(r) or (r.reward, {}))
            assert trainer.run(240, lambda step, losses: None)
    assert len(rollouts) == 6
    for one, other in zip(rollouts[:3], rollouts[3:]):
        for name in vars(one):
            np.testing.assert_allclose(
                getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-5, err_msg=name)
        assert one.obs.shape == (20, 4, 2)


def test_stopped_it_can_go_on():
    left = [7]

    def stop():
        left[0] -= 1
        return left[0] == 0

    with Worlds(counting.Make(), 4, 0, 2) as worlds:
        trainer = PPOTrainer(worlds, learner(PPOConfig(rollout=80)))
        assert not trainer.run(80, lambda step, losses: None, stop) and trainer.steps == 0
        assert trainer.run(80, lambda step, losses: None) and trainer.steps == 80


def random_rollout(steps=7, worlds=3, seed=0):
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(steps, worlds, 2)).astype(np.float32)
    ended = rng.uniform(size=(steps, worlds)) < 0.3
    return Rollout(
        obs, rng.normal(size=(steps, worlds, 1)).astype(np.float32),
        rng.normal(size=(steps, worlds)).astype(np.float32),
        rng.normal(size=(steps, worlds)).astype(np.float32),
        rng.normal(size=obs.shape).astype(np.float32),
        ended & (rng.uniform(size=ended.shape) < 0.5), ended)


def test_advantages_are_the_sum_that_defines_them():
    gamma, lam = 0.9, 0.8
    rollout = random_rollout()
    rng = np.random.default_rng(1)
    value, following = rng.normal(size=(2, 7, 3)).astype(np.float32)
    found = advantages(rollout, value, following, gamma, lam)
    error = rollout.reward + gamma * np.where(rollout.terminated, 0, following) - value
    for w in range(3):
        for t in range(7):
            expected, factor = 0.0, 1.0
            for k in range(t, 7):
                expected += factor * error[k, w]
                factor *= gamma * lam
                if rollout.ended[k, w]:
                    break
            assert found[t, w] == pytest.approx(expected, abs=1e-5)


def acted(learned, steps=64, worlds=2):
    """A rollout of the learner's own actions."""
    rollout = random_rollout(steps, worlds)
    obs = rollout.obs.reshape(-1, 2)
    action, log_p = learned.act(obs, *learned.noise(1, len(obs)))
    return Rollout(rollout.obs, action.reshape(steps, worlds, 1), log_p.reshape(steps, worlds),
                   rollout.reward, rollout.next_obs, rollout.terminated, rollout.ended)


def weights(learned):
    return {k: v.clone() for k, v in learned.actor.state_dict().items()}


def unchanged(learned, before):
    return all(torch.equal(v, before[k]) for k, v in learned.actor.state_dict().items())


def test_only_the_critic_learns_in_the_warm_up():
    ours = learner(PPOConfig(warmup=200, batch_size=32))
    before, critic = weights(ours), ours.critic[0].weight.clone()
    ours.update(acted(ours))  # 128 decisions
    assert unchanged(ours, before) and not torch.equal(critic, ours.critic[0].weight)
    ours.update(acted(ours))
    ours.update(acted(ours))
    assert not unchanged(ours, before)


def test_an_update_that_went_too_far_is_undone_and_the_next_are_smaller():
    ours = learner(PPOConfig(learning_rate=0.1, target_kl=0, max_kl=0.01, batch_size=32))
    before = weights(ours)
    out = ours.update(acted(ours))
    assert out['kl'] > 0.01 and unchanged(ours, before) and ours.undone == 1
    assert ours.config.learning_rate == pytest.approx(0.05)
    means = ours._optimizers['actor'].state()
    assert not any(value.any() for values in means.values() for value in values.values())


def test_after_a_gradient_that_is_no_number_it_goes_on_learning():
    ours = learner(PPOConfig(target_kl=0, max_kl=1.0, batch_size=32))
    before, rollout = weights(ours), acted(ours)
    ours.update(replace(rollout, log_p=rollout.log_p * np.nan))
    assert ours.undone == 1 and unchanged(ours, before)
    ours.update(acted(ours))
    assert ours.undone == 1 and not unchanged(ours, before)
    assert all(torch.isfinite(p).all() for p in ours.actor.parameters())


@pytest.mark.parametrize(('rate', 'factor'), [(0.05, 1 / 1.5), (1e-7, 1.5)])
def test_adaptive_steps_use_up_the_way_an_update_may_go_and_no_more(rate, factor):
    ours = learner(PPOConfig(
        learning_rate=rate, adaptive=True, target_kl=0.01, max_kl=0, batch_size=32))
    rollout = acted(ours)
    ours.update(rollout)
    assert ours.config.learning_rate == pytest.approx(factor * rate)
    fixed = learner(PPOConfig(learning_rate=rate, target_kl=0.01, max_kl=0, batch_size=32))
    fixed.update(rollout)
    assert fixed.config.learning_rate == rate


def test_adaptive_steps_settle_where_an_update_needs_its_epochs():
    ours = learner(PPOConfig(
        learning_rate=0.05, adaptive=True, target_kl=0.01, max_kl=0.05, batch_size=32))
    moved = [float(ours.update(acted(ours))['kl']) for _ in range(40)]
    assert 0.003 < np.median(moved[20:]) < 0.03


def test_the_anchor_holds_it_to_where_it_began():
    far = {}
    for weight in (0.0, 100.0):
        ours = learner(PPOConfig(
            anchor=weight, anchor_end=weight, learning_rate=1e-3, target_kl=0, max_kl=0,
            batch_size=32, grad_clip=0))
        rollout = acted(ours)
        for _ in range(20):
            ours.update(rollout)
        obs = torch.from_numpy(rollout.obs.reshape(-1, 2))
        far[weight] = float((ours.actor.net(obs) - ours.start(obs)).abs().mean().detach())
    assert far[100.0] < 0.3 * far[0.0]


def test_what_is_saved_comes_back():
    config = PPOConfig(batch_size=32)
    ours, other = learner(config), learner(config)
    ours.update(acted(ours))
    state = ours.state()
    for each in (ours, other):  # both draw the same from here on
        each.restore(state)
    rollout = acted(ours)
    other.noise(1, len(rollout.obs) * rollout.obs.shape[1])
    for each in (ours, other):
        each.update(rollout)
    assert unchanged(other, weights(ours)) and other.steps == ours.steps == 256
    assert all(torch.equal(v, other.state()[k]) for k, v in ours.state().items())


def test_bad_configurations_are_said():
    with pytest.raises(ValueError, match='gamma'):
        PPOConfig(gamma=0.0)
    with pytest.raises(ValueError, match='learning_rate'):
        PPOConfig(learning_rate=0.0)
    with pytest.raises(ValueError, match='adaptive needs target_kl'):
        PPOConfig(adaptive=True, target_kl=0.0)
