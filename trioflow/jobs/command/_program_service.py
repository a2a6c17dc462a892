"""`CommandService`, and its common base with `SshService`: it runs a program, and waits until that is ready.

```
check before start ──► the command runs ───────────► it ends: a failure, with the end of its output
                         └─► ready? ──► started(...)     cancelled: SIGTERM, grace period, SIGKILL, like any command
                               └─► timeout: a failure that names the condition
```
"""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from subprocess import PIPE, STDOUT
from typing import IO, Any, ClassVar, Final, Unpack

import anyio

from ... import _posix as posix
from ..._core.base._text_forms import shown_value
from ..._core.job._errors import JobTimeout
from ..._core.job._job_options import callback
from ..._core.job._option_descriptors import Argument
from ..._core.job._service import Service
from ..._core.run._current import current_job
from ..._hints import explain_form
from ...abc import AbstractJob, JobOptions, original_arguments_of, run_of
from .._user_files import open_output_file
from ._argv import Template
from ._command_job import CommandJob
from ._output_sinks import MAX_TAIL_BYTES, file_size, file_tail
from ._readiness import OutputLine, Readiness, make_readiness
from ._result import CommandError, CommandResult
from ._spawn_options import AnyPath, is_path, subject_of

MAX_KEPT_LINES: Final = 50
BUFFERED_OUTPUT_HINT: Final = " Maybe the program holds its output back in a buffer: try python -u, or stdbuf -oL."


class ProgramService(Service[Any], keeps_time=True):
    """A program that serves jobs while it runs. Subclasses define where it runs.

    Args:
        make_job: creates the job that runs the command, from its `on_line`.
        ready: the condition as the user gave it.
        readiness: the condition that is tested.
        streams: the options `stdout` and `stderr`.
        on_line: called with the service and each line of output.
        tag: whether lines are printed with a tag.
        subject: the service's name in errors.
        options: the options of every job.

    """

    _runs_commands: ClassVar[bool] = True
    __slots__ = (
        "_job",
        "_latest_lines",
        "_on_line",
        "_output_files",
        "_readiness",
        "_ready",
        "_should_print_lines",
    )

    def __init__(
        self,
        make_job: Callable[[Any], Any],
        ready: object,
        readiness: Readiness,
        streams: Sequence[Any],
        on_line: Callable[[Any, str], object] | None,
        tag: bool | str,
        subject: str,
        **options: Unpack[JobOptions],
    ) -> None:
        callback(on_line, "on_line", subject)
        self._ready: Final = ready
        self._readiness: Final = readiness
        if options.get("redact"):
            readiness._redact()
        self._on_line: Final = on_line
        can_read_lines = all(
            file is None or (isinstance(file, int) and file in (PIPE, STDOUT))
            for file in streams
        )
        self._output_files: Final = [
            file
            for file in streams
            if is_path(file) and os.fsdecode(file) != os.devnull
        ]
        if on_line is not None and not can_read_lines:
            raise ValueError(
                f"on_line of {subject}: its output goes elsewhere; leave out stdout= and stderr="
            )
        if (
            isinstance(ready, OutputLine)
            and not can_read_lines
            and not self._output_files
        ):
            raise ValueError(
                f"ready={shown_value(ready, subject)} of {subject}: its output cannot be read; "
                f"give a path, or leave it out"
            )
        self._should_print_lines: Final = (
            on_line is None and not tag and streams[0] is None
        )
        self._latest_lines: Final[collections.deque[str]] = collections.deque(
            maxlen=MAX_KEPT_LINES
        )
        self._job: Any = make_job(self._record_line if can_read_lines else None)
        options["label"] = self._job.label
        super().__init__(_serve, *original_arguments_of(self._job), **options)

    # ---- the command and its result

    ready: Argument[Readiness | pathlib.Path] = Argument()

    @property
    def last_result(self) -> CommandResult | None:
        """The result of the latest attempt's process, however it ended. None before it has ended."""
        return self._job.last_result  # type: ignore[no-any-return]

    def command_line(self) -> str:
        """Return the whole command line."""
        return self._job.command_line()  # type: ignore[no-any-return]

    def _command_line(self) -> str:
        if self.redact:
            return self._job.redacted_label()  # type: ignore[no-any-return]
        return self.command_line()

    def failure_group(self) -> str:
        """Return the name of the program."""
        return self._job.failure_group()  # type: ignore[no-any-return]

    @property
    def _awaited_text(self) -> str:
        if self.redact:
            return "its sign of readiness"
        return str(self._readiness)

    def _reset(self) -> None:
        super()._reset()
        self._job.forget_run()

    # ---- the output of the program

    def _record_line(self, job: AbstractJob[Any], line: str) -> None:
        self._latest_lines.append(line[-MAX_TAIL_BYTES:])
        self._readiness._process_line(line)
        if self._on_line is not None:
            self._on_line(self, line)
        elif self._should_print_lines:
            print(line, file=sys.stderr)

    def _output_tail(self, initial_sizes: Mapping[Any, int]) -> str:
        """Return the end of the output. `initial_sizes` has the size of each output file before the service started."""
        output = "\n".join(self._latest_lines)
        for path, size in initial_sizes.items():
            output += (file_tail(path, MAX_TAIL_BYTES, size) or b"").decode(
                errors="backslashreplace"
            )
        return output.strip()[-MAX_TAIL_BYTES:]

    # ---- running the program

    @abstractmethod
    def _output_paths(self) -> Sequence[Any]:
        """Return the paths of the files that get the output of this attempt."""

    async def _run(self, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Run the program, and call `task_status.started()` when it is ready. The program must not end by itself.

        Raises:
            CommandError: the program could not be started, or has ended by itself.
            JobTimeout: the program was not ready in time.

        """
        self._latest_lines.clear()
        self._job.forget_run()
        self._readiness._check_before_start()
        paths = self._output_paths()
        if not self._job._command_options.append:
            # What is in these files before the program starts is no sign of it.
            for path in paths:
                # An error fails the start of the program, which opens them again.
                with contextlib.suppress(OSError):
                    os.close(open_output_file(path, self._job, truncate=True))
        initial_sizes = {path: file_size(path) for path in paths}
        # The exception raised while waiting for readiness, if any.
        readiness_errors: list[Exception] = []
        is_ready = False

        async def report_readiness() -> None:
            nonlocal is_ready
            try:
                result = await self._wait_until_ready(initial_sizes)
            except Exception as error:
                readiness_errors.append(error)
                task_group.cancel_scope.cancel()
            else:
                is_ready = True
                task_status.started(result)

        result: CommandResult | None = None
        failure: Exception | None = None
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(report_readiness)
            try:
                result = await self._job.co_run()
            except CommandError as error:
                result = error.result
                failure = error
            except Exception as error:
                failure = error
            task_group.cancel_scope.cancel()
        if readiness_errors:
            raise readiness_errors[0]
        if result is not None:
            raise self._early_end_error(
                result, is_ready, self._output_tail(initial_sizes)
            )
        if failure is not None:
            # The command was not started, or a callback has raised it, for example.
            raise failure
        # The node is unreachable, and so is skipped.
        if not is_ready:
            task_status.started()
        await anyio.sleep_forever()

    async def _wait_until_ready(self, initial_sizes: Mapping[Any, int]) -> Any:
        """Wait until the service is ready, and return its result.

        Raises:
            JobTimeout: the service was not ready within its timeout.
            CommandError: the command of a `CommandSucceeds` could not be started.

        """
        try:
            with run_of(self).time_limit(self, "sign of readiness", cancels=True):
                return await self._readiness._wait(run_of(self), initial_sizes)
        except JobTimeout as timeout_error:
            latest_failure = ""
            if not self.redact:
                latest_failure = self._readiness._latest_failure()
            hint = (
                BUFFERED_OUTPUT_HINT if isinstance(self._readiness, OutputLine) else ""
            )
            timeout_error.add_note(
                f"It was waiting for {self._awaited_text}.{latest_failure}{hint}"
            )
            output = self._output_tail(initial_sizes)
            if output and not self.redact:
                timeout_error.add_note(
                    f"The end of the output of {self.label!r}:\n{output}"
                )
            raise

    def _early_end_error(
        self, result: CommandResult, was_ready: bool, output: str
    ) -> CommandError:
        if result.signal is None:
            cause = f"exit code {result.returncode}"
        else:
            cause = f"signal {result.signal}"
        phase = "while it was in use"
        if not was_ready:
            phase = f"before it was ready (it was waiting for {self._awaited_text})"
        advice = "it must stay in the foreground: most programs have an option for that"
        if result.returncode:
            advice = ""
        message = f"the service ended with {cause} {phase}"
        return CommandError(
            self,
            self._job.command_line(),
            message,
            result,
            output.encode(),
            "output",
            advice,
        )


async def _serve(*_: object, task_status: anyio.abc.TaskStatus[None]) -> None:
    """Run the command of the current service.

    This is not a method, because a service that stores its own bound method would be in a reference cycle.
    """
    service = current_job()
    assert isinstance(service, ProgramService)
    await service._run(task_status)


class CommandService(ProgramService):
    r"""A program that serves jobs while it runs, such as a database, in a process and a process group of its own.

    Use it for a database or a server that jobs need while they run.

    Jobs that require the service start when it is ready, according to `ready`. The service is ended after the jobs that
    use it: its process group gets SIGTERM, and SIGKILL after `terminate_grace` seconds. If the program ends earlier,
    the service fails at once, whatever the exit code. The error includes the end of its output.

    The program must be ready within the service's `timeout`. Otherwise the error names the condition, and includes the
    end of the output. Without a `timeout`, the wait is unlimited. `retry` applies until the program is ready.

    The program must stay in the foreground. If it turns itself into a daemon, the service seems to end at once. Most
    daemons have an option against this, such as `nginx -g 'daemon off;'`.

    Args:
        command: the program and its arguments, as for a `CommandJob`. Jobs among them are replaced by their results.
        ready: the sign of the program's readiness. With `PortOpen(5432)`, the program must accept
            connections on this port. With `OutputLine("ready to accept")`, it must write a line with this text. With
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
        options: the options of every job. See `AbstractJob`.

    Raises:
        TypeError, ValueError: the command or an option is invalid.
        CommandError: when the service runs: the program could not be started, or ended by itself.
        JobTimeout: when the service runs: the program was not ready in time.
        RuntimeError: when the service runs: another program uses the port.

    Example:
        >>> import subprocess, sys
        >>> server = CommandService(
        ...     "echo it is up; exec sleep 60", shell=True, ready=OutputLine("is up"), stderr=subprocess.STDOUT
        ... )
        >>> client = CommandJob(["echo", "now", server], stdout=subprocess.PIPE)
        >>> Scheduler(server, client).run(), client.result().text
        (True, 'now it is up\n')

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
        memory_limit: int | str | None = None,
        append: bool = True,
        **options: Unpack[JobOptions],
    ) -> None:
        subject = subject_of(options, "CommandService")
        posix.require(
            f"CommandService {subject}", "use a Service around anyio.open_process"
        )
        callback(on_start, "on_start", subject)
        self._on_start: Final = on_start

        def make_job(record_line: Callable[[object, str], None]) -> CommandJob:
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
        """The id of the program's process and process group while it runs, or None before and afterwards."""
        return self._job.pid

    def _report_start(self, job: CommandJob) -> None:
        if self._on_start is not None:
            self._on_start(self)

    def _output_paths(self) -> Sequence[Any]:
        return self._output_files
