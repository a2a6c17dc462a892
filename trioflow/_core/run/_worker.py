"""A worker: a task that runs ready jobs, one after the other. Also the workers of a run, and their shared turns.

This is the engine's hot path. Spawning a task costs ten times as much as running an empty job. So a worker whose job
has ended takes the next ready job, and another worker is needed only while a job is suspended. Nevertheless, each job
must behave as if it had its own task:

- If a job has changed the task (a context variable, an open scope, a cancellation), the worker leaves, and a new worker
  replaces it. A job that left a scope open has failed.
- If the worker's own scope was cancelled because of a job, the worker leaves, too.
- All workers share the time of each turn of the event loop, and begin in the order that they were spawned; see
  `TimeSlice`.

```
spawn ──► take the next ready job ──► run it ──► settle it, count down its successors ──┐
              ▲     │ none                │ task changed                                │
              │     └──► leave            └──► leave, and be replaced                   │
              └────────────────── if the turn is used up: yield to the loop ◄───────────┘
```

Four terms, and their invariants:

- A **worker** is in `Crew.alive` from before its task is spawned until it leaves. `job` is the job that the worker
  runs, or None. A slot, needs and a token belong to the job, not to the worker.
- A **searcher** is a worker that will take the next startable job by itself. It was spawned and has taken no job yet,
  or it waits for a turn of the loop before it looks again. `Crew.searchers` counts these workers:
  - The code that spawns a worker counts it. A worker counts itself before it waits. It stops counting itself when it
    takes a job or leaves.
  - The number must not be 0 when control returns to the loop while a ready job could start, because no worker would
    look for that job. Therefore, code outside of this module calls `ensure_searcher` after every event that makes a job
    ready or frees a slot. A worker that takes a job and leaves others in the queue calls it, because its own job may be
    suspended.
- An **errand** is the work of a worker that runs no jobs: it opens a gate (`GatedResource`), waits in the queue of a
  limiter (`Tokens`), or reads files before a look-up (`Undecided`). Such a worker is no searcher.
- A **turn** is one iteration of the event loop. The workers share its time. `TimeSlice` decides which workers may
  continue in a turn, and which have to queue for a later turn.

Decided in docs/decisions: 02-workers, 11-task-references.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..admission._line import NO_PLACES, FifoPlaces, Line
from ..backend import WorkerTask
from ..base._states import (
    FAILED,
    RUNNING,
    SCHEDULED,
    STOPPING,
    SUCCEEDED,
    CancelCause,
    StopReason,
)
from ..job._ancestors import enclosing_schedulers
from ..job._errors import UNCALLED, JobCancelled, unawaited_coroutine_error
from ..job._job import AnyJob, RunExtras, is_scheduler
from . import _steps
from ._attempts import Verdict, call_job
from ._current import apply_context, current_worker_var
from ._instruments import MIN_BLOCKING_SECONDS

if TYPE_CHECKING:
    from ..backend import Backend, WorkerGroup
    from ._handle import TimeLimit
    from ._run import Run

TURN_SECONDS: Final = 0.001
"""The time, in seconds, that all workers together may use to run jobs in one turn of the event loop."""
MIN_WORKERS_IN_TURN: Final = 2
MAX_WORKERS_IN_TURN: Final = 24
"""The bounds of `TimeSlice.max_waiting`."""


class ThreadReports:
    """Progress reports that jobs have made in other threads, and that the event loop has not received yet.

    A single wake-up of the loop delivers all pending reports. Only the latest report of each job is kept.
    """

    def __init__(self, backend: Backend) -> None:
        self.call_in_loop: Final = backend.threadsafe_caller()
        # Guards `_latest_fractions`.
        self._lock: Final = threading.Lock()
        # While there are any reports, a delivery is due.
        self._latest_fractions: dict[AnyJob, float | None] = {}

    def add(self, job: AnyJob, fraction: float | None) -> None:
        """Store the report of a job, and schedule its delivery. Call this in the job's thread.

        A report whose `fraction` is None does not replace an earlier fraction.
        """
        with self._lock:
            is_delivery_due = bool(self._latest_fractions)
            if fraction is not None or job not in self._latest_fractions:
                self._latest_fractions[job] = fraction
        if not is_delivery_due:
            self.call_in_loop(self._deliver)

    def _deliver(self) -> None:
        with self._lock:
            fractions = self._latest_fractions
            self._latest_fractions = {}
        for job, fraction in fractions.items():
            # A job that has settled meanwhile has no worker.
            if job._worker is not None:
                run = job._worker.run
                run.guard(run.record_progress, job, fraction)


class TimeSlice:
    """The time that the workers of all runs in a loop share in one turn of the event loop.

    A worker that finds this time used up waits for the next turn. The first worker that continues in that turn calls
    `begin`, which renews the time for all of them. Otherwise, each worker would take the whole time for itself.

    A worker need not wait if a new iteration of the loop began while its own job was suspended. Its task snapshot shows
    this.

    Up to `max_waiting` workers wait for the next turn of the loop, which wakes all of them. This is twice the number of
    workers that found time left in the last turn, within bounds. Further workers wait in `queue`. Each worker that has
    waited calls up the next ones, so while the queue has workers, at least one worker waits for a turn. If
    all workers waited for each turn, a thousand might wake in a turn that the first job uses up.

    Workers begin in the order that they were spawned, across all runs, so that the first jobs of sibling groups
    start in order. `spawned` has the workers that have not begun: trio resumes the new tasks of a turn in order or in
    reverse, by chance, and on both backends, a new task would overtake a worker that found the time used up.
    """

    def __init__(self, backend: Backend) -> None:
        self.clock: Final = backend.clock()
        # The number of times that the time was renewed, at most once per turn of the loop.
        self.turn_number = 0
        # About jobs of all runs in the loop.
        self.reports: Final = ThreadReports(backend)
        self.ends_at = self.clock() + TURN_SECONDS
        self.waiting_count = 0
        self.max_waiting = MAX_WORKERS_IN_TURN
        # How many times workers have found time left in this turn.
        self.workers_with_time = 0
        # The first of a dict that shrank is found slowly.
        self.queue: Final = OrderedDict[Worker, None]()
        # The workers that have not begun, in order.
        self.spawned: Final = deque[Worker]()

    def begin(self, number: int, now: float) -> bool:
        """Renew the time after turn `number`, unless another worker has done so. Return whether any time is left."""
        if self.turn_number == number:
            self.turn_number += 1
            self.ends_at = now + TURN_SECONDS
            twice = max(MIN_WORKERS_IN_TURN, 2 * self.workers_with_time)
            self.max_waiting = min(twice, MAX_WORKERS_IN_TURN)
            self.workers_with_time = 0
        if now > self.ends_at:
            return False
        self.workers_with_time += 1
        return True

    def is_left(self, worker: Worker, now: float, has_run: bool = True) -> bool:
        """Return whether time is left for a worker: never in the iteration of the loop in which its last job began.

        If the worker `has_run` no job, it has waited for a new iteration.
        """
        if has_run and worker.task_snapshot.is_same_iteration():
            return False
        return self.begin(worker.woken_in_turn, now)

    def next_to_begin(self, worker: Worker, now: float) -> Worker | None:
        """Return the worker that the new task of `worker` has to be, or None if the task has to wait for the next turn.

        This is the worker that was spawned first, if the task can serve it, and if time is left for its first job.
        """
        spawned = self.spawned
        first = spawned[0]
        # It only leaves, so it waits neither for its turn to begin nor for time.
        if worker.crew.is_closed and worker in spawned:
            spawned.remove(worker)
            return worker
        if first is worker or worker.group.is_interchangeable(first.group):
            if now <= self.ends_at or self.begin(worker.woken_in_turn, now):
                # Its first job waits for no other turn.
                first.woken_in_turn = self.turn_number
                return spawned.popleft()
            if len(spawned) > MAX_WORKERS_IN_TURN or not first.crew.has_work():
                # Without time, because it waits in `queue`, or leaves at once.
                return spawned.popleft()
        worker.woken_in_turn = self.turn_number
        return None

    def take_unstarted(self, worker: Worker) -> Worker:
        """Return the worker that lost its task, because the task spawned for `worker` failed before it served any."""
        lost = worker if worker in self.spawned else self.spawned[0]
        self.spawned.remove(lost)
        return lost

    async def wait(self, worker: Worker) -> None:
        """Wait for the next turn of the loop, or in the queue for a later turn."""
        worker.woken_in_turn = self.turn_number
        if self.waiting_count < self.max_waiting and not self.queue:
            self.waiting_count += 1
            await worker.run.backend.yield_to_loop()
        else:
            self.queue[worker] = None
            await worker.run.backend.wait_until_woken(worker)
            if worker in self.queue:
                # The worker was woken because its run was cancelled.
                self._call_up(worker)
        self.waiting_count -= 1
        while self.queue and self.waiting_count < self.max_waiting:
            self.call_up(next(iter(self.queue)))

    def call_up(self, worker: Worker) -> None:
        """Let a queued worker come in the next turn of the loop."""
        self._call_up(worker)
        worker.run.backend.wake(worker)

    def _call_up(self, worker: Worker) -> None:
        del self.queue[worker]
        self.waiting_count += 1
        worker.woken_in_turn = self.turn_number


MAX_JOBS_IN_TURN: Final = 200
"""The maximum number of jobs that a worker runs before it yields to the loop: a virtual clock may stand still."""


class Errand(Protocol):
    """Work of a worker besides running jobs."""

    async def do_errand(self) -> None: ...

    def end_errand(self) -> None:
        """The worker has left, even if its task never began."""


class Worker(WorkerTask):
    """A task that runs the jobs of a run one after another. `job` is the current job, or None between jobs."""

    __slots__ = (
        "cancelled_at",
        "crew",
        "errand",
        "is_searching",
        "run",
        "verdict",
        "woken_in_turn",
    )

    def __init__(self, crew: Crew) -> None:
        self.crew = crew
        self.run = run = crew.run
        self.group = crew.group
        self.task_snapshot = self.wake_handle = self.scope = self.task = self.timer = (
            None
        )
        self.deadline = self.timer_fires_at = math.inf
        self.cause, self.is_shielded = None, False
        # When the engine cancelled the job, or will at the end of its timeout.
        self.cancelled_at = math.inf
        # Whether the worker is counted in `Crew.searchers`.
        self.is_searching = True
        self.must_leave = False
        self.woken_in_turn = run.time_slice.turn_number
        self.job: AnyJob | None = None
        # On an attempt that has ended, but whose job has not settled.
        self.verdict: Verdict | None = None
        # The worker's work instead of running jobs.
        self.errand: Errand | None = None

    def time_limits(self) -> list[TimeLimit]:
        """Return the time limits that progress of the current job postpones, including the limits of its schedulers."""
        scheduler = self.run.scheduler
        jobs = (self.job, scheduler, *enclosing_schedulers(scheduler))
        extras = [job._extras for job in jobs if job is not None and job._extras]
        return [each.time_limit for each in extras if each.time_limit is not None]

    def leave_unstarted(self, _task: object = None) -> None:
        """Leave if the task has ended before its first step, so that `work` will never run."""
        if self in self.crew.alive:
            self.run.guard(self.run.notice_cancellation, self)
            self.crew.leave(self)

    def nested_run(self) -> Run | None:
        """Return the run in progress of the nested scheduler that the worker runs as its job, or None."""
        # Read once, because another thread may ask.
        job = self.job
        return job._run if is_scheduler(job) else None

    def mark_cancelled(self, cause: CancelCause) -> None:
        """Record why and when the engine cancels the worker, which it does next. The first cause is kept."""
        if self.cause is None:
            self.cause = cause
            self.run.stuck_jobs.watch(self, self.run.clock())

    def cancel_alone(self) -> None:
        self.mark_cancelled(CancelCause.JOB)
        self.group.cancel_worker(self)
        nested = self.nested_run()
        if nested is not None:
            # It would start jobs until the loop delivers the cancellation.
            nested.stop(StopReason.CANCELLED)

    async def work(self) -> None:
        """Run ready jobs until there are none left, or until a job has changed the task: the hot loop.

        The task serves the `worker` whose turn it is to begin: this worker, or another that was spawned before it.

        The simplest jobs are called in this frame, because a call costs up to a tenth of an empty job. `_settle_other`
        settles jobs that failed or changed the task. A frame between this frame and the task would cost 2 %.
        """
        awaitable: Any
        value: Any
        error: BaseException | None
        worker: Any = None
        try:
            while True:
                now = self.run.clock()
                worker = self.run.time_slice.next_to_begin(self, now)
                if worker is not None:
                    break
                await self.run.backend.yield_to_loop()
            current_worker_var.set(worker)
            run = worker.run
            crew = worker.crew
            line = worker.crew.line
            scheduler = run.scheduler
            notify_start = run.notify_start
            startable = line.startable
            needs_own_tasks = run.needs_own_tasks
            time_slice = run.time_slice
            clock = run.clock
            needs_own_tasks |= run.backend.isolation.gives_own_tasks
            # An AbstractJob, of which the hot path also reads fields of Job.
            job: Any = None
            jobs_left = MAX_JOBS_IN_TURN
            has_run_jobs = False
            token = 0
            snapshot: Any = run.backend.isolation.attach_current_task(worker)
            if snapshot and now >= crew.bounded_by.deadline:
                # The loop has not yet said so.
                crew.bounded_by.stop(StopReason.TIMEOUT)
            worker.must_leave |= not snapshot or crew.is_closed
            if worker.errand is not None:
                await worker.errand.do_errand()
                worker.must_leave = True
            elif not worker.must_leave:
                crew.spawn_more()
            while not worker.must_leave:
                # ---- yield to the loop, if the turn is used up
                is_turn_over = now > time_slice.ends_at or not jobs_left
                # With fewer unsettled jobs than workers, the others run them all, and this worker leaves at once.
                if is_turn_over and (  # dense: the hot loop stays as it was measured
                    startable
                    or line.places is not NO_PLACES
                    or run.counts.unsettled >= len(crew.alive)
                ):
                    awaitable = value = None
                    has_time = await worker._get_time(
                        job if has_run_jobs else None, now
                    )
                    now = clock()
                    if not has_time:
                        continue
                    jobs_left = MAX_JOBS_IN_TURN
                # ---- take the next job that may start
                # In a limited line, more jobs may be admitted, unless `take` has just admitted all that can start.
                is_limited = may_admit_more = line.places is not NO_PLACES
                if is_limited and (line.passes_on or not startable):
                    if (job := line.take()) is None:
                        break
                    # First in, first out, `take` has admitted all that can start.
                    may_admit_more = not isinstance(line.places, FifoPlaces)
                elif startable:
                    job = startable.popleft()
                    if job._state is not SCHEDULED:
                        # The job was cancelled.
                        continue
                else:
                    break
                is_plain = job._is_plain
                if not is_plain and not worker._enter_context(job, has_run_jobs):
                    # A new worker takes it.
                    startable.appendleft(job)
                    break
                if is_limited:
                    if line.tokens is not None:
                        token = line.tokens.begin(job, worker.task)
                        if token:
                            snapshot.allow_references(token)
                    if job._extras is not None and job._extras.grant is not None:
                        # Admitting jobs may have taken long.
                        now = clock()
                        job._extras.grant.let_accrue(now)
                if worker.is_searching:
                    worker.stop_searching()
                if not is_plain and job._options.forever:
                    crew.prepare_for_forever_job(worker)
                elif not crew.searchers and (startable or may_admit_more):
                    crew.ensure_searcher()
                # ---- run it
                jobs_left -= 1
                if (  # dense: the hot loop stays as it was measured
                    worker.woken_in_turn != time_slice.turn_number
                    or not has_run_jobs
                    or (is_limited and line.order)
                ):
                    worker.woken_in_turn = time_slice.turn_number
                    snapshot.record_iteration()
                    has_run_jobs = True
                worker.job = job
                job._worker = worker
                job._started_at = now
                job._state = RUNNING
                if needs_own_tasks or (not is_plain and job._options.own_task):
                    worker.name_task(job)
                # This frame must not keep a result alive.
                value = error = None
                awaitable = UNCALLED
                try:
                    if notify_start is not None:
                        notify_start(scheduler, job)
                    if is_plain:
                        awaitable = job._function(*job._args)
                    else:
                        awaitable = call_job(worker, job)
                    value = await awaitable
                    if value is not None and type(value) is CoroutineType:
                        error = unawaited_coroutine_error(job.label, value)  # pyright: ignore[reportUnknownArgumentType]
                        # It would fail each time.
                        worker.verdict = Verdict(FAILED, error, error)
                except BaseException as raised:
                    error = raised
                # ---- settle it
                now = clock()
                if error is None and snapshot.is_task_unchanged():
                    _steps.settle(run, job, SUCCEEDED, value, now)  # pyright: ignore[reportUnknownArgumentType]
                    if token:
                        snapshot.allow_references(-token)
                        token = 0
                    if needs_own_tasks and not worker.must_leave:
                        worker.must_leave = not (
                            (startable or is_limited)
                            and run.backend.isolation.renew_task(worker)
                        )
                else:
                    await worker._settle_other(job, awaitable, value, error, now)
                    awaitable = value = error = None
                    if token:
                        snapshot.allow_references(-token)
                        token = 0
                # ---- where a policy or priorities decide, let all else end that ends in this turn
                if (  # dense: the hot loop stays as it was measured
                    is_limited
                    and line.order
                    and not (run.phase._is_ending or snapshot.is_same_iteration())
                ):
                    worker.start_searching()
                    worker.job = awaitable = value = None
                    worker.woken_in_turn = time_slice.turn_number
                    await run.backend.yield_to_loop()
                    now = clock()
                    worker.must_leave |= (
                        crew.is_closed or not snapshot.is_task_unchanged()
                    )
            # ---- leave: if `now` is late, `job` is the last that ran: taking another renews `now`
            if (
                has_run_jobs
                and now > time_slice.ends_at + MIN_BLOCKING_SECONDS
                and snapshot.is_same_iteration()
            ):
                run.failure_log.report_block(run, job, now)
            worker.job = None
            # It may have been cancelled while no job was running: in a wait for a turn, in an errand, at the start.
            is_changed = worker.must_leave and not (
                snapshot and snapshot.is_task_unchanged()
            )
            if (is_changed or worker.errand is not None) and run.phase is not STOPPING:
                run.notice_cancellation(worker)
        except BaseException as fault:
            # An error of the engine itself, because errors of jobs are handled above.
            worker = worker or self.run.time_slice.take_unstarted(self)
            _steps.abandon(worker.run, worker, fault)
        finally:
            worker.crew.leave(worker)  # pyright: ignore[reportOptionalMemberAccess]
            # A job's exception may keep this frame alive, which must not keep the run alive.
            nothing: Any = None
            self = worker = run = crew = scheduler = line = startable = notify_start = (
                nothing
            )
            time_slice = clock = snapshot = job = awaitable = value = error = nothing

    async def _get_time(self, last_job: AnyJob | None, now: float) -> bool:
        """Return whether there is time for another job after the last, if any: now, or after a wait for a turn."""
        run = self.run
        crew = self.crew
        time_slice = run.time_slice
        snapshot = self.task_snapshot
        if (
            last_job is not None
            and now > time_slice.ends_at + MIN_BLOCKING_SECONDS
            and snapshot.is_same_iteration()
        ):
            run.failure_log.report_block(run, last_job, now)
        if not time_slice.is_left(self, now, last_job is not None):
            self.start_searching()
            self.job = last_job = None
            await time_slice.wait(self)
            now = run.clock()
            self.must_leave |= crew.is_closed or not snapshot.is_task_unchanged()
            if self.must_leave or not time_slice.begin(self.woken_in_turn, now):
                return False
        if now >= crew.bounded_by.deadline:
            # The loop has not yet said so.
            crew.bounded_by.stop(StopReason.TIMEOUT)
            self.must_leave = True
            return False
        snapshot.record_iteration()
        return True

    def _enter_context(self, job: AnyJob, has_run_jobs: bool) -> bool:
        """Apply the context of a job with options to the task of the worker. Return False if the job needs another."""
        context = (job._extras or RunExtras).context
        if has_run_jobs and (job._options.own_task or context is not None):
            return False
        if context is not None:
            apply_context(context)
        return True

    async def _settle_other(
        self,
        job: AnyJob,
        awaitable: object,
        value: object,
        error: BaseException | None,
        now: float,
    ) -> None:
        """Settle a job, which ended at the time `now`, by the methods of its run. Check whether it changed the task."""
        run = self.run
        snapshot = self.task_snapshot
        error = await self.with_leftovers(error)
        self.must_leave |= (
            run.backend.isolation.gives_own_tasks
            or self.crew.is_closed
            or not snapshot.is_task_unchanged()
        )
        if self.must_leave and not self.crew.is_closed:
            run.notice_cancellation(self)
        # Closing the scopes that the job left open may take long, and the jobs that were cancelled have ended before.
        now = run.clock()
        if error is None:
            _steps.settle(run, job, SUCCEEDED, value, now)
        else:
            _steps.settle_error(run, self, job, error, awaitable, now)
            # The function `on` of its `retry` may have cancelled it, and with it this task.
            self.must_leave |= self.cause is not None
        # Break the reference cycle: the traceback refers to the frames of the callers.
        error = None

    def name_task(self, job: AnyJob) -> None:
        """Give the job's label to the task, on asyncio only if its own task was asked for. Then the worker leaves."""
        is_asked_for = self.run.needs_own_tasks or job._options.own_task
        self.must_leave |= is_asked_for
        if is_asked_for or self.run.backend.name == "trio":
            self.run.backend.name_task(self.task, job.label)

    def start_searching(self) -> None:
        if not self.is_searching:
            self.is_searching = True
            self.crew.searchers += 1

    def stop_searching(self) -> None:
        if self.is_searching:
            self.is_searching = False
            self.crew.searchers -= 1

    async def with_leftovers(self, error: BaseException | None) -> BaseException | None:
        """Close the scopes and groups that a job has left open, and return the error that ends it, if any.

        A job that just returned fails if it left something open, or cancelled its own task. If closing raises
        exceptions, they form a group with the job's.
        """
        backend = self.run.backend
        isolation = backend.isolation
        kind, errors = await isolation.close_leftovers(self)
        message = f"errors from a job, and from a {kind} that it left open"
        if error is None and kind is not None:
            message = f"errors from a {kind} that a job left open"
            advice = "close it before the job returns, with a with statement"
            error = RuntimeError(f"the job returned with a {kind} still open: {advice}")
        elif (
            error is None
            and backend.has_asyncio_cancellation()
            and not isolation.was_cancelled(self)
        ):
            error = JobCancelled(
                "the job cancelled its own task", "to end a job, call its cancel()"
            )
        if error is None or errors is None:
            return error
        return BaseExceptionGroup(message, [error, errors])


def nested_runs(workers: Iterable[Worker]) -> list[Run]:
    """Return the runs in progress of the nested schedulers that these workers run as their jobs."""
    return [run for run in map(Worker.nested_run, workers) if run is not None]


MAX_SEARCHERS: Final = 8
"""The maximum number of workers of a run that search for jobs at the same time. More searchers would save turns of the
loop. However, all jobs that they start resume in the same later turn, before any other task, and nested schedulers
whose jobs do nothing would cost more."""


class Crew:
    """A crew of a run: the jobs that may start, the workers that take them, and their group.

    A run has one crew for its ordinary jobs, and one for its clean-up jobs.
    """

    # Whether its jobs are clean-up jobs: only `CleanUp` is such a crew.
    is_clean_up = False
    group: WorkerGroup
    # Has the deadline of these workers: the clean-up phase, or the run with the earliest deadline among this run and
    # the runs that limit it.
    bounded_by: Any

    def __init__(self, run: Run, line: Line) -> None:
        self.run = run
        self.line: Final = line
        # Whether no worker may take another job: in the crew of a run, because the run is STOPPING. It is no property,
        # because each worker asks three times.
        self.is_closed = False
        self.searchers = 0
        self.alive: Final[dict[Worker, None]] = {}

    def start(self, jobs: Iterable[AnyJob]) -> None:
        """Start the jobs among these that may still start although the run drains or stops: none in this crew."""

    def ensure_searcher(self) -> None:
        """Admit jobs that can start. If jobs are startable and no worker searches, spawn workers.

        Call this after each event that makes a job ready, or lets another job start.
        """
        if self.line.places is not NO_PLACES:
            self.line.look()
        self.spawn_searcher()

    def spawn_searcher(self) -> None:
        """Spawn a worker if a job is startable and no worker searches. Admit no job."""
        startable = self.line.startable
        if self.searchers or self.is_closed:
            return
        while startable and startable[0]._state is not SCHEDULED:
            # The job was cancelled.
            startable.popleft()
        if startable:
            self.spawn()

    def has_work(self) -> bool:
        """Return whether a worker that begins may have a job to run, and not only to leave."""
        if self.is_closed:
            return False
        return bool(self.line.startable) or self.line.places is not NO_PLACES

    def spawn_more(self) -> None:
        """Spawn workers up to the maximum number of searchers, if jobs of other workers are suspended.

        A worker that begins to search calls this, and the run after its first turns. If nested schedulers are next, one
        more searcher is enough at a time, because their jobs need workers, too.
        """
        startable = self.line.startable
        # Some worker does not search, so its job may be suspended, and more jobs are startable than workers search.
        if len(self.alive) > self.searchers < len(startable):
            number = self.searchers + 1 if is_scheduler(startable[0]) else MAX_SEARCHERS
            for _ in range(min(number, len(startable), MAX_SEARCHERS) - self.searchers):
                self.spawn()

    def spawn(self, errand: Errand | None = None) -> Worker:
        """Spawn a worker, which searches for a job, or only does an errand."""
        worker = Worker(self)
        run = self.run
        group = self.group
        if errand is None:
            self.searchers += 1
        else:
            worker.errand = errand
            worker.is_searching = False
        self.alive[worker] = None
        try:
            run.standstill.add_active()
            run.time_slice.spawned.append(worker)
            group.spawn(worker)
        except BaseException as fault:
            # The program's task factory raised, or memory lacks: no task will leave.
            run.interrupt(fault)
            self.leave(worker)
        return worker

    def cancel(self) -> list[Run]:
        """Cancel all workers except those that run forever jobs. Return the nested runs that they host."""
        workers = [worker for worker in self.alive if not worker.is_shielded]
        for worker in workers:
            worker.mark_cancelled(CancelCause.STOP)
        if workers:
            # A run that is stopped during its check has no group yet.
            self.group.cancel(workers)
        return nested_runs(workers)

    def detach(self) -> None:
        """Drop the reference to the run, which has ended. Other threads, such as monitors, can still read counts."""
        self.line.detach()
        del self.run, self.group, self.bounded_by

    def leave(self, worker: Worker) -> None:
        """Remove a worker, and replace it if needed. An error on the way ends the run, which does not wait for it."""
        try:
            run = self.run
            time_slice = run.time_slice
            line = self.line
            worker.stop_searching()
            if worker.task_snapshot is None and worker in time_slice.spawned:
                # It has not begun.
                time_slice.spawned.remove(worker)
            del self.alive[worker]
            if not worker.is_shielded:
                run.standstill.remove_active()
            if run._stuck_jobs is not None:
                run._stuck_jobs.forget(worker)
            self.group.forget(worker)
            if line.startable or line.places is not NO_PLACES:
                self.ensure_searcher()
            if worker.errand is not None:
                worker.errand.end_errand()
        except BaseException as fault:
            self.alive.pop(worker, None)
            self.run.interrupt(fault)
        self.run.on_worker_left()

    def prepare_for_forever_job(self, worker: Worker) -> None:
        """Prepare a worker to run a forever job, shielded until the end of the run."""
        self.run.standstill.remove_active()
        worker.is_shielded = worker.must_leave = True
        worker.group.shield(worker)
        self.ensure_searcher()
