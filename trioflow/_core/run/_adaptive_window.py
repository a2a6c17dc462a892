"""An instrument that adjusts the size of a run's `Adaptive` window to the outcomes of its jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..admission._window import Adaptive, WindowController
from ..backend import leaf_exceptions
from ..base._states import JobState
from ..job import _errors
from ..job._job_queries import takes_slot
from ._instruments import Instrument

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ._run import Run


class AdaptiveWindow(Instrument):
    """Resizes the window of one run after each success, failure or throttle of a job that has a slot."""

    def __init__(self, run: Run, settings: Adaptive) -> None:
        self._run = run
        self._settings = settings
        self.controller = WindowController(settings)

    def job_scheduled(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        """If the job was throttled and put back into the ready queue, count that as overload."""
        if (
            job._extras is None
            or not job._extras.throttlings
            or not takes_slot(job)
            or scheduler is not self._run.scheduler
        ):
            return
        if issubclass(_errors.Throttled, self._settings.slower_on):
            last = job._extras.throttlings[-1]
            self._count_overload(last.began, last.ended)

    def job_finished(self, scheduler: Any, job: AbstractJob[Any]) -> None:
        """Count the outcome of a job as a success or as overload; other failures do not count."""
        started_at, now = job._started_at, job._finished_at
        if scheduler is not self._run.scheduler or not takes_slot(job) or started_at is None or now is None:
            return
        if self._shows_overload(job):
            self._count_overload(started_at, now)
        elif job._state is JobState.SUCCEEDED:
            self.controller.record_success(started_at, now, is_full=self._run.queue.is_full())
            self._run.queue.resize(self.controller.size)

    def after_run(self, scheduler: Any) -> None:
        """Drop the reference to the run, which has ended, to break a reference cycle."""
        if scheduler is self._run.scheduler:
            del self._run

    def _count_overload(self, started_at: float, now: float) -> None:
        self.controller.record_overload(started_at, now)
        self._run.queue.resize(self.controller.size)

    def _shows_overload(self, job: AbstractJob[Any]) -> bool:
        slower_on = self._settings.slower_on
        if job.timed_out and issubclass(_errors.JobTimeout, slower_on):
            return True
        error = job.raised_exception() if job._state is JobState.FAILED else None
        return error is not None and any(isinstance(leaf, slower_on) for leaf in leaf_exceptions(error))
