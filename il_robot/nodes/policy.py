"""The policy node: a trained policy that answers observations with action chunks.

A lifecycle node. ``configure`` loads the checkpoint, checks that it is of this robot and warms it
up; ``activate`` lets it answer; ``deactivate`` stops that; ``cleanup`` gives the memory back. With
``autostart`` (the default) it does the first two by itself. ``policy/reload`` loads the checkpoint
that the parameter names now beside the running one and swaps them at once; where that fails the
old one goes on.
"""

from __future__ import annotations

import os
import sys
import threading
import time as wall
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from il_robot.config import key_values
from il_robot.control.gate_watch import LEARNED
from il_robot.control.inference import InferenceWorker, Timing
from il_robot.control.stats import Rate
from il_robot.errors import ConfigError, IlRobotError
from il_robot.nodes import convert, topics
from il_robot.nodes.loaded_policy import LoadedPolicy, load_policy
from il_robot.nodes.node import Complaints, declare, run_node
from il_robot.nodes.policy_inputs import PolicyInputs
from il_robot.policies.runtime import AUTO
from il_robot.processes import BEHIND
from il_robot.resources import named_config
from il_robot.spec import load_robot_spec
from il_robot.statistics import Percentiles
from il_robot.types import ActionChunk

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class PolicyNode(LifecycleNode):
    """See the module."""

    def __init__(self) -> None:
        super().__init__('policy')
        self._resources = ExitStack()  # ROS also destroys a node whose constructor failed
        robot = declare(self, 'robot', 'sim_dual_arm', 'robot: a name in config/robots, or a file',
                        read_only=True)
        self.spec = load_robot_spec(named_config('robots', robot))
        declare(self, 'checkpoint', '', 'folder of a checkpoint or of a training run')
        declare(self, 'device', 'auto', 'auto, cpu, cuda, cuda:1 ...; counts from a reload on')
        declare(self, 'runtime', AUTO,
                'auto (the fastest) or torch, trace, numpy, onnx, cuda_graph; from a reload on')
        declare(self, 'execution', [''],
                "KEY=VALUE instead of the checkpoint's: mode, n_action_steps, decay")
        self._seed = declare(
            self, 'seed', 0, 'of a stochastic policy, until sim/episode names one', low=0)
        age = partial(declare, self, low=0.001, high=5.0, read_only=True)
        self._seeing = {
            'max_age': age('max_object_age', 0.1, 'oldest object pose that counts [s]'),
            'max_image_age': age('max_image_age', 0.2, 'oldest picture that counts [s]'),
            'transport': declare(
                self, 'image_transport', 'compressed', 'pictures: compressed or raw',
                read_only=True)}
        # One sample is too small to share, and the other cores have other nodes to run.
        torch.set_num_threads(declare(
            self, 'threads', 1, "torch's threads", low=1, high=256, read_only=True))
        self._assess = declare(
            self, 'assess', False, 'also say on policy/assessment how sure it is', read_only=True)
        self._autostart = declare(
            self, 'autostart', True, 'configure and activate without being told')
        self._complain = Complaints(self)
        self._policy: LoadedPolicy | None = None
        self._loaded: LoadedPolicy | None = None
        self._active = False
        self._episode = ''
        self._inputs: PolicyInputs | None = None
        self._rate = Rate()
        self._timing = {k: Percentiles() for k in ('latency', 'wait', 'inference')}
        self._late = 0
        self._worker = InferenceWorker(
            self.spec.dt, self._publish_chunk, partial(self._complain, 'inference'),
            wall.perf_counter)
        self._resources.callback(self._worker.close)
        self._make_interfaces()
        if self._autostart and self.trigger_configure() is SUCCESS:
            self.trigger_activate()

    def _make_interfaces(self) -> None:
        self._proposal = self.create_publisher(
            JointTrajectory, topics.POLICY_PROPOSAL, topics.CHUNK_QOS)
        self._assessment = self.create_publisher(
            DiagnosticArray, topics.POLICY_ASSESSMENT, topics.CHUNK_QOS) if self._assess else None
        self._status = self.create_publisher(
            DiagnosticArray, topics.POLICY_STATUS, topics.LATCHED_QOS)
        self._diagnostics = self.create_publisher(
            DiagnosticArray, topics.DIAGNOSTICS, topics.DIAGNOSTICS_QOS)
        self._listen(DiagnosticArray, topics.SIM_EPISODE, self._on_episode, topics.LATCHED_QOS)
        self._listen(JointState, topics.JOINT_STATES, self._on_state, topics.STATE_QOS)
        # Of its own group: a coroutine that waits keeps its whole group from running, so reloads
        # come one after the other and everything else goes on.
        self.create_service(Trigger, topics.POLICY_RELOAD, self._on_reload,
                            callback_group=MutuallyExclusiveCallbackGroup())
        self.create_timer(1.0, self._publish_diagnostics,
                          clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _listen(self, kind: Any, topic: str, callback: Callable[[Any], None], qos: Any) -> Any:
        """Subscribe; a bad message is complained about and ignored."""
        return self.create_subscription(kind, topic, self._complain.guard(topic, callback), qos)

    # -- life cycle -------------------------------------------------------------------------
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load, or take what a reload has loaded."""
        try:
            policy = self._loaded or self._load()
        except IlRobotError as error:
            self.get_logger().error(str(error))
            return FAILURE
        self._loaded = None
        self._adopt(policy)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Answer from the next observation on."""
        self._set_active(True)
        self._worker.reset(self._rng())
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish nothing any more."""
        self._set_active(False)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give the memory back."""
        self._worker.replace(None)
        self._policy = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From any state: stop and give back."""
        self._set_active(False)
        self.on_cleanup(state)
        return super().on_shutdown(state)

    def _set_active(self, active: bool) -> None:
        self._active = active
        self._worker.clear()
        self._publish_status()

    def _load(self) -> LoadedPolicy:
        """The policy the parameters name now; any thread may call this.

        Raises:
            IlRobotError: see :func:`load_policy`.
        """
        values = {n: self.get_parameter(n).value
                  for n in ('checkpoint', 'device', 'execution', 'runtime')}
        execution = key_values(list(filter(None, values['execution'])), 'execution')
        return load_policy(values['checkpoint'], self.spec, values['device'], execution,
                           values['runtime'], assess=self._assess)

    def _adopt(self, policy: LoadedPolicy) -> None:
        """From now on this policy answers."""
        inputs = PolicyInputs(
            self, policy.checkpoint, self._listen, self._submit, period=self.spec.dt,
            **self._seeing)
        if self._inputs is not None:
            self._inputs.close()
        self._inputs = inputs
        self._policy = policy
        self._worker.replace(
            policy.runner, policy.execution.n_action_steps, self._publish_status)
        self._worker.reset(self._rng())
        self.get_logger().info(
            f'{policy.checkpoint.policy} {policy.checkpoint.hash} of {policy.folder} on '
            f'{policy.device}: chunks of {policy.runner.chunk_size}')
        self.get_logger().info(', '.join(
            f'{key} {value}' for key, value in policy.runner.describe().items() if value != ''))

    def _rng(self) -> np.random.Generator:
        # As the evaluation in process seeds a policy, for equal episodes.
        return np.random.default_rng([self._seed, 1])

    async def _on_reload(
        self, _: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """Load in a thread while the old policy goes on answering, then swap."""
        done: Future[LoadedPolicy] = Future(executor=self.executor)
        threading.Thread(target=self._load_into, args=(done,), daemon=True).start()
        try:
            policy = await done
            assert policy is not None
            if self._policy is not None:
                self._adopt(policy)
            else:
                self._loaded = policy
                if self.trigger_configure() is SUCCESS and self._autostart:
                    self.trigger_activate()
            response.success, response.message = True, policy.checkpoint.hash
        except IlRobotError as error:
            old = f'; {self._policy.folder} goes on' if self._policy else ''
            response.success, response.message = False, f'{error}{old}'
            self.get_logger().error(f'reload: {response.message}')
        return response

    def _load_into(self, done: Future[LoadedPolicy]) -> None:
        try:
            done.set_result(self._load())
        except IlRobotError as error:
            done.set_exception(error)
        except Exception as error:
            done.set_exception(ConfigError(f'{type(error).__name__}: {error}'))

    # -- what comes in ----------------------------------------------------------------------
    def _on_episode(self, message: DiagnosticArray) -> None:
        values = convert.status_values(message)
        try:
            episode, seed = values['episode'], int(values['seed'])
        except (KeyError, ValueError) as error:
            raise ConfigError(f'{topics.SIM_EPISODE}: {error} is missing or wrong') from None
        if episode != self._episode:
            self._episode, self._seed = episode, seed
            self._worker.reset(self._rng())

    def _on_state(self, message: JointState) -> None:
        if self._inputs is None:
            return
        state = convert.positions_by_name(
            message.name, message.position, self.spec, topics.JOINT_STATES)
        why = self._inputs.assembler.put_state(convert.seconds(message.header.stamp), state)
        if why:
            self._complain(topics.JOINT_STATES, f'ignored a message: {why}')
        self._submit()

    def _submit(self) -> None:
        assert self._inputs is not None
        observation = self._inputs.assembler.take()
        if observation is not None and self._active:
            self._worker.submit(observation)

    # -- what goes out ----------------------------------------------------------------------
    def _publish_chunk(self, chunk: ActionChunk, timing: Timing) -> None:
        """From the worker's thread."""
        self._proposal.publish(convert.chunk_message(chunk, self.spec))
        if self._assessment is not None and self._policy is not None:
            runner = self._policy.runner
            self._assessment.publish(convert.status_message(
                chunk.stamp, topics.POLICY_ASSESSMENT,
                {name: repr(getattr(runner, name)) for name in LEARNED}))
        for name, values in self._timing.items():
            values.add(getattr(timing, name))
        self._late += timing.late
        self._rate.tick(wall.perf_counter())

    def _values(self) -> dict[str, Any]:
        assert self._policy is not None
        state = 'active' if self._active else 'inactive'
        return {
            **self._policy.describe(), 'state': state,
            'late': self._late,
            **{f'{name}_{k}_ms': 1e3 * v for name, values in self._timing.items()
               for k, v in values.values().items()}}

    def _publish_status(self) -> None:
        if self._policy is not None:
            values = self._values()
            self._status.publish(convert.status_message(
                self._now(), topics.POLICY_STATUS, values, values['state']))

    def _publish_diagnostics(self) -> None:
        rate = self._rate.hertz(wall.perf_counter())
        level, message, values = 'warn', 'no checkpoint is loaded: configure, or reload', {}
        if self._policy is not None and self._inputs is not None:
            values = {**self._values(), 'chunks_per_s': rate}
            level, message = 'ok', values['state']
            missing = self._inputs.missing()
            if self._active and missing:
                level, message = 'warn', f'waiting for {", ".join(missing)}'
                self._complain('inputs', f'{message}; does the simulator run the task '
                               f'{self._policy.checkpoint.task!r}, with these cameras?')
            elif self._active and rate == 0:
                level, message = 'stale', f'no {topics.JOINT_STATES}'
        values |= {f'ignored {k}': v for k, v in self._complain.counts.items()}
        self._diagnostics.publish(
            convert.status_message(self._now(), 'policy', values, message, level))

    def _now(self) -> float:
        return float(self.get_clock().now().nanoseconds * 1e-9)

    def destroy_node(self) -> None:
        """End the worker, then the node."""
        self._resources.close()
        super().destroy_node()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; the exit code."""
    os.nice(BEHIND)
    return run_node(PolicyNode, args, real_time=True)


if __name__ == '__main__':
    sys.exit(main())
