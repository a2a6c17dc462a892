"""The ready jobs of one run in the order in which they start: first in first out, or by a rank.

The frames of workers hold the object for as long as they run, and use it as a deque: truth, `append`, `popleft`. Most
runs need no more than a deque, and then `ReadyJobs` is one, without any method of its own between. A run that gets its
first job with a priority, or with an expected duration, turns the same object into `RankedJobs`: it changes its class.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Any, cast

from ..base._states import SCHEDULED
from ..job._job import AbstractJob
from ._order import Order


class ReadyJobs(deque[AbstractJob[Any]]):
    """The ready jobs, first in first out."""

    # Set while the jobs are ranked. It is here because both classes must have the same fields.
    __slots__ = ("order",)
    order: Order

    def first(self) -> AbstractJob[Any]:
        """Return the job that starts next; there must be one."""
        return self[0]

    def in_order(self) -> list[AbstractJob[Any]]:
        """Return all entries, in the order in which they would start."""
        return list(self)

    def put_first(self, job: AbstractJob[Any]) -> None:
        """Add a job that starts before all others."""
        self.appendleft(job)

    def rank_by(self, order: Order) -> None:
        """Start the jobs in this order from now on, those that are ready already included."""
        waiting = [job for job in self.in_order() if job._state is SCHEDULED]
        self.clear()
        self.order = order
        cast(Any, self).__class__ = RankedJobs
        for job in waiting:
            self.append(job)


class RankedJobs(ReadyJobs):
    """The ready jobs in the order of a policy: a heap, so that each job costs O(log n)."""

    __slots__ = ()

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.order.heap)

    def append(self, job: AbstractJob[Any], /) -> None:
        """Add a job."""
        order = self.order
        heappush(order.heap, (order.key(job), next(order.numbers), job))

    def extend(self, jobs: Iterable[AbstractJob[Any]], /) -> None:
        """Add jobs."""
        for job in jobs:
            self.append(job)

    def popleft(self) -> AbstractJob[Any]:
        """Take the job that starts next."""
        order = self.order
        if order.touched:
            order.refresh()
        order.was_taken = True
        return heappop(order.heap)[2]

    def first(self) -> AbstractJob[Any]:
        """Return the job that starts next; there must be one."""
        if self.order.touched:
            self.order.refresh()
        return self.order.heap[0][2]

    def in_order(self) -> list[AbstractJob[Any]]:
        """Return all entries, in the order in which they would start."""
        return [entry[2] for entry in sorted(self.order.heap)]

    def put_first(self, job: AbstractJob[Any]) -> None:
        """Add a job that starts before all others."""
        order = self.order
        heappush(order.heap, (order.before_all(), next(order.numbers_of_first), job))

    def __iter__(self) -> Iterator[AbstractJob[Any]]:
        """Iterate over the entries, in the order in which they would start."""
        return iter(self.in_order())

    def clear(self) -> None:
        """Remove all entries."""
        self.order.heap.clear()
