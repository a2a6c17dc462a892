"""One run of a scenario according to a plan: step the jobs from wait to wait, apply the changes, and check the laws.

```
plan ──► ExploredRun.run ──► make_scheduler() ──► co_run(), on virtual time, its tasks in the plan's order ──► Outcome
             │                                   │ each call of a job
             │ crash: again                      ▼
             └──────────            _drive(): begin ─► wait ──► resume ─► wait ──► ... ──► end
                                              at each: the changes of the plan
```

Every call of a job is stepped by hand: `_drive` sends to its coroutine what the loop sends, and passes on the traps. So
it controls each moment in which the job waits, and can resume it later, make it fail, or never resume it. The rest of
this docstring is the theory of where a change may be applied without breaking a library's guarantees:

- Cancellations, Ctrl-C and crashes come while a job waits: from a separate task that goes first in the next iteration
  of the loop. Until the coroutine of a job has handed its trap to the loop, no other code may run.
- An exception stands for a failure of the outside world. So it is raised where the job has slept, which stands for work
  in the world; and at the beginning and the end of its body. Waiting for a lock can raise nothing.
- A service is not cancelled once it is ready: its scheduler cancels it after all jobs that use it. It may report
  readiness before it waits, so it is not cancelled at its beginning either.
- A job may always resume late. On trio it may already have got what it waited for, so no interruption may come then; on
  asyncio a task may be cancelled even so.
- A crash is a copy of the world at that moment, and a journal that records nothing more. The killed program is wound up
  like any other, in a world that is then discarded; the next program gets the copy.
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
from ._fault_plans import AT_END, KINDS, SHORT_DELAY, Change, Plan
from ._task_order import GOES_FIRST, Turns, due_before, ordered

if TYPE_CHECKING:
    from .. import Scheduler

STALL_LIMIT: Final = 1e9
"""Virtual seconds after which a run counts as stalled: the clock only gets there if no other timer is left."""
TURNS_TO_END: Final = 4
"""Iterations of the loop that tasks get to finish after the run."""
PLAIN_ROUND: Final = 100_000
"""Waits of a round in the plain run. A run in which no timer stays due for a whole round never ends."""
MIN_ROUND: Final = 5_000
ROUND_FACTOR: Final = 50
"""The factor from the waits of the plain run to those of a round in the others, which is at least `MIN_ROUND`."""
JUST_BEFORE: Final = 2.0**-10
"""Seconds before the timeout of a scheduler at which other timers are checked."""
OUTSIDE_FAULTS: Final = frozenset({"cancellation", "ctrl-c", "crash"})
"""Faults that come from outside of the job."""
MAX_WAITS_AFTER_CANCEL: Final = 1_000
"""The number of waits that jobs may begin after the run was cancelled; then each next wait raises `EndlessRun`."""

NOTHING: Final[list[Change]] = []

current: Final[contextvars.ContextVar[ExploredRun]] = contextvars.ContextVar("trioflow exploration")


class Injected(Exception):
    """The exception with which an exploration makes a job fail; it stands for any exception of the job."""


class EndlessRun(BaseException):
    """The exception that ends a run which would never end."""


@dataclass(slots=True)
class SteppedJob:
    """A job of the scenario, whose calls this module steps from wait to wait."""

    name: str
    job: AnyJob
    steps: int = 0  # waits, in all of its calls
    calls: int = 0
    inside: bool = False
    waits: Any = None  # its coroutine, while it waits
    since: float = 0.0  # the start of its wait
    shutdowns: int = 0
    # Failures to repeat, by place.
    pending_failures: list[tuple[str, Change]] = field(default_factory=list[tuple[str, Change]])

    def take_failures(self, place: str) -> list[Change]:
        """Remove and return the failures to repeat at this place."""
        changes = [change for where, change in self.pending_failures if where == place]
        self.pending_failures = [(where, change) for where, change in self.pending_failures if where != place]
        return changes


@dataclass(slots=True)
class Outcome:
    """The outcome of one run."""

    plan: Plan
    broken: str | None = None  # the law that did not hold; None if all did
    error: BaseException | None = None
    story: list[str] = field(default_factory=list[str])  # the story, line by line
    applied: set[Change] = field(default_factory=set[Change])
    steps: dict[str, int] = field(default_factory=dict[str, int])  # waits of each job, by name
    limited: set[str] = field(default_factory=set[str])  # jobs under a timeout, their own or an enclosing scheduler's
    retried: set[str] = field(default_factory=set[str])  # jobs with retries, their own or an enclosing scheduler's
    make_error: Exception | None = None  # the error of make_scheduler at its first call
    turns: Turns | None = None
    waits: int = 0
    ended_at: float = 0.0


class ExploredRun:
    """One run of a scenario.

    Args:
        make: makes the scheduler; it gets `world` if it takes an argument.
        check: called with the scheduler after the run, and with the world if it takes two arguments; may be None.
        plan: the changes of the run.
        most: the waits of a round; a run in which no timer stays due for a whole round never ends.
        every: a seed for the order of tasks in all iterations; None for none.

    """

    def __init__(
        self,
        make: Callable[..., Scheduler],
        check: Callable[..., object] | None,
        plan: Plan,
        most: int = PLAIN_ROUND,
        every: int | None = None,
    ) -> None:
        self._make: Final = make
        self._check: Final = check
        self._round_size: Final = most
        self.plan: Final = plan
        self.outcome: Final = Outcome(plan)
        self._places: Final[dict[str, dict[int, list[Change]]]] = {}  # changes by job and place
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
                self._places.setdefault(change.name, {}).setdefault(change.at, []).append(change)
            if change.kind in ("turn", "first", "rank"):
                self.outcome.applied.add(change)
        self.turns: Final = Turns(seeds, ranks, first, every)
        self.outcome.turns = self.turns
        self._world: dict[Any, Any] = {}
        self._crash_copy: dict[Any, Any] = {}  # what survives a crash: a copy of the world at that moment
        self._driven: dict[AnyJob, SteppedJob] = {}
        self._steps: Counter[str] = Counter()  # steps of jobs before a crash
        self._waits_in_round = 0  # waits in this round
        self._round_began = 0.0
        self._timeout_ends: dict[AnyJob, float] = {}  # the timeout of the last call of a scheduler
        self._check_times: list[float] = []  # the times at which `_before_timeout` will run
        self._due: frozenset[tuple[object, float]] | None = None  # the timers due at the end of the last round
        self._crashed = self._gave_up = False
        self._allowed: BaseException | None = None  # an error that the run may raise
        self._clock: Callable[[], float] = float
        self._pause: Callable[[float], Awaitable[None]]
        self._scheduler: Any = None
        self._cut: Any = None
        self._host: Any = None
        self._group: Any = None
        self._native_cancels = 0
        self._refused: Exception | None = None
        self._journal: str | None = None

    # ---- the whole run

    def run(self) -> Outcome:
        """Run the scenario according to the plan, and return the outcome."""
        crashes = any(change.kind == "crash" for change in self.plan.changes)
        with tempfile.TemporaryDirectory() if crashes else contextlib.nullcontext() as directory:
            if directory is not None:
                self._journal = os.path.join(directory, "run.db")
            self._run_once()
            while self._crashed and self._refused is None:
                self._crashed, self._world = False, self._crash_copy
                self.add_line("the program starts again, with the same journal", 0.0)
                self._run_once()
        if self._refused is not None:
            raise self._refused
        self._record_profile()
        for driven in self._driven.values():
            driven.waits = None
        self._driven = {}
        return self.outcome

    def _record_profile(self) -> None:
        out = self.outcome
        out.steps.update(self._steps)
        for driven in self._driven.values():
            out.steps[driven.name] = self._steps[driven.name] + driven.steps
            if any(has_hard_timeout(level) for level in (driven.job, *enclosing_schedulers(driven.job))):
                out.limited.add(driven.name)
            if any(level.retry for level in (driven.job, *enclosing_schedulers(driven.job))):
                out.retried.add(driven.name)
        out.waits = sum(out.steps.values())

    def _run_once(self) -> None:
        for driven in self._driven.values():
            self._steps[driven.name] += driven.steps
        self._driven, self._waits_in_round, self._due, self._timeout_ends, self._check_times = {}, 0, None, {}, []
        self.turns.names.clear()
        with ordered(self.turns, self.plan.backend) as options:
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
        current.set(self)
        try:
            made = _call_with(self._make, "make_scheduler", None, self._world)
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
                with anyio.CancelScope() as self._cut:
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
            self._host = self._cut = None
        self.outcome.ended_at = anyio.current_time()
        if self._crashed:
            return
        for _ in range(0 if is_trio else TURNS_TO_END):
            await asyncio.sleep(0)
        left: set[asyncio.Task[Any]] = set() if is_trio else asyncio.all_tasks() - before
        self._check_laws(scheduler, raised, [task.get_name() for task in left])

    def _prepare(self, scheduler: Scheduler) -> None:
        if scheduler.stop_reason is not None:
            raise ValueError(
                f"make_scheduler returned {scheduler.label!r}, which has run before: build a new one at each call"
            )
        names = paths_of(scheduler)
        for job in scheduler.iterate_jobs():
            self.step_calls_of(job, names[job])

    def step_calls_of(self, job: AnyJob, name: str) -> None:
        """Begin to step the calls of a job of the scenario."""
        if job in self._driven:
            return
        if runs_outside_loop(job):
            raise TypeError(
                f"{job.label!r} is a {type(job).__name__}, which works in real time, and explore runs on virtual time: "
                f"let make_scheduler put a Job in its place that sleeps for as long, and returns or raises the same"
            )
        self._driven[job] = SteppedJob(name, job)
        intercept_calls(job, _call, _shut_down)
        if is_scheduler(job):
            for member in job:
                self.step_calls_of(member, f"{name}/{member.label}")

    async def _watch_for_stall(self) -> None:
        """End a stalled run."""
        await anyio.sleep_until(STALL_LIMIT)
        waiting = [driven for driven in self._driven.values() if driven.waits is not None]
        names = [driven.name for driven in waiting if _coroutine_frames.waits_for_thread(driven.waits)]
        if names or anyio.to_thread.current_default_thread_limiter().borrowed_tokens:
            subject = f"{names[0]!r} waits" if names else "a task of a job waits"
            self.refuse(
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
        await anyio.sleep_until(2 * STALL_LIMIT)  # the cancellation has not ended it
        if self.plan.backend == "asyncio":
            for task in asyncio.all_tasks():
                task.cancel()
        else:
            import outcome
            import trio

            for task in _tasks_of_trio():
                if id(task) in self.turns.names and task is not trio.lowlevel.current_task():
                    trio.lowlevel.reschedule(task, outcome.Error(EndlessRun()))

    def _watch_timeout(self, scheduler: AnyJob) -> None:
        """Just before a timeout fires, check for other due timers."""
        if scheduler.timeout is not None and scheduler.timeout < STALL_LIMIT:
            self._timeout_ends[scheduler] = end = self._clock() + scheduler.timeout
            self._check_times.append(end - JUST_BEFORE)
            self._group.start_soon(self._before_timeout, scheduler, end)

    async def _before_timeout(self, scheduler: AnyJob, end: float) -> None:
        await anyio.sleep_until(end - JUST_BEFORE)
        self._check_times.remove(end - JUST_BEFORE)
        due = due_before(STALL_LIMIT, self.plan.backend)
        of_runs = {run_scope(job) for job in self._driven}
        for known in (*self._check_times, *(at for level, at in self._timeout_ends.items() if _may_time_out(level))):
            then = {(what, at) for what, at in due if abs(at - known) < SHORT_DELAY}
            mine = {timer for timer in then if timer[0] in of_runs}
            due -= mine | set(list(then - mine)[:1])
        hangs = any(change.kind == "hang" for change in self.outcome.applied)
        awaited = [driven for driven in self._driven.values() if not driven.job.forever]
        works = any(_coroutine_frames.is_sleeping(driven.waits, endless=True) for driven in awaited)
        ends = _may_time_out(scheduler) and self._timeout_ends[scheduler] == end
        if ends and not due and not works and not hangs and not self._gave_up:
            self._record_broken_law("only a timeout ends it", None)
            self.add_line(f"no task can resume until {scheduler.label!r} times out at {end:g}:", self._latest_time())
            self._add_places()
            self._give_up()

    def _give_up(self) -> None:
        self._gave_up = True
        if self._cut is not None:
            self._cut.cancel()

    # ---- the laws

    def _record_broken_law(self, law: str, error: BaseException | None) -> None:
        if self.outcome.broken is None:
            self.outcome.broken, self.outcome.error = law, error

    def _check_laws(self, scheduler: Scheduler, raised: BaseException | None, left: list[str]) -> None:
        """Check all laws after a run."""
        if raised is not None and raised is not self._allowed and not isinstance(raised, EndlessRun):
            if self.outcome.broken is None and not self._ran_any_job():
                raise raised  # the scenario cannot run at all
            self._record_broken_law(f"the run raises {type(raised).__name__}", raised)
            self.add_line(f"the run raises {_describe_error(raised)}")
        if self.outcome.broken is not None:
            return
        for job, error in scheduler.failures().items():
            broken = _find_assertion(error)
            if broken is not None:
                self._record_broken_law("an assert in a job fails", broken)
                self.add_line(f"an assert in {job.path!r} fails: {_describe_error(broken)}", job.finished_at)
                return
        for law, words in self._find_remains(scheduler, left):
            self._record_broken_law(law, None)
            self.add_line(words)
            return
        if self._check is not None:
            try:
                answer = _call_with(self._check, "check", scheduler, self._world)
                if answer is not None:
                    self._refused = _check_value_error(answer)
            except Exception as error:
                self._record_broken_law(f"check raises {type(error).__name__}", error)
                self.add_line(f"after the run, the check fails: {_describe_error(error)}")

    def _ran_any_job(self) -> bool:
        return any(driven.calls for driven in self._driven.values())

    def _find_remains(self, scheduler: Scheduler, left: list[str]) -> Iterable[tuple[str, str]]:
        """Yield the remains of the run that should not exist."""
        if left:
            yield "a task is left running", f"after the run, these tasks are left running: {', '.join(sorted(left))}"
        once = {job for job in self._driven if is_scheduler(job) and job.retry is None and job.on_timeout != "restart"}
        for job, driven in self._driven.items():
            if driven.inside or job.state in (JobState.RUNNING, JobState.SCHEDULED):
                yield "a job is left running", f"after the run, {driven.name!r} is {job.state.value}"
            around = [level for level in enclosing_schedulers(job) if level is not scheduler]
            if driven.shutdowns != 1 and _needs_shutdown(job) and all(level in once for level in around):
                yield (
                    "co_shutdown is not called once",
                    f"co_shutdown of {driven.name!r} was called {driven.shutdowns} times",
                )
        for level in (scheduler, *filter(is_scheduler, self._driven)):
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
        """Return the awaitable that replaces a job's own."""
        driven = self._driven.get(job)
        if driven is None or is_scheduler(job):
            if driven is not None:
                self._watch_timeout(job)
            return function()
        return self._drive(driven, function)

    async def shut_down(self, job: AnyJob, function: Callable[[], Awaitable[Any]]) -> None:
        """Count and call the `co_shutdown` of a job."""
        if job in self._driven:
            self._driven[job].shutdowns += 1
        await function()

    @types.coroutine
    def _drive(self, driven: SteppedJob, function: Callable[[], Awaitable[Any]]) -> Generator[Any, Any, Any]:
        task = self._enter(driven)
        places = self._places.get(driven.name)  # applied changes are removed: each applies once
        coroutine: Any = None
        try:
            here = places.pop(0, NOTHING) if places else NOTHING
            if driven.pending_failures:
                here = [*here, *driven.take_failures("at its beginning")]
            if here:
                yield from self._apply_at_begin(driven, here).__await__()
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
                driven.steps += 1
                step = driven.steps + self._steps[driven.name]
                driven.waits, driven.since = coroutine, self._clock()
                here = places.pop(step, NOTHING) if places else NOTHING
                if driven.pending_failures:
                    here = [*here, *driven.take_failures(f"at {_coroutine_frames.waiting_line(coroutine)}")]
                if here:
                    self._disturb_soon(driven, here)
                try:
                    value = yield trap
                except BaseException as raised:
                    error = raised
                self._count()
                if here:
                    try:
                        yield from self._delay(driven, here).__await__()
                    except asyncio.CancelledError as raised:  # never on trio
                        error = raised
                    error = self._choose_error(driven, here, error)
                driven.waits = None
            here = places.pop(AT_END, NOTHING) if places else NOTHING
            if driven.pending_failures:
                here = [*here, *driven.take_failures("at its end")]
            if here:
                driven.waits = None
                self._apply_at_end(driven, here)
            return result
        finally:
            self.turns.names.pop(task, None)
            driven.inside, driven.waits = False, None
            value = error = coroutine = None

    def _enter(self, driven: SteppedJob) -> int:
        driven.calls += 1
        driven.inside = True
        task = id(_current_task(self.plan.backend))
        self.turns.names[task] = driven.name
        return task

    def _count(self) -> None:
        """Count a wait that is over, and end a run that never ends."""
        self.outcome.waits += 1
        self._waits_in_round += 1
        if self._gave_up and self._waits_in_round > MAX_WAITS_AFTER_CANCEL:
            raise EndlessRun
        if self._waits_in_round <= self._round_size or self._gave_up:
            return
        self._waits_in_round = 0
        due = due_before(STALL_LIMIT, self.plan.backend)
        last, self._due = self._due, due
        if last is not None and (not due & last or self._clock() == self._round_began):
            self._record_broken_law("it never ends", None)
            self.add_line(f"it never ends: its jobs have waited {self.outcome.waits:,} times, and nothing else is due")
            self._add_places()
            self._give_up()
        self._round_began = self._clock()

    # ---- the changes

    async def _apply_at_begin(self, driven: SteppedJob, here: list[Change]) -> None:
        """Apply the changes before the body of a job begins."""
        self._disturb(driven, here)
        for change in here:
            if change.kind == "late":
                self._apply(change, f"{driven.name!r} begins {_describe_delay(change.value)}")
                await anyio.sleep(change.value)
            elif change.kind == "hang":
                self._apply(change, f"{driven.name!r} hangs at its beginning")
                await anyio.sleep_forever()
            elif change.kind == "fail":
                raise self._make_injected_error(driven, change)

    def _apply_at_end(self, driven: SteppedJob, here: list[Change]) -> None:
        """Apply the changes after the body of a job has returned, and before the engine gets its result."""
        self._disturb(driven, here)
        for change in here:
            if change.kind == "fail":
                raise self._make_injected_error(driven, change)

    def _disturb_soon(self, driven: SteppedJob, here: list[Change]) -> None:
        """Start a task that goes first in the next iteration and applies the changes to a job that is about to wait."""
        if any(KINDS[change.kind] in OUTSIDE_FAULTS for change in here):
            self.turns.called_first = True
            self._group.start_soon(self._outside_changes, driven, here, name=GOES_FIRST)

    async def _outside_changes(self, driven: SteppedJob, here: list[Change]) -> None:
        self._disturb(driven, here)

    def _disturb(self, driven: SteppedJob, here: list[Change]) -> None:
        """Apply changes from outside to a job that waits, or is at its beginning or end, or to its run."""
        job = driven.job
        for change in here:
            place = self._place_text(driven, change)
            if change.kind == "cancel":
                if is_ready(job) or (is_service(job) and not change.at):
                    continue
                self._apply(change, f"{driven.name!r} is cancelled {place}{self._current_holders(driven)}")
                with contextlib.suppress(RuntimeError):
                    job.cancel()
            elif change.kind == "stop":
                around: Any = job.scheduler
                self._apply(change, f"{around.label!r} is cancelled, while {driven.name!r} is {place}")
                with contextlib.suppress(RuntimeError):
                    around.cancel()
            elif change.kind == "cut" and self._cut is not None:
                self._apply(change, f"the whole run is cancelled from outside, while {driven.name!r} is {place}")
                if self._host is not None and change.value:
                    self._host.cancel()
                    self._native_cancels += 1
                else:
                    self._cut.cancel()
            elif change.kind == "ctrl-c":
                self._apply(change, f"Ctrl-C, while {driven.name!r} is {place}")
                self._allowed = self._allowed or KeyboardInterrupt()
                interrupt(self._scheduler, self._allowed)
            elif change.kind == "crash":
                self._apply(
                    change, f"the program is killed, while {driven.name!r} is {place}{self._current_holders(driven)}"
                )
                self._crash()

    def _crash(self) -> None:
        self._crashed = True
        try:
            self._crash_copy = copy.deepcopy(self._world)
        except Exception as error:
            self.refuse(
                TypeError(
                    f"the world cannot be copied, which a crash does ({error}): keep plain data in it, and make locks, "
                    f"events and connections in make_scheduler"
                )
            )
        if self._cut is not None:
            self._cut.cancel()

    def refuse(self, error: Exception) -> None:
        """End the run, and raise `error` afterwards: the scenario cannot be explored."""
        self._refused = self._refused or error
        if self._cut is not None:
            self._cut.cancel()

    async def _delay(self, driven: SteppedJob, here: list[Change]) -> None:
        """Delay a job that could resume."""
        for change in here:
            if change.kind == "late":
                place = self._place_text(driven, change)
                self._apply(
                    change,
                    f"{driven.name!r} resumes {_describe_delay(change.value)} {place}{self._current_holders(driven)}",
                )
                await self._pause(change.value)

    def _choose_error(
        self, driven: SteppedJob, here: list[Change], error: BaseException | None
    ) -> BaseException | None:
        """Return the exception to raise in a job that resumes, in place of `error` from the loop."""
        if error is not None and not (self.plan.backend == "trio" and _is_end_of_sleep(error)):
            return error
        for change in here:
            if change.kind == "fail" and _coroutine_frames.is_sleeping(driven.waits):
                return self._make_injected_error(driven, change)
        return error

    def _make_injected_error(self, driven: SteppedJob, change: Change) -> Injected:
        """Return the exception of an injected failure, and schedule its repetitions at this place."""
        place = self._place_text(driven, change)
        self._apply(change, f"{driven.name!r} fails {place}{self._current_holders(driven)}")
        if change.value > 1:
            driven.pending_failures.append((place, replace(change, value=change.value - 1)))
        return Injected(f"explore lets {driven.name!r} fail {place}")

    # ---- the story

    def _apply(self, change: Change, words: str) -> None:
        self.outcome.applied.add(change)
        self.add_line(words)

    def add_line(self, words: str, when: float | None = None) -> None:
        """Add a line to the story."""
        moment = self._clock() if when is None else when
        self.outcome.story.append(f"{round(moment, 3):>8g}  {words}")

    def _place_text(self, driven: SteppedJob, change: Change) -> str:
        if change.at == 0:
            return "at its beginning"
        return "at its end" if change.at == AT_END else f"at {_coroutine_frames.waiting_line(driven.waits)}"

    def _current_holders(self, driven: SteppedJob) -> str:
        """Return the holders of a pool's resources at this moment."""
        holds: list[str] = []
        for other in self._driven.values():
            if other is not driven and other.job.state is JobState.RUNNING:
                granted = {name: has for name, has in other.job.granted.items() if not isinstance(has, dict)}
                if granted:
                    holds.append(f"{other.name!r} holds {', '.join(f'{name}={has}' for name, has in granted.items())}")
        return f" while {' and '.join(holds)}" if holds else ""

    def _latest_time(self) -> float:
        moments = [driven.since for driven in self._driven.values() if driven.waits is not None]
        return max(moments + [job.finished_at for job in self._driven if job.finished_at is not None], default=0.0)

    def _add_places(self) -> None:
        """Add to the story where each running job waits, and which jobs wait for a slot or a resource."""
        waiting = [driven.name for driven in self._driven.values() if driven.job.state is JobState.SCHEDULED]
        for driven in self._driven.values():
            if driven.waits is not None:
                self.outcome.story.append(
                    f"{'':12}{driven.name!r} waits since {round(driven.since, 3):g}, "
                    f"at {_coroutine_frames.waiting_line(driven.waits)}"
                )
        if waiting:
            more = f" and {len(waiting) - 3} more" if len(waiting) > 3 else ""
            self.outcome.story.append(f"{'':12}{', '.join(map(repr, waiting[:3]))}{more} wait for their turn")


def _call(job: AnyJob, function: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
    session = current.get(None)
    return function() if session is None else session.call(job, function)


async def _shut_down(job: AnyJob, function: Callable[[], Awaitable[Any]]) -> None:
    session = current.get(None)
    await (function() if session is None else session.shut_down(job, function))


class _StepInstrument(Instrument):
    """Steps the jobs that are added while the scenario runs."""

    def __init__(self, session: ExploredRun) -> None:
        self._session: Final = session

    def job_added(self, scheduler: Any, job: AnyJob) -> None:
        """Begin to step its calls."""
        try:
            self._session.step_calls_of(job, job.path)
        except TypeError as error:
            self._session.refuse(error)


class _CrashingJournal:
    """A journal that records nothing after the program is killed."""

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
        if not self._session._crashed:
            self._opened.record(job, value)

    def forget(self, job: AnyJob) -> None:
        self._opened.forget(job)

    def commit(self) -> None:
        if not self._session._crashed:
            self._opened.commit()

    def close(self, outcome: str | None, report: Callable[[str], object]) -> None:
        self._opened.close(None if self._session._crashed else outcome, report)


def _check_scheduler(scheduler: Any) -> Any:
    """Return the result of make_scheduler, if it is a scheduler."""
    if inspect.iscoroutine(scheduler):
        scheduler.close()
        raise TypeError("make_scheduler is async: make it a plain function that returns a Scheduler")
    if not is_scheduler(scheduler):
        what = "nothing" if scheduler is None else short_repr(scheduler)
        raise TypeError(f"make_scheduler returned {what}: let it build and return a Scheduler")
    return scheduler


def count_arguments(function: Callable[..., object], name: str, most: int) -> int:
    """Return the number of arguments that a user's function takes: 0 or 1 for `make_scheduler`, 1 or 2 for `check`.

    Raises:
        TypeError: it takes another number.

    """
    least = most - 1
    if not callable(function):
        raise TypeError(f"{name}={short_repr(function)}: give a function")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return least
    for number in (most, least):
        with contextlib.suppress(TypeError):
            signature.bind(*range(number))
            return number
    wanted = "no argument, or the world" if most == 1 else "the scheduler, or the scheduler and the world"
    raise TypeError(f"{name}={name_of(function)}{signature}: let it take {wanted}")


def _call_with(function: Callable[..., Any], name: str, scheduler: Any, world: dict[Any, Any]) -> Any:
    if scheduler is None:
        return function(world) if count_arguments(function, name, 1) else function()
    return function(scheduler, world) if count_arguments(function, name, 2) == 2 else function(scheduler)


def _check_value_error(answer: object) -> TypeError:
    """Return the error for a check that returned a value."""
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        return TypeError("check is async, and is called when the run is over: make it a plain function")
    return TypeError(f"check returned {short_repr(answer)}: let it assert what must hold, and return nothing")


def _may_time_out(scheduler: Any) -> bool:
    """Return whether the timeout of a scheduler may still end its run; it cannot if the run is already stopping."""
    run = current_run(scheduler)
    return run is not None and run.phase is not RunPhase.STOPPING


async def _pause_on_trio(seconds: float) -> None:
    import trio

    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)


async def _pause_on_asyncio(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _is_end_of_sleep(error: BaseException) -> bool:
    """Return whether an exception is the one by which trio ends a sleep at a deadline."""
    import trio

    return isinstance(error, trio.Cancelled)


def _as_coroutine(awaitable: Any) -> Any:
    return awaitable if inspect.iscoroutine(awaitable) else _await(awaitable)


async def _await(awaitable: Any) -> Any:
    return await awaitable


def _current_task(backend: str) -> Any:
    if backend == "trio":
        import trio

        return trio.lowlevel.current_task()
    return asyncio.current_task()


def _tasks_of_trio() -> list[Any]:
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
    """Describe an exception in a line, with the line of code that raised it if it has no message."""
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
