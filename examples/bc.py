"""Behavioural cloning: an expert shows, a network imitates, and is tried on seeds never seen.

    python examples/bc.py [--demonstrations 20] [--steps 5000]

The same as the commands `il_robot record`, `train` and `evaluate`.
"""

import argparse
from functools import partial
from pathlib import Path

from il_robot import sim
from il_robot.algorithms.bc import train
from il_robot.algorithms.collect_rounds import Place, collect_demonstrations
from il_robot.algorithms.controller import PolicyFactory
from il_robot.algorithms.evaluate import evaluate, summary
from il_robot.algorithms.recipe import load_recipe
from il_robot.data.dataset import open_dataset
from il_robot.resources import named_config


def main() -> None:
    """Record, train, evaluate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--demonstrations', type=int, default=20)
    parser.add_argument('--steps', type=int, default=5000, help='of the training')
    parser.add_argument('--episodes', type=int, default=200, help='of the evaluation')
    parser.add_argument('--output', type=Path, default=Path('outputs/bc_example'))
    args = parser.parse_args()
    # a little noise on what he does, not on his labels, shows the way back from small errors
    shown = partial(sim.make, 'transfer_cube', disturbances={'action_noise': 0.005})
    collect_demonstrations(Place(shown), args.output / 'dataset', first_seed=1_000_000,
                           enough=lambda episodes, rows: episodes >= args.demonstrations)
    recipe = load_recipe(named_config('train', 'mlp'), [f'training.steps={args.steps}'])
    result = train(open_dataset(args.output / 'dataset'), recipe, args.output / 'run')
    found = evaluate(partial(sim.make, 'transfer_cube'), PolicyFactory(result.checkpoint),
                     range(args.episodes))
    report = summary(found.episodes())
    low, high = report['interval_95']
    print(f'success {report["success_rate"]:.3f} [{low:.3f}, {high:.3f}] of {args.episodes}')


if __name__ == '__main__':
    main()
