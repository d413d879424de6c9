"""Pictures of a training run and of an evaluation (matplotlib, without a display)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path


def plot_losses(records: Sequence[Mapping[str, float]], path: Path) -> None:
    """Every loss over the steps, on a logarithmic scale."""
    from matplotlib.figure import Figure

    names = dict.fromkeys(k for r in records for k in r if k not in ('step', 'rate'))
    figure = Figure(figsize=(7, 4), layout='constrained')
    axes = figure.add_subplot()
    for name in names:
        points = [(r['step'], r[name]) for r in records if name in r]
        axes.plot(*zip(*points), label=name.replace('_', ' '))
    axes.set(xlabel='step', ylabel='loss (normalised actions)')
    if all(r[n] > 0 for r in records for n in names if n in r):
        axes.set_yscale('log')
    if names:
        axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
