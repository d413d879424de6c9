"""Camera pictures of a PyBullet client: colour and depth.

Two backends show the same geometry: OpenGL through moderngl and EGL (a GPU, or llvmpipe on a
CPU), and PyBullet's own TinyRenderer, which needs nothing but is many times slower. The first
is taken where it works; ``IL_ROBOT_RENDERER`` (``moderngl`` or ``tiny``) decides otherwise.
"""

from __future__ import annotations

import os
from typing import Literal, Protocol, overload

import numpy as np

from il_robot.errors import SimulationError, unknown
from il_robot.sim.bullet import p
from il_robot.sim.renderer_scene import Scene, metres, projection_matrix, view_matrix
from il_robot.sim.renderer_shaders import SUN
from il_robot.spec import CameraSpec
from il_robot.types import Float32, Float64, UInt8

BACKENDS = ('auto', 'moderngl', 'tiny')
ENVIRONMENT = 'IL_ROBOT_RENDERER'


class Backend(Protocol):
    """What draws: told the scene once, then the pose of every frame per picture."""

    name: str

    def load(self, scene: Scene) -> None:
        """Take a scene in place of the last."""

    def draw(
        self, frames: Float64, view: Float64, projection: Float64, size: tuple[int, int],
        depth: bool,
    ) -> tuple[UInt8, Float32 | None]:
        """``(H, W, 3)`` RGB and ``(H, W)`` metres (None unless ``depth``).

        Args:
            frames: ``(frames, 4, 4)`` of :meth:`Scene.read_frames`.
            view: ``(4, 4)`` world to camera.
            projection: ``(4, 4)`` camera to clip space.
            size: Width and height [pixels].
            depth: Whether distances are wanted.
        """

    def release(self) -> None:
        """Give everything back."""


class TinyBackend:
    """PyBullet's software renderer."""

    def __init__(self, reason: str) -> None:
        self.name = f'TinyRenderer: {reason}'

    def load(self, scene: Scene) -> None:
        """Remember the client; TinyRenderer keeps the shapes itself."""
        self._client = scene.client

    def draw(
        self, frames: Float64, view: Float64, projection: Float64, size: tuple[int, int],
        depth: bool,
    ) -> tuple[UInt8, Float32 | None]:
        """One picture; see :class:`Backend`."""
        width, height = size
        _, _, rgba, distance, _ = p.getCameraImage(
            width, height, view.T.ravel().tolist(), projection.T.ravel().tolist(),
            lightDirection=SUN, shadow=1, renderer=p.ER_TINY_RENDERER,
            flags=p.ER_NO_SEGMENTATION_MASK, physicsClientId=self._client)
        image = np.asarray(rgba, np.uint8).reshape(height, width, 4)[..., :3].copy()
        if not depth:
            return image, None
        return image, metres(np.asarray(distance, np.float32).reshape(height, width))

    def release(self) -> None:
        """Nothing to give back."""


class Renderer:
    """Pictures of one client; make it with :func:`make_renderer`.

    Use one from one thread at a time. A process forked from the one that made it opens its own
    backend at the first picture.

    Attributes:
        backend: Which backend draws and, for TinyRenderer, why.
    """

    def __init__(self, client: int, choice: str, detail: int) -> None:
        self._client, self._choice, self._detail = client, choice, detail
        self._open()

    def _open(self) -> None:
        self._scene = Scene(self._client)
        self._backend: Backend | None = _open_backend(
            self._choice, self._scene, self._detail)
        self._process = os.getpid()
        self.backend = self._backend.name

    @overload
    def render(
        self, camera: CameraSpec, width: int | None = None, height: int | None = None,
        depth: Literal[False] = False,
    ) -> UInt8: ...

    @overload
    def render(
        self, camera: CameraSpec, width: int | None = None, height: int | None = None,
        *, depth: Literal[True],
    ) -> tuple[UInt8, Float32]: ...

    def render(
        self, camera: CameraSpec, width: int | None = None, height: int | None = None,
        depth: bool = False,
    ) -> UInt8 | tuple[UInt8, Float32]:
        """What ``camera`` sees now.

        Args:
            camera: Where it is and what it looks at.
            width: Pixels, if not the camera's.
            height: Pixels, if not the camera's.
            depth: Also give the distances along the line of sight [m].

        Returns:
            ``(H, W, 3)`` uint8 RGB; with ``depth`` also ``(H, W)`` float32, which is
            :data:`~il_robot.sim.renderer_scene.FAR` where no body is seen.

        Raises:
            SimulationError: unknown parent link, a size below one pixel, a body that is gone,
                or a closed renderer.
        """
        size = (camera.width if width is None else width,
                camera.height if height is None else height)
        if min(size) < 1:
            raise SimulationError(f'camera {camera.name}: a picture of {size[0]} x {size[1]} '
                                  f'pixels is not possible; both must be >= 1')
        backend = self._opened()
        frames = self._scene.read_frames()
        view = view_matrix(camera, self._scene.camera_pose(camera, frames))
        projection = projection_matrix(camera.fovy, size[0] / size[1])
        image, distance = backend.draw(frames, view, projection, size, depth)
        return image if distance is None else (image, distance)

    def rebuild(self) -> None:
        """Read the shapes again, after bodies came, went or changed colour.

        Raises:
            SimulationError: a new mesh cannot be read, or a closed renderer.
        """
        backend = self._opened()
        self._scene = Scene(self._client)
        backend.load(self._scene)

    def close(self) -> None:
        """Give everything back; a second call does nothing."""
        if self._backend is not None and self._process == os.getpid():
            self._backend.release()
        self._backend = None

    def _opened(self) -> Backend:
        if self._backend is None:
            raise SimulationError('this renderer is closed; make another with make_renderer')
        if self._process != os.getpid():  # a context does not survive a fork
            self._open()
        return self._backend


def make_renderer(client: int, backend: str = 'auto', *, detail: int = 1) -> Renderer:
    """A renderer of the bodies that ``client`` holds now.

    Args:
        client: PyBullet's ``physicsClientId``.
        backend: ``auto``, ``moderngl`` or ``tiny``; the environment variable
            ``IL_ROBOT_RENDERER`` overrides it.
        detail: 1 for cameras; 2 to 4 gives finer shadows and rounder circles for print, at a
            price (moderngl only).

    Raises:
        SimulationError: no such backend, or ``moderngl`` is asked for and cannot work here.
    """
    where = ENVIRONMENT if ENVIRONMENT in os.environ else ''
    choice = os.environ.get(ENVIRONMENT, backend)
    if choice not in BACKENDS:
        raise SimulationError(unknown('renderer', choice, BACKENDS, where))
    return Renderer(client, choice, detail)


def _open_backend(choice: str, scene: Scene, detail: int) -> Backend:
    if choice == 'tiny':
        return _loaded(TinyBackend('asked for'), scene)
    try:
        from il_robot.sim.renderer_gl import GLBackend  # moderngl is an optional dependency

        return _loaded(GLBackend(detail), scene)
    except (ImportError, SimulationError) as error:
        if choice == 'moderngl':
            raise SimulationError(
                f'moderngl cannot draw here: {error}. It needs `pip install moderngl` and EGL '
                f'(Debian: libegl1 libegl-mesa0 libgl1-mesa-dri libgl1); '
                f'{ENVIRONMENT}=tiny does without') from None
        return _loaded(TinyBackend(f'moderngl not available: {error}'), scene)


def _loaded(backend: Backend, scene: Scene) -> Backend:
    try:
        backend.load(scene)
    except SimulationError:
        backend.release()
        raise
    return backend
