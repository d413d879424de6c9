"""transfer_cube: the right arm picks the cube and hands it to the left gripper."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from il_robot.sim.tasks.task import box_part, left_table, near, yaw_quaternion
from il_robot.sim.world import World


@dataclass(frozen=True)
class TransferCube:
    """A cube of ``size`` [m] and ``mass`` [kg], placed on the right half of the table.

    Nominal reset: centre at x 0.10 +- 0.10 m, y +- 0.12 m, yaw +- 0.5 rad.
    """

    size: float = 0.04
    mass: float = 0.06
    name: str = 'transfer_cube'
    language: str = 'Pick up the cube with the right arm and hand it to the left gripper.'
    stages: tuple[str, ...] = ('start', 'touched', 'lifted', 'offered', 'transferred')
    max_steps: int = 400
    objects: tuple[str, ...] = ('cube',)

    def __post_init__(self) -> None:
        if not 0.02 <= self.size <= 0.06:
            raise ValueError(f'size must be 0.02 to 0.06 m (the gripper opens 0.08): {self.size}')

    def build(self, world: World) -> None:
        """See :class:`Task`."""
        box_part(world, 'cube', [([self.size] * 3, [0, 0, 0], (0.82, 0.16, 0.16, 1))], self.mass)

    def reset(self, world: World, rng: np.random.Generator, width: float) -> None:
        """See :class:`Task`."""
        u = rng.uniform(-width, width, 3)
        position = np.array([0.10 + 0.10 * u[0], 0.12 * u[1], 0.5 * self.size])
        world.place('cube', position, yaw_quaternion(0.5 * u[2]))

    def stage(self, world: World) -> int:
        """See :class:`Task`.

        touched: the right fingers touch it; lifted: off the table by them; offered: both hands
        on it; transferred: the left one alone, off the table.
        """
        touching = world.touching('cube')
        lifted = 'table' not in touching and float(world.pose('cube')[2]) > self.size
        left, right = 'left' in touching, 'right' in touching
        if lifted and left:
            return 3 if right else 4
        if lifted and right:
            return 2
        return 1 if right else 0

    def progress(self, world: World) -> float:
        """See :class:`Task`; each stage is a quarter, and within it a hand comes or goes."""
        stage, cube = self.stage(world), world.pose('cube')
        right, left = (float(np.linalg.norm(world.hand(arm) - cube[:3]))
                       for arm in ('right', 'left'))
        within = (
            near(right, 0.1),
            0.5 * near(right, 0.1) + 0.5 * min(max(float(cube[2]) / self.size - 0.5, 0.0), 1.0),
            near(left, 0.1),
            0.5 * min(world.opening('right') / (2.0 * self.size), 1.0) + 0.5 * (
                1.0 - near(right, 0.1)),
            0.0)
        return 0.25 * (stage + within[stage])

    def failed(self, world: World) -> bool:
        """The cube fell off the table."""
        return left_table(world, 'cube')
