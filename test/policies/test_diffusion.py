import pytest
import torch

from il_robot.config import build
from il_robot.errors import ConfigError
from il_robot.policies.contract import ACTION_DIM, LAYOUT, random_batch
from il_robot.policies.diffusion import (
    DiffusionConfig,
    build_diffusion,
    ddim,
    ddim_levels,
    squared_cosine,
)

MEAN, DEVIATION = 0.4, 0.3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian_noise_in(signal):
    """The exact E[eps | x] of data N(MEAN, DEVIATION^2) at each level."""
    def noise_in(x, i):
        a = signal[i]
        return (1 - a)**0.5 * (x - a**0.5 * MEAN) / (a * DEVIATION**2 + 1 - a)
    return noise_in


@pytest.mark.parametrize('steps', [1, 2, 10, 100, 1000])
def test_the_signal_falls_from_almost_one_to_almost_nothing(steps):
    alpha_bar = squared_cosine(steps)
    assert alpha_bar.shape == (steps,) and (alpha_bar > 0).all() and (alpha_bar < 1).all()
    assert (alpha_bar.diff() < 0).all() and alpha_bar[-1] < 2e-3
    # the noise of one step, of which none removes everything
    ratio = alpha_bar / torch.cat([torch.ones(1), alpha_bar[:-1]])
    assert (ratio >= 1e-3 - 1e-12).all()
    assert steps < 100 or alpha_bar[0] > 0.999


def test_the_schedule_is_the_published_one():
    """Nichol and Dhariwal (17): f(k) / f(0), apart from the end, where the noise is limited."""
    k = torch.arange(1, 100, dtype=torch.float64)
    f = torch.cos((torch.stack([k, 0 * k]) / 100 + 0.008) / 1.008 * torch.pi / 2)**2
    torch.testing.assert_close(squared_cosine(100)[:-1], f[0] / f[1])


@pytest.mark.parametrize(('train_steps', 'steps'), [(100, 100), (100, 10), (100, 7), (5, 1)])
def test_levels_fall_to_the_cleanest(train_steps, steps):
    levels = ddim_levels(train_steps, steps)
    assert len(levels) == steps and levels[-1] == 0 and levels[0] < train_steps
    assert levels == sorted(set(levels), reverse=True)


def test_all_steps_from_pure_noise_give_the_distribution_of_the_data():
    signal = squared_cosine(100).flip(0).tolist()
    samples = ddim(gaussian_noise_in(signal), torch.randn(20_000, generator=generator()), signal)
    assert float(samples.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(samples.std()) == pytest.approx(DEVIATION, abs=0.03)


def test_few_steps_give_its_mean_too():
    levels = ddim_levels(100, 10)
    signal = squared_cosine(100)[levels].tolist()
    samples = ddim(gaussian_noise_in(signal), torch.randn(20_000, generator=generator()), signal)
    assert float(samples.mean()) == pytest.approx(MEAN, abs=0.1)


def test_clipping_bounds_the_chunk_and_changes_nothing_inside_the_bounds():
    signal = squared_cosine(100).flip(0).tolist()[1:]
    noise = torch.randn(500, generator=generator())
    noise_in = gaussian_noise_in(signal)
    assert ddim(noise_in, noise, signal, clip=MEAN).abs().max() <= MEAN
    torch.testing.assert_close(ddim(noise_in, noise, signal, clip=1e3), ddim(
        noise_in, noise, signal), rtol=1e-4, atol=1e-4)


def test_prediction_conditions_every_step_on_its_own_level():
    config = DiffusionConfig(6, train_steps=20, ddim_steps=4, widths=(8, 16), clip=0.5)
    policy = build_diffusion(config, LAYOUT, ACTION_DIM).eval()
    features = random_batch(policy, 3)['features']
    levels = ddim_levels(20, 4)

    def noise_in(x, i):
        film = policy._modulation(features.flatten(1), torch.full((3,), levels[i]))
        return policy.unet(x, film)

    x = torch.randn(3, ACTION_DIM, 6, generator=generator(3))
    expected = ddim(noise_in, x, squared_cosine(20)[levels].tolist(), 0.5)
    predicted = policy.predict({'features': features}, generator(3))
    torch.testing.assert_close(predicted, expected.transpose(1, 2))
    assert predicted.abs().max() <= 0.5


def test_noise_at_every_level_has_unit_variance_and_the_loss_of_a_silent_net_is_one():
    policy = build_diffusion(DiffusionConfig(8, widths=(8,)), LAYOUT, ACTION_DIM).eval()
    torch.nn.init.zeros_(policy.unet.outlet[-1].weight)
    torch.nn.init.zeros_(policy.unet.outlet[-1].bias)
    loss = policy.loss(random_batch(policy, 500), generator())['loss']
    assert float(loss.detach()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize('prediction', ['noise', 'sample'])
def test_both_ways_of_a_fork_are_sampled_and_not_their_mean(prediction):
    """Demonstrations go left or right from one observation: +0.5 or -0.5."""
    torch.manual_seed(0)
    config = DiffusionConfig(
        2, train_steps=20, ddim_steps=20, prediction=prediction, widths=(16,), kernel_size=3)
    policy = build_diffusion(config, LAYOUT, 1)
    random, features = generator(), torch.zeros(128, 1, LAYOUT.dim)
    optimizer = torch.optim.Adam(policy.parameters(), 1e-2)
    for _ in range(200):
        side = torch.randint(2, (128, 1, 1), generator=random) - 0.5
        batch = {'features': features, 'action': side.expand(-1, 2, 1)}
        optimizer.zero_grad()
        policy.loss(batch, random)['loss'].backward()
        optimizer.step()
    with torch.inference_mode():
        chunks = policy.eval().predict({'features': features}, random)[..., 0]
    assert ((chunks.abs() - 0.5).abs() < 0.2).float().mean() > 0.85
    assert 0.3 < (chunks > 0).float().mean() < 0.7
    assert (chunks[:, 0] * chunks[:, 1] > 0).float().mean() > 0.9


@pytest.mark.parametrize('values', [
    {'chunk_size': 0}, {'n_obs_steps': 0}, {'train_steps': 0}, {'ddim_steps': 0},
    {'ddim_steps': 101}, {'clip': -1.0}, {'widths': []}, {'widths': [12]}, {'widths': [0]},
    {'kernel_size': 4}, {'groups': 0}, {'time_dim': 3}, {'width': 64},
])
def test_bad_configurations_are_refused(values):
    with pytest.raises(ConfigError):
        build(DiffusionConfig, values)
