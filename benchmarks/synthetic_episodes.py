"""Episodes made of sines and moving squares, for tests and benchmarks of the dataset.

They look like a correction: the policy drives, an expert takes the left arm over for the
middle third, and labels every second row elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from il_robot.data.dataset import Dataset, open_dataset
from il_robot.data.writer import DatasetWriter
from il_robot.resources import named_config
from il_robot.spec import CameraSpec, RobotSpec, load_robot_spec
from il_robot.types import EpisodeInfo, Observation, Outcome, Source, Step, UInt8

OBJECTS = ('cube', 'tray')


def robot() -> RobotSpec:
    """The simulated robot."""
    return load_robot_spec(named_config('robots', 'sim_dual_arm'))


def cameras(spec: RobotSpec, n: int, width: int = 640, height: int = 480) -> list[CameraSpec]:
    """The first ``n`` cameras of the robot at this size."""
    return [replace(camera, width=width, height=height) for camera in spec.cameras[:n]]


def info(seed: int = 0, task: str = 'transfer_cube', round: int = 0) -> EpisodeInfo:
    """What is known of such an episode."""
    return EpisodeInfo(task, f'do {task.replace("_", " ")}', seed=seed, round=round)


def picture(camera: CameraSpec, i: int) -> UInt8:
    """A ramp with a bright square whose place tells the frame number: ``(H, W, 3)``."""
    height, width = camera.height, camera.width
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[..., 0] = np.linspace(20, 120, width)
    image[..., 1] = np.linspace(20, 120, height)[:, None]
    image[..., 2] = 40
    x = (i * max(2, width // 100)) % (width - width // 8)
    image[height // 4:height // 2, x:x + width // 8] = (230, 210, 60)
    return image


def steps(
    spec: RobotSpec,
    n: int,
    seed: int = 0,
    objects: Sequence[str] = OBJECTS,
    views: Sequence[CameraSpec] = (),
) -> Iterator[Step]:
    """``n`` rows at the control rate; the same seed gives the same rows."""
    rng = np.random.default_rng(seed)
    middle, half = (spec.lower + spec.upper) / 2, (spec.upper - spec.lower) / 2
    phase = rng.uniform(0, 2 * np.pi, spec.dim)
    speed = rng.uniform(0.2, 0.6, spec.dim)

    def at(time: float) -> np.ndarray:
        wave = np.sin(2 * np.pi * speed * time + phase)
        return (middle + 0.6 * half * wave).astype(np.float32)

    for i in range(n):
        stamp = i * spec.dt
        corrected = n // 3 <= i < 2 * n // 3
        poses = {
            name: np.array([0.1 * k, 0.002 * i, 0.05, 0, 0, 0, 1], dtype=np.float32)
            for k, name in enumerate(objects)
        }
        images = {camera.name: picture(camera, i) for camera in views}
        action = at(stamp + spec.dt)
        expert = action if corrected else (action + np.float32(0.001) if i % 2 else None)
        yield Step(
            observation=Observation(stamp, at(stamp), poses, images),
            action=action,
            source=tuple(
                Source.EXPERT if corrected and arm == 0 else Source.POLICY
                for arm in range(len(spec.arms))),
            policy=action - np.float32(0.002),
            expert=expert,
            reward=float(i == n - 1),
            success=i == n - 1,
            intervention=corrected,
        )


def recorded(folder: Path, episodes: int, rows: int) -> Dataset:
    """A dataset of such episodes without cameras, written and read back."""
    spec = robot()
    with DatasetWriter.open(folder, spec, ('cube',)) as writer:
        for seed in range(episodes):
            writer.begin(info(seed))
            for step in steps(spec, rows, seed, objects=('cube',)):
                writer.add(step)
            writer.end(Outcome.SUCCESS)
    return open_dataset(folder)
