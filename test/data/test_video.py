import threading
import time
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest

from il_robot.data import video
from il_robot.errors import DatasetError


def _pictures(n, height=32, width=48):
    return [np.full((height, width, 3), 20 + 5 * i, dtype=np.uint8) for i in range(n)]


def test_time_stamps_are_exact_and_every_second_frame_is_a_key_frame(tmp_path):
    encoder = video.VideoEncoder(tmp_path / 'a.mp4', 32, 48, 50.0)
    for image in _pictures(21):
        encoder.put(image)
    encoder.finish()
    done = encoder.result()
    assert done.frames == 21 == video.count_frames(done.file)
    with av.open(str(done.file)) as container:
        frames = list(container.decode(video=0))
    assert [f.pts * f.time_base for f in frames] == [Fraction(i, 50) for i in range(21)]
    assert all(f.key_frame for f in frames[::2])


def test_statistics_are_of_the_pictures(tmp_path):
    encoder = video.VideoEncoder(tmp_path / 'a.mp4', 32, 48, 10.0)  # each picture counts
    for image in _pictures(4):
        encoder.put(image)
    encoder.finish()
    stats = encoder.result().stats
    levels = np.array([20, 25, 30, 35]) / 255
    np.testing.assert_allclose(stats['mean'].ravel(), levels.mean())
    np.testing.assert_allclose(stats['std'].ravel(), levels.std())
    assert stats['count'].tolist() == [4]


def test_a_full_queue_waits_and_drops_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(video, 'QUEUE_BYTES', 1)  # the least: four frames
    encode = av.VideoFrame.from_ndarray

    def slow(*arguments, **options):
        time.sleep(0.005)
        return encode(*arguments, **options)

    monkeypatch.setattr(av, 'VideoFrame', SimpleNamespace(from_ndarray=slow))
    encoder = video.VideoEncoder(tmp_path / 'a.mp4', 32, 48, 50.0)
    for image in _pictures(30):
        encoder.put(image)
    encoder.finish()
    assert encoder.result().frames == 30


@pytest.mark.parametrize('frames', [0, 1, 40])
def test_cancel_leaves_no_file_and_no_thread(tmp_path, frames):
    before = threading.active_count()
    encoder = video.VideoEncoder(tmp_path / 'a.mp4', 32, 48, 50.0)
    for image in _pictures(frames):
        encoder.put(image)
    encoder.cancel()
    assert list(tmp_path.iterdir()) == [] and threading.active_count() == before


def test_a_file_that_cannot_be_opened_is_told_and_nobody_hangs(tmp_path):
    encoder = video.VideoEncoder(tmp_path / 'nowhere' / 'a.mp4', 32, 48, 50.0)
    encoder.put(_pictures(1)[0])
    encoder.finish()
    with pytest.raises(DatasetError, match='cannot write'):
        encoder.result()
    with pytest.raises(DatasetError, match='cannot write'):
        encoder.put(_pictures(1)[0])
    encoder.cancel()


def test_write_and_grid(tmp_path):
    pictures = _pictures(3, 32, 48)
    small = np.full((20, 30, 3), 200, dtype=np.uint8)
    frames = [video.grid([image, small, image]) for image in pictures]
    assert frames[0].shape == (64, 96, 3)
    assert (frames[0][:20, 48:78] == 200).all() and (frames[0][32:, 48:] == 0).all()
    assert video.write(tmp_path / 'g.mp4', iter(frames), 50.0) == 3
    assert video.count_frames(tmp_path / 'g.mp4') == 3
    assert video.grid([np.zeros((33, 47, 3), np.uint8)]).shape == (32, 46, 3)
    with pytest.raises(DatasetError, match='no frame'):
        video.write(tmp_path / 'empty.mp4', [], 50.0)
    with pytest.raises(DatasetError, match='cannot write'):
        video.write(tmp_path / 'no' / 'g.mp4', frames, 50.0)
    assert not (tmp_path / 'empty.mp4').exists()
