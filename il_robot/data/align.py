"""Streams recorded apart onto the control grid: one :class:`Step` per tick.

Pure functions of arrays; the same for an episode just recorded and for a bag from elsewhere.
Rows are joint states that were really measured, at most one per control period; nothing is
interpolated. To a row at time t belong

- the action executed: the newest command for t (stamp <= t + dt/2); where none came the last
  command holds, as it does on the robot;
- who drove: the newest mode at that command's stamp;
- pictures and object poses: the newest not later than t, while they are fresh;
- the expert's label: the proposal made from t's state;
- the policy's proposal: what its chunks say for t;
- reward 1 where the step solves the task.

Rows that lack something are left out, and the report says how many and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from il_robot.errors import DatasetError
from il_robot.spec import RobotSpec
from il_robot.types import (
    Float32,
    Float64,
    Observation,
    Source,
    Step,
    UInt8,
)

Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Track:
    """One stream of vectors: stamps ``(N,)`` [s], strictly increasing; values ``(N, K)``."""

    stamps: Float64
    values: NDArray[Any]

    def __post_init__(self) -> None:
        if len(self.stamps) != len(self.values):
            raise DatasetError(f'{len(self.stamps)} stamps for {len(self.values)} values')
        if (np.diff(self.stamps) <= 0).any():
            raise DatasetError('the stamps of a track must increase')

    def __len__(self) -> int:
        return len(self.stamps)


def track(stamps: Sequence[float], values: ArrayLike, dtype: type = np.float32) -> Track:
    """A track from messages in the order of their arrival: sorted, the last of equal stamps."""
    times = np.asarray(stamps, dtype=np.float64)
    order = np.argsort(times, kind='stable')
    times = times[order]
    last = np.append(np.diff(times) > 0, True) if len(times) else np.zeros(0, bool)
    return Track(times[last], np.asarray(values, dtype=dtype)[order][last])


@dataclass(frozen=True, eq=False)
class Pictures:
    """One camera: stamps ``(N,)`` [s], increasing, and how to get the n-th picture."""

    stamps: Float64
    load: Callable[[int], UInt8]


PolicyActions = Callable[[Float64], Float32]
"""Row stamps ``(N,)`` [s] to the policy's own actions ``(N, D)``, NaN where it had none."""


@dataclass(frozen=True, eq=False)
class Streams:
    """Everything recorded of an episode, decoded.

    ``D`` joints, ``A`` arms.

    Attributes:
        states: Measured positions ``(N, D)``, by RobotSpec order.
        commands: Commanded targets ``(N, D)``; its stamp is that of the state it answers.
        modes: ``(N, A + 1)`` the driver of each arm (:class:`Source`), then the number of the
            correction that is going on, 0 without one; the stamp is that of the first command
            it is true for.
        expert: The expert's labels ``(N, D)``.
        objects: Object name to poses ``(N, 7)``.
        pictures: Camera name to its pictures.
        success: ``(N, 1)`` whether the task is solved, as the simulator says it.
        discarded: Numbers of the corrections that were taken back.
    """

    states: Track
    commands: Track
    modes: Track
    expert: Track | None = None
    objects: Mapping[str, Track] = field(default_factory=dict)
    pictures: Mapping[str, Pictures] = field(default_factory=dict)
    success: Track | None = None
    discarded: frozenset[int] = frozenset()


@dataclass(frozen=True)
class AlignReport:
    """What alignment found; nothing of it is hidden from the user.

    Attributes:
        rows: Rows of the episode.
        expected: Control periods from its first to its last row, plus one.
        left_out: Reason to number of rows left out after the first good one.
        late_start: Rows before everything was there.
        largest_gap: Between two rows [s].
        held: Rows where no command came and the last one held.
        oldest_picture: Camera to the largest age of a picture that was used [s].
    """

    rows: int
    expected: int
    left_out: Mapping[str, int]
    late_start: int
    largest_gap: float
    held: int
    oldest_picture: Mapping[str, float]

    @property
    def missing(self) -> float:
        """Share of the control periods that have no row."""
        return 1.0 - self.rows / self.expected if self.expected else 1.0

    def lines(self) -> list[str]:
        """What deserves a word, one line each; empty for a perfect episode."""
        said = []
        if self.late_start:
            said.append(f'{self.late_start} rows before every stream had begun are left out')
        for reason, count in self.left_out.items():
            said.append(f'{count} rows left out: {reason}')
        if self.expected > self.rows:
            said.append(f'{self.expected - self.rows} of {self.expected} control periods have no '
                        f'row ({self.missing:.1%}); largest gap {self.largest_gap:.3f} s')
        if self.held:
            said.append(f'no command came for {self.held} rows; there the last one holds')
        return said


@dataclass(frozen=True, eq=False)
class Alignment:
    """Rows of an episode; :meth:`steps` makes them one by one, pictures loaded as it goes."""

    report: AlignReport
    stamps: Float64
    _columns: Mapping[str, NDArray[Any]]
    _objects: Mapping[str, Float32]
    _pictures: Mapping[str, tuple[Pictures, Int64]]

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def sources(self) -> Int64:
        """``(rows, arms)`` who drove."""
        return self._columns['source'].astype(np.int64)

    @property
    def discarded(self) -> tuple[tuple[int, int], ...]:
        """Rows ``[start, stop)`` of corrections that were taken back."""
        edges = np.flatnonzero(np.diff(self._columns['discarded'], prepend=False, append=False))
        return tuple((int(a), int(b)) for a, b in zip(edges[::2], edges[1::2]))

    def steps(self) -> Iterator[Step]:
        """The rows in order.

        Raises:
            DatasetError: a picture cannot be decoded.
        """
        c = self._columns
        shown: dict[str, tuple[int, UInt8]] = {}
        for i, stamp in enumerate(self.stamps):
            for name, (pictures, which) in self._pictures.items():
                n = int(which[i])
                if name not in shown or shown[name][0] != n:
                    shown[name] = (n, pictures.load(n))
            observation = Observation(
                float(stamp), c['state'][i],
                {name: poses[i] for name, poses in self._objects.items()},
                {name: picture for name, (_, picture) in shown.items()})
            yield Step(
                observation, c['action'][i], tuple(Source(int(s)) for s in c['source'][i]),
                policy=_or_none(c['policy'][i]), expert=_or_none(c['expert'][i]),
                reward=float(c['reward'][i]), success=bool(c['success'][i]),
                intervention=bool(c['intervention'][i]))


def align(
    streams: Streams, spec: RobotSpec, start: float, end: float, *,
    policy_actions: PolicyActions | None = None, solved: bool = False, max_age: float = 0.15,
) -> Alignment:
    """Put the streams of an episode on the control grid (see the module).

    Args:
        streams: What was recorded; may reach beyond the episode on both sides.
        spec: The robot.
        start: First stamp of the episode [s].
        end: Stamp of the state reached at its end [s], which gets no row.
        policy_actions: The policy's own actions at the rows, where there is a policy.
        solved: The operator called it a success; without a simulator the last row solves it.
        max_age: Oldest picture or object pose that counts [s].

    Raises:
        DatasetError: no joint state in the episode, or no row that has everything.
    """
    dt = spec.dt
    rows = grid(streams.states.stamps, start, end, dt)
    if not len(rows):
        raise DatasetError(
            f'no joint state between {start:.3f} s and {end:.3f} s: the episode is empty')
    t = streams.states.stamps[rows]
    command = as_of(streams.commands.stamps, t + 0.5 * dt)
    which, reasons = _inputs(streams, t, max_age)
    reasons['no command had come yet'] = command < 0
    good = ~np.any(list(reasons.values()), axis=0)
    if not good.any():
        worst = max(reasons, key=lambda reason: int(reasons[reason].sum()))
        raise DatasetError(f'none of {len(t)} rows has everything: {worst}')
    kept = np.flatnonzero(good)
    t, rows, command = t[kept], rows[kept], command[kept]
    which = {name: index[kept] for name, index in which.items()}
    columns = _columns(streams, spec, rows, command, t)
    policy = policy_actions(t) if policy_actions is not None else None
    columns['policy'] = _nothing(len(t), spec.dim) if policy is None else policy
    if solved and streams.success is None:
        columns['reward'][-1], columns['success'][-1] = 1.0, True
    pictures = {name: (p, which[f'camera {name}']) for name, p in streams.pictures.items()}
    report = AlignReport(
        rows=len(t), expected=round((t[-1] - t[0]) / dt) + 1,
        left_out={r: n for r, bad in reasons.items() if (n := int(bad[kept[0]:].sum()))},
        late_start=int(kept[0]), largest_gap=float(np.diff(t).max(initial=0.0)),
        held=int((streams.commands.stamps[command] <= t - 0.5 * dt).sum()),
        oldest_picture={n: float((t - p.stamps[i]).max()) for n, (p, i) in pictures.items()})
    objects = {
        name: poses.values[which[f'object {name}']].astype(np.float32)
        for name, poses in streams.objects.items()}
    return Alignment(report, t, columns, objects, pictures)


def grid(stamps: Float64, start: float, end: float, dt: float) -> Int64:
    """Which of the stamps make rows: per control period from the first on, the one nearest.

    Args:
        stamps: ``(N,)`` increasing [s].
        start: First stamp of the episode [s].
        end: One past its last [s].
        dt: Control period [s].

    Returns:
        ``(rows,)`` indices into ``stamps``.
    """
    inside = np.flatnonzero((stamps >= start) & (stamps < end))
    if not len(inside):
        return inside
    ticks = (stamps[inside] - stamps[inside[0]]) / dt
    tick = np.rint(ticks).astype(np.int64)
    best = np.lexsort((np.abs(ticks - tick), tick))
    first = np.append(True, np.diff(tick[best]) > 0)
    return np.sort(inside[best[first]])


def as_of(stamps: Float64, at: Float64) -> Int64:
    """Index of the newest stamp not later than each time of ``at``; -1 where there is none."""
    return np.searchsorted(stamps, at, side='right').astype(np.int64) - 1


def _inputs(
    streams: Streams, t: Float64, max_age: float
) -> tuple[dict[str, Int64], dict[str, Bool]]:
    """Which picture and pose belong to each row, and why rows lack one."""
    which: dict[str, Int64] = {}
    reasons: dict[str, Bool] = {}
    sources = {
        **{f'object {name}': poses.stamps for name, poses in streams.objects.items()},
        **{f'camera {name}': pictures.stamps for name, pictures in streams.pictures.items()},
    }
    for name, stamps in sources.items():
        index = which[name] = as_of(stamps, t)
        lacking = index < 0
        if len(stamps):
            lacking |= t - stamps[np.maximum(index, 0)] > max_age
        reasons[f'{name} is silent or older than {max_age:g} s'] = lacking
    return which, reasons


def _columns(
    streams: Streams, spec: RobotSpec, rows: Int64, command: Int64, t: Float64
) -> dict[str, NDArray[Any]]:
    """All low-dimensional columns of the rows but the policy's."""
    dt, arms = spec.dt, len(spec.arms)
    mode = as_of(streams.modes.stamps, streams.commands.stamps[command])
    # before the first word of the arbiter nobody drove
    modes = np.vstack([np.zeros((1, arms + 1)), streams.modes.values.reshape(-1, arms + 1)])
    driven = modes[mode + 1]
    expert = _nothing(len(t), spec.dim)
    if streams.expert is not None and len(streams.expert):
        label = as_of(streams.expert.stamps, t + 0.5 * dt)
        own = (label >= 0) & (streams.expert.stamps[np.maximum(label, 0)] > t - 0.5 * dt)
        expert[own] = streams.expert.values[label[own]]
    reward, success = np.zeros(len(t)), np.zeros(len(t), bool)
    if streams.success is not None:
        solved = np.append(0.0, streams.success.values)  # 0 before the first word
        before = solved[as_of(streams.success.stamps, t) + 1]
        reached = solved[as_of(streams.success.stamps, np.append(t[1:], t[-1] + dt)) + 1]
        reward, success = reached - before, reached > 0
    return {
        'state': streams.states.values[rows], 'action': streams.commands.values[command],
        'source': driven[:, :arms], 'intervention': driven[:, arms] > 0,
        'discarded': np.isin(driven[:, arms], [n for n in streams.discarded if n > 0]),
        'expert': expert, 'reward': reward, 'success': success,
    }


def _nothing(rows: int, dim: int) -> Float32:
    return np.full((rows, dim), np.nan, np.float32)


def _or_none(values: NDArray[Any]) -> Float32 | None:
    return values if np.isfinite(values).all() else None
