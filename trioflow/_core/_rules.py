"""May a job run? Judged when all that it requires has settled; and who still needs a result.

The first of these that holds decides:

| # | when | outcome |
|---|---|---|
| 1 | `run_if="failed"`, and nothing required failed | SKIPPED |
| 2 | an input failed; or, with `run_if="succeeded"`, anything required | BLOCKED |
| 3 | one of the same was SKIPPED | SKIPPED |
| 4 | otherwise | it runs |

FAILED, BLOCKED and CANCELLED count as failed, and so does an input that a nested scheduler did not come to run.
SKIPPED is no failure.
"""

from __future__ import annotations

from typing import Any, Final

from . import _errors
from ._jobs import AbstractJob
from ._options import Rule
from ._outcomes import FREED, Cut, Failure, RunFacts
from ._states import JobState

GOOD: Final = frozenset({JobState.SUCCEEDED, JobState.SKIPPED})
SUCCEEDED: Final = JobState.SUCCEEDED
RUNS: Final = (JobState.SCHEDULED, None)


def judge(job: AbstractJob[Any], rule: Rule) -> tuple[JobState, Failure | None]:
    """Return SCHEDULED, SKIPPED or BLOCKED for a job all of whose requirements have settled, and why if BLOCKED."""
    if holds(rule):
        return RUNS
    if rule.run_if == "failed" and not any(map(has_failed, job._required)):
        return JobState.SKIPPED, None
    essential = job._required if rule.run_if == "succeeded" else rule.inputs
    failed = [one for one in essential if has_failed(one)]
    if failed:
        return JobState.BLOCKED, Failure(_requirement_failed(job, min(failed, key=_when)))
    if any(one._state is JobState.SKIPPED for one in essential):
        return JobState.SKIPPED, None
    return RUNS


def holds(rule: Rule) -> bool:
    """Tell whether a job may run, by a short way; False means that `judge` has to be asked."""
    if rule.run_if != "settled":
        return False
    for one in rule.inputs:  # noqa: SIM110  # the generator of an all() would cost as much as all the rest
        if one._state is not SUCCEEDED:
            return False
    return True


def has_failed(job: AbstractJob[Any]) -> bool:
    """Tell whether a requirement counts as failed, once those who require it are judged."""
    return job._state not in GOOD and not job._is_ready()


def _when(job: AbstractJob[Any]) -> float:
    """Return when a failed requirement settled, as a number to compare by; one that never did is last."""
    return job._outcome.number if isinstance(job._outcome, (Failure, Cut)) else float("inf")


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


def release_inputs(job: AbstractJob[Any], rule: Rule) -> None:
    """Take note that a job needs its arguments no more: results that nobody else needs are given up."""
    job._facts = job._facts or RunFacts()
    if job._facts.released:
        return
    job._facts.released = True
    for one in rule.inputs:
        facts = one._facts
        if one._scheduler is None or one in one._scheduler._used_outside:
            continue  # a nested scheduler may be run again and need it
        if facts is not None and facts.consumers:
            facts.consumers -= 1
            if not facts.consumers and one._state is JobState.SUCCEEDED:
                one._outcome = FREED
