"""What follows the gradient does what torch's own tools do, bit for bit."""

import copy

import pytest
import torch

from il_robot.algorithms.learner import autograd
from il_robot.algorithms.optimizer import AdamW, RunningMean, clip
from il_robot.policies.contract import ACTION_DIM, LAYOUT, random_batch
from il_robot.policies.mlp import ChunkMLPConfig, build_chunk_mlp


def some_policy():
    torch.manual_seed(0)
    return build_chunk_mlp(ChunkMLPConfig((8,), chunk_size=3), LAYOUT, ACTION_DIM)


def gradients_of(policy, seed):
    return autograd(policy)(random_batch(policy, 5, seed=seed), torch.Generator())[1]


@pytest.mark.parametrize('largest', [1e-3, 0.1, 10.0])
def test_clipping_is_torchs(largest):
    policy = some_policy()
    found = [g.clone() for g in gradients_of(policy, 0)]
    clip(found, largest)
    torch.nn.utils.clip_grad_norm_(policy.parameters(), largest)
    for gradient, parameter in zip(found, policy.parameters(), strict=True):
        assert torch.equal(gradient, parameter.grad)


def test_the_optimiser_takes_torchs_own_steps():
    """Without its class, which loads torch's compiler; also where a gradient is lacking."""
    ours, torchs = some_policy(), some_policy()
    optimizer = AdamW(ours, 0.1)
    reference = torch.optim.AdamW(torchs.parameters(), weight_decay=0.1, fused=True)
    for step in range(6):
        gradients = gradients_of(ours, step)
        for parameter, gradient in zip(torchs.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        if step == 2:
            gradients[1] = torchs.trunk[0].bias.grad = None
        optimizer.update(gradients, 1e-2 / (step + 1))
        reference.param_groups[0]['lr'] = 1e-2 / (step + 1)
        reference.step()
    for (name, a), b in zip(ours.named_parameters(), torchs.parameters(), strict=True):
        assert torch.equal(a, b)
        for key, values in optimizer.state().items():
            assert torch.equal(values[name], reference.state[b][key]), key


def test_the_mean_follows_the_weights():
    policy = some_policy()
    assert RunningMean(policy, 0.0).policy is policy
    mean = RunningMean(policy, 0.9)
    expected = copy.deepcopy(policy.state_dict())
    for step, decay in ((1, 1 / 11), (2, 2 / 12), (1000, 0.9)):
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter += step
        mean.update(step)
        for key, value in policy.state_dict().items():
            expected[key] = decay * expected[key] + (1 - decay) * value
            torch.testing.assert_close(mean.policy.state_dict()[key], expected[key])
