"""The folder of live rounds: what lies where, what runs next, what came of it.

OUTPUT/dataset is the demonstrations and everything recorded since, OUTPUT/rounds/NN/run the policy
of a round with its evaluation.json beside it, OUTPUT/rounds.json what the rounds brought and which
policies drove, written after each: so much is known after whatever happened, and a round that was
not over begins again with what is there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from il_robot.config import build
from il_robot.control.rounds import Past, Rounds, RoundsConfig, Score
from il_robot.data.layout import write_json
from il_robot.errors import ConfigError

ROUNDS, PICTURE = 'rounds.json', 'rounds.png'
_EVALUATION_SEED = 900_000
"""Nothing else starts there: neither demonstrations nor what is reported."""


@dataclass(frozen=True)
class Orders:
    """What the children of all rounds have in common.

    Attributes:
        policy: Checkpoint or run that drives at first.
        recipe: Of the training: a name, or a file.
        settings: ``KEY=VALUE`` of the recipe.
        warm_steps: Above 0: go on from the policy that drives with so many steps.
        environment: Words of ``il_robot evaluate``: task, width, disturbances.
        assess: Share of the states in which a policy learns to call for help; 0: none.
    """

    policy: Path
    recipe: str = 'chunk_mlp'
    settings: tuple[str, ...] = ()
    warm_steps: int = 0
    environment: tuple[str, ...] = ()
    assess: float = 0.0


class LiveRounds:
    """The folder at work; it begins where it was left.

    Args:
        output: The folder; need not exist.
        config: Of the rounds.
        orders: Of their children.
        demonstrations: Dataset that is copied at the beginning; empty: there is one, or none.

    Raises:
        ConfigError: no demonstrations there, or the disk is full.
    """

    def __init__(
        self, output: Path, config: RoundsConfig, orders: Orders, demonstrations: str = ''
    ) -> None:
        self.output, self.config, self._orders = output, config, orders
        self._bring(demonstrations)
        self.rounds, self.driving = self._resumed()

    @property
    def dataset(self) -> Path:
        """Demonstrations and corrections."""
        return self.output / 'dataset'

    def folder(self, number: int) -> Path:
        """Of a round."""
        return self.output / 'rounds' / f'{number:02d}'

    def run(self, number: int) -> Path:
        """The training of a round."""
        return self.folder(number) / 'run'

    def _bring(self, source: str) -> None:
        """Copy the demonstrations, unless that has been done."""
        if not source or self.dataset.exists():
            return
        if not (Path(source) / 'meta' / 'info.json').exists():
            raise ConfigError(f'dataset:={source}: no dataset there')
        half = self.dataset.with_suffix('.copy')
        shutil.rmtree(half, ignore_errors=True)
        try:
            shutil.copytree(source, half)
            half.rename(self.dataset)
        except OSError as error:
            raise ConfigError(f'cannot copy {source} to {self.dataset}: {error}') from None

    def _resumed(self) -> tuple[Rounds, list[Path]]:
        """The state after the last round that is over, and the policies that drove, in order."""
        path = self.output / ROUNDS
        if not path.exists():
            return Rounds(self.config), [self._orders.policy]
        data = json.loads(path.read_text())
        past = [build(Past, p, str(path)) for p in data['past']]
        return Rounds.after(self.config, past), [Path(p) for p in data['driving']]

    def save(self) -> None:
        """Write down what is known."""
        write_json(self.output / ROUNDS, {
            'past': [_plain(p) for p in self.rounds.past],
            'driving': [str(p) for p in self.driving]})

    def draw(self) -> None:
        """The picture of all rounds.

        Raises:
            OSError: it could not be written.
        """
        # here, because matplotlib takes a while to load, and only the end of a round has time
        from il_robot.algorithms.plots import plot_live_rounds

        plot_live_rounds(self.rounds.past, self.output / PICTURE)

    def training(self) -> list[str]:
        """Words for ``il_robot`` that train the present round's policy, or go on with it."""
        number, orders = self.rounds.number, self._orders
        run = self.run(number)
        assess = ['--assess', str(orders.assess)] if orders.assess else []
        if (run / 'run.json').exists():
            return ['train', '--output', str(run), '--resume', *assess]
        # What an expert says beside a policy that drives well in its own way is hard to
        # learn, and does harm; what he does when he drives is worth it (HG-DAgger). That is
        # little: with half of all weight (IWR) it counts, without it a round brings nothing.
        settings = [f'training.seed={number}', 'training.weights.policy=0',
                    'training.weights.share=0.5', *orders.settings]
        warm = ['--start', str(self.driving[-1]), '--steps', str(orders.warm_steps)]
        return ['train', '--config', orders.recipe, '--dataset', str(self.dataset),
                '--output', str(run), *(w for s in settings for w in ('--set', s)),
                *(warm if orders.warm_steps else []), *assess]

    def evaluation(self) -> list[str]:
        """Words for ``il_robot`` that evaluate the present round's policy, or go on with it."""
        number = self.rounds.number
        report = self._report
        return ['evaluate', '--policy', str(self.run(number) if number else self._orders.policy),
                *self._orders.environment, '--episodes', str(self.config.evaluate_episodes),
                '--seed0', str(_EVALUATION_SEED), '--workers', '1', '--output', str(report),
                *(['--resume'] if report.exists() else [])]

    @property
    def _report(self) -> Path:
        return self.folder(self.rounds.number) / 'evaluation.json'

    def evaluated(self) -> Score | None:
        """What the evaluation of the present round has so far."""
        if not self._report.exists():
            return None
        summary = json.loads(self._report.read_text())['summary']
        return Score(summary['successes'], summary['episodes'])

    def trained(self) -> dict[str, Any]:
        """Step, loss and rate of the present round's training; empty: nothing yet."""
        lines = _lines(self.run(self.rounds.number) / 'metrics.jsonl')
        if not lines:
            return {}
        last = json.loads(lines[-1])
        return {key: last[key] for key in ('step', 'loss', 'rate') if key in last}


def table(past: Sequence[Past]) -> list[str]:
    """What the rounds brought, as lines for the terminal."""
    lines = ['round  episodes  corrections  success                  drives']
    for p in past:
        score = '-' if p.score is None else str(p.score)
        lines.append(f'{p.number:5}  {p.episodes:8}  {p.corrections:11}  {score:23}  '
                     f'{"yes" if p.taken else "no: " + p.reason}')
    return lines


def _lines(path: Path) -> list[str]:
    """Complete lines of a file that is being written."""
    try:
        return [line for line in path.read_text().splitlines(keepends=True) if line.endswith('\n')]
    except OSError:
        return []


def _plain(past: Past) -> dict[str, Any]:
    score = past.score
    return {**vars(past), 'score': None if score is None else vars(score)}
