"""`OutputBuffer`: collects printed lines, and writes them above the picture of a monitor with its next update.

To redraw the picture for each printed line would cost more than the line itself. The buffer is bounded: when it has
`MAX_CHARACTERS` characters, the next print writes them all.

A `BufferedStream` replaces `sys.stdout` and `sys.stderr`, and the same streams in `logging` handlers, which keep the
stream that they were created with. Command jobs check `has_picture`, and then print the output of their processes line
by line. `_fd_capture` captures output that bypasses the replaced streams because it is written to a descriptor.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, TextIO

from ..._core.api import current_job
from ..._core.api.views import AnyJob
from ._stream_proxy import StreamProxy, is_terminal

MAX_CHARACTERS: Final = 1 << 16
MAX_LINE: Final = 1 << 16
"""The number of characters above which an unfinished line is shown."""


class Output(Protocol):
    """A pipe for the output of another process, whose lines appear above the picture."""

    descriptor: int
    """The write end. The caller closes it once the process has inherited it."""

    def begin(self, job: AnyJob) -> None:
        """Attribute all further output to this job."""


class OutputFactory(Protocol):
    """A factory of `Output`s."""

    def open(self) -> Output:
        """Return a new `Output`."""
        ...


class OutputBuffer:
    """A buffer of the lines that will be written above a picture.

    Args:
        wake: called when lines have been added.
        write_out: called when the buffer is full; it must write all lines.
        tag: returns the prefix for lines of a job; None for no prefix.

    """

    def __init__(
        self, wake: Callable[[], None], write_out: Callable[[], None], tag: Callable[[AnyJob], str] | None = None
    ) -> None:
        self._wake: Final = wake
        self._write_out: Final = write_out
        self._tag: Final = tag
        # Reentrant, because a signal handler may print while its thread holds the lock.
        self._lock: Final = threading.RLock()
        self._lines: list[str] = []
        self._size = 0
        self._partial: Final[dict[tuple[AnyJob | None, int], str]] = {}  # unfinished lines, by job and thread
        self._replaced: list[tuple[str, TextIO, BufferedStream]] = []
        self._stream_handlers: list[tuple[logging.StreamHandler[Any], TextIO, BufferedStream]] = []
        self._owner: int | None = None  # the id of the process that draws; its forks have no thread to draw
        self.output_factory: OutputFactory | None = None
        self.before_print: Callable[[], None] = _do_nothing
        """Called before `write` adds lines, to add earlier output of other processes first."""

    @property
    def is_open(self) -> bool:
        """Whether there is a picture above which lines are written."""
        return self._owner == os.getpid()

    # ---- lines

    def write(self, text: str) -> None:
        """Add the lines that `text` completes; they belong to the current job."""
        self.before_print()
        job = _calling_job()
        key = job, threading.get_ident()
        with self._lock:
            lines, partial = split_lines(self._partial.pop(key, "") + text)
            if partial:
                self._partial[key] = partial
            self.add(lines, job)
        if lines:
            self.notify()

    def add(self, lines: list[str], job: AnyJob | None = None) -> None:
        """Add lines of a job; None if it is unknown. The caller then calls `notify`."""
        tag = "" if job is None or self._tag is None else self._tag(job)
        shown = [tag + visible_text(line) for line in lines]
        with self._lock:
            self._lines += shown
            self._size += sum(map(len, shown)) + len(shown)

    def notify(self) -> None:
        """Schedule the display of added lines; if the buffer is full, write them now."""
        if self._size > MAX_CHARACTERS:
            self._write_out()
        else:
            self._wake()

    def finish(self, job: object = None) -> None:
        """Add the unfinished lines of a job, or of all jobs, as if they were complete."""
        if not self._partial:
            return
        with self._lock:
            for key in [key for key in self._partial if job is None or key[0] is job]:
                self.add([self._partial.pop(key)], key[0])

    def take(self) -> list[str]:
        """Remove and return all lines."""
        with self._lock:
            lines, self._lines, self._size = self._lines, [], 0
        return lines

    def take_partial(self) -> str:
        """Remove and return the unfinished line of the current job, which may be a prompt."""
        with self._lock:
            return self._partial.pop((_calling_job(), threading.get_ident()), "")

    # ---- streams

    def replace(self, output_factory: OutputFactory | None = None) -> None:
        """Replace those of `sys.stdout` and `sys.stderr` that are terminals.

        Args:
            output_factory: opens pipes for the output of other processes; None if the system does not support this.

        """
        self.output_factory = output_factory
        self._owner = os.getpid()
        for name in ("stdout", "stderr"):
            if is_terminal(getattr(sys, name)):
                self.replace_stream(name)

    def replace_stream(self, name: str) -> None:
        """Replace `sys.stdout` or `sys.stderr`, by name, also in `logging` handlers."""
        self._owner = os.getpid()
        stream = getattr(sys, name)
        replacement = BufferedStream(self, stream)
        setattr(sys, name, replacement)
        self._replaced.append((name, stream, replacement))
        self._replace_in_handlers(stream, replacement)

    def _replace_in_handlers(self, stream: TextIO, replacement: BufferedStream) -> None:
        for handler in _stream_handlers():
            if handler.stream is stream:
                handler.setStream(replacement)
                self._stream_handlers.append((handler, stream, replacement))

    def restore(self) -> None:
        """Restore the streams, except where other code has replaced them again, and add their unfinished lines."""
        for handler, stream, replacement in self._stream_handlers:
            if handler.stream is replacement:
                handler.setStream(stream)
        for name, stream, replacement in self._replaced:
            if getattr(sys, name) is replacement:
                setattr(sys, name, stream)
        self._replaced, self._stream_handlers = [], []
        self._owner = self.output_factory = None
        self.finish()


class BufferedStream(StreamProxy):
    """A text stream that prints above the picture while there is one, and to the real stream afterwards."""

    def __init__(self, buffer: OutputBuffer, real: TextIO) -> None:
        """Create a stream in place of `real`."""
        super().__init__(real)
        self._buffer: Final = buffer

    def write(self, text: str, /) -> int:
        """Add the lines that `text` completes to the buffer; raise encoding errors as the real stream would."""
        if not self._buffer.is_open:
            return self._real.write(text)
        if not text.isascii():
            text = text.encode(self.encoding, self.errors or "strict").decode(self.encoding, "replace")
        self._buffer.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the real stream, unless there is a picture: then lines appear with its next update."""
        if not self._buffer.is_open:
            self._real.flush()

    @property
    def has_picture(self) -> bool:
        """Whether there is a picture on the real stream; programs must not write to its descriptor then."""
        return self._buffer.is_open

    def open_output(self) -> Output | None:
        """Open a pipe for the output of another process; return None without a picture, or support for pipes."""
        factory = self._buffer.output_factory
        return factory.open() if self._buffer.is_open and factory is not None else None

    def writable(self) -> bool:
        """Return True: the stream is for output."""
        return True


def split_lines(text: str) -> tuple[list[str], str]:
    """Split a text into whole lines and an unfinished one; break an unfinished line that is too long."""
    *lines, partial = text.split("\n")
    if len(partial) > MAX_LINE:
        if "\r" in partial[:-1]:  # drop text that later text overwrites
            partial = visible_text(partial) + "\r" * partial.endswith("\r")
        if len(partial) > MAX_LINE:
            lines, partial = [*lines, partial], ""
    return lines, partial


def visible_text(line: str) -> str:
    """Return the text that a terminal shows for a line in which carriage returns overwrite earlier text."""
    return line.rstrip("\r").rpartition("\r")[2] if "\r" in line else line


def _calling_job() -> AnyJob | None:
    try:
        return current_job()
    except RuntimeError:
        return None


def _do_nothing() -> None:
    pass


def _stream_handlers() -> Iterator[logging.StreamHandler[Any]]:
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in logger.handlers if isinstance(logger, logging.Logger) else ():
            if isinstance(handler, logging.StreamHandler):
                yield handler
