"""A process that keeps the topic contract of ros2_control, in place of a real robot.

    python test/nodes/stand_in.py openarm

Per topic of joint states one joint_state_broadcaster: every message in another order, with joints
that are nobody's. Per controller a node of its name that answers for its parameter ``joints``, and
obeys as ros2_controllers do (94e74de): forward_command_controller drops what is not finite or of
another length and keeps the last command; joint_trajectory_controller refuses wrong names, times
that do not increase and trajectories that end in the past, moves straight between the points of
the newest one, and from where it is when the first point is yet to come. Joints follow with a lag
and a top speed.

What happened is told on ``stand_in/status``; ``stand_in/do`` takes a word: ``silent`` (neither
states nor motion), ``speak``, ``jump JOINT BY`` (driver's name and unit), ``block`` (joints no
longer follow), ``free``.
"""

import argparse
import json
import random
import signal
import sys

import numpy as np
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from il_robot.resources import named_config
from il_robot.spec import load_robot_spec

PERIOD = 0.01
LAG = 0.03
"""Time constant of a joint [s]."""
FASTEST = 10.0
"""Top speed [driver's unit per s]: faster than any limit, so that breaking one is seen."""
NOBODYS = {'torso_lift_joint': 0.3, 'head_pan_joint': -0.1}


def seconds(time_or_duration):
    return time_or_duration.sec + 1e-9 * time_or_duration.nanosec


class ForwardController:
    """forward_command_controller/ForwardCommandController."""

    def __init__(self, node, topic, joints):
        self.joints, self.command, self.refused, self.received = joints, None, 0, 0
        node.create_subscription(Float64MultiArray, topic, self.receive, 10)

    def receive(self, message):
        self.received += 1
        if len(message.data) == len(self.joints) and np.isfinite(message.data).all():
            self.command = np.array(message.data)
        else:
            self.refused += 1

    def update(self, now, measured):
        return self.command


class TrajectoryController:
    """joint_trajectory_controller/JointTrajectoryController, positions only."""

    def __init__(self, node, topic, joints):
        self.node, self.joints, self.refused, self.received, self.late = node, joints, 0, 0, 0
        self.times = self.points = None
        self.fresh = False
        node.create_subscription(JointTrajectory, topic, self.receive, 10)

    def receive(self, message):
        self.received += 1
        offsets = [seconds(p.time_from_start) for p in message.points]
        start = seconds(message.header.stamp)
        now = 1e-9 * self.node.get_clock().now().nanoseconds
        if (sorted(message.joint_names) != sorted(self.joints) or not offsets
                or any(b <= a for a, b in zip(offsets, offsets[1:]))
                or any(len(p.positions) != len(self.joints) for p in message.points)):
            self.refused += 1
            return
        if start and start + offsets[-1] < now:
            self.late += 1
            return
        order = [message.joint_names.index(name) for name in self.joints]
        self.times = (start or now) + np.array(offsets)
        self.points = np.array([p.positions for p in message.points])[:, order]
        self.fresh = True

    def update(self, now, measured):
        if self.times is None:
            return None
        if self.fresh and now < self.times[0]:
            self.times = np.insert(self.times, 0, now)
            self.points = np.insert(self.points, 0, measured, axis=0)
        self.fresh = False
        return np.array([np.interp(now, self.times, p) for p in self.points.T])


class GripperActionController:
    """position_controllers/GripperActionController; a goal is the command and ends at once."""

    def __init__(self, node, topic, joints):
        from control_msgs.action import GripperCommand
        from rclpy.action import ActionServer

        self.joints, self.command, self.refused, self.received = joints, None, 0, 0
        self.result = GripperCommand.Result
        self.server = ActionServer(node, GripperCommand, topic, self.execute)

    def execute(self, goal):
        self.received += 1
        self.command = np.array([goal.request.command.position])
        self.max_effort = goal.request.command.max_effort
        goal.succeed()
        return self.result(position=float(self.command[0]), reached_goal=True)

    def update(self, now, measured):
        return self.command


CONTROLLERS = {'forward': ForwardController, 'trajectory': TrajectoryController,
               'gripper_action': GripperActionController}


class StandIn(Node):
    """The driver, the broadcasters and the controller manager of one robot."""

    def __init__(self, options):
        super().__init__('stand_in')
        self.options = options
        spec = load_robot_spec(named_config('robots', options.robot))
        wiring = spec.wiring
        rest = [(v - j.offset) / j.gain for v, j in zip(spec.rest, wiring.joints)]
        # Per source (a topic), because two arms may have the same joint names.
        self.sources, self.nodes, self.controllers = [], [], []
        for source in wiring.sources:
            names = wiring.drivers(source.joints)
            at = dict(zip(names, (float(rest[i]) for i in source.joints)))
            at.update({n: v for n, v in options.at.items() if n in at})
            for name in options.without:
                at.pop(name, None)
            publisher = self.create_publisher(JointState, source.topic, 10)
            self.sources.append((publisher, at, dict.fromkeys(at, 0.0)))
        for controller in wiring.controllers if options.controllers else ():
            self.open_controller(wiring, controller)
        self.silent = self.blocked = False
        self.commands = {}
        self.due = 1.0
        self.status = self.create_publisher(String, 'stand_in/status', 10)
        self.create_subscription(String, 'stand_in/do', self.do, 10)
        self.describe(wiring)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(PERIOD, self.step, clock=steady)
        self.create_timer(0.1, self.tell, clock=steady)

    def open_controller(self, wiring, controller):
        names = wiring.drivers(controller.joints)
        told = list(reversed(names)) if self.options.reverse else names
        owner, _, _ = controller.topic.rpartition('/')
        namespace, _, name = owner.rpartition('/')
        node = Node(name, namespace=namespace, use_global_arguments=False)
        node.declare_parameter('joints', told)
        self.nodes.append(node)
        owners = [next(s for s, w in enumerate(wiring.sources) if j in w.joints)
                  for j in controller.joints]
        kind = CONTROLLERS[controller.kind](node, controller.topic, told)
        self.controllers.append((controller.topic, kind, owners))

    def describe(self, wiring):
        """The URDF, with the limits of the robot file, or narrower ones."""
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.descriptions = []
        for topic in sorted({j.description for j in wiring.joints} - {''}):
            joints = ''
            for joint in (j for j in wiring.joints if j.description == topic):
                ends = sorted((v - joint.offset) / joint.gain for v in (joint.lower, joint.upper))
                if joint.driver in self.options.narrow:
                    ends[1] = 0.5 * (ends[0] + ends[1])
                joints += (f'<joint name="{joint.driver}" type="revolute"><limit '
                           f'lower="{ends[0]}" upper="{ends[1]}" velocity="100"/></joint>')
            publisher = self.create_publisher(String, topic, latched)
            publisher.publish(String(data=f'<robot name="stand_in">{joints}</robot>'))
            self.descriptions.append(publisher)

    def do(self, message):
        word, *rest = message.data.split()
        if word in ('silent', 'speak'):
            self.silent = word == 'silent'
        elif word in ('block', 'free'):
            self.blocked = word == 'block'
        elif word == 'jump':
            for _, at, _ in self.sources:
                if rest[0] in at:
                    at[rest[0]] += float(rest[1])

    def step(self):
        now = 1e-9 * self.get_clock().now().nanoseconds
        for topic, controller, owners in self.controllers:
            at = [self.sources[s][1].get(j, 0.0) for s, j in zip(owners, controller.joints)]
            command = controller.update(now, np.array(at))
            if command is not None and not self.blocked and not self.silent:
                self.follow(topic, controller.joints, owners, command)
        self.due += PERIOD * self.options.rate
        if self.due >= 1 - 1e-9:
            self.due %= 1.0
            if not self.silent:
                self.broadcast()

    def follow(self, topic, joints, owners, command):
        self.commands[topic] = dict(zip(joints, command.tolist()))
        for joint, source, target in zip(joints, owners, command):
            _, at, speed = self.sources[source]
            if joint in at:
                speed[joint] = float(np.clip((target - at[joint]) / LAG, -FASTEST, FASTEST))
                at[joint] += PERIOD * speed[joint]

    def broadcast(self):
        for publisher, at, speed in self.sources:
            names = [*at, *NOBODYS]
            random.shuffle(names)
            message = JointState(name=names)
            message.header.stamp = self.get_clock().now().to_msg()
            message.position = [at.get(n, NOBODYS.get(n, 0.0)) for n in names]
            message.velocity = [speed.get(n, 0.0) for n in names]
            message.effort = [float('nan')] * len(names)
            publisher.publish(message)

    def tell(self):
        self.status.publish(String(data=json.dumps({
            'received': {t: c.received for t, c, _ in self.controllers},
            'refused': {t: c.refused for t, c, _ in self.controllers},
            'late': {t: getattr(c, 'late', 0) for t, c, _ in self.controllers},
            'command': self.commands, 'at': [at for _, at, _ in self.sources]})))


def key_value(text):
    name, _, value = text.partition('=')
    return name, float(value)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('robot', help='a name in config/robots, or a file')
    parser.add_argument('--rate', type=float, default=100.0, help='of joint states, at most 100')
    parser.add_argument('--at', type=key_value, action='append', default=[], metavar='JOINT=VALUE')
    parser.add_argument('--without', action='append', default=[], metavar='JOINT')
    parser.add_argument('--narrow', action='append', default=[], metavar='JOINT',
                        help='its URDF allows half of the range')
    parser.add_argument('--no-controllers', dest='controllers', action='store_false')
    parser.add_argument('--reverse', action='store_true', help='controllers have another order')
    options = parser.parse_args()
    options.at = dict(options.at)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    executor, stopped = SingleThreadedExecutor(), []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: (stopped.append(1), executor.wake()))
    stand_in = StandIn(options)
    nodes = [stand_in, *stand_in.nodes]
    for node in nodes:
        executor.add_node(node)
    while not stopped:
        executor.spin_once(timeout_sec=0.5)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
