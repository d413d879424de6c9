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

import numpy as np

from il_robot.errors import SimulationError, unknown
from il_robot.sim.bullet import p, quiet
from il_robot.sim.description import urdf_text
from il_robot.spec import RobotSpec
from il_robot.types import Float32, Float64

GRAVITY = -9.81
SOLVER_ITERATIONS = 20
# Motors and gears are solved this often per contact iteration. With 1 the gear between the
# fingers loses against 20 N of grip and the part wanders 30 mm to one side; with 3 it stays
# within 0.01 mm at almost the same cost.
INNER_ITERATIONS = 3
POSITION_GAIN = 0.3
FINGER_POSITION_GAIN = 0.1
FINGER_FRICTION, TABLE_FRICTION = 1.0, 0.6
FINGER_GEAR_FORCE, FINGER_GEAR_ERP = 200.0, 0.3
TABLE_HALF_EXTENTS = (0.60, 0.40, 0.02)
FLOOR_HEIGHT = -0.75


@dataclass(frozen=True)
class _Arm:
    """Body and joint indices of one arm in PyBullet."""

    name: str
    body: int
    joints: tuple[int, ...]
    fingers: tuple[int, int]
    vector: slice


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
        with quiet():
            self.client: int = p.connect(p.GUI if gui else p.DIRECT)
        if self.client < 0:
            raise SimulationError('PyBullet did not start' + (
                ': the window needs a display (set DISPLAY, or leave --gui out)' if gui else ''))
        self.parts: dict[str, Part] = {}
        c = {'physicsClientId': self.client}
        if gui:
            p.configureDebugVisualizer(p.COV_ENABLE_GUI, 0, **c)
            p.resetDebugVisualizerCamera(1.3, 0, -30, (0, 0, 0.1), **c)
        p.setGravity(0, 0, GRAVITY, **c)
        p.setPhysicsEngineParameter(
            fixedTimeStep=spec.dt / spec.rates.physics_substeps, numSubSteps=0,
            numSolverIterations=SOLVER_ITERATIONS,
            numNonContactInnerIterations=INNER_ITERATIONS, deterministicOverlappingPairs=1, **c)
        self.table = self._add_table()
        self.arms = {arm.name: self._load_arm(arm.name) for arm in spec.arms}
        self._all = tuple(self.arms.values())
        self.target: Float32 = spec.rest.copy()
        self.reset_robot(spec.rest)

    # -- building ---------------------------------------------------------------------------
    def _add_table(self) -> int:
        c = {'physicsClientId': self.client}
        collision = p.createCollisionShape(p.GEOM_BOX, halfExtents=TABLE_HALF_EXTENTS, **c)
        visual = p.createVisualShape(
            p.GEOM_BOX, halfExtents=TABLE_HALF_EXTENTS, rgbaColor=(0.80, 0.70, 0.56, 1), **c)
        body = int(p.createMultiBody(
            0, collision, visual, basePosition=(0, 0, -TABLE_HALF_EXTENTS[2]), **c))
        p.changeDynamics(body, -1, lateralFriction=TABLE_FRICTION, **c)
        return body

    def _load_arm(self, name: str) -> _Arm:
        c = {'physicsClientId': self.client}
        with tempfile.TemporaryDirectory() as folder, quiet():
            path = Path(folder) / f'{name}.urdf'
            path.write_text(urdf_text(self.spec, name))
            body = int(p.loadURDF(
                str(path), useFixedBase=True, flags=p.URDF_USE_INERTIA_FROM_FILE, **c))
        info = [p.getJointInfo(body, i, **c) for i in range(p.getNumJoints(body, **c))]
        index = {row[1].decode(): int(row[0]) for row in info}
        prefix = self.spec.arm(name).prefix
        joints = tuple(index[prefix + j.name] for j in self.spec.joints)
        fingers = (index[f'{prefix}finger_1'], index[f'{prefix}finger_2'])
        for link in range(-1, len(info)):
            p.changeDynamics(body, link, linearDamping=0, angularDamping=0, **c)
        for finger in fingers:
            p.changeDynamics(
                body, finger, lateralFriction=FINGER_FRICTION, frictionAnchor=1, **c)
        gear = p.createConstraint(
            body, fingers[0], body, fingers[1], p.JOINT_GEAR, (1, 0, 0), (0, 0, 0), (0, 0, 0),
            **c)
        p.changeConstraint(
            gear, gearRatio=-1, maxForce=FINGER_GEAR_FORCE, erp=FINGER_GEAR_ERP, **c)
        return _Arm(name, body, joints, fingers, self.spec.arm_slice(name))

    def add_part(self, name: str, body: int, mass: float, friction: float) -> None:
        """Take over a body made by a task as a named part that can be grasped."""
        self.parts[name] = Part(body, mass, friction)
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
    def reset_robot(self, position: Float32) -> None:
        """Put both arms at rest at ``(D,)`` positions and command them to stay there."""
        c = {'physicsClientId': self.client}
        for arm in self._all:
            *joints, width = (float(v) for v in position[arm.vector])
            for joint, value in zip(arm.joints, joints):
                p.resetJointState(arm.body, joint, value, 0.0, **c)
            for finger in arm.fingers:
                p.resetJointState(arm.body, finger, 0.5 * width, 0.0, **c)
        self.target = np.array(position, dtype=np.float32)

    def place(self, name: str, position: Float64, quaternion: Float64) -> None:
        """Put a part somewhere at rest: position ``(3,)`` [m], quaternion ``(4,)`` xyzw."""
        body = self.parts[name].body
        c = {'physicsClientId': self.client}
        p.resetBasePositionAndOrientation(body, tuple(position), tuple(quaternion), **c)
        p.resetBaseVelocity(body, (0, 0, 0), (0, 0, 0), **c)

    def state(self) -> Float32:
        """Measured positions ``(D,)`` float32 [rad], gripper widths [m]."""
        out = np.empty(self.spec.dim, np.float32)
        for arm in self._all:
            rows = p.getJointStates(
                arm.body, arm.joints + arm.fingers, physicsClientId=self.client)
            values = [row[0] for row in rows]
            out[arm.vector] = [*values[:-2], values[-2] + values[-1]]
        return out

    def joint_states(self) -> tuple[Float64, Float64, Float64]:
        """Measured position, velocity and effort, each ``(D,)`` [rad, rad/s, Nm; m, m/s, N]."""
        out = np.empty((3, self.spec.dim))
        for arm in self._all:
            rows = p.getJointStates(
                arm.body, arm.joints + arm.fingers, physicsClientId=self.client)
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
        others = {(row[2], row[4]) for row in contacts}
        found = {
            arm.name for arm in self._all
            if any((arm.body, finger) in others for finger in arm.fingers)
        }
        bodies = {body for body, _ in others}
        found |= {n for n, part in self.parts.items() if n != name and part.body in bodies}
        return frozenset(found | ({'table'} if self.table in bodies else set()))

    # -- motion -----------------------------------------------------------------------------
    def step(self, action: Float32 | None = None) -> None:
        """Advance one control tick (``physics_substeps`` physics steps).

        Args:
            action: ``(D,)`` targets that already passed :meth:`RobotSpec.check_action`; the
                last ones hold when not given.
        """
        if action is not None:
            self.target = action
        client, effort = self.client, self.spec.effort
        for arm in self._all:
            target = self.target[arm.vector].tolist()
            force = effort[arm.vector].tolist()
            half = 0.5 * target[-1]
            p.setJointMotorControlArray(
                arm.body, arm.joints + arm.fingers, p.POSITION_CONTROL,
                targetPositions=[*target[:-1], half, half],
                forces=[*force[:-1], force[-1], force[-1]],
                positionGains=[POSITION_GAIN] * len(arm.joints) + [FINGER_POSITION_GAIN] * 2,
                velocityGains=[1.0] * (len(arm.joints) + 2), physicsClientId=client)
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
