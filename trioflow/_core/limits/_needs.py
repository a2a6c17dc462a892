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
  there is not enough for both, lets that one start, and looks again when the other run can start no more.
- When something is given back, only those runs look whose jobs are the earliest, as many as there is enough for. The
  others are behind them: they look when these can start no more. To wake all at once would cost the square of their
  number for each job that ends, because each asks all others which of them is first.
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
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..base._states import SCHEDULED
from ..job._job import AbstractJob
from ._order import numbers
from ._pool import Grant, Needs
from ._resource import SECONDS_APART, Resource

if TYPE_CHECKING:
    from ._order import Entry, Order


PATIENCE: Final = 4
"""Turns of the loop for which a run lets another one, which starts nothing meanwhile, look first."""


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
        order: the order of the run, to which the heaps are added.

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
        order: Order,
    ) -> None:
        self.resource: Final = resource
        self.has_slot: Final = has_slot
        self.starts_at_once: Final = starts_at_once
        self.held: Final = held
        self._wake: Final = wake
        self.call_in_loop: Final = call_in_loop
        self.backfill: Final = backfill
        self.order: Final = order
        self.kinds: Final[dict[Any, Kind]] = {}  # of the jobs that wait
        self.found: Kind | None = None  # by the last look; it is right until something else happens
        self.has_nothing = False  # whether it could start nothing, or did not in time, and nothing has happened since
        self._behind: Final[dict[Sharing, None]] = {}  # runs that look when this one can start no more
        self._turns_left = 0  # of `PATIENCE`, while `_look_behind` is called in each turn; otherwise 0
        self._kept_waiting: Final[dict[Sharing, None]] = {}  # runs that a due job of this one keeps waiting
        self._clock: Final = clock
        self._call_at: Final = call_at
        self._timer_at = math.inf  # when the timer is set for; `-inf` when there will be no more of them
        self._call_off: Callable[[], None] | None = None

    def wake(self) -> None:
        """Let the run look: something has happened."""
        self.has_nothing = False
        self._wake()

    def kind_of(self, job: AbstractJob[Any]) -> Kind:
        """Return the kind of a job that needs something."""
        needs = job._needs()
        key = key_of(job)
        if key not in self.kinds:
            there = {name: self.resource(name) for name in needs}
            needed = [(there[name], there[name].need(given, "")) for name, given in needs.items()]
            self.kinds[key] = kind = Kind(self, key, needed)
            self.order.heaps[key] = kind.heap
        return self.kinds[key]

    def first_that_can_start(self) -> Kind | None:
        """Return the kind whose first job starts next, among those that fit and that nobody keeps waiting."""
        found: Kind | None = None
        entry: Entry | None = None
        opens_at = math.inf
        before: list[Sharing] = []
        for kind in self.kinds.values():
            first = kind.heap[0]
            if entry is not None and entry < first:
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
                sharing.let_first({self: None})
            self.has_nothing = True
            self.has_looked()
        self.found = found
        return found

    def is_about_to_look(self) -> bool:
        """Return whether this run may start a job now: not if it has looked, and nothing has happened since."""
        return not self.has_nothing or self._timer_is_due()

    def let_first(self, others: dict[Sharing, None]) -> None:
        """Let this run look before others do."""
        self._behind.update(others)
        if not self._turns_left:
            self._turns_left = PATIENCE
            self.call_in_loop(self._look_behind)  # not now: it would look while another one does

    def _look_behind(self) -> None:
        """Wake the run, and let those look that are behind it if it can start no more, or has not within some turns.

        A worker that is about to look may leave instead: because the window has shrunk, for one.
        """
        if self._behind:
            self._wake()
        self._turns_left -= 1
        if not self._behind:
            self._turns_left = 0
        elif self._turns_left and self.starts_at_once():
            self.call_in_loop(self._look_behind)
        else:
            self._turns_left = 0
            self.has_nothing = True
            self.has_looked()

    def has_looked(self) -> None:
        """Let those look that are behind this run: it can start no more."""
        if self._behind:
            self._wake_soon(self._behind)

    def has_fewer_slots(self) -> None:
        """Let those look that are behind this run, or were kept waiting by a job of it, if it has no slot for more."""
        if self._turns_left:
            self._turns_left = PATIENCE
        if self._behind and not self.starts_at_once():
            self.has_looked()
        if self._kept_waiting and not self.has_slot():
            self.let_kept_look()

    def _wake_soon(self, waiting: dict[Sharing, None]) -> None:
        kinds = {kind: None for sharing in waiting for kind in sharing.kinds.values()}
        waiting.clear()
        for sharing in _ahead(kinds):
            self.call_in_loop(sharing.wake)

    def let_kept_look(self) -> None:
        """Let those look that a due job of this run keeps waiting: it fits now, so perhaps it does so no more."""
        if self._kept_waiting:
            self._wake_soon(self._kept_waiting)

    def release(self, job: AbstractJob[Any], grant: Grant | None) -> None:
        """Take back what a job had, if it had anything, and let other runs look whether one of theirs can start."""
        if grant is not None:
            resources = grant.kept()
            grant.give_back()
        else:
            resources = [self.resource(name) for name in job._needs()]
            kind = self.kinds.get(key_of(job))
            if kind is not None:
                kind.drop_settled()
        self.has_nothing = False
        _let_look({kind: None for resource in resources for kind in resource.waiting})

    def wake_for(self, resource: Resource) -> None:
        """Let the runs with jobs that wait for a resource look again: there is more of it, or nobody is in the way."""
        _let_look(resource.waiting)

    def clear(self) -> None:
        """Forget the waiting jobs."""
        self.has_looked()
        self.let_kept_look()
        for kind in list(self.kinds.values()):
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


def key_of(job: AbstractJob[Any]) -> Any:
    """Return what identifies the kind of a job in its run."""
    return tuple(sorted(job._needs().items()))


def _let_look(kinds: dict[Kind, None]) -> None:
    """Let the runs look that wait for these kinds, of which there is more, and those that these keep waiting."""
    sharings = {kind.sharing: None for kind in kinds}
    for sharing in _ahead(kinds):
        sharing.wake()
    for sharing in sharings:
        sharing.let_kept_look()


def _ahead(kinds: dict[Kind, None]) -> dict[Sharing, None]:
    """Return which runs are to be woken, of those that wait for these kinds and have nothing that they can start.

    These are the runs with the earliest jobs for which there is enough together. The others look when those have: if
    all did at once, each of them would ask all others which of them is first.
    """
    asleep = {kind.sharing: None for kind in kinds if kind.sharing.has_nothing}
    if len(asleep) < 2:
        return asleep
    ahead: dict[Sharing, None] = {}
    taken: dict[Resource, Any] = {}
    too_much: Needs = []  # what there was not enough for: most need the same
    for kind in sorted(kinds, key=Kind.number):
        if kind.needs == too_much:
            pass
        elif all(one.fits(one.both(1, need, taken[one]) if one in taken else need) for one, need in kind.needs):
            ahead[kind.sharing] = None
            number = min(len(kind.heap), kind.sharing.starts_at_once())
            for one, need in kind.needs if number else ():
                taken[one] = one.both(number, need, taken[one]) if one in taken else one.both(number - 1, need, need)
        elif kind.opens_at() < math.inf:
            ahead[kind.sharing] = None  # it sets a timer
        else:
            too_much = kind.needs
    behind = {sharing: None for sharing in asleep if sharing not in ahead}
    for sharing in ahead if behind else ():
        sharing.let_first(behind)
    return {sharing: None for sharing in ahead if sharing in asleep}


class Kind:
    """The ready jobs of one run that need the same."""

    __slots__ = ("heap", "key", "needs", "overtakers", "sharing")

    def __init__(self, sharing: Sharing, key: Any, needs: Needs) -> None:
        self.sharing: Final = sharing
        self.key: Final = key  # of it in `Sharing.kinds`
        self.needs: Final = needs
        self.heap: Final[list[Entry]] = []  # as `Order.heap`
        # Who has passed the first job while that waited: when it started, whether it is of the same run, its entry.
        self.overtakers: Final[list[tuple[int, bool, Entry]]] = []

    def push(self, entry: Entry) -> None:
        """Add a job that waits."""
        self.sharing.has_nothing, self.sharing.found = False, None
        heapq.heappush(self.heap, entry)
        for resource, _ in self.needs:
            resource.waiting[self] = None

    def pop(self) -> AbstractJob[Any]:
        """Remove the first job, and return it."""
        job = self._removed()
        self.drop_settled()
        return job

    def drop_settled(self) -> None:
        """Remove the first jobs that wait no more; so the first one always waits, and a kind without jobs is gone."""
        while self.heap and self.heap[0][2]._state is not SCHEDULED:
            self._removed()
        if not self.heap:
            self.clear()

    def _removed(self) -> AbstractJob[Any]:
        self.sharing.found = None
        entry = heapq.heappop(self.heap)
        if self.overtakers:
            self.overtakers[:] = [one for one in self.overtakers if self._passed(one, entry)]
        return entry[2]

    def number(self) -> int:
        """Return the number of the first job."""
        return self.heap[0][1]

    def clear(self) -> None:
        """Remove all jobs, and the kind."""
        self.sharing.found = None
        self.sharing.kinds.pop(self.key, None)
        self.sharing.order.heaps.pop(self.key, None)
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
        for resource, need in self.needs:  # noqa: SIM110 - as in `RateResource.fits`
            if not resource.fits(need):
                return False
        return True

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
        for other in self._before(entry):
            if not other.fits():
                other.overtakers.append((next(numbers), other.sharing is self.sharing, entry))
        return self.pop()

    def number_before(self, job: AbstractJob[Any]) -> int:
        """Return how many jobs of this kind start before one of them."""
        waiting = sorted(entry for entry in self.heap if entry[2]._state is SCHEDULED)
        return next((place for place, entry in enumerate(waiting) if entry[2] is job), 0)

    def must_wait(self) -> Kind | None:
        """Return the kind whose first job is due, and must start before the first job of this kind; or None."""
        fit_beside = 0  # so many with the same needs
        for other in self._before(self.heap[0]):
            if other.needs == self.needs:
                if len(other.heap) > fit_beside and other._fit_beside(len(other.heap), self):
                    fit_beside = len(other.heap)
                if len(other.heap) <= fit_beside:
                    continue
            if other._is_due_before(self) or other._starts_before(self):
                return other
        return None

    def _is_due_before(self, kind: Kind) -> bool:
        """Return whether the first job here, which comes before that of another kind, is due, and does not fit."""
        if len(self.overtakers) < self.sharing.backfill or self.fits():
            return False  # most are not due
        if kind.sharing is not self.sharing and not (self.sharing.has_slot() or self.sharing.starts_at_once()):
            return False  # whoever asks has a slot of its own run
        return self.is_due(self.heap[0]) and kind.sharing.held().isdisjoint(resource for resource, _ in self.needs)

    def _starts_before(self, kind: Kind) -> bool:
        """Return whether jobs here, of another run, are about to take what the first job of a later kind needs."""
        if self.sharing is kind.sharing or self._fit_beside(len(self.heap), kind) or not self.fits():
            return False
        number = min(len(self.heap), self.sharing.starts_at_once()) if self.sharing.is_about_to_look() else 0
        return number > 0 and not self._fit_beside(number, kind)

    def _fit_beside(self, number: int, kind: Kind) -> bool:
        """Return whether there is enough for so many jobs of this kind and one of another."""
        for resource, need in kind.needs:
            for other, given in self.needs:
                if other is resource and not resource.fits(resource.both(number, given, need)):
                    return False
        return True

    def is_due(self, first: Entry) -> bool:
        """Return whether as many later jobs have passed the first one as may."""
        return sum(self._passed(one, first) for one in self.overtakers) >= self.sharing.backfill

    @staticmethod
    def _passed(overtaker: tuple[int, bool, Entry], entry: Entry) -> bool:
        """Return whether one that passed the first job has passed this one too: it waited already, and is earlier."""
        started, same_run, passing = overtaker
        return started > entry[1] and (entry < passing if same_run else entry[1] < passing[1])

    def _before(self, entry: Entry) -> list[Kind]:
        """Return the kinds that need some of the same resources and whose first job comes before one of this kind."""
        if len(self.needs) == 1:
            others = self.needs[0][0].waiting
        else:
            others = dict.fromkeys(kind for resource, _ in self.needs for kind in resource.waiting)
        sharing, number = self.sharing, entry[1]
        return [
            other
            for other in others
            if (other.heap[0][1] < number if other.sharing is not sharing else other.heap[0] < entry)
        ]
