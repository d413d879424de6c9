"""Training step of our ACT against LeRobot's, matched sizes, taking turns in one run.

Both have width 256, 8 heads, 4 + 4 encoder layers, 1 decoder layer, chunks of 100, batches of 8,
dropout 0.1, joint state and environment state, no images; feed-forward layers of 3200 (LeRobot's
default) and 1024 (ours). First LeRobot's weights are loaded into our network, and the outputs
must agree: it is the same function that is timed.

* Ours is a step of ``algorithms.bc.train`` as users run it, with its batch gathered from the
  dataset, schedule and records. LeRobot's is its ``update_policy`` with the optimiser of its
  preset, on one batch that was made beforehand. Target: >= 1.5x on a CPU.
* ``fused`` gives LeRobot the optimiser that we use, too: what the network alone gains.
* ``predict``: one observation to one chunk.

    python3 benchmarks/act_speed.py --lerobot-python LEROBOT/bin/python [--rounds 15]

Writes benchmarks/results/act_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # as `il_robot train` sets it; for both

import torch
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import synthetic_episodes as synthetic  # noqa: E402
from peer import Peer  # noqa: E402

from il_robot.algorithms.bc import train  # noqa: E402
from il_robot.algorithms.recipe import Recipe, make_recipe  # noqa: E402
from il_robot.algorithms.samples import dataset_layout  # noqa: E402
from il_robot.data.dataset import Dataset  # noqa: E402
from il_robot.policies.act import ACTConfig, ACTPolicy, build_act, divergence  # noqa: E402

EPISODES, ROWS, BLOCK = 5, 140, 4
FEEDFORWARD = (3200, 1024)
TARGET, TOLERANCE = 1.5, 1e-4


def translated(weights: dict[str, torch.Tensor], config: ACTConfig) -> dict[str, torch.Tensor]:
    """LeRobot's weights under our names."""
    out: dict[str, torch.Tensor] = {}

    def linear(ours: str, theirs: str) -> None:
        for kind in ('weight', 'bias'):
            out[f'{ours}.{kind}'] = weights[f'{theirs}.{kind}']

    def attention(ours: str, theirs: str) -> None:
        for kind in ('weight', 'bias'):
            parts = weights[f'{theirs}.in_proj_{kind}'].chunk(3)
            for name, part in zip(('query', 'key', 'value'), parts):
                out[f'{ours}.{name}.{kind}'] = part
        linear(f'{ours}.out', f'{theirs}.out_proj')

    def layer(ours: str, theirs: str, norms: tuple[int, ...]) -> None:
        linear(f'{ours}.feed_forward.inner', f'{theirs}.linear1')
        linear(f'{ours}.feed_forward.outer', f'{theirs}.linear2')
        for i in norms:
            linear(f'{ours}.norm{i}', f'{theirs}.norm{i}')

    for stack, theirs, count in (
            ('posterior.encoder', 'vae_encoder', config.posterior_layers),
            ('encoder', 'encoder', config.encoder_layers)):
        for i in range(count):
            attention(f'{stack}.layers.{i}.attention', f'{theirs}.layers.{i}.self_attn')
            layer(f'{stack}.layers.{i}', f'{theirs}.layers.{i}', (1, 2))
    attention('decoder.0.attention', 'decoder.layers.0.multihead_attn')
    layer('decoder.0', 'decoder.layers.0', (2, 3))
    for ours, theirs in (
            ('posterior.state_in', 'vae_encoder_robot_state_input_proj'),
            ('posterior.action_in', 'vae_encoder_action_input_proj'),
            ('posterior.out', 'vae_encoder_latent_output_proj'),
            ('latent_in', 'encoder_latent_input_proj'),
            ('feature_in.0', 'encoder_robot_state_input_proj'),
            ('feature_in.1', 'encoder_env_state_input_proj'),
            ('norm', 'decoder.norm'), ('action_out', 'action_head')):
        linear(ours, theirs)
    out['posterior.class_token'] = weights['vae_encoder_cls_embed.weight'][None]
    out['positions'] = weights['encoder_1d_feature_pos_embed.weight']
    out['queries'] = weights['decoder_pos_embed.weight']
    # Its first self-attention sees zeros, so what it gives is the same for every step.
    first = 'decoder.layers.0'
    constant = (
        weights[f'{first}.self_attn.out_proj.weight']
        @ weights[f'{first}.self_attn.in_proj_bias'][2 * config.dim:]
        + weights[f'{first}.self_attn.out_proj.bias'])
    start = torch.nn.functional.layer_norm(
        constant, (config.dim,), weights[f'{first}.norm1.weight'], weights[f'{first}.norm1.bias'])
    out['start'] = start.expand(config.chunk_size, -1)
    return out


def differences(
    policy: ACTPolicy, config: ACTConfig, sample: dict[str, torch.Tensor]
) -> dict[str, float]:
    """Largest difference of prediction and divergence with LeRobot's weights in our network."""
    prefix = 'weights.'
    weights = {k[len(prefix):]: v for k, v in sample.items() if k.startswith(prefix)}
    policy.load_state_dict(translated(weights, config))
    state = sample['observation.state']
    features = torch.cat([state, sample['observation.environment_state']], 1)[:, None]
    with torch.inference_mode():
        action = policy.eval().predict({'features': features}, torch.Generator())
        posterior = policy.posterior(state, sample['action'], sample['action_is_pad'])
        kl = divergence(*posterior).mean()
    found = {
        'prediction': float((action - sample['predicted']).abs().max()),
        'divergence': float((kl / sample['divergence'] - 1).abs()),
    }
    if max(found.values()) > TOLERANCE:
        raise SystemExit(f'the networks are not the same function: {found}')
    return found


def take_turns(
    dataset: Dataset, recipe: Recipe, lerobot: Peer
) -> dict[str, list[float]]:
    """Seconds of every BLOCK steps of our training; after each, LeRobot has its turns."""
    seconds: dict[str, list[float]] = {'ours': [], 'preset': [], 'fused': []}
    mark = time.perf_counter()

    def turn(record: Any) -> None:
        nonlocal mark
        seconds['ours'].append(time.perf_counter() - mark)
        for name in ('preset', 'fused'):
            seconds[name].append(lerobot.seconds(name, BLOCK))
        mark = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        train(dataset, recipe, Path(folder) / 'run', on_log=turn)
    return seconds


def predicting(
    policy: ACTPolicy, dim: int, lerobot: Peer, device: str, rounds: int
) -> dict[str, float]:
    """Milliseconds from one observation to one chunk."""
    features = torch.zeros(1, 1, dim, device=device)
    policy, generator = policy.to(device).eval(), torch.Generator(device)
    seconds: dict[str, list[float]] = {'ours': [], 'lerobot': []}
    for _ in range(rounds):
        begin = time.perf_counter()
        with torch.inference_mode():
            for _ in range(BLOCK):
                policy.predict({'features': features}, generator)
        if device != 'cpu':
            torch.cuda.synchronize()
        seconds['ours'].append(time.perf_counter() - begin)
        seconds['lerobot'].append(lerobot.seconds('predict', BLOCK))
    ours, theirs = (1e3 * statistics.median(v[1:]) / BLOCK for v in seconds.values())
    return {'ours_ms': round(ours, 2), 'lerobot_ms': round(theirs, 2),
            'ratio': round(theirs / ours, 2)}


def case(dataset: Dataset, feedforward: int, args: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    layout, action = dataset_layout(dataset), dataset.action.shape[1]
    config = ACTConfig(feedforward=feedforward)
    recipe = make_recipe({
        'policy': 'act', 'model': {'feedforward': feedforward},
        'training': {
            'steps': (args.rounds + 2) * BLOCK, 'batch_size': 8, 'log_every': BLOCK,
            'validation': 0.0, 'grad_clip': 10.0, 'device': args.device, 'threads': args.threads,
        }})
    sizes = {
        'batch': 8, 'chunk': config.chunk_size, 'dim': config.dim, 'heads': config.heads,
        'feedforward': feedforward, 'action': action, 'state': len(layout.joints),
        'environment': layout.dim - len(layout.joints)}
    with tempfile.TemporaryDirectory() as folder:
        file, sample = (Path(folder) / name for name in ('sizes.json', 'sample.safetensors'))
        file.write_text(json.dumps(sizes))
        lerobot = Peer(
            args.lerobot_python, 'lerobot_act.py', file, sample, args.device, args.threads)
        policy = build_act(config, layout, action)
        same = differences(policy, config, load_file(sample))
        seconds = take_turns(dataset, recipe, lerobot)
        predict = predicting(policy, layout.dim, lerobot, args.device, args.rounds)
        lerobot.close()
    # the first round holds the set-up, the last one the end
    step = {k: 1e3 * statistics.median(v[1:-1]) / BLOCK for k, v in seconds.items()}
    return {
        'sizes': sizes, 'versions_lerobot': lerobot.about['versions'],
        'parameters': {'ours': sum(p.numel() for p in policy.parameters()),
                       'lerobot': lerobot.about['parameters']},
        'difference': same,
        'step_ms': {k: round(v, 1) for k, v in step.items()},
        'ratio_to_preset': round(step['preset'] / step['ours'], 2),
        'ratio_to_fused': round(step['fused'] / step['ours'], 2),
        'predict': predict,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--lerobot-python', required=True, help='python that has lerobot 0.4.4')
    parser.add_argument('--rounds', type=int, default=15, help=f'turns of {BLOCK} steps')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = synthetic.recorded(Path(folder) / 'dataset', EPISODES, ROWS)
        rows = [case(dataset, feedforward, args) for feedforward in FEEDFORWARD]
    device = torch.cuda.get_device_name() if args.device != 'cpu' else 'cpu'
    result = {
        'command': f'python3 benchmarks/act_speed.py --lerobot-python LEROBOT/bin/python '
                   f'--rounds {args.rounds} --device {args.device} --threads {args.threads}',
        'n': args.rounds, 'steps_per_turn': BLOCK,
        'machine': {'processor': platform.machine(), 'system': platform.system(),
                    'cpus': os.cpu_count(), 'python': platform.python_version(),
                    'device': device, 'load_average': [round(v, 1) for v in os.getloadavg()]},
        'versions': {p: version(p) for p in ('torch', 'numpy')},
        'target': TARGET, 'train': rows,
    }
    file = HERE / 'results' / 'act_speed.json'
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=2) + '\n')
    for row in rows:
        print(f'feedforward {row["sizes"]["feedforward"]}: step {row["step_ms"]} ms, '
              f'ratio {row["ratio_to_preset"]} (target {TARGET}), with the fused optimiser '
              f'{row["ratio_to_fused"]}; predict {row["predict"]}; same function to '
              f'{row["difference"]}')


if __name__ == '__main__':
    main()
