"""The graph that benchmarks/faults.py breaks: its nodes, what they said, and the limits."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / 'test' / 'nodes')]

import numpy as np  # noqa: E402
from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from ros_graph import PATIENT_QOS, Graph  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from small_policy import write_lively_policy  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

import il_robot.sim as sim  # noqa: E402
from il_robot.control.arbiter import ArbiterConfig  # noqa: E402
from il_robot.nodes import convert, topics  # noqa: E402
from il_robot.types import ControlMode  # noqa: E402

SPEC = sim.default_robot()
JOINTS = np.array([name not in SPEC.gripper_names for name in SPEC.joint_names])
FACTOR = 0.5
"""Of real time: so what is late on a busy machine is no death."""
CHUNK = 10
"""Steps of the policy's plans."""
TIMEOUTS = {'policy': min(ArbiterConfig().policy_timeout, CHUNK * SPEC.dt),
            'expert': ArbiterConfig().human_timeout}
"""After its last word a driver is lost [s]: too old, or at the end of its plan."""
ROUNDING = 2.4e-7
"""Of positions in float32 [rad]."""


def stamp_of(message: Any) -> float:
    """Of its header [s]."""
    return convert.seconds(message.header.stamp)


class Cell:
    """All nodes of a session with a policy, an expert who corrects, and a recorder.

    Args:
        graph: In which they are started.
        remapped: Further words of the command lines, by node.
        elsewhere: What a node's whole command line follows, by node (``ip netns exec ...``).
    """

    def __init__(
        self, graph: Graph, remapped: Mapping[str, Sequence[str]] | None = None,
        elsewhere: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.graph, self.lives, self.deaf = graph, 0, set[str]()
        self._remapped, self._elsewhere = remapped or {}, elsewhere or {}
        self.hung: list[str] = []
        policy = write_lively_policy(
            graph.folder / 'policy', SPEC, ['cube'], width=0.004, steps=CHUNK)
        self.output = graph.folder / 'session'
        late = {'use_sim_time': True}
        self.settings = {
            'sim': {'real_time_factor': FACTOR}, 'arbiter': late, 'expert': late,
            'policy': {'checkpoint': str(policy), 'device': 'cpu', **late},
            'recorder': {'output': str(self.output), **late}}
        self.running = {name: self._started(name) for name in self.settings}
        self.commands: list[tuple[int, float, Any]] = []
        self.heard = dict.fromkeys(self.settings, 0.0)
        self.newest = dict.fromkeys(self.settings, -np.inf)
        self.state: Any = SPEC.rest
        self.moved = 0.0
        self.modes: list[tuple[float, dict[str, str]]] = []
        self.modes_at: list[float] = []
        self.recordings = graph.collect(DiagnosticArray, topics.RECORDING, topics.LATCHED_QOS)
        for kind, topic, callback in (
                (JointState, topics.COMMAND, self._on_command),
                (JointState, topics.JOINT_STATES, self._on_state),
                (DiagnosticArray, topics.MODE, self._on_mode),
                (JointTrajectory, topics.POLICY_PROPOSAL, self._keeper('policy')),
                (JointState, topics.EXPERT_PROPOSAL, self._keeper('expert')),
                (DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics)):
            graph.subscribe(kind, topic, callback, PATIENT_QOS)
        self.requests = graph.publisher(String, topics.REQUEST, topics.REQUEST_QOS)

    # -- what is heard ----------------------------------------------------------------------
    def _keeper(self, name: str) -> Any:
        def keep(message: Any) -> None:
            if name in TIMEOUTS and 'proposal' in self.deaf:
                return
            self.heard[name], self.newest[name] = time.monotonic(), stamp_of(message)
        return keep

    def _on_command(self, message: JointState) -> None:
        if 'command' in self.deaf:
            return
        if len(message.position) != SPEC.dim:  # nonsense of our own that was late
            return
        stamp, last = stamp_of(message), self.newest['arbiter']
        if not last <= stamp < last + 10.0:  # another clock: nothing is known of the way there
            self.lives += 1
        self._keeper('arbiter')(message)
        self.commands.append((self.lives, stamp_of(message), np.array(message.position)))

    def _on_state(self, message: JointState) -> None:
        if 'state' in self.deaf:
            return
        if len(message.position) != SPEC.dim:
            return
        before, self.state = self.state, np.array(message.position)
        self._keeper('sim')(message)
        if np.abs(self.state - before)[JOINTS].max() > 1e-4:
            self.moved = stamp_of(message)

    def _on_mode(self, message: DiagnosticArray) -> None:
        if 'mode' in self.deaf:
            return
        values = convert.status_values(message)
        if values.get('mode') not in ControlMode.__members__:  # nonsense of our own that was late
            return
        if 'holding where it is' in values.get('reason', ''):
            self.lives += 1  # the commands begin anew where the arms are
        self.modes.append((stamp_of(message), values))
        self.modes_at.append(self.newest['sim'])

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == 'recorder':
                self.heard['recorder'] = time.monotonic()

    @property
    def mode(self) -> str:
        """What the arbiter said last."""
        return self.modes[-1][1]['mode'] if self.modes else ''

    @property
    def saved(self) -> int:
        """Episodes that this recorder says it saved."""
        values = convert.status_values(self.recordings[-1]) if self.recordings else {}
        return int(values.get('saved', 0))

    # -- what is done -----------------------------------------------------------------------
    def wait(self, seconds: float) -> None:
        """Listen for some time [wall s]."""
        end = time.monotonic() + seconds
        self.graph.until(lambda: time.monotonic() > end)

    def ask(self, word: str, *modes: str) -> None:
        """Request until one of the modes is there."""
        self.graph.ask(self.requests, word, lambda: self.mode in modes)

    def signal(self, name: str, kind: str) -> None:
        """Kill a node, or stop it."""
        self.lives += 1  # what comes from here on need not continue what was
        if kind == 'kill':
            self.running[name].kill()
        else:
            self.running[name].popen.send_signal(signal.SIGSTOP)

    def restore(self, name: str, kind: str) -> str:
        """Start it again, or let it go on, until everything is heard of.

        A node that is not heard of within half a minute is asked where it is (SIGABRT prints the
        stacks of its threads), and started once more, then all of them; what it said comes back.
        """
        self.lives += 1
        if kind == 'kill':
            self._start(name)
        else:
            self.running[name].popen.send_signal(signal.SIGCONT)
        now = time.monotonic()
        self.graph.until(lambda: self._all_heard(now) or time.monotonic() > now + 30.0)
        if self._all_heard(now):
            return ''
        silent = [n for n, heard in self.heard.items() if heard <= now]
        return self._replace(name, f'{", ".join(silent)} silent after {kind} of {name}')

    def _replace(self, name: str, why: str) -> str:
        """Start a node anew that does not do what it should; why, and where it was."""
        process = self.running[name]
        self.graph.processes.remove(process)
        process.popen.send_signal(signal.SIGABRT)
        process.popen.wait(30.0)
        node, topic = self.graph.node, topics.REQUEST
        said = (f'{why}; {node.count_subscribers(topic)} subscribers of {topic}, '
                f'{node.count_publishers(topics.RECORDING)} publishers of {topics.RECORDING}: '
                f'{process.output[-3000:]}')
        self.graph.processes.append(process)
        self._start(name)
        now = time.monotonic()
        self.graph.until(lambda: self._all_heard(now) or time.monotonic() > now + 30.0)
        if self._all_heard(now):
            return said
        for other, running in self.running.items():
            running.kill()
            self._start(other)
        now = time.monotonic()
        self.graph.until(lambda: self._all_heard(now), f'everybody after {said}')
        return f'everything had to be started anew: {said}'

    def _start(self, name: str) -> None:
        self.graph.processes.remove(self.running[name])
        self.running[name] = self._started(name)

    def _started(self, name: str) -> Any:
        return self.graph.start(name, *self._remapped.get(name, ()),
                                before=self._elsewhere.get(name, ()), **self.settings[name])

    def _all_heard(self, since: float) -> bool:
        return all(heard > since for heard in self.heard.values())

    def record(self) -> bool:
        """One short episode from start to success; whether the recorder said it was saved.

        A recorder that does not begin is started once more, and noted in :attr:`hung`.
        """
        self.wait(1.5)  # who was started again has been found by the recorder
        try:
            self._start_recording()
        except AssertionError:
            self.hung.append(self._replace('recorder', 'no recording after start'))
            self.wait(1.5)
            self._start_recording()
        before = self.saved
        self.ask('run', 'AUTONOMOUS', 'CORRECTION')
        self.wait(0.6)
        self.graph.ask(self.requests, 'success', lambda: self.saved > before)
        return True

    def _start_recording(self) -> None:
        self.graph.ask(self.requests, 'start', lambda: self._recording == 'recording')

    @property
    def _recording(self) -> str:
        return convert.status_values(self.recordings[-1])['state'] if self.recordings else ''

    # -- limits -----------------------------------------------------------------------------
    def violations(self) -> dict[str, Any]:
        """The most of each quantity over its limit in each uninterrupted piece of the stream."""
        worst = dict.fromkeys(('position', 'velocity', 'acceleration', 'jerk'), 0.0)
        count = 0
        for life in sorted({c[0] for c in self.commands}):
            piece = [(t, x) for number, t, x in self.commands if number == life]
            if len(piece) < 4:
                continue
            count += len(piece)
            for key, value in _over(np.array([t for t, _ in piece]),
                                    np.array([x for _, x in piece])).items():
                worst[key] = max(worst[key], value)
        return {'commands': count, 'violations': sum(v > 1.0 for v in worst.values()),
                **{k: round(v, 6) for k, v in worst.items()}}


def _over(times: Any, x: Any) -> dict[str, float]:
    """Each quantity over its limit and what rounding leaves open; above 1 it is broken.

    The first three commands of a piece are left out: what was before them was not heard.
    """
    hard = SPEC.safety
    h = np.diff(times)[:, None]
    keep = h[:, 0] > 0.1 * SPEC.dt
    x, h = np.concatenate([x[:1], x[1:][keep]]), h[keep]
    v = np.diff(x, axis=0) / h
    a = np.diff(v, axis=0) / h[1:]
    j = np.diff(a, axis=0) / h[2:]
    most = hard.acceleration * SPEC.acceleration
    outside = np.maximum(SPEC.lower - x, x - SPEC.upper).max()
    result = {'position': 1.0 + float(outside) if outside > 1e-6 else 0.0}
    for key, value, limit, order in (
            ('velocity', v, SPEC.velocity, 1), ('acceleration', a, most, 2),
            ('jerk', j, most / hard.jerk_time, 3)):
        if len(value):
            near = np.minimum(h[order - 1:], SPEC.dt)
            slack = limit * 1e-4 + 4 ** order * ROUNDING / near ** order
            result[key] = float((np.abs(value) / (limit + slack))[:, JOINTS].max())
    return result
