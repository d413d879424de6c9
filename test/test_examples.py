"""Every example runs, in short form, in a process of its own as a user would start it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SMALL = ['--demonstrations', '2', '--steps', '20', '--episodes', '2']
SHORT = {
    'ppo': ['--steps', '4096'], 'gail': ['--steps', '2048'], 'rlpd': ['--steps', '1200'],
    'residual': ['--minutes', '0.05', *SMALL], 'filtered': ['--minutes', '0.05', *SMALL],
    'bc': SMALL, 'chunks': [*SMALL, '--policy', 'flow'],
    'dagger': [*SMALL, '--rounds', '1', '--gate', 'lazy', '--tries', '2'],
    'benchmark': ['--seeds', '0', '--methods', 'bc'],
}
SAYS = {
    'ppo': 'return', 'gail': 'return', 'rlpd': 'return', 'residual': 'at the end',
    'filtered': 'at the end', 'bc': 'success 0.', 'chunks': 'of 2 = ',
    'dagger': 'round 1 (lazy)', 'benchmark': 'report.html'}


def test_every_example_is_tried():
    assert {p.stem for p in (ROOT / 'examples').glob('*.py')} == SHORT.keys()


@pytest.mark.parametrize('name', SHORT)
def test_an_example_runs(name, tmp_path):
    flat = name in ('ppo', 'gail', 'rlpd')  # write nothing
    more = [] if flat else ['--output', str(tmp_path / 'out')]
    done = subprocess.run(
        [sys.executable, str(ROOT / 'examples' / f'{name}.py'), *SHORT[name], *more],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
