"""The failures of a run in words: the log of each, the line and the exception at the end, and the jobs that count.

The first of many similar failures has a line of its own. The others are only counted. Two failures are similar if they
are of one kind, as defined by `failure_kind`. The first is logged at once. For a minute, similar failures are
counted, because a thousand similar lines would hide other lines. The number is logged one second after the first of
them, and at the end of the run, with the first few messages that differ. Spent budgets are of one kind for all jobs,
and the number of these jobs is logged only after the minute, and at the end of the run.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from ..base import _logger, _user_code
from ..base._states import (
    CANCELLED,
    COMPLETED,
    STOP_REASON_TEXTS,
    SUCCEEDED,
    StopReason,
)
from ..base._text_forms import (
    MAX_NAMED_JOBS,
    clause,
    fit,
    join_names,
    plural,
    short_repr,
)
from ..job import _errors
from ..job._ancestors import enclosing_schedulers, is_logged, outermost_scheduler
from ..job._job import AnyJob, is_scheduler
from ..job._labels import (
    PathCache,
    path_of_job,
    paths_of,
    printable,
    shorten,
    unescape_path,
)
from ..parts import has_idled
from ..run import _handle, _instruments
from . import _job_queries

if TYPE_CHECKING:
    from ..run._run import Run
    from ..scheduler._base_scheduler import BaseScheduler

COUNT_REPORT_DELAY: Final = 1.0
SIMILARITY_PERIOD: Final = 60.0
"""The seconds after which the number of counted failures is logged, and a similar failure gets its own line again."""
FAILURE_SUBJECT: Final = "failure"
MAX_COMPARED_FRAMES: Final = 50
"""The maximum number of innermost frames that are compared to decide whether two failures are alike."""


def failure_kind(job: AnyJob, failure: _errors.Failure) -> tuple[object, ...]:
    """Return a key that is equal for failures of one kind, even if their messages differ.

    It is made of the job's function, program or class, the effective value of `critical`, the types of the exception
    and of its cause, context and group members, the exit code of a command, and the positions of the innermost frames.
    A spent budget is of one kind for all jobs, and so is the need of the other backend.
    """
    error = failure.exception
    if remedy := _user_code.wrong_backend_remedy(error):
        return remedy, job._criticality()
    if isinstance(error, _errors.BudgetSpent) and (
        job._started_at is None or is_scheduler(job)
    ):  # it did not run
        return _errors.BudgetSpent, error.name, job._criticality()
    related = (
        error,
        _user_code.get_cause(error),
        _user_code.get_context(error),
        *_user_code.get_group_members(error),
    )
    types = tuple(
        f"{type(exception).__module__}.{type(exception).__qualname__}"
        for exception in related
    )
    try:
        code = getattr(error, "returncode", None)
    except Exception:
        # From the code of the exception's class.
        code = None
    entries = _user_code.entries(failure.traceback)
    positions = [
        (entry.tb_frame.f_code.co_filename, entry.tb_lineno) for entry in entries
    ]
    exit_code = code if type(code) is int else None
    return (
        job._failure_kind(),
        job._criticality(),
        types,
        exit_code,
        tuple(positions[-MAX_COMPARED_FRAMES:]),
    )


class SimilarFailures:
    """A failure that was logged, and the count of similar failures after it."""

    def __init__(
        self,
        job: AnyJob,
        error: BaseException,
        expires_at: float,
        failed: str,
    ) -> None:
        # The path of the job whose failure was logged.
        self._path: Final = _job_path(job)
        self._message: Final = _message(job, error)
        self._failed: Final = failed
        self._error_name: Final = type(error).__name__
        self.expires_at: Final = expires_at
        self.count_since_report = 0
        # The paths of the first few jobs with these failures, and their messages, if they differ from the logged one.
        self._first_failures: Final[list[tuple[str, str]]] = []

    def count(self, job: AnyJob, error: BaseException) -> None:
        self.count_since_report += 1
        if len(self._first_failures) < MAX_NAMED_JOBS:
            message = _message(job, error)
            text = ""
            if message != self._message:
                text = f" ({printable(fit(message, 60, keep='ends'))})"
            self._first_failures.append((_job_path(job), text))

    def report(self) -> str:
        """Return the log line for the counted failures, and reset the count."""
        number = self.count_since_report
        failures = self._first_failures.copy()
        self.count_since_report = 0
        self._first_failures.clear()
        if {path for path, _ in failures} == {self._path}:
            # It failed in several attempts of a nested scheduler.
            times = "once more" if number == 1 else f"{number} more times"
            return f"'{self._path}' failed {times} with {self._error_name}{failures[-1][1]}"
        jobs = "one more job" if number == 1 else f"{number} more jobs"
        names = [f"'{path}'{message}" for path, message in failures]
        listed = join_names(names, MAX_NAMED_JOBS, number)
        return f"{jobs} {self._failed} with {self._error_name} like '{self._path}': {listed}"


class FailureLog:
    """The log of the failures in an outermost run and in all runs nested in it."""

    def __init__(self, run: Run) -> None:
        # The outermost run.
        self._run: Final = run
        # The paths of the members of schedulers, as the notes of failures have them. It is freed with the run.
        self.paths: Final[dict[BaseScheduler, PathCache]] = {}
        # The logged failures by their kind, the oldest first.
        self._recent_failures: Final[
            OrderedDict[tuple[object, ...], SimilarFailures]
        ] = OrderedDict()
        self._cancel_timer: Callable[[], None] | None = None
        self._kinds_reported_blocking: Final[set[object]] = set()

    def add(
        self,
        run: Run,
        job: AnyJob,
        failure: _errors.Failure,
        hint: str | None = None,
    ) -> None:
        """Log or count the failure of a job. A `First` that fails reports the failures of its jobs.

        Args:
            run: the run of the job.
            job: the job.
            failure: its exception.
            hint: advice to add to the log line, or None if there is none.

        """
        stopped = run.fate.culprit is job and run.fate.reason is StopReason.CRITICAL
        name = shorten(run.scheduler.label)
        # The failure of its member has been logged.
        if is_scheduler(job) and _job_queries.failed_through_member(job):
            if stopped and is_logged(job):
                cause = (_job_queries.culprit_chain(job) or [job])[-1]
                self._warn(
                    f"'{_job_path(job)}' failed because of '{_job_path(cause)}'; the run of {name!r} stops",
                    kind=(failure_kind(cause, cause._outcome), "because"),
                )
            return
        if not is_logged(job):
            return
        if not stopped and _job_queries.is_in_first(job, self._run.scheduler):
            return
        now = self._run.clock()
        key = failure_kind(job, failure)
        error = failure.exception
        self._drop_expired(now)
        if key in self._recent_failures:
            self._recent_failures[key].count(job, error)
            # A spent budget keeps all further jobs from running: that is said again once a minute, and at the end.
            if self._cancel_timer is None and key[0] is not _errors.BudgetSpent:
                self._cancel_timer = self._run.call_at(
                    now + COUNT_REPORT_DELAY, self._on_timer
                )
            return
        failed = "did not run" if key[0] is _errors.BudgetSpent else "failed"
        self._recent_failures[key] = SimilarFailures(
            job, error, now + SIMILARITY_PERIOD, failed
        )
        if stopped:
            consequence = f"it is critical, so the run of {name!r} stops"
        else:
            consequence = "the run is ending"
            if run.fate.cancel_reason is None:
                consequence = "the run goes on"
            if job._criticality() is False:
                consequence = f"it is tolerated, and {consequence}"
        advice = clause(" ({})", hint)
        remedy = _errors.remedy_of(error)
        traceback = None if key[0] is _errors.BudgetSpent else failure.traceback
        line = _user_code.innermost_line(traceback)
        place = line and printable(shorten(line))
        if traceback is not None and (stopped or run.scheduler.keep_jobs):
            traceback_hint = "; debrief() shows the traceback"
        else:
            traceback_hint = clause("; it was {}", place)
        self._warn(
            f"'{_job_path(job)}' {failed}: {_errors.one_line_error(error)}{advice}; {consequence}",
            advice=clause(" ({})", remedy) + traceback_hint,
            kind=key,
            place=place,
            traceback=failure.traceback,
        )

    def report_block(self, run: Run, job: AnyJob | None, now: float) -> None:
        """Report a job that has just blocked the event loop, but only the first such job of each kind."""
        if (
            job is None
            or job._started_at is None
            or now - job._started_at <= _instruments.MIN_BLOCKING_SECONDS
        ):
            return
        if (kind := job._failure_kind()) not in self._kinds_reported_blocking:
            self._kinds_reported_blocking.add(kind)
            run.report(
                job,
                f"'{_job_path(job)}' blocked the event loop for {now - job._started_at:.1f} s: meanwhile no other job "
                f"ran and no timeout could fire; make it a ThreadJob, or a ProcessJob if it is CPU-bound",
            )

    def close(self) -> None:
        if self._cancel_timer is not None:
            self._cancel_timer()
        self._log_counted(list(self._recent_failures))

    def _drop_expired(self, now: float) -> None:
        """Drop expired failures, so that memory stays bounded even in a run that takes a year."""
        while self._recent_failures:
            key, oldest = next(iter(self._recent_failures.items()))
            if oldest.expires_at > now:
                return
            self._log_counted([key])
            del self._recent_failures[key]

    def _on_timer(self) -> None:
        self._cancel_timer = None
        kinds = [
            kind for kind in self._recent_failures if kind[0] is not _errors.BudgetSpent
        ]
        self._log_counted(kinds)

    def _log_counted(self, kinds: Iterable[tuple[object, ...]]) -> None:
        for kind in kinds:
            similar = self._recent_failures[kind]
            if count := similar.count_since_report:
                self._warn(similar.report(), kind=kind, count=count)

    def _warn(self, message: str, **details: Any) -> None:
        _logger.warn(
            message,
            about=FAILURE_SUBJECT,
            is_shown=self._run.is_shown(FAILURE_SUBJECT),
            **details,
        )


def _message(job: AnyJob, error: BaseException) -> str:
    """Return the message of an error without the name of the job, which does not make it another."""
    # The failure of a `First` names a job in it.
    named = error.job if isinstance(error, _errors.BudgetSpent) else job
    text = _errors.error_text(error).replace(repr(named.label), "", 1)
    return " ".join(text.split())


def _job_path(job: AnyJob) -> str:
    return printable(shorten(unescape_path(job.path)))


LISTING_ADVICE: Final = "; debrief(listing=True) shows where each job was"


def failed_jobs(scheduler: BaseScheduler) -> list[AnyJob]:
    """Return the jobs at any depth that failed by themselves, in the order that they settled, without interruptions.

    These are the FAILED jobs, and the jobs that a spent budget has BLOCKED. A `First` is one job: if it fails, it
    reports the failures of its jobs.
    """
    failed: list[AnyJob] = []
    jobs = filter(_job_queries.has_own_failure, _job_queries.jobs_of_run(scheduler))
    for job in jobs:
        error = job.raised_exception()
        if error is not None and _errors.find_interruption(error) is None:
            failed.append(job)
    return sorted(failed, key=_settling_number)


class CountedFailures(NamedTuple):
    """The failures because of which a run has failed."""

    jobs: tuple[AnyJob, ...] = ()
    """The jobs that failed by themselves, at any depth, in the order that they settled."""
    first_member: AnyJob | None = None
    rest: int = 0
    """How many further jobs failed, which a scheduler with `keep_jobs=False` has dropped."""

    @property
    def number(self) -> int:
        """How many jobs failed."""
        return len(self.jobs) + self.rest


NO_FAILURES: Final = CountedFailures()


def counted_failures(scheduler: BaseScheduler) -> CountedFailures:
    """Return the failures that count in the run of a scheduler in progress, or in its last run.

    If a nested scheduler failed because of its own jobs, these jobs take its place. If it was cut off with its run, not
    alone, its failed jobs take its place, too. A job that another failure among these has BLOCKED is left out.
    """
    if (run := scheduler._run) is None:
        return scheduler._counted_failures
    counts = run.failures
    if not (counts.number or counts.total):
        return NO_FAILURES
    rest = counts.dropped()
    may_count = (_errors.Failure, _errors.CancelledOutcome)
    members = [
        job
        for job in scheduler
        if type(job._outcome) in may_count and job._outcome.is_counted
    ]
    jobs: list[AnyJob] = []
    for job in members:
        if is_scheduler(job) and (
            job._state is CANCELLED or _job_queries.failed_through_member(job)
        ):
            jobs += job._counted_failures.jobs
            rest += job._counted_failures.rest
        else:
            jobs.append(job)
    own = [job for job in members if type(job._outcome) is _errors.Failure]
    causes = {id(job._outcome.exception) for job in (*own, *jobs)}
    jobs = [job for job in jobs if not _is_blocked_by(job, causes, scheduler)]
    if not jobs:
        # All that is left was BLOCKED by failures that were awaited.
        rest = rest or counts.number
    first = min(own, key=_settling_number, default=None)
    return CountedFailures(tuple(sorted(jobs, key=_settling_number)), first, rest)


def _is_blocked_by(job: AnyJob, causes: set[int], scheduler: BaseScheduler) -> bool:
    """Return whether one of these exceptions has BLOCKED a job, or a failure of a member that counts.

    The scheduler may have dropped that member. A failure outside of the scheduler is not among its own. Nor is a
    failure in a nested scheduler whose timeout takes its place. A job that was never reached has no failure.
    """
    root = _job_queries.root_failure(job)
    error = job.raised_exception()
    cause = None
    if isinstance(error, _errors.RequirementFailed):
        cause = _user_code.get_cause(error)
    if id(cause) in causes:
        return True
    if root is job or root._scheduler is not scheduler:
        return False
    return type(root._outcome) is _errors.Failure and root._outcome.is_counted


def culprit_text(scheduler: BaseScheduler) -> str | None:
    """Return the failure that stopped a run, in the words of `failure_text`, or None if no job stopped it."""
    member = scheduler.culprit
    if member is None or scheduler.stop_reason is not StopReason.CRITICAL:
        return None
    cause = _job_queries.first_cause(member)
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
    jobs = _job_queries.running_jobs(scheduler)
    if jobs and scheduler.log:
        running = f"with {plural(len(jobs), 'job')} still running"
        _logger.warn(
            f"the run of {shorten(scheduler.label)!r} drains: no more jobs start, {running}",
            about="drain",
        )


ENDS: Final[dict[Any, str]] = {
    StopReason.TIMEOUT: "stopped after its timeout of {timeout:g} s",
    StopReason.DRAINED: f"{STOP_REASON_TEXTS[StopReason.DRAINED]}: no more jobs were started",
    StopReason.INTERRUPTED: f"{STOP_REASON_TEXTS[StopReason.INTERRUPTED]}: a signal ended it cleanly",
}
"""The ends of a run that are logged whatever failed, in words."""


def log_run_end(run: Run) -> None:
    """Log how many jobs failed in an outermost run, and whether a timeout, a drain or a signal stopped the run.

    A run that has completed without a failure has nothing to log, and does not call this.
    """
    scheduler = run.scheduler
    if not scheduler.log:
        return
    # `run.failures.total` is not used, because it also counts failures in earlier attempts of nested schedulers.
    failed = []
    if run.failures.total:
        failed = list(filter(is_logged, failed_jobs(scheduler)))
    tolerated_count = 0
    if run.fate.reason is StopReason.FAILED:
        counted = [job for job in failed if job._criticality() is not False]
        tolerated_count = len(failed) - len(counted)
        failed = counted
    dropped = Counter[bool]()
    for group in _job_queries.groups_of_run(scheduler):
        dropped += group._members.dropped.failures
    count = len(failed) + dropped.total()
    unpaid = list(filter(_job_queries.lacked_budget, failed))
    groups = dropped[False]
    for job in failed:
        if not (_job_queries.is_one_job(job) or job in unpaid):
            groups += 1
    jobs = count - groups - len(unpaid)
    failures_text = _failures_text(scheduler, jobs, groups, unpaid)
    # No display has the reasons.
    is_shown = run.is_shown("end") and not has_idled(run) and not unpaid
    if tolerated_count:
        verb = "was" if tolerated_count == 1 else "were"
        failures_text += f", {tolerated_count} more {verb} tolerated"
    if run.fate.reason in ENDS:
        if has_idled(run):
            how = f"stopped after {scheduler.idle_timeout:g} s without {_handle.JOB_EVENTS_NOUN}"
        else:
            how = ENDS[run.fate.reason].format(timeout=run.timeout)
        running = clause("it was {}", run.jobs_at_timeout.get("place"))
        end_text = f"the run of {shorten(scheduler.label)!r} {how}"
        _logger.warn(
            "; ".join(filter(None, (end_text, running, failures_text))),
            advice=LISTING_ADVICE,
            about="end",
            kind=run.fate.reason,
            is_shown=is_shown,
        )
    elif count > (run.fate.reason is StopReason.CRITICAL):
        # A single critical failure has been logged already.
        advice = clause("; debrief() shows the tracebacks", scheduler.keep_jobs)
        end_text = "the run stopped"
        if run.fate.reason is StopReason.FAILED:
            end_text = "the run has failed"
        if run.fate.reason is COMPLETED:
            which = "this" if count == 1 else "each"
            end_text = f"{which} failure was tolerated"
            if dropped or any(job._criticality() is not False for job in failed):
                end_text += ", awaited, or in a cancelled group"
        _logger.warn(
            f"{failures_text}; {end_text}",
            advice=advice,
            about="end",
            is_shown=is_shown,
        )


def _failures_text(
    scheduler: BaseScheduler, jobs: int, groups: int, unpaid: list[AnyJob]
) -> str:
    """Return how many jobs failed, how many groups by themselves, and how many did not run for want of a budget."""
    name = f"of {shorten(scheduler.label)!r}"
    texts: list[str] = []
    for number, noun in ((jobs, "job"), (groups, "group")):
        if number:
            texts.append(f"{plural(number, noun)} {name} failed")
    if unpaid:
        errors: list[Any] = [job.raised_exception() for job in unpaid]
        budgets = join_names(sorted({printable(error.name) for error in errors}))
        counted = _job_queries.ordinary_jobs(scheduler)
        # Also the jobs in these and those that these have blocked, without those that the scheduler has dropped.
        not_run = 0
        for job in counted:
            family = (job, *enclosing_schedulers(job))
            roots = map(_job_queries.root_failure, family)
            if job._state is not SUCCEEDED and any(root in unpaid for root in roots):
                not_run += 1
        if scheduler.keep_jobs:
            text = f"{not_run} of {plural(len(counted), 'job')}"
        else:
            text = plural(len(unpaid), "job")
        texts.append(f"the budget {budgets} is spent, so {text} {name} did not run")
    return "; ".join(texts)


def raise_failures(scheduler: BaseScheduler, only_first: bool = False) -> None:
    """Raise a group of the failures that count in the last run, or in the run in progress. If none does, do nothing.

    Args:
        scheduler: the scheduler.
        only_first: whether to raise the first of them in place of the group.

    Raises:
        ExceptionGroup: at least one failure counts. It is a `BaseExceptionGroup` if a job has raised a group that is no
            `Exception`, of nothing but these.

    """
    failures = counted_failures(scheduler)
    if not failures.number:
        return
    errors = _exceptions_of(
        scheduler, failures.jobs[:1] if only_first else failures.jobs
    )
    rest_text = clause(", and {} more", failures.rest)
    if not errors:
        # The failures of the jobs that were kept were all awaited.
        text = f"{plural(failures.rest, 'job')} of {scheduler.label!r} failed, which keep_jobs=False has dropped"
        errors = [_errors.TrioflowError(text, "the log has their errors")]
        rest_text = ""
    if only_first:
        context = errors[0].__context__
        try:
            raise errors[0]
        finally:
            # And not a cancellation of the caller.
            errors[0].__context__ = context
    text = f"jobs of {scheduler.label!r} failed{rest_text}"
    raise BaseExceptionGroup(text, errors) from None


def _exceptions_of(
    scheduler: BaseScheduler, jobs: tuple[AnyJob, ...]
) -> list[Exception]:
    """Return the exceptions of jobs that failed in a scheduler, each with its first traceback and a note of its job."""
    failures: list[_errors.Failure] = [job._outcome for job in jobs]
    paths: dict[AnyJob, str] = {}
    for job, failure in zip(jobs, failures, strict=True):
        # The scheduler further in may have added the note.
        if not failure.has_note:
            failure.has_note = True
            paths = paths or paths_of(scheduler, _prefix_of(scheduler))
            home = ""
            if job._scheduler is not None:
                home = f" of {outermost_scheduler(scheduler).label!r}"
            if job in paths:
                name = unescape_path(paths[job])
            else:
                name = job.label
            note = f"raised by the job '{printable(name)}'{home}"
            _errors.add_note(failure.exception, note)
    exceptions: list[Any] = [
        _user_code.with_traceback(failure.exception, failure.traceback)
        for failure in failures
    ]
    return exceptions


def _prefix_of(scheduler: BaseScheduler) -> str:
    """Return the beginning of the paths in a scheduler. In a run, those around it are named once for all that fail."""
    prefix = ""
    outer = outermost_scheduler(scheduler)
    for inner in reversed((scheduler, *enclosing_schedulers(scheduler))[:-1]):
        if outer._run is None or inner not in outer._members.jobs:
            return f"{path_of_job(scheduler)}/"
        cache = outer._run.failure_log.paths.setdefault(outer, PathCache(outer, prefix))
        prefix = f"{cache.path_of(inner)}/"
        outer = inner
    return prefix


def raise_unless_completed(
    run: Run, reason: StopReason | None, only_first: bool = False
) -> None:
    """Raise an exception unless a run completed.

    Args:
        run: the run.
        reason: why the run stopped.
        only_first: as for `raise_failures`.

    Raises:
        ExceptionGroup: the run has failed, or a critical failure stopped it. The group has the failures that count.
        Exception: an error in the journal ended the run.
        JobTimeout: the run did not end in time.
        JobCancelled: the run was cancelled, drained, or interrupted by a signal.

    """
    scheduler = run.scheduler
    if scheduler._run_error is not None and scheduler._fate.culprit is None:
        raise scheduler._run_error
    if reason is StopReason.FAILED or reason is StopReason.CRITICAL:
        raise_failures(scheduler, only_first)
    elif reason is StopReason.TIMEOUT:
        if has_idled(run):
            idle = cast(float, scheduler.idle_timeout)
            raise _errors.JobTimeout(
                scheduler, idle, _handle.JOB_EVENTS_NOUN, **run.jobs_at_timeout
            )
        raise _errors.JobTimeout(scheduler, run.timeout or 0.0, **run.jobs_at_timeout)
    elif reason is not None and reason is not COMPLETED:
        how = STOP_REASON_TEXTS[reason]
        raise _errors.JobCancelled(f"the run of {scheduler.label!r} {how}")


def _settling_number(job: AnyJob) -> int:
    """Return the sort key that puts failed jobs in the order that they settled."""
    return job._outcome.number  # type: ignore[no-any-return]


class Results(dict[AnyJob, Any]):
    """The results of jobs, by job. The error about another key says how to get at a result."""

    __slots__ = ()

    def __missing__(self, key: object) -> Any:
        raise KeyError(
            f"no result for {short_repr(key)}: results() has the results of jobs that succeeded, by job"
        )
