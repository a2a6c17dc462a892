"""The report of stuck jobs: those that still run some time after they were cancelled, for whatever reason.

The run may wait for such a job forever, and nothing else shows why. A job is cancelled by its own `cancel()`, by its
`timeout` or `idle_timeout`, or because the run or a phase of its ending stops.

trio notifies nobody that a deadline has passed, so a worker is watched from its first call with a `timeout` on, before
its job is cancelled. The timer is set in the next turn of the loop, which calls that do not wait never reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ._run import Run
    from ._worker import Worker

STUCK_REPORT_DELAY: Final = 1.0
"""The time, in seconds, after which a cancelled job that still runs is reported."""
SECONDS_PER_WORKER: Final = 1e-5
"""The time between two checks, in seconds for each worker that is watched: so checks take about 1 % of the time."""


class StuckJobs:
    """Reports the jobs of one run that are stuck, each once.

    The timer is set only while a worker is watched: since its first call with a timeout, or since it was cancelled,
    until it leaves, which it does after each long call. So on a virtual clock, the timer fires no later than something
    else for which a job waits, or if a job is stuck.
    """

    def __init__(self, run: Run) -> None:
        self._run: Final = run
        self.watched: Final[dict[Worker, bool]] = {}  # and whether each was reported
        self.due = math.inf  # the time of the timer
        self._sets_timer = False  # whether the timer is due in this turn, to set itself for what is watched then
        self._stop_timer: Callable[[], None] = lambda: None

    def watch(self, worker: Worker, cancelled_at: float) -> None:
        """Report the current job of a worker, its last one, if it still runs some time after `cancelled_at`.

        A job with `keeps_time=True`, which may take longer, is left out, unless it cannot be interrupted. So are nested
        schedulers, which report their own jobs.
        """
        worker.cancelled_at = min(cancelled_at, worker.cancelled_at)
        job = worker.job
        if job is not None and (job._cannot_be_interrupted is not None or not job._keeps_time):
            self.watched.setdefault(worker, False)
            self._set_timer(worker.cancelled_at + STUCK_REPORT_DELAY)

    def watch_deadline(self, worker: Worker, now: float, end: float) -> None:
        """Watch a worker that begins a call with a timeout now, at whose end it is cancelled."""
        worker.cancelled_at = end
        if worker not in self.watched or end + STUCK_REPORT_DELAY < self.due:
            self.watched[worker] = False
            if end + STUCK_REPORT_DELAY < self.due:
                self._sets_timer = True
                self._set_timer(now)

    def forget(self, worker: Worker) -> None:
        worker.cancelled_at = math.inf
        if self.watched.pop(worker, None) is not None and not self.watched and not self._sets_timer:
            self.stop()

    def stop(self) -> None:
        self._stop_timer()
        self.due = math.inf

    def _set_timer(self, due: float) -> None:
        if due < self.due:
            self._stop_timer()
            self._stop_timer, self.due = self._run.call_at(due, self._check), due

    def _check(self) -> None:
        """Report the jobs that are stuck now; check again when the next one may be."""
        now, self.due, next_due, self._sets_timer = self._run.clock(), math.inf, math.inf, False
        for worker, is_reported in list(self.watched.items()):
            due, job = worker.cancelled_at + STUCK_REPORT_DELAY, worker.job
            if due > now and not is_reported:
                next_due = min(next_due, due)
            elif job is not None and not is_reported:
                self.watched[worker] = True
                text = f"{job.label!r} was cancelled {STUCK_REPORT_DELAY:g} s ago and is still running"
                self._run.report(job, text + _advice(worker, job))
        self._set_timer(max(next_due, now + len(self.watched) * SECONDS_PER_WORKER))


def _advice(worker: Worker, job: AbstractJob[Any]) -> str:
    """Return advice about a stuck job: the remedy for its kind if that cannot be interrupted, otherwise its stack."""
    if job._cannot_be_interrupted is not None:
        return f", and the run waits for it: {job._cannot_be_interrupted}"
    import traceback  # imported late: few runs need it

    stack = "".join(traceback.StackSummary.extract(iter(worker.run.backend.frames(worker))).format())
    return f"; it must let the cancellation propagate, not swallow it or wait in a shielded scope:\n{stack}"
