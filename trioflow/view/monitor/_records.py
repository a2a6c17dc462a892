"""The records of jobs in a monitor, and its `Source`: the same for a live run and for a file of its events.

The feeder of a monitor makes the records and passes events to the `Model`: the hooks of `Monitor` for a live run,
`events/_follow` for a file. Between two events, only the `Source` of a live run has news.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

from ..._core.api.views import AnyJob, JobState, ResourceView, StopReason, Waiting, topological_order


class Named(Protocol):
    """The name of a job; a live job is its own."""

    @property
    def label(self) -> str: ...
    @property
    def path(self) -> str: ...


class JobRecord:
    """One job: its identity, and its state in this run so far.

    Args:
        named: its name.
        outer: its enclosing scheduler; None for the outermost scheduler.
        forever: whether it is a forever job.

    """

    is_scheduler = False
    # ---- its identity
    critical = is_service = False
    expected_duration: float | None = None
    retry = 0
    # ---- its run
    state = JobState.IDLE
    started_at: float | None = None
    finished_at: float | None = None
    attempts = 0
    timed_out = restored = False
    through_member = False
    """Whether it is a scheduler that failed because of one of its own jobs."""
    error: BaseException | None = None
    held: tuple[tuple[float, float], ...] = ()
    """Intervals in which it ran, but waited for room on the machine."""
    # ---- updated by the source
    is_ready = False
    fraction_done: float | None = None
    status = ""
    waiting: Waiting | None = None

    def __init__(self, named: Named | AnyJob, outer: SchedulerRecord | None, forever: bool = False) -> None:
        self.named: Any = named
        self.outer = outer
        self.forever = forever

    @property
    def label(self) -> str:
        """Its label."""
        return cast(str, self.named.label)

    def forget_run(self) -> None:
        """Reset to the state before a run."""
        for name in RUN_FIELDS & vars(self).keys():
            delattr(self, name)

    def outwards(self) -> Iterator[SchedulerRecord]:
        """Yield the enclosing schedulers, the innermost first."""
        outer = self.outer
        while outer is not None:
            yield outer
            outer = outer.outer

    def is_inside(self, scheduler: SchedulerRecord) -> bool:
        """Return whether a scheduler encloses it, at any depth."""
        return any(outer is scheduler for outer in self.outwards())


RUN_FIELDS = frozenset((
    "state", "started_at", "finished_at", "attempts", "timed_out", "restored", "through_member", "error", "held",
    "is_ready", "fraction_done", "status", "waiting",
))  # fmt: skip


class SchedulerRecord(JobRecord):
    """One scheduler, with its jobs."""

    is_scheduler = True
    keeps_jobs = True
    """Whether it keeps jobs that have settled."""
    window: int | None = None
    """The number of slots, if its run has reported it."""
    stop_reason: StopReason | None = None
    culprit: JobRecord | None = None

    def __init__(self, named: Named | AnyJob, outer: SchedulerRecord | None, forever: bool = False) -> None:
        super().__init__(named, outer, forever)
        self.members: dict[JobRecord, None] = {}  # an ordered set
        self.nested: dict[SchedulerRecord, None] = {}

    def add(self, job: JobRecord) -> None:
        """Add a member."""
        self.members[job] = None
        if isinstance(job, SchedulerRecord):
            self.nested[job] = None

    def drop(self, job: JobRecord) -> None:
        """Remove a member."""
        del self.members[job]
        if isinstance(job, SchedulerRecord):
            del self.nested[job]

    def iterate_jobs(self) -> Iterator[JobRecord]:
        """Yield the jobs, including jobs of nested schedulers."""
        todo: list[SchedulerRecord] = [self]
        while todo:
            scheduler = todo.pop()
            yield from list(scheduler.members)
            todo += scheduler.nested


class Source:
    """Queries of a run between its events. This base class knows only the events."""

    window: int | None = None
    """The number of slots."""
    tokens_taken: int | None = None
    """The number of taken tokens of its limiter; None if its window is no limiter, or this is unknown."""
    ending = ""
    """A word for a run that is about to end, or ""."""

    def clock(self) -> float:
        """Return the time, on the clock of the run."""
        raise NotImplementedError

    def time_of_day(self) -> float:
        """Return the time of day of the shown events."""
        return time.time()

    def look(self, job: JobRecord) -> None:
        """Update the record of a job about to be shown; here, its events have said all."""

    def look_at_progress(self, job: JobRecord) -> None:
        """Update the progress of a running job."""

    def waiting(self, job: JobRecord) -> Waiting | None:
        """Return what a job waits for."""
        return job.waiting

    def waits_for(self, job: JobRecord) -> list[JobRecord]:
        """Return the members of its scheduler that must settle before a job may start."""
        raise NotImplementedError

    def expected_durations(self, scheduler: SchedulerRecord) -> dict[JobRecord, float]:
        """Return the known expected durations of the members, in seconds."""
        return {job: job.expected_duration for job in list(scheduler.members) if job.expected_duration is not None}

    def needs_of(self, job: JobRecord) -> Mapping[str, Any]:
        """Return the needs of a job by resource: a number, or for a rate perhaps a dict by key."""
        return {}

    def resources_in(self, scheduler: SchedulerRecord) -> list[ResourceView]:
        """Return the resources of the scheduler's own pool."""
        return []

    def opens_in(self, resource: ResourceView, jobs: list[JobRecord]) -> float:
        """Return the seconds until a resource has as much as these jobs need."""
        return 0.0

    def slots_in(self, scheduler: SchedulerRecord) -> int | None:
        """Return the number of slots for members of a scheduler; None for no limit."""
        return scheduler.window

    def is_longest_first(self, scheduler: SchedulerRecord) -> bool:
        """Return whether the members start in the order of their longest chains."""
        return False

    def in_order(self, scheduler: SchedulerRecord) -> list[JobRecord]:
        """Return the members, each after those that it waits for; jobs in cycles are left out. O(V + E)."""
        return topological_order(list(scheduler.members), self.waits_for)
