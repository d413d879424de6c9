import pytest
import torch

from il_robot.config import build
from il_robot.errors import ConfigError
from il_robot.policies.contract import ACTION_DIM, LAYOUT, random_batch
from il_robot.policies.mlp import ChunkMLPConfig, MLPConfig, build_chunk_mlp
from il_robot.policies.policy import masked_mean
from il_robot.policies.registry import make_policy, model_config


def test_masked_mean_counts_each_real_step_once():
    error = torch.arange(12.0).view(2, 3, 2)
    assert masked_mean(error, {}) == error.mean()
    nothing_padded = {'is_pad': torch.zeros(2, 3, dtype=torch.bool)}
    assert masked_mean(error, nothing_padded) == pytest.approx(float(error.mean()))
    padded = {'is_pad': torch.tensor([[False, True, True], [False, False, True]])}
    expected = torch.cat([error[0, :1], error[1, :2]]).mean()
    assert masked_mean(error, padded) == pytest.approx(float(expected))
    weighted = {'weight': torch.tensor([0.0, 2.0])}
    assert masked_mean(error, weighted) == pytest.approx(float(error[1].mean()))


def test_masked_mean_of_nothing_is_zero_and_not_nan():
    assert masked_mean(torch.ones(1, 2, 3), {'is_pad': torch.ones(1, 2, dtype=torch.bool)}) == 0


@pytest.mark.parametrize('kind', ['l1', 'mse'])
def test_loss_is_the_named_one(kind):
    policy = build_chunk_mlp(ChunkMLPConfig((8,), kind, chunk_size=3), LAYOUT, ACTION_DIM)
    batch = random_batch(policy, 5)
    del batch['is_pad']
    difference = policy.predict(batch, torch.Generator()) - batch['action']
    expected = difference.abs().mean() if kind == 'l1' else (difference ** 2).mean()
    torch.testing.assert_close(policy.loss(batch, None)['loss'], expected)


@pytest.mark.parametrize('values', [
    {'hidden': []}, {'hidden': [0]}, {'loss': 'huber'}, {'n_obs_steps': 0}, {'widths': [3]},
])
def test_bad_configurations_are_refused(values):
    with pytest.raises(ConfigError):
        build(MLPConfig, values)


def test_unknown_policy_names_the_valid_ones():
    with pytest.raises(ConfigError, match="did you mean 'chunk_mlp'.*Valid: .*chunk_mlp, .*mlp"):
        model_config('chunk_mpl', {}, 'x')
    with pytest.raises(ConfigError, match='Valid: .*chunk_mlp, .*mlp'):
        make_policy('nothing', None, None, 3)
