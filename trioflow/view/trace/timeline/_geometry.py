"""The geometry of a timeline with nested boxes: the scale of the time axis, and the rows of each job.

A nested scheduler is a box that spans the rows of its jobs. Ordinary jobs of a scheduler share rows by lane, so they
need only as many rows as jobs ran at the same time. Nested schedulers take the first rows with enough room. Forever
jobs are in the lowest rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from .._lanes import IntervalRow, assign_lanes, place_box
from .._span_builder import TraceRecord
from .._spans import RunSpan, Span, or_infinity

MARGIN: Final = 16.0
"""The width in pixels of the margins on the left and the right of a picture."""
LOAD_CURVE_HEIGHT: Final = 44.0
"""The height in pixels of the area with the curve of the running jobs."""
ROW_HEIGHT: Final = 20.0
"""The height of a row in pixels."""
MIN_AXIS_SECONDS: Final = 1e-9
"""The minimum length of the axis in seconds. It is not 0, because a run on a virtual clock may take no time."""


class Geometry:
    """The coordinates of the times and jobs in one timeline."""

    def __init__(self, record: TraceRecord, width: int, top: float) -> None:
        """Lay out the boxes and choose the scale. `top` is the y coordinate of the upper edge of the axis."""
        layout = compute_layout(record)
        self.record: Final = record
        self.boxes: Final = layout.boxes
        self.bar_names: Final = bar_names(record)
        self.width: Final = float(width)
        self.inner_width: Final = self.width - 2 * MARGIN
        self.start_time: Final = record.start_time
        self.axis_seconds: Final = max(record.end_time - record.start_time, MIN_AXIS_SECONDS)
        self.axis_y: Final = top + 20
        self.top: Final = self.axis_y + 4 + (LOAD_CURVE_HEIGHT + 14 if layout.boxes else 0)
        self.bottom: Final = self.top + max(layout.row_count, 1) * ROW_HEIGHT

    def time_to_x(self, time: float) -> float:
        """Return the x coordinate of a time, in pixels."""
        return MARGIN + (time - self.start_time) * self.inner_width / self.axis_seconds

    def horizontal_bounds(self, span: Span) -> tuple[float, float]:
        """Return the x coordinates of a job's start and end. A running job is drawn up to the end of the record."""
        assert span.started_at is not None
        return self.time_to_x(span.started_at), self.time_to_x(
            self.record.end_time if span.finished_at is None else span.finished_at
        )

    def vertical_bounds(self, box: TimelineBox) -> tuple[float, float]:
        """Return the y coordinate of the upper edge of a bar, and the height of the bar."""
        top = self.top + box.first_row * ROW_HEIGHT
        return (top, box.row_count * ROW_HEIGHT) if box.row_count > 1 else (top + 1, ROW_HEIGHT - 2)

    def first_row_middle(self, box: TimelineBox) -> float:
        """Return the y coordinate of the middle of a box's first row."""
        return self.top + (box.first_row + 0.5) * ROW_HEIGHT

    def rectangle_attributes(self, span: Span) -> dict[str, float]:
        """Return the attributes of the SVG rectangle of a job's bar."""
        left, right = self.horizontal_bounds(span)
        y, height = self.vertical_bounds(self.boxes[span.number])
        return {"x": left, "y": y, "width": max(right - left, 1.0), "height": height, "rx": 2}


@dataclass(frozen=True, slots=True)
class TimelineBox:
    """The rows of one span's bar, or, for a nested scheduler, of the box that includes the rows of its jobs."""

    first_row: int
    """The index of the first row, counted from the top of the picture."""
    row_count: int
    """The number of rows."""


@dataclass(frozen=True, slots=True)
class TimelineLayout:
    """The rows of all boxes in a timeline, as assigned by `compute_layout`."""

    boxes: dict[int, TimelineBox]
    """The box of each span that started, by the number of the span."""
    row_count: int
    """The number of rows in the picture."""


def bar_names(record: TraceRecord) -> list[tuple[str, str]]:
    """Return the name and the short name for the bar of each span.

    The name is the label, or the path if several jobs have the same label. The short name is relative to the path of
    the enclosing scheduler, which is enough inside the scheduler's box. Both names of a nested scheduler include the
    number of failed jobs in it, because the scheduler itself may have succeeded.
    """
    labels = Counter(span.label for span in record.spans)
    failure_counts: Counter[int] = Counter()
    for number in record.failures:
        failure_counts.update(enclosing.number for enclosing in record.enclosing_spans(record.spans[number]))
    names: list[tuple[str, str]] = []
    for number, span in enumerate(record.spans):
        prefix = "" if span.parent is None else f"{record.spans[span.parent].path}/"
        is_unique = labels[span.label] == 1
        name, short_name = (span.label,) * 2 if is_unique else (span.path, span.path.removeprefix(prefix))
        remark = f" · {failure_counts[number]} failed" if failure_counts[number] else ""
        names.append((name + remark, short_name + remark))
    return names


def compute_layout(record: TraceRecord) -> TimelineLayout:
    """Assign rows to all spans that started. For the time that this takes, see `assign_lanes` and `place_box`."""
    row_counts: dict[int, int] = {}  # the number of rows of each nested scheduler, by span number
    # For each run, the rows of its members by span number, counted from the first row of the run.
    rows_in_runs: list[dict[int, int]] = [{} for _ in record.runs]
    total_rows = 0
    for index in range(len(record.runs) - 1, -1, -1):  # in reverse, because nested runs come after their enclosing run
        run = record.runs[index]
        row_count = _place_members(_started_members(record, run), row_counts, rows_in_runs[index])
        if run.parent is not None:
            row_counts[run.parent] = max(row_counts.get(run.parent, 1), 1 + row_count)
    boxes: dict[int, TimelineBox] = {}
    for run, rows in zip(record.runs, rows_in_runs, strict=True):
        if run.parent is not None and run.parent not in boxes:
            continue  # the nested scheduler never started
        first_row = total_rows if run.parent is None else boxes[run.parent].first_row + 1
        for number, row in rows.items():
            boxes[number] = TimelineBox(first_row + row, row_counts.get(number, 1))
        if run.parent is None:
            total_rows = max([total_rows, *(boxes[number].first_row + boxes[number].row_count for number in rows)])
    return TimelineLayout(boxes, total_rows)


def _started_members(record: TraceRecord, run: RunSpan) -> list[Span]:
    return [span for span in (record.spans[number] for number in run.member_numbers) if span.started_at is not None]


def _place_members(spans: Sequence[Span], row_counts: dict[int, int], member_rows: dict[int, int]) -> int:
    """Store the row of each member of a run in `member_rows`, and return the number of rows."""
    plain_spans = [span for span in spans if span.number not in row_counts and not span.forever]
    rows: list[IntervalRow] = []
    for span, row in zip(plain_spans, _assign_rows(plain_spans), strict=True):
        member_rows[span.number] = row
        rows.extend([] for _ in range(row + 1 - len(rows)))
        rows[row].append(_bar_interval(span))
    for span in spans:
        if span.number in row_counts:
            member_rows[span.number] = place_box(rows, *_bar_interval(span), row_counts[span.number])
    forever_spans = [span for span in spans if span.number not in row_counts and span.forever]
    forever_rows = [len(rows) + row for row in _assign_rows(forever_spans)]
    member_rows.update((span.number, row) for span, row in zip(forever_spans, forever_rows, strict=True))
    return max([len(rows), *(row + 1 for row in forever_rows)])


def _assign_rows(spans: Sequence[Span]) -> Iterator[int]:
    return assign_lanes(map(_bar_interval, spans), (span.scheduled_at for span in spans))


def _bar_interval(span: Span) -> tuple[float, float]:
    return span.started_at or 0.0, or_infinity(span.finished_at)
