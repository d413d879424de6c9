"""Three rounds of live correction over topics, unattended: what each cost and brought.

    python3 benchmarks/live_rounds.py [--gate beta] [--ros2] [--demonstrations 5] [--warm-steps 0]
                                      [--output outputs/live_rounds]

The commands of a user, one after the other: a few demonstrations, a one-step policy, and
`il_robot launch dagger` (with ``--ros2``: `ros2 launch il_robot dagger.launch.py`), where the
expert node corrects 20 episodes a round, a child process trains, another evaluates on 200 unseen
episodes, and the running policy node swaps. With ``--gate human`` the expert takes over by its own
rule, what he does meanwhile is learned, and all episodes are shoved and noisy. With ``beta`` he
drives half of the time, by chance, and labels every state (Ross et al. 2011); with a robot-gated
one the robot calls him, and an ensemble learns when; nobody shoves. In lockstep, so that the load
of the machine changes nothing but the time. The same command goes on where it was.

Writes benchmarks/results/live_rounds.json, or live_rounds_GATE.json, with _ros2 behind it where so
launched, and the picture beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from il_robot.data.dataset import open_dataset
from il_robot.statistics import wilson
from il_robot.types import Source

RESULTS = Path(__file__).parent / 'results'
ROUNDS, EPISODES, EVALUATED = 3, 20, 200
# A hand that corrects is as inexact as one that demonstrates.
SHOVES = 'shoves=2,action_noise=0.005'
BUDGET = '0.2'


def commands(output: Path, args: argparse.Namespace) -> list[list[str]]:
    """What is still to be run."""
    il_robot = [sys.executable, '-m', 'il_robot']
    dataset, run = output / 'demonstrations', output / 'round_0'
    launch = (['ros2', 'launch', 'il_robot', 'dagger.launch.py'] if args.ros2
              else [*il_robot, 'launch', 'dagger'])
    recipe, assess, gated = 'mlp', [], [f'disturbances:={SHOVES}']
    if args.gate == 'beta':
        gated = ['gate:=beta', 'gate_options:=period=0.2',
                 'settings:=training.weights.policy=1,training.weights.share=0']
    elif args.gate != 'human':
        recipe, assess = 'ensemble_mlp', ['--assess', BUDGET]
        gated = [f'gate:={args.gate}', f'budget:={BUDGET}', 'settings:=training.weights.share=0']
    return [
        [*il_robot, 'record', '--expert', '--episodes', str(args.demonstrations), '--output',
         str(dataset), '--resume'],
        [*il_robot, 'train', '--output', str(run), *(
            ['--resume'] if (run / 'run.json').exists() else
            ['--policy', recipe, '--dataset', str(dataset), *assess])],
        [*launch, f'policy:={run}', f'dataset:={dataset}', f'recipe:={recipe}',
         f'rounds:={ROUNDS}', f'episodes:={EPISODES}', f'evaluate:={EVALUATED}', *gated,
         f'warm_steps:={args.warm_steps}', 'lockstep:=true', f'output:={output / "live"}']]


def result(output: Path) -> list[dict[str, Any]]:
    """Each round: what the expert drove, and what the policy that learned from it solves."""
    past = json.loads((output / 'live' / 'rounds.json').read_text())['past']
    dataset = open_dataset(output / 'live' / 'dataset')
    rows = []
    for entry in past:
        mine = np.zeros(len(dataset), dtype=bool)
        for episode in dataset.episodes:
            mine[episode.start:episode.stop] = episode.round == entry['number']
        driven = (dataset.source == int(Source.EXPERT)).any(1) & mine
        score = entry['score']
        rows.append({
            'round': entry['number'], 'episodes': entry['episodes'],
            'takeovers': entry['corrections'],
            'expert_seconds': round(float(driven.sum() / dataset.fps), 2),
            'successes': score['successes'], 'evaluated': score['episodes'],
            'interval_95': wilson(score['successes'], score['episodes']),
            'drives': entry['taken']})
    return rows


def main() -> None:
    """Run what is missing; write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--ros2', action='store_true', help='through ros2 launch')
    parser.add_argument('--gate', default='human',
                        choices=['human', 'beta', 'ensemble', 'safe', 'lazy', 'thrifty'])
    parser.add_argument('--demonstrations', type=int, default=5)
    parser.add_argument('--warm-steps', type=int, default=0,
                        help='new policies go on from the present one; 0: from fresh weights')
    parser.add_argument('--output', type=Path, default=Path('outputs/live_rounds'))
    args = parser.parse_args()
    output = args.output.absolute()
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    for words in commands(output, args):
        print(f'$ {shlex.join(words)}', flush=True)
        begun = time.monotonic()
        subprocess.run(words, check=True)
        print(f'({time.monotonic() - begun:.0f} s)', flush=True)
    name = 'live_rounds' + f'_{args.gate}' * (args.gate != 'human') + '_ros2' * args.ros2
    rows = result(output)
    (RESULTS / f'{name}.json').write_text(json.dumps({
        'command': f'python3 benchmarks/live_rounds.py --gate {args.gate}' + ' --ros2' * args.ros2
                   + f' --demonstrations {args.demonstrations} --warm-steps {args.warm_steps}',
        'launched': shlex.join(commands(Path('outputs/live_rounds'), args)[-1]).replace(
            f'{sys.executable} -m ', ''),
        'rounds': rows}, indent=1) + '\n')
    shutil.copy(output / 'live' / 'rounds.png', RESULTS / f'{name}.png')
    for row in rows:
        low, high = (100 * v for v in row['interval_95'])
        print(f'round {row["round"]}: {row["takeovers"]:3} takeovers, '
              f'{row["expert_seconds"]:5.1f} s driven by the expert, {row["successes"]:3} of '
              f'{row["evaluated"]} [{low:.1f}, {high:.1f}] %')


if __name__ == '__main__':
    main()
