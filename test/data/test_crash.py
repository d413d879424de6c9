"""kill -9 and a full disk: whatever is interrupted, the committed episodes stay whole."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from il_robot.data import layout
from il_robot.data.dataset import open_dataset
from il_robot.data.verify import verify
from il_robot.data.writer import DatasetWriter
from il_robot.errors import DatasetError

ROOT = Path(__file__).resolve().parents[2]


# 4 files (2 videos, rows, episode): sync each, rename each and sync its folder; then stats.json
# and info.json: sync file and folder.
COMMIT_STEPS = 4 + 4 * 2 + 2 * 2


class Killed(BaseException):
    """Ends a commit without any of its clean-up, as a signal would."""


def _record_one(path, synthetic, spec, views, seed):
    writer = DatasetWriter.open(path, spec, synthetic.OBJECTS, views)
    writer.begin(synthetic.info(seed))
    for step in synthetic.steps(spec, 6, seed, views=views):
        writer.add(step)
    return writer


@pytest.mark.parametrize('after', range(18))
def test_killed_after_any_durable_step_of_a_commit(
        after, monkeypatch, tmp_path, synthetic, spec, views):
    """Syncs, renames and replacements are counted; the process 'dies' after the n-th."""
    path = tmp_path / 'd'
    with _record_one(path, synthetic, spec, views, 0) as writer:
        writer.end()
    writer = _record_one(path, synthetic, spec, views, 1)
    left = [after]

    def dying(original):
        def call(*arguments):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return original(*arguments)
        return call

    with monkeypatch.context() as patch:
        for name in ('sync_file', 'sync_folder', 'publish'):
            patch.setattr(layout, name, dying(getattr(layout, name)))
        try:
            writer.end().result()
            reported = True
        except Killed:
            reported = False
    assert reported == (after >= COMMIT_STEPS)
    dataset = open_dataset(path)  # readable before any repair
    assert len(dataset.episodes) in ((2,) if reported else (1, 2))
    _die(writer)
    with DatasetWriter.open(path, spec, synthetic.OBJECTS, views) as again:
        # before the last sync everything stands already, it only may not last a power cut
        assert bool(again.repaired) == (after < COMMIT_STEPS - 1)
        assert again.n_episodes == len(dataset.episodes)
    report = verify(path)
    assert report.ok, report.failed()
    for episode, record in enumerate(open_dataset(path).episodes):
        assert record.seed == episode and len(record) == 6


def _die(writer):
    """Let go of the lock as a dead process does, and clean nothing up."""
    os.close(writer._lock)
    writer._lock = None


def test_an_open_episode_is_lost_alone(tmp_path, synthetic, spec, views):
    path = tmp_path / 'd'
    writer = _record_one(path, synthetic, spec, views, 0)
    writer.end().result()
    writer.begin(synthetic.info(1))
    for step in synthetic.steps(spec, 5, 1, views=views):
        writer.add(step)
    _die(writer)
    assert len(open_dataset(path)) == 6
    with DatasetWriter.open(path, spec, synthetic.OBJECTS, views) as again:
        assert 'not finished' in ' '.join(again.repaired)
    assert verify(path).ok


FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[2])
import numpy as np
import synthetic_episodes as synthetic
from il_robot.data.verify import verify
from il_robot.data.writer import DatasetWriter
from il_robot.errors import DatasetError

spec = synthetic.robot()
views = synthetic.cameras(spec, 2, width=128, height=96)
writer = DatasetWriter.open(sys.argv[1], spec, synthetic.OBJECTS, views)

def episode(n, noise):
    rng = np.random.default_rng(0)
    writer.begin(synthetic.info())
    for step in synthetic.steps(spec, n, views=views):
        for image in step.observation.images.values():
            if noise:
                image[:] = rng.integers(0, 255, image.shape)
        writer.add(step)
    writer.end()
    writer.flush()

resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
episode(10, noise=False)
for n, noise in ((200, True), (2500, False)):  # too large a video, too large a table
    try:
        episode(n, noise)
        print('NOT REFUSED', n)
    except DatasetError as error:
        print(error)
episode(12, noise=False)
writer.close()
report = verify(sys.argv[1])
print('intact', report.ok, report.failed(), writer.n_episodes, writer.n_frames)
"""


def test_full_disk_is_an_error_and_recording_can_go_on(tmp_path):
    """A file size limit refuses writes where a full disk would."""
    done = subprocess.run(
        [sys.executable, '-c', FULL_DISK, str(tmp_path / 'd'), str(ROOT / 'benchmarks')],
        capture_output=True, text=True, check=True, cwd=ROOT)
    lines = done.stdout.splitlines()
    assert 'NOT REFUSED' not in done.stdout, done.stdout
    assert len(lines) == 3 and all('intact' in line for line in lines), done.stdout
    assert 'File too large' in lines[0] and 'File too large' in lines[1]
    assert lines[2] == 'intact True [] 2 22'


@pytest.mark.parametrize('length', [3, 200])  # found out at the end, and most likely before
def test_encoder_failure_discards_the_open_episode_alone(
        tmp_path, synthetic, spec, views, monkeypatch, length):
    import av

    path = tmp_path / 'd'
    with DatasetWriter.open(path, spec, synthetic.OBJECTS, views) as writer:
        steps = list(synthetic.steps(spec, 200, views=views))
        writer.begin(synthetic.info())
        for step in steps[:4]:
            writer.add(step)
        writer.end().result()

        def broken(*arguments, **options):
            raise OSError(28, 'No space left on device')

        with monkeypatch.context() as patch:
            patch.setattr(av, 'VideoFrame', SimpleNamespace(from_ndarray=broken))
            writer.begin(synthetic.info())
            with pytest.raises(DatasetError, match='No space left.*1 before it are intact'):
                for step in steps[:length]:
                    writer.add(step)
                writer.end()
                writer.flush()
        assert not writer.recording
        writer.begin(synthetic.info())
        writer.add(steps[0])
        writer.end()
    assert verify(path).ok
    assert [len(e) for e in open_dataset(path).episodes] == [4, 1]


def test_killed_recorder_loses_nothing_it_reported(tmp_path, load_script):
    """The short version of benchmarks/kill_recorder.py: a real process, a real SIGKILL."""
    result = load_script('kill_recorder').run(tmp_path, kills=4, seed=1)
    assert result['problems'] == []
    assert result['episodes committed'] >= result['reported'][-1] > 0
