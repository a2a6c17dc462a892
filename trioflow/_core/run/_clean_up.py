"""The clean-up phase: after a critical failure or a timeout, jobs with `run_if="failed"` still run.

A clean-up job runs if all its requirements have settled and at least one of them failed. A requirement may itself be a
clean-up job; then the next one starts as soon as it has settled. Clean-up jobs wait neither for the window nor for what
they need of pools, which they take even if there is not enough; and they run
beside the forever jobs and services that are still alive. How they end does not change the result of the run.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from ..base._states import JobState, StopReason
from ..job import _rules
from ..job._job import AbstractJob
from ..job._outcome import UNCALLED
from ._worker import Worker, current

if TYPE_CHECKING:
    from ._run import Run

PATIENCE: Final = 1.0
"""Seconds after which a job that was cancelled and has not ended is named in the log."""


def _may_clean_up(job: AbstractJob[Any]) -> bool:
    rule = job._rule
    return rule is not None and rule.run_if == "failed" and not job._forever and job._state is JobState.IDLE


class CleanUp:
    """The clean-up phase of one run. In it, a job can wait only for other clean-up jobs; else it is not reached."""

    def __init__(self, run: Run) -> None:
        seconds = run.scheduler.cleanup_timeout
        self._run: Final = run
        self._deadline: Final = math.inf if seconds is None else run.clock() + seconds
        self._tasks: Final = run.backend.task_group()
        self._pending: Final[dict[AbstractJob[Any], int]] = {}
        self._followers: Final[dict[AbstractJob[Any], list[AbstractJob[Any]]]] = {}
        self._workers: Final[dict[Worker, None]] = {}
        for job in filter(_may_clean_up, run.scheduler):
            unsettled = [one for one in run.members.waits_for(job) if not (one._state.is_settled or one._is_ready())]
            self._pending[job] = len(unsettled)
            for one in unsettled:
                self._followers.setdefault(one, []).append(job)

    @staticmethod
    def is_needed(run: Run) -> bool:
        """Return whether the run stopped for a reason that calls for cleaning up, and has jobs for it."""
        stopped = run.reason in (StopReason.CRITICAL, StopReason.TIMEOUT)
        return stopped and any(map(_may_clean_up, run.scheduler))

    async def execute(self) -> None:
        """Run the clean-up jobs, and return when they have settled."""
        async with self._run.backend.task_group() as watchers:
            watchers.start_soon(self._report_stuck_jobs)
            async with self._tasks:
                self._tasks.cancel_scope.deadline = self._deadline
                self._start(job for job, number in self._pending.items() if not number)
            watchers.cancel_scope.cancel()
        for job in self._run.queue.drain():  # the deadline came first
            self._run.cancel_unstarted(job)

    def _start(self, jobs: Iterable[AbstractJob[Any]]) -> None:
        """Start those of `jobs` that their rule lets run; all that they require has settled."""
        if self._run.clock() >= self._deadline:
            return
        for job in jobs:
            assert job._rule is not None
            if _rules.judge(job, job._rule)[0] is JobState.SCHEDULED:
                self._run.schedule((job,), clean_up=True)
                self._run.context.run(self._tasks.start_soon, self._run_next)

    async def _run_next(self) -> None:
        """Run the first job of the queue: tasks begin in any order, but jobs start in the order of the queue."""
        run = self._run
        job = run.queue.jobs.take_any()
        worker = Worker(run, has_slot=False)
        self._workers[worker] = None
        current.set(worker)
        with run.backend.scope() as worker.scope:
            run.backend.enter(worker)
            run.begin(worker, job)
            awaitable: Any = UNCALLED
            try:
                awaitable = run.call(worker, job)
                value = await awaitable
                await worker.refuse_what_is_left_open()
            except BaseException as error:
                try:
                    whole = await worker.with_errors_of_what_is_left_open(error)
                    run.settle_error(worker, job, whole, awaitable, run.clock())
                except BaseException as fault:  # an error in the engine itself, as in `Worker.work`
                    run.abandon(worker, fault)
            else:
                run.settle(job, JobState.SUCCEEDED, value, run.clock())
            worker.job = None
        del self._workers[worker]
        self._start(self._released(job))

    def _released(self, job: AbstractJob[Any]) -> Iterable[AbstractJob[Any]]:
        """Count down the jobs that wait for `job`, and return those that wait for nothing else."""
        followers = self._followers.pop(job, [])
        for follower in followers:
            self._pending[follower] -= 1
        return [follower for follower in followers if not self._pending[follower]]

    async def _report_stuck_jobs(self) -> None:
        """Report the jobs that still run `PATIENCE` seconds after the end of the phase."""
        if self._deadline < math.inf and await self._run.backend.sleep_until(self._deadline + PATIENCE):
            for worker in self._workers:
                if worker.job is not None and not worker.job._limits_itself:  # a nested scheduler reports its own jobs
                    self._run.report(worker.job, stuck(worker))


def stuck(worker: Worker) -> str:
    """Return a message about a job that was cancelled `PATIENCE` seconds ago and still runs, with its stack."""
    assert worker.job is not None
    frames = traceback.StackSummary.extract(iter(worker.run.backend.frames(worker)))
    return (
        f"{worker.job.label!r} was cancelled {PATIENCE:g} s ago and still runs; "
        f"it must let the cancellation pass, not swallow it or wait in a shielded scope:\n{''.join(frames.format())}"
    )
