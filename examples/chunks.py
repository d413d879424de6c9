"""Chunks: ACT, flow or diffusion, and how their plans are executed.

    python examples/chunks.py [--policy act] [--demonstrations 30]

Trains once and evaluates with each way of execution that the policy knows.
"""

import argparse
from pathlib import Path

from il_robot.apps.main import main as il_robot

MODES = {'act': ('ensemble', 'newest', 'blend'), 'flow': ('ensemble', 'newest', 'rtc'),
         'diffusion': ('newest', 'blend', 'rtc')}


def main() -> None:
    """Commands, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--policy', default='act', choices=MODES)
    parser.add_argument('--demonstrations', default='30')
    parser.add_argument('--steps', default='5000', help='of the training')
    parser.add_argument('--episodes', default='200', help='of each evaluation')
    parser.add_argument('--output', type=Path, default=Path('outputs/chunks_example'))
    args = parser.parse_args()
    dataset, run = str(args.output / 'dataset'), str(args.output / args.policy)
    commands = [
        ['record', '--expert', '--episodes', args.demonstrations, '--output', dataset],
        ['train', '--policy', args.policy, '--dataset', dataset, '--output', run,
         '--steps', args.steps]]
    for mode in MODES[args.policy]:
        steps = '1' if mode == 'ensemble' else '8'
        commands.append(['evaluate', '--policy', run, '--episodes', args.episodes, '--execution',
                         f'mode={mode}', '--execution', f'n_action_steps={steps}'])
    for words in commands:
        print('il_robot', *words)
        if il_robot(words):
            raise SystemExit(1)


if __name__ == '__main__':
    main()
