import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image

from il_robot.control.chunks import Execution
from il_robot.nodes import convert
from il_robot.nodes.convert import MessageError
from il_robot.nodes.node import Complaints
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec
from il_robot.types import ActionChunk, ControlMode, Source

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
stamps = st.floats(0.0, 2e9, allow_nan=False)
vectors = st.lists(st.floats(-3, 3, width=32), min_size=SPEC.dim, max_size=SPEC.dim).map(
    lambda v: np.array(v, np.float32))


@given(stamps)
def test_a_time_that_was_read_is_written_and_read_again_without_change(stamp):
    read = convert.seconds(convert.time(stamp))
    assert abs(read - stamp) <= 1e-6
    assert convert.seconds(convert.time(read)) == read
    assert 0 <= convert.time(stamp).nanosec < 10**9


@given(stamps, vectors, st.randoms())
def test_joint_states_come_back_bit_for_bit_in_any_order(stamp, position, random):
    message = convert.joint_state(stamp, SPEC, position)
    order = list(range(SPEC.dim))
    random.shuffle(order)
    names = [message.name[i] for i in order]
    values = [message.position[i] for i in order]
    assert np.array_equal(convert.positions_by_name(names, values, SPEC, 'x'), position)


@given(vectors, st.sampled_from([arm.name for arm in SPEC.arms]))
def test_an_absent_arm_stays_absent(position, arm):
    partial = np.full(SPEC.dim, np.nan, np.float32)
    partial[SPEC.arm_slice(arm)] = position[SPEC.arm_slice(arm)]
    message = convert.joint_state(1.0, SPEC, partial)
    back = convert.positions_by_name(message.name, message.position, SPEC, 'x', whole_arms=True)
    assert np.array_equal(back, partial, equal_nan=True)
    with pytest.raises(MessageError, match='missing'):
        convert.positions_by_name(message.name, message.position, SPEC, 'x')


def spoilt(change):
    names, values = list(SPEC.joint_names), SPEC.rest.tolist()
    change(names, values)
    return names, values


@pytest.mark.parametrize(('change', 'words'), [
    (lambda n, v: v.pop(), '14 names but 13 positions'),
    (lambda n, v: (n.pop(), v.pop()), 'missing: right_gripper'),
    (lambda n, v: n.__setitem__(0, 'left_waste'), "did you mean 'left_waist'"),
    (lambda n, v: n.__setitem__(0, n[1]), 'twice'),
    (lambda n, v: v.__setitem__(0, float('nan')), 'left_waist is nan'),
    (lambda n, v: v.__setitem__(0, 1e300), 'left_waist'),
    (lambda n, v: (n.clear(), v.clear()), 'missing'),
])
@pytest.mark.parametrize('whole_arms', [True, False])
@pytest.mark.filterwarnings('ignore:overflow')
def test_bad_joints_are_refused_in_words(change, words, whole_arms):
    names, values = spoilt(change)
    if whole_arms and not names:
        words = 'no joint at all'
    with pytest.raises(MessageError, match=words):
        convert.positions_by_name(names, values, SPEC, 'x', whole_arms=whole_arms)


@given(st.floats(0, 1e6), st.integers(1, 20))
def test_chunks_come_back(stamp, steps):
    stamp = convert.seconds(convert.time(stamp))
    positions = np.linspace(SPEC.lower, SPEC.upper, steps, dtype=np.float32)
    chunk = ActionChunk(stamp, stamp + SPEC.dt * np.arange(steps), positions)
    back = convert.chunk(convert.chunk_message(chunk, SPEC), SPEC, 'x')
    assert back.stamp == stamp and np.array_equal(back.positions, positions)
    np.testing.assert_allclose(back.times, chunk.times, atol=2e-9)


@pytest.mark.parametrize(('change', 'words'), [
    (lambda m: m.points.clear(), 'without points'),
    (lambda m: m.joint_names.pop(), 'exactly once'),
    (lambda m: m.joint_names.__setitem__(0, 'nose'), 'unknown joint'),
    (lambda m: m.joint_names.__setitem__(0, m.joint_names[1]), 'exactly once'),
    (lambda m: m.points[1].positions.pop(), 'every point needs 14'),
    (lambda m: m.points[1].positions.__setitem__(0, float('inf')), 'NaN or infinity'),
    (lambda m: setattr(m.points[2], 'time_from_start', m.points[0].time_from_start), 'increase'),
])
def test_bad_chunks_are_refused_in_words(change, words):
    chunk = ActionChunk(1.0, 1.0 + SPEC.dt * np.arange(3), np.tile(SPEC.rest, (3, 1)))
    message = convert.chunk_message(chunk, SPEC)
    change(message)
    with pytest.raises(MessageError, match=words):
        convert.chunk(message, SPEC, 'x')


def test_poses_come_back_and_others_are_refused():
    pose = np.array([0.1, -0.2, 0.3, 0.0, 0.6, 0.0, 0.8], np.float32)
    message = convert.pose_message(1.5, pose)
    assert message.header.frame_id == 'base'
    assert np.array_equal(convert.pose(message, 'x'), pose)
    message.pose.orientation.w = 0.0
    with pytest.raises(MessageError, match='not a pose'):
        convert.pose(message, 'x')
    message.pose.orientation.w, message.pose.position.x = 0.8, float('nan')
    with pytest.raises(MessageError, match='not a pose'):
        convert.pose(message, 'x')


def test_images_come_back_whatever_their_order_and_padding():
    rgb = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    message = convert.image_message(1.0, 'x_optical_frame', rgb)
    assert np.array_equal(convert.image(message, 'x'), rgb)
    message.encoding = 'bgr8'
    assert np.array_equal(convert.image(message, 'x'), rgb[..., ::-1])
    padded = np.pad(rgb.reshape(4, 18), ((0, 0), (0, 2)))
    message = Image(height=4, width=6, step=20, encoding='rgb8', data=padded.tobytes())
    assert np.array_equal(convert.image(message, 'x'), rgb)


@pytest.mark.parametrize('changes', [
    {'encoding': 'mono8'}, {'step': 10}, {'height': 5}, {'width': 7}, {'width': 0},
    {'height': 0, 'data': b''}, {'width': 0, 'step': 0, 'data': b''}])
def test_images_that_contradict_themselves_are_refused(changes):
    message = convert.image_message(1.0, 'x', np.zeros((4, 6, 3), np.uint8))
    for key, value in changes.items():
        setattr(message, key, value)
    with pytest.raises(MessageError, match='x:'):
        convert.image(message, 'x')


def test_a_callback_that_stumbles_over_a_message_ignores_it_and_says_where():
    """Whatever a message holds that nobody thought of, the node goes on."""
    logged = []

    class Node:
        def get_logger(self):
            return self

        def warning(self, text):
            logged.append(text)

    complain, taken = Complaints(Node()), []

    def callback(message):
        taken.append(1 / message)

    guarded = complain.guard('x', callback)
    for message in (0, 'a', 2):
        guarded(message)
    assert taken == [0.5] and complain.counts == {'x': 2}
    assert 'ZeroDivisionError' in logged[0] and 'callback' in logged[0]
    with pytest.raises(RuntimeError):  # what ROS raises when it ends is nobody's message
        complain.guard('x', lambda _: (_ for _ in ()).throw(RuntimeError('context')))(1)


def test_camera_info_projects_the_edge_of_the_view_to_the_edge_of_the_image():
    camera = SPEC.camera('front')
    info = convert.camera_info(1.0, 'front_optical_frame', camera, 320, 240)
    up = np.tan(np.radians(camera.fovy / 2))
    u, v, w = np.array(info.k).reshape(3, 3) @ [0.0, up, 1.0]
    assert (u / w, v / w) == pytest.approx((160.0, 240.0))
    assert (info.width, info.height) == (320, 240)
    assert np.array(info.p).reshape(3, 4)[:, :3].ravel().tolist() == list(info.k)


def test_status_values_come_back_as_text():
    message = convert.status_message(
        2.0, 'x', {'yes': True, 'no': False, 'n': 3, 'f': 0.5}, 'all well', 'warn')
    assert convert.status_values(message) == {'yes': 'true', 'no': 'false', 'n': '3', 'f': '0.5'}
    assert message.status[0].message == 'all well' and message.header.stamp.sec == 2
    assert convert.status_values(DiagnosticArray()) == {}


POLICY = {'checkpoint': 'abc', 'chunk_size': 20, 'execution_mode': 'newest',
          'n_action_steps': 8, 'decay': 0.1, 'latency_p50_ms': 3.0}


def test_the_chunk_buffer_is_the_policys_and_new_latencies_make_no_new_one():
    identity, buffer = convert.chunk_buffer(convert.status_message(0, 'p', POLICY), SPEC)
    assert buffer.execution == Execution('newest', 8, 0.1) and buffer.due(0.0)
    later = convert.status_message(1, 'p', {**POLICY, 'latency_p50_ms': 4.0})
    assert convert.chunk_buffer(later, SPEC)[0] == identity
    for key, value in (('checkpoint', 'abd'), ('n_action_steps', 4), ('chunk_size', 10)):
        other = convert.status_message(0, 'p', {**POLICY, key: value})
        assert convert.chunk_buffer(other, SPEC)[0] != identity


@pytest.mark.parametrize('wrong', [
    {'execution_mode': 'newst'}, {'n_action_steps': 'x'}, {'n_action_steps': 0}, {}])
def test_a_policy_status_that_says_too_little_is_refused(wrong):
    values = {**POLICY, **wrong} if wrong else {'checkpoint': 'abc'}
    with pytest.raises(MessageError, match='policy/status must have'):
        convert.chunk_buffer(convert.status_message(0, 'p', values), SPEC)


def test_who_drives():
    values = {'mode': 'CORRECTION', 'driver_left': 'expert', 'driver_right': 'policy'}
    mode, drivers = convert.driving(convert.status_message(0, 'm', values), SPEC)
    assert mode is ControlMode.CORRECTION and drivers == (Source.EXPERT, Source.POLICY)
    for key in values:
        with pytest.raises(MessageError, match='session/mode'):
            convert.driving(convert.status_message(0, 'm', {**values, key: 'nonsense'}), SPEC)
