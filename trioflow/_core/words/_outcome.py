"""`Outcome`: the facts about the end of a job that all views show."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from ..base._states import WaitCause
from ..job._errors import Failure
from ..job._job import (
    AnyJob,
    FailedAttempt,
    Restoration,
    RunExtras,
    Throttling,
    has_moved_on,
)
from . import _job_queries


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
    # If the result was restored from a journal, the facts that it has.
    restoration: Restoration | None = None
    # If the job ran again though the journal has it, the first change that is the cause.
    rerun_cause: str | None = None
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
        if self.restoration is None:
            return None
        return self.restoration.settled_at


PLAIN_OUTCOME: Final = Outcome()
"""The outcome of a job that has not settled, or succeeded with nothing else to report."""
NOT_BEGUN: Final = Outcome(attempts=0)
"""An outcome that many jobs share: each further object would let Python collect all its garbage more often."""


def outcome(job: AnyJob) -> Outcome:
    """Return the facts about the end of a settled job, which all views show. If `end_facts` has none, omit the call."""
    failure = _job_queries.failure_of(job)
    cause = None
    if failure is not None and _job_queries.root_failure(job) is not job:
        cause = _job_queries.first_cause(job)
    extras = job._extras or RunExtras
    facts = Outcome(
        job.attempts,
        failure,
        cause,
        failure is not None and _job_queries.failed_through_member(job),
        job.timed_out,
        has_moved_on(job),
        _job_queries.restoration_of(job),
        _job_queries.rerun_cause(job),
        extras.ready_at,
        extras.throttlings,
        extras.inner_waits,
        _retry_waits(job),
        extras.failed_attempts,
        job.took if job.took != job.elapsed else None,
    )
    return NOT_BEGUN if facts == NOT_BEGUN else facts


def _retry_waits(job: AnyJob) -> tuple[tuple[float, float], ...]:
    """Return the beginning and end of each wait of a job between two attempts. It held nothing meanwhile.

    Attempts that were throttled before the first that failed do not count. The end of a wait that goes on is
    infinity.
    """
    failed = _job_queries.failed_attempts(job)
    if not failed:
        return ()
    times = [(attempt.began, attempt.ended) for attempt in failed]
    for attempt in _job_queries.throttled_attempts(job):
        if attempt.began > failed[0].began:
            times.append((attempt.began, attempt.ended))
    times.sort()
    last_start = job._started_at
    if last_start is None:
        last_start = math.inf if job._finished_at is None else job._finished_at
    starts = [*(began for began, _ in times[1:]), last_start]
    return tuple(
        [
            (ended, start)
            for (_, ended), start in zip(times, starts, strict=True)
            if start > ended
        ]
    )
