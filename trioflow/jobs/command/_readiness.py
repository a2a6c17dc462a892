"""The conditions for `CommandService(ready=...)`.

The system does not report when a program starts to listen on a port or creates a file, so these conditions are polled:
at once, after 10 ms, and then at intervals that grow to 0.1 s. Testing a local port takes 0.1 ms. Lines of output are
read from a pipe, which needs no polling. If the output goes to a file, the file is polled.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, Final, final

import anyio

from ... import _posix as posix
from ..._core.base._text_forms import name_in_errors, short_repr, shown_value
from ..._core.job._errors import JobTimeout
from ...abc import RunHandle
from . import _command_job, _result
from ._output_sinks import open_unless_pipe

MIN_POLL_INTERVAL: Final = 0.01
MAX_POLL_INTERVAL: Final = 0.1
"""The bounds of the interval between two tests, in seconds."""
POLLED_BYTES: Final = 1 << 20
"""How much of an output file is read at once for new lines. A longer line is passed over."""


class Readiness(ABC):
    """A condition that a service meets when it is ready."""

    def _copy(self) -> Readiness:
        """Return the condition for a single service, which must not see the events of another service."""
        return self

    def _check_before_start(self) -> None:  # noqa: B027  # not abstract: most conditions have nothing to check
        """Prepare for an attempt, before the service is started.

        Raises:
            RuntimeError: the condition is already met, so it could not show that the service is ready.

        """

    def _process_line(self, text: str) -> None:  # noqa: B027  # not abstract: most conditions ignore the output
        """Process a line of the service's output."""

    def _redact(self) -> None:  # noqa: B027  # not abstract: the errors of most conditions have no values
        """Hide the values of the condition in errors, because the service is redacted."""

    @abstractmethod
    async def _wait(self, run: RunHandle, output_files: Mapping[Any, int]) -> Any:
        """Wait until the service is ready, and return the service's result.

        Args:
            run: the run.
            output_files: the files that get the output, with their sizes before the service started.

        """

    def _latest_failure(self) -> str:
        """Return a space and a sentence about the latest failed test, or "" if there is nothing to report."""
        return ""


async def poll_until(run: RunHandle, probe: Callable[[], Awaitable[Any]]) -> Any:
    """Call `probe` at growing intervals until its result is not None, and return the result."""
    interval = MIN_POLL_INTERVAL
    while (result := await probe()) is None:
        await run.sleep_until(run.clock() + interval)
        interval = min(MAX_POLL_INTERVAL, interval * 1.5)
    return result


@final
class PortOpen(Readiness):
    """The condition that a program accepts connections on a TCP port. Its result is the number of the port.

    Use it as `ready=` of a service that listens on a port.

    If another program listens on the port already, the service fails at once.

    Args:
        number: the port, from 1 to 65,535.
        host: a name or an address of this machine.

    Raises:
        TypeError, ValueError: the number is not a port.

    Example:
        >>> import sys
        >>> server = CommandService([sys.executable, "-m", "http.server", "8749"], ready=PortOpen(8749))
        >>> server.ready
        PortOpen(8749, 'localhost')

    """

    def __init__(self, number: int, host: str = "localhost") -> None:
        value: Any = number
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(
                f"PortOpen({short_repr(number)}): give the number of a TCP port, such as 5432"
            )
        if not 1 <= number <= 65535:
            raise ValueError(
                f"PortOpen({short_repr(number)}): a TCP port is a number from 1 to 65535"
            )
        if not isinstance(host, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"PortOpen({number}, host={short_repr(host)}): give a host name or address"
            )
        self.number: Final = number
        self.host: Final = host

    def __repr__(self) -> str:
        """Return the constructor call."""
        return f"PortOpen({self.number}, {self.host!r})"

    def __str__(self) -> str:
        """Return the condition as an infinitive clause for error messages."""
        return f"port {self.number} of {self.host} to accept connections"

    def _check_before_start(self) -> None:
        """Make sure that the port is free.

        Raises:
            RuntimeError: another program listens on the port.

        """
        with (
            contextlib.suppress(OSError),
            socket.create_connection((self.host, self.number), timeout=0.2),
        ):
            raise RuntimeError(
                f"port {self.number} of {self.host} is already in use before the service starts: stop the program "
                f"that uses it, or give the service another port"
            )

    async def _wait(self, run: RunHandle, output_files: object) -> int:
        """Try to connect until a connection succeeds, and return the number of the port."""
        return await poll_until(run, self._try_connect)  # type: ignore[no-any-return]

    async def _try_connect(self) -> int | None:
        try:
            async with await anyio.connect_tcp(self.host, self.number):
                return self.number
        except OSError:
            return None


@final
class OutputLine(Readiness):
    r"""The condition that a program has written a line that contains a text. Its result is the line.

    Use it as `ready=` of a service that writes when it is ready.

    The line may come from standard output or standard error. If one of these goes to a file, files alone are searched.

    Args:
        text: a part of the line, or a compiled regular expression to search for in it.

    Raises:
        TypeError: `text` is neither a string nor a regular expression, or is empty.

    Example:
        >>> import subprocess
        >>> service = CommandService("echo port 4711; exec sleep 60", shell=True, ready=OutputLine("port "))
        >>> job = CommandJob(["echo", service], stdout=subprocess.PIPE)
        >>> Scheduler(service, job).run(), job.result().text
        (True, 'port 4711\n')

    """

    _match_event: anyio.Event

    def __init__(self, text: str | re.Pattern[str]) -> None:
        value: Any = text
        if not isinstance(value, (str, re.Pattern)) or not value:
            raise TypeError(
                f"OutputLine({shown_value(text, name_in_errors('OutputLine', True))}): give part of the line as a "
                "string, or a compiled regular expression (of str, not bytes)"
            )
        self.text: Final = text
        self._matching_line: str | None = None

    def __repr__(self) -> str:
        """Return the constructor call."""
        return f"OutputLine({self.text!r})"

    def __str__(self) -> str:
        """Return the condition as an infinitive clause for error messages."""
        text = self.text if isinstance(self.text, str) else self.text.pattern
        return f"a line with {text!r} in its output"

    def _copy(self) -> OutputLine:
        return OutputLine(self.text)

    def _check_before_start(self) -> None:
        """Discard the matching line of an earlier attempt."""
        self._matching_line = None
        self._match_event = anyio.Event()

    def _process_line(self, text: str) -> None:
        """Store the first line that matches, and wake `_wait`."""
        if self._matching_line is None and self._matches(text):
            self._matching_line = text
            self._match_event.set()

    def _matches(self, line: str) -> bool:
        if isinstance(self.text, str):
            return self.text in line
        return self.text.search(line) is not None

    async def _wait(self, run: RunHandle, output_files: Mapping[Any, int]) -> str:
        """Wait for a line that matches, and return it.

        Files are polled for new lines, because there is no portable notification of a growing file.
        """
        positions = dict(output_files)

        async def read_new_lines() -> str | None:
            for path, position in positions.items():
                with contextlib.suppress(OSError), open_unless_pipe(path) as file:
                    file.seek(position)
                    *lines, rest = file.read(POLLED_BYTES).split(b"\n")
                    positions[path] += sum(len(line) + 1 for line in lines)
                    if len(rest) == POLLED_BYTES:
                        # A line without an end.
                        positions[path] += len(rest)
                    for line in lines:
                        text = line.removesuffix(b"\r")
                        self._process_line(text.decode(errors="backslashreplace"))
            return self._matching_line

        if positions:
            return await poll_until(run, read_new_lines)  # type: ignore[no-any-return]
        await self._match_event.wait()
        assert self._matching_line is not None
        return self._matching_line


@final
class CommandSucceeds(Readiness):
    """The condition that another command succeeds, such as `pg_isready`. Its result is the `CommandResult`.

    Use it as `ready=` of a service whose readiness a command can test.

    The command is repeated, with pauses of 0.01 to 0.1 s, until it succeeds. If the service is not ready in time, the
    error includes the command's latest failure.

    Args:
        command: the program and its arguments.
        options: options of the `CommandJob` that runs the command, such as `cwd`, `env`, and `timeout`: a call that
            exceeds it has failed.

    Raises:
        TypeError, ValueError: as for a `CommandJob`.

    Example:
        >>> CommandSucceeds(["pg_isready", "-q"])
        CommandSucceeds(['pg_isready', '-q'])

    """

    def __init__(self, command: Any, /, **options: Any) -> None:
        self.command: Final = command
        self.options: Final = options
        all_options: dict[str, Any] = {"stdout": DEVNULL, "stderr": PIPE, **options}
        self._job: Final = _command_job.CommandJob(command, **all_options)
        self._latest_error: _result.CommandError | JobTimeout | None = None

    def __repr__(self) -> str:
        """Return the constructor call."""
        options = "".join(
            f", {name}={short_repr(value)}" for name, value in self.options.items()
        )
        return f"CommandSucceeds({self.command!r}{options})"

    def __str__(self) -> str:
        """Return the condition as an infinitive clause for error messages."""
        return f"{self._job.command_line()!r} to succeed"

    def _copy(self) -> CommandSucceeds:
        return CommandSucceeds(self.command, **self.options)

    def _redact(self) -> None:
        self._job.redact = True

    def _check_before_start(self) -> None:
        """Discard the latest failure of an earlier attempt."""
        self._latest_error = None

    async def _wait(self, run: RunHandle, output_files: object) -> Any:
        """Run the command repeatedly until it succeeds, and return its result."""
        return await poll_until(run, self._try_command)

    async def _try_command(self) -> Any:
        try:
            return await self._job.co_run()
        except _result.CommandError as error:
            if error.returncode is None:
                # The command could not be started.
                raise
            self._latest_error = error
            return None
        except JobTimeout as error:
            # Its own time limit: that of the service cancels this wait.
            self._latest_error = error
            return None

    def _latest_failure(self) -> str:
        """Return a space and a sentence about the latest failure of the command, or "" if there was none."""
        if self._latest_error is None:
            return ""
        return f" The last attempt failed: {self._latest_error}."


@final
class FileExists(Readiness):
    """The condition that a file has been created, replaced or modified, or that a Unix socket accepts connections."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._initial_stamp: tuple[int, int] | None = None

    def __str__(self) -> str:
        return f"{str(self._path)!r} to exist"

    def _check_before_start(self) -> None:
        """Note which file is there, and make sure that no program listens on a socket.

        Raises:
            RuntimeError: another program listens on the socket.

        """
        self._initial_stamp = self._read_stamp()
        if self._is_socket() and self._accepts_connections():
            raise RuntimeError(
                f"the socket {str(self._path)!r} is already in use before the service starts: stop the program that "
                f"uses it, or give the service another path"
            )

    def _read_stamp(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    async def _wait(self, run: RunHandle, output_files: object) -> Path:
        return await poll_until(run, self._find_file)  # type: ignore[no-any-return]

    async def _find_file(self) -> Path | None:
        if self._is_socket():
            is_ready = self._accepts_connections()
        else:
            is_ready = self._read_stamp() not in (None, self._initial_stamp)
        return self._path if is_ready else None

    def _is_socket(self) -> bool:
        try:
            return stat.S_ISSOCK(os.stat(self._path).st_mode)
        except OSError:
            return False

    def _accepts_connections(self) -> bool:
        """Return whether a program listens on the socket: one that was killed may have left it."""
        with socket.socket(posix.AF_UNIX) as client:
            client.setblocking(False)
            try:
                client.connect(str(self._path))
            except OSError:
                return False
        return True


def make_readiness(value: object, subject: str) -> Readiness:
    """Return the `Readiness` of a service for its argument `ready`.

    Raises:
        TypeError: `value` is neither a condition nor a path.

    """
    if isinstance(value, Readiness):
        return value._copy()
    if isinstance(value, Path):
        return FileExists(value)
    advice = "give PortOpen(5432), OutputLine('ready to accept'), CommandSucceeds(['pg_isready']), or a pathlib.Path"
    raise TypeError(f"ready={shown_value(value, subject)} of {subject}: {advice}")
