"""Output that waits for its turn: a limited part of it in memory, the rest in one file without a name."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from typing import BinaryIO, Final

IN_MEMORY: Final = 16 << 20
"""Bytes, for all commands together."""
PIECE: Final = 1 << 16


class Backlog:
    """Keeps outputs until they are taken, in any order.

    Example:
        >>> import io
        >>> backlog = Backlog(in_memory=3)
        >>> places = [backlog.keep(io.BytesIO(text)) for text in (b"abc", b"defg")]
        >>> [b"".join(backlog.take(place)) for place in reversed(places)]
        [b'defg', b'abc']

    """

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        """Start empty."""
        self._in_memory: Final = in_memory
        self._held = 0  # bytes in memory
        self._kept_on_disk = 0  # outputs in the file
        self._descriptor: int | None = None
        self._end = 0  # of the file

    def keep(self, output: BinaryIO) -> Place:
        """Read a file from its current position to its end, keep that, and return where it is kept.

        Raises:
            OSError: the disk is full.

        """
        data = output.read(max(0, self._in_memory - self._held) + 1)
        if self._held + len(data) <= self._in_memory:
            self._held += len(data)
            return data
        start = self._end
        while data:
            self._append(data)
            data = output.read(PIECE)
        self._kept_on_disk += 1
        return range(start, self._end)

    def _append(self, data: bytes) -> None:
        if self._descriptor is None:
            with tempfile.TemporaryFile(buffering=0) as file:
                self._descriptor = os.dup(file.fileno())
            weakref.finalize(self, os.close, self._descriptor)
        while data:
            written = os.pwrite(self._descriptor, data, self._end)
            self._end += written
            data = data[written:]

    def take(self, place: Place) -> Iterator[bytes]:
        """Yield what is kept there, in pieces, and free its space."""
        if isinstance(place, bytes):
            self._held -= len(place)
            if place:  # an empty piece would get a tag, as if it began a line
                yield place
            return
        assert self._descriptor is not None
        for start in place[::PIECE]:
            yield os.pread(self._descriptor, min(PIECE, place.stop - start), start)
        self._kept_on_disk -= 1
        if not self._kept_on_disk:
            os.truncate(self._descriptor, 0)
            self._end = 0


Place = bytes | range
