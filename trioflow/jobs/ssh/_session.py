"""One command, or one transfer, over the connection of a node, from waiting for its turn until nothing is left of it.

Each is a local process, an `ssh` or `sftp`, and so a `CommandJob` that the job on the node runs itself: its output is
pumped, and the process is ended and reaped, as that of any command. What is different is how a command is ended: its
standard input is closed, the wrapper on the node (`_wrapper`) sees that, ends the command there, and so the local
process ends too. Only if that takes too long is the local one killed.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

import anyio

from ..command import _exits
from ..command._capture import Capture, DescriptorSink, FileSink, Lines, SignOfLife, Sink, Spool, line_sinks
from ..command._job import CommandJob
from ..command._options import is_path
from ..command._result import CommandError, CommandResult
from ..command._streams import open_output, print_line
from ..posix._processes import Process
from ._errors import SshError
from ._wrapper import Report, ReportFilter, line
from ._wrapper import variables as wrapper_variables

if TYPE_CHECKING:
    from ...abc import AbstractJob, TimeLimit
    from ._connections import Connection
    from ._files import Operation
    from ._local import Here
    from ._nodes import Node


MARGIN: Final = 5.0
"""Seconds that the end of a command on the node may take to be known here, beyond the grace that it has there."""
TRIES: Final = 3
"""How often a command is begun that could not start, because the connection was lost before."""
REFUSALS: Final = 20
"""How often a session is asked for that the node does not let in: with pauses, some 15 seconds."""
TIDYING: Final = 2.0
"""Seconds that the removal of temporary files on a node may take when something went wrong."""
MOST_WORDS: Final = 131_071
"""Bytes of a line for a node: Linux takes no longer argument (MAX_ARG_STRLEN)."""
MOST_VARIABLES: Final = 100_000
"""Bytes of the variables of a command. They wait in the buffer of a socket until the wrapper reads them: 0.25 s."""
LOST: Final = 255
"""The exit code of ssh itself, when there is no session, or no more."""
TAIL: Final = 2000
"""Bytes of the standard error that an error shows."""


@dataclass(frozen=True, slots=True)
class Redirection:
    """Where a command reads from and writes to."""

    stdin: str = ""  # a file on the node
    stdout: Any = None
    stderr: Any = None
    on_line: Callable[[str], object] | None = None
    tag: Callable[[], str] | None = None
    anew: bool = False  # begin files of output anew
    variables: Mapping[str, str] = field(default_factory=dict[str, str])


class Session:
    """Commands and transfers for one job over the connection of its node."""

    def __init__(
        self, job: AbstractJob[Any], connection: Connection | Here, grace: float, *, anew: bool, limit: TimeLimit
    ) -> None:
        """Prepare; the connection is opened when it is needed."""
        self._limit: Final = limit
        self.latest: CommandResult | None = None  # of the latest command
        self._job: Final[Any] = job
        self._connection: Final = connection
        self._grace: Final = grace
        self._anew: Final = anew

    @property
    def node(self) -> Node:
        """The node."""
        return self._connection.node

    def there(self, path: str) -> str:
        """Return a path on the node."""
        return self._connection.there(path)

    @property
    def scratch(self) -> str:
        """Where files for a while go on the node: what stands in front of their names."""
        return self._connection.scratch

    async def run(
        self,
        words: Sequence[str],
        redirection: Redirection,
        shown: str,
        *,
        allowed: frozenset[int] | None = _exits.ZERO,
    ) -> CommandResult:
        """Run a program on the node.

        Raises:
            CommandError: it has failed, and that is to be checked.
            SshError: it could not be started, or was lost.

        """
        connection = self._connection
        tries = _Tries(connection, shown)
        while True:
            await connection.ensure(anew=self._anew)
            async with self._turn() as others:
                # not before: it opens the files of its output
                attempt = _Attempt(self._job, connection, words, redirection, self._grace, self._limit, shown)
                try:
                    with self._limit.counting():
                        await attempt.run()
                finally:
                    if attempt.report.returncode is not None:
                        self.latest = attempt.result()
            if attempt.report.returncode is not None:
                return self._checked(attempt, shown, allowed)
            if attempt.report.started:
                what = f"the connection was lost, which ends the command on the node: {shown}"
                raise SshError(connection.node, what, started=True)
            attempt.check_login(shown)
            await tries.allow_another(attempt.said, others)

    async def transfer(self, operations: Sequence[Operation], shown: str) -> Sequence[str]:
        """Have files copied, and return those there that were fetched.

        Raises:
            SshError: one of the operations has failed.
            ValueError: a name that sftp cannot be told.

        """
        connection = self._connection
        tries = _Tries(connection, shown)
        while True:
            command, text = connection.copier(operations)
            job = CommandJob(
                command,
                cwd=connection.directory,
                stdin=text,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,
                terminate_grace=1.0,
                label=f"transfer of {self._job.label}",
            )
            await connection.ensure(anew=self._anew)
            async with self._turn() as others:
                result = await job.co_run()
            if not result.returncode:
                return connection.listed(result.stdout or b"", operations)
            await tries.allow_another(connection.explained(result.stderr or b""), others)

    async def tidy(self, paths: Sequence[str]) -> None:
        """Remove files on the node, as far as that can be done soon; whatever is cancelled.

        Where the connection is lost, they are removed when another job of the run has opened it again.
        """
        if paths and not await self._removed(paths):
            self._connection.litter += paths

    async def _removed(self, paths: Sequence[str]) -> bool:
        connection = self._connection
        if not connection.is_open():
            return False
        removal = CommandJob(
            connection.command("rm -rf -- " + shlex.join(paths)),
            cwd=connection.directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            terminate_grace=0.1,
        )
        with anyio.move_on_after(TIDYING, shield=True), contextlib.suppress(Exception):
            return (await removal.co_run()).returncode != LOST
        return False

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncGenerator[int]:
        """Have one of the connection's sessions, with the connection open; gives how many others are in use.

        It was open when we began to wait for our turn. That is not done here: what cannot be reached would have a frame
        of contextlib in its traceback.
        """
        connection = self._connection
        async with connection.sessions:
            await connection.ensure(anew=self._anew)  # it may have been lost meanwhile
            litter, connection.litter = connection.litter, []
            await self.tidy(litter)
            yield connection.sessions.borrowed_tokens - 1

    def _checked(self, attempt: _Attempt, shown: str, allowed: frozenset[int] | None) -> CommandResult:
        result = self.latest
        assert result is not None
        failure = _exits.failure(allowed, result.returncode)
        if failure is not None:
            raise CommandError(self._job, f"{self.node.name}: {shown}", failure, result, attempt.said)
        return result


class _Tries:
    """Whether a command or transfer may be begun again: only if it is certain that nothing of it has started."""

    def __init__(self, connection: Connection | Here, shown: str) -> None:
        self._connection: Final = connection
        self._shown: Final = shown
        self._lost = 0
        self._refused = 0

    async def allow_another(self, said: bytes, others: int) -> None:
        """Return if there may be one more try, after what ssh has said to this one.

        Raises:
            SshError: there may be none.

        """
        connection, text = self._connection, said.decode(errors="backslashreplace")
        if connection.is_full(text) and self._refused < REFUSALS:
            self._refused += 1
            connection.allow_no_more_than(others)
            await anyio.sleep(min(1.0, 0.01 * 2**self._refused))
            return
        never_started = connection.never_started(text)
        self._lost += 1
        if not never_started or self._lost >= TRIES:
            what = text.strip() or "the connection was lost"
            raise SshError(connection.node, f"{self._shown}: {what}", started=not never_started)


class _Attempt:
    """One try to run one command."""

    def __init__(
        self,
        job: Any,
        connection: Connection | Here,
        words: Sequence[str],
        redirection: Redirection,
        grace: float,
        limit: TimeLimit,
        shown: str,
    ) -> None:
        token = os.urandom(8).hex()
        merged, variables = redirection.stderr == subprocess.STDOUT, redirection.variables
        sent = wrapper_variables(variables, token) if variables else b""
        command = line(words, token, grace=grace, stdin=redirection.stdin, merged=merged, size=len(sent))
        for what, size, most in (
            ("its words and what trioflow adds to them", len(os.fsencode(command)), MOST_WORDS),
            ("its variables (env=)", len(sent), MOST_VARIABLES),
        ):
            if size > most:
                advice = "hand over much data by stdin=, or by a Push before"
                why = f"not started: {what} are {size} bytes, and at most {most} go to a node: {advice}"
                raise CommandError(job, f"{connection.node.name}: {shown}", why)
        self._connection: Final = connection
        self._tail: Final = _Tail()
        self._before: Final = _Tail()
        self._stdout: Final = _Outlet("stdout", redirection)
        try:
            self._stderr: Final = _Outlet("stderr", redirection)
        except BaseException:
            self._stdout.close()
            raise
        signs = [SignOfLife(limit.alive)] * limit.needs_signs
        self._gate: Final = _Gate(self._stdout.sinks)
        sinks = [self._tail, *self._stderr.sinks]
        self._filter: Final = ReportFilter(token, sinks, self._before, self._gate.open)
        self._client: Final = _Client(
            connection.command(command),
            cwd=connection.directory,
            stdout=cast(Any, _File([self._gate, *signs])),
            stderr=cast(Any, _File([self._filter, *signs])),
            check=False,
            terminate_grace=grace + MARGIN,
            label=job.label,
        )
        self._client._sent = sent

    @property
    def report(self) -> Report:
        """What the wrapper has told."""
        return self._filter.report

    @property
    def said(self) -> bytes:
        """The end of the standard error: of the command's, or, if none has started, of ssh and the login shell."""
        return bytes(self._tail.data if self.report.started else self._before.data)

    def check_login(self, shown: str) -> None:
        """Raise if the command has not started because the node ended the session: ssh has the exit code from there.

        Raises:
            SshError: its login shell, or what it runs instead, is not one for commands.

        """
        local = self._client.last_result
        if local is None or not 0 <= local.returncode < LOST:
            return
        said = (self._gate.held + self.said).decode(errors="backslashreplace").strip()
        what = f"the node let us in, and ended the session with exit code {local.returncode} before the command started"
        advice = "its login shell must be one that runs commands"
        raise SshError(self._connection.node, f"{shown}: {what}{f' ({said})' if said else ''}: {advice}")

    async def run(self) -> None:
        """Run it to its end."""
        try:
            await self._client.co_run()
        finally:
            self._stdout.close()
            self._stderr.close()

    def result(self) -> CommandResult:
        """Return what became of the command on the node, which has ended."""
        local, report = self._client.last_result, self.report
        assert local is not None
        assert report.returncode is not None
        usage = resource.struct_rusage([report.user_time, report.system_time, *[0] * 14])
        return CommandResult(_signed(report.returncode), local.elapsed, usage, self._stdout.kept(), self._stderr.kept())


class _Client(CommandJob):
    """The local process of a command on a node. To be ended it is not sent a signal: its input is closed."""

    __slots__ = ("_lifeline", "_sent", "_theirs")

    _lifeline: socket.socket
    _sent: bytes  # at the beginning
    _theirs: socket.socket

    async def co_run(self) -> CommandResult:
        """Run it, with an input that lasts as long as it is wanted.

        It is a socket, as the buffer of a pipe may be as small as a page: all that is sent fits into it at once.
        """
        self._lifeline, self._theirs = socket.socketpair()
        try:
            if self._sent:
                self._lifeline.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(self._sent))
                self._lifeline.sendall(self._sent)
            return await super().co_run()
        finally:
            self._let_go()

    def _input(self, stdin: Any) -> int:
        return self._theirs.fileno()

    def _terminate(self, process: Process) -> None:
        self._let_go()

    def _let_go(self) -> None:
        self._lifeline.close()
        self._theirs.close()


class _Outlet:
    """Where one stream of a command goes.

    All of it passes through this program, and no descriptor of the user's reaches ssh: the process that holds the
    connection would let it be non-blocking, for everybody who has it.
    """

    def __init__(self, name: str, redirection: Redirection) -> None:
        """Open it.

        Raises:
            OSError: a file cannot be opened.

        """
        given = getattr(redirection, name)
        self._capture: Final = Capture() if given == subprocess.PIPE else None
        self.sinks: list[Sink] = [] if self._capture is None else [self._capture]
        lines = line_sinks(name, redirection.on_line, redirection.tag)
        self.sinks += lines
        if is_path(given):
            self.sinks.append(DescriptorSink(open_output(given, anew=redirection.anew)))
        elif not (lines or given in (subprocess.PIPE, subprocess.DEVNULL, subprocess.STDOUT)):
            self.sinks += _onwards(getattr(sys, name) if given is None else given)

    def kept(self) -> bytes | Spool | None:
        """Return what was captured; None if it was not."""
        return None if self._capture is None else self._capture.kept()

    def close(self) -> None:
        """Close what was opened here, also where the command could not be started, or another sink has failed."""
        for sink in self.sinks:
            if isinstance(sink, DescriptorSink):
                sink.finish()


class _File:
    """Several sinks, as a file that a `CommandJob` writes to."""

    mode: Final = "wb"

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks: Final = sinks

    def write(self, data: bytes) -> None:
        """Hand it on."""
        for sink in self._sinks:
            sink.write(data)

    def flush(self) -> None:
        """Tell that there is no more."""
        for sink in self._sinks:
            sink.finish()


class _Gate:
    """Keeps back what comes before the command has started, which a login shell has written."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self.held = b""
        self._sinks: Final = sinks
        self._is_open = False
        self._is_over = False

    def open(self) -> None:
        """Hand on all that comes, and what has come: the start may be known later than what the command wrote then."""
        self._is_open = True
        held, self.held = self.held, b""
        self._hand_on(held)
        if self._is_over:
            self.finish()

    def write(self, data: bytes) -> None:
        """Take the next piece."""
        if self._is_open:
            self._hand_on(data)
        else:
            self.held += data

    def finish(self) -> None:
        """Tell that there is no more; what is kept back may still come."""
        self._is_over = True
        if self._is_open:
            for sink in self._sinks:
                sink.finish()

    def _hand_on(self, data: bytes) -> None:
        if data:
            for sink in self._sinks:
                sink.write(data)


class _Tail:
    """The end of a stream."""

    def __init__(self) -> None:
        self.data: Final = bytearray()

    def write(self, data: bytes) -> None:
        """Keep it, and forget what came long before."""
        self.data.extend(data)
        del self.data[:-TAIL]

    def finish(self) -> None:
        """Nothing is left to do."""


def _onwards(file: Any) -> list[Sink]:
    """Return what writes on to a file, which is perhaps above a monitor's picture."""
    if file is None:
        return []
    if isinstance(file, int):
        file = open(file, "wb", buffering=0, closefd=False)  # noqa: SIM115 - it is the caller's to close
    if getattr(file, "has_picture", None):
        return [Lines(lambda text: print_line(file, text))]
    return [FileSink(file, at_once=True)]


def _signed(code: int) -> int:
    """Return an exit code as `subprocess` has it, where a shell adds 128 to the number of a signal."""
    with contextlib.suppress(ValueError):
        return -signal.Signals(code - 128)
    return code
