"""Commands and file transfers over the connection to a node, with the wait for a session, retries, and cleanup.

`NodeSession` retries a command or a transfer that has not started. `RemoteCommand` is a single attempt.

Each command runs in a wrapper, a shell script on the node (`_wrapper`). A nested `CommandJob` starts the local end,
which is an ssh that shares the connection, or the wrapper itself for a `LocalNode`. The `CommandJob` reads the output
of the local end, ends it and reaps it. To end a command, the `CommandJob` closes the standard input of the wrapper,
which then ends the command and exits. If that takes too long, the `CommandJob` kills the local end.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any, Final, cast

import anyio

from ..._core.run._current import current_job
from ...abc import AbstractJob, TimeLimit, run_of
from .._user_files import open_output_file
from ..command import _output_sinks, _spawn_options
from ..command._command_job import CommandJob
from ..command._output_sinks import (
    MAX_TAIL_BYTES,
    CaptureSink,
    DescriptorSink,
    OutputSink,
    OutputSpool,
)
from ..command._result import (
    REDACTED_COMMAND,
    ZERO_ONLY,
    CommandError,
    CommandResult,
    describe_failure,
)
from ..posix._processes import Process, ReportedUsage
from . import _nodes, _transport, _wrapper
from ._connections import MAX_REFUSALS, Connection, LocalConnection, pause_after
from ._ssh_errors import SshError
from ._transport import LOST_SESSION_CODE, Operation

MAX_ATTEMPTS: Final = 3
"""The maximum number of attempts to start a command whose connection is lost before it starts."""

REMOVAL_PAUSE: Final = 0.05
"""The time, in seconds, until files are removed for which the node has refused a session."""


class NodeSession:
    """The commands and file transfers of a job, over the connection to its node."""

    def __init__(
        self,
        job: AbstractJob[Any],
        connection: Connection | LocalConnection,
        grace: float,
        limit: TimeLimit,
    ) -> None:
        """Create a session. The connection is opened on demand.

        Args:
            job: the job.
            connection: the connection to the node.
            grace: seconds between SIGTERM and SIGKILL.
            limit: the time limit of the job.

        """
        self.limit: Final = limit
        self.latest_result: CommandResult | None = None
        self.job: Final[Any] = job
        self.connection: Final = connection
        self.grace: Final = grace
        # The job, or the service that it runs for.
        self.user: Final = current_job()
        # Whether anything of the job has begun on the node.
        self.has_begun = False

    async def run(
        self,
        words: Sequence[str],
        stdio: Stdio,
        description: str,
        *,
        allowed: frozenset[int] | None = ZERO_ONLY,
    ) -> CommandResult:
        """Run a program on the node, and return its result.

        Args:
            words: the program and its arguments.
            stdio: its standard streams and environment variables.
            description: the command as it appears in errors.
            allowed: the exit codes that count as success, or None for all.

        Raises:
            CommandError: the program has failed, or its command line is too long.
            SshError: the program could not be started, or the connection was lost.

        """
        description = self.redact(description)
        retries = _RetryPolicy(self, description)
        while True:
            await self.connection.ensure(self.user)
            async with self._session_slot() as others:
                attempt = await self._attempt(words, stdio, description)
            self.has_begun = self.has_begun or attempt.report.started
            result = self.latest_result
            if attempt.report.returncode is not None and result is not None:
                written = "output" if stdio.is_merged else "standard error"
                return self._check_result(
                    result, attempt.stderr_tail, written, description, allowed
                )
            if attempt.report.started:
                what = f"the connection was lost, which ends the command on the node: {description}"
                raise SshError(self.connection.node, what, started=True)
            attempt.check_login()
            await retries.wait_for_retry(attempt.stderr_tail, others)

    async def run_here(self, words: Sequence[str], description: str) -> None:
        """Run a program on this machine, which a cancellation does not interrupt, with the same errors as `run`.

        Raises:
            CommandError: the program has failed.

        """
        job = CommandJob(
            words,
            stdout=DEVNULL,
            stderr=PIPE,
            check=False,
            redact=self.job.redact,
        )
        with anyio.CancelScope(shield=True):
            result = await job.co_run()
            self._check_result(
                result,
                result.stderr or b"",
                "standard error",
                self.redact(description),
                ZERO_ONLY,
            )

    async def _attempt(
        self, words: Sequence[str], stdio: Stdio, description: str
    ) -> RemoteCommand:
        with self.hidden_paths():
            attempt = RemoteCommand(self, words, stdio, description)
        self.job._open_streams = attempt.ends
        try:
            await attempt.run()
        finally:
            attempt.ends.forget(attempt.recorded_streams)
            if attempt.report.returncode is not None:
                self.latest_result = attempt.result()
        return attempt

    async def transfer(
        self, operations: Sequence[Operation], description: str
    ) -> Sequence[str]:
        """Execute file operations, and return the paths on the node of the downloaded files.

        Raises:
            SshError: an operation failed.
            ValueError: a name contains a line break.

        """
        connection = self.connection
        retries = _RetryPolicy(self, self.redact(description))
        while True:
            with self.hidden_paths():
                command, text = connection.copy_command(operations)
            job = CommandJob(
                command,
                cwd=connection.directory,
                stdin=text,
                stdout=PIPE,
                stderr=PIPE,
                check=False,
                terminate_grace=1.0,
                label=f"transfer of {self.job.label}",
            )
            await connection.ensure(self.user)
            async with self._session_slot() as others:
                result = await job.co_run()
            if not result.returncode:
                self.has_begun = True
                return connection.parse_listing(result.stdout or b"", operations)
            message, advice = connection.explain_errors(result.stderr or b"")
            await retries.wait_for_retry(message, others, advice)

    async def remove_files(self, paths: Sequence[str]) -> None:
        """Remove files on the node within a time limit. A cancellation does not interrupt this.

        Files that cannot be removed now are removed before the next command or transfer over the connection.
        """
        if paths and not await self._remove(paths):
            self.connection.leftover_files += paths

    async def _remove(self, paths: Sequence[str]) -> bool:
        with anyio.move_on_after(2.0, shield=True), contextlib.suppress(Exception):
            for words in _wrapper.portions([path] for path in paths):
                removal = "rm -rf -- " + shlex.join(words)
                # A node at its limit of sessions refuses one until it has noticed that the session before has ended.
                while await self._returncode_of(removal) == LOST_SESSION_CODE:  # noqa: ASYNC110 - the node says no more
                    await anyio.sleep(REMOVAL_PAUSE)
            return True
        return False

    async def _returncode_of(self, line: str) -> int:
        """Run a line on the node without output, over the open connection, and return its exit code.

        Raises:
            SshError: the connection is lost.

        """
        connection = self.connection
        if not connection.is_open():
            raise SshError(connection.node, "the connection was lost")
        job = CommandJob(
            connection.command(line),
            cwd=connection.directory,
            stdout=DEVNULL,
            stderr=DEVNULL,
            check=False,
            terminate_grace=0.1,
        )
        return (await job.co_run()).returncode

    def redact(self, description: str) -> str:
        """Return the description of a command or transfer or, for a redacted job, the text that replaces it."""
        return REDACTED_COMMAND if self.job.redact else description

    @contextlib.contextmanager
    def hidden_paths(self) -> Generator[None]:
        """Raise errors about local files during a block without the files' names, if the job is redacted.

        Raises:
            OSError, ValueError: as in the block.

        """
        try:
            yield
        except (OSError, ValueError) as error:
            if not self.job.redact:
                raise
            if isinstance(error, OSError):
                raise OSError(
                    error.errno, f"{error.strerror}: a file of a redacted job"
                ) from None
            raise ValueError(
                "the names of the files of a redacted job cannot be used together, or by sftp"
            ) from None

    @contextlib.asynccontextmanager
    async def _session_slot(self) -> AsyncGenerator[int]:
        """Hold a session of the connection during a block, and yield the number of other sessions in use.

        Callers open the connection beforehand: the traceback of a failure to connect then has no frames of contextlib.
        """
        connection = self.connection
        async with connection.sessions:
            # The connection may have been lost while this session waited.
            await connection.ensure(self.user)
            paths = connection.leftover_files
            connection.leftover_files = []
            await self.remove_files(paths)
            yield connection.sessions.borrowed_tokens - 1

    def _check_result(
        self,
        result: CommandResult,
        stderr_tail: bytes,
        written: str,
        description: str,
        allowed: frozenset[int] | None,
    ) -> CommandResult:
        if (failure := describe_failure(allowed, result.returncode)) is not None:
            command = f"{self.connection.node.name}: {description}"
            raise CommandError(self.job, command, failure, result, stderr_tail, written)
        return result


class _RetryPolicy:
    """The policy for retrying a command or a transfer: only if it certainly has not started."""

    def __init__(self, session: NodeSession, description: str) -> None:
        self._session: Final = session
        self._description: Final = description
        # Attempts that failed for another reason than a refused session.
        self._lost_count = 0
        self._refusal_count = 0

    async def wait_for_retry(
        self, message: bytes, others: int, advice: str = ""
    ) -> None:
        """Wait until another attempt may begin: pause if the node is at its limit of sessions.

        A job of which nothing has begun goes back to wait, as those that have not been called: it holds no slot, and
        its timeout does not run.

        Args:
            message: ssh's error message about the failed attempt.
            others: the number of other sessions in use.
            advice: advice on the failure.

        Raises:
            Throttled: the job waits for a session.
            SshError: another attempt is not allowed.

        """
        session = self._session
        connection = self._session.connection
        text = message.decode(errors="backslashreplace")
        # A local command never fails because of a connection, and there may be any number of local commands.
        text_of_ssh = text if isinstance(connection, Connection) else ""
        if isinstance(connection, Connection) and _transport.is_session_limit_error(
            text_of_ssh
        ):
            # Down from the number that the node has accepted, but not below one.
            can_wait = (
                connection.lower_limit(session.user, max(1, others))
                and not session.has_begun
            )
            if can_wait:
                throttle = connection.throttle(session.user)
                if throttle is not None:
                    raise throttle
            elif self._refusal_count < MAX_REFUSALS:
                self._refusal_count += 1
                await anyio.sleep(pause_after(self._refusal_count - 1))
                return
        self._lost_count += 1
        never_started = _transport.never_started(text_of_ssh)
        if not never_started or self._lost_count >= MAX_ATTEMPTS:
            what = text.strip()
            if what and session.job.redact:
                what = "it failed with an error message that may name files"
            # sftp only says that its session was closed.
            is_lost = _transport.is_loss(text_of_ssh) or not connection.is_open()
            if is_lost or not what:
                what = "the connection was lost"
                advice = ""
            raise SshError(
                connection.node,
                f"{self._description}: {what}",
                advice,
                started=not never_started,
            )


# ---- an attempt to run a command

KILL_MARGIN: Final = 5.0
"""The time, in seconds, from the end of a command's grace period until this program kills its side of the session."""
# Linux limits each argument: https://man7.org/linux/man-pages/man2/execve.2.html.
MAX_LINE_BYTES: Final = 131_071
"""The maximum length of a command line for a node, in bytes. It is Linux's limit for an argument (MAX_ARG_STRLEN)."""
MAX_VARIABLE_BYTES: Final = 100_000
"""The maximum size of a command's environment variables, in bytes. They must fit into the buffer of a socket."""


@dataclass(frozen=True, slots=True)
class Stdio:
    """The redirections of a command's standard streams, and its environment variables."""

    # A file on the node.
    stdin: str = ""
    stdout: Any = None
    stderr: Any = None
    on_start: Callable[[], object] | None = None
    on_line: Callable[[str], object] | None = None
    tag: Callable[[], str] | None = None
    # Empty the output files first.
    truncate: bool = False
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    # For a service that listens on a port: the script that looks at it, and what to call when it accepts connections.
    port: str = ""
    on_ready: Callable[[], object] = bool

    @property
    def is_merged(self) -> bool:
        return bool(self.stderr == STDOUT)


class RemoteCommand:
    """An attempt to run a command in a wrapper."""

    def __init__(
        self, session: NodeSession, words: Sequence[str], stdio: Stdio, description: str
    ) -> None:
        """Build the wrapper's command line, and open the destinations of the output.

        Args:
            session: the session of the job.
            words: the program and its arguments.
            stdio: its standard streams and environment variables.
            description: the command as it appears in errors.

        Raises:
            CommandError: the command is too long for the node.
            OSError: a file cannot be opened.

        """
        self._session: Final = session
        self._stdio: Final = stdio
        self._description: Final = description
        token = os.urandom(8).hex()
        job = session.job
        connection = session.connection
        initial_input = b""
        if stdio.env:
            initial_input = _wrapper.export_variables(stdio.env, token)
        command = _wrapper.login_shell_line(
            words, token, grace=session.grace, stdin=stdio.stdin, merged=stdio.is_merged, size=len(initial_input),
            port=stdio.port,
        )  # fmt: skip
        self._check_size(
            "its command line, including the wrapper of trioflow, takes",
            len(os.fsencode(command)),
            MAX_LINE_BYTES,
        )
        self._check_size(
            "its variables (env=) take", len(initial_input), MAX_VARIABLE_BYTES
        )
        self.ends: Final = _output_sinks.OutputEnds()
        self._tail: Final = _output_sinks.TailSink()
        self._login_tail: Final = _output_sinks.TailSink()
        self._stdout: Final = _LocalOutput("stdout", stdio, job, self.ends)
        if stdio.is_merged:
            self._stdout.sinks.append(self._tail)
        try:
            self._stderr: Final = _LocalOutput("stderr", stdio, job, self.ends)
        except BaseException:
            self._stdout.close()
            raise
        outputs = {"stdout": self._stdout, "stderr": self._stderr}
        self.recorded_streams: Final = [
            name for name, output in outputs.items() if output.is_recorded
        ]
        self._start_buffer: Final = _StartBuffer(self._stdout.sinks, connection.node)
        stderr_sinks = [self._tail, *self._stderr.sinks]
        report_filter = _wrapper.ReportFilter(
            token, stderr_sinks, self._login_tail, self._report_start
        )
        report_filter.on_ready = stdio.on_ready
        self.report: Final = report_filter.report
        activity_sinks = [
            _output_sinks.ActivitySink(session.limit.heartbeat)
        ] * session.limit.needs_signs
        self._process: Final = _LocalEnd(
            connection.command(command),
            cwd=connection.directory,
            stdout=cast(Any, _SinkFile([self._start_buffer, *activity_sinks])),
            stderr=cast(Any, _SinkFile([report_filter, *activity_sinks])),
            check=False,
            terminate_grace=session.grace + KILL_MARGIN,
            label=job.label,
            # The command line of ssh, with the wrapper, explains nothing to a user.
            redact=True,
        )
        self._process._initial_input = initial_input

    _elapsed: float

    def _check_size(self, subject: str, size: int, max_size: int) -> None:
        """Check that a part of the command is not too long for the node.

        Raises:
            CommandError: the size is above the limit.

        """
        if size > max_size:
            advice = "pass large data through stdin=, or copy it with a Push first"
            why = f"not started: {subject} {size} bytes, and the limit for a node is {max_size}"
            command = f"{self._session.connection.node.name}: {self._description}"
            raise CommandError(self._session.job, command, why, advice=advice)

    def _report_start(self) -> None:
        self._start_buffer.open()
        if self._stdio.on_start is not None:
            self._stdio.on_start()

    @property
    def stderr_tail(self) -> bytes:
        """The last bytes of standard error or, until the command has started, of messages from ssh and the login shell.

        If standard error is merged into standard output, these are the last bytes of both.
        """
        return (self._tail if self.report.started else self._login_tail).tail(
            MAX_TAIL_BYTES
        )

    def check_login(self) -> None:
        """Raise an error if the login shell ended the session before the command started.

        The exit code of ssh is then the login shell's. ssh's own is 255.

        Raises:
            SshError: the login shell of the node, or a forced command in its place, does not run commands.

        """
        ended = self._process.last_result
        node = self._session.connection.node
        code = LOST_SESSION_CODE if ended is None else ended.returncode
        if not 0 <= code < LOST_SESSION_CODE or isinstance(node, _nodes.LocalNode):
            return
        output = self._start_buffer.buffer[-MAX_TAIL_BYTES:] + self.stderr_tail
        message = output[-MAX_TAIL_BYTES:].decode(errors="backslashreplace").strip()
        what = f"the login succeeded, but the session ended with exit code {code} before the command started"
        where = f" ({message})" if message and not self._session.job.redact else ""
        raise SshError(
            node,
            f"{self._description}: {what}{where}",
            "its login shell must run commands",
        )

    async def run(self) -> None:
        clock = run_of(self._session.job).clock
        began = clock()
        try:
            with self._session.limit.counting():
                await self._process.co_run()
        except CommandError as error:
            if error.job is not self._process or self.report.returncode is None:
                raise
            # The exit code of the local end is unknown. The exit code of the command is reported.
        finally:
            self._elapsed = clock() - began
            self._stdout.close()
            self._stderr.close()

    def result(self) -> CommandResult:
        report = self.report
        assert report.returncode is not None
        return CommandResult(
            _to_subprocess_code(report.returncode),
            self._elapsed,
            ReportedUsage(report.user_time, report.system_time),
            self._stdout.captured(),
            self._stderr.captured(),
        )


class _LocalEnd(CommandJob):
    """A job that runs the local end of a command, and ends it by closing its input, not by a signal."""

    # The first bytes of the command's input.
    _initial_input: bytes
    # This program's end of the socket that is the command's input.
    _own_end: socket.socket
    _other_end: socket.socket

    async def co_run(self) -> CommandResult:
        """Run the local end, with a socket as its input: the buffer of a pipe may be too small for the first bytes."""
        self._own_end, self._other_end = socket.socketpair()
        try:
            if self._initial_input:
                self._own_end.setsockopt(
                    socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(self._initial_input)
                )
                self._own_end.sendall(self._initial_input)
            return await super().co_run()
        finally:
            self._close_input()

    def _stdin_value(self, stdin: object) -> int:
        return self._other_end.fileno()

    def _terminate(self, process: Process) -> None:
        self._close_input()

    def _close_input(self) -> None:
        self._own_end.close()
        self._other_end.close()


class _LocalOutput:
    """The destination of a stream of a command.

    Output never goes directly to a user-supplied descriptor: ssh would make the descriptor non-blocking, which affects
    every process that shares it.
    """

    def __init__(
        self, name: str, stdio: Stdio, job: object, ends: _output_sinks.OutputEnds
    ) -> None:
        """Open the destination, and let `ends` keep the end of the output.

        Raises:
            OSError: a file cannot be opened.

        """
        target = getattr(stdio, name)
        has_file = _spawn_options.is_path(target)
        capture = None
        self.sinks: list[OutputSink] = []
        if target == PIPE:
            capture = CaptureSink()
            self.sinks.append(capture)
        self._capture: Final = capture
        self.is_recorded: Final = has_file or capture is not None
        lines = _output_sinks.make_line_sinks(name, stdio.on_line, stdio.tag)
        self.sinks += lines
        if has_file:
            self.sinks.append(
                DescriptorSink(open_output_file(target, job, truncate=stdio.truncate))
            )
        elif not (lines or target in (PIPE, DEVNULL, STDOUT)):
            if target is None:
                target = getattr(sys, name)
            self.sinks += _make_sinks(target)
        # A stream without a sink is not wanted, or is merged into the other stream.
        if self.sinks:
            self.sinks.append(ends.setdefault(name, _output_sinks.TailSink()))

    def captured(self) -> bytes | OutputSpool | None:
        if self._capture is None:
            return None
        return self._capture.output()

    def close(self) -> None:
        """Close the file opened by path, if any, because the command has not started, or another sink has failed."""
        for sink in self.sinks:
            if isinstance(sink, DescriptorSink):
                sink.finish()


class _SinkFile:
    """A writable file that forwards data to several sinks."""

    mode: Final = "wb"

    def __init__(self, sinks: Sequence[OutputSink]) -> None:
        self._sinks: Final = sinks

    def write(self, data: bytes) -> None:
        for sink in self._sinks:
            sink.write(data)

    def flush(self) -> None:
        """Finish all sinks. A `CommandJob` flushes its files only once, at the end of the output."""
        for sink in self._sinks:
            sink.finish()


MAX_EARLY_BYTES: Final = 16 << 20
"""The maximum number of bytes of standard output to keep before the start of a command is reported. The report comes
through another pipe, so these bytes may be the first output of the command. None of it is lost."""


class _StartBuffer:
    """A sink that buffers standard output until the start of the command is reported, then forwards it.

    Output before the start is from the login shell. It is not forwarded if the command never starts.

    Args:
        sinks: the destinations of the output.
        node: the node, for errors, or None for this machine.

    """

    def __init__(self, sinks: Sequence[OutputSink], node: _nodes.Node) -> None:
        self.buffer: Final = bytearray()
        self._node: Final = node
        self._output: Final = _SinkFile(sinks)
        self._is_open = False
        self._is_finished = False

    def open(self) -> None:
        """Forward the buffered output, and from now on all output.

        The buffer may contain output of the command, because the report of its start arrives through another pipe.
        """
        self._is_open = True
        if self.buffer:
            self._output.write(bytes(self.buffer))
        self.buffer.clear()
        if self._is_finished:
            self.finish()

    def write(self, data: bytes) -> None:
        """Buffer data or, after `open`, forward it.

        Raises:
            SshError: more than `MAX_EARLY_BYTES` have arrived before the start.

        """
        if self._is_open:
            self._output.write(data)
            return
        self.buffer.extend(data)
        if len(self.buffer) > MAX_EARLY_BYTES:
            what = f"it has written more than {MAX_EARLY_BYTES >> 20} MiB, and has not started the command"
            raise SshError(self._node, what, "check what its login shell prints")

    def finish(self) -> None:
        """Finish the sinks or, before `open`, leave that to `open`."""
        self._is_finished = True
        if self._is_open:
            self._output.flush()


def _make_sinks(file: object) -> list[OutputSink]:
    """Return the sinks for an open file or a descriptor, or none for None."""
    if isinstance(file, int):
        file = open(file, "wb", buffering=0, closefd=False)  # noqa: SIM115 - the caller closes it
    if file is None:
        return []
    return [_output_sinks.stream_sink(file, flush_each_write=True)]


def _to_subprocess_code(code: int) -> int:
    """Convert a shell's exit code to the code of `subprocess`: if a signal ended the command, from 128 + N to -N."""
    with contextlib.suppress(ValueError):
        return -signal.Signals(code - 128)
    return code
