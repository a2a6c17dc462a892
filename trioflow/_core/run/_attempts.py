"""Calls of a job with its timeout, restarts and retries.

An attempt is one call of the job, or several if `on_timeout="restart"` repeats the call. Each retry is another attempt.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from ..backend import leaf_exceptions
from ..base._exception_parts import get_traceback
from ..base._reprs import short_repr
from ..base._states import STOPPING, StopReason
from ..base._user_code import innermost_line
from ..job import _errors, _job_options
from ..job._job import is_scheduler
from ..job._outcome import Failure
from . import _idle_timeouts

if TYPE_CHECKING:
    from ..job._job import AbstractJob
    from ._worker import Worker


Attempt = Callable[[], Awaitable[Any]]


def call_job(worker: Worker, job: AbstractJob[Any]) -> Awaitable[Any]:
    """Return an awaitable that calls a job, wrapped in only those coroutines that the job's options require."""
    options = job._options
    if options.retry is not None or job._callbacks is not None:
        return _call_with_retries(worker, job, options)
    if options.timeout is options.idle_timeout is None:
        return job._call_once()
    if options.on_timeout != "restart" and not (job._keeps_time or job._is_service or options.idle_timeout):
        return _call_under_worker_deadline(worker, job, options)
    return _call_with_restarts(worker, job, options)


async def _call_with_retries(worker: Worker, job: AbstractJob[Any], options: _job_options.OptionRecord) -> Any:
    """Make attempts until one succeeds or no retries are left, call the callbacks, and return the value."""
    attempts = Attempts(worker, job, options)
    value: Any = None
    try:
        retries_made = 0 if job._extras is None else job._extras.retry_count  # includes retries before a throttle
        attempt = with_retries(options.retry, attempts.begin, job._name_for_errors, retries_made)
        value = await (attempt() if job._callbacks is None else _attempt_with_callbacks(worker, job, attempt))
    except BaseException as error:
        if attempts.final_error is None:
            if attempts.cancelled_error is None or worker.run.backend.split_cancellations(error) != (True, None):
                raise
            attempts.final_error = attempts.cancelled_error  # the decorator made a retry, which was cancelled
    finally:
        attempts.worker = attempts.job = None
    if attempts.final_error is not None:
        raise attempts.final_error
    return value


def with_retries(
    retry: _job_options.Retry, attempt: Attempt, subject: _job_options.Subject, retries_made: int = 0
) -> Attempt:
    """Wrap an attempt so that it is retried.

    Args:
        retry: a decorator, or the maximum number of retries; None for none.
        attempt: the function that makes an attempt.
        subject: the job, for errors.
        retries_made: the number of retries that have already been made.

    Raises:
        TypeError: the decorator returned a value that is not callable.

    """
    if not callable(retry):
        return partial(_repeat, attempt, (retry or 0) - retries_made)
    wrapped: Any = retry(attempt)
    if not callable(wrapped):
        raise TypeError(
            f"retry={short_repr(retry)} of {_job_options.subject_text(subject)}: it returned {short_repr(wrapped)}; "
            f"give a decorator of an async function, or a number"
        )
    return wrapped  # type: ignore[no-any-return]


async def _attempt_with_callbacks(worker: Worker, job: Any, attempt: Attempt) -> Any:
    """Make all attempts, and then call the job's callbacks `on_done` and `on_settled`, which can read its outcome.

    The job keeps its slot during the callbacks. `on_done` is called only after a success. If the job was throttled,
    `on_settled` is not called, because the job will run again.
    """
    on_done, on_settled = job._callbacks
    try:
        value = await attempt()
        job._run_callback(on_done, value)
    except BaseException as raised:
        error = raised.error if isinstance(raised, RetryBypass) else raised
        if worker.run.backend.split_cancellations(error)[1] is None:  # to callbacks, a cancellation is a `JobCancelled`
            error = _errors.JobCancelled(f"{job.label!r} was cancelled: it has no result")
        if not find_throttles(error):
            job._run_callback(on_settled, Failure(error))
        raise
    job._run_callback(on_settled, value)
    return value


async def _repeat(attempt: Attempt, max_retries: int) -> Any:
    """Call `attempt`, and retry it up to `max_retries` times if it raises an `Exception`; return its value."""
    for _ in range(max_retries):
        try:
            return await attempt()
        except Exception:
            pass
    return await attempt()


class RetryBypass(BaseException):
    """A carrier of a job's final error past the `retry` decorator, which may catch every `Exception`."""

    def __init__(self, error: Exception) -> None:
        self.error: Final = error


class Attempts:
    """The attempts of one job. The method `begin` is the function that a `retry` decorator wraps.

    The traceback of the job's exception refers to this object through the decorator's frames. Therefore, the references
    to the job and its worker are dropped at the end.
    """

    __slots__ = ("cancelled_error", "final_error", "has_started", "job", "options", "worker")

    def __init__(self, worker: Worker, job: AbstractJob[Any], options: _job_options.OptionRecord) -> None:
        self.worker: Any = worker
        self.job: Any = job
        self.options = options
        self.has_started = False
        self.final_error: Exception | None = None  # an error that ends the attempts, whatever the decorator does
        self.cancelled_error: Exception | None = None  # the error of a cancelled attempt

    async def begin(self) -> Any:
        """Make one attempt."""
        worker, run = self.worker, self.worker.run
        if self.final_error is not None:
            raise RetryBypass(self.final_error)  # the decorator has caught the `RetryBypass` of an earlier attempt
        if self.has_started:
            await run.backend.checkpoint()
            if run.backend.isolation.was_cancelled(worker):
                # An attempt has received the cancellation, or has left a shielded scope open, which blocks it.
                if self.cancelled_error is not None:
                    self.final_error = self.cancelled_error
                    raise RetryBypass(self.final_error)
                run.backend.raise_cancellation_again()
            await _wait_if_stopping(worker)
            run.begin_retry(self.job)
        self.has_started = True
        try:
            if self.options.timeout is self.options.idle_timeout is None:
                return await self.job._call_once()
            return await _call_with_restarts(worker, self.job, self.options)
        except Exception as error:
            if self.job._is_ready() or was_drained(self.job, error) or find_throttles(error):
                self.final_error = error
                raise RetryBypass(error) from None
            if run.backend.isolation.was_cancelled(worker):
                self.cancelled_error = error
            raise


def was_drained(job: AbstractJob[Any], error: BaseException) -> bool:
    """Return whether a job is a nested scheduler that was drained, so that it becomes CANCELLED instead of FAILED."""
    return is_scheduler(job) and job._stop_reason is StopReason.DRAINED and isinstance(error, _errors.JobCancelled)


def find_throttles(error: BaseException) -> list[_errors.Throttled]:
    """Return the `Throttled` exceptions in `error`, or an empty list if `error` contains any other exception."""
    leaves = list(leaf_exceptions(error))
    throttles = [leaf for leaf in leaves if isinstance(leaf, _errors.Throttled)]
    return throttles if len(throttles) == len(leaves) else []


async def _call_under_worker_deadline(worker: Worker, job: AbstractJob[Any], options: _job_options.OptionRecord) -> Any:
    """Call a job once, with its timeout as the deadline of the worker, which is cheaper than a scope for each job.

    As with a scope around the call, the cancellation of an enclosing scope takes precedence over the timeout.
    """
    run, timeout = worker.run, cast(float, options.timeout)
    group = worker.group
    group.set_deadline(worker, run.clock() + timeout)
    try:
        return await job._call_once()
    except BaseException as error:
        if (
            not group.is_cancelled_alone(worker)
            or worker.was_cancelled_alone
            or run.backend.split_cancellations(error) != (True, None)
        ):
            raise
        place = innermost_line(get_traceback(error))
    finally:
        if group.is_cancelled_alone(worker):
            worker.was_cancelled_alone = True  # the worker was cancelled, but not the run
        group.set_deadline(worker, math.inf)
    job._ensure_extras().has_timed_out = True
    if options.on_timeout == "move_on":
        return None
    raise _errors.JobTimeout(job, timeout, place=place)


async def _call_with_restarts(worker: Worker, job: AbstractJob[Any], options: _job_options.OptionRecord) -> Any:
    """Make one attempt: call the job, and call it again after each timeout while restarts are left."""
    restarts_left = options.restarts
    while True:
        try:
            return await _call_in_scope(worker, job, options)
        except _errors.JobTimeout as timeout:
            if timeout.job is not job:
                raise
            extras = job._ensure_extras()
            extras.has_timed_out = True
            if job._is_ready():  # the service became ready while the timeout was cancelling it
                raise
            if options.on_timeout == "move_on":
                return None
            if options.on_timeout == "fail" or restarts_left == 0:
                raise
            if restarts_left is not None:
                restarts_left -= 1
            await _wait_if_stopping(worker)
            extras.fraction = None
            worker.run.pools.reacquire(job)


async def _wait_if_stopping(worker: Worker) -> None:
    """If the run is stopping, wait until it cancels the job, because nothing starts any more.

    This concerns forever jobs only: all others are cancelled when the run stops.
    """
    if worker.is_shielded and worker.run.phase is STOPPING:
        await worker.run.backend.create_event().wait()


async def _call_in_scope(worker: Worker, job: AbstractJob[Any], options: _job_options.OptionRecord) -> Any:
    """Call a job once, in a scope that ends the call at its timeout; raise `JobTimeout` if it does.

    A job with `keeps_time=True` enforces its timeout itself, so it needs no scope.
    """
    if job._keeps_time:
        return await job._call_once()
    run, timeout, limit, stack = worker.run, options.timeout, None, None
    deadline = math.inf if timeout is None else run.clock() + timeout
    scope = run.backend.isolation.create_call_scope(worker, deadline)
    try:
        with scope:
            if job._is_service:
                job._ensure_extras().scope = scope  # the timeouts apply only until the service is ready
            end = scope.cancel
            try:
                if options.idle_timeout is None:
                    return await job._call_once()
                with _idle_timeouts.TimeLimit(
                    run, job, timeout=timeout, idle_timeout=options.idle_timeout, end_call=end
                ) as limit:
                    return await job._call_once()
            except BaseException as error:
                stack = get_traceback(error)
                raise
    except BaseException:
        stack = None  # break the reference cycle: the traceback refers to this frame
        raise
    place, stack = innermost_line(stack), None
    if limit is None:
        raise _errors.JobTimeout(job, cast(float, timeout), place=place)
    raise limit._error_at_end(place)
