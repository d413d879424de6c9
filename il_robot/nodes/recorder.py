"""The recorder: every topic raw into one rosbag2 folder per episode, and on into the dataset.

Callbacks store serialized messages, which are checked but never decoded; a thread writes them
(:mod:`il_robot.nodes.recorder_bags`). When an episode begins and ends is decided by
:class:`~il_robot.data.episode_session.EpisodeSession`; a finished bag becomes an episode of the
dataset in a process of its own (:mod:`il_robot.data.convert_process`).

``OUTPUT/bags/episode_000000_<UTC>`` are the bags, ``OUTPUT/dataset`` is the LeRobotDataset.
"""

from __future__ import annotations

import json
import os
import sys
import time as wall
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import String
from std_srvs.srv import Trigger

from il_robot.data import layout
from il_robot.data.episode_session import (
    REQUESTS,
    Begin,
    End,
    EpisodeSession,
    Event,
    RefusedError,
)
from il_robot.errors import ConfigError, DatasetError, unknown
from il_robot.nodes import convert, topics
from il_robot.nodes.node import Complaints, declare, run_node
from il_robot.nodes.raw_topics import RawMessage, RawTopics, TopicPlan, contract, image_topic
from il_robot.nodes.recorder_bags import RecorderBags
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec

TRANSPORTS = ('compressed', 'raw')
_POLL = 0.05


class RecorderNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__('recorder')
        # first what destroy_node needs: it also runs when the rest of this refuses
        self._needed: list[str] = []
        self._published = ''
        self._lock: int | None = None
        self._declare()
        self._complain = Complaints(self)
        self._session = EpisodeSession(self._auto, self._max_seconds)
        self._topics = RawTopics(self, self.spec, self._receive, self._now)
        self._bags = RecorderBags(
            self, self._output, self.spec.dt, self._topics, self._complain)
        self._steps = 0
        self._status = self.create_publisher(
            DiagnosticArray, topics.RECORDING, topics.LATCHED_QOS)
        self._diagnostics = self.create_publisher(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        self._topics.subscribe(contract(self.spec, self._transport, self._record_clock))
        for word in REQUESTS:
            self.create_service(Trigger, topics.service_of(word), partial(self._on_service, word))
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_POLL, self._poll, clock=steady)
        self.create_timer(1.0, self._once_a_second, clock=steady)
        self._lock_output()
        self._bags.take_up_old()
        self._publish_status()

    # -- set-up -----------------------------------------------------------------------------
    def _declare(self) -> None:
        fixed = partial(declare, self, read_only=True)
        robot = fixed('robot', 'sim_dual_arm', 'robot: a name in config/robots, or a file')
        self.spec = load_robot_spec(named_config('robots', robot))
        self._output = Path(fixed(
            'output', 'outputs/session', 'folder of bags and dataset')).absolute()
        self._transport = fixed(
            'image_transport', 'compressed', 'pictures that are recorded: compressed or raw')
        if self._transport not in TRANSPORTS:
            raise ConfigError(unknown('image_transport', self._transport, TRANSPORTS))
        cameras = [c for c in fixed(
            'cameras', [''], 'cameras of the dataset; empty: all that publish') if c]
        self._cameras = [self.spec.camera(c).name for c in cameras]
        self._extra = [t for t in fixed(
            'extra_topics', [''], 'further topics to record, of any type') if t]
        self._record_clock = fixed('record_clock', False, 'record /clock, too')
        self._auto = fixed('auto', '', "'sim': episodes begin with a reset of the simulator and "
                           'end with its verdict; empty: by request')
        if self._auto not in ('', 'sim'):
            raise ConfigError(unknown('value of auto', self._auto, ['sim']))
        self._max_seconds = fixed(
            'max_episode_seconds', 300.0, 'longest episode [s]; 0: no limit', low=0.0)
        declare(self, 'task', '', 'task name; empty: as the simulator says')
        declare(self, 'language', '', 'the instruction in words; empty: as the simulator says')
        declare(self, 'round', 0, 'DAgger round, 0: demonstrations', low=0)

    def _lock_output(self) -> None:
        try:
            (self._output / 'bags').mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetError(f'cannot write to {self._output}: {error.strerror}') from None
        self._lock = layout.lock(self._output)

    # -- messages ---------------------------------------------------------------------------
    def _receive(self, message: RawMessage, wrong: list[tuple[str, str]]) -> None:
        name = message.stream.plan.name
        self._warn(name, wrong)
        self._bags.receive(message)
        if name == topics.JOINT_STATES:
            self._steps += 1
            event = self._session.state(message.stamp)
            self._carry_out([event] if event else [])
        elif name == topics.REQUEST:
            self._on_request(deserialize_message(message.data, String).data)
        elif name == topics.SIM_EPISODE:
            said = deserialize_message(message.data, DiagnosticArray)
            values = convert.status_values(said)
            self._listen_to_objects(values.get('objects', '').split())
            before = self._session.simulated
            self._carry_out(self._session.sim_episode(
                convert.seconds(said.header.stamp), values))
            if self._session.simulated != before:
                self._publish_status()  # who resets the simulator may wait for this

    def _listen_to_objects(self, names: Sequence[str]) -> None:
        """The simulator names its objects; every episode of a dataset needs them all."""
        self._needed = [topics.object_pose(name) for name in names]
        self._topics.subscribe(
            TopicPlan(topic, PoseStamped, topics.EVERY_MESSAGE_QOS, rate=self.spec.rates.control)
            for topic in self._needed)

    def _silent(self) -> list[str]:
        """Topics that an episode needs and that have not said a word yet."""
        cameras = (image_topic(camera, self._transport) for camera in self._cameras)
        return [name for name in (topics.JOINT_STATES, *self._needed, *cameras)
                if not self._topics.streams[name].check.messages]

    def _warn(self, name: str, wrong: list[tuple[str, str]]) -> None:
        """What is wrong with a stream matters while it is recorded."""
        if self._bags.open is not None:
            for kind, text in wrong:
                self._complain(f'{name} {kind}', f'{name}: {text}')

    def _now(self) -> float:
        """ROS time [s]; NaN before the first message of the simulated clock."""
        nanoseconds = self.get_clock().now().nanoseconds
        return nanoseconds * 1e-9 if nanoseconds else float('nan')

    # -- episodes ---------------------------------------------------------------------------
    def _on_request(self, text: str) -> None:
        word = text.strip()
        if word in REQUESTS:
            _, answer = self._request(word)
            self.get_logger().info(answer)

    def _on_service(
        self, word: str, _: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        response.success, response.message = self._request(word)
        return response

    def _request(self, word: str) -> tuple[bool, str]:
        """Carry out a request; whether it was, and what to tell."""
        try:
            event = self._session.request(word)
        except RefusedError as error:
            self._bags.reason = str(error)
            self._publish_status('warn')
            return False, str(error)
        return self._carry_out([event]), self._bags.reason

    def _carry_out(self, events: Sequence[Event]) -> bool:
        """Do it; whether the disk let us."""
        done = True
        for event in events:
            if isinstance(event, Begin):
                done = self._begin(event)
            elif isinstance(event, End):
                self._bags.end(event)
            else:
                self._bags.discard(event)
            self._publish_status()
        return done

    def _begin(self, event: Begin) -> bool:
        """Open a bag; where the disk refuses, no episode is open afterwards."""
        cameras = self._cameras or [
            c.name for c in self.spec.cameras
            if self._topics.streams[image_topic(c.name, self._transport)].check.messages]
        metadata = {
            'robot': json.dumps(self.spec.to_dict()),
            'cameras': json.dumps(cameras),
            'topics': json.dumps({s.plan.name: s.topic for s in self._topics.streams.values()}),
            'start': repr(event.start),
            **{name: str(self.get_parameter(name).value)
               for name in ('task', 'language', 'round')},
        }
        thread = self._bags.begin(event.start, metadata)
        if thread is None:
            self._session.request('discard')
            return False
        self._steps = 0
        for message in self._topics.recent(event.start):
            self._bags.write(thread, message)
            self._steps += message.stream.plan.name == topics.JOINT_STATES \
                and message.stamp >= event.start
        self._warn_of_missing(cameras)
        return True

    def _warn_of_missing(self, cameras: Sequence[str]) -> None:
        if not self.count_publishers(topics.COMMAND):
            self._complain('command', f'nobody publishes {topics.COMMAND}: is the arbiter '
                           'running? Rows without a command are not taken')
        for camera in cameras:
            topic = image_topic(camera, self._transport)
            if not self._topics.streams[topic].check.messages:
                self._complain(f'camera {camera}', f'camera {camera} has sent no picture on '
                               f'{topic}; the episode cannot be saved without')

    # -- in the background ------------------------------------------------------------------
    def _poll(self) -> None:
        """Find topics while none is recorded, and bring bags to their end."""
        bag = self._bags.open
        if bag is None:
            self._topics.discover(self._extra)  # often: the first poses must not be missed
        elif bag.thread.error:
            self._session.request('discard')
            self._bags.give_up()
            self._publish_status('error')
        self._bags.poll(self._publish_status)
        if self._published == 'waiting' and self._state() != 'waiting':
            self._publish_status()

    # -- what goes out ----------------------------------------------------------------------
    def _state(self) -> str:
        if self._session.recording:
            return 'recording'
        if self._bags.waiting:
            return 'saving'
        return 'waiting' if self._silent() else 'idle'

    def _publish_status(self, level: str = '') -> None:
        session, bags = self._session, self._bags
        state = self._published = self._state()
        values = {
            'state': state, 'episode': bags.number - session.recording,
            'steps': self._steps if session.recording else 0, 'seconds': session.seconds,
            'outcome': bags.outcome, 'saved': bags.saved, 'waiting': bags.waiting,
            'output': self._output, 'reason': bags.reason, 'sim_episode': session.simulated,
            **({'silent': ' '.join(self._silent())} if state == 'waiting' else {}),
        }
        level = level or ('error' if bags.trouble else 'ok')
        message = convert.status_message(
            self.get_clock().now().nanoseconds * 1e-9, topics.RECORDING, values, bags.reason,
            level)
        self._status.publish(message)
        if bags.open is not None:
            topic, thread = self.resolve_topic_name(topics.RECORDING), bags.open.thread
            if bags.add_topic(thread, topic, DiagnosticArray):
                thread.write(topic, serialize_message(message), wall.time_ns())

    def _once_a_second(self) -> None:
        self._topics.discover(self._extra)
        self._topics.adapt()
        if self.count_publishers(topics.RECORDING) > 1:
            self._complain('recorders', 'another recorder answers the same requests: end one')
        if self._session.recording:
            self._publish_status()
        now = self._now()
        array = convert.status_message(
            0.0 if now != now else now, 'recorder',
            {'state': self._state(),
             **{f'warned {k}': v for k, v in self._complain.counts.items()}},
            self._bags.trouble or self._bags.reason,
            'error' if self._bags.trouble else 'ok')
        for stream in self._topics.streams.values():
            report, wrong = stream.check.report(now)
            self._warn(stream.plan.name, wrong)
            if report.messages:
                array.status += convert.status_message(
                    0.0, f'recorder: {stream.plan.name}', {
                        'rate': report.rate, 'expected': stream.plan.rate, 'age': report.age,
                        'largest_gap': report.largest_gap, 'messages': report.messages,
                        'lost': report.lost}, report.message, report.level).status
        self._diagnostics.publish(array)

    # -- the end ----------------------------------------------------------------------------
    def destroy_node(self) -> None:
        """Finish what is open: the bag stays, an episode without outcome is not converted."""
        if self._lock is not None:
            self._bags.finish(self._topics.streams[topics.JOINT_STATES].check.stamp)
            os.close(self._lock)
            self._lock = None
        super().destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the exit code."""
    return run_node(RecorderNode, args)


if __name__ == '__main__':
    sys.exit(main())
