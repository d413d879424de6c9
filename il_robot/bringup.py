"""What runs: one description of every mode, read by ``ros2 launch`` and by ``il_robot launch``.

Neither of the two knows anything the other does not: launch/*.launch.py turns these NodeSpecs
into launch_ros actions, the command line into processes. No ROS import here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from il_robot.checkpoints import camera_arguments, recorded_cameras
from il_robot.config import load_yaml
from il_robot.errors import ConfigError, unknown
from il_robot.launch_options import (
    FIRST_SEEDS,
    LAUNCH_NAMES,
    OPERATED,
    ROBOT_GATED,
    LaunchOptions,
    listed,
)
from il_robot.resources import named_config, resource
from il_robot.spec import RobotSpec, load_robot_spec

Value = bool | int | float | str | list[str] | list[int]

MISUSE = 2
"""Exit code of a node whose parameters are wrong (:func:`il_robot.nodes.node.run_node`)."""


@dataclass(frozen=True)
class NodeSpec:
    """One process.

    Attributes:
        executable: Console script and module name in ``il_robot.nodes``; also the node's name.
        parameters: ROS parameters.
        outputs: Parameters that are the output of a command (``robot_description``).
        arguments: Further words of the command line.
        package: ROS package; other packages than ours are started by ``ros2 launch`` only.
        essential: The launch ends when this process ends.
        terminal: Needs the keyboard; only one such node can run, and the launch ends with it.
        respawn: Started again ``delay`` seconds after it died; but when it ended with
            :data:`MISUSE` the launch ends, because it would end so again.
        delay: See ``respawn`` [s].
        patience: How long it may take to end after SIGINT [s].
    """

    executable: str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    outputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    package: str = 'il_robot'
    essential: bool = False
    terminal: bool = False
    respawn: bool = False
    delay: float = 1.0
    patience: float = 6.0

    def ros_arguments(self) -> list[str]:
        """What follows the executable on its command line."""
        words = [*self.arguments, '--ros-args', '-r', f'__node:={self.executable}']
        for key, value in self.parameters.items():
            words += ['-p', f'{key}:={parameter_text(value)}']
        return words


def parameter_text(value: Value) -> str:
    """A parameter's value in YAML, as ROS reads it on a command line.

    Texts are quoted and a float keeps its point, so that no type is guessed.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            return '.nan' if math.isnan(value) else '.inf' if value > 0 else '-.inf'
        text = repr(value)
        return text if '.' in text else text.replace('e', '.0e')
    # What JSON writes is YAML; but not its escapes of characters beyond 16 bits.
    return json.dumps(value, ensure_ascii=False)


def describe(name: str, options: LaunchOptions) -> list[NodeSpec]:
    """The processes of one launch.

    Args:
        name: ``demo``, ``record``, ``run``, ``correct`` or ``dagger``.
        options: Its arguments.

    Raises:
        ConfigError: unknown launch, robot or camera, or an argument that it lacks.
    """
    if name not in LAUNCHES:
        raise ConfigError(unknown('launch', name, LAUNCHES))
    path = named_config('robots', options.profile)
    spec = load_robot_spec(path)
    if options.robot == 'real':
        spec.wiring  # noqa: B018  raises where the profile does not say how it is wired
    options = _with_cameras(options, name, spec)
    if options.robot == 'sim' and options.seed < 0:
        options = replace(options, seed=FIRST_SEEDS.get(name, 0))
    if options.profile.endswith(('.yaml', '.yml')):
        options = replace(options, profile=str(path.absolute()))
    return [*LAUNCHES[name](options), *_viewers(options, spec, path)]


def _with_cameras(o: LaunchOptions, name: str, spec: RobotSpec) -> LaunchOptions:
    """The cameras by name, beside them what the policy sees; as large as that was recorded.

    Raises:
        ConfigError: the robot lacks one, or the policy needs one that is left out.
    """
    wanted = [c.name for c in spec.cameras] if o.cameras == 'all' else listed(o.cameras)
    names = [spec.camera(c).name for c in wanted]
    seen = recorded_cameras(o.policy) if o.policy and name in DRIVEN else {}
    known = [c.name for c in spec.cameras]
    for camera in seen:
        if camera not in known:
            raise ConfigError(
                f'policy:={o.policy} looks at a camera that {spec.name} lacks: '
                f'{unknown("camera", camera, known)}')
        if names and camera not in names:
            raise ConfigError(
                f'policy:={o.policy} looks at {", ".join(seen)}; add {camera} to cameras:=, or '
                f'leave that out')
    o = replace(o, cameras=','.join(names or seen))
    if o.robot == 'sim' and not o.image_size:
        size = camera_arguments(seen, spec).get('image_size', [])
        o = replace(o, image_size='x'.join(str(side) for side in size))
    return o


def _demo(o: LaunchOptions) -> list[NodeSpec]:
    """The expert solves the task in the simulator, again and again; nothing is recorded."""
    if o.robot == 'real':
        raise ConfigError('demo shows the expert, which knows the simulator only: robot:=sim')
    o = replace(o, teleop='expert', record=False)
    return [*_robot(o), *_human(o, 'never'), _arbiter(o), _session(o, 'human')]


def _record(o: LaunchOptions) -> list[NodeSpec]:
    """A person or the expert drives, and everything is recorded."""
    o = _with_human(o, 'record')
    nodes = [*_robot(o), *_human(o, 'never'), _arbiter(o), *_recorder(o)]
    if o.robot == 'sim':
        nodes.append(_session(o, 'human' if o.teleop == 'expert' else 'operator'))
    return nodes


def _run(o: LaunchOptions) -> list[NodeSpec]:
    """A policy drives; a person may stop it and take over."""
    if o.gate != 'rule':
        raise ConfigError(f'gate:={o.gate} lets somebody correct: launch correct or dagger')
    o = replace(o, teleop=o.teleop or 'none', round=max(o.round, 0))
    return _with_policy(o, 'never')


def _correct(o: LaunchOptions) -> list[NodeSpec]:
    """A policy drives; the operator or the expert takes over and gives back, by a rule or gate."""
    o = _with_human(replace(o, round=1 if o.round < 0 else o.round), 'correct')
    # A correction takes its time: longer than the simulator gives a policy alone.
    return _with_policy(o, _answers(o), max_seconds=20.0)


def _dagger(o: LaunchOptions) -> list[NodeSpec]:
    """Rounds of correction: collect, train, evaluate, swap the policy of the running node."""
    if o.robot == 'real':
        raise ConfigError(
            'dagger resets and evaluates in the simulator: robot:=sim. On a real robot, launch '
            'correct, train on its dataset, and load the result with policy/reload')
    if not o.record:
        raise ConfigError('dagger learns from what it records: leave out record:=false')
    o = _with_human(replace(o, round=1, episodes=o.episodes or 10), 'dagger')
    environment = ['--task', _task(o), '--width', o.width]
    for option, texts in (('--disturb', o.disturbances), ('--task-option', o.task_options)):
        environment += [word for text in listed(texts) for word in (option, text)]
    parameters: dict[str, Value] = {
        **_common(o), 'output': str(Path(o.output).absolute()),
        'assess': o.budget if o.gate in ROBOT_GATED else 0.0,
        'policy': str(Path(o.policy).absolute()), 'recipe': o.recipe, 'environment': environment,
        'seed': o.seed, 'rounds': o.rounds, 'episodes': o.episodes,
        'corrections': o.corrections, 'evaluate_episodes': o.evaluate,
        'warm_steps': o.warm_steps, **_lists(o, 'settings')}
    if o.dataset:
        parameters['dataset'] = str(Path(o.dataset).absolute())
    # A child that trains must have time to save a checkpoint.
    rounds = NodeSpec('dagger', parameters, essential=True, patience=30.0)
    return [*_robot(o), *_human(o, _answers(o)), _policy(o), *_gate(o), _arbiter(o),
            *_recorder(o), rounds]


DRIVEN = ('run', 'correct', 'dagger')
"""Launches in which a policy drives."""
LAUNCHES = dict(zip(LAUNCH_NAMES, (_demo, _record, _run, _correct, _dagger), strict=True))


def _with_human(o: LaunchOptions, name: str) -> LaunchOptions:
    teleop = o.teleop or ('expert' if o.robot == 'sim' else 'none')
    if teleop == 'none':
        raise ConfigError(f'{name} needs somebody who drives; give teleop:= one of '
                          f'{", ".join(OPERATED if o.robot == "real" else ("expert", *OPERATED))}')
    return replace(o, teleop=teleop, round=max(o.round, 0))


def _with_policy(o: LaunchOptions, gate: str, max_seconds: float = 0.0) -> list[NodeSpec]:
    nodes = [*_robot(o), *_human(o, gate), _policy(o), *_gate(o), _arbiter(o), *_recorder(o)]
    if o.robot == 'sim':
        # An operator who has all the time begins and ends the episodes himself.
        alone = o.teleop in ('none', 'expert') or o.episodes
        nodes.append(_session(o, 'policy' if alone else 'operator', max_seconds))
    return nodes


def _common(o: LaunchOptions) -> dict[str, Value]:
    return {'robot': o.profile, 'use_sim_time': o.robot == 'sim'}


def _real_time(o: LaunchOptions, below: int = 0) -> dict[str, Value]:
    """Of a node that must not wait; those below it wait for it."""
    given: dict[str, Value] = {}
    if o.real_time:
        given |= {'priority': o.real_time - below, 'lock_memory': True}
    return given | ({'cpus': o.cpus} if o.cpus else {})


def _robot(o: LaunchOptions) -> list[NodeSpec]:
    if o.robot == 'real':
        return [NodeSpec('hardware', {**_common(o), 'dry_run': o.dry_run, **_real_time(o)},
                         respawn=True)]
    parameters: dict[str, Value] = {
        'robot': o.profile, 'task': _task(o), 'seed': o.seed, 'width': o.width,
        'lockstep': o.lockstep, 'real_time_factor': o.real_time_factor, 'gui': o.gui,
        **_lists(o, 'task_options', 'disturbances', 'cameras'), **_real_time(o),
    }
    if o.image_size:
        parameters['image_size'] = [int(side) for side in o.image_size.split('x')]
    return [NodeSpec('sim', parameters, respawn=True)]


def _task(o: LaunchOptions) -> str:
    return o.task or ('transfer_cube' if o.robot == 'sim' else '')


def _lists(o: LaunchOptions, *names: str) -> dict[str, Value]:
    """Parameters that are lists; ROS has no empty ones, so these are left out."""
    values = {name: listed(getattr(o, name)) for name in names}
    return {name: value for name, value in values.items() if value}


def _human(o: LaunchOptions, gate: str) -> list[NodeSpec]:
    if o.teleop == 'none':
        return []
    if o.teleop == 'expert':
        return [NodeSpec('expert', {**_common(o), 'task': _task(o), 'gate': gate,
                                    **_lists(o, 'task_options')}, respawn=True)]
    parameters = _common(o)
    if o.teleop in OPERATED:
        device = parameters['device'] = o.teleop
    else:
        path = Path(o.teleop).absolute()
        device, parameters['config'] = load_yaml(path).get('device', ''), str(path)
    if o.joystick:
        parameters['device_file'] = o.joystick
    keyboard = device == 'keyboard'
    return [NodeSpec('teleop', parameters, terminal=keyboard, respawn=not keyboard)]


def _policy(o: LaunchOptions) -> NodeSpec:
    if not o.policy:
        raise ConfigError('policy:=FOLDER is needed: a checkpoint or run of "il_robot train"')
    folder = Path(o.policy).absolute()
    if not folder.exists():
        raise ConfigError(f'policy:={o.policy}: no such folder')
    # Lockstep repeats a run bit for bit, so nothing may be chosen by the clock.
    runtime = 'torch' if o.lockstep else 'auto'
    return NodeSpec('policy', {**_common(o), 'checkpoint': str(folder), 'device': o.device,
                               'runtime': runtime,
                               'assess': o.gate in ROBOT_GATED, **_real_time(o, below=1)},
                    respawn=True)


def _answers(o: LaunchOptions) -> str:
    """When the expert node asks to drive."""
    return {'rule': 'rule', 'beta': 'never'}.get(o.gate, 'called')


def _gate(o: LaunchOptions) -> list[NodeSpec]:
    if o.gate == 'rule':  # the expert node's own, or a person's
        return []
    options = {'options': listed(o.gate_options)} if o.gate_options else {}
    return [NodeSpec('gate', {**_common(o), 'gate': o.gate, **options}, respawn=True)]


def _arbiter(o: LaunchOptions) -> NodeSpec:
    return NodeSpec('arbiter', {**_common(o), 'lockstep': o.lockstep,
                                'resume': o.robot == 'sim', **_real_time(o)}, respawn=True)


def _recorder(o: LaunchOptions) -> list[NodeSpec]:
    if not o.record:
        return []
    # Without a task of its own the recorder writes what the simulator says.
    parameters: dict[str, Value] = {
        **_common(o), 'output': str(Path(o.output).absolute()), 'task': o.task,
        'language': o.language, 'round': o.round, **_lists(o, 'cameras')}
    # A stop must not cut off a bag that is being closed.
    return [NodeSpec('recorder', parameters, respawn=True, patience=20.0)]


def _session(o: LaunchOptions, driver: str, max_seconds: float = 0.0) -> NodeSpec:
    parameters: dict[str, Value] = {
        **_common(o), 'episodes': o.episodes, 'driver': driver, 'record': o.record,
        'seed': o.seed, 'max_seconds': max_seconds, 'task': _task(o)}
    if o.episodes:
        parameters['output'] = str(Path(o.output).absolute())
    return NodeSpec('session', parameters, essential=True)


def _viewers(o: LaunchOptions, spec: RobotSpec, path: Path) -> list[NodeSpec]:
    time: dict[str, Value] = {'use_sim_time': o.robot == 'sim'}
    nodes = []
    # A robot without this geometry has drivers that publish a description of their own.
    if (o.rviz or o.foxglove) and spec.geometry is not None:
        model = str(resource('urdf', 'dual_arm.urdf.xacro'))
        nodes.append(NodeSpec(
            'robot_state_publisher', time, package='robot_state_publisher', respawn=True,
            outputs={'robot_description': ('xacro', model, f'spec:={path.absolute()}')}))
    if o.rviz:
        nodes.append(NodeSpec('rviz2', time, package='rviz2', arguments=(
            '-d', str(resource('config', 'rviz', 'il_robot.rviz')))))
    if o.foxglove:
        nodes.append(NodeSpec('foxglove_bridge', time, package='foxglove_bridge', respawn=True))
    return nodes
