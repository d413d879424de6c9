import math

import pytest
import torch
from torch import distributions as d

from il_robot.algorithms.actor import Actor, Categorical, CorrelatedNoise
from il_robot.policies.mlp import mlp

OBS = torch.linspace(-1, 1, 15).reshape(5, 3)


def actor(limit=math.inf, std=0.3):
    torch.manual_seed(0)
    return Actor(mlp(3, (8,), 2), 2, std, limit)


def test_densities_are_those_of_torch():
    for limit in (math.inf, 0.5, 3.0):
        ours = actor(limit)
        action, log_p = ours.sample(OBS, torch.Generator().manual_seed(1))
        normal = d.Normal(ours.net(OBS), ours.std().expand(5, 2))
        if math.isinf(limit):
            expected = normal.log_prob(action)
            assert torch.allclose(ours.log_prob(OBS, action), log_p, atol=1e-5)
        else:
            squashed = d.TransformedDistribution(normal, [
                d.TanhTransform(), d.AffineTransform(0.0, limit)])
            expected = squashed.log_prob(action)
            assert action.abs().max() < limit
        assert torch.allclose(expected.sum(-1), log_p, atol=1e-3)


def test_without_noise_it_is_the_network_and_nothing_leaves_the_limit():
    ours = actor(0.5)
    assert torch.equal(ours(OBS), 0.5 * torch.tanh(ours.net(OBS)))
    assert torch.equal(ours.act(OBS, torch.zeros(5, 2)), ours(OBS))
    assert ours.act(OBS, torch.full((5, 2), 100.0)).abs().max() <= 0.5
    with pytest.raises(ValueError, match='density'):
        ours.log_prob(OBS, ours(OBS))


def test_divergence_and_entropy_are_those_of_gaussians():
    ours = actor()
    one, other = ours.net(OBS), ours.net(OBS) + 0.1
    normals = [d.Normal(m, ours.std().expand(5, 2)) for m in (one, other)]
    assert torch.allclose(ours.divergence(one, other), d.kl_divergence(*normals).sum(-1))
    assert torch.allclose(ours.entropy().expand(5), normals[0].entropy().sum(-1))


def test_choices_are_drawn_by_their_probability():
    torch.manual_seed(0)
    ours = Categorical(mlp(3, (8,), 4), 4)
    many = OBS[:1].expand(20_000, 3)
    action, log_p = ours.sample(many, torch.Generator().manual_seed(0))
    share = torch.bincount(action, minlength=4) / len(action)
    expected = ours.net(OBS[:1]).softmax(-1)[0]
    assert torch.allclose(share, expected, atol=0.02)
    assert torch.allclose(ours.log_prob(many, action), log_p)
    assert int(ours(OBS[:1])) == int(expected.argmax())
    logits = ours.net(OBS), ours.net(OBS) + torch.tensor([1.0, 0, 0, 0])
    assert torch.allclose(ours.divergence(*logits), d.kl_divergence(
        *(d.Categorical(logits=v) for v in logits)), atol=1e-6)


@pytest.mark.parametrize('correlation', [0.0, 0.8, 0.99])
def test_correlated_noise_stays_standard_normal_and_as_alike_as_asked(correlation):
    noise = CorrelatedNoise((2000, 1), correlation, torch.Generator().manual_seed(0))
    values = torch.stack([noise.next().clone() for _ in range(50)])
    assert values[-1].std() == pytest.approx(1.0, abs=0.06)
    assert (values[-1] * values[-2]).mean() == pytest.approx(correlation, abs=0.08)
