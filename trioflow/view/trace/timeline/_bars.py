"""The bars of a timeline with labels and tooltips, and the marks of critical path, services and incidents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import JobState, WaitCause, duration_text, printable, shortened
from ..._state_styles import STATE_STYLES
from .._critical import Link, settled_at
from .._span_builder import TraceRecord
from .._spans import Span
from ._geometry import PITCH, Geometry
from ._svg import add, clipped_name, text_width

NARROW: Final = 8.0
"""Pixels below which a bar would be all border."""
FONT: Final = 11.0
"""Pixels."""
ARROW: Final = 7.0
"""Pixels of an arrow before its bar."""
FAILED: Final = STATE_STYLES[JobState.FAILED].symbol
"""The symbol of a failure, before its label."""


def draw_bars(svg: Tree.Element, places: Geometry, *, are_nests: bool) -> None:
    """Draw a bar for each job that started, or for each nested scheduler with jobs in it."""
    for number, box in places.boxes.items():
        if (box.height > 1) is are_nests:
            _draw_bar(svg, places, places.record.spans[number])


def _style(span: Span) -> str:
    return f"{'forever ' * span.forever}{span.state.value}"


def _draw_bar(svg: Tree.Element, places: Geometry, span: Span) -> None:
    kind = "nest" if places.boxes[span.number].height > 1 else "bar"
    group = add(svg, "g", css="job", data_number=span.number)
    add(group, "title", "\n".join(map(printable, details(places.record, span))))
    add(group, "rect", css=f"{kind} {_style(span)}", **places.rectangle(span))
    _draw_attempts(group, places, span)


def _draw_attempts(group: Tree.Element, places: Geometry, span: Span) -> None:
    """Mark where further attempts began; at the lower edge, so that the mark does not cross the label."""
    y, height = places.rows(places.boxes[span.number])
    end = y + min(height, PITCH - 2)
    top = end - 6
    for x in map(places.x, span.attempts[1:]):
        add(group, "line", css="attempt", x1=x, y1=top, x2=x, y2=end)
        add(group, "line", css="attempt-edge", x1=x + 1, y1=top, x2=x + 1, y2=end)


def draw_labels(svg: Tree.Element, places: Geometry) -> None:
    """Write the labels of the bars; last, so that no line crosses them out."""
    room = _ends_of_room(places)
    for number in places.boxes:
        _draw_label(svg, places, places.record.spans[number], room[number])


def _draw_label(svg: Tree.Element, places: Geometry, span: Span, room_until: float) -> None:
    """Write the label into the bar, or after it if there is more room."""
    left, right = places.bounds(span)
    box = places.boxes[span.number]
    failed, nested = span.state is JobState.FAILED, box.height > 1
    symbol, bold = f"{FAILED} " * failed, nested or failed
    name, enough = (symbol + text for text in places.names[span.number])

    def fitted(pixels: float) -> str:
        whole = clipped_name(name, pixels, FONT, bold)
        return whole if enough == name or whole == printable(name) else clipped_name(enough, pixels, FONT, bold)

    inside = fitted(right - left - 7)
    after = "" if nested else fitted(room_until - right - 8)
    top, height = places.rows(box)
    if len(after) > len(inside):
        x, shown, css = right + 4, after, "label"
        # On a background, because lines of the critical path may cross it.
        ground = "behind within" if span.parent is not None else "behind"
        width = min(text_width(shown, FONT, bold), room_until - x) + 4
        add(svg, "rect", css=ground, x=x - 2, y=top + 1, width=width, height=height - 2)
    else:
        x, shown, css = left + 4, inside, "label heading" if nested else "label on-dark" if failed else "label"
    if shown:
        y = top + (PITCH - 2) / 2 + FONT * 0.36
        add(svg, "text", shown, css=css, x=x, y=y, font_size=FONT, data_number=span.number)


def _ends_of_room(places: Geometry) -> dict[int, float]:
    """Return the right limit of each bar's label: the next bar or arrow in its row, or the end of its box."""
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
        for number, following in pairwise(numbers):
            left = places.bounds(spans[following])[0]
            if left >= places.bounds(spans[number])[1] - 0.01:
                found[number] = min(found[number], left - ARROW * (following in places.record.on_path))
    return found


def waits_in_words(record: TraceRecord, span: Span) -> Iterator[str]:
    """Yield the duration, the cause and the ending job of each wait; requirements come last."""
    for wait in sorted(span.waits, key=lambda wait: wait.cause is WaitCause.JOBS):
        by = "" if wait.released_by is None else f", until {shortened(record.spans[wait.released_by].path)}"
        yield f"waited {duration_text(wait.seconds)} for {wait.words}{by}"


def details(record: TraceRecord, span: Span) -> Iterator[str]:
    """Yield the lines of a tooltip."""
    assert span.started_at is not None
    yield shortened(span.path) + (f" (run {span.run})" if span.run > 1 else "")
    yield f"{span.kind}, {span.state.value}{', critical' * span.critical}"
    end = "still runs" if span.elapsed is None else f"took {duration_text(span.elapsed)}"
    yield f"started at {duration_text(span.started_at - record.began)}, {end}"
    yield from waits_in_words(record, span)
    if len(span.attempts) > 1:
        yield f"{len(span.attempts)} attempts"
    if span.throttled:
        yield f"throttled {len(span.throttled)} times before" if len(span.throttled) > 1 else "throttled once before"
    if span.exception is not None:
        yield span.exception_text


def draw_chain(svg: Tree.Element, places: Geometry) -> set[str]:
    """Draw lines from each job on the critical path to the next one of the same run, and return the reasons they show.

    Bars are drawn after them, so that no line crosses out a bar's text.
    """
    lines = [
        link for link in places.record.chain if link.after in places.boxes and _draw_link(svg, places, link, link.after)
    ]
    return {link.reason for link in lines if link.reason is not None}


def draw_borders(svg: Tree.Element, places: Geometry) -> set[str]:
    """Draw borders around the jobs on the critical path, and return "path" if there are any."""
    for x, y, width, height in _outlines(places, places.record.chain):
        add(svg, "rect", css="on-path", x=x, y=y, width=width, height=height, rx=2)
    return {"path"} if places.record.chain else set()


Outline = tuple[float, float, float, float]
"""x, y, width, height."""


def _outlines(places: Geometry, chain: Iterable[Link]) -> list[Outline]:
    """Return the borders around the jobs of a chain; adjacent bars too narrow for their own share one."""
    found: list[Outline] = []
    for link in chain:
        box = places.rectangle(places.record.spans[link.number])
        x, y, width, height = box["x"], box["y"], box["width"], box["height"]
        if found:
            left, top, wide, high = found[-1]
            gap = x - left - wide
            if (top, high) == (y, height) and abs(gap) < NARROW and (width < NARROW or wide < NARROW):
                found[-1] = left, top, x + width - left, high
                continue
        found.append((x, y, width, height))
    return found


def _draw_link(svg: Tree.Element, places: Geometry, link: Link, after: int) -> bool:
    """Draw an arrow between two bars unless they are adjacent; return whether it was drawn."""
    span = places.record.spans[link.number]
    assert span.started_at is not None
    start = places.x(min(settled_at(places.record.spans[after]), span.started_at))
    end = places.x(span.started_at)
    above, below = (places.middle(places.boxes[number]) for number in (after, link.number))
    if end - start < 1 and above == below:
        return False
    corner = max(start, end - min(6.0, (end - start) / 2))
    css = f"chain {'requirement' if link.reason is WaitCause.JOBS else 'slot'}"
    add(svg, "path", css=css, d=f"M{start:.1f} {above:.1f}H{corner:.1f}V{below:.1f}H{end:.1f}")
    add(svg, "path", css="arrow", d=f"M{end:.1f} {below:.1f}l-4 -3v6z")
    return True


def draw_ready(svg: Tree.Element, places: Geometry) -> None:
    """Mark when services became ready."""
    for number, box in places.boxes.items():
        ready = places.record.spans[number].ready_at
        if ready is not None:
            add(svg, "path", css="ready", d=f"M{places.x(ready) - 4:.1f} {places.rows(box)[0]:.1f}h8l-4 6z")


def draw_incidents(svg: Tree.Element, places: Any, head: float) -> None:
    """Mark incidents on the line of the axis."""
    for incident in places.record.incidents:
        mark = add(svg, "path", css="incident", d=f"M{places.x(incident.at):.1f} {head - 5:.1f}l4 5l-4 5l-4 -5z")
        add(mark, "title", f"incident: {incident.message}")
