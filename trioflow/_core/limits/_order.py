"""The order of the ready jobs of one run, where it is not that of a plain queue: what each entry of a heap is.

A higher `priority` goes first, and then the policy decides. Ties start in the order in which the jobs became ready;
those that became ready together, in the order in which they were added.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from ..base._states import SCHEDULED
from ..job._job import AbstractJob
from .policy._outlook import RunOutlook

if TYPE_CHECKING:
    from .policy._named import RunPolicy
    from .policy._outlook import Ranks, Requirements

    Entry = tuple[Any, int, AbstractJob[Any]]

numbers: Final = itertools.count()
"""Each job that becomes ready gets the next number, whatever run it is in."""
numbers_of_first: Final = itertools.count(-1, -1)
"""Those that go before all others get these."""
numbers_of_throttled: Final = itertools.count(-(1 << 60))
"""Those that go before even these, in the order in which they were throttled, get these."""


class Order:
    """The order of the ready jobs of one run. `RankedJobs` works on its fields.

    Args:
        requirements: what a job waits for, among the jobs of the same scheduler.
        policy: what decides between jobs of the same priority.
        known: the expected durations that are known, in seconds.
        ranks: the ranks of the jobs, if the policy needs them.
        priorities: whether any job has a priority; to compare one more number takes time.

    """

    def __init__(
        self,
        requirements: Requirements,
        policy: RunPolicy,
        *,
        known: dict[AbstractJob[Any], float],
        ranks: Ranks | None = None,
        priorities: bool = False,
    ) -> None:
        self.requirements: Final = requirements
        self.policy: Final = policy
        self.outlook: Final = RunOutlook(known, ranks)
        # (key, number, job): the smallest starts first. An entry counts only while its job is SCHEDULED.
        self.heap: Final[list[Entry]] = []
        # All heaps: this one, and one for each set of needs, by its key.
        self.heaps: Final[dict[Any, list[Entry]]] = {(): self.heap}
        self.priorities = priorities
        # Jobs that are new, or that require more than before: their ranks are found before the next job starts.
        self.touched: Final[list[AbstractJob[Any]]] = []
        self.key: Callable[[AbstractJob[Any]], Any] = self._chosen_key()

    def before_all(self) -> Any:
        """Return a key that comes before all others."""
        first = self.policy.before_all
        return (-math.inf, first) if self.priorities else first

    def use_priorities(self) -> None:
        """Compare priorities from now on."""
        self.priorities = True
        self.key = self._chosen_key()
        for heap in self.heaps.values():
            heap[:] = map(self.with_priority, heap)  # their order stays

    def with_priority(self, entry: Entry) -> Entry:
        """Return an entry from before priorities were compared, of a job that has none, as it is now."""
        key, number, job = entry
        return (self.before_all() if number < 0 else (0, key), number, job)

    def note(self, job: AbstractJob[Any], seconds: float | None) -> None:
        """Take in a job that was added to the running scheduler, and its expected duration, if it is known."""
        if seconds is not None:
            self.outlook.known[job] = seconds
        if self.outlook.ranks is not None:
            self.outlook.ranks.note(job)
            self.touched.append(job)

    def note_requirements(self, job: AbstractJob[Any]) -> None:
        """Take in that an idle job requires more than before."""
        if self.outlook.ranks is not None:
            self.touched.append(job)

    def refresh(self) -> None:
        """Find the ranks of what was touched, and move the ready jobs whose rank has changed."""
        assert self.outlook.ranks is not None
        raised: Iterable[AbstractJob[Any]] = self.outlook.ranks.raise_above(self.touched, self.requirements)
        moved = [job for job in dict.fromkeys(raised) if job._state is SCHEDULED]
        keys = {job: self.key(job) for job in moved}
        for heap in self.heaps.values() if keys else ():
            heap[:] = [
                (keys[job], number, job) if job in keys and number >= 0 else (key, number, job)
                for key, number, job in heap
            ]
            heapq.heapify(heap)

    def _chosen_key(self) -> Callable[[AbstractJob[Any]], Any]:
        key = self.policy.keys(self.outlook)
        return (lambda job: (-job.priority, key(job))) if self.priorities else key
