"""A run of a command's process: its start, the wait for its end, and the end of its process group.

```
start ──► wait and read its pipes ──► the process has exited: reap it with wait4
             │ timeout, cancellation,        ▼
             │ or error in a callback     wait for the rest of its group, at most terminate_grace seconds
             ▼                               ▼ timeout, cancellation, error, or these seconds are over
          SIGTERM to the group ──► terminate_grace seconds ──► SIGKILL to the group ──► empty the pipes
```

The error of a command that failed shows the end of standard error. `_start_errors` knows why a command cannot start.

Decided in docs/decisions: 32-commands.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from ... import _posix as posix
from ..._core.base._text_forms import name_in_errors
from ..._core.job._errors import JobTimeout
from ...abc import RunHandle, TimeLimit, arguments_of
from .._user_files import describe_missing_output, outputs_from_here
from ..posix import _files, _guard, _processes
from ..posix._processes import REAPED_MESSAGE, Process, spawn
from . import _argv, _resource_limits, _spawn_options
from ._output_sinks import (
    MAX_TAIL_BYTES,
    SPOOL_LIMIT_BYTES,
    OutputSpool,
    file_size,
    file_tail,
)
from ._resource_limits import PinnedCommands, SpawnQueue
from ._result import (
    CommandError,
    CommandResult,
    captured_tail,
    describe_failure,
    with_output,
)
from ._start_errors import Reason, reason_before_start, reason_for_failed_start
from ._streams import ProcessStreams

if TYPE_CHECKING:
    from ._command_job import CommandJob


ERROR_STREAM_NAMES: Final = {"stdout": "output", "stderr": "standard error"}
REAPED: Final = Reason(REAPED_MESSAGE, "other code must wait for its own children only")


class ProcessRun:
    """A process of a command job, from its start until the end of its process group."""

    # ---- set when the process starts
    _command: list[str | bytes]
    _stdin: Any
    _started_at: float
    _time_limit: TimeLimit
    _streams: ProcessStreams
    _process: Process
    _initial_stderr_size: int
    # ---- set when the process has ended
    _result: CommandResult

    def __init__(self, job: CommandJob, run: RunHandle) -> None:
        self._job: Final = job
        self._options: Final = job._command_options
        is_merged = self._options.stderr == subprocess.STDOUT
        self._error_stream: Final[Literal["stdout", "stderr"]] = (
            "stdout" if is_merged else "stderr"
        )
        self._run: Final = run
        self._clock: Final = run.clock
        # Set if the timeout has ended the process or the rest of its group.
        self._job_timeout: JobTimeout | None = None

    async def run(self) -> CommandResult:
        """Start the command, wait until its whole process group has ended, and return the result.

        Raises:
            CommandError: the command could not be started, or has failed.
            JobTimeout: the time limit was exceeded.
            BaseException: the cancellation that ended the command, or the error of a callback.

        """
        job = self._job
        self._options.check_files_open(repr(job.label))
        outputs = outputs_from_here(job)
        spawn_queue = self._run.shared(SpawnQueue)
        pin = self._options.pin
        with (
            contextlib.nullcontext()
            if pin is None
            else self._run.shared(PinnedCommands).hold_slot(job) as cpu
        ):
            await self._prepare_command()
            requested_at = self._clock()
            if await spawn_queue.start_when_possible(lambda: self._start(cpu)):
                self._run.record_machine_wait(job, requested_at)
            # Let the command be the last to close the file, and so the one to free it: 0.1 s per GiB on tmpfs.
            self._stdin = None
            with spawn_queue.count_as_running(), self._time_limit:
                await self._wait_for_end()
        if self._streams.pipes.sink_error is not None:
            raise self._streams.pipes.sink_error
        if self._job_timeout is not None:
            if self._process.returncode is not None:
                tail = None
                if self._error_stream == "stderr":
                    # Standard error has a stream of its own here, so its tail is no part of the output.
                    tail = self._stderr_tail()
                with_output(self._job_timeout, self._result, tail)
            raise self._job_timeout
        result = self._result
        failure = describe_failure(self._options.success_codes, result.returncode)
        failure = failure or describe_missing_output(job, outputs)
        if failure is not None:
            name = ERROR_STREAM_NAMES[self._error_stream]
            advice = ""
            if not job.redact:
                advice = _argv.shell_advice(self._command)
            raise CommandError(
                job,
                self._command_line,
                failure,
                result,
                self._stderr_tail(),
                name,
                advice,
            )
        return result

    # ---- starting the process

    async def _prepare_command(self) -> None:
        """Prepare the start, large or numerous files in a thread."""
        job = self._job
        *arguments, stdin = arguments_of(job)
        self._command = [
            _argv.fill_argument(value, number, job)
            for number, value in enumerate(arguments)
        ]
        subject = name_in_errors(repr(job.label), job.redact)
        if self._options.shell:
            self._command[2:] = [_argv.join_line(self._command[2:], _argv.SHELL)]
        self._stdin = stdin = _argv.check_stdin(job._stdin_value(stdin), subject)
        if isinstance(stdin, _argv.BYTES_TYPES) and len(stdin) > SPOOL_LIMIT_BYTES:
            self._stdin = OutputSpool("standard input")
            await _files.call_in_thread(self._stdin.write, stdin)

    def _start(self, cpu: int | None) -> None:
        job = self._job
        self._started_at = self._clock()
        self._time_limit = limit = self._run.time_limit(job, "output")
        try:
            # Start the guard first, so that its errors do not pass for errors of the program.
            self._run.shared(_guard.Guard)
            self._streams = ProcessStreams(
                job, self._stdin, limit.heartbeat if limit.needs_signs else None
            )
        except OSError as error:
            self._fail_start(
                error, reason_before_start(error, self._show, self._options.stdin)
            )
        self._initial_stderr_size = 0
        path = self._stderr_path()
        if path is not None and self._options.success_codes is not None:
            self._initial_stderr_size = file_size(path)
        try:
            self._process = job._process = self._spawn(cpu)
            job._open_streams = self._streams
        except BaseException as error:
            self._streams.close()
            if not isinstance(error, OSError):
                raise
            if isinstance(error, ChildProcessError):
                raise self._failure(*REAPED) from error
            options = self._options
            self._fail_start(
                error,
                reason_for_failed_start(
                    error, self._command, options.cwd, options.env, self._show
                ),
            )

    def _spawn(self, cpu: int | None) -> Process:
        options = self._options
        streams = self._streams
        command = streams.wrap_command(
            _resource_limits.wrap_command(self._command, options)
        )
        if command is not self._command:
            _resource_limits.check_program(os.fsdecode(self._command[0]), options)
        with (
            contextlib.nullcontext()
            if cpu is None
            else _resource_limits.pinned_to_cpu(cpu)
        ):
            return spawn(
                self._run.shared(_guard.Guard),
                command,
                environment=self._command_environment(),
                overrides=_argv.propagated_variables(self._get_command_variable),
                cwd=options.cwd,
                stdin=streams.stdin,
                stdout=streams.stdout,
                stderr=streams.stderr,
            )

    def _get_command_variable(self, name: str) -> str | None:
        value = (self._options.env or {}).get(os.fsencode(name))
        if value is None:
            return None
        return os.fsdecode(value)

    def _command_environment(self) -> Mapping[bytes, bytes] | None:
        env = self._options.env
        placeholders = self._job._env_placeholders
        if env is None or not placeholders:
            return env
        return {
            **env,
            **{
                name: os.fsencode(value.text(self._job))
                for name, value in placeholders.items()
            },
        }

    def _set_up_process(self) -> None:
        """Watch the pipes of the started process, set its niceness, and call `on_start`."""
        options = self._options
        self._streams.watch_process(self._process.exit_descriptor)
        if options.nice is not None:
            try:
                _processes.renice(self._process, options.nice)
            except PermissionError as error:
                raise self._failure(f"nice={options.nice} requires root") from error
        if options.on_start is not None:
            options.on_start(self._job)

    @property
    def _command_line(self) -> str:
        return _argv.join_command(self._command, self._options.shell)

    # ---- waiting for the end of the process

    async def _wait_for_end(self) -> None:
        """Wait until the process and its group have ended. End them on a timeout, a cancellation or an error."""
        is_over = False
        try:
            self._set_up_process()
            has_exited = (
                await self._wait_for_exit_in_time() or self._process.has_exited()
            )
            is_over = (
                has_exited
                and self._streams.pipes.sink_error is None
                and await self._wait_for_group()
            )
        finally:
            try:
                if not is_over:
                    await self._end_group()
            finally:
                self._finish_process()

    async def _wait_for_exit_in_time(self) -> bool:
        """Wait until the process has exited, and return True. Return False on a timeout or if a sink fails."""
        while True:
            deadline = self._time_limit.deadline
            if await self._wait_for_exit(deadline):
                return True
            if self._time_limit.deadline <= deadline:
                # Output that arrived while the event loop was blocked may extend the deadline.
                self._streams.pipes.forward_available()
            if (
                self._streams.pipes.sink_error is not None
                or self._time_limit.deadline <= deadline
            ):
                return False

    async def _wait_for_exit(self, deadline: float) -> bool:
        return await self._streams.pipes.forward_until_ended(
            self._run.wait_readable, deadline
        )

    async def _wait_for_group(self) -> bool:
        """Reap the exited process, wait for the rest of its group, and return False if the rest must be ended."""
        self._reap()
        if not self._process.has_remaining_members():
            return True
        if self._options.leftovers == "end":
            return False
        grace_deadline = self._clock() + self._options.terminate_grace
        return await _processes.wait_until_empty(
            self._run,
            self._process,
            min(grace_deadline, self._time_limit.end),
            self._forward_output_until,
        )

    # ---- ending the process group

    async def _end_group(self) -> None:
        """Send SIGTERM to the group, and SIGKILL after the grace period. A cancellation does not interrupt this."""
        process = self._process
        grace_deadline = self._clock() + self._options.terminate_grace
        self._streams.pipes.is_ending = True
        self._job_timeout = self._timeout_error()
        self._job._terminate(process)
        # A stopped process would not handle SIGTERM.
        process.signal_group(posix.SIGCONT)
        has_ended = process.returncode is not None or await self._kill_after_grace(
            grace_deadline
        )
        if has_ended and process.returncode is None:
            self._reap()
        if not has_ended or not await _processes.end_group(
            self._run, process, grace_deadline, self._forward_output_until
        ):
            self._run.report(
                f"{self._job.label!r}: process group {process.pid} belongs to another user (sudo?), so it cannot be "
                f"stopped and keeps running; set a time limit as that user, for example: sudo timeout 60 COMMAND",
                self._job,
            )

    def _timeout_error(self) -> JobTimeout | None:
        """Return a `JobTimeout` if the command is being ended because of its time limit, otherwise None."""
        job = self._job
        limit = self._time_limit
        if not self._process.has_exited():
            if not limit.is_over:
                return None
            return limit.error()
        if job.timeout is None or self._clock() < limit.end:
            return None
        code = self._process.returncode
        how = ""
        if code is not None:
            how = f" ({_processes.describe_exit(code)})"
        waits = f"its program had ended{how}, but processes that it had started were still running"
        return JobTimeout(job, job.timeout, waits=waits)

    async def _kill_after_grace(self, grace_deadline: float) -> bool:
        """Wait for the process, kill it when the grace period ends, and return False if that is not permitted."""
        deadline = grace_deadline
        while not await self._run.outlast(partial(self._wait_for_exit, deadline)):
            if not self._process.signal_group(posix.SIGKILL):
                return False
            deadline = self._clock() + _processes.KILL_INTERVAL
        return True

    def _reap(self) -> None:
        if not self._process.reap():
            raise self._failure(*REAPED) from ChildProcessError()

    async def _forward_output_until(self, deadline: float) -> None:
        await self._streams.pipes.forward_remaining(self._run.wait_readable, deadline)
        # All pipes may have ended before the deadline.
        await self._run.sleep_until(deadline)

    def _finish_process(self) -> None:
        self._process.unregister()
        self._streams.close()
        self._job._process = None
        self._job._open_streams = self._streams.ends
        if self._process.returncode is not None:
            self._result = self._job._latest_result = self._make_result()

    # ---- the result

    def _make_result(self) -> CommandResult:
        process = self._process
        assert process.returncode is not None
        assert process.usage is not None
        elapsed = self._clock() - self._started_at
        output = (
            self._streams.captured_output("stdout"),
            self._streams.captured_output("stderr"),
        )
        return CommandResult(
            process.returncode,
            elapsed,
            process.usage,
            *output,
            process.rss_before_exec,
            process.pid,
        )

    def _stderr_tail(self) -> bytes | None:
        """Return the last bytes of standard error, or None if it was neither captured nor written to a file."""
        tail = captured_tail(self._result, self._error_stream)
        path = self._stderr_path()
        if tail is None and path is not None:
            return file_tail(path, MAX_TAIL_BYTES, self._initial_stderr_size)
        return tail

    def _stderr_path(self) -> Any:
        """Return the path of the file that receives standard error, or None if there is none."""
        stream = getattr(self._options, self._error_stream)
        # The `name` of a file opened from a descriptor is a number.
        return next(
            filter(_spawn_options.is_path, [stream, getattr(stream, "name", None)]),
            None,
        )

    # ---- errors

    def _failure(self, problem: str, remedy: str = "") -> CommandError:
        """Return the error of a command without a result."""
        return CommandError(self._job, self._command_line, problem, advice=remedy)

    def _fail_start(self, error: OSError, reason: Reason) -> NoReturn:
        # `SpawnQueue` decides by the number of the cause, which may name the program: a redacted job has another cause.
        # The traceback is dropped, because it has only frames of `subprocess`.
        if self._job.redact:
            cause = OSError(error.errno, error.strerror)
        else:
            cause = error.with_traceback(None)
        raise self._failure(f"not started: {reason.problem}", reason.remedy) from cause

    def _show(self, text: str, hidden: str) -> str:
        return hidden if self._job.redact else text
