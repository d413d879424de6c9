"""The nouns that flow through the package; numpy and the standard library only.

Arrays are float32 on purpose: what an expert or a policy sees is exactly what the dataset
stores, so that relabelling a recorded observation gives the live label bit for bit.

Units and frames (REP 103, 105): metres, radians, seconds; poses in the frame ``base``
(the table's centre, z up) as ``(x, y, z, qx, qy, qz, qw)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum

import numpy as np
from numpy.typing import NDArray

from il_robot.errors import ActionError, DatasetError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]


class Source(IntEnum):
    """Who drove an arm at one instant (one value per arm, column ``source``)."""

    HOLD = 0
    TELEOP = 1
    POLICY = 2
    EXPERT = 3


class ControlMode(IntEnum):
    """What the arbiter is doing."""

    HOLD = 0
    TELEOP = 1
    AUTONOMOUS = 2
    CORRECTION = 3
    STOPPED = 4


class Outcome(str, Enum):
    """How an episode ended; ``UNKNOWN`` until somebody or something has judged it."""

    SUCCESS = 'success'
    FAILURE = 'failure'
    UNKNOWN = 'unknown'


def as_float32(value: object, shape: tuple[int, ...], what: str) -> Float32:
    """A read-only float32 array of exactly this shape.

    Raises:
        ActionError: wrong shape, or not numbers.
    """
    try:
        array = np.array(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ActionError(f'{what} must be numbers of shape {shape}: {error}') from None
    if array.shape != shape:
        raise ActionError(f'{what} has shape {array.shape}, expected {shape}')
    array.setflags(write=False)
    return array


@dataclass(frozen=True, slots=True)
class Observation:
    """What the policy and the expert see at one instant.

    Attributes:
        stamp: Time of the measurement [s].
        state: ``(D,)`` joint positions [rad] and gripper widths [m], in RobotSpec order.
        objects: Named object poses ``(7,)`` in ``base`` [m, unit quaternion xyzw]; empty on
            a robot that does not know them.
        images: Named camera images ``(H, W, 3)`` uint8 RGB; empty where none is rendered.
    """

    stamp: float
    state: Float32
    objects: Mapping[str, Float32] = field(default_factory=dict)
    images: Mapping[str, UInt8] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.state.dtype != np.float32 or self.state.ndim != 1:
            raise ActionError(
                f'Observation.state must be float32 of one dimension, '
                f'got {self.state.dtype} {self.state.shape}'
            )
        for name, pose in self.objects.items():
            if pose.dtype != np.float32 or pose.shape != (7,):
                raise ActionError(
                    f'pose of {name!r} must be float32 (7,), got {pose.dtype} {pose.shape}'
                )
        for name, image in self.images.items():
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ActionError(
                    f'image {name!r} must be uint8 (H, W, 3), got {image.dtype} {image.shape}'
                )


@dataclass(frozen=True, slots=True)
class Action:
    """Absolute joint position targets of both arms for one instant.

    Attributes:
        position: ``(D,)`` [rad], grippers as a width [m], in RobotSpec order.

    Raises:
        ActionError: not float32 of one dimension, or not finite (the entries are named by index).
    """

    position: Float32

    def __post_init__(self) -> None:
        position = self.position
        if position.dtype != np.float32 or position.ndim != 1:
            raise ActionError(
                f'Action.position must be float32 of one dimension, '
                f'got {position.dtype} {position.shape}'
            )
        finite = np.isfinite(position)
        if not finite.all():
            bad = np.flatnonzero(~finite).tolist()
            raise ActionError(f'Action.position has NaN or infinity at indices {bad}')


@dataclass(frozen=True, slots=True)
class ActionChunk:
    """Action targets with their times, predicted from one observation.

    Attributes:
        stamp: Time of the observation it was predicted from [s].
        times: ``(T,)`` when each target holds [s], increasing.
        positions: ``(T, D)`` targets [rad, m].
    """

    stamp: float
    times: Float64
    positions: Float32

    def __post_init__(self) -> None:
        if self.positions.ndim != 2 or self.times.shape != self.positions.shape[:1]:
            raise ActionError(
                f'ActionChunk needs times (T,) and positions (T, D), '
                f'got {self.times.shape} and {self.positions.shape}'
            )
        if not (np.diff(self.times) > 0).all():
            raise ActionError('ActionChunk.times must increase')
        if not np.isfinite(self.positions).all():
            raise ActionError('ActionChunk.positions has NaN or infinity')


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the control grid: what was seen, what was executed, who drove, who proposed.

    Attributes:
        observation: At the row's time.
        action: ``(D,)`` the action *executed* (after gate, noise, clipping).
        source: Who drove, one per arm in RobotSpec order.
        policy: ``(D,)`` the policy's proposal, or None where there was none.
        expert: ``(D,)`` the expert's label, or None.
        reward: Reward of the transition out of this row.
        success: Whether the task was solved in the state reached.
        intervention: A human or expert had taken over from a running policy.
    """

    observation: Observation
    action: Float32
    source: tuple[Source, ...]
    policy: Float32 | None = None
    expert: Float32 | None = None
    reward: float = 0.0
    success: bool = False
    intervention: bool = False


@dataclass(frozen=True, slots=True)
class EpisodeInfo:
    """What is known about a whole episode, stored beside its rows.

    Attributes:
        task: Registered task name (``transfer_cube``); ``language`` says it in words.
        language: The instruction, one sentence (LeRobot's ``task`` string).
        outcome: Success, failure or unknown.
        seed: Reset seed, or -1 on a real robot.
        round: DAgger round; 0 for demonstrations.
        checkpoint: Hash of the policy that drove, empty where none did.
        discarded: Rows ``[start, stop)`` of corrections that were taken back, in order; they
            stay, and teach nothing.
    """

    task: str
    language: str
    outcome: Outcome = Outcome.UNKNOWN
    seed: int = -1
    round: int = 0
    checkpoint: str = ''
    discarded: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.language:
            raise DatasetError('an episode needs its instruction in words (language)')
        edges = [edge for span in self.discarded for edge in span]
        if edges != sorted(set(edges)) or any(edge < 0 for edge in edges):
            raise DatasetError(f'discarded rows must be spans in order, got {self.discarded}')
