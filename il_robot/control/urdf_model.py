"""One arm of a robot as its URDF describes it: links, joints and what encloses them.

Two ways of naming are read. In the model of ``urdf/dual_arm.urdf.xacro`` every arm's links and
joints carry its prefix, and the arms hang on links ``<prefix>base``. In any other one
``safety.model`` of the robot file says how its joints are called; it may have one arm or all of
them, of which the first is read, and the arms stand where the robot file says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from il_robot.control.shapes import Shape, Vertices, frame, numbers, shape
from il_robot.errors import SpecError
from il_robot.rotations import rotation_rpy
from il_robot.spec import RobotSpec
from il_robot.types import Float64

TOOL = 'eef'


@dataclass(frozen=True)
class Joint:
    """A joint of one arm.

    Attributes:
        name: As in the robot file, where it is there.
        parent: Number of its parent link.
        child: Of its child.
        origin: ``(4, 4)`` of the child in the parent where the joint, or the opening, is 0.
        axis: ``(3,)`` in the child's frame; of a finger the way in which it opens.
        column: Of an arm's part of a vector; -1: fixed.
        slides: Whether it moves along the axis, by half of the gripper's opening.
    """

    name: str
    parent: int
    child: int
    origin: Float64
    axis: Float64
    column: int
    slides: bool


@dataclass(frozen=True)
class ArmModel:
    """Of all arms, which are equal.

    Attributes:
        links: Names without prefix, parents before children; the first one is the base.
        joints: Of them.
        shapes: Around their collision shapes.
        mounts: ``(A, 4, 4)`` where the arms' bases stand.
        tool: Number of the link whose origin is the tool point, -1: not known.
    """

    links: list[str]
    joints: list[Joint]
    shapes: list[Shape]
    mounts: Float64
    tool: int


def no_meshes(name: str) -> Float64:
    """For models without any.

    Raises:
        SpecError: always.
    """
    raise SpecError(f'{name}: a mesh, where only boxes and cylinders are expected')


def read_model(spec: RobotSpec, urdf: str, vertices: Vertices = no_meshes) -> ArmModel:
    """The arms of ``spec`` from the text of their URDF.

    Args:
        spec: The robot; ``spec.safety.model`` says how the URDF names its joints, where it is
            not the one that belongs to ``spec.geometry``.
        urdf: Its text.
        vertices: Reads a mesh.

    Raises:
        SpecError: the model is no URDF, or does not fit the robot.
    """
    try:
        root = ElementTree.fromstring(urdf)
    except ElementTree.ParseError as error:
        raise SpecError(f'{spec.name}: its model is no URDF: {error}') from None
    own = spec.safety.model
    if own is None:
        prefix = spec.arms[0].prefix
        mounts = [_mount(root, arm.prefix) for arm in spec.arms]
        names, base, tool = {prefix + j.name: j.name for j in spec.joints}, f'{prefix}base', TOOL
    else:
        prefix, arm = '', spec.arms[0]
        mounts = [_pose(a.base.xyz, a.base.rpy) for a in spec.arms]
        names = {own.joint_name.format(joint=j.name, arm=arm.name, prefix=arm.prefix): j.name
                 for j in spec.joints}
        base, tool = own.base or _parent(root, spec, [*names]), own.tool
    links, joints = _walk(spec, root, names, prefix, base)
    missing = sorted({*names.values()} - {j.name for j in joints})
    if missing:
        there = ', '.join(str(j.get('name')) for j in root.iter('joint'))
        raise SpecError(f'{spec.name}: its model has no joint {", ".join(missing)} behind link '
                        f'{base}; it has {there}')
    if tool and own is not None and tool not in links:
        raise SpecError(f'{spec.name}: safety.model.tool: no link {tool} behind {base}; there are '
                        f'{", ".join(links)}')
    shapes = [shape(name, c, vertices) for link in root.iter('link')
              if str(link.get('name')).startswith(prefix)
              for name in [str(link.get('name')).removeprefix(prefix)] if name in links
              for c in link.findall('collision')]
    return ArmModel(links, joints, shapes, np.stack(mounts),
                    links.index(tool) if tool in links else -1)


def _walk(
    spec: RobotSpec, root: ElementTree.Element, names: dict[str, str], prefix: str, base: str
) -> tuple[list[str], list[Joint]]:
    """Links and joints from the base on."""
    by_parent: dict[str, list[ElementTree.Element]] = {}
    for joint in root.iter('joint'):
        parent = joint.find('parent')
        if parent is not None:
            by_parent.setdefault(str(parent.get('link')), []).append(joint)
    links, joints = [base.removeprefix(prefix)], list[Joint]()
    waiting = [*links]
    while waiting:
        parent_name = waiting.pop(0)
        for joint in by_parent.get(prefix + parent_name, []):
            child = str(_child(joint)).removeprefix(prefix)
            if child in links:
                raise SpecError(f'{spec.name}: link {child} of its model is reached twice; every '
                                'arm needs a prefix of its own')
            joints.append(_joint(spec, joint, names, links.index(parent_name), len(links)))
            links.append(child)
            waiting.append(child)
    return links, joints


def _joint(
    spec: RobotSpec, joint: ElementTree.Element, names: dict[str, str], parent: int, child: int
) -> Joint:
    name, slides = str(joint.get('name')), joint.get('type') == 'prismatic'
    found = joint.find('axis')
    axis = numbers(None if found is None else found.get('xyz'), 3)
    if found is None:
        axis[0] = 1.0  # URDF's default
    origin, column = frame(joint.find('origin')), -1
    if name in names:
        column = [j.name for j in spec.joints].index(names[name])
        if slides:
            raise SpecError(f'{spec.name}: {name} slides in its model; joints of arms turn')
    elif slides:  # the fingers: each moves by half of the opening, from where it is closed
        column = len(spec.joints)
        limit = joint.find('limit')
        ends = [float(limit.get(k, 0.0)) if limit is not None else 0.0 for k in ('lower', 'upper')]
        closed = min(ends, key=abs)
        origin[:3, 3] += closed * origin[:3, :3] @ axis
        axis = -axis if sum(ends) < 0 else axis
    return Joint(names.get(name, name), parent, child, origin, axis, column, slides)


def _child(joint: ElementTree.Element) -> str | None:
    child = joint.find('child')
    return None if child is None else child.get('link')


def _parent(root: ElementTree.Element, spec: RobotSpec, names: Sequence[str]) -> str:
    """The link that the first joint of the arm hangs on."""
    for joint in root.iter('joint'):
        parent = joint.find('parent')
        if joint.get('name') == names[0] and parent is not None:
            return str(parent.get('link'))
    there = ', '.join(str(j.get('name')) for j in root.iter('joint'))
    raise SpecError(f'{spec.name}: its model has no joint {names[0]}; it has {there}. Does '
                    'safety.model.joint_name say how they are called there?')


def _mount(root: ElementTree.Element, prefix: str) -> Float64:
    for joint in root.iter('joint'):
        if _child(joint) == f'{prefix}base':
            return frame(joint.find('origin'))
    raise SpecError(f'the model has no link {prefix}base')


def _pose(xyz: Sequence[float], rpy: Sequence[float]) -> Float64:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation_rpy((rpy[0], rpy[1], rpy[2])), xyz
    return out
