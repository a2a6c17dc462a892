"""`ExecPool`: a pool of workers that runs jobs in processes.

Decided in docs/decisions: 37-pyexpool.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import weakref
from typing import Final, Self

from ..._core.job._job_options import duration
from ._batch import Batch, JobRun, Outcomes
from ._jobs import Job, Task, check_name, reject_unsupported

MEMORY_HINT: Final = (
    'use a trioflow.Scheduler with pool=Pool(memory="8 GiB"), and needs={"memory": "2 GiB"} for each of its jobs; to '
    "limit a single process, use the memory_limit of CommandJob"
)


class ExecPool:
    """A pool of workers that runs jobs in processes, at most `workers` at once.

    No process outlives the pool. All processes of the pool and their children get SIGTERM, and SIGKILL five seconds
    later, when `join` times out, when `clear` is called, at the end of a `with` block, when the last reference to the
    pool is deleted (even in a signal handler), and when the program exits.

    Args:
        workers: the maximum number of jobs that run at once. By default, this is the number of CPUs.
        afnmask: not supported; `trioflow.CommandJob` has `pin="slot"`.
        memlimit: not supported; `trioflow.Scheduler` has `pool=Pool(memory="8 GiB")`, which its jobs share by `needs`.
        latency: has no effect, because the pool does not poll.
        name: the name of the pool, for the log.
        webuiapp: not supported; `trioflow.Monitor` shows a run.
        wksnum: the newer name of `workers`.

    Attributes:
        alive: whether the pool accepts jobs. After `join` has terminated jobs, it is False until the user sets it to
            True or calls `clear`.
        failures: a `JobInfo` for each job that failed or was terminated.
        tasks: the tasks of all executed jobs.

    Raises:
        TypeError, ValueError: an argument is invalid, or is not supported.

    Example:
        >>> from trioflow.compat.pyexpool import ExecPool, Job
        >>> with ExecPool(2) as pool:
        ...     for number in range(3):
        ...         _ = pool.execute(Job(f"nap {number}", args=["sleep", "0.01"], timeout=10))
        ...     pool.join(60), pool.jobsdone
        (True, 3)

    """

    def __init__(
        self,
        workers: int | None = None,
        afnmask: object = None,
        memlimit: float = 0.0,
        latency: float = 0.0,
        name: str | None = None,
        webuiapp: object = None,
        *,
        wksnum: int | None = None,
    ) -> None:
        subject = "ExecPool"
        if name is not None:
            subject = f"pool {check_name(name, 'ExecPool')!r}"
        reject_unsupported(
            afnmask, None, "afnmask", subject, 'give pin="slot" to trioflow.CommandJob'
        )
        reject_unsupported(memlimit, 0, "memlimit", subject, MEMORY_HINT)
        reject_unsupported(
            webuiapp, None, "webuiapp", subject, "use a trioflow.Monitor"
        )
        self._workers: Final = _check_workers(
            wksnum if workers is None else workers, subject
        )
        self.name: Final = name
        self.latency: float = duration(latency, "latency", subject)
        self.alive: bool = True
        self._outcomes: Final = Outcomes()
        self.failures: Final = self._outcomes.failures
        self.tasks: Final[set[Task]] = self._outcomes.tasks
        self._batch: Batch | None = None
        self._finalizer: weakref.finalize[..., ExecPool] | None = None
        # Reentrant, because a signal handler may interrupt its holder.
        self._lock: Final = threading.RLock()

    @property
    def jobsdone(self) -> int:
        """The number of jobs that have succeeded."""
        return self._outcomes.succeeded_count

    # ---- running

    def execute(self, job: Job, concur: bool = True, **older: bool) -> int:
        """Start a job, or queue it if there is no free worker.

        The method returns when the job is queued, or when it has started and its `startdelay` has passed. A call in a
        callback does not wait for the start.

        Args:
            job: a job that has not been executed before.
            concur: whether to return without waiting for the end of the job. A job with `concur=False` starts at once,
                without waiting for a worker.
            older: the argument `async`, the older name of `concur`. It has become a keyword of Python, so write
                `**{"async": False}`.

        Returns:
            0 if the job was queued or started, -1 if it could not be started, and `errno.EINTR` if the pool is not
            `alive`. With `concur=False`, the exit code of the process, which is negative for a signal.

        Raises:
            TypeError: `job` is not a `Job`.
            ValueError: the job has been executed before.

        """
        concurrent = _is_concurrent(concur, older)
        if not self.alive:
            return errno.EINTR
        run = JobRun(_mark_executed(job), concurrent)
        if (batch := self._submit(run)) is None:
            return errno.EINTR
        if not concurrent:
            return run.exit_code
        if job.startdelay and not run.was_queued and not batch.owns_current_thread():
            time.sleep(job.startdelay)
        return run.start_code if run.started_latch.is_open() else 0

    def _submit(self, run: JobRun) -> Batch | None:
        """Submit a run, and return the batch that accepted it.

        Return None if a callback calls this while the pool is being terminated.
        """
        while True:
            batch = self._get_or_start_batch()
            if batch.submit(run):
                return batch
            if batch.owns_current_thread():
                return None
            # The batch was about to end.
            batch.ended_latch.wait()
            run.reset()

    def _get_or_start_batch(self) -> Batch:
        with self._lock:
            batch = self._current_batch()
            if batch is None or batch.ended_latch.is_open():
                self._batch = batch = Batch(
                    self._workers, self.name or "ExecPool", self._outcomes
                )
                # The finalizer terminates the batch at the exit of the program, too.
                self._finalizer = weakref.finalize(self, Batch.terminate, batch)
            return batch

    def _current_batch(self) -> Batch | None:
        batch = self._batch
        return None if batch is None or batch.is_forked_copy else batch

    def join(self, timeout: float = 0.0) -> bool:
        """Wait until all jobs have ended, including jobs that callbacks add.

        Args:
            timeout: the time limit in seconds, counted from the first `execute`, or 0 for no limit. After this time,
                the remaining jobs are terminated.

        Returns:
            True if all jobs ended by themselves, whether they succeeded or failed. False if jobs were terminated, or if
            no job has been executed since the last `join`.

        Raises:
            RuntimeError: the caller is a callback, which would wait for itself.
            ValueError: the timeout is below 0.
            BaseException: a callback raised SystemExit or another exception that is not an `Exception`.

        """
        seconds = duration(timeout, "timeout", "join()")
        if (batch := self._current_batch()) is None:
            return False
        if batch.owns_current_thread():
            raise RuntimeError(
                "join() in a callback would wait for itself: call it where execute() was called"
            )
        remaining = None
        if seconds:
            remaining = max(0.0, batch.start_time + seconds - time.monotonic())
        finished = batch.wait_until_ended(remaining)
        self._detach(batch)
        self.alive = self.alive and finished
        if batch.callback_exit is not None:
            raise batch.callback_exit
        return finished

    # ---- ending

    def clear(self) -> None:
        """Terminate all jobs, and reset the pool to its initial state, without outcomes."""
        self._terminate()
        self.failures.clear()
        self.tasks.clear()
        self._outcomes.succeeded_count = 0
        self.alive = True

    def _terminate(self) -> None:
        if (batch := self._current_batch()) is not None:
            batch.terminate()
            self._detach(batch)

    def _detach(self, batch: Batch) -> None:
        with self._lock:
            if self._batch is batch and self._finalizer is not None:
                self._batch = None
                self._finalizer.detach()

    def __enter__(self) -> Self:
        """Return the pool."""
        return self

    def __exit__(self, *_: object) -> None:
        """Terminate all jobs that have not ended. To wait for them, call `join` at the end of the `with` block."""
        self.__finalize__()

    def __finalize__(self) -> None:
        """Terminate all jobs, and accept no more."""
        self.alive = False
        self._terminate()

    def __del__(self) -> None:
        """Terminate all jobs."""
        with contextlib.suppress(AttributeError):
            # `__init__` has raised.
            self.__finalize__()

    def __repr__(self) -> str:
        """Show the number of workers, of jobs that are done, and of jobs that failed."""
        shown = f"{self._workers} workers, {self.jobsdone} done, {len(self.failures)} failed"
        return " ".join(filter(None, ("<ExecPool", self.name, f"{shown}>")))


def _check_workers(workers: object, subject: str) -> int:
    if workers is None:
        return os.cpu_count() or 1
    if isinstance(workers, bool) or not isinstance(workers, int):
        raise TypeError(f"workers={workers!r} of {subject}: give a whole number")
    if workers < 1:
        raise ValueError(f"workers={workers!r} of {subject}: give at least 1")
    return workers


def _is_concurrent(concur: bool, older: dict[str, bool]) -> bool:
    concurrent = older.pop("async", concur)
    if older:
        raise TypeError(
            f"execute() takes no {next(iter(older))!r}: give concur=, or as before **{{'async': ...}}"
        )
    return bool(concurrent)


def _mark_executed(job: object) -> Job:
    if not isinstance(job, Job):
        raise TypeError(f"execute({job!r}): give a Job")
    if job._was_executed:
        raise ValueError(f"job {job.name!r} was already executed: create a new one")
    job._was_executed = True
    return job
