"""What every node shares: the main loop, parameters with ranges, throttled complaints."""

from __future__ import annotations

import faulthandler
import gc
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
)
from rclpy.exceptions import ParameterException
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from il_robot.errors import ConfigError, IlRobotError
from il_robot.real_time import RealTime, make_real_time

COMPLAINT_PERIOD = 5.0
"""The same complaint is logged at most this often [wall s]."""
_SLOW_END = 30.0
"""A node that takes longer to end says where it is [wall s]."""


def run_node(
    make_node: Callable[[], Node],
    args: Sequence[str] | None = None,
    make_executor: Callable[[], Executor] = SingleThreadedExecutor,
    *,
    real_time: bool = False,
) -> int:
    """Initialise ROS, make one node, spin it until SIGINT or SIGTERM; the exit code.

    With ``real_time`` it has the parameters of :func:`ask_for_real_time`.

    rclpy's own signal handlers are not used: with them a signal that arrives while a message is
    taken can end in a traceback. An IlRobotError of the constructor (a wrong parameter) is one
    line and exit code 2.
    """
    words = None if args is None else list(args)
    rclpy.init(args=words, signal_handler_options=SignalHandlerOptions.NO)
    executor = make_executor()
    stopped: list[int] = []

    def stop(number: int, _: Any) -> None:
        stopped.append(number)
        executor.wake()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    node: Node | None = None
    try:
        node = make_node()
        if real_time:
            ask_for_real_time(node)
        executor.add_node(node)
        # What is there now stays: no collection of garbage on the way need look at it again.
        gc.collect()
        gc.freeze()
        while not stopped and rclpy.ok():
            executor.spin_once(timeout_sec=0.5)
    except IlRobotError as error:
        print(f'error: {error}', file=sys.stderr, flush=True)
        return 2
    except SystemExit as done:
        # A node whose work is finished ends itself.
        return int(done.code or 0)
    finally:
        # A second Ctrl-C (terminal and supervisor both send one) must not cut the clean-up.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        # A node that hangs here once in thousands of ends: where, is then said.
        faulthandler.dump_traceback_later(_SLOW_END)
        if node is not None:
            executor.remove_node(node)  # nothing is to be called while its parts disappear
            node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()
        faulthandler.cancel_dump_traceback_later()
    return 0


def events_executor() -> Executor:
    """The events executor where rclpy has it (from Kilted on): less delay, a third of the CPU."""
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor()
    return EventsExecutor()


def ask_for_real_time(node: Node) -> None:
    """Declare the parameters of real time, and ask the operating system for what they name.

    What it refuses is said in the log, and the node runs without.

    Raises:
        ConfigError: a parameter is wrong.
    """
    priority = declare(
        node, 'priority', 0, 'real-time priority (SCHED_FIFO) of all threads; 0: none',
        low=0, high=98, read_only=True)
    lock_memory = declare(
        node, 'lock_memory', False, 'keep all memory from being paged out', read_only=True)
    cpus = declare(
        node, 'cpus', '', 'processors to stay on, such as 2,3; empty: any', read_only=True)
    try:
        wanted = RealTime(priority, lock_memory, tuple(int(n) for n in cpus.split(',') if n))
    except ValueError as error:
        raise ConfigError(
            f'parameter cpus: {error}; write numbers with commas, such as 2,3') from None
    granted, refused = make_real_time(wanted)
    if granted:
        node.get_logger().info(f'real time: {", ".join(granted)}')
    for sentence in refused:
        node.get_logger().warning(f'real time: {sentence}')


def declare(
    node: Node,
    name: str,
    default: Any,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    read_only: bool = False,
) -> Any:
    """Declare a parameter with its description and range; its value.

    ROS itself refuses values of another type or outside [low, high], at start and on set.

    Raises:
        ConfigError: the value given at the start is of another type or out of range.
    """
    descriptor = ParameterDescriptor(description=description, read_only=read_only)
    if low is not None or high is not None:
        if isinstance(default, float):
            descriptor.floating_point_range = [FloatingPointRange(
                from_value=-1e300 if low is None else float(low),
                to_value=1e300 if high is None else float(high))]
        else:
            descriptor.integer_range = [IntegerRange(
                from_value=-2**62 if low is None else int(low),
                to_value=2**62 if high is None else int(high))]
    try:
        return node.declare_parameter(name, default, descriptor).value
    except ParameterException as error:
        hint = ' (write 2.0, not 2)' if isinstance(default, float) else ''
        raise ConfigError(f'parameter {name}: {error}{hint}') from None


# What a message of unforeseen content raises; what ROS itself raises at its end is none of it.
_BAD_VALUES = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


class Complaints:
    """Logs a complaint once, and again only every COMPLAINT_PERIOD seconds; counts all."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._last: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def __call__(self, key: str, text: str) -> None:
        """Complain; ``key`` names the kind (a topic), ``text`` says what and what to do."""
        count = self.counts[key] = self.counts.get(key, 0) + 1
        now = time.monotonic()  # a person reads it, however fast a simulation runs
        last = self._last.get(key)
        if last is None or now - last >= COMPLAINT_PERIOD:
            self._last[key] = now
            again = f' ({count} so far)' if count > 1 else ''
            self._node.get_logger().warning(f'{text}{again}')

    def guard(self, topic: str, callback: Callable[[Any], Any]) -> Callable[[Any], None]:
        """A subscription's callback that complains about a bad message and ignores it."""
        def guarded(message: Any) -> None:
            try:
                callback(message)
            except IlRobotError as error:
                self(topic, f'ignored a message: {error}')
            except _BAD_VALUES as error:
                # Something nobody thought of; a robot must not lose its node for it.
                where = traceback.extract_tb(error.__traceback__)[-1]
                self(topic, f'ignored a message: {type(error).__name__}: {error} (in '
                     f'{where.name}, line {where.lineno} of {where.filename}); please report this')
        return guarded
