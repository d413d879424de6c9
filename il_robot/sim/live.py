"""A world that goes on by itself: episodes begin with a reset and end only with the next one.

What stands behind the ``sim`` node. A Gymnasium environment ends its episodes; a robot on the
table does not, so stage, success and the rest are kept as a status instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from il_robot import sim
from il_robot.config import build, key_values
from il_robot.errors import ConfigError, unknown
from il_robot.sim.bimanual_env import BimanualEnv
from il_robot.sim.disturbances import Disturbances
from il_robot.sim.tasks import WIDTHS, make_task
from il_robot.spec import RobotSpec
from il_robot.types import Float32

MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class WorldSettings:
    """What is on the table; checked in construction.

    Attributes:
        task: Name of the task.
        task_options: Its fields.
        width: Reset width.
        disturbances: What goes wrong on purpose.

    Raises:
        ConfigError: an unknown task, width, or key, or a value out of range.
    """

    task: str = 'transfer_cube'
    task_options: dict[str, Any] = field(default_factory=dict)
    width: str = 'nominal'
    disturbances: Disturbances = Disturbances()

    def __post_init__(self) -> None:
        make_task(self.task, self.task_options)
        if self.width not in WIDTHS:
            raise ConfigError(unknown('reset width', self.width, WIDTHS))

    @classmethod
    def parse(
        cls, task: str, task_options: Sequence[str], width: str, disturbances: Sequence[str]
    ) -> WorldSettings:
        """From texts ``KEY=VALUE``; empty ones count as absent.

        Raises:
            ConfigError: see the class.
        """
        options, wrong = (key_values([t for t in texts if t], what) for texts, what in (
            (task_options, 'task_options'), (disturbances, 'disturbances')))
        return cls(task, options, width, build(Disturbances, wrong, 'disturbances'))


class LiveWorld:
    """See the module. Close it in the end.

    Args:
        spec: The robot.
        settings: What is on the table.
        image_size: ``(width, height)`` of pictures [px]; the camera's own when None.
        gui: Show PyBullet's window.

    Attributes:
        env: The environment behind it.
        settings: What it was made of.
        ticks: Control ticks since it was made, resets included; each state has its own.
        status: ``episode`` (resets so far), ``seed``, ``task``, ``language``, ``objects``,
            ``stage`` and ``stage_name`` (the highest so far), ``success`` and ``terminated``
            (once reached in this episode), ``truncated`` (longer than the task's limit).
    """

    def __init__(
        self, spec: RobotSpec, settings: WorldSettings, *,
        image_size: tuple[int, int] | None = None, gui: bool = False,
    ) -> None:
        self._spec, self._image_size, self._gui = spec, image_size, gui
        self.settings = settings
        self.env = self.make_env(settings)
        self.ticks = 0
        self.status: dict[str, Any] = {'episode': 0}

    def make_env(self, settings: WorldSettings) -> BimanualEnv:
        """Another environment of the same robot and pictures."""
        return sim.make(
            settings.task, self._spec, task_options=settings.task_options, width=settings.width,
            disturbances=settings.disturbances, image_size=self._image_size,
            render_mode='human' if self._gui else None)

    def replace(self, env: BimanualEnv, settings: WorldSettings) -> None:
        """Go on in another environment; :meth:`begin` must follow."""
        self.env.close()
        self.env, self.settings = env, settings

    def begin(self, seed: int) -> None:
        """Start an episode; its first state has a time of its own."""
        _, info = self.env.reset(seed=seed)
        if self.status['episode']:
            self.ticks += 1
        task = self.env.task
        self.status = {
            'episode': self.status['episode'] + 1, 'seed': seed, 'task': task.name,
            'language': task.language, 'objects': ' '.join(task.objects), 'stage': info['stage'],
            'stage_name': info['stage_name'], 'success': False, 'terminated': False,
            'truncated': False}

    def tick(self, command: Float32 | None) -> None:
        """One control tick with targets ``(D,)`` [rad, m], or holding the last ones.

        Raises:
            ActionError: wrong shape or NaN; nothing moves.
        """
        env = self.env
        _, _, terminated, truncated, info = (
            env.hold() if command is None else env.step(command))
        self.ticks += 1
        status = self.status
        status['stage'], status['stage_name'] = info['stage'], info['stage_name']
        status['success'] |= info['success']
        status['terminated'] |= terminated
        status['truncated'] = truncated and not status['terminated']

    def close(self) -> None:
        """Release everything."""
        self.env.close()
