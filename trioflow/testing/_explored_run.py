"""One run of a scenario by a plan: it steps jobs from wait to wait, applies the changes, and checks the invariants.

```
plan ──► ExploredRun.run ──► make_scheduler() ──► co_run(), on virtual time, tasks in the plan's order ──► RunOutcome
             │                                   │ each call of a job
             │ crash: start again                ▼
             └────────── _step_coroutine(): begin ─► wait ──► resume ─► wait ──► ... ──► end
                                        at each step: apply the changes of the plan
```

`_step_coroutine` steps every call of a job: it passes the traps of the job's coroutine to the event loop, and the
loop's answers to the coroutine. So it controls each wait of the job: it can resume the job later, make it fail, or
never resume it. A change must not break a guarantee of the backends or of the engine, so these rules apply:

- Cancellations and Ctrl-C happen at the beginning of a job, or while it waits; crashes also at its end. While the job
  waits, a separate task causes them, because the job's trap must reach the event loop first. This task resumes before
  all others in the next iteration of the loop.
- An injected exception represents a failure of the outside world. It is raised at the beginning or the end of a job's
  body, or after a sleep, which represents work in the outside world. It is not raised after a wait for a lock, which
  cannot fail.
- A service is not cancelled once it is ready, because its scheduler cancels it only after all jobs that use it have
  ended. It is not cancelled at its beginning either, because it may report readiness before it waits.
- A job may always resume late. On trio it is shielded from cancellation during the delay, because it may already have
  received what it waited for. On asyncio, a task may be cancelled even then.
- A crash copies the world at that moment, and the journal ignores all later records. The crashed program is shut down
  like any other, but in a world that is then discarded; the next program gets the copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import inspect
import os
import tempfile
import types
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import anyio.to_thread

from .._core.api.kinds import name_of, short_repr
from .._core.api.testing import (
    describe_line,
    has_hard_timeout,
    intercept_calls,
    interrupt,
    runs_outside_loop,
    scope_with_run_deadline,
)
from .._core.api.views import (
    AbstractJob,
    AnyJob,
    Instrument,
    JobState,
    RunPhase,
    current_run,
    enclosing_schedulers,
    is_ready,
    is_scheduler,
    is_service,
    paths_of,
)
from . import _coroutine_frames
from ._fault_plans import END_PLACE, FAULT_OF_KIND, SHORT_DELAY, Change, Plan
from ._task_order import FIRST_TASK_NAME, TaskOrder, set_task_order, timers_before

if TYPE_CHECKING:
    from .. import Scheduler

STALL_LIMIT: Final = 1e9
"""The virtual time, in seconds, at which a run counts as stalled. The clock reaches it only without other timers."""
MAX_ENDING_ITERATIONS: Final = 4
"""The number of iterations of asyncio's event loop that tasks may take to finish after the run."""
PLAIN_ROUND_WAITS: Final = 100_000
"""The number of waits in a round of a plain or repeated run.

A run counts as endless if no timer stays pending throughout a round, or if the clock stands still during one.
"""
MIN_ROUND_WAITS: Final = 5_000
ROUND_FACTOR: Final = 50
"""A round of any other run has this many times the waits of the longest plain run, but at least `MIN_ROUND_WAITS`."""
TIMEOUT_CHECK_LEAD: Final = 2.0**-10
"""The time, in seconds, by which the check of the other timers precedes the timeout of a scheduler."""
EXTERNAL_FAULTS: Final = frozenset({"cancellation", "ctrl-c", "crash"})
"""The faults whose cause lies outside the job."""
MAX_WAITS_AFTER_GIVING_UP: Final = 1_000
"""The maximum number of waits in the last round of a run that was given up. Each further wait raises `EndlessRun`."""

NO_CHANGES: Final[list[Change]] = []

current_explored_run: Final[contextvars.ContextVar[ExploredRun]] = contextvars.ContextVar("trioflow exploration")


class InjectedError(Exception):
    """The exception that `explore` raises in a job to make it fail. It represents a failure of the outside world."""


class EndlessRun(BaseException):
    """The exception that ends a run that would never end by itself."""


@dataclass(slots=True)
class SteppedJob:
    """A job of the scenario whose calls are stepped from wait to wait.

    Attributes:
        name: the path of the job.
        job: the job.
        wait_count: the number of waits in all calls of the job since the last crash.
        call_count: the number of calls since the last crash.
        is_running: whether a call is in progress.
        waiting_coroutine: the coroutine of the job while it waits; None at other times.
        wait_start: the time at which the current or last wait began.
        shutdown_count: the number of calls of the job's `co_shutdown` since the last crash.
        pending_failures: the failures to repeat. Each is a pair: the description of the place, and the change.

    """

    name: str
    job: AnyJob
    wait_count: int = 0
    call_count: int = 0
    is_running: bool = False
    waiting_coroutine: Any = None
    wait_start: float = 0.0
    shutdown_count: int = 0
    pending_failures: list[tuple[str, Change]] = field(default_factory=list[tuple[str, Change]])

    def take_failures(self, place: str) -> list[Change]:
        """Remove and return the failures to repeat at this place."""
        failures = self.pending_failures
        self.pending_failures = [failure for failure in failures if failure[0] != place]
        return [change for failure_place, change in failures if failure_place == place]


@dataclass(slots=True)
class RunOutcome:
    """The outcome of one run.

    Attributes:
        plan: the plan of the run.
        violated_invariant: the violated invariant; None if all invariants held.
        error: the exception that violated the invariant, if there is one.
        event_lines: the events of the run, as lines of text.
        applied_changes: the changes of the plan that were applied.
        wait_counts: the number of waits of each job, by name.
        jobs_with_timeout: the names of the jobs that have a timeout, or are in a scheduler that has one.
        jobs_with_retries: the names of the jobs that have retries, or are in a scheduler that has them.
        make_error: the error that `make_scheduler` raised before any job had waited; None if there is none.
        task_order: the order of tasks in the run.
        total_wait_count: the number of waits of all jobs.
        end_time: the virtual time at the end.

    """

    plan: Plan
    violated_invariant: str | None = None
    error: BaseException | None = None
    event_lines: list[str] = field(default_factory=list[str])
    applied_changes: set[Change] = field(default_factory=set[Change])
    wait_counts: dict[str, int] = field(default_factory=dict[str, int])
    jobs_with_timeout: set[str] = field(default_factory=set[str])
    jobs_with_retries: set[str] = field(default_factory=set[str])
    make_error: Exception | None = None
    task_order: TaskOrder | None = None
    total_wait_count: int = 0
    end_time: float = 0.0


class ExploredRun:
    """One run of a scenario.

    Args:
        make: creates the scheduler. If it takes an argument, it is called with the world.
        check: called with the scheduler after the run, and with the world if it takes two arguments; None for no check.
        plan: the changes of the run.
        round_size: the number of waits in a round; see `PLAIN_ROUND_WAITS`.
        order_seed: a seed for the order of tasks in all iterations; None for the usual order.

    """

    def __init__(
        self,
        make: Callable[..., Scheduler],
        check: Callable[..., object] | None,
        plan: Plan,
        round_size: int = PLAIN_ROUND_WAITS,
        order_seed: int | None = None,
    ) -> None:
        self._make_scheduler: Final = make
        self._check: Final = check
        self._round_size: Final = round_size
        self.plan: Final = plan
        self.outcome: Final = RunOutcome(plan)
        self._changes_by_place: Final[
            dict[str, dict[int, list[Change]]]
        ] = {}  # by the name of the job, then by the place
        seeds: dict[int, int] = {}
        ranks: dict[str, float] = {}
        first: dict[int, str] = {}
        for change in plan.changes:
            if change.kind == "turn":
                seeds[change.at] = int(change.value)
            elif change.kind == "first":
                first[change.at] = change.name
            elif change.kind == "rank":
                ranks[change.name] = change.value
            else:
                self._changes_by_place.setdefault(change.name, {}).setdefault(change.at, []).append(change)
            if change.kind in ("turn", "first", "rank"):
                self.outcome.applied_changes.add(change)
        self.task_order: Final = TaskOrder(seeds, ranks, first, order_seed)
        self.outcome.task_order = self.task_order
        self._world: dict[Any, Any] = {}
        self._crash_copy: dict[Any, Any] = {}  # a copy of the world at the moment of the last crash
        self._stepped_jobs: dict[AnyJob, SteppedJob] = {}
        self._waits_before_crash: Counter[str] = Counter()  # by the name of the job
        self._waits_in_round = 0
        self._round_start = 0.0
        self._timeout_deadlines: dict[AnyJob, float] = {}  # of the latest call of each scheduler
        self._check_times: list[float] = []  # the times of the pending checks of `_check_before_timeout`
        self._pending_timers: frozenset[tuple[object, float]] | None = None  # at the end of the last round
        self._is_crashed = self._gave_up = False
        self._allowed_error: BaseException | None = None  # the KeyboardInterrupt that the run may raise
        self._clock: Callable[[], float] = float
        self._pause: Callable[[float], Awaitable[None]]
        self._scheduler: Any = None
        self._cut_scope: Any = None  # around the run, for `cut` and for giving up; None while there is no run
        self._host_task: Any = None
        self._task_group: Any = None
        self._native_cancel_count = 0
        self._rejection: Exception | None = None
        self._journal_path: str | None = None

    # ---- the whole run

    def run(self) -> RunOutcome:
        """Run the scenario according to the plan, again after each crash, and return the outcome.

        Raises:
            Exception: the scenario cannot be explored, for example because it cannot start.

        """
        crashes = any(change.kind == "crash" for change in self.plan.changes)
        with tempfile.TemporaryDirectory() if crashes else contextlib.nullcontext() as directory:
            if directory is not None:
                self._journal_path = os.path.join(directory, "run.db")
            self._run_once()
            while self._is_crashed and self._rejection is None:
                self._is_crashed, self._world = False, self._crash_copy
                self.add_line("the program starts again, with the same journal", 0.0)
                self._run_once()
        if self._rejection is not None:
            raise self._rejection
        self._record_profile()
        for stepped in self._stepped_jobs.values():
            stepped.waiting_coroutine = None
        self._stepped_jobs = {}
        return self.outcome

    def _record_profile(self) -> None:
        """Record the number of waits of each job, and which jobs have timeouts or retries."""
        outcome = self.outcome
        outcome.wait_counts.update(self._waits_before_crash)
        for stepped in self._stepped_jobs.values():
            outcome.wait_counts[stepped.name] = self._waits_before_crash[stepped.name] + stepped.wait_count
            if any(has_hard_timeout(level) for level in (stepped.job, *enclosing_schedulers(stepped.job))):
                outcome.jobs_with_timeout.add(stepped.name)
            if any(level.retry for level in (stepped.job, *enclosing_schedulers(stepped.job))):
                outcome.jobs_with_retries.add(stepped.name)
        outcome.total_wait_count = sum(outcome.wait_counts.values())

    def _run_once(self) -> None:
        """Run the program once, until it ends or crashes."""
        for stepped in self._stepped_jobs.values():
            self._waits_before_crash[stepped.name] += stepped.wait_count
        self._stepped_jobs, self._waits_in_round, self._pending_timers, self._timeout_deadlines, self._check_times = (
            {},
            0,
            None,
            {},
            [],
        )
        self.task_order.job_names.clear()
        with set_task_order(self.task_order, self.plan.backend) as options:
            if self.plan.backend == "trio":
                import trio

                try:
                    trio.run(self._main, **options)
                except trio.TrioInternalError as error:
                    self._record_violation("trio breaks down", error)
                    self.add_line(
                        f"trio breaks down: {_describe_error(error.__cause__ or error)}", self._last_activity_time()
                    )
            else:
                anyio.run(self._main, backend="asyncio", backend_options=options)

    async def _main(self) -> None:
        is_trio = self.plan.backend == "trio"
        self._clock = anyio.current_time
        self._pause = _pause_on_trio if is_trio else _pause_on_asyncio
        current_explored_run.set(self)
        try:
            made = _call_user_function(self._make_scheduler, "make_scheduler", None, self._world)
        except Exception as error:
            if not self.outcome.total_wait_count:
                self.outcome.make_error = error
            self._record_violation(f"make_scheduler raises {type(error).__name__}", error)
            self.add_line(f"make_scheduler raises {_describe_error(error)}")
            return
        self._scheduler = scheduler = _check_scheduler(made)
        self._prepare(scheduler)
        raised: BaseException | None = None
        earlier_tasks: set[asyncio.Task[Any]] = set() if is_trio else asyncio.all_tasks()
        self._host_task, self._native_cancel_count = None if is_trio else asyncio.current_task(), 0
        journal = None if self._journal_path is None else _CrashingJournal(self._journal_path, self)
        try:
            async with anyio.create_task_group() as self._task_group:
                self._task_group.start_soon(self._watch_for_stall)
                self._watch_timeout(scheduler)
                with anyio.CancelScope() as self._cut_scope:
                    try:
                        await scheduler.co_run(instruments=[_StepInstrument(self)], journal=journal)
                    except anyio.get_cancelled_exc_class():
                        if not self._native_cancel_count:
                            raise
                        for _ in range(self._native_cancel_count):
                            self._host_task.uncancel()
                    except BaseException as error:
                        raised = error
                self._task_group.cancel_scope.cancel()
        finally:
            self._host_task = self._cut_scope = None
        self.outcome.end_time = anyio.current_time()
        if self._is_crashed:
            return
        for _ in range(0 if is_trio else MAX_ENDING_ITERATIONS):
            await asyncio.sleep(0)
        leftover_tasks: set[asyncio.Task[Any]] = set() if is_trio else asyncio.all_tasks() - earlier_tasks
        self._check_invariants(scheduler, raised, [task.get_name() for task in leftover_tasks])

    def _prepare(self, scheduler: Scheduler) -> None:
        if scheduler.stop_reason is not None:
            raise ValueError(
                f"make_scheduler returned {scheduler.label!r}, which has run before: build a new one at each call"
            )
        names = paths_of(scheduler)
        for job in scheduler.iterate_jobs():
            self.step_calls(job, names[job])

    def step_calls(self, job: AnyJob, name: str) -> None:
        """Step all future calls of a job and, if it is a scheduler, of all jobs in it.

        Raises:
            TypeError: a job works outside the event loop, in real time.

        """
        if job in self._stepped_jobs:
            return
        if runs_outside_loop(job):
            raise TypeError(
                f"{job.label!r} is a {type(job).__name__}, which works in real time, but explore runs on virtual time: "
                f"in make_scheduler, replace it with a Job that sleeps as long, and returns or raises the same"
            )
        self._stepped_jobs[job] = SteppedJob(name, job)
        intercept_calls(job, _call_job, _shut_down)
        if is_scheduler(job):
            for member in job:
                self.step_calls(member, f"{name}/{member.label}")

    async def _watch_for_stall(self) -> None:
        """Wait until the run stalls. Then end it, and record where its jobs wait.

        If one of them waits for a thread, reject the scenario instead.
        """
        await anyio.sleep_until(STALL_LIMIT)
        waiting = [stepped for stepped in self._stepped_jobs.values() if stepped.waiting_coroutine is not None]
        names = [
            stepped.name for stepped in waiting if _coroutine_frames.is_waiting_for_thread(stepped.waiting_coroutine)
        ]
        if names or anyio.to_thread.current_default_thread_limiter().borrowed_tokens:
            subject = f"{names[0]!r} waits" if names else "a task of a job waits"
            self.reject_scenario(
                TypeError(
                    f"{subject} for a thread, which works in real time, but explore runs on virtual time: in "
                    f"make_scheduler, replace the thread with something that sleeps as long, and returns or "
                    f"raises the same"
                )
            )
            return
        self._record_violation("stalls", None)
        self.add_line("no task can resume:", self._last_activity_time())
        self._add_waiting_jobs()
        self._give_up()
        await anyio.sleep_until(2 * STALL_LIMIT)  # reached only if the cancellation has not ended the run
        if self.plan.backend == "asyncio":
            for task in asyncio.all_tasks():
                task.cancel()
        else:
            import outcome
            import trio

            for task in _iterate_trio_tasks():
                if id(task) in self.task_order.job_names and task is not trio.lowlevel.current_task():
                    trio.lowlevel.reschedule(task, outcome.Error(EndlessRun()))

    def _watch_timeout(self, scheduler: AnyJob) -> None:
        """If a scheduler that starts has a timeout, schedule a check of the pending timers just before it."""
        if scheduler.timeout is not None and scheduler.timeout < STALL_LIMIT:
            self._timeout_deadlines[scheduler] = end = self._clock() + scheduler.timeout
            self._check_times.append(end - TIMEOUT_CHECK_LEAD)
            self._task_group.start_soon(self._check_before_timeout, scheduler, end)

    async def _check_before_timeout(self, scheduler: AnyJob, end: float) -> None:
        """Just before the timeout of a scheduler, check that something else can still end its run.

        If not, record a violation, and give up the run. (With a job that was made to hang, only the timeout can.)
        """
        await anyio.sleep_until(end - TIMEOUT_CHECK_LEAD)
        self._check_times.remove(end - TIMEOUT_CHECK_LEAD)
        due_timers = timers_before(STALL_LIMIT, self.plan.backend)
        run_scopes = {scope_with_run_deadline(job) for job in self._stepped_jobs}
        active_deadlines = [at for level, at in self._timeout_deadlines.items() if _may_time_out(level)]
        for expected_time in (*self._check_times, *active_deadlines):
            close_timers = {(timer, at) for timer, at in due_timers if abs(at - expected_time) < SHORT_DELAY}
            run_timers = {entry for entry in close_timers if entry[0] in run_scopes}
            due_timers -= run_timers | set(list(close_timers - run_timers)[:1])
        has_hanging_job = any(change.kind == "hang" for change in self.outcome.applied_changes)
        awaited = [stepped for stepped in self._stepped_jobs.values() if not stepped.job.forever]
        is_working = any(_coroutine_frames.is_sleeping(stepped.waiting_coroutine, endless=True) for stepped in awaited)
        will_time_out = _may_time_out(scheduler) and self._timeout_deadlines[scheduler] == end
        if will_time_out and not due_timers and not is_working and not has_hanging_job and not self._gave_up:
            self._record_violation("only a timeout ends it", None)
            self.add_line(
                f"no task can resume until {scheduler.label!r} times out at {end:g}:", self._last_activity_time()
            )
            self._add_waiting_jobs()
            self._give_up()

    def _give_up(self) -> None:
        self._gave_up = True
        if self._cut_scope is not None:
            self._cut_scope.cancel()

    # ---- the invariants

    def _record_violation(self, invariant: str, error: BaseException | None) -> None:
        if self.outcome.violated_invariant is None:
            self.outcome.violated_invariant, self.outcome.error = invariant, error

    def _check_invariants(self, scheduler: Scheduler, raised: BaseException | None, leftover_tasks: list[str]) -> None:
        """Check all invariants after a run."""
        if raised is not None and raised is not self._allowed_error and not isinstance(raised, EndlessRun):
            if self.outcome.violated_invariant is None and not self._has_run_jobs():
                raise raised  # the scenario cannot start
            self._record_violation(f"the run raises {type(raised).__name__}", raised)
            self.add_line(f"the run raises {_describe_error(raised)}")
        if self.outcome.violated_invariant is not None:
            return
        for job, error in scheduler.failures().items():
            broken = _find_assertion(error)
            if broken is not None:
                self._record_violation("an assert in a job fails", broken)
                self.add_line(f"an assert in {job.path!r} fails: {_describe_error(broken)}", job.finished_at)
                return
        for invariant, text in self._find_leftovers(scheduler, leftover_tasks):
            self._record_violation(invariant, None)
            self.add_line(text)
            return
        if self._check is not None:
            try:
                result = _call_user_function(self._check, "check", scheduler, self._world)
                if result is not None:
                    self._rejection = _make_check_result_error(result)
            except Exception as error:
                self._record_violation(f"check raises {type(error).__name__}", error)
                self.add_line(f"after the run, the check fails: {_describe_error(error)}")

    def _has_run_jobs(self) -> bool:
        return any(stepped.call_count for stepped in self._stepped_jobs.values())

    def _find_leftovers(self, scheduler: Scheduler, leftover_tasks: list[str]) -> Iterable[tuple[str, str]]:
        """Yield the violated invariant, and a line for the story, for each task, job, resource or token left behind.

        Do the same for each job whose `co_shutdown` was not called exactly once.
        """
        if leftover_tasks:
            yield (
                "a task is left running",
                f"after the run, these tasks are left running: {', '.join(sorted(leftover_tasks))}",
            )
        unrepeated_schedulers = {
            job for job in self._stepped_jobs if is_scheduler(job) and job.retry is None and job.on_timeout != "restart"
        }
        for job, stepped in self._stepped_jobs.items():
            if stepped.is_running or job.state in (JobState.RUNNING, JobState.SCHEDULED):
                yield "a job is left running", f"after the run, {stepped.name!r} is {job.state.value}"
            enclosing = [level for level in enclosing_schedulers(job) if level is not scheduler]
            if (
                stepped.shutdown_count != 1
                and _has_own_shutdown(job)
                and all(level in unrepeated_schedulers for level in enclosing)
            ):
                yield (
                    "co_shutdown is not called exactly once",
                    f"co_shutdown of {stepped.name!r} was called {stepped.shutdown_count} times",
                )
        for level in (scheduler, *filter(is_scheduler, self._stepped_jobs)):
            if level.pool is not None:
                for name, total in level.pool.total.items():
                    if not isinstance(total, dict) and level.pool.free[name] != total:
                        free = level.pool.free[name]
                        yield "a resource was not returned", f"after the run, {free} of {name}={total} are free"
            borrowed = getattr(level.jobs_window, "borrowed_tokens", 0)
            if borrowed:
                yield "a token was not returned", f"after the run, {borrowed} tokens of {level.label!r} are borrowed"

    # ---- the jobs

    def call(self, job: AnyJob, function: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
        """Return the awaitable for a call of a job. It steps the job, unless the job is a scheduler or unknown."""
        stepped = self._stepped_jobs.get(job)
        if stepped is None or is_scheduler(job):
            if stepped is not None:
                self._watch_timeout(job)
            return function()
        return self._step_coroutine(stepped, function)

    async def shut_down(self, job: AnyJob, function: Callable[[], Awaitable[Any]]) -> None:
        """Count and call the `co_shutdown` of a job."""
        if job in self._stepped_jobs:
            self._stepped_jobs[job].shutdown_count += 1
        await function()

    @types.coroutine
    def _step_coroutine(self, stepped: SteppedJob, function: Callable[[], Awaitable[Any]]) -> Generator[Any, Any, Any]:
        task_id = self._begin_call(stepped)
        changes_by_place = self._changes_by_place.get(stepped.name)  # each change is removed when it is applied
        coroutine: Any = None
        try:
            changes = changes_by_place.pop(0, NO_CHANGES) if changes_by_place else NO_CHANGES
            if stepped.pending_failures:
                changes = [*changes, *stepped.take_failures("at its beginning")]
            if changes:
                yield from self._apply_at_beginning(stepped, changes).__await__()
            coroutine = _as_coroutine(function())
            value: Any = None
            error: BaseException | None = None
            while True:
                try:
                    trap = coroutine.send(value) if error is None else coroutine.throw(error)
                except StopIteration as stop:
                    result = stop.value
                    break
                value = error = None
                stepped.wait_count += 1
                place = stepped.wait_count + self._waits_before_crash[stepped.name]
                stepped.waiting_coroutine, stepped.wait_start = coroutine, self._clock()
                changes = changes_by_place.pop(place, NO_CHANGES) if changes_by_place else NO_CHANGES
                if stepped.pending_failures:
                    changes = [*changes, *stepped.take_failures(f"at {_coroutine_frames.waiting_line(coroutine)}")]
                if changes:
                    self._schedule_external_changes(stepped, changes)
                try:
                    value = yield trap
                except BaseException as raised:
                    error = raised
                self._count_wait()
                if changes:
                    try:
                        yield from self._delay_resumption(stepped, changes).__await__()
                    except asyncio.CancelledError as raised:  # on trio, the delay is shielded
                        error = raised
                    error = self._choose_error(stepped, changes, error)
                stepped.waiting_coroutine = None
            changes = changes_by_place.pop(END_PLACE, NO_CHANGES) if changes_by_place else NO_CHANGES
            if stepped.pending_failures:
                changes = [*changes, *stepped.take_failures("at its end")]
            if changes:
                stepped.waiting_coroutine = None
                self._apply_at_end(stepped, changes)
            return result
        finally:
            self.task_order.job_names.pop(task_id, None)
            stepped.is_running, stepped.waiting_coroutine = False, None
            value = error = coroutine = None

    def _begin_call(self, stepped: SteppedJob) -> int:
        """Record the beginning of a call, and return the id of the task that makes it."""
        stepped.call_count += 1
        stepped.is_running = True
        task_id = id(_current_task(self.plan.backend))
        self.task_order.job_names[task_id] = stepped.name
        return task_id

    def _count_wait(self) -> None:
        """Count a wait that has ended. At the end of a round, give up a run that would never end.

        Raises:
            EndlessRun: the run was given up, and its jobs still wait again and again.

        """
        self.outcome.total_wait_count += 1
        self._waits_in_round += 1
        if self._gave_up and self._waits_in_round > MAX_WAITS_AFTER_GIVING_UP:
            raise EndlessRun
        if self._waits_in_round <= self._round_size or self._gave_up:
            return
        self._waits_in_round = 0
        due_timers = timers_before(STALL_LIMIT, self.plan.backend)
        previous, self._pending_timers = self._pending_timers, due_timers
        if previous is not None and (not due_timers & previous or self._clock() == self._round_start):
            self._record_violation("it never ends", None)
            self.add_line(
                f"it never ends: its jobs have waited {self.outcome.total_wait_count:,} times, and nothing else is due"
            )
            self._add_waiting_jobs()
            self._give_up()
        self._round_start = self._clock()

    # ---- the changes

    async def _apply_at_beginning(self, stepped: SteppedJob, changes: list[Change]) -> None:
        """Apply the changes at the beginning of a job, before its body runs."""
        self._apply_external_changes(stepped, changes)
        for change in changes:
            if change.kind == "late":
                self._apply(change, f"{stepped.name!r} begins {_describe_delay(change.value)}")
                await anyio.sleep(change.value)
            elif change.kind == "hang":
                self._apply(change, f"{stepped.name!r} hangs at its beginning")
                await anyio.sleep_forever()
            elif change.kind == "fail":
                raise self._make_injected_error(stepped, change)

    def _apply_at_end(self, stepped: SteppedJob, changes: list[Change]) -> None:
        """Apply the changes at the end of a job, after its body has returned, but before the engine gets the result."""
        self._apply_external_changes(stepped, changes)
        for change in changes:
            if change.kind == "fail":
                raise self._make_injected_error(stepped, change)

    def _schedule_external_changes(self, stepped: SteppedJob, changes: list[Change]) -> None:
        """If there are external changes, start a task that applies them to the waiting job.

        The task resumes first in the next iteration of the event loop.
        """
        if any(FAULT_OF_KIND[change.kind] in EXTERNAL_FAULTS for change in changes):
            self.task_order.is_first_task_pending = True
            self._task_group.start_soon(self._apply_external_changes_in_task, stepped, changes, name=FIRST_TASK_NAME)

    async def _apply_external_changes_in_task(self, stepped: SteppedJob, changes: list[Change]) -> None:
        self._apply_external_changes(stepped, changes)

    def _apply_external_changes(self, stepped: SteppedJob, changes: list[Change]) -> None:
        """Apply the external changes among `changes` to a job that begins, waits or ends, or to its run."""
        job = stepped.job
        for change in changes:
            place = self._describe_place(stepped, change)
            if change.kind == "cancel":
                if is_ready(job) or (is_service(job) and not change.at):
                    continue
                self._apply(change, f"{stepped.name!r} is cancelled {place}{self._describe_holders(stepped)}")
                with contextlib.suppress(RuntimeError):
                    job.cancel()
            elif change.kind == "stop":
                enclosing: Any = job.scheduler
                self._apply(change, f"{enclosing.label!r} is cancelled, while {stepped.name!r} is {place}")
                with contextlib.suppress(RuntimeError):
                    enclosing.cancel()
            elif change.kind == "cut" and self._cut_scope is not None:
                self._apply(change, f"the whole run is cancelled from outside, while {stepped.name!r} is {place}")
                if self._host_task is not None and change.value:
                    self._host_task.cancel()
                    self._native_cancel_count += 1
                else:
                    self._cut_scope.cancel()
            elif change.kind == "ctrl-c":
                self._apply(change, f"Ctrl-C, while {stepped.name!r} is {place}")
                self._allowed_error = self._allowed_error or KeyboardInterrupt()
                interrupt(self._scheduler, self._allowed_error)
            elif change.kind == "crash":
                self._apply(
                    change, f"the program is killed, while {stepped.name!r} is {place}{self._describe_holders(stepped)}"
                )
                self._simulate_crash()

    def _simulate_crash(self) -> None:
        self._is_crashed = True
        try:
            self._crash_copy = copy.deepcopy(self._world)
        except Exception as error:
            self.reject_scenario(
                TypeError(
                    f"a crash copies the world, but it cannot be copied ({error}): keep plain data in it, and make "
                    f"locks, events and connections in make_scheduler"
                )
            )
        if self._cut_scope is not None:
            self._cut_scope.cancel()

    def reject_scenario(self, error: Exception) -> None:
        """End the run of a scenario that cannot be explored; `run` raises the error afterwards."""
        self._rejection = self._rejection or error
        if self._cut_scope is not None:
            self._cut_scope.cancel()

    async def _delay_resumption(self, stepped: SteppedJob, changes: list[Change]) -> None:
        """Delay a job that is about to resume, if a change requires it."""
        for change in changes:
            if change.kind == "late":
                place = self._describe_place(stepped, change)
                delay, holders = _describe_delay(change.value), self._describe_holders(stepped)
                self._apply(change, f"{stepped.name!r} resumes {delay} {place}{holders}")
                await self._pause(change.value)

    def _choose_error(
        self, stepped: SteppedJob, changes: list[Change], error: BaseException | None
    ) -> BaseException | None:
        """Return the exception to raise in a job that resumes: an injected failure, or else the `error` of the loop.

        A failure is injected only after a sleep, and only if the loop raised nothing, or a `Cancelled` of trio.
        """
        if error is not None and not (self.plan.backend == "trio" and _is_trio_cancelled(error)):
            return error
        for change in changes:
            if change.kind == "fail" and _coroutine_frames.is_sleeping(stepped.waiting_coroutine):
                return self._make_injected_error(stepped, change)
        return error

    def _make_injected_error(self, stepped: SteppedJob, change: Change) -> InjectedError:
        """Create the exception of an injected failure, and schedule the remaining repetitions at the same place."""
        place = self._describe_place(stepped, change)
        self._apply(change, f"{stepped.name!r} fails {place}{self._describe_holders(stepped)}")
        if change.value > 1:
            stepped.pending_failures.append((place, replace(change, value=change.value - 1)))
        return InjectedError(f"explore makes {stepped.name!r} fail {place}")

    # ---- the story

    def _apply(self, change: Change, text: str) -> None:
        self.outcome.applied_changes.add(change)
        self.add_line(text)

    def add_line(self, text: str, time: float | None = None) -> None:
        """Add a line to the story, with the given time or the current one."""
        timestamp = self._clock() if time is None else time
        self.outcome.event_lines.append(f"{round(timestamp, 3):>8g}  {text}")

    def _describe_place(self, stepped: SteppedJob, change: Change) -> str:
        if change.at == 0:
            return "at its beginning"
        return (
            "at its end"
            if change.at == END_PLACE
            else f"at {_coroutine_frames.waiting_line(stepped.waiting_coroutine)}"
        )

    def _describe_holders(self, stepped: SteppedJob) -> str:
        """Describe which other jobs hold resources of a pool now; return "" if none does."""
        holds: list[str] = []
        for other in self._stepped_jobs.values():
            if other is not stepped and other.job.state is JobState.RUNNING:
                granted = {name: has for name, has in other.job.granted.items() if not isinstance(has, dict)}
                if granted:
                    holds.append(f"{other.name!r} holds {', '.join(f'{name}={has}' for name, has in granted.items())}")
        return f" while {' and '.join(holds)}" if holds else ""

    def _last_activity_time(self) -> float:
        """Return the last time at which a job began its current wait or finished; 0 if there is none."""
        wait_starts = [
            stepped.wait_start for stepped in self._stepped_jobs.values() if stepped.waiting_coroutine is not None
        ]
        return max(
            wait_starts + [job.finished_at for job in self._stepped_jobs if job.finished_at is not None], default=0.0
        )

    def _add_waiting_jobs(self) -> None:
        """Add lines to the story: where each running job waits, and which jobs wait for a slot or a resource."""
        waiting = [stepped.name for stepped in self._stepped_jobs.values() if stepped.job.state is JobState.SCHEDULED]
        for stepped in self._stepped_jobs.values():
            if stepped.waiting_coroutine is not None:
                self.outcome.event_lines.append(
                    f"{'':12}{stepped.name!r} has waited since {round(stepped.wait_start, 3):g}, "
                    f"at {_coroutine_frames.waiting_line(stepped.waiting_coroutine)}"
                )
        if waiting:
            more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
            self.outcome.event_lines.append(f"{'':12}{', '.join(map(repr, waiting[:3]))}{more} wait for their turn")


def _call_job(job: AnyJob, function: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
    explored_run = current_explored_run.get(None)
    return function() if explored_run is None else explored_run.call(job, function)


async def _shut_down(job: AnyJob, function: Callable[[], Awaitable[Any]]) -> None:
    explored_run = current_explored_run.get(None)
    await (function() if explored_run is None else explored_run.shut_down(job, function))


class _StepInstrument(Instrument):
    """An instrument that steps the jobs that are added while the scenario runs."""

    def __init__(self, explored_run: ExploredRun) -> None:
        self._explored_run: Final = explored_run

    def job_added(self, scheduler: Any, job: AnyJob) -> None:
        """Step the calls of the new job. If it works in real time, reject the scenario."""
        try:
            self._explored_run.step_calls(job, job.path)
        except TypeError as error:
            self._explored_run.reject_scenario(error)


class _CrashingJournal:
    """A journal that ignores all records after a simulated crash, as if the program had been killed."""

    def __init__(self, path: str, explored_run: ExploredRun, opened: Any = None) -> None:
        self._path: Final = path
        self._explored_run: Final = explored_run
        self._opened: Any = opened

    def open_for(self, scheduler: Any) -> Any:
        from .. import Journal

        return _CrashingJournal(self._path, self._explored_run, Journal(self._path).open_for(scheduler))

    @property
    def commits_each(self) -> bool:
        return bool(self._opened.commits_each)

    def nested(self, scheduler: AnyJob) -> Any:
        return _CrashingJournal(self._path, self._explored_run, self._opened.nested(scheduler))

    def look_up(self, job: AnyJob) -> Any:
        return self._opened.look_up(job)

    def record(self, job: AnyJob, value: Any) -> None:
        if not self._explored_run._is_crashed:
            self._opened.record(job, value)

    def forget(self, job: AnyJob) -> None:
        self._opened.forget(job)

    def commit(self) -> None:
        if not self._explored_run._is_crashed:
            self._opened.commit()

    def close(self, outcome: str | None, report: Callable[[str], object]) -> None:
        self._opened.close(None if self._explored_run._is_crashed else outcome, report)


def _check_scheduler(scheduler: Any) -> Any:
    """Check that the result of `make_scheduler` is a scheduler, and return it."""
    if inspect.iscoroutine(scheduler):
        scheduler.close()
        raise TypeError("make_scheduler is async: make it a plain function that returns a Scheduler")
    if not is_scheduler(scheduler):
        what = "nothing" if scheduler is None else short_repr(scheduler)
        raise TypeError(f"make_scheduler returned {what}: let it build and return a Scheduler")
    return scheduler


def count_arguments(function: Callable[..., object], name: str, max_count: int) -> int:
    """Return the number of arguments with which to call a user-supplied function: `max_count`, or 1 less.

    If the signature of the function is unknown, return the smaller number.

    Args:
        function: the function.
        name: the name of the argument of `explore`, for errors.
        max_count: 1 for `make_scheduler`, 2 for `check`.

    Raises:
        TypeError: the function is not callable, or not with either number of arguments.

    """
    min_count = max_count - 1
    if not callable(function):
        raise TypeError(f"{name}={short_repr(function)}: give a function")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return min_count
    for count in (max_count, min_count):
        with contextlib.suppress(TypeError):
            signature.bind(*range(count))
            return count
    expected = "no argument, or the world" if max_count == 1 else "the scheduler, or the scheduler and the world"
    raise TypeError(f"{name}={name_of(function)}{signature}: let it take {expected}")


def _call_user_function(function: Callable[..., Any], name: str, scheduler: Any, world: dict[Any, Any]) -> Any:
    if scheduler is None:
        return function(world) if count_arguments(function, name, 1) else function()
    return function(scheduler, world) if count_arguments(function, name, 2) == 2 else function(scheduler)


def _make_check_result_error(result: object) -> TypeError:
    """Create the error for a check that has returned a value."""
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        return TypeError("check is async, and is called when the run is over: make it a plain function")
    return TypeError(f"check returned {short_repr(result)}: let it assert what must hold, and return nothing")


def _may_time_out(scheduler: Any) -> bool:
    """Return whether a scheduler is running and not stopping yet, so that its timeout may still end the run."""
    run = current_run(scheduler)
    return run is not None and run.phase is not RunPhase.STOPPING


async def _pause_on_trio(seconds: float) -> None:
    import trio

    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)


async def _pause_on_asyncio(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _is_trio_cancelled(error: BaseException) -> bool:
    """Return whether an exception is `trio.Cancelled`. trio ends even a sleep with it when the sleep's time is up."""
    import trio

    return isinstance(error, trio.Cancelled)


def _as_coroutine(awaitable: Any) -> Any:
    return awaitable if inspect.iscoroutine(awaitable) else _await_result(awaitable)


async def _await_result(awaitable: Any) -> Any:
    return await awaitable


def _current_task(backend: str) -> Any:
    if backend == "trio":
        import trio

        return trio.lowlevel.current_task()
    return asyncio.current_task()


def _iterate_trio_tasks() -> list[Any]:
    import trio

    todo: list[Any] = [trio.lowlevel.current_root_task()]
    for task in todo:
        todo += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return todo


def _has_own_shutdown(job: AnyJob) -> bool:
    return not is_scheduler(job) and type(job).co_shutdown is not AbstractJob.co_shutdown


def _find_assertion(error: BaseException) -> BaseException | None:
    if isinstance(error, AssertionError):
        return error
    return next(
        (assertion for member in _group_members(error) if (assertion := _find_assertion(member)) is not None), None
    )


def _group_members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the members of an exception group; an empty tuple if the exception is not a group."""
    is_group = isinstance(error, BaseExceptionGroup)
    return cast("BaseExceptionGroup[BaseException]", error).exceptions if is_group else ()


def _describe_error(error: BaseException) -> str:
    """Describe an exception in one line, with the file and line that raised it.

    If it has no message, include the code of that line. An exception group with one member counts as this member.
    """
    while len(members := _group_members(error)) == 1:
        (error,) = members
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    text = " ".join(str(error).split())
    line = "" if traceback is None else describe_line(traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
    where = f" ({line.partition(': ')[0] if text else line})" if line else ""
    return f"{type(error).__name__}{f': {text}' if text else ''}{where}"


def _describe_delay(seconds: float) -> str:
    return "after all others" if seconds == SHORT_DELAY else f"{seconds:g} s later"
