"""The queues of the ready jobs of one run: first in, first out; by priority; or by priority and free resources.

Workers keep a reference to the queue for as long as they run. They use it as a deque, through its truth value, `append`
and `popleft`. Most runs need only a deque, so `FifoQueue` overrides none of these. When a run gets its first job with a
priority, or its policy needs another order, the class of the queue object is changed to `HeapQueue`. When it gets
its first job that needs resources, the class is changed to `SharedQueue`.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, cast

from ..base._states import SCHEDULED
from ..base._waits import Waiting
from ..job._job import AbstractJob
from ._admission import AdmissionQueue, WaitingGroup, needs_key
from ._heap_keys import HeapKeys, first_numbers, ready_numbers, throttled_numbers

if TYPE_CHECKING:
    from ._heap_keys import HeapEntry


class FifoQueue(deque[AbstractJob[Any]]):
    """The ready jobs, first in, first out."""

    # Only `HeapQueue` and `SharedQueue` use these. An object can change its class only if both have the same slots.
    __slots__ = ("admission_queue", "order")
    order: HeapKeys
    admission_queue: AdmissionQueue

    def first(self) -> AbstractJob[Any]:
        """Return the job that starts next, without removing it; the queue must not be empty."""
        return self[0]

    def in_order(self) -> list[AbstractJob[Any]]:
        """Return the jobs of all entries in start order, including jobs that no longer wait."""
        return list(self)

    def pop_entry(self) -> HeapEntry:
        """Remove the job that starts next, and return an entry for it."""
        return (0.0, next(ready_numbers), self.popleft())

    def push_entry(self, entry: HeapEntry) -> None:
        """Put a popped job back in its place; with needs, also take back its unused grant."""
        self.appendleft(entry[2])

    def may_start(self, entry: HeapEntry) -> bool:
        """Return whether a popped job may start: no waiting job precedes it, and none of its resources is throttled."""
        return True  # nothing can precede the job, and it has no needs

    def return_grant(self, job: AbstractJob[Any]) -> None:
        """Take back the grant of a popped job that does not start. In this class, no job has one."""

    def push_first(self, job: AbstractJob[Any]) -> None:
        """Put a popped job back, ahead of all others."""
        self.appendleft(job)

    def push_throttled(self, job: AbstractJob[Any]) -> None:
        """Add a throttled job, ahead of all others except those that were throttled earlier."""
        raise AssertionError("only jobs with needs can be throttled, and these are in a SharedQueue")

    def take_despite_shortage(self) -> AbstractJob[Any] | None:
        """Remove and return the job that starts next, even if its needs cannot be met; None if none is left."""
        while self:
            job = self.popleft()
            if job._state is SCHEDULED:
                return job
        return None

    def give_back(self, job: AbstractJob[Any]) -> None:
        """Take back the resources of a job that has settled or does not start. In this class, no job has any."""

    def has_entries(self) -> bool:
        """Return whether the queue has entries, including those of jobs that cannot start now."""
        return bool(self)

    def request_round_for_others(self) -> None:
        """Request an admission round for the runs that wait in the same `Admission`. In this class, there is none."""

    def use_order(self, order: HeapKeys, admission_queue: AdmissionQueue | None = None) -> None:
        """Order all jobs by these keys from now on, including the jobs that are already in the queue.

        With an `admission_queue`, the object becomes a `SharedQueue`; otherwise, it becomes a `HeapQueue`.
        """
        waiting = [entry for entry in self._entries() if entry[2]._state is SCHEDULED]
        self.clear()
        self.order = order
        if admission_queue is not None:
            self.admission_queue, admission_queue.order = admission_queue, order
        heap_queue = cast(Any, self)
        heap_queue.__class__ = HeapQueue if admission_queue is None else SharedQueue
        for _, number, job in waiting:
            if number < 0:  # the job was put ahead of all others
                heap_queue._push(job, (order.lowest_key(), number, job))
            else:
                heap_queue.append(job)

    def _entries(self) -> list[HeapEntry]:
        """Return an entry for each job, like those of a heap, in start order."""
        return [(0.0, 0, job) for job in self]


class HeapQueue(FifoQueue):
    """The ready jobs in the order of their keys, in a heap. Adding or removing a job takes O(log n)."""

    __slots__ = ()

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.order.heap)

    def append(self, job: AbstractJob[Any], /) -> None:
        """Add a job."""
        key = self.order.key(job)  # computed before the push, because a user-defined policy may change the heap
        heappush(self.order.heap, (key, next(ready_numbers), job))

    def popleft(self) -> AbstractJob[Any]:
        """Remove and return the job that starts next."""
        return self.pop_entry()[2]

    def pop_entry(self) -> HeapEntry:
        """Remove the job that starts next, and return its entry."""
        self.order.outlook.starts += 1
        return heappop(self.order.heap)

    def may_start(self, entry: HeapEntry) -> bool:
        """Return whether a popped job may start: no waiting job precedes it."""
        return not self.order.heap or entry < self.order.heap[0]

    def push_entry(self, entry: HeapEntry) -> None:
        """Put a popped job back in its place."""
        self.order.outlook.starts -= 1
        self._push(entry[2], entry)

    def first(self) -> AbstractJob[Any]:
        """Return the job that starts next, without removing it; the queue must not be empty."""
        return self.order.heap[0][2]

    def in_order(self) -> list[AbstractJob[Any]]:
        """Return the jobs of all entries in start order, including jobs that no longer wait."""
        return [entry[2] for entry in self._entries()]

    def push_first(self, job: AbstractJob[Any]) -> None:
        """Put a popped job back, ahead of all others."""
        self.order.outlook.starts -= 1
        self._push(job, (self.order.lowest_key(), next(first_numbers), job))

    def clear(self) -> None:
        """Remove all entries."""
        self.order.heap.clear()

    def _entries(self) -> list[HeapEntry]:
        return sorted(self.order.heap)

    def _push(self, job: AbstractJob[Any], entry: HeapEntry) -> None:
        heappush(self.order.heap, entry)


class SharedQueue(HeapQueue):
    """The ready jobs of a run in which some jobs need resources. The queue is truthy only if a job can start now."""

    __slots__ = ()

    def __len__(self) -> int:
        """Return the number of jobs that are known to be able to start.

        These are the jobs without needs, the jobs with an early grant, and the candidate of the last round. The number
        determines how many workers are woken at once. If it included all waiting jobs, most of these workers would be
        woken in vain, and each would run an expensive round.
        """
        return len(self.order.heap) + self.admission_queue.has_candidate()

    def __bool__(self) -> bool:
        """Return whether a job can start now. This may run a round, and withdraw early grants."""
        if self.admission_queue.granted_jobs:
            self.admission_queue.withdraw_if_throttled()
        return bool(self.order.heap) or self.admission_queue.find_startable_group() is not None

    def append(self, job: AbstractJob[Any], /) -> None:
        """Add a job."""
        key = self.order.key(job)
        self._push(job, (key, next(ready_numbers), job))

    def push_first(self, job: AbstractJob[Any]) -> None:
        """Put a popped job back, ahead of all others, and take back its unused grant."""
        self.admission_queue.return_grant(job)
        super().push_first(job)

    def may_start(self, entry: HeapEntry) -> bool:
        """Return whether a popped job may start: no waiting job precedes it, and none of its resources is throttled."""
        grant, groups = entry[2]._grant(), self.admission_queue.group_entries
        if grant is not None and grant.is_throttled():
            return False
        return super().may_start(entry) and (not groups or entry[:2] < groups[0][:2])

    def return_grant(self, job: AbstractJob[Any]) -> None:
        """Take back the grant of a popped job that does not start, including its amounts of rates."""
        self.admission_queue.return_grant(job)

    def push_throttled(self, job: AbstractJob[Any]) -> None:
        """Add a throttled job, ahead of all others except those that were throttled earlier."""
        self._push(job, (self.order.lowest_key(), next(throttled_numbers), job))

    def first(self) -> AbstractJob[Any]:
        """Return the job that starts next, without removing it. The queue must be true."""
        group = self._group_of_next_job()
        return (self.order.heap if group is None else group.heap)[0][2]

    def pop_entry(self) -> HeapEntry:
        """Remove the job that starts next, grant its needs, and return its entry. The queue must be true."""
        self.order.outlook.starts += 1
        group = self._group_of_next_job()
        entry = heappop(self.order.heap) if group is None else self.admission_queue.admit(group)
        self.admission_queue.remove_waiting_job(entry[2])
        return entry

    def push_entry(self, entry: HeapEntry) -> None:
        """Put a popped job back in its place, and take back its unused grant."""
        self.admission_queue.return_grant(entry[2])
        super().push_entry(entry)

    def take_despite_shortage(self) -> AbstractJob[Any] | None:
        """Remove and return the job that starts next, even if its needs cannot be met; None if none is left."""
        first = next((job for job in self.in_order() if job._state is SCHEDULED), None)
        if first is None:
            return None
        if first._needs():
            self.admission_queue.grant_first(self.admission_queue.get_or_create_group(first))
        else:
            self.order.heap[:] = [entry for entry in self.order.heap if entry[2] is not first]
            heapify(self.order.heap)
        self.admission_queue.remove_waiting_job(first)
        return first

    def clear(self) -> None:
        """Remove all entries."""
        super().clear()
        self.admission_queue.clear()

    def give_back(self, job: AbstractJob[Any]) -> None:
        """Take back the resources of a job that has settled or does not start, so that other jobs can start."""
        self.admission_queue.release(job)

    def has_entries(self) -> bool:
        """Return whether the queue has entries, including those of jobs that cannot start now. Triggers no round."""
        return bool(self.order.heap or self.admission_queue.group_entries)

    def request_round_for_others(self) -> None:
        """Request an admission round for the runs that wait in the same `Admission`."""
        self.admission_queue.request_round_for_others()

    def describe_wait(self, job: AbstractJob[Any]) -> Waiting | None:
        """Return the wait of a ready job for resources; None if its needs can be met now. Any thread may call this."""
        group = self.admission_queue.groups_by_needs.get(needs_key(job))
        waits = [] if group is None else [resource.describe_wait(need) for resource, need in group.unmet_needs()]
        return waits[0]._replace(text="; ".join(wait.text for wait in waits)) if waits else None

    def explain_wait(self, job: AbstractJob[Any]) -> str | None:
        """Explain why a ready job waits for resources: too little is free, or another job comes first; else None."""
        group = self.admission_queue.groups_by_needs.get(needs_key(job))
        if group is None:
            return None
        if missing := group.unmet_needs():
            before = group.count_before(job)
            return f"waits for {'; '.join(resource.explain_shortage(need, before) for resource, need in missing)}"
        other = self.admission_queue.admission.find_blocker(group)
        if other is None:
            return None
        names = " and ".join(resource.name for resource, _ in group.needs)
        enough = f"waits for {names}, although enough is free, behind {other.heap[0][2].label!r}"
        if not other.unmet_needs():
            return f"{enough}, which precedes it and is about to start"
        return f"{enough}, which no more jobs may overtake (backfill={other.queue.backfill})"

    def _entries(self) -> list[HeapEntry]:
        """Return all entries, in the order in which their jobs would start if resources were unlimited."""
        heaps = [group.heap for group in self.admission_queue.groups_by_needs.values()]
        return sorted(chain(self.order.heap, *heaps))

    def _push(self, job: AbstractJob[Any], entry: HeapEntry) -> None:
        if job._needs():
            self.admission_queue.push(entry)
        else:
            heappush(self.order.heap, entry)

    def _group_of_next_job(self) -> WaitingGroup | None:
        """Return the group of the job that starts next; None if that job is in the heap. The queue must be true."""
        heap, group = self.order.heap, self.admission_queue.find_startable_group()
        return None if group is None or (heap and heap[0][:2] < group.heap[0][:2]) else group


class ReadyQueue:
    """The ready jobs of a run, in two queues: `jobs` has all, and `forever` a second entry of most forever jobs.

    Forever jobs need no slot, so they may start from `forever` while the window is full. Forever jobs with needs are
    only in `jobs`, where they get their resources. When a forever job is taken from one queue, its entry in the other
    may remain. An entry is valid only while its job is SCHEDULED.

    `Run.schedule` adds jobs to both queues. The workers' hot path reads both directly, and appends to `jobs`.
    """

    __slots__ = ("forever", "jobs")

    def __init__(self) -> None:
        self.jobs: Final = FifoQueue()
        self.forever: Final[deque[AbstractJob[Any]]] = deque()

    def push_first(self, job: AbstractJob[Any]) -> None:
        """Put a job that was just popped back into the queues, ahead of all others."""
        self.jobs.push_first(job)
        if job._options.forever and not job._needs():
            self.forever.appendleft(job)

    def take(self, has_slot: bool) -> AbstractJob[Any] | None:
        """Remove and return the next job for a worker, from `forever` if it has no slot; None if there is none."""
        queue = self.jobs if has_slot else self.forever
        while queue:
            job = queue.popleft()
            if job._state is SCHEDULED:
                if has_slot:
                    self.remove_forever_entry(job)
                return job
        return None

    def remove_forever_entry(self, job: AbstractJob[Any]) -> None:
        """Remove the entry in `forever` of a job that was taken from `jobs`, if the job has one there."""
        if job._options.forever and not job._needs():
            self.forever.remove(job)

    def has_any(self) -> bool:
        """Drop obsolete entries at the front of both queues, and return whether a job can start from either of them."""
        while self.jobs and self.jobs.first()._state is not SCHEDULED:
            self.jobs.popleft()
        while self.forever and self.forever[0]._state is not SCHEDULED:
            self.forever.popleft()
        return bool(self.jobs or self.forever)

    def next_needs_slot(self) -> bool:
        """Return whether `jobs` has a next job that needs a slot because it is not a forever job."""
        return self.has_any() and bool(self.jobs) and not self.jobs.first()._options.forever

    def may_have_jobs(self) -> bool:
        """Return False only if both queues are empty. A `HeapQueue` or `SharedQueue` is never assumed to be empty."""
        return type(self.jobs) is not FifoQueue or bool(self.jobs or self.forever)

    def drain(self) -> list[AbstractJob[Any]]:
        """Empty both queues, and return the jobs that were still waiting, in start order."""
        waiting = [job for job in self.jobs.in_order() if job._state is SCHEDULED]
        self.jobs.clear()
        self.forever.clear()
        return waiting
