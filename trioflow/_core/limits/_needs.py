"""Which of the ready jobs may start, if some of them need resources: list scheduling with backfill and reservations.

Jobs of one run with the same needs are in one `NeedsQueue`. Of each only the first can start next, so to schedule is to
look at one job of each queue; and the `Ladder` of the run finds those that fit without asking all. Each run schedules
by itself, because only it knows its policy and its slots. A resource knows who waits for it: the queues of all runs,
those with the same needs as one `Group`, by when their first jobs became ready.

```
 a job becomes ready ──► push ──► its queue: a heap in the order of the run's policy
                                     │
   ┌─────────────────────────────────┘
   ▼
 schedule (`first_that_can_start`): go through those of the first jobs that fit, the earliest
   │  first, up to one that is not blocked by another job
   ├── one is found ──► it is granted what it needs, and starts; it is backfilled if one before it does not fit
   │                    and needs one of its resources; after `backfill` of these, that one has a reservation
   └── none is found ─► the run is asleep, with a timer if time alone can wake it, until it is woken:
                          by a job that becomes ready in it, or by its timer
                          by whoever gives something back, takes less of a rate, or throttles less
                          by another run that sleeps now, or has no slot left, and whose jobs are before its own
```

- **Backfill**: a job that does not fit lets later ones pass that need one of its resources, at most `backfill` times: a
  `Pass` is noted with these resources.
  Then it has a **reservation**: nothing that needs one of its resources starts before it. So it starts when those that
  run have ended, and nobody starves. (Reservations come from batch systems: Lifka 1995, "The ANL/IBM SP scheduling
  system". There users say how long a job takes, which nobody knows here; so what is limited is the number of those
  that pass.)
- **Blocked by**: a job that would fit is blocked by one with a reservation; and by one of another run that is earlier,
  and about to start, if there is not enough for both. Which of two jobs is first is decided by the policy, if they are
  in the same run, and otherwise by when they became ready.
- **Wake**: when something is given back, only those runs are woken whose jobs are the earliest, as many as there is
  enough for; in each group, the look stops at the first that does not fit. The others come after these: when these can
  start no more, the look goes on from there. To wake all at once would cost the square of their number for each job
  that ends, because each asks all that are awake which of them is first. Those that are asleep are not asked.
- A job whose own run has no slot for it, neither a free one nor that of a worker that looks for a job, does not wait
  for resources: nobody is backfilled before it, and it blocks nobody. When a run has no slot left, those that were
  blocked by one of its jobs are woken.
- A job inside a scheduler that keeps what it needs is blocked by no reservation: that job may wait
  for this scheduler to end.
- Time alone lets a job start that waits for a rate, or for the end of a throttle. So whoever finds that nothing can
  start sets a timer for the first of these times.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from ..base._states import RunPhase
from ..job._job import AbstractJob
from ._ladder import Ladder
from ._order import numbers
from ._pool import Grant
from ._queues import Group, NeedsQueue, Pass, key_of
from ._resource import SECONDS_APART, Resource

if TYPE_CHECKING:
    from ._order import Order

PATIENCE: Final = 4
"""Turns of the loop for which a run lets another one go first that starts nothing meanwhile."""


class SharingRun:
    """A run as `Sharing` asks it; most of what it asks is a method of something else, and is called as often as any."""

    def __init__(self, run: Any) -> None:  # a `Run`, which is further up
        self._run: Any = run
        self.backfill: Final[int] = run.scheduler.backfill
        self.clock: Final[Callable[[], float]] = run.clock
        self.call_in_loop: Final[Callable[[Callable[[], None]], None]] = run.backend.caller()
        self.call_at: Callable[[float, Callable[[], None]], Callable[[], None]] = run.group.call_at
        self.resource: Callable[[str], Resource] = run.grants.find
        self.is_in_keeper: Final[bool] = run.grants.keeper is not None
        self.has_slot: Callable[[], bool] = run.workers.has_free_slot

    def starts_at_once(self) -> int:
        """Return how many more jobs would start as soon as the run looks for them."""
        return self._run.workers.starts_at_once() if self._is_running() else 0

    def stands_in_line(self) -> bool:
        """Return whether a worker that will look for jobs may stand in the line for a turn."""
        return self._run is not None and bool(self._run.turn.line) and self._run.workers.searchers > 0

    def wake(self) -> None:
        """Look for jobs that can start."""
        if self._is_running():
            self._run.workers.ensure_searcher()

    def _is_running(self) -> bool:
        """Return whether jobs may start: before the run has begun, they are not all linked."""
        return self._run is not None and self._run.phase is RunPhase.RUNNING

    def part_from_run(self) -> None:
        """Give up the run, which is over: no job waits in it any more."""
        self._run = None
        del self.call_at, self.resource, self.has_slot


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
        self.ladder: Final = Ladder()  # the same queues
        self.resources: Final[dict[Resource, int]] = {}  # what they need, and how many of them
        self.found: NeedsQueue | None = None  # when it scheduled last; it is right until something else happens
        self.asleep = False  # whether it could start nothing, or did not in time, and has not been woken since
        # When it scheduled last: the queues whose first jobs fit, and were blocked; and what their blockers need.
        self._blocked_here: list[NeedsQueue] = []
        self._reserved: set[Resource] = set()
        # Runs to wake: those that wait for these resources since such a number, or a later one...
        self._next: Final[dict[Resource, float]] = {}  # ...when this one can start no more,
        self._blocked: Final[dict[Resource, float]] = {}  # ...when a reservation here may block them no more.
        self._turns_left = 0  # of `PATIENCE`, while `_wake_first` is called in each turn; otherwise 0
        self._timer_at = math.inf  # when the timer is set for; `-inf` when there will be no more of them
        self._call_off: Callable[[], None] | None = None

    def wake(self) -> None:
        """Let the run schedule: something has happened."""
        self.set_asleep(False)
        self.run.wake()

    def set_asleep(self, asleep: bool) -> None:
        """Record whether it is asleep."""
        if self.asleep is not asleep:
            self.asleep = asleep
            self._note_life()

    def is_lively(self) -> bool:
        """Return whether it may start a job: if it is awake, or its timer is set."""
        return not self.asleep or self._timer_at < math.inf

    def _note_life(self) -> None:
        """Let its resources know whether it is lively."""
        is_lively = self.is_lively()
        for resource in self.resources:
            if is_lively:
                resource.lively[self] = None
            else:
                resource.lively.pop(self, None)

    def queue_of(self, job: AbstractJob[Any]) -> NeedsQueue:
        """Return the queue of a job that needs something."""
        key = key_of(job)
        queue = self.queues.get(key)
        if queue is None:
            needs = job._needs()
            there = {name: self.run.resource(name) for name in needs}
            needed = [(there[name], there[name].need(given, "")) for name, given in needs.items()]
            self.queues[key] = queue = NeedsQueue(self, key, needed)
            self.order.heaps[key] = queue.heap
        return queue

    def first_that_can_start(self) -> NeedsQueue | None:
        """Return the queue whose first job starts next, among those that fit and that nobody blocks."""
        opens_at = math.inf
        before: list[tuple[Sharing, NeedsQueue]] = []
        self._blocked_here, self._reserved = [], set()
        for queue in self.ladder.fitting(self._reserved):
            blocker = queue.blocked_by()
            if blocker is None:
                self.found = queue
                return queue
            self._blocked_here.append(queue)
            when = blocker.opens_at()
            opens_at = min(opens_at, when)
            if blocker.sharing is self:
                self._reserved.update(resource for resource, _ in blocker.needs)
                if when == math.inf and blocker.fits():  # the time has come since it was asked
                    opens_at = min(opens_at, self.run.clock())
            elif blocker.fits():
                before.append((blocker.sharing, queue))
            else:
                blocker.let_wake(queue)
        if self._timer_is_due():
            self._ring_no_more()
        if any(not (resource.is_kept and resource.is_open()) for resource in self.resources):
            opens_at = min(opens_at, self.ladder.opens_at(self.run.clock, self._blocked_here, self._reserved))
        if opens_at < self._timer_at:
            self._set_timer(opens_at)
        for sharing, queue in before:
            sharing.wake_before(queue.from_here())
        self.set_asleep(True)
        self.wake_next()
        self.found = None
        return None

    def is_awake(self) -> bool:
        """Return whether this run may start a job now: not if it is asleep, and its timer is not due."""
        return not self.asleep or self._timer_is_due()

    def wake_before(self, others: dict[Resource, float]) -> None:
        """Wake this run, and the others when it can start no more."""
        _add_to(self._next, others)
        if not self._turns_left:
            self._turns_left = PATIENCE
            self.run.call_in_loop(self._wake_first)  # not now: it would schedule while another one does

    def _wake_first(self) -> None:
        """Wake the run; wake those that come after it if it can start no more, or has not within some turns.

        A worker that is about to look may leave instead: because the window has shrunk, for one.
        """
        if self._next:
            self.run.wake()
        if not self.run.stands_in_line():
            self._turns_left -= 1
        if not self._next:
            self._turns_left = 0
        elif self._turns_left and self.run.starts_at_once():
            self.run.call_in_loop(self._wake_first)
        else:
            self._turns_left = 0
            self.set_asleep(True)
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

    def _wake_soon(self, waiting: dict[Resource, float]) -> None:
        since = dict(waiting)
        waiting.clear()
        for sharing in _to_wake(since):
            self.run.call_in_loop(sharing.wake)

    def let_wake_blocked(self, blocked: dict[Resource, float], resources: Iterable[Resource]) -> None:
        """Wake these runs, which a reservation here blocks, when more of its resources is there, or it is no more."""
        _add_to(self._blocked, blocked)
        for resource in resources:
            resource.blockers[self] = None

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
        self.set_asleep(False)
        self.wake_for(resources)

    def wake_for(self, resources: Iterable[Resource]) -> None:
        """Wake runs with jobs that wait for a resource: there is more of it, or a reservation has gone."""
        for sharing in _to_wake(dict.fromkeys(resources, -math.inf)):
            sharing.wake()
        for resource in resources:
            while resource.blockers:
                resource.blockers.popitem()[0].wake_blocked()

    def clear(self) -> None:
        """Forget the waiting jobs."""
        self.wake_next()
        self.wake_blocked()
        for queue in list(self.queues.values()):
            queue.clear()

    def end(self) -> None:
        """Set no more timers: the run is over."""
        self._set_timer(-math.inf)

    def note_pass(self, queue: NeedsQueue) -> None:
        """Record that the first job of a queue starts before those that do not fit, and wait for the same resources."""
        entry, first = queue.heap[0], self.ladder.first()
        shared = [resource for resource, _ in queue.needs if len(resource.runs) > 1]
        if first is entry and not shared:
            return  # nobody was passed
        groups = {group: group.fits() for resource in shared for group in resource.waiting.values()}
        if first is entry and not any(not fits and group.oldest() < entry[1] for group, fits in groups.items()):
            return
        fitting: list[NeedsQueue] | Iterable[NeedsQueue] = self._blocked_here
        if self._reserved:  # then not all of them were looked at
            fitting = itertools.takewhile(lambda one: one.heap[0] < entry, self.ladder.fitting())
        one = Pass(next(numbers), self, entry, frozenset(fitting), {group for group, fits in groups.items() if fits})
        for resource, _ in queue.needs:
            resource.note_pass(one)

    def _set_timer(self, when: float) -> None:
        self._ring_no_more()
        self._timer_at = when
        self._call_off = None if when == -math.inf else self.run.call_at(when, self._ring)
        self._note_life()

    def _ring_no_more(self) -> None:
        if self._call_off is not None:
            self._call_off()
        self._call_off, self._timer_at = None, math.inf
        self._note_life()

    def _timer_is_due(self) -> bool:
        return -math.inf < self._timer_at <= self.run.clock() + SECONDS_APART

    def _ring(self) -> None:
        self._call_off, self._timer_at = None, math.inf
        self.wake()


def _add_to(waiting: dict[Resource, float], others: dict[Resource, float]) -> None:
    for resource, number in others.items():
        waiting[resource] = min(number, waiting.get(resource, math.inf))


def _to_wake(since: dict[Resource, float]) -> list[Sharing]:
    """Return which runs to wake, of those that are asleep and wait for a resource since a number or a later one.

    These are the runs with the earliest jobs for which there is enough together. The others are woken when these can
    start no more: if all were at once, each of them would ask all others which of them is first.
    """
    if max([len(resource.runs) for resource in since], default=0) < 2:
        return [sharing for resource in since for sharing in resource.runs if sharing.asleep]
    numbers: dict[Group, float] = {}
    for resource, number in since.items():
        for group in resource.waiting.values():
            numbers[group] = min(number, numbers.get(group, math.inf))
    # The next queue of each group, the earliest first.
    heads = [place for group, number in numbers.items() if (place := group.next_since(number)) is not None]
    heapq.heapify(heads)
    first: dict[Sharing, None] = {}
    taken: dict[Resource, Any] = {}
    last, left = -math.inf, False
    lacks = math.inf  # the number of the first one for which there is enough, but not beside those that come before it
    while heads:
        number, _, queue = heads[0]
        fits = all(one.fits(one.both(1, need, taken[one]) if one in taken else need) for one, need in queue.needs)
        if not fits and queue.opens_at() == math.inf:  # otherwise it sets a timer
            heapq.heappop(heads)  # it is the same with the others that need as much
            left = True
            if lacks == math.inf and queue.fits():
                lacks = number
            continue
        first[queue.sharing], last = None, number
        if fits:
            number = min(len(queue.heap), queue.sharing.run.starts_at_once())
            for one, need in queue.needs if number else ():
                taken[one] = one.both(number, need, taken[one]) if one in taken else one.both(number - 1, need, need)
        following = queue.group.next_since(last + 1)
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, following)
    for sharing in first if left else ():
        sharing.wake_before(dict.fromkeys(since, min(lacks, last + 1)))
    return [sharing for sharing in first if sharing.asleep]
