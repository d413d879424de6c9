"""Plays synthetic episodes over topics, in a process of its own, as sim and arbiter would.

Every line on standard input is a JSON object: how many ticks, and what goes wrong in them. The
answer is a line with the stamp of the state reached [s] and how many messages were sent so far.
Stamps are scripted: tick k has ``START + k * dt``, whatever the wall clock says.
"""

from __future__ import annotations

import io
import json
import sys
import time as wall
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from PIL import Image
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, JointState
from trajectory_msgs.msg import JointTrajectory

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))

import synthetic_episodes as synthetic

from il_robot.nodes import convert, topics
from il_robot.types import ActionChunk

START = 1_795_000_000.0
SIZE = (64, 48)
SPEC = synthetic.robot()
VIEWS = synthetic.cameras(SPEC, 2, *SIZE)
PACE = 0.004  # [wall s] a tick


LENGTH = 300


def script() -> list[Any]:
    """The steps that are played, over and over; an expert corrects in the middle third."""
    return list(synthetic.steps(SPEC, LENGTH, views=VIEWS))


class Player(Node):
    """Publishes; see the module."""

    def __init__(self) -> None:
        super().__init__('player')
        deep = topics.EVERY_MESSAGE_QOS
        self.sent: dict[str, int] = {}
        self.tick, self.driver = 0, None
        self.steps = script()
        kinds = {
            topics.JOINT_STATES: JointState, topics.COMMAND: JointState,
            topics.EXPERT_PROPOSAL: JointState, topics.POLICY_PROPOSAL: JointTrajectory,
            **{topics.object_pose(name): PoseStamped for name in synthetic.OBJECTS},
            **{topics.compressed(v.name): CompressedImage for v in VIEWS},
        }
        self.out = {n: self.create_publisher(kind, n, deep) for n, kind in kinds.items()}
        for name in (topics.MODE, topics.SIM_EPISODE, topics.POLICY_STATUS):
            self.out[name] = self.create_publisher(DiagnosticArray, name, topics.LATCHED_QOS)
        self.clock = self.create_publisher(Clock, topics.CLOCK, deep)
        self.put(topics.POLICY_STATUS, convert.status_message(START, 'policy', {
            'checkpoint': 'c0ffee', 'chunk_size': 1, 'execution_mode': 'newest',
            'n_action_steps': 1, 'decay': 0.0}))

    def put(self, name: str, message: Any) -> None:
        self.out[name].publish(message)
        self.sent[name] = self.sent.get(name, 0) + 1

    def wait_for_recorder(self) -> None:
        while any(p.get_subscription_count() == 0 for p in self.out.values()):
            wall.sleep(0.02)

    def stamp(self) -> float:
        return START + self.tick * SPEC.dt

    def play(self, ticks: int, **wrong: Any) -> None:
        """Ticks; ``wrong`` says what is: gap, frozen, black, order, seed, success."""
        if 'seed' in wrong:
            self.episode(wrong['seed'], False)
        self.tick += wrong.get('gap', 0)
        for _ in range(ticks):
            self.one(wrong)
            self.tick += 1
            wall.sleep(PACE)
        if 'success' in wrong:
            self.episode(wrong['success'], True)
        self.state(self.steps[self.tick % LENGTH], wrong)

    def episode(self, seed: int, success: bool) -> None:
        self.put(topics.SIM_EPISODE, convert.status_message(self.stamp(), 'sim/episode', {
            'episode': seed, 'seed': seed, 'task': 'lift_tray', 'language': 'lift the tray',
            'success': success, 'terminated': success, 'truncated': False}))

    def state(self, step: Any, wrong: dict[str, Any]) -> None:
        stamp = self.stamp()
        for name, pose in step.observation.objects.items():
            self.put(topics.object_pose(name), convert.pose_message(stamp, pose))
        for view in VIEWS:
            frozen = wrong.get('frozen') == view.name
            rgb = synthetic.picture(view, 0 if frozen else self.tick)
            if wrong.get('black') == view.name:
                rgb = np.zeros_like(rgb)
            out = io.BytesIO()
            Image.fromarray(rgb).save(out, 'JPEG', quality=90)
            self.put(topics.compressed(view.name),
                     convert.compressed_message(stamp, view.name, out.getvalue()))
        message = convert.joint_state(stamp, SPEC, step.observation.state)
        if wrong.get('order'):
            message.name, message.position = message.name[::-1], message.position[::-1]
        self.put(topics.JOINT_STATES, message)
        self.clock.publish(Clock(clock=convert.time(self.stamp())))

    def one(self, wrong: dict[str, Any]) -> None:
        step, stamp = self.steps[self.tick % LENGTH], self.stamp()
        self.state(step, wrong)
        if step.expert is not None:
            self.put(topics.EXPERT_PROPOSAL, convert.joint_state(stamp, SPEC, step.expert))
        chunk = ActionChunk(stamp, np.array([stamp]), step.policy[None])
        self.put(topics.POLICY_PROPOSAL, convert.chunk_message(chunk, SPEC))
        if (step.source, step.intervention) != self.driver:
            self.driver = (step.source, step.intervention)
            self.put(topics.MODE, convert.status_message(stamp, topics.MODE, {
                'mode': 'CORRECTION' if step.intervention else 'AUTONOMOUS',
                'intervention': step.intervention,
                **{f'driver_{a.name}': s.name.lower() for a, s in zip(SPEC.arms, step.source)}}))
        self.put(topics.COMMAND, convert.joint_state(stamp, SPEC, step.action))


def main() -> None:
    """Play what standard input says."""
    rclpy.init()
    player = Player()
    for line in sys.stdin:
        player.wait_for_recorder()
        player.play(**json.loads(line))
        print(json.dumps({'end': player.stamp(), 'sent': player.sent}), flush=True)
    player.destroy_node()
    rclpy.try_shutdown()


if __name__ == '__main__':
    main()
