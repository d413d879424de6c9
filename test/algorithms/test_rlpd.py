import math
from dataclasses import dataclass, replace

import counting
import gymnasium as gym
import numpy as np
import pytest
import torch

from il_robot.algorithms.actor import Actor
from il_robot.algorithms.replay import Replay, Transitions
from il_robot.algorithms.rlpd import RLPD, RLPDConfig, Trainer
from il_robot.algorithms.worlds import Worlds
from il_robot.policies.mlp import mlp

CONFIG = RLPDConfig(gamma=0.9, n_step=1, batch_size=64, updates=1.0, actor_every=1, hidden=(32,),
                    learning_rate=3e-3, std=0.5, entropy=-2.0, temperature=0.1, warmup=200,
                    capacity=5000)


class Reach(gym.Env):
    """Bring a point to 0 in steps of at most 0.2; the reward is the success."""

    observation_space = gym.spaces.Box(-2, 2, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = float(self.np_random.choice([-1.0, 1.0]))
        self.count = 0
        return self._obs(), {}

    def _obs(self):
        return np.array([self.x], np.float32)

    def step(self, action):
        self.x = float(np.clip(self.x + 0.2 * action[0], -2, 2))
        self.count += 1
        done = abs(self.x) < 0.15
        return self._obs(), float(done), done, self.count >= 30, {'success': done}


@dataclass(frozen=True)
class Make:
    def __call__(self):
        return Reach()


def learner(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    return RLPD(Actor(mlp(1, (32,), 1), 1, config.std, 1.0), 1, 1, config, seed)


def demonstrations(gamma=0.9):
    replay = Replay(500, 1, 1, gamma)
    for start in (-1.0, 1.0):
        x = start - 0.2 * np.sign(start) * np.arange(6, dtype=np.float32)
        done = np.abs(x[1:]) < 0.15
        replay.extend(Transitions(
            x[:-1, None], np.full((5, 1), -np.sign(start), np.float32), done.astype(np.float32),
            x[1:, None], done))
    return replay


def train(shown, steps=1600, config=CONFIG):
    ended, ours = [], learner(config)
    with Worlds(Make(), 2, 0, processes=0) as worlds:
        trainer = Trainer(worlds, ours, shown, 0)
        trainer.run(steps, lambda step, losses: ended.extend(step.success[step.ended]))
    return ours, ended


def test_it_learns_from_a_reward_for_success_alone():
    ours, ended = train(demonstrations())
    assert np.mean(ended[-30:]) > 0.9
    x = torch.tensor([[-1.0], [-0.6], [0.6], [1.0]])
    assert torch.equal(torch.sign(ours.actor(x)).ravel(), -torch.sign(x).ravel())


def test_each_world_is_remembered_in_order_whichever_process_has_it():
    config = replace(CONFIG, updates=0.0, entropy=0.0)
    memories = []
    for _ in range(2):
        torch.manual_seed(0)
        with Worlds(counting.Make(), 4, 0, 2) as worlds:
            trainer = Trainer(worlds, RLPD(
                Actor(mlp(2, (8,), 1), 1, 0.5, 1.0), 2, 1, config, 0), None, 0)
            assert trainer.run(48, lambda step, losses: None)
            assert trainer.steps == 48
        found = {k: v[:len(trainer.online)] for k, v in trainer.online.arrays.items()}
        assert len(found['obs']) == 48
        steps, marks = found['obs'].T
        assert (found['next_obs'][:, 0] == steps + 1).all()
        assert (found['next_obs'][:, 1] == marks).all()
        assert (found['discount'] == np.where(steps == 4, 0, np.float32(0.9))).all()
        np.testing.assert_allclose(found['reward'], found['action'][:, 0])
        assert len(set(marks)) == 12  # episodes of 5 steps in 4 worlds, 12 steps each
        memories.append(found)
    for key, values in memories[0].items():
        np.testing.assert_array_equal(values, memories[1][key])


def filled(count=300):
    replay, rng = Replay(1000, 1, 1, 0.9), np.random.default_rng(0)
    for _ in range(count):
        x, a = rng.uniform(-1, 1, (2, 1)).astype(np.float32)
        replay.add(0, x, a, float(rng.uniform()), x, terminated=bool(rng.uniform() < 0.2),
                   truncated=False)
    return replay


def test_half_of_a_batch_is_demonstrations_and_they_come_first():
    ours, shown = learner(), demonstrations()
    batch = ours.batch(filled(), shown)
    assert batch['obs'].shape == (64, 1)
    known = torch.from_numpy(shown.arrays['obs'][:len(shown), 0])
    assert torch.isin(batch['obs'][:32, 0], known).all()
    assert not torch.isin(batch['obs'][32:, 0], known).any()
    assert ours.batch(filled(), None)['obs'].shape == (64, 1)


def test_the_actor_stays_until_the_warm_up_is_over():
    for warmup, moves in ((10**9, False), (0, True)):
        ours, _ = train(None, 300, replace(CONFIG, warmup=warmup))
        fresh = learner(replace(CONFIG, warmup=warmup))
        assert moves != torch.equal(ours.actor.net[0].weight, fresh.actor.net[0].weight)
        assert not torch.equal(ours.critics.weights[0], fresh.critics.weights[0])


def test_what_comes_out_is_the_mean_of_the_actors_weights():
    ours, memory = learner(replace(CONFIG, average=0.9)), filled()
    expected = ours.actor.net[0].weight.detach().clone()
    for step in range(1, 6):
        ours.update(ours.batch(memory, None), actor=True)
        decay = min(0.9, step / (10 + step))
        expected = decay * expected + (1 - decay) * ours.actor.net[0].weight.detach()
    torch.testing.assert_close(ours.mean.policy[0].weight.detach(), expected)
    other = learner(replace(CONFIG, average=0.9), seed=1)
    other.restore(ours.state())
    assert torch.equal(other.mean.policy[0].weight, ours.mean.policy[0].weight)
    newest = learner()
    newest.update(newest.batch(memory, None), actor=True)
    assert newest.mean.policy is newest.actor.net


def test_values_stay_between_the_least_and_the_greatest_return():
    ours, memory = learner(replace(CONFIG, low=0.0, high=1.0)), filled()
    memory.arrays['reward'][:] = 50.0
    for _ in range(100):
        out = ours.update(ours.batch(memory, None), actor=False)
    assert out['value'] == 1.0
    free = learner()
    for _ in range(100):
        out = free.update(free.batch(memory, None), actor=False)
    assert out['value'] > 10


def test_the_anchor_draws_to_what_was_demonstrated():
    far = {}
    for weight in (0.0, 100.0):
        ours, shown, memory = learner(replace(CONFIG, anchor=weight)), demonstrations(), filled()
        for _ in range(200):
            ours.update(ours.batch(memory, shown), actor=True, demonstrations=32)
        rows = {k: torch.from_numpy(v[:len(shown)]) for k, v in shown.arrays.items()}
        far[weight] = float((ours.actor(rows['obs']) - rows['action']).abs().mean().detach())
    assert far[100.0] < 0.1 < far[0.0]


def test_what_is_saved_comes_back():
    ours, other, memory = learner(), learner(seed=3), filled()
    for _ in range(20):
        ours.update(ours.batch(memory, None), actor=True)
    state = {k: v.clone() for k, v in ours.state().items()}
    for each in (ours, other):
        each.restore(state)
        each.update(each.batch(memory, None), actor=True)
    for key, value in ours.state().items():
        assert torch.equal(value, other.state()[key]), key


def test_bad_configurations_are_said():
    for values, words in (({'subset': 3}, 'subset'), ({'gamma': 0.0}, 'gamma'),
                          ({'demonstrations': 2.0}, 'demonstrations'), ({'n_step': 0}, 'n_step')):
        with pytest.raises(ValueError, match=words):
            RLPDConfig(**values)
    assert math.isinf(RLPDConfig().high)
