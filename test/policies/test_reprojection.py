import numpy as np
import pytest

from il_robot.policies.estimator import box_marks
from il_robot.policies.reprojection import Prior, Sight, solve_poses
from il_robot.policies.views import project
from il_robot.rotations import matrix_from_vector

POINTS = box_marks(0.02)
PRIOR = Prior(np.array([0.0, 0.0, 0.1]), np.eye(3) * 10.0)
N = 20


def cameras():
    """From above and from the side: ``base`` as seen by each."""
    above = np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.0, 1.2])
    side = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.array([0.0, 0.2, 0.9])
    return [tuple(np.broadcast_to(v, (N, *v.shape)) for v in frames) for frames in (above, side)]


def poses(seed=0):
    rng = np.random.default_rng(seed)
    rotation = np.stack([matrix_from_vector(v) for v in rng.normal(size=(N, 3))])
    return rotation, rng.uniform(-0.2, 0.2, (N, 3)) + np.array([0, 0, 0.1])


def sights(rotation, position, precision=1e6, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    seen = POINTS @ rotation.swapaxes(1, 2) + position[:, None]
    out = {}
    for name, frames in zip('ab', cameras()):
        image = project(seen, frames, 2.0)[0]
        image = image + noise * rng.normal(size=image.shape)
        out[name] = Sight(image, np.broadcast_to(
            precision * np.eye(2), (*image.shape, 2)).copy(), frames, 2.0)
    return out


def turned(a, b):
    """Angles [rad] between rotations."""
    trace = np.trace(a.swapaxes(1, 2) @ b, axis1=1, axis2=2)
    return np.arccos(np.clip((trace - 1) / 2, -1, 1))


def test_what_was_projected_is_found_again():
    rotation, position = poses()
    found, where = solve_poses(POINTS, sights(rotation, position), PRIOR)
    np.testing.assert_allclose(where, position, atol=1e-4)
    assert turned(found, rotation).max() < 2e-3


def test_the_size_of_the_body_tells_one_camera_the_distance():
    rotation, position = poses()
    alone = {'a': sights(rotation, position)['a']}
    where = solve_poses(POINTS, alone, PRIOR)[1]
    assert np.median(np.linalg.norm(where - position, axis=1)) < 2e-3


def test_one_row_is_as_among_many():
    rotation, position = poses()
    seen = sights(rotation, position, noise=1e-3)
    many = solve_poses(POINTS, seen, PRIOR)
    one = solve_poses(POINTS, {
        name: Sight(s.image[3:4], s.information[3:4], tuple(f[3:4] for f in s.frames), s.focal)
        for name, s in seen.items()}, PRIOR)
    for a, b in zip(many, one):
        np.testing.assert_allclose(a[3:4], b, atol=1e-9)


def test_who_is_less_sure_counts_less():
    """A camera that is far off and says so does not matter."""
    rotation, position = poses()
    seen = sights(rotation, position)
    wrong = seen['b']
    seen['b'] = Sight(wrong.image + 0.5, wrong.information * 1e-9, wrong.frames, wrong.focal)
    where = solve_poses(POINTS, seen, PRIOR)[1]
    assert np.median(np.linalg.norm(where - position, axis=1)) < 3e-3


def test_a_mark_that_is_sure_of_the_wrong_place_does_not_pull_the_others_along():
    rotation, position = poses()
    seen = sights(rotation, position, precision=1e5, noise=1e-3)
    clean = solve_poses(POINTS, seen, PRIOR)[1]
    seen['a'].image[:, 1] += 0.15
    where = solve_poses(POINTS, seen, PRIOR)[1]
    assert np.median(np.linalg.norm(where - clean, axis=1)) < 2e-3


def test_without_evidence_the_body_is_where_it_usually_is():
    rotation, position = poses()
    seen = sights(rotation, position, precision=0.0)
    found, where = solve_poses(POINTS, seen, PRIOR)
    np.testing.assert_allclose(where, np.broadcast_to(PRIOR.mean, (N, 3)), atol=0.05)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found @ found.swapaxes(1, 2), np.broadcast_to(
        np.eye(3), (N, 3, 3)), atol=1e-9)


@pytest.mark.parametrize('noise', [1e-3, 4e-3])
def test_errors_grow_with_the_noise_only(noise):
    rotation, position = poses()
    seen = sights(rotation, position, precision=1 / noise ** 2, noise=noise)
    where = solve_poses(POINTS, seen, PRIOR)[1]
    # about a metre away, focal length 2, nine marks
    assert np.median(np.linalg.norm(where - position, axis=1)) < noise
