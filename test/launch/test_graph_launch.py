"""The graph as ``ros2 launch`` starts it: a launch_testing test for ROS installations.

Runs under ``colcon test`` and plain pytest where launch_testing is installed; elsewhere the one
test here is skipped, visibly.
"""

import fcntl
import os
import tempfile
import unittest
from pathlib import Path

import pytest

try:
    import launch_testing
except ImportError:
    def test_the_graph_under_launch():
        pytest.skip('launch_testing comes with a ROS installation only')
else:
    from launch import LaunchDescription
    from launch.actions import IncludeLaunchDescription
    from launch.launch_description_sources import PythonLaunchDescriptionSource
    from launch_testing.actions import ReadyToTest

    from il_robot.launch_options import loopback
    from il_robot.resources import resource

    TIMEOUT = 60.0

    def own_domain():
        """As test/nodes/ros_graph.py: a domain that no other test uses while we live."""
        folder = Path(tempfile.gettempdir()) / f'il_robot_ros_domains_{os.getuid()}'
        folder.mkdir(exist_ok=True)
        for i in range(100):
            domain = 1 + (os.getpid() + i) % 100
            file = (folder / str(domain)).open('w')
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                continue
            return domain, file
        raise RuntimeError('all ROS domains are in use')

    DOMAIN, _LOCK = own_domain()

    @pytest.mark.launch_test
    def generate_test_description():
        os.environ |= {'ROS_DOMAIN_ID': str(DOMAIN), **loopback({})}
        folder = tempfile.mkdtemp(prefix='il_robot_launch_')
        record = IncludeLaunchDescription(
            PythonLaunchDescriptionSource(str(resource('launch', 'record.launch.py'))),
            launch_arguments={'lockstep': 'true', 'episodes': '2', 'output': folder}.items())
        return LaunchDescription([record, ReadyToTest()]), {'folder': Path(folder)}

    class TestWhileItRuns(unittest.TestCase):
        def test_every_node_starts(self, proc_output):
            for node in ('sim', 'recorder', 'session'):
                proc_output.assertWaitFor(f'[{node}]', timeout=TIMEOUT)

        def test_episodes_are_recorded(self, proc_output):
            proc_output.assertWaitFor('episode 2 of 2 (seed 10001): success', timeout=TIMEOUT)
            proc_output.assertWaitFor('all episodes are done', timeout=TIMEOUT)

    @launch_testing.post_shutdown_test()
    class TestAfterwards(unittest.TestCase):
        def test_it_ended_by_itself_and_cleanly(self, proc_info):
            launch_testing.asserts.assertExitCodes(proc_info)

        def test_nothing_went_wrong(self, proc_output):
            text = ''.join(p.text.decode() for p in proc_output)
            assert 'Traceback' not in text, text

        def test_the_dataset_is_there(self, folder):
            from il_robot.data.dataset import open_dataset

            dataset = open_dataset(folder / 'dataset')
            assert [e.seed for e in dataset.episodes] == [10_000, 10_001]
            assert all(e.outcome.value == 'success' for e in dataset.episodes)
            assert len(list((folder / 'bags').iterdir())) == 2
