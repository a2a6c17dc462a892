"""The log of failed jobs: one line for the first of many similar failures, and later the number of the others.

Two failures are similar if the jobs have the same function (or program, or class), the exceptions have the same type
and text, and both stop their run or neither does. The first one is logged at once. For a minute, similar failures are
only counted, because a thousand equal lines would hide the others. Their number is logged after a second, and again at
the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..base import _logger
from ..base._states import StopReason
from ..job._job import AbstractJob, is_scheduler
from ..job._labels import printable, shorten
from ..job._outcome import error_text, one_line_error

if TYPE_CHECKING:
    from ._run import Run

COUNT_DELAY: Final = 1.0
"""Seconds after which the number of counted failures is logged."""
FORGET_AFTER: Final = 60.0
"""Seconds after which a similar failure is logged in full again."""
BLOCKED_SECONDS: Final = 1.0
"""Seconds for which a job may block the event loop before the log names it."""
MAX_NAMED: Final = 5
"""The maximum number of jobs that one line names."""
FAILURE: Final = "failure"
"""The `about` of these log records."""


class SimilarFailures:
    """A failure that was logged, and the count of similar failures since then."""

    __slots__ = ("expires_at", "first_paths", "number", "path")

    def __init__(self, path: str, expires_at: float) -> None:
        self.path: Final = path
        self.expires_at: Final = expires_at
        self.number = 0  # similar failures since the last report
        self.first_paths: Final[list[str]] = []  # the jobs of the first few of these

    def count(self, path: str) -> None:
        """Count a similar failure."""
        self.number += 1
        if len(self.first_paths) < MAX_NAMED:
            self.first_paths.append(path)

    def report(self, error: type) -> str:
        """Return the log line about the counted failures, and reset the count."""
        number, paths = self.number, self.first_paths.copy()
        self.number = 0
        self.first_paths.clear()
        if set(paths) == {self.path}:  # attempts of a nested scheduler
            return (
                f"'{self.path}' failed {'once more' if number == 1 else f'{number} more times'} with {error.__name__}"
            )
        jobs = "one more job" if number == 1 else f"{number} more jobs"
        more = f" and {number - MAX_NAMED} more" if number > MAX_NAMED else ""
        names = ", ".join(f"'{path}'" for path in paths) + more
        return f"{jobs} failed with {error.__name__} like '{self.path}': {names}"


class FailureLog:
    """Logs the failures in an outermost run and in all runs nested in it."""

    __slots__ = ("_blocked", "_cancel_timer", "_logged", "_run")

    def __init__(self, run: Run) -> None:
        self._run: Final = run  # the outermost one
        # By kind of job, type and text of the error, and whether it stops its run; the oldest first.
        self._logged: Final[dict[tuple[object, type, str, bool], SimilarFailures]] = {}
        self._cancel_timer: Callable[[], None] | None = None
        self._blocked: Final[set[object]] = set()  # the kinds of jobs that were reported for blocking the loop

    def add(self, run: Run, job: AbstractJob[Any], error: BaseException, hint: str | None = None) -> None:
        """Log or count the failure of a job of `run`; `hint` is advice for the log line."""
        if not run.scheduler.logs_failures:
            return
        name = shorten(run.scheduler.label)
        stopped = run.culprit is job and run.reason is StopReason.CRITICAL
        if is_scheduler(job) and job.stop_reason is StopReason.CRITICAL:  # the failure of its member was logged
            if stopped:
                _logger.warn(
                    f"'{_path(job)}' failed because of '{_culprit(job)}'; the run of {name!r} stops", about=FAILURE
                )
            return
        path, now = _path(job), self._run.clock()
        key = (job._failure_kind(), type(error), error_text(error).replace(repr(job.label), ""), stopped)
        self._forget(now)
        if key in self._logged:
            self._logged[key].count(path)
            if self._cancel_timer is None:
                self._cancel_timer = self._run.group.call_at(now + COUNT_DELAY, self._log_counted)
            return
        self._logged[key] = SimilarFailures(path, now + FORGET_AFTER)
        consequence = f"it is critical, so the run of {name!r} stops" if stopped else "the run goes on"
        advice = "" if hint is None else f" ({hint})"
        hint = "; debrief() shows the traceback" if stopped or run.scheduler.keep_jobs else ""
        _logger.warn(f"'{path}' failed: {one_line_error(error)}{advice}; {consequence}", advice=hint, about=FAILURE)

    def report_block(self, run: Run, job: AbstractJob[Any] | None, now: float) -> None:
        """Report a job of `run` if it has just blocked the event loop; only the first one of each kind."""
        if job is None or job._started_at is None or now - job._started_at <= BLOCKED_SECONDS:
            return
        kind = job._failure_kind()
        if kind not in self._blocked:
            self._blocked.add(kind)
            run.report(
                job,
                f"'{_path(job)}' held the event loop for {now - job._started_at:.1f} s: meanwhile no other job went "
                f"on, and no timeout was kept; make it a ThreadJob, or a ProcessJob if it computes",
            )

    def close(self) -> None:
        """Log the counted failures at the end of the run."""
        if self._cancel_timer is not None:
            self._cancel_timer()
            self._log_counted()

    def _forget(self, now: float) -> None:
        """Drop expired failures, so that memory stays bounded even in a run of a year."""
        while self._logged:
            key, oldest = next(iter(self._logged.items()))
            if oldest.expires_at > now or oldest.number:
                return
            del self._logged[key]

    def _log_counted(self) -> None:
        self._cancel_timer = None
        for (_, error, _, _), similar in self._logged.items():
            if similar.number:
                _logger.warn(similar.report(error), about=FAILURE)


def _culprit(scheduler: AbstractJob[Any]) -> str:
    """Return the path of the innermost culprit of the stop of `scheduler`."""
    job = scheduler
    while is_scheduler(job) and job.culprit is not None:
        job = job.culprit
    return _path(job)


def _path(job: AbstractJob[Any]) -> str:
    return printable(shorten(job.path))
