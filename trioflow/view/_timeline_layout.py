"""Where in a timeline each job has its row: nested schedulers are boxes of rows, with their own jobs inside.

A scheduler's plain jobs share rows as lanes do, and so need no more of them than ran at once. Those that are schedulers
go where they have room, and those that run for ever below all others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ._trace_lanes import Row, fit, lanes
from ._trace_record import Record
from ._trace_spans import RunSpan, Span


@dataclass(frozen=True, slots=True)
class Box:
    """The rows of one span: its own, and those of its jobs if it is a scheduler."""

    row: int
    height: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The boxes of all spans that started, by their numbers."""

    boxes: dict[int, Box]
    rows: int


def layout(record: Record) -> Layout:
    """Place all spans; rows count from the top. O(n log n) for plain jobs, O(n × rows log n) for nested schedulers."""
    heights: dict[int, int] = {}  # of the spans of nested schedulers
    places: list[dict[int, int]] = [{} for _ in record.runs]  # the rows of its members in each run
    total = 0
    for index in range(len(record.runs) - 1, -1, -1):  # each run stands behind the one around it
        run = record.runs[index]
        needed = _place(_started(record, run), heights, places[index])
        if run.parent is not None:
            heights[run.parent] = max(heights.get(run.parent, 1), 1 + needed)
    boxes: dict[int, Box] = {}
    for run, rows in zip(record.runs, places, strict=True):
        if run.parent is not None and run.parent not in boxes:
            continue  # it never started
        first = total if run.parent is None else boxes[run.parent].row + 1
        for number, row in rows.items():
            boxes[number] = Box(first + row, heights.get(number, 1))
        if run.parent is None:
            total = max([total, *(boxes[number].row + boxes[number].height for number in rows)])
    return Layout(boxes, total)


def _started(record: Record, run: RunSpan) -> list[Span]:
    return [span for span in (record.spans[number] for number in run.members) if span.started_at is not None]


def _place(spans: Sequence[Span], heights: dict[int, int], places: dict[int, int]) -> int:
    """Write the row of each of these spans into `places`, and return how many rows they need."""
    plain = [span for span in spans if span.number not in heights and not span.forever]
    rows: list[Row] = []
    for span, row in zip(plain, lanes(map(_bounds, plain)), strict=True):
        places[span.number] = row
        rows.extend([] for _ in range(row + 1 - len(rows)))
        rows[row].append(_bounds(span))
    for span in spans:
        if span.number in heights:
            places[span.number] = fit(rows, *_bounds(span), heights[span.number])
    forever = [span for span in spans if span.number not in heights and span.forever]
    below = [len(rows) + row for row in lanes(map(_bounds, forever))]
    places.update((span.number, row) for span, row in zip(forever, below, strict=True))
    return max([len(rows), *(row + 1 for row in below)])


def _bounds(span: Span) -> tuple[float, float]:
    return span.started_at or 0.0, math.inf if span.finished_at is None else span.finished_at
