import numpy as np
import pytest

from il_robot.control.observe import ObservationAssembler

DT = 0.02


def state(k):
    return np.full(2, k, np.float32)


def pose(k):
    return np.array([k, 0, 0, 0, 0, 0, 1], np.float32)


def assembler(*objects, **settings):
    return ObservationAssembler(objects, **{'period': DT, 'max_age': 0.1, **settings})


def put(joined, k, objects=('cube',), stamp=None):
    stamp = k * DT if stamp is None else stamp
    for name in objects:
        joined.put_object(name, stamp, pose(k))
    return joined.put_state(stamp, state(k))


@pytest.mark.parametrize('first', ['state', 'objects'])
def test_streams_in_step_are_joined_by_stamp_whatever_comes_first(first):
    joined = assembler('cube', 'tray')
    for k in range(1, 6):
        if first == 'state':
            joined.put_state(k * DT, state(k))
            assert joined.take() is None
            assert set(joined.missing()) == {'cube', 'tray'}
        joined.put_object('cube', k * DT, pose(k))
        joined.put_object('tray', k * DT, pose(10 * k))
        if first == 'objects':
            assert joined.take() is None
            joined.put_state(k * DT, state(k))
        observation = joined.take()
        assert observation.stamp == k * DT and observation.state[0] == k
        assert observation.objects['cube'][0] == k and observation.objects['tray'][0] == 10 * k
        assert joined.take() is None and joined.missing() == ()


def test_a_stream_of_its_own_rate_is_taken_as_of():
    joined = assembler('cube')
    for t, k in ((0.005, 1), (0.038, 2), (0.071, 3)):
        joined.put_object('cube', t, pose(k))
    found = []
    for k in range(1, 5):
        joined.put_state(k * DT, state(k))
        found.append(joined.take().objects['cube'][0])
    assert found == [1, 2, 2, 3]  # never one from the future


def test_a_pose_that_is_too_old_does_not_count():
    joined = assembler('cube', max_age=0.1)
    joined.put_object('cube', 0.005, pose(1))
    joined.put_state(0.1, state(1))
    assert joined.take() is not None
    joined.put_state(0.12, state(2))
    assert joined.take() is None and joined.missing() == ('cube',)
    joined.put_object('cube', 0.11, pose(2))
    assert joined.take().objects['cube'][0] == 2


def test_newer_joint_states_replace_incomplete_ones():
    joined = assembler('cube')
    put(joined, 1)
    joined.take()
    joined.put_state(2 * DT, state(2))
    joined.put_state(3 * DT, state(3))
    joined.put_object('cube', 2 * DT, pose(2))
    joined.put_object('cube', 3 * DT, pose(3))
    assert joined.take().state[0] == 3
    assert joined.take() is None


def test_old_or_repeated_joint_states_are_refused_in_words():
    joined = assembler()
    assert joined.put_state(1.0, state(1)) == ''
    assert 'not newer' in joined.put_state(1.0, state(1))
    assert 'not newer' in joined.put_state(0.98, state(1))


def test_a_fast_robot_is_thinned_to_the_control_rate():
    joined, taken = assembler(), []
    for k in range(100):
        joined.put_state(0.005 * k, state(k))
        observation = joined.take()
        if observation is not None:
            taken.append(observation.stamp)
    np.testing.assert_allclose(np.diff(taken), DT)


def test_a_robot_that_starts_anew_is_followed():
    joined = assembler('cube')
    put(joined, 500)
    assert joined.take().stamp == 10.0
    assert put(joined, 1) == ''
    assert joined.take().stamp == DT
    put(joined, 2)
    assert joined.take().objects['cube'][0] == 2


def test_without_objects_the_joints_are_enough():
    joined = assembler()
    joined.put_state(1.0, state(1))
    assert dict(joined.take().objects) == {}


def picture(k):
    return np.full((2, 2, 3), k, np.uint8)


def seeing(*cameras, **settings):
    return ObservationAssembler(
        (), period=DT, max_age=0.1, cameras=cameras, **{'max_image_age': 0.2, **settings})


def test_pictures_in_step_are_joined_by_stamp_whatever_comes_first():
    joined = seeing('front', 'wrist')
    for k in range(1, 8):
        for name in ('front', 'wrist') if k % 2 else ():
            joined.put_image(name, k * DT, picture(k))
        joined.put_state(k * DT, state(k))
        if k % 2 == 0:
            assert joined.take() is None
            assert set(joined.missing_cameras()) == {'front', 'wrist'}
            for name in ('front', 'wrist'):
                joined.put_image(name, k * DT, picture(k))
        images = joined.take().images
        assert all((images[name] == k).all() for name in ('front', 'wrist'))
        assert joined.missing_cameras() == ()


@pytest.mark.parametrize('hertz', [10, 25, 30])
def test_a_camera_slower_than_the_control_does_not_hold_it_up(hertz):
    """Stamps on the control grid, as the simulator gives them in real time."""
    joined, shown, found = seeing('front'), -1, []
    for k in range(60):
        due = int(k * DT * hertz + 1e-6)
        if due > shown:
            shown = due
            joined.put_image('front', k * DT, picture(k))
        joined.put_state(k * DT, state(k))
        observation = joined.take()
        if observation is not None:
            found.append((k, int(observation.images['front'][0, 0, 0])))
    assert len(found) >= 57  # until the camera's rate is known
    assert all(0 <= k - seen <= 50 / hertz for k, seen in found)


def test_a_camera_that_falls_silent_is_named():
    joined = seeing('front', 'wrist')
    for k in range(1, 20):
        joined.put_image('front', k * DT - 0.005, picture(k))
        if k < 4:
            joined.put_image('wrist', k * DT - 0.005, picture(k))
        joined.put_state(k * DT, state(k))
        observation = joined.take()
        silent = k * DT - (3 * DT - 0.005) > 0.2
        assert (observation is None) == silent
        assert joined.missing_cameras() == (('wrist',) if silent else ())
    joined.put_image('wrist', 19 * DT, picture(19))
    assert joined.take().images['wrist'][0, 0, 0] == 19
