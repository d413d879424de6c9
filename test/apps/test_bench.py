import json
from pathlib import Path

import pytest

from il_robot.apps.main import main
from il_robot.bench import suite as suites

BENCH = str(Path(__file__).parent.parent / 'bench')
SUITE = """
about: two of everything
applications:
  wheel: {env: 'wheel:Wheel', expert: 'wheel:expert', demonstrations: 2, steps: 400}
scenes:
  cube: {task: transfer_cube, demonstrations: [2]}
methods: [bc]
pipelines:
  chunk: {policy: chunk_mlp, changes: [training.steps=20, 'model.hidden=[8]']}
strengths: {shoves: [1]}
seeds: [0, 1]
episodes: 2
"""


@pytest.fixture(autouse=True)
def wheel_importable(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / 'small.yaml'
    path.write_text(SUITE)
    return str(path)


def bench(*words):
    return main(['bench', *map(str, words)])


def test_a_suite_of_both_kinds_runs_and_goes_on(suite, tmp_path, capsys):
    output, readme = tmp_path / 'out', tmp_path / 'README.md'
    readme.write_text('<!-- bench: small chunk -->\n<!-- end of bench -->\n')
    assert bench('--suite', suite, '--output', output, '--seeds', 0, '--workers', 1) == 0
    assert 'small: 6 to run' in capsys.readouterr().out
    assert bench('--suite', suite, '--output', output, '--workers', 2, '--into', readme) == 0
    printed = capsys.readouterr().out
    assert 'small: 2 to run' in printed and 'README.md: 1 tables' in printed
    assert '| chunk |' in readme.read_text()
    report = (output / 'report.md').read_text()
    assert f'il_robot bench --suite {suite} --output outputs/out_again' in report
    assert 'cube under shoves' in report and 'two of everything' in report
    result = json.loads((output / 'results/cube/chunk/1.json').read_text())
    assert [strength for strength, _ in result['robustness']['shoves']] == [0, 1]


def test_a_part_may_lack_the_scenes_of_a_pipeline(tmp_path, capsys):
    suite = tmp_path / 'two.yaml'
    suite.write_text(
        'scenes: {cube: {demonstrations: [2]}, tray: {task: lift_tray}}\n'
        'pipelines:\n'
        "  chunk: {policy: chunk_mlp, changes: [training.steps=20, 'model.hidden=[8]']}\n"
        '  gail: {flat: gail, steps: 10, scenes: [tray]}\n'
        'seeds: [0]\nepisodes: 1\n')
    assert bench('--suite', suite, '--output', tmp_path / 'out', '--environments', 'cube') == 0
    assert 'two: 3 to run' in capsys.readouterr().out
    suite.write_text(suite.read_text().replace('[tray]', '[tary]'))
    assert bench('--suite', suite, '--output', tmp_path / 'out') == 2
    assert "two.yaml: gail: unknown scene 'tary': did you mean 'tray'" in capsys.readouterr().err


def test_a_part_is_only_that_part(suite, tmp_path, capsys):
    output = tmp_path / 'out'
    assert bench('--suite', suite, '--output', output, '--methods', 'chunk', '--seeds', 0) == 0
    assert 'small: 3 to run' in capsys.readouterr().out
    assert not (output / 'results/wheel').exists()
    report = (output / 'report.md').read_text()
    assert '--methods chunk --environments cube --seeds 0' in report


def test_your_own_environment_and_expert(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(BENCH)
    output = tmp_path / 'out'
    assert bench('--env', 'wheel:Wheel', '--expert', 'wheel:expert', '--methods', 'bc', '--seeds',
                 0, '--output', output) == 0
    assert 'wheel:Wheel' in (output / 'report.md').read_text()


def test_what_failed_is_kept_said_and_tried_again(tmp_path, capsys):
    path = tmp_path / 'bad.yaml'
    path.write_text(SUITE.replace('wheel:expert', 'wheel:tired').partition('scenes')[0]
                    + 'methods: [bc]\nseeds: [0]\nepisodes: 1\n')
    output = tmp_path / 'out'
    for _ in range(2):
        assert bench('--suite', path, '--output', output) == 1
        said = capsys.readouterr()
        assert 'raised RuntimeError: no more' in said.err and 'bad: ' in said.out
    assert 'no more' in (output / suites.FAILED / 'wheel/bc/0.txt').read_text()


@pytest.mark.parametrize(('words', 'says'), [
    ([], 'give --suite, or --env and --expert'),
    (['--suite', 'quick', '--env', 'CartPole-v1'], 'give --suite, or'),
    (['--env', 'CartPole-v1'], '--expert'),
    (['--suite', 'quik'], 'quick'),
    (['--suite', 'quick', '--methods', 'bcc'], "did you mean 'bc'"),
    (['--suite', 'quick', '--environments', 'cart'], 'cartpole'),
    (['--suite', 'quick', '--seeds', '0', '--ray', 'nowhere.invalid:1'], 'Ray'),
    (['--suite', 'quick', '--seeds', '0', '0'], 'seeds must differ'),
    (['--suite', 'quick', '--workers', '0'], '--workers must be'),
    (['--suite', 'quick', '--workers', '2', '--ray', 'auto'], '--workers is for this machine'),
    (['--env', 'CartPole-v1', '--expert', 'il_robot.bench.experts:cartpole', '--methods',
      'sac_demos'], 'numbers'),
])
def test_mistakes_are_said_in_one_line(tmp_path, capsys, words, says):
    assert bench(*words, '--output', tmp_path / 'out') == 2
    error = capsys.readouterr().err
    assert says in error and 'Traceback' not in error


