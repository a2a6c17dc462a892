"""Output pipes of a command, here or on a node, and its end, all watched by one selector.

The selector itself is a descriptor, and the event loop waits for nothing else. So one task does all the work, in the
same order on both backends.
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
"""`Backend.wait_readable`."""
PIECE_BYTES: Final = 1 << 16
"""Bytes of one read."""
PIECES_PER_TURN: Final = 16
"""The number of pieces to read from one pipe before the next pipe. By default a pipe holds one piece."""
MAX_READING_SECONDS: Final = 0.001
"""Seconds after which reading pauses until the next iteration of the event loop: passing on a million lines takes
long."""


class PipeReader:
    """The read end of one pipe, and the sinks of its data."""

    __slots__ = ("_owner", "_sinks", "descriptor", "is_watched")

    def __init__(self, descriptor: int, sinks: Sequence[Sink], owner: OutputPipes) -> None:
        posix.set_blocking(descriptor, False)
        self.descriptor: Final = descriptor
        self._sinks: Final = sinks
        self._owner: Final = owner
        self.is_watched = False  # a command writes to it, and the selector has it

    def read(self, patience: float = math.inf) -> bool:
        """Pass on what is in the pipe, for `patience` seconds at most; return whether more may come."""
        end = time.perf_counter() + patience
        for _ in range(PIECES_PER_TURN):
            try:
                data = os.read(self.descriptor, PIECE_BYTES)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._pass_on("write", data)
            if time.perf_counter() > end:
                break
        return True

    def finish(self) -> None:
        """Close the pipe and finish the sinks."""
        os.close(self.descriptor)
        self._pass_on("finish")

    def _pass_on(self, method: str, *data: bytes) -> None:
        """Call a method of all sinks, unless a sink has failed before."""
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
        error: the exception of a sink: of a callback, or because the disk is full.
        ending: whether the command has to end; an error of a sink then no longer ends the wait.

    """

    def __init__(self) -> None:
        """Begin with no pipe."""
        self.error: Exception | None = None
        self.ending = False
        self._readers: Final[set[PipeReader]] = set()
        self._selector: selectors.BaseSelector | None = None
        self._exit_descriptor = -1
        self._has_ended: Callable[[], bool] | None = None
        self._is_over = False

    def open(self, sinks: Sequence[Sink]) -> int:
        """Open a new pipe to the sinks; return the write end for a command, which the caller closes."""
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
        read_end, write_end = os.pipe()
        self._readers.add(PipeReader(read_end, sinks, self))
        return write_end

    def watch(self, exit_descriptor: int, has_ended: Callable[[], bool] | None = None) -> None:
        """Begin to watch the pipes of a command that has started.

        Args:
            exit_descriptor: becomes readable when the command may have ended.
            has_ended: called then to make sure; None if the descriptor is enough.

        """
        self._exit_descriptor, self._has_ended = exit_descriptor, has_ended
        if self._selector is not None:
            self._selector.register(exit_descriptor, selectors.EVENT_READ)
            for reader in self._readers:
                self._selector.register(reader.descriptor, selectors.EVENT_READ, reader)
                reader.is_watched = True

    async def until_ended(self, wait: Wait, deadline: float) -> bool:
        """Pass on output until the command has ended; return False at the deadline, or when a sink fails."""
        if self._selector is None:
            self._is_over = self._is_over or await wait(self._exit_descriptor, deadline)
            return self._is_over
        while not self._is_over and (self.ending or self.error is None):
            if not await self._pass_on_ready(self._selector, wait, deadline):
                break
        return self._is_over

    async def until(self, wait: Wait, deadline: float) -> None:
        """Pass on output until the deadline; the command has ended, but not all of its group."""
        selector = self._selector
        while selector is not None and selector.get_map() and await self._pass_on_ready(selector, wait, deadline):
            pass

    async def _pass_on_ready(self, selector: selectors.BaseSelector, wait: Wait, deadline: float) -> bool:
        if not await wait(selector.fileno(), deadline):  # type: ignore[attr-defined]
            return False
        self.pass_on()
        return True

    def pass_on(self) -> None:
        """Pass on all available output, and check whether the command has ended."""
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
