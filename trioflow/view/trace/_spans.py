"""The parts of a trace: a `Span` for each job, with its `Wait`s, and a `RunSpan` for each run of a scheduler."""

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
    """The cause."""
    name: str
    """The name of the resource, or empty."""
    since: float
    """When it began, on the clock of `span.started_at`."""
    until: float
    """When it ended: with another wait, or with the job's start, or with its outcome if it never started."""
    released_by: int | None = None
    """The number of the span that ended it; None if there is none, or it is unknown.

    That is the requirement that settled last, the job that released the slot or the resource, the last one that took
    from the rate, or the one that raised `Throttled`.
    """

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return self.until - self.since

    @property
    def words(self) -> str:
        """The cause in words: "jobs", "a slot", "gpu", "rate of api", "throttled by api", ..."""
        return CAUSES[self.cause].awaited.format(self.name)


@final
@dataclass(frozen=True, slots=True)
class Span:
    """The record of one job in one run of its scheduler.

    Times are seconds on the backend's clock, None for an event that has not happened.
    """

    number: int
    """Its index among the spans of the trace, from 0."""
    parent: int | None
    """The number of its nested scheduler; None in the outermost one."""
    run: int
    """The number of that scheduler's run: more than 1 after a retry, 0 if it never ran."""
    path: str
    """The job's `path`; it begins with the label of the outermost scheduler if the trace shows several."""
    label: str
    """The job's label."""
    kind: str
    """The class of the job."""
    state: JobState
    """Its last state."""
    critical: bool
    """Whether its failure ends the run."""
    forever: bool
    """Whether it is a forever job, which takes no slot."""
    scheduled_at: float | None
    """When its last requirement settled."""
    started_at: float | None
    """When it began."""
    ready_at: float | None
    """When it became ready, if it is a service."""
    finished_at: float | None
    """When it settled, whether it had started or not."""
    attempts: tuple[float, ...]
    """When each attempt began, the first included."""
    lane: int | None
    """The first row, from 1, in which no other job of its scheduler ran; forever jobs come after all others."""
    timed_out: bool
    """Whether its timeout has passed at least once."""
    required: tuple[int, ...]
    """The numbers of the spans that it had to wait for."""
    exception: BaseException | None
    """The exception that it raised, or the reason why it was blocked."""
    returncode: int | None = None
    """For a command, its exit code, or the negative number of the signal that ended it."""
    user_time: float | None = None
    """For a command, the seconds of CPU time in user mode."""
    system_time: float | None = None
    """For a command, the seconds of CPU time in the kernel."""
    max_rss: int | None = None
    """For a command, the largest resident memory in bytes, if known."""

    throttled: tuple[tuple[float, float], ...] = ()
    """The start and end of attempts before its start that do not count, because they raised `Throttled`."""
    restored: bool = False
    """Whether its result comes from the journal of an earlier run; then it has no start."""
    waits: tuple[Wait, ...] = ()
    """Its waits in chronological order, each with the span that ended it."""

    @property
    def elapsed(self) -> float | None:
        """Seconds from its start to its end; None unless it has both."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at

    @property
    def waited(self) -> float | None:
        """Seconds from when it was ready to its start; None if it never started."""
        if self.started_at is None or self.scheduled_at is None:
            return None
        return self.started_at - self.scheduled_at

    @property
    def worked(self) -> float:
        """Seconds in which it ran, attempts that do not count included, without waits for the machine. 0 if never."""
        attempts = sum(ended - began for began, ended in self.throttled)
        held = sum(wait.seconds for wait in self.waits if wait.cause is WaitCause.MACHINE)
        return attempts + (self.elapsed or 0.0) - held

    @property
    def exception_text(self) -> str:
        """The type and the message of its exception, in at most 100 characters; empty if it has none."""
        return "" if self.exception is None else _exception_text.one_line(self.exception)


def or_infinity(time: float | None) -> float:
    """Return a time, infinity for an event that has not happened."""
    return math.inf if time is None else time


@dataclass(frozen=True, slots=True)
class RunSpan:
    """The record of one run of one scheduler, within one run of its enclosing scheduler."""

    scheduler: BaseScheduler
    parent: int | None  # the number of the span of the scheduler, None for an outermost one
    number: int  # the number of this run among runs with the same parent, from 1; 0 if it never ran
    label: str
    started_at: float | None
    finished_at: float | None
    window: int | None  # the largest size that it may have
    reason: StopReason | None
    culprit: int | None
    members: tuple[int, ...]
    has_limiter: bool = False  # whether the window is a limiter
    backend: str = ""
    window_sizes: tuple[tuple[float, int], ...] = ()  # sizes of an `Adaptive` window: since when, and how many slots
    learned: Mapping[AnyJob, float] | None = None  # durations known to policies, besides the jobs' own


@dataclass(frozen=True, slots=True)
class IncidentMark:
    """An incident of a run that belongs to no job's outcome."""

    at: float
    run: int  # the place of the run among the runs
    job: AnyJob | None
    message: str
