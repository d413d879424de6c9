"""What a step does for speed changes nothing."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from il_robot.algorithms.learner import _next_batch, new_learner
from il_robot.algorithms.recipe import Training
from il_robot.algorithms.samples import Samples
from il_robot.algorithms.team import ALONE
from il_robot.data.normalizer import Normalizer
from il_robot.data.windows import window_index
from il_robot.policies.contract import ACTION_DIM, LAYOUT, random_batch
from il_robot.policies.mlp import ChunkMLPConfig, build_chunk_mlp


def learner():
    torch.manual_seed(0)
    policy = build_chunk_mlp(ChunkMLPConfig((8,), chunk_size=3), LAYOUT, ACTION_DIM)
    return new_learner(policy, Training(weight_decay=0.1))


def test_the_optimiser_takes_torchs_own_steps():
    """Bit for bit, without its class, which loads torch's compiler."""
    ours, torchs = learner(), learner()
    reference = torch.optim.AdamW(torchs.policy.parameters(), weight_decay=0.1, fused=True)
    for step in range(4):
        for each, optimizer in ((ours, ours.optimizer), (torchs, reference)):
            batch = random_batch(each.policy, 5, seed=step)
            optimizer.zero_grad()
            each.policy.loss(batch, each.generator)['loss'].backward()
        ours.optimizer.update(1e-2 / (step + 1))
        reference.param_groups[0]['lr'] = 1e-2 / (step + 1)
        reference.step()
    for (name, a), b in zip(ours.policy.named_parameters(), torchs.policy.parameters()):
        assert torch.equal(a, b)
        for key, values in ours.optimizer.state().items():
            assert torch.equal(values[name], reference.state[b][key]), key


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
              'each.policy.loss(random_batch(each.policy, 5), each.generator)["loss"].backward(); '
              'each.optimizer.update(1e-3); '
              'print(*({"torch._dynamo", "matplotlib", "onnxruntime"} & set(sys.modules)))')
    found = subprocess.run(
        [sys.executable, '-c', script], cwd=Path(__file__).parent, capture_output=True, text=True,
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}, check=True)
    assert found.stdout.split() == []
