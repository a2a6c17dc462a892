"""What is logged about failed jobs, so that no failure is silent: one line for each kind at once, then counts.

Failures are of the same kind if the jobs have the same function (or program, or class) and the exceptions the same
type. The first failure of a kind is logged when it happens, and each one that stops a run. Further ones are only
counted, because a thousand equal lines would hide what matters: those of other jobs, and those of a job that has failed
before, in an earlier attempt of a nested scheduler. Their number is logged after a second, and at the end of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from ..base import _log
from ..base._states import StopReason
from ..job._job import AbstractJob, is_scheduler
from ..job._labels import printable, shortened
from ..job._outcome import in_one_line

if TYPE_CHECKING:
    from ._run import Run

PAUSE: Final = 1.0
"""Seconds after which failures that were only counted are logged."""
BLOCKED_SECONDS: Final = 1.0
"""A job that keeps the event loop from turning for longer is named in the log: nothing else goes on meanwhile."""


NAMED: Final = 5
"""Jobs that are named in a line about more of them."""
FAILURE: Final = "failure"


class Counted:
    """Failures that have not been logged: how many, and the jobs that were the first of them."""

    __slots__ = ("first", "number")

    def __init__(self) -> None:
        self.number = 0
        self.first: Final[list[str]] = []

    def names(self) -> str:
        """Return the jobs, of many the first."""
        more = f" and {self.number - NAMED} more" if self.number > NAMED else ""
        return ", ".join(f"'{path}'" for path in self.first) + more


class FailureLog:
    """The failures in one outermost run, including those in nested runs."""

    __slots__ = ("_blocked", "_cancel_timer", "_counted", "_first", "_logged", "_run")

    def __init__(self, run: Run) -> None:
        self._run: Final = run  # the outermost one
        # For each kind the path of the first job; and the paths of the jobs that have a line of their own.
        self._first: Final[dict[tuple[object, type], str]] = {}
        self._logged: Final[WeakKeyDictionary[AbstractJob[Any], str]] = WeakKeyDictionary()
        # The failures that have not been logged yet, of a kind, and of a job that has a line of its own.
        self._counted: Final[dict[tuple[tuple[object, type], str | None], Counted]] = {}
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
                _log.warn(
                    f"'{_path(job)}' failed because of '{_culprit(job)}'; the run of {name!r} stops", about=FAILURE
                )
            return
        kind = job._failure_kind(), type(error)
        logged = self._logged.get(job)
        if kind in self._first and (logged is not None or not stopped):
            counted = self._counted.setdefault((kind, logged), Counted())
            counted.number += 1
            if len(counted.first) < NAMED:
                counted.first.append(_path(job))
            if self._cancel_timer is None:
                self._cancel_timer = self._run.group.call_at(self._run.clock() + PAUSE, self._log_counted)
            return
        path = self._first[kind] = self._logged[job] = _path(job)
        consequence = f"it is critical, so the run of {name!r} stops" if stopped else "the run goes on"
        advice = "" if hint is None else f" ({hint})"
        look = "; debrief() shows the traceback" if stopped or run.scheduler.keep_jobs else ""
        _log.warn(f"'{path}' failed: {in_one_line(error)}{advice}; {consequence}", advice=look, about=FAILURE)

    def note_block(self, run: Run, job: AbstractJob[Any] | None, now: float) -> None:
        """Report a job of `run` that has just ended, if it let nobody else run for too long; once for each kind."""
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
        """Log at the end of the run what was only counted."""
        if self._cancel_timer is not None:
            self._cancel_timer()
            self._log_counted()

    def _log_counted(self) -> None:
        self._cancel_timer = None
        for (kind, logged), counted in self._counted.items():
            number = counted.number
            if logged is not None:
                times = "once more" if number == 1 else f"{number} more times"
                text = f"'{logged}' failed {times} with {kind[1].__name__}"
            else:
                jobs = "one more job" if number == 1 else f"{number} more jobs"
                text = f"{jobs} failed with {kind[1].__name__} like '{self._first[kind]}': {counted.names()}"
            _log.warn(text, about=FAILURE)
        self._counted.clear()


def _culprit(scheduler: AbstractJob[Any]) -> str:
    """Return the path of the innermost job that stopped the run of `scheduler`."""
    job = scheduler
    while is_scheduler(job) and job.culprit is not None:
        job = job.culprit
    return _path(job)


def _path(job: AbstractJob[Any]) -> str:
    return printable(shortened(job.path))
