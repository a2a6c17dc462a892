"""A live run as the source of a monitor: it makes the records of jobs, and is polled between events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from ..._core.api import views
from ..._core.api.views import AnyJob, BaseScheduler, JobState, ResourceView, RunPhase, StopReason
from ._records import JobRecord, SchedulerRecord, Source


class LiveSource(Source):
    """A run under way in this process.

    Args:
        root: its scheduler.

    """

    def __init__(self, root: BaseScheduler) -> None:
        run = views.current_run(root)
        assert run is not None
        self.clock = run.clock  # type: ignore[method-assign]
        self._root: Final = root
        self.records: Final[dict[AnyJob, JobRecord]] = {}
        self.root: Final = SchedulerRecord(root, None)
        self.records[root] = self.root
        self.fill(self.root)

    # ---- records

    def scheduler(self, scheduler: BaseScheduler) -> SchedulerRecord:
        """Return the record of a scheduler."""
        return cast(SchedulerRecord, self.records[scheduler])

    def is_filled(self, record: SchedulerRecord) -> bool:
        """Return whether the record of a scheduler has the same members as the scheduler."""
        return [*_live(record)] == [job.named for job in record.members]

    def fill(self, outermost: SchedulerRecord) -> None:
        """Make new records for all jobs of a scheduler, at any depth, when its run begins."""
        todo = [outermost]
        while todo:
            record = todo.pop()
            scheduler, former = _live(record), record.members
            record.keeps_jobs = scheduler.keep_jobs
            record.members, record.nested = {}, {}
            for job in scheduler:
                self._add(record, job)
            for gone in former.keys() - record.members.keys():
                self._drop(gone)
            todo += record.nested

    def add(self, scheduler: BaseScheduler, job: AnyJob) -> JobRecord:
        """Make and return the record of an added job."""
        record = self._add(self.scheduler(scheduler), job)
        if isinstance(record, SchedulerRecord):
            self.fill(record)
        return record

    def settle(self, scheduler: BaseScheduler, job: AnyJob) -> tuple[JobRecord, JobState, float | None]:
        """Complete the record of a settled job, and return it with the job's state and time."""
        record = self.records[job]
        state, record.started_at, at, is_all = views.end_of(job)
        if not is_all:
            record.attempts, record.timed_out, record.restored = job.attempts, job.timed_out, job.restored
            record.error, record.held = job.raised_exception(), views.held(job)
            record.through_member = views.failed_through_member(job)
        outer = record.outer
        if outer is not None and not outer.keeps_jobs and views.is_droppable(scheduler, job):
            outer.drop(record)
            self._drop(record)
        return record, state, at

    def end(self, scheduler: BaseScheduler) -> SchedulerRecord:
        """Return the record of a scheduler whose run has ended, with the reason."""
        record = self.scheduler(scheduler)
        record.stop_reason = scheduler.stop_reason
        record.culprit = None if scheduler.culprit is None else self.records.get(scheduler.culprit)
        return record

    def _add(self, record: SchedulerRecord, job: AnyJob) -> JobRecord:
        found = self.records.get(job)
        if found is None:
            kind = SchedulerRecord if views.is_scheduler(job) else JobRecord
            found = self.records[job] = kind(job, record, job.forever)
        else:
            found.forget_run()
        record.add(found)
        return found

    def _drop(self, record: JobRecord) -> None:
        for job in [record, *(record.iterate_jobs() if isinstance(record, SchedulerRecord) else ())]:
            self.records.pop(cast(AnyJob, job.named), None)

    # ---- between two events

    @property
    def window(self) -> int | None:  # type: ignore[override]
        """The current number of slots."""
        return self._root.window_size

    @property
    def tokens_taken(self) -> int | None:  # type: ignore[override]
        """The number of taken tokens of the limiter."""
        run = views.current_run(self._root)
        return None if run is None else run.tokens_taken

    @property
    def ending(self) -> str:  # type: ignore[override]
        """A word for a run that is about to end."""
        run = views.current_run(self._root)
        if run is not None and run.phase is RunPhase.STOPPING and run.reason is not StopReason.COMPLETED:
            return "ending"
        return "draining" if run is not None and run.phase is RunPhase.DRAINING else ""

    def look(self, job: JobRecord) -> None:
        """Update the record of a job about to be shown with the facts that have no event."""
        live = cast(AnyJob, job.named)
        self.look_at_progress(job)
        job.critical, job.is_service = live.is_critical(), views.is_service(live)
        job.is_ready = views.is_ready(live)
        job.expected_duration, job.attempts = live.expected_duration, live.attempts
        job.retry = live.retry if isinstance(live.retry, int) else 0
        job.status, job.waiting = views.status_of(live), views.waiting(live)

    def look_at_progress(self, job: JobRecord) -> None:
        """Update the progress of a running job."""
        live = cast(AnyJob, job.named)
        job.fraction_done, job.timed_out = live.fraction_done, live.timed_out

    def waiting(self, job: JobRecord) -> views.Waiting | None:
        """Return what a job waits for."""
        return views.waiting(cast(AnyJob, job.named))

    def waits_for(self, job: JobRecord) -> list[JobRecord]:
        """Return the members of its scheduler that must settle before a job may start."""
        assert job.outer is not None
        required = views.waits_for(_live(job.outer), cast(AnyJob, job.named))
        return [record for job in required if (record := self.records.get(job)) is not None]

    def expected_durations(self, scheduler: SchedulerRecord) -> dict[JobRecord, float]:
        """Return the known expected durations of the members, in seconds."""
        known = views.expected_durations(_live(scheduler))
        return {record: known[job] for job in known if (record := self.records.get(job)) is not None}

    def needs_of(self, job: JobRecord) -> Mapping[str, Any]:
        """Return the needs of a job."""
        return cast(AnyJob, job.named).needs or {}

    def resources_in(self, scheduler: SchedulerRecord) -> list[ResourceView]:
        """Return the resources of the scheduler's own pool."""
        pool = _live(scheduler).pool
        return [] if pool is None else views.resources_of(pool)

    def opens_in(self, resource: ResourceView, jobs: list[JobRecord]) -> float:
        """Return the seconds until a resource has as much as these jobs need."""
        return resource.opens_in(cast(AnyJob, job.named) for job in jobs)

    def slots_in(self, scheduler: SchedulerRecord) -> int | None:
        """Return the number of slots for members of a scheduler."""
        return views.slots_of(_live(scheduler).jobs_window)

    def is_longest_first(self, scheduler: SchedulerRecord) -> bool:
        """Return whether the members start in the order of their longest chains."""
        return _live(scheduler).policy in ("auto", "critical-path")


def _live(record: SchedulerRecord) -> BaseScheduler:
    return cast(BaseScheduler, record.named)
