"""Where the output of a command goes that passes through this program: kept, cut into lines, or written on."""

from __future__ import annotations

import codecs
import io
import os
import tempfile
import weakref
from collections.abc import Callable
from typing import Any, BinaryIO, Final, Protocol

SPOOL_LIMIT: Final = 1 << 20
"""Bytes of one stream that are kept in memory; with more of them it goes to disk. Two hundred commands take 200 MB."""
LINE_LIMIT: Final = 1 << 16
"""Bytes after which a line is handed over although it has not ended."""


class Sink(Protocol):
    """Something that takes the output of a command in pieces."""

    def write(self, data: bytes) -> object:
        """Take the next piece."""
        ...

    def finish(self) -> object:
        """Take note that there is no more."""
        ...


class Spool:
    """Captured output on disk, in a nameless file that is gone with this object."""

    __slots__ = ("__weakref__", "_descriptor", "_size")

    def __init__(self) -> None:
        """Make an empty one, in the directory for temporary files."""
        with tempfile.TemporaryFile(buffering=0) as file:
            self._descriptor: Final = os.dup(file.fileno())
        self._size = 0
        weakref.finalize(self, os.close, self._descriptor)

    def write(self, data: bytes | bytearray) -> None:
        """Append."""
        view = memoryview(data)
        while view:
            written = os.write(self._descriptor, view)
            self._size += written
            view = view[written:]

    def read(self) -> bytes:
        """Return all of it."""
        with self.open() as file:
            return file.read()

    def reopen(self) -> int:
        """Return a new descriptor that reads it from the beginning, where the system has a name for one."""
        return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)

    def read_at(self, size: int, at: int) -> bytes:
        """Return at most `size` bytes from position `at` on."""
        return os.pread(self._descriptor, size, at)

    def open(self) -> BinaryIO:
        """Return a file that reads it from the beginning."""
        return io.BufferedReader(SpoolReader(self))

    def __len__(self) -> int:
        return self._size

    def __reduce__(self) -> Any:
        """Have itself copied and sent to other processes as what is in it: a descriptor is of no use there."""
        return bytes, (self.read(),)


class SpoolReader(io.RawIOBase):
    """One reader of a spool, with a position of its own."""

    def __init__(self, spool: Spool) -> None:
        """Begin at the beginning."""
        self._spool = spool
        self._position = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that its position can be changed."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read as much as fits, and is there."""
        data = self._spool.read_at(len(buffer), self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position and return it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: len(self._spool)}[whence]
        self._position = max(0, start + offset)
        return self._position


class Capture:
    """Keeps all: in memory, and on disk from `SPOOL_LIMIT` on."""

    __slots__ = ("_data", "_spool")

    def __init__(self) -> None:
        """Begin with nothing."""
        self._data = bytearray()
        self._spool: Spool | None = None

    def write(self, data: bytes) -> None:
        """Keep one more piece."""
        if self._spool is None and len(self._data) + len(data) > SPOOL_LIMIT:
            self._spool = Spool()
            self._spool.write(self._data)
            self._data.clear()
        if self._spool is None:
            self._data += data
        else:
            self._spool.write(data)

    def finish(self) -> None:
        """Nothing is left to do."""

    def kept(self) -> bytes | Spool:
        """Return what was kept."""
        return bytes(self._data) if self._spool is None else self._spool


class Lines:
    r"""Hands over line by line, as text, without its end; bytes that are no UTF-8 are shown as \\xNN."""

    __slots__ = ("_rest", "_take")

    def __init__(self, take: Callable[[str], object]) -> None:
        """Have `take` called for each line."""
        self._take: Final = take
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Hand over the lines that are complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._hand_over(line)
        while len(self._rest) > LINE_LIMIT:
            line, self._rest = self._rest[:LINE_LIMIT], self._rest[LINE_LIMIT:]
            self._hand_over(line)

    def finish(self) -> None:
        """Hand over what has no end of line."""
        if self._rest:
            line, self._rest = self._rest, b""
            self._hand_over(line)

    def _hand_over(self, line: bytes) -> None:
        self._take(line.removesuffix(b"\r").decode(errors="backslashreplace"))


class Onwards:
    """Writes to an object with `write`, of text or of bytes, that has no descriptor."""

    __slots__ = ("_decoder", "_file")

    def __init__(self, file: Any) -> None:
        """Find out what it takes."""
        self._file: Final = file
        binary = isinstance(file, (io.RawIOBase, io.BufferedIOBase)) or "b" in str(getattr(file, "mode", ""))
        self._decoder: Final = None if binary else codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, data: bytes) -> None:
        """Write one piece on."""
        self._file.write(data if self._decoder is None else self._decoder.decode(data))

    def finish(self) -> None:
        """Write what is left of a character, and see to it that it is seen."""
        if self._decoder is not None and (rest := self._decoder.decode(b"", final=True)):
            self._file.write(rest)
        flush = getattr(self._file, "flush", None)
        if flush is not None:
            flush()
