"""Success and jerk of every execution mode under artificial inference delay, on transfer_cube.

    python benchmarks/chunk_boundaries.py [--only flow_50 ...] [--delays 0 0.1] [--episodes 100]

Records 50 demonstrations and trains each policy once under outputs/chunk_boundaries (one thread,
config/train with another chunk_size where the name says so), then runs the same seeds in every
mode at every delay, and notes each case in benchmarks/results/chunk_boundaries.json as it ends;
what is there is not run again. Jerk is the third difference of the commanded joint positions,
grippers left out. A window of four commands is at a boundary when the newest chunk changed
within it. It is counted from the first chunk on: with a delay the arms first hold, and the start
from rest is the same in every mode (in the graph the arbiter leads over). ``--speed`` measures
instead what inpainting costs; ``--picture`` draws; ``--table`` prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from il_robot import sim
from il_robot.algorithms.controller import PolicyController, PolicyFactory
from il_robot.algorithms.evaluate import EpisodeResult, as_observation, run_episode
from il_robot.algorithms.workers import run_seeds
from il_robot.apps.evaluate import SimFactory
from il_robot.checkpoints import find_checkpoint
from il_robot.control.chunks import Execution
from il_robot.policies.checkpoint import load_checkpoint
from il_robot.policies.runner import PolicyRunner
from il_robot.statistics import wilson
from il_robot.types import Float32, Observation

RESULTS = Path(__file__).parent / 'results' / 'chunk_boundaries.json'
TASK = 'transfer_cube'
POLICIES = ('flow_50', 'act_50', 'flow_20', 'diffusion_48', 'chunk_mlp_50', 'diffusion_16',
            'act_20', 'chunk_mlp_20')
"""Recipe and chunk size."""
DELAYS = (0.0, 0.1, 0.3, 0.05)
REPLAN = 8
"""n_action_steps of the modes that replan before a chunk ends."""


@dataclass(frozen=True)
class Run:
    """An episode and its commands."""

    result: EpisodeResult
    commands: Float32
    stamps: tuple[float, ...]


class Watched:
    """A controller whose commands are kept."""

    def __init__(self, controller: PolicyController) -> None:
        self._controller = controller
        self.commands: list[Float32] = []
        self.stamps: list[float] = []

    def reset(self, rng: np.random.Generator) -> None:
        """Of the controller."""
        self.commands, self.stamps = [], []
        self._controller.reset(rng)

    def act(self, observation: Observation) -> Float32:
        """Of the controller."""
        self.commands.append(self._controller.act(observation))
        self.stamps.append(self._controller.stamp)
        return self.commands[-1]


@dataclass(frozen=True)
class WatchedFactory:
    """Picklable."""

    inner: PolicyFactory

    def __call__(self, env: Any) -> Watched:
        """The controller of the policy, watched."""
        return Watched(self.inner(env))


def watched_episode(env: Any, controller: Watched, seed: int) -> Run:
    """One episode."""
    result = run_episode(env, controller, seed)
    return Run(result, np.array(controller.commands), tuple(controller.stamps))


def modes(policy: str) -> Iterator[tuple[str, Execution]]:
    """Name and execution."""
    yield 'newest', Execution('newest', REPLAN)
    yield 'blend', Execution('blend', REPLAN)
    if policy.startswith(('flow', 'diffusion')):
        yield 'rtc replace', Execution('rtc', REPLAN, inpaint='replace')
        yield 'rtc guide', Execution('rtc', REPLAN, inpaint='guide')
    yield 'ensemble', Execution('ensemble', 4 if policy.startswith('diffusion') else 1)
    yield 'open loop', Execution('newest', int(policy.rpartition('_')[2]))


def train(policy: str, folder: Path) -> None:
    """Record and train by the command line; what is there stays."""
    recipe, _, size = policy.rpartition('_')
    data, output = folder / f'{TASK}_50', folder / policy
    if (output / 'done').exists():
        return

    def call(*words: str) -> None:
        subprocess.run([sys.executable, '-m', 'il_robot', *words], check=True,
                       env={**os.environ, 'OMP_NUM_THREADS': '1'})

    call('record', '--expert', '--task', TASK, '--episodes', '50', '--output', str(data),
         '--resume')
    resume = (output / 'run.json').exists()
    call('train', '--output', str(output), *(['--resume'] if resume else [
        '--policy', recipe, '--dataset', str(data), '--seed', '0', '--set', 'training.threads=1',
        '--set', f'model.chunk_size={size}']))
    (output / 'done').touch()


def jerks(run: Run, dt: float, arms: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """``(N - 3, D)`` jerk [rad/s^3], and whether each row is at a chunk boundary ``(N - 3,)``."""
    first = int(np.isfinite(run.stamps).argmax())
    commands = run.commands[first:, arms].astype(np.float64)
    jerk = np.diff(commands, 3, axis=0) / dt ** 3
    changed = np.r_[False, np.diff(run.stamps[first:]) != 0]
    # four commands i .. i + 3: a change between two of them
    return jerk, changed[1:-2] | changed[2:-1] | changed[3:]


def row_of(runs: list[Run], dt: float, arms: list[int]) -> dict[str, Any]:
    """What is noted of a case."""
    solved = sum(run.result.success for run in runs)
    each = [jerks(run, dt, arms) for run in runs]
    jerk, edge = (np.concatenate(parts) for parts in zip(*each))
    highest = np.array([np.abs(j).max() for j, _ in each])

    def rms(values: np.ndarray) -> float | None:
        return float(np.sqrt(np.mean(values ** 2))) if len(values) else None

    return {
        'episodes': len(runs), 'successes': solved, 'interval_95': wilson(solved, len(runs)),
        'mean_length': float(np.mean([run.result.length for run in runs])),
        'jerk_rms': rms(jerk), 'jerk_rms_boundary': rms(jerk[edge]),
        'jerk_rms_inside': rms(jerk[~edge]), 'jerk_max': float(highest.max()),
        'jerk_max_median_episode': float(np.median(highest)),
        'jerk_rms_per_joint': np.sqrt((jerk ** 2).mean(0)).round(1).tolist(),
        'jerk_max_per_joint': np.abs(jerk).max(0).round(1).tolist()}


def measure(policy: str, delay: float, name: str, execution: Execution,
            args: argparse.Namespace) -> None:
    """One case, unless it is there."""
    key = {'policy': policy, 'delay': delay, 'mode': name}
    if any({k: r[k] for k in key} == key and r['episodes'] >= args.episodes
           for r in read()['rows']):
        return
    robot = sim.default_robot()
    arms = [i for i, joint in enumerate(robot.joint_names) if 'gripper' not in joint]
    runs: dict[int, Run] = {}

    def finish(seed: int, outcome: Run | str) -> bool:
        if isinstance(outcome, str):
            raise RuntimeError(outcome)
        runs[seed] = outcome
        return True

    factory = WatchedFactory(PolicyFactory(
        find_checkpoint(args.output / policy), execution, delay=delay))
    run_seeds(SimFactory({'task': TASK}), factory, watched_episode, list(range(args.episodes)),
              finish, workers=args.workers)
    row = {**key, **row_of([runs[seed] for seed in sorted(runs)], robot.dt, arms)}
    found = read()
    found['rows'] = [r for r in found['rows'] if {k: r[k] for k in key} != key] + [row]
    write(found)
    print(f'{policy:13} {1e3 * delay:4.0f} ms {name:12} {row["successes"]:3}/{row["episodes"]} '
          f'length {row["mean_length"]:4.0f}, jerk rms {row["jerk_rms"]:6.0f}, at boundaries '
          f'{row["jerk_rms_boundary"] or 0:6.0f}, max {row["jerk_max"]:8.0f}', flush=True)


def read() -> dict[str, Any]:
    """The result file."""
    if RESULTS.exists():
        return json.loads(RESULTS.read_text())
    return {'command': 'python benchmarks/chunk_boundaries.py', 'rows': [], 'speed': []}


def write(found: dict[str, Any]) -> None:
    """Note results and the machine."""
    found['machine'] = (f'{platform.machine()}, {os.cpu_count()} cores, python '
                        f'{platform.python_version()}, torch {torch.__version__}')
    found['seeds'] = 'training 0; episodes 0 to n - 1, the same for every case'
    RESULTS.write_text(json.dumps(found, indent=1) + '\n')


def speed(policy: str, folder: Path, rounds: int = 200) -> dict[str, Any]:
    """p50 and p99 of one prediction on one thread [ms], the methods taking turns."""
    torch.set_num_threads(1)
    robot = sim.default_robot()
    checkpoint, network = load_checkpoint(find_checkpoint(folder / policy), robot=robot)
    runners = {
        'plain': PolicyRunner(checkpoint, network, robot),
        'replace': PolicyRunner(checkpoint, network, robot, inpaint='replace'),
        'guide': PolicyRunner(checkpoint, network, robot, inpaint='guide')}
    env = sim.make(task=TASK)
    obs, _ = env.reset(seed=0)
    env.close()
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for k in range(rounds + 10):
        for name, runner in runners.items():
            runner.frozen = 3
            runner.observe(as_observation(obs, k * REPLAN * robot.dt))
            begun = time.perf_counter()
            runner.predict()
            seconds[name].append(time.perf_counter() - begun)
    ms = {name: 1e3 * np.array(values[10:]) for name, values in seconds.items()}
    return {'policy': policy, 'rounds': rounds, **{
        f'{name}_p{p}_ms': float(np.percentile(v, p)) for name, v in ms.items() for p in (50, 99)}}


def draw(args: argparse.Namespace) -> None:
    """Commands around boundaries, and success and jerk over the delay."""
    from matplotlib.figure import Figure

    rows, policy = read()['rows'], args.only[0] if args.only else POLICIES[0]
    figure = Figure(figsize=(13, 8), layout='constrained')
    top, bottom = figure.subplots(2, 3)
    robot, env = sim.default_robot(), sim.make(task=TASK)
    joint, dt = 2, robot.dt
    for name, execution in modes(policy):
        factory = PolicyFactory(find_checkpoint(args.output / policy), execution, delay=0.1)
        run = watched_episode(env, WatchedFactory(factory)(env), 0)
        x = run.commands[:, joint].astype(np.float64)
        times = dt * np.arange(len(x))
        top[0].plot(times, x, lw=1, label=name)
        top[1].plot(times[1:], np.diff(x) / dt, lw=1)
        top[2].plot(times[3:], np.abs(np.diff(x, 3)) / dt ** 3, lw=1)
        chosen = sorted((r for r in rows if (r['policy'], r['mode']) == (policy, name)),
                        key=lambda r: r['delay'])
        delays = [1e3 * r['delay'] for r in chosen]
        low, high = ([100 * r['interval_95'][i] for r in chosen] for i in (0, 1))
        line, = bottom[0].plot(
            delays, [100 * r['successes'] / r['episodes'] for r in chosen], 'o-')
        bottom[0].fill_between(delays, low, high, color=line.get_color(), alpha=0.1)
        bottom[1].plot(delays, [r['jerk_rms'] for r in chosen], 'o-')
        bottom[2].plot(delays, [r['jerk_max'] for r in chosen], 'o-')
    env.close()
    top[0].legend(fontsize=8)
    top[0].set(title=f'{policy}, 100 ms, {robot.joint_names[joint]}', xlabel='time [s]',
               ylabel='command [rad]')
    for axes in top:
        axes.set_xlim(0, 3)
    top[1].set(xlabel='time [s]', ylabel='velocity [rad/s]')
    top[2].set(xlabel='time [s]', ylabel='|jerk| [rad/s³]', yscale='log', ylim=(1, None))
    bottom[0].set(xlabel='delay [ms]', ylabel='success [%], 95 % interval', ylim=(-2, 102))
    bottom[1].set(xlabel='delay [ms]', ylabel='jerk, RMS [rad/s³]', yscale='log')
    bottom[2].set(xlabel='delay [ms]', ylabel='jerk, max [rad/s³]', yscale='log')
    for axes in (*top, *bottom):
        axes.grid(alpha=0.3)
    figure.savefig(RESULTS.with_suffix('.png'), dpi=100)


def table() -> str:
    """Markdown."""
    lines = ['| policy | delay | mode | success (95 %) | steps | jerk RMS | at boundaries | '
             'inside | max |', '|---|---|---|---|---|---|---|---|---|']
    order = {name: k for policy in POLICIES for k, (name, _) in enumerate(modes(policy))}
    for r in sorted(read()['rows'], key=lambda r: (
            POLICIES.index(r['policy']), r['delay'], order[r['mode']])):
        low, high = (100 * v for v in r['interval_95'])
        edge, inside = (f'{r[k]:.0f}' if r[k] is not None else '-'
                        for k in ('jerk_rms_boundary', 'jerk_rms_inside'))
        lines.append(
            f'| {r["policy"]} | {1e3 * r["delay"]:.0f} ms | {r["mode"]} | {r["successes"]} of '
            f'{r["episodes"]} ({low:.0f} to {high:.0f} %) | {r["mean_length"]:.0f} | '
            f'{r["jerk_rms"]:.0f} | {edge} | {inside} | {r["jerk_max"]:.0f} |')
    return '\n'.join(lines)


def main() -> None:
    """Train, measure, note."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', nargs='*', default=[], choices=POLICIES)
    parser.add_argument('--delays', nargs='*', type=float, default=list(DELAYS))
    parser.add_argument('--episodes', type=int, default=100)
    parser.add_argument('--workers', type=int, default=1)
    parser.add_argument('--output', type=Path, default=Path('outputs/chunk_boundaries'))
    parser.add_argument('--speed', action='store_true')
    parser.add_argument('--picture', action='store_true')
    parser.add_argument('--table', action='store_true')
    args = parser.parse_args()
    if args.table:
        print(table())
        return
    chosen = args.only or POLICIES
    for policy in chosen:
        train(policy, args.output)
    if args.picture:
        draw(args)
    elif args.speed:
        found = read()
        found['speed'] = [
            speed(p, args.output) for p in chosen if p.startswith(('flow', 'diffusion'))]
        write(found)
        print(json.dumps(found['speed'], indent=1))
    else:
        for policy in chosen:
            for delay in args.delays:
                for name, execution in modes(policy):
                    measure(policy, delay, name, execution, args)


if __name__ == '__main__':
    main()
