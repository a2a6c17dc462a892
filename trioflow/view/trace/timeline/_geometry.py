"""The geometry of a timeline with nested boxes: its scale, the height of its rows, and the rows of each job.

A nested scheduler is a box that spans the rows of its jobs. The plain jobs of a scheduler share rows by lane, so there
are no more of these rows than jobs ran at the same time. Nested schedulers take the first rows with enough room, and
forever jobs are below all others.
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
ROW_HEIGHT: Final = 20.0
"""The height of a row, in pixels."""
MIN_SECONDS: Final = 1e-9
"""The length of the axis in seconds, at least: a run on a virtual clock may take no time."""


class Geometry:
    """The coordinates of the times and jobs in one picture."""

    def __init__(self, record: TraceRecord, width: int, top: float) -> None:
        """Lay out the boxes, and choose the scale; `top` is the upper edge of the axis."""
        layout = lay_out(record)
        self.record: Final = record
        self.boxes: Final = layout.boxes
        self.names: Final = bar_names(record)
        self.width: Final = float(width)
        self.inner_width: Final = self.width - 2 * MARGIN
        self.began: Final = record.began
        self.seconds: Final = max(record.now - record.began, MIN_SECONDS)
        self.axis_y: Final = top + 20
        self.top: Final = self.axis_y + 4 + (LOAD_HEIGHT + 14 if layout.boxes else 0)
        self.bottom: Final = self.top + max(layout.rows, 1) * ROW_HEIGHT

    def x(self, at: float) -> float:
        """Return the x coordinate of a time, in pixels."""
        return MARGIN + (at - self.began) * self.inner_width / self.seconds

    def horizontal_bounds(self, span: Span) -> tuple[float, float]:
        """Return the x coordinates of a job's start and end; a running job ends at the time of the record."""
        assert span.started_at is not None
        return self.x(span.started_at), self.x(self.record.now if span.finished_at is None else span.finished_at)

    def vertical_bounds(self, box: Box) -> tuple[float, float]:
        """Return the upper edge and the height of a bar."""
        top = self.top + box.row * ROW_HEIGHT
        return (top, box.height * ROW_HEIGHT) if box.height > 1 else (top + 1, ROW_HEIGHT - 2)

    def first_row_middle(self, box: Box) -> float:
        """Return the y coordinate of the middle of a box's first row."""
        return self.top + (box.row + 0.5) * ROW_HEIGHT

    def rectangle_attributes(self, span: Span) -> dict[str, float]:
        """Return the attributes of the SVG rectangle of a job's bar."""
        left, right = self.horizontal_bounds(span)
        y, height = self.vertical_bounds(self.boxes[span.number])
        return {"x": left, "y": y, "width": max(right - left, 1.0), "height": height, "rx": 2}


@dataclass(frozen=True, slots=True)
class Box:
    """The rows of one span; those of a nested scheduler include the rows of its jobs."""

    row: int
    """The first row, counted from the top of the picture."""
    height: int
    """The number of rows."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The result of `lay_out`."""

    boxes: dict[int, Box]
    """The box of each span that started, by its number."""
    rows: int
    """The number of rows in the picture."""


def bar_names(record: TraceRecord) -> list[tuple[str, str]]:
    """Return the name and the short name for the bar of each span.

    The name is the label, or the path if several jobs have the same label. The short name is the path without that of
    the scheduler, which is enough inside the scheduler's box. Both names of a nested scheduler include the number of
    failed jobs in it, because the scheduler itself may have succeeded.
    """
    labels = Counter(span.label for span in record.spans)
    failures: Counter[int] = Counter()
    for number in record.failures:
        failures.update(enclosing.number for enclosing in record.enclosing_spans(record.spans[number]))
    names: list[tuple[str, str]] = []
    for number, span in enumerate(record.spans):
        prefix = "" if span.parent is None else f"{record.spans[span.parent].path}/"
        is_unique = labels[span.label] == 1
        name, short_name = (span.label,) * 2 if is_unique else (span.path, span.path.removeprefix(prefix))
        remark = f" · {failures[number]} failed" if failures[number] else ""
        names.append((name + remark, short_name + remark))
    return names


def lay_out(record: TraceRecord) -> Layout:
    """Assign rows to all spans. O(n log n) for plain jobs, O(n × rows log n) for nested schedulers."""
    heights: dict[int, int] = {}  # the number of rows of each nested scheduler, by the number of its span
    rows_in_runs: list[dict[int, int]] = [{} for _ in record.runs]  # the rows of each run's members, from its own first
    total = 0
    for index in range(len(record.runs) - 1, -1, -1):  # backwards, because nested runs come after their enclosing run
        run = record.runs[index]
        needed = _place_members(_started(record, run), heights, rows_in_runs[index])
        if run.parent is not None:
            heights[run.parent] = max(heights.get(run.parent, 1), 1 + needed)
    boxes: dict[int, Box] = {}
    for run, rows in zip(record.runs, rows_in_runs, strict=True):
        if run.parent is not None and run.parent not in boxes:
            continue  # the nested scheduler never started
        first = total if run.parent is None else boxes[run.parent].row + 1
        for number, row in rows.items():
            boxes[number] = Box(first + row, heights.get(number, 1))
        if run.parent is None:
            total = max([total, *(boxes[number].row + boxes[number].height for number in rows)])
    return Layout(boxes, total)


def _started(record: TraceRecord, run: RunSpan) -> list[Span]:
    return [span for span in (record.spans[number] for number in run.members) if span.started_at is not None]


def _place_members(spans: Sequence[Span], heights: dict[int, int], row_of: dict[int, int]) -> int:
    """Store the row of each member of a run in `row_of`, and return the number of rows."""
    plain = [span for span in spans if span.number not in heights and not span.forever]
    rows: list[Row] = []
    for span, row in zip(plain, _assign_rows(plain), strict=True):
        row_of[span.number] = row
        rows.extend([] for _ in range(row + 1 - len(rows)))
        rows[row].append(_bounds(span))
    for span in spans:
        if span.number in heights:
            row_of[span.number] = place_box(rows, *_bounds(span), heights[span.number])
    forever = [span for span in spans if span.number not in heights and span.forever]
    below = [len(rows) + row for row in _assign_rows(forever)]
    row_of.update((span.number, row) for span, row in zip(forever, below, strict=True))
    return max([len(rows), *(row + 1 for row in below)])


def _assign_rows(spans: Sequence[Span]) -> Iterator[int]:
    return assign_lanes(map(_bounds, spans), (span.scheduled_at for span in spans))


def _bounds(span: Span) -> tuple[float, float]:
    return span.started_at or 0.0, or_infinity(span.finished_at)
