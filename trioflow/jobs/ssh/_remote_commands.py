"""One try to run a command on a node: in a session, or, where the node is this machine, here.

A command is ended by the end of its standard input: the wrapper around it (`_wrapper`) sees that, and ends the command,
and so the session ends too. Only if that takes too long is the session killed here.

Where the node is this machine, the wrapper is a local process, and so a `CommandJob` that the job runs itself: its
output is pumped, and it is ended and reaped, as that of any command.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from ..command import _start_errors
from ..command._command_job import CommandJob
from ..command._output_sinks import Capture, DescriptorSink, FileSink, Lines, SignOfLife, Sink, Spool, line_sinks
from ..command._result import CommandError, CommandResult
from ..command._spawn_options import is_path
from ..command._streams import open_output, print_line
from ..posix._processes import Process, Usage
from ._mux import LOST
from ._session_channels import Channel
from ._ssh_errors import SshError
from ._wrapper import ReportFilter, WrapperReport, line, variables

if TYPE_CHECKING:
    from ...abc import TimeLimit
    from ._connections import Connection
    from ._local_node import LocalConnection

MARGIN: Final = 5.0
"""Seconds that the end of a command on the node may take to be known here, beyond the grace that it has there."""
MOST_WORDS: Final = 131_071
"""Bytes of a line for a node, or of a word: Linux takes no longer argument (MAX_ARG_STRLEN)."""
MOST_VARIABLES: Final = 100_000
"""Bytes of the variables of a command. They wait in the buffer of a socket until the wrapper reads them: 0.25 s."""
TAIL: Final = 2000
"""Bytes of the standard error that an error shows."""


@dataclass(frozen=True, slots=True)
class Stdio:
    """Where a command reads from and writes to."""

    stdin: str = ""  # a file on the node
    stdout: Any = None
    stderr: Any = None
    on_line: Callable[[str], object] | None = None
    tag: Callable[[], str] | None = None
    anew: bool = False  # begin files of output anew
    variables: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def is_merged(self) -> bool:
        """Whether the standard error goes where the standard output goes."""
        return bool(self.stderr == subprocess.STDOUT)


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A command for a node, and what is to become of its output."""

    job: Any
    connection: Connection | LocalConnection
    words: Sequence[str]
    redirection: Stdio
    grace: float
    limit: TimeLimit
    shown: str

    def check_size(self, what: str, size: int, most: int) -> None:
        """Raise if something is too long for the node.

        Raises:
            CommandError: it is.

        """
        if size > most:
            advice = "hand over much data by stdin=, or by a Push before"
            why = f"not started: {what} {size} bytes, and at most {most} go to a node: {advice}"
            raise CommandError(self.job, f"{self.connection.node.name}: {self.shown}", why)


class RemoteCommand:
    """One try to run a command in a wrapper: what both ways have in common."""

    def __init__(self, task: CommandSpec) -> None:
        """Open where its output goes.

        Raises:
            CommandError: the command is too long for the node.
            OSError: a file cannot be opened.

        """
        token, given = os.urandom(8).hex(), task.redirection
        sent = variables(given.variables, token) if given.variables else b""
        command = line(task.words, token, grace=task.grace, stdin=given.stdin, merged=given.is_merged, size=len(sent))
        task.check_size("its words and what trioflow adds to them are", len(os.fsencode(command)), MOST_WORDS)
        task.check_size("its variables (env=) are", len(sent), MOST_VARIABLES)
        self._task: Final = task
        self._command: Final = command
        self._sent: Final = sent
        self._tail: Final = _Tail()
        self._before: Final = _Tail()
        self._stdout: Final = _LocalOutput("stdout", given)
        if given.is_merged:
            self._stdout.sinks.append(self._tail)
        try:
            self._stderr: Final = _LocalOutput("stderr", given)
        except BaseException:
            self._stdout.close()
            raise
        self._gate: Final = _StartGate(self._stdout.sinks)
        self._filter: Final = ReportFilter(token, [self._tail, *self._stderr.sinks], self._before, self._gate.open)
        signs = [SignOfLife(task.limit.alive)] * task.limit.needs_signs
        self._sinks: Final[Sequence[Sequence[Sink]]] = [self._gate, *signs], [self._filter, *signs]

    _elapsed: float

    @property
    def report(self) -> WrapperReport:
        """What the wrapper has told."""
        return self._filter.report

    @property
    def never_started(self) -> bool:
        """Whether it is certain that nothing has started, if nothing has been told."""
        raise NotImplementedError

    @property
    def said(self) -> bytes:
        """The end of the standard error: of the command's, or, if none has started, of ssh and the login shell.

        It is the end of the output where the standard error goes there.
        """
        return bytes(self._tail.data if self.report.started else self._before.data)

    def check_login(self) -> None:
        """Raise if the command has not started because the node ended the session.

        Raises:
            SshError: its login shell, or what it runs instead, is not one for commands.

        """

    async def run(self) -> None:
        """Run it to its end."""
        try:
            with self._task.limit.counting():
                await self._run()
        finally:
            self._stdout.close()
            self._stderr.close()

    async def _run(self) -> None:
        raise NotImplementedError

    def result(self) -> CommandResult:
        """Return what became of the command on the node, which has ended."""
        report = self.report
        assert report.returncode is not None
        usage = Usage(report.user_time, report.system_time)
        return CommandResult(_signed(report.returncode), self._elapsed, usage, self._stdout.kept(), self._stderr.kept())


class InSession(RemoteCommand):
    """A command in a session of its own."""

    def __init__(self, task: CommandSpec, connection: Connection) -> None:
        super().__init__(task)
        self._connection: Final = connection
        self._ends: Final = Channel(connection.run, self._sinks)

    @property
    def never_started(self) -> bool:
        """Whether it is certain that nothing has started: ssh says so."""
        return self._connection.never_started(self.said.decode(errors="backslashreplace"))

    @property
    def said(self) -> bytes:
        """The end of the standard error, or why the session was refused."""
        return super().said + self._ends.complaint

    def check_login(self) -> None:
        """Raise if the command has not started because the node ended the session: its exit code is from there.

        Raises:
            SshError: its login shell, or what it runs instead, is not one for commands.

        """
        code = self._ends.returncode
        if code is None or not 0 <= code < LOST:
            return
        said = (self._gate.held + self.said).decode(errors="backslashreplace").strip()
        what = f"the node let us in, and ended the session with exit code {code} before the command started"
        advice = "its login shell must be one that runs commands"
        shown = self._task.shown
        raise SshError(self._connection.node, f"{shown}: {what}{f' ({said})' if said else ''}: {advice}")

    async def _run(self) -> None:
        ends, run, task = self._ends, self._connection.run, self._task
        began = run.clock()
        try:
            try:
                await ends.start(self._connection.begin, self._command, self._sent)
            except OSError as error:
                shown = f"{self._connection.node.name}: {task.shown}"
                raise CommandError(task.job, shown, _start_errors.of_streams(error)) from error
            await ends.pipes.until_ended(run.wait_readable, math.inf)
        finally:
            await ends.end(task.grace + MARGIN)
            self._elapsed = run.clock() - began
        if ends.pipes.error is not None:
            raise ends.pipes.error


class LocalCommand(RemoteCommand):
    """A command on this machine."""

    def __init__(self, task: CommandSpec, here: LocalConnection) -> None:
        super().__init__(task)
        stdout, stderr = (cast(Any, _File(sinks)) for sinks in self._sinks)
        self._process: Final = _LocalWrapper(
            here.command(self._command),
            cwd=here.directory,
            stdout=stdout,
            stderr=stderr,
            check=False,
            terminate_grace=task.grace + MARGIN,
            label=task.job.label,
        )
        self._process._sent = self._sent

    @property
    def never_started(self) -> bool:
        """Whether it is certain that nothing has started: what runs here has."""
        return False

    async def _run(self) -> None:
        try:
            await self._process.co_run()
        finally:
            local = self._process.last_result
            if local is not None:
                self._elapsed = local.elapsed


class _LocalWrapper(CommandJob):
    """The wrapper of a command on this machine. To be ended it is not sent a signal: its input is closed."""

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


class _LocalOutput:
    """Where one stream of a command goes.

    All of it passes through this program, and no descriptor of the user's reaches ssh: the process that holds the
    connection would let it be non-blocking, for everybody who has it.
    """

    def __init__(self, name: str, redirection: Stdio) -> None:
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
    """Several sinks, as a file that is written to."""

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


class _StartGate:
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
