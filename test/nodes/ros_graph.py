"""Real nodes in real processes, in a ROS domain that no other test uses meanwhile.

    def test_something(graph):
        graph.start('sim', lockstep=True)
        states = graph.collect(JointState, topics.JOINT_STATES, topics.STATE_QOS)
        graph.until(lambda: len(states) > 3)

Nothing here sleeps and hopes: every wait has a condition and a generous limit.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import String

from il_robot.bringup import parameter_text
from il_robot.launch_options import loopback

ROOT = Path(__file__).parents[2]
TIMEOUT = 60.0
# Above 101 the ports of a domain can meet those the kernel hands out.
DOMAINS = range(1, 101)
PATIENT_QOS = QoSProfile(depth=5000)
"""For a test that must hear everything, however far behind a busy machine lets it fall."""


@contextmanager
def ros_domain():
    """A domain of one's own among all tests of this machine; the kernel frees it on any exit."""
    folder = Path(tempfile.gettempdir()) / f'il_robot_ros_domains_{os.getuid()}'
    folder.mkdir(exist_ok=True)
    start = os.getpid()
    while True:
        for i in range(len(DOMAINS)):
            domain = DOMAINS[(start + i) % len(DOMAINS)]
            file = (folder / str(domain)).open('w')
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                continue
            with file:
                yield domain
            return
        time.sleep(0.5)


def found_by(discovery):
    """Environment: as a launch sets it for this machine alone, or another range."""
    alone = loopback({})
    return alone if discovery == 'LOCALHOST' else {
        **dict.fromkeys(alone, ''), 'ROS_AUTOMATIC_DISCOVERY_RANGE': discovery}


class Process:
    """A Python process in the domain, and what it says.

    ``words`` follow the interpreter, which follows ``before``.
    """

    def __init__(self, name, domain, folder, words, before=(), discovery='LOCALHOST'):
        self.name = name
        self.log = folder / f'{name}_{time.monotonic_ns()}.log'
        environment = {**os.environ, **found_by(discovery), 'ROS_DOMAIN_ID': str(domain),
                       'ROS_LOG_DIR': str(folder), 'ROS_HOME': str(folder),
                       'OMP_NUM_THREADS': '1', 'PYTHONFAULTHANDLER': '1'}
        with self.log.open('w') as log:
            # no terminal: a test must not depend on where it was started
            self.popen = subprocess.Popen(
                [*before, sys.executable, *words], cwd=ROOT, env=environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    @property
    def output(self):
        return self.log.read_text()

    def kill(self):
        """As a crash."""
        self.popen.kill()
        self.popen.wait(TIMEOUT)

    def stop(self):
        """As Ctrl-C; the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGINT)
        try:
            return self.popen.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self._write_stacks()
            self.popen.send_signal(signal.SIGABRT)  # Python then says where it hangs
            self.popen.wait(TIMEOUT)
            return 'did not stop'

    def _write_stacks(self):
        """Of all its threads, those of the middleware too, into its log."""
        if debugger := shutil.which('gdb'):
            with self.log.open('a') as log, suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    [debugger, '-batch', '-p', str(self.popen.pid), '-ex', 'thread apply all bt'],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=TIMEOUT, check=False)


class Graph:
    """One domain: the processes started in it, and a node of the test's own."""

    def __init__(self, domain, folder, discovery='LOCALHOST'):
        self.domain, self.folder, self.discovery = domain, folder, discovery
        self.processes = []
        self._context = Context()
        os.environ.update(found_by(discovery))
        rclpy.init(context=self._context, domain_id=domain)
        self.node = Node('test', context=self._context, use_global_arguments=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def start(self, executable, *arguments, before=(), **parameters):
        """Start ``python -m il_robot.nodes.<executable>``; parameters with dots: ``**{}``."""
        words = ['-m', f'il_robot.nodes.{executable}', '--ros-args', *arguments]
        for key, value in parameters.items():
            words += ['-p', f'{key}:={parameter_text(value)}']
        return self.run(executable, *words, before=before)

    def run(self, name, *words, before=()):
        """Start ``python words ...`` in the domain, under this name."""
        process = Process(name, self.domain, self.folder, words, before, self.discovery)
        self.processes.append(process)
        return process

    def until(self, condition, what='the condition', timeout=TIMEOUT):
        """Spin until ``condition()`` is true; its value.

        Fails with the output of all processes after ``timeout``, or when one has died.
        """
        end = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            dead = [p.name for p in self.processes if p.popen.poll() not in (None, -9)]
            if dead or time.monotonic() > end:
                why = f'{dead} ended' if dead else f'{what} did not come true'
                raise AssertionError(f'{why}\n' + self.output())
            self._executor.spin_once(timeout_sec=0.05)

    def ask(self, requests, word, condition):
        """Publish a request until the condition holds, once a second."""
        again = 0.0

        def done():
            nonlocal again
            if not condition() and time.monotonic() > again:
                again = time.monotonic() + 1.0
                requests.publish(String(data=word))
            return condition()

        self.until(done, f'the effect of {word}')

    def collect(self, kind, topic, qos):
        """A list that grows with every message."""
        messages = []
        self.subscribe(kind, topic, messages.append, qos)
        return messages

    def subscribe(self, kind, topic, callback, qos):
        """Subscribe with the test's own node."""
        return self.node.create_subscription(kind, topic, callback, qos)

    def publisher(self, kind, topic, qos):
        """A publisher of the test's own node, matched with at least one subscriber."""
        publisher = self.node.create_publisher(kind, topic, qos)
        self.until(lambda: publisher.get_subscription_count() > 0, f'a subscriber of {topic}')
        return publisher

    def call(self, kind, name, request=None):
        """Call a service; its response."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f'service {name}')
        future = client.call_async(request or kind.Request())
        self.until(future.done, f'the answer of {name}')
        self.node.destroy_client(client)
        return future.result()

    def set_parameters(self, node, **values):
        """Set parameters of a node; the reasons of those refused."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(parameters=[
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()])
        response = self.call(SetParameters, f'{node}/set_parameters', request)
        return [result.reason for result in response.results if not result.successful]

    def output(self):
        """What all processes said."""
        return '\n'.join(f'--- {p.name}\n{p.output}' for p in self.processes)

    def close(self):
        """Stop everything; what ended otherwise than asked, by name."""
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGINT)
        codes = {p.name: p.stop() for p in self.processes}
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)
        return {name: code for name, code in codes.items() if code not in (0, -9)}


@contextmanager
def open_graph(folder, discovery='LOCALHOST'):
    """A graph in a domain of its own; every process must end well."""
    with ros_domain() as domain:
        graph = Graph(domain, Path(folder), discovery)
        try:
            yield graph
        finally:
            bad = graph.close()
        assert not bad, f'exit codes {bad}\n{graph.output()}'
        assert 'Traceback' not in graph.output(), graph.output()
