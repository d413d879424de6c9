"""``il_robot evaluate``: success over many episodes, with its interval, a plot and a video."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from il_robot.apps.interrupt import stop_on_interrupt
from il_robot.apps.options import add_task_options, task_arguments
from il_robot.errors import ConfigError

if TYPE_CHECKING:
    from il_robot.algorithms.evaluate import EpisodeResult, Evaluation
    from il_robot.algorithms.workers import MakeController
    from il_robot.types import UInt8

_SAVE_EVERY = 10
_VIDEO_SIZE = (320, 240)


def add_parser(subparsers: Any) -> None:
    """Add ``evaluate`` to the command line."""
    parser = subparsers.add_parser(
        'evaluate', help='measure the success of a policy',
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description='Run many episodes in parallel worlds and report the success rate with its '
                    'Wilson 95 % interval. Equal seeds give equal episodes for every policy.',
        epilog='examples:\n'
               '  il_robot evaluate --policy expert --task insert_peg --episodes 200\n'
               '  il_robot evaluate --policy outputs/run --disturb shoves=1 \\\n'
               '      --output outputs/run/evaluation.json --video 9\n'
               'Ctrl-C keeps the finished episodes in --output; --resume goes on.')
    parser.add_argument(
        '--policy', required=True, metavar='expert|FOLDER',
        help='the scripted expert, or a checkpoint or run of "il_robot train"')
    parser.add_argument('--episodes', type=int, default=200, help='default %(default)s')
    parser.add_argument('--seed0', type=int, default=0, help='first seed (default %(default)s)')
    parser.add_argument(
        '--execution', action='append', default=[], metavar='KEY=VALUE',
        help="how chunks are executed, instead of the checkpoint's own way: mode=ensemble, "
             'newest, blend or rtc, n_action_steps=N, decay=M, blend_steps=N')
    parser.add_argument(
        '--delay', type=float, default=0.0, metavar='SECONDS',
        help='artificial latency of the policy, in simulated time (default %(default)s)')
    parser.add_argument(
        '--runtime', choices=('torch', 'trace', 'numpy', 'onnx', 'openvino'), default='torch',
        help='what computes the policy (default %(default)s: the same bits on every machine '
             'with this torch); the others round differently')
    parser.add_argument('--workers', type=int, help='processes (default: one per core)')
    parser.add_argument(
        '--output', type=Path, metavar='FILE.json', help='also writes FILE.png beside it')
    parser.add_argument('--resume', action='store_true', help='go on with --output')
    parser.add_argument(
        '--video', type=int, default=0, metavar='N',
        help='film the first N episodes as a grid, FILE.mp4 beside --output')
    add_task_options(parser)
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class SimFactory:
    """Makes the environment in a worker; arguments of :func:`il_robot.sim.make`."""

    arguments: dict[str, Any] = field(default_factory=dict)

    def __call__(self) -> Any:
        """A fresh environment."""
        from il_robot import sim

        return sim.make(**self.arguments)


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns 0, 1 when episodes broke, 130 after Ctrl-C."""
    from il_robot.algorithms.evaluate import Evaluation

    _check(args)
    make_controller, policy, seen = controller_factory(
        args.policy, args.execution, args.runtime, args.delay)
    make_env = SimFactory({**task_arguments(args), **seen})
    settings = {**make_env.arguments, **policy}
    evaluation = Evaluation()
    if args.resume:
        evaluation = _resume(args.output, settings)
    stopped = _evaluate(args, make_env, make_controller, evaluation, settings)

    for seed, why in evaluation.failures.items():
        print(f'seed {seed} broke:\n{why}', file=sys.stderr)
    title = f'{args.policy} on {args.task}'
    print(_sentence(title, evaluation))
    if args.output:
        _write_pictures(args, make_env, make_controller, evaluation, title, stopped)
    if stopped:
        print(f'{len(evaluation.remaining)} episodes were not run' + (
            f'; to go on:\n  {_command()}' if args.output else '; with --output they could be '
            'run later'))
        return 130
    return 1 if evaluation.failures else 0


def _check(args: argparse.Namespace) -> None:
    if args.episodes < 1 or args.seed0 < 0 or args.video < 0:
        raise ConfigError('--episodes must be >= 1, --seed0 and --video >= 0')
    if args.workers is not None and args.workers < 1:
        raise ConfigError(f'--workers must be >= 1, got {args.workers}')
    if not args.output:
        if args.video or args.resume:
            raise ConfigError('--video and --resume need --output')
        return
    if args.output.suffix != '.json':
        raise ConfigError(f'--output {args.output}: give a name that ends with .json')
    if args.output.exists() and not args.resume:
        raise ConfigError(f'{args.output} exists; --resume goes on with it, or give another name')
    if args.resume and not args.output.exists():
        raise ConfigError(f'{args.output} does not exist: nothing to resume')


def controller_factory(
    policy: str, execution: Sequence[str] = (), runtime: str = 'torch', delay: float = 0.0
) -> tuple[MakeController, dict[str, Any], dict[str, Any]]:
    """The factory of the controller, the settings that decide what it does, and what it sees.

    Args:
        policy: ``expert``, or the folder of a checkpoint or a run.
        execution: ``KEY=VALUE`` texts that change how chunks are executed.
        runtime: A key of :data:`il_robot.policies.backends.BACKENDS`.
        delay: Of the policy's answers [s].

    Returns:
        The factory; the settings; the arguments of :func:`il_robot.sim.make` for its cameras.

    Raises:
        CheckpointError: no such checkpoint.
        ConfigError: execution settings that do not exist, or for the expert; a runtime that
            cannot be used.
    """
    if policy == 'expert':
        from il_robot.algorithms.expert import expert_controller

        if execution:
            raise ConfigError('--execution is for policies; the expert has no chunks')
        if runtime != 'torch':
            raise ConfigError('--runtime is for policies; the expert has no network')
        if delay:
            raise ConfigError('--delay is for policies; the expert answers at once')
        return expert_controller, {'policy': 'expert'}, {}
    from il_robot.algorithms.controller import PolicyFactory
    from il_robot.checkpoints import camera_arguments, find_checkpoint
    from il_robot.config import build, override, to_dict
    from il_robot.control.chunks import Execution
    from il_robot.policies.checkpoint import read_description

    folder = find_checkpoint(policy)
    checkpoint = read_description(folder)
    settings = build(Execution, checkpoint.execution, str(folder))
    settings = override(settings, execution, '--execution')
    described = {
        'policy': checkpoint.policy, 'checkpoint': checkpoint.hash, 'step': checkpoint.step,
        'dataset': checkpoint.dataset, 'execution': to_dict(settings)}
    if runtime != 'torch':
        described['runtime'] = runtime
        print(_check_runtime(folder, runtime))
    if delay:
        described['delay'] = delay
    make_controller = PolicyFactory(folder, settings, runtime=runtime, delay=delay)
    return make_controller, described, camera_arguments(checkpoint.recorded, checkpoint.robot)


def _check_runtime(folder: Path, runtime: str) -> str:
    """One sentence on a runtime before many processes load it.

    Raises:
        ConfigError: it cannot be used.
    """
    from il_robot.control.chunks import Execution
    from il_robot.policies.checkpoint import load_checkpoint
    from il_robot.policies.residual_runner import make_runner

    checkpoint, policy = load_checkpoint(folder)
    if checkpoint.robot is None:
        raise ConfigError(f'--runtime: {folder} does not say its robot')
    # how its chunks are executed does not count here
    plain = Execution(mode='newest', n_action_steps=1)
    runner = make_runner(checkpoint, policy, checkpoint.robot, runtime, execution=plain)
    runner.warm_up()
    error = runner.describe()['runtime_error']
    return f'runtime {runtime}: differs from torch by at most {error:.2g}'


def _resume(path: Path, settings: dict[str, Any]) -> Evaluation:
    from il_robot.algorithms.report import read_report, setting_differences

    evaluation, theirs = read_report(path)
    lines = setting_differences(theirs, settings)
    if lines:
        raise ConfigError(
            f'{path} holds another evaluation (there | now):\n  ' + '\n  '.join(lines))
    return evaluation


def _evaluate(
    args: argparse.Namespace, make_env: SimFactory, make_controller: MakeController,
    evaluation: Evaluation, settings: dict[str, Any],
) -> bool:
    """Run what is missing; returns whether Ctrl-C ended it."""
    from il_robot.algorithms.evaluate import evaluate
    from il_robot.algorithms.progress import evaluation_bar
    from il_robot.algorithms.report import write_report

    workers = args.workers or len(os.sched_getaffinity(0))
    about = {'command': _command(), 'workers': workers, 'versions': _versions()}
    solved = sum(e.success for e in evaluation.results.values())
    bar = evaluation_bar(args.episodes, len(evaluation.results), solved)
    with stop_on_interrupt() as stopped, bar as show:

        def note(result: EpisodeResult) -> None:
            show(result)
            if args.output and len(evaluation.results) % _SAVE_EVERY == 0:
                write_report(args.output, evaluation, settings, about)

        try:
            evaluate(
                make_env, make_controller, range(args.seed0, args.seed0 + args.episodes),
                workers=workers, evaluation=evaluation, on_result=note, should_stop=stopped)
        finally:
            if args.output and evaluation.results:
                write_report(args.output, evaluation, settings, about)
        return stopped()


def _sentence(title: str, evaluation: Evaluation) -> str:
    from il_robot.algorithms.evaluate import summary

    result = summary(evaluation.episodes())
    if not result['episodes']:
        return f'{title}: no episode finished'
    low, high = (100 * v for v in result['interval_95'])
    text = (f'{title}: {result["successes"]} of {result["episodes"]} = '
            f'{100 * result["success_rate"]:.1f} % [{low:.1f}, {high:.1f}], '
            f'{result["mean_length"]:.0f} steps')
    stages = ', '.join(f'{name} {count}' for name, count in result['failures_by_stage'].items())
    return text + (f'; failures ended at: {stages}' if stages else '')


def _write_pictures(
    args: argparse.Namespace, make_env: SimFactory, make_controller: MakeController,
    evaluation: Evaluation, title: str, stopped: bool,
) -> None:
    from il_robot.algorithms.plots import plot_evaluation

    written = [args.output]
    if evaluation.results:
        written.append(args.output.with_suffix('.png'))
        plot_evaluation(evaluation.episodes(), title, written[-1])
    if args.video and not stopped:
        from il_robot.data.video import write

        written.append(args.output.with_suffix('.mp4'))
        seeds = range(args.seed0, args.seed0 + min(args.video, args.episodes))
        filmed = SimFactory({
            'image_size': _VIDEO_SIZE, **make_env.arguments, 'render_mode': 'rgb_array'})
        write(written[-1], film(filmed, make_controller, seeds), fps=25)
    print('written: ' + ', '.join(map(str, written)))


def film(
    make_env: SimFactory, make_controller: MakeController, seeds: Sequence[int]
) -> Iterator[UInt8]:
    """Pictures of several episodes side by side, every second control step.

    An episode that has ended stays with its last picture, framed green or red.
    """
    import numpy as np

    from il_robot.algorithms.evaluate import as_observation
    from il_robot.data.video import grid

    envs = [make_env() for _ in seeds]
    try:
        controllers = [make_controller(env) for env in envs]
        observations = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds)]
        for controller, seed in zip(controllers, seeds):
            controller.reset(np.random.default_rng([seed, 1]))
        pictures = [env.render() for env in envs]
        running, tick = set(range(len(envs))), 0
        while running:
            for i in sorted(running):
                stamp = tick * envs[i].unwrapped.robot.dt
                action = controllers[i].act(as_observation(observations[i], stamp))
                observations[i], _, terminated, truncated, info = envs[i].step(action)
                ended = terminated or truncated
                if ended or tick % 2 == 0:
                    pictures[i] = envs[i].render()
                if ended:
                    running.discard(i)
                    pictures[i] = _framed(pictures[i], bool(info['success']))
            if tick % 2 == 0 or not running:
                yield grid(pictures)
            tick += 1
    finally:
        for env in envs:
            env.close()


def _framed(picture: UInt8, success: bool) -> UInt8:
    framed = picture.copy()
    color = (0, 170, 0) if success else (200, 0, 0)
    for edge in (framed[:4], framed[-4:], framed[:, :4], framed[:, -4:]):
        edge[:] = color
    return framed


def _command() -> str:
    """This command again, able to go on."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return shlex.join(words if '--resume' in words else [*words, '--resume'])


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {'python': platform.python_version(), 'machine': platform.machine()}
    for package in ('numpy', 'torch', 'pybullet'):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
