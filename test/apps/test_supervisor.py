"""The supervisor with real nodes, and ``il_robot launch`` on top of it."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip('rclpy', reason='needs rclpy', exc_type=ImportError)
sys.path.insert(0, str(Path(__file__).parent.parent / 'nodes'))

from ros_graph import ROOT, TIMEOUT, ros_domain

from il_robot.launch_options import loopback

SCRIPT = """
import sys
from il_robot.apps.supervisor import Supervisor
from il_robot.bringup import NodeSpec
sys.exit(Supervisor([{}], colour=False).run())
"""
SIM = "NodeSpec('sim', respawn=True, delay=0.1)"
ARBITER = "NodeSpec('arbiter', {'use_sim_time': True}, respawn=True, patience=1.0)"


class Running:
    """A process and its output so far."""

    def __init__(self, command, domain, folder):
        environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain), 'ROS_LOG_DIR': str(folder),
                       **loopback({}), 'OMP_NUM_THREADS': '1'}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True)
        self.lines = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self._said()), daemon=True)
        self.reader.start()

    def _said(self):
        with self.process.stdout:
            yield from self.process.stdout

    @property
    def output(self):
        return ''.join(self.lines)

    def until(self, pattern, times=1):
        end = time.monotonic() + TIMEOUT
        while len(re.findall(pattern, self.output)) < times:
            assert time.monotonic() < end and (
                self.process.poll() is None or self.reader.is_alive()), self.output
            time.sleep(0.02)

    def children(self):
        """Node name to pid."""
        found = {}
        for folder in Path('/proc').glob('[0-9]*'):
            try:
                parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
                words = (folder / 'cmdline').read_bytes().split(b'\0')
            except (OSError, IndexError):
                continue
            if parent == self.process.pid and b'-m' in words:
                found[words[words.index(b'-m') + 1].decode().rpartition('.')[2]] = int(folder.name)
        return found

    def end(self, number=None):
        """Send a signal and wait; the exit code."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(TIMEOUT)
        self.reader.join(TIMEOUT)
        return code


@pytest.fixture
def start(tmp_path):
    running = []
    with ros_domain() as domain:
        def begin(*words):
            running.append(Running([sys.executable, *words], domain, tmp_path))
            return running[-1]

        yield begin
        for one in running:
            if one.process.poll() is None:
                one.process.kill()
                one.process.wait(TIMEOUT)


@pytest.fixture
def supervise(start):
    return lambda *specs: start('-c', SCRIPT.format(', '.join(specs)))


@pytest.fixture
def launch(start):
    return lambda *words: start('-m', 'il_robot', 'launch', *words)


def gone(pid):
    """Whether a process is no more, or only waits for somebody to notice."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z'
    except OSError:
        return True


def test_prefixes_a_crash_and_a_clean_end(supervise):
    running = supervise(SIM, ARBITER)
    running.until(r'\[    sim\] .*obeying command')
    os.kill(running.children()['sim'], signal.SIGKILL)
    running.until(r'\[    sim\] died \(signal 9\)\n')
    # of the new one: the first may have said it twice, and a signal while Python imports is told
    running.until(r'\[    sim\] starts again[\s\S]*\[    sim\] .*obeying command')
    children = running.children()
    assert running.end(signal.SIGINT) == 0, running.output
    assert 'Traceback' not in running.output
    assert all(gone(pid) for pid in children.values()) and len(children) == 2


def test_a_node_that_hangs_is_stopped_with_force(supervise):
    running = supervise(ARBITER)
    while 'arbiter' not in running.children():
        time.sleep(0.02)
    os.kill(running.children()['arbiter'], signal.SIGSTOP)
    assert running.end(signal.SIGTERM) == 1
    assert re.findall('does not end on (SIG[A-Z]+)', running.output) == ['SIGINT', 'SIGTERM']


def test_nodes_do_not_outlive_a_supervisor_that_is_killed(supervise):
    running = supervise(SIM, ARBITER)
    running.until('obeying command')
    children = running.children().values()
    running.end(signal.SIGKILL)
    end = time.monotonic() + TIMEOUT
    while not all(map(gone, children)):
        assert time.monotonic() < end, children
        time.sleep(0.02)
    assert len(children) == 2


def test_a_node_that_dies_again_and_again_ends_it(supervise):
    running = supervise("NodeSpec('nothing', respawn=True, delay=0.01)")
    assert running.end() == 1
    assert len(re.findall(r'died \(exit code 1\)', running.output)) == 6
    assert 'died 6 times in a row: giving up' in running.output
    assert 'No module named il_robot.nodes.nothing' in running.output


def test_the_last_words_of_an_essential_node_are_heard_and_its_code_is_ours(supervise):
    running = supervise("NodeSpec('session', {'episodes': -1}, essential=True)")
    assert running.end() == 2
    assert 'episodes' in running.output and 'ended (exit code 2): stopping' in running.output


def test_nobody_reads_any_more(tmp_path):
    command = [sys.executable, '-c', SCRIPT.format(f'{SIM}, {ARBITER}')]
    with ros_domain() as domain:
        environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain), 'ROS_LOG_DIR': str(tmp_path),
                       **loopback({}), 'OMP_NUM_THREADS': '1'}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
        process.stdout.close()
        try:
            # the first line, `obeying command`, has nowhere to go
            assert process.wait(TIMEOUT) in (0, 120), 'Python says 120 for its own last flush'
        finally:
            process.kill()


def test_a_wrong_parameter_ends_all_with_its_message(launch):
    running = launch('demo', 'task:=lift_try')
    assert running.end() == 2
    assert "error: unknown task 'lift_try'" in running.output
    assert "did you mean 'lift_tray'" in running.output
    assert 'starts again' not in running.output


def test_a_demo_of_one_episode_ends_by_itself(launch):
    running = launch('demo', 'episodes:=1', 'lockstep:=true')
    assert running.end() == 0, running.output
    assert 'episode 1 of 1 (seed 0): success' in running.output
    assert '[session] ended (exit code 0): stopping the others' in running.output
    assert 'Traceback' not in running.output


def test_launch_prints_what_a_shell_would_start(launch):
    running = launch('demo', 'seed:=5', '--print')
    assert running.end() == 0
    assert "arbiter --ros-args -r __node:=arbiter -p 'robot:=\"sim_dual_arm\"'" in running.output
    assert 'seed:=5' in running.output


@pytest.mark.parametrize(('words', 'error'), [
    (['rcord'], "unknown launch 'rcord': did you mean 'record'"),
    (['demo', 'gui=true'], "'gui=true': write key:=value"),
    (['demo', 'gui:=maybe'], 'gui:=maybe: write true or false'),
    (['demo', 'rviz:=true'], 'needs a ROS installation: use ros2 launch il_robot demo.launch.py'),
    (['record', 'teleop:=keyboard'], 'teleop reads the keyboard: start this in a terminal'),
    (['run'], 'policy:=FOLDER is needed'),
])
def test_mistakes_are_one_line(launch, words, error, monkeypatch):
    running = launch(*words)
    running.process.wait(TIMEOUT)
    running.reader.join(TIMEOUT)
    assert running.process.returncode == 2
    assert error in running.output and len(running.lines) == 1
