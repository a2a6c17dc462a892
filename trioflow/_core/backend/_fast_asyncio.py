"""Fast isolation on asyncio, with private attributes of anyio.

A worker gets a scope of its own, outside all scopes of its job, when anyio looks up the scope of its task, which
happens before a job enters a scope. anyio notifies this scope when a job leaves a shield. The tasks of all other
workers are cancelled directly.

Decided in docs/decisions: 04-cancel-scopes, 10-eager-tasks.
"""

# anyio annotates tasks as `asyncio.Task`, without the type of their results:
# https://github.com/agronholm/anyio/blob/4.16.0/src/anyio/_backends/_asyncio.py#L763.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import contextvars
import math
import sys
import weakref
from collections.abc import Callable, Coroutine, Iterator
from itertools import chain
from typing import Any, Final, cast

import anyio
import anyio.lowlevel
from anyio._backends import _asyncio as anyio_asyncio

from ._asyncio import AsyncioHost, AsyncioLoop, EdgeGroup, EdgeIsolation
from ._interface import TaskSnapshot, WorkerTask
from ._shared import (
    ReplacedClass,
    expect,
    expect_attributes,
    getrefcount,
    getweakrefcount,
    has_values,
)

TASK_STATES: Final = cast(Any, anyio_asyncio)._task_states
"""anyio's mapping of each task to its `TaskState`, which contains the task's innermost cancel scope."""
STATES_BY_REF: Final[dict[weakref.ref[Any], Any]] = TASK_STATES.data
"""The dict inside `TASK_STATES`, keyed by weak references to the tasks. Accessing it directly is faster."""


class FastAsyncioGroup(EdgeGroup):
    """The tasks of a run. Each worker gets a scope of its own when anyio looks the scope up."""

    def prepare(self, outer: Any) -> None:
        task: Any = asyncio.current_task()
        self.host = self._host = AsyncioHost(
            self._backend, task, task._must_cancel, self._context
        )
        self._loop = self._host.loop
        self._scope = _innermost_scope(task)
        self.host_task_id: int | None = id(task)
        if outer is None:
            self.iterations = LoopIterations(self._loop, self._context)
        else:
            self.iterations = outer.iterations

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self._host.run(body)
        if self._scope is not None and self._scope._effectively_cancelled:
            # The host's shield has blocked this cancellation.
            await anyio.lowlevel.checkpoint_if_cancelled()

    def is_cancelled(self) -> bool:
        scope = self._scope
        return self._host.is_cancelled() or (
            scope is not None and bool(scope._effectively_cancelled)
        )

    def effective_deadline(self) -> float:
        """Return the nearest deadline of the run and of the scopes around it, which anyio shows to jobs."""
        state = STATES_BY_REF.get(weakref.ref(self._host.task))
        deadline = self._deadline
        scope = None if state is None else state.cancel_scope
        while scope is not None:
            deadline = min(deadline, scope.deadline)
            scope = None if scope._shield else scope._parent_scope
        return deadline

    def cancel_worker(self, worker: WorkerTask, repeatedly: bool = False) -> None:
        """Cancel the task of a worker, once or at each of its awaits, as soon as its job is in no shield.

        If the job calls this itself, its next await is cancelled.
        """
        snapshot: WorkerState | None = worker.task_snapshot
        if snapshot is None:
            # Its first step will check whether the run is stopping.
            return
        worker.must_leave = True
        if (
            worker.scope is None
            and not repeatedly
            and worker.task is not asyncio.current_task(self._loop)
        ):
            worker.task.cancel()
        else:
            scope: WorkerScope = snapshot.get_or_create_base_scope()
            scope.is_repeated = scope.is_repeated or repeatedly
            scope.request()

    def take_back(self, worker: WorkerTask) -> None:
        if worker.scope is not None and worker.scope.is_pending:
            worker.scope.is_pending = worker.cause is not None
        else:
            super().take_back(worker)

    def forget(self, worker: WorkerTask) -> None:
        if worker.scope is not None:
            worker.scope.close()
        # The key is only a weak reference to the task, but the value refers to the task, and would keep it alive:
        # https://docs.python.org/3/library/weakref.html#weakref.WeakKeyDictionary.
        STATES_BY_REF.pop(weakref.ref(worker.task), None)
        # `super` would cost as much as all else here.
        EdgeGroup.forget(self, worker)


def _innermost_scope(task: object) -> Any:
    """Return the innermost scope of a task, except the scope that a worker's task has between its jobs."""
    state = STATES_BY_REF.get(weakref.ref(task))
    if isinstance(state, WorkerState):
        # `cancel_scope` would create a scope.
        return state.innermost_scope
    return None if state is None else state.cancel_scope


class WorkerScope(anyio_asyncio.CancelScope):
    """The outermost scope of a worker's task, which cancels the task once for each request, outside of shields.

    If the job is in a shield, the request is pending. anyio calls `_deliver_cancellation` when the shield is left, and
    meanwhile shows the pending request to the job, and to its functions in threads. To other tasks inside the scope, it
    is not shown: anyio's checkpoints would wait there until the task is cancelled, which never happens.
    """

    __slots__ = ("_worker", "is_pending", "is_repeated")

    def __new__(cls, worker: WorkerTask) -> Any:
        """Create the scope. The `__new__` of anyio's class takes no worker."""
        return object.__new__(cls)

    def __init__(self, worker: WorkerTask) -> None:
        # Whether the task is cancelled at each await, as by scopes of anyio:
        # https://github.com/agronholm/anyio/blob/4.16.0/src/anyio/_backends/_asyncio.py#L642.
        self.is_repeated = False
        self._worker = worker
        super().__init__()
        self._host_task = worker.task
        self._tasks.add(worker.task)

    @property
    def _cancel_called(self) -> Any:
        """Whether a pending request is shown to the current task, as anyio asks. A function in a thread has no task."""
        task = self._worker.group._backend.current_task()
        return self.is_pending and (self.is_repeated or task in (self._host_task, None))

    @_cancel_called.setter
    def _cancel_called(self, is_called: bool) -> None:
        self.is_pending = is_called

    @property  # type: ignore[misc]  # anyio's can be set, too
    def deadline(self) -> float:  # pyright: ignore
        """The nearest deadline outside the job: the job's own, the run's, or the deadline of a scope around the run."""
        worker = self._worker
        # A worker whose time is over has the deadline -inf. Its job has no time limit any more.
        own_deadline = math.inf if worker.deadline == -math.inf else worker.deadline
        if worker.task_snapshot is None or worker.is_shielded:
            return own_deadline
        group = cast(FastAsyncioGroup, worker.group)
        return min(own_deadline, group.effective_deadline())

    def request(self) -> None:
        """Cancel the task, or remember to do so when it has left its shields."""
        self.is_pending = True
        self._deliver_cancellation(self)

    def _deliver_cancellation(self, origin: Any) -> bool:
        task = self._host_task
        if self.is_repeated or task is None:
            return bool(super()._deliver_cancellation(origin))
        self._cancel_handle = None
        if self.is_pending:
            scopes = self._scopes_outside_shields()
            for other in list(chain.from_iterable(scope._tasks for scope in scopes)):
                if other is not task and TASK_STATES[other].parent_id is None:
                    # Begun by a function in a thread:
                    # https://github.com/agronholm/anyio/blob/4.16.0/src/anyio/_backends/_asyncio.py#L2804.
                    other.cancel()
            if self._worker.group._backend.current_task() is task:
                self._cancel_handle = task.get_loop().call_soon(
                    self._deliver_cancellation, self
                )
            elif self._worker.task_snapshot.innermost_scope in scopes:
                self.is_pending = False
                task.cancel()
        return False

    def _scopes_outside_shields(self) -> list[Any]:
        """Return the scopes of the task, from the innermost outwards, without shields and those inside them."""
        scopes: list[Any] = []
        scope = self._worker.task_snapshot.innermost_scope
        while scope is not None:
            scopes.append(scope)
            if scope._shield:
                scopes.clear()
            scope = scope._parent_scope
        return scopes

    def close(self) -> None:
        self.is_pending = False
        self._host_task = None
        self._tasks.clear()


class LoopIterations:
    """A source of objects that identify the iterations of the event loop.

    A loop in Python runs each iteration in a new frame of its `_run_once`, which identifies it. On other loops, a
    callback detects the next iteration. This is slower, and may cause an additional iteration.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, context: contextvars.Context
    ) -> None:
        self._loop = loop
        self._context = context
        self._code = getattr(getattr(loop, "_run_once", None), "__code__", None)
        self._current: object = None

    def current(self) -> object:
        """Return an object that identifies the current iteration."""
        # The frame of `Worker.work`, or of a function that it calls.
        frame = None
        if self._code is not None:
            frame = sys._getframe(2)
        while frame is not None:
            if frame.f_code is self._code:
                return frame
            frame = frame.f_back
        if self._current is None:
            self._current = object()
            self._loop.call_soon(self._on_next_iteration, context=self._context)
        return self._current

    def _on_next_iteration(self) -> None:
        self._current = None


class WorkerState(anyio_asyncio.TaskState):
    """A `TaskSnapshot` of a worker's task, which is also anyio's record of the task."""

    def __init__(self, worker: WorkerTask) -> None:
        group: Any = worker.group
        self.parent_id = group.host_task_id
        # The current innermost scope of the task.
        self.innermost_scope: Any = None
        # Its innermost scope between jobs, which is the worker's scope.
        self.base_scope: Any = None
        self.worker = worker
        self._task = worker.task
        self.context = worker.context
        self._variables = group.variables
        # Plus 1 for the variable that holds the worker.
        self._variable_count = len(group.variables) + 1
        # The number of references to the task and to its context between jobs.
        self.reference_count = 0
        self._iterations = group.iterations
        self._recorded_iteration: object = None

    def get_or_create_base_scope(self) -> Any:
        """Return the scope of the worker around its jobs. It is created before a job opens any scope."""
        worker = self.worker
        if worker.scope is None:
            scope: Any = WorkerScope(worker)
            worker.scope = self.base_scope = self.innermost_scope = scope
            # The scope refers to the task twice.
            self.reference_count += 2
        return worker.scope

    @property
    def cancel_scope(self) -> Any:
        """The innermost scope of the task, for anyio. The engine reads `innermost_scope` instead."""
        return self.innermost_scope or self.get_or_create_base_scope()

    @cancel_scope.setter
    def cancel_scope(self, scope: object) -> None:
        self.innermost_scope = scope

    def scopes_of_job(self) -> Iterator[Any]:
        """Yield the scopes that the job has opened, from the innermost scope outwards."""
        scope = self.innermost_scope
        while scope is not self.base_scope:
            yield scope
            scope = scope._parent_scope

    def is_task_unchanged(self) -> bool:
        context = self.context
        task = self._task
        if (
            self.innermost_scope is not self.base_scope
            or task.cancelling()
            or task._callbacks
        ):
            return False
        if (
            getrefcount(task) + getweakrefcount(task) + getrefcount(context)
            != self.reference_count
        ):
            return False
        # There are usually no variables, and then a call would still take a tenth of the time of this method.
        return len(context) == self._variable_count and (
            not self._variables or has_values(context, self._variables)
        )

    def allow_references(self, number: int) -> None:
        self.reference_count += number

    def record_iteration(self) -> None:
        self._recorded_iteration = self._iterations.current()

    def is_same_iteration(self) -> bool:
        return self._iterations.current() is self._recorded_iteration


class FastAsyncio(EdgeIsolation):
    """An isolation that runs many jobs in a single task."""

    group_class = FastAsyncioGroup

    def attach_current_task(self, worker: WorkerTask) -> TaskSnapshot | None:
        """Return a snapshot of the task, with the number of references to the task and to its context.

        If a job leaves a further reference behind, the worker retires: code that has the reference may cancel the task
        later, or set variables in its context. Examples are a variable, an `asyncio.timeout` or TaskGroup in an
        abandoned generator, and a task or callback that runs in the job's own context.
        """
        # Local variables, which `is_task_unchanged` has as well.
        task = worker.task
        context = worker.context
        task.remove_done_callback(worker.leave_unstarted)
        STATES_BY_REF[weakref.ref(task)] = worker.task_snapshot = snapshot = (
            WorkerState(worker)
        )
        snapshot.reference_count = (
            getrefcount(task) + getweakrefcount(task) + getrefcount(context)
        )
        return None if task.cancelling() else snapshot

    async def close_leftovers(
        self, worker: WorkerTask
    ) -> tuple[str | None, BaseException | None]:
        """Close the scopes and task groups that a job has left open. See `Isolation`.

        The errors in a task group are lost, because its scope does not refer to them.
        """
        scopes = list(worker.task_snapshot.scopes_of_job())
        for scope in scopes:
            scope.cancel()
        kind = None
        if scopes:
            kind = await self._loop.end_tasks_in(worker.task, scopes[-1])
        for scope in scopes:
            scope.__exit__(None, None, None)
        return kind, None


class _FakeTask:
    """A substitute for a task in `_check_private_attributes`."""

    def __init__(self) -> None:
        self.cancel_count = 0

    def cancel(self) -> None:
        self.cancel_count += 1


class _RecordingScope(WorkerScope):
    """A scope for `_check_private_attributes`, which only records that anyio would cancel its tasks."""

    __slots__ = ()

    def _deliver_cancellation(self, origin: object) -> bool:
        self.is_pending = False
        return False


def _check_private_attributes() -> None:
    """Raise an error if a private attribute of anyio is missing, or does not behave as expected.

    This takes about 50 µs and needs no event loop.
    """
    if sys.implementation.name == "cpython":
        if asyncio.Task.__module__ != "_asyncio" and "_asyncio" in sys.modules:
            raise ReplacedClass(
                f"asyncio.Task is {asyncio.Task.__module__}.{asyncio.Task.__qualname__}, which has no _must_cancel and "
                f"_callbacks as asyncio's own class: another library has replaced it, as nest_asyncio does"
            )
        expect_attributes(asyncio.Task, "_must_cancel", "_callbacks")
    group = cast(Any, FastAsyncioGroup).__new__(FastAsyncioGroup)
    worker = WorkerTask()
    worker.group = group
    worker.scope = None
    worker.deadline = math.inf
    worker.timer = worker.cause = None
    worker.context = contextvars.Context()
    group._backend = cast(Any, AsyncioLoop)()
    group._host = AsyncioHost.__new__(AsyncioHost)
    group._host.task = group.host_task_id = group.iterations = None
    group.variables = ()
    worker.task = task = cast(Any, _FakeTask())
    worker.task_snapshot = TASK_STATES[task] = state = WorkerState(worker)
    expect(
        TASK_STATES.get(task) is state and state.parent_id is None,
        "it does not record the scope of a task",
    )
    expect(
        STATES_BY_REF.get(weakref.ref(task)) is state,
        "it records the scopes of tasks differently",
    )
    _check_request_in_shield(task, state)
    _check_cancelled_parent(worker)
    group.forget(worker)


def _check_request_in_shield(task: Any, state: WorkerState) -> None:
    """Raise an error unless a request waits until the task has left its shield, and then cancels the task once."""
    shield: Any = anyio_asyncio.CancelScope(shield=True)
    shield._parent_scope = base_scope = state.cancel_scope
    state.cancel_scope = shield
    base_scope.request()
    expect(base_scope.is_pending and not task.cancel_count, "a shield has no effect")
    state.cancel_scope = base_scope
    base_scope.request()
    expect(
        not base_scope.is_pending and task.cancel_count == 1,
        "a task outside of shields is not cancelled",
    )


def _check_cancelled_parent(worker: WorkerTask) -> None:
    """Raise an error unless a shield hides the cancellation of its parent, and notifies the parent when it is left."""
    shield: Any = anyio_asyncio.CancelScope(shield=True)
    shield._parent_scope = recording = _RecordingScope(worker)
    recording.is_pending = recording.is_repeated = True
    expect(
        recording.cancel_called and recording._effectively_cancelled,
        "a scope ignores its cancellation",
    )
    expect(
        not shield._effectively_cancelled,
        "a shield does not hide the cancellation of its parent",
    )
    shield._restart_cancellation_in_parent()
    expect(
        not recording.is_pending,
        "a scope is not notified when a shield inside it is left",
    )


_check_private_attributes()
ISOLATION_FACTORY: Final = FastAsyncio
