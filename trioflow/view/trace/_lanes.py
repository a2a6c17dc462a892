"""The assignment of intervals to rows, so that those that overlap are in different rows.

A lane is the row of one slot: a job that got its slot from another job is in the same lane.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Iterable, Iterator


def assign_lanes(intervals: Iterable[tuple[float, float]], waiting_since: Iterable[float | None] = ()) -> Iterator[int]:
    """Yield the row of each interval, counted from 0.

    This is the greedy partition of an interval graph, in O(n log n): it needs no more rows than intervals overlap at
    one time (Kleinberg and Tardos, Algorithm Design, 4.1).

    Args:
        intervals: the beginning and end of each, sorted by their beginnings. The end does not belong to the interval:
            the next one in the row may begin there.
        waiting_since: for each interval, the time since when it has waited for a row, or None. It gets the row that
            became free last, if that was after this time, and otherwise the lowest free row.

    """
    free: dict[int, float] = {}  # the rows in which an interval has ended, with the time when it did
    # Rows of `free` by number, a heap, and by time. Both may contain rows that are in use again: they are dropped late.
    lowest: list[int] = []
    latest: list[tuple[float, int]] = []
    used: list[tuple[float, int]] = []  # a heap of the rows in use, with the end of the interval in each
    fresh = itertools.count()
    for (beginning, end), waiting in zip(intervals, itertools.chain(waiting_since, itertools.repeat(None))):  # noqa: B905 - endless
        while used and used[0][0] <= beginning:
            freed, row = heapq.heappop(used)
            free[row] = freed
            heapq.heappush(lowest, row)
            latest.append((freed, row))
        while latest and free.get(latest[-1][1]) != latest[-1][0]:
            latest.pop()
        while lowest and lowest[0] not in free:
            heapq.heappop(lowest)
        if latest and waiting is not None and latest[-1][0] > waiting:
            row = latest.pop()[1]
        else:
            row = lowest[0] if lowest else next(fresh)
        free.pop(row, None)
        heapq.heappush(used, (end, row))
        yield row


Row = list[tuple[float, float]]
"""The intervals in one row, which do not overlap, sorted by their beginnings."""


def place_box(rows: list[Row], beginning: float, end: float, height: int) -> int:
    """Place a box in the first `height` adjacent rows that are free, and return the number of the topmost one.

    `rows` is extended as needed. This is first fit, in O(rows × log n) per box.
    """
    first = 0
    for number, row in enumerate(rows):
        if not _is_free(row, beginning, end):
            first = number + 1
        elif number + 1 - first == height:
            break
    rows.extend([] for _ in range(first + height - len(rows)))
    for row in rows[first : first + height]:
        bisect.insort(row, (beginning, end))
    return first


def _is_free(row: Row, beginning: float, end: float) -> bool:
    """Return whether a row is free; an empty interval also overlaps with one that begins at the same time."""
    place = bisect.bisect_left(row, (beginning, beginning))
    if place and row[place - 1][1] > beginning:
        return False
    return place == len(row) or (row[place][0] >= end and row[place][0] > beginning)
