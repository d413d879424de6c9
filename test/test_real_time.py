"""What a process asks of the operating system: each in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from il_robot.real_time import RealTime

ASK = """
import json, os, threading, time
from il_robot.real_time import RealTime, make_real_time
beside = threading.Thread(target=time.sleep, args=(5,), daemon=True)
beside.start()
{before}
granted, refused = make_real_time(RealTime({wanted}))
threads = [int(t) for t in os.listdir('/proc/self/task')]
child = os.fork()
if child == 0:
    os._exit(os.sched_getscheduler(0) & 0xff)
status = dict(l.split(':', 1) for l in open('/proc/self/status').read().splitlines())
print(json.dumps({{
    'granted': granted, 'refused': refused,
    'cpus': [sorted(os.sched_getaffinity(t)) for t in threads],
    'policies': [os.sched_getscheduler(t) & 0xff for t in threads],
    'of_child': os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]),
    'locked_kb': int(status['VmLck'].split()[0])}}), flush=True)
os._exit(0)
"""
NOBODY = """
import resource
for limit in (resource.RLIMIT_MEMLOCK, resource.RLIMIT_RTPRIO):
    resource.setrlimit(limit, (0, 0))
if os.geteuid() == 0:
    os.setuid(65534)
"""
LINUX = pytest.mark.skipif(sys.platform != 'linux', reason='Linux only')


def asked(wanted, before=''):
    done = subprocess.run([sys.executable, '-c', ASK.format(wanted=wanted, before=before)],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@LINUX
def test_all_threads_stay_on_the_processors_asked_for():
    one = min(os.sched_getaffinity(0))
    said = asked(f'cpus=({one},)')
    assert said['granted'] == [f'on cpus {one}'] and not said['refused']
    assert len(said['cpus']) > 1 and all(cpus == [one] for cpus in said['cpus'])


@LINUX
def test_processors_that_are_not_there_are_refused_and_named():
    said = asked('cpus=(4000,)')
    assert not said['granted']
    (sentence,) = said['refused']
    there = ', '.join(map(str, sorted(os.sched_getaffinity(0))))
    assert sentence == f'cpus 4000: this process may use {there}'
    assert set(map(tuple, said['cpus'])) == {tuple(sorted(os.sched_getaffinity(0)))}


@LINUX
def test_who_has_no_permission_goes_on_and_is_told_what_to_write():
    said = asked('priority=20, lock_memory=True', NOBODY)
    assert not said['granted'] and said['locked_kb'] == 0
    memory, priority = said['refused']
    assert 'memlock unlimited' in memory and 'rtprio 98' in priority
    assert set(said['policies']) == {os.SCHED_OTHER}


@LINUX
@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() != 0, reason='needs root')
def test_priority_and_memory_where_they_are_permitted():
    said = asked('priority=20, lock_memory=True')
    if said['refused']:
        pytest.skip(f'this machine refuses: {said["refused"]}')
    assert said['granted'] == ['memory locked', 'SCHED_FIFO 20']
    assert set(said['policies']) == {os.SCHED_FIFO} and len(said['policies']) > 1
    assert said['of_child'] == os.SCHED_OTHER  # what trains must not starve a robot
    assert said['locked_kb'] > 1000


@LINUX
def test_nothing_asked_changes_nothing():
    said = asked('')
    assert not said['granted'] and not said['refused']
    assert set(said['policies']) == {os.SCHED_OTHER} and said['locked_kb'] == 0


@pytest.mark.parametrize(('wrong', 'right'), [
    ({'priority': 99}, 'from 1 to 98'), ({'priority': -1}, 'from 1 to 98'),
    ({'cpus': (-1,)}, 'from 0 on')])
def test_a_wrong_wish_is_refused(wrong, right):
    with pytest.raises(ValueError, match=right):
        RealTime(**wrong)
