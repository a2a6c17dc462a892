"""The parts that a run may have. See `Part` in `run/_instruments`.

A run gets them when it is made, and knows none by name: the rule of a `First`, the `idle_timeout` of a scheduler, the
hold of a run with `hold=True`, and the calls of `on_job_settled`. A `VariableWindow` makes its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from ..admission._window import VariableWindow
from ..base import _user_code
from ..base._states import STOPPING, RunPhase, StopReason
from ..job import _errors, _job_options
from ..job._job import AnyJob
from ..run._handle import JOB_EVENTS_NOUN, TimeLimit
from ..run._instruments import Instrument, Part
from ..run._run import Run
from ._first_rule import FirstRule

SettledFunction = Callable[[AnyJob], object]
ASYNC_ADVICE: Final = "to await something, let a job iterate: async for job in current_scheduler().as_settled()"


def make_parts(run: Run, window: object) -> tuple[Part, ...]:
    """Return the parts that the options of a run ask for, in the order that the run asks them."""
    scheduler = run.scheduler
    parts: list[Part] = []
    if isinstance(window, VariableWindow):
        # It comes first, so that the others see the new size.
        parts.append(window._make_part(run))
    if scheduler._enough is not None:
        parts.append(FirstRule(run, scheduler._enough, scheduler._stagger))
    if scheduler._on_job_settled is not None:
        parts.append(SettledCalls(run, scheduler._on_job_settled))
    if scheduler._options.idle_timeout is not None:
        parts.append(IdleTimeout(run, scheduler._options.idle_timeout))
    if scheduler._hold:
        parts.append(Hold(run))
    return tuple(parts)


class IdleTimeout(Part, Instrument):
    """Stops a run whose jobs, at any depth, have caused no event for `seconds`."""

    def __init__(self, run: Run, seconds: float) -> None:
        self._run = run
        self._seconds = seconds
        self._limit: TimeLimit | None = None
        self.has_stopped_run = False

    def enter(self, phase: RunPhase) -> None:
        run = self._run
        limit = self._limit
        if phase is RunPhase.RUNNING:
            limit = TimeLimit(
                run,
                run.scheduler,
                JOB_EVENTS_NOUN,
                timeout=None,
                idle_timeout=self._seconds,
                end_call=self._stop_run,
            )
            self._limit = limit.__enter__()
        elif phase is STOPPING and limit is not None:
            limit._stop()
            self._limit = None

    def _stop_run(self) -> None:
        self.has_stopped_run = self._run.fate.reason is None
        self._run.stop(StopReason.TIMEOUT)

    def _renew(self, scheduler: object, job: AnyJob) -> None:
        if self._limit is not None:
            self._limit._renew()

    job_added = job_scheduled = job_attempt = service_ready = job_settled = _renew


def has_idled(run: Run) -> bool:
    """Return whether the `idle_timeout` of its scheduler has stopped a run."""
    part = run.part(IdleTimeout)
    return part is not None and part.has_stopped_run


class Hold(Part):
    """Holds a run where it would end with failures that count, so that they can be mended.

    It does so until there are jobs to run again, or `resume()` is called.
    """

    def __init__(self, run: Run) -> None:
        run.scheduler._begin_hold()
        self._run = run
        # Whether `resume()` was called, since when no job has been added or tried again.
        self._is_released = False

    def is_busy(self) -> bool:
        """Return whether all jobs have settled, with failures that count. A spent budget alone holds nothing."""
        run = self._run
        if (
            not run.failures.unblocked_number
            or run.phase is not RunPhase.RUNNING
            or self._is_released
        ):
            return False
        others = [part for part in run.parts if part is not self]
        return not (run.waits_for_jobs() or any(part.is_busy() for part in others))

    def _is_holding(self) -> bool:
        return self._run.steering.hold is not None

    def due_at(self) -> float:
        if self.is_busy() is self._is_holding():
            return math.inf
        return self._run.clock()

    def act(self) -> None:
        """Begin or end to hold the run."""
        run = self._run
        self._is_released &= not run.waits_for_jobs()
        if self.is_busy() is self._is_holding():
            return
        run.steering.set_hold(run, not self._is_holding())
        if self._is_holding():
            message = f"the run of {run.scheduler.label!r} has failures, and is held"
            advice = f": {run.scheduler._hold_advice()}{run.scheduler._changes_text()}"
            if run.journal_writer is None:
                advice += "; no journal keeps what has succeeded"
            run.report(None, message, advice=advice, is_steering=True)

    def on_added(self) -> None:
        self.act()

    def on_resumed(self) -> None:
        self._is_released = self._is_holding()
        self._run.wake()


def check_on_job_settled(
    value: Any, name: str, subject: _job_options.Subject
) -> SettledFunction | None:
    if value is None:
        return None
    if (
        not callable(value)
        or _user_code.is_generator(value)
        or _user_code.is_async(value)
    ):
        advice = "give a plain function of a job, or None; " + ASYNC_ADVICE
        raise _job_options.bad_value_error(TypeError, value, name, subject, advice)
    return value  # type: ignore[no-any-return]


class SettledCalls(Part):
    """The calls of `on_job_settled`, a function of the user that gets each job of a run in the step that settles it.

    So the job is as it has settled, and nothing has happened since. A job that is tried again comes again when it ends.
    """

    def __init__(self, run: Run, function: SettledFunction) -> None:
        self._run = run
        self._function: Final = function
        self._has_failed = False

    def enter(self, phase: RunPhase) -> None:
        """Tell the ends that were not taken, because the function has raised, and that the next try has kept."""
        if phase is RunPhase.RUNNING and self._run.keeps_succeeded:
            for job in list(self._run.members.jobs):
                if job._extras is not None and job._extras.is_untold:
                    job._extras.is_untold = False
                    self.settled(job)

    def settled(self, job: AnyJob) -> None:
        """Call the function. If it raises an exception, end the run with this exception, and make no more calls.

        In a run that is stopping already, report it, and go on: the function may only have added a job.
        """
        run = self._run
        if self._has_failed:
            job._ensure_extras().is_untold = True
            return
        try:
            result: Any = self._function(job)
            if _errors.is_awaitable(result):
                getattr(result, "close", lambda: None)()
                raise TypeError(f"it returned an awaitable; {ASYNC_ADVICE}")
        except BaseException as error:
            job._ensure_extras().is_untold = True
            # Without the frames of the engine, which would keep the run in memory.
            failure = _errors.Failure(error).exception
            name = f"on_job_settled of {run.scheduler.label!r}"
            what = f"{name} raised {_errors.one_line_error(failure)} for {job.label!r}"
            self._has_failed = run.phase is not STOPPING
            run.stop_with_error(failure, job, what)
