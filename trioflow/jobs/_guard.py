"""The guard of a run: one small process that kills the run's commands if the conductor dies.

It is a shell that waits for the end of a pipe, whose other end the conductor holds: it costs a millisecond to start,
a megabyte while it waits, and nothing per command. Where it reads that the run has ended in order, so does it.
Where the pipe closes without that, the conductor is dead, and Python takes the shell's place (`_guard_script`).

```
conductor ── pipe ──────────────────────► sh: read line; exec python _guard_script
    │                                                                  │
    ├── table of groups, in shared memory ────────────────────────────►│ kills each group
    └── TRIOFLOW_RUN=mark in the environment of each command ─────────►│ kills whatever carries the mark
```

The table is written when a command has been spawned. If the conductor is killed before it is, the mark tells: a child
holds a copy of the pipe until it has become its program, so the pipe does not close before the mark can be read.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from . import _guard_script
from ._survey import Survey

if TYPE_CHECKING:
    from .._core._run import Run

VARIABLE: Final = b"TRIOFLOW_RUN"
"""The environment variable with the marks of the runs that a command belongs to, outermost first, joined by ":"."""
TABLE_SIZE: Final = 1 << 22
"""Bytes of the table, four per command that runs; only those used take memory. The first four hold the last index."""
STDERR: Final = 2
GRACE: Final = 0.5
"""Seconds between the SIGTERM and the SIGKILL for what has left its command's group and outlives the run."""
ENDED: Final = b"ended\n"
"""What the guard is told when nothing is left to do for it; any other line, or none, is a reason to kill."""
SHELL: Final = 'trap "" HUP INT TERM; read line; test "$line" = ended || exec "$0" -S -E -I "$@"'


class Table:
    """The process groups of the commands that run, in memory that the guard shares."""

    def __init__(self) -> None:
        """Make an empty one."""
        self.descriptor: Final = _memory()
        size = _table_size()
        try:
            os.truncate(self.descriptor, size)
            self._map: Final = mmap.mmap(self.descriptor, size)  # takes a descriptor of its own
        except BaseException:
            os.close(self.descriptor)
            raise
        self._numbers: Final = memoryview(self._map).cast("i")
        self._free: Final[list[int]] = []

    def enter(self, group: int) -> int:
        """Write a group down, and return where; 0 if the table is full, and the mark alone has to tell."""
        if self._free:
            index = self._free.pop()
        elif self._numbers[0] + 1 < len(self._numbers):
            index = self._numbers[0] + 1
            self._numbers[0] = index
        else:
            return 0
        self._numbers[index] = group
        return index

    def leave(self, index: int) -> None:
        """Take a group out."""
        if index:
            self._numbers[index] = 0
            self._free.append(index)

    def close(self) -> None:
        """Give the memory back."""
        self._numbers.release()
        self._map.close()
        os.close(self.descriptor)


def _table_size() -> int:
    """Bytes of a table: fewer where the system limits the size of files, which memory in a descriptor counts as."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return TABLE_SIZE if limit == resource.RLIM_INFINITY else min(TABLE_SIZE, limit // 4 * 4)


class Guard:
    """The conductor's side of the guard process, of an outermost run's mark, and of the sweep at its end."""

    def __init__(self, run: Run) -> None:
        """Start the guard."""
        self._run: Final = run
        self.mark: Final = f"{os.getpid()}-{os.urandom(8).hex()}"
        self.marks: Final = b":".join(filter(None, [os.environb.get(VARIABLE), self.mark.encode()]))
        self._environ: Any = None  # as it was when `_marked` was made
        self._marked: dict[bytes, bytes] = {}
        self.has_terminal: Final = _has_terminal()
        # Descriptors to be closed in a command: what this program has got from its parent, or made inheritable, is for
        # nobody else. Python's own are closed anyway (PEP 446). None where the system does not tell.
        self.inheritable: Final = _inheritable()
        self.survey: Final = Survey()
        with contextlib.ExitStack() as held:  # nothing stays open if one of them can't be had
            self.nothing: Final = os.open(os.devnull, os.O_RDWR)
            held.callback(os.close, self.nothing)
            self.table: Final = Table()
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
        environment = dict(os.environb)
        environment.pop(VARIABLE, None)  # an outer run's guard must not kill it before it has done its work
        script = _guard_script.__file__
        return subprocess.Popen(
            ["/bin/sh", "-c", SHELL, sys.executable or "python3", script, str(self.table.descriptor), self.mark],
            stdin=read_end,
            stdout=self.nothing,
            stderr=self.nothing,
            env=environment,
            cwd="/",
            pass_fds=(self.table.descriptor,),
            start_new_session=True,
        )

    def environment(self, own: Mapping[bytes, bytes] | None) -> dict[bytes, bytes]:
        """Return the environment of a command, with the mark in it; by default the conductor's."""
        if own is not None:
            return {**own, VARIABLE: self.marks}
        now: Any = getattr(os.environ, "_data", None)  # to copy os.environ takes 20 µs, to compare this one
        if now is None or now != self._environ:
            self._environ = dict(os.environb) if now is None else dict(now)
            self._marked = {**self._environ, VARIABLE: self.marks}
        return self._marked

    async def close(self) -> None:
        """End what has outlived the run's commands, then the guard itself."""
        swept = await self._sweep()
        with contextlib.suppress(BrokenPipeError):  # somebody has killed it
            # If the time was over, the guard does the rest. It is told so: a closed pipe would not tell as long as a
            # child that was forked holds it too.
            os.write(self.pipe, ENDED if swept else b"\n")
        self._held.close()
        self._process.wait()  # a shell that has its line ends at once

    async def _sweep(self) -> bool:
        """End whatever carries the mark, first by SIGTERM, then by SIGKILL; tell whether nothing is left."""
        clock = self._run.clock
        number, until = signal.SIGTERM, clock() + GRACE
        mark, told = self.mark.encode(), set[int]()
        while left := _guard_script.marked(mark):
            for pid in left:
                if pid not in told or number == signal.SIGKILL:
                    with contextlib.suppress(OSError):
                        os.kill(pid, number)
            told.update(left)
            if not await self._run.backend.sleep_until(clock() + _guard_script.PAUSE):
                return False
            if clock() >= until:
                number = signal.SIGKILL
        return True


_alive: Final[weakref.WeakSet[Guard]] = weakref.WeakSet()


def _forget_in_child() -> None:
    """Let go of the pipes in a child that was forked without exec, such as multiprocessing's: it is no conductor."""
    for guard in tuple(_alive):
        with contextlib.suppress(OSError):
            os.close(guard.pipe)
    _alive.clear()


os.register_at_fork(after_in_child=_forget_in_child)


def _has_terminal() -> bool:
    """Tell whether this program has a terminal that could stop its children, or send them signals."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _inheritable() -> list[int] | None:
    """Return the descriptors that a child would inherit beside the standard streams."""
    if not os.path.isdir("/proc/self/fd"):
        return None
    found: list[int] = []
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # the directory's own
            if descriptor > STDERR and os.get_inheritable(descriptor):
                found.append(descriptor)
    return found


def _memory() -> int:
    """Return the descriptor of a nameless file, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("trioflow")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
