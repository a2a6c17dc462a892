"""One process that is the head of a group: how it is spawned, waited for, signalled, and reaped by `wait4`.

The pid of a process, and so the number of its group, is taken as long as the process has not been reaped: all signals
to the group are sent before, or to a group that is known to have members.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ._guard import STDERR

if TYPE_CHECKING:
    from ._guard import Guard


class Process:
    """A process in a group of its own, which the guard knows."""

    __slots__ = ("_entry", "_guard", "_reaped_at", "exit_descriptor", "pid", "returncode", "usage")

    def __init__(self, guard: Guard, pid: int) -> None:
        """Tell the guard about a process that has just been spawned."""
        self._guard: Final = guard
        self.pid: Final = pid
        self._entry: int | None = guard.table.enter(pid)
        self.returncode: int | None = None
        self.usage: resource.struct_rusage | None = None
        self.exit_descriptor = -1  # readable when it has exited
        try:
            self.exit_descriptor = _exit_descriptor(pid)
        except BaseException:  # no more descriptors
            self.signal(signal.SIGKILL)
            self.reap()
            self.forget()
            raise

    def signal(self, number: int) -> None:
        """Send a signal to all of its group, which is there."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # of another user now: sudo
            os.killpg(self.pid, number)

    def has_exited(self) -> bool:
        """Tell whether it has exited, reaped or not."""
        if self.returncode is not None:
            return True
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def reap(self) -> None:
        """Take in the exit code and the use of resources of a process that has exited.

        Raises:
            ChildProcessError: somebody else in this program has taken them.

        """
        if self.exit_descriptor >= 0:
            os.close(self.exit_descriptor)
            self.exit_descriptor = -1
        _, status, self.usage = os.wait4(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        self._reaped_at = time.monotonic()

    def has_left_others(self) -> bool:
        """Tell whether its group still has members, now that the process itself is reaped."""
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        with contextlib.suppress(ChildProcessError):  # orphans are ours where the conductor is the first process
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass
        return True

    def has_left_dead_alone(self) -> bool:
        """Tell whether all members of its group are dead, and wait for somebody who does not reap them."""
        return self._guard.survey.found_dead(self.pid, self._reaped_at)

    def forget(self) -> None:
        """Take it out of the guard's table."""
        if self._entry is not None:
            self._guard.table.leave(self._entry)
            self._entry = None


def spawn(
    guard: Guard,
    command: Sequence[str | bytes],
    *,
    environment: Mapping[bytes, bytes] | None = None,
    cwd: Any = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> Process:
    """Start a program in a group of its own, with the run's mark in its environment.

    Where there is a terminal it is in a session of its own too: a group in the background is stopped as soon as it
    touches the terminal. Where there is none, that would be for nothing, and make it wait: Linux schedules each new
    session as a stranger (autogroup, sched(7)), which doubles the time of a short command on a busy machine.

    The usual case is one call of `posix_spawn`, which spares a tenth of what a short command costs. `subprocess` does
    the others, and those that fail: it knows why.

    Raises:
        OSError, ValueError: it could not be started.

    """
    read = guard.nothing if stdin is None else stdin
    variables = guard.environment(environment)
    pid = None
    if cwd is None and (environment is None or "/" in os.fsdecode(command[0])):  # another PATH is for Popen
        pid = _spawn_plainly(guard, command, variables, read, stdout, stderr)
    if pid is None:
        started: Any = subprocess.Popen(
            command,
            stdin=read,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=variables,
            start_new_session=guard.has_terminal,
            process_group=None if guard.has_terminal else 0,
        )
        started.returncode = 0  # so that Popen never waits for it
        pid = started.pid
    return Process(guard, pid)


def _spawn_plainly(
    guard: Guard,
    command: Sequence[str | bytes],
    variables: Mapping[bytes, bytes],
    stdin: int,
    stdout: int | None,
    stderr: int | None,
) -> int | None:
    """Start a program in this program's directory and return its number; None if this is not the way to do it."""
    actions: list[tuple[int, int, int]] = []
    for number, given in enumerate((stdin, stdout, stderr)):
        if given == subprocess.STDOUT:
            actions.append((os.POSIX_SPAWN_DUP2, 1, 2))
        elif given is not None:
            source = guard.nothing if given == subprocess.DEVNULL else given
            if source <= STDERR:
                return None  # one of them might be overwritten before it is used
            actions.append((os.POSIX_SPAWN_DUP2, source, number))
    if guard.inheritable is None:
        return None
    closed = [(os.POSIX_SPAWN_CLOSE, one) for one in guard.inheritable]
    group: Any = {"setsid": True} if guard.has_terminal else {"setpgroup": 0}
    try:
        return os.posix_spawnp(
            command[0], list(command), variables, file_actions=[*actions, *closed], setsigdef=RESTORED, **group
        )
    except (OSError, ValueError, NotImplementedError):
        return None


RESTORED: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores, and what it starts should not."""


def _exit_descriptor(pid: int) -> int:
    """Return what is readable when a child has exited: a pidfd, or the end of a pipe that a thread closes."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(NotImplementedError):
            try:
                return os.pidfd_open(pid)
            except OSError as error:
                if error.errno not in _NO_PIDFD:
                    raise
    read_end, write_end = os.pipe()
    threading.Thread(
        target=_close_at_exit, args=(pid, write_end), name=f"trioflow waits for {pid}", daemon=True
    ).start()
    return read_end


_NO_PIDFD: Final = (errno.ENOSYS, errno.EPERM)
"""A kernel before 5.3; a sandbox that has not heard of it."""


def _close_at_exit(pid: int, write_end: int) -> None:
    try:
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    finally:
        os.close(write_end)
