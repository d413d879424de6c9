import hashlib
import subprocess
import sys

import numpy as np
import pytest

from il_robot.errors import SimulationError
from il_robot.kinematics import ArmKinematics, Pose
from il_robot.resources import named_config
from il_robot.rotations import matrix_from_quaternion, rotation_vector
from il_robot.sim import bullet
from il_robot.sim.bullet import p
from il_robot.sim.experts.motion import top_down
from il_robot.sim.tasks.task import box_part, yaw_quaternion
from il_robot.sim.world import World
from il_robot.spec import load_robot_spec

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
ARMS = {arm.name: ArmKinematics.from_spec(SPEC, arm) for arm in SPEC.arms}
SIZE, MASS = 0.04, 0.06
SECOND = round(SPEC.rates.control)


@pytest.fixture
def world():
    with World(SPEC) as w:
        box_part(w, 'cube', [([SIZE] * 3, [0, 0, 0], (1, 0, 0, 1))], MASS)
        w.reset(SPEC.rest)
        w.place('cube', np.array([0, 0.3, SIZE / 2]), yaw_quaternion(0))
        yield w


def eef(world, arm):
    return ARMS[arm].fk(world.state()[SPEC.arm_slice(arm)][:-1])


def part(world, name):
    vector = world.pose(name).astype(float)
    return Pose(matrix_from_quaternion(vector[3:]), vector[:3])


def command(world, arm, pose, width):
    """The present target with one hand moved to ``pose``."""
    target, rows = world.target.copy(), SPEC.arm_slice(arm)
    joints = ARMS[arm].solve(pose, target[rows][:-1])
    assert joints is not None
    target[rows] = [*joints, width]
    return SPEC.check_action(target, clip=True)


def fingers(world, arm):
    one = world.arms[arm]
    return [row[0] for row in p.getJointStates(
        one.body, one.fingers, physicsClientId=world.client)]


def speed(world, name):
    return np.linalg.norm(
        p.getBaseVelocity(world.parts[name].body, physicsClientId=world.client)[0])


# -- one description ------------------------------------------------------------------------
def test_the_bodies_have_the_limits_and_the_joints_of_the_spec(world):
    for arm in SPEC.arms:
        body = world.arms[arm.name]
        rows = [p.getJointInfo(body.body, j, physicsClientId=world.client) for j in body.joints]
        for row, joint in zip(rows, SPEC.joints, strict=True):
            assert row[1].decode() == arm.prefix + joint.name
            assert row[8:12] == pytest.approx(
                (joint.lower, joint.upper, joint.effort, joint.velocity))
        for finger in body.fingers:
            row = p.getJointInfo(body.body, finger, physicsClientId=world.client)
            assert row[8:10] == pytest.approx((0.0, SPEC.gripper.upper / 2))


def test_closed_form_and_urdf_are_one_geometry(world):
    rng = np.random.default_rng(0)
    for position in rng.uniform(SPEC.lower, SPEC.upper, (20, SPEC.dim)).astype(np.float32):
        world.reset(position)
        np.testing.assert_allclose(world.state(), position, atol=1e-6)
        for arm in SPEC.arms:
            body = world.arms[arm.name].body
            names = {
                p.getJointInfo(body, i, physicsClientId=world.client)[12].decode(): i
                for i in range(p.getNumJoints(body, physicsClientId=world.client))}
            link = p.getLinkState(
                body, names[f'{arm.prefix}eef'], computeForwardKinematics=True,
                physicsClientId=world.client)
            pose = ARMS[arm.name].fk(position[SPEC.arm_slice(arm.name)][:-1])
            np.testing.assert_allclose(link[4], pose.position, atol=1e-6)
            np.testing.assert_allclose(
                matrix_from_quaternion(link[5]), pose.rotation, atol=1e-6)


def test_joint_states_give_position_velocity_and_effort_of_every_joint(world):
    target = SPEC.rest.copy()
    target[SPEC.index('left_waist')] += 0.5
    target[SPEC.index('right_gripper')] = 0.0
    world.step(target)
    position, velocity, effort = world.joint_states()
    np.testing.assert_allclose(position, world.state(), atol=1e-6)
    assert velocity[SPEC.index('left_waist')] > 0.5
    assert velocity[SPEC.index('right_gripper')] < -0.05
    assert np.abs(effort[SPEC.index('right_elbow')]) > 1.0, 'it carries the forearm'


# -- motion ---------------------------------------------------------------------------------
def test_it_holds_its_position_when_nothing_is_commanded(world):
    before = world.state()
    for _ in range(4 * SECOND):
        world.step()
    assert np.abs(world.state() - before).max() < 1e-3


def test_it_reaches_what_is_commanded(world):
    target = SPEC.rest + np.float32(0.3) * (SPEC.upper - SPEC.lower) / 6
    target = SPEC.check_action(target, clip=True)
    for _ in range(2 * SECOND):
        world.step(target)
    np.testing.assert_allclose(world.state(), target, atol=2e-3)


def test_no_command_makes_a_joint_faster_than_its_limit(world):
    target = SPEC.rest.copy()
    for arm in SPEC.arms:
        target[SPEC.index(arm.prefix + 'waist')] = 2.0
    fastest = 0.0
    for _ in range(SECOND):
        world.step(target)
        fastest = max(fastest, np.abs(world.joint_states()[1]).max())
    assert fastest == pytest.approx(SPEC.velocity.max(), rel=0.01)
    np.testing.assert_allclose(world.state(), target, atol=2e-3)


def test_the_arms_collide_with_each_other(world):
    forward = SPEC.rest.copy()
    for arm in SPEC.arms:
        centre = Pose(ARMS[arm.name].base.rotation, np.array([0.0, 0.0, 0.3]))
        rows = SPEC.arm_slice(arm.name)
        forward[rows] = [*ARMS[arm.name].solve(centre, SPEC.rest[rows][:-1]), 0.0]
    for _ in range(2 * SECOND):
        world.step(forward)
    left, right = (world.arms[name].body for name in ('left', 'right'))
    assert p.getContactPoints(left, right, physicsClientId=world.client)
    assert eef(world, 'right').position[0] - eef(world, 'left').position[0] > 0.02
    assert not p.getContactPoints(left, left, physicsClientId=world.client)


# -- grasp ----------------------------------------------------------------------------------
@pytest.mark.parametrize('seed', range(3))
def test_a_grasp_neither_slips_nor_explodes_when_held_and_shaken(world, seed):
    rng = np.random.default_rng(seed)
    yaw = rng.uniform(-0.5, 0.5)
    centre = np.array([0.15 + rng.uniform(-0.05, 0.05), rng.uniform(-0.1, 0.1), SIZE / 2])
    grasp = top_down(ARMS['right'], centre, yaw)
    start = command(world, 'right', grasp, SPEC.gripper.upper)
    world.reset(start)
    world.place('cube', centre + [*rng.uniform(-0.005, 0.005, 2), 0], yaw_quaternion(yaw))

    def run(seconds, offset, width=0.0):
        fastest, base = 0.0, grasp
        for i in range(round(seconds * SECOND)):
            goal = Pose(base.rotation, base.position + offset(i / SECOND))
            world.step(command(world, 'right', goal, width))
            fastest = max(fastest, speed(world, 'cube'))
        assert fastest < 3.0, 'nothing flies'
        hand, cube = eef(world, 'right'), part(world, 'cube')
        return hand.inverse_apply(cube.position), hand.rotation.T @ cube.rotation

    up = np.array([0.0, 0.0, 0.12])
    run(0.8, lambda t: 0 * up)
    run(1.0, lambda t: t * up)
    held = run(0.5, lambda t: up)
    assert world.touching('cube') == {'right'}
    later = run(4.0, lambda t: up)
    assert np.linalg.norm(later[0] - held[0]) < 0.5e-3
    assert np.linalg.norm(rotation_vector(later[1] @ held[1].T)) < 5e-3
    run(2.0, lambda t: up + [0, 0.03 * np.sin(2 * np.pi * 2 * t), 0])
    shaken = run(0.5, lambda t: up)
    assert np.linalg.norm(shaken[0] - held[0]) < 1e-3
    one, two = fingers(world, 'right')
    assert abs(one - two) < 1e-4, 'the part stays in the middle'
    assert one + two == pytest.approx(SIZE, abs=2e-3)


def test_contacts_are_told_by_name(world):
    box_part(world, 'plate', [([0.1, 0.1, 0.01], [0, 0, 0], (0, 0, 1, 1))], 0.1)
    world.reset(SPEC.rest)
    world.place('plate', np.array([0, 0.3, 0.005]), yaw_quaternion(0))
    world.place('cube', np.array([0, 0.3, 0.01 + SIZE / 2]), yaw_quaternion(0))
    for _ in range(5):
        world.step()
    assert world.touching('cube') == {'plate'}
    assert world.touching('plate') == {'cube', 'table'}
    assert list(world.poses()) == ['cube', 'plate']


def test_a_kick_adds_to_the_speed(world):
    world.step()
    world.kick('cube', np.array([0.5, 0, 0]), np.zeros(3))
    world.kick('cube', np.array([0, 0.5, 0]), np.zeros(3))
    assert speed(world, 'cube') == pytest.approx(np.hypot(0.5, 0.5), abs=1e-3)


# -- several worlds, and again --------------------------------------------------------------
def episode(world, seed, n=120):
    """Bytes of the states and poses while the arms drag the cube about."""
    rng = np.random.default_rng(seed)
    start = np.clip(SPEC.rest + rng.normal(0, 0.1, SPEC.dim), SPEC.lower, SPEC.upper)
    world.reset(start.astype(np.float32))
    world.place('cube', np.array([*rng.uniform(-0.1, 0.1, 2), SIZE / 2]), yaw_quaternion(0.3))
    target, rows = world.target.copy(), []
    for i in range(n):
        if i % 10 == 0:
            cube = world.pose('cube')[:3].astype(float)
            for name, arm in ARMS.items():
                goal = top_down(arm, cube + [0, 0, 0.01 * rng.uniform(0, 4)], rng.uniform(-1, 1))
                joints = arm.solve(goal, target[SPEC.arm_slice(name)][:-1])
                if joints is not None:
                    target[SPEC.arm_slice(name)] = [*joints, rng.choice([0.0, 0.08])]
            if i == 60:
                world.kick('cube', rng.normal(0, 0.3, 3), rng.normal(0, 1, 3))
        last = world.state()
        step = np.clip(target - last, -0.08, 0.08)
        world.step(SPEC.check_action(last + step, clip=True))
        rows += [world.state().tobytes(), world.pose('cube').tobytes()]
    return b''.join(rows)


def cube_world():
    world = World(SPEC)
    box_part(world, 'cube', [([SIZE] * 3, [0, 0, 0], (1, 0, 0, 1))], MASS)
    return world


def digest(data):
    return hashlib.sha256(data).hexdigest()


def test_the_same_reset_gives_the_same_bits_in_any_world_after_anything(world):
    first = {seed: episode(world, seed) for seed in (1, 2)}
    assert first[1] != first[2]
    episode(world, 3, n=77)  # stopped in the middle of a contact
    assert episode(world, 2) == first[2]
    assert episode(world, 1) == first[1]
    with cube_world() as fresh:
        assert episode(fresh, 2) == first[2]


def test_worlds_do_not_influence_each_other(world):
    alone = episode(world, 1)
    with cube_world() as other:
        episode(other, 2, n=30)
        assert episode(world, 1) == alone
        other.reset(SPEC.rest)
        other.place('cube', np.array([0, 0.3, SIZE / 2]), yaw_quaternion(0))
        still = other.pose('cube')
        world.step()
        np.testing.assert_array_equal(other.pose('cube'), still)


def test_another_process_gives_the_same_bits(world):
    there = subprocess.run(
        [sys.executable, __file__], check=True, capture_output=True, text=True, timeout=120)
    assert there.stdout.strip() == digest(episode(world, 1))


# -- errors ---------------------------------------------------------------------------------
def test_an_unknown_part_is_told_with_the_valid_ones(world):
    with pytest.raises(SimulationError, match="'cub'.*did you mean 'cube'"):
        world.pose('cub')


def test_a_window_without_a_display_is_one_clear_error(monkeypatch):
    monkeypatch.setenv('DISPLAY', ':no-such-display')
    assert not bullet.display_available() or not sys.platform.startswith('linux')
    monkeypatch.setattr(bullet, 'display_available', lambda: False)
    with pytest.raises(SimulationError, match='display'):
        World(SPEC, gui=True)


def test_closing_twice_is_harmless():
    world = World(SPEC)
    world.close()
    world.close()
    with World(SPEC) as another:
        another.step()


if __name__ == '__main__':
    with cube_world() as one:
        print(digest(episode(one, 1)))
