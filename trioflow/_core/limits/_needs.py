"""Which of the ready jobs may start, if some of them need resources.

Jobs with the same needs are of one `Kind`. Of each kind only the first can start next, so a look at the queue is a look
at one job for each kind.

A job that does not fit lets later ones pass that need one of its resources, at most `backfill` times. Then it is *due*:
nothing that needs one of its resources starts before it. So it starts when those that run have ended, and nobody
starves. (Backfilling with a reservation for whoever waits comes from batch systems: Lifka 1995, "The ANL/IBM SP
scheduling system". There users say how long a job takes, which nobody knows here; so what is limited is the number of
those that pass.)

- Which of two jobs is first is decided by the policy, if they are in the same run, and otherwise by when they became
  ready.
- A job whose own run has no free slot does not wait for resources, so it is not overtaken, and keeps nobody waiting.
- A job inside a scheduler that has some of a resource is not kept waiting by one that waits for this resource: that
  would wait for itself.
- Time alone lets a job start that waits for a rate, or for the end of a throttle. So whoever finds that nothing can
  start sets a timer for the first of these times, and the run looks again.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ..base._states import SCHEDULED
from ..job._job import AbstractJob
from ._order import numbers
from ._pool import Grant, Needs
from ._resource import SECONDS_APART, Resource

if TYPE_CHECKING:
    from ._order import Entry, Order


class Sharing:
    """What the ready jobs of one run need, and have, of resources.

    Args:
        resource: finds a resource by name, in the nearest pool around the run.
        has_slot: says whether the run has a slot for one more job.
        held: returns the resources of which a scheduler around the jobs has a part.
        wake: lets the run look for jobs that can start.
        call_at: calls a function at a time on the clock of the loop, and returns what prevents that.
        call_in_loop: calls a function in the loop of the run, from any thread.
        backfill: how many later jobs may pass one that does not fit.

    """

    def __init__(
        self,
        resource: Callable[[str], Resource],
        has_slot: Callable[[], bool],
        held: Callable[[], set[Resource]],
        wake: Callable[[], None],
        call_at: Callable[[float, Callable[[], None]], Callable[[], None]],
        call_in_loop: Callable[[Callable[[], None]], None],
        backfill: int,
    ) -> None:
        self.resource: Final = resource
        self.has_slot: Final = has_slot
        self.held: Final = held
        self.wake: Final = wake
        self.call_in_loop: Final = call_in_loop
        self.backfill: Final = backfill
        self.kinds: Final[dict[Any, Kind]] = {}
        self._call_at: Final = call_at
        self._timer_at = math.inf  # when the timer is set for; `-inf` when there will be no more of them
        self._call_off: Callable[[], None] | None = None

    def kind_of(self, job: AbstractJob[Any], order: Order) -> Kind:
        """Return the kind of a job that needs something."""
        needs = job._needs()
        key = tuple(sorted(needs.items()))
        if key not in self.kinds:
            there = {name: self.resource(name) for name in needs}
            self.kinds[key] = Kind(self, [(there[name], there[name].need(given, "")) for name, given in needs.items()])
            order.heaps.append(self.kinds[key].heap)
        return self.kinds[key]

    def first_that_can_start(self) -> Kind | None:
        """Return the kind whose first job starts next, among those that fit and that nobody keeps waiting."""
        found: Kind | None = None
        entry: Entry | None = None
        opens_at = math.inf
        for kind in self.kinds.values():
            first = kind.first()
            if first is None or (entry is not None and entry < first):
                continue
            in_the_way = kind.must_wait() if kind.fits() else kind
            if in_the_way is None:
                found, entry = kind, first
            else:
                opens_at = min(opens_at, in_the_way.opens_at())
        if found is None and opens_at < self._timer_at:
            self._set_timer(opens_at)
        return found

    def release(self, job: AbstractJob[Any], grant: Grant | None) -> None:
        """Take back what a job had, if it had anything, and let other runs look whether one of theirs can start."""
        if grant is not None:
            resources = grant.kept()
            grant.give_back()
        else:
            resources = [self.resource(name) for name in job._needs()]
        runs = {kind.sharing: None for resource in resources for kind in resource.waiting if kind.sharing is not self}
        for other in runs:
            other.wake()

    def wake_others(self, resource: Resource) -> None:
        """Let all runs with jobs that wait for a resource look again: there is more of it, or nobody is in the way."""
        for sharing in {kind.sharing: None for kind in resource.waiting}:
            sharing.wake()

    def clear(self) -> None:
        """Forget the waiting jobs."""
        for kind in self.kinds.values():
            kind.clear()

    def end(self) -> None:
        """Set no more timers: the run is over."""
        self._set_timer(-math.inf)

    def _set_timer(self, when: float) -> None:
        if self._call_off is not None:
            self._call_off()
        self._timer_at = when
        self._call_off = None if when == -math.inf else self._call_at(when, self._ring)

    def _ring(self) -> None:
        self._call_off, self._timer_at = None, math.inf
        self.wake()


class Kind:
    """The ready jobs of one run that need the same."""

    __slots__ = ("heap", "needs", "overtakers", "sharing")

    def __init__(self, sharing: Sharing, needs: Needs) -> None:
        self.sharing: Final = sharing
        self.needs: Final = needs
        self.heap: Final[list[Entry]] = []  # as `Order.heap`
        # Who has passed the first job while that waited: when it started, whether it is of the same run, its entry.
        self.overtakers: Final[list[tuple[int, bool, Entry]]] = []

    def push(self, entry: Entry) -> None:
        """Add a job that waits."""
        heapq.heappush(self.heap, entry)
        for resource, _ in self.needs:
            resource.waiting[self] = None

    def pop(self) -> AbstractJob[Any]:
        """Remove the first job, and return it."""
        entry = heapq.heappop(self.heap)
        self.overtakers[:] = [one for one in self.overtakers if self._passed(one, entry)]
        if not self.heap:
            self.clear()
        return entry[2]

    def first(self) -> Entry | None:
        """Return the entry of the first job that still waits."""
        while self.heap and self.heap[0][2]._state is not SCHEDULED:
            self.pop()
        return self.heap[0] if self.heap else None

    def clear(self) -> None:
        """Remove all jobs."""
        self.heap.clear()
        self.overtakers.clear()
        for resource, _ in self.needs:
            resource.waiting.pop(self, None)

    def fits(self) -> bool:
        """Return whether there is enough for one job."""
        return all(resource.fits(need) for resource, need in self.needs)

    def missing(self) -> Needs:
        """Return the resources of which there is not enough for one job, and what it needs of them."""
        return [(resource, need) for resource, need in self.needs if not resource.fits(need)]

    def opens_at(self) -> float:
        """Return when to look again, if one job has to wait for time to pass; infinity if it waits for other jobs."""
        opens_at = max(resource.opens_at(need) for resource, need in self.needs)
        if opens_at == -math.inf or opens_at <= self.needs[0][0].clock() + SECONDS_APART:
            return math.inf
        return opens_at

    def take_first(self) -> AbstractJob[Any]:
        """Remove the first job, and count that it passes those that wait for the same resources."""
        entry = self.heap[0]
        for other in self._others():
            first = other.first()
            if first is not None and other._precedes(first, entry, self) and not other.fits():
                other.overtakers.append((next(numbers), other.sharing is self.sharing, entry))
        return self.pop()

    def must_wait(self) -> Kind | None:
        """Return the kind whose first job is due, and must start before the first job of this kind; or None."""
        own = self.first()
        assert own is not None
        for other in self._others():
            if len(other.overtakers) < other.sharing.backfill:
                continue  # it is not due; most are not
            first = other.first()
            if first is None or not other._precedes(first, own, self) or other.fits():
                continue
            if other.sharing is not self.sharing and not other.sharing.has_slot():
                continue  # whoever asks has a slot of its own run
            if other.is_due(first) and self.sharing.held().isdisjoint(resource for resource, _ in other.needs):
                return other
        return None

    def is_due(self, first: Entry) -> bool:
        """Return whether as many later jobs have passed the first one as may."""
        return sum(self._passed(one, first) for one in self.overtakers) >= self.sharing.backfill

    @staticmethod
    def _passed(overtaker: tuple[int, bool, Entry], entry: Entry) -> bool:
        """Return whether one that passed the first job has passed this one too: it waited already, and is earlier."""
        started, same_run, passing = overtaker
        return started > entry[1] and (entry < passing if same_run else entry[1] < passing[1])

    def _precedes(self, first: Entry, entry: Entry, kind: Kind) -> bool:
        """Return whether the first job of this kind comes before another one of `kind`."""
        return first < entry if kind.sharing is self.sharing else first[1] < entry[1]

    def _others(self) -> Iterator[Kind]:
        """Yield the kinds that wait for some of the same resources."""
        if len(self.needs) == 1:
            others = self.needs[0][0].waiting
        else:
            others = dict.fromkeys(kind for resource, _ in self.needs for kind in resource.waiting)
        return (kind for kind in list(others) if kind is not self)
