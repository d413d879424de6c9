import dataclasses
import math

import numpy as np
import pytest

from il_robot.errors import ConfigError
from il_robot.resources import named_config
from il_robot.rotations import matrix_from_quaternion, quaternion_from_matrix, rotation_rpy
from il_robot.sim import make
from il_robot.sim.bullet import p
from il_robot.sim.tasks import TASKS, WIDTHS, make_task, task_names
from il_robot.sim.tasks.task import yaw_quaternion
from il_robot.sim.world import World
from il_robot.spec import load_robot_spec

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
NAMES = pytest.mark.parametrize('name', TASKS)

# Centre and half range of x, y [m] and yaw [rad] at the nominal width, as documented.
DOCUMENTED = {
    ('transfer_cube', 'cube'): ((0.10, 0.10), (0.0, 0.12), 0.5),
    ('insert_peg', 'peg'): ((0.20, 0.05), (0.0, 0.08), 0.3),
    ('insert_peg', 'tube'): ((-0.20, 0.05), (0.0, 0.08), 0.3),
    ('lift_tray', 'tray'): ((0.0, 0.03), (0.0, 0.08), 0.2),
}


@pytest.fixture(scope='module')
def worlds():
    made = {}
    for name in TASKS:
        task, world = make_task(name), World(SPEC)
        task.build(world)
        made[name] = task, world
    yield made
    for _, world in made.values():
        world.close()


@pytest.fixture
def place(worlds):
    """Give a task's world with one part placed."""
    def do(name, part, position, rotation=None):
        task, world = worlds[name]
        quaternion = [0, 0, 0, 1] if rotation is None else quaternion_from_matrix(rotation)
        world.place(part, np.array(position, float), np.array(quaternion, float))
        return task, world

    return do


def starts(task, world, width, n=300):
    """Poses ``(n, 3)`` x, y, yaw of every part at the start of ``n`` episodes."""
    rng, rows = np.random.default_rng(0), {name: [] for name in task.objects}
    for _ in range(n):
        task.reset(world, rng, WIDTHS[width])
        for name in task.objects:
            x, y, _, *q = world.pose(name)
            rows[name].append((x, y, 2 * math.atan2(q[2], q[3])))
    return {name: np.array(r) for name, r in rows.items()}


@NAMES
def test_a_task_says_what_it_is(name):
    task = make_task(name)
    assert task.name == name and name in task_names()
    assert task.language.endswith('.') and task.language[0].isupper()
    assert task.stages[0] == 'start' and len(set(task.stages)) == len(task.stages) >= 4
    assert len(set(task.objects)) == len(task.objects)
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.name = 'other'


@pytest.mark.parametrize('name, part', DOCUMENTED)
def test_parts_start_inside_the_documented_ranges_narrow_in_nominal_in_wide(worlds, name, part):
    (x, dx), (y, dy), yaw = DOCUMENTED[name, part]
    centre, half = np.array([x, y, 0]), np.array([dx, dy, yaw])
    reach = {}
    for width, factor in WIDTHS.items():
        offset = (starts(*worlds[name], width)[part] - centre) / half
        reach[width] = np.abs(offset).max(axis=0)
        assert (reach[width] <= factor + 1e-5).all(), width
        assert (reach[width] > 0.9 * factor).all(), 'the whole range is used'
    assert (reach['narrow'] < reach['nominal']).all() and (reach['nominal'] < reach['wide']).all()


@pytest.mark.parametrize('width, factor', [('narrow', 0.5), ('nominal', 1.0), ('wide', 1.2)])
def test_the_ball_starts_in_the_middle_of_the_tray(worlds, width, factor):
    rows = starts(*worlds['lift_tray'], width)
    offset = rows['ball'][:, :2] - rows['tray'][:, :2]
    c, s = np.cos(rows['tray'][:, 2]), np.sin(rows['tray'][:, 2])
    local = np.stack([c * offset[:, 0] + s * offset[:, 1], c * offset[:, 1] - s * offset[:, 0]])
    assert (np.abs(local).max(axis=1) <= factor * np.array([0.08, 0.05]) + 1e-5).all()
    assert (np.abs(local).max(axis=1) > 0.9 * factor * np.array([0.08, 0.05])).all()


@NAMES
def test_parts_lie_still_at_the_start_of_the_widest_episodes(name):
    env = make(name, width='wide')
    for seed in range(10):
        env.reset(seed=seed)
        before = env.world.poses()
        assert env.task.stage(env.world) == 0 and not env.task.failed(env.world)
        for _ in range(10):
            env.world.step()
        for part, pose in env.world.poses().items():
            moved = np.linalg.norm(pose[:3] - before[part][:3])
            assert moved < (0.02 if part == 'ball' else 1e-3), (seed, part)
    env.close()


@NAMES
def test_parts_have_their_nominal_mass(worlds, name):
    _, world = worlds[name]
    for part in world.parts.values():
        row = p.getDynamicsInfo(part.body, -1, physicsClientId=world.client)
        assert row[0] == pytest.approx(part.mass) and row[1] == pytest.approx(part.friction)


# -- stages ---------------------------------------------------------------------------------
@NAMES
def test_an_expert_goes_through_all_stages_from_the_first_to_the_last(name):
    env = make(name)
    env.reset(seed=0)
    seen, ended = [0], False
    while not ended:
        *_, terminated, truncated, info = env.step(env.expert().position)
        seen.append(env.task.stage(env.world))
        ended = terminated or truncated
    assert info['success'] and seen[-1] == len(env.task.stages) - 1
    # Both arms may grasp and lift within one tick.
    assert len(set(range(len(env.task.stages))) - set(seen)) <= 1
    env.close()


@NAMES
@pytest.mark.parametrize('seed', range(3))
def test_progress_rises_with_an_expert_all_the_way_from_0_to_1(name, seed):
    env = make(name)
    env.reset(seed=seed)
    progress, ended = [env.progress()], False
    while not ended:
        *_, terminated, truncated, info = env.step(env.expert().position)
        progress.append(env.progress())
        ended = terminated or truncated
    env.close()
    assert info['success'] and progress[0] < 0.1
    assert progress[-1] == pytest.approx(1.0) == max(progress)
    rises = np.diff(progress)
    assert -rises[rises < 0].sum() < 0.12, 'a tray that swings, a peg that turns in the hand'
    standing = np.abs(rises) < 1e-9
    assert standing.mean() < 0.35, 'it is flat nowhere but at its end'


@NAMES
def test_progress_without_an_expert_is_none(name):
    env = make(name)
    env.reset(seed=0)
    first = env.progress()
    for _ in range(50):
        env.hold()
    assert env.progress() == pytest.approx(first, abs=0.01)
    env.close()


@pytest.mark.parametrize('turned', [False, True])
@pytest.mark.parametrize('depth', [-0.02, 0.0, 0.01, 0.05, 0.09])
def test_insertion_is_how_deep_the_tip_is_in_the_tube(place, depth, turned):
    """The peg comes along -x; a tube turned round has two equal mouths."""
    turn = rotation_rpy((0.3, -0.2, 1.0))
    flip = rotation_rpy((0, 0, math.pi)) if turned else np.eye(3)
    centre = np.array([0.1, 0.2, 0.3])
    task, world = place('insert_peg', 'tube', centre, turn @ flip)
    gap = 0.5 * (task.tube_length + task.peg_length) - depth
    place('insert_peg', 'peg', centre + turn @ [gap, 0, 0], turn)
    assert task.insertion(world) == pytest.approx(depth, abs=1e-6)
    place('insert_peg', 'peg', centre + turn @ [gap, 0.02, 0], turn)
    assert task.insertion(world) == 0.0, 'beside the tube'


@pytest.mark.parametrize('clearance', [0.002, 0.004, 0.006])
def test_the_hole_is_wider_than_the_peg_by_the_clearance(clearance):
    task = make_task('insert_peg', {'clearance': clearance})
    with World(SPEC) as world:
        task.build(world)

        def touch(sideways):
            world.reset(SPEC.rest)
            world.place('tube', np.array([0, 0, 0.5]), yaw_quaternion(0))
            world.place('peg', np.array([0.05, sideways, 0.5]), yaw_quaternion(0))
            peg, tube = (world.parts[name].body for name in ('peg', 'tube'))
            return min(row[8] for row in p.getClosestPoints(
                peg, tube, 1.0, physicsClientId=world.client))

        assert touch(0.0) == pytest.approx(clearance / 2, abs=1e-4)
        assert touch(clearance / 2 + 0.001) < -0.0005


@pytest.mark.parametrize('degrees', [0, 5, 12, 60])
def test_tilt_is_the_angle_from_level_whatever_the_heading(place, degrees):
    for heading in (0.0, 1.0, -2.5):
        rotation = rotation_rpy((0, 0, heading)) @ rotation_rpy((math.radians(degrees), 0, 0))
        task, world = place('lift_tray', 'tray', [0, 0, 0.3], rotation)
        assert task.tilt(world) == pytest.approx(math.radians(degrees), abs=1e-4)


def test_a_ball_beside_or_under_the_tray_is_a_failure(place):
    place('lift_tray', 'tray', [0, 0, 0.3], rotation_rpy((0, 0, 0.5)))
    task, world = place('lift_tray', 'ball', [0.02, 0.01, 0.322])
    assert not task.failed(world)
    for position in ([0.3, 0, 0.32], [0, 0.25, 0.32], [0, 0, 0.25]):
        place('lift_tray', 'ball', position)
        assert task.failed(world), position


@pytest.mark.parametrize('name, part', DOCUMENTED)
def test_a_part_under_the_table_is_a_failure(worlds, place, name, part):
    task, world = worlds[name]
    task.reset(world, np.random.default_rng(0), 1.0)
    place(name, part, [0, 0, 0.1])
    if part == 'tray':
        place(name, 'ball', [0, 0, 0.13])
    assert not task.failed(world)
    place(name, part, [0.8, 0, -0.06])
    assert task.failed(world)


def test_the_rotation_of_a_part_is_a_unit_quaternion_in_float32(worlds):
    _, world = worlds['transfer_cube']
    pose = world.pose('cube')
    assert pose.dtype == np.float32 and pose.shape == (7,)
    assert abs(np.linalg.det(matrix_from_quaternion(pose[3:])) - 1) < 1e-9


# -- errors ---------------------------------------------------------------------------------
@pytest.mark.parametrize('name, options, message', [
    ('lift_try', {}, "unknown task 'lift_try': did you mean 'lift_tray'"),
    ('lift_tray', {'hight': 0.2}, "unknown key 'hight' in task lift_tray.*did you mean 'height'"),
    ('transfer_cube', {'size': '4 cm'}, 'size must be float'),
    ('transfer_cube', {'size': 0.07}, '0.02 to 0.06'),
    ('insert_peg', {'clearance': 0.0}, '0.001 to 0.010'),
    ('insert_peg', {'clearance': 0.011}, '0.001 to 0.010'),
])
def test_a_wrong_task_or_option_is_told_with_the_right_ones(name, options, message):
    with pytest.raises(ConfigError, match=message):
        make_task(name, options)
