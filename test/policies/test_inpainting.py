from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import il_robot.sim as sim
from il_robot.data.normalizer import fit_normalizer
from il_robot.errors import ConfigError
from il_robot.policies.checkpoint import Checkpoint
from il_robot.policies.contract import ACTION_DIM, LAYOUT, random_batch
from il_robot.policies.diffusion import DiffusionConfig
from il_robot.policies.features import FeatureLayout
from il_robot.policies.flow import FlowConfig, euler
from il_robot.policies.inpainting import BETA, Inpainting, guidance, inpaint, mask
from il_robot.policies.mlp import ChunkMLPConfig
from il_robot.policies.registry import make_policy
from il_robot.policies.runner import PolicyRunner
from il_robot.types import Observation

T = 8
CONFIGS = {
    'flow': FlowConfig(T, euler_steps=4, width=16, depth=1, time_dim=8),
    'diffusion': DiffusionConfig(T, ddim_steps=4, widths=(8, 16), groups=4, time_dim=8, clip=0.0),
}
SPEC = sim.default_robot()


def made(name, **changes):
    torch.manual_seed(0)
    return make_policy(name, replace(CONFIGS[name], **changes), LAYOUT, ACTION_DIM).eval()


def case(policy):
    generator = torch.Generator().manual_seed(1)
    batch = {'features': random_batch(policy, 2)['features']}
    plan = torch.randn(2, T, ACTION_DIM, generator=generator)
    return batch, policy.draw(2, generator), plan


@settings(max_examples=50, deadline=None)
@given(frozen=st.integers(0, 12), overlap=st.integers(0, 12))
def test_committed_steps_count_whole_and_later_ones_less_and_less(frozen, overlap):
    weights = mask(frozen, overlap, T)
    assert weights.shape == (T,) and (weights[:min(frozen, overlap)] == 1).all()
    assert (weights.diff() <= 0).all() and ((weights >= 0) & (weights <= 1)).all()
    assert (weights[overlap:] == 0).all()
    assert (weights[frozen:overlap] > 0).all() and (weights[frozen:overlap] < 1).all()


def test_the_mask_is_the_formula_of_the_paper():
    d, overlap = 2, 6  # overlap is H - s
    c = (overlap - np.arange(d, overlap)) / (overlap - d + 1)
    expected = [1, 1, *(c * (np.exp(c) - 1) / (np.e - 1)), 0, 0]
    np.testing.assert_allclose(mask(d, overlap, T), expected, rtol=1e-6)


def test_the_guidance_is_cut_where_there_is_only_noise():
    assert guidance(0.0) == guidance(1e-3) == BETA
    assert guidance(0.5) == pytest.approx(2.0) and all(0 < guidance(t) <= BETA for t in (0.3, 0.9))


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('method', ['replace', 'guide'])
def test_without_weights_it_is_the_policy_itself(name, method):
    policy = made(name)
    batch, noise, plan = case(policy)
    with torch.no_grad():
        found = inpaint(policy, batch, noise, Inpainting(plan, torch.zeros(T), method))
        torch.testing.assert_close(found, policy(batch, noise), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('prediction', ['noise', 'sample'])
def test_what_diffusion_predicts_does_not_matter(prediction):
    policy = made('diffusion', prediction=prediction)
    batch, noise, plan = case(policy)
    with torch.no_grad():
        found = inpaint(policy, batch, noise, Inpainting(plan, torch.zeros(T)))
        torch.testing.assert_close(found, policy(batch, noise), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('name', CONFIGS)
def test_replacing_gives_the_committed_steps_exactly_and_changes_the_others(name):
    policy = made(name)
    batch, noise, plan = case(policy)
    weights = mask(3, 6, T)
    with torch.no_grad():
        found = inpaint(policy, batch, noise, Inpainting(plan, weights))
        alone = policy(batch, noise)
    torch.testing.assert_close(found[:, :3], plan[:, :3], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[:, 6:], alone[:, 6:], atol=1e-6)


def test_guiding_brings_the_committed_steps_nearer_to_the_plan():
    """With the flow of N(0, 1) in closed form; of a network nobody trained it need not hold."""
    steps = 5
    times = [k / steps for k in range(steps)]
    noise = torch.randn(64, T, 1, generator=torch.Generator().manual_seed(2)).flatten(1)
    plan = torch.full((64, T, 1), 1.5)

    def clean(x, k):
        return x * times[k] / (times[k] ** 2 + (1 - times[k]) ** 2)

    guided = Inpainting(plan, mask(4, 4, T), 'guide').around(
        clean, times, lambda chunk: chunk.flatten(1))
    alone, found = euler(clean, noise, steps), euler(guided, noise, steps)
    before, after = ((x[:, :4] - 1.5).square().mean().sqrt() for x in (alone, found))
    assert after < 0.5 * before
    torch.testing.assert_close(found[:, 4:], alone[:, 4:])


@pytest.mark.parametrize('name', CONFIGS)
def test_guiding_leaves_no_gradient_behind_and_answers_to_the_plan(name):
    policy = made(name)
    batch, noise, plan = case(policy)
    with torch.no_grad():
        first, second = (inpaint(policy, batch, noise, Inpainting(
            scale * plan, mask(4, 4, T), 'guide')) for scale in (0.0, 1.0))
    assert not torch.allclose(first, second) and torch.isfinite(second).all()
    assert not second.requires_grad and all(p.grad is None for p in policy.parameters())


def test_the_guidance_follows_the_gradient_of_the_weighted_error():
    steps, matrix = 2, torch.tensor([[0.5, 0.2], [-0.1, 0.4]])
    plan, weights = torch.tensor([[[1.0], [-1.0]]]), torch.tensor([1.0, 0.5])
    x = torch.tensor([[0.3, 0.7]])

    def clean(x, k):
        return x @ matrix.T

    drawn = Inpainting(plan, weights, 'guide').around(
        clean, [0.0, 0.5], lambda chunk: chunk.flatten(1))
    expected = x
    for t in (0.0, 0.5):
        f = expected @ matrix.T
        velocity = (f - expected) / (1 - t) + guidance(t) * (
            weights * (plan.flatten(1) - f)) @ matrix
        expected = expected + velocity / steps
    torch.testing.assert_close(euler(drawn, x, steps), expected)


def runner(name='flow', method='replace'):
    rng = np.random.default_rng(0)
    config = CONFIGS.get(name, ChunkMLPConfig((16,), chunk_size=T))
    layout = FeatureLayout(SPEC.joint_names, ('cube',))
    normalizer = fit_normalizer({
        'features': rng.normal(size=(50, layout.dim)),
        'action': SPEC.rest + 0.05 * rng.normal(size=(50, SPEC.dim))})
    torch.manual_seed(0)
    checkpoint = Checkpoint(name, config, layout, normalizer, SPEC, task='transfer_cube')
    return PolicyRunner(checkpoint, checkpoint.make_policy(), SPEC, inpaint=method)


def predict(made, tick):
    made.observe(Observation(
        tick * SPEC.dt, SPEC.rest, {'cube': np.array([0.1, 0, 0.02, 0, 0, 0, 1], np.float32)}))
    return made.predict()


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('method', ['replace', 'guide'])
def test_a_runner_begins_each_chunk_with_what_is_executed_meanwhile(name, method):
    one = runner(name, method)
    one.reset(np.random.default_rng(0))
    one.frozen = 3
    first = predict(one, 0)
    second = predict(one, 4)
    np.testing.assert_array_equal(second.positions[:3], first.positions[4:7])
    third = predict(one, 11)  # one step of the second is left
    np.testing.assert_array_equal(third.positions[:1], second.positions[7:])
    again = runner(name, method)
    for tick in (12, 4):  # of another episode; time went back
        again.reset(np.random.default_rng(0))
        alone = predict(again, tick)
    assert not np.array_equal(alone.positions[:3], first.positions[4:7])


def test_after_a_reset_or_a_gap_there_is_no_plan_to_continue():
    one = runner()
    one.frozen = 3
    chunks = []
    for tick in (0, 50, 51):
        one.reset(np.random.default_rng(0))
        chunks.append(predict(one, tick).positions)
    for other in chunks[1:]:
        np.testing.assert_array_equal(other, chunks[0])


def test_a_policy_without_noise_is_refused_with_what_works():
    with pytest.raises(ConfigError, match='chunk_mlp cannot continue a plan; use mode ensemble'):
        runner('chunk_mlp')
