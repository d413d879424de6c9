"""``il_robot demo``: the whole loop, with the very commands a user would type.

Over ROS 2 topics: the expert records demonstrations, a policy learns from them, drives, and is
corrected live by the expert; the running node gets the policy that learned from both, which is
measured, and drives over topics.
Without ROS 2: demonstrations, training and evaluation in process. What is finished is noted in
``demo.json``, so that the same command goes on after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from il_robot.apps import demo_report
from il_robot.errors import ConfigError, DatasetError
from il_robot.launch_options import FIRST_SEEDS

LEDGER = 'demo.json'
_NOISE = 'action_noise=0.005'
_RECIPE = 'mlp'


def add_parser(subparsers: Any) -> None:
    """Add ``demo`` to the command line."""
    parser = subparsers.add_parser(
        'demo', help='the whole loop in a few minutes',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='The expert records demonstrations over ROS 2 topics, a policy trains on them '
                    'and drives, the expert corrects it live, it trains again on both and goes '
                    'on driving, '
                    'and is evaluated on seeds it has never seen; each step is printed as the '
                    'command it is. Where ROS 2 is missing: record, train and evaluate in '
                    'process.',
        epilog='example:\n  il_robot demo --output outputs/demo\n'
               'Ctrl-C at any time: the same command goes on where it was.')
    parser.add_argument('--output', type=Path, default=Path('outputs/demo'),
                        help='folder for everything (default %(default)s)')
    parser.add_argument('--task', default='transfer_cube', help='default %(default)s')
    for name, default, text in (
        ('demonstrations', 5, 'episodes of the expert'),
        ('corrections', 20, 'episodes of each of two rounds in which the expert corrects'),
        ('shoves', 2, 'of the part in each episode that is corrected'),
        ('episodes', 200, 'evaluation episodes'),
        ('topic-episodes', 50, 'episodes of the last policy over topics'),
    ):
        parser.add_argument(f'--{name}', type=int, default=default, metavar='N',
                            help=f'{text} (default %(default)s)')
    parser.add_argument('--steps', type=int, help="training steps (default: the recipe's)")
    parser.add_argument('--in-process', action='store_true', help='without ROS 2')
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Part:
    """One command of the demo.

    Attributes:
        name: In the ledger.
        title: What it is for.
        words: The command for what is still to do; empty where nothing is.
        check: Raises where it ended without being complete.
    """

    name: str
    title: str
    words: Callable[[], list[str]]
    check: Callable[[], None] = lambda: None


@dataclass
class Ledger:
    """What was asked for, and how long each finished part took [s]; on disk after each change."""

    path: Path
    options: dict[str, Any]
    done: dict[str, float] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, options: dict[str, Any]) -> Ledger:
        """The ledger of a folder, or a new one.

        Raises:
            ConfigError: the folder holds something else, or a demo with other options.
        """
        path = folder / LEDGER
        if not path.exists():
            if folder.exists() and any(folder.iterdir()):
                raise ConfigError(f'{folder} is not empty and no demo; give another --output')
            folder.mkdir(parents=True, exist_ok=True)
            ledger = cls(path, options)
            ledger._write()
            return ledger
        data = json.loads(path.read_text())
        wrong = [f'{key}: {data["options"].get(key)} | {value}'
                 for key, value in options.items() if data['options'].get(key) != value]
        if wrong:
            raise ConfigError(f'{folder} was begun with other options (then | now): '
                              f'{", ".join(wrong)}; give the same, or another --output')
        return cls(path, options, data['done'], data['begun'])

    def note(self, part: str, seconds: float, *, finished: bool) -> None:
        """Add the time spent on a part."""
        self.begun[part] = self.begun.get(part, 0.0) + seconds
        if finished:
            self.done[part] = self.begun.pop(part)
        self._write()

    def _write(self) -> None:
        partial = self.path.with_suffix('.tmp')
        partial.write_text(json.dumps(
            {'options': self.options, 'done': self.done, 'begun': self.begun}, indent=1))
        os.replace(partial, self.path)


def run(args: argparse.Namespace) -> int:
    """Run the parts that are not done; the exit code of the first that fails, or 0."""
    _check(args)
    topics = not args.in_process and find_spec('rclpy') is not None
    options = {k: v for k, v in vars(args).items()
               if k not in ('output', 'run', 'command', 'in_process')}
    ledger = Ledger.open(args.output, {**options, 'over': 'topics' if topics else 'process'})
    if not topics and not args.in_process:
        print('ROS 2 is not installed here (source an installation, or pip install '
              "'il_robot[ros]'): the demo runs in process, without topics and corrections")
    # A graph of its own: nobody else's nodes on this machine take part in it.
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
    for number, part in enumerate(_over_topics(args) if topics else _in_process(args), 1):
        print(f'\n== {number}. {part.title}', flush=True)
        if part.name in ledger.done:
            print('done before')
            continue
        code = _do(part, ledger)
        if code:
            command = shlex.join(['il_robot', 'demo', *_words_of(args)])
            print(f'\nstopped with exit code {code}; the same command goes on from here:\n'
                  f'  {command}', file=sys.stderr)
            return code
    demo_report.show(args.output, ledger.done, topics)
    return 0


def _check(args: argparse.Namespace) -> None:
    if args.demonstrations < 2:
        raise ConfigError('--demonstrations must be >= 2')
    for name in ('corrections', 'episodes', 'topic_episodes'):
        if getattr(args, name) < 1:
            raise ConfigError(f'--{name.replace("_", "-")} must be >= 1')
    if args.shoves < 0:
        raise ConfigError('--shoves must be >= 0')


def _words_of(args: argparse.Namespace) -> list[str]:
    """The command line that made these arguments, without what is default anyway."""
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    default = vars(parser.parse_args(['demo']))
    words = []
    for key, value in vars(args).items():
        if key in default and key != 'run' and value != default[key]:
            words += [f'--{key.replace("_", "-")}', *([] if value is True else [str(value)])]
    return words


def _do(part: Part, ledger: Ledger) -> int:
    """Run one part; its exit code."""
    words = part.words()
    begun = time.monotonic()
    code = 0
    if words:
        print(f'$ il_robot {shlex.join(words)}', flush=True)
        code = _call(words)
    if not code:
        part.check()
    ledger.note(part.name, time.monotonic() - begun, finished=not code)
    return code


def _call(words: list[str]) -> int:
    """Run one command as a child; Ctrl-C reaches the child, which tidies up by itself."""
    child = subprocess.Popen([sys.executable, '-m', 'il_robot', *words])
    interrupted = False
    while True:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            interrupted = True
            continue
        return 130 if interrupted else code if code >= 0 else 128 - code


# -- the parts -----------------------------------------------------------------------------------
def _over_topics(args: argparse.Namespace) -> list[Part]:
    out, dataset = args.output, args.output / 'dataset'
    common = [f'task:={args.task}', 'lockstep:=true']
    shoves = f'shoves={args.shoves}'
    disturb = [f'disturbances:={shoves}'] if args.shoves else []
    live = demo_report.live(out)

    def record() -> list[str]:
        have, seed = _recorded(dataset, FIRST_SEEDS['record'])
        if have >= args.demonstrations:
            return []
        return ['launch', 'record', f'disturbances:={_NOISE}', *common, f'output:={out}',
                f'episodes:={args.demonstrations - have}', f'seed:={seed}', '--quiet']

    def recorded() -> None:
        have, _ = _recorded(dataset, 0)
        if have < args.demonstrations:
            raise DatasetError(
                f'{dataset} has {have} of {args.demonstrations} demonstrations: see above, and '
                'the bags in ' + str(out / 'bags'))

    def correct() -> list[str]:
        steps = [f'settings:=training.steps={args.steps}'] if args.steps else []
        return ['launch', 'dagger', f'policy:={out / "round_0"}', f'dataset:={dataset}',
                f'recipe:={_RECIPE}', *steps, f'rounds:={demo_report.LIVE_ROUNDS}',
                f'episodes:={args.corrections}', 'evaluate:=0', *disturb, *common,
                f'output:={live}']

    def taken() -> None:
        path = live / 'rounds.json'
        past = json.loads(path.read_text())['past'] if path.exists() else []
        if not past or not past[-1]['taken']:
            why = past[-1]['reason'] if past else 'it did not end'
            raise DatasetError(f'the last round of corrections brought no new policy: {why}')

    def drive() -> list[str]:
        return ['launch', 'run', f'policy:={demo_report.policy(out, "corrected")}', *common,
                'record:=false', f'episodes:={args.topic_episodes}',
                f'output:={out / "topics"}', '--quiet']

    return [
        Part('record', 'The expert records demonstrations', record, recorded),
        _train('A policy learns from them', args, 'round_0'),
        Part('dagger', 'It drives, the expert corrects it, and the running node gets the policy '
             'that learned from both; twice', correct, taken),
        *(_evaluate(args, run, *disturbances) for run in ('round_0', 'corrected')
          for disturbances in ([], [shoves])[:1 + bool(args.shoves)]),
        Part('topics', 'The corrected policy drives over topics', drive),
    ]


def _in_process(args: argparse.Namespace) -> list[Part]:
    dataset = args.output / 'dataset'

    def record() -> list[str]:
        return ['record', '--expert', '--task', args.task, '--output', str(dataset),
                '--episodes', str(args.demonstrations),
                *(['--resume'] if dataset.exists() else [])]

    return [
        Part('record', 'The expert records demonstrations', record),
        _train('A policy learns from them', args, 'round_0'),
        _evaluate(args, 'round_0'),
    ]


def _train(title: str, args: argparse.Namespace, name: str) -> Part:
    folder = args.output / name

    def command() -> list[str]:
        if (folder / 'checkpoints').exists():
            return ['train', '--output', str(folder), '--resume']
        steps = ['--steps', str(args.steps)] if args.steps else []
        return ['train', '--policy', _RECIPE, '--dataset', str(args.output / 'dataset'),
                '--output', str(folder), *steps]

    return Part(f'train {name}', title, command)


def _evaluate(args: argparse.Namespace, name: str, *disturbances: str) -> Part:
    report = demo_report.evaluation(args.output, name, disturbed=bool(disturbances))

    def command() -> list[str]:
        disturb = [word for d in disturbances for word in ('--disturb', d)]
        policy = demo_report.policy(args.output, name)
        return ['evaluate', '--policy', str(policy), '--task', args.task, '--episodes',
                 str(args.episodes), *disturb, '--output', str(report),
                *([] if disturbances else ['--video', '9']),
                *(['--resume'] if report.exists() else [])]

    which = 'demonstrations' if name == 'round_0' else 'demonstrations and corrections'
    how = f' with {" ".join(disturbances)}' if disturbances else ''
    return Part(f'evaluate {report.stem}',
                f'The policy of the {which} on seeds it has never seen{how}', command)


def _recorded(dataset: Path, first_seed: int) -> tuple[int, int]:
    """Demonstrations that a dataset has, and the seed of its next one."""
    from il_robot.data.dataset import open_dataset

    if not (dataset / 'meta' / 'info.json').exists():
        return 0, first_seed
    seeds = [e.seed for e in open_dataset(dataset).episodes]
    return len(seeds), max([first_seed, *(seed + 1 for seed in seeds)])
