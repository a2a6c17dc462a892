"""A worker: a task that runs one ready job after another. This is the engine's hot path.

Spawning a task costs ten times as much as a job. So a worker whose job has ended takes the next ready job, and another
worker is needed only while a job is suspended. Nevertheless, each job has to behave as if it had its own task:

- If a job has changed the task (a context variable, an open scope, a cancellation), the worker retires, and a new
  one replaces it. A job that left a scope open has failed.
- If the worker's own scope was cancelled because of one job, the worker retires too.
- All workers share the time of each turn of the event loop: see `TimeSlice`.

```
spawn ──► take the next ready job ──► run it ──► settle it, count down its successors ──┐
              ▲     │ none                │ task changed                                │
              │     └──► park, or leave   └──► leave, and be replaced                   │
              └── if the turn is used up: yield to the loop, or park if there are searchers ◄┘
```

Four terms, and their invariants:

- A **worker** is in `Workers.alive` from before its task is spawned until it leaves or parks. `job` is the job that it
  runs, or None. `has_slot` is True while it has one of the window's slots; only `Workers` changes it.
- A **searcher** is a worker that will look at the ready queue by itself: it was spawned or woken and has taken no job
  yet, or it waits for a turn of the loop or for a token before it looks again. `Workers.searchers` is their number:
  - The code that spawns or wakes a worker counts it. A worker counts itself before it waits in `work`. It subtracts
    itself when it takes a job, parks or leaves.
  - A worker that waits in a limiter's queue is not counted (see `LimiterTokens`), because it cannot start a forever job
    or a nested scheduler meanwhile.
  - The number must not be 0 when control returns to the loop while a ready job could start, because no worker would
    look for that job. Therefore, code outside of `work` calls `ensure_searcher` after every event that makes a job
    ready or frees a slot. In `work`, a worker that takes a job and leaves others in the queue calls it, in case its own
    job is suspended.
- A **turn** is one iteration of the event loop. The workers share its time. `TimeSlice` decides which workers may
  continue in a turn, and which have to queue for a later one.
- A worker **parks** if it may be needed again, but finds no job, or if the turn is used up and enough workers search.
  Then its task waits, without a slot and not as a searcher, until it is woken, which is cheaper than spawning another
  worker. A run and those nested in it share their parked workers if their context variables are the same: the first
  run that needs a worker wakes one. A parked worker belongs to the outermost of these runs, the `parking_run` of the
  others, and is in its `Workers.parked`.
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
from ..job._job import DEFAULT_SLOW_PATH
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
    """Return whether a job needs its own task, because of `own_task` or context variables of its own."""
    options, extras = job._slow_path, job._extras
    return (options is not None and options.own_task) or (extras is not None and extras.context is not None)


TURN_SECONDS: Final = 0.001
"""How long all workers together may run jobs in one turn of the event loop, in seconds."""
MAX_JOBS_IN_TURN: Final = 200
"""The maximum number of jobs that a worker runs before it yields to the loop, even if a virtual clock stands still."""
MIN_WORKERS_IN_TURN: Final = 2
MAX_WORKERS_IN_TURN: Final = 24
"""The minimum and maximum number of workers, of all runs, that wait for one turn: the minimum after a job has used
up a turn, the maximum after many workers have had time in one."""


class TimeSlice:
    """The time that the workers of all runs in a loop share in one turn of the event loop.

    A worker that finds this time used up waits for the next turn. The first worker that continues in the next turn
    calls `begin`, which renews the time for all of them. Otherwise each worker would take the whole time for itself.

    A worker need not wait if the loop has turned while its own job was suspended; its task snapshot shows this.

    At most `max_waiting` workers wait for the next turn of the loop, which wakes all of them: twice as many as found
    time left in the last turn. The others wait in `queue`. Each worker that has waited admits the next ones from the
    queue, so the queue is never without a waiting worker. If all workers waited for each turn, a thousand might wake
    in a turn that the first job uses up.
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
        self.turn_number = 0  # counts the turns in which workers have renewed the time
        self.reports: Final = reports  # reports about jobs of all these runs, from other threads
        self.ends_at = clock() + TURN_SECONDS
        self.waiting_count = 0
        self.max_waiting = MAX_WORKERS_IN_TURN
        self.workers_with_time = 0  # how many workers have found time left in this turn
        self.queue: Final[dict[Worker, None]] = {}
        # The code of functions whose job was suspended in the first turn of its run. Such jobs will probably be
        # suspended again, so if a few are ready, each gets a worker at once. A wrong guess costs a task for each job.
        self.suspended_code: Final[weakref.WeakSet[CodeType]] = weakref.WeakSet()

    def begin(self, number: int, now: float) -> bool:
        """Renew the time after turn `number`, unless another worker has done so; return whether time is left."""
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
            number = worker.called_in_turn
            if worker in self.queue:  # its run was cancelled
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
        worker.called_in_turn = self.turn_number


class Worker(WorkerTask):
    """A task that runs the jobs of a run one after another. `job` is the current job; None between jobs."""

    __slots__ = (
        "called_at",
        "called_in_turn",
        "has_slot",
        "is_shielded",
        "jobs_at_call",
        "run",
        "token_limiter",
        "was_cancelled_alone",
        "was_ended_by_run",
    )

    def __init__(self, run: Run, has_slot: bool, now: float = -math.inf, jobs: int = 0) -> None:
        self.run = run
        self.group = run.group
        self.task_snapshot = self.wake_handle = self.scope = self.task = self.timer = None
        self.deadline = self.timer_fires_at = math.inf
        self.has_slot = has_slot
        self.called_at, self.jobs_at_call, self.called_in_turn = now, jobs, run.time_slice.turn_number
        self.job: AbstractJob[Any] | None = None
        self.is_shielded = False  # True while the worker runs a forever job, which ends after all other jobs
        # Whether the worker was cancelled, but not its run: by `cancel()` or the timeout of its job, or because the run
        # ends its forever jobs.
        self.was_cancelled_alone = False
        self.was_ended_by_run = False  # whether the worker was cancelled because the run ends its forever jobs
        self.token_limiter: Any = None  # the limiter that the worker holds a token of

    def record_wake_up(self, now: float, jobs: int) -> None:
        """Record that the worker is spawned or woken now, in this turn.

        `jobs` is the number of ready jobs plus the number of workers that have begun to search; see `spawn_more`.
        """
        self.called_at, self.jobs_at_call, self.called_in_turn = now, jobs, self.run.time_slice.turn_number

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
        """Leave, because the task was cancelled before its first step, so that `work` will not run."""
        workers = self.run.workers
        if self in workers.alive:
            self.run.notice_cancellation(self)
            workers.searchers -= 1
            workers.leave(self)

    def cancel_alone(self) -> None:
        """Cancel this worker, with its job, but not its run."""
        self.was_cancelled_alone = True
        self.group.cancel_worker(self)

    async def work(self) -> None:
        """Run ready jobs until there are none left, or until a job has changed the task.

        This is the hot loop. It is one long function, because each call costs up to a tenth of a job. For the simplest
        jobs, three parts of it do the same as methods that serve all other jobs. Change both together:

        - (1), the start of a job, does the same as `Run.begin`, which is called for clean-up jobs.
        - (2), the end of a job, does the same as `Run.settle`, which is called for jobs that have failed, have
          `RunExtras` (needs, a journal, listeners, ...), are forever, or drop the results of their inputs.
        - (3), inside (2), does the same as `RequirementCounts.count_down`, `Run.make_ready` and `Run.schedule`, which
          are called for successors that have other rules, are forever, or are not IDLE.

        `tests/laws/test_shortest_path.py` compares the two on random scenarios.
        """
        run: Run = self.run
        workers: Workers
        backend, clock = run.backend, run.clock
        time_slice: TimeSlice = run.time_slice
        must_name_tasks = self.group.must_name_tasks
        awaitable: Any
        value: Any
        error: BaseException | None
        snapshot: Any  # None if the task was cancelled before its first job
        job: Any = None  # an AbstractJob; the hot path also reads fields of Job
        nothing: Any = None  # assigned to variables that must not keep their objects alive
        settled = 0  # how many jobs were settled here that `run.unsettled` still includes
        jobs_left = MAX_JOBS_IN_TURN
        searching, has_run_jobs, may_continue = True, False, True
        current_worker_var.set(self)
        try:
            snapshot = backend.isolation.attach_current_task(self)
            tainted = not snapshot
            while may_continue:
                # ---- begin to search, for the run that has spawned or woken this worker
                run = self.run
                workers, gated, scheduler, needs_own_tasks, ready, forever_ready, queued, hooks = run.worker_fields
                notify_start, notify_end, notify_scheduled = hooks
                tainted = tainted or run.phase is STOPPING
                may_continue, number, now = False, self.called_in_turn, clock()
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
                            run.count_settled(settled)  # now, because the wait may be long
                            settled = 0
                            if not searching:
                                if workers.searchers >= workers.enough_searchers:  # enough other workers search
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
                        workers.note_start()
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
                    self.job = job  # (1) begins
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
                            if settled and job._forever:  # now, because the job may run until the end
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
                        job._outcome = value  # (2) begins
                        job._finished_at = now
                        job._worker = None
                        job._state = SUCCEEDED
                        settled += 1
                        if notify_end is not None:
                            notify_end(scheduler, job)
                        successors = job._successors
                        if successors is not None:
                            job._successors = None
                            successors_class = successors.__class__
                            if successors_class is not tuple and successors_class is not list:
                                successors = (successors,)
                            for successor in successors:  # (3) begins
                                pending = successor._pending - 1
                                successor._pending = pending
                                if not pending:
                                    rule = successor._rule
                                    if (
                                        (rule is not None and not certainly_runs(rule))
                                        or successor._forever
                                        or successor._state is not IDLE
                                    ):
                                        run.requirement_counts.counting_down = (
                                            True  # so that its own successors are queued
                                        )
                                        run.make_ready(successor)
                                        run.requirement_counts.counting_down = False
                                        if run.phase is STOPPING:
                                            break  # the successor is critical and BLOCKED
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
        except BaseException as fault:  # an error of the engine itself: those of jobs are handled above
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
        """Raise an error if the job that has just returned left a scope or group open, or cancelled its own task."""
        kind, errors = await self.run.backend.isolation.close_leftovers(self)
        if kind is not None:
            leftover = RuntimeError(
                f"the job returned with a {kind} still open: close it before the job returns, by a with statement"
            )
            if errors is None:
                raise leftover
            raise BaseExceptionGroup(f"errors from a {kind} that a job left open", [leftover, errors])
        if self.run.backend.isolation.has_cancelled_itself(self):
            raise _errors.JobCancelled("the job cancelled its own task: to end a job, call its cancel()")

    async def with_leftover_errors(self, error: BaseException) -> BaseException:
        """Close the scopes and groups that a failed job has left open.

        Return the exception of the job. If closing raises exceptions, return a group of all of them.
        """
        kind, errors = await self.run.backend.isolation.close_leftovers(self)
        if errors is None:
            return error
        return BaseExceptionGroup(f"errors from a job, and from a {kind} that it left open", [error, errors])
