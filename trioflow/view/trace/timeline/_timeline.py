"""A trace as an SVG timeline: title, axis, a bar for each job, the critical path, the use of resources, a legend."""

from __future__ import annotations

import math
from importlib import resources
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import shown, whole
from .._resource_use import count_overlaps
from .._slots import slot_use
from .._span_builder import TraceRecord
from .._spans import RunSpan
from . import _slot_rows
from ._bars import draw_bars, draw_borders, draw_chain, draw_incidents, draw_labels, draw_ready
from ._gaps import draw_gaps
from ._geometry import LOAD_HEIGHT, MARGIN, Geometry
from ._slot_rows import SlotPlaces
from ._svg import add, add_hatching, clipped, finished, in_lines, text_width
from ._timeline_legend import draw_notes, legend

MAX_BOXES: Final = 60
"""Number of jobs above which there are no nested boxes: their labels would be unreadable."""
NARROWEST: Final = 300
WIDEST: Final = 1_000_000
"""The largest width in pixels that browsers show."""


def svg(record: TraceRecord, width: int, has_title: bool = True) -> str:
    """Return the whole picture: up to 60 jobs with the boxes of nested schedulers; with more jobs, a row for each slot.

    Raises:
        ValueError: `width` is too small.

    """
    if not NARROWEST <= (whole(width, "width", "a timeline") or 0) <= WIDEST:
        raise ValueError(f"width={shown(width)} of a timeline: give {NARROWEST} to {WIDEST} pixels")
    picture = prepared("timeline")
    top = draw_title(picture, record, width) if has_title else 0.0
    if sum(span.started_at is not None for span in record.leaves) > MAX_BOXES:
        height = _draw_slots(picture, record, float(width), top)
    else:
        height = _draw_boxes(picture, Geometry(record, width, top))
    return finished(picture, width, height)


def _draw_slots(picture: Tree.Element, record: TraceRecord, width: float, top: float) -> float:
    """Draw a row for each slot; return the lower edge."""
    places = SlotPlaces(record, width, top + 26)
    lines = add(picture, "g")
    bottom = _slot_rows.draw(picture, picture[0], places)
    draw_axis(lines, picture, places, places.left, top + 20)
    draw_incidents(picture, places, top + 20)
    return draw_notes(picture, record, bottom, width)


def _draw_boxes(picture: Tree.Element, places: Geometry) -> float:
    """Draw the boxes of nested schedulers, with their jobs inside; return the lower edge."""
    record = places.record
    draw_axis(picture, picture, places, MARGIN, places.head)
    if places.boxes:
        draw_load(picture, places, record.roots[-1])
    draw_bars(picture, places, are_nests=True)
    reasons = draw_gaps(picture, picture[0], places)
    lines = draw_chain(picture, places)
    draw_bars(picture, places, are_nests=False)
    lines |= draw_borders(picture, places)
    draw_ready(picture, places)
    draw_incidents(picture, places, places.head)
    draw_labels(picture, places)
    bottom = _slot_rows.draw_strips(picture, record, places.x, MARGIN, places.width, places.bottom + 8)
    return legend(picture, record, bottom + 16, places.width, lines, reasons)


def style() -> str:
    """Return the style sheet of a timeline."""
    return (resources.files("trioflow.view.trace.report") / "timeline.css").read_text(encoding="utf-8")


def prepared(css: str, more: str = "") -> Tree.Element:
    """Return a picture with style sheet, hatching and background, whose size is not set yet.

    Args:
        css: the class of the picture.
        more: additional rules of the style sheet.

    """
    picture = Tree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": css})
    definitions = add(picture, "defs")
    add(definitions, "style").text = style() + more
    add_hatching(definitions, "hatch", "hatched", "hatching", 1)
    add(picture, "rect", css="paper", width="100%", height="100%")
    return picture


SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3600.0, 86400.0
UNITS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
STEPS: Final = (
    *(mantissa * 10.0**power for power in range(-9, 0) for mantissa in (1, 2, 5)),
    *(SECOND * number for number in (1, 2, 5, 10, 15, 30)),
    *(MINUTE * number for number in (1, 2, 5, 10, 15, 30)),
    *(HOUR * number for number in (1, 2, 3, 6, 12)),
    *(DAY * number for number in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
)
"""Round distances between two ticks, in seconds."""
TICK_PIXELS: Final = 110
"""The least distance between two ticks."""
FULL: Final = 0.86
"""The share of the height for the highest load."""


def draw_title(svg: Tree.Element, record: TraceRecord, width: float) -> float:
    """Write the label, the verdict, and the use of the slots; return the lower edge."""
    inner = width - 2 * MARGIN
    roots = record.roots
    name = ", ".join(dict.fromkeys(run.label for run in roots)) or "nothing has run"
    add(svg, "text", clipped(name, inner, 15, bold=True), css="title", x=MARGIN, y=24.0)
    if not roots:
        return 30.0
    said = dict.fromkeys(record.verdict(run, run.reason).words for run in roots)
    lines = [*in_lines("; ".join(said), inner, 11), *in_lines(str(slot_use(record)), inner, 11)]
    for place, line in enumerate(lines):
        add(svg, "text", line, css="subtitle", x=MARGIN, y=41.0 + 14 * place)
    return 41.0 + 14 * len(lines) - 10


def draw_axis(lines: Tree.Element, svg: Tree.Element, places: Geometry | SlotPlaces, left: float, top: float) -> None:
    """Draw the ticks, each with a line through all rows."""
    for at, text in ticks(places.seconds, max(2, int((places.width - left) / TICK_PIXELS))):
        x = places.x(places.began + at)
        add(lines, "line", css="grid", x1=x, y1=top, x2=x, y2=places.bottom)
        if x + text_width(text, 11) / 2 <= places.width:
            anchor = "start" if at == 0 else "middle"
            add(svg, "text", text, css="tick", x=x, y=top - 3, text_anchor=anchor)
    _draw_across(lines, places.width, "frame", top, left)


def ticks(end: float, most: int) -> list[tuple[float, str]]:
    """Return the ticks of an axis from 0 to `end` seconds, with their texts: the first, and at most `most` others."""
    if end <= 0:
        return [(0.0, "0 s")]
    step = next((step for step in STEPS if end / step <= most), STEPS[-1] * math.ceil(end / STEPS[-1] / most))
    number = int(end / step * (1 + 1e-12))
    return [(step * place, _tick_text(step * place, step, step * number)) for place in range(number + 1)]


def _tick_text(at: float, step: float, last: float) -> str:
    """Return the text of a tick, as exact as the steps require; below a minute all ticks have the same unit."""
    if at == 0:
        return "0"
    if step >= DAY:
        return f"{round(at / DAY)} d"
    if at >= MINUTE:
        return _clock(at, step)
    unit, name = next(((unit, name) for unit, name in UNITS if last >= unit * 0.9999999), UNITS[-1])
    places = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    return f"{at / unit:.{places}f} {name}"


def _clock(at: float, step: float) -> str:
    """Return days, hours, minutes and the rest, down to the unit of the steps."""
    days, rest = divmod(at + step * 1e-6, DAY)
    hours, rest = divmod(rest, HOUR)
    minutes, seconds = divmod(rest, MINUTE)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    shown = [f"{int(number)} {name}" for number, name in parts if number]
    if step < SECOND:
        shown.append(f"{seconds:.{-math.floor(math.log10(step) + 1e-9)}f} s")
    elif int(seconds):
        shown.append(f"{int(seconds)} s")
    return " ".join(shown)


def draw_load(svg: Tree.Element, places: Geometry, run: RunSpan) -> None:
    """Draw the number of running jobs over time, and the window of the run.

    Jobs in nested schedulers are counted, not the schedulers themselves, which take the slots of the window; the number
    may then exceed the window.
    """
    record = places.record
    spans = (span for span in record.leaves if span.started_at is not None and not span.forever)
    times, numbers = count_overlaps(
        (span.started_at or 0.0, record.now if span.finished_at is None else span.finished_at) for span in spans
    )
    most = max(numbers, default=0)
    window = None if record.nested else run.window
    has_line = window is not None and window <= 4 * most  # an outlier would flatten the rest
    base = places.head + 4 + LOAD_HEIGHT
    unit = LOAD_HEIGHT * FULL / max(most, (window or 0) if has_line else 0, 1)
    path = "".join(f"H{places.x(at):.1f}V{base - number * unit:.1f}" for at, number in zip(times, numbers, strict=True))
    add(svg, "path", css="load", d=f"M{MARGIN} {base:.1f}{path}V{base:.1f}Z")
    _draw_across(svg, places.width, "frame", base)
    if has_line:
        _draw_across(svg, places.width, "window", base - (window or 0) * unit)
    text = f"running, at most {most}" + (f" of window {window}" if window is not None else "")
    add(svg, "text", text, css="note", x=MARGIN + 4, y=base - 5)


def _draw_across(svg: Tree.Element, width: float, css: str, y: float, left: float = MARGIN) -> None:
    add(svg, "line", css=css, x1=left, y1=y, x2=width - MARGIN, y2=y)
