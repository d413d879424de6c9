"""A policy drives; the operator or the expert takes over and gives back.

Arguments: ros2 launch il_robot correct.launch.py --show-args
"""

from launch import LaunchDescription

from il_robot.nodes.launching import description


def generate_launch_description() -> LaunchDescription:
    """See il_robot/bringup.py, which describes what runs."""
    return description('correct')
