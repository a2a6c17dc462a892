"""The plain way on asyncio, through its public names and anyio's; the fast way overrides some of it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import anyio
import anyio.lowlevel

from .. import _shared
from ._workers import PlainBackend, PlainGroup, scope_of

if TYPE_CHECKING:
    from .._interface import Event, Group, Scope, Variables, Work, WorkerTask

T = TypeVar("T")
SHARED_IN_LOOPS: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any]] = weakref.WeakKeyDictionary()


class PlainAsyncioGroup(PlainGroup):
    """A task group of anyio; the deadline is a timer of the loop, and that of each worker's scope.

    The scope of the task group is never cancelled, because the task that awaits the run is in it: that must be able to
    tell a native cancellation. Each worker's scope is cancelled instead.
    """

    __slots__ = (
        "_cancellation",
        "_deadline",
        "_expired",
        "_host",
        "_loop",
        "_on_deadline",
        "_requests",
        "_spawning",
        "_tasks",
        "_workers",
    )

    def __init__(
        self,
        backend: PlainBackend,
        work: Work,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: Variables,
    ) -> None:
        super().__init__(backend, work, context, variables)
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._on_deadline = on_deadline
        self._expired = False
        # The cancellation of the task that hosts the run. It is raised in that task, when everything has ended.
        self._cancellation: asyncio.CancelledError | None = None
        self._host: Any = backend.current_task()
        self._requests = self._host.cancelling() - self._host_info.has_pending_cancellation()
        self._spawning: WorkerTask | None = None
        self._workers: dict[WorkerTask, None] = {}  # those that have begun

    async def host(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `body` in the task group, then raise a cancellation that came meanwhile."""
        timer = None if self._deadline == math.inf else self._loop.call_at(self._deadline, self._expire)
        try:
            async with anyio.create_task_group() as self._tasks:
                await body()
        finally:
            if timer is not None:
                timer.cancel()
        if self._cancellation is not None:
            try:
                raise self._cancellation
            finally:
                self._cancellation = None
        if self._host_info.has_pending_cancellation():  # it was cancelled natively, and nothing has been awaited since
            await asyncio.sleep(0)
        await anyio.lowlevel.checkpoint_if_cancelled()

    def _expire(self) -> None:
        self._expired = True
        self._on_deadline()

    def spawn(self, worker: WorkerTask) -> None:
        """Start a task for `worker`, in a copy of the run's context."""
        self._spawning = worker
        outside = self._outside(worker)
        self._tasks.create_task(outside, context=self._context)
        self._spawning = None
        self._loop.call_soon(self._check_begun, worker, outside, context=self._context.copy())

    async def _outside(self, worker: WorkerTask) -> None:
        """Do what a worker does, in a task of its own, inside its scope, which is in this task.

        A task of anyio in which a job has left a scope open fails in the end, and its task group with it. So does one
        with a native cancellation of the job's own. Here this is a group for the one task, and nothing comes of it.
        """
        if self._spawning is worker:  # the loop's task factory is an eager one
            with contextlib.suppress(asyncio.CancelledError):  # the worker checks its scope first
                await asyncio.sleep(0)
        inside = self._work(worker)
        self._workers[worker] = None
        with contextlib.suppress(BaseExceptionGroup, asyncio.CancelledError), self._backend.scope() as worker.scope:
            worker.scope.deadline = self._deadline
            if self._stopped:
                worker.scope.cancel()
            async with anyio.create_task_group() as tasks:
                tasks.create_task(inside)
        inside.close()  # if the task was cancelled before its first step
        del self._workers[worker]
        worker.leave_unbegun()

    def _check_begun(self, worker: WorkerTask, outside: Coroutine[Any, Any, None]) -> None:
        """Let a worker leave if its task was cancelled before its first step, which would have come before this."""
        if worker.scope is None and self._spawning is not worker:
            outside.close()
            worker.leave_unbegun()

    def is_cancelled(self) -> bool:
        """Return whether the group was cancelled, by its deadline or from outside; the run may not know it yet."""
        return self._stopped or self.deadline_passed() or super().is_cancelled() or self.host_is_cancelled()

    def deadline_passed(self) -> bool:
        """Return whether it was the deadline that cancelled the group."""
        return self._expired or (not self._stopped and self._loop.time() >= self._deadline)

    def cancel(self) -> None:
        """Cancel all tasks of the group except the shielded ones."""
        self._stopped = True
        for worker in self._workers:
            if not scope_of(worker).shield:
                scope_of(worker).cancel()

    def shield(self, worker: WorkerTask) -> None:
        """Keep `cancel` and the deadline from cancelling this worker."""
        super().shield(worker)
        scope_of(worker).deadline = math.inf

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        """Cancel a worker alone at the time `when`, unless another time is set before; `inf` for never."""
        super().set_deadline(worker, when if scope_of(worker).shield else min(when, self._deadline))

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

    def host_is_cancelled(self) -> bool:
        """Return whether the task that awaits the run was cancelled natively since the run began, or is about to be.

        A loop that ends cancels all tasks at once, and resumes them in any order, so a worker may be the first to
        notice.
        """
        return bool(self._host.cancelling() > self._requests)


class PlainAsyncio(PlainBackend):
    """asyncio, as far as the engine is concerned; see `Backend`."""

    name = "asyncio"
    names_tasks = False

    def group(
        self,
        work: Work,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: Variables,
        outer: Group | None = None,
    ) -> Group:
        """Make the group for one run. Its own timer calls `on_deadline`."""
        return PlainAsyncioGroup(self, work, deadline, on_deadline, context, variables)

    def scope(self, deadline: float = math.inf) -> Scope:
        """Make a cancel scope with a deadline on this loop's clock."""
        return cast("Scope", anyio.CancelScope(deadline=deadline))

    def current_task(self) -> Any:
        """Return the current task; None if there is none."""
        try:
            return asyncio.current_task()
        except RuntimeError:  # in a thread
            return None

    def outwards(self, task: Any) -> Iterator[object]:
        """Yield the id of a task, of the one in whose task group of anyio it runs, and so on."""
        return _shared.outwards(id(task), {one.id: one.parent_id for one in anyio.get_running_tasks()})

    async def end_tasks_in(self, worker: WorkerTask, scope: Scope) -> str:
        """Cancel the tasks in task groups that a job has left open, and wait for them."""
        left = "cancel scope"
        scope.cancel()
        while tasks := _tasks_inside(worker.task):
            left = "task group"
            with anyio.CancelScope(shield=True), contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(tasks)
        return left

    def was_cancelled(self, worker: WorkerTask) -> bool:
        """Return whether the task of `worker` was cancelled, by a scope or together with the whole run."""
        return super().was_cancelled(worker) or cast(PlainAsyncioGroup, worker.group).host_is_cancelled()

    def cancelled_natively(self, worker: WorkerTask) -> bool:
        """Return whether a job has cancelled its own task, that of `worker`, not by a scope, and has not noticed."""
        return anyio.get_current_task().has_pending_cancellation() and not self.was_cancelled(worker)

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

    def is_current(self, task: Any) -> bool:
        """Return whether the call comes from this task."""
        return asyncio.current_task() is task

    def event(self) -> Event:
        """Make an event."""
        return asyncio.Event()

    async def checkpoint(self) -> None:
        """Let others run; raise a pending cancellation."""
        await asyncio.sleep(0)

    async def turn(self) -> None:
        """Let others run; raise nothing."""
        try:  # noqa: SIM105 - `suppress` takes as long as all else here
            await asyncio.sleep(0)
        except asyncio.CancelledError:  # the worker checks its scope next
            pass

    async def park(self, worker: WorkerTask) -> None:
        """Wait, in the task of `worker`, until that is woken or cancelled; raise nothing."""
        worker.parking = asyncio.get_running_loop().create_future()
        try:  # noqa: SIM105 - `suppress` takes as long as all else here
            await worker.parking
        except asyncio.CancelledError:  # the worker checks its scope next
            pass

    def wake(self, worker: WorkerTask) -> None:
        """Wake a parked worker."""
        if not worker.parking.done():  # else it was cancelled at the same time
            worker.parking.set_result(None)

    async def wait_until(self, deadline: float) -> bool:
        """Wait until the clock shows `deadline`. Return False, without waiting longer, on cancellation."""
        try:
            await anyio.sleep_until(deadline)
        except asyncio.CancelledError:
            return False
        return True

    async def sleep_until(self, deadline: float) -> None:
        """Wait until the clock shows `deadline`; raise a cancellation that comes before."""
        await asyncio.sleep(max(0, deadline - asyncio.get_running_loop().time()))

    async def wait_readable(self, descriptor: int, deadline: float = math.inf) -> bool:
        """Wait until a descriptor is readable, or the clock shows `deadline`; return whether it is readable."""
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:  # a descriptor that is always readable would keep the timer from ever being first
            await asyncio.sleep(0)
            return False
        found: asyncio.Future[bool] = loop.create_future()
        loop.add_reader(descriptor, _answer, found, True)
        timer = None if deadline == math.inf else loop.call_at(deadline, _answer, found, False)
        try:
            return await found
        finally:
            loop.remove_reader(descriptor)
            if timer is not None:
                timer.cancel()

    async def outlast(self, wait: Callable[[], Awaitable[T]]) -> T:
        """Await `wait()` until it returns, whatever is cancelled meanwhile, and return its answer."""
        while True:
            with anyio.CancelScope(shield=True):
                try:
                    return await wait()
                except asyncio.CancelledError:  # a native one, which no shield keeps out
                    continue

    def split(self, exception: BaseException) -> tuple[bool, BaseException | None]:
        """Return whether there is a cancellation in `exception`, and what else there is in it."""
        return _shared.split(exception, asyncio.CancelledError)

    def should_have_caught(self, scope: Scope, exception: BaseException) -> bool:
        """Return whether `exception`, which has just left a scope, is the cancellation of that scope alone.

        anyio lets it pass if the task has more cancellation requests than at the beginning, as after a native
        cancellation. But on Python 3.11 and 3.12 a TaskGroup whose child has failed leaves one too.
        """
        return (
            scope.cancel_called
            and self.split(exception) == (True, None)
            and anyio.current_effective_deadline() > -math.inf
        )

    def hint(self, exception: BaseException) -> str | None:
        """Return what to do about an exception that comes from trio; None if it does not."""
        foreign = _shared.is_one_of(
            exception,
            (RuntimeError, "must be called from async context"),
            (RuntimeError, "Task got bad yield"),
            (AttributeError, "'RunContext' object has no attribute 'runner'"),  # from open_nursery()
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


def _answer(found: asyncio.Future[bool], value: bool) -> None:
    if not found.done():
        found.set_result(value)


def _tasks_inside(task: Any) -> list[asyncio.Task[Any]]:
    """Return the tasks that run in task groups of anyio that `task` has opened."""
    inside = {one.id for one in anyio.get_running_tasks() if one.parent_id == id(task)}
    return [one for one in asyncio.all_tasks() if id(one) in inside]


BACKEND: Final = PlainAsyncio()
