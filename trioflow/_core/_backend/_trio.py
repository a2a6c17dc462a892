"""The engine on trio, by trio itself.

A worker gets a cancel scope of its own only when somebody wants to cancel it alone, or to shield it: then that is put
between the nursery's and those that its job may have opened. Most are never cancelled, and a scope is a quarter of
what a task costs.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import trio

from . import _shared

if TYPE_CHECKING:
    from .._worker import Worker
    from ._interface import Event, Mark, Scope, Work

T = TypeVar("T")

CancelStatus: Final = cast(Any, trio)._core._run.CancelStatus  # the place of a cancel scope in the tree of all


class TrioGroup:
    """A nursery in a cancel scope that carries the run's deadline."""

    __slots__ = ("_context", "_nursery", "_scope", "_stopped", "_work")

    _nursery: trio.Nursery

    def __init__(self, work: Work, deadline: float, context: contextvars.Context) -> None:
        """Prepare; `host` opens it."""
        self._work = trio.lowlevel.enable_ki_protection(work)
        self._scope = trio.CancelScope(deadline=deadline)
        self._context = context
        self._stopped = False

    @trio.lowlevel.enable_ki_protection
    async def host(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `body` inside, then raise the cancellation that came meanwhile.

        Protected from Ctrl-C, like the workers: trio gives it to the main task at its next checkpoint, where the
        run can end in order, and not to whatever line of the engine is being executed.
        """
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                await body()
        await trio.lowlevel.checkpoint_if_cancelled()

    def spawn(self, worker: Worker) -> None:
        """Start a task for `worker`, in a copy of the run's context."""
        self._context.run(self._nursery.start_soon, self._work, worker)

    async def turn(self) -> bool:
        """Let others run; False if a cancellation came."""
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            return False
        return True

    async def wait(self, event: Event) -> bool:
        """Wait for `event`; False as soon as a cancellation comes first."""
        try:
            await event.wait()
        except trio.Cancelled:
            return False
        return True

    async def uninterrupted(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `function()`, shielded, and in a task of its own: Ctrl-C is for trio's main task."""

        async def shielded() -> None:
            with trio.CancelScope(shield=True):
                await function()

        try:
            async with trio.open_nursery() as nursery:
                self._context.run(nursery.start_soon, shielded)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    def is_cancelled(self) -> bool:
        """Tell whether the group is cancelled, by its deadline or from outside, and the run may not know yet."""
        status: Any = self._scope._cancel_status
        return status is not None and bool(status.effectively_cancelled)

    def deadline_passed(self) -> bool:
        """Tell whether the deadline was what cancelled the group."""
        return self._scope.cancel_called and not self._stopped

    def cancel(self) -> None:
        """Cancel all the tasks of the group but the shielded ones."""
        if not self._scope.cancel_called:
            self._stopped = True
            self._scope.cancel()

    def shield(self, worker: Worker) -> None:
        """Let a worker outlive the others."""
        worker.scope = scope = worker.scope or self._scope_of_its_own(worker)
        scope.shield = True

    def cancel_one(self, worker: Worker) -> None:
        """Cancel one worker, a shielded one too; one that has not begun will find that its run is stopping."""
        if worker.mark is not None:
            worker.scope = scope = worker.scope or self._scope_of_its_own(worker)
            scope.cancel()

    def forget(self, worker: Worker) -> None:
        """Let go of a worker that leaves."""
        if worker.scope is not None:
            status: Any = worker.mark.status
            if worker.task._cancel_status is status:
                worker.task._activate_cancel_status(status.parent)
            status.close()

    def _scope_of_its_own(self, worker: Worker) -> Scope:
        """Put a scope around all that are open in a worker's task, and inside the nursery's.

        What `CancelScope.__enter__` does for the innermost place of the task that calls.
        """
        scope: Any = trio.CancelScope()
        scope._has_been_entered = True
        around = worker.mark.status
        worker.mark.status = scope._cancel_status = status = CancelStatus(scope=scope, parent=around)
        outermost = worker.task._cancel_status
        if outermost is around:
            worker.task._activate_cancel_status(status)
        else:
            while outermost.parent is not around:
                outermost = outermost.parent
            outermost.parent = status
        return cast("Scope", scope)


class TrioMark:
    """What a worker's task was like before it ran a job.

    trio has no public way to ask which scope is the innermost, nor one without cost whether it is cancelled.
    """

    __slots__ = ("_context", "_nurseries", "_size", "_task", "_variables", "status")

    def __init__(self, worker: Worker) -> None:
        """Note what the task is like now."""
        task: Any = worker.task
        self._task = task
        self.status: Any = task._cancel_status
        self._nurseries = task._child_nurseries
        self._context = task.context
        self._size = len(task.context)
        self._variables = _shared.variables_of(task.context, worker.run.variables, worker)

    def intact(self) -> bool:
        """Tell whether the task is as it was: its scopes, its nurseries, its variables."""
        status, context = self.status, self._context
        if self._task._cancel_status is not status or status.effectively_cancelled or self._nurseries:
            return False
        if len(context) != self._size:
            return False
        for variable, value in self._variables:  # noqa: SIM110 - a generator costs more than this loop
            if context.get(variable) is not value:
                return False
        return True

    def left_open(self) -> bool:
        """Tell whether there are scopes or nurseries in the task that were not there."""
        return self._task._cancel_status is not self.status


class TrioBackend:
    """trio, as far as the engine is concerned; see `Backend`."""

    name = "trio"
    names_tasks = True

    def run(self, main: Callable[[], Coroutine[Any, Any, T]], options: Mapping[str, Any]) -> T:
        """Run `main()` by `trio.run`."""
        return trio.run(main, **options)

    def clock(self) -> Callable[[], float]:
        """Return the function that tells this loop's time in seconds."""
        return trio.lowlevel.current_clock().current_time

    def group(
        self, work: Work, deadline: float, on_deadline: Callable[[], None], context: contextvars.Context
    ) -> TrioGroup:
        """Make the group for one run; its scope keeps the deadline, nothing is called."""
        return TrioGroup(work, deadline, context)

    def scope(self, deadline: float = math.inf) -> Scope:
        """Make a cancel scope with a deadline on this loop's clock."""
        return cast("Scope", trio.CancelScope(deadline=deadline))

    def enter(self, worker: Worker) -> Mark:
        """Take up the present task for `worker`; return what tells whether it is as it was."""
        worker.task = trio.lowlevel.current_task()
        worker.mark = mark = TrioMark(worker)
        return mark

    def is_current(self, task: Any) -> bool:
        """Tell whether this task calls."""
        return trio.lowlevel.current_task() is task

    async def mend(self, worker: Worker) -> tuple[str | None, BaseException | None]:
        """Close the scopes and nurseries that a job left open in the task; say what that was, and what went wrong."""
        task: Any = worker.task
        left = None
        errors: list[BaseException] = []
        while task._cancel_status is not worker.mark.status:
            scope = task._cancel_status._scope
            nurseries = task._child_nurseries
            if nurseries and nurseries[-1].cancel_scope is scope:
                left = "nursery"
                scope.cancel()
                error = await nurseries[-1]._nested_child_finished(None)
                error = None if error is None else self.split(error)[1]
                errors += [] if error is None else [error]
            left = left or "cancel scope"
            scope.__exit__(None, None, None)
        return left, BaseExceptionGroup("in nurseries that were left open", errors) if errors else None

    def event(self) -> Event:
        """Make an event."""
        return trio.Event()

    async def checkpoint(self) -> None:
        """Let others run; raise a cancellation that is due."""
        await trio.lowlevel.checkpoint()

    async def turn(self) -> None:
        """Let others run, and raise nothing."""
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def park(self, worker: Worker) -> None:
        """Let the task of `worker`, which calls, wait until it is woken or cancelled; raise nothing."""

        def give_up(raise_cancel: object) -> trio.lowlevel.Abort:
            worker.parking = None
            return trio.lowlevel.Abort.SUCCEEDED

        worker.parking = worker.task
        with contextlib.suppress(trio.Cancelled):  # the worker looks at its scope next
            await trio.lowlevel.wait_task_rescheduled(give_up)

    def wake(self, worker: Worker) -> None:
        """Wake a parked worker."""
        if worker.parking is not None:  # it was cancelled at the same time otherwise
            worker.parking = None
            trio.lowlevel.reschedule(worker.task)

    async def sleep_until(self, deadline: float) -> bool:
        """Wait until the clock shows `deadline`; False as soon as a cancellation comes first."""
        try:
            await trio.sleep_until(deadline)
        except trio.Cancelled:
            return False
        return True

    def split(self, exception: BaseException) -> tuple[bool, BaseException | None]:
        """Tell whether there is a cancellation in `exception`, and return what else is."""
        if isinstance(exception, trio.Cancelled):
            return True, None
        if isinstance(exception, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", exception)
            cancelled, rest = group.split(trio.Cancelled)
            return cancelled is not None, rest
        return False, exception

    def asked_to_end(self, worker: Worker) -> bool:
        """Tell whether the task of `worker` is in a cancelled scope."""
        return bool(worker.mark.status.effectively_cancelled)

    def cancelled_natively(self, worker: Worker) -> bool:
        """Tell whether the task of `worker` was cancelled by other means than a scope."""
        return False

    def hint(self, exception: BaseException) -> str | None:
        """Say what to do about an exception that comes from asyncio, or None."""
        foreign = (isinstance(exception, RuntimeError) and "no running event loop" in str(exception)) or (
            isinstance(exception, TypeError) and "unrecognized yield message" in str(exception)
        )
        return 'this job awaits something of asyncio: run it with backend="asyncio"' if foreign else None

    async def together(self, functions: Iterable[Callable[[], Coroutine[Any, Any, None]]], deadline: float) -> bool:
        """Await all of these at once, cancelled at `deadline`; tell whether all ended before."""
        with trio.CancelScope(deadline=deadline) as scope:
            async with trio.open_nursery() as nursery:
                for function in functions:
                    nursery.start_soon(function)
        return not scope.cancelled_caught

    def task_group(self) -> Any:
        """Return an async context manager with `start_soon` and `cancel_scope`, for tasks beside the caller's."""
        return _shared.task_group()

    def caller(self) -> Callable[[Callable[[], None]], None]:
        """Return a function that has another one called in this loop, as long as that runs, from anywhere."""
        token = trio.lowlevel.current_trio_token()

        def call(function: Callable[[], None]) -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(function, idempotent=True)

        return call

    def check_limiter(self, limiter: object) -> str | None:
        """Say what is wrong with `limiter` as a window here, or None."""
        if isinstance(limiter, trio.CapacityLimiter):
            return None
        import anyio

        if not isinstance(limiter, anyio.CapacityLimiter):
            return "give a positive whole number, None, or a CapacityLimiter of trio or anyio"
        if _shared.home_of_limiter(limiter).endswith("_asyncio"):
            return "this CapacityLimiter was made or used in an asyncio program; make a new one, or one of trio's"
        return None

    def try_acquire(self, limiter: Any, borrower: object) -> bool:
        """Take a token for `borrower` if one is free and nobody waits."""
        import anyio

        try:
            limiter.acquire_on_behalf_of_nowait(borrower)
        except (trio.WouldBlock, anyio.WouldBlock):
            return False
        return True

    async def acquire(self, limiter: Any, borrower: object) -> bool:
        """Wait for a token for `borrower`; False, and none taken, as soon as a cancellation comes first."""
        try:
            await limiter.acquire_on_behalf_of(borrower)
        except trio.Cancelled:
            return False
        return True

    def frames(self, worker: Worker) -> Iterator[tuple[FrameType, int]]:
        """Yield the frames of the task of `worker`, outermost first, with their line numbers."""
        return _shared.await_chain(worker.task.coro)


BACKEND: Final = TrioBackend()
