import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from il_robot.data.dataset import open_dataset
from il_robot.data.verify import verify
from il_robot.data.writer import DatasetWriter
from il_robot.errors import DatasetError
from il_robot.types import EpisodeInfo, Outcome, Source


def test_what_is_recorded_is_read_bit_for_bit(record, synthetic, spec, views):
    path = record(lengths=(20, 700), views=views)  # the second outgrows the first buffer
    dataset = open_dataset(path)
    assert dataset.spec == spec and dataset.object_names == synthetic.OBJECTS
    row = 0
    for episode, length in enumerate((20, 700)):
        for i, step in enumerate(synthetic.steps(spec, length, episode, views=views)):
            seen = dataset.observation(row)
            assert np.array_equal(seen.state, step.observation.state)
            assert seen.stamp == np.float32(i / 50)
            for name, pose in step.observation.objects.items():
                assert np.array_equal(seen.objects[name], pose)
            assert np.array_equal(dataset.action[row], step.action)
            for column, value in ((dataset.policy, step.policy), (dataset.expert, step.expert)):
                assert np.isnan(column[row]).all() if value is None \
                    else np.array_equal(column[row], value)
            assert tuple(dataset.source[row]) == step.source
            assert dataset.intervention[row] == step.intervention
            assert dataset.reward[row] == step.reward
            assert dataset.success[row] == step.success
            assert dataset.done[row] == (i == length - 1)
            row += 1
    assert row == len(dataset)


def test_pictures_come_back_at_their_frame(record, synthetic, spec, views):
    dataset = open_dataset(record(lengths=(5, 12), views=views))
    for camera in views:
        frames = list(dataset.frames(1, camera.name))
        assert len(frames) == 12
        for i, frame in enumerate(frames):
            error = [np.abs(frame.astype(int) - synthetic.picture(camera, j)).mean()
                     for j in (i, i + 1, i + 2)]
            assert error[0] < 6 and error[0] == min(error)
    one = dataset.observation(5 + 7, cameras=['front']).images['front']
    assert np.array_equal(one, list(dataset.frames(1, 'front'))[7])


def test_episode_facts_are_kept(spec, tmp_path, synthetic):
    with DatasetWriter.open(tmp_path / 'd', spec) as writer:
        info = EpisodeInfo('t', 'say it', Outcome.UNKNOWN, 41, 3, 'abcd')
        for outcome in (None, Outcome.FAILURE):
            writer.begin(info)
            for step in synthetic.steps(spec, 3, objects=()):
                writer.add(step)
            future = writer.end(outcome)
        assert future.result() == 1
        assert writer.n_episodes == 2 and writer.n_frames == 6
    first, second = open_dataset(tmp_path / 'd').episodes
    assert (first.outcome, second.outcome) == (Outcome.UNKNOWN, Outcome.FAILURE)
    assert (first.task, first.language, first.seed, first.round, first.checkpoint) == (
        't', 'say it', 41, 3, 'abcd')


def test_appending_continues_indices_tasks_and_statistics(record, synthetic, spec, views):
    path = record(lengths=(10, 11), views=views)
    record(lengths=(12, 13), views=views, task=lambda e: 'lift_tray')
    whole = record(lengths=(10, 11, 12, 13), views=views, name='at_once')
    dataset = open_dataset(path)
    assert [len(e) for e in dataset.episodes] == [10, 11, 12, 13]
    assert [e.task for e in dataset.episodes] == ['transfer_cube'] * 2 + ['lift_tray'] * 2
    assert np.array_equal(dataset.columns['index'], np.arange(46))
    assert dataset.columns['task_index'].tolist() == [0] * 21 + [1] * 25
    assert verify(path).ok
    ours, theirs = (json.loads((p / 'meta/stats.json').read_text()) for p in (path, whole))
    np.testing.assert_allclose(ours['index']['mean'], theirs['index']['mean'])


def test_nothing_is_left_but_the_dataset(record, views):
    path = record(views=views)
    work = [f for f in (path / '.il_robot').rglob('*') if f.is_file()]
    assert [f.name for f in work] == ['lock']


def test_discarded_and_open_episodes_leave_no_trace(spec, views, synthetic, tmp_path):
    path = tmp_path / 'd'
    with pytest.raises(KeyboardInterrupt), \
            DatasetWriter.open(path, spec, synthetic.OBJECTS, views) as writer:
        for ending in (writer.discard, lambda: writer.end(Outcome.SUCCESS), None):
            writer.begin(synthetic.info())
            for step in synthetic.steps(spec, 8, views=views):
                writer.add(step)
            if ending is None:
                raise KeyboardInterrupt
            ending()
    assert len(open_dataset(path)) == 8
    assert verify(path).ok


def _wrong_steps(good):
    short = good.action[:-1]
    nan = np.array(good.action)
    nan[3] = np.nan
    seen = good.observation
    small = {n: i[:, :-2] for n, i in seen.images.items()}
    return {
        'shape': replace(good, action=short),
        'indices \\[3\\]': replace(good, action=nan),
        'proposal.expert has NaN': replace(good, expert=nan),
        'per arm': replace(good, source=(Source.HOLD,)),
        'next.reward': replace(good, reward=float('nan')),
        'objects': replace(good, observation=replace(seen, objects={})),
        'got none': replace(good, observation=replace(seen, images={})),
        'camera overhead: every step needs an image uint8': replace(
            good, observation=replace(seen, images=small)),
    }


def test_a_step_that_does_not_fit_is_refused_and_the_episode_goes_on(
        spec, views, synthetic, tmp_path):
    steps = list(synthetic.steps(spec, 6, views=views))
    with DatasetWriter.open(tmp_path / 'd', spec, synthetic.OBJECTS, views) as writer:
        writer.begin(synthetic.info())
        writer.add(steps[0])
        for message, step in _wrong_steps(steps[1]).items():
            with pytest.raises(DatasetError, match=message):
                writer.add(step)
            assert writer.length == 1
        for step in steps[1:]:
            writer.add(step)
        writer.end()
    assert verify(tmp_path / 'd').ok
    dataset = open_dataset(tmp_path / 'd')
    assert np.array_equal(dataset.action, np.stack([s.action for s in steps]))


def test_calls_out_of_order_are_errors(spec, synthetic, tmp_path):
    writer = DatasetWriter.open(tmp_path / 'd', spec)
    step = next(synthetic.steps(spec, 1, objects=()))
    with pytest.raises(DatasetError, match='begin'):
        writer.add(step)
    with pytest.raises(DatasetError, match='begin'):
        writer.end()
    writer.begin(synthetic.info())
    with pytest.raises(DatasetError, match='open already'):
        writer.begin(synthetic.info())
    with pytest.raises(DatasetError, match='at least one row'):
        writer.end()
    assert not writer.recording
    writer.close()
    writer.close()
    with pytest.raises(DatasetError, match='closed'):
        writer.begin(synthetic.info())


def test_the_caller_may_reuse_its_arrays(spec, views, synthetic, tmp_path):
    step = next(synthetic.steps(spec, 1, views=views))
    images = {n: i.copy() for n, i in step.observation.images.items()}
    state = step.observation.state.copy()
    with DatasetWriter.open(tmp_path / 'd', spec, synthetic.OBJECTS, views) as writer:
        writer.begin(synthetic.info())
        for i in range(30):
            state[:] = i / 1000
            for image in images.values():
                image[:] = 4 * i
            writer.add(replace(step, observation=replace(
                step.observation, state=state, images=images)))
        writer.end()
    dataset = open_dataset(tmp_path / 'd')
    assert np.array_equal(dataset.state[:, 0], np.arange(30, dtype=np.float32) / np.float32(1000))
    levels = [frame.mean() for frame in dataset.frames(0, 'front')]
    assert np.allclose(levels, 4 * np.arange(30), atol=3)


def test_second_writer_is_refused_until_the_first_closes(spec, synthetic, tmp_path):
    first = DatasetWriter.open(tmp_path / 'd', spec)
    with pytest.raises(DatasetError, match=f'process {os.getpid()}'):
        DatasetWriter.open(tmp_path / 'd', spec)
    first.begin(synthetic.info())
    first.add(next(synthetic.steps(spec, 1, objects=())))
    first.end()
    first.close()
    with DatasetWriter.open(tmp_path / 'd', spec) as second:
        assert second.n_episodes == 1 and second.repaired == ()


def _snapshot(path: Path):
    return {f: f.read_bytes() for f in path.rglob('*') if f.is_file() and f.name != 'lock'}


def test_another_robot_or_other_columns_are_refused_and_nothing_changes(
        record, spec, views, synthetic):
    path = record(lengths=(5,), views=views)
    before = _snapshot(path)
    slower = replace(spec, rates=replace(spec.rates, control=25.0))
    narrower = replace(spec, joints=(replace(spec.joints[0], upper=2.0), *spec.joints[1:]))
    for other, objects, cameras, both in (
        (slower, synthetic.OBJECTS, views, '50 | 25'),
        (narrower, synthetic.OBJECTS, views, 'upper'),
        (spec, ('ball',), views, 'ball.x'),
        (spec, synthetic.OBJECTS, views[:1], 'observation.images.front'),
    ):
        with pytest.raises(DatasetError, match='nothing was written') as error:
            DatasetWriter.open(path, other, objects, cameras)
        assert both in str(error.value)
    assert _snapshot(path) == before


def test_folders_that_hold_something_else_are_refused(spec, tmp_path):
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'thesis.tex').write_text('x')
    (tmp_path / 'file').write_text('x')
    with pytest.raises(DatasetError, match='thesis.tex'):
        DatasetWriter.open(tmp_path / 'full', spec)
    with pytest.raises(DatasetError, match='is a file'):
        DatasetWriter.open(tmp_path / 'file', spec)
    with pytest.raises(DatasetError, match='cannot write'):
        DatasetWriter.open(tmp_path / 'file' / 'below', spec)
    assert sorted(p.name for p in tmp_path.rglob('*')) == ['file', 'full', 'thesis.tex']


def test_a_folder_that_cannot_be_written_is_an_error(spec, tmp_path):
    # root may write anywhere but into /proc
    folder = Path('/proc/self') if os.geteuid() == 0 else tmp_path / 'locked'
    if os.geteuid() != 0:
        folder.mkdir(mode=0o500)
    with pytest.raises(DatasetError, match='cannot write to'):
        DatasetWriter.open(folder / 'd', spec)


def test_one_arm_and_no_objects(spec, synthetic, tmp_path):
    alone = replace(spec, arms=spec.arms[:1], cameras=())
    with DatasetWriter.open(tmp_path / 'd', alone) as writer:
        writer.begin(synthetic.info())
        for step in synthetic.steps(alone, 4, objects=()):
            writer.add(step)
        writer.end()
    dataset = open_dataset(tmp_path / 'd')
    assert dataset.source.shape == (4, 1) and dataset.objects.shape == (4, 0, 7)
    assert verify(tmp_path / 'd').ok
