"""What a step does for speed changes nothing."""

import copy
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from il_robot.algorithms.learner import (
    _next_batch,
    autograd,
    new_learner,
    train_step,
    training_state,
)
from il_robot.algorithms.recipe import Training
from il_robot.algorithms.samples import Samples
from il_robot.algorithms.team import ALONE
from il_robot.data.normalizer import Normalizer
from il_robot.data.windows import window_index
from il_robot.policies.backpropagation import RegressionGradient
from il_robot.policies.contract import ACTION_DIM, LAYOUT
from il_robot.policies.heads import GaussianConfig
from il_robot.policies.mlp import ChunkMLPConfig, build_chunk_mlp
from il_robot.policies.registry import make_policy

CONFIG = Training(
    steps=200, batch_size=32, warmup_steps=20, weight_decay=0.1, device='cpu', threads=1)


def learner(config=CONFIG, model=None, **training):
    torch.manual_seed(0)
    model = model or ChunkMLPConfig((8,), chunk_size=3)
    policy = build_chunk_mlp(model, LAYOUT, ACTION_DIM)
    return new_learner(policy, replace(config, **training))


def some_samples(n_obs_steps, chunk_size, rows=200):
    random = torch.Generator().manual_seed(0)
    features, labels = (
        torch.randn(rows, d, generator=random) for d in (LAYOUT.dim, ACTION_DIM))
    index = window_index(np.array([0, 90]), np.array([90, rows]), chunk_size, n_obs_steps)
    return Samples(features, labels, index, None, Normalizer({}))


@pytest.mark.parametrize('model', [
    ChunkMLPConfig((32, 32), 'l1', chunk_size=1), ChunkMLPConfig((16,), 'mse', 2, 1),
    ChunkMLPConfig((24, 8, 16), 'l1', 2, 5), ChunkMLPConfig((16, 16), 'mse', 1, 5)])
@pytest.mark.parametrize('training', [
    {'grad_clip': 0.0, 'weight_decay': 0.0}, {'grad_clip': 0.3, 'ema_decay': 0.99},
    {'feature_noise': 0.1, 'batch_size': 1000}])
def test_the_closed_form_trains_as_autograd_does(model, training):
    """The same bits, where this machine's library of matrix products gives the same for both."""
    samples = some_samples(model.n_obs_steps, model.chunk_size)
    ours, reference = (learner(model=model, **training) for _ in range(2))
    assert isinstance(ours.gradient, RegressionGradient)
    reference.gradient = autograd(reference.policy)
    config = replace(CONFIG, **training)
    for _ in range(config.steps):
        losses, expected = (train_step(each, samples, config) for each in (ours, reference))
        torch.testing.assert_close(losses, expected, rtol=1e-5, atol=0)
    found, wanted = training_state(ours), training_state(reference)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        scale = value.abs().max() if value.is_floating_point() else 0
        assert (found[key] - value).abs().max() <= 1e-6 * scale, key


def test_what_the_closed_form_does_not_know_is_left_to_autograd():
    gaussian = make_policy('mlp_gaussian', GaussianConfig((8,)), LAYOUT, ACTION_DIM)
    for each in (learner(precision='bf16'), new_learner(gaussian, CONFIG)):
        assert not isinstance(each.gradient, RegressionGradient)


def test_the_training_state_keeps_its_names():
    """Of runs that shall go on after an update of this package."""
    names = [f'{kind}.{part}' for kind in ('trunk.0', 'trunk.2') for part in ('weight', 'bias')]
    optimizer = [f'optimizer.{key}' for key in ('step', 'exp_avg', 'exp_avg_sq')]
    assert training_state(learner(ema_decay=0.9)).keys() == {
        f'{prefix}.{name}' for prefix in ('policy', 'averaged', *optimizer) for name in names
    } | {'step', 'random.policy', 'random.cpu'}


@pytest.mark.parametrize('size', [7, 5000])
@pytest.mark.parametrize('resumed', [False, True])
def test_batches_gathered_together_are_those_gathered_alone(size, resumed):
    count = 11_000
    index = window_index(np.array([0]), np.array([count]), 3)
    values = torch.arange(count, dtype=torch.float32)[:, None]
    samples = Samples(values, -values, index, None, Normalizer({}))
    each = learner()
    each.order = np.random.default_rng(0).permutation(count)
    for turn in range(count // size):
        if resumed:
            each = copy.copy(each)
            each.gathered = None if turn % 3 == 1 else each.gathered
        found = _next_batch(each, samples, size, turn, slice(0, size), ALONE)
        expected = samples.batch(index, each.order[turn * size:(turn + 1) * size])
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
        if turn > 1300:
            break


def test_the_compiler_of_torch_is_not_loaded_before_the_first_step():
    """It takes seconds; `benchmarks/startup.py` measures them."""
    script = ('import sys, test_learner; from il_robot.algorithms import bc; '
              'from il_robot.policies.contract import random_batch; '
              'each = test_learner.learner(); '
              'from il_robot.algorithms.learner import autograd; '
              'batch = random_batch(each.policy, 5); '
              '[each.optimizer.update(gradient(batch, each.generator)[1], 1e-3) '
              'for gradient in (each.gradient, autograd(each.policy))]; '
              'print(*({"torch._dynamo", "matplotlib", "onnxruntime"} & set(sys.modules)))')
    found = subprocess.run(
        [sys.executable, '-c', script], cwd=Path(__file__).parent, capture_output=True, text=True,
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}, check=True)
    assert found.stdout.split() == []
