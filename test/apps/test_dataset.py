import argparse
import importlib.util
from dataclasses import replace
from pathlib import Path

import av
import pytest

from il_robot.apps import dataset as command
from il_robot.data.writer import DatasetWriter
from il_robot.errors import DatasetError
from il_robot.types import Outcome

SYNTHETIC = Path(__file__).resolve().parents[2] / 'benchmarks' / 'synthetic_episodes.py'


@pytest.fixture(scope='module')
def synthetic():
    spec = importlib.util.spec_from_file_location('synthetic_episodes', SYNTHETIC)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def path(synthetic, tmp_path_factory):
    path = tmp_path_factory.mktemp('apps') / 'cubes'
    robot = synthetic.robot()
    views = synthetic.cameras(robot, 3, width=64, height=48)
    with DatasetWriter.open(path, robot, synthetic.OBJECTS, views) as writer:
        for episode, outcome in enumerate((Outcome.SUCCESS, Outcome.FAILURE)):
            writer.begin(synthetic.info(episode, round=episode))
            for step in synthetic.steps(robot, 24, episode, views=views):
                writer.add(step)
            writer.end(outcome)
    return path


def run(*words):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    arguments = parser.parse_args(['dataset', *map(str, words)])
    return arguments.run(arguments)


def test_info_says_what_is_in_it(path, capsys):
    assert run('info', path) == 0
    said = ' '.join(capsys.readouterr().out.split())
    for fact in ('sim_dual_arm', '48 at 50 Hz', 'failure: 1, success: 1', 'transfer_cube: 2',
                 '0: 1, 1: 1', 'left: policy 66.7%, expert 33.3%', 'right: policy 100.0%',
                 'overhead 48 x 64', 'cube, tray', 'MB'):
        assert fact in said, said


def test_verify_and_repair_exit_codes(path, tmp_path, capsys):
    import shutil

    copy = shutil.copytree(path, tmp_path / 'copy')
    assert run('verify', copy) == 0
    assert run('repair', copy) == 0
    assert 'nothing to repair' in capsys.readouterr().out
    (copy / 'data/chunk-000/file-001.parquet').unlink()
    assert run('verify', copy, '--no-decode') == 1
    assert 'repair' in capsys.readouterr().out
    assert run('repair', copy) == 0
    assert 'set aside damaged episode 1' in capsys.readouterr().out
    assert run('verify', copy) == 0


def test_plot_and_video_write_where_told(path, tmp_path, capsys):
    assert run('plot', path, '--episode', '-1', '--output', tmp_path / 'p.png') == 0
    assert (tmp_path / 'p.png').read_bytes().startswith(b'\x89PNG')
    assert run('video', path, '--output', tmp_path / 'v.mp4') == 0
    with av.open(str(tmp_path / 'v.mp4')) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (128, 96, 24)
    assert 'v.mp4 (24 frames; overhead, front, wrist_left)' in capsys.readouterr().out


def test_default_output_is_named_after_dataset_and_episode(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run('plot', path, '--episode', '1')
    assert (tmp_path / 'cubes_episode_001.png').is_file()


def test_a_dataset_without_robot_cameras_or_sources_is_shown_too(path, tmp_path, capsys):
    """As LeRobot records them: no robot.json, no column of ours."""
    from il_robot.apps.episode_plot import plot_episode
    from il_robot.data import keys
    from il_robot.data.dataset import open_dataset

    full = open_dataset(path)
    kept = (keys.STATE, keys.ACTION, *keys.REQUIRED)
    bare = replace(
        full, spec=None, features={k: full.features[k] for k in kept},
        columns={k: full.columns[k] for k in kept})
    plot_episode(bare, 0, tmp_path / 'p.png')
    assert (tmp_path / 'p.png').stat().st_size > 1000
    facts = dict(command._facts(bare))
    assert facts['who drove'] == facts['robot'] == 'not said' and facts['cameras'] == 'none'


@pytest.mark.parametrize(('words', 'message'), [
    (['plot', '--episode', '2'], 'no episode 2.*has 2, 0 to 1'),
    (['plot', '--output', 'x.jpg'], r'must end in \.png'),
    (['video', '--output', 'nowhere/x.mp4'], 'there is no folder'),
])
def test_bad_options_are_one_clear_error(path, words, message):
    with pytest.raises(DatasetError, match=message):
        run(words[0], path, *words[1:])


def test_no_cameras_is_said(synthetic, tmp_path):
    robot = synthetic.robot()
    with DatasetWriter.open(tmp_path / 'd', robot) as writer:
        writer.begin(synthetic.info())
        for step in synthetic.steps(robot, 3, objects=()):
            writer.add(step)
        writer.end()
    with pytest.raises(DatasetError, match='has no cameras'):
        run('video', tmp_path / 'd', '--output', tmp_path / 'v.mp4')
    assert not (tmp_path / 'v.mp4').exists()
