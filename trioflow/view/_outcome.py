"""`Outcome`: the facts about the end of a job that all views show."""

from __future__ import annotations

from typing import NamedTuple

from .._core.api import views


class Outcome(NamedTuple):
    """The facts about the end of a job, besides its state and its times. The defaults are those of a plain success."""

    attempts: int = 1
    failure: views.Failure | None = None  # also that of a BLOCKED job
    failed_through_member: bool = False  # whether it is a scheduler that failed because one of its jobs failed
    timed_out: bool = False
    moved_on: bool = False  # whether it SUCCEEDED only because its timeout ended it
    restoration: views.Restoration | None = None  # if the result was restored from a journal, the facts that it has
    rerun_cause: str | None = None  # if the job ran again though the journal has it, the first change that is the cause
    ready_at: float | None = None  # for a service, the time when it became ready
    throttled_attempts: tuple[views.Throttling, ...] = ()
    machine_waits: tuple[tuple[float, float], ...] = ()  # the start and end of each wait for capacity of the machine
    retry_waits: tuple[tuple[float, float], ...] = ()  # the start and end of each wait between two attempts
    failed_attempts: tuple[views.FailedAttempt, ...] = ()

    @property
    def restored_at(self) -> float | None:
        """The time when the job settled in the run from which it was restored, in seconds since 1970."""
        return None if self.restoration is None else self.restoration.settled_at


def outcome(job: views.AnyJob) -> Outcome:
    """Return the facts about the end of a settled job, which all views show. If `end_facts` has none, omit the call."""
    failure = views.failure_of(job)
    return Outcome(
        job.attempts,
        failure,
        failure is not None and views.failed_through_member(job),
        job.timed_out,
        views.has_moved_on(job),
        views.restoration_of(job),
        views.rerun_cause(job),
        views.ready_at(job),
        views.throttled_attempts(job),
        views.machine_waits(job),
        tuple(views.retry_waits(job)),
        views.failed_attempts(job),
    )
