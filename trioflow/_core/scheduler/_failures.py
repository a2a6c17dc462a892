"""The log line and the exception at the end of a run, and the failed jobs that both report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from ..base import _logger
from ..base._reprs import short_repr
from ..base._states import COMPLETED, STOP_REASON_TEXTS, JobState, StopReason
from ..base._units import join_names, plural
from ..base._user_code import get_cause, get_context, get_group_members, with_traceback
from ..job import _errors
from ..job._ancestors import is_logged, outermost_scheduler
from ..job._job import AbstractJob, is_scheduler
from ..job._job_queries import (
    failed_by_itself,
    failed_through_member,
    is_counted,
    is_one_job,
    jobs_of_run,
    lacked_budget,
    reported_state,
)
from ..job._labels import paths_of, printable, shorten
from ..job._outcome import Failure, add_note
from ..run._idle_timeouts import JOB_EVENTS_NOUN

if TYPE_CHECKING:
    from ..run._run import Run
    from ._base_scheduler import BaseScheduler

LISTING_ADVICE: Final = "; debrief(listing=True) shows where each job was"


def failed_jobs(scheduler: BaseScheduler) -> list[AbstractJob[Any]]:
    """Return the jobs at any depth that failed with an `Exception` of their own, in the order in which they settled.

    These are the FAILED jobs, and those that a spent budget has BLOCKED. A `First` is one job: if it fails, it reports
    the failures of its jobs.
    """
    jobs = (job for job in jobs_of_run(scheduler) if failed_by_itself(job) or lacked_budget(job))
    return sorted((job for job in jobs if isinstance(job.raised_exception(), Exception)), key=_settling_number)


def critical_failures(scheduler: BaseScheduler) -> list[AbstractJob[Any]]:
    """Return the jobs whose failure was critical in `scheduler`, in the order in which they settled.

    If a nested scheduler failed because of its own jobs, these jobs are returned in place of the nested scheduler. So
    are those that failed while it was cancelled.
    """
    failures: list[AbstractJob[Any]] = []
    todo: list[BaseScheduler] = [scheduler]
    while todo:
        for job in todo.pop():
            if job._state in (JobState.FAILED, JobState.BLOCKED, JobState.CANCELLED) and job.is_critical():
                if is_scheduler(job) and (job._state is JobState.CANCELLED or failed_through_member(job)):
                    todo.append(job)
                elif isinstance(job.raised_exception(), Exception):
                    failures.append(job)
    return sorted(failures, key=_settling_number)


def log_drain(scheduler: BaseScheduler) -> None:
    """Log how many jobs still run in a run that is about to drain. If none does, the end of the run says all."""
    jobs = (job for job in jobs_of_run(scheduler) if is_one_job(job) and not job.forever)
    count = sum(reported_state(job) is JobState.RUNNING for job in jobs)
    if count and scheduler.log:
        running = f"{plural(count, 'job')} {'is' if count == 1 else 'are'} still running"
        _logger.warn(
            f"the run of {shorten(scheduler.label)!r} drains: no more jobs start, and {running}", about="drain"
        )


def log_run_end(run: Run, check: bool) -> None:
    """Log how many jobs failed in an outermost run, and whether a timeout, a drain or a signal stopped the run.

    Args:
        run: the run.
        check: whether the call that ran it raises their failures.

    """
    scheduler = run.scheduler
    if not scheduler.log or (run.reason is StopReason.COMPLETED and not run.failure_count):
        return
    # `run.failure_count` is not used, because it also counts failures in earlier attempts of nested schedulers.
    failed = list(filter(is_logged, failed_jobs(scheduler))) if run.failure_count else []
    count = len(failed) + (scheduler._members.dropped_failure_count if run.failure_count else 0)
    failures_text = _failures_text(scheduler, count, list(filter(lacked_budget, failed)))
    if run.reason in (StopReason.TIMEOUT, StopReason.DRAINED, StopReason.INTERRUPTED):
        if run.idle_timed_out:
            how = f"stopped after {scheduler.idle_timeout:g} s without {JOB_EVENTS_NOUN}"
        elif run.reason is StopReason.TIMEOUT:
            how = f"stopped after its timeout of {run.timeout:g} s"
        else:
            how = "no more jobs were started" if run.reason is StopReason.DRAINED else "a signal ended it cleanly"
            how = f"{STOP_REASON_TEXTS[run.reason]}: {how}"
        texts = filter(None, (f"the run of {shorten(scheduler.label)!r} {how}", failures_text))
        _logger.warn("; ".join(texts), advice=LISTING_ADVICE, about="end", kind=run.reason)
    elif count > (run.reason is StopReason.CRITICAL):  # a single critical failure has been logged already
        advice = "; debrief() shows the tracebacks" if scheduler.keep_jobs else ""
        end_text = "the run stopped"
        if run.reason is StopReason.COMPLETED:
            outcome = "check=True raises" if check else "the run counts as a success"
            end_text = f"{'it is not' if count == 1 else 'none is'} critical, so {outcome}"
        _logger.warn(f"{failures_text}; {end_text}", advice=advice, about="end")


def _failures_text(scheduler: BaseScheduler, count: int, unpaid: list[AbstractJob[Any]]) -> str:
    """Return how many jobs failed, and of these, how many did not run because a budget is spent."""
    name = f"of {shorten(scheduler.label)!r}"
    texts = [f"{plural(count - len(unpaid), 'job')} {name} failed"] * (count > len(unpaid))
    if unpaid:
        budgets = join_names(sorted({printable(cast(Any, job.raised_exception()).name) for job in unpaid}))
        total = sum(is_counted(job) and not job.forever for job in jobs_of_run(scheduler))
        jobs = f"{len(unpaid)} of {plural(total, 'job')}" if scheduler.keep_jobs else plural(len(unpaid), "job")
        texts.append(f"the budget {budgets} is spent, so {jobs} {name} did not run")
    return "; ".join(texts)


def raise_failure_group(scheduler: BaseScheduler, jobs: Iterable[AbstractJob[Any]]) -> None:
    """Raise a group of the exceptions of these jobs. If there are no jobs, do nothing.

    Raises:
        ExceptionGroup: there is at least one job.

    """
    exceptions = _exceptions_of(scheduler, jobs)
    if exceptions:
        raise ExceptionGroup(f"jobs of {scheduler.label!r} failed", exceptions)


def raise_hidden_failures(
    scheduler: BaseScheduler, error: BaseException | None, jobs: Iterable[AbstractJob[Any]]
) -> None:
    """Raise the failures of jobs that another exception would hide, in a group with it. If there are none, do nothing.

    Args:
        scheduler: the scheduler.
        error: what the body of `async with` has raised; None if it was only cancelled. Failures that this exception
            reports itself, because the body has awaited their jobs, are not hidden.
        jobs: the failed jobs.

    Raises:
        ExceptionGroup: there is at least one hidden failure, and `error` is not one that passes through alone, such as
            a KeyboardInterrupt.

    """
    reported = set[int]() if error is None else set(map(id, _chain(error)))
    hidden = _exceptions_of(scheduler, (job for job in jobs if id(job._outcome.exception) not in reported))
    if not hidden:
        return
    if error is None:
        raise ExceptionGroup(f"jobs of {scheduler.label!r} failed", hidden) from None
    if isinstance(error, Exception):
        raise ExceptionGroup(f"the body of {scheduler.label!r} and its jobs failed", [error, *hidden]) from None


def _exceptions_of(scheduler: BaseScheduler, jobs: Iterable[AbstractJob[Any]]) -> list[Exception]:
    """Return the exceptions of failed jobs, each with its first traceback and a note that names its job."""
    exceptions: list[Exception] = []
    paths: dict[AbstractJob[Any], str] | None = None
    for job in jobs:
        failure: Failure = job._outcome
        paths = paths_of(outermost_scheduler(scheduler)) if paths is None else paths
        name = printable(paths.get(job, job.label))
        add_note(failure.exception, f"raised by the job '{name}' of {scheduler.label!r}")
        exceptions.append(with_traceback(failure.exception, failure.traceback))  # type: ignore[arg-type]
    return exceptions


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, its members if it is a group, its causes and contexts, and so on, each once."""
    todo, seen = [error], set[int]()
    while todo:
        error = todo.pop()
        if id(error) not in seen:
            seen.add(id(error))
            yield error
            todo += filter(None, (get_cause(error), get_context(error), *get_group_members(error)))


def raise_unless_completed(run: Run, reason: StopReason | None, *, any_failure: bool = False) -> None:
    """Raise an exception unless a run completed.

    Args:
        run: the run.
        reason: why the run stopped.
        any_failure: whether to raise the failures of jobs even if the run completed.

    Raises:
        ExceptionGroup: the critical failures that stopped the run; if the run completed, all failures.
        Exception: an error in the policy or the journal ended the run.
        JobTimeout: the run did not end in time.
        JobCancelled: the run was cancelled, drained, or interrupted by a signal.

    """
    scheduler = run.scheduler
    if scheduler._run_error is not None and scheduler._culprit is None:
        raise scheduler._run_error
    match reason:
        case StopReason.CRITICAL:
            raise_failure_group(scheduler, critical_failures(scheduler))
        case StopReason.TIMEOUT:
            idle = cast(float, scheduler.idle_timeout) if run.idle_timed_out else None
            missing = None if idle is None else JOB_EVENTS_NOUN
            raise _errors.JobTimeout(scheduler, idle or run.timeout or 0.0, missing, waits=run.waits_at_timeout)
        case StopReason.CANCELLED | StopReason.INTERRUPTED | StopReason.DRAINED:
            raise _errors.JobCancelled(f"the run of {scheduler.label!r} {STOP_REASON_TEXTS[reason]}")
        case _:
            if any_failure and run.failure_count:  # if the count is 0, there is no need to search all jobs
                raise_failure_group(scheduler, failed_jobs(scheduler))


def nested_run_result(run: Run) -> bool:
    """Return True if the run of a nested scheduler completed; otherwise raise the exception that the job fails with.

    Raises:
        BaseException: the exception of the critical job that stopped the run, or an error in the policy or the journal.
        JobTimeout: the run did not end in time.
        JobCancelled: the run was cancelled or drained.

    """
    if run.reason is COMPLETED:
        return True
    if run.reason is StopReason.CRITICAL and run.culprit is not None:
        failure: Failure = run.culprit._outcome
        raise with_traceback(failure.exception, failure.traceback)
    raise_unless_completed(run, run.reason)
    return True


def _settling_number(job: AbstractJob[Any]) -> int:
    """Return the sort key that puts failed jobs in the order in which they settled."""
    failure: Failure = job._outcome
    return failure.number


class Results(dict[AbstractJob[Any], Any]):
    """The results of jobs, by job. The error about another key says how to get at a result."""

    __slots__ = ()

    def __missing__(self, key: object) -> Any:
        raise KeyError(f"no result for {short_repr(key)}: results() has the results of jobs that succeeded, by job")
