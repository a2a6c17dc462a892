"""The part that adjusts the size of a run's `Adaptive` window to the outcomes of the attempts of its jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..admission._window import Adaptive, WindowController
from ..backend import leaf_exceptions
from ..base._states import JobState
from ..job import _errors
from ..job._job import is_scheduler
from ..job._job_queries import has_moved_on, last_attempt, takes_slot
from ..run._instruments import Instrument
from ..run._part import Part

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ..run._run import Run


class AdaptiveWindow(Part, Instrument):
    """Resizes the window of one run after each attempt of a job that has a slot."""

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
        """Count the last attempt of a job as a success or as overload; other failures do not count."""
        began, ended = last_attempt(job)
        if began is None or ended is None or not self._is_counted(scheduler, job):
            return
        if job._state is JobState.FAILED:
            if self._shows_overload(job.raised_exception()):
                self._count_overload(began, ended)
        elif has_moved_on(job) and issubclass(_errors.JobTimeout, self._settings.slower_on):
            self._count_overload(began, ended)
        elif job._state is JobState.SUCCEEDED:
            self.controller.record_success(began, ended, is_full=self._run.queue.is_full())
            self._run.queue.resize(self.controller.size)

    def _count_overload(self, started_at: float, now: float) -> None:
        self.controller.record_overload(started_at, now)
        self._run.queue.resize(self.controller.size)

    def _is_counted(self, scheduler: Any, job: AbstractJob[Any]) -> bool:
        """Return whether a job takes a slot of the window: each member does, but of a `First`, its jobs do."""
        if not takes_slot(job) or (is_scheduler(job) and job._enough is not None):
            return False
        while scheduler is not self._run.scheduler and scheduler._enough is not None:
            scheduler = scheduler._scheduler
        return scheduler is self._run.scheduler

    def _shows_overload(self, error: BaseException | None) -> bool:
        return error is not None and any(isinstance(leaf, self._settings.slower_on) for leaf in leaf_exceptions(error))
