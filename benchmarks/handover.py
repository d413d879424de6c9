"""Random takeovers and returns in the simulator, through the real arbiter: is any limit passed?

    python3 benchmarks/handover.py [--takeovers 200] [--policy transfer_cube=FOLDER ...]

At random moments of random episodes of all tasks, the expert or an operator (the real teleop with
keys) takes over one arm or both, somebody asks for hold, freeze or help, or the policy falls
silent; half a second to a second and a half later the policy goes on. Without ``--policy`` it is
the expert with another style and correlated errors. Measured is the command: step, velocity and
acceleration of every arm joint against the robot's limits, from the change of driver until the
arbiter says that the handover is over. Beside it the same episodes with plain switching.

Then, for the choice to limit accelerations in handovers alone: how much drivers exceed the limit
while they drive alone, and their success with the limit in handovers and always.

Writes benchmarks/results/handover.json and handover.png.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402

from il_robot.algorithms.controller import PolicyFactory  # noqa: E402
from il_robot.algorithms.evaluate import as_observation  # noqa: E402
from il_robot.control.arbiter import Arbiter, ArbiterConfig, Proposal  # noqa: E402
from il_robot.control.modes import Request  # noqa: E402
from il_robot.control.teleop import RobotView, Teleop  # noqa: E402
from il_robot.control.teleop_config import load_teleop_config  # noqa: E402
from il_robot.sim import make, task_names  # noqa: E402
from il_robot.sim.disturbances import correlated  # noqa: E402
from il_robot.sim.experts import Style, make_expert  # noqa: E402
from il_robot.types import Source  # noqa: E402

KINDS = ('expert', 'expert', 'teleop', 'teleop', 'hold', 'freeze', 'help', 'silence')
REQUESTS = {'hold': 'hold', 'freeze': 'freeze', 'help': 'help risk 0.8 over 0.5'}
KEYS = b'jlkimuIKMUco'
ERROR, JITTER = 0.02, 0.002  # of the policy that is none [rad]
SILENT = 0.1  # policy_timeout: it shall fall silent while the arms still move [s]


class Rough:
    """A policy that is none: the expert with another style, and errors."""

    def __init__(self, env: Any, rng: np.random.Generator) -> None:
        self._expert = make_expert(env.task, env.robot, Style.sample(rng))
        self._rng, self._error = rng, np.zeros(env.robot.dim)

    def act(self, observation: Any) -> Any:
        """The ``(D,)`` action [rad, m]."""
        self._error = correlated(self._rng, self._error, np.full(self._error.shape, ERROR))
        jitter = JITTER * self._rng.standard_normal(self._error.shape)
        return (self._expert(observation).position + self._error + jitter).astype(np.float32)


@dataclass
class Record:
    """One episode, a list entry per tick.

    Attributes:
        commands: ``(D,)`` [rad, m].
        changing: ``(D,)`` whether a joint is being handed over.
        drivers: Of each arm.
        events: Ticks of takeovers and returns, what happened, and its request.
    """

    commands: list[Any] = field(default_factory=list)
    changing: list[Any] = field(default_factory=list)
    drivers: list[Any] = field(default_factory=list)
    events: list[tuple[int, str, str]] = field(default_factory=list)


class Episode:
    """One episode with takeovers at random ticks.

    Args:
        env: The environment, reset here.
        policy: Its folder, or None for :class:`Rough`.
        seed: Of everything random.
        plain: Switch plainly: whoever drives is executed, clipped to the position limits.
    """

    def __init__(self, env: Any, policy: Path | None, seed: int, *, plain: bool) -> None:
        self.env, self.spec, self.plain = env, env.robot, plain
        self.rng = np.random.default_rng([seed, 7])
        self.obs, _ = env.reset(seed=seed)
        if policy is None:
            self.policy: Any = Rough(env, np.random.default_rng([seed, 8]))
        else:
            self.policy = PolicyFactory(policy)(env)
            self.policy.reset(np.random.default_rng([seed, 1]))
        self.teleop = Teleop(self.spec, load_teleop_config('keyboard', self.spec))
        self.arbiter = Arbiter(self.spec, ArbiterConfig(policy_timeout=SILENT))
        self.record, self.command = Record(), self.obs['state']
        self.drivers = dict.fromkeys((arm.name for arm in self.spec.arms), Source.HOLD)
        self.heard = 0.0

    def plan(self) -> Iterator[tuple[int, str, str]]:
        """(tick, kind, request) of takeovers and returns, without end."""
        tick = 0
        while True:
            tick += int(self.rng.integers(15, 60))
            kind = str(self.rng.choice(KINDS))
            arms = ('', *(f' {arm.name}' for arm in self.spec.arms))[self.rng.integers(3)]
            human = kind in ('expert', 'teleop')
            yield tick, kind, f'engage{arms}' if human else REQUESTS.get(kind, '')
            tick += int(self.rng.integers(25, 75))
            yield tick, 'return', 'release' if human else 'run'

    def run(self) -> Record:
        """Until the episode ends."""
        plan = self.plan()
        when, kind, request = next(plan)
        ended, tick, doing = False, 0, ''
        while not ended:
            requests = ['run'] if tick == 0 else []
            if tick == when:
                self.record.events.append((tick, doing + ' return' if kind == 'return'
                                           else kind, request))
                doing = '' if kind == 'return' else kind
                requests += [request] if request else []
                when, kind, request = next(plan)
            elif kind == 'teleop' and tick > when - 10:
                doing = 'teleop soon'
            self._tick(tick, doing, requests)
            self.obs, _, terminated, truncated, _ = self.env.step(self.command)
            ended, tick = terminated or truncated, tick + 1
        return self.record

    def _tick(self, tick: int, doing: str, requests: list[str]) -> None:
        now = (tick + 1) * self.spec.dt
        observation = as_observation(self.obs, now - self.spec.dt)
        action = np.clip(self.policy.act(observation), self.spec.lower, self.spec.upper)
        if doing != 'silence':
            self.heard = now
        proposals = {Source.POLICY: Proposal(self.heard, action),
                     Source.EXPERT: Proposal(now, self.env.expert().position)}
        self.teleop.terminal = doing.startswith('teleop')
        if self.rng.uniform() < 0.3:
            self.teleop.keys(bytes([self.rng.choice(list(KEYS))]), now)
        view = RobotView(now, self.obs['state'], self.command, now, self.drivers)
        said = self.teleop.propose(now, view)
        if self.teleop.terminal:
            proposals[Source.TELEOP] = Proposal(now, said)
        decision = self.arbiter.decide(
            now, self.obs['state'], proposals, [Request.parse(r, self.spec) for r in requests])
        self.drivers = dict(zip(self.drivers, decision.drivers))
        self.command = decision.command
        if self.plain:
            self.command = self.record.commands[-1].copy() if tick else self.obs['state'].copy()
            for arm, driver in self.drivers.items():
                if driver is not Source.HOLD:
                    where = self.spec.arm_slice(arm)
                    self.command[where] = proposals[driver].position[where]
            self.command = np.clip(self.command, self.spec.lower, self.spec.upper)
        self.record.commands.append(self.command)
        self.record.changing.append(decision.changing)
        self.record.drivers.append(decision.drivers)


def measure(record: Record, spec: Any) -> list[dict[str, Any]]:
    """What the command did in each takeover and return of an episode."""
    joints = np.array([name not in spec.gripper_names for name in spec.joint_names])
    arm_of = np.repeat(np.arange(len(spec.arms)), len(spec.joint_names) // len(spec.arms))[joints]
    x = np.array(record.commands, np.float64)[:, joints]
    v = np.diff(x, axis=0, prepend=x[:1]) / spec.dt
    a = np.diff(v, axis=0, prepend=v[:1]) / spec.dt
    changing = np.array(record.changing)[:, joints]
    rows = []
    for i, (tick, kind, request) in enumerate(record.events):
        stop = record.events[i + 1][0] if i + 1 < len(record.events) else len(x)
        changes = [k for k in range(tick, stop) if record.drivers[k] != record.drivers[k - 1]]
        if not changes:  # the episode ended, or nobody had to do anything
            continue
        start = changes[0]
        arms = [a != b for a, b in zip(record.drivers[start], record.drivers[start - 1])]
        mine = np.array(arms)[arm_of]  # the other arm goes on as it was
        quiet = [k for k in range(start, stop) if not (changing[k] & mine).any()]
        end = quiet[0] if quiet else stop - 1
        watched = changing[start:end + 1] & mine
        watched[0] |= mine
        at, window = slice(start, start + 2), slice(start, end + 1)
        share = np.abs(a) / spec.acceleration[joints]
        rows.append({
            'kind': kind, 'request': request, 'seconds': (end - start) * spec.dt,
            'over': bool(quiet),
            'step_at_change': float(np.abs(x[start] - x[start - 1])[mine].max()),
            'acceleration_at_change': float(share[at][:, mine].max()),
            'step': float(np.abs(np.diff(x[start - 1:end + 1], axis=0))[:, mine].max()),
            'velocity': float((np.abs(v[window]) / spec.velocity[joints])[:, mine].max()),
            'acceleration': float(np.where(watched, share[window], 0.0).max()),
            'beyond_position': float(max(
                (x[window] - spec.upper[joints]).max(), (spec.lower[joints] - x[window]).max())),
        })
    return rows


def takeovers(
    count: int, policies: dict[str, Path], *, plain: bool
) -> tuple[list[dict[str, Any]], list[Record]]:
    """Rows of the first ``count`` takeovers and the returns after them, and the episodes."""
    rows: list[dict[str, Any]] = []
    records = []
    environments = {task: make(task) for task in task_names()}
    seed = 0
    while sum(not row['kind'].endswith('return') for row in rows) < count:
        for task, env in environments.items():
            record = Episode(env, policies.get(task), 800_000 + seed, plain=plain).run()
            records.append(record)
            rows += [{'task': task, **row} for row in measure(record, env.robot)]
            seed += 1
    return rows, records


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The largest of everything, in shares of the limits."""
    keys = ('step_at_change', 'acceleration_at_change', 'step', 'velocity', 'acceleration',
            'beyond_position')
    seconds = [row['seconds'] for row in rows if row['over']]
    return {
        'takeovers': sum(not row['kind'].endswith('return') for row in rows),
        'returns': sum(row['kind'].endswith('return') for row in rows),
        **{f'largest_{key}': max(row[key] for row in rows) for key in keys},
        'over_acceleration_at_change': float(np.mean(
            [row['acceleration_at_change'] > 1.002 for row in rows])),
        'seconds_p50_p95_max': (
            np.percentile(seconds, [50, 95, 100]).round(3).tolist() if seconds else []),
    }


def alone(policies: dict[str, Path], episodes: int) -> list[dict[str, Any]]:
    """Each driver alone: its own accelerations, and its success with and without the limit."""
    out = []
    for task in task_names():
        for who in ('expert', *(['policy'] if task in policies else [])):
            env = make(task)
            row: dict[str, Any] = {'task': task, 'driver': who, 'episodes': episodes}
            for how in ('none', 'handover', 'always'):
                solved, lengths, shares = 0, [], []
                for seed in range(810_000, 810_000 + episodes):
                    info, commands = drive_alone(env, policies[task] if who == 'policy' else None,
                                                 seed, how)
                    solved += info['success']
                    lengths.append(len(commands))
                    shares.append(acceleration_shares(np.array(commands), env.robot))
                row[how] = {'successes': solved, 'mean_ticks': float(np.mean(lengths))}
                if how == 'none':
                    share = np.concatenate(shares)
                    row['own_acceleration'] = {
                        'ticks_over_the_limit': float((share > 1).mean()),
                        'p50_p90_p99_max': np.percentile(share, [50, 90, 99, 100]).tolist()}
            out.append(row)
            print(row, flush=True)
    return out


def drive_alone(env: Any, policy: Path | None, seed: int, how: Any) -> tuple[Any, list[Any]]:
    """One episode with one driver; its last info and its commands."""
    spec, (obs, info) = env.robot, env.reset(seed=seed)
    controller = PolicyFactory(policy)(env) if policy else None
    if controller:
        controller.reset(np.random.default_rng([seed, 1]))
    arbiter = None if how == 'none' else Arbiter(spec, ArbiterConfig(acceleration=how))
    commands, ended = [], False
    while not ended:
        now = len(commands) * spec.dt
        action = (controller.act(as_observation(obs, now)) if controller
                  else env.expert().position)
        action = np.clip(action, spec.lower, spec.upper)
        if arbiter:
            requests = [] if commands else [Request('run')]
            action = arbiter.decide(
                now, obs['state'], {Source.POLICY: Proposal(now, action)}, requests).command
        commands.append(action)
        obs, _, terminated, truncated, info = env.step(action)
        ended = terminated or truncated
    return info, commands


def acceleration_shares(commands: Any, spec: Any) -> Any:
    """``(T,)`` largest acceleration of a tick's joints in shares of the limits."""
    joints = np.array([name not in spec.gripper_names for name in spec.joint_names])
    x = commands[:, joints].astype(np.float64)
    a = np.diff(x, 2, axis=0) / spec.dt**2
    return (np.abs(a) / spec.acceleration[joints]).max(1)


def draw(blended: Any, plain: Any, path: Path) -> None:
    """Accelerations of all takeovers and returns, sorted."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4.2), layout='constrained')
    axes = figure.subplots()
    for rows, label, color, key in (
            (plain, 'plain switching, at the change', 'C3', 'acceleration_at_change'),
            (blended, 'arbiter, whole handover', 'C0', 'acceleration')):
        axes.plot(sorted(row[key] for row in rows), '.', color=color, label=label)
    axes.axhline(1.0, color='k', lw=0.8)
    axes.set(yscale='log', ylim=(1e-2, None), xlabel='takeovers and returns, sorted',
             ylabel='largest acceleration / limit')
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--takeovers', type=int, default=200)
    parser.add_argument('--episodes', type=int, default=50, help='of each driver alone')
    parser.add_argument('--policy', action='append', default=[], metavar='TASK=FOLDER')
    parser.add_argument('--output', type=Path, default=HERE / 'results' / 'handover.json')
    args = parser.parse_args()
    policies = {task: Path(folder) for task, _, folder in (p.partition('=') for p in args.policy)}
    blended = takeovers(args.takeovers, policies, plain=False)
    plain = takeovers(args.takeovers, policies, plain=True)
    results = {
        'command': ' '.join(['python3 benchmarks/handover.py', *sys.argv[1:]]),
        'limits': 'accelerations and velocities are shares of the limits, steps are rad',
        'arbiter': summary(blended[0]), 'plain switching': summary(plain[0]),
        'by_kind': {kind: summary([r for r in blended[0] if r['kind'] == kind])
                    for kind in sorted({r['kind'] for r in blended[0]})},
    }
    print(json.dumps(results, indent=1), flush=True)
    results['alone'] = alone(policies, args.episodes)
    args.output.write_text(json.dumps(results, indent=1) + '\n')
    draw(blended[0], plain[0], args.output.with_suffix('.png'))


if __name__ == '__main__':
    main()
