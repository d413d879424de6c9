"""``il_robot export``: a checkpoint in a format that other programs run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Add ``export`` to the command line."""
    parser = subparsers.add_parser(
        'export', help='write a policy as an ONNX file',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Write a checkpoint as one ONNX file: raw features [rad, m] in, raw actions '
                    'out.\nNames, units and shapes stand in its metadata (il_robot.*).',
        epilog='example:\n  il_robot export --onnx outputs/run --output policy.onnx')
    parser.add_argument(
        '--onnx', required=True, metavar='CHECKPOINT',
        help='a checkpoint, or a run of "il_robot train", whose newest one is taken')
    parser.add_argument('--output', type=Path, required=True, metavar='FILE.onnx')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export; returns 0."""
    from il_robot.policies.checkpoint import load_checkpoint
    from il_robot.policies.export import export_onnx

    checkpoint, policy = load_checkpoint(args.onnx)
    done = export_onnx(checkpoint, policy, args.output)
    inputs = ', '.join(f'{name} {list(shape)}' for name, shape in done.inputs.items())
    print(f'{checkpoint.policy} {checkpoint.hash}: {inputs} -> action {list(done.output)}')
    if done.error is None:
        print('not compared with torch: onnxruntime is not installed')
    else:
        print(f'differs from torch by at most {done.error:.2g} deviations of the actions')
    print(f'written: {done.path}')
    return 0
