"""The local ends of a session on a node: its input, its output, and the event of its end.

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

KILL_INTERVAL: Final = 0.5
"""Seconds until SIGKILL is sent again."""


class SessionProcess(Protocol):
    """The local side of a session: an `SshProcess`, or a `MuxSession`."""

    @property
    def exit_descriptor(self) -> int:
        """A descriptor that becomes readable when the session may have ended."""
        ...

    @property
    def complaint(self) -> bytes:
        """The error message of a session that was refused; empty if there is none."""
        ...

    def has_ended(self) -> bool:
        """Return whether the session has ended; called when its descriptor is readable."""
        ...

    def kill(self) -> None:
        """End the session at once."""
        ...

    def finish(self) -> int:
        """Return the exit code of an ended session, and free its resources."""
        ...


Begin = Callable[[str, Sequence[int]], Awaitable[SessionProcess]]
"""A function that begins a session, given a line and the descriptors for its input, output and error."""


class SshProcess:
    """A session held by an ssh of its own."""

    def __init__(self, process: Process) -> None:
        """Adopt the process."""
        self.complaint: Final = b""  # it writes its own messages
        self.exit_descriptor: Final = process.exit_descriptor
        self._process: Final = process

    def has_ended(self) -> bool:
        """Return True: the descriptor is readable only after the process has exited."""
        return True

    def kill(self) -> None:
        """Kill the process."""
        self._process.signal(posix.SIGKILL)

    def finish(self) -> int:
        """Reap the process, and kill the other processes of its group."""
        process = self._process
        try:
            process.reap()
            if process.has_left_others():
                process.signal(posix.SIGKILL)
        finally:
            process.forget()
        assert process.returncode is not None
        return process.returncode


def input_sockets(sent: bytes) -> tuple[socket.socket, socket.socket]:
    """Return the ends of a standard input, this program's and the command's, with `sent` already in its buffer.

    They are sockets, because the buffer of a pipe may be a single page, and `sent` must fit.
    """
    ours, theirs = socket.socketpair()
    try:
        if sent:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(sent))
            ours.sendall(sent)
    except BaseException:
        ours.close()
        theirs.close()
        raise
    return ours, theirs


class Channel:
    """The local ends of one session.

    Attributes:
        pipes: the pipes for its output and its standard error.
        complaint: the error message of a session that was refused; empty if there is none.
        returncode: its exit code; None before its end.

    """

    def __init__(self, run: RunHandle, sinks: Sequence[Sequence[Sink]]) -> None:
        """Begin without a session; `sinks` has the sinks of its output, and those of its standard error."""
        self.pipes: Final = OutputPipes()
        self.complaint: bytes = b""
        self.returncode: int | None = None
        self._run: Final = run
        self._sinks: Final = sinks
        self._session: SessionProcess | None = None

    async def start(self, begin: Begin, line: str, sent: bytes) -> None:
        """Begin the session with `sent` as the first bytes of its input.

        Raises:
            OSError: the session could not be started.

        """
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            ours.callback(self.pipes.close)
            self._input, input_there = input_sockets(sent)
            ours.callback(self._input.close)
            theirs.callback(input_there.close)
            streams = [input_there.fileno()]
            for sinks in self._sinks:
                streams.append(self.pipes.open(sinks))
                theirs.callback(os.close, streams[-1])
            self._session = session = await begin(line, streams)
            self.pipes.watch(session.exit_descriptor, session.has_ended)
            ours.pop_all()

    async def end(self, patience: float) -> None:
        """End the session; kill its local side after `patience` seconds. A cancellation does not interrupt this."""
        session, run, pipes = self._session, self._run, self.pipes
        if session is None:
            return
        self._input.close()
        pipes.ending = True
        until = run.clock() + patience
        while not await run.outlast(lambda until=until: pipes.until_ended(run.wait_readable, until)):  # type: ignore[misc]
            session.kill()
            until = run.clock() + KILL_INTERVAL
        try:
            self.complaint = session.complaint
            self.returncode = session.finish()
        finally:
            self._session = None
            pipes.close()
