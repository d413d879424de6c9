import pytest
import torch

from il_robot.config import build
from il_robot.errors import ConfigError
from il_robot.policies.contract import ACTION_DIM, LAYOUT, random_batch
from il_robot.policies.flow import FlowConfig, build_flow, euler


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize('steps', [1, 2, 5, 10])
def test_a_straight_flow_is_followed_exactly(steps):
    goal, noise = torch.randn(2, 3, 4, generator=generator())
    torch.testing.assert_close(euler(lambda x, k: goal, noise, steps), goal, rtol=0, atol=0)


def test_each_step_is_an_euler_step_of_the_velocity():
    """x + h u_t with u_t = (x1 - x) / (1 - t), for a prediction that depends on x and t."""
    def clean(x, k):
        return torch.sin(3 * x) + k

    steps, x = 4, torch.randn(5, 2, generator=generator())
    expected = x
    for k in range(steps):
        t = k / steps
        expected = expected + (clean(expected, k) - expected) / (1 - t) / steps
    torch.testing.assert_close(euler(clean, x, steps), expected)


def test_the_flow_of_a_gaussian_has_its_mean_and_deviation():
    """With E[x1 | x_t] of N(m, s^2) as the network, noise becomes a sample of N(m, s^2)."""
    m, s, steps = 2.0, 0.5, 400

    def clean(x, k):
        t = k / steps
        gain = t * s**2 / (t**2 * s**2 + (1 - t)**2)
        return m + gain * (x - t * m)

    samples = euler(clean, torch.randn(20_000, generator=generator()), steps)
    assert float(samples.mean()) == pytest.approx(m, abs=0.02)
    assert float(samples.std()) == pytest.approx(s, abs=0.02)


def test_prediction_conditions_every_step_on_its_own_time():
    policy = build_flow(FlowConfig(4, width=16, depth=2, euler_steps=3), LAYOUT, ACTION_DIM).eval()
    features = random_batch(policy, 5)['features']
    x = torch.randn(5, 4 * ACTION_DIM, generator=generator(3))
    for k in range(3):
        film = policy.net.modulation(features.flatten(1), torch.full((5,), k / 3))
        x = x + (policy.net(x, film) - x) / (3 - k)
    predicted = policy.predict({'features': features}, generator(3))
    torch.testing.assert_close(predicted.flatten(1), x)


def test_both_ways_of_a_fork_are_sampled_and_not_their_mean():
    """Demonstrations go left or right from one observation: +1 or -1."""
    torch.manual_seed(0)
    policy = build_flow(FlowConfig(2, width=64, depth=1), LAYOUT, 1)
    random, features = generator(), torch.zeros(128, 1, LAYOUT.dim)
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
    for _ in range(300):
        side = torch.randint(2, (128, 1, 1), generator=random) * 2.0 - 1
        batch = {'features': features, 'action': side.expand(-1, 2, 1).contiguous()}
        optimizer.zero_grad()
        policy.loss(batch, random)['loss'].backward()
        optimizer.step()
    with torch.inference_mode():
        chunks = policy.eval().predict({'features': features}, random)[..., 0]
    assert ((chunks.abs() - 1).abs() < 0.3).float().mean() > 0.85
    assert 0.3 < (chunks > 0).float().mean() < 0.7
    assert (chunks[:, 0] * chunks[:, 1] > 0).float().mean() > 0.9


@pytest.mark.parametrize('values', [
    {'chunk_size': 0}, {'n_obs_steps': 0}, {'euler_steps': 0}, {'euler_steps': 11}, {'width': 0},
    {'depth': 0}, {'time_dim': 7}, {'time_dim': 0}, {'hidden': [3]},
])
def test_bad_configurations_are_refused(values):
    with pytest.raises(ConfigError):
        build(FlowConfig, values)
