"""What became of a run as a whole: which failures it tells of, and what is raised for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from . import _errors
from ._jobs import AbstractJob
from ._members import Members
from ._outcomes import Failure
from ._states import JobState, StopReason

if TYPE_CHECKING:
    from ._run import Run
    from ._scheduler import BaseScheduler


def failed(scheduler: BaseScheduler) -> list[AbstractJob[Any]]:
    """Return the jobs that FAILED with an `Exception` of their own, nested ones included, in the order of settling."""
    jobs = [job for job in scheduler.iterate_jobs() if job._state is JobState.FAILED and not _by_proxy(job)]
    return sorted((job for job in jobs if isinstance(job.raised_exception(), Exception)), key=_number)


def critical(scheduler: Members) -> list[AbstractJob[Any]]:
    """Return the jobs whose failure stopped `scheduler`, in the order of settling; of nested ones, the jobs inside."""
    found: list[AbstractJob[Any]] = []
    todo: list[Members] = [scheduler]
    while todo:
        for job in todo.pop():
            if job._state in (JobState.FAILED, JobState.BLOCKED) and job.is_critical():
                if isinstance(job, Members) and _by_proxy(job):
                    todo.append(job)
                elif isinstance(job.raised_exception(), Exception):
                    found.append(job)
    return sorted(found, key=_number)


def raise_group(scheduler: BaseScheduler, jobs: Iterable[AbstractJob[Any]]) -> None:
    """Raise the exceptions of these jobs as a group, if there are any.

    Raises:
        ExceptionGroup: there is at least one.

    """
    exceptions: list[Exception] = []
    for job in jobs:
        failure: Failure = job._outcome
        note = f"raised by the job {job.path!r} of {scheduler.label!r}"
        if note not in getattr(failure.exception, "__notes__", ()):
            failure.exception.add_note(note)
        exceptions.append(failure.exception.with_traceback(failure.traceback))  # type: ignore[arg-type]
    if exceptions:
        raise ExceptionGroup(f"jobs of {scheduler.label!r} failed", exceptions)


def check(scheduler: BaseScheduler) -> None:
    """Raise for anything but a run that completed without failures.

    Raises:
        ExceptionGroup: of the critical failures, or of all if none was critical.
        JobTimeout: the run did not end in time.
        JobCancelled: it was cancelled, or ended by a signal.

    """
    match scheduler._stop_reason:
        case StopReason.CRITICAL:
            raise_group(scheduler, critical(scheduler))
        case StopReason.TIMEOUT:
            raise _errors.JobTimeout(scheduler, scheduler._time_limit)
        case StopReason.CANCELLED:
            raise _errors.JobCancelled(f"the run of {scheduler.label!r} was cancelled")
        case StopReason.INTERRUPTED:
            raise _errors.JobCancelled(f"the run of {scheduler.label!r} was ended by a signal")
        case _:
            raise_group(scheduler, failed(scheduler))


def raise_or_true(scheduler: BaseScheduler, run: Run) -> bool:
    """Return True for a scheduler that completed as a job, or raise what it failed with.

    Raises:
        BaseException: the exception of the critical job inside.
        JobTimeout: it did not end in time.

    """
    if run.reason is StopReason.CRITICAL:
        assert run.culprit is not None
        failure: Failure = run.culprit._outcome
        raise failure.exception.with_traceback(failure.traceback)
    if run.reason is StopReason.TIMEOUT:
        raise _errors.JobTimeout(scheduler, scheduler._time_limit)
    if run.reason is not StopReason.COMPLETED:
        raise _errors.JobCancelled(f"the run of {scheduler.label!r} was cancelled")
    return True


def _by_proxy(job: AbstractJob[Any]) -> bool:
    """Tell whether a scheduler failed as a job because one of its own critical jobs did."""
    return isinstance(job, Members) and getattr(job, "stop_reason", None) is StopReason.CRITICAL


def _number(job: AbstractJob[Any]) -> int:
    failure: Failure = job._outcome
    return failure.number
