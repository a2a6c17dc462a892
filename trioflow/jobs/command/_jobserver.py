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
while nothing changes. A limiter that serves as the window does not report the demand of its other users, so with such a
window the pipes are polled while any command runs.

The pipe is a named pipe. If the scheduler's option `jobserver` is "fifo", the command gets the name of the pipe. If the
option is "pipe", the command gets two open descriptors of the pipe. If it is True, the installed make decides.
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
from typing import Final

from ... import _posix as posix
from ...abc import RunHandle, SpareSlots

TOKEN: Final = b"+"
PIPE_NUMBERS: Final = itertools.count(1)
MIN_POLL_INTERVAL: Final = 0.005
MAX_POLL_INTERVAL: Final = 0.1
"""The bounds of the interval between polls, in seconds. A poll takes only 10 µs."""
MIN_MAKE_VERSION: Final = (4, 4)
"""The first version of GNU make that accepts the name of a jobserver's pipe."""


class TokenPipeDirectory:
    def __init__(self, run: RunHandle) -> None:
        """Store the run. The directory is created when the first client is added."""
        self._run: Final = run
        self._directory_path: str | None = None

    def add_client(self, slots: SpareSlots) -> JobserverClient:
        """Create a jobserver client for one command. If no jobserver lends these slots yet, create one.

        Raises:
            OSError: the pipe cannot be created.

        """
        if self._directory_path is None:
            self._directory_path = tempfile.mkdtemp(prefix="trioflow-jobserver-")
        server = slots.borrower if isinstance(slots.borrower, Jobserver) else Jobserver(slots, self._run.clock)
        return server.add_client(self._directory_path)

    async def close(self) -> None:
        """Remove the directory, after all commands have ended and their pipes have been closed."""
        if self._directory_path is not None:
            shutil.rmtree(self._directory_path, ignore_errors=True)


class Jobserver:
    """The jobserver of one window, which lends the window's spare slots to commands as tokens."""

    def __init__(self, slots: SpareSlots, clock: Callable[[], float]) -> None:
        self._slots: Final = slots
        self._clock: Final = clock
        # The keys are ordered: the client that has waited longest since it got its latest token comes first.
        self._clients: Final[dict[JobserverClient, None]] = {}
        self._poll_interval = MIN_POLL_INTERVAL
        self._latest_in_use_count = 0  # the number of tokens that were in use at the latest poll
        self._cancel_poll: Callable[[], None] | None = None

    def add_client(self, directory: str) -> JobserverClient:
        path = os.path.join(directory, f"{next(PIPE_NUMBERS)}")
        client = JobserverClient(self, path, self._slots.total, uses_pipe_names(self._slots.jobserver_style))
        self._clients[client] = None
        self._slots.borrower = self
        self.offer()
        return client

    def remove_client(self, client: JobserverClient) -> None:
        """Remove the client of a command that has ended, and take back all its tokens."""
        del self._clients[client]
        self._slots.give_back(client.lent_token_count)
        if not self._clients:
            self._slots.borrower = None
            if self._cancel_poll is not None:
                self._cancel_poll()
        self._slots.start_waiting_jobs()
        self.offer()

    # ---- called by the engine

    def offer(self) -> None:
        while self._clients and self._slots.take():
            self._choose_client().lend_token()
        self._schedule_poll()

    def take_back(self, number: int) -> None:
        for client in sorted(self._clients, key=JobserverClient.count_unused, reverse=True):
            count = client.reclaim_tokens(number)
            self._slots.give_back(count)
            number -= count
        self._schedule_poll()

    def count_unused(self) -> int:
        return sum(min(client.count_unused(), client.lent_token_count) for client in self._clients)

    def _choose_client(self) -> JobserverClient:
        """Return the client for the next token, and move the client to the end of the order.

        This is the client with the fewest unused tokens. If several have equally few, the client with the most tokens
        in use is chosen, and if that is a tie too, the client that has waited longest since its latest token.
        """
        client = min(self._clients, key=lambda client: (client.count_unused(), -client.count_in_use()))
        self._clients[client] = self._clients.pop(client)
        return client

    # ---- polling the pipes

    def _schedule_poll(self) -> None:
        if self._cancel_poll is None and self._needs_poll():
            self._cancel_poll = self._slots.call_at(self._clock() + self._poll_interval, self._poll)

    def _needs_poll(self) -> bool:
        if self._slots.is_shared:
            return bool(self._clients)
        if not self._slots.lent_count:
            return False
        if self._slots.count_wanted():
            return True
        unused_counts = [client.count_unused() for client in self._clients]
        return any(unused_counts) and not all(unused_counts)

    def _poll(self) -> None:
        """Take back tokens if jobs wait for slots; otherwise move unused tokens to commands that may need them."""
        self._cancel_poll = None
        tokens_in_use = self._slots.lent_count - self.count_unused()
        has_changed = tokens_in_use != self._latest_in_use_count
        self._poll_interval = MIN_POLL_INTERVAL if has_changed else min(2 * self._poll_interval, MAX_POLL_INTERVAL)
        self._latest_in_use_count = tokens_in_use
        if wanted_count := self._slots.count_wanted():
            self.take_back(wanted_count)
            self._slots.start_waiting_jobs()
        else:
            self._move_unused_tokens()
        self.offer()

    def _move_unused_tokens(self) -> None:
        givers = [client for client in self._clients if client.count_unused()]
        receivers = [client for client in self._clients if not client.count_unused()]
        givers.sort(key=JobserverClient.count_in_use)
        receivers.sort(key=JobserverClient.count_in_use, reverse=True)
        for giver, receiver in zip(givers, receivers, strict=False):
            if giver.reclaim_tokens(1):
                receiver.lend_token()
                self._clients[receiver] = self._clients.pop(receiver)


class JobserverClient:
    """A client of the jobserver: a command and its token pipe.

    Args:
        server: the jobserver of the window.
        path: the path of the pipe to create.
        slot_count: the size of the window, which make shows as its `-j`.
        uses_pipe_name: whether the command gets the name of the pipe instead of two descriptors.

    Raises:
        OSError: the pipe cannot be created.

    """

    __slots__ = ("_pipe_descriptor", "_pipe_path", "_server", "inherited_descriptors", "lent_token_count", "make_flags")

    def __init__(self, server: Jobserver, path: str, slot_count: int, uses_pipe_name: bool) -> None:
        self._server: Final = server
        self._pipe_path: Final = path
        self.lent_token_count = 0  # tokens in the pipe, and tokens in use by the command and its children
        self.inherited_descriptors: Final[list[int]] = []  # the descriptors that the command inherits
        posix.mkfifo(path, 0o600)
        with contextlib.ExitStack() as stack:
            stack.callback(os.unlink, path)
            self._pipe_descriptor: Final = os.open(path, os.O_RDWR | posix.O_NONBLOCK)
            stack.callback(os.close, self._pipe_descriptor)
            for flag in () if uses_pipe_name else (os.O_RDONLY, os.O_WRONLY):
                # Unlike `_pipe_descriptor`, the inherited descriptors are blocking.
                self.inherited_descriptors.append(os.open(path, flag))
                stack.callback(os.close, self.inherited_descriptors[-1])
            stack.pop_all()
        auth = f"fifo:{path}" if uses_pipe_name else ",".join(map(str, self.inherited_descriptors))
        self.make_flags: Final = f"-j{slot_count} --jobserver-auth={auth}"

    def add_to_environment(self, env: Mapping[bytes, bytes] | None) -> dict[bytes, bytes]:
        """Return the command's environment with the jobserver added to MAKEFLAGS."""
        variables = dict(posix.environb if env is None else env)
        words = [
            word for word in variables.get(b"MAKEFLAGS", b"").split(b" ") if not JOBSERVER_FLAG_PATTERN.match(word)
        ]
        variables[b"MAKEFLAGS"] = b" ".join(
            [*words, self.make_flags.encode()] if any(words) else [b"", self.make_flags.encode()]
        )
        return variables

    def count_unused(self) -> int:
        return int(struct.unpack("i", posix.fcntl.ioctl(self._pipe_descriptor, posix.termios.FIONREAD, b"\0\0\0\0"))[0])

    def count_in_use(self) -> int:
        return self.lent_token_count - self.count_unused()

    def lend_token(self) -> None:
        self.lent_token_count += 1
        os.write(self._pipe_descriptor, TOKEN)

    def reclaim_tokens(self, number: int) -> int:
        count = 0
        with contextlib.suppress(BlockingIOError):
            size = min(number, self.lent_token_count)
            count = len(os.read(self._pipe_descriptor, size)) if size > 0 else 0
        self.lent_token_count -= count
        return count

    def close(self) -> None:
        for descriptor in (self._pipe_descriptor, *self.inherited_descriptors):
            os.close(descriptor)
        with contextlib.suppress(OSError):  # the command may have removed the pipe
            os.unlink(self._pipe_path)
        self._server.remove_client(self)


JOBSERVER_FLAG_PATTERN: Final = re.compile(rb"-j\d*$|--jobserver-(auth|fds|style)=")
"""A pattern for the words in an inherited MAKEFLAGS that refer to another jobserver. These words are removed."""


def uses_pipe_names(style: object) -> bool:
    """Return whether commands get the names of their pipes, if the scheduler's option `jobserver` is `style`."""
    return style == "fifo" or (style is True and accepts_pipe_names(shutil.which("make")))


@functools.cache
def accepts_pipe_names(make: str | None) -> bool:
    """Return whether the `make` at this path accepts the name of a jobserver's pipe.

    The result is also True if there is no GNU make, because all other clients of a jobserver accept names.
    """
    if make is None:
        return True
    try:
        output = subprocess.run([make, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return True
    version = re.match(r"GNU Make (\d+)\.(\d+)", output)
    return version is None or (int(version[1]), int(version[2])) >= MIN_MAKE_VERSION
