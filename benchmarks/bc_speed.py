"""Training and inference speed of our loop, against bare PyTorch in the same run.

* ``train``: samples per second of ``algorithms.bc.train`` (batches gathered from the dataset,
  learning-rate schedule, gradient clipping, logging, validation) against a bare loop: random
  rows of preloaded tensors, loss, backward, AdamW. ``plain`` is torch.optim.AdamW as it comes,
  ``fused`` its fused kernel, which we use too. Same net, batch, loss and threads; the loops
  take turns every 20 steps. Target: >= 0.8 of the bare loop with the one-step policy.
* ``inference``: one observation to one action (features, normaliser, network, chunk buffer)
  against the bare network in inference mode.
* ``start``: from the command ``il_robot train`` to its first step, beside ``import torch``.

    python3 benchmarks/bc_speed.py [--rounds 60]

Writes benchmarks/results/bc_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # as `il_robot train` sets it

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import synthetic_episodes as synthetic  # noqa: E402

from il_robot.algorithms.bc import train  # noqa: E402
from il_robot.algorithms.controller import PolicyController  # noqa: E402
from il_robot.algorithms.recipe import Recipe, load_recipe  # noqa: E402
from il_robot.algorithms.samples import dataset_layout, make_samples  # noqa: E402
from il_robot.data.dataset import Dataset  # noqa: E402
from il_robot.policies.checkpoint import load_checkpoint  # noqa: E402
from il_robot.policies.registry import make_policy, model_config  # noqa: E402
from il_robot.policies.runner import PolicyRunner  # noqa: E402
from il_robot.resources import named_config  # noqa: E402

EPISODES, ROWS = 50, 140  # the size of 50 demonstrations of transfer_cube
CASES = (('mlp', 32), ('mlp', 256), ('mlp', 4096), ('chunk_mlp', 256))
LOG_EVERY = 20


def recipe_of(policy: str, batch: int, steps: int) -> Recipe:
    """The shipped recipe with another batch and more frequent records."""
    return load_recipe(named_config('train', policy), [
        f'training.steps={steps}', f'training.batch_size={batch}',
        f'training.log_every={LOG_EVERY}'])


class Bare:
    """The loop that everybody writes first; windows are laid out beforehand."""

    def __init__(self, dataset: Dataset, recipe: Recipe, fused: bool) -> None:
        config = model_config(recipe.policy, recipe.model, 'benchmark')
        layout = dataset_layout(dataset)
        policy: Any = make_policy(recipe.policy, config, layout, dataset.action.shape[1])
        samples = make_samples(
            dataset, layout, recipe.training, policy.chunk_size, 1, torch.device('cpu'))
        windows = samples.batch(samples.train, np.arange(len(samples.train)))
        self.x, self.y = windows['features'].flatten(1), windows['action'].flatten(1)
        real = ~windows.get('is_pad', torch.zeros(len(self.y), policy.chunk_size)).bool()
        self.real = real.float().repeat_interleave(dataset.action.shape[1], 1)
        self.net, self.batch = policy.trunk, recipe.training.batch_size
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-3, fused=fused)

    def run(self, steps: int) -> float:
        """Seconds of so many steps."""
        begin = time.perf_counter()
        for _ in range(steps):
            index = torch.randint(len(self.x), (self.batch,))
            loss = ((self.net(self.x[index]) - self.y[index]).abs() * self.real[index]).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return time.perf_counter() - begin


def take_turns(dataset: Dataset, recipe: Recipe, bare: dict[str, Bare]) -> dict[str, list[float]]:
    """Seconds of every LOG_EVERY steps of our training; after each, the bare loops have one."""
    seconds: dict[str, list[float]] = {'ours': [], **{name: [] for name in bare}}
    mark = time.perf_counter()

    def turn(record: Any) -> None:
        nonlocal mark
        seconds['ours'].append(time.perf_counter() - mark)
        for name, loop in bare.items():
            seconds[name].append(loop.run(LOG_EVERY))
        mark = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        train(dataset, recipe, Path(folder) / 'run', on_log=turn)
    return seconds


def training(dataset: Dataset, rounds: int) -> list[dict[str, Any]]:
    """Medians over rounds, one row per case."""
    rows = []
    for policy, batch in CASES:
        recipe = recipe_of(policy, batch, (rounds + 2) * LOG_EVERY)
        bare = {'plain': Bare(dataset, recipe, False), 'fused': Bare(dataset, recipe, True)}
        seconds = take_turns(dataset, recipe, bare)
        # the first round holds the set-up, the last one the end
        median = {name: statistics.median(v[1:-1]) for name, v in seconds.items()}
        row: dict[str, Any] = {'policy': policy, 'batch': batch}
        row |= {f'{k}_samples_per_s': round(LOG_EVERY * batch / v) for k, v in median.items()}
        for name in bare:
            row[f'ratio_to_{name}'] = round(median[name] / median['ours'], 3)
        rows.append(row)
    return rows


def inference(dataset: Dataset, folder: Path, calls: int = 2000) -> list[dict[str, Any]]:
    """Microseconds per control step with one thread, the network alone beside it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    for name in ('mlp', 'chunk_mlp'):
        recipe = recipe_of(name, 256, 1)
        result = train(dataset, recipe, folder / f'inference_{name}')
        checkpoint, policy = load_checkpoint(result.checkpoint)
        spec = synthetic.robot()
        controller = PolicyController(
            PolicyRunner(checkpoint, policy, spec), spec, recipe.execution)
        controller.reset(np.random.default_rng(0))
        observations = [step.observation for step in synthetic.steps(
            spec, calls, objects=('cube',))]
        features = torch.zeros(1, 1, checkpoint.layout.dim)
        generator = torch.Generator()
        bare, ours = [], []
        for observation in observations:
            begin = time.perf_counter()
            with torch.inference_mode():
                policy.predict({'features': features}, generator)
            middle = time.perf_counter()
            controller.act(observation)
            ours.append(time.perf_counter() - middle)
            bare.append(middle - begin)
        bare_us, ours_us = (1e6 * statistics.median(v) for v in (bare, ours))
        rows.append({'policy': name, 'network_us': round(bare_us, 1),
                     'control_step_us': round(ours_us, 1), 'ratio': round(ours_us / bare_us, 2)})
    torch.set_num_threads(threads)
    return rows


def start(dataset: Dataset, folder: Path, repeats: int = 5) -> dict[str, float]:
    """Median seconds from the command to the first step, and of ``import torch`` alone."""
    ours, reference = [], []
    environment = {**os.environ, 'PYTHONPATH': str(HERE.parent)}
    for i in range(repeats):
        output = folder / f'start_{i}'
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, '-m', 'il_robot', 'train', '--policy', 'mlp', '--dataset',
             str(dataset.path), '--output', str(output), '--steps', '1'],
            env=environment, stdout=subprocess.DEVNULL)
        metrics = output / 'metrics.jsonl'
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
            time.sleep(0.005)
        ours.append(time.perf_counter() - begin)
        if process.wait():
            raise SystemExit('il_robot train failed')
        begin = time.perf_counter()
        subprocess.run([sys.executable, '-c', 'import torch'], check=True)
        reference.append(time.perf_counter() - begin)
    return {'first_step_s': round(statistics.median(ours), 2),
            'import_torch_s': round(statistics.median(reference), 2)}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=60, help='turns of each training loop')
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = synthetic.recorded(folder / 'dataset', EPISODES, ROWS)
        result = {
            'command': f'python3 benchmarks/bc_speed.py --rounds {rounds}', 'n': rounds,
            'machine': {'processor': platform.machine(), 'system': platform.system(),
                        'cpus': os.cpu_count(), 'python': platform.python_version(),
                        'load_average': [round(v, 1) for v in os.getloadavg()]},
            'versions': {p: version(p) for p in ('torch', 'numpy', 'safetensors')},
            'threads': torch.get_num_threads(),
            'train': training(dataset, rounds),
            'inference': inference(dataset, folder),
            'start': start(dataset, folder),
        }
    file = HERE / 'results' / 'bc_speed.json'
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + '\n')
    for part in ('train', 'inference'):
        for row in result[part]:
            print(part, ', '.join(f'{k} {v}' for k, v in row.items()))
    print('start', ', '.join(f'{k} {v}' for k, v in result['start'].items()))


if __name__ == '__main__':
    main()
