"""The records in a trace: a `Span` with its `Wait`s for each run of a job, a `RunSpan` for each run of a scheduler."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from ..._core.api.views import AnyJob, BaseScheduler, JobState, StopReason, WaitCause
from .._state_styles import CAUSES
from ..text import _exception_text


@final
@dataclass(frozen=True, slots=True)
class Wait:
    """An interval in which a job waited, and its cause."""

    cause: WaitCause
    """The reason for the wait."""
    name: str
    """The name of the resource that the job waited for, or an empty string."""
    since: float
    """The time when the wait began, on the clock of `span.started_at`."""
    until: float
    """The time when it ended: at the next wait, at the job's start, or, if it never started, when it settled."""
    released_by: int | None = None
    """The number of the span that ended the wait; None if there is none, or it is unknown.

    It is the requirement that settled last, the job that released the slot or the resource, the last job that took
    from the rate, or the job that raised `Throttled`.
    """

    @property
    def seconds(self) -> float:
        """The duration of the wait in seconds."""
        return self.until - self.since

    @property
    def words(self) -> str:
        """The cause in words, such as "jobs", "a slot", "gpu", "rate of api" or "throttled by api"."""
        return CAUSES[self.cause].awaited.format(self.name)


@final
@dataclass(frozen=True, slots=True)
class Span:
    """The record of one job in one run of its scheduler.

    All times are seconds on the backend's clock, and None for an event that has not happened.
    """

    number: int
    """The index of the span in the trace, from 0."""
    parent: int | None
    """The number of the nested scheduler that contains the job; None in the outermost scheduler."""
    run: int
    """The number of that scheduler's run, from 1; more than 1 after a retry, 0 if the scheduler never ran."""
    path: str
    """The job's `path`; if the trace shows several outermost schedulers, it begins with the label of its own."""
    label: str
    """The job's label."""
    kind: str
    """The name of the job's class."""
    state: JobState
    """The job's last state."""
    critical: bool
    """Whether a failure of the job ends the run."""
    forever: bool
    """Whether the job is a forever job, which takes no slot."""
    scheduled_at: float | None
    """The time when the job became ready: when the last of its requirements had settled."""
    started_at: float | None
    """The time when the job started."""
    ready_at: float | None
    """The time when the job became ready, if it is a service."""
    finished_at: float | None
    """The time when the job settled, whether it had started or not."""
    attempts: tuple[float, ...]
    """The start of each attempt, the first included."""
    lane: int | None
    """The row of the job in its scheduler, from 1: that of the slot it had. Forever jobs are in rows of their own."""
    timed_out: bool
    """Whether the job's timeout has expired at least once."""
    required: tuple[int, ...]
    """The numbers of the spans that the job had to wait for."""
    exception: BaseException | None
    """The exception that the job raised, or the reason why it was blocked."""
    returncode: int | None = None
    """For a command, the exit code, or the negative number of the signal that ended it."""
    user_time: float | None = None
    """For a command, the seconds of CPU time in user mode."""
    system_time: float | None = None
    """For a command, the seconds of CPU time in the kernel."""
    max_rss: int | None = None
    """For a command, the peak resident memory in bytes, if known."""
    throttled: tuple[tuple[float, float], ...] = ()
    """The start and end of each attempt that raised `Throttled`; `started_at` and `attempts` do not include these."""
    restored: bool = False
    """Whether the result was restored from a journal; such a span has no start."""
    waits: tuple[Wait, ...] = ()
    """The job's waits in chronological order."""

    @property
    def elapsed(self) -> float | None:
        """The seconds from the job's start to its end; None unless it has both."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at

    @property
    def waited(self) -> float | None:
        """The seconds from `scheduled_at` to the job's start; None if it never started."""
        if self.started_at is None or self.scheduled_at is None:
            return None
        return self.started_at - self.scheduled_at

    @property
    def worked(self) -> float:
        """The seconds in which the job ran: throttled attempts included, waits for room on the machine left out."""
        throttled = sum(ended - began for began, ended in self.throttled)
        machine = sum(wait.seconds for wait in self.waits if wait.cause is WaitCause.MACHINE)
        return throttled + (self.elapsed or 0.0) - machine

    @property
    def exception_text(self) -> str:
        """The type and the message of the exception, in at most 100 characters; empty if there is none."""
        return "" if self.exception is None else _exception_text.one_line(self.exception)


def or_infinity(time: float | None) -> float:
    """Return `time`, or infinity for an event that has not happened."""
    return math.inf if time is None else time


@dataclass(frozen=True, slots=True)
class RunSpan:
    """The record of one run of one scheduler, within one run of its enclosing scheduler."""

    scheduler: BaseScheduler
    parent: int | None  # the number of the scheduler's span; None for an outermost scheduler
    number: int  # the number of this run among those with the same parent, from 1; 0 if it never began
    label: str
    started_at: float | None
    finished_at: float | None
    window: int | None  # the number of slots; for an `Adaptive` window, the largest number
    reason: StopReason | None
    culprit: int | None  # the number of its span
    members: tuple[int, ...]  # the numbers of their spans
    has_limiter: bool = False  # whether the window is a limiter
    backend: str = ""
    window_sizes: tuple[tuple[float, int], ...] = ()  # for an `Adaptive` window, the time and value of each change
    learned: Mapping[AnyJob, float] | None = None  # durations that policies know besides `expected_duration`


@dataclass(frozen=True, slots=True)
class IncidentMark:
    """An incident during a run, such as a `co_shutdown` that raised."""

    at: float
    run: int  # the index of the run in `TraceRecord.runs`
    job: AnyJob | None
    message: str
