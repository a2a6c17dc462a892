"""Sinks for output that passes through this program: they capture it, split it into lines, or write it to a file."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import re
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from ... import _posix as posix
from ...abc import printable
from ..posix._files import (
    explain_temporary_file,
    may_wait_for_writer,
    open_temporary_file,
    write_all,
)

SPOOL_LIMIT_BYTES: Final = 1 << 20
"""The maximum size, in bytes, of captured output that is kept in memory. Larger output is kept on disk."""
MAX_TAIL_BYTES: Final = 2000
MAX_KEPT_TAIL_BYTES: Final = 4000
"""The bytes of the end of an output that a `CommandError` shows, and that a `TailSink` keeps."""
MAX_LINE_BYTES: Final = 1 << 24
"""The size, in bytes, of the longest line that is not cut into pieces of this size."""


class OutputSink(Protocol):
    """A receiver of a command's output."""

    def write(self, data: bytes) -> object:
        """Process the next piece of output."""

    def finish(self) -> object:
        """Flush buffers and free resources at the end of the output, if there are any."""
        return None


class OutputSpool:
    """Captured output on disk, in an unnamed temporary file that is deleted with this object."""

    def __init__(self, contents: str = "captured output") -> None:
        self._contents: Final = contents
        self._descriptor: Final = open_temporary_file(contents)
        self._size = 0
        weakref.finalize(self, os.close, self._descriptor)

    def write(self, data: bytes | bytearray) -> None:
        with explain_temporary_file(self._contents):
            # Over the part of an earlier write that has failed, as on a full disk.
            os.lseek(self._descriptor, self._size, os.SEEK_SET)
            write_all(self._descriptor, data)
        self._size += len(data)

    def read(self) -> bytes:
        with self.open() as file:
            return file.read()

    def reopen(self) -> int:
        """Return a new descriptor of the file, positioned at its start. This needs /proc."""
        return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY)

    def read_at(self, size: int, position: int) -> bytes:
        data: bytes = posix.pread(self._descriptor, size, position)
        return data

    def open(self) -> io.BufferedReader:
        return io.BufferedReader(SpoolReader(self), 1 << 16)

    def __len__(self) -> int:
        return self._size

    def __reduce__(self) -> Any:
        """Pickle and copy the contents as bytes, because a descriptor is valid only in its own process."""
        return bytes, (self.read(),)


class SpoolReader(io.RawIOBase):
    """A raw stream that reads a spool from its own position."""

    def __init__(self, spool: OutputSpool) -> None:
        self._spool = spool
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._spool.read_at(len(buffer), self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {
            os.SEEK_SET: 0,
            os.SEEK_CUR: self._position,
            os.SEEK_END: len(self._spool),
        }[whence]
        self._position = max(0, start + offset)
        return self._position


class CaptureSink(OutputSink):
    """A sink that stores the whole output, in memory up to `SPOOL_LIMIT_BYTES` bytes, otherwise on disk."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._spool: OutputSpool | None = None

    def write(self, data: bytes) -> None:
        if self._spool is None and len(self._buffer) + len(data) > SPOOL_LIMIT_BYTES:
            spool = OutputSpool()
            spool.write(self._buffer)
            # In this order, and the buffer stays as it is: another thread may ask for the end.
            self._spool = spool
            self._buffer = bytearray()
        if self._spool is None:
            self._buffer += data
        else:
            self._spool.write(data)

    def tail(self, size: int) -> bytes:
        """Return the end of the output so far. Any thread may call this."""
        buffer = self._buffer
        if (spool := self._spool) is None:
            return bytes(buffer[-size:])
        return spool.read_at(size, max(0, len(spool) - size))

    def output(self) -> bytes | OutputSpool:
        if self._spool is None:
            return bytes(self._buffer)
        return self._spool


class TailSink(OutputSink):
    """A sink that keeps the last `MAX_KEPT_TAIL_BYTES` bytes of the output."""

    def __init__(self) -> None:
        self._end = b""

    def write(self, data: bytes) -> None:
        self._end = (self._end + data)[-MAX_KEPT_TAIL_BYTES:]

    def tail(self, size: int) -> bytes:
        """Return the end of the output so far. Any thread may call this."""
        return self._end[-size:]


class OutputEnds(dict[str, TailSink]):
    """The ends of the outputs of a command that pass through this program, by stream. They stay when it has ended."""

    def tails(self, size: int) -> Iterator[tuple[str, bytes]]:
        """Yield the end of each stream. Any thread may call this."""
        for name, sink in list(self.items()):
            yield name, sink.tail(size)

    def forget(self, streams: Iterable[str]) -> None:
        """Forget the ends of streams that are elsewhere when the command has ended: in its result, or in a file."""
        for name in streams:
            self.pop(name, None)


class LineSink:
    r"""A sink that calls a function with each line of output as text, without the line ending.

    Bytes that are not valid UTF-8 become `\xNN`. A longer line than `MAX_LINE_BYTES` comes in pieces. The arguments of
    the function do not depend on how the output arrives.
    """

    def __init__(self, on_line: Callable[[str], object]) -> None:
        self._on_line: Final = on_line
        self._incomplete_line: Final = bytearray()

    def write(self, data: bytes) -> None:
        """Forward the complete lines, and store the incomplete last line."""
        *ends, rest = data.split(b"\n")
        for end in ends:
            self._add(end)
            self._forward()
        self._add(rest)

    def finish(self) -> None:
        if self._incomplete_line:
            self._forward()

    def _add(self, data: bytes) -> None:
        line = self._incomplete_line
        line += data
        while len(line) > MAX_LINE_BYTES:
            rest = line[MAX_LINE_BYTES:]
            del line[MAX_LINE_BYTES:]
            self._forward()
            line += rest

    def _forward(self) -> None:
        line = bytes(self._incomplete_line)
        self._incomplete_line.clear()
        self._on_line(line.removesuffix(b"\r").decode(errors="backslashreplace"))


class FileSink:
    """A sink that writes to a text or binary file object, and flushes it at the end or, if requested, at each write."""

    def __init__(self, file: Any, *, flush_each_write: bool = False) -> None:
        self._file: Final = file
        self._flush: Final = getattr(file, "flush", None) or (lambda: None)
        self._flushes_each_write: Final = flush_each_write
        is_binary = isinstance(file, (io.RawIOBase, io.BufferedIOBase)) or "b" in str(
            getattr(file, "mode", "")
        )
        decoder = None
        if not is_binary:
            decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._decoder: Final = decoder

    def write(self, data: bytes) -> None:
        if isinstance(self._file, io.RawIOBase):
            _write_all_to_stream(self._file, data)
        elif self._decoder is None:
            self._file.write(data)
        else:
            self._file.write(self._decoder.decode(data))
        if self._flushes_each_write:
            self._flush()

    def finish(self) -> None:
        """Write the bytes of an incomplete last character, escaped, and flush the file."""
        if self._decoder is not None:
            incomplete = self._decoder.decode(b"", final=True)
            if incomplete:
                self._file.write(incomplete)
        self._flush()


def _write_all_to_stream(stream: io.RawIOBase, data: bytes) -> None:
    """Write all data to a raw stream, which may take a part of it at each write.

    Raises:
        BlockingIOError: the stream is non-blocking and takes nothing now.

    """
    view = memoryview(data)
    while view:
        if (size := stream.write(view)) is None:
            raise BlockingIOError(
                errno.EAGAIN,
                f"{stream!r} is non-blocking and full: give a blocking one",
            )
        view = view[size:]


class DescriptorSink:
    """A sink that writes to a descriptor, and closes the descriptor when it is finished or garbage-collected."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: Final = descriptor
        self._close_once: Final = weakref.finalize(self, os.close, self._descriptor)

    def write(self, data: bytes) -> None:
        write_all(self._descriptor, data)

    def finish(self) -> None:
        self._close_once()


class ActivitySink(OutputSink):
    """A sink that calls a function whenever output arrives. The function restarts an `idle_timeout`."""

    def __init__(self, on_output: Callable[[], None]) -> None:
        self._on_output: Final = on_output

    def write(self, data: bytes) -> None:
        """Report that output has arrived. Its content is ignored."""
        self._on_output()


def stream_sink(file: Any, *, flush_each_write: bool = False) -> OutputSink:
    """Return the sink for an open file. If a monitor draws on its stream, the sink prints lines above the picture."""
    if not getattr(file, "has_picture", None):
        return FileSink(file, flush_each_write=flush_each_write)
    return LineSink(lambda line: file.write(_encodable(line, file) + "\n"))


def _encodable(text: str, file: Any) -> str:
    """Return a text with the characters escaped that the encoding of a file lacks."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def file_size(path: str | bytes | os.PathLike[Any]) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def file_tail(
    path: str | bytes | os.PathLike[Any], size: int, start: int = 0
) -> bytes | None:
    """Return up to `size` bytes from the end of a file, nothing of a pipe, and None if the file cannot be read.

    Bytes before position `start` are left out.
    """
    with contextlib.suppress(OSError), open_unless_pipe(path) as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - size))
        return file.read(size)
    return None


def open_unless_pipe(path: str | bytes | os.PathLike[Any]) -> io.BufferedReader:
    """Open a file for reading, or an empty one in place of a pipe.

    A program that writes to the pipe would start when it is opened here, and be killed by SIGPIPE when it is closed.

    Raises:
        OSError: the file cannot be read.

    """
    name = os.devnull if may_wait_for_writer(path) else path
    return open(name, "rb", opener=_open_at_once)


def _open_at_once(path: str, flags: int) -> int:
    # A command may have put a pipe there just now.
    return os.open(path, flags | posix.O_NONBLOCK)


def make_tag_function(
    template: bool | str, name: str, values: Mapping[str, str]
) -> Callable[[], str] | None:
    """Return a function that returns the tag for the next line, or None if lines have no tags.

    Args:
        template: the user's `tag=`: True to use the name as the tag, False for no tags, or a template. In a template, a
            name in braces is replaced by its value in `values`. If `values` has no `time`, `{time}` is replaced by the
            current time. Other names in braces are left unchanged.
        name: the name of the job or node. Control characters in the name are escaped.
        values: the values of names in braces. Control characters in the values are escaped.

    """

    def replacement(match: re.Match[str]) -> str:
        if match["name"] == "time" and "time" not in values:
            return datetime.now().astimezone().strftime(match["format"] or "%H:%M:%S")
        if match["format"] or match["name"] not in values:
            return match[0]
        return printable(values[match["name"]])

    if not template:
        return None
    if isinstance(template, str):
        return lambda: _PLACEHOLDER_PATTERN.sub(replacement, template)
    return lambda: f"{printable(name)}: "


_PLACEHOLDER_PATTERN: Final = re.compile(r"\{(?P<name>\w+)(?::(?P<format>[^{}]+))?\}")


def make_line_sinks(
    name: str, on_line: Callable[[str], object] | None, tag: Callable[[], str] | None
) -> list[OutputSink]:
    """Return the sinks that process a stream by lines.

    Args:
        name: "stdout" or "stderr".
        on_line: a function to call with each line, or None.
        tag: a function that returns the prefix of each printed line, or None to print nothing.

    """
    sinks: list[OutputSink] = []
    if on_line is not None:
        sinks = [LineSink(on_line)]
    if tag is not None:

        def print_line(line: str) -> None:
            file = getattr(sys, name)
            print(_encodable(tag() + line, file), file=file)

        sinks.append(LineSink(print_line))
    return sinks
