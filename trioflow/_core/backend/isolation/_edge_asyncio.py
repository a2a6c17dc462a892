"""Native tasks of workers on asyncio, cancelled at the edge: what direct and fast isolation have in common.

**Edge cancellation**: each cause cancels a job once, as `asyncio.timeout` and TaskGroup do. What a job awaits while it
unwinds is not cancelled, so the libraries of asyncio can clean up. A further cause cancels the job once more. Timers
enforce the deadlines of workers and of the run.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from .. import _shared
from .._interface import Isolation, WorkerGroup, WorkerTask
from .._shared import IDLE_TASK_NAME
from ..loop._asyncio import AsyncioHost

add_awaiter: Any = getattr(asyncio, "future_add_to_awaited_by", None)
"""The function of Python 3.14 that tells asyncio's tools, such as `python -m asyncio pstree`, which task awaits one."""
discard_awaiter: Any = getattr(asyncio, "future_discard_from_awaited_by", None)


class EdgeGroup(WorkerGroup):
    """The tasks of one run, native and in no task group, each of which is cancelled once for each cause."""

    _host: AsyncioHost
    _loop: asyncio.AbstractEventLoop

    def spawn(self, worker: WorkerTask) -> None:
        worker.context = self._context.copy()
        work = worker.work() if self._loop.get_task_factory() is None else self._work_after_spawn(worker)
        worker.task = task = self._loop.create_task(work, context=worker.context, name=IDLE_TASK_NAME)
        if add_awaiter is not None:
            add_awaiter(task, self._host.task)
        task.add_done_callback(worker.leave_unstarted, context=self._context)  # until the first step

    async def _work_after_spawn(self, worker: WorkerTask) -> None:
        """Run the worker's function in a task of the program's factory. If it is eager, let `spawn` record the task."""
        if worker.task is None:
            await asyncio.sleep(0)
        coroutine = worker.work()
        del self, worker  # an exception of a job may keep this frame alive, and the frame must not keep the run alive
        await coroutine

    def call_at(self, when: float, function: Callable[[], None], context: contextvars.Context) -> Callable[[], None]:
        # A cancelled timer keeps its own context until it is due.
        return self._loop.call_at(when, context.run, function, context=contextvars.Context()).cancel

    # ---- the deadline of a worker

    def expire(self, worker: WorkerTask) -> None:
        """Cancel a worker because the time of its job's call is over.

        A job that was cancelled unwinds, and has as long for it as it needs: its own timeout is no further cause.
        """
        if not self.is_unwinding(worker):
            worker.deadline = -math.inf
            self.cancel_worker(worker)

    def is_unwinding(self, worker: WorkerTask) -> bool:
        """Return whether the engine has cancelled a worker, or its run, which a forever job outlasts."""
        return worker.cause is not None or (self.is_cancelled() and not worker.is_shielded)

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        """Set another deadline. If the last one has cancelled the task, take that back."""
        if worker.deadline == -math.inf:
            self.take_back(worker)
        worker.deadline = when
        if when < worker.timer_fires_at:
            self.set_timer(worker, when)

    def take_back(self, worker: WorkerTask) -> None:
        """Take back the cancellation by a deadline: a later call of the job must not take this request for its own."""
        worker.task.uncancel()

    def set_timer(self, worker: WorkerTask, when: float) -> None:
        self.stop_timer(worker)
        worker.timer_fires_at = when
        worker.timer = self._loop.call_at(when, self._on_timer, worker, context=contextvars.Context())

    def _on_timer(self, worker: WorkerTask) -> None:
        """Cancel a worker whose deadline has passed. If its deadline was postponed, set a new timer instead."""
        fired_at, worker.timer_fires_at, worker.timer = worker.timer_fires_at, math.inf, None
        if worker.deadline == fired_at:
            self.expire(worker)
        elif worker.deadline not in (math.inf, -math.inf):
            self.set_timer(worker, worker.deadline)

    def stop_timer(self, worker: WorkerTask) -> None:
        if worker.timer is not None:
            worker.timer.cancel()
            worker.timer, worker.timer_fires_at = None, math.inf

    def forget(self, worker: WorkerTask) -> None:
        if worker.timer is not None:
            self.stop_timer(worker)
        if discard_awaiter is not None:  # the edge refers to the host, which may be the task of a worker, too
            discard_awaiter(worker.task, self._host.task)
        worker.task = worker.context = worker.task_snapshot = worker.scope = None


class CallScope:
    """A scope around one call of a job, with the deadline of the job's worker; it cancels the call once."""

    __slots__ = ("_deadline", "_group", "_is_cancelled", "_is_open", "_outer_deadline", "_worker")

    def __init__(self, worker: WorkerTask, deadline: float) -> None:
        self._worker = worker
        self._group: Any = worker.group  # an `EdgeGroup`
        self._deadline = deadline
        self._outer_deadline = math.inf  # the deadline of the scope of the same worker around this one
        self._is_open = self._is_cancelled = False

    @property
    def deadline(self) -> float:
        return self._deadline

    @deadline.setter
    def deadline(self, when: float) -> None:
        self._deadline = when
        if self._is_open and self._worker.deadline != -math.inf:
            self._group.set_deadline(self._worker, min(when, self._outer_deadline))

    def cancel(self) -> None:
        """Cancel the call, unless its time is over already."""
        if self._is_open and self._worker.deadline != -math.inf:
            self._is_cancelled = True
            self._group.expire(self._worker)

    def __enter__(self) -> Self:
        """Set the deadline of the worker, unless its call is over and unwinds."""
        worker = self._worker
        self._outer_deadline = outer = worker.deadline
        self._is_open = outer != -math.inf
        if self._is_open:
            worker.deadline = when = self._deadline if self._deadline < outer else outer
            if when < worker.timer_fires_at:
                self._group.set_timer(worker, when)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Restore the deadline of the worker. Catch the cancellation by this scope, unless there is another cause."""
        worker = self._worker
        was_open, self._is_open = self._is_open, False
        if not was_open:
            return False
        if worker.deadline != -math.inf:  # the time is not over, so the timer fires no later than the outer deadline
            worker.deadline = self._outer_deadline
            return False
        if not self._is_cancelled and self._outer_deadline < self._deadline:
            return False  # the time of a scope around this one is over
        is_caught = (
            error is not None
            and not self._group.is_unwinding(worker)
            and _shared.split_cancellations(error, asyncio.CancelledError) == (True, None)
        )
        self._group.set_deadline(worker, self._outer_deadline)
        return is_caught


class EdgeIsolation(Isolation):
    """An isolation whose scopes around calls cancel them once."""

    def create_call_scope(self, worker: WorkerTask | None, deadline: float) -> Any:
        if worker is None or worker.task is not self._loop.current_task():
            return self._loop.create_scope(deadline)
        return CallScope(worker, deadline)
