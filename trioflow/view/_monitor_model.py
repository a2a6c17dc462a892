"""What a monitor knows of a run: counts, and which jobs are of interest.

The hooks write it, in the thread of the run; whoever draws reads it in another thread, without a lock, so that a
drawing never keeps the run waiting. What makes that safe:

- what is written are integers and dicts, each by one bytecode; a reader copies a dict by `list(...)`, which no other
  thread can cut in two, and goes through the copy;
- a reader that comes between two steps of one event sees a count that is off by one until the next picture;
- the states and times of jobs are read the same way, each once.

Each event costs O(1), times the depth of nesting: the counts of a nested scheduler are part of those further out. What
runs forever is apart, and all that is nested in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from .._core import _graph
from .._core._crew import UNLIMITED
from .._core._jobs import AbstractJob
from .._core._scheduler import BaseScheduler
from .._core._states import JobState

if TYPE_CHECKING:
    from .._core._run import Run


class Tally:
    """How many jobs a scheduler has, those nested in it included, and what has become of them.

    Schedulers, which are counted by what is in them, and forever jobs are left out.
    """

    __slots__ = ("is_apart", "jobs", "members", "outer", "rows", "running", "settled", "unreached")

    def __init__(self, outer: Tally | None, is_apart: bool = False) -> None:
        """Begin with no jobs, as a part of `outer`; or apart, if the scheduler runs for ever."""
        self.outer: Final = None if is_apart else outer
        self.is_apart: Final[bool] = is_apart or (outer is not None and outer.is_apart)
        self.members = 0  # of the scheduler itself, of whatever kind
        self.rows = 0  # those of them that do not run for ever
        self.jobs = 0
        self.running = 0
        self.settled = dict.fromkeys((state for state in JobState if state.is_settled), 0)
        self.unreached = 0  # their scheduler has ended without them

    @property
    def waiting(self) -> int:
        """How many have not started, and may still do so."""
        return max(0, self.jobs - self.running - self.unreached - sum(self.settled.values()))

    @property
    def is_fresh(self) -> bool:
        """Whether none of the jobs has been told of yet."""
        return not (self.running or self.unreached or any(self.settled.values()))

    def and_outer(self) -> Iterator[Tally]:
        """Yield this one and those that it is a part of."""
        tally: Tally | None = self
        while tally is not None:
            yield tally
            tally = tally.outer

    def start(self) -> None:
        """Count one more that runs."""
        for tally in self.and_outer():
            tally.running += 1

    def settle(self, state: JobState, has_run: bool) -> None:
        """Count one that is in a final state."""
        for tally in self.and_outer():
            tally.running -= has_run
            tally.settled[state] += 1

    def grow(self, jobs: int) -> None:
        """Count further jobs."""
        for tally in self.and_outer():
            tally.jobs += jobs

    def give_up(self) -> None:
        """Count those that wait as never reached."""
        waiting = self.waiting
        for tally in self.and_outer():
            tally.unreached += waiting

    def forget(self) -> None:
        """Take all that is counted here out of the counts further out."""
        for tally in self.and_outer():
            if tally is not self:
                tally.jobs -= self.jobs
                tally.running -= self.running
                tally.unreached -= self.unreached
                for state, number in self.settled.items():
                    tally.settled[state] -= number


class Model:
    """One run of a scheduler, as a monitor sees it."""

    def __init__(self, root: BaseScheduler) -> None:
        """Take stock of `root`, whose run begins."""
        assert root._run is not None
        self.root: Final = root
        self.clock: Final = root._run.clock
        self.began: Final = self.clock()
        self.slots: Final = slots(root._run)
        self.ended: float | None = None
        self.edition = 0  # how often the set of jobs has changed
        self.tallies: Final[dict[BaseScheduler, Tally]] = {}
        # Each of these in the order in which the jobs came in; the values mean nothing.
        self.running: Final[dict[AbstractJob[Any], None]] = {}
        self.failures: Final[dict[AbstractJob[Any], None]] = {}
        self.beside: Final[dict[AbstractJob[Any], None]] = {}
        self._register(root, None, is_apart=False)

    @property
    def tally(self) -> Tally:
        """The counts of all jobs."""
        return self.tallies[self.root]

    def elapsed(self) -> float:
        """Return the seconds since the run began, or that it took."""
        return (self.ended if self.ended is not None else self.clock()) - self.began

    # ---- events

    def begin_nested(self, scheduler: BaseScheduler) -> None:
        """Take note that a nested scheduler begins; maybe once more, or with other jobs than it had."""
        old = self.tallies[scheduler]
        if old.is_fresh and old.members == len(scheduler) and scheduler._nested.keys() <= self.tallies.keys():
            return
        old.forget()
        for jobs in (self.running, self.failures, self.beside):
            for job in [one for one in jobs if is_inside(one, scheduler)]:
                del jobs[job]
        self._register(scheduler, old.outer, scheduler._forever)

    def add(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Take note of a new job."""
        self._count(self.tallies[scheduler], job)
        if isinstance(job, BaseScheduler):
            self._register(job, self.tallies[scheduler], job.forever)
        self.edition += 1

    def start(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Take note that a job starts."""
        if isinstance(job, BaseScheduler) or job._forever:
            return
        tally = self.tallies[scheduler]
        tally.start()
        if not tally.is_apart:
            self.running[job] = None

    def finish(self, scheduler: BaseScheduler, job: AbstractJob[Any]) -> None:
        """Take note that a job has settled."""
        self.running.pop(job, None)
        if isinstance(job, BaseScheduler):
            self.tallies[job].give_up()
        elif not job._forever:
            self.tallies[scheduler].settle(job._state, job._started_at is not None)
        if job._state is JobState.FAILED and not is_through_a_job(job):
            self.failures[job] = None

    def end(self) -> None:
        """Take note that the run has ended."""
        self.ended = self.clock()
        self.tally.give_up()

    # ---- jobs

    def _register(self, scheduler: BaseScheduler, outer: Tally | None, is_apart: bool) -> None:
        todo = [(scheduler, outer, is_apart)]
        while todo:
            parent, outer, is_apart = todo.pop()
            tally = self.tallies[parent] = Tally(outer, is_apart)
            for job in parent._jobs:
                self._count(tally, job)
            todo += [(job, tally, job._forever) for job in parent._nested if isinstance(job, BaseScheduler)]
        self.edition += 1

    def _count(self, tally: Tally, job: AbstractJob[Any]) -> None:
        tally.members += 1
        if not job._forever:
            tally.rows += 1
            if not isinstance(job, BaseScheduler):
                tally.grow(1)
        elif not tally.is_apart:
            self.beside[job] = None


def slots(run: Run) -> float:
    """Return how many jobs of a run that is about to begin may run at once: not always what its scheduler says."""
    if run.crew.window is not None:
        return max(1.0, float(run.crew.window.limiter.total_tokens))
    return math.inf if run.crew.free == UNLIMITED else run.crew.free


def is_inside(job: AbstractJob[Any], scheduler: BaseScheduler) -> bool:
    """Tell whether `job` is in `scheduler`, at whatever depth."""
    parent = job._scheduler
    while parent is not None and parent is not scheduler:
        parent = parent._scheduler
    return parent is scheduler


def is_through_a_job(job: AbstractJob[Any]) -> bool:
    """Tell whether it is a scheduler that failed because one of its jobs did: that one is told of instead."""
    culprit = job.culprit if isinstance(job, BaseScheduler) else None
    return culprit is not None and culprit.raised_exception() is not None


def in_listing_order(scheduler: BaseScheduler, depth: int | None) -> Iterator[tuple[AbstractJob[Any], int]]:
    """Yield the jobs that do not run for ever as the listing has them, each with its depth; none deeper than `depth`.

    Unlike the listing it writes nothing: a run has counted what implies what before its first job.
    """
    stack = [_members(scheduler)]
    while stack:
        for job in stack[-1]:
            yield job, len(stack) - 1
            if isinstance(job, BaseScheduler) and (depth is None or len(stack) <= depth):
                stack.append(_members(job))
                break
        else:
            stack.pop()


def _members(scheduler: BaseScheduler) -> Iterator[AbstractJob[Any]]:
    order = _graph.topological_order(list(scheduler._jobs), scheduler._waits_for)
    return iter([job for job in order if not job._forever])
