"""The clean-up phase: after a critical failure or a timeout, jobs with `run_if="failed"` still run.

Those do all of whose requirements have settled, one of them failed; a clean-up job may be such a requirement, and then
the next one starts as soon as it has settled. They run at once, whatever the window is, beside the forever jobs and
services that are still alive, and what becomes of them does not change the result.
"""

from __future__ import annotations

import math
import traceback
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from . import _attempts, _rules, _worker
from ._jobs import AbstractJob
from ._outcomes import UNCALLED
from ._states import JobState, StopReason

if TYPE_CHECKING:
    from ._run import Run

PATIENCE: Final = 1.0
"""Seconds after which a job that does not end is named in the log."""


def is_needed(run: Run) -> bool:
    """Tell whether the run stopped for a reason to clean up after, and has jobs to do so."""
    stopped = run.reason in (StopReason.CRITICAL, StopReason.TIMEOUT)
    return stopped and any(map(_may_clean_up, run.scheduler))


async def clean_up(run: Run) -> None:
    """Run the clean-up jobs of a run that stopped, and return when they have settled."""
    if not is_needed(run):
        return
    phase = CleanUp(run)
    async with run.backend.task_group() as watchers:
        watchers.start_soon(phase.name_those_that_stay)
        async with phase.tasks:
            phase.tasks.cancel_scope.deadline = phase.deadline
            phase.start(job for job, number in phase.pending.items() if not number)
        watchers.cancel_scope.cancel()
    for job in phase.due:  # the deadline came first
        run.cancel_unstarted(job)


def _may_clean_up(job: AbstractJob[Any]) -> bool:
    rule = job._rule
    return rule is not None and rule.run_if == "failed" and not job._forever and job._state is JobState.IDLE


class CleanUp:
    """The phase of one run: what has not started yet waits for nothing but other clean-up jobs, or is not reached."""

    def __init__(self, run: Run) -> None:
        """Count for each clean-up job what it has to wait for."""
        seconds = run.scheduler.cleanup_timeout
        self._run: Final = run
        self.deadline: Final = math.inf if seconds is None else run.clock() + seconds
        self.tasks: Final = run.backend.task_group()
        self.due: Final[deque[AbstractJob[Any]]] = deque()  # SCHEDULED; each has a task that is about to take one
        self.pending: Final[dict[AbstractJob[Any], int]] = {}
        self._followers: Final[dict[AbstractJob[Any], list[AbstractJob[Any]]]] = {}
        self._workers: Final[dict[_worker.Worker, None]] = {}
        for job in filter(_may_clean_up, run.scheduler):
            unsettled = [one for one in run.scheduler._waits_for(job) if not (one._state.is_settled or one._is_ready())]
            self.pending[job] = len(unsettled)
            for one in unsettled:
                self._followers.setdefault(one, []).append(job)

    def start(self, jobs: Iterable[AbstractJob[Any]]) -> None:
        """Start those of `jobs`, all of whose requirements have settled, that their rule lets run."""
        if self._run.clock() >= self.deadline:
            return
        for job in jobs:
            assert job._rule is not None
            if _rules.judge(job, job._rule)[0] is JobState.SCHEDULED:
                self._run.schedule(job)
                self.due.append(job)
                self._run.context.run(self.tasks.start_soon, self._run_next)

    async def _run_next(self) -> None:
        """Run the first of those that are due: tasks begin in any order, jobs do not."""
        job = self.due.popleft()
        worker = _worker.Worker(self._run, has_slot=False)
        self._workers[worker] = None
        await _run_one(worker, job)
        del self._workers[worker]
        self.start(self._released(job))

    def _released(self, job: AbstractJob[Any]) -> Iterable[AbstractJob[Any]]:
        """Count down those that wait for `job`, and return those that wait for nothing else."""
        followers = self._followers.pop(job, [])
        for follower in followers:
            self.pending[follower] -= 1
        return [follower for follower in followers if not self.pending[follower]]

    async def name_those_that_stay(self) -> None:
        """Report the jobs that still run a while after the end of the phase."""
        if self.deadline < math.inf and await self._run.backend.sleep_until(self.deadline + PATIENCE):
            for worker in self._workers:
                if worker.job is not None and not worker.job._limits_itself:  # a nested scheduler names its own
                    self._run.report(worker.job, stuck(worker))


async def _run_one(worker: _worker.Worker, job: AbstractJob[Any]) -> None:
    run = worker.run
    _worker.current.set(worker)
    with run.backend.scope() as worker.scope:
        run.backend.enter(worker)
        run.begin(worker, job)
        awaitable: Any = UNCALLED
        try:
            awaitable = _attempts.run_attempts(worker, job)
            value = await awaitable
            await _worker.look_behind(worker)
        except BaseException as error:
            whole = await _worker.with_what_was_left(worker, error)
            run.settle_error(worker, job, whole, awaitable, run.clock())
        else:
            run.settle(job, JobState.SUCCEEDED, value, run.clock())
        worker.job = None


def stuck(worker: _worker.Worker) -> str:
    """Say which job was cancelled a while ago and does not end, and where it is."""
    assert worker.job is not None
    frames = traceback.StackSummary.extract(iter(worker.run.backend.frames(worker)))
    return (
        f"{worker.job.label!r} was cancelled {PATIENCE:g} s ago and still runs; "
        f"it must let cancellation pass, and not wait in a shielded scope or swallow it:\n{''.join(frames.format())}"
    )
