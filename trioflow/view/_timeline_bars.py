"""The bars of a timeline, with their labels and tips."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import pairwise
from typing import Final
from xml.etree import ElementTree as Tree

from .._core import _labels
from .._core._states import JobState
from ._script import UNICODE
from ._timeline_paint import add, clipped
from ._timeline_places import Places
from ._trace_spans import Span
from ._trace_units import duration

MANY: Final = 2000
"""So many bars at most, the widest, are elements of their own; a browser has trouble with tens of thousands."""
FAILED: Final = UNICODE.marks[JobState.FAILED]
"""The sign of a failure, before its label."""


def draw_bars(svg: Tree.Element, places: Places) -> None:
    """Draw a bar for each job that started."""
    room = _ends_of_room(places)
    alone = _drawn_alone(places)
    together: dict[str, list[str]] = {}
    for number in places.boxes:
        span = places.record.spans[number]
        if number in alone:
            _draw_bar(svg, places, span, room[number])
        else:
            css, path = _narrow_bar(places, span)
            together.setdefault(css, []).append(path)
    for css, paths in together.items():
        add(svg, "path", css=css, d="".join(paths))


def _drawn_alone(places: Places) -> set[int]:
    """Return the jobs that have a bar with a label and a tip: all, or those that count most, and the widest."""
    if len(places.boxes) <= MANY:
        return set(places.boxes)
    marked = {link.number for link in places.record.chain}

    def weight(number: int) -> tuple[bool, bool, float]:
        span = places.record.spans[number]
        left, right = places.bounds(span)
        return places.boxes[number].height > 1 or number in marked, span.state is JobState.FAILED, right - left

    return set(heapq.nlargest(MANY, places.boxes, key=weight))


def _style(span: Span) -> str:
    return f"{'forever ' * span.forever}{span.state.value}"


def _narrow_bar(places: Places, span: Span) -> tuple[str, str]:
    """Return style and outline of a bar that is drawn together with others."""
    left, right = places.bounds(span)
    y, height = places.rows(places.boxes[span.number])
    outlined = "bar " * (right - left >= 3)  # else the line between two would be all there is
    return outlined + _style(span), f"M{left:.1f} {y:.1f}h{max(right - left, 0.3):.1f}v{height:.1f}H{left:.1f}z"


def _draw_bar(svg: Tree.Element, places: Places, span: Span, room_until: float) -> None:
    kind = "nest" if places.boxes[span.number].height > 1 else "bar"
    group = add(svg, "g", css="job", data_number=span.number)
    add(group, "title", "\n".join(map(_labels.printable, _details(span, places.began))))
    add(group, "rect", css=f"{kind} {_style(span)}", **places.rectangle(span))
    _draw_attempts(group, places, span)
    if places.has_labels:
        _draw_label(group, places, span, room_until)


def _draw_attempts(group: Tree.Element, places: Places, span: Span) -> None:
    """Mark where further attempts began; at the lower edge, lest the mark cross the label."""
    y, height = places.rows(places.boxes[span.number])
    end = y + min(height, places.pitch - 2)
    top = end - 6 if places.has_labels else y
    for x in map(places.x, span.attempts[1:]):
        add(group, "line", css="attempt", x1=x, y1=top, x2=x, y2=end)
        add(group, "line", css="attempt-edge", x1=x + 1, y1=top, x2=x + 1, y2=end)


def _draw_label(group: Tree.Element, places: Places, span: Span, room_until: float) -> None:
    """Write the label into the bar, or behind it where there is more room."""
    left, right = places.bounds(span)
    box = places.boxes[span.number]
    failed, nested = span.state is JobState.FAILED, box.height > 1
    text, bold = f"{FAILED} " * failed + span.label, nested or failed
    inside = clipped(text, right - left - 7, places.font, bold)
    behind = "" if nested else clipped(text, room_until - right - 8, places.font, bold)
    if len(behind) > len(inside):
        x, shown, css = right + 4, behind, "label"
    else:
        x, shown, css = left + 4, inside, "label heading" if nested else "label on-dark" if failed else "label"
    if shown:
        y = places.rows(box)[0] + (places.pitch - 2) / 2 + places.font * 0.36
        add(group, "text", shown, css=css, x=x, y=y, font_size=places.font)


def _ends_of_room(places: Places) -> dict[int, float]:
    """Return up to where the label of each bar may reach: to the next bar of its row, or the end of its box."""
    spans = places.record.spans
    found: dict[int, float] = {}
    rows: dict[int, list[int]] = {}
    for number, box in places.boxes.items():
        parent = spans[number].parent
        found[number] = places.width - 2 if parent is None else places.bounds(spans[parent])[1]
        for row in range(box.row, box.row + box.height):
            rows.setdefault(row, []).append(number)
    for numbers in rows.values():
        numbers.sort(key=lambda number: places.bounds(spans[number])[0])
        for one, following in pairwise(numbers):
            left = places.bounds(spans[following])[0]
            if left >= places.bounds(spans[one])[1] - 0.01:
                found[one] = min(found[one], left)
    return found


def _details(span: Span, began: float) -> Iterator[str]:
    """Yield the lines of a tip."""
    assert span.started_at is not None
    yield span.path + (f" (run {span.run})" if span.run > 1 else "")
    yield f"{span.kind}, {span.state.value}{', critical' * span.critical}"
    end = "still runs" if span.elapsed is None else f"took {duration(span.elapsed)}"
    yield f"started at {duration(span.started_at - began)}, {end}"
    if span.waited:
        yield f"had waited {duration(span.waited)} since it could"
    if len(span.attempts) > 1:
        yield f"{len(span.attempts)} attempts"
    if span.exception is not None:
        yield span.exception_text
