"""The output of the commands: each one's together, in any order or in that of the arguments, tagged if so wished."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, Final

import anyio

from ._backlog import Backlog, Place

PIECE: Final = 1 << 16
PIPE_PIECE: Final = select.PIPE_BUF
"""Bytes that can be written to a pipe which poll(2) calls writable without having to wait."""


class Outlet:
    """One of our own standard streams, written to without holding up the event loop where its reader is slow."""

    def __init__(self, name: str) -> None:
        """Find its descriptor; under a test it may have none."""
        self._stream: Final[Any] = getattr(sys, name)
        self._descriptor: Final = _descriptor(self._stream)
        self.is_terminal: Final = self._descriptor is not None and os.isatty(self._descriptor)
        self._waits: Final = self._descriptor is not None and not stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    async def write(self, data: bytes) -> None:
        """Write all of it, waiting where the reader is slow.

        Raises:
            OSError: it takes no more.

        """
        if self._descriptor is None or not self._waits:
            self.write_now(data)
            return
        for start in range(0, len(data), PIPE_PIECE):
            if not writable(self._descriptor):
                await anyio.wait_writable(self._descriptor)
            self.write_now(data[start : start + PIPE_PIECE])

    def write_now(self, data: bytes) -> None:
        """Write all of it.

        Raises:
            OSError: it takes no more.

        """
        if self._stream is None:  # the caller has closed it
            return
        self._stream.flush()
        if self._descriptor is None:
            self._stream.buffer.write(data)
            return
        while data:
            data = data[os.write(self._descriptor, data) :]


def writable(descriptor: int) -> bool:
    """Tell whether a write would not have to wait."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


def _descriptor(stream: Any) -> int | None:
    with contextlib.suppress(OSError, AttributeError, ValueError):
        return int(stream.fileno())
    return None


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """Return what a file has from here on, in pieces."""
    return iter(lambda: file.read(PIECE), b"")


def tagged(pieces: Iterable[bytes], tag: bytes) -> Iterator[bytes]:
    r"""Return the same with a tag before each line.

    Example:
        >>> b"".join(tagged([b"a\n\nb", b"c\n"], b"1\t"))
        b'1\ta\n1\t\n1\tbc\n'

    """
    begins = True
    for piece in pieces:
        yield (tag if begins else b"") + piece[:-1].replace(b"\n", b"\n" + tag) + piece[-1:]
        begins = piece.endswith(b"\n")


def whole_lines(output: Iterable[tuple[Outlet, bytes]]) -> Iterator[tuple[Outlet, bytes]]:
    """Return the same with an end to the last line, if that is on a terminal and has none."""
    unfinished: Outlet | None = None
    for outlet, piece in output:
        yield outlet, piece
        if outlet.is_terminal:
            unfinished = None if piece.endswith(b"\n") else outlet
    if unfinished is not None:
        yield unfinished, b"\n"


Aside = Callable[[], AbstractContextManager[bool]]
"""What is done around each print; it says whether something is drawn below, over a line that has no end."""


class Printer:
    """Prints what commands have written, one after the other.

    Args:
        in_order: whether outputs wait for those of the commands before them.
        aside: how a progress bar gives way.

    """

    def __init__(self, *, in_order: bool, aside: Aside) -> None:
        self._outlets: Final = (Outlet("stdout"), Outlet("stderr"))
        self._in_order: Final = in_order
        self._aside: Final = aside
        self._lock: Final = anyio.Lock()
        self._backlog: Final = Backlog()
        self._waiting: Final[dict[int, tuple[bytes | None, Place, Place]]] = {}
        self._next = 0

    async def print(self, number: int, outputs: tuple[BinaryIO, BinaryIO], tag: bytes | None) -> None:
        """Print what a command has written, or keep it until its turn comes.

        Args:
            number: of the command, from 0, without gaps.
            outputs: its standard output, and its standard error.
            tag: what stands before each line, if anything.

        Raises:
            OSError: a stream takes no more, or a temporary file.

        """
        if not self._in_order:
            async with self._lock:
                await self._write(self._cut(map(pieces, outputs), tag))
            return
        stdout, stderr = map(self._backlog.keep, outputs)
        self._waiting[number] = (tag, stdout, stderr)
        async with self._lock:
            while self._next in self._waiting:
                await self._write(self._kept(self._next))
                self._next += 1

    def flush(self) -> None:
        """Print what waits for commands that will not end any more; the event loop has gone."""
        for number in sorted(self._waiting):
            with self._aside() as is_drawn_over:
                kept = self._kept(number)
                for outlet, piece in whole_lines(kept) if is_drawn_over else kept:
                    outlet.write_now(piece)

    async def say(self, text: str) -> None:
        """Print a line of our own on the standard error."""
        async with self._lock:
            await self._write([(self._outlets[1], os.fsencode(f"trioflow batch: {text}\n"))])

    def _kept(self, number: int) -> Iterator[tuple[Outlet, bytes]]:
        tag, *places = self._waiting.pop(number)
        return self._cut(map(self._backlog.take, places), tag)

    def _cut(self, outputs: Iterable[Iterable[bytes]], tag: bytes | None) -> Iterator[tuple[Outlet, bytes]]:
        for outlet, output in zip(self._outlets, outputs, strict=True):
            for piece in output if tag is None else tagged(output, tag):
                yield outlet, piece

    async def _write(self, output: Iterable[tuple[Outlet, bytes]]) -> None:
        with self._aside() as is_drawn_over:
            for outlet, piece in whole_lines(output) if is_drawn_over else output:
                await outlet.write(piece)
