"""The ready jobs of one run that need the same; the same of all runs; and who has started before them.

A job that waits does not note who passes it: there may be thousands of them. Who starts before others leaves one `Pass`
with each resource that it needs, and how many have passed a job is counted when it matters: when it is among the first,
and as many passes are there as `backfill` allows.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections.abc import Collection, Container, Iterator
from typing import TYPE_CHECKING, Any, Final

from ..base._states import SCHEDULED
from ..job._job import AbstractJob
from ._order import numbers
from ._pool import Needs
from ._resource import SECONDS_APART, Resource

if TYPE_CHECKING:
    from ._needs import Sharing
    from ._order import Entry

    Place = tuple[int, int, "NeedsQueue"]
    """Of a queue in its group: the number of its first job, and one of its own."""


def key_of(job: AbstractJob[Any]) -> Any:
    """Return what identifies the queue of a job in its run."""
    return tuple(sorted(job._needs().items()))


class Pass:
    """The start of a job before others that wait for the same resources, and for which there is not enough."""

    __slots__ = ("_fitting", "_groups", "entry", "number", "sharing")

    def __init__(
        self, number: int, sharing: Sharing, entry: Entry, fitting: Container[NeedsQueue], groups: Container[Group]
    ) -> None:
        self.number: Final = number
        self.sharing: Final = sharing
        self.entry: Final = entry
        # For the first jobs of these there was enough: in the same run, and in others.
        self._fitting: Final = fitting
        self._groups: Final = groups

    def has_passed(self, queue: NeedsQueue, entry: Entry) -> bool:
        """Return whether it has passed a job that waits in a queue: one that waited already, and is earlier."""
        if self.number < entry[1]:
            return False
        if self.sharing is queue.sharing:
            return entry < self.entry and queue not in self._fitting
        return entry[1] < self.entry[1] and queue.group not in self._groups

    def may_have_passed(self, oldest: float) -> bool:
        """Return whether it may have passed a job that waits: one of its own run, or of others, all since `oldest`."""
        first = self.sharing.ladder.first()
        return self.entry[1] > oldest or (first is not None and first < self.entry)


class Group:
    """The queues of all runs whose jobs need the same, by when their first jobs became ready."""

    __slots__ = ("_order", "most", "needs")

    def __init__(self, needs: Needs) -> None:
        self.needs: Final = needs
        self.most = 0  # how many jobs have waited at once in one of the queues, at most
        self._order: Final[list[Place]] = []

    def fits(self) -> bool:
        """Return whether there is enough for one job."""
        return all(resource.fits(need) for resource, need in self.needs)

    def fit_beside(self, number: int, queue: NeedsQueue) -> bool:
        """Return whether there is enough for so many jobs of this group and one of a queue."""
        for resource, need in queue.needs:
            for other, given in self.needs:
                if other is resource and not resource.fits(resource.both(number, given, need)):
                    return False
        return True

    def oldest(self) -> int:
        """Return the number of the earliest job."""
        return self._order[0][0]

    def next_since(self, number: float) -> Place | None:
        """Return the first queue with this number or a later one."""
        at = bisect.bisect_left(self._order, (number,)) if number > -math.inf else 0
        return self._order[at] if at < len(self._order) else None

    def put(self, place: Place) -> None:
        """Add a queue."""
        bisect.insort(self._order, place)

    def move(self, before: Place, place: Place) -> None:
        """Give a queue another place."""
        if len(self._order) == 1:
            self._order[0] = place
        else:
            self.remove(before)
            self.put(place)

    def remove(self, place: Place) -> bool:
        """Remove a queue; return whether it was the last one."""
        del self._order[bisect.bisect_left(self._order, place)]
        return not self._order

    def before(self, number: int) -> Iterator[NeedsQueue]:
        """Yield the queues with earlier numbers."""
        for at, _, queue in self._order:
            if at >= number:
                return
            yield queue


class NeedsQueue:
    """The ready jobs of one run that need the same."""

    __slots__ = ("_passes", "group", "heap", "key", "needs", "place", "rung", "sharing")

    group: Group  # while jobs wait

    def __init__(self, sharing: Sharing, key: Any, needs: Needs) -> None:
        self.sharing: Final = sharing
        self.key: Final = key  # of it in `Sharing.queues`
        self.needs: Final = needs
        self.heap: Final[list[Entry]] = []  # as `Order.heap`
        self.place: Place | None = None  # in its group, while jobs wait
        self.rung = -1  # in the ladder of its run, likewise
        # Of a first job: the number of the last pass that was looked at, and how many have passed the job until then.
        self._passes: tuple[Entry | None, int, int] = (None, -1, 0)

    def push(self, entry: Entry) -> None:
        """Add a job that waits."""
        self.sharing.found = None
        heapq.heappush(self.heap, entry)
        if self.place is None:
            self._enter()
        elif self.heap[0] is entry:
            self.note_first()
        if len(self.heap) > self.group.most:
            self.group.most = len(self.heap)
        self.sharing.set_asleep(False)

    def pop(self) -> Entry:
        """Remove the entry of the first job, and return it."""
        entry = heapq.heappop(self.heap)
        self.drop_settled()
        return entry

    def drop_settled(self) -> None:
        """Remove the first jobs that wait no more; so the first one always waits, and a queue without jobs is gone."""
        self.sharing.found = None
        while self.heap and self.heap[0][2]._state is not SCHEDULED:
            heapq.heappop(self.heap)
        if self.heap:
            self.note_first()
        else:
            self.clear()

    def clear(self) -> None:
        """Remove all jobs, and the queue."""
        self.sharing.found = None
        self.sharing.queues.pop(self.key, None)
        self.sharing.order.heaps.pop(self.key, None)
        self.heap.clear()
        if self.place is not None:
            self._leave()

    def _enter(self) -> None:
        """Let the resources, and the ladder, know that jobs wait here."""
        resources = [resource for resource, _ in self.needs]
        kind = (self.key, *resources)
        waiting = resources[0].waiting
        self.group = group = waiting[kind] if kind in waiting else Group(self.needs)
        for resource in resources:
            resource.waiting[kind] = group
            resource.enter(self.sharing, resources)
        self.place = (self.heap[0][1], next(numbers), self)
        group.put(self.place)
        self.sharing.ladder.add(self)

    def _leave(self) -> None:
        resources = [resource for resource, _ in self.needs]
        assert self.place is not None
        is_last = self.group.remove(self.place)
        self.place = None
        for resource in resources:
            if is_last:
                del resource.waiting[(self.key, *resources)]
            resource.leave(self.sharing)
        self.sharing.ladder.remove(self)

    def note_first(self) -> None:
        """Take in that another job may be the first."""
        assert self.place is not None
        number = self.heap[0][1]
        if number != self.place[0]:
            before, self.place = self.place, (number, self.place[1], self)
            self.group.move(before, self.place)
        self.sharing.ladder.note_first(self)

    def fits(self) -> bool:
        """Return whether there is enough for one job."""
        for resource, need in self.needs:  # noqa: SIM110 - as in `RateResource.fits`
            if not resource.fits(need):
                return False
        return True

    def needs_any(self, resources: Collection[Resource]) -> bool:
        """Return whether a job needs one of these resources."""
        return bool(resources) and any(resource in resources for resource, _ in self.needs)

    def missing(self) -> Needs:
        """Return the resources of which there is not enough for one job, and what it needs of them."""
        return [(resource, need) for resource, need in self.needs if not resource.fits(need)]

    def opens_at(self) -> float:
        """Return when to schedule again, if one job waits for time to pass; infinity if it waits for other jobs."""
        opens_at = max(resource.opens_at(need) for resource, need in self.needs)
        if opens_at == -math.inf or opens_at <= self.needs[0][0].clock() + SECONDS_APART:
            return math.inf
        return opens_at

    def take_first(self) -> Entry:
        """Remove the first job; it passes those that do not fit, and wait for the same resources."""
        self.sharing.note_pass(self)
        return self.pop()

    def number_before(self, job: AbstractJob[Any]) -> int:
        """Return how many jobs of this queue start before one of them."""
        waiting = sorted(entry for entry in self.heap if entry[2]._state is SCHEDULED)
        return next((place for place, entry in enumerate(waiting) if entry[2] is job), 0)

    def from_here(self) -> dict[Resource, float]:
        """Return the resources of the first job, each with the number of it: where to look for runs to wake."""
        return {resource: self.heap[0][1] for resource, _ in self.needs}

    def let_wake(self, queue: NeedsQueue) -> None:
        """Wake a queue of another run that a reservation here blocks when it may do so no more."""
        self.sharing.let_wake_blocked(queue.from_here(), [resource for resource, _ in self.needs])

    def blocked_by(self) -> NeedsQueue | None:
        """Return the queue whose first job must start before that of this queue, for which there is enough; or None."""
        resources = [resource for resource, _ in self.needs]
        may_be_reserved = [resource for resource in resources if resource.may_be_reserved()]
        for other in self.sharing.ladder.before(self) if may_be_reserved else ():
            if other.needs_any(resources) and other._reserves_before(self):
                return other
        number = self.heap[0][1]
        for resource in resources:
            if len(resource.runs) < 2:
                continue
            for group in resource.waiting.values() if resource in may_be_reserved else ():
                for other in group.before(number):
                    if other.sharing is not self.sharing and other._reserves_before(self):
                        return other
            groups = resource.waiting.values()
            if len(groups) < len(resource.lively) and all(group.fit_beside(group.most, self) for group in groups):
                continue  # nobody can take so much that it has to be asked
            for sharing in resource.lively:
                for other in sharing.queues.values() if sharing is not self.sharing else ():
                    if other.heap[0][1] < number and other._starts_before(self):
                        return other
        return None

    def _reserves_before(self, queue: NeedsQueue) -> bool:
        """Return whether the first job here has a reservation that blocks the first of a later queue."""
        run, other = self.sharing.run, queue.sharing.run
        if other.is_in_keeper or self.fits() or not self.has_reservation():
            return False  # as with most
        return other is run or run.has_slot() or run.starts_at_once() > 0  # whoever asks has a slot of its own run

    def _starts_before(self, queue: NeedsQueue) -> bool:
        """Return whether jobs here, of another run, are about to take what the first job of a later queue needs."""
        if self.sharing is queue.sharing or self.group.fit_beside(len(self.heap), queue) or not self.fits():
            return False
        number = min(len(self.heap), self.sharing.run.starts_at_once()) if self.sharing.is_awake() else 0
        return number > 0 and not self.group.fit_beside(number, queue)

    def has_reservation(self) -> bool:
        """Return whether as many later jobs were backfilled before the first one as may be."""
        resources = [resource for resource, _ in self.needs]
        backfill = self.sharing.run.backfill
        if sum([len(resource.passes) for resource in resources]) < backfill:
            return False
        first, (counted_for, last, number) = self.heap[0], self._passes
        if counted_for is not first:
            last, number = -1, 0
        new = {one for resource in resources for one in resource.passes_since(last)}
        number += sum([one.has_passed(self, first) for one in new])
        self._passes = (first, max([last, *(one.number for one in new)]), number)
        return number >= backfill
