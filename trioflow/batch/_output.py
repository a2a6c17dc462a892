"""Output of the commands: printed whole or line by line, in any order or that of the arguments; or saved."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
import stat
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, Final

import anyio

from .. import _posix as posix
from ..jobs.command._output_sinks import write_all
from . import BatchError
from ._sources import is_ready

IN_MEMORY: Final = 16 << 20
"""Bytes of waiting output kept in memory, for all commands together."""
PIECE_BYTES: Final = 1 << 16
PIPE_PIECE: Final = posix.PIPE_BUF
"""The number of bytes that can be written without blocking to a pipe that poll(2) reports as writable."""


class StdStream:
    """One of this program's standard streams; a slow reader of it does not block the event loop."""

    def __init__(self, name: str) -> None:
        """Find the stream's descriptor; in a test it may have none."""
        self._stream: Final[Any] = getattr(sys, name)
        self._descriptor: Final[Any] = _descriptor(self._stream)
        self.is_terminal: Final = self._descriptor is not None and os.isatty(self._descriptor)
        self._waits: Final = self._descriptor is not None and not stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    async def until_writable(self) -> None:
        """Wait until `PIPE_PIECE` bytes can be written without blocking."""
        if self._waits and not is_ready(self._descriptor, posix.POLLOUT):
            await anyio.wait_writable(self._descriptor)

    def write_now(self, data: bytes) -> None:
        """Write all data, blocking if the reader is slow.

        Raises:
            OSError: the stream cannot be written.

        """
        if self._stream is None:  # the program was started without it
            return
        self._stream.flush()
        if self._descriptor is None:
            self._stream.buffer.write(data)
            return
        write_all(self._descriptor, data)


def _descriptor(stream: Any) -> int | None:
    with contextlib.suppress(OSError, AttributeError, ValueError):
        return int(stream.fileno())
    return None


def read_pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file from its current position to its end, in pieces."""
    return iter(lambda: file.read(PIECE_BYTES), b"")


def tag_lines(pieces: Iterable[bytes], tag: bytes) -> Iterator[bytes]:
    r"""Yield the pieces with a tag before each line.

    Example:
        >>> b"".join(tag_lines([b"a\n\nb", b"c\n"], b"1\t"))
        b'1\ta\n1\t\n1\tbc\n'

    """
    begins = True
    for piece in pieces:
        yield (tag if begins else b"") + piece[:-1].replace(b"\n", b"\n" + tag) + piece[-1:]
        begins = piece.endswith(b"\n")


Output = Iterator[tuple[StdStream, bytes]]


def complete_lines(output: Output) -> Output:
    """Yield the output, and complete an unfinished last line on a terminal."""
    unfinished: StdStream | None = None
    for outlet, piece in output:
        yield outlet, piece
        if outlet.is_terminal:
            unfinished = None if piece.endswith(b"\n") else outlet
    if unfinished is not None:
        yield unfinished, b"\n"


# ---- output that waits for its turn

Place = bytes | range
"""The location of an output in a backlog: in memory, or in its file."""


class Backlog:
    """A store for outputs until they are taken, in any order: some in memory, the rest in one nameless file.

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
        self._bytes_in_memory = 0  # bytes in memory
        self._kept_on_disk = 0  # outputs in the file
        self._descriptor: int | None = None
        self._end = 0  # the length of the file

    def keep(self, output: BinaryIO) -> Place:
        """Store a file from its current position to its end, and return the location.

        Raises:
            OSError: the disk is full.

        """
        data = output.read(max(0, self._in_memory - self._bytes_in_memory) + 1)
        if self._bytes_in_memory + len(data) <= self._in_memory:
            self._bytes_in_memory += len(data)
            return data
        start = self._end
        while data:
            self._append(data)
            data = output.read(PIECE_BYTES)
        self._kept_on_disk += 1
        return range(start, self._end)

    def _append(self, data: bytes) -> None:
        if self._descriptor is None:
            with tempfile.TemporaryFile(buffering=0) as file:
                self._descriptor = os.dup(file.fileno())
            weakref.finalize(self, os.close, self._descriptor)
        while data:
            written = posix.pwrite(self._descriptor, data, self._end)
            self._end += written
            data = data[written:]

    def take(self, place: Place) -> Iterator[bytes]:
        """Yield a stored output, in pieces, and free its space."""
        if isinstance(place, bytes):
            self._bytes_in_memory -= len(place)
            if place:  # an empty piece would get a tag, as if it began a line
                yield place
            return
        assert self._descriptor is not None
        for start in place[::PIECE_BYTES]:
            yield posix.pread(self._descriptor, min(PIECE_BYTES, place.stop - start), start)
        self._kept_on_disk -= 1
        if not self._kept_on_disk:
            os.truncate(self._descriptor, 0)
            self._end = 0


# ---- printing

Aside = Callable[[], AbstractContextManager[bool]]
"""A context manager around each print; it yields whether a progress bar would overwrite an unfinished last line."""


class Printer:
    """Prints the outputs of commands, one command after another.

    Args:
        in_order: whether outputs wait for those of the commands before them.
        aside: hides a progress bar during each print.

    """

    def __init__(self, *, in_order: bool, aside: Aside) -> None:
        self.next = 1  # the number of the next command to print, if in order
        self._outlets: Final = (StdStream("stdout"), StdStream("stderr"))
        self._prints_in_order: Final = in_order
        self._pause_bar: Final = aside
        self._lock: Final = anyio.Lock(fast_acquire=True)  # saves an iteration of the loop per command
        self._backlog: Final = Backlog()
        self._waiting: Final[dict[int, Output]] = {}
        self._running_output: Final[dict[int, list[tuple[StdStream, Place]]]] = {}  # output of running commands
        self._unwritten: Output = iter(())  # the rest of the current write

    def keep(self, number: int, before: bytes, outputs: tuple[BinaryIO, BinaryIO], tag: bytes | None) -> None:
        """Keep the output of a command until it is printed.

        Args:
            number: the number of the command, from 1, without gaps.
            before: printed first.
            outputs: its standard output, and its standard error.
            tag: the prefix of each line; None for none.

        Raises:
            OSError: a temporary file cannot be written.

        """
        if self._prints_in_order:  # waiting may take long, and would keep the files open
            kept: list[Iterator[bytes]] = [self._backlog.take(self._backlog.keep(output)) for output in outputs]
        else:
            kept = [read_pieces(output) for output in outputs]
        if before:
            kept[0] = itertools.chain([before], kept[0])
        self._waiting[number] = itertools.chain(self._take_early_output(number), self._split_into_pieces(kept, tag))

    def print_now(self, number: int, stream: int, data: bytes) -> None:
        """Print new output of a command, or keep it until its turn comes; this blocks if the reader is slow.

        Args:
            number: the number of the command.
            stream: 0 for the standard output, 1 for the standard error.
            data: whole lines.

        Raises:
            OSError: the stream cannot be written, or a temporary file.

        """
        if not data:
            return
        outlet = self._outlets[stream]
        if self._prints_in_order and number != self.next:
            place = self._backlog.keep(io.BytesIO(data))
            self._running_output.setdefault(number, []).append((outlet, place))
        else:
            self._write_now(iter([(outlet, data)]))

    async def print(self, number: int) -> None:
        """Print the output kept for a command, or leave it until its turn comes.

        Raises:
            OSError: a stream cannot be written.

        """
        async with self._lock:
            if not self._prints_in_order:
                await self._write(self._waiting.pop(number, iter(())))
            while self.next in self._waiting:
                await self._write(self._waiting.pop(self.next))
                self.next += 1
                self._write_now(self._take_early_output(self.next))  # the output so far of a running command

    def flush(self) -> None:
        """Print all output that is still kept; for use after the event loop has ended."""
        rest = (
            (self._take_early_output(number), self._waiting.get(number, ()))
            for number in sorted({*self._running_output, *self._waiting})
        )
        for output in (self._unwritten, *itertools.chain.from_iterable(rest)):
            self._write_now(iter(output))

    async def print_message(self, text: str) -> None:
        """Print a message of the batch itself on the standard error."""
        async with self._lock:
            await self._write(iter([(self._outlets[1], os.fsencode(f"trioflow batch: {text}\n"))]))

    def _split_into_pieces(self, outputs: Iterable[Iterable[bytes]], tag: bytes | None) -> Output:
        for outlet, output in zip(self._outlets, outputs, strict=True):
            for piece in output if tag is None else tag_lines(output, tag):
                yield outlet, piece

    def _take_early_output(self, number: int) -> Output:
        early = self._running_output.pop(number, ())
        return ((outlet, piece) for outlet, place in early for piece in self._backlog.take(place))

    def _write_now(self, output: Output) -> None:
        with self._pause_bar() as is_drawn_over:
            for outlet, piece in complete_lines(output) if is_drawn_over else output:
                outlet.write_now(piece)

    async def _write(self, output: Output) -> None:
        with self._pause_bar() as is_drawn_over:
            rest = complete_lines(output) if is_drawn_over else output
            for outlet, piece in rest:
                for start in range(0, len(piece), PIPE_PIECE):
                    self._unwritten = itertools.chain([(outlet, piece[start:])], rest)
                    await outlet.until_writable()
                    self._unwritten = iter(())
                    outlet.write_now(piece[start : start + PIPE_PIECE])


class TaggedLines(io.RawIOBase):
    r"""A stream for a command's output that passes on whole lines, with a tag before each; the last one at `flush`.

    Attributes:
        received: the number of bytes so far.

    Example:
        >>> lines = TaggedLines(print, b"1: ")
        >>> lines.write(b"a\nb"), lines.write(b"c"), lines.flush()
        b'1: a\n'
        b'1: bc'
        (3, 1, None)

    """

    def __init__(self, take: Callable[[bytes], object], tag: bytes | None) -> None:
        self._take: Final = take
        self._tag: Final = tag
        self._rest: list[bytes] = []
        self.received = 0

    def write(self, data: Any) -> int:
        """Take the next piece."""
        self.received += len(data)
        whole, newline, rest = bytes(data).rpartition(b"\n")
        if newline:
            self._pass_on(b"".join([*self._rest, whole, newline]))
            self._rest = []
        self._rest.append(rest)
        return len(data)

    def show(self, line: bytes) -> None:
        """Pass on a line that is not part of the command's output."""
        if line:
            self._pass_on(line)

    def flush(self) -> None:
        """Pass on a last line without an end."""
        rest, self._rest = b"".join(self._rest), []
        if rest:
            self._pass_on(rest)

    def _pass_on(self, data: bytes) -> None:
        self._take(data if self._tag is None else b"".join(tag_lines([data], self._tag)))


# ---- --results: saved in files, not printed

MAX_NAME_BYTES: Final = 255
"""The longest name of a file, in bytes, on all common file systems."""


def results_directory(directory: str, arguments: Sequence[str], names: Sequence[str] = ()) -> str:
    r"""Return the directory for some arguments: for each source its number or name, and in it the argument.

    A `/` in an argument is written `\_`, and a `\` is doubled. Arguments that cannot name a directory (empty, `.` and
    `..`) get the prefix `\.`. An argument that is too long for a file's name is truncated and ends with a digest.

    Example:
        >>> results_directory("results", ["a/b", "", ".."])
        'results/1/a\\_b/2/\\./3/\\...'

    """
    sources = itertools.chain(map(_name, names), map(str, itertools.count(len(names) + 1)))
    return os.path.join(directory, *(part for argument in arguments for part in (next(sources), _name(argument))))


def _name(argument: str) -> str:
    if argument in ("", ".", ".."):
        return "\\." + argument
    name = os.fsencode(argument.replace("\\", "\\\\").replace("/", "\\_"))
    return os.fsdecode(name if len(name) <= MAX_NAME_BYTES else _shorten(name))


def _shorten(name: bytes) -> bytes:
    import hashlib  # imported late: few batches need it

    digest = b"~" + hashlib.sha256(name).hexdigest()[:16].encode()
    return name[: MAX_NAME_BYTES - len(digest)] + digest


def save(path: str, sequence: int, outputs: tuple[BinaryIO, BinaryIO]) -> None:
    """Write the files `seq`, `stdout` and `stderr` in a directory, whose path ends in `/`; or PATH.seq, PATH, PATH.err.

    Raises:
        BatchError: they cannot be written.

    """
    names = ("seq", "stdout", "stderr") if path.endswith("/") else (".seq", "", ".err")
    contents = (io.BytesIO(b"%d" % sequence), *outputs)
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        for name, content in zip(names, contents, strict=True):
            with open(path + name, "wb") as target:
                shutil.copyfileobj(content, target)
    except OSError as error:
        raise BatchError(f"cannot write the results in {path!r}: {error.strerror}") from None
