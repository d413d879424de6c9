"""The sim node: a simulated robot and its task behind the topics of a real one.

In real time it keeps the pace of the wall (times ``real_time_factor``) and applies the newest
command at each control tick. In lockstep it advances one tick per command that answers its
observation, so that an episode over topics equals one in process bit for bit and runs as fast as
the machine allows; no faster than the wall while the arms only hold. An episode does not end here:
stage and success are published, and the world goes on until ``sim/reset``.

The order of one tick's messages is clock, objects, images (lockstep), sim/episode, joint_states:
who reacts to joint_states has the rest.
"""

from __future__ import annotations

import sys
import time as wall
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from il_robot import sim
from il_robot.control.commands import CommandBuffer, obeyed_speed
from il_robot.control.pacing import Pacer, Restraint
from il_robot.control.stats import Rate
from il_robot.errors import ConfigError, IlRobotError
from il_robot.nodes import convert, topics
from il_robot.nodes.node import Complaints, declare, run_node
from il_robot.nodes.sim_cameras import SimCameras
from il_robot.nodes.writers import Writers
from il_robot.resources import named_config
from il_robot.sim.live import MAX_SEED, LiveWorld, WorldSettings
from il_robot.spec import load_robot_spec
from il_robot.types import Float32

# Parameters that describe the world; a change counts from the next reset on.
_WORLD = ('task', 'task_options', 'width', 'disturbances')
# Lockstep waits this long for the first answer of a new writer, then twice as long, and so on
# [wall s]: who joins has missed the present observation, but may be slow to answer the next.
_FIRST_WAIT = 0.5
# In lockstep, equal commands for so long [s] mean that nobody drives.
_STILL = 0.5
# Longest wait for all who listen to have heard of a new episode: one of them may hang.
_ACKNOWLEDGED = Duration(nanoseconds=200_000_000)


class SimNode(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__('sim')
        self._resources = ExitStack()  # ROS also destroys a node whose constructor failed
        self._declare()
        self._complain = Complaints(self)
        self._counts: Counter[str] = Counter()
        self._world = LiveWorld(
            self.spec, self._settings(), image_size=self._image_size, gui=self._gui)
        self._resources.callback(self._world.close)
        self._dt = self.spec.dt
        # The real-time clock goes on where a simulator that was restarted had stopped; in
        # lockstep equal runs have equal stamps.
        self._epoch = 0.0 if self._lockstep else float(int(wall.monotonic()))
        self._published: dict[str, Any] = {}
        self._wait = min(_FIRST_WAIT, self._patience)
        self._rate = Rate()
        self._make_interfaces()
        self._cameras: SimCameras | None = None
        if self._shown:
            self._cameras = SimCameras(
                self, self._world.env, self._shown, self._transport,
                partial(self._complain, 'cameras'))
            self._resources.callback(self._cameras.close)
        self._make_timers()
        self._begin(self._seed)

    # -- parameters -------------------------------------------------------------------------
    def _declare(self) -> None:
        fixed = partial(declare, self, read_only=True)
        robot = fixed('robot', sim.DEFAULT_ROBOT, 'robot: a name in config/robots, or a file')
        self.spec = load_robot_spec(named_config('robots', robot))
        names = fixed('cameras', [''], 'cameras that are rendered and published')
        self._shown = [self.spec.camera(name) for name in names if name]
        self._image_size = _image_size(fixed(
            'image_size', [0, 0], "width and height of images [px]; 0, 0: the camera's own"))
        self._transport = fixed(
            'image_transport', 'compressed', 'raw, compressed (JPEG) or both')
        self._lockstep = fixed(
            'lockstep', False, 'advance one control tick per command that answers it')
        self._gui = fixed('gui', False, "PyBullet's window")
        declare(self, 'task', 'transfer_cube', 'transfer_cube, insert_peg or lift_tray')
        declare(self, 'task_options', [''], 'KEY=VALUE, for example clearance=0.002')
        declare(self, 'width', 'nominal', 'reset width: narrow, nominal, wide')
        declare(self, 'disturbances', [''], 'KEY=VALUE, for example shoves=2')
        self._seed = declare(
            self, 'seed', 0, 'of the next reset; each reset without a new one takes the next',
            low=0, high=MAX_SEED)
        self._new_seed = False
        self._factor = declare(
            self, 'real_time_factor', 1.0, 'simulated over wall time', low=0.01, high=100.0)
        self._patience = declare(
            self, 'lockstep_timeout', 5.0, 'longest wait for a command in lockstep [wall s]',
            low=0.01, high=600.0)
        self._commands = CommandBuffer(lockstep=self._lockstep, timeout=declare(
            self, 'command_timeout', 0.2, 'age from which a command no longer counts [s]',
            low=0.02, high=10.0), speed=obeyed_speed(self.spec))
        self._paused = declare(self, 'paused', False, 'the world stands still')
        self.add_on_set_parameters_callback(self._on_set)

    def _on_set(self, parameters: Iterable[Parameter[Any]]) -> SetParametersResult:
        """Check, then take over what counts at once; the rest counts from the next reset on."""
        values = {q.name: q.value for q in parameters}
        try:
            self._settings(values)
        except IlRobotError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._new_seed = self._new_seed or 'seed' in values
        self._patience = values.get('lockstep_timeout', self._patience)
        self._commands.timeout = values.get('command_timeout', self._commands.timeout)
        if 'real_time_factor' in values or 'paused' in values:
            self._factor = values.get('real_time_factor', self._factor)
            self._set_paused(values.get('paused', self._paused))
        return SetParametersResult(successful=True)

    def _settings(self, changed: Mapping[str, Any] | None = None) -> WorldSettings:
        """The world that the parameters describe.

        Raises:
            ConfigError: one of them is wrong.
        """
        values = {name: self.get_parameter(name).value for name in _WORLD} | dict(changed or {})
        return WorldSettings.parse(**{name: values[name] for name in _WORLD})

    # -- interfaces -------------------------------------------------------------------------
    def _make_interfaces(self) -> None:
        publish = self.create_publisher
        self._joint_states = publish(JointState, topics.JOINT_STATES, topics.STATE_QOS)
        self._time = publish(ClockMessage, topics.CLOCK, topics.STATE_QOS)
        self._episode = publish(DiagnosticArray, topics.SIM_EPISODE, topics.LATCHED_QOS)
        self._diagnostics = publish(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        self._make_object_publishers()
        self._writers = Writers(self, topics.COMMAND)
        self._command = self.create_subscription(
            JointState, topics.COMMAND, self._on_command, topics.COMMAND_QOS,
            event_callbacks=self._writers.events)
        self.create_service(Trigger, topics.SIM_RESET, self._on_reset)
        self.create_service(Trigger, topics.SIM_DISTURB, self._on_disturb)
        self.create_service(SetBool, topics.SIM_PAUSE, self._on_pause)

    def _make_object_publishers(self) -> None:
        self._objects = {
            name: self.create_publisher(PoseStamped, topics.object_pose(name), topics.STATE_QOS)
            for name in self._world.env.task.objects}

    def _make_timers(self) -> None:
        # Wall time: simulated time stands still exactly when these are needed.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._pacer = Pacer(self._dt / self._factor, wall.perf_counter())
        self._restraint = Restraint(self._dt, round(_STILL / self._dt))
        if self._lockstep:
            self._timer = self.create_timer(0.02, self._on_patience, clock=steady)
        else:
            self._timer = self.create_timer(
                self._dt / self._factor, self._on_timer, clock=steady)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)

    # -- episodes ---------------------------------------------------------------------------
    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Start the next episode, of the parameters as they are now."""
        try:
            settings = self._settings()
            if settings != self._world.settings:
                self._replace_world(settings)
        except IlRobotError as error:
            response.success, response.message = False, f'the old world goes on: {error}'
            return response
        seed = self.get_parameter('seed').value
        if not self._new_seed:
            seed = (self._world.status['seed'] + 1) % MAX_SEED
            self.set_parameters([Parameter('seed', value=seed)])
        self._wait = self._patience  # somebody is there
        self._begin(seed)
        response.success = True
        response.message = 'episode {episode}: {task}, seed {seed}'.format(**self._world.status)
        self.get_logger().info(response.message)
        return response

    def _replace_world(self, settings: WorldSettings) -> None:
        """Another task or other disturbances; where that fails the old world goes on."""
        env = self._world.make_env(settings)
        if self._cameras is not None:
            self._cameras.replace(env)
        self._world.replace(env, settings)
        for publisher in self._objects.values():
            self.destroy_publisher(publisher)
        self._make_object_publishers()

    def _begin(self, seed: int) -> None:
        self._world.begin(seed)
        self._new_seed = self._driven = False
        self._commands.begin(self._stamp)
        self._publish()

    def _on_disturb(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._world.env.shove()
        response.success, response.message = True, 'one part was pushed'
        return response

    def _on_pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.set_parameters([Parameter('paused', value=request.data)])
        response.success = True
        response.message = 'paused' if request.data else 'running'
        return response

    def _set_paused(self, paused: bool) -> None:
        self._paused = paused
        if not self._lockstep:
            self._timer.timer_period_ns = round(1e9 * self._dt / self._factor)
            self._pacer.restart(self._dt / self._factor, wall.perf_counter())
        elif not paused:
            self._advance()

    # -- commands ---------------------------------------------------------------------------
    @property
    def _stamp(self) -> float:
        """Time of the present state, as it is read back from a message [s]."""
        return convert.seconds(convert.time(self._epoch + self._world.ticks * self._dt))

    def _on_command(self, message: JointState) -> None:
        if self._rivals():
            return
        try:
            position = convert.positions_by_name(
                message.name, message.position, self.spec, topics.COMMAND)
        except IlRobotError as error:
            self._complain(topics.COMMAND, f'ignored a message: {error}')
            return
        stamp, now = convert.seconds(message.header.stamp), self._stamp
        measured = None if self._lockstep else self._world.env.world.state()
        wrong = self._commands.put(stamp, position, now, measured)
        if wrong:
            self._counts[f'commands {wrong}'] += 1
            if wrong == 'too far away':
                self._complain('far', f'ignored a {topics.COMMAND} that the arms cannot follow: '
                               'further from the last one than they get in the time between')
            if wrong == 'from the future':
                self._complain('future', f'ignored a {topics.COMMAND} {stamp - now:.3f} s ahead '
                               'of joint_states; is its writer on the same clock?')
        elif self._lockstep:
            self._advance()

    def _rivals(self) -> bool:
        """Whether more than one node writes the command; then none of them is obeyed."""
        count = self._writers.count()
        if count > 1:
            self._commands.begin(self._stamp)
            self._complain('rivals', f'{count} publishers on {topics.COMMAND}: holding until '
                           'there is only one; stop the others')
        return count > 1

    # -- time -------------------------------------------------------------------------------
    def _advance(self) -> None:
        """One tick in lockstep, once the observation is answered."""
        command = self._commands.get(self._stamp)
        if command is not None and not self._paused and self._restraint.allows(
                command, wall.perf_counter()):
            self._wait = self._patience
            self._tick(command)

    def _on_patience(self) -> None:
        """In lockstep, go on holding when nobody answers, or slowly while nobody drives."""
        if self._commands.get(self._stamp) is not None:
            self._advance()
            return
        if self.count_publishers(self._command.topic_name) == 0:
            self._wait = min(_FIRST_WAIT, self._patience)
        if self._paused or wall.perf_counter() - self._published_at < self._wait:
            return
        if self._wait >= self._patience:
            self._counts['lockstep timeouts'] += 1
            self._complain('lockstep', f'no {topics.COMMAND} for stamp {self._stamp:.3f} s within '
                           f'{self._wait:g} s: holding for one tick')
        self._wait = min(2.0 * self._wait, self._patience)
        self._tick(None)

    def _on_timer(self) -> None:
        """In real time, all ticks that are due."""
        for _ in range(0 if self._paused else self._pacer.due(wall.perf_counter())):
            command = self._commands.get(self._stamp)
            if (command is not None) is not self._driven:
                self._driven = command is not None
                if self._driven:
                    self.get_logger().info(f'obeying {topics.COMMAND}')
                else:
                    self.get_logger().warning(
                        f'no {topics.COMMAND} for {self._commands.timeout:g} s: holding; is the '
                        'arbiter running?')
            self._tick(command)

    def _tick(self, command: Float32 | None) -> None:
        """One control tick with a command, or holding."""
        if command is None:
            self._counts['held ticks'] += 1
        self._world.tick(command)
        self._rate.tick(wall.perf_counter())
        self._publish()

    # -- what goes out ----------------------------------------------------------------------
    def _publish(self) -> None:
        """The present state on all topics."""
        stamp, env, status = self._stamp, self._world.env, self._world.status
        observation = env.observation()
        self._time.publish(ClockMessage(clock=convert.time(stamp)))
        for name, publisher in self._objects.items():
            publisher.publish(convert.pose_message(stamp, observation.objects[name]))
        if self._cameras is not None:
            self._cameras.show(stamp, wait=self._lockstep)
        if status != self._published:
            new = status['episode'] != self._published.get('episode')
            self._published = dict(status)
            self._episode.publish(convert.status_message(
                stamp, topics.SIM_EPISODE, status, status['stage_name']))
            if new:
                # DDS keeps no order between topics: who takes the first joint states of an
                # episode for the last one's answers them with the last one's history.
                self._episode.wait_for_all_acked(_ACKNOWLEDGED)
        _, velocity, effort = env.world.joint_states()
        self._joint_states.publish(convert.joint_state(
            stamp, self.spec, observation.state, velocity, effort))
        self._published_at = wall.perf_counter()

    def _publish_diagnostics(self) -> None:
        now = wall.perf_counter()
        rate = self._rate.hertz(now)
        level, message = 'ok', self._world.status['stage_name']
        if self._rivals():
            level, message = 'error', f'more than one publisher on {topics.COMMAND}'
        elif self._paused:
            message = 'paused'
        elif not self._lockstep and not self._driven:
            level, message = 'warn', f'no {topics.COMMAND}: holding; is the arbiter running?'
        values: dict[str, Any] = {
            'ticks_per_s': rate, 'real_time_factor': rate * self._dt,
            'lost_ticks': self._pacer.lost, **self._counts,
            **(self._cameras.values() if self._cameras is not None else {}),
            **{f'ignored {k}': v for k, v in self._complain.counts.items()}}
        self._diagnostics.publish(
            convert.status_message(self._stamp, 'sim', values, message, level))

    def destroy_node(self) -> None:
        """Close cameras and world, then the node."""
        self._resources.close()
        super().destroy_node()


def _image_size(values: Sequence[int]) -> tuple[int, int] | None:
    if len(values) != 2 or min(values) < 0 or (0 in values and any(values)):
        raise ConfigError(f'image_size: [width, height] in pixels, or [0, 0], got {list(values)}')
    return (values[0], values[1]) if any(values) else None


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the exit code."""
    return run_node(SimNode, args, real_time=True)


if __name__ == '__main__':
    sys.exit(main())
