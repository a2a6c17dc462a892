"""The asyncio backend's event loop, using only the public APIs of asyncio and anyio."""

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
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio

from .. import _shared
from .._interface import Backend, HostTask, WorkerTask

if TYPE_CHECKING:
    from .._interface import Scope

T = TypeVar("T")
SHARED_OBJECTS: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any]] = weakref.WeakKeyDictionary()
"""For each event loop, the object that all runs in the loop share."""
WAKE_DELAY: Final = 0.05
"""Seconds after which signals wake the loop of a run; most short runs do without, as this takes a fifth of theirs."""


class AsyncioHost(HostTask):
    """The task that awaits a run."""

    def __init__(self, backend: Backend, task: Any, is_being_cancelled: bool, context: contextvars.Context) -> None:
        self._backend = backend
        self.task: Any = task  # None after the run: the task of a worker retires if a reference to it is left behind
        # How many times the task was cancelled before the run, except for a pending cancellation: that cancels the run.
        self._initial_request_count = task.cancelling() - is_being_cancelled
        # The last native cancellation of the task, which is raised again at the end of the run.
        self._cancellation: BaseException | None = None
        self._context = context
        # Stored because `get_running_loop` is slow before Python 3.12: it calls getpid().
        self.loop: asyncio.AbstractEventLoop = task.get_loop()

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `body()`. Then raise any native cancellation of the task."""
        try:
            await body()
        finally:
            is_cancelled, self.task = self.is_cancelled(), None
        if self._cancellation is not None:
            try:
                raise self._cancellation
            finally:
                self._cancellation = None
        if is_cancelled:  # since the last await, so this one raises the cancellation
            await asyncio.sleep(0)

    def keep(self, cancellation: BaseException) -> None:
        if asyncio.current_task() is self.task:  # otherwise, it is the task of the ending, which nobody awaits
            self._cancellation = cancellation

    async def yield_in_ending(self, is_unwinding: bool) -> bool:
        return not is_unwinding and await self.yield_to_loop()

    async def run_uninterrupted(
        self, function: Callable[[], Coroutine[Any, Any, None]], on_interrupt: Callable[[], None]
    ) -> None:
        """Await `function()` in a new task, because no shield protects this task from a native `Task.cancel()`.

        The shield blocks only cancellations by scopes, which anyio delivers repeatedly: all but the first. If the new
        task is cancelled, `function` is called again, and has to resume its work.
        """
        while True:
            task = self.loop.create_task(function(), context=self._context.copy())
            while not task.done():
                with anyio.CancelScope(shield=anyio.get_current_task().has_pending_cancellation()):
                    try:
                        await asyncio.wait([task])
                    except asyncio.CancelledError as cancellation:
                        self._cancellation = cancellation  # it is raised when the ending is over
                        on_interrupt()
            if not task.cancelled():  # otherwise repeat: it was cancelled with all other tasks of the loop
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

    @functools.cached_property
    def _scope_class(self) -> type[anyio.CancelScope]:
        """The class of the objects that `anyio.CancelScope` returns. Calling it directly takes a third of the time."""
        return type(anyio.CancelScope())

    def create_scope(self, deadline: float = math.inf) -> Scope:
        return self._scope_class(deadline=deadline)

    def current_task(self) -> Any:
        try:
            return asyncio.current_task()
        except RuntimeError:  # this thread has no loop
            return None

    def ancestry(self, task: Any) -> Iterator[object]:
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

    async def end_tasks_in(self, task: Any, scope: Scope) -> str:
        """Cancel the tasks in task groups that were left open, and wait for them; see `Backend`."""
        kind = "cancel scope"
        scope.cancel()
        while tasks := tasks_inside(task):
            kind = "task group"
            with anyio.CancelScope(shield=True), contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(tasks)
        return kind

    def run(self, main: Callable[[], Coroutine[Any, Any, T]], options: Mapping[str, Any]) -> T:
        context, sniffio = contextvars.copy_context(), sys.modules.get("sniffio")
        if sniffio is not None:  # anyio asks it; a thread of `asyncio.to_thread` has inherited the name of a loop
            context.run(sniffio.current_async_library_cvar.set, None if options else self.name)
        if options:
            run = functools.partial(anyio.run, main, backend=self.name, backend_options=dict(options))
            return context.run(run)
        with asyncio.Runner() as runner:  # as `anyio.run`, which takes 20 µs more: a sixteenth of a small run
            return runner.run(main(), context=context)

    @contextlib.contextmanager
    def woken_by_signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, asyncio.SelectorEventLoop):  # others do so themselves
            yield
            return
        with contextlib.ExitStack() as stack:
            stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(-1))
            stack.callback(loop.call_later(WAKE_DELAY, _let_signals_wake, loop, stack).cancel)
            yield

    def abandoned_coroutines(self, main_task: Any) -> list[Any]:
        others = asyncio.all_tasks(main_task.get_loop()) - {main_task}
        return [task.get_coro() for task in (*others, main_task)]

    def clock(self) -> Callable[[], float]:
        loop_time = asyncio.get_running_loop().time
        if getattr(loop_time, "__func__", None) is asyncio.BaseEventLoop.time:
            return time.monotonic  # what `loop.time` itself calls
        return loop_time

    def get_or_create_in_loop(self, make: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        shared = SHARED_OBJECTS.get(loop)
        if shared is None:
            SHARED_OBJECTS[loop] = shared = make()
        return shared

    def name_task(self, task: Any, name: str) -> None:
        if sys.version_info >= (3, 14) and not name.isascii():  # asyncio's tools take the bytes of a name for ASCII
            name = name.replace("…", "...").encode("ascii", "backslashreplace").decode()
        task.set_name(name)

    async def yield_to_loop(self) -> None:
        try:  # noqa: SIM105 - `suppress` would double the time
            await asyncio.sleep(0)
        except asyncio.CancelledError:  # dropped, because the worker will check its scope
            pass

    async def wait_until_woken(self, worker: WorkerTask) -> None:
        worker.wake_handle = asyncio.get_running_loop().create_future()
        try:  # noqa: SIM105 - `suppress` would double the time
            await worker.wake_handle
        except asyncio.CancelledError:  # dropped, because the worker will check its scope
            pass

    def wake(self, worker: WorkerTask) -> None:
        if not worker.wake_handle.done():  # it is done if the worker was cancelled in this iteration of the loop
            worker.wake_handle.set_result(None)

    async def sleep_until(self, deadline: float) -> None:
        await asyncio.sleep(max(0, deadline - asyncio.get_running_loop().time()))

    async def wait_readable(self, descriptor: int, deadline: float = math.inf) -> bool:
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:  # checked first because, if the descriptor is always readable, no timer fires
            await asyncio.sleep(0)
            return False
        is_readable: asyncio.Future[bool] = loop.create_future()
        loop.add_reader(descriptor, _set_result, is_readable, True)
        timer = None if deadline == math.inf else loop.call_at(deadline, _set_result, is_readable, False)
        try:
            return await is_readable
        finally:
            loop.remove_reader(descriptor)
            if timer is not None:
                timer.cancel()

    def needed_backend(self, exception: BaseException) -> str | None:
        is_foreign = _shared.matches_any(
            exception,
            (RuntimeError, "must be called from async context"),
            (RuntimeError, "Task got bad yield"),
            (AttributeError, "'RunContext' object has no attribute 'runner'"),  # from open_nursery()
        )
        return "trio" if is_foreign else None

    def threadsafe_caller(self) -> Callable[[Callable[[], None]], None]:
        loop = asyncio.get_running_loop()

        def call(function: Callable[[], None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(function)

        return call

    def try_acquire(self, limiter: Any, borrower: object) -> bool:
        try:
            limiter.acquire_on_behalf_of_nowait(borrower)
        except anyio.WouldBlock:
            return False
        return True

    def frames(self, worker: WorkerTask) -> Iterator[tuple[FrameType, int]]:
        task = worker.task
        return _shared.await_chain(None if task is None else task.get_coro())


def _let_signals_wake(loop: asyncio.SelectorEventLoop, stack: contextlib.ExitStack) -> None:
    """Let signals wake a loop until `stack` is closed, unless `loop.add_signal_handler` of a job does so already."""
    reader, writer = map(stack.enter_context, socket.socketpair())
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


def tasks_inside(task: Any) -> list[asyncio.Task[Any]]:
    """Return the tasks in the anyio task groups that `task` has opened."""
    child_ids = {info.id for info in anyio.get_running_tasks() if info.parent_id == id(task)}
    return [child for child in asyncio.all_tasks() if id(child) in child_ids]


LOOP_CLASS: Final = AsyncioLoop
