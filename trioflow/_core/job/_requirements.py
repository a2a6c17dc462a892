"""The requirements of a job: how they are stored, read from users' arguments, and decide whether the job runs.

When all of them have settled, the first row whose condition is true decides:

| # | condition | decision |
|---|---|---|
| 1 | `run_if="failed"`, and no requirement failed | SKIPPED |
| 2 | an input failed, or another requirement that matters, unless it is tolerated | BLOCKED |
| 3 | an input was SKIPPED, or all requirements were, with `run_if="succeeded"` | SKIPPED |
| 4 | otherwise | the job runs |

Inputs always matter. Other requirements matter only with `run_if="succeeded"`, except after `requires(...,
settled=True)`. FAILED, BLOCKED and CANCELLED count as failed, and so does an input that its nested scheduler did not
reach. SKIPPED does not.
"""

from __future__ import annotations

import math
from collections.abc import (
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ..base import _text_forms, _user_code
from ..base._states import (
    BLOCKED,
    CANCELLED,
    SCHEDULED,
    SKIPPED,
    SUCCEEDED,
    JobState,
    StopReason,
)
from . import _errors

if TYPE_CHECKING:
    from ..scheduler._members import Sequence as JobSequence
    from ._job import AnyJob

    Required: TypeAlias = "AnyJob | JobSequence | Iterable[Required] | None"
    """The type of a user's requirements: a job, a Sequence, None, or a collection of these."""
    StoredRequirements: TypeAlias = "tuple[AnyJob, ...] | dict[AnyJob, int]"
    """The stored form of a job's requirements. A dict has the flags of each. In a tuple, no requirement has flags."""

SETTLED_ONLY: Final = 1
ORDER_ONLY: Final = 2
"""The flags of `requires(..., settled=True, order_only=True)`: plain integers, because an `IntFlag` is ten times as
slow."""
MANY_REQUIREMENTS: Final = 16
"""From this number on, a job's requirements are in a dict. A tuple takes less memory, but is slower to search."""
SIMPLE: Final = (list, tuple)
NOT_FAILED: Final = frozenset({SUCCEEDED, SKIPPED})
MAY_RUN: Final = (SCHEDULED, None)


class Requirements(AbstractSet[Any]):
    """A read-only view of a job's requirements, in the order that they were added."""

    __slots__ = ("_job",)

    def __init__(self, job: AnyJob) -> None:
        self._job = job

    def __contains__(self, job: object) -> bool:
        return job in self._job._required

    def __iter__(self) -> Iterator[AnyJob]:
        return iter(tuple(self._job._required))

    def __len__(self) -> int:
        return len(self._job._required)

    def __repr__(self) -> str:
        return f"{{{', '.join(map(repr, self))}}}"

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> set[Any]:
        # `&`, `|` and `-` return plain sets.
        return set(it)


def flatten_simple(
    value: object, state_of: Callable[[Any], Any]
) -> tuple[Any, ...] | None:
    """Return the jobs if `value` is a job, or a list or tuple of jobs, otherwise None.

    This is several times as fast as `flatten`, which accepts all other forms.

    Args:
        value: the user's value.
        state_of: returns the state of a job. Raises for any other object, and for a job that is not initialized.

    """
    jobs: Any = value if type(value) in SIMPLE else (value,)
    if len(jobs) == 1 and type(jobs[0]) is list:
        jobs = jobs[0]
    try:
        for _ in map(state_of, jobs):
            pass
    except (TypeError, AttributeError):
        return None
    if len(jobs) < 2:
        return tuple(jobs)
    return tuple(dict.fromkeys(jobs))


def flatten(values: Iterable[Any], purpose: str, method: str) -> Iterator[AnyJob]:
    """Yield the jobs in `values`, in order. Each value is a job, a Sequence, None, or a collection of values.

    Args:
        values: the user's values.
        purpose: the call that takes the values, for errors.
        method: "_all_jobs" if a Sequence stands for all of its jobs, or "_last_jobs" if it stands for its last job.

    Raises:
        TypeError: a value is none of these.

    """
    stack: list[Iterator[Any]] = [iter(values)]
    while stack:
        value: Any
        for value in stack[-1]:
            if value is None:
                continue
            expand = getattr(type(value), method, None)  # pyright: ignore[reportUnknownArgumentType]
            if expand is not None:
                if not (hasattr(value, "_state") or hasattr(value, "jobs")):
                    raise TypeError(
                        f"{purpose}: {type(value).__name__}.__init__ must call super().__init__()"
                    )
                yield from expand(value)
            elif issubclass(type(value), Iterable) and not isinstance(
                value, (str, bytes)
            ):
                stack.append(iter(value))
                break
            else:
                raise TypeError(
                    f"{purpose}: {_text_forms.short_repr(value)} is not a job: {_advice(value)}"
                )
        else:
            stack.pop()


def _advice(value: object) -> str:
    name = getattr(value, "__name__", None)
    if hasattr(type(value), "_builds_jobs"):
        return f"call it, {name}(...), to build a job"
    if issubclass(type(value), Coroutine):
        return f"write Job({name}(...))"
    if callable(value) and name:
        return f"write Job({name}, ...) for an async function, and ThreadJob({name}, ...) for a plain one"
    advice = "give jobs, Sequences, None, or collections of these"
    if issubclass(type(value), str):
        advice += "; pass the job, not its label"
    return advice


def flagged(required: StoredRequirements, flag: int) -> list[AnyJob]:
    """Return those requirements that have a flag."""
    if isinstance(required, dict):
        return [job for job, flags in required.copy().items() if flags & flag]
    return []


def add_flags(
    required: StoredRequirements, jobs: Iterable[AnyJob], flags: int
) -> StoredRequirements:
    """Return the requirements `required`, with these flags added to `jobs`."""
    if isinstance(required, dict):
        known = required
    else:
        known = dict.fromkeys(required, 0)
    return {**known, **{job: known[job] | flags for job in jobs}}


def extend_requirements(
    required: StoredRequirements, new: Sequence[AnyJob]
) -> StoredRequirements:
    """Return the requirements `required` followed by `new`, in a tuple or a dict. A dict is extended in place."""
    if isinstance(required, dict):
        required.update(dict.fromkeys(new, 0))
        return required
    # `tuple` returns a tuple unchanged.
    if required:
        extended = (*required, *new)
    else:
        extended = tuple(new)
    if len(extended) < MANY_REQUIREMENTS:
        return extended
    return dict.fromkeys(extended, 0)


# ---- the decision whether a job runs


def decide(job: AnyJob) -> tuple[JobState, _errors.Failure | None]:
    """Decide whether a job runs, when all its requirements have settled.

    Returns:
        The job's next state: SCHEDULED, SKIPPED or BLOCKED. If it is BLOCKED, also the job's `RequirementFailed` as a
        `Failure`, otherwise None.

    """
    if certainly_runs(job):
        return MAY_RUN
    run_if = job._options.run_if
    if run_if == "failed" and not any(map(has_failed, job._required)):
        return SKIPPED, None
    inputs = job._inputs
    failed = blocking_requirements(job)
    if failed:
        error = _requirement_failed_error(job, min(failed, key=_settle_position))
        is_from_cancel = all(map(_was_cancelled, failed))
        return BLOCKED, _errors.Failure(error, is_from_cancel)
    skipped = [other for other in job._required if other._state is SKIPPED]
    is_all = len(skipped) == len(job._required)
    if any(each in inputs for each in skipped) or (run_if == "succeeded" and is_all):
        return SKIPPED, None
    return MAY_RUN


def blocking_requirements(job: AnyJob) -> list[AnyJob]:
    """Return the requirements that block a job, because they have failed, and are not tolerated, or are inputs."""
    failed: list[AnyJob] = []
    for other in essential_requirements(job):
        if has_failed(other):
            if other in job._inputs or other._criticality() is not False:
                failed.append(other)
    return failed


def essential_requirements(job: AnyJob) -> Collection[AnyJob]:
    """Return the requirements of a job whose outcome matters, in the order that they were added.

    The job does not run if any of these failed, unless its failure is tolerated and it is no input.
    """
    required = job._required
    if job._options.run_if != "succeeded":
        return job._inputs
    if not isinstance(required, dict):
        return required
    # A copy, because another thread may ask, while the run adds requirements.
    flags_of = required.copy()
    return [other for other in flags_of if not flags_of[other] & SETTLED_ONLY]


def certainly_runs(job: AnyJob) -> bool:
    """Return whether a fast check shows that a job runs. False means that `decide` has to be called."""
    if job._options.run_if == "failed":
        return False
    for (
        requirement
    ) in job._required:  # a generator for all() would double the cost of this function
        if requirement._state is not SUCCEEDED:
            return False
    return True


def has_failed(job: AnyJob) -> bool:
    """Return whether a requirement counts as failed for the job that requires it."""
    return job._state not in NOT_FAILED and not job._is_ready()


def _was_cancelled(job: AnyJob) -> bool:
    """Return whether a requirement that failed did so only because of `cancel()`, and not because of a failure."""
    if type(job._outcome) in (_errors.Failure, _errors.CancelledOutcome):
        return bool(job._outcome.is_from_cancel)
    # The nested scheduler of the job has ended without reaching it. If it was cut off itself, its outcome has the
    # cause.
    scheduler = job._scheduler
    if scheduler is not None and scheduler.stop_reason is StopReason.CANCELLED:
        return _was_cancelled(scheduler)
    return scheduler is None or scheduler.stop_reason not in (
        StopReason.CRITICAL,
        StopReason.TIMEOUT,
    )


def _settle_position(job: AnyJob) -> float:
    """Return the position of a failed requirement in the order of settling, or infinity if it never settled."""
    if type(job._outcome) in (_errors.Failure, _errors.CancelledOutcome):
        number: float = job._outcome.number
        return number
    return math.inf


def _requirement_failed_error(
    job: AnyJob, requirement: AnyJob
) -> _errors.RequirementFailed:
    """Return the exception for a job that a failed requirement blocks, with the original failure as its cause."""
    error = _errors.RequirementFailed(job, requirement)
    failure = requirement.raised_exception()
    if isinstance(failure, _errors.RequirementFailed):
        error.__cause__ = _user_code.get_cause(failure) or failure
    elif failure is not None:
        error.__cause__ = failure
    else:
        fate = "was not reached by its scheduler"
        if requirement._state is CANCELLED:
            fate = "was cancelled"
        error.__cause__ = _errors.JobCancelled(f"{requirement.label!r} {fate}")
    return error
