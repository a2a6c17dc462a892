"""Processes that lead their own groups: how to spawn them, wait for them, signal their groups, and reap them.

The pid of a process, which is also the number of its group, is not reused before the process is reaped. A signal is
sent to the group only before that, or while the group is known to have members.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, cast

from ... import _posix as posix
from ..._core.base._amounts import amount_of
from ..._core.base._text_forms import shown_value
from ...abc import RunHandle
from ._guard import Guard

REAPED_MESSAGE: Final = "its exit code is unknown: this program ignores SIGCHLD, or other code in it reaped the child"


class Rusage(Protocol):
    """The interface of resource usage: CPU seconds and peak memory, named as in `resource.struct_rusage`."""

    @property
    def ru_utime(self) -> float: ...
    @property
    def ru_stime(self) -> float: ...
    @property
    def ru_maxrss(self) -> int: ...


class ReportedUsage(NamedTuple):
    """Resource usage that a node has reported, or that is restored from a journal."""

    ru_utime: float
    ru_stime: float
    ru_maxrss: int = 0


class Process:
    """A process that leads its own process group.

    Until `unregister` is called, the group is listed in the table of the run's `Guard`, which kills the group if this
    program dies.
    """

    def __init__(self, guard: Guard, pid: int) -> None:
        """Register the group of a new child process in the guard's table, and open the process's exit descriptor.

        Args:
            guard: the guard of the run.
            pid: the id of the process.

        Raises:
            OSError: the exit descriptor could not be opened: no descriptor is left. The process has been killed.
            ChildProcessError: other code of this program has reaped the process.

        """
        self._guard: Final = guard
        self.pid: Final = pid
        # In the guard's table, or 0 if it is in none.
        self._index = guard.table.add_group(pid)
        self.returncode: int | None = None
        self.usage: Rusage | None = None
        # Until its exec, the process is a copy of this program. The kernel includes the memory of this copy in
        # `usage.ru_maxrss`, which is therefore never less than this value: exec_mmap() in
        # https://github.com/torvalds/linux/blob/v6.6/fs/exec.c.
        self.rss_before_exec = 0
        if sys.platform == "linux":
            self.rss_before_exec = posix.resource.getrusage(
                posix.resource.RUSAGE_SELF
            ).ru_maxrss
        # A descriptor that becomes readable when the process has exited.
        self.exit_descriptor = -1
        try:
            self.exit_descriptor = _exit_descriptor(pid)
        except BaseException:
            # No descriptor could be opened.
            self.signal_group(posix.SIGKILL)
            is_reaped_elsewhere = not self.reap()
            self.unregister()
            if is_reaped_elsewhere:
                raise ChildProcessError from None
            raise

    def signal_group(self, number: int) -> bool:
        """Send a signal to the whole group. Return False if this program is not permitted to signal the group.

        The caller must know that the group still exists. Otherwise another group may have been given its number.
        """
        try:
            posix.killpg(self.pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:
            # The whole group belongs to another user, e.g. because of sudo.
            return False
        return True

    def has_exited(self) -> bool:
        """Return whether the process has exited, even if it has not been reaped yet."""
        if self.returncode is not None:
            return True
        try:
            return posix.has_exited(self.pid)
        except ChildProcessError:
            return True

    def reap(self) -> bool:
        """Collect the exit code and the resource usage of the exited process.

        Return False if they are unknown, because this program ignores SIGCHLD, or other code in it has reaped the
        process.
        """
        self._close_exit_descriptor()
        try:
            _, status, self.usage = posix.wait4(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            return False
        finally:
            self._reaped_at = time.monotonic()
        return True

    def has_remaining_members(self) -> bool:
        """Return whether the group of the reaped process still has members, alive or zombies.

        Also reap the zombies among them that this program has adopted.
        """
        try:
            posix.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        self._reap_orphans()
        return True

    def has_only_zombies_left(self) -> bool:
        """Return whether the remaining members of the group are known to be zombies.

        If they are, also reap those that this program has adopted.
        """
        if not self._guard.liveness_scan.are_all_dead(self.pid, self._reaped_at):
            return False
        self._reap_orphans()
        return True

    def _reap_orphans(self) -> None:
        """Reap the zombies of the group that this program has adopted.

        This program adopts orphans if it runs as process 1, for example in a container.
        """
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-self.pid, posix.WNOHANG)[0]:
                pass

    def unregister(self) -> None:
        """Remove the group from the guard's table, even if it still has members, and close the exit descriptor."""
        self._close_exit_descriptor()
        self._guard.table.remove_group(self._index)
        self._index = 0

    def _close_exit_descriptor(self) -> None:
        if self.exit_descriptor >= 0:
            os.close(self.exit_descriptor)
            self.exit_descriptor = -1


def spawn(
    guard: Guard,
    command: Sequence[str | bytes],
    *,
    environment: Mapping[bytes, bytes] | None = None,
    overrides: Mapping[str, str] | None = None,
    cwd: str | bytes | os.PathLike[Any] | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> Process:
    """Start a program in its own process group, with the run's mark in its environment.

    If this program has a terminal, the new program gets its own session too, because a background group is stopped as
    soon as it uses the terminal. Without a terminal, a session would only cost time: Linux gives each new session its
    own share of the CPU (autogroup, sched(7)), which doubles the time of a short command on a busy machine.

    Args:
        guard: the guard of the run.
        command: the program and its arguments.
        environment: the environment of the program, or None for this program's environment.
        overrides: variables that take precedence over the environment.
        cwd: the directory to run the program in, or None for this program's directory.
        stdin: the descriptor for standard input, or None for an empty input.
        stdout: the descriptor for standard output, or `subprocess.DEVNULL`, or None for this program's standard output.
        stderr: the descriptor for standard error, `subprocess.DEVNULL`, or `subprocess.STDOUT`, or None for this
            program's standard error.

    Raises:
        OSError, ValueError: the program could not be started.

    """
    variables: Mapping[bytes, bytes] = guard.marked_environment(environment)
    if overrides:
        variables = {
            **variables,
            **{
                os.fsencode(name): os.fsencode(value)
                for name, value in overrides.items()
            },
        }
    guard.table.note_start(True)
    try:
        popen: Any = subprocess.Popen(
            command,
            stdin=guard.null_descriptor if stdin is None else stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=cast("Any", variables),
            start_new_session=guard.has_terminal,
            process_group=None if guard.has_terminal else 0,
        )
        # So that Popen never waits for the process.
        popen.returncode = 0
        process = Process(guard, popen.pid)
    finally:
        guard.table.note_start(False)
    if _original_limit is not None:
        with contextlib.suppress(OSError):  # the process may have ended already
            # Typed as Any, because `prlimit` exists on Linux only:
            # https://docs.python.org/3/library/resource.html#resource.prlimit.
            limits: Any = posix.resource
            limits.prlimit(popen.pid, posix.resource.RLIMIT_NOFILE, _original_limit)
    return process


# ---- the limit on open files, which is raised for this program and restored for its commands

_original_limit: tuple[int, int] | None = None
"""The soft and the hard limit on open files before the soft limit was raised, or None while it is not raised."""


def raise_file_limit() -> bool:
    """Raise this program's soft limit on open files to its hard limit, and return whether this was done.

    The limit is not raised if it already equals the hard limit, if the system refuses, or if the system has no
    `prlimit`, which restores the limit for commands.
    """
    global _original_limit
    soft, hard = posix.resource.getrlimit(posix.resource.RLIMIT_NOFILE)
    if soft == hard or not hasattr(posix.resource, "prlimit"):
        return False
    try:
        posix.resource.setrlimit(posix.resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        # The hard limit exceeds the system's current limit.
        return False
    _original_limit = soft, hard
    return True


def restore_file_limit() -> None:
    global _original_limit
    if _original_limit is not None:
        with contextlib.suppress(OSError, ValueError):
            posix.resource.setrlimit(posix.resource.RLIMIT_NOFILE, _original_limit)
        _original_limit = None


def as_signal(number: int) -> signal.Signals | int:
    """Return a signal as `signal.Signals`, or as its number if it is a real-time signal, which has no name."""
    try:
        return signal.Signals(number)
    except ValueError:
        return number


def describe_exit(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    number = as_signal(-returncode)
    return f"ended by signal {getattr(number, 'name', number)}"


def _exit_descriptor(pid: int) -> int:
    """Return a descriptor that becomes readable when a child exits.

    This is a pidfd, or, if the system has none, the read end of a pipe that a thread closes when the child exits.
    """
    with contextlib.suppress(NotImplementedError):
        try:
            descriptor: int = posix.pidfd_open(pid)
        except OSError as error:
            if error.errno not in NO_PIDFD_ERRORS:
                raise
        else:
            return descriptor
    read_end, write_end = os.pipe()
    threading.Thread(
        target=_close_at_exit,
        args=(pid, write_end),
        name=f"trioflow waits for {pid}",
        daemon=True,
    ).start()
    return read_end


NO_PIDFD_ERRORS: Final = (errno.ENOSYS, errno.EPERM)
"""The error numbers of pidfd_open() in kernels before 5.3, and in sandboxes that do not know the call."""


def _close_at_exit(pid: int, write_end: int) -> None:
    try:
        with contextlib.suppress(ChildProcessError):
            posix.has_exited(pid, waits=True)
    finally:
        os.close(write_end)


# ---- the end of a process and of its group: a grace period, then SIGKILL until no member is alive

MIN_POLL_INTERVAL: Final = 0.001
MAX_POLL_INTERVAL: Final = 0.064
"""The bounds, in seconds, of the interval between two checks for the end of a group. No event reports this end."""
ZOMBIE_CHECK_THRESHOLD: Final = 0.008
"""Once the interval between two checks has reached this many seconds, each check also looks for groups of zombies."""
KILL_INTERVAL: Final = 0.5
"""SIGKILL is repeated at this interval, in seconds, to see whether the remaining members can be signaled."""

PauseFunction = Callable[[float], Awaitable[None]]
"""A function that waits until the run's clock shows a time, and may forward output meanwhile."""


async def end_process(run: RunHandle, process: Process, grace: float) -> None:
    """Wait up to `grace` seconds for a process to exit. If it has not exited by then, kill its group, and wait on.

    A cancellation does not interrupt the wait.
    """
    wait = partial(run.wait_readable, process.exit_descriptor)
    if not (grace and await run.outlast(partial(wait, run.clock() + grace))):
        process.signal_group(posix.SIGKILL)
        await run.outlast(wait)


async def wait_until_empty(
    run: RunHandle, process: Process, deadline: float, pause_until: PauseFunction
) -> bool:
    """Wait until the group of a reaped process has no living members, or until the run's clock shows `deadline`.

    Return False if the group still has living members at the deadline.
    """
    pause = MIN_POLL_INTERVAL
    while process.has_remaining_members():
        if pause >= ZOMBIE_CHECK_THRESHOLD and process.has_only_zombies_left():
            return True
        if (now := run.clock()) >= deadline:
            return False
        await pause_until(min(now + pause, deadline))
        pause = min(2 * pause, MAX_POLL_INTERVAL)
    return True


async def end_group(
    run: RunHandle, process: Process, grace_deadline: float, pause_until: PauseFunction
) -> bool:
    """Wait until the group of a reaped process has no living members. After the grace period, kill those that are left.

    A cancellation does not interrupt the wait. Return False if this program may not signal the living members, because
    they belong to another user.
    """

    def pause_shielded(deadline: float) -> Awaitable[None]:
        return run.outlast(lambda: pause_until(deadline))

    while not await wait_until_empty(run, process, grace_deadline, pause_shielded):
        if not process.signal_group(posix.SIGKILL):
            return False
        grace_deadline = run.clock() + KILL_INTERVAL
    return True


# ---- limits of a process

MEMORY_LIMIT_BOUND: Final = 1 << 63
"""Memory limits must be less than this, in bytes. A shell's `ulimit` misreads larger numbers as small ones."""


def check_limits(nice: object, memory_limit: Any, subject: str) -> int | None:
    """Check the options `nice` and `memory_limit` of a job, and return the limit in bytes.

    Args:
        nice: the value of the option.
        memory_limit: the value of the option: a whole number, a size such as "2 GiB", or None for no limit.
        subject: the name of the job, for error messages.

    Raises:
        TypeError: an option has the wrong type.
        ValueError: an option is out of range.

    """
    shown_limit = f"memory_limit={shown_value(memory_limit, subject)} of {subject}"
    limit: int | None = memory_limit
    if isinstance(memory_limit, str):
        limit = int(amount_of(memory_limit, shown_limit))
    for name, value, expectation in (
        ("nice", nice, "a whole number, added to this program's niceness"),
        ("memory_limit", limit, "a whole number of bytes, or a size such as '2 GiB'"),
    ):
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int)
        ):
            raise TypeError(
                f"{name}={shown_value(value, subject)} of {subject}: give {expectation}, or None"
            )
    if limit is not None and not 0 < limit < MEMORY_LIMIT_BOUND:
        expectation = "a positive number of bytes, below 2**63"
        raise ValueError(f"{shown_limit}: give {expectation}, or None")
    return limit


def renice(process: Process, nice: int) -> None:
    """Set the niceness of a newly started group to this program's niceness plus `nice`.

    To set it before the start, this program would have to raise its own niceness, which only root can lower again.

    Raises:
        PermissionError: `nice` is below 0, which is for root only.

    """
    own_niceness = posix.getpriority(posix.PRIO_PROCESS, 0)
    with contextlib.suppress(ProcessLookupError):
        posix.setpriority(
            posix.PRIO_PGRP, process.pid, max(-20, min(19, own_niceness + nice))
        )
