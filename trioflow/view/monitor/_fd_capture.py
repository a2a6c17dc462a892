"""Capture output to file descriptors 1 and 2, e.g. that of child processes, and show it above a monitor's picture.

```
print ─────────────────────────────────────────────────┐
child processes ──► descriptors 1 and 2: one pipe ──┐  ├──► OutputBuffer ──► terminal
workers of ProcessJobs ──► a pipe for each ─────────┴──┘  a thread reads
```

A thread reads the pipes, so a child process can write while its job blocks the event loop. Descriptors 1 and 2 share
one pipe, to keep the order of their output. To keep the order of this output and of printed lines, the pipe is read
before `print` adds a line. When the picture ends, descriptors 1 and 2 refer to the terminal again. As long as a process
has one of the pipes open, the thread continues to read it, and copies the output to the terminal.

No other process has the read end of a pipe; a fork closes it. So if this program is killed, its children get EPIPE when
they write.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
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
"""The maximum number of bytes to read at once, which is the default capacity of a pipe."""
PROMPT_DELAY: Final = 1.0
"""Seconds after which an incomplete line is shown, if its job is unknown. Such a line may be a prompt."""


class CapturePipe:
    """A pipe for output, with the job that writes to it and the incomplete last line.

    The job and the incomplete line change only under the lock of the `FdCapture`.

    Attributes:
        write_end: the descriptor of the write end, which is closed after the writing process has inherited it.

    """

    def __init__(self, owner: FdCapture) -> None:
        self.read_end, self.write_end = os.pipe()
        posix.set_blocking(self.read_end, False)
        self.job: AnyJob | None = None
        self._owner: Final = owner
        self._decoder: Final = codecs.getincrementaldecoder(owner.encoding)("replace")
        self._partial_line = ""

    def attribute_output_to(self, job: AnyJob) -> None:
        self._owner.attribute_output(self, job)

    def decode_lines(self, data: bytes) -> list[str]:
        """Decode output from the pipe, and return the lines that this output completes."""
        text = self._decoder.decode(data)
        if not self._owner.encoding.lower().startswith("utf"):
            text = text.replace("\ufffd", "?")  # the encoding has no replacement character
        lines, self._partial_line = split_lines(self._partial_line + text)
        return lines

    def take_partial_line(self) -> list[str]:
        """Remove the incomplete line, and return it in a list; the list is empty if there is none."""
        line, self._partial_line = self._partial_line + self._decoder.decode(b"", final=True), ""
        return [line] if line else []

    @property
    def has_partial_line(self) -> bool:
        return bool(self._partial_line)


class FdCapture:
    """The pipes that capture output for one display, and the thread that reads them.

    Args:
        buffer: the buffer to which the lines are added.
        terminal: a descriptor of the terminal or, if the lines of a log are tagged, of the real standard stream. The
            capture duplicates it; the caller still owns the original.
        encoding: the encoding of the terminal.

    """

    def __init__(self, buffer: OutputBuffer, terminal: int, encoding: str) -> None:
        self.encoding: Final = encoding
        self._buffer: Final = buffer
        self._terminal_descriptor: Final = os.dup(terminal)
        self._lock: Final = threading.RLock()  # not held while the picture is drawn
        self._selector: Final = selectors.DefaultSelector()
        self._wake_read_end, self._wake_write_end = os.pipe()
        self._selector.register(self._wake_read_end, selectors.EVENT_READ)
        self._pipes: Final[dict[int, CapturePipe]] = {}
        self._replaced_descriptors: list[int] = []
        self._is_buffering = True
        self._thread: threading.Thread | None = None

    # ---- writers

    def replace_descriptors(self) -> None:
        """Replace each of descriptors 1 and 2 that refers to the terminal with a shared pipe."""
        pipe = self.open_pipe()
        device = _device_number(self._terminal_descriptor)
        for number, stream in ((1, sys.__stdout__), (2, sys.__stderr__)):
            with contextlib.suppress(OSError):  # raised if the descriptor is not open
                if os.isatty(number) and _device_number(number) == device:
                    _flush(stream)
                    os.dup2(pipe.write_end, number)
                    self._replaced_descriptors.append(number)
        os.close(pipe.write_end)
        self._buffer.before_print = functools.partial(self._read_pipe, pipe)

    def open_pipe(self) -> CapturePipe:
        """Return a new pipe for the output of another process."""
        pipe = CapturePipe(self)
        with self._lock:
            self._pipes[pipe.read_end] = pipe
            self._selector.register(pipe.read_end, selectors.EVENT_READ, pipe)
            if self._thread is None:
                _CAPTURES.add(self)
                self._thread = threading.Thread(target=self._run_thread, name="trioflow output", daemon=True)
                self._thread.start()
        return pipe

    def attribute_output(self, pipe: CapturePipe, job: AnyJob) -> None:
        """Attribute all further output to a pipe to `job`."""
        self._read_pipe(pipe)
        with self._lock:
            self._forward_lines(pipe, pipe.take_partial_line())
            pipe.job = job

    def restore(self) -> None:
        """Restore descriptors 1 and 2, and read each pipe once more. The thread copies later output to the terminal."""
        for number, stream in ((1, sys.__stdout__), (2, sys.__stderr__)):
            if number in self._replaced_descriptors:
                _flush(stream)
                os.dup2(self._terminal_descriptor, number)
        self._replaced_descriptors = []
        with self._lock:
            for pipe in list(self._pipes.values()):
                self._read_pipe(pipe)
                self._forward_lines(pipe, pipe.take_partial_line())
            self._is_buffering = False
            os.close(self._wake_write_end)  # wakes the thread, which ends once all pipes have been closed
            if self._thread is None:
                self._close()

    # ---- the thread

    def _run_thread(self) -> None:
        """Read the pipes until `restore` has been called and all writers have closed their pipes."""
        is_restored = False
        while self._pipes or not is_restored:
            has_partial_line = any(pipe.has_partial_line for pipe in list(self._pipes.values()))
            ready = self._selector.select(PROMPT_DELAY if has_partial_line else None)
            if not ready:
                self._show_partial_lines()
            for key, _ in ready:
                if key.data is None:
                    is_restored = True
                    self._selector.unregister(self._wake_read_end)
                else:
                    self._read_pipe(key.data)
                    self._buffer.schedule_update()
        self._close()

    def _close(self) -> None:
        self._selector.close()
        os.close(self._wake_read_end)
        os.close(self._terminal_descriptor)

    def _show_partial_lines(self) -> None:
        with self._lock:
            for pipe in list(self._pipes.values()):
                if pipe.job is None:
                    self._forward_lines(pipe, pipe.take_partial_line())
        self._buffer.schedule_update()

    def _read_pipe(self, pipe: CapturePipe) -> None:
        """Read from a pipe once, and forward the lines.

        Reading until the pipe is empty might take forever, because a process may never stop writing.
        """
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
                self._forward_lines(pipe, pipe.take_partial_line())
            elif self._is_buffering:
                self._forward_lines(pipe, pipe.decode_lines(data))
        if data and not self._is_buffering:
            self._copy_to_terminal(data)

    def _forward_lines(self, pipe: CapturePipe, lines: list[str]) -> None:
        """Add lines to the buffer. After the end of the picture, write them to the terminal instead."""
        if lines and self._is_buffering:
            self._buffer.add_lines(lines, pipe.job)
        elif lines:
            self._copy_to_terminal("\n".join([*lines, ""]).encode(self.encoding, "replace"))

    def _copy_to_terminal(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # raised if the terminal has been closed
            while data:
                data = data[os.write(self._terminal_descriptor, data) :]


def open_capture(buffer: OutputBuffer, terminal: int, encoding: str) -> FdCapture | None:
    """Return a new `FdCapture`; None on systems that cannot poll pipes."""
    return FdCapture(buffer, terminal, encoding) if posix.IS_POSIX else None


_CAPTURES: Final[weakref.WeakSet[FdCapture]] = weakref.WeakSet()


def _close_in_fork() -> None:
    """Close the read ends of all pipes in a forked process, because it has no thread that reads them."""
    for capture in list(_CAPTURES):
        for descriptor in list(capture._pipes):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        capture._pipes.clear()
        capture._replaced_descriptors.clear()


posix.on_fork(_close_in_fork)


def _device_number(descriptor: int) -> int:
    status: Any = os.fstat(descriptor)  # not all systems have `st_rdev`
    return int(status.st_rdev)


def _flush(stream: Any) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):  # raised if the stream is closed, or is None
        stream.flush()
