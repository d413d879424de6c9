"""The OpenGL backend: off screen on EGL, the whole scene in one indirect draw.

A picture is a shadow pass (only when something moved, so the cameras of one instant share it),
the bodies, a backdrop, and a pass that smooths edges. See benchmarks/render_speed.py.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Any

import moderngl
import numpy as np
from numpy.typing import NDArray

from il_robot.errors import SimulationError
from il_robot.sim import renderer_shaders as shaders
from il_robot.sim.renderer_meshes import SEGMENTS, solid, triangles
from il_robot.sim.renderer_scene import Primitive, Scene, metres
from il_robot.types import Float32, Float64, UInt8

UInt32 = NDArray[np.uint32]

SHADOW_SIZE = (736, 544)
"""Width and height of the shadow map [texels]: about 2.6 mm each."""

_SHADOWED = np.array([[-0.85, -0.55, -0.05], [0.85, 0.55, 0.75]])
"""Corners of the box whose contents cast shadows [m]. Fixed: pictures must depend on where
bodies are and on nothing that was before."""

_GROUND = 0.6
"""What is wider and longer than this is ground: it shows shadows and casts none [m]."""

_FLOOR = 5.0
"""Half the edge of the backdrop [m]."""

_MOST_SIZES = 8
"""Picture sizes whose buffers are kept."""

# by soname: what glcontext would search for needs ldconfig or a compiler
_EGL: dict[str, Any] = {'backend': 'egl', 'libgl': 'libGL.so.1', 'libegl': 'libEGL.so.1'}
_SQUARE = np.array([-1, -1, 1, -1, -1, 1, 1, 1], np.float32)


def create_context() -> moderngl.Context:
    """An OpenGL 4.3 context without a window, current on no thread.

    Tries each EGL device in turn (one may belong to a GPU this process must not use), unless
    GLCONTEXT_DEVICE_INDEX names one.

    Raises:
        SimulationError: EGL or its libraries are missing, or no device gives OpenGL 4.3.
    """
    # llvmpipe's threads only move the work of one picture between cores, at a price
    os.environ.setdefault('LP_NUM_THREADS', '0')
    reasons = []
    for device in range(1 if 'GLCONTEXT_DEVICE_INDEX' in os.environ else 8):
        try:
            context = moderngl.create_context(
                require=430, standalone=True, **{**_EGL, 'device_index': device})
        except Exception as error:  # moderngl raises bare Exceptions
            reasons.append(str(error))
            continue
        # creation leaves it current here, and then no other thread could render
        ctypes.CDLL('libEGL.so.1').eglReleaseThread()
        return context
    raise SimulationError(reasons[0])


@dataclass
class _Targets:
    """Framebuffers of one picture size; ``scene`` is one pixel larger on every side."""

    scene: Any
    color: Any
    depth: Any
    picture: Any
    pixels: Any

    def release(self) -> None:
        for thing in (self.scene, self.picture, self.color, self.depth, self.pixels):
            thing.release()


class _Mesh:
    """Shapes in one vertex and one index buffer, each shape's instances one draw command."""

    def __init__(self, shapes: dict[str, Float32]) -> None:
        self._spans: dict[str, tuple[int, int, int]] = {}
        vertices, indices, base, first = [], [], 0, 0
        for shape, corners in shapes.items():
            unique, index = np.unique(corners, axis=0, return_inverse=True)
            self._spans[shape] = (index.size, first, base)
            vertices.append(unique)
            indices.append(index.astype(np.uint32).ravel())
            first, base = first + index.size, base + len(unique)
        self.vertices = np.concatenate(vertices) if shapes else np.empty(0, np.float32)
        self.indices = np.concatenate(indices) if shapes else np.empty(0, np.uint32)

    def commands(self, primitives: list[Primitive], ground: bool) -> UInt32:
        """DrawElementsIndirectCommands of primitives sorted by shape, ground last in each.

        Args:
            primitives: The instances, in the order of the shapes this was made from.
            ground: Also draw what is ground.
        """
        rows, instance = [], 0
        for shape, (count, first, base) in self._spans.items():
            among = [_is_ground(p) for p in primitives if p.shape == shape]
            rows.append((count, len(among) if ground else among.count(False), first, base,
                         instance))
            instance += len(among)
        return np.array(rows, np.uint32)


class GLBackend:
    """Draws a :class:`Scene` with moderngl. One thread at a time.

    Args:
        detail: Factor on the texels of the shadow map and the sides of circles.
    """

    def __init__(self, detail: int) -> None:
        self._detail = detail
        self._gl = create_context()
        self._targets: dict[tuple[int, int], _Targets] = {}
        self._scene_objects: list[Any] = []
        with self._gl as gl:
            self.name = f'moderngl (EGL, {gl.info["GL_RENDERER"]})'
            try:
                self._build(gl)
            except moderngl.Error as error:
                raise SimulationError(f'{self.name} refuses the shaders: {error}') from None

    def _build(self, gl: Any) -> None:
        """What outlives the scene: programs, the squares they draw on, the shadow map."""
        self._body = gl.program(shaders.BODY_VERTEX, shaders.BODY_PIXEL)
        self._shadow = gl.program(shaders.SHADOW_VERTEX, shaders.SHADOW_PIXEL)
        self._floor = gl.program(shaders.FLOOR_VERTEX, shaders.FLOOR_PIXEL)
        self._smooth = gl.program(shaders.SMOOTH_VERTEX, shaders.SMOOTH_PIXEL)
        square = [(gl.buffer(_SQUARE), '2f', 'in_position')]
        large = [(gl.buffer(_FLOOR * _SQUARE), '2f', 'in_position')]
        self._floor_square = gl.vertex_array(self._floor, large)
        self._smooth_square = gl.vertex_array(self._smooth, square)
        width, height = SHADOW_SIZE
        self._shadow_map = gl.depth_texture((self._detail * width, self._detail * height))
        self._shadow_map.compare_func = '<='
        self._shadow_map.repeat_x = self._shadow_map.repeat_y = False
        self._shadow_target = gl.framebuffer(depth_attachment=self._shadow_map)

    def load(self, scene: Scene) -> None:
        """Forget the last scene and take this one.

        Raises:
            SimulationError: a mesh cannot be read.
        """
        # early depth tests spare what large boxes hide only if those are drawn last
        primitives = sorted(scene.primitives, key=lambda p: (
            p.shape == 'box', p.shape, _is_ground(p), max(p.scale)))
        shapes, sides = dict.fromkeys(p.shape for p in primitives), self._detail * SEGMENTS
        drawn = _Mesh({s: triangles(s, sides) for s in shapes})
        # a shadow shows neither bevels nor normals, and its outline is a few texels' matter
        casting = _Mesh({s: solid(triangles(s, sides // 2)) for s in shapes})
        self._frame = np.array([p.frame for p in primitives], int)
        self._local = np.array([p.pose for p in primitives]).reshape(-1, 4, 4)
        self._shown: Float32 | None = None
        with self._gl as gl:
            self._release_scene()
            if primitives:
                self._upload(gl, primitives, drawn, casting)
            self._aim_sun(primitives, scene.read_frames())

    def _release_scene(self) -> None:
        for thing in self._scene_objects:
            thing.release()
        self._scene_objects = []

    def _upload(
        self, gl: Any, primitives: list[Primitive], drawn: _Mesh, casting: _Mesh,
    ) -> None:
        self._poses = gl.buffer(reserve=48 * len(primitives), dynamic=True)
        look = gl.buffer(np.array(
            [(*p.scale, p.bevel, *p.color) for p in primitives], np.float32))
        place = (self._poses, '4f 4f 4f /i', 'in_x', 'in_y', 'in_z')
        self._commands = gl.buffer(drawn.commands(primitives, ground=True))
        self._casting = gl.buffer(casting.commands(primitives, ground=False))
        corners, indices = gl.buffer(drawn.vertices), gl.buffer(drawn.indices)
        self._bodies = gl.vertex_array(self._body, [
            (corners, '3f 3f', 'in_position', 'in_normal'), place,
            (look, '3f f 3f /i', 'in_scale', 'in_bevel', 'in_color')], indices)
        self._scene_objects = [self._bodies, self._commands, self._casting, self._poses, look,
                               corners, indices]
        corners, indices = gl.buffer(casting.vertices), gl.buffer(casting.indices)
        self._casters = gl.vertex_array(self._shadow, [
            (corners, '3f', 'in_position'), place, (look, '3f 4x4 /i', 'in_scale')], indices)
        self._scene_objects += [self._casters, corners, indices]

    def _aim_sun(self, primitives: list[Primitive], frames: Float64) -> None:
        """Lay the shadow map around the work space, and the backdrop under the ground."""
        back = np.array(shaders.SUN) / np.linalg.norm(shaders.SUN)
        right = np.cross((0.0, 1.0, 0.0), back)
        right /= np.linalg.norm(right)
        axes = np.array([right, np.cross(back, right), -back])
        middle = axes @ _SHADOWED.mean(0)
        half = np.abs(axes) @ (np.diff(_SHADOWED, axis=0)[0] / 2)
        to_map = np.eye(4)
        to_map[:3, :3] = axes / half[:, None]
        to_map[:3, 3] = -middle / half
        self._shadow['light'].write(_bytes(to_map))
        to_map[:3] = (to_map[:3] + (0.0, 0.0, 0.0, 1.0)) / 2
        for program in (self._body, self._floor):
            program['light'].write(_bytes(to_map))
        solid = [p for p in primitives if p.shape != 'plane']
        ground = [p for p in solid if _is_ground(p)]
        self._floor['height'].value = min((_lowest(p, frames) for p in ground or solid), default=0)

    def draw(
        self, frames: Float64, view: Float64, projection: Float64, size: tuple[int, int],
        depth: bool,
    ) -> tuple[UInt8, Float32 | None]:
        """One picture; arguments as :class:`il_robot.sim.renderer.Backend`."""
        width, height = size
        # one pixel more on every side for the smoothing; rows upside down, as images want them
        grow = np.diag([width / (width + 2), -height / (height + 2), 1.0, 1.0])
        camera = _bytes(grow @ projection @ view)
        poses = (frames[self._frame] @ self._local)[:, :3].astype(np.float32)
        with self._gl as gl:
            if self._shown is None or not np.array_equal(poses, self._shown):
                self._shown = poses
                self._draw_shadows(gl)
            targets = self._targets_of(gl, size)
            targets.scene.use()
            targets.scene.clear(*shaders.BACKGROUND)
            gl.enable_only(gl.DEPTH_TEST | gl.CULL_FACE)
            gl.front_face = 'cw'
            self._shadow_map.use(0)
            if self._scene_objects:
                self._body['camera'].write(camera)
                self._body['eye'].value = tuple(-view[:3, :3].T @ view[:3, 3])
                self._bodies.render_indirect(self._commands)
            self._floor['camera'].write(camera)
            targets.scene.depth_mask = False  # depth shows bodies only, as TinyRenderer's
            self._floor_square.render(gl.TRIANGLE_STRIP)
            targets.scene.depth_mask = True
            gl.enable_only(gl.NOTHING)
            targets.picture.use()
            targets.color.use(0)
            self._smooth_square.render(gl.TRIANGLE_STRIP)
            image = np.empty((height, width, 3), np.uint8)
            targets.picture.read_into(image, components=3, alignment=1)
            if not depth:
                return image, None
            distance = np.empty((height + 2, width + 2), np.float32)
            targets.depth.read_into(distance)
        return image, metres(distance[1:-1, 1:-1])

    def _draw_shadows(self, gl: Any) -> None:
        self._shadow_target.use()
        self._shadow_target.clear()
        if not self._scene_objects:
            return
        self._poses.write(self._shown)
        gl.enable_only(gl.DEPTH_TEST | gl.CULL_FACE)
        gl.front_face = 'ccw'
        self._casters.render_indirect(self._casting)

    def _targets_of(self, gl: Any, size: tuple[int, int]) -> _Targets:
        if size not in self._targets:
            if len(self._targets) == _MOST_SIZES:
                self._targets.pop(next(iter(self._targets))).release()
            larger = (size[0] + 2, size[1] + 2)
            color, depth = gl.texture(larger, 4), gl.depth_texture(larger)
            scene = gl.framebuffer([color], depth)
            pixels = gl.renderbuffer(size, 4)
            picture = gl.framebuffer([pixels])
            self._targets[size] = _Targets(scene, color, depth, picture, pixels)
        return self._targets[size]

    def release(self) -> None:
        """Give back the context and all that lives in it."""
        self._gl.release()


def _is_ground(primitive: Primitive) -> bool:
    return primitive.shape == 'plane' or sorted(primitive.scale)[1] > _GROUND


def _lowest(primitive: Primitive, frames: Float64) -> float:
    """Height of the lowest point [m]; meshes count as boxes of their scale."""
    up = (frames[primitive.frame] @ primitive.pose)[2]
    return float(up[3] - np.abs(up[:3]) @ primitive.scale / 2)


def _bytes(matrix: Float64) -> bytes:
    """Column by column, as OpenGL wants it."""
    return matrix.T.astype(np.float32).tobytes()
