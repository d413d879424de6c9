"""What the gate's hard limits cost: experts with and without it, over its settings.

    python3 benchmarks/safety_experts.py [--episodes 20]

Every task, equal seeds, the expert in process. ``none`` clips to the position limits only,
``before`` is the gate without hard limits (velocity, and braking before position limits), the
others are multiples of the joint table's acceleration with a time to reach them [s], the last
with the distances of docs/safety.md. Success, length of an episode and how many ticks the gate
changed.

Writes benchmarks/results/safety_experts.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402

from il_robot.control.body import Body  # noqa: E402
from il_robot.control.clearance import Clearances  # noqa: E402
from il_robot.control.safety import SafetyGate  # noqa: E402
from il_robot.sim import make, task_names  # noqa: E402
from il_robot.sim.description import urdf_text  # noqa: E402
from il_robot.statistics import wilson  # noqa: E402

SETTINGS: dict[str, tuple[float, float, bool] | None] = {
    'none': None, 'before': (1000.0, 1e-3, False), '2x': (2.0, 0.02, False),
    '4x': (4.0, 0.02, False), '4x, 40 ms': (4.0, 0.04, False), '6x': (6.0, 0.02, False),
    '8x': (8.0, 0.02, False), '6x, distances': (6.0, 0.02, True)}
FIRST_SEED = 830_000


def drive(env: Any, gate: SafetyGate | None, seed: int, changed: Counter[str]
          ) -> tuple[bool, int]:
    """One episode; success and ticks."""
    obs, _ = env.reset(seed=seed)
    if gate:
        gate.restart(np.clip(obs['state'], env.robot.lower, env.robot.upper))
    ended, ticks, info = False, 0, {}
    while not ended:
        command = np.clip(env.expert().position, env.robot.lower, env.robot.upper)
        if gate:
            command, limited = gate.limit(command, env.robot.dt, obs['state'])
            changed.update(list(limited.joints))
            changed['any'] += bool(limited)
        obs, _, terminated, truncated, info = env.step(command)
        ended, ticks = terminated or truncated, ticks + 1
    return bool(info['success']), ticks


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--episodes', type=int, default=20)
    parser.add_argument('--settings', nargs='*', default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument('--output', type=Path, default=HERE / 'results' / 'safety_experts.json')
    args = parser.parse_args()
    rows = []
    for task in task_names():
        env = make(task)
        for name in args.settings:
            gate = None
            if (setting := SETTINGS[name]) is not None:
                safety = replace(env.robot.safety, acceleration=setting[0], jerk_time=setting[1])
                spec = replace(env.robot, safety=safety)
                clearances = Clearances(Body(spec, urdf_text(spec))) if setting[2] else None
                gate = SafetyGate(spec, 1.0, clearances)
            changed: Counter[str] = Counter()
            done = [drive(env, gate, FIRST_SEED + i, changed) for i in range(args.episodes)]
            solved, ticks = sum(s for s, _ in done), [t for _, t in done]
            rows.append({
                'task': task, 'gate': name, 'episodes': args.episodes, 'successes': solved,
                'interval_95': wilson(solved, args.episodes),
                'mean_ticks': float(np.mean(ticks)), 'changed_ticks': {
                    why: n / sum(ticks) for why, n in changed.most_common(8)}})
            print(rows[-1], flush=True)
        env.close()
    args.output.write_text(json.dumps({
        'command': ' '.join(['python3 benchmarks/safety_experts.py', *sys.argv[1:]]),
        'first_seed': FIRST_SEED, 'machine': f'{os.cpu_count()} cores, {platform.machine()}',
        'rows': rows}, indent=1) + '\n')


if __name__ == '__main__':
    main()
