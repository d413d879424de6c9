"""The arguments of every launch: name, default and meaning in one place.

``ros2 launch`` and ``il_robot launch`` both declare, explain and read them from here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from il_robot.config import build
from il_robot.errors import ConfigError, unknown
from il_robot.resources import resource

OPERATED = ('keyboard', 'gamepad', 'leader', 'pose', 'twist')
"""Devices in the hands of a person: maps in config/teleop."""
TELEOP = ('none', 'expert', *OPERATED)
ROBOT_GATED = ('ensemble', 'safe', 'lazy', 'thrifty')
"""Gates that call for help: the robot stands until somebody comes. The others ask to drive."""
LIVE_GATES = ('rule', 'beta', *ROBOT_GATED)
"""Who takes over when: ``rule`` of the expert node, or a gate of :mod:`il_robot.control.gates`."""
DISCOVERY = ('localhost', 'subnet')
"""Who finds the nodes, if the environment says nothing."""
LAUNCH_NAMES = ('demo', 'record', 'run', 'correct', 'dagger')
"""What can be launched; :mod:`il_robot.bringup` describes each."""
FIRST_SEEDS = {'record': 10_000, 'correct': 20_000, 'dagger': 30_000}
"""Of a launch's episodes; elsewhere 0: what is measured must not have been trained on."""


def _argument(default: Any, text: str, *, sim: bool = False) -> Any:
    return field(default=default, metadata={'help': text, 'sim': sim})


@dataclass(frozen=True)
class LaunchOptions:
    """What can be chosen; lists are written with commas (``cameras:=overhead,front``)."""

    robot: str = _argument(
        'sim', 'sim, or real: the drivers of the profile run elsewhere and speak ros2_control')
    profile: str = _argument(
        'sim_dual_arm', 'robot description: a name in config/robots, or a YAML file')
    dry_run: bool = _argument(
        False, 'robot:=real: send nothing to the drivers, show what would be sent')
    task: str = _argument(
        '', 'transfer_cube (the default in sim), insert_peg or lift_tray; with a real robot a '
        'name of your choice')
    task_options: str = _argument(
        '', 'KEY=VALUE,... of the task, for example clearance=0.002', sim=True)
    language: str = _argument(
        '', "the instruction recorded with each episode; empty: the task's own")
    teleop: str = _argument(
        '', f'who can drive beside the policy: {", ".join(TELEOP)}, or a YAML file like those in '
        'config/teleop; empty: expert to record and correct in sim, else none')
    joystick: str = _argument(
        '', 'teleop:=gamepad: its device file, such as /dev/input/js0; empty: topic joy')
    policy: str = _argument('', 'checkpoint or training run that drives')
    device: str = _argument('auto', 'where the policy runs: auto, cpu, cuda, cuda:1 ...')
    output: str = _argument('outputs/session', 'folder of bags, dataset and results')
    record: bool = _argument(True, 'record bags and the dataset')
    round: int = _argument(
        -1, 'DAgger round written with each episode; -1: 1 to correct, else 0')
    dataset: str = _argument(
        '', 'dagger: demonstrations to begin with, copied into OUTPUT/dataset', sim=True)
    recipe: str = _argument(
        'chunk_mlp', 'dagger: how new policies are trained: a name in config/train, or a file',
        sim=True)
    settings: str = _argument('', 'dagger: KEY=VALUE,... of the recipe', sim=True)
    warm_steps: int = _argument(
        0, 'dagger: new policies go on from the present one with so many steps; 0: from fresh '
        'weights', sim=True)
    rounds: int = _argument(3, 'dagger: rounds of correction', sim=True)
    corrections: int = _argument(
        0, 'dagger: takeovers after which a round is over early; 0: no limit', sim=True)
    evaluate: int = _argument(
        50, 'dagger: episodes in which each new policy is tried; 0: it is always taken', sim=True)
    gate: str = _argument(
        'rule', 'correct, dagger: who takes over when: rule (you, or the expert by his rule), '
        'beta, or ensemble, safe, lazy, thrifty: the robot itself calls for help')
    gate_options: str = _argument(
        '', 'KEY=VALUE,... of the gate, instead of thresholds learned with the policy')
    budget: float = _argument(
        0.2, 'dagger: share of the states in which the robot may call for help', sim=True)
    cameras: str = _argument('', 'names, or all; empty: those that the policy looks at')
    image_size: str = _argument(
        '', "WxH of the pictures, for example 320x240; empty: as the policy's were recorded, else "
        "the camera's own", sim=True)
    episodes: int = _argument(
        0, 'so many episodes (dagger: in each round; 0: 10), then everything ends; 0: until '
        'stopped', sim=True)
    seed: int = _argument(
        -1, 'of the first episode; -1: 0 to run, 10000 to record, 20000 to correct, 30000 for '
        'dagger', sim=True)
    width: str = _argument('nominal', 'reset width: narrow, nominal, wide', sim=True)
    disturbances: str = _argument('', 'KEY=VALUE,... for example shoves=2', sim=True)
    lockstep: bool = _argument(
        False, 'the simulator waits for the command to each observation: exact, and as fast as '
        'the machine allows', sim=True)
    real_time_factor: float = _argument(
        1.0, 'speed of the simulator without lockstep', sim=True)
    discovery: str = _argument(
        'localhost', 'who finds the nodes: localhost (this machine alone) or subnet; '
        'ROS_AUTOMATIC_DISCOVERY_RANGE, where it is set, decides instead')
    real_time: int = _argument(
        0, 'priority (SCHED_FIFO, 2 to 98) of arbiter and robot, the policy one below, memory '
        'locked, where permitted; 0: none')
    cpus: str = _argument(
        '', 'processors that arbiter, robot and policy stay on, such as 2,3; empty: any')
    gui: bool = _argument(False, "the simulator's window", sim=True)
    rviz: bool = _argument(False, 'RViz (ROS installations)')
    foxglove: bool = _argument(
        False, 'foxglove_bridge (ROS installations); layout: config/foxglove/layout.json')

    def __post_init__(self) -> None:
        if self.robot not in ('sim', 'real'):
            raise ValueError(unknown('value of robot', self.robot, ('sim', 'real')))
        named = self.teleop.endswith(('.yaml', '.yml'))
        if self.teleop and not named and self.teleop not in TELEOP:
            raise ValueError(unknown('value of teleop', self.teleop, TELEOP))
        for name, low in (('episodes', 0), ('seed', -1), ('round', -1), ('rounds', 1),
                          ('corrections', 0), ('evaluate', 0), ('warm_steps', 0)):
            if getattr(self, name) < low:
                raise ValueError(f'{name} must be >= {low}, got {getattr(self, name)}')
        if self.discovery not in DISCOVERY:
            raise ValueError(unknown('value of discovery', self.discovery, DISCOVERY))
        if self.gate not in LIVE_GATES:
            raise ValueError(unknown('gate', self.gate, LIVE_GATES))
        if not 0 < self.budget < 1:
            raise ValueError(f'budget must be between 0 and 1, got {self.budget}')
        if not 0 < self.real_time_factor < math.inf:
            raise ValueError(f'real_time_factor must be > 0, got {self.real_time_factor}')
        if self.image_size and not re.fullmatch(r'[1-9]\d*x[1-9]\d*', self.image_size):
            raise ValueError(f'image_size {self.image_size!r}: write WxH, for example 320x240')
        if self.real_time and not 2 <= self.real_time <= 98:
            raise ValueError(f'real_time must be 0 or from 2 to 98, got {self.real_time}')
        if not re.fullmatch(r'(\d+(,\d+)*)?', self.cpus):
            raise ValueError(f'cpus {self.cpus!r}: write numbers with commas, for example 2,3')
        if self.robot == 'real':
            self._check_real()
        elif self.dry_run:
            raise ValueError('dry_run: for robot:=real only')

    def _check_real(self) -> None:
        wrong = [f.name for f in fields(self)
                 if f.metadata['sim'] and getattr(self, f.name) != f.default]
        if wrong:
            raise ValueError(f'{", ".join(wrong)}: for robot:=sim only')
        if self.teleop == 'expert':
            raise ValueError('teleop:=expert knows the objects of the simulator only; with a '
                             f'real robot use {", ".join(OPERATED)}')


def arguments() -> list[tuple[str, str, str]]:
    """(name, default as text, help) of every argument; ``(sim)`` marks those for robot:=sim."""
    return [(f.name, str(f.default).lower() if isinstance(f.default, bool) else str(f.default),
             f.metadata['help'] + (' (sim)' if f.metadata['sim'] else ''))
            for f in fields(LaunchOptions)]


def parse_options(texts: Mapping[str, str]) -> LaunchOptions:
    """Options from the texts of ``key:=value``.

    Raises:
        ConfigError: an unknown key, or a value that does not fit; the right ones are named.
    """
    defaults = {f.name: f.default for f in fields(LaunchOptions)}
    for key in texts:
        if key not in defaults:
            raise ConfigError(unknown('launch argument', key, defaults))
    values = {key: _parse(key, text.strip(), defaults[key]) for key, text in texts.items()}
    return build(LaunchOptions, values, 'launch')


def _parse(key: str, text: str, default: Any) -> bool | int | float | str:
    if isinstance(default, bool):
        if text.lower() not in ('true', 'false'):
            raise ConfigError(f'{key}:={text}: write true or false')
        return text.lower() == 'true'
    if isinstance(default, (int, float)):
        kind = int if isinstance(default, int) else float
        try:
            return kind(text)
        except ValueError:
            what = 'a whole number' if kind is int else 'a number'
            raise ConfigError(f'{key}:={text}: write {what}') from None
    return text


def listed(text: str) -> list[str]:
    """The parts of a list written with commas."""
    return [part.strip() for part in text.split(',') if part.strip()]


def discovery_environment(options: LaunchOptions, environment: Mapping[str, str]
                          ) -> tuple[dict[str, str], str]:
    """What the nodes' environment lacks, and in words who finds them.

    Nothing of a robot should be heard, or obeyed, on the network unless somebody says so.

    Args:
        options: Of the launch.
        environment: As it is.
    """
    key = 'ROS_AUTOMATIC_DISCOVERY_RANGE'
    if environment.get(key):
        lacking, found = {}, environment[key]
    else:
        found = options.discovery.upper()
        lacking = loopback(environment) if found == 'LOCALHOST' else {key: found}
    who = {'LOCALHOST': 'this machine alone (discovery:=subnet for the network)',
           'SUBNET': 'the whole network', 'OFF': 'nobody'}.get(found, found)
    return lacking, f'ROS domain {environment.get("ROS_DOMAIN_ID") or 0}, found by {who}'


def loopback(environment: Mapping[str, str]) -> dict[str, str]:
    """What makes nodes talk within this machine alone; for Fast DDS, without its shared memory.

    config/fastdds_localhost.xml says why. ``LOCALHOST`` itself cannot be had without shared memory
    (rmw_fastrtps adds it, whatever a profile says), so there the profile keeps to this machine.
    """
    old, new = 'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'
    middleware = environment.get('RMW_IMPLEMENTATION') or 'rmw_fastrtps_cpp'
    if environment.get(old) or environment.get(new) or not middleware.startswith('rmw_fastrtps'):
        return {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    profile = old if environment.get('ROS_DISTRO') in ('humble', 'iron', 'jazzy') else new
    return {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SYSTEM_DEFAULT',
            profile: str(resource('config', 'fastdds_localhost.xml'))}
