"""lift_tray: both arms lift a tray with a loose ball and keep it level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from il_robot.rotations import matrix_from_quaternion
from il_robot.sim.bullet import p
from il_robot.sim.tasks.task import Box, box_part, left_table, near, yaw_quaternion
from il_robot.sim.world import World

_WOOD, _RIM, _HANDLE = (0.52, 0.36, 0.24, 1), (0.38, 0.25, 0.16, 1), (0.20, 0.55, 0.55, 1)
BALL_COLOUR = (0.96, 0.93, 0.30, 1)


@dataclass(frozen=True)
class LiftTray:
    """A tray with a handle at each short side and a ball that rolls freely on it.

    Attributes:
        max_tilt: The tray counts as level below this angle [rad].
        height: Lifted when the tray's centre is higher than this [m].

    Nominal reset: tray at x +- 0.03, y +- 0.08 m, yaw +- 0.2 rad; the ball anywhere in the
    middle 0.16 x 0.10 m of it.
    """

    max_tilt: float = math.radians(10.0)
    height: float = 0.18
    size: tuple[float, float] = (0.30, 0.20)
    ball_radius: float = 0.018
    name: str = 'lift_tray'
    language: str = 'Lift the tray with both arms without spilling the ball.'
    stages: tuple[str, ...] = ('start', 'one grasped', 'both grasped', 'lifted', 'presented')
    max_steps: int = 300
    objects: tuple[str, ...] = ('tray', 'ball')
    plate: float = 0.008
    rim: float = 0.010
    handle: tuple[float, float, float] = (0.020, 0.060, 0.050)

    @property
    def handle_x(self) -> float:
        """Distance of a handle's centre from the tray's centre along x [m]."""
        return 0.5 * self.size[0] + 0.5 * self.handle[0]

    def build(self, world: World) -> None:
        """See :class:`Task`; the tray's origin is the middle of its bottom plate."""
        (x, y), t, r = self.size, self.plate, self.rim
        top = 0.5 * (t + r)
        boxes: list[Box] = [([x, y, t], [0, 0, 0], _WOOD)]
        for side in (-1, 1):
            boxes.append(([x, r, r], [0, side * 0.5 * (y - r), top], _RIM))
            boxes.append(([r, y - 2 * r, r], [side * 0.5 * (x - r), 0, top], _RIM))
            z = 0.5 * (self.handle[2] - t)
            boxes.append((list(self.handle), [side * self.handle_x, 0, z], _HANDLE))
        box_part(world, 'tray', boxes, mass=0.30)
        sphere = p.createCollisionShape(
            p.GEOM_SPHERE, radius=self.ball_radius, physicsClientId=world.client)
        visual = p.createVisualShape(
            p.GEOM_SPHERE, radius=self.ball_radius, rgbaColor=BALL_COLOUR,
            physicsClientId=world.client)
        body = p.createMultiBody(0.02, sphere, visual, physicsClientId=world.client)
        # As a hard ball on wood: it stays where it lies, and rolls from 0.6 degrees on.
        p.changeDynamics(body, -1, rollingFriction=2e-4, physicsClientId=world.client)
        world.add_part('ball', int(body), mass=0.02, friction=0.8)

    def reset(self, world: World, rng: np.random.Generator, width: float) -> None:
        """See :class:`Task`."""
        u = rng.uniform(-width, width, 3)
        ball = rng.uniform(-1, 1, 2) * min(width, 1.2) * np.array([0.08, 0.05])
        yaw = 0.2 * u[2]
        centre = np.array([0.03 * u[0], 0.08 * u[1], 0.5 * self.plate])
        world.place('tray', centre, yaw_quaternion(yaw))
        c, s = math.cos(yaw), math.sin(yaw)
        offset = np.array([
            c * ball[0] - s * ball[1], s * ball[0] + c * ball[1],
            0.5 * self.plate + self.ball_radius,
        ])
        world.place('ball', centre + offset, yaw_quaternion(0.0))

    def stage(self, world: World) -> int:
        """One grasped; both grasped; lifted off the table; presented: high, level, ball on."""
        touching = world.touching('tray')
        held = sum(arm in touching for arm in world.arms)
        if held < len(world.arms) or 'table' in touching:
            return min(held, 2)
        tray = world.pose('tray')
        level = self.tilt(world) < self.max_tilt
        return 4 if tray[2] > self.height and level and 'ball' in touching else 3

    def progress(self, world: World) -> float:
        """See :class:`Task`; half for two handles that are held, the rest for height."""
        tray, touching = world.pose('tray'), world.touching('tray')
        rotation = matrix_from_quaternion(tray[3:])
        if self.stage(world) < 3:
            held = 0.0
            for arm in world.arms:
                # either handle: a tray can be turned by half
                places = [tray[:3] + rotation @ [side * self.handle_x, 0.0, 0.5 * self.handle[2]]
                          for side in (-1, 1)]
                gap = min(float(np.linalg.norm(world.hand(arm) - place)) for place in places)
                held += 1.0 if arm in touching else 0.8 * near(gap, 0.1)
            return 0.25 * held
        level = near(max(self.tilt(world) - 0.5 * self.max_tilt, 0.0), self.max_tilt)
        if self.stage(world) == 4:
            return 1.0
        return 0.5 + 0.5 * min(float(tray[2]) / self.height, 1.0) * level

    @staticmethod
    def tilt(world: World) -> float:
        """Angle between the tray's normal and the vertical [rad]."""
        up = float(matrix_from_quaternion(world.pose('tray')[3:])[2, 2])
        return math.acos(max(-1.0, min(1.0, up)))

    def failed(self, world: World) -> bool:
        """The ball left the tray, or the tray the table."""
        tray, ball = world.pose('tray'), world.pose('ball')
        x, y, z = (matrix_from_quaternion(tray[3:]).T @ (ball[:3] - tray[:3])).tolist()
        off = abs(x) > 0.5 * self.size[0] + 0.02 or abs(y) > 0.5 * self.size[1] + 0.02
        return off or z < 0 or left_table(world, 'tray')
