"""`Outcome`: the facts about the end of a job that all views show."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from .._core.base._states import WaitCause
from .._core.job._errors import Failure
from .._core.job._job import AnyJob, FailedAttempt, Restoration, Throttling, has_moved_on
from .._core.words import _job_queries


class Outcome(NamedTuple):
    """The facts about the end of a job, besides its state and its times. The defaults describe a plain success."""

    attempts: int = 1
    # A BLOCKED job has it, too.
    failure: Failure | None = None
    cause: AnyJob | None = None  # if another job blocked it, the first that failed
    # Whether it is a scheduler that failed because a job in it failed.
    failed_through_member: bool = False
    timed_out: bool = False
    moved_on: bool = False  # whether it SUCCEEDED only because its timeout ended it
    restoration: Restoration | None = None  # if the result was restored from a journal, the facts that it has
    rerun_cause: str | None = None  # if the job ran again though the journal has it, the first change that is the cause
    ready_at: float | None = None  # for a service, the time when it became ready
    throttled_attempts: tuple[Throttling, ...] = ()
    # The cause, start and end of each wait in an attempt.
    inner_waits: tuple[tuple[WaitCause, float, float], ...] = ()
    # The start and end of each wait between two attempts.
    retry_waits: tuple[tuple[float, float], ...] = ()
    failed_attempts: tuple[FailedAttempt, ...] = ()
    took: float | None = None  # if that is not all the time from its start to its end
    command: Any = None  # in a trace, the `CommandRecord` of its last process

    @property
    def restored_at(self) -> float | None:
        """The time when a restored job settled in its earlier run, in seconds since 1970."""
        return None if self.restoration is None else self.restoration.settled_at


PLAIN_OUTCOME: Final = Outcome()
"""The outcome of a job that has not settled, or succeeded with nothing else to report."""
NOT_BEGUN: Final = Outcome(attempts=0)
"""An outcome that many jobs share: each further object would let Python collect all its garbage more often."""


def outcome(job: AnyJob) -> Outcome:
    """Return the facts about the end of a settled job, which all views show. If `end_facts` has none, omit the call."""
    failure = _job_queries.failure_of(job)
    is_blocked = failure is not None and _job_queries.root_failure(job) is not job
    facts = Outcome(
        job.attempts,
        failure,
        _job_queries.first_cause(job) if is_blocked else None,
        failure is not None and _job_queries.failed_through_member(job),
        job.timed_out,
        has_moved_on(job),
        _job_queries.restoration_of(job),
        _job_queries.rerun_cause(job),
        _job_queries.ready_at(job),
        _job_queries.throttled_attempts(job),
        _job_queries.inner_waits(job),
        tuple(_job_queries.retry_waits(job)),
        _job_queries.failed_attempts(job),
        job.took if job.took != job.elapsed else None,
    )
    return NOT_BEGUN if facts == NOT_BEGUN else facts
