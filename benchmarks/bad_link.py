"""A connection that can be bad: passes on the messages of one topic, late, torn or not at all.

    python3 benchmarks/bad_link.py TYPE FROM TO

``TYPE`` is JointState or JointTrajectory. What it does to them comes as JSON on topic FROM/link,
``{"kind": ..., "value": ...}``; benchmarks/bad_links.py has the kinds. Time is of the wall.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from il_robot.nodes.topics import COMMAND, COMMAND_QOS

TYPES = {'JointState': JointState, 'JointTrajectory': JointTrajectory}
WRONG = [np.nan, np.inf, -1e30, 1e308, 12.0]


class Link:
    """Holds what is on its way."""

    def __init__(self, kind: Any, source: str, target: str) -> None:
        self._node = rclpy.create_node('bad_link_' + source.replace('/', '_'))
        qos = QoSProfile(depth=100)
        # the robot asks who writes commands for signs of life
        self._out = self._node.create_publisher(
            kind, target, COMMAND_QOS if source == COMMAND else qos)
        self._node.create_subscription(kind, source, self._on_message, qos)
        self._node.create_subscription(String, f'{source}/link', self._on_order, qos)
        self._kind, self._value = 'good', 0.0
        self._rng = np.random.default_rng(0)
        self._way: list[tuple[float, Any]] = []
        self._window: deque[Any] = deque()
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self._node)

    def _on_order(self, message: String) -> None:
        order = json.loads(message.data)
        self._kind, self._value = order['kind'], order['value']
        self._window.clear()

    def _on_message(self, message: Any) -> None:
        now, rng, value = time.monotonic(), self._rng, self._value
        if self._kind == 'drop' and rng.random() < value:
            return
        if self._kind == 'silence' and now % 1.0 < value:
            return
        if self._kind == 'corrupt' and rng.random() < value:
            self._tear(message)
        delay = {'delay': value, 'jitter': value * rng.random()}.get(self._kind, 0.0)
        if self._kind == 'reorder':
            self._window.append(message)
            if len(self._window) >= value:
                for k in rng.permutation(len(self._window)):
                    self._out.publish(self._window[int(k)])
                self._window.clear()
            return
        copies = int(value) if self._kind == 'flood' else 1
        if delay == 0.0:
            for _ in range(copies):
                self._out.publish(message)
        else:
            self._way.append((now + delay, message))

    def _tear(self, message: Any) -> None:
        """One number, the names, the stamp or the length of it becomes wrong."""
        rng = self._rng
        point = message.points[int(rng.integers(len(message.points)))] if getattr(
            message, 'points', None) else message
        field = 'positions' if hasattr(point, 'positions') else 'position'
        values = list(getattr(point, field, []))
        what = int(rng.integers(4))
        if what == 0 and values:
            values[int(rng.integers(len(values)))] = float(rng.choice(WRONG))
            setattr(point, field, values)
        elif what == 1 and values:
            setattr(point, field, values[:-1])
        elif what == 2:
            message.header.stamp.sec = int(rng.choice([0, 2**31 - 1]))
        elif hasattr(message, 'name'):
            message.name = message.name[::-1]
        else:
            message.joint_names = message.joint_names[::-1]

    def spin(self) -> None:
        """Until the process is stopped."""
        while rclpy.ok():
            now = time.monotonic()
            due = [m for t, m in self._way if t <= now]
            self._way = [(t, m) for t, m in self._way if t > now]
            for message in due:
                self._out.publish(message)
            self.executor.spin_once(timeout_sec=0.002 if self._way else 0.05)


def main() -> int:
    """Pass on until SIGINT."""
    rclpy.init()
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        Link(TYPES[sys.argv[1]], sys.argv[2], sys.argv[3]).spin()
    rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
