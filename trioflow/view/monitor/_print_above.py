"""What jobs print while a monitor draws: it is collected, and written above the picture together with the next one.

A new picture for each printed line would cost more than the lines. But nobody can print faster than the terminal for
long: when `MOST` characters are waiting, whoever prints next writes them all.

A `Replacement` takes the place of standard output and error, and of the same streams in `logging` handlers, which keep
the stream that they were made with. Output that bypasses it (by a descriptor that a child process has inherited, or by
`sys.stdout.buffer`) ends up in the middle of the picture; commands ask `has_picture` to avoid that.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, TextIO

MOST: Final = 1 << 16


class Above:
    """The lines that wait to be written above a picture.

    Args:
        wake: called when there are some.
        write_out: called when there are too many; it must take them all.

    """

    def __init__(self, wake: Callable[[], None], write_out: Callable[[], None]) -> None:
        self._wake: Final = wake
        self._write_out: Final = write_out
        self._lock: Final = threading.Lock()
        self._lines: list[str] = []
        self._size = 0
        self._replaced: list[tuple[str, TextIO, Replacement]] = []
        self._handlers: list[tuple[logging.StreamHandler[Any], TextIO, Replacement]] = []
        self._owner: int | None = None  # the process that draws; a fork of it has no thread to draw

    @property
    def is_open(self) -> bool:
        """Whether there is a picture for lines to go above."""
        return self._owner == os.getpid()

    def add(self, lines: list[str]) -> None:
        """Add some lines."""
        with self._lock:
            self._lines += lines
            self._size += sum(map(len, lines)) + len(lines)
            is_too_much = self._size > MOST
        if is_too_much:
            self._write_out()
        else:
            self._wake()

    def take(self) -> list[str]:
        """Return the waiting lines, and forget them."""
        with self._lock:
            lines, self._lines, self._size = self._lines, [], 0
        return lines

    def replace(self) -> None:
        """Replace the standard streams that are terminals."""
        self._owner = os.getpid()
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if is_terminal(stream):
                replacement = Replacement(self, stream)
                setattr(sys, name, replacement)
                self._replaced.append((name, stream, replacement))
                self._replace_in_handlers(stream, replacement)

    def _replace_in_handlers(self, stream: TextIO, replacement: Replacement) -> None:
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
            replacement.finish()
        self._replaced, self._handlers = [], []
        self._owner = None


class Replacement(io.TextIOBase):
    """A stream whose lines go above the picture while there is one, and to the real stream afterwards."""

    def __init__(self, above: Above, real: TextIO) -> None:
        """Take the place of `real`."""
        self._above: Final = above
        self._real: Final = real
        self._begun: Final[dict[int, str]] = {}  # the unfinished line of each thread

    def write(self, text: str, /) -> int:
        """Collect the lines that `text` completes; whatever the real stream would refuse is refused here."""
        if not self._above.is_open:
            return self._real.write(text)
        if not text.isascii():
            text = text.encode(self.encoding, self.errors or "strict").decode(self.encoding, "replace")
        thread = threading.get_ident()
        *lines, begun = (self._begun.pop(thread, "") + text).split("\n")
        if begun:
            self._begun[thread] = begun
        if lines:
            self._above.add([_last_state(line) for line in lines])
        return len(text)

    def flush(self) -> None:
        """Do nothing while there is a picture: lines appear with the next one."""
        if not self._above.is_open:
            self._real.flush()

    def finish(self) -> None:
        """Take the unfinished lines as they are."""
        lines = [_last_state(line) for line in self._begun.values()]
        self._begun.clear()
        if lines:
            self._above.add(lines)

    @property
    def has_picture(self) -> bool:
        """Whether there is a picture on the real stream, so that nothing should be written to its descriptor."""
        return self._above.is_open

    def isatty(self) -> bool:
        """Return whether the real stream is a terminal, so that what is printed may have colours."""
        return self._real.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the real stream."""
        return self._real.fileno()

    def writable(self) -> bool:
        """Return that it takes text."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the real stream."""
        return self._real.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """What the real stream does with characters that it cannot encode."""
        return self._real.errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _last_state(line: str) -> str:
    """Return what a terminal would show of a line with carriage returns, which start the line again."""
    return line.rstrip("\r").rpartition("\r")[2]


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal on which no monitor draws yet."""
    if stream is None or isinstance(stream, Replacement):
        return False
    with contextlib.suppress(Exception):  # closed, or not really a stream
        return bool(stream.isatty())
    return False


def _handlers() -> Iterator[logging.StreamHandler[Any]]:
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in logger.handlers if isinstance(logger, logging.Logger) else ():
            if isinstance(handler, logging.StreamHandler):
                yield handler
