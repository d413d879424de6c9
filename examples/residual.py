"""Residual RL: correct a one-step policy that was cloned from few demonstrations.

    python examples/residual.py [--minutes 20] [--demonstrations 40] [--steps 5000]

Records, clones and corrects in outputs/residual_example, as the commands would.
"""

import argparse
from pathlib import Path

from il_robot.apps.main import main as il_robot


def main() -> None:
    """Three commands; what comes out is an ordinary checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--minutes', default='20')
    parser.add_argument('--demonstrations', default='40')
    parser.add_argument('--steps', default='5000', help='of the cloning')
    parser.add_argument('--episodes', default='200', help='of each evaluation')
    parser.add_argument('--output', type=Path, default=Path('outputs/residual_example'))
    args = parser.parse_args()
    dataset, cloned, better = (str(args.output / n) for n in ('dataset', 'cloned', 'better'))
    for words in (
        ['record', '--expert', '--task', 'insert_peg', '--episodes', args.demonstrations,
         '--output', dataset],
        ['train', '--policy', 'mlp', '--dataset', dataset, '--output', cloned,
         '--steps', args.steps],
        ['finetune', '--from', cloned, '--task', 'insert_peg', '--reward', 'progress',
         '--worlds', '16', '--every', '15000', '--output', better, '--minutes', args.minutes,
         '--evaluate-episodes', args.episodes],
    ):
        print('il_robot', *words)
        if il_robot(words):
            raise SystemExit(1)


if __name__ == '__main__':
    main()
