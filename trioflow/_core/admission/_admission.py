"""Admission of ready jobs that need resources: one queue for all runs whose jobs may need the same.

Jobs of one run with the same needs are in one `WaitingLine`: only the first of each can start next. The lines of one
run are in its `AdmissionQueue`, in the order of its policy; and the runs are in an `Admission`, in the order of their
turns: a higher priority first, then the run whose oldest waiting job became ready first.

```
 a run has a slot, and no job without needs ─► it joins the queue, and begins a round
                                                        │
   ┌────────────────────────────────────────────────────┘
   ▼
 round: scan the runs, and the first jobs of their lines, up to the first job that fits
   ├── it is of the calling run ─────► it gets its resources, and starts
   ├── it is of another run ─────────► it gets its resources, its run is woken, and the scan repeats
   └── there is none ────────────────► a timer is set, if time alone makes one fit
```

A new round is due when a resource was given back, a timer fires, or a run has started a job or lost its slots: the run
itself begins it as soon as one of its workers is free; for the others, it is in the next turn of the loop.

- **Backfill**: a job that does not fit lets jobs behind it pass that need one of its resources, at most `backfill` of
  them. Then it has a **reservation**: nothing behind it that needs one of its resources starts before it. So it starts
  when those that run have ended: no job starves. (Reservations come from batch systems: Lifka 1995, "The ANL/IBM SP
  scheduling system". There users give run times, which are not known here; so the number of passes is limited.)
- **Only jobs that could start but for their needs are in the queue**: a run without a slot leaves it in the next round.
  Then no pass counts against its jobs, and they have no reservation, until it has a slot and joins again. Grants that
  its jobs cannot use any longer are given back then.
- **A round is bounded**: when `MAX_LINES` lines wait for a scarce resource, the lines behind them that need it are
  skipped. (Slurm does the same: `bf_max_job_test`.)
- A job inside a scheduler with needs of its own is not blocked by any reservation: the job with the reservation may
  wait for this scheduler to end.
- Pools that jobs of one run need share one queue: when a run needs two with a queue each, the queues are merged.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from ..base._states import SCHEDULED
from ..job._job import AbstractJob
from ._heap_keys import numbers
from ._pool import Grant, Needs

if TYPE_CHECKING:
    from ._heap_keys import HeapEntry, HeapKeys
    from ._resource import Resource

MAX_LINES: Final = 64
"""The most lines that a round scans for each scarce resource."""
PASSES: Final = 32
"""Recorded passes beyond the ones in force, after which obsolete ones are dropped."""


def key_of(job: AbstractJob[Any]) -> Any:
    """Return the key of a job's line in its run."""
    return tuple(sorted(job._needs().items()))


class WaitingLine:
    """The waiting jobs of one run with the same needs."""

    __slots__ = ("_counted", "_passes", "_prune_at", "heap", "key", "needs", "place", "resources", "sharing")

    def __init__(self, sharing: AdmissionQueue, key: Any, needs: Needs) -> None:
        self.sharing: Final = sharing
        self.key: Final = key
        self.needs: Final = needs
        self.resources: Final = frozenset([resource for resource, _ in needs])
        self.heap: Final[list[HeapEntry]] = []  # the same structure as `HeapKeys.heap`
        self.place: tuple[Any, int, WaitingLine] | None = None  # its place in `AdmissionQueue.lines`
        # The jobs that have passed the first one: when, their entry, and whether they are of the same run.
        self._passes: list[tuple[int, HeapEntry, bool]] = []
        self._prune_at = PASSES
        self._counted: tuple[HeapEntry | None, int, bool] = (None, 0, False)  # the last result of `has_reservation`

    def missing(self) -> Needs:
        """Return the needs of one job that cannot be met now, with their resources."""
        return [part for part in self.needs if part[0].opens_at(part[1]) > -math.inf]

    def note_pass(self, other: WaitingLine) -> None:
        """Record that the first job of another line starts before the first one of this."""
        if len(self._passes) >= self._prune_at:
            oldest = next(iter(self.sharing.waiting.values()))
            self._passes = [record for record in self._passes if record[0] > oldest and self._has_passed(record)]
            self._prune_at = 2 * len(self._passes) + PASSES
        self._passes.append((next(numbers), other.heap[0], other.sharing is self.sharing))

    def _has_passed(self, record: tuple[int, HeapEntry, bool]) -> bool:
        """Return whether a job is behind the first one here: in the order of its run, or ready later."""
        _, entry, is_own = record
        first = self.heap[0]
        return first < entry if is_own else first[1] < entry[1]

    def has_reservation(self) -> bool:
        """Return whether the limit of jobs that may pass the first one is reached."""
        number, backfill = len(self._passes), self.sharing.backfill
        if number < backfill or self.sharing.is_in_keeper:
            return False
        first, counted, enough = self._counted
        if first is not self.heap[0] or counted != number:
            first = self.heap[0]
            enough = sum([record[0] > first[1] and self._has_passed(record) for record in self._passes]) >= backfill
            self._counted = (first, number, enough)
        return enough

    def number_before(self, job: AbstractJob[Any]) -> int:
        """Return the number of jobs of this line that start before `job`."""
        waiting = sorted(entry for entry in self.heap if entry[2]._state is SCHEDULED)
        return next((place for place, entry in enumerate(waiting) if entry[2] is job), 0)


class AdmissionQueue:
    """The needs and grants of the ready jobs of one run.

    Args:
        run: the run.

    """

    order: HeapKeys
    admission: Admission  # since the first job waits

    def __init__(self, run: Any) -> None:  # a `Run`, of a higher layer
        self._run = run
        self.backfill: Final[int] = run.scheduler.backfill
        self.is_in_keeper: Final[bool] = run.pools.keeper is not None
        self.clock: Final[Callable[[], float]] = run.clock
        self.call_in_loop: Final[Callable[[Callable[[], None]], None]] = run.backend.threadsafe_caller()
        self.by_needs: Final[dict[Any, WaitingLine]] = {}  # the lines with waiting jobs
        self.lines: Final[list[tuple[Any, int, WaitingLine]]] = []  # the same in the order of their first jobs
        # All waiting jobs, the oldest first, with their numbers; and those of them that have a grant.
        self.waiting: Final[OrderedDict[AbstractJob[Any], int]] = OrderedDict()
        self.granted: Final[dict[AbstractJob[Any], HeapEntry]] = {}
        self.place: tuple[float, int, int, AdmissionQueue] | None = None  # its place in the queue of its admission
        self._number: Final = next(numbers)

    def detach(self) -> None:
        """Release the run, which is over: no job waits in it."""
        del self._run

    def call_at(self, when: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call a function at this time, unless the run is cancelled; return a function that cancels the call."""
        prevent: Callable[[], None] = self._run.group.call_at(when, function)
        return prevent

    def slots(self) -> int:
        """Return how many more jobs could start now."""
        slots: int = self._run.workers.count_startable()
        return slots

    def has_slot_left(self) -> bool:
        """Return whether one more job could start now, besides those without needs."""
        return self.slots() > len(self.order.heap)

    # ---- the jobs

    def line_of(self, job: AbstractJob[Any]) -> WaitingLine:
        """Return the line of a job with needs."""
        key = key_of(job)
        line = self.by_needs.get(key)
        if line is None:
            there = {name: self._run.pools.find(name) for name in job._needs()}
            needs = [(there[name], there[name].need(amount, job)) for name, amount in job._needs().items()]
            self.by_needs[key] = line = WaitingLine(self, key, needs)
            join(self, line.resources)
            self.admission.kinds[line.resources, self.is_in_keeper] += 1
            for resource, need in needs:
                resource.note_line(need, 1)
        return line

    def push(self, entry: HeapEntry) -> None:
        """Add a waiting job; grants of jobs behind it are withdrawn."""
        if self.granted and any(entry < other for other in self.granted.values()):
            self.withdraw()
        _, number, job = entry
        newest = next(reversed(self.waiting.values()), number)
        self.waiting[job] = number
        if number < newest:
            self.waiting.move_to_end(job, last=False)
        line = self.line_of(job)
        heapq.heappush(line.heap, entry)
        self._note_first(line)
        self.admission.note_change()

    def has_found(self) -> bool:
        """Return whether the last round found a job of this run."""
        candidate = self.admission.found if self.lines else None
        return candidate is not None and candidate.sharing is self

    def next_line(self) -> WaitingLine | None:
        """Return the line whose first job starts next, or None. The run must have a slot for it."""
        if not self.lines:
            return None
        admission = self.admission
        if self.place is None:
            self._move()
            admission.note_change()
        return admission.found if self.has_found() else admission.admit(self)

    def take(self, line: WaitingLine) -> HeapEntry:
        """Grant the first job of a line its needs, and return its entry; it passes those that do not fit."""
        for other in self.admission.passed:
            if not other.resources.isdisjoint(line.resources):
                other.note_pass(line)
        return self.take_first(line)

    def take_first(self, line: WaitingLine) -> HeapEntry:
        """Grant the first job of a line its needs, even beyond the free amount, and return its entry."""
        entry = heapq.heappop(line.heap)
        job = entry[2]
        job._extras().grant = Grant(job, line.needs)  # so `Run.settle` settles it, which takes everything back
        self._drop_settled(line)
        self.admission.found = None
        return entry

    def grant_ahead(self, line: WaitingLine) -> None:
        """Grant the first job of a line its needs before a worker asks for it."""
        entry = self.take(line)
        self.granted[entry[2]] = entry
        heapq.heappush(self.order.heap, entry)

    def start_granted(self) -> None:
        """Have workers start the jobs with grants."""
        self._run.workers.ensure_searcher()

    def withdraw(self) -> None:
        """Take back the grants of jobs that have not started, and queue them again."""
        entries = list(self.granted.values())
        if entries:
            self.order.heap[:] = [entry for entry in self.order.heap if entry[2] not in self.granted]
            heapq.heapify(self.order.heap)
        stands = self.place is not None
        for *_, job in entries:
            self.return_grant(job)
        for entry in entries:
            self.push(entry)
        if stands:
            self._move()

    def withdraw_throttled(self) -> None:
        """Withdraw all grants if one of them has been throttled since."""
        if not all((grant := job._grant()) is None or grant.is_open() for job in self.granted):
            self.withdraw()

    def return_grant(self, job: AbstractJob[Any]) -> None:
        """Take back the grant of a job that does not start, rates included."""
        if (grant := job._grant()) is not None:
            grant.put_back()
            self.note_change()
        self.release(job)

    def release(self, job: AbstractJob[Any]) -> None:
        """Take back the grant of a job that has settled, or does not start; drop it from the queue."""
        grant = None if job._facts is None else job._facts.grant
        if job._facts is not None:
            job._facts.grant = None
        has_changed = True
        if grant is not None:
            has_changed = grant.keeps_any() and not self._is_next()
            grant.give_back()
        elif (line := self.by_needs.get(key_of(job))) is not None:
            self._drop_settled(line)
        self.note_start(job)
        if has_changed:
            self.note_change()

    def _is_next(self) -> bool:
        """Return whether the next job to start is known, and stays so whatever is given back: none waits before it."""
        return self.has_found() and not self.admission.passed and len(self.admission.queue) == 1

    def note_start(self, job: AbstractJob[Any]) -> None:
        """Record that a job has left the queue; the run may have no slot for the others."""
        self.granted.pop(job, None)
        if self.waiting.pop(job, None) is not None and self.place is not None:
            self._move()
        self.has_fewer_slots()

    def has_fewer_slots(self) -> None:
        """Begin a round for other runs, if there are any: this one may have lost its last slot."""
        if hasattr(self, "admission") and len(self.admission.queue) > (self.place is not None):
            self.note_change()

    def note_change(self) -> None:
        """Begin a new round: a resource may have become available."""
        if hasattr(self, "admission"):
            self.admission.note_change()
            self.admission.admit_soon(self)

    def clear(self) -> None:
        """Forget the waiting jobs, and leave the queue until the run joins again."""
        self.withdraw()
        for line in list(self.by_needs.values()):
            line.heap.clear()
            self._drop_settled(line)
        self.waiting.clear()
        self.step_out()
        self.note_change()

    def step_out(self) -> None:
        """Leave the queue until the run joins again."""
        if self.place is not None:
            self._stand(None)

    # ---- the places

    def _drop_settled(self, line: WaitingLine) -> None:
        """Remove the settled jobs at the front, so that the first one always waits; drop an empty line."""
        while line.heap and line.heap[0][2]._state is not SCHEDULED:
            heapq.heappop(line.heap)
        self._note_first(line)

    def _note_first(self, line: WaitingLine) -> None:
        """Update the order after a change of a line's first job."""
        before, place = line.place, (*line.heap[0][:2], line) if line.heap else None
        if before is not None and place is not None and place[1] == before[1]:
            return
        if before is not None:
            _remove(self.lines, before)
        line.place = place
        if place is not None:
            bisect.insort(self.lines, place)
        else:
            del self.by_needs[line.key]
            for resource, need in line.needs:
                resource.note_line(need, -1)
            kind = (line.resources, self.is_in_keeper)
            self.admission.kinds[kind] -= 1
            if not self.admission.kinds[kind]:
                del self.admission.kinds[kind]
        if self.place is not None:
            self._move()

    def _move(self) -> None:
        """Move to the right place in the queue."""
        priority = self.lines[0][0][0] if self.lines else 0
        place = (priority, next(iter(self.waiting.values())), self._number, self) if self.waiting else None
        if place != self.place:
            self._stand(place)

    def _stand(self, place: tuple[float, int, int, AdmissionQueue] | None) -> None:
        queue = self.admission.queue
        if self.place is not None:
            _remove(queue, self.place)
        self.place = place
        if place is not None:
            bisect.insort(queue, place)
        else:
            self.admission.forget_timer(self)


class Admission:
    """The queue of all runs whose jobs may need the same resources."""

    def __init__(self) -> None:
        self.queue: list[tuple[float, int, int, AdmissionQueue]] = []
        self.sharings: Final[WeakSet[AdmissionQueue]] = WeakSet()
        self.resources: Final[WeakSet[Resource]] = WeakSet()
        # The number of lines by resources and by whether reservations do not apply.
        self.kinds: Final[Counter[tuple[frozenset[Resource], bool]]] = Counter()
        self.found: WaitingLine | None = None  # found by the last round for its run; valid until the next change
        self.passed: list[WaitingLine] = []  # the lines before it that do not fit
        self._is_settled = False  # whether the last round found nothing, and nothing has changed since
        self._admits_soon = False
        self._granted: dict[AdmissionQueue, None] = {}  # the runs with granted jobs that have not started
        self._opens_at: tuple[float, AdmissionQueue | None] = (math.inf, None)  # when a job will fit, and its run
        self._timer: tuple[float, AdmissionQueue | None] = (math.inf, None)  # its time, and its run
        self._call_off: Callable[[], None] | None = None

    def merge(self, other: Admission) -> None:
        """Merge another queue into this one."""
        for sharing in other.sharings:
            sharing.admission = self
        for resource in other.resources:
            resource.admission = self
        self.sharings.update(other.sharings)
        self.resources.update(other.resources)
        self.kinds.update(other.kinds)
        self.queue = sorted(self.queue + other.queue)
        other.forget_timer(other._timer[1])
        self.note_change()

    def note_change(self) -> None:
        """Invalidate the result of the last round."""
        self._is_settled, self.found = False, None

    def admit_soon(self, sharing: AdmissionQueue) -> None:
        """Schedule a round in the next turn of the loop if runs wait that will not begin one themselves."""
        if not self._admits_soon and self.queue and (len(self.queue) > 1 or sharing.place is None):
            self._admits_soon = True
            sharing.call_in_loop(self._admit_all)

    def _admit_all(self) -> None:
        self._admits_soon = False
        self.admit(None)
        for sharing in self._with_granted():
            sharing.start_granted()

    def _with_granted(self) -> list[AdmissionQueue]:
        """Return the runs with granted jobs that have not started."""
        self._granted = {sharing: None for sharing in self._granted if sharing.granted}
        return list(self._granted)

    def admit(self, caller: AdmissionQueue | None) -> WaitingLine | None:
        """Make a round: start the jobs that fit, up to the first one of `caller`; return its line, or None."""
        while not self._is_settled:
            self._is_settled, self.found = True, None
            for sharing in self._with_granted() if self._granted else ():
                if sharing is not caller and not sharing.slots():
                    sharing.withdraw()
            candidate, idle = self.scan(caller)
            for sharing in idle:
                sharing.step_out()
            if candidate is None:
                self._set_timer()
                self._is_settled = (
                    caller is None or caller.slots() > 0
                )  # jobs of a run without a slot have left the queue
                break
            self._is_settled = False
            if candidate.sharing is caller:
                self.found = candidate
                break
            candidate.sharing.grant_ahead(candidate)
            self._granted[candidate.sharing] = None
            self.admit_soon(candidate.sharing)
        return self.found

    def scan(self, caller: AdmissionQueue | None) -> tuple[WaitingLine | None, list[AdmissionQueue]]:
        """Return the first line whose first job can start; and the runs before it without a slot."""
        closed: set[Resource] = set()  # resources with so many waiting lines that the rest are skipped
        used_up: set[Resource] = set()
        reserved: set[Resource] = set()
        short: dict[Resource, int] = {}
        ends = 0
        idle: list[AdmissionQueue] = []
        self.passed, self._opens_at = [], (math.inf, None)
        for line in self._in_order(caller, idle):
            if not line.resources.isdisjoint(closed) or line.resources <= used_up:
                continue
            opens_at = -math.inf
            for resource, need in line.needs:
                when = resource.opens_at(need)
                if when > -math.inf:
                    opens_at = max(opens_at, when)
                    short[resource] = short.get(resource, 0) + 1
                    if resource.is_used_up():
                        used_up.add(resource)
            if opens_at > -math.inf:
                self.passed.append(line)
                if opens_at < self._opens_at[0]:
                    self._opens_at = opens_at, line.sharing
                if line.has_reservation():
                    reserved |= line.resources
            elif line.sharing.is_in_keeper or line.resources.isdisjoint(reserved):
                return line, idle
            else:
                short.update({resource: short.get(resource, 0) + 1 for resource in line.resources & reserved})
            closed.update([resource for resource in line.resources if short.get(resource, 0) >= MAX_LINES])
            if ends != (ends := len(closed) + len(used_up) + len(reserved)) and all(
                kind <= used_up or not kind.isdisjoint(closed) or not (free or kind.isdisjoint(reserved))
                for kind, free in self.kinds
            ):
                break
        return None, idle

    def _in_order(self, caller: AdmissionQueue | None, idle: list[AdmissionQueue]) -> Iterator[WaitingLine]:
        """Yield the lines of the runs that have a slot; add the others to `idle`.

        The first line of a run has the age of its oldest job, and each other line that of its first job.
        """
        if len(self.queue) == 1:  # the same, several times as fast
            only = self.queue[0][3]
            if only is caller or only.has_slot_left():
                for _, _, line in only.lines:
                    yield line
            else:
                idle.append(only)
            return
        todo: list[tuple[float, int, int, AdmissionQueue, int]] = []
        places: Iterable[Any] = itertools.chain(self.queue, [(math.inf,)])
        for place, following in itertools.pairwise(places):
            sharing: AdmissionQueue = place[3]
            if sharing is caller or sharing.has_slot_left():
                heapq.heappush(todo, (*place, 0))
            else:
                idle.append(sharing)
            while todo and todo[0] < following:
                _, _, number, owner, index = todo[0]
                if index < len(owner.lines):
                    yield owner.lines[index][2]
                if index + 1 < len(owner.lines):
                    key, age, _ = owner.lines[index + 1]
                    heapq.heapreplace(todo, (key[0], age, number, owner, index + 1))
                else:
                    heapq.heappop(todo)

    def blocker(self, line: WaitingLine) -> WaitingLine | None:
        """Return the line whose first job must start before that of `line`, although there is enough for that."""
        candidate, _ = self.scan(None)
        blockers = (
            other for other in self.passed if not other.resources.isdisjoint(line.resources) and other.has_reservation()
        )
        self.note_change()  # the scan overwrote the last result
        return next(blockers, None if candidate is line else candidate)

    def _set_timer(self) -> None:
        when, sharing = self._opens_at
        if when < self._timer[0] and sharing is not None:
            self.forget_timer(self._timer[1])
            self._timer, self._call_off = self._opens_at, sharing.call_at(when, self._fire)

    def forget_timer(self, sharing: AdmissionQueue | None) -> None:
        """Cancel the timer, if it is this run's."""
        if self._call_off is not None and self._timer[1] is sharing:
            self._call_off()
            self._timer, self._call_off = (math.inf, None), None

    def _fire(self) -> None:
        self._timer, self._call_off = (math.inf, None), None
        self.note_change()
        self._admit_all()


def join(sharing: AdmissionQueue, resources: Iterable[Resource]) -> None:
    """Merge the queues of a run and of these resources."""
    for resource in resources:
        if not hasattr(sharing, "admission"):
            sharing.admission = resource.admission or Admission()
            sharing.admission.sharings.add(sharing)
        if resource.admission is None:
            resource.admission = sharing.admission
            sharing.admission.resources.add(resource)
        elif resource.admission is not sharing.admission:
            few, many = sorted((resource.admission, sharing.admission), key=lambda queue: len(queue.resources))
            many.merge(few)


def _remove(places: list[Any], place: Any) -> None:
    del places[bisect.bisect_left(places, place)]
