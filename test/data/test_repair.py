import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from il_robot.data import tables
from il_robot.data.dataset import open_dataset
from il_robot.data.repair import repair
from il_robot.data.verify import verify
from il_robot.data.writer import DatasetWriter
from il_robot.errors import DatasetError

ROW = 'meta/episodes/chunk-000/file-{:03d}.parquet'
DATA = 'data/chunk-000/file-{:03d}.parquet'
VIDEO = 'videos/observation.images.front/chunk-000/file-{:03d}.mp4'


def _seeds(path):
    return [e.seed for e in open_dataset(path).episodes]


def test_nothing_to_do_is_nothing_said_and_nothing_changed(record, views):
    path = record(views=views)
    before = {f: f.stat().st_mtime_ns for f in path.rglob('*.*') if f.is_file()}
    assert repair(path) == []
    assert {f: f.stat().st_mtime_ns for f in path.rglob('*.*') if f.is_file()} == before


def test_unfinished_files_are_removed(record, views):
    path = record(views=views)
    pending = path / '.il_robot' / 'pending'
    pending.mkdir()
    (pending / 'front.mp4').write_bytes(b'half')
    (path / 'meta' / '.info.json.tmp').write_text('{')
    assert repair(path) == ['removed 2 file(s) of an episode that was not finished']
    assert repair(path) == [] and verify(path).ok


def test_orphans_are_set_aside_not_deleted(record, views):
    path = record(views=views)
    content = (path / DATA.format(0)).read_bytes()
    (path / DATA.format(7)).write_bytes(content)
    shutil.copy(path / VIDEO.format(0), path / VIDEO.format(7))
    said = repair(path)
    assert len(said) == 2 and all('belongs to no finished episode' in line for line in said)
    assert (path / '.il_robot/quarantine' / DATA.format(7)).read_bytes() == content
    assert verify(path).ok and _seeds(path) == [0, 1, 2]
    (path / DATA.format(7)).write_bytes(b'another')
    repair(path)  # the first one is not overwritten
    assert (path / '.il_robot/quarantine' / DATA.format(7)).read_bytes() == content


@pytest.mark.parametrize('lost', [0, 1, 2])
@pytest.mark.parametrize('damage', [
    ('truncate', ROW), ('truncate', DATA), ('delete', DATA), ('delete', VIDEO), ('empty', VIDEO)])
def test_a_damaged_episode_is_set_aside_and_the_rest_renumbered(record, views, lost, damage):
    path = record(lengths=(8, 9, 10), views=views)
    how, template = damage
    file = path / template.format(lost)
    if how == 'delete':
        file.unlink()
    else:
        file.write_bytes(b'' if how == 'empty' else file.read_bytes()[:-200])
    assert not verify(path).ok
    said = repair(path)
    assert any('set aside damaged' in line for line in said)
    assert sum('renumbered' in line for line in said) == 2 - lost
    report = verify(path)
    assert report.ok, report.failed()
    assert _seeds(path) == [s for s in (0, 1, 2) if s != lost]
    assert repair(path) == []


def test_recording_goes_on_after_a_repair(record, views, spec, synthetic):
    path = record(lengths=(8, 9, 10), views=views)
    (path / DATA.format(1)).unlink()
    with DatasetWriter.open(path, spec, synthetic.OBJECTS, views) as writer:
        assert writer.repaired and writer.n_episodes == 2
        writer.begin(synthetic.info(9))
        for step in synthetic.steps(spec, 6, 9, views=views):
            writer.add(step)
        writer.end()
    assert verify(path).ok
    dataset = open_dataset(path)
    assert [e.seed for e in dataset.episodes] == [0, 2, 9]
    assert np.array_equal(dataset.columns['index'], np.arange(24))


def test_interrupted_renumbering_is_finished_by_the_next_repair(record, monkeypatch):
    path = record(lengths=(8, 9, 10, 11))
    (path / DATA.format(0)).unlink()
    original = tables.write_episode_row
    calls = []

    def dies_at_the_second(file, row):
        calls.append(file)
        if len(calls) == 2:
            raise KeyboardInterrupt
        original(file, row)

    with monkeypatch.context() as patch:
        patch.setattr(tables, 'write_episode_row', dies_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            repair(path)
    assert not verify(path).ok
    assert repair(path)
    assert verify(path).ok and _seeds(path) == [1, 2, 3]


def test_totals_statistics_and_tasks_are_rebuilt(record, views):
    path = record(views=views, task=lambda e: ('lift_tray', 'insert_peg')[e % 2])
    right = {name: json.loads((path / 'meta' / name).read_text())
             for name in ('info.json', 'stats.json')}
    (path / 'meta/info.json').write_text(json.dumps({**right['info.json'], 'total_episodes': 9}))
    (path / 'meta/stats.json').write_text('{"index": ')
    (path / 'meta/tasks.parquet').unlink()
    said = ' '.join(repair(path))
    assert 'totals: 9 -> 3' in said and 'statistics' in said and 'tasks' in said
    assert verify(path).ok
    assert json.loads((path / 'meta/info.json').read_text()) == right['info.json']
    rebuilt = json.loads((path / 'meta/stats.json').read_text())
    for key, column in right['stats.json'].items():
        for name, value in column.items():
            np.testing.assert_allclose(rebuilt[key][name], value, atol=1e-12)


def test_damage_in_files_that_episodes_share_is_refused(record):
    path = record(lengths=(8, 9))
    rows = [tables.read_episode_file(path / ROW.format(i), stats=True)[0] for i in (0, 1)]
    pq.write_table(pa.Table.from_pylist(rows), path / ROW.format(0))
    (path / ROW.format(1)).unlink()
    assert repair(path) == [] and verify(path).ok
    (path / DATA.format(1)).unlink()
    with pytest.raises(DatasetError, match='nothing was changed'):
        repair(path)


def test_a_writer_at_work_is_not_disturbed(tmp_path, spec):
    with DatasetWriter.open(tmp_path / 'd', spec), \
            pytest.raises(DatasetError, match='being written'):
        repair(tmp_path / 'd')


def test_no_dataset(tmp_path):
    with pytest.raises(DatasetError, match='no such folder'):
        repair(tmp_path / 'nowhere')
    with pytest.raises(DatasetError, match='not a LeRobotDataset'):
        repair(tmp_path)
    assert list(tmp_path.iterdir()) == []
