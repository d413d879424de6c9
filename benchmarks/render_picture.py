"""The pictures of the README: each task at its telling moment, and what the cameras see.

The real environment, driven by its expert, drawn by the real renderer; only the size differs:
drawn three times as large and averaged, which is the antialiasing a camera cannot afford.

    python3 benchmarks/render_picture.py [--folder docs/images]

Writes transfer_cube.png, insert_peg.png, lift_tray.png (1280 x 720) and cameras.png.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from matplotlib.image import imsave  # noqa: E402

from il_robot.sim import make  # noqa: E402
from il_robot.sim.bimanual_env import BimanualEnv  # noqa: E402
from il_robot.sim.renderer import Renderer, make_renderer  # noqa: E402
from il_robot.spec import CameraSpec  # noqa: E402
from il_robot.types import UInt8  # noqa: E402

SUPERSAMPLING = 3
HERO = CameraSpec('hero', 'base', (0.38, -1.20, 0.68), (0.0, 0.0, 0.18), (0.0, 0.0, 1.0), 34.0,
                  1280, 720)
# stage that has to be reached, and control steps to wait after it
MOMENTS = {
    'transfer_cube': ('offered', 0), 'insert_peg': ('entered', 0), 'lift_tray': ('lifted', 8)}


def smooth_picture(renderer: Renderer, camera: CameraSpec, width: int, height: int) -> UInt8:
    """``(height, width, 3)``, averaged from one ``SUPERSAMPLING`` times as large."""
    n = SUPERSAMPLING
    large = renderer.render(camera, n * width, n * height)
    mean = large.reshape(height, n, width, n, 3).mean((1, 3))
    return np.asarray(np.rint(mean), np.uint8)


def wait_for(env: BimanualEnv, stage: str, longer: int) -> None:
    """Let the expert work until the stage is reached, and ``longer`` steps more."""
    _, info = env.reset(seed=3)
    while info['stage'] < env.task.stages.index(stage):
        *_, terminated, truncated, info = env.step(env.expert().position)
        if terminated or truncated:
            raise SystemExit(f'{env.task.name}: the expert never reached {stage!r}')
    for _ in range(longer):
        env.step(env.expert().position)


def main() -> None:
    """Render and write all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--folder', type=Path, default=HERE.parent / 'docs' / 'images')
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for task, (stage, longer) in MOMENTS.items():
        env = make(task)
        wait_for(env, stage, longer)
        renderer = make_renderer(env.world.client, detail=4)
        imsave(folder / f'{task}.png', smooth_picture(renderer, HERO, HERO.width, HERO.height))
        print(folder / f'{task}.png', '--', renderer.backend)
        if task == 'transfer_cube':
            views = [smooth_picture(renderer, c, 320, 240) for c in env.robot.cameras]
            imsave(folder / 'cameras.png', np.hstack(views))
        renderer.close()
        env.close()


if __name__ == '__main__':
    main()
