"""CPU time per camera picture: the OpenGL renderer against PyBullet's TinyRenderer.

Process CPU time, all threads, of rendering 1 to 4 cameras of one instant, poses read anew for
each; both renderers take turns on the same instants of the same episode (the arms move between
rounds, so the shadow pass counts). Includes reading the picture back.

    python3 benchmarks/render_speed.py [--rounds 30]

Writes benchmarks/results/render_speed.json. Target: <= 10 ms for 640x480 with moderngl.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_NUM_THREADS', '1')  # idle BLAS threads spin, and that would count

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from il_robot.resources import named_config  # noqa: E402
from il_robot.sim import DEFAULT_ROBOT, make  # noqa: E402
from il_robot.sim.renderer import Renderer, make_renderer  # noqa: E402
from il_robot.spec import CameraSpec, load_robot_spec  # noqa: E402

SIZES = ((160, 120), (320, 240), (640, 480))


def cumulative(renderer: Renderer, cameras: Sequence[CameraSpec], size: tuple[int, int],
               depth: bool = False) -> list[float]:
    """CPU milliseconds until the first, second, ... camera of this instant was rendered."""
    start, times = time.process_time(), []
    for camera in cameras:
        if depth:
            renderer.render(camera, *size, depth=True)
        else:
            renderer.render(camera, *size)
        times.append(1e3 * (time.process_time() - start))
    return times


def instants() -> Iterator[int]:
    """The client of an endless series of episodes, one control step further each time."""
    env = make('transfer_cube')
    env.reset(seed=0)
    while True:
        yield env.world.client
        *_, terminated, truncated, _ = env.step(env.expert().position)
        if terminated or truncated:
            env.reset()


def measure(rounds: int) -> dict[str, Any]:
    """Median CPU milliseconds per picture by size and number of cameras."""
    cameras = load_robot_spec(named_config('robots', DEFAULT_ROBOT)).cameras
    world = instants()
    client = next(world)
    renderers = {name: make_renderer(client, name) for name in ('moderngl', 'tiny')}
    cases = [(size, depth) for size in SIZES for depth in (False, True)]
    times: dict[Any, list[list[float]]] = {
        (*case, name): [] for case in cases for name in renderers}
    for warm_up in (True, *(rounds * [False])):  # the first picture of a size compiles
        for size, depth in cases:
            next(world)
            for name, renderer in renderers.items():
                seen = cameras[:1] if depth else cameras
                spent = cumulative(renderer, seen, size, depth)
                if not warm_up:
                    times[size, depth, name].append(spent)
    rows = []
    for size, depth in cases:
        gl, tiny = (np.median(times[size, depth, name], 0) for name in ('moderngl', 'tiny'))
        best = np.min(times[size, depth, 'moderngl'], 0)
        rows += [{
            'width': size[0], 'height': size[1], 'cameras': k, 'depth': depth,
            'moderngl_ms': round(float(gl[k - 1] / k), 3),
            'moderngl_best_ms': round(float(best[k - 1] / k), 3),
            'tiny_ms': round(float(tiny[k - 1] / k), 3),
            'ratio': round(float(tiny[k - 1] / gl[k - 1]), 2),
        } for k in range(1, len(gl) + 1)]
    return {'backend': renderers['moderngl'].backend, 'pictures': rows}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=30, help='measurements of each case')
    rounds = parser.parse_args().rounds
    result = {
        'command': f'python3 benchmarks/render_speed.py --rounds {rounds}',
        'unit': 'process CPU milliseconds per picture, median (best: minimum)', 'n': rounds,
        'machine': {'processor': platform.machine(), 'system': platform.system(),
                    'cpus': os.cpu_count(), 'python': platform.python_version()},
        'versions': {name: version(name) for name in ('moderngl', 'numpy', 'pybullet')},
        'LP_NUM_THREADS': os.environ.get('LP_NUM_THREADS', '0'),
        **measure(rounds),
    }
    file = HERE / 'results' / 'render_speed.json'
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + '\n')
    print(result['backend'])
    for row in result['pictures']:
        print('{width}x{height}, {cameras} camera(s), depth {depth}: moderngl {moderngl_ms:.2f} '
              '(best {moderngl_best_ms:.2f}), tiny {tiny_ms:.2f} ms, {ratio:.1f}x'.format(**row))


if __name__ == '__main__':
    main()
