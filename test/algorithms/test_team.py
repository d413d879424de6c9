"""Two processes give the result of one; the same for a run that was interrupted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import team_worker
import torch

from il_robot.algorithms.records import read_metrics
from il_robot.algorithms.team import ALONE, Team, join_team
from il_robot.errors import ConfigError
from il_robot.policies.checkpoint import load_training_state
from il_robot.policies.registry import POLICIES

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node']


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Every policy trained by one process and by two."""
    folder = tmp_path_factory.mktemp('team')
    worker = subprocess.run(
        [*TORCHRUN, '2', team_worker.__file__, folder / 'two', *POLICIES],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        capture_output=True, text=True, timeout=300)
    assert worker.returncode == 0, worker.stderr
    team_worker.run(folder / 'one', POLICIES)
    return folder


@pytest.mark.parametrize('policy', POLICIES)
def test_two_processes_give_the_result_of_one(trained, policy):
    """After 60 steps, with padding, an odd batch, noise of every kind, and a resume.

    All weights but the biases of attention keys: softmax does not see them, their gradient is 0
    but for rounding, and Adam makes full steps of whatever it gets.
    """
    one, two = (load_training_state(trained / name / policy) for name in ('one', 'two'))
    assert one.keys() == two.keys()
    for key, value in one.items():
        if key.startswith('random') and 'policy' in key:
            assert torch.equal(value, two[key]), key
        elif key.startswith(('policy.', 'averaged.')) and 'key.bias' not in key:
            torch.testing.assert_close(two[key], value, rtol=0, atol=1e-5, msg=key)
    first, second = (read_metrics(trained / name / policy) for name in ('one', 'two'))
    assert [r['step'] for r in first] == [r['step'] for r in second] == [20, 40, 60]
    for a, b in zip(first, second):
        for key in a.keys() - {'rate'}:
            assert b[key] == pytest.approx(a[key], rel=1e-5, abs=1e-6), key


def test_parts_cover_a_batch_once():
    for size in (1, 2, 3, 5):
        rows = [Team(rank, size).rows(17) for rank in range(size)]
        assert [i for part in rows for i in range(17)[part]] == list(range(17))


def test_every_process_has_its_own_gpu(monkeypatch):
    team = Team(rank=5, size=8, local_rank=1)
    assert team.device('cpu') == 'cpu' and team.device('cuda') == 'cuda:1'
    assert ALONE.device('cuda:3') == 'cuda:3'
    for there, name in ((True, 'cuda:1'), (False, 'auto')):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda there=there: there)
        assert team.device('auto') == name
    with pytest.raises(ConfigError, match='one GPU for 8 processes'):
        team.device('cuda:0')


def test_without_torchrun_one_trains_alone():
    with join_team({}) as team:
        assert team is ALONE and team.leads
        assert team.any(True) and not team.any(False) and team.first(lambda: 7) == 7


def test_a_batch_smaller_than_the_team_is_told():
    dataset = team_worker.toy.toy_dataset(2)
    with pytest.raises(ConfigError, match='batch_size=33 cannot be shared by 40 processes'):
        team_worker.bc.train(dataset, team_worker.recipe('mlp'), Path('x'), team=Team(0, 40))
