"""What becomes of a job when one of its attempts has ended, as `job/_requirements` says whether it runs at all.

The first row whose condition is true decides:

| what left the body | condition | verdict |
|---|---|---|
| a value | | SUCCEEDED |
| what a callback of a kind raised | | FAILED: the attempt was the last |
| only cancellations | the run ends a service that is ready | SUCCEEDED, with its value |
| only cancellations | the job, or its run, was cancelled | CANCELLED |
| only cancellations | otherwise: nobody has asked for them | as a `JobCancelled` below |
| `JobCancelled` or `JobNotDone` | the run drains or stops, or has drained the scheduler that the job is | CANCELLED |
| only `Throttled`, not of a scheduler | it cannot be called again, or `Rate(give_up=)` is over | FAILED |
| only `Throttled`, not of a scheduler | it was cancelled | CANCELLED |
| only `Throttled`, not of a scheduler | the run drains or stops, and it is no clean-up job | CANCELLED |
| only `Throttled`, not of a scheduler | otherwise | SCHEDULED, at the head; a clean-up job, after the throttle |
| what `retry` accepts | it was cancelled, is ready, or was written for the other loop | FAILED |
| what `retry` accepts | the run drains or stops, and it is no clean-up job | CANCELLED |
| what `retry` accepts | otherwise | SCHEDULED, after the backoff |
| anything else | | FAILED |

A verdict changes nothing. `Run.settle_error` does what it says; kinds with callbacks ask for it earlier, and keep it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..base._states import CANCELLED, SCHEDULED, SUCCEEDED, CancelCause, JobState, StopReason
from ..base._user_code import leaf_exceptions
from ..job import _errors
from ..job._job import AbstractJob, is_scheduler
from ..job._outcome import find_interruption

if TYPE_CHECKING:
    from ._run import Run
    from ._worker import Worker

FAILED: Final = JobState.FAILED


class Verdict(NamedTuple):
    """What becomes of a job."""

    state: JobState
    """A final state; SCHEDULED for another attempt."""
    judged: BaseException | None
    """What had left the body."""
    failure: BaseException | None = None
    """The exception of the attempt, without cancellations."""
    backoff: float = 0.0
    """The seconds before another attempt."""
    throttles: tuple[_errors.Throttled, ...] = ()
    """What it has raised of these: their keys have to be closed, whatever becomes of the job."""

    @property
    def is_final(self) -> bool:
        return self.state.is_settled


def judge(worker: Worker, job: AbstractJob[Any], error: BaseException) -> Verdict:
    """Judge an attempt of a job that has raised `error`: an exception, a cancellation, or a group of both."""
    run = worker.run
    cancelled, failure = run.backend.split_all_cancellations(error)
    was_cancelled = run.backend.isolation.was_cancelled(worker)
    ends = run.is_draining_or_stopping and worker.workers is run.workers  # a clean-up job goes on
    if cancelled and failure is None:
        is_end = worker.cause is CancelCause.END_OF_RUN
        if is_end or was_cancelled:
            is_good = is_end and job._is_ready()
            return Verdict(SUCCEEDED if is_good else CANCELLED, error)
        failure = _errors.JobCancelled(
            f"{job.label!r} raised a cancellation that was not requested: to end a job, call its cancel()"
        )
    assert failure is not None
    if ends_with_run(run, job, failure):
        return Verdict(CANCELLED, error, failure)
    if throttles := () if is_scheduler(job) else find_throttles(failure):
        fault = run.pools.why_not_throttled(job, throttles, failure)
        state = FAILED if fault is not None else CANCELLED if ends or was_cancelled else SCHEDULED
        return Verdict(state, error, fault or failure, throttles=throttles)
    try:
        backoff = _backoff(worker, job, failure, was_cancelled)
    except BaseException as fault:  # raised by the user's function `on`
        return Verdict(FAILED, error, fault)
    if backoff is None:
        return Verdict(FAILED, error, failure)
    return Verdict(CANCELLED if ends else SCHEDULED, error, failure, backoff)


def _backoff(worker: Worker, job: AbstractJob[Any], failure: BaseException, was_cancelled: bool) -> float | None:
    """Return the backoff before another attempt; None if there is none."""
    retry, run = job._options.retry, worker.run
    if retry is None or not isinstance(failure, Exception) or find_interruption(failure) is not None:
        return None
    # A forever job goes on while the other jobs of a cancelled run unwind.
    cancelled = worker.cause is not None if worker.is_shielded else was_cancelled
    if cancelled or job._is_ready() or run.backend.needed_backend(failure):  # which would fail each time
        return None
    extras = job._ensure_extras()
    return retry._next_backoff(extras.retry_count - extras.earlier_retries + 1, failure, job._name_for_errors)


def ends_with_run(run: Run, job: AbstractJob[Any], error: BaseException) -> bool:
    """Return whether a job has awaited one that ended with the run, or is a nested scheduler that was drained."""
    drained = is_scheduler(job) and job._stop_reason is StopReason.DRAINED
    return (drained or run.is_draining_or_stopping) and isinstance(error, (_errors.JobCancelled, _errors.JobNotDone))


def find_throttles(error: BaseException) -> tuple[_errors.Throttled, ...]:
    """Return the `Throttled` exceptions in `error`; none if it contains any other exception."""
    leaves = leaf_exceptions(error)
    throttles = tuple(leaf for leaf in leaves if isinstance(leaf, _errors.Throttled))
    return throttles if len(throttles) == len(leaves) else ()
