"""How long each policy takes from one observation's features to a chunk, by every runtime.

Every recipe of config/train, flow and diffusion with other numbers of steps, and the two networks
with a target: the MLP with three layers of 512, and ACT with width 256 and chunks of 100. Fresh
weights for the simulated robot and one object, batch 1. What is timed is a whole call of
``PolicyRuntime``: noise, copies, the network, statistics. All runtimes of a policy have their
turns, each time in another order, so that a busy moment slows all of them. A turn is ten calls,
as a node that runs one policy makes them. ``ms_one_by_one`` is the same with turns of one call:
the weights of all the other runtimes go through the processor's caches between two calls, which
is the worst that a machine's other work can do. The targets are for the first.

``chosen`` is what ``runtime: auto`` took when it timed them itself. Beside them stands
``onnx_io_binding``: ONNX Runtime alone, without copying anything in or out. Targets:

* MLP 3 x 512: chosen <= 1.2x of onnx_io_binding
* ACT, width 256, chunks of 100: chosen <= 0.6x of torch
* flow, 5 steps, recipe as shipped: chosen <= 5 ms on one CPU core

    python3 benchmarks/policy_latency.py [--rounds 300] [--device cpu] [--threads 1]

Writes benchmarks/results/policy_latency.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from il_robot.algorithms.recipe import load_recipe  # noqa: E402
from il_robot.policies.backends import BACKENDS, INPUTS, OUTPUT, OnnxBackend  # noqa: E402
from il_robot.policies.features import FeatureLayout  # noqa: E402
from il_robot.policies.policy import Batch, Policy  # noqa: E402
from il_robot.policies.registry import make_policy, model_config  # noqa: E402
from il_robot.policies.runtime import AUTO, PolicyRuntime  # noqa: E402
from il_robot.resources import named_config, resource  # noqa: E402
from il_robot.spec import load_robot_spec  # noqa: E402

STEPS = [('flow', 'euler_steps', n) for n in (1, 2, 10)]
STEPS += [('diffusion', 'ddim_steps', n) for n in (5, 20)]
MLP = ('mlp', ['model.hidden=[512,512,512]'])
# the sizes of ACTConfig: the paper's code with half of its width
ACT = ('act', [
    'model.chunk_size=100', 'model.dim=256', 'model.heads=8', 'model.feedforward=1024',
    'model.encoder_layers=4', 'model.decoder_layers=1', 'model.pre_norm=false'])
REFERENCE = 'onnx_io_binding'
TURN = 10
Call = Callable[[], Any]


def make(recipe: str, settings: list[str], device: str) -> tuple[Policy, Batch]:
    """A policy and an observation."""
    loaded = load_recipe(named_config('train', recipe), settings)
    robot = load_robot_spec(named_config('robots', 'sim_dual_arm'))
    layout = FeatureLayout(robot.joint_names, ('cube',))
    torch.manual_seed(0)
    config = model_config(loaded.policy, loaded.model, recipe)
    policy = make_policy(loaded.policy, config, layout, robot.dim).to(device).eval()
    return policy, {'features': torch.randn(1, policy.n_obs_steps, layout.dim)}


def onnx_alone(policy: Policy, batch: Batch) -> Call:
    """ONNX Runtime on bound arrays; nothing is copied in or out."""
    backend = OnnxBackend(policy, batch, policy.draw(1, torch.Generator()))
    session, binding = backend._session, backend._session.io_binding()
    assert {i.name for i in session.get_inputs()} <= set(INPUTS)
    arrays = {i.name: np.random.default_rng(0).random(i.shape, np.float32)
              for i in session.get_inputs()}
    arrays[OUTPUT] = np.empty(session.get_outputs()[0].shape, np.float32)
    for name, array in arrays.items():
        bind = binding.bind_output if name == OUTPUT else binding.bind_input
        bind(name, 'cpu', 0, np.float32, array.shape, array.ctypes.data)

    def run(_keep: Any = arrays) -> None:
        session.run_with_iobinding(binding)
    return run


def measure(calls: dict[str, Call], turns: int, each: int) -> dict[str, np.ndarray]:
    """Milliseconds ``(turns * each,)`` of each, after a warm-up, each turn in another order."""
    rng, names = np.random.default_rng(0), list(calls)
    milliseconds = {name: np.empty((turns, each)) for name in names}
    for call in calls.values():
        for _ in range(10):
            call()
    for k in range(turns):
        for i in rng.permutation(len(names)):
            call, times = calls[names[i]], milliseconds[names[i]][k]
            for j in range(each):
                start = time.perf_counter()
                call()
                times[j] = 1e3 * (time.perf_counter() - start)
    return {name: times.ravel() for name, times in milliseconds.items()}


def row(recipe: str, settings: list[str], device: str, rounds: int) -> dict[str, Any]:
    """All runtimes of one policy."""
    policy, batch = make(recipe, settings, device)
    auto = PolicyRuntime(policy, batch, AUTO)
    runtimes = {
        name: PolicyRuntime(policy, batch, name)
        for name in BACKENDS if not auto.candidates[name].refused}
    generator = torch.Generator(device).manual_seed(0)
    calls: dict[str, Call] = {
        name: lambda runtime=runtime: runtime(batch, generator)
        for name, runtime in runtimes.items()}
    if 'onnx' in runtimes:
        calls[REFERENCE] = onnx_alone(policy, batch)
    turns = {'ms': measure(calls, max(1, rounds // TURN), TURN),
             'ms_one_by_one': measure(calls, max(1, rounds // 3), 1)}
    median, cold = (
        {name: float(np.median(values)) for name, values in times.items()}
        for times in turns.values())
    found: dict[str, Any] = {
        'recipe': recipe, 'settings': settings, 'chunk_size': policy.chunk_size,
        'parameters': sum(p.numel() for p in policy.parameters()), 'chosen': auto.name,
        **{key: {name: dict(zip(('p50', 'p99'), np.percentile(v, [50, 99]).round(4).tolist()))
                 for name, v in times.items()} for key, times in turns.items()},
        'max_error': {name: runtime.error for name, runtime in runtimes.items()},
        'ratio_to_torch': round(median[auto.name] / median['torch'], 3),
        'ratio_to_torch_one_by_one': round(cold[auto.name] / cold['torch'], 3)}
    if REFERENCE in median:
        found[f'ratio_to_{REFERENCE}'] = round(median[auto.name] / median[REFERENCE], 3)
    return found


def missed(found: dict[str, Any]) -> str:
    """The target that a row misses, or empty."""
    case = found['recipe'], found['settings']
    targets = {
        'mlp': (MLP, f'ratio_to_{REFERENCE}', 1.2), 'act': (ACT, 'ratio_to_torch', 0.6),
        'flow': (('flow', []), 'ms', 5.0)}
    if case[0] not in targets or targets[case[0]][0] != case:
        return ''
    _, key, most = targets[case[0]]
    value = found['ms'][found['chosen']]['p50'] if key == 'ms' else found.get(key)
    found['target'] = {key: most}
    return '' if value is not None and value <= most else f'{case[0]}: {key} {value} > {most}'


def installed() -> dict[str, str]:
    """Versions of what computes."""
    versions = {}
    for name in ('torch', 'numpy', 'onnxruntime', 'onnx', 'openvino'):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def main() -> int:
    """Measure, print and write the table; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', type=int, default=300)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument(
        '--output', type=Path, default=HERE / 'results' / 'policy_latency.json')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cases: list[tuple[str, list[str]]] = [
        (p.stem, []) for p in sorted(resource('config', 'train').glob('*.yaml'))]
    cases += [(recipe, [f'model.{key}={n}']) for recipe, key, n in STEPS]
    rows, failures = [], []
    for case in (*cases, MLP, ACT):
        found = row(*case, args.device, args.rounds)
        failures += filter(None, [missed(found)])
        rows.append(found)
        times = '  '.join(f'{name} {v["p50"]:.3f} (p99 {v["p99"]:.3f})'
                          for name, v in found['ms'].items())
        print(f'{" ".join([case[0], *case[1][:1]]):38} {found["chosen"]:6} '
              f'{found["ratio_to_torch"]:.2f}x torch (one by one '
              f'{found["ratio_to_torch_one_by_one"]:.2f}x); ms: {times}', flush=True)
    args.output.write_text(json.dumps({
        'command': f'python3 benchmarks/policy_latency.py --rounds {args.rounds} '
                   f'--device {args.device} --threads {args.threads}',
        'n': args.rounds,
        'machine': {
            'processor': platform.machine(), 'system': platform.system(),
            'cpus': os.cpu_count(), 'python': platform.python_version(),
            'device': torch.cuda.get_device_name() if args.device != 'cpu' else 'cpu',
            'load_average': [round(v, 1) for v in os.getloadavg()]},
        'versions': installed(), 'targets_missed': failures, 'rows': rows}, indent=1) + '\n')
    for failure in failures:
        print(f'target missed: {failure}')
    return int(bool(failures))


if __name__ == '__main__':
    sys.exit(main())
