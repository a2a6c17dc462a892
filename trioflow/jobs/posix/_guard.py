"""The guard of a run: one small process that kills the run's commands if the controller dies.

The controller is the program that runs the scheduler. The guard is a shell that reads from a pipe, whose other end the
controller holds. It costs a millisecond to start, a megabyte while it waits, and nothing per command. If it reads that
the run has ended cleanly, it exits. If the pipe closes without that line, the controller is dead, and the shell execs
Python, which runs `_guard_script`.

```
controller ─ pipe ──────────────────────► sh: read line; exec python _guard_script
    │                                                                  │
    ├── table of groups, in shared memory ────────────────────────────►│ kills each group
    └── TRIOFLOW_RUN=mark in the environment of each command ─────────►│ kills each process with the mark
```

The controller enters a command into the table after spawning it. If it is killed just before that, the guard finds
the command by its mark: a child holds a copy of the pipe until its exec, so the pipe does not close before the mark
can be read.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ... import _posix as posix
from . import _guard_script
from ._process_groups import LivenessScan

if TYPE_CHECKING:
    from ...abc import RunHandle

MARK_VARIABLE: Final = b"TRIOFLOW_RUN"
"""The environment variable with the marks of the runs that a command belongs to, outermost first, joined by ":"."""
TABLE_SIZE: Final = 1 << 22
"""Bytes of the table, four for each running command; the first four hold the last index. Unused pages cost nothing."""
STDERR: Final = 2
GRACE: Final = 0.5
"""Seconds from SIGTERM to SIGKILL for processes that have left their command's group and outlived the run."""
INHERITED_DESCRIPTORS: Final[set[int]] = set()
"""Descriptors that each guard inherits: a lock on one of them is held until the guard has exited."""
END_LINE: Final = b"ended\n"
"""The line on which the guard exits. On any other line, or at the end of the pipe, it kills."""
SHELL: Final = 'trap "" HUP INT TERM; read line; test "$line" = ended || exec "$0" -S -E -I "$@"'


class ProcessGroupTable:
    """The process groups of the running commands, in memory shared with the guard."""

    def __init__(self) -> None:
        self.descriptor: Final = _memory()
        size = _table_size()
        try:
            os.truncate(self.descriptor, size)
            self._map: Final = mmap.mmap(self.descriptor, size)  # the map duplicates the descriptor
        except BaseException:
            os.close(self.descriptor)
            raise
        self._entries: Final = memoryview(self._map).cast("i")
        self._free: Final[list[int]] = []

    def enter(self, group: int) -> int:
        """Add a group and return its index; 0 if the table is full, so that only its mark identifies the group."""
        if self._free:
            index = self._free.pop()
        elif self._entries[0] + 1 < len(self._entries):
            index = self._entries[0] + 1
            self._entries[0] = index
        else:
            return 0
        self._entries[index] = group
        return index

    def leave(self, index: int) -> None:
        """Remove the group with this index."""
        if index:
            self._entries[index] = 0
            self._free.append(index)

    def close(self) -> None:
        """Free the memory."""
        self._entries.release()
        self._map.close()
        os.close(self.descriptor)


def _table_size() -> int:
    """Return the size of a table. A limit on the size of files also holds for memory with a descriptor."""
    limit = posix.resource.getrlimit(posix.resource.RLIMIT_FSIZE)[0]
    return TABLE_SIZE if limit == posix.resource.RLIM_INFINITY else min(TABLE_SIZE, limit // 4 * 4)


class Guard:
    """The controller's side of the guard: the process, the mark of an outermost run, and the sweep at its end."""

    def __init__(self, run: RunHandle) -> None:
        self._run: Final = run
        self.mark: Final = f"{os.getpid()}-{os.urandom(8).hex()}"
        self.marks: Final = b":".join(filter(None, [posix.environb.get(MARK_VARIABLE), self.mark.encode()]))
        self._environ: Any = None  # the environment of which `_marked` is a copy
        self._marked: dict[bytes, bytes] = {}
        self.has_terminal: Final = _has_terminal()
        self.survey: Final = LivenessScan()
        with contextlib.ExitStack() as held:  # closes the others if one fails
            self.nothing: Final = os.open(os.devnull, os.O_RDWR)
            held.callback(os.close, self.nothing)
            self.table: Final = ProcessGroupTable()
            held.callback(self.table.close)
            read_end, self.pipe = os.pipe()
            held.callback(os.close, self.pipe)
            held.callback(_alive.discard, self)
            _alive.add(self)
            try:
                self._process: Final = self._start(read_end)
            finally:
                os.close(read_end)
            self._held: Final = held.pop_all()

    def _start(self, read_end: int) -> subprocess.Popen[bytes]:
        environment = dict(posix.environb)
        environment.pop(MARK_VARIABLE, None)  # the guard of an enclosing run must not kill this one
        script = _guard_script.__file__
        return subprocess.Popen(
            ["/bin/sh", "-c", SHELL, sys.executable or "python3", script, str(self.table.descriptor), self.mark],
            stdin=read_end,
            stdout=self.nothing,
            stderr=self.nothing,
            env=environment,
            cwd="/",
            pass_fds=(self.table.descriptor, *INHERITED_DESCRIPTORS),
            start_new_session=True,
        )

    def environment(self, own: Mapping[bytes, bytes] | None) -> dict[bytes, bytes]:
        """Return the environment of a command, `own` or the controller's, with the mark added."""
        if own is not None:
            return {**own, MARK_VARIABLE: self.marks}
        now: Any = getattr(os.environ, "_data", None)  # copying os.environ takes 20 µs, comparing this takes one
        if now is None or now != self._environ:
            self._environ = dict(posix.environb) if now is None else dict(now)
            self._marked = {**self._environ, MARK_VARIABLE: self.marks}
        return self._marked

    async def close(self) -> None:
        """End all processes that have outlived the run's commands, then the guard itself."""
        # If this is interrupted, the guard does the rest. It needs a line for that, because the pipe stays open as long
        # as a forked child holds a copy.
        line = b"\n"
        try:
            await self._sweep()
            line = END_LINE
        finally:
            with contextlib.suppress(BrokenPipeError):  # the guard was killed
                os.write(self.pipe, line)
            self._held.close()
            self._process.wait()  # the shell ends as soon as it has read its line

    async def _sweep(self) -> None:
        """End all processes with the mark, by SIGTERM and then SIGKILL, until none is left."""
        clock = self._run.clock
        number, until = signal.SIGTERM, clock() + GRACE
        mark, signalled = self.mark.encode(), set[int]()
        while left := _guard_script.find_marked(mark):
            _guard_script.end(left if number == posix.SIGKILL else set(left) - signalled, number)
            signalled.update(left)
            await self._run.sleep_until(clock() + _guard_script.PAUSE)
            if clock() >= until:
                number = posix.SIGKILL


_alive: Final[weakref.WeakSet[Guard]] = weakref.WeakSet()


def _forget_in_child() -> None:
    """Close the pipes in a child that was forked without exec, as by multiprocessing: it is not a controller."""
    for guard in tuple(_alive):
        with contextlib.suppress(OSError):
            os.close(guard.pipe)
    _alive.clear()


posix.on_fork(_forget_in_child)


def _has_terminal() -> bool:
    """Return whether this program has a terminal, which could stop its children or send them signals."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | posix.O_NOCTTY))
    except OSError:
        return False
    return True


def _memory() -> int:
    """Return a descriptor of a nameless file, in memory if the system supports that."""
    if sys.platform == "linux" and hasattr(os, "memfd_create"):
        return os.memfd_create("trioflow")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
