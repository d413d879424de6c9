"""Where the shapes of a robot's arms are: forward kinematics of its URDF's collision shapes.

All arms of a robot are equal (RobotSpec), so they are computed at once. A box or cylinder is
enclosed in a capsule: a segment along its longest side and a radius.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from il_robot.control.clearance_kernel import SLIDES, TURNS, Shapes, Tree
from il_robot.errors import SpecError
from il_robot.rotations import rotation_rpy
from il_robot.spec import RobotSpec
from il_robot.types import Float64

# A capsule's radius over the least that encloses the box: longer ends cost more than that.
_ROUND = 1.1


@dataclass(frozen=True)
class Shape:
    """A box around a collision shape, in its link's frame.

    Attributes:
        link: Its link without the arm's prefix.
        centre: ``(3,)`` [m].
        rotation: ``(3, 3)``.
        half: ``(3,)`` half sides [m].
        ends: ``(2, 3)`` of the capsule's segment, in the link's frame [m].
        radius: Of the capsule [m].
    """

    link: str
    centre: Float64
    rotation: Float64
    half: Float64
    ends: Float64
    radius: float

    @property
    def reach(self) -> float:
        """Distance of its farthest corner from the link's origin [m]."""
        return float(np.linalg.norm(self.centre)) + float(np.linalg.norm(self.half))


@dataclass(frozen=True)
class _Joint:
    name: str
    parent: int
    child: int
    origin: Float64  # (4, 4)
    axis: Float64
    column: int  # of an arm's part of a vector; -1: fixed
    slides: bool


class Body:
    """The arms of one robot.

    Args:
        spec: The robot.
        urdf: Its model; every arm's links and joints carry its prefix.

    Raises:
        SpecError: the model does not fit the robot.

    Attributes:
        shapes: Of one arm.
        links: Names of one arm's links without prefix.
        shape_links: ``(S,)`` which of them each shape belongs to.
        moved: ``(L, C)`` which joints (the gripper last) move each.
        far: ``(S + L, C)`` most that a joint's unit moves any point of a shape, or a link's
            origin [m/rad, m/m].
    """

    def __init__(self, spec: RobotSpec, urdf: str) -> None:
        root = ElementTree.fromstring(urdf)
        self.spec = spec
        self._size = len(spec.joints) + 1
        prefix = spec.arms[0].prefix
        self.links, self._joints, self.shapes = self._read(root, prefix)
        self._mounts = np.stack([_mount(root, arm.prefix) for arm in spec.arms])
        missing = {j.name for j in spec.joints} - {j.name for j in self._joints}
        if missing:
            raise SpecError(f'{spec.name}: its model has no joint {", ".join(sorted(missing))}')
        self.shape_links = np.array([self.links.index(s.link) for s in self.shapes])
        self.far, self.moved = self._levers()
        chain = self.moved.sum(1)
        if not all((moved[:count] == 1).all() for moved, count in zip(self.moved, chain)):
            raise SpecError(f'{spec.name}: its joints have to be listed as they follow each other '
                            f'in its model, got {", ".join(j.name for j in spec.joints)}')

    def _read(self, root: ElementTree.Element, prefix: str
              ) -> tuple[list[str], list[_Joint], list[Shape]]:
        names = [j.name for j in self.spec.joints]
        by_parent: dict[str, list[ElementTree.Element]] = {}
        for joint in root.iter('joint'):
            parent = joint.find('parent')
            if parent is not None:
                by_parent.setdefault(str(parent.get('link')), []).append(joint)
        links, joints = ['base'], []
        waiting = ['base']
        while waiting:
            parent_name = waiting.pop(0)
            for joint in by_parent.get(prefix + parent_name, []):
                child = str(joint.find('child').get('link')).removeprefix(prefix)  # type: ignore[union-attr]
                name = str(joint.get('name')).removeprefix(prefix)
                slides, column = joint.get('type') == 'prismatic', -1
                if name in names:
                    column = names.index(name)
                elif slides:  # the fingers: each moves by half of the opening
                    column = self._size - 1
                if child in links:
                    raise SpecError(f'{self.spec.name}: link {child} of its model is reached '
                                    'twice; every arm needs a prefix of its own')
                links.append(child)
                waiting.append(child)
                axis = joint.find('axis')
                joints.append(_Joint(
                    name, links.index(parent_name), len(links) - 1, _frame(joint.find('origin')),
                    np.zeros(3) if axis is None else _numbers(axis.get('xyz'), 3), column, slides))
        shapes = []
        for link in root.iter('link'):
            name = str(link.get('name')).removeprefix(prefix)
            if str(link.get('name')).startswith(prefix) and name in links:
                shapes += [_shape(name, c) for c in link.findall('collision')]
        return links, joints, shapes

    def _levers(self) -> tuple[Float64, NDArray[np.bool_]]:
        into = {j.child: j for j in self._joints}
        links, size = len(self.links), self._size
        moved = np.zeros((links, size), bool)
        reach = [*(s.reach for s in self.shapes), *[0.0] * links]
        far = np.zeros((len(reach), size))
        for row, link in enumerate([*self.shape_links, *range(links)]):
            distance, at = reach[row], int(link)
            while at in into:
                joint = into[at]
                if joint.column >= 0:
                    moved[link, joint.column] = True
                    far[row, joint.column] = 0.5 if joint.slides else distance
                    if joint.slides:
                        distance += 0.5 * self.spec.gripper.upper
                distance += float(np.linalg.norm(joint.origin[:3, 3]))
                at = joint.parent
        return far, moved

    def tree(self) -> Tree:
        """Links and joints."""
        links = len(self.links)
        tree = Tree(
            self._mounts, np.zeros(links, np.int64), np.tile(np.eye(3), (links, 1, 1)),
            np.zeros((links, 3)), np.zeros((links, 3)), np.zeros(links, np.int64),
            np.zeros(links, np.int64))
        for joint in self._joints:
            i = joint.child
            tree.parent[i] = joint.parent
            tree.turn[i], tree.shift[i] = joint.origin[:3, :3], joint.origin[:3, 3]
            if joint.column >= 0:
                tree.column[i] = joint.column
                tree.kind[i] = SLIDES if joint.slides else TURNS
                axis = joint.axis / max(float(np.linalg.norm(joint.axis)), 1e-12)
                # A finger moves by half of the opening, told in its parent's frame.
                tree.axis[i] = 0.5 * joint.origin[:3, :3] @ axis if joint.slides else axis
        return tree

    def shape_arrays(self, tool: int, wider: Float64) -> Shapes:
        """The shapes of one arm.

        Args:
            tool: Link whose origin is the tool point.
            wider: ``(S,)`` added to their boxes' half sides [m].
        """
        far = np.concatenate([self.far[:len(self.shapes)] + 2.0 * wider[:, None]
                              * (self.far[:len(self.shapes)] > 0),
                              self.far[len(self.shapes) + tool][None]])
        return Shapes(
            self.shape_links, np.array([s.ends for s in self.shapes]),
            np.array([s.centre for s in self.shapes]), np.array([s.rotation for s in self.shapes]),
            np.array([s.half for s in self.shapes]) + wider[:, None], far)


def _numbers(text: str | None, count: int) -> Float64:
    values = np.array([float(v) for v in (text or '').split()])
    return values if values.size == count else np.zeros(count)


def _frame(origin: ElementTree.Element | None) -> Float64:
    """A frame ``(4, 4)`` from a URDF's origin."""
    frame = np.eye(4)
    if origin is not None:
        frame[:3, :3] = rotation_rpy(tuple(_numbers(origin.get('rpy'), 3).tolist()))
        frame[:3, 3] = _numbers(origin.get('xyz'), 3)
    return frame


def _mount(root: ElementTree.Element, prefix: str) -> Float64:
    for joint in root.iter('joint'):
        child = joint.find('child')
        if child is not None and child.get('link') == f'{prefix}base':
            return _frame(joint.find('origin'))
    raise SpecError(f'the model has no link {prefix}base')


def _shape(link: str, collision: ElementTree.Element) -> Shape:
    frame, geometry = _frame(collision.find('origin')), collision.find('geometry')
    assert geometry is not None
    box, cylinder = geometry.find('box'), geometry.find('cylinder')
    if box is not None:
        half = 0.5 * _numbers(box.get('size'), 3)
    elif cylinder is not None:
        radius, length = float(cylinder.get('radius', 0)), float(cylinder.get('length', 0))
        half = np.array([radius, radius, 0.5 * length])
        axis = frame[:3, :3] @ (0.0, 0.0, half[2])
        ends = np.array([frame[:3, 3] + axis, frame[:3, 3] - axis])
        return Shape(link, frame[:3, 3], frame[:3, :3], half, ends, radius)
    else:
        raise SpecError(f'{link}: distances are known of boxes and cylinders only')
    long = int(np.argmax(half))
    least = float(np.linalg.norm(np.delete(half, long)))
    radius = _ROUND * least
    beyond = np.sqrt(radius * radius - least * least)
    axis = np.zeros(3)
    axis[long] = max(half[long] - beyond, 0.0)
    if axis[long] == 0.0:
        radius = float(np.linalg.norm(half))
    ends = np.array([frame[:3, :3] @ s + frame[:3, 3] for s in (axis, -axis)])
    return Shape(link, frame[:3, 3], frame[:3, :3], half, ends, float(radius))
