"""Who drives now: when an expert takes over from a policy, and when he gives back.

One interface for all ways of deciding it, the same objects in rounds without ROS
(:mod:`il_robot.algorithms.dagger`) and in the nodes. Once per control period a gate is told what
is known (:class:`Signals`) and says what to do (:class:`Verdict`): take over, give back, or keep,
with the number it looked at, the threshold, and the reason in words. No clock, no ROS.

A gate remembers nothing beyond an episode. What it learned before (thresholds that spend a
budget, :mod:`il_robot.control.gate_thresholds`) is part of its configuration, so that an episode
depends on its seed and not on the ones before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from il_robot.config import build
from il_robot.control.gate_rule import Driver, TakeoverConfig, TakeoverRule
from il_robot.errors import ConfigError, unknown

NAN = float('nan')


class Move(Enum):
    """What a gate wants."""

    KEEP = 'keep'
    TAKE = 'take over'
    GIVE = 'give back'


@dataclass(frozen=True)
class Signals:
    """What is known in one control period; NaN where it is not.

    Attributes:
        now: Time of the observation [s]; never before the last one's in an episode.
        correcting: The expert drives.
        novelty: How far the members of an ensemble disagree
            (:class:`il_robot.policies.ensemble.Spread`), in deviations of the actions.
        doubt: Probability that the policy's action differs too much from the expert's.
        risk: Estimated probability that the task is not going to be solved, 1 - Q.
        discrepancy: How far the actions of policy and expert lie apart
            (:func:`il_robot.control.gate_rule.disagreement`) [rad].
        stage: Highest stage of the task reached in this episode.
        wish: What a person asks for.
    """

    now: float
    correcting: bool
    novelty: float = NAN
    doubt: float = NAN
    risk: float = NAN
    discrepancy: float = NAN
    stage: int = 0
    wish: Literal['', 'take', 'give'] = ''


@dataclass(frozen=True)
class Verdict:
    """What a gate says.

    Attributes:
        move: What to do.
        value: The number that decided, or that would have.
        threshold: What it was compared with.
        reason: Why, in words; empty for :attr:`Move.KEEP`.
    """

    move: Move
    value: float = NAN
    threshold: float = NAN
    reason: str = ''


@runtime_checkable
class Gate(Protocol):
    """Decides; calls serialised by the caller.

    Attributes:
        name: Key of :data:`GATES`.
    """

    name: ClassVar[str]

    @property
    def needs(self) -> frozenset[str]:
        """Names of the signals looked at while the policy drives.

        ``discrepancy`` among them means that the expert is asked in every period.
        """

    def reset(self, rng: np.random.Generator) -> None:
        """An episode starts."""

    def update(self, signals: Signals) -> Verdict:
        """What to do now."""


def _switch(signals: Signals, take: bool, value: float, threshold: float, reason: str) -> Verdict:
    """The verdict of a gate that wants the expert to drive exactly while ``take``.

    What is not known changes nothing.
    """
    if math.isnan(value) or take is signals.correcting:
        return Verdict(Move.KEEP, value, threshold)
    return Verdict(Move.TAKE if take else Move.GIVE, value, threshold, reason)


def _check_share(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f'{name} must be from 0 to 1, got {value}')


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f'{name} must be > 0, got {value}')


@dataclass
class NeverGate:
    """Nobody takes over; every state the policy visits can still be labelled afterwards."""

    name: ClassVar[str] = 'never'
    needs: ClassVar[frozenset[str]] = frozenset()

    def reset(self, rng: np.random.Generator) -> None:
        """Nothing to forget."""

    def update(self, signals: Signals) -> Verdict:
        """Keep, or give back."""
        return _switch(signals, False, 0.0, 0.0, 'nobody is to correct')


@dataclass
class BetaGate:
    """The expert drives a share of the time, chosen by chance.

    Ross, Gordon and Bagnell, "A Reduction of Imitation Learning and Structured Prediction to
    No-Regret Online Learning" (DAgger), AISTATS 2011, algorithm 3.1: pi_i = beta_i pi* +
    (1 - beta_i) pi^_i.

    Attributes:
        beta: Probability of the expert.
        period: How long a draw lasts [s]; 0 draws in every control period, as the paper does.
            Policies that predict chunks learn from spans that an expert drove: give them a second.
    """

    name: ClassVar[str] = 'beta'
    needs: ClassVar[frozenset[str]] = frozenset()
    beta: float = 0.5
    period: float = 0.0

    def __post_init__(self) -> None:
        _check_share(beta=self.beta)
        if self.period < 0:
            raise ValueError(f'period must be >= 0 s, got {self.period}')
        self.reset(np.random.default_rng(0))

    def reset(self, rng: np.random.Generator) -> None:
        """An episode starts; ``rng`` makes the draws."""
        self._rng, self._drawn, self._until = rng, NAN, -np.inf

    def update(self, signals: Signals) -> Verdict:
        """The expert drives while the number drawn is below beta."""
        if signals.now >= self._until - 1e-9:
            self._drawn, self._until = float(self._rng.random()), signals.now + self.period
        take = self._drawn < self.beta
        return _switch(signals, take, self._drawn, self.beta, 'by chance')


_MOVES = {'': Move.KEEP, 'engage': Move.TAKE, 'release': Move.GIVE}


@dataclass
class HumanGate:
    """A person takes over when the policy is about to fail, and gives back when all is well.

    Kelly et al., "HG-DAgger: Interactive Imitation Learning with Human Experts", ICRA 2019. A
    person's wish counts at once. Where nobody is there to wish, the rule of
    :class:`il_robot.control.gate_rule.TakeoverRule` stands in for the person.

    Attributes:
        rule: Its thresholds and times; None: only wishes count.
    """

    name: ClassVar[str] = 'human'
    needs = frozenset({'discrepancy'})
    rule: TakeoverConfig | None = field(default_factory=TakeoverConfig)

    def __post_init__(self) -> None:
        self._rule = TakeoverRule(self.rule) if self.rule else None

    def reset(self, rng: np.random.Generator) -> None:
        """An episode starts."""
        if self._rule is not None:
            self._rule.reset()

    def update(self, signals: Signals) -> Verdict:
        """The person's wish, else the rule's."""
        if signals.wish:
            take = signals.wish == 'take'
            return _switch(signals, take, float(take), 1.0, 'the operator ' + (
                'took over' if take else 'gave back'))
        if self._rule is None:
            return Verdict(Move.KEEP)
        distance = None if math.isnan(signals.discrepancy) else signals.discrepancy
        driver = Driver.EXPERT if signals.correcting else Driver.POLICY
        said = self._rule.update(signals.now, driver, distance, signals.stage)
        return Verdict(_MOVES[said.request], said.value, said.threshold, said.reason)


@dataclass
class EnsembleGate:
    """The expert drives where the members of an ensemble disagree.

    Menda, Driggs-Campbell and Kochenderfer, "EnsembleDAgger: A Bayesian Approach to Safe
    Imitation Learning", IROS 2019, algorithm 2: the policy drives while its doubt is at most chi,
    and its action within tau of the expert's.

    Attributes:
        novelty: chi, in deviations of the actions.
        discrepancy: tau [rad]; infinite (the default) looks at the novelty alone, which asks the
            expert nothing while the policy drives.
    """

    name: ClassVar[str] = 'ensemble'
    novelty: float = 0.3
    discrepancy: float = float('inf')

    @property
    def needs(self) -> frozenset[str]:
        """The discrepancy only where it has a limit."""
        return frozenset({'novelty'} | (
            {'discrepancy'} if np.isfinite(self.discrepancy) else set()))

    def __post_init__(self) -> None:
        _check_positive(novelty=self.novelty, discrepancy=self.discrepancy)

    def reset(self, rng: np.random.Generator) -> None:
        """Nothing to forget."""

    def update(self, signals: Signals) -> Verdict:
        """The expert drives while either is too large."""
        if signals.discrepancy > self.discrepancy:
            return _switch(signals, True, signals.discrepancy, self.discrepancy,
                           f"the action is {signals.discrepancy:.3f} rad off the expert's, more "
                           f'than {self.discrepancy:g}')
        high = signals.novelty > self.novelty
        word = 'more' if high else 'no more'
        return _switch(signals, high, signals.novelty, self.novelty,
                       f'the ensemble disagrees by {signals.novelty:.3f}, {word} than '
                       f'{self.novelty:.3f}')


@dataclass
class SafeGate:
    """The expert drives where a classifier expects the policy to differ from him.

    Zhang and Cho, "Query-Efficient Imitation Learning for End-to-End Simulated Driving"
    (SafeDAgger), AAAI 2017, algorithm 1.

    Attributes:
        doubt: Probability from which a state is unsafe.
    """

    name: ClassVar[str] = 'safe'
    needs = frozenset({'doubt'})
    doubt: float = 0.5

    def __post_init__(self) -> None:
        _check_share(doubt=self.doubt)

    def reset(self, rng: np.random.Generator) -> None:
        """Nothing to forget."""

    def update(self, signals: Signals) -> Verdict:
        """The expert drives while the state is unsafe."""
        unsafe = signals.doubt > self.doubt
        return _switch(signals, unsafe, signals.doubt, self.doubt,
                       f'a state with doubt {signals.doubt:.2f} is '
                       f'{"unsafe" if unsafe else "safe"} (from {self.doubt:.2f})')


@dataclass
class LazyGate:
    """Takes over on the classifier's word, gives back when the actions really are close.

    Hoque et al., "LazyDAgger: Reducing Context Switching in Interactive Imitation Learning", CASE
    2021, algorithm 1: the hysteresis saves switches.

    Attributes:
        doubt: Probability from which to take over.
        discrepancy: Under which to give back, beta_R [rad].
    """

    name: ClassVar[str] = 'lazy'
    needs = frozenset({'doubt'})
    doubt: float = 0.5
    discrepancy: float = 0.02

    def __post_init__(self) -> None:
        _check_share(doubt=self.doubt)
        _check_positive(discrepancy=self.discrepancy)

    def reset(self, rng: np.random.Generator) -> None:
        """Nothing to forget."""

    def update(self, signals: Signals) -> Verdict:
        """Two signals, one for each direction."""
        if not signals.correcting:
            return _switch(signals, signals.doubt > self.doubt, signals.doubt, self.doubt,
                           f'a state with doubt {signals.doubt:.2f} is unsafe (from '
                           f'{self.doubt:.2f})')
        done = signals.discrepancy < self.discrepancy
        return _switch(signals, not done, signals.discrepancy, self.discrepancy,
                       f'the policy would do nearly the same: {signals.discrepancy:.3f} rad, less '
                       f'than {self.discrepancy:g}')


@dataclass
class ThriftyGate:
    """The expert drives in novel or risky states, as often as a budget allows.

    Hoque et al., "ThriftyDAgger: Budget-Aware Novelty and Risk Gating for Interactive Imitation
    Learning", CoRL 2021, section 4.3: takes over where novelty is over delta_h or risk over
    beta_h, gives back where the action is within delta_r of the expert's and the risk under
    beta_r. :mod:`il_robot.control.gate_thresholds` finds the thresholds.

    Attributes:
        novelty: delta_h, in deviations of the actions.
        risk: beta_h, a probability.
        discrepancy: delta_r [rad].
        low_risk: beta_r, at most ``risk``.
    """

    name: ClassVar[str] = 'thrifty'
    needs = frozenset({'novelty', 'risk'})
    novelty: float = 0.3
    risk: float = 0.5
    discrepancy: float = 0.02
    low_risk: float = 0.3

    def __post_init__(self) -> None:
        _check_positive(novelty=self.novelty, discrepancy=self.discrepancy)
        _check_share(risk=self.risk, low_risk=self.low_risk)
        if self.low_risk > self.risk:
            raise ValueError(f'low_risk must be at most risk, got {self.low_risk} > {self.risk}')

    def reset(self, rng: np.random.Generator) -> None:
        """Nothing to forget."""

    def update(self, signals: Signals) -> Verdict:
        """Take over by novelty or risk, give back by discrepancy and risk."""
        if not signals.correcting:
            if signals.novelty > self.novelty:
                return Verdict(Move.TAKE, signals.novelty, self.novelty,
                               f'a novel state: {signals.novelty:.3f}, more than '
                               f'{self.novelty:.3f}')
            return _switch(signals, signals.risk > self.risk, signals.risk, self.risk,
                           f'a risky state: {signals.risk:.2f}, more than {self.risk:.2f}')
        if not signals.discrepancy < self.discrepancy:
            return Verdict(Move.KEEP, signals.discrepancy, self.discrepancy)
        return _switch(signals, not signals.risk <= self.low_risk, signals.risk, self.low_risk,
                       f'the policy would do nearly the same ({signals.discrepancy:.3f} rad), and '
                       f'the risk is {signals.risk:.2f}, at most {self.low_risk:.2f}')


GATES: Mapping[str, type[Any]] = {gate.name: gate for gate in (
    NeverGate, BetaGate, HumanGate, EnsembleGate, SafeGate, LazyGate, ThriftyGate)}


def make_gate(name: str, options: Mapping[str, Any] | None = None) -> Gate:
    """A gate by name.

    Args:
        name: Key of :data:`GATES`.
        options: Its attributes.

    Raises:
        ConfigError: no such gate or option, or a bad value.
    """
    if name not in GATES:
        raise ConfigError(unknown('gate', name, GATES))
    gate: Gate = build(GATES[name], dict(options or {}), f'gate {name}')
    return gate
