"""The options `pin=` and `memory_limit=` of a command, implemented without Python code between fork and exec."""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import shutil
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Final

from ... import _posix as posix

if TYPE_CHECKING:
    from ...abc import AbstractJob, RunHandle
    from ._spawn_options import CommandOptions

ULIMIT: Final = 'ulimit -v "$0" && exec "$@"'


class SlotNumbers:
    """The numbers of a window's slots, from 1; a pinned command takes the lowest free one."""

    __slots__ = ("_free", "_last")

    def __init__(self) -> None:
        self._free: Final[list[int]] = []
        self._last = 0

    def take(self) -> int:
        """Take the lowest free slot, and return its number."""
        if self._free:
            return heapq.heappop(self._free)
        self._last += 1
        return self._last

    def give_back(self, number: int) -> None:
        """Free a slot."""
        heapq.heappush(self._free, number)


class SlotsByScheduler:
    """The numbered slots of all schedulers in an outermost run."""

    def __init__(self, _: RunHandle) -> None:
        """Create an empty collection; the argument is not needed."""
        self._by_scheduler: Final[dict[Any, SlotNumbers]] = {}

    def for_job(self, job: AbstractJob[Any]) -> SlotNumbers:
        """Return the slots of the job's scheduler; jobs without a scheduler, called by other jobs, share one set."""
        return self._by_scheduler.setdefault(job.scheduler, SlotNumbers())

    async def close(self) -> None:
        """Do nothing: no cleanup is needed."""


@contextlib.contextmanager
def _pinned_cpu(run: RunHandle, job: AbstractJob[Any]) -> Generator[int]:
    slots = run.shared(SlotsByScheduler).for_job(job)
    number = slots.take()
    try:
        cpus = sorted(posix.sched_getaffinity(0))
        yield cpus[(number - 1) % len(cpus)]
    finally:
        slots.give_back(number)


_NO_CONTEXT: Final = contextlib.nullcontext()


def hold_slot(pin: str | None, run: RunHandle, job: AbstractJob[Any]) -> contextlib.AbstractContextManager[int | None]:
    """Hold a slot of the job's window during a block, and yield the CPU of the slot; None if `pin` is None."""
    return _NO_CONTEXT if pin is None else _pinned_cpu(run, job)


def pinned_to_cpu(cpu: int | None) -> contextlib.AbstractContextManager[None]:
    """Pin processes started in a block to a CPU, if any: a child inherits the affinity of the thread that starts it."""
    return _NO_CONTEXT if cpu is None else _affinity(cpu)


@contextlib.contextmanager
def _affinity(cpu: int) -> Generator[None]:
    before = posix.sched_getaffinity(0)
    posix.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        posix.sched_setaffinity(0, before)


def wrap_command(command: list[str | bytes], options: CommandOptions) -> Sequence[str | bytes]:
    """Return the command to start; for a memory limit, a shell that sets the limit and then execs the command.

    If this program set the limit instead, it would come too late for the command's first allocations.

    Raises:
        OSError: the program does not exist, or is not executable; the shell would only write a message.

    """
    if options.memory_limit is None:
        return command
    _check_program(os.fsdecode(command[0]), options)
    return ["/bin/sh", "-c", ULIMIT, str(max(1, options.memory_limit // 1024)), *command]


def _check_program(program: str, options: CommandOptions) -> None:
    if "/" in program:
        path: str | None = os.path.join(os.fsdecode(options.cwd or "."), program)
    else:
        path = shutil.which(program, path=_path_variable(options))
    if path is None or not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), program)


def _path_variable(options: CommandOptions) -> Any:
    return None if options.env is None else os.fsdecode(options.env.get(b"PATH", b""))
