"""A live run as the source of a monitor: its jobs get records, and it is asked between two events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from ..._core.api import views
from ..._core.api.views import AnyJob, BaseScheduler, JobState, ResourceView, RunPhase, StopReason
from ._records import JobRecord, SchedulerRecord, Source


class LiveSource(Source):
    """A run that is under way in this program.

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
        """Return whether the members of a scheduler, whose run begins, are those of its record."""
        return [*_live(record)] == [job.named for job in record.members]

    def fill(self, outermost: SchedulerRecord) -> None:
        """Give each job of a scheduler whose run begins, at any depth, a record as before a run."""
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
        """Return the record of a job that was added."""
        record = self._add(self.scheduler(scheduler), job)
        if isinstance(record, SchedulerRecord):
            self.fill(record)
        return record

    def settle(self, scheduler: BaseScheduler, job: AnyJob) -> tuple[JobRecord, JobState, float | None]:
        """Return the record of a job that has settled, its state and when; the record has the facts of its end."""
        record = self.records[job]
        state, record.started_at, at, is_all = views.end_of(job)
        if not is_all:
            record.attempts, record.timed_out, record.restored = job.attempts, job.timed_out, job.restored
            record.error, record.held = job.raised_exception(), views.held(job)
            record.through_member = views.failed_through_member(job)
        outer = record.outer
        if outer is not None and not outer.keeps_jobs and views.is_given_up(scheduler, job):
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
        """How many jobs may run at once now."""
        return self._root.window_size

    @property
    def tokens_taken(self) -> int | None:  # type: ignore[override]
        """How many tokens of its limiter are taken."""
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
        """Ask a job, which is about to be shown, for what no event has told."""
        live = cast(AnyJob, job.named)
        self.look_at_progress(job)
        job.critical, job.is_service = live.is_critical(), views.is_service(live)
        job.is_ready = views.is_ready(live)
        job.expected_duration, job.attempts = live.expected_duration, live.attempts
        job.retry = live.retry if isinstance(live.retry, int) else 0
        job.status, job.waiting = views.status_of(live), views.waiting(live)

    def look_at_progress(self, job: JobRecord) -> None:
        """Ask a running job how much of it is done."""
        live = cast(AnyJob, job.named)
        job.fraction_done, job.timed_out = live.fraction_done, live.timed_out

    def waiting(self, job: JobRecord) -> views.Waiting | None:
        """Return what a job waits for."""
        return views.waiting(cast(AnyJob, job.named))

    def waits_for(self, job: JobRecord) -> list[JobRecord]:
        """Return the members of its scheduler that must settle before a job may start."""
        assert job.outer is not None
        required = views.waits_for(_live(job.outer), cast(AnyJob, job.named))
        return [record for one in required if (record := self.records.get(one)) is not None]

    def expected_durations(self, scheduler: SchedulerRecord) -> dict[JobRecord, float]:
        """Return how many seconds the members are expected to take, as far as that is known."""
        known = views.expected_durations(_live(scheduler))
        return {record: known[job] for job in known if (record := self.records.get(job)) is not None}

    def needs_of(self, job: JobRecord) -> Mapping[str, Any]:
        """Return what a job needs of pools."""
        return cast(AnyJob, job.named).needs or {}

    def resources_in(self, scheduler: SchedulerRecord) -> list[ResourceView]:
        """Return the resources of the scheduler's own pool."""
        pool = _live(scheduler).pool
        return [] if pool is None else views.resources_of(pool)

    def opens_in(self, resource: ResourceView, jobs: list[JobRecord]) -> float:
        """Return after how many seconds so much of a resource has come as these jobs need."""
        return resource.opens_in(cast(AnyJob, job.named) for job in jobs)

    def slots_in(self, scheduler: SchedulerRecord) -> int | None:
        """Return how many members of a scheduler may run at once."""
        return views.slots_of(_live(scheduler).jobs_window)

    def is_longest_first(self, scheduler: SchedulerRecord) -> bool:
        """Return whether the members start in the order of their longest chains."""
        return _live(scheduler).policy in ("auto", "critical-path")


def _live(record: SchedulerRecord) -> BaseScheduler:
    return cast(BaseScheduler, record.named)
