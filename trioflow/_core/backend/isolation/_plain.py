"""Plain isolation, on trio and asyncio: each job has a task and a cancel scope of its own, by public APIs of anyio.

Fast isolation uses private attributes of trio and anyio to find out whether a job has changed its task, and to insert a
scope around the task of another worker. Plain isolation needs neither. A worker runs one job and then retires. Its
scope is a shield, which is opened in an outer task around its own: the run alone cancels its workers, one by one.

```
run's task group ──► outer task: the worker's scope, a task group ──► worker's task: the scope around the job ──► job
```

If the scope around the job cannot be exited after the job, the job has left something open, which is then closed.

Plain isolation has these limitations:

- On asyncio, a job is cancelled at each of its awaits until it ends, as anyio does, and not once for each cause.
- `current_effective_deadline()` does not show deadlines from outside the job.
- A run stops in the turn of the loop after a scope around it was cancelled, not at once.
- The log does not name a job that blocks the event loop.
- A job names its task from the start, as with `own_task=True`.
- If a job has left a nursery open on trio, the errors in the nursery are lost, even a SystemExit. An async generator
  that is abandoned inside an open nursery may cause an internal error of trio, as in any task of trio.
- If a job has left a shielded scope open on asyncio, the tasks in the scope are not cancelled, but awaited.
- If a worker's task is cancelled natively before its first step, the run ends as if it had been cancelled, and Python
  warns of a coroutine that was never awaited, as with any task of anyio.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, Self, cast

import anyio
from sniffio import thread_local as sniffed

from .._interface import Backend, Isolation, Scope, TaskSnapshot, WorkerGroup, WorkerTask
from .._shared import IDLE_TASK_NAME


class PlainGroup(WorkerGroup):
    """The tasks of one run. The group is never cancelled: the run notices a cancellation, and cancels its workers."""

    def prepare(self, outer: WorkerGroup | None) -> None:
        self.host = self._backend.create_host(self._context)
        self._host_task = self._backend.current_task()

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self.host.run_in_nursery(body)

    def spawn(self, worker: WorkerTask) -> None:
        self._start_soon(self._context, self._backend.protect_from_ctrl_c(PlainGroup.run_in_scope), self, worker)

    def _start_soon(self, context: contextvars.Context, function: Any, *arguments: Any) -> None:
        library, sniffed.name = sniffed.name, self._backend.name  # for anyio, which needs a task to find out
        try:
            context.run(self.host.nursery.start_soon, function, *arguments)
        finally:
            sniffed.name = library

    def call_at(self, when: float, function: Callable[[], None], context: contextvars.Context) -> Callable[[], None]:
        is_cancelled = self._backend.create_event()

        async def wait() -> None:
            with self._backend.create_scope(when) as scope:
                scope.shield = True
                await is_cancelled.wait()
            if not is_cancelled.is_set():
                function()

        self._start_soon(context, wait)
        return is_cancelled.set

    async def run_in_scope(self, worker: WorkerTask) -> None:
        """Open the worker's scope in this task, and run the worker in another task inside the scope.

        If a job leaves a scope open or cancels its own task natively, its task fails at the end. So each worker has a
        task group of its own, whose failure is suppressed.
        """
        await self._backend.yield_to_loop()  # an eager task begins inside `spawn`
        if not worker.was_cancelled:
            with (
                contextlib.suppress(BaseExceptionGroup, self._backend.cancellation_type),
                anyio.CancelScope(shield=True) as scope,
            ):
                worker.scope = cast(Scope, scope)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._worker_function, worker, name=IDLE_TASK_NAME)
        worker.leave_unstarted()  # its task may have been cancelled natively before its first step

    def is_cancelled(self) -> bool:
        if self.host.is_cancelled():
            return True
        # Otherwise, only the host can tell: while it waits, it may be in a scope of its own, whose deadline has passed.
        return self._backend.current_task() is self._host_task and anyio.get_current_task().has_pending_cancellation()

    def cancel_worker(self, worker: WorkerTask, repeatedly: bool = False) -> None:
        """Cancel one worker. If its task has not begun, which it may never do on asyncio, the worker leaves at once."""
        worker.was_cancelled = True
        if worker.scope is None:
            worker.leave_unstarted()
        else:
            worker.scope.cancel()

    def forget(self, worker: WorkerTask) -> None:
        """Exit the scope that was entered for a job, if the worker has run no job."""
        if worker.task_snapshot is not None:
            worker.task_snapshot.exit_scope()


class PlainTaskSnapshot(TaskSnapshot):
    """A scope around a worker's job. After the job, this scope shows whether the job has left other scopes open."""

    def __init__(self, worker: WorkerTask) -> None:
        self._worker = worker
        self.left_scope: Scope | None = None  # a scope around a call that was left although it had open ones inside
        self._scope: Any = anyio.CancelScope()
        self._scope.__enter__()

    def is_task_unchanged(self) -> bool:
        """Return whether the task has run no job and is not cancelled."""
        return self._worker.job is None and not (self._worker.was_cancelled or self._worker.group.is_cancelled())

    def record_iteration(self) -> None:
        """Do nothing: each worker retires after its job."""

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
                return cast(Scope, scope)
        return self.left_scope


class CallScope:
    """A scope around one call of a job, which is left even if the job has left scopes open inside it."""

    def __init__(self, loop: Backend, worker: WorkerTask, scope: Scope) -> None:
        self._loop: Final = loop
        self._worker: Final = worker
        self._scope: Final = scope
        self.cancel: Final = scope.cancel

    @property
    def deadline(self) -> float:
        return self._scope.deadline

    @deadline.setter
    def deadline(self, when: float) -> None:
        self._scope.deadline = when

    def __enter__(self) -> Self:
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Leave the scope, unless the job has left others open: the worker then closes all of them."""
        try:
            return self._scope.__exit__(kind, error, traceback)
        except RuntimeError:  # as in `PlainTaskSnapshot.exit_scope`
            self._worker.task_snapshot.left_scope = self._scope
        is_cancelled = error is not None and self._loop.split_cancellations(error) == (True, None)
        return self._scope.cancel_called and is_cancelled


class PlainIsolation(Isolation):
    """An isolation that runs each job in a task and a cancel scope of its own."""

    group_class = PlainGroup
    gives_own_tasks = True

    def attach_current_task(self, worker: WorkerTask) -> TaskSnapshot | None:
        worker.task = self._loop.current_task()
        worker.task_snapshot = snapshot = PlainTaskSnapshot(worker)
        return snapshot if snapshot.is_task_unchanged() else None

    async def close_leftovers(self, worker: WorkerTask) -> tuple[str | None, BaseException | None]:
        scope = worker.task_snapshot.exit_scope()
        return (None if scope is None else await self._loop.end_tasks_in(worker.task, scope)), None

    def create_call_scope(self, worker: WorkerTask | None, deadline: float) -> Scope:
        scope = self._loop.create_scope(deadline)
        if worker is None or worker.task is not self._loop.current_task():
            return scope
        return cast(Scope, CallScope(self._loop, worker, scope))


ISOLATION_FACTORY: Final = PlainIsolation
