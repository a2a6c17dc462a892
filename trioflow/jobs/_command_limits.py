"""What a command may use: its CPU, its priority, its memory. None of it by code of ours between fork and exec."""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import shutil
import weakref
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .._core._run import Run
    from ._command_options import How
    from ._processes import Process

ULIMIT: Final = 'ulimit -v "$0" && exec "$@"'


class Slots:
    """Which places of a window have a command in them: the lowest free one is taken."""

    __slots__ = ("_free", "_next")

    def __init__(self) -> None:
        """Begin with none."""
        self._free: Final[list[int]] = []
        self._next = 0

    def take(self) -> int:
        """Return the lowest place that is free."""
        if self._free:
            return heapq.heappop(self._free)
        self._next += 1
        return self._next - 1

    def give_back(self, place: int) -> None:
        """Free a place."""
        heapq.heappush(self._free, place)


_slots: Final[weakref.WeakKeyDictionary[Run, Slots]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def _pinned(run: Run) -> Generator[int]:
    slots = _slots.setdefault(run, Slots())
    place = slots.take()
    try:
        cpus = sorted(os.sched_getaffinity(0))
        yield cpus[place % len(cpus)]
    finally:
        slots.give_back(place)


_NOWHERE: Final = contextlib.nullcontext()


def slot(pin: str | None, run: Run) -> contextlib.AbstractContextManager[int | None]:
    """Have a slot of the window of `run` while a command runs, and get its CPU; None if it is not pinned."""
    return _NOWHERE if pin is None else _pinned(run)


def on_cpu(cpu: int | None) -> contextlib.AbstractContextManager[None]:
    """Start on this CPU what is started meanwhile: a child inherits the affinity of the thread that spawns it."""
    return _NOWHERE if cpu is None else _bound_to(cpu)


@contextlib.contextmanager
def _bound_to(cpu: int) -> Generator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def renice(process: Process, nice: int) -> None:
    """Set the priority of a group that has just been started, below or above that of this program.

    Before it starts, it would have to be our own, which we might not be allowed to take back.

    Raises:
        PermissionError: a priority above one's own is for root.

    """
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PGRP, process.pid, max(-20, min(19, own + nice)))


def wrapped(command: list[str | bytes], how: How) -> Sequence[str | bytes]:
    """Return what to start for a command: with a limit of its memory, a shell that sets it and becomes the program.

    A limit that is set from outside comes too late for what the program does first.

    Raises:
        OSError: there is no such program; the shell would say so in words of its own.

    """
    if how.memory_limit is None:
        return command
    _check_program(os.fsdecode(command[0]), how)
    return ["/bin/sh", "-c", ULIMIT, str(max(1, how.memory_limit // 1024)), *command]


def _check_program(program: str, how: How) -> None:
    if "/" in program:
        path: str | None = os.path.join(os.fsdecode(how.cwd or "."), program)
    else:
        path = shutil.which(program, path=_path_variable(how))
    if path is None or not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), program)


def _path_variable(how: How) -> Any:
    return None if how.env is None else os.fsdecode(how.env.get(b"PATH", b""))
