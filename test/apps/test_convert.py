"""``il_robot dataset convert`` as a user types it."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / 'data'))

from bag_maker import known, write_bag

from il_robot.apps.main import main
from il_robot.data.dataset import open_dataset
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec
from il_robot.types import Outcome, Source

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))

import synthetic_episodes as synthetic

SPEC = load_robot_spec(named_config('robots', 'sim_dual_arm'))


@pytest.fixture
def bags(tmp_path):
    folder = tmp_path / 'bags'
    folder.mkdir()
    for i, name in enumerate(('one', 'two')):
        steps = list(synthetic.steps(SPEC, 20, seed=i))
        write_bag(folder / name, SPEC, steps, (), known(SPEC, cameras='[]'))
    return folder


def test_a_folder_of_bags(bags, tmp_path, capsys):
    output = str(tmp_path / 'dataset')
    assert main(['dataset', 'convert', str(bags), '--output', output]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [f'one: episode 0 of {output}, 20 rows, success',
                    f'two: episode 1 of {output}, 20 rows, success']
    assert main(['dataset', 'convert', str(bags / 'two'), '--output', output]) == 0
    assert 'it is episode 1' in capsys.readouterr().out
    assert len(open_dataset(output).episodes) == 2


def test_options_count_more_than_the_bag(bags, tmp_path):
    assert main([
        'dataset', 'convert', str(bags / 'one'), '--output', str(tmp_path / 'd'), '--task', 'x',
        '--language', 'do x', '--outcome', 'failure', '--round', '4', '--driver', 'teleop',
        '--robot', 'sim_dual_arm', '--cameras']) == 0
    dataset = open_dataset(tmp_path / 'd')
    record = dataset.episodes[0]
    assert (record.task, record.language, record.outcome, record.round) == (
        'x', 'do x', Outcome.FAILURE, 4)
    assert (dataset.source == Source.TELEOP).all()


def test_one_bad_bag_does_not_stop_the_others(bags, tmp_path, capsys):
    (bags / 'one' / 'one_0.mcap').write_bytes(b'nothing')
    assert main(['dataset', 'convert', str(bags), '--output', str(tmp_path / 'd')]) == 1
    captured = capsys.readouterr()
    assert 'one: ' in captured.err and 'not an MCAP file' in captured.err
    assert 'two: episode 0' in captured.out


@pytest.mark.parametrize(('arguments', 'words'), [
    (['tow'], "unknown bag 'tow'.*did you mean 'two'"),
    (['.'], 'no bag at'),
    (['two', '--robot', 'sim_dual_arms'], 'did you mean'),
    (['two', '--robot', 'sim_dual_arm', '--cameras', 'frnt'], "did you mean 'front'"),
])
def test_what_does_not_exist_is_an_error(bags, tmp_path, capsys, arguments, words):
    import re

    (tmp_path / 'empty').mkdir()
    bag = str(tmp_path / 'empty') if arguments[0] == '.' else str(bags / arguments[0])
    code = main(['dataset', 'convert', bag, *arguments[1:], '--output', str(tmp_path / 'd')])
    assert code == 2 and re.search(words, capsys.readouterr().err)
    assert not (tmp_path / 'd').exists()


def test_names_from_standard_input(bags, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'stdin', [f'{bags / "one"}\n', f'{bags / "none"}\n'])
    assert main(['dataset', 'convert', '-', '--output', str(tmp_path / 'd')]) == 0
    one, none = map(json.loads, capsys.readouterr().out.splitlines())
    assert one['episode'] == 0 and one['rows'] == 20
    assert 'no such folder' in none['error']
