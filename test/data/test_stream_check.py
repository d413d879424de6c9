"""Live checks: each trouble is seen at once, and a good stream is left alone."""

import numpy as np
import pytest
import ros_messages as ros

from il_robot.data.stream_check import (
    LATE,
    LATEST,
    CheckLimits,
    StreamCheck,
    have_come,
    joint_names,
    stamp_of,
)

NAMES = ('left_waist', 'left_gripper', 'a')
T0 = 1_795_000_000.0


def play(check, stamps, make, delay=0.001):
    """Kinds of trouble, in order, over messages with these stamps."""
    found = []
    for i, stamp in enumerate(stamps):
        found += [kind for kind, _ in check.receive(make(i, stamp), stamp + delay)]
    return found


def state(i, stamp):
    return ros.joints(stamp, NAMES, [i, 0, 0])


def picture(value):
    return lambda i, stamp: ros.image(stamp, np.full((48, 64, 3), value(i), np.uint8))


@pytest.mark.parametrize('frame', ['', 'base', 'a_longer_frame'])
def test_bytes_are_read_where_they_stand(frame):
    kind = ros.STORE.types[ros.JOINTS]
    header = ros.STORE.types['std_msgs/msg/Header'](
        stamp=ros.STORE.types['builtin_interfaces/msg/Time'](sec=5, nanosec=250_000_000),
        frame_id=frame)
    nothing = np.zeros(0)
    data = bytes(ros.STORE.serialize_cdr(
        kind(header, list(NAMES), np.zeros(3), nothing, nothing), ros.JOINTS))
    assert stamp_of(data) == 5.25
    names, end = joint_names(data)
    assert tuple(names) == NAMES and b'left_gripper' in data[:end]


def test_a_good_stream_is_left_alone():
    check = StreamCheck('joint_states', 'joints', 50.0, NAMES)
    assert play(check, T0 + 0.02 * np.arange(100), state) == []
    report, wrong = check.report(T0 + 2.0)
    assert report.level == 'ok' and not wrong
    assert report.rate == pytest.approx(50, rel=0.03) and report.messages == 100
    assert report.largest_gap == pytest.approx(0.02, abs=1e-5)


def test_gap_and_clock():
    check = StreamCheck('joint_states', 'joints', 50.0, NAMES)
    assert play(check, T0 + np.array([0, 0.02, 0.04, 0.1, 0.12, 0.05]), state) == [
        'gap', 'backwards']
    assert play(check, [T0 + 0.07], state, delay=3.0) == ['skew']
    assert play(check, [T0 + 0.09], state, delay=float('nan')) == []  # no clock yet


def test_rate_and_silence_are_judged_per_window():
    check = StreamCheck('joint_states', 'joints', 50.0, NAMES)
    play(check, T0 + 0.04 * np.arange(25), state)
    report, wrong = check.report(T0 + 1.0)
    assert [kind for kind, _ in wrong] == ['rate'] and 'instead of 50 Hz' in report.message
    report, wrong = check.report(T0 + 2.5)
    assert report.level == 'warn' and [kind for kind, _ in wrong] == ['silence']
    assert StreamCheck('command', 'joints', 50.0, NAMES).report(T0)[0].level == 'stale'


def test_joint_names():
    check = StreamCheck('command', 'joints', 50.0, NAMES)
    assert play(check, [T0], lambda i, t: ros.joints(t, NAMES[:2], [0, 0])) == ['names']
    check = StreamCheck('command', 'joints', 50.0, NAMES)
    play(check, [T0], state)
    assert play(check, [T0 + 0.02], lambda i, t: ros.joints(t, NAMES[::-1], [0, 0, 0])) == [
        'order']
    assert play(check, [T0 + 0.04], lambda i, t: ros.joints(t, NAMES[::-1], [0, 0, 0])) == []


def test_frozen_camera_is_said_once_per_second():
    check = StreamCheck('camera', 'image', 30.0, limits=CheckLimits(frozen_frames=10))
    stamps = T0 + np.arange(45) / 30
    assert play(check, stamps[:20], picture(lambda i: i + 20)) == []
    assert play(check, stamps[20:], picture(lambda i: 77)) == ['frozen', 'frozen']
    assert check.report(T0 + 1.5)[0].level == 'warn'


@pytest.mark.parametrize('kind', ['image', 'jpeg'])
def test_black_camera(kind):
    make = ros.image if kind == 'image' else ros.jpeg
    rng = np.random.default_rng(0)
    for brightness, expected in ((8, ['black']), (255, [])):
        check = StreamCheck('camera', kind, 30.0)
        rgb = rng.integers(0, brightness, (48, 64, 3), dtype=np.uint8)
        play(check, T0 + np.arange(5) / 30, lambda i, t, rgb=rgb: make(t, rgb))
        assert [kind for kind, _ in check.report(T0 + 0.2)[1]] == expected


def test_lost_messages_count():
    check = StreamCheck('camera', 'other')
    assert [kind for kind, _ in check.receive(b'', T0, lost=3)] == ['lost']
    assert check.report(T0)[0].lost == 3 and check.report(T0)[0].level == 'ok'


def test_the_end_of_an_episode_is_waited_for():
    """Until every stream has come up to the last row; not for ever, and not for the dead."""
    def stream(rate, last, kind='header'):
        check = StreamCheck('x', kind, rate)
        play(check, [T0, T0 + last], state)
        return check

    def come(*streams, waited=0.0):
        return have_come(streams, T0 + 2.0, 0.02, waited)

    complete, camera = stream(50.0, 1.98), stream(30.0, 1.97)
    assert come(complete, camera, stream(0.0, 1.985), stream(50.0, 0.5), stream(0.0, 0.1, 'other'))
    slow = stream(50.0, 1.9)
    assert not come(complete, slow) and not come(complete, slow, waited=LATE + 0.1)
    assert come(complete, slow, waited=LATEST + 0.1)
    proposal = stream(0.0, 1.9)
    assert not come(complete, proposal) and come(complete, proposal, waited=LATE + 0.1)
    assert come(StreamCheck('command', 'joints', 50.0))
