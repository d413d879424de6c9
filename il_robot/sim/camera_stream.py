"""Pictures of a running world at the cameras' rate, without holding it up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from il_robot.errors import SimulationError
from il_robot.sim.bimanual_env import BimanualEnv
from il_robot.sim.camera_process import CameraProcess, Picture, WorldPose, read_pose
from il_robot.spec import CameraSpec

_Job = tuple[BimanualEnv, float, WorldPose, list[tuple[CameraSpec, tuple[int, int]]]]
OnPictures = Callable[[float, dict[str, Picture], float], None]


class CameraStream:
    """Draws in a :class:`CameraProcess`, waited for by a thread of its own.

    Args:
        env: The world.
        cameras: Which cameras.
        rgb: Whether pixels are wanted.
        jpeg: Whether the compressed picture is wanted.
        on_pictures: Called with stamp [s], pictures by camera, and how long they took [s].
        on_error: Called with a sentence when drawing failed; it is tried again.

    Attributes:
        backend: What draws.
        skipped: Instants without a picture since the last one was not ready.

    Raises:
        SimulationError: nothing can draw here.
    """

    def __init__(
        self, env: BimanualEnv, cameras: Sequence[CameraSpec], *, rgb: bool, jpeg: bool,
        on_pictures: OnPictures, on_error: Callable[[str], None],
    ) -> None:
        self._cameras, self._rgb, self._jpeg = tuple(cameras), rgb, jpeg
        self._on_pictures, self._on_error = on_pictures, on_error
        self._period = 1.0 / env.robot.rates.camera
        self._drawing = threading.Lock()
        self._wake = threading.Condition()
        self._job: _Job | None = None
        self._busy = self._stopped = False
        self._process: CameraProcess | None = None
        self.skipped = 0
        self.replace(env)
        self._thread = threading.Thread(target=self._work, name='cameras', daemon=True)
        self._thread.start()

    def replace(self, env: BimanualEnv) -> None:
        """Show another world from now on; the old one still shows where this fails.

        Raises:
            SimulationError: nothing can draw here.
        """
        process = CameraProcess(env.robot, env.task, rgb=self._rgb, jpeg=self._jpeg)
        with self._drawing:
            if self._process is not None:
                self._process.close()
            self._process, self._env, self._next = process, env, float('-inf')
        self.backend = process.backend

    def show(self, stamp: float, *, wait: bool) -> None:
        """Draw the world as it is now.

        Args:
            stamp: Time of this instant [s].
            wait: Draw every instant and return when the pictures are out; else draw those that
                the cameras' rate asks for, as far as the machine keeps up.
        """
        if not wait:
            if stamp < self._next - 1e-6:
                return
            if self._busy:
                self.skipped += 1
                return
        env = self._env
        job = (env, stamp, read_pose(env.world),
               [(env.placed(c), env.image_size(c)) for c in self._cameras])
        if wait:
            self._draw(*job)
            return
        with self._wake:
            self._busy, self._job = True, job
            self._wake.notify()
        behind = stamp - self._next > self._period
        self._next = stamp + self._period if behind else self._next + self._period

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._job is not None or self._stopped)
                if self._stopped or self._job is None:
                    return
                job, self._job = self._job, None
            try:
                self._draw(*job)
            finally:
                self._busy = False

    def _draw(
        self, env: BimanualEnv, stamp: float, pose: WorldPose,
        cameras: list[tuple[CameraSpec, tuple[int, int]]],
    ) -> None:
        begun = time.perf_counter()
        with self._drawing:
            if env is not self._env:
                return  # that world was replaced meanwhile
            try:
                if self._process is None:
                    self._process = CameraProcess(
                        env.robot, env.task, rgb=self._rgb, jpeg=self._jpeg)
                pictures = self._process.take(pose, cameras)
            except SimulationError as error:
                if self._process is not None:
                    self._process.close()
                    self._process = None
                if not self._stopped:
                    self._on_error(str(error))
                return
        self._on_pictures(stamp, pictures, time.perf_counter() - begun)

    def close(self) -> None:
        """End thread and process; a second call does nothing."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join()
        if self._process is not None:
            self._process.close()
            self._process = None
