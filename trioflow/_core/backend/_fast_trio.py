"""Fast isolation on trio, with private attributes of trio.

A worker gets a cancel scope of its own only if it has to be cancelled alone. That scope is inserted between the scope
of its run and the scopes that the job has opened. For most workers it would only cost a quarter of a task.

Decided in docs/decisions: 04-cancel-scopes, 05-private-parts.
"""

from __future__ import annotations

import contextvars
import math
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, cast

import trio

from ._interface import Isolation, TaskSnapshot, WorkerTask
from ._shared import (
    IDLE_TASK_NAME,
    await_chain,
    expect,
    expect_attributes,
    getrefcount,
    getweakrefcount,
    has_values,
)
from ._trio import (
    CANCELLATION_REFERENCE_COUNT,
    DirectTrioGroup,
    DirectTrioSnapshot,
    TrioHost,
)

TRIO_RUN_MODULE: Final = cast(Any, trio)._core._run
# A node in trio's tree of cancel scopes: https://github.com/python-trio/trio/blob/v0.35.0/src/trio/_core/_run.py#L337.
CancelStatus: Final = TRIO_RUN_MODULE.CancelStatus
NURSERY_CLASS: Final[Any] = trio.Nursery
TASK_CLASS: Final[Any] = trio.lowlevel.Task
get_stored_name: Final = TASK_CLASS.name.__get__
set_stored_name: Final = TASK_CLASS.name.__set__


class FastTrioGroup(DirectTrioGroup):
    """The tasks of a run, in the nursery of the outermost run and in a cancel scope with this run's deadline.

    Each worker enters the scope of its group in its first step, and leaves it at its end.
    """

    def prepare(self, outer: Any) -> None:
        self._outer_group: FastTrioGroup | None = outer
        nursery = None if outer is None else outer.host.nursery
        self.host = self._host = TrioHost(self._backend, self._context, nursery)
        self._scope: Any = None  # set in `run`
        self._cancel_status: Any = None  # the `CancelStatus` of the scope, set in `run`
        # The scope of all shielded workers, or None if there are none.
        self._shielded_scope: Any = None

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with CallScope(deadline=self._deadline) as self._scope:
            self._cancel_status = self._scope._cancel_status
            if self._outer_group is None:
                await self._run_in_nursery(body)
            else:
                await body()
            if self._shielded_scope is not None:
                # Its workers have left.
                self._shielded_scope._cancel_status.close()
                # Break the reference cycle.
                self._shielded_scope._cancel_status = None
        await trio.lowlevel.checkpoint_if_cancelled()

    async def _run_in_nursery(
        self, body: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Await `body()` in a nursery that costs half as much as `trio.open_nursery()`.

        The end of the nursery takes a turn of the loop only if the nursery is not empty, or if the body took no turn.
        """
        task: Any = trio.lowlevel.current_task()
        schedule_points = task._schedule_points
        fault = None
        self._host.nursery = nursery = NURSERY_CLASS._create(task, self._scope, True)
        try:
            await body()
        except BaseException as error:
            # Of the engine itself.
            fault = error
        nursery._nested_child_running = False
        nursery._check_nursery_closed()
        is_empty = nursery._closed and not (fault or nursery._pending_excs)
        if is_empty and task._schedule_points > schedule_points:
            task._child_nurseries.remove(nursery)
            return
        fault = await nursery._nested_child_finished(fault)
        if fault is not None:
            raise fault

    def is_interchangeable(self, other: Any) -> bool:
        if other is self:
            return True
        if self._host.nursery is not other._host.nursery:
            return False
        if len(self.variables) != len(other.variables):
            return False
        pairs = zip(self.variables, other.variables, strict=True)
        return all(mine[0] is its[0] and mine[1] is its[1] for mine, its in pairs)

    def call_at(
        self, when: float, function: Callable[[], None], context: contextvars.Context
    ) -> Callable[[], None]:
        runner = TRIO_RUN_MODULE.GLOBAL_RUN_CONTEXT.runner
        return Timer(
            runner.deadlines,
            when,
            runner.entry_queue.run_sync_soon,
            lambda: context.run(function),
        ).cancel

    def is_cancelled(self) -> bool:
        return self._cancel_status is not None and bool(
            self._cancel_status.effectively_cancelled
        )

    def shield(self, worker: WorkerTask) -> None:
        if self._shielded_scope is None:
            self._shielded_scope = _make_nested_scope(self._cancel_status)
            self._shielded_scope.shield = True
        status = self._shielded_scope._cancel_status
        if worker.scope is None:
            worker.task_snapshot.cancel_status = status
            worker.task._activate_cancel_status(status)
        else:
            worker.task_snapshot.cancel_status.parent = status

    def cancel_shielded(self, workers: Iterable[WorkerTask]) -> None:
        if self._shielded_scope is not None:
            self._shielded_scope.cancel()

    def cancel_worker(self, worker: WorkerTask, repeatedly: bool = False) -> None:
        if worker.task_snapshot is not None:
            worker.scope = scope = worker.scope or self._insert_scope(worker)
            scope.cancel()

    def forget(self, worker: WorkerTask) -> None:
        if worker.scope is not None:
            status: Any = worker.task_snapshot.cancel_status
            if worker.task._cancel_status is status:
                worker.task._activate_cancel_status(status.parent)
            status.close()
            # Break the reference cycle.
            status._scope._cancel_status = None
        if worker.task is not None:
            # Break the reference cycle.
            set_stored_name(worker.task, IDLE_TASK_NAME)
        worker.task = worker.task_snapshot = worker.scope = None

    def _insert_scope(self, worker: WorkerTask) -> Any:
        """Insert a new scope around the worker's task, inside the group's scope and outside all scopes of its job."""
        parent_status = worker.task_snapshot.cancel_status
        scope = _make_nested_scope(parent_status)
        worker.task_snapshot.cancel_status = status = scope._cancel_status
        outermost = worker.task._cancel_status
        if outermost is parent_status:
            worker.task._activate_cancel_status(status)
        else:
            while outermost.parent is not parent_status:
                outermost = outermost.parent
            outermost.parent = status
        return scope


class _Inheritable:
    """A base class that allows subclasses of trio's final classes: it overrides their `__init_subclass__`."""

    __slots__ = ()

    # trio's own raises an error: https://github.com/python-trio/trio/blob/v0.35.0/src/trio/_util.py#L253.
    def __init_subclass__(cls) -> None:
        pass


class JobTask(_Inheritable, TASK_CLASS):  # type: ignore[misc]  # final, so its type is hidden
    """The task of a worker. Its name, computed when it is read, is the label of the job that the worker runs.

    Until a name is set, trio's attribute for it has the worker: a name costs up to a third of an empty job.
    """

    __slots__ = ()

    @property
    def name(self) -> str:
        stored: Any = get_stored_name(self)
        if isinstance(stored, str):
            return stored
        if stored.job is None:
            return IDLE_TASK_NAME
        return str(stored.job.label)

    @name.setter
    def name(self, name: str) -> None:
        stored: Any = get_stored_name(self)
        if not isinstance(stored, str):
            stored.must_leave = True
        set_stored_name(self, name)


class _CallScope(_Inheritable, cast(Any, trio).CancelScope):  # type: ignore[misc]  # final, so its type is hidden
    """A cancel scope around a call of a job, which can be left although the job has left scopes open inside it.

    It sets and forgets its deadline itself: the generators of trio for it took 3 µs. In guest mode, trio would also
    wake its host, which is needed only outside of tasks.
    """

    __slots__ = ()

    def __attrs_post_init__(self) -> None:
        """Skip the checks of the deadline, which was checked as an option."""

    def __enter__(self: Any) -> Any:
        run_context = TRIO_RUN_MODULE.GLOBAL_RUN_CONTEXT
        task = run_context.task
        self._has_been_entered = True
        self._cancel_status = status = CancelStatus(
            scope=self, parent=task._cancel_status
        )
        task._activate_cancel_status(status)
        if self._deadline != math.inf:
            self._registered_deadline = self._deadline
            run_context.runner.deadlines.add(self._deadline, self)
        return self

    def __exit__(self: Any, kind: object, error: object, traceback: object) -> bool:
        """Leave the scope. Scopes that the job has left open are then outside of it, for `close_leftovers`."""
        run_context = TRIO_RUN_MODULE.GLOBAL_RUN_CONTEXT
        task = run_context.task
        status = self._cancel_status
        innermost = task._cancel_status
        if innermost is status and error is None and not self._cancel_called:
            task._activate_cancel_status(status.parent)
            status.close()
            self._cancel_status = None
            if self._registered_deadline != math.inf:
                run_context.runner.deadlines.remove(self._registered_deadline, self)
                self._registered_deadline = math.inf
            return False
        outermost = None if innermost is status else innermost
        while outermost is not None and outermost.parent is not status:
            outermost = outermost.parent
        if outermost is None:
            # The job has left nothing open. Or it has left this scope, which is an error.
            return bool(super().__exit__(kind, error, traceback))  # pyright: ignore
        outermost.parent = status.parent
        task._activate_cancel_status(status)
        try:
            return bool(super().__exit__(kind, error, traceback))  # pyright: ignore
        finally:
            task._activate_cancel_status(innermost)


# The parameters of trio's class are hidden.
CallScope: Final[Any] = _CallScope


class Timer:
    """A timer in the form of a trio cancel scope: at its deadline, it calls a function, in a later turn of the loop."""

    def __init__(
        self,
        deadlines: Any,
        when: float,
        call_soon: Callable[..., Any],
        action: Callable[[], Any],
    ) -> None:
        self._deadlines = deadlines
        self._registered_deadline = when
        self._call_soon = call_soon
        self._action = action
        deadlines.add(when, self)

    def cancel(self) -> None:
        # `bool` does nothing. The call may wait for its turn already.
        self._action = self._call_soon = bool
        self._cancel(None)

    def _cancel(self, reason: object) -> None:
        """Let the function be called. trio calls this method at the deadline."""
        if self._registered_deadline != math.inf:
            self._deadlines.remove(self._registered_deadline, self)
            self._registered_deadline = math.inf
            # trio is about to end, and calls nothing any more:
            # https://github.com/python-trio/trio/blob/v0.35.0/src/trio/_core/_entry_queue.py#L138.
            with suppress(trio.RunFinishedError):
                self._call_soon(lambda: self._action())


def _make_nested_scope(parent_status: object) -> Any:
    """Return a new scope inside the scope of `parent_status`, a `CancelStatus`, in a state as if a task had entered it.

    `CancelScope.__enter__` cannot be used, because it makes the scope the innermost scope of the calling task.
    """
    scope = _inert_scope()
    scope._cancel_status = CancelStatus(scope=scope, parent=parent_status)
    return scope


class TrioTaskSnapshot(DirectTrioSnapshot):
    """The state of a worker's task before a job, to find out whether the job has changed it.

    This reads private attributes, because trio has no public function that returns the innermost scope, and no fast
    function that tells whether this scope is cancelled.
    """

    __slots__ = (
        "_nurseries",
        "_recorded_schedule_points",
        "_variable_count",
        "_variables",
        "cancel_status",
    )

    def __init__(self, worker: WorkerTask) -> None:
        DirectTrioSnapshot.__init__(self, worker)
        task: Any = self._task
        self.cancel_status: Any = task._cancel_status
        self._nurseries = task._child_nurseries
        self._variables = worker.group.variables
        # Plus 1 for the variable that holds the worker.
        self._variable_count = len(self._variables) + 1
        # The number of times that the task had been scheduled by the last `record_iteration`.
        self._recorded_schedule_points = task._schedule_points

    def is_task_unchanged(self) -> bool:
        status = self.cancel_status
        context = self._context
        task = self._task
        if (
            task._cancel_status is not status
            or status.effectively_cancelled
            or self._nurseries
        ):
            return False
        count = getrefcount(task) + getweakrefcount(task) + getrefcount(context)
        if (
            count != self._reference_count
            and count != self._reference_count + CANCELLATION_REFERENCE_COUNT
        ):
            return False
        # There are usually no variables, and then a call would still take a tenth of the time of this method.
        return len(context) == self._variable_count and (
            not self._variables or has_values(context, self._variables)
        )

    def allow_references(self, number: int) -> None:
        """Let so many further references to the task be no change."""
        self._reference_count += number

    def record_iteration(self) -> None:
        self._recorded_schedule_points = self._task._schedule_points

    def is_same_iteration(self) -> bool:
        return bool(self._task._schedule_points == self._recorded_schedule_points)


class FastTrio(Isolation):
    """An isolation that runs many jobs in a single task, and all tasks in the nursery of the outermost run."""

    group_class = FastTrioGroup

    def attach_current_task(self, worker: WorkerTask) -> TaskSnapshot | None:
        # No local variable, because `TrioTaskSnapshot` would count it.
        worker.task = trio.lowlevel.current_task()
        worker.task.__class__ = JobTask
        set_stored_name(worker.task, worker)
        group: Any = worker.group
        if group._outer_group is not None:
            worker.task._activate_cancel_status(group._cancel_status)
        worker.task_snapshot = snapshot = TrioTaskSnapshot(worker)
        return None if snapshot.cancel_status.effectively_cancelled else snapshot

    async def close_leftovers(
        self, worker: WorkerTask
    ) -> tuple[str | None, BaseException | None]:
        task: Any = worker.task
        kind = None
        errors: list[BaseException] = []
        while task._cancel_status is not worker.task_snapshot.cancel_status:
            scope = task._cancel_status._scope
            nurseries = task._child_nurseries
            if nurseries and nurseries[-1].cancel_scope is scope:
                kind = "nursery"
                scope.cancel()
                error = await _close_nursery(nurseries[-1])
                if error is not None:
                    _, rest = self._loop.split_cancellations(error)
                    if rest is not None:
                        errors.append(rest)
            if task._cancel_status is scope._cancel_status:
                kind = kind or "cancel scope"
                scope.__exit__(None, None, None)
        if not errors:
            return kind, None
        return kind, BaseExceptionGroup("in nurseries that were left open", errors)

    def create_call_scope(self, worker: WorkerTask | None, deadline: float) -> Any:
        return CallScope(deadline=deadline)

    def was_cancelled(self, worker: WorkerTask) -> bool:
        return bool(worker.task_snapshot.cancel_status.effectively_cancelled)


async def _close_nursery(nursery: Any) -> BaseException | None:
    """Wait, in the task that opened a nursery, until the nursery's tasks have ended. Return the nursery's error.

    If an abandoned async generator opened the nursery, trio also closes the generator, in a system task. The system
    task would wait forever, because a nursery wakes only the task that opened it. So this function wakes it.
    """
    if nursery._nested_child_running:
        # If a generator opened the nursery, its finalizer calls this:
        # https://github.com/python-trio/trio/blob/v0.35.0/src/trio/_core/_run.py#L1104.
        nursery._nested_child_finished = _return_error
        finished: Any = cast(Any, type(nursery))._nested_child_finished
        error: BaseException | None = await finished(nursery, None)
        return error
    if not nursery._closed:
        nursery._parent_waiting_in_aexit = True
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        # trio wakes only the task that opened the nursery:
        # https://github.com/python-trio/trio/blob/v0.35.0/src/trio/_core/_run.py#L1251.
        for task in _system_tasks():
            if any(
                frame.f_locals.get("self") is nursery
                for frame, _ in await_chain(task.coro)
            ):
                trio.lowlevel.reschedule(task)
    # The finalizer removes the nursery in one of the next two iterations of the event loop.
    while nursery in nursery.parent_task.child_nurseries:
        await trio.lowlevel.cancel_shielded_checkpoint()
    return None


async def _return_error(error: BaseException | None) -> BaseException | None:
    return error


def _system_tasks() -> Iterator[Any]:
    root = trio.lowlevel.current_root_task()
    nurseries = root.child_nurseries if root is not None else []
    for nursery in nurseries:
        for task in nursery.child_tasks:
            yield task
            for inner in task.child_nurseries:
                yield from inner.child_tasks


def _inert_scope() -> Any:
    """Return a scope that looks exited, so that it never reads the clock, which would need an event loop."""
    scope: Any = trio.CancelScope()
    scope._has_been_entered = True
    return scope


def _check_private_attributes() -> None:
    """Raise an error if a private attribute of trio is missing, or does not behave as expected.

    This takes about 50 µs and needs no event loop.
    """
    expect_attributes(
        TASK_CLASS,
        "_activate_cancel_status",
        "_cancel_status",
        "_child_nurseries",
        "_schedule_points",
    )
    expect_attributes(NURSERY_CLASS, "_check_nursery_closed", "_nested_child_finished")
    expect_attributes(
        trio.CancelScope,
        "_cancel_called",
        "_deadline",
        "_has_been_entered",
        "_registered_deadline",
    )
    expect_attributes(TRIO_RUN_MODULE.Runner, "deadlines")
    expect_attributes(TRIO_RUN_MODULE.Deadlines, "add", "remove")
    deadlines = TRIO_RUN_MODULE.Deadlines()
    calls = list[Any]()
    Timer(deadlines, 1.0, calls.append, bool)
    expect(
        deadlines.expire(2.0) and len(calls) == 1 and not deadlines._active,
        "a deadline has no effect",
    )
    parent_scope = _inert_scope()
    job_scope = _inert_scope()
    outermost = CancelStatus(scope=parent_scope)
    task: Any = object.__new__(TASK_CLASS)
    task.context = contextvars.Context()
    task._cancel_status = None
    task._child_nurseries = []
    task._schedule_points = 0
    task._activate_cancel_status(outermost)
    worker = WorkerTask()
    worker.group = group = FastTrioGroup.__new__(FastTrioGroup)
    group.variables = ()
    worker.task = task
    worker.scope = None
    task.context.run(contextvars.ContextVar[WorkerTask]("worker").set, worker)
    worker.task_snapshot = TrioTaskSnapshot(worker)
    worker.job = None
    task.__class__ = JobTask
    set_stored_name(task, worker)
    expect(task.name == IDLE_TASK_NAME, "a task does not compute its name")
    job_status = CancelStatus(scope=job_scope, parent=outermost)
    task._activate_cancel_status(job_status)
    worker.scope = scope = group._insert_scope(worker)
    status: Any = worker.task_snapshot.cancel_status
    expect(
        job_status.parent is status
        and status.parent is outermost
        and status._scope is scope,
        "a scope inserted between two others has no effect on them",
    )
    task._activate_cancel_status(status)
    expect(
        worker.task_snapshot.is_task_unchanged() and task._cancel_status is status,
        "a task does not enter a scope",
    )
    nursery = NURSERY_CLASS._create(task, scope, True)
    is_open = nursery._nested_child_running and not nursery._closed
    is_open = is_open and not nursery._parent_waiting_in_aexit
    is_changed = not worker.task_snapshot.is_task_unchanged()
    expect(is_open and is_changed, "a task does not know its nurseries")
    nursery._nested_child_running = False
    nursery._check_nursery_closed()
    expect(
        nursery._closed and not nursery._pending_excs,
        "a nursery without tasks does not close",
    )
    task._activate_cancel_status(None)
    scope.cancel()
    expect(
        status.effectively_cancelled and job_status.effectively_cancelled,
        "a scope does not cancel its contents",
    )


_check_private_attributes()
ISOLATION_FACTORY: Final = FastTrio
