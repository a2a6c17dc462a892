"""The decision whether a job runs, made when all its requirements have settled.

The first row whose condition is true decides:

| # | condition | decision |
|---|---|---|
| 1 | `run_if="failed"`, and no requirement failed | SKIPPED |
| 2 | a requirement that must succeed failed | BLOCKED |
| 3 | a requirement that must succeed was SKIPPED | SKIPPED |
| 4 | otherwise | the job runs |

Inputs must succeed, and so must requirements of `requires(..., succeeded=True)`; with `run_if="succeeded"`, all must.
FAILED, BLOCKED and CANCELLED count as failed, and so does an input that its nested scheduler did not reach. SKIPPED
does not.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from ..base._states import SCHEDULED, SUCCEEDED, JobState
from ..base._user_code import get_cause
from . import _errors
from ._job import AbstractJob
from ._outcome import CancelledOutcome, Failure

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
    essential = essential_requirements(job)
    failed = [requirement for requirement in essential if has_failed(requirement)]
    if failed:
        return JobState.BLOCKED, Failure(_requirement_failed_error(job, min(failed, key=_settle_position)))
    if any(requirement._state is JobState.SKIPPED for requirement in essential):
        return JobState.SKIPPED, None
    return MAY_RUN


def essential_requirements(job: AbstractJob[Any]) -> Collection[AbstractJob[Any]]:
    """Return the requirements of a job that must succeed for it to run, in the order in which they were added."""
    options, required = job._options, job._required
    if options.run_if == "succeeded":
        return required
    if not options.requires_success or not isinstance(required, dict):
        return job._inputs
    return [requirement for requirement, must_succeed in required.items() if must_succeed or requirement in job._inputs]


def certainly_runs(job: AbstractJob[Any]) -> bool:
    """Return whether a fast check shows that a job runs; False means that `decide` has to be called."""
    if job._options.has_conditions:
        return False
    for requirement in job._inputs:  # noqa: SIM110  # a generator for all() would double the cost of this function
        if requirement._state is not SUCCEEDED:
            return False
    return True


def has_failed(job: AbstractJob[Any]) -> bool:
    """Return whether a requirement counts as failed for the job that requires it."""
    return job._state not in NOT_FAILED and not job._is_ready()


def _settle_position(job: AbstractJob[Any]) -> float:
    """Return the position of a failed requirement in the order of settling; infinity if it never settled."""
    return job._outcome.number if isinstance(job._outcome, (Failure, CancelledOutcome)) else float("inf")


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
