"""Every policy of the registry keeps the contract, on every device there is."""

import pytest
import torch

from il_robot.config import build
from il_robot.policies.contract import ACTION_DIM, CHECKS, LAYOUT
from il_robot.policies.observation import ObservationConfig
from il_robot.policies.registry import POLICIES, make_policy

ACT = {'chunk_size': 6, 'dim': 16, 'heads': 2, 'feedforward': 32, 'encoder_layers': 1,
       'posterior_layers': 2, 'latent_dim': 4}
# Small ones, so that the whole table takes seconds. A new policy adds its line here.
SMALL = {
    'mlp': [{'hidden': [64, 64]}, {'hidden': [64], 'n_obs_steps': 2, 'loss': 'mse'}],
    'chunk_mlp': [{'hidden': [64, 64], 'chunk_size': 6}, {'hidden': [64], 'loss': 'mse'}],
    'act': [
        {**ACT, 'dropout': 0.0, 'kl_weight': 0.1},
        {**ACT, 'n_obs_steps': 2, 'pre_norm': True, 'decoder_layers': 2, 'posterior_layers': 1}],
    'mlp_gaussian': [{'hidden': [64, 64]}, {'hidden': [64], 'n_obs_steps': 2, 'low_noise': False}],
    'mlp_gmm': [{'hidden': [64, 64], 'modes': 3}, {'hidden': [64], 'low_noise': False}],
    'flow': [
        {'chunk_size': 6, 'width': 64, 'depth': 1},
        {'chunk_size': 1, 'n_obs_steps': 2, 'width': 64, 'depth': 2, 'euler_steps': 1}],
    'diffusion': [
        {'chunk_size': 6, 'widths': [32, 64], 'kernel_size': 3, 'ddim_steps': 2},
        {'chunk_size': 4, 'widths': [32], 'n_obs_steps': 2, 'train_steps': 20, 'clip': 0,
         'prediction': 'sample'}],
    'ensemble': [
        {'model': {'hidden': [64], 'chunk_size': 6}, 'size': 2},
        {'policy': 'flow', 'model': {'chunk_size': 3, 'width': 64, 'depth': 1}, 'size': 3},
        {'policy': 'mlp_gmm', 'model': {'hidden': [64]}, 'size': 2, 'share': 1}],
    'residual': [
        {'model': {'hidden': [64], 'chunk_size': 1}, 'hidden': [64], 'limit': 4.0},
        {'policy': 'mlp', 'model': {'hidden': [64]}, 'hidden': [64, 64], 'limit': 4.0}],
}
CNN = {'widths': [8, 8], 'keypoints': 4}
# Pictures come to all policies in one of two ways; what differs is what they make of the output.
EYES = [
    {'cameras': ['top', 'wrist'], 'image_size': [16, 20], 'encoder': CNN},
    {'cameras': ['top', 'wrist'], 'image_size': [16, 20], 'encoder': {**CNN, 'shared': True}},
    {'cameras': ['top', 'wrist'], 'image_size': [16, 20], 'estimate': ['cube'],
     'estimator': {'widths': [4, 4]}},
]
MAP = {'cameras': ['top', 'wrist'], 'image_size': [16, 20], 'encoder': {**CNN, 'output': 'map'}}
DEVICES = ['cpu'] + (['cuda'] if torch.cuda.is_available() else [])
CASES = [(name, values, {}) for name in POLICIES for values in SMALL[name]]
CASES += [(name, SMALL[name][-1], EYES[i % 3]) for i, name in enumerate(POLICIES)]
CASES.append(('act', SMALL['act'][0], MAP))


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('check', CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize(('name', 'values', 'observation'), CASES, ids=lambda v: str(v))
def test_policy_keeps_the_contract(name, values, observation, check, device):
    torch.manual_seed(0)
    config = build(POLICIES[name][0], values)
    observation = build(ObservationConfig, observation)
    check(lambda: make_policy(name, config, LAYOUT, ACTION_DIM, observation), device)


def test_every_default_configuration_builds():
    for name, (config_type, _) in POLICIES.items():
        assert make_policy(name, config_type(), LAYOUT, ACTION_DIM).chunk_size >= 1
