"""Direct isolation on trio, by public names alone: each job has a cancel scope of its own, and its label as task name.

It takes the place of fast isolation if a private attribute of trio is not as expected. A task runs another job, in a
new scope, if the last one has left no trace in it. What a job leaves open, a cancel scope or a nursery, is an error of
trio when the job's scope is left, before any other job, and ends the run.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

import trio

from .._interface import ContextVariables, Isolation, TaskSnapshot, WorkerGroup, WorkerTask
from .._shared import IDLE_TASK_NAME, getrefcount, getweakrefcount, has_values
from ..loop._trio import TrioHost

# A value of `Task.custom_sleep_data`, which trio sets to None whenever it reschedules the task.
NOT_RESCHEDULED: Final = "in the turn of trioflow's worker"


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
        self._context.run(self._host.nursery.start_soon, worker.work, name=IDLE_TASK_NAME)

    def is_interchangeable(self, other: WorkerGroup) -> bool:
        return other is self

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
        if worker.scope is not None:
            worker.scope.cancel()

    def forget(self, worker: WorkerTask) -> None:
        scope = worker.scope
        super().forget(worker)
        if scope is not None:
            scope.__exit__(None, None, None)


CANCELLATION_REFERENCE_COUNT: Final = 3
"""The number of references to a task that trio's own frames keep after a wait of the task was cancelled.

Each `trio.sleep` ends so, and the frames exist until the next step of any task. If the references counted as left
behind by the job, a worker would leave after each sleep. If trio keeps another number, only this speedup is lost.
"""


class DirectTrioSnapshot(TaskSnapshot):
    """The state of a worker's task before its first job, to find out whether a job has left a trace in it."""

    __slots__ = ("_context", "_reference_count", "_task")

    def __init__(self, worker: WorkerTask) -> None:
        # These local variables are references, too, and count because the methods that compare have them as well.
        self._task = task = worker.task
        self._context = context = task.context
        # Code that has a reference to the task or its context may set variables in the context later.
        self._reference_count = getrefcount(task) + getweakrefcount(task) + getrefcount(context)

    def is_task_unchanged(self) -> bool:
        """Return True: a change matters only to a next job in the task; see `is_like_new`."""
        return True

    def is_like_new(self, variables: ContextVariables) -> bool:
        """Return whether the task has these context variables, and no further references."""
        task, context = self._task, self._context
        count = getrefcount(task) + getweakrefcount(task) + getrefcount(context) - self._reference_count
        if count not in (0, CANCELLATION_REFERENCE_COUNT) or len(context) != len(variables) + 1:  # 1: for the worker
            return False
        return has_values(context, variables)

    def record_iteration(self) -> None:
        self._task.custom_sleep_data = NOT_RESCHEDULED

    def is_same_iteration(self) -> bool:
        return self._task.custom_sleep_data is NOT_RESCHEDULED


class DirectTrio(Isolation):
    """An isolation that runs each job in a cancel scope of its own."""

    group_class = DirectTrioGroup
    gives_own_tasks = True

    def attach_current_task(self, worker: WorkerTask) -> TaskSnapshot | None:
        worker.task = trio.lowlevel.current_task()
        worker.scope = trio.CancelScope().__enter__()
        worker.task_snapshot = snapshot = DirectTrioSnapshot(worker)
        return snapshot

    def renew_task(self, worker: WorkerTask) -> bool:
        if worker.scope.cancel_called or not worker.task_snapshot.is_like_new(worker.group.variables):
            return False
        worker.scope.__exit__(None, None, None)
        worker.scope = trio.CancelScope().__enter__()
        return True

    def was_cancelled(self, worker: WorkerTask) -> bool:
        return trio.current_effective_deadline() == -math.inf


ISOLATION_FACTORY: Final = DirectTrio
