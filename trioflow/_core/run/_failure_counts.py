"""`FailureCounts`: the failures in a run. If any of them counts, the run does not end COMPLETED."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..base._states import CHECKING, JobState
from ..job._errors import CancelledOutcome, Failure, find_interruption
from ..job._job import AnyJob, is_scheduler
from . import _steps

if TYPE_CHECKING:
    from ._run import Run

MAX_COUNTED_KEPT: Final = 16
"""With `keep_jobs=False`: the number of failed jobs to keep, and the same number of blocked jobs."""


class FailureCounts:
    """The failures in a run. The members of a `First` count only by its own rule, unless they are critical.

    Whether a failure counts is decided here alone, and recorded in the outcome of the job. With `keep_jobs=False`, the
    first jobs that failed are kept, for the exception at the end. The jobs that they blocked are kept, too, because
    these still count after the failure itself was awaited.
    """

    def __init__(self, run: Run) -> None:
        self._scheduler: Final = run.scheduler
        # The number of jobs that failed, including the jobs of nested runs.
        self.total = 0
        # How many failures of members count, and how many of these members are not BLOCKED.
        self.number = self.unblocked_number = 0
        # The first ones, with `keep_jobs=False`.
        self._kept: Final[list[AnyJob]] = []

    def count(self, job: AnyJob, failure: Failure) -> None:
        """Count the failure of a member, unless it belongs to others or is tolerated."""
        if failure.is_from_cancel or find_interruption(failure.exception) is not None:
            return
        criticality = job._criticality()
        is_excused = failure.is_taken or criticality is False
        if criticality or not (is_excused or self._scheduler._enough is not None):
            self._add(job, failure)

    def count_cut_off(self, job: AnyJob, outcome: CancelledOutcome) -> None:
        """Count the failures in a nested scheduler that was cut off with its run, not alone."""
        if (
            is_scheduler(job)
            and job._counted_failures.number
            and job._criticality() is not False
        ):
            self._add(job, outcome)

    def _add(self, job: AnyJob, outcome: Failure | CancelledOutcome) -> None:
        outcome.is_counted = True
        is_blocked = job._state is JobState.BLOCKED
        self.number += 1
        if not is_blocked:
            self.unblocked_number += 1
        if not self._scheduler.keep_jobs and (
            job._criticality() or self._count_kept(is_blocked) < MAX_COUNTED_KEPT
        ):
            self._kept.append(job)

    def keeps(self, job: AnyJob) -> bool:
        """Return whether a job stays with `keep_jobs=False`, because its failure is to be reported, or is awaited."""
        outcome = job._outcome
        is_awaited = (
            type(outcome) is Failure and outcome.is_taken and not outcome.is_raised
        )
        return is_awaited or job in self._kept

    def dropped(self) -> int:
        """Return how many jobs that failed, and were not BLOCKED, a scheduler with `keep_jobs=False` has dropped."""
        if self._scheduler.keep_jobs:
            return 0
        return self.unblocked_number - self._count_kept(is_blocked=False)

    def _count_kept(self, is_blocked: bool) -> int:
        return [job._state is JobState.BLOCKED for job in self._kept].count(is_blocked)

    def take(self, job: AnyJob, failure: Failure) -> None:
        """Stop counting the failure of a member, because `await job` raises it."""
        failure.is_taken = failure.is_raised = True
        if not (self._is_of_last_run() or job._criticality()):
            self.uncount(job, failure)
        self._release(job)

    def _release(self, job: AnyJob) -> None:
        """Let a scheduler that keeps no jobs drop a job whose failure was awaited, unless it has to be reported."""
        run = self._scheduler._run
        if run is None or self._scheduler.keep_jobs or job not in run.members.jobs:
            return
        if run.closes_scheduler or job in run.members.jobs_added_during_run:
            _steps.release(run, job, job._ensure_extras())

    def uncount(self, job: AnyJob, failure: Failure) -> None:
        """Stop counting the failure of a member, if it counts."""
        if failure.is_counted:
            failure.is_counted = False
            self.number -= 1
            if job._state is not JobState.BLOCKED:
                self.unblocked_number -= 1
            if job in self._kept:
                self._kept.remove(job)

    def give_back(self, job: AnyJob, failure: Failure) -> None:
        """Count the failure of a member after all, because an `await job` was cancelled, and no other has raised it."""
        if failure.is_taken and not failure.is_raised:
            failure.is_taken = False
            if not self._is_of_last_run():
                self.count(job, failure)
            self._release(job)

    def _is_of_last_run(self) -> bool:
        """Return whether the outcomes of members are still those of the last run, which has counted them."""
        run = self._scheduler._run
        return run is not None and run.phase is CHECKING
