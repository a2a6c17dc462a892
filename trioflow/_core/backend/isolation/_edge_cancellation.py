"""Edge cancellation: on asyncio, each cause cancels a job once, as `asyncio.timeout` and TaskGroup do.

What a job awaits while it unwinds is not cancelled, so the libraries of asyncio can clean up. A further cause cancels
the job once more.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Iterable
from types import TracebackType
from typing import Self, cast

from .. import _shared
from .._interface import Isolation, Scope, WorkerGroup, WorkerTask
from ..loop._asyncio import HOSTS_OF_ENDINGS, AsyncioHost


class EdgeCancelGroup(WorkerGroup):
    """The workers of one run, each of which is cancelled once for each cause; timers enforce their deadlines."""

    __slots__ = ()

    _context: contextvars.Context
    _host: AsyncioHost

    def _cancel_task(self, worker: WorkerTask, repeatedly: bool = False) -> None:
        """Cancel the task of a worker, once or at each of its awaits, as soon as its job is in no shield.

        If the job calls this itself, its next await is cancelled.
        """
        raise NotImplementedError

    def _withdraw(self, worker: WorkerTask) -> bool:
        """Withdraw a cancellation of the worker that its job has not received; return whether there was one."""
        raise NotImplementedError

    def _deliver(self, worker: WorkerTask, repeatedly: bool = False) -> None:
        """Cancel a worker. If its job awaits the ending of a run, which nothing interrupts, it is cancelled afterwards.

        The jobs of that run are cancelled once more: by the engine, if the job is a nested scheduler; otherwise here.
        """
        host = HOSTS_OF_ENDINGS.get(worker.task)
        if host is not None:
            if worker.nested_run() is None:
                host.interrupt(asyncio.CancelledError())
            else:
                host.cancel_after_ending(asyncio.CancelledError())
        if host is None or repeatedly:
            self._cancel_task(worker, repeatedly)

    def cancel(self, workers: Iterable[WorkerTask]) -> None:
        for worker in workers:
            self.cancel_worker(worker)

    def cancel_worker(self, worker: WorkerTask) -> None:
        worker.was_cancelled = True
        if worker.task_snapshot is not None:
            self._deliver(worker)

    def cancel_repeatedly(self, worker: WorkerTask) -> None:
        worker.was_cancelled = True
        if worker.task_snapshot is not None:
            self._deliver(worker, repeatedly=True)

    def expire(self, worker: WorkerTask) -> None:
        """Cancel a worker because the time of its job's call is over.

        A job that was cancelled unwinds, and has as long for it as it needs: its own timeout is no further cause.
        """
        if not self.is_unwinding(worker):
            worker.deadline = -math.inf
            self._deliver(worker)

    def set_deadline(self, worker: WorkerTask, when: float) -> None:
        if worker.deadline == -math.inf and not self._withdraw(worker):
            worker.task.uncancel()  # a later call of the job must not take this request for its own
        worker.deadline = when
        if when < worker.timer_fires_at:
            self.set_timer(worker, when)

    def is_unwinding(self, worker: WorkerTask) -> bool:
        """Return whether the engine has cancelled a worker, or its run, which a forever job outlasts."""
        return worker.was_cancelled or (self.is_cancelled() and not worker.task_snapshot.is_shielded)

    def set_timer(self, worker: WorkerTask, when: float) -> None:
        if worker.timer is not None:
            worker.timer.cancel()
        worker.timer_fires_at = when
        worker.timer = self._host.loop.call_at(when, self._on_timer, worker, context=self._context)

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


class CallScope:
    """A scope around one call of a job, with the deadline of the job's worker; it cancels the call once."""

    __slots__ = ("_deadline", "_is_open", "_outer_deadline", "_worker", "cancel_called", "cancelled_caught")

    shield = False

    def __init__(self, worker: WorkerTask, deadline: float) -> None:
        self._worker = worker
        self._deadline = deadline
        self._outer_deadline = math.inf  # the deadline of the scope of the same worker around this one
        self._is_open = self.cancel_called = self.cancelled_caught = False

    @property
    def deadline(self) -> float:
        return self._deadline

    @deadline.setter
    def deadline(self, when: float) -> None:
        self._deadline = when
        if self._is_open and self._worker.deadline != -math.inf:
            self._group.set_deadline(self._worker, min(when, self._outer_deadline))

    @property
    def _group(self) -> EdgeCancelGroup:
        return cast(EdgeCancelGroup, self._worker.group)

    def cancel(self) -> None:
        """Cancel the call, unless its time is over already."""
        if self._is_open and self._worker.deadline != -math.inf:
            self.cancel_called = True
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
        if not self.cancel_called and self._outer_deadline < self._deadline:
            return False  # the time of a scope around this one is over
        group, self.cancel_called = self._group, True
        self.cancelled_caught = (
            error is not None
            and not group.is_unwinding(worker)
            and _shared.split_cancellations(error, asyncio.CancelledError) == (True, None)
        )
        group.set_deadline(worker, self._outer_deadline)
        return self.cancelled_caught


class EdgeCancelIsolation(Isolation):
    """The part of the isolation on asyncio that cancels."""

    def create_call_scope(self, worker: WorkerTask | None, deadline: float) -> Scope:
        if worker is None or worker.task is not self._loop.current_task():
            return self._loop.create_scope(deadline)
        return cast("Scope", CallScope(worker, deadline))

    def was_cancelled(self, worker: WorkerTask) -> bool:
        return worker.was_cancelled or worker.group.is_cancelled()
