import json
import os
import signal
from pathlib import Path

import pytest

from il_robot.bench.application import Application
from il_robot.bench.pool import attempt, run_local, run_ray
from il_robot.bench.suite import Cell
from il_robot.errors import ConfigError

FAST = {'demonstrations': 1}


def cells(*experts, method='expert'):
    return [Cell(f'wheel{k}', method, 0, 3, Application('wheel:Wheel', f'wheel:{expert}', **FAST))
            for k, expert in enumerate(experts)]


def collect(run, todo, *more, **options):
    found = {}
    finished = run(todo, *more, lambda cell, result: found.update({cell.environment: result}),
                   **options)
    return finished, found


def test_what_fails_does_not_stop_the_others(tmp_path):
    finished, found = collect(
        run_local, cells('expert', 'tired', 'deadly', 'expert', 'confused'), tmp_path, 2)
    assert finished and len(found) == 5
    assert isinstance(found['wheel0'], dict) and isinstance(found['wheel3'], dict)
    assert 'raised RuntimeError: no more' in found['wheel1']
    assert 'died with exit code 3' in found['wheel2']
    assert 'answered' in found['wheel4']


def test_a_stop_leaves_what_is_not_done(tmp_path):
    done = []
    finished, found = collect(
        lambda todo, output, on_done: run_local(
            todo, output, 1, lambda c, r: (done.append(c), on_done(c, r)),
            lambda: len(done) >= 1),
        cells(*['expert'] * 4), tmp_path)
    assert not finished and 1 <= len(found) < 4
    assert run_local([], tmp_path, 2, lambda cell, result: None)  # nothing to do


def test_an_unexpected_error_comes_with_its_traceback(tmp_path):
    broken = Cell('wheel', 'expert', 0, 'three', cells('expert')[0].where)
    assert 'Traceback' in attempt(broken, tmp_path)


def test_a_killed_worker_is_replaced(tmp_path):
    here, found = os.getpid(), {}

    def on_done(cell, result):
        if not found:  # it has the next cell, or is about to get it
            with open(f'/proc/{here}/task/{here}/children') as file:
                for pid in map(int, file.read().split()):
                    with open(f'/proc/{pid}/cmdline') as words:
                        if 'spawn_main' in words.read():
                            os.kill(pid, signal.SIGKILL)
        found[cell.environment] = result

    todo = cells(*['expert'] * 3, method='bc')
    assert run_local(todo, tmp_path, 1, on_done)
    assert [isinstance(found[f'wheel{k}'], dict) for k in range(3)] == [True, False, True]
    assert 'died with exit code -9' in found['wheel1']


def test_ray_gives_the_same_as_processes_of_this_machine(tmp_path, monkeypatch):
    pytest.importorskip('ray')
    monkeypatch.setenv('PYTHONPATH', str(Path(__file__).parent))
    todo = cells('expert', 'tired', 'expert', method='bc')
    _, here = collect(run_local, todo, tmp_path, 2)
    finished, there = collect(run_ray, todo, tmp_path, 'local')
    assert finished and here.keys() == there.keys()
    assert here['wheel1'] == there['wheel1']  # why there is none
    for name in ('wheel0', 'wheel2'):
        ours, theirs = (json.loads(json.dumps(r[name]['points'])) for r in (here, there))
        assert [(p['scores'], p['labels']) for p in ours] == [
            (p['scores'], p['labels']) for p in theirs]


@pytest.mark.parametrize('address', ['auto', 'nowhere.invalid:6379', '127.0.0.1:1', 'home'])
def test_a_cluster_that_does_not_exist_is_said(tmp_path, address):
    pytest.importorskip('ray')
    with pytest.raises(ConfigError, match='no Ray cluster'):
        run_ray(cells('expert'), tmp_path, address, lambda cell, result: None)
