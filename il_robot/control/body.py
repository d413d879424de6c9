"""Where the shapes of a robot's arms are: forward kinematics of its URDF's collision shapes.

All arms of a robot are equal (RobotSpec), so they are computed at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from il_robot.control.clearance_kernel import SLIDES, TURNS, Shapes, Tree
from il_robot.control.shapes import Vertices
from il_robot.control.urdf_model import no_meshes, read_model
from il_robot.errors import SpecError
from il_robot.spec import RobotSpec
from il_robot.types import Float64


class Body:
    """The arms of one robot.

    Args:
        spec: The robot.
        urdf: The text of its model (:mod:`il_robot.control.urdf_model`).
        vertices: Reads a mesh of it.

    Raises:
        SpecError: the model does not fit the robot.

    Attributes:
        shapes: Of one arm.
        links: Names of one arm's links without prefix.
        tool: Which of them the workspace box holds, -1: not known.
        shape_links: ``(S,)`` which of them each shape belongs to.
        moved: ``(L, C)`` which joints (the gripper last) move each.
        far: ``(S + L, C)`` most that a joint's unit moves any point of a shape, or a link's
            origin [m/rad, m/m].
    """

    def __init__(self, spec: RobotSpec, urdf: str, vertices: Vertices = no_meshes) -> None:
        self.spec = spec
        self._size = len(spec.joints) + 1
        self._model = model = read_model(spec, urdf, vertices)
        self.links, self.shapes, self.tool = model.links, model.shapes, model.tool
        self.shape_links = np.array([self.links.index(s.link) for s in self.shapes])
        self.far, self.moved = self._levers()
        chain = self.moved.sum(1)
        if not all((moved[:count] == 1).all() for moved, count in zip(self.moved, chain)):
            raise SpecError(f'{spec.name}: its joints have to be listed as they follow each other '
                            f'in its model, got {", ".join(j.name for j in spec.joints)}')

    def _levers(self) -> tuple[Float64, NDArray[np.bool_]]:
        into = {j.child: j for j in self._model.joints}
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
            self._model.mounts, np.zeros(links, np.int64), np.tile(np.eye(3), (links, 1, 1)),
            np.zeros((links, 3)), np.zeros((links, 3)), np.zeros(links, np.int64),
            np.zeros(links, np.int64))
        for joint in self._model.joints:
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
