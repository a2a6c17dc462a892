"""The local ends of a session on a node: its input, its output, and the event of its end.

```
input ──► (socket)  ──┐
sinks ◄── (pipe) ─────┤ a session over the connection (`_mux`) or, if that is unavailable, an ssh
sinks ◄── (pipe) ─────┤
over? ◄───────────────┘
```

To end a session, this program closes the input. The wrapper of the command on the node notices this, ends the command,
and exits.
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
    from ..command._output_sinks import OutputSink
    from ..posix._processes import Process

KILL_INTERVAL: Final = 0.5
"""The time, in seconds, between repeated kills of a session's local side."""


class SessionProcess(Protocol):
    """The local side of a session: an `SshProcess`, or a `MuxSession`."""

    @property
    def exit_descriptor(self) -> int:
        """A file descriptor that becomes readable when the session may have ended."""
        ...

    @property
    def refusal(self) -> bytes:
        """The error message if the session was refused, otherwise empty."""
        ...

    def has_ended(self) -> bool:
        """Return whether the session has ended. Call this only when `exit_descriptor` is readable."""
        ...

    def kill(self) -> None:
        """End the session immediately."""
        ...

    def finish(self) -> int:
        """Free the resources of an ended session, and return its exit code."""
        ...


BeginSession = Callable[[str, Sequence[int]], Awaitable[SessionProcess]]
"""A function that begins a session, given a shell command line and the descriptors of its input, output and error."""


class SshProcess:
    """A session in an ssh process of its own."""

    def __init__(self, process: Process) -> None:
        self.refusal: Final = b""  # ssh writes its messages to standard error
        self.exit_descriptor: Final = process.exit_descriptor
        self._process: Final = process

    def has_ended(self) -> bool:
        """Return True: `exit_descriptor` is readable only after the process has exited."""
        return True

    def kill(self) -> None:
        self._process.signal_group(posix.SIGKILL)

    def finish(self) -> int:
        """Reap the process, kill any other processes in its group, and return the exit code.

        If it is unknown, return the one of ssh for a lost session: the command's own report has its exit code.
        """
        process = self._process
        try:
            is_known = process.reap()
            if process.has_remaining_members():
                process.signal_group(posix.SIGKILL)
        finally:
            process.unregister()
        return process.returncode or 0 if is_known else 255


def input_sockets(initial_input: bytes) -> tuple[socket.socket, socket.socket]:
    """Create a command's standard input, and write its first bytes into the buffer.

    The input is a pair of sockets: the buffer of a pipe may be a single page, which is too small for the bytes.

    Returns:
        This program's end, and the command's end.

    """
    ours, theirs = socket.socketpair()
    try:
        if initial_input:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(initial_input))
            ours.sendall(initial_input)
    except BaseException:
        ours.close()
        theirs.close()
        raise
    return ours, theirs


class Channel:
    """The local ends of a session: its input, and the pipes for its output.

    Attributes:
        pipes: the pipes for the session's standard output and standard error.
        refusal: the error message if the session was refused, otherwise empty.
        returncode: the exit code of the session; None before its end.

    """

    def __init__(self, run: RunHandle, sinks: Sequence[Sequence[OutputSink]]) -> None:
        """Create a channel without a session.

        Args:
            run: the run to which the session belongs.
            sinks: the sinks of the session's standard output, and those of its standard error.

        """
        self.pipes: Final = OutputPipes()
        self.refusal: bytes = b""
        self.returncode: int | None = None
        self._run: Final = run
        self._sinks: Final = sinks
        self._session: SessionProcess | None = None

    async def start(self, begin: BeginSession, line: str, initial_input: bytes) -> None:
        """Begin a session that runs `line` on the node and reads `initial_input` first.

        Raises:
            OSError: the session could not be started.

        """
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            ours.callback(self.pipes.close)
            self._input, input_there = input_sockets(initial_input)
            ours.callback(self._input.close)
            theirs.callback(input_there.close)
            streams = [input_there.fileno()]
            for sinks in self._sinks:
                streams.append(self.pipes.open_pipe(sinks))
                theirs.callback(os.close, streams[-1])
            self._session = session = await begin(line, streams)
            self.pipes.watch_command(session.exit_descriptor, session.has_ended)
            ours.pop_all()

    async def end(self, kill_delay: float) -> None:
        """Close the input, and wait for the end of the session. A cancellation does not interrupt this.

        Args:
            kill_delay: the time, in seconds, after which the local side of the session is killed.

        """
        session, run, pipes = self._session, self._run, self.pipes
        if session is None:
            return
        self._input.close()
        pipes.is_ending = True
        until = run.clock() + kill_delay
        while not await run.outlast(lambda until=until: pipes.forward_until_ended(run.wait_readable, until)):  # type: ignore[misc]
            session.kill()
            until = run.clock() + KILL_INTERVAL
        try:
            self.refusal = session.refusal
            self.returncode = session.finish()
        finally:
            self._session = None
            pipes.close()
