"""What a task is: parts on the table, a reset distribution, stages, success, failure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from il_robot.sim.bullet import p
from il_robot.sim.world import World
from il_robot.types import Float64

WIDTHS = {'narrow': 0.5, 'nominal': 1.0, 'wide': 1.4}
"""Reset widths: factors on the nominal half ranges of every part's start pose."""

HOLD_STEPS = 10
"""The last stage counts as success when it held this many control ticks (0.2 s at 50 Hz)."""


Box = tuple[Sequence[float], Sequence[float], Sequence[float]]
"""Full size ``(3,)`` [m], centre ``(3,)`` [m], RGBA."""


class Task(Protocol):
    """One bimanual task; parameters are dataclass fields of the implementation.

    Attributes:
        name: Registered name, for example ``transfer_cube``.
        language: The instruction, one sentence.
        stages: Names of the stages in order; index 0 is the start, the last one is solved.
        max_steps: Control ticks until the episode is truncated.
        objects: Names of the parts whose poses are observed, in order.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def language(self) -> str: ...  # noqa: D102
    @property
    def stages(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def max_steps(self) -> int: ...  # noqa: D102
    @property
    def objects(self) -> tuple[str, ...]: ...  # noqa: D102

    def build(self, world: World) -> None:
        """Make the parts; called once per world."""

    def reset(self, world: World, rng: np.random.Generator, width: float) -> None:
        """Place the parts; ``width`` multiplies the nominal half ranges (see WIDTHS)."""

    def stage(self, world: World) -> int:
        """Index into ``stages`` of the present instant."""

    def progress(self, world: World) -> float:
        """How far the task is, from 0 to 1 where it is solved: a potential that rises all the way.

        Rewards that are its differences leave the best policy the best where nothing is discounted
        (Ng et al., ICML 1999).
        """

    def failed(self, world: World) -> bool:
        """Whether the task can no longer be solved (a part left the table)."""


def box_part(
    world: World,
    name: str,
    boxes: Sequence[Box],
    mass: float,
    friction: float = 0.8,
    collision: Sequence[Box] | None = None,
) -> None:
    """Make a part of one or more boxes that is one rigid body.

    Args:
        world: Where to make it.
        name: Name of the part.
        boxes: The shapes, in the part's frame.
        mass: Of the whole [kg].
        friction: Lateral friction coefficient.
        collision: The shapes that touch, where they are fewer than those that are seen. The
            edge of a finger that presses on a seam between two boxes is pushed along the seam
            instead of off the surface, and sinks in.
    """
    solid, seen = boxes if collision is None else collision, boxes
    shape = p.createCollisionShapeArray(
        shapeTypes=[p.GEOM_BOX] * len(solid), halfExtents=_half_extents(solid),
        collisionFramePositions=_centres(solid), physicsClientId=world.client)
    visual = p.createVisualShapeArray(
        shapeTypes=[p.GEOM_BOX] * len(seen), halfExtents=_half_extents(seen),
        visualFramePositions=_centres(seen),
        rgbaColors=[list(colour) for _, _, colour in seen], physicsClientId=world.client)
    body = p.createMultiBody(mass, shape, visual, physicsClientId=world.client)
    world.add_part(name, int(body), mass, friction)


def _half_extents(boxes: Sequence[Box]) -> list[list[float]]:
    return [[0.5 * s for s in size] for size, _, _ in boxes]


def _centres(boxes: Sequence[Box]) -> list[list[float]]:
    return [list(centre) for _, centre, _ in boxes]


def near(distance: float, scale: float) -> float:
    """1 at no distance, 0.24 at ``scale``, towards 0 beyond; never flat on the way."""
    return 1.0 - math.tanh(distance / scale)


def yaw_quaternion(yaw: float) -> Float64:
    """Quaternion ``(4,)`` xyzw of a turn about z [rad]."""
    return np.array([0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2)])


def left_table(world: World, name: str) -> bool:
    """Whether a part fell below the table top."""
    return float(world.pose(name)[2]) < -0.05
