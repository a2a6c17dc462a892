"""One run of a command's process: its start, the wait for its end, and the end of its process group.

```
start ──► wait and read its pipes ──► the process has exited: reap it with wait4
             │ timeout, cancellation,        ▼
             │ or error in a callback     wait for the rest of its group, at most terminate_grace seconds
             ▼                               ▼ timeout, cancellation, error, or these seconds are over
          SIGTERM to the group ──► terminate_grace seconds ──► SIGKILL to the group ──► empty the pipes
```
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import subprocess
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

import anyio

from ... import _posix as posix
from ..._core.job._errors import JobTimeout
from ...abc import RunHandle, TimeLimit, arguments_of, name_in_errors
from .._env_propagation import propagated_variables
from .._user_files import claim_outputs
from ..posix import _processes
from ..posix._files import call_in_thread
from ..posix._guard import Guard
from ..posix._processes import KILL_INTERVAL, Process, describe_exit, end_group, renice, spawn, wait_until_empty
from . import _argv, _resource_limits, _start_errors
from ._output_sinks import SPOOL_LIMIT_BYTES, OutputSpool
from ._resource_limits import PinnedCommands
from ._result import CommandError, CommandResult, describe_failure
from ._start_errors import RESOURCE_ERROR_MESSAGES
from ._streams import ProcessStreams

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._command_job import CommandJob


class ProcessRun:
    """One process of a command job, from its start until the end of its process group."""

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
        self._run: Final = run
        self._clock: Final = run.clock
        self._wait_readable: Final = run.wait_readable
        self._set_aside_outputs: Callable[[], None] | None = None  # set before the start of a command that has some
        self._job_timeout: JobTimeout | None = None  # set if the timeout has ended the process or the rest of its group

    async def run(self) -> CommandResult:
        """Start the command, wait until its whole process group has ended, and return the result.

        Raises:
            CommandError: the command could not be started, or has failed.
            JobTimeout: the time limit was exceeded.
            BaseException: the cancellation that ended the command, or the error of a callback.

        """
        try:
            return await self._run_to_success()
        except BaseException:
            if self._set_aside_outputs is not None:
                await call_in_thread(self._set_aside_outputs)
            raise

    async def _run_to_success(self) -> CommandResult:
        job = self._job
        self._options.check_files_open(repr(job.label))
        spawn_queue = self._run.shared(SpawnQueue)
        pin = self._options.pin
        with contextlib.nullcontext() if pin is None else self._run.shared(PinnedCommands).hold_slot(job) as cpu:
            await self._prepare_command()
            requested_at = self._clock()
            if await spawn_queue.start_when_possible(lambda: self._start(cpu)):
                self._run.record_machine_wait(job, requested_at)
            self._stdin = None  # closed before the command closes it: whoever is last frees the file, which takes long
            with spawn_queue.count_as_running(), self._time_limit:
                await self._wait_for_end()
        if self._streams.pipes.sink_error is not None:
            raise self._streams.pipes.sink_error
        if self._job_timeout is not None:
            raise self._job_timeout
        result = self._result
        failure = describe_failure(self._options.success_codes, result.returncode)
        failure = failure or self._options.describe_missing_output(job.redact)
        if failure is not None:
            stream_name = "output" if self._options.stderr == subprocess.STDOUT else "standard error"
            stderr = _start_errors.stderr_tail(result, self._options, self._initial_stderr_size)
            raise CommandError(job, self._command_line, failure, result, stderr, stream_name)
        return result

    # ---- starting the process

    async def _prepare_command(self) -> None:
        """Do what must be done before the start, large or numerous files in a thread."""
        job = self._job
        *arguments, stdin = arguments_of(job)
        self._command = _argv.fill_arguments(arguments, job)
        subject = name_in_errors(repr(job.label), job.redact)
        if self._options.shell:
            self._command[2:] = [_argv.join_line(self._command[2:])]
        self._stdin = stdin = _argv.check_stdin(job._stdin_value(stdin), subject)
        if isinstance(stdin, _argv.BYTES_TYPES) and len(stdin) > SPOOL_LIMIT_BYTES:
            self._stdin = OutputSpool("standard input")
            await call_in_thread(self._stdin.write, stdin)
        if self._options.writes:
            outputs = job, self._options.writes, self._options.reads
            self._set_aside_outputs = await call_in_thread(claim_outputs, *outputs)

    def _start(self, cpu: int | None) -> None:
        job = self._job
        self._started_at = self._clock()
        self._time_limit = limit = self._run.time_limit(job, "output")
        try:
            self._run.shared(Guard)  # here, so that its errors do not pass for those of the program
            self._streams = ProcessStreams(job, self._stdin, limit.heartbeat if limit.needs_signs else None)
        except OSError as error:
            message, advice = _start_errors.stream_error_message(error, redact=job.redact)
            failure = CommandError(job, self._command_line, message, advice=advice)
            raise failure from None if job.redact else error
        self._initial_stderr_size = _start_errors.stderr_size(self._options)
        try:
            self._process = job._process = self._spawn(cpu)
            job._open_streams = self._streams
        except BaseException as error:
            self._streams.close()
            if not isinstance(error, OSError):
                raise
            message, advice = _start_errors.start_error_message(
                error, self._command, job._command_options, redact=job.redact
            )
            failure = CommandError(job, self._command_line, message, advice=advice)
            # The cause names the program, so the error of a redacted job has no cause. The traceback of the cause is
            # dropped, because it has only frames of `subprocess`.
            raise failure from None if job.redact else error.with_traceback(None)

    def _spawn(self, cpu: int | None) -> Process:
        options, streams = self._options, self._streams
        command = streams.wrap_command(_resource_limits.wrap_command(self._command, options))
        if command is not self._command:
            _resource_limits.check_program(os.fsdecode(self._command[0]), options)
        with _resource_limits.pinned_to_cpu(cpu):
            return spawn(
                self._run.shared(Guard),
                command,
                environment=self._command_environment(),
                overrides=propagated_variables(self._get_command_variable),
                cwd=options.cwd,
                stdin=streams.stdin,
                stdout=streams.stdout,
                stderr=streams.stderr,
            )

    def _get_command_variable(self, name: str) -> str | None:
        value = (self._options.env or {}).get(os.fsencode(name))
        return None if value is None else os.fsdecode(value)

    def _command_environment(self) -> Mapping[bytes, bytes] | None:
        env, placeholders = self._options.env, self._job._env_placeholders
        if env is None or not placeholders:
            return env
        return {**env, **{name: os.fsencode(value.text(self._job)) for name, value in placeholders.items()}}

    def _set_up_process(self) -> None:
        """Watch the pipes of the started process, set its niceness, and call `on_start`."""
        options = self._options
        self._streams.watch_process(self._process.exit_descriptor)
        if options.nice is not None:
            try:
                renice(self._process, options.nice)
            except PermissionError as error:
                raise CommandError(self._job, self._command_line, f"nice={options.nice} requires root") from error
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
            has_exited = await self._wait_for_exit_in_time() or self._process.has_exited()
            is_over = has_exited and self._streams.pipes.sink_error is None and await self._wait_for_group()
        finally:
            try:
                if not is_over:
                    await self._end_group()
            finally:
                self._finish_process()

    async def _wait_for_exit_in_time(self) -> bool:
        """Wait until the process has exited, and return True; return False on a timeout or if a sink fails."""
        while True:
            deadline = self._time_limit.deadline
            if await self._wait_for_exit(deadline):
                return True
            if self._time_limit.deadline <= deadline:
                # Output that arrived while the event loop was blocked may extend the deadline.
                self._streams.pipes.forward_available()
            if self._streams.pipes.sink_error is not None or self._time_limit.deadline <= deadline:
                return False

    async def _wait_for_exit(self, deadline: float) -> bool:
        return await self._streams.pipes.forward_until_ended(self._wait_readable, deadline)

    async def _wait_for_group(self) -> bool:
        """Reap the exited process, wait for the rest of its group, and return False if the rest must be ended."""
        self._reap()
        if not self._process.has_remaining_members():
            return True
        if self._options.leftovers == "end":
            return False
        grace_deadline = self._clock() + self._options.terminate_grace
        return await wait_until_empty(
            self._run, self._process, min(grace_deadline, self._time_limit.end), self._forward_output_until
        )

    # ---- ending the process group

    async def _end_group(self) -> None:
        """Send SIGTERM to the group, and SIGKILL after the grace period; a cancellation does not interrupt this."""
        process = self._process
        grace_deadline = self._clock() + self._options.terminate_grace
        self._streams.pipes.is_ending = True
        self._job_timeout = self._timeout_error()
        self._job._terminate(process)
        process.signal_group(posix.SIGCONT)  # a stopped process would not handle SIGTERM
        has_ended = process.returncode is not None or await self._kill_after_grace(grace_deadline)
        if has_ended and process.returncode is None:
            self._reap()
        if not has_ended or not await end_group(self._run, process, grace_deadline, self._forward_output_until):
            self._run.report(f"{self._job.label!r}: {_start_errors.not_permitted_message(process.pid)}", self._job)

    def _timeout_error(self) -> JobTimeout | None:
        """Return a `JobTimeout` if the command is being ended because of its time limit, otherwise None."""
        job, limit = self._job, self._time_limit
        if not self._process.has_exited():
            return limit.error() if limit.is_over else None
        if job.timeout is None or self._clock() < limit.end:
            return None
        code = self._process.returncode
        how = "" if code is None else f" ({describe_exit(code)})"
        waits = f"its program had ended{how}, but processes that it had started were still running"
        return JobTimeout(job, job.timeout, waits=waits)

    async def _kill_after_grace(self, grace_deadline: float) -> bool:
        """Wait for the process, kill it when the grace period ends, and return False if that is not permitted."""
        deadline = grace_deadline
        while not await self._run.outlast(lambda deadline=deadline: self._wait_for_exit(deadline)):  # type: ignore[misc]
            if not self._process.signal_group(posix.SIGKILL):
                return False
            deadline = self._clock() + KILL_INTERVAL
        return True

    def _reap(self) -> None:
        if not self._process.reap():
            message, advice = _start_errors.REAPED_MESSAGE, _start_errors.REAPED_ADVICE
            raise CommandError(self._job, self._command_line, message, advice=advice) from ChildProcessError()

    async def _forward_output_until(self, deadline: float) -> None:
        await self._streams.pipes.forward_remaining(self._wait_readable, deadline)
        await self._run.sleep_until(deadline)  # all pipes may have ended before the deadline

    def _finish_process(self) -> None:
        self._process.unregister()
        self._streams.close()
        self._job._process = self._job._open_streams = None
        if self._process.returncode is not None:
            self._result = self._job._latest_result = self._make_result()

    # ---- the result

    def _make_result(self) -> CommandResult:
        process, streams = self._process, self._streams
        assert process.returncode is not None
        assert process.usage is not None
        elapsed = self._clock() - self._started_at
        output = streams.captured_output("stdout"), streams.captured_output("stderr")
        return CommandResult(process.returncode, elapsed, process.usage, *output, process.rss_before_exec, process.pid)


# ---- the queue of the commands of a run, while the system lacks resources for another process

SPARE_DESCRIPTORS: Final = 24
"""How many descriptors must be free to start a command while others run. Starting one uses up to half of them."""


class SpawnQueue:
    """A first-come, first-served queue that starts the commands of a run as long as the system has resources for them.

    If a command cannot be started for lack of descriptors, processes or memory, it is tried again when another command
    of the run has ended. If no other command is running, the error is raised.
    """

    def __init__(self, run: RunHandle) -> None:
        self._run: Final = run
        self._running_count = 0
        self._waiting_events: Final[collections.deque[anyio.Event]] = collections.deque()
        self._has_warned = False

    @contextlib.contextmanager
    def count_as_running(self) -> Generator[None]:
        self._running_count += 1
        try:
            yield
        finally:
            self._running_count -= 1
            self._wake_next()

    async def start_when_possible(self, start_process: Callable[[], None]) -> bool:
        """Call `start_process()`, retry while the system lacks resources, and return whether the command had to wait.

        Raises:
            CommandError: `start_process()` failed for another reason, or no other command runs that could free
                resources.

        """
        has_waited = bool(self._waiting_events)
        if has_waited:
            await self._wait_in_queue(at_end=True)
        try:
            while (shortage := self._try_start(start_process)) is not None:
                has_waited = True
                self._warn_once(shortage)
                await self._wait_in_queue(at_end=False)
        finally:
            self._wake_next()  # the next command tries to start, because there may be resources for it
        return has_waited

    def _try_start(self, start_process: Callable[[], None]) -> str | None:
        """Call `start_process()`, and return None on success, or the reason why the command must wait for resources."""
        if self._running_count and not has_spare_descriptors() and not _processes.raise_file_limit():
            return RESOURCE_ERROR_MESSAGES[errno.EMFILE]
        try:
            start_process()
        except CommandError as error:
            error_number = getattr(error.__cause__, "errno", None)
            if error_number == errno.EMFILE and _processes.raise_file_limit():
                return self._try_start(start_process)
            if error_number not in RESOURCE_ERROR_MESSAGES or not self._running_count:
                raise
            return RESOURCE_ERROR_MESSAGES[error_number]
        return None

    def _warn_once(self, shortage: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            count = self._running_count
            subject = "1 command is running" if count == 1 else f"{count} commands are running"
            self._run.report(f"{subject}, and others wait until one ends: {shortage}")

    async def _wait_in_queue(self, *, at_end: bool) -> None:
        event = anyio.Event()
        enqueue = self._waiting_events.append if at_end else self._waiting_events.appendleft
        enqueue(event)
        try:
            await event.wait()
        except BaseException:
            if event in self._waiting_events:
                self._waiting_events.remove(event)
            else:
                self._wake_next()
            raise

    def _wake_next(self) -> None:
        if self._waiting_events:
            self._waiting_events.popleft().set()

    async def close(self) -> None:
        """Restore this program's limit on open files, which starting commands may have raised."""
        _processes.restore_file_limit()


def has_spare_descriptors() -> bool:
    """Return whether `SPARE_DESCRIPTORS` descriptors are free, judging only by the lowest free one."""
    try:
        lowest_free_descriptor = os.dup(0)
    except OSError as error:
        return error.errno == errno.EBADF  # descriptor 0 is closed; other errors mean that no descriptor is free
    os.close(lowest_free_descriptor)
    return bool(lowest_free_descriptor + SPARE_DESCRIPTORS <= posix.resource.getrlimit(posix.resource.RLIMIT_NOFILE)[0])
