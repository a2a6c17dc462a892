"""Rows for intervals that may overlap: each goes into the lowest row that is free when it begins."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence


def lanes(intervals: Iterable[tuple[float, float]]) -> Iterator[int]:
    """Yield the row, from 0, of each of these intervals (beginning, end), which come in the order of beginning.

    The greedy partition of an interval graph, O(n log n); it needs no more rows than intervals overlap at one time
    (Kleinberg and Tardos, Algorithm Design, 4.1). An interval is free of its end: the next may begin there.
    """
    free: list[int] = []  # heaps: rows that were used before...
    used: list[tuple[float, int]] = []  # ...and those in use, with the time until when
    fresh = itertools.count()
    for beginning, end in intervals:
        while used and used[0][0] <= beginning:
            heapq.heappush(free, heapq.heappop(used)[1])
        row = heapq.heappop(free) if free else next(fresh)
        heapq.heappush(used, (end, row))
        yield row


def blocks(boxes: Sequence[tuple[float, float, int]]) -> Iterator[int]:
    """Yield the first row of each of these boxes (beginning, end, rows), which come in the order of beginning.

    First fit: the lowest place where so many rows beside each other are free. O(n × rows).
    """
    until: list[float] = []  # for each row, when it is free again
    for beginning, end, height in boxes:
        row = _first_fit(until, beginning, height)
        until.extend([beginning] * (row + height - len(until)))
        until[row : row + height] = [end] * height
        yield row


def _first_fit(until: list[float], beginning: float, height: int) -> int:
    """Return the first of `height` rows that are free, some of them perhaps beyond the last."""
    found = 0
    for row, end in enumerate(until):
        if end > beginning:
            found = row + 1
        elif row + 1 - found == height:
            return found
    return found
