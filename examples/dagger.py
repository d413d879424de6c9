"""DAgger: the policy drives, the expert labels what it meets, and it learns from that.

    python examples/dagger.py [--rounds 3] [--gate beta]

With --gate lazy, safe, ensemble or thrifty the policy asks for help by itself.
"""

import argparse
from pathlib import Path

from il_robot.apps.main import main as il_robot

ASKING = ('ensemble', 'safe', 'lazy', 'thrifty')
MEMBERS = ('ensemble', 'thrifty')  # look at how far the members of an ensemble disagree


def main() -> None:
    """One command; OUTPUT/dagger.png shows success over labels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rounds', default='3')
    parser.add_argument('--gate', default='beta', choices=('beta', *ASKING))
    parser.add_argument('--demonstrations', default='10')
    parser.add_argument('--steps', default='5000', help='of each training')
    parser.add_argument('--episodes', default='200', help='of each evaluation')
    parser.add_argument('--tries', default='20', help='episodes of each round')
    parser.add_argument('--output', type=Path, default=Path('outputs/dagger_example'))
    args = parser.parse_args()
    words = ['dagger', '--policy', 'ensemble_mlp' if args.gate in MEMBERS else 'mlp',
             '--demonstrations', args.demonstrations, '--rounds', args.rounds, '--gate', args.gate,
             '--episodes', args.tries, '--evaluate-episodes', args.episodes,
             '--set', f'training.steps={args.steps}', '--output', str(args.output)]
    if args.gate in ASKING:
        words += ['--no-relabel', '--budget', '0.2', '--alone', args.tries]
    print('il_robot', *words)
    raise SystemExit(il_robot(words))


if __name__ == '__main__':
    main()
