"""`LiveSource`: a run in this process as the source of a monitor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from ..._core.api import views
from ..._core.api.views import AnyJob, BaseScheduler, JobState, ResourceView, RunPhase, StopReason
from ._records import JobRecord, SchedulerRecord, Source


class LiveSource(Source):
    """The source for a run in this process: it creates the records of the jobs, and is polled between events.

    Args:
        root: the outermost scheduler of the run.

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
        """Return whether the record of a scheduler has the scheduler's current members."""
        return [*_scheduler_of(record)] == [job.named for job in record.members]

    def fill(self, outermost: SchedulerRecord) -> None:
        """Create the records of all jobs of a scheduler, at any depth, or reset them, when its run begins."""
        todo = [outermost]
        while todo:
            record = todo.pop()
            scheduler, former = _scheduler_of(record), record.members
            record.keeps_jobs = scheduler.keep_jobs
            record.members, record.nested = {}, {}
            for job in scheduler:
                self._add(record, job)
            for gone in former.keys() - record.members.keys():
                self._drop(gone)
            todo += record.nested

    def add(self, scheduler: BaseScheduler, job: AnyJob) -> JobRecord:
        """Create and return the record of an added job."""
        record = self._add(self.scheduler(scheduler), job)
        if isinstance(record, SchedulerRecord):
            self.fill(record)
        return record

    def settle(self, scheduler: BaseScheduler, job: AnyJob) -> tuple[JobRecord, JobState, float | None]:
        """Update the record of a settled job; return the record, the job's final state, and when it settled."""
        record = self.records[job]
        state, record.started_at, at, is_all = views.end_facts(job)
        if not is_all:
            record.attempts, record.timed_out, record.restored = job.attempts, job.timed_out, job.restored
            record.error, record.held = job.raised_exception(), views.machine_waits(job)
            record.through_member = views.failed_through_member(job)
        outer = record.outer
        if outer is not None and not outer.keeps_jobs and views.is_droppable(scheduler, job):
            outer.drop(record)
            self._drop(record)
        return record, state, at

    def end(self, scheduler: BaseScheduler) -> SchedulerRecord:
        """Set the stop reason and the culprit of a scheduler whose run has ended, and return its record."""
        record = self.scheduler(scheduler)
        record.stop_reason = scheduler.stop_reason
        record.culprit = None if scheduler.culprit is None else self.records.get(scheduler.culprit)
        return record

    def _add(self, record: SchedulerRecord, job: AnyJob) -> JobRecord:
        """Create or reset the record of a job, add it to the record of its scheduler, and return it."""
        member = self.records.get(job)
        if member is None:
            kind = SchedulerRecord if views.is_scheduler(job) else JobRecord
            member = self.records[job] = kind(job, record, job.forever)
        else:
            member.forget_run()
        record.add(member)
        return member

    def _drop(self, record: JobRecord) -> None:
        for job in [record, *(record.iterate_jobs() if isinstance(record, SchedulerRecord) else ())]:
            self.records.pop(cast(AnyJob, job.named), None)

    # ---- queries between two events

    @property
    def window(self) -> int | None:  # type: ignore[override]
        """The current number of slots."""
        return self._root.window_size

    @property
    def tokens_taken(self) -> int | None:  # type: ignore[override]
        """The number of tokens in use of the run's limiter; None if its window is not a limiter."""
        run = views.current_run(self._root)
        return None if run is None else run.tokens_taken

    @property
    def ending(self) -> str:  # type: ignore[override]
        """The word "ending" or "draining" for a run that is about to end; otherwise ""."""
        run = views.current_run(self._root)
        if run is not None and run.phase is RunPhase.STOPPING and run.reason is not StopReason.COMPLETED:
            return "ending"
        return "draining" if run is not None and run.phase is RunPhase.DRAINING else ""

    def update(self, job: JobRecord) -> None:
        """Update the fields of a job's record that change without an event."""
        live = cast(AnyJob, job.named)
        self.update_progress(job)
        job.critical, job.is_service = live.is_critical(), views.is_service(live)
        job.is_ready = views.is_ready(live)
        job.expected_duration, job.attempts = live.expected_duration, live.attempts
        job.retry = live.retry if isinstance(live.retry, int) else 0
        job.status, job.waiting = views.status_of(live), views.waiting(live)

    def update_progress(self, job: JobRecord) -> None:
        """Update the progress in the record of a running job."""
        live = cast(AnyJob, job.named)
        job.fraction_done, job.timed_out = live.fraction_done, live.timed_out

    def waiting(self, job: JobRecord) -> views.Waiting | None:
        """Return what a job waits for; None if it does not wait."""
        return views.waiting(cast(AnyJob, job.named))

    def waits_for(self, job: JobRecord) -> list[JobRecord]:
        """Return the jobs of the same scheduler that must settle before a job may start."""
        assert job.outer is not None
        required = views.waits_for(_scheduler_of(job.outer), cast(AnyJob, job.named))
        return [record for job in required if (record := self.records.get(job)) is not None]

    def expected_durations(self, scheduler: SchedulerRecord) -> dict[JobRecord, float]:
        """Return the expected durations in seconds of those jobs of a scheduler that have one."""
        known = views.expected_durations(_scheduler_of(scheduler))
        return {record: known[job] for job in known if (record := self.records.get(job)) is not None}

    def needs_of(self, job: JobRecord) -> Mapping[str, Any]:
        """Return the needs of a job."""
        return cast(AnyJob, job.named).needs or {}

    def resources_in(self, scheduler: SchedulerRecord) -> list[ResourceView]:
        """Return the resources of a scheduler's own pool."""
        pool = _scheduler_of(scheduler).pool
        return [] if pool is None else views.resource_views(pool)

    def opens_in(self, resource: ResourceView, jobs: list[JobRecord]) -> float:
        """Return the seconds until a rate or a cooldown of a resource lets these jobs start."""
        return resource.opens_in(cast(AnyJob, job.named) for job in jobs)

    def slots_in(self, scheduler: SchedulerRecord) -> int | None:
        """Return the number of slots of a scheduler; None for no limit."""
        return views.max_slots(_scheduler_of(scheduler).jobs_window)

    def is_longest_first(self, scheduler: SchedulerRecord) -> bool:
        """Return whether the jobs of a scheduler start in the order of their longest paths to an exit."""
        return _scheduler_of(scheduler).policy in ("auto", "critical-path")


def _scheduler_of(record: SchedulerRecord) -> BaseScheduler:
    return cast(BaseScheduler, record.named)
