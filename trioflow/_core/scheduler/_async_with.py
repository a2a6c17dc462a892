"""`OpenBlock`: the body of an `async with` on a scheduler, and the run beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import backend as _backend
from ..base._states import StopReason
from ..job._outcome import interruption_in
from . import _failures

if TYPE_CHECKING:
    from ..run._run import Run
    from ._base_scheduler import BaseScheduler


class OpenBlock:
    """The body of one `async with`. The run is in a task beside it, and cancels it if the run is cut off.

    A run that was drained has ended as its program asked: the body goes on, and leaving it raises nothing.
    """

    def __init__(self, scheduler: BaseScheduler) -> None:
        self._scheduler = scheduler
        self._opening = _backend.current().task_group()
        self._begun = _backend.current().event()
        self._ended = False
        self.run: Run | None = None  # set as soon as there is one
        self._error: BaseException | None = None  # the error of the run, to be raised at the end of the block

    async def enter(self) -> None:
        """Start the run, and return when jobs can be added."""
        self._tasks = await self._opening.__aenter__()
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
        """Let the body begin: the run accepts jobs."""
        self._begun.set()

    async def _run_scheduler(self) -> None:
        try:
            await self._scheduler.co_run(_block=self)
        except BaseException as error:
            if _is_cancellation(error):
                raise
            self._error = error
        finally:
            self._ended = True
            self._begun.set()
            if self._cancel_reason() is not StopReason.COMPLETED:
                self._tasks.cancel_scope.cancel()

    def _cancel_reason(self) -> StopReason | None:
        """Return the reason that has ended the run, which may have been draining before."""
        return None if self.run is None else self.run.cancel_reason

    async def leave(self, error: BaseException | None) -> None:
        """Wait for the run, or end it because of `error`, which leaves the block unless this raises.

        Raises:
            BaseException: the failure of the run, if `error` is only the cancellation that followed from it.

        """
        run = self._scheduler._run
        if run is not None:
            if error is not None:
                run.stop(StopReason.CANCELLED)
            run.close_block()
        cancelled = _is_cancellation(error)
        sent, rest = (False, None) if error is None else _backend.current().split(error)
        if sent and rest is not None and self._tasks.cancel_scope.cancel_called:
            await self._exit(None)  # the body failed during the cancellation by the run's stop
            raise rest
        try:
            await self._exit(error)
        except BaseException as late:
            if error is None or not _is_cancellation(late):
                raise
            return  # an outer scope was cancelled: it gets its cancellation, or the earlier exception of the block
        if error is None or cancelled:
            self._raise_failure()

    async def _exit(self, error: BaseException | None) -> None:
        """Wait until the run's task has ended; a cancellation is passed to its task group, which may have sent it."""
        shown = error if _is_cancellation(error) else None
        try:
            await self._opening.__aexit__(None if shown is None else type(shown), shown, shown and shown.__traceback__)
        except BaseExceptionGroup as group:
            interruption = interruption_in(group)  # trio raises Ctrl-C in the task that waits here, not in the run's
            if interruption is None:
                raise
            raise interruption from None

    def _raise_failure(self) -> None:
        if self._error is not None:
            raise self._error
        assert self.run is not None
        _failures.raise_unless_completed(self.run, self.run.cancel_reason)


def _is_cancellation(error: BaseException | None) -> bool:
    """Return whether this is a cancellation and nothing else."""
    return error is not None and _backend.current().split(error) == (True, None)
