"""The decision whether a job may run, taken when all its requirements have settled.

The first condition that is true decides:

| # | condition | outcome |
|---|---|---|
| 1 | `run_if="failed"`, and nothing required failed | SKIPPED |
| 2 | an input failed; or, with `run_if="succeeded"`, anything required failed | BLOCKED |
| 3 | an input was SKIPPED; or, with `run_if="succeeded"`, anything required was | SKIPPED |
| 4 | otherwise | it runs |

FAILED, BLOCKED and CANCELLED count as failed. So does an input that its nested scheduler did not reach. SKIPPED is not
a failure.
"""

from __future__ import annotations

from typing import Any, Final

from ..base._states import SCHEDULED, SUCCEEDED, JobState
from . import _errors
from ._job import AbstractJob
from ._job_options import TriggerRule
from ._outcome import CancelledOutcome, Failure

NOT_FAILED: Final = frozenset({JobState.SUCCEEDED, JobState.SKIPPED})
MAY_RUN: Final = (SCHEDULED, None)


def decide(job: AbstractJob[Any], rule: TriggerRule) -> tuple[JobState, Failure | None]:
    """Return SCHEDULED, SKIPPED or BLOCKED for a job whose requirements have settled; if BLOCKED, also the failure."""
    if certainly_runs(rule):
        return MAY_RUN
    if rule.run_if == "failed" and not any(map(has_failed, job._required)):
        return JobState.SKIPPED, None
    essential = job._required if rule.run_if == "succeeded" else rule.inputs
    failed = [requirement for requirement in essential if has_failed(requirement)]
    if failed:
        return JobState.BLOCKED, Failure(_requirement_failed(job, min(failed, key=_settle_number)))
    if any(requirement._state is JobState.SKIPPED for requirement in essential):
        return JobState.SKIPPED, None
    return MAY_RUN


def certainly_runs(rule: TriggerRule) -> bool:
    """Return True if a fast check shows that a job may run; after False, `judge` has to decide."""
    if rule.run_if != "settled":
        return False
    for requirement in rule.inputs:  # noqa: SIM110  # the generator of an all() would cost as much as everything else here
        if requirement._state is not SUCCEEDED:
            return False
    return True


def has_failed(job: AbstractJob[Any]) -> bool:
    """Return whether a requirement counts as failed in a decision about the job that requires it."""
    return job._state not in NOT_FAILED and not job._is_ready()


def _settle_number(job: AbstractJob[Any]) -> float:
    """Return a sort key: the order in which failed requirements settled; one that never settled comes last."""
    return job._outcome.number if isinstance(job._outcome, (Failure, CancelledOutcome)) else float("inf")


def _requirement_failed(job: AbstractJob[Any], requirement: AbstractJob[Any]) -> _errors.RequirementFailed:
    error = _errors.RequirementFailed(job, requirement)
    failure = requirement.raised_exception()
    if isinstance(failure, _errors.RequirementFailed):
        error.__cause__ = failure.__cause__ or failure
    elif failure is not None:
        error.__cause__ = failure
    else:
        fate = "was cancelled" if requirement._state is JobState.CANCELLED else "was not reached by its scheduler"
        error.__cause__ = _errors.JobCancelled(f"{requirement.label!r} {fate}")
    return error
