"""Distances of the safety gate against the shapes that the simulator knows, and their laws."""

from dataclasses import replace

import numpy as np
import pybullet as p
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.body import Body
from il_robot.control.clearance import Clearances
from il_robot.control.compiled import warm
from il_robot.errors import SpecError
from il_robot.safety_spec import Workspace
from il_robot.sim import default_robot
from il_robot.sim.description import urdf_text
from il_robot.sim.world import World

SPEC = default_robot()
BODY = Body(SPEC, urdf_text(SPEC))
BOX = replace(SPEC, safety=replace(SPEC.safety, workspace=Workspace((0, -.5, 0), (.7, .5, .6))))
WATCHED = Clearances(Body(BOX, urdf_text(BOX)))


def anywhere(rng):
    return rng.uniform(SPEC.lower, SPEC.upper)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_nothing_in_a_range_has_less_room_than_the_range_nor_a_part_of_it(seed, size):
    rng = np.random.default_rng(seed)
    middle = anywhere(rng)
    half = size * rng.uniform(0, 0.3, SPEC.dim) * (rng.random(SPEC.dim) < 0.6)
    room = WATCHED.rooms(middle - half, middle + half)
    for _ in range(20):
        sides = np.sort(rng.choice([-1, 1, *rng.uniform(-1, 1, 4)], (2, SPEC.dim)), axis=0)
        low, high = middle + sides * half
        assert (WATCHED.rooms(low, high) >= room - 1e-9).all()
        assert (WATCHED.exact(low) >= room - 1e-9).all()


def test_the_bound_is_tight_to_the_first_order():
    """It is not merely safe: for a small range it is the change of the distance itself."""
    rng = np.random.default_rng(1)
    position, step = anywhere(rng), 1e-4
    bound = (WATCHED.exact(position) - WATCHED.rooms(position - step, position + step)) / step
    table = np.array([name.endswith('table') for name in WATCHED.names])
    change = sum(np.abs(WATCHED.exact(position + d) - WATCHED.exact(position - d)) / (2 * step)
                 for d in step * np.eye(SPEC.dim))
    assert (change <= bound + 1e-3).all()
    assert (bound[table] <= 1.6 * change[table] + 0.05).all()


@pytest.fixture(scope='module')
def world():
    world = World(SPEC)
    yield world
    world.close()


def test_distances_are_never_more_than_those_of_the_simulators_shapes(world):
    c = {'physicsClientId': world.client}
    links = {arm.name: {p.getJointInfo(world.arms[arm.name].body, i, **c)[12].decode(): i
                        for i in range(p.getNumJoints(world.arms[arm.name].body, **c))}
             for arm in SPEC.arms}

    def link(name):
        arm = next(a for a in SPEC.arms if name.startswith(a.prefix))
        index = links[arm.name].get(name, -1)  # the base
        return world.arms[arm.name].body, index

    rng = np.random.default_rng(2)
    watched = Clearances(BODY)
    loose = []
    for _ in range(12):
        position = anywhere(rng)
        world.reset(position.astype(np.float32))
        room = watched.exact(position.astype(np.float32).astype(np.float64))
        for i in rng.choice(len(room), 40, replace=False):
            one, other = watched.names[i].split(' - ')
            a, b = link(one), (world.table, -1) if other == 'table' else link(other)
            if a[0] == b[0]:
                continue  # PyBullet does not tell distances within one body
            found = p.getClosestPoints(a[0], b[0], 5.0, a[1], b[1], **c)
            hands = all('hand' in w or 'finger' in w for w in (one, other))
            margin = 0.0 if other == 'table' else getattr(
                SPEC.safety.clearance, 'hands' if hands else 'links')
            real = min(f[8] for f in found) - margin
            assert room[i] <= real + 2e-3, watched.names[i]
            loose.append(real - room[i])
    assert 0 < np.median(loose) < 0.05


def test_a_workspace_is_that_of_the_tool_points():
    rows = [n.startswith('workspace') for n in WATCHED.names]
    assert sum(rows) == 6 * len(SPEC.arms)
    from il_robot.kinematics import ArmKinematics
    position = SPEC.rest.astype(np.float64)
    room = WATCHED.exact(position)[rows].reshape(len(SPEC.arms), 3, 2)
    for arm, sides in zip(SPEC.arms, room):
        tool = ArmKinematics.from_spec(SPEC, arm.name).fk(
            SPEC.rest[SPEC.arm_slice(arm.name)][:-1]).position
        np.testing.assert_allclose(sides[:, 0], tool - BOX.safety.workspace.lower, atol=1e-6)
        np.testing.assert_allclose(sides[:, 1], BOX.safety.workspace.upper - tool, atol=1e-6)


def test_a_model_that_does_not_fit_is_refused():
    with pytest.raises(SpecError, match='no joint'):
        Body(replace(SPEC, joints=(*SPEC.joints[:-1], replace(SPEC.joints[-1], name='other'))),
             urdf_text(SPEC))
    with pytest.raises(SpecError, match='listed as they follow'):
        Body(replace(SPEC, joints=SPEC.joints[::-1]), urdf_text(SPEC))
    single = replace(SPEC, arms=(replace(SPEC.arms[0], prefix=''),))
    with pytest.raises(SpecError, match='needs a prefix'):
        Body(single, urdf_text(single))


def test_one_arm_alone_is_watched_against_itself_and_the_table():
    alone = replace(SPEC, arms=SPEC.arms[:1])
    watched = Clearances(Body(alone, urdf_text(alone)))
    assert watched.exact(alone.rest.astype(np.float64)).min() > 0 and watched.moves.all()


def test_a_damaged_cache_is_compiled_anew():
    calls = []

    def first_fails():
        calls.append(1)
        if len(calls) == 1:
            raise EOFError('Ran out of input')

    warm(first_fails)
    assert len(calls) == 2
    assert np.isfinite(WATCHED.exact(SPEC.rest.astype(np.float64))).all()
