"""Children of a launch and of a node: who gets Ctrl-C, and how much of the processor."""

import os
import subprocess
import sys

import pytest

from il_robot.processes import apart


@pytest.mark.skipif(sys.version_info < (3, 11), reason='Popen has no process_group')
def test_a_child_apart_has_its_own_group_and_our_session():
    """To a session of its own Linux would give as much of the processors as to all of us."""
    child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE, **apart())
    try:
        assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
        assert os.getsid(child.pid) == os.getsid(0)
    finally:
        child.communicate(b'\n')
