"""The trio backend by the public names of trio and anyio: the event loop, and direct isolation.

Direct isolation takes the place of fast isolation if a private attribute of trio is not as expected. Each job has a
cancel scope of its own, and its label as task name. A task runs another job, in a new scope, if the last job has left
no trace in it. If a job leaves a cancel scope or a nursery open, trio raises an error when the job's scope is left,
before any other job, and this error ends the run.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import math
import signal
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from types import FrameType
from typing import Any, Final, TypeVar

import trio

from . import _shared
from ._interface import (
    Backend,
    HostTask,
    Isolation,
    TaskSnapshot,
    WorkerGroup,
    WorkerTask,
)
from ._shared import (
    IDLE_TASK_NAME,
    ContextVariables,
    getrefcount,
    getweakrefcount,
    has_values,
)

T = TypeVar("T")

SHARED_OBJECT: Final[trio.lowlevel.RunVar[Any]] = trio.lowlevel.RunVar(
    "shared by the runs of trioflow"
)
"""The object that all runs in an event loop share. trio keeps a separate value for each loop."""
# A value of `Task.custom_sleep_data`, which trio sets to None whenever it reschedules the task:
# https://github.com/python-trio/trio/blob/v0.35.0/src/trio/_core/_run.py#L1926.
NOT_RESCHEDULED: Final = "in the turn of trioflow's worker"
CANCELLATION_REFERENCE_COUNT: Final = 3
"""The number of references to a task that trio's own frames keep after a wait of the task was cancelled. Each
`trio.sleep` ends so, and the frames exist until the next step of any task. If the references counted as left behind by
the job, a worker would leave after each sleep. If trio keeps another number, only this speedup is lost."""


class TrioHost(HostTask):
    """The task that awaits a run, and the nursery of the outermost run, which contains the tasks of all nested runs."""

    def __init__(
        self, backend: Backend, context: contextvars.Context, nursery: object = None
    ) -> None:
        self._backend = backend
        self._context = context
        # None until the outermost run opens it.
        self.nursery: Any = nursery

    @property
    def task(self) -> Any:
        return self.nursery.parent_task

    def keep(self, cancellation: BaseException) -> None:
        """Do nothing: trio raises it again at the next checkpoint."""

    async def yield_in_ending(self, *, is_unwinding: bool) -> bool:
        # A scope cancels jobs that unwind at each checkpoint, so nothing has to cancel them again.
        await trio.lowlevel.cancel_shielded_checkpoint()
        return True

    async def run_uninterrupted(
        self,
        function: Callable[[], Coroutine[Any, Any, None]],
        on_interrupt: Callable[[], None],
    ) -> None:
        """Await `function()` in a new task with a shield. trio raises KeyboardInterrupt in the calling task alone."""

        async def shielded() -> None:
            with trio.CancelScope(shield=True):
                await function()

        try:
            async with trio.open_nursery() as nursery:
                self._context.run(nursery.start_soon, shielded)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None


class CtrlC:
    """A SIGINT handler around trio's handler: Ctrl-C interrupts the code of a job, and never the engine.

    trio raises KeyboardInterrupt in the code that is running, unless a function in its stack is protected. If so, trio
    raises it in the main task at its next checkpoint, where a run can end cleanly. So this handler passes a protected
    frame to the handler of trio for each task that runs code of trioflow, and an unprotected frame for the code of a
    job.
    """

    def __init__(self, trio_handler: Callable[[int, FrameType | None], Any]) -> None:
        self.trio_handler: Final = trio_handler
        # How many runs in this loop use the handler.
        self.run_count = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal. Python may call this between any two instructions of the program."""
        if _shared.is_in_job_body(frame):
            frame = _unprotected_frame()
        elif trio.lowlevel.in_trio_task():
            coroutine: Any = trio.lowlevel.current_task().coro
            if _shared.is_in_engine(frame, coroutine.cr_frame):
                frame = _protected_frame()
        self.trio_handler(number, frame)

    def __enter__(self) -> None:
        self.run_count += 1

    def __exit__(self, *_: object) -> None:
        self.run_count -= 1
        if not self.run_count and _shared.SIGNALS.getsignal(signal.SIGINT) is self:
            _shared.SIGNALS.signal(signal.SIGINT, self.trio_handler)


# trio looks in the stack for the nearest function that it knows to be protected or not:
# https://github.com/python-trio/trio/blob/v0.35.0/src/trio/_core/_ki.py#L170.
@trio.lowlevel.disable_ki_protection
def _unprotected_frame() -> FrameType | None:
    return inspect.currentframe()


@trio.lowlevel.enable_ki_protection
def _protected_frame() -> FrameType | None:
    return inspect.currentframe()


class TrioLoop(Backend):
    name = "trio"
    cancellation_type = trio.Cancelled
    other_cancellation = "asyncio", "CancelledError"
    foreign_errors = (
        (RuntimeError, "no running event loop"),
        (RuntimeError, "no current event loop in thread {thread!r}"),
        (TypeError, "unrecognized yield message"),
        # By asyncio's locks, events and queues: https://github.com/python/cpython/blob/v3.11.7/Lib/asyncio/mixins.py#L12.
        (AttributeError, "'NoneType' object has no attribute 'create_future'"),
    )

    def install_ctrl_c_handler(self) -> contextlib.AbstractContextManager[None]:
        is_main_thread = threading.current_thread() is threading.main_thread()
        handler: Any = None
        if is_main_thread:
            handler = _shared.SIGNALS.getsignal(signal.SIGINT)
        if getattr(handler, "__module__", "").partition(".")[0] == trio.__name__:
            handler = CtrlC(handler)
            _shared.SIGNALS.signal(signal.SIGINT, handler)
        if isinstance(handler, CtrlC):
            return handler
        return contextlib.nullcontext()

    def current_task(self) -> trio.lowlevel.Task | None:
        if not trio.lowlevel.in_trio_task():
            return None
        return trio.lowlevel.current_task()

    def ancestry(self, task: trio.lowlevel.Task | None) -> Iterator[trio.lowlevel.Task]:
        while task is not None:
            yield task
            if task.parent_nursery is not None:
                task = task.parent_nursery.parent_task
            else:
                task = None

    create_event = staticmethod(trio.Event)  # pyright: ignore[reportAssignmentType]
    create_task_group = staticmethod(trio.open_nursery)  # pyright: ignore[reportAssignmentType]
    checkpoint = staticmethod(trio.lowlevel.checkpoint)  # pyright: ignore[reportAssignmentType]
    yield_to_loop = staticmethod(trio.lowlevel.cancel_shielded_checkpoint)  # pyright: ignore[reportAssignmentType]
    sleep_until = staticmethod(trio.sleep_until)  # pyright: ignore[reportAssignmentType]

    async def end_tasks_in(self, task: trio.lowlevel.Task, scope: Any) -> str:
        """Wait for the tasks in nurseries that were left open. trio has cancelled them with the scope around them."""
        nurseries = task.child_nurseries
        if not nurseries:
            return "cancel scope"
        watcher = _TaskExitWatcher()
        trio.lowlevel.add_instrument(watcher)
        try:
            with trio.CancelScope(shield=True):
                while any(nursery.child_tasks for nursery in nurseries):
                    watcher.exit_event = trio.Event()
                    await watcher.exit_event.wait()
        finally:
            trio.lowlevel.remove_instrument(watcher)
        return "nursery"

    def run(
        self, main: Callable[[], Coroutine[Any, Any, T]], options: Mapping[str, Any]
    ) -> T:
        return trio.run(main, **options)

    def clock(self) -> Callable[[], float]:
        return trio.lowlevel.current_clock().current_time

    def get_or_create_in_loop(self, make: Callable[[], T]) -> T:
        try:
            shared: T = SHARED_OBJECT.get()
        except LookupError:
            shared = make()
            SHARED_OBJECT.set(shared)
        return shared

    def create_scope(self, deadline: float = math.inf) -> trio.CancelScope:
        return trio.CancelScope(deadline=deadline)

    def name_task(self, task: Any, name: str) -> None:
        task.name = name

    async def wait_until_woken(self, worker: WorkerTask) -> None:
        def abort(raise_cancel: object) -> trio.lowlevel.Abort:
            worker.wake_handle = None
            return trio.lowlevel.Abort.SUCCEEDED

        worker.wake_handle = worker.task
        try:  # noqa: SIM105 - `suppress` would double the time
            await trio.lowlevel.wait_task_rescheduled(abort)
        except trio.Cancelled:
            # Dropped, because the worker will check its scope.
            pass

    def wake(self, worker: WorkerTask) -> None:
        # A worker that was cancelled in this iteration of the loop is awake already.
        if worker.wake_handle is not None:
            worker.wake_handle = None
            trio.lowlevel.reschedule(worker.task)

    async def wait_readable(self, descriptor: int, deadline: float = math.inf) -> bool:
        with trio.CancelScope(deadline=deadline):
            await trio.lowlevel.wait_readable(descriptor)
            return True
        return False

    def threadsafe_caller(self) -> Callable[[Callable[[], None]], None]:
        token = trio.lowlevel.current_trio_token()

        def call(function: Callable[[], None]) -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(function, idempotent=True)

        return call

    def limiter_problem(self, limiter: object) -> str | None:
        if isinstance(limiter, trio.CapacityLimiter):
            return None
        return super().limiter_problem(limiter)

    def try_acquire(self, limiter: Any, borrower: object) -> bool:
        import anyio

        try:
            limiter.acquire_on_behalf_of_nowait(borrower)
        except (trio.WouldBlock, anyio.WouldBlock):
            return False
        return True

    def frames(self, worker: WorkerTask) -> Iterator[tuple[FrameType, int]]:
        if worker.task is None:
            return iter(())
        return _shared.await_chain(worker.task.coro)


class _TaskExitWatcher(trio.abc.Instrument):
    """A trio instrument that sets an event when any task exits."""

    exit_event: trio.Event

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self.exit_event.set()


# ---- direct isolation


class DirectTrioGroup(WorkerGroup):
    """The tasks of a run, in a nursery of its own and in a cancel scope with the run's deadline."""

    ends_at_deadline = True

    def prepare(self, outer: WorkerGroup | None) -> None:
        self.host = self._host = TrioHost(self._backend, self._context)
        self._host_task = trio.lowlevel.current_task()
        self._scope = trio.CancelScope(deadline=self._deadline)

    @trio.lowlevel.enable_ki_protection
    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with self._scope:
            async with trio.open_nursery() as self._host.nursery:
                await body()
        await trio.lowlevel.checkpoint_if_cancelled()

    def spawn(self, worker: WorkerTask) -> None:
        self._context.run(
            self._host.nursery.start_soon, worker.work, name=IDLE_TASK_NAME
        )

    def is_interchangeable(self, other: WorkerGroup) -> bool:
        return other is self

    def call_at(
        self, when: float, function: Callable[[], None], context: contextvars.Context
    ) -> Callable[[], None]:
        scope = trio.CancelScope(shield=True)
        context.run(
            self._host.nursery.start_soon, self._call_in_scope, scope, when, function
        )
        return scope.cancel

    @trio.lowlevel.enable_ki_protection
    async def _call_in_scope(
        self, scope: trio.CancelScope, when: float, function: Callable[[], None]
    ) -> None:
        with scope:
            await trio.sleep_until(when)
            if not scope.cancel_called:
                function()

    def is_cancelled(self) -> bool:
        """Return whether the group was cancelled. Only the host sees at once that a scope around the run was."""
        is_host = self._backend.current_task() is self._host_task
        return self._scope.cancel_called or (
            is_host and trio.current_effective_deadline() == -math.inf
        )

    def cancel(self, workers: Iterable[WorkerTask]) -> None:
        self._scope.cancel()

    def shield(self, worker: WorkerTask) -> None:
        worker.scope.shield = True

    def cancel_worker(self, worker: WorkerTask, repeatedly: bool = False) -> None:
        if worker.scope is not None:
            worker.scope.cancel()

    def forget(self, worker: WorkerTask) -> None:
        scope = worker.scope
        super().forget(worker)
        if scope is not None:
            scope.__exit__(None, None, None)


class DirectTrioSnapshot(TaskSnapshot):
    """The state of a worker's task before its first job, to find out whether a job has left a trace in it."""

    __slots__ = ("_context", "_reference_count", "_task")

    def __init__(self, worker: WorkerTask) -> None:
        # These local variables are references, too, and count because the methods that compare have them as well.
        self._task = task = worker.task
        self._context = context = task.context
        # Code that has a reference to the task or its context may set variables in the context later.
        self._reference_count: int = (
            getrefcount(task) + getweakrefcount(task) + getrefcount(context)
        )

    def is_task_unchanged(self) -> bool:
        """Return True: a change matters only to a next job in the task. See `is_like_new`."""
        return True

    def is_like_new(self, variables: ContextVariables) -> bool:
        """Return whether the task has these context variables, and no further references."""
        task = self._task
        context = self._context
        count = (
            getrefcount(task)
            + getweakrefcount(task)
            + getrefcount(context)
            - self._reference_count
        )
        if (
            count not in (0, CANCELLATION_REFERENCE_COUNT)
            or len(context) != len(variables) + 1
        ):
            # A single variable more holds the worker.
            return False
        return has_values(context, variables)

    def record_iteration(self) -> None:
        self._task.custom_sleep_data = NOT_RESCHEDULED

    def is_same_iteration(self) -> bool:
        return self._task.custom_sleep_data is NOT_RESCHEDULED


class DirectTrio(Isolation):
    """An isolation that runs each job in a cancel scope of its own."""

    group_class = DirectTrioGroup
    gives_own_tasks = True

    def attach_current_task(self, worker: WorkerTask) -> TaskSnapshot | None:
        worker.task = trio.lowlevel.current_task()
        worker.scope = trio.CancelScope().__enter__()
        worker.task_snapshot = snapshot = DirectTrioSnapshot(worker)
        return snapshot

    def renew_task(self, worker: WorkerTask) -> bool:
        if worker.scope.cancel_called or not worker.task_snapshot.is_like_new(
            worker.group.variables
        ):
            return False
        worker.scope.__exit__(None, None, None)
        worker.scope = trio.CancelScope().__enter__()
        return True

    def was_cancelled(self, worker: WorkerTask) -> bool:
        return trio.current_effective_deadline() == -math.inf


LOOP_CLASS: Final = TrioLoop
ISOLATION_FACTORY: Final = DirectTrio
