"""The demo: what it runs, what it remembers, how it goes on."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from il_robot.apps import demo, demo_report
from il_robot.apps.main import build_parser, main
from il_robot.launch_options import parse_options

ROOT = Path(__file__).parents[2]
SMALL = ('--demonstrations', '3', '--corrections', '2', '--episodes', '5', '--topic-episodes', '2')


def record(dataset, number, episodes, seed):
    """Episodes of two rows, the second corrected, into a dataset."""
    from il_robot.data.writer import DatasetWriter
    from il_robot.resources import named_config
    from il_robot.spec import load_robot_spec
    from il_robot.types import EpisodeInfo, Observation, Outcome, Source, Step

    spec = load_robot_spec(named_config('robots', 'sim_dual_arm'))
    with DatasetWriter.open(dataset, spec, (), ()) as writer:
        for i in range(episodes):
            writer.begin(EpisodeInfo('transfer_cube', 'hand it over', seed=seed + i, round=number))
            for row in range(4):
                writer.add(Step(Observation(0.02 * row, spec.rest), spec.rest,
                                (Source.EXPERT,) * 2, intervention=number > 0 and row in (1, 2)))
            writer.end(Outcome.SUCCESS)


class FakeCommands:
    """Stands in for the commands: leaves what they would; ``code`` of the n-th can be set."""

    def __init__(self, out):
        self.out, self.words, self.codes = out, [], {}

    def __call__(self, words):
        self.words.append(words)
        build_parser().parse_args(words)  # ends the test where a command has no such option
        code = self.codes.get(len(self.words), 0)
        options = dict(w.split(':=') for w in words if ':=' in w)
        if words[0] == 'launch':
            launched = parse_options(options)
            if words[1] == 'run':
                folder = Path(launched.output)
                folder.mkdir(parents=True)
                result = {'success_rate': 0.5, 'interval_95': [0.1, 0.9], 'episodes': 2}
                (folder / 'session.json').write_text(json.dumps(result))
            elif words[1] == 'dagger':
                folder = Path(launched.output)
                record(folder / 'dataset', 0, 3, 10_000)
                record(folder / 'dataset', 1, launched.episodes, 30_000)
                (folder / 'rounds.json').write_text(json.dumps({'past': [
                    {'number': 1, 'taken': not code, 'reason': 'the disk is full'}]}))
            else:
                done = launched.episodes if not code else launched.episodes - 1
                record(Path(launched.output) / 'dataset', 0, done, launched.seed)
        elif words[0] == 'train' and '--resume' not in words:
            (Path(words[words.index('--output') + 1]) / 'checkpoints').mkdir(parents=True)
        elif words[0] == 'evaluate':
            summary = {'success_rate': 0.8, 'interval_95': [0.6, 0.9], 'episodes': 5}
            path = Path(words[words.index('--output') + 1])
            path.write_text(json.dumps({'summary': summary}))
        return code


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', '1')
    monkeypatch.setattr(demo, 'find_spec', lambda name: object())
    return tmp_path / 'demo'


@pytest.fixture
def commands(out, monkeypatch):
    fake = FakeCommands(out)
    monkeypatch.setattr(demo, '_call', fake)
    return fake


def run(out, *words):
    return main(['demo', '--output', str(out), *SMALL, *words])


def test_over_topics(out, commands, capsys):
    assert run(out) == 0
    assert [words[:2] if words[0] == 'launch' else words[:1] for words in commands.words] == [
        ['launch', 'record'], ['train'], ['launch', 'dagger'],
        *[['evaluate']] * 4, ['launch', 'run']]
    said = capsys.readouterr().out
    for words in commands.words:
        assert f'$ il_robot {" ".join(words[:2])}' in said
    assert '2, 50% of the time' in said, 'two corrections of half an episode'
    assert '2 seeds, over topics' in said and '50.0 % [10.0, 90.0]' in said
    assert (out / demo_report.PICTURE).stat().st_size > 1000
    evaluated = {words[2] for words in commands.words if words[0] == 'evaluate'}
    assert evaluated == {str(out / 'round_0'), str(out / 'live' / 'rounds' / '02' / 'run')}


def test_no_seed_is_used_twice(out, commands):
    assert run(out) == 0
    recorded = {name: int(w.removeprefix('seed:=')) for words in commands.words
                for name in words[1:2] for w in words if w.startswith('seed:=')}
    assert recorded == {'record': 10_000}, 'dagger has seeds of its own'
    assert {*commands.words[-1][:2]} == {'launch', 'run'}, 'with the seeds of the evaluation'
    assert not any(w.startswith('seed:=') for w in commands.words[-1])


def test_goes_on_where_it_was_stopped(out, commands, capsys):
    commands.codes = {1: 130}
    assert run(out) == 130
    again = f'il_robot demo --output {out} --demonstrations 3 --corrections 2 --episodes 5'
    assert again in capsys.readouterr().err
    commands.codes = {4: 130}
    assert run(out) == 130
    first, second, train, dagger = commands.words
    assert {'episodes:=3', 'seed:=10000'} <= {*first}
    assert {'episodes:=1', 'seed:=10002'} <= {*second}, 'two of three were recorded'
    commands.codes = {}
    assert run(out) == 0
    assert commands.words[4] == dagger and dagger[:2] == ['launch', 'dagger']
    assert run(out) == 0
    assert capsys.readouterr().out.count('done before') == 2 + 8
    seconds = json.loads((out / demo.LEDGER).read_text())
    assert len(seconds['done']) == 8 and not seconds['begun']


def test_a_training_that_was_begun_is_resumed(out, commands):
    commands.codes = {2: 130}
    assert run(out) == 130
    run(out)
    assert commands.words[2] == ['train', '--output', str(out / 'round_0'), '--resume']


def test_a_launch_that_ends_too_early_is_not_taken_for_done(
        out, commands, capsys, monkeypatch):
    commands.codes = {1: 1}
    assert run(out) == 1
    monkeypatch.setattr(demo, '_call', lambda words: 0)
    assert run(out) == 2
    assert 'has 2 of 3 demonstrations' in capsys.readouterr().err


def test_a_round_without_a_new_policy_ends_the_demo(out, commands, capsys, monkeypatch):
    before = demo._call

    def call(words):
        code = before(words)
        if words[:2] == ['launch', 'dagger']:
            path = out / 'live' / 'rounds.json'
            path.write_text(path.read_text().replace('true', 'false'))
        return code

    monkeypatch.setattr(demo, '_call', call)
    assert run(out) == 2
    assert 'no new policy: the disk is full' in capsys.readouterr().err


def test_without_shoves_nothing_is_disturbed(out, commands):
    assert run(out, '--shoves', '0') == 0
    assert not any('shoves=' in word for words in commands.words for word in words)
    assert sum(words[0] == 'evaluate' for words in commands.words) == 2


def test_other_options_need_another_folder(out, commands, capsys):
    run(out)
    assert run(out, '--shoves', '1') == 2
    assert 'shoves: 2 | 1' in capsys.readouterr().err
    (out.parent / 'mine').mkdir()
    (out.parent / 'mine' / 'thesis.txt').touch()
    assert main(['demo', '--output', str(out.parent / 'mine')]) == 2
    assert 'is not empty and no demo' in capsys.readouterr().err


@pytest.mark.parametrize('words', [
    ('--demonstrations', '1'), ('--corrections', '0'), ('--episodes', '0'), ('--shoves', '-1')])
def test_numbers_that_make_no_sense(out, commands, words):
    assert run(out, *words) == 2 and not commands.words and not out.exists()


def test_without_ros_it_says_so_and_runs_in_process(out, commands, monkeypatch, capsys):
    monkeypatch.setattr(demo, 'find_spec', lambda name: None)
    record(out.parent / 'recorded', 0, 3, 10_000)
    before = demo._call

    def call(words):
        if words[0] == 'record':
            (out.parent / 'recorded').rename(out / 'dataset')
        return before(words)

    monkeypatch.setattr(demo, '_call', call)
    assert run(out) == 0
    said = capsys.readouterr().out
    assert 'ROS 2 is not installed here' in said
    assert [words[0] for words in commands.words] == ['record', 'train', 'evaluate']
    assert 'corrections' not in said.split('il_robot demo')[-1]


def test_ctrl_c_waits_for_the_command_and_is_remembered(tmp_path):
    """The command ends well on Ctrl-C; that it was interrupted must not be lost."""
    script = (
        'import signal, sys\n'
        'signal.signal(signal.SIGINT, signal.default_int_handler)\n'
        'from il_robot.apps import demo\n'
        'class Child:\n'
        '    calls = 0\n'
        '    def __init__(self, words): pass\n'
        '    def wait(self):\n'
        '        Child.calls += 1\n'
        '        if Child.calls == 1: signal.raise_signal(signal.SIGINT)\n'
        '        return 0\n'
        'demo.subprocess.Popen = Child\n'
        "assert demo._call(['x']) == 130 and Child.calls == 2\n"
        "assert demo._call(['x']) == 0\n")
    subprocess.run([sys.executable, '-c', script], check=True, cwd=ROOT)


def test_the_table_of_many_rows_draws(tmp_path):
    value = demo_report.Measured(50.0, 40.0, 60.0)
    rows = {'a': [value, value], 'b': [None, value]}
    demo_report.plot(rows, ['before', 'after'], tmp_path / 'p.png')
    assert (tmp_path / 'p.png').stat().st_size > 1000
    assert str(value) == '50.0 % [40.0, 60.0]'
    assert np.isclose(value.high - value.low, 20.0)
