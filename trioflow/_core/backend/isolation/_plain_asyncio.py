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
from ._plain import PlainGroup, PlainIsolation, worker_scope

if TYPE_CHECKING:
    from .._interface import Backend, Variables, Work, WorkerTask


class PlainAsyncioGroup(PlainGroup):
    """The tasks of one run, in an anyio task group; a timer and the scope of each worker have the run's deadline.

    The scope of the task group is never cancelled, because the task that awaits the run is in it, and has to recognize
    native cancellations. Instead, the scope of each worker is cancelled.
    """

    __slots__ = ("_deadline", "_host", "_spawning", "_tasks", "_workers", "host")

    def __init__(
        self,
        loop: Backend,
        work: Work,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: Variables,
    ) -> None:
        super().__init__(loop, work, context, variables)
        self._deadline = deadline
        is_pending = self._host_info.has_pending_cancellation()
        self._host: AsyncioHost = AsyncioHost(asyncio.current_task(), is_pending, context, deadline, on_deadline)
        self.host = self._host
        self._spawning: WorkerTask | None = None
        self._workers: dict[WorkerTask, None] = {}  # the workers that have begun

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            async with anyio.create_task_group() as self._tasks:
                await body()
        finally:
            self._host.leave()
        self._host.raise_cancellation()
        if self._host_info.has_pending_cancellation():  # a native cancellation since the last await
            await asyncio.sleep(0)
        await anyio.lowlevel.checkpoint_if_cancelled()

    def spawn(self, worker: WorkerTask) -> None:
        self._spawning = worker
        coroutine = self._run_in_scope(worker)
        self._tasks.create_task(coroutine, context=self._context)
        self._spawning = None
        context = self._context.copy()  # two turns from now: the first step may be the last one of the next turn
        loop = self._host.loop
        loop.call_soon(lambda: loop.call_soon(self._check_begun, worker, coroutine, context=context), context=context)

    async def _run_in_scope(self, worker: WorkerTask) -> None:
        """Open the worker's scope in this task, and run the worker in a task inside it.

        If a job leaves a scope open or cancels its own task natively, an anyio task fails at its end, and so does its
        task group. So each worker has a task group, whose failure is suppressed.
        """
        if self._spawning is worker:  # the loop has an eager task factory
            with contextlib.suppress(asyncio.CancelledError):  # the worker finds out from its scope
                await asyncio.sleep(0)
        work = self._work(worker)
        self._workers[worker] = None
        with contextlib.suppress(BaseExceptionGroup, asyncio.CancelledError), self._loop.scope() as worker.scope:
            worker.scope.deadline = self._deadline
            async with anyio.create_task_group() as tasks:
                tasks.create_task(work)
        work.close()  # the task may have been cancelled before its first step
        del self._workers[worker]
        worker.leave_unstarted()

    def _check_begun(self, worker: WorkerTask, coroutine: Coroutine[Any, Any, None]) -> None:
        """Make a worker leave if its task was cancelled before its first step."""
        if worker.scope is None and self._spawning is not worker:
            coroutine.close()
            worker.leave_unstarted()

    def is_cancelled(self) -> bool:
        return self._stopped or super().is_cancelled() or self._host.is_cancelled()

    def cancel(self) -> None:
        self._stopped = True
        for worker in self._workers:
            if not worker_scope(worker).shield:
                worker_scope(worker).cancel()

    def shield(self, worker: WorkerTask) -> None:
        """Shield this worker from `cancel` and from the run's deadline."""
        super().shield(worker)
        worker_scope(worker).deadline = math.inf

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        super().set_deadline(worker, when if worker_scope(worker).shield else min(when, self._deadline))


ISOLATION: Final = partial(PlainIsolation, PlainAsyncioGroup)
