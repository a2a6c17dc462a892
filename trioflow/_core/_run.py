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
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from . import _attempts, _ending, _errors, _growth, _log, _resources, _rules, _worker
from ._crew import Crew
from ._instruments import Observers, tellers
from ._jobs import AbstractJob
from ._options import NO_LIMITS
from ._outcomes import Cut, Failure, RunFacts, explain, interruption_in
from ._ready import ReadyQueue
from ._states import JobState, StopReason

if TYPE_CHECKING:
    from ._backend import Backend, Event, Group
    from ._scheduler import BaseScheduler

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
        self.tellers: Final = tellers(observers)
        self.thread: Final = threading.get_ident()
        self.context: Final = contextvars.copy_context()
        self.variables: Final = tuple(item for item in self.context.items() if item[0] is not _worker.current)
        self.outer_worker: Final = scheduler._worker
        self.timeout: Final = timeout
        self.queue: Final = ReadyQueue()
        self.ready: Final = self.queue.jobs
        self.forever_ready: Final = self.queue.forever
        self.turn: Final[_worker.Turn] = (
            _worker.Turn(self.clock()) if self.outer_worker is None else self.outer_worker.run.turn
        )
        self.opened = False  # its group is there, under its deadline
        self.linked = False  # each job knows what it waits for
        self.started = False  # it takes jobs and requirements
        self.cancelled_early: Final[dict[AbstractJob[Any], None]] = {}  # to be settled as soon as all are linked
        self.crew: Final = Crew(self, window)
        # ---- those whose requirement has settled, and that have not been counted down yet
        self.released: Final[deque[AbstractJob[Any]]] = deque()
        self.releasing = False
        # ---- what is left to do. Workers bring `unsettled` up to date when they leave, or wait at a gate.
        self.unsettled = 0
        self.forever_unsettled = 0
        self.had_ordinary = False
        self.failures = 0  # nested ones included
        self.resources: Final[dict[Any, _resources.Resource]] = {}  # by what made them; of the outermost run alone
        self.opened_block: Callable[[], None] | None = None  # there as long as an `async with` adds jobs; called once
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
        self.group = self.backend.group(_worker.work, deadline, partial(self.stop, StopReason.TIMEOUT), self.context)
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

    async def _start(self) -> None:
        self.tell("before_run")
        if self.stopping:
            return
        for _ in _growth.make_entries_ready(self):
            if not await self.group.turn():
                self.cancelled_outside()
            if self.stopping:
                return
        self.started = True
        if self.opened_block is not None:
            self.opened_block()
        self.crew.ensure_searcher()

    async def _until_over(self) -> None:
        while not self.stopping:
            self.changed = self.backend.event()
            if self._has_to_wait():
                if not await self.group.wait(self.changed):
                    self.cancelled_outside()
                continue
            if not (self.crew.forever_workers or self.forever_ready):
                return
            if await self._last_turns():
                return

    async def _last_turns(self) -> bool:
        """Let forever jobs take in what is already there; False if that has brought new jobs."""
        size, turns = len(self.scheduler), 0
        while turns < LAST_TURNS and not (self.stopping or self.unsettled):
            if not await self.group.turn():
                self.cancelled_outside()
            turns += 1
            if len(self.scheduler) != size:
                size, turns = len(self.scheduler), 0
        return not self.unsettled

    def _has_to_wait(self) -> bool:
        """Tell whether there is more to come: ordinary jobs, a block that may add some, or forever jobs alone."""
        if self.unsettled or self.opened_block is not None:
            return True
        return bool(self.forever_unsettled) and not self.had_ordinary

    def close_block(self) -> None:
        """Take note that the `async with` adds no more jobs."""
        self.opened_block = None
        if self.changed is not None:
            self.changed.set()

    def count(self, ordinary: int, forever: int) -> None:
        """Count so many jobs among those that have to settle."""
        self.unsettled += ordinary
        self.forever_unsettled += forever
        self.had_ordinary = self.had_ordinary or bool(ordinary)

    def schedule(self, job: AbstractJob[Any]) -> None:
        """Write that a clean-up job is about to run."""
        job._state = JobState.SCHEDULED
        self.tell("job_scheduled", job)

    def begin(self, worker: _worker.Worker, job: AbstractJob[Any]) -> None:
        """Write that a clean-up job runs."""
        worker.job, job._worker = job, worker
        job._started_at = self.clock()
        job._state = JobState.RUNNING
        self.tell("job_started", job)
        self.tell("job_attempt", job)

    def cancel_unstarted(self, job: AbstractJob[Any]) -> None:
        """Keep a job from starting."""
        self.settle(job, JobState.CANCELLED, Cut(), self.clock())

    def begin_apart(self, worker: _worker.Worker, job: AbstractJob[Any]) -> Awaitable[Any]:
        """Return what to await for a job that is not the worker's own call of a function."""
        if job._limits is None or job._limits is NO_LIMITS:
            return job.co_run()
        return _attempts.run_attempts(worker, job)

    # ---- settling

    def may_run(self, job: AbstractJob[Any]) -> bool:
        """Tell whether the rule of a job lets it run, now that all it requires has settled."""
        return job._rule is None or _rules.judge(job, job._rule)[0] is JobState.SCHEDULED

    def make_ready(self, job: AbstractJob[Any]) -> None:
        """Take note that all that an IDLE job requires has settled."""
        if job._state is not JobState.IDLE or self.stopping:
            return
        if job._rule is not None:
            verdict, failure = _rules.judge(job, job._rule)
            if verdict is not JobState.SCHEDULED:
                self._settle_unrun(job, verdict, failure)
                return
        job._state = JobState.SCHEDULED
        self.queue.push(job)
        self.tell("job_scheduled", job)

    def note_left(self) -> None:
        """Take note that a worker is gone."""
        if self.changed is not None and (self.stopping or not self.unsettled):
            self.changed.set()

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
        successors = job._successors
        job._successors = job._worker = None
        job._outcome = outcome
        job._finished_at = now
        job._state = state
        self.tell("job_finished", job)
        if job._facts is not None:
            job._facts.tell(job)
        if job._forever:
            self.forever_unsettled -= 1
        else:
            self.unsettled -= 1
        if job._rule is not None and job._rule.frees:
            _rules.release_inputs(job, job._rule)
        self._release(successors)
        if self.changed is not None and not self.unsettled:
            self.changed.set()

    def _settle_unrun(self, job: AbstractJob[Any], state: JobState, failure: Failure | None) -> None:
        """Settle a job that its rule keeps from running; one that is BLOCKED has failed, if that is critical."""
        if failure is not None and job.is_critical():
            self.stop(StopReason.CRITICAL, job)
        self.settle(job, state, failure, self.clock())

    def _release(self, successors: _growth.Successors) -> None:
        """Count down those that waited for a job; one after the other, for their rules may settle them at once."""
        if successors is None:
            return
        self.released.extend((successors,) if isinstance(successors, AbstractJob) else successors)
        if not self.releasing:
            self.release_queued()

    def release_queued(self) -> None:
        """Count down those in the queue."""
        self.releasing = True
        while self.released and not self.stopping:
            successor = self.released.popleft()
            successor._pending -= 1
            if not successor._pending:
                self.make_ready(successor)
        self.released.clear()
        self.releasing = False

    def service_ready(self, job: AbstractJob[Any], value: Any) -> None:
        """Take note that a service is ready, and release those that require it."""
        facts = self.facts(job)
        facts.ready = True
        job._outcome = value
        if facts.scope is not None:
            facts.scope.deadline = math.inf
        successors, job._successors = job._successors, None
        self.tell("job_ready", job)
        self._release(successors)
        self.crew.ensure_searcher()

    def begin_further_attempt(self, job: AbstractJob[Any]) -> None:
        """Take note that a job is tried again."""
        self.facts(job).further_attempts += 1
        self.tell("job_attempt", job)

    def settle_error(
        self, worker: _worker.Worker, job: AbstractJob[Any], error: BaseException, awaitable: Any, now: float
    ) -> None:
        """Decide what it means that `error` left a job."""
        cancelled, error_proper = self.backend.split(error)
        if cancelled and error_proper is None:
            if worker.ended_by_run and job._is_ready():
                self.settle(job, JobState.SUCCEEDED, job._outcome, now)
                return
            if self.backend.asked_to_end(worker):
                self.settle(job, JobState.CANCELLED, Cut(), now)
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
            self.settle(job, JobState.CANCELLED, Cut(), now)
        if self.opened:
            self.group.cancel()
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
        _growth.check_thread(self, f"cancel() of {job.label!r}")
        if not self.linked:
            self.cancelled_early[job] = None
        elif job._worker is not None:
            job._worker.cancel_alone()
        elif not job._state.is_settled:
            self.cancel_unstarted(job)
            self.crew.ensure_searcher()

    # ---- growing

    def admit(self, jobs: list[AbstractJob[Any]]) -> None:
        """Take up jobs that were just added, their requirements checked."""
        _growth.admit(self, jobs)
        self.crew.ensure_searcher()

    def admit_requirements(self, job: AbstractJob[Any], new: list[AbstractJob[Any]]) -> None:
        """Let a job of the run wait for more; see `AbstractJob.requires`."""
        _growth.check_growing(self, f"requires() of {job.label!r}")
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
