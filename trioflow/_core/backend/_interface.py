"""The interface of a backend: an event loop, and the isolation of jobs in it.

Overrides without a docstring keep the contract that is documented here.

```
Backend ── the event loop: one class for each library, in loop/, which uses public names only
  └─ Isolation ── keeps jobs that share tasks apart: fast (one for each library) or plain, in isolation/
       └─ WorkerGroup ── the tasks of one run
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
    """The attributes of a worker that the backend uses; the engine's `Worker` adds the others."""

    __slots__ = ("deadline", "fires_at", "group", "job", "mark", "parking", "scope", "task", "timer")

    # On asyncio: the deadline of the current job (`-inf` once it has passed), and a timer that fires at `fires_at`, no
    # later than the deadline. On trio, the scope has the deadline.
    deadline: float
    timer: Any
    fires_at: float
    group: WorkerGroup
    # The job that the task runs, or None.
    job: Any
    # A snapshot of the task before a job. On trio it is None until the task's first step.
    mark: Any
    # What `wake` needs to resume a parked worker: a task on trio, a future on asyncio.
    parking: Any
    # The cancel scope around this task alone, if it has one.
    scope: Scope | None
    task: Any

    def leave_unstarted(self) -> None:
        """Record that the task was cancelled before its first step, so its coroutine never ran. Only on asyncio."""
        raise NotImplementedError


Work = Callable[[Any], Coroutine[Any, Any, None]]
"""The async function that a worker's task runs; it takes the worker."""


class TaskEvent(Protocol):
    """A one-time event that tasks can wait for."""

    def set(self) -> None:
        """Set the event, and wake all tasks that wait for it."""
        ...

    def is_set(self) -> bool:
        """Return whether `set` has been called."""
        ...

    async def wait(self) -> Any:
        """Wait until `set` has been called."""
        ...


class Scope(AbstractContextManager["Scope"], Protocol):
    """The common interface of trio's and anyio's cancel scopes."""

    shield: bool
    deadline: float

    @property
    def cancel_called(self) -> bool:
        """Whether the scope was cancelled, by `cancel` or by its deadline."""
        ...

    @property
    def cancelled_caught(self) -> bool:
        """Whether a cancellation by this scope ended its block."""
        ...

    def cancel(self) -> None:
        """Cancel everything in the scope."""
        ...


class Mark(Protocol):
    """A snapshot of a worker's task before a job."""

    __slots__ = ()

    def intact(self) -> bool:
        """Return whether the task is unchanged: same scopes, same context variables, not cancelled."""
        ...

    def note_turn(self) -> None:
        """Record the current iteration of the loop, for `stood_still`."""
        ...

    def stood_still(self) -> bool:
        """Return whether the loop is still in the iteration of the last `note_turn`; False if that is unknown."""
        ...


class HostTask(Protocol):
    """The task that awaits a run; its waits report cancellations instead of raising them."""

    __slots__ = ()

    async def yield_to_loop(self) -> bool:
        """Yield to the loop. Return False if the task was cancelled."""
        ...

    async def wait(self, event: TaskEvent) -> bool:
        """Wait for `event`. Return False at once if the task is cancelled."""
        ...

    async def run_uninterrupted(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `function()` to its end, even if the task is cancelled."""
        ...

    def is_cancelled(self) -> bool:
        """Return whether the task was cancelled natively since the run began; it may be undelivered."""
        ...

    def call_at(
        self, when: float, function: Callable[[], None], is_cancelled: Callable[[], bool]
    ) -> Callable[[], None]:
        """Call `function()` when the clock shows `when`, unless `is_cancelled()`.

        Returns:
            A function that cancels the call.

        """
        ...


class WorkerGroup(Protocol):
    """The tasks of one run, under its deadline."""

    __slots__ = ()

    variables: Variables
    """The initial context variables of each task in the group, except the one that holds its worker."""
    names_tasks: bool
    """Whether each worker has to set its task's name for each job; otherwise the task computes it when asked."""
    home: WorkerGroup
    """The group that holds the parked workers: this one, or an enclosing one that shares its workers."""

    host: HostTask
    """The task that awaits the run."""

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `body`, which spawns tasks and waits for them; then raise a cancellation that has arrived meanwhile."""
        ...

    def spawn(self, worker: WorkerTask) -> None:
        """Start a task for `worker`, in a copy of the run's context."""
        ...

    def adopt(self, worker: WorkerTask) -> None:
        """Move a worker that runs no job into this group, from another group with the same home."""
        ...

    def call_at(self, when: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call `function()` when the clock shows `when`, unless the group is cancelled.

        Returns:
            A function that cancels the call.

        """
        return self.host.call_at(when, function, self.is_cancelled)

    def is_cancelled(self) -> bool:
        """Return whether the group was cancelled, by its deadline or from outside; it may be undelivered."""
        ...

    def deadline_passed(self) -> bool:
        """Return whether the deadline has cancelled the group; False on asyncio, where `on_deadline` is called."""
        return False

    def cancel(self) -> None:
        """Cancel all tasks of the group except the shielded ones."""
        ...

    def cancel_once(self, workers: Iterable[WorkerTask], patience: float) -> None:
        """Cancel these workers, shielded ones too. On asyncio each is cancelled once, as programs for asyncio expect.

        A worker that has not left after `patience` seconds is cancelled at each of its awaits, as on trio.
        """
        for worker in workers:
            self.cancel_one(worker)

    def shield(self, worker: WorkerTask) -> None:
        """Shield the calling worker, which runs no job, from `cancel`."""
        ...

    def cancel_shielded(self) -> None:
        """Cancel all shielded workers."""
        ...

    def cancel_one(self, worker: WorkerTask) -> None:
        """Cancel one worker, even a shielded one. One that has not begun may ignore this: it checks its run first."""
        ...

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        """Set the time at which one worker is cancelled; infinity for never.

        The worker's job sees this deadline through trio or anyio.
        """
        ...

    def is_expired(self, worker: WorkerTask) -> bool:
        """Return whether a worker was cancelled by its own deadline or `cancel_one`, and no scope around it was."""
        ...

    def forget(self, worker: WorkerTask) -> None:
        """Remove all records of a worker that leaves."""
        ...


class Isolation(Protocol):
    """Keeps jobs that share tasks apart, as if each job had a task of its own."""

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
        outer: WorkerGroup | None = None,
    ) -> WorkerGroup:
        """Return a new group for one run, whose tasks run `work` in copies of `context`.

        For a nested run, `outer` is the group of the worker that runs the nested scheduler.
        """
        ...

    def enter(self, worker: WorkerTask) -> Any:
        """Record the current task as that of `worker`, in its first step.

        Returns:
            The mark of the task, or None if the task is cancelled.

        """
        ...

    def is_inside(self, worker: WorkerTask) -> bool:
        """Return whether the calling task is the task of `worker`, or a descendant of it.

        If that is unknown, as in threads and in tasks of `asyncio.create_task`, return True.
        """
        return _shared.is_inside(worker.task, self._loop.current_task(), self._loop.ancestry)

    async def close_leftovers(self, worker: WorkerTask) -> tuple[str | None, BaseException | None]:
        """Close the scopes and task groups that a job left open; return the kind of the leftover and its errors."""
        ...

    def was_cancelled(self, worker: WorkerTask) -> bool:
        """Return whether the task of `worker` was cancelled, by a scope or with the whole run."""
        ...

    def cancelled_natively(self, worker: WorkerTask) -> bool:
        """Return whether the job of `worker` has cancelled its own task natively, and this is still undelivered."""
        return self._loop.has_native_cancellation() and not self.was_cancelled(worker)


class Backend(Protocol):
    """An event loop of trio or asyncio, and the isolation of jobs in it."""

    name: str
    cancelled: type[BaseException]
    """The exception that a cancellation raises."""
    isolation: Isolation

    # ---- the loop

    def run(self, main: Callable[[], Coroutine[Any, Any, T]], options: Mapping[str, Any]) -> T:
        """Run `main()` in a new event loop."""
        ...

    def clock(self) -> Callable[[], float]:
        """Return the clock of the running loop: a function that returns the time in seconds."""
        ...

    def once_in_loop(self, make: Callable[[], T]) -> T:
        """Return the object that all runs in this loop share; the first call makes it by `make()`."""
        ...

    def threadsafe_caller(self) -> Callable[[Callable[[], None]], None]:
        """Return a function that runs its argument in this loop, from any thread, while the loop runs."""
        ...

    # ---- waiting

    def event(self) -> TaskEvent:
        """Return a new event."""
        ...

    async def checkpoint(self) -> None:
        """Yield to the loop, or raise a pending cancellation."""
        ...

    async def yield_to_loop(self) -> None:
        """Yield to the loop without raising a cancellation."""
        ...

    async def wait_until(self, deadline: float) -> bool:
        """Wait until the clock shows `deadline`. Return False at once if the task is cancelled."""
        try:
            await self.sleep_until(deadline)
        except self.cancelled:
            return False
        return True

    async def sleep_until(self, deadline: float) -> None:
        """Wait until the clock shows `deadline`."""
        ...

    async def wait_readable(self, descriptor: int, deadline: float = ...) -> bool:
        """Wait until a descriptor is readable, or the clock shows `deadline`; return whether it is readable.

        A deadline that has passed takes precedence: otherwise a command that writes without end would never time out.
        Only one task at a time may wait for a descriptor.
        """
        ...

    async def outlast(self, wait: Callable[[], Awaitable[T]]) -> T:
        """Await `wait()` to its end, even if the task is cancelled, and return its result.

        A shield blocks cancellations by scopes. It does not block asyncio's native `Task.cancel()`, which is dropped:
        then `wait` is called again, and has to resume its work. The caller has to raise a cancellation afterwards.

        Raises:
            BaseException: an exception of `wait()`.

        """
        while True:
            with self.scope() as scope:
                scope.shield = True
                try:
                    return await wait()
                except self.cancelled:  # native: a shield does not block it
                    continue

    async def run_concurrently(
        self, functions: Iterable[Callable[[], Coroutine[Any, Any, None]]], deadline: float
    ) -> bool:
        """Call the async functions concurrently and cancel them at `deadline`; return whether all ended in time."""
        with self.scope(deadline) as scope:
            async with self.task_group() as tasks:
                for function in functions:
                    tasks.start_soon(function)
        return not scope.cancelled_caught

    # ---- tasks

    def current_task(self) -> Any:
        """Return the current task, or None."""
        ...

    def name_task(self, task: Any, name: str) -> None:
        """Set the name of a task."""
        ...

    def ancestry(self, task: Any) -> Iterator[object]:
        """Yield a task (or its id) and its ancestors; the parent is the task that opened the group the task runs in."""
        ...

    def has_native_cancellation(self) -> bool:
        """Return whether the current task has an undelivered native cancellation. On trio only scopes cancel tasks."""
        return False

    async def park(self, worker: WorkerTask) -> None:
        """Suspend the worker's task until it is woken or cancelled, without raising the cancellation."""
        ...

    def wake(self, worker: WorkerTask) -> None:
        """Wake a parked worker."""
        ...

    def frames(self, worker: WorkerTask) -> Iterable[tuple[FrameType, int]]:
        """Return the frames of the worker's task with their line numbers, outermost first."""
        ...

    def scope(self, deadline: float = ...) -> Scope:
        """Return a new cancel scope with a deadline on this loop's clock."""
        ...

    def task_group(self) -> Any:
        """Return a nursery or task group that has not been entered; it has `start_soon` and `cancel_scope`."""
        ...

    async def end_tasks_in(self, worker: WorkerTask, scope: Scope) -> str:
        """End all tasks in the nursery or group that a job left open in `scope`; return the leftover's kind."""
        ...

    # ---- exceptions

    def split(self, exception: BaseException) -> tuple[bool, BaseException | None]:
        """Return whether `exception` contains a cancellation, and the exception without cancellations, or None."""
        return _shared.split(exception, self.cancelled)

    def should_have_caught(self, scope: Scope, exception: BaseException) -> bool:
        """Return whether `exception`, which has just left `scope`, is a cancellation it should have caught."""
        ...

    def hint(self, exception: BaseException) -> str | None:
        """Return advice if `exception` shows that the job awaits objects of the other backend; otherwise None."""
        ...

    # ---- limiters

    def check_limiter(self, limiter: object) -> str | None:
        """Return the reason why `limiter` cannot be a window on this backend, or None if it can."""
        ...

    def try_acquire(self, limiter: Any, borrower: object) -> bool:
        """Take a token for `borrower` if one is free and no task waits for one; return whether it was taken."""
        ...

    async def acquire(self, limiter: Any, borrower: object) -> bool:
        """Wait for a token for `borrower`. Return False, without a token, if the task is cancelled."""
        try:
            await limiter.acquire_on_behalf_of(borrower)
        except self.cancelled:
            return False
        return True
