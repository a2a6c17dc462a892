"""A process that leads its own group: spawn it, wait for it, signal its group, and reap it with `wait4`.

The pid of a process, which is also the number of its group, is not reused before the process is reaped. So a signal
is sent to the group either before that, or while the group is known to have members.
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
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from ... import _posix as posix
from ...abc import short_repr
from ._guard import STDERR

if TYPE_CHECKING:
    from ._guard import Guard


class Rusage(Protocol):
    """CPU seconds and peak memory, like the `resource.struct_rusage` of `os.wait4`."""

    @property
    def ru_utime(self) -> float: ...
    @property
    def ru_stime(self) -> float: ...
    @property
    def ru_maxrss(self) -> int: ...


class Usage(NamedTuple):
    """Resource usage that does not come from `os.wait4`: reported by a node, or restored from a journal."""

    ru_utime: float
    ru_stime: float
    ru_maxrss: int = 0


class Process:
    """A process that leads its own group; the group is in the guard's table."""

    __slots__ = (
        "_entry",
        "_guard",
        "_is_child",
        "_reaped_at",
        "exit_descriptor",
        "own_peak",
        "pid",
        "returncode",
        "usage",
    )

    def __init__(self, guard: Guard, pid: int, is_child: bool = True) -> None:
        """Enter a process into the guard's table: one just spawned, or one forked by a child that will reap it.

        Raises:
            OSError: no descriptor is left, so it was killed; or it is not a child, and the system has no pidfd.

        """
        self._guard: Final = guard
        self.pid: Final = pid
        self._is_child: Final = is_child
        self._entry: int | None = guard.table.enter(pid)
        self.returncode: int | None = None
        self.usage: Rusage | None = None
        # Until its exec the process was this program, also for the kernel: `usage.ru_maxrss` is no less than this.
        self.own_peak: Final = (
            posix.resource.getrusage(posix.resource.RUSAGE_SELF).ru_maxrss if sys.platform == "linux" else 0
        )
        self.exit_descriptor = -1  # becomes readable when the process has exited
        try:
            self.exit_descriptor = _exit_descriptor(pid) if is_child else posix.pidfd_open(pid)
        except BaseException:  # no descriptor is left
            self.signal(posix.SIGKILL)
            if is_child:
                self.reap()
            self.forget()
            raise

    def signal(self, number: int) -> bool:
        """Send a signal to the whole group, which must still exist; return False if no member may be signalled."""
        try:
            posix.killpg(self.pid, number)
        except ProcessLookupError:
            pass
        except PermissionError:  # sudo: the whole group belongs to another user
            return False
        return True

    def has_exited(self) -> bool:
        """Return whether the process has exited, reaped or not."""
        if self.returncode is not None:
            return True
        if not self._is_child:
            poll = posix.poll()
            poll.register(self.exit_descriptor, posix.POLLIN)
            return bool(poll.poll(0))
        try:
            return posix.has_exited(self.pid)
        except ChildProcessError:
            return True

    def reap(self) -> None:
        """Collect the exit code and the resource usage of the exited process.

        Raises:
            ChildProcessError: other code in this program has collected them.

        """
        self._close()
        _, status, self.usage = posix.wait4(self.pid, 0)
        self.was_reaped(os.waitstatus_to_exitcode(status))

    def was_reaped(self, returncode: int) -> None:
        """Record the exit code that the parent of the process has collected."""
        self._close()
        self.returncode = returncode
        self._reaped_at = time.monotonic()

    def has_left_others(self) -> bool:
        """Return whether the group still has members, once the process itself has been reaped."""
        try:
            posix.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        self._reap_orphans()
        return True

    def has_left_only_zombies(self) -> bool:
        """Return whether the remaining members of the group are zombies that their parent does not reap."""
        if not self._guard.survey.are_all_dead(self.pid, self._reaped_at):
            return False
        self._reap_orphans()  # they may have died since the last call
        return True

    def _reap_orphans(self) -> None:
        """Reap the group's zombies that are children of this program: orphans are adopted by process 1."""
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-self.pid, posix.WNOHANG)[0]:
                pass

    def forget(self) -> None:
        """Remove the group from the guard's table, even if the process, another user's, still runs."""
        self._close()
        if self._entry is not None:
            self._guard.table.leave(self._entry)
            self._entry = None

    def _close(self) -> None:
        if self.exit_descriptor >= 0:
            os.close(self.exit_descriptor)
            self.exit_descriptor = -1


def spawn(
    guard: Guard,
    command: Sequence[str | bytes],
    *,
    environment: Mapping[bytes, bytes] | None = None,
    added: Mapping[str, str] | None = None,
    cwd: Any = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    kept: Sequence[int] = (),
) -> Process:
    """Start a program in its own process group, with the run's mark in its environment.

    If this program has a terminal, the new program gets its own session too, because a background group is stopped as
    soon as it uses the terminal. Without a terminal, a session would only cost time: Linux gives each new session its
    own share of the CPU (autogroup, sched(7)), which doubles the time of a short command on a busy machine.

    The usual case is one call of `posix_spawn`, which saves a tenth of the time of a short command. All other cases,
    and failures of `posix_spawn`, go through `subprocess`, which reports errors in detail.

    Args:
        guard: the guard of the run.
        command: the program and its arguments.
        environment: its variables; None for this program's.
        cwd: the directory to run it in; None for this program's.
        stdin: the descriptor for its standard input; None for an empty one.
        stdout: the descriptor for its standard output; None for this program's.
        stderr: the descriptor for its standard error; None for this program's.
        kept: more descriptors to inherit, under the same numbers.
        added: variables that take precedence over the environment.

    Raises:
        OSError, ValueError: the program could not be started.

    """
    read = guard.nothing if stdin is None else stdin
    variables: Mapping[bytes, bytes] = guard.environment(environment)
    if added:
        variables = {**variables, **{os.fsencode(name): os.fsencode(value) for name, value in added.items()}}
    pid = None
    if (
        cwd is None and not kept and (environment is None or "/" in os.fsdecode(command[0]))
    ):  # Popen searches another PATH
        pid = _spawn_plainly(guard, command, variables, read, stdout, stderr)
    if pid is None:
        started: Any = subprocess.Popen(
            command,
            stdin=read,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=cast("Any", variables),
            pass_fds=kept,
            start_new_session=guard.has_terminal,
            process_group=None if guard.has_terminal else 0,
        )
        started.returncode = 0  # so that Popen never waits for it
        pid = started.pid
    if _lower_limit is not None:
        with contextlib.suppress(OSError):  # it has ended
            limits: Any = posix.resource  # `prlimit` exists on Linux only
            limits.prlimit(pid, posix.resource.RLIMIT_NOFILE, _lower_limit)
    return Process(guard, pid)


def _spawn_plainly(
    guard: Guard,
    command: Sequence[str | bytes],
    variables: Mapping[bytes, bytes],
    stdin: int,
    stdout: int | None,
    stderr: int | None,
) -> int | None:
    """Start a program in the current directory and return its pid; None if it needs `subprocess`."""
    actions: list[tuple[int, int, int]] = []
    for number, stream in enumerate((stdin, stdout, stderr)):
        if stream == subprocess.STDOUT:
            actions.append((posix.POSIX_SPAWN_DUP2, 1, 2))
        elif stream is not None:
            source = guard.nothing if stream == subprocess.DEVNULL else stream
            if source <= STDERR:
                return None  # an earlier action might overwrite it
            actions.append((posix.POSIX_SPAWN_DUP2, source, number))
    if (inherited := _inheritable_descriptors()) is None:
        return None
    closed = [(posix.POSIX_SPAWN_CLOSE, descriptor) for descriptor in inherited]
    group: Any = {"setsid": True} if guard.has_terminal else {"setpgroup": 0}
    try:
        pid: int = posix.posix_spawnp(
            command[0], list(command), variables, file_actions=[*actions, *closed], setsigdef=RESTORED_SIGNALS, **group
        )
        return pid
    except (OSError, ValueError, NotImplementedError):
        return None


MANY_DESCRIPTORS: Final = 150
"""The number of open descriptors above which `subprocess`, which lets the kernel close them, is faster than this."""
HAS_LIST: Final = os.path.isdir("/proc/self/fd")


def _inheritable_descriptors() -> list[int] | None:
    """Return the descriptors that a child would inherit besides the standard streams; None if unknown.

    Descriptors that this program inherited, or made inheritable at any time, are not for its commands. Python's own are
    closed anyway (PEP 446).
    """
    if not HAS_LIST:
        return None
    descriptors = os.listdir("/proc/self/fd")
    if len(descriptors) > MANY_DESCRIPTORS:
        return None
    result: list[int] = []
    for descriptor in map(int, descriptors):
        with contextlib.suppress(OSError):  # the descriptor of the listing, closed now
            if descriptor > STDERR and os.get_inheritable(descriptor):
                result.append(descriptor)
    return result


# ---- the limit of open files: raised for this program, restored for its commands

_lower_limit: tuple[int, int] | None = None
"""The soft and the hard limit before the limit was raised; None until then."""


def raise_limit() -> bool:
    """Raise this program's soft limit of open files to its hard limit; return False if that cannot be done (again)."""
    global _lower_limit
    soft, hard = posix.resource.getrlimit(posix.resource.RLIMIT_NOFILE)
    if soft == hard or not hasattr(posix.resource, "prlimit"):
        return False
    try:
        posix.resource.setrlimit(posix.resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # above the system's current limit
        return False
    _lower_limit = soft, hard
    return True


def restore_limit() -> None:
    """Restore the limit of open files."""
    global _lower_limit
    if _lower_limit is not None:
        with contextlib.suppress(OSError, ValueError):
            posix.resource.setrlimit(posix.resource.RLIMIT_NOFILE, _lower_limit)
        _lower_limit = None


def as_signal(number: int) -> signal.Signals | int:
    """Return a signal as `signal.Signals`; a real-time signal has no name and remains a number."""
    try:
        return signal.Signals(number)
    except ValueError:
        return number


def describe(returncode: int) -> str:
    """Describe how a process ended."""
    if returncode >= 0:
        return f"exit code {returncode}"
    number = as_signal(-returncode)
    return f"ended by signal {getattr(number, 'name', number)}"


RESTORED_SIGNALS: Final = (posix.SIGPIPE, posix.SIGXFSZ)
"""Signals that Python ignores; programs that it starts should not."""


def _exit_descriptor(pid: int) -> int:
    """Return a descriptor that becomes readable when a child exits: a pidfd, or a pipe that a thread closes."""
    with contextlib.suppress(NotImplementedError):
        try:
            descriptor: int = posix.pidfd_open(pid)
        except OSError as error:
            if error.errno not in _NO_PIDFD:
                raise
        else:
            return descriptor
    read_end, write_end = os.pipe()
    threading.Thread(
        target=_close_at_exit, args=(pid, write_end), name=f"trioflow waits for {pid}", daemon=True
    ).start()
    return read_end


_NO_PIDFD: Final = (errno.ENOSYS, errno.EPERM)
"""Errors of a kernel before 5.3, and of a sandbox that does not know the call."""


def _close_at_exit(pid: int, write_end: int) -> None:
    try:
        with contextlib.suppress(ChildProcessError):
            posix.has_exited(pid, waits=True)
    finally:
        os.close(write_end)


# ---- limits of a process

LIMIT_BOUND: Final = 1 << 63
"""The upper bound of memory limits, in bytes: a shell's `ulimit` misreads larger numbers as small ones."""


def check_limits(nice: Any, memory_limit: Any, subject: str) -> None:
    """Check the options of the job called `subject`.

    Raises:
        TypeError, ValueError: an option that makes no sense; the error names it.

    """
    for name, value, wanted in (
        ("nice", nice, "a whole number, added to this program's own"),
        ("memory_limit", memory_limit, "a whole number of bytes"),
    ):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise TypeError(f"{name}={short_repr(value)} of {subject}: give {wanted}, or None")
    if memory_limit is not None and not 0 < memory_limit < LIMIT_BOUND:
        wanted = "a positive number of bytes, below 2**63"
        raise ValueError(f"memory_limit={short_repr(memory_limit)} of {subject}: give {wanted}, or None")


def renice(process: Process, nice: int) -> None:
    """Set the priority of a group that was just started, relative to this program's own.

    Setting it before the start would change this program's own priority, which it may not be allowed to restore.

    Raises:
        PermissionError: only root may raise a priority.

    """
    own = posix.getpriority(posix.PRIO_PROCESS, 0)
    with contextlib.suppress(ProcessLookupError):
        posix.setpriority(posix.PRIO_PGRP, process.pid, max(-20, min(19, own + nice)))
