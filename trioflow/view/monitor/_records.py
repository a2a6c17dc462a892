"""The records of jobs and schedulers that a monitor shows, and `LiveSource`, which creates and updates them.

A record keeps what a monitor counts or measures at an event. All else it reads from its job, while it draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

from ..._core.api import views
from ..._core.api.views import (
    RAN_TO_END,
    AnyJob,
    BaseScheduler,
    JobState,
    Outcome,
    ReportedState,
    ResourceView,
    RunPhase,
    StopReason,
)
from .._state_styles import STATE_STYLES
from ..text._failure_text import kind_text
from ..text._verdict import RestoredJobs


class RunFields:
    """The fields of a record that describe the current run, with their values before a run."""

    state = JobState.IDLE
    started_at: float | None = None
    finished_at: float | None = None
    outcome: Outcome | None = None
    """The outcome of the job, once it has settled; None also if it is a plain success."""
    failure_kind = ""
    """For a failed job, a text that is equal for failures of one kind."""
    ready_group: dict[JobRecord, None] | None = None
    """The group of `SchedulerRecord.ready_jobs_by_needs` that the job is in; None if it is in none."""
    # The fields below are those of schedulers.
    stop_reason: StopReason | None = None
    culprit: str | None = None
    """The failure that stopped the run, in the words of the verdict."""


class JobCounts:
    """The number of a scheduler's jobs in each state, including the jobs of nested schedulers.

    As in a `Tally`, nested schedulers and forever jobs are counted only if they were blocked, or failed for a reason
    other than a failed job, as one more job. Nested schedulers are also counted in `row_count`.

    A `First` is counted as one job. It is RUNNING while a job in it is, because otherwise it only waits.

    Args:
        enclosing: the counts of the enclosing scheduler; None for the outermost scheduler, for forever jobs, and for a
            `First`.
        of_first: for a `First`, the counts of the enclosing scheduler.

    """

    def __init__(self, enclosing: JobCounts | None = None, of_first: JobCounts | None = None) -> None:
        self.enclosing: Final = enclosing
        self.of_first: JobCounts | None = of_first  # None also when the `First` has settled
        self.is_running = False
        self.row_count = 0  # the number of direct members, including schedulers, that are not forever jobs
        # The number of jobs in each state. Those that may still start are counted as IDLE, even if they are SCHEDULED.
        self.by_state: Final = dict.fromkeys(STATE_STYLES, 0)  # no key is added or removed, so any thread may iterate
        self.tolerated_count = 0  # the number of jobs that are counted as FAILED, but are tolerated
        self.unreached_count = 0  # the number of jobs that never started because their scheduler ended
        self.restored: Final = RestoredJobs()  # these are also counted in `by_state`

    @property
    def job_count(self) -> int:
        return sum(self.by_state.values()) + self.unreached_count

    @property
    def settled_count(self) -> int:
        return sum(number for state, number in self.by_state.items() if state.is_settled)

    @property
    def are_all_jobs_waiting(self) -> bool:
        return self.by_state[JobState.IDLE] == self.job_count

    def iterate_outwards(self) -> Iterator[JobCounts]:
        """Yield these counts, then the counts of each enclosing scheduler that include them, innermost first."""
        counts: JobCounts | None = self
        while counts is not None:
            yield counts
            counts = counts.enclosing

    def move(self, old: JobState | None, new: ReportedState | None) -> None:
        """Count a job in the state `new` instead of `old`. None stands for a job that is not counted."""
        counts = self
        for counts in self.iterate_outwards():
            if old is not None:
                counts.by_state[old] -= 1
            if new is not None:
                counts.by_state[new] += 1
        if counts.of_first is not None and counts.is_running != bool(counts.by_state[JobState.RUNNING]):
            previous = counts.state_of_first
            counts.is_running = not counts.is_running
            counts.of_first.move(previous, counts.state_of_first)

    @property
    def state_of_first(self) -> JobState:
        """The state in which a `First` is counted until it settles."""
        return JobState.RUNNING if self.is_running else JobState.IDLE

    def count_waiting_as_unreached(self) -> None:
        waiting = self.by_state[JobState.IDLE]
        for counts in self.iterate_outwards():
            counts.by_state[JobState.IDLE] -= waiting
            counts.unreached_count += waiting

    def subtract_from_enclosing(self) -> None:
        for counts in () if self.enclosing is None else self.enclosing.iterate_outwards():
            counts.unreached_count -= self.unreached_count
            counts.restored.number -= self.restored.number
            counts.tolerated_count -= self.tolerated_count
            for state, number in self.by_state.items():
                counts.by_state[state] -= number


class JobRecord(RunFields):
    """A record of one job: the job itself, and its state in the current run.

    Args:
        job: the job itself.
        enclosing: the enclosing scheduler; None for the outermost scheduler.
        forever: whether the job is a forever job.

    """

    is_scheduler = is_first = False
    takes_slot = True

    def __init__(self, job: AnyJob, enclosing: SchedulerRecord | None, forever: bool = False) -> None:
        self.job: Final = job
        self.enclosing = enclosing
        self.forever = forever

    @property
    def label(self) -> str:
        return self.job.label

    @property
    def error(self) -> BaseException | None:
        """The exception of a job that has failed or was blocked."""
        return None if self.outcome is None or self.outcome.failure is None else self.outcome.failure.exception

    @property
    def moved_on(self) -> bool:
        return self.outcome is not None and self.outcome.moved_on

    @property
    def restored(self) -> bool:
        return self.outcome is not None and self.outcome.restoration is not None

    def reset_run_fields(self) -> None:
        """Reset the fields that describe the current run to their values before a run."""
        for name in vars(RunFields).keys() & vars(self).keys():
            delattr(self, name)

    @property
    def is_one_job(self) -> bool:
        """Whether the job counts as one: no scheduler does, but a `First`."""
        return self.is_first or not self.is_scheduler

    @property
    def first(self) -> SchedulerRecord | None:
        """The outermost `First` that contains the job, and counts in its place; None if there is none."""
        return next((outer for outer in [*self.enclosing_schedulers()][::-1] if outer.is_first), None)

    @property
    def failed_by_itself(self) -> bool:
        """Whether the job failed, and neither only because of a member, nor as one of the jobs of a `First`."""
        if self.state is not JobState.FAILED or self.first is not None:
            return False
        return self.outcome is None or not self.outcome.failed_through_member

    @property
    def is_tolerated(self) -> bool:
        """Whether the job failed, and its failure fails nothing."""
        return self.state is JobState.FAILED and views.criticality(self.job) is False

    def leave_ready_group(self) -> None:
        if self.ready_group is not None:
            self.ready_group.pop(self, None)
            self.ready_group = None

    def enclosing_schedulers(self) -> Iterator[SchedulerRecord]:
        """Yield the enclosing schedulers, the innermost first."""
        enclosing = self.enclosing
        while enclosing is not None:
            yield enclosing
            enclosing = enclosing.enclosing

    def is_inside(self, scheduler: SchedulerRecord) -> bool:
        return any(enclosing is scheduler for enclosing in self.enclosing_schedulers())


class SchedulerRecord(JobRecord):
    """A record of one scheduler, with the records of its members."""

    is_scheduler = True
    keeps_jobs = True

    def __init__(self, job: AnyJob, enclosing: SchedulerRecord | None, forever: bool = False) -> None:
        super().__init__(job, enclosing, forever)
        self.belongs_to_forever_job: Final[bool] = forever or (
            enclosing is not None and enclosing.belongs_to_forever_job
        )
        # These dicts are ordered sets: their keys are records.
        self.members: dict[JobRecord, None] = {}
        self.nested_schedulers: dict[SchedulerRecord, None] = {}  # the members that are schedulers
        # The ready jobs, without forever jobs and schedulers, by the text of their needs.
        self.ready_jobs_by_needs: dict[str, dict[JobRecord, None]] = {}
        self.counts = JobCounts()

    def reset_counts(self) -> None:
        """Count no jobs, and take none as ready. The enclosing scheduler must have been reset before."""
        outer = self.enclosing
        is_separate = outer is None or (self.forever and not outer.belongs_to_forever_job)
        if outer is not None and self.is_first:
            self.counts = JobCounts(of_first=None if self.forever else outer.counts)
        else:
            self.counts = JobCounts(None if outer is None or is_separate else outer.counts)
        self.ready_jobs_by_needs = {}

    def add_member(self, job: JobRecord) -> None:
        self.members[job] = None
        if isinstance(job, SchedulerRecord):
            self.nested_schedulers[job] = None

    def remove_member(self, job: JobRecord) -> None:
        del self.members[job]
        if isinstance(job, SchedulerRecord):
            del self.nested_schedulers[job]

    def iterate_schedulers(self) -> Iterator[SchedulerRecord]:
        """Yield this record and the records of all nested schedulers, each after that of its enclosing scheduler."""
        todo: list[SchedulerRecord] = [self]
        while todo:
            scheduler = todo.pop()
            yield scheduler
            todo += scheduler.nested_schedulers

    def iterate_jobs(self) -> Iterator[JobRecord]:
        """Yield the records of all jobs, including nested schedulers and their jobs."""
        return (job for scheduler in self.iterate_schedulers() for job in list(scheduler.members))


class LiveSource:
    """A source that creates records for the jobs of a run in this process, and updates them between events.

    Args:
        root: the outermost scheduler of the run.

    """

    def __init__(self, root: BaseScheduler) -> None:
        run = views.current_run(root)
        assert run is not None
        self.clock = run.clock
        self._root_scheduler: Final = root
        self.records: Final[dict[AnyJob, JobRecord]] = {}
        self.root: Final = SchedulerRecord(root, None)
        self.records[root] = self.root
        self.create_records(self.root)

    # ---- records

    def scheduler_record(self, scheduler: BaseScheduler) -> SchedulerRecord:
        return cast(SchedulerRecord, self.records[scheduler])

    def has_current_members(self, record: SchedulerRecord) -> bool:
        """Return whether the members in a record are the current members of the scheduler, in the same order."""
        return [*_live_scheduler(record)] == [job.job for job in record.members]

    def create_records(self, top_record: SchedulerRecord) -> None:
        """Create or reset the records of all jobs in a scheduler, at any depth. Call this when its run begins."""
        todo = [top_record]
        while todo:
            record = todo.pop()
            scheduler, old_members = _live_scheduler(record), record.members
            record.keeps_jobs = scheduler.keep_jobs
            record.members, record.nested_schedulers = {}, {}
            for job in scheduler:
                self._add_record(record, job)
            for removed in old_members.keys() - record.members.keys():
                self._drop_records(removed)
            todo += record.nested_schedulers

    def add_job(self, scheduler: BaseScheduler, job: AnyJob) -> JobRecord:
        """Create and return the record of a job that was added during the run."""
        record = self._add_record(self.scheduler_record(scheduler), job)
        if isinstance(record, SchedulerRecord):
            self.create_records(record)
        return record

    def record_outcome(self, scheduler: BaseScheduler, job: AnyJob) -> tuple[JobRecord, JobState, float | None]:
        """Update the record of a settled job, and drop the record if the scheduler drops the job.

        Return the record, the final state, and the time when the job settled.
        """
        record = self.records[job]
        state, record.started_at, finished_at, has_no_further_facts = views.end_facts(job)
        if not has_no_further_facts:
            record.outcome = views.outcome(job)
            failure = record.outcome.failure
            record.failure_kind = "" if failure is None else kind_text(job, failure)
        enclosing = record.enclosing
        if enclosing is not None and not enclosing.keeps_jobs and views.is_droppable(scheduler, job):
            enclosing.remove_member(record)
            self._drop_records(record)
        return record, state, finished_at

    def record_run_end(self, scheduler: BaseScheduler) -> SchedulerRecord:
        """Set the stop reason and the culprit of a scheduler whose run has ended, and return its record."""
        record = self.scheduler_record(scheduler)
        record.stop_reason = scheduler.stop_reason
        record.culprit = views.culprit_text(scheduler)
        return record

    def _add_record(self, record: SchedulerRecord, job: AnyJob) -> JobRecord:
        """Create or reset the record of a job, add it to the record of its scheduler, and return it."""
        member = self.records.get(job)
        if member is None:
            record_class = SchedulerRecord if views.is_scheduler(job) else JobRecord
            member = self.records[job] = record_class(job, record, job.forever)
            member.takes_slot = views.takes_slot(job)
            member.is_first = views.is_scheduler(job) and views.is_one_job(job)
        else:
            member.reset_run_fields()
        record.add_member(member)
        return member

    def _drop_records(self, record: JobRecord) -> None:
        for job in [record, *(record.iterate_jobs() if isinstance(record, SchedulerRecord) else ())]:
            self.records.pop(job.job, None)

    # ---- queries between two events

    @property
    def began_at(self) -> float:
        return (views.run_times(self._root_scheduler) or (0.0, None))[0]

    @property
    def root_slot_count(self) -> int | None:
        """The current number of slots of the outermost scheduler; None if there is no limit."""
        return self._root_scheduler.window_size

    @property
    def used_token_count(self) -> int | None:
        """The number of tokens in use of the run's limiter; None if the window is not a limiter."""
        run = views.current_run(self._root_scheduler)
        return None if run is None else run.tokens_taken

    @property
    def ending_word(self) -> str:
        """The word "ending" or "draining" if the run is about to end; otherwise an empty string."""
        run = views.current_run(self._root_scheduler)
        if run is not None and run.phase is RunPhase.STOPPING and run.reason not in RAN_TO_END:
            return "ending"
        return "draining" if run is not None and run.phase is RunPhase.DRAINING else ""

    def topological_order(self, scheduler: SchedulerRecord) -> list[JobRecord]:
        """Return the members of a scheduler in topological order, omitting members in cycles. Takes O(V + E) time."""
        return views.topological_order(list(scheduler.members), self.required_members)

    def required_members(self, job: JobRecord) -> list[JobRecord]:
        assert job.enclosing is not None
        required_jobs = views.all_requirements(_live_scheduler(job.enclosing), job.job)
        return [record for job in required_jobs if (record := self.records.get(job)) is not None]

    def expected_durations(self, scheduler: SchedulerRecord) -> dict[JobRecord, float]:
        durations = views.expected_durations(_live_scheduler(scheduler))
        return {record: durations[job] for job in durations if (record := self.records.get(job)) is not None}

    def expected_duration(self, job: JobRecord) -> float | None:
        assert job.enclosing is not None
        return views.expected_durations(_live_scheduler(job.enclosing), [job.job]).get(job.job)

    def job_needs(self, job: JobRecord) -> Mapping[str, Any]:
        return job.job.needs or {}

    def pool_resources(self, scheduler: SchedulerRecord) -> list[ResourceView]:
        pool = _live_scheduler(scheduler).pool
        return [] if pool is None else views.resource_views(pool)

    def start_delay(self, resource: ResourceView, jobs: list[JobRecord]) -> float:
        return resource.start_delay(job.job for job in jobs)

    def slot_count(self, scheduler: SchedulerRecord) -> int | None:
        """Return the number of slots of a scheduler, or the maximum of an adaptive window; None means no limit."""
        return views.max_slots(_live_scheduler(scheduler).jobs_window)


def _live_scheduler(record: SchedulerRecord) -> BaseScheduler:
    return cast(BaseScheduler, record.job)
