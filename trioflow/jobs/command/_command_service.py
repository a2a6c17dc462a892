"""`CommandService`: a program on this machine that serves other jobs, such as a database, as a `Service`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, Unpack

from ... import _posix as posix
from ..._hints import explain_form
from ...abc import JobOptions, callback, name_in_errors
from ._argv import Template
from ._command_job import CommandJob
from ._program_service import ProgramService
from ._readiness import Readiness, make_readiness
from ._spawn_options import AnyPath

if TYPE_CHECKING:
    import pathlib

    from ...abc import AbstractJob


class CommandService(ProgramService):
    r"""A program that serves jobs while it runs, such as a database, in a process and a process group of its own.

    Jobs that require the service start when it is ready, according to `ready`. It is ended after the jobs that use it:
    its process group gets SIGTERM, and SIGKILL after `terminate_grace` seconds. If the program ends earlier, the
    service fails at once, whatever the exit code; the error includes the end of its output.

    The program must be ready within the service's `timeout`; otherwise the error names the condition, and includes the
    end of the output. Without a `timeout`, the wait is unlimited. `retry` applies until the program is
    ready.

    The program must stay in the foreground. If it turns itself into a daemon, the service seems to end at once. Most
    daemons have an option against this, such as `nginx -g 'daemon off;'`.

    Args:
        command: the program and its arguments, as for a `CommandJob`; jobs among them are replaced by their results.
        ready: the condition under which the program is ready. With `PortOpen(5432)`, the program must accept
            connections on this port; with `OutputLine("ready to accept")`, it must write a line with this text. With
            `CommandSucceeds(["pg_isready"])`, this command must succeed. With a `pathlib.Path`, this file must be
            created, or this socket must accept connections. The result of the service is the number of the port, the
            line, the `CommandResult`, or the path.
        stdout: the destination of standard output, as for a `CommandJob`. If `stdout` is None, and `stderr` is None,
            `PIPE` or `STDOUT`, the lines of both streams are printed to this program's standard error as they arrive.
        stderr: the destination of standard error, as for a `CommandJob`.
        on_start: called with the service at each attempt, as soon as its process exists.
        on_line: called with the service and each line of output, which is then not printed. A line of more
            than 16 MiB arrives in pieces, and `OutputLine` looks at each piece.
        tag: whether to print each line with a prefix, or a template for the prefix, as for a `CommandJob`.
        shell, cwd, env, stdin, terminate_grace, nice, memory_limit, append: as for a `CommandJob`.
        options: the options of every job; see `AbstractJob`.

    Raises:
        TypeError, ValueError: the command or an option is invalid.
        CommandError: when the service runs: the program could not be started, or ended by itself.
        JobTimeout: when the service runs: the program was not ready in time.
        RuntimeError: when the service runs: another program uses the port.

    Example:
        >>> import subprocess, sys
        >>> server = CommandService(
        ...     "echo ready; exec sleep 60", shell=True, ready=OutputLine("ready"), timeout=10, stderr=subprocess.STDOUT
        ... )
        >>> client = CommandJob(["echo", "it is", server], stdout=subprocess.PIPE)
        >>> Scheduler(server, client).run(), client.result().text
        (True, 'it is ready\n')

    """

    __slots__ = ("_on_start",)
    _job: CommandJob

    @explain_form
    def __init__(
        self,
        command: Sequence[Any] | str | AbstractJob[Any] | Template,
        /,
        *,
        ready: Readiness | pathlib.Path,
        shell: bool = False,
        cwd: AnyPath | None = None,
        env: Mapping[str, Any] | None = None,
        stdin: bytes | AnyPath | int | IO[Any] | AbstractJob[Any] | None = None,
        stdout: AnyPath | int | IO[Any] | None = None,
        stderr: AnyPath | int | IO[Any] | None = None,
        terminate_grace: float = 5.0,
        on_start: Callable[[CommandService], object] | None = None,
        on_line: Callable[[CommandService, str], object] | None = None,
        tag: bool | str = False,
        nice: int | None = None,
        memory_limit: int | None = None,
        append: bool = True,
        **options: Unpack[JobOptions],
    ) -> None:
        subject = name_in_errors(repr(options.get("label") or "CommandService"), options.get("redact", False))
        posix.require(f"CommandService {subject}", "use a Service around anyio.open_process")
        callback(on_start, "on_start", subject)
        self._on_start: Final = on_start

        def make_job(record_line: Any) -> CommandJob:
            return CommandJob(
                command, shell=shell, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr,
                terminate_grace=terminate_grace, on_start=self._report_start, on_line=record_line,
                tag=tag, nice=nice, memory_limit=memory_limit, leftovers="end", append=append,
                label=options.get("label"), redact=options.get("redact", False),
            )  # fmt: skip

        super().__init__(
            make_job, ready, make_readiness(ready, subject), (stdout, stderr), on_line, tag, subject,
            **options,
        )  # fmt: skip

    # ---- the command and its process

    @property
    def command(self) -> tuple[Any, ...]:
        """The program and its arguments, as the user gave them."""
        return self._job.command

    @property
    def pid(self) -> int | None:
        """The id of the program's process and process group while it runs; None before and afterwards."""
        return self._job.pid

    def _report_start(self, job: CommandJob) -> None:
        if self._on_start is not None:
            self._on_start(self)

    def _output_paths(self) -> Sequence[Any]:
        return self._output_files
