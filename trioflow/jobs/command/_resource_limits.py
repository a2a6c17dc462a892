"""The resources of commands: the queue of commands that the system has none for, `pin=`, and `memory_limit=`.

The options are implemented without Python code between fork and exec.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

import anyio

from ... import _posix as posix
from ..._core.base._text_forms import plural
from ...abc import AbstractJob, RunHandle
from ..posix import _cpus, _processes
from . import _result, _spawn_options

# ---- the queue of the commands of a run, while the system lacks resources for another process

RESOURCE_ERROR_MESSAGES: Final = {
    errno.EAGAIN: "too many processes (ulimit -u)",
    errno.ENOMEM: "not enough memory to start a process",
    errno.EMFILE: "too many open files (ulimit -n)",
    errno.ENFILE: "too many open files in the whole system",
}
RESOURCE_ADVICE: Final = "run fewer commands at once"
SPARE_DESCRIPTORS: Final = 24
"""The number of descriptors that must be free to start a command while others run. A start uses up to half of them."""


class SpawnQueue:
    """A first-come, first-served queue that starts the commands of a run as long as the system has resources for them.

    If a command cannot be started for lack of descriptors, processes or memory, it is tried again when another command
    of the run has ended. If no other command is running, the error is raised.
    """

    def __init__(self, run: RunHandle) -> None:
        self._run: Final = run
        self._running_count = 0
        self._waiting_events: Final = deque[anyio.Event]()
        self._has_warned = False

    @contextlib.contextmanager
    def count_as_running(self) -> Generator[None]:
        self._running_count += 1
        try:
            yield
        finally:
            self._running_count -= 1
            self._wake_next()

    async def start_when_possible(self, start_process: Callable[[], None]) -> bool:
        """Call `start_process()`, retry while the system lacks resources, and return whether the command had to wait.

        Raises:
            CommandError: `start_process()` failed for another reason, or no other command runs that could free
                resources.

        """
        if has_waited := bool(self._waiting_events):
            await self._wait_in_queue(at_end=True)
        try:
            while (shortage := self._try_start(start_process)) is not None:
                has_waited = True
                self._warn_once(shortage)
                await self._wait_in_queue(at_end=False)
        finally:
            # The next command tries to start, because there may be resources for it.
            self._wake_next()
        return has_waited

    def _try_start(self, start_process: Callable[[], None]) -> str | None:
        """Call `start_process()`, and return None on success, or the reason why the command must wait for resources."""
        if (
            self._running_count
            and not has_spare_descriptors()
            and not _processes.raise_file_limit()
        ):
            return RESOURCE_ERROR_MESSAGES[errno.EMFILE]
        try:
            start_process()
        except _result.CommandError as error:
            error_number = getattr(error.__cause__, "errno", None)
            if error_number == errno.EMFILE and _processes.raise_file_limit():
                return self._try_start(start_process)
            if error_number not in RESOURCE_ERROR_MESSAGES or not self._running_count:
                raise
            return RESOURCE_ERROR_MESSAGES[error_number]
        return None

    def _warn_once(self, shortage: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            count = self._running_count
            subject = "1 command is running"
            if count != 1:
                subject = f"{count} commands are running"
            self._run.report(f"{subject}, and others wait until one ends: {shortage}")

    async def _wait_in_queue(self, *, at_end: bool) -> None:
        event = anyio.Event()
        if at_end:
            enqueue = self._waiting_events.append
        else:
            enqueue = self._waiting_events.appendleft
        enqueue(event)
        try:
            await event.wait()
        except BaseException:
            if event in self._waiting_events:
                self._waiting_events.remove(event)
            else:
                self._wake_next()
            raise

    def _wake_next(self) -> None:
        if self._waiting_events:
            self._waiting_events.popleft().set()

    async def close(self) -> None:
        """Restore this program's limit on open files, which starting commands may have raised."""
        _processes.restore_file_limit()


def has_spare_descriptors() -> bool:
    """Return whether `SPARE_DESCRIPTORS` descriptors are free, judging only by the lowest free descriptor."""
    try:
        lowest_free_descriptor = os.dup(0)
    except OSError as error:
        # Descriptor 0 is closed. Other errors mean that no descriptor is free.
        return error.errno == errno.EBADF
    os.close(lowest_free_descriptor)
    return bool(
        lowest_free_descriptor + SPARE_DESCRIPTORS
        <= posix.resource.getrlimit(posix.resource.RLIMIT_NOFILE)[0]
    )


# ---- CPUs for `pin=`, and `memory_limit=`

ULIMIT_SCRIPT: Final = 'ulimit -v "$0" && exec "$@"'
"""A script that limits the address space to `$0` KiB, and then executes the command."""


class NumberedSlots:
    """The numbers of a window's slots, counted from 1. Each pinned command takes the lowest free number."""

    def __init__(self) -> None:
        self._taken_numbers: Final = set[int]()

    def take_lowest(self) -> int:
        number = next(
            itertools.filterfalse(self._taken_numbers.__contains__, itertools.count(1))
        )
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
        slots = self._slots[job.scheduler]
        cpus = _cpus.usable_cpus()
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
def pinned_to_cpu(cpu: int) -> Generator[None]:
    """Pin the processes started in the body to a CPU: child processes inherit the affinity of this thread."""
    original_affinity = posix.sched_getaffinity(0)
    posix.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        posix.sched_setaffinity(0, original_affinity)


def wrap_command(
    command: list[str | bytes], options: _spawn_options.CommandOptions
) -> Sequence[str | bytes]:
    """Return `command`, or, if it has a memory limit, the command of a shell that sets the limit and execs `command`.

    If this program set the limit after the start instead, the command's first allocations would not be limited.
    """
    if options.memory_limit is None:
        return command
    return [
        "/bin/sh",
        "-c",
        ULIMIT_SCRIPT,
        str(max(1, options.memory_limit // 1024)),
        *command,
    ]


def check_program(program: str, options: _spawn_options.CommandOptions) -> None:
    """Check a program that a shell will start, because the shell would only print a message about it.

    Raises:
        OSError: the program does not exist, or is not executable.

    """
    if "/" in program:
        path: str | None = os.path.join(os.fsdecode(options.cwd or "."), program)
    else:
        # The function takes bytes, too.
        environment: Any = options.env
        path = shutil.which(
            program, path=os.pathsep.join(os.get_exec_path(environment))
        )
    if path is None or not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), program)
