"""Each way to spoil a dataset is found by the check that is meant to find it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from il_robot.data import keys, tables
from il_robot.data.verify import verify
from il_robot.errors import DatasetError

ROW = 'meta/episodes/chunk-000/file-001.parquet'
DATA = 'data/chunk-000/file-001.parquet'
VIDEO = 'videos/observation.images.front/chunk-000/file-001.mp4'


def _json(path, name, **changes):
    file = path / 'meta' / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def _column(path, key, change):
    """Rewrite one column of the second episode's rows; ``change`` works in place."""
    table = pq.read_table(path / DATA)
    field = table.schema.field(key)
    values = table.column(key).combine_chunks()
    values = values.flatten() if pa.types.is_fixed_size_list(values.type) else values
    array = values.to_numpy(zero_copy_only=False).copy().reshape(len(table), -1)
    change(array)
    flat = tables.to_arrow(array if pa.types.is_fixed_size_list(field.type) else array[:, 0])
    pq.write_table(table.set_column(table.schema.get_field_index(key), field, flat), path / DATA)


def _row(path, **changes):
    (row,) = tables.read_episode_file(path / ROW, stats=True)
    tables.write_episode_row(path / ROW, {**row, **changes})


def _set(index, value):
    def change(array):
        array[index] = value
    return change


SPOIL = {
    'info': lambda p: (p / 'meta/robot.json').write_text('{}'),
    'episodes': lambda p: (p / 'meta/episodes/chunk-000/file-000.parquet').unlink(),
    'episodes ': lambda p: _row(p, dataset_from_index=3),
    'totals': lambda p: _json(p, 'info.json', total_frames=1),
    'files': lambda p: (p / DATA).write_bytes(b'PAR1'),
    'files ': lambda p: (p / VIDEO).unlink(),
    'orphans': lambda p: (p / 'data/chunk-000/file-009.parquet').write_bytes(b''),
    'columns': lambda p: pq.write_table(
        pq.read_table(p / DATA).drop_columns([keys.ROUND]), p / DATA),
    'rows': lambda p: _row(p, length=8, dataset_to_index=17),
    'rows ': lambda p: _column(p, keys.TIMESTAMP, _set(4, 0.5)),
    'rows  ': lambda p: _column(p, keys.DONE, _set(3, True)),
    'tasks': lambda p: _column(p, keys.TASK, _set(slice(None), 5)),
    'tasks ': lambda p: _row(p, tasks=['something else']),
    'finite': lambda p: _column(p, keys.STATE, _set((2, 3), np.inf)),
    'finite ': lambda p: _column(p, keys.PROPOSAL_POLICY, _set((2, 3), np.nan)),
    'limits': lambda p: _column(p, keys.ACTION, _set((2, 3), 9.0)),
    'videos': lambda p: (p / VIDEO).write_bytes(
        (p / VIDEO).with_name('file-000.mp4').read_bytes()),
    'videos ': lambda p: _cut_middle(p / VIDEO),
    'statistics': lambda p: _column(p, keys.REWARD, _set(slice(None), 1.0)),
    'statistics ': lambda p: (p / 'meta/stats.json').unlink(),
}


def _cut_middle(file):
    """Overwrite the pictures, leave the index at the end of the file."""
    content = bytearray(file.read_bytes())
    start = content.index(b'mdat') + 8
    content[start:start + 600] = bytes(600)
    file.write_bytes(content)


@pytest.mark.parametrize('spoilt', SPOIL)
def test_each_damage_is_named_by_its_check(record, views, spoilt):
    path = record(lengths=(7, 9), views=views)
    SPOIL[spoilt](path)
    report = verify(path)
    assert not report.ok
    failed = [check.name for check in report.checks if not check.ok]
    assert spoilt.strip() in failed, report.failed()
    assert all(line.split(':')[0] in failed for line in report.failed())


def test_a_sound_dataset_passes_and_has_its_hash(record, views):
    from il_robot.data.dataset import open_dataset

    path = record(views=views)
    for decode in (True, False):
        report = verify(path, decode=decode)
        assert report.ok and report.failed() == [] and report.hash == open_dataset(path).hash


def test_empty_dataset_passes(tmp_path, spec):
    from il_robot.data.writer import DatasetWriter

    DatasetWriter.open(tmp_path / 'd', spec).close()
    assert verify(tmp_path / 'd').ok
    with pytest.raises(DatasetError, match='no such folder'):
        verify(tmp_path / 'other')
