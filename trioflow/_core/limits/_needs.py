"""Which of the ready jobs may start, if some of them need resources: list scheduling with backfill and reservations.

Jobs of one run with the same needs are in one `NeedsQueue`. Of each only the first can start next, so to schedule is to
ask one job of each queue. Each run schedules by itself, because only it knows its policy and its slots.

```
 a job becomes ready ──► push ──► its queue: a heap in the order of the run's policy
                                     │
   ┌─────────────────────────────────┘
   ▼
 schedule (`first_that_can_start`): the first job of each queue, the earliest of those that
   │  fit, and are not blocked by another job
   ├── one is found ──► it is granted what it needs, and starts; it is backfilled if one before it does not fit
   │                    and needs one of its resources; after `backfill` of these, that one has a reservation
   └── none is found ─► the run is asleep, with a timer if time alone can wake it, until it is woken:
                          by a job that becomes ready in it, or by its timer
                          by whoever gives something back, takes less of a rate, or throttles less
                          by another run that sleeps now, or has no slot left, and whose jobs are before its own
```

- **Backfill**: a job that does not fit lets later ones pass that need one of its resources, at most `backfill` times.
  Then it has a **reservation**: nothing that needs one of its resources starts before it. So it starts when those that
  run have ended, and nobody starves. (Reservations come from batch systems: Lifka 1995, "The ANL/IBM SP scheduling
  system". There users say how long a job takes, which nobody knows here; so what is limited is the number of those
  that pass.)
- **Blocked by**: a job that would fit is blocked by one with a reservation; and by one of another run that is earlier,
  and about to start, if there is not enough for both. Which of two jobs is first is decided by the policy, if they are
  in the same run, and otherwise by when they became ready.
- **Wake**: when something is given back, only those runs are woken whose jobs are the earliest, as many as there is
  enough for. The others come after these: they are woken when these can start no more. To wake all at once would cost
  the square of their number for each job that ends, because each asks all others which of them is first.
- A job whose own run has no slot for it, neither a free one nor that of a worker that looks for a job, does not wait
  for resources: nobody is backfilled before it, and it blocks nobody. When a run has no slot left, those that were
  blocked by one of its jobs are woken.
- A job inside a scheduler that has some of a resource is not blocked by one that waits for this resource: that would
  wait for itself.
- Time alone lets a job start that waits for a rate, or for the end of a throttle. So whoever finds that nothing can
  start sets a timer for the first of these times.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..base._states import SCHEDULED
from ..job._job import AbstractJob
from ._order import numbers
from ._pool import Grant, Needs
from ._resource import SECONDS_APART, Resource

if TYPE_CHECKING:
    from ._order import Entry, Order


PATIENCE: Final = 4
"""Turns of the loop for which a run lets another one go first that starts nothing meanwhile."""


class SharingRun(Protocol):
    """What `Sharing` asks of its run."""

    backfill: int
    """How many later jobs may pass one that does not fit."""
    clock: Callable[[], float]
    """Shows the time of the loop."""
    call_in_loop: Callable[[Callable[[], None]], None]
    """Calls a function in the loop of the run, from any thread."""

    def call_at(self, when: float, function: Callable[[], None], /) -> Callable[[], None]:
        """Call a function at a time on this clock; return what prevents that."""
        ...

    def resource(self, name: str, /) -> Resource:
        """Find a resource, in the nearest pool around the run."""
        ...

    def kept_around(self) -> set[Resource]:
        """Return the resources of which a scheduler around the jobs has a part."""
        ...

    def has_slot(self) -> bool:
        """Return whether the run has a slot for one more job."""
        ...

    def starts_at_once(self) -> int:
        """Return how many more jobs would start as soon as the run looks for them."""
        ...

    def wake(self) -> None:
        """Let the run look for jobs that can start."""
        ...


class Sharing:
    """What the ready jobs of one run need, and have, of resources.

    Args:
        run: the run.
        order: its order, to which the heaps are added.

    """

    def __init__(self, run: SharingRun, order: Order) -> None:
        self.run: Final = run
        self.order: Final = order
        self.queues: Final[dict[Any, NeedsQueue]] = {}  # of the jobs that wait
        self.found: NeedsQueue | None = None  # when it scheduled last; it is right until something else happens
        self.asleep = False  # whether it could start nothing, or did not in time, and has not been woken since
        self._next: Final[dict[Sharing, None]] = {}  # runs to wake when this one can start no more
        self._turns_left = 0  # of `PATIENCE`, while `_wake_first` is called in each turn; otherwise 0
        self._blocked: Final[dict[Sharing, None]] = {}  # runs to wake when a reservation here may block them no more
        self._timer_at = math.inf  # when the timer is set for; `-inf` when there will be no more of them
        self._call_off: Callable[[], None] | None = None

    def wake(self) -> None:
        """Let the run schedule: something has happened."""
        self.asleep = False
        self.run.wake()

    def queue_of(self, job: AbstractJob[Any]) -> NeedsQueue:
        """Return the queue of a job that needs something."""
        needs = job._needs()
        key = key_of(job)
        if key not in self.queues:
            there = {name: self.run.resource(name) for name in needs}
            needed = [(there[name], there[name].need(given, "")) for name, given in needs.items()]
            self.queues[key] = queue = NeedsQueue(self, key, needed)
            self.order.heaps[key] = queue.heap
        return self.queues[key]

    def first_that_can_start(self) -> NeedsQueue | None:
        """Return the queue whose first job starts next, among those that fit and that nobody blocks."""
        found: NeedsQueue | None = None
        entry: Entry | None = None
        opens_at = math.inf
        before: list[Sharing] = []
        for queue in self.queues.values():
            first = queue.heap[0]
            if entry is not None and entry < first:
                continue
            blocker = queue.blocked_by() if queue.fits() else queue
            if blocker is None:
                found, entry = queue, first
            else:
                when = blocker.opens_at()
                opens_at = min(opens_at, when)
                if blocker.sharing is self:
                    if when == math.inf and blocker.fits():  # the time has come since it was asked
                        opens_at = min(opens_at, self.run.clock())
                elif blocker.fits():
                    before.append(blocker.sharing)
                else:
                    blocker.sharing._blocked[self] = None
        if found is None:
            if self._timer_is_due():
                self._ring_no_more()
            if opens_at < self._timer_at:
                self._set_timer(opens_at)
            for sharing in before:
                sharing.wake_before({self: None})
            self.asleep = True
            self.wake_next()
        self.found = found
        return found

    def is_awake(self) -> bool:
        """Return whether this run may start a job now: not if it is asleep, and its timer is not due."""
        return not self.asleep or self._timer_is_due()

    def wake_before(self, others: dict[Sharing, None]) -> None:
        """Wake this run, and the others when it can start no more."""
        self._next.update(others)
        if not self._turns_left:
            self._turns_left = PATIENCE
            self.run.call_in_loop(self._wake_first)  # not now: it would schedule while another one does

    def _wake_first(self) -> None:
        """Wake the run; wake those that come after it if it can start no more, or has not within some turns.

        A worker that is about to look may leave instead: because the window has shrunk, for one.
        """
        if self._next:
            self.run.wake()
        self._turns_left -= 1
        if not self._next:
            self._turns_left = 0
        elif self._turns_left and self.run.starts_at_once():
            self.run.call_in_loop(self._wake_first)
        else:
            self._turns_left = 0
            self.asleep = True
            self.wake_next()

    def wake_next(self) -> None:
        """Wake the runs that come after this one: it can start no more."""
        if self._next:
            self._wake_soon(self._next)

    def has_fewer_slots(self) -> None:
        """Wake the runs that come after this one, or were blocked by a job of it, if it has no slot for more."""
        if self._turns_left:
            self._turns_left = PATIENCE
        if self._next and not self.run.starts_at_once():
            self.wake_next()
        if self._blocked and not self.run.has_slot():
            self.wake_blocked()

    def _wake_soon(self, waiting: dict[Sharing, None]) -> None:
        queues = {queue: None for sharing in waiting for queue in sharing.queues.values()}
        waiting.clear()
        for sharing in _to_wake(queues):
            self.run.call_in_loop(sharing.wake)

    def wake_blocked(self) -> None:
        """Wake the runs that a reservation of this one blocks: its job fits now, so perhaps it does so no more."""
        if self._blocked:
            self._wake_soon(self._blocked)

    def release(self, job: AbstractJob[Any], grant: Grant | None) -> None:
        """Take back what a job had, if it had anything, and wake runs of which one may have a job that can start."""
        if grant is not None:
            resources = grant.kept()
            grant.give_back()
        else:
            resources = [self.run.resource(name) for name in job._needs()]
            queue = self.queues.get(key_of(job))
            if queue is not None:
                queue.drop_settled()
        self.asleep = False
        _wake_waiting({queue: None for resource in resources for queue in resource.waiting})

    def wake_for(self, resource: Resource) -> None:
        """Wake runs with jobs that wait for a resource: there is more of it, or a reservation has gone."""
        _wake_waiting(resource.waiting)

    def clear(self) -> None:
        """Forget the waiting jobs."""
        self.wake_next()
        self.wake_blocked()
        for queue in list(self.queues.values()):
            queue.clear()

    def end(self) -> None:
        """Set no more timers: the run is over."""
        self._set_timer(-math.inf)

    def _set_timer(self, when: float) -> None:
        self._ring_no_more()
        self._timer_at = when
        self._call_off = None if when == -math.inf else self.run.call_at(when, self._ring)

    def _ring_no_more(self) -> None:
        if self._call_off is not None:
            self._call_off()
        self._call_off, self._timer_at = None, math.inf

    def _timer_is_due(self) -> bool:
        return -math.inf < self._timer_at <= self.run.clock() + SECONDS_APART

    def _ring(self) -> None:
        self._call_off, self._timer_at = None, math.inf
        self.wake()


def key_of(job: AbstractJob[Any]) -> Any:
    """Return what identifies the queue of a job in its run."""
    return tuple(sorted(job._needs().items()))


def _wake_waiting(queues: dict[NeedsQueue, None]) -> None:
    """Wake runs with these queues, of whose resources there is more, and those that these block."""
    sharings = {queue.sharing: None for queue in queues}
    for sharing in _to_wake(queues):
        sharing.wake()
    for sharing in sharings:
        sharing.wake_blocked()


def _to_wake(queues: dict[NeedsQueue, None]) -> dict[Sharing, None]:
    """Return which runs to wake, of those that have these queues and are asleep.

    These are the runs with the earliest jobs for which there is enough together. The others are woken when these can
    start no more: if all were at once, each of them would ask all others which of them is first.
    """
    asleep = {queue.sharing: None for queue in queues if queue.sharing.asleep}
    if len(asleep) < 2:
        return asleep
    first: dict[Sharing, None] = {}
    taken: dict[Resource, Any] = {}
    too_much: Needs = []  # what there was not enough for: most need the same
    for queue in sorted(queues, key=NeedsQueue.number):
        if queue.needs == too_much:
            pass
        elif all(one.fits(one.both(1, need, taken[one]) if one in taken else need) for one, need in queue.needs):
            first[queue.sharing] = None
            number = min(len(queue.heap), queue.sharing.run.starts_at_once())
            for one, need in queue.needs if number else ():
                taken[one] = one.both(number, need, taken[one]) if one in taken else one.both(number - 1, need, need)
        elif queue.opens_at() < math.inf:
            first[queue.sharing] = None  # it sets a timer
        else:
            too_much = queue.needs
    later = {sharing: None for sharing in asleep if sharing not in first}
    for sharing in first if later else ():
        sharing.wake_before(later)
    return {sharing: None for sharing in first if sharing in asleep}


class NeedsQueue:
    """The ready jobs of one run that need the same."""

    __slots__ = ("backfilled", "heap", "key", "needs", "sharing")

    def __init__(self, sharing: Sharing, key: Any, needs: Needs) -> None:
        self.sharing: Final = sharing
        self.key: Final = key  # of it in `Sharing.queues`
        self.needs: Final = needs
        self.heap: Final[list[Entry]] = []  # as `Order.heap`
        # Who was backfilled while the first job waited: when it started, whether it is of the same run, its entry.
        self.backfilled: Final[list[tuple[int, bool, Entry]]] = []

    def push(self, entry: Entry) -> None:
        """Add a job that waits."""
        self.sharing.asleep, self.sharing.found = False, None
        heapq.heappush(self.heap, entry)
        for resource, _ in self.needs:
            resource.waiting[self] = None

    def pop(self) -> AbstractJob[Any]:
        """Remove the first job, and return it."""
        job = self._removed()
        self.drop_settled()
        return job

    def drop_settled(self) -> None:
        """Remove the first jobs that wait no more; so the first one always waits, and a queue without jobs is gone."""
        while self.heap and self.heap[0][2]._state is not SCHEDULED:
            self._removed()
        if not self.heap:
            self.clear()

    def _removed(self) -> AbstractJob[Any]:
        self.sharing.found = None
        entry = heapq.heappop(self.heap)
        if self.backfilled:
            self.backfilled[:] = [one for one in self.backfilled if self._passed(one, entry)]
        return entry[2]

    def number(self) -> int:
        """Return the number of the first job."""
        return self.heap[0][1]

    def clear(self) -> None:
        """Remove all jobs, and the queue."""
        self.sharing.found = None
        self.sharing.queues.pop(self.key, None)
        self.sharing.order.heaps.pop(self.key, None)
        self.heap.clear()
        self.backfilled.clear()
        for resource, _ in self.needs:
            resource.waiting.pop(self, None)

    def use_priorities(self, order: Order) -> None:
        """Compare priorities from now on."""
        self.backfilled[:] = [
            (started, same_run, order.with_priority(entry) if same_run else entry)
            for started, same_run, entry in self.backfilled
        ]

    def fits(self) -> bool:
        """Return whether there is enough for one job."""
        for resource, need in self.needs:  # noqa: SIM110 - as in `RateResource.fits`
            if not resource.fits(need):
                return False
        return True

    def missing(self) -> Needs:
        """Return the resources of which there is not enough for one job, and what it needs of them."""
        return [(resource, need) for resource, need in self.needs if not resource.fits(need)]

    def opens_at(self) -> float:
        """Return when to schedule again, if one job waits for time to pass; infinity if it waits for other jobs."""
        opens_at = max(resource.opens_at(need) for resource, need in self.needs)
        if opens_at == -math.inf or opens_at <= self.needs[0][0].clock() + SECONDS_APART:
            return math.inf
        return opens_at

    def take_first(self) -> AbstractJob[Any]:
        """Remove the first job; it is backfilled before those that do not fit, and wait for the same resources."""
        entry = self.heap[0]
        for other in self._before(entry):
            if not other.fits():
                other.backfilled.append((next(numbers), other.sharing is self.sharing, entry))
        return self.pop()

    def number_before(self, job: AbstractJob[Any]) -> int:
        """Return how many jobs of this queue start before one of them."""
        waiting = sorted(entry for entry in self.heap if entry[2]._state is SCHEDULED)
        return next((place for place, entry in enumerate(waiting) if entry[2] is job), 0)

    def blocked_by(self) -> NeedsQueue | None:
        """Return the queue whose first job must start before that of this queue, for which there is enough; or None."""
        fit_beside = 0  # so many with the same needs
        for other in self._before(self.heap[0]):
            if other.needs == self.needs:
                if len(other.heap) > fit_beside and other._fit_beside(len(other.heap), self):
                    fit_beside = len(other.heap)
                if len(other.heap) <= fit_beside:
                    continue
            if other._reserves_before(self) or other._starts_before(self):
                return other
        return None

    def _reserves_before(self, queue: NeedsQueue) -> bool:
        """Return whether the first job here has a reservation that blocks the first of a later queue."""
        run, other = self.sharing.run, queue.sharing.run
        if len(self.backfilled) < run.backfill or self.fits():
            return False  # as with most
        if other is not run and not (run.has_slot() or run.starts_at_once()):
            return False  # whoever asks has a slot of its own run
        return self.has_reservation(self.heap[0]) and other.kept_around().isdisjoint(one for one, _ in self.needs)

    def _starts_before(self, queue: NeedsQueue) -> bool:
        """Return whether jobs here, of another run, are about to take what the first job of a later queue needs."""
        if self.sharing is queue.sharing or self._fit_beside(len(self.heap), queue) or not self.fits():
            return False
        number = min(len(self.heap), self.sharing.run.starts_at_once()) if self.sharing.is_awake() else 0
        return number > 0 and not self._fit_beside(number, queue)

    def _fit_beside(self, number: int, queue: NeedsQueue) -> bool:
        """Return whether there is enough for so many jobs of this queue and one of another."""
        for resource, need in queue.needs:
            for other, given in self.needs:
                if other is resource and not resource.fits(resource.both(number, given, need)):
                    return False
        return True

    def has_reservation(self, first: Entry) -> bool:
        """Return whether as many later jobs were backfilled before the first one as may be."""
        return sum(self._passed(one, first) for one in self.backfilled) >= self.sharing.run.backfill

    @staticmethod
    def _passed(one: tuple[int, bool, Entry], entry: Entry) -> bool:
        """Return whether one that passed the first job has passed this one too: it waited already, and is earlier."""
        started, same_run, passing = one
        return started > entry[1] and (entry < passing if same_run else entry[1] < passing[1])

    def _before(self, entry: Entry) -> list[NeedsQueue]:
        """Return the queues that need some of the same resources and whose first job comes before one of this queue."""
        if len(self.needs) == 1:
            others = self.needs[0][0].waiting
        else:
            others = dict.fromkeys(queue for resource, _ in self.needs for queue in resource.waiting)
        sharing, number = self.sharing, entry[1]
        return [
            other
            for other in others
            if (other.heap[0][1] < number if other.sharing is not sharing else other.heap[0] < entry)
        ]
