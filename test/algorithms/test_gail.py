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


def test_what_the_expert_never_varies_is_not_a_proof_of_its_own():
    still = np.concatenate([ACTION, np.zeros((len(ACTION), 1), np.float32)], 1)
    noisy = still + 0.1 * np.eye(3, dtype=np.float32)[2] * RNG.normal(size=(300, 1)).astype('f4')
    _, reward, losses = taught(noisy, expert=still, rounds=5)
    assert abs(reward.mean()) < 0.5 and losses['discriminator_loss'] > 1.0


def test_actions_are_judged_as_they_were_done():
    bounds = np.full(2, -1, np.float32), np.full(2, 1, np.float32)

    def rewarded(action):
        gail = GAIL(OBS, ACTION.clip(*bounds), 0, GAILConfig(), 0, bounds)
        return [gail(rollout(a))[0] for a in (-ACTION, action)][1]

    far = 10 * ACTION
    np.testing.assert_array_equal(rewarded(far), rewarded(far.clip(*bounds)))


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
