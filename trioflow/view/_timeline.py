"""A trace as an SVG timeline: the window and how full it was, a bar for each job, the critical path, a legend."""

from __future__ import annotations

from importlib import resources
from typing import Final
from xml.etree import ElementTree as Tree

from ._timeline_bars import MANY, draw_bars
from ._timeline_head import draw_axis, draw_load, draw_title
from ._timeline_legend import legend
from ._timeline_marks import draw_chain, draw_incidents, draw_ready
from ._timeline_paint import add
from ._timeline_places import Places
from ._trace_record import Record

NARROWEST: Final = 300


def svg(record: Record, width: int) -> str:
    """Return the whole picture.

    Raises:
        ValueError: `width` is too small.

    """
    if width < NARROWEST:
        raise ValueError(f"width={width} of a timeline: give {NARROWEST} pixels or more")
    picture = Tree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "timeline"})
    paper = _prepare(picture)
    places = Places(record, width)
    draw_title(picture, places)
    draw_axis(picture, places)
    if places.boxes:
        draw_load(picture, places, record.roots[-1])
    draw_bars(picture, places)
    draw_chain(picture, places)
    draw_ready(picture, places)
    draw_incidents(picture, places)
    height = legend(picture, record, places.bottom + 24, places.width, max(len(places.boxes) - MANY, 0))
    paper.set("height", f"{height:g}")
    picture.attrib |= {"width": f"{width}", "height": f"{height:g}", "viewBox": f"0 0 {width} {height:g}"}
    return Tree.tostring(picture, encoding="unicode") + "\n"


def style() -> str:
    """Return the style sheet that a timeline is drawn with."""
    return (resources.files("trioflow.view") / "report" / "timeline.css").read_text(encoding="utf-8")


def _prepare(picture: Tree.Element) -> Tree.Element:
    """Add the style sheet, the hatching, and the paper, whose height is to be set; return that."""
    definitions = add(picture, "defs")
    add(definitions, "style").text = style()
    size = {"width": 6, "height": 6}
    hatch = add(definitions, "pattern", id="trioflow-hatch", patternUnits="userSpaceOnUse", **size)
    hatch.set("patternTransform", "rotate(45)")
    add(hatch, "rect", css="hatched", **size)
    add(hatch, "line", css="hatching", x1=1, y1=0, x2=1, y2=6)
    return add(picture, "rect", css="paper", width="100%", height=0)
