"""The engine on asyncio: what it asks of the loop, of native tasks and of anyio."""

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
from anyio._backends import _asyncio as anyio_asyncio

from . import _shared
from ._asyncio_tasks import TASK_STATES, AsyncioGroup, AsyncioMark, WorkerState

if TYPE_CHECKING:
    from .._worker import Worker
    from ._interface import Event, Mark, Scope, Work

T = TypeVar("T")


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
