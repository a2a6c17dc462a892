"""`RunCounts`: how many jobs of a run have not settled, and what else it counts of its jobs, apart from failures."""

from __future__ import annotations

from ..base._states import CANCELLED, SUCCEEDED, JobState
from ..job._job import AnyJob


class RunCounts:
    """The counts of the members of a run. Nobody else writes them, except `settle`, for a success.

    Each end of a member follows a beginning. So a count that falls below 0 is an error of the engine, told at once: a
    member has settled twice, and the run would not end, or end too early.
    """

    __slots__ = (
        "added",
        "all_succeeded",
        "cancelled",
        "forever_unsettled",
        "had_ordinary_jobs",
        "unsettled",
    )

    def __init__(self) -> None:
        # How many ordinary jobs have not settled.
        self.unsettled = 0
        self.forever_unsettled = 0
        # Whether the run has had jobs other than forever jobs.
        self.had_ordinary_jobs = False
        # How many ordinary jobs ended CANCELLED, which `keep_jobs=False` may drop.
        self.cancelled = 0
        # How many jobs have been added to the running scheduler.
        self.added = 0
        # Whether all members that have settled so far SUCCEEDED.
        self.all_succeeded = True

    def begin(self, ordinary: int, forever: int) -> None:
        """Count members that have not settled, and have not been counted."""
        self.unsettled += ordinary
        self.forever_unsettled += forever
        self.had_ordinary_jobs = self.had_ordinary_jobs or bool(ordinary)

    def add(self, job: AnyJob) -> None:
        """Count a member that was added to the running scheduler."""
        self.added += 1
        self.begin(not job._options.forever, job._options.forever)

    def expect_ordinary_jobs(self) -> None:
        """Take note of ordinary jobs that are not counted: they settled in the run before, or are still to come."""
        self.had_ordinary_jobs = True

    def end(self, job: AnyJob, state: JobState) -> None:
        """Count a member that settles in a state. `settle` does this itself for an ordinary job that has succeeded."""
        if job._options.forever:
            self.forever_unsettled -= 1
        else:
            self.unsettled -= 1
            if state is CANCELLED:
                self.cancelled += 1
        if state is not SUCCEEDED:
            self.all_succeeded = False
        if self.unsettled < 0 or self.forever_unsettled < 0:
            raise self.fault(job)

    def begin_again(self, job: AnyJob) -> None:
        """Count a member that has settled, and is tried again."""
        forever = job._options.forever
        if job._state is CANCELLED and not forever:
            self.cancelled -= 1
        self.begin(not forever, forever)
        if self.cancelled < 0:
            raise self.fault(job)

    def fault(self, job: AnyJob) -> AssertionError:
        """Return the error of a count that has fallen below 0 with the end, or another try, of a job."""
        counts = ", ".join(
            f"{name} {getattr(self, name)}"
            for name in ("unsettled", "forever_unsettled", "cancelled")
        )
        return AssertionError(f"{job.label!r} was counted twice: {counts}")

    def waits_for_jobs(self) -> bool:
        """Return whether the run waits for members that have not settled."""
        return bool(
            self.unsettled or (self.forever_unsettled and not self.had_ordinary_jobs)
        )
