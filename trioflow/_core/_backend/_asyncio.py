"""The engine on asyncio: native tasks, which all stand in one anyio cancel scope, as the tasks of a task group do.

A worker gets a scope of its own only when somebody wants to cancel it alone, or to shield it, or when its job has anyio
look for the scope that it is in: then that is put between the common one and those that its job may have opened. Most
jobs need none.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import anyio
import anyio.lowlevel
from anyio._backends import _asyncio as anyio_asyncio

from . import _shared

if TYPE_CHECKING:
    from .._worker import Worker
    from ._interface import Event, Mark, Scope, Work

T = TypeVar("T")

TASK_STATES: Final = cast(Any, anyio_asyncio)._task_states  # which cancel scope is the innermost of a task


class AsyncioGroup:
    """The workers' tasks, in one cancel scope that no task has entered; the deadline is a timer of the loop."""

    __slots__ = (
        "_cancellation",
        "_context",
        "_expired",
        "_loop",
        "_on_deadline",
        "_parent",
        "_timer",
        "_work",
        "scope",
    )

    def __init__(
        self, work: Work, deadline: float, on_deadline: Callable[[], None], context: contextvars.Context
    ) -> None:
        """Start the clock."""
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._on_deadline = on_deadline
        self._expired = False
        self.scope: Final[Any] = anyio_asyncio.CancelScope()
        self.scope._host_task = asyncio.current_task()  # whom anyio asks for the loop, when a job calls a thread
        self._parent = id(self.scope._host_task)
        self._timer = None if deadline == math.inf else self._loop.call_at(deadline, self._expire)
        # What cancelled the task that hosts the run. It is raised in this very task, when all has ended.
        self._cancellation: asyncio.CancelledError | None = None

    async def host(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `body`, then raise the cancellation that came meanwhile."""
        try:
            await body()
        finally:
            if self._timer is not None:
                self._timer.cancel()
        if self._cancellation is not None:
            try:
                raise self._cancellation
            finally:
                self._cancellation = None
        await anyio.lowlevel.checkpoint_if_cancelled()  # a scope's, which the shield of the ending kept out

    def spawn(self, worker: Worker) -> None:
        """Start a task for `worker`, in a copy of the run's context."""
        context = self._context.copy()
        # Not by the loop's task factory: an eager one would run it before the worker knows its task.
        worker.task = task = asyncio.Task(self._work(worker), loop=self._loop, context=context)
        state = TASK_STATES[task] = WorkerState(self._parent, self.scope, worker)
        worker.mark = AsyncioMark(task, state, context, worker.run.variables)
        self.scope._tasks.add(task)
        task.add_done_callback(worker.ended)  # a task that is cancelled before its first step runs no code

    async def turn(self) -> bool:
        """Let others run; False if a cancellation came."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as cancellation:
            self._cancellation = cancellation
            return False
        return True

    async def wait(self, event: Event) -> bool:
        """Wait for `event`; False as soon as a cancellation comes first."""
        try:
            await event.wait()
        except asyncio.CancelledError as cancellation:
            self._cancellation = cancellation
            return False
        return True

    async def uninterrupted(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `function()` in a task of its own: no shield keeps a native `Task.cancel()` out of this one.

        anyio tells a task in a cancelled scope so again and again; the shield spares it the noise. If the new task
        is itself cancelled, `function` is called again, and goes on where it was.
        """
        while True:
            task = self._loop.create_task(function(), context=self._context.copy())
            while not task.done():
                with anyio.CancelScope(shield=True):
                    try:
                        await asyncio.wait([task])
                    except asyncio.CancelledError as cancellation:
                        self._cancellation = cancellation  # native: it goes before that of a scope
            if not task.cancelled():  # by somebody who cancels all the tasks that there are
                return task.result()

    def is_cancelled(self) -> bool:
        """Tell whether the group is cancelled and the run may not know yet: here the run is always told first."""
        return False

    def deadline_passed(self) -> bool:
        """Tell whether the deadline was what cancelled the group."""
        return self._expired

    def cancel(self) -> None:
        """Cancel all the tasks of the group but the shielded ones."""
        if not self.scope.cancel_called:
            self.scope.cancel()

    def shield(self, worker: Worker) -> None:
        """Let a worker outlive the others."""
        worker.mark.stopper = scope = worker.scope or self.scope_of_its_own(worker)
        scope.shield = True

    def cancel_one(self, worker: Worker) -> None:
        """Cancel one worker, a shielded one too; one that has not begun will find that its run is stopping."""
        if worker.mark is not None:
            worker.mark.stopper = scope = worker.scope or self.scope_of_its_own(worker)
            scope.cancel()

    def forget(self, worker: Worker) -> None:
        """Let go of a worker that leaves."""
        self.scope._tasks.discard(worker.task)
        if worker.scope is not None:
            self.scope._child_scopes.discard(worker.scope)
        TASK_STATES.pop(worker.task, None)  # a scope of its own leads to the task: it would be there for ever

    def scope_of_its_own(self, worker: Worker) -> Any:
        """Put a scope around all that are open in a worker's task, and inside the common one."""
        scope: Any = anyio_asyncio.CancelScope()
        worker.scope = worker.mark.scope = scope
        scope._host_task = worker.task
        scope._parent_scope = self.scope
        self.scope._child_scopes.add(scope)
        self.scope._tasks.discard(worker.task)
        state: WorkerState = worker.mark.state
        state.worker = None
        outermost = state.innermost
        if outermost is self.scope:
            state.innermost = scope
            scope._tasks.add(worker.task)
        else:
            while outermost._parent_scope is not self.scope:
                outermost = outermost._parent_scope
            outermost._reparent(scope)
        return scope

    def _expire(self) -> None:
        self._expired = True
        self._on_deadline()


class WorkerState(anyio_asyncio.TaskState):
    """What anyio knows of a worker's task: asked for its scope, it says one of its own, which is made by then.

    A thread that a job starts, for instance, keeps the scope that the job was in, and asks that whether the job was
    cancelled: the common one would not tell.
    """

    __slots__ = ("innermost", "worker")

    def __init__(self, parent: int | None, scope: Any, worker: Worker | None) -> None:
        """Begin in `scope`; `worker` is there as long as it has no scope of its own and may get one."""
        self.worker = worker
        super().__init__(parent, scope)

    @property
    def cancel_scope(self) -> Any:
        """The innermost scope of the task; the engine itself reads `innermost`."""
        if self.worker is not None and self.worker.mark is not None:
            cast(AsyncioGroup, self.worker.run.group).scope_of_its_own(self.worker)
        return self.innermost

    @cancel_scope.setter
    def cancel_scope(self, scope: Any) -> None:
        self.innermost = scope


class AsyncioMark:
    """What a worker's task was like before it ran a job.

    anyio has no public way to ask which scope is the innermost.
    """

    __slots__ = ("_context", "_size", "_task", "_variables", "scope", "state", "stopper")

    def __init__(
        self, task: Any, state: WorkerState, context: contextvars.Context, variables: _shared.Variables
    ) -> None:
        """Note what the task is like; its context has these variables, and the one that holds the worker."""
        self._task = task
        self.state = state
        self.scope: Any = state.innermost
        self.stopper: Any = self.scope  # whose cancellation ends the worker
        self._context = context
        self._size = len(variables) + 1
        self._variables = variables

    def intact(self) -> bool:
        """Tell whether the task is as it was: its scopes, its variables, and whether it was cancelled."""
        context = self._context
        if self.state.innermost is not self.scope or self.stopper._cancel_called or self._task.cancelling():
            return False
        if len(context) != self._size:
            return False
        for variable, value in self._variables:  # noqa: SIM110 - a generator costs more than this loop
            if context.get(variable) is not value:
                return False
        return True

    def left_open(self) -> bool:
        """Tell whether there are scopes in the task that were not there, those of task groups included."""
        return self.state.innermost is not self.scope


class AsyncioBackend:
    """asyncio, as far as the engine is concerned; see `Backend`."""

    name = "asyncio"
    names_tasks = False

    def run(self, main: Callable[[], Coroutine[Any, Any, T]], options: Mapping[str, Any]) -> T:
        """Run `main()` by `anyio.run`."""
        return anyio.run(main, backend="asyncio", backend_options=dict(options))

    def clock(self) -> Callable[[], float]:
        """Return the function that tells this loop's time in seconds."""
        told = asyncio.get_running_loop().time
        if getattr(told, "__func__", None) is asyncio.BaseEventLoop.time:
            return time.monotonic  # which is what it calls
        return told

    def group(
        self, work: Work, deadline: float, on_deadline: Callable[[], None], context: contextvars.Context
    ) -> AsyncioGroup:
        """Make the group for one run; `on_deadline` is called when its time is over."""
        return AsyncioGroup(work, deadline, on_deadline, context)

    def scope(self, deadline: float = math.inf) -> Scope:
        """Make a cancel scope with a deadline on this loop's clock."""
        return cast("Scope", anyio_asyncio.CancelScope(deadline=deadline))

    def enter(self, worker: Worker) -> Mark:
        """Take up the present task for `worker`; return what tells whether it is as it was."""
        if worker.mark is None:
            worker.task = task = asyncio.current_task()
            context = contextvars.copy_context()
            variables = _shared.variables_of(context, worker.run.variables, worker)
            known = TASK_STATES[task]
            state = TASK_STATES[task] = WorkerState(known.parent_id, known.cancel_scope, None)
            worker.mark = AsyncioMark(task, state, context, variables)
        mark: Mark = worker.mark
        return mark

    def is_current(self, task: Any) -> bool:
        """Tell whether this task calls."""
        return asyncio.current_task() is task

    async def mend(self, worker: Worker) -> tuple[str | None, BaseException | None]:
        """Close the scopes that a job left open in the task, task groups' included; say what that was.

        What goes wrong in a task group stays with that: it is not to be had from its scope.
        """
        left = None
        state: WorkerState = worker.mark.state
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
        """Let others run; raise a cancellation that is due."""
        await asyncio.sleep(0)

    async def turn(self) -> None:
        """Let others run, and raise nothing."""
        with contextlib.suppress(asyncio.CancelledError):  # the worker looks at its scope next
            await asyncio.sleep(0)

    async def park(self, worker: Worker) -> None:
        """Let the task of `worker`, which calls, wait until it is woken or cancelled; raise nothing."""
        worker.parking = asyncio.get_running_loop().create_future()
        with contextlib.suppress(asyncio.CancelledError):  # the worker looks at its scope next
            await worker.parking

    def wake(self, worker: Worker) -> None:
        """Wake a parked worker."""
        if not worker.parking.done():  # it was cancelled at the same time
            worker.parking.set_result(None)

    async def sleep_until(self, deadline: float) -> bool:
        """Wait until the clock shows `deadline`; False as soon as a cancellation comes first."""
        try:
            await anyio.sleep_until(deadline)
        except asyncio.CancelledError:
            return False
        return True

    def split(self, exception: BaseException) -> tuple[bool, BaseException | None]:
        """Tell whether there is a cancellation in `exception`, and return what else is."""
        if isinstance(exception, asyncio.CancelledError):
            return True, None
        if isinstance(exception, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", exception)
            cancelled, rest = group.split(asyncio.CancelledError)
            return cancelled is not None, rest
        return False, exception

    def asked_to_end(self, worker: Worker) -> bool:
        """Tell, in the task of `worker`, whether its scope or one around it was cancelled."""
        innermost: Any = worker.mark.state.innermost
        return bool(worker.mark.stopper.cancel_called or innermost._effectively_cancelled)

    def cancelled_natively(self, worker: Worker) -> bool:
        """Tell whether the task of `worker` was cancelled by other means than a scope."""
        return bool(worker.task.cancelling()) and not self.asked_to_end(worker)

    def hint(self, exception: BaseException) -> str | None:
        """Say what to do about an exception that comes from trio, or None."""
        foreign = isinstance(exception, RuntimeError) and (
            "must be called from async context" in str(exception) or "Task got bad yield" in str(exception)
        )
        return 'this job awaits something of trio: run it with backend="trio"' if foreign else None

    async def together(self, functions: Iterable[Callable[[], Coroutine[Any, Any, None]]], deadline: float) -> bool:
        """Await all of these at once, cancelled at `deadline`; tell whether all ended before."""
        with anyio.CancelScope(deadline=deadline) as scope:
            async with anyio.create_task_group() as tasks:
                for function in functions:
                    tasks.start_soon(function)
        return not scope.cancelled_caught

    def task_group(self) -> Any:
        """Return an async context manager with `start_soon` and `cancel_scope`, for tasks beside the caller's."""
        return _shared.task_group()

    def caller(self) -> Callable[[Callable[[], None]], None]:
        """Return a function that has another one called in this loop, as long as that runs, from anywhere."""
        loop = asyncio.get_running_loop()

        def call(function: Callable[[], None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(function)

        return call

    def check_limiter(self, limiter: object) -> str | None:
        """Say what is wrong with `limiter` as a window here, or None."""
        if not isinstance(limiter, anyio.CapacityLimiter):
            return "give a positive whole number, None, or a CapacityLimiter of anyio, which is what asyncio takes"
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
        """Wait for a token for `borrower`; False, and none taken, as soon as a cancellation comes first."""
        try:
            await limiter.acquire_on_behalf_of(borrower)
        except asyncio.CancelledError:
            return False
        return True

    def frames(self, worker: Worker) -> Iterator[tuple[FrameType, int]]:
        """Yield the frames of the task of `worker`, outermost first, with their line numbers."""
        return _shared.await_chain(worker.task.get_coro())


def _tasks_in(scope: Any) -> set[Any]:
    """Return the tasks that run in a cancel scope of anyio, or in one inside it."""
    found: set[Any] = set()
    todo = [scope]
    while todo:
        one = todo.pop()
        found |= {task for task in one._tasks if not task.done()}
        todo += one._child_scopes
    return found


BACKEND: Final = AsyncioBackend()
