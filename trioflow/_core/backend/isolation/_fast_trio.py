"""Fast isolation on trio, with private attributes of trio.

A worker gets a cancel scope of its own only if it has to be cancelled alone, or gets a deadline. That scope is inserted
between the scope of its run and the scopes that the job has opened. A scope costs a quarter of a task, and most workers
need none.
"""

from __future__ import annotations

import contextvars
import functools
import math
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

import trio

from .. import _shared
from .._interface import Isolation, Mark, WorkerGroup, WorkerTask
from .._shared import IDLE_NAME, NO_JOB, expect, expect_parts, getrefcount, getweakrefcount
from ..loop._trio import TrioHost

if TYPE_CHECKING:
    from .._interface import Scope, Variables, Work

TRIO_RUN: Final = cast(Any, trio)._core._run
CancelStatus: Final = TRIO_RUN.CancelStatus  # a node in trio's tree of cancel scopes


@functools.cache
def _protect_from_ctrl_c(work: Work) -> Work:
    """Return `work` with protection from Ctrl-C: see `TrioHost.run_in_nursery`."""
    return trio.lowlevel.enable_ki_protection(work)


class FastTrioGroup(WorkerGroup):
    """The tasks of one run, in a cancel scope with the run's deadline, inside the nursery of the outermost run.

    Each worker enters the scope of its group in its first step, and leaves it at the end.
    """

    names_tasks = False

    def __init__(
        self,
        work: Work,
        deadline: float,
        context: contextvars.Context,
        variables: Variables,
        outer: FastTrioGroup | None = None,
    ) -> None:
        self.variables = variables
        self.home: WorkerGroup = self if outer is None or outer.variables is not variables else outer.home
        self._host: TrioHost = TrioHost(context, None if outer is None else outer._host.nursery)
        self.host = self._host
        self._outer = outer
        self._work = _protect_from_ctrl_c(work)
        self._deadline = deadline
        self._scope: Any = None  # set in `run`
        self._status: Any = None  # the `CancelStatus` of the scope, set in `run`
        self._shielded: Any = None  # the scope of all shielded workers, if there are any
        self._context = context
        self._stopped = False  # whether `cancel` was called

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._outer is None:
            await self._host.run_in_nursery(functools.partial(self._run_outermost, body), self._deadline)
            return
        task: Any = trio.lowlevel.current_task()
        self._scope = scope = _make_nested_scope(task._cancel_status)
        self._status = status = scope._cancel_status
        if self._deadline != math.inf:
            scope.deadline = self._deadline
        task._activate_cancel_status(status)
        try:
            await body()
            self._leave_shield()
        finally:
            if self._deadline != math.inf:
                scope.deadline = math.inf
            task._activate_cancel_status(status.parent)
            status.close()
            scope._cancel_status = None  # break the reference cycle
        if task._cancel_status.effectively_cancelled:
            await trio.lowlevel.checkpoint_if_cancelled()

    async def _run_outermost(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._scope = self._host.nursery.cancel_scope
        self._status = self._scope._cancel_status
        await body()
        self._leave_shield()

    def spawn(self, worker: WorkerTask) -> None:
        self._context.run(self._host.nursery.start_soon, self._work, worker)

    def enter(self, worker: WorkerTask) -> None:
        """Move the task of a worker into the scope, in its first step."""
        if self._outer is not None:
            worker.task._activate_cancel_status(self._status)

    def adopt(self, worker: WorkerTask) -> None:
        worker.group = self
        self._move_to_scope(worker, self._status)

    def _move_to_scope(self, worker: WorkerTask, status: Any) -> None:
        """Move a worker that runs no job, with its own scope if it has one, into one of the group's scopes."""
        if worker.scope is None:
            worker.mark.status = status
            worker.task._activate_cancel_status(status)
        else:
            worker.mark.status.parent = status

    def deadline_passed(self) -> bool:
        return self._scope is not None and self._scope.cancel_called and not self._stopped

    def cancel(self) -> None:
        if not self._scope.cancel_called:
            self._stopped = True
            self._scope.cancel()

    def is_cancelled(self) -> bool:
        return self._status is not None and bool(self._status.effectively_cancelled)

    def shield(self, worker: WorkerTask) -> None:
        if self._shielded is None:
            self._shielded = _make_nested_scope(self._status)
            self._shielded.shield = True
        self._move_to_scope(worker, self._shielded._cancel_status)

    def _leave_shield(self) -> None:
        """Close the scope of the shielded workers, after they have left."""
        if self._shielded is not None:
            self._shielded._cancel_status.close()
            self._shielded._cancel_status = None  # break the reference cycle

    def cancel_shielded(self) -> None:
        if self._shielded is not None:
            self._shielded.cancel()

    def cancel_one(self, worker: WorkerTask) -> None:
        if worker.mark is not None:
            worker.scope = scope = worker.scope or self._insert_scope(worker)
            scope.cancel()

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        scope: Any = worker.scope
        if scope is None:
            worker.scope = scope = self._insert_scope(worker)
        if when < scope._registered_deadline:
            scope.deadline = when
        else:
            scope._deadline = when

    def is_expired(self, worker: WorkerTask) -> bool:
        status = worker.mark.status
        return bool(status.effectively_cancelled) and not status.parent_cancellation_is_visible_to_us

    def forget(self, worker: WorkerTask) -> None:
        if worker.scope is not None:
            status: Any = worker.mark.status
            if worker.task._cancel_status is status:
                worker.task._activate_cancel_status(status.parent)
            status.close()
            if status._scope._registered_deadline != math.inf:
                status._scope.deadline = math.inf
        if self._outer is not None:
            worker.task._activate_cancel_status(self._host.nursery.cancel_scope._cancel_status)
        SET_NAME(worker.task, IDLE_NAME)
        worker.task = worker.mark = worker.scope = None

    def _insert_scope(self, worker: WorkerTask) -> Scope:
        """Insert a new scope around the worker's task, inside the group's scope and outside all scopes of its job."""
        parent_status = worker.mark.status
        scope = _make_nested_scope(parent_status)
        worker.mark.status = status = scope._cancel_status
        outermost = worker.task._cancel_status
        if outermost is parent_status:
            worker.task._activate_cancel_status(status)
        else:
            while outermost.parent is not parent_status:
                outermost = outermost.parent
            outermost.parent = status
        return cast("Scope", scope)


class _Inheritable:
    """A base class that allows subclasses of trio's final classes: it overrides their `__init_subclass__`."""

    __slots__ = ()

    def __init_subclass__(cls) -> None:
        pass


class WorkerScope(_Inheritable, cast(Any, trio).CancelScope):  # type: ignore[misc]  # final, so its type is hidden
    """A cancel scope whose deadline can be postponed at almost no cost.

    trio keeps deadlines in a heap, and an update of the heap costs more than a job. Most deadlines never pass, because
    the next job sets a later one. So the heap may contain an earlier deadline than the scope has. When that one passes,
    the scope is not cancelled: the heap gets the current deadline.
    """

    __slots__ = ()

    def _cancel(self: Any, reason: Any) -> None:
        if self._deadline > self._registered_deadline and reason.source == "deadline":
            self.deadline = self._deadline
        else:
            trio.CancelScope._cancel(self, reason)


TASK: Final[Any] = trio.lowlevel.Task
GET_NAME: Final = TASK.name.__get__
SET_NAME: Final = TASK.name.__set__


class TrioNamedTask(_Inheritable, TASK):  # type: ignore[misc]  # final, so its type is hidden
    """The task of a worker, which computes its name from the label of its job when asked.

    Setting the name for each job would cost up to a third of a job. So trio's attribute for the name contains the
    worker; or a tuple of the worker, a job and a name, if that job has named its task.
    """

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name that the job gave its task, or else the label of the job."""
        worker, named_by, name = self._name_record()
        job = named_by if worker is None else worker.job
        if job is named_by:
            return name
        return IDLE_NAME if job is None else str(job.label)

    @name.setter
    def name(self, name: str) -> None:
        worker, _, _ = self._name_record()
        SET_NAME(self, name if worker is None else (worker, worker.job, name))

    def _name_record(self) -> tuple[WorkerTask | None, Any, str]:
        """Return the worker (None once it has left), the job that has named its task last, and that name."""
        stored: Any = GET_NAME(self)
        if isinstance(stored, WorkerTask):
            return stored, NO_JOB, ""
        return (None, NO_JOB, stored) if isinstance(stored, str) else stored


def _make_nested_scope(parent_status: Any) -> Any:
    """Return a new scope inside the `CancelStatus` `parent_status`, as if it had been entered.

    `CancelScope.__enter__` works for the calling task only, and makes its scope the innermost one.
    """
    scope: Any = WorkerScope()
    scope._has_been_entered = True
    scope._cancel_status = CancelStatus(scope=scope, parent=parent_status)
    return scope


CANCELLATION_REFERENCES: Final = 3
"""How many references to a task trio's frames keep after they cancel its wait, as at the end of each `trio.sleep`.

trio keeps these frames until the next step of any task. If their references counted as left behind by the job, a worker
would retire after each sleep, which costs 36 µs instead of 26. If another version of trio keeps another number, only
this speed is lost.
"""


class TrioMark(Mark):
    """A snapshot of a worker's task before a job.

    It reads private attributes, because trio has no public way to find the innermost scope, and no cheap public way to
    find out whether that scope is cancelled.
    """

    __slots__ = (
        "_context",
        "_noted_points",
        "_nurseries",
        "_reference_count",
        "_size",
        "_task",
        "_variables",
        "status",
    )

    def __init__(self, worker: WorkerTask) -> None:
        task: Any = worker.task
        self._task = task
        self.status: Any = task._cancel_status
        self._nurseries = task._child_nurseries
        self._context = task.context
        self._size = len(task.context)
        self._variables = _shared.variables_of(task.context, worker.group.variables, worker)
        self._noted_points = task._schedule_points  # how often the task had been scheduled at the last `note_turn`
        self._reference_count = 0

    def count_references(self) -> None:
        """Count the strong and weak references to the task, in its first step."""
        task = self._task  # a local variable, as in `intact`, so that both count the same references
        self._reference_count = getrefcount(task) + getweakrefcount(task)

    def intact(self) -> bool:
        status, context, task = self.status, self._context, self._task
        if task._cancel_status is not status or status.effectively_cancelled or self._nurseries:
            return False
        count = getrefcount(task) + getweakrefcount(task)
        if count != self._reference_count and count != self._reference_count + CANCELLATION_REFERENCES:
            return False
        if len(context) != self._size:
            return False
        if self._variables:  # usually empty; even then the loop would cost a tenth of this method
            for variable, value in self._variables:
                if context.get(variable) is not value:
                    return False
        return True

    def note_turn(self) -> None:
        self._noted_points = self._task._schedule_points

    def stood_still(self) -> bool:
        return bool(self._task._schedule_points == self._noted_points)


class FastTrio(Isolation):
    """Runs many jobs in one task, and all tasks in the nursery of the outermost run; see `Isolation`."""

    def group(
        self,
        work: Work,
        deadline: float,
        on_deadline: Callable[[], None],
        context: contextvars.Context,
        variables: Variables,
        outer: WorkerGroup | None = None,
    ) -> FastTrioGroup:
        # `on_deadline` is not needed: the scope of the group has the deadline.
        return FastTrioGroup(work, deadline, context, variables, cast("FastTrioGroup | None", outer))

    def enter(self, worker: WorkerTask) -> Mark | None:
        worker.task = trio.lowlevel.current_task()  # not in a local variable, which `count_references` would count
        worker.task.__class__ = TrioNamedTask
        SET_NAME(worker.task, worker)
        cast(FastTrioGroup, worker.group).enter(worker)
        worker.mark = mark = TrioMark(worker)
        mark.count_references()
        return None if mark.status.effectively_cancelled else mark

    async def close_leftovers(self, worker: WorkerTask) -> tuple[str | None, BaseException | None]:
        task: Any = worker.task
        kind = None
        errors: list[BaseException] = []
        while task._cancel_status is not worker.mark.status:
            scope = task._cancel_status._scope
            nurseries = task._child_nurseries
            if nurseries and nurseries[-1].cancel_scope is scope:
                kind = "nursery"
                scope.cancel()
                error = await _close_nursery(nurseries[-1])
                error = None if error is None else self._loop.split(error)[1]
                errors += [] if error is None else [error]
            if task._cancel_status is scope._cancel_status:
                kind = kind or "cancel scope"
                scope.__exit__(None, None, None)
        return kind, BaseExceptionGroup("in nurseries that were left open", errors) if errors else None

    def was_cancelled(self, worker: WorkerTask) -> bool:
        return bool(worker.mark.status.effectively_cancelled)


async def _close_nursery(nursery: Any) -> BaseException | None:
    """Wait until the tasks of a nursery have ended, in the task that opened it; return the nursery's error.

    If an abandoned async generator opened the nursery, trio also closes the generator, in a system task. That task
    would wait forever, because a nursery wakes only the task that opened it. So it is woken here.
    """
    if nursery._nested_child_running:
        nursery._nested_child_finished = _return_error  # for the finalizer of the generator
        finished: Any = cast(Any, type(nursery))._nested_child_finished
        error: BaseException | None = await finished(nursery, None)
        return error
    if not nursery._closed:
        nursery._parent_waiting_in_aexit = True
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
        for task in _system_tasks():
            if any(frame.f_locals.get("self") is nursery for frame, _ in _shared.await_chain(task.coro)):
                trio.lowlevel.reschedule(task)
    while nursery in nursery.parent_task.child_nurseries:  # the finalizer removes it within a turn or two
        await trio.lowlevel.cancel_shielded_checkpoint()
    return None


async def _return_error(error: BaseException | None) -> BaseException | None:
    return error


async def _no_work(worker: WorkerTask) -> None:
    pass


def _system_tasks() -> Iterator[Any]:
    root = trio.lowlevel.current_root_task()
    for nursery in root.child_nurseries if root is not None else ():
        for task in nursery.child_tasks:
            yield task
            for inner in task.child_nurseries:
                yield from inner.child_tasks


def _scope_without_clock() -> Any:
    """Return a scope that does not read the clock, because it looks as if it had been exited."""
    scope: Any = trio.CancelScope()
    scope._has_been_entered = True
    return scope


def _check_private_parts() -> None:
    """Raise an error if private attributes of trio are missing or behave differently.

    This takes some 50 µs, and no event loop.
    """
    nursery_class: Any = trio.Nursery
    expect_parts(trio.lowlevel.Task, "name", "_activate_cancel_status", "_cancel_status", "_child_nurseries")
    expect_parts(trio.lowlevel.Task, "_schedule_points")
    expect_parts(nursery_class, "_nested_child_finished")
    parent_status, job_scope = _scope_without_clock(), _scope_without_clock()
    outermost = CancelStatus(scope=parent_status)
    task: Any = object.__new__(trio.lowlevel.Task)
    task.context, task._cancel_status, task._child_nurseries = contextvars.Context(), None, []
    task._schedule_points = 0
    task._activate_cancel_status(outermost)
    worker = WorkerTask()
    worker.group = group = FastTrioGroup(_no_work, math.inf, task.context, ())
    worker.task, worker.scope = task, None
    worker.mark = TrioMark(worker)
    worker.mark.count_references()
    worker.job, task.__class__ = None, TrioNamedTask
    SET_NAME(task, worker)
    expect(task.name == IDLE_NAME, "a task cannot be given another class")
    job_status = CancelStatus(scope=job_scope, parent=outermost)
    task._activate_cancel_status(job_status)
    worker.scope = scope = group._insert_scope(worker)
    status: Any = worker.mark.status
    expect(
        job_status.parent is status and status.parent is outermost and status._scope is scope,
        "a scope that is put between two others has no effect on them",
    )
    task._activate_cancel_status(status)
    expect(worker.mark.intact() and task._cancel_status is status, "a task does not enter a scope")
    nursery = nursery_class._create(task, scope, True)
    expect(
        (nursery._nested_child_running, nursery._closed, nursery._parent_waiting_in_aexit) == (True, False, False)
        and not worker.mark.intact(),
        "a task does not know its nurseries",
    )
    task._activate_cancel_status(None)
    scope.cancel()
    expect(group.is_expired(worker) and job_status.effectively_cancelled, "a scope does not cancel what it contains")
    parent_status._cancel_status = outermost
    parent_status.cancel()
    expect(not group.is_expired(worker), "a scope does not see that one around it was cancelled")
    scope.shield = True
    expect(group.is_expired(worker), "a shield has no effect")
    _check_deadlines()


def _check_deadlines() -> None:
    """Raise an error unless a `WorkerScope` can postpone its deadline in trio's heap."""
    postponed_to: list[float] = []
    setter = property(fset=lambda _, deadline: postponed_to.append(deadline))
    scope: Any = type("Recorded", (WorkerScope,), {"deadline": setter})()
    expect_parts(type(scope), "_deadline", "_registered_deadline", "_cancel_called")
    scope._registered_deadline = 1.0
    heap: Any = TRIO_RUN.Deadlines()
    heap.add(1.0, scope)
    scope._deadline = 2.0
    heap.expire(1.5)
    expect(postponed_to == [2.0] and not scope._cancel_called, "a scope cannot put off its deadline")


_check_private_parts()
ISOLATION: Final = FastTrio
