"""`JobRun`: a job of a pool as a job of trioflow: its callbacks, with a `CommandJob` between them.

```
wait for the gate ──► onstart ──► process ──► let the next one through ──► it ends ──► ondone ──► onfinish
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
from ._job import Job, Process
from ._latch import Latch
from ._task import Task, upwards

if TYPE_CHECKING:
    from ._batch import Batch


class JobRun(AbstractJob[None], keeps_time=True):  # it may take long to end: its command has `terminate_grace`
    """The run of one job, with all its starts.

    A job that `execute` waits for takes no slot and passes no gate: it starts at once, whatever the pool is doing. For
    trioflow it is a forever job.
    """

    batch: Batch  # the one that runs it, once it is added

    def __init__(self, job: Job, concurrent: bool) -> None:
        super().__init__(label=job.name, forever=not concurrent)
        self.job: Final = job
        self.concurrent: Final = concurrent
        self.begun = Latch()  # it is in the queue, has started, or never will
        self.over = Latch()
        self.refused = False  # by a batch that had just ended
        self.reported = False  # its failure is in the log already, as one of a callback
        self.queued = False  # there was no free worker
        self._at_gate = False
        self._started = False

    # ---- for the thread that called `execute`

    def renew(self) -> None:
        """Get ready for another batch, after one has refused it."""
        self.refused = False
        self.begun, self.over = Latch(), Latch()

    @property
    def code(self) -> int:
        """The value of `execute` after a wait for the end."""
        process = self.job.proc
        if process is not None and process.returncode is not None:
            return process.returncode
        return 0 if self._started else -1

    @property
    def start_code(self) -> int:
        """The value of `execute` after a wait for the start."""
        return 0 if self.queued or self._started else -1

    # ---- the run

    async def co_run(self) -> None:
        """Run the job, and again after a timeout if it is to be restarted.

        Raises:
            CommandError, JobTimeout: it failed.
            Exception: the exception of `onstart`.

        """
        while not await self._attempt():
            pass

    async def _attempt(self) -> bool:
        """Start the job once; return False if it is to be restarted."""
        job, call = self.job, self.batch.callbacks.call
        job.tstart = job.tstop = job.proc = None
        try:
            await self._execute()
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

    async def _execute(self) -> None:
        """Call `onstart`, and run the process to its end."""
        job = self.job
        try:
            await self._pass_gate()
            job.tstart = time.time()
            error = await self.batch.callbacks.call(job.onstart, job, "onstart")
            await trio.lowlevel.checkpoint_if_cancelled()
            if error is not None:
                self.reported = True
                raise error
            if job.args:
                await self._command()
            else:
                self._has_started()
        finally:
            self._leave_gate()

    # ---- the gate: one start after the other, `startdelay` between them

    async def _pass_gate(self) -> None:
        if self.concurrent:
            await self.batch.gate.acquire()
            self._at_gate = True
            await trio.sleep_until(self.batch.next_start)

    def _leave_gate(self) -> None:
        if self._at_gate:
            self._at_gate = False
            self.batch.gate.release()
        self.begun.open()

    def _has_started(self) -> None:
        self._started = True
        if self._at_gate and self.job.startdelay:
            self.batch.next_start = trio.current_time() + self.job.startdelay
        self._leave_gate()

    # ---- the process

    async def _command(self) -> None:
        job = self.job
        args = [job.args] if isinstance(job.args, str) else list(job.args or ())
        command = CommandJob(
            args,
            cwd=job.workdir,
            stdout=job.stdout,
            stderr=job.stderr,
            timeout=job.timeout or None,
            label=job.name,
            on_start=self._spawned,
        )
        piped = self._piped()
        deadline = trio.current_time() + (job.timeout or float("inf"))
        try:
            await command.co_run()
        except CommandError as error:
            if not _is_unknown(error) or piped:
                raise
            if job.proc is None:  # it ended before it could be looked at
                self._spawned(command)
            await trio.lowlevel.checkpoint_if_cancelled()
            if trio.current_time() >= deadline:
                raise JobTimeout(command, job.timeout) from error
        finally:
            if job.proc is not None:
                job.proc._end(command.last_result, piped)

    def _spawned(self, command: CommandJob) -> None:
        """Record the process that was started."""

        def send(number: int) -> None:
            self.batch.post(_send, command, number)

        self.job.proc = Process(command.command, command.pid, send)
        self._has_started()

    def _piped(self) -> list[Literal["stdout", "stderr"]]:
        names: tuple[Literal["stdout", "stderr"], ...] = ("stdout", "stderr")
        return [name for name in names if getattr(self.job, name) == subprocess.PIPE]

    # ---- its task

    def belongs_to(self, task: Task) -> bool:
        """Return whether the job is part of a task, directly or not."""
        return task in upwards(self.job.task)


def _send(command: CommandJob, number: int) -> None:
    """Send a signal to a process if it still exists; called in the event loop, where it is reaped."""
    if command.pid is not None:
        with contextlib.suppress(OSError):  # it has ended, or now belongs to another user
            posix.has_exited(command.pid)
            os.kill(command.pid, number)


def _is_unknown(error: CommandError) -> bool:
    """Return whether the end of the process is unknown, because this program ignores SIGCHLD."""
    return isinstance(error.__cause__, (ChildProcessError, ProcessLookupError))
