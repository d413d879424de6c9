"""The dagger node: rounds of live correction, from the first episode to the new policy.

It runs the episodes of a round as the session node does, trains on everything so far in a child
process, evaluates the new policy in another, and lets the policy node load it while the arms hold
(:mod:`il_robot.control.rounds` decides). Everything it knows stands in OUTPUT/rounds.json after
each round, so that a node that died goes on with the round it was in.

``dagger/status`` says where it is; ``dagger/skip`` ends the collection now, ``dagger/rollback``
brings back the policy before the present one.
"""

from __future__ import annotations

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

from il_robot.algorithms.live_rounds import PICTURE, LiveRounds, Orders, table
from il_robot.checkpoints import find_checkpoint
from il_robot.config import build
from il_robot.control.reminder import Reminder
from il_robot.control.rounds import Facts, Past, Rounds, RoundsConfig, Stage
from il_robot.control.session import Phase, Session
from il_robot.control.session_view import SessionConfig
from il_robot.nodes import convert, topics
from il_robot.nodes.child import Child
from il_robot.nodes.node import Complaints, declare, run_node
from il_robot.nodes.session_port import SessionPort
from il_robot.policies.checkpoint import read_description
from il_robot.types import ControlMode

_PERIOD, _STATUS_PERIOD, _SAY = 0.02, 1.0, 10.0
_SEEDS_PER_ROUND = 1000


class DaggerNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__('dagger')
        fixed = partial(declare, self, read_only=True)
        fixed('robot', 'sim_dual_arm', 'robot: a name in config/robots, or a file')
        output = Path(fixed('output', 'outputs/dagger', 'folder of everything'))
        orders = Orders(
            policy=Path(fixed('policy', '', 'checkpoint or run that drives at first')),
            recipe=fixed('recipe', 'chunk_mlp', 'of the training: a name, or a file'),
            settings=tuple(filter(None, fixed('settings', [''], 'KEY=VALUE of the recipe'))),
            warm_steps=fixed(
                'warm_steps', 0, 'above 0: new policies go on from the present one with so many '
                'steps; 0: from fresh weights', low=0),
            environment=tuple(filter(None, fixed(
                'environment', [''], 'words of "il_robot evaluate": task, width, disturbances'))),
            assess=fixed(
                'assess', 0.0, 'above 0: new policies learn to call for help in this share of '
                'the states', low=0.0, high=0.99))
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
        self._folder = LiveRounds(
            output, self.config, orders, fixed('dataset', '', 'demonstrations to begin with'))
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

    @property
    def rounds(self) -> Rounds:
        """Where it is."""
        return self._folder.rounds

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
            self._load(self._folder.run(self.rounds.number))
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
        evaluating = self.rounds.stage is Stage.EVALUATE
        return Facts(
            episodes=len(results), corrections=sum(r.interventions for r in results),
            saved=session is not None and session.phase is Phase.DONE,
            holding=self._port.view.mode in (ControlMode.HOLD, ControlMode.STOPPED),
            child=state,  # type: ignore[arg-type]
            trouble=self._trouble or (child.trouble if child else ''),
            score=self._folder.evaluated() if state == 'done' and evaluating else None,
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
        words = (self._folder.training() if what == 'train' else self._folder.evaluation())
        self.get_logger().info(f'round {self.rounds.number}: il_robot {" ".join(words)}')
        self._child = Child(words, self._folder.folder(self.rounds.number) / f'{what}.log')

    def _end(self, past: Past) -> None:
        """A round is over."""
        if past.taken and past.number:
            self._folder.driving.append(self._folder.run(past.number))
            self._expected = ''
        self._folder.save()
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
        try:
            self._folder.draw()
        except OSError as error:
            self._complain('picture', f'{self._folder.output / PICTURE} was not drawn: {error}')

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
            self._expected = read_description(find_checkpoint(self._folder.driving[-1])).hash
        if running != self._expected:
            self.get_logger().warning(
                f'the policy node runs {running}: loading {self._folder.driving[-1]} again')
            self._load(self._folder.driving[-1])

    def _loaded(self, future: Any) -> None:
        answer = future.result()
        self._swap = 'done' if answer.success else 'failed'
        self._trouble = '' if answer.success else answer.message
        if not answer.success:  # what a reload of tomorrow would take
            self._set_policy.call_async(
                _parameters(checkpoint=str(self._folder.driving[-1].absolute())))

    def _on_skip(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self.rounds.stage is Stage.COLLECT
        self._skip = response.success
        response.message = ('the round ends after this episode' if response.success else
                            f'nothing is collected now, but: {self.rounds.stage.value}')
        return response

    def _on_rollback(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Back to the policy before; it drives from the moment it is loaded."""
        if len(self._folder.driving) < 2 or self.rounds.stage is Stage.SWAP:
            response.success = False
            response.message = ('a swap is under way' if self.rounds.stage is Stage.SWAP
                                else 'there is no policy before this one')
            return response
        rejected = self._folder.driving.pop()
        self.rounds.roll_back()
        self._expected = ''
        self._load(self._folder.driving[-1])
        self._folder.save()
        response.success = True
        response.message = f'{rejected} is put aside, {self._folder.driving[-1]} is loaded'
        self.get_logger().warning(f'rollback: {response.message}')
        return response

    # -- what is said -----------------------------------------------------------------------
    def _publish_status(self) -> None:
        rounds = self.rounds
        facts = self._facts()
        values: dict[str, Any] = {
            'round': rounds.number, 'rounds': self.config.rounds, 'stage': rounds.stage.value,
            'episodes': facts.episodes, 'corrections': facts.corrections,
            'policy': self._folder.driving[-1],
            'waiting': self._session.waiting if self._session else '',
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
        if self.rounds.stage is Stage.TRAIN:
            return self._folder.trained()
        score = self._folder.evaluated() if self.rounds.stage is Stage.EVALUATE else None
        return {'evaluated': score.episodes, 'successes': score.successes} if score else {}


def _parameters(**values: Any) -> SetParameters.Request:
    return SetParameters.Request(parameters=[
        Parameter(name, value=value).to_parameter_msg() for name, value in values.items()])


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the exit code."""
    return run_node(DaggerNode, args)


if __name__ == '__main__':
    sys.exit(main())
