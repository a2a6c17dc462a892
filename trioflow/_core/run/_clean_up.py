"""The clean-up phase: after a critical failure or a timeout, jobs with `run_if="failed"` can still run.

A clean-up job runs if all its requirements have settled and at least one of them failed. If it requires another
clean-up job, it starts after that job. Clean-up jobs wait neither for a slot nor for their needs, even if this exceeds
the total of a resource. Forever jobs, including services, keep running during this phase. The outcomes of clean-up jobs
do not change the result of the run.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from ..base._states import DRAINING, JobState, StopReason
from ..job import _trigger_rules
from ..job._ancestors import enclosing_schedulers
from ..job._job import AbstractJob
from ..job._outcome import UNCALLED, CancelledOutcome, unawaited_coroutine_error
from . import _attempts
from ._current import apply_context, current_worker_var
from ._requirement_counts import link
from ._worker import Worker

if TYPE_CHECKING:
    from ..admission.policy._policy import HeapEntry
    from ._run import Run

STUCK_REPORT_DELAY: Final = 1.0
"""The time, in seconds, after which a cancelled job that still runs is reported."""


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


class CleanUp:
    def __init__(self, run: Run) -> None:
        self.run: Final = run
        self._deadline: Final = run.deadline_in(run.scheduler.cleanup_timeout)
        self.group: Final = run.backend.isolation.group_class(
            run.backend, CleanUpWorker.work, self._deadline, run.context, run.group.variables
        )
        self._workers: Final[dict[Worker, None]] = {}
        self._ready: Final[list[HeapEntry]] = []  # a heap of the jobs that may start, with some that were cancelled
        self._jobs: Final = {job: run.members.all_requirements(job) for job in run.scheduler if may_clean_up(run, job)}

    async def execute(self) -> None:
        """Run the clean-up jobs, and return when they have settled.

        They are linked anew to what they require, because nothing is counted down while a run stops.
        """
        for requirement in itertools.chain.from_iterable(self._jobs.values()):
            requirement._successors = None
        for job, requirements in self._jobs.items():
            job._pending = 0
            link(job, requirements)
        self.run.requirement_counts.clean_up = self
        try:
            await self.group.run(self._wait_until_settled)
        finally:  # also if asyncio cancels all tasks of the loop
            for *_, job in sorted(self._ready):  # these jobs had not started at the deadline
                if job._state is JobState.SCHEDULED:
                    self.run.cancel_unstarted(job)

    async def _wait_until_settled(self) -> None:
        """Start the jobs, and wait for all of them; report those that still run some time after the deadline."""
        cancel_at, report_at = self._deadline, self._deadline + STUCK_REPORT_DELAY
        self._start(job for job in self._jobs if not job._pending)
        with self.run.backend.create_scope() as scope:
            scope.shield = True  # at the deadline, only the jobs are cancelled
            while self._workers:
                # If it returns False, asyncio cancels all tasks of the loop.
                if not await self.run.wait_for_change(min(cancel_at, report_at)) or self.run.clock() >= cancel_at:
                    cancel_at = math.inf
                    self._cancel()
                if self.run.clock() >= report_at:
                    report_at = math.inf
                    report_stuck(self.run, self._workers)
        self.run.requirement_counts.clean_up = None  # a forever job that settles from now on starts no other

    def _cancel(self) -> None:
        self.group.cancel(self._workers)
        for worker in self._workers:
            worker.stop_nested_run()

    def _start(self, jobs: Iterable[AbstractJob[Any]]) -> None:
        """Start those jobs that may run by their rules; after the deadline, start none.

        All requirements of the jobs must have settled, or be services that are ready.
        """
        if self.run.clock() >= self._deadline or self.group.is_cancelled():
            return
        for job in jobs:
            if _trigger_rules.decide(job)[0] is JobState.SCHEDULED:
                self.run.schedule((job,), clean_up=self._push)
                self._spawn(CleanUpWorker(self))

    def repeat(self, job: AbstractJob[Any]) -> None:
        """Make another attempt of a running job, in a new task, which has the context variables of the run."""
        job._worker = worker = CleanUpWorker(self)
        worker.job = job
        self._spawn(worker)

    def _spawn(self, worker: CleanUpWorker) -> None:
        self._workers[worker] = None
        self.group.spawn(worker)

    def on_worker_left(self, worker: CleanUpWorker) -> None:
        if worker in self._workers:
            if worker.job is not None:  # its attempt has not begun
                self.run.cancel_unstarted(worker.job)
            del self._workers[worker]
            self.group.forget(worker)
            self.run.wake()
            self.run.workers.ensure_searcher()  # it passes on what the job had to other runs

    def _push(self, job: AbstractJob[Any]) -> None:
        """Grant a job its needs, before those of any job that becomes ready later; let it start in the order."""
        self.run.queue.grant_at_once(job)
        heapq.heappush(self._ready, self.run.queue.make_entry(job))

    def take(self) -> AbstractJob[Any] | None:
        """Remove the next job that may start, and return it; None if there is none."""
        jobs = (heapq.heappop(self._ready)[2] for _ in range(len(self._ready)))
        return next((job for job in jobs if job._state is JobState.SCHEDULED), None)

    def count_down(self, successors: Iterable[AbstractJob[Any]]) -> None:
        """Count down the clean-up jobs among those that waited for a job; start those that wait for no other."""
        waiting = [job for job in successors if job in self._jobs]
        for job in waiting:
            job._pending -= 1
        self._start(job for job in waiting if not job._pending)


class CleanUpWorker(Worker):
    """The task of one clean-up job, in the group of the clean-up phase."""

    __slots__ = ("_clean_up",)

    def __init__(self, clean_up: CleanUp) -> None:
        super().__init__(clean_up.run)
        self.group = clean_up.group
        self._clean_up: Final = clean_up

    def leave_unstarted(self, _task: Any = None) -> None:
        self._clean_up.on_worker_left(self)

    async def work(self) -> None:
        """Run the first ready job, so that jobs start in order although tasks begin in any order; or repeat one."""
        run = self.run
        current_worker_var.set(self)
        run.backend.isolation.attach_current_task(self)
        # On asyncio, the first step of a cancelled task runs, too.
        was_cancelled = self.was_cancelled_alone or run.backend.isolation.was_cancelled(self)
        job, is_first_attempt = self.job, self.job is None
        if is_first_attempt and not was_cancelled:
            job = self._clean_up.take()
            if job is not None:
                self.job, job._worker, job._started_at, job._state = job, self, run.clock(), JobState.RUNNING
        if job is None or was_cancelled:  # the job was cancelled meanwhile, or will be
            self._clean_up.on_worker_left(self)
            return
        run.backend.name_task(self.task, job.label)
        if job._extras is not None and job._extras.context is not None:
            apply_context(job._extras.context)
        notify_start, _, _ = run.fast_hooks
        awaitable: Any = UNCALLED
        value: Any = None
        error: BaseException | None = None
        try:
            if notify_start is not None and is_first_attempt:
                notify_start(run.scheduler, job)
            awaitable = _attempts.call_job(self, job)
            value = await awaitable
            if value.__class__ is CoroutineType:
                raise unawaited_coroutine_error(job.label, value)
        except BaseException as raised:
            error = raised
        try:
            if error is None or not await self._will_repeat(job, error):
                await self._settle_other(job, awaitable, value, error, run.clock())
        except BaseException as fault:  # an error of the engine itself
            run.abandon(self, fault)
        error = self.job = None
        self._clean_up.on_worker_left(self)

    async def _will_repeat(self, job: AbstractJob[Any], error: BaseException) -> bool:
        """Repeat a job that has failed, after its pause, without queueing it again; return whether this is possible.

        Clean-up jobs wait for nothing. If the pause is cancelled, settle the job as CANCELLED.
        """
        run, failed_at = self.run, self.run.clock()
        pause = _attempts.take_pause(job)
        if pause is None or not isinstance(error, Exception):
            return False
        await self.with_leftovers(error)
        if await run.backend.wait_until(failed_at + pause):
            run.begin_retry(job, failed_at)
            self._clean_up.repeat(job)
        else:
            run.settle(job, JobState.CANCELLED, CancelledOutcome(), run.clock())
        return True


def report_stuck(run: Run, workers: Iterable[Worker]) -> None:
    """Report the jobs that still run, although they were cancelled `STUCK_REPORT_DELAY` seconds ago.

    Jobs with `keeps_time=True`, which may take longer, are left out, unless they cannot be interrupted. So are nested
    schedulers, which report their own jobs.
    """
    for worker in workers:
        job = worker.job
        if job is not None and (job._cannot_be_interrupted is not None or not job._keeps_time):
            run.report(
                job,
                f"{job.label!r} was cancelled {STUCK_REPORT_DELAY:g} s ago and is still running"
                f"{_stuck_job_advice(worker, job)}",
            )


def _stuck_job_advice(worker: Worker, job: AbstractJob[Any]) -> str:
    """Return advice about a stuck job: the remedy for its kind if that cannot be interrupted, otherwise its stack."""
    if job._cannot_be_interrupted is not None:
        return f", and the run waits for it: {job._cannot_be_interrupted}"
    import traceback  # imported late: few runs need it

    stack = "".join(traceback.StackSummary.extract(iter(worker.run.backend.frames(worker))).format())
    return f"; it must let the cancellation propagate, not swallow it or wait in a shielded scope:\n{stack}"
