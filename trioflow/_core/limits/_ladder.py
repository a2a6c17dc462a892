"""The queues of one run, for two questions: which of those that fit is the first, and when does time let one fit.

A tournament tree: each node knows the earliest of the first jobs below it, and the least that all queues below it
need. If there is not enough for the least, nobody below it fits, and nobody is asked. So with one resource, or with
needs that grow and shrink together, n queues cost O(log n) for each job that starts. Otherwise more of them are asked.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, Final

from ._resource import SECONDS_APART

if TYPE_CHECKING:
    from ._order import Entry
    from ._queues import NeedsQueue
    from ._resource import Resource

    Least = dict[Resource, Any]


class Ladder:
    """The queues with waiting jobs of one run; each has a rung, a leaf of the tree."""

    __slots__ = ("_firsts", "_free", "_least", "_queues", "_size")

    def __init__(self) -> None:
        self._size = 1  # the number of leaves: node 1 is the root, node n is above 2n and 2n + 1
        self._queues: Final[list[NeedsQueue | None]] = [None]
        self._free: Final[list[int]] = [0]  # leaves without a queue
        # Of each node: the earliest of the first jobs below it, and the least needs; None if there is no queue.
        self._firsts: list[Entry | None] = [None, None]
        self._least: list[Least | None] = [None, None]

    def first(self) -> Entry | None:
        """Return the earliest of all first jobs."""
        return self._firsts[1]

    def add(self, queue: NeedsQueue) -> None:
        """Add a queue."""
        if not self._free:
            self._grow()
        queue.rung = rung = self._free.pop()
        self._queues[rung] = queue
        self._set_least(rung, dict(queue.needs))
        self.note_first(queue)

    def remove(self, queue: NeedsQueue) -> None:
        """Remove a queue."""
        rung, queue.rung = queue.rung, -1
        self._queues[rung] = None
        self._free.append(rung)
        self._set_first(rung, None)
        self._set_least(rung, None)

    def note_first(self, queue: NeedsQueue) -> None:
        """Take in that another job may be the first of a queue."""
        self._set_first(queue.rung, queue.heap[0])

    def fitting(self, reserved: Collection[Resource] = ()) -> Iterator[NeedsQueue]:
        """Yield the queues for whose first job there is enough, the earliest first.

        Those that need a `reserved` resource are left out; there may be more of these meanwhile.
        """
        firsts, least, size = self._firsts, self._least, self._size
        todo: list[tuple[Entry, int]] = []
        _push(todo, firsts, 1)
        while todo:
            _, node = heapq.heappop(todo)
            if node < size:
                for resource, need in (least[node] or {}).items():
                    if not resource.fits(need) or resource in reserved:
                        break
                else:
                    _push(todo, firsts, 2 * node)
                    _push(todo, firsts, 2 * node + 1)
            else:
                queue = self._queues[node - size]
                assert queue is not None
                if queue.fits() and not queue.needs_any(reserved):
                    yield queue

    def before(self, queue: NeedsQueue) -> Iterator[NeedsQueue]:
        """Yield all queues that come before one of them, the earliest first."""
        firsts, size = self._firsts, self._size
        todo: list[tuple[Entry, int]] = []
        _push(todo, firsts, 1)
        while todo:
            _, node = heapq.heappop(todo)
            if node < size:
                _push(todo, firsts, 2 * node)
                _push(todo, firsts, 2 * node + 1)
                continue
            other = self._queues[node - size]
            assert other is not None
            if other is queue:
                return
            yield other

    def opens_at(
        self, clock: Callable[[], float], asked: Collection[NeedsQueue], reserved: Collection[Resource]
    ) -> float:
        """Return when time lets one of them fit that waits for time; infinity if all wait for other jobs.

        Those that were `asked` fit already, and so may those that need a `reserved` resource. If another one fits, its
        time has come since `fitting` asked it.
        """
        todo: list[tuple[float, int]] = []
        self._push_time(todo, 1)
        while todo:
            opens_at, node = heapq.heappop(todo)
            if node < self._size:
                self._push_time(todo, 2 * node)
                self._push_time(todo, 2 * node + 1)
                continue
            now, queue = clock(), self._queues[node - self._size]
            assert queue is not None
            if opens_at > now + SECONDS_APART:
                return opens_at
            if queue not in asked and queue.fits() and not queue.needs_any(reserved):
                return now
        return math.inf

    def _push_time(self, todo: list[tuple[float, int]], node: int) -> None:
        needs = self._least[node]
        if needs is not None:
            opens_at = max([resource.opens_at(need) for resource, need in needs.items()], default=-math.inf)
            heapq.heappush(todo, (opens_at, node))

    def _grow(self) -> None:
        queues, size = self._queues, self._size
        self._size = 2 * size
        self._free.extend(range(self._size - 1, size - 1, -1))
        queues.extend([None] * size)
        self._least = [None] * (2 * self._size)
        self._firsts = [None] * (2 * self._size)
        for queue in queues:
            if queue is not None:
                self._set_least(queue.rung, dict(queue.needs))
                self.note_first(queue)

    def _set_first(self, rung: int, entry: Entry | None) -> None:
        """Set the first job of a leaf, and what follows from it above."""
        firsts = self._firsts
        node = rung + self._size
        firsts[node] = entry
        while node > 1:
            other = firsts[node ^ 1]
            if entry is None or (other is not None and other < entry):
                entry = other
            node >>= 1
            if firsts[node] is entry:
                return
            firsts[node] = entry

    def _set_least(self, rung: int, needs: Least | None) -> None:
        """Set the needs of a leaf, and what follows from them above."""
        least = self._least
        node = rung + self._size
        least[node] = needs
        while node > 1:
            other = least[node ^ 1]
            if needs is None:
                needs = other
            elif other is not None:
                needs = {one: one.least(need, other[one]) for one, need in needs.items() if one in other}
            node >>= 1
            if least[node] == needs:
                return
            least[node] = needs


def _push(todo: list[tuple[Entry, int]], firsts: list[Entry | None], node: int) -> None:
    first = firsts[node]
    if first is not None:
        heapq.heappush(todo, (first, node))
