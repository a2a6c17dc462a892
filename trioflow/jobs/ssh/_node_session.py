"""Commands and file transfers over the connection to a node, with the wait for a session, retries, and cleanup.

`NodeSession` retries a command or a transfer that has not started. `_remote_commands` makes a single attempt.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any, Final

import anyio

from ..._core.run._current import current_job
from ...abc import AbstractJob, TimeLimit
from ..command._command_job import CommandJob
from ..command._result import REDACTED_COMMAND, ZERO_ONLY, CommandError, CommandResult, describe_failure
from ._connections import Connection
from ._local_node import LocalConnection
from ._remote_commands import RemoteCommand, Stdio
from ._ssh_errors import SshError
from ._transport import LOST_SESSION_CODE, Operation

MAX_ATTEMPTS: Final = 3
"""The maximum number of attempts to start a command whose connection is lost before it starts."""
MAX_REFUSALS: Final = 20
"""The maximum number of retries after a refused request for a session. Their pauses take about 15 seconds in total."""
REMOVAL_TIMEOUT: Final = 2.0
"""The time limit, in seconds, for removing temporary files on a node."""


class NodeSession:
    """The commands and file transfers of one job, over the connection to its node."""

    def __init__(
        self, job: AbstractJob[Any], connection: Connection | LocalConnection, grace: float, limit: TimeLimit
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
        self._user: Final = current_job()  # the job, or the service that it runs for

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
            allowed: the exit codes that count as success; None for all.

        Raises:
            CommandError: the program has failed, or its command line is too long.
            SshError: the program could not be started, or the connection was lost.

        """
        description = self.redact(description)
        retries = _RetryPolicy(self.connection, description, redact=self.job.redact)
        while True:
            await self.connection.ensure(self._user)
            async with self._session_slot() as others:
                attempt = await self._attempt(words, stdio, description)
            result = self.latest_result
            if attempt.report.returncode is not None and result is not None:
                written = "output" if stdio.is_merged else "standard error"
                return self._check_result(result, attempt.stderr_tail, written, description, allowed)
            if attempt.report.started:
                what = f"the connection was lost, which ends the command on the node: {description}"
                raise SshError(self.connection.node, what, started=True)
            attempt.check_login()
            await retries.wait_for_retry(attempt.stderr_tail, others)

    async def run_here(self, words: Sequence[str], description: str) -> None:
        """Run a program on this machine, which a cancellation does not interrupt, with errors like those of `run`.

        Raises:
            CommandError: the program has failed.

        """
        job = CommandJob(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, redact=self.job.redact)
        with anyio.CancelScope(shield=True):
            result = await job.co_run()
            stderr, subject = result.stderr or b"", self.redact(description)
            self._check_result(result, stderr, "standard error", subject, ZERO_ONLY)

    async def _attempt(self, words: Sequence[str], stdio: Stdio, description: str) -> RemoteCommand:
        with self.hidden_paths():
            attempt = RemoteCommand(self, words, stdio, description)
        self.job._open_streams = attempt
        try:
            await attempt.run()
        finally:
            self.job._open_streams = None
            if attempt.report.returncode is not None:
                self.latest_result = attempt.result()
        return attempt

    async def transfer(self, operations: Sequence[Operation], description: str) -> Sequence[str]:
        """Execute file operations, and return the paths on the node of the downloaded files.

        Raises:
            SshError: one of the operations has failed.
            ValueError: a name contains a line break.

        """
        connection = self.connection
        retries = _RetryPolicy(connection, self.redact(description), redact=self.job.redact)
        while True:
            with self.hidden_paths():
                command, text = connection.copy_command(operations)
            job = CommandJob(
                command,
                cwd=connection.directory,
                stdin=text,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,
                terminate_grace=1.0,
                label=f"transfer of {self.job.label}",
            )
            await connection.ensure(self._user)
            async with self._session_slot() as others:
                result = await job.co_run()
            if not result.returncode:
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
        connection = self.connection
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
        with anyio.move_on_after(REMOVAL_TIMEOUT, shield=True), contextlib.suppress(Exception):
            return (await removal.co_run()).returncode != LOST_SESSION_CODE
        return False

    def redact(self, description: str) -> str:
        """Return the description of a command or transfer; for a redacted job, the text that replaces it."""
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
                raise OSError(error.errno, f"{error.strerror}: a file of a redacted job") from None
            raise ValueError("the names of the files of a redacted job cannot be used together, or by sftp") from None

    @contextlib.asynccontextmanager
    async def _session_slot(self) -> AsyncGenerator[int]:
        """Hold one of the connection's sessions during a block, and yield the number of other sessions in use.

        Callers open the connection beforehand: the traceback of a failure to connect then has no frames of contextlib.
        """
        connection = self.connection
        async with connection.sessions:
            await connection.ensure(self._user)  # it may have been lost while waiting
            paths, connection.leftover_files = connection.leftover_files, []
            await self.remove_files(paths)
            yield connection.sessions.borrowed_tokens - 1

    def _check_result(
        self, result: CommandResult, stderr_tail: bytes, written: str, description: str, allowed: frozenset[int] | None
    ) -> CommandResult:
        failure = describe_failure(allowed, result.returncode)
        if failure is not None:
            raise CommandError(
                self.job, f"{self.connection.node.name}: {description}", failure, result, stderr_tail, written
            )
        return result


class _RetryPolicy:
    """The policy for retrying a command or a transfer: only if it certainly has not started."""

    def __init__(self, connection: Connection | LocalConnection, description: str, *, redact: bool) -> None:
        self._connection: Final = connection
        self._redact: Final = redact
        self._description: Final = description
        self._lost_count = 0  # attempts that failed for another reason than a refused session
        self._refusal_count = 0

    async def wait_for_retry(self, message: bytes, others: int, advice: str = "") -> None:
        """Wait until another attempt may begin: pause if the node is at its limit of sessions.

        Args:
            message: ssh's error message about the failed attempt.
            others: the number of other sessions in use.
            advice: advice on the failure.

        Raises:
            SshError: another attempt is not allowed.

        """
        connection, text = self._connection, message.decode(errors="backslashreplace")
        if connection.is_session_limit_error(text) and self._refusal_count < MAX_REFUSALS:
            self._refusal_count += 1
            limiter = connection.sessions  # of the number that the node has accepted, but not below one
            limiter.total_tokens = max(1, min(limiter.total_tokens, others))
            await anyio.sleep(min(1.0, 0.01 * 2**self._refusal_count))
            return
        self._lost_count += 1
        never_started = connection.never_started(text)
        if not never_started or self._lost_count >= MAX_ATTEMPTS:
            what = text.strip() or "the connection was lost"
            if text.strip() and self._redact:
                what = "it failed with an error message that may name files"
            raise SshError(connection.node, f"{self._description}: {what}", advice, started=not never_started)
