"""`RunModel`: the state of a run that a monitor shows, with the number of jobs in each state.

The monitor's hooks update the model in the thread of the run. The drawing thread reads the model without a lock, so
drawing never makes the run wait. This is safe for three reasons:

- Only the thread of the run changes the model, and each change of an attribute or a dict is atomic. The drawing thread
  copies a dict with `list(...)`, which no other thread can interrupt, and iterates over the copy.
- If the drawing thread reads the model while a hook updates it, the counts in one picture may be inconsistent. The next
  picture corrects them.
- The drawing thread reads a time only once before it tests and uses it.

Handling an event of one job takes time proportional to the job's depth of nesting, because the counts of a scheduler
include those of its nested schedulers. Forever jobs, and all jobs nested in them, are counted separately.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ..._core.api.views import JobState, ReportedState, shorten
from .._state_styles import STATE_STYLES, recorded_state
from ..text import _exception_text, _verdict
from ..text._verdict import Verdict, create_verdict
from ._display import Display
from ._records import JobRecord, RunSource, SchedulerRecord


@dataclass(slots=True, eq=False)
class JobCounts:
    """The number of a scheduler's jobs in each state, including the jobs of nested schedulers.

    As in a `Tally`, nested schedulers and forever jobs are counted only if they were blocked, or failed for a reason
    other than a failed job, as one more job. Nested schedulers are also counted in `row_count`.
    """

    enclosing_counts: JobCounts | None = None
    """The counts of the enclosing scheduler; None for the outermost scheduler and for forever jobs."""
    belongs_to_forever_job: bool = False
    """Whether the scheduler is a forever job, or is nested in one."""
    row_count: int = 0
    """The number of direct members, including schedulers, that are not forever jobs."""
    job_count: int = 0
    running_count: int = 0
    restored_count: int = 0
    """The number of jobs restored from a journal, which are also counted as succeeded in `settled_counts`."""
    unreached_count: int = 0
    """The number of jobs that never started because their scheduler ended."""
    settled_counts: dict[ReportedState, int] = field(
        default_factory=lambda: dict.fromkeys((state for state in STATE_STYLES if state.is_settled), 0)
    )

    @property
    def waiting_count(self) -> int:
        """The number of jobs that may still start."""
        return max(0, self.job_count - self.running_count - self.unreached_count - sum(self.settled_counts.values()))

    @property
    def are_all_jobs_waiting(self) -> bool:
        """Whether all jobs are still waiting to start."""
        return not (self.running_count or self.unreached_count or any(self.settled_counts.values()))

    def iterate_outwards(self) -> Iterator[JobCounts]:
        """Yield these counts, then the counts of each enclosing scheduler that include them, innermost first."""
        counts: JobCounts | None = self
        while counts is not None:
            yield counts
            counts = counts.enclosing_counts

    def change_running_count(self, change: int) -> None:
        """Add `change`, which may be negative, to the number of running jobs."""
        for counts in self.iterate_outwards():
            counts.running_count += change

    def count_settled_job(self, state: ReportedState, was_running: bool, is_restored: bool = False) -> None:
        """Count a job that has settled in `state`. If `was_running`, no longer count it as running."""
        for counts in self.iterate_outwards():
            counts.restored_count += is_restored
            counts.running_count -= was_running
            counts.settled_counts[state] += 1

    def add_jobs(self, number: int) -> None:
        """Add `number` to the number of jobs."""
        for counts in self.iterate_outwards():
            counts.job_count += number

    def count_waiting_as_unreached(self) -> None:
        """Count all jobs that are still waiting as unreached."""
        waiting = self.waiting_count
        for counts in self.iterate_outwards():
            counts.unreached_count += waiting

    def subtract_from_enclosing(self) -> None:
        """Subtract these counts from the counts of the enclosing schedulers."""
        for counts in self.iterate_outwards():
            if counts is not self:
                counts.job_count -= self.job_count
                counts.running_count -= self.running_count
                counts.restored_count -= self.restored_count
                counts.unreached_count -= self.unreached_count
                for state, number in self.settled_counts.items():
                    counts.settled_counts[state] -= number


class RunModel:
    """The state of one run. At each event, it updates the job records and notifies the display.

    Args:
        root: the record of the outermost scheduler, with the records of all its jobs.
        source: the object that answers queries about the run between events.
        are_failures_shown_elsewhere: whether other code prints the failures after the run. The last picture then omits
            them, and log lines omit their exceptions.

    """

    def __init__(self, root: SchedulerRecord, source: RunSource, are_failures_shown_elsewhere: bool = False) -> None:
        self.root: Final = root
        self.source: Final = source
        self.clock: Final = source.clock
        self.ended_at: float | None = None
        self.are_failures_shown_elsewhere: Final = are_failures_shown_elsewhere
        self.graph_revision = 0  # incremented when jobs are added or replaced
        self.counts_by_scheduler: Final[dict[SchedulerRecord, JobCounts]] = {}
        # The following dicts are ordered sets: their keys are jobs.
        self.running_jobs: Final[dict[JobRecord, None]] = {}
        self.failed_jobs: Final[dict[JobRecord, None]] = {}
        self.forever_jobs: Final[dict[JobRecord, None]] = {}  # omits forever jobs nested in another forever job
        self.slot_holders: Final[dict[JobRecord, None]] = {}  # the running members of the root, without forever jobs
        # The ready jobs, without forever jobs and schedulers, grouped by their scheduler and the text of their needs.
        self.ready_jobs_by_needs: Final[dict[tuple[SchedulerRecord, str], dict[JobRecord, None]]] = {}
        # The key of each ready job in `ready_jobs_by_needs`.
        self._ready_keys_by_job: Final[dict[JobRecord, tuple[SchedulerRecord, str]]] = {}
        # The failed jobs, grouped by the kind of their failures.
        self.failed_jobs_by_kind: Final[dict[str, dict[JobRecord, None]]] = {}
        self._create_counts(root, None, is_forever=False)
        self._final_tally: _verdict.Tally | None = None  # set by `replace_counts`
        self._restored: Final = _verdict.RestoredJobs()  # for when the records do not have all jobs
        self.display = Display()

    @property
    def label(self) -> str:
        """The label of the outermost scheduler."""
        return self.root.label

    @property
    def slot_count(self) -> int | None:
        """The current number of slots of this run; None if there is no limit."""
        return self.source.root_slot_count

    @property
    def used_slot_count(self) -> int:
        """The number of slots in use.

        If the window is a limiter, this is the number of its tokens in use, including those that other schedulers use.
        """
        tokens = self.source.used_token_count
        return len(self.slot_holders) if tokens is None else tokens

    @property
    def budget_texts(self) -> list[str]:
        """What is left of each budget of the outermost scheduler's pool."""
        return [text for resource in self.source.pool_resources(self.root) if (text := resource.budget_text)]

    @property
    def ending_word(self) -> str:
        """The word "ending" or "draining" if the run is about to end; otherwise an empty string."""
        return self.source.ending_word

    @property
    def root_counts(self) -> JobCounts:
        """The counts of the outermost scheduler."""
        return self.counts_by_scheduler[self.root]

    @property
    def job_count(self) -> int:
        """The number of jobs, without forever jobs and schedulers."""
        return self.root_counts.job_count

    @property
    def forever_count(self) -> int:
        """The number of forever jobs that have neither failed nor been blocked."""
        return sum(job.state not in _verdict.TROUBLE_STATES for job in list(self.forever_jobs))

    def elapsed(self) -> float:
        """Return the seconds since the run began, or its duration if it has ended."""
        return (self.ended_at if self.ended_at is not None else self.clock()) - self.source.began_at

    def verdict(self) -> Verdict:
        """Return the verdict on the run."""
        root = self.root
        if self._final_tally is not None:
            tally = self._final_tally
        elif root.keeps_jobs:
            tally = _verdict.Tally(job for job in root.iterate_jobs() if _is_counted(job))
        else:
            tally = _verdict.Tally()
            # The counts include jobs that the scheduler has dropped; the records of these jobs no longer exist.
            for state, number in self.root_counts.settled_counts.items():
                tally.add_jobs(state, number=number)
            tally.add_jobs(JobState.IDLE, number=self.root_counts.job_count - tally.job_count)
            tally.restored = self._restored
        path = None if root.culprit is None else shorten(root.culprit.identity.path)
        return create_verdict(root.stop_reason, tally, self.elapsed(), path)

    # ---- events

    def nested_run_started(self, scheduler: SchedulerRecord) -> None:
        """Record that a nested scheduler runs again, or begins its first run with changed members."""
        old_counts = self.counts_by_scheduler[scheduler]
        old_counts.subtract_from_enclosing()
        for key in [key for key in self.ready_jobs_by_needs if key[0] is scheduler or key[0].is_inside(scheduler)]:
            del self.ready_jobs_by_needs[key]
        for jobs in (self.running_jobs, self.failed_jobs, self.forever_jobs, *self.failed_jobs_by_kind.values()):
            for job in [job for job in jobs if job.is_inside(scheduler)]:
                del jobs[job]
        self._create_counts(scheduler, old_counts.enclosing_counts, scheduler.forever)
        self.display.wake()

    def job_added(self, job: JobRecord) -> None:
        """Record that a job was added during the run."""
        assert job.enclosing is not None
        counts = self.counts_by_scheduler[job.enclosing]
        self._count_job(counts, job)
        if isinstance(job, SchedulerRecord):
            self._create_counts(job, counts, job.forever)
        self.graph_revision += 1
        self.display.wake()

    def job_scheduled(self, job: JobRecord, needs: str = "") -> None:
        """Record that a job is ready to start, for the first time, or after it was throttled or an attempt failed."""
        enclosing = job.enclosing
        assert enclosing is not None
        if job.state is JobState.RUNNING and not job.forever:
            if not job.is_scheduler:
                self.counts_by_scheduler[enclosing].change_running_count(-1)
            self.running_jobs.pop(job, None)
            self.slot_holders.pop(job, None)
            job.started_at = None
        job.state = JobState.SCHEDULED
        if not (job.forever or job.is_scheduler or self.counts_by_scheduler[enclosing].belongs_to_forever_job):
            key = self._ready_keys_by_job[job] = enclosing, needs
            self.ready_jobs_by_needs.setdefault(key, {})[job] = None
        self.display.wake()

    def job_started(self, job: JobRecord, started_at: float | None) -> None:
        """Record that a job has started."""
        job.state, job.started_at, job.attempts, job.current_wait = JobState.RUNNING, started_at, 1, None
        self._remove_from_ready_jobs(job)
        enclosing = job.enclosing
        assert enclosing is not None
        if job.takes_slot and not job.forever and enclosing is self.root:
            self.slot_holders[job] = None
        if not (job.forever or job.is_scheduler):
            counts = self.counts_by_scheduler[enclosing]
            counts.change_running_count(1)
            if not counts.belongs_to_forever_job:
                self.running_jobs[job] = None
        self.display.job_started(job)

    def job_retried(self, job: JobRecord, attempt: int) -> None:
        """Record that a job has begun attempt number `attempt`, which is a retry."""
        job.attempts = attempt
        self.display.job_retried(job)

    def job_ready(self, job: JobRecord) -> None:
        """Record that a service is ready."""
        job.is_ready = True
        self.display.job_ready(job)

    def job_finished(self, job: JobRecord, state: JobState, finished_at: float | None) -> None:
        """Record that a job has settled. The source has already updated the other fields of the record."""
        was_running = job.state is JobState.RUNNING and not job.forever  # not while it waited for another attempt
        job.finished_at, job.state = finished_at, state
        job.is_ready, job.status, job.current_wait = False, "", None
        self.running_jobs.pop(job, None)
        self.slot_holders.pop(job, None)
        self._remove_from_ready_jobs(job)
        failed_by_itself = state is JobState.FAILED and not job.failed_through_member
        if isinstance(job, SchedulerRecord):
            self.counts_by_scheduler[job].count_waiting_as_unreached()
            was_running = False
        if _is_counted(job) and _verdict.tally_key(state, job.forever) == state:
            assert job.enclosing is not None
            counts = self.counts_by_scheduler[job.enclosing]
            counts.add_jobs(job.is_scheduler or job.forever)  # the others were counted when they were added
            counts.count_settled_job(recorded_state(job), was_running, job.restored)
            if job.restored:
                self._restored.add(job.restored_at)
        if failed_by_itself:
            self.failed_jobs[job] = None
            kind = job.failure_kind or ("" if job.error is None else _exception_text.one_line_text(job.error))
            self.failed_jobs_by_kind.setdefault(kind, {})[job] = None
        self.display.job_finished(job)

    def _remove_from_ready_jobs(self, job: JobRecord) -> None:
        key = self._ready_keys_by_job.pop(job, None)
        if key is not None and (jobs := self.ready_jobs_by_needs.get(key)):
            jobs.pop(job, None)

    @property
    def failure_count(self) -> int:
        """The number of failed jobs, plus the number of schedulers that failed for a reason other than a failed job."""
        return len(self.failed_jobs) if self._final_tally is None else self._final_tally.failure_count

    def replace_counts(self, counts: Mapping[str, int]) -> None:
        """Replace the counts with those in the last event of the run, because other events may have been dropped."""
        self._final_tally = _verdict.Tally.from_counts(counts)
        self._final_tally.restored = self._restored
        root_counts = self.root_counts
        for state in root_counts.settled_counts:
            root_counts.settled_counts[state] = counts.get(state.value, 0)
        root_counts.job_count = self._final_tally.job_count
        root_counts.running_count = root_counts.unreached_count = 0

    def run_ended(self, ended_at: float) -> None:
        """Record when the run has ended, and stop the display."""
        self.ended_at = ended_at
        self.root_counts.count_waiting_as_unreached()
        self.display.stop()

    # ---- jobs

    def _create_counts(self, scheduler: SchedulerRecord, enclosing_counts: JobCounts | None, is_forever: bool) -> None:
        todo = [(scheduler, enclosing_counts, is_forever)]
        while todo:
            scheduler, enclosing_counts, is_forever = todo.pop()
            belongs_to_forever_job = is_forever or (
                enclosing_counts is not None and enclosing_counts.belongs_to_forever_job
            )
            counts = self.counts_by_scheduler[scheduler] = JobCounts(
                None if is_forever else enclosing_counts, belongs_to_forever_job
            )
            for job in scheduler.members:
                self._count_job(counts, job)
            todo += [(job, counts, job.forever) for job in scheduler.nested_schedulers]
        self.graph_revision += 1

    def _count_job(self, counts: JobCounts, job: JobRecord) -> None:
        if not job.forever:
            counts.row_count += 1
            if not job.is_scheduler:
                counts.add_jobs(1)
        elif not counts.belongs_to_forever_job:
            self.forever_jobs[job] = None


def _is_counted(job: JobRecord) -> bool:
    """Return what `_verdict.is_counted` returns for the job of a record."""
    has_own_failure = job.state is JobState.FAILED and not job.failed_through_member
    return not job.is_scheduler or job.state is JobState.BLOCKED or has_own_failure


def iterate_in_listing_order(model: RunModel) -> Iterator[tuple[JobRecord, int]]:
    """Yield all jobs except forever jobs in the order of `Scheduler.list`, each with its depth of nesting.

    Unlike `Scheduler.list`, this function adds no implied requirements to the jobs, because the run added them when it
    began.
    """
    stack = [_iterate_members(model, model.root)]
    while stack:
        for job in stack[-1]:
            yield job, len(stack) - 1
            if isinstance(job, SchedulerRecord):
                stack.append(_iterate_members(model, job))
                break
        else:
            stack.pop()


def _iterate_members(model: RunModel, scheduler: SchedulerRecord) -> Iterator[JobRecord]:
    return iter([job for job in model.source.topological_order(scheduler) if not job.forever])
