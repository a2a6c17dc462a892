"""The engine on asyncio: how it uses the loop, native tasks and anyio.

The workers' tasks are native asyncio tasks in one common anyio cancel scope, as if they were in a task group. A worker
gets a scope of its own only when it has to be cancelled alone, or shielded, or when its job makes anyio look up the
scope that it is in. That scope is then put between the common one and those that its job may have opened. Most jobs
need none.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import sys
import time
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import anyio
import anyio.lowlevel
from anyio._backends import _asyncio as anyio_asyncio

from . import _shared

if TYPE_CHECKING:
    from ._interface import Event, Mark, Scope, Variables, Work, WorkerTask

T = TypeVar("T")
SHARED_IN_LOOPS: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any]] = weakref.WeakKeyDictionary()
getrefcount: Final[Callable[[object], int]] = getattr(sys, "getrefcount", lambda _: 1)  # not every Python counts
TASK_STATES: Final = cast(Any, anyio_asyncio)._task_states  # anyio's record of the innermost cancel scope of each task

MANY_STALE: Final = 64
"""Beyond these, at most every second deadline that is kept may be that of a job that has ended."""


class AsyncioGroup:
    """The workers' tasks, in one cancel scope that no task has entered; the deadline is a timer of the loop."""

    __slots__ = (
        "_alarm",
        "_alarm_at",
        "_cancellation",
        "_context",
        "_deadlines",
        "_expired",
        "_host",
        "_limited",
        "_loop",
        "_number",
        "_on_deadline",
        "_parent",
        "_requests",
        "_shielded",
        "_spawned",
        "_timer",
        "_work",
        "scope",
        "variables",
    )

    def __init__(
        self,
        work: Work,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: Variables,
    ) -> None:
        self.variables = variables
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._on_deadline = on_deadline
        self._expired = False
        # The scope has the deadline only to be asked for it; the timer is the group's own.
        self.scope: Final[Any] = anyio_asyncio.CancelScope(deadline=deadline)
        host: Any = asyncio.current_task()
        self._host = self.scope._host_task = host  # anyio gets the loop from it, when a job uses a thread
        self._parent = id(host)
        # The scope around the run: jobs can ask anyio for its deadline. It delivers a cancellation only to the host.
        self.scope._parent_scope = self._scope_around()
        self._shielded: Any = None  # the scope of all shielded workers, if there are any
        self._spawned: list[WorkerTask] = []  # the workers whose tasks may not have made their first step
        self._requests = host.cancelling() - host._must_cancel
        self._timer = None if deadline == math.inf else self._loop.call_at(deadline, self._expire)
        # The deadlines of workers, a heap, with numbers that settle ties. Entries of jobs that have ended stay until
        # they come to the top, or until there are too many of them.
        self._deadlines: list[tuple[float, int, WorkerTask]] = []
        self._number = 0
        self._limited = 0  # how many workers have a deadline now
        self._alarm: asyncio.TimerHandle | None = None  # at the earliest of these deadlines
        self._alarm_at = math.inf
        # The cancellation of the task that hosts the run. It is raised in that task, when everything has ended.
        self._cancellation: asyncio.CancelledError | None = None

    async def host(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `body`, then raise a cancellation that came meanwhile."""
        try:
            await body()
        finally:
            self._set_alarm(math.inf)
            if self._timer is not None:
                self._timer.cancel()
        if self._cancellation is not None:
            try:
                raise self._cancellation
            finally:
                self._cancellation = None
        if self._host._must_cancel:  # it was cancelled before it came here, and nothing has been awaited since
            await asyncio.sleep(0)
        around = self._scope_around()
        if around is not None and around._effectively_cancelled:  # the ending's shield has kept it out
            await anyio.lowlevel.checkpoint_if_cancelled()

    def _scope_around(self) -> Any:
        """Return the innermost scope of the task that hosts the run; None if there is none."""
        state = TASK_STATES.get(self._host)
        return state.innermost if isinstance(state, WorkerState) else None if state is None else state.cancel_scope

    def spawn(self, worker: WorkerTask) -> None:
        """Start a task for `worker`, in a copy of the run's context."""
        context = self._context.copy()
        if self._loop.get_task_factory() is None:
            task: Any = asyncio.Task(self._work(worker), loop=self._loop, context=context)
        else:
            task = self._loop.create_task(self._work_later(worker), context=context)
        worker.task = task
        worker.mark = WorkerState(self._parent, self.scope, worker, task, context, self.variables)
        TASK_STATES[task] = worker.mark
        self.scope._tasks.add(task)
        if not self._spawned:
            self._loop.call_soon(self._look_at_spawned, context=self._context)
        self._spawned.append(worker)

    def _look_at_spawned(self) -> None:
        """Let workers leave whose tasks were cancelled before their first step, and so run no code.

        This looks at all that were spawned in a turn, because a callback for each costs a tenth of a worker.
        """
        spawned, self._spawned = self._spawned, []
        for worker in spawned:
            if not worker.mark.holders:
                if worker.task.done():
                    worker.leave_unbegun()
                else:
                    self._spawned.append(worker)
        if self._spawned:
            self._loop.call_soon(self._look_at_spawned, context=self._context)

    async def _work_later(self, worker: WorkerTask) -> None:
        """Work in the task that is current: if the loop's task factory is an eager one, as soon as `spawn` knows it."""
        if worker.mark is None:
            await asyncio.sleep(0)
        await self._work(worker)

    async def turn(self) -> bool:
        """Let others run. Return False if a cancellation came."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as cancellation:
            self._cancellation = cancellation
            return False
        return True

    async def wait(self, event: Event) -> bool:
        """Wait for `event`. Return False, without waiting longer, on cancellation."""
        try:
            await event.wait()
        except asyncio.CancelledError as cancellation:
            self._cancellation = cancellation
            return False
        return True

    async def uninterrupted(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `function()` in a task of its own, because no shield protects this task from a native `Task.cancel()`.

        anyio delivers the cancellation of a scope again and again; the shield here keeps that out. If the new task
        itself is cancelled, `function` is called again, and has to go on where it was.
        """
        while True:
            task = self._loop.create_task(function(), context=self._context.copy())
            while not task.done():
                with anyio.CancelScope(shield=True):
                    try:
                        await asyncio.wait([task])
                    except asyncio.CancelledError as cancellation:
                        self._cancellation = cancellation  # a native one takes precedence over that of a scope
            if not task.cancelled():  # somebody who cancels all tasks of the loop cancels this one too
                return task.result()

    def call_at(self, when: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call `function()` at the time `when`; return what prevents the call."""
        return self._loop.call_at(when, function, context=self._context.copy()).cancel

    def is_cancelled(self) -> bool:
        """Return whether the group was cancelled, by its deadline or from outside; the run may not know it yet."""
        return self.host_is_cancelled() or self.scope._effectively_cancelled

    def host_is_cancelled(self) -> bool:
        """Return whether the task that awaits the run was cancelled natively since the run began, or is about to be.

        A loop that ends cancels all tasks at once, and resumes them in any order, so a worker may be the first to
        notice.
        """
        return bool(self._host.cancelling() > self._requests)

    def deadline_passed(self) -> bool:
        """Return whether it was the deadline that cancelled the group."""
        return self._expired

    def cancel(self) -> None:
        """Cancel all tasks of the group except the shielded ones."""
        if not self.scope.cancel_called:
            self.scope.cancel()

    def shield(self, worker: WorkerTask) -> None:
        """Keep `cancel` from cancelling this worker, which runs no job."""
        if self._shielded is None:
            self._shielded = _entered_scope(self.scope, self._host)
            self._shielded.shield = True
        shielded = worker.mark.stopper = self._shielded
        if worker.scope is None:
            self.scope._tasks.discard(worker.task)
            shielded._tasks.add(worker.task)
            worker.mark.scope = worker.mark.innermost = shielded
        else:
            cast(Any, worker.scope)._reparent(shielded)

    def cancel_shielded(self) -> None:
        """Cancel all workers that are shielded."""
        if self._shielded is not None:
            self._shielded.cancel()

    def cancel_one(self, worker: WorkerTask) -> None:
        """Cancel one worker, even a shielded one; a worker that has not begun will find that its run is stopping."""
        if worker.mark is not None:
            worker.mark.stopper = scope = worker.scope or self.scope_of_its_own(worker)
            scope.cancel()

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        """Cancel a worker alone at the time `when`, unless another time is set before; `inf` for never."""
        before = worker.deadline
        if before == -math.inf and when != math.inf:
            return  # its time has come
        worker.deadline = when
        if worker.scope is not None:
            cast(Any, worker.scope)._deadline = when  # for those who ask; it has no timer of its own
        if when == math.inf:
            self._limited -= before != math.inf
            return
        self._limited += before == math.inf
        self._number += 1
        heappush(self._deadlines, (when, self._number, worker))
        if when < self._alarm_at:
            self._set_alarm(when)
        if len(self._deadlines) > 2 * self._limited + MANY_STALE:
            self._deadlines = [entry for entry in self._deadlines if entry[2].deadline == entry[0]]
            heapify(self._deadlines)

    def is_expired(self, worker: WorkerTask) -> bool:
        """Return whether a worker was cancelled alone, by its deadline or by `cancel_one`, and nothing around it."""
        scope: Any = worker.scope
        if scope is None or not scope.cancel_called or self.host_is_cancelled():
            return False
        around = scope._parent_scope
        return scope.shield or around is None or not around._effectively_cancelled

    def _set_alarm(self, when: float) -> None:
        """Look at the deadlines of workers at the time `when`."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = when
        self._alarm = None if when == math.inf else self._loop.call_at(when, self._ring, context=self._context)

    def _ring(self) -> None:
        """Cancel the workers whose time is over."""
        now, deadlines = self._loop.time(), self._deadlines
        while deadlines:
            when, _, worker = deadlines[0]
            if worker.deadline == when:  # otherwise its job has ended
                if when > now:
                    break
                worker.deadline = -math.inf
                self.cancel_one(worker)
            heappop(deadlines)
        self._alarm = None
        self._set_alarm(deadlines[0][0] if deadlines else math.inf)

    def forget(self, worker: WorkerTask) -> None:
        """Drop all that the group keeps for a worker that leaves."""
        scope: Any = worker.scope
        if scope is None:
            worker.mark.scope._tasks.discard(worker.task)
        else:
            scope._parent_scope._child_scopes.discard(scope)
        TASK_STATES.pop(worker.task, None)  # keys are weak, but a scope of its own would keep the task alive for ever

    def scope_of_its_own(self, worker: WorkerTask) -> Any:
        """Put a new scope inside the common one, and around all scopes that are open in a worker's task."""
        around = worker.mark.scope
        scope = _entered_scope(around, worker.task)
        scope._deadline = worker.deadline
        worker.scope = worker.mark.scope = scope
        worker.mark.holders += 1  # the scope, as its host
        around._tasks.discard(worker.task)
        state: WorkerState = worker.mark
        state.worker = None
        outermost = state.innermost
        if outermost is around:
            state.innermost = scope
            scope._tasks.add(worker.task)
        else:
            while outermost._parent_scope is not around:
                outermost = outermost._parent_scope
            outermost._reparent(scope)
        return scope

    def _expire(self) -> None:
        self._expired = True
        self._on_deadline()


def _entered_scope(around: Any, host: Any) -> Any:
    """Return a new scope inside another one; anyio's own `__enter__` makes one for the calling task alone."""
    scope: Any = anyio_asyncio.CancelScope()
    scope._host_task = host
    scope._parent_scope = around
    around._child_scopes.add(scope)
    return scope


class WorkerState(anyio_asyncio.TaskState):
    """What a worker's task was like before it ran a job; this is also what anyio knows about the task.

    When anyio asks for the task's scope, the task gets one of its own. For example, anyio lets a thread that a job has
    started ask the job's scope whether the job was cancelled. The common scope would not know.
    """

    __slots__ = ("_context", "_size", "_task", "_variables", "holders", "innermost", "scope", "stopper", "worker")

    def __init__(
        self,
        parent: int | None,
        scope: Any,
        worker: WorkerTask | None,
        task: Any,
        context: contextvars.Context,
        variables: Variables,
    ) -> None:
        self.parent_id = parent
        # The innermost scope of the task, now and before a job; and the scope whose cancellation ends the worker.
        self.innermost: Any = scope
        self.scope: Any = scope
        self.stopper: Any = scope
        self.worker = worker  # None as soon as it has a scope of its own, or if it must not get one
        self._task = task
        self._context = context
        self._size = len(variables) + 1  # with the variable that holds the worker
        self._variables = variables
        self.holders = 0  # how many references to the task there are while it runs; 0 before its first step

    @property
    def cancel_scope(self) -> Any:
        """The innermost scope of the task, as anyio sees it; the engine itself reads `innermost`."""
        if self.worker is not None:
            cast(AsyncioGroup, self.worker.group).scope_of_its_own(self.worker)
        return self.innermost

    @cancel_scope.setter
    def cancel_scope(self, scope: Any) -> None:
        self.innermost = scope

    def count_holders(self) -> None:
        """Count who refers to the task, at its first step.

        Whoever is going to cancel a task has a reference to it, in a variable, or in an `asyncio.timeout` or TaskGroup
        of an async generator that was broken off. If a job leaves a reference behind, the worker retires.
        """
        task = self._task
        self.holders = getrefcount(task)

    def intact(self) -> bool:
        """Return whether the task is as it was: the same scopes, the same variables, and not cancelled."""
        context = self._context
        task = self._task
        if self.innermost is not self.scope or self.stopper._cancel_called or task.cancelling():
            return False
        if getrefcount(task) != self.holders:
            return False
        if len(context) != self._size:
            return False
        for variable, value in self._variables:  # noqa: SIM110 - a generator costs more than this loop
            if context.get(variable) is not value:
                return False
        return True

    def left_open(self) -> bool:
        """Return whether there are scopes in the task that were not there before the job, or task groups."""
        return self.innermost is not self.scope


class AsyncioBackend:
    """asyncio, as far as the engine is concerned; see `Backend`."""

    name = "asyncio"
    names_tasks = False

    def run(self, main: Callable[[], Coroutine[Any, Any, T]], options: Mapping[str, Any]) -> T:
        """Run `main()` in a new event loop, by `anyio.run`."""
        return anyio.run(main, backend="asyncio", backend_options=dict(options))

    def clock(self) -> Callable[[], float]:
        """Return the function that returns this loop's time in seconds."""
        loop_time = asyncio.get_running_loop().time
        if getattr(loop_time, "__func__", None) is asyncio.BaseEventLoop.time:
            return time.monotonic  # all that this method does is to call it
        return loop_time

    def once_in_loop(self, make: Callable[[], T]) -> T:
        """Return what `make()` returned when this loop was first asked."""
        loop = asyncio.get_running_loop()
        made = SHARED_IN_LOOPS.get(loop)
        if made is None:
            SHARED_IN_LOOPS[loop] = made = make()
        return cast(T, made)

    def group(
        self,
        work: Work,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: Variables,
    ) -> AsyncioGroup:
        """Make the group for one run. Its own timer calls `on_deadline`."""
        return AsyncioGroup(work, deadline, on_deadline, context, variables)

    def scope(self, deadline: float = math.inf) -> Scope:
        """Make a cancel scope with a deadline on this loop's clock."""
        return cast("Scope", anyio_asyncio.CancelScope(deadline=deadline))

    def enter(self, worker: WorkerTask) -> Mark:
        """Record the current task as that of `worker`, and what it is like; return that record."""
        if worker.mark is None:
            worker.task = task = asyncio.current_task()
            context = contextvars.copy_context()
            variables = _shared.variables_of(context, worker.group.variables, worker)
            known = TASK_STATES[task]
            worker.mark = WorkerState(known.parent_id, known.cancel_scope, None, task, context, variables)
            TASK_STATES[cast(Any, task)] = worker.mark
        mark: WorkerState = worker.mark
        mark.count_holders()
        return mark

    def is_current(self, task: Any) -> bool:
        """Return whether the call comes from this task."""
        return asyncio.current_task() is task

    def is_inside(self, worker: WorkerTask) -> bool:
        """Return whether the call comes from the task of `worker`, or from one inside it; True if that is not known."""
        try:
            calling = asyncio.current_task()
        except RuntimeError:  # in a thread
            return True
        around = set(_parents(worker.task))
        for number in _parents(calling):
            if number in around:
                return number == id(worker.task)
        return True

    async def close_left_open(self, worker: WorkerTask) -> tuple[str | None, BaseException | None]:
        """Close the scopes and task groups that a job left open in the task; return what that was.

        Errors in a task group are not returned, because its scope does not give access to them.
        """
        left = None
        state: WorkerState = worker.mark
        while (scope := state.innermost) is not worker.mark.scope:
            left = left or "cancel scope"
            scope.cancel()
            while tasks := _tasks_in(scope) - {worker.task}:
                left = "task group"
                with anyio.CancelScope(shield=True), contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait(tasks)
            scope.__exit__(None, None, None)
        return left, None

    def event(self) -> Event:
        """Make an event."""
        return asyncio.Event()

    async def checkpoint(self) -> None:
        """Let others run; raise a pending cancellation."""
        await asyncio.sleep(0)

    async def turn(self) -> None:
        """Let others run; raise nothing."""
        with contextlib.suppress(asyncio.CancelledError):  # the worker checks its scope next
            await asyncio.sleep(0)

    async def park(self, worker: WorkerTask) -> None:
        """Wait, in the task of `worker`, until that is woken or cancelled; raise nothing."""
        worker.parking = asyncio.get_running_loop().create_future()
        with contextlib.suppress(asyncio.CancelledError):  # the worker checks its scope next
            await worker.parking

    def wake(self, worker: WorkerTask) -> None:
        """Wake a parked worker."""
        if not worker.parking.done():  # else it was cancelled at the same time
            worker.parking.set_result(None)

    async def sleep_until(self, deadline: float) -> bool:
        """Wait until the clock shows `deadline`. Return False, without waiting longer, on cancellation."""
        try:
            await anyio.sleep_until(deadline)
        except asyncio.CancelledError:
            return False
        return True

    def split(self, exception: BaseException) -> tuple[bool, BaseException | None]:
        """Return whether there is a cancellation in `exception`, and what else there is in it."""
        return _shared.split(exception, asyncio.CancelledError)

    def was_cancelled(self, worker: WorkerTask) -> bool:
        """Return whether the task of `worker` was cancelled, by a scope or together with the whole run."""
        innermost: Any = worker.mark.innermost
        if worker.mark.stopper.cancel_called or innermost._effectively_cancelled:
            return True
        return cast(AsyncioGroup, worker.group).host_is_cancelled()

    def cancelled_natively(self, worker: WorkerTask) -> bool:
        """Return whether a job has cancelled its own task, that of `worker`, but not by a scope, and has not noticed.

        `cancelling()` does not say this: on Python 3.11 and 3.12 a TaskGroup whose child has failed leaves it at 1.
        """
        return bool(worker.task._must_cancel) and not self.was_cancelled(worker)

    def hint(self, exception: BaseException) -> str | None:
        """Return what to do about an exception that comes from trio; None if it does not."""
        foreign = isinstance(exception, RuntimeError) and _shared.says(
            exception, "must be called from async context", "Task got bad yield"
        )
        return 'this job awaits something from trio: run it with backend="trio"' if foreign else None

    async def run_concurrently(
        self, functions: Iterable[Callable[[], Coroutine[Any, Any, None]]], deadline: float
    ) -> bool:
        """Await all of these concurrently, cancel them at `deadline`, and return whether all ended before."""
        with anyio.CancelScope(deadline=deadline) as scope:
            async with anyio.create_task_group() as tasks:
                for function in functions:
                    tasks.start_soon(function)
        return not scope.cancelled_caught

    def task_group(self) -> Any:
        """Return an async context manager with `start_soon` and `cancel_scope`, for tasks beside the caller's."""
        return _shared.task_group()

    def caller(self) -> Callable[[Callable[[], None]], None]:
        """Return a function that may be called from any thread, and calls its argument in this loop while that runs."""
        loop = asyncio.get_running_loop()

        def call(function: Callable[[], None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(function)

        return call

    def check_limiter(self, limiter: object) -> str | None:
        """Return what is wrong with `limiter` as a window on asyncio; None if nothing is."""
        if not isinstance(limiter, anyio.CapacityLimiter):
            return "give a positive whole number, None, or, as this is asyncio, a CapacityLimiter of anyio"
        if _shared.home_of_limiter(limiter).endswith("_trio"):
            return "this CapacityLimiter was made or used in a trio program; make a new one"
        return None

    def try_acquire(self, limiter: Any, borrower: object) -> bool:
        """Take a token for `borrower` if one is free and nobody waits."""
        try:
            limiter.acquire_on_behalf_of_nowait(borrower)
        except anyio.WouldBlock:
            return False
        return True

    async def acquire(self, limiter: Any, borrower: object) -> bool:
        """Wait for a token for `borrower`. Return False, without taking one, on cancellation."""
        try:
            await limiter.acquire_on_behalf_of(borrower)
        except asyncio.CancelledError:
            return False
        return True

    def frames(self, worker: WorkerTask) -> Iterator[tuple[FrameType, int]]:
        """Yield the frames of the task of `worker`, outermost first, with their line numbers."""
        return _shared.await_chain(worker.task.get_coro())


def _parents(task: Any) -> Iterator[int]:
    """Yield the id of a task, of the one in whose task group of anyio it runs, and so on outwards."""
    parents = {id(one): state.parent_id for one, state in TASK_STATES.items()}
    number: int | None = id(task)
    while number is not None:
        yield number
        number = parents.get(number)


def _tasks_in(scope: Any) -> set[Any]:
    """Return the tasks that are running in an anyio cancel scope, or in one inside it."""
    found: set[Any] = set()
    todo = [scope]
    while todo:
        one = todo.pop()
        found |= {task for task in one._tasks if not task.done()}
        todo += one._child_scopes
    return found


BACKEND: Final = AsyncioBackend()
