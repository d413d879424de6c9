"""What a control step, a reset and a world cost, against the bare physics in the same run.

* ``step``: World.step + state + part poses + task stage while the expert does the task; of it,
  in the same ticks, the bare four stepSimulation calls (their clock counts against us). Free:
  no arm touches a part. Target: <= 1.15 of the bare calls.
* ``reset``: from one episode, stopped anywhere, to the first observation of the next, settling
  included; reference: as many bare stepSimulation calls as settling takes. Target: <= 5 ms.
* ``build``: a world with its task, and the environment around it.
* ``episode``: environment and expert together, in control steps per second.

Medians; steps in wall time (its clock is cheap enough to sit inside a step), the rest in CPU time
of this thread.

    python3 benchmarks/sim_speed.py [--episodes 10]

Writes benchmarks/results/sim_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')  # matrices of 3 x 3: a second thread only waits

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from il_robot.sim import make, task_names  # noqa: E402
from il_robot.sim.bimanual_env import SETTLE_STEPS, BimanualEnv  # noqa: E402
from il_robot.sim.bullet import p  # noqa: E402
from il_robot.sim.tasks import make_task  # noqa: E402
from il_robot.sim.world import World  # noqa: E402

cpu, wall = time.thread_time_ns, time.perf_counter_ns


@contextmanager
def timed_physics(clock: Callable[[], int]) -> Iterator[list[int]]:
    """Nanoseconds of every stepSimulation call meanwhile."""
    times: list[int] = []
    bare = p.stepSimulation

    def step(client: int) -> None:
        start = clock()
        bare(client)
        times.append(clock() - start)

    p.stepSimulation = step
    try:
        yield times
    finally:
        p.stepSimulation = bare


def control_steps(env: BimanualEnv, episodes: int) -> list[tuple[bool, int, int]]:
    """(an arm touches a part, ns of the control step, ns of its bare physics) per tick."""
    rows, world, task = [], env.world, env.task
    with timed_physics(wall) as physics:
        for seed in range(episodes):
            env.reset(seed=seed)
            for _ in range(task.max_steps):
                action = env.expert().position
                physics.clear()
                start = wall()
                world.step(action)
                world.state()
                for name in task.objects:
                    world.pose(name)
                stage = task.stage(world)
                rows.append((stage > 0, wall() - start, sum(physics)))
                env._observe()  # what the expert sees next
                if stage == len(task.stages) - 1:
                    break
    return rows


def ratio(rows: list[tuple[bool, int, int]]) -> dict[str, float]:
    """Medians [us] of both and of their ratio."""
    full, bare = ([row[i] / 1e3 for row in rows] for i in (1, 2))
    return {
        'ticks': len(rows), 'control_step_us': statistics.median(full),
        'bare_us': statistics.median(bare),
        'ratio': statistics.median(a / b for a, b in zip(full, bare)),
    }


def resets(env: BimanualEnv, episodes: int) -> dict[str, float]:
    """Resets after episodes stopped in the middle of the work."""
    whole, bare = [], []
    with timed_physics(cpu) as physics:
        for seed in range(episodes):
            env.reset(seed=seed)
            for _ in range(20 + 8 * (seed % 10)):
                env.step(env.expert().position)
            physics.clear()
            start = cpu()
            env.reset(seed=seed + episodes)
            whole.append((cpu() - start) / 1e6)
            bare.append(sum(physics) / 1e6)
    return {'reset_ms': statistics.median(whole), 'settling_ms': statistics.median(bare),
            'settle_steps': SETTLE_STEPS, 'slowest_ms': max(whole)}


def builds(task: str, repeats: int) -> dict[str, float]:
    """Milliseconds to make a world, and an environment (which resets once)."""
    world_ms, env_ms = [], []
    spec = make(task).robot  # the first one makes the URDF, too
    for _ in range(repeats):
        start = cpu()
        world = World(spec)
        make_task(task).build(world)
        world_ms.append((cpu() - start) / 1e6)
        world.close()
        start = cpu()
        env = make(task)
        env_ms.append((cpu() - start) / 1e6)
        env.close()
    return {'world_ms': statistics.median(world_ms), 'env_ms': statistics.median(env_ms)}


def episodes_per_second(env: BimanualEnv, episodes: int) -> dict[str, float]:
    """Control steps per second of CPU with the expert driving, and what each half costs."""
    steps = expert = 0
    start = cpu()
    for seed in range(episodes):
        env.reset(seed=seed)
        ended = False
        while not ended:
            before = cpu()
            action = env.expert().position
            expert += cpu() - before
            _, _, terminated, truncated, _ = env.step(action)
            steps, ended = steps + 1, terminated or truncated
    seconds = (cpu() - start) / 1e9
    return {'steps_per_second': steps / seconds,
            'times_real_time': steps / seconds * env.robot.dt,
            'expert_us': expert / 1e3 / steps, 'episode_s': seconds / episodes}


def measure(task: str, episodes: int) -> dict[str, Any]:
    """Everything about one task."""
    env = make(task)
    rows = control_steps(env, episodes)
    result = {
        'step': {'all': ratio(rows), 'free': ratio([r for r in rows if not r[0]]),
                 'holding': ratio([r for r in rows if r[0]])},
        'reset': resets(env, 3 * episodes),
        'build': builds(task, 2 * episodes),
        'episode': episodes_per_second(env, episodes),
    }
    env.close()
    return result


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--episodes', type=int, default=10)
    parser.add_argument('--output', type=Path, default=HERE / 'results' / 'sim_speed.json')
    args = parser.parse_args()
    results = {}
    for task in task_names():
        results[task] = r = measure(task, args.episodes)
        for phase, x in r['step'].items():
            print(f'{task:14} {phase:8} control step {x["control_step_us"]:6.0f} us, bare '
                  f'{x["bare_us"]:6.0f} us: {x["ratio"]:.3f}')
        print(f'{task:14} reset {r["reset"]["reset_ms"]:.2f} ms (settling '
              f'{r["reset"]["settling_ms"]:.2f}), world {r["build"]["world_ms"]:.0f} ms, '
              f'{r["episode"]["steps_per_second"]:.0f} steps/s with expert '
              f'({r["episode"]["expert_us"]:.0f} us of it)', flush=True)
    args.output.write_text(json.dumps({
        'command': ' '.join(['python3 benchmarks/sim_speed.py', *sys.argv[1:]]),
        'machine': {'processor': platform.machine(), 'system': platform.system(),
                    'cpus': os.cpu_count(), 'load': os.getloadavg()[0],
                    'python': platform.python_version()},
        'versions': {name: version(name) for name in ('numpy', 'pybullet', 'gymnasium')},
        'episodes': args.episodes,
        'targets': {'step_ratio': 1.15, 'reset_ms': 5.0},
        'tasks': results,
    }, indent=1) + '\n')


if __name__ == '__main__':
    main()
