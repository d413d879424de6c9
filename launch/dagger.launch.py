"""Rounds of live correction: collect, train, evaluate, swap the running policy.

Arguments: ros2 launch il_robot dagger.launch.py --show-args
"""

from launch import LaunchDescription

from il_robot.nodes.launching import description


def generate_launch_description() -> LaunchDescription:
    """See il_robot/bringup.py, which describes what runs."""
    return description('dagger')
