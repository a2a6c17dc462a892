"""`Sequence`: a chain of requirements."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Never, Self, final

from ..job._job import AbstractJob, is_scheduler, not_a_scheduler_error
from ..job._job_options import flag
from ..job._job_options import unknown_option_error as unknown_option
from ..job._requirements import ORDER_ONLY, SETTLED_ONLY, flagged, flatten

if TYPE_CHECKING:
    from ..job._requirements import Required
    from ._base_scheduler import BaseScheduler


@final
class Sequence:
    """A chain of jobs, in which each job requires the one before it.

    If you add a sequence to a scheduler, its jobs become members, but not the sequence itself. If a job requires a
    sequence, it requires the last job of the sequence. The requirements of a sequence are those of its first job.

    Args:
        jobs_or_sequences: the jobs, in order; None is skipped.
        required: the requirements of the first job.
        scheduler: a scheduler to which the jobs are added, including jobs that are appended later.
        order_only: whether each job requires the one before it with `order_only=True`, so that a journal restores it
            although that one has changed.
        unknown: not allowed. Any other option raises TypeError.

    Raises:
        TypeError: an argument is not a job, `scheduler` is not a Scheduler, `order_only` is not a bool, or an option is
            unknown.

    Example:
        >>> a, b, c = (AbstractJob(label=label) for label in "abc")
        >>> Sequence(a, b, required=c).jobs
        [<AbstractJob a, idle>, <AbstractJob b, idle>]
        >>> b.required == {a} and a.required == {c}
        True

    """

    __slots__ = ("_order_only", "_scheduler", "_stand_in", "jobs")

    def __init__(
        self,
        *jobs_or_sequences: Required,
        required: Required = None,
        scheduler: BaseScheduler | None = None,
        order_only: bool = False,
        **unknown: Never,
    ) -> None:
        if unknown:
            raise unknown_option("Sequence", "a Sequence", unknown, Sequence.__init__)
        self.jobs: list[AbstractJob[Any]] = []
        # Has the requirements of the first job while there is none.
        self._stand_in: AbstractJob[Any] = AbstractJob(label="the first job of a Sequence")
        if scheduler is not None and not is_scheduler(scheduler):
            raise not_a_scheduler_error(scheduler, "a Sequence")
        self._scheduler = scheduler
        self._order_only = flag(order_only, "order_only", "a Sequence")
        self.requires(required)
        self._append(jobs_or_sequences, "Sequence")

    def append(self, *jobs_or_sequences: Required) -> Self:
        """Append jobs to the chain, and add them to the `scheduler` of the sequence, if it has one.

        Args:
            jobs_or_sequences: the jobs, in order; None is skipped.

        Returns:
            The sequence itself.

        Raises:
            TypeError: an argument is not a job.

        """
        self._append(jobs_or_sequences, "append() of a Sequence")
        return self

    def _append(self, jobs_or_sequences: Iterable[Required], subject: str) -> None:
        new_jobs = list(flatten(jobs_or_sequences, subject, "_all_jobs"))
        for job in new_jobs:
            if self.jobs:
                job.requires(self.jobs[-1], order_only=self._order_only)
            else:
                required = self._stand_in._required
                job.requires(required)
                job.requires(flagged(required, SETTLED_ONLY), settled=True)
                job.requires(flagged(required, ORDER_ONLY), order_only=True)
            self.jobs.append(job)
        if self._scheduler is not None:
            self._scheduler.update(new_jobs)

    def requires(
        self, *requirements: Required, remove: bool = False, settled: bool = False, order_only: bool = False
    ) -> Self:
        """Make the first job require these jobs. In an empty sequence, this is the first job that is appended later.

        Args:
            requirements: jobs, Sequences, None, or collections of these.
            remove: whether to remove these requirements instead of adding them.
            settled: whether the job runs whatever becomes of these requirements, as with `requires` of a job.
            order_only: whether a journal ignores these requirements, as with `requires` of a job.

        Returns:
            The sequence itself.

        Raises:
            TypeError: an argument is not a job, or `remove`, `settled` or `order_only` is not a bool.
            KeyError: with `remove`, the first job does not require one of these jobs.

        """
        required = list(flatten(requirements, "requires() of a Sequence", "_last_jobs"))
        first = self.jobs[0] if self.jobs else self._stand_in
        first.requires(required, remove=remove, settled=settled, order_only=order_only)
        return self

    def __len__(self) -> int:
        """Return the number of jobs."""
        return len(self.jobs)

    def __bool__(self) -> bool:
        """Return True, even if there are no jobs."""
        return True

    def __repr__(self) -> str:
        """Show the jobs in order."""
        return f"Sequence({', '.join(map(repr, self.jobs))})"

    def _all_jobs(self) -> Iterable[AbstractJob[Any]]:
        return tuple(self.jobs)

    def _last_jobs(self) -> Iterable[AbstractJob[Any]]:
        return tuple(self.jobs[-1:])
