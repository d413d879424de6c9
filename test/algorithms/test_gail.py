import numpy as np
import pytest
import torch

from il_robot.algorithms.gail import GAIL, GAILConfig
from il_robot.algorithms.rollout import Rollout

RNG = np.random.default_rng(0)
OBS = RNG.normal(size=(300, 3)).astype(np.float32)
ACTION = OBS[:, :2] + 0.1 * RNG.normal(size=(300, 2)).astype(np.float32)


def rollout(action):
    shape = 150, 2
    zeros = np.zeros(shape, np.float32)
    obs = OBS.reshape(*shape, 3)
    return Rollout(obs, action.reshape(*shape, *action.shape[1:]), zeros, zeros, obs,
                   zeros > 0, zeros > 0)


def taught(action, choices=0, rounds=20, expert=ACTION, **options):
    gail = GAIL(OBS, expert, choices, GAILConfig(**options), 0)
    for _ in range(rounds):
        reward, losses = gail(rollout(action))
    return gail, reward, losses


@pytest.mark.parametrize('options', [{}, {'penalty': 0.0, 'spectral': True}, {'noise': 0.1}])
def test_what_is_not_demonstrated_is_told_apart_and_rewarded_less(options):
    gail, reward, losses = taught(-ACTION, **options)
    assert losses['expert_accuracy'] > 0.7 and losses['policy_accuracy'] > 0.7
    own, _ = gail(rollout(ACTION))
    assert own.mean() > reward.mean() + 0.3


def test_the_expert_cannot_be_told_from_himself():
    _, reward, losses = taught(ACTION)
    assert losses['discriminator_loss'] == pytest.approx(2 * np.log(2), abs=0.1)
    assert abs(reward.mean()) < 0.2


def test_choices_are_told_apart_too():
    expert = (OBS[:, 0] > 0).astype(np.int64)
    _, _, losses = taught(1 - expert, choices=2, expert=expert)
    assert losses['expert_accuracy'] > 0.8


def test_the_rewards_are_what_they_are_called():
    pairs = torch.randn(50, 5)
    made = {name: GAIL(OBS, ACTION, 0, GAILConfig(reward=name), 0)
            for name in ('airl', 'gail', 'log')}
    own = made['airl'].net(pairs)[:, 0].detach()
    chance = torch.sigmoid(own)
    for name, expected in (('airl', own), ('gail', -torch.log(1 - chance)),
                           ('log', torch.log(chance))):
        assert torch.allclose(made[name].reward(pairs), expected, atol=1e-5), name


def test_bad_input_is_said():
    with pytest.raises(ValueError, match='as many observations as actions'):
        GAIL(OBS, ACTION[:10], 0, GAILConfig(), 0)
    with pytest.raises(ValueError, match='penalty'):
        GAILConfig(penalty=-1.0)
