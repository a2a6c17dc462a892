"""`Batch`: a scheduler that runs in its own thread, from the first `execute` to the end of `join`.

It has no reference to the pool, only to the pool's `Ledger`. So a pool is deleted with the user's last reference, and
then ends its batch.

This code runs in the event loop's thread alone, unless a docstring says otherwise; other threads `post` calls to it.
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
from ._task import Task, upwards

Ts = TypeVarTuple("Ts")

PATIENCE: Final = 8.0
"""Seconds that the end of a pool or program waits for commands to end: their `terminate_grace`, and some more. The
run's guard then kills the rest. A callback that blocks must not keep the program alive."""


@dataclass
class Ledger:
    """The outcomes of a pool's jobs, over all its batches."""

    failures: list[JobInfo] = field(default_factory=list[JobInfo])
    tasks: set[Task] = field(default_factory=set[Task])
    jobsdone: int = 0


class Silent(Scheduler):
    """A scheduler whose failures the batch reports, one by one, in a pool's words."""

    logs_failures = False


class Batch(Instrument):
    """A thread, the scheduler that runs in it, and the ways to reach them."""

    callbacks: Callbacks
    gate: trio.Semaphore
    _token: trio.lowlevel.TrioToken
    _scheduler: Scheduler
    _closing: trio.Event

    def __init__(self, workers: int, name: str, ledger: Ledger) -> None:
        """Start the thread, and return when jobs can be submitted."""
        self.began: Final = time.monotonic()
        self.over: Final = Latch()
        self.interruption: BaseException | None = None  # for `join` to raise
        self.cancelled = False  # its jobs were terminated, rather than ending by themselves
        self.next_start = 0.0  # when the next process may start
        self._workers: Final = workers
        self._name: Final = name
        self._process: Final = os.getpid()
        self._ledger: Final = ledger
        self._joined = False  # a thread waits for the end, so tasks can be over
        self._runs: Final[dict[JobRun, None]] = {}  # those that have not settled, in the order added
        self._concurrent = 0  # how many of them have a slot or wait for one
        self._timers: Final[dict[Task, TrioflowJob[None]]] = {}
        self._tasks: Final[dict[Task, None]] = {}  # of its jobs
        self._ready: Final = Latch()
        self._thread: Final = threading.Thread(target=self._run, name=f"pyexpool {name}", daemon=True)
        self._is_unwanted = False
        try:
            self._thread.start()
            self._ready.wait()
        except BaseException:  # a signal handler has raised, so no caller gets this batch
            self._is_unwanted = True
            with contextlib.suppress(AttributeError):  # too early in the thread, which checks `_is_unwanted` later
                self.post(self._closing.set)
            raise

    # ---- from any thread

    def post(self, function: Callable[[*Ts], object], *args: *Ts) -> bool:
        """Have a function called soon in the event loop; return False if the loop has ended."""
        try:
            self._token.run_sync_soon(function, *args)
        except trio.RunFinishedError:
            return False
        return True

    def submit(self, run: JobRun) -> bool:
        """Add a job, and return when it has started, is queued, or has ended; return False if the batch has ended."""
        if self.cancelled or not self.post(self._add, run):
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
        """Return whether the caller is one of the batch's own threads, which must not wait for its end."""
        return threading.current_thread() is self._thread or self.callbacks.is_here()

    @property
    def was_left(self) -> bool:
        """Whether this process was forked from the one that has the thread, and so has only a copy of its memory."""
        return os.getpid() != self._process

    def end(self) -> None:
        """Terminate all jobs, and wait for that, but no longer than `PATIENCE`."""
        if self.was_left:
            return
        self.post(self._cancel)
        if not self.is_here():
            self.over.wait(PATIENCE)

    def wait_until_over(self, seconds: float | None) -> bool:
        """Wait until all jobs have ended, terminate them after that many seconds, and return whether none was."""
        self.post(self._join)
        if not self.over.wait(seconds):
            self.post(self._cancel)
            self.over.wait()
        return not self.cancelled

    # ---- the thread

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            logger.error("the pool %r has broken down: %r", self._name, error, exc_info=error)
            self.cancelled = True
        finally:
            self._ready.open()
            self.over.open()
            for run in self._runs:  # none, unless the thread has broken down
                run.begun.open()
                run.over.open()

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._closing, self.gate = trio.Event(), trio.Semaphore(1)
        self.callbacks = Callbacks(self._interrupt)
        self._scheduler = Silent(jobs_window=self._workers, label=self._name, instruments=[self])
        try:
            with contextlib.suppress(JobCancelled):
                async with self._scheduler:
                    self._ready.open()
                    if self._is_unwanted:
                        self._closing.set()
                    await self._closing.wait()
        finally:
            self._closing.set()
            self._joined = True
            self._close_tasks(self._tasks)
            await self.callbacks.drained()
            self.callbacks.close()

    def _interrupt(self, error: BaseException) -> None:
        """End all jobs because of an exception that left a callback; called in any thread."""
        self.interruption = self.interruption or error
        self.post(self._cancel)

    # ---- in the event loop

    def _add(self, run: JobRun) -> None:
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
        tasks = tuple(upwards(run.job.task))
        self._tasks.update(dict.fromkeys(tasks))
        self._ledger.tasks.update(tasks)
        self._scheduler.add(run)
        for task in tasks:
            self._limit(task)
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

    def _join(self) -> None:
        self._joined = True
        self._close_tasks(self._tasks)
        self._look_for_the_end()

    def _look_for_the_end(self) -> None:
        """When no job is left, wait for the callbacks of tasks, which may add more."""
        if self._joined and not self._runs and not self._closing.is_set():
            self.callbacks.post(lambda: self.post(self._close))

    def _close(self) -> None:
        if not self._runs:
            self._closing.set()

    # ---- when a job has settled

    def job_finished(self, scheduler: AnyJob[Any], job: AnyJob[Any]) -> None:
        """Record the outcome of a job; trioflow calls this."""
        if isinstance(job, JobRun):
            try:
                self._settled(job)
            except Exception as error:  # trioflow would remove this instrument, and `join` would wait forever
                self._interrupt(error)
            finally:
                job.begun.open()
                job.over.open()
                self.callbacks.wake()
            self._look_for_the_end()

    def _settled(self, run: JobRun) -> None:
        del self._runs[run]
        self._concurrent -= run.concurrent
        succeeded = run.state is JobState.SUCCEEDED
        if succeeded:
            self._ledger.jobsdone += 1
        else:
            self._ledger.failures.append(JobInfo(run.job))
            self._report(run)
        if run.job.task is not None:
            run.job.task.finished(run.job, succeeded)
            self._close_tasks(upwards(run.job.task))

    def _report(self, run: JobRun) -> None:
        error = run.raised_exception()
        if isinstance(error, JobTimeout):
            logger.warning("job %r did not end within its timeout of %g s", run.job.name, run.job.timeout)
        elif error is not None and not run.reported:
            logger.warning("job %r has failed: %s", run.job.name, error)

    # ---- tasks

    def _close_tasks(self, tasks: Any) -> None:
        """Call back the tasks that are over, and the tasks around them; not before a thread waits for the end."""
        for task in tuple(tasks) if self._joined else ():
            for closed in upwards(task):
                if not closed._close():
                    break
                self._call_back(closed)
                if closed.task is not None:
                    closed.task.finished(closed, closed._succeeded)

    def _call_back(self, task: Task) -> None:
        timer = self._timers.pop(task, None)
        if timer is not None and not self._closing.is_set() and not timer.is_settled():
            timer.cancel()
        if task.ondone is not None or task.onfinish is not None:
            self.callbacks.post(task._end)
        else:
            task._end()

    def _limit(self, task: Task) -> None:
        """Start the timer of a task, unless it is running already."""
        if task.timeout and not task._expired and task not in self._timers:
            timer = TrioflowJob(self._expire, task, forever=True, label=f"timeout of {task.name}")
            self._timers[task] = timer
            self._scheduler.add(timer)

    async def _expire(self, task: Task) -> None:
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
