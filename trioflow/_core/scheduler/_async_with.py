"""`OpenBlock`: the body of an `async with scheduler` statement, and the run that it starts.

Decided in docs/decisions: 24-open-schedulers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .. import backend as _backend
from ..base._states import RAN_TO_END, RunPhase, StopReason
from ..job._errors import JobCancelled, JobNotDone, find_interruption
from ..run._instruments import Part
from ..words import _failures

if TYPE_CHECKING:
    from ..run._run import Run
    from ._base_scheduler import BaseScheduler


BLOCK: Final = "_open_block"
"""The name by which `co_run` gets the block, which its signature does not show."""


class OpenBlock(Part):
    """The body of an `async with scheduler` statement, while the scheduler runs in another task.

    If the run stops early, the body is cancelled. After `drain()`, the body continues, and nothing is raised at its
    end.
    """

    def __init__(self, scheduler: BaseScheduler) -> None:
        self._scheduler = scheduler
        self._backend = backend = _backend.current_backend()
        self._task_group = backend.create_task_group()
        self._ctrl_c = backend.install_ctrl_c_handler()
        self._can_begin_event = backend.create_event()
        self._has_run_ended = False
        # Whether the body may add jobs.
        self._is_open = True
        self._is_cancelled_by_body = False
        self.run: Run | None = None  # set by `co_run`
        # Raised by `co_run`, and raised again at the end of the block.
        self._run_error: BaseException | None = None

    async def begin(self) -> None:
        """Start the run, and return as soon as jobs can be added."""
        self._ctrl_c.__enter__()
        try:
            self._body_task = self._backend.current_task()
            self._tasks = await self._task_group.__aenter__()
            self._tasks.start_soon(self._run_scheduler)
            try:
                await self._can_begin_event.wait()
            except BaseException as error:
                self._tasks.cancel_scope.cancel()
                await self._exit_task_group(error)
                raise
            if self._has_run_ended:
                await self._exit_task_group(None)
                self._raise_if_failed()
        except BaseException:
            self._ctrl_c.__exit__(None, None, None)
            raise

    def attach(self, run: Run) -> None:
        """Become a part of the run, which is about to begin."""
        self.run = self._run = run
        run.add_part(self)
        # Forever jobs end with the body, whether it has added other jobs or not.
        run.counts.expect_ordinary_jobs()
        run.closes_scheduler = True

    def enter(self, phase: RunPhase) -> None:
        """Let the body begin: the run now accepts jobs."""
        if phase is RunPhase.RUNNING:
            self._can_begin_event.set()

    def is_busy(self) -> bool:
        return self._is_open and not self._run.phase._is_ending

    async def _run_scheduler(self) -> None:
        options: Any = {BLOCK: self}
        try:
            await self._scheduler.co_run(**options)
        except BaseException as error:
            if self._is_cancellation(error):
                raise
            self._run_error = error
        finally:
            self._has_run_ended = True
            self._can_begin_event.set()
            if self.run is None or self.run.fate.cancel_reason not in RAN_TO_END:
                self._tasks.cancel_scope.cancel()

    def on_cancel(self) -> None:
        """If the body itself cancels the run, leave the block without an exception, as a nursery's scope does."""
        self._is_cancelled_by_body |= self._backend.current_task() is self._body_task

    async def exit(self, error: BaseException | None) -> bool:
        """Wait for the run to end. If the body has raised `error`, cancel the run first.

        Returns:
            Whether `error` is the cancellation of the body because the body has cancelled the run.

        Raises:
            BaseException: the exception of the body, or else the failure of the run.

        """
        run = self._scheduler._run
        was_ending = run is None or run.phase._is_ending
        if run is not None:
            if error is not None:
                run.stop(StopReason.CANCELLED)
            self._is_open = False
            run.wake()
        if error is None:
            is_cancelled, failure = (False, None)
        else:
            is_cancelled, failure = self._backend.split_cancellations(error)
        try:
            await self._exit_task_group(error)
        except BaseException as exit_error:
            if not self._is_cancellation(exit_error):
                raise
            if failure is None:
                # A nursery does the same.
                _failures.raise_failures(self._scheduler)
            if error is None:
                raise
            if failure is None:
                # A scope around the block was cancelled, so Python raises `error` again.
                return False
        if failure is None:
            self._raise_if_failed()
            return True
        self._raise_with(failure, was_ending)
        if is_cancelled and self._tasks.cancel_scope.cancel_called:
            # The run was cancelling the body when it failed.
            raise failure
        return False

    async def end(self) -> None:
        """End the run if an error of the engine itself has kept `exit` from it."""
        if not self._has_run_ended:
            self._tasks.cancel_scope.cancel()
            await self._exit_task_group(None)
        self._ctrl_c.__exit__(None, None, None)

    def _raise_with(self, failure: BaseException, was_ending: bool) -> None:
        """Raise an exception in place of the exception of the body, if the run has more to say.

        Args:
            failure: the exception of the body.
            was_ending: whether the run was ending before. Then a refusal because of that gives way to the reason for
                the end.

        """
        gives_way = isinstance(failure, (JobCancelled, JobNotDone))
        if type(failure) is RuntimeError:
            gives_way = hasattr(failure, "_trioflow_gives_way")
        if self._run_error is not None or (was_ending and gives_way):
            self._raise_if_failed()
        if isinstance(failure, Exception):
            try:
                _failures.raise_failures(self._scheduler)
            except BaseExceptionGroup as group:
                chain = _chain_of(failure)
                errors = [error for error in group.exceptions if error not in chain]
                if errors:
                    raise group.derive([*errors, failure]) from None

    async def _exit_task_group(self, error: BaseException | None) -> None:
        """Wait for the task of the run. If `error` is a cancellation, pass it to the task group, which may catch it."""
        details: Any = (None, None, None)
        if error is not None and self._is_cancellation(error):
            details = type(error), error, error.__traceback__
        try:
            await self._task_group.__aexit__(*details)
        except BaseExceptionGroup as group:
            # trio raises KeyboardInterrupt in this task, not in the task of the run:
            # https://github.com/python-trio/trio/blob/v0.35.0/src/trio/_core/_run.py#L2228.
            interruption = find_interruption(group)
            if interruption is None:
                raise
            raise interruption from None

    def _is_cancellation(self, error: BaseException | None) -> bool:
        """Return whether `error` consists of nothing but cancellations."""
        if error is None:
            return False
        return self._backend.split_cancellations(error) == (True, None)

    def _raise_if_failed(self) -> None:
        if self._run_error is not None:
            raise self._run_error
        assert self.run is not None
        if (
            self._is_cancelled_by_body
            and self.run.fate.cancel_reason is StopReason.CANCELLED
        ):
            return
        _failures.raise_unless_completed(self.run, self.run.fate.cancel_reason)


def _chain_of(error: BaseException | None) -> list[BaseException]:
    """Return an exception with its causes, and with the exceptions that were being handled."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
