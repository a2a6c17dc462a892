"""The guard of a run: a small process that kills the run's commands if the controller dies.

The controller is the program that runs the scheduler. The guard is a shell that reads from a pipe, whose other end the
controller holds. The shell starts in a millisecond and uses a megabyte of memory, however many commands run.
If the shell reads that the run has ended cleanly, it exits. If the pipe closes before that, the controller is dead, and
the shell execs Python, which runs `_guard_script`.

```
controller ─ pipe: the mark, "ended" ───► sh: read mark; read line; exec python _guard_script
    │                                                                  │
    ├── table of groups, in shared memory ────────────────────────────►│ kills each group
    └── TRIOFLOW_RUN=mark in the environment of each command ─────────►│ kills each process with the mark
```

The controller enters a command into the table after spawning it. The table also records that the controller is about to
spawn a command. If the controller is killed then, the guard searches for the mark for a while, because a new process
closes its copy of the pipe just before the exec that gives it the mark.

The mark is a secret of this user, because each process that carries it is killed. It goes through the pipe, because any
user may read arguments. Processes of other users are not killed by it.

Decided in docs/decisions: 33-guard.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from ... import _posix as posix
from ...abc import RunHandle
from . import _files, _guard_script

MARK_VARIABLE: Final = b"TRIOFLOW_RUN"
"""The environment variable with the marks of the runs that a command belongs to, outermost first, joined by ":"."""
TABLE_SIZE: Final = 1 << 22
"""The size of the table in bytes, four for each running command, after the two entries that `_guard_script` names.
Pages of the table that are not used take no memory."""
TERMINATE_GRACE: Final = 0.5
"""The time from SIGTERM to SIGKILL, in seconds, for processes that have left their groups and outlived the run."""
INHERITED_DESCRIPTORS: Final = set[int]()
"""Descriptors that each guard inherits, so that locks on them are held until the guard has exited."""
END_LINE: Final = b"ended\n"
"""The line that makes the guard exit. Any other line, or the end of the pipe, makes it kill the commands."""
SHELL_SCRIPT: Final = (
    f'trap "" HUP INT TERM; read {_guard_script.MARK_VARIABLE}; read line; test "$line" = ended || '
    f'{{ export {_guard_script.MARK_VARIABLE}; exec "$0" -S -E -I "$@"; }}'
)
"""The script of the guard. `$0` is Python, and `$@` are its arguments: `_guard_script` with the table."""
SCAN_PAUSE_FACTOR: Final = 4
"""The minimum pause after a scan, as a multiple of the duration of the scan."""
HAS_PROC: Final = os.path.isdir("/proc/self")
DEAD_STATES: Final = (b"Z", b"X")
"""The states, in the `stat` of proc(5), of zombies and of dead processes."""


class ProcessGroupTable:
    """The process groups of the running commands, in memory shared with the guard."""

    def __init__(self) -> None:
        self.descriptor: Final = _create_memory_file()
        size = _table_size()
        try:
            os.truncate(self.descriptor, size)
            # The map has its own duplicate of the descriptor.
            self._memory_map: Final = mmap.mmap(self.descriptor, size)
        except BaseException:
            os.close(self.descriptor)
            raise
        self._entries: Final = memoryview(self._memory_map).cast("i")
        self._entries[_guard_script.LAST_INDEX] = _guard_script.IS_STARTING
        self._free_indexes: Final = list[int]()

    def note_start(self, is_starting: bool) -> None:
        """Note that a process is about to be started, or that this has failed, or its group has been added."""
        self._entries[_guard_script.IS_STARTING] = is_starting

    def add_group(self, group: int) -> int:
        """Add a group, and return its index.

        The index is 0 if the table is full. Then the guard must find the processes of the group by their mark.
        """
        if self._free_indexes:
            index = self._free_indexes.pop()
        elif self._entries[_guard_script.LAST_INDEX] + 1 < len(self._entries):
            index = self._entries[_guard_script.LAST_INDEX] + 1
            self._entries[_guard_script.LAST_INDEX] = index
        else:
            return 0
        self._entries[index] = group
        return index

    def remove_group(self, index: int) -> None:
        """Remove the group with this index. An index of 0 is ignored."""
        if index:
            self._entries[index] = 0
            self._free_indexes.append(index)

    def close(self) -> None:
        self._entries.release()
        self._memory_map.close()
        os.close(self.descriptor)


def _table_size() -> int:
    """Return the size of the table in bytes. This is less than `TABLE_SIZE` if the limit on file sizes requires it."""
    limit: int = posix.resource.getrlimit(posix.resource.RLIMIT_FSIZE)[0]
    if limit == posix.resource.RLIM_INFINITY:
        return TABLE_SIZE
    return min(TABLE_SIZE, limit // 4 * 4)


def start_watcher(
    read_end: int, words: Sequence[str], descriptors: Collection[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a shell that outlives this program, if it is killed, and notices this at the end of a pipe.

    Args:
        read_end: the end of the pipe that the shell reads.
        words: the script, and its arguments from `$0` on.
        descriptors: descriptors that the shell inherits.

    """
    environment = dict(posix.environb)
    # Otherwise the guard of an enclosing run would kill the shell.
    environment.pop(MARK_VARIABLE, None)
    return subprocess.Popen(
        ["/bin/sh", "-c", *words],
        stdin=read_end,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd="/",
        pass_fds=descriptors,
        start_new_session=True,
    )


class Guard:
    """The controller's side of the guard of an outermost run: the process, the run's mark, and the sweep at the end."""

    def __init__(self, run: RunHandle) -> None:
        self._run: Final = run
        self.mark: Final = f"{os.getpid()}-{os.urandom(8).hex()}"
        self.joined_marks: Final = b":".join(
            filter(None, [posix.environb.get(MARK_VARIABLE), self.mark.encode()])
        )
        # The environment of this program when it was last copied.
        self._controller_environment: Any = None
        # The latest copy of that environment, with the marks added.
        self._marked_copy: dict[bytes, bytes] = {}
        self.has_terminal: Final = _has_terminal()
        self.liveness_scan: Final = LivenessScan()
        # Closes the resources that were opened if a later step fails.
        with contextlib.ExitStack() as resources:
            self.null_descriptor: Final = os.open(os.devnull, os.O_RDWR)
            resources.callback(os.close, self.null_descriptor)
            self.table: Final = ProcessGroupTable()
            resources.callback(self.table.close)
            read_end, self.pipe_write_end = os.pipe()
            resources.callback(os.close, self.pipe_write_end)
            resources.callback(_live_guards.discard, self)
            _live_guards.add(self)
            os.write(self.pipe_write_end, f"{self.mark}\n".encode())
            words = (
                SHELL_SCRIPT,
                sys.executable or "python3",
                _guard_script.__file__,
                str(self.table.descriptor),
            )
            try:
                self._process: Final = start_watcher(
                    read_end, words, (self.table.descriptor, *INHERITED_DESCRIPTORS)
                )
            finally:
                os.close(read_end)
            self._exit_stack: Final = resources.pop_all()

    def marked_environment(
        self, env: Mapping[bytes, bytes] | None
    ) -> dict[bytes, bytes]:
        """Return the environment for a command: `env`, or the controller's if `env` is None, with the marks added."""
        if env is not None:
            return {**env, MARK_VARIABLE: self.joined_marks}
        # A comparison of the underlying dictionaries takes 1 µs, whereas a copy of os.environ takes 20 µs.
        current_environment: Any = getattr(os.environ, "_data", None)
        if (
            current_environment is None
            or current_environment != self._controller_environment
        ):
            self._controller_environment = dict(current_environment or posix.environb)
            self._marked_copy = {
                **self._controller_environment,
                MARK_VARIABLE: self.joined_marks,
            }
        return self._marked_copy

    async def close(self) -> None:
        """End all processes that have outlived their commands, and then the guard itself."""
        # If the sweep is interrupted, the guard ends the remaining processes. An empty line tells the guard to do so,
        # because the end of the pipe would not be seen while a forked child holds a copy of the pipe.
        message = b"\n"
        try:
            await self._sweep()
            message = END_LINE
        finally:
            with contextlib.suppress(BrokenPipeError):
                # The guard was killed.
                os.write(self.pipe_write_end, message)
            self._exit_stack.close()
            # The guard exits once it has read the message and killed any remaining processes.
            self._process.wait()

    async def _sweep(self) -> None:
        """End all processes with the mark, with SIGTERM and then with SIGKILL, until none is left or time is up."""
        clock = self._run.clock
        began = clock()
        signal_number = signal.SIGTERM
        signaled_pids = set[int]()
        while pids := _guard_script.find_marked_pids(self.mark.encode()):
            new_pids = set(pids) - signaled_pids
            _guard_script.signal_all(
                pids if signal_number == posix.SIGKILL else new_pids, signal_number
            )
            signaled_pids.update(pids)
            await self._run.sleep_until(clock() + _guard_script.SCAN_INTERVAL)
            if clock() >= began + TERMINATE_GRACE:
                signal_number = posix.SIGKILL
            if clock() >= began + TERMINATE_GRACE + _guard_script.KILL_TIMEOUT:
                what = f"processes that commands have started cannot be killed, such as {pids[0]}"
                self._run.report(f"{what}; the run ends all the same")
                return


class LivenessScan:
    """The latest scan of all processes, which finds the process groups that have a living member.

    Some programs that run as process 1, especially in containers, reap orphans late or never. A group of such zombies
    still exists, although none of its members is alive. A single scan serves all groups that are being ended.
    """

    def __init__(self) -> None:
        self._scan_started_at = self._next_scan_at = 0.0
        self._living_groups: set[int] = set()

    def are_all_dead(self, group: int, since: float) -> bool:
        """Return whether all members of a group are known to be dead, from a scan that began after `since`."""
        if not HAS_PROC:
            return False
        now = time.monotonic()
        if now >= self._next_scan_at:
            self._scan_started_at = now
            self._living_groups = set(living_groups())
            scan_end = time.monotonic()
            self._next_scan_at = scan_end + SCAN_PAUSE_FACTOR * (scan_end - now)
        return self._scan_started_at >= since and group not in self._living_groups


def living_groups() -> Iterator[int]:
    """Yield the group of each living process: see proc(5)."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:
                # The second field is the program's name in parentheses. It may contain any character:
                # https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html.
                state, _, group, *_ = stat.read().rpartition(b")")[2].split()
                if state not in DEAD_STATES:
                    yield int(group)


_live_guards: Final = weakref.WeakSet[Guard]()


def _close_pipes_in_child() -> None:
    """Close the guards' pipes in a child that was forked without exec, e.g. by multiprocessing.

    Otherwise the pipes would stay open after the death of the controller.
    """
    for guard in tuple(_live_guards):
        with contextlib.suppress(OSError):
            os.close(guard.pipe_write_end)
    _live_guards.clear()


posix.on_fork(_close_pipes_in_child)


def _has_terminal() -> bool:
    """Return whether this program has a terminal, which could stop its children or send them signals."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | posix.O_NOCTTY))
    except OSError:
        return False
    return True


def _create_memory_file() -> int:
    """Create an unnamed file, in memory if the system supports that, and return its descriptor."""
    if sys.platform == "linux" and hasattr(os, "memfd_create"):
        return os.memfd_create("trioflow")
    return _files.open_temporary_file("the table of running commands")
