"""A person or the expert drives, and everything is recorded.

Arguments: ros2 launch il_robot record.launch.py --show-args
"""

from launch import LaunchDescription

from il_robot.nodes.launching import description


def generate_launch_description() -> LaunchDescription:
    """See il_robot/bringup.py, which describes what runs."""
    return description('record')
