"""The assignment of intervals to rows, so that overlapping intervals are in different rows.

A lane is the row of one slot: a job is in the same lane as the job from which it got its slot.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator


def assign_lanes(intervals: Iterable[tuple[float, float]], waiting_since: Iterable[float | None] = ()) -> Iterator[int]:
    """Yield the row of each interval, counted from 0.

    This is the greedy coloring of an interval graph, in O(n log n) time. The number of rows is the largest number of
    intervals that overlap at one time (Kleinberg and Tardos, Algorithm Design, 4.1).

    Args:
        intervals: the beginning and end of each interval, sorted by beginning. The next interval in a row may begin
            at the end of the previous one.
        waiting_since: for each interval, the time from which it waited for a row, or None if it did not wait. An
            interval that waited gets the row that became free most recently, if that happened after the interval had
            begun to wait. Any other interval gets the lowest free row.

    """
    free_rows: dict[int, float] = {}  # each row that was used and is free again, with the time when it became free
    # Both lists contain the rows of `free_rows`: the first is a heap by number, the second is sorted by time. They may
    # also contain rows that are in use again, which are removed lazily.
    free_row_heap: list[int] = []
    free_rows_by_time: list[tuple[float, int]] = []
    busy_row_heap: list[tuple[float, int]] = []  # a heap of the rows in use, by the end of their intervals
    new_rows = itertools.count()
    for (beginning, end), wait_start in zip(intervals, itertools.chain(waiting_since, itertools.repeat(None))):  # noqa: B905 - endless
        while busy_row_heap and busy_row_heap[0][0] <= beginning:
            freed_at, row = heapq.heappop(busy_row_heap)
            free_rows[row] = freed_at
            heapq.heappush(free_row_heap, row)
            free_rows_by_time.append((freed_at, row))
        while free_rows_by_time and free_rows.get(free_rows_by_time[-1][1]) != free_rows_by_time[-1][0]:
            free_rows_by_time.pop()
        while free_row_heap and free_row_heap[0] not in free_rows:
            heapq.heappop(free_row_heap)
        if free_rows_by_time and wait_start is not None and free_rows_by_time[-1][0] > wait_start:
            row = free_rows_by_time.pop()[1]
        else:
            row = free_row_heap[0] if free_row_heap else next(new_rows)
        free_rows.pop(row, None)
        heapq.heappush(busy_row_heap, (end, row))
        yield row
