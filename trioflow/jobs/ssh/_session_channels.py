"""This program's ends of a session on a node: what goes there, what comes from there, and when it is over.

```
input ──► (socket)  ──┐
sinks ◄── (pipe) ─────┤ a session over the connection (`_mux`), or, where that cannot be asked for, an ssh
sinks ◄── (pipe) ─────┤
over? ◄───────────────┘
```

To end it, its input is closed: whoever looks after the command on the node sees that, and ends it there.
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
"""Seconds after which what was killed is killed once more."""


class SessionProcess(Protocol):
    """What a session is, seen from here: an `SshProcess`, or a `MuxSession`."""

    @property
    def exit_descriptor(self) -> int:
        """Becomes readable when it may have ended."""
        ...

    @property
    def complaint(self) -> bytes:
        """What it would say on its standard error if it could."""
        ...

    def has_ended(self) -> bool:
        """Return whether it has; its descriptor is readable."""
        ...

    def kill(self) -> None:
        """Have it end at once."""
        ...

    def finish(self) -> int:
        """Return the exit code of what has ended, and keep nothing of it."""
        ...


Begin = Callable[[str, Sequence[int]], Awaitable[SessionProcess]]
"""Begins a session that runs a line, with these descriptors as its input, output and error."""


class SshProcess:
    """A session that an ssh has asked for."""

    def __init__(self, process: Process) -> None:
        """Take over the process."""
        self.complaint: Final = b""  # it says it itself
        self.exit_descriptor: Final = process.exit_descriptor
        self._process: Final = process

    def has_ended(self) -> bool:
        """Return True."""
        return True

    def kill(self) -> None:
        """Kill the process."""
        self._process.signal(posix.SIGKILL)

    def finish(self) -> int:
        """Reap it, and leave nothing of its group."""
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
    """The ends of one session.

    Attributes:
        pipes: what comes from there.
        complaint: what the session could not say itself.
        returncode: its exit code, when all is closed.

    """

    def __init__(self, run: RunHandle, sinks: Sequence[Sequence[Sink]]) -> None:
        """Begin without a session; what comes will go to the sinks of the output, and to those of the errors."""
        self.pipes: Final = OutputPipes()
        self.complaint: bytes = b""
        self.returncode: int | None = None
        self._run: Final = run
        self._sinks: Final = sinks
        self._carrier: SessionProcess | None = None

    async def start(self, begin: Begin, line: str, sent: bytes) -> None:
        """Begin the session, which finds these bytes in its input.

        Raises:
            OSError: it could not be started.

        """
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            ours.callback(self.pipes.close)
            self._input, input_there = socket.socketpair()
            ours.callback(self._input.close)
            theirs.callback(input_there.close)
            if sent:  # all of it fits in at once
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
        """End it, whatever is cancelled meanwhile; kill what it is here if that takes more than so many seconds."""
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
