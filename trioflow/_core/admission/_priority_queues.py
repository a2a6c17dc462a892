"""The ready jobs of one run in the order of their starts: first in first out, or by rank.

The frames of workers hold the object for as long as they run, and use it as a deque: truth, `append`, `popleft`. Most
runs need only a deque, and then `FifoQueue` is one, without overridden methods. A run that gets its first job with a
priority, or with an expected duration, turns the same object into `HeapQueue`: it changes its class. With the first
job that needs resources it becomes `SharedQueue`.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, cast

from ..base._states import SCHEDULED
from ..base._waits import Waiting
from ..job._job import AbstractJob
from ._admission import AdmissionQueue, WaitingLine, needs_key
from ._heap_keys import HeapKeys, first_numbers, ready_numbers, throttled_numbers

if TYPE_CHECKING:
    from ._heap_keys import HeapEntry


class FifoQueue(deque[AbstractJob[Any]]):
    """The ready jobs, first in first out."""

    # Set while the jobs are ranked, and while some need resources. All three classes must have the same fields.
    __slots__ = ("admission_queue", "order")
    order: HeapKeys
    admission_queue: AdmissionQueue

    def first(self) -> AbstractJob[Any]:
        """Return the job that starts next; there must be one."""
        return self[0]

    def in_order(self) -> list[AbstractJob[Any]]:
        """Return all entries, in the order in which they would start."""
        return list(self)

    def pop_entry(self) -> HeapEntry:
        """Take the job that starts next, and return its entry."""
        return (0.0, next(ready_numbers), self.popleft())

    def push_entry(self, entry: HeapEntry) -> None:
        """Put back a job that was taken, in its place; its grant is not used."""
        self.appendleft(entry[2])

    def may_start(self, entry: HeapEntry) -> bool:
        """Return whether a job that was taken may start: none that waits comes before it, and no throttle holds it."""
        return True

    def return_grant(self, job: AbstractJob[Any]) -> None:
        """Take back the grant of a job that was taken, and does not start: none here."""

    def push_first(self, job: AbstractJob[Any]) -> None:
        """Put back a job that was just taken, so that it starts before all others."""
        self.appendleft(job)

    def push_throttled(self, job: AbstractJob[Any]) -> None:
        """Add a job that was throttled, and so has needs."""
        raise AssertionError("only jobs with needs can be throttled, and SharedQueue has these")

    def take_despite_shortage(self) -> AbstractJob[Any]:
        """Take the job that starts next, even without enough resources."""
        return self.popleft()

    def give_back(self, job: AbstractJob[Any]) -> None:
        """Take back the resources of a job that has settled, or does not start: none here."""

    def has_entries(self) -> bool:
        """Return whether there is an entry, also of a job that cannot start now."""
        return bool(self)

    def request_round_for_others(self) -> None:
        """Begin a round for runs that wait for this one: none here."""

    def use_order(self, order: HeapKeys, admission_queue: AdmissionQueue | None = None) -> None:
        """Start the jobs in this order from now on, including those that are ready already.

        With `admission_queue`, only jobs with enough resources start.
        """
        waiting = [entry for entry in self._entries() if entry[2]._state is SCHEDULED]
        self.clear()
        self.order = order
        if admission_queue is not None:
            self.admission_queue, admission_queue.order = admission_queue, order
        ranked = cast(Any, self)
        ranked.__class__ = HeapQueue if admission_queue is None else SharedQueue
        for _, number, job in waiting:
            if number < 0:
                ranked._push(job, (order.lowest_key(), number, job))
            else:
                ranked.append(job)

    def _entries(self) -> list[HeapEntry]:
        """Return all entries as those of a heap, in the order in which they would start."""
        return [(0.0, 0, job) for job in self]


class HeapQueue(FifoQueue):
    """The ready jobs in the order of a policy: a heap, so that each job costs O(log n)."""

    __slots__ = ()

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.order.heap)

    def append(self, job: AbstractJob[Any], /) -> None:
        """Add a job."""
        key = self.order.key(job)  # first: a user's policy may even change the heap
        heappush(self.order.heap, (key, next(ready_numbers), job))

    def popleft(self) -> AbstractJob[Any]:
        """Take the job that starts next."""
        return self.pop_entry()[2]

    def pop_entry(self) -> HeapEntry:
        """Take the job that starts next, and return its entry."""
        self.order.outlook.starts += 1
        return heappop(self.order.heap)

    def may_start(self, entry: HeapEntry) -> bool:
        """Return whether such a job may start: no waiting job comes before it, and no resource of it is throttled."""
        return not self.order.heap or entry < self.order.heap[0]

    def push_entry(self, entry: HeapEntry) -> None:
        """Put back a job that was taken, in its place; its grant is not used."""
        self.order.outlook.starts -= 1
        self._push(entry[2], entry)

    def first(self) -> AbstractJob[Any]:
        """Return the job that starts next; there must be one."""
        return self.order.heap[0][2]

    def in_order(self) -> list[AbstractJob[Any]]:
        """Return all entries, in the order in which they would start."""
        return [entry[2] for entry in self._entries()]

    def push_first(self, job: AbstractJob[Any]) -> None:
        """Put back a job that was just taken, so that it starts before all others."""
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
    """The ready jobs, some of which need resources: it is true only while one of them can start."""

    __slots__ = ()

    def __len__(self) -> int:
        """Return the number of jobs that can certainly start: those without needs, and one other if found.

        Each worker that takes one and leaves others calls for the next worker. Calling for more of them would be in
        vain for most, because rounds are expensive.
        """
        return len(self.order.heap) + self.admission_queue.has_candidate()

    def __bool__(self) -> bool:
        """Return whether a job can start."""
        if self.admission_queue.granted:
            self.admission_queue.withdraw_throttled()
        return bool(self.order.heap) or self.admission_queue.next_line() is not None

    def append(self, job: AbstractJob[Any], /) -> None:
        """Add a job."""
        key = self.order.key(job)
        self._push(job, (key, next(ready_numbers), job))

    def push_first(self, job: AbstractJob[Any]) -> None:
        """Put back a job that was just taken, so that it starts before all others; its grant is not used."""
        self.admission_queue.return_grant(job)
        super().push_first(job)

    def may_start(self, entry: HeapEntry) -> bool:
        """Return whether such a job may start: no waiting job comes before it, and no resource of it is throttled."""
        grant, lines = entry[2]._grant(), self.admission_queue.lines
        is_open = grant is None or grant.is_open()
        return is_open and super().may_start(entry) and (not lines or entry[:2] < lines[0][:2])

    def return_grant(self, job: AbstractJob[Any]) -> None:
        """Take back the grant of a job that was taken, and does not start, rates included."""
        self.admission_queue.return_grant(job)

    def push_throttled(self, job: AbstractJob[Any]) -> None:
        """Add a job that starts before all others, except those that were throttled earlier."""
        self._push(job, (self.order.lowest_key(), next(throttled_numbers), job))

    def first(self) -> AbstractJob[Any]:
        """Return the job that starts next; there must be one that can start."""
        line = self._line_of_next()
        return (self.order.heap if line is None else line.heap)[0][2]

    def pop_entry(self) -> HeapEntry:
        """Take the job that starts next, grant its needs, and return its entry."""
        self.order.outlook.starts += 1
        line = self._line_of_next()
        entry = heappop(self.order.heap) if line is None else self.admission_queue.take(line)
        self.admission_queue.record_start(entry[2])
        return entry

    def push_entry(self, entry: HeapEntry) -> None:
        """Put back a job that was taken, in its place; its grant is not used."""
        self.admission_queue.return_grant(entry[2])
        super().push_entry(entry)

    def take_despite_shortage(self) -> AbstractJob[Any]:
        """Take the job that starts next, even without enough resources."""
        first = next(job for job in self.in_order() if job._state is SCHEDULED)
        if first._needs():
            self.admission_queue.take_first(self.admission_queue.line_of(first))
        else:
            self.order.heap[:] = [entry for entry in self.order.heap if entry[2] is not first]
            heapify(self.order.heap)
        self.admission_queue.record_start(first)
        return first

    def clear(self) -> None:
        """Remove all entries."""
        super().clear()
        self.admission_queue.clear()

    def give_back(self, job: AbstractJob[Any]) -> None:
        """Take back the resources of a job that has settled, or does not start; jobs of other runs may fit now."""
        self.admission_queue.release(job)

    def has_entries(self) -> bool:
        """Return whether there is an entry, also of a job that cannot start now; this makes no round."""
        return bool(self.order.heap or self.admission_queue.lines)

    def request_round_for_others(self) -> None:
        """Begin a round for runs that wait for this one: it has started a job, or cannot."""
        self.admission_queue.request_round_for_others()

    def waiting(self, job: AbstractJob[Any]) -> Waiting | None:
        """Return a waiting job's wait for resources; None if there is enough. Any thread may call it."""
        line = self.admission_queue.by_needs.get(needs_key(job))
        waits = [] if line is None else [resource.describe_wait(need) for resource, need in line.missing()]
        return waits[0]._replace(text="; ".join(wait.text for wait in waits)) if waits else None

    def explain_wait(self, job: AbstractJob[Any]) -> str | None:
        """Name the resources that a waiting job waits for, and their holders; None if it does not wait for any."""
        line = self.admission_queue.by_needs.get(needs_key(job))
        if line is None:
            return None
        if missing := line.missing():
            before = line.count_before(job)
            return f"waits for {'; '.join(resource.explain_shortage(need, before) for resource, need in missing)}"
        other = self.admission_queue.admission.blocker(line)
        if other is None:
            return None
        names = " and ".join(resource.name for resource, _ in line.needs)
        enough = f"waits for {names}, of which there is enough, behind {other.heap[0][2].label!r}"
        if not other.missing():
            return f"{enough}, which is before it, and is about to start"
        return f"{enough}: as many jobs have started before that one as may (backfill={other.run_queue.backfill})"

    def _entries(self) -> list[HeapEntry]:
        """Return all entries, in the order in which they would start with enough resources for all."""
        heaps = [line.heap for line in self.admission_queue.by_needs.values()]
        return sorted(chain(self.order.heap, *heaps))

    def _push(self, job: AbstractJob[Any], entry: HeapEntry) -> None:
        if job._needs():
            self.admission_queue.push(entry)
        else:
            heappush(self.order.heap, entry)

    def _line_of_next(self) -> WaitingLine | None:
        """Return the line of the job that starts next; None if it has no needs. `__bool__` has just been true."""
        heap, line = self.order.heap, self.admission_queue.next_line()
        return None if line is None or (heap and heap[0][:2] < line.heap[0][:2]) else line


class ReadyQueue:
    """The ready jobs of a run, in two queues.

    Forever jobs are in both: among all other jobs, which keeps the order, and in a queue of their own, because they
    need no slot and may start when the window is full. When one is taken from either queue, its entry in the other may
    remain. So an entry is valid only while its job is SCHEDULED. A forever job with needs is only among all others, so
    that it gets its resources there.

    `Run.schedule` appends jobs to both queues. The workers' hot path reads them and appends to them directly.
    """

    __slots__ = ("forever", "jobs")

    def __init__(self) -> None:
        self.jobs: Final = FifoQueue()
        self.forever: Final[deque[AbstractJob[Any]]] = deque()

    def push_first(self, job: AbstractJob[Any]) -> None:
        """Put back a job that was just taken."""
        self.jobs.push_first(job)
        if job._forever and not job._needs():
            self.forever.appendleft(job)

    def take(self, has_slot: bool) -> AbstractJob[Any] | None:
        """Take the first job that a worker with (or without) a slot may run; None if there is none."""
        queue = self.jobs if has_slot else self.forever
        while queue:
            job = queue.popleft()
            if job._state is SCHEDULED:
                if has_slot:
                    self.remove_forever_entry(job)
                return job
        return None

    def remove_forever_entry(self, job: AbstractJob[Any]) -> None:
        """Record that a job was taken from among all others."""
        if job._forever and not job._needs():
            self.forever.remove(job)

    def has_any(self) -> bool:
        """Return whether a job waits; drop obsolete entries at the front."""
        while self.jobs and self.jobs.first()._state is not SCHEDULED:
            self.jobs.popleft()
        while self.forever and self.forever[0]._state is not SCHEDULED:
            self.forever.popleft()
        return bool(self.jobs or self.forever)

    def next_needs_slot(self) -> bool:
        """Return whether the next job needs a slot."""
        return self.has_any() and bool(self.jobs) and not self.jobs.first()._forever

    def may_have_jobs(self) -> bool:
        """Return False only if the queue is certainly empty; a ranked or shared one always returns True."""
        return type(self.jobs) is not FifoQueue or bool(self.jobs or self.forever)

    def drain(self) -> list[AbstractJob[Any]]:
        """Take all jobs that still wait, in order."""
        left = [job for job in self.jobs.in_order() if job._state is SCHEDULED]
        self.jobs.clear()
        self.forever.clear()
        return left
