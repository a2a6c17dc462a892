"""The timeline of a trace as an SVG picture: the title and the axis around the rows, and notes on jobs without bars."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib import resources
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.base._text_forms import duration_text
from ...._core.job._labels import shorten
from ..._state_styles import NEVER_STARTED_STATES
from ...text import _verdict
from .._spans import Span
from .._time_spent import compute_slot_use
from .._trace_record import TraceRecord
from . import _slot_rows
from ._slot_rows import MARGIN, SlotGeometry, add_element, clip_text, text_width

NOTE_HEIGHT: Final = 18.0
MAX_NAMED_JOBS: Final = 30


def timeline_svg(record: TraceRecord, width: int, has_title: bool = True) -> str:
    """Draw the timeline of a record, `width` pixels wide, and return it as SVG."""
    picture = _new_picture()
    top = draw_title(picture, record, width) if has_title else 0.0
    geometry = SlotGeometry(record, float(width), top + 26)
    line_group = add_element(picture, "g")
    bottom = _slot_rows.draw_slots(picture, geometry)
    draw_axis(line_group, picture, geometry, geometry.left, top + 20)
    draw_incidents(picture, geometry, top + 20)
    height = draw_notes(picture, record, bottom, float(width))
    picture.attrib |= {"width": f"{width}", "height": f"{height:g}", "viewBox": f"0 0 {width} {height:g}"}
    return Tree.tostring(picture, encoding="unicode") + "\n"


def read_style_sheet() -> str:
    return (resources.files("trioflow.view.trace.report") / "timeline.css").read_text(encoding="utf-8")


def _new_picture() -> Tree.Element:
    """Return an empty picture with a style sheet, a hatch pattern and a background. It has no size yet."""
    picture = Tree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "timeline"})
    definitions = add_element(picture, "defs")
    add_element(definitions, "style").text = read_style_sheet()
    add_hatching(definitions)
    add_element(picture, "rect", css="paper", width="100%", height="100%")
    return picture


def add_hatching(definitions: Tree.Element) -> None:
    """Add to the definitions of a picture the pattern `trioflow-hatch`, which has slanted stripes on a background."""
    size = {"width": "6", "height": "6"}
    pattern = add_element(definitions, "pattern", id="trioflow-hatch", patternUnits="userSpaceOnUse", **size)
    pattern.set("patternTransform", "rotate(45)")
    add_element(pattern, "rect", css="hatched", **size)
    add_element(pattern, "line", css="hatching", x1=1, y1=0, x2=1, y2=6)


SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3600.0, 86400.0
TICK_STEPS: Final = (
    *(mantissa * 10.0**power for power in range(-9, 0) for mantissa in (1, 2, 5)),
    *(SECOND * number for number in (1, 2, 5, 10, 15, 30)),
    *(MINUTE * number for number in (1, 2, 5, 10, 15, 30)),
    *(HOUR * number for number in (1, 2, 3, 6, 12)),
    *(DAY * number for number in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
)
"""The possible distances between two ticks: round numbers of seconds, in ascending order."""
MIN_TICK_DISTANCE: Final = 110


def draw_title(svg: Tree.Element, record: TraceRecord, width: float) -> float:
    """Write the label, the verdict, and the use of the slots. Return the y coordinate of the lower edge."""
    inner_width = width - 2 * MARGIN
    root_runs = record.root_runs
    name = ", ".join(dict.fromkeys(run.label for run in root_runs)) or "nothing has run"
    add_element(svg, "text", clip_text(name, inner_width, 15, is_bold=True), css="title", x=MARGIN, y=24.0)
    if not root_runs:
        return 30.0
    verdicts = dict.fromkeys(record.verdict(run, run.stop_reason).sentence for run in root_runs)
    texts = "; ".join(verdicts), str(compute_slot_use(record))
    lines = [line for text in texts for line in wrap_text(text, inner_width, 11)]
    for index, line in enumerate(lines):
        add_element(svg, "text", line, css="subtitle", x=MARGIN, y=41.0 + 14 * index)
    return 41.0 + 14 * len(lines) - 10


def wrap_text(text: str, max_width: float, font_size: float) -> Iterator[str]:
    """Yield the lines of a text, wrapped at spaces to fit a width."""
    line = ""
    for word in text.split(" "):
        candidate = f"{line} {word}".strip()
        if line and text_width(candidate, font_size) > max_width:
            yield clip_text(line, max_width, font_size)
            candidate = word
        line = candidate
    yield clip_text(line, max_width, font_size)


def draw_axis(line_group: Tree.Element, svg: Tree.Element, geometry: SlotGeometry, left: float, top: float) -> None:
    """Draw the time axis, with a vertical line through all rows at each tick."""
    for seconds, text in compute_ticks(geometry.axis_seconds, max(2, int((geometry.width - left) / MIN_TICK_DISTANCE))):
        x = geometry.time_to_x(geometry.start_time + seconds)
        add_element(line_group, "line", css="grid", x1=x, y1=top, x2=x, y2=geometry.bottom)
        if x + text_width(text, 11) / 2 <= geometry.width:
            anchor = "start" if seconds == 0 else "middle"
            add_element(svg, "text", text, css="tick", x=x, y=top - 3, text_anchor=anchor)
    add_element(line_group, "line", css="frame", x1=left, y1=top, x2=geometry.width - MARGIN, y2=top)


def compute_ticks(end_seconds: float, max_ticks: int) -> list[tuple[float, str]]:
    """Return the times and texts of the ticks on an axis from 0 to `end_seconds`.

    There is one tick at 0, and at most `max_ticks` further ticks.
    """
    if end_seconds <= 0:
        return [(0.0, "0 s")]
    step = next(
        (step for step in TICK_STEPS if end_seconds / step <= max_ticks),
        TICK_STEPS[-1] * math.ceil(end_seconds / TICK_STEPS[-1] / max_ticks),
    )
    last_number = int(end_seconds / step * (1 + 1e-12))
    return [(0.0, "0"), *((step * number, duration_text(step * number)) for number in range(1, last_number + 1))]


def draw_incidents(svg: Tree.Element, geometry: SlotGeometry, axis_y: float) -> None:
    """Mark incidents on the axis, whose y coordinate is `axis_y`."""
    for incident in geometry.record.incidents:
        x = geometry.time_to_x(incident.occurred_at)
        marker = add_element(svg, "path", css="incident", d=f"M{x:.1f} {axis_y - 5:.1f}l4 5l-4 5l-4 -5z")
        add_element(marker, "title", f"incident: {incident.message}")


# ---- notes


def draw_notes(svg: Tree.Element, record: TraceRecord, y: float, width: float) -> float:
    """Write notes on the jobs without bars, below `y`. Return the y coordinate of the lower edge."""
    for text, names in _notes_with_tooltips(record):
        y += NOTE_HEIGHT
        note = add_element(svg, "text", clip_text(text, width - 2 * MARGIN, 11), css="note", x=MARGIN, y=y + 4)
        add_element(note, "title", names)
    return y + NOTE_HEIGHT


def _notes_with_tooltips(record: TraceRecord) -> Iterator[tuple[str, str]]:
    """Yield a line and its tooltip for each group of jobs without bars: the restored jobs, and those never started."""
    restored_spans = [span for span in record.counted_spans if span.restored]
    if restored_spans:
        yield _note_with_tooltip("restored from the journal, not run again", restored_spans)
    for state in NEVER_STARTED_STATES:
        spans = [
            span
            for span in record.counted_spans
            if span.started_at is None and _verdict.tally_key(span.state, span.forever) is state
        ]
        if spans:
            yield _note_with_tooltip(f"never started, {state.value}", spans)


def _note_with_tooltip(words: str, spans: list[Span]) -> tuple[str, str]:
    paths = [shorten(span.path) for span in spans[:MAX_NAMED_JOBS]]
    names = ", ".join(paths) + ", …" * (len(spans) > MAX_NAMED_JOBS)
    return f"{len(spans)} {words}: {names}", names
