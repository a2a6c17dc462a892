"""Output that comes by a descriptor, as that of child processes does: through pipes, whose lines go above the picture.

```
print ─────────────────────────────────────────────────┐
child processes ──► descriptors 1 and 2: one pipe ──┐  ├──► Above ──► terminal
workers of ProcessJobs ──► a pipe for each ─────────┴──┘  a thread reads
```

A thread reads the pipes, so a child process can write while its job blocks the event loop. Descriptors 1 and 2 share a
pipe, so that what comes through it keeps its order; and who prints reads first what is in it. When the picture ends,
the descriptors are the terminal's again. The thread goes on as long as a process has one of the pipes, and copies to
the terminal what comes.

If this program is killed, nobody reads any more, and who writes gets an error: no other process has an end that reads,
not even one that was forked.
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
"""Bytes that are read at once: what a pipe holds."""
PATIENCE: Final = 1.0
"""Seconds after which an unfinished line is shown, if nobody knows whose it is: it may be a question."""


class Pipe:
    """One pipe, whose output it is, and its unfinished line; its owner's lock is held by whoever changes it.

    Attributes:
        descriptor: the end to write to, which is closed once the processes that write have it.

    """

    def __init__(self, owner: FdCapture) -> None:
        self.read_end, self.descriptor = os.pipe()
        posix.set_blocking(self.read_end, False)
        self.job: AnyJob | None = None
        self._owner: Final = owner
        self._decoder: Final = codecs.getincrementaldecoder(owner.encoding)("replace")
        self._begun = ""

    def begin(self, job: AnyJob) -> None:
        """Note that what comes from now on is the output of this job."""
        self._owner.switch(self, job)

    def add(self, data: bytes) -> list[str]:
        """Return the lines that a piece of output completes."""
        text = self._decoder.decode(data)
        if not self._owner.encoding.lower().startswith("utf"):
            text = text.replace("\ufffd", "?")  # it cannot be written
        lines, self._begun = split(self._begun + text)
        return lines

    def finish(self) -> list[str]:
        """Return the unfinished line, if there is one, and forget it."""
        line, self._begun = self._begun + self._decoder.decode(b"", final=True), ""
        return [line] if line else []

    @property
    def has_begun(self) -> bool:
        """Whether there is an unfinished line."""
        return bool(self._begun)


class FdCapture:
    """The pipes of one picture, and the thread that reads them.

    Args:
        above: where the lines go.
        terminal: a descriptor of the terminal; it remains the caller's.
        encoding: how the terminal's text is encoded.

    """

    def __init__(self, above: OutputBuffer, terminal: int, encoding: str) -> None:
        self.encoding: Final = encoding
        self._above: Final = above
        self._terminal: Final = os.dup(terminal)
        self._lock: Final = threading.RLock()  # never held while something is drawn
        self._selector: Final = selectors.DefaultSelector()
        self._wake_end, self._end = os.pipe()
        self._selector.register(self._wake_end, selectors.EVENT_READ)
        self._pipes: Final[dict[int, Pipe]] = {}
        self._shared: Pipe | None = None
        self._replaced: list[int] = []
        self._goes_above = True
        self._thread: threading.Thread | None = None

    # ---- who writes

    def replace(self) -> None:
        """Put a pipe in the place of descriptors 1 and 2, as far as these are the terminal."""
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
        """Let what comes through a pipe be the output of another job."""
        self._read(pipe)
        with self._lock:
            self._pass_on(pipe, pipe.finish())
            pipe.job = job

    def restore(self) -> None:
        """Let descriptors 1 and 2 be the terminal again, and take what is in the pipes."""
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
        """Take what is in a pipe now, but not more than it holds: somebody may write without end."""
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
    """Return the pipes for one picture; None where a pipe cannot be waited for."""
    return FdCapture(above, terminal, encoding) if posix.IS_THERE else None


_WITH_PIPES: Final[weakref.WeakSet[FdCapture]] = weakref.WeakSet()


def _close_in_fork() -> None:
    """Close the ends that read: only this program's own process reads, and a fork of it could not."""
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
