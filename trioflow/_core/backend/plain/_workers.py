"""Workers by public means alone: each job has a task of its own, with a cancel scope of its own.

The fast way reads and writes private parts of trio and anyio, to see whether a job has left its task as it was, and to
put a scope around the task from outside. This way needs neither. A worker retires after its first job, and has its
scope from the beginning, in a task around its own:

```
run's task group ──► a task: the worker's scope, and a group for ──► one task: the scope around the job ──► the job
```

If the scope around the job cannot be left after the job, the job has left something open. That ends with its task.

What cannot be kept without private parts:

- trio: the errors in a nursery that a job left open are lost, SystemExit included, as those in a task group always are.
- trio: an async generator that is broken off with an open nursery does what it does in any task of trio, which may end
  with an internal error of trio.
- asyncio: a worker's task that somebody cancels natively before its first step ends the run, as if that were cancelled.
- asyncio: tasks in a shielded scope that a job left open are not cancelled, but waited for.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from .._interface import Group, Mark, Scope, Variables, Work, WorkerTask


class PlainGroup:
    """The tasks of one run, each in a scope of its own."""

    __slots__ = ("_backend", "_context", "_host_info", "_shielded_workers", "_stopped", "_work", "home", "variables")

    home: Group

    def __init__(self, backend: PlainBackend, work: Work, context: contextvars.Context, variables: Variables) -> None:
        import anyio  # not at the top: the fast way on trio does without it

        self.variables = variables
        self._backend = backend
        self._work = work
        self._context = context
        self._stopped = False  # by `cancel`
        self._shielded_workers: dict[WorkerTask, None] = {}
        self._host_info = anyio.get_current_task()
        self.home = cast("Group", self)  # each worker is inside what its run has opened

    def take_over(self, worker: WorkerTask) -> None:
        """Nothing: it is a worker of this group."""

    def is_cancelled(self) -> bool:
        """Return whether the group was cancelled, by its deadline or from outside; the run may not know it yet."""
        return self._host_info.has_pending_cancellation()

    def shield(self, worker: WorkerTask) -> None:
        """Keep `cancel` from cancelling this worker, which runs no job."""
        scope_of(worker).shield = True
        self._shielded_workers[worker] = None

    def cancel_shielded(self) -> None:
        """Cancel all workers that are shielded."""
        for worker in self._shielded_workers:
            scope_of(worker).cancel()

    def cancel_one(self, worker: WorkerTask) -> None:
        """Cancel one worker, even a shielded one; a worker that has not begun will find that its run is stopping."""
        if worker.mark is not None:
            scope_of(worker).cancel()

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        """Cancel a worker alone at the time `when`, unless another time is set before; `inf` for never."""
        scope_of(worker).deadline = when

    def is_expired(self, worker: WorkerTask) -> bool:
        """Return whether a worker was cancelled alone, by its deadline or by `cancel_one`, and nothing around it."""
        scope = scope_of(worker)
        return scope.cancel_called and (scope.shield or not self.is_cancelled())

    def forget(self, worker: WorkerTask) -> None:
        """Leave the scope for a job, if the worker has found none."""
        self._shielded_workers.pop(worker, None)
        if worker.mark is not None:
            worker.mark.leave_scope()


class PlainMark:
    """The scope around a worker's job, which tells afterwards whether the job has left others open."""

    __slots__ = ("_backend", "_scope", "_worker")

    def __init__(self, backend: PlainBackend, worker: WorkerTask) -> None:
        self._backend = backend
        self._worker = worker
        self._scope: Scope | None = backend.scope()
        self._scope.__enter__()

    def intact(self) -> bool:
        """Return whether the task is as good as new: it has run no job, and is not cancelled."""
        return self._worker.job is None and not self._backend.was_cancelled(self._worker)

    def left_open(self) -> bool:
        """Return whether there may be scopes in the task that were not there before the job."""
        return self._scope is not None

    def leave_scope(self) -> Scope | None:
        """Leave the scope around the job; return it if that failed, because the job has left something open."""
        scope, self._scope = self._scope, None
        if scope is not None:
            try:
                scope.__exit__(None, None, None)
            except RuntimeError:  # "cancel scope stack corrupted", or "isn't the current task's current cancel scope"
                return scope
        return None


class PlainBackend:
    """What the plain ways on trio and asyncio have in common; see `Backend`."""

    def scope(self, deadline: float = math.inf) -> Scope:
        """Make a cancel scope with a deadline on this loop's clock."""
        raise NotImplementedError

    def current_task(self) -> Any:
        """Return the current task; None if there is none."""
        raise NotImplementedError

    def outwards(self, task: Any) -> Iterator[object]:
        """Yield a task, the one in whose group it runs, and so on, or what stands for them."""
        raise NotImplementedError

    async def end_tasks_in(self, worker: WorkerTask, scope: Scope) -> str:
        """End all tasks in what the job of `worker` has left open in `scope`; return what that was."""
        raise NotImplementedError

    def task_group(self) -> Any:
        """Return an async context manager with `start_soon` and `cancel_scope`, for tasks beside the caller's."""
        import anyio

        return anyio.create_task_group()

    def enter(self, worker: WorkerTask) -> Mark | None:
        """Record the current task as that of `worker`, and make the scope for its job; None if it is cancelled."""
        worker.task = self.current_task()
        worker.mark = mark = PlainMark(self, worker)
        return mark if mark.intact() else None

    def is_inside(self, worker: WorkerTask) -> bool:
        """Return whether the call comes from the task of `worker`, or from one inside it; True if that is not known."""
        calling = self.current_task()
        if calling is worker.task or calling is None:  # None: in a thread
            return True
        own, *further = self.outwards(worker.task)
        for task in self.outwards(calling):
            if task == own or task in further:
                return bool(task == own)
        return True

    async def close_left_open(self, worker: WorkerTask) -> tuple[str | None, BaseException | None]:
        """Close the scopes that a job left open in the task, and end all tasks in them; return what that was."""
        scope = worker.mark.leave_scope()
        return (None if scope is None else await self.end_tasks_in(worker, scope)), None

    def was_cancelled(self, worker: WorkerTask) -> bool:
        """Return whether the task of `worker` was cancelled, by a scope or together with the whole run."""
        scope = worker.scope
        if scope is not None and scope.cancel_called:
            return True
        return not (scope is not None and scope.shield) and worker.group.is_cancelled()


def scope_of(worker: WorkerTask) -> Scope:
    """Return the scope of a worker that has begun."""
    assert worker.scope is not None  # it has one from its first step on
    return worker.scope
