"""What runs: one description of every mode, read by ``ros2 launch`` and by ``il_robot launch``.

Neither of the two knows anything the other does not: launch/*.launch.py turns these NodeSpecs
into launch_ros actions, the command line into processes. No ROS import here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from il_robot.config import build
from il_robot.errors import ConfigError, unknown

Value = bool | int | float | str | list[str]


@dataclass(frozen=True)
class NodeSpec:
    """One process.

    Attributes:
        executable: Console script and module name in ``il_robot.nodes``.
        parameters: ROS parameters.
        essential: The launch ends when this process ends.
        respawn: Started again when it dies; ``delay`` seconds later.
        terminal: Needs the keyboard; only one such node can run.
        package: ROS package; other packages are started by ``ros2 launch`` only.
        arguments: Further command-line words.
        remappings: ROS remappings.
    """

    executable: str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    essential: bool = False
    respawn: bool = False
    terminal: bool = False
    package: str = 'il_robot'
    arguments: tuple[str, ...] = ()
    remappings: tuple[tuple[str, str], ...] = ()
    delay: float = 1.0

    @property
    def name(self) -> str:
        """Node name."""
        return self.executable

    def ros_arguments(self) -> list[str]:
        """What follows the executable on its command line."""
        words = [*self.arguments, '--ros-args', '-r', f'__node:={self.name}']
        for old, new in self.remappings:
            words += ['-r', f'{old}:={new}']
        for key, value in self.parameters.items():
            words += ['-p', f'{key}:={parameter_text(value)}']
        return words


def parameter_text(value: Value) -> str:
    """A parameter's value as ROS reads it on a command line (a float keeps its point)."""
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, list):
        return '[' + ','.join(f"'{v}'" for v in value) + ']'
    if isinstance(value, str):
        return f"'{value}'"
    return repr(value)


@dataclass(frozen=True)
class LaunchOptions:
    """Arguments of every launch: name, default and meaning in one place.

    Lists are written with commas (``cameras:=overhead,front``).
    """

    robot: str = field(default='sim', metadata={
        'help': 'sim, or real: drivers of the profile run elsewhere and speak ros2_control'})
    profile: str = field(default='sim_dual_arm', metadata={
        'help': 'robot description: a name in config/robots, or a YAML file'})
    task: str = field(default='transfer_cube', metadata={
        'help': 'transfer_cube, insert_peg or lift_tray (sim); on a real robot a name you choose'})
    language: str = field(default='', metadata={
        'help': "the instruction recorded with each episode; empty takes the task's own"})
    teleop: str = field(default='', metadata={
        'help': 'expert, keyboard, gamepad, leader, pose or none; empty: the launch decides'})
    policy: str = field(default='', metadata={
        'help': 'checkpoint or training run that drives'})
    device: str = field(default='auto', metadata={'help': 'of the policy: auto, cpu, cuda'})
    output: str = field(default='outputs/session', metadata={
        'help': 'folder of bags, dataset and results'})
    episodes: int = field(default=0, metadata={
        'help': 'run so many episodes unattended (sim), then end; 0: until stopped'})
    seed: int = field(default=-1, metadata={
        'help': 'of the first episode; -1: 0 to run and correct, 10000 to record'})
    width: str = field(default='nominal', metadata={
        'help': 'reset width: narrow, nominal, wide (sim)'})
    disturbances: str = field(default='', metadata={
        'help': 'comma-separated KEY=VALUE, for example shoves=2 (sim)'})
    cameras: str = field(default='', metadata={'help': 'comma-separated names; empty: none'})
    record: bool = field(default=True, metadata={'help': 'whether the recorder runs'})
    lockstep: bool = field(default=False, metadata={
        'help': 'the simulator waits for the command to each observation: exact, and as fast '
                'as the machine allows'})
    real_time_factor: float = field(default=1.0, metadata={
        'help': 'speed of the simulator without lockstep'})
    gui: bool = field(default=False, metadata={'help': "show the simulator's window"})
    rviz: bool = field(default=False, metadata={'help': 'start RViz (ROS installations)'})
    foxglove: bool = field(default=False, metadata={
        'help': 'start foxglove_bridge (ROS installations)'})

    def __post_init__(self) -> None:
        _choose('robot', self.robot, ('sim', 'real'))
        _choose('teleop', self.teleop, TELEOP_DEVICES)
        if self.episodes < 0:
            raise ValueError(f'episodes must be >= 0, got {self.episodes}')
        if self.real_time_factor <= 0:
            raise ValueError(f'real_time_factor must be > 0, got {self.real_time_factor}')
        if self.robot == 'real' and (self.lockstep or self.gui or self.episodes):
            raise ValueError('lockstep, gui and episodes belong to robot:=sim')


TELEOP_DEVICES = ('', 'none', 'expert', 'keyboard', 'gamepad', 'leader', 'pose')
_OPERATED = ('keyboard', 'gamepad', 'leader', 'pose')


def _choose(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise ValueError(unknown(f'value of {name}', value, filter(None, valid)))


def arguments() -> list[tuple[str, Value, str]]:
    """(name, default, help) of every launch argument."""
    table: list[tuple[str, Any, str]] = [
        (f.name, f.default, f.metadata['help']) for f in fields(LaunchOptions)]
    return table


def parse_options(texts: Mapping[str, str]) -> LaunchOptions:
    """Options from the texts of ``key:=value``.

    Raises:
        ConfigError: an unknown key, or a value that does not fit; the right ones are named.
    """
    defaults = {f.name: f.default for f in fields(LaunchOptions)}
    values: dict[str, Any] = {}
    for key, text in texts.items():
        if key not in defaults:
            raise ConfigError(unknown('launch argument', key, defaults))
        values[key] = _parse(key, text, defaults[key])
    return build(LaunchOptions, values, 'launch')


def _parse(key: str, text: str, default: Any) -> Value:
    if isinstance(default, bool):
        if text.lower() not in ('true', 'false'):
            raise ConfigError(f'{key}:={text}: write true or false')
        return text.lower() == 'true'
    if isinstance(default, (int, float)):
        try:
            return type(default)(text)
        except ValueError:
            kind = 'a whole number' if isinstance(default, int) else 'a number'
            raise ConfigError(f'{key}:={text}: write {kind}') from None
    return text


def describe(name: str, options: LaunchOptions) -> list[NodeSpec]:
    """The processes of one launch.

    Args:
        name: ``demo``, ``record``, ``run`` or ``correct``.
        options: Its arguments.

    Raises:
        ConfigError: unknown launch, or an argument is missing for it.
    """
    if name not in LAUNCHES:
        raise ConfigError(unknown('launch', name, LAUNCHES))
    first_seed = 10_000 if name == 'record' else 0
    options = replace(options, seed=first_seed if options.seed < 0 else options.seed)
    nodes = LAUNCHES[name](options)
    viewers = [_RVIZ] if options.rviz else []
    viewers += [_FOXGLOVE] if options.foxglove else []
    return [*nodes, *viewers]


def _record(o: LaunchOptions) -> list[NodeSpec]:
    """A person or the expert drives, and everything is recorded."""
    o = replace(o, teleop=o.teleop or 'expert')
    if o.teleop == 'none':
        raise ConfigError('record needs somebody who drives: teleop:=expert, keyboard, ...')
    return [*_robot(o), *_humans(o, 'never'), _arbiter(o), *_recorder(o), *_session(o, 'human')]


def _run(o: LaunchOptions) -> list[NodeSpec]:
    """A policy drives."""
    o = replace(o, teleop=o.teleop or 'none')
    return [*_robot(o), *_humans(o, 'never'), _policy(o), _arbiter(o), *_recorder(o),
            *_session(o, 'policy')]


def _correct(o: LaunchOptions) -> list[NodeSpec]:
    """A policy drives; the operator, or the expert by a rule, takes over and gives back."""
    o = replace(o, teleop=o.teleop or 'expert')
    return [*_robot(o), *_humans(o, 'rule'), _policy(o), _arbiter(o), *_recorder(o),
            *_session(o, 'policy')]


def _demo(o: LaunchOptions) -> list[NodeSpec]:
    """The expert solves the task again and again; nothing is recorded."""
    o = replace(o, teleop='expert', record=False, episodes=o.episodes or 1_000_000)
    return [*_robot(o), *_humans(o, 'never'), _arbiter(o), *_session(o, 'human')]


LAUNCHES = {'demo': _demo, 'record': _record, 'run': _run, 'correct': _correct}


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(',') if part.strip()]


def _common(o: LaunchOptions) -> dict[str, Value]:
    return {'robot': o.profile, 'use_sim_time': o.robot == 'sim'}


def _robot(o: LaunchOptions) -> list[NodeSpec]:
    if o.robot == 'real':
        return [NodeSpec('hardware', {'robot': o.profile}, respawn=True)]
    parameters: dict[str, Value] = {
        'robot': o.profile, 'task': o.task, 'seed': o.seed, 'width': o.width,
        'lockstep': o.lockstep, 'real_time_factor': o.real_time_factor, 'gui': o.gui,
    }
    if o.disturbances:
        parameters['disturbances'] = _listed(o.disturbances)
    if o.cameras:
        parameters['cameras'] = _listed(o.cameras)
    return [NodeSpec('sim', parameters, respawn=True)]


def _humans(o: LaunchOptions, gate: str) -> list[NodeSpec]:
    if o.teleop == 'expert':
        if o.robot == 'real':
            raise ConfigError('teleop:=expert knows the objects of the simulator only; on a real '
                              f'robot use {", ".join(_OPERATED)}')
        return [NodeSpec('expert', {**_common(o), 'task': o.task, 'gate': gate}, respawn=True)]
    if o.teleop in _OPERATED:
        parameters = {**_common(o), 'device': o.teleop}
        return [NodeSpec('teleop', parameters, terminal=o.teleop == 'keyboard',
                         respawn=o.teleop != 'keyboard')]
    return []


def _policy(o: LaunchOptions) -> NodeSpec:
    if not o.policy:
        raise ConfigError('policy:=FOLDER is needed: a checkpoint or run of "il_robot train"')
    return NodeSpec(
        'policy', {**_common(o), 'checkpoint': str(Path(o.policy).absolute()),
                   'device': o.device}, respawn=True)


def _arbiter(o: LaunchOptions) -> NodeSpec:
    return NodeSpec('arbiter', {**_common(o), 'lockstep': o.lockstep,
                                'resume': o.robot == 'sim'}, respawn=True)


def _recorder(o: LaunchOptions) -> list[NodeSpec]:
    if not o.record:
        return []
    parameters: dict[str, Value] = {
        **_common(o), 'output': str(Path(o.output).absolute()), 'task': o.task}
    if o.language:
        parameters['language'] = o.language
    if o.cameras:
        parameters['cameras'] = _listed(o.cameras)
    return [NodeSpec('recorder', parameters, respawn=True)]


def _session(o: LaunchOptions, driver: str) -> list[NodeSpec]:
    if not o.episodes:
        return []
    return [NodeSpec('session', {
        **_common(o), 'episodes': o.episodes, 'driver': driver, 'record': o.record,
        'task': o.task, 'output': str(Path(o.output).absolute())}, essential=True)]


_RVIZ = NodeSpec('rviz2', package='rviz2', arguments=('-d', 'config/il_robot.rviz'))
_FOXGLOVE = NodeSpec('foxglove_bridge', package='foxglove_bridge')
