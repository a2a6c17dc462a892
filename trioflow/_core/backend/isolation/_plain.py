"""Plain isolation: each job has a task and a cancel scope of its own, and only public APIs are used.

Fast isolation uses private attributes of trio and anyio to find out whether a job has changed its task, and to insert a
scope around the task of another worker. Plain isolation needs neither. A worker runs one job and then retires. Its
scope is opened in advance, in another task around its own:

```
run's task group ──► outer task: the worker's scope, a task group ──► worker's task: the scope around the job ──► job
```

If the scope around the job cannot be exited after the job, the job has left something open, which is then closed.

Plain isolation has these limitations:

- The log does not name a job that blocks the event loop.
- On trio, if a job has left a nursery open, the errors in the nursery are lost, even a SystemExit.
- On trio, an async generator that is abandoned inside an open nursery may cause an internal error of trio, as in any
  task of trio.
- On asyncio, if a worker's task is cancelled natively before its first step, the run ends as if it had been cancelled.
- On asyncio, while a cancelled job is in a shield, child tasks outside the shield are cancelled.
- On asyncio, `anyio.current_effective_deadline()` does not show deadlines from outside the job.
- On asyncio, if a job has left a shielded scope open, the tasks in the scope are not cancelled, but awaited.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable

import anyio

from .._interface import (
    Backend,
    ContextVariables,
    Isolation,
    Scope,
    TaskSnapshot,
    WorkerFunction,
    WorkerGroup,
    WorkerTask,
)


class PlainGroup(WorkerGroup):
    """The base class of the worker groups on trio and asyncio. Each task of the group is in a scope of its own."""

    __slots__ = ("_context", "_host_task_info", "_loop", "_worker_function", "variables")

    def __init__(
        self, loop: Backend, worker_function: WorkerFunction, context: contextvars.Context, variables: ContextVariables
    ) -> None:
        self.variables = variables
        self._loop = loop
        self._worker_function = worker_function
        self._context = context
        self._host_task_info = anyio.get_current_task()

    def is_cancelled(self) -> bool:
        return self._host_task_info.has_pending_cancellation()

    def shield(self, worker: WorkerTask) -> None:
        get_worker_scope(worker).shield = True

    def cancel_worker(self, worker: WorkerTask) -> None:
        if worker.task_snapshot is not None:
            get_worker_scope(worker).cancel()

    def forget(self, worker: WorkerTask) -> None:
        """Exit the scope that was entered for a job, if the worker has run no job."""
        if worker.task_snapshot is not None:
            worker.task_snapshot.exit_scope()


class PlainTaskSnapshot(TaskSnapshot):
    """A scope around a worker's job. After the job, this scope shows whether the job has left other scopes open."""

    __slots__ = ("_isolation", "_scope", "_worker", "left_scope")

    def __init__(self, isolation: Isolation, worker: WorkerTask, scope: Scope) -> None:
        self._isolation = isolation
        self._worker = worker
        self._scope: Scope | None = scope
        self.left_scope: Scope | None = None  # a scope around a call that was left although it had open ones inside
        scope.__enter__()

    def is_task_unchanged(self) -> bool:
        """Return whether the task has run no job and is not cancelled."""
        return self._worker.job is None and not self._isolation.was_cancelled(self._worker)

    def mark_changed(self) -> None:
        pass

    def record_iteration(self) -> None:
        pass

    def is_same_iteration(self) -> bool:
        return False

    @property
    def scope(self) -> Scope | None:
        """The scope around the job, until it is exited."""
        return self._scope

    def exit_scope(self) -> Scope | None:
        """Exit the scope around the job.

        Returns:
            The scope, or the one around a call, if the job has left another scope open inside it; otherwise None.

        """
        scope, self._scope = self._scope, None
        if scope is not None:
            try:
                scope.__exit__(None, None, None)
            except RuntimeError:  # the error of trio or anyio for a scope that is not the innermost one
                return scope
        return self.left_scope


class PlainIsolation(Isolation):
    """An isolation that runs each job in a task and a cancel scope of its own."""

    def __init__(self, group_class: Callable[..., PlainGroup], loop: Backend) -> None:
        super().__init__(loop)
        self._group_class = group_class

    def create_group(
        self,
        worker_function: WorkerFunction,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: ContextVariables,
        outer: WorkerGroup | None = None,
    ) -> WorkerGroup:
        return self._group_class(self._loop, worker_function, deadline, on_deadline, context, variables)

    def attach_current_task(self, worker: WorkerTask) -> TaskSnapshot | None:
        worker.task = self._loop.current_task()
        worker.task_snapshot = snapshot = PlainTaskSnapshot(self, worker, self._create_job_scope())
        return snapshot if snapshot.is_task_unchanged() else None

    def _create_job_scope(self) -> Scope:
        return self._loop.create_scope()

    async def close_leftovers(self, worker: WorkerTask) -> tuple[str | None, BaseException | None]:
        scope = worker.task_snapshot.exit_scope()
        return (None if scope is None else await self._loop.end_tasks_in(worker.task, scope)), None

    def was_cancelled(self, worker: WorkerTask) -> bool:
        scope, group = worker.scope, worker.group
        if (scope is not None and scope.cancel_called) or group.host.is_cancelled():
            return True
        return not (scope is not None and scope.shield) and group.is_cancelled()


def get_worker_scope(worker: WorkerTask) -> Scope:
    """Return the scope around a worker, which must have begun: before its first step it has no scope."""
    assert worker.scope is not None
    return worker.scope
