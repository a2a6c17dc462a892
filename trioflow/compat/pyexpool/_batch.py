"""`Batch`: a scheduler that runs in its own thread, from the first `execute` to the end of `join`. Also its jobs.

A batch refers to the pool's `Outcomes`, but not to the pool. So the pool is deleted when the user drops the last
reference to it, and the deletion terminates the batch.

Unless a comment or docstring says otherwise, this code runs only in the thread of the event loop. Other threads use
`post` to call functions there.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVarTuple

import trio

from ... import (
    AbstractJob,
    CommandError,
    CommandJob,
    JobCancelled,
    JobState,
    JobTimeout,
    Scheduler,
)
from ... import Job as TrioflowJob
from ... import _posix as posix
from ...abc import Instrument
from ._callbacks import CallbackThread, Latch, logger
from ._jobs import Job, JobInfo, Process, Task, with_outer_tasks

Ts = TypeVarTuple("Ts")

END_TIMEOUT: Final = 8.0
"""The maximum time, in seconds, to wait for commands to end when a pool is deleted or the program exits. It is longer
than the commands' `terminate_grace`. After this time, the guard of the run kills the remaining processes. Without a
limit, a callback that blocks would keep the program alive."""


# Cancelling it may take as long as the `terminate_grace`.
class JobRun(AbstractJob[None], keeps_time=True):
    """The run of a job, including all its restarts.

    If `execute` waits for the job to end, the job takes no slot and does not use the gate, so that it starts at once.
    To trioflow, such a job is a forever job.

    ```
    acquire the gate ───► onstart ──► process ──► release the gate ──────────► it ends ──► ondone ──► onfinish
            ▲                                                                     │ after its timeout        │
            └─────────────────────────────────────────────────────────────────────┴──── if it is restarted ◄─┘
    ```
    """

    # Set when the batch has accepted the job.
    batch: Batch

    def __init__(self, job: Job, is_concurrent: bool) -> None:
        super().__init__(label=job.name, forever=not is_concurrent)
        self.job: Final = job
        self.is_concurrent: Final = is_concurrent
        # Whether the job failed because `onstart` raised, which has been logged.
        self.is_failure_logged = False
        # Whether the job was queued because there was no free worker.
        self.was_queued = False
        self.reset()
        self._holds_gate = False
        self._has_started = False

    # ---- for the thread that called `execute`

    def reset(self) -> None:
        """Prepare the job for submission to a batch, also after another batch has refused it."""
        # Whether the batch was closing when the job was submitted.
        self.was_refused = False
        # Opens when the job is queued, when it has started, or when it cannot start.
        self.started_latch = Latch()
        # Opens when the job has ended.
        self.ended_latch = Latch()

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
        """Run the job once. Return False if it must be restarted."""
        job = self.job
        job.tstart = job.tstop = job.proc = None
        try:
            await self._run_process()
            await self.batch.callbacks.call(job.ondone, job, "ondone")
            return True
        except JobTimeout:
            if not job.rsrtonto:
                raise
            return False
        finally:
            if job.tstart is not None:
                job.tstop = time.time()
                with trio.CancelScope(shield=True):
                    await self.batch.callbacks.call(job.onfinish, job, "onfinish")

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

    # ---- the gate: jobs start one at a time, each `startdelay` after the job before

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
        if isinstance(job.args, str):
            args = [job.args]
        else:
            args = list(job.args or ())
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
            # The exit code is unknown because this program ignores SIGCHLD.
            if (
                not isinstance(error.__cause__, (ChildProcessError, ProcessLookupError))
                or piped
            ):
                raise
            if job.proc is None:
                # The process ended before it could be recorded.
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


def _send_signal(command: CommandJob, signal_number: int) -> None:
    """Send a signal to a process if it still exists.

    Call this only in the event loop. The event loop reaps the process, so the pid cannot belong to another here.
    """
    if command.pid is not None:
        with contextlib.suppress(OSError):
            # The process has ended, or runs as another user.
            posix.has_exited(command.pid)
            os.kill(command.pid, signal_number)


@dataclass
class Outcomes:
    """The outcomes of a pool's jobs, over all its batches."""

    failures: list[JobInfo] = field(default_factory=list[JobInfo])
    tasks: set[Task] = field(default_factory=set[Task])
    succeeded_count: int = 0


class Batch(Instrument):
    """A scheduler that runs in its own thread, with methods that other threads may call."""

    callbacks: CallbackThread
    start_gate: trio.Semaphore
    _token: trio.lowlevel.TrioToken
    _scheduler: Scheduler
    _close_event: trio.Event

    def __init__(self, workers: int, name: str, outcomes: Outcomes) -> None:
        """Start the thread, and wait until jobs can be submitted."""
        self.start_time: Final = time.monotonic()
        self.ended_latch: Final = Latch()
        # A SystemExit or similar from a callback, which `join` raises.
        self.callback_exit: BaseException | None = None
        # Whether jobs were terminated.
        self.was_cancelled = False
        # The earliest time when the next process may start, on trio's clock.
        self.next_start_time = 0.0
        self._workers: Final = workers
        self._name: Final = name
        self._owner_pid: Final = os.getpid()
        self._outcomes: Final = outcomes
        # Whether `join` was called or the batch is ending, because no task is over before.
        self._is_joining = False
        # An ordered set.
        self._unsettled_runs: Final = dict[JobRun, None]()
        # The number of unsettled jobs that have a slot or wait for a slot.
        self._concurrent_count = 0
        self._timers_by_task: Final = dict[Task, TrioflowJob[None]]()
        # An ordered set of the tasks of all jobs.
        self._tasks: Final = dict[Task, None]()
        self._ready_latch: Final = Latch()
        self._thread: Final = threading.Thread(
            target=self._run_thread, name=f"pyexpool {name}", daemon=True
        )
        self._is_abandoned = False
        try:
            self._thread.start()
            self._ready_latch.wait()
        except BaseException:
            # A signal handler has raised, so the caller does not get this batch.
            self._is_abandoned = True
            # If the thread has not created `_close_event` yet, it will see `_is_abandoned`.
            with contextlib.suppress(AttributeError):
                self.post(self._close_event.set)
            raise

    # ---- from any thread

    def post(self, function: Callable[[*Ts], object], *args: *Ts) -> bool:
        """Schedule a call of a function in the event loop. Return False if the loop has ended."""
        try:
            self._token.run_sync_soon(function, *args)
        except trio.RunFinishedError:
            return False
        return True

    def submit(self, run: JobRun) -> bool:
        """Add a job. Wait until it is queued or has started. If it is not concurrent, wait until it has ended.

        If a callback adds a concurrent job, do not wait. Return False if the batch is ending, and refuses the job.
        """
        if self.was_cancelled or not self.post(self._add_run, run):
            return False
        if run.is_concurrent and self.callbacks.is_current_thread():
            return True
        latch = run.started_latch if run.is_concurrent else run.ended_latch
        try:
            self.callbacks.wait(latch)
        except BaseException:
            # A signal handler has raised.
            if not run.is_concurrent:
                self.post(self._cancel_run, run)
            raise
        return not run.was_refused

    def owns_current_thread(self) -> bool:
        """Return whether the calling thread belongs to the batch. Such a thread must not wait for the batch to end."""
        return (
            threading.current_thread() is self._thread
            or self.callbacks.is_current_thread()
        )

    @property
    def is_forked_copy(self) -> bool:
        """Whether this process is a fork of the process that created the batch. The thread does not exist in a fork."""
        return os.getpid() != self._owner_pid

    def terminate(self) -> None:
        """Terminate all jobs, and wait until they have ended, but at most `END_TIMEOUT`."""
        if self.is_forked_copy:
            return
        self.post(self._cancel_all)
        if not self.owns_current_thread():
            self.ended_latch.wait(END_TIMEOUT)

    def wait_until_ended(self, seconds: float | None) -> bool:
        """Wait until all jobs have ended, and return whether they ended without being terminated.

        Args:
            seconds: the time limit of the jobs, which are terminated at its end, or None for no limit.

        """
        self.post(self._start_joining)
        if not self.ended_latch.wait(seconds):
            self.post(self._cancel_all)
            self.ended_latch.wait()
        return not self.was_cancelled

    # ---- the thread

    def _run_thread(self) -> None:
        try:
            trio.run(self._run_scheduler)
        except BaseException as error:
            logger.error(
                "the pool %r has broken down: %r", self._name, error, exc_info=error
            )
            self.was_cancelled = True
        finally:
            self._ready_latch.open()
            self.ended_latch.open()
            # Empty unless the scheduler has crashed.
            for run in self._unsettled_runs:
                run.started_latch.open()
                run.ended_latch.open()

    async def _run_scheduler(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._close_event = trio.Event()
        self.start_gate = trio.Semaphore(1)
        self.callbacks = CallbackThread(self._interrupt)
        self._scheduler = Scheduler(
            jobs_window=self._workers, label=self._name, instruments=[self],
            # The batch logs failures.
            log=False,
            # Jobs that require a failed job run.
            critical_jobs=False,
        )  # fmt: skip
        try:
            with contextlib.suppress(JobCancelled):
                async with self._scheduler:
                    self._ready_latch.open()
                    if self._is_abandoned:
                        self._close_event.set()
                    await self._close_event.wait()
        finally:
            self._close_event.set()
            self._is_joining = True
            self._close_ended_tasks(self._tasks)
            await self.callbacks.drain()
            self.callbacks.close()

    def _interrupt(self, error: BaseException) -> None:
        """Terminate all jobs because a callback has raised SystemExit or the like. Any thread may call this."""
        self.callback_exit = self.callback_exit or error
        self.post(self._cancel_all)

    # ---- in the event loop

    def _add_run(self, run: JobRun) -> None:
        """Add a job to the scheduler, or refuse it if the batch is closing."""
        if self._close_event.is_set():
            run.was_refused = True
            run.started_latch.open()
            run.ended_latch.open()
            self.callbacks.wake()
            return
        run.batch = self
        self._unsettled_runs[run] = None
        if run.is_concurrent:
            run.was_queued = self._concurrent_count >= self._workers
            self._concurrent_count += 1
        tasks = tuple(with_outer_tasks(run.job.task))
        self._tasks.update(dict.fromkeys(tasks))
        self._outcomes.tasks.update(tasks)
        self._scheduler.add(run)
        for task in tasks:
            self._start_timer(task)
        if any(task._has_timed_out for task in tasks):
            run.cancel()
        if run.was_queued:
            run.started_latch.open()

    def _cancel_run(self, run: JobRun) -> None:
        if run in self._unsettled_runs:
            run.cancel()

    def _cancel_all(self) -> None:
        if not self._close_event.is_set():
            self.was_cancelled = True
            self._close_event.set()
            self._scheduler.cancel()

    def _start_joining(self) -> None:
        self._is_joining = True
        self._close_ended_tasks(self._tasks)
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        """Close the batch if there are no jobs. Call pending callbacks of tasks first, because they may add jobs."""
        if (
            self._is_joining
            and not self._unsettled_runs
            and not self._close_event.is_set()
        ):
            self.callbacks.post(lambda: self.post(self._close))

    def _close(self) -> None:
        if not self._unsettled_runs:
            self._close_event.set()

    # ---- when a job has settled

    def job_settled(self, scheduler: AbstractJob[Any], job: AbstractJob[Any]) -> None:
        """Record the outcome of a job, and wake the threads that wait for it."""
        if isinstance(job, JobRun):
            try:
                self._record_outcome(job)
            except Exception as error:
                # If it were not caught, trioflow would remove the instrument.
                self._interrupt(error)
            finally:
                job.started_latch.open()
                job.ended_latch.open()
                self.callbacks.wake()
            self._close_if_idle()

    def _record_outcome(self, run: JobRun) -> None:
        del self._unsettled_runs[run]
        self._concurrent_count -= run.is_concurrent
        has_succeeded = run.state is JobState.SUCCEEDED
        if has_succeeded:
            self._outcomes.succeeded_count += 1
        else:
            self._outcomes.failures.append(JobInfo(run.job))
            self._log_failure(run)
        if run.job.task is not None:
            run.job.task.finished(run.job, has_succeeded)
            self._close_ended_tasks(with_outer_tasks(run.job.task))

    def _log_failure(self, run: JobRun) -> None:
        error = run.raised_exception()
        if isinstance(error, JobTimeout):
            logger.warning(
                "job %r did not end within its timeout of %g s",
                run.job.name,
                run.job.timeout,
            )
        elif error is not None and not run.is_failure_logged:
            logger.warning("job %r has failed: %s", run.job.name, error)

    # ---- tasks

    def _close_ended_tasks(self, tasks: Any) -> None:
        """If `join` was called, close the tasks that are over, and then the outer tasks that are over as a result."""
        if not self._is_joining:
            return
        for task in tuple(tasks):
            for closed in with_outer_tasks(task):
                if not closed._close_if_over():
                    break
                self._finish_task(closed)
                if closed.task is not None:
                    closed.task.finished(closed, closed._has_succeeded)

    def _finish_task(self, task: Task) -> None:
        timer = self._timers_by_task.pop(task, None)
        if (
            timer is not None
            and not self._close_event.is_set()
            and not timer.is_settled()
        ):
            timer.cancel()
        if task.ondone is not None or task.onfinish is not None:
            self.callbacks.post(task._call_end_callbacks)
        else:
            task._call_end_callbacks()

    def _start_timer(self, task: Task) -> None:
        if (
            task.timeout
            and not task._has_timed_out
            and task not in self._timers_by_task
        ):
            timer = TrioflowJob(
                self._terminate_at_deadline,
                task,
                forever=True,
                label=f"timeout of {task.name}",
            )
            self._timers_by_task[task] = timer
            self._scheduler.add(timer)

    async def _terminate_at_deadline(self, task: Task) -> None:
        """Wait for the deadline of a task, then terminate its jobs."""
        if task._deadline is None:
            task._deadline = time.monotonic() + task.timeout
        await trio.sleep(task._deadline - time.monotonic())
        task._has_timed_out = True
        del self._timers_by_task[task]
        logger.warning(
            "task %r did not end within its timeout of %g s: its jobs are terminated",
            task.name,
            task.timeout,
        )
        for run in tuple(self._unsettled_runs):
            if task in with_outer_tasks(run.job.task):
                run.cancel()
