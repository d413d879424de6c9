"""What a method did on an environment: a curve of costs and scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

EXPERT, RANDOM = 'expert', 'random'
REFERENCES = EXPERT, RANDOM
"""The two ends of the scale, run like methods."""


@dataclass
class Point:
    """What was taken so far and how well it does then.

    Attributes:
        labels: Actions of the expert.
        steps: Of the environment, without evaluations.
        seconds: Of training and collecting, without evaluations: of the processor on an
            application, of the clock on a scene, where one core works on each cell.
        scores: Of the evaluation episodes, in order of their seeds.
        switches: Times that the expert took over.
    """

    labels: int
    steps: int
    seconds: float
    scores: list[float]
    switches: int = 0


@dataclass
class Outcome:
    """What a method did.

    Attributes:
        points: In order.
        parameters: Of what is deployed.
        latency_ms: p50 and p99 of one answer, of the processor, whoever else wants it.
        jerk: Root mean square of the commands' third derivative [rad/s^3], over the arms' joints
            and the evaluation episodes of the last point; 0 where it was not measured.
        robustness: By disturbance: pairs of its strength and the scores under it.
    """

    points: list[Point] = field(default_factory=list)
    parameters: int = 0
    latency_ms: tuple[float, float] = (0.0, 0.0)
    jerk: float = 0.0
    robustness: dict[str, list[tuple[float, list[float]]]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)
