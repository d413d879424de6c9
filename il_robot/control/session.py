"""A session in the simulator: episode after episode, unattended or with an operator.

What somebody would do with a few keys, as a state machine without a clock or ROS: told what the
graph reports, it says what to request next. Used to record the expert, to evaluate a policy
over topics, and for rounds in which an expert corrects. With an operator it only starts the
simulator's next episode when one has ended.

Nothing happens twice by repeating a request, and an episode that was broken off (somebody reset
the simulator, it died, somebody pressed stop) is thrown away and done again with the same seed.
STOPPED is never cleared by a program: the session waits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from il_robot.control.modes import STANDING
from il_robot.control.session_view import EpisodeOutcome, Reset, SessionConfig, View, Wish
from il_robot.types import ControlMode

RETRY = 1.0
"""A request that had no effect is repeated after this long [wall s]."""
START_RETRY = 0.05
"""The same for the one that starts the driver, which costs the episode time."""


class Phase(Enum):
    """Where the session is within one episode."""

    PREPARE = 'prepare'
    """Arms hold, nothing is recorded, the policy is ready."""
    RESET = 'reset'
    """The simulator starts the episode of the next seed."""
    RECORD = 'record'
    """The recorder begins."""
    START = 'start'
    """Somebody drives."""
    RUN = 'run'
    """Until solved, failed or too long."""
    END = 'end'
    """The arms hold, the recorder ends."""
    SAVE = 'save'
    """After the last episode: the recorder has saved all."""
    DONE = 'done'


@dataclass
class Session:
    """See the module.

    Attributes:
        config: What to do.
        results: Grows by one per finished episode.
        phase: Where it is.
        waiting: What it waits for, for the log; empty where it does not.
        last: The present episode is the last one, whatever the configuration says.
    """

    config: SessionConfig
    results: list[EpisodeOutcome] = field(default_factory=list)
    phase: Phase = Phase.PREPARE
    waiting: str = ''
    last: bool = False
    _episode: int = -1
    _asked: float = -1e9
    _began: float = 0.0
    _interventions: int = 0
    _called: float | None = None
    _waited: float = 0.0
    _mode: ControlMode | None = None
    _ours: bool = False
    _recorded: bool = False
    _outcome: str = ''

    @property
    def seed(self) -> int:
        """Of the present or next episode."""
        return self.config.seed + len(self.results)

    @property
    def _drive(self) -> str:
        """The request that makes the driver drive."""
        return 'run' if self.config.driver == 'policy' else 'engage'

    def step(self, now: float, view: View) -> list[Wish]:
        """What to request now.

        Args:
            now: Wall time [s], for repeating what had no effect.
            view: What the graph reports.
        """
        if view.mode is ControlMode.CORRECTION and self._mode is not ControlMode.CORRECTION:
            self._interventions += 1
        self._mode = view.mode
        if view.help and self._called is None:
            self._called = view.stamp
        elif not view.help and self._called is not None:
            self._waited += max(0.0, view.stamp - self._called)
            self._called = None
        self.waiting = ''
        handler = {
            Phase.PREPARE: self._prepare, Phase.RESET: self._reset, Phase.RECORD: self._record,
            Phase.START: self._start, Phase.RUN: self._run, Phase.END: self._end,
            Phase.SAVE: self._save,
        }.get(self.phase)
        return handler(now, view) if handler else []

    def _go(self, phase: Phase) -> None:
        self.phase, self._asked = phase, -1e9

    def _ask(self, now: float, *wishes: Wish, retry: float = RETRY) -> list[Wish]:
        """Ask, and again every ``retry`` seconds while the phase lasts."""
        if now - self._asked < retry:
            return []
        self._asked = now
        return list(wishes)

    def _prepare(self, now: float, view: View) -> list[Wish]:
        config = self.config
        if self.last and view.recorder != 'recording':
            self._go(Phase.SAVE)
            return self.step(now, view)
        for what, ready in (
            ('the simulator', view.episode >= 0),
            ('the arbiter', view.mode is not None),
            ('the recorder', not config.record or view.recorder not in (None, 'waiting')),
            ('the policy to become active', config.driver != 'policy' or view.policy_ready),
            ('the end of the recording that is under way',
             self._ours or view.recorder != 'recording'),
            ('somebody to clear the stop (request reset)', view.mode is not ControlMode.STOPPED),
        ):
            if not ready:
                self.waiting = what
                return []
        if self._ours and view.recorder == 'recording':  # begun late, after all was broken off
            return self._ask(now, 'discard')
        if view.mode is not ControlMode.HOLD:
            return self._ask(now, 'hold')
        self._episode, self._ours = view.episode, False
        self._go(Phase.RESET)
        return self._reset(now, view)

    def _reset(self, now: float, view: View) -> list[Wish]:
        if view.episode == self._episode or view.seed != self.seed:
            self.waiting = 'the simulator to reset'
            return self._ask(now, Reset(self.seed))
        self._episode, self._interventions = view.episode, 0
        self._began, self._recorded = view.stamp, False
        self._called, self._waited = None, 0.0
        if self.config.driver == 'operator':
            self._go(Phase.RUN)
            return []
        self._go(Phase.RECORD if self.config.record else Phase.START)
        return self.step(now, view)

    def _record(self, now: float, view: View) -> list[Wish]:
        if self._broken(view):
            return self._finish(now, view, 'discard')
        if view.recorder_episode != view.episode:
            self.waiting = 'the recorder to see the reset'
            return []
        if view.recorder != 'recording':
            self.waiting, self._ours = 'the recorder to begin', True
            return self._ask(now, 'start')
        self._go(Phase.START)
        return self._start(now, view)

    def _start(self, now: float, view: View) -> list[Wish]:
        if self._broken(view):
            return self._finish(now, view, 'discard')
        if self.config.driver == 'policy' and view.policy_stamp < self._began:
            self.waiting = 'the policy to propose something for this episode'
            return []
        if view.mode in STANDING:
            self.waiting = f'the {self.config.driver} to drive'
            return self._ask(now, self._drive, retry=START_RETRY)
        self._began = view.stamp
        self._go(Phase.RUN)
        return []

    def _run(self, now: float, view: View) -> list[Wish]:
        if self.config.driver == 'operator':
            return self._watch(now, view)
        if self._broken(view):
            return self._finish(now, view, 'discard')
        waiting = 0.0 if self._called is None else view.stamp - self._called
        seconds = view.stamp - self._began - self._waited - waiting
        late = bool(self.config.max_seconds) and seconds >= self.config.max_seconds
        if not (view.success or view.terminated or late or self._deserted(view)
                or (view.truncated and not self.config.max_seconds)):
            if view.help:
                self.waiting = f'help: {view.help}'
            # Who was late for a moment, on a busy machine, may go on; a hold on request stays.
            return self._ask(now, self._drive) if view.lost else []
        self._note(view, view.success)
        return self._finish(now, view, 'success' if view.success else 'failure')

    def _watch(self, now: float, view: View) -> list[Wish]:
        """The operator works; over when he has ended the recording, else when it is solved."""
        if view.episode != self._episode:
            return self._finish(now, view, '')
        if self._deserted(view):
            self._note(view, False)
            return self._finish(now, view, 'failure')
        if self.config.record:
            self._recorded |= view.recorder == 'recording'
            over = self._recorded and view.recorder != 'recording'
            counts, success = view.outcome in ('success', 'failure'), view.outcome == 'success'
        else:
            over, counts, success = view.terminated, True, view.success
        if not over:
            return []
        if counts:
            self._note(view, success)
        return self._finish(now, view, '')

    def _deserted(self, view: View) -> bool:
        """Whether help was called for, and nobody came in time."""
        return (self._called is not None
                and view.stamp - self._called >= self.config.help_timeout)

    def _broken(self, view: View) -> bool:
        return view.episode != self._episode or view.mode is ControlMode.STOPPED

    def _note(self, view: View, success: bool) -> None:
        reason = ''
        if self._called is not None and not success:
            reason = (f'help was wanted ({view.help}), and nobody came within '
                      f'{view.stamp - self._called:.1f} s')
        self.results.append(EpisodeOutcome(
            view.seed, success, view.stamp - self._began, view.stage_name, self._interventions,
            reason))

    def _finish(self, now: float, view: View, outcome: str) -> list[Wish]:
        self._outcome = outcome
        self._go(Phase.END)
        return self._end(now, view)

    def _end(self, now: float, view: View) -> list[Wish]:
        wishes = []
        if view.recorder == 'recording' and self.config.record and self._outcome:
            wishes.append(self._outcome)
        if view.mode not in STANDING or view.help:
            wishes.append('hold')  # which also ends a run that is only suspended
        if wishes:
            self.waiting = 'the arms to hold and the recorder to end'
            return self._ask(now, *wishes)
        over = self.last or (
            self.config.episodes and len(self.results) >= self.config.episodes)
        self._go(Phase.SAVE if over else Phase.PREPARE)
        return self.step(now, view)

    def _save(self, now: float, view: View) -> list[Wish]:
        if self.config.record and view.recorder != 'idle':
            self.waiting = 'the recorder to save'
            return []
        self._go(Phase.DONE)
        return []
