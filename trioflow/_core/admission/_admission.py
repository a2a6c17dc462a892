"""Admission of ready jobs that need resources: which job gets free resources next, across all runs that share them.

There are three levels. A `WaitingLine` has the jobs of one run with equal needs; only the first of them can start next.
An `AdmissionQueue` has the lines of one run, in the order of its policy. An `Admission` has the queues of all runs that
share resources: those with a higher priority first, then those whose oldest waiting job became ready first.

```
 a run has a free slot, and no ready job without needs ─► its queue joins the admission, and it runs a round
                                                                                          │
   ┌──────────────────────────────────────────────────────────────────────────────────────┘
   ▼
 round: scan the first jobs of all lines, in order, for one whose needs can be met
   ├── it belongs to the calling run ─► it gets its resources, and starts
   ├── it belongs to another run ─────► it gets its resources, a worker of its run is woken, and the scan is repeated
   └── there is none ─────────────────► a timer is set, if time alone will let a job start
```

A new round is needed after a resource was given back, after a timer, and after a run has started a job or lost slots. A
run makes the round itself as soon as one of its workers is free; for other runs, it is made in the next iteration of
the event loop.

- **Backfill**: a job whose needs cannot be met can be overtaken by later jobs that need one of its resources, but by at
  most `backfill` of them. After that, it has a **reservation**: no later job that needs one of its resources starts
  before it. So it starts once the running jobs have ended, and no job starves. (Reservations come from batch systems:
  Lifka 1995, "The ANL/IBM SP scheduling system". There, users declare run times. Here, run times are unknown, so
  overtaking jobs are counted.)
- **A run without a free slot leaves the admission** in the next round, and grants that its jobs can no longer use are
  taken back. Until the run has a slot and joins again, its jobs cannot be overtaken, and have no reservation.
- **A round is bounded**: when `MAX_LINES` lines wait for a scarce resource, later lines that need it are skipped, as
  Slurm does by its option `bf_max_job_test`.
- Reservations do not block jobs inside a scheduler that itself has needs, because the job with the reservation may be
  waiting for that scheduler to end.
- When a run needs resources that belong to different admissions, these are merged.
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
from ._heap_keys import ready_numbers
from ._pool import Grant, Needs

if TYPE_CHECKING:
    from ._heap_keys import HeapEntry, HeapKeys
    from ._resource import Resource

    # Entries of sorted lists. Lines are sorted by the key and the number of their first jobs, runs by priority, age and
    # number.
    LineEntry = tuple[Any, int, "WaitingLine"]
    RunEntry = tuple[float, int, int, "AdmissionQueue"]

MAX_LINES: Final = 64
"""The largest number of waiting lines for each scarce resource that one round scans."""
MAX_OBSOLETE_OVERTAKES: Final = 32
"""The number of obsolete records of overtaking jobs after which a line drops these records."""


def needs_key(job: AbstractJob[Any]) -> Any:
    """Return a key that is equal for jobs with equal needs; it identifies their line in the queue."""
    return tuple(sorted(job._needs().items()))


class WaitingLine:
    """The waiting jobs of one run with equal needs."""

    __slots__ = (
        "_last_result",
        "_overtakers",
        "_prune_at",
        "heap",
        "key",
        "needs",
        "queue_entry",
        "resources",
        "run_queue",
    )

    def __init__(self, run_queue: AdmissionQueue, key: Any, needs: Needs) -> None:
        self.run_queue: Final = run_queue
        self.key: Final = key
        self.needs: Final = needs
        self.resources: Final = frozenset([resource for resource, _ in needs])
        self.heap: Final[list[HeapEntry]] = []  # has the same entries as `HeapKeys.heap`
        self.queue_entry: LineEntry | None = None  # the entry of this line in `AdmissionQueue.lines`
        # The jobs that overtook the first one: a sequence number, the heap entry, and whether the job is of this run.
        self._overtakers: list[tuple[int, HeapEntry, bool]] = []
        self._prune_at = MAX_OBSOLETE_OVERTAKES
        # The first entry and the number of records at the last call of `has_reservation`, and the result of that call.
        self._last_result: tuple[HeapEntry | None, int, bool] = (None, 0, False)

    def missing_needs(self) -> Needs:
        """Return the needs of the line's jobs that cannot be met now, each with its resource."""
        return [(resource, need) for resource, need in self.needs if resource.opens_at(need) > -math.inf]

    def record_overtaking(self, other: WaitingLine) -> None:
        """Record that the first job of another line overtakes the first job of this line."""
        if len(self._overtakers) >= self._prune_at:
            oldest = next(iter(self.run_queue.waiting_jobs.values()))
            self._overtakers = [
                record for record in self._overtakers if record[0] > oldest and self._has_overtaken(record)
            ]
            self._prune_at = 2 * len(self._overtakers) + MAX_OBSOLETE_OVERTAKES
        self._overtakers.append((next(ready_numbers), other.heap[0], other.run_queue is self.run_queue))

    def _has_overtaken(self, record: tuple[int, HeapEntry, bool]) -> bool:
        """Return whether a recorded job would follow the first job of this line in order, and so has overtaken it."""
        _, entry, is_own = record
        first = self.heap[0]
        return first < entry if is_own else first[1] < entry[1]

    def has_reservation(self) -> bool:
        """Return whether the first job has been overtaken by as many jobs as `backfill` allows."""
        number, backfill = len(self._overtakers), self.run_queue.backfill
        if number < backfill or self.run_queue.is_inside_holder:
            return False
        first, counted, enough = self._last_result
        if first is not self.heap[0] or counted != number:
            first = self.heap[0]
            enough = (
                sum([record[0] > first[1] and self._has_overtaken(record) for record in self._overtakers]) >= backfill
            )
            self._last_result = (first, number, enough)
        return enough

    def count_before(self, job: AbstractJob[Any]) -> int:
        """Return the number of jobs of this line that start before `job`."""
        waiting = sorted(entry for entry in self.heap if entry[2]._state is SCHEDULED)
        return next((number for number, entry in enumerate(waiting) if entry[2] is job), 0)


class AdmissionQueue:
    """The ready jobs of one run that wait for resources, and those that have resources but have not started.

    Args:
        run: the run.

    """

    order: HeapKeys
    admission: Admission  # set when the first job waits

    def __init__(self, run: Any) -> None:  # a `Run`, whose module this layer must not import
        self._run = run
        self.backfill: Final[int] = run.scheduler.backfill
        self.is_inside_holder: Final[bool] = run.pools.resource_holder is not None
        self.clock: Final[Callable[[], float]] = run.clock
        self.call_in_loop: Final[Callable[[Callable[[], None]], None]] = run.backend.threadsafe_caller()
        self.lines_by_needs: Final[dict[Any, WaitingLine]] = {}  # the lines with waiting jobs, by `needs_key`
        self.lines: Final[list[LineEntry]] = []  # the same lines, in the order of their first jobs
        # The sequence numbers of all jobs that wait, or have a grant but have not started; the oldest job first.
        self.waiting_jobs: Final[OrderedDict[AbstractJob[Any], int]] = OrderedDict()
        self.granted_jobs: Final[dict[AbstractJob[Any], HeapEntry]] = {}  # the waiting jobs that have a grant
        # The entry of this queue in `Admission.run_entries`; None while the run takes no part in the admission.
        self.run_entry: RunEntry | None = None
        self._sequence_number: Final = next(ready_numbers)

    def detach(self) -> None:
        """Drop the reference to the run, which has ended."""
        del self._run

    def call_at(self, when: float, function: Callable[[], None]) -> Callable[[], None]:
        """Schedule a call at this time, unless the run is cancelled before; return a function that cancels the call."""
        cancel: Callable[[], None] = self._run.group.call_at(when, function)
        return cancel

    def count_slots(self) -> int:
        """Return the number of free slots of the run."""
        slots: int = self._run.workers.count_startable()
        return slots

    def has_free_slot(self) -> bool:
        """Return whether the run has more free slots than ready jobs that wait for no resource."""
        return self.count_slots() > len(self.order.heap)

    # ---- the jobs

    def ensure_line(self, job: AbstractJob[Any]) -> WaitingLine:
        """Return the line of a job with needs, and create it if necessary."""
        key = needs_key(job)
        line = self.lines_by_needs.get(key)
        if line is None:
            resources = {name: self._run.pools.find(name) for name in job._needs()}
            needs = [(resources[name], resources[name].need(amount, job)) for name, amount in job._needs().items()]
            self.lines_by_needs[key] = line = WaitingLine(self, key, needs)
            join_admission(self, line.resources)
            self.admission.line_kinds[line.resources, self.is_inside_holder] += 1
            for resource, need in needs:
                resource.count_line(need, 1)
        return line

    def push(self, entry: HeapEntry) -> None:
        """Add a waiting job. If it precedes a job with a grant, withdraw all grants."""
        if self.granted_jobs and any(entry < other for other in self.granted_jobs.values()):
            self.withdraw()
        _, number, job = entry
        newest = next(reversed(self.waiting_jobs.values()), number)
        self.waiting_jobs[job] = number
        if number < newest:
            self.waiting_jobs.move_to_end(job, last=False)
        line = self.ensure_line(job)
        heapq.heappush(line.heap, entry)
        self._update_line(line)
        self.admission.invalidate()

    def has_candidate(self) -> bool:
        """Return whether the last round found a job of this run that can start."""
        candidate = self.admission.candidate if self.lines else None
        return candidate is not None and candidate.run_queue is self

    def next_line(self) -> WaitingLine | None:
        """Return the line whose first job starts next; None if no job can start. The run must have a free slot."""
        if not self.lines:
            return None
        admission = self.admission
        if self.run_entry is None:
            self._update_run_entry()
            admission.invalidate()
        return admission.candidate if self.has_candidate() else admission.run_round(self)

    def admit(self, line: WaitingLine) -> HeapEntry:
        """Grant the first job of a line its needs, and return its entry; record which lines it overtakes."""
        for other in self.admission.passed_over:
            if not other.resources.isdisjoint(line.resources):
                other.record_overtaking(line)
        return self.grant_first(line)

    def grant_first(self, line: WaitingLine) -> HeapEntry:
        """Grant the first job of a line its needs, even beyond the free amount, and return its entry."""
        entry = heapq.heappop(line.heap)
        job = entry[2]
        # The grant is stored in the extras, because jobs with extras are settled by `Run.settle`, which takes it back.
        job._ensure_extras().grant = Grant(job, line.needs)
        self._drop_settled(line)
        self.admission.candidate = None
        return entry

    def grant_early(self, line: WaitingLine) -> None:
        """Grant the first job of a line its needs before a worker asks for it."""
        entry = self.admit(line)
        self.granted_jobs[entry[2]] = entry
        heapq.heappush(self.order.heap, entry)

    def start_granted(self) -> None:
        """Wake a worker to start the jobs that have grants."""
        self._run.workers.ensure_searcher()

    def withdraw(self) -> None:
        """Take back the grants of all jobs that have not started, and put these jobs back in their lines."""
        entries = list(self.granted_jobs.values())
        if entries:
            self.order.heap[:] = [entry for entry in self.order.heap if entry[2] not in self.granted_jobs]
            heapq.heapify(self.order.heap)
        was_queued = self.run_entry is not None
        for *_, job in entries:
            self.return_grant(job)
        for entry in entries:
            self.push(entry)
        if was_queued:
            self._update_run_entry()

    def withdraw_throttled(self) -> None:
        """Withdraw all grants if a resource of one of them has been throttled since."""
        if not all((grant := job._grant()) is None or grant.is_open() for job in self.granted_jobs):
            self.withdraw()

    def return_grant(self, job: AbstractJob[Any]) -> None:
        """Take back the grant of a job that does not start, including its amounts of rates."""
        if (grant := job._grant()) is not None:
            grant.refund_rates()
            self.request_round()
        self.release(job)

    def release(self, job: AbstractJob[Any]) -> None:
        """Take back the grant of a job that has settled or does not start, and remove the job from the queue."""
        grant = None if job._extras is None else job._extras.grant
        if job._extras is not None:
            job._extras.grant = None
        has_changed = True
        if grant is not None:
            has_changed = grant.holds_any() and not self._keeps_candidate()
            grant.give_back()
        elif (line := self.lines_by_needs.get(needs_key(job))) is not None:
            self._drop_settled(line)
        self.record_start(job)
        if has_changed:
            self.request_round()

    def _keeps_candidate(self) -> bool:
        """Return whether the candidate would start next even if resources became free: no job waits before it."""
        return self.has_candidate() and not self.admission.passed_over and len(self.admission.run_entries) == 1

    def record_start(self, job: AbstractJob[Any]) -> None:
        """Remove a job that starts or is cancelled from the waiting jobs. The run may have no slot left for others."""
        self.granted_jobs.pop(job, None)
        if self.waiting_jobs.pop(job, None) is not None and self.run_entry is not None:
            self._update_run_entry()
        self.request_round_for_others()

    def request_round_for_others(self) -> None:
        """Request a round if other runs wait, because this run may have lost its last slot."""
        if hasattr(self, "admission") and len(self.admission.run_entries) > (self.run_entry is not None):
            self.request_round()

    def request_round(self) -> None:
        """Discard the result of the last round, and schedule a new one: a resource may have become available."""
        if hasattr(self, "admission"):
            self.admission.invalidate()
            self.admission.schedule_round(self)

    def clear(self) -> None:
        """Withdraw all waiting jobs, and take no part in the admission until the run joins it again."""
        self.withdraw()
        for line in list(self.lines_by_needs.values()):
            line.heap.clear()
            self._drop_settled(line)
        self.waiting_jobs.clear()
        self.leave()
        self.request_round()

    def leave(self) -> None:
        """Take no part in the admission until the run joins it again."""
        if self.run_entry is not None:
            self._set_run_entry(None)

    # ---- the order of the lines and queues

    def _drop_settled(self, line: WaitingLine) -> None:
        """Remove settled jobs from the front of a line, so that its first job always waits."""
        while line.heap and line.heap[0][2]._state is not SCHEDULED:
            heapq.heappop(line.heap)
        self._update_line(line)

    def _update_line(self, line: WaitingLine) -> None:
        """Move the entry of a line to its new position after a change of the first job; drop an empty line."""
        before, place = line.queue_entry, (*line.heap[0][:2], line) if line.heap else None
        if before is not None and place is not None and place[1] == before[1]:
            return
        if before is not None:
            _remove_entry(self.lines, before)
        line.queue_entry = place
        if place is not None:
            bisect.insort(self.lines, place)
        else:
            del self.lines_by_needs[line.key]
            for resource, need in line.needs:
                resource.count_line(need, -1)
            kind = (line.resources, self.is_inside_holder)
            self.admission.line_kinds[kind] -= 1
            if not self.admission.line_kinds[kind]:
                del self.admission.line_kinds[kind]
        if self.run_entry is not None:
            self._update_run_entry()

    def _update_run_entry(self) -> None:
        """Move the entry of this queue to its position in the admission; leave the admission if no job waits."""
        priority = self.lines[0][0][0] if self.lines else 0
        place = (
            (priority, next(iter(self.waiting_jobs.values())), self._sequence_number, self)
            if self.waiting_jobs
            else None
        )
        if place != self.run_entry:
            self._set_run_entry(place)

    def _set_run_entry(self, place: RunEntry | None) -> None:
        if self.run_entry is not None:
            _remove_entry(self.admission.run_entries, self.run_entry)
        self.run_entry = place
        if place is not None:
            bisect.insort(self.admission.run_entries, place)
        else:
            self.admission.forget_timer(self)


class Admission:
    """The queues of all runs that share resources, and the rounds in which resources are granted."""

    def __init__(self) -> None:
        self.run_entries: list[RunEntry] = []  # the queues that take part, in the order in which they are served
        self.run_queues: Final[WeakSet[AdmissionQueue]] = WeakSet()
        self.resources: Final[WeakSet[Resource]] = WeakSet()
        # The number of lines by their resources and `is_inside_holder`, which exempts lines from reservations.
        self.line_kinds: Final[Counter[tuple[frozenset[Resource], bool]]] = Counter()
        self.candidate: WaitingLine | None = None  # the line that the last round has found; None after a change
        self.passed_over: list[WaitingLine] = []  # the lines before the candidate, the needs of which cannot be met
        self._is_settled = False  # whether the last round found no job, and nothing has changed after it
        self._is_round_scheduled = False
        self._granted: dict[AdmissionQueue, None] = {}  # an ordered set of the runs that may have granted jobs
        # The earliest time at which a job can start without any other event, and the queue of the job; then the same
        # pair for the timer that is set.
        self._opens_at: tuple[float, AdmissionQueue | None] = (math.inf, None)
        self._timer: tuple[float, AdmissionQueue | None] = (math.inf, None)
        self._cancel_timer: Callable[[], None] | None = None

    def merge(self, other: Admission) -> None:
        """Move the runs and resources of another admission to this one."""
        for run_queue in other.run_queues:
            run_queue.admission = self
        for resource in other.resources:
            resource.admission = self
        self.run_queues.update(other.run_queues)
        self.resources.update(other.resources)
        self.line_kinds.update(other.line_kinds)
        self.run_entries = sorted(self.run_entries + other.run_entries)
        other.forget_timer(other._timer[1])
        self.invalidate()

    def invalidate(self) -> None:
        """Discard the result of the last round."""
        self._is_settled, self.candidate = False, None

    def schedule_round(self, run_queue: AdmissionQueue) -> None:
        """Schedule a round in the next iteration of the event loop, if other runs wait for one."""
        if (
            not self._is_round_scheduled
            and self.run_entries
            and (len(self.run_entries) > 1 or run_queue.run_entry is None)
        ):
            self._is_round_scheduled = True
            run_queue.call_in_loop(self._run_round_for_all)

    def _run_round_for_all(self) -> None:
        self._is_round_scheduled = False
        self.run_round(None)
        for run_queue in self._runs_with_grants():
            run_queue.start_granted()

    def _runs_with_grants(self) -> list[AdmissionQueue]:
        """Return the queues with jobs that have a grant but have not started."""
        self._granted = {run_queue: None for run_queue in self._granted if run_queue.granted_jobs}
        return list(self._granted)

    def run_round(self, caller: AdmissionQueue | None) -> WaitingLine | None:
        """Start the jobs whose needs can be met, in order, up to the first one of `caller`.

        Returns:
            The line of that job, which the caller must start itself; None if there is no such job.

        """
        while not self._is_settled:
            self._is_settled, self.candidate = True, None
            for run_queue in self._runs_with_grants() if self._granted else ():
                if run_queue is not caller and not run_queue.count_slots():
                    run_queue.withdraw()
            candidate, idle = self.scan(caller)
            for run_queue in idle:
                run_queue.leave()
            if candidate is None:
                self._set_timer()
                # If the caller has no slot, its jobs cannot start now, so the next round must scan again.
                self._is_settled = caller is None or caller.count_slots() > 0
                break
            self._is_settled = False
            if candidate.run_queue is caller:
                self.candidate = candidate
                break
            candidate.run_queue.grant_early(candidate)
            self._granted[candidate.run_queue] = None
            self.schedule_round(candidate.run_queue)
        return self.candidate

    def scan(self, caller: AdmissionQueue | None) -> tuple[WaitingLine | None, list[AdmissionQueue]]:
        """Return the first line whose first job can start, and the queues before the line whose runs have no slot."""
        closed: set[Resource] = set()  # resources that `MAX_LINES` lines wait for, so that later lines are skipped
        used_up: set[Resource] = set()  # resources with too little for any waiting line
        reserved: set[Resource] = set()  # resources that a line with a reservation needs
        waiting_lines: dict[Resource, int] = {}  # the number of lines seen so far that wait for each resource
        number_of_limits = 0
        idle: list[AdmissionQueue] = []
        self.passed_over, self._opens_at = [], (math.inf, None)
        for line in self._iterate_lines(caller, idle):
            if not line.resources.isdisjoint(closed) or line.resources <= used_up:
                continue
            opens_at = -math.inf
            for resource, need in line.needs:
                when = resource.opens_at(need)
                if when > -math.inf:
                    opens_at = max(opens_at, when)
                    waiting_lines[resource] = waiting_lines.get(resource, 0) + 1
                    if resource.is_exhausted():
                        used_up.add(resource)
            if opens_at > -math.inf:
                self.passed_over.append(line)
                if opens_at < self._opens_at[0]:
                    self._opens_at = opens_at, line.run_queue
                if line.has_reservation():
                    reserved |= line.resources
            elif line.run_queue.is_inside_holder or line.resources.isdisjoint(reserved):
                return line, idle
            else:
                for resource in line.resources & reserved:
                    waiting_lines[resource] = waiting_lines.get(resource, 0) + 1
            closed.update([resource for resource in line.resources if waiting_lines.get(resource, 0) >= MAX_LINES])
            # Only a new limit can exclude all remaining lines.
            if number_of_limits != (number_of_limits := len(closed) + len(used_up) + len(reserved)) and all(
                kind <= used_up or not kind.isdisjoint(closed) or not (is_exempt or kind.isdisjoint(reserved))
                for kind, is_exempt in self.line_kinds
            ):
                break
        return None, idle

    def _iterate_lines(self, caller: AdmissionQueue | None, idle: list[AdmissionQueue]) -> Iterator[WaitingLine]:
        """Yield the lines of all runs that have a slot, in order; append the queues of other runs to `idle`.

        The first line of a run is placed by the age of the run's oldest job, each other line by that of its first job.
        """
        if len(self.run_entries) == 1:  # the code below would yield the same, several times slower
            only = self.run_entries[0][3]
            if only is caller or only.has_free_slot():
                for _, _, line in only.lines:
                    yield line
            else:
                idle.append(only)
            return
        # A heap with the next line of each run: priority, age, number and queue of the run, and index of the line.
        todo: list[tuple[float, int, int, AdmissionQueue, int]] = []
        places: Iterable[Any] = itertools.chain(self.run_entries, [(math.inf,)])
        for place, following in itertools.pairwise(places):
            run_queue: AdmissionQueue = place[3]
            if run_queue is caller or run_queue.has_free_slot():
                heapq.heappush(todo, (*place, 0))
            else:
                idle.append(run_queue)
            while todo and todo[0] < following:
                _, _, number, owner, index = todo[0]
                if index < len(owner.lines):
                    yield owner.lines[index][2]
                if index + 1 < len(owner.lines):
                    key, age, _ = owner.lines[index + 1]
                    heapq.heapreplace(todo, (key[0], age, number, owner, index + 1))
                else:
                    heapq.heappop(todo)

    def find_blocker(self, line: WaitingLine) -> WaitingLine | None:
        """Return the line that keeps the first job of `line` from starting, although that job's needs could be met."""
        candidate, _ = self.scan(None)
        blockers = (
            other
            for other in self.passed_over
            if not other.resources.isdisjoint(line.resources) and other.has_reservation()
        )
        self.invalidate()  # the scan has overwritten the result of the last round
        return next(blockers, None if candidate is line else candidate)

    def _set_timer(self) -> None:
        when, run_queue = self._opens_at
        if when < self._timer[0] and run_queue is not None:
            self.forget_timer(self._timer[1])
            self._timer, self._cancel_timer = self._opens_at, run_queue.call_at(when, self._on_timer)

    def forget_timer(self, run_queue: AdmissionQueue | None) -> None:
        """Cancel the timer, if it was set for this run."""
        if self._cancel_timer is not None and self._timer[1] is run_queue:
            self._cancel_timer()
            self._timer, self._cancel_timer = (math.inf, None), None

    def _on_timer(self) -> None:
        self._timer, self._cancel_timer = (math.inf, None), None
        self.invalidate()
        self._run_round_for_all()


def join_admission(run_queue: AdmissionQueue, resources: Iterable[Resource]) -> None:
    """Put a run and these resources in the same admission, by merging the admissions that they are in already."""
    for resource in resources:
        if not hasattr(run_queue, "admission"):
            run_queue.admission = resource.admission or Admission()
            run_queue.admission.run_queues.add(run_queue)
        if resource.admission is None:
            resource.admission = run_queue.admission
            run_queue.admission.resources.add(resource)
        elif resource.admission is not run_queue.admission:
            smaller, larger = sorted(
                (resource.admission, run_queue.admission), key=lambda admission: len(admission.resources)
            )
            larger.merge(smaller)


def _remove_entry(places: list[Any], place: Any) -> None:
    del places[bisect.bisect_left(places, place)]
