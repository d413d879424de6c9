"""Puts together what a gate looks at, from messages of several senders in any order.

A gate decides about one observation: the policy's chunk for it, what the policy thinks of itself
(:mod:`il_robot.policies.assessor`), the expert's label, and who drives. They come one by one, and
some senders may be gone. No clock and no ROS: everything has the stamp of its observation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

import numpy as np

from il_robot.control.chunks import ChunkBuffer
from il_robot.control.gate_rule import Driver, disagreement
from il_robot.control.gates import NAN, Gate, Move, Signals, Verdict
from il_robot.launch_options import ROBOT_GATED
from il_robot.spec import RobotSpec
from il_robot.types import ActionChunk, Float32

T = TypeVar('T')

LEARNED = ('novelty', 'doubt', 'risk')
"""Signals that the policy itself sends, in the order of :class:`Signals`."""
_KEPT = 32
_ALIVE = 0.2
"""A sender heard of so long before is waited for [s]."""
_PATIENCE = 0.5
"""A request that changed nothing is repeated after this [s]."""

Request = Literal['', 'help', 'engage', 'release']


class GateWatch:
    """See the module; one per gate, calls serialised by the caller.

    Args:
        spec: The robot.
        gate: Decides.

    Attributes:
        gate: The present one.
    """

    def __init__(self, spec: RobotSpec, gate: Gate) -> None:
        self._spec = spec
        self.gate = gate
        self._buffer: ChunkBuffer | None = None
        self._driver = Driver.NOBODY
        self.begin(np.random.default_rng(0))

    def begin(self, rng: np.random.Generator) -> None:
        """An episode starts; ``rng`` is the gate's."""
        self.gate.reset(rng)
        self._labels: dict[float, Float32] = {}
        self._thoughts: dict[float, Mapping[str, float]] = {}
        self._newest = self._decided = self._asked = -np.inf
        self._stage, self._over = 0, False
        if self._buffer is not None:
            self._buffer.clear()

    def replace(self, gate: Gate, buffer: ChunkBuffer) -> None:
        """Another policy answers: its buffer, and a gate with the thresholds for it."""
        self.gate, self._buffer = gate, buffer

    def drive(self, driver: Driver) -> None:
        """Who drives from now on."""
        self._driver = driver

    def progress(self, stage: int, over: bool) -> None:
        """The highest stage of the task so far, and whether the episode is over."""
        self._stage, self._over = stage, over

    def chunk(self, chunk: ActionChunk) -> None:
        """The policy's answer to an observation."""
        if self._buffer is not None and self._buffer.push(chunk):
            self._newest = chunk.stamp

    def label(self, stamp: float, action: Float32) -> None:
        """What the expert would do ``(D,)`` [rad, m]."""
        _put(self._labels, stamp, action)

    def think(self, stamp: float, signals: Mapping[str, float]) -> None:
        """What the policy thinks of itself: some of :data:`LEARNED`."""
        _put(self._thoughts, stamp, signals)

    def decide(self) -> tuple[Signals, Verdict] | None:
        """The verdict on the newest observation, once; None while something is to come.

        Also None while neither the policy nor the expert in its place drives: a person who took
        over gives back when it suits him.
        """
        now = self._newest
        if now <= self._decided or self._over or self._buffer is None:
            return None
        if self._driver not in (Driver.POLICY, Driver.EXPERT):
            return None
        needed = self.gate.needs.intersection(LEARNED)
        if needed and now not in self._thoughts:
            return None
        if self._missing(self._labels, now) or self._missing(self._thoughts, now):
            return None
        action, label = self._buffer.action(now), self._labels.get(now)
        discrepancy = NAN if action is None or label is None else \
            disagreement(action, label, self._spec)
        thoughts = self._thoughts.get(now, {})
        novelty, doubt, risk = (thoughts.get(name, NAN) for name in LEARNED)
        signals = Signals(now, self._driver is Driver.EXPERT, novelty, doubt, risk, discrepancy,
                          self._stage)
        self._decided = now
        return signals, self.gate.update(signals)

    def request(self, signals: Signals, verdict: Verdict) -> Request:
        """What to request of the arbiter after a verdict; not the same again and again."""
        if verdict.move is Move.KEEP or signals.now - self._asked < _PATIENCE:
            return ''
        self._asked = signals.now
        if verdict.move is Move.GIVE:
            return 'release'
        return 'help' if self.gate.name in ROBOT_GATED else 'engage'

    @staticmethod
    def _missing(sent: Mapping[float, object], now: float) -> bool:
        """Whether a sender that is there has not said anything about ``now`` yet."""
        return now not in sent and any(now - _ALIVE <= stamp < now for stamp in sent)


def _put(sent: dict[float, T], stamp: float, value: T) -> None:
    sent[stamp] = value
    while len(sent) > _KEPT:
        del sent[next(iter(sent))]
