import json
import shutil
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from il_robot.data import keys, tables
from il_robot.data.dataset import open_dataset
from il_robot.data.filters import row_mask
from il_robot.data.verify import verify
from il_robot.data.writer import DatasetWriter
from il_robot.errors import DatasetError
from il_robot.types import EpisodeInfo, Outcome, Source

FPS, LENGTHS, SIZE = 30, (7, 12, 5), (16, 24)


def _level(episode, frame):
    return 30 + 60 * episode + 3 * frame


def _video(file):
    """All episodes one after the other in one mp4, as LeRobot concatenates them."""
    file.parent.mkdir(parents=True)
    with av.open(str(file), 'w') as container:
        stream = container.add_stream('libx264', rate=FPS, options={'g': '2', 'bf': '0'})
        stream.height, stream.width, stream.pix_fmt = *SIZE, 'yuv420p'
        stream.codec_context.time_base = Fraction(1, FPS)
        levels = [_level(e, i) for e, n in enumerate(LENGTHS) for i in range(n)]
        for position, level in enumerate(levels):
            image = np.full((*SIZE, 3), level, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format='rgb24')
            frame.pts, frame.time_base = position, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _png(level):
    encoder = av.CodecContext.create('png', 'w')
    encoder.height, encoder.width, encoder.pix_fmt = *SIZE, 'rgb24'
    encoder.time_base = Fraction(1, FPS)
    image = np.full((*SIZE, 3), level, dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(image, format='rgb24')
    return bytes(encoder.encode(frame)[0])


def _write_foreign(path, dtype):
    """A dataset in the layout LeRobot writes: shared files, no columns of ours, no robot.json."""
    key = 'observation.images.top'
    one = {'shape': [1], 'names': None}
    features = {
        keys.STATE: {'dtype': 'float32', 'shape': [3], 'names': ['a', 'b', 'c']},
        keys.ACTION: {'dtype': 'float32', 'shape': [3], 'names': ['a', 'b', 'c']},
        key: {'dtype': dtype, 'shape': [*SIZE, 3], 'names': ['height', 'width', 'channels']},
        'note': {'dtype': 'string', **one},
        keys.TIMESTAMP: {'dtype': 'float32', **one},
        **{k: {'dtype': 'int64', **one} for k in keys.REQUIRED[1:]},
    }
    total = sum(LENGTHS)
    episode = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    frame = np.concatenate([np.arange(n) for n in LENGTHS])
    state = np.random.default_rng(0).normal(size=(total, 3)).astype(np.float32)
    columns = {
        keys.STATE: pa.array(list(state), pa.list_(pa.float32())),  # of variable length
        keys.ACTION: tables.to_arrow(state * 2), 'note': pa.array(['x'] * total),
        keys.TIMESTAMP: pa.array((frame / FPS).astype(np.float32)), keys.FRAME: pa.array(frame),
        keys.EPISODE: pa.array(episode), keys.INDEX: pa.array(np.arange(total)),
        keys.TASK: pa.array(episode % 2),
    }
    if dtype == 'image':
        pictures = [{'bytes': _png(_level(e, i)), 'path': None} for e, i in zip(episode, frame)]
        columns[key] = pa.array(pictures)
    else:
        _video(path / f'videos/{key}/chunk-000/file-000.mp4')
    (path / 'data/chunk-000').mkdir(parents=True)
    table = pa.table(columns)
    pq.write_table(table.slice(0, 7), path / 'data/chunk-000/file-000.parquet')
    pq.write_table(table.slice(7), path / 'data/chunk-000/file-001.parquet')
    ends = np.cumsum(LENGTHS)
    rows = [{
        'episode_index': e, 'tasks': [f'task {e % 2}'], 'length': n,
        'data/chunk_index': 0, 'data/file_index': int(e > 0),
        'dataset_from_index': int(end - n), 'dataset_to_index': int(end),
        **({f'videos/{key}/chunk_index': 0, f'videos/{key}/file_index': 0,
            f'videos/{key}/from_timestamp': (end - n) / FPS,
            f'videos/{key}/to_timestamp': end / FPS} if dtype == 'video' else {}),
    } for e, (n, end) in enumerate(zip(LENGTHS, ends))]
    (path / 'meta/episodes/chunk-000').mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path / 'meta/episodes/chunk-000/file-000.parquet')
    pq.write_table(pa.table({'task_index': [0, 1], '__index_level_0__': ['task 0', 'task 1']}),
                   path / 'meta/tasks.parquet')
    (path / 'meta/info.json').write_text(json.dumps({
        'codebase_version': 'v3.0', 'robot_type': None, 'fps': FPS, 'features': features,
        'total_episodes': 3, 'total_frames': total, 'total_tasks': 2, 'splits': {'train': '0:3'},
        'data_path': 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet',
        'video_path': 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4',
    }))
    return state


@pytest.mark.parametrize('dtype', ['video', 'image'])
def test_datasets_of_lerobot_load_with_defaults_that_claim_nothing(tmp_path, dtype):
    state = _write_foreign(tmp_path, dtype)
    dataset = open_dataset(tmp_path)
    assert np.array_equal(dataset.state, state) and np.array_equal(dataset.action, state * 2)
    assert dataset.spec is None and dataset.object_names == () and dataset.cameras == ('top',)
    assert np.isnan(dataset.policy).all() and np.isnan(dataset.expert).all()
    assert (dataset.source == keys.UNKNOWN_SOURCE).all()
    assert not dataset.intervention.any() and not dataset.success.any()
    first, second, third = dataset.episodes
    assert (second.language, second.task, second.outcome) == ('task 1', '', Outcome.UNKNOWN)
    assert (third.seed, third.round, third.checkpoint) == (-1, 0, '')
    with pytest.raises(DatasetError, match='who drove'):
        row_mask(dataset, sources=[Source.POLICY])
    for episode, length in enumerate(LENGTHS):
        frames = list(dataset.frames(episode, 'top'))
        assert len(frames) == length and frames[0].shape == (*SIZE, 3)
        assert np.allclose([f.mean() for f in frames],
                           [_level(episode, i) for i in range(length)], atol=2)


def test_one_episode_of_many_may_lie_in_any_order_in_a_file(tmp_path):
    state = _write_foreign(tmp_path, 'image')
    file = tmp_path / 'data/chunk-000/file-001.parquet'
    table = pq.read_table(file)
    pq.write_table(table.take(np.random.default_rng(0).permutation(len(table))), file)
    assert np.array_equal(open_dataset(tmp_path).state, state)


def test_foreign_datasets_verify_but_for_their_missing_statistics(tmp_path):
    _write_foreign(tmp_path, 'video')
    failed = [c.name for c in verify(tmp_path).checks if not c.ok]
    assert failed == ['statistics']


def test_any_frame_is_reached_directly(record, views, synthetic):
    dataset = open_dataset(record(lengths=(30,), views=views))
    every = list(dataset.frames(0, 'front'))
    for start, stop in ((0, 3), (7, 8), (12, 25), (29, 30)):
        some = list(dataset.frames(0, 'front', start, stop))
        assert len(some) == stop - start
        assert all(np.array_equal(a, b) for a, b in zip(some, every[start:stop]))


def test_hash_is_of_the_content(record, tmp_path):
    path = record(lengths=(6, 7))
    first = open_dataset(path).hash
    assert open_dataset(path).hash == first
    moved = shutil.copytree(path, tmp_path / 'elsewhere')
    assert open_dataset(moved).hash == first
    again = record(lengths=(6, 7), name='again')
    assert open_dataset(again).hash == first
    other = record(lengths=(6, 7), name='other', outcome=lambda e: Outcome.FAILURE)
    longer = record(lengths=(6, 7, 5), name='longer')
    assert len({first, open_dataset(other).hash, open_dataset(longer).hash}) == 3


def test_relabelling_a_stored_observation_gives_the_live_label(record, synthetic, spec):
    """An expert that depends on every bit of what it sees."""
    def expert(observation):
        return observation.state * 3 + observation.objects['cube'].sum()

    dataset = open_dataset(record(lengths=(15,)))
    for row, step in enumerate(synthetic.steps(spec, 15)):
        assert np.array_equal(expert(dataset.observation(row)), expert(step.observation))


def test_a_dataset_being_recorded_opens_up_to_the_last_commit(tmp_path, spec, synthetic):
    from il_robot.data.writer import DatasetWriter

    with DatasetWriter.open(tmp_path / 'd', spec, synthetic.OBJECTS) as writer:
        with pytest.raises(DatasetError, match='no finished episode'):
            open_dataset(tmp_path / 'd')
        for seed in range(2):
            writer.begin(synthetic.info(seed))
            for step in synthetic.steps(spec, 5, seed):
                writer.add(step)
            writer.end().result()
            assert len(open_dataset(tmp_path / 'd')) == 5 * (seed + 1)
        writer.begin(synthetic.info())
        assert len(open_dataset(tmp_path / 'd').episodes) == 2


def test_discarded_corrections_come_back(tmp_path, spec, synthetic):
    with DatasetWriter.open(tmp_path / 'd', spec, synthetic.OBJECTS) as writer:
        for episode, spans in enumerate([(), ((3, 5), (8, 10)), ()]):
            writer.begin(replace(synthetic.info(episode), discarded=spans))
            for step in synthetic.steps(spec, 10, episode):
                writer.add(step)
            writer.end(Outcome.SUCCESS)
    dataset = open_dataset(tmp_path / 'd')
    assert [e.discarded for e in dataset.episodes] == [(), ((3, 5), (8, 10)), ()]
    assert np.flatnonzero(dataset.discarded).tolist() == [13, 14, 18, 19]
    kept = replace(dataset, episodes=tuple(replace(e, discarded=()) for e in dataset.episodes))
    assert kept.hash != dataset.hash


@pytest.mark.parametrize('spans', [((5, 3),), ((3, 5), (4, 8)), ((-1, 2),)])
def test_discarded_rows_are_spans_in_order(spans):
    with pytest.raises(DatasetError, match='spans in order'):
        EpisodeInfo('t', 'do it', discarded=spans)


def _info(path, **changes):
    file = path / 'meta/info.json'
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(('spoil', 'message'), [
    (lambda p: _info(p, codebase_version='v2.1'), 'convert_dataset_v21_to_v30'),
    (lambda p: _info(p, codebase_version='v4.0'), "'v4.0' is unknown"),
    (lambda p: _info(p, features={}), 'lacks the feature'),
    (lambda p: (p / 'meta/info.json').write_text('{"a'), 'info.json is damaged'),
    (lambda p: (p / 'meta/info.json').write_text('[]'), 'not a JSON object'),
    (lambda p: (p / 'meta/info.json').unlink(), 'not a LeRobotDataset'),
    (lambda p: (p / 'data/chunk-000/file-000.parquet').unlink(), 'missing file'),
    (lambda p: (p / 'data/chunk-000/file-000.parquet').write_bytes(b'PAR1' * 9), 'is damaged'),
    (lambda p: (p / 'meta/episodes/chunk-000/file-000.parquet').write_bytes(b''), 'is damaged'),
    (lambda p: shutil.copy(p / 'meta/episodes/chunk-000/file-000.parquet',
                           p / 'meta/episodes/chunk-000/file-009.parquet'), 'stand twice'),
    (lambda p: shutil.copy(p / 'data/chunk-000/file-001.parquet',
                           p / 'data/chunk-000/file-000.parquet'), 'its length says 6'),
])
def test_damage_is_one_clear_error(record, spoil, message):
    path = record(lengths=(6, 7))
    spoil(path)
    with pytest.raises(DatasetError, match=message):
        open_dataset(path)


def test_unknown_names_list_the_valid_ones(record, views):
    dataset = open_dataset(record(lengths=(3,), views=views))
    with pytest.raises(DatasetError, match='overhead'):
        dataset.frames(0, 'overhed')
    missing = {k: v for k, v in dataset.columns.items() if k != keys.STATE}
    with pytest.raises(DatasetError, match="unknown column 'observation.state'"):
        _ = replace(dataset, columns=missing).state


def test_a_damaged_video_is_a_dataset_error(record, views):
    path = record(lengths=(6,), views=views)
    file = path / 'videos/observation.images.front/chunk-000/file-000.mp4'
    dataset = open_dataset(path)
    with pytest.raises(DatasetError, match='ends after 6 of 9'):
        list(dataset.frames(0, 'front', 0, 9))
    file.write_bytes(b'no video')
    with pytest.raises(DatasetError, match='cannot decode'):
        list(dataset.frames(0, 'front'))
