"""The decision whether a job runs, made when all its requirements have settled.

The first row whose condition is true decides:

| # | condition | decision |
|---|---|---|
| 1 | `run_if="failed"`, and no requirement failed | SKIPPED |
| 2 | an input failed, or another requirement that matters, unless it is tolerated | BLOCKED |
| 3 | an input was SKIPPED, or all requirements were, with `run_if="succeeded"` | SKIPPED |
| 4 | otherwise | the job runs |

Inputs always matter; other requirements only with `run_if="succeeded"`, and not those of `requires(..., settled=True)`.
FAILED, BLOCKED and CANCELLED count as failed, and so does an input that its nested scheduler did not reach. SKIPPED
does not.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from ..base._states import SCHEDULED, SUCCEEDED, JobState, StopReason
from ..base._user_code import get_cause
from . import _errors
from ._job import AbstractJob
from ._outcome import CancelledOutcome, Failure
from ._requirements import SETTLED_ONLY

NOT_FAILED: Final = frozenset({JobState.SUCCEEDED, JobState.SKIPPED})
MAY_RUN: Final = (SCHEDULED, None)


def decide(job: AbstractJob[Any]) -> tuple[JobState, Failure | None]:
    """Decide whether a job runs; all its requirements have settled.

    Returns:
        The job's next state: SCHEDULED, SKIPPED or BLOCKED. If it is BLOCKED, also the job's `RequirementFailed` as a
        `Failure`; otherwise None.

    """
    if certainly_runs(job):
        return MAY_RUN
    run_if = job._options.run_if
    if run_if == "failed" and not any(map(has_failed, job._required)):
        return JobState.SKIPPED, None
    essential, inputs = essential_requirements(job), job._inputs
    failed = [
        other for other in essential if has_failed(other) and (other in inputs or other._criticality() is not False)
    ]
    if failed:
        error = _requirement_failed_error(job, min(failed, key=_settle_position))
        return JobState.BLOCKED, Failure(error, is_from_cancel=all(map(_was_cancelled, failed)))
    skipped = [requirement for requirement in job._required if requirement._state is JobState.SKIPPED]
    if any(each in inputs for each in skipped) or (run_if == "succeeded" and len(skipped) == len(job._required)):
        return JobState.SKIPPED, None
    return MAY_RUN


def essential_requirements(job: AbstractJob[Any]) -> Collection[AbstractJob[Any]]:
    """Return the requirements of a job whose outcome matters, in the order in which they were added.

    The job does not run if one of these failed, unless that one is tolerated and no input.
    """
    required = job._required
    if job._options.run_if != "succeeded":
        return job._inputs
    if not isinstance(required, dict):
        return required
    return [other for other, flags in required.items() if not flags & SETTLED_ONLY or other in job._inputs]


def certainly_runs(job: AbstractJob[Any]) -> bool:
    """Return whether a fast check shows that a job runs; False means that `decide` has to be called."""
    if job._options.run_if == "failed":
        return False
    for requirement in job._required:  # noqa: SIM110  # a generator for all() would double the cost of this function
        if requirement._state is not SUCCEEDED:
            return False
    return True


def has_failed(job: AbstractJob[Any]) -> bool:
    """Return whether a requirement counts as failed for the job that requires it."""
    return job._state not in NOT_FAILED and not job._is_ready()


def _was_cancelled(job: AbstractJob[Any]) -> bool:
    """Return whether a requirement that failed did so only because of `cancel()`, and not because of a failure."""
    if type(job._outcome) in (Failure, CancelledOutcome):
        return bool(job._outcome.is_from_cancel)
    # The nested scheduler of the job has ended without reaching it; if it was cut off itself, its outcome says by what.
    scheduler = job._scheduler
    if scheduler is not None and scheduler.stop_reason is StopReason.CANCELLED:
        return _was_cancelled(scheduler)
    return scheduler is None or scheduler.stop_reason not in (StopReason.CRITICAL, StopReason.TIMEOUT)


def _settle_position(job: AbstractJob[Any]) -> float:
    """Return the position of a failed requirement in the order of settling; infinity if it never settled."""
    return job._outcome.number if type(job._outcome) in (Failure, CancelledOutcome) else float("inf")


def _requirement_failed_error(job: AbstractJob[Any], requirement: AbstractJob[Any]) -> _errors.RequirementFailed:
    """Return the exception for a job that a failed requirement blocks, with the original failure as its cause."""
    error = _errors.RequirementFailed(job, requirement)
    failure = requirement.raised_exception()
    if isinstance(failure, _errors.RequirementFailed):
        error.__cause__ = get_cause(failure) or failure
    elif failure is not None:
        error.__cause__ = failure
    else:
        fate = "was cancelled" if requirement._state is JobState.CANCELLED else "was not reached by its scheduler"
        error.__cause__ = _errors.JobCancelled(f"{requirement.label!r} {fate}")
    return error
