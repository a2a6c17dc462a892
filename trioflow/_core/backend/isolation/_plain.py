"""Plain isolation: each job has a task and a cancel scope of its own, with public names only.

Fast isolation uses private attributes of trio and anyio to find out whether a job changed its task, and to insert a
scope around the task of another worker. Plain isolation needs neither. A worker runs one job and then retires. Its
scope exists from the beginning, in another task around its own:

```
run's task group ──► outer task: the worker's scope, a task group ──► worker's task: the scope around the job ──► job
```

If the scope around the job cannot be exited after the job, the job has left something open, which is then closed.

Plain isolation does not keep these promises:

- A job that blocks the event loop is not named in the log.
- trio: the errors in a nursery that a job left open are lost, SystemExit included.
- trio: an async generator that is abandoned inside an open nursery may cause an internal error of trio, as in any
  task of trio.
- asyncio: if a worker's task is cancelled natively before its first step, the run ends as if it had been cancelled.
- asyncio: `cancels_once` has no effect, so that jobs are cancelled at each await.
- asyncio: tasks in a shielded scope that a job left open are not cancelled, but awaited.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from .._interface import Isolation, Mark, WorkerGroup

if TYPE_CHECKING:
    from .._interface import Backend, Scope, Variables, Work, WorkerTask


class PlainGroup(WorkerGroup):
    """The tasks of one run, each in a scope of its own; the base class for trio and asyncio."""

    __slots__ = ("_context", "_host_info", "_loop", "_shielded_workers", "_stopped", "_work", "home", "variables")

    names_tasks = True

    def __init__(self, loop: Backend, work: Work, context: contextvars.Context, variables: Variables) -> None:
        self.variables = variables
        self._loop = loop
        self._work = work
        self._context = context
        self._stopped = False  # whether `cancel` was called
        self._shielded_workers: dict[WorkerTask, None] = {}
        self._host_info = anyio.get_current_task()
        self.home = self  # runs do not share workers: each worker is inside the task group of its run

    def adopt(self, worker: WorkerTask) -> None:
        """Do nothing: workers never change their group."""

    def is_cancelled(self) -> bool:
        return self._host_info.has_pending_cancellation()

    def shield(self, worker: WorkerTask) -> None:
        worker_scope(worker).shield = True
        self._shielded_workers[worker] = None

    def cancel_shielded(self) -> None:
        for worker in self._shielded_workers:
            worker_scope(worker).cancel()

    def cancel_one(self, worker: WorkerTask) -> None:
        if worker.mark is not None:
            worker_scope(worker).cancel()

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        worker_scope(worker).deadline = when

    def is_expired(self, worker: WorkerTask) -> bool:
        scope = worker_scope(worker)
        return scope.cancel_called and (scope.shield or not self.is_cancelled())

    def forget(self, worker: WorkerTask) -> None:
        """Exit the scope around the job, if the worker has run none."""
        self._shielded_workers.pop(worker, None)
        if worker.mark is not None:
            worker.mark.leave_scope()


class PlainMark(Mark):
    """The scope around a worker's job, which after the job shows whether the job left other scopes open."""

    __slots__ = ("_isolation", "_scope", "_worker")

    def __init__(self, isolation: PlainIsolation, worker: WorkerTask, scope: Scope) -> None:
        self._isolation = isolation
        self._worker = worker
        self._scope: Scope | None = scope
        scope.__enter__()

    def intact(self) -> bool:
        """Return whether the task has run no job and is not cancelled."""
        return self._worker.job is None and not self._isolation.was_cancelled(self._worker)

    def note_turn(self) -> None:
        pass

    def stood_still(self) -> bool:
        return False

    def leave_scope(self) -> Scope | None:
        """Exit the scope around the job; if that fails, because the job left another scope open, return it."""
        scope, self._scope = self._scope, None
        if scope is not None:
            try:
                scope.__exit__(None, None, None)
            except RuntimeError:  # the error of trio or anyio for a scope that is not the innermost one
                return scope
        return None


class PlainIsolation(Isolation):
    """Runs each job in a task and a cancel scope of its own; see `Isolation`."""

    def __init__(self, new_group: Callable[..., PlainGroup], loop: Backend) -> None:
        super().__init__(loop)
        self._new_group = new_group

    def group(
        self,
        work: Work,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: Variables,
        outer: WorkerGroup | None = None,
    ) -> WorkerGroup:
        return self._new_group(self._loop, work, deadline, on_deadline, context, variables)

    def enter(self, worker: WorkerTask) -> Mark | None:
        """Enter a new scope for the job of `worker`."""
        worker.task = self._loop.current_task()
        worker.mark = mark = PlainMark(self, worker, self._loop.scope())
        return mark if mark.intact() else None

    async def close_leftovers(self, worker: WorkerTask) -> tuple[str | None, BaseException | None]:
        """End all tasks in the nursery or task group that the job left open; see `Isolation`."""
        scope = worker.mark.leave_scope()
        return (None if scope is None else await self._loop.end_tasks_in(worker, scope)), None

    def was_cancelled(self, worker: WorkerTask) -> bool:
        scope, group = worker.scope, worker.group
        if (scope is not None and scope.cancel_called) or group.host.is_cancelled():
            return True
        return not (scope is not None and scope.shield) and group.is_cancelled()


def worker_scope(worker: WorkerTask) -> Scope:
    """Return the scope around a worker, which exists from its first step on."""
    assert worker.scope is not None
    return worker.scope
