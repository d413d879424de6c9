"""Every runtime gives torch's answer for every policy, or is refused."""

import importlib.util
import sys

import numpy as np
import pytest
import torch

from il_robot.errors import ConfigError
from il_robot.policies import backends
from il_robot.policies.backends import BACKENDS
from il_robot.policies.contract import ACTION_DIM, LAYOUT
from il_robot.policies.registry import POLICIES, make_policy, model_config
from il_robot.policies.runtime import TOLERANCE, PolicyRuntime

ACT = {'chunk_size': 6, 'dim': 16, 'heads': 2, 'feedforward': 32, 'posterior_layers': 1}
SMALL = {
    'mlp': [{'hidden': [64, 64]}, {'hidden': [64], 'n_obs_steps': 2}],
    'chunk_mlp': [{'hidden': [64], 'chunk_size': 6}],
    'act': [{**ACT, 'encoder_layers': 1}, {**ACT, 'pre_norm': True, 'decoder_layers': 2}],
    'mlp_gaussian': [{'hidden': [32], 'low_noise': False}],
    'mlp_gmm': [{'hidden': [32]}, {'hidden': [32], 'low_noise': False, 'n_obs_steps': 2}],
    'flow': [{'chunk_size': 6, 'width': 32, 'depth': 1}],
    'diffusion': [{'chunk_size': 6, 'widths': [16, 32], 'kernel_size': 3, 'ddim_steps': 2}],
    'ensemble': [{'policy': 'flow', 'model': {'width': 32, 'depth': 1}, 'size': 2}],
    'residual': [{'model': {'hidden': [32], 'chunk_size': 6}, 'hidden': [32]}],
}
CASES = [(name, values) for name in POLICIES for values in SMALL.get(name, [{}])]
NEEDED = {'onnx': ('onnx', 'onnxruntime'), 'openvino': ('onnx', 'openvino')}
DEVICE = {'cuda_graph': 'cuda'}


def make(name='mlp_gmm', values=None, device='cpu'):
    torch.manual_seed(0)
    policy = make_policy(
        name, model_config(name, values or SMALL[name][0], 'test'), LAYOUT, ACTION_DIM)
    return policy.to(device).eval()


def observation(policy, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {'features': torch.randn(1, policy.n_obs_steps, LAYOUT.dim, generator=generator)}


def chunks(policy, runtime, device='cpu', n=3):
    generator = torch.Generator(device).manual_seed(5)
    return [runtime(observation(policy, seed), generator) for seed in range(n)]


@pytest.mark.parametrize('runtime', BACKENDS)
@pytest.mark.parametrize(('name', 'values'), CASES, ids=lambda v: str(v))
def test_every_policy_answers_as_in_torch_and_repeats_under_a_seed(name, values, runtime):
    if not all(importlib.util.find_spec(package) for package in NEEDED.get(runtime, ())):
        pytest.skip(f"pip install 'il_robot[{runtime}]'")
    if runtime == 'numpy' and name not in ('mlp', 'chunk_mlp'):
        with pytest.raises(ConfigError, match="'numpy' cannot be used: only for mlp and chunk"):
            PolicyRuntime(make(name, values), observation(make(name, values)), runtime)
        return
    device = DEVICE.get(runtime, 'cpu')
    if device == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    policy = make(name, values, device)
    fast = PolicyRuntime(policy, observation(policy), runtime)
    assert fast.name == runtime and 0 <= fast.error <= TOLERANCE
    generator = torch.Generator(device).manual_seed(5)
    first, again = (chunks(policy, fast, device) for _ in range(2))
    for seed, chunk in enumerate(first):
        batch = {k: v.to(device) for k, v in observation(policy, seed).items()}
        expected = policy.predict(batch, generator)[0].detach().cpu().numpy()
        assert chunk.shape == (policy.chunk_size, ACTION_DIM) and chunk.dtype == np.float32
        np.testing.assert_allclose(chunk, expected, atol=TOLERANCE)
    assert all(np.array_equal(a, b) for a, b in zip(first, again))


def test_auto_times_what_runs_and_says_why_the_rest_does_not():
    policy = make('chunk_mlp')
    runtime = PolicyRuntime(policy, observation(policy))
    found = runtime.candidates
    assert list(found) == list(BACKENDS)
    usable = {name for name, c in found.items() if not c.refused}
    assert {'torch', 'trace', 'numpy'} <= usable and runtime.name in usable
    assert found[runtime.name].seconds == min(found[name].seconds for name in usable)
    described = runtime.describe()
    assert described['runtime'] == runtime.name and 'torch' in described['runtime_timed_ms']
    if not torch.cuda.is_available():
        assert 'cuda_graph: needs a CUDA device' in described['runtime_refused']


@pytest.mark.parametrize(('broken', 'why'), [
    (lambda answer: answer + 1e-3, 'differs from torch by 0.001'),
    (lambda answer: answer * np.nan, 'differs from torch by nan'),
    (lambda answer: 1 / 0, 'ZeroDivisionError'),
])
def test_a_broken_runtime_is_refused_and_another_is_used(monkeypatch, broken, why):
    class Broken(backends.TorchBackend):
        def __call__(self, batch, noise):
            return broken(super().__call__(batch, noise))

    monkeypatch.setattr('il_robot.policies.runtime.BACKENDS',
                        {'torch': backends.TorchBackend, 'trace': Broken})
    policy = make()
    runtime = PolicyRuntime(policy, observation(policy))
    assert runtime.name == 'torch' and runtime.error == 0
    assert why in runtime.describe()['runtime_refused']
    with pytest.raises(ConfigError, match=f"'trace' cannot be used: .*{why}"):
        PolicyRuntime(policy, observation(policy), 'trace')


def test_without_optional_packages_the_others_are_used(monkeypatch):
    for package in ('onnxruntime', 'openvino'):
        monkeypatch.setitem(sys.modules, package, None)
    policy = make('flow')
    runtime = PolicyRuntime(policy, observation(policy))
    assert runtime.name in ('torch', 'trace')
    for name in ('onnx', 'openvino'):
        assert f"pip install 'il_robot[{name}]'" in runtime.candidates[name].refused


def test_pictures_are_for_torch_alone():
    policy = make('mlp')
    batch = {**observation(policy), 'images.top': torch.zeros(1, 1, 3, 8, 8, dtype=torch.uint8)}
    runtime = PolicyRuntime(policy, batch)
    assert runtime.name == 'torch'
    assert 'policies without images.top' in runtime.candidates['trace'].refused


def test_an_unknown_runtime_is_named():
    policy = make('mlp')
    with pytest.raises(ConfigError, match="unknown runtime 'onxx'.*did you mean 'onnx'"):
        PolicyRuntime(policy, observation(policy), 'onxx')


def test_choosing_changes_no_random_number_and_statistics_count_calls():
    policy = make('flow')
    torch.manual_seed(1)
    before = torch.get_rng_state()
    runtime = PolicyRuntime(policy, observation(policy))
    assert torch.equal(before, torch.get_rng_state()) and runtime.latency.values() == {}
    chunks(policy, runtime)
    found = runtime.latency.values()
    assert 0 < found['p50'] <= found['p99'] <= found['max']
    assert runtime.describe()['runtime_p50_ms'] == pytest.approx(1e3 * found['p50'])


def test_an_answer_is_the_callers_own():
    policy = make('chunk_mlp')
    usable = [name for name, packages in NEEDED.items()
              if all(importlib.util.find_spec(package) for package in packages)]
    for name in ('torch', 'trace', 'numpy', *usable):
        runtime = PolicyRuntime(policy, observation(policy), name)
        first, second = chunks(policy, runtime, n=2)
        kept = first.copy()
        second += 1
        assert np.array_equal(first, kept) and not np.array_equal(first, second)
