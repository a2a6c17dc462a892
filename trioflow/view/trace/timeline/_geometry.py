"""The geometry of a timeline: its scale, the height of its rows, and the row of each job.

Nested schedulers are boxes of rows with their own jobs inside. The plain jobs of a scheduler share rows as lanes do,
and so need no more rows than ran at once. Nested schedulers take the first rows with enough room, and forever jobs are
below all others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from .._lanes import Row, assign_lanes, place_box
from .._span_builder import TraceRecord
from .._spans import RunSpan, Span, or_infinity

MARGIN: Final = 16.0
LOAD_HEIGHT: Final = 44.0
PITCH: Final = 20.0
"""Pixels, the height of a row."""
SHORTEST: Final = 1e-9
"""The shortest axis, in seconds: a run on a virtual clock may take no time."""


class Geometry:
    """The geometry of one picture."""

    def __init__(self, record: TraceRecord, width: int, top: float) -> None:
        """Choose the scale; `top` is the upper edge of the axis."""
        placed = layout(record)
        self.record: Final = record
        self.boxes: Final = placed.boxes
        self.names: Final = names(record)
        self.width: Final = float(width)
        self.inner: Final = self.width - 2 * MARGIN
        self.began: Final = record.began
        self.seconds: Final = max(record.now - record.began, SHORTEST)
        self.head: Final = top + 20
        self.top: Final = self.head + 4 + (LOAD_HEIGHT + 14 if placed.boxes else 0)
        self.bottom: Final = self.top + max(placed.rows, 1) * PITCH

    def x(self, at: float) -> float:
        """Return the x coordinate of a time, in pixels."""
        return MARGIN + (at - self.began) * self.inner / self.seconds

    def bounds(self, span: Span) -> tuple[float, float]:
        """Return the left and right end of a job's bar; a running job ends now."""
        assert span.started_at is not None
        return self.x(span.started_at), self.x(self.record.now if span.finished_at is None else span.finished_at)

    def rows(self, box: Box) -> tuple[float, float]:
        """Return the upper edge of a bar, and its height."""
        top = self.top + box.row * PITCH
        return (top, box.height * PITCH) if box.height > 1 else (top + 1, PITCH - 2)

    def middle(self, box: Box) -> float:
        """Return the y coordinate of the middle of a box's first row."""
        return self.top + (box.row + 0.5) * PITCH

    def rectangle(self, span: Span) -> dict[str, float]:
        """Return the attributes of a bar."""
        left, right = self.bounds(span)
        y, height = self.rows(self.boxes[span.number])
        return {"x": left, "y": y, "width": max(right - left, 1.0), "height": height, "rx": 2}


@dataclass(frozen=True, slots=True)
class Box:
    """The rows of one span: its own, and its jobs' rows if it is a scheduler."""

    row: int
    height: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The boxes of all spans that started, by their numbers."""

    boxes: dict[int, Box]
    rows: int


def names(record: TraceRecord) -> list[tuple[str, str]]:
    """Return the name of each bar, its label, or its path if labels repeat; and the part that is enough.

    The end of a path is enough in the box of its scheduler, where all paths share the beginning. The name of a nested
    scheduler includes the number of failed jobs in it, because it may itself have succeeded.
    """
    labels = Counter(span.label for span in record.spans)
    failures: Counter[int] = Counter()
    for number in record.failures:
        outer = record.spans[number].parent
        while outer is not None:
            failures[outer] += 1
            outer = record.spans[outer].parent
    found: list[tuple[str, str]] = []
    for number, span in enumerate(record.spans):
        around = "" if span.parent is None else f"{record.spans[span.parent].path}/"
        both = (span.label,) * 2 if labels[span.label] == 1 else (span.path, span.path.removeprefix(around))
        more = f" · {failures[number]} failed" if failures[number] else ""
        found.append((both[0] + more, both[1] + more))
    return found


def layout(record: TraceRecord) -> Layout:
    """Place all spans; rows count from the top. O(n log n) for plain jobs, O(n × rows log n) for nested schedulers."""
    heights: dict[int, int] = {}  # the heights of nested schedulers' spans
    places: list[dict[int, int]] = [{} for _ in record.runs]  # the rows of its members in each run
    total = 0
    for index in range(len(record.runs) - 1, -1, -1):  # a run comes after its enclosing one
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


def _started(record: TraceRecord, run: RunSpan) -> list[Span]:
    return [span for span in (record.spans[number] for number in run.members) if span.started_at is not None]


def _place(spans: Sequence[Span], heights: dict[int, int], places: dict[int, int]) -> int:
    """Store the row of each span in `places`, and return the number of rows."""
    plain = [span for span in spans if span.number not in heights and not span.forever]
    rows: list[Row] = []
    for span, row in zip(plain, _lanes_of(plain), strict=True):
        places[span.number] = row
        rows.extend([] for _ in range(row + 1 - len(rows)))
        rows[row].append(_bounds(span))
    for span in spans:
        if span.number in heights:
            places[span.number] = place_box(rows, *_bounds(span), heights[span.number])
    forever = [span for span in spans if span.number not in heights and span.forever]
    below = [len(rows) + row for row in _lanes_of(forever)]
    places.update((span.number, row) for span, row in zip(forever, below, strict=True))
    return max([len(rows), *(row + 1 for row in below)])


def _lanes_of(spans: Sequence[Span]) -> Iterator[int]:
    return assign_lanes(map(_bounds, spans), (span.scheduled_at for span in spans))


def _bounds(span: Span) -> tuple[float, float]:
    return span.started_at or 0.0, or_infinity(span.finished_at)
