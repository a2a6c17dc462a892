"""The asyncio backend by the public names of asyncio and anyio: the event loop, and direct isolation.

Direct isolation takes the place of fast isolation if a private attribute of anyio is not as expected. Each job has a
native task of its own. Then:

- A job in a shield of anyio is also cancelled at once, as by any `Task.cancel()`.
- Scopes and groups that a job leaves open are not noticed, and go on.
- `current_effective_deadline()` does not show deadlines from outside the job.
- `current_job()` in a task of a group around the run may be a job that runs at that time.
- A run stops in the turn of the loop after a scope around it was cancelled, not at once.

Direct and fast isolation share **edge cancellation**: each cause cancels a job once, as `asyncio.timeout` and TaskGroup
do. Awaits of the job while it unwinds are not cancelled, so the libraries of asyncio can clean up. A further cause
cancels the job once more. Timers enforce the deadlines of workers and of the run.

Decided in docs/decisions: 07-one-task-group.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import math
import signal
import socket
import sys
import time
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
import anyio.lowlevel

from ._interface import (
    Backend,
    HostTask,
    Isolation,
    TaskSnapshot,
    WorkerGroup,
    WorkerTask,
)
from ._shared import IDLE_TASK_NAME, await_chain, split_cancellations

T = TypeVar("T")
SHARED_OBJECTS: Final[
    weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[Any]]
] = weakref.WeakKeyDictionary()
"""For each event loop, the object that all runs in the loop share, and keep. The object refers to its loop. If this
dictionary kept the object, no loop would ever be freed:
https://docs.python.org/3/library/weakref.html#weakref.WeakKeyDictionary."""
WAKE_DELAY: Final = 0.05
"""Seconds after which signals wake the loop of a run. Short runs end sooner, and save a fifth of their time."""
# See https://docs.python.org/3/library/asyncio-graph.html#asyncio.future_add_to_awaited_by.
add_awaiter: Any = getattr(asyncio, "future_add_to_awaited_by", None)
"""The function of Python 3.14 that shows tools of asyncio, such as `python -m asyncio pstree`, who awaits a task."""
discard_awaiter: Any = getattr(asyncio, "future_discard_from_awaited_by", None)


class AsyncioHost(HostTask):
    """The task that awaits a run."""

    def __init__(
        self,
        backend: Backend,
        task: Any,
        is_being_cancelled: bool,
        context: contextvars.Context,
    ) -> None:
        self._backend = backend
        # None after the run: the task of a worker retires if a reference to it is left behind.
        self.task: Any = task
        # How many times the task was cancelled before the run, except for a pending cancellation: that cancels the run.
        self._initial_request_count = task.cancelling() - is_being_cancelled
        # The last native cancellation of the task, which is raised again at the end of the run.
        self._cancellation: BaseException | None = None
        self._context = context
        # Stored because `get_running_loop` is slow before Python 3.12: it calls getpid() (python/cpython#100363).
        self.loop: asyncio.AbstractEventLoop = task.get_loop()

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `body()`. Then raise any native cancellation of the task."""
        try:
            await body()
        finally:
            is_cancelled = self.is_cancelled()
            self.task = None
        if self._cancellation is not None:
            try:
                raise self._cancellation
            finally:
                self._cancellation = None
        if is_cancelled:
            # Since the last await, so this await raises the cancellation.
            await asyncio.sleep(0)

    def keep(self, cancellation: BaseException) -> None:
        # Any other task is the task of the ending, which nobody awaits.
        if asyncio.current_task() is self.task:
            self._cancellation = cancellation

    async def yield_in_ending(self, *, is_unwinding: bool) -> bool:
        return not is_unwinding and await self.yield_to_loop()

    async def run_uninterrupted(
        self,
        function: Callable[[], Coroutine[Any, Any, None]],
        on_interrupt: Callable[[], None],
    ) -> None:
        """Await `function()` in a new task, because no shield protects this task from a native `Task.cancel()`.

        The shield blocks only cancellations by scopes, which anyio delivers repeatedly: all but the first. If the new
        task is cancelled, `function` is called again, and has to resume its work.
        """
        while True:
            task = self.loop.create_task(function(), context=self._context.copy())
            while not task.done():
                # anyio repeats the cancellation in each turn of the loop:
                # https://github.com/agronholm/anyio/blob/4.16.0/src/anyio/_backends/_asyncio.py#L642.
                with anyio.CancelScope(
                    shield=anyio.get_current_task().has_pending_cancellation()
                ):
                    try:
                        await asyncio.wait([task])
                    except asyncio.CancelledError as cancellation:
                        # It is raised when the ending is over.
                        self._cancellation = cancellation
                        on_interrupt()
            # If the task was cancelled with all other tasks of the loop, repeat.
            if not task.cancelled():
                return task.result()

    def is_cancelled(self) -> bool:
        """Return whether the task was cancelled natively after the run began, even if it has not noticed this yet.

        When a loop shuts down, it cancels all tasks together and resumes them in any order, so a worker may notice the
        cancellation before this task.
        """
        return bool(self.task.cancelling() > self._initial_request_count)


class AsyncioLoop(Backend):
    name = "asyncio"
    cancellation_type = asyncio.CancelledError
    other_cancellation = "trio", "Cancelled"
    foreign_errors = (
        (RuntimeError, "must be called from async context"),
        (RuntimeError, "Task got bad yield"),
        # From open_nursery().
        (AttributeError, "'RunContext' object has no attribute 'runner'"),
    )

    @functools.cached_property
    def _scope_class(self) -> type[anyio.CancelScope]:
        """The class of the objects that `anyio.CancelScope` returns. Calling it directly takes a third of the time."""
        return type(anyio.CancelScope())

    def create_scope(self, deadline: float = math.inf) -> anyio.CancelScope:
        return self._scope_class(deadline=deadline)

    def current_task(self) -> Any:
        try:
            return asyncio.current_task()
        except RuntimeError:
            # This thread has no loop.
            return None

    def ancestry(self, task: object) -> Iterator[object]:
        parents = {info.id: info.parent_id for info in anyio.get_running_tasks()}
        task_id: int | None = id(task)
        while task_id is not None:
            yield task_id
            task_id = parents.get(task_id)

    def has_asyncio_cancellation(self) -> bool:
        return anyio.get_current_task().has_pending_cancellation()

    create_event = staticmethod(asyncio.Event)  # pyright: ignore[reportAssignmentType]
    create_task_group = staticmethod(anyio.create_task_group)  # pyright: ignore[reportAssignmentType]
    checkpoint = staticmethod(functools.partial(asyncio.sleep, 0))  # pyright: ignore[reportAssignmentType]

    async def end_tasks_in(self, task: asyncio.Task[Any], scope: Any) -> str:
        """Cancel the tasks in task groups that were left open, and wait for them. See `Backend`."""
        kind = "cancel scope"
        scope.cancel()
        while tasks := tasks_inside(task):
            kind = "task group"
            with (
                anyio.CancelScope(shield=True),
                contextlib.suppress(asyncio.CancelledError),
            ):
                await asyncio.wait(tasks)
        return kind

    def run(
        self, main: Callable[[], Coroutine[Any, Any, T]], options: Mapping[str, Any]
    ) -> T:
        context = contextvars.copy_context()
        sniffio = sys.modules.get("sniffio")
        if sniffio is not None:
            # anyio asks it (https://github.com/agronholm/anyio/blob/4.16.0/src/anyio/_core/_eventloop.py#L215).
            # A thread of `asyncio.to_thread` has inherited the name of a loop:
            # https://docs.python.org/3/library/asyncio-task.html#asyncio.to_thread.
            context.run(
                sniffio.current_async_library_cvar.set, None if options else self.name
            )
        if options:
            run = functools.partial(
                anyio.run, main, backend=self.name, backend_options=dict(options)
            )
            return context.run(run)
        # As `anyio.run` (https://github.com/agronholm/anyio/blob/4.16.0/src/anyio/_backends/_asyncio.py#L2590),
        # which takes 20 µs more: a sixteenth of a small run.
        with asyncio.Runner() as runner:
            return runner.run(main(), context=context)

    @contextlib.contextmanager
    def woken_by_signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, asyncio.SelectorEventLoop):
            # Other loops do so themselves:
            # https://github.com/python/cpython/blob/v3.11.7/Lib/asyncio/proactor_events.py#L642.
            yield
            return
        with contextlib.ExitStack() as stack:
            stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(-1))
            stack.callback(
                loop.call_later(WAKE_DELAY, _let_signals_wake, loop, stack).cancel
            )
            yield

    def clock(self) -> Callable[[], float]:
        loop_time = asyncio.get_running_loop().time
        # `loop.time` itself calls it: https://github.com/python/cpython/blob/v3.11.7/Lib/asyncio/base_events.py#L707.
        if getattr(loop_time, "__func__", None) is asyncio.BaseEventLoop.time:
            return time.monotonic
        return loop_time

    def get_or_create_in_loop(self, make: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        reference = SHARED_OBJECTS.get(loop)
        shared: T | None = None
        if reference is not None:
            shared = reference()
        if shared is None:
            shared = make()
            SHARED_OBJECTS[loop] = weakref.ref(shared)
        return shared

    def name_task(self, task: Any, name: str) -> None:
        if sys.version_info >= (3, 14) and not name.isascii():
            # asyncio's tools take the bytes of a name for ASCII.
            name = name.replace("…", "...").encode("ascii", "backslashreplace").decode()
        task.set_name(name)

    async def yield_to_loop(self) -> None:
        try:  # noqa: SIM105 - `suppress` would double the time
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            # Dropped, because the worker will check its scope.
            pass

    async def wait_until_woken(self, worker: WorkerTask) -> None:
        worker.wake_handle = asyncio.get_running_loop().create_future()
        try:  # noqa: SIM105 - `suppress` would double the time
            await worker.wake_handle
        except asyncio.CancelledError:
            # Dropped, because the worker will check its scope.
            pass

    def wake(self, worker: WorkerTask) -> None:
        # A worker that was cancelled in this iteration of the loop is awake already.
        if not worker.wake_handle.done():
            worker.wake_handle.set_result(None)

    async def sleep_until(self, deadline: float) -> None:
        await asyncio.sleep(max(0, deadline - asyncio.get_running_loop().time()))

    async def wait_readable(self, descriptor: int, deadline: float = math.inf) -> bool:
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:
            # Checked first because, if the descriptor is always readable, no timer fires.
            await asyncio.sleep(0)
            return False
        is_readable: asyncio.Future[bool] = loop.create_future()
        loop.add_reader(descriptor, _set_result, is_readable, True)
        timer = None
        if deadline != math.inf:
            timer = loop.call_at(deadline, _set_result, is_readable, False)
        try:
            return await is_readable
        finally:
            loop.remove_reader(descriptor)
            if timer is not None:
                timer.cancel()

    def threadsafe_caller(self) -> Callable[[Callable[[], None]], None]:
        loop = asyncio.get_running_loop()

        def call(function: Callable[[], None]) -> None:
            with contextlib.suppress(RuntimeError):
                # The loop is closed.
                loop.call_soon_threadsafe(function)

        return call

    def try_acquire(self, limiter: Any, borrower: object) -> bool:
        try:
            limiter.acquire_on_behalf_of_nowait(borrower)
        except anyio.WouldBlock:
            return False
        return True

    def frames(self, worker: WorkerTask) -> Iterator[tuple[FrameType, int]]:
        if worker.task is None:
            return iter(())
        return await_chain(worker.task.get_coro())


def _let_signals_wake(
    loop: asyncio.SelectorEventLoop, stack: contextlib.ExitStack
) -> None:
    """Let signals wake a loop until `stack` is closed, unless `loop.add_signal_handler` of a job does so already."""
    try:
        reader, writer = map(stack.enter_context, socket.socketpair())
    except OSError:
        # No descriptor is left. Until there is a free descriptor, this timer wakes the loop.
        stack.callback(
            loop.call_later(20 * WAKE_DELAY, _let_signals_wake, loop, stack).cancel
        )
        return
    reader.setblocking(False)
    writer.setblocking(False)
    loop.add_reader(reader, reader.recv, 4096)
    stack.callback(loop.remove_reader, reader)
    other = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    if other != -1:
        signal.set_wakeup_fd(other)
    stack.callback(signal.set_wakeup_fd, -1)


def _set_result(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)


def tasks_inside(task: object) -> list[asyncio.Task[Any]]:
    """Return the tasks in the anyio task groups that `task` has opened."""
    child_ids = {
        info.id for info in anyio.get_running_tasks() if info.parent_id == id(task)
    }
    return [child for child in asyncio.all_tasks() if id(child) in child_ids]


# ---- isolation


class EdgeGroup(WorkerGroup):
    """The tasks of a run, native and in no task group. Each of them is cancelled once for each cause."""

    _host: AsyncioHost
    _loop: asyncio.AbstractEventLoop

    def spawn(self, worker: WorkerTask) -> None:
        worker.context = self._context.copy()
        if self._loop.get_task_factory() is None:
            work = worker.work()
        else:
            work = self._work_after_spawn(worker)
        worker.task = task = self._loop.create_task(
            work, context=worker.context, name=IDLE_TASK_NAME
        )
        if add_awaiter is not None:
            add_awaiter(task, self._host.task)
        # Until the first step.
        task.add_done_callback(worker.leave_unstarted, context=self._context)

    async def _work_after_spawn(self, worker: WorkerTask) -> None:
        """Run the worker's function in a task of the program's factory. If it is eager, let `spawn` record the task."""
        if worker.task is None:
            await asyncio.sleep(0)
        coroutine = worker.work()
        # An exception of a job may keep this frame alive, and the frame must not keep the run alive.
        del self, worker
        await coroutine

    def call_at(
        self, when: float, function: Callable[[], None], context: contextvars.Context
    ) -> Callable[[], None]:
        # A cancelled timer keeps its own context until it is due.
        return self._loop.call_at(
            when, context.run, function, context=contextvars.Context()
        ).cancel

    # ---- the deadline of a worker

    def expire(self, worker: WorkerTask) -> None:
        """Cancel a worker because the time of its job's call is over.

        A job that was cancelled unwinds, and has as long for it as it needs: its own timeout is no further cause.
        """
        if not self.is_unwinding(worker):
            worker.deadline = -math.inf
            self.cancel_worker(worker)

    def is_unwinding(self, worker: WorkerTask) -> bool:
        """Return whether the engine has cancelled a worker, or its run, which a forever job outlasts."""
        return worker.cause is not None or (
            self.is_cancelled() and not worker.is_shielded
        )

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        """Set another deadline. If the last deadline has cancelled the task, take that back."""
        if worker.deadline == -math.inf:
            self.take_back(worker)
        worker.deadline = when
        if when < worker.timer_fires_at:
            self.set_timer(worker, when)

    def take_back(self, worker: WorkerTask) -> None:
        """Take back the cancellation by a deadline: a later call of the job must not take this request for its own."""
        worker.task.uncancel()

    def set_timer(self, worker: WorkerTask, when: float) -> None:
        self.stop_timer(worker)
        worker.timer_fires_at = when
        worker.timer = self._loop.call_at(
            when, self._on_timer, worker, context=contextvars.Context()
        )

    def _on_timer(self, worker: WorkerTask) -> None:
        """Cancel a worker whose deadline has passed. If its deadline was postponed, set a new timer instead."""
        fired_at = worker.timer_fires_at
        worker.timer_fires_at = math.inf
        worker.timer = None
        if worker.deadline == fired_at:
            self.expire(worker)
        elif worker.deadline not in (math.inf, -math.inf):
            self.set_timer(worker, worker.deadline)

    def stop_timer(self, worker: WorkerTask) -> None:
        if worker.timer is not None:
            worker.timer.cancel()
            worker.timer = None
            worker.timer_fires_at = math.inf

    def forget(self, worker: WorkerTask) -> None:
        if worker.timer is not None:
            self.stop_timer(worker)
        if discard_awaiter is not None:
            # The edge refers to the host, which may be the task of a worker, too.
            discard_awaiter(worker.task, self._host.task)
        worker.task = worker.context = worker.task_snapshot = worker.scope = None


class CallScope:
    """A scope around a call of a job, with the deadline of the job's worker. It cancels the call once."""

    __slots__ = (
        "_deadline",
        "_group",
        "_is_cancelled",
        "_is_open",
        "_outer_deadline",
        "_worker",
    )

    def __init__(self, worker: WorkerTask, deadline: float) -> None:
        self._worker = worker
        self._group: Any = worker.group  # an `EdgeGroup`
        self._deadline = deadline
        # The deadline of the same worker's scope around this scope.
        self._outer_deadline = math.inf
        self._is_open = self._is_cancelled = False

    @property
    def deadline(self) -> float:
        return self._deadline

    @deadline.setter
    def deadline(self, when: float) -> None:
        self._deadline = when
        if self._is_open and self._worker.deadline != -math.inf:
            self._group.set_deadline(self._worker, min(when, self._outer_deadline))

    def cancel(self) -> None:
        """Cancel the call, unless its time is over already."""
        if self._is_open and self._worker.deadline != -math.inf:
            self._is_cancelled = True
            self._group.expire(self._worker)

    def __enter__(self) -> Self:
        """Set the deadline of the worker, unless its call is over and unwinds."""
        worker = self._worker
        self._outer_deadline = outer = worker.deadline
        self._is_open = outer != -math.inf
        if self._is_open:
            worker.deadline = when = self._deadline if self._deadline < outer else outer
            if when < worker.timer_fires_at:
                self._group.set_timer(worker, when)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Restore the deadline of the worker. Catch the cancellation by this scope, unless there is another cause."""
        worker = self._worker
        was_open = self._is_open
        self._is_open = False
        if not was_open:
            return False
        if worker.deadline != -math.inf:
            # The time is not over, so the timer fires no later than the outer deadline.
            worker.deadline = self._outer_deadline
            return False
        if not self._is_cancelled and self._outer_deadline < self._deadline:
            # The time of a scope around this scope is over.
            return False
        is_caught = False
        if error is not None and not self._group.is_unwinding(worker):
            found = split_cancellations(error, asyncio.CancelledError)
            is_caught = found == (True, None)
        self._group.set_deadline(worker, self._outer_deadline)
        return is_caught


class EdgeIsolation(Isolation):
    """An isolation whose scopes around calls cancel them once."""

    def create_call_scope(self, worker: WorkerTask | None, deadline: float) -> Any:
        if worker is None or worker.task is not self._loop.current_task():
            return self._loop.create_scope(deadline)
        return CallScope(worker, deadline)


class DirectAsyncioGroup(EdgeGroup):
    """The tasks of a run. Each task runs a single job."""

    def prepare(self, outer: object) -> None:
        task = asyncio.current_task()
        is_cancelled = anyio.get_current_task().has_pending_cancellation()
        self.host = self._host = AsyncioHost(
            self._backend, task, is_cancelled, self._context
        )
        self._loop = self._host.loop

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self._host.run(body)
        # The host's shield has blocked this cancellation.
        await anyio.lowlevel.checkpoint_if_cancelled()

    def is_cancelled(self) -> bool:
        """Return whether the host was cancelled. Only the host itself sees at once that a scope around it was."""
        is_host = self._backend.current_task() is self._host.task
        return self._host.is_cancelled() or (
            is_host and anyio.get_current_task().has_pending_cancellation()
        )

    def cancel_worker(self, worker: WorkerTask, repeatedly: bool = False) -> None:
        if worker.task is not None:
            worker.task.cancel()
            if repeatedly:
                self._loop.call_soon(
                    self.cancel_worker, worker, True, context=self._context
                )


class DirectAsyncioSnapshot(TaskSnapshot):
    """The snapshot of a task that runs a single job: only a cancellation may matter later."""

    __slots__ = ("_task",)

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task

    def is_task_unchanged(self) -> bool:
        return not self._task.cancelling()

    def record_iteration(self) -> None:
        """Do nothing: the worker leaves after its job."""


class DirectAsyncio(EdgeIsolation):
    """An isolation that runs each job in a task of its own."""

    group_class = DirectAsyncioGroup
    gives_own_tasks = True

    def attach_current_task(self, worker: WorkerTask) -> TaskSnapshot | None:
        task = worker.task
        task.remove_done_callback(worker.leave_unstarted)
        worker.task_snapshot = snapshot = DirectAsyncioSnapshot(task)
        return None if task.cancelling() else snapshot


LOOP_CLASS: Final = AsyncioLoop
ISOLATION_FACTORY: Final = DirectAsyncio
