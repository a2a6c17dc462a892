"""The timeline of a trace as an SVG picture: title, axis, bars, critical path, use of resources, and legend."""

from __future__ import annotations

import math
from importlib import resources
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import short_repr, whole_number
from .._resource_use import count_overlaps
from .._slots import slot_use
from .._span_builder import TraceRecord
from .._spans import RunSpan
from . import _slot_rows
from ._bars import draw_bars, draw_borders, draw_chain, draw_incidents, draw_labels, draw_ready_marks
from ._gaps import draw_waits
from ._geometry import LOAD_HEIGHT, MARGIN, Geometry
from ._slot_rows import SlotGeometry
from ._svg import add, add_hatching, clip, text_width, to_text, wrap
from ._timeline_legend import draw_legend, draw_notes

MAX_BOXES: Final = 60
"""The number of jobs above which rows are slots instead of nested boxes, whose labels would be unreadable."""
MIN_WIDTH: Final = 300
MAX_WIDTH: Final = 1_000_000
"""The largest width in pixels that browsers show."""


def timeline_svg(record: TraceRecord, width: int, has_title: bool = True) -> str:
    """Draw the timeline of a record: with boxes for nested schedulers, or, above `MAX_BOXES` jobs, a row for each slot.

    Raises:
        ValueError: `width` is out of range.

    """
    if not MIN_WIDTH <= (whole_number(width, "width", "a timeline") or 0) <= MAX_WIDTH:
        raise ValueError(f"width={short_repr(width)} of a timeline: give {MIN_WIDTH} to {MAX_WIDTH} pixels")
    picture = new_picture("timeline")
    top = draw_title(picture, record, width) if has_title else 0.0
    if sum(span.started_at is not None for span in record.leaves) > MAX_BOXES:
        height = _draw_slots(picture, record, float(width), top)
    else:
        height = _draw_boxes(picture, Geometry(record, width, top))
    return to_text(picture, width, height)


def _draw_slots(picture: Tree.Element, record: TraceRecord, width: float, top: float) -> float:
    """Draw a row for each slot, and the legend; return the lower edge."""
    geometry = SlotGeometry(record, width, top + 26)
    lines = add(picture, "g")
    bottom = _slot_rows.draw_slots(picture, picture[0], geometry)
    draw_axis(lines, picture, geometry, geometry.left, top + 20)
    draw_incidents(picture, geometry, top + 20)
    return draw_notes(picture, record, bottom, width)


def _draw_boxes(picture: Tree.Element, geometry: Geometry) -> float:
    """Draw a bar for each job, nested schedulers as boxes around their jobs, and the legend; return the lower edge."""
    record = geometry.record
    draw_axis(picture, picture, geometry, MARGIN, geometry.axis_y)
    if geometry.boxes:
        draw_load(picture, geometry, record.roots[-1])
    draw_bars(picture, geometry, are_nested=True)
    patterns = draw_waits(picture, picture[0], geometry)
    reasons = draw_chain(picture, geometry)
    draw_bars(picture, geometry, are_nested=False)
    draw_borders(picture, geometry)
    draw_ready_marks(picture, geometry)
    draw_incidents(picture, geometry, geometry.axis_y)
    draw_labels(picture, geometry)
    bottom = _slot_rows.draw_resources(picture, record, geometry.x, MARGIN, geometry.width, geometry.bottom + 8)
    return draw_legend(picture, record, bottom + 16, geometry.width, reasons, patterns)


def style_sheet() -> str:
    """Return the style sheet of timelines."""
    return (resources.files("trioflow.view.trace.report") / "timeline.css").read_text(encoding="utf-8")


def new_picture(css_class: str, more_rules: str = "") -> Tree.Element:
    """Return a picture with style sheet, hatching and background; `to_text` sets its size later.

    Args:
        css_class: the CSS class of the picture.
        more_rules: rules to append to the style sheet.

    """
    picture = Tree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": css_class})
    definitions = add(picture, "defs")
    add(definitions, "style").text = style_sheet() + more_rules
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
"""Round numbers of seconds between two ticks, in ascending order."""
MIN_TICK_DISTANCE: Final = 110
"""Pixels between two ticks, at least."""
LOAD_SHARE: Final = 0.86
"""The share of the available height that the highest load takes."""


def draw_title(svg: Tree.Element, record: TraceRecord, width: float) -> float:
    """Write the label, the verdict, and the use of the slots; return the lower edge."""
    inner_width = width - 2 * MARGIN
    roots = record.roots
    name = ", ".join(dict.fromkeys(run.label for run in roots)) or "nothing has run"
    add(svg, "text", clip(name, inner_width, 15, bold=True), css="title", x=MARGIN, y=24.0)
    if not roots:
        return 30.0
    verdicts = dict.fromkeys(record.verdict(run, run.reason).words for run in roots)
    lines = [*wrap("; ".join(verdicts), inner_width, 11), *wrap(str(slot_use(record)), inner_width, 11)]
    for number, line in enumerate(lines):
        add(svg, "text", line, css="subtitle", x=MARGIN, y=41.0 + 14 * number)
    return 41.0 + 14 * len(lines) - 10


def draw_axis(
    lines: Tree.Element, svg: Tree.Element, geometry: Geometry | SlotGeometry, left: float, top: float
) -> None:
    """Draw the axis of times, with a line through all rows at each tick."""
    for at, text in ticks(geometry.seconds, max(2, int((geometry.width - left) / MIN_TICK_DISTANCE))):
        x = geometry.x(geometry.began + at)
        add(lines, "line", css="grid", x1=x, y1=top, x2=x, y2=geometry.bottom)
        if x + text_width(text, 11) / 2 <= geometry.width:
            anchor = "start" if at == 0 else "middle"
            add(svg, "text", text, css="tick", x=x, y=top - 3, text_anchor=anchor)
    _draw_horizontal(lines, geometry.width, "frame", top, left)


def ticks(end: float, most: int) -> list[tuple[float, str]]:
    """Return the times and texts of the ticks on an axis from 0 to `end` seconds: 0, and at most `most` others."""
    if end <= 0:
        return [(0.0, "0 s")]
    step = next((step for step in STEPS if end / step <= most), STEPS[-1] * math.ceil(end / STEPS[-1] / most))
    last = int(end / step * (1 + 1e-12))
    return [(step * number, _tick_text(step * number, step, step * last)) for number in range(last + 1)]


def _tick_text(at: float, step: float, last: float) -> str:
    """Return the text of a tick, as precise as `step` requires; below a minute, all ticks have the unit of `last`."""
    if at == 0:
        return "0"
    if step >= DAY:
        return f"{round(at / DAY)} d"
    if at >= MINUTE:
        return _clock_text(at, step)
    unit, name = next(((unit, name) for unit, name in UNITS if last >= unit * 0.9999999), UNITS[-1])
    decimals = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    return f"{at / unit:.{decimals}f} {name}"


def _clock_text(at: float, step: float) -> str:
    """Return a time as days, hours, minutes and seconds, with the precision that `step` requires."""
    days, remainder = divmod(at + step * 1e-6, DAY)
    hours, remainder = divmod(remainder, HOUR)
    minutes, seconds = divmod(remainder, MINUTE)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    shown = [f"{int(number)} {name}" for number, name in parts if number]
    if step < SECOND:
        shown.append(f"{seconds:.{-math.floor(math.log10(step) + 1e-9)}f} s")
    elif int(seconds):
        shown.append(f"{int(seconds)} s")
    return " ".join(shown)


def draw_load(svg: Tree.Element, geometry: Geometry, run: RunSpan) -> None:
    """Draw the number of running jobs over time, with a line for the size of the window.

    The jobs in nested schedulers count, instead of the schedulers, which take the slots of the window. Their number can
    exceed the window, so there is no line then.
    """
    record = geometry.record
    spans = (span for span in record.leaves if span.started_at is not None and not span.forever)
    times, numbers = count_overlaps(
        (span.started_at or 0.0, record.now if span.finished_at is None else span.finished_at) for span in spans
    )
    most = max(numbers, default=0)
    window = None if record.nested else run.window
    has_line = window is not None and window <= 4 * most  # the line of a larger window would flatten the curve
    base = geometry.axis_y + 4 + LOAD_HEIGHT
    unit = LOAD_HEIGHT * LOAD_SHARE / max(most, (window or 0) if has_line else 0, 1)
    path = "".join(
        f"H{geometry.x(at):.1f}V{base - number * unit:.1f}" for at, number in zip(times, numbers, strict=True)
    )
    add(svg, "path", css="load", d=f"M{MARGIN} {base:.1f}{path}V{base:.1f}Z")
    _draw_horizontal(svg, geometry.width, "frame", base)
    if has_line:
        _draw_horizontal(svg, geometry.width, "window", base - (window or 0) * unit)
    text = f"running, at most {most}" + (f" of window {window}" if window is not None else "")
    add(svg, "text", text, css="note", x=MARGIN + 4, y=base - 5)


def _draw_horizontal(svg: Tree.Element, width: float, css: str, y: float, left: float = MARGIN) -> None:
    add(svg, "line", css=css, x1=left, y1=y, x2=width - MARGIN, y2=y)
