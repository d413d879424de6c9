import pytest
import torch

from il_robot.config import build
from il_robot.errors import ConfigError
from il_robot.policies.act import ACTConfig, Posterior, build_act, divergence
from il_robot.policies.contract import ACTION_DIM, LAYOUT, random_batch
from il_robot.policies.features import FeatureLayout

SMALL = {'chunk_size': 6, 'dim': 16, 'heads': 2, 'feedforward': 32, 'encoder_layers': 1,
         'posterior_layers': 2, 'latent_dim': 4}


def config(**values):
    return ACTConfig(**{**SMALL, **values})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_divergence_is_zero_at_the_prior_and_the_known_one_elsewhere():
    zero = torch.zeros(3, 4)
    assert torch.equal(divergence(zero, zero), torch.zeros(3))
    mean, log_variance = torch.randn(3, 4), torch.randn(3, 4)
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    p = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(q, p).sum(-1)
    torch.testing.assert_close(divergence(mean, log_variance), expected)


def test_loss_is_made_of_its_parts():
    policy = build_act(config(kl_weight=3.0), LAYOUT, ACTION_DIM).eval()
    batch = random_batch(policy, 5)
    losses = policy.loss(batch, generator())
    torch.testing.assert_close(losses['loss'], losses['l1'] + 3 * losses['kl'])
    weighted = policy.loss({**batch, 'weight': torch.tensor([0.0, 0, 2, 0, 0])}, generator())
    one = policy.loss({k: v[2:3] for k, v in batch.items()}, generator())
    torch.testing.assert_close(weighted['kl'], one['kl'])


@pytest.mark.parametrize('pre_norm', [False, True])
def test_posterior_of_a_padded_chunk_is_that_of_the_shorter_chunk(pre_norm):
    long = Posterior(config(pre_norm=pre_norm), 3, ACTION_DIM).eval()
    short = Posterior(config(pre_norm=pre_norm, chunk_size=4), 3, ACTION_DIM).eval()
    short.load_state_dict(long.state_dict())
    state, action = torch.randn(2, 3), torch.randn(2, 6, ACTION_DIM)
    is_pad = torch.arange(6).expand(2, 6) >= 4
    padded = long(state, action, is_pad)
    torch.testing.assert_close(padded, short(state, action[:, :4], None))
    action[:, 3] += 1  # a real step
    assert not torch.allclose(long(state, action, is_pad)[0], padded[0])


def test_running_draws_nothing_and_stands_at_the_mean_of_the_prior():
    policy = build_act(config(), LAYOUT, ACTION_DIM).eval()
    batch = {'features': random_batch(policy, 3)['features']}
    random, before = generator(1), generator(1).get_state()
    action = policy.predict(batch, random)
    assert torch.equal(random.get_state(), before)
    assert torch.equal(action, policy.predict(batch, generator(2)))
    for other in policy.posterior.parameters():
        torch.nn.init.normal_(other)
    assert torch.equal(action, policy.predict(batch, generator(1)))
    with torch.no_grad():
        policy.latent_in.weight.add_(1.0)
    assert torch.equal(action, policy.predict(batch, generator(1)))


def test_loss_takes_its_noise_from_the_generator():
    policy = build_act(config(), LAYOUT, ACTION_DIM).eval()
    batch = random_batch(policy, 3)
    first, again, other = (policy.loss(batch, generator(seed))['l1'] for seed in (0, 0, 1))
    assert first == again != other


def test_latent_tells_two_ways_of_doing_the_same_thing_apart():
    policy = build_act(config(kl_weight=1e-3, dropout=0.0), LAYOUT, ACTION_DIM)
    features = torch.randn(1, 1, LAYOUT.dim).expand(8, -1, -1)
    way = torch.tensor([1.0, -1.0]).repeat(4)[:, None, None]
    batch = {'features': features, 'action': way.expand(8, policy.chunk_size, ACTION_DIM)}
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
    random = generator()
    for _ in range(150):
        losses = policy.loss(batch, random)
        optimizer.zero_grad()
        losses['loss'].backward()
        optimizer.step()
    assert losses['l1'] < 0.5  # the best without z is 1


def test_a_robot_without_objects_has_one_token_less():
    policy = build_act(config(), FeatureLayout(('a', 'b', 'c')), 3).eval()
    assert policy.positions.shape == (2, SMALL['dim'])
    assert policy.predict({'features': torch.randn(2, 1, 3)}, generator()).shape == (2, 6, 3)


@pytest.mark.parametrize(('values', 'match'), [
    ({'dim': 18, 'heads': 4}, 'multiple of heads = 4'), ({'dim': 9, 'heads': 3}, 'even'),
    ({'chunk_size': 0}, 'chunk_size must be >= 1'), ({'dropout': 1.0}, r'in \[0, 1\)'),
    ({'kl_weight': -1.0}, 'kl_weight must be >= 0'), ({'width': 3}, 'width'),
])
def test_bad_configurations_are_refused(values, match):
    with pytest.raises(ConfigError, match=match):
        build(ACTConfig, values)
