"""What jobs print while a monitor draws: collected, to be written above the picture together with the next one.

A picture for each line that somebody prints would cost more than the lines. Nobody can print faster than the terminal
takes it for long, though: whoever prints when `MOST` characters wait writes them all out.

In place of standard output and error, and of the same streams in handlers of `logging`, which keep the one that they
were made with. What goes around them (a descriptor that a child process has inherited, `sys.stdout.buffer`) ends up in
the middle of the picture; commands ask `has_picture`, and do not.
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
        write_out: called when there are too many; it must take them.

    """

    def __init__(self, wake: Callable[[], None], write_out: Callable[[], None]) -> None:
        self._wake: Final = wake
        self._write_out: Final = write_out
        self._lock: Final = threading.Lock()
        self._lines: list[str] = []
        self._size = 0
        self._replaced: list[tuple[str, TextIO, Replacement]] = []
        self._handlers: list[tuple[logging.StreamHandler[Any], TextIO, Replacement]] = []
        self._owner: int | None = None  # the process that draws; one that it has forked has no thread for that

    @property
    def is_open(self) -> bool:
        """Whether there is a picture for lines to go above."""
        return self._owner == os.getpid()

    def add(self, lines: list[str]) -> None:
        """Take some lines."""
        with self._lock:
            self._lines += lines
            self._size += sum(map(len, lines)) + len(lines)
            is_too_much = self._size > MOST
        if is_too_much:
            self._write_out()
        else:
            self._wake()

    def take(self) -> list[str]:
        """Return the lines that wait, which then wait no more."""
        with self._lock:
            lines, self._lines, self._size = self._lines, [], 0
        return lines

    def replace(self) -> None:
        """Put replacements in the place of those standard streams that are terminals."""
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
        """Put the streams back, and take unfinished lines; where they were replaced again since, that stays."""
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
    """A stream whose lines go above the picture, as long as there is one; and to the real stream afterwards."""

    def __init__(self, above: Above, real: TextIO) -> None:
        """Stand in the place of `real`."""
        self._above: Final = above
        self._real: Final = real
        self._begun: Final[dict[int, str]] = {}  # the unfinished line of each thread

    def write(self, text: str, /) -> int:
        """Collect the lines that `text` completes; what the real stream would refuse is refused here."""
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
        """Do nothing while there is a picture: lines show with the next one."""
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
        """Whether something is drawn on the real stream, so that its descriptor had better be left alone."""
        return self._above.is_open

    def isatty(self) -> bool:
        """Tell that what is printed may have colours."""
        return self._real.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the real stream."""
        return self._real.fileno()

    def writable(self) -> bool:
        """Tell that it takes text."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the real stream."""
        return self._real.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """What the real stream does with what it can't encode."""
        return self._real.errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _last_state(line: str) -> str:
    """Return what a terminal would show of a line in which a carriage return begins anew."""
    return line.rstrip("\r").rpartition("\r")[2]


def is_terminal(stream: Any) -> bool:
    """Tell whether a stream is a terminal that nobody draws on yet."""
    if stream is None or isinstance(stream, Replacement):
        return False
    with contextlib.suppress(Exception):  # closed, or no real stream
        return bool(stream.isatty())
    return False


def _handlers() -> Iterator[logging.StreamHandler[Any]]:
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in logger.handlers if isinstance(logger, logging.Logger) else ():
            if isinstance(handler, logging.StreamHandler):
                yield handler
