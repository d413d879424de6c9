"""Pictures of a training run and of an evaluation (matplotlib, without a display)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from il_robot.algorithms.evaluate import EpisodeResult, summary
from il_robot.algorithms.records import NO_LOSS, best_record
from il_robot.control.rounds import Past
from il_robot.statistics import wilson


def plot_training(records: Sequence[Mapping[str, float]], path: Path) -> None:
    """Every loss over the steps, on a logarithmic scale; beside it the success, where tried."""
    from matplotlib.figure import Figure

    tried = [r for r in records if 'success' in r]
    losses = [r for r in records if 'success' not in r]
    names = dict.fromkeys(k for r in losses for k in r if k not in NO_LOSS)
    figure = Figure(figsize=(12 if tried else 7, 4), layout='constrained')
    axes, *beside = figure.subplots(1, 2 if tried else 1, squeeze=False)[0]
    for name in names:
        points = [(r['step'], r[name]) for r in losses if name in r]
        axes.plot(*zip(*points), label=name.replace('_', ' '))
    axes.set(xlabel='step', ylabel='loss (normalised actions)')
    if all(r[n] > 0 for r in losses for n in names if n in r):
        axes.set_yscale('log')
    if names:
        axes.legend()
    axes.grid(alpha=0.3)
    for axes in beside:
        _plot_success(axes, tried)
    figure.savefig(path, dpi=120)


def _plot_success(axes: Any, tried: Sequence[Mapping[str, float]]) -> None:
    """Success of each checkpoint tried, with its interval; the best one is marked."""
    steps = [r['step'] for r in tried]
    low, middle, high = (
        [100 * r[key] for r in tried] for key in ('success_low', 'success', 'success_high'))
    axes.fill_between(steps, low, high, color='tab:green', alpha=0.2, label='95 % interval')
    axes.plot(steps, middle, 'o-', color='tab:green')
    best = best_record(tried)
    assert best is not None
    axes.plot([best['step']], [100 * best['success']], '*', color='black', markersize=14,
              label=f'best: step {best["step"]:.0f}, {100 * best["success"]:.0f} %')
    axes.set(xlabel='step', ylim=(-2, 102),
             ylabel=f'success in {tried[-1]["episodes"]:.0f} episodes [%]')
    axes.legend(loc='lower right')
    axes.grid(alpha=0.3)


def plot_rounds(records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Success over labels, of each method over all seeds, with its Wilson interval.

    Args:
        records: Of one or more runs (:func:`il_robot.algorithms.dagger.read_rounds`).
        path: Of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout='constrained')
    axes = figure.subplots()
    first = [r for r in records if r['round'] == 0]
    for method in dict.fromkeys(r['method'] for r in records):
        rounds: dict[int, list[Mapping[str, Any]]] = {0: first}
        for record in records:
            if record['method'] == method and record['round']:
                rounds.setdefault(record['round'], []).append(record)
        points = []
        for _, group in sorted(rounds.items()):
            solved, total = (sum(r[k] for r in group) for k in ('successes', 'evaluated'))
            labels = sum(r['labels'] for r in group) / len(group)
            points.append((labels, solved / total, *wilson(solved, total)))
        if len(points) < 2 and method == 'bc':
            continue
        labels, *rates = zip(*points)
        rate, low, high = ([100 * v for v in values] for values in rates)
        name = 'demonstrations alone' if method == 'bc' else f'gate {method}'
        axes.plot(labels, rate, 'o-', label=name)
        axes.fill_between(labels, low, high, alpha=0.2)
    axes.set(xlabel='labels of the expert (mean over seeds)', ylabel='success [%]', ylim=(-2, 102),
             title=f'{first[0]["evaluated"]} episodes after each round, '
                   f'{len(first)} seed{"s" if len(first) > 1 else ""}, 95 % intervals')
    axes.grid(alpha=0.3)
    axes.legend(loc='lower right')
    figure.savefig(path, dpi=120)


def plot_live_rounds(past: Sequence[Past], path: Path) -> None:
    """What each live round cost; beside it the success of its policy, where that was tried."""
    from matplotlib.figure import Figure

    tried = any(p.score for p in past)
    figure = Figure(figsize=(9 if tried else 4.5, 3.6), layout='constrained')
    cost, *beside = figure.subplots(1, 1 + tried, squeeze=False)[0]
    numbers = [p.number for p in past]
    for success in beside:
        _plot_scores(success, past)
        success.set(xticks=numbers)
    cost.bar([n - 0.2 for n in numbers], [p.episodes for p in past], 0.4, label='episodes')
    cost.bar([n + 0.2 for n in numbers], [p.corrections for p in past], 0.4, label='corrections')
    cost.set(xlabel='round', xticks=numbers)
    cost.legend()
    for axes in (cost, *beside):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _plot_scores(axes: Any, past: Sequence[Past]) -> None:
    """Each policy's success with its interval, by whether it was taken."""
    for taken, color, label in ((True, 'tab:green', 'drives'), (False, 'tab:red', 'not taken')):
        shown = [(p.number, p.score) for p in past if p.score and p.taken is taken]
        for i, (number, score) in enumerate(shown):
            low, high = (100 * v for v in wilson(score.successes, score.episodes))
            axes.plot([number, number], [low, high], color=color, lw=3, alpha=0.4)
            axes.plot(number, 100 * score.rate, 'o', color=color, label='' if i else label)
    axes.set(xlabel='round', ylabel='success [%], 95 % interval', ylim=(-2, 102))
    axes.legend(loc='lower right')


def plot_evaluation(episodes: Sequence[EpisodeResult], title: str, path: Path) -> None:
    """Success rate with its interval, where the failures ended, and the episode lengths."""
    from matplotlib.figure import Figure

    result = summary(episodes)
    figure = Figure(figsize=(10, 3.2), layout='constrained')
    figure.suptitle(title)
    rate, stages, lengths = figure.subplots(1, 3, gridspec_kw={'width_ratios': (1, 2, 3)})

    n, p = result['episodes'], 100 * (result['success_rate'] or 0.0)
    low, high = (100 * v for v in result['interval_95'])
    rate.bar([0], [p], color='tab:green', width=0.6)
    rate.errorbar([0], [p], [[max(0.0, p - low)], [max(0.0, high - p)]], color='black', capsize=6)
    rate.set(ylim=(0, 105), xlim=(-0.7, 0.7), xticks=[], ylabel='success [%]',
             title=f'{result["successes"]} of {n}: {p:.1f} %\n[{low:.1f}, {high:.1f}]')

    names = result['failures_by_stage']
    stages.barh(list(names), list(names.values()), color='tab:red')
    stages.set(xlabel='episodes', title='failures: last stage reached')
    if not names:
        stages.set(yticks=[], xticks=[])
        stages.text(0.5, 0.5, 'none', ha='center', va='center', transform=stages.transAxes)

    groups = [[e.length for e in episodes if e.success is wanted] for wanted in (True, False)]
    lengths.hist(groups, bins=25, stacked=True, color=['tab:green', 'tab:red'],
                 label=['success', 'failure'])
    lengths.set(xlabel='length [control steps]', ylabel='episodes', title='episode length')
    lengths.legend()
    figure.savefig(path, dpi=120)


def plot_finetune(runs: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Success over the minutes of reinforcement learning, with Wilson intervals.

    Args:
        runs: Records of each run (:func:`~il_robot.algorithms.finetune_config.read_records`), by
            label.
        path: Of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout='constrained')
    axes = figure.subplots()
    for label, records in runs.items():
        during = [r for r in records if r['kind'] == 'during']
        if not during:
            continue
        minutes = [r['minutes'] for r in during]
        low, high = ([100 * r['interval_95'][i] for r in during] for i in (0, 1))
        line, = axes.plot(minutes, [100 * r['success_rate'] for r in during], 'o-', label=label)
        axes.fill_between(minutes, low, high, color=line.get_color(), alpha=0.2)
        back = [(r['minutes'], 100 * r['success_rate']) for r in during if r['taken_back']]
        if back:
            axes.plot(*zip(*back), 'x', color='black', markersize=9)
    axes.set(xlabel='minutes of learning and evaluation', ylabel='success [%]', ylim=(-2, 102))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(loc='best')
    figure.savefig(path, dpi=120)


def plot_finetune_methods(
    methods: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], path: Path
) -> None:
    """Success over minutes of each algorithm: every seed, and their mean where all go on.

    Args:
        methods: Records of every run, by algorithm.
        path: Of the picture.
    """
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout='constrained')
    axes = figure.subplots()
    for number, (method, runs) in enumerate(methods.items()):
        color, curves = f'C{number}', []
        for run in runs:
            points = np.array([(r['minutes'], 100 * r['success_rate']) for r in run
                               if r['kind'] == 'during'])
            curves.append(points)
            axes.plot(*points.T, color=color, alpha=0.4, linewidth=1, marker='.')
        end = max(float(c[-1, 0]) for c in curves)
        grid = np.linspace(0, end, 100)
        # a run that has ended stays at its best
        mean = np.mean([
            np.interp(grid, c[:, 0], c[:, 1], right=float(c[:, 1].max())) for c in curves], axis=0)
        seeds = 'one seed' if len(runs) == 1 else f'mean of {len(runs)} seeds'
        axes.plot(grid, mean, color=color, linewidth=2.5, label=f'{method}, {seeds}')
    axes.set(xlabel='minutes of learning and evaluation', ylabel='success [%]', ylim=(-2, 102))
    axes.grid(alpha=0.3)
    axes.legend(loc='best')
    figure.savefig(path, dpi=120)
