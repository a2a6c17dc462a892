"""One run of one command: start it, wait for it, and see to it that nothing of its group is left.

```
start ──► wait, pumping its pipes ──► it has exited ─────────────────────► SIGTERM to what is left of its group
             │ timeout, cancellation,                                         │       reap it by wait4
             │ or a callback that raised                                      ▼
             └──► SIGTERM to the group ──► terminate_grace seconds ──► SIGKILL to the group ──► empty the pipes
```
"""

from __future__ import annotations

import math
import signal
from typing import TYPE_CHECKING, Final

from .._core import _errors, _resources
from . import _command_faults, _command_limits, _command_text, _waiting
from ._command_output import Streams
from ._command_result import CommandError, CommandResult, describe
from ._group_end import end_group
from ._guard import Guard
from ._processes import Process, spawn

if TYPE_CHECKING:
    from .._core._worker import Worker
    from ._command import CommandJob


class Attempt:
    """One process of a command job, from its start until its group has ended."""

    # ---- there from the start on
    _command: list[str | bytes]
    _streams: Streams
    _process: Process
    _stderr_size: int
    # ---- there from the end on
    _result: CommandResult

    def __init__(self, job: CommandJob, worker: Worker) -> None:
        """Prepare; `run` starts it."""
        self._job: Final = job
        self._how: Final = job._how
        self._run: Final = worker.run
        self._clock: Final = worker.run.clock
        self._began: Final = self._clock()
        self._wait: Final = _waiting.readable_on(worker.run.backend.name)
        self._was_cut = False  # it would have gone on

    async def run(self) -> CommandResult:
        """Run it to its end, whatever happens.

        Raises:
            CommandError: it could not be started, or has failed, and that is to be checked.
            JobTimeout: its time was over.
            BaseException: the cancellation that ended it, or what a callback raised.

        """
        job, timeout = self._job, self._job.timeout
        with _command_limits.slot(self._how.pin, self._run) as cpu:
            self._start(cpu)
            cut = True
            try:
                self._begin()
                cut = not await self._until_exited(math.inf if timeout is None else self._began + timeout)
            finally:
                await self._end(cut or self._streams.error is not None)
        result = self._result
        if self._streams.error is not None:
            raise self._streams.error
        if self._was_cut:
            assert timeout is not None
            raise _errors.JobTimeout(job, timeout)
        if result.returncode and self._how.check:
            raise CommandError(job, self._line, describe(result.returncode), result, self._tail())
        return result

    # ---- the start

    def _start(self, cpu: int | None) -> None:
        job = self._job
        self._command = _command_text.filled(job._arguments_now(), job)
        try:
            self._streams = Streams(job, _command_text.checked_input(job._input_now(), job))
        except OSError as error:
            raise CommandError(job, self._line, _command_faults.of_streams(error)) from error
        self._stderr_size = _command_faults.size_of_file(self._how)
        try:
            self._process = job._process = self._spawn(cpu)
        except OSError as error:
            self._streams.close()
            raise CommandError(job, self._line, _command_faults.of_start(error, self._command, job._how)) from error
        except BaseException:
            self._streams.close()
            raise

    def _spawn(self, cpu: int | None) -> Process:
        how, streams = self._how, self._streams
        guard = _resources.shared(self._run, Guard)
        command = _command_limits.wrapped(self._command, how)
        with _command_limits.on_cpu(cpu):
            return spawn(
                guard,
                command,
                environment=how.env,
                cwd=how.cwd,
                stdin=streams.stdin,
                stdout=streams.stdout,
                stderr=streams.stderr,
            )

    def _begin(self) -> None:
        """Do what is to be done as soon as there is a process; what goes wrong here ends it."""
        how = self._how
        self._streams.started(self._process.exit_descriptor)
        if how.nice is not None:
            try:
                _command_limits.renice(self._process, how.nice)
            except PermissionError as error:
                raise CommandError(self._job, self._line, f"nice={how.nice} is for root only") from error
        if how.on_start is not None:
            how.on_start(self._job)

    @property
    def _line(self) -> str:
        return _command_text.line(self._command, self._how.shell)

    # ---- the wait

    async def _until_exited(self, deadline: float) -> bool:
        return await self._streams.until_exited(self._wait, deadline)

    # ---- the end

    async def _end(self, cut: bool) -> None:
        """End the process, if it is to be cut, and what is left of its group; take in how it ended."""
        process = self._process
        try:
            grace_ends = self._clock() + self._how.terminate_grace
            self._streams.ending = True
            self._was_cut = cut and not process.has_exited()
            process.signal(signal.SIGTERM)
            if self._was_cut:
                process.signal(signal.SIGCONT)  # one that is stopped could not obey
                await self._outlive(grace_ends)
            process.reap()
            if process.has_left_others():
                await end_group(self._run, process, grace_ends, self._pause)
        except ChildProcessError as error:
            raise CommandError(self._job, self._line, _command_faults.REAPED) from error
        finally:
            process.forget()
            self._streams.close()
            self._job._process = None
        self._result = self._new_result()
        self._job._latest = self._result

    async def _outlive(self, grace_ends: float) -> None:
        """Wait until the process has exited: for a while of itself, then killed."""
        if not await _waiting.outlast(self._run, lambda: self._until_exited(grace_ends)):
            self._process.signal(signal.SIGKILL)
            await _waiting.outlast(self._run, lambda: self._until_exited(math.inf))

    async def _pause(self, until: float) -> bool:
        await self._streams.until(self._wait, until)
        return await self._run.backend.sleep_until(until)

    # ---- what has become of it

    def _new_result(self) -> CommandResult:
        process, streams = self._process, self._streams
        assert process.returncode is not None
        assert process.usage is not None
        elapsed = self._clock() - self._began
        return CommandResult(process.returncode, elapsed, process.usage, streams.kept("stdout"), streams.kept("stderr"))

    def _tail(self) -> bytes | None:
        """Return the end of its standard error, where that can be found."""
        return _command_faults.tail(self._result, self._how, self._stderr_size)
