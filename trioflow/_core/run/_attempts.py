"""Calls of a job with its timeout, the decision whether it is attempted again, and the pauses between attempts.

An attempt is one call of the job. After a failed attempt, a `Retry` decides on the next one, for which
`Run.settle_error` queues the job again.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from ..admission._resource import TIME_TOLERANCE
from ..base._states import SCHEDULED, StopReason
from ..base._user_code import get_traceback, innermost_line, leaf_exceptions
from ..job import _errors, _job_options
from ..job._job import AbstractJob, is_scheduler
from ..job._outcome import Failure, one_line_error
from ._idle_timeouts import TimeLimit
from ._part import Part

if TYPE_CHECKING:
    from ._run import Run
    from ._worker import Worker


def call_job(worker: Worker, job: AbstractJob[Any]) -> Awaitable[Any]:
    """Return an awaitable that calls a job, wrapped in only those coroutines that the job's options require."""
    options = job._options
    if job._callbacks is not None:
        return _call_with_callbacks(worker, job, options)
    if options.retry is not None:
        return _call_and_decide(worker, job, options)
    if options.timeout is options.idle_timeout is None:
        return job._call_once()
    return _call_with_timeouts(worker, job, options)


def take_pause(job: AbstractJob[Any]) -> float | None:
    """Return the pause before the next attempt, on which the failed attempt has decided; None for no attempt."""
    extras = job._extras
    if extras is None or extras.next_pause is None:
        return None
    pause, extras.next_pause = extras.next_pause, None
    return pause


async def _call_and_decide(worker: Worker, job: AbstractJob[Any], options: _job_options.OptionRecord) -> Any:
    try:
        return await _call_with_timeouts(worker, job, options)
    except Exception as error:
        if options.retry is not None and not ends_with_run(worker.run, job, error) and _may_retry(worker, job, error):
            extras = job._ensure_extras()
            number = extras.retry_count + 1
            extras.next_pause = options.retry._next_pause(number, error, job._name_for_errors)
            extras.retry_reason = one_line_error(error)
        raise


def _may_retry(worker: Worker, job: AbstractJob[Any], error: Exception) -> bool:
    """Return whether the run allows another attempt of a job that has raised `error`.

    What was written for the other event loop fails each time.
    """
    # A forever job goes on while the other jobs of a cancelled run unwind.
    cancelled = worker.was_cancelled_alone if worker.is_shielded else worker.run.backend.isolation.was_cancelled(worker)
    is_over = cancelled or job._is_ready() or worker.run.backend.wrong_backend_hint(error)
    return not (is_over or (find_throttles(error) and not is_scheduler(job)))


async def _call_with_callbacks(worker: Worker, job: Any, options: _job_options.OptionRecord) -> Any:
    """Make an attempt, and then call the job's callbacks `on_done` and `on_settled`, which can read its outcome.

    The job keeps its slot during the callbacks. `on_done` is called only after a success. If the job was throttled or
    will be retried, `on_settled` is not called, because the job will run again.
    """
    on_done, on_settled = job._callbacks
    try:
        value = await _call_and_decide(worker, job, options)
        job._run_callback(on_done, value)
    except BaseException as error:
        outcome = error
        if worker.run.backend.split_cancellations(error)[1] is None:  # to callbacks, a cancellation is a `JobCancelled`
            outcome = _errors.JobCancelled(f"{job.label!r} was cancelled: it has no result")
        throttles = find_throttles(outcome)
        is_over = not throttles or worker.run.pools.gives_up(job, throttles)
        if is_over and (job._extras is None or job._extras.next_pause is None):
            job._run_callback(on_settled, Failure(outcome))
        raise
    job._run_callback(on_settled, value)
    return value


def ends_with_run(run: Run, job: AbstractJob[Any], error: BaseException) -> bool:
    """Return whether a job becomes CANCELLED instead of FAILED, and is not retried.

    It has awaited a job that ended with the run, or is a nested scheduler that was drained.
    """
    drained = is_scheduler(job) and job._stop_reason is StopReason.DRAINED
    return (drained or run.is_draining_or_stopping) and isinstance(error, (_errors.JobCancelled, _errors.JobNotDone))


def find_throttles(error: BaseException) -> list[_errors.Throttled]:
    """Return the `Throttled` exceptions in `error`, or an empty list if `error` contains any other exception."""
    leaves = leaf_exceptions(error)
    throttles = [leaf for leaf in leaves if isinstance(leaf, _errors.Throttled)]
    return throttles if len(throttles) == len(leaves) else []


async def _call_with_timeouts(worker: Worker, job: AbstractJob[Any], options: _job_options.OptionRecord) -> Any:
    """Call a job once, within its timeouts, if it has any; a job with `keeps_time=True` enforces them itself.

    Raises:
        JobTimeout: the time is over, and the job does not move on.

    """
    timeout, idle_timeout = options.timeout, options.idle_timeout
    if timeout is idle_timeout is None:
        return await job._call_once()
    run, traceback = worker.run, None
    try:
        if job._keeps_time:
            return await job._call_once()
        if timeout is None or idle_timeout is not None or job._is_service:
            with TimeLimit(run, job, timeout=timeout, idle_timeout=idle_timeout, cancels=True):
                return await job._call_once()
        with run.backend.isolation.create_call_scope(worker, run.clock() + timeout):  # a `TimeLimit` would cost 1 µs
            try:
                return await job._call_once()
            except BaseException as error:
                traceback = get_traceback(error)
                raise
        raise _errors.JobTimeout(job, timeout, place=innermost_line(traceback))
    except _errors.JobTimeout as error:
        if error.job is job and _moves_on(job, options):
            return None
        raise
    finally:
        traceback = None  # break the reference cycle: the traceback refers to this frame


def _moves_on(job: AbstractJob[Any], options: _job_options.OptionRecord) -> bool:
    """Record that a job has timed out; return whether it moves on.

    A service may become ready while the timeout is cancelling it: then it does not.
    """
    job._ensure_extras().has_timed_out = True
    return options.on_timeout == "move_on" and not job._is_ready()


class Pauses(Part):
    """The jobs of one run that wait for their next attempt. A run gets this part when the first job does."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._heap: list[tuple[float, int, AbstractJob[Any]]] = []
        self._numbers = itertools.count()

    def add(self, job: AbstractJob[Any], until: float) -> None:
        """Let a job, which holds nothing, be ready again at the time `until`."""
        job._ensure_extras().paused_until = until
        heapq.heappush(self._heap, (until, next(self._numbers), job))
        if self._heap[0][2] is job:
            self._run.wake()

    def drain(self) -> list[AbstractJob[Any]]:
        """Remove and return all jobs that wait, in the order in which they would have been ready."""
        jobs = [job for _, _, job in sorted(self._heap) if job._state is SCHEDULED]
        self._heap.clear()
        return jobs

    def due_at(self) -> float:
        return self._heap[0][0] if self._heap else math.inf

    def turn(self) -> None:
        run, heap = self._run, self._heap
        now = run.clock() + TIME_TOLERANCE
        if self.due_at() > now:
            return
        while heap and heap[0][0] <= now:
            job = heapq.heappop(heap)[2]
            if job._state is SCHEDULED:
                job._ensure_extras().paused_until = None
                run.queue.push(job)
        run.workers.ensure_searcher()
