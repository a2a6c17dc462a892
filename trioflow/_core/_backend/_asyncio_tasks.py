"""The workers' tasks on asyncio: native ones, which stand in one anyio cancel scope, as the tasks of a task group do.

A worker gets a scope of its own only when somebody wants to cancel it alone, or to shield it, or when its job has anyio
look for the scope that it is in: then that is put between the common one and those that its job may have opened. Most
jobs need none.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import anyio.lowlevel
from anyio._backends import _asyncio as anyio_asyncio

from . import _shared

if TYPE_CHECKING:
    from .._worker import Worker
    from ._interface import Event, Work

TASK_STATES: Final = cast(Any, anyio_asyncio)._task_states  # which cancel scope is the innermost of a task


class AsyncioGroup:
    """The workers' tasks, in one cancel scope that no task has entered; the deadline is a timer of the loop."""

    __slots__ = (
        "_cancellation",
        "_context",
        "_expired",
        "_loop",
        "_on_deadline",
        "_parent",
        "_timer",
        "_work",
        "scope",
    )

    def __init__(
        self, work: Work, deadline: float, on_deadline: Callable[[], None], context: contextvars.Context
    ) -> None:
        """Start the clock."""
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._context = context
        self._on_deadline = on_deadline
        self._expired = False
        self.scope: Final[Any] = anyio_asyncio.CancelScope(deadline=deadline)  # to be asked; its timer is ours
        self.scope._host_task = asyncio.current_task()  # whom anyio asks for the loop, when a job calls a thread
        self._parent = id(self.scope._host_task)
        self._timer = None if deadline == math.inf else self._loop.call_at(deadline, self._expire)
        # What cancelled the task that hosts the run. It is raised in this very task, when all has ended.
        self._cancellation: asyncio.CancelledError | None = None

    async def host(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `body`, then raise the cancellation that came meanwhile."""
        try:
            await body()
        finally:
            if self._timer is not None:
                self._timer.cancel()
        if self._cancellation is not None:
            try:
                raise self._cancellation
            finally:
                self._cancellation = None
        await anyio.lowlevel.checkpoint_if_cancelled()  # a scope's, which the shield of the ending kept out

    def spawn(self, worker: Worker) -> None:
        """Start a task for `worker`, in a copy of the run's context."""
        context = self._context.copy()
        # Not by the loop's task factory: an eager one would run it before the worker knows its task.
        worker.task = task = asyncio.Task(self._work(worker), loop=self._loop, context=context)
        state = TASK_STATES[task] = WorkerState(self._parent, self.scope, worker)
        worker.mark = AsyncioMark(task, state, context, worker.run.variables)
        self.scope._tasks.add(task)
        task.add_done_callback(worker.ended)  # a task that is cancelled before its first step runs no code

    async def turn(self) -> bool:
        """Let others run; False if a cancellation came."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as cancellation:
            self._cancellation = cancellation
            return False
        return True

    async def wait(self, event: Event) -> bool:
        """Wait for `event`; False as soon as a cancellation comes first."""
        try:
            await event.wait()
        except asyncio.CancelledError as cancellation:
            self._cancellation = cancellation
            return False
        return True

    async def uninterrupted(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `function()` in a task of its own: no shield keeps a native `Task.cancel()` out of this one.

        anyio tells a task in a cancelled scope so again and again; the shield spares it the noise. If the new task
        is itself cancelled, `function` is called again, and goes on where it was.
        """
        while True:
            task = self._loop.create_task(function(), context=self._context.copy())
            while not task.done():
                with anyio.CancelScope(shield=True):
                    try:
                        await asyncio.wait([task])
                    except asyncio.CancelledError as cancellation:
                        self._cancellation = cancellation  # native: it goes before that of a scope
            if not task.cancelled():  # by somebody who cancels all the tasks that there are
                return task.result()

    def is_cancelled(self) -> bool:
        """Tell whether the group is cancelled and the run may not know yet: here the run is always told first."""
        return False

    def deadline_passed(self) -> bool:
        """Tell whether the deadline was what cancelled the group."""
        return self._expired

    def cancel(self) -> None:
        """Cancel all the tasks of the group but the shielded ones."""
        if not self.scope.cancel_called:
            self.scope.cancel()

    def shield(self, worker: Worker) -> None:
        """Let a worker outlive the others."""
        worker.mark.stopper = scope = worker.scope or self.scope_of_its_own(worker)
        scope.shield = True

    def cancel_one(self, worker: Worker) -> None:
        """Cancel one worker, a shielded one too; one that has not begun will find that its run is stopping."""
        if worker.mark is not None:
            worker.mark.stopper = scope = worker.scope or self.scope_of_its_own(worker)
            scope.cancel()

    def forget(self, worker: Worker) -> None:
        """Let go of a worker that leaves."""
        self.scope._tasks.discard(worker.task)
        if worker.scope is not None:
            self.scope._child_scopes.discard(worker.scope)
        TASK_STATES.pop(worker.task, None)  # a scope of its own leads to the task: it would be there for ever

    def scope_of_its_own(self, worker: Worker) -> Any:
        """Put a scope around all that are open in a worker's task, and inside the common one."""
        scope: Any = anyio_asyncio.CancelScope()
        worker.scope = worker.mark.scope = scope
        scope._host_task = worker.task
        scope._parent_scope = self.scope
        self.scope._child_scopes.add(scope)
        self.scope._tasks.discard(worker.task)
        state: WorkerState = worker.mark.state
        state.worker = None
        outermost = state.innermost
        if outermost is self.scope:
            state.innermost = scope
            scope._tasks.add(worker.task)
        else:
            while outermost._parent_scope is not self.scope:
                outermost = outermost._parent_scope
            outermost._reparent(scope)
        return scope

    def _expire(self) -> None:
        self._expired = True
        self._on_deadline()


class WorkerState(anyio_asyncio.TaskState):
    """What anyio knows of a worker's task: asked for its scope, it says one of its own, which is made by then.

    A thread that a job starts, for instance, keeps the scope that the job was in, and asks that whether the job was
    cancelled: the common one would not tell.
    """

    __slots__ = ("innermost", "worker")

    def __init__(self, parent: int | None, scope: Any, worker: Worker | None) -> None:
        """Begin in `scope`; `worker` is there as long as it has no scope of its own and may get one."""
        self.worker = worker
        super().__init__(parent, scope)

    @property
    def cancel_scope(self) -> Any:
        """The innermost scope of the task; the engine itself reads `innermost`."""
        if self.worker is not None and self.worker.mark is not None:
            cast(AsyncioGroup, self.worker.run.group).scope_of_its_own(self.worker)
        return self.innermost

    @cancel_scope.setter
    def cancel_scope(self, scope: Any) -> None:
        self.innermost = scope


class AsyncioMark:
    """What a worker's task was like before it ran a job.

    anyio has no public way to ask which scope is the innermost.
    """

    __slots__ = ("_context", "_size", "_task", "_variables", "scope", "state", "stopper")

    def __init__(
        self, task: Any, state: WorkerState, context: contextvars.Context, variables: _shared.Variables
    ) -> None:
        """Note what the task is like; its context has these variables, and the one that holds the worker."""
        self._task = task
        self.state = state
        self.scope: Any = state.innermost
        self.stopper: Any = self.scope  # whose cancellation ends the worker
        self._context = context
        self._size = len(variables) + 1
        self._variables = variables

    def intact(self) -> bool:
        """Tell whether the task is as it was: its scopes, its variables, and whether it was cancelled."""
        context = self._context
        if self.state.innermost is not self.scope or self.stopper._cancel_called or self._task.cancelling():
            return False
        if len(context) != self._size:
            return False
        for variable, value in self._variables:  # noqa: SIM110 - a generator costs more than this loop
            if context.get(variable) is not value:
                return False
        return True

    def left_open(self) -> bool:
        """Tell whether there are scopes in the task that were not there, those of task groups included."""
        return self.state.innermost is not self.scope
