"""One episode as a picture: every joint measured and commanded, and who drove when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from il_robot.data.dataset import Dataset
from il_robot.types import Source

_STATE, _ACTION = '#1b2a41', '#e4572e'
_BACKGROUND = {
    Source.HOLD: '#d9d9d9', Source.TELEOP: '#fde9b8', Source.POLICY: '#d6e8f7',
    Source.EXPERT: '#d8efd3',
}


def plot_episode(dataset: Dataset, episode: int, file: Path) -> None:
    """Draw states and actions of every arm over time; the background tells who drove.

    Args:
        dataset: The dataset.
        episode: Position in ``dataset.episodes``.
        file: PNG to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    record = dataset.episodes[episode]
    rows = slice(record.start, record.stop)
    time = np.arange(len(record)) / dataset.fps
    columns = _columns(dataset)
    height = max(len(indices) for _, indices, _ in columns)
    figure = Figure(figsize=(6.4 * len(columns), 1.15 * height + 1.4), layout='constrained')
    FigureCanvasAgg(figure)
    grid = figure.subplots(height, len(columns), sharex=True, squeeze=False)
    for column, (title, indices, source) in enumerate(columns):
        drove = None if source is None else dataset.source[rows, source]
        for row, axes in enumerate(grid[:, column]):
            if row >= len(indices):
                axes.set_axis_off()
                continue
            label, unit, least = _joint(dataset, indices[row])
            _background(axes, time, drove)
            _lines(axes, time, unit * dataset.state[rows, indices[row]],
                   unit * dataset.action[rows, indices[row]], unit * least)
            axes.set_ylabel(label, rotation=0, ha='right', va='center')
        grid[0, column].set_title(title, loc='left', fontweight='bold', pad=10)
        grid[len(indices) - 1, column].set_xlabel('time [s]')
    _interventions(grid[0], time, dataset.intervention[rows])
    figure.suptitle(_title(dataset, episode), x=0.01, ha='left', fontsize=12)
    figure.align_ylabels()
    _legend(figure, dataset, rows)
    figure.savefig(file, dpi=110)


def _columns(dataset: Dataset) -> list[tuple[str, list[int], int | None]]:
    """Per arm: title, indices into a vector, column of ``source``; one column without a spec."""
    if dataset.spec is None:
        known = (dataset.source >= 0).all()
        return [('all joints', list(range(dataset.state.shape[1])), 0 if known else None)]
    vector = range(dataset.spec.dim)
    return [(f'{arm.name} arm', list(vector[dataset.spec.arm_slice(arm.name)]), number)
            for number, arm in enumerate(dataset.spec.arms)]


def _background(axes: Any, time: NDArray[Any], drove: NDArray[Any] | None) -> None:
    if drove is None:
        return
    step = time[1] - time[0] if len(time) > 1 else 1.0
    edges = [0, *(np.flatnonzero(np.diff(drove)) + 1), len(drove)]
    for first, last in zip(edges[:-1], edges[1:]):
        color = _BACKGROUND[Source(drove[first])]
        axes.axvspan(time[first], time[last - 1] + step, color=color, lw=0, zorder=0)


def _lines(
    axes: Any, time: NDArray[Any], state: NDArray[Any], action: NDArray[Any], least: float
) -> None:
    """Both curves, on a scale of at least ``least``, so that noise is not blown up."""
    axes.plot(time, action, color=_ACTION, lw=1.0, zorder=2)
    axes.plot(time, state, color=_STATE, lw=1.6, zorder=3)
    both = np.concatenate([state, action])
    low, high = float(both.min()), float(both.max())
    margin = max(0.08 * (high - low), (least - (high - low)) / 2)
    axes.set_ylim(low - margin, high + margin)
    axes.margins(x=0)
    axes.grid(axis='y', color='white', lw=0.8, zorder=1)
    axes.tick_params(length=0, labelsize=8)
    for side in ('top', 'right', 'left', 'bottom'):
        axes.spines[side].set_visible(False)


def _joint(dataset: Dataset, index: int) -> tuple[str, float, float]:
    """Label, factor to the unit shown, and the smallest span worth showing [rad or m]."""
    spec = dataset.spec
    if spec is None:
        names = dataset.features['observation.state'].get('names')
        return (str(names[index]) if isinstance(names, list) else str(index)), 1.0, 0.1
    least = 0.1 * float(spec.upper[index] - spec.lower[index])
    within = index % (len(spec.joints) + 1)
    if within == len(spec.joints):
        return f'{spec.gripper.name}\n[mm]', 1e3, least
    return f'{spec.joints[within].name}\n[rad]', 1.0, least


def _interventions(top: Any, time: NDArray[Any], intervention: NDArray[Any]) -> None:
    """A bar above the first row while an expert had taken over."""
    if not intervention.any():
        return
    for axes in top:
        axes.fill_between(time, 1.0, 1.06, where=intervention, color='#2e8b3d', lw=0, step='post',
                          transform=axes.get_xaxis_transform(), clip_on=False)


def _title(dataset: Dataset, episode: int) -> str:
    record = dataset.episodes[episode]
    facts = [record.task or record.language, record.outcome.value, f'round {record.round}',
             f'{len(record) / dataset.fps:.1f} s']
    if record.seed >= 0:
        facts.append(f'seed {record.seed}')
    return f'{dataset.path.resolve().name}, episode {episode}:  ' + '  |  '.join(facts)


def _legend(figure: Any, dataset: Dataset, rows: slice) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Line2D([], [], color=_STATE, lw=1.6, label='measured'),
                          Line2D([], [], color=_ACTION, lw=1.0, label='commanded')]
    present = set(np.unique(dataset.source[rows]).tolist())
    handles += [Patch(color=color, label=f'{source.name.lower()} drives')
                for source, color in _BACKGROUND.items() if int(source) in present]
    if dataset.intervention[rows].any():
        handles.append(Patch(color='#2e8b3d', label='intervention'))
    figure.legend(handles=handles, loc='outside lower center', ncols=len(handles), frameon=False)
