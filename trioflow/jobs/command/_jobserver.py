"""GNU make's jobserver: the commands of a run, and what they start, share the slots of a window.

A client of a jobserver may always run one compiler. For each further one it reads a byte, a token, from a pipe, and
writes it back afterwards. Here each token is a slot of the window that no job needs (`SpareSlots`), and each command
has a pipe of its own. So it is known how many tokens it has: what was put into its pipe and is not there any more. When
it ends, however that happens, all its tokens are slots again, also those of a client that was killed.

```
a slot becomes free ──► put into a pipe ──► a client takes it ──► and writes it back
      ▲                      │ a job is ready                          │
      └──────────────────────┴──── the command has ended ◄────────────┘
```

Nothing tells whether somebody waits to read from a pipe. So while one command lets tokens lie that another might use,
or while jobs wait for tokens that are in use, the pipes are looked at again and again, less often as long as nothing
changes. Nor does anything tell when others give back, or wait for, the slots of a limiter that is shared with them: if
the window is one, that is looked at as long as there is a command.

A pipe is a named one in both styles: its name is passed ("fifo"), or two open descriptors of it ("pipe").
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
NUMBERS: Final = itertools.count(1)
"""Of pipes, which are their names."""
FIRST_PAUSE: Final = 0.005
LONGEST_PAUSE: Final = 0.1
"""Seconds after which pipes are looked at again: a compiler takes longer than the first, and one look takes 10 µs."""
NEW_ENOUGH: Final = (4, 4)
"""The version of GNU make from which on it knows a jobserver by the name of a pipe."""


class TokenPipes:
    """The directory of the pipes of a run."""

    def __init__(self, run: RunHandle) -> None:
        """Begin without one."""
        self._run: Final = run
        self._directory: str | None = None

    def join(self, slots: SpareSlots) -> Client:
        """Return a new client, for one command.

        Raises:
            OSError: no more descriptors, or no room for a file.

        """
        if self._directory is None:
            self._directory = tempfile.mkdtemp(prefix="trioflow-jobserver-")
        server = slots.borrower if isinstance(slots.borrower, Jobserver) else Jobserver(slots, self._run.clock)
        return server.join(self._directory)

    async def close(self) -> None:
        """Remove the directory; the commands have ended, and with them their pipes."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


class Jobserver:
    """Lends the slots of one window to the commands that run in it, as long as there are any."""

    def __init__(self, slots: SpareSlots, clock: Callable[[], float]) -> None:
        self._slots: Final = slots
        self._clock: Final = clock
        self._clients: Final[dict[Client, None]] = {}  # whoever was given a token last stands last
        self._pause = FIRST_PAUSE
        self._in_use = 0  # at the last look
        self._prevent_look: Callable[[], None] | None = None

    def join(self, directory: str) -> Client:
        """Make a pipe for one more command."""
        path = os.path.join(directory, f"{next(NUMBERS)}")
        client = Client(self, path, self._slots.total, is_fifo(self._slots.style))
        self._clients[client] = None
        self._slots.borrower = self
        self.offer()
        return client

    def leave(self, client: Client) -> None:
        """Take back all tokens of a command that has ended."""
        del self._clients[client]
        self._slots.give_back(client.given)
        if not self._clients:
            self._slots.borrower = None
            if self._prevent_look is not None:
                self._prevent_look()
        self._slots.tell()
        self.offer()

    # ---- what the engine asks

    def offer(self) -> None:
        """Put slots that no job needs into the pipes."""
        while self._clients and self._slots.take():
            self._neediest().put()
        self._look_again()

    def take_back(self, number: int) -> None:
        """Take tokens out of the pipes that nobody has taken."""
        for client in sorted(self._clients, key=Client.inside, reverse=True):
            number -= self._taken_from(client, number)
        self._look_again()

    def unused(self) -> int:
        """Return how many tokens nobody has taken."""
        return sum(min(client.inside(), client.given) for client in self._clients)

    def _taken_from(self, client: Client, number: int) -> int:
        taken = client.take(number)
        self._slots.give_back(taken)
        return taken

    def _neediest(self) -> Client:
        """Return who is to get the next token: who has none left, and uses some; else who was given one long ago."""
        client = min(self._clients, key=lambda one: (one.inside(), -one.in_use()))
        self._clients[client] = self._clients.pop(client)
        return client

    # ---- looking at the pipes

    def _look_again(self) -> None:
        """Look at the pipes in a moment, if there is a reason."""
        if self._prevent_look is None and self._has_reason():
            self._prevent_look = self._slots.call_at(self._clock() + self._pause, self._look)

    def _has_reason(self) -> bool:
        if self._slots.is_shared:
            return bool(self._clients)
        if not self._slots.lent:
            return False
        if self._slots.wanted():
            return True
        inside = [client.inside() for client in self._clients]
        return any(inside) and not all(inside)

    def _look(self) -> None:
        """Take back what jobs wait for; or else give tokens that lie in one pipe to whoever may have a use for them."""
        self._prevent_look = None
        in_use = self._slots.lent - self.unused()
        self._pause = FIRST_PAUSE if in_use != self._in_use else min(2 * self._pause, LONGEST_PAUSE)
        self._in_use = in_use
        if wanted := self._slots.wanted():
            self.take_back(wanted)
            self._slots.tell()
        else:
            self._move()
        self.offer()

    def _move(self) -> None:
        without = [client for client in self._clients if not client.inside()]
        without.sort(key=Client.in_use, reverse=True)
        with_some = sorted((one for one in self._clients if one.inside()), key=Client.in_use)
        for client, other in zip(with_some, without, strict=False):
            if client.take(1):
                other.put()
                self._clients[other] = self._clients.pop(other)


class Client:
    """One command, and its pipe.

    Args:
        server: where it belongs.
        path: where the pipe is to be.
        slots: how many compilers may run at once, for its users' information.
        by_name: whether it is told the name of the pipe, instead of two descriptors.

    Raises:
        OSError: the pipe cannot be made.

    """

    __slots__ = ("_own", "_path", "_server", "descriptors", "flags", "given")

    def __init__(self, server: Jobserver, path: str, slots: int, by_name: bool) -> None:
        self._server: Final = server
        self._path: Final = path
        self.given = 0  # tokens, in the pipe or taken from it
        self.descriptors: Final[list[int]] = []  # what the command has to have open
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

    def environment(self, given: Mapping[bytes, bytes] | None) -> dict[bytes, bytes]:
        """Return the environment of the command: what it would have, with the way to the pipe."""
        found = dict(posix.environb if given is None else given)
        words = [word for word in found.get(b"MAKEFLAGS", b"").split(b" ") if not OF_A_JOBSERVER.match(word)]
        found[b"MAKEFLAGS"] = b" ".join([*words, self.flags.encode()] if any(words) else [b"", self.flags.encode()])
        return found

    def inside(self) -> int:
        """Return how many bytes are in the pipe."""
        return int(struct.unpack("i", posix.fcntl.ioctl(self._own, posix.termios.FIONREAD, b"\0\0\0\0"))[0])

    def in_use(self) -> int:
        """Return how many of its tokens are taken."""
        return self.given - self.inside()

    def put(self) -> None:
        """Put a token into the pipe."""
        self.given += 1
        os.write(self._own, TOKEN)

    def take(self, number: int) -> int:
        """Take tokens out of the pipe; return how many, at most `number`."""
        taken = 0
        with contextlib.suppress(BlockingIOError):
            taken = len(os.read(self._own, min(number, self.given))) if number > 0 and self.given else 0
        self.given -= taken
        return taken

    def leave(self) -> None:
        """Close the pipe: the command has ended."""
        for descriptor in (self._own, *self.descriptors):
            os.close(descriptor)
        with contextlib.suppress(OSError):  # it has removed it
            os.unlink(self._path)
        self._server.leave(self)


OF_A_JOBSERVER: Final = re.compile(rb"-j\d*$|--jobserver-(auth|fds|style)=")
"""Words in MAKEFLAGS that name another jobserver."""


def is_fifo(style: object) -> bool:
    """Return whether clients are told the name of a pipe, by the option `jobserver` of a scheduler."""
    return style == "fifo" or (style is True and make_knows_names(shutil.which("make")))


@functools.cache
def make_knows_names(make: str | None) -> bool:
    """Return whether GNU make finds a jobserver by the name of a pipe; where there is no make, others do."""
    if make is None:
        return True
    try:
        said = subprocess.run([make, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return True
    version = re.match(r"GNU Make (\d+)\.(\d+)", said)
    return version is None or (int(version[1]), int(version[2])) >= NEW_ENOUGH
