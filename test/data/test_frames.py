import os
import shutil

import numpy as np
import pytest

from il_robot.data import frames
from il_robot.data.dataset import open_dataset
from il_robot.data.pictures import misfit, resized
from il_robot.errors import DatasetError

SIZE = (24, 32)


@pytest.fixture
def dataset(record, views):
    return open_dataset(record(lengths=(6, 9), views=views))


def files(dataset):
    return sorted((dataset.path / '.il_robot/frames').glob('*.npy'))


def decoded(dataset, camera):
    return np.stack([resized(f, SIZE) for e in range(len(dataset.episodes))
                     for f in dataset.frames(e, camera)])


def test_the_cache_is_what_decoding_gives_row_by_row(dataset, tmp_path):
    told = []
    for camera in dataset.cameras:
        cached = frames.cached_frames(
            dataset, camera, SIZE, tmp_path / 'run', lambda *words: told.append(words))
        assert cached.shape == (15, *SIZE, 3) and cached.dtype == np.uint8
        np.testing.assert_array_equal(cached, decoded(dataset, camera))
    assert told == [(c, n, 15) for c in dataset.cameras for n in (6, 15)]
    assert not (tmp_path / 'run').exists() and len(files(dataset)) == len(dataset.cameras)


def test_own_size_is_the_decoded_frame_itself(dataset, views, tmp_path):
    size = (views[0].height, views[0].width)
    cached = frames.cached_frames(dataset, views[0].name, size, tmp_path)
    np.testing.assert_array_equal(cached[6:], np.stack(list(dataset.frames(1, views[0].name))))


def test_nothing_is_decoded_twice_and_the_file_is_not_changed(dataset, tmp_path, monkeypatch):
    camera = dataset.cameras[0]
    first = frames.cached_frames(dataset, camera, SIZE, tmp_path)
    before = first.copy()
    first[:] = 0  # a map of one's own
    monkeypatch.setattr(type(dataset), 'frames', lambda *_: pytest.fail('decoded again'))
    again = frames.cached_frames(open_dataset(dataset.path), camera, SIZE, tmp_path)
    np.testing.assert_array_equal(again, before)


@pytest.mark.parametrize('damage', [
    lambda path: os.truncate(path, path.stat().st_size // 2),
    lambda path: path.write_bytes(b''),
    lambda path: path.write_bytes(b'hello'),
    lambda path: np.save(path, np.zeros((3, *SIZE, 3), np.uint8)),
])
def test_a_damaged_cache_is_made_again(dataset, tmp_path, damage):
    camera = dataset.cameras[0]
    frames.cached_frames(dataset, camera, SIZE, tmp_path)
    damage(files(dataset)[0])
    again = frames.cached_frames(dataset, camera, SIZE, tmp_path)
    np.testing.assert_array_equal(again, decoded(dataset, camera))


def test_a_crash_while_decoding_leaves_nothing(dataset, tmp_path, monkeypatch):
    def crash(*words):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        frames.cached_frames(dataset, dataset.cameras[0], SIZE, tmp_path, crash)
    assert [p.name for p in (dataset.path / '.il_robot/frames').iterdir()] == ['lock']


def test_a_dataset_that_grew_is_decoded_anew_and_the_old_file_goes(record, views, tmp_path):
    short = open_dataset(record(lengths=(5,), views=views))
    camera = short.cameras[0]
    old = frames.cached_frames(short, camera, SIZE, tmp_path)
    before = old.copy()
    longer = open_dataset(record(lengths=(5, 6), views=views, name='longer'))
    shutil.copytree(short.path / '.il_robot/frames', longer.path / '.il_robot/frames',
                    dirs_exist_ok=True)
    assert len(frames.cached_frames(longer, camera, SIZE, tmp_path)) == 11
    assert [p.name.split('_')[0] for p in files(longer)] == [longer.hash]
    np.testing.assert_array_equal(old, before)


def test_where_the_dataset_cannot_be_written_the_run_has_the_file(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(frames, '_writable', lambda folder: False)
    cached = frames.cached_frames(dataset, dataset.cameras[0], SIZE, tmp_path / 'run')
    assert len(cached) == 15 and not files(dataset)
    assert len(list((tmp_path / 'run/frames').glob('*.npy'))) == 1


def test_a_missing_camera_and_sizes_that_do_not_fit_are_told(dataset, tmp_path):
    with pytest.raises(DatasetError, match='unknown camera .*observation.cameras'):
        frames.cached_frames(dataset, 'nose', SIZE, tmp_path)
    for size, why in (((96, 128), 'grow'), ((24, 24), 'of this shape is 24 x 18')):
        with pytest.raises(DatasetError, match=why):
            frames.cached_frames(dataset, dataset.cameras[0], size, tmp_path)


def test_no_room_is_told_before_anything_is_written(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(frames.shutil, 'disk_usage', lambda p: shutil._ntuple_diskusage(9, 9, 9))
    with pytest.raises(DatasetError, match='smaller observation.image_size'):
        frames.cached_frames(dataset, dataset.cameras[0], SIZE, tmp_path)
    assert not files(dataset)


def test_resizing_takes_means_and_keeps_the_shape():
    stripes = np.zeros((40, 80, 3), np.uint8)
    stripes[:, ::2] = 200
    small = resized(stripes, (10, 20))
    assert small.shape == (10, 20, 3) and abs(small.astype(int) - 100).max() <= 10
    assert resized(stripes, (40, 80)) is stripes
    assert misfit((480, 640), (96, 128)) == '' == misfit((479, 640), (96, 128))
    assert '640 x 480' in misfit((480, 640), (96, 96))
