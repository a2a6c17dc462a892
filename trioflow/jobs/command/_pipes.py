"""The output pipes of a command, on this machine or on a node, and the wait for its end.

One selector watches the pipes and the descriptor that reports the end. The event loop waits only for the selector, by
its own descriptor. So a single task reads all output, in the same order on both backends.
"""

from __future__ import annotations

import math
import os
import selectors
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ... import _posix as posix
from ._output_sinks import Sink

Wait = Callable[[int, float], Awaitable[bool]]
"""The type of `RunHandle.wait_readable`: it returns True when a descriptor is readable, False at the deadline."""
PIECE_BYTES: Final = 1 << 16
"""The maximum size of one read, in bytes."""
PIECES_PER_TURN: Final = 16
"""How often one pipe is read before the next. A pipe holds `PIECE_BYTES` by default."""
MAX_READING_SECONDS: Final = 0.001
"""Seconds after which reading pauses until the next iteration of the event loop, which a lot of output would block."""


class PipeReader:
    """The read end of one pipe, and the sinks of its data."""

    __slots__ = ("_owner", "_sinks", "descriptor", "is_watched")

    def __init__(self, descriptor: int, sinks: Sequence[Sink], owner: OutputPipes) -> None:
        posix.set_blocking(descriptor, False)
        self.descriptor: Final = descriptor
        self._sinks: Final = sinks
        self._owner: Final = owner
        self.is_watched = False  # whether the selector watches it, because the command has started

    def read(self, patience: float = math.inf) -> bool:
        """Forward data to the sinks for at most `patience` seconds; return False at the end of the output."""
        end = time.perf_counter() + patience
        for _ in range(PIECES_PER_TURN):
            try:
                data = os.read(self.descriptor, PIECE_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._call_sinks("write", data)
            if time.perf_counter() > end:
                break
        return True

    def finish(self) -> None:
        """Close the pipe and finish the sinks."""
        os.close(self.descriptor)
        self._call_sinks("finish")

    def _call_sinks(self, method: str, *data: bytes) -> None:
        """Call a method of all sinks; after the first exception of a sink, do nothing."""
        if self._owner.error is not None:
            return
        try:
            for sink in self._sinks:
                getattr(sink, method)(*data)
        except Exception as error:
            self._owner.error = error


class OutputPipes:
    """The pipes of one command, from before its start until its end.

    Attributes:
        error: the first exception of a sink, for example of a callback or because the disk is full; otherwise None.
        ending: whether the command is being ended; an error of a sink then no longer ends the wait.

    """

    def __init__(self) -> None:
        """Create an empty set of pipes."""
        self.error: Exception | None = None
        self.ending = False
        self._readers: Final[set[PipeReader]] = set()
        self._selector: selectors.BaseSelector | None = None
        self._exit_descriptor = -1
        self._has_ended: Callable[[], bool] | None = None
        self._is_over = False

    def open(self, sinks: Sequence[Sink]) -> int:
        """Open a pipe to the sinks, and return the write end for the command; the caller must close it."""
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
        read_end, write_end = os.pipe()
        self._readers.add(PipeReader(read_end, sinks, self))
        return write_end

    def watch(self, exit_descriptor: int, has_ended: Callable[[], bool] | None = None) -> None:
        """Start watching the pipes of a command that has started.

        Args:
            exit_descriptor: a descriptor that becomes readable when the command may have ended.
            has_ended: returns whether it has ended, called when the descriptor is readable; None if it then always has.

        """
        self._exit_descriptor, self._has_ended = exit_descriptor, has_ended
        if self._selector is not None:
            self._selector.register(exit_descriptor, selectors.EVENT_READ)
            for reader in self._readers:
                self._selector.register(reader.descriptor, selectors.EVENT_READ, reader)
                reader.is_watched = True

    async def forward_until_ended(self, wait: Wait, deadline: float) -> bool:
        """Forward output until the command has ended; return False at the deadline, or if a sink fails before."""
        if self._selector is None:
            self._is_over = self._is_over or await wait(self._exit_descriptor, deadline)
            return self._is_over
        while not self._is_over and (self.ending or self.error is None):
            if not await self._forward_when_ready(self._selector, wait, deadline):
                break
        return self._is_over

    async def forward_until(self, wait: Wait, deadline: float) -> None:
        """Forward output until the deadline or the end of all pipes, after the command itself has ended."""
        selector = self._selector
        while selector is not None and selector.get_map() and await self._forward_when_ready(selector, wait, deadline):
            pass

    async def _forward_when_ready(self, selector: selectors.BaseSelector, wait: Wait, deadline: float) -> bool:
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
                    self._finish(key.data)
            elif self._has_ended is None or self._has_ended():
                self._selector.unregister(key.fd)
                self._is_over = True

    def _finish(self, reader: PipeReader) -> None:
        if self._selector is not None and reader.is_watched:
            self._selector.unregister(reader.descriptor)
        self._readers.discard(reader)
        reader.finish()

    def close(self) -> None:
        """Read the remaining data from the pipes, and close them, even if a process still holds a write end."""
        for reader in tuple(self._readers):
            if reader.is_watched:
                reader.read()
            self._finish(reader)
        if self._selector is not None:
            self._selector.close()
            self._selector = None
