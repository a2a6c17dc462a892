"""What is printed while a monitor draws: it is collected, and written above the picture together with the next one.

A new picture for each printed line would cost more than the lines. But nobody can print faster than the terminal for
long: when `MOST` characters are waiting, whoever prints next writes them all.

A `BufferedStream` takes the place of standard output and error, and of the same streams in `logging` handlers, which
keep the stream that they were made with. Commands ask it for `has_picture`, and pass their lines on to it: the caller
tells it whose they are. `_fd_capture` is for output that bypasses it, by a descriptor.
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

MOST: Final = 1 << 16
LONGEST: Final = 1 << 16
"""Characters after which a line is shown although it has not ended."""


class Output(Protocol):
    """A way for the output of another process, whose lines go above the picture."""

    descriptor: int
    """To be written to. Whoever has asked for it closes it when the process has it."""

    def begin(self, job: AnyJob) -> None:
        """Note that what comes from now on is the output of this job."""


class Outputs(Protocol):
    """What makes such ways."""

    def open(self) -> Output:
        """Return a new one."""
        ...


class OutputBuffer:
    """The lines that wait to be written above a picture.

    Args:
        wake: called when there are some.
        write_out: called when there are too many; it must take them all.
        tag: returns what stands in front of the lines of a job; None for nothing.

    """

    def __init__(
        self, wake: Callable[[], None], write_out: Callable[[], None], tag: Callable[[AnyJob], str] | None = None
    ) -> None:
        self._wake: Final = wake
        self._write_out: Final = write_out
        self._tag: Final = tag
        # Of one thread more than once, because a signal's handler may print while its thread is here.
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
        """Add the lines that `text` completes, of the job that makes the call."""
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
        """Add some lines of a job, if it is known; `settle` is to be called soon."""
        tag = "" if job is None or self._tag is None else self._tag(job)
        shown = [tag + last_state(line) for line in lines]
        with self._lock:
            self._lines += shown
            self._size += sum(map(len, shown)) + len(shown)

    def settle(self) -> None:
        """Let lines that have been added be shown soon; if there are many, now."""
        if self._size > MOST:
            self._write_out()
        else:
            self._wake()

    def finish(self, job: object = None) -> None:
        """Add the unfinished lines of a job, or all of them, as they are."""
        if not self._begun:
            return
        with self._lock:
            for key in [key for key in self._begun if job is None or key[0] is job]:
                self.put([self._begun.pop(key)], key[0])

    def take(self) -> list[str]:
        """Return the waiting lines, and forget them."""
        with self._lock:
            lines, self._lines, self._size = self._lines, [], 0
        return lines

    def take_begun(self) -> str:
        """Return the unfinished line of the caller, such as a question, and forget it."""
        with self._lock:
            return self._begun.pop((_writer(), threading.get_ident()), "")

    # ---- streams

    def replace(self, outputs: Outputs | None = None) -> None:
        """Replace the standard streams that are terminals.

        Args:
            outputs: makes ways for the output of other processes; None if there are none.

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
        """Put the streams back, unless they were replaced again since, and take their unfinished lines."""
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
    """A stream whose lines go above the picture while there is one, and to the real stream afterwards."""

    def __init__(self, above: OutputBuffer, real: TextIO) -> None:
        """Take the place of `real`."""
        super().__init__(real)
        self._above: Final = above

    def write(self, text: str, /) -> int:
        """Collect the lines that `text` completes; whatever the real stream would refuse is refused here."""
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
        """Whether there is a picture on the real stream, so that nothing should be written to its descriptor."""
        return self._above.is_open

    def open_output(self) -> Output | None:
        """Return a way for the output of another process; None if there is none."""
        return self._above.outputs.open() if self._above.is_open and self._above.outputs is not None else None

    def writable(self) -> bool:
        """Return that it takes text."""
        return True


def split(text: str) -> tuple[list[str], str]:
    """Return the whole lines of a text, and the one that it begins; one that is too long ends there."""
    *lines, begun = text.split("\n")
    if len(begun) > LONGEST:
        if "\r" in begun[:-1]:  # what has been written over will never be seen
            begun = last_state(begun) + "\r" * begun.endswith("\r")
        if len(begun) > LONGEST:
            lines, begun = [*lines, begun], ""
    return lines, begun


def last_state(line: str) -> str:
    """Return what a terminal would show of a line with carriage returns, which start the line again."""
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
