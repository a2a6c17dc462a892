"""Plain isolation on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Self, cast

import anyio
import anyio.lowlevel

from .._interface import Backend, ContextVariables, Scope, WorkerFunction, WorkerTask
from ..loop._asyncio import AsyncioHost, tasks_inside
from ._edge_cancellation import EdgeCancelGroup, EdgeCancelIsolation
from ._plain import PlainGroup, PlainIsolation


class PlainAsyncioGroup(EdgeCancelGroup, PlainGroup):
    """The tasks of one run, in an anyio task group. The scope of each worker is a shield: only the run cancels workers.

    The scope of the task group is never cancelled: the task that awaits the run is in this scope too, and could then no
    longer recognize native cancellations.
    """

    __slots__ = ("_host", "_tasks", "_worker_being_spawned", "host")

    def __init__(
        self,
        loop: Backend,
        worker_function: WorkerFunction,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: ContextVariables,
    ) -> None:
        super().__init__(loop, worker_function, context, variables)
        is_pending = self._host_task_info.has_pending_cancellation()
        self._host: AsyncioHost = AsyncioHost(asyncio.current_task(), is_pending, context, deadline, on_deadline)
        self.host = self._host
        self._worker_being_spawned: WorkerTask | None = None

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            async with anyio.create_task_group() as self._tasks:
                await body()
        finally:
            self._host.leave()
        self._host.raise_cancellation()
        # If the task was cancelled natively after its last await, the next await raises the cancellation.
        if self._host_task_info.has_pending_cancellation():
            await asyncio.sleep(0)
        await anyio.lowlevel.checkpoint_if_cancelled()

    def spawn(self, worker: WorkerTask) -> None:
        self._worker_being_spawned = worker
        coroutine = self._run_in_scope(worker)
        self._tasks.create_task(coroutine, context=self._context)
        self._worker_being_spawned = None
        # Check in the second iteration from now, because the task's first step may come last in the next iteration.
        context = self._context.copy()
        loop = self._host.loop
        loop.call_soon(
            lambda: loop.call_soon(self._leave_if_not_begun, worker, coroutine, context=context), context=context
        )

    async def _run_in_scope(self, worker: WorkerTask) -> None:
        """Open the worker's scope in this task, and run the worker in another task inside the scope.

        If a job leaves a scope open or cancels its own task natively, its anyio task fails at the end, and with it the
        task group. So each worker has a task group of its own, whose failure is suppressed.
        """
        if self._worker_being_spawned is worker:  # the loop has an eager task factory
            with contextlib.suppress(asyncio.CancelledError):  # the worker learns of the cancellation from its scope
                await asyncio.sleep(0)
        coroutine = self._worker_function(worker)
        steps = _run_in_steps(worker, coroutine)
        with contextlib.suppress(BaseExceptionGroup, asyncio.CancelledError), self._loop.create_scope() as worker.scope:
            worker.scope.shield = True
            async with anyio.create_task_group() as tasks:
                tasks.create_task(steps)
        steps.close()  # the task may have been cancelled before its first step
        coroutine.close()
        worker.leave_unstarted()

    def _leave_if_not_begun(self, worker: WorkerTask, coroutine: Coroutine[Any, Any, None]) -> None:
        """Make a worker leave the run if its task was cancelled before its first step."""
        if worker.scope is None and self._worker_being_spawned is not worker:
            coroutine.close()
            worker.leave_unstarted()

    def is_cancelled(self) -> bool:
        return self._host.is_cancelled() or super().is_cancelled()

    def shield(self, worker: WorkerTask) -> None:
        """Do nothing: `cancel` gets the workers that it cancels."""

    def forget(self, worker: WorkerTask) -> None:
        self.stop_timer(worker)
        super().forget(worker)

    def _cancel_task(self, worker: WorkerTask, repeatedly: bool = False) -> None:
        scope = _job_scope(worker)
        if scope is not None:
            scope.request(repeatedly)

    def _withdraw(self, worker: WorkerTask) -> bool:
        scope = _job_scope(worker)
        if scope is None or not scope.is_pending:
            return False
        if not worker.was_cancelled:
            scope.withdraw()
        return True


class JobScope:
    """A scope around the job of a worker, which cancels the job once for each request, outside of shields.

    It consists of two scopes of anyio. A request cancels the outer one; the inner one is a shield. While that shield
    is down, anyio cancels the job, unless the job is in another shield. So it is down only until the job has been
    cancelled once. While the job is in a shield of its own, the request is pending. Then the inner shield stays down,
    so that anyio shows the cancellation to functions of the job in threads; but not if the job has child tasks, whose
    checkpoints would wait there until they are cancelled. After each step of the task, `after_step` checks whether the
    job may have left its shield.
    """

    shield = False
    deadline = cancel_called = cancelled_caught = None  # of a `Scope`, but not used here

    def __init__(self, loop: Backend) -> None:
        self._outer, self._inner = loop.create_scope(), loop.create_scope()
        self._inner.shield = True
        self._is_repeated = False
        self.is_pending = False

    def __enter__(self) -> Self:
        self._task: Any = asyncio.current_task()
        self._task_info = anyio.get_current_task()
        self._outer.__enter__()
        self._inner.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self.is_pending = False
        self._inner.__exit__(None, None, None)
        self._outer.__exit__(None, None, None)

    def cancel(self) -> None:
        self.request(repeatedly=True)

    def request(self, repeatedly: bool = False) -> None:
        """Cancel the job, or remember to do so when it has left its shields."""
        self._is_repeated = self._is_repeated or repeatedly
        self.is_pending = True
        self._outer.cancel()  # not earlier, because anyio formats a message
        self._try_to_deliver()

    def withdraw(self) -> None:
        self.is_pending, self._inner.shield = False, True

    def _try_to_deliver(self) -> None:
        if self._is_repeated:
            self._inner.shield = False
        elif self.is_pending and asyncio.current_task() is not self._task:
            request_count = self._task.cancelling()
            self._inner.shield = False  # anyio now cancels the job, if it can
            self.is_pending = self._task.cancelling() == request_count
            is_in_shield = not self._task_info.has_pending_cancellation()
            self._inner.shield = not (self.is_pending and is_in_shield) or bool(tasks_inside(self._task))
            if self.is_pending and not is_in_shield:  # anyio would wait, because a result has arrived already
                self.is_pending = False
                self._task.cancel()

    def after_step(self) -> None:
        """Retry a pending request after a step of the task, if the job may have left its shield in this step."""
        if self.is_pending and not self._is_repeated:
            is_in_shield = not self._inner.shield and not self._task_info.has_pending_cancellation()
            if not is_in_shield or tasks_inside(self._task):
                self._inner.shield = True
                self._retry()

    def _retry(self) -> None:
        self._task.get_loop().call_soon(self._try_to_deliver)


def _job_scope(worker: WorkerTask) -> JobScope | None:
    return None if worker.task_snapshot is None else cast("JobScope | None", worker.task_snapshot.scope)


async def _run_in_steps(worker: WorkerTask, coroutine: Coroutine[Any, Any, None]) -> None:
    await _steps(worker, coroutine)


@types.coroutine
def _steps(worker: WorkerTask, coroutine: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    """Await a worker's coroutine, and call `after_step` of the scope around its job after each step."""
    value: Any = None
    step: Callable[[Any], Any] = coroutine.send
    while True:
        try:
            awaited = step(value)
        except StopIteration:
            return
        scope = _job_scope(worker)
        if scope is not None:
            scope.after_step()
        try:
            value, step = (yield awaited), coroutine.send
        except BaseException as error:
            value, step = error, coroutine.throw


class PlainAsyncioIsolation(EdgeCancelIsolation, PlainIsolation):
    def __init__(self, loop: Backend) -> None:
        super().__init__(PlainAsyncioGroup, loop)

    def _create_job_scope(self) -> Scope:
        return cast("Scope", JobScope(self._loop))


ISOLATION_FACTORY: Final = PlainAsyncioIsolation
