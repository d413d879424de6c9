import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from il_robot.errors import SpecError
from il_robot.kinematics import ArmKinematics, Pose
from il_robot.resources import named_config
from il_robot.rotations import rotation_vector
from il_robot.spec import load_robot_spec

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
ARMS = {arm.name: ArmKinematics.from_spec(SPEC, arm) for arm in SPEC.arms}
ARM = pytest.mark.parametrize('arm', ARMS.values(), ids=ARMS)
LOWER, UPPER = ARMS['left'].lower, ARMS['left'].upper
any_joints = st.tuples(*[st.floats(-math.pi, math.pi)] * 6).map(np.array)
allowed_joints = st.tuples(*[st.floats(a, b) for a, b in zip(LOWER, UPPER)]).map(np.array)


def turned(a, b):
    """Joint distance modulo whole turns."""
    return np.abs((np.asarray(a) - b + math.pi) % (2 * math.pi) - math.pi)


def assert_same(pose, other, atol=1e-9):
    np.testing.assert_allclose(pose.position, other.position, atol=atol)
    np.testing.assert_allclose(pose.rotation, other.rotation, atol=atol)


def distance_to_singularity(kinematics, q):
    """Smallest of: wrist centre from the waist axis [m], elbow and wrist from straight."""
    pose = kinematics.fk(q)
    wrist = kinematics.base.inverse_apply(pose.position - kinematics.hand * pose.rotation[:, 0])
    return min(np.hypot(*wrist[:2]), abs(math.cos(q[2])), abs(math.sin(q[4])))


@ARM
@given(q=any_joints)
def test_every_branch_reaches_the_pose_and_one_is_where_we_came_from(arm, q):
    pose = arm.fk(q)
    branches = arm.ik(pose, near=q)
    assert branches.shape == (8, 6) and np.abs(branches).max() <= math.pi + 1e-12
    for branch in branches:
        assert_same(arm.fk(branch), pose)
    if distance_to_singularity(arm, q) > 1e-3:
        assert min(turned(b, q).max() for b in branches) < 1e-6
        distances = [turned(a, b).max() for i, a in enumerate(branches) for b in branches[:i]]
        assert min(distances) > 1e-4, 'all eight differ'


@settings(max_examples=30)
@given(rows=st.integers(1, 40), seed=st.integers(0, 999))
def test_many_forward_kinematics_are_the_single_ones_and_one_row_has_the_bits_of_many(rows, seed):
    q = np.random.default_rng(seed).uniform(-math.pi, math.pi, (rows, 6))
    for arm in ARMS.values():
        rotations, positions = arm.fk_batch(q)
        for i in range(rows):
            assert_same(Pose(rotations[i], positions[i]), arm.fk(q[i]), atol=1e-12)
            alone = arm.fk_batch(q[i:i + 1])
            assert alone[0].tobytes() == rotations[i].tobytes()
            assert alone[1].tobytes() == positions[i].tobytes()


SINGULAR = {
    'straight wrist': [0.3, -0.4, 0.5, 0.7, 0.0, 0.2],
    'folded wrist': [0.3, -0.4, 0.5, -2.0, math.pi, 0.2],
    'wrist above the shoulder': [0.9, -math.pi / 4 - 0.2, 0.4, 0.2, 0.5, 0.1],
    'stretched elbow': [0.3, -0.4, -math.pi / 2, 0.3, 0.5, 0.1],
    'all at once': [0.9, 0.0, -math.pi / 2, 0.3, 0.0, 0.1],
}


@ARM
@pytest.mark.parametrize('q', SINGULAR.values(), ids=SINGULAR)
def test_at_a_singularity_all_branches_are_exact_and_one_is_where_we_came_from(arm, q):
    pose = arm.fk(q)
    branches = arm.ik(pose, near=q)
    assert branches.shape == (8, 6)
    for branch in branches:
        assert_same(arm.fk(branch), pose)
    assert min(turned(b, q).max() for b in branches) < 1e-6


@pytest.mark.parametrize('q5', [0.0, math.pi])
def test_a_straight_wrist_shares_the_turn_between_its_two_rolls(q5):
    arm = ARMS['left']
    pose = arm.fk([0.3, -0.4, 0.5, 0.7, q5, 0.2])
    nearest = min(turned(b, [0.3, -0.4, 0.5, 1.1, q5, 0.2]).max() for b in arm.ik(
        pose, near=[0.3, -0.4, 0.5, 1.1, q5, 0.2]))
    assert nearest == pytest.approx(0.2)


@ARM
@given(q=allowed_joints, near=allowed_joints)
def test_a_straight_wrist_always_has_an_answer_inside_the_limits(arm, q, near):
    q[4] = 0.0
    pose = arm.fk(q)
    assert_same(arm.fk(arm.solve(pose, near)), pose, 1e-6)


@pytest.mark.parametrize('scale', 10.0 ** -np.arange(3, 16))
def test_next_to_a_singularity_the_answers_are_as_exact(scale):
    rng = np.random.default_rng(0)
    for arm in ARMS.values():
        for q in SINGULAR.values():
            pose = arm.fk(q + scale * rng.normal(size=6))
            for branch in arm.ik(pose, near=q):
                assert_same(arm.fk(branch), pose)


@ARM
@given(q=any_joints, beyond=st.floats(1e-6, 1.0))
def test_out_of_reach_is_an_empty_answer(arm, q, beyond):
    pose = arm.fk(q)
    reach = arm.upper_arm + arm.forearm + beyond
    shoulder = arm.base.apply([0, 0, arm.shoulder_height])
    wrist = pose.position - arm.hand * pose.rotation[:, 0]
    direction = (wrist - shoulder) / max(np.linalg.norm(wrist - shoulder), 1e-9)
    far = Pose(pose.rotation, shoulder + reach * direction + arm.hand * pose.rotation[:, 0])
    if np.linalg.norm(direction) > 0.5:
        assert arm.ik(far).shape == (0, 6)
        assert arm.solve(far, near=q) is None


@ARM
@given(q=allowed_joints, near=allowed_joints)
def test_solve_stays_inside_the_limits_and_takes_the_nearest_branch(arm, q, near):
    assume(distance_to_singularity(arm, q) > 1e-3)
    pose = arm.fk(q)
    solved = arm.solve(pose, near)
    assert solved is not None, 'q itself is inside the limits'
    assert (solved >= LOWER).all() and (solved <= UPPER).all()
    assert_same(arm.fk(solved), pose, 1e-6)
    assert np.abs(solved - near).max() <= np.abs(q - near).max() + 1e-6


@ARM
def test_solve_follows_a_continuous_path_without_changing_branch(arm):
    rng, followed = np.random.default_rng(0), 0
    for start, end in rng.uniform(LOWER, UPPER, (200, 2, 6)):
        path = start + np.linspace(0, 1, 60)[:, None] * (end - start)
        if min(distance_to_singularity(arm, q) for q in path) < 0.1:
            continue  # branches meet there
        followed += 1
        last = start
        for q in path:
            last = arm.solve(arm.fk(q), near=last)
            np.testing.assert_allclose(last, q, atol=1e-6)
    assert followed > 10


@ARM
@settings(max_examples=50, deadline=None)
@given(q=any_joints)
def test_the_jacobian_is_the_derivative_of_fk(arm, q):
    h = 1e-6
    jacobian = arm.jacobian(q)
    assert jacobian.shape == (6, 6)
    for i, axis in enumerate(np.eye(6)):
        plus, minus = arm.fk(q + h * axis), arm.fk(q - h * axis)
        linear = (plus.position - minus.position) / (2 * h)
        angular = rotation_vector(plus.rotation @ minus.rotation.T) / (2 * h)
        np.testing.assert_allclose(jacobian[:, i], np.r_[linear, angular], atol=1e-7)


def test_the_arms_are_mirror_images_of_each_other():
    left, right = (ARMS[name].fk([0.4, -0.5, 0.3, 0.2, 0.7, -0.1]) for name in ('left', 'right'))
    half_turn = np.diag([-1.0, -1.0, 1.0])
    np.testing.assert_allclose(right.position, half_turn @ left.position, atol=1e-12)
    np.testing.assert_allclose(right.rotation, half_turn @ left.rotation, atol=1e-12)


@given(q=any_joints, p=any_joints)
def test_poses_compose_and_invert(q, p):
    a, b = ARMS['left'].fk(q), ARMS['right'].fk(p)
    point = np.array([0.1, -0.2, 0.3])
    np.testing.assert_allclose((a @ b).apply(point), a.apply(b.apply(point)), atol=1e-12)
    np.testing.assert_allclose(a.inverse().apply(point), a.inverse_apply(point), atol=1e-12)
    assert_same(a @ a.inverse(), Pose(np.eye(3), np.zeros(3)), 1e-12)


def test_a_robot_without_this_geometry_is_refused():
    with pytest.raises(SpecError, match='geometry'):
        ArmKinematics.from_spec(replace(SPEC, geometry=None), 'left')
    with pytest.raises(SpecError, match="did you mean 'left'"):
        ArmKinematics.from_spec(SPEC, 'lef')

