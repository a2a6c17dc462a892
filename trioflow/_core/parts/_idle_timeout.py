"""The `idle_timeout` of a scheduler: each event of a job in it, at any depth, is a sign of life."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..base._states import STOPPING, RunPhase, StopReason
from ..run._idle_timeouts import JOB_EVENTS_NOUN, TimeLimit
from ..run._instruments import Instrument
from ..run._part import Part

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ..run._run import Run


class IdleTimeout(Part, Instrument):
    """Stops a run whose jobs have caused no event for `seconds`."""

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
