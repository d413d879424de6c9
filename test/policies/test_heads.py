import pytest
import torch
from torch import distributions

from il_robot.config import build
from il_robot.errors import ConfigError
from il_robot.policies.contract import ACTION_DIM, LAYOUT, random_batch
from il_robot.policies.heads import (
    GaussianConfig,
    GMMConfig,
    build_mlp_gaussian,
    build_mlp_gmm,
    log_likelihood,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def reference(log_weight, mean, std):
    return distributions.MixtureSameFamily(
        distributions.Categorical(logits=log_weight),
        distributions.Independent(distributions.Normal(mean, std), 1))


@pytest.mark.parametrize('modes', [1, 2, 5])
def test_log_likelihood_is_that_of_the_reference(modes):
    torch.manual_seed(modes)
    log_weight = torch.randn(7, modes, dtype=torch.float64).log_softmax(-1)
    mean, log_std = torch.randn(2, 7, modes, 3, dtype=torch.float64)
    action = 3 * torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(
        log_likelihood(action, log_weight, mean, log_std.exp()),
        reference(log_weight, mean, log_std.exp()).log_prob(action))


def test_far_away_it_is_still_finite():
    log_weight, mean, std = torch.zeros(1, 1), torch.zeros(1, 1, 2), torch.full((1, 1, 2), 1e-3)
    action = torch.full((1, 2), 100.0)
    value = log_likelihood(action, log_weight, mean, std)
    assert torch.isfinite(value) and float(value) == pytest.approx(-1e10, rel=1e-5)


def test_loss_is_the_negative_log_likelihood_per_number():
    policy = build_mlp_gmm(GMMConfig((16,), modes=3), LAYOUT, ACTION_DIM)
    batch = random_batch(policy, 9)
    expected = -reference(*policy.distribution(batch['features'])).log_prob(batch['action'][:, 0])
    torch.testing.assert_close(
        policy.loss(batch, generator())['loss'], expected.mean() / ACTION_DIM)


def test_weights_sum_to_one_and_deviations_have_a_floor():
    policy = build_mlp_gmm(GMMConfig((16,), modes=4, min_std=0.3), LAYOUT, ACTION_DIM)
    features = 1e3 * random_batch(policy, 50)['features']
    log_weight, mean, std = policy.distribution(features)
    torch.testing.assert_close(log_weight.exp().sum(-1), torch.ones(50))
    assert mean.shape == std.shape == (50, 4, ACTION_DIM) and std.min() >= 0.3


def test_a_gaussian_acts_by_its_mean_and_otherwise_around_it():
    torch.manual_seed(0)
    calm = build_mlp_gaussian(GaussianConfig((16,)), LAYOUT, ACTION_DIM)
    noisy = build_mlp_gaussian(GaussianConfig((16,), low_noise=False), LAYOUT, ACTION_DIM)
    noisy.load_state_dict(calm.state_dict())
    features = random_batch(calm, 1)['features'].expand(4000, -1, -1)
    _, mean, std = calm.distribution(features)
    torch.testing.assert_close(calm.predict({'features': features}, generator()), mean)
    samples = noisy.predict({'features': features}, generator())
    torch.testing.assert_close(samples.mean(0), mean[0], rtol=0, atol=0.05)
    torch.testing.assert_close(samples.std(0), std[0], rtol=0.05, atol=0)


def test_modes_are_drawn_by_their_weight_and_acted_by_their_mean():
    torch.manual_seed(0)
    policy = build_mlp_gmm(GMMConfig((16,), modes=3), LAYOUT, ACTION_DIM)
    features = random_batch(policy, 1)['features'].expand(4000, -1, -1)
    log_weight, mean, _ = policy.distribution(features)
    action = policy.predict({'features': features}, generator())
    is_mode = (action == mean).all(-1)  # (B, M)
    assert (is_mode.sum(-1) == 1).all()
    torch.testing.assert_close(is_mode.float().mean(0), log_weight[0].exp(), rtol=0, atol=0.03)


@pytest.mark.parametrize('values', [
    {'hidden': []}, {'n_obs_steps': 0}, {'min_std': 0.0}, {'min_std': -1.0}, {'modes': 1},
    {'min_std': float('inf')}, {'loss': 'l1'},
])
def test_bad_configurations_are_refused(values):
    with pytest.raises(ConfigError):
        build(GMMConfig, values)
