"""The pipes that a command writes to, here or on a node, and its end: all of it is watched by one selector.

The selector is a descriptor itself, and the event loop waits for it alone. So a single task does all the work, in the
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
PIECE: Final = 1 << 16
"""Bytes that are read at once."""
PIECES: Final = 16
"""Pieces that are read from one pipe before the others get their turn. By default a pipe holds a single one."""
PATIENCE: Final = 0.001
"""Seconds after which no further piece is read in the same turn of the event loop: to pass on a million lines takes
long."""


class PipeReader:
    """The end of one pipe that is read, and the sinks of what comes."""

    __slots__ = ("_owner", "_sinks", "descriptor", "is_watched")

    def __init__(self, descriptor: int, sinks: Sequence[Sink], owner: OutputPipes) -> None:
        posix.set_blocking(descriptor, False)
        self.descriptor: Final = descriptor
        self._sinks: Final = sinks
        self._owner: Final = owner
        self.is_watched = False  # a command writes to it, and the selector has it

    def read(self, patience: float = math.inf) -> bool:
        """Pass on what is in the pipe, for some seconds; return whether there may be more to come."""
        end = time.perf_counter() + patience
        for _ in range(PIECES):
            try:
                data = os.read(self.descriptor, PIECE)
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
        """Call a method of all sinks; after the first error of a sink, none is called any more."""
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
        error: what a sink has raised, such as the error of a callback, or of a full disk.
        ending: the command has to end; the error of a sink no longer ends the wait for that.

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
        """Return the end of a new pipe that a command may write to; the caller closes it. The sinks get what comes."""
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
        read_end, write_end = os.pipe()
        self._readers.add(PipeReader(read_end, sinks, self))
        return write_end

    def watch(self, exit_descriptor: int, has_ended: Callable[[], bool] | None = None) -> None:
        """Begin to watch the pipes of a command that has started.

        Args:
            exit_descriptor: becomes readable when the command ends.
            has_ended: is asked then; None if that is enough.

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
        """Pass on what output there is, and see whether the command has ended."""
        if self._selector is None:
            return
        for key, _ in self._selector.select(0):
            if key.data is not None:
                if not key.data.read(PATIENCE):
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
        """Read what is left in the pipes, and close them, even if a process still holds the other end."""
        for reader in tuple(self._readers):
            if reader.is_watched:
                reader.read()
            self._finish(reader)
        if self._selector is not None:
            self._selector.close()
            self._selector = None
