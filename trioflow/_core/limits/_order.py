"""Policies: which of several ready jobs starts first.

- `"fifo"`: the one that became ready first.
- `"critical-path"`: the one with the longest expected path to an exit. This is list scheduling by *upward rank*: a
  job's rank is its own duration and the longest rank of a job that requires it. Hu 1961 ("Parallel Sequencing and
  Assembly Line Problems") did so for equal durations; Adam, Chandy and Dickson 1974 ("A Comparison of List Schedules
  for Parallel Processing Systems") found it within 5 % of the optimum in most graphs, and named it HLFET, highest level
  first with estimated times; HEFT (Topcuoglu, Hariri and Wu 2002) calls it upward rank. O(V + E).
- `"depth-first"`: the one that became ready last, so that intermediate results are used soon.
- `"auto"`: critical path as soon as one job has an expected duration, and otherwise first in first out.

Under all of them a higher `priority` goes first, and ties start in the order in which the jobs became ready; those that
became ready together, in the order in which they were added.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from ..base import _graph
from ..base._states import SCHEDULED, JobState
from ..job._job import AbstractJob

if TYPE_CHECKING:
    Entry = tuple[Any, int, AbstractJob[Any]]
    Requirements = Callable[[AbstractJob[Any]], Iterable[AbstractJob[Any]]]

Policy = Literal["auto", "fifo", "critical-path", "depth-first"]
numbers: Final = itertools.count()
"""Each job that becomes ready gets the next number, whatever run it is in."""
numbers_of_first: Final = itertools.count(-1, -1)
"""Those that go before all others get these."""
numbers_of_throttled: Final = itertools.count(-(1 << 60))
"""Those that go before even these, in the order in which they were throttled, get these."""
POLICIES: Final[tuple[str, ...]] = get_args(Policy)
USUAL_DURATION: Final = 1.0
"""What a job counts as, in seconds, if no duration is known."""


def checked(policy: Any, who: str) -> Policy:
    """Check the policy that a user gave for the scheduler called `who`, and return it."""
    if policy not in POLICIES:
        raise ValueError(f"policy={policy!r} of {who}: choose one of {', '.join(POLICIES)}")
    chosen: Policy = policy
    return chosen


def _median(numbers: Iterable[float]) -> float:
    """Return the median; the module `statistics` would bring half of the standard library with it."""
    ordered = sorted(numbers)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


class Ranks:
    """The upward ranks of the jobs of one scheduler; kept right when jobs and requirements are added.

    Args:
        known: the expected durations that are known, in seconds. Others count as the median of these, or as 1.

    """

    def __init__(self, known: dict[AbstractJob[Any], float]) -> None:
        self._known: Final = known
        self._unknown: Final = _median(known.values()) if known else USUAL_DURATION
        # The ranks with their sign changed: the smallest goes first.
        self.negated: Final[dict[AbstractJob[Any], float]] = {}

    def find(self, jobs: list[AbstractJob[Any]], requirements: Requirements) -> Iterator[None]:
        """Find the ranks of all jobs, given in topological order; yield where a pause is due. O(V + E)."""
        known, unknown, negated = self._known, self._unknown, self.negated
        below: dict[AbstractJob[Any], float] = {}
        for chunk, pause_is_due in _graph.in_chunks(jobs[::-1]):
            for job in chunk:
                negated[job] = rank = below.pop(job, 0.0) - known.get(job, unknown)
                for requirement in requirements(job):
                    if rank < below.get(requirement, 0.0):
                        below[requirement] = rank
            if pause_is_due:
                yield

    def longest(self) -> float:
        """Return the length of the longest path in seconds."""
        return -min(self.negated.values(), default=0.0)

    def note(self, job: AbstractJob[Any], seconds: float | None) -> None:
        """Rank a new job by itself."""
        if seconds is not None:
            self._known[job] = seconds
        self.negated[job] = -self._known.get(job, self._unknown)

    def raise_above(self, touched: list[AbstractJob[Any]], requirements: Requirements) -> Iterator[AbstractJob[Any]]:
        """Take jobs that are new, or require more than before; raise what they require, and yield what was raised.

        Only jobs that have not started count. If each job comes after those that it requires, which is how people add
        them, no rank is changed twice.
        """
        known, negated = self._known, self.negated
        while touched:
            job = touched.pop()
            for requirement in requirements(job):
                if requirement._state is JobState.IDLE or requirement._state is SCHEDULED:
                    rank = negated[job] - known.get(requirement, self._unknown)
                    if rank < negated[requirement]:
                        negated[requirement] = rank
                        touched.append(requirement)
                        yield requirement


class Order:
    """The order of the ready jobs of one run, if it is not first in first out. `RankedJobs` works on its fields.

    Args:
        requirements: what a job waits for, among the jobs of the same scheduler.
        ranks: for critical path: the ranks; otherwise None.
        depth_first: whether the job that became ready last goes first; without it and ranks, the first one does.
        priorities: whether any job has a priority; to compare one more number takes time.

    """

    def __init__(
        self,
        requirements: Requirements,
        *,
        ranks: Ranks | None = None,
        depth_first: bool = False,
        priorities: bool = False,
    ) -> None:
        self.requirements: Final = requirements
        # (key, number, job): the smallest starts first. An entry counts only while its job is SCHEDULED.
        self.heap: Final[list[Entry]] = []
        # All heaps: this one, and one for each kind of need, by its key.
        self.heaps: Final[dict[Any, list[Entry]]] = {(): self.heap}
        self.ranks: Final = ranks
        self.depth_first: Final = depth_first
        self.priorities = priorities
        # Jobs that are new, or that require more than before: their ranks are found before the next job starts.
        self.touched: Final[list[AbstractJob[Any]]] = []
        self.was_taken = False  # whether a job was taken since the last one became ready
        self._batch = 0
        self.key: Callable[[AbstractJob[Any]], Any] = self._chosen_key()

    def before_all(self) -> Any:
        """Return a key that comes before all others."""
        return (-math.inf, -math.inf) if self.priorities else -math.inf

    def use_priorities(self) -> None:
        """Compare priorities from now on."""
        self.priorities = True
        self.key = self._chosen_key()
        for heap in self.heaps.values():
            heap[:] = map(self.with_priority, heap)
            heapq.heapify(heap)

    def with_priority(self, entry: Entry) -> Entry:
        """Return an entry from before priorities were compared as it is now."""
        key, number, job = entry
        return (self.before_all() if number < 0 else (-job.priority, key), number, job)

    def refresh(self) -> None:
        """Find the ranks of what was touched, and move the ready jobs whose rank has changed."""
        assert self.ranks is not None
        moved = {job for job in self.ranks.raise_above(self.touched, self.requirements) if job._state is SCHEDULED}
        for heap in self.heaps.values() if moved else ():
            heap[:] = [
                (self.key(job), number, job) if job in moved and number >= 0 else (key, number, job)
                for key, number, job in heap
            ]
            heapq.heapify(heap)

    def _chosen_key(self) -> Callable[[AbstractJob[Any]], Any]:
        key: Callable[[AbstractJob[Any]], float]
        if self.ranks is not None:
            key = self.ranks.negated.__getitem__
        else:
            key = self._batch_of if self.depth_first else _same
        return (lambda job: (-job.priority, key(job))) if self.priorities else key

    def _batch_of(self, job: AbstractJob[Any]) -> float:
        if self.was_taken:  # what became ready before is older
            self.was_taken = False
            self._batch -= 1
        return self._batch


def _same(job: AbstractJob[Any]) -> float:
    return 0.0
