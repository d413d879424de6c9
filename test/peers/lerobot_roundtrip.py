"""Prove both directions with the real LeRobot package (0.4.x, in an environment of its own).

1. We record a dataset with three cameras; LeRobot opens it, returns every row bit for bit,
   decodes the videos, and trains steps of its ACT policy on it.
2. LeRobot records datasets (videos, several episodes per file; and images in the table); we
   open, verify and window them, see the very values and pictures, and train on them with
   `il_robot train`.

Run, from the top of the source tree:

    python3 -m venv outputs/lerobot && outputs/lerobot/bin/pip install 'lerobot==0.4.4'
    python3 test/peers/lerobot_roundtrip.py --lerobot-python outputs/lerobot/bin/python

Writes benchmarks/results/lerobot_roundtrip.json; exit code 0 where everything agreed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
EPISODES, LENGTH, CAMERAS = 3, 60, 3
TRAIN_STEPS, BATCH, CHUNK = 3, 2, 20
OUR_TRAIN_STEPS = 60
THEIR_FPS, THEIR_LENGTHS = 30, (25, 40, 33)
THEIR_SIZE = (96, 128)


def main() -> int:
    """Parse the command line and run one side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--lerobot-python', help='interpreter that has LeRobot installed')
    parser.add_argument('--inside', metavar='FOLDER', help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        inside_lerobot(Path(arguments.inside))
        return 0
    if not arguments.lerobot_python:
        parser.error('--lerobot-python is needed (see --help for how to make one)')
    with tempfile.TemporaryDirectory() as folder:
        result = roundtrip(Path(folder), arguments.lerobot_python)
    out = ROOT / 'benchmarks' / 'results' / 'lerobot_roundtrip.json'
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + '\n')
    print(json.dumps(result, indent=2))
    return 0 if result['ok'] else 1


def roundtrip(folder: Path, python: str) -> dict[str, Any]:
    """Both directions; every comparison is a named boolean in ``checks``."""
    sys.path[:0] = [str(ROOT), str(ROOT / 'benchmarks')]
    record_ours(folder / 'ours')
    environment = {**os.environ, 'HF_HUB_OFFLINE': '1', 'HF_HOME': str(folder / 'hf')}
    subprocess.run([python, __file__, '--inside', str(folder)], check=True, env=environment)
    theirs = json.loads((folder / 'inside.json').read_text())
    checks = {**compare_ours(folder), **compare_theirs(folder)}
    losses = theirs['act']['losses']
    checks['ACT trains: loss finite and lower after the steps'] = bool(
        np.isfinite(losses).all() and losses[-1] < losses[0])
    return {
        'command': 'python3 test/peers/lerobot_roundtrip.py --lerobot-python PYTHON',
        'ok': all(checks.values()), 'checks': checks, 'lerobot': theirs,
        'machine': {'processor': platform.machine(), 'cores': os.cpu_count(),
                    'python': platform.python_version()},
        'n': {'our episodes': EPISODES, 'rows each': LENGTH, 'cameras': CAMERAS,
              'their episodes': len(THEIR_LENGTHS)},
    }


def record_ours(path: Path) -> None:
    """Record the dataset that LeRobot shall open."""
    import synthetic_episodes as synthetic

    from il_robot.data.writer import DatasetWriter
    from il_robot.types import Outcome

    spec = synthetic.robot()
    views = synthetic.cameras(spec, CAMERAS)
    with DatasetWriter.open(path, spec, synthetic.OBJECTS, views) as writer:
        for episode in range(EPISODES):
            task = ('transfer_cube', 'lift_tray')[episode % 2]
            writer.begin(synthetic.info(seed=episode, task=task))
            for step in synthetic.steps(spec, LENGTH, episode, views=views):
                writer.add(step)
            writer.end(Outcome.SUCCESS)


def compare_ours(folder: Path) -> dict[str, bool]:
    """What LeRobot read of our dataset, against what we read of it."""
    from il_robot.data.dataset import open_dataset

    dataset = open_dataset(folder / 'ours')
    read = np.load(folder / 'ours_read.npz', allow_pickle=True)
    checks = {
        f'LeRobot reads our {key} bit for bit': np.array_equal(
            read[key].reshape(dataset.columns[key].shape), dataset.columns[key], equal_nan=True)
        for key in dataset.columns
    }
    tasks = [dataset.episodes[e].language for e in dataset.episode_of_row]
    checks['LeRobot reads our instructions'] = list(read['task']) == tasks
    for camera in dataset.cameras:
        mine = np.stack(list(dataset.frames(1, camera)))[::10]
        other = np.rint(read[f'frames.{camera}'] * 255).transpose(0, 2, 3, 1)
        checks[f'LeRobot decodes our {camera} as we do'] = bool(
            np.abs(mine.astype(float) - other).mean() < 1.0)
    return checks


def compare_theirs(folder: Path) -> dict[str, bool]:
    """Open what LeRobot recorded: values, pictures, windows, verification."""
    from il_robot.data.dataset import open_dataset
    from il_robot.data.normalizer import fit_normalizer
    from il_robot.data.verify import verify
    from il_robot.data.windows import gather, window_index

    checks = {}
    for kind in ('video', 'image'):
        dataset = open_dataset(folder / f'theirs_{kind}')
        expected = [their_episode(e) for e in range(len(THEIR_LENGTHS))]
        state = np.concatenate([e[0] for e in expected])
        action = np.concatenate([e[1] for e in expected])
        checks[f'we read their {kind} dataset bit for bit'] = bool(
            np.array_equal(dataset.state, state) and np.array_equal(dataset.action, action))
        errors = [
            np.abs(np.stack(list(dataset.frames(e, 'front'))).astype(float) - images).mean()
            for e, (_, _, images) in enumerate(expected)
        ]
        checks[f'we decode their {kind}s, each episode its own'] = bool(
            max(errors) <= {'video': 6.0, 'image': 0.0}[kind])
        checks[f'their {kind} dataset verifies'] = verify(folder / f'theirs_{kind}').ok
        windows = window_index(dataset.starts, dataset.stops, chunk_size=CHUNK)
        rows, padding = windows.action_rows(np.arange(len(windows)))
        normal = fit_normalizer({'action': dataset.action})
        batch = normal.normalize('action', gather(dataset.action, rows))
        checks[f'we window and normalise their {kind} dataset'] = bool(
            batch.shape == (len(state), CHUNK, 6) and np.isfinite(batch).all()
            and padding.sum() == len(THEIR_LENGTHS) * CHUNK * (CHUNK - 1) // 2)
        losses = train_ours(folder / f'theirs_{kind}', folder / f'run_{kind}')
        checks[f'il_robot train learns from their {kind} dataset'] = bool(
            np.isfinite(losses).all() and losses[-1] < losses[0])
    return checks


def train_ours(dataset: Path, output: Path) -> list[float]:
    """`il_robot train` with the chunk policy; the losses it wrote."""
    command = ['train', '--policy', 'chunk_mlp', '--dataset', str(dataset),
               '--output', str(output), '--steps', str(OUR_TRAIN_STEPS),
               '--set', 'training.log_every=20']
    program = 'import sys; from il_robot.apps.main import main; sys.exit(main(sys.argv[1:]))'
    subprocess.run([sys.executable, '-c', program, *command], check=True, cwd=ROOT)
    lines = (output / 'metrics.jsonl').read_text().splitlines()
    return [json.loads(line)['loss'] for line in lines]


def their_episode(episode: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """State ``(n, 6)``, action ``(n, 6)`` and images ``(n, H, W, 3)`` LeRobot records."""
    n = THEIR_LENGTHS[episode]
    rng = np.random.default_rng(episode)
    state = rng.standard_normal((n, 6)).astype(np.float32)
    ramp = np.linspace(0, 80, THEIR_SIZE[1])
    images = np.empty((n, *THEIR_SIZE, 3), dtype=np.uint8)
    for i in range(n):
        images[i] = (ramp[None, :, None] + 40 * episode + 2 * i).astype(np.uint8)
    return state, state * 0.5, images


def inside_lerobot(folder: Path) -> None:
    """The part that runs in LeRobot's environment; il_robot is not imported here."""
    import lerobot
    import torch

    torch.manual_seed(0)
    read_ours(folder)
    act = train_act(folder)
    for kind in ('video', 'image'):
        record_theirs(folder / f'theirs_{kind}', kind)
    versions = {'lerobot': lerobot.__version__, 'torch': torch.__version__}
    (folder / 'inside.json').write_text(json.dumps({'versions': versions, 'act': act}))


def read_ours(folder: Path) -> None:
    """Read every row of our dataset through LeRobot, and every tenth frame of one episode."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset('ours/ours', root=folder / 'ours')
    table = dataset.hf_dataset.with_format('numpy')[:]
    rows = {key: np.asarray(value) for key, value in table.items()}
    items = [dataset[i] for i in range(LENGTH, 2 * LENGTH, 10)]
    for key in dataset.meta.video_keys:
        rows[f'frames.{key.rpartition(".")[2]}'] = np.stack([item[key].numpy() for item in items])
    rows['task'] = np.array([dataset[i]['task'] for i in range(len(dataset))])
    np.savez(folder / 'ours_read.npz', **rows)


def train_act(folder: Path) -> dict[str, Any]:
    """A few steps of LeRobot's ACT at its default size, on one batch of our dataset."""
    import torch
    from lerobot.configs.types import FeatureType
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.datasets.utils import dataset_to_policy_features
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    fps = LeRobotDataset('ours/ours', root=folder / 'ours').fps
    dataset = LeRobotDataset(
        'ours/ours', root=folder / 'ours',
        delta_timestamps={'action': [i / fps for i in range(CHUNK)]})
    features = dataset_to_policy_features(dataset.features)
    actions = {k: f for k, f in features.items() if f.type is FeatureType.ACTION}
    config = ACTConfig(
        input_features={k: f for k, f in features.items() if k not in actions},
        output_features=actions, chunk_size=CHUNK, n_action_steps=CHUNK, device='cpu',
        pretrained_backbone_weights=None)
    policy = ACTPolicy(config)
    policy.train()
    before, _ = make_pre_post_processors(config, dataset_stats=dataset.meta.stats)
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True)
    batch = before(next(iter(loader)))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-5)
    losses = []
    started = time.perf_counter()
    for _ in range(TRAIN_STEPS):
        loss, _ = policy.forward(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return {
        'losses': losses, 'seconds_per_step': (time.perf_counter() - started) / TRAIN_STEPS,
        'parameters': sum(p.numel() for p in policy.parameters()), 'batch': BATCH,
        'inputs': sorted(config.input_features), 'chunk_size': CHUNK,
    }


def record_theirs(path: Path, kind: str) -> None:
    """Record with LeRobot's own writer and its default codec."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    names = [f'joint_{i}' for i in range(6)]
    dataset = LeRobotDataset.create(
        'theirs/theirs', fps=THEIR_FPS, root=path, robot_type='so101', use_videos=kind == 'video',
        features={
            'observation.state': {'dtype': 'float32', 'shape': (6,), 'names': names},
            'action': {'dtype': 'float32', 'shape': (6,), 'names': names},
            'observation.images.front': {
                'dtype': kind, 'shape': (*THEIR_SIZE, 3),
                'names': ['height', 'width', 'channels']},
        })
    for episode in range(len(THEIR_LENGTHS)):
        state, action, images = their_episode(episode)
        for i in range(len(state)):
            dataset.add_frame({
                'observation.state': state[i], 'action': action[i],
                'observation.images.front': images[i], 'task': f'task {episode % 2}'})
        dataset.save_episode()
    dataset.finalize()


if __name__ == '__main__':
    sys.exit(main())
