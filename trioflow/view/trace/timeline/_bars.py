"""The bars of a timeline with labels and tooltips, the critical path, and the marks of services and incidents."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import JobState, WaitCause, duration_text, printable, shorten
from ..._state_styles import STATE_STYLES
from .._critical import Link, settled_at
from .._span_builder import TraceRecord
from .._spans import Span
from ._geometry import ROW_HEIGHT, Geometry
from ._svg import add, clip_middle, text_width

MIN_BORDERED_WIDTH: Final = 8.0
"""Pixels below which a bar with a thick border of its own would be all border."""
FONT_SIZE: Final = 11.0
"""The size of labels, in pixels."""
ARROW_WIDTH: Final = 7.0
"""The width of an arrowhead, in pixels."""
FAILED_SYMBOL: Final = STATE_STYLES[JobState.FAILED].symbol
"""The symbol in front of the label of a failed job."""


def draw_bars(svg: Tree.Element, geometry: Geometry, *, are_nested: bool) -> None:
    """Draw the bars of jobs that started, or, if `are_nested`, the boxes of nested schedulers around such jobs."""
    for number, box in geometry.boxes.items():
        if (box.height > 1) is are_nested:
            _draw_bar(svg, geometry, geometry.record.spans[number])


def _css_class(span: Span) -> str:
    return f"{'forever ' * span.forever}{span.state.value}"


def _draw_bar(svg: Tree.Element, geometry: Geometry, span: Span) -> None:
    kind = "nest" if geometry.boxes[span.number].height > 1 else "bar"
    group = add(svg, "g", css="job", data_number=span.number)
    add(group, "title", "\n".join(map(printable, tooltip_lines(geometry.record, span))))
    add(group, "rect", css=f"{kind} {_css_class(span)}", **geometry.rectangle_attributes(span))
    _draw_attempts(group, geometry, span)


def _draw_attempts(group: Tree.Element, geometry: Geometry, span: Span) -> None:
    """Mark the starts of further attempts at the lower edge of the bar, where the marks do not cross the label."""
    y, height = geometry.vertical_bounds(geometry.boxes[span.number])
    end = y + min(height, ROW_HEIGHT - 2)
    top = end - 6
    for x in map(geometry.x, span.attempts[1:]):
        add(group, "line", css="attempt", x1=x, y1=top, x2=x, y2=end)
        add(group, "line", css="attempt-edge", x1=x + 1, y1=top, x2=x + 1, y2=end)


def draw_labels(svg: Tree.Element, geometry: Geometry) -> None:
    """Write the labels of the bars; this comes last, so that no line crosses them out."""
    limits = _label_limits(geometry)
    for number in geometry.boxes:
        _draw_label(svg, geometry, geometry.record.spans[number], limits[number])


def _draw_label(svg: Tree.Element, geometry: Geometry, span: Span, limit: float) -> None:
    """Write the label into the bar, or after it if there is more room up to the x coordinate `limit`."""
    left, right = geometry.horizontal_bounds(span)
    box = geometry.boxes[span.number]
    is_failed, is_nested = span.state is JobState.FAILED, box.height > 1
    symbol, bold = f"{FAILED_SYMBOL} " * is_failed, is_nested or is_failed
    name, short_name = (symbol + text for text in geometry.names[span.number])

    def fitting_text(pixels: float) -> str:
        text = clip_middle(name, pixels, FONT_SIZE, bold)
        if short_name == name or text == printable(name):
            return text
        return clip_middle(short_name, pixels, FONT_SIZE, bold)

    inside = fitting_text(right - left - 7)
    after = "" if is_nested else fitting_text(limit - right - 8)
    top, height = geometry.vertical_bounds(box)
    if len(after) > len(inside):
        x, shown, css = right + 4, after, "label"
        # The label gets a background, because lines of the critical path may cross it.
        ground = "behind within" if span.parent is not None else "behind"
        width = min(text_width(shown, FONT_SIZE, bold), limit - x) + 4
        add(svg, "rect", css=ground, x=x - 2, y=top + 1, width=width, height=height - 2)
    else:
        x, shown, css = left + 4, inside, "label heading" if is_nested else "label on-dark" if is_failed else "label"
    if shown:
        y = top + (ROW_HEIGHT - 2) / 2 + FONT_SIZE * 0.36
        add(svg, "text", shown, css=css, x=x, y=y, font_size=FONT_SIZE, data_number=span.number)


def _label_limits(geometry: Geometry) -> dict[int, float]:
    """Return, for each bar, the x coordinate where its label must end: the next bar or arrow, or the end of its box."""
    spans = geometry.record.spans
    limits: dict[int, float] = {}
    rows: dict[int, list[int]] = {}
    for number, box in geometry.boxes.items():
        parent = spans[number].parent
        limits[number] = geometry.width - 2 if parent is None else geometry.horizontal_bounds(spans[parent])[1]
        for row in range(box.row, box.row + box.height):
            rows.setdefault(row, []).append(number)
    for numbers in rows.values():
        numbers.sort()  # spans are numbered in the order of their starts
        for number, following in pairwise(numbers):
            left = geometry.horizontal_bounds(spans[following])[0]
            if left >= geometry.horizontal_bounds(spans[number])[1] - 0.01:
                limits[number] = min(limits[number], left - ARROW_WIDTH * (following in geometry.record.on_path))
    return limits


def wait_lines(record: TraceRecord, span: Span) -> Iterator[str]:
    """Yield a line for each wait: its duration, its cause, and the job that ended it. Waits for jobs come last."""
    for wait in sorted(span.waits, key=lambda wait: wait.cause is WaitCause.JOBS):
        by = "" if wait.released_by is None else f", until {shorten(record.spans[wait.released_by].path)}"
        yield f"waited {duration_text(wait.seconds)} for {wait.words}{by}"


def tooltip_lines(record: TraceRecord, span: Span) -> Iterator[str]:
    """Yield the lines of the tooltip of a job that started."""
    assert span.started_at is not None
    yield shorten(span.path) + (f" (run {span.run})" if span.run > 1 else "")
    yield f"{span.kind}, {span.state.value}{', critical' * span.critical}"
    end = "still runs" if span.elapsed is None else f"took {duration_text(span.elapsed)}"
    yield f"started at {duration_text(span.started_at - record.began)}, {end}"
    yield from wait_lines(record, span)
    if len(span.attempts) > 1:
        yield f"{len(span.attempts)} attempts"
    if span.throttled:
        yield f"throttled {len(span.throttled)} times before" if len(span.throttled) > 1 else "throttled once before"
    if span.exception is not None:
        yield span.exception_text


def draw_chain(svg: Tree.Element, geometry: Geometry) -> set[WaitCause]:
    """Draw lines from each job on the critical path to the next one of the same run.

    Bars are drawn later, on top of these lines.

    Returns:
        The causes of waits that the lines stand for.

    """
    lines = [
        link
        for link in geometry.record.chain
        if link.after in geometry.boxes and _draw_link(svg, geometry, link, link.after)
    ]
    return {link.reason for link in lines if link.reason is not None}


def draw_borders(svg: Tree.Element, geometry: Geometry) -> None:
    """Draw borders around the jobs on the critical path."""
    for x, y, width, height in _outlines(geometry):
        add(svg, "rect", css="on-path", x=x, y=y, width=width, height=height, rx=2)


Outline = tuple[float, float, float, float]
"""The x, y, width and height of a border."""


def _outlines(geometry: Geometry) -> list[Outline]:
    """Return the borders around the jobs on the critical path; bars too narrow for a border share one with the next."""
    outlines: list[Outline] = []
    for link in geometry.record.chain:
        box = geometry.rectangle_attributes(geometry.record.spans[link.number])
        x, y, width, height = box["x"], box["y"], box["width"], box["height"]
        if outlines:
            last_x, last_y, last_width, last_height = outlines[-1]
            gap = x - last_x - last_width
            is_adjacent = (last_y, last_height) == (y, height) and abs(gap) < MIN_BORDERED_WIDTH
            if is_adjacent and min(width, last_width) < MIN_BORDERED_WIDTH:
                outlines[-1] = last_x, last_y, x + width - last_x, last_height
                continue
        outlines.append((x, y, width, height))
    return outlines


def _draw_link(svg: Tree.Element, geometry: Geometry, link: Link, after: int) -> bool:
    """Draw an arrow between two bars, unless they are adjacent in a row; return whether it was drawn."""
    span = geometry.record.spans[link.number]
    assert span.started_at is not None
    start = geometry.x(min(settled_at(geometry.record.spans[after]), span.started_at))
    end = geometry.x(span.started_at)
    above, below = (geometry.first_row_middle(geometry.boxes[number]) for number in (after, link.number))
    if end - start < 1 and above == below:
        return False
    corner = max(start, end - min(6.0, (end - start) / 2))
    css = f"chain {'requirement' if link.reason is WaitCause.JOBS else 'slot'}"
    add(svg, "path", css=css, d=f"M{start:.1f} {above:.1f}H{corner:.1f}V{below:.1f}H{end:.1f}")
    add(svg, "path", css="arrow", d=f"M{end:.1f} {below:.1f}l-4 -3v6z")
    return True


def draw_ready_marks(svg: Tree.Element, geometry: Geometry) -> None:
    """Mark the times when services became ready."""
    for number, box in geometry.boxes.items():
        ready = geometry.record.spans[number].ready_at
        if ready is not None:
            add(
                svg,
                "path",
                css="ready",
                d=f"M{geometry.x(ready) - 4:.1f} {geometry.vertical_bounds(box)[0]:.1f}h8l-4 6z",
            )


def draw_incidents(svg: Tree.Element, geometry: Any, axis_y: float) -> None:
    """Mark incidents on the axis, whose y coordinate is `axis_y`."""
    for incident in geometry.record.incidents:
        mark = add(svg, "path", css="incident", d=f"M{geometry.x(incident.at):.1f} {axis_y - 5:.1f}l4 5l-4 5l-4 -5z")
        add(mark, "title", f"incident: {incident.message}")
