"""Fast isolation on asyncio, with private parts of anyio.

The workers' tasks are native asyncio tasks in one common anyio cancel scope, as if they were in a task group. A worker
gets a scope of its own only when it has to be cancelled alone, or shielded, or when its job makes anyio look up its
scope. That scope is inserted between the common one and those that the job may have opened. Most jobs need none.
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
from .._interface import Group, Isolation, WorkerTask
from .._shared import IDLE_NAME, NO_JOB, expect, expect_parts, getrefcount, getweakrefcount
from ..loop._asyncio import AsyncioHost

if TYPE_CHECKING:
    from .._interface import Mark, Variables, Work

TASK_STATES: Final = cast(Any, anyio_asyncio)._task_states  # anyio's record of the innermost cancel scope of each task
STATES_BY_REF: Final[dict[weakref.ref[Any], Any]] = TASK_STATES.data  # the same, with faster removal


LOOP_FRAME: Final = 4
"""The number of frames from `LoopIterations.current` to the loop's: its caller, the worker, the handle of its step."""
TURN_CODE: Final = getattr(getattr(asyncio.BaseEventLoop, "_run_once", None), "__code__", None)


class FastAsyncioGroup(Group):
    """The workers' tasks, in one cancel scope that no task has entered, and a timer for the deadline."""

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
        self.home: Group = self if outer is None or outer.variables is not variables else outer.home
        self._work = work
        self._loop = asyncio.get_running_loop()
        # Whether the tasks have a class other than `UnstartedTask`.
        self.names_tasks: bool = self._loop.get_task_factory() is not None if outer is None else outer.names_tasks
        self._context = context
        # The scope only shows the deadline to jobs; the group has its own timer.
        self.scope: Any = anyio_asyncio.CancelScope(deadline=deadline)
        task: Any = asyncio.current_task(self._loop)
        self._host: AsyncioHost = AsyncioHost(task, task._must_cancel, context, deadline, on_deadline)
        self.host = self._host
        self.scope._host_task = task  # anyio gets the loop from it, when a job uses a thread
        self._parent = id(task)
        # The scope around the run, so that jobs see its deadline. It delivers a cancellation only to the host.
        self.scope._parent_scope = self._scope_around()
        self.cancelled_once = False  # whether `cancel_once` was called
        self._shielded: Any = None  # the scope of all shielded workers, if there are any
        self._unstarted: list[WorkerTask] = []  # the workers whose tasks may end before their first step...
        self._due_count = 0  # ...and how many of them, from the first, will have begun by the next check
        self._turns: LoopIterations = LoopIterations(self._loop, context) if outer is None else outer._turns

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await body()
        finally:
            around = self._scope_around()
            task = self._host.leave()
            self.scope._host_task = None
            if self._shielded is not None:
                self._shielded._host_task = None
                self.scope._child_scopes.discard(self._shielded)  # they refer to each other
        self._host.raise_cancellation()
        if task._must_cancel:  # it was cancelled before it came here, without an await since
            await asyncio.sleep(0)
        if around is not None and around._effectively_cancelled:  # the shield has kept it out
            await anyio.lowlevel.checkpoint_if_cancelled()

    def _scope_around(self) -> Any:
        """Return the innermost scope of the task that hosts the run; None if there is none."""
        state = STATES_BY_REF.get(weakref.ref(self._host.task))
        return state.innermost if isinstance(state, WorkerState) else None if state is None else state.cancel_scope

    def spawn(self, worker: WorkerTask) -> None:
        context = self._context.copy()
        task: Any
        if self.names_tasks:
            task = self._loop.create_task(self._work_later(worker), context=context)
        else:
            task = UnstartedTask(self._work(worker), loop=self._loop, context=context)
            task.worker, task.given = worker, (NO_JOB, "")
        worker.task = task
        worker.mark = WorkerState(self._parent, self.scope, worker, task, context, self.variables, self._turns)
        STATES_BY_REF[weakref.ref(task)] = worker.mark
        self.scope._tasks.add(task)
        if self.names_tasks:
            self.watch_unstarted(worker)  # a task of another class does not report its cancellation

    def adopt(self, worker: WorkerTask) -> None:
        worker.group = self
        worker.mark.parent_id = self._parent
        if worker.timer is not None:  # the timer holds a reference to its group
            worker.timer.cancel()
            worker.timer, worker.fires_at = None, math.inf
        self._move_to_scope(worker, self.scope)

    def _move_to_scope(self, worker: WorkerTask, scope: Any) -> None:
        """Put a worker that runs no job, and its own scope if it has one, into a scope of the group."""
        state: WorkerState = worker.mark
        state.stop_scope = scope
        if worker.scope is None:
            state.scope._tasks.discard(worker.task)
            scope._tasks.add(worker.task)
            state.scope = state.innermost = scope
        else:
            cast(Any, worker.scope)._reparent(scope)

    def watch_unstarted(self, worker: WorkerTask) -> None:
        """Have a worker leave if its task is cancelled before its first step, since it runs no code then."""
        if not self._unstarted:
            self._loop.call_soon(self._check_unstarted, context=self._context)
        self._unstarted.append(worker)

    def _check_unstarted(self) -> None:
        """Check all watched workers together: a callback for each would cost a tenth of a worker."""
        due = self._unstarted[: self._due_count]
        unstarted = [worker for worker in due if worker.mark is not None and not worker.mark.reference_count]
        for worker in unstarted:
            if worker.task.done():
                worker.leave_unstarted()
        self._unstarted[: self._due_count] = [worker for worker in unstarted if worker.mark is not None]  # still there
        self._due_count = len(self._unstarted)
        if self._due_count:
            self._loop.call_soon(self._check_unstarted, context=self._context)

    async def _work_later(self, worker: WorkerTask) -> None:
        """Run the worker in the current task, after `spawn` has recorded it: a task factory may be eager."""
        if worker.mark is None:
            await asyncio.sleep(0)
        work = self._work(worker)
        del self, worker  # a reference to a job's exception may keep this frame alive: it must not keep the run
        await work

    def is_cancelled(self) -> bool:
        return self._host.is_cancelled() or self.scope._effectively_cancelled

    def cancel(self) -> None:
        if not self.scope.cancel_called:
            self.scope.cancel()

    def cancel_once(self, workers: Iterable[WorkerTask], patience: float) -> None:
        self.cancelled_once = True
        self.scope.shield = True  # else anyio raises a cancellation around the run in jobs, at each of its calls
        self._host.cancel_once(workers, patience, self.cancel_one)

    def shield(self, worker: WorkerTask) -> None:
        if self._shielded is None:
            self._shielded = _entered_scope(self.scope, self._host.task)
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
            cast(Any, worker.scope)._deadline = when  # only shown to the job: the scope has no timer
        if when < worker.fires_at:
            self._set_timer(worker, when)

    def is_expired(self, worker: WorkerTask) -> bool:
        scope: Any = worker.scope
        if scope is None or not scope.cancel_called or self._host.is_cancelled():
            return False
        around = scope._parent_scope
        return scope.shield or around is None or not around._effectively_cancelled

    def _set_timer(self, worker: WorkerTask, when: float) -> None:
        if worker.timer is not None:
            worker.timer.cancel()
        worker.fires_at = when
        worker.timer = self._loop.call_at(when, self._fire, worker, context=self._context)

    def _fire(self, worker: WorkerTask) -> None:
        """Cancel a worker whose deadline has passed; if the deadline has moved, wait for the new one."""
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
        # The keys are weak, but the worker's own scope would keep the task alive.
        STATES_BY_REF.pop(weakref.ref(worker.task), None)
        if self.names_tasks:
            worker.task.set_name(IDLE_NAME)
        else:
            worker.task.worker = None
        worker.task = worker.mark = worker.scope = None

    def insert_scope(self, worker: WorkerTask) -> Any:
        """Insert a new scope between the common one and all scopes that are open in a worker's task."""
        around = worker.mark.scope
        scope = _entered_scope(around, worker.task)
        scope._deadline = worker.deadline
        worker.scope = worker.mark.scope = scope
        worker.mark.reference_count += 1  # the scope, as its host
        around._tasks.discard(worker.task)
        state: WorkerState = worker.mark
        state.worker = None
        outermost = state.innermost
        if outermost is around:
            state.innermost = scope
            scope._tasks.add(worker.task)
        else:
            while outermost._parent_scope is not around:
                outermost = outermost._parent_scope
            outermost._reparent(scope)
        return scope


def _entered_scope(around: Any, host: Any) -> Any:
    """Return a new scope inside `around`; anyio's `__enter__` serves only the calling task."""
    scope: Any = anyio_asyncio.CancelScope()
    scope._host_task = host
    scope._parent_scope = around
    around._child_scopes.add(scope)
    return scope


class NamedTask(asyncio.Task[None]):
    """The task of a worker, named lazily by the label of its job."""

    __slots__ = ("given", "worker")

    worker: WorkerTask | None  # until it leaves
    given: tuple[Any, str]  # the job that has named its task, and this name

    def get_name(self) -> str:
        """Return the label of the job, or the name that the job gave to its task."""
        job = None if self.worker is None else self.worker.job
        if job is self.given[0]:
            return self.given[1]
        return IDLE_NAME if job is None else str(job.label)

    def set_name(self, name: object) -> None:
        """Name the task, until its next job."""
        self.given = (None if self.worker is None else self.worker.job, str(name))


class UnstartedTask(NamedTask):
    """The task of a worker before its first step: if cancelled now, the worker runs no code and has to leave."""

    __slots__ = ()

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the task, and have the group check it."""
        if self.worker is not None:
            cast(FastAsyncioGroup, self.worker.group).watch_unstarted(self.worker)
        return super().cancel(msg)


class LoopIterations:
    """A detector of the loop's iterations.

    asyncio's own loop has a frame for each iteration. Other loops get a callback for the next iteration, which is
    slower, and may cause an extra one.
    """

    __slots__ = ("_context", "_current", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._loop = loop
        self._context = context
        self._current: object = None

    def current(self) -> object:
        """Return an object that identifies the current iteration; call it two calls below the worker's coroutine."""
        frame = sys._getframe(LOOP_FRAME)
        if frame.f_code is TURN_CODE:
            return frame
        if self._current is None:
            self._current = object()
            self._loop.call_soon(self._end, context=self._context)
        return self._current

    def _end(self) -> None:
        self._current = None


class WorkerState(anyio_asyncio.TaskState):
    """A snapshot of a worker's task before a job, which is also anyio's record of the task.

    When anyio looks up the task's scope, the task gets its own: anyio's threads read there whether the job was
    cancelled, and the common scope does not record that.
    """

    __slots__ = (
        "_context",
        "_noted_iteration",
        "_size",
        "_task",
        "_turns",
        "_variables",
        "innermost",
        "reference_count",
        "scope",
        "stop_scope",
        "worker",
    )

    def __init__(
        self,
        parent: int | None,
        scope: Any,
        worker: WorkerTask | None,
        task: Any,
        context: contextvars.Context,
        variables: Variables,
        turns: LoopIterations,
    ) -> None:
        self.parent_id = parent
        # The innermost scope of the task, now and before a job; and the scope whose cancellation ends the worker.
        self.innermost: Any = scope
        self.scope: Any = scope
        self.stop_scope: Any = scope
        self.worker = worker  # None once it has a scope of its own, or if it must not get one
        self._task = task
        self._context = context
        self._size = len(variables) + 1  # including the worker's variable
        self._variables = variables
        self.reference_count = 0  # the number of references to the running task; 0 before its first step
        self._turns = turns
        self._noted_iteration: object = None

    @property
    def cancel_scope(self) -> Any:
        """The innermost scope of the task, for anyio; the engine reads `innermost`."""
        if self.worker is not None:
            cast(FastAsyncioGroup, self.worker.group).insert_scope(self.worker)
        return self.innermost

    @cancel_scope.setter
    def cancel_scope(self, scope: Any) -> None:
        self.innermost = scope

    def intact(self) -> bool:
        """Return whether the task is as it was: the same scopes, the same variables, and not cancelled."""
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
        """Record the loop's present iteration."""
        self._noted_iteration = self._turns.current()

    def stood_still(self) -> bool:
        """Return whether the loop has not iterated since the last `note_turn`."""
        return self._turns.current() is self._noted_iteration


class FastAsyncio(Isolation):
    """Workers share tasks in one cancel scope; see `Isolation`."""

    def group(
        self,
        work: Work,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: Variables,
        outer: Group | None = None,
    ) -> FastAsyncioGroup:
        return FastAsyncioGroup(work, deadline, on_deadline, context, variables, outer)

    def enter(self, worker: WorkerTask) -> Mark:
        """Return the snapshot of the task of `worker`, which is not cancelled: else it would not have come here.

        The references to the task are counted too. Code that may later cancel a task has one, in a variable, or in an
        `asyncio.timeout` or TaskGroup of an abandoned async generator. If a job leaves one behind, the worker retires.
        """
        mark: WorkerState = worker.mark
        task = worker.task
        if not worker.group.names_tasks:
            task.__class__ = NamedTask
        mark.reference_count = getrefcount(task) + getweakrefcount(task)
        return mark

    def is_inside(self, worker: WorkerTask) -> bool:
        return _shared.is_inside(worker.task, self._loop.current_task(), _ancestry)

    async def close_leftovers(self, worker: WorkerTask) -> tuple[str | None, BaseException | None]:
        """Close the scopes and task groups that a job left open in the task; return their kind.

        Errors in a task group are not returned: its scope does not give access to them.
        """
        left = None
        state: WorkerState = worker.mark
        while (scope := state.innermost) is not worker.mark.scope:
            left = left or "cancel scope"
            scope.cancel()
            while tasks := _tasks_in(scope) - {worker.task}:
                left = "task group"
                with anyio.CancelScope(shield=True), contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait(tasks)
            scope.__exit__(None, None, None)
        return left, None

    def was_cancelled(self, worker: WorkerTask) -> bool:
        state: WorkerState = worker.mark
        if state.stop_scope._cancel_called or state.innermost._effectively_cancelled:
            return True
        group = cast(FastAsyncioGroup, worker.group)
        return group.cancelled_once or group.host.is_cancelled()

    def cancelled_natively(self, worker: WorkerTask) -> bool:
        """Return whether a job has cancelled its own task, that of `worker`, natively, and has not noticed.

        `cancelling()` does not show this: on Python 3.11 and 3.12 a TaskGroup whose child has failed leaves it at 1.
        """
        return bool(worker.task._must_cancel) and not self.was_cancelled(worker)


def _ancestry(task: Any) -> Iterator[object]:
    """Yield the id of a task, of the task in whose anyio task group it runs, and so on."""
    known = STATES_BY_REF.copy()  # atomic: loops in other threads add tasks
    tasks = ((ref(), state) for ref, state in known.items())
    return _shared.ancestry(id(task), {id(task): state.parent_id for task, state in tasks if task is not None})


def _tasks_in(scope: Any) -> set[Any]:
    """Return the tasks that are running in an anyio cancel scope, or in one inside it."""
    found: set[Any] = set()
    todo = [scope]
    while todo:
        inner = todo.pop()
        found |= {task for task in inner._tasks if not task.done()}
        todo += inner._child_scopes
    return found


class _FakeTask:
    """A stand-in for a task in the check of the private parts."""

    def cancelling(self) -> int:
        """Return the number of cancellations of the task."""
        return 0


def _check_private_parts() -> None:
    """Raise an error if private parts of anyio are missing or behave differently.

    It takes some 50 µs, without an event loop.
    """
    if sys.implementation.name == "cpython":
        expect_parts(asyncio.Task, "_must_cancel")
    group = FastAsyncioGroup.__new__(FastAsyncioGroup)
    around: Any = anyio_asyncio.CancelScope()
    group.scope, group.names_tasks = around, False
    worker = WorkerTask()
    worker.group, worker.scope, worker.deadline, worker.mark, worker.timer = group, None, 5.0, None, None
    worker.task = task = _FakeTask()
    state = WorkerState(None, around, worker, task, contextvars.Context(), (), cast(Any, None))
    worker.mark = TASK_STATES[task] = state
    expect(TASK_STATES.get(task) is state and state.parent_id is None, "it does not record the scope of a task")
    expect(STATES_BY_REF.get(weakref.ref(task)) is state, "it records the scopes of tasks in another way")
    around._tasks.add(task)
    job_scope: Any = anyio_asyncio.CancelScope()
    job_scope._parent_scope = state.innermost = around
    around._child_scopes.add(job_scope)
    state.innermost = job_scope
    scope = group.insert_scope(worker)
    expect(
        job_scope._parent_scope is scope and job_scope in scope._child_scopes and scope._parent_scope is around,
        "a scope that is put between two others has no effect on them",
    )
    expect(scope.deadline == 5.0 and not job_scope._effectively_cancelled, "a new scope is not as it should be")
    around._cancel_called = True
    expect(
        around.cancel_called and job_scope._effectively_cancelled,
        "a scope does not see that one around it was cancelled",
    )
    scope.shield = True
    expect(not job_scope._effectively_cancelled, "a shield has no effect")
    scope._cancel_called = True
    expect(job_scope._effectively_cancelled and not state.intact(), "a scope does not cancel what is in it")
    group.forget(worker)


_check_private_parts()
ISOLATION: Final = FastAsyncio
