"""The bars of a timeline with labels and tooltips, the critical path, and the marks of services and incidents."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import JobState, WaitCause, duration_text, printable, shorten
from ..._state_styles import STATE_STYLES
from .._critical_path import CriticalPathLink, settled_at
from .._span_builder import TraceRecord
from .._spans import Span
from ._geometry import ROW_HEIGHT, Geometry
from ._svg import add_element, clip_middle, text_width

MIN_OUTLINED_WIDTH: Final = 8.0
"""The minimum width in pixels of a bar with its own outline. The outline would fill a narrower bar."""
FONT_SIZE: Final = 11.0
"""The size of labels, in pixels."""
ARROW_WIDTH: Final = 7.0
"""The width of an arrowhead, in pixels."""
FAILED_SYMBOL: Final = STATE_STYLES[JobState.FAILED].symbol
"""The symbol in front of the label of a failed job."""


def draw_bars(svg: Tree.Element, geometry: Geometry, *, for_schedulers: bool) -> None:
    """Draw the bars of jobs that started or, if `for_schedulers`, the boxes of nested schedulers around the bars."""
    for number, box in geometry.boxes.items():
        if (box.row_count > 1) is for_schedulers:
            _draw_bar(svg, geometry, geometry.record.spans[number])


def _bar_css_class(span: Span) -> str:
    return f"{'forever ' * span.forever}{span.state.value}"


def _draw_bar(svg: Tree.Element, geometry: Geometry, span: Span) -> None:
    css_class = "nest" if geometry.boxes[span.number].row_count > 1 else "bar"
    group = add_element(svg, "g", css="job", data_number=span.number)
    add_element(group, "title", "\n".join(map(printable, tooltip_lines(geometry.record, span))))
    add_element(group, "rect", css=f"{css_class} {_bar_css_class(span)}", **geometry.rectangle_attributes(span))
    _draw_attempt_marks(group, geometry, span)


def _draw_attempt_marks(group: Tree.Element, geometry: Geometry, span: Span) -> None:
    """Mark the start of each attempt after the first, at the lower edge of the bar, where no mark crosses the label."""
    y, height = geometry.vertical_bounds(geometry.boxes[span.number])
    bottom = y + min(height, ROW_HEIGHT - 2)
    top = bottom - 6
    for x in map(geometry.time_to_x, span.attempts[1:]):
        add_element(group, "line", css="attempt", x1=x, y1=top, x2=x, y2=bottom)
        add_element(group, "line", css="attempt-edge", x1=x + 1, y1=top, x2=x + 1, y2=bottom)


def draw_labels(svg: Tree.Element, geometry: Geometry) -> None:
    """Write the labels of the bars. Call this last, so that no line crosses out a label."""
    right_limits = _compute_label_limits(geometry)
    for number in geometry.boxes:
        _draw_label(svg, geometry, geometry.record.spans[number], right_limits[number])


def _draw_label(svg: Tree.Element, geometry: Geometry, span: Span, right_limit: float) -> None:
    """Write the label into the bar, or after the bar if there is more room up to the x coordinate `right_limit`."""
    left, right = geometry.horizontal_bounds(span)
    box = geometry.boxes[span.number]
    is_failed, is_nested = span.state is JobState.FAILED, box.row_count > 1
    symbol, is_bold = f"{FAILED_SYMBOL} " * is_failed, is_nested or is_failed
    name, short_name = (symbol + text for text in geometry.bar_names[span.number])

    def fitting_text(max_width: float) -> str:
        text = clip_middle(name, max_width, FONT_SIZE, is_bold)
        if short_name == name or text == printable(name):
            return text
        return clip_middle(short_name, max_width, FONT_SIZE, is_bold)

    inside_label = fitting_text(right - left - 7)
    outside_label = "" if is_nested else fitting_text(right_limit - right - 8)
    top, height = geometry.vertical_bounds(box)
    if len(outside_label) > len(inside_label):
        x, label, css_class = right + 4, outside_label, "label"
        # The label gets a background, because lines of the critical path may cross it.
        background = "behind within" if span.parent is not None else "behind"
        width = min(text_width(label, FONT_SIZE, is_bold), right_limit - x) + 4
        add_element(svg, "rect", css=background, x=x - 2, y=top + 1, width=width, height=height - 2)
    else:
        x, label = left + 4, inside_label
        css_class = "label heading" if is_nested else "label on-dark" if is_failed else "label"
    if label:
        y = top + (ROW_HEIGHT - 2) / 2 + FONT_SIZE * 0.36
        add_element(svg, "text", label, css=css_class, x=x, y=y, font_size=FONT_SIZE, data_number=span.number)


def _compute_label_limits(geometry: Geometry) -> dict[int, float]:
    """Return the x coordinate where the label of each bar must end: at the next bar or arrow, or at the box's edge."""
    spans = geometry.record.spans
    limits: dict[int, float] = {}
    numbers_by_row: dict[int, list[int]] = {}
    for number, box in geometry.boxes.items():
        parent = spans[number].parent
        limits[number] = geometry.width - 2 if parent is None else geometry.horizontal_bounds(spans[parent])[1]
        for row in range(box.first_row, box.first_row + box.row_count):
            numbers_by_row.setdefault(row, []).append(number)
    for numbers in numbers_by_row.values():
        numbers.sort()  # spans are numbered in the order of their starts
        for number, next_number in pairwise(numbers):
            left = geometry.horizontal_bounds(spans[next_number])[0]
            if left >= geometry.horizontal_bounds(spans[number])[1] - 0.01:
                limits[number] = min(
                    limits[number], left - ARROW_WIDTH * (next_number in geometry.record.critical_path_numbers)
                )
    return limits


def wait_lines(record: TraceRecord, span: Span) -> Iterator[str]:
    """Yield a line for each wait: its duration, its cause, and the job that ended it. Waits for jobs come last."""
    for wait in sorted(span.waits, key=lambda wait: wait.cause is WaitCause.JOBS):
        release_text = "" if wait.released_by is None else f", until {shorten(record.spans[wait.released_by].path)}"
        yield f"waited {duration_text(wait.seconds)} for {wait.words}{release_text}"


def tooltip_lines(record: TraceRecord, span: Span) -> Iterator[str]:
    """Yield the lines of the tooltip of a job that started."""
    assert span.started_at is not None
    yield shorten(span.path) + (f" (run {span.run})" if span.run > 1 else "")
    yield f"{span.kind}, {span.state.value}{', critical' * span.critical}"
    duration = "still running" if span.elapsed is None else f"took {duration_text(span.elapsed)}"
    yield f"started at {duration_text(span.started_at - record.start_time)}, {duration}"
    yield from wait_lines(record, span)
    if len(span.attempts) > 1:
        yield f"{len(span.attempts)} attempts"
    if span.throttled:
        yield f"throttled {len(span.throttled)} times before" if len(span.throttled) > 1 else "throttled once before"
    if span.exception is not None:
        yield span.exception_text


def draw_critical_path_arrows(svg: Tree.Element, geometry: Geometry) -> set[WaitCause]:
    """Draw an arrow from each job on the critical path to the next job of the same run.

    Bars are drawn later, on top of the arrows.

    Returns:
        The causes of waits that the arrows stand for.

    """
    drawn_links = [
        link
        for link in geometry.record.critical_path_links
        if link.predecessor_number in geometry.boxes
        and _draw_critical_path_arrow(svg, geometry, link, link.predecessor_number)
    ]
    return {link.wait_cause for link in drawn_links if link.wait_cause is not None}


def draw_critical_path_outlines(svg: Tree.Element, geometry: Geometry) -> None:
    """Draw outlines around the bars of jobs on the critical path."""
    for x, y, width, height in _critical_path_outlines(geometry):
        add_element(svg, "rect", css="on-path", x=x, y=y, width=width, height=height, rx=2)


Rectangle = tuple[float, float, float, float]
"""The x, y, width and height of a rectangle."""


def _critical_path_outlines(geometry: Geometry) -> list[Rectangle]:
    """Return the outlines of the bars of jobs on the critical path.

    Adjacent bars share an outline if one of them is too narrow for an outline of its own.
    """
    outlines: list[Rectangle] = []
    for link in geometry.record.critical_path_links:
        attributes = geometry.rectangle_attributes(geometry.record.spans[link.span_number])
        x, y, width, height = attributes["x"], attributes["y"], attributes["width"], attributes["height"]
        if outlines:
            last_x, last_y, last_width, last_height = outlines[-1]
            gap = x - last_x - last_width
            is_adjacent = (last_y, last_height) == (y, height) and abs(gap) < MIN_OUTLINED_WIDTH
            if is_adjacent and min(width, last_width) < MIN_OUTLINED_WIDTH:
                outlines[-1] = last_x, last_y, x + width - last_x, last_height
                continue
        outlines.append((x, y, width, height))
    return outlines


def _draw_critical_path_arrow(
    svg: Tree.Element, geometry: Geometry, link: CriticalPathLink, predecessor_number: int
) -> bool:
    """Draw an arrow between two bars if they are not adjacent in a row. Return whether an arrow was drawn."""
    span = geometry.record.spans[link.span_number]
    assert span.started_at is not None
    start_x = geometry.time_to_x(min(settled_at(geometry.record.spans[predecessor_number]), span.started_at))
    end_x = geometry.time_to_x(span.started_at)
    start_y, end_y = (
        geometry.first_row_middle(geometry.boxes[number]) for number in (predecessor_number, link.span_number)
    )
    if end_x - start_x < 1 and start_y == end_y:
        return False
    corner_x = max(start_x, end_x - min(6.0, (end_x - start_x) / 2))
    css_class = f"chain {'requirement' if link.wait_cause is WaitCause.JOBS else 'slot'}"
    add_element(svg, "path", css=css_class, d=f"M{start_x:.1f} {start_y:.1f}H{corner_x:.1f}V{end_y:.1f}H{end_x:.1f}")
    add_element(svg, "path", css="arrow", d=f"M{end_x:.1f} {end_y:.1f}l-4 -3v6z")
    return True


def draw_ready_marks(svg: Tree.Element, geometry: Geometry) -> None:
    """Mark the times when services became ready."""
    for number, box in geometry.boxes.items():
        ready_at = geometry.record.spans[number].ready_at
        if ready_at is not None:
            add_element(
                svg,
                "path",
                css="ready",
                d=f"M{geometry.time_to_x(ready_at) - 4:.1f} {geometry.vertical_bounds(box)[0]:.1f}h8l-4 6z",
            )


def draw_incidents(svg: Tree.Element, geometry: Any, axis_y: float) -> None:
    """Mark incidents on the axis, whose y coordinate is `axis_y`."""
    for incident in geometry.record.incidents:
        marker = add_element(
            svg,
            "path",
            css="incident",
            d=f"M{geometry.time_to_x(incident.occurred_at):.1f} {axis_y - 5:.1f}l4 5l-4 5l-4 -5z",
        )
        add_element(marker, "title", f"incident: {incident.message}")
