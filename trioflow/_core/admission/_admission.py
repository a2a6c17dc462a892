"""Admission of the ready jobs of a run in which some jobs need resources, across all runs that share these resources.

There are three levels. A `WaitingGroup` has the waiting jobs of one run with equal needs; only the first of them can
start next. An `AdmissionQueue` has the groups of one run, in the order of its policy. An `Admission` has the queues of
all runs that share resources: those with a higher priority first, then those whose oldest waiting job became ready
first.

A **round** admits the waiting jobs that can start, in this order: their run has a slot for them, and their needs can be
met. An admitted job gets both at once, and keeps them until it has settled. Each change that may let a job start
discards the result of the last round, by `Admission.is_settled`. The next round runs when the run in which the change
happened passes on what was released (see `ReadyQueue.admit`), or by a timer, if time alone lets a job start.

- **Backfill**: a job whose needs cannot be met can be overtaken by later jobs that need one of its resources, but by at
  most `backfill` of them. After that, it has a **reservation**: no later job that needs one of its resources starts
  before it. So it starts once enough running jobs have ended, and no job starves. (Reservations come from batch
  systems: Lifka 1995, "The ANL/IBM SP scheduling system". There, users declare run times. Here, run times are unknown,
  so overtaking jobs are counted.)
- **A run without room leaves the admission** in the next round: it has no free slot, or enough admitted jobs that have
  not started. Until it has room and joins again, its jobs cannot be overtaken, and have no reservation.
- **A round is bounded**: when `MAX_GROUPS_PER_RESOURCE` groups wait for a scarce resource, later groups that need it
  are skipped. Slurm's option `bf_max_job_test` sets a similar bound.
- Jobs whose key of a `PerKey` is taken are parked, and have no reservation; see `_per_key`.
- Jobs inside a scheduler that itself has needs ignore reservations, because the job with the reservation may be waiting
  for that scheduler to end.
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
from ..job._errors import BudgetSpent
from ..job._job import AbstractJob
from ..job._job_queries import takes_slot
from ._budget import BudgetResource
from ._heap_keys import ready_numbers
from ._per_key import Key, PerKeyResource
from ._pool import Grant, Needs
from ._resource import TIME_TOLERANCE, PoolEntry, Resource

if TYPE_CHECKING:
    from ._heap_keys import HeapEntry, HeapKeys

    # Entries of sorted lists. A group is sorted by the key and the sequence number of its first job; a queue by its
    # priority, the sequence number of its oldest job, and its own sequence number.
    GroupEntry = tuple[Any, int, "WaitingGroup"]
    QueueEntry = tuple[float, int, int, "AdmissionQueue"]

MAX_ADMITTED: Final = 12
"""The number of startable jobs in a run up to which more are admitted: about as many as there are workers that search
for jobs at the same time. Jobs that become ready later cannot overtake admitted ones."""
MAX_GROUPS_PER_RESOURCE: Final = 64
"""The maximum number of groups that one round scans for each scarce resource."""
MAX_OBSOLETE_OVERTAKES: Final = 32
"""The number of overtaking jobs that a group records before it first drops obsolete records."""


class WaitingGroup:
    """The waiting jobs of one run with equal needs, which may be none but a slot, apart from the key of a `PerKey`.

    Args:
        queue: the jobs of the run.
        key: the group's key in `AdmissionQueue.groups_by_needs`.
        needs: the needs that all jobs of the group have in common.
        needs_slot: whether they need a slot.
        per_key: the resource of which each of them needs a key; None if there is none.

    """

    __slots__ = (
        "_counted",
        "_first",
        "_overtaken_count",
        "_overtakers",
        "_parked",
        "_prune_at",
        "entry",
        "heap",
        "key",
        "needs",
        "needs_slot",
        "per_key",
        "queue",
        "resources",
    )

    def __init__(
        self, queue: AdmissionQueue, key: Any, needs: Needs, needs_slot: bool, per_key: PerKeyResource | None
    ) -> None:
        self.queue: Final = queue
        self.key: Final = key
        self.needs_slot: Final = needs_slot
        self.needs: Final = needs
        self.per_key: Final = per_key
        entries: list[PoolEntry] = [resource for resource, _ in needs]
        self.resources: Final = frozenset(entries if per_key is None else [*entries, per_key])
        self.heap: Final[list[HeapEntry]] = []  # entries like those of `HeapKeys.heap`
        self._parked: Final[dict[Key, list[HeapEntry]]] = {}  # heaps of the jobs that wait for their key
        # The first entry, the key of its job, and the resources that this job takes.
        self._first: tuple[HeapEntry, Key, frozenset[PoolEntry]] | None = None
        self.entry: GroupEntry | None = None  # the entry of this group in `AdmissionQueue.group_entries`
        # A record for each job that overtook a first job of this group: the record's sequence number, the overtaking
        # job's heap entry, whether that job belongs to the same run, and what it takes.
        self._overtakers: list[tuple[int, HeapEntry, bool, frozenset[PoolEntry]]] = []
        self._prune_at = MAX_OBSOLETE_OVERTAKES  # the number of records at which obsolete ones are dropped
        # A first entry, and how many of the records count for its job: a new record is added to this count at once.
        self._counted: HeapEntry | None = None
        self._overtaken_count = 0

    # ---- keys of a `PerKey`

    def needs_of(self, job: AbstractJob[Any]) -> Needs:
        """Return the needs of a job, each with its resource; without its key, if nothing uses that. Any thread may."""
        key = None if self.per_key is None else self.per_key.keys.get(str(job._needs()[self.per_key.name]))
        return self.needs if key is None else [*self.needs, (key, key.family.unit_need)]

    def unmet_needs(self, job: AbstractJob[Any]) -> Needs:
        """Return those needs of a job that cannot be met now, each with its resource. Any thread may call this."""
        return [(resource, need) for resource, need in self.needs_of(job) if resource.available_at(need) > -math.inf]

    def needs_used_up_by(self, job: AbstractJob[Any], before: int) -> Needs:
        """Return those needs of a job that cannot be met after the `before` jobs ahead of it have started."""
        return [(resource, need) for resource, need in self.needs_of(job) if resource.is_used_up_by(need, before)]

    def first_key(self) -> Key | None:
        if self.per_key is None:
            return None
        entry = self.heap[0]
        if self._first is None or self._first[0] is not entry:
            key = self.per_key.key(str(entry[2]._needs()[self.per_key.name]))
            self._first = (entry, key, (self.resources - {self.per_key}) | {key})
        return self._first[1]

    def first_resources(self) -> frozenset[PoolEntry]:
        self.first_key()
        return self.resources if self._first is None else self._first[2]

    def forget_first(self) -> None:
        """Drop what is stored of a first job that is not the first any more."""
        if self._first is not None and not (self.heap and self._first[0] is self.heap[0]):
            self._first = None

    def park_unavailable(self) -> bool:
        """Park the first jobs whose key is taken, so that the first job has a free key; return whether there were any.

        The group may be empty afterwards.
        """
        has_parked = False
        while self.heap and (key := self.first_key()) and key.available_at(key.family.unit_need) > -math.inf:
            self.park_first(key)
            key.wake()  # at the time at which it will be free
            has_parked = True
        return has_parked

    def park_first(self, key: Key) -> None:
        heapq.heappush(self._parked.setdefault(key, []), heapq.heappop(self.heap))
        key.parked[self] = None
        self.queue.drop_settled(self)

    def unpark(self, key: Key) -> None:
        """Let the first job that is parked with a key compete again, if there is one."""
        entries = self._parked.get(key, [])
        self._drop_settled_parked(key)
        if entries:
            heapq.heappush(self.heap, heapq.heappop(entries))
            self._drop_settled_parked(key)
        self.queue.drop_settled(self)
        self.queue.join()

    def forget_parked(self, job: AbstractJob[Any]) -> None:
        """Drop a job that has settled while it waited, and let the next job with its key compete."""
        key = None if self.per_key is None else self.per_key.keys.get(str(job._needs()[self.per_key.name]))
        if key is not None:
            self._drop_settled_parked(key)
            key.wake()

    def _drop_settled_parked(self, key: Key) -> None:
        entries = self._parked.get(key, [])
        while entries and entries[0][2]._state is not SCHEDULED:
            heapq.heappop(entries)
        if not entries and self._parked.pop(key, None) is not None:
            del key.parked[self]

    def is_empty(self) -> bool:
        return not (self.heap or self._parked)

    def entries(self) -> list[HeapEntry]:
        """Return the entries of all waiting jobs, and of some that have settled, in any order."""
        return [*self.heap, *itertools.chain(*self._parked.values())]

    def clear(self) -> None:
        self.heap.clear()
        for key in self._parked:
            del key.parked[self]
        self._parked.clear()
        self._first = None

    # ---- overtaking

    def record_overtaking(self, other: WaitingGroup) -> None:
        """Record that the first job of another group overtakes the first job of this group."""
        if len(self._overtakers) >= self._prune_at:
            oldest = next(iter(self.queue.waiting_jobs.values()))
            self._overtakers = [
                record for record in self._overtakers if record[0] > oldest and self._has_overtaken(record)
            ]
            self._prune_at = 2 * len(self._overtakers) + MAX_OBSOLETE_OVERTAKES
        record = next(ready_numbers), other.heap[0], other.queue is self.queue, other.first_resources()
        self._overtakers.append(record)
        if self._counted is self.heap[0]:
            self._overtaken_count += self._has_overtaken(record)

    def _has_overtaken(self, record: tuple[int, HeapEntry, bool, frozenset[PoolEntry]]) -> bool:
        """Return whether the recorded job comes after the first job of this group, and takes one of its resources."""
        _, entry, is_same_run, resources = record
        first = self.heap[0]
        if self.per_key is not None and resources.isdisjoint(self.first_resources()):
            return False
        return first < entry if is_same_run else first[1] < entry[1]

    def has_reservation(self) -> bool:
        """Return whether the first job has been overtaken by as many jobs as `backfill` allows.

        Jobs inside a scheduler that has needs never get a reservation.
        """
        if len(self._overtakers) < self.queue.backfill or self.queue.is_inside_holder:
            return False
        first = self.heap[0]
        if self._counted is not first:
            self._counted = first
            self._overtaken_count = sum(
                [record[0] > first[1] and self._has_overtaken(record) for record in self._overtakers]
            )
        return self._overtaken_count >= self.queue.backfill

    def count_before(self, job: AbstractJob[Any]) -> int:
        waiting = sorted(
            entry
            for entry in self.entries()
            if entry[2]._state is SCHEDULED and (self.per_key is None or entry[2]._needs() == job._needs())
        )
        return next((number for number, entry in enumerate(waiting) if entry[2] is job), 0)


class AdmissionQueue:
    """The waiting jobs of one run, in groups of equal needs.

    Args:
        run: the run.
        order: the keys of its jobs.

    """

    def __init__(self, run: Any, order: HeapKeys) -> None:  # a `Run`, whose module this layer must not import
        self.run = run
        self._ready = run.queue
        self.order = order
        self.backfill: Final[int] = run.scheduler.backfill
        # Whether an enclosing scheduler, or that of the run, has needs. If so, its jobs ignore reservations.
        self.is_inside_holder: Final[bool] = run.pools.resource_holder is not None
        self.groups_by_needs: Final[dict[Any, WaitingGroup]] = {}  # the groups that have waiting jobs, by `_group_key`
        self.group_entries: Final[list[GroupEntry]] = []  # the same groups, in the order of their first jobs
        # The sequence numbers of all waiting jobs; the job that became ready first comes first.
        self.waiting_jobs: Final[OrderedDict[AbstractJob[Any], int]] = OrderedDict()
        self.slotless_count = 0  # how many of the groups have jobs that take no slot
        # The entry of this queue in `Admission.queue_entries`; None while the run has not joined the admission.
        self.entry: QueueEntry | None = None
        self._sequence_number: Final = next(ready_numbers)
        outer: Any = self._ready.outer
        self.admission: Admission = Admission() if outer is None else outer.groups.admission
        self.admission.queues.add(self)
        self.admission.shares_slots = self.admission.shares_slots or outer is not None

    def detach(self) -> None:
        """Drop the references to the run, which has ended, and leave the admission for good."""
        del self.run, self._ready
        self.admission.queues.discard(self)

    def has_room(self) -> bool:
        """Return whether the run can start another job that needs a slot, and has not admitted enough others."""
        return len(self._ready.startable) < MAX_ADMITTED and not self._ready.is_full()

    def start_admitted(self) -> None:
        self.run.workers.ensure_searcher()

    def return_throttled(self) -> None:
        """Put the admitted jobs that have a throttled resource, and have not started, back into their groups."""
        if self._ready.return_throttled():
            self.start_admitted()

    # ---- the jobs

    def _group_key(self, job: AbstractJob[Any]) -> Any:
        """Return the key of a job's group: jobs with equal needs, of which a slot is one, have equal keys."""
        needs = job._needs()
        for name, amount in needs.items():
            if isinstance(amount, str) and isinstance(self.run.pools.find(name), PerKeyResource):
                needs = {**needs, name: ""}
        return (takes_slot(job), *sorted(needs.items()))

    def _get_or_create_group(self, job: AbstractJob[Any]) -> WaitingGroup:
        key = self._group_key(job)
        group = self.groups_by_needs.get(key)
        if group is None:
            needs: Needs = []
            per_key: PerKeyResource | None = None
            for name, amount in job._needs().items():
                entry = self.run.pools.find(name)
                if isinstance(entry, PerKeyResource):
                    per_key = entry  # there is one at most
                else:
                    needs.append(entry.resolve(amount, job))
            self.groups_by_needs[key] = group = WaitingGroup(self, key, needs, takes_slot(job), per_key)
            join_admission(self, group.resources)
            self.admission.group_counts[group.resources, self.is_inside_holder] += 1
            self.slotless_count += not takes_slot(job)
            for resource, need in group.needs:
                resource.update_wanted_amounts(need, 1)
        return group

    def resolve_needs(self, job: AbstractJob[Any]) -> Needs:
        return [self.run.pools.find(name).resolve(amount, job) for name, amount in job._needs().items()]

    def find_group(self, job: AbstractJob[Any]) -> WaitingGroup | None:
        """Return the group of a waiting job; None if the job does not wait here. Any thread may call this."""
        return self.groups_by_needs.get(self._group_key(job)) if job in self.waiting_jobs else None

    def make_entry(self, job: AbstractJob[Any]) -> HeapEntry:
        return (self.order.key(job), next(ready_numbers), job)

    def push(self, job: AbstractJob[Any]) -> None:
        self.insert(self.make_entry(job))

    def insert(self, entry: HeapEntry) -> None:
        _, number, job = entry
        newest = next(reversed(self.waiting_jobs.values()), number)
        self.waiting_jobs[job] = number
        if number < newest:
            self.waiting_jobs.move_to_end(job, last=False)
        group = self._get_or_create_group(job)
        heapq.heappush(group.heap, entry)
        self._update_group_entry(group)
        self.admission.is_settled = False

    def admit(self, number: float) -> None:
        """Run a round of the admission. It may admit more than `number` jobs, and jobs of other runs."""
        if self.entry is None and self.group_entries and (self.slotless_count or self.has_room()):
            self._update_entry()
            self.admission.is_settled = False
        self.admission.run_round(self)

    def admit_first(self, group: WaitingGroup) -> None:
        """Let the first job of a group take what it needs, and record it in the groups that it overtakes."""
        for other in self.admission.passed_over:
            if not other.resources.isdisjoint(group.resources) and not other.first_resources().isdisjoint(
                group.first_resources()
            ):
                other.record_overtaking(group)
        key = group.first_key()
        entry = heapq.heappop(group.heap)
        job = entry[2]
        if group.resources:
            # The grant is stored in the extras, because `Run.settle`, which settles jobs with extras, takes it back.
            job._ensure_extras().grant = Grant(job, group.needs_of(job), entry)
        del self.waiting_jobs[job]
        self.drop_settled(group)
        if key is not None:
            key.wake()
        self.order.outlook.starts += 1
        self._ready.admit_job(entry)

    def unaffordable_jobs(self) -> list[tuple[AbstractJob[Any], BudgetSpent]]:
        """Return the waiting jobs whose needs a budget could not meet even if running jobs returned all they have."""
        found: list[tuple[AbstractJob[Any], BudgetSpent]] = []
        for group in self.groups_by_needs.values():
            for resource, need in group.needs:
                if isinstance(resource, BudgetResource) and not resource.can_ever_meet(need):
                    left, top, amount = resource.describe_left(), resource.top_user(), resource.format_amount(need)
                    waiting = [job for *_, job in sorted(group.entries()) if job in self.waiting_jobs]
                    found += [(job, BudgetSpent(job, resource.name, amount, left, top)) for job in waiting]
                    break
        return found

    def block(self, job: AbstractJob[Any], error: BudgetSpent) -> None:
        if job in self.waiting_jobs:
            self.run.block(job, error)
            self.start_admitted()

    def release(self, job: AbstractJob[Any]) -> None:
        """Take back the grant of a job, or remove the job if it still waits. Amounts of rates are not taken back."""
        if job._extras is not None and job._extras.grant is not None:
            job._extras.grant.give_back()
            job._extras.grant = None
        elif self.waiting_jobs.pop(job, None) is not None:
            group = self.groups_by_needs[self._group_key(job)]
            group.forget_parked(job)
            self.drop_settled(group)
        self.on_change()

    def on_change(self) -> None:
        """Require a new round; let the runs compete in it that had left because a window that they share was full."""
        self.admission.is_settled = False
        if self.admission.shares_slots:
            for queue in list(self.admission.queues):
                queue.join()

    def entries(self) -> list[HeapEntry]:
        """Return the entries of the waiting jobs, in the order in which they would start without limits."""
        entries = itertools.chain(*[group.entries() for group in list(self.groups_by_needs.values())])
        return sorted(entry for entry in entries if entry[2]._state is SCHEDULED)

    def clear(self) -> None:
        """Remove all waiting jobs, and leave the admission until the run joins it again."""
        for group in list(self.groups_by_needs.values()):
            group.clear()
            self.drop_settled(group)
        self.waiting_jobs.clear()
        self.leave()
        self.admission.forget_timer(self)
        self.admission.is_settled = False

    def join(self) -> None:
        """Join the admission, because a job competes again. The next round removes the queue if it has no room."""
        if self.entry is None and self.group_entries:
            self._update_entry()

    def leave(self) -> None:
        if self.entry is not None:
            self._set_entry(None)

    # ---- the order of the groups and queues

    def drop_settled(self, group: WaitingGroup) -> None:
        """Remove settled jobs from the front of a group, so that its first job is always one that waits."""
        while group.heap and group.heap[0][2]._state is not SCHEDULED:
            heapq.heappop(group.heap)
        group.forget_first()
        self._update_group_entry(group)

    def _update_group_entry(self, group: WaitingGroup) -> None:
        """Update the position of a group, because its first job may have changed; drop the group if it is empty."""
        old, new = group.entry, (*group.heap[0][:2], group) if group.heap else None
        if old is not None and new is not None and new[1] == old[1]:
            return
        if old is not None:
            _remove_entry(self.group_entries, old)
        group.entry = new
        if new is not None:
            bisect.insort(self.group_entries, new)
        elif group.is_empty() and self.groups_by_needs.pop(group.key, None) is not None:
            self.slotless_count -= not group.needs_slot
            for resource, need in group.needs:
                resource.update_wanted_amounts(need, -1)
            count_key = (group.resources, self.is_inside_holder)
            self.admission.group_counts[count_key] -= 1
            if not self.admission.group_counts[count_key]:
                del self.admission.group_counts[count_key]
        if self.entry is not None:
            self._update_entry()

    def _update_entry(self) -> None:
        """Move the entry of this queue to its new position in the admission; leave the admission if no job waits."""
        priority = self.group_entries[0][0][0] if self.group_entries else 0
        entry = (
            (priority, next(iter(self.waiting_jobs.values())), self._sequence_number, self)
            if self.waiting_jobs
            else None
        )
        if entry != self.entry:
            self._set_entry(entry)

    def _set_entry(self, entry: QueueEntry | None) -> None:
        if self.entry is not None:
            _remove_entry(self.admission.queue_entries, self.entry)
        self.entry = entry
        if entry is not None:
            bisect.insort(self.admission.queue_entries, entry)
        else:
            self.admission.forget_timer(self)


class Admission:
    """The queues of all runs that share resources, and the rounds in which their jobs are admitted."""

    def __init__(self) -> None:
        self.queue_entries: list[QueueEntry] = []  # the queues that have joined, in the order in which they are served
        self.queues: Final[WeakSet[AdmissionQueue]] = WeakSet()  # those of all runs in progress
        self.resources: Final[WeakSet[PoolEntry]] = WeakSet()
        # A heap of the times at which keys with parked jobs may be free by time alone, each with a sequence number.
        self.timed_keys: list[tuple[float, int, Key]] = []
        # The groups whose first job was parked only for this scan, because its key is reserved, with these keys.
        self._set_aside: list[tuple[WaitingGroup, Key]] = []
        self.has_budgets = False  # whether one of these is, or was, a budget
        self.shares_slots = False  # whether a window is, or was, shared by a run and those of `First`s in it
        # How many groups there are of each kind: by their resources, and by whether they ignore reservations.
        self.group_counts: Final[Counter[tuple[frozenset[PoolEntry], bool]]] = Counter()
        self.is_settled = False  # whether nothing has changed since the last round
        self._is_in_round = False
        self._is_blocking = False  # whether jobs that a budget cannot meet any more are being blocked
        # The groups that the last scan found before its result, and whose needs cannot be met.
        self.passed_over: list[WaitingGroup] = []
        # The reservations that the last scan found: the job that has it, and the resources that it needs.
        self.reservations: list[tuple[AbstractJob[Any], frozenset[PoolEntry]]] = []
        self._has_skipped = False  # whether the last scan has skipped groups whose run had no room
        # The earliest time at which a job will be able to start without any other event, and the queue of the job.
        # `_timer` has the same pair for the timer that is set.
        self._earliest_start: tuple[float, AdmissionQueue | None] = (math.inf, None)
        self._timer: tuple[float, AdmissionQueue | None] = (math.inf, None)
        self._cancel_timer: Callable[[], None] | None = None

    def merge(self, other: Admission) -> None:
        """Move the runs and resources of another admission to this one. Its timer is set again by the next round."""
        for queue in other.queues:
            queue.admission = self
        for resource in other.resources:
            resource.admission = self
        self.queues.update(other.queues)
        self.resources.update(other.resources)
        self.has_budgets = self.has_budgets or other.has_budgets
        self.shares_slots = self.shares_slots or other.shares_slots
        self.group_counts.update(other.group_counts)
        self.timed_keys += other.timed_keys
        heapq.heapify(self.timed_keys)
        self.queue_entries = sorted(self.queue_entries + other.queue_entries)
        other.queues.clear()
        other.forget_timer(other._timer[1])
        self.is_settled = False

    def has_timer(self) -> bool:
        return self._cancel_timer is not None

    def run_round(self, caller: AdmissionQueue | None = None) -> None:
        """Admit all jobs that can start, in order, and wake workers for them, except in the run of `caller`.

        If time alone will let another job start, set a timer.
        """
        if self.is_settled or self._is_in_round:
            return
        served: dict[AdmissionQueue, None] = {}
        self._is_in_round = True
        while True:
            group, without_room = self.scan()
            for queue in without_room:
                queue.leave()
            if group is not None:
                group.queue.admit_first(group)
                served[group.queue] = None
            if self._set_aside:
                self._restore_set_aside()
            if group is None:
                break
        self.is_settled, self._is_in_round = not self._has_skipped, False
        self._set_timer()
        for queue in served:
            if queue is not caller:
                queue.start_admitted()
        if self.has_budgets and not self._is_blocking:
            self._block_unaffordable_jobs()

    def _block_unaffordable_jobs(self) -> None:
        # Blocking a job may end a nested run, which leads to another round: this loop, not that round, blocks the next.
        self._is_blocking = True
        try:
            while found := [(queue, *each) for queue in list(self.queues) for each in queue.unaffordable_jobs()]:
                for queue, job, error in found:
                    queue.block(job, error)
        finally:
            self._is_blocking = False

    def scan(self) -> tuple[WaitingGroup | None, list[AdmissionQueue]]:
        """Find the first group whose first job can start. Call `_restore_set_aside` afterwards.

        Returns:
            The group, or None; and the queues that were visited before it and whose runs have no room.

        """
        while self.timed_keys:
            when, _, key = self.timed_keys[0]
            if key.parked and when > key.clock() + TIME_TOLERANCE:
                break
            heapq.heappop(self.timed_keys)
            key.timed_at = math.inf
            key.wake()
        while (found := self._scan_until_parked()) is None:
            pass
        return found

    def _restore_set_aside(self) -> None:
        for group, key in self._set_aside:
            group.unpark(key)
        self._set_aside.clear()

    def _scan_until_parked(self) -> tuple[WaitingGroup | None, list[AdmissionQueue]] | None:
        """Do what `scan` says; return None if jobs had to be parked, which may have changed the order of the groups."""
        saturated: set[PoolEntry] = set()  # resources that too many groups wait for, so later groups are skipped
        exhausted: set[PoolEntry] = set()  # resources that have too little for any waiting job
        reserved: set[PoolEntry] = set()  # resources that a group with a reservation needs
        waiting_counts: dict[PoolEntry, int] = {}  # how many of the groups scanned so far wait for each resource
        limit_count = 0
        without_room: list[AdmissionQueue] = []
        self.passed_over, self.reservations = [], []
        self._earliest_start, self._has_skipped = (math.inf, None), False
        if self.timed_keys:
            when, _, timed_key = self.timed_keys[0]
            self._earliest_start = when, next(iter(timed_key.parked)).queue
        for group in self._iterate_groups(without_room):
            if not group.resources:
                return group, without_room
            if not group.resources.isdisjoint(saturated) or group.resources <= exhausted:
                continue
            if group.per_key is not None and group.park_unavailable():
                return None
            available_at = -math.inf
            for resource, need in group.needs:
                when = resource.available_at(need)
                if when > -math.inf:
                    available_at = max(available_at, when)
                    waiting_counts[resource] = waiting_counts.get(resource, 0) + 1
                    if resource.is_exhausted():
                        exhausted.add(resource)
            if available_at > -math.inf:
                self.passed_over.append(group)
                if available_at < self._earliest_start[0]:
                    self._earliest_start = available_at, group.queue
                if group.has_reservation():
                    reserved |= group.first_resources()
                    self.reservations.append((group.heap[0][2], group.first_resources()))
            elif group.queue.is_inside_holder or not reserved or group.first_resources().isdisjoint(reserved):
                return group, without_room
            elif (key := group.first_key()) is not None and group.resources.isdisjoint(reserved):
                self._set_aside.append((group, key))
                group.park_first(key)
                return None
            else:
                for entry in group.resources & reserved:
                    waiting_counts[entry] = waiting_counts.get(entry, 0) + 1
            saturated.update(
                [entry for entry in group.resources if waiting_counts.get(entry, 0) >= MAX_GROUPS_PER_RESOURCE]
            )
            # Stop if no remaining group can start. Only a new limit can have changed that.
            if limit_count != (limit_count := len(saturated) + len(exhausted) + len(reserved)) and all(
                resources
                and (
                    resources <= exhausted
                    or not resources.isdisjoint(saturated)
                    or not (ignores_reservations or resources.isdisjoint(reserved))
                )
                for resources, ignores_reservations in self.group_counts
            ):
                break
        return None, without_room

    def _iterate_groups(self, without_room: list[AdmissionQueue]) -> Iterator[WaitingGroup]:
        """Yield the groups of all runs that have room, in order; add the queues of other runs to `without_room`.

        Of a run without room, only the groups of jobs that take no slot are yielded, if it has any.

        The groups are ordered by priority and then by age. The age of a run's first group is that of the run's oldest
        job, and the age of any other group is that of its first job.
        """
        if len(self.queue_entries) == 1:  # the code below would yield the same groups, but several times more slowly
            only = self.queue_entries[0][3]
            has_room = only.has_room()
            if not (has_room or only.slotless_count):
                without_room.append(only)
                return
            for _, _, group in only.group_entries:
                if has_room or not group.needs_slot:
                    yield group
                else:
                    self._has_skipped = True
            return
        # A heap that merges the groups of the queues. An item is the next group of a queue: the priority and age of the
        # group, the sequence number of the queue, the queue, whether its run has room, and the index of the group.
        merge_heap: list[tuple[float, int, int, AdmissionQueue, bool, int]] = []
        entries: Iterable[Any] = itertools.chain(self.queue_entries, [(math.inf,)])
        for entry, next_entry in itertools.pairwise(entries):
            queue: AdmissionQueue = entry[3]
            has_room = queue.has_room()
            if has_room or queue.slotless_count:
                heapq.heappush(merge_heap, (*entry, has_room, 0))
            else:
                without_room.append(queue)
            while merge_heap and merge_heap[0] < next_entry:
                _, _, number, owner, has_room, index = merge_heap[0]
                if index < len(owner.group_entries):
                    group = owner.group_entries[index][2]
                    if has_room or not group.needs_slot:
                        yield group
                    else:
                        self._has_skipped = True
                if index + 1 < len(owner.group_entries):
                    key, age, _ = owner.group_entries[index + 1]
                    heapq.heapreplace(merge_heap, (key[0], age, number, owner, has_room, index + 1))
                else:
                    heapq.heappop(merge_heap)

    def find_blocker(self, resources: frozenset[Resource]) -> AbstractJob[Any] | None:
        """Return the job whose reservation keeps those that need `resources` from starting. Any thread may call this.

        It reads what the last scan found, because a scan changes the queues.
        """
        blockers = (job for job, reserved in self.reservations if not reserved.isdisjoint(resources))
        return next((job for job in blockers if job._state is SCHEDULED), None)

    def _set_timer(self) -> None:
        when, queue = self._earliest_start
        if when < self._timer[0] and queue is not None:
            self.forget_timer(self._timer[1])
            self._timer, self._cancel_timer = self._earliest_start, queue.run.group.call_at(when, self._on_timer)

    def forget_timer(self, queue: AdmissionQueue | None) -> None:
        """Cancel the timer, if it was set for a job of this queue."""
        if self._cancel_timer is not None and self._timer[1] is queue:
            self._cancel_timer()
            self._timer, self._cancel_timer = (math.inf, None), None

    def _on_timer(self) -> None:
        self._timer, self._cancel_timer = (math.inf, None), None
        self.is_settled = False
        try:
            self.run_round()
        except BaseException as fault:  # asyncio would only log it
            for queue in list(self.queues):
                queue.run.crash(fault)
        else:
            for queue in list(self.queues):
                queue.run.standstill.suspect(queue.run)


def join_admission(queue: AdmissionQueue, resources: Iterable[PoolEntry]) -> None:
    """Put a queue and these resources into the same admission; merge the admissions to which they already belong."""
    for resource in resources:
        if resource.admission is None:
            resource.join(queue.admission)
        elif resource.admission is not queue.admission:
            smaller, larger = sorted(
                (resource.admission, queue.admission), key=lambda admission: len(admission.resources)
            )
            larger.merge(smaller)


def _remove_entry(entries: list[Any], entry: Any) -> None:
    del entries[bisect.bisect_left(entries, entry)]
