import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.chunks import HELD, ChunkBuffer, Execution, smooth_step
from il_robot.errors import ActionError
from il_robot.types import ActionChunk

DT = 0.02
T, D = 8, 3
MODES = ['ensemble', 'newest', 'blend', 'rtc']


def buffer(mode='ensemble', n_action_steps=1, decay=0.1, chunk_size=T):
    return ChunkBuffer(chunk_size, D, DT, Execution(mode, n_action_steps, decay))


def chunk(stamp, values, steps=T, dt=DT):
    positions = np.broadcast_to(np.asarray(values, np.float32), (steps, D)).copy()
    return ActionChunk(stamp, stamp + dt * np.arange(steps), positions)


def ramp(stamp, rng):
    return chunk(stamp, rng.normal(size=(T, D)))


@pytest.mark.parametrize('mode', MODES)
def test_empty_and_stale_buffers_give_nothing(mode):
    buf = buffer(mode)
    assert buf.action(0.0) is None and buf.due(0.0) and buf.stamp == -np.inf
    buf.push(chunk(1.0, 0.5))
    assert buf.action(0.99) is None, 'before the chunk begins'
    assert buf.action(1.0 + (T - 0.01) * DT) is not None, 'the last step lasts one period'
    assert buf.action(1.0 + T * DT) is None, 'behind its end'
    buf.clear()
    assert buf.action(1.0) is None and buf.stamp == -np.inf


@pytest.mark.parametrize('mode', MODES)
def test_a_chunk_from_far_ahead_does_not_keep_all_others_out(mode):
    buf = buffer(mode)
    assert buf.push(chunk(1.0, 0.5)) and not buf.push(chunk(0.5, 0.1))
    assert buf.push(chunk(1e6, 9.0)) and buf.push(chunk(1.02, 0.7))
    np.testing.assert_allclose(buf.action(1.02), 0.7)
    assert buf.stamp == 1.02


@pytest.mark.parametrize('mode', MODES)
def test_the_target_of_one_step_stays_until_the_next_but_not_for_ever(mode):
    buf = buffer(mode, chunk_size=1)
    buf.push(chunk(1.0, 3.0, steps=1))
    for now in (1.0, 1.0 + DT, 1.0 + 1.5 * DT, 1.0 + HELD):
        np.testing.assert_array_equal(buf.action(now), np.full(D, 3.0, np.float32))
    assert buf.action(1.0 + HELD + DT) is None and buf.action(1.0 - DT) is None
    assert buf.due(1.0 + DT), 'and is to be answered in every step'
    buf.push(chunk(1.0 + 2 * DT, 5.0, steps=1))
    np.testing.assert_array_equal(buf.action(1.0 + 4 * DT), np.full(D, 5.0, np.float32))


@pytest.mark.parametrize('mode', MODES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), start=st.floats(0, 1e5))
def test_a_single_chunk_is_played_exactly(mode, seed, start):
    one = ramp(start, np.random.default_rng(seed))
    buf = buffer(mode)
    buf.push(one)
    for k in range(T):
        np.testing.assert_array_equal(buf.action(start + k * DT), one.positions[k])


@settings(max_examples=25, deadline=None)
@given(decay=st.floats(-5, 5), value=st.floats(-3, 3), every=st.integers(1, T))
def test_chunks_that_agree_give_what_they_agree_on(decay, value, every):
    buf = buffer('ensemble', every, decay)
    for k in range(40):
        if buf.due(k * DT):
            buf.push(chunk(k * DT, value))
        np.testing.assert_allclose(buf.action(k * DT), value, rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(decay=st.floats(-2, 2), seed=st.integers(0, 1000))
def test_ensemble_is_the_formula_of_act(decay, seed):
    rng = np.random.default_rng(seed)
    chunks = [ramp(k * DT, rng) for k in range(20)]
    buf = buffer('ensemble', 1, decay)
    for now in range(20):
        buf.push(chunks[now])
        live = [c.positions[now - k] for k, c in enumerate(chunks[:now + 1]) if now - k < T]
        w = np.exp(-decay * np.arange(len(live)))
        expected = (w[:, None] * live).sum(0) / w.sum()
        np.testing.assert_allclose(buf.action(now * DT), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('decay', [0.0, 0.1, -0.1, 50.0, -50.0, 1e6])
def test_weights_are_a_convex_combination(decay):
    weights = buffer(decay=decay)._weights
    assert np.isfinite(weights).all() and (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    assert not np.triu(weights, 1).any()


def test_oldest_counts_most_with_positive_decay():
    buf = buffer(decay=1.0)
    buf.push(chunk(0.0, 0.0))
    buf.push(chunk(DT, 1.0))
    assert buf.action(DT)[0] == pytest.approx(np.exp(-1) / (1 + np.exp(-1)))


@pytest.mark.parametrize('mode', MODES)
def test_steps_of_a_late_chunk_that_have_passed_are_skipped(mode):
    rng = np.random.default_rng(0)
    late = ramp(0.0, rng)
    buf = buffer(mode)
    buf.push(late)  # arrives at 3 * DT
    np.testing.assert_array_equal(buf.action(3 * DT), late.positions[3])


def test_newest_mode_listens_to_the_newest_alone():
    rng = np.random.default_rng(0)
    first, second = ramp(0.0, rng), ramp(2 * DT, rng)
    buf = buffer('newest', 2)
    buf.push(first)
    assert not buf.due(DT) and buf.due(2 * DT)
    np.testing.assert_array_equal(buf.action(DT), first.positions[1])
    buf.push(second)
    np.testing.assert_array_equal(buf.action(2 * DT), second.positions[0])


@pytest.mark.parametrize('mode', MODES)
def test_overtaken_replies_are_dropped(mode):
    buf = buffer(mode)
    assert buf.push(chunk(DT, 1.0))
    assert not buf.push(chunk(DT, 2.0)) and not buf.push(chunk(0.0, 2.0))
    assert buf.action(DT)[0] == 1.0


@pytest.mark.parametrize('mode', MODES)
def test_between_two_steps_the_target_moves_evenly(mode):
    one = chunk(0.0, np.arange(T)[:, None])
    buf = buffer(mode)
    buf.push(one)
    for where in (0.25, 3.5, 6.75):
        np.testing.assert_allclose(buf.action(where * DT), where, rtol=1e-5)
    np.testing.assert_allclose(buf.action((T - 0.5) * DT), T - 1)


def test_short_chunks_and_other_periods_are_played_at_their_own_pace():
    buf = buffer()
    buf.push(chunk(0.0, np.arange(4)[:, None], steps=4, dt=2 * DT))
    np.testing.assert_allclose(buf.action(3 * DT), 1.5, rtol=1e-5)
    np.testing.assert_allclose(buf.action(7 * DT), 3)
    assert buf.action(8 * DT) is None


@pytest.mark.parametrize(('bad', 'message'), [
    (chunk(0.0, 0.0, steps=T + 1), 'expected'),
    (ActionChunk(0.0, np.arange(T) * DT, np.zeros((T, D + 1), np.float32)), 'expected'),
    (ActionChunk(0.0, DT * np.arange(T) ** 1.5, np.zeros((T, D), np.float32)), 'evenly'),
    (ActionChunk(0.0, np.zeros(0), np.zeros((0, D), np.float32)), 'expected'),
])
def test_bad_chunks_are_refused_and_change_nothing(bad, message):
    buf = buffer()
    buf.push(chunk(-DT, 0.5))
    with pytest.raises(ActionError, match=message):
        buf.push(bad)
    assert buf.action(0.0)[0] == np.float32(0.5)


@pytest.mark.parametrize(
    'values', [{'n_action_steps': 0}, {'decay': np.inf}, {'blend_steps': -1}])
def test_bad_execution_is_refused(values):
    with pytest.raises(ValueError, match='must be'):
        Execution(**values)


@pytest.mark.parametrize('mode', MODES)
@settings(max_examples=50, deadline=None)
@given(
    stamps=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    delays=st.lists(st.integers(0, 12), min_size=12, max_size=12),
    fine=st.integers(1, 3), every=st.integers(1, T))
def test_whatever_the_order_of_arrival_no_step_is_replayed(mode, stamps, delays, fine, every):
    """Each chunk's targets are the times they are for: what comes out is the time, or nothing."""
    buf = buffer(mode, every)
    arriving = sorted((stamp + late, stamp) for stamp, late in zip(stamps, delays))
    last = -np.inf
    for tick in range(60 * fine):
        now = tick / fine
        while arriving and arriving[0][0] <= now:
            _, stamp = arriving.pop(0)
            buf.push(chunk(stamp * DT, np.arange(stamp, stamp + T)[:, None]))
        action = buf.action(now * DT)
        if action is None:
            continue
        assert action[0] >= last - 1e-3, 'the motion went back'
        last = action[0]
        if mode != 'blend':  # a fade begins where an ended plan stood
            # the last step of a chunk stays for its period
            assert now - 1 - 1e-3 < action[0] <= now + 1e-3


def test_a_fade_begins_at_the_old_plan_and_ends_exactly_on_the_new():
    rng = np.random.default_rng(0)
    old, new = ramp(0.0, rng), ramp(2 * DT, rng)
    buf = ChunkBuffer(T, D, DT, Execution('blend', 2, blend_steps=4))
    buf.push(old)
    for k in range(4):
        np.testing.assert_array_equal(buf.action(k * DT), old.positions[k])
    buf.push(new)  # one step late; asked last at 3
    for k in (4, 5, 6):
        share = smooth_step(np.array((k - 3) / 4))
        expected = (1 - share) * old.positions[k] + share * new.positions[k - 2]
        np.testing.assert_allclose(buf.action(k * DT), expected, rtol=1e-5, atol=1e-6)
    for k in (7, 8, 9):
        np.testing.assert_array_equal(buf.action(k * DT), new.positions[k - 2])


def test_a_chunk_that_comes_during_a_fade_starts_from_what_is_executed():
    buf = ChunkBuffer(T, D, DT, Execution('blend', 1, blend_steps=4))
    buf.push(chunk(0.0, 0.0))
    buf.action(0.0)
    buf.push(chunk(DT, 1.0))
    before = buf.action(2 * DT)
    buf.push(chunk(2 * DT, 5.0))
    np.testing.assert_allclose(buf.action(2 * DT), before, rtol=1e-6)
    assert before[0] == pytest.approx(0.5)


def test_a_fade_of_no_steps_is_the_newest():
    rng = np.random.default_rng(1)
    newest, blend = buffer('newest'), ChunkBuffer(T, D, DT, Execution('blend', 1, blend_steps=0))
    for k in range(10):
        one = ramp(k * DT, rng)
        for buf in (newest, blend):
            buf.push(one)
        np.testing.assert_array_equal(newest.action(k * DT), blend.action(k * DT))


def test_a_fade_has_no_step_in_velocity_or_acceleration():
    x = np.linspace(-0.1, 1.1, 2401)
    share = smooth_step(x)
    assert share[0] == 0 and share[-1] == 1 and (np.diff(share) >= 0).all()
    acceleration = np.gradient(np.gradient(share, x), x)
    assert np.abs(np.diff(acceleration)).max() < 0.05


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(['noise', 'steps', 'line']))
def test_between_two_targets_velocity_does_not_jump_and_nothing_is_overshot(seed, kind):
    """A robot at 200 Hz that follows a plan of 50 Hz."""
    rng = np.random.default_rng(seed)
    targets = {
        'noise': rng.normal(size=(T, D)), 'steps': rng.integers(0, 2, (T, D)) * 0.08,
        'line': np.arange(T)[:, None] * rng.normal(size=D)}[kind].astype(np.float32)
    buf = buffer('newest', n_action_steps=T)
    buf.push(ActionChunk(0.0, DT * np.arange(T), targets))
    fine = 100
    now = DT * np.arange((T - 1) * fine) / fine
    path = np.array([buf.action(t) for t in now], np.float64)
    np.testing.assert_array_equal(path[::fine], targets[:-1])
    low, high = (f(targets[:-1], targets[1:]).repeat(fine, 0) for f in (np.minimum, np.maximum))
    assert (path >= low - 1e-6).all() and (path <= high + 1e-6).all()
    # In a piece of a cubic the slope changes by at most 6 steps per step; a corner by one at once.
    bend = np.abs(np.diff(path, 2, axis=0)).max()
    assert bend <= 8 * np.abs(np.diff(targets, axis=0)).max() / fine**2 + 1e-6
    if kind == 'line':
        np.testing.assert_allclose(np.diff(path, axis=0), np.diff(path, axis=0).mean(0)[None]
                                   .repeat(len(path) - 1, 0), atol=2e-6)


@pytest.mark.parametrize('mode', ['ensemble', 'newest'])
def test_the_quick_vote_is_that_of_all_other_instants(mode):
    quick, slow = (ChunkBuffer(T, D, DT, Execution(mode, 2, decay=0.3)) for _ in range(2))
    slow._plain = False
    random, found = np.random.default_rng(0), 0
    for k in range(60):
        if k % 2 == 0 and k % 14:
            stamp = k * DT
            chunk = ActionChunk(stamp, stamp + np.arange(T) * DT,
                                random.normal(size=(T, D)).astype(np.float32))
            assert quick.push(chunk) == slow.push(chunk)
        for now in (k * DT, k * DT + 1e-9, (k + 0.37) * DT, (k - 30) * DT):
            actions = quick.action(now), slow.action(now)
            if actions[1] is None:
                assert actions[0] is None
            else:
                found += 1
                np.testing.assert_allclose(*actions, rtol=1e-5, atol=1e-6)
    assert found > 60
