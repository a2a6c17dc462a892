"""One execution of one scheduler: which jobs may start, what has become of them, and why it stopped.

`execute` opens the group of tasks, starts the entry jobs and then only waits: the workers (`_worker`) settle their
jobs, count down the successors and go on by themselves. There is no central loop, and nothing is ever looked through
again. When all is settled, or `stop` was called, `_ending` brings the run to its end.

Here alone, and in the worker's shortest path, are the states of jobs written.
"""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING, Any, Final

from . import _checks, _ending, _errors, _growth, _log, _window, _worker
from ._instruments import Observers
from ._jobs import AbstractJob
from ._outcomes import Failure, RunFacts, explain, interruption_in
from ._ready import ReadyQueue
from ._states import JobState, StopReason

if TYPE_CHECKING:
    from ._backend import Backend, Event, Group
    from ._scheduler import BaseScheduler

UNLIMITED: Final = 1 << 60
LAST_TURNS: Final = 16
"""How many turns of the loop forever jobs get, when all others have settled, to take in what is already there."""


class Run:
    """One execution of one scheduler; there from its first check to the end of its shutdown."""

    group: Group  # there from `execute` on

    def __init__(
        self,
        scheduler: BaseScheduler,
        backend: Backend,
        observers: Observers | None,
        timeout: float | None,
        window: Any,
    ) -> None:
        """Prepare a run under the present backend, inside the job that is `scheduler` where there is one."""
        self.scheduler: Final = scheduler
        self.backend: Final = backend
        self.clock: Final = backend.clock()
        self.observers: Final = observers
        self.thread: Final = threading.get_ident()
        self.context: Final = contextvars.copy_context()
        self.outer_worker: Final = scheduler._worker
        self.timeout: Final = timeout
        self.queue: Final = ReadyQueue()
        self.ready: Final = self.queue.jobs
        self.forever_ready: Final = self.queue.forever
        self.turn: Final = _worker.Turn(self.clock())
        self.opened = False  # its group is there, under its deadline
        self.started = False  # it takes jobs and requirements
        # ---- the window: slots that are free, if it is a number; who waits for tokens, if it is a limiter
        self.free: int = window if isinstance(window, int) else UNLIMITED
        self.limiter_window: Final = (
            None if window is None or isinstance(window, int) else _window.LimiterWindow(self, window)
        )
        self.interval: Final = _window.Interval(self, scheduler.start_interval) if scheduler.start_interval else None
        self.gated: Final = self.interval is not None or self.limiter_window is not None
        # ---- the workers. Those that look for a job: while any job is ready that could start, there is one.
        self.searchers = 0
        self.max_searchers: Final = 1 if self.gated else _worker.MAX_SEARCHERS
        self.workers: Final[dict[_worker.Worker, None]] = {}
        self.forever_workers = 0
        # ---- what is left to do. Workers bring `unsettled` up to date when they leave, or wait at a gate.
        self.unsettled = 0
        self.forever_unsettled = 0
        self.had_ordinary = False
        self.failures = 0  # nested ones included
        # ---- the end
        self.stopping = False  # from here on no job starts
        self.reason: StopReason | None = None
        self.culprit: AbstractJob[Any] | None = None
        self.interruption: BaseException | None = None  # leaves `run()` bare
        self.fault: BaseException | None = None  # the engine's own
        self.changed: Event | None = None  # set when `execute`, or the ending, has to look again

    # ---- running

    async def execute(self) -> None:
        """Run all jobs, end the run in order, and raise what interrupted it.

        Raises:
            BaseException: an interruption, bare; or the cancellation that came from outside.

        """
        deadline = math.inf if self.timeout is None else self.clock() + self.timeout
        self.group = self.backend.group(_worker.work, deadline, self._on_deadline, self.context)
        self.opened = True
        await self.group.host(self._body)
        if self.fault is not None:
            raise self.fault
        if self.interruption is not None:
            raise self.interruption

    async def _body(self) -> None:
        try:
            await self._start()
            await self._until_over()
        except (KeyboardInterrupt, SystemExit) as interruption:
            self.interrupt(interruption)
        except BaseException as fault:
            self.crash(fault)
        await _ending.end(self)

    async def pausing(self, steps: Iterator[None]) -> None:
        """Go through long work, letting others run at each of its steps."""
        for _ in steps:
            await self.backend.checkpoint()

    def _on_deadline(self) -> None:
        self.stop(StopReason.TIMEOUT)

    async def _start(self) -> None:
        self.tell("before_run")
        if self.stopping:
            return
        for _ in self._make_entries_ready():
            if not await self.group.turn():
                self.cancelled_outside()
            if self.stopping:
                return
        self.started = True
        self.ensure_workers()

    def _make_entries_ready(self) -> Iterator[None]:
        """Link all jobs and make those ready that wait for nothing; pauses by yielding."""
        yield from _growth.link_all(self.scheduler)
        for number, job in enumerate(self.scheduler, 1):
            self._count(job)
            if not job._pending:
                self.make_ready(job)
            if not number % _checks.BETWEEN_PAUSES:
                yield

    async def _until_over(self) -> None:
        while not self.stopping:
            self.changed = self.backend.event()
            if self.unsettled or not (self.had_ordinary or not self.forever_unsettled):
                if not await self.group.wait(self.changed):
                    self.cancelled_outside()
                continue
            if not (self.forever_workers or self.forever_ready):
                return
            for _ in range(LAST_TURNS):
                if not await self.group.turn():
                    self.cancelled_outside()
            if not self.unsettled:
                return

    def _count(self, job: AbstractJob[Any]) -> None:
        if job._forever:
            self.forever_unsettled += 1
        else:
            self.unsettled += 1
            self.had_ordinary = True

    # ---- workers

    def ensure_workers(self) -> None:
        """See to it that somebody looks for the next job, if one could start."""
        if self.stopping or self.searchers >= self.max_searchers:
            return
        if self.ready and self.free > 0 and not (self.limiter_window and self.limiter_window.has_waiting):
            self.free -= 1
            self._spawn(has_slot=True)
        elif self.forever_ready and not self.searchers:
            self._spawn(has_slot=False)

    def _spawn(self, has_slot: bool) -> None:
        worker = _worker.Worker(self, has_slot)
        self.searchers += 1
        self.workers[worker] = None
        self.group.spawn(worker)

    def leave(self, worker: _worker.Worker) -> None:
        """Let a worker go, and another take its place if there is need."""
        del self.workers[worker]
        self.give_back_slot(worker)
        self.forever_workers -= worker.shielded
        self.ensure_workers()
        if self.changed is not None and (self.stopping or not self.unsettled):
            self.changed.set()

    def give_back_slot(self, worker: _worker.Worker) -> None:
        """Take back the slot or the token that a worker has."""
        if worker.has_slot:
            worker.has_slot = False
            self.free += 1
            if self.limiter_window is not None:
                self.limiter_window.leave(worker)

    def take(self, worker: _worker.Worker) -> AbstractJob[Any] | None:
        """Take the next job that `worker` may run, while forever jobs are among the ready ones."""
        return self.queue.take(worker.has_slot)

    def put_back(self, job: AbstractJob[Any]) -> None:
        """Leave a job that needs a task of its own to a new worker."""
        self.queue.push_first(job)

    async def pass_gates(self, worker: _worker.Worker) -> bool:
        """Wait for the interval between two starts and for a token; False if there is nothing to start."""
        window = self.limiter_window if worker.has_slot else None
        while self.queue.has_any():
            if self.interval is not None and not self.interval.is_over():
                if window is not None:
                    window.give_back(worker)
                if not await self.interval.wait():
                    return False
            elif window is not None and not await window.pass_through(worker):
                return False
            elif self.interval is None or self.interval.is_over():
                return True
        return False

    def note_start(self, now: float) -> None:
        """Take note that a job starts: the interval begins, and if it was the last one nobody waits for a token."""
        if self.interval is not None:
            self.interval.begin(now)
        if self.limiter_window is not None and not self.queue.has_any():
            self.limiter_window.call_off()

    def begin_apart(self, worker: _worker.Worker, job: AbstractJob[Any]) -> Awaitable[Any]:
        """Return what to await for a job that is not the worker's own call of a function."""
        if job._forever:
            self.give_back_slot(worker)
            self.forever_workers += 1
            worker.shield()
            self.ensure_workers()
        if job._limits is None:
            return job.co_run()
        return _worker.attempt(worker, job)

    # ---- settling

    def make_ready(self, job: AbstractJob[Any]) -> None:
        """Take note that all that an IDLE job requires has settled."""
        if job._state is not JobState.IDLE or self.stopping:
            return
        job._state = JobState.SCHEDULED
        self.queue.push(job)
        self.tell("job_scheduled", job)

    def count_settled(self, number: int) -> None:
        """Take note that so many ordinary jobs have settled."""
        self.unsettled -= number
        if self.changed is not None and not self.unsettled:
            self.changed.set()

    def facts(self, job: AbstractJob[Any]) -> RunFacts:
        """Return the place for what few jobs have to tell."""
        job._facts = job._facts or RunFacts()
        return job._facts

    def settle(self, job: AbstractJob[Any], state: JobState, outcome: Any, now: float) -> None:
        """Write a job's final state and outcome, and make those ready that waited for it alone."""
        successors = job._successors or ()
        job._successors = job._worker = None
        job._outcome = outcome
        job._finished_at = now
        job._state = state
        self.tell("job_finished", job)
        if job._facts is not None and job._facts.event is not None:
            job._facts.event.set()
        if job._forever:
            self.forever_unsettled -= 1
        else:
            self.unsettled -= 1
        for successor in successors:
            successor._pending -= 1
            if not successor._pending:
                self.make_ready(successor)
        if self.changed is not None and not self.unsettled:
            self.changed.set()

    def settle_error(
        self, worker: _worker.Worker, job: AbstractJob[Any], error: BaseException, awaitable: Any, now: float
    ) -> None:
        """Decide what it means that `error` left a job."""
        cancelled, error_proper = self.backend.split(error)
        if cancelled and error_proper is None:
            if self.backend.asked_to_end(worker):
                self.settle(job, JobState.CANCELLED, None, now)
                return
            error_proper = _errors.JobCancelled(
                f"{job.label!r} raised a cancellation that nobody asked for: to end a job call its cancel()"
            )
        assert error_proper is not None
        explain(error_proper, job, awaitable, self.backend.hint(error_proper))
        self.failures += 1
        interruption = interruption_in(error_proper)
        if interruption is None and job.is_critical():
            self.stop(StopReason.CRITICAL, job)
        elif interruption is not None:
            self.interrupt(interruption, job)
        self.settle(job, JobState.FAILED, Failure(error_proper), now)

    # ---- stopping

    def stop(self, reason: StopReason, culprit: AbstractJob[Any] | None = None) -> None:
        """Let no job start any more, and cancel those that run; the first reason wins."""
        if self.reason is None:
            if self.opened and self.group.deadline_passed():
                reason, culprit = StopReason.TIMEOUT, None
            self.reason, self.culprit = reason, culprit
        if self.stopping:
            return
        self.stopping = True
        now = self.clock()
        for job in self.queue.drain():
            self.settle(job, JobState.CANCELLED, None, now)
        if self.opened:
            self.group.cancel(self.workers)
        if self.changed is not None:
            self.changed.set()

    def interrupt(self, interruption: BaseException | None, culprit: AbstractJob[Any] | None = None) -> None:
        """Stop because of a KeyboardInterrupt or its like, which leaves the run; None for a signal, which doesn't."""
        self.interruption = self.interruption or interruption
        self.stop(StopReason.INTERRUPTED, culprit)

    def heed_cancellation(self, worker: _worker.Worker) -> None:
        """Stop, before anything is settled, if the task of `worker` was cancelled for no sake of its own.

        trio cancels all tasks at once and resumes them in any order: a worker may be the first to know.
        """
        if not self.stopping and not worker.cancelled_alone and self.backend.asked_to_end(worker):
            self.cancelled_outside()

    def cancelled_outside(self) -> None:
        """Stop because a scope around the run was cancelled, or its deadline has passed."""
        self.stop(StopReason.CANCELLED)

    def crash(self, fault: BaseException) -> None:
        """Stop because of a fault in the engine itself."""
        self.fault = self.fault or fault
        self.stop(StopReason.INTERRUPTED)

    def cancel_job(self, job: AbstractJob[Any]) -> None:
        """End one job, or keep it from starting."""
        self.check_thread(f"cancel() of {job.label!r}")
        if job._worker is not None:
            job._worker.cancel_alone()
        elif not job._state.is_settled:
            self.settle(job, JobState.CANCELLED, None, self.clock())
            self.ensure_workers()

    # ---- growing

    def check_thread(self, what: str) -> None:
        """Refuse use from another thread.

        Raises:
            RuntimeError: this is another thread than that of the run.

        """
        if threading.get_ident() != self.thread:
            raise RuntimeError(
                f"{what}: {self.scheduler.label!r} runs in another thread; call it there, for instance through "
                f"trio.from_thread.run_sync or loop.call_soon_threadsafe"
            )

    def check_growing(self, what: str) -> None:
        """Refuse a change that comes from another thread, or too early or too late.

        Raises:
            RuntimeError: another thread, or the run has not started yet, or is stopping.

        """
        self.check_thread(what)
        if self.stopping or not self.started:
            state = "is stopping" if self.stopping else "has not started yet"
            raise RuntimeError(
                f"{what}: {self.scheduler.label!r} {state}; jobs are added before a run or while it runs"
            )

    def admit(self, jobs: list[AbstractJob[Any]]) -> None:
        """Take up jobs that were just added, their requirements checked."""
        for job in jobs:
            self._count(job)
            _growth.link(job, job._required)
            self.tell("job_added", job)
        for job in jobs:
            if not job._pending:
                self.make_ready(job)
        self.ensure_workers()

    def admit_requirements(self, job: AbstractJob[Any], new: list[AbstractJob[Any]]) -> None:
        """Let a job of the run wait for more; see `AbstractJob.requires`."""
        self.check_growing(f"requires() of {job.label!r}")
        _growth.check_requirements(self.scheduler, job, new)
        _growth.link_late(self.scheduler, job, new)

    # ---- telling

    def tell(self, hook: str, *job: AbstractJob[Any]) -> None:
        """Tell the observers, if there are any."""
        if self.observers is not None:
            self.observers.tell(hook, self.scheduler, *job)

    def report(self, job: AbstractJob[Any] | None, message: str, exception: BaseException | None = None) -> None:
        """Report what belongs to no job's outcome: to the log, to the observers, and for `debrief()`."""
        _log.warn(message, exception)
        self.scheduler._note_incident(job, message, exception)
        if self.observers is not None:
            self.observers.tell("incident", self.scheduler, job, message, exception)
