"""Cost of the simulator around its physics, as ratios in one run.

    python3 benchmarks/sim_speed.py [--episodes 6]

A control step of the world (motor targets, 4 physics steps, joint states) against the 4
stepSimulation calls inside it, while the expert does the task: bar 1.15; beside it the whole
Gymnasium step (checks, disturbances, part poses, contacts, stage, reward, observation). Reset of
the environment: bar 5 ms. CPU time of the process, medians over n = ticks. Writes
benchmarks/results/sim_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from il_robot.sim import make, task_names  # noqa: E402
from il_robot.sim.bullet import p  # noqa: E402


class Timed:
    """A function that adds up its own CPU time [ns]."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.total = 0
        self._function = function

    def __call__(self, *args: Any) -> Any:
        """Call it."""
        start = time.process_time_ns()
        result = self._function(*args)
        self.total += time.process_time_ns() - start
        return result


def measure(task: str, episodes: int, physics: Timed) -> dict[str, float]:
    """Median CPU microseconds per control tick of one task, and of a reset."""
    env = make(task)
    clock = time.process_time_ns
    world = env.world
    world.step, world.state = step, state = Timed(world.step), Timed(world.state)
    ticks: list[tuple[int, int, int, int]] = []
    resets = []
    for seed in range(episodes):
        start = clock()
        env.reset(seed=seed)
        resets.append(clock() - start)
        terminated = truncated = False
        while not (terminated or truncated):
            a, before, control = clock(), physics.total, step.total + state.total
            action = env.expert().position
            b = clock()
            *_, terminated, truncated, _ = env.step(action)
            end = clock()
            ticks.append((
                end - b, step.total + state.total - control, physics.total - before, b - a))
    env.close()
    env_step, control_step, bare, expert = (
        statistics.median(column) / 1e3 for column in zip(*ticks))
    return {
        'env_step_us': env_step, 'control_step_us': control_step, 'bare_physics_us': bare,
        'control_ratio': control_step / bare, 'env_ratio': env_step / bare,
        'expert_us': expert,
        'reset_ms': statistics.median(resets) / 1e6, 'ticks': len(ticks)}


def main() -> None:
    """Measure every task, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--episodes', type=int, default=6)
    args = parser.parse_args()
    physics = Timed(p.stepSimulation)
    p.stepSimulation = physics
    rows = {task: measure(task, args.episodes, physics) for task in task_names()}
    for task, row in rows.items():
        print(f'{task:14} ' + '  '.join(f'{k} {v:.4g}' for k, v in row.items()))
    (HERE / 'results' / 'sim_speed.json').write_text(json.dumps({
        'command': ' '.join(['python3 benchmarks/sim_speed.py', *sys.argv[1:]]),
        'machine': {'processor': platform.machine(), 'cpus': os.cpu_count(),
                    'python': platform.python_version(), 'load_average': os.getloadavg()},
        'versions': {name: version(name) for name in ('numpy', 'pybullet')},
        'tasks': rows,
    }, indent=1) + '\n')


if __name__ == '__main__':
    main()
