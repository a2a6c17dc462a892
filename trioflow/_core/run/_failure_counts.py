"""`FailureCounts`: the failures in one run, and which of them count, so that the run does not end COMPLETED."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..base._states import JobState
from ..job import _errors
from ..job._job import AbstractJob
from ..job._outcome import Failure

if TYPE_CHECKING:
    from ._run import Run

MAX_COUNTED_KEPT: Final = 16
"""How many of the jobs whose failures count are kept with `keep_jobs=False`."""


class FailureCounts:
    """The failures in one run. The members of a `First` count only by its own rule, unless they are critical."""

    __slots__ = ("_scheduler", "counted", "counted_unblocked", "first_counted", "total")

    def __init__(self, run: Run) -> None:
        self._scheduler: Final = run.scheduler
        self.total = 0  # how many jobs have failed, those of nested runs included
        # How many failures of members count, and how many of these members are not BLOCKED.
        self.counted = self.counted_unblocked = 0
        self.first_counted: Final[list[AbstractJob[Any]]] = []  # the first ones, which `keep_jobs=False` keeps

    def count(self, job: AbstractJob[Any], failure: Failure) -> None:
        """Count the failure of a member, unless it belongs to others or is tolerated."""
        if failure.is_from_cancel or not isinstance(failure.exception, Exception):
            return
        scheduler, criticality = self._scheduler, job._criticality()
        if criticality or not (failure.is_taken or criticality is False or scheduler._enough is not None):
            failure.counts = True
            self.counted += 1
            self.counted_unblocked += job._state is not JobState.BLOCKED
            if not scheduler.keep_jobs and len(self.first_counted) < MAX_COUNTED_KEPT:
                error = failure.exception
                cause = error.requirement._outcome if isinstance(error, _errors.RequirementFailed) else None
                if not (isinstance(cause, Failure) and cause.counts):  # otherwise, the list has that failure
                    self.first_counted.append(job)

    def take(self, job: AbstractJob[Any], failure: Failure) -> None:
        """Stop counting the failure of a member, because `await job` raises it."""
        is_last_kept = self.first_counted == [job] and self.counted > 1  # one has to be kept for the exception
        if failure.counts and not job.is_critical() and not is_last_kept:
            failure.counts, failure.is_taken = False, True
            self.counted -= 1
            self.counted_unblocked -= job._state is not JobState.BLOCKED
            if job in self.first_counted:
                self.first_counted.remove(job)
                run = self._scheduler._run
                if run is not None and (run.closes_scheduler or job in run.members.jobs_added_during_run):
                    run.drop(job)

    def give_back(self, job: AbstractJob[Any], failure: Failure) -> None:
        """Count the failure of a member after all, because the `await job` for it was cancelled."""
        if failure.is_taken:
            failure.is_taken = False
            self.count(job, failure)
