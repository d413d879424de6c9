"""More demonstrations of two arms that work apart: one arm from one episode, one from another.

Counterfactual data augmentation (Pitis, Creager and Garg, "Counterfactual Data Augmentation using
Locally Factored Dynamics", NeurIPS 2020): where two parts of a scene do not touch each other,
what happened to one of them would also have happened beside another state of the other. Here a
part is an arm with the objects nearest to its hand, and an episode's rows are used while all
parts are further apart than a distance.

That the *demonstrator* decides for each arm apart as well is an assumption about the task, not a
law: right where each arm fetches its own part, wrong where one arm waits from afar for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from il_robot.errors import DatasetError
from il_robot.types import Float32, Float64

Int64 = NDArray[np.int64]

SHORTEST = 10
"""Rows; what stays apart for less is not used."""
_TRIES = 200
"""Random pairs of episodes for each one that can be used; where it takes more, few can be used
again and again."""
_LATER = 40
"""Most rows by which one arm is ahead of the other, compared with their own episodes."""


@dataclass(frozen=True, eq=False)
class Scene:
    """Where everything is, row by row.

    Attributes:
        hands: ``(N, A, 3)`` position of each arm's hand [m].
        objects: ``(N, n, 3)`` position of each object [m].
        starts, stops: ``(E,)`` first row of each episode, and one past its last.
    """

    hands: Float64
    objects: Float64
    starts: Int64
    stops: Int64


@dataclass(frozen=True, eq=False)
class Recombined:
    """New episodes, one behind the other.

    Attributes:
        arm_rows: ``(R, A)`` the row of the dataset that each arm is taken from.
        object_rows: ``(R, n)`` likewise each object.
        starts, stops: ``(e,)`` first row in these of each new episode, and one past its last.
    """

    arm_rows: Int64
    object_rows: Int64
    starts: Int64
    stops: Int64

    def arms(self, values: Float32, slices: Sequence[slice]) -> Float32:
        """``(N, D)`` values of all joints, as ``(R, D)`` values of the new rows."""
        out = np.empty((len(self.arm_rows), values.shape[1]), values.dtype)
        for arm, part in enumerate(slices):
            out[:, part] = values[self.arm_rows[:, arm], part]
        return out

    def objects(self, poses: Float32) -> Float32:
        """``(N, n, 7)`` poses, as ``(R, n, 7)`` poses of the new rows."""
        return poses[self.object_rows, np.arange(poses.shape[1])]


def recombine(scene: Scene, rows: int, distance: float, rng: np.random.Generator) -> Recombined:
    """Draw new episodes until they have ``rows`` rows.

    Each takes its arms from different episodes, with a random lead of one of them, and lasts
    while in every source, and among the new neighbours, the parts are ``distance`` [m] apart.

    Raises:
        DatasetError: fewer than two episodes or arms, or the arms are hardly ever far enough
            apart.
    """
    arms, episodes = scene.hands.shape[1], len(scene.starts)
    if episodes < 2 or arms < 2:
        raise DatasetError(
            f'recombining needs two episodes and two arms, got {episodes} and {arms}; set '
            f'training.recombine=0')
    owner = _owners(scene)  # (N, n)
    apart = _gap(scene, np.arange(len(owner))[:, None].repeat(arms, 1), owner) > distance
    pieces: list[tuple[Int64, Int64]] = []
    count = tries = 0
    while count < rows:
        tries += 1
        if tries > _TRIES * (len(pieces) + 1):
            raise DatasetError(
                f'{len(pieces)} of {tries - 1} random pairs of episodes have the arms more than '
                f'{distance} m apart for {SHORTEST} rows: too few to recombine; lower '
                f'training.recombine_distance, or set training.recombine=0')
        piece = _piece(scene, owner, apart, distance, rng)
        if piece is not None:
            pieces.append(piece)
            count += len(piece[0])
    stops = np.cumsum([len(p[0]) for p in pieces])
    return Recombined(
        np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces]),
        np.concatenate([[0], stops[:-1]]), stops)


def _piece(
    scene: Scene, owner: Int64, apart: NDArray[np.bool_], distance: float,
    rng: np.random.Generator,
) -> tuple[Int64, Int64] | None:
    """One new episode as (arm rows, object rows), or None where it would be too short."""
    arms = scene.hands.shape[1]
    chosen = rng.choice(len(scene.starts), arms, replace=len(scene.starts) < arms)
    first = scene.starts[chosen] + rng.integers(0, _LATER + 1, arms) * (
        np.arange(arms) == rng.integers(arms))
    length = int((scene.stops[chosen] - first).min())
    if length < SHORTEST:
        return None
    rows = first + np.arange(length)[:, None]  # (L, A)
    belongs = owner[rows[:, 0]]  # (L, n)
    same = (owner[rows] == belongs[:, None]).all((1, 2)) & (belongs == belongs[0]).all(1)
    usable = same & apart[rows].all(1) & (_gap(scene, rows, belongs) > distance)
    end = length if usable.all() else int(np.argmin(usable))
    if end < SHORTEST:
        return None
    rows, belongs = rows[:end], belongs[:end]
    return rows, np.take_along_axis(rows, belongs, 1)


def _owners(scene: Scene) -> Int64:
    """``(N, n)`` the arm whose hand is nearest to each object."""
    away = np.linalg.norm(scene.objects[:, :, None] - scene.hands[:, None], axis=-1)
    nearest: Int64 = away.argmin(-1)
    return nearest


def _gap(scene: Scene, rows: Int64, owner: Int64) -> Float64:
    """``(L,)`` least distance [m] between what belongs to different arms.

    Args:
        scene: See there.
        rows: ``(L, A)`` row each arm is taken from.
        owner: ``(L, n)`` arm each object belongs to.
    """
    arms = np.arange(rows.shape[1])
    sources = np.take_along_axis(rows, owner, 1)
    points = np.concatenate([
        scene.hands[rows, arms], scene.objects[sources, np.arange(owner.shape[1])]], 1)
    of = np.concatenate([np.broadcast_to(arms, rows.shape), owner], 1)  # (L, A + n)
    between = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
    between[of[:, :, None] == of[:, None]] = np.inf
    gap: Float64 = between.min((1, 2))
    return gap
