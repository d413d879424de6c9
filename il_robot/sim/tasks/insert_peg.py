"""insert_peg: each arm lifts one part; the peg goes into the tube in the air."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from il_robot.kinematics import Pose
from il_robot.rotations import matrix_from_quaternion
from il_robot.sim.tasks.task import box_part, left_table, near, yaw_quaternion
from il_robot.sim.world import World

_BLUE, _TIP, _GREEN = (0.16, 0.38, 0.80, 1), (0.95, 0.80, 0.20, 1), (0.18, 0.60, 0.36, 1)


@dataclass(frozen=True)
class InsertPeg:
    """A square peg (right) and a square tube (left), both lying along x.

    Attributes:
        clearance: Hole width minus peg width [m], 0.001 to 0.010.

    Nominal reset: peg at x 0.20 +- 0.05, tube at x -0.20 +- 0.05, both y +- 0.08 m,
    yaw +- 0.3 rad.
    """

    clearance: float = 0.004
    peg_length: float = 0.14
    peg_width: float = 0.02
    tube_length: float = 0.10
    wall: float = 0.006
    depth: float = 0.05
    name: str = 'insert_peg'
    language: str = (
        'Pick up the peg with the right arm and the tube with the left arm, '
        'and insert the peg into the tube.'
    )
    stages: tuple[str, ...] = ('start', 'one grasped', 'both lifted', 'entered', 'inserted')
    max_steps: int = 400
    objects: tuple[str, ...] = ('peg', 'tube')

    def __post_init__(self) -> None:
        if not 0.001 <= self.clearance <= 0.010:
            raise ValueError(f'clearance must be 0.001 to 0.010 m, got {self.clearance}')

    @property
    def tube_width(self) -> float:
        """Outer width of the tube [m]."""
        return self.peg_width + self.clearance + 2 * self.wall

    def build(self, world: World) -> None:
        """See :class:`Task`."""
        length, width = self.peg_length, self.peg_width
        tip = 0.02
        ends = [([tip, width, width], [side * 0.5 * (length - tip), 0, 0], _TIP)
                for side in (-1, 1)]
        box_part(world, 'peg', [([length - 2 * tip, width, width], [0, 0, 0], _BLUE), *ends],
                 mass=0.05, collision=[([length, width, width], [0, 0, 0], _BLUE)])
        outer, middle = self.tube_width, 0.5 * (self.tube_width - self.wall)
        inner = outer - 2 * self.wall
        box_part(world, 'tube', [
            ([self.tube_length, outer, self.wall], [0, 0, middle], _GREEN),
            ([self.tube_length, outer, self.wall], [0, 0, -middle], _GREEN),
            ([self.tube_length, self.wall, inner], [0, middle, 0], _GREEN),
            ([self.tube_length, self.wall, inner], [0, -middle, 0], _GREEN),
        ], mass=0.06)

    def reset(self, world: World, rng: np.random.Generator, width: float) -> None:
        """See :class:`Task`."""
        u = rng.uniform(-width, width, (2, 3))
        heights = {'peg': 0.5 * self.peg_width, 'tube': 0.5 * self.tube_width}
        for row, (name, x) in zip(u, (('peg', 0.20), ('tube', -0.20))):
            position = np.array([x + 0.05 * row[0], 0.08 * row[1], heights[name]])
            world.place(name, position, yaw_quaternion(0.3 * row[2]))

    def stage(self, world: World) -> int:
        """See :class:`Task`.

        entered: the tip is inside the mouth; inserted: at least ``depth`` deep; both with both
        parts held and off the table.
        """
        peg, tube = world.touching('peg'), world.touching('tube')
        held = ('right' in peg, 'left' in tube)
        if all(held) and 'table' not in peg and 'table' not in tube:
            depth = self.insertion(world)
            return 4 if depth >= self.depth else 3 if depth > 0.002 else 2
        return int(any(held))

    def progress(self, world: World) -> float:
        """See :class:`Task`; half for two parts in the air, a quarter for their alignment."""
        if self.stage(world) < 2:
            return 0.25 * sum(self._lifted(world, arm, part)
                              for arm, part in (('right', 'peg'), ('left', 'tube')))
        depth = self.insertion(world)
        if depth > 0.002:
            return 0.75 + 0.25 * min(depth / self.depth, 1.0)
        tube, peg = (_pose(world.pose(name)) for name in ('tube', 'peg'))
        ends = [tube.inverse_apply(peg.apply([side * 0.5 * self.peg_length, 0, 0]))
                for side in (-1, 1)]
        x, y, z = min(ends, key=lambda end: abs(float(end[0]))).tolist()
        angle = math.acos(min(1.0, abs(float(tube.rotation[:, 0] @ peg.rotation[:, 0]))))
        gap = max(abs(x) - 0.5 * self.tube_length, 0.0)
        return 0.5 + 0.25 * (0.4 * near(math.hypot(y, z), 0.03) + 0.3 * near(angle, 0.3)
                             + 0.3 * near(gap, 0.1))

    def _lifted(self, world: World, arm: str, part: str) -> float:
        """From 0 to 1: a hand comes to its part, grasps it, lifts it."""
        touching, position = world.touching(part), world.pose(part)[:3]
        if arm not in touching:
            return 0.5 * near(float(np.linalg.norm(world.hand(arm) - position)), 0.1)
        if 'table' not in touching:
            return 1.0
        return 0.5 + 0.5 * min(max(float(position[2]) / 0.1, 0.0), 0.9)

    def insertion(self, world: World) -> float:
        """How deep an end of the peg is inside the tube [m]; <= 0 outside or beside it.

        Peg and tube are symmetric: the end counts that is nearer to the tube's middle.
        """
        tube, peg = (_pose(world.pose(name)) for name in ('tube', 'peg'))
        ends = [tube.inverse_apply(peg.apply([side * 0.5 * self.peg_length, 0, 0]))
                for side in (-1, 1)]
        x, y, z = min(ends, key=lambda end: abs(float(end[0]))).tolist()
        if max(abs(y), abs(z)) > 0.5 * (self.peg_width + self.clearance):
            return 0.0
        # From the mouth on the side where the rest of the peg is.
        side = np.sign(tube.inverse_apply(peg.position)[0] - x)
        return 0.5 * self.tube_length - float(side) * x

    def failed(self, world: World) -> bool:
        """A part fell off the table."""
        return any(left_table(world, name) for name in self.objects)


def _pose(vector: np.ndarray) -> Pose:
    return Pose(matrix_from_quaternion(vector[3:]), vector[:3].astype(np.float64))
