"""An unattended session: reset, start recording, let somebody drive, judge, save, again.

What an operator does with a few keys, as a state machine without a clock or ROS: told what the
graph reports, it says what to request next. Used to record the expert, to evaluate a policy
over topics, and for rounds in which an expert corrects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from il_robot.types import ControlMode

RETRY = 1.0
"""A request that had no effect is repeated after this long [wall s]."""
RESET = 'reset the simulator'


class Phase(Enum):
    """Where the session is within one episode."""

    RESET = 'reset'
    READY = 'ready'
    ARM = 'arm'
    START = 'start'
    RUN = 'run'
    SAVE = 'save'
    DONE = 'done'


@dataclass(frozen=True)
class SessionConfig:
    """What a session does.

    Attributes:
        episodes: How many.
        driver: Who starts: ``policy`` (request ``run``) or ``human`` (``engage``).
        record: Whether a recorder takes part.
        max_seconds: Longest episode [s of robot time]; then it has failed.
    """

    episodes: int
    driver: Literal['policy', 'human'] = 'policy'
    record: bool = False
    max_seconds: float = 8.0

    def __post_init__(self) -> None:
        if self.episodes < 1 or self.max_seconds <= 0:
            raise ValueError('episodes must be >= 1 and max_seconds > 0')


@dataclass(frozen=True)
class View:
    """What the graph reports.

    Attributes:
        episode: Number of resets the simulator has made, -1 before the first report.
        seed: Of the present episode.
        success, terminated: What the simulator says of it.
        stage_name: Highest stage reached.
        mode: The arbiter's mode, None before the first report.
        recorder: ``idle``, ``recording``, ``saving``; None before the first report.
        policy_ready: Whether a policy node has reported itself active.
        stamp: Robot time [s].
    """

    episode: int = -1
    seed: int = -1
    success: bool = False
    terminated: bool = False
    stage_name: str = ''
    mode: ControlMode | None = None
    recorder: str | None = None
    policy_ready: bool = False
    stamp: float = 0.0


@dataclass(frozen=True)
class EpisodeOutcome:
    """How one episode went: seed, success, duration [s of robot time], stage, corrected."""

    seed: int
    success: bool
    seconds: float
    stage_name: str
    interventions: int


@dataclass
class Session:
    """See the module. ``results`` grows by one per finished episode."""

    config: SessionConfig
    results: list[EpisodeOutcome] = field(default_factory=list)
    phase: Phase = Phase.READY
    _episode: int = -1
    _asked: float = -1e9
    _began: float = 0.0
    _interventions: int = 0
    _last_mode: ControlMode | None = None

    def step(self, now: float, view: View) -> list[str]:
        """What to request now.

        Args:
            now: Wall time [s], for repeating what had no effect.
            view: What the graph reports.

        Returns:
            Words for ``session/request``, or :data:`RESET`.
        """
        if (view.mode is ControlMode.CORRECTION
                and self._last_mode is not ControlMode.CORRECTION and self.phase is Phase.RUN):
            self._interventions += 1
        self._last_mode = view.mode
        handler = {
            Phase.RESET: self._reset, Phase.READY: self._ready, Phase.ARM: self._arm,
            Phase.START: self._start, Phase.RUN: self._run, Phase.SAVE: self._save,
        }.get(self.phase)
        return handler(now, view) if handler else []

    def _go(self, phase: Phase) -> None:
        self.phase, self._asked = phase, -1e9

    def _ask(self, now: float, *words: str) -> list[str]:
        """Ask, and again every RETRY seconds while the phase lasts."""
        if now - self._asked < RETRY:
            return []
        self._asked = now
        return list(words)

    def _reset(self, now: float, view: View) -> list[str]:
        if view.episode > self._episode:
            self._go(Phase.READY)
            return []
        return self._ask(now, RESET)

    def _ready(self, now: float, view: View) -> list[str]:
        waiting_for_policy = self.config.driver == 'policy' and not view.policy_ready
        recorder_busy = self.config.record and view.recorder != 'idle'
        if view.episode < 0 or view.mode is None or waiting_for_policy or recorder_busy:
            return []
        if view.mode is not ControlMode.HOLD:
            return self._ask(now, 'reset' if view.mode is ControlMode.STOPPED else 'hold')
        self._episode = view.episode
        self._go(Phase.ARM if self.config.record else Phase.START)
        return []

    def _arm(self, now: float, view: View) -> list[str]:
        if view.recorder == 'recording':
            self._go(Phase.START)
            return []
        return self._ask(now, 'start')

    def _start(self, now: float, view: View) -> list[str]:
        if view.mode is not None and view.mode not in (ControlMode.HOLD, ControlMode.STOPPED):
            self._began, self._interventions = view.stamp, 0
            self._go(Phase.RUN)
            return []
        return self._ask(now, 'run' if self.config.driver == 'policy' else 'engage')

    def _run(self, now: float, view: View) -> list[str]:
        seconds = view.stamp - self._began
        if view.episode != self._episode:
            ended, success = True, False  # somebody else reset the simulator
        else:
            success = view.success
            ended = success or view.terminated or seconds > self.config.max_seconds
        if not ended:
            return []
        self.results.append(EpisodeOutcome(
            view.seed, success, seconds, view.stage_name, self._interventions))
        self._go(Phase.SAVE)
        words = ['hold']
        if self.config.record:
            words.append('success' if success else 'failure')
        return self._ask(now, *words)

    def _save(self, now: float, view: View) -> list[str]:
        if view.mode is not ControlMode.HOLD and view.mode is not ControlMode.STOPPED:
            return self._ask(now, 'hold')
        if self.config.record and view.recorder == 'recording':
            return self._ask(now, 'success' if self.results[-1].success else 'failure')
        if self.config.record and view.recorder != 'idle':
            return []
        self._go(Phase.DONE if len(self.results) >= self.config.episodes else Phase.RESET)
        return []
