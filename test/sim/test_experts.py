import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.protocols import Expert
from il_robot.resources import named_config
from il_robot.sim import make, task_names
from il_robot.sim.experts import Style, make_expert
from il_robot.sim.tasks import make_task
from il_robot.spec import load_robot_spec
from il_robot.types import Observation

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))
TASKS = pytest.mark.parametrize('task', task_names())
EXPERTS = {name: make_expert(make_task(name), SPEC) for name in task_names()}
# One control tick; faster than the arms could, and the label is no path but a jump.
LARGEST_STEP = 0.35
THICKNESS = {
    'transfer_cube': {'cube': 0.04}, 'insert_peg': {'peg': 0.02, 'tube': 0.036},
    'lift_tray': {'tray': 0.02},
}


def drive(env, seed, on_step=lambda env, label: None):
    """Whether the expert succeeds; ``on_step`` sees each observation's label."""
    env.reset(seed=seed)
    while True:
        label = env.expert()
        on_step(env, label)
        *_, terminated, truncated, info = env.step(label.position)
        if terminated or truncated:
            return info['success']


def rebuilt(observation):
    """The same observation as a dataset gives it back: arrays of its own, no images."""
    return Observation(0.0, np.array(observation.state.tolist(), np.float32), {
        name: np.array(pose.tolist(), np.float32) for name, pose in observation.objects.items()})


@TASKS
def test_it_succeeds_with_small_steps_inside_the_limits_and_without_sinking_in(task):
    env, sunk = make(task), []

    def check(env, label):
        action, state = label.position, env.observation().state
        assert action.dtype == np.float32 and action.shape == (SPEC.dim,)
        assert (action >= SPEC.lower).all() and (action <= SPEC.upper).all()
        for arm in SPEC.arms:
            rows = SPEC.arm_slice(arm.name)
            assert np.abs(action[rows] - state[rows])[:-1].max() < LARGEST_STEP
            for part, thickness in THICKNESS[task].items():
                if arm.name in env.world.touching(part):
                    sunk.append(thickness - state[rows][-1])

    for seed in range(3):
        assert drive(env, seed, check), seed
    assert max(sunk) < 1e-3, 'the fingers stay outside the parts they hold'
    env.close()


@TASKS
@pytest.mark.parametrize('disturbances', [
    {'shoves': 2}, {'drops': 1}, {'start_posture': 0.3}, {'observation_noise': 0.001},
    {'action_noise': 0.003},
], ids=lambda d: next(iter(d)))
def test_it_recovers(task, disturbances):
    env = make(task, disturbances=disturbances)
    assert all(drive(env, seed) for seed in range(2))
    env.close()


@TASKS
def test_it_starts_from_the_widest_resets(task):
    env = make(task, width='wide')
    assert all(drive(env, seed) for seed in range(2))
    env.close()


@pytest.mark.parametrize('clearance', [0.002, 0.006])
def test_it_inserts_with_every_clearance(clearance):
    env = make('insert_peg', task_options={'clearance': clearance})
    assert all(drive(env, seed) for seed in range(2))
    env.close()


# -- stateless ------------------------------------------------------------------------------
@TASKS
def test_a_stored_observation_has_the_live_label_bit_for_bit_in_any_order(task):
    env, rows = make(task, disturbances={'shoves': 1}), []
    drive(env, 4, lambda env, label: rows.append((env.observation(), label.position)))
    env.close()
    another = make_expert(make_task(task), SPEC)
    for i in np.random.default_rng(0).permutation(len(rows)):
        observation, label = rows[i]
        np.testing.assert_array_equal(another(rebuilt(observation)).position, label)


def quaternions(draw):
    q = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 4)))
    norm = np.linalg.norm(q)
    return q / norm if norm > 1e-3 else np.array([0, 0, 0, 1.0])


@st.composite
def observations(draw, task):
    """Any joint state, also a little beyond the limits, and any pose of any part."""
    share = np.array(draw(st.tuples(*[st.floats(-0.01, 1.01)] * SPEC.dim)))
    objects = {}
    for name in make_task(task).objects:
        position = draw(st.tuples(
            st.floats(-0.7, 0.7), st.floats(-0.5, 0.5), st.floats(-0.1, 0.6)))
        objects[name] = np.array([*position, *quaternions(draw)], np.float32)
    state = SPEC.lower + share * (SPEC.upper - SPEC.lower)
    return Observation(0.0, state.astype(np.float32), objects)


@TASKS
@settings(max_examples=150)
@given(data=st.data())
def test_any_state_has_a_valid_label(task, data):
    observation = data.draw(observations(task))
    assert isinstance(EXPERTS[task], Expert)
    action = EXPERTS[task](observation).position
    assert np.isfinite(action).all()
    np.testing.assert_array_equal(SPEC.check_action(action), action)
    np.testing.assert_array_equal(EXPERTS[task](rebuilt(observation)).position, action)


@TASKS
def test_states_near_the_work_have_valid_labels_too(task):
    """Random observations rarely hold a part: start from an episode and disturb it."""
    env, rows = make(task), []
    drive(env, 1, lambda env, label: rows.append(env.observation()))
    env.close()
    rng = np.random.default_rng(0)
    for observation in rows[::3]:
        for scale in (1e-3, 1e-2, 0.1):
            objects = {}
            for name, pose in observation.objects.items():
                moved = pose + scale * rng.normal(size=7)
                objects[name] = (moved / np.r_[1, 1, 1, [np.linalg.norm(moved[3:])] * 4]).astype(
                    np.float32)
            state = (observation.state + scale * rng.normal(size=SPEC.dim)).astype(np.float32)
            SPEC.check_action(EXPERTS[task](Observation(0.0, state, objects)).position)


# -- style ----------------------------------------------------------------------------------
def test_styles_vary_within_their_bounds():
    rng = np.random.default_rng(0)
    styles = [Style.sample(rng) for _ in range(200)]
    speed, lift = (np.array([getattr(s, k) for s in styles]) for k in ('speed', 'lift'))
    meet = np.array([s.meet for s in styles])
    assert 0.8 <= speed.min() < 0.83 and 0.97 < speed.max() <= 1.0
    assert np.abs(lift).max() <= 0.02 < 1.2 * np.abs(lift).max()
    assert (np.abs(meet).max(axis=0) <= [0.03, 0.03, 0.02]).all() and meet.std(0).min() > 0.008
    assert Style.sample(np.random.default_rng(1), 0.0) == Style()


@TASKS
def test_styles_move_differently_and_succeed(task):
    env, ends = make(task, expert_variation=1.0), []
    for seed in range(3):
        labels = []
        assert drive(env, seed, lambda env, label, into=labels: into.append(label.position))
        ends.append(len(labels))
    again = []
    assert drive(env, 2, lambda env, label: again.append(label.position))
    np.testing.assert_array_equal(again, labels)
    assert len(set(ends)) > 1
    env.close()


def test_a_task_without_an_expert_is_refused():
    with pytest.raises(TypeError, match='no scripted expert for object'):
        make_expert(object(), SPEC)


@pytest.mark.parametrize(('out', 'keeps'), [(0.0, True), (0.028, True), (0.05, False)])
def test_a_cube_in_the_air_is_not_let_go_because_it_is_held_a_little_far_out(out, keeps):
    env = make('transfer_cube')
    env.reset(seed=0)
    while env.observation().objects['cube'][2] < 0.15:
        env.step(env.expert().position)
    seen = env.observation()
    right = env.unwrapped._expert._hands.read(seen)['right'].eef
    cube = seen.objects['cube'].copy()
    local = right.inverse_apply(cube[:3].astype(np.float64))
    cube[:3] += right.rotation[:, 0] * (out - local[0])
    shifted = Observation(seen.stamp, seen.state, {**seen.objects, 'cube': cube})
    gripper = env.robot.arm_slice('right').stop - 1
    assert bool(env.unwrapped._expert(shifted).position[gripper] < 0.01) is keeps
    env.close()
