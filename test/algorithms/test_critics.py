"""The critics, and their gradients against autograd's."""

import math

import numpy as np
import pytest
import torch
from apart import Apart
from torch.nn import functional

from il_robot.algorithms.actor import Actor
from il_robot.algorithms.critics import Critics, WrittenOut
from il_robot.algorithms.rlpd import RLPD, RLPDConfig
from il_robot.policies.mlp import mlp


@pytest.fixture
def critics():
    torch.manual_seed(0)
    made = Critics(5, (8, 6), 3)
    for parameter in made.parameters():  # gains and shifts, too
        parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return made


def test_they_are_networks_of_their_own(critics):
    x = torch.randn(7, 5)
    for e, values in enumerate(critics(x)):
        y = x
        for i, gain in enumerate(critics.gains):
            y = y @ critics.weights[i][e] + critics.biases[i][e]
            y = functional.layer_norm(y, y.shape[-1:], gain[e, 0], critics.shifts[i][e, 0])
            y = torch.relu(y)
        y = y @ critics.weights[-1][e] + critics.biases[-1][e]
        torch.testing.assert_close(values, y[:, 0], rtol=1e-4, atol=1e-5)


def test_written_out_they_are_the_same(critics):
    ours = WrittenOut(critics)
    for rows in (7, 4, 7):
        x, target = torch.randn(rows, 5, requires_grad=True), torch.randn(rows)
        values = critics(x)
        torch.testing.assert_close(ours.values(x.detach()), values)

        expected = (values - target).square().mean()
        wanted = torch.autograd.grad(expected, list(critics.parameters()), retain_graph=True)
        loss, gradients = ours.error(x.detach(), target)
        torch.testing.assert_close(loss, expected)
        for found, each in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(found, each, rtol=1e-4, atol=1e-6)

        before = [g.clone() for g in gradients]
        mean, slope = ours.slope(x.detach())
        torch.testing.assert_close(mean, values.mean())
        torch.testing.assert_close(
            slope, *torch.autograd.grad(values.mean(), x), rtol=1e-4, atol=1e-6)
        assert all(torch.equal(a, b) for a, b in zip(before, gradients))


def test_they_follow_their_weights(critics):
    ours, x = WrittenOut(critics), torch.randn(7, 5)
    before = ours.values(x).clone()
    other = Critics(5, (8, 6), 3)
    critics.load_state_dict(other.state_dict())
    torch.testing.assert_close(ours.values(x), other(x))
    assert not torch.allclose(before, ours.values(x))


def by_autograd(learner, batch, demonstrations):
    """The gradients of the actor's whole loss, as Haarnoja et al. (2018) write it."""
    config, actor, noise = learner.config, learner.actor, learner.actor.noise
    generator = torch.Generator()
    generator.set_state(learner._generator.get_state())
    mean = actor.net(batch['obs'])
    action, log_p = actor.around(mean, noise(len(mean), generator))
    value = learner.critics(torch.cat([batch['obs'], action], 1)).mean(0)
    temperature = learner.tuned.log_temperature.exp()
    loss = (temperature.detach() * log_p - value).mean()
    if not math.isinf(actor.limit):
        loss = loss + config.shrink * mean.square().mean()
    near = actor(batch['obs'][:demonstrations])
    loss = loss + config.anchor * (near - batch['action'][:demonstrations]).square().mean()
    held = temperature * (-log_p.detach().mean() - learner._entropy)
    return loss.detach(), torch.autograd.grad(loss + held, list(learner.tuned.parameters()))


@pytest.mark.parametrize('hidden', [False, True])
@pytest.mark.parametrize('limit', [math.inf, 0.5])
@pytest.mark.parametrize('options', [
    {}, {'shrink': 0.5, 'anchor': 3.0}, {'critics': 4, 'subset': 2, 'temperature': 2.0}])
def test_the_actor_follows_the_gradient_of_its_loss(options, limit, hidden):
    config = RLPDConfig(batch_size=16, hidden=(8, 8), **options)
    torch.manual_seed(0)
    net = mlp(3, (8,), 2)
    learner = RLPD(Actor(Apart(net) if hidden else net, 2, 0.3, limit), 3, 2, config, 0)
    assert (learner._net is None) == hidden
    followed, rng = [], np.random.default_rng(0)
    learner._actor_step.update = lambda gradients, rate: followed.extend(
        g.clone() for g in gradients)
    for _ in range(2):
        batch = {key: torch.from_numpy(rng.normal(size=(16, *shape)).astype(np.float32))
                 for key, shape in (('obs', (3,)), ('action', (2,)))}
        loss, wanted = by_autograd(learner, batch, 6)
        followed.clear()
        torch.testing.assert_close(learner._update_actor(batch, 6)['actor_loss'], loss)
        for found, each in zip(followed, wanted, strict=True):
            torch.testing.assert_close(found, each, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('limit', [math.inf, 0.5])
@pytest.mark.parametrize('options', [{}, {'critics': 4, 'subset': 2, 'average': 0.9}])
def test_networks_written_out_or_not_learn_the_same(options, limit):
    learners = []
    for hidden in (False, True):
        config = RLPDConfig(
            batch_size=16, actor_every=1, hidden=(8, 8), learning_rate=1e-3, **options)
        torch.manual_seed(0)
        net = mlp(3, (8,), 2)
        learners.append(RLPD(Actor(Apart(net) if hidden else net, 2, 0.3, limit), 3, 2, config, 0))
    rng = np.random.default_rng(0)
    for _ in range(5):
        batch = {key: torch.from_numpy(rng.normal(size=(16, *shape)).astype(np.float32))
                 for key, shape in (('obs', (3,)), ('action', (2,)), ('reward', ()),
                                    ('next_obs', (3,)), ('discount', ()))}
        found, wanted = (
            each.update(batch, actor=True, demonstrations=6) for each in learners)
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-5)
    for (name, found), wanted in zip(
            learners[0].tuned.named_parameters(), learners[1].tuned.parameters()):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5, msg=name)
