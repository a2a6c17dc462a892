"""`JobInfo`: what is kept of a job that has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._job import Job


class JobInfo:
    """What became of a job, without the job.

    Attributes:
        name: its name.
        pid: the number of its process; None if there was none.
        code: the exit code, below 0 for a signal; None if it was not started.
        tstart: when it was started, by `time.perf_counter`; None if it was not.
        tstop: when it had ended.
        duration: seconds in between, or None.
        task: the name of its task, or None.
        category: its category.

    Args:
        job: the job.
        tstop: when it had ended, if not `job.tstop`.

    Example:
        >>> from trioflow.compat.pyexpool import ExecPool, Job
        >>> pool = ExecPool(2)
        >>> pool.execute(Job("bad", args=("sh", "-c", "exit 3")))
        0
        >>> pool.join()
        True
        >>> [(info.name, info.code) for info in pool.failures]
        [('bad', 3)]

    """

    __slots__ = ("category", "code", "duration", "name", "pid", "task", "tstart", "tstop")

    def __init__(self, job: Job, tstop: float | None = None) -> None:
        process = job.proc
        self.name: str = job.name
        self.pid: int | None = None if process is None else process.pid
        self.code: int | None = None if process is None else process.returncode
        self.tstart: float | None = job.tstart
        self.tstop: float | None = job.tstop if tstop is None else tstop
        started_and_ended = self.tstart is not None and self.tstop is not None
        self.duration: float | None = self.tstop - self.tstart if started_and_ended else None  # type: ignore[operator]
        self.task: str | None = None if job.task is None else job.task.name
        self.category: object = job.category

    def __repr__(self) -> str:
        """Show name and code."""
        return f"<JobInfo {self.name!r} code={self.code}>"
