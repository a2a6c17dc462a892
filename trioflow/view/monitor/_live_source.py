"""`LiveSource`: creates the records of a monitor, and answers its queries about the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from ..._core.api import views
from ..._core.api.views import RAN_TO_END, AnyJob, BaseScheduler, JobState, ResourceView, RunPhase
from ..text._failure_text import kind_text
from ._records import JobRecord, SchedulerRecord


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
