"""The bimanual tasks as a Gymnasium environment.

The action is an absolute target for every joint, grippers as a width; the observation a Dict
of the joint state, the part poses and the camera images. An episode depends on its reset seed
and its actions only (bit-equal, tested). One random generator per purpose, so that switching
a disturbance on does not change the start positions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from il_robot.errors import ConfigError, unknown
from il_robot.sim import bullet
from il_robot.sim import disturbances as dist
from il_robot.sim.disturbances import Disturbances
from il_robot.sim.experts import make_expert
from il_robot.sim.experts.motion import Style
from il_robot.sim.tasks.task import HOLD_STEPS, WIDTHS, Task
from il_robot.sim.world import World
from il_robot.spec import CameraSpec, RobotSpec
from il_robot.types import Action, Float32, Observation, UInt8, as_float32

if TYPE_CHECKING:
    from il_robot.sim.renderer import Renderer

SETTLE_STEPS = 5
_STREAMS = ('reset', 'events', 'action_noise', 'observation_noise', 'posture', 'physics',
            'camera', 'style')
_WORKSPACE = 2.0
RENDER_MODES = ('rgb_array', 'human')
"""``human`` is not offered by an environment on a machine without a display."""


def episode_streams(seed: int) -> dict[str, np.random.Generator]:
    """One random generator per purpose, for the episode of this reset seed."""
    children = np.random.SeedSequence(seed).spawn(len(_STREAMS))
    return {name: np.random.default_rng(child) for name, child in zip(_STREAMS, children)}


class BimanualEnv(gym.Env[dict[str, Any], Float32]):
    """One task with one robot.

    Args:
        task: The task.
        spec: The robot.
        cameras: Names of the cameras in the observation; each costs a rendering per step.
        width: Reset width, one of ``narrow``, ``nominal``, ``wide``.
        disturbances: What goes wrong on purpose.
        image_size: ``(width, height)`` [px] of observed images; the camera's own when None.
        render_mode: ``rgb_array`` (front camera), ``human`` (PyBullet's window), or None.
        expert_variation: 0 gives the plain expert; up to 1 varies its style per episode.
        normalized_actions: Actions from -1 to 1 over each joint's range (for reinforcement
            learning); :meth:`to_action` and :meth:`from_action` translate.

    Raises:
        ConfigError: unknown camera, width or render mode, or an image size below 1.
        SimulationError: render mode ``human`` without a display.
    """

    metadata = {'render_modes': list(RENDER_MODES), 'render_fps': 50}

    def __init__(
        self,
        task: Task,
        spec: RobotSpec,
        *,
        cameras: Sequence[str] = (),
        width: str = 'nominal',
        disturbances: Disturbances | None = None,
        image_size: tuple[int, int] | None = None,
        render_mode: str | None = None,
        expert_variation: float = 0.0,
        normalized_actions: bool = False,
    ) -> None:
        if width not in WIDTHS:
            raise ConfigError(unknown('reset width', width, WIDTHS))
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise ConfigError(unknown('render mode', render_mode, RENDER_MODES))
        if image_size is not None and min(image_size) < 1:
            raise ConfigError(f'image_size must be at least 1 x 1, got {image_size}')
        self.task, self.robot, self.width = task, spec, width
        self.disturbances = disturbances or Disturbances()
        self.expert_variation = expert_variation
        self.render_mode = render_mode
        modes = RENDER_MODES if bullet.display_available() else RENDER_MODES[:1]
        self.metadata = {'render_modes': list(modes), 'render_fps': round(spec.rates.control)}
        known = {camera.name: camera for camera in spec.cameras}
        for name in cameras:
            if name not in known:
                raise ConfigError(unknown('camera', name, known, spec.name))
        self.cameras = tuple(known[name] for name in cameras)
        self._image_size = image_size
        self.world = World(spec, gui=render_mode == 'human')
        task.build(self.world)
        self._renderer: Renderer | None = None
        self.normalized_actions = normalized_actions
        self.action_space = (
            gym.spaces.Box(-1, 1, (spec.dim,), np.float32) if normalized_actions
            else gym.spaces.Box(spec.lower, spec.upper, dtype=np.float32))
        self.observation_space = self._space()
        self._expert = make_expert(task, spec)
        self._rng: dict[str, np.random.Generator] = {}
        self._observation: Observation | None = None
        self._executed = spec.rest
        self._start_episode(0)

    def _space(self) -> gym.spaces.Dict:
        spec = self.robot
        # Measured values may pass the limits a little; noise may add to that.
        state = gym.spaces.Box(spec.lower - 0.5, spec.upper + 0.5, dtype=np.float32)
        pose = gym.spaces.Box(
            np.array([-_WORKSPACE] * 3 + [-1.001] * 4, np.float32),
            np.array([_WORKSPACE] * 3 + [1.001] * 4, np.float32))
        parts: dict[str, gym.Space[Any]] = {
            'state': state,
            'objects': gym.spaces.Dict(dict.fromkeys(self.task.objects, pose)),
        }
        if self.cameras:
            parts['images'] = gym.spaces.Dict({
                c.name: gym.spaces.Box(0, 255, (*self.image_size(c)[::-1], 3), np.uint8)
                for c in self.cameras})
        return gym.spaces.Dict(parts)

    def image_size(self, camera: CameraSpec) -> tuple[int, int]:
        """``(width, height)`` of a camera's images in the observation [px]."""
        return self._image_size or (camera.width, camera.height)

    # -- episode ----------------------------------------------------------------------------
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode; the same seed gives the same episode, bit for bit.

        Without a seed the next one is drawn from the environment's own generator.
        """
        super().reset(seed=seed)
        self._start_episode(seed if seed is not None else int(self.np_random.integers(2**31)))
        return self._dict(), self._info()

    def _start_episode(self, seed: int) -> None:
        self.seed, self._rng = seed, episode_streams(seed)
        d, spec, world = self.disturbances, self.robot, self.world
        posture = spec.rest.astype(np.float64)
        joints = np.array([spec.gripper.name not in name for name in spec.joint_names])
        posture += joints * d.start_posture * self._rng['posture'].standard_normal(spec.dim)
        start = np.clip(posture, spec.lower, spec.upper).astype(np.float32)
        for name in world.parts:
            world.set_part_dynamics(
                name, dist.factor(self._rng['physics'], d.mass_scale),
                dist.factor(self._rng['physics'], d.friction_scale))
        world.reset(start)
        self.task.reset(world, self._rng['reset'], WIDTHS[self.width])
        for _ in range(SETTLE_STEPS):
            world.step()
        self._tick = self._held = self._best = 0
        self._stage = self.task.stage(world)
        self._shoves = dist.event_ticks(self._rng['events'], d.shoves)
        self._drops = dist.event_ticks(self._rng['events'], d.drops)
        self._noise, self._noisy = np.zeros(spec.dim), True
        self._noise_sigma = d.action_noise * np.where(joints, 1.0, spec.gripper.upper / np.pi)
        self._commanded = start
        self._delayed: deque[Float32] = deque([start] * d.action_delay)
        self._camera_jitter = d.camera_jitter * self._rng['camera'].standard_normal(
            (len(spec.cameras), 2, 3))
        if self.expert_variation:
            self._expert = make_expert(
                self.task, spec, Style.sample(self._rng['style'], self.expert_variation))
        self._observe()

    def step(
        self, action: Float32
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Execute absolute joint targets ``(D,)`` [rad, m; or -1 to 1] for one control tick.

        Values outside the position limits are clipped to them.

        Raises:
            ActionError: wrong shape or NaN; nothing moves.
        """
        return self._advance(self.robot.check_action(self.from_action(action), clip=True))

    def hold(self) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One control tick with the last targets again; the start posture's before the first."""
        return self._advance(self._commanded)

    def _advance(
        self, command: Float32
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self._commanded = command
        self._executed = self._disturb(command)
        self.world.step(self._executed)
        self._tick += 1
        stage = self.task.stage(self.world)
        last = len(self.task.stages) - 1
        # A difference of potentials (Ng et al. 1999): the return is the final stage's share.
        reward = (stage - self._stage) / last
        self._stage, self._best = stage, max(self._best, stage)
        self._held = self._held + 1 if stage == last else 0
        success = self._held >= HOLD_STEPS
        terminated = success or self.task.failed(self.world)
        truncated = not terminated and self._tick >= self.task.max_steps
        self._observe()
        return self._dict(), reward, terminated, truncated, self._info(success)

    def _disturb(self, command: Float32) -> Float32:
        d, spec = self.disturbances, self.robot
        if d.action_delay:
            self._delayed.append(command)
            command = self._delayed.popleft()
        if d.action_noise:
            rng = self._rng['action_noise']
            if d.noise_share < 1 and self._tick % dist.BURST_TICKS == 0:
                self._noisy = rng.uniform() < d.noise_share
            self._noise = dist.correlated(rng, self._noise, self._noise_sigma * self._noisy)
            command = (command + self._noise).astype(np.float32)
        if any(0 <= self._tick - t < dist.DROP_TICKS for t in self._drops):
            command = command.copy()
            for arm in spec.arms:
                command[spec.arm_slice(arm.name).stop - 1] = spec.gripper.upper
        if self._tick in self._shoves:
            self.shove()
        return np.clip(command, spec.lower, spec.upper)

    def shove(self) -> None:
        """Push a random part now, as the disturbance ``shoves`` does at its ticks."""
        rng = self._rng['events']
        name = self.task.objects[int(rng.integers(len(self.task.objects)))]
        angle = rng.uniform(-np.pi, np.pi)
        speed = self.disturbances.shove_speed * rng.uniform(0.5, 1.0)
        self.world.kick(
            name, speed * np.array([np.cos(angle), np.sin(angle), 0.0]),
            np.array([0.0, 0.0, rng.uniform(-3.0, 3.0)]))

    def _info(self, success: bool = False) -> dict[str, Any]:
        return {
            'success': success,
            'stage': self._best,
            'stage_name': self.task.stages[self._best],
            'seed': self.seed,
        }

    # -- action -----------------------------------------------------------------------------
    def to_action(self, position: Float32) -> Float32:
        """The action of this environment that commands joint targets ``(D,)`` [rad, m]."""
        if not self.normalized_actions:
            return position
        middle, half = self._range()
        return (position - middle) / half

    def from_action(self, action: Float32) -> Float32:
        """The joint targets ``(D,)`` [rad, m] that an action of this environment commands.

        Raises:
            ActionError: wrong shape.
        """
        if not self.normalized_actions:
            return action
        middle, half = self._range()
        return middle + half * as_float32(action, (self.robot.dim,), 'action')

    def _range(self) -> tuple[Float32, Float32]:
        lower, upper = self.robot.lower, self.robot.upper
        return 0.5 * (upper + lower), 0.5 * (upper - lower)

    # -- observation ------------------------------------------------------------------------
    def _observe(self) -> None:
        state = self.world.state()
        objects = {name: self.world.pose(name) for name in self.task.objects}
        if sigma := self.disturbances.observation_noise:
            rng = self._rng['observation_noise']
            state = (state + sigma * rng.standard_normal(state.shape)).astype(np.float32)
            for pose in objects.values():
                pose[:3] += (sigma * rng.standard_normal(3)).astype(np.float32)
        images = {c.name: self._image(c) for c in self.cameras}
        self._observation = Observation(self._tick * self.robot.dt, state, objects, images)

    def _image(self, camera: CameraSpec) -> UInt8:
        if self._renderer is None:
            from il_robot.sim.renderer import make_renderer

            self._renderer = make_renderer(self.world.client)
        width, height = self.image_size(camera)
        return self._renderer.render(self.placed(camera), width, height)

    def placed(self, camera: CameraSpec) -> CameraSpec:
        """The camera where it stands in this episode, jitter included."""
        if not self.disturbances.camera_jitter:
            return camera
        jitter = self._camera_jitter[self.robot.cameras.index(camera)]
        return replace(camera, xyz=tuple(np.add(camera.xyz, jitter[0])),
                       target=tuple(np.add(camera.target, jitter[1])))

    def _dict(self) -> dict[str, Any]:
        observation = self.observation()
        out: dict[str, Any] = {'state': observation.state, 'objects': dict(observation.objects)}
        if self.cameras:
            out['images'] = dict(observation.images)
        return out

    def observation(self) -> Observation:
        """The present observation as the package's own type."""
        assert self._observation is not None
        return self._observation

    def progress(self) -> float:
        """How far the task is, from 0 to 1: a potential (:meth:`Task.progress`)."""
        return self.task.progress(self.world)

    def expert(self) -> Action:
        """The scripted expert's label for the present observation."""
        return self._expert(self.observation())

    @property
    def executed(self) -> Float32:
        """The action ``(D,)`` that the last step really executed."""
        return self._executed

    # -- pictures ---------------------------------------------------------------------------
    def render(self) -> Any:
        """An RGB picture ``(H, W, 3)`` of the front camera; None in mode ``human``."""
        if self.render_mode == 'human':
            return None
        names = [c.name for c in self.robot.cameras]
        if not names:
            raise ConfigError(f'{self.robot.name} has no cameras to render')
        return self._image(self.robot.camera('front' if 'front' in names else names[0]))

    def close(self) -> None:
        """Release renderer and physics; a second call does nothing."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self.world.close()
