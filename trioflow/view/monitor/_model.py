"""What a monitor knows about a run: counts, and the jobs of interest.

The hooks write it in the thread of the run; the drawing thread reads it without a lock, so that drawing never makes the
run wait. That is safe for three reasons:

- only integers and dicts are written, each by one bytecode; a reader copies a dict with `list(...)`, which no other
  thread can interrupt, and iterates over the copy;
- a reader that comes between two steps of one event sees a count that is off by one until the next picture;
- the states and times of jobs are read in the same way, each of them once.

Each event costs O(1) times the depth of nesting, because the counts of a nested scheduler are part of those further
out. Forever jobs, and everything nested in them, are counted apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..._core.door.reading import AnyJob, BaseScheduler, JobState
from ..text import _counts, _short_values
from ._asked import current_run, failed_through_member, in_order, is_inside, is_scheduler, nested_in


class JobCounts:
    """How many jobs a scheduler has, nested ones included, and what became of them.

    Forever jobs are not counted, nor are schedulers themselves: their jobs are.
    """

    __slots__ = ("is_apart", "jobs", "members", "outer", "restored", "rows", "running", "settled", "unreached")

    def __init__(self, outer: JobCounts | None, is_apart: bool = False) -> None:
        """Start with no jobs, as a part of `outer`; or apart, if the scheduler is a forever job."""
        self.outer: Final = None if is_apart else outer
        self.is_apart: Final[bool] = is_apart or (outer is not None and outer.is_apart)
        self.members = 0  # of the scheduler itself, of whatever kind
        self.rows = 0  # those of them that are not forever jobs
        self.jobs = 0
        self.running = 0
        self.restored = 0  # from a journal; these are among the settled
        self.settled = dict.fromkeys((state for state in JobState if state.is_settled), 0)
        self.unreached = 0  # their scheduler has ended before they started

    @property
    def waiting(self) -> int:
        """How many have not started but still may."""
        return max(0, self.jobs - self.running - self.unreached - sum(self.settled.values()))

    @property
    def is_fresh(self) -> bool:
        """Whether nothing has happened to any of the jobs yet."""
        return not (self.running or self.unreached or any(self.settled.values()))

    def and_outer(self) -> Iterator[JobCounts]:
        """Yield this tally and those that it is a part of."""
        tally: JobCounts | None = self
        while tally is not None:
            yield tally
            tally = tally.outer

    def count_running(self, number: int) -> None:
        """Count so many more running jobs."""
        for tally in self.and_outer():
            tally.running += number

    def settle(self, state: JobState, has_run: bool, is_restored: bool = False) -> None:
        """Count a job that has settled."""
        for tally in self.and_outer():
            tally.restored += is_restored
            tally.running -= has_run
            tally.settled[state] += 1

    def grow(self, jobs: int) -> None:
        """Count further jobs."""
        for tally in self.and_outer():
            tally.jobs += jobs

    def give_up(self) -> None:
        """Count the waiting jobs as never reached."""
        waiting = self.waiting
        for tally in self.and_outer():
            tally.unreached += waiting

    def forget(self) -> None:
        """Subtract everything counted here from the counts further out."""
        for tally in self.and_outer():
            if tally is not self:
                tally.jobs -= self.jobs
                tally.running -= self.running
                tally.restored -= self.restored
                tally.unreached -= self.unreached
                for state, number in self.settled.items():
                    tally.settled[state] -= number


class Model:
    """One run of a scheduler, as a monitor sees it."""

    def __init__(self, root: BaseScheduler, failures_are_told: bool = False) -> None:
        """Count the jobs of `root`, whose run begins; somebody else may tell its failures, in a log or at its end."""
        run = current_run(root)
        assert run is not None
        self.root: Final = root
        self.clock: Final = run.clock
        self.began: Final = self.clock()
        self.ended: float | None = None
        self.failures_are_told: Final = failures_are_told
        self.edition = 0  # how often the set of jobs has changed
        self.tallies: Final[dict[BaseScheduler, JobCounts]] = {}
        # Ordered sets, in the order in which the jobs came in.
        self.running: Final[dict[AnyJob, None]] = {}
        self.failures: Final[dict[AnyJob, None]] = {}
        self.beside: Final[dict[AnyJob, None]] = {}  # forever jobs
        self.in_slots: Final[dict[AnyJob, None]] = {}  # members of the outermost scheduler that take a slot of it
        # Jobs that are ready, together if they are members of one scheduler and need the same.
        self.ready: Final[dict[tuple[BaseScheduler, str], dict[AnyJob, None]]] = {}
        self._ready_as: Final[dict[AnyJob, tuple[BaseScheduler, str]]] = {}  # the key of each of them
        # Equal failures; those of members of the outermost scheduler apart.
        self.failure_kinds: Final[dict[tuple[bool, str], dict[AnyJob, None]]] = {}
        self._register(root, None, is_apart=False)

    @property
    def slots(self) -> int | None:
        """How many jobs may run at once now, in this run, which may have a window of its own; None for no limit."""
        return self.root.window_size

    @property
    def slots_taken(self) -> int:
        """How many of them are taken; of a limiter, by jobs of other schedulers, too."""
        run = current_run(self.root)
        tokens = None if run is None else run.tokens_taken
        return len(self.in_slots) if tokens is None else tokens

    @property
    def tally(self) -> JobCounts:
        """The counts of all jobs."""
        return self.tallies[self.root]

    @property
    def total(self) -> int | None:
        """How many jobs there are in all, as far as is known; None where nobody knows."""
        return self.tally.jobs

    @property
    def background(self) -> int:
        """How many forever jobs are background jobs: all but those in trouble, which count as what they are."""
        return sum(job.state not in _counts.TROUBLE for job in list(self.beside))

    def elapsed(self) -> float:
        """Return the seconds since the run began, or how long it took."""
        return (self.ended if self.ended is not None else self.clock()) - self.began

    # ---- events

    def begin_nested(self, scheduler: BaseScheduler) -> None:
        """Record that a nested scheduler begins, perhaps again, or with other jobs than before."""
        old = self.tallies[scheduler]
        if old.is_fresh and old.members == len(scheduler) and self.tallies.keys() >= {*nested_in(scheduler)}:
            return
        old.forget()
        for key in [key for key in self.ready if key[0] is scheduler or is_inside(key[0], scheduler)]:
            del self.ready[key]
        for jobs in (self.running, self.failures, self.beside, *self.failure_kinds.values()):
            for job in [one for one in jobs if is_inside(one, scheduler)]:
                del jobs[job]
        self._register(scheduler, old.outer, scheduler.forever)

    def add(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record a new job."""
        self._count(self.tallies[scheduler], job)
        if is_scheduler(job):
            self._register(job, self.tallies[scheduler], job.forever)
        self.edition += 1

    def schedule(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record that a job is ready, and waits until it may start."""
        if not (job.forever or is_scheduler(job) or self.tallies[scheduler].is_apart):
            key = self._ready_as[job] = _alike(scheduler, job)
            self.ready.setdefault(key, {})[job] = None

    def start(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record that a job starts."""
        self._no_longer_ready(job)
        if scheduler is self.root and not job.forever:
            self.in_slots[job] = None
        if is_scheduler(job) or job.forever:
            return
        tally = self.tallies[scheduler]
        tally.count_running(1)
        if not tally.is_apart:
            self.running[job] = None

    def put_back(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record that a running job was throttled, and waits again."""
        if not job.forever:
            self.tallies[scheduler].count_running(-1)
            self.running.pop(job, None)
            self.in_slots.pop(job, None)

    def finish(self, scheduler: BaseScheduler, job: AnyJob) -> None:
        """Record that a job has settled."""
        self.running.pop(job, None)
        self.in_slots.pop(job, None)
        self._no_longer_ready(job)
        if is_scheduler(job):
            self.tallies[job].give_up()
        elif not job.forever:
            self.tallies[scheduler].settle(job.state, job.started_at is not None, job.restored)
        if job.state is JobState.FAILED and not failed_through_member(job):
            self.failures[job] = None
            error = job.raised_exception()
            kind = scheduler is self.root, "" if error is None else _short_values.exception(error)
            self.failure_kinds.setdefault(kind, {})[job] = None

    def _no_longer_ready(self, job: AnyJob) -> None:
        key = self._ready_as.pop(job, None)
        if key is not None and (jobs := self.ready.get(key)):
            jobs.pop(job, None)

    def end(self) -> None:
        """Record that the run has ended."""
        self.ended = self.clock()
        self.tally.give_up()

    # ---- jobs

    def _register(self, scheduler: BaseScheduler, outer: JobCounts | None, is_apart: bool) -> None:
        todo = [(scheduler, outer, is_apart)]
        while todo:
            parent, outer, is_apart = todo.pop()
            tally = self.tallies[parent] = JobCounts(outer, is_apart)
            for job in parent:
                self._count(tally, job)
            todo += [(job, tally, job.forever) for job in nested_in(parent)]
        self.edition += 1

    def _count(self, tally: JobCounts, job: AnyJob) -> None:
        tally.members += 1
        if not job.forever:
            tally.rows += 1
            if not is_scheduler(job):
                tally.grow(1)
        elif not tally.is_apart:
            self.beside[job] = None


def _alike(scheduler: BaseScheduler, job: AnyJob) -> tuple[BaseScheduler, str]:
    """Return what jobs that wait for the same have in common."""
    needs = getattr(job, "needs", None)  # a job that is told by events has none
    return scheduler, str(needs) if needs else ""


def in_listing_order(scheduler: BaseScheduler, depth: int | None) -> Iterator[tuple[AnyJob, int]]:
    """Yield the jobs that are not forever jobs in the order of the listing, each with its depth, down to `depth`.

    Unlike the listing, it changes nothing: the run has found implied requirements before its first job.
    """
    stack = [_members(scheduler)]
    while stack:
        for job in stack[-1]:
            yield job, len(stack) - 1
            if is_scheduler(job) and (depth is None or len(stack) <= depth):
                stack.append(_members(job))
                break
        else:
            stack.pop()


def _members(scheduler: BaseScheduler) -> Iterator[AnyJob]:
    return iter([job for job in in_order(scheduler) if not job.forever])
