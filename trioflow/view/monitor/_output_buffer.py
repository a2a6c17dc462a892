"""A buffer of printed lines while a monitor draws: they are written above the picture together with the next one.

A new picture for each printed line would cost more than the lines. The buffer is bounded: when `MAX_CHARACTERS`
characters are waiting, the next print writes them all.

A `BufferedStream` replaces standard output and error, and the same streams in `logging` handlers, which keep the stream
that they were made with. Commands check `has_picture`, and pass it their lines together with the job. `_fd_capture` is
for output that bypasses it, by a descriptor.
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
LONGEST: Final = 1 << 16
"""Characters after which an unfinished line is shown."""


class Output(Protocol):
    """A descriptor for another process's output, whose lines go above the picture."""

    descriptor: int
    """The writing end. The caller closes it once the process has it."""

    def begin(self, job: AnyJob) -> None:
        """Attribute the output from now on to this job."""


class Outputs(Protocol):
    """A factory of `Output`s."""

    def open(self) -> Output:
        """Return a new `Output`."""
        ...


class OutputBuffer:
    """The lines that wait to be written above a picture.

    Args:
        wake: called when there are lines.
        write_out: called when there are too many lines; it must take them all.
        tag: returns the prefix for lines of a job; None for no prefix.

    """

    def __init__(
        self, wake: Callable[[], None], write_out: Callable[[], None], tag: Callable[[AnyJob], str] | None = None
    ) -> None:
        self._wake: Final = wake
        self._write_out: Final = write_out
        self._tag: Final = tag
        # Reentrant, because a signal handler may print while its thread is here.
        self._lock: Final = threading.RLock()
        self._lines: list[str] = []
        self._size = 0
        self._begun: Final[dict[tuple[AnyJob | None, int], str]] = {}  # unfinished lines, by job and thread
        self._replaced: list[tuple[str, TextIO, BufferedStream]] = []
        self._handlers: list[tuple[logging.StreamHandler[Any], TextIO, BufferedStream]] = []
        self._owner: int | None = None  # the process that draws; a fork of it has no thread to draw
        self.outputs: Outputs | None = None
        self.before_print: Callable[[], None] = _nothing
        """Called before anything is added by `write`, to add what others have written earlier."""

    @property
    def is_open(self) -> bool:
        """Whether there is a picture for lines to go above."""
        return self._owner == os.getpid()

    # ---- lines

    def write(self, text: str) -> None:
        """Add the lines that `text` completes, for the calling job."""
        self.before_print()
        job = _writer()
        key = job, threading.get_ident()
        with self._lock:
            lines, begun = split(self._begun.pop(key, "") + text)
            if begun:
                self._begun[key] = begun
            self.put(lines, job)
        if lines:
            self.settle()

    def put(self, lines: list[str], job: AnyJob | None = None) -> None:
        """Add lines of a job, if it is known; the caller then calls `settle`."""
        tag = "" if job is None or self._tag is None else self._tag(job)
        shown = [tag + last_state(line) for line in lines]
        with self._lock:
            self._lines += shown
            self._size += sum(map(len, shown)) + len(shown)

    def settle(self) -> None:
        """Schedule the display of added lines; if there are many, write them now."""
        if self._size > MAX_CHARACTERS:
            self._write_out()
        else:
            self._wake()

    def finish(self, job: object = None) -> None:
        """Add the unfinished lines of a job, or of all jobs, as they are."""
        if not self._begun:
            return
        with self._lock:
            for key in [key for key in self._begun if job is None or key[0] is job]:
                self.put([self._begun.pop(key)], key[0])

    def take(self) -> list[str]:
        """Return and drop the waiting lines."""
        with self._lock:
            lines, self._lines, self._size = self._lines, [], 0
        return lines

    def take_begun(self) -> str:
        """Return and drop the unfinished line of the caller, such as a prompt."""
        with self._lock:
            return self._begun.pop((_writer(), threading.get_ident()), "")

    # ---- streams

    def replace(self, outputs: Outputs | None = None) -> None:
        """Replace the standard streams that are terminals.

        Args:
            outputs: makes descriptors for the output of other processes; None if the system has none.

        """
        self.outputs = outputs
        self._owner = os.getpid()
        for name in ("stdout", "stderr"):
            if is_terminal(getattr(sys, name)):
                self.replace_one(name)

    def replace_one(self, name: str) -> None:
        """Replace a standard stream."""
        self._owner = os.getpid()
        stream = getattr(sys, name)
        replacement = BufferedStream(self, stream)
        setattr(sys, name, replacement)
        self._replaced.append((name, stream, replacement))
        self._replace_in_handlers(stream, replacement)

    def _replace_in_handlers(self, stream: TextIO, replacement: BufferedStream) -> None:
        for handler in _handlers():
            if handler.stream is stream:
                handler.setStream(replacement)
                self._handlers.append((handler, stream, replacement))

    def restore(self) -> None:
        """Restore the streams, unless they were replaced again since, and add their unfinished lines."""
        for handler, stream, replacement in self._handlers:
            if handler.stream is replacement:
                handler.setStream(stream)
        for name, stream, replacement in self._replaced:
            if getattr(sys, name) is replacement:
                setattr(sys, name, stream)
        self._replaced, self._handlers = [], []
        self._owner = self.outputs = None
        self.finish()


class BufferedStream(StreamProxy):
    """A stream that prints above the picture while there is one, and to the real stream afterwards."""

    def __init__(self, above: OutputBuffer, real: TextIO) -> None:
        """Replace `real`."""
        super().__init__(real)
        self._above: Final = above

    def write(self, text: str, /) -> int:
        """Collect the lines that `text` completes; raise the errors of the real stream."""
        if not self._above.is_open:
            return self._real.write(text)
        if not text.isascii():
            text = text.encode(self.encoding, self.errors or "strict").decode(self.encoding, "replace")
        self._above.write(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing while there is a picture: lines appear with the next one."""
        if not self._above.is_open:
            self._real.flush()

    @property
    def has_picture(self) -> bool:
        """Whether there is a picture on the real stream; its descriptor must not be written to then."""
        return self._above.is_open

    def open_output(self) -> Output | None:
        """Return a descriptor for another process's output; None if the system has none."""
        return self._above.outputs.open() if self._above.is_open and self._above.outputs is not None else None

    def writable(self) -> bool:
        """Return True: the stream takes text."""
        return True


def split(text: str) -> tuple[list[str], str]:
    """Split a text into whole lines and the unfinished rest; a line that is too long is broken."""
    *lines, begun = text.split("\n")
    if len(begun) > LONGEST:
        if "\r" in begun[:-1]:  # overwritten text is never seen
            begun = last_state(begun) + "\r" * begun.endswith("\r")
        if len(begun) > LONGEST:
            lines, begun = [*lines, begun], ""
    return lines, begun


def last_state(line: str) -> str:
    """Return what a terminal shows of a line with carriage returns, which overwrite it."""
    return line.rstrip("\r").rpartition("\r")[2] if "\r" in line else line


def _writer() -> AnyJob | None:
    try:
        return current_job()
    except RuntimeError:
        return None


def _nothing() -> None:
    pass


def _handlers() -> Iterator[logging.StreamHandler[Any]]:
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in logger.handlers if isinstance(logger, logging.Logger) else ():
            if isinstance(handler, logging.StreamHandler):
                yield handler
