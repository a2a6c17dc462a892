"""This program's ends of a session on a node: what goes there, what comes from there, and when it is over.

```
input ──► (socket)  ──┐
taps  ◄── (pipe) ─────┤ a session over the connection (`_mux`), or, where that cannot be asked for, an ssh
taps  ◄── (pipe) ─────┤
over? ◄───────────────┘
```

To end it, its input is closed: whoever looks after the command on the node sees that, and ends it there.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from ..posix._sockets import send_all

if TYPE_CHECKING:
    from ...abc import RunHandle
    from ..posix._processes import Process

PIECE: Final = 1 << 16
"""Bytes that are read at once."""
KILLING: Final = 0.5
"""Seconds after which what was killed is killed once more."""
WATCHED: Final = 3
"""What is watched of a session: two streams, and its end."""


class Tap(Protocol):
    """Something that takes what comes from one stream."""

    def write(self, data: bytes) -> object:
        """Take the next piece."""
        ...


class Carrier(Protocol):
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


Begin = Callable[[str, Sequence[int]], Awaitable[Carrier]]
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
        self._process.signal(signal.SIGKILL)

    def finish(self) -> int:
        """Reap it, and leave nothing of its group."""
        process = self._process
        try:
            process.reap()
            if process.has_left_others():
                process.signal(signal.SIGKILL)
        finally:
            process.forget()
        assert process.returncode is not None
        return process.returncode


class Ends:
    """The ends of one session.

    Attributes:
        error: what a tap has raised; then nothing is passed on any more.
        is_over: the session has ended.
        returncode: its exit code, when all is closed.

    """

    def __init__(self, run: RunHandle, taps: Sequence[Tap]) -> None:
        """Begin without a session; what comes will go to the taps, that of the output and that of the errors."""
        self.error: Exception | None = None
        self.is_over = False
        self.returncode: int | None = None
        self._run: Final = run
        self._wait: Final = run.wait_readable
        self._taps: Final = taps
        self._input: socket.socket | None = None
        self._carrier: Carrier | None = None

    async def start(self, begin: Begin, line: str, sent: bytes = b"") -> None:
        """Begin the session, which finds these bytes in its input.

        Raises:
            OSError: it could not be started.

        """
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            self._selector = ours.enter_context(selectors.DefaultSelector())
            self._input, input_there = socket.socketpair()
            ours.callback(self._input.close)
            theirs.callback(input_there.close)
            if sent:  # all of it fits in at once
                self._input.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(sent))
                self._input.sendall(sent)
            self._input.setblocking(False)
            streams = [input_there.fileno()]
            for tap in self._taps:
                read_end, write_end = os.pipe()
                ours.callback(os.close, read_end)
                theirs.callback(os.close, write_end)
                streams.append(write_end)
                os.set_blocking(read_end, False)
                self._selector.register(read_end, selectors.EVENT_READ, tap)
            carrier = await begin(line, streams)
            self._selector.register(carrier.exit_descriptor, selectors.EVENT_READ)
            self._carrier = carrier
            self._ours = ours.pop_all()

    @property
    def are_closed(self) -> bool:
        """Whether nothing is left of the session here, or it has not begun."""
        return self._carrier is None

    def are_quiet(self) -> bool:
        """Return whether it goes on, as far as is known, and nothing has come from there."""
        return (
            self._carrier is not None
            and len(self._selector.get_map()) == WATCHED
            and all(key.data is None and not self._carrier.has_ended() for key, _ in self._selector.select(0))
        )

    async def send(self, data: bytes) -> bool:
        """Send all of it; return whether it went away, so that it may have arrived."""
        assert self._input is not None
        try:
            await send_all(self._input, data)
        except OSError:
            return False
        return True

    async def read(self, deadline: float) -> bool:
        """Wait for the next piece, or the end of the session, and pass on what has come; False at the deadline."""
        if not await self._wait(self._selector.fileno(), deadline):
            return False
        carrier = self._carrier
        assert carrier is not None
        for key, _ in self._selector.select(0):
            if key.data is not None:
                if not self._take(key.fd, key.data):
                    self._selector.unregister(key.fd)
            elif carrier.has_ended():
                self._selector.unregister(key.fd)
                self.is_over = True
        if self.is_over:
            for key in list(self._selector.get_map().values()):
                while self._take(key.fd, key.data, last=True):
                    pass
            if carrier.complaint:
                self.pass_on(lambda: self._taps[1].write(carrier.complaint))
        return True

    def _take(self, descriptor: int, tap: Tap, *, last: bool = False) -> bool:
        """Pass on the next piece; return False if there is none any more, or, with `last`, none now."""
        try:
            data = os.read(descriptor, PIECE)
        except BlockingIOError:
            return not last
        if data:
            self.pass_on(lambda: tap.write(data))
        return bool(data)

    def pass_on(self, call: Callable[[], object]) -> None:
        """Call what calls sinks; after the first error of one, none is called any more."""
        if self.error is None:
            try:
                call()
            except Exception as error:
                self.error = error

    def let_go(self, last: bytes = b"") -> None:
        """Close the input, by which the session ends; what is to be sent before is, if it can be at once."""
        if self._input is not None:
            with contextlib.suppress(OSError):
                self._input.send(last)
            self._input.close()

    async def end(self, patience: float, last: bytes = b"") -> None:
        """End it, whatever is cancelled meanwhile; kill what it is here if that takes more than so many seconds."""
        carrier = self._carrier
        if carrier is None:
            return
        self.let_go(last)
        until = self._run.clock() + patience
        while not self.is_over:
            if not await self._run.outlast(lambda until=until: self.read(until)):  # type: ignore[misc]
                carrier.kill()
                until = self._run.clock() + KILLING
        try:
            self.returncode = carrier.finish()
        finally:
            self._carrier = None
            self._ours.close()
