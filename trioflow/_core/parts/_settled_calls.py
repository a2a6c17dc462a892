"""The calls of `on_settled`, a function of the user that gets the jobs of one run as they settle.

A part of the run queues each job that has settled, and a task beside its own makes the calls, each async one in a task
of its own. So they take no slot, and no stop of the run cancels them. Before the ending, the run waits until the
queue is empty; in the ending, the jobs that are left share the `shutdown_timeout` of the `co_shutdown` calls.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..base import _user_code
from ..base._states import STOPPING
from ..base._text_forms import plural
from ..job import _errors, _job_options
from ..job._outcome import Failure, is_awaitable, one_line_error
from ..run._instruments import Part
from ..run._standstill import WAIT_REPORT_DELAY
from ..run._worker import MAX_JOBS_IN_TURN

if TYPE_CHECKING:
    from ..backend import TaskEvent
    from ..job._job import AbstractJob
    from ..job._job_options import Subject
    from ..run._run import Run

    SettledFunction = Callable[[AbstractJob[Any]], object]


def check_on_settled(value: Any, name: str, subject: Subject) -> SettledFunction | None:
    if value is not None and (not callable(value) or _user_code.is_generator(value)):
        advice = "give a function of a job, plain or async, or None"
        raise _job_options.bad_value_error(TypeError, value, name, subject, advice)
    return value  # type: ignore[no-any-return]


class SettledCalls(Part):
    """The calls of `on_settled` in one run."""

    def __init__(self, run: Run, function: SettledFunction) -> None:
        self._run = run
        self._function: Final = function
        self._pending: Final[deque[AbstractJob[Any]]] = deque()
        self._current: AbstractJob[Any] | None = None  # the job of the call in progress
        self._report_at = math.inf  # when the log names that call, for which the run then waits
        self.task: Any = None  # the task of the last call that was awaited
        self._scope: Final = run.backend.create_scope()
        self._scope.shield = True
        self._change_event: TaskEvent = run.backend.create_event()  # wakes the task that makes the calls
        self._end_event: TaskEvent = run.backend.create_event()  # set when that task has made its last call
        self._is_ending = False  # whether all jobs of the run have settled
        self._has_failed = self._is_reported = False

    def settled(self, job: AbstractJob[Any]) -> None:
        if not self._has_failed:
            self._pending.append(job)
            self._change_event.set()

    def is_busy(self) -> bool:
        return bool(self._pending) or self._current is not None

    def due_at(self) -> float:
        return self._report_at if self.wait_text() else math.inf

    def turn(self) -> None:
        """Report, once, that the run waits for nothing but the call in progress."""
        if self._run.clock() >= self.due_at():
            self._run.report(self._current, f"{self._run.scheduler.label!r} {self.wait_text()}")
            self._is_reported, self._report_at = True, math.inf

    def wait_text(self) -> str:
        """Return for which call the run waits; "" while it waits for jobs, as the call may, or for nothing."""
        extras = self._run.scheduler._extras
        if self._run.unsettled or self._current is None or (extras is not None and extras.awaited_jobs):
            return ""
        return f"waits for its on_settled, which was called with {self._current.label!r}"

    async def run_beside(self, execute: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `execute()` of the run, and make the calls in a task beside it."""
        error: BaseException | None = None
        try:
            async with self._run.backend.create_task_group() as tasks:
                tasks.start_soon(self._make_calls)
                try:
                    await execute()
                except BaseException as raised:  # otherwise, the task group would put it into a group
                    error = raised
                self._scope.cancel()  # it has an effect only if the ending did not reach `close`
            if error is not None:
                raise error
        finally:
            del error  # break a reference cycle

    async def close(self, deadline: float) -> None:
        """Wait until the calls for all jobs have been made, or until the deadline; report those that were not."""
        run = self._run
        self._scope.deadline = deadline
        self._is_ending = True
        self._change_event.set()
        await self._end_event.wait()
        missed = len(self._pending) + (self._current is not None)
        if missed:
            run.report(
                self._current,
                f"on_settled of {run.scheduler.label!r} did not end within "
                f"shutdown_timeout={run.scheduler.shutdown_timeout} s: {plural(missed, 'call')} cancelled or not made",
            )

    async def _make_calls(self) -> None:
        run = self._run
        try:
            with self._scope:
                while not self._is_ending:
                    await self._change_event.wait()
                    self._change_event = run.backend.create_event()
                    await self._call_pending()
                    run.wake()
        except BaseException as interruption:
            # asyncio cancels all tasks of a loop that it closes
            if isinstance(interruption, KeyboardInterrupt) or not run.group.is_cancelled():
                run.interrupt(interruption)
        self._end_event.set()

    async def _call_pending(self) -> None:
        """Make the pending calls; yield to the loop when the calls and the jobs of a turn have used up its time."""
        time_slice, clock, calls_left = self._run.time_slice, self._run.clock, MAX_JOBS_IN_TURN
        while self._pending and clock() < self._scope.deadline:
            self._current = job = self._pending.popleft()
            try:
                result = self._function(job)
                if is_awaitable(result):
                    self._report_at = math.inf if self._is_reported else clock() + WAIT_REPORT_DELAY
                    await self._run.backend.call_apart(partial(self._await_call, result))
            except BaseException as error:
                self._handle_error(job, error)
            self._current = None
            calls_left -= 1
            if not calls_left or clock() > time_slice.ends_at:
                number, calls_left = time_slice.turn_number, MAX_JOBS_IN_TURN
                await self._run.backend.yield_to_loop()
                time_slice.begin(number, clock())

    async def _await_call(self, awaitable: Any) -> None:
        self.task = self._run.backend.current_task()
        await awaitable

    def _handle_error(self, job: AbstractJob[Any], error: BaseException) -> None:
        """End the run with the exception that the function has raised for `job`, and make no more calls.

        In a run that is stopping already, report it, and go on: the function may only have added a job.

        Raises:
            BaseException: the deadline has cancelled the call, or the event loop is being closed.

        """
        run = self._run
        _, failure = run.backend.split_cancellations(error)
        if failure is None:
            if self._scope.cancel_called or run.group.is_cancelled():
                raise error
            failure = _errors.JobCancelled("the function raised a cancellation that was not requested")
        failure = Failure(failure).exception  # without the frames of the engine, which would keep the run in memory
        message = f"on_settled of {run.scheduler.label!r} raised {one_line_error(failure)} for {job.label!r}"
        if run.phase is not STOPPING:
            self._has_failed = True
            self._pending.clear()
        run.stop_with_error(failure, job, message)
