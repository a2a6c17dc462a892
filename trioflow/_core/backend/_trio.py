"""The engine on trio, through trio's own API.

A worker gets a cancel scope of its own only when it has to be cancelled alone, or shielded. That scope is then put
between the nursery's scope and those that its job may have opened. Most workers are never cancelled alone, and a scope
costs a quarter of what a task costs.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import trio

from . import _shared

if TYPE_CHECKING:
    from ._interface import Event, Mark, Scope, Variables, Work, WorkerTask

T = TypeVar("T")

SHARED_IN_LOOP: Final[trio.lowlevel.RunVar[Any]] = trio.lowlevel.RunVar("shared by the runs of trioflow")
CancelStatus: Final = cast(Any, trio)._core._run.CancelStatus  # a node in the tree of cancel scopes


@functools.cache
def _protected(work: Work) -> Work:
    """Return the function of the workers, protected from Ctrl-C: see `TrioGroup.host`."""
    return trio.lowlevel.enable_ki_protection(work)


class TrioGroup:
    """A nursery whose cancel scope carries the run's deadline."""

    __slots__ = ("_context", "_deadline", "_nursery", "_shielded", "_stopped", "_work", "variables")

    def __init__(self, work: Work, deadline: float, context: contextvars.Context, variables: Variables) -> None:
        self.variables = variables
        self._work = _protected(work)
        self._deadline = deadline
        self._nursery: Any = None  # in `host`
        self._shielded: Any = None  # the scope of all shielded workers, if there are any
        self._context = context
        self._stopped = False

    @trio.lowlevel.enable_ki_protection
    async def host(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `body` inside the nursery, then raise a cancellation that came meanwhile.

        This is protected from Ctrl-C, as the workers are. So trio does not raise KeyboardInterrupt in whatever line of
        the engine is being executed, but in the main task at its next checkpoint, where the run can end in order.
        """
        async with trio.open_nursery() as self._nursery:
            if self._deadline != math.inf:
                self._nursery.cancel_scope.deadline = self._deadline
            await body()
            if self._shielded is not None:
                self._shielded._cancel_status.close()
        await trio.lowlevel.checkpoint_if_cancelled()

    def spawn(self, worker: WorkerTask) -> None:
        """Start a task for `worker`, in a copy of the run's context."""
        self._context.run(self._nursery.start_soon, self._work, worker)

    async def turn(self) -> bool:
        """Let others run. Return False if a cancellation came."""
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            return False
        return True

    async def wait(self, event: Event) -> bool:
        """Wait for `event`. Return False, without waiting longer, on cancellation."""
        try:
            await event.wait()
        except trio.Cancelled:
            return False
        return True

    async def uninterrupted(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `function()`, shielded, in a task of its own: trio raises Ctrl-C only in its main task."""

        async def shielded() -> None:
            with trio.CancelScope(shield=True):
                await function()

        try:
            async with trio.open_nursery() as nursery:
                self._context.run(nursery.start_soon, shielded)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    def call_at(self, when: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call `function()` at the time `when`, in a task of the nursery; return what prevents the call."""
        scope = trio.CancelScope()

        async def wait() -> None:
            with scope:
                await trio.sleep_until(when)
                function()

        self._context.run(self._nursery.start_soon, wait)
        return scope.cancel

    def is_cancelled(self) -> bool:
        """Return whether the group was cancelled, by its deadline or from outside; the run may not know it yet."""
        return self._nursery is not None and bool(self._nursery.cancel_scope._cancel_status.effectively_cancelled)

    def deadline_passed(self) -> bool:
        """Return whether it was the deadline that cancelled the group."""
        return self._nursery is not None and self._nursery.cancel_scope.cancel_called and not self._stopped

    def cancel(self) -> None:
        """Cancel all tasks of the group except the shielded ones."""
        if not self._nursery.cancel_scope.cancel_called:
            self._stopped = True
            self._nursery.cancel_scope.cancel()

    def shield(self, worker: WorkerTask) -> None:
        """Keep `cancel` from cancelling this worker, which runs no job."""
        if self._shielded is None:
            self._shielded = _entered_scope(self._nursery.cancel_scope._cancel_status)
            self._shielded.shield = True
        shielded = self._shielded._cancel_status
        if worker.scope is None:
            worker.mark.status = shielded
            worker.task._activate_cancel_status(shielded)
        else:
            worker.mark.status.parent = shielded

    def cancel_shielded(self) -> None:
        """Cancel all workers that are shielded."""
        if self._shielded is not None:
            self._shielded.cancel()

    def cancel_one(self, worker: WorkerTask) -> None:
        """Cancel one worker, even a shielded one; a worker that has not begun will find that its run is stopping."""
        if worker.mark is not None:
            worker.scope = scope = worker.scope or self._scope_of_its_own(worker)
            scope.cancel()

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        """Cancel a worker alone at the time `when`, unless another time is set before; `inf` for never."""
        scope = worker.scope
        if scope is None:
            worker.scope = scope = self._scope_of_its_own(worker)
        scope.deadline = when

    def is_expired(self, worker: WorkerTask) -> bool:
        """Return whether a worker was cancelled alone, by its deadline or by `cancel_one`, and nothing around it."""
        status = worker.mark.status
        return bool(status.effectively_cancelled) and not status.parent_cancellation_is_visible_to_us

    def forget(self, worker: WorkerTask) -> None:
        """Drop all that the group keeps for a worker that leaves."""
        if worker.scope is not None:
            status: Any = worker.mark.status
            if worker.task._cancel_status is status:
                worker.task._activate_cancel_status(status.parent)
            status.close()

    def _scope_of_its_own(self, worker: WorkerTask) -> Scope:
        """Put a new scope inside the common one, and around all scopes that are open in a worker's task."""
        around = worker.mark.status
        scope = _entered_scope(around)
        worker.mark.status = status = scope._cancel_status
        outermost = worker.task._cancel_status
        if outermost is around:
            worker.task._activate_cancel_status(status)
        else:
            while outermost.parent is not around:
                outermost = outermost.parent
            outermost.parent = status
        return cast("Scope", scope)


def _entered_scope(around: Any) -> Any:
    """Return a new scope inside another one.

    `CancelScope.__enter__` makes one too, but always in the innermost place, and only for the calling task.
    """
    scope: Any = trio.CancelScope()
    scope._has_been_entered = True
    scope._cancel_status = CancelStatus(scope=scope, parent=around)
    return scope


class TrioMark:
    """What a worker's task was like before it ran a job.

    trio has no public way to find the innermost scope, and no cheap one to find out whether it is cancelled.
    """

    __slots__ = ("_context", "_nurseries", "_size", "_task", "_variables", "status")

    def __init__(self, worker: WorkerTask) -> None:
        task: Any = worker.task
        self._task = task
        self.status: Any = task._cancel_status
        self._nurseries = task._child_nurseries
        self._context = task.context
        self._size = len(task.context)
        self._variables = _shared.variables_of(task.context, worker.group.variables, worker)

    def intact(self) -> bool:
        """Return whether the task is as it was: the same scopes, no nurseries, the same variables, not cancelled."""
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
        """Return whether there are scopes or nurseries in the task that were not there before the job."""
        return self._task._cancel_status is not self.status


class TrioBackend:
    """trio, as far as the engine is concerned; see `Backend`."""

    name = "trio"
    names_tasks = True

    def run(self, main: Callable[[], Coroutine[Any, Any, T]], options: Mapping[str, Any]) -> T:
        """Run `main()` in a new event loop, by `trio.run`."""
        return trio.run(main, **options)

    def clock(self) -> Callable[[], float]:
        """Return the function that returns this loop's time in seconds."""
        return trio.lowlevel.current_clock().current_time

    def once_in_loop(self, make: Callable[[], T]) -> T:
        """Return what `make()` returned when this loop was first asked."""
        try:
            return cast(T, SHARED_IN_LOOP.get())
        except LookupError:
            SHARED_IN_LOOP.set(made := make())
            return made

    def group(
        self,
        work: Work,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: Variables,
    ) -> TrioGroup:
        """Make the group for one run. Its scope has the deadline, so `on_deadline` is not called."""
        return TrioGroup(work, deadline, context, variables)

    def scope(self, deadline: float = math.inf) -> Scope:
        """Make a cancel scope with a deadline on this loop's clock."""
        return cast("Scope", trio.CancelScope(deadline=deadline))

    def enter(self, worker: WorkerTask) -> Mark:
        """Record the current task as that of `worker`, and what it is like; return that record."""
        worker.task = trio.lowlevel.current_task()
        worker.mark = mark = TrioMark(worker)
        return mark

    def is_current(self, task: Any) -> bool:
        """Return whether the call comes from this task."""
        return trio.lowlevel.current_task() is task

    def is_inside(self, worker: WorkerTask) -> bool:
        """Return whether the call comes from the task of `worker`, or from one inside it; True if that is not known."""
        around = set(_parents(worker.task))
        for task in _parents(trio.lowlevel.current_task() if trio.lowlevel.in_trio_task() else None):
            if task in around:
                return task is worker.task
        return True

    async def close_left_open(self, worker: WorkerTask) -> tuple[str | None, BaseException | None]:
        """Close the scopes and nurseries that a job left open in the task; return what that was, and their errors."""
        task: Any = worker.task
        left = None
        errors: list[BaseException] = []
        while task._cancel_status is not worker.mark.status:
            scope = task._cancel_status._scope
            nurseries = task._child_nurseries
            if nurseries and nurseries[-1].cancel_scope is scope:
                left = "nursery"
                scope.cancel()
                error = await _close(nurseries[-1])
                error = None if error is None else self.split(error)[1]
                errors += [] if error is None else [error]
            if task._cancel_status is scope._cancel_status:
                left = left or "cancel scope"
                scope.__exit__(None, None, None)
        return left, BaseExceptionGroup("in nurseries that were left open", errors) if errors else None

    def event(self) -> Event:
        """Make an event."""
        return trio.Event()

    async def checkpoint(self) -> None:
        """Let others run; raise a pending cancellation."""
        await trio.lowlevel.checkpoint()

    async def turn(self) -> None:
        """Let others run; raise nothing."""
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def park(self, worker: WorkerTask) -> None:
        """Wait, in the task of `worker`, until that is woken or cancelled; raise nothing."""

        def give_up(raise_cancel: object) -> trio.lowlevel.Abort:
            worker.parking = None
            return trio.lowlevel.Abort.SUCCEEDED

        worker.parking = worker.task
        with contextlib.suppress(trio.Cancelled):  # the worker checks its scope next
            await trio.lowlevel.wait_task_rescheduled(give_up)

    def wake(self, worker: WorkerTask) -> None:
        """Wake a parked worker."""
        if worker.parking is not None:  # else it was cancelled at the same time
            worker.parking = None
            trio.lowlevel.reschedule(worker.task)

    async def sleep_until(self, deadline: float) -> bool:
        """Wait until the clock shows `deadline`. Return False, without waiting longer, on cancellation."""
        try:
            await trio.sleep_until(deadline)
        except trio.Cancelled:
            return False
        return True

    def split(self, exception: BaseException) -> tuple[bool, BaseException | None]:
        """Return whether there is a cancellation in `exception`, and what else there is in it."""
        return _shared.split(exception, trio.Cancelled)

    def was_cancelled(self, worker: WorkerTask) -> bool:
        """Return whether the task of `worker` is in a cancelled scope."""
        return bool(worker.mark.status.effectively_cancelled)

    def cancelled_natively(self, worker: WorkerTask) -> bool:
        """Return False: trio cancels tasks only by scopes."""
        return False

    def hint(self, exception: BaseException) -> str | None:
        """Return what to do about an exception that comes from asyncio; None if it does not."""
        foreign = (isinstance(exception, RuntimeError) and _shared.says(exception, "no running event loop")) or (
            isinstance(exception, TypeError) and _shared.says(exception, "unrecognized yield message")
        )
        return 'this job awaits something from asyncio: run it with backend="asyncio"' if foreign else None

    async def run_concurrently(
        self, functions: Iterable[Callable[[], Coroutine[Any, Any, None]]], deadline: float
    ) -> bool:
        """Await all of these concurrently, cancel them at `deadline`, and return whether all ended before."""
        with trio.CancelScope(deadline=deadline) as scope:
            async with trio.open_nursery() as nursery:
                for function in functions:
                    nursery.start_soon(function)
        return not scope.cancelled_caught

    def task_group(self) -> Any:
        """Return an async context manager with `start_soon` and `cancel_scope`, for tasks beside the caller's."""
        return _shared.task_group()

    def caller(self) -> Callable[[Callable[[], None]], None]:
        """Return a function that may be called from any thread, and calls its argument in this loop while that runs."""
        token = trio.lowlevel.current_trio_token()

        def call(function: Callable[[], None]) -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(function, idempotent=True)

        return call

    def check_limiter(self, limiter: object) -> str | None:
        """Return what is wrong with `limiter` as a window on trio; None if nothing is."""
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
        """Wait for a token for `borrower`. Return False, without taking one, on cancellation."""
        try:
            await limiter.acquire_on_behalf_of(borrower)
        except trio.Cancelled:
            return False
        return True

    def frames(self, worker: WorkerTask) -> Iterator[tuple[FrameType, int]]:
        """Yield the frames of the task of `worker`, outermost first, with their line numbers."""
        return _shared.await_chain(worker.task.coro)


def _parents(task: trio.lowlevel.Task | None) -> Iterator[trio.lowlevel.Task]:
    """Yield a task, the one in whose nursery it runs, and so on outwards."""
    while task is not None:
        yield task
        task = task.parent_nursery.parent_task if task.parent_nursery is not None else None


async def _close(nursery: Any) -> BaseException | None:
    """Wait until the tasks of a nursery have ended, in the task that opened it; return what went wrong in it.

    If it was opened by an async generator that is garbage, trio's finalizer, a system task, is about to close it too:
    it would wait for ever, because a nursery wakes the task that opened it.
    """
    if nursery._nested_child_running:
        nursery._nested_child_finished = _nothing_to_wait_for  # what the finalizer is going to call
        finished: Any = cast(Any, type(nursery))._nested_child_finished
        error: BaseException | None = await finished(nursery, None)
        return error
    if not nursery._closed:
        nursery._parent_waiting_in_aexit = True
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        for task in _system_tasks():
            if any(frame.f_locals.get("self") is nursery for frame, _ in _shared.await_chain(task.coro)):
                trio.lowlevel.reschedule(task)
    while nursery in nursery.parent_task.child_nurseries:  # until the finalizer has taken it off, in a turn or two
        await trio.lowlevel.cancel_shielded_checkpoint()
    return None


async def _nothing_to_wait_for(error: BaseException | None) -> BaseException | None:
    return error


def _system_tasks() -> Iterator[Any]:
    root = trio.lowlevel.current_root_task()
    for nursery in root.child_nurseries if root is not None else ():
        for task in nursery.child_tasks:
            yield task
            for inner in task.child_nurseries:
                yield from inner.child_tasks


BACKEND: Final = TrioBackend()
