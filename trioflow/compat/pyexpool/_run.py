"""`JobRun`: the trioflow job that runs a pool's job: its callbacks, and a `CommandJob` between them.

```
acquire the gate ───► onstart ──► process ──► release the gate ──────────► it ends ──► ondone ──► onfinish
        ▲                                                                     │ after its timeout        │
        └─────────────────────────────────────────────────────────────────────┴──── if it is restarted ◄─┘
```
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from typing import TYPE_CHECKING, Final, Literal

import trio

from ... import AbstractJob, CommandError, CommandJob, JobTimeout
from ... import _posix as posix
from ._callbacks import Latch
from ._job import Job, Process
from ._task import Task, with_outer_tasks

if TYPE_CHECKING:
    from ._batch import Batch


class JobRun(AbstractJob[None], keeps_time=True):  # cancelling it may take as long as the `terminate_grace`
    """The run of one job, including all its restarts.

    If `execute` waits for the job to end, the job takes no slot and does not use the gate, so that it starts at once.
    To trioflow, such a job is a forever job.
    """

    batch: Batch  # set when the batch has accepted the job

    def __init__(self, job: Job, is_concurrent: bool) -> None:
        super().__init__(label=job.name, forever=not is_concurrent)
        self.job: Final = job
        self.is_concurrent: Final = is_concurrent
        self.started_latch = Latch()  # opens when the job is queued, when it has started, or when it cannot start
        self.ended_latch = Latch()  # opens when the job has ended
        self.was_refused = False  # whether the batch was closing when the job was submitted
        self.is_failure_logged = False  # True if the job failed because `onstart` raised, which has been logged
        self.was_queued = False  # whether the job was queued because there was no free worker
        self._holds_gate = False
        self._has_started = False

    # ---- for the thread that called `execute`

    def reset(self) -> None:
        """Prepare the job for submission to another batch, after a batch has refused it."""
        self.was_refused = False
        self.started_latch, self.ended_latch = Latch(), Latch()

    @property
    def exit_code(self) -> int:
        """The return value of `execute` after it has waited for the end of the job."""
        process = self.job.proc
        if process is not None and process.returncode is not None:
            return process.returncode
        return 0 if self._has_started else -1

    @property
    def start_code(self) -> int:
        """The return value of `execute` after it has waited for the start of the job."""
        return 0 if self.was_queued or self._has_started else -1

    # ---- the run

    async def co_run(self) -> None:
        """Run the job. If it has `rsrtonto`, run it again after each timeout.

        Raises:
            CommandError: the process failed.
            JobTimeout: the process timed out, and the job is not restarted.
            Exception: `onstart` raised this exception.

        """
        while not await self._run_once():
            pass

    async def _run_once(self) -> bool:
        """Run the job once; return False if it must be restarted."""
        job, call = self.job, self.batch.callbacks.call
        job.tstart = job.tstop = job.proc = None
        try:
            await self._run_process()
            await call(job.ondone, job, "ondone")
            return True
        except JobTimeout:
            if not job.rsrtonto:
                raise
            return False
        finally:
            if job.tstart is not None:
                job.tstop = time.time()
                with trio.CancelScope(shield=True):
                    await call(job.onfinish, job, "onfinish")

    async def _run_process(self) -> None:
        """Call `onstart`, and run the process until it ends."""
        job = self.job
        try:
            await self._acquire_gate()
            job.tstart = time.time()
            error = await self.batch.callbacks.call(job.onstart, job, "onstart")
            await trio.lowlevel.checkpoint_if_cancelled()
            if error is not None:
                self.is_failure_logged = True
                raise error
            if job.args:
                await self._run_command()
            else:
                self._mark_started()
        finally:
            self._release_gate()

    # ---- the gate: one job starts at a time, and the next one after `startdelay`

    async def _acquire_gate(self) -> None:
        if self.is_concurrent:
            await self.batch.start_gate.acquire()
            self._holds_gate = True
            await trio.sleep_until(self.batch.next_start_time)

    def _release_gate(self) -> None:
        if self._holds_gate:
            self._holds_gate = False
            self.batch.start_gate.release()
        self.started_latch.open()

    def _mark_started(self) -> None:
        """Record the start, and release the gate to the next job."""
        self._has_started = True
        if self._holds_gate and self.job.startdelay:
            self.batch.next_start_time = trio.current_time() + self.job.startdelay
        self._release_gate()

    # ---- the process

    async def _run_command(self) -> None:
        job = self.job
        args = [job.args] if isinstance(job.args, str) else list(job.args or ())
        command = CommandJob(
            args,
            cwd=job.workdir,
            stdout=job.stdout,
            stderr=job.stderr,
            timeout=job.timeout or None,
            label=job.name,
            on_start=self._record_start,
        )
        piped = self._piped_streams()
        deadline = trio.current_time() + (job.timeout or float("inf"))
        try:
            await command.co_run()
        except CommandError as error:
            if not _is_exit_code_unknown(error) or piped:
                raise
            if job.proc is None:  # the process ended before it could be recorded
                self._record_start(command)
            await trio.lowlevel.checkpoint_if_cancelled()
            if trio.current_time() >= deadline:
                raise JobTimeout(command, job.timeout) from error
        finally:
            if job.proc is not None:
                job.proc._record_end(command.last_result, piped)

    def _record_start(self, command: CommandJob) -> None:
        def send(signal_number: int) -> None:
            self.batch.post(_send_signal, command, signal_number)

        self.job.proc = Process(command.command, command.pid, send)
        self._mark_started()

    def _piped_streams(self) -> list[Literal["stdout", "stderr"]]:
        names: tuple[Literal["stdout", "stderr"], ...] = ("stdout", "stderr")
        return [name for name in names if getattr(self.job, name) == subprocess.PIPE]

    # ---- the task

    def belongs_to(self, task: Task) -> bool:
        return task in with_outer_tasks(self.job.task)


def _send_signal(command: CommandJob, signal_number: int) -> None:
    """Send a signal to a process if it still exists.

    Call this only in the event loop. The event loop reaps the process, so the pid cannot belong to another one here.
    """
    if command.pid is not None:
        with contextlib.suppress(OSError):  # the process has ended, or runs as another user
            posix.has_exited(command.pid)
            os.kill(command.pid, signal_number)


def _is_exit_code_unknown(error: CommandError) -> bool:
    """Return whether the exit code of the process is unknown because this program ignores SIGCHLD."""
    return isinstance(error.__cause__, (ChildProcessError, ProcessLookupError))
