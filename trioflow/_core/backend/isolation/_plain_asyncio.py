"""Plain isolation on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.lowlevel

from ..loop._asyncio import AsyncioHost
from ._plain import PlainGroup, PlainIsolation, get_worker_scope

if TYPE_CHECKING:
    from .._interface import Backend, ContextVariables, WorkerFunction, WorkerTask


class PlainAsyncioGroup(PlainGroup):
    """The tasks of one run, in an anyio task group. A timer and the scope of each worker have the run's deadline.

    The scope of the task group is never cancelled: the task that awaits the run is in this scope too, and could then no
    longer recognize native cancellations. Instead, the scope of each worker is cancelled.
    """

    __slots__ = ("_deadline", "_host", "_tasks", "_worker_being_spawned", "_workers", "host")

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
        self._deadline = deadline
        is_pending = self._host_task_info.has_pending_cancellation()
        self._host: AsyncioHost = AsyncioHost(asyncio.current_task(), is_pending, context, deadline, on_deadline)
        self.host = self._host
        self._worker_being_spawned: WorkerTask | None = None
        self._workers: dict[WorkerTask, None] = {}  # the workers that have begun

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
        self._workers[worker] = None
        with contextlib.suppress(BaseExceptionGroup, asyncio.CancelledError), self._loop.create_scope() as worker.scope:
            worker.scope.deadline = self._deadline
            async with anyio.create_task_group() as tasks:
                tasks.create_task(coroutine)
        coroutine.close()  # the task may have been cancelled before its first step
        del self._workers[worker]
        worker.leave_unstarted()

    def _leave_if_not_begun(self, worker: WorkerTask, coroutine: Coroutine[Any, Any, None]) -> None:
        """Make a worker leave the run if its task was cancelled before its first step."""
        if worker.scope is None and self._worker_being_spawned is not worker:
            coroutine.close()
            worker.leave_unstarted()

    def is_cancelled(self) -> bool:
        return self._was_cancel_called or super().is_cancelled() or self._host.is_cancelled()

    def cancel(self) -> None:
        self._was_cancel_called = True
        for worker in self._workers:
            if not get_worker_scope(worker).shield:
                get_worker_scope(worker).cancel()

    def shield(self, worker: WorkerTask) -> None:
        """Shield this worker from `cancel` and from the run's deadline."""
        super().shield(worker)
        get_worker_scope(worker).deadline = math.inf

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        super().set_deadline(worker, when if get_worker_scope(worker).shield else min(when, self._deadline))


ISOLATION_FACTORY: Final = partial(PlainIsolation, PlainAsyncioGroup)
