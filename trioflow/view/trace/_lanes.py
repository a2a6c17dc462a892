"""Rows for intervals that may overlap. A lane is a slot: a job that got its slot from another takes that one's lane."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Iterable, Iterator


def lanes(intervals: Iterable[tuple[float, float]], since: Iterable[float | None] = ()) -> Iterator[int]:
    """Yield the row, from 0, of each of these intervals (beginning, end), which must be sorted by their beginnings.

    `since` has the time from which each waited for a row: it takes the last row that became free since. All others,
    and so the first ones of each wave, take the lowest free row.

    The greedy partition of an interval graph, O(n log n); it needs no more rows than intervals overlap at one time
    (Kleinberg and Tardos, Algorithm Design, 4.1). The end of an interval is not part of it: the next may begin there.
    """
    free: dict[int, float] = {}  # rows that are free again, with the time since when
    lowest: list[int] = []  # a heap of them; here and in `latest`, rows that are in use again are left until found
    latest: list[tuple[float, int]] = []  # the same rows in the order in which they became free
    used: list[tuple[float, int]] = []  # a heap: rows in use, after the time until when
    fresh = itertools.count()
    for (beginning, end), waiting in zip(intervals, itertools.chain(since, itertools.repeat(None))):  # noqa: B905 - endless
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


def fit(rows: list[Row], beginning: float, end: float, height: int) -> int:
    """Place a box at the first `height` adjacent free rows, and return the first of them.

    Rows are added at the end as they are needed. First fit, O(rows × log n) per box.
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
    """Return whether a row is free; an empty interval overlaps with one that begins at the same moment."""
    place = bisect.bisect_left(row, (beginning, beginning))
    if place and row[place - 1][1] > beginning:
        return False
    return place == len(row) or (row[place][0] >= end and row[place][0] > beginning)
