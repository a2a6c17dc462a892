"""When a service is ready: what `CommandService(ready=...)` may be, and how each is found out.

Nothing tells a program that another one listens on a port or has made a file, but to try: 10 ms after the start for the
first time, then less and less often, down to ten times a second. A try at a local port takes 0.1 ms. Lines of output
come through a pipe, and need no looking; those that go to a file are looked for there.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from ... import _posix as posix
from ...abc import shown
from ._command_job import CommandJob
from ._result import CommandError

if TYPE_CHECKING:
    from ...abc import RunHandle

FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 0.1
"""Seconds between two tries."""


class Readiness(ABC):
    """A way to find out that a service is ready."""

    def look_before(self) -> None:  # noqa: B027  # most need not look
        """Look at what is there before the service is started.

        Raises:
            RuntimeError: it could not be told from the service.

        """

    def line(self, text: str) -> None:  # noqa: B027  # and do not read
        """Take a line that the service has written."""

    @abstractmethod
    async def wait(self, run: RunHandle) -> Any:
        """Return when the service is ready, with the result that it is to have."""

    def said(self) -> str:
        """Return what is known of the latest try that failed, as a sentence with a blank before it; or nothing."""
        return ""


async def until(run: RunHandle, find: Callable[[], Awaitable[Any]]) -> Any:
    """Call `find` until it returns something else than None, and return that."""
    pause = FIRST_PAUSE
    while (found := await find()) is None:
        await run.sleep_until(run.clock() + pause)
        pause = min(LONGEST_PAUSE, pause * 1.5)
    return found


@final
class PortOpen(Readiness):
    """A `CommandService` is ready when it accepts connections on a TCP port; its result is the number of the port.

    The port must be free before: if somebody else listens there, the service fails at once.

    Args:
        number: the port, from 1 to 65,535.
        host: a name or an address of this machine.

    Raises:
        TypeError, ValueError: the number is no port.

    Example:
        >>> import sys
        >>> server = CommandService([sys.executable, "-m", "http.server", "8749"], ready=PortOpen(8749))
        >>> server.ready
        PortOpen(8749, 'localhost')

    """

    def __init__(self, number: int, host: str = "localhost") -> None:
        given: Any = number
        if isinstance(given, bool) or not isinstance(given, int):
            raise TypeError(f"PortOpen({shown(number)}): give the number of a TCP port, such as 5432")
        if not 1 <= number <= 65535:
            raise ValueError(f"PortOpen({shown(number)}): a TCP port is a number from 1 to 65535")
        if not isinstance(host, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"PortOpen({number}, host={shown(host)}): give the name or the address of a host")
        self.number: Final = number
        self.host: Final = host

    def __repr__(self) -> str:
        """Show it as it was given."""
        return f"PortOpen({self.number}, {self.host!r})"

    def __str__(self) -> str:
        """Say what is waited for."""
        return f"port {self.number} of {self.host} to accept connections"

    def look_before(self) -> None:
        """Make sure that nobody listens there."""
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.number), timeout=0.2):
            raise RuntimeError(
                f"port {self.number} of {self.host} is in use before the service is started: end what uses it, or give "
                f"the service another port"
            )

    async def wait(self, run: RunHandle) -> int:
        """Try to connect, again and again."""
        return await until(run, self._connected)  # type: ignore[no-any-return]

    async def _connected(self) -> int | None:
        try:
            async with await anyio.connect_tcp(self.host, self.number):
                return self.number
        except OSError:
            return None


@final
class OutputLine(Readiness):
    r"""A `CommandService` is ready when it has written a line with a certain text; its result is this line.

    It may write it to its standard output or its standard error, in any number of pieces.

    Args:
        text: a part of the line, or a regular expression that is found in it.

    Raises:
        TypeError: the text is something else.

    Example:
        >>> import subprocess
        >>> service = CommandService("echo port 4711; exec sleep 60", shell=True, ready=OutputLine("port "))
        >>> job = CommandJob(["echo", service], stdout=subprocess.PIPE)
        >>> Scheduler(service, job).run(), job.result().text
        (True, 'port 4711\n')

    """

    def __init__(self, text: str | re.Pattern[str]) -> None:
        given: Any = text
        if not isinstance(given, (str, re.Pattern)) or not given:
            raise TypeError(
                f"OutputLine({shown(text)}): give a part of the line, or a compiled regular expression of text"
            )
        self.text: Final = text
        self._lines: list[str] = []
        self._came: anyio.Event | None = None

    def __repr__(self) -> str:
        """Show it as it was given."""
        return f"OutputLine({self.text!r})"

    def __str__(self) -> str:
        """Say what is waited for."""
        return f"a line with {self.text if isinstance(self.text, str) else self.text.pattern!r} in its output"

    def look_before(self) -> None:
        """Forget what an earlier attempt has written."""
        self._lines.clear()
        self._came = anyio.Event()

    def line(self, text: str) -> None:
        """Note a line that says that the service is ready."""
        if not self._lines and self._is_in(text):
            self._lines.append(text)
            if self._came is not None:
                self._came.set()

    def _is_in(self, text: str) -> bool:
        return self.text in text if isinstance(self.text, str) else self.text.search(text) is not None

    async def wait(self, run: RunHandle) -> str:
        """Wait for the line."""
        assert self._came is not None
        await self._came.wait()
        return self._lines[0]


@final
class CommandSucceeds(Readiness):
    """A `CommandService` is ready when another command succeeds, such as `pg_isready`; its result is that command's.

    The command is called again after a pause of 0.01 to 0.1 s. What it writes is shown only if the service never gets
    ready.

    Args:
        command: the program and its arguments.
        options: those of the `CommandJob` that it is, such as `cwd` and `env`.

    Raises:
        TypeError, ValueError: what a `CommandJob` refuses.

    Example:
        >>> CommandSucceeds(["pg_isready", "-q"])
        CommandSucceeds(['pg_isready', '-q'])

    """

    def __init__(self, command: Any, /, **options: Any) -> None:
        self.command: Final = command
        given: dict[str, Any] = {"stdout": DEVNULL, "stderr": PIPE, **options}
        self._job: Final = CommandJob(command, **given)
        self._latest: CommandError | None = None

    def __repr__(self) -> str:
        """Show it as it was given."""
        return f"CommandSucceeds({self.command!r})"

    def __str__(self) -> str:
        """Say what is waited for."""
        return f"{self._job.command_line()!r} to succeed"

    async def wait(self, run: RunHandle) -> Any:
        """Call it, again and again."""
        return await until(run, self._succeeded)

    async def _succeeded(self) -> Any:
        try:
            return await self._job.co_run()
        except CommandError as error:
            if error.returncode is None:
                raise  # it could not even be started
            self._latest = error
            return None

    def said(self) -> str:
        """Return how it failed the last time."""
        return "" if self._latest is None else f" It failed the last time: {self._latest}."


@final
class Exists(Readiness):
    """A file is there that was not there before; a socket is ready when it accepts connections."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._before: tuple[int, int] | None = None

    def __str__(self) -> str:
        """Say what is waited for."""
        return f"{str(self._path)!r} to be there"

    def look_before(self) -> None:
        """Note which file is there already."""
        self._before = self._identity()

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    async def wait(self, run: RunHandle) -> Path:
        """Look, again and again."""
        return await until(run, self._found)  # type: ignore[no-any-return]

    async def _found(self) -> Path | None:
        try:
            is_socket = stat.S_ISSOCK(os.stat(self._path).st_mode)
        except OSError:
            return None
        if not is_socket:
            return self._path if self._identity() != self._before else None
        with socket.socket(posix.AF_UNIX) as one:
            one.setblocking(False)
            try:
                one.connect(str(self._path))
            except OSError:  # it is bound, but nobody listens yet, or not any more
                return None
        return self._path


def readiness(given: Any, who: str) -> Readiness:
    """Return what finds out that a service is ready.

    Raises:
        TypeError: it is nothing that can.

    """
    if isinstance(given, Readiness):
        return given
    if isinstance(given, Path):
        return Exists(given)
    advice = "give PortOpen(5432), OutputLine('ready to accept'), CommandSucceeds(['pg_isready']), or a pathlib.Path"
    raise TypeError(f"ready={shown(given)} of {who}: {advice}")
