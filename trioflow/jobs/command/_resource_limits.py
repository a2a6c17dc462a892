"""The options `pin=` and `memory_limit=` of a command, implemented without Python code between fork and exec."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Final

from ... import _posix as posix
from ...abc import plural
from ..posix._cpus import usable_cpus

if TYPE_CHECKING:
    from ...abc import AbstractJob, RunHandle
    from ._spawn_options import CommandOptions

ULIMIT_SCRIPT: Final = 'ulimit -v "$0" && exec "$@"'
"""A script that limits the address space to `$0` KiB, and then executes the command."""


class NumberedSlots:
    """The numbers of a window's slots, counted from 1. Each pinned command takes the lowest free number."""

    __slots__ = ("_taken_numbers",)

    def __init__(self) -> None:
        self._taken_numbers: Final[set[int]] = set()

    def take_lowest(self) -> int:
        number = next(itertools.filterfalse(self._taken_numbers.__contains__, itertools.count(1)))
        self._taken_numbers.add(number)
        return number

    def give_back(self, number: int) -> None:
        self._taken_numbers.remove(number)


class PinnedCommands:
    """The pinned commands of an outermost run: their slots by scheduler, and how many run on each CPU.

    Jobs without a scheduler share the slots of None.
    """

    def __init__(self, run: RunHandle) -> None:
        self._run: Final = run
        self._slots: Final = defaultdict[Any, NumberedSlots](NumberedSlots)
        self._counts: Final = Counter[int]()
        self._has_warned = False

    @contextlib.contextmanager
    def hold_slot(self, job: AbstractJob[Any]) -> Generator[int]:
        """Hold a slot of the job's window, and yield its CPU. The first command that shares a CPU is reported."""
        slots, cpus = self._slots[job.scheduler], usable_cpus()
        number = slots.take_lowest()
        cpu = cpus[(number - 1) % len(cpus)]
        self._counts[cpu] += 1
        try:
            if self._counts[cpu] > 1 and not self._has_warned:
                self._has_warned = True
                self._run.report(
                    f'commands with pin="slot" share CPU {cpu}, because this program may use '
                    f"{plural(len(cpus), 'CPU')}; to give each its own, run them in one scheduler with "
                    f"jobs_window={len(cpus)} or less"
                )
            yield cpu
        finally:
            self._counts[cpu] -= 1
            slots.give_back(number)


@contextlib.contextmanager
def pinned_to_cpu(cpu: int | None) -> Generator[None]:
    """Pin the processes started in the body to a CPU; if it is None, do nothing.

    This sets the affinity of this thread, which child processes inherit.
    """
    if cpu is None:
        yield
        return
    original_affinity = posix.sched_getaffinity(0)
    posix.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        posix.sched_setaffinity(0, original_affinity)


def wrap_command(command: list[str | bytes], options: CommandOptions) -> Sequence[str | bytes]:
    """Return `command`, or, if it has a memory limit, the command of a shell that sets the limit and execs `command`.

    If this program set the limit after the start instead, the command's first allocations would not be limited.
    """
    if options.memory_limit is None:
        return command
    return ["/bin/sh", "-c", ULIMIT_SCRIPT, str(max(1, options.memory_limit // 1024)), *command]


def check_program(program: str, options: CommandOptions) -> None:
    """Check a program that a shell will start, because the shell would only print a message about it.

    Raises:
        OSError: the program does not exist, or is not executable.

    """
    if "/" in program:
        path: str | None = os.path.join(os.fsdecode(options.cwd or "."), program)
    else:
        environment: Any = options.env  # the function takes bytes, too
        path = shutil.which(program, path=os.pathsep.join(os.get_exec_path(environment)))
    if path is None or not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), program)
