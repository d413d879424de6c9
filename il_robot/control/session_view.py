"""What a session is told and what it says: its settings, its view of the graph, its results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from il_robot.types import ControlMode


@dataclass(frozen=True)
class Reset:
    """Wish: the simulator shall start the episode of this seed."""

    seed: int


Wish = str | Reset
"""A word for ``session/request``, or a reset."""


@dataclass(frozen=True)
class SessionConfig:
    """What a session does.

    Attributes:
        episodes: How many; 0: without end.
        driver: Who starts: ``policy`` (request ``run``), ``human`` (``engage``), or an
            ``operator``, who starts and ends the episodes himself.
        record: Whether a recorder takes part.
        seed: Of the first episode; the others count up.
        max_seconds: Longest episode [s of robot time], then it has failed; 0: as long as the
            simulator allows. Waiting for help does not count.
        help_timeout: If nobody answers a call for help for so long [s of robot time], the
            episode has failed.
    """

    episodes: int = 0
    driver: Literal['policy', 'human', 'operator'] = 'policy'
    record: bool = False
    seed: int = 0
    max_seconds: float = 0.0
    help_timeout: float = 30.0

    def __post_init__(self) -> None:
        if min(self.episodes, self.seed, self.max_seconds) < 0:
            raise ValueError('episodes, seed and max_seconds must be >= 0')
        if self.help_timeout <= 0:
            raise ValueError(f'help_timeout must be > 0 s, got {self.help_timeout:g}')


@dataclass(frozen=True)
class View:
    """What the graph reports.

    Attributes:
        episode: The simulator's number of its episode, -1 before the first report.
        seed: Its seed.
        success, terminated, truncated: What the simulator says of it.
        stage_name: Highest stage reached.
        mode: The arbiter's mode, None before the first report.
        lost: It holds because the driver fell silent.
        help: It holds because the policy wants help, and why; empty where it does not.
        recorder: ``waiting`` (for topics), ``idle``, ``recording``, ``saving``; None before the
            first report.
        recorder_episode: The simulator's episode as the recorder knows it.
        outcome: The recorder's last outcome.
        policy_ready: Whether a policy node has reported itself active.
        policy_stamp: Observation of the policy's newest proposal [s of robot time].
        stamp: Robot time [s].
    """

    episode: int = -1
    seed: int = -1
    success: bool = False
    terminated: bool = False
    truncated: bool = False
    stage_name: str = ''
    mode: ControlMode | None = None
    lost: bool = False
    help: str = ''
    recorder: str | None = None
    recorder_episode: int = -1
    outcome: str = ''
    policy_ready: bool = False
    policy_stamp: float = float('-inf')
    stamp: float = 0.0


@dataclass(frozen=True)
class EpisodeOutcome:
    """How one episode went: seed, success, duration [s of robot time], stage, corrections.

    ``reason`` says in words why it failed, where the task itself does not.
    """

    seed: int
    success: bool
    seconds: float
    stage_name: str
    interventions: int
    reason: str = ''
