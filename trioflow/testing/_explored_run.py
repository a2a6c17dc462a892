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

- Cancellations and Ctrl-C happen at the beginning of a job, or while it waits. Crashes also happen at its end. While
  the job waits, a separate task causes them, because the job's trap must reach the event loop first. This task resumes
  before all others in the next iteration of the loop.
- An injected exception represents a failure of the outside world. It is raised at the beginning or the end of a job's
  body, or after a sleep, which represents work in the outside world. It is not raised after a wait for a lock, which
  cannot fail.
- A service is not cancelled once it is ready, because its scheduler cancels it only after all jobs that use it have
  ended. It is not cancelled at its beginning either, because it may report readiness before it waits.
- A job may always resume late. On trio, it is shielded from cancellation during the delay, because it may already have
  received the value that it waited for. On asyncio, a task may be cancelled even then.
- A crash copies the world and the files of the journal at that moment. The crashed program is shut down like any other,
  but its world and its files are then discarded. The next program gets the copies.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import inspect
import os
import shutil
import tempfile
import types
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from dataclasses import replace
from typing import Any, Final

import anyio

from .. import Scheduler
from .._core.base._text_forms import short_repr
from .._core.job import _ancestors, _interception, _labels, _retry
from .._core.job._job import AnyJob, is_scheduler
from .._core.run._instruments import Instrument
from .._core.scheduler._base_scheduler import interrupt
from .._core.words._job_queries import (
    has_hard_timeout,
    is_ready,
    is_service,
    runs_outside_loop,
)
from . import _judge
from ._fault_plans import (
    END_PLACE,
    FAULT_OF_KIND,
    Change,
    InjectedError,
    Plan,
    RunOutcome,
    SteppedJob,
)
from ._judge import Judge, ProgressWatch, Story
from ._task_order import FIRST_TASK_NAME, TaskOrder, set_task_order

MAX_ENDING_ITERATIONS: Final = 4
"""The number of iterations of asyncio's event loop that tasks may take to finish after the run."""
EXTERNAL_FAULTS: Final = frozenset({"cancellation", "ctrl-c", "crash"})

current_explored_run: Final[contextvars.ContextVar[ExploredRun]] = (
    contextvars.ContextVar("trioflow exploration")
)


class ExploredRun:
    """One run of a scenario.

    Args:
        make: creates the scheduler. If it takes an argument, it is called with the world.
        check: called with the scheduler after the run, and with the world if it takes two arguments, or None for no
            check.
        plan: the changes of the run.
        round_size: the number of waits in a round. See `PLAIN_ROUND_WAITS`.
        order_seed: a seed for the order of tasks in all iterations, or None for the usual order.

    """

    def __init__(
        self,
        make: Callable[..., Scheduler],
        check: Callable[..., object] | None,
        plan: Plan,
        round_size: int,
        order_seed: int | None,
    ) -> None:
        self._make_scheduler: Final = make
        self.plan: Final = plan
        # By the name of the job, then the place.
        self._changes_by_place: Final = dict[str, dict[int, list[Change]]]()
        order_changes = [
            change for change in plan.changes if FAULT_OF_KIND[change.kind] == "order"
        ]
        for change in plan.changes:
            if change not in order_changes:
                self._changes_by_place.setdefault(change.name, {}).setdefault(
                    change.at, []
                ).append(change)
        self.task_order: Final = TaskOrder(order_changes, order_seed)
        self.outcome: Final = RunOutcome(plan, self.task_order)
        self.outcome.applied_changes.update(order_changes)
        self._stepped_jobs: Final = dict[AnyJob, SteppedJob]()
        self._story: Final = Story(self.outcome, self._stepped_jobs)
        self._judge: Final = Judge(check, self._story)
        self._watch: Final = ProgressWatch(
            self._story,
            self._judge,
            self.task_order,
            round_size,
            self._cancel_run,
            self.reject_scenario,
        )
        self._world: dict[Any, Any] = {}
        # A copy of the world at the moment of the crash.
        self._crash_copy: dict[Any, Any] = {}
        # By the name of the job.
        self._waits_before_crash: Counter[str] = Counter()
        self._is_crashed = False
        self._scheduler: Any = None
        # Around the run, for `cut` and for giving up, or None while there is no run.
        self._cut_scope: Any = None
        self._host_task: Any = None
        self._task_group: Any = None
        self._native_cancel_count = 0
        self._rejection: Exception | None = None
        self._journal_directory: str | None = None

    # ---- the whole run

    def run(self) -> RunOutcome:
        """Run the scenario according to the plan, again after each crash, and return the outcome.

        Raises:
            Exception: the scenario cannot be explored, for example because it cannot start.

        """
        # The backoffs of retries are the same in each run of a plan.
        _retry.jitter_source().seed(0)
        crashes = any(change.kind == "crash" for change in self.plan.changes)
        self._journal_directory = None
        with contextlib.ExitStack() as stack:
            if crashes:
                directory = stack.enter_context(tempfile.TemporaryDirectory())
                self._journal_directory = os.path.join(directory, "0")
                os.mkdir(self._journal_directory)
            self._run_once()
            while self._is_crashed and self._rejection is None:
                self._is_crashed = False
                self._world = self._crash_copy
                self._story.add_line(
                    "the program starts again, with the same journal", 0.0
                )
                self._run_once()
        if self._rejection is not None:
            raise self._rejection
        self._record_profile()
        for stepped in self._stepped_jobs.values():
            stepped.waiting_coroutine = None
        self._stepped_jobs.clear()
        return self.outcome

    def _record_profile(self) -> None:
        """Record the number of waits of each job, and which jobs have timeouts or retries."""
        outcome = self.outcome
        outcome.wait_counts.update(self._waits_before_crash)
        for stepped in self._stepped_jobs.values():
            outcome.wait_counts[stepped.name] = (
                self._waits_before_crash[stepped.name] + stepped.wait_count
            )
            levels = (stepped.job, *_ancestors.enclosing_schedulers(stepped.job))
            if any(map(has_hard_timeout, levels)):
                outcome.jobs_with_timeout.add(stepped.name)
            if any(level.retry for level in levels):
                outcome.jobs_with_retries.add(stepped.name)

    def _run_once(self) -> None:
        for stepped in self._stepped_jobs.values():
            self._waits_before_crash[stepped.name] += stepped.wait_count
        self._stepped_jobs.clear()
        self._watch.begin()
        self.task_order.job_names.clear()
        with set_task_order(self.task_order, self.plan.backend) as options:
            if self.plan.backend == "trio":
                import trio

                try:
                    trio.run(self._main, **options)
                except trio.TrioInternalError as error:
                    text = f"trio breaks down: {_judge.describe_error(error.__cause__ or error)}"
                    self._judge.record_violation(
                        "trio breaks down",
                        text,
                        error,
                        self._story.last_activity_time(),
                    )
            else:
                anyio.run(self._main, backend="asyncio", backend_options=options)

    async def _main(self) -> None:
        is_trio = self.plan.backend == "trio"
        current_explored_run.set(self)
        try:
            made = _judge.call_user_function(
                self._make_scheduler, "make_scheduler", self._world
            )
        except Exception as error:
            if not self.outcome.total_wait_count:
                self.outcome.make_error = error
            text = f"make_scheduler raises {_judge.describe_error(error)}"
            self._judge.record_violation(
                f"make_scheduler raises {type(error).__name__}", text, error
            )
            return
        self._scheduler = scheduler = _check_scheduler(made)
        self._prepare(scheduler)
        raised: BaseException | None = None
        earlier_tasks = set[asyncio.Task[Any]]()
        self._host_task = None
        if not is_trio:
            earlier_tasks = asyncio.all_tasks()
            self._host_task = asyncio.current_task()
        self._native_cancel_count = 0
        # Nobody can come in virtual time.
        scheduler.hold = False
        journal = None
        if self._journal_directory is not None:
            journal = os.path.join(self._journal_directory, "run.db")
        try:
            async with anyio.create_task_group() as self._task_group:
                self._task_group.start_soon(self._watch.watch_for_stall)
                self._watch.watch_timeout(scheduler, self._task_group)
                with anyio.CancelScope() as self._cut_scope:
                    try:
                        await scheduler.co_run(
                            instruments=[_StepInstrument(self)], journal=journal
                        )
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
        iterations = 0 if is_trio else MAX_ENDING_ITERATIONS
        for _ in range(iterations):
            await asyncio.sleep(0)
        leftover_tasks = set[asyncio.Task[Any]]()
        if not is_trio:
            leftover_tasks = asyncio.all_tasks() - earlier_tasks
        names = [task.get_name() for task in leftover_tasks]
        self._rejection = self._rejection or self._judge.check(
            scheduler, raised, names, self._world
        )

    def _prepare(self, scheduler: Scheduler) -> None:
        if scheduler.stop_reason is not None:
            raise ValueError(
                f"make_scheduler returned {scheduler.label!r}, which has run before: build a new one at each call"
            )
        for job, name in _labels.paths_of(scheduler).items():
            self.step_calls(job, name)

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
        _interception.intercept_calls(job, _call_job, _shut_down)
        if is_scheduler(job):
            for member, path in _labels.paths_of(job, f"{name}/").items():
                self.step_calls(member, path)

    # ---- the jobs

    def call(
        self, job: AnyJob, function: Callable[[], Awaitable[Any]]
    ) -> Awaitable[Any]:
        stepped = self._stepped_jobs.get(job)
        if stepped is None or is_scheduler(job):
            if stepped is not None:
                self._watch.watch_timeout(job, self._task_group)
            return function()
        return self._step_coroutine(stepped, function)

    async def shut_down(
        self, job: AnyJob, function: Callable[[], Awaitable[Any]]
    ) -> None:
        if job in self._stepped_jobs:
            self._stepped_jobs[job].shutdown_count += 1
        await function()

    @types.coroutine
    def _step_coroutine(
        self, stepped: SteppedJob, function: Callable[[], Awaitable[Any]]
    ) -> Generator[Any, Any, Any]:
        stepped.call_count += 1
        stepped.is_running = True
        task_id = anyio.get_current_task().id
        self.task_order.job_names[task_id] = stepped.name
        coroutine: Any = None
        try:
            if changes := self._take_changes(stepped, 0):
                yield from self._apply_outside_waits(stepped, changes).__await__()
            coroutine = _as_coroutine(function())
            value: Any = None
            error: BaseException | None = None
            while True:
                try:
                    if error is None:
                        trap = coroutine.send(value)
                    else:
                        trap = coroutine.throw(error)
                except StopIteration as stop:
                    result = stop.value
                    break
                value = error = None
                stepped.wait_count += 1
                place = stepped.wait_count + self._waits_before_crash[stepped.name]
                stepped.waiting_coroutine = coroutine
                stepped.wait_start = anyio.current_time()
                if changes := self._take_changes(stepped, place):
                    self._schedule_external_changes(stepped, changes)
                try:
                    value = yield trap
                except BaseException as raised:
                    error = raised
                self._watch.count_wait()
                if changes:
                    try:
                        yield from self._delay_resumption(stepped, changes).__await__()
                    except asyncio.CancelledError as raised:
                        # On trio, the delay is shielded.
                        error = raised
                    error = self._choose_error(stepped, changes, error)
                stepped.waiting_coroutine = None
            if changes := self._take_changes(stepped, END_PLACE):
                # The engine gets the result after these.
                yield from self._apply_outside_waits(stepped, changes).__await__()
            return result
        finally:
            self.task_order.job_names.pop(task_id, None)
            stepped.is_running, stepped.waiting_coroutine = False, None
            value = error = coroutine = None

    # ---- the changes

    def _take_changes(self, stepped: SteppedJob, place: int) -> list[Change]:
        """Remove and return the changes at a place in a job, with the failures to repeat there."""
        changes = self._changes_by_place.get(stepped.name, {}).pop(place, [])
        if stepped.pending_failures:
            changes = [
                *changes,
                *stepped.take_failures(_judge.describe_place(stepped, place)),
            ]
        return changes

    async def _apply_outside_waits(
        self, stepped: SteppedJob, changes: list[Change]
    ) -> None:
        """Apply the changes at the beginning of a job, or after its body has returned."""
        await self._apply_external_changes(stepped, changes)
        for change in changes:
            if change.kind == "late" and not change.at:
                self._apply(
                    change,
                    f"{stepped.name!r} begins {_judge.describe_delay(change.value)}",
                )
                await anyio.sleep(change.value)
            elif change.kind == "hang" and not change.at:
                self._apply(change, f"{stepped.name!r} hangs at its beginning")
                await anyio.sleep_forever()
            elif change.kind == "fail":
                raise self._make_injected_error(stepped, change)

    def _schedule_external_changes(
        self, stepped: SteppedJob, changes: list[Change]
    ) -> None:
        """If there are external changes, start a task that applies them to the waiting job.

        The task resumes first in the next iteration of the event loop.
        """
        if any(FAULT_OF_KIND[change.kind] in EXTERNAL_FAULTS for change in changes):
            self.task_order.is_first_task_pending = True
            self._task_group.start_soon(
                self._apply_external_changes, stepped, changes, name=FIRST_TASK_NAME
            )

    async def _apply_external_changes(
        self, stepped: SteppedJob, changes: list[Change]
    ) -> None:
        """Apply the external changes among `changes` to a job that begins, waits or ends, or to its run."""
        job = stepped.job
        for change in changes:
            place = _judge.describe_place(stepped, change.at)
            if change.kind == "cancel":
                if is_ready(job) or (is_service(job) and not change.at):
                    continue
                self._apply(
                    change,
                    f"{stepped.name!r} is cancelled {place}{self._story.describe_holders(stepped)}",
                )
                with contextlib.suppress(RuntimeError):
                    job.cancel()
            elif change.kind == "stop":
                enclosing: Any = job.scheduler
                self._apply(
                    change,
                    f"{enclosing.label!r} is cancelled, while {stepped.name!r} is {place}",
                )
                with contextlib.suppress(RuntimeError):
                    enclosing.cancel()
            elif change.kind == "cut" and self._cut_scope is not None:
                self._apply(
                    change,
                    f"the whole run is cancelled from outside, while {stepped.name!r} is {place}",
                )
                if self._host_task is not None and change.value:
                    self._host_task.cancel()
                    self._native_cancel_count += 1
                else:
                    self._cut_scope.cancel()
            elif change.kind == "ctrl-c":
                self._apply(change, f"Ctrl-C, while {stepped.name!r} is {place}")
                self._judge.allowed_error = (
                    self._judge.allowed_error or KeyboardInterrupt()
                )
                interrupt(self._scheduler, self._judge.allowed_error)
            elif change.kind == "crash" and not self._is_crashed:
                self._apply(
                    change,
                    f"the program is killed, while {stepped.name!r} is {place}{self._story.describe_holders(stepped)}",
                )
                self._simulate_crash()

    def _simulate_crash(self) -> None:
        self._is_crashed = True
        if self._journal_directory is not None:
            directory, number = os.path.split(self._journal_directory)
            copied = os.path.join(directory, str(int(number) + 1))
            self._journal_directory = shutil.copytree(self._journal_directory, copied)
        try:
            self._crash_copy = copy.deepcopy(self._world)
        except Exception as error:
            self.reject_scenario(
                TypeError(
                    f"a crash copies the world, but it cannot be copied ({error}): keep plain data in it, and make "
                    f"locks, events and connections in make_scheduler"
                )
            )
        self._cancel_run()

    def reject_scenario(self, error: Exception) -> None:
        """End the run of a scenario that cannot be explored. `run` raises the error afterwards."""
        self._rejection = self._rejection or error
        self._cancel_run()

    def _cancel_run(self) -> None:
        if self._cut_scope is not None:
            self._cut_scope.cancel()

    async def _delay_resumption(
        self, stepped: SteppedJob, changes: list[Change]
    ) -> None:
        for change in changes:
            if change.kind == "late":
                place = _judge.describe_place(stepped, change.at)
                holders = self._story.describe_holders(stepped)
                self._apply(
                    change,
                    f"{stepped.name!r} resumes {_judge.describe_delay(change.value)} {place}{holders}",
                )
                with anyio.CancelScope(shield=self.plan.backend == "trio"):
                    await anyio.sleep(change.value)

    def _choose_error(
        self, stepped: SteppedJob, changes: list[Change], error: BaseException | None
    ) -> BaseException | None:
        """Return the exception to raise in a job that resumes: an injected failure, or else the `error` of the loop.

        A failure is injected only after a sleep, and only if the loop raised nothing, or a `Cancelled` of trio.
        """
        # trio ends even a sleep with `Cancelled` when the sleep's time is up:
        # https://github.com/python-trio/trio/blob/v0.35.0/src/trio/_timeouts.py#L91.
        is_trio = self.plan.backend == "trio"
        if error is not None and not (
            is_trio and isinstance(error, anyio.get_cancelled_exc_class())
        ):
            return error
        for change in changes:
            if change.kind == "fail" and _judge.is_sleeping(stepped.waiting_coroutine):
                return self._make_injected_error(stepped, change)
        return error

    def _make_injected_error(
        self, stepped: SteppedJob, change: Change
    ) -> InjectedError:
        """Create the exception of an injected failure, and schedule the remaining repetitions at the same place."""
        place = _judge.describe_place(stepped, change.at)
        self._apply(
            change,
            f"{stepped.name!r} fails {place}{self._story.describe_holders(stepped)}",
        )
        if change.value > 1:
            stepped.pending_failures.append(
                (place, replace(change, value=change.value - 1))
            )
        return InjectedError(f"explore makes {stepped.name!r} fail {place}")

    # ---- the story

    def _apply(self, change: Change, text: str) -> None:
        self.outcome.applied_changes.add(change)
        self._story.add_line(text)


def _call_job(job: AnyJob, function: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
    explored_run = current_explored_run.get(None)
    if explored_run is None:
        return function()
    return explored_run.call(job, function)


async def _shut_down(job: AnyJob, function: Callable[[], Awaitable[Any]]) -> None:
    explored_run = current_explored_run.get(None)
    if explored_run is None:
        await function()
    else:
        await explored_run.shut_down(job, function)


class _StepInstrument(Instrument):
    """An instrument that steps the jobs that are added while the scenario runs."""

    def __init__(self, explored_run: ExploredRun) -> None:
        self._explored_run: Final = explored_run

    def job_added(self, scheduler: object, job: AnyJob) -> None:
        """Step the calls of the new job. If it works in real time, reject the scenario."""
        try:
            self._explored_run.step_calls(job, job.path)
        except TypeError as error:
            self._explored_run.reject_scenario(error)


def _check_scheduler(scheduler: object) -> Any:
    if inspect.iscoroutine(scheduler):
        scheduler.close()
        raise TypeError(
            "make_scheduler is async: make it a plain function that returns a Scheduler"
        )
    if not is_scheduler(scheduler):
        what = "nothing"
        if scheduler is not None:
            what = short_repr(scheduler)
        raise TypeError(
            f"make_scheduler returned {what}: let it build and return a Scheduler"
        )
    return scheduler


def _as_coroutine(awaitable: object) -> Any:
    if inspect.iscoroutine(awaitable):
        return awaitable
    return _await_result(awaitable)


async def _await_result(awaitable: Any) -> Any:
    return await awaitable
