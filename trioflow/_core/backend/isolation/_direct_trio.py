"""Direct isolation on trio, by public names alone: each job has a task and a cancel scope of its own.

It takes the place of fast isolation if a private attribute of trio is not as expected. What a job leaves open, a cancel
scope or a nursery, is an error of trio when its task ends, and ends the run.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

import trio

from .._interface import Isolation, OwnTaskSnapshot, TaskSnapshot, WorkerGroup, WorkerTask
from .._shared import IDLE_TASK_NAME
from ..loop._trio import TrioHost


class DirectTrioGroup(WorkerGroup):
    """The tasks of one run, in a nursery of its own and in a cancel scope with the run's deadline."""

    ends_at_deadline = True

    def prepare(self, outer: WorkerGroup | None) -> None:
        self.host = self._host = TrioHost(self._backend, self._context)
        self._host_task = trio.lowlevel.current_task()
        self._scope = trio.CancelScope(deadline=self._deadline)

    @trio.lowlevel.enable_ki_protection
    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with self._scope:
            async with trio.open_nursery() as self._host.nursery:
                await body()
        await trio.lowlevel.checkpoint_if_cancelled()

    def spawn(self, worker: WorkerTask) -> None:
        worker.scope = trio.CancelScope()
        self._context.run(self._host.nursery.start_soon, self._run_in_scope, worker, name=IDLE_TASK_NAME)

    @trio.lowlevel.enable_ki_protection
    async def _run_in_scope(self, worker: WorkerTask) -> None:
        with worker.scope:
            await worker.work()

    def call_at(self, when: float, function: Callable[[], None], context: contextvars.Context) -> Callable[[], None]:
        scope = trio.CancelScope(shield=True)
        context.run(self._host.nursery.start_soon, self._call_in_scope, scope, when, function)
        return scope.cancel

    @trio.lowlevel.enable_ki_protection
    async def _call_in_scope(self, scope: trio.CancelScope, when: float, function: Callable[[], None]) -> None:
        with scope:
            await trio.sleep_until(when)
            if not scope.cancel_called:
                function()

    def is_cancelled(self) -> bool:
        """Return whether the group was cancelled; only the host sees at once that a scope around the run was."""
        is_host = self._backend.current_task() is self._host_task
        return self._scope.cancel_called or (is_host and trio.current_effective_deadline() == -math.inf)

    def cancel(self, workers: Iterable[WorkerTask]) -> None:
        self._scope.cancel()

    def shield(self, worker: WorkerTask) -> None:
        worker.scope.shield = True

    def cancel_worker(self, worker: WorkerTask, repeatedly: bool = False) -> None:
        worker.scope.cancel()


class DirectTrio(Isolation):
    """An isolation that runs each job in a task and a cancel scope of its own."""

    group_class = DirectTrioGroup
    gives_own_tasks = True

    def attach_current_task(self, worker: WorkerTask) -> TaskSnapshot | None:
        worker.task = trio.lowlevel.current_task()
        worker.task_snapshot = snapshot = OwnTaskSnapshot()
        return snapshot

    def was_cancelled(self, worker: WorkerTask) -> bool:
        return trio.current_effective_deadline() == -math.inf


ISOLATION_FACTORY: Final = DirectTrio
