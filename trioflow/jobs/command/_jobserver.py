"""GNU make's jobserver: the commands of a run, and the processes that they start, share the slots of a window.

A client of a jobserver, such as make, may always run one compiler. For each additional compiler it reads a byte, called
a token, from a pipe, and writes it back afterwards. Here each token stands for a slot of the window that no job needs
(`SpareSlots`). Each command has a pipe of its own, so that the number of its tokens is known at any time. When the
command ends, all its tokens become slots again, even if a client was killed while it held some.

```
a slot becomes free ──► put into a pipe ──► a client takes it ──► and writes it back
      ▲                      │ a job is ready                          │
      └──────────────────────┴──── the command has ended ◄────────────┘
```

The kernel does not report that a process waits to read from a pipe. Therefore the pipes are polled while one command
leaves tokens unused that another might need, or while jobs wait for slots that are in use as tokens. The interval grows
while nothing changes. If the window is a limiter with other users, it does not report their demand either, and is
polled while any command runs.

Both styles use a named pipe: the command gets its name ("fifo"), or two open descriptors ("pipe").
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from ... import _posix as posix

if TYPE_CHECKING:
    from ...abc import RunHandle, SpareSlots

TOKEN: Final = b"+"
PIPE_NUMBERS: Final = itertools.count(1)
"""The counter for the names of the pipes."""
FIRST_PAUSE: Final = 0.005
LONGEST_PAUSE: Final = 0.1
"""The bounds of the interval between polls, in seconds. A compiler runs longer than the first; a poll takes 10 µs."""
MIN_MAKE_VERSION: Final = (4, 4)
"""The first version of GNU make that accepts the name of a jobserver's pipe."""


class TokenPipes:
    """The directory of a run's token pipes."""

    def __init__(self, run: RunHandle) -> None:
        """Prepare without a directory, which is created for the first client."""
        self._run: Final = run
        self._directory: str | None = None

    def join(self, slots: SpareSlots) -> Client:
        """Create a client, for one command, of the jobserver that lends these slots.

        Raises:
            OSError: the pipe cannot be created.

        """
        if self._directory is None:
            self._directory = tempfile.mkdtemp(prefix="trioflow-jobserver-")
        server = slots.borrower if isinstance(slots.borrower, Jobserver) else Jobserver(slots, self._run.clock)
        return server.join(self._directory)

    async def close(self) -> None:
        """Remove the directory; all commands have ended, and their pipes are closed."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


class Jobserver:
    """Lends the slots of one window to the commands that run in it."""

    def __init__(self, slots: SpareSlots, clock: Callable[[], float]) -> None:
        self._slots: Final = slots
        self._clock: Final = clock
        self._clients: Final[dict[Client, None]] = {}  # ordered by the last token that each was given
        self._pause = FIRST_PAUSE
        self._in_use = 0  # the number of tokens in use at the last poll
        self._cancel_poll: Callable[[], None] | None = None

    def join(self, directory: str) -> Client:
        """Create a client, with a pipe in the directory, for another command."""
        path = os.path.join(directory, f"{next(PIPE_NUMBERS)}")
        client = Client(self, path, self._slots.total, uses_pipe_names(self._slots.style))
        self._clients[client] = None
        self._slots.borrower = self
        self.offer()
        return client

    def leave(self, client: Client) -> None:
        """Remove the client of a command that has ended, and take back all its tokens."""
        del self._clients[client]
        self._slots.give_back(client.lent)
        if not self._clients:
            self._slots.borrower = None
            if self._cancel_poll is not None:
                self._cancel_poll()
        self._slots.start_waiting_jobs()
        self.offer()

    # ---- called by the engine

    def offer(self) -> None:
        """Lend all spare slots, by putting tokens into the pipes."""
        while self._clients and self._slots.take():
            self._choose_client().put()
        self._schedule_poll()

    def take_back(self, number: int) -> None:
        """Take up to `number` unused tokens out of the pipes, and return their slots."""
        for client in sorted(self._clients, key=Client.count_unused, reverse=True):
            number -= self._take_from(client, number)
        self._schedule_poll()

    def count_unused(self) -> int:
        """Return the number of tokens that are still in the pipes."""
        return sum(min(client.count_unused(), client.lent) for client in self._clients)

    def _take_from(self, client: Client, number: int) -> int:
        taken = client.take(number)
        self._slots.give_back(taken)
        return taken

    def _choose_client(self) -> Client:
        """Return the client for the next token.

        It is the one with the fewest unused tokens; among several, the one with the most tokens in use; among these,
        the one whose latest token is the oldest.
        """
        client = min(self._clients, key=lambda client: (client.count_unused(), -client.count_in_use()))
        self._clients[client] = self._clients.pop(client)
        return client

    # ---- polling the pipes

    def _schedule_poll(self) -> None:
        """Schedule a poll of the pipes if needed."""
        if self._cancel_poll is None and self._needs_poll():
            self._cancel_poll = self._slots.call_at(self._clock() + self._pause, self._poll)

    def _needs_poll(self) -> bool:
        if self._slots.is_shared:
            return bool(self._clients)
        if not self._slots.lent:
            return False
        if self._slots.count_wanted():
            return True
        inside = [client.count_unused() for client in self._clients]
        return any(inside) and not all(inside)

    def _poll(self) -> None:
        """Take back tokens if jobs wait for slots; otherwise move unused tokens to commands that may need them."""
        self._cancel_poll = None
        in_use = self._slots.lent - self.count_unused()
        self._pause = FIRST_PAUSE if in_use != self._in_use else min(2 * self._pause, LONGEST_PAUSE)
        self._in_use = in_use
        if wanted := self._slots.count_wanted():
            self.take_back(wanted)
            self._slots.start_waiting_jobs()
        else:
            self._move_unused_tokens()
        self.offer()

    def _move_unused_tokens(self) -> None:
        without = [client for client in self._clients if not client.count_unused()]
        without.sort(key=Client.count_in_use, reverse=True)
        with_some = sorted((client for client in self._clients if client.count_unused()), key=Client.count_in_use)
        for client, other in zip(with_some, without, strict=False):
            if client.take(1):
                other.put()
                self._clients[other] = self._clients.pop(other)


class Client:
    """A command as a client of the jobserver, and its token pipe.

    Args:
        server: the jobserver of the window.
        path: the path of the pipe to create.
        slots: the size of the window, which make shows as its `-j`.
        by_name: whether the command gets the name of the pipe instead of two descriptors.

    Raises:
        OSError: the pipe cannot be created.

    """

    __slots__ = ("_own", "_path", "_server", "descriptors", "flags", "lent")

    def __init__(self, server: Jobserver, path: str, slots: int, by_name: bool) -> None:
        self._server: Final = server
        self._path: Final = path
        self.lent = 0  # the number of tokens lent: those in the pipe, and those in use
        self.descriptors: Final[list[int]] = []  # inherited by the command
        posix.mkfifo(path, 0o600)
        with contextlib.ExitStack() as stack:
            stack.callback(os.unlink, path)
            self._own: Final = os.open(path, os.O_RDWR | posix.O_NONBLOCK)
            stack.callback(os.close, self._own)
            for flag in () if by_name else (os.O_RDONLY, os.O_WRONLY):
                self.descriptors.append(os.open(path, flag))  # not the same as `_own`: these block
                stack.callback(os.close, self.descriptors[-1])
            stack.pop_all()
        place = f"fifo:{path}" if by_name else ",".join(map(str, self.descriptors))
        self.flags: Final = f"-j{slots} --jobserver-auth={place}"

    def environment(self, env: Mapping[bytes, bytes] | None) -> dict[bytes, bytes]:
        """Return the command's environment with the jobserver added to MAKEFLAGS."""
        variables = dict(posix.environb if env is None else env)
        words = [word for word in variables.get(b"MAKEFLAGS", b"").split(b" ") if not JOBSERVER_FLAGS.match(word)]
        variables[b"MAKEFLAGS"] = b" ".join([*words, self.flags.encode()] if any(words) else [b"", self.flags.encode()])
        return variables

    def count_unused(self) -> int:
        """Return the number of tokens in the pipe."""
        return int(struct.unpack("i", posix.fcntl.ioctl(self._own, posix.termios.FIONREAD, b"\0\0\0\0"))[0])

    def count_in_use(self) -> int:
        """Return the number of tokens that the command and its children use."""
        return self.lent - self.count_unused()

    def put(self) -> None:
        """Put a token into the pipe."""
        self.lent += 1
        os.write(self._own, TOKEN)

    def take(self, number: int) -> int:
        """Take up to `number` tokens out of the pipe, and return how many were taken."""
        taken = 0
        with contextlib.suppress(BlockingIOError):
            taken = len(os.read(self._own, min(number, self.lent))) if number > 0 and self.lent else 0
        self.lent -= taken
        return taken

    def leave(self) -> None:
        """Close and remove the pipe after the end of the command."""
        for descriptor in (self._own, *self.descriptors):
            os.close(descriptor)
        with contextlib.suppress(OSError):  # the command has removed it
            os.unlink(self._path)
        self._server.leave(self)


JOBSERVER_FLAGS: Final = re.compile(rb"-j\d*$|--jobserver-(auth|fds|style)=")
"""Matches the words in MAKEFLAGS that refer to another jobserver, to be removed."""


def uses_pipe_names(style: object) -> bool:
    """Return whether clients get the name of their pipe; `style` is a scheduler's option `jobserver`."""
    return style == "fifo" or (style is True and accepts_pipe_names(shutil.which("make")))


@functools.cache
def accepts_pipe_names(make: str | None) -> bool:
    """Return whether a GNU make accepts the name of a jobserver's pipe.

    The result is True if there is no make, or it is another make, because other clients of a jobserver accept names.
    """
    if make is None:
        return True
    try:
        answer = subprocess.run([make, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return True
    version = re.match(r"GNU Make (\d+)\.(\d+)", answer)
    return version is None or (int(version[1]), int(version[2])) >= MIN_MAKE_VERSION
