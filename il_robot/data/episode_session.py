"""When an episode begins and ends: pure, with stamps passed in.

An episode is the half-open span [start, end) of joint state stamps: the state at ``end`` is the
one reached, no action follows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from il_robot.errors import IlRobotError
from il_robot.types import Outcome

REQUESTS = ('start', 'success', 'failure', 'discard')


class RefusedError(IlRobotError):
    """A request that is not possible now; the message says why."""


@dataclass(frozen=True)
class Begin:
    """Record from the state with this stamp [s] on."""

    start: float


@dataclass(frozen=True)
class End:
    """The episode is over; ``end`` is the stamp of the state reached [s]."""

    end: float
    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class Discard:
    """Throw the episode away."""

    reason: str


Event = Begin | End | Discard


class EpisodeSession:
    """Decides from requests, the simulator's word and the time.

    Args:
        auto: ``sim``: an episode begins with each reset of the simulator and ends with its
            verdict; ``''``: by request only.
        max_seconds: Longest episode [s]; 0 = no limit. It ends as a failure in mode ``sim``,
            else with the outcome unknown.
    """

    def __init__(self, auto: Literal['', 'sim'] = '', max_seconds: float = 0.0) -> None:
        self._auto = auto
        self._max = max_seconds
        self._start: float | None = None
        self._newest = float('-inf')
        # (episode, seed) of the simulator's present episode
        self._episode: tuple[str, str] | None = None

    @property
    def recording(self) -> bool:
        """Whether an episode is open."""
        return self._start is not None

    @property
    def simulated(self) -> str:
        """The simulator's number of its episode; empty without one."""
        return '' if self._episode is None else self._episode[0]

    @property
    def seconds(self) -> float:
        """Length of the open episode so far [s]."""
        return 0.0 if self._start is None else max(0.0, self._newest - self._start)

    def request(self, word: str) -> Event:
        """Carry out one of :data:`REQUESTS`.

        Raises:
            RefusedError: not possible now.
        """
        if word == 'start':
            if self.recording:
                raise RefusedError(
                    'start: an episode is being recorded; end it with success, failure or '
                    'discard first')
            if self._newest == float('-inf'):
                raise RefusedError(
                    'start: no joint_states have come yet; is sim or hardware running?')
            return self._begin(self._newest)
        if not self.recording:
            raise RefusedError(f'{word}: no episode is being recorded; request start first')
        if word == 'discard':
            self._start = None
            return Discard('request discard')
        return self._end(self._newest, Outcome(word), f'request {word}')

    def state(self, stamp: float) -> Event | None:
        """Take note of a joint state's stamp [s]."""
        if self._start is not None and stamp < self._start - 1.0:
            # the clock was set back: what follows does not belong to this episode
            end, self._newest = self._newest, stamp
            return self._end(end, Outcome.UNKNOWN, 'the stamps went back')
        self._newest = max(self._newest, stamp) if self.recording else stamp
        if self._max and self.seconds >= self._max:
            outcome = Outcome.FAILURE if self._auto else Outcome.UNKNOWN
            return self._end(self._newest, outcome, f'longest episode ({self._max:g} s)')
        return None

    def sim_episode(self, stamp: float, values: Mapping[str, str]) -> list[Event]:
        """Take note of what the simulator says of its episode at ``stamp`` [s]."""
        episode = values.get('episode', ''), values.get('seed', '')
        first, reset = self._episode is None, episode != self._episode
        self._episode = episode
        over = 'true' in (values.get('terminated'), values.get('truncated'))
        events: list[Event] = []
        if reset and not first and not self.recording:
            self._newest = stamp  # a request may overtake the first joint state
        if self.recording and reset and not first:
            events.append(self._end(
                stamp, Outcome.UNKNOWN, 'the simulator was reset before the episode ended'))
        elif self.recording and over and self._auto:
            success = values.get('success') == 'true'
            events.append(self._end(
                stamp, Outcome.SUCCESS if success else Outcome.FAILURE,
                'the simulator says so'))
        if self._auto and reset and not over:
            events.append(self._begin(stamp))
        return events

    def _begin(self, start: float) -> Begin:
        self._start = start
        self._newest = max(self._newest, start)
        return Begin(start)

    def _end(self, end: float, outcome: Outcome, reason: str) -> End:
        self._start = None
        return End(end, outcome, reason)
