"""Admission of ready jobs that need resources: which job gets free resources next, across all runs that share them.

There are three levels. A `WaitingGroup` has the waiting jobs of one run with equal needs; only the first of them can
start next. An `AdmissionQueue` has the groups of one run, in the order of its policy. An `Admission` has the queues of
all runs that share resources: those with a higher priority first, then those whose oldest waiting job became ready
first.

A **round** is one pass over the groups of an `Admission`, in that order:

```
a run has a free slot, and no ready job without needs ─► its queue joins the admission, and it runs a round
                                                                                         │
  ┌──────────────────────────────────────────────────────────────────────────────────────┘
  ▼
round: scan the first jobs of all groups, in order, for one whose needs can be met
  ├── it belongs to the calling run ─► it gets its resources, and starts
  ├── it belongs to another run ─────► it gets its resources, a worker of its run is woken, and the scan is repeated
  └── there is none ─────────────────► a timer is set, if time alone will let a job start
```

A new round is needed when a resource is returned, when the timer fires, and when a run has started a job or lost slots.
A run starts a round itself as soon as one of its workers is free. For other runs, a round is scheduled for the next
iteration of the event loop.

- **Backfill**: a job whose needs cannot be met can be overtaken by later jobs that need one of its resources, but by at
  most `backfill` of them. After that, it has a **reservation**: no later job that needs one of its resources starts
  before it. So it starts once enough running jobs have ended, and no job starves. (Reservations come from batch
  systems: Lifka 1995, "The ANL/IBM SP scheduling system". There, users declare run times. Here, run times are unknown,
  so overtaking jobs are counted.)
- **A run without a free slot leaves the admission** in the next round, and grants that its jobs can no longer use are
  taken back. Until the run has a slot and joins again, its jobs cannot be overtaken, and have no reservation.
- **A round is bounded**: when `MAX_GROUPS_PER_RESOURCE` groups wait for a scarce resource, later groups that need it
  are skipped. Slurm's option `bf_max_job_test` sets a similar bound.
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
from ..job._job import AbstractJob
from ._heap_keys import ready_numbers
from ._pool import Grant, Needs

if TYPE_CHECKING:
    from ._heap_keys import HeapEntry, HeapKeys
    from ._resource import Resource

    # Entries of sorted lists. A group is sorted by the key and the sequence number of its first job; a queue by its
    # priority, the sequence number of its oldest job, and its own sequence number.
    GroupEntry = tuple[Any, int, "WaitingGroup"]
    QueueEntry = tuple[float, int, int, "AdmissionQueue"]

MAX_GROUPS_PER_RESOURCE: Final = 64
"""The maximum number of groups that one round scans for each scarce resource."""
MAX_OBSOLETE_OVERTAKES: Final = 32
"""The number of overtaking jobs that a group records before it first drops obsolete records."""


def needs_key(job: AbstractJob[Any]) -> Any:
    """Return the key of a job's group in its queue: jobs with equal needs have equal keys."""
    return tuple(sorted(job._needs().items()))


class WaitingGroup:
    """The waiting jobs of one run with equal needs."""

    __slots__ = (
        "_overtakers",
        "_prune_at",
        "_reservation_cache",
        "entry",
        "heap",
        "key",
        "needs",
        "queue",
        "resources",
    )

    def __init__(self, queue: AdmissionQueue, key: Any, needs: Needs) -> None:
        self.queue: Final = queue
        self.key: Final = key
        self.needs: Final = needs
        self.resources: Final = frozenset([resource for resource, _ in needs])
        self.heap: Final[list[HeapEntry]] = []  # entries like those of `HeapKeys.heap`
        self.entry: GroupEntry | None = None  # the entry of this group in `AdmissionQueue.group_entries`
        # A record for each job that overtook a first job of this group: the record's sequence number, the overtaking
        # job's heap entry, and whether that job belongs to the same run.
        self._overtakers: list[tuple[int, HeapEntry, bool]] = []
        self._prune_at = MAX_OBSOLETE_OVERTAKES  # the number of records at which obsolete ones are dropped
        # For the last call of `has_reservation`: the first entry, the number of records, and the result.
        self._reservation_cache: tuple[HeapEntry | None, int, bool] = (None, 0, False)

    def unmet_needs(self) -> Needs:
        """Return those needs of the group's jobs that cannot be met now, each paired with its resource."""
        return [(resource, need) for resource, need in self.needs if resource.available_at(need) > -math.inf]

    def record_overtaking(self, other: WaitingGroup) -> None:
        """Record that the first job of another group overtakes the first job of this group."""
        if len(self._overtakers) >= self._prune_at:
            oldest = next(iter(self.queue.waiting_jobs.values()))
            self._overtakers = [
                record for record in self._overtakers if record[0] > oldest and self._has_overtaken(record)
            ]
            self._prune_at = 2 * len(self._overtakers) + MAX_OBSOLETE_OVERTAKES
        self._overtakers.append((next(ready_numbers), other.heap[0], other.queue is self.queue))

    def _has_overtaken(self, record: tuple[int, HeapEntry, bool]) -> bool:
        """Return whether the recorded job comes after the first job of this group in start order."""
        _, entry, is_same_run = record
        first = self.heap[0]
        return first < entry if is_same_run else first[1] < entry[1]

    def has_reservation(self) -> bool:
        """Return whether the first job has been overtaken by as many jobs as `backfill` allows.

        Jobs inside a scheduler that has needs never get a reservation.
        """
        number, backfill = len(self._overtakers), self.queue.backfill
        if number < backfill or self.queue.is_inside_holder:
            return False
        first, counted, is_reserved = self._reservation_cache
        if first is not self.heap[0] or counted != number:
            first = self.heap[0]
            is_reserved = (
                sum([record[0] > first[1] and self._has_overtaken(record) for record in self._overtakers]) >= backfill
            )
            self._reservation_cache = (first, number, is_reserved)
        return is_reserved

    def count_before(self, job: AbstractJob[Any]) -> int:
        """Return the number of jobs of this group that start before `job`."""
        waiting = sorted(entry for entry in self.heap if entry[2]._state is SCHEDULED)
        return next((number for number, entry in enumerate(waiting) if entry[2] is job), 0)


class AdmissionQueue:
    """The ready jobs of one run that need resources, whether they wait for these or have them but have not started.

    Args:
        run: the run.

    """

    order: HeapKeys
    admission: Admission  # set when the first job waits

    def __init__(self, run: Any) -> None:  # a `Run`, whose module this layer must not import
        self._run = run
        self.backfill: Final[int] = run.scheduler.backfill
        # Whether an enclosing scheduler, or that of the run, has needs. If so, its jobs ignore reservations.
        self.is_inside_holder: Final[bool] = run.pools.resource_holder is not None
        self.clock: Final[Callable[[], float]] = run.clock
        self.call_in_loop: Final[Callable[[Callable[[], None]], None]] = run.backend.threadsafe_caller()
        self.groups_by_needs: Final[dict[Any, WaitingGroup]] = {}  # the groups that have waiting jobs, by `needs_key`
        self.group_entries: Final[list[GroupEntry]] = []  # the same groups, in the order of their first jobs
        # The sequence numbers of all jobs that wait for resources, or have a grant but have not started; the job that
        # became ready first comes first.
        self.waiting_jobs: Final[OrderedDict[AbstractJob[Any], int]] = OrderedDict()
        # The waiting jobs with an early grant, which `grant_early` makes, and the entries of these jobs.
        self.granted_jobs: Final[dict[AbstractJob[Any], HeapEntry]] = {}
        # The entry of this queue in `Admission.queue_entries`; None while the run has not joined the admission.
        self.entry: QueueEntry | None = None
        self._sequence_number: Final = next(ready_numbers)

    def detach(self) -> None:
        """Drop the reference to the run, which has ended, and leave the admission for good."""
        del self._run
        if hasattr(self, "admission"):
            self.admission.queues.discard(self)

    def call_at(self, when: float, function: Callable[[], None]) -> Callable[[], None]:
        """Call `function` at the time `when`. Return a function that cancels the call."""
        cancel: Callable[[], None] = self._run.group.call_at(when, function)
        return cancel

    def count_slots(self) -> int:
        """Return the number of slots in which ready jobs of the run could start."""
        slots: int = self._run.workers.count_startable()
        return slots

    def has_free_slot(self) -> bool:
        """Return whether the run has more free slots than ready jobs that wait for no resources."""
        return self.count_slots() > len(self.order.heap)

    # ---- the jobs

    def get_or_create_group(self, job: AbstractJob[Any]) -> WaitingGroup:
        """Return the group of a job that has needs; create the group if it does not exist."""
        key = needs_key(job)
        group = self.groups_by_needs.get(key)
        if group is None:
            resources = {name: self._run.pools.find(name) for name in job._needs()}
            needs = [(resources[name], resources[name].need(amount, job)) for name, amount in job._needs().items()]
            self.groups_by_needs[key] = group = WaitingGroup(self, key, needs)
            join_admission(self, group.resources)
            self.admission.group_counts[group.resources, self.is_inside_holder] += 1
            for resource, need in needs:
                resource.update_wanted_amounts(need, 1)
        return group

    def push(self, entry: HeapEntry) -> None:
        """Add a waiting job. If it precedes a job with an early grant, withdraw all early grants."""
        if self.granted_jobs and any(entry < other for other in self.granted_jobs.values()):
            self.withdraw_grants()
        _, number, job = entry
        newest = next(reversed(self.waiting_jobs.values()), number)
        self.waiting_jobs[job] = number
        if number < newest:
            self.waiting_jobs.move_to_end(job, last=False)
        group = self.get_or_create_group(job)
        heapq.heappush(group.heap, entry)
        self._update_group_entry(group)
        self.admission.invalidate()

    def has_candidate(self) -> bool:
        """Return whether the last round found a job of this run that can start, and nothing has changed since then."""
        candidate = self.admission.candidate if self.group_entries else None
        return candidate is not None and candidate.queue is self

    def find_startable_group(self) -> WaitingGroup | None:
        """Return the group whose first job can start next; None if no job can. The run must have a free slot.

        If the result of the last round is out of date, this runs a new round.
        """
        if not self.group_entries:
            return None
        admission = self.admission
        if self.entry is None:
            self._update_entry()
            admission.invalidate()
        return admission.candidate if self.has_candidate() else admission.run_round(self)

    def admit(self, group: WaitingGroup) -> HeapEntry:
        """Grant the first job of a group its needs, and return its entry; record the job in the groups it overtakes."""
        for other in self.admission.passed_over:
            if not other.resources.isdisjoint(group.resources):
                other.record_overtaking(group)
        return self.grant_first(group)

    def grant_first(self, group: WaitingGroup) -> HeapEntry:
        """Grant the first job of a group its needs, even beyond the free amount, and return its entry."""
        entry = heapq.heappop(group.heap)
        job = entry[2]
        # The grant is stored in the extras, because `Run.settle`, which settles jobs with extras, takes it back.
        job._ensure_extras().grant = Grant(job, group.needs)
        self._drop_settled(group)
        self.admission.candidate = None
        return entry

    def grant_early(self, group: WaitingGroup) -> None:
        """Grant the first job of a group its needs before a worker asks for it."""
        entry = self.admit(group)
        self.granted_jobs[entry[2]] = entry
        heapq.heappush(self.order.heap, entry)

    def start_granted(self) -> None:
        """Wake a worker to start the jobs that have grants."""
        self._run.workers.ensure_searcher()

    def may_get_resources(self, is_foreign: Callable[[Any], bool]) -> bool:
        """Return whether a timer is set, or a run of another scheduler may return resources.

        Args:
            is_foreign: returns whether a run belongs to another scheduler.

        """
        if not hasattr(self, "admission"):
            return False
        return self.admission.has_timer() or any(is_foreign(queue._run) for queue in self.admission.queues)

    def is_round_due(self) -> bool:
        """Return whether a round is scheduled for the next turn of the loop."""
        return hasattr(self, "admission") and self.admission.is_round_scheduled

    def after_round(self, fault: BaseException | None) -> None:
        """Check whether the run still makes progress after a round, or end it because of a fault in the round."""
        if fault is not None:
            self._run.crash(fault)
        else:
            self._run.standstill.suspect(self._run)

    def withdraw_grants(self) -> None:
        """Take back all early grants, and put their jobs back in their groups."""
        entries = list(self.granted_jobs.values())
        if entries:
            self.order.heap[:] = [entry for entry in self.order.heap if entry[2] not in self.granted_jobs]
            heapq.heapify(self.order.heap)
        was_queued = self.entry is not None
        for *_, job in entries:
            self.return_grant(job)
        for entry in entries:
            self.push(entry)
        if was_queued:
            self._update_entry()

    def withdraw_if_throttled(self) -> None:
        """Withdraw all early grants if any resource of any of them is throttled."""
        if any((grant := job._grant()) is not None and grant.is_throttled() for job in self.granted_jobs):
            self.withdraw_grants()

    def return_grant(self, job: AbstractJob[Any]) -> None:
        """Take back the grant of a job that does not start, including its amounts of rates; request a new round."""
        if (grant := job._grant()) is not None:
            grant.refund_rates()
            self.request_round()
        self.release(job)

    def release(self, job: AbstractJob[Any]) -> None:
        """Take back the grant of a job that has settled or does not start, and remove the job from the queue.

        Amounts of rates are not taken back.
        """
        grant = None if job._extras is None else job._extras.grant
        if job._extras is not None:
            job._extras.grant = None
        has_changed = True
        if grant is not None:
            has_changed = grant.has_returnable() and not self._is_candidate_certain()
            grant.give_back()
        elif (group := self.groups_by_needs.get(needs_key(job))) is not None:
            self._drop_settled(group)
        self.remove_waiting_job(job)
        if has_changed:
            self.request_round()

    def _is_candidate_certain(self) -> bool:
        """Return whether a returned resource could not change the candidate: no waiting job comes before it."""
        return self.has_candidate() and not self.admission.passed_over and len(self.admission.queue_entries) == 1

    def remove_waiting_job(self, job: AbstractJob[Any]) -> None:
        """Remove a job that starts, has settled or loses its grant from the waiting jobs.

        If other runs wait, request a round for them, because this run may have lost its last slot.
        """
        self.granted_jobs.pop(job, None)
        if self.waiting_jobs.pop(job, None) is not None and self.entry is not None:
            self._update_entry()
        self.request_round_for_others()

    def request_round_for_others(self) -> None:
        """Request a round if other runs wait: this run may have lost its last slot, and must then leave."""
        if hasattr(self, "admission") and len(self.admission.queue_entries) > (self.entry is not None):
            self.request_round()

    def request_round(self) -> None:
        """Discard the result of the last round, and schedule a new one if other runs wait for one."""
        if hasattr(self, "admission"):
            self.admission.invalidate()
            self.admission.schedule_round(self)

    def clear(self) -> None:
        """Withdraw all early grants, remove all waiting jobs, and leave the admission until the run joins it again."""
        self.withdraw_grants()
        for group in list(self.groups_by_needs.values()):
            group.heap.clear()
            self._drop_settled(group)
        self.waiting_jobs.clear()
        self.leave()
        self.request_round()

    def leave(self) -> None:
        """Leave the admission, until the run joins it again."""
        if self.entry is not None:
            self._set_entry(None)

    # ---- the order of the groups and queues

    def _drop_settled(self, group: WaitingGroup) -> None:
        """Remove settled jobs from the front of a group, so that its first job is always one that waits."""
        while group.heap and group.heap[0][2]._state is not SCHEDULED:
            heapq.heappop(group.heap)
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
        else:
            del self.groups_by_needs[group.key]
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
    """The queues of all runs that share resources, and the rounds in which resources are granted."""

    def __init__(self) -> None:
        self.queue_entries: list[QueueEntry] = []  # the queues that have joined, in the order in which they are served
        self.queues: Final[WeakSet[AdmissionQueue]] = WeakSet()  # those of all runs in progress
        self.resources: Final[WeakSet[Resource]] = WeakSet()
        # How many groups there are of each kind: by their resources, and by whether they ignore reservations.
        self.group_counts: Final[Counter[tuple[frozenset[Resource], bool]]] = Counter()
        self.candidate: WaitingGroup | None = None  # the caller's group that the last round found; None after a change
        # The groups that the last scan found before the candidate, and whose needs cannot be met.
        self.passed_over: list[WaitingGroup] = []
        self._is_settled = False  # whether the last round found no job that can start, and nothing has changed since
        self.is_round_scheduled = False
        self._granted: dict[AdmissionQueue, None] = {}  # the queues that may have early grants, as an ordered set
        # The earliest time at which a job will be able to start without any other event, and the queue of the job.
        # `_timer` has the same pair for the timer that is set.
        self._earliest_start: tuple[float, AdmissionQueue | None] = (math.inf, None)
        self._timer: tuple[float, AdmissionQueue | None] = (math.inf, None)
        self._cancel_timer: Callable[[], None] | None = None

    def merge(self, other: Admission, queue: AdmissionQueue) -> None:
        """Move the runs and resources of another admission to this one, and schedule a round in the loop of `queue`.

        The round replaces the one that the other admission may have scheduled, and its timer. When that round comes, it
        must find nothing to do: the runs may have ended.
        """
        for merged_queue in other.queues:
            merged_queue.admission = self
        for resource in other.resources:
            resource.admission = self
        self.queues.update(other.queues)
        self.resources.update(other.resources)
        self.group_counts.update(other.group_counts)
        self.queue_entries = sorted(self.queue_entries + other.queue_entries)
        self._granted.update(other._granted)
        other.queue_entries, other._granted = [], {}
        other.queues.clear()
        other.forget_timer(other._timer[1])
        self.invalidate()
        self.is_round_scheduled = True
        queue.call_in_loop(self._run_round_for_all)

    def invalidate(self) -> None:
        """Discard the result of the last round."""
        self._is_settled, self.candidate = False, None

    def schedule_round(self, queue: AdmissionQueue) -> None:
        """Schedule a round for the next iteration of the event loop, if other runs than that of `queue` wait for it."""
        if not self.is_round_scheduled and self.queue_entries and (len(self.queue_entries) > 1 or queue.entry is None):
            self.is_round_scheduled = True
            queue.call_in_loop(self._run_round_for_all)

    def has_timer(self) -> bool:
        """Return whether a timer is set for the time at which the next job can start."""
        return self._cancel_timer is not None

    def _run_round_for_all(self) -> None:
        self.is_round_scheduled = False
        fault: BaseException | None = None
        try:
            self.run_round(None)
            for queue in self._queues_with_grants():
                queue.start_granted()
        except BaseException as error:  # asyncio would only log it
            fault = error
        for queue in list(self.queues):
            queue.after_round(fault)

    def _queues_with_grants(self) -> list[AdmissionQueue]:
        """Return the queues that have early grants."""
        self._granted = {queue: None for queue in self._granted if queue.granted_jobs}
        return list(self._granted)

    def run_round(self, caller: AdmissionQueue | None) -> WaitingGroup | None:
        """Grant the needs of jobs of other runs, in order, until the next job that can start is one of `caller`.

        If no job is left whose needs can be met, set a timer for the earliest time at which one could start.

        Args:
            caller: the queue of the run that has a free slot; None if the round is for all runs.

        Returns:
            The group of the caller's job, which the caller must start itself; None if there is no such job.

        """
        while not self._is_settled:
            self._is_settled, self.candidate = True, None
            for queue in self._queues_with_grants() if self._granted else ():
                if queue is not caller and not queue.count_slots():
                    queue.withdraw_grants()
            candidate, without_slot = self.scan(caller)
            for queue in without_slot:
                queue.leave()
            if candidate is None:
                self._set_timer()
                # If the caller has no slot, its jobs cannot start now, so the next round must scan again.
                self._is_settled = caller is None or caller.count_slots() > 0
                break
            self._is_settled = False
            if candidate.queue is caller:
                self.candidate = candidate
                break
            candidate.queue.grant_early(candidate)
            self._granted[candidate.queue] = None
            self.schedule_round(candidate.queue)
        return self.candidate

    def scan(self, caller: AdmissionQueue | None) -> tuple[WaitingGroup | None, list[AdmissionQueue]]:
        """Find the first group whose first job can start.

        Returns:
            The group, or None; and the queues that were visited before it and whose runs have no free slot.

        """
        saturated: set[Resource] = set()  # resources that too many groups wait for, so later groups are skipped
        exhausted: set[Resource] = set()  # resources that have too little for any waiting job
        reserved: set[Resource] = set()  # resources that a group with a reservation needs
        waiting_counts: dict[Resource, int] = {}  # how many of the groups scanned so far wait for each resource
        limit_count = 0
        without_slot: list[AdmissionQueue] = []
        self.passed_over, self._earliest_start = [], (math.inf, None)
        for group in self._iterate_groups(caller, without_slot):
            if not group.resources.isdisjoint(saturated) or group.resources <= exhausted:
                continue
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
                    reserved |= group.resources
            elif group.queue.is_inside_holder or group.resources.isdisjoint(reserved):
                return group, without_slot
            else:
                for resource in group.resources & reserved:
                    waiting_counts[resource] = waiting_counts.get(resource, 0) + 1
            saturated.update(
                [resource for resource in group.resources if waiting_counts.get(resource, 0) >= MAX_GROUPS_PER_RESOURCE]
            )
            # Stop if no remaining group can start. Only a new limit can have changed that.
            if limit_count != (limit_count := len(saturated) + len(exhausted) + len(reserved)) and all(
                resources <= exhausted
                or not resources.isdisjoint(saturated)
                or not (ignores_reservations or resources.isdisjoint(reserved))
                for resources, ignores_reservations in self.group_counts
            ):
                break
        return None, without_slot

    def _iterate_groups(
        self, caller: AdmissionQueue | None, without_slot: list[AdmissionQueue]
    ) -> Iterator[WaitingGroup]:
        """Yield the groups of all runs that have a free slot, in order; add the queues of other runs to `without_slot`.

        The groups are ordered by priority and then by age. The age of a run's first group is that of the run's oldest
        job, and the age of any other group is that of its first job.
        """
        if len(self.queue_entries) == 1:  # the code below would yield the same groups, but several times more slowly
            only = self.queue_entries[0][3]
            if only is caller or only.has_free_slot():
                for _, _, group in only.group_entries:
                    yield group
            else:
                without_slot.append(only)
            return
        # A heap that merges the groups of the queues. An item is the next group of a queue: the priority and age of the
        # group, the sequence number of the queue, the queue, and the index of the group.
        merge_heap: list[tuple[float, int, int, AdmissionQueue, int]] = []
        entries: Iterable[Any] = itertools.chain(self.queue_entries, [(math.inf,)])
        for entry, next_entry in itertools.pairwise(entries):
            queue: AdmissionQueue = entry[3]
            if queue is caller or queue.has_free_slot():
                heapq.heappush(merge_heap, (*entry, 0))
            else:
                without_slot.append(queue)
            while merge_heap and merge_heap[0] < next_entry:
                _, _, number, owner, index = merge_heap[0]
                if index < len(owner.group_entries):
                    yield owner.group_entries[index][2]
                if index + 1 < len(owner.group_entries):
                    key, age, _ = owner.group_entries[index + 1]
                    heapq.heapreplace(merge_heap, (key[0], age, number, owner, index + 1))
                else:
                    heapq.heappop(merge_heap)

    def find_blocker(self, group: WaitingGroup) -> WaitingGroup | None:
        """Return the group because of which the first job of `group` does not start, although its needs could be met.

        That is a group with a reservation for one of its resources; if there is none, the group whose job starts next.
        Return None if that is `group` itself, or there is no such group.
        """
        candidate, _ = self.scan(None)
        blockers = (
            other
            for other in self.passed_over
            if not other.resources.isdisjoint(group.resources) and other.has_reservation()
        )
        self.invalidate()  # the scan has overwritten the result of the last round
        return next(blockers, None if candidate is group else candidate)

    def _set_timer(self) -> None:
        when, queue = self._earliest_start
        if when < self._timer[0] and queue is not None:
            self.forget_timer(self._timer[1])
            self._timer, self._cancel_timer = self._earliest_start, queue.call_at(when, self._on_timer)

    def forget_timer(self, queue: AdmissionQueue | None) -> None:
        """Cancel the timer, if it was set for a job of this queue."""
        if self._cancel_timer is not None and self._timer[1] is queue:
            self._cancel_timer()
            self._timer, self._cancel_timer = (math.inf, None), None

    def _on_timer(self) -> None:
        self._timer, self._cancel_timer = (math.inf, None), None
        self.invalidate()
        self._run_round_for_all()


def join_admission(queue: AdmissionQueue, resources: Iterable[Resource]) -> None:
    """Put a queue and these resources into the same admission; merge the admissions to which they already belong."""
    for resource in resources:
        if not hasattr(queue, "admission"):
            queue.admission = resource.admission or Admission()
            queue.admission.queues.add(queue)
        if resource.admission is None:
            resource.admission = queue.admission
            queue.admission.resources.add(resource)
        elif resource.admission is not queue.admission:
            smaller, larger = sorted(
                (resource.admission, queue.admission), key=lambda admission: len(admission.resources)
            )
            larger.merge(smaller, queue)


def _remove_entry(entries: list[Any], entry: Any) -> None:
    del entries[bisect.bisect_left(entries, entry)]
