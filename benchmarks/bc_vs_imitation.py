"""Training speed of our behaviour cloning against the imitation library's, in one run.

Same data (features and actions of a dataset, normalised beforehand for both), same hidden
layers, same batch, float32 on a CPU with the same number of threads. Both are what a user calls:
``algorithms.bc.train`` and ``imitation.algorithms.bc.BC.train``, each with its own data loading,
logging and loss. Theirs is a Gaussian log-likelihood, so ours is measured with it, too
(``mlp_gaussian``, which also predicts the deviation), beside the L1 loss of ``mlp``. Noise on the
features and the clipping of gradients, which theirs lacks, are off. The processes take turns, and
medians of turns are compared. ``bound`` is the ratio that a step would have which did nothing but
the matrix products of ``mlp``, forwards and backwards, and AdamW: what float32 on this processor
leaves to win.

Targets: samples/s of ``mlp`` >= 20x at batch 32, >= 10x at batch 256.

    python3 -m venv IMITATION && IMITATION/bin/pip install imitation==1.0.1 'setuptools<81'
    python3 benchmarks/bc_vs_imitation.py --imitation-python IMITATION/bin/python [--rounds 15]

Writes benchmarks/results/bc_vs_imitation.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # as `il_robot train` sets it; for both

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import synthetic_episodes as synthetic  # noqa: E402
from peer import Peer  # noqa: E402

from il_robot.algorithms.bc import train  # noqa: E402
from il_robot.algorithms.recipe import make_recipe  # noqa: E402
from il_robot.algorithms.samples import dataset_layout, make_samples  # noqa: E402
from il_robot.data.dataset import Dataset  # noqa: E402

EPISODES, ROWS = 50, 140  # the size of 50 demonstrations of transfer_cube
STEPS = {'ours': 500, 'imitation': 20, 'bound': 50}  # of one turn
# imitation's own default net, and that of our recipes
NETS = ((32, 32), (256, 256, 256))
TARGETS = {32: 20.0, 256: 10.0}
POLICIES = ('mlp', 'mlp_gaussian')


def recipe_of(policy: str, hidden: tuple[int, ...], batch: int, rounds: int, threads: int) -> Any:
    """What both can do, and no more."""
    return make_recipe({
        'policy': policy, 'model': {'hidden': list(hidden)},
        'training': {
            'steps': (rounds + 2) * STEPS['ours'], 'batch_size': batch, 'validation': 0.0,
            'log_every': STEPS['ours'], 'feature_noise': 0.0, 'grad_clip': 0.0,
            'checkpoint_every': 10**9, 'device': 'cpu', 'threads': threads}})


def arithmetic(widths: list[int], batch: int) -> Callable[[], None]:
    """The least that a step of a net of these widths, inputs and outputs included, computes."""
    weights = [torch.randn(b, a) for a, b in zip(widths, widths[1:])]
    values = [torch.randn(batch, width) for width in widths]
    out = [torch.empty_like(value) for value in values]
    gradients = [torch.empty_like(weight) for weight in weights]
    means, squares = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    steps = [torch.zeros(()) for _ in weights]

    def step() -> None:
        for i, weight in enumerate(weights):
            torch.mm(values[i], weight.t(), out=out[i + 1])
        for i, weight in reversed(list(enumerate(weights))):
            torch.mm(values[i + 1].t(), values[i], out=gradients[i])
            if i:
                torch.mm(values[i + 1], weight, out=out[i])
        torch._fused_adamw_(
            weights, gradients, means, squares, [], steps, lr=1e-3, beta1=0.9, beta2=0.999,
            weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False)

    return step


def take_turns(
    dataset: Dataset, recipe: Any, imitation: Peer
) -> dict[str, list[float]]:
    """Samples per second of every turn of our training; after each, the others have one."""
    rates: dict[str, list[float]] = {'ours': [], 'imitation': [], 'bound': []}
    hidden, batch = recipe.model['hidden'], recipe.training.batch_size
    least = arithmetic(
        [dataset_layout(dataset).dim, *hidden, dataset.action.shape[1]], batch)
    mark = time.perf_counter()

    def turn(record: Any) -> None:
        nonlocal mark
        rates['ours'].append(STEPS['ours'] * batch / (time.perf_counter() - mark))
        seconds = imitation.seconds(','.join(map(str, hidden)), batch, STEPS['imitation'])
        rates['imitation'].append(STEPS['imitation'] * batch / seconds)
        mark = time.perf_counter()
        for _ in range(STEPS['bound']):
            least()
        rates['bound'].append(STEPS['bound'] * batch / (time.perf_counter() - mark))
        mark = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        train(dataset, recipe, Path(folder) / 'run', on_log=turn)
    return {name: values[1:-1] for name, values in rates.items()}  # set-up; the end


def main() -> int:
    """Measure, print, write; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--imitation-python', required=True, help='python with imitation 1.0.1')
    parser.add_argument('--rounds', type=int, default=15, help='turns of each')
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = synthetic.recorded(folder / 'dataset', EPISODES, ROWS)
        samples = make_samples(
            dataset, dataset_layout(dataset),
            recipe_of('mlp', NETS[0], 32, args.rounds, args.threads).training, 1, 1,
            torch.device('cpu'))
        np.savez(folder / 'data.npz', features=samples.features.numpy(),
                 actions=samples.labels.numpy())
        imitation = Peer(
            args.imitation_python, 'imitation_bc.py', folder / 'data.npz', args.threads)
        for hidden in NETS:
            for batch, target in TARGETS.items():
                for policy in POLICIES:
                    recipe = recipe_of(policy, hidden, batch, args.rounds, args.threads)
                    rates = take_turns(dataset, recipe, imitation)
                    ours, theirs, most = (statistics.median(v) for v in rates.values())
                    rows.append({
                        'policy': policy, 'hidden': hidden, 'batch': batch,
                        'ours_samples_per_s': round(ours),
                        'imitation_samples_per_s': round(theirs),
                        'ratio': round(ours / theirs, 2), 'target': target,
                        'bound': round(most / theirs, 2)})
                    print(', '.join(f'{k} {v}' for k, v in rows[-1].items()), flush=True)
        imitation.close()
    missed = [r for r in rows if r['policy'] == 'mlp' and r['ratio'] < r['target']]
    (HERE / 'results' / 'bc_vs_imitation.json').write_text(json.dumps({
        'command': f'python3 benchmarks/bc_vs_imitation.py --imitation-python '
                   f'IMITATION/bin/python --rounds {args.rounds} --threads {args.threads}',
        'n': args.rounds, 'steps_per_turn': STEPS,
        'machine': {'processor': platform.machine(), 'system': platform.system(),
                    'cpus': os.cpu_count(), 'python': platform.python_version(),
                    'load_average': [round(v, 1) for v in os.getloadavg()]},
        'versions': {p: version(p) for p in ('torch', 'numpy')},
        'versions_imitation': imitation.about,
        'targets_missed': len(missed), 'rows': rows}, indent=1) + '\n')
    return int(bool(missed))


if __name__ == '__main__':
    sys.exit(main())
