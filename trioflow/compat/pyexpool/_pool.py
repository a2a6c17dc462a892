"""`ExecPool`: runs jobs, a limited number at once, and leaves no process behind."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
import weakref
from types import TracebackType
from typing import Any, Final, Self

from . import _checks
from ._batch import Batch, Ledger
from ._job import Job
from ._run import JobRun
from ._task import Task

MEMORY: Final = (
    'let a trioflow.Scheduler share it out: pool=Pool(memory="8 GiB"), and needs={"memory": "2 GiB"} for each of its '
    "jobs; a single process is limited by the memory_limit of CommandJob"
)


class ExecPool:
    """Runs jobs in processes, `workers` at once, each as soon as there is a free worker.

    All processes end with the pool, whatever ends it: `join` with a timeout, `clear`, the end of a `with` block, `del`
    of the last reference (also in a signal handler), or the end of the program. They and their children get SIGTERM,
    and SIGKILL five seconds later.

    Args:
        workers: how many jobs run at once; by default as many as there are CPUs.
        afnmask: not supported; `trioflow.CommandJob` has `pin="slot"`.
        memlimit: not supported; `trioflow.Scheduler` has `pool=Pool(memory="8 GiB")`, which its jobs share by `needs`.
        latency: has no effect, because nothing is polled.
        name: its name, for the log.
        webuiapp: not supported; `trioflow.Monitor` shows a run.
        wksnum: the newer name of `workers`.

    Attributes:
        alive: whether it takes jobs. It is False after `join` has terminated jobs, until it is set to True or `clear`
            is called.
        failures: a `JobInfo` for each job that failed or was terminated.
        tasks: the tasks of its jobs.

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
        afnmask: Any = None,
        memlimit: float = 0.0,
        latency: float = 0.0,
        name: str | None = None,
        webuiapp: Any = None,
        *,
        wksnum: int | None = None,
    ) -> None:
        who = "ExecPool" if name is None else f"pool {_checks.name(name, 'ExecPool')!r}"
        _checks.unsupported(afnmask, None, "afnmask", who, 'give pin="slot" to trioflow.CommandJob')
        _checks.unsupported(memlimit, 0, "memlimit", who, MEMORY)
        _checks.unsupported(webuiapp, None, "webuiapp", who, "look at the run with a trioflow.Monitor")
        self._workers: Final = _number(wksnum if workers is None else workers, who)
        self.name: Final = name
        self.latency: float = _checks.seconds(latency, "latency", who)
        self.alive: bool = True
        self._ledger: Final = Ledger()
        self.failures: Final = self._ledger.failures
        self.tasks: Final[set[Task]] = self._ledger.tasks
        self._batch: Batch | None = None
        self._finalizer: weakref.finalize[..., ExecPool] | None = None
        self._lock: Final = threading.RLock()  # reentrant, because a signal handler may interrupt its holder

    @property
    def jobsdone(self) -> int:
        """The number of jobs that have succeeded."""
        return self._ledger.jobsdone

    # ---- running

    def execute(self, job: Job, concur: bool = True, **older: bool) -> int:
        """Start a job, or put it into the queue if there is no free worker.

        The call returns when the job is in the queue, or has started and its `startdelay` is over. In a callback it
        does not wait for the start.

        Args:
            job: a job that was not given to a pool before.
            concur: False to wait until the job has ended; then it starts at once, without waiting for a worker.
            older: `async`, the older name of `concur`, now a keyword of the language: `**{"async": False}`.

        Returns:
            0, or -1 if it could not be started; with `concur=False` its exit code, below 0 for a signal; `errno.EINTR`
            if the pool is not `alive`.

        Raises:
            TypeError, ValueError: not a job, or one that was given to a pool before.

        """
        concurrent = _is_concurrent(concur, older)
        if not self.alive:
            return errno.EINTR
        run = JobRun(_claimed(job), concurrent)
        batch = self._submit(run)
        if batch is None:
            return errno.EINTR
        if not concurrent:
            return run.code
        if job.startdelay and not run.queued and not batch.is_here():
            time.sleep(job.startdelay)
        return run.start_code if run.begun.is_open() else 0

    def _submit(self, run: JobRun) -> Batch | None:
        """Return the batch that took the run; None for a callback while the pool is being terminated."""
        while True:
            batch = self._open_batch()
            if batch.submit(run):
                return batch
            if batch.is_here():
                return None
            batch.over.wait()  # it was ending
            run.renew()

    def _open_batch(self) -> Batch:
        with self._lock:
            batch = self._current_batch()
            if batch is None or batch.over.is_open():
                self._batch = batch = Batch(self._workers, self.name or "ExecPool", self._ledger)
                self._finalizer = weakref.finalize(self, Batch.end, batch)  # also at the end of the program
            return batch

    def _current_batch(self) -> Batch | None:
        batch = self._batch
        return None if batch is None or batch.was_left else batch

    def join(self, timeout: float = 0.0) -> bool:
        """Wait until all jobs have ended, including those that callbacks add.

        Args:
            timeout: seconds from the first `execute`; after that, all jobs that have not ended are terminated. 0 for
                no limit.

        Returns:
            True if all jobs ended by themselves, with success or not. False if jobs were terminated, or if nothing was
            executed since the last call.

        Raises:
            RuntimeError: the caller is a callback, which would wait for itself.
            ValueError: the timeout is below 0.
            BaseException: a SystemExit, or the like, left a callback.

        """
        seconds = _checks.seconds(timeout, "timeout", "join()")
        batch = self._current_batch()
        if batch is None:
            return False
        if batch.is_here():
            raise RuntimeError("join() in a callback would wait for itself: call it where execute() was called")
        left = max(0.0, batch.began + seconds - time.monotonic()) if seconds else None
        finished = batch.wait_until_over(left)
        self._forget(batch)
        self.alive = self.alive and finished
        if batch.interruption is not None:
            raise batch.interruption
        return finished

    # ---- ending

    def clear(self) -> None:
        """Terminate all jobs, and forget all outcomes: the pool is like a new one."""
        self._terminate()
        self.failures.clear()
        self.tasks.clear()
        self._ledger.jobsdone = 0
        self.alive = True

    def _terminate(self) -> None:
        batch = self._current_batch()
        if batch is not None:
            batch.end()
            self._forget(batch)

    def _forget(self, batch: Batch) -> None:
        with self._lock:
            if self._batch is batch and self._finalizer is not None:
                self._batch = None
                self._finalizer.detach()

    def __enter__(self) -> Self:
        """Return the pool."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Terminate the jobs that still run or wait; call `join` before, to let them end by themselves."""
        self.__finalize__()

    def __finalize__(self) -> None:
        """Terminate all jobs."""
        self.alive = False
        self._terminate()

    def __del__(self) -> None:
        """Terminate all jobs."""
        with contextlib.suppress(AttributeError):  # its arguments were refused
            self.__finalize__()

    def __repr__(self) -> str:
        """Show the counts of its jobs."""
        shown = f"{self._workers} workers, {self.jobsdone} done, {len(self.failures)} failed"
        return f"<ExecPool {self.name or ''}{' ' if self.name else ''}{shown}>"


def _number(workers: Any, who: str) -> int:
    if workers is None:
        return os.cpu_count() or 1
    if isinstance(workers, bool) or not isinstance(workers, int):
        raise TypeError(f"workers={workers!r} of {who}: give a whole number")
    if workers < 1:
        raise ValueError(f"workers={workers!r} of {who}: give at least 1")
    return workers


def _is_concurrent(concur: bool, older: dict[str, bool]) -> bool:
    given = older.pop("async", concur)
    if older:
        raise TypeError(f"execute() takes no {next(iter(older))!r}: give concur=, or as before **{{'async': ...}}")
    return bool(given)


def _claimed(job: Any) -> Job:
    if not isinstance(job, Job):
        raise TypeError(f"execute({job!r}): give a Job")
    if job._executed:
        raise ValueError(f"job {job.name!r} was executed already: make a new one")
    job._executed = True
    return job
