"""The interface of a backend, which consists of an event loop and the isolation of jobs in this loop.

Overrides without a docstring keep the contract that is documented here.

```
Backend ── the event loop: one class for each library, which uses public names only
  └─ Isolation ── keeps jobs apart: fast, or direct, which uses public names only
       └─ WorkerGroup ── the tasks of one run
            ├─ HostTask ── the task that awaits the run
            └─ TaskSnapshot ── the state of a worker's task before a job
```
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import FrameType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
)

from . import _shared

if TYPE_CHECKING:
    import asyncio

    import anyio
    import trio

    from ..base._states import CancelCause

    CapacityLimiter: TypeAlias = trio.CapacityLimiter | anyio.CapacityLimiter
    Scope: TypeAlias = trio.CancelScope | anyio.CancelScope
    TaskEvent: TypeAlias = trio.Event | asyncio.Event

T = TypeVar("T")
BackendName = Literal["trio", "asyncio"]
NO_HANDLER: Final = contextlib.nullcontext()


class WorkerTask:
    """A worker, with only the attributes that the backend uses. The engine's subclass `Worker` adds the others."""

    # The deadline of the current job, `-inf` once it has passed, and the timer that enforces it. The timer fires at
    # `timer_fires_at`, which is earlier than the deadline if that was postponed. Only asyncio uses these attributes: on
    # trio a scope has the deadline.
    deadline: float
    timer: Any
    timer_fires_at: float
    group: WorkerGroup
    # The job that the worker is running, or None between two jobs.
    job: Any
    # A `TaskSnapshot` from before the current job. On trio it is None until the task's first step.
    task_snapshot: Any
    # The object that `Backend.wake` needs to resume the worker: a task on trio, a future on asyncio.
    wake_handle: Any
    # The cancel scope around this task alone, or None if the task needs none.
    scope: Any
    task: Any
    # asyncio: the context of the task, which Python tells since 3.12:
    # https://docs.python.org/3/library/asyncio-task.html#asyncio.Task.get_context.
    context: Any
    # Why the engine has cancelled the worker, other than at its deadline. It sets this before it calls the group.
    cause: CancelCause | None
    # Whether the worker must leave after its job: the job has changed its task, was cancelled in it, or has given it a
    # name, or the run stops.
    must_leave: bool
    # Whether the worker runs a forever job, which outlasts the other jobs.
    is_shielded: bool
    __slots__ = (*__annotations__,)

    async def work(self) -> None:
        """Run jobs in the current task, until it leaves the run."""

    def leave_unstarted(self, _task: object = None) -> None:
        """Leave the run if the task has ended before its first step. It is then cancelled, which only asyncio does."""


class TaskSnapshot(Protocol):
    """The state of a worker's task before a job, to find out whether the job has changed it."""

    __slots__ = ()

    def is_task_unchanged(self) -> bool:
        """Return whether the job has left its task as it found it.

        That is: same cancel scope, same context variables, no new references to the task, and no cancellation.
        """
        ...

    def allow_references(self, number: int) -> None:
        """Let so many further references to the task, which the engine itself has or drops now, be no change."""
        return

    def record_iteration(self) -> None:
        """Record the current iteration of the event loop, for `is_same_iteration`."""

    def is_same_iteration(self) -> bool:
        """Return whether the event loop is still in the recorded iteration, or False if that is unknown."""
        return False


class HostTask(Protocol):
    """The task that awaits a run. If it is cancelled, `yield_to_loop` and `wait` return False instead of raising."""

    __slots__ = ()
    _backend: Backend
    task: Any

    def yield_to_loop(self) -> Awaitable[bool]:
        """Yield to the event loop once, and return True. If the task is cancelled, return False."""
        return self.wait(self._backend.checkpoint)

    async def wait(self, wait: Callable[[], Awaitable[object]]) -> bool:
        """Await `wait()`, and return True. If the task is cancelled, return False at once."""
        try:
            await wait()
        except self._backend.cancellation_type as cancellation:
            self.keep(cancellation)
            return False
        return True

    def keep(self, cancellation: BaseException) -> None:
        """Keep a cancellation of the task, which has to be raised again at the end of the run."""

    async def yield_in_ending(self, *, is_unwinding: bool) -> bool:
        """Yield to the event loop once, and return True. Return False if only `run_uninterrupted` may wait.

        On asyncio, that is so after a cancellation of the task, and while jobs unwind: it has to cancel them again.
        """
        ...

    async def run_uninterrupted(
        self,
        function: Callable[[], Coroutine[Any, Any, None]],
        on_interrupt: Callable[[], None],
    ) -> None:
        """Await `function()` to its end, even if the task is cancelled.

        On asyncio, each cancellation meanwhile calls `on_interrupt`, because jobs are cancelled again only on request.
        """


class WorkerGroup(Protocol):
    """The tasks of a run, which are cancelled at the run's deadline."""

    variables: _shared.ContextVariables
    """The initial context variables of each task in the group, except the variable that holds the task's worker."""
    host: HostTask
    ends_at_deadline: ClassVar[bool] = False
    """Whether the group cancels its tasks at its deadline."""
    _backend: Backend
    _deadline: float
    _context: contextvars.Context

    def __init__(
        self,
        backend: Backend,
        deadline: float,
        context: contextvars.Context,
        variables: _shared.ContextVariables,
        outer: WorkerGroup | None = None,
    ) -> None:
        """Create the group of a run, whose workers work in copies of `context`.

        For a nested run, `outer` is the group of the worker that runs the nested scheduler.
        """
        self.variables = variables
        self._backend = backend
        self._deadline = deadline
        self._context = context
        self.prepare(outer)

    def prepare(self, outer: WorkerGroup | None) -> None:
        """Set `host`, and whatever else the group needs, in the task that awaits the run."""

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `body()`, which spawns tasks and waits for them. Then raise any cancellation of the host."""

    def spawn(self, worker: WorkerTask) -> None:
        """Start a task for `worker`, in a copy of the run's context."""

    def is_interchangeable(self, other: WorkerGroup) -> bool:
        """Return whether a task that was spawned for a worker of this group can serve a worker of another group."""
        return False

    def call_at(
        self, when: float, function: Callable[[], None], context: contextvars.Context
    ) -> Callable[[], None]:
        """Call `function()`, which raises no exception, in this context when the clock shows `when`.

        With fast isolation, it is called in no task, and even after the run.

        Returns:
            A function that cancels the call.

        """
        ...

    def is_cancelled(self) -> bool:
        """Return whether the group was cancelled in any way, even if its tasks have not noticed this yet."""
        ...

    def cancel(self, workers: Iterable[WorkerTask]) -> None:
        """Cancel `workers`, which are all workers of the group except shielded workers.

        On trio, this and the methods below cancel a worker at each of its checkpoints. On asyncio, each call cancels
        it once, as soon as its job is in no shield.
        """
        for worker in workers:
            self.cancel_worker(worker)

    def shield(self, worker: WorkerTask) -> None:
        """Shield the calling worker, which is running no job, from `cancel`."""

    def cancel_shielded(self, workers: Iterable[WorkerTask]) -> None:
        """Cancel `workers`, which are all shielded workers."""
        WorkerGroup.cancel(self, workers)

    def cancel_worker(self, worker: WorkerTask, repeatedly: bool = False) -> None:
        """Cancel a worker, even if it is shielded. `repeatedly` cancels it at each of its awaits, on asyncio, too.

        A worker that has not begun may ignore this: its first step checks whether its run is stopping.
        """

    def forget(self, worker: WorkerTask) -> None:
        worker.task = worker.task_snapshot = worker.scope = None


class Isolation(Protocol):
    """The isolation of jobs that share tasks: each behaves as if it had a task of its own."""

    group_class: ClassVar[type[WorkerGroup]]
    gives_own_tasks: ClassVar[bool] = False
    """Whether each job has a task of its own anyway, unless `renew_task` makes the task new."""
    _loop: Backend

    def __init__(self, loop: Backend) -> None:
        self._loop = loop

    def attach_current_task(self, worker: WorkerTask) -> Any:
        """Record the current task, in its first step, as the task of `worker`.

        Returns:
            A `TaskSnapshot` of the task, or None if the task is cancelled.

        """
        ...

    def is_caller_inside(self, worker: WorkerTask) -> bool:
        """Return whether the calling task is the task of `worker`, or a descendant of it.

        If that is unknown, as in threads and in tasks of `asyncio.create_task`, return True.
        """
        task = worker.task
        caller = self._loop.current_task()
        if caller is task or caller is None:
            # In a thread there is no calling task.
            return True
        own = list(self._loop.ancestry(task))
        for each in self._loop.ancestry(caller):
            if each in own:
                return bool(each == own[0])
        return True

    def renew_task(self, worker: WorkerTask) -> bool:
        """Make the task of `worker`, whose job has succeeded, new for another job. Return whether that was possible.

        Raises:
            RuntimeError: trio's own: the job has left a scope or a nursery open.

        """
        return False

    async def close_leftovers(
        self, worker: WorkerTask
    ) -> tuple[str | None, BaseException | None]:
        """Close the scopes and task groups that a job has left open.

        Returns:
            The kind of object that the job has left open, such as "cancel scope", and the error from closing it. Each
            is None if there is none, and with direct isolation, which leaves this to the end of the task.

        """
        return None, None

    def create_call_scope(self, worker: WorkerTask | None, deadline: float) -> Scope:
        """Return a scope for a call of a job that `worker` runs, which is cancelled at the deadline.

        On asyncio, the scope cancels the call once, if `worker` runs in the calling task.
        """
        return self._loop.create_scope(deadline)

    def was_cancelled(self, worker: WorkerTask) -> bool:
        """Return whether the task of `worker` was cancelled, alone or with the whole run.

        A cancellation by a call scope does not count.
        """
        return worker.cause is not None or worker.group.is_cancelled()


class Backend(Protocol):
    """An event loop of trio or asyncio, and the isolation of jobs in it."""

    name: str
    cancellation_type: type[BaseException]
    # The module and the name of the other library's cancellation.
    other_cancellation: tuple[str, str]
    # The errors that this loop raises for an awaitable of the other, with a part of their texts.
    foreign_errors: tuple[tuple[type[BaseException], str], ...]
    isolation: Isolation

    # ---- the loop

    def run(
        self, main: Callable[[], Coroutine[Any, Any, T]], options: Mapping[str, Any]
    ) -> T: ...

    def clock(self) -> Callable[[], float]:
        """Return the clock of the running loop: a function that returns the time in seconds."""
        ...

    def get_or_create_in_loop(self, make: Callable[[], T]) -> T:
        """Return the object that all runs in this loop share. The first call in a loop creates it by calling `make`."""
        ...

    def threadsafe_caller(self) -> Callable[[Callable[[], None]], None]:
        """Return a function that calls its argument in this loop. Any thread may use it. It ignores a closed loop."""
        ...

    # ---- waiting

    def create_event(self) -> TaskEvent: ...

    async def checkpoint(self) -> None: ...

    async def yield_to_loop(self) -> None:
        """Yield to the event loop once, without raising a cancellation."""

    async def sleep_until(self, deadline: float) -> None: ...

    async def wait_readable(self, descriptor: int, deadline: float = ...) -> bool:
        """Wait until a file descriptor is readable, and return True. Return False at the deadline.

        If the deadline has passed already, return False even if the descriptor is readable. Otherwise, a command that
        writes without end would never time out. Only one task at a time may wait for a descriptor.
        """
        ...

    async def outlast(self, wait: Callable[[], Awaitable[T]]) -> T:
        """Await `wait()` to its end, even if the task is cancelled, and return its result.

        A shield blocks cancellations by scopes, but not asyncio's native `Task.cancel()`. So if the task is cancelled
        natively, the cancellation is dropped, and `wait` is called again. It must resume its work. The caller must
        raise the cancellation afterwards.

        Raises:
            BaseException: any exception that `wait()` raises, except a cancellation.

        """
        while True:
            with self.create_scope() as scope:
                scope.shield = True
                try:
                    return await wait()
                except self.cancellation_type:
                    # A native cancellation, which a shield does not block:
                    # https://anyio.readthedocs.io/en/stable/cancellation.html#shielding.
                    continue

    async def call_apart(self, function: Callable[[], Awaitable[object]]) -> None:
        """Await `function()`, which is code of a user, in a task of its own, because it may break the task's scopes.

        Raises:
            BaseException: any exception that `function()` raises.
            RuntimeError: it has left a scope or a task group open. The tasks in it have ended.

        """
        error: BaseException | None = None

        async def call() -> None:
            nonlocal error
            try:
                scope.__enter__()
                await function()
            except BaseException as raised:
                error = raised
            try:
                scope.__exit__(None, None, None)
            except RuntimeError:
                # The error of trio or anyio for a scope that is not the innermost scope:
                # https://github.com/python-trio/trio/blob/v0.35.0/src/trio/_core/_run.py#L635,
                # https://github.com/agronholm/anyio/blob/4.16.0/src/anyio/_backends/_asyncio.py#L481.
                kind = await self.end_tasks_in(self.current_task(), scope)
                error = error or RuntimeError(
                    f"it has left a {kind} open: close it with a with statement"
                )

        try:
            scope = self.create_scope()
            try:
                with contextlib.suppress(BaseExceptionGroup):
                    # The task has ended in a scope that was left open.
                    async with self.create_task_group() as tasks:
                        tasks.start_soon(call)
            except BaseException:
                # A cancellation, which comes again at the next checkpoint of the caller.
                if not isinstance(cast(Any, error), Exception):
                    raise
            if error is not None:
                raise error
        finally:
            # Break the reference cycle: the traceback refers to this frame.
            error = None

    async def run_concurrently(
        self,
        functions: Iterable[Callable[[], Coroutine[Any, Any, None]]],
        deadline: float,
    ) -> bool:
        """Call async functions concurrently, and cancel them at the deadline. Return whether all ended before it."""
        with self.create_scope(deadline) as scope:
            async with self.create_task_group() as tasks:
                for function in functions:
                    tasks.start_soon(function)
        return not scope.cancelled_caught

    # ---- tasks

    def current_task(self) -> Any:
        """Return the task that is running in this thread, or None if there is none."""
        ...

    def install_ctrl_c_handler(self) -> AbstractContextManager[None]:
        """Return a context manager that keeps trio from raising KeyboardInterrupt in the middle of the engine."""
        return NO_HANDLER

    def woken_by_signals(self) -> AbstractContextManager[None]:
        """Return a context manager in which a signal wakes the loop, even if it comes just before the loop waits."""
        return NO_HANDLER

    def name_task(self, task: object, name: str) -> None: ...

    def ancestry(self, task: Any) -> Iterator[object]:
        """Yield a task and its ancestors, or the ids of these tasks.

        The parent of a task is the task that opened its nursery or task group.
        """
        ...

    def has_asyncio_cancellation(self) -> bool:
        """Return whether asyncio will raise a cancellation in the current task, be it native or by a scope.

        On trio, always return False.
        """
        return False

    async def wait_until_woken(self, worker: WorkerTask) -> None:
        """Suspend the worker's task until it is woken or cancelled, without raising the cancellation."""

    def wake(self, worker: WorkerTask) -> None: ...

    def frames(self, worker: WorkerTask) -> Iterable[tuple[FrameType, int]]:
        """Return the frames of the worker's task with their line numbers, outermost first, or none without a task.

        Any thread may call this.
        """
        ...

    def create_scope(self, deadline: float = ...) -> Scope: ...

    def create_task_group(self) -> Any:
        """Return a new async context manager for a nursery or task group, with `start_soon` and `cancel_scope`."""
        ...

    async def end_tasks_in(self, task: Any, scope: Scope) -> str:
        """End the tasks in the nurseries or task groups that `task` has left open inside `scope`.

        Returns: The kind of object that it has left open: "nursery", "task group" or only a "cancel scope".

        """
        ...

    # ---- exceptions

    def split_cancellations(
        self, exception: BaseException
    ) -> tuple[bool, BaseException | None]:
        """Return whether an exception contains a cancellation, and the rest of it without cancellations.

        If nothing remains, the second value is None.
        """
        return _shared.split_cancellations(exception, self.cancellation_type)

    def split_all_cancellations(
        self, exception: BaseException
    ) -> tuple[bool, BaseException | None]:
        """Split off cancellations of the other library, too, which only a thread or its loop there can have raised."""
        module, name = self.other_cancellation
        other_type = getattr(sys.modules.get(module), name, self.cancellation_type)
        return _shared.split_cancellations(
            exception, (self.cancellation_type, other_type)
        )

    def needed_backend(self, exception: BaseException) -> str | None:
        """Return the other backend if an exception shows that the job awaits objects of it, otherwise None."""
        kinds, _ = zip(*self.foreign_errors, strict=True)
        if not isinstance(exception, kinds):
            # As most failures, which need not pay for the rest.
            return None
        # An error from another thread, as in a ThreadJob, does not count.
        thread = threading.current_thread().name
        patterns = [
            (kind, text.format(thread=thread)) for kind, text in self.foreign_errors
        ]
        if not _shared.matches_any(exception, *patterns):
            return None
        return self.other_cancellation[0]

    # ---- limiters

    def limiter_problem(self, limiter: object) -> str | None:
        """Return why a limiter cannot be used as a window on this backend, as text for an error, or None if it can."""
        import anyio

        if not isinstance(limiter, anyio.CapacityLimiter):
            return "give a positive whole number, None, or a CapacityLimiter of anyio or, on trio, of trio"
        other = self.other_cancellation[0]
        # It has the backend's name.
        if type(
            getattr(limiter, "_internal_limiter", None) or limiter
        ).__module__.endswith(f"_{other}"):
            return (
                f"this CapacityLimiter was created or used on {other}; create a new one"
            )
        return None

    def try_acquire(self, limiter: object, borrower: object) -> bool:
        """Take a token for `borrower` if one is free and no task waits for it. Return whether a token was taken."""
        ...

    async def acquire(self, limiter: Any, borrower: object) -> bool:
        """Wait for a token for `borrower`, and return True. If the task is cancelled, return False without a token."""
        try:
            await limiter.acquire_on_behalf_of(borrower)
        except self.cancellation_type:
            return False
        return True
