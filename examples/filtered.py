"""Imitating one's own successes: better by some points, for policies of every kind.

    python examples/filtered.py [--minutes 20] [--demonstrations 15] [--steps 12000]

Records, clones and improves in outputs/filtered_example, as the commands would.
"""

import argparse
from pathlib import Path

from il_robot.apps.main import main as il_robot


def main() -> None:
    """Three commands; what comes out is an ordinary checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--minutes', default='20')
    parser.add_argument('--demonstrations', default='15')
    parser.add_argument('--steps', default='12000', help='of the cloning')
    parser.add_argument('--episodes', default='200', help='of each evaluation')
    parser.add_argument('--output', type=Path, default=Path('outputs/filtered_example'))
    args = parser.parse_args()
    dataset, cloned, better = (str(args.output / n) for n in ('dataset', 'cloned', 'better'))
    for words in (
        ['record', '--expert', '--task', 'insert_peg', '--episodes', args.demonstrations,
         '--output', dataset],
        ['train', '--policy', 'chunk_mlp_insert_peg', '--dataset', dataset, '--output', cloned,
         '--steps', args.steps],
        ['finetune', '--from', cloned, '--algorithm', 'filtered', '--dataset', dataset,
         '--output', better, '--minutes', args.minutes, '--evaluate-episodes', args.episodes],
    ):
        print('il_robot', *words)
        if il_robot(words):
            raise SystemExit(1)


if __name__ == '__main__':
    main()
