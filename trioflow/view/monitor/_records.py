"""The records of jobs and schedulers that a monitor shows, and `Source`, which answers queries about the run.

They are the same for a run in this process and for a run that is read from a file of events. In the first case, the
hooks of `Monitor` create the records and pass events to the `Model`; in the second case, `events/_follow` does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

from ..._core.api.views import AnyJob, JobState, ResourceView, StopReason, Waiting, topological_order


class Identity(Protocol):
    """The label and the path of a job; jobs themselves satisfy this protocol."""

    @property
    def label(self) -> str: ...
    @property
    def path(self) -> str: ...


class JobRecord:
    """One job: its identity, and its state in the current run.

    Args:
        named: the job itself, or its label and path if it runs in another process.
        outer: the enclosing scheduler; None for the outermost scheduler.
        forever: whether it is a forever job.

    """

    is_scheduler = False
    # ---- identity
    critical = is_service = False
    expected_duration: float | None = None
    retry = 0
    # ---- the current run
    state = JobState.IDLE
    started_at: float | None = None
    finished_at: float | None = None
    attempts = 0
    timed_out = restored = False
    through_member = False
    """Whether the record is of a scheduler that failed because one of its jobs failed."""
    error: BaseException | None = None
    held: tuple[tuple[float, float], ...] = ()
    """Intervals during the run of the job in which it only waited for resources of the machine."""
    # ---- the current run, updated by `Source.update`
    is_ready = False
    fraction_done: float | None = None
    status = ""
    waiting: Waiting | None = None

    def __init__(self, named: Identity | AnyJob, outer: SchedulerRecord | None, forever: bool = False) -> None:
        self.named: Any = named
        self.outer = outer
        self.forever = forever

    @property
    def label(self) -> str:
        """The label of the job."""
        return cast(str, self.named.label)

    def forget_run(self) -> None:
        """Reset the record to the state before a run."""
        for name in RUN_FIELDS & vars(self).keys():
            delattr(self, name)

    def enclosing_schedulers(self) -> Iterator[SchedulerRecord]:
        """Yield the enclosing schedulers, the innermost first."""
        outer = self.outer
        while outer is not None:
            yield outer
            outer = outer.outer

    def is_inside(self, scheduler: SchedulerRecord) -> bool:
        """Return whether a scheduler encloses the job, at any depth."""
        return any(outer is scheduler for outer in self.enclosing_schedulers())


RUN_FIELDS = frozenset((
    "state", "started_at", "finished_at", "attempts", "timed_out", "restored", "through_member", "error", "held",
    "is_ready", "fraction_done", "status", "waiting",
))  # fmt: skip


class SchedulerRecord(JobRecord):
    """One scheduler, with its jobs."""

    is_scheduler = True
    keeps_jobs = True
    """Whether the scheduler keeps jobs that have settled."""
    window: int | None = None
    """The number of slots; None for no limit, or if unknown."""
    stop_reason: StopReason | None = None
    culprit: JobRecord | None = None

    def __init__(self, named: Identity | AnyJob, outer: SchedulerRecord | None, forever: bool = False) -> None:
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
        """Yield all jobs, including jobs of nested schedulers."""
        todo: list[SchedulerRecord] = [self]
        while todo:
            scheduler = todo.pop()
            yield from list(scheduler.members)
            todo += scheduler.nested


class Source:
    """Base class of sources, which answer a monitor's queries about a run; it knows only the events of the run."""

    window: int | None = None
    """The number of slots; None for no limit."""
    tokens_taken: int | None = None
    """The number of tokens in use of the run's limiter; None if its window is not a limiter, or if unknown."""
    ending = ""
    """A word for a run that is about to end; otherwise ""."""

    def clock(self) -> float:
        """Return the current time on the clock of the run."""
        raise NotImplementedError

    def time_of_day(self) -> float:
        """Return the time of day in seconds since 1970 that corresponds to `clock`."""
        return time.time()

    def update(self, job: JobRecord) -> None:
        """Update the fields of a job's record that change without an event."""

    def update_progress(self, job: JobRecord) -> None:
        """Update the progress in the record of a running job."""

    def waiting(self, job: JobRecord) -> Waiting | None:
        """Return what a job waits for; None if it does not wait."""
        return job.waiting

    def waits_for(self, job: JobRecord) -> list[JobRecord]:
        """Return the jobs of the same scheduler that must settle before a job may start."""
        raise NotImplementedError

    def expected_durations(self, scheduler: SchedulerRecord) -> dict[JobRecord, float]:
        """Return the expected durations in seconds of those jobs of a scheduler that have one."""
        return {job: job.expected_duration for job in list(scheduler.members) if job.expected_duration is not None}

    def needs_of(self, job: JobRecord) -> Mapping[str, Any]:
        """Return the needs of a job by resource: an amount, or for a rate possibly a dict of amounts by key."""
        return {}

    def resources_in(self, scheduler: SchedulerRecord) -> list[ResourceView]:
        """Return the resources of a scheduler's own pool."""
        return []

    def opens_in(self, resource: ResourceView, jobs: list[JobRecord]) -> float:
        """Return the seconds until a rate or a cooldown of a resource lets these jobs start."""
        return 0.0

    def slots_in(self, scheduler: SchedulerRecord) -> int | None:
        """Return the number of slots of a scheduler; None for no limit."""
        return scheduler.window

    def is_longest_first(self, scheduler: SchedulerRecord) -> bool:
        """Return whether the jobs of a scheduler start in the order of their longest paths to an exit."""
        return False

    def in_order(self, scheduler: SchedulerRecord) -> list[JobRecord]:
        """Return the jobs of a scheduler in topological order, without jobs in cycles. O(V + E)."""
        return topological_order(list(scheduler.members), self.waits_for)
