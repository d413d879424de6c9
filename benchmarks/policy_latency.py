"""How long each policy takes from one observation's features to a chunk, recipes as shipped.

Every recipe of config/train, and flow and diffusion with other numbers of steps, each with fresh
weights for the simulated robot and one object, batch 1, inference mode. All take turns, so that
a busy machine slows all of them; ``ratio`` is the median against chunk_mlp's in the same run.
Target: flow in 5 steps <= 5 ms on one CPU core.

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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from il_robot.algorithms.recipe import load_recipe  # noqa: E402
from il_robot.policies.features import FeatureLayout  # noqa: E402
from il_robot.policies.registry import make_policy, model_config  # noqa: E402
from il_robot.resources import named_config, resource  # noqa: E402
from il_robot.spec import load_robot_spec  # noqa: E402

REFERENCE = 'chunk_mlp'
STEPS = [('flow', 'euler_steps', n) for n in (1, 2, 10)]
STEPS += [('diffusion', 'ddim_steps', n) for n in (5, 20)]
TARGET_MS = {'flow': 5.0}


def predictor(
    recipe: str, settings: list[str], device: str
) -> tuple[dict[str, Any], Callable[[], torch.Tensor]]:
    """What is known of a policy, and a function that predicts one chunk."""
    loaded = load_recipe(named_config('train', recipe), settings)
    robot = load_robot_spec(named_config('robots', 'sim_dual_arm'))
    layout = FeatureLayout(robot.joint_names, ('cube',))
    config = model_config(loaded.policy, loaded.model, recipe)
    policy = make_policy(loaded.policy, config, layout, robot.dim).to(device).eval()
    generator = torch.Generator(device).manual_seed(0)
    batch = {'features': torch.randn(1, policy.n_obs_steps, layout.dim, device=device)}
    about = {
        'recipe': recipe, 'settings': settings, 'chunk_size': policy.chunk_size,
        'parameters': sum(p.numel() for p in policy.parameters())}

    def predict() -> torch.Tensor:
        with torch.inference_mode():
            return policy.predict(batch, generator).cpu()

    return about, predict


def measure(predict: list[Callable[[], torch.Tensor]], rounds: int) -> np.ndarray:
    """Seconds ``(policies, rounds)``, after a warm-up, each round in another order."""
    rng = np.random.default_rng(0)
    seconds = np.empty((len(predict), rounds))
    for each in predict:
        for _ in range(10):
            each()
    for k in range(rounds):
        for i in rng.permutation(len(predict)):
            start = time.perf_counter()
            predict[i]()
            seconds[i, k] = time.perf_counter() - start
    return seconds


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
    about, predict = zip(*(predictor(*case, args.device) for case in cases))
    milliseconds = 1e3 * measure(list(predict), args.rounds)
    reference = np.median(milliseconds[[a['recipe'] for a in about].index(REFERENCE)])
    missed = False
    for row, values in zip(about, milliseconds):
        row['p50_ms'], row['p99_ms'] = np.percentile(values, [50, 99]).round(3).tolist()
        row['ratio'] = round(float(np.median(values) / reference), 2)
        if not row['settings'] and row['recipe'] in TARGET_MS:
            row['target_ms'] = TARGET_MS[row['recipe']]
            missed |= row['p50_ms'] > row['target_ms']
        name = ' '.join([row['recipe'], *row['settings']])
        print(f'{name:32} {row["parameters"] / 1e6:6.2f} M  p50 {row["p50_ms"]:8.3f} ms  '
              f'p99 {row["p99_ms"]:8.3f} ms  {row["ratio"]:7.2f}x {REFERENCE}')
    args.output.write_text(json.dumps({
        'command': f'python3 benchmarks/policy_latency.py --rounds {args.rounds} '
                   f'--device {args.device} --threads {args.threads}',
        'n': args.rounds,
        'machine': {
            'processor': platform.machine(), 'system': platform.system(),
            'cpus': os.cpu_count(), 'python': platform.python_version(),
            'device': torch.cuda.get_device_name() if args.device != 'cpu' else 'cpu',
            'load_average': [round(v, 1) for v in os.getloadavg()]},
        'versions': {name: version(name) for name in ('torch', 'numpy')},
        'rows': about}, indent=1) + '\n')
    return int(missed)


if __name__ == '__main__':
    sys.exit(main())
