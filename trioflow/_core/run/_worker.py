"""A worker: a task that runs one ready job after another. This is the engine's hot path.

Spawning a task costs ten times as much as running an empty job. So a worker whose job has ended takes the next ready
job, and another worker is needed only while a job is suspended. Nevertheless, each job must behave as if it had its own
task:

- If a job has changed the task (a context variable, an open scope, a cancellation), the worker leaves, and a new one
  replaces it. A job that left a scope open has failed.
- If the worker's own scope was cancelled because of one job, the worker leaves, too.
- All workers share the time of each turn of the event loop; see `TimeSlice`.

```
spawn ──► take the next ready job ──► run it ──► settle it, count down its successors ──┐
              ▲     │ none                │ task changed                                │
              │     └──► park, or leave   └──► leave, and be replaced                   │
              └── if the turn is used up: yield to the loop, or park if there are searchers ◄┘
```

Four terms, and their invariants:

- A **worker** is in `Workers.alive` from before its task is spawned until it leaves or parks. `job` is the job that the
  worker runs, or None. `has_slot` is True while the worker has one of the window's slots; only `Workers` and
  `LimiterTokens` change it.
- A **searcher** is a worker that will look at the ready queue without being woken: it was spawned or woken and has
  taken no job yet, or it waits for a turn of the loop before it looks again. `Workers.searchers` counts these workers:
  - The code that spawns or wakes a worker counts it. A worker counts itself before it waits in `work`. It stops
    counting itself when it takes a job, parks or leaves.
  - A worker that waits in a limiter's queue is not counted (see `LimiterTokens`), because it cannot start a forever job
    or a nested scheduler meanwhile.
  - The number must not be 0 when control returns to the loop while a ready job could start, because no worker would
    look for that job. Therefore, code outside of `work` calls `ensure_searcher` after every event that makes a job
    ready or frees a slot. In `work`, a worker that takes a job and leaves others in the queue calls it, because its own
    job may be suspended.
- A **turn** is one iteration of the event loop. The workers share its time. `TimeSlice` decides which workers may
  continue in a turn, and which have to queue for a later one.
- A worker **parks** if it finds no job but may be needed again, or if the turn is used up and enough other workers
  search. Its task then waits to be woken. Meanwhile, the worker has no slot and is not a searcher. Waking it is cheaper
  than spawning another one. A run and the runs nested in it share their parked workers if their context variables are
  the same: the first run that needs a worker wakes one. A parked worker belongs to the outermost of these runs, which
  is the `parking_run` of the others, and is in its `Workers.parked`.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from types import CodeType, CoroutineType
from typing import TYPE_CHECKING, Any, Final

from ..backend import WorkerTask
from ..base._states import IDLE, RUNNING, SCHEDULED, STOPPING, SUCCEEDED
from ..job import _errors
from ..job._job import DEFAULT_SLOW_PATH, is_scheduler
from ..job._outcome import UNCALLED, unawaited_coroutine_error
from ..job._trigger_rules import certainly_runs
from ._attempts import call_job
from ._current import apply_context, current_worker_var
from ._failure_log import MIN_BLOCKING_SECONDS

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ._idle_timeouts import ThreadReports, TimeLimit
    from ._run import Run
    from ._workers import Workers


def needs_own_task(job: AbstractJob[Any]) -> bool:
    """Return whether a job needs its own task, because of the option `own_task` or its own context variables."""
    options, extras = job._slow_path, job._extras
    return (options is not None and options.own_task) or (extras is not None and extras.context is not None)


TURN_SECONDS: Final = 0.001
"""The time, in seconds, for which all workers together may run jobs in one turn of the event loop."""
MAX_JOBS_IN_TURN: Final = 200
"""The maximum number of jobs that a worker runs before it yields to the loop: a virtual clock may stand still."""
MIN_WORKERS_IN_TURN: Final = 2
MAX_WORKERS_IN_TURN: Final = 24
"""The bounds of `TimeSlice.max_waiting`."""


class TimeSlice:
    """The time that the workers of all runs in a loop share in one turn of the event loop.

    A worker that finds this time used up waits for the next turn. The first worker that continues in that turn calls
    `begin`, which renews the time for all of them. Otherwise, each worker would take the whole time for itself.

    A worker need not wait if a new iteration of the loop has begun while its own job was suspended; its task snapshot
    shows this.

    Up to `max_waiting` workers wait for the next turn of the loop, which wakes all of them. This is twice the number of
    workers that found time left in the last turn, within bounds. Further workers wait in `queue`. Each worker that has
    waited admits the next ones from the queue, so while the queue has workers, at least one worker waits for a turn. If
    all workers waited for each turn, a thousand might wake in a turn that the first job uses up.
    """

    __slots__ = (
        "clock",
        "ends_at",
        "max_waiting",
        "queue",
        "reports",
        "suspended_code",
        "turn_number",
        "waiting_count",
        "workers_with_time",
    )  # fmt: skip

    def __init__(self, clock: Callable[[], float], reports: ThreadReports) -> None:
        self.clock: Final = clock
        self.turn_number = 0  # the number of times that the time was renewed, at most once per turn of the loop
        self.reports: Final = reports  # progress reports from other threads, about jobs of all runs in the loop
        self.ends_at = clock() + TURN_SECONDS
        self.waiting_count = 0
        self.max_waiting = MAX_WORKERS_IN_TURN
        self.workers_with_time = 0  # how many times workers have found time left in this turn
        self.queue: Final[dict[Worker, None]] = {}
        # The code of job functions that were suspended in the first turn of a run. Jobs with these functions will
        # probably be suspended again, so if a few are ready, each gets a worker at once. A wrong guess costs a task for
        # each job.
        self.suspended_code: Final[weakref.WeakSet[CodeType]] = weakref.WeakSet()

    def begin(self, number: int, now: float) -> bool:
        """Renew the time after turn `number`, unless another worker has done so; return whether any time is left."""
        if self.turn_number == number:
            self.turn_number += 1
            self.ends_at = now + TURN_SECONDS
            self.max_waiting = min(max(MIN_WORKERS_IN_TURN, 2 * self.workers_with_time), MAX_WORKERS_IN_TURN)
            self.workers_with_time = 0
        if now > self.ends_at:
            return False
        self.workers_with_time += 1
        return True

    async def wait(self, worker: Worker) -> int:
        """Wait for the next turn of the loop, or in the queue for a later one; return the number to give to `begin`."""
        number = self.turn_number
        if self.waiting_count < self.max_waiting and not self.queue:
            self.waiting_count += 1
            await worker.run.backend.yield_to_loop()
        else:
            self.queue[worker] = None
            await worker.run.backend.park(worker)
            number = worker.woken_in_turn
            if worker in self.queue:  # the worker was woken because its run was cancelled
                self._admit(worker)
        self.waiting_count -= 1
        while self.queue and self.waiting_count < self.max_waiting:
            self.admit_next(next(iter(self.queue)))
        return number

    def admit_next(self, worker: Worker) -> None:
        """Admit a queued worker to the next turn of the loop."""
        self._admit(worker)
        worker.run.backend.wake(worker)

    def _admit(self, worker: Worker) -> None:
        del self.queue[worker]
        self.waiting_count += 1
        worker.woken_in_turn = self.turn_number


class Worker(WorkerTask):
    """A task that runs the jobs of a run one after another. `job` is the current job, or None between jobs."""

    __slots__ = (
        "has_slot",
        "is_shielded",
        "jobs_at_wake_up",
        "run",
        "token_limiter",
        "was_cancelled_alone",
        "was_ended_by_run",
        "woken_at",
        "woken_in_turn",
    )

    def __init__(self, run: Run, has_slot: bool, now: float = -math.inf, jobs: int = 0) -> None:
        self.run = run
        self.group = run.group
        self.task_snapshot = self.wake_handle = self.scope = self.task = self.timer = None
        self.deadline = self.timer_fires_at = math.inf
        self.has_slot = has_slot
        self.woken_at, self.jobs_at_wake_up, self.woken_in_turn = now, jobs, run.time_slice.turn_number
        self.job: AbstractJob[Any] | None = None
        self.is_shielded = False  # True while the worker runs a forever job, which outlasts the other jobs
        # Whether the worker was cancelled, but not its run: by the job's `cancel()` or timeout, or because the run ends
        # its forever jobs.
        self.was_cancelled_alone = False
        self.was_ended_by_run = False  # whether the worker was cancelled because the run ends its forever jobs
        self.token_limiter: Any = None  # the limiter of which the worker holds a token

    def record_wake_up(self, now: float, jobs: int) -> None:
        """Record that the worker is woken at the time `now`, in the current turn.

        `jobs` is the number of ready jobs plus the number of times that workers have begun to search; see `spawn_more`.
        """
        self.woken_at, self.jobs_at_wake_up, self.woken_in_turn = now, jobs, self.run.time_slice.turn_number

    def time_limits(self) -> Iterator[TimeLimit]:
        """Yield the time limits that progress of the current job postpones: its own, and those of its schedulers."""
        extras = None if self.job is None else self.job._extras
        if extras is not None and extras.time_limit is not None:
            yield extras.time_limit
        worker: Worker | None = self
        while worker is not None:
            idle_instrument = worker.run.idle_instrument
            if idle_instrument is not None and idle_instrument.limit is not None:
                yield idle_instrument.limit
            worker = worker.run.outer_worker

    def leave_unstarted(self) -> None:
        """Leave, because the task was cancelled before its first step and `work` will never run."""
        workers = self.run.workers
        if self in workers.alive:
            self.run.notice_cancellation(self)
            workers.searchers -= 1
            workers.leave(self)

    def nested_run(self) -> Run | None:
        """Return the run in progress of the nested scheduler that the worker runs as its job; None if there is none."""
        return self.job._run if is_scheduler(self.job) else None

    def stop_nested_run(self) -> None:
        """Stop the run of a nested scheduler at once, because the worker was cancelled.

        Otherwise, that run would start jobs until the loop delivers the cancellation.
        """
        if (nested := self.nested_run()) is not None:
            nested.stop_cancelled()

    def cancel_alone(self) -> None:
        """Cancel this worker, with its job, but not its run."""
        self.was_cancelled_alone = True
        self.group.cancel_worker(self)
        self.stop_nested_run()

    async def work(self) -> None:
        """Run ready jobs until there are none left, or until a job has changed the task.

        This is the hot loop. It is one long function, because each call costs up to a tenth of an empty job. Three
        parts of it duplicate methods that serve the other jobs. Change each part together with its methods:

        - (1), the start of a job, duplicates `Run.begin`, which is called for clean-up jobs.
        - (2), the end of a job, duplicates `Run.settle`, which is called for jobs that have failed, have `RunExtras`
          (needs, a journal, listeners, ...), are forever jobs, have their own task, or drop the results of their
          inputs; and for jobs that end while the run stops or that have changed the task.
        - (3), inside (2), duplicates `RequirementCounts.count_down`, `Run.make_ready` and `Run.schedule`. The methods
          are called for successors that might not run by their rules, are forever jobs, or are not IDLE.

        `tests/laws/test_hot_path.py` compares the parts with the methods on random scenarios.
        """
        run: Run = self.run
        workers: Workers
        backend, clock = run.backend, run.clock
        time_slice: TimeSlice = run.time_slice
        must_name_tasks = self.group.must_name_tasks
        awaitable: Any
        value: Any
        error: BaseException | None
        snapshot: Any  # None if the task was cancelled before it took a job
        job: Any = None  # an AbstractJob; the hot path also reads fields of Job
        nothing: Any = None  # assigned to variables that must not keep their objects alive
        settled = 0  # how many jobs this frame has settled that `run.unsettled` still includes
        jobs_left = MAX_JOBS_IN_TURN
        searching, has_run_jobs, may_continue = True, False, True
        current_worker_var.set(self)
        try:
            snapshot = backend.isolation.attach_current_task(self)
            tainted = not snapshot
            while may_continue:
                # ---- begin to search, for the run that spawned or woke this worker
                run = self.run
                workers, gated, scheduler, needs_own_tasks, ready, forever_ready, queued, hooks = run.worker_fields
                notify_start, notify_end, notify_scheduled = hooks
                tainted = tainted or run.phase is STOPPING
                may_continue, number, now = False, self.woken_in_turn, clock()
                workers.search_count += 1
                if not tainted:
                    workers.spawn_more(self, now)
                while not tainted:
                    # ---- yield to the loop, if the turn is used up
                    if now > time_slice.ends_at or not jobs_left:
                        if (
                            has_run_jobs
                            and now > time_slice.ends_at + MIN_BLOCKING_SECONDS
                            and snapshot.is_same_iteration()
                        ):
                            run.failure_log.report_block(run, job, now)
                        if (has_run_jobs and snapshot.is_same_iteration()) or not time_slice.begin(number, now):
                            run.count_settled(settled)  # before the wait, which may be long
                            settled = 0
                            if not searching:
                                if workers.searchers >= workers.enough_searchers:
                                    may_continue = workers.may_park()
                                    break
                                workers.searchers += 1
                                searching = True
                            self.job = awaitable = value = None
                            number = await time_slice.wait(self)
                            now = clock()
                            tainted = run.phase is STOPPING or not snapshot.is_task_unchanged()
                            if tainted or not time_slice.begin(number, now):
                                continue
                        jobs_left = MAX_JOBS_IN_TURN
                        snapshot.record_iteration()
                    # ---- take the next ready job
                    if gated:
                        run.count_settled(settled)
                        settled = 0
                        self.job = awaitable = value = None
                        if not searching:
                            workers.searchers += 1
                            searching = True
                        tokens = workers.tokens
                        job = workers.take_job(self) if tokens is None else await tokens.next_job(self, has_run_jobs)
                        if job is None:
                            break
                        now = clock()
                    elif forever_ready or not self.has_slot:
                        self.job = None
                        job = workers.take_job(self)
                        if job is None:
                            break
                    elif ready:
                        job = ready.popleft()
                        if job._state is not SCHEDULED:
                            continue  # the job was cancelled, or was taken from the forever queue
                    else:
                        run.count_settled(settled)
                        settled = 0
                        may_continue = workers.may_park()
                        break
                    options = job._slow_path
                    if needs_own_tasks or (options is not None and (options.own_task or job._extras is not None)):
                        if has_run_jobs and (needs_own_tasks or needs_own_task(job)):
                            run.queue.push_first(job)  # a new worker takes it
                            break
                        if job._extras is not None and job._extras.context is not None:
                            apply_context(job._extras.context)
                    if searching:
                        workers.searchers -= 1
                        searching = False
                    if gated:
                        workers.on_job_start()
                    if options is not None and job._forever:
                        workers.prepare_for_forever_job(self)
                    elif ready and not workers.searchers:
                        workers.ensure_searcher()
                    # ---- run it
                    jobs_left -= 1
                    if number != time_slice.turn_number or not has_run_jobs:
                        number = time_slice.turn_number
                        snapshot.record_iteration()
                    has_run_jobs = True
                    self.job = job  # (1) of the docstring begins: keep it in sync with `Run.begin`
                    job._worker = self
                    job._started_at = now
                    job._state = RUNNING  # (1) ends
                    if must_name_tasks:
                        backend.name_task(self.task, job.label)
                    value = error = None  # this frame must not keep a result alive
                    awaitable = UNCALLED
                    try:
                        if notify_start is not None:
                            notify_start(scheduler, job)
                        if options is None:
                            awaitable = job._function(*job._args)
                        else:
                            if settled and job._forever:  # before the call, which may last until the end of the run
                                run.count_settled(settled)
                                settled = 0
                            is_plain = options is DEFAULT_SLOW_PATH and job._callbacks is None
                            awaitable = job._call_once() if is_plain else call_job(self, job, options)
                        value = await awaitable
                        if value is not None and value.__class__ is CoroutineType:
                            raise unawaited_coroutine_error(job.label, value)
                        if not snapshot.is_task_unchanged():
                            tainted = True
                            await self.reject_leftovers()
                    except BaseException as raised:
                        error = raised
                    # ---- settle it
                    now = clock()
                    if (
                        tainted
                        or error is not None
                        or job._extras is not None
                        or (
                            options is not None
                            and (job._forever or options.own_task or (job._rule and job._rule.drops_results))
                        )
                    ):
                        if settled:
                            run.count_settled(settled)
                            settled = 0
                        if error is not None:
                            error = await self.with_leftover_errors(error)
                            tainted = run.phase is STOPPING or not snapshot.is_task_unchanged()
                        if tainted and run.phase is not STOPPING:
                            run.notice_cancellation(self)
                        if error is None:
                            run.settle(job, SUCCEEDED, value, now)
                        else:
                            run.settle_error(self, job, error, awaitable, now)
                        if options is not None and (job._forever or options.own_task):
                            break
                    else:
                        job._outcome = value  # (2) of the docstring begins: keep it in sync with `Run.settle`
                        job._finished_at = now
                        job._worker = None
                        job._state = SUCCEEDED
                        settled += 1
                        if notify_end is not None:
                            notify_end(scheduler, job)
                            if run.is_draining_or_stopping:  # an instrument has drained or cancelled the run
                                job._successors = None
                        successors = job._successors
                        if successors is not None:
                            job._successors = None
                            successors_class = successors.__class__
                            if successors_class is not tuple and successors_class is not list:
                                successors = (successors,)
                            for successor in successors:  # (3) of the docstring begins
                                pending = successor._pending - 1
                                successor._pending = pending
                                if not pending:
                                    rule = successor._rule
                                    if (
                                        (rule is not None and not certainly_runs(rule))
                                        or successor._forever
                                        or successor._state is not IDLE
                                    ):
                                        # If the successor settles at once, its own successors are only queued.
                                        run.requirement_counts.counting_down = True
                                        run.make_ready(successor)
                                        run.requirement_counts.counting_down = False
                                        if run.is_draining_or_stopping:
                                            break  # the successor is critical and BLOCKED, or as below
                                    else:
                                        successor._state = SCHEDULED
                                        ready.append(successor)
                                        if notify_scheduled is not None:
                                            notify_scheduled(scheduler, successor)
                                            if run.is_draining_or_stopping:
                                                break  # an instrument has drained or cancelled the run
                            if queued:
                                run.requirement_counts.count_down_queued()  # (3) and (2) of the docstring end
                if has_run_jobs and now > time_slice.ends_at + MIN_BLOCKING_SECONDS and snapshot.is_same_iteration():
                    run.failure_log.report_block(run, job, now)
                self.job = awaitable = value = error = job = successors = successor = None
                if may_continue:
                    workers.searchers -= searching
                    searching = False
                    workers.park(self)
                    # A parked worker must not keep its last job or the run alive.
                    run = workers = scheduler = ready = forever_ready = queued = nothing
                    hooks = notify_start = notify_end = notify_scheduled = nothing
                    await backend.park(self)
                    may_continue = searching = self.run.workers.was_woken(self)
                    tainted = not snapshot.is_task_unchanged()
                elif (tainted or gated) and run.phase is not STOPPING:
                    run.notice_cancellation(self)
        except BaseException as fault:  # an error of the engine itself, because errors of jobs are handled above
            self.run.abandon(self, fault)
        finally:
            workers = self.run.workers
            if searching:
                workers.searchers -= 1
            if settled:
                run.count_settled(settled)
            workers.leave(self)
            # A job's exception may keep this frame alive, which must not keep the run alive.
            self = run = workers = scheduler = snapshot = job = successors = successor = nothing

    async def reject_leftovers(self) -> None:
        """Raise an error if the job that just returned left a scope or group open, or cancelled its own task."""
        kind, errors = await self.run.backend.isolation.close_leftovers(self)
        if kind is not None:
            leftover = RuntimeError(
                f"the job returned with a {kind} still open: close it before the job returns, with a with statement"
            )
            if errors is None:
                raise leftover
            raise BaseExceptionGroup(f"errors from a {kind} that a job left open", [leftover, errors])
        if self.run.backend.isolation.has_cancelled_itself(self):
            raise _errors.JobCancelled("the job cancelled its own task: to end a job, call its cancel()")

    async def with_leftover_errors(self, error: BaseException) -> BaseException:
        """Close the scopes and groups that a failed job has left open.

        Return the job's exception. If closing raises exceptions, return a group of the job's exception and those.
        """
        kind, errors = await self.run.backend.isolation.close_leftovers(self)
        if errors is None:
            return error
        return BaseExceptionGroup(f"errors from a job, and from a {kind} that it left open", [error, errors])
