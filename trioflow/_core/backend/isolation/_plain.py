"""Plain isolation: each job has a task and a cancel scope of its own, using only public names.

Fast isolation reads and writes private parts of trio and anyio, to see whether a job left its task as it was, and to
put a scope around the task from outside. Plain isolation needs neither: a worker retires after its first job, and has
its scope from the beginning, in a task around its own:

```
run's task group ──► a task: the worker's scope, and a group for ──► one task: the scope around the job ──► the job
```

If the scope around the job cannot be left after the job, the job has left something open. That ends with its task.

Without private parts, these promises cannot be kept:

- A job that keeps the loop from turning is not named in the log.
- trio: the errors in a nursery that a job left open are lost, SystemExit included, as those in a task group always are.
- trio: an async generator that is broken off with an open nursery behaves as in any task of trio, and may cause an
  internal error of trio.
- asyncio: a worker's task that is cancelled natively before its first step ends the run, as if that were cancelled.
- asyncio: where jobs are to be cancelled once (`cancels_once`), they are cancelled at each await, as elsewhere.
- asyncio: tasks in a shielded scope that a job left open are not cancelled, but waited for.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from .._interface import Group, Isolation, Mark

if TYPE_CHECKING:
    from .._interface import Backend, Scope, Variables, Work, WorkerTask


class PlainGroup(Group):
    """The tasks of one run, each in a scope of its own, on either loop."""

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
        self.home = self  # each worker is inside its run's task group

    def adopt(self, worker: WorkerTask) -> None:
        """Do nothing: the worker is in this group."""

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
        """Leave the scope for a job, if the worker had none to run."""
        self._shielded_workers.pop(worker, None)
        if worker.mark is not None:
            worker.mark.leave_scope()


class PlainMark(Mark):
    """The scope around a worker's job, which shows afterwards whether the job left others open."""

    __slots__ = ("_isolation", "_scope", "_worker")

    def __init__(self, isolation: PlainIsolation, worker: WorkerTask, scope: Scope) -> None:
        self._isolation = isolation
        self._worker = worker
        self._scope: Scope | None = scope
        scope.__enter__()

    def intact(self) -> bool:
        """Return whether the task is as good as new: it has run no job, and is not cancelled."""
        return self._worker.job is None and not self._isolation.was_cancelled(self._worker)

    def note_turn(self) -> None:
        pass

    def stood_still(self) -> bool:
        return False

    def leave_scope(self) -> Scope | None:
        """Leave the scope around the job; return it if that failed, because the job left something open."""
        scope, self._scope = self._scope, None
        if scope is not None:
            try:
                scope.__exit__(None, None, None)
            except RuntimeError:  # "cancel scope stack corrupted", or "isn't the current task's current cancel scope"
                return scope
        return None


class PlainIsolation(Isolation):
    """Each job has a task of its own, with a cancel scope of its own; see `Isolation`."""

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
        outer: Group | None = None,
    ) -> Group:
        return self._new_group(self._loop, work, deadline, on_deadline, context, variables)

    def enter(self, worker: WorkerTask) -> Mark | None:
        """Enter a new scope for the job of `worker`."""
        worker.task = self._loop.current_task()
        worker.mark = mark = PlainMark(self, worker, self._loop.scope())
        return mark if mark.intact() else None

    async def close_leftovers(self, worker: WorkerTask) -> tuple[str | None, BaseException | None]:
        """End all tasks in the nursery or group that the job has left open."""
        scope = worker.mark.leave_scope()
        return (None if scope is None else await self._loop.end_tasks_in(worker, scope)), None

    def was_cancelled(self, worker: WorkerTask) -> bool:
        scope, group = worker.scope, worker.group
        if (scope is not None and scope.cancel_called) or group.host.is_cancelled():
            return True
        return not (scope is not None and scope.shield) and group.is_cancelled()


def worker_scope(worker: WorkerTask) -> Scope:
    """Return the scope of a worker that has begun."""
    assert worker.scope is not None  # it has one from its first step on
    return worker.scope
