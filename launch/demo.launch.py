"""The expert solves the task in the simulator, again and again.

Arguments: ros2 launch il_robot demo.launch.py --show-args
"""

from il_robot.nodes.launching import description
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """See il_robot/bringup.py, which describes what runs."""
    return description('demo')
