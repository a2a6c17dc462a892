"""Sinks for output that passes through this program: they capture it, split it into lines, or write it to a file."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, BinaryIO, Final, Protocol

from ... import _posix as posix
from ...abc import printable

SPOOL_LIMIT: Final = 1 << 20
"""The maximum size, in bytes, of captured output in memory; larger output goes to disk."""
LINE_LIMIT: Final = 1 << 16
"""The size, in bytes, above which an incomplete line is forwarded in pieces."""


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all data, and block while a pipe is full, even if another program has made the descriptor non-blocking."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            poll = posix.poll()  # select() takes no descriptor above 1,023
            poll.register(descriptor, posix.POLLOUT)
            poll.poll()


class Sink(Protocol):
    """A receiver of a command's output."""

    def write(self, data: bytes) -> object:
        """Process the next piece of output."""
        ...

    def finish(self) -> object:
        """Flush buffers and free resources at the end of the output."""
        ...


class Spool:
    """Captured output on disk, in an unnamed temporary file that is deleted with this object."""

    __slots__ = ("__weakref__", "_descriptor", "_size")

    def __init__(self) -> None:
        with tempfile.TemporaryFile(buffering=0) as file:
            self._descriptor: Final = os.dup(file.fileno())
        self._size = 0
        weakref.finalize(self, os.close, self._descriptor)

    def write(self, data: bytes | bytearray) -> None:
        """Append data."""
        write_all(self._descriptor, data)
        self._size += len(data)

    def read(self) -> bytes:
        """Return the whole output."""
        with self.open() as file:
            return file.read()

    def reopen(self) -> int:
        """Open another descriptor, positioned at the start of the file; this needs /proc."""
        return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY)

    def read_at(self, size: int, at: int) -> bytes:
        """Return up to `size` bytes from position `at`."""
        piece: bytes = posix.pread(self._descriptor, size, at)
        return piece

    def open(self) -> BinaryIO:
        """Open a file object at the start of the output."""
        return io.BufferedReader(SpoolReader(self))

    def __len__(self) -> int:
        return self._size

    def __reduce__(self) -> Any:
        """Pickle and copy the contents as bytes, because a descriptor is valid only in its own process."""
        return bytes, (self.read(),)


class SpoolReader(io.RawIOBase):
    """A raw stream that reads a spool, with a position of its own."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes into a buffer, and return their number."""
        data = self._spool.read_at(len(buffer), self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position, and return the new one."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self._spool)}[whence]
        self._position = max(0, start + offset)
        return self._position


class Capture:
    """A sink that stores the whole output, in memory up to `SPOOL_LIMIT` bytes, otherwise on disk."""

    __slots__ = ("_data", "_spool")

    def __init__(self) -> None:
        self._data = bytearray()
        self._spool: Spool | None = None

    def write(self, data: bytes) -> None:
        """Append data; move all data to disk when it exceeds the limit."""
        if self._spool is None and len(self._data) + len(data) > SPOOL_LIMIT:
            self._spool = Spool()
            self._spool.write(self._data)
            self._data.clear()
        if self._spool is None:
            self._data += data
        else:
            self._spool.write(data)

    def finish(self) -> None:
        """Do nothing: no cleanup is needed."""

    def captured(self) -> bytes | Spool:
        """Return the whole output, as bytes or as a spool on disk."""
        return bytes(self._data) if self._spool is None else self._spool


class LineSink:
    r"""A sink that calls a function with each line as text, without its line ending; invalid UTF-8 becomes \\xNN."""

    __slots__ = ("_rest", "_take")

    def __init__(self, take: Callable[[str], object]) -> None:
        self._take: Final = take
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Forward the lines that are complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._forward(line)
        while len(self._rest) > LINE_LIMIT:
            line, self._rest = self._rest[:LINE_LIMIT], self._rest[LINE_LIMIT:]
            self._forward(line)

    def finish(self) -> None:
        """Forward the last line if it does not end with a newline."""
        if self._rest:
            line, self._rest = self._rest, b""
            self._forward(line)

    def _forward(self, line: bytes) -> None:
        self._take(line.removesuffix(b"\r").decode(errors="backslashreplace"))


class FileSink:
    """A sink that writes to a text or binary file object, and flushes it at the end; if `at_once`, after each write."""

    __slots__ = ("_at_once", "_decoder", "_file", "_flush")

    def __init__(self, file: Any, *, at_once: bool = False) -> None:
        self._file: Final = file
        self._flush: Final = getattr(file, "flush", None) or _no_flush
        self._at_once: Final = at_once
        binary = isinstance(file, (io.RawIOBase, io.BufferedIOBase)) or "b" in str(getattr(file, "mode", ""))
        self._decoder: Final = None if binary else codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, data: bytes) -> None:
        """Write data to the file."""
        self._file.write(data if self._decoder is None else self._decoder.decode(data))
        if self._at_once:
            self._flush()

    def finish(self) -> None:
        """Write an incomplete last character, escaped, and flush the file."""
        if self._decoder is not None and (rest := self._decoder.decode(b"", final=True)):
            self._file.write(rest)
        self._flush()


def _no_flush() -> None:
    """Do nothing: the file has no buffer."""


class DescriptorSink:
    """A sink that writes to a descriptor, and closes the descriptor when it is finished or garbage-collected."""

    __slots__ = ("__weakref__", "_close", "_descriptor")

    def __init__(self, descriptor: int) -> None:
        self._descriptor: Final = descriptor
        self._close: Final = weakref.finalize(self, os.close, self._descriptor)

    def write(self, data: bytes) -> None:
        """Write data, and block while the pipe is full."""
        write_all(self._descriptor, data)

    def finish(self) -> None:
        """Close the descriptor; a second call does nothing."""
        self._close()


class ActivitySink:
    """A sink that calls a function for each piece of output, which an `idle_timeout` counts as a sign of life."""

    __slots__ = ("_alive",)

    def __init__(self, alive: Callable[[], None]) -> None:
        self._alive: Final = alive

    def write(self, data: bytes) -> None:
        """Call the function."""
        self._alive()

    def finish(self) -> None:
        """Do nothing: no cleanup is needed."""


def tag_maker(template: bool | str, name: str, values: Mapping[str, str]) -> Callable[[], str] | None:
    """Return a function that makes the tag for each line; None for no tags.

    Args:
        template: the user's `tag=`: True for the name, or a template, in which `{time}` is replaced by the time of the
            line, and other names in braces by their values.
        name: the name of the job or node; control characters in it are escaped.
        values: the values for names in braces; control characters in them are escaped.

    """

    def value(match: re.Match[str]) -> str:
        if match["name"] == "time" and "time" not in values:
            return datetime.now().astimezone().strftime(match["format"] or TIME)
        return match[0] if match["format"] or match["name"] not in values else printable(values[match["name"]])

    if not isinstance(template, str):
        return (lambda: f"{printable(name)}: ") if template else None
    return (lambda: _IN_BRACES.sub(value, template)) if template else None


TIME: Final = "%H:%M:%S"
"""The default format of `{time}` in a tag."""
_IN_BRACES: Final = re.compile(r"\{(?P<name>\w+)(?::(?P<format>[^{}]+))?\}")


def line_sinks(name: str, on_line: Callable[[str], object] | None, tag: Callable[[], str] | None) -> list[Sink]:
    """Return the sinks that process a stream by lines.

    Args:
        name: "stdout" or "stderr".
        on_line: a function to call with each line; None for none.
        tag: a function that returns the prefix with which each line is printed; None to print nothing.

    """
    readers = [] if on_line is None else [on_line]
    if tag is not None:
        readers.append(lambda line: print(tag() + line, file=getattr(sys, name)))
    return [LineSink(read) for read in readers]
