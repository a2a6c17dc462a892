"""Capture of output at descriptors 1 and 2, by child processes for example: pipes, whose lines go above the picture.

```
print ─────────────────────────────────────────────────┐
child processes ──► descriptors 1 and 2: one pipe ──┐  ├──► Above ──► terminal
workers of ProcessJobs ──► a pipe for each ─────────┴──┘  a thread reads
```

A thread reads the pipes, so a child process can write while its job blocks the event loop. Descriptors 1 and 2 share a
pipe, which keeps their order; and a stream reads the pipe before it prints. When the picture ends,
the descriptors are the terminal's again. The thread goes on as long as a process has one of the pipes, and copies its
output to the terminal.

If this program is killed, its children get EPIPE: no other process, not even a fork, has the reading end of a pipe.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import selectors
import sys
import threading
import weakref
from typing import Any, Final

from ... import _posix as posix
from ..._core.api.views import AnyJob
from ._output_buffer import OutputBuffer, split

PIECE: Final = 1 << 16
"""Bytes per read: the capacity of a pipe."""
PATIENCE: Final = 1.0
"""Seconds after which an unfinished line of an unknown job is shown: it may be a prompt."""


class Pipe:
    """One pipe, the job whose output it has, and its unfinished line. Writers hold the lock of its owner.

    Attributes:
        descriptor: the writing end, which is closed once the writing processes have it.

    """

    def __init__(self, owner: FdCapture) -> None:
        self.read_end, self.descriptor = os.pipe()
        posix.set_blocking(self.read_end, False)
        self.job: AnyJob | None = None
        self._owner: Final = owner
        self._decoder: Final = codecs.getincrementaldecoder(owner.encoding)("replace")
        self._begun = ""

    def begin(self, job: AnyJob) -> None:
        """Attribute the output from now on to this job."""
        self._owner.switch(self, job)

    def add(self, data: bytes) -> list[str]:
        """Add a piece of output, and return the completed lines."""
        text = self._decoder.decode(data)
        if not self._owner.encoding.lower().startswith("utf"):
            text = text.replace("\ufffd", "?")  # it cannot be written
        lines, self._begun = split(self._begun + text)
        return lines

    def finish(self) -> list[str]:
        """Return and drop the unfinished line, if there is one."""
        line, self._begun = self._begun + self._decoder.decode(b"", final=True), ""
        return [line] if line else []

    @property
    def has_begun(self) -> bool:
        """Whether there is an unfinished line."""
        return bool(self._begun)


class FdCapture:
    """The pipes of one picture, and the thread that reads them.

    Args:
        above: the buffer for the lines.
        terminal: a descriptor of the terminal; it remains the caller's.
        encoding: how the terminal's text is encoded.

    """

    def __init__(self, above: OutputBuffer, terminal: int, encoding: str) -> None:
        self.encoding: Final = encoding
        self._above: Final = above
        self._terminal: Final = os.dup(terminal)
        self._lock: Final = threading.RLock()  # never held while the picture is drawn
        self._selector: Final = selectors.DefaultSelector()
        self._wake_end, self._end = os.pipe()
        self._selector.register(self._wake_end, selectors.EVENT_READ)
        self._pipes: Final[dict[int, Pipe]] = {}
        self._shared: Pipe | None = None
        self._replaced: list[int] = []
        self._goes_above = True
        self._thread: threading.Thread | None = None

    # ---- writers

    def replace(self) -> None:
        """Replace descriptors 1 and 2 by a pipe, if they are the terminal."""
        pipe = self._shared = self.open()
        device = _device(self._terminal)
        for number, stream in ((1, sys.__stdout__), (2, sys.__stderr__)):
            with contextlib.suppress(OSError):  # there is no such descriptor
                if os.isatty(number) and _device(number) == device:
                    _flush(stream)
                    os.dup2(pipe.descriptor, number)
                    self._replaced.append(number)
        os.close(pipe.descriptor)
        self._above.before_print = self._read_shared

    def open(self) -> Pipe:
        """Return a new pipe for other processes."""
        pipe = Pipe(self)
        with self._lock:
            self._pipes[pipe.read_end] = pipe
            self._selector.register(pipe.read_end, selectors.EVENT_READ, pipe)
            if self._thread is None:
                _WITH_PIPES.add(self)
                self._thread = threading.Thread(target=self._work, name="trioflow output", daemon=True)
                self._thread.start()
        return pipe

    def switch(self, pipe: Pipe, job: AnyJob) -> None:
        """Attribute the output of a pipe to another job."""
        self._read(pipe)
        with self._lock:
            self._pass_on(pipe, pipe.finish())
            pipe.job = job

    def restore(self) -> None:
        """Restore descriptors 1 and 2, and drain the pipes."""
        for number, stream in ((1, sys.__stdout__), (2, sys.__stderr__)):
            if number in self._replaced:
                _flush(stream)
                os.dup2(self._terminal, number)
        self._replaced = []
        with self._lock:
            for pipe in list(self._pipes.values()):
                self._read(pipe)
                self._pass_on(pipe, pipe.finish())
            self._goes_above = False
            os.close(self._end)  # the thread ends when the last pipe does
            if self._thread is None:
                self._close()

    # ---- the thread

    def _work(self) -> None:
        is_last = False
        while self._pipes or not is_last:
            has_begun = any(pipe.has_begun for pipe in list(self._pipes.values()))
            ready = self._selector.select(PATIENCE if has_begun else None)
            if not ready:
                self._show_begun()
            for key, _ in ready:
                if key.data is None:
                    is_last = True
                    self._selector.unregister(self._wake_end)
                else:
                    self._read(key.data)
                    self._above.settle()
        self._close()

    def _close(self) -> None:
        self._selector.close()
        os.close(self._wake_end)
        os.close(self._terminal)

    def _show_begun(self) -> None:
        with self._lock:
            for pipe in list(self._pipes.values()):
                if pipe.job is None:
                    self._pass_on(pipe, pipe.finish())
        self._above.settle()

    def _read_shared(self) -> None:
        if self._shared is not None:
            self._read(self._shared)

    def _read(self, pipe: Pipe) -> None:
        """Read what is in a pipe now, but at most its capacity: a process may write without end."""
        with self._lock:
            if pipe.read_end not in self._pipes:
                return
            try:
                data = os.read(pipe.read_end, PIECE)
            except BlockingIOError:
                return
            if not data:
                self._selector.unregister(pipe.read_end)
                del self._pipes[pipe.read_end]
                os.close(pipe.read_end)
                self._pass_on(pipe, pipe.finish())
            elif self._goes_above:
                self._pass_on(pipe, pipe.add(data))
        if data and not self._goes_above:
            self._copy(data)

    def _pass_on(self, pipe: Pipe, lines: list[str]) -> None:
        if lines and self._goes_above:
            self._above.put(lines, pipe.job)
        elif lines:
            self._copy("\n".join([*lines, ""]).encode(self.encoding, "replace"))

    def _copy(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            while data:
                data = data[os.write(self._terminal, data) :]


def open_pipes(above: OutputBuffer, terminal: int, encoding: str) -> FdCapture | None:
    """Return the pipes for one picture; None on systems that cannot poll pipes."""
    return FdCapture(above, terminal, encoding) if posix.IS_THERE else None


_WITH_PIPES: Final[weakref.WeakSet[FdCapture]] = weakref.WeakSet()


def _close_in_fork() -> None:
    """Close the reading ends in a fork, which has no thread to read them."""
    for pipes in list(_WITH_PIPES):
        for descriptor in list(pipes._pipes):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        pipes._pipes.clear()
        pipes._replaced.clear()


posix.on_fork(_close_in_fork)


def _device(descriptor: int) -> int:
    found: Any = os.fstat(descriptor)  # not every system has this field
    return int(found.st_rdev)


def _flush(stream: Any) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or there is none
        stream.flush()
