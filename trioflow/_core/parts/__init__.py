"""The parts that a run may have; see `Part` in `run/_instruments`.

A run gets them when it is made, and knows none by name. The small ones are here: windows that adapt, the
`idle_timeout` of a scheduler, and the hold of a run with `hold=True`.
"""

from __future__ import annotations

import math
import os
from typing import Any

from ..admission._window import Adaptive, WindowController
from ..base._states import STOPPING, JobState, RunPhase, StopReason
from ..base._user_code import leaf_exceptions
from ..job import _errors
from ..job._job import AbstractJob, has_moved_on, takes_slot
from ..run._idle_timeouts import JOB_EVENTS_NOUN, TimeLimit
from ..run._instruments import Instrument, Part
from ..run._run import Pause, Run
from ._first_rule import FirstRule
from ._settled_calls import SettledCalls


def make_parts(run: Run, window: Any) -> tuple[Part, ...]:
    """Return the parts that the options of a run ask for, in the order in which the run asks them."""
    scheduler = run.scheduler
    parts: list[Part] = []
    if isinstance(window, Adaptive):  # it comes first, so that the others see the new size
        parts.append(AdaptiveWindow(run, window))
    if scheduler._enough is not None:
        parts.append(FirstRule(run, scheduler._enough, scheduler._stagger))
    if scheduler._on_settled is not None:
        parts.append(SettledCalls(run, scheduler._on_settled))
    if scheduler._options.idle_timeout is not None:
        parts.append(IdleTimeout(run, scheduler._options.idle_timeout))
    if scheduler._hold:
        parts.append(Hold(run))
    return tuple(parts)


class AdaptiveWindow(Part, Instrument):
    """Resizes the `Adaptive` window of one run after each attempt of a job that has a slot."""

    def __init__(self, run: Run, settings: Adaptive) -> None:
        self._run = run
        self._settings = settings
        self.controller = WindowController(settings)

    def job_scheduled(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        """If the job was put back into the ready queue after an attempt that shows overload, count that attempt."""
        attempt = None if job._extras is None else job._extras.ended_attempt
        if attempt is not None and self._is_counted(scheduler, job):
            began, ended, error = attempt
            if self._shows_overload(error):
                self._count_overload(began, ended)

    def job_finished(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        """Count the last attempt of a job as a success or as overload; other failures do not count.

        Clean-up jobs have no slot, so they are not counted.
        """
        began, ended = job._started_at, job._finished_at
        if began is None or ended is None or job not in self._run.queue.holders or not self._is_counted(scheduler, job):
            return
        if job._state is JobState.FAILED:
            if self._shows_overload(job.raised_exception()):
                self._count_overload(began, ended)
        elif has_moved_on(job) and issubclass(_errors.JobTimeout, self._settings.slower_on):
            self._count_overload(began, ended)
        elif job._state is JobState.SUCCEEDED:
            self.controller.record_success(began, ended, is_full=self._run.queue.is_full())
            self._run.queue.size = self.controller.size

    def _count_overload(self, started_at: float, now: float) -> None:
        self.controller.record_overload(started_at, now)
        self._run.queue.size = self.controller.size

    def _is_counted(self, scheduler: Any, job: AbstractJob[Any]) -> bool:
        return takes_slot(job) and scheduler is self._run.scheduler

    def _shows_overload(self, error: BaseException | None) -> bool:
        return error is not None and any(isinstance(leaf, self._settings.slower_on) for leaf in leaf_exceptions(error))


class IdleTimeout(Part, Instrument):
    """Stops a run whose jobs, at any depth, have caused no event for `seconds`."""

    def __init__(self, run: Run, seconds: float) -> None:
        self._run = run
        self._seconds = seconds
        self._limit: TimeLimit | None = None
        self.has_stopped_run = False

    def enter(self, phase: RunPhase) -> None:
        run, limit = self._run, self._limit
        if phase is RunPhase.RUNNING:
            limit = TimeLimit(
                run, run.scheduler, JOB_EVENTS_NOUN, timeout=None, idle_timeout=self._seconds, end_call=self._stop_run
            )
            self._limit = limit.__enter__()
        elif phase is STOPPING and limit is not None:
            limit._stop()
            self._limit = None

    def _stop_run(self) -> None:
        self.has_stopped_run = self._run.reason is None
        self._run.stop(StopReason.TIMEOUT)

    def _renew(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        if self._limit is not None:
            self._limit._renew()

    job_added = job_scheduled = job_attempt = job_ready = job_finished = _renew


def has_idled(run: Run) -> bool:
    """Return whether the `idle_timeout` of its scheduler has stopped a run."""
    part = run.part(IdleTimeout)
    return part is not None and part.has_stopped_run


class Hold(Part):
    """Holds a run where it would end with failures that count, so that they can be mended.

    It does so until there are jobs to run again, or `resume()` is called.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._is_released = False  # whether `resume()` was called, since when no job has been added or tried again

    def is_busy(self) -> bool:
        """Return whether all jobs have settled, with failures that count; a spent budget alone holds nothing."""
        run = self._run
        has_failed = run.failures.unblocked_number > 0 and run.phase is RunPhase.RUNNING and not self._is_released
        return has_failed and not (
            run.waits_for_jobs() or any(part.is_busy() for part in run.parts if part is not self)
        )

    def due_at(self) -> float:
        return math.inf if self.is_busy() is (self._run.hold is not None) else self._run.clock()

    def turn(self) -> None:
        """Begin or end to hold the run."""
        run = self._run
        self._is_released &= not run.waits_for_jobs()
        if self.is_busy() is (run.hold is not None):
            return
        run.hold = None if run.hold is not None else Pause(run.clock(), "hold=True")
        run.record_pause()
        if run.hold is not None:
            advice = (
                f"try_again() or `trioflow look {os.getpid()} --retry` tries them again, resume() or --resume ends it"
            )
            message = f"the run of {run.scheduler.label!r} has failures, and is held"
            run.report(None, message, advice=f": {advice}", is_steering=True)

    def on_added(self) -> None:
        self.turn()

    def on_resumed(self) -> None:
        self._is_released = self._run.hold is not None
        self._run.wake()
