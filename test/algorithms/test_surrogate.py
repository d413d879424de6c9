"""Gradients that are written out against autograd's, for PPO and its critic."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from apart import Apart
from torch import nn

from il_robot.algorithms.actor import LEAST_LOG_STD, MOST_LOG_STD, Actor
from il_robot.algorithms.ppo import PPO, PPOConfig
from il_robot.algorithms.rollout import Rollout
from il_robot.algorithms.surrogate import SurrogateGradient
from il_robot.policies.backpropagation import Perceptron
from il_robot.policies.mlp import mlp

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
        gradient(batch, 0.7) for gradient in (ours._gradient, ours._autograd))
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
        torch.testing.assert_close(net.forward(x), answer)
        net.slope.copy_(slope)
        for found, wanted in zip(net.backward(), expected, strict=True):
            torch.testing.assert_close(found, wanted)


def test_what_is_no_perceptron_is_left_to_autograd():
    assert Perceptron.of(mlp(3, (8,), 2)) is not None
    frozen = mlp(3, (8,), 2)
    frozen[0].weight.requires_grad_(False)
    others = (Apart(mlp(3, (8,), 2)), frozen, nn.Sequential(nn.Linear(3, 8), nn.Tanh()),
              nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)),
              nn.Sequential(nn.Linear(3, 8), nn.ReLU()))
    assert not any(Perceptron.of(net) for net in others)
