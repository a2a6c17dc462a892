"""The plain way on trio, through its public names; the fast way overrides some of it."""

from __future__ import annotations

import contextlib
import contextvars
import math
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import trio

from .. import _shared
from ._workers import PlainBackend, PlainGroup

if TYPE_CHECKING:
    from .._interface import Event, Group, Scope, Variables, Work, WorkerTask

T = TypeVar("T")

SHARED_IN_LOOP: Final[trio.lowlevel.RunVar[Any]] = trio.lowlevel.RunVar("shared by the runs of trioflow")


class PlainTrioGroup(PlainGroup):
    """A nursery whose cancel scope carries the run's deadline."""

    __slots__ = ("_deadline", "_nursery", "_scope")

    def __init__(
        self, backend: PlainBackend, work: Work, deadline: float, context: contextvars.Context, variables: Variables
    ) -> None:
        super().__init__(backend, work, context, variables)
        self._deadline = deadline
        self._nursery: Any = None  # in `host`, as its scope
        self._scope: Any = None

    @trio.lowlevel.enable_ki_protection
    async def host(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `body` inside the nursery, then raise a cancellation that came meanwhile.

        This is protected from Ctrl-C, as the workers are. So trio does not raise KeyboardInterrupt in whatever line of
        the engine is being executed, but in the main task at its next checkpoint, where the run can end in order.
        """
        async with trio.open_nursery() as nursery:
            self.opened(nursery)
            if self._deadline != math.inf:
                nursery.cancel_scope.deadline = self._deadline
            await body()
            self.leave_shield()
        await trio.lowlevel.checkpoint_if_cancelled()

    def opened(self, nursery: trio.Nursery) -> None:
        """Take note of the nursery."""
        self._nursery = nursery
        self._scope = nursery.cancel_scope

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
                try:
                    await trio.sleep_until(when)
                except trio.Cancelled:  # out of this task it would cancel the nursery, as if its own time were over
                    return
                if not self.is_cancelled():
                    function()

        self._context.run(self._nursery.start_soon, wait)
        return scope.cancel

    def is_cancelled(self) -> bool:
        """Return whether the group was cancelled, by its deadline or from outside; the run may not know it yet."""
        return self._scope is not None and (self._scope.cancel_called or super().is_cancelled())

    def deadline_passed(self) -> bool:
        """Return whether it was the deadline that cancelled the group."""
        return self._scope is not None and self._scope.cancel_called and not self._stopped

    def cancel(self) -> None:
        """Cancel all tasks of the group except the shielded ones."""
        if not self._scope.cancel_called:
            self._stopped = True
            self._scope.cancel()

    def leave_shield(self) -> None:
        """Nothing: each worker has left a shield of its own."""

    def spawn(self, worker: WorkerTask) -> None:
        """Start a task for `worker`, in a copy of the run's context."""
        self._context.run(self._nursery.start_soon, self._outside, worker)

    @trio.lowlevel.enable_ki_protection
    async def _outside(self, worker: WorkerTask) -> None:
        """Do what a worker does, in a task of its own, inside its scope, which is in this task.

        A task in which a job has left a nursery open fails in the end. Nothing comes of that here.
        """
        with contextlib.suppress(BaseExceptionGroup), self._backend.scope() as worker.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._work, worker)


class PlainTrio(PlainBackend):
    """trio, as far as the engine is concerned; see `Backend`."""

    name = "trio"
    names_tasks = True

    def group(
        self,
        work: Work,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: Variables,
        outer: Group | None = None,
    ) -> Group:
        """Make the group for one run. Its scope has the deadline, so `on_deadline` is not called."""
        return PlainTrioGroup(self, trio.lowlevel.enable_ki_protection(work), deadline, context, variables)

    def current_task(self) -> trio.lowlevel.Task | None:
        """Return the current task; None if there is none."""
        return trio.lowlevel.current_task() if trio.lowlevel.in_trio_task() else None

    def outwards(self, task: trio.lowlevel.Task | None) -> Iterator[trio.lowlevel.Task]:
        """Yield a task, the one in whose nursery it runs, and so on."""
        while task is not None:
            yield task
            task = task.parent_nursery.parent_task if task.parent_nursery is not None else None

    async def end_tasks_in(self, worker: WorkerTask, scope: Scope) -> str:
        """Wait for the tasks in nurseries that a job has left open. trio has cancelled them together with the scope."""
        nurseries: list[trio.Nursery] = worker.task.child_nurseries
        if not nurseries:
            return "cancel scope"
        watch = _Exits()
        trio.lowlevel.add_instrument(watch)
        try:
            with trio.CancelScope(shield=True):
                while any(nursery.child_tasks for nursery in nurseries):
                    watch.exited = trio.Event()
                    await watch.exited.wait()
        finally:
            trio.lowlevel.remove_instrument(watch)
        return "nursery"

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

    def scope(self, deadline: float = math.inf) -> Scope:
        """Make a cancel scope with a deadline on this loop's clock."""
        return cast("Scope", trio.CancelScope(deadline=deadline))

    def is_current(self, task: Any) -> bool:
        """Return whether the call comes from this task."""
        return trio.lowlevel.current_task() is task

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
        try:  # noqa: SIM105 - `suppress` takes as long as all else here
            await trio.lowlevel.wait_task_rescheduled(give_up)
        except trio.Cancelled:  # the worker checks its scope next
            pass

    def wake(self, worker: WorkerTask) -> None:
        """Wake a parked worker."""
        if worker.parking is not None:  # else it was cancelled at the same time
            worker.parking = None
            trio.lowlevel.reschedule(worker.task)

    async def wait_until(self, deadline: float) -> bool:
        """Wait until the clock shows `deadline`. Return False, without waiting longer, on cancellation."""
        try:
            await trio.sleep_until(deadline)
        except trio.Cancelled:
            return False
        return True

    async def sleep_until(self, deadline: float) -> None:
        """Wait until the clock shows `deadline`; raise a cancellation that comes before."""
        await trio.sleep_until(deadline)

    async def wait_readable(self, descriptor: int, deadline: float = math.inf) -> bool:
        """Wait until a descriptor is readable, or the clock shows `deadline`; return whether it is readable."""
        if deadline == math.inf:
            await trio.lowlevel.wait_readable(descriptor)
            return True
        with trio.move_on_at(deadline):
            await trio.lowlevel.wait_readable(descriptor)
            return True
        return False

    async def outlast(self, wait: Callable[[], Awaitable[T]]) -> T:
        """Await `wait()` until it returns, whatever is cancelled meanwhile, and return its answer."""
        with self.scope() as scope:
            scope.shield = True
            return await wait()

    def split(self, exception: BaseException) -> tuple[bool, BaseException | None]:
        """Return whether there is a cancellation in `exception`, and what else there is in it."""
        return _shared.split(exception, trio.Cancelled)

    def cancelled_natively(self, worker: WorkerTask) -> bool:
        """Return False: trio cancels tasks only by scopes."""
        return False

    def should_have_caught(self, scope: Scope, exception: BaseException) -> bool:
        """Return False: a scope of trio catches what is its own."""
        return False

    def hint(self, exception: BaseException) -> str | None:
        """Return what to do about an exception that comes from asyncio; None if it does not."""
        here = threading.current_thread().name  # of another thread, such as that of a ThreadJob, it says nothing
        foreign = _shared.is_one_of(
            exception,
            (RuntimeError, "no running event loop"),
            (RuntimeError, f"no current event loop in thread {here!r}"),
            (TypeError, "unrecognized yield message"),
            # from the waiting of asyncio's locks, events and queues
            (AttributeError, "'NoneType' object has no attribute 'create_future'"),
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


class _Exits(trio.abc.Instrument):
    """Notices when a task has ended."""

    def __init__(self) -> None:
        self.exited = trio.Event()

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self.exited.set()


BACKEND: Final = PlainTrio()
