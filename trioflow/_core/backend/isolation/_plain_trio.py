"""Plain isolation on trio."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, cast

import trio

from .. import _shared
from .._interface import Backend, ContextVariables, Scope, WorkerFunction, WorkerTask
from ..loop._trio import TrioHost
from ._plain import PlainGroup, PlainIsolation


class PlainTrioGroup(PlainGroup):
    """The tasks of one run, in a nursery whose scope has the run's deadline."""

    __slots__ = ("_deadline", "_host", "_was_cancel_called", "host")

    def __init__(
        self,
        loop: Backend,
        worker_function: WorkerFunction,
        deadline: float,
        on_deadline: Callable[[], None],  # not needed, because the scope has the deadline
        context: contextvars.Context,
        variables: ContextVariables,
    ) -> None:
        super().__init__(loop, trio.lowlevel.enable_ki_protection(worker_function), context, variables)
        self._deadline = deadline
        self._was_cancel_called = False
        self._host: TrioHost = TrioHost(context)
        self.host = self._host

    async def run(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self._host.run_in_nursery(body, self._deadline)

    def _is_nursery_cancelled(self) -> bool:
        """Return whether the nursery's scope was cancelled, by its deadline or by `cancel`."""
        return self._host.nursery is not None and self._host.nursery.cancel_scope.cancel_called

    def is_cancelled(self) -> bool:
        return self._host.nursery is not None and (self._is_nursery_cancelled() or super().is_cancelled())

    def has_deadline_passed(self) -> bool:
        return self._is_nursery_cancelled() and not self._was_cancel_called

    def cancel(self, workers: Iterable[WorkerTask]) -> None:
        if not self._is_nursery_cancelled():
            self._was_cancel_called = True
            self._host.nursery.cancel_scope.cancel()

    def spawn(self, worker: WorkerTask) -> None:
        self._context.run(self._host.nursery.start_soon, self._run_in_scope, worker)

    @trio.lowlevel.enable_ki_protection
    async def _run_in_scope(self, worker: WorkerTask) -> None:
        """Open the worker's scope in this task, and run the worker in another task inside the scope.

        If a job leaves a nursery open, the worker's task fails at its end. This failure is suppressed here.
        """
        with contextlib.suppress(BaseExceptionGroup), self._loop.create_scope() as worker.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._worker_function, worker)


class CallScope:
    """A scope around one call of a job, which is left even if the job has left scopes open inside it."""

    def __init__(self, worker: WorkerTask, scope: Scope) -> None:
        self._worker: Final = worker
        self._scope: Final = scope
        self.cancel: Final = scope.cancel

    @property
    def deadline(self) -> float:
        return self._scope.deadline

    @deadline.setter
    def deadline(self, when: float) -> None:
        self._scope.deadline = when

    def __enter__(self) -> Self:
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Leave the scope. If the job has left others open, trio cancels what is in them."""
        scope = self._scope
        try:
            return scope.__exit__(kind, error, traceback)
        except RuntimeError as misuse:
            if not _shared.matches_any(misuse, (RuntimeError, "Cancel scope stack corrupted")):
                raise
        self._worker.task_snapshot.left_scope = scope
        is_cancelled = error is not None and _shared.split_cancellations(error, trio.Cancelled) == (True, None)
        return scope.cancel_called and is_cancelled


class PlainTrioIsolation(PlainIsolation):
    def create_call_scope(self, worker: WorkerTask | None, deadline: float) -> Scope:
        scope = self._loop.create_scope(deadline)
        if worker is None or worker.task is not self._loop.current_task():
            return scope
        return cast("Scope", CallScope(worker, scope))


ISOLATION_FACTORY: Final = partial(PlainTrioIsolation, PlainTrioGroup)
