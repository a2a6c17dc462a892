"""The output pipes of a command, on this machine or on a node, and the wait for its end.

One selector watches the pipes and the descriptor that reports the end of the command. The event loop waits only for
the selector's own descriptor. So a single task reads all output, in the same order on trio and on asyncio.
"""

from __future__ import annotations

import math
import os
import selectors
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ... import _posix as posix
from ._output_sinks import OutputSink

WaitReadableFunction = Callable[[int, float], Awaitable[bool]]
"""The type of `RunHandle.wait_readable`, which returns True when a descriptor is readable, or False at the deadline."""
MAX_READ_BYTES: Final = 1 << 16
"""The maximum size of one read, in bytes. This is also the default capacity of a pipe on Linux."""
MAX_READS_PER_TURN: Final = 16
MAX_READING_SECONDS: Final = 0.001
"""The maximum time, in seconds, to read one pipe before the next one is read, so that the event loop is not blocked."""


class PipeReader:
    """The read end of one pipe, and the sinks of its data."""

    __slots__ = ("_output_pipes", "_sinks", "descriptor", "is_watched")

    def __init__(self, descriptor: int, sinks: Sequence[OutputSink], owner: OutputPipes) -> None:
        posix.set_blocking(descriptor, False)
        self.descriptor: Final = descriptor
        self._sinks: Final = sinks
        self._output_pipes: Final = owner
        self.is_watched = False  # whether the selector watches the descriptor; True once the command has started

    def read(self, max_seconds: float = math.inf) -> bool:
        """Forward data to the sinks for up to about `max_seconds` seconds; return False at the end of the output."""
        deadline = time.perf_counter() + max_seconds
        for _ in range(MAX_READS_PER_TURN):
            try:
                data = os.read(self.descriptor, MAX_READ_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._call_sinks("write", data)
            if time.perf_counter() > deadline:
                break
        return True

    def finish(self) -> None:
        os.close(self.descriptor)
        self._call_sinks("finish")

    def _call_sinks(self, method: str, *data: bytes) -> None:
        """Call a method of all sinks, or do nothing if a sink of this command has raised an exception."""
        if self._output_pipes.sink_error is not None:
            return
        try:
            for sink in self._sinks:
                getattr(sink, method)(*data)
        except Exception as error:
            self._output_pipes.sink_error = error


class OutputPipes:
    """The pipes of one command, from before its start until its end.

    Attributes:
        sink_error: the first exception raised by a sink, such as an OSError because the disk is full, or the exception
            of a user's callback; None if no sink has failed.
        is_ending: whether the command is being ended. If so, a failing sink does not interrupt the wait for the end.

    """

    def __init__(self) -> None:
        self.sink_error: Exception | None = None
        self.is_ending = False
        self._readers: Final[set[PipeReader]] = set()
        self._selector: selectors.BaseSelector | None = None
        self._exit_descriptor = -1
        self._is_command_over = False

    def open_pipe(self, sinks: Sequence[OutputSink]) -> int:
        """Open a pipe to the sinks, and return the write end for the command; the caller must close it."""
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
        read_end, write_end = os.pipe()
        self._readers.add(PipeReader(read_end, sinks, self))
        return write_end

    def watch_command(self, exit_descriptor: int) -> None:
        """Start watching the pipes of a command that has started.

        Args:
            exit_descriptor: a descriptor that becomes readable when the command has ended.

        """
        self._exit_descriptor = exit_descriptor
        if self._selector is not None:
            self._selector.register(exit_descriptor, selectors.EVENT_READ)
            for reader in self._readers:
                self._selector.register(reader.descriptor, selectors.EVENT_READ, reader)
                reader.is_watched = True

    async def forward_until_ended(self, wait: WaitReadableFunction, deadline: float) -> bool:
        """Forward output until the command has ended, and return True; return False at the deadline or if a sink fails.

        If no output passes through this program, only wait for the end.
        """
        if self._selector is None:
            self._is_command_over = self._is_command_over or await wait(self._exit_descriptor, deadline)
            return self._is_command_over
        while not self._is_command_over and (self.is_ending or self.sink_error is None):
            if not await self._forward_when_ready(self._selector, wait, deadline):
                break
        return self._is_command_over

    async def forward_remaining(self, wait: WaitReadableFunction, deadline: float) -> None:
        """Forward output that arrives after the end of the command, until the deadline or the end of all pipes."""
        selector = self._selector
        while selector is not None and selector.get_map() and await self._forward_when_ready(selector, wait, deadline):
            pass

    async def _forward_when_ready(
        self, selector: selectors.BaseSelector, wait: WaitReadableFunction, deadline: float
    ) -> bool:
        if not await wait(selector.fileno(), deadline):  # type: ignore[attr-defined]
            return False
        self.forward_available()
        return True

    def forward_available(self) -> None:
        """Forward the available output, and check whether the command has ended."""
        if self._selector is None:
            return
        for key, _ in self._selector.select(0):
            if key.data is not None:
                if not key.data.read(MAX_READING_SECONDS):
                    self._close_reader(key.data)
            else:
                self._selector.unregister(key.fd)
                self._is_command_over = True

    def _close_reader(self, reader: PipeReader) -> None:
        if self._selector is not None and reader.is_watched:
            self._selector.unregister(reader.descriptor)
        self._readers.discard(reader)
        reader.finish()

    def close(self) -> None:
        """Read the remaining data from the pipes, and close them, even if a process still holds a write end."""
        for reader in tuple(self._readers):
            if reader.is_watched:
                reader.read()
            self._close_reader(reader)
        if self._selector is not None:
            self._selector.close()
            self._selector = None
