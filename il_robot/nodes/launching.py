"""NodeSpecs as launch_ros actions: what every launch/*.launch.py calls.

Imported only where ``launch`` is installed.
"""

from __future__ import annotations

import os
import shlex
import sys
import typing
from collections.abc import Mapping
from typing import Any

from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import Command, LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from il_robot.bringup import MISUSE, NodeSpec, describe
from il_robot.errors import unknown
from il_robot.launch_options import arguments, discovery_environment, parse_options

# launch compares types by identity; list[str] is another one.
_TEXTS = typing.List[str]  # noqa: UP006


def description(name: str) -> LaunchDescription:
    """The launch description of one mode, with every argument declared.

    Args:
        name: See :func:`il_robot.bringup.describe`.
    """
    declared = [
        DeclareLaunchArgument(key, default_value=default, description=text)
        for key, default, text in arguments()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_actions, args=[name])])


def _actions(context: LaunchContext, name: str) -> list[Action]:
    texts = {key: LaunchConfiguration(key).perform(context) for key, _, _ in arguments()}
    options = parse_options(texts)
    lacking, found = discovery_environment(options, os.environ)
    actions = [*_notes(context.launch_configurations), LogInfo(msg=found),
               *(SetEnvironmentVariable(key, value) for key, value in lacking.items())]
    for spec in describe(name, options):
        node = action(spec)
        # The handler first, so that it hears of a node that ends at once.
        actions += [RegisterEventHandler(_when_it_ends(spec, node)), node]
    return actions


def _notes(given: Mapping[str, str]) -> list[Action]:
    """Say which arguments nobody declared were probably meant for us; launch ignores them.

    Others may belong to a launch file that includes ours.
    """
    known = [key for key, _, _ in arguments()]
    wrong = [unknown('launch argument', key, known) for key in given if key not in known]
    return [LogInfo(msg=f'ignored: {text}') for text in wrong if 'did you mean' in text]


def _when_it_ends(spec: NodeSpec, node: Node) -> OnProcessExit:
    def ended(event: ProcessExited, context: LaunchContext) -> list[Action]:
        if context.is_shutdown:
            return []
        reason = ''
        if spec.essential or spec.terminal:
            reason = f'{spec.executable} has ended'
        elif event.returncode == MISUSE:
            reason = f'{spec.executable} refuses its parameters'
        return [LogInfo(msg=f'{reason}: stopping the others'),
                EmitEvent(event=Shutdown(reason=reason))] if reason else []

    return OnProcessExit(target_action=node, on_exit=ended)


def action(spec: NodeSpec) -> Node:
    """One NodeSpec as a launch_ros Node."""
    parameters: dict[str, Any] = dict(spec.parameters)
    for key, value in parameters.items():
        # Else launch reads texts as YAML, and a task called `1e3` becomes a number.
        if isinstance(value, str):
            parameters[key] = ParameterValue(value, value_type=str)
        elif isinstance(value, list) and isinstance(value[0], str):
            parameters[key] = ParameterValue(value, value_type=_TEXTS)
    for key, words in spec.outputs.items():
        parameters[key] = ParameterValue(Command(shlex.join(words)), value_type=str)
    return Node(
        package=spec.package, executable=spec.executable, name=spec.executable,
        parameters=[parameters] if parameters else None, arguments=list(spec.arguments),
        respawn=spec.respawn, respawn_delay=spec.delay, sigterm_timeout=str(spec.patience),
        output='screen', emulate_tty=sys.stdout.isatty())
