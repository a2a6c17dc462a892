"""`Model`: the state of a run that a monitor shows, with the number of jobs in each state.

The hooks update the model in the thread of the run. The thread that draws reads it without a lock, so drawing never
makes the run wait. This is safe for three reasons:

- The hooks change only integers and dicts, each by one bytecode. A reader copies a dict with `list(...)`, which no
  other thread can interrupt, and iterates over the copy.
- A reader between two steps of one event sees a count that is off by one, until the next picture.
- A reader reads each state and each time once.

Each event costs O(depth of nesting), because the counts of a nested scheduler are included in the counts of the
enclosing schedulers. Forever jobs, and all jobs nested in them, have separate counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ..._core.api.views import JobState, shorten
from ..text import _exception_text, _verdict
from ..text._verdict import Verdict, verdict
from ._display import Display
from ._records import JobRecord, SchedulerRecord, Source


class JobCounts:
    """The number of a scheduler's jobs in each state, including the jobs of nested schedulers.

    Forever jobs and schedulers themselves are not counted.
    """

    __slots__ = ("is_separate", "jobs", "outer", "restored", "rows", "running", "settled", "unreached")

    def __init__(self, outer: JobCounts | None, is_separate: bool = False) -> None:
        """Start with no jobs; `is_separate` keeps the counts of a forever job from being included in `outer`."""
        self.outer: Final = None if is_separate else outer
        self.is_separate: Final[bool] = is_separate or (outer is not None and outer.is_separate)
        self.rows = 0  # direct members, including schedulers, that are not forever jobs
        self.jobs = 0
        self.running = 0
        self.restored = 0  # jobs restored from a journal; `settled` includes them
        self.settled = dict.fromkeys((state for state in JobState if state.is_settled), 0)
        self.unreached = 0  # jobs that never started because their scheduler ended

    @property
    def waiting(self) -> int:
        """The number of jobs that may still start."""
        return max(0, self.jobs - self.running - self.unreached - sum(self.settled.values()))

    @property
    def is_fresh(self) -> bool:
        """Whether no job has started or settled yet."""
        return not (self.running or self.unreached or any(self.settled.values()))

    def with_enclosing_schedulers(self) -> Iterator[JobCounts]:
        """Yield these counts, then the counts that include them, of the enclosing schedulers."""
        tally: JobCounts | None = self
        while tally is not None:
            yield tally
            tally = tally.outer

    def count_running(self, number: int) -> None:
        """Add a number, which may be negative, to the running jobs."""
        for tally in self.with_enclosing_schedulers():
            tally.running += number

    def count_settled(self, state: JobState, has_run: bool, is_restored: bool = False) -> None:
        """Count a job that has settled."""
        for tally in self.with_enclosing_schedulers():
            tally.restored += is_restored
            tally.running -= has_run
            tally.settled[state] += 1

    def add_jobs(self, jobs: int) -> None:
        """Add a number of jobs."""
        for tally in self.with_enclosing_schedulers():
            tally.jobs += jobs

    def count_unreached(self) -> None:
        """Count the jobs that still wait as unreached."""
        waiting = self.waiting
        for tally in self.with_enclosing_schedulers():
            tally.unreached += waiting

    def subtract_from_outer(self) -> None:
        """Subtract these counts from the counts of the enclosing schedulers."""
        for tally in self.with_enclosing_schedulers():
            if tally is not self:
                tally.jobs -= self.jobs
                tally.running -= self.running
                tally.restored -= self.restored
                tally.unreached -= self.unreached
                for state, number in self.settled.items():
                    tally.settled[state] -= number


class Model:
    """The state of one run: it updates the job records at each event, and notifies the display.

    Args:
        root: the outermost scheduler, with the records of all its jobs.
        source: answers queries about the run between its events.
        failures_shown_elsewhere: whether failures are printed in the log or after the run, so the monitor omits them.

    """

    def __init__(self, root: SchedulerRecord, source: Source, failures_shown_elsewhere: bool = False) -> None:
        self.root: Final = root
        self.source: Final = source
        self.clock: Final = source.clock
        self.began = self.clock()
        self.ended: float | None = None
        self.failures_shown_elsewhere: Final = failures_shown_elsewhere
        self.revision = 0  # incremented when jobs are added or replaced
        self.tallies: Final[dict[SchedulerRecord, JobCounts]] = {}
        # Sets of jobs, ordered by insertion.
        self.running: Final[dict[JobRecord, None]] = {}
        self.failures: Final[dict[JobRecord, None]] = {}
        self.forever_records: Final[dict[JobRecord, None]] = {}  # forever jobs, but not those inside forever jobs
        self.in_slots: Final[dict[JobRecord, None]] = {}  # running members of the outermost scheduler
        # The jobs that are ready to start, grouped by scheduler and needs.
        self.ready: Final[dict[tuple[SchedulerRecord, str], dict[JobRecord, None]]] = {}
        self._ready_keys: Final[dict[JobRecord, tuple[SchedulerRecord, str]]] = {}  # the key of each job in `ready`
        # The failures, grouped by the text of the exception.
        self.failure_kinds: Final[dict[str, dict[JobRecord, None]]] = {}
        self._register(root, None, is_separate=False)
        self._final: _verdict.Tally | None = None
        self.display = Display()

    @property
    def label(self) -> str:
        """The label of the outermost scheduler."""
        return self.root.label

    @property
    def slots(self) -> int | None:
        """The current number of slots of this run; None for no limit."""
        return self.source.window

    @property
    def slots_taken(self) -> int:
        """The number of slots in use; for a limiter, the tokens in use, including those of other schedulers."""
        tokens = self.source.tokens_taken
        return len(self.in_slots) if tokens is None else tokens

    @property
    def ending(self) -> str:
        """A word for a run that is about to end; otherwise ""."""
        return self.source.ending

    @property
    def tally(self) -> JobCounts:
        """The counts of the outermost scheduler."""
        return self.tallies[self.root]

    @property
    def total(self) -> int | None:
        """The number of jobs; None if unknown."""
        return self.tally.jobs

    @property
    def forever_jobs(self) -> int:
        """The number of forever jobs that have neither failed nor been blocked."""
        return sum(job.state not in _verdict.TROUBLE for job in list(self.forever_records))

    def elapsed(self) -> float:
        """Return the seconds since the run began, or its duration if it has ended."""
        return (self.ended if self.ended is not None else self.clock()) - self.began

    def verdict(self) -> Verdict:
        """Return the verdict on the run."""
        root = self.root
        if self._final is not None:
            counted = self._final
        elif root.keeps_jobs:
            jobs = [job for job in root.iterate_jobs() if not job.is_scheduler]
            counted = _verdict.Tally(jobs, len(self.failures))
        else:
            counted = _verdict.Tally()
            for state, number in self.tally.settled.items():  # includes jobs that the scheduler has dropped
                counted.add(state, number=number)
            counted.add(JobState.IDLE, number=self.tally.jobs - counted.jobs)
        culprit = root.culprit
        while isinstance(culprit, SchedulerRecord) and culprit.culprit is not None:
            culprit = culprit.culprit
        path = None if culprit is None else shorten(culprit.named.path)
        return verdict(root.stop_reason, counted, self.elapsed(), path)

    # ---- events

    def begin_nested(self, scheduler: SchedulerRecord) -> None:
        """Record that a nested scheduler begins another attempt, or begins with other jobs than before."""
        old = self.tallies[scheduler]
        old.subtract_from_outer()
        for key in [key for key in self.ready if key[0] is scheduler or key[0].is_inside(scheduler)]:
            del self.ready[key]
        for jobs in (self.running, self.failures, self.forever_records, *self.failure_kinds.values()):
            for job in [job for job in jobs if job.is_inside(scheduler)]:
                del jobs[job]
        self._register(scheduler, old.outer, scheduler.forever)
        self.display.wake()

    def add(self, job: JobRecord) -> None:
        """Record a new job."""
        assert job.outer is not None
        tally = self.tallies[job.outer]
        self._count_job(tally, job)
        if isinstance(job, SchedulerRecord):
            self._register(job, tally, job.forever)
        self.revision += 1
        self.display.wake()

    def schedule(self, job: JobRecord, needs: str = "") -> None:
        """Record that a job is ready to start, for the first time or again after a throttle."""
        outer = job.outer
        assert outer is not None
        if job.state is JobState.RUNNING and not job.forever:
            self.tallies[outer].count_running(-1)
            self.running.pop(job, None)
            self.in_slots.pop(job, None)
            job.started_at = None
        job.state = JobState.SCHEDULED
        if not (job.forever or job.is_scheduler or self.tallies[outer].is_separate):
            key = self._ready_keys[job] = outer, needs
            self.ready.setdefault(key, {})[job] = None
        self.display.wake()

    def start(self, job: JobRecord, at: float | None) -> None:
        """Record that a job starts."""
        job.state, job.started_at, job.attempts, job.waiting = JobState.RUNNING, at, 1, None
        self._remove_ready(job)
        outer = job.outer
        assert outer is not None
        if not job.forever and outer is self.root:
            self.in_slots[job] = None
        if not (job.forever or job.is_scheduler):
            tally = self.tallies[outer]
            tally.count_running(1)
            if not tally.is_separate:
                self.running[job] = None
        self.display.job_started(job)

    def start_attempt(self, job: JobRecord, attempt: int) -> None:
        """Record that a further attempt begins."""
        job.attempts = attempt
        self.display.job_retried(job)

    def mark_ready(self, job: JobRecord) -> None:
        """Record that a service is ready."""
        job.is_ready = True
        self.display.job_ready(job)

    def finish(self, job: JobRecord, state: JobState, at: float | None) -> None:
        """Record that a job has settled; the source has already updated the other fields of its record."""
        job.finished_at, job.state = at, state
        job.is_ready, job.status, job.waiting = False, "", None
        self.running.pop(job, None)
        self.in_slots.pop(job, None)
        self._remove_ready(job)
        if isinstance(job, SchedulerRecord):
            self.tallies[job].count_unreached()
        elif not job.forever:
            assert job.outer is not None
            self.tallies[job.outer].count_settled(state, job.started_at is not None, job.restored)
        if state is JobState.FAILED and not job.through_member:
            self.failures[job] = None
            kind = "" if job.error is None else _exception_text.one_line(job.error)
            self.failure_kinds.setdefault(kind, {})[job] = None
        self.display.job_finished(job)

    def _remove_ready(self, job: JobRecord) -> None:
        key = self._ready_keys.pop(job, None)
        if key is not None and (jobs := self.ready.get(key)):
            jobs.pop(job, None)

    @property
    def failed(self) -> int:
        """The number of failures, including schedulers that failed for a reason of their own."""
        return len(self.failures) if self._final is None else self._final.failures

    def replace_counts(self, counts: Mapping[str, int], failures: int) -> None:
        """Replace the counts by the run's own final counts, because events may have been dropped."""
        self._final = _verdict.Tally.from_counts(counts, failures)
        tally = self.tally
        for state in tally.settled:
            tally.settled[state] = counts.get(state.value, 0)
        tally.jobs = self._final.jobs
        tally.running = tally.unreached = 0

    def end(self) -> None:
        """Record that the run has ended, and stop the display."""
        self.ended = self.clock()
        self.tally.count_unreached()
        self.display.stop()

    # ---- jobs

    def _register(self, scheduler: SchedulerRecord, outer: JobCounts | None, is_separate: bool) -> None:
        """Count the jobs of a scheduler and of those nested in it."""
        todo = [(scheduler, outer, is_separate)]
        while todo:
            parent, outer, is_separate = todo.pop()
            tally = self.tallies[parent] = JobCounts(outer, is_separate)
            for job in parent.members:
                self._count_job(tally, job)
            todo += [(job, tally, job.forever) for job in parent.nested]
        self.revision += 1

    def _count_job(self, tally: JobCounts, job: JobRecord) -> None:
        if not job.forever:
            tally.rows += 1
            if not job.is_scheduler:
                tally.add_jobs(1)
        elif not tally.is_separate:
            self.forever_records[job] = None


def in_listing_order(model: Model) -> Iterator[tuple[JobRecord, int]]:
    """Yield the jobs that are not forever jobs in the order of the listing, each with its depth.

    Unlike the listing, this does not add implied requirements to the jobs; the run has added them before it began.
    """
    stack = [_members(model, model.root)]
    while stack:
        for job in stack[-1]:
            yield job, len(stack) - 1
            if isinstance(job, SchedulerRecord):
                stack.append(_members(model, job))
                break
        else:
            stack.pop()


def _members(model: Model, scheduler: SchedulerRecord) -> Iterator[JobRecord]:
    return iter([job for job in model.source.in_order(scheduler) if not job.forever])
