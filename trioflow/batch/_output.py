"""Output of the commands that is printed, whole or line by line.

Whole outputs are printed as commands end, or in the order of the arguments.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, Final

import anyio
import anyio.lowlevel

from .. import _posix as posix
from ..jobs.command._output_sinks import OutputSpool
from ..jobs.posix._files import write_all
from . import BatchError

MAX_BYTES_IN_MEMORY: Final = 16 << 20
"""The maximum number of bytes of unprinted output, of all commands together, to keep in memory."""
READ_SIZE: Final = 1 << 16
PIPE_WRITE_SIZE: Final = posix.PIPE_BUF
"""The number of bytes that can be written without blocking to a pipe that poll(2) reports as writable."""
MAX_WRITING_SECONDS: Final = 0.005
"""A large output that is being printed lets the event loop turn after this time, in seconds."""


class StdStream:
    """A standard stream of this program. Waiting for a slow reader does not block the event loop.

    Attributes:
        is_terminal: whether the stream is a terminal.
        is_appended: whether the stream is a file that the program appends to, as with `>> FILE` in a shell.
        on_broken: called once, when the reader of the stream has exited. Later output is dropped.
        is_broken: whether it has been called.

    """

    def __init__(self, name: str) -> None:
        """Wrap `sys.stdout` or `sys.stderr`. The stream may have no descriptor, for example in tests."""
        self.on_broken: Callable[[], object] = lambda: None
        self.is_broken = False
        self._stream: Final[Any] = getattr(sys, name)
        self._descriptor: Final[Any] = _find_descriptor(self._stream)
        self.is_terminal: Final = self._descriptor is not None and os.isatty(
            self._descriptor
        )
        self._is_pollable = self.is_appended = False
        if self._descriptor is not None:
            self._is_pollable = not stat.S_ISREG(os.fstat(self._descriptor).st_mode)
            flags = posix.fcntl.fcntl(self._descriptor, posix.fcntl.F_GETFL)
            self.is_appended = not self._is_pollable and bool(flags & os.O_APPEND)

    async def wait_writable(self) -> None:
        """Wait until `PIPE_WRITE_SIZE` bytes can be written without blocking."""
        if not self._is_pollable or self.is_broken:
            return
        if not posix.is_ready(self._descriptor, posix.POLLOUT):
            await anyio.wait_writable(self._descriptor)

    def write_blocking(self, data: bytes) -> None:
        """Write data, and wait for a slow reader.

        Raises:
            BatchError: the stream cannot be written. This is no failure of the command whose output it is.

        """
        if self._stream is None or self.is_broken:
            # None: the program was started without this stream.
            return
        try:
            self._stream.flush()
            if self._descriptor is None:
                self._stream.buffer.write(data)
            else:
                write_all(self._descriptor, data)
        except BrokenPipeError:
            self.is_broken = True
            self.on_broken()
        except OSError as error:
            problem = error.strerror or error
            raise BatchError(f"cannot write the output: {problem}") from None


def _find_descriptor(stream: Any) -> int | None:
    with contextlib.suppress(OSError, AttributeError, ValueError):
        return int(stream.fileno())
    return None


def read_chunks(file: BinaryIO, size: int = READ_SIZE) -> Iterator[bytes]:
    return iter(lambda: file.read(size), b"")


def tag_lines(chunks: Iterable[bytes], tag: bytes) -> Iterator[bytes]:
    r"""Yield the chunks of an output with a tag inserted before each line.

    Example:
        >>> b"".join(tag_lines([b"a\n\nb", b"c\n"], b"1\t"))
        b'1\ta\n1\t\n1\tbc\n'

    """
    is_line_start = True
    for chunk in chunks:
        start = tag if is_line_start else b""
        yield start + chunk[:-1].replace(b"\n", b"\n" + tag) + chunk[-1:]
        is_line_start = chunk.endswith(b"\n")


OutputChunks = Iterator[tuple[StdStream, bytes]]


def end_last_line(output: OutputChunks, needs_newline: bool) -> OutputChunks:
    """Yield the output. If its last line has no newline and is shown on a terminal, add a newline."""
    stream_with_unfinished_line: StdStream | None = None
    for stream, chunk in output:
        yield stream, chunk
        if stream.is_terminal:
            stream_with_unfinished_line = None if chunk.endswith(b"\n") else stream
    if needs_newline and stream_with_unfinished_line is not None:
        yield stream_with_unfinished_line, b"\n"


# ---- output that is printed later

BacklogItem = bytes | range
"""An output in a backlog: its bytes if it is in memory, or the range of its bytes in the temporary file."""


class Backlog:
    """A store of outputs, which can be taken out in any order. Outputs beyond a memory limit go to a temporary file.

    Example:
        >>> import io
        >>> backlog = Backlog(max_bytes_in_memory=3)
        >>> items = [backlog.store(io.BytesIO(text)) for text in (b"abc", b"defg")]
        >>> [b"".join(backlog.take(item)) for item in reversed(items)]
        [b'defg', b'abc']

    """

    def __init__(self, max_bytes_in_memory: int = MAX_BYTES_IN_MEMORY) -> None:
        self._max_bytes_in_memory: Final = max_bytes_in_memory
        self._bytes_in_memory = 0
        self._disk_output_count = 0
        self._spool: OutputSpool | None = None

    def store(self, output: BinaryIO) -> BacklogItem:
        """Store the contents of a file from its current position to its end, and return the item for `take`.

        Raises:
            OSError: the disk is full.

        """
        space = max(0, self._max_bytes_in_memory - self._bytes_in_memory)
        data = output.read(space + 1)
        if self._bytes_in_memory + len(data) <= self._max_bytes_in_memory:
            self._bytes_in_memory += len(data)
            return data
        if self._spool is None:
            self._spool = OutputSpool("waiting output")
        start = len(self._spool)
        while data:
            self._spool.write(data)
            data = output.read(READ_SIZE)
        self._disk_output_count += 1
        return range(start, len(self._spool))

    def take(self, item: BacklogItem) -> Iterator[bytes]:
        """Yield a stored output in chunks, then free its space. Space on disk is freed when no output is left there."""
        if isinstance(item, bytes):
            self._bytes_in_memory -= len(item)
            if item:
                # `tag_lines` would put a tag before an empty chunk.
                yield item
            return
        assert self._spool is not None
        for start in item[::READ_SIZE]:
            yield self._spool.read_at(min(READ_SIZE, item.stop - start), start)
        self._disk_output_count -= 1
        if not self._disk_output_count:
            self._spool = None


# ---- printing

PrintGuard = Callable[[], AbstractContextManager[bool]]
"""A function that returns a context manager for each print, for example to hide the progress bar. The context manager
yields True if the progress bar would overwrite a last line without a newline."""


class Printer:
    """Prints the outputs of commands, one command after another.

    Args:
        in_order: whether to print the outputs in the order of the commands' numbers.
        print_guard: called for each print. Returns the context manager around it.

    Attributes:
        next_printed_number: if outputs are printed in order, the number of the command to print next.

    """

    def __init__(self, *, in_order: bool, print_guard: PrintGuard) -> None:
        self.next_printed_number = 1
        self.streams: Final = (StdStream("stdout"), StdStream("stderr"))
        self._prints_in_order: Final = in_order
        self._print_guard: Final = print_guard
        # Fast, to save an iteration of the event loop per command.
        self._lock: Final = anyio.Lock(fast_acquire=True)
        self._backlog: Final = Backlog()
        self._waiting_outputs: Final[dict[int, OutputChunks]] = {}
        # The output of commands that still run.
        self._early_outputs: Final[dict[int, list[tuple[StdStream, BacklogItem]]]] = {}
        # The chunks that `_write` has not written yet.
        self._unwritten_chunks: OutputChunks = iter(())

    def keep_output(
        self,
        number: int,
        outputs: tuple[BinaryIO, BinaryIO],
        tag: bytes | None,
        *,
        is_restored: bool = False,
    ) -> None:
        """Keep the output of a command that has ended, until it is printed.

        A file that is appended to gets no output of a restored command, since each resumed batch would repeat it.

        Args:
            number: the number of the command. Commands are numbered from 1, without gaps.
            outputs: the standard output and standard error of the command.
            tag: the tag to print before each line, or None for no tag.
            is_restored: whether a journal has restored the command.

        Raises:
            OSError: a temporary file cannot be written.

        """
        kept_chunks: list[Iterator[bytes]] = []
        for stream, output in zip(self.streams, outputs, strict=True):
            if is_restored and stream.is_appended:
                kept_chunks.append(iter(()))
            elif self._prints_in_order:
                # Copied: it may have to wait for long, and would keep its files open.
                kept_chunks.append(self._backlog.take(self._backlog.store(output)))
            else:
                kept_chunks.append(read_chunks(output))
        # A try of the command that has failed may wait, too.
        earlier = self._waiting_outputs.get(number, ())
        self._waiting_outputs[number] = itertools.chain(
            earlier,
            self._take_early_output(number),
            self._split_into_chunks(kept_chunks, tag),
        )

    def print_live(self, number: int, stream_index: int, data: bytes) -> None:
        """Print new output of a running command, blocking if the reader of the stream is slow.

        If outputs are printed in order, keep the output until all commands with lower numbers have been printed.

        Args:
            number: the number of the command.
            stream_index: 0 for standard output, 1 for standard error.
            data: whole lines.

        Raises:
            BatchError: the stream cannot be written.
            OSError: a temporary file cannot be written.

        """
        if not data:
            return
        stream = self.streams[stream_index]
        if self._prints_in_order and number != self.next_printed_number:
            item = self._backlog.store(io.BytesIO(data))
            self._early_outputs.setdefault(number, []).append((stream, item))
        else:
            self._write_blocking(iter([(stream, data)]))

    async def print_kept(self, number: int) -> None:
        """Print the kept output of a command that has ended.

        If outputs are printed in order, print each output whose lower numbers have all been printed.

        Raises:
            BatchError: a stream cannot be written.

        """
        async with self._lock:
            if not self._prints_in_order:
                await self._write(self._waiting_outputs.pop(number, iter(())))
            while self.next_printed_number in self._waiting_outputs:
                await self._write(self._waiting_outputs.pop(self.next_printed_number))
                self.next_printed_number += 1
                # The next command may still be running. Print the output that it has written so far.
                self._write_blocking(self._take_early_output(self.next_printed_number))

    def flush(self) -> None:
        """Print all output that has not been printed. Call this method after the event loop has ended."""
        self._write_blocking(self._unwritten_chunks)
        for number in sorted({*self._early_outputs, *self._waiting_outputs}):
            self._write_blocking(self._take_early_output(number))
            self._write_blocking(iter(self._waiting_outputs.get(number, ())))

    def shown_bytes(self, text: str) -> bytes:
        """Return a tag as bytes to print: for programs as it is, and for a terminal as text."""
        if any(stream.is_terminal for stream in self.streams):
            # Imported late, like all views.
            from ..view.text._symbols import terminal_text

            text = terminal_text(text, sys.stdout)
        return os.fsencode(text)

    async def print_message(self, text: str) -> None:
        from ..view.text._symbols import terminal_text

        async with self._lock:
            message = terminal_text(f"trioflow batch: {text}", sys.stderr)
            await self._write(iter([(self.streams[1], os.fsencode(message + "\n"))]))

    def _split_into_chunks(
        self, outputs: Iterable[Iterable[bytes]], tag: bytes | None
    ) -> OutputChunks:
        for stream, output in zip(self.streams, outputs, strict=True):
            chunks = output
            if tag is not None:
                chunks = tag_lines(output, tag)
            for chunk in chunks:
                yield stream, chunk

    def _take_early_output(self, number: int) -> OutputChunks:
        items = self._early_outputs.pop(number, ())
        return (  # dense: the items are taken at once, and their chunks as they are read
            (stream, chunk)
            for stream, item in items
            for chunk in self._backlog.take(item)
        )

    def _write_blocking(self, output: OutputChunks) -> None:
        with self._print_guard() as needs_newline:
            for stream, chunk in end_last_line(output, needs_newline):
                stream.write_blocking(chunk)

    async def _write(self, output: OutputChunks) -> None:
        turn_ends_at = time.perf_counter() + MAX_WRITING_SECONDS
        with self._print_guard() as needs_newline:
            chunks = end_last_line(output, needs_newline)
            for stream, chunk in chunks:
                for start in range(0, len(chunk), PIPE_WRITE_SIZE):
                    rest = (stream, chunk[start:])
                    self._unwritten_chunks = itertools.chain([rest], chunks)
                    if time.perf_counter() > turn_ends_at:
                        # Let timeouts fire, and other commands start.
                        await anyio.lowlevel.checkpoint()
                        turn_ends_at = time.perf_counter() + MAX_WRITING_SECONDS
                    await stream.wait_writable()
                    self._unwritten_chunks = iter(())
                    stream.write_blocking(chunk[start : start + PIPE_WRITE_SIZE])


class TaggedLineStream(io.RawIOBase):
    r"""A stream that passes on a command's output in whole lines, with a tag before each line.

    `flush` passes on a last line without a newline.

    Attributes:
        received_bytes: the number of bytes written to the stream.

    Example:
        >>> lines = TaggedLineStream(print, b"1: ")
        >>> lines.write(b"a\nb"), lines.write(b"c"), lines.flush()
        b'1: a\n'
        b'1: bc'
        (3, 1, None)

    """

    def __init__(
        self, write_lines: Callable[[bytes], object], tag: bytes | None
    ) -> None:
        self._write_lines: Final = write_lines
        self._tag: Final = tag
        self._unfinished_line: list[bytes] = []
        self.received_bytes = 0

    def write(self, data: Any) -> int:
        """Pass on all complete lines, and keep an unfinished last line."""
        self.received_bytes += len(data)
        lines, newline, unfinished_line = bytes(data).rpartition(b"\n")
        if newline:
            self._pass_on(b"".join([*self._unfinished_line, lines, newline]))
            self._unfinished_line = []
        self._unfinished_line.append(unfinished_line)
        return len(data)

    def flush(self) -> None:
        """Pass on an unfinished last line, if there is any."""
        line = b"".join(self._unfinished_line)
        self._unfinished_line = []
        if line:
            self._pass_on(line)

    def _pass_on(self, data: bytes) -> None:
        if self._tag is not None:
            data = b"".join(tag_lines([data], self._tag))
        self._write_lines(data)
