"""`Batch`: a scheduler that runs in its own thread, from the first `execute` to the end of `join`.

It has no reference to the pool, only to the pool's `Outcomes`, so a pool is deleted with the user's last reference to
it. The deletion ends the batch.

This code runs only in the thread of the event loop, unless a comment or docstring says otherwise; other threads `post`
calls to that thread.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVarTuple

import trio

from ... import AbstractJob as AnyJob
from ... import Job as TrioflowJob
from ... import JobCancelled, JobState, JobTimeout, Scheduler
from ...abc import Instrument
from ._callbacks import Callbacks, logger
from ._job import JobInfo
from ._latch import Latch
from ._run import JobRun
from ._task import Task, with_outer_tasks

Ts = TypeVarTuple("Ts")

END_TIMEOUT: Final = 8.0
"""Seconds for which the end of a pool or program waits for its commands to end; more than their `terminate_grace`.

The guard of the run then kills the other processes. The limit keeps a callback that blocks from keeping the program
alive.
"""


@dataclass
class Outcomes:
    """The outcomes of a pool's jobs, over all its batches."""

    failures: list[JobInfo] = field(default_factory=list[JobInfo])
    tasks: set[Task] = field(default_factory=set[Task])
    jobsdone: int = 0


class UnloggedScheduler(Scheduler):
    """A scheduler that does not log failures, because the batch logs them."""

    logs_failures = False


class Batch(Instrument):
    """A thread with a scheduler, and the methods by which other threads use it."""

    callbacks: Callbacks
    gate: trio.Semaphore
    _token: trio.lowlevel.TrioToken
    _scheduler: Scheduler
    _closing: trio.Event

    def __init__(self, workers: int, name: str, outcomes: Outcomes) -> None:
        """Start the thread, and wait until jobs can be submitted."""
        self.began: Final = time.monotonic()
        self.over: Final = Latch()
        self.interruption: BaseException | None = None  # a SystemExit or the like of a callback, which `join` raises
        self.cancelled = False  # whether jobs were terminated
        self.next_start = 0.0  # the earliest time for the next start of a process
        self._workers: Final = workers
        self._name: Final = name
        self._process: Final = os.getpid()
        self._outcomes: Final = outcomes
        self._is_joining = False  # whether a thread waits for the end; only then can tasks be over
        self._runs: Final[dict[JobRun, None]] = {}  # an ordered set of the unsettled jobs
        self._concurrent = 0  # the number of unsettled jobs that have a slot or wait for one
        self._timers: Final[dict[Task, TrioflowJob[None]]] = {}
        self._tasks: Final[dict[Task, None]] = {}  # an ordered set of the tasks of all jobs
        self._ready: Final = Latch()
        self._thread: Final = threading.Thread(target=self._run_thread, name=f"pyexpool {name}", daemon=True)
        self._is_abandoned = False
        try:
            self._thread.start()
            self._ready.wait()
        except BaseException:  # a signal handler has raised, so the caller does not get this batch
            self._is_abandoned = True
            with contextlib.suppress(AttributeError):  # `_closing` is not set yet; the thread checks `_is_abandoned`
                self.post(self._closing.set)
            raise

    # ---- from any thread

    def post(self, function: Callable[[*Ts], object], *args: *Ts) -> bool:
        """Schedule a call of a function in the event loop; return False if the loop has ended."""
        try:
            self._token.run_sync_soon(function, *args)
        except trio.RunFinishedError:
            return False
        return True

    def submit(self, run: JobRun) -> bool:
        """Add a job, and wait until it is queued or has started, or until its end if it is not concurrent.

        Return False if the batch has ended.
        """
        if self.cancelled or not self.post(self._add_run, run):
            return False
        if run.concurrent and self.callbacks.is_here():
            return True
        try:
            self.callbacks.wait(run.begun if run.concurrent else run.over)
        except BaseException:  # a signal handler has raised
            if not run.concurrent:
                self.post(self._cancel_run, run)
            raise
        return not run.refused

    def is_here(self) -> bool:
        """Return whether the calling thread belongs to the batch, and so must not wait for the end of the batch."""
        return threading.current_thread() is self._thread or self.callbacks.is_here()

    @property
    def is_forked_copy(self) -> bool:
        """Whether this process is a fork of the one that started the thread, and so has no such thread."""
        return os.getpid() != self._process

    def end(self) -> None:
        """Terminate all jobs, and wait for their end, at most `END_TIMEOUT`."""
        if self.is_forked_copy:
            return
        self.post(self._cancel)
        if not self.is_here():
            self.over.wait(END_TIMEOUT)

    def wait_until_over(self, seconds: float | None) -> bool:
        """Wait until all jobs have ended; terminate them after a time limit in seconds; return whether none was."""
        self.post(self._start_joining)
        if not self.over.wait(seconds):
            self.post(self._cancel)
            self.over.wait()
        return not self.cancelled

    # ---- the thread

    def _run_thread(self) -> None:
        try:
            trio.run(self._run_scheduler)
        except BaseException as error:
            logger.error("the pool %r has broken down: %r", self._name, error, exc_info=error)
            self.cancelled = True
        finally:
            self._ready.open()
            self.over.open()
            for run in self._runs:  # empty, unless the scheduler has crashed
                run.begun.open()
                run.over.open()

    async def _run_scheduler(self) -> None:
        """Run the scheduler until the batch closes, then call the remaining callbacks."""
        self._token = trio.lowlevel.current_trio_token()
        self._closing, self.gate = trio.Event(), trio.Semaphore(1)
        self.callbacks = Callbacks(self._interrupt)
        self._scheduler = UnloggedScheduler(jobs_window=self._workers, label=self._name, instruments=[self])
        try:
            with contextlib.suppress(JobCancelled):
                async with self._scheduler:
                    self._ready.open()
                    if self._is_abandoned:
                        self._closing.set()
                    await self._closing.wait()
        finally:
            self._closing.set()
            self._is_joining = True
            self._close_tasks(self._tasks)
            await self.callbacks.drain()
            self.callbacks.close()

    def _interrupt(self, error: BaseException) -> None:
        """Terminate all jobs because of an exception that left a callback; any thread may call this."""
        self.interruption = self.interruption or error
        self.post(self._cancel)

    # ---- in the event loop

    def _add_run(self, run: JobRun) -> None:
        """Add a job to the scheduler, or refuse it if the batch is closing."""
        if self._closing.is_set():
            run.refused = True
            run.begun.open()
            run.over.open()
            self.callbacks.wake()
            return
        run.batch = self
        self._runs[run] = None
        if run.concurrent:
            run.queued = self._concurrent >= self._workers
            self._concurrent += 1
        tasks = tuple(with_outer_tasks(run.job.task))
        self._tasks.update(dict.fromkeys(tasks))
        self._outcomes.tasks.update(tasks)
        self._scheduler.add(run)
        for task in tasks:
            self._start_timer(task)
        if any(task._expired for task in tasks):
            run.cancel()
        if run.queued:
            run.begun.open()

    def _cancel_run(self, run: JobRun) -> None:
        if run in self._runs:
            run.cancel()

    def _cancel(self) -> None:
        if not self._closing.is_set():
            self.cancelled = True
            self._closing.set()
            self._scheduler.cancel()

    def _start_joining(self) -> None:
        self._is_joining = True
        self._close_tasks(self._tasks)
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        """Close the batch if there are no jobs, after the pending callbacks of tasks, which may add jobs."""
        if self._is_joining and not self._runs and not self._closing.is_set():
            self.callbacks.post(lambda: self.post(self._close))

    def _close(self) -> None:
        if not self._runs:
            self._closing.set()

    # ---- when a job has settled

    def job_finished(self, scheduler: AnyJob[Any], job: AnyJob[Any]) -> None:
        """Record the outcome of a job, and wake the threads that wait for it."""
        if isinstance(job, JobRun):
            try:
                self._record_outcome(job)
            except Exception as error:  # trioflow would remove this instrument, and `join` would wait forever
                self._interrupt(error)
            finally:
                job.begun.open()
                job.over.open()
                self.callbacks.wake()
            self._close_if_idle()

    def _record_outcome(self, run: JobRun) -> None:
        """Count a settled job in the outcomes of the pool and in its task."""
        del self._runs[run]
        self._concurrent -= run.concurrent
        succeeded = run.state is JobState.SUCCEEDED
        if succeeded:
            self._outcomes.jobsdone += 1
        else:
            self._outcomes.failures.append(JobInfo(run.job))
            self._log_failure(run)
        if run.job.task is not None:
            run.job.task.finished(run.job, succeeded)
            self._close_tasks(with_outer_tasks(run.job.task))

    def _log_failure(self, run: JobRun) -> None:
        error = run.raised_exception()
        if isinstance(error, JobTimeout):
            logger.warning("job %r did not end within its timeout of %g s", run.job.name, run.job.timeout)
        elif error is not None and not run.reported:
            logger.warning("job %r has failed: %s", run.job.name, error)

    # ---- tasks

    def _close_tasks(self, tasks: Any) -> None:
        """Call the callbacks of tasks that are over, and of their outer tasks, if a thread waits for the end."""
        for task in tuple(tasks) if self._is_joining else ():
            for closed in with_outer_tasks(task):
                if not closed._close():
                    break
                self._call_callbacks(closed)
                if closed.task is not None:
                    closed.task.finished(closed, closed._succeeded)

    def _call_callbacks(self, task: Task) -> None:
        """Cancel the timer of a task that is over, and call its callbacks."""
        timer = self._timers.pop(task, None)
        if timer is not None and not self._closing.is_set() and not timer.is_settled():
            timer.cancel()
        if task.ondone is not None or task.onfinish is not None:
            self.callbacks.post(task._end)
        else:
            task._end()

    def _start_timer(self, task: Task) -> None:
        """Start the timer of a task with a timeout, unless it is running already."""
        if task.timeout and not task._expired and task not in self._timers:
            timer = TrioflowJob(self._time_out, task, forever=True, label=f"timeout of {task.name}")
            self._timers[task] = timer
            self._scheduler.add(timer)

    async def _time_out(self, task: Task) -> None:
        """Wait for the deadline of a task, then terminate its jobs."""
        if task._deadline is None:
            task._deadline = time.monotonic() + task.timeout
        await trio.sleep(task._deadline - time.monotonic())
        task._expired = True
        del self._timers[task]
        logger.warning(
            "task %r did not end within its timeout of %g s: its jobs are terminated", task.name, task.timeout
        )
        for run in tuple(self._runs):
            if run.belongs_to(task):
                run.cancel()
