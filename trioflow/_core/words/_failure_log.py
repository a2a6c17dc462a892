"""The log of failed jobs. The first of many similar failures has a line of its own; the others are only counted.

Two failures are similar if they are of one kind, as defined by `failure_kind`. The first one is logged at once. For a
minute, similar failures are counted, because a thousand similar lines would hide other lines. The number is logged one
second after the first of them, and at the end of the run, with the first few messages that differ. That a budget is
spent is one kind for all jobs, and their number is logged only after the minute, and at the end of the run.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from ..base import _logger
from ..base._states import StopReason
from ..base._text_forms import fit, join_names
from ..base._user_code import get_cause, get_context, get_group_members, innermost_line, wrong_backend_remedy
from ..job._ancestors import is_logged
from ..job._errors import BudgetSpent
from ..job._job import AbstractJob, is_scheduler
from ..job._labels import printable, shorten, unescape_path
from ..job._outcome import Failure, error_text, one_line_error, remedy_of
from ..run._instruments import MIN_BLOCKING_SECONDS
from ._job_queries import culprit_chain, failed_through_member, is_in_first

if TYPE_CHECKING:
    from ..run._run import Run

COUNT_REPORT_DELAY: Final = 1.0
"""The time, in seconds, after which the number of counted failures is logged."""
SIMILARITY_PERIOD: Final = 60.0
"""The time, in seconds, after which a similar failure gets its own line again."""
MAX_NAMED_JOBS: Final = 5
MAX_MESSAGE_LENGTH: Final = 60
"""The maximum number of characters of a message that differs from that of the failure that was logged."""
FAILURE_SUBJECT: Final = "failure"
"""The value of the attribute `about` of log records about failures."""
MAX_COMPARED_FRAMES: Final = 50
"""The maximum number of innermost frames that are compared to decide whether two failures are of one kind."""


def failure_kind(job: AbstractJob[Any], failure: Failure) -> tuple[object, ...]:
    """Return a key that is equal for failures of one kind, even if their messages differ.

    It is made of the job's function, program or class, the effective value of `critical`, the types of the exception
    and of its cause, context and group members, the exit code of a command, and the positions of the innermost frames.
    That a budget is spent, or that jobs need the other backend, is one kind for all jobs.
    """
    error = failure.exception
    if remedy := wrong_backend_remedy(error):
        return remedy, job._criticality()
    if isinstance(error, BudgetSpent) and (job._started_at is None or is_scheduler(job)):  # it did not run
        return BudgetSpent, error.name, job._criticality()
    related = (error, get_cause(error), get_context(error), *get_group_members(error))
    types = tuple(f"{type(exception).__module__}.{type(exception).__qualname__}" for exception in related)
    try:
        code = getattr(error, "returncode", None)
    except Exception:  # from the code of the exception's class
        code = None
    positions: list[tuple[str, int]] = []
    tb = failure.traceback
    while tb is not None:
        positions.append((tb.tb_frame.f_code.co_filename, tb.tb_lineno))
        tb = tb.tb_next
    exit_code = code if type(code) is int else None
    return job._failure_kind(), job._criticality(), types, exit_code, tuple(positions[-MAX_COMPARED_FRAMES:])


class SimilarFailures:
    """A failure that was logged, and the count of similar failures after it."""

    def __init__(self, job: AbstractJob[Any], error: BaseException, expires_at: float, failed: str) -> None:
        self._path: Final = _job_path(job)  # the path of the job whose failure was logged
        self._message: Final = _message(job, error)
        self._failed: Final = failed
        self._error_name: Final = type(error).__name__
        self.expires_at: Final = expires_at
        self.count_since_report = 0
        # The paths of the first few jobs with these failures, and their messages, if they differ from the logged one.
        self._first_failures: Final[list[tuple[str, str]]] = []

    def count(self, job: AbstractJob[Any], error: BaseException) -> None:
        self.count_since_report += 1
        if len(self._first_failures) < MAX_NAMED_JOBS:
            message = _message(job, error)
            shown = printable(fit(message, MAX_MESSAGE_LENGTH, keep="ends"))
            self._first_failures.append((_job_path(job), f" ({shown})" if message != self._message else ""))

    def report(self) -> str:
        """Return the log line for the counted failures, and reset the count."""
        number, failures = self.count_since_report, self._first_failures.copy()
        self.count_since_report = 0
        self._first_failures.clear()
        if {path for path, _ in failures} == {self._path}:  # it failed in several attempts of a nested scheduler
            times = "once more" if number == 1 else f"{number} more times"
            return f"'{self._path}' failed {times} with {self._error_name}{failures[-1][1]}"
        jobs = "one more job" if number == 1 else f"{number} more jobs"
        names = join_names([f"'{path}'{message}" for path, message in failures], MAX_NAMED_JOBS, number)
        return f"{jobs} {self._failed} with {self._error_name} like '{self._path}': {names}"


class FailureLog:
    """The log of the failures in an outermost run and in all runs nested in it."""

    def __init__(self, run: Run) -> None:
        self._run: Final = run  # the outermost run
        # The logged failures by their kind, the oldest first.
        self._recent_failures: Final[OrderedDict[tuple[object, ...], SimilarFailures]] = OrderedDict()
        self._cancel_timer: Callable[[], None] | None = None
        self._kinds_reported_blocking: Final[set[object]] = set()

    def add(self, run: Run, job: AbstractJob[Any], failure: Failure, hint: str | None = None) -> None:
        """Log or count the failure of a job. A `First` that fails reports the failures of its jobs.

        Args:
            run: the run of the job.
            job: the job.
            failure: its exception.
            hint: advice to add to the log line; None if there is none.

        """
        stopped = run.culprit is job and run.reason is StopReason.CRITICAL
        name = shorten(run.scheduler.label)
        # The failure of its member has been logged.
        if is_scheduler(job) and failed_through_member(job):
            if stopped and is_logged(job):
                cause = (culprit_chain(job) or [job])[-1]
                self._warn(
                    f"'{_job_path(job)}' failed because of '{_job_path(cause)}'; the run of {name!r} stops",
                    kind=(failure_kind(cause, cause._outcome), "because"),
                )
            return
        if not is_logged(job) or (is_in_first(job, self._run.scheduler) and not stopped):
            return
        now, key, error = self._run.clock(), failure_kind(job, failure), failure.exception
        self._drop_expired(now)
        if key in self._recent_failures:
            self._recent_failures[key].count(job, error)
            # A spent budget keeps all further jobs from running: that is said again once a minute, and at the end.
            if self._cancel_timer is None and key[0] is not BudgetSpent:
                self._cancel_timer = self._run.call_at(now + COUNT_REPORT_DELAY, self._on_timer)
            return
        failed = "did not run" if key[0] is BudgetSpent else "failed"
        self._recent_failures[key] = SimilarFailures(job, error, now + SIMILARITY_PERIOD, failed)
        if stopped:
            consequence = f"it is critical, so the run of {name!r} stops"
        else:
            fate = "the run goes on" if run.cancel_reason is None else "the run is ending"
            consequence = f"it is tolerated, and {fate}" if job._criticality() is False else fate
        advice = "" if hint is None else f" ({hint})"
        remedy = remedy_of(error)
        traceback = None if key[0] is BudgetSpent else failure.traceback
        line = innermost_line(traceback)
        place = None if line is None else printable(shorten(line))
        if traceback is not None and (stopped or run.scheduler.keep_jobs):
            traceback_hint = "; debrief() shows the traceback"
        else:
            traceback_hint = "" if place is None else f"; it was {place}"
        self._warn(
            f"'{_job_path(job)}' {failed}: {one_line_error(error)}{advice}; {consequence}",
            advice=f"{f' ({remedy})' if remedy else ''}{traceback_hint}",
            kind=key,
            place=place,
            traceback=failure.traceback,
        )

    def report_block(self, run: Run, job: AbstractJob[Any] | None, now: float) -> None:
        """Report a job that has just blocked the event loop, but only the first such job of each kind."""
        if job is None or job._started_at is None or now - job._started_at <= MIN_BLOCKING_SECONDS:
            return
        kind = job._failure_kind()
        if kind not in self._kinds_reported_blocking:
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
        self._log_counted([kind for kind in self._recent_failures if kind[0] is not BudgetSpent])

    def _log_counted(self, kinds: Iterable[tuple[object, ...]]) -> None:
        for kind in kinds:
            similar = self._recent_failures[kind]
            if count := similar.count_since_report:
                self._warn(similar.report(), kind=kind, count=count)

    def _warn(self, message: str, **details: Any) -> None:
        _logger.warn(message, about=FAILURE_SUBJECT, is_shown=self._run.is_shown(FAILURE_SUBJECT), **details)


def _message(job: AbstractJob[Any], error: BaseException) -> str:
    """Return the message of an error without the name of the job, which does not make it another one."""
    named = error.job if isinstance(error, BudgetSpent) else job  # the failure of a `First` names one of its jobs
    return " ".join(error_text(error).replace(repr(named.label), "", 1).split())


def _job_path(job: AbstractJob[Any]) -> str:
    return printable(shorten(unescape_path(job.path)))
