"""What an operating system gives a process that must not wait: a priority, memory, processors.

Linux only, and each only where it is permitted; who is refused goes on without it and is told
what to do. docs/execution.md says what it brings.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_CURRENT_AND_FUTURE = 3  # MCL_CURRENT | MCL_FUTURE, linux/mman.h
_LIMITS = '/etc/security/limits.d/il_robot.conf'


@dataclass(frozen=True)
class RealTime:
    """What a process asks for.

    Attributes:
        priority: SCHED_FIFO, 1 to 98, for all threads that there are; 0: as everybody else.
        lock_memory: Keep all pages in memory (mlockall): none is ever waited for.
        cpus: Processors that all threads stay on; empty: any.
    """

    priority: int = 0
    lock_memory: bool = False
    cpus: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.priority <= 98:
            raise ValueError(
                f'priority must be from 1 to 98, or 0 for none, got {self.priority}: 99 is the '
                "kernel's own")
        if any(cpu < 0 for cpu in self.cpus):
            raise ValueError(f'cpus are numbers from 0 on, got {self.cpus}')


def make_real_time(wanted: RealTime) -> tuple[list[str], list[str]]:
    """Ask the operating system for it, for this process as it is now.

    Threads that are made later stay on the processors of the thread that makes them, and have no
    priority; nor have child processes (SCHED_RESET_ON_FORK): what trains must not starve a robot.

    Returns:
        What was granted, and what was not: sentences, the latter with what to do.
    """
    granted: list[str] = []
    refused: list[str] = []
    for asked, ask in ((bool(wanted.cpus), _stay), (wanted.lock_memory, _lock),
                       (wanted.priority > 0, _rise)):
        if not asked:
            continue
        if sys.platform != 'linux':
            return [], ['real time is built for Linux only: everything runs as usual']
        try:
            granted.append(ask(wanted))
        except OSError as error:
            refused.append(str(error.args[-1]))
    return granted, refused


def _each_thread(ask: Callable[[int], None]) -> None:
    for name in os.listdir('/proc/self/task'):
        with suppress(ProcessLookupError):  # a thread that has just ended
            ask(int(name))


def _stay(wanted: RealTime) -> str:
    there = os.sched_getaffinity(0)
    if not set(wanted.cpus) <= there:
        raise OSError(f'cpus {_text(wanted.cpus)}: this process may use {_text(sorted(there))}')
    _each_thread(lambda thread: os.sched_setaffinity(thread, wanted.cpus))
    return f'on cpus {_text(wanted.cpus)}'


def _lock(_: RealTime) -> str:
    # With a limit everything would seem well until an allocation fails on the way.
    soft, _hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limited = soft != resource.RLIM_INFINITY and not _may_lock()
    if limited or _LIBC.mlockall(_CURRENT_AND_FUTURE) != 0:
        raise OSError(
            'memory is not locked: not permitted. Write "USER - memlock unlimited" into '
            f'{_LIMITS} and log in again')
    return 'memory locked'


def _may_lock() -> bool:
    """Whether this process has CAP_IPC_LOCK, for which limits do not count."""
    bit = 14  # linux/capability.h
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('CapEff:'):
            return bool(int(line.split()[1], 16) >> bit & 1)
    return False


def _rise(wanted: RealTime) -> str:
    policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    try:
        _each_thread(lambda thread: os.sched_setscheduler(
            thread, policy, os.sched_param(wanted.priority)))
    except PermissionError:
        raise OSError(
            'no real-time priority: not permitted. Write "USER - rtprio 98" into '
            f'{_LIMITS} and log in again') from None
    return f'SCHED_FIFO {wanted.priority}'


def _text(cpus: object) -> str:
    return ', '.join(map(str, cpus))  # type: ignore[call-overload]
