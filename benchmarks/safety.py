"""The safety gate in the simulator: what it keeps of random commands, and what it costs.

    python3 benchmarks/safety.py [--steps 100000]

Random commands of four kinds (jumps anywhere, white noise around the present posture, both arms
driven at each other, half of them broken: NaN, infinity, wrong shape) go through the gate with its
defaults into the simulated robot. Counted are violations of the commanded stream's limits, and
measured the least distance between the simulator's own collision shapes of the two arms, fingers
against fingers apart, and of everything that is watched to the table.

The cost is a step of the gate at rest and on a sine of all joints, with and without distances, and
in the same run a step of a plain numpy clip as reference; medians of 7 batches.

Writes benchmarks/results/safety.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
import pybullet as p  # noqa: E402
from rich.progress import track  # noqa: E402

from il_robot.control.body import Body  # noqa: E402
from il_robot.control.clearance import Clearances  # noqa: E402
from il_robot.control.safety import SafetyGate  # noqa: E402
from il_robot.sim import default_robot  # noqa: E402
from il_robot.sim.description import urdf_text  # noqa: E402
from il_robot.sim.world import World  # noqa: E402

SPEC = default_robot()
JOINTS = np.array([name not in SPEC.gripper_names for name in SPEC.joint_names])
NEAR = 0.3
"""Farther shapes are not looked for [m]."""


def commands(rng: np.random.Generator, gate: SafetyGate) -> Iterator[Any]:
    """Without end: what nobody should ever send."""
    while True:
        kind = rng.integers(4)
        goal = rng.uniform(SPEC.lower - 0.5, SPEC.upper + 0.5)
        for _ in range(int(rng.integers(5, 120))):
            if kind == 0:
                yield goal
            elif kind == 1:
                yield gate.command + rng.normal(0, 0.1, SPEC.dim)
            elif kind == 2:  # the upper arms forward and down, where the other arm is
                for arm in SPEC.arms:
                    goal[SPEC.arm_slice(arm.name)][:3] = (
                        rng.normal(0, 0.3), rng.uniform(0.3, 1.6), rng.uniform(-1.2, 1.0))
                yield goal
            else:
                broken = goal.copy()
                broken[rng.integers(SPEC.dim)] = rng.choice([np.nan, np.inf, -np.inf, 1e30])
                yield [broken, goal[:5], goal][rng.integers(3)]


class Shapes:
    """Least distances between the simulator's own shapes."""

    def __init__(self, world: World) -> None:
        self._world, c = world, {'physicsClientId': world.client}
        arms = [world.arms[arm.name] for arm in SPEC.arms]
        names = [{-1: 'base', **{i: p.getJointInfo(a.body, i, **c)[12].decode().removeprefix(
            arm.prefix) for i in range(p.getNumJoints(a.body, **c))}}
            for a, arm in zip(arms, SPEC.arms)]
        self._names, self._arms = names, arms

    def arms(self) -> dict[str, float]:
        """Between the arms: ``links`` and ``hands`` apart, fingers against fingers left out."""
        c = {'physicsClientId': self._world.client}
        least = {'links': NEAR, 'hands': NEAR}
        for found in p.getClosestPoints(self._arms[0].body, self._arms[1].body, NEAR, **c):
            one, other = self._names[0][found[3]], self._names[1][found[4]]
            if 'finger' in one and 'finger' in other:
                continue
            hands = all('hand' in n or 'finger' in n for n in (one, other))
            kind = 'hands' if hands else 'links'
            least[kind] = min(least[kind], found[8])
        return least

    def table(self) -> float:
        """Between what is watched and the table."""
        c, least = {'physicsClientId': self._world.client}, NEAR
        for names, arm in zip(self._names, self._arms):
            for found in p.getClosestPoints(arm.body, self._world.table, NEAR, **c):
                if names[found[3]] not in ('base', 'shoulder'):
                    least = min(least, found[8])
        return least


def violations(sent: list[Any]) -> dict[str, float]:
    """The most of each quantity over its limit; 1 is the limit."""
    x, hard, dt = np.array(sent, np.float64), SPEC.safety, SPEC.dt
    v = np.diff(x, axis=0) / dt
    a = np.diff(v, axis=0) / dt
    j = np.diff(a, axis=0) / dt
    most = hard.acceleration * SPEC.acceleration
    beyond = np.maximum(SPEC.lower - x, x - SPEC.upper).max()
    rows = {'velocity': (v, SPEC.velocity), 'acceleration': (a, most),
            'jerk': (j, most / hard.jerk_time)}
    return {'position_beyond': float(max(beyond, 0.0)), **{
        k: float((np.abs(value) / limit)[:, JOINTS].max()) for k, (value, limit) in rows.items()}}


def drive(steps: int, seed: int) -> dict[str, Any]:
    """Random commands through gate and physics."""
    rng = np.random.default_rng(seed)
    watched = Clearances(Body(SPEC, urdf_text(SPEC)))
    gate = SafetyGate(SPEC, 1.0, watched)
    gate.limit(SPEC.rest + np.float32(1e-3) * JOINTS, SPEC.dt)  # or all is a slow start
    least = {'links': NEAR, 'hands': NEAR, 'table': NEAR}
    room, why, sent = np.inf, set(), [gate.command]
    with World(SPEC) as world:
        shapes = Shapes(world)
        for _, command in zip(track(range(steps), refresh_per_second=0.5), commands(rng, gate)):
            with np.errstate(over='ignore'):
                out, limited = gate.limit(
                    np.asarray(command, np.float32), SPEC.dt, world.state())
            why.update(limited.joints)
            sent.append(out)
            world.step(out)
            room = min(room, float(watched.exact(out.astype(np.float64)).min()))
            near = {**shapes.arms(), 'table': shapes.table()}
            least = {k: min(v, near[k]) for k, v in least.items()}
    wanted = SPEC.safety.clearance
    return {
        'steps': steps, 'seed': seed, 'over_limit': violations(sent),
        'least_commanded_room_m': room, 'least_distance_in_physics_m': least,
        'margins_m': {'links': wanted.links, 'hands': wanted.hands, 'table': wanted.table},
        'reasons': sorted({w.split(' ')[0] for w in why})}


def median_us(step: Callable[[], Any], batch: int = 400) -> float:
    """Time of a step [us]."""
    step()
    times = []
    for _ in range(7):
        begun = time.perf_counter()
        for _ in range(batch):
            step()
        times.append((time.perf_counter() - begun) / batch)
    return round(1e6 * float(np.median(times)), 2)


def cost() -> dict[str, float]:
    """A step of each, in one run, and of the reference."""
    watched = Clearances(Body(SPEC, urdf_text(SPEC)))
    rest = SPEC.rest.copy()
    sine = [(rest + 0.3 * np.sin(2.0 * i * SPEC.dt) * JOINTS).astype(np.float32)
            for i in range(4000)]
    out = {'numpy_clip': median_us(lambda: np.clip(rest, SPEC.lower, SPEC.upper))}
    for name, clearances in (('joints', None), ('joints_and_distances', watched)):
        for how, path in (('rest', [rest]), ('sine', sine)):
            gate = SafetyGate(SPEC, 1.0, clearances)
            gate.restart(rest)
            out[f'{name}_{how}'] = median_us(follow(gate, path))
    return out


def follow(gate: SafetyGate, path: list[Any]) -> Callable[[], Any]:
    """A step along a path, again and again."""
    way = cycle(path)
    return lambda: gate.limit(next(way), SPEC.dt, path[0])


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--steps', type=int, default=100_000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--output', type=Path, default=HERE / 'results' / 'safety.json')
    args = parser.parse_args()
    result = {
        'command': ' '.join(['python3 benchmarks/safety.py', *sys.argv[1:]]),
        'machine': f'{os.cpu_count()} cores, {platform.machine()}',
        'step_us': cost(), 'random_commands': drive(args.steps, args.seed)}
    print(json.dumps(result, indent=1))
    args.output.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
