"""`OpenBlock`: the body of `async with scheduler`, and the run of the scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import backend as _backend
from ..base._states import StopReason
from ..job._outcome import find_interruption
from . import _failures

if TYPE_CHECKING:
    from ..run._run import Run
    from ._base_scheduler import BaseScheduler


class OpenBlock:
    """The body of one `async with scheduler`, while the scheduler runs in another task.

    If the run stops early, the body is cancelled. After `drain()`, the body continues, and leaving it raises nothing.
    """

    def __init__(self, scheduler: BaseScheduler) -> None:
        self._scheduler = scheduler
        self._task_group = _backend.current().task_group()
        self._begun = _backend.current().event()
        self._ended = False
        self.run: Run | None = None  # set by `co_run`
        self._error: BaseException | None = None  # the error of `co_run`, which is raised at the end of the block

    async def enter(self) -> None:
        """Start the run, and return when jobs can be added."""
        self._tasks = await self._task_group.__aenter__()
        self._tasks.start_soon(self._run_scheduler)
        try:
            await self._begun.wait()
        except BaseException as error:
            self._tasks.cancel_scope.cancel()
            await self._exit(error)
            raise
        if self._ended:
            await self._exit(None)
            self._raise_failure()

    def accept_jobs(self) -> None:
        """Let the body begin, because the run accepts jobs now."""
        self._begun.set()

    async def _run_scheduler(self) -> None:
        try:
            await self._scheduler.co_run(_open_block=self)
        except BaseException as error:
            if _is_cancellation(error):
                raise
            self._error = error
        finally:
            self._ended = True
            self._begun.set()
            if self.run is None or self.run.cancel_reason is not StopReason.COMPLETED:
                self._tasks.cancel_scope.cancel()

    async def leave(self, error: BaseException | None) -> None:
        """Wait for the run to end; if the body has raised `error`, cancel the run first.

        Raises:
            BaseException: the failure of the run, unless the body failed for another reason.

        """
        run = self._scheduler._run
        if run is not None:
            if error is not None:
                run.stop(StopReason.CANCELLED)
            run.close_block()
        cancelled, failure = (False, None) if error is None else _backend.current().split(error)
        if cancelled and failure is not None and self._tasks.cancel_scope.cancel_called:
            await self._exit(None)  # the body failed while it was cancelled because of the run
            raise failure
        try:
            await self._exit(error)
        except BaseException as late:
            if error is None or not _is_cancellation(late):
                raise
            return  # a scope around the block was cancelled: `error` leaves the block
        if failure is None:
            self._raise_failure()

    async def _exit(self, error: BaseException | None) -> None:
        """Wait for the task of the run. If `error` is a cancellation, the task group gets it, and may catch it."""
        caught = error if _is_cancellation(error) else None
        kind, traceback = (None, None) if caught is None else (type(caught), caught.__traceback__)
        try:
            await self._task_group.__aexit__(kind, caught, traceback)
        except BaseExceptionGroup as group:
            interruption = find_interruption(group)  # trio raises KeyboardInterrupt in this task, not in the run's
            if interruption is None:
                raise
            raise interruption from None

    def _raise_failure(self) -> None:
        if self._error is not None:
            raise self._error
        assert self.run is not None
        _failures.raise_unless_completed(self.run, self.run.cancel_reason)


def _is_cancellation(error: BaseException | None) -> bool:
    """Return whether `error` consists of nothing but cancellations."""
    return error is not None and _backend.current().split(error) == (True, None)
