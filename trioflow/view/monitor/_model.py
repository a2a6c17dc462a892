"""`RunModel`: the state of a run that a monitor shows: the records of its jobs, and their number in each state.

The monitor's hooks update the model in the thread of the run. The drawing thread reads the model without a lock, so
drawing never makes the run wait. This is safe for three reasons:

- Only the thread of the run changes the model, and each change of an attribute or a dict is atomic. The drawing thread
  copies the keys of a dict with `list(...)`, which no other thread can interrupt, and iterates over the copy.
- If the drawing thread reads the model while a hook updates it, the counts in a picture may be inconsistent. The next
  picture corrects them.
- The drawing thread reads a time only once before it tests and uses it.

Handling an event of a job takes time proportional to the job's depth of nesting, because the counts of a scheduler
include its nested schedulers' jobs. Forever jobs, and all jobs nested in them, are counted separately.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, cast

from ..._core.admission._pools import resource_views
from ..._core.base._graph_algorithms import topological_order
from ..._core.base._states import RAN_TO_END, JobState, RunPhase
from ..._core.base._text_forms import duration_text, join_names
from ..._core.job._job import AnyJob, is_scheduler
from ..._core.scheduler._base_scheduler import BaseScheduler
from ..._core.scheduler._members import collect_dropped
from ..._core.words import _failures, _job_queries, _outcome
from ..._core.words._run_view import current_run, run_steering, run_times, slots_in_use
from .. import _estimate
from ..text import _failure_text
from ..text._verdict import Verdict, create_verdict, paused_seconds, tally_key
from ._records import Display, JobRecord, SchedulerRecord
from ._run_header import RunProgress

MAX_KEPT_FAILURES: Final = 9
"""The maximum number of failed jobs of a kind that are kept although their scheduler drops them."""
MAX_DROPPED: Final = 1000
"""The maximum number of dropped jobs whose records wait to be dropped, too."""


class FailedJobs:
    """The failed jobs of a kind. Of jobs that their scheduler drops, only the first are kept, but all are counted."""

    def __init__(self) -> None:
        self.jobs: Final[dict[JobRecord, None]] = {}
        self._dropped_count = 0

    def __len__(self) -> int:
        return len(self.jobs) + self._dropped_count

    def drop(self, job: JobRecord) -> None:
        """Forget a job that its scheduler has dropped, if there are enough others."""
        if job in self.jobs and len(self.jobs) > MAX_KEPT_FAILURES:
            del self.jobs[job]
            self._dropped_count += 1


class RunModel:
    """The state of a run. At each event, it updates the job records and notifies the display.

    Args:
        scheduler: the outermost scheduler of the run.
        are_failures_shown_elsewhere: whether other code prints the failures after the run. The last picture then omits
            them, and log lines omit their exceptions.

    """

    def __init__(
        self, scheduler: BaseScheduler, are_failures_shown_elsewhere: bool = False
    ) -> None:
        run = current_run(scheduler)
        assert run is not None
        self.clock: Final = run.clock
        self.root: Final = SchedulerRecord(scheduler, None)
        self.records: Final[dict[AnyJob, JobRecord]] = {scheduler: self.root}
        self.ended_at: float | None = None
        self.estimate: Final = _estimate.Estimate(scheduler)
        self.are_failures_shown_elsewhere: Final = are_failures_shown_elsewhere
        self._dropped_jobs: Final = deque[AnyJob](maxlen=MAX_DROPPED)
        # The following dicts are ordered sets: their keys are jobs.
        self.running_jobs: Final[
            dict[JobRecord, None]
        ] = {}  # without forever jobs and the jobs nested in them
        # Omits forever jobs nested in another forever job.
        self.forever_jobs: Final[dict[JobRecord, None]] = {}
        self.failed_jobs_by_kind: Final[dict[tuple[bool | None, str], FailedJobs]] = {}
        """The failed jobs of a kind that count alike, as in `group_failures`."""
        self._begin_records(self.root)
        self.display = Display()

    def progress(self) -> RunProgress:
        """Return the progress of the run, in the form that the header shows."""
        scheduler = self.root.scheduler
        tally = self.root.counts
        began_at, _ = run_times(scheduler) or (0.0, None)
        taken, slot_count = slots_in_use(scheduler)
        budgets = [view.budget_text for view in resource_views(scheduler.pool)]
        verdict: Verdict | None = None
        if self.ended_at is None:
            elapsed = self.clock() - began_at
        else:
            elapsed = self.ended_at - began_at
            culprit = _failures.culprit_text(scheduler)
            paused = paused_seconds(run_steering(scheduler).pauses, self.ended_at)
            verdict = create_verdict(
                scheduler.stop_reason, tally, elapsed, culprit, paused=paused
            )
        return RunProgress(
            self.root.job.label,
            tally,
            elapsed,
            slots=None if slot_count is None else (taken, slot_count),
            budget_texts=list(filter(None, budgets)),
            phase_text=self._phase_text(),
            verdict=verdict,
        )

    def _phase_text(self) -> str:
        """Return "ending" or "draining" if the run is about to end, or since when it is paused. Otherwise nothing."""
        run = current_run(self.root.scheduler)
        if run is None:
            return ""
        if run.phase is RunPhase.STOPPING and run.reason not in RAN_TO_END:
            return "ending"
        return "draining" if run.phase is RunPhase.DRAINING else run.pause_text

    # ---- events

    def nested_run_started(self, scheduler: BaseScheduler) -> None:
        """Record that a nested scheduler runs again, or begins its first run with changed members."""
        collect_dropped(scheduler, self._dropped_jobs)
        record = cast(SchedulerRecord, self.records[scheduler])
        if [*scheduler] == [job.job for job in record.members]:
            # A job that had settled, and runs again, was reopened.
            return
        _, *enclosing = record.counts.iterate_outwards()
        for counts in enclosing:
            counts.unreached_count -= record.counts.unreached_count
            counts.subtract(record.counts)
        failed_jobs = (failures.jobs for failures in self.failed_jobs_by_kind.values())
        for jobs in (self.running_jobs, self.forever_jobs, *failed_jobs):
            for job in [job for job in jobs if record in job.enclosing_schedulers()]:
                del jobs[job]
        self._begin_records(record)
        self.display.wake()

    def job_added(self, scheduler: BaseScheduler, added_job: AnyJob) -> None:
        record = cast(SchedulerRecord, self.records[scheduler])
        job = self._add_record(record, added_job)
        if isinstance(job, SchedulerRecord):
            self._begin_records(job)
        self.display.wake()

    def job_scheduled(self, scheduled_job: AnyJob) -> None:
        """Record that a job is ready to start, for the first time, or after it was throttled or an attempt failed."""
        job = self.records[scheduled_job]
        enclosing = job.enclosing
        assert enclosing is not None
        for throttle in _job_queries.throttled_attempts(scheduled_job)[-1:]:
            if throttle.began == job.started_at:
                waits = [
                    f"{key} for {duration_text(end - throttle.ended)}"
                    for key, end in throttle.closed_until
                ]
                self.display.tell("throttled", job, join_names(waits))
        if job.state is JobState.RUNNING and not job.forever:
            if not job.is_scheduler:
                enclosing.counts.move(JobState.RUNNING, JobState.IDLE)
            self.running_jobs.pop(job, None)
            job.started_at = None
        job.state = JobState.SCHEDULED
        if job.is_one_job and not job.forever:
            needs = str(scheduled_job.needs or "")
            group = enclosing.ready_jobs_by_needs.setdefault(needs, {})
            group[job] = None
            job.ready_group = group
        self.display.wake()

    def job_started(self, started_job: AnyJob) -> None:
        job = self.records[started_job]
        previous_state = _counted_state(job)
        job.state = JobState.RUNNING
        job.started_at = _job_queries.latest_start(started_job)
        job.leave_ready_group()
        enclosing = job.enclosing
        assert enclosing is not None
        if not job.forever:
            if not job.is_scheduler:
                enclosing.counts.move(previous_state, JobState.RUNNING)
            if not enclosing.belongs_to_forever_job:
                self.running_jobs[job] = None
        if started_job.attempts < 2:
            # A retry is told as its attempt begins.
            self.display.tell("start", job)

    def job_settled(self, scheduler: BaseScheduler, settled_job: AnyJob) -> None:
        """Record that a job has settled, and drop the records of those that their schedulers have dropped before."""
        self._drop_records_of_dropped_jobs()
        job = self.records[settled_job]
        previous_state = _counted_state(job)
        job.state, job.started_at, _, is_plain_success = _job_queries.end_facts(
            settled_job
        )
        job.seconds = settled_job.took
        if not is_plain_success:
            job.outcome = _outcome.outcome(settled_job)
        enclosing = job.enclosing
        self.running_jobs.pop(job, None)
        job.leave_ready_group()
        if isinstance(job, SchedulerRecord):
            job.counts.count_waiting_as_unreached()
            job.counts.of_first = None
        if job.is_one_job and enclosing is not None:
            enclosing.counts.move(tally_key(previous_state, job.forever), job.tally_key)
            self._add_journal_facts(job, 1)
        elif (
            enclosing is not None
            and _job_queries.is_failed_group(settled_job)
            and job.first is None
        ):
            job.is_failed_group = _job_queries.criticality(settled_job) is not False
            for counts in enclosing.counts.iterate_outwards():
                counts.failed_groups += job.is_failed_group
        if job.failed_by_itself:
            failure = job.outcome.failure
            kind = ""
            if failure is not None:
                kind = _failure_text.kind_text(settled_job, failure)
            key = _job_queries.criticality(settled_job), kind
            self.failed_jobs_by_kind.setdefault(key, FailedJobs()).jobs[job] = None
        self.display.job_settled(job)

    def _add_journal_facts(self, job: JobRecord, number: int) -> None:
        facts = job.outcome
        if facts is not _outcome.PLAIN_OUTCOME and job.enclosing is not None:
            for counts in job.enclosing.counts.iterate_outwards():
                counts.add_journal_facts(facts.restoration, facts.rerun_cause, number)

    def job_reopened(self, reopened_job: AnyJob) -> None:
        """Record that a job that had settled, or waited to start, is IDLE again."""
        job = self.records.get(reopened_job)
        if job is None:
            # Its scheduler has dropped it.
            return
        assert job.enclosing is not None
        if job.state is JobState.SCHEDULED:
            job.leave_ready_group()
            job.state = JobState.IDLE
            self.display.wake()
            return
        if isinstance(job, SchedulerRecord):
            job.counts.expect_waiting(inner.counts for inner in job.nested_schedulers)
            job.counts.of_first = None
            if job.is_first and not job.forever:
                job.counts.of_first = job.enclosing.counts
        if job.is_one_job:
            idle = tally_key(JobState.IDLE, job.forever)
            job.enclosing.counts.move(job.tally_key, idle)
            self._add_journal_facts(job, -1)
        else:
            for counts in job.enclosing.counts.iterate_outwards():
                counts.failed_groups -= job.is_failed_group
        for failures in self.failed_jobs_by_kind.values():
            failures.jobs.pop(job, None)
        job.reset_run_fields()
        self.display.wake()

    def run_ended(self, ended_at: float) -> None:
        """Record when the run has ended, and stop the display."""
        self.ended_at = ended_at
        self.root.counts.count_waiting_as_unreached()
        self.display.stop()

    # ---- jobs

    def _begin_records(self, top_record: SchedulerRecord) -> None:
        """Create or reset the records of all jobs in a scheduler, at any depth, when its run begins: all wait."""
        # Each has its nested schedulers when the loop goes on.
        for record in top_record.iterate_schedulers():
            old_members = record.members
            collect_dropped(record.scheduler, self._dropped_jobs)
            record.members = {}
            record.nested_schedulers = {}
            record.reset_counts()
            for job in record.scheduler:
                self._add_record(record, job)
            for removed in old_members.keys() - record.members.keys():
                self._drop_records(removed)

    def _add_record(self, record: SchedulerRecord, job: AnyJob) -> JobRecord:
        """Create or reset the record of a job, add it to the record and the counts of its scheduler, and return it."""
        if (member := self.records.get(job)) is None:
            record_class = SchedulerRecord if is_scheduler(job) else JobRecord
            member = self.records[job] = record_class(job, record, job.forever)
            member.is_first = is_scheduler(job) and _job_queries.is_one_job(job)
        else:
            member.reset_run_fields()
        record.add_member(member)
        if member.is_one_job:
            record.counts.move(None, tally_key(JobState.IDLE, member.forever))
        if not member.forever:
            record.counts.row_count += 1
        elif not record.belongs_to_forever_job:
            self.forever_jobs[member] = None
        return member

    def _drop_records_of_dropped_jobs(self) -> None:
        while self._dropped_jobs:
            record = self.records.get(self._dropped_jobs.popleft())
            if record is not None and record.enclosing is not None:
                del record.enclosing.members[record]
                if isinstance(record, SchedulerRecord):
                    del record.enclosing.nested_schedulers[record]
                self._drop_records(record)
                if record.state is JobState.FAILED:
                    for failures in self.failed_jobs_by_kind.values():
                        failures.drop(record)

    def _drop_records(self, record: JobRecord) -> None:
        self.records.pop(record.job, None)
        if isinstance(record, SchedulerRecord):
            for job in record.iterate_jobs():
                self.records.pop(job.job, None)

    def iterate_in_listing_order(self) -> Iterator[tuple[JobRecord, int]]:
        """Yield all jobs except forever jobs in the order of `Scheduler.list`, each with its depth of nesting.

        Unlike `Scheduler.list`, this adds no implied requirements to the jobs, because the run added them when it
        began.
        """
        todo: list[tuple[JobRecord, int]] = [(self.root, -1)]
        while todo:
            job, depth = todo.pop()
            if job is not self.root:
                yield job, depth
            if isinstance(job, SchedulerRecord):
                members = topological_order(list(job.members), self._required_members)
                for member in reversed(members):
                    if not member.forever:
                        todo.append((member, depth + 1))

    def _required_members(self, job: JobRecord) -> list[JobRecord]:
        assert job.enclosing is not None
        required = _job_queries.all_requirements(job.enclosing.scheduler, job.job)
        # The thread of the run may drop a record meanwhile.
        records = map(self.records.get, required)
        return [record for record in records if record is not None]


def _counted_state(job: JobRecord) -> JobState:
    if job.is_first and isinstance(job, SchedulerRecord):
        return job.counts.state_of_first
    return JobState.IDLE if job.state is JobState.SCHEDULED else job.state
