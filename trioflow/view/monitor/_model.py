"""The model of a monitor: the counts of a run, and its jobs of interest.

The hooks write it in the thread of the run. The drawing thread reads it without a lock, so drawing never makes the run
wait. That is safe for three reasons:

- only integers and dicts are written, each by one bytecode; a reader copies a dict with `list(...)`, which no other
  thread can interrupt, and iterates over the copy;
- a reader between two steps of one event sees a count that is off by one until the next picture;
- states and times of jobs are each read once, in the same way.

Each event costs O(depth of nesting), because the counts of a nested scheduler are included in the counts of its
enclosing ones. Forever jobs, and everything nested in them, are counted apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ..._core.api.views import JobState, shortened
from ..text import _exception_text, _verdict
from ..text._verdict import Verdict, verdict
from ._display import Display
from ._records import JobRecord, SchedulerRecord, Source


class JobCounts:
    """The counts of a scheduler's jobs by state, nested ones included.

    Neither forever jobs nor schedulers themselves are counted; the jobs of schedulers are.
    """

    __slots__ = ("is_apart", "jobs", "outer", "restored", "rows", "running", "settled", "unreached")

    def __init__(self, outer: JobCounts | None, is_apart: bool = False) -> None:
        """Start with no jobs, as a part of `outer`; or apart, if the scheduler is a forever job."""
        self.outer: Final = None if is_apart else outer
        self.is_apart: Final[bool] = is_apart or (outer is not None and outer.is_apart)
        self.rows = 0  # members of the scheduler itself that are not forever jobs
        self.jobs = 0
        self.running = 0
        self.restored = 0  # from a journal; these are among the settled
        self.settled = dict.fromkeys((state for state in JobState if state.is_settled), 0)
        self.unreached = 0  # never reached: their scheduler ended first

    @property
    def waiting(self) -> int:
        """The number of jobs that may still start."""
        return max(0, self.jobs - self.running - self.unreached - sum(self.settled.values()))

    @property
    def is_fresh(self) -> bool:
        """Whether no job has started or settled yet."""
        return not (self.running or self.unreached or any(self.settled.values()))

    def and_outer(self) -> Iterator[JobCounts]:
        """Yield these counts and the counts of all enclosing schedulers."""
        tally: JobCounts | None = self
        while tally is not None:
            yield tally
            tally = tally.outer

    def count_running(self, number: int) -> None:
        """Add to the number of running jobs."""
        for tally in self.and_outer():
            tally.running += number

    def settle(self, state: JobState, has_run: bool, is_restored: bool = False) -> None:
        """Count a job that has settled."""
        for tally in self.and_outer():
            tally.restored += is_restored
            tally.running -= has_run
            tally.settled[state] += 1

    def grow(self, jobs: int) -> None:
        """Count more jobs."""
        for tally in self.and_outer():
            tally.jobs += jobs

    def give_up(self) -> None:
        """Count the waiting jobs as never reached."""
        waiting = self.waiting
        for tally in self.and_outer():
            tally.unreached += waiting

    def forget(self) -> None:
        """Subtract these counts from the counts of the enclosing schedulers."""
        for tally in self.and_outer():
            if tally is not self:
                tally.jobs -= self.jobs
                tally.running -= self.running
                tally.restored -= self.restored
                tally.unreached -= self.unreached
                for state, number in self.settled.items():
                    tally.settled[state] -= number


class Model:
    """One run of a scheduler, as a monitor sees it: the one writer of its records; its display shows it.

    Args:
        root: the scheduler, whose run begins, with all its jobs.
        source: the run, to be polled between its events.
        failures_are_told: whether failures are printed elsewhere, in a log or at the end.

    """

    def __init__(self, root: SchedulerRecord, source: Source, failures_are_told: bool = False) -> None:
        self.root: Final = root
        self.source: Final = source
        self.clock: Final = source.clock
        self.began = self.clock()
        self.ended: float | None = None
        self.failures_are_told: Final = failures_are_told
        self.edition = 0  # the number of changes of the set of jobs
        self.tallies: Final[dict[SchedulerRecord, JobCounts]] = {}
        # Ordered sets, in the order in which the jobs came in.
        self.running: Final[dict[JobRecord, None]] = {}
        self.failures: Final[dict[JobRecord, None]] = {}
        self.beside: Final[dict[JobRecord, None]] = {}  # forever jobs
        self.in_slots: Final[dict[JobRecord, None]] = {}  # members of the outermost scheduler that take a slot
        # Jobs that are ready, together if they are members of one scheduler and need the same.
        self.ready: Final[dict[tuple[SchedulerRecord, str], dict[JobRecord, None]]] = {}
        self._ready_as: Final[dict[JobRecord, tuple[SchedulerRecord, str]]] = {}  # the key of each of them
        # Equal failures, by their text.
        self.failure_kinds: Final[dict[str, dict[JobRecord, None]]] = {}
        self._register(root, None, is_apart=False)
        self._final: _verdict.Tally | None = None
        self.display = Display()  # where it is shown

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
        """The number of taken slots; for a limiter, including slots of other schedulers."""
        tokens = self.source.tokens_taken
        return len(self.in_slots) if tokens is None else tokens

    @property
    def ending(self) -> str:
        """A word for a run that is about to end."""
        return self.source.ending

    @property
    def tally(self) -> JobCounts:
        """The counts of all jobs."""
        return self.tallies[self.root]

    @property
    def total(self) -> int | None:
        """The number of jobs; None if unknown."""
        return self.tally.jobs

    @property
    def forever_jobs(self) -> int:
        """The number of forever jobs, without failed and blocked ones, which count by their state."""
        return sum(job.state not in _verdict.TROUBLE for job in list(self.beside))

    def elapsed(self) -> float:
        """Return the seconds since the run began, or its duration."""
        return (self.ended if self.ended is not None else self.clock()) - self.began

    def verdict(self) -> Verdict:
        """Return the verdict on the run, in the words of all views."""
        root = self.root
        if self._final is not None:
            counted = self._final
        elif root.keeps_jobs:
            jobs = [job for job in root.iterate_jobs() if not job.is_scheduler]
            counted = _verdict.Tally(jobs, len(self.failures))
        else:
            counted = _verdict.Tally()
            for state, number in self.tally.settled.items():  # includes jobs that are gone
                counted.add(state, number=number)
            counted.add(JobState.IDLE, number=self.tally.jobs - counted.jobs)
        culprit = root.culprit
        while isinstance(culprit, SchedulerRecord) and culprit.culprit is not None:
            culprit = culprit.culprit
        path = None if culprit is None else shortened(culprit.named.path)
        return verdict(root.stop_reason, counted, self.elapsed(), path)

    # ---- events

    def begin_nested(self, scheduler: SchedulerRecord) -> None:
        """Record that a nested scheduler begins again, or with other jobs than before."""
        old = self.tallies[scheduler]
        old.forget()
        for key in [key for key in self.ready if key[0] is scheduler or key[0].is_inside(scheduler)]:
            del self.ready[key]
        for jobs in (self.running, self.failures, self.beside, *self.failure_kinds.values()):
            for job in [job for job in jobs if job.is_inside(scheduler)]:
                del jobs[job]
        self._register(scheduler, old.outer, scheduler.forever)
        self.display.wake()

    def add(self, job: JobRecord) -> None:
        """Record a new job."""
        assert job.outer is not None
        tally = self.tallies[job.outer]
        self._count(tally, job)
        if isinstance(job, SchedulerRecord):
            self._register(job, tally, job.forever)
        self.edition += 1
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
        if not (job.forever or job.is_scheduler or self.tallies[outer].is_apart):
            key = self._ready_as[job] = outer, needs
            self.ready.setdefault(key, {})[job] = None
        self.display.wake()

    def start(self, job: JobRecord, at: float | None) -> None:
        """Record that a job starts."""
        job.state, job.started_at, job.attempts, job.waiting = JobState.RUNNING, at, 1, None
        self._no_longer_ready(job)
        outer = job.outer
        assert outer is not None
        if not job.forever and outer is self.root:
            self.in_slots[job] = None
        if not (job.forever or job.is_scheduler):
            tally = self.tallies[outer]
            tally.count_running(1)
            if not tally.is_apart:
                self.running[job] = None
        self.display.job_started(job)

    def try_again(self, job: JobRecord, attempt: int) -> None:
        """Record that a further attempt begins."""
        job.attempts = attempt
        self.display.job_again(job)

    def make_ready(self, job: JobRecord) -> None:
        """Record that a service is ready."""
        job.is_ready = True
        self.display.job_ready(job)

    def finish(self, job: JobRecord, state: JobState, at: float | None) -> None:
        """Record that a job has settled; the other facts of its end are in its record."""
        job.finished_at, job.state = at, state
        job.is_ready, job.status, job.waiting = False, "", None
        self.running.pop(job, None)
        self.in_slots.pop(job, None)
        self._no_longer_ready(job)
        if isinstance(job, SchedulerRecord):
            self.tallies[job].give_up()
        elif not job.forever:
            assert job.outer is not None
            self.tallies[job.outer].settle(state, job.started_at is not None, job.restored)
        if state is JobState.FAILED and not job.through_member:
            self.failures[job] = None
            kind = "" if job.error is None else _exception_text.one_line(job.error)
            self.failure_kinds.setdefault(kind, {})[job] = None
        self.display.job_finished(job)

    def _no_longer_ready(self, job: JobRecord) -> None:
        key = self._ready_as.pop(job, None)
        if key is not None and (jobs := self.ready.get(key)):
            jobs.pop(job, None)

    @property
    def failed(self) -> int:
        """The number of failures, of schedulers by themselves too."""
        return len(self.failures) if self._final is None else self._final.failures

    def count_at_end(self, counts: Mapping[str, int], failures: int) -> None:
        """Replace the counts by those that the run wrote at its end: events may be missing."""
        self._final = _verdict.Tally.from_counts(counts, failures)
        tally = self.tally
        for state in tally.settled:
            tally.settled[state] = counts.get(state.value, 0)
        tally.jobs = self._final.jobs
        tally.running = tally.unreached = 0

    def end(self) -> None:
        """Record that the run has ended, and release the output."""
        self.ended = self.clock()
        self.tally.give_up()
        self.display.stop()

    # ---- jobs

    def _register(self, scheduler: SchedulerRecord, outer: JobCounts | None, is_apart: bool) -> None:
        todo = [(scheduler, outer, is_apart)]
        while todo:
            parent, outer, is_apart = todo.pop()
            tally = self.tallies[parent] = JobCounts(outer, is_apart)
            for job in parent.members:
                self._count(tally, job)
            todo += [(job, tally, job.forever) for job in parent.nested]
        self.edition += 1

    def _count(self, tally: JobCounts, job: JobRecord) -> None:
        if not job.forever:
            tally.rows += 1
            if not job.is_scheduler:
                tally.grow(1)
        elif not tally.is_apart:
            self.beside[job] = None


def in_listing_order(model: Model) -> Iterator[tuple[JobRecord, int]]:
    """Yield the jobs that are not forever jobs in the order of the listing, each with its depth.

    Unlike the listing, this has no side effects: the run has found implied requirements before its first job.
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
