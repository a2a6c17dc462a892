"""The log line and the exception at the end of a run, and the failed jobs that both report."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from weakref import WeakKeyDictionary

from ..base import _logger
from ..base._states import COMPLETED, STOP_REASON_TEXTS, JobState, StopReason
from ..base._text_forms import join_names, plural, short_repr
from ..base._user_code import get_cause, with_traceback
from ..job import _errors
from ..job._ancestors import enclosing_schedulers, is_logged, outermost_scheduler
from ..job._job import AbstractJob, is_scheduler
from ..job._labels import PathCache, path_of_job, paths_of, printable, shorten, unescape_path
from ..job._outcome import CancelledOutcome, Failure, add_note
from ..parts import has_idled
from ..run._idle_timeouts import JOB_EVENTS_NOUN
from ._job_queries import (
    failed_through_member,
    groups_of_run,
    has_own_failure,
    is_one_job,
    jobs_of_run,
    lacked_budget,
    reported_state,
    root_failure,
)

if TYPE_CHECKING:
    from ..run._run import Run
    from ..scheduler._base_scheduler import BaseScheduler

_PATHS: Final[WeakKeyDictionary[Run, PathCache]] = WeakKeyDictionary()
"""The paths of the members of schedulers in runs, as the notes of failures have them."""
LISTING_ADVICE: Final = "; debrief(listing=True) shows where each job was"


def failed_jobs(scheduler: BaseScheduler) -> list[AbstractJob[Any]]:
    """Return the jobs at any depth that failed with an `Exception` of their own, in the order in which they settled.

    These are the FAILED jobs, and those that a spent budget has BLOCKED. A `First` is one job: if it fails, it reports
    the failures of its jobs.
    """
    jobs = filter(has_own_failure, jobs_of_run(scheduler))
    return sorted((job for job in jobs if isinstance(job.raised_exception(), Exception)), key=_settling_number)


class CountedFailures(NamedTuple):
    """The failures because of which a run has failed."""

    jobs: tuple[AbstractJob[Any], ...] = ()
    """The jobs that failed by themselves, at any depth, in the order in which they settled."""
    first_member: AbstractJob[Any] | None = None
    """The first member of the scheduler whose failure counts."""
    rest: int = 0
    """How many further jobs failed, which a scheduler with `keep_jobs=False` has dropped."""

    @property
    def number(self) -> int:
        """How many jobs failed."""
        return len(self.jobs) + self.rest


NO_FAILURES: Final = CountedFailures()


def counted_failures(scheduler: BaseScheduler) -> CountedFailures:
    """Return the failures that count in the run of a scheduler in progress, or in its last one.

    If a nested scheduler failed because of its own jobs, these jobs take its place. So do those that failed in one that
    was cut off with its run, not alone. A job that another failure among these has BLOCKED is left out.
    """
    run = scheduler._run
    if run is None:
        return scheduler._counted_failures
    if not ((counts := run.failures).number or counts.total):
        return NO_FAILURES
    rest = counts.dropped()
    members = [
        job for job in scheduler if type(job._outcome) in (Failure, CancelledOutcome) and job._outcome.is_counted
    ]
    jobs: list[AbstractJob[Any]] = []
    for job in members:
        if is_scheduler(job) and (job._state is JobState.CANCELLED or failed_through_member(job)):
            jobs += job._counted_failures.jobs
            rest += job._counted_failures.rest
        else:
            jobs.append(job)
    own = [job for job in members if type(job._outcome) is Failure]
    causes = {id(job._outcome.exception) for job in (*own, *jobs)}
    jobs = [job for job in jobs if not _is_blocked_by(job, causes, scheduler)]
    if not jobs:
        rest = rest or counts.number  # all that is left was BLOCKED by failures that were awaited
    first = min(own, key=_settling_number, default=None)
    return CountedFailures(tuple(sorted(jobs, key=_settling_number)), first, rest)


def _is_blocked_by(job: AbstractJob[Any], causes: set[int], scheduler: BaseScheduler) -> bool:
    """Return whether one of these exceptions has BLOCKED a job, or a failure of a member that counts.

    The scheduler may have dropped that member. A failure outside of the scheduler is not among its own, nor is one in a
    nested scheduler whose timeout stands in its place, and what was never reached has none.
    """
    root, error = root_failure(job), job.raised_exception()
    cause = get_cause(error) if isinstance(error, _errors.RequirementFailed) else None
    counts = type(root._outcome) is Failure and root._outcome.is_counted and root._scheduler is scheduler
    return id(cause) in causes or (root is not job and counts)


def culprit_text(scheduler: BaseScheduler) -> str | None:
    """Return the failure that stopped a run, in the words of `failure_text`; None if no job stopped it."""
    member = scheduler.culprit
    if member is None or scheduler.stop_reason is not StopReason.CRITICAL:
        return None
    cause = root_failure(member)
    while is_scheduler(cause) and not is_one_job(cause) and cause.culprit is not None:
        cause = root_failure(cause.culprit)
    return failure_text(cause.path, None if cause._criticality() else member.path)


def failure_text(path: str, critical_path: str | None) -> str:
    """Return the words for the failure of a job that stopped a run.

    Args:
        path: the path of the job that failed.
        critical_path: if that job is not critical itself, the path of the critical job that failed or was blocked
            because of it.

    """
    if critical_path is None:
        return f"a critical failure of {shorten(path)}"
    return f"a failure of {shorten(path)}, because {shorten(critical_path)} is critical"


def log_drain(scheduler: BaseScheduler) -> None:
    """Log how many jobs still run in a run that is about to drain. If none does, the end of the run says all."""
    jobs = (job for job in jobs_of_run(scheduler) if is_one_job(job) and not job.forever)
    count = sum(reported_state(job) is JobState.RUNNING for job in jobs)
    if count and scheduler.log:
        running = f"{plural(count, 'job')} {'is' if count == 1 else 'are'} still running"
        _logger.warn(
            f"the run of {shorten(scheduler.label)!r} drains: no more jobs start, and {running}", about="drain"
        )


def log_run_end(run: Run) -> None:
    """Log how many jobs failed in an outermost run, and whether a timeout, a drain or a signal stopped the run.

    A run that has completed without a failure has nothing to log, and does not call this.
    """
    scheduler = run.scheduler
    if not scheduler.log:
        return
    # `run.failures.total` is not used, because it also counts failures in earlier attempts of nested schedulers.
    failed = list(filter(is_logged, failed_jobs(scheduler))) if run.failures.total else []
    tolerated_count = 0
    if run.reason is StopReason.FAILED:
        tolerated_count = sum(job._criticality() is False for job in failed)
        failed = [job for job in failed if job._criticality() is not False]
    dropped = sum((group._members.dropped_failures for group in groups_of_run(scheduler)), Counter[bool]())
    count = len(failed) + dropped.total()
    unpaid = list(filter(lacked_budget, failed))
    groups = sum(not (is_one_job(job) or job in unpaid) for job in failed) + dropped[False]
    failures_text = _failures_text(scheduler, count - groups - len(unpaid), groups, unpaid)
    is_shown = run.is_shown("end") and not has_idled(run) and not unpaid  # no display has the reasons
    if tolerated_count:
        failures_text += f", {tolerated_count} more {'was' if tolerated_count == 1 else 'were'} tolerated"
    if run.reason in (StopReason.TIMEOUT, StopReason.DRAINED, StopReason.INTERRUPTED):
        if has_idled(run):
            how = f"stopped after {scheduler.idle_timeout:g} s without {JOB_EVENTS_NOUN}"
        elif run.reason is StopReason.TIMEOUT:
            how = f"stopped after its timeout of {run.timeout:g} s"
        else:
            how = "no more jobs were started" if run.reason is StopReason.DRAINED else "a signal ended it cleanly"
            how = f"{STOP_REASON_TEXTS[run.reason]}: {how}"
        texts = filter(None, (f"the run of {shorten(scheduler.label)!r} {how}", failures_text))
        _logger.warn("; ".join(texts), advice=LISTING_ADVICE, about="end", kind=run.reason, is_shown=is_shown)
    elif count > (run.reason is StopReason.CRITICAL):  # a single critical failure has been logged already
        advice = "; debrief() shows the tracebacks" if scheduler.keep_jobs else ""
        end_text = "the run has failed" if run.reason is StopReason.FAILED else "the run stopped"
        if run.reason is COMPLETED:
            end_text = "this failure was" if count == 1 else "each failure was"
            is_all = not dropped and all(job._criticality() is False for job in failed)
            end_text += " tolerated" if is_all else " tolerated, awaited, or in a cancelled group"
        _logger.warn(f"{failures_text}; {end_text}", advice=advice, about="end", is_shown=is_shown)


def _failures_text(scheduler: BaseScheduler, jobs: int, groups: int, unpaid: list[AbstractJob[Any]]) -> str:
    """Return how many jobs failed, how many groups by themselves, and how many did not run for want of a budget."""
    name = f"of {shorten(scheduler.label)!r}"
    texts = [f"{plural(number, noun)} {name} failed" for number, noun in ((jobs, "job"), (groups, "group")) if number]
    if unpaid:
        budgets = join_names(sorted({printable(cast(Any, job.raised_exception()).name) for job in unpaid}))
        counted = [job for job in jobs_of_run(scheduler) if is_one_job(job) and not job.forever]
        # Also the jobs in these and those that these have blocked, without those that the scheduler has dropped.
        families = ((job, *enclosing_schedulers(job)) for job in counted if job._state is not JobState.SUCCEEDED)
        not_run = sum(any(root_failure(each) in unpaid for each in family) for family in families)
        text = f"{not_run} of {plural(len(counted), 'job')}" if scheduler.keep_jobs else plural(len(unpaid), "job")
        texts.append(f"the budget {budgets} is spent, so {text} {name} did not run")
    return "; ".join(texts)


def raise_failures(scheduler: BaseScheduler, only_first: bool = False) -> None:
    """Raise a group of the failures that count in the last run, or in the one in progress. If none does, do nothing.

    Args:
        scheduler: the scheduler.
        only_first: whether to raise the first of them in place of the group.

    Raises:
        ExceptionGroup: at least one failure counts.

    """
    failures = counted_failures(scheduler)
    if not failures.number:
        return
    errors = _exceptions_of(scheduler, failures.jobs[:1] if only_first else failures.jobs)
    rest_text = f", and {failures.rest} more" if failures.rest else ""
    if not errors:  # those of the jobs that were kept were all awaited
        text = f"{plural(failures.rest, 'job')} of {scheduler.label!r} failed, which keep_jobs=False has dropped"
        errors, rest_text = [_errors.TrioflowError(text, "the log has their errors")], ""
    if only_first:
        context = errors[0].__context__
        try:
            raise errors[0]
        finally:
            errors[0].__context__ = context  # and not a cancellation of the caller
    raise ExceptionGroup(f"jobs of {scheduler.label!r} failed{rest_text}", errors) from None


def _exceptions_of(scheduler: BaseScheduler, jobs: tuple[AbstractJob[Any], ...]) -> list[Exception]:
    """Return the exceptions of jobs that failed in a scheduler, each with its first traceback and a note of its job."""
    failures: list[Failure] = [job._outcome for job in jobs]
    paths: dict[AbstractJob[Any], str] = {}
    for job, failure in zip(jobs, failures, strict=True):
        if not failure.has_note:  # otherwise, the scheduler further in has added it
            failure.has_note, paths = True, paths or paths_of(scheduler, _prefix_of(scheduler))
            home = "" if job._scheduler is None else f" of {outermost_scheduler(scheduler).label!r}"
            name = printable(unescape_path(paths[job]) if job in paths else job.label)
            add_note(failure.exception, f"raised by the job '{name}'{home}")
    return [with_traceback(failure.exception, failure.traceback) for failure in failures]  # type: ignore[misc]


def _prefix_of(scheduler: BaseScheduler) -> str:
    """Return the beginning of the paths in a scheduler. In a run, those around it are named once for all that fail."""
    prefix, outer = "", outermost_scheduler(scheduler)
    for inner in reversed((scheduler, *enclosing_schedulers(scheduler))[:-1]):
        if outer._run is None or inner not in outer._members.jobs:
            return f"{path_of_job(scheduler)}/"
        if (cache := _PATHS.get(outer._run)) is None:
            _PATHS[outer._run] = cache = PathCache(outer, prefix)
        prefix, outer = f"{cache.path_of(inner)}/", inner
    return prefix


def raise_unless_completed(run: Run, reason: StopReason | None, only_first: bool = False) -> None:
    """Raise an exception unless a run completed.

    Args:
        run: the run.
        reason: why the run stopped.
        only_first: as for `raise_failures`.

    Raises:
        ExceptionGroup: the run has failed, or a critical failure stopped it. The group has the failures that count.
        Exception: an error in the policy or the journal ended the run.
        JobTimeout: the run did not end in time.
        JobCancelled: the run was cancelled, drained, or interrupted by a signal.

    """
    scheduler = run.scheduler
    if scheduler._run_error is not None and scheduler._culprit is None:
        raise scheduler._run_error
    if reason is StopReason.FAILED or reason is StopReason.CRITICAL:
        raise_failures(scheduler, only_first)
    elif reason is StopReason.TIMEOUT:
        idle = cast(float, scheduler.idle_timeout) if has_idled(run) else None
        missing = None if idle is None else JOB_EVENTS_NOUN
        raise _errors.JobTimeout(scheduler, idle or run.timeout or 0.0, missing, waits=run.waits_at_timeout)
    elif reason is not None and reason is not COMPLETED:
        raise _errors.JobCancelled(f"the run of {scheduler.label!r} {STOP_REASON_TEXTS[reason]}")


def _settling_number(job: AbstractJob[Any]) -> int:
    """Return the sort key that puts failed jobs in the order in which they settled."""
    return job._outcome.number  # type: ignore[no-any-return]


class Results(dict[AbstractJob[Any], Any]):
    """The results of jobs, by job. The error about another key says how to get at a result."""

    __slots__ = ()

    def __missing__(self, key: object) -> Any:
        raise KeyError(f"no result for {short_repr(key)}: results() has the results of jobs that succeeded, by job")
