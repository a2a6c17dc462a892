"""One run of a scenario according to a plan: steps the jobs from wait to wait, applies the changes, checks the laws.

```
plan ──► ExploredRun.run ──► make_scheduler() ──► co_run(), on virtual time, its tasks in the plan's order ──► Outcome
             │                                   │ each call of a job
             │ crash: again                      ▼
             └────────── _step_coroutine(): begin ─► wait ──► resume ─► wait ──► ... ──► end
                                              at each: the changes of the plan
```

`_step_coroutine` steps every call of a job: it sends to the coroutine of the job what the event loop sends, and passes
on its traps. So it controls each moment in which the job waits: it can resume the job later, make it fail, or never
resume it. A change must not break a guarantee of the backends or of the engine, so these rules apply:

- Cancellations, Ctrl-C and crashes happen while a job waits. A separate task causes them, which resumes first in the
  next iteration of the event loop, because no other code may run before the job's trap has reached the loop.
- An injected exception represents a failure of the outside world. It is raised after a sleep of the job, which
  represents work in the outside world, or at the beginning or the end of the job's body, but not after a wait for a
  lock, which cannot fail.
- A service is not cancelled once it is ready, because its scheduler cancels it only after all jobs that use it. It is
  not cancelled at its beginning either, because it may report readiness before it waits.
- A job may always resume late. While it is delayed on trio, it is shielded, because it may already have received what
  it waited for. On asyncio, a task may be cancelled even then.
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
    run_scope,
    runs_outside_loop,
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
"""The virtual time, in seconds, at which a run has stalled: the clock gets there only if no other timer is left."""
MAX_ENDING_ITERATIONS: Final = 4
"""The number of iterations of the event loop in which tasks must finish after the run."""
PLAIN_ROUND_WAITS: Final = 100_000
"""The number of waits in a round of a plain run. A run never ends if no timer stays pending for a whole round."""
MIN_ROUND_WAITS: Final = 5_000
ROUND_FACTOR: Final = 50
"""The number of waits in a round of other runs, relative to all waits of the plain run; at least `MIN_ROUND_WAITS`."""
TIMEOUT_CHECK_LEAD: Final = 2.0**-10
"""How long before the timeout of a scheduler the other timers are checked, in seconds."""
EXTERNAL_FAULTS: Final = frozenset({"cancellation", "ctrl-c", "crash"})
"""The faults with causes outside of the job."""
MAX_WAITS_AFTER_CANCEL: Final = 1_000
"""The number of waits after the cancellation of the run from which each further wait raises `EndlessRun`."""

NO_CHANGES: Final[list[Change]] = []

exploration_run: Final[contextvars.ContextVar[ExploredRun]] = contextvars.ContextVar("trioflow exploration")


class InjectedError(Exception):
    """The exception with which an exploration makes a job fail, in place of any exception that the job could raise."""


class EndlessRun(BaseException):
    """The exception that ends a run that would never end by itself."""


@dataclass(slots=True)
class SteppedJob:
    """A job of the scenario whose calls are stepped from wait to wait.

    Attributes:
        name: the path of the job.
        job: the job.
        wait_count: the number of waits in all calls of the job.
        call_count: the number of calls.
        is_running: whether a call is in progress.
        waiting_coroutine: the coroutine of the job while it waits; None while it does not.
        wait_start: the time at which the current or last wait began.
        shutdown_count: the number of calls of the job's `co_shutdown`.
        pending_failures: the failures to repeat, each with its place.

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
        broken_law: the law that was broken; None if all laws held.
        error: the exception that broke the law, if there is one.
        event_lines: the events of the run, as lines of text.
        applied_changes: the changes of the plan that were applied.
        wait_counts: the number of waits of each job, by name.
        jobs_with_timeout: the names of jobs that, or a scheduler around them, have a timeout.
        jobs_with_retries: the names of jobs that, or a scheduler around them, have retries.
        make_error: the error of the first call of `make_scheduler`; None if it succeeded.
        task_order: the order of tasks in the run.
        waits: the number of waits of all jobs.
        end_time: the virtual time at the end.

    """

    plan: Plan
    broken_law: str | None = None
    error: BaseException | None = None
    event_lines: list[str] = field(default_factory=list[str])
    applied_changes: set[Change] = field(default_factory=set[Change])
    wait_counts: dict[str, int] = field(default_factory=dict[str, int])
    jobs_with_timeout: set[str] = field(default_factory=set[str])
    jobs_with_retries: set[str] = field(default_factory=set[str])
    make_error: Exception | None = None
    task_order: TaskOrder | None = None
    waits: int = 0
    end_time: float = 0.0


class ExploredRun:
    """One run of a scenario.

    Args:
        make: creates the scheduler. If it takes an argument, it is called with the world.
        check: called with the scheduler after the run, and with the world if it takes two arguments; None for no check.
        plan: the changes of the run.
        round_size: the number of waits in a round. A run never ends if no timer stays pending for a whole round.
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
        self._changes_by_place: Final[dict[str, dict[int, list[Change]]]] = {}  # by the name of the job and the place
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
        self._waits_before_crash: Counter[str] = Counter()  # the number of waits of each job
        self._waits_in_round = 0
        self._round_start = 0.0
        self._timeout_ends: dict[AnyJob, float] = {}  # the time of each scheduler's timeout, in its last call
        self._check_times: list[float] = []  # the times at which `_before_timeout` will be called
        self._pending_timers: frozenset[tuple[object, float]] | None = None  # at the end of the last round
        self._is_crashed = self._gave_up = False
        self._allowed_error: BaseException | None = None  # the KeyboardInterrupt that the run may raise
        self._clock: Callable[[], float] = float
        self._pause: Callable[[float], Awaitable[None]]
        self._scheduler: Any = None
        self._cut_scope: Any = None
        self._host: Any = None
        self._group: Any = None
        self._native_cancels = 0
        self._rejection: Exception | None = None
        self._journal: str | None = None

    # ---- the whole run

    def run(self) -> RunOutcome:
        """Run the scenario according to the plan, and return the outcome."""
        crashes = any(change.kind == "crash" for change in self.plan.changes)
        with tempfile.TemporaryDirectory() if crashes else contextlib.nullcontext() as directory:
            if directory is not None:
                self._journal = os.path.join(directory, "run.db")
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
        outcome = self.outcome
        outcome.wait_counts.update(self._waits_before_crash)
        for stepped in self._stepped_jobs.values():
            outcome.wait_counts[stepped.name] = self._waits_before_crash[stepped.name] + stepped.wait_count
            if any(has_hard_timeout(level) for level in (stepped.job, *enclosing_schedulers(stepped.job))):
                outcome.jobs_with_timeout.add(stepped.name)
            if any(level.retry for level in (stepped.job, *enclosing_schedulers(stepped.job))):
                outcome.jobs_with_retries.add(stepped.name)
        outcome.waits = sum(outcome.wait_counts.values())

    def _run_once(self) -> None:
        for stepped in self._stepped_jobs.values():
            self._waits_before_crash[stepped.name] += stepped.wait_count
        self._stepped_jobs, self._waits_in_round, self._pending_timers, self._timeout_ends, self._check_times = (
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
                    self._record_broken_law("trio breaks down", error)
                    self.add_line(f"trio breaks down: {_describe_error(error.__cause__ or error)}", self._latest_time())
            else:
                anyio.run(self._main, backend="asyncio", backend_options=options)

    async def _main(self) -> None:
        is_trio = self.plan.backend == "trio"
        self._clock = anyio.current_time
        self._pause = _pause_on_trio if is_trio else _pause_on_asyncio
        exploration_run.set(self)
        try:
            made = _call_with(self._make_scheduler, "make_scheduler", None, self._world)
        except Exception as error:
            if not self.outcome.waits:
                self.outcome.make_error = error
            self._record_broken_law(f"make_scheduler raises {type(error).__name__}", error)
            self.add_line(f"make_scheduler raises {_describe_error(error)}")
            return
        self._scheduler = scheduler = _check_scheduler(made)
        self._prepare(scheduler)
        raised: BaseException | None = None
        before: set[asyncio.Task[Any]] = set() if is_trio else asyncio.all_tasks()
        self._host, self._native_cancels = None if is_trio else asyncio.current_task(), 0
        journal = None if self._journal is None else _CrashingJournal(self._journal, self)
        try:
            async with anyio.create_task_group() as self._group:
                self._group.start_soon(self._watch_for_stall)
                self._watch_timeout(scheduler)
                with anyio.CancelScope() as self._cut_scope:
                    try:
                        await scheduler.co_run(instruments=[_StepInstrument(self)], journal=journal)
                    except anyio.get_cancelled_exc_class():
                        if not self._native_cancels:
                            raise
                        for _ in range(self._native_cancels):
                            self._host.uncancel()
                    except BaseException as error:
                        raised = error
                self._group.cancel_scope.cancel()
        finally:
            self._host = self._cut_scope = None
        self.outcome.end_time = anyio.current_time()
        if self._is_crashed:
            return
        for _ in range(0 if is_trio else MAX_ENDING_ITERATIONS):
            await asyncio.sleep(0)
        leftover_tasks: set[asyncio.Task[Any]] = set() if is_trio else asyncio.all_tasks() - before
        self._check_laws(scheduler, raised, [task.get_name() for task in leftover_tasks])

    def _prepare(self, scheduler: Scheduler) -> None:
        if scheduler.stop_reason is not None:
            raise ValueError(
                f"make_scheduler returned {scheduler.label!r}, which has run before: build a new one at each call"
            )
        names = paths_of(scheduler)
        for job in scheduler.iterate_jobs():
            self.step_calls_of(job, names[job])

    def step_calls_of(self, job: AnyJob, name: str) -> None:
        """From now on, step the calls of this job of the scenario, and of all jobs in it."""
        if job in self._stepped_jobs:
            return
        if runs_outside_loop(job):
            raise TypeError(
                f"{job.label!r} is a {type(job).__name__}, which works in real time, and explore runs on virtual time: "
                f"let make_scheduler put a Job in its place that sleeps for as long, and returns or raises the same"
            )
        self._stepped_jobs[job] = SteppedJob(name, job)
        intercept_calls(job, _call_job, _shut_down)
        if is_scheduler(job):
            for member in job:
                self.step_calls_of(member, f"{name}/{member.label}")

    async def _watch_for_stall(self) -> None:
        """End the run if it stalls, and record which tasks wait."""
        await anyio.sleep_until(STALL_LIMIT)
        waiting = [stepped for stepped in self._stepped_jobs.values() if stepped.waiting_coroutine is not None]
        names = [stepped.name for stepped in waiting if _coroutine_frames.waits_for_thread(stepped.waiting_coroutine)]
        if names or anyio.to_thread.current_default_thread_limiter().borrowed_tokens:
            subject = f"{names[0]!r} waits" if names else "a task of a job waits"
            self.reject_scenario(
                TypeError(
                    f"{subject} for a thread, which works in real time, and explore runs on virtual time: let "
                    f"make_scheduler give the job something in place of the thread that sleeps for as long, and "
                    f"returns or raises the same"
                )
            )
            return
        self._record_broken_law("stalls", None)
        self.add_line("no task can resume:", self._latest_time())
        self._add_places()
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
        """When a scheduler with a timeout starts, schedule a check for pending timers just before the timeout."""
        if scheduler.timeout is not None and scheduler.timeout < STALL_LIMIT:
            self._timeout_ends[scheduler] = end = self._clock() + scheduler.timeout
            self._check_times.append(end - TIMEOUT_CHECK_LEAD)
            self._group.start_soon(self._before_timeout, scheduler, end)

    async def _before_timeout(self, scheduler: AnyJob, end: float) -> None:
        await anyio.sleep_until(end - TIMEOUT_CHECK_LEAD)
        self._check_times.remove(end - TIMEOUT_CHECK_LEAD)
        due_timers = timers_before(STALL_LIMIT, self.plan.backend)
        of_runs = {run_scope(job) for job in self._stepped_jobs}
        for known in (*self._check_times, *(at for level, at in self._timeout_ends.items() if _may_time_out(level))):
            close_timers = {(what, at) for what, at in due_timers if abs(at - known) < SHORT_DELAY}
            run_timers = {timer for timer in close_timers if timer[0] in of_runs}
            due_timers -= run_timers | set(list(close_timers - run_timers)[:1])
        hangs = any(change.kind == "hang" for change in self.outcome.applied_changes)
        awaited = [stepped for stepped in self._stepped_jobs.values() if not stepped.job.forever]
        works = any(_coroutine_frames.is_sleeping(stepped.waiting_coroutine, endless=True) for stepped in awaited)
        ends = _may_time_out(scheduler) and self._timeout_ends[scheduler] == end
        if ends and not due_timers and not works and not hangs and not self._gave_up:
            self._record_broken_law("only a timeout ends it", None)
            self.add_line(f"no task can resume until {scheduler.label!r} times out at {end:g}:", self._latest_time())
            self._add_places()
            self._give_up()

    def _give_up(self) -> None:
        self._gave_up = True
        if self._cut_scope is not None:
            self._cut_scope.cancel()

    # ---- the laws

    def _record_broken_law(self, law: str, error: BaseException | None) -> None:
        if self.outcome.broken_law is None:
            self.outcome.broken_law, self.outcome.error = law, error

    def _check_laws(self, scheduler: Scheduler, raised: BaseException | None, leftover_tasks: list[str]) -> None:
        """Check all laws after a run."""
        if raised is not None and raised is not self._allowed_error and not isinstance(raised, EndlessRun):
            if self.outcome.broken_law is None and not self._has_run_jobs():
                raise raised  # the scenario cannot start
            self._record_broken_law(f"the run raises {type(raised).__name__}", raised)
            self.add_line(f"the run raises {_describe_error(raised)}")
        if self.outcome.broken_law is not None:
            return
        for job, error in scheduler.failures().items():
            broken = _find_assertion(error)
            if broken is not None:
                self._record_broken_law("an assert in a job fails", broken)
                self.add_line(f"an assert in {job.path!r} fails: {_describe_error(broken)}", job.finished_at)
                return
        for law, text in self._find_leftovers(scheduler, leftover_tasks):
            self._record_broken_law(law, None)
            self.add_line(text)
            return
        if self._check is not None:
            try:
                answer = _call_with(self._check, "check", scheduler, self._world)
                if answer is not None:
                    self._rejection = _check_value_error(answer)
            except Exception as error:
                self._record_broken_law(f"check raises {type(error).__name__}", error)
                self.add_line(f"after the run, the check fails: {_describe_error(error)}")

    def _has_run_jobs(self) -> bool:
        return any(stepped.call_count for stepped in self._stepped_jobs.values())

    def _find_leftovers(self, scheduler: Scheduler, leftover_tasks: list[str]) -> Iterable[tuple[str, str]]:
        """Yield whatever the run has left behind: for each leftover, the broken law and a line for the story."""
        if leftover_tasks:
            yield (
                "a task is left running",
                f"after the run, these tasks are left running: {', '.join(sorted(leftover_tasks))}",
            )
        once = {
            job for job in self._stepped_jobs if is_scheduler(job) and job.retry is None and job.on_timeout != "restart"
        }
        for job, stepped in self._stepped_jobs.items():
            if stepped.is_running or job.state in (JobState.RUNNING, JobState.SCHEDULED):
                yield "a job is left running", f"after the run, {stepped.name!r} is {job.state.value}"
            enclosing = [level for level in enclosing_schedulers(job) if level is not scheduler]
            if stepped.shutdown_count != 1 and _needs_shutdown(job) and all(level in once for level in enclosing):
                yield (
                    "co_shutdown is not called once",
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
        """Return the awaitable to await instead of calling the job's function."""
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
        task = self._begin_call(stepped)
        places = self._changes_by_place.get(stepped.name)  # each change is removed when it is applied
        coroutine: Any = None
        try:
            changes = places.pop(0, NO_CHANGES) if places else NO_CHANGES
            if stepped.pending_failures:
                changes = [*changes, *stepped.take_failures("at its beginning")]
            if changes:
                yield from self._apply_at_begin(stepped, changes).__await__()
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
                step = stepped.wait_count + self._waits_before_crash[stepped.name]
                stepped.waiting_coroutine, stepped.wait_start = coroutine, self._clock()
                changes = places.pop(step, NO_CHANGES) if places else NO_CHANGES
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
            changes = places.pop(END_PLACE, NO_CHANGES) if places else NO_CHANGES
            if stepped.pending_failures:
                changes = [*changes, *stepped.take_failures("at its end")]
            if changes:
                stepped.waiting_coroutine = None
                self._apply_at_end(stepped, changes)
            return result
        finally:
            self.task_order.job_names.pop(task, None)
            stepped.is_running, stepped.waiting_coroutine = False, None
            value = error = coroutine = None

    def _begin_call(self, stepped: SteppedJob) -> int:
        stepped.call_count += 1
        stepped.is_running = True
        task = id(_current_task(self.plan.backend))
        self.task_order.job_names[task] = stepped.name
        return task

    def _count_wait(self) -> None:
        """Count a wait after its end; at the end of a round, end a run that would never end."""
        self.outcome.waits += 1
        self._waits_in_round += 1
        if self._gave_up and self._waits_in_round > MAX_WAITS_AFTER_CANCEL:
            raise EndlessRun
        if self._waits_in_round <= self._round_size or self._gave_up:
            return
        self._waits_in_round = 0
        due_timers = timers_before(STALL_LIMIT, self.plan.backend)
        previous, self._pending_timers = self._pending_timers, due_timers
        if previous is not None and (not due_timers & previous or self._clock() == self._round_start):
            self._record_broken_law("it never ends", None)
            self.add_line(f"it never ends: its jobs have waited {self.outcome.waits:,} times, and nothing else is due")
            self._add_places()
            self._give_up()
        self._round_start = self._clock()

    # ---- the changes

    async def _apply_at_begin(self, stepped: SteppedJob, changes: list[Change]) -> None:
        """Apply the changes at the beginning of a job, before its body."""
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
        """Start a task that resumes first in the next iteration, to apply the external changes to a waiting job."""
        if any(FAULT_OF_KIND[change.kind] in EXTERNAL_FAULTS for change in changes):
            self.task_order.is_first_task_pending = True
            self._group.start_soon(self._apply_external_changes_in_task, stepped, changes, name=FIRST_TASK_NAME)

    async def _apply_external_changes_in_task(self, stepped: SteppedJob, changes: list[Change]) -> None:
        self._apply_external_changes(stepped, changes)

    def _apply_external_changes(self, stepped: SteppedJob, changes: list[Change]) -> None:
        """Apply external changes to a job that waits, begins or ends, or to its run."""
        job = stepped.job
        for change in changes:
            place = self._place_text(stepped, change)
            if change.kind == "cancel":
                if is_ready(job) or (is_service(job) and not change.at):
                    continue
                self._apply(change, f"{stepped.name!r} is cancelled {place}{self._current_holders(stepped)}")
                with contextlib.suppress(RuntimeError):
                    job.cancel()
            elif change.kind == "stop":
                enclosing: Any = job.scheduler
                self._apply(change, f"{enclosing.label!r} is cancelled, while {stepped.name!r} is {place}")
                with contextlib.suppress(RuntimeError):
                    enclosing.cancel()
            elif change.kind == "cut" and self._cut_scope is not None:
                self._apply(change, f"the whole run is cancelled from outside, while {stepped.name!r} is {place}")
                if self._host is not None and change.value:
                    self._host.cancel()
                    self._native_cancels += 1
                else:
                    self._cut_scope.cancel()
            elif change.kind == "ctrl-c":
                self._apply(change, f"Ctrl-C, while {stepped.name!r} is {place}")
                self._allowed_error = self._allowed_error or KeyboardInterrupt()
                interrupt(self._scheduler, self._allowed_error)
            elif change.kind == "crash":
                self._apply(
                    change, f"the program is killed, while {stepped.name!r} is {place}{self._current_holders(stepped)}"
                )
                self._simulate_crash()

    def _simulate_crash(self) -> None:
        self._is_crashed = True
        try:
            self._crash_copy = copy.deepcopy(self._world)
        except Exception as error:
            self.reject_scenario(
                TypeError(
                    f"the world cannot be copied, which a crash does ({error}): keep plain data in it, and make locks, "
                    f"events and connections in make_scheduler"
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
        """Delay a job that is about to resume, if the changes say so."""
        for change in changes:
            if change.kind == "late":
                place = self._place_text(stepped, change)
                self._apply(
                    change,
                    f"{stepped.name!r} resumes {_describe_delay(change.value)} {place}{self._current_holders(stepped)}",
                )
                await self._pause(change.value)

    def _choose_error(
        self, stepped: SteppedJob, changes: list[Change], error: BaseException | None
    ) -> BaseException | None:
        """Return the exception to raise in a job that resumes: an injected failure, or the `error` from the loop."""
        if error is not None and not (self.plan.backend == "trio" and _is_end_of_sleep(error)):
            return error
        for change in changes:
            if change.kind == "fail" and _coroutine_frames.is_sleeping(stepped.waiting_coroutine):
                return self._make_injected_error(stepped, change)
        return error

    def _make_injected_error(self, stepped: SteppedJob, change: Change) -> InjectedError:
        """Create the exception of an injected failure, and schedule its repetitions at the same place."""
        place = self._place_text(stepped, change)
        self._apply(change, f"{stepped.name!r} fails {place}{self._current_holders(stepped)}")
        if change.value > 1:
            stepped.pending_failures.append((place, replace(change, value=change.value - 1)))
        return InjectedError(f"explore lets {stepped.name!r} fail {place}")

    # ---- the story

    def _apply(self, change: Change, text: str) -> None:
        self.outcome.applied_changes.add(change)
        self.add_line(text)

    def add_line(self, text: str, time: float | None = None) -> None:
        """Add a line to the story."""
        timestamp = self._clock() if time is None else time
        self.outcome.event_lines.append(f"{round(timestamp, 3):>8g}  {text}")

    def _place_text(self, stepped: SteppedJob, change: Change) -> str:
        if change.at == 0:
            return "at its beginning"
        return (
            "at its end"
            if change.at == END_PLACE
            else f"at {_coroutine_frames.waiting_line(stepped.waiting_coroutine)}"
        )

    def _current_holders(self, stepped: SteppedJob) -> str:
        """Describe which other jobs hold resources of a pool now; return "" if none does."""
        holds: list[str] = []
        for other in self._stepped_jobs.values():
            if other is not stepped and other.job.state is JobState.RUNNING:
                granted = {name: has for name, has in other.job.granted.items() if not isinstance(has, dict)}
                if granted:
                    holds.append(f"{other.name!r} holds {', '.join(f'{name}={has}' for name, has in granted.items())}")
        return f" while {' and '.join(holds)}" if holds else ""

    def _latest_time(self) -> float:
        moments = [
            stepped.wait_start for stepped in self._stepped_jobs.values() if stepped.waiting_coroutine is not None
        ]
        return max(
            moments + [job.finished_at for job in self._stepped_jobs if job.finished_at is not None], default=0.0
        )

    def _add_places(self) -> None:
        """Add to the story where each running job waits, and which jobs wait for a slot or a resource."""
        waiting = [stepped.name for stepped in self._stepped_jobs.values() if stepped.job.state is JobState.SCHEDULED]
        for stepped in self._stepped_jobs.values():
            if stepped.waiting_coroutine is not None:
                self.outcome.event_lines.append(
                    f"{'':12}{stepped.name!r} waits since {round(stepped.wait_start, 3):g}, "
                    f"at {_coroutine_frames.waiting_line(stepped.waiting_coroutine)}"
                )
        if waiting:
            more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
            self.outcome.event_lines.append(f"{'':12}{', '.join(map(repr, waiting[:3]))}{more} wait for their turn")


def _call_job(job: AnyJob, function: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
    session = exploration_run.get(None)
    return function() if session is None else session.call(job, function)


async def _shut_down(job: AnyJob, function: Callable[[], Awaitable[Any]]) -> None:
    session = exploration_run.get(None)
    await (function() if session is None else session.shut_down(job, function))


class _StepInstrument(Instrument):
    """An instrument that steps the jobs that are added while the scenario runs."""

    def __init__(self, session: ExploredRun) -> None:
        self._session: Final = session

    def job_added(self, scheduler: Any, job: AnyJob) -> None:
        """Step the calls of the new job."""
        try:
            self._session.step_calls_of(job, job.path)
        except TypeError as error:
            self._session.reject_scenario(error)


class _CrashingJournal:
    """A journal that ignores all records after a simulated crash, as if the program had been killed."""

    def __init__(self, path: str, session: ExploredRun, opened: Any = None) -> None:
        self._path: Final = path
        self._session: Final = session
        self._opened: Any = opened

    def open_for(self, scheduler: Any) -> Any:
        from .. import Journal

        return _CrashingJournal(self._path, self._session, Journal(self._path).open_for(scheduler))

    @property
    def commits_each(self) -> bool:
        return bool(self._opened.commits_each)

    def nested(self, scheduler: AnyJob) -> Any:
        return _CrashingJournal(self._path, self._session, self._opened.nested(scheduler))

    def look_up(self, job: AnyJob) -> Any:
        return self._opened.look_up(job)

    def record(self, job: AnyJob, value: Any) -> None:
        if not self._session._is_crashed:
            self._opened.record(job, value)

    def forget(self, job: AnyJob) -> None:
        self._opened.forget(job)

    def commit(self) -> None:
        if not self._session._is_crashed:
            self._opened.commit()

    def close(self, outcome: str | None, report: Callable[[str], object]) -> None:
        self._opened.close(None if self._session._is_crashed else outcome, report)


def _check_scheduler(scheduler: Any) -> Any:
    """Check that the result of `make_scheduler` is a scheduler, and return it."""
    if inspect.iscoroutine(scheduler):
        scheduler.close()
        raise TypeError("make_scheduler is async: make it a plain function that returns a Scheduler")
    if not is_scheduler(scheduler):
        what = "nothing" if scheduler is None else short_repr(scheduler)
        raise TypeError(f"make_scheduler returned {what}: let it build and return a Scheduler")
    return scheduler


def count_arguments(function: Callable[..., object], name: str, round_size: int) -> int:
    """Return how many arguments a user's function takes: 0 or 1 for `make_scheduler`, 1 or 2 for `check`.

    Raises:
        TypeError: the function cannot be called with either number of arguments.

    """
    least = round_size - 1
    if not callable(function):
        raise TypeError(f"{name}={short_repr(function)}: give a function")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return least
    for number in (round_size, least):
        with contextlib.suppress(TypeError):
            signature.bind(*range(number))
            return number
    expected = "no argument, or the world" if round_size == 1 else "the scheduler, or the scheduler and the world"
    raise TypeError(f"{name}={name_of(function)}{signature}: let it take {expected}")


def _call_with(function: Callable[..., Any], name: str, scheduler: Any, world: dict[Any, Any]) -> Any:
    if scheduler is None:
        return function(world) if count_arguments(function, name, 1) else function()
    return function(scheduler, world) if count_arguments(function, name, 2) == 2 else function(scheduler)


def _check_value_error(answer: object) -> TypeError:
    """Create the error for a check that has returned a value."""
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        return TypeError("check is async, and is called when the run is over: make it a plain function")
    return TypeError(f"check returned {short_repr(answer)}: let it assert what must hold, and return nothing")


def _may_time_out(scheduler: Any) -> bool:
    """Return whether a scheduler's timeout could still end its run: whether the run is not stopping yet."""
    run = current_run(scheduler)
    return run is not None and run.phase is not RunPhase.STOPPING


async def _pause_on_trio(seconds: float) -> None:
    import trio

    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)


async def _pause_on_asyncio(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _is_end_of_sleep(error: BaseException) -> bool:
    """Return whether an exception is a `trio.Cancelled`, with which trio also ends a sleep at its deadline."""
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


def _needs_shutdown(job: AnyJob) -> bool:
    return not is_scheduler(job) and type(job).co_shutdown is not AbstractJob.co_shutdown


def _find_assertion(error: BaseException) -> BaseException | None:
    if isinstance(error, AssertionError):
        return error
    return next(
        (assertion for member in _group_members(error) if (assertion := _find_assertion(member)) is not None), None
    )


def _group_members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the members of an exception group; none if it is not a group."""
    is_group = isinstance(error, BaseExceptionGroup)
    return cast("BaseExceptionGroup[BaseException]", error).exceptions if is_group else ()


def _describe_error(error: BaseException) -> str:
    """Describe an exception in one line. If it has no message, add the line of code that raised it."""
    while len(inside := _group_members(error)) == 1:
        (error,) = inside
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    text = " ".join(str(error).split())
    line = "" if trace is None else describe_line(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    where = f" ({line.partition(': ')[0] if text else line})" if line else ""
    return f"{type(error).__name__}{f': {text}' if text else ''}{where}"


def _describe_delay(seconds: float) -> str:
    return "after all others" if seconds == SHORT_DELAY else f"{seconds:g} s later"
