"""Every example runs, in short form, in a process of its own as a user would start it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHORT = {
    'ppo': ['--steps', '4096'], 'gail': ['--steps', '2048'], 'rlpd': ['--steps', '1200'],
    'residual': ['--minutes', '0.05', '--demonstrations', '2', '--steps', '20', '--episodes', '2'],
}


def test_every_example_is_tried():
    assert {p.stem for p in (ROOT / 'examples').glob('*.py')} == SHORT.keys()


@pytest.mark.parametrize('name', SHORT)
def test_an_example_runs(name, tmp_path):
    more = ['--output', str(tmp_path)] if name == 'residual' else []
    done = subprocess.run(
        [sys.executable, str(ROOT / 'examples' / f'{name}.py'), *SHORT[name], *more],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr
    assert ('return' if name != 'residual' else 'at the end') in done.stdout
