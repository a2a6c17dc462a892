"""The log of failed jobs: one line for each text, and later a count of more failures with the same text.

Failures are alike if the jobs have the same function (or program, or class), the exceptions the same type and text, and
both stop their run or neither does. The first is logged when it happens. Like ones are only counted for a minute,
because a thousand equal lines would hide the others; their number is logged after a second, and at the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..base import _logger
from ..base._states import StopReason
from ..job._job import AbstractJob, is_scheduler
from ..job._labels import printable, shortened
from ..job._outcome import in_one_line, text_of

if TYPE_CHECKING:
    from ._run import Run

COUNT_DELAY: Final = 1.0
"""Seconds after which failures that were only counted are logged."""
FORGET_AFTER: Final = 60.0
"""Seconds after which a failure is logged with its text again."""
BLOCKED_SECONDS: Final = 1.0
"""The limit for a job that blocks the event loop: after more seconds it is named in the log."""


MAX_NAMED: Final = 5
"""The most jobs named in a line about several."""
FAILURE: Final = "failure"


class LikeFailures:
    """A failure that was logged: its job, its expiry, and the like ones that have only been counted since."""

    __slots__ = ("expires_at", "first", "number", "path")

    def __init__(self, path: str, expires_at: float) -> None:
        self.path: Final = path
        self.expires_at: Final = expires_at
        self.number = 0
        self.first: Final[list[str]] = []

    def count(self, path: str) -> None:
        """Count a failure that is not logged."""
        self.number += 1
        if len(self.first) < MAX_NAMED:
            self.first.append(path)

    def report(self, error: type) -> str:
        """Return the line about the counted failures, and restart the count."""
        number, first = self.number, self.first.copy()
        self.number = 0
        self.first.clear()
        if set(first) == {self.path}:  # attempts of a nested scheduler
            return (
                f"'{self.path}' failed {'once more' if number == 1 else f'{number} more times'} with {error.__name__}"
            )
        jobs = "one more job" if number == 1 else f"{number} more jobs"
        more = f" and {number - MAX_NAMED} more" if number > MAX_NAMED else ""
        names = ", ".join(f"'{path}'" for path in first) + more
        return f"{jobs} failed with {error.__name__} like '{self.path}': {names}"


class FailureLog:
    """The failures in one outermost run, including those in nested runs."""

    __slots__ = ("_blocked", "_cancel_timer", "_logged", "_run")

    def __init__(self, run: Run) -> None:
        self._run: Final = run  # the outermost one
        # By the key of like failures, the oldest first: job, type and text of the error, whether it stops its run.
        self._logged: Final[dict[tuple[object, type, str, bool], LikeFailures]] = {}
        self._cancel_timer: Callable[[], None] | None = None
        self._blocked: Final[set[object]] = set()  # the kinds of jobs that have blocked the loop

    def add(self, run: Run, job: AbstractJob[Any], error: BaseException, hint: str | None = None) -> None:
        """Log or count the failure of a job of `run`, which may have stopped that run."""
        if not run.scheduler.logs_failures:
            return
        name = shortened(run.scheduler.label)
        stopped = run.culprit is job and run.reason is StopReason.CRITICAL
        if is_scheduler(job) and job.stop_reason is StopReason.CRITICAL:  # its member's failure has been logged
            if stopped:
                _logger.warn(
                    f"'{_path(job)}' failed because of '{_culprit(job)}'; the run of {name!r} stops", about=FAILURE
                )
            return
        path, now = _path(job), self._run.clock()
        alike = (job._failure_kind(), type(error), text_of(error).replace(repr(job.label), ""), stopped)
        self._forget(now)
        if alike in self._logged:
            self._logged[alike].count(path)
            if self._cancel_timer is None:
                self._cancel_timer = self._run.group.call_at(now + COUNT_DELAY, self._log_counted)
            return
        self._logged[alike] = LikeFailures(path, now + FORGET_AFTER)
        consequence = f"it is critical, so the run of {name!r} stops" if stopped else "the run goes on"
        advice = "" if hint is None else f" ({hint})"
        hint = "; debrief() shows the traceback" if stopped or run.scheduler.keep_jobs else ""
        _logger.warn(f"'{path}' failed: {in_one_line(error)}{advice}; {consequence}", advice=hint, about=FAILURE)

    def report_block(self, run: Run, job: AbstractJob[Any] | None, now: float) -> None:
        """Report a job of `run` that has just ended, if it blocked the event loop; once for each kind."""
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
        """Forget failures logged a minute ago: memory must stay bounded in a run of a year."""
        while self._logged:
            alike, oldest = next(iter(self._logged.items()))
            if oldest.expires_at > now or oldest.number:
                return
            del self._logged[alike]

    def _log_counted(self) -> None:
        self._cancel_timer = None
        for (_, error, _, _), alike in self._logged.items():
            if alike.number:
                _logger.warn(alike.report(error), about=FAILURE)


def _culprit(scheduler: AbstractJob[Any]) -> str:
    """Return the path of the innermost job that stopped the run of `scheduler`."""
    job = scheduler
    while is_scheduler(job) and job.culprit is not None:
        job = job.culprit
    return _path(job)


def _path(job: AbstractJob[Any]) -> str:
    return printable(shortened(job.path))
