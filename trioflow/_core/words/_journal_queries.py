"""Functions on jobs for journals, and what a journal has restored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..admission._grant import budgets_used
from ..base import _amounts, _states
from ..job._job import AbstractJob, AnyJob, is_scheduler
from ._job_queries import is_one_job

if TYPE_CHECKING:
    from ..job._job_options import OptionRecord
    from ..job._outcome import Restoration
    from ..scheduler._base_scheduler import BaseScheduler


def reason_not_restored(job: AnyJob) -> str | None:
    """Return the reason why the journal did not restore a job; None if it was restored, or there is no journal."""
    return None if job._extras is None else job._extras.not_restored_reason


def rerun_cause(job: AnyJob) -> str | None:
    """Return the first change because of which a job runs again, though the journal has it; None if there is none."""
    return None if job._extras is None else job._extras.rerun_cause


def restoration_of(job: AnyJob) -> Restoration | None:
    """Return the facts that the journal has about a job that it restored; None if it did not restore the job.

    Example:
        >>> import tempfile
        >>> async def double(number):
        ...     return 2 * number
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     job = Job(double, 21)
        ...     scheduler = Scheduler(job, journal=directory + "/run.db")
        ...     scheduler.run(), restoration_of(job)
        ...     scheduler.run(), restoration_of(job).settled_at is None
        (True, None)
        (True, False)

    """
    restoration = None if job._extras is None else job._extras.restoration
    return _restoration_of_first(job) if restoration is None and is_scheduler(job) else restoration


def _restoration_of_first(scheduler: BaseScheduler) -> Restoration | None:
    """Return that of its last winner, if a `First` has succeeded with restored results alone; otherwise None."""
    if not is_one_job(scheduler) or scheduler._state is not _states.SUCCEEDED:
        return None
    winners = [job for job in scheduler.iterate_jobs() if job._state is _states.SUCCEEDED and is_one_job(job)]
    restorations = [restoration_of(job) for job in winners]
    return restorations[-1] if restorations and None not in restorations else None


SERVICE: Final = object()
"""A placeholder for the result of a service, which a journal neither stores nor compares, as services run each time."""


def always_runs(job: AbstractJob[Any]) -> bool:
    """Return whether a journal never stores the result of a job: a scheduler, a service, or another forever job."""
    return job._is_scheduler or job._options.forever


def result_for_journal(job: AbstractJob[Any]) -> Any:
    """Return the stored result of a job that has succeeded; DROPPED if it was dropped; SERVICE for a service."""
    return SERVICE if job._is_service else job._outcome


def options_of(job: AbstractJob[Any]) -> OptionRecord:
    """Return the record of a job's options: to read several of them takes a tenth of the time."""
    return job._options


def was_added_during_run(job: AbstractJob[Any]) -> bool:
    """Return whether a job was added to its scheduler during the run in progress, so that its path may differ."""
    return job._scheduler is not None and job in job._scheduler._members.jobs_added_during_run


def is_known_by_call(job: AbstractJob[Any]) -> bool:
    """Return whether a job added during a run is identified by its call: it has no label, or `map` made the label."""
    return job._label is None or (job._extras is not None and job._extras.is_known_by_call)


def is_member(job: AbstractJob[Any]) -> bool:
    """Return whether a job is still in its scheduler, which has not dropped it because of `keep_jobs=False`."""
    return job._scheduler is not None and job in job._scheduler._members.jobs


def budget_use(job: AnyJob) -> dict[str, float]:
    """Return the amounts of budgets that a job which is about to settle has used in all its attempts, by name."""
    return {name: _amounts.as_number(amount) for name, amount in budgets_used(job).items()}
