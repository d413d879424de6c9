"""What a node of a launch that keeps to this machine talks through."""

import os
import sys
from pathlib import Path

import pytest
from sensor_msgs.msg import JointState

from il_robot.nodes import topics

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
LOOPBACK = '0100007F'  # 127.0.0.1 as the kernel writes it


def test_a_node_listens_to_this_machine_alone_and_shares_no_memory_with_others(graph):
    process = graph.start('sim')
    states = graph.collect(JointState, topics.JOINT_STATES, topics.STATE_QOS)
    graph.until(lambda: states)
    proc = Path('/proc', str(process.popen.pid))
    assert '/dev/shm/fastdds' not in (proc / 'maps').read_text(), (
        'shared memory: who is killed while he has it locked stops all others')
    links = [os.readlink(fd) for fd in (proc / 'fd').iterdir()]
    inodes = {link[8:-1] for link in links if link.startswith('socket:')}
    rows = [line.split() for line in (proc / 'net' / 'udp').read_text().splitlines()[1:]]
    addresses = [row[1].partition(':')[0] for row in rows if row[9] in inodes]
    assert addresses and set(addresses) == {LOOPBACK}
