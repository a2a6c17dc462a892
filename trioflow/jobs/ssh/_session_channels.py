"""This program's ends of a session on a node: its input, its output, and its end.

```
input ──► (socket)  ──┐
sinks ◄── (pipe) ─────┤ a session over the connection (`_mux`) or, if that is unavailable, an ssh
sinks ◄── (pipe) ─────┤
over? ◄───────────────┘
```

Closing the input ends the session: the wrapper of the command on the node notices it, and ends the command.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from ... import _posix as posix
from ..command._pipes import OutputPipes

if TYPE_CHECKING:
    from ...abc import RunHandle
    from ..command._output_sinks import Sink
    from ..posix._processes import Process

KILLING: Final = 0.5
"""Seconds after which SIGKILL is sent again."""


class SessionProcess(Protocol):
    """The local side of a session: an `SshProcess`, or a `MuxSession`."""

    @property
    def exit_descriptor(self) -> int:
        """Becomes readable when it may have ended."""
        ...

    @property
    def complaint(self) -> bytes:
        """The error message that is not on its standard error."""
        ...

    def has_ended(self) -> bool:
        """Return whether the session has ended; called when its descriptor is readable."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...

    def finish(self) -> int:
        """Return the exit code of an ended session, and free its resources."""
        ...


Begin = Callable[[str, Sequence[int]], Awaitable[SessionProcess]]
"""A function that begins a session, given a line and the descriptors for its input, output and error."""


class SshProcess:
    """A session of a separate ssh."""

    def __init__(self, process: Process) -> None:
        """Adopt the process."""
        self.complaint: Final = b""  # it writes its own messages
        self.exit_descriptor: Final = process.exit_descriptor
        self._process: Final = process

    def has_ended(self) -> bool:
        """Return True."""
        return True

    def kill(self) -> None:
        """Kill the process."""
        self._process.signal(posix.SIGKILL)

    def finish(self) -> int:
        """Reap the process, and kill the rest of its group."""
        process = self._process
        try:
            process.reap()
            if process.has_left_others():
                process.signal(posix.SIGKILL)
        finally:
            process.forget()
        assert process.returncode is not None
        return process.returncode


class Channel:
    """The local ends of one session.

    Attributes:
        pipes: its output.
        complaint: the error message that is not on its standard error.
        returncode: its exit code, once it is closed.

    """

    def __init__(self, run: RunHandle, sinks: Sequence[Sequence[Sink]]) -> None:
        """Begin without a session; `sinks` take its output and its standard error."""
        self.pipes: Final = OutputPipes()
        self.complaint: bytes = b""
        self.returncode: int | None = None
        self._run: Final = run
        self._sinks: Final = sinks
        self._carrier: SessionProcess | None = None

    async def start(self, begin: Begin, line: str, sent: bytes) -> None:
        """Begin the session, with some bytes in its input.

        Raises:
            OSError: the session could not be started.

        """
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            ours.callback(self.pipes.close)
            self._input, input_there = socket.socketpair()
            ours.callback(self._input.close)
            theirs.callback(input_there.close)
            if sent:  # all of it fits into the buffer
                self._input.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(sent))
                self._input.sendall(sent)
            streams = [input_there.fileno()]
            for sinks in self._sinks:
                streams.append(self.pipes.open(sinks))
                theirs.callback(os.close, streams[-1])
            self._carrier = carrier = await begin(line, streams)
            self.pipes.watch(carrier.exit_descriptor, carrier.has_ended)
            ours.pop_all()

    async def end(self, patience: float) -> None:
        """End the session; kill its local side after `patience` seconds. A cancellation does not interrupt this."""
        carrier, run, pipes = self._carrier, self._run, self.pipes
        if carrier is None:
            return
        self._input.close()
        pipes.ending = True
        until = run.clock() + patience
        while not await run.outlast(lambda until=until: pipes.until_ended(run.wait_readable, until)):  # type: ignore[misc]
            carrier.kill()
            until = run.clock() + KILLING
        try:
            self.complaint = carrier.complaint
            self.returncode = carrier.finish()
        finally:
            self._carrier = None
            pipes.close()
