"""`Sequence`: a chain of jobs. Each job requires its predecessor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .job import AbstractJob, Job, flatten_members

if TYPE_CHECKING:
    from .purescheduler import PureScheduler


class Sequence:
    """A chain of jobs. Each job requires its predecessor.

    Args:
        sequences_or_jobs: jobs and Sequences, in order. None is ignored.
        required: the requirements of the first job.
        scheduler: a scheduler to add the jobs to, including jobs that are appended later.

    Raises:
        TypeError: an item is neither a job nor a Sequence.

    Example:
        >>> from trioflow.compat.asynciojobs import PrintJob, PureScheduler, Sequence
        >>> PureScheduler(Sequence(PrintJob("one"), PrintJob("two"))).run()
        one
        two
        True

    """

    jobs: list[AbstractJob]
    scheduler: PureScheduler | None

    def __init__(
        self,
        *sequences_or_jobs: Any,
        required: Any = None,
        scheduler: PureScheduler | None = None,
    ) -> None:
        self.jobs = []
        self.scheduler = scheduler
        self.append(*sequences_or_jobs)
        self.requires(required)

    def append(self, *sequences_or_jobs: Any) -> None:
        """Append jobs and Sequences to the chain.

        Raises:
            TypeError: an item is neither a job nor a Sequence.

        """
        for item in sequences_or_jobs:
            new = list(flatten_members([item], "a Sequence"))
            if new and self.jobs:
                new[0].requires(self.jobs[-1])
            self.jobs += new
        if self.scheduler is not None:
            self.scheduler.update(sequences_or_jobs)

    def requires(self, *requirements: Any) -> None:
        """Add requirements to the first job, if any.

        Raises:
            TypeError: a requirement is neither a job nor a Sequence.

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

    def _trioflow_last_jobs(self) -> list[AbstractJob]:
        return self.jobs[-1:]
