"""How well the poses estimated from cameras are, while the policy drives that believes them.

    python benchmarks/pose_error.py [RUN] [--episodes 20] [--seed0 1000]

RUN is a run of a recipe with ``observation.estimate``, such as those of
``benchmarks/policies.py --only transfer_cube/mlp_images``. Its policy drives unseen episodes;
at each step the estimate is compared with the simulator's pose, by the stage reached so far.
Writes benchmarks/results/pose_error.json, beside it the picture (what the cameras saw, with the
true and the estimated box, and the errors), and the table in docs/policies.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import il_robot.sim as sim
from il_robot.algorithms.controller import PolicyFactory
from il_robot.algorithms.evaluate import as_observation
from il_robot.checkpoints import camera_arguments
from il_robot.data.pictures import resized
from il_robot.errors import ConfigError
from il_robot.policies.checkpoint import load_checkpoint
from il_robot.policies.estimator import EstimatingPolicy, PoseEstimator
from il_robot.policies.features import robot_hands
from il_robot.policies.views import View, project, robot_views
from il_robot.rotations import matrix_from_quaternion
from il_robot.statistics import wilson
from il_robot.types import Float32, Observation

RESULTS = Path(__file__).parent / 'results' / 'pose_error.json'
DOCUMENT = Path(__file__).parents[1] / 'docs' / 'policies.md'
BEGIN, END = '<!-- results: benchmarks/pose_error.py -->', '<!-- end of results -->'
RUN = Path('outputs/policies/transfer_cube_50_mlp_images_0')
EDGES = ((1, 2), (3, 4), (5, 6), (7, 8), (1, 3), (2, 4), (5, 7), (6, 8),
         (1, 5), (2, 6), (3, 7), (4, 8))
"""Of the box, as pairs of marks."""
TRUE, ESTIMATED = '#30ff60', 'black'


@dataclass(frozen=True)
class Moment:
    """One step of an episode.

    Attributes:
        stage: Highest one reached so far.
        observation: What was seen; its objects are the true poses.
        estimate: Poses by object.
        seconds: CPU time of the estimate.
        success: Of the episode, so far.
    """

    stage: str
    observation: Observation
    estimate: dict[str, Float32]
    seconds: float
    success: bool


class Looker:
    """A trained estimator beside the policy that uses it."""

    def __init__(self, run: Path) -> None:
        checkpoint, policy = load_checkpoint(run)
        if not isinstance(policy, EstimatingPolicy) or checkpoint.robot is None:
            raise ConfigError(f'{run} estimates no poses; its recipe needs observation.estimate')
        self.checkpoint, self.estimator = checkpoint, policy.estimator
        self.views: dict[str, View] = robot_views(
            checkpoint.robot, self.estimator.names, robot_hands(checkpoint.robot))

    def look(self, seen: Observation) -> dict[str, Float32]:
        """Poses ``(7,)`` by object."""
        pictures = {
            name: torch.tensor(resized(seen.images[name], self.estimator.size)).permute(
                2, 0, 1)[None] for name in self.estimator.names}
        found = self.estimator.estimate(pictures, seen.state[None], self.views)
        return {name: poses[0] for name, poses in found.items()}


def episode(env: Any, controller: Any, looker: Looker, seed: int) -> Iterator[Moment]:
    """The steps of one episode."""
    obs, info = env.reset(seed=seed)
    controller.reset(np.random.default_rng([seed, 1]))
    dt, step, ended = env.unwrapped.robot.dt, 0, False
    while not ended:
        seen = as_observation(obs, step * dt)
        start = time.process_time()
        estimate = looker.look(seen)
        seconds = time.process_time() - start
        stage = str(info['stage_name'])
        obs, _, terminated, truncated, info = env.step(controller.act(seen))
        step, ended = step + 1, terminated or truncated
        yield Moment(stage, seen, estimate, seconds, bool(info['success']))


def errors(moments: list[Moment], name: str) -> tuple[Any, Any]:
    """Distances [mm] and angles [deg] between true and estimated poses."""
    true = np.array([m.observation.objects[name] for m in moments], np.float64)
    found = np.array([m.estimate[name] for m in moments], np.float64)
    distance = 1e3 * np.linalg.norm(found[:, :3] - true[:, :3], axis=1)
    turn = matrix_from_quaternion(true[:, 3:]).swapaxes(1, 2) @ matrix_from_quaternion(
        found[:, 3:])
    cosine = (np.trace(turn, axis1=1, axis2=2) - 1) / 2
    return distance, np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def spread(values: Any) -> dict[str, float]:
    """Median, and what nineteen of twenty keep."""
    return {'median': round(float(np.median(values)), 2),
            'p95': round(float(np.percentile(values, 95)), 2)}


def summary(moments: list[Moment], name: str, stages: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each of ``stages`` that was reached."""
    rows = []
    for stage in stages:
        of_stage = [m for m in moments if m.stage == stage]
        if not of_stage:
            continue
        distance, angle = errors(of_stage, name)
        rows.append({'object': name, 'stage': stage, 'steps': len(distance),
                     'position_mm': spread(distance), 'rotation_deg': spread(angle)})
    return rows


def publish(result: dict[str, Any]) -> None:
    """The table into docs/policies.md."""
    lines = ['| stage | steps | position [mm], median (95 % below) | rotation [deg] |',
             '|---|---|---|---|']
    for row in result['rows']:
        position, rotation = (
            f'{row[key]["median"]:.1f} ({row[key]["p95"]:.1f})'
            for key in ('position_mm', 'rotation_deg'))
        lines.append(f'| {row["stage"]} | {row["steps"]} | {position} | {rotation} |')
    low, high = (100 * v for v in result['interval_95'])
    lines += ['', f'{result["successes"]} of {result["episodes"]} of these episodes succeeded '
              f'({low:.0f} to {high:.0f} %); one estimate takes '
              f'{result["estimate_cpu_ms"]["median"]:.0f} ms.']
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    text = '\n'.join(lines)
    DOCUMENT.write_text(f'{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}')
    print(text)


def draw(moments: list[Moment], looker: Looker, rows: list[dict[str, Any]], path: Path) -> None:
    """What the cameras saw at the beginning of each stage of the first episode; the errors."""
    from matplotlib.figure import Figure

    stages = [row['stage'] for row in rows]
    cameras = looker.estimator.names
    figure = Figure(figsize=(2.6 * len(stages), 2 * len(cameras) + 2.6), layout='constrained')
    grid = figure.add_gridspec(len(cameras) + 1, 2 * len(stages),
                               height_ratios=[*(2 for _ in cameras), 2.4])
    for column, stage in enumerate(stages):
        moment = next(m for m in moments if m.stage == stage)
        for line, camera in enumerate(cameras):
            axes = figure.add_subplot(grid[line, 2 * column:2 * column + 2])
            show(axes, looker, moment, camera)
            if line == 0:
                axes.set_title(stage)
            if column == 0:
                axes.set_ylabel(camera)
    half = len(stages)
    for place, key, index in ((slice(0, half), 'position [mm]', 0),
                              (slice(half, None), 'rotation [deg]', 1)):
        axes = figure.add_subplot(grid[-1, place])
        axes.boxplot(
            [errors([m for m in moments if m.stage == s], rows[0]['object'])[index]
             for s in stages], tick_labels=stages, whis=(5, 95), showfliers=False)
        axes.set_ylabel(f'error of the {key}')
        axes.set_ylim(0)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=90)


def show(axes: Any, looker: Looker, moment: Moment, camera: str) -> None:
    """A picture with the true and the estimated box of every object."""
    picture = moment.observation.images[camera]
    height, width = picture.shape[:2]
    axes.imshow(picture)
    for poses, color, thickness in ((moment.observation.objects, TRUE, 2.5),
                                 (moment.estimate, ESTIMATED, 0.8)):
        for name in looker.estimator.objects:
            marks = box(looker.estimator, poses[name])
            view = looker.views[camera]
            image, depth = project(
                marks[None], view.frames(moment.observation.state[None]), view.focal)
            x, y = (image[0] * height / 2 + np.array([width, height]) / 2 - 0.5).T
            for a, b in EDGES:
                if min(depth[0, a], depth[0, b]) > 0.03:
                    axes.plot(x[[a, b]], y[[a, b]], color=color, lw=thickness)
    axes.set(xlim=(0, width - 1), ylim=(height - 1, 0), xticks=[], yticks=[])


def box(estimator: PoseEstimator, pose: Float32) -> Any:
    """``(9, 3)`` marks of an object in ``base`` [m]."""
    rotation = matrix_from_quaternion(pose[3:])
    return estimator.marks @ rotation.T + pose[:3].astype(np.float64)


def main() -> None:
    """Drive, compare, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('run', type=Path, nargs='?', default=RUN)
    parser.add_argument('--episodes', type=int, default=20)
    parser.add_argument('--seed0', type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    looker = Looker(args.run)
    known = looker.checkpoint
    env = sim.make(known.task, **camera_arguments(known.recorded, known.robot))
    controller = PolicyFactory(args.run)(env)
    seeds = range(args.seed0, args.seed0 + args.episodes)
    played = [list(episode(env, controller, looker, seed)) for seed in seeds]
    env.close()
    moments = [m for steps in played for m in steps]
    solved = sum(steps[-1].success for steps in played)
    rows = [row for name in looker.estimator.objects
            for row in summary(moments, name, env.unwrapped.task.stages)]
    result = {
        'command': f'python benchmarks/pose_error.py --episodes {args.episodes} --seed0 '
                   f'{args.seed0}',
        'recipe': {'task': known.task, 'cameras': list(looker.estimator.names),
                   'image_size': list(looker.estimator.size), 'training_seed': known.seed},
        'episodes': args.episodes, 'successes': solved,
        'interval_95': wilson(solved, args.episodes),
        'estimate_cpu_ms': spread([1e3 * m.seconds for m in moments]), 'rows': rows}
    RESULTS.write_text(json.dumps(result, indent=1) + '\n')
    draw(moments, looker, rows, RESULTS.with_suffix('.png'))
    publish(result)


if __name__ == '__main__':
    main()
