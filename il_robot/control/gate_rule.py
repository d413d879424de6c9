"""The rules by which the scripted expert asks to drive.

:class:`StartRule` takes over at the start of each episode, to demonstrate. :class:`TakeoverRule`
takes over from a policy that goes wrong and gives back; it stands in for the human of HG-DAgger
(Kelly et al., "HG-DAgger: Interactive Imitation Learning with Human Experts", ICRA 2019). It
takes over when the policy does something clearly different from what the expert would do, when
the task makes no progress, or when it is called for help; it gives back when the two agree again
or the task has gone on, at the latest after a while. Two thresholds (hysteresis) and shortest
times keep it from chattering. No clock and no ROS: everything is passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

import numpy as np

from il_robot.spec import RobotSpec
from il_robot.types import ControlMode, Float32, Source

_GRID = 1e-6
"""Stamps that differ less are the same [s]: those of messages are whole nanoseconds."""


class Driver(Enum):
    """Who drives, as far as these rules are concerned."""

    POLICY = 'policy'
    EXPERT = 'expert'
    """The expert corrects the policy."""
    OPERATOR = 'operator'
    """Somebody drives without a policy, or a person corrects it."""
    NOBODY = 'nobody'


def driver_of(mode: ControlMode, drivers: Collection[Source]) -> Driver:
    """Who drives in a mode of the arbiter with these drivers of the arms."""
    if mode is ControlMode.AUTONOMOUS:
        return Driver.POLICY
    if mode is ControlMode.CORRECTION and Source.EXPERT in drivers:
        return Driver.EXPERT
    busy = mode in (ControlMode.CORRECTION, ControlMode.TELEOP)
    return Driver.OPERATOR if busy else Driver.NOBODY


@dataclass(frozen=True)
class TakeoverConfig:
    """When to take over and when to give back.

    Attributes:
        engage_distance: Mean disagreement over the window from which to take over [rad].
        release_distance: Mean disagreement under which the two agree [rad].
        window: Over how long the disagreement is averaged [s].
        stall_time: Without a new stage of the task for so long, take over [s].
        min_correction: Shortest correction [s].
        max_correction: Longest correction [s].
        patience: A request that changed nothing is repeated after this [s].
    """

    engage_distance: float = 0.06
    release_distance: float = 0.045
    window: float = 0.3
    stall_time: float = 3.0
    min_correction: float = 0.6
    max_correction: float = 8.0
    patience: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.release_distance < self.engage_distance:
            raise ValueError(
                f'needs 0 < release_distance < engage_distance, got {self.release_distance:g} '
                f'and {self.engage_distance:g}')
        if not 0 < self.min_correction < self.max_correction:
            raise ValueError(
                f'needs 0 < min_correction < max_correction, got {self.min_correction:g} and '
                f'{self.max_correction:g}')
        for name in ('window', 'stall_time', 'patience'):
            if getattr(self, name) <= 0:
                raise ValueError(f'{name} must be > 0 s, got {getattr(self, name):g}')


@dataclass(frozen=True)
class Verdict:
    """What the rule wants now.

    Attributes:
        request: ``engage``, ``release``, or empty.
        value: The mean disagreement [rad]; NaN while it is not known.
        threshold: What it is compared with now [rad].
        reason: Why, in words; empty without a request.
    """

    request: str
    value: float
    threshold: float
    reason: str = ''


def disagreement(a: Float32, b: Float32, spec: RobotSpec) -> float:
    """How far two actions ``(D,)`` lie apart: RMS over the joints of the worse arm [rad].

    Grippers do not count: opening a little earlier than the expert is no mistake, and when it
    is one, the task stalls.
    """
    gap = (a - b).reshape(len(spec.arms), -1)[:, :-1]
    # asked in every control period: the parts of np.mean that do something
    mean = np.add.reduce(gap * gap, axis=1) / gap.shape[1]
    return float(np.sqrt(np.float32(max(mean.tolist()))))


def _answer(call: str, value: float, threshold: float) -> Verdict:
    return Verdict('engage', value, threshold, f'called for help: {call}')


class StartRule:
    """Takes over at the start of an episode, and leaves it at that; comes when called for help.

    Args:
        patience: A request that changed nothing is repeated after this [s].
        starts: Whether it takes over at the start; else it only comes when called.
    """

    def __init__(self, patience: float = 0.5, *, starts: bool = True) -> None:
        self._patience, self._starts = patience, starts
        self.reset()

    def reset(self) -> None:
        """An episode starts."""
        self._wanted, self._asked = self._starts, -np.inf

    def update(
        self, now: float, driver: Driver, distance: float | None, stage: int, call: str = ''
    ) -> Verdict:
        """What to request at ``now``; see :meth:`TakeoverRule.update`."""
        if call and driver is Driver.NOBODY and now - self._asked >= self._patience:
            self._asked = now
            return _answer(call, np.nan, np.nan)
        if driver in (Driver.EXPERT, Driver.OPERATOR):
            self._wanted = False
        if not self._wanted or now - self._asked < self._patience:
            return Verdict('', np.nan, np.nan)
        self._asked = now
        return Verdict('engage', np.nan, np.nan, 'an episode started')


class TakeoverRule:
    """See the module; one per expert, calls serialised by the caller.

    Args:
        config: Thresholds and times.
    """

    def __init__(self, config: TakeoverConfig) -> None:
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Forget the last episode."""
        self._driver = Driver.NOBODY
        self._since = self._progress = self._asked = -np.inf
        self._stage, self._start_stage = 0, 0
        self._stalled = False
        self._window: deque[tuple[float, float]] = deque()

    def update(
        self, now: float, driver: Driver, distance: float | None, stage: int, call: str = ''
    ) -> Verdict:
        """What to request at ``now``.

        Args:
            now: Time of the observation [s]; never before the last call's.
            driver: Who drives.
            distance: :func:`disagreement` of policy and expert, None where one is silent.
            stage: Highest stage of the task reached in this episode.
            call: Why help is wanted, while the arms hold for it; empty where it is not.
        """
        if driver is not self._driver:
            self._driver, self._since, self._progress = driver, now, now
            self._asked = -np.inf
            self._window.clear()
        if stage > self._stage:
            self._progress = now
        self._stage = stage
        mean = self._mean(now, distance)
        config = self.config
        if driver is Driver.POLICY:
            threshold, reason = config.engage_distance, self._why_engage(now, mean)
            request, self._start_stage = 'engage', stage
        elif driver is Driver.EXPERT:
            threshold, reason = config.release_distance, self._why_release(now, mean)
            request = 'release'
        elif call:
            self._stalled = False
            threshold, reason, request = config.engage_distance, call, 'engage'
            self._start_stage = stage
        else:
            return Verdict('', mean, config.engage_distance)
        if not reason or now - self._asked < config.patience:
            return Verdict('', mean, threshold)
        self._asked = now
        if driver is Driver.NOBODY:
            return _answer(reason, mean, threshold)
        return Verdict(request, mean, threshold, reason)

    def _mean(self, now: float, distance: float | None) -> float:
        """The mean over a full window, else NaN."""
        if distance is None:
            self._window.clear()
            return float('nan')
        self._window.append((now, distance))
        begin = now - self.config.window + _GRID
        while len(self._window) > 1 and self._window[1][0] <= begin:
            self._window.popleft()
        if self._window[0][0] > begin:
            return float('nan')
        # that of np.mean, in a third of its time
        return float(np.add.reduce([value for _, value in self._window]) / len(self._window))

    def _why_engage(self, now: float, mean: float) -> str:
        config = self.config
        if mean > config.engage_distance:
            self._stalled = False
            return (f'policy and expert disagree by {mean:.3f} rad, more than '
                    f'{config.engage_distance:g}, over {config.window:g} s')
        waited = now - self._progress
        if waited > config.stall_time:
            self._stalled = True
            return f'no progress for {waited:.1f} s (stage {self._stage})'
        return ''

    def _why_release(self, now: float, mean: float) -> str:
        config = self.config
        elapsed = now - self._since
        if elapsed < config.min_correction:
            return ''
        if elapsed > config.max_correction:
            return f'corrected for {elapsed:.1f} s, the most allowed'
        if not mean < config.release_distance:
            return ''
        if self._stage > self._start_stage:
            return f'the task went on to stage {self._stage}, and the two agree ({mean:.3f} rad)'
        # A policy that stalls agrees well enough: only progress shows that it may go on.
        return '' if self._stalled else f'policy and expert agree again ({mean:.3f} rad)'
