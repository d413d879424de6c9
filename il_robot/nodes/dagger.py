"""The dagger node: rounds of live correction, from the first episode to the new policy.

It runs the episodes of a round as the session node does, trains on everything so far in a child
process, evaluates the new policy in another, and lets the policy node load it while the arms hold
(:mod:`il_robot.control.rounds` decides). Everything it knows stands in OUTPUT/rounds.json after
each round, so that a node that died goes on with the round it was in.

``dagger/status`` says where it is; ``dagger/skip`` ends the collection now, ``dagger/rollback``
brings back the policy before the present one.
"""

from __future__ import annotations

import json
import shutil
import sys
import time as wall
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from il_robot.checkpoints import find_checkpoint
from il_robot.config import build
from il_robot.control.reminder import Reminder
from il_robot.control.rounds import Facts, Past, Rounds, RoundsConfig, Score, Stage
from il_robot.control.session import Phase, Session
from il_robot.control.session_view import SessionConfig
from il_robot.data.layout import write_json
from il_robot.errors import ConfigError
from il_robot.nodes import convert, topics
from il_robot.nodes.child import Child
from il_robot.nodes.node import Complaints, declare, run_node
from il_robot.nodes.session_port import SessionPort
from il_robot.policies.checkpoint import read_description
from il_robot.types import ControlMode

_PERIOD, _STATUS_PERIOD, _SAY = 0.02, 1.0, 10.0
_SEEDS_PER_ROUND = 1000
_EVALUATION_SEED = 900_000
"""Nothing else starts there: neither demonstrations nor what is reported."""
ROUNDS, PICTURE = 'rounds.json', 'rounds.png'


class DaggerNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__('dagger')
        fixed = partial(declare, self, read_only=True)
        fixed('robot', 'sim_dual_arm', 'robot: a name in config/robots, or a file')
        self.output = Path(fixed('output', 'outputs/dagger', 'folder of everything'))
        self.policy = Path(fixed('policy', '', 'checkpoint or run that drives at first'))
        self._recipe = fixed('recipe', 'chunk_mlp', 'of the training: a name, or a file')
        self._settings = [s for s in fixed(
            'settings', [''], 'KEY=VALUE of the recipe') if s]
        self._warm_steps = fixed(
            'warm_steps', 0, 'above 0: new policies go on from the present one with so many '
            'steps; 0: from fresh weights', low=0)
        self._environment = [w for w in fixed(
            'environment', [''], 'words of "il_robot evaluate": task, width, disturbances') if w]
        self._assess = fixed(
            'assess', 0.0, 'above 0: new policies learn to call for help in this share of the '
            'states', low=0.0, high=0.99)
        self._seed = fixed('seed', 30_000, 'of the first episode', low=0, high=2**31 - 1)
        self._seconds = fixed('max_seconds', 20.0, 'longest episode [s of robot time]', low=0.0)
        default = RoundsConfig()
        self.config = build(RoundsConfig, {
            'rounds': fixed('rounds', default.rounds, 'how many', low=1),
            'episodes': fixed('episodes', default.episodes, 'of each round', low=0),
            'corrections': fixed(
                'corrections', 0, 'takeovers after which a round ends; 0: no limit', low=0),
            'evaluate_episodes': fixed(
                'evaluate_episodes', default.evaluate_episodes,
                'of each new policy; 0: always taken', low=0),
            'keep_old': fixed('keep_old', default.keep_old, 'worse, surely or never'),
            'margin': fixed('margin', default.margin, 'see keep_old', low=0.0)}, 'dagger')
        self._bring_data(fixed('dataset', '', 'demonstrations to begin with'))
        self.rounds, self._driving = self._resumed()
        self._complain, self._reminder = Complaints(self), Reminder()
        self._session: Session | None = None
        self._child: Child | None = None
        self._swap, self._trouble, self._skip = 'none', '', False
        self._place = (self.rounds.number, self.rounds.stage)
        self._said, self._expected = -_SAY, ''
        self._make_interfaces()

    def _make_interfaces(self) -> None:
        self._port = SessionPort(self, self._complain, self._step, proposals=True)
        self.create_subscription(
            DiagnosticArray, topics.POLICY_STATUS, self._on_policy, topics.LATCHED_QOS)
        self._status = self.create_publisher(
            DiagnosticArray, topics.DAGGER_STATUS, topics.LATCHED_QOS)
        self._set_policy: Any = self.create_client(SetParameters, 'policy/set_parameters')
        self._set_round: Any = self.create_client(SetParameters, 'recorder/set_parameters')
        self._reload: Any = self.create_client(Trigger, topics.POLICY_RELOAD)
        self.create_service(Trigger, topics.DAGGER_SKIP, self._on_skip)
        self.create_service(Trigger, topics.DAGGER_ROLLBACK, self._on_rollback)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_PERIOD, self._step, clock=steady)
        self.create_timer(_STATUS_PERIOD, self._publish_status, clock=steady)

    def destroy_node(self) -> None:
        """End the child, too."""
        if self._child is not None:
            self._child.stop()
        super().destroy_node()

    # -- files ------------------------------------------------------------------------------
    @property
    def _dataset(self) -> Path:
        return self.output / 'dataset'

    def _folder(self, number: int) -> Path:
        return self.output / 'rounds' / f'{number:02d}'

    def _bring_data(self, source: str) -> None:
        """Copy the demonstrations, unless that has been done."""
        if not source or self._dataset.exists():
            return
        if not (Path(source) / 'meta' / 'info.json').exists():
            raise ConfigError(f'dataset:={source}: no dataset there')
        half = self._dataset.with_suffix('.copy')
        shutil.rmtree(half, ignore_errors=True)
        try:
            shutil.copytree(source, half)
            half.rename(self._dataset)
        except OSError as error:
            raise ConfigError(f'cannot copy {source} to {self._dataset}: {error}') from None

    def _resumed(self) -> tuple[Rounds, list[Path]]:
        """The state after the last round that is over, and the policies that drove, in order."""
        path = self.output / ROUNDS
        if not path.exists():
            return Rounds(self.config), [self.policy]
        data = json.loads(path.read_text())
        past = [build(Past, p, str(path)) for p in data['past']]
        scores = [p.score for p in past if p.taken and p.score]
        rounds = Rounds(self.config, scores[-1] if scores else None)
        rounds.past = past
        if past:
            last = past[-1].number >= self.config.rounds
            rounds.number = past[-1].number + (not last)
            rounds.stage = Stage.DONE if last else Stage.COLLECT
        return rounds, [Path(p) for p in data['driving']]

    def _save(self) -> None:
        write_json(self.output / ROUNDS, {
            'past': [_plain(p) for p in self.rounds.past],
            'driving': [str(p) for p in self._driving]})

    # -- one step ---------------------------------------------------------------------------
    def _step(self) -> None:
        over = len(self.rounds.past)
        order = self.rounds.step(self._facts())
        if order in ('collect', 'stop collecting'):
            self._collect(stop=order != 'collect')
        elif order in ('train', 'evaluate'):
            self._start(order)
        elif order == 'hold':
            self._port.carry_out(['hold'])
        elif order == 'swap':
            self._load(self._folder(self.rounds.number) / 'run')
        place = (self.rounds.number, self.rounds.stage)
        if place != self._place:
            self._place = place
            self._session, self._child = None, None
            self._swap, self._trouble, self._skip = 'none', '', False
            self._publish_status()
        for past in self.rounds.past[over:]:
            self._end(past)

    def _facts(self) -> Facts:
        session, child = self._session, self._child
        results = session.results if session else []
        state = 'none'
        if child is not None:
            state = {None: 'running', 0: 'done'}.get(child.code, 'failed')
        return Facts(
            episodes=len(results), corrections=sum(r.interventions for r in results),
            saved=session is not None and session.phase is Phase.DONE,
            holding=self._port.view.mode in (ControlMode.HOLD, ControlMode.STOPPED),
            child=state,  # type: ignore[arg-type]
            trouble=self._trouble or (child.trouble if child else ''),
            score=self._score() if state == 'done' else None,
            swap=self._swap, skip=self._skip)  # type: ignore[arg-type]

    def _collect(self, *, stop: bool) -> None:
        number = self.rounds.number
        if self._session is None:
            # A request that nobody hears yet is lost, and the episodes would be of another round.
            if not self._set_round.service_is_ready():
                return
            self._session = Session(SessionConfig(
                self.config.episodes, 'policy', record=True,
                seed=self._seed + _SEEDS_PER_ROUND * (number - 1), max_seconds=self._seconds))
            self._set_round.call_async(_parameters(round=number))
            self.get_logger().info(f'round {number} of {self.config.rounds}: collecting')
        self._session.last |= stop
        seen = len(self._session.results)
        self._port.carry_out(self._session.step(wall.monotonic(), self._port.view))
        if self._reminder.due(wall.monotonic(), self._session.waiting):
            self.get_logger().warning(f'waiting for {self._session.waiting}')
        for result in self._session.results[seen:]:
            word = 'success' if result.success else f'failed at {result.stage_name}'
            self.get_logger().info(
                f'episode {len(self._session.results)} of round {number} (seed {result.seed}): '
                f'{word}, {result.interventions} correction(s)'
                + (f'; {result.reason}' if result.reason else ''))

    def _start(self, what: str) -> None:
        """Train or evaluate in a child."""
        folder = self._folder(self.rounds.number)
        run = folder / 'run'
        if what == 'evaluate':
            policy = run if self.rounds.number else self.policy
            report = folder / 'evaluation.json'
            words = ['evaluate', '--policy', str(policy), *self._environment, '--episodes',
                     str(self.config.evaluate_episodes), '--seed0', str(_EVALUATION_SEED),
                     '--workers', '1', '--output', str(report),
                     *(['--resume'] if report.exists() else [])]
        elif (run / 'run.json').exists():
            words = ['train', '--output', str(run), '--resume']
        else:
            # What an expert says beside a policy that drives well in its own way is hard to
            # learn, and does harm; what he does when he drives is worth it (HG-DAgger). That is
            # little: with half of all weight (IWR) it counts, without it a round brings nothing.
            settings = [f'training.seed={self.rounds.number}', 'training.weights.policy=0',
                        'training.weights.share=0.5', *self._settings]
            words = ['train', '--config', self._recipe, '--dataset', str(self._dataset),
                     '--output', str(run), *(w for s in settings for w in ('--set', s))]
            if self._warm_steps:
                words += ['--start', str(self._driving[-1]), '--steps', str(self._warm_steps)]
        if what == 'train' and self._assess:
            words += ['--assess', str(self._assess)]
        self.get_logger().info(f'round {self.rounds.number}: il_robot {" ".join(words)}')
        self._child = Child(words, folder / f'{what}.log')

    def _score(self) -> Score | None:
        path = self._folder(self.rounds.number) / 'evaluation.json'
        if self.rounds.stage is not Stage.EVALUATE or not path.exists():
            return None
        summary = json.loads(path.read_text())['summary']
        return Score(summary['successes'], summary['episodes'])

    def _end(self, past: Past) -> None:
        """A round is over."""
        if past.taken and past.number:
            self._driving.append(self._folder(past.number) / 'run')
            self._expected = ''
        self._save()
        self._draw()
        text = f'round {past.number}: {past.reason}'
        if past.taken:
            self.get_logger().info(text)
        else:
            self.get_logger().warning(text)
        if self.rounds.stage is Stage.DONE:
            for line in table(self.rounds.past):
                self.get_logger().info(line)
            self._publish_status()
            raise SystemExit(0)

    def _draw(self) -> None:
        # here, because matplotlib takes a while to load, and only the end of a round has time
        from il_robot.algorithms.plots import plot_live_rounds

        try:
            plot_live_rounds(self.rounds.past, self.output / PICTURE)
        except OSError as error:
            self._complain('picture', f'{self.output / PICTURE} was not drawn: {error}')

    # -- the policy node --------------------------------------------------------------------
    def _load(self, folder: Path) -> None:
        """Let the policy node load a run and swap it in at once."""
        if not (self._set_policy.service_is_ready() and self._reload.service_is_ready()):
            self._complain('policy', 'waiting for the policy node')
            return
        self._swap = 'asked'
        future = self._set_policy.call_async(_parameters(checkpoint=str(folder.absolute())))
        future.add_done_callback(lambda _: self._reload.call_async(
            Trigger.Request()).add_done_callback(self._loaded))

    def _on_policy(self, message: DiagnosticArray) -> None:
        """A policy node that was started again has the policy of the beginning."""
        running = convert.status_values(message).get('checkpoint', '')
        if not running or self._swap == 'asked' or self.rounds.stage is Stage.SWAP:
            return
        if not self._expected:
            self._expected = read_description(find_checkpoint(self._driving[-1])).hash
        if running != self._expected:
            self.get_logger().warning(
                f'the policy node runs {running}: loading {self._driving[-1]} again')
            self._load(self._driving[-1])

    def _loaded(self, future: Any) -> None:
        answer = future.result()
        self._swap = 'done' if answer.success else 'failed'
        self._trouble = '' if answer.success else answer.message
        if not answer.success:  # what a reload of tomorrow would take
            self._set_policy.call_async(
                _parameters(checkpoint=str(self._driving[-1].absolute())))

    def _on_skip(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self.rounds.stage is Stage.COLLECT
        self._skip = response.success
        response.message = ('the round ends after this episode' if response.success else
                            f'nothing is collected now, but: {self.rounds.stage.value}')
        return response

    def _on_rollback(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Back to the policy before; it drives from the moment it is loaded."""
        if len(self._driving) < 2 or self.rounds.stage is Stage.SWAP:
            response.success = False
            response.message = ('a swap is under way' if self.rounds.stage is Stage.SWAP
                                else 'there is no policy before this one')
            return response
        rejected = self._driving.pop()
        self.rounds.roll_back()
        self._expected = ''
        self._load(self._driving[-1])
        self._save()
        response.success = True
        response.message = f'{rejected} is put aside, {self._driving[-1]} is loaded'
        self.get_logger().warning(f'rollback: {response.message}')
        return response

    # -- what is said -----------------------------------------------------------------------
    def _publish_status(self) -> None:
        rounds = self.rounds
        facts = self._facts()
        values: dict[str, Any] = {
            'round': rounds.number, 'rounds': self.config.rounds, 'stage': rounds.stage.value,
            'episodes': facts.episodes, 'corrections': facts.corrections,
            'policy': self._driving[-1], 'waiting': self._session.waiting if self._session else '',
            'success': '' if rounds.baseline is None else rounds.baseline.rate,
            **self._progress()}
        text = f'round {rounds.number} of {self.config.rounds}: {rounds.stage.value}'
        now = self.get_clock().now().nanoseconds * 1e-9
        self._status.publish(convert.status_message(now, topics.DAGGER_STATUS, values, text))
        if self._child is not None and wall.monotonic() - self._said > _SAY:
            self._said = wall.monotonic()
            self.get_logger().info(f'{text} ' + ', '.join(
                f'{k} {v:.4g}' for k, v in self._progress().items()))

    def _progress(self) -> dict[str, Any]:
        """Of the child, from the files it writes."""
        folder = self._folder(self.rounds.number)
        if self.rounds.stage is Stage.TRAIN:
            lines = _lines(folder / 'run' / 'metrics.jsonl')
            if not lines:
                return {}
            last = json.loads(lines[-1])
            return {'step': last['step'], **{k: last[k] for k in ('loss', 'rate') if k in last}}
        if self.rounds.stage is Stage.EVALUATE and (folder / 'evaluation.json').exists():
            summary = json.loads((folder / 'evaluation.json').read_text())['summary']
            return {'evaluated': summary['episodes'], 'successes': summary['successes']}
        return {}


def _lines(path: Path) -> list[str]:
    """Complete lines of a file that is being written."""
    try:
        return [line for line in path.read_text().splitlines(keepends=True) if line.endswith('\n')]
    except OSError:
        return []


def _parameters(**values: Any) -> SetParameters.Request:
    return SetParameters.Request(parameters=[
        Parameter(name, value=value).to_parameter_msg() for name, value in values.items()])


def _plain(past: Past) -> dict[str, Any]:
    score = past.score
    return {**vars(past), 'score': None if score is None else vars(score)}


def table(past: Sequence[Past]) -> list[str]:
    """What the rounds brought, as lines for the terminal."""
    lines = ['round  episodes  corrections  success                  drives']
    for p in past:
        score = '-' if p.score is None else str(p.score)
        lines.append(f'{p.number:5}  {p.episodes:8}  {p.corrections:11}  {score:23}  '
                     f'{"yes" if p.taken else "no: " + p.reason}')
    return lines


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the exit code."""
    return run_node(DaggerNode, args)


if __name__ == '__main__':
    sys.exit(main())
