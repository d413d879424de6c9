"""NodeSpecs as launch_ros actions: what every launch/*.launch.py calls.

Imported only where ``launch`` is installed.
"""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from il_robot.bringup import NodeSpec, Value, arguments, describe, parameter_text, parse_options


def description(name: str) -> LaunchDescription:
    """The launch description of one mode, with every argument declared.

    Args:
        name: See :func:`il_robot.bringup.describe`.
    """
    declared = [
        DeclareLaunchArgument(key, default_value=_plain(default), description=text)
        for key, default, text in arguments()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_nodes, args=[name])])


def _plain(value: Value) -> str:
    return value if isinstance(value, str) else parameter_text(value)


def _nodes(context: LaunchContext, name: str) -> list[object]:
    texts = {key: LaunchConfiguration(key).perform(context) for key, _, _ in arguments()}
    actions: list[object] = []
    for spec in describe(name, parse_options(texts)):
        node = action(spec)
        actions.append(node)
        if spec.essential or spec.terminal:
            stop = EmitEvent(event=Shutdown(reason=f'{spec.name} has ended'))
            actions.append(
                RegisterEventHandler(OnProcessExit(target_action=node, on_exit=[stop])))
    return actions


def action(spec: NodeSpec) -> Node:
    """One NodeSpec as a launch_ros Node."""
    return Node(
        package=spec.package, executable=spec.executable, name=spec.name,
        parameters=[dict(spec.parameters)] if spec.parameters else None,
        remappings=list(spec.remappings), arguments=list(spec.arguments),
        respawn=spec.respawn, respawn_delay=spec.delay, output='screen',
        emulate_tty=spec.terminal)
