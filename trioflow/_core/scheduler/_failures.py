"""The log line and the exception at the end of a run, and the failures that they report."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, cast

from ..base import _logger
from ..base._states import COMPLETED, STOP_REASON_TEXTS, JobState, StopReason
from ..job import _errors
from ..job._job import AbstractJob, is_scheduler
from ..job._labels import shorten
from ..job._outcome import Failure, add_note
from ..run._idle_timeouts import OF_JOBS

if TYPE_CHECKING:
    from ..run._run import Run
    from ._base_scheduler import BaseScheduler

LISTING: Final = "; debrief(listing=True) shows where each job was"


def failed_jobs(scheduler: BaseScheduler) -> list[AbstractJob[Any]]:
    """Return the jobs that FAILED with an `Exception` of their own, at any depth, in the order of settling."""
    jobs = [job for job in scheduler.iterate_jobs() if job._state is JobState.FAILED and not failed_through_member(job)]
    return sorted((job for job in jobs if isinstance(job.raised_exception(), Exception)), key=_settling_number)


def critical_failures(scheduler: BaseScheduler) -> list[AbstractJob[Any]]:
    """Return the jobs whose failure was critical in `scheduler`, in the order in which they settled.

    If a nested scheduler failed because of its own jobs, they are returned instead.
    """
    failures: list[AbstractJob[Any]] = []
    todo: list[BaseScheduler] = [scheduler]
    while todo:
        for job in todo.pop():
            if job._state in (JobState.FAILED, JobState.BLOCKED) and job.is_critical():
                if is_scheduler(job) and failed_through_member(job):
                    todo.append(job)
                elif isinstance(job.raised_exception(), Exception):
                    failures.append(job)
    return sorted(failures, key=_settling_number)


def log_end(run: Run) -> None:
    """Log how many jobs failed in an outermost run, and why it stopped, unless an exception will say so."""
    scheduler = run.scheduler
    if not scheduler.logs_failures:
        return
    # `run.failure_count` also counts failures in attempts of nested schedulers that were repeated.
    number = scheduler._members.dropped_failures + len(failed_jobs(scheduler)) if run.failure_count else 0
    failures = f"{number} job{'s' * (number != 1)} of {shorten(scheduler.label)!r} failed" if number else ""
    if run.reason is StopReason.TIMEOUT:
        idle = f"after {scheduler.idle_timeout:g} s without {OF_JOBS}" if run.idle_timed_out else ""
        end = f"the run of {shorten(scheduler.label)!r} stopped {idle or f'after its timeout of {run.timeout:g} s'}"
        _logger.warn(f"{end}{failures and '; '}{failures}", advice=LISTING, about="end")
    elif run.reason in (StopReason.DRAINED, StopReason.INTERRUPTED):
        how = "no more jobs were started" if run.reason is StopReason.DRAINED else "a signal ended it cleanly"
        end = f"the run of {shorten(scheduler.label)!r} {STOP_REASON_TEXTS[run.reason]}: {how}"
        _logger.warn(f"{end}{failures and '; '}{failures}", advice=LISTING, about="end")
    elif number > (run.reason is StopReason.CRITICAL):  # a single critical failure has been logged
        hint = "; debrief() shows the tracebacks" if scheduler.keep_jobs else ""
        end = "the run stopped"
        if run.reason is StopReason.COMPLETED:
            end = f"{'it is not' if number == 1 else 'none is'} critical, so the run counts as a success"
        _logger.warn(f"{failures}; {end}", advice=hint, about="end")


def raise_group(scheduler: BaseScheduler, jobs: Iterable[AbstractJob[Any]]) -> None:
    """Raise the exceptions of these jobs as a group, if there are any.

    Raises:
        ExceptionGroup: there is at least one exception.

    """
    exceptions: list[Exception] = []
    for job in jobs:
        failure: Failure = job._outcome
        add_note(failure.exception, f"raised by the job '{job.path}' of {scheduler.label!r}")
        exceptions.append(failure.exception.with_traceback(failure.traceback))  # type: ignore[arg-type]
    if exceptions:
        raise ExceptionGroup(f"jobs of {scheduler.label!r} failed", exceptions)


def raise_unless_completed(run: Run, reason: StopReason | None, *, any_failure: bool = False) -> None:
    """Raise an exception unless a run completed.

    Args:
        run: the run.
        reason: the reason of its stop.
        any_failure: whether a completed run raises its failures too.

    Raises:
        ExceptionGroup: the critical failures that stopped the run; or all failures, if it completed.
        Exception: an error in the policy or the journal, which ended the run.
        JobTimeout: the run did not end in time.
        JobCancelled: the run was cancelled, drained, or interrupted by a signal.

    """
    scheduler = run.scheduler
    if scheduler._fault is not None and scheduler._culprit is None:
        raise scheduler._fault
    match reason:
        case StopReason.CRITICAL:
            raise_group(scheduler, critical_failures(scheduler))
        case StopReason.TIMEOUT:
            idle = cast(float, scheduler.idle_timeout) if run.idle_timed_out else None
            raise _errors.JobTimeout(scheduler, idle or run.timeout or 0.0, None if idle is None else OF_JOBS)
        case StopReason.CANCELLED | StopReason.INTERRUPTED | StopReason.DRAINED:
            raise _errors.JobCancelled(f"the run of {scheduler.label!r} {STOP_REASON_TEXTS[reason]}")
        case _:
            if any_failure and run.failure_count:  # saves a search of all jobs
                raise_group(scheduler, failed_jobs(scheduler))


def raise_or_true(run: Run) -> bool:
    """Return True if the run of a nested scheduler completed; otherwise raise its failure as a job.

    Raises:
        BaseException: the exception of the critical job that stopped it, or an error in its policy.
        JobTimeout: it did not end in time.
        JobCancelled: it was cancelled or drained.

    """
    if run.reason is COMPLETED:
        return True
    if run.reason is StopReason.CRITICAL and run.culprit is not None:
        failure: Failure = run.culprit._outcome
        raise failure.exception.with_traceback(failure.traceback)
    raise_unless_completed(run, run.reason)
    return True


def failed_through_member(job: AbstractJob[Any]) -> bool:
    """Return whether a FAILED job is a nested scheduler that failed because of one of its own jobs."""
    culprit = job.culprit if is_scheduler(job) else None
    return culprit is not None and culprit.raised_exception() is not None


def _settling_number(job: AbstractJob[Any]) -> int:
    failure: Failure = job._outcome
    return failure.number
