"""A robot of two one-joint arms that must reach a ball: milliseconds per episode."""

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

import gymnasium
import numpy as np

from il_robot.data.dataset import Dataset, EpisodeRecord
from il_robot.data.features import make_features
from il_robot.errors import CheckpointError
from il_robot.spec import ArmSpec, Frame, JointSpec, Rates, RobotSpec
from il_robot.types import Action, Outcome

SPEC = RobotSpec(
    name='toy',
    rates=Rates(control=50.0, physics_substeps=1, camera=10.0),
    joints=(JointSpec('slide', -2.0, 2.0, 5.0, 50.0, 10.0),),
    gripper=JointSpec('gripper', 0.0, 1.0, 5.0, 50.0, 10.0),
    arms=tuple(ArmSpec(n, f'{n}_', Frame(), (0.0, 0.5)) for n in ('left', 'right')),
)
STEP = 0.1  # farthest motion per control step


@dataclass(frozen=True)
class Task:
    """What there is to do, in words."""

    name: str = 'reach'
    language: str = 'reach the ball'
    objects: tuple[str, ...] = ('ball',)


class ToyEnv(gymnasium.Env):
    """Both slides must come within 5 cm of the ball's x and y."""

    robot = SPEC
    task = Task()

    def __init__(self, crash_seeds=(), raise_seeds=(), terminate_seeds=()):
        d = SPEC.dim
        self.action_space = gymnasium.spaces.Box(-2, 2, (d,), np.float32)
        self.observation_space = gymnasium.spaces.Dict({
            'state': gymnasium.spaces.Box(-9, 9, (d,), np.float32),
            'objects': gymnasium.spaces.Dict(
                {'ball': gymnasium.spaces.Box(-9, 9, (7,), np.float32)}),
        })
        self._crash, self._raise = set(crash_seeds), set(raise_seeds)
        self._terminate = set(terminate_seeds)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed in self._crash:
            os._exit(3)
        if seed in self._terminate:
            for process in (os.getppid(), os.getpid()):
                os.kill(process, signal.SIGTERM)
        if seed in self._raise:
            raise RuntimeError(f'broken on purpose at {seed}')
        self.state = SPEC.rest + self.np_random.normal(0, 0.1, SPEC.dim).astype(np.float32)
        self.ball = np.array(
            [*self.np_random.uniform(-1.5, 1.5, 2), 0, 0, 0, 0, 1], np.float32)
        self.steps = 0
        return self._obs(), self._info()

    def step(self, action):
        self.executed = np.asarray(action, np.float32)
        self.state = self.state + np.clip(action - self.state, -STEP, STEP).astype(np.float32)
        self.steps += 1
        info = self._info()
        return self._obs(), float(info['stage']), info['success'], self.steps >= 60, info

    def expert(self):
        target = self.state.copy()
        target[[0, 2]] = self.ball[:2]
        return Action(target)

    def _obs(self):
        return {'state': self.state.astype(np.float32), 'objects': {'ball': self.ball}}

    def _info(self):
        near = np.abs(self.state[[0, 2]] - self.ball[:2]) < 0.05
        stage = int(near.sum())
        return {'success': bool(near.all()), 'stage': stage,
                'stage_name': ('far', 'one arm', 'both arms')[stage]}


@dataclass(frozen=True)
class ToyFactory:
    """Picklable; what ``make_env`` of an evaluation must be."""

    options: dict = field(default_factory=dict)

    def __call__(self):
        return ToyEnv(**self.options)


@dataclass(frozen=True)
class Wanderer:
    """A controller that draws from its generator: shows that matched seeds match."""

    def __call__(self, env):
        class Controller:
            def reset(self, rng):
                self.rng = rng

            def act(self, observation):
                return observation.state + self.rng.normal(0, 0.1, 4).astype(np.float32)

        return Controller()


def broken_factory(env):
    raise CheckpointError('no such checkpoint')


def crashing_factory(env):
    os._exit(5)


def toy_dataset(episodes=12, seed=1000, spec=SPEC, outcomes=None):
    """The expert's demonstrations as a dataset in memory."""
    rows = {'observation.state': [], 'observation.environment_state': [], 'action': [],
            'proposal.expert': [], 'source': []}
    records, env, start = [], ToyEnv(), 0
    for i in range(episodes):
        obs, _ = env.reset(seed=seed + i)
        ended = False
        while not ended:
            label = env.expert().position
            noisy = (label + env.np_random.normal(0, 0.01, SPEC.dim)).astype(np.float32)
            for key, value in zip(rows, (obs['state'], obs['objects']['ball'], noisy, label,
                                         np.array([3, 3]))):
                rows[key].append(value)
            obs, _, terminated, truncated, _ = env.step(noisy)
            ended = terminated or truncated
        stop = len(rows['action'])
        outcome = Outcome(outcomes[i]) if outcomes else Outcome.SUCCESS
        records.append(EpisodeRecord(
            i, start, stop, 'Reach the ball.', 'toy', outcome, seed + i, 0, '', {}))
        start = stop
    columns = {key: np.stack(value) for key, value in rows.items()}
    features = {k: v for k, v in make_features(SPEC, ['ball'], [], 50.0).items() if k in columns}
    return Dataset(Path('toy'), 50.0, features, spec, tuple(records), columns)
