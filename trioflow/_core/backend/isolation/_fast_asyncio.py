"""Fast isolation on asyncio, with private attributes of anyio.

The workers' tasks are native asyncio tasks. They share one anyio cancel scope, as if they were in a task group. A
worker gets a scope of its own only if it has to be cancelled alone, or if anyio looks up the scope of its task. That
scope is inserted between the shared scope and the scopes that the job has opened. Most workers need none.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import sys
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import anyio.lowlevel
from anyio._backends import _asyncio as anyio_asyncio

from .. import _shared
from .._interface import Isolation, WorkerGroup, WorkerTask
from .._shared import IDLE_NAME, NO_JOB, expect, expect_parts, getrefcount, getweakrefcount
from ..loop._asyncio import AsyncioHost

if TYPE_CHECKING:
    from .._interface import Mark, Variables, Work

TASK_STATES: Final = cast(Any, anyio_asyncio)._task_states
"""anyio's `TaskState` of each task, which has the task's innermost cancel scope."""
STATES_BY_REF: Final[dict[weakref.ref[Any], Any]] = TASK_STATES.data
"""The dict of weak references inside `TASK_STATES`, from which removal is faster."""
LOOP_FRAME: Final = 4
"""The number of frames from `LoopIterations.current` up to the loop's own frame."""
LOOP_ITERATION_CODE: Final = getattr(getattr(asyncio.BaseEventLoop, "_run_once", None), "__code__", None)


class FastAsyncioGroup(WorkerGroup):
    """The tasks of one run, in a shared cancel scope that no task enters, and a timer for the deadline."""

    def __init__(
        self,
        work: Work,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: Variables,
        outer: Any = None,
    ) -> None:
        self.variables = variables
        self.home: WorkerGroup = self if outer is None or outer.variables is not variables else outer.home
        self._work = work
        self._loop = asyncio.get_running_loop()
        # Whether the program's own task factory makes the tasks, which then are no `AsyncioNamedTask`s.
        self.names_tasks: bool = self._loop.get_task_factory() is not None if outer is None else outer.names_tasks
        self._context = context
        # The deadline of the scope is for jobs that ask anyio for it; the host's timer enforces it.
        self.scope: Any = anyio_asyncio.CancelScope(deadline=deadline)
        task: Any = asyncio.current_task(self._loop)
        self._host: AsyncioHost = AsyncioHost(task, task._must_cancel, context, deadline, on_deadline)
        self.host = self._host
        self.scope._host_task = task  # anyio takes the loop from this task when a job calls a thread
        self._host_task_id = id(task)
        # Shows jobs the deadline of the scope around the run. That scope delivers cancellations to the host only.
        self.scope._parent_scope = self._host_scope()
        self.cancelled_once = False  # whether `cancel_once` was called
        self._shielded: Any = None  # the scope of all shielded workers, if there are any
        self._unstarted: list[WorkerTask] = []  # the watched workers; see `watch_unstarted`
        self._due_count = 0  # how many of the first ones the next check examines: they have had time to begin
        self._iterations: LoopIterations = LoopIterations(self._loop, context) if outer is None else outer._iterations

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await body()
        finally:
            parent_scope = self._host_scope()
            task = self._host.leave()
            self.scope._host_task = None
            if self._shielded is not None:
                self._shielded._host_task = None
                self.scope._child_scopes.discard(self._shielded)  # break the reference cycle
        self._host.raise_cancellation()
        if task._must_cancel:  # a cancellation since the last await is still undelivered
            await asyncio.sleep(0)
        if (
            parent_scope is not None and parent_scope._effectively_cancelled
        ):  # the host's shield blocked this cancellation
            await anyio.lowlevel.checkpoint_if_cancelled()

    def _host_scope(self) -> Any:
        """Return the innermost scope of the task that awaits the run, or None."""
        state = STATES_BY_REF.get(weakref.ref(self._host.task))
        return state.innermost if isinstance(state, WorkerState) else None if state is None else state.cancel_scope

    def spawn(self, worker: WorkerTask) -> None:
        context = self._context.copy()
        task: Any
        if self.names_tasks:
            task = self._loop.create_task(self._work_later(worker), context=context)
        else:
            task = UnstartedTask(self._work(worker), loop=self._loop, context=context)
            task.worker, task.explicit_name = worker, (NO_JOB, "")
        worker.task = task
        worker.mark = WorkerState(
            self._host_task_id, self.scope, worker, task, context, self.variables, self._iterations
        )
        STATES_BY_REF[weakref.ref(task)] = worker.mark
        self.scope._tasks.add(task)
        if self.names_tasks:
            self.watch_unstarted(worker)  # only an `UnstartedTask` reports its cancellation

    def adopt(self, worker: WorkerTask) -> None:
        worker.group = self
        worker.mark.parent_id = self._host_task_id
        if worker.timer is not None:  # the timer refers to the other group
            worker.timer.cancel()
            worker.timer, worker.fires_at = None, math.inf
        self._move_to_scope(worker, self.scope)

    def _move_to_scope(self, worker: WorkerTask, scope: Any) -> None:
        """Move a worker that runs no job, with its own scope if it has one, into one of the group's scopes."""
        state: WorkerState = worker.mark
        state.stop_scope = scope
        if worker.scope is None:
            state.scope._tasks.discard(worker.task)
            scope._tasks.add(worker.task)
            state.scope = state.innermost = scope
        else:
            cast(Any, worker.scope)._reparent(scope)

    def watch_unstarted(self, worker: WorkerTask) -> None:
        """Make a worker leave if its task ends before its first step, so that `work` never runs."""
        if not self._unstarted:
            self._loop.call_soon(self._check_unstarted, context=self._context)
        self._unstarted.append(worker)

    def _check_unstarted(self) -> None:
        """Check all watched workers together: a callback for each worker would cost a tenth of its task."""
        due = self._unstarted[: self._due_count]
        unstarted = [worker for worker in due if worker.mark is not None and not worker.mark.reference_count]
        for worker in unstarted:
            if worker.task.done():
                worker.leave_unstarted()
        self._unstarted[: self._due_count] = [worker for worker in unstarted if worker.mark is not None]
        self._due_count = len(self._unstarted)
        if self._due_count:
            self._loop.call_soon(self._check_unstarted, context=self._context)

    async def _work_later(self, worker: WorkerTask) -> None:
        """Run the worker in the current task, after `spawn` has recorded it, even if the task factory is eager."""
        if worker.mark is None:
            await asyncio.sleep(0)
        work = self._work(worker)
        del self, worker  # a job's exception may keep this frame alive, which must not keep the run alive
        await work

    def is_cancelled(self) -> bool:
        return self._host.is_cancelled() or self.scope._effectively_cancelled

    def cancel(self) -> None:
        if not self.scope.cancel_called:
            self.scope.cancel()

    def cancel_once(self, workers: Iterable[WorkerTask], patience: float) -> None:
        self.cancelled_once = True
        self.scope.shield = True  # otherwise anyio's calls in jobs would raise a cancellation from around the run
        self._host.cancel_once(workers, patience, self.cancel_one)

    def shield(self, worker: WorkerTask) -> None:
        if self._shielded is None:
            self._shielded = _make_nested_scope(self.scope, self._host.task)
            self._shielded.shield = True
        self._move_to_scope(worker, self._shielded)

    def cancel_shielded(self) -> None:
        if self._shielded is not None:
            self._shielded.cancel()

    def cancel_one(self, worker: WorkerTask) -> None:
        if worker.mark is not None:
            worker.mark.stop_scope = scope = worker.scope or self.insert_scope(worker)
            scope.cancel()

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        worker.deadline = when
        if worker.scope is not None:
            cast(Any, worker.scope)._deadline = when  # for jobs that ask anyio for it: the scope has no timer
        if when < worker.fires_at:
            self._set_timer(worker, when)

    def is_expired(self, worker: WorkerTask) -> bool:
        scope: Any = worker.scope
        if scope is None or not scope.cancel_called or self._host.is_cancelled():
            return False
        parent_scope = scope._parent_scope
        return scope.shield or parent_scope is None or not parent_scope._effectively_cancelled

    def _set_timer(self, worker: WorkerTask, when: float) -> None:
        if worker.timer is not None:
            worker.timer.cancel()
        worker.fires_at = when
        worker.timer = self._loop.call_at(when, self._on_timer, worker, context=self._context)

    def _on_timer(self, worker: WorkerTask) -> None:
        """Cancel a worker whose deadline has passed; if its deadline has changed, set a new timer."""
        fired_at, worker.fires_at, worker.timer = worker.fires_at, math.inf, None
        if worker.deadline == fired_at:
            worker.deadline = -math.inf
            self.cancel_one(worker)
        elif worker.deadline != math.inf:
            self._set_timer(worker, worker.deadline)

    def forget(self, worker: WorkerTask) -> None:
        if worker.timer is not None:
            worker.timer.cancel()
        scope: Any = worker.scope
        if scope is None:
            worker.mark.scope._tasks.discard(worker.task)
        else:
            scope._parent_scope._child_scopes.discard(scope)
        # The keys are weak references, but the value keeps the task alive through the worker's own scope.
        STATES_BY_REF.pop(weakref.ref(worker.task), None)
        if self.names_tasks:
            worker.task.set_name(IDLE_NAME)
        else:
            worker.task.worker = None
        worker.task = worker.mark = worker.scope = None

    def insert_scope(self, worker: WorkerTask) -> Any:
        """Insert a new scope around the worker's task, inside the group's scope and outside all scopes of its job."""
        parent_scope = worker.mark.scope
        scope = _make_nested_scope(parent_scope, worker.task)
        scope._deadline = worker.deadline
        worker.scope = worker.mark.scope = scope
        worker.mark.reference_count += 1  # the scope refers to the task, as its host
        parent_scope._tasks.discard(worker.task)
        state: WorkerState = worker.mark
        state.worker = None
        outermost = state.innermost
        if outermost is parent_scope:
            state.innermost = scope
            scope._tasks.add(worker.task)
        else:
            while outermost._parent_scope is not parent_scope:
                outermost = outermost._parent_scope
            outermost._reparent(scope)
        return scope


def _make_nested_scope(parent_scope: Any, host: Any) -> Any:
    """Return a new scope inside `parent_scope`, as if `host` had entered it; `__enter__` serves the caller only."""
    scope: Any = anyio_asyncio.CancelScope()
    scope._host_task = host
    scope._parent_scope = parent_scope
    parent_scope._child_scopes.add(scope)
    return scope


class AsyncioNamedTask(asyncio.Task[None]):
    """The task of a worker, which computes its name from the label of its job when asked."""

    __slots__ = ("explicit_name", "worker")

    worker: WorkerTask | None  # None once the worker has left
    explicit_name: tuple[Any, str]  # the job that has named its task last, and that name

    def get_name(self) -> str:
        """Return the name that the job gave its task, or else the label of the job."""
        job = None if self.worker is None else self.worker.job
        if job is self.explicit_name[0]:
            return self.explicit_name[1]
        return IDLE_NAME if job is None else str(job.label)

    def set_name(self, name: object) -> None:
        """Set the name of the task for the rest of its current job."""
        self.explicit_name = (None if self.worker is None else self.worker.job, str(name))


class UnstartedTask(AsyncioNamedTask):
    """The task of a worker before its first step, which reports its cancellation."""

    __slots__ = ()

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the task, and have its group watch the worker, whose code may never run."""
        if self.worker is not None:
            cast(FastAsyncioGroup, self.worker.group).watch_unstarted(self.worker)
        return super().cancel(msg)


class LoopIterations:
    """Identifies the iterations of the event loop.

    asyncio's own loop has a new frame for each iteration. On other loops, a callback marks the next iteration, which is
    slower, and may cause an additional iteration.
    """

    __slots__ = ("_context", "_current", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._loop = loop
        self._context = context
        self._current: object = None

    def current(self) -> object:
        """Return an object that identifies the current iteration; `Worker.work` must be the caller's caller."""
        frame = sys._getframe(LOOP_FRAME)
        if frame.f_code is LOOP_ITERATION_CODE:
            return frame
        if self._current is None:
            self._current = object()
            self._loop.call_soon(self._on_next_iteration, context=self._context)
        return self._current

    def _on_next_iteration(self) -> None:
        self._current = None


class WorkerState(anyio_asyncio.TaskState):
    """A snapshot of a worker's task before a job, which also serves as anyio's record of the task.

    If anyio looks up the scope of the task, the worker gets a scope of its own. There, anyio's threads read whether the
    job was cancelled, which the shared scope does not show.
    """

    __slots__ = (
        "_context", "_iterations", "_noted_iteration", "_size", "_task", "_variables", "innermost", "reference_count",
        "scope", "stop_scope", "worker",
    )  # fmt: skip

    def __init__(
        self,
        parent: int | None,
        scope: Any,
        worker: WorkerTask | None,
        task: Any,
        context: contextvars.Context,
        variables: Variables,
        iterations: LoopIterations,
    ) -> None:
        self.parent_id = parent
        self.innermost: Any = scope  # the innermost scope of the task now
        self.scope: Any = scope  # the innermost scope before a job
        self.stop_scope: Any = scope  # the scope whose cancellation ends the worker
        self.worker = worker  # None once the worker has a scope of its own
        self._task = task
        self._context = context
        self._size = len(variables) + 1  # the worker's variable included
        self._variables = variables
        self.reference_count = 0  # the number of references to the running task; 0 before its first step
        self._iterations = iterations
        self._noted_iteration: object = None

    @property
    def cancel_scope(self) -> Any:
        """The innermost scope of the task, as anyio reads it; the engine reads `innermost`."""
        if self.worker is not None:
            cast(FastAsyncioGroup, self.worker.group).insert_scope(self.worker)
        return self.innermost

    @cancel_scope.setter
    def cancel_scope(self, scope: Any) -> None:
        self.innermost = scope

    def intact(self) -> bool:
        """Return whether the task is unchanged: same scopes, same context variables, not cancelled."""
        context = self._context
        task = self._task
        if self.innermost is not self.scope or self.stop_scope._cancel_called or task.cancelling():
            return False
        if getrefcount(task) + getweakrefcount(task) != self.reference_count:
            return False
        if len(context) != self._size:
            return False
        for variable, value in self._variables:  # noqa: SIM110 - a generator costs more than this loop
            if context.get(variable) is not value:
                return False
        return True

    def note_turn(self) -> None:
        """Record the current iteration of the loop."""
        self._noted_iteration = self._iterations.current()

    def stood_still(self) -> bool:
        """Return whether the loop is still in the iteration of the last `note_turn`."""
        return self._iterations.current() is self._noted_iteration


class FastAsyncio(Isolation):
    """Runs many jobs in one task, and all tasks of a run in one cancel scope; see `Isolation`."""

    def group(
        self,
        work: Work,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: Variables,
        outer: WorkerGroup | None = None,
    ) -> FastAsyncioGroup:
        return FastAsyncioGroup(work, deadline, on_deadline, context, variables, outer)

    def enter(self, worker: WorkerTask) -> Mark:
        """Return the mark of the task, which also counts the references to the task.

        Code that may cancel the task later refers to it: by a variable, or by an `asyncio.timeout` or TaskGroup in an
        abandoned async generator. If a job leaves such a reference behind, the worker retires.
        """
        mark: WorkerState = worker.mark
        task = worker.task
        if not worker.group.names_tasks:
            task.__class__ = AsyncioNamedTask
        mark.reference_count = getrefcount(task) + getweakrefcount(task)
        return mark

    def is_inside(self, worker: WorkerTask) -> bool:
        return _shared.is_inside(worker.task, self._loop.current_task(), _ancestry)

    async def close_leftovers(self, worker: WorkerTask) -> tuple[str | None, BaseException | None]:
        """Close the scopes and task groups that a job left open; return their kind.

        The errors in a task group are lost, because its scope does not refer to them.
        """
        kind = None
        state: WorkerState = worker.mark
        while (scope := state.innermost) is not worker.mark.scope:
            kind = kind or "cancel scope"
            scope.cancel()
            while tasks := _tasks_in(scope) - {worker.task}:
                kind = "task group"
                with anyio.CancelScope(shield=True), contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait(tasks)
            scope.__exit__(None, None, None)
        return kind, None

    def was_cancelled(self, worker: WorkerTask) -> bool:
        state: WorkerState = worker.mark
        if state.stop_scope._cancel_called or state.innermost._effectively_cancelled:
            return True
        group = cast(FastAsyncioGroup, worker.group)
        return group.cancelled_once or group.host.is_cancelled()

    def cancelled_natively(self, worker: WorkerTask) -> bool:
        """Return whether the job of `worker` has cancelled its own task natively, and this is still undelivered.

        `cancelling()` does not show this: on Python 3.11 and 3.12, a TaskGroup whose child has failed leaves it at 1.
        """
        return bool(worker.task._must_cancel) and not self.was_cancelled(worker)


def _ancestry(task: Any) -> Iterator[object]:
    """Yield the ids of a task and its ancestors; the parent is the task that opened its anyio task group."""
    known = STATES_BY_REF.copy()  # an atomic copy, since loops in other threads add tasks
    tasks = ((ref(), state) for ref, state in known.items())
    return _shared.ancestry(id(task), {id(task): state.parent_id for task, state in tasks if task is not None})


def _tasks_in(scope: Any) -> set[Any]:
    """Return the unfinished tasks in an anyio cancel scope and in all scopes inside it."""
    tasks: set[Any] = set()
    todo = [scope]
    while todo:
        inner = todo.pop()
        tasks |= {task for task in inner._tasks if not task.done()}
        todo += inner._child_scopes
    return tasks


class _FakeTask:
    """A substitute for a task in `_check_private_parts`."""

    def cancelling(self) -> int:
        """Return the number of cancellation requests."""
        return 0


def _check_private_parts() -> None:
    """Raise an error if private attributes of anyio are missing or behave differently.

    This takes some 50 µs, and no event loop.
    """
    if sys.implementation.name == "cpython":
        expect_parts(asyncio.Task, "_must_cancel")
    group = FastAsyncioGroup.__new__(FastAsyncioGroup)
    parent_scope: Any = anyio_asyncio.CancelScope()
    group.scope, group.names_tasks = parent_scope, False
    worker = WorkerTask()
    worker.group, worker.scope, worker.deadline, worker.mark, worker.timer = group, None, 5.0, None, None
    worker.task = task = _FakeTask()
    state = WorkerState(None, parent_scope, worker, task, contextvars.Context(), (), cast(Any, None))
    worker.mark = TASK_STATES[task] = state
    expect(TASK_STATES.get(task) is state and state.parent_id is None, "it does not record the scope of a task")
    expect(STATES_BY_REF.get(weakref.ref(task)) is state, "it records the scopes of tasks in another way")
    parent_scope._tasks.add(task)
    job_scope: Any = anyio_asyncio.CancelScope()
    job_scope._parent_scope = state.innermost = parent_scope
    parent_scope._child_scopes.add(job_scope)
    state.innermost = job_scope
    scope = group.insert_scope(worker)
    expect(
        job_scope._parent_scope is scope and job_scope in scope._child_scopes and scope._parent_scope is parent_scope,
        "a scope that is put between two others has no effect on them",
    )
    expect(
        scope.deadline == 5.0 and not job_scope._effectively_cancelled,
        "a new scope has another deadline, or is cancelled",
    )
    parent_scope._cancel_called = True
    expect(
        parent_scope.cancel_called and job_scope._effectively_cancelled,
        "a scope does not see that one around it was cancelled",
    )
    scope.shield = True
    expect(not job_scope._effectively_cancelled, "a shield has no effect")
    scope._cancel_called = True
    expect(job_scope._effectively_cancelled and not state.intact(), "a scope does not cancel what is in it")
    group.forget(worker)


_check_private_parts()
ISOLATION: Final = FastAsyncio
