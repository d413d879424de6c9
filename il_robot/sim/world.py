"""One PyBullet world: table, arms with parallel grippers, named parts.

Physics is 200 Hz (``rates.control * physics_substeps``). What decides whether a grasp holds is
``frictionAnchor`` on fingers and parts, a gear between the two fingers, and a finger force of
20 N; the values below were found by measurement (slip and shake test in test/sim).

Determinism: a reset depends on its arguments only, never on what the world did before, as long
as ``restoreState`` is never used in it.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from il_robot.errors import SimulationError, unknown
from il_robot.sim import bullet
from il_robot.sim.bullet import p
from il_robot.sim.description import urdf_text
from il_robot.spec import ArmSpec, RobotSpec
from il_robot.types import Float32, Float64

GRAVITY = -9.81
SOLVER_ITERATIONS = 20
# Motors and gears are solved this often per contact iteration. With 1 the gear between the
# fingers loses against 20 N of grip and the part wanders 30 mm to one side; with 3 it stays
# within 0.01 mm at almost the same cost.
INNER_ITERATIONS = 3
# Share of a penetration that a physics step takes back. With Bullet's 0.2 a finger that closes
# with 20 N sinks centimetres into a light part while the arm moves; with 0.6 it stays outside.
CONTACT_ERP = 0.6
POSITION_GAIN = 0.3
FINGER_POSITION_GAIN = 0.1
FINGER_FRICTION, TABLE_FRICTION = 1.0, 0.6
FINGER_GEAR_FORCE, FINGER_GEAR_ERP = 200.0, 0.3
TABLE_HALF_EXTENTS = (0.60, 0.40, 0.02)
TABLE_CENTRE = (0.0, 0.0, -TABLE_HALF_EXTENTS[2])
PARKED, PARKED_TABLE = (3.0, 0.0, 0.0), (0.0, 0.0, -3.0)
NO_TURN = (0.0, 0.0, 0.0, 1.0)
TABLE = 'table'
FIRST_ARM_GROUP = 64  # collision groups below belong to Bullet


@dataclass(frozen=True)
class _Arm:
    """One arm in PyBullet.

    Attributes:
        body: Its body.
        motors: Indices of its joints in RobotSpec order, then of its two fingers.
        vector: Where it stands in a state or action vector.
        tool: Index of its tool point's link.
        command: What never changes in a command to its motors.
    """

    body: int
    motors: tuple[int, ...]
    vector: slice
    tool: int
    command: Mapping[str, Any]

    @property
    def joints(self) -> tuple[int, ...]:
        return self.motors[:-2]

    @property
    def fingers(self) -> tuple[int, ...]:
        return self.motors[-2:]


@dataclass
class Part:
    """A movable part: PyBullet body, nominal mass [kg] and friction of all its shapes."""

    body: int
    mass: float
    friction: float


class World:
    """A simulated robot at its table.

    Args:
        spec: The robot.
        gui: Open PyBullet's window (needs a display).

    Raises:
        SimulationError: no physics server, or no display for ``gui``.
    """

    def __init__(self, spec: RobotSpec, *, gui: bool = False) -> None:
        self.spec = spec
        if gui and not bullet.display_available():
            raise SimulationError(
                'the window needs a display: set DISPLAY, or do without the window')
        with bullet.quiet():
            self.client: int = p.connect(p.GUI if gui else p.DIRECT)
        if self.client < 0:
            raise SimulationError('PyBullet did not start')
        self.parts: dict[str, Part] = {}
        c = {'physicsClientId': self.client}
        if gui:
            p.configureDebugVisualizer(p.COV_ENABLE_GUI, 0, **c)
            p.resetDebugVisualizerCamera(1.3, 0, -30, (0, 0, 0.1), **c)
        # The default broadphase forgets pairs that parted in its own time, not at once: with it
        # an episode would depend on those before. For 20 shapes this one is as fast.
        p.resetSimulation(p.RESET_USE_SIMPLE_BROADPHASE, **c)
        p.setGravity(0, 0, GRAVITY, **c)
        p.setPhysicsEngineParameter(
            fixedTimeStep=spec.dt / spec.rates.physics_substeps, numSubSteps=0,
            numSolverIterations=SOLVER_ITERATIONS, contactERP=CONTACT_ERP,
            numNonContactInnerIterations=INNER_ITERATIONS, deterministicOverlappingPairs=1, **c)
        self.table = self._add_table()
        # Who is touched: (body, link) of the table, the fingers and, later, the parts.
        self._owners: dict[tuple[int, int], str] = {(self.table, -1): TABLE}
        self.arms = {arm.name: self._load_arm(i, arm) for i, arm in enumerate(spec.arms)}
        self._all = tuple(self.arms.values())
        self.target: Float32 = spec.rest.copy()
        self.reset(spec.rest)

    # -- building ---------------------------------------------------------------------------
    def _add_table(self) -> int:
        c = {'physicsClientId': self.client}
        collision = p.createCollisionShape(p.GEOM_BOX, halfExtents=TABLE_HALF_EXTENTS, **c)
        visual = p.createVisualShape(
            p.GEOM_BOX, halfExtents=TABLE_HALF_EXTENTS, rgbaColor=(0.80, 0.70, 0.56, 1), **c)
        body = int(p.createMultiBody(
            0, collision, visual, basePosition=TABLE_CENTRE, **c))
        p.changeDynamics(body, -1, lateralFriction=TABLE_FRICTION, **c)
        return body

    def _load_arm(self, number: int, arm: ArmSpec) -> _Arm:
        c = {'physicsClientId': self.client}
        spec = self.spec
        with tempfile.TemporaryDirectory() as folder, bullet.quiet():
            path = Path(folder) / f'{arm.name}.urdf'
            path.write_text(urdf_text(spec, arm.name))
            body = int(p.loadURDF(
                str(path), useFixedBase=True, flags=p.URDF_USE_INERTIA_FROM_FILE, **c))
        info = [p.getJointInfo(body, i, **c) for i in range(p.getNumJoints(body, **c))]
        index = {row[1].decode(): int(row[0]) for row in info}
        names = [j.name for j in spec.joints] + ['finger_1', 'finger_2']
        motors = tuple(index[arm.prefix + name] for name in names)
        fingers = motors[-2:]
        # Links of one arm never meet: their pairs would outlive a reset, in any order.
        group = FIRST_ARM_GROUP << number
        fastest = max(j.velocity for j in spec.joints)  # PyBullet has one limit for a body
        for link in range(-1, len(info)):
            p.changeDynamics(
                body, link, linearDamping=0, angularDamping=0, maxJointVelocity=fastest, **c)
            p.setCollisionFilterGroupMask(body, link, group, ~group, **c)
        for finger in fingers:
            p.changeDynamics(
                body, finger, lateralFriction=FINGER_FRICTION, frictionAnchor=1, **c)
            self._owners[body, finger] = arm.name
        gear = p.createConstraint(
            body, fingers[0], body, fingers[1], p.JOINT_GEAR, (1, 0, 0), (0, 0, 0), (0, 0, 0),
            **c)
        p.changeConstraint(
            gear, gearRatio=-1, maxForce=FINGER_GEAR_FORCE, erp=FINGER_GEAR_ERP, **c)
        n = len(spec.joints)
        command = {
            'bodyUniqueId': body, 'jointIndices': motors, 'controlMode': p.POSITION_CONTROL,
            'forces': [j.effort for j in spec.joints] + [spec.gripper.effort] * 2,
            'positionGains': [POSITION_GAIN] * n + [FINGER_POSITION_GAIN] * 2,
            'velocityGains': [1.0] * (n + 2), **c,
        }
        return _Arm(body, motors, spec.arm_slice(arm.name), index[arm.prefix + 'tool'], command)

    def add_part(self, name: str, body: int, mass: float, friction: float) -> None:
        """Take over a body made by a task as a named part that can be grasped."""
        self.parts[name] = Part(body, mass, friction)
        self._owners[body, -1] = name
        self.set_part_dynamics(name)

    def set_part_dynamics(
        self, name: str, mass_scale: float = 1.0, friction_scale: float = 1.0
    ) -> None:
        """Set a part's mass and friction as multiples of its nominal values."""
        part = self.parts[name]
        p.changeDynamics(
            part.body, -1, mass=part.mass * mass_scale,
            lateralFriction=part.friction * friction_scale, frictionAnchor=1,
            linearDamping=0, angularDamping=0, physicsClientId=self.client)

    # -- state ------------------------------------------------------------------------------
    def reset(self, position: Float32) -> None:
        """Start anew: both arms at rest at ``(D,)`` positions, parts parked until placed.

        Contacts outlive a change of pose in PyBullet. With the arms at their rest posture and
        the parts apart from everything, one collision pass forgets them all; without it an
        episode would depend on how the last one ended.
        """
        c = {'physicsClientId': self.client}
        for i, name in enumerate(self.parts):
            self.place(name, np.add(PARKED, (i, 0, 0)), np.array(NO_TURN))
        self._set_joints(self.spec.rest)
        self._place_table(PARKED_TABLE)
        p.performCollisionDetection(**c)
        self._place_table(TABLE_CENTRE)
        self._set_joints(position)
        self.target = np.array(position, dtype=np.float32)

    def _place_table(self, position: tuple[float, float, float]) -> None:
        p.resetBasePositionAndOrientation(
            self.table, position, NO_TURN, physicsClientId=self.client)

    def _set_joints(self, position: Float32) -> None:
        for arm in self._all:
            *joints, width = position[arm.vector].tolist()
            for motor, value in zip(arm.motors, (*joints, 0.5 * width, 0.5 * width)):
                p.resetJointState(arm.body, motor, value, 0.0, physicsClientId=self.client)

    def place(self, name: str, position: Float64, quaternion: Float64) -> None:
        """Put a part somewhere at rest: position ``(3,)`` [m], quaternion ``(4,)`` xyzw."""
        body = self.parts[name].body
        c = {'physicsClientId': self.client}
        p.resetBasePositionAndOrientation(body, tuple(position), tuple(quaternion), **c)
        p.resetBaseVelocity(body, (0, 0, 0), (0, 0, 0), **c)

    def state(self) -> Float32:
        """Measured positions ``(D,)`` float32 [rad], gripper widths [m]."""
        values: list[float] = []  # arms stand in RobotSpec order
        for arm in self._all:
            rows = p.getJointStates(arm.body, arm.motors, physicsClientId=self.client)
            *joints, finger_1, finger_2 = [row[0] for row in rows]
            values += joints
            values.append(finger_1 + finger_2)
        return np.array(values, np.float32)

    def joint_states(self) -> tuple[Float64, Float64, Float64]:
        """Measured position, velocity and effort, each ``(D,)`` [rad, rad/s, Nm; m, m/s, N]."""
        out = np.empty((3, self.spec.dim))
        for arm in self._all:
            rows = p.getJointStates(arm.body, arm.motors, physicsClientId=self.client)
            table = np.array([(row[0], row[1], row[3]) for row in rows]).T
            out[:, arm.vector] = np.column_stack([table[:, :-2], table[:, -2:].sum(1)])
        return out[0], out[1], out[2]

    def pose(self, name: str) -> Float32:
        """Pose ``(7,)`` float32 of a part in ``base``.

        Raises:
            SimulationError: no such part.
        """
        if name not in self.parts:
            raise SimulationError(unknown('part', name, self.parts))
        position, quaternion = p.getBasePositionAndOrientation(
            self.parts[name].body, physicsClientId=self.client)
        return np.array((*position, *quaternion), np.float32)

    def poses(self) -> Mapping[str, Float32]:
        """Poses of all parts by name."""
        return {name: self.pose(name) for name in self.parts}

    def hand(self, arm: str) -> Float64:
        """Position ``(3,)`` of an arm's tool point in ``base`` [m]."""
        one = self.arms[arm]
        return np.array(p.getLinkState(one.body, one.tool, physicsClientId=self.client)[0])

    def opening(self, arm: str) -> float:
        """Width between an arm's fingers [m]."""
        one = self.arms[arm]
        rows = p.getJointStates(one.body, one.fingers, physicsClientId=self.client)
        return float(sum(row[0] for row in rows))

    def kick(self, name: str, linear: Float64, angular: Float64) -> None:
        """Add a velocity to a part: linear ``(3,)`` [m/s], angular ``(3,)`` [rad/s]."""
        body = self.parts[name].body
        v, w = p.getBaseVelocity(body, physicsClientId=self.client)
        p.resetBaseVelocity(
            body, tuple(np.add(v, linear)), tuple(np.add(w, angular)),
            physicsClientId=self.client)

    def touching(self, name: str) -> frozenset[str]:
        """Who touches a part: names of arms (their fingers), of parts, and ``'table'``."""
        contacts = p.getContactPoints(self.parts[name].body, physicsClientId=self.client)
        owners = self._owners
        return frozenset([
            owners[row[2], row[4]] for row in contacts if (row[2], row[4]) in owners])

    # -- motion -----------------------------------------------------------------------------
    def step(self, action: Float32 | None = None) -> None:
        """Advance one control tick (``physics_substeps`` physics steps).

        Args:
            action: ``(D,)`` targets that already passed :meth:`RobotSpec.check_action`; the
                last ones hold when not given.
        """
        if action is not None:
            self.target = action
        client = self.client
        for arm in self._all:
            *joints, width = self.target[arm.vector].tolist()
            half = 0.5 * width
            p.setJointMotorControlArray(targetPositions=[*joints, half, half], **arm.command)
        for _ in range(self.spec.rates.physics_substeps):
            p.stepSimulation(client)

    def close(self) -> None:
        """Disconnect; a second call does nothing."""
        if self.client >= 0:
            with contextlib.suppress(p.error):
                p.disconnect(self.client)
            self.client = -1

    def __enter__(self) -> World:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
