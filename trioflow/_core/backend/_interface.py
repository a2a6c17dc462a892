"""The interface of a backend: an event loop, and the isolation of jobs in it. Shared contracts are documented here.

```
Backend ── loop/: a class for each library, which uses only its public names
  └─ isolation ── isolation/: how jobs share tasks and are kept apart; fast for each library, and plain
       └─ Group ── the tasks of one run
            ├─ HostTask ── the task that awaits the run
            └─ Mark ── a snapshot of a worker's task before a job
```
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, TypeVar, get_args

from . import _shared
from ._shared import Variables as Variables

if TYPE_CHECKING:
    import anyio
    import trio

    CapacityLimiter: TypeAlias = trio.CapacityLimiter | anyio.CapacityLimiter

T = TypeVar("T")
BackendName = Literal["trio", "asyncio"]
BACKEND_NAMES: Final[tuple[BackendName, ...]] = get_args(BackendName)


class WorkerTask:
    """The backend's part of a worker; the engine's `Worker` adds the rest."""

    __slots__ = ("deadline", "fires_at", "group", "job", "mark", "parking", "scope", "task", "timer")

    # On asyncio: the deadline of the current job, `-inf` once it has passed; and a timer that fires no later, with its
    # time. On trio all this is in the scope.
    deadline: float
    timer: Any
    fires_at: float
    group: Group
    # The job that the task runs, or None.
    job: Any
    # The snapshot of the task before a job. On trio it is taken in the task's first step.
    mark: Any
    # The handle of a parked worker; each backend has its own.
    parking: Any
    # The cancel scope of only this task, if it has one.
    scope: Scope | None
    task: Any

    def leave_unstarted(self) -> None:
        """Record that the task was cancelled before its first step; called on asyncio."""
        raise NotImplementedError


Work = Callable[[Any], Coroutine[Any, Any, None]]
"""The function that a worker's task runs, called with the `WorkerTask`."""


class Event(Protocol):
    """A one-time event that tasks can wait for."""

    def set(self) -> None:
        """Wake all tasks that wait."""
        ...

    def is_set(self) -> bool:
        """Return whether `set` has been called."""
        ...

    async def wait(self) -> Any:
        """Wait until `set` has been called."""
        ...


class Scope(AbstractContextManager["Scope"], Protocol):
    """A cancel scope: the interface that trio's and anyio's share."""

    shield: bool
    deadline: float

    @property
    def cancel_called(self) -> bool:
        """Whether the scope was cancelled, by a call or by its deadline."""
        ...

    @property
    def cancelled_caught(self) -> bool:
        """Whether the scope has ended its block by a cancellation."""
        ...

    def cancel(self) -> None:
        """Cancel everything in the scope."""
        ...


class Mark(Protocol):
    """A snapshot of a worker's task before a job."""

    __slots__ = ()

    def intact(self) -> bool:
        """Return whether the task is as it was: the same scopes, the same variables, and not cancelled."""
        ...

    def note_turn(self) -> None:
        """Record the loop's present iteration, for `stood_still`."""
        ...

    def stood_still(self) -> bool:
        """Return whether the loop has not iterated since the last `note_turn`; False if that is not known."""
        ...


class HostTask(Protocol):
    """The task that awaits a run: its waits, and the cancellations that reach it."""

    __slots__ = ()

    async def yield_to_loop(self) -> bool:
        """Yield to the loop. Return False if a cancellation came."""
        ...

    async def wait(self, event: Event) -> bool:
        """Wait for `event`. Return False, without waiting longer, on cancellation."""
        ...

    async def run_uninterrupted(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `function()` to its end, even if the task is cancelled."""
        ...

    def is_cancelled(self) -> bool:
        """Return whether the task was cancelled since the run began, or is about to be, but not by a scope."""
        ...

    def call_at(
        self, when: float, function: Callable[[], None], is_cancelled: Callable[[], bool]
    ) -> Callable[[], None]:
        """Call `function()` at the time `when`, unless `is_cancelled()`; return a function that cancels the call."""
        ...


class Group(Protocol):
    """The tasks of one run, under its deadline."""

    __slots__ = ()

    variables: Variables
    """The initial context variables of each task of the group, except that of its worker."""
    names_tasks: bool
    """Whether a worker has to set its task's name for each job; else `get_name` makes it."""
    home: Group
    """The group in which its parked workers wait: itself, or an enclosing one that shares its workers."""

    host: HostTask
    """The task that awaits the run."""

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `body`, which spawns tasks and waits for them; then raise a cancellation that has arrived since."""
        ...

    def spawn(self, worker: WorkerTask) -> None:
        """Start a task for `worker`, in a copy of the run's context."""
        ...

    def adopt(self, worker: WorkerTask) -> None:
        """Transfer a worker that runs no job into this group, from another one with the same home."""
        ...

    def call_at(self, when: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call `function()` at the time `when`, unless the group is cancelled; return a function that cancels it."""
        return self.host.call_at(when, function, self.is_cancelled)

    def is_cancelled(self) -> bool:
        """Return whether the group was cancelled, by its deadline or from outside, delivered or not."""
        ...

    def deadline_passed(self) -> bool:
        """Return whether the deadline has cancelled the group; False on asyncio, where `on_deadline` does that."""
        return False

    def cancel(self) -> None:
        """Cancel all tasks of the group except the shielded ones."""
        ...

    def cancel_once(self, workers: Iterable[WorkerTask], patience: float) -> None:
        """Cancel these workers, shielded ones too; on asyncio only once, as its programs expect.

        A worker that has not left after `patience` seconds is cancelled at each of its awaits, as always on trio.
        """
        for worker in workers:
            self.cancel_one(worker)

    def shield(self, worker: WorkerTask) -> None:
        """Shield the calling worker, which runs no job, from `cancel`."""
        ...

    def cancel_shielded(self) -> None:
        """Cancel all workers that are shielded."""
        ...

    def cancel_one(self, worker: WorkerTask) -> None:
        """Cancel one worker, even a shielded one; one before its first step finds then that its run is stopping."""
        ...

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        """Cancel a worker alone at the time `when`, unless the deadline moves before; `inf` for never.

        The job in the worker can read this deadline through trio or anyio.
        """
        ...

    def is_expired(self, worker: WorkerTask) -> bool:
        """Return whether a worker was cancelled alone, by its deadline or by `cancel_one`, and nothing around it."""
        ...

    def forget(self, worker: WorkerTask) -> None:
        """Drop all records of a worker that leaves."""
        ...


class Isolation(Protocol):
    """The sharing of tasks by jobs, isolated as if each had a task of its own."""

    _loop: Backend

    def __init__(self, loop: Backend) -> None:
        self._loop = loop

    def group(
        self,
        work: Work,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: Variables,
        outer: Group | None = None,
    ) -> Group:
        """Make the group for one run; its workers' tasks run `work` in copies of `context`.

        If the run is nested, `outer` is the group of the worker that runs its scheduler as a job.
        """
        ...

    def enter(self, worker: WorkerTask) -> Any:
        """Record the current task as the task of `worker`; return its `Mark`, or None if the task is cancelled.

        Call it in the first step of the task.
        """
        ...

    def is_inside(self, worker: WorkerTask) -> bool:
        """Return whether the call comes from the task of `worker`, or from a task that its job has started inside.

        If that is not known, as in threads and in tasks of `asyncio.create_task`, return True.
        """
        return _shared.is_inside(worker.task, self._loop.current_task(), self._loop.ancestry)

    async def close_leftovers(self, worker: WorkerTask) -> tuple[str | None, BaseException | None]:
        """Close what a job left open in the task; return its kind, and the errors from it."""
        ...

    def was_cancelled(self, worker: WorkerTask) -> bool:
        """Return whether the task of `worker` was cancelled, by a scope or together with the whole run."""
        ...

    def cancelled_natively(self, worker: WorkerTask) -> bool:
        """Return whether a job has cancelled its own task, that of `worker`, natively, and it is not yet delivered."""
        return self._loop.has_native_cancellation() and not self.was_cancelled(worker)


class Backend(Protocol):
    """trio or asyncio: an event loop, and the isolation of jobs in it."""

    name: str
    cancelled: type[BaseException]
    """The exception class of cancellations."""
    isolation: Isolation

    # ---- the loop

    def run(self, main: Callable[[], Coroutine[Any, Any, T]], options: Mapping[str, Any]) -> T:
        """Run `main()` in a new event loop."""
        ...

    def clock(self) -> Callable[[], float]:
        """Return the clock of this loop: a function that returns its time in seconds."""
        ...

    def once_in_loop(self, make: Callable[[], T]) -> T:
        """Return one object for all runs in the loop, made by the first call of `make()`."""
        ...

    def threadsafe_caller(self) -> Callable[[Callable[[], None]], None]:
        """Return a function that runs its argument in this loop, from any thread, as long as the loop runs."""
        ...

    # ---- waiting

    def event(self) -> Event:
        """Make an event."""
        ...

    async def checkpoint(self) -> None:
        """Yield to the loop; raise a pending cancellation."""
        ...

    async def yield_to_loop(self) -> None:
        """Yield to the loop; raise nothing."""
        ...

    async def wait_until(self, deadline: float) -> bool:
        """Wait until the clock shows `deadline`. Return False, without waiting longer, on cancellation."""
        try:
            await self.sleep_until(deadline)
        except self.cancelled:
            return False
        return True

    async def sleep_until(self, deadline: float) -> None:
        """Wait until the clock shows `deadline`; raise a cancellation that comes before."""
        ...

    async def wait_readable(self, descriptor: int, deadline: float = ...) -> bool:
        """Wait until a descriptor is readable, or the clock shows `deadline`; return whether it is readable.

        A deadline that has passed takes precedence: otherwise a command that never stops writing could not be ended. A
        cancellation is raised. One task at a time may wait for a descriptor.
        """
        ...

    async def outlast(self, wait: Callable[[], Awaitable[T]]) -> T:
        """Await `wait()` until it returns, even if the task is cancelled, and return its result.

        A shield keeps out the cancellations of scopes. A native `Task.cancel()` of asyncio gets through it and is
        dropped; `wait` is called again, and has to resume where it was. The caller raises its own cancellation
        afterwards.

        Raises:
            BaseException: what `wait()` raises.

        """
        while True:
            with self.scope() as scope:
                scope.shield = True
                try:
                    return await wait()
                except self.cancelled:  # a native one, which no shield keeps out
                    continue

    async def run_concurrently(
        self, functions: Iterable[Callable[[], Coroutine[Any, Any, None]]], deadline: float
    ) -> bool:
        """Await all functions concurrently, cancel them at `deadline`, and return whether all ended before."""
        with self.scope(deadline) as scope:
            async with self.task_group() as tasks:
                for function in functions:
                    tasks.start_soon(function)
        return not scope.cancelled_caught

    # ---- tasks

    def current_task(self) -> Any:
        """Return the current task; None if there is none."""
        ...

    def name_task(self, task: Any, name: str) -> None:
        """Give a task a name."""
        ...

    def ancestry(self, task: Any) -> Iterator[object]:
        """Yield a task or its id, then that of the task in whose group it runs, and so on."""
        ...

    def has_native_cancellation(self) -> bool:
        """Return whether an undelivered cancellation of the current task exists. On trio only scopes cancel tasks."""
        return False

    async def park(self, worker: WorkerTask) -> None:
        """Wait, in the task of `worker`, until that is woken or cancelled; raise nothing."""
        ...

    def wake(self, worker: WorkerTask) -> None:
        """Wake a parked worker."""
        ...

    def frames(self, worker: WorkerTask) -> Iterable[tuple[FrameType, int]]:
        """Return the frames of the task of `worker`, outermost first, with their line numbers."""
        ...

    def scope(self, deadline: float = ...) -> Scope:
        """Make a cancel scope with a deadline on this loop's clock."""
        ...

    def task_group(self) -> Any:
        """Return an async context manager that starts tasks; its value has `start_soon` and `cancel_scope`."""
        ...

    async def end_tasks_in(self, worker: WorkerTask, scope: Scope) -> str:
        """End all tasks in the nursery or group that the job of `worker` left open in `scope`; return its kind."""
        ...

    # ---- exceptions

    def split(self, exception: BaseException) -> tuple[bool, BaseException | None]:
        """Return whether `exception` contains a cancellation, and the rest of it."""
        return _shared.split(exception, self.cancelled)

    def should_have_caught(self, scope: Scope, exception: BaseException) -> bool:
        """Return whether `exception`, which has just left a scope, is just the cancellation of that scope."""
        ...

    def hint(self, exception: BaseException) -> str | None:
        """Return advice on an exception that comes from the other library; None if it does not."""
        ...

    # ---- limiters

    def check_limiter(self, limiter: object) -> str | None:
        """Return the fault of `limiter` as a window on this backend; None if it has none."""
        ...

    def try_acquire(self, limiter: Any, borrower: object) -> bool:
        """Take a token for `borrower` if one is free and no task waits for it."""
        ...

    async def acquire(self, limiter: Any, borrower: object) -> bool:
        """Wait for a token for `borrower`. Return False, without taking one, on cancellation."""
        try:
            await limiter.acquire_on_behalf_of(borrower)
        except self.cancelled:
            return False
        return True
