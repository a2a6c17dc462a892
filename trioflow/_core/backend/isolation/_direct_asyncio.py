"""Direct isolation on asyncio, by public names alone: each job has a native task of its own.

It takes the place of fast isolation if a private attribute of anyio is not as expected. Then:

- A job is cancelled at once in a shield of anyio, too, as by any `Task.cancel()`.
- Scopes and groups that a job leaves open are not noticed, and go on.
- `current_effective_deadline()` does not show deadlines from outside the job.
- `current_job()` in a task of a group around the run may be a job that runs at that time.
- A run stops in the turn of the loop after a scope around it was cancelled, not at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import anyio
import anyio.lowlevel

from .._interface import TaskSnapshot, WorkerTask
from ..loop._asyncio import AsyncioHost
from ._edge_asyncio import EdgeGroup, EdgeIsolation


class DirectAsyncioGroup(EdgeGroup):
    """The tasks of one run, each of which runs one job."""

    def prepare(self, outer: Any) -> None:
        task, is_cancelled = asyncio.current_task(), anyio.get_current_task().has_pending_cancellation()
        self.host = self._host = AsyncioHost(self._backend, task, is_cancelled, self._context)
        self._loop = self._host.loop

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self._host.run(body)
        await anyio.lowlevel.checkpoint_if_cancelled()  # which the host's shield has blocked

    def is_cancelled(self) -> bool:
        """Return whether the host was cancelled; only the host itself sees at once that a scope around it was."""
        is_host = self._backend.current_task() is self._host.task
        return self._host.is_cancelled() or (is_host and anyio.get_current_task().has_pending_cancellation())

    def cancel_worker(self, worker: WorkerTask, repeatedly: bool = False) -> None:
        if worker.task is not None:
            worker.task.cancel()
            if repeatedly:
                self._loop.call_soon(self.cancel_worker, worker, True, context=self._context)


class DirectAsyncioSnapshot(TaskSnapshot):
    """The snapshot of a task that runs one job alone: what may matter later is whether it was cancelled."""

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


ISOLATION_FACTORY: Final = DirectAsyncio
