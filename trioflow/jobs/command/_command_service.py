"""`CommandService`: a program that serves other jobs, such as a database, as a `Service`.

The function of the service runs a `CommandJob` and, at the same time, waits until the program is ready.

```
check before start ──► CommandJob runs ────────────► it ends: a failure, with the end of its output
                         └─► ready? ──► started(...)     cancelled: SIGTERM, grace period, SIGKILL, as every command
                               └─► timeout: a failure that names the condition
```
"""

from __future__ import annotations

import collections
import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from subprocess import PIPE, STDOUT
from typing import IO, TYPE_CHECKING, Any, ClassVar, Final, Unpack

import anyio

from ... import _posix as posix
from ..._core.api import JobTimeout, Service, current_job
from ...abc import JobOptions, RunHandle, callback, run_of
from ._command_job import CommandJob
from ._readiness import OutputLine, Readiness, make_readiness, poll_until
from ._result import CommandError, CommandResult
from ._spawn_options import Path, is_path
from ._start_errors import TAIL_BYTES, file_size, file_tail

if TYPE_CHECKING:
    import pathlib

    from ...abc import AbstractJob

KEPT_LINES: Final = 50
"""How many of the latest lines of output are kept for errors."""


class CommandService(Service[Any], keeps_time=True):
    r"""A program that serves jobs while it runs, such as a database, in a process and a process group of its own.

    Jobs that require the service start when it is ready, according to `ready`. It is ended after the jobs that use it:
    its process group gets SIGTERM, and SIGKILL after `terminate_grace` seconds. If the program ends earlier, the
    service fails at once, whatever the exit code; the error includes the end of its output.

    The program must be ready within its `timeout`; otherwise the error names the condition, and includes the end of its
    output. Without a `timeout`, the wait is unlimited. `retry` and `restarts` apply until the program is ready.

    The program must stay in the foreground. If it turns itself into a daemon, it seems to end at once; most daemons
    have an option against this, such as `nginx -g 'daemon off;'`.

    Args:
        command: the program and its arguments, as for a `CommandJob`; jobs among them are replaced by their results.
        ready: the condition under which the program is ready: `PortOpen(5432)`, it accepts connections on this port;
            `OutputLine("ready to accept")`, it has written a line with this text; `CommandSucceeds(["pg_isready"])`,
            this command succeeds; or a `pathlib.Path`, this file has been created, or this socket accepts connections.
            The result of the service is the number of the port, the line, the `CommandResult`, or the path.
        stdout: the destination of the standard output, as for a `CommandJob`. If it is None, and `stderr` is no file
            either, the lines of both are printed to this program's standard error as they arrive.
        stderr: the same for the standard error.
        on_start: called with the service at each attempt, as soon as its process exists.
        on_line: called with the service and each line of output, which is then not printed.
        tag: prints each line with a prefix, as for a `CommandJob`.
        shell, cwd, env, stdin, terminate_grace, nice, memory_limit, append: as for a `CommandJob`.
        options: the options of every job; see `AbstractJob`.

    Raises:
        TypeError, ValueError: the command or an option is invalid.
        CommandError: from the job itself: the program could not be started, or ended by itself.
        JobTimeout: from the job itself: the program was not ready in time.
        RuntimeError: from the job itself: another program uses the port.

    Example:
        >>> import subprocess, sys
        >>> server = CommandService(
        ...     "echo ready; exec sleep 60", shell=True, ready=OutputLine("ready"), timeout=10, stderr=subprocess.STDOUT
        ... )
        >>> client = CommandJob(["echo", "it is", server], stdout=subprocess.PIPE)
        >>> Scheduler(server, client).run(), client.result().text
        (True, 'it is ready\n')

    """

    _runs_commands: ClassVar[bool] = True
    _has_status_text: ClassVar[bool] = True
    __slots__ = ("_echoes", "_files", "_job", "_on_line", "_on_start", "_readiness", "_tail", "ready")

    def __init__(
        self,
        command: Sequence[Any] | str | AbstractJob[Any],
        /,
        *,
        ready: Readiness | pathlib.Path,
        shell: bool = False,
        cwd: Path | None = None,
        env: Mapping[str, Any] | None = None,
        stdin: bytes | Path | int | IO[Any] | AbstractJob[Any] | None = None,
        stdout: Path | int | IO[Any] | None = None,
        stderr: Path | int | IO[Any] | None = None,
        terminate_grace: float = 5.0,
        on_start: Callable[[CommandService], object] | None = None,
        on_line: Callable[[CommandService, str], object] | None = None,
        tag: bool | str = False,
        nice: int | None = None,
        memory_limit: int | None = None,
        append: bool = True,
        **options: Unpack[JobOptions],
    ) -> None:
        subject = repr(options.get("label") or "CommandService")
        posix.require(f"CommandService {subject}", "use a Service around anyio.open_process")
        callback(on_start, "on_start", subject)
        callback(on_line, "on_line", subject)
        self.ready: Final = ready
        self._readiness: Final = make_readiness(ready, subject)
        self._on_start: Final = on_start
        self._on_line: Final = on_line
        streams = (stdout, stderr)
        seen = [stream is None or (isinstance(stream, int) and stream in (PIPE, STDOUT)) for stream in streams]
        self._files: Final = [stream for stream in streams if is_path(stream)]
        if on_line is not None and not all(seen):
            raise ValueError(f"on_line of {subject}: its output goes elsewhere; leave out stdout= and stderr=")
        if isinstance(ready, OutputLine) and not all(seen) and not self._files:
            raise ValueError(f"ready={ready!r} of {subject}: its output cannot be read; give a path, or leave it out")
        self._echoes: Final = on_line is None and not tag and stdout is None
        self._tail: Final[collections.deque[str]] = collections.deque(maxlen=KEPT_LINES)
        self._job: Final = CommandJob(
            command, shell=shell, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr,
            terminate_grace=terminate_grace, on_start=self._has_started,
            on_line=self._record_line if all(seen) else None, tag=tag, nice=nice, memory_limit=memory_limit,
            leftovers="end", append=append,
            label=options.get("label"), redact=options.get("redact", False),
        )  # fmt: skip
        options["label"] = self._job.label
        super().__init__(_serve, command, stdin, **options)

    # ---- what it is

    @property
    def command(self) -> tuple[Any, ...]:
        """The program and its arguments, as the user gave them."""
        return self._job.command

    @property
    def pid(self) -> int | None:
        """The id of the program's process and process group while it runs; None before and afterwards."""
        return self._job.pid

    @property
    def last_result(self) -> CommandResult | None:
        """The result of the latest process, however it ended; None before the first has ended."""
        return self._job.last_result

    def command_line(self) -> str:
        """Return the whole command line."""
        return self._job.command_line()

    def _command_line(self) -> str:
        return self._job.redacted_label() if self.redact else self.command_line()

    def failure_group(self) -> str:
        """Return the name of the program."""
        return self._job.failure_group()

    def status_text(self) -> str:
        """Return the memory of the process group, as "312 MiB"; "" if it is unknown, as on systems without /proc."""
        return self._job.status_text()

    # ---- its output

    def _has_started(self, job: CommandJob) -> None:
        if self._on_start is not None:
            self._on_start(self)

    def _record_line(self, job: CommandJob, line: str) -> None:
        self._tail.append(line)
        self._readiness.line(line)
        if self._on_line is not None:
            self._on_line(self, line)
        elif self._echoes:
            print(line, file=sys.stderr)

    def _output_tail(self, sizes: Mapping[Any, int]) -> str:
        """Return the end of the output; of output files, only the part after their `sizes` before the start."""
        text = "\n".join(self._tail)
        for path, size in sizes.items():
            text += (file_tail(path, size) or b"").decode(errors="backslashreplace")
        return text.strip()[-TAIL_BYTES:]

    # ---- running

    async def _run(self, status: Any) -> None:
        """Run the command, and call `status.started()` when it is ready; this ends only with an exception.

        Raises:
            CommandError: the command could not be started, or has ended.
            JobTimeout: the command was not ready in time.

        """
        run, job = run_of(self), self._job
        self._tail.clear()
        self._readiness.check_before_start()
        sizes = {path: file_size(path) for path in self._files}
        failure: list[Exception] = []  # the exception of the wait for readiness
        ready: list[bool] = []

        async def get_ready() -> None:
            try:
                result = await self._ready_in_time(run, sizes)
            except Exception as error:
                failure.append(error)
                group.cancel_scope.cancel()
            else:
                ready.append(True)
                status.started(result)

        ended: Exception | CommandResult | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(get_ready)
            try:
                ended = await job.co_run()
            except Exception as error:
                ended = error
            group.cancel_scope.cancel()
        if failure:
            raise failure[0]
        if isinstance(ended, Exception) and not isinstance(ended, CommandError):
            raise ended  # the error of a callback, for example
        assert ended is not None  # a cancellation would have left the task group as an exception
        raise self._early_end_error(ended, bool(ready), self._output_tail(sizes))

    async def _ready_in_time(self, run: RunHandle, sizes: Mapping[Any, int]) -> Any:
        """Wait until the service is ready, and return its result.

        Raises:
            JobTimeout: the service was not ready within its timeout.

        """
        try:
            with run.time_limit(self, "sign of being ready", cancels=True):
                ready, failure = None, None
                async with anyio.create_task_group() as group:
                    if self._files and isinstance(self._readiness, OutputLine):
                        group.start_soon(self._read_files, run, sizes)
                    try:
                        ready = await self._readiness.wait(run)
                    except Exception as error:
                        failure = error  # raised after the task group, which would wrap it in an ExceptionGroup
                    group.cancel_scope.cancel()
                if failure is not None:
                    raise failure
                return ready
        except JobTimeout as over:
            over.add_note(f"It waited for {self._readiness}.{self._readiness.latest_failure()}")
            if end := self._output_tail(sizes):
                over.add_note(f"The end of the output of {self.label!r}:\n{end}")
            raise

    async def _read_files(self, run: RunHandle, sizes: Mapping[Any, int]) -> None:
        """Poll the output files for new lines, as there is no portable notification of a growing file."""
        places = dict(sizes)

        def read_new_lines() -> None:
            for path, place in places.items():
                with contextlib.suppress(OSError), open(path, "rb") as file:
                    file.seek(place)
                    *lines, _ = file.read().split(b"\n")
                    places[path] += sum(len(line) + 1 for line in lines)
                    for line in lines:
                        self._readiness.line(line.decode(errors="backslashreplace"))

        async def poll_files() -> None:
            read_new_lines()

        await poll_until(run, poll_files)

    def _early_end_error(self, ended: CommandError | CommandResult, was_ready: bool, output: str) -> CommandError:
        """Return the error for a service whose command has ended by itself."""
        if isinstance(ended, CommandError) and ended.result is None:
            return ended  # the command was not started
        result = ended.result if isinstance(ended, CommandError) else ended
        assert result is not None
        how = f"exit code {result.returncode}" if result.signal is None else f"signal {result.signal}"
        when = "while it was in use" if was_ready else f"before it was ready, which is for {self._readiness}"
        hint = "" if result.returncode else "; a service must stay in the foreground, and most have an option for that"
        line = self._job.command_line()
        what = f"the service ended {when}, with {how}{hint}"
        return CommandError(self, line, what, result, output.encode(), "output")


async def _serve(*_: Any, task_status: Any) -> None:
    """Run the command of the current service; a bound method instead would make a reference cycle with the service."""
    service = current_job()
    assert isinstance(service, CommandService)
    await service._run(task_status)
