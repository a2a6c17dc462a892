"""`Sequence`: jobs, each of which requires the one before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .job import AbstractJob, Job, members

if TYPE_CHECKING:
    from .purescheduler import PureScheduler


class Sequence:
    """A chain of jobs: each requires the one before it.

    Args:
        sequences_or_jobs: jobs and Sequences, in this order; None is left out.
        required: the requirements of the first one.
        scheduler: a scheduler to add them to, and those that are appended later.

    Raises:
        TypeError: something that is neither a job nor a Sequence.

    Example:
        >>> from trioflow.compat.asynciojobs import PrintJob, PureScheduler, Sequence
        >>> PureScheduler(Sequence(PrintJob("one"), PrintJob("two"))).run()
        one
        two
        True

    """

    jobs: list[AbstractJob]
    scheduler: PureScheduler | None

    def __init__(self, *sequences_or_jobs: Any, required: Any = None, scheduler: PureScheduler | None = None) -> None:
        self.jobs = []
        self.scheduler = scheduler
        self.append(*sequences_or_jobs)
        self.requires(required)

    def append(self, *sequences_or_jobs: Any) -> None:
        """Add jobs and Sequences behind the last one.

        Raises:
            TypeError: something else.

        """
        for item in sequences_or_jobs:
            new = list(members([item], "a Sequence"))
            if new and self.jobs:
                new[0].requires(self.jobs[-1])
            if isinstance(item, AbstractJob) or new:
                self.jobs += new
        if self.scheduler is not None:
            self.scheduler.update(sequences_or_jobs)

    def requires(self, *requirements: Any) -> None:
        """Make the first job wait for others; without a job, do nothing.

        Raises:
            TypeError: something that is neither a job nor a Sequence.

        """
        if self.jobs:
            self.jobs[0].requires(*requirements)

    def close_idle_jobs(self) -> None:
        """Close the coroutine objects of jobs that have not started."""
        for job in self.jobs:
            if isinstance(job, Job) and job.is_idle():
                job.close()

    def _trioflow_members(self) -> list[AbstractJob]:
        return self.jobs

    def _trioflow_last(self) -> list[AbstractJob]:
        return self.jobs[-1:]
