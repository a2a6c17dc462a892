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
    """A task group of anyio; the deadline is a timer of the loop, and the deadline of each worker's scope.

    The task group's scope is never cancelled: the task that awaits the run is in it, and has to recognize native
    cancellations. Each worker's scope is cancelled instead.
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
        if self._host_info.has_pending_cancellation():  # cancelled natively, without an await since
            await asyncio.sleep(0)
        await anyio.lowlevel.checkpoint_if_cancelled()

    def spawn(self, worker: WorkerTask) -> None:
        self._spawning = worker
        outside = self._outside(worker)
        self._tasks.create_task(outside, context=self._context)
        self._spawning = None
        context = self._context.copy()  # two turns later: in the next one the task may make its first step last
        loop = self._host.loop
        loop.call_soon(lambda: loop.call_soon(self._check_begun, worker, outside, context=context), context=context)

    async def _outside(self, worker: WorkerTask) -> None:
        """Run the worker in a task of its own, inside its scope, which is in this task.

        A task of anyio in which a job left a scope open fails at its end, and its task group with it. So does one with
        a native cancellation of the job's own. This group holds the one task, and its failure is dropped.
        """
        if self._spawning is worker:  # the loop's task factory is an eager one
            with contextlib.suppress(asyncio.CancelledError):  # the worker checks its scope first
                await asyncio.sleep(0)
        inside = self._work(worker)
        self._workers[worker] = None
        with contextlib.suppress(BaseExceptionGroup, asyncio.CancelledError), self._loop.scope() as worker.scope:
            worker.scope.deadline = self._deadline
            async with anyio.create_task_group() as tasks:
                tasks.create_task(inside)
        inside.close()  # if the task was cancelled before its first step
        del self._workers[worker]
        worker.leave_unstarted()

    def _check_begun(self, worker: WorkerTask, outside: Coroutine[Any, Any, None]) -> None:
        """Have a worker leave if its task was cancelled before its first step, which was due a turn ago."""
        if worker.scope is None and self._spawning is not worker:
            outside.close()
            worker.leave_unstarted()

    def is_cancelled(self) -> bool:
        return self._stopped or super().is_cancelled() or self._host.is_cancelled()

    def cancel(self) -> None:
        self._stopped = True
        for worker in self._workers:
            if not worker_scope(worker).shield:
                worker_scope(worker).cancel()

    def shield(self, worker: WorkerTask) -> None:
        """Keep `cancel` and the deadline from cancelling this worker."""
        super().shield(worker)
        worker_scope(worker).deadline = math.inf

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        super().set_deadline(worker, when if worker_scope(worker).shield else min(when, self._deadline))


ISOLATION: Final = partial(PlainIsolation, PlainAsyncioGroup)
