"""What a timeline has over its bars: the critical path, services that became ready, incidents."""

from __future__ import annotations

from xml.etree import ElementTree as Tree

from ._timeline_bars import MANY
from ._timeline_paint import add
from ._timeline_places import HEAD, Places
from ._trace_critical import Link, settled_at


def draw_chain(svg: Tree.Element, places: Places) -> None:
    """Put a border around the jobs of the critical path, and lead from each to the next one of the same run."""
    chain = places.record.chain
    if len(chain) > MANY:
        return  # nothing would be left of the bars
    for link in chain:
        add(svg, "rect", css="on-path", **places.rectangle(places.record.spans[link.number]))
    for link in chain:
        if link.after in places.boxes:
            _draw_link(svg, places, link, link.after)


def _draw_link(svg: Tree.Element, places: Places, link: Link, after: int) -> None:
    """Draw a line with an arrow, unless the one bar stands right behind the other."""
    span = places.record.spans[link.number]
    assert span.started_at is not None
    start = places.x(min(settled_at(places.record.spans[after]), span.started_at))
    end = places.x(span.started_at)
    above, below = (places.middle(places.boxes[number]) for number in (after, link.number))
    if end - start < 1 and above == below:
        return
    corner = max(start, end - min(6.0, (end - start) / 2))
    add(svg, "path", css=f"chain {link.reason}", d=f"M{start:.1f} {above:.1f}H{corner:.1f}V{below:.1f}H{end:.1f}")
    add(svg, "path", css="arrow", d=f"M{end:.1f} {below:.1f}l-4 -3v6z")


def draw_ready(svg: Tree.Element, places: Places) -> None:
    """Mark when services became ready."""
    for number, box in places.boxes.items():
        ready = places.record.spans[number].ready_at
        if ready is not None and places.pitch >= 7:
            add(svg, "path", css="ready", d=f"M{places.x(ready) - 4:.1f} {places.rows(box)[0]:.1f}h8l-4 6z")


def draw_incidents(svg: Tree.Element, places: Places) -> None:
    """Mark incidents on the line of the axis."""
    for incident in places.record.incidents:
        mark = add(svg, "path", css="incident", d=f"M{places.x(incident.at):.1f} {HEAD - 9:.1f}l4 5l-4 5l-4 -5z")
        add(mark, "title", f"incident: {incident.message}")
