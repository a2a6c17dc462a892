"""Capture of output to descriptors 1 and 2, from child processes for example, so that it appears above the picture.

```
print ─────────────────────────────────────────────────┐
child processes ──► descriptors 1 and 2: one pipe ──┐  ├──► OutputBuffer ──► terminal
workers of ProcessJobs ──► a pipe for each ─────────┴──┘  a thread reads
```

A thread reads the pipes, so a child process can write while its job blocks the event loop. Descriptors 1 and 2 share
one pipe, which keeps the order of their output. Before `print` adds a line, this pipe is read, for the same reason.
When the picture ends, the descriptors are the terminal's again. The thread continues as long as a process has one of
the pipes open, and copies the output to the terminal.

If this program is killed, its children get EPIPE: no other process, not even a fork, has the read end of a pipe.
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
from ._output_buffer import OutputBuffer, split_lines

READ_SIZE: Final = 1 << 16
"""The number of bytes per read: the capacity of a pipe."""
PROMPT_DELAY: Final = 1.0
"""Seconds after which an unfinished line that belongs to no known job is shown, because it may be a prompt."""


class Pipe:
    """One pipe, with the job whose output it carries, and with the last line that is unfinished.

    The lock of the owner protects it.

    Attributes:
        descriptor: the write end, closed once the writing processes have inherited it.

    """

    def __init__(self, owner: FdCapture) -> None:
        self.read_end, self.descriptor = os.pipe()
        posix.set_blocking(self.read_end, False)
        self.job: AnyJob | None = None
        self._owner: Final = owner
        self._decoder: Final = codecs.getincrementaldecoder(owner.encoding)("replace")
        self._partial = ""

    def begin(self, job: AnyJob) -> None:
        """Attribute all further output to this job."""
        self._owner.switch(self, job)

    def add(self, data: bytes) -> list[str]:
        """Add output, and return the lines that it completes."""
        text = self._decoder.decode(data)
        if not self._owner.encoding.lower().startswith("utf"):
            text = text.replace("\ufffd", "?")  # the encoding has no replacement character
        lines, self._partial = split_lines(self._partial + text)
        return lines

    def finish(self) -> list[str]:
        """Remove and return the unfinished line, if there is one."""
        line, self._partial = self._partial + self._decoder.decode(b"", final=True), ""
        return [line] if line else []

    @property
    def has_partial_line(self) -> bool:
        """Whether there is an unfinished line."""
        return bool(self._partial)


class FdCapture:
    """The pipes of one picture, and the thread that reads them.

    Args:
        buffer: receives the lines.
        terminal: a descriptor of the terminal; the caller closes it.
        encoding: the encoding of the terminal.

    """

    def __init__(self, buffer: OutputBuffer, terminal: int, encoding: str) -> None:
        self.encoding: Final = encoding
        self._buffer: Final = buffer
        self._terminal: Final = os.dup(terminal)
        self._lock: Final = threading.RLock()  # not held while the picture is drawn
        self._selector: Final = selectors.DefaultSelector()
        self._wake_read_end, self._wake_write_end = os.pipe()
        self._selector.register(self._wake_read_end, selectors.EVENT_READ)
        self._pipes: Final[dict[int, Pipe]] = {}
        self._shared: Pipe | None = None
        self._replaced: list[int] = []
        self._is_buffering = True
        self._thread: threading.Thread | None = None

    # ---- writers

    def replace(self) -> None:
        """Replace descriptors 1 and 2 by a pipe if they refer to the terminal."""
        pipe = self._shared = self.open()
        device = _device(self._terminal)
        for number, stream in ((1, sys.__stdout__), (2, sys.__stderr__)):
            with contextlib.suppress(OSError):  # the descriptor is not open
                if os.isatty(number) and _device(number) == device:
                    _flush(stream)
                    os.dup2(pipe.descriptor, number)
                    self._replaced.append(number)
        os.close(pipe.descriptor)
        self._buffer.before_print = self._read_shared

    def open(self) -> Pipe:
        """Return a new pipe for other processes."""
        pipe = Pipe(self)
        with self._lock:
            self._pipes[pipe.read_end] = pipe
            self._selector.register(pipe.read_end, selectors.EVENT_READ, pipe)
            if self._thread is None:
                _CAPTURES.add(self)
                self._thread = threading.Thread(target=self._run_thread, name="trioflow output", daemon=True)
                self._thread.start()
        return pipe

    def switch(self, pipe: Pipe, job: AnyJob) -> None:
        """Attribute the output of a pipe to another job."""
        self._read(pipe)
        with self._lock:
            self._forward(pipe, pipe.finish())
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
                self._forward(pipe, pipe.finish())
            self._is_buffering = False
            os.close(self._wake_write_end)  # lets the thread end when the last pipe has ended
            if self._thread is None:
                self._close()

    # ---- the thread

    def _run_thread(self) -> None:
        """Read the pipes until `restore` has been called and all pipes have ended."""
        is_last = False
        while self._pipes or not is_last:
            has_partial_line = any(pipe.has_partial_line for pipe in list(self._pipes.values()))
            ready = self._selector.select(PROMPT_DELAY if has_partial_line else None)
            if not ready:
                self._show_partial_lines()
            for key, _ in ready:
                if key.data is None:
                    is_last = True
                    self._selector.unregister(self._wake_read_end)
                else:
                    self._read(key.data)
                    self._buffer.notify()
        self._close()

    def _close(self) -> None:
        self._selector.close()
        os.close(self._wake_read_end)
        os.close(self._terminal)

    def _show_partial_lines(self) -> None:
        with self._lock:
            for pipe in list(self._pipes.values()):
                if pipe.job is None:
                    self._forward(pipe, pipe.finish())
        self._buffer.notify()

    def _read_shared(self) -> None:
        if self._shared is not None:
            self._read(self._shared)

    def _read(self, pipe: Pipe) -> None:
        """Read the current content of a pipe, at most its capacity, because a process may write without end."""
        with self._lock:
            if pipe.read_end not in self._pipes:
                return
            try:
                data = os.read(pipe.read_end, READ_SIZE)
            except BlockingIOError:
                return
            if not data:
                self._selector.unregister(pipe.read_end)
                del self._pipes[pipe.read_end]
                os.close(pipe.read_end)
                self._forward(pipe, pipe.finish())
            elif self._is_buffering:
                self._forward(pipe, pipe.add(data))
        if data and not self._is_buffering:
            self._copy_to_terminal(data)

    def _forward(self, pipe: Pipe, lines: list[str]) -> None:
        """Add lines to the buffer, or write them to the terminal after the end of the picture."""
        if lines and self._is_buffering:
            self._buffer.add(lines, pipe.job)
        elif lines:
            self._copy_to_terminal("\n".join([*lines, ""]).encode(self.encoding, "replace"))

    def _copy_to_terminal(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the terminal has been closed
            while data:
                data = data[os.write(self._terminal, data) :]


def open_capture(buffer: OutputBuffer, terminal: int, encoding: str) -> FdCapture | None:
    """Return an `FdCapture` for one picture; None on systems that cannot poll pipes."""
    return FdCapture(buffer, terminal, encoding) if posix.IS_POSIX else None


_CAPTURES: Final[weakref.WeakSet[FdCapture]] = weakref.WeakSet()


def _close_in_fork() -> None:
    """Close the read ends in a fork, which has no thread to read them."""
    for capture in list(_CAPTURES):
        for descriptor in list(capture._pipes):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        capture._pipes.clear()
        capture._replaced.clear()


posix.on_fork(_close_in_fork)


def _device(descriptor: int) -> int:
    status: Any = os.fstat(descriptor)  # not all systems have `st_rdev`
    return int(status.st_rdev)


def _flush(stream: Any) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # the stream is closed, or None
        stream.flush()
