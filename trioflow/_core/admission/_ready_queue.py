"""The ready jobs of one run, from the moment when they are ready until workers take them.

```
ready ──► wait for a slot and for needs ──► wait for a limiter's token ──► startable ──► a worker takes it
                  `line`                             `tokens`
```

`admit` lets the jobs of the line take what they need, in order, and moves them on. A job keeps what it holds until it
has settled, or is queued again; then `release` takes it back, and the next call of `admit` passes it on:

- A **slot** of the window is a place in the set `holders`. Forever jobs need none.
- **Needs** are granted all together, by an `AdmissionQueue`, which is the line of a run with such jobs.
- A **token** of the innermost limiter is the last thing that a job takes; see `LimiterTokens`.

What was admitted starts: nothing is taken back for a job that becomes ready later, so only a few jobs are admitted
before workers ask for them. There are exceptions: a job that has a throttled resource returns to the line when a worker
takes it; and so do, when the run is paused or its window becomes smaller, all that have not begun.

In a run without limits whose order is first in, first out, there is no line, until it is paused: ready jobs are
startable at once. Where jobs return to the line, it is ordered, by their numbers if there are no keys.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final

from ..base._states import SCHEDULED
from ..job._job import AbstractJob, takes_slot
from ._admission import MAX_ADMITTED, AdmissionQueue, join_admission
from ._grant import Grant
from ._window import Adaptive, max_slots
from .policy._policy import LOWEST_KEY, ready_numbers, throttled_numbers

if TYPE_CHECKING:
    from .policy._policy import HeapEntry, StartKeys


class FifoLine:
    """The waiting jobs of one run, first in, first out, until it is paused or its window becomes smaller."""

    __slots__ = ("_jobs", "_queue")

    def __init__(self, queue: ReadyQueue) -> None:
        self._queue = queue
        self._jobs: Final[deque[AbstractJob[Any]]] = deque()

    def push(self, job: AbstractJob[Any]) -> None:
        """Add a job. If it waits for no slot, it is admitted at once, after the jobs before it that can be."""
        queue = self._queue
        if queue.size is not None and (job._is_plain or takes_slot(job)):
            self._jobs.append(job)
        else:
            self.admit(math.inf)
            queue.admit_job(queue.make_entry(job))

    def admit(self, number: float) -> None:
        """Admit jobs while slots are free; because no job can overtake them, also more than `number`."""
        jobs, queue = self._jobs, self._queue
        size: Any = queue.size  # a number, or no job waits
        tokens, startable, holders = queue.tokens, queue.startable, queue.holders
        while jobs and len(holders) < size:  # `admit_job` would do the same, but take four times as long
            job = jobs.popleft()
            if job._state is SCHEDULED:
                holders.add(job)
                if tokens is None or tokens.acquire_or_wait(queue.make_entry(job)):
                    startable.append(job)

    def entries(self) -> list[HeapEntry]:
        return _numbered(self._jobs)

    def clear(self) -> None:
        self._jobs.clear()


class HeapLine:
    """The waiting jobs of one run in the order of their keys, if none of them needs resources."""

    __slots__ = ("_heap", "_queue", "_slotless_heap")

    def __init__(self, queue: ReadyQueue) -> None:
        self._queue = queue
        self._heap: Final[list[HeapEntry]] = []
        self._slotless_heap: Final[list[HeapEntry]] = []  # jobs that take no slot, so they wait for none

    def push(self, job: AbstractJob[Any]) -> None:
        self.insert(self._queue.make_entry(job))

    def insert(self, entry: HeapEntry) -> None:
        heappush(self._heap if takes_slot(entry[2]) else self._slotless_heap, entry)

    def admit(self, number: float) -> None:
        """Admit jobs in order, while slots are free, until `number` jobs are startable."""
        queue, startable = self._queue, self._queue.startable
        while len(startable) < number and not queue.is_paused:
            heap, slotless = self._heap, self._slotless_heap
            if slotless and not (heap and heap[0] < slotless[0] and not queue.is_full()):
                heap = slotless
            elif not heap or queue.is_full():
                return
            entry = heappop(heap)
            if entry[2]._state is SCHEDULED:
                queue.admit_job(entry)

    def entries(self) -> list[HeapEntry]:
        return sorted(entry for entry in (*self._heap, *self._slotless_heap) if entry[2]._state is SCHEDULED)

    def clear(self) -> None:
        self._heap.clear()
        self._slotless_heap.clear()


def _numbered(jobs: Iterable[AbstractJob[Any]]) -> list[HeapEntry]:
    """Return entries for the jobs, in their order, that have not settled."""
    return [(LOWEST_KEY, next(ready_numbers), job) for job in list(jobs) if job._state is SCHEDULED]


class ReadyQueue:
    """The ready jobs of one run, and what those hold that may start or run. The module's docstring explains it.

    Args:
        run: the run.
        window: the window of the run: a number, an `Adaptive`, a limiter, or None for no limit.

    """

    push: Callable[[AbstractJob[Any]], None]
    """Add a job that has become ready. Call `Workers.ensure_searcher` afterwards."""
    release: Callable[[AbstractJob[Any]], None]
    """Take back all that a job holds which has settled or is queued again. `admit` has to be called afterwards."""

    def __init__(self, run: Any, window: Any) -> None:  # a `Run`, whose module this layer must not import
        self.run = run
        self.window = window  # a number may be replaced by another one during the run
        # The number of slots, if the window is a number or an `Adaptive`, which changes it before `admit` is called.
        self.size = window.minimum if isinstance(window, Adaptive) else window if isinstance(window, int) else None
        self.startable: Final[deque[AbstractJob[Any]]] = deque()  # in start order, with some that were cancelled
        self.line: FifoLine | HeapLine | AdmissionQueue | None = None  # where jobs wait; None if they need not
        self.order: StartKeys | None = None  # the keys that order the line; None for first in, first out
        self.resource_line: AdmissionQueue | None = None  # the line, if jobs need resources
        self.holders: Final[set[AbstractJob[Any]]] = set()  # the jobs that have a slot
        self.tokens: Any = None  # a `LimiterTokens`
        self.is_paused = False  # whether the run, or one around it, is paused, so that no job is admitted
        self.is_shared = False  # whether they need something that jobs of other runs may have, besides a slot
        self.push, self.release = self.startable.append, self.holders.discard
        if self.size is not None:
            self.use_line(FifoLine(self))

    def use_line(self, line: FifoLine | HeapLine | AdmissionQueue, is_shared: bool = False) -> None:
        """Let jobs wait in this line from now on."""
        self.line, self.push = line, line.push
        self.is_shared = is_shared or self.resource_line is not None or self.tokens is not None
        if self.is_shared:
            self.release = self._release_shared

    def detach(self) -> None:
        """Drop the references to the run, which has ended, and leave the admission for good."""
        if self.resource_line is not None:
            self.resource_line.detach()
        if self.tokens is not None:
            self.tokens.detach()
        self.line = self.order = None
        del self.run, self.push, self.release

    # ---- the window

    @property
    def limiter(self) -> Any:
        """The limiter that is the window; None if the window is not a limiter."""
        return self.window if self.size is None else None

    @property
    def max_size(self) -> int | None:
        return max_slots(self.window)

    @property
    def current_size(self) -> int | None:
        return self.max_size if self.size is None else self.size

    def is_full(self) -> bool:
        """Return whether no slot is free. More may be taken than there are, if the window has shrunk."""
        return self.size is not None and len(self.holders) >= self.size

    def replace_window(self, size: int) -> None:
        """Replace the number of slots; `admit` has to be called afterwards."""
        self.window = self.size = size
        if len(self.holders) > size:
            self._take_back_admitted()
        self.on_change()

    def set_paused(self, is_paused: bool) -> None:
        """Admit no jobs from now on, or admit them again; `admit` has to be called afterwards."""
        if is_paused is not self.is_paused:
            self.is_paused = is_paused
            if is_paused:
                self._take_back_admitted()
            self.on_change()

    def _take_back_admitted(self) -> None:
        """Return the jobs that have not begun to the line, without what they have, in their order.

        Those that could start come first, and those that waited for a token in their old places.
        """
        if self.line is None or isinstance(self.line, FifoLine):  # in which they have no places
            self.use_order(None, has_needs=False)
        line: Any = self.line
        entries = [(self.make_entry(job)[0], next(throttled_numbers), job) for job in self.startable]
        if self.tokens is not None:
            entries += self.tokens.drain()
        entries = [entry for entry in entries if entry[2]._state is SCHEDULED]
        self.startable.clear()
        for entry in entries:
            self.refund(entry[2])
            self.release(entry[2])
            line.insert(entry)

    def on_change(self) -> None:
        """Require a new round of the admission, because what jobs can take has changed."""
        if self.resource_line is not None:
            self.resource_line.on_change()

    # ---- the steps of a job

    def admit(self, number: float = MAX_ADMITTED) -> None:
        """Pass on what was released: let waiting jobs take it, until `number` of them are startable."""
        if self.line is not None:
            self.line.admit(number)
        if self.tokens is not None:
            self.tokens.pass_on()

    def make_entry(self, job: AbstractJob[Any]) -> HeapEntry:
        return (LOWEST_KEY if self.order is None else self.order.key(job), next(ready_numbers), job)

    def admit_job(self, entry: HeapEntry) -> None:
        """Give a slot to a job that has its needs; let it wait for a token, or make it startable."""
        job = entry[2]
        if self.order is not None:
            self.order.starts += 1
        if self.size is not None and takes_slot(job):
            self.holders.add(job)
        if self.tokens is None or self.tokens.acquire_or_wait(entry):
            self.startable.append(job)

    def take(self) -> AbstractJob[Any] | None:
        startable = self.startable
        while True:
            if self.is_shared or not startable:  # what is shared must be passed on, even if other jobs are startable
                self.admit(1)
                if not startable:
                    return None
            job = startable.popleft()
            if job._state is SCHEDULED and not self._return_throttled(job):
                return job

    def _release_shared(self, job: AbstractJob[Any]) -> None:
        self.holders.discard(job)
        if self.tokens is not None:
            self.tokens.release(job)
        if self.resource_line is not None:
            self.resource_line.release(job)

    def refund(self, job: AbstractJob[Any]) -> None:
        """Put back the amounts of rates and budgets of a job that does not start. Call `release` afterwards."""
        if (grant := job._grant()) is not None:
            grant.refund()

    def _return_throttled(self, job: AbstractJob[Any]) -> bool:
        """Put a job back into the line, in its old place, if a resource that it has was throttled meanwhile.

        Clean-up jobs have no such line: they wait for nothing.
        """
        grant = job._grant()
        if self.resource_line is None or grant is None or not grant.is_throttled():
            return False
        self.refund(job)
        self.release(job)
        self.resource_line.insert(grant.entry)
        return True

    def push_throttled(self, job: AbstractJob[Any]) -> None:
        """Add a job that was throttled, ahead of all others but those that were throttled before."""
        assert self.resource_line is not None  # only jobs with needs are throttled
        self.resource_line.insert((LOWEST_KEY, next(throttled_numbers), job))

    def grant_at_once(self, job: AbstractJob[Any]) -> None:
        """Grant a clean-up job its needs, even beyond the free amounts."""
        if entries := job._options.needs:
            assert self.resource_line is not None  # the run has jobs with needs
            found = [(self.run.pools.find(name), amount) for name, amount in entries.items()]
            needs = [entry.resolve(amount, job) for entry, amount in found]
            join_admission(self.resource_line, [entry for entry, _ in found])  # which passes on what the job gives back
            Grant(job, needs).let_accrue()

    # ---- all ready jobs

    def in_order(self) -> list[AbstractJob[Any]]:
        return [] if self.line is None else [entry[2] for entry in self.line.entries()]

    def drain(self) -> list[AbstractJob[Any]]:
        """Remove and return all jobs, in start order. They keep what they hold until it is released."""
        waiting: list[HeapEntry] = [] if self.tokens is None else self.tokens.drain()
        jobs = [*self.startable, *(entry[2] for entry in waiting), *self.in_order()]
        self.startable.clear()
        if self.line is not None:
            self.line.clear()
        return [job for job in jobs if job._state is SCHEDULED]

    def use_order(self, order: StartKeys | None, has_needs: bool) -> None:
        """Order all waiting jobs by these keys from now on; `has_needs` is whether any job needs resources.

        With None, they keep their order, in which each now has a place.
        """
        if self.line is not None:
            entries = self.line.entries()
            self.line.clear()
        else:
            entries = _numbered(self.startable)
            self.startable.clear()
        self.order = order
        if has_needs and self.resource_line is None:
            self.resource_line = AdmissionQueue(self.run)
        self.use_line(line := self.resource_line or HeapLine(self))
        if self.tokens is not None and order is not None:
            self.tokens.use_order(order)
        for _, number, job in entries:  # they keep their numbers, also those that were throttled, which are negative
            line.insert((LOWEST_KEY if number < 0 else self.make_entry(job)[0], number, job))
