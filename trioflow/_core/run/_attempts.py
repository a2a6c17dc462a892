"""Attempts: the calls of a job, with its timeouts and callbacks, their verdicts, and the backoffs between them.

A verdict decides the state of a job after an attempt, as `job/_requirements` decides whether the job runs at all. The
first row whose condition is true decides:

| the body ended with | condition | verdict |
|---|---|---|
| a value | | SUCCEEDED |
| an exception of a callback of its kind | | FAILED: the attempt was the last |
| only cancellations | the run ends a service that is ready | SUCCEEDED, with its value |
| only cancellations | the job, or its run, was cancelled | CANCELLED |
| only cancellations | otherwise: trioflow did not ask for them | as a `JobCancelled` below |
| `JobCancelled` or `JobNotDone` | the run drains or stops, or has drained the scheduler that the job is | CANCELLED |
| only `Throttled`, not of a scheduler | it cannot be called again, or `Rate(give_up=)` is over | FAILED |
| only `Throttled`, not of a scheduler | it was cancelled | CANCELLED |
| only `Throttled`, not of a scheduler | the run drains or stops, and it is no clean-up job | CANCELLED |
| only `Throttled`, not of a scheduler | otherwise | SCHEDULED, at the head; a clean-up job, after the throttle |
| an exception that `retry` accepts | it was cancelled, is ready, or was written for the other loop | FAILED |
| an exception that `retry` accepts | the run drains or stops, and it is no clean-up job | CANCELLED |
| an exception that `retry` accepts | the scheduler that the job is was drained, perhaps as it stopped | CANCELLED |
| an exception that `retry` accepts | otherwise | SCHEDULED, after the backoff |
| anything else | | FAILED |

A verdict changes nothing. `settle_error` carries it out. Kinds with callbacks ask for the verdict earlier, and keep
it.

Decided in docs/decisions: 18-throttling, 21-timeouts.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..admission._resource import TIME_TOLERANCE
from ..base._states import (
    CANCELLED,
    FAILED,
    SCHEDULED,
    SUCCEEDED,
    CancelCause,
    JobState,
    StopReason,
)
from ..base._user_code import get_traceback, innermost_line, leaf_exceptions
from ..job import _errors, _job_options
from ..job._errors import find_interruption
from ..job._job import AnyJob, RunExtras, is_scheduler
from ._handle import RunHandle, TimeLimit
from ._instruments import Part

if TYPE_CHECKING:
    from ._journaling import JournalWriter
    from ._run import Run
    from ._worker import Worker

MIN_WAIT_SECONDS: Final = 0.01
"""Shorter waits for files, in seconds, count as the time of their job."""
LONG_CALL_SECONDS: Final = 0.05
"""After a timed call of this length, in seconds, its worker leaves, and with it the timer that the next call would use.
On a virtual clock, such a timer would be an instant to go on to."""


def call_job(
    worker: Worker, job: AnyJob, *, has_journal: bool = True
) -> Awaitable[Any]:
    """Return an awaitable that calls a job, wrapped in only those coroutines that the job's options require.

    Args:
        worker: the worker of the job.
        job: the job.
        has_journal: whether the journal, if there is one, is told of the attempt.

    """
    options = job._options
    writer = worker.run.journal_writer
    if has_journal and writer is not None:
        return _call_with_journal(worker, job, writer)
    if job._callbacks is not None:
        return _call_with_callbacks(worker, job, options)
    if options.timeout is options.idle_timeout is None and not options.writes:
        return job._call_once()
    return _call_with_timeouts(worker, job, options)


async def _call_with_journal(worker: Worker, job: AnyJob, writer: JournalWriter) -> Any:
    """Call a job. Before, the journal records that it begins, and afterwards reads its files, off the job's clock."""
    since = worker.run.clock()
    await writer.begin_attempt(job)
    _record_wait(worker, job, since)
    value = await call_job(worker, job, has_journal=False)
    since = worker.run.clock()
    await writer.read_outputs(job)
    _record_wait(worker, job, since)
    return value


def _record_wait(worker: Worker, job: AnyJob, since: float) -> None:
    """Record that a job has waited for files until now, if that was long."""
    if worker.run.clock() - since > MIN_WAIT_SECONDS:
        RunHandle(worker.run).record_loading(job, since)


async def _call_with_callbacks(
    worker: Worker, job: Any, options: _job_options.OptionRecord
) -> Any:
    """Make an attempt, and then call the job's callbacks `on_succeeded` and `on_settled`, which can read its outcome.

    The job keeps its slot during the callbacks. `on_succeeded` is called only after a success. If the job was throttled
    or will be retried, `on_settled` is not called, because the job will run again.
    """
    on_succeeded, on_settled = job._callbacks
    try:
        value = await _call_with_timeouts(worker, job, options)
        _run_last_callback(worker, job, on_succeeded, SUCCEEDED, value)
    except BaseException as error:
        worker.verdict = verdict = worker.verdict or judge(worker, job, error)
        if verdict.state.is_settled:
            outcome = outcome_of(worker.run, job, verdict, worker.cause)
            _run_last_callback(worker, job, on_settled, verdict.state, outcome)
        raise
    _run_last_callback(worker, job, on_settled, SUCCEEDED, value)
    return value


def _run_last_callback(
    worker: Worker, job: Any, callback: object, state: JobState, outcome: object
) -> None:
    """Run a callback after the last attempt of a job. An exception of the callback is the job's failure, and final."""
    try:
        job._run_callback(callback, worker.run, state, outcome)
    except BaseException as error:
        worker.verdict = Verdict(FAILED, error, error)
        raise


def report_unrepeated(
    run: Run, job: Any, state: JobState, outcome: object
) -> BaseException | None:
    """Call `on_settled` of a job with callbacks that waits for another attempt, if it does: no other will come.

    Args:
        run: the run of the job.
        job: the job, which may never have started.
        state: its final state.
        outcome: its outcome.

    Returns:
        The exception that the callback has raised.

    """
    extras = job._extras or RunExtras
    if extras.retry_count or extras.throttlings:
        try:
            job._run_callback(job._callbacks[1], run, state, outcome)
        except BaseException as error:
            return error
    return None


async def _call_with_timeouts(
    worker: Worker, job: AnyJob, options: _job_options.OptionRecord
) -> Any:
    """Call a job once, within its timeouts, if it has any. A job with `keeps_time=True` enforces its own.

    Raises:
        JobTimeout: the time is over, and the job does not move on.

    """
    timeout = options.timeout
    idle_timeout = options.idle_timeout
    call = job._call_once
    run = worker.run
    if options.writes:
        since = run.clock()
        # A tree may take long to list.
        call = partial(
            _call_with_outputs, worker, job, await run.scheduler._begin_outputs(job)
        )
        _record_wait(worker, job, since)
    if timeout is idle_timeout is None:
        return await call()
    traceback = None
    now: Any = job._started_at
    if options.writes or run.journal_writer is not None:
        # The clock of the job begins after the wait for files.
        now = run.clock()
    try:
        if job._keeps_time:
            return await call()
        if timeout is not None:
            run.stuck_jobs.watch_deadline(worker, now, now + timeout)
        if timeout is None or idle_timeout is not None or job._is_service:
            with TimeLimit(
                run, job, timeout=timeout, idle_timeout=idle_timeout, cancels=True
            ):
                return await call()
        # A `TimeLimit` would cost 1 µs.
        with run.backend.isolation.create_call_scope(worker, now + timeout):
            try:
                return await call()
            except BaseException as error:
                traceback = get_traceback(error)
                raise
        raise _errors.JobTimeout(job, timeout, place=innermost_line(traceback))
    except _errors.JobTimeout as error:
        if error.job is job and _moves_on(job, options):
            return None
        raise
    finally:
        if worker.cause is None:
            worker.cancelled_at = math.inf
        if run.clock() > now + LONG_CALL_SECONDS:
            worker.must_leave = True
        # Break the reference cycle: the traceback refers to this frame.
        traceback = None


async def _call_with_outputs(
    worker: Worker, job: AnyJob, end_outputs: Callable[[bool], Awaitable[str]]
) -> Any:
    """Call a job once. If it does not succeed, set aside the files that it has begun to write."""
    try:
        value = await job._call_once()
        text = await end_outputs(True)
        if text:
            worker.run.report(job, text)
    except BaseException:
        # A service that the end of the run ends has succeeded.
        has_succeeded = worker.cause is CancelCause.END_OF_RUN and job._is_ready()
        if not has_succeeded:
            text = await end_outputs(False)
            if text:
                worker.run.report(job, text)
        raise
    return value


def _moves_on(job: AnyJob, options: _job_options.OptionRecord) -> bool:
    """Record that a job has timed out. Return whether it moves on.

    A service may become ready while the timeout is cancelling it: then it does not.
    """
    job._ensure_extras().timed_out_in = job.attempts
    return options.on_timeout == "move_on" and not job._is_ready()


class Verdict(NamedTuple):
    """The next state of the job."""

    state: JobState
    """A final state, or SCHEDULED for another attempt."""
    judged: BaseException | None
    """The exception that left the body."""
    failure: BaseException | None = None
    """The exception of the attempt, without cancellations."""
    backoff: float = 0.0
    throttles: tuple[_errors.Throttled, ...] = ()
    """The attempt's `Throttled` exceptions. Their keys are closed even if the job failed."""


def judge(worker: Worker, job: AnyJob, error: BaseException) -> Verdict:
    """Judge an attempt of a job that has raised `error`: an exception, a cancellation, or a group of both."""
    run = worker.run
    _, failure = run.backend.split_all_cancellations(error)
    was_cancelled = run.backend.isolation.was_cancelled(worker)
    # A clean-up job goes on.
    ends = run.phase._is_ending and not worker.crew.is_clean_up
    if is_scheduler(job) and job._fate.no_more_attempts:
        ends = True
    if failure is None:
        is_end = worker.cause is CancelCause.END_OF_RUN
        if is_end and job._is_ready():
            return Verdict(SUCCEEDED, error)
        if is_end or was_cancelled:
            return Verdict(CANCELLED, error)
        found = f"{job.label!r} raised a cancellation that was not requested"
        failure = _errors.JobCancelled(f"{found}: to end a job, call its cancel()")
    if ends_with_run(run, job, failure):
        return Verdict(CANCELLED, error, failure)
    throttles: tuple[_errors.Throttled, ...] = ()
    if not is_scheduler(job):
        throttles = find_throttles(failure)
    if throttles:
        fault = run.pools.why_not_throttled(job, throttles, failure)
        if fault is not None:
            return Verdict(FAILED, error, fault, throttles=throttles)
        state = CANCELLED if ends or was_cancelled else SCHEDULED
        return Verdict(state, error, failure, throttles=throttles)
    try:
        backoff = _backoff(worker, job, failure, was_cancelled)
    except BaseException as fault:
        # Raised by the user's function `on`.
        return Verdict(FAILED, error, fault)
    if backoff is None:
        return Verdict(FAILED, error, failure)
    return Verdict(CANCELLED if ends else SCHEDULED, error, failure, backoff)


def _backoff(
    worker: Worker, job: AnyJob, failure: BaseException, was_cancelled: bool
) -> float | None:
    """Return the backoff before another attempt, or None if there is none."""
    retry = job._options.retry
    if retry is None or not isinstance(failure, Exception):
        return None
    if find_interruption(failure) is not None:
        return None
    if worker.is_shielded:
        # A forever job goes on while the other jobs of a cancelled run unwind.
        was_cancelled = worker.cause is not None
    # A job that was written for the other loop would fail each time.
    if was_cancelled or job._is_ready() or worker.run.backend.needed_backend(failure):
        return None
    extras = job._ensure_extras()
    was_cause = worker.cause
    number = extras.retry_count - extras.earlier_retries + 1
    backoff = retry._next_backoff(number, failure, job._name_for_errors)
    # The user's function `on` may have cancelled the job, or the run.
    return backoff if worker.cause is was_cause else None


def outcome_of(
    run: Run, job: AnyJob, verdict: Verdict, cause: CancelCause | None
) -> Any:
    """Return the outcome of a job that settles with a verdict. A service that was ready keeps its value."""
    if verdict.failure is not None and verdict.state is FAILED:
        return _errors.Failure(verdict.failure)
    if verdict.state is SUCCEEDED:
        return job._outcome
    return cancelled_outcome(run, cause)


def cancelled_outcome(run: Run, cause: CancelCause | None) -> _errors.CancelledOutcome:
    """Return the outcome of a job that ends CANCELLED, which says whether a failure or a timeout has done it.

    If the enclosing run cut a run off, the reason is there.
    """
    is_alone = cause is CancelCause.JOB
    # Go out to the run that stopped first: the runs inside it were only cancelled with it.
    while (
        cause is not CancelCause.JOB and run.fate.cancel_reason is StopReason.CANCELLED
    ):
        outer = run.outer_worker
        if outer is None:
            break
        cause = outer.cause
        run = outer.run
    is_cut_off = cause is not CancelCause.JOB and run.fate.cancel_reason in (
        StopReason.CRITICAL,
        StopReason.TIMEOUT,
    )
    return _errors.CancelledOutcome(not is_cut_off, is_alone)


def ends_with_run(run: Run, job: AnyJob, error: BaseException) -> bool:
    """Return whether a job has awaited a job that ended with the run, or is a nested scheduler that was drained."""
    # Not `no_more_attempts`: a drain that has kept no job from its end excuses no failure.
    drained = is_scheduler(job) and job._fate.reason is StopReason.DRAINED
    return (drained or run.phase._is_ending) and isinstance(
        error, (_errors.JobCancelled, _errors.JobNotDone)
    )


def find_throttles(error: BaseException) -> tuple[_errors.Throttled, ...]:
    """Return the `Throttled` exceptions in `error`, or none if it contains any other exception."""
    leaves: Any = leaf_exceptions(error)
    if all(isinstance(leaf, _errors.Throttled) for leaf in leaves):
        return tuple(leaves)
    return ()


class BackoffTimer(Part):
    """The jobs of a run that wait for their next attempt. A run gets this part when its first job waits."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._heap: list[tuple[float, int, AnyJob]] = []
        self._numbers = itertools.count()

    def add(self, job: AnyJob, until: float) -> None:
        """Let a job, which holds nothing, be ready again at the time `until`."""
        job._ensure_extras().backoff_until = until
        heapq.heappush(self._heap, (until, next(self._numbers), job))
        if self._heap[0][2] is job:
            self._run.wake()

    def drain(self) -> list[AnyJob]:
        """Remove and return all jobs that wait, in the order that they would have been ready."""
        jobs = [job for until, _, job in sorted(self._heap) if _waits_until(job, until)]
        self._heap.clear()
        return jobs

    def due_at(self) -> float:
        # A job that was cancelled in its backoff keeps nobody waiting.
        while self._heap:
            until, _, job = self._heap[0]
            if _waits_until(job, until):
                return until
            heapq.heappop(self._heap)
        return math.inf

    def act(self) -> None:
        while self.due_at() <= self._run.clock() + TIME_TOLERANCE:
            *_, job = heapq.heappop(self._heap)
            job._ensure_extras().backoff_until = None
            self._run.open_crew.line.push(job)


def _waits_until(job: AnyJob, until: float) -> bool:
    """Return whether a job still waits for its next attempt: it may have been cancelled, and tried again since."""
    return (
        job._state is SCHEDULED
        and job._extras is not None
        and job._extras.backoff_until == until
    )


def drain_backoffs(run: Run) -> list[AnyJob]:
    """Remove and return the jobs of a run that wait for their next attempt."""
    backoffs = run.part(BackoffTimer)
    if backoffs is None:
        return []
    return backoffs.drain()
