"""`Run`: one execution of a scheduler, from the start of its jobs to the reason why it stops.

`execute` opens a group of tasks, makes the entry jobs ready, and then waits. The workers (see `_worker`) settle their
jobs, count down the successors, and take the next ready jobs themselves. There is no central loop, and no job is
visited twice. When all jobs have settled, or after a call of `stop`, `_ending` ends the run. `RunPhase` lists the
phases of a run.

`_states` lists the few functions that change the state of a job.

Decided in docs/decisions: 03-small-graphs, 06-nested-runs, 07-one-task-group.
"""

from __future__ import annotations

import contextvars
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from ..admission._line import NO_PLACES, Line, RunTokens, Tokens
from ..base import _graph_algorithms, _logger, _states
from ..base._states import (
    STOPPING,
    SUCCEEDED,
    CancelCause,
    JobState,
    RunPhase,
    StopReason,
)
from ..job import _errors
from ..job._ancestors import enclosing_schedulers
from ..job._errors import find_interruption
from ..job._job import AnyJob, is_scheduler
from . import _ending, _requirement_counts, _steps
from ._attempts import BackoffTimer, drain_backoffs
from ._current import current_worker_var
from ._ends import EndQueue
from ._failure_counts import FailureCounts
from ._fate import Fate
from ._instruments import Hook, Instrument, InstrumentSet, Part, overrides, with_parts
from ._journaling import JournalWriter
from ._next_try import NextTry, examine
from ._questions import AskingJobs
from ._reopening import Reopening, reopen, reopen_all
from ._requirement_counts import RequirementCounts
from ._run_counts import RunCounts
from ._run_pools import RunPools
from ._standstill import Standstill, StuckJobs
from ._start_order import StartOrder, may_need_order
from ._steering import NOT_STEERED, Steering, SteeringRecord
from ._undecided import Undecided
from ._worker import Crew, TimeSlice, Worker, nested_runs

if TYPE_CHECKING:
    from ..backend import Backend, TaskEvent, WorkerGroup
    from ..scheduler._base_scheduler import BaseScheduler

P = TypeVar("P", bound=Part)

MAX_FIRST_WORKER_TURNS: Final = 2
"""The first worker has certainly begun after this many turns of the loop: trio resumes tasks in any order."""
PENDING_INPUT_TURNS: Final = 16
"""Forever jobs get at most this many turns of the loop to process pending input after the other jobs have settled."""
QUIET_TURNS: Final = 2
"""Input counts as processed after this many turns of the loop without progress: a turn wakes a job, another runs it."""

RUNS_IN_PROGRESS: Final[dict[Run, None]] = {}
BEGIN_HOOKS: Final[dict[Callable[[Run], None], None]] = {}
"""A function to call as an outermost run begins, in the thread of its loop. It must not raise."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RUNS_IN_PROGRESS.clear)


class Incident(NamedTuple):
    """An event in a run other than the outcome of a job, such as an exception in `co_shutdown`."""

    job: AnyJob | None
    message: str
    exception: BaseException | None
    occurred_at: float
    """The time on the backend's clock."""
    is_steering: bool
    """Whether it is a word from outside, such as `trioflow steer PID pause`, so that nothing went wrong."""


class Run:
    """One execution of a scheduler, from its first check to the end of its shutdown."""

    # ---- its place: the scheduler, the thread and its loop, the enclosing run
    scheduler: Final[BaseScheduler]
    backend: Final[Backend]
    thread_id: Final[int]
    context: Final[contextvars.Context]
    outer_worker: Final[Worker | None]
    # None if it is this run itself.
    _outermost: Run | None
    time_slice: TimeSlice  # of all runs in the loop
    # An outermost run shares the next four with the runs nested in it.
    standstill: Standstill
    ends: EndQueue
    # The same if hooks, a part or a journal are told of the ends of jobs, else None.
    held_ends: EndQueue | None
    limits: dict[Any, Tokens]  # by limiter
    questions: AskingJobs
    clock: Final[Callable[[], float]]
    # Whether each job needs its own task, because this scheduler or an enclosing scheduler has `own_task`.
    needs_own_tasks: bool
    # ---- its time
    phase: RunPhase
    timeout: Final[float | None]
    began_at: float  # set just before instruments are notified
    deadline: float  # set in `execute`
    group: WorkerGroup  # set before the phase LINKING begins
    # ---- who takes part, and who watches
    parts: tuple[Part, ...]
    # The part that tries jobs again, from the first of them on.
    reopening: Reopening | None
    instrument_set: InstrumentSet | None
    notify_start: Hook | None
    notify_end: Hook | None
    notify_scheduled: Hook | None
    journal_writer: JournalWriter | None
    # ---- its jobs
    line: Final[Line]
    crew: Final[Crew]  # of all its jobs but clean-up jobs
    open_crew: Crew  # where jobs become ready: in the clean-up phase, another crew
    steering: Steering  # of the outermost run, and made with it, because another thread may be the first to use it
    changes: SteeringRecord  # NOT_STEERED, or of deques, which any thread may copy with `tuple`
    requirement_counts: RequirementCounts
    undecided: Undecided
    counts: Final[RunCounts]
    failures: Final[FailureCounts]
    # By the option `durations`, of an outermost run alone.
    durations: Mapping[AnyJob, float]
    # Objects that the jobs of an outermost run share with the jobs of nested runs.
    shared: Final[dict[Any, Any]]
    # Whether members that succeeded in the last run have not been reset.
    keeps_succeeded: bool
    closes_scheduler: bool  # whether the scheduler is closed after the run, so that its jobs never run again
    # ---- objects that few runs need: see the properties
    _start_order: StartOrder | None
    _pools: RunPools | None
    # A `FailureLog`, which is above this room, as all that only words things.
    _failure_log: Any
    _stuck_jobs: StuckJobs | None
    # ---- its end
    fate: Final[Fate]  # why the run stops or drains, and whose fault it is
    # What the jobs did when a timeout stopped the run: the texts `waits` and `place` of its error.
    jobs_at_timeout: dict[str, str]
    # The exception that `execute` raises: the first KeyboardInterrupt or the like, or error of the engine itself.
    interruption: BaseException | None
    # The jobs whose `co_shutdown` has not been called yet, or None before the ending.
    pending_shutdowns: dict[AnyJob, None] | None
    # Wakes `execute`, or the ending, to check its condition again.
    change_event: TaskEvent | None
    # Tests check that a run is freed. The type of `members` is above this room.
    __slots__ = ("__weakref__", "members", *__annotations__)

    def __init__(
        self,
        scheduler: BaseScheduler,
        backend: Backend,
        instruments: tuple[Instrument, ...],
        timeout: float | None,
        window: object,
        make_parts: Callable[[Run, Any], tuple[Part, ...]],
    ) -> None:
        """Prepare a run, which is nested in another run if a worker is running `scheduler` as a job."""
        self.scheduler = scheduler
        self.members: Final = scheduler._members
        self.backend = backend
        self.timeout = timeout
        self.thread_id = threading.get_ident()
        self.context = contextvars.copy_context()
        self.phase = _states.CHECKING
        self.deadline = math.inf
        self.instrument_set = self.journal_writer = None
        self._start_order = self._pools = self._failure_log = self._stuck_jobs = None
        self.fate = Fate()
        self.interruption = self.pending_shutdowns = self.change_event = None
        self.closes_scheduler = self.keeps_succeeded = False
        self.jobs_at_timeout = {}
        self.durations = {}
        self.changes = NOT_STEERED
        self.shared = {}
        self.outer_worker = scheduler._worker
        outer = None if self.outer_worker is None else self.outer_worker.run
        watching = None
        self._outermost = None
        if outer is None:
            self.time_slice = backend.get_or_create_in_loop(lambda: TimeSlice(backend))
            self.standstill = Standstill(self)
            self.ends = EndQueue()
            self.limits = {}
            self.questions = AskingJobs()
            self.steering = Steering()
        else:
            watching = outer.instrument_set
            self._outermost = outer.outermost()
            self.time_slice = outer.time_slice
            self.standstill = outer.standstill
            self.ends = outer.ends
            self.limits = outer.limits
            self.questions = outer.questions
            self.steering = outer.steering
        self.clock = self.time_slice.clock
        self.needs_own_tasks = scheduler._options.own_task or (
            outer is not None and outer.needs_own_tasks
        )
        self.parts = ()
        self.reopening = self.held_ends = None
        parts = make_parts(self, window)
        self.notify_start = self.notify_end = self.notify_scheduled = None
        if parts:
            own = [part for part in parts if isinstance(part, Instrument)]
            instruments = (*own, *instruments)
        if instruments or watching is not None:
            self.instrument_set = watchers = InstrumentSet(
                instruments, watching, self.ends, self.interrupt
            )
            self.notify_start = watchers.fast_start_hook()
            self.notify_scheduled = watchers.fast_hook("job_scheduled")
            self.notify_end = watchers.fast_hook("job_settled")
        if outer is not None and outer.journal_writer is not None:
            self.journal_writer = outer.journal_writer.nested(self)
        self.line = Line(self, window)
        if self.limits or window is not None:
            self._use_limiter()
        self.crew = self.open_crew = Crew(self, self.line)
        if self.steering.pauses:
            self.steering.begin(self)
        self.undecided = Undecided(self)
        self.counts = RunCounts()
        self.requirement_counts = RequirementCounts(self)
        self.failures = FailureCounts(self)
        for part in parts:
            self.add_part(part)

    def add_part(self, part: P) -> P:
        """Add a part to the run, behind the earlier parts. There is no other way in.

        Only those that `make_parts` makes can be instruments, because workers know the hooks from their start.
        """
        self.parts = (*self.parts, part)
        self.requirement_counts.is_undecided |= overrides(part, "may_start")
        if overrides(part, "settled"):
            self.held_ends = self.ends
            notify_end = None
            if self.instrument_set is not None:
                notify_end = self.instrument_set.fast_hook("job_settled")
            self.notify_end = with_parts(self.parts, notify_end)
        return part

    def _use_limiter(self) -> None:
        """Let jobs take tokens of the run's limiter, or else of the limiter that counts them further out, if any."""
        limiter = self.line.limiter
        host = self.limiting_worker()
        if limiter is None and host is not None and host.run.line.tokens is not None:
            # It counts the jobs at any depth.
            limiter = host.run.line.tokens.limiter
        if limiter is not None:
            if limiter not in self.limits:
                self.limits[limiter] = Tokens(self.backend, limiter)
            self.line.use_tokens(RunTokens(self.line, self.limits[limiter]))

    # ---- attributes that few runs need, which are created on first use

    @property
    def failure_log(self) -> Any:
        """The log of failed jobs, which an outermost run shares with all runs nested in it."""
        run = self.outermost()
        run._failure_log = run._failure_log or run.scheduler._create_failure_log(run)
        return run._failure_log

    def limiting_worker(self) -> Worker | None:
        """Return the worker that runs this scheduler under the limits of its run.

        Return None if there is no such run, or if no limit applies, because the scheduler is a forever or clean-up job.
        """
        worker = self.outer_worker
        if worker is None or worker.is_shielded or worker.crew.is_clean_up:
            return None
        return worker

    def is_shown(self, subject: str) -> bool:
        """Return whether an instrument shows the log records about a subject itself."""
        return self.instrument_set is not None and self.instrument_set.shows(subject)

    def outermost(self) -> Run:
        """Return the outermost run around this run. It may be this run itself."""
        return self._outermost or self

    def with_nested(self) -> list[Run]:
        """Return this run, and after it the runs nested in it, at any depth, without the runs of clean-up jobs.

        Nothing steers these: they go on until their time is up.
        """
        runs: list[Run] = [self]
        for run in runs:
            runs += nested_runs([*run.crew.alive])
        return runs

    def part(self, kind: type[P]) -> P | None:
        """Return the part of this kind, or None if the run has none."""
        return next((part for part in self.parts if isinstance(part, kind)), None)

    @property
    def pools(self) -> RunPools:
        self._pools = self._pools or RunPools(self)
        return self._pools

    @property
    def start_order(self) -> StartOrder:
        """The object that determines the start order of the ready jobs, by policy, priorities and needs."""
        self._start_order = self._start_order or StartOrder(self)
        return self._start_order

    @property
    def stuck_jobs(self) -> StuckJobs:
        self._stuck_jobs = self._stuck_jobs or StuckJobs(self)
        return self._stuck_jobs

    # ---- running

    async def execute(self) -> None:
        """Run all jobs, end the run, and raise the interruption, if there was any.

        Raises:
            BaseException: the run was interrupted, or cancelled from outside, or the engine itself has failed. An
                interruption is never wrapped in a group.

        """
        outer = self.outer_worker
        context = self.context
        self.deadline = self.deadline_in(self.timeout)
        self.crew.bounded_by = self
        host = self.limiting_worker()
        if host is not None and host.crew.bounded_by.deadline < self.deadline:
            self.crew.bounded_by = host.crew.bounded_by
        known = [item for item in context.items() if item[0] is not current_worker_var]
        group_class = self.backend.isolation.group_class
        outer_group = None if outer is None else outer.group
        self.group = self.crew.group = group_class(
            self.backend, self.deadline, context, tuple(known), outer_group
        )
        if outer is not None and outer.run.phase is _states.DRAINING:
            # The drain began between the start of this scheduler and its run, which the drain has not seen.
            self.stop(StopReason.DRAINED)
        if self.phase is _states.CHECKING:
            self.phase = RunPhase.LINKING
        try:
            run_jobs = self._run_jobs
            if self.deadline < math.inf and not group_class.ends_at_deadline:
                run_jobs = self._run_until_deadline
            await self.group.run(run_jobs)
        finally:
            # A run that was cancelled from outside raises the cancellation.
            RUNS_IN_PROGRESS.pop(self, None)
            if self._stuck_jobs is not None:
                self._stuck_jobs.stop()
            if not self.crew.alive:
                self._break_reference_cycles()
        if self.interruption is not None:
            raise self.interruption

    def _break_reference_cycles(self) -> None:
        """Break the reference cycles of the run, so that it is freed without the garbage collector."""
        self.crew.detach()
        if self.instrument_set is not None:
            self.instrument_set.detach()
        for part in self.parts:
            del part._run
        self._start_order = self._pools = self._failure_log = self._stuck_jobs = None
        self.shared.clear()
        del (
            self.requirement_counts,
            self.undecided,
            self.group,
            self.standstill,
            self.open_crew,
        )

    async def _run_until_deadline(self) -> None:
        stop_timer = self.call_at(self.deadline, partial(self.stop, StopReason.TIMEOUT))
        try:
            await self._run_jobs()
        finally:
            stop_timer()

    async def _run_jobs(self) -> None:
        self.began_at = self.clock()
        if self.outer_worker is None:
            RUNS_IN_PROGRESS[self] = None
            for hook in BEGIN_HOOKS:
                hook(self)
        if self.instrument_set is not None or self.journal_writer is not None:
            self.held_ends = self.ends
        try:
            for part in self.parts:
                part.enter(RunPhase.LINKING)
            if self.instrument_set is not None:
                self.notify("before_run")
                # Set again, because an instrument may have taken its time.
                self.began_at = self.clock()
            self.stop_if_over()
            turns: Iterator[None] = iter(())
            if self.phase is not STOPPING:
                turns = self._make_entries_ready()
            for _ in turns:
                if not await self.group.host.yield_to_loop():
                    self.stop_cancelled()
                if self.phase is STOPPING:
                    break
            if self.phase is not STOPPING:
                self.phase = RunPhase.RUNNING
                for part in self.parts:
                    part.enter(self.phase)
                await self._search_in_first_turns()
                await self._wait_until_over()
            if self.journal_writer is not None:
                self.journal_writer.commit()
        except BaseException as interruption:
            # A KeyboardInterrupt, or an error of the engine.
            self.interrupt(interruption)
        try:
            await _ending.take_step(self, partial(_ending.end, self))
        except Exception as fault:
            # A lack of memory at this very call.
            self.interrupt(fault)
            await _ending.take_step(self, partial(_ending.end, self))
        if self._failure_log is not None:
            self._failure_log.close()
        if self.outer_worker is None:
            self.standstill.close()

    def _make_entries_ready(self) -> Iterator[None]:
        """Link all jobs, and make the entry jobs ready. Yield whenever a pause is due. O(V + E)."""
        # Entry jobs, and those of them that may settle at once. Hooks are told of them when all jobs are linked.
        entries: list[AnyJob] = []
        undecided: list[AnyJob] = []
        if may_need_order(self):
            yield from self.start_order.prepare()
        for chunk, pause_is_due in _graph_algorithms.chunks_with_pauses(
            self.members.jobs
        ):
            self.requirement_counts.link(chunk, entries, undecided)
            if pause_is_due:
                yield
        self.requirement_counts.has_linked = True
        if self.phase is RunPhase.LINKING:
            self.phase = RunPhase.ENTERING
        for chunk, pause_is_due in _graph_algorithms.chunks_with_pauses(entries):
            with self.ends:
                _steps.schedule(self, chunk)
            if pause_is_due:
                yield
        early = self.steering.cancelled_early.pop(self.scheduler, ())
        if early:
            _steps.settle_apart(self, early, cause=CancelCause.JOB)
        self.undecided.begin(undecided)

    async def _search_in_first_turns(self) -> None:
        """Count the run itself as a searcher during its first turns, so that the first worker spawns no others.

        If none of its jobs is suspended, a small run needs only this worker and these turns.
        """
        crew = self.crew
        counts = self.counts
        crew.ensure_searcher()
        crew.searchers += 1
        for _ in range(MAX_FIRST_WORKER_TURNS):
            if not await self.group.host.yield_to_loop():
                self.stop_cancelled()
            if not counts.unsettled or self.phase is STOPPING:
                break
            if any(worker.job is not None for worker in crew.alive):
                break
        crew.searchers -= 1
        if self.line.startable or self.line.places is not NO_PLACES:
            crew.ensure_searcher()
            crew.spawn_more()

    async def _wait_until_over(self) -> None:
        while self.phase is not STOPPING:
            if self.journal_writer is not None and self.journal_writer.has_work():
                await self.journal_writer.work_one_turn()
            elif self._must_wait():
                if self.questions.asking:
                    self.questions.tell(self)
                await self._wait_while_running()
            elif self.phase is _states.DRAINING or not await self._flush_forever_jobs():
                if not self.questions.are_in_vain(self):
                    return
                self.questions.end(self)
            # For jobs that have become ready in a turn of a part or of the journal, or that forever jobs have added.
            self.crew.ensure_searcher()

    async def wait_for_change(self, deadline: float) -> bool:
        """Wait for `wake`, or until the deadline, and return True. If the task is cancelled, return False at once."""
        stop_timer = None
        if deadline < math.inf:
            stop_timer = self.call_at(deadline, self.wake)
        self.change_event = changed = self.backend.create_event()
        try:
            return await self.group.host.wait(changed.wait)
        finally:
            if stop_timer is not None:
                stop_timer()

    async def _wait_while_running(self) -> None:
        """Wait for a change, or for the time of a part. Meanwhile, the run's own worker is not active."""
        was_active = self.outer_worker is not None and not self.outer_worker.is_shielded
        if was_active:
            self.standstill.remove_active()
        self.standstill.suspect(self)
        try:
            due_at = min((part.due_at() for part in self.parts), default=math.inf)
            if not await self.wait_for_change(due_at):
                self.stop_cancelled()
        finally:
            if was_active:
                self.standstill.add_active()
        self.call_parts()

    def call_parts(self) -> None:
        """Let each part act if it is due, in the clean-up only the backoffs. Then the caller lets a worker search."""
        for part in self.parts:
            if not self.open_crew.is_clean_up or isinstance(part, BackoffTimer):
                part.act()

    async def _flush_forever_jobs(self) -> bool:
        """Let forever jobs process their pending input. Return whether the run has to wait again, or stops."""
        counts = self.counts
        if not counts.forever_unsettled:
            return False
        turns = 0
        quiet = 0
        added = counts.added
        positions = self._forever_positions()
        while turns < PENDING_INPUT_TURNS and quiet < QUIET_TURNS:
            if self.phase is STOPPING or self._must_wait():
                return True
            if not await self.group.host.yield_to_loop():
                self.stop_cancelled()
            before = positions
            positions = self._forever_positions()
            turns += 1
            quiet += 1
            if positions != before or self.line.startable:
                quiet = 0
            if counts.added != added:
                added = counts.added
                turns = 0
        return self.phase is STOPPING or self._must_wait()

    def _forever_positions(self) -> list[Any]:
        """Return the objects that forever jobs await, for a comparison.

        These objects are new after each step of a job. A nested run that is ending waits for no input.
        """
        workers = [worker for worker in self.crew.alive if worker.is_shielded]
        positions = list[object]()
        for worker in workers:
            nested = worker.nested_run()
            positions.append([worker, *self.backend.frames(worker)])
            if nested is not None:
                workers += nested.crew.alive
                if nested.phase is STOPPING:
                    positions.append(object())
        return positions

    def _must_wait(self) -> bool:
        """Return whether the run waits for jobs, for a part that may add some, or in a drain for workers to leave."""
        if any(part.is_busy() for part in self.parts):
            return True
        if self.phase is _states.DRAINING:
            waits = not all(worker.is_shielded for worker in self.crew.alive)
            return waits and not self.questions.are_in_vain(self)
        return self.waits_for_jobs()

    def waits_for_jobs(self) -> bool:
        """Return whether the run waits for jobs that have not settled: not for answers that nothing can use."""
        return self.counts.waits_for_jobs() and not self.questions.are_in_vain(self)

    def deadline_in(self, seconds: float | None) -> float:
        """Return the time in so many seconds from now, or infinity for None."""
        if seconds is None:
            return math.inf
        return self.clock() + seconds

    # ---- the steps for the rooms below, and for modules on which `_steps` stands; all others call its functions

    ready = _steps.ready
    record_progress = _steps.record_progress
    block = _steps.block
    cancel_job = _steps.cancel_job
    on_service_ready = _steps.on_service_ready

    def watchers_of(self, scheduler: BaseScheduler) -> InstrumentSet | None:
        """Return the instruments that watch the jobs of a scheduler in this run, which is not running itself."""
        instruments = list[Instrument]()
        for level in (scheduler, *enclosing_schedulers(scheduler)):
            if level is self.scheduler:
                break
            instruments += level._instruments
        if not instruments:
            return self.instrument_set
        return InstrumentSet(
            instruments, self.instrument_set, self.ends, self.interrupt
        )

    def on_worker_left(self) -> None:
        """Wake `execute` or the ending if it may be waiting for a worker to leave."""
        is_ending = not self.counts.unsettled or self.phase._is_ending
        if is_ending or self.questions.asking:
            self.wake()
        else:
            self.standstill.suspect(self)

    def wake(self) -> None:
        """Wake `execute` or the ending, so that it checks again whether it must keep waiting."""
        if self.change_event is not None:
            self.change_event.set()
            self.change_event = None

    # ---- stopping

    def stop(self, reason: StopReason, culprit: AnyJob | None = None) -> None:
        """Start no more jobs, and cancel the running ones, except forever jobs. Keep the first reason.

        If the deadline of the run has passed, the reason is TIMEOUT instead. Runs nested in cancelled workers stop at
        once: their workers may start jobs before the loop delivers a cancellation.

        While the run is stopping, a call of `cancel()`, an interruption, or the stop of an enclosing run is a further
        cause: it cancels the jobs again, which has an effect only on asyncio.
        """
        stopped: list[Run] = []
        runs = [self]
        # A loop without recursion, because schedulers may be nested to any depth.
        for run in runs:
            if run.phase is not STOPPING:
                stopped.append(run)
            runs += run._stop_alone(reason, culprit)
            # The runs inside this one are only cancelled with it.
            reason = StopReason.CANCELLED
            culprit = None
        # Only now, because they pass on the slots and resources of their jobs.
        for run in stopped:
            run.cancel_scheduled()

    def cancel(self) -> None:
        """Stop, unless the run was cancelled before: jobs that are cleaning up are left to it."""
        if not self.fate.was_cancelled:
            self.fate.was_cancelled = True
            self.stop(StopReason.CANCELLED)

    def _stop_alone(self, reason: StopReason, culprit: AnyJob | None) -> list[Run]:
        """Begin to stop, and cancel the running jobs. Return the nested runs that have to stop, too."""
        # Of a run that is stopping already, only these cancel the jobs once more.
        cancels_workers = reason in _states.FURTHER_CAUSES
        if self.phase is not STOPPING:
            if self.clock() >= self.deadline:
                reason = _states.TIMEOUT
                culprit = None
            self.fate.stop(reason, culprit)
            if reason is _states.TIMEOUT:
                self.jobs_at_timeout = self.scheduler._describe_timeout()
            self.phase = STOPPING
            self.crew.is_closed = True
            self.wake()
            self.scheduler._notify_unreached()
            cancels_workers = (
                reason is not _states.COMPLETED or self.counts.unsettled > 0
            )
        if cancels_workers:
            return self.crew.cancel()
        return []

    def stop_if_over(self) -> bool:
        """Stop if the deadline has passed or the run was cancelled, before the loop has said so. Return whether it has.

        All that asks apart from the workers, which compare the time that they know already, asks here.
        """
        is_over = self.clock() >= self.deadline or self.group.is_cancelled()
        if is_over:
            self.stop_cancelled()
        return is_over

    def cancel_scheduled(self) -> None:
        """Settle as CANCELLED the jobs that are ready but have not started, or wait for another attempt."""
        line = self.line
        if line.startable or line.places is not NO_PLACES or self.parts:
            _steps.settle_apart(self, (*line.drain(), *drain_backoffs(self)))

    def call_at(self, when: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call a function when the clock shows `when`. Return a function that cancels the call.

        It has to be cancelled before the run has ended.
        """
        return self.group.call_at(
            when, partial(self.guard, function), self.context.copy()
        )

    def call_in_loop(self, function: Callable[[], None]) -> None:
        """Call a function in the next turn of the loop. Any thread may use this."""
        self.time_slice.reports.call_in_loop(partial(self.guard, function))

    def guard(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function for the loop. An error in it ends the run: asyncio would only log it, and trio crash."""
        try:
            function(*arguments)
        except BaseException as fault:
            self.interrupt(fault)

    def interrupt(
        self,
        interruption: BaseException | None,
        culprit: AnyJob | None = None,
    ) -> None:
        """Stop because of an interruption, which the run will raise, or None for a signal.

        An interruption is a KeyboardInterrupt or the like, or an error of the engine itself.
        """
        self.interruption = self.interruption or interruption
        self.stop(StopReason.INTERRUPTED, culprit)

    def notice_cancellation(self, worker: Worker) -> None:
        """Stop the run, or its clean-up, if the task of `worker` was cancelled together with it.

        Call this before the worker's job is settled. trio cancels all tasks at once and resumes them in any order, so a
        worker may notice a cancellation of the run first.
        """
        if worker.cause is None and self.backend.isolation.was_cancelled(worker):
            if worker.crew.is_clean_up:
                worker.crew.bounded_by.stop(StopReason.TIMEOUT)
            else:
                self.stop_cancelled()

    def stop_cancelled(self) -> None:
        """Stop because a scope around the run was cancelled. If the deadline has passed, the reason is TIMEOUT."""
        # In a run that is stopping, this is no further cause: the stop has come before the cancellation.
        if self.phase is not STOPPING:
            self.stop(StopReason.CANCELLED)

    def stop_with_error(
        self, error: BaseException, job: AnyJob | None, message: str
    ) -> None:
        """Stop because of an interruption, or an error outside of the jobs: in the journal or `on_job_settled`.

        In a run that is stopping already, report the error. It then counts only if nothing else has gone wrong.
        """
        interruption = find_interruption(error)
        if interruption is not None:
            self.interrupt(interruption)
            return
        if self.phase is not STOPPING or self.fate.reason is _states.COMPLETED:
            self.scheduler._run_error = error
        if self.phase is STOPPING:
            self.fate.give(StopReason.CRITICAL)
        self.report(job, message, error)
        self.stop(StopReason.CRITICAL)

    def next_try(
        self,
        job: AnyJob,
        wanted: Sequence[AnyJob] = (),
        cancels: bool = False,
    ) -> NextTry:
        """Return what another try of a member means now, for the sake of those `wanted` in it. Any thread may ask.

        If `cancels`, jobs that run with a result that is taken back are cancelled for it.
        """
        found = examine(self, job, wanted, cancels)
        reason = found.problem
        subject = job
        keeps_winners = is_scheduler(job) and job._enough and job._state is SUCCEEDED
        for each in wanted:
            level = each._scheduler
            problem = ""
            if each._state is JobState.SKIPPED:
                problem = (
                    "it is skipped, and was not needed; try again what it requires"
                )
            elif keeps_winners and each._state is not SUCCEEDED:
                problem = (
                    f"it is in {job.label!r}, which is succeeded, and keeps its winners"
                )
            elif each is job:
                continue
            elif found.problem:
                problem = f"it is in {job.label!r}, of which try_again() says: {found.problem}"
            elif level is not None and each not in level._members.jobs:
                problem = f"{level.label!r} has dropped it"
            if problem:
                reason = problem
                subject = each
        return found._replace(
            problem=reason and f"try_again() of {subject.label!r}: {reason}"
        )

    def try_again(
        self,
        job: AnyJob,
        wanted: Sequence[AnyJob] = (),
        cancels: bool = False,
    ) -> None:
        """Try again a member, for the sake of those `wanted` in it. Any thread may call this.

        Raises:
            RuntimeError: this is not possible now.

        """
        found = self.next_try(job, wanted, cancels)
        if found.problem:
            raise _errors.growing_error(found.problem)
        if threading.get_ident() == self.thread_id:
            reopen(self, [found])
        else:
            # Examined again, because the loop may be in a later turn by then.
            self.steering.call(
                self, lambda: reopen(self, [examine(self, job, wanted, cancels)])
            )

    def try_all_again(self) -> None:
        """Try again all that has failed, at any depth. Any thread may call this.

        Raises:
            RuntimeError: the run is draining or stopping.

        """
        if self.phase is not RunPhase.RUNNING:
            label = self.scheduler.label
            problem = f"try_again() of {label!r}: {label!r} {self.phase.value}"
            raise _errors.growing_error(problem)
        self.steering.call(self, partial(reopen_all, self))

    # ---- growing

    def add_jobs(self, jobs: list[AnyJob]) -> None:
        """Link jobs that were just added and checked. Tell of them, and make ready those without open requirements.

        If a function that is told of a step has added them, they are linked at once, and told when the step is over.
        """
        self.start_order.add_jobs(jobs)
        context = self._caller_context()
        for job in jobs:
            if self.closes_scheduler or not self.scheduler.keep_jobs:
                # No later run can reach it.
                job._ensure_extras().runs_once = True
            if context is not None:
                job._ensure_extras().context = context
                # Only for other jobs do workers apply a context.
                job._is_plain = False
            self.counts.add(job)
            _requirement_counts.link(job, self.members.all_requirements(job))
            _requirement_counts.count_consumer(job)
        self.tell_parts()
        if self.journal_writer is not None:
            self.journal_writer.on_jobs_added()
        self.ends.follow(partial(self._begin_added, jobs))

    def tell_parts(self) -> None:
        """Tell the parts that members were added, or tried again, or got requirements."""
        for part in self.parts:
            part.on_added()

    def _begin_added(self, jobs: list[AnyJob]) -> None:
        """Tell of jobs that were added and linked, and make those without open requirements ready."""
        with self.ends:
            if self.instrument_set is not None:
                for job in jobs:
                    self.notify("job_added", job)
            for job in jobs:
                if not job._pending:
                    self.undecided.make_ready(job)
        if self.journal_writer is not None and not self.scheduler.keep_jobs:
            dropped = [
                job for job in jobs if job.restored and job not in self.members.jobs
            ]
            self.journal_writer.restored_by_add.extend(dropped)
            self.wake()
        self.crew.ensure_searcher()

    def _caller_context(self) -> contextvars.Context | None:
        """Return the context of the code that adds jobs, for the jobs to use, or None if they use the run's context.

        Jobs use their own context only if an `async with` opened the outermost scheduler, and the contexts differ.
        """
        if not self.outermost().closes_scheduler:
            return None
        context = contextvars.copy_context()
        known = self.group.variables
        # The current worker is not among the known variables.
        count = len(known)
        if current_worker_var in context:
            count += 1
        if len(context) != count:
            return context
        for variable, value in known:
            if context.get(variable) is not value:
                return context
        return None

    # ---- notifying

    def notify(self, hook: str, *details: object) -> None:
        if self.instrument_set is not None:
            self.instrument_set.notify(hook, self.scheduler, *details)

    def report(
        self,
        job: AnyJob | None,
        message: str,
        exception: BaseException | None = None,
        *,
        advice: str = "",
        is_steering: bool = False,
    ) -> None:
        """Report an incident that is not the outcome of a job, to the log, to instruments and to `debrief()`.

        Only the log, which is read during the run, has the advice.
        """
        # The message of a journal's error is complete, and the error stops the run.
        is_journal_error = isinstance(exception, _errors.JournalError)
        if not is_journal_error or self.scheduler.log:
            _logger.warn(message + advice, None if is_journal_error else exception)
        incident = Incident(job, message, exception, self.clock(), is_steering)
        self.scheduler._incidents.append(incident)
        self.notify("incident", job, message, exception)
