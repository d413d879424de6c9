"""Rounds of live correction: collect, train, evaluate, swap, and the same again.

What somebody would do by hand between two rounds, as a state machine without a clock or ROS: told
what has happened, it says what to do next. The robot holds or is driven by its operator while a
child process trains; whatever goes wrong there, the policy that runs goes on running, the data
stay, and the next round trains on them again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal

from il_robot.statistics import wilson


class Stage(Enum):
    """Where a round is."""

    COLLECT = 'collect'
    """Episodes are run and corrected."""
    TRAIN = 'train'
    """A child process trains on everything so far."""
    EVALUATE = 'evaluate'
    """A child process tries the new policy."""
    SWAP = 'swap'
    """The policy node loads it while the arms hold."""
    DONE = 'done'
    """All rounds are over."""


@dataclass(frozen=True)
class RoundsConfig:
    """What is to be done.

    Attributes:
        rounds: How many.
        episodes: Of each round; 0 for no limit.
        corrections: Takeovers after which a round is over early; 0 for no limit.
        evaluate_episodes: Of each new policy; 0: it is not evaluated, and always taken.
        keep_old: When a new policy is not taken: ``worse``: its success is lower by more than
            ``margin``; ``surely``: even the upper end of its 95 % interval is below the old
            one's success; ``never``: always taken.
        margin: See ``keep_old``.
    """

    rounds: int = 3
    episodes: int = 10
    corrections: int = 0
    evaluate_episodes: int = 50
    keep_old: Literal['worse', 'surely', 'never'] = 'worse'
    margin: float = 0.05

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f'rounds must be >= 1, got {self.rounds}')
        if min(self.episodes, self.corrections, self.evaluate_episodes) < 0:
            raise ValueError('episodes, corrections and evaluate_episodes must be >= 0')
        if not self.episodes and not self.corrections:
            raise ValueError('a round needs an end: set episodes or corrections above 0')
        if not 0 <= self.margin < 1:
            raise ValueError(f'margin must be from 0 to below 1, got {self.margin}')


@dataclass(frozen=True)
class Score:
    """Of an evaluation."""

    successes: int
    episodes: int

    @property
    def rate(self) -> float:
        """Share of successes; 0 without episodes."""
        return self.successes / self.episodes if self.episodes else 0.0

    def __str__(self) -> str:
        low, high = (100 * v for v in wilson(self.successes, self.episodes))
        return (f'{self.successes} of {self.episodes} = {100 * self.rate:.0f} % '
                f'[{low:.0f}, {high:.0f}]')


def is_worse(new: Score, old: Score, config: RoundsConfig) -> bool:
    """Whether the new policy is not to be taken."""
    if config.keep_old == 'never' or not (new.episodes and old.episodes):
        return False
    if config.keep_old == 'surely':
        return wilson(new.successes, new.episodes)[1] < old.rate
    return new.rate < old.rate - config.margin


@dataclass(frozen=True)
class Facts:
    """What has happened.

    Attributes:
        episodes: Finished in this round.
        corrections: Takeovers in this round.
        saved: Everything recorded is in the dataset.
        holding: The arbiter holds both arms.
        child: Of the process of this stage: ``none``, ``running``, ``done`` or ``failed``.
        trouble: Why it failed, in words.
        score: Of the evaluation that is done.
        swap: ``none``, ``asked``, ``done`` or ``failed``; why in ``trouble``.
        skip: Somebody asked to end the collection now.
    """

    episodes: int = 0
    corrections: int = 0
    saved: bool = False
    holding: bool = False
    child: Literal['none', 'running', 'done', 'failed'] = 'none'
    trouble: str = ''
    score: Score | None = None
    swap: Literal['none', 'asked', 'done', 'failed'] = 'none'
    skip: bool = False


Order = Literal['', 'collect', 'stop collecting', 'train', 'evaluate', 'hold', 'swap']


@dataclass(frozen=True)
class Past:
    """One round that is over.

    Attributes:
        number: From 1; 0 is the policy at the beginning.
        episodes, corrections: Collected.
        score: Of the policy trained, None where it was not evaluated.
        taken: Whether it drives now.
        reason: Why, or why not.
    """

    number: int
    episodes: int
    corrections: int
    score: Score | None
    taken: bool
    reason: str


@dataclass
class Rounds:
    """See the module.

    Attributes:
        config: What to do.
        baseline: Score of the policy that drives, None where it is not known: it is then
            evaluated before the first round.
        number: Of the present round.
        stage: Of it.
        past: Grows by one with every round.
    """

    config: RoundsConfig
    baseline: Score | None = None
    number: int = 0
    stage: Stage = Stage.EVALUATE
    past: list[Past] = field(default_factory=list)
    _collected: tuple[int, int] = (0, 0)
    _score: Score | None = None

    def __post_init__(self) -> None:
        if self.baseline is not None or not self.config.evaluate_episodes:
            self.number, self.stage = 1, Stage.COLLECT

    @classmethod
    def after(cls, config: RoundsConfig, past: list[Past]) -> Rounds:
        """As they were when the last of ``past`` was over."""
        scores = [p.score for p in past if p.taken and p.score]
        rounds = cls(config, scores[-1] if scores else None)
        rounds.past = past
        if past:
            last = past[-1].number >= config.rounds
            rounds.number = past[-1].number + (not last)
            rounds.stage = Stage.DONE if last else Stage.COLLECT
        return rounds

    def step(self, facts: Facts) -> Order:
        """What to do next; '' while there is nothing to do but wait."""
        handler = {
            Stage.COLLECT: self._collect, Stage.TRAIN: self._train,
            Stage.EVALUATE: self._evaluate, Stage.SWAP: self._swap}.get(self.stage)
        return handler(facts) if handler else ''

    def roll_back(self) -> None:
        """The newest policy that was taken is put aside; the one before is the measure again."""
        taken = [i for i, past in enumerate(self.past) if past.taken and past.number]
        if not taken:
            return
        newest = taken[-1]
        self.past[newest] = replace(
            self.past[newest], taken=False, reason='put aside by request')
        before = [past.score for past in self.past if past.taken]
        self.baseline = before[-1] if before else None

    def _collect(self, facts: Facts) -> Order:
        config = self.config
        over = (facts.skip or (config.episodes and facts.episodes >= config.episodes)
                or (config.corrections and facts.corrections >= config.corrections))
        if not over:
            return 'collect'
        if not facts.saved:
            return 'stop collecting'
        self._collected = facts.episodes, facts.corrections
        self.stage = Stage.TRAIN
        return ''

    def _train(self, facts: Facts) -> Order:
        if facts.child == 'failed':
            self._end(False, f'training failed: {facts.trouble}; the old policy goes on, and '
                             f'the next round trains on these episodes as well')
        elif facts.child == 'done':
            self.stage = Stage.EVALUATE if self.config.evaluate_episodes else Stage.SWAP
        elif facts.child == 'none':
            return 'train'
        return ''

    def _evaluate(self, facts: Facts) -> Order:
        if facts.child == 'failed':
            if self.number == 0:
                self._begin(None, f'the policy could not be evaluated: {facts.trouble}')
            else:
                self._end(False, f'the new policy could not be evaluated: {facts.trouble}; the '
                                 f'old one goes on')
        elif facts.child == 'done' and facts.score is not None:
            if self.number == 0:
                self._begin(facts.score, 'the policy at the beginning')
            else:
                self._judge(facts.score)
        elif facts.child == 'none':
            return 'evaluate'
        return ''

    def _judge(self, score: Score) -> None:
        self._score = score
        if self.baseline is not None and is_worse(score, self.baseline, self.config):
            self._end(False, f'the new policy is worse ({score}; the old one {self.baseline}): '
                             f'the old one goes on')
        else:
            self.stage = Stage.SWAP

    def _swap(self, facts: Facts) -> Order:
        if facts.swap == 'failed':
            self._end(False, f'the new policy could not be loaded: {facts.trouble}; the old one '
                             f'goes on')
        elif facts.swap == 'done':
            score, self.baseline = self._score, self._score or self.baseline
            self._end(True, f'the new policy drives{f" ({score})" if score else ""}')
        elif facts.swap == 'none':
            return 'swap' if facts.holding else 'hold'
        return ''

    def _begin(self, score: Score | None, reason: str) -> None:
        self.baseline = score
        self.past.append(Past(0, 0, 0, score, True, reason))
        self.number, self.stage = 1, Stage.COLLECT

    def _end(self, taken: bool, reason: str) -> None:
        self.past.append(Past(self.number, *self._collected, self._score, taken, reason))
        self._score, self._collected = None, (0, 0)
        last = self.number >= self.config.rounds
        self.stage = Stage.DONE if last else Stage.COLLECT
        self.number += not last
