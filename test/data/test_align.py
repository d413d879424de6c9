"""Alignment: laws of the grid and of as-of, rules of every column, bag to dataset and back."""

import json
from dataclasses import replace

import numpy as np
import pytest
import ros_messages as ros
from bag_maker import DT, T0, known, write_bag
from hypothesis import given, settings
from hypothesis import strategies as st

from il_robot.control.replay import policy_actions
from il_robot.data.align import Pictures, Streams, Track, align, as_of, grid, track
from il_robot.data.bag_convert import UNSETTLED, BagConverter, ConvertOptions, topic_names
from il_robot.data.bag_reader import BagReader
from il_robot.data.bags import BagWriter
from il_robot.data.dataset import open_dataset
from il_robot.data.verify import verify
from il_robot.errors import DatasetError
from il_robot.types import Outcome, Source

stamps_strategy = st.lists(
    st.floats(0, 5), min_size=1, max_size=200, unique=True).map(lambda v: np.array(sorted(v)))


# -- laws ------------------------------------------------------------------------------------
@settings(deadline=None)
@given(stamps=stamps_strategy, start=st.floats(0, 5), length=st.floats(0, 5))
def test_grid_rows_are_measured_states_one_per_period(stamps, start, length):
    rows = grid(stamps, start, start + length, DT)
    inside = (stamps >= start) & (stamps < start + length)
    assert set(rows) <= set(np.flatnonzero(inside)) and bool(len(rows)) == inside.any()
    assert (np.diff(rows) > 0).all()
    if len(rows):
        ticks = (stamps - stamps[rows[0]]) / DT
        of_rows = np.rint(ticks[rows])
        assert (np.diff(of_rows) > 0).all()
        for i in np.flatnonzero(inside):  # what was left out has a nearer one in its period
            best = rows[of_rows == np.rint(ticks[i])]
            assert len(best) == 1
            assert abs(ticks[best[0]] - np.rint(ticks[i])) <= abs(ticks[i] - np.rint(ticks[i]))


@given(stamps=stamps_strategy, at=st.floats(-1, 6))
def test_as_of_is_the_newest_not_later(stamps, at):
    (index,) = as_of(stamps, np.array([at]))
    assert index == max([i for i, s in enumerate(stamps) if s <= at], default=-1)


@given(st.permutations(range(8)))
def test_a_track_does_not_depend_on_the_order_of_arrival(order):
    made = track([float(i) for i in order], [[i] for i in order])
    assert made.stamps.tolist() == list(range(8)) == made.values[:, 0].tolist()


def test_of_equal_stamps_the_last_counts():
    made = track([1.0, 2.0, 1.0], [[1], [2], [3]])
    assert made.stamps.tolist() == [1, 2] and made.values[:, 0].tolist() == [3, 2]
    assert len(track([], np.zeros((0, 3)))) == 0


@pytest.mark.parametrize(('rate', 'jitter', 'rows'), [
    (50, 0.0, 100), (50, 0.004, 100), (100, 0.0, 100), (200, 0.001, 100), (49.5, 0.0, 99),
    (25, 0.0, 50),
])
def test_grid_of_real_rates(rate, jitter, rows):
    """Faster states are thinned, slower ones are not multiplied, jitter loses none."""
    rng = np.random.default_rng(0)
    stamps = T0 + np.arange(2 * rate) / rate
    stamps = np.sort(stamps + rng.uniform(-jitter, jitter, len(stamps)))
    # one more where the last, odd state is nearest to the next period
    assert rows <= len(grid(stamps, -np.inf, np.inf, DT)) <= rows + 1


# -- columns ---------------------------------------------------------------------------------
@pytest.fixture(scope='module')
def streams(spec):
    """40 ticks in lockstep: every stream answers with the state's own stamp."""
    t = T0 + DT * np.arange(40)
    rng = np.random.default_rng(1)
    values = rng.uniform(-0.1, 0.1, (3, 40, spec.dim)).astype(np.float32)
    image_stamps = t[::2]
    return Streams(
        states=Track(t, values[0]), commands=Track(t, values[1]),
        modes=track([t[0] - 1, t[10], t[20]], [[0, 0, 0], [2, 2, 0], [3, 2, 1]]),
        expert=Track(t[::2], values[2][::2]),
        objects={'cube': Track(t, rng.uniform(size=(40, 7)).astype(np.float32))},
        pictures={'front': Pictures(image_stamps, lambda n: np.full((4, 6, 3), n, np.uint8))},
        success=track([t[0], t[35]], [[0], [1]]),
    )


def test_a_discarded_correction_is_marked_and_stays(spec, streams):
    """Corrections 1 and 2: the second one was taken back."""
    t = streams.states.stamps
    modes = track([t[0] - 1, t[10], t[15], t[20], t[25]],
                  [[2, 2, 0], [3, 2, 1], [2, 2, 0], [3, 2, 2], [2, 2, 0]])
    aligned = align(replace(streams, modes=modes, discarded=frozenset({2, 7})), spec, t[0], t[39])
    assert aligned.discarded == ((20, 25),)
    steps = list(aligned.steps())
    assert [s.intervention for s in steps].count(True) == 10
    assert all((steps[i].expert is None) == bool(i % 2) for i in range(39))
    assert align(replace(streams, modes=modes), spec, t[0], t[39]).discarded == ()


def test_every_column_follows_its_rule(spec, streams):
    t = streams.states.stamps
    aligned = align(streams, spec, t[0], t[39])
    steps = list(aligned.steps())
    assert len(steps) == len(aligned) == 39  # the state at the end gets no row
    assert aligned.report.lines() == [] and aligned.report.missing == 0
    for i, step in enumerate(steps):
        assert step.observation.stamp == t[i]
        np.testing.assert_array_equal(step.observation.state, streams.states.values[i])
        np.testing.assert_array_equal(step.action, streams.commands.values[i])
        np.testing.assert_array_equal(
            step.observation.objects['cube'], streams.objects['cube'].values[i])
        assert (step.observation.images['front'] == i // 2).all()
        assert step.source == ((0, 0), (2, 2), (3, 2))[(i >= 10) + (i >= 20)]
        assert step.intervention == (i >= 20)
        assert step.policy is None
        if i % 2:
            assert step.expert is None
        else:
            np.testing.assert_array_equal(step.expert, streams.expert.values[i // 2])
        assert step.success == (i >= 34)  # the state reached is the next row's
        assert step.reward == (i == 34)


def test_shifting_all_stamps_changes_nothing(spec, streams):
    def shifted(s):
        return replace(s, stamps=s.stamps - T0 + 5.0)
    moved = Streams(
        states=shifted(streams.states), commands=shifted(streams.commands),
        modes=shifted(streams.modes), expert=shifted(streams.expert),
        objects={n: shifted(o) for n, o in streams.objects.items()},
        pictures={n: shifted(p) for n, p in streams.pictures.items()},
        success=shifted(streams.success))
    rows = zip(align(streams, spec, T0, T0 + 9).steps(), align(moved, spec, 5, 14).steps())
    for a, b in rows:
        np.testing.assert_array_equal(a.action, b.action)
        np.testing.assert_array_equal(a.observation.images['front'], b.observation.images['front'])
        assert (a.source, a.intervention, a.success, a.reward) == (
            b.source, b.intervention, b.success, b.reward)


def test_policy_and_outcome_come_from_the_caller(spec, streams):
    no_sim = replace(streams, success=None)
    aligned = align(no_sim, spec, -np.inf, np.inf, solved=True,
                    policy_actions=lambda t: np.outer(t - T0, np.ones(spec.dim)).astype('f4'))
    steps = list(aligned.steps())
    assert [s.success for s in steps] == [False] * 39 + [True]
    assert steps[-1].reward == 1 and steps[0].reward == 0
    np.testing.assert_allclose([s.policy[0] for s in steps], DT * np.arange(40), atol=1e-6)


def test_a_command_that_did_not_come_holds_and_is_reported(spec, streams):
    keep = np.ones(40, bool)
    keep[5:8] = False
    commands = Track(streams.commands.stamps[keep], streams.commands.values[keep])
    aligned = align(replace(streams, commands=commands), spec, T0, T0 + 9)
    steps = list(aligned.steps())
    for i in range(5, 8):
        np.testing.assert_array_equal(steps[i].action, streams.commands.values[4])
    assert aligned.report.held == 3
    assert aligned.report.lines() == ['no command came for 3 rows; there the last one holds']


def test_a_late_command_belongs_to_its_row(spec, streams):
    """In real time the answer carries the stamp of a state that came a little later."""
    late = replace(streams.commands, stamps=streams.commands.stamps + 0.009)
    for i, step in enumerate(align(replace(streams, commands=late), spec, T0, T0 + 9).steps()):
        np.testing.assert_array_equal(step.action, streams.commands.values[i])


def test_rows_before_every_stream_had_begun_are_left_out(spec, streams):
    commands = Track(streams.commands.stamps[4:], streams.commands.values[4:])
    cube = Track(streams.states.stamps[6:], streams.objects['cube'].values[6:])
    aligned = align(
        replace(streams, commands=commands, objects={'cube': cube}), spec, T0, T0 + 9)
    assert aligned.report.late_start == 6 and len(aligned) == 34
    assert aligned.report.left_out == {} and aligned.report.missing == 0


def test_gaps_are_left_out_and_reported(spec, streams):
    keep = np.r_[0:10, 20:40]
    states = Track(streams.states.stamps[keep], streams.states.values[keep])
    report = align(replace(streams, states=states), spec, T0, T0 + 9).report
    assert (report.rows, report.expected) == (30, 40)
    assert report.missing == 0.25 and report.largest_gap == pytest.approx(11 * DT, abs=1e-5)
    assert '10 of 40 control periods have no row (25.0%)' in report.lines()[0]


def test_old_pictures_do_not_count(spec, streams):
    pictures = replace(streams.pictures['front'], stamps=streams.pictures['front'].stamps[:5])
    aligned = align(replace(streams, pictures={'front': pictures}), spec, T0, T0 + 9, max_age=0.1)
    assert len(aligned) == 14  # the last picture is of tick 8, and good for five more
    assert aligned.report.left_out == {'camera front is silent or older than 0.1 s': 26}
    assert aligned.report.oldest_picture['front'] == pytest.approx(0.1, abs=1e-5)


def test_an_episode_without_rows_is_an_error(spec, streams):
    with pytest.raises(DatasetError, match='the episode is empty'):
        align(streams, spec, T0 + 50, T0 + 60)
    silent = replace(streams, commands=track([T0 + 100], np.zeros((1, spec.dim))))
    with pytest.raises(DatasetError, match='none of 40 rows has everything: no command'):
        align(silent, spec, T0, T0 + 9)


# -- a bag becomes an episode ----------------------------------------------------------------
def convert(dataset, *bags, **options):
    with BagConverter(dataset, policy_actions, ConvertOptions(**options)) as converter:
        return [converter.add(bag) for bag in bags]


@pytest.fixture
def steps(synthetic, spec, views):
    return list(synthetic.steps(spec, 30, views=views))


def test_a_bag_gives_the_steps_it_was_made_of(tmp_path, spec, views, steps):
    metadata = known(spec, cameras=json.dumps([v.name for v in views]))
    write_bag(tmp_path / 'bag', spec, steps, views, metadata)
    (done,) = convert(tmp_path / 'dataset', tmp_path / 'bag')
    assert (done.episode, done.rows, done.outcome) == (0, 30, Outcome.SUCCESS)
    assert done.notes == ()
    data = open_dataset(tmp_path / 'dataset')
    np.testing.assert_array_equal(data.state, [s.observation.state for s in steps])
    np.testing.assert_array_equal(data.action, [s.action for s in steps])
    np.testing.assert_array_equal(data.policy, [s.policy for s in steps])
    np.testing.assert_array_equal(
        data.expert, [np.full(spec.dim, np.nan) if s.expert is None else s.expert for s in steps])
    np.testing.assert_array_equal(data.source, [s.source for s in steps])
    np.testing.assert_array_equal(data.intervention, [s.intervention for s in steps])
    record = data.episodes[0]
    assert (record.task, record.language, record.seed, record.round, record.checkpoint) == (
        'transfer_cube', 'do it', 7, 2, 'c0ffee')
    assert data.cameras == tuple(v.name for v in views)
    report = verify(tmp_path / 'dataset')
    assert report.ok, report.failed()
    for camera in data.cameras:
        for frame, step in zip(data.frames(0, camera), steps):
            difference = frame.astype(int) - step.observation.images[camera]
            assert np.abs(difference).mean() < 8  # the video is lossy, the picture the right one


def test_what_metadata_lacks_the_user_says(tmp_path, spec, views, steps):
    """A bag of somebody else's recorder, in a namespace, with JPEG pictures, no arbiter."""
    write_bag(tmp_path / 'bag', spec, steps, views, jpeg=True, ns='/lab',
              spoil=lambda i, name, data: None if name == 'session/mode' else data)
    with pytest.raises(DatasetError, match='give --robot NAME'):
        convert(tmp_path / 'dataset', tmp_path / 'bag')
    with pytest.raises(DatasetError, match='no message of session/mode; .*say who drove'):
        convert(tmp_path / 'dataset', tmp_path / 'bag', spec=spec)
    (done,) = convert(
        tmp_path / 'dataset', tmp_path / 'bag', spec=spec, driver=Source.TELEOP,
        task='wipe_table')
    assert done.rows == 30 and done.notes == ()
    data = open_dataset(tmp_path / 'dataset')
    assert (data.source == Source.TELEOP).all()
    assert data.episodes[0].language == 'wipe table'
    assert data.episodes[0].outcome is Outcome.SUCCESS  # the simulator said so
    assert data.cameras == tuple(v.name for v in views)


def test_missing_topics_are_named(tmp_path, spec, steps):
    metadata = known(spec, cameras='["front"]')
    write_bag(tmp_path / 'bag', spec, steps, (), metadata,
              spoil=lambda i, name, data: None if name in ('command', 'session/mode') else data)
    with pytest.raises(DatasetError) as error:
        convert(tmp_path / 'dataset', tmp_path / 'bag')
    assert 'no message of command, session/mode, camera/front/image_raw; it has' in str(
        error.value)
    assert not (tmp_path / 'dataset').exists()


def test_messages_that_do_not_fit_are_left_out_and_counted(tmp_path, spec, steps):
    def spoil(i, name, data):
        if name == 'joint_states' and i == 4:
            return ros.joints(T0 + i * DT, spec.joint_names[1:], np.zeros(spec.dim - 1))
        if name == 'expert/proposal' and i == 7:
            return ros.joints(T0 + i * DT, spec.joint_names, np.full(spec.dim, np.nan))
        return data

    write_bag(tmp_path / 'bag', spec, steps, (), known(spec, cameras='[]'), spoil=spoil)
    (done,) = convert(tmp_path / 'dataset', tmp_path / 'bag')
    assert done.rows == 29
    said = '\n'.join(done.notes)
    assert f'1 message(s) left out: joint_states: joints unknown: none, missing: ' \
        f'{spec.joint_names[0]}' in said
    assert '1 message(s) left out: expert/proposal: a position is NaN' in said
    assert '1 of 30 control periods have no row' in said


def test_broken_statuses_do_not_keep_an_episode_out(tmp_path, spec, steps):
    """Whoever sent them, the nodes ignored them, too."""
    def spoil(i, name, data):
        if name == 'policy/status':
            return ros.status(T0, checkpoint='c0ffee', chunk_size='many')
        if name == 'sim/episode' and i > 0:
            return ros.status(T0 + 1, seed='x', success='true')
        return data

    write_bag(tmp_path / 'bag', spec, steps, (), known(spec, cameras='[]'), spoil=spoil)
    (done,) = convert(tmp_path / 'dataset', tmp_path / 'bag')
    (record,) = open_dataset(tmp_path / 'dataset').episodes
    assert done.rows == 30 and record.seed == 7 and record.outcome is Outcome.SUCCESS


def test_too_many_gaps_are_refused_and_the_bag_kept(tmp_path, spec, steps):
    write_bag(tmp_path / 'bag', spec, steps, (), known(spec, cameras='[]'),
              spoil=lambda i, name, data:
              None if name == 'joint_states' and 5 <= i < 10 else data)
    with pytest.raises(DatasetError, match='17% of the control periods.*--allow-gaps'):
        convert(tmp_path / 'dataset', tmp_path / 'bag')
    (done,) = convert(tmp_path / 'dataset', tmp_path / 'bag', allow_gaps=True)
    assert done.rows == 25


def test_a_bag_is_converted_once(tmp_path, spec, steps):
    for name in ('a', 'b'):
        write_bag(tmp_path / name, spec, steps, (), known(spec, cameras='[]'))
    convert(tmp_path / 'dataset', tmp_path / 'a')
    again, new = convert(tmp_path / 'dataset', tmp_path / 'a', tmp_path / 'b')
    assert again.rows == 0 and 'episode 0 of' in again.notes[0] and new.episode == 1
    # a recorder killed between its note and the commit has converted nothing
    ledger = tmp_path / 'dataset' / 'meta' / 'bags.jsonl'
    ledger.write_text(ledger.read_text().replace('"episode": 1', '"episode": 2') + '{"epi')
    (done,) = convert(tmp_path / 'dataset', tmp_path / 'b')
    assert done.episode == 2
    # one killed between the commit and the totals has converted it
    info = tmp_path / 'dataset' / 'meta' / 'info.json'
    info.write_text(info.read_text().replace('"total_episodes": 3', '"total_episodes": 2'))
    (again,) = convert(tmp_path / 'dataset', tmp_path / 'b')
    assert again.rows == 0


def test_a_cut_off_bag_is_mended_and_converted(tmp_path, spec, steps):
    write_bag(tmp_path / 'bag', spec, steps, (), known(spec, cameras='[]'))
    file = tmp_path / 'bag' / 'bag_0.mcap'
    (tmp_path / 'bag' / 'metadata.yaml').unlink()
    data = file.read_bytes()
    file.write_bytes(data[:-2000])  # its index is gone, and what was noted at the end
    (done,) = convert(tmp_path / 'dataset', tmp_path / 'bag', outcome=Outcome.FAILURE)
    assert done.outcome is Outcome.FAILURE and done.rows >= 25
    assert 'whole messages kept' in done.notes[0]
    assert (tmp_path / 'bag' / 'metadata.yaml').is_file()


def test_the_unsettled_end_of_a_cut_off_bag_is_not_used(tmp_path, spec, synthetic):
    """Labels and the word of who drove came last, and the kill came before them."""
    steps = list(synthetic.steps(spec, 60))  # an expert corrects in the middle third
    write_bag(tmp_path / 'bag', spec, steps[:40], (), known(spec, cameras='[]'),
              spoil=lambda i, name, data: None if name == 'expert/proposal' and i > 36 else data,
              log_step=3_000_000, ended=False)
    with BagReader(tmp_path / 'bag') as bag:
        messages = sum(len(bag.messages(name)) for name in bag.topics)
    (done,) = convert(tmp_path / 'dataset', tmp_path / 'bag')
    per_step = messages / len(steps[:40])
    lost = UNSETTLED / (0.003 * per_step)
    assert 40 - lost - 2 <= done.rows <= 40 - lost + 1
    data = open_dataset(tmp_path / 'dataset')
    np.testing.assert_array_equal(data.expert, [
        np.full(spec.dim, np.nan) if s.expert is None else s.expert for s in steps[:done.rows]])
    assert np.isfinite(data.expert).any()


def test_another_robot_is_refused_with_both_sides(tmp_path, spec, steps):
    write_bag(tmp_path / 'a', spec, steps, (), known(spec, cameras='[]'))
    convert(tmp_path / 'dataset', tmp_path / 'a')
    other = replace(spec, rates=replace(spec.rates, control=25.0))
    write_bag(tmp_path / 'b', spec, steps, (), known(other, cameras='[]'))
    with pytest.raises(DatasetError, match='another robot'):
        convert(tmp_path / 'dataset', tmp_path / 'b')
    assert len(open_dataset(tmp_path / 'dataset').episodes) == 1


def test_two_robots_in_one_bag_are_ambiguous(tmp_path):
    bag = BagWriter(tmp_path / 'bag', {})
    for name in ('/a/command', '/b/command'):
        bag.add_topic(ros.topic(name, ros.JOINTS))
        bag.write(name, ros.joints(1.0, ['x'], [0]), 1)
    bag.close()
    with BagReader(tmp_path / 'bag') as reader:
        with pytest.raises(DatasetError, match='both /a/command and /b/command'):
            topic_names(reader)
