"""The clean-up phase: after a critical failure or a timeout, jobs with `run_if="failed"` can still run.

A clean-up job runs if all its requirements have settled and at least one of them failed. If it requires another
clean-up job, it starts after that job. Clean-up jobs wait neither for a slot nor for their needs, even if this exceeds
the total of a resource. Forever jobs, including services, keep running during this phase. The outcomes of clean-up jobs
do not change the result of the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from ..admission._line import Line
from ..base._states import DRAINING, JobState, StopReason
from ..job import _requirements
from ..job._ancestors import enclosing_schedulers
from ..job._job import AbstractJob
from ._attempts import BackoffTimer, drain_backoffs
from ._worker import Lane

if TYPE_CHECKING:
    from ._run import Run


def may_clean_up(run: Run, job: AbstractJob[Any]) -> bool:
    """Return whether a critical failure or a timeout has stopped the run, and this is a clean-up job that is left."""
    is_left = job._options.run_if == "failed" and not job._options.forever and job._state is JobState.IDLE
    return is_left and run.cancel_reason in (StopReason.CRITICAL, StopReason.TIMEOUT)


def needs_clean_up(run: Run) -> bool:
    return any(may_clean_up(run, job) for job in run.scheduler)


def will_not_start(run: Run, job: AbstractJob[Any], member: AbstractJob[Any]) -> bool:
    """Return whether a job in a member is not reached any more: the run drains, or stops without another attempt."""
    may_come = may_clean_up(run, member) or any(each._options.retry is not None for each in enclosing_schedulers(job))
    return job._state is JobState.IDLE and run.is_draining_or_stopping and (run.phase is DRAINING or not may_come)


class CleanUp(Lane):
    """The clean-up phase of one run: a lane of its own, shielded from the end of the run, with a deadline."""

    def __init__(self, run: Run) -> None:
        super().__init__(run, Line(run, None, behind=run.queue))
        self.deadline: Final = run.deadline_in(run.scheduler.cleanup_timeout)
        self.bounded_by = self
        group_class = run.backend.isolation.group_class
        self.group = group_class(run.backend, self.deadline, run.context, run.group.variables)
        self._jobs: Final = {job: run.members.all_requirements(job) for job in run.scheduler if may_clean_up(run, job)}

    async def execute(self) -> None:
        """Run the clean-up jobs, and return when they have settled."""
        run, run.lane = self.run, self
        try:
            await self.group.run(self._wait_until_settled)
        finally:  # also if asyncio cancels all tasks of the loop
            self.stop()
            run.lane = run.workers
            self.detach()

    async def _wait_until_settled(self) -> None:
        """Start the jobs, and wait for all of them; cancel those that still run at the deadline."""
        run = self.run
        self.start(self._jobs)
        stop_timer = None if self.deadline == math.inf else run.call_at(self.deadline, self.stop)
        with run.backend.create_scope() as scope:
            scope.shield = True  # at the deadline, only the jobs are cancelled
            try:
                while self.alive or self._backoff_until() < math.inf:
                    if not await run.wait_for_change(self._backoff_until()):  # asyncio cancels all tasks of the loop
                        self.stop()
                    elif (backoffs := run.part(BackoffTimer)) is not None:
                        backoffs.turn()
                        self.ensure_searcher()
            finally:
                if stop_timer is not None:
                    stop_timer()
        self.is_closed = True  # a forever job that settles from now on starts no other

    def _backoff_until(self) -> float:
        backoffs = self.run.part(BackoffTimer)
        return math.inf if backoffs is None else backoffs.due_at()

    def stop(self, reason: StopReason = StopReason.TIMEOUT) -> None:
        """Cancel the jobs that run, and keep the others from starting."""
        self.is_closed = True
        for nested in self.cancel():
            nested.stop(StopReason.CANCELLED)
        self.run.settle_apart([*self.queue.drain(), *drain_backoffs(self.run)])
        self.run.wake()

    def start(self, jobs: Iterable[AbstractJob[Any]]) -> None:
        """Start the clean-up jobs among these that wait for no others and may run; after the deadline, start none.

        What they require is looked at anew, because nothing is counted down while a run stops.
        """
        if self.run.clock() < self.deadline and not (self.is_closed or self.group.is_cancelled()):
            due = [job for job in jobs if job in self._jobs and not any(each._holds_back() for each in self._jobs[job])]
            self.run.schedule(job for job in due if _requirements.decide(job)[0] is JobState.SCHEDULED)
            self.ensure_searcher()
