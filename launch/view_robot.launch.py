"""Shows the robot in RViz with a slider for each joint; no simulator and no robot needed.

ros2 launch il_robot view_robot.launch.py [robot:=/path/to/robot.yaml] [rviz:=false]
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import Command, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


def generate_launch_description():
    share = FindPackageShare('il_robot')
    robot = LaunchConfiguration('robot')
    description = Command([
        'xacro ', PathJoinSubstitution([share, 'urdf', 'dual_arm.urdf.xacro']),
        ' spec:=', robot,
    ])
    return LaunchDescription([
        DeclareLaunchArgument(
            'robot',
            default_value=PathJoinSubstitution([share, 'config', 'robots', 'sim_dual_arm.yaml']),
            description='robot description (YAML) with the arms, limits and geometry',
        ),
        DeclareLaunchArgument('rviz', default_value='true', description='start RViz'),
        Node(
            package='robot_state_publisher',
            executable='robot_state_publisher',
            parameters=[{'robot_description': ParameterValue(description, value_type=str)}],
        ),
        Node(package='joint_state_publisher_gui', executable='joint_state_publisher_gui'),
        Node(
            package='rviz2',
            executable='rviz2',
            arguments=['-d', PathJoinSubstitution([share, 'config', 'rviz', 'view_robot.rviz'])],
            condition=IfCondition(LaunchConfiguration('rviz')),
        ),
    ])
