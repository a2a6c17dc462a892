"""One run of a command's process: its start, the wait for its end, and the end of its process group.

```
start ──► wait, reading its pipes ──► it has exited: reap it with wait4
             │ timeout, cancellation,        ▼
             │ or a callback that raised     wait for the rest of its group, at most terminate_grace seconds
             ▼                               ▼ the same, or the seconds are over
          SIGTERM to the group ──► terminate_grace seconds ──► SIGKILL to the group ──► empty the pipes
```
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any, Final

from ... import _posix as posix
from ..._core.api import JobTimeout
from ...abc import arguments_of
from .._env_propagation import propagated_variables
from ..posix._guard import Guard
from ..posix._process_groups import KILL_PAUSE, end_group, until_empty
from ..posix._processes import Process, renice, spawn
from . import _argv, _resource_limits, _start_errors
from ._granted import fill_environment
from ._jobserver import Client, TokenPipes
from ._result import CommandError, CommandResult
from ._spawn_queue import SpawnQueue
from ._streams import Streams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...abc import RunHandle, TimeLimit
    from ._command_job import CommandJob


class ProcessRun:
    """One process of a command job, from its start until the end of its process group."""

    # ---- set when it starts
    _command: list[str | bytes]
    _input: Any
    _began: float
    _limit: TimeLimit
    _streams: Streams
    _process: Process
    _stderr_size: int
    _client: Client | None = None  # its client of a jobserver, if it has one
    # ---- set when it has ended
    _result: CommandResult

    def __init__(self, job: CommandJob, run: RunHandle) -> None:
        self._job: Final = job
        self._options: Final = job._options
        self._run: Final = run
        self._clock: Final = run.clock
        self._wait: Final = run.wait_readable
        self._error: JobTimeout | None = None  # set if the timeout has ended the process or the rest of its group

    async def run(self) -> CommandResult:
        """Start the command, wait until its whole process group has ended, and return the result.

        Raises:
            CommandError: the command could not be started, or has failed.
            JobTimeout: the time limit was exceeded.
            BaseException: the cancellation that ended the command, or the error of a callback.

        """
        job = self._job
        self._options.check_open(repr(job.label))
        starts = self._run.shared(SpawnQueue)
        with _resource_limits.hold_slot(self._options.pin, self._run, job) as cpu:
            self._prepare()
            asked = self._clock()
            try:
                if await starts.start(lambda: self._start(cpu)):
                    self._run.note_hold(job, asked)
                with starts.running(), self._limit:
                    await self._wait_for_end()
            finally:
                if self._client is not None:
                    self._client.leave()
        if self._streams.pipes.error is not None:
            raise self._streams.pipes.error
        if self._error is not None:
            raise self._error
        result = self._result
        failure = self._options.failure(result.returncode) or self._options.missing_output()
        if failure is not None:
            written = "output" if self._options.stderr == subprocess.STDOUT else "standard error"
            raise CommandError(job, self._command_line, failure, result, self._stderr_tail(), written)
        return result

    # ---- the start

    def _prepare(self) -> None:
        job = self._job
        *arguments, stdin = arguments_of(job)
        self._command = _argv.fill_arguments(arguments, job)
        self._input = _argv.check_input(job._input(stdin), job)

    def _start(self, cpu: int | None) -> None:
        job = self._job
        self._began = self._clock()
        self._limit = limit = self._run.time_limit(job, "output")
        try:
            if self._client is None and (slots := self._run.spare_slots()) is not None:
                self._client = self._run.shared(TokenPipes).join(slots)
            self._streams = Streams(job, self._input, limit.alive if limit.needs_signs else None)
        except OSError as error:
            raise CommandError(job, self._command_line, _start_errors.stream_error_message(error)) from error
        self._stderr_size = _start_errors.stderr_size(self._options)
        try:
            self._process = job._process = self._spawn(cpu)
        except OSError as error:
            self._streams.close()
            why = _start_errors.start_error_message(error, self._command, job._options, redact=job.redact)
            # The cause names the program; its traceback has only frames of subprocess.
            raise CommandError(job, self._command_line, why) from None if job.redact else error.with_traceback(None)
        except BaseException:
            self._streams.close()
            raise

    def _spawn(self, cpu: int | None) -> Process:
        options, streams = self._options, self._streams
        command = _resource_limits.wrap_command(self._command, options)
        with _resource_limits.pinned_to_cpu(cpu):
            return spawn(
                self._run.shared(Guard),
                command,
                environment=self._environment(),
                added=propagated_variables(self._env_variable),
                cwd=options.cwd,
                stdin=streams.stdin,
                stdout=streams.stdout,
                stderr=streams.stderr,
                kept=() if self._client is None else self._client.descriptors,
            )

    def _env_variable(self, name: str) -> str | None:
        value = (self._options.env or {}).get(os.fsencode(name))
        return None if value is None else os.fsdecode(value)

    def _environment(self) -> Mapping[bytes, bytes] | None:
        env, own = self._options.env, self._job._granted_env
        variables = env if env is None or not own else fill_environment(env, own, self._job)
        return variables if self._client is None else self._client.environment(variables)

    def _set_up_process(self) -> None:
        """Watch the pipes of the started process, set its niceness, and call `on_start`."""
        options = self._options
        self._streams.watch_process(self._process.exit_descriptor)
        if options.nice is not None:
            try:
                renice(self._process, options.nice)
            except PermissionError as error:
                raise CommandError(self._job, self._command_line, f"nice={options.nice} is for root only") from error
        if options.on_start is not None:
            options.on_start(self._job)

    @property
    def _command_line(self) -> str:
        return _argv.join_command(self._command, self._options.shell)

    # ---- the wait

    async def _wait_for_end(self) -> None:
        """Wait until the process and its group have ended; end them if that takes too long or on an error."""
        is_over = False
        try:
            self._set_up_process()
            exited = await self._wait_for_exit_in_time() or self._process.has_exited()
            is_over = exited and self._streams.pipes.error is None and await self._wait_for_group()
        finally:
            try:
                if not is_over:
                    await self._end_group()
            finally:
                self._finish()

    async def _wait_for_exit_in_time(self) -> bool:
        """Wait until the process has exited; return False if the time limit is exceeded, or a sink fails."""
        while True:
            until = self._limit.deadline
            if await self._wait_for_exit(until):
                return True
            if self._limit.deadline <= until:
                # output that arrived while the event loop was blocked may extend the deadline
                self._streams.pipes.forward_available()
            if self._streams.pipes.error is not None or self._limit.deadline <= until:
                return False

    async def _wait_for_exit(self, deadline: float) -> bool:
        return await self._streams.pipes.forward_until_ended(self._wait, deadline)

    async def _wait_for_group(self) -> bool:
        """Reap the exited process, and wait for the rest of its group; return False if that must be ended."""
        self._reap()
        if not self._process.has_left_others():
            return True
        if self._options.leftovers == "end":
            return False
        grace_ends = self._clock() + self._options.terminate_grace
        return await until_empty(self._run, self._process, min(grace_ends, self._limit.end), self._pause)

    # ---- the end

    async def _end_group(self) -> None:
        """Send SIGTERM to the group, and SIGKILL after the grace period; a cancellation does not interrupt this."""
        process = self._process
        grace_ends = self._clock() + self._options.terminate_grace
        self._streams.pipes.ending = True
        self._error = self._timeout_error()
        self._job._terminate(process)
        process.signal(posix.SIGCONT)  # a stopped process would not handle SIGTERM
        ended = process.returncode is not None or await self._kill_after_grace(grace_ends)
        if ended and process.returncode is None:
            self._reap()
        if not ended or not await end_group(self._run, process, grace_ends, self._pause):
            self._run.report(f"{self._job.label!r}: {_start_errors.not_permitted_message(process.pid)}", self._job)

    def _timeout_error(self) -> JobTimeout | None:
        """Return a JobTimeout if the time limit is the reason for ending the command, otherwise None."""
        job, limit = self._job, self._limit
        if not self._process.has_exited():
            return limit.error() if limit.is_over else None
        if job.timeout is None or self._clock() < limit.end:
            return None
        return JobTimeout(job, job.timeout)  # waiting for the rest of its group took too long

    async def _kill_after_grace(self, grace_ends: float) -> bool:
        """Wait for the process, and kill it when the grace period ends; return False if that is not permitted."""
        until = grace_ends
        while not await self._run.outlast(lambda until=until: self._wait_for_exit(until)):  # type: ignore[misc]
            if not self._process.signal(posix.SIGKILL):
                return False
            until = self._clock() + KILL_PAUSE
        return True

    def _reap(self) -> None:
        try:
            self._process.reap()
        except ChildProcessError as error:
            raise CommandError(self._job, self._command_line, _start_errors.REAPED) from error

    async def _pause(self, until: float) -> None:
        await self._streams.pipes.forward_until(self._wait, until)
        await self._run.sleep_until(until)

    def _finish(self) -> None:
        """Free the resources of the process, and store its result."""
        self._process.forget()
        self._streams.close()
        self._job._process = None
        if self._process.returncode is not None:
            self._result = self._job._latest = self._new_result()

    # ---- its result

    def _new_result(self) -> CommandResult:
        process, streams = self._process, self._streams
        assert process.returncode is not None
        assert process.usage is not None
        elapsed = self._clock() - self._began
        kept = streams.captured("stdout"), streams.captured("stderr")
        return CommandResult(process.returncode, elapsed, process.usage, *kept, process.own_peak, process.pid)

    def _stderr_tail(self) -> bytes | None:
        """Return the last bytes of the standard error, if it was captured or written to a file, otherwise None."""
        return _start_errors.stderr_tail(self._result, self._options, self._stderr_size)
