"""Which of the ready jobs may start, if some of them need resources.

Jobs with the same needs are of one `Kind`. Of each kind only the first can start next, so a look at the queue is a look
at one job for each kind.

A job that does not fit lets later ones pass that need one of its resources, at most `backfill` times. Then it is *due*:
nothing that needs one of its resources starts before it. So it starts when those that run have ended, and nobody
starves. (Backfilling with a reservation for whoever waits comes from batch systems: Lifka 1995, "The ANL/IBM SP
scheduling system". There users say how long a job takes, which nobody knows here; so what is limited is the number of
those that pass.)

- Which of two jobs is first is decided by the policy, if they are in the same run, and otherwise by when they became
  ready. Each run looks by itself. So one that finds that a job of another run is first, and about to start, and that
  there is not enough for both, lets that one start, and looks again when the other run has done something.
- A job whose own run has no slot for it, neither a free one nor that of a worker that looks for a job, does not wait
  for resources, so it is not overtaken, and keeps nobody waiting. When a run has no slot left, those that have waited
  for one of its jobs look again.
- A job inside a scheduler that has some of a resource is not kept waiting by one that waits for this resource: that
  would wait for itself.
- Time alone lets a job start that waits for a rate, or for the end of a throttle. So whoever finds that nothing can
  start sets a timer for the first of these times, and the run looks again.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..base._states import SCHEDULED
from ..job._job import AbstractJob
from ._order import numbers
from ._pool import Grant, Needs
from ._resource import SECONDS_APART, Resource

if TYPE_CHECKING:
    from ._order import Entry, Order


PATIENCE: Final = 4
"""Turns of the loop for which a run lets another one start a job first."""


class Sharing:
    """What the ready jobs of one run need, and have, of resources.

    Args:
        resource: finds a resource by name, in the nearest pool around the run.
        has_slot: says whether the run has a slot for one more job.
        starts_at_once: says how many more jobs would start as soon as the run looks for them.
        held: returns the resources of which a scheduler around the jobs has a part.
        wake: lets the run look for jobs that can start.
        clock: shows the time of the loop.
        call_at: calls a function at a time on this clock, and returns what prevents that.
        call_in_loop: calls a function in the loop of the run, from any thread.
        backfill: how many later jobs may pass one that does not fit.

    """

    def __init__(
        self,
        resource: Callable[[str], Resource],
        has_slot: Callable[[], bool],
        starts_at_once: Callable[[], int],
        held: Callable[[], set[Resource]],
        wake: Callable[[], None],
        clock: Callable[[], float],
        call_at: Callable[[float, Callable[[], None]], Callable[[], None]],
        call_in_loop: Callable[[Callable[[], None]], None],
        backfill: int,
    ) -> None:
        self.resource: Final = resource
        self.has_slot: Final = has_slot
        self.starts_at_once: Final = starts_at_once
        self.held: Final = held
        self._wake: Final = wake
        self.call_in_loop: Final = call_in_loop
        self.backfill: Final = backfill
        self.kinds: Final[dict[Any, Kind]] = {}
        self.has_nothing = False  # whether it could start nothing when it last looked, and nothing has happened since
        self._behind: Final[dict[Sharing, None]] = {}  # runs that look again when this one has done something
        self._kept_waiting: Final[dict[Sharing, None]] = {}  # runs that a due job of this one keeps waiting
        self._clock: Final = clock
        self._call_at: Final = call_at
        self._timer_at = math.inf  # when the timer is set for; `-inf` when there will be no more of them
        self._call_off: Callable[[], None] | None = None

    def wake(self) -> None:
        """Let the run look: something has happened."""
        self.has_nothing = False
        self._wake()
        self._look_behind()

    def _look_behind(self, turns: int = PATIENCE) -> None:
        """Let those look again that let this run start a job first, if it can't, or has not within some turns.

        A worker that is about to look may leave instead: because the window has shrunk, for one.
        """
        if self._behind and turns and self.starts_at_once():
            self.call_in_loop(partial(self._look_behind, turns - 1))
        elif self._behind:
            self.has_nothing = True
            self.has_looked()

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
        before: list[Sharing] = []
        for kind in self.kinds.values():
            first = kind.first()
            if first is None or (entry is not None and entry < first):
                continue
            in_the_way = kind.must_wait() if kind.fits() else kind
            if in_the_way is None:
                found, entry = kind, first
            else:
                when = in_the_way.opens_at()
                opens_at = min(opens_at, when)
                if in_the_way.sharing is self:
                    if when == math.inf and in_the_way.fits():  # the time has come since it was asked
                        opens_at = min(opens_at, self._clock())
                elif in_the_way.fits():
                    before.append(in_the_way.sharing)
                else:
                    in_the_way.sharing._kept_waiting[self] = None
        if found is None:
            if self._timer_is_due():
                self._ring_no_more()
            if opens_at < self._timer_at:
                self._set_timer(opens_at)
            for sharing in before:
                sharing.let_first(self)
        self.has_nothing = found is None
        if self.has_nothing:
            self.has_looked()
        return found

    def is_about_to_look(self) -> bool:
        """Return whether this run may start a job now: not if it has looked, and nothing has happened since."""
        return not self.has_nothing or self._timer_is_due()

    def let_first(self, other: Sharing) -> None:
        """Let this run start a job first: wake it, and later the other one."""
        if not self._behind:
            self.call_in_loop(self.wake)  # not now: it would look while the other one does
        self._behind[other] = None

    def has_looked(self) -> None:
        """Let those look again that have let this run start a job first: it has, or it can't."""
        if self._behind:
            behind = [sharing for sharing in self._behind if any(kind.may_start() for kind in sharing.kinds.values())]
            self._behind.clear()
            if behind:
                self.call_in_loop(partial(_wake_all, behind))

    def has_fewer_slots(self) -> None:
        """Let those look again that have let this run start a job first, or were kept waiting, if no slot is left."""
        self.has_looked()
        if self._kept_waiting and not self.has_slot():
            self._let_kept_go_on()

    def _let_kept_go_on(self) -> None:
        if self._kept_waiting:
            self.call_in_loop(partial(_wake_all, list(self._kept_waiting)))
            self._kept_waiting.clear()

    def release(self, job: AbstractJob[Any], grant: Grant | None) -> None:
        """Take back what a job had, if it had anything, and let other runs look whether one of theirs can start."""
        if grant is not None:
            resources = grant.kept()
            grant.give_back()
        else:
            resources = [self.resource(name) for name in job._needs()]
        self.has_nothing = False
        waiting = (kind.sharing for resource in resources for kind in resource.waiting)
        _wake_all({sharing: None for sharing in waiting if sharing is not self})

    def wake_others(self, resource: Resource) -> None:
        """Let all runs with jobs that wait for a resource look again: there is more of it, or nobody is in the way."""
        _wake_all({kind.sharing: None for kind in resource.waiting})

    def clear(self) -> None:
        """Forget the waiting jobs."""
        self.has_looked()
        self._let_kept_go_on()
        for kind in self.kinds.values():
            kind.clear()

    def end(self) -> None:
        """Set no more timers: the run is over."""
        self._set_timer(-math.inf)

    def _set_timer(self, when: float) -> None:
        self._ring_no_more()
        self._timer_at = when
        self._call_off = None if when == -math.inf else self._call_at(when, self._ring)

    def _ring_no_more(self) -> None:
        if self._call_off is not None:
            self._call_off()
        self._call_off, self._timer_at = None, math.inf

    def _timer_is_due(self) -> bool:
        return -math.inf < self._timer_at <= self._clock() + SECONDS_APART

    def _ring(self) -> None:
        self._call_off, self._timer_at = None, math.inf
        self.wake()


def _wake_all(sharings: Iterable[Sharing]) -> None:
    for sharing in sharings:
        sharing.wake()


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
        self.sharing.has_nothing = False
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

    def use_priorities(self, order: Order) -> None:
        """Compare priorities from now on."""
        self.overtakers[:] = [
            (started, same_run, order.with_priority(entry) if same_run else entry)
            for started, same_run, entry in self.overtakers
        ]

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

    def number_before(self, job: AbstractJob[Any]) -> int:
        """Return how many jobs of this kind start before one of them."""
        waiting = sorted(entry for entry in self.heap if entry[2]._state is SCHEDULED)
        return next((place for place, entry in enumerate(waiting) if entry[2] is job), 0)

    def may_start(self) -> bool:
        """Return whether there is enough for one job, or will be without any job that ends."""
        return bool(self.heap) and (self.fits() or self.opens_at() < math.inf)

    def must_wait(self) -> Kind | None:
        """Return the kind whose first job is due, and must start before the first job of this kind; or None."""
        own = self.first()
        assert own is not None
        for other in self._others():
            if other._is_due_before(own, self) or other._starts_before(own, self):
                return other
        return None

    def _is_due_before(self, own: Entry, kind: Kind) -> bool:
        """Return whether the first job here is due, and does not fit, and `own` of another kind comes after it."""
        if len(self.overtakers) < self.sharing.backfill:
            return False  # most are not due
        first = self.first()
        if first is None or not self._precedes(first, own, kind) or self.fits():
            return False
        if kind.sharing is not self.sharing and not (self.sharing.has_slot() or self.sharing.starts_at_once()):
            return False  # whoever asks has a slot of its own run
        return self.is_due(first) and kind.sharing.held().isdisjoint(resource for resource, _ in self.needs)

    def _starts_before(self, own: Entry, kind: Kind) -> bool:
        """Return whether jobs here, of another run, are earlier, and about to take what `own` of another kind needs."""
        first = self.first()
        if self.sharing is kind.sharing or first is None or first[1] > own[1] or not self.fits():
            return False
        number = min(len(self.heap), self.sharing.starts_at_once()) if self.sharing.is_about_to_look() else 0
        return number > 0 and not self._fit_beside(number, kind)

    def _fit_beside(self, number: int, kind: Kind) -> bool:
        """Return whether there is enough for so many jobs of this kind and one of another."""
        needs = dict(self.needs)
        return all(
            resource.fits(resource.both(number, needs[resource], need))
            for resource, need in kind.needs
            if resource in needs
        )

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
