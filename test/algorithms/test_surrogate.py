"""Gradients that are written out against autograd's, for PPO and its critic."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from apart import Apart
from torch import nn

from il_robot.algorithms.actor import LEAST_LOG_STD, MOST_LOG_STD, Actor
from il_robot.algorithms.methods import AnswerNet
from il_robot.algorithms.ppo import PPO, PPOConfig
from il_robot.algorithms.rollout import Rollout
from il_robot.algorithms.surrogate import SurrogateGradient
from il_robot.policies.backpropagation import Perceptron
from il_robot.policies.features import FeatureLayout
from il_robot.policies.mlp import ChunkMLPConfig, MLPPolicy, mlp

CONFIG = PPOConfig(batch_size=32, epochs=3, target_kl=0, max_kl=0, learning_rate=1e-3, critic=(8,))


def learner(config, std=0.3, hidden=False):
    torch.manual_seed(0)
    net = mlp(3, (8, 6), 2)
    actor = Actor(Apart(net) if hidden else net, 2, std)
    return PPO(actor, 3, config, 0)


def rollout(learned, seed=0):
    """Of the actor that was a while ago: ratios on both sides of the clip."""
    rng = np.random.default_rng(seed)
    obs = rng.normal(size=(33, 2, 3)).astype(np.float32)
    flat = torch.from_numpy(obs.reshape(-1, 3))
    action, log_p = learned.act(flat.numpy(), *learned.noise(1, len(flat)))
    log_p = log_p + 0.3 * rng.normal(size=log_p.shape).astype(np.float32)
    ended = rng.uniform(size=obs.shape[:2]) < 0.2
    return Rollout(obs, action.reshape(33, 2, 2), log_p.reshape(33, 2), rng.normal(
        size=obs.shape[:2]), rng.normal(size=obs.shape).astype(np.float32), ended, ended)


OPTIONS = pytest.mark.parametrize('options', [
    {}, {'entropy': 0.1}, {'anchor': 2.0, 'anchor_end': 1.0, 'anchor_steps': 100},
    {'grad_clip': 0.0, 'clip': 0.05, 'anchor': 1.0, 'entropy': 0.01}])


@OPTIONS
@pytest.mark.parametrize('std', [0.3, np.exp(LEAST_LOG_STD) / 2, np.exp(MOST_LOG_STD) * 2])
def test_it_is_autograds(options, std):
    ours = learner(replace(CONFIG, **options), std)
    assert isinstance(ours._gradient, SurrogateGradient)
    flat = rollout(ours)
    batch = {'obs': flat.obs, 'action': flat.action, 'log_p': flat.log_p,
             'gain': np.float32(flat.reward)}
    batch = {k: torch.from_numpy(v.reshape(66, *v.shape[2:])) for k, v in batch.items()}
    if 'anchor' in options:
        batch['start'] = batch['action'] + 0.1
    (losses, found), (expected, wanted) = (
        gradient(batch, ours.config.clip, ours.config.entropy, 0.7)
        for gradient in (ours._gradient, ours._autograd))
    assert losses.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, rtol=1e-4, atol=1e-6)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))
    inside = std == 0.3
    assert found[0].any() == inside  # beyond its bounds the deviation has no slope


@OPTIONS
def test_it_trains_as_autograd_does(options):
    ours, reference = (learner(replace(CONFIG, **options), hidden=hidden) for hidden in (0, 1))
    assert reference._gradient == reference._autograd
    for turn in range(3):
        losses, expected = (
            each.update(rollout(each, turn)) for each in (ours, reference))
        assert losses.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(losses[key].float(), value.float(), rtol=1e-3, atol=1e-5)
    for found, wanted in zip(ours.actor.parameters(), reference.actor.parameters()):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_of_a_chunk_only_the_first_steps_are_learned():
    torch.manual_seed(0)
    trunk = mlp(3, (8,), 6)
    net, x = Perceptron(trunk, 4), torch.randn(5, 3)
    slope = torch.randn(5, 4)
    answer = trunk(x)[:, :4]
    expected = torch.autograd.grad((answer * slope).sum(), list(trunk.parameters()))
    with torch.inference_mode():
        for _ in range(2):
            torch.testing.assert_close(net.forward(x), answer)
            net.slope.copy_(slope)
            gradients = net.backward()
            for found, wanted in zip(gradients, expected, strict=True):
                torch.testing.assert_close(found, wanted)
            for found in gradients:  # a clipped gradient that was no number
                found.fill_(torch.nan)


def test_a_gradient_that_is_no_number_does_not_stay_in_what_is_not_asked_for():
    policy = MLPPolicy(ChunkMLPConfig((8,), chunk_size=4), FeatureLayout(('a', 'b', 'c')), 1, 4)
    actor = Actor(AnswerNet(policy, 2), 2, 0.3)
    ours = PPO(actor, 3, replace(CONFIG, max_kl=1.0), 0)
    assert isinstance(ours._gradient, SurrogateGradient)
    bad = rollout(ours)
    ours.update(replace(bad, log_p=bad.log_p * np.nan))
    assert ours.undone == 1
    for turn in range(2):
        assert ours.update(rollout(ours, turn))['kl'] < 1.0
    assert ours.undone == 1


def spectral(net):
    torch.nn.utils.spectral_norm(net[0])
    return net


def hooked(net):
    net[0].register_forward_hook(lambda module, given, answer: 2 * answer)
    return net


def frozen(net):
    net[0].weight.requires_grad_(False)
    return net


class Named(Apart):
    """With a part that happens to have the name of a method."""

    def __init__(self, net):
        super().__init__(net)
        self.perceptron = net


def test_what_is_no_perceptron_is_left_to_autograd():
    twice = nn.Linear(3, 3)
    others = [nn.Sequential(nn.Linear(3, 8), nn.Tanh()), nn.Sequential(nn.Linear(3, 8), nn.ReLU()),
              nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)),
              nn.Sequential(nn.Linear(3, 8, bias=False), nn.ReLU(), nn.Linear(8, 2)),
              nn.Sequential(twice, nn.ReLU(), twice)]
    others += [change(mlp(3, (8,), 2)) for change in (Apart, Named, spectral, hooked, frozen)]
    assert Perceptron.of(mlp(3, (8,), 2)) is not None
    assert not any(Perceptron.of(net) for net in others)


def test_ppo_has_no_density_for_squashed_actions():
    with pytest.raises(ValueError, match='without limit'):
        PPO(Actor(mlp(3, (8,), 2), 2, 0.3, 1.0), 3, CONFIG, 0)
