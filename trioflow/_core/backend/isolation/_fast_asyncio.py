"""Fast isolation on asyncio, with private attributes of anyio.

The workers' tasks are native asyncio tasks. They share one anyio cancel scope, as if they were in a task group. A
worker gets a scope of its own only if it has to be cancelled alone, or if anyio looks up the scope of its task. That
scope is inserted between the shared scope and the scopes that the job has opened. Most workers need no scope of their
own.
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
from .._shared import IDLE_TASK_NAME, NO_JOB, expect, expect_attributes, getrefcount, getweakrefcount
from ..loop._asyncio import AsyncioHost

if TYPE_CHECKING:
    from .._interface import ContextVariables, TaskSnapshot, WorkerFunction

TASK_STATES: Final = cast(Any, anyio_asyncio)._task_states
"""anyio's mapping of each task to its `TaskState`, which contains the task's innermost cancel scope."""
STATES_BY_REF: Final[dict[weakref.ref[Any], Any]] = TASK_STATES.data
"""The dict inside `TASK_STATES`, keyed by weak references to the tasks. Accessing it directly is faster."""
LOOP_FRAME_DEPTH: Final = 5
"""The number of frames from `LoopIterations.current` up to the frame of the event loop."""
LOOP_ITERATION_CODE: Final = getattr(getattr(asyncio.BaseEventLoop, "_run_once", None), "__code__", None)
"""The code of the method that runs one iteration of asyncio's own event loop; None if it has been renamed."""


class FastAsyncioGroup(WorkerGroup):
    """The tasks of one run, which share a cancel scope that no task enters; a timer enforces the run's deadline."""

    def __init__(
        self,
        worker_function: WorkerFunction,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: ContextVariables,
        outer: Any = None,
    ) -> None:
        self.variables = variables
        self.parking_group: WorkerGroup = (
            self if outer is None or outer.variables is not variables else outer.parking_group
        )
        self._worker_function = worker_function
        self._loop = asyncio.get_running_loop()
        # True if the program has set a task factory: then the tasks are not of the class `AsyncioNamedTask`.
        self.must_name_tasks: bool = (
            self._loop.get_task_factory() is not None if outer is None else outer.must_name_tasks
        )
        self._context = context
        # The scope has the deadline only so that jobs can read it through anyio. The host's timer enforces it.
        self.shared_scope: Any = anyio_asyncio.CancelScope(deadline=deadline)
        task: Any = asyncio.current_task(self._loop)
        self._host: AsyncioHost = AsyncioHost(task, task._must_cancel, context, deadline, on_deadline)
        self.host = self._host
        self.shared_scope._host_task = task  # for functions that jobs run in threads, anyio gets the loop from it
        self._host_task_id = id(task)
        # Jobs can then read the deadline of the scope around the run. That scope does not have `shared_scope` among its
        # children, so it delivers cancellations only to the host.
        self.shared_scope._parent_scope = self._host_scope()
        self.was_cancel_once_called = False
        self._shielded_scope: Any = None  # the scope of all shielded workers; None if there are none
        self._watched_workers: list[WorkerTask] = []  # see `watch_unstarted`
        # How many of the first watched workers have had time to begin; the next check examines only these.
        self._checkable_count = 0
        self._iterations: LoopIterations = LoopIterations(self._loop, context) if outer is None else outer._iterations

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await body()
        finally:
            parent_scope = self._host_scope()
            task = self._host.leave()
            self.shared_scope._host_task = None
            if self._shielded_scope is not None:
                self._shielded_scope._host_task = None
                self.shared_scope._child_scopes.discard(self._shielded_scope)  # break the reference cycle
        self._host.raise_cancellation()
        if task._must_cancel:  # the task was cancelled after its last await, so this await raises the cancellation
            await asyncio.sleep(0)
        if (
            parent_scope is not None and parent_scope._effectively_cancelled
        ):  # the host's shield blocked this cancellation
            await anyio.lowlevel.checkpoint_if_cancelled()

    def _host_scope(self) -> Any:
        """Return the innermost scope of the task that awaits the run; None if the task is in no scope."""
        state = STATES_BY_REF.get(weakref.ref(self._host.task))
        return (
            state.innermost_scope if isinstance(state, WorkerState) else None if state is None else state.cancel_scope
        )

    def spawn(self, worker: WorkerTask) -> None:
        context = self._context.copy()
        task: Any
        if self.must_name_tasks:
            task = self._loop.create_task(self._work_after_spawn(worker), context=context)
        else:
            task = UnstartedTask(self._worker_function(worker), loop=self._loop, context=context)
            task.worker, task.explicit_name = worker, (NO_JOB, "")
        worker.task = task
        worker.task_snapshot = WorkerState(
            self._host_task_id, self.shared_scope, worker, task, context, self.variables, self._iterations
        )
        STATES_BY_REF[weakref.ref(task)] = worker.task_snapshot
        self.shared_scope._tasks.add(task)
        if self.must_name_tasks:
            self.watch_unstarted(worker)  # only an `UnstartedTask` would report its cancellation

    def adopt(self, worker: WorkerTask) -> None:
        worker.group = self
        worker.task_snapshot.parent_id = self._host_task_id
        if worker.timer is not None:  # this timer would call the former group
            worker.timer.cancel()
            worker.timer, worker.timer_fires_at = None, math.inf
        self._move_to_scope(worker, self.shared_scope)

    def _move_to_scope(self, worker: WorkerTask, scope: Any) -> None:
        """Move a worker that is running no job, and its own scope if it has one, into one of the group's scopes."""
        state: WorkerState = worker.task_snapshot
        state.stop_scope = scope
        if worker.scope is None:
            state.base_scope._tasks.discard(worker.task)
            scope._tasks.add(worker.task)
            state.base_scope = state.innermost_scope = scope
        else:
            cast(Any, worker.scope)._reparent(scope)

    def watch_unstarted(self, worker: WorkerTask) -> None:
        """Watch a worker until its task has begun. If the task ends before its first step, make the worker leave."""
        if not self._watched_workers:
            self._loop.call_soon(self._check_unstarted, context=self._context)
        self._watched_workers.append(worker)

    def _check_unstarted(self) -> None:
        """Make each watched worker leave whose task has ended before its first step.

        One callback checks all workers, because a callback for each would cost a tenth as much as the worker's task.
        """
        due = self._watched_workers[: self._checkable_count]
        unstarted = [
            worker for worker in due if worker.task_snapshot is not None and not worker.task_snapshot.reference_count
        ]
        for worker in unstarted:
            if worker.task.done():
                worker.leave_unstarted()
        self._watched_workers[: self._checkable_count] = [
            worker for worker in unstarted if worker.task_snapshot is not None
        ]
        self._checkable_count = len(self._watched_workers)
        if self._checkable_count:
            self._loop.call_soon(self._check_unstarted, context=self._context)

    async def _work_after_spawn(self, worker: WorkerTask) -> None:
        """Run the worker's function in this task. If the task factory is eager, first let `spawn` record the task."""
        if worker.task_snapshot is None:
            await asyncio.sleep(0)
        coroutine = self._worker_function(worker)
        del self, worker  # an exception of a job may keep this frame alive, and the frame must not keep the run alive
        await coroutine

    def is_cancelled(self) -> bool:
        return self._host.is_cancelled() or self.shared_scope._effectively_cancelled

    def cancel(self) -> None:
        if not self.shared_scope.cancel_called:
            self.shared_scope.cancel()

    def cancel_once(self, workers: Iterable[WorkerTask], grace_seconds: float) -> None:
        self.was_cancel_once_called = True
        # Otherwise, anyio's functions would also raise CancelledError whenever a scope around the run is cancelled.
        self.shared_scope.shield = True
        self._host.cancel_once(workers, grace_seconds, self.cancel_worker)

    def shield(self, worker: WorkerTask) -> None:
        if self._shielded_scope is None:
            self._shielded_scope = _make_nested_scope(self.shared_scope, self._host.task)
            self._shielded_scope.shield = True
        self._move_to_scope(worker, self._shielded_scope)

    def cancel_shielded(self) -> None:
        if self._shielded_scope is not None:
            self._shielded_scope.cancel()

    def cancel_worker(self, worker: WorkerTask) -> None:
        if worker.task_snapshot is not None:
            worker.task_snapshot.stop_scope = scope = worker.scope or self.insert_scope(worker)
            scope.cancel()

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        worker.deadline = when
        if worker.scope is not None:
            # Set without a timer: the scope has the deadline only so that jobs can read it through anyio.
            cast(Any, worker.scope)._deadline = when
        if when < worker.timer_fires_at:
            self._set_timer(worker, when)

    def is_cancelled_alone(self, worker: WorkerTask) -> bool:
        scope: Any = worker.scope
        if scope is None or not scope.cancel_called or self._host.is_cancelled():
            return False
        parent_scope = scope._parent_scope
        return scope.shield or parent_scope is None or not parent_scope._effectively_cancelled

    def _set_timer(self, worker: WorkerTask, when: float) -> None:
        if worker.timer is not None:
            worker.timer.cancel()
        worker.timer_fires_at = when
        worker.timer = self._loop.call_at(when, self._on_timer, worker, context=self._context)

    def _on_timer(self, worker: WorkerTask) -> None:
        """Cancel a worker whose deadline has passed. If its deadline was postponed, set a new timer instead."""
        fired_at, worker.timer_fires_at, worker.timer = worker.timer_fires_at, math.inf, None
        if worker.deadline == fired_at:
            worker.deadline = -math.inf
            self.cancel_worker(worker)
        elif worker.deadline != math.inf:
            self._set_timer(worker, worker.deadline)

    def forget(self, worker: WorkerTask) -> None:
        if worker.timer is not None:
            worker.timer.cancel()
        scope: Any = worker.scope
        if scope is None:
            worker.task_snapshot.base_scope._tasks.discard(worker.task)
        else:
            scope._parent_scope._child_scopes.discard(scope)
        # The key is only a weak reference to the task, but the value refers to the task, and would keep it alive.
        STATES_BY_REF.pop(weakref.ref(worker.task), None)
        if self.must_name_tasks:
            worker.task.set_name(IDLE_TASK_NAME)
        else:
            worker.task.worker = None
        worker.task = worker.task_snapshot = worker.scope = None

    def insert_scope(self, worker: WorkerTask) -> Any:
        """Insert a new scope around the worker's task, inside the group's scope and outside all scopes of its job."""
        parent_scope = worker.task_snapshot.base_scope
        scope = _make_nested_scope(parent_scope, worker.task)
        scope._deadline = worker.deadline
        worker.scope = worker.task_snapshot.base_scope = scope
        worker.task_snapshot.reference_count += 1  # the new scope refers to the task
        parent_scope._tasks.discard(worker.task)
        state: WorkerState = worker.task_snapshot
        state.worker = None
        outermost = state.innermost_scope
        if outermost is parent_scope:
            state.innermost_scope = scope
            scope._tasks.add(worker.task)
        else:
            while outermost._parent_scope is not parent_scope:
                outermost = outermost._parent_scope
            outermost._reparent(scope)
        return scope


def _make_nested_scope(parent_scope: Any, host: Any) -> Any:
    """Return a new scope inside `parent_scope`, in a state as if the task `host` had entered it."""
    scope: Any = anyio_asyncio.CancelScope()
    scope._host_task = host
    scope._parent_scope = parent_scope
    parent_scope._child_scopes.add(scope)
    return scope


class AsyncioNamedTask(asyncio.Task[None]):
    """The task of a worker. Its name, which is computed when asked for, is the label of the worker's job."""

    __slots__ = ("explicit_name", "worker")

    worker: WorkerTask | None  # None once the worker has left the run
    explicit_name: tuple[Any, str]  # the last job that has named this task, and the name that it has set

    def get_name(self) -> str:
        """Return the name that the current job has given its task; if it has given none, the label of the job."""
        job = None if self.worker is None else self.worker.job
        if job is self.explicit_name[0]:
            return self.explicit_name[1]
        return IDLE_TASK_NAME if job is None else str(job.label)

    def set_name(self, name: object) -> None:
        """Set the name of the task for the rest of its current job."""
        self.explicit_name = (None if self.worker is None else self.worker.job, str(name))


class UnstartedTask(AsyncioNamedTask):
    """The task of a worker before its first step. If it is cancelled, the worker's group watches the worker."""

    __slots__ = ()

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the task, and let the group watch the worker, whose function may now never run."""
        if self.worker is not None:
            cast(FastAsyncioGroup, self.worker.group).watch_unstarted(self.worker)
        return super().cancel(msg)


class LoopIterations:
    """A source of objects that identify the iterations of the event loop.

    asyncio's own loop runs each iteration in a new frame, which identifies it. On other loops, a callback detects the
    next iteration; this is slower, and may cause an additional iteration.
    """

    __slots__ = ("_context", "_current", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._loop = loop
        self._context = context
        self._current: object = None

    def current(self) -> object:
        """Return an object that identifies the current iteration.

        Call this only from a function that `Worker._run_jobs` calls, because of `LOOP_FRAME_DEPTH`.
        """
        frame = sys._getframe(LOOP_FRAME_DEPTH)
        if frame.f_code is LOOP_ITERATION_CODE:
            return frame
        if self._current is None:
            self._current = object()
            self._loop.call_soon(self._on_next_iteration, context=self._context)
        return self._current

    def _on_next_iteration(self) -> None:
        self._current = None


class WorkerState(anyio_asyncio.TaskState):
    """A `TaskSnapshot` of a worker's task, which is also anyio's record of the task.

    If anyio looks up the scope of the task, the worker gets a scope of its own. anyio may pass that scope to a thread,
    which reads from it whether the job was cancelled. The scope that all workers share does not show this.
    """

    __slots__ = (
        "_context",
        "_iterations",
        "_recorded_iteration",
        "_task",
        "_variable_count",
        "_variables",
        "base_scope",
        "innermost_scope",
        "reference_count",
        "stop_scope",
        "worker",
    )  # fmt: skip

    def __init__(
        self,
        parent_id: int | None,
        scope: Any,
        worker: WorkerTask | None,
        task: Any,
        context: contextvars.Context,
        variables: ContextVariables,
        iterations: LoopIterations,
    ) -> None:
        self.parent_id = parent_id
        self.innermost_scope: Any = scope  # the current innermost scope of the task
        self.base_scope: Any = scope  # the innermost scope of the task between jobs
        self.stop_scope: Any = scope  # the scope whose cancellation ends the worker
        self.worker = worker  # None once the worker has a scope of its own
        self._task = task
        self._context = context
        self._variable_count = len(variables) + 1  # plus 1 for the variable that holds the worker
        self._variables = variables
        self.reference_count = 0  # the number of references to the task between jobs; 0 before the task's first step
        self._iterations = iterations
        self._recorded_iteration: object = None

    @property
    def cancel_scope(self) -> Any:
        """The innermost scope of the task, for anyio. The engine reads `innermost_scope` instead."""
        if self.worker is not None:
            cast(FastAsyncioGroup, self.worker.group).insert_scope(self.worker)
        return self.innermost_scope

    @cancel_scope.setter
    def cancel_scope(self, scope: Any) -> None:
        self.innermost_scope = scope

    def is_task_unchanged(self) -> bool:
        context = self._context
        task = self._task
        if self.innermost_scope is not self.base_scope or self.stop_scope._cancel_called or task.cancelling():
            return False
        if getrefcount(task) + getweakrefcount(task) != self.reference_count:
            return False
        if len(context) != self._variable_count:
            return False
        for variable, value in self._variables:  # noqa: SIM110 - a generator would take longer than this loop
            if context.get(variable) is not value:
                return False
        return True

    def record_iteration(self) -> None:
        """Record the current iteration of the event loop, for `is_same_iteration`."""
        self._recorded_iteration = self._iterations.current()

    def is_same_iteration(self) -> bool:
        """Return whether the event loop is still in the recorded iteration."""
        return self._iterations.current() is self._recorded_iteration


class FastAsyncio(Isolation):
    """An isolation that runs many jobs in one task, and all tasks of a run in one cancel scope."""

    def create_group(
        self,
        worker_function: WorkerFunction,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: ContextVariables,
        outer: WorkerGroup | None = None,
    ) -> FastAsyncioGroup:
        return FastAsyncioGroup(worker_function, deadline, on_deadline, context, variables, outer)

    def attach_current_task(self, worker: WorkerTask) -> TaskSnapshot:
        """Return the snapshot of the task, and record in it how many references to the task there are.

        If a job leaves a further reference behind, the worker retires: code that has the reference may cancel the task
        later. Examples are a variable, and an `asyncio.timeout` or TaskGroup in an abandoned generator.
        """
        snapshot: WorkerState = worker.task_snapshot
        task = worker.task
        if not worker.group.must_name_tasks:
            task.__class__ = AsyncioNamedTask
        snapshot.reference_count = getrefcount(task) + getweakrefcount(task)
        return snapshot

    def is_caller_inside(self, worker: WorkerTask) -> bool:
        return _shared.is_caller_inside(worker.task, self._loop.current_task(), _ancestry)

    async def close_leftovers(self, worker: WorkerTask) -> tuple[str | None, BaseException | None]:
        """Close the scopes and task groups that a job has left open; see `Isolation`.

        The errors in a task group are lost, because its scope does not refer to them.
        """
        kind = None
        state: WorkerState = worker.task_snapshot
        while (scope := state.innermost_scope) is not worker.task_snapshot.base_scope:
            kind = kind or "cancel scope"
            scope.cancel()
            while tasks := _tasks_in(scope) - {worker.task}:
                kind = "task group"
                with anyio.CancelScope(shield=True), contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait(tasks)
            scope.__exit__(None, None, None)
        return kind, None

    def was_cancelled(self, worker: WorkerTask) -> bool:
        state: WorkerState = worker.task_snapshot
        if state.stop_scope._cancel_called or state.innermost_scope._effectively_cancelled:
            return True
        group = cast(FastAsyncioGroup, worker.group)
        return group.was_cancel_once_called or group.host.is_cancelled()

    def has_cancelled_itself(self, worker: WorkerTask) -> bool:
        """Return whether the job has cancelled its own task, and the cancellation has not been raised yet.

        `cancelling()` does not show this: on Python 3.11 and 3.12, it stays 1 after a TaskGroup with a failed child.
        """
        return bool(worker.task._must_cancel) and not self.was_cancelled(worker)


def _ancestry(task: Any) -> Iterator[object]:
    """Yield the ids of a task and its ancestors. The parent of a task is the task that opened its anyio task group."""
    states = STATES_BY_REF.copy()  # one atomic step, because event loops in other threads add tasks
    tasks = ((ref(), state) for ref, state in states.items())
    return _shared.ancestry(id(task), {id(task): state.parent_id for task, state in tasks if task is not None})


def _tasks_in(scope: Any) -> set[Any]:
    """Return the unfinished tasks in an anyio cancel scope and in all scopes nested in it."""
    tasks: set[Any] = set()
    todo = [scope]
    while todo:
        inner = todo.pop()
        tasks |= {task for task in inner._tasks if not task.done()}
        todo += inner._child_scopes
    return tasks


class _FakeTask:
    """A substitute for a task in `_check_private_attributes`."""

    def cancelling(self) -> int:
        """Return the number of cancellation requests, which is always 0."""
        return 0


def _check_private_attributes() -> None:
    """Raise an error if a private attribute of anyio is missing, or does not behave as expected.

    This takes about 50 µs and needs no event loop.
    """
    if sys.implementation.name == "cpython":
        expect_attributes(asyncio.Task, "_must_cancel")
    group = FastAsyncioGroup.__new__(FastAsyncioGroup)
    parent_scope: Any = anyio_asyncio.CancelScope()
    group.shared_scope, group.must_name_tasks = parent_scope, False
    worker = WorkerTask()
    worker.group, worker.scope, worker.deadline, worker.task_snapshot, worker.timer = group, None, 5.0, None, None
    worker.task = task = _FakeTask()
    state = WorkerState(None, parent_scope, worker, task, contextvars.Context(), (), cast(Any, None))
    worker.task_snapshot = TASK_STATES[task] = state
    expect(TASK_STATES.get(task) is state and state.parent_id is None, "it does not record the scope of a task")
    expect(STATES_BY_REF.get(weakref.ref(task)) is state, "it records the scopes of tasks differently")
    parent_scope._tasks.add(task)
    job_scope: Any = anyio_asyncio.CancelScope()
    job_scope._parent_scope = state.innermost_scope = parent_scope
    parent_scope._child_scopes.add(job_scope)
    state.innermost_scope = job_scope
    scope = group.insert_scope(worker)
    expect(
        job_scope._parent_scope is scope and job_scope in scope._child_scopes and scope._parent_scope is parent_scope,
        "a scope inserted between two others has no effect on them",
    )
    expect(
        scope.deadline == 5.0 and not job_scope._effectively_cancelled,
        "a new scope has the wrong deadline, or is cancelled",
    )
    parent_scope._cancel_called = True
    expect(
        parent_scope.cancel_called and job_scope._effectively_cancelled,
        "a scope ignores the cancellation of its parent",
    )
    scope.shield = True
    expect(not job_scope._effectively_cancelled, "a shield has no effect")
    scope._cancel_called = True
    expect(job_scope._effectively_cancelled and not state.is_task_unchanged(), "a scope does not cancel its contents")
    group.forget(worker)


_check_private_attributes()
ISOLATION_FACTORY: Final = FastAsyncio
