"""The timeline of a trace as an SVG picture: title, axis, bars, critical path, use of resources, and legend."""

from __future__ import annotations

import math
from importlib import resources
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import short_repr, whole_number
from .._resource_use import count_overlaps
from .._slots import compute_slot_use
from .._span_builder import TraceRecord
from .._spans import RunSpan
from . import _slot_rows
from ._bars import (
    draw_bars,
    draw_critical_path_arrows,
    draw_critical_path_outlines,
    draw_incidents,
    draw_labels,
    draw_ready_marks,
)
from ._geometry import LOAD_CURVE_HEIGHT, MARGIN, Geometry
from ._hatching import draw_waits
from ._slot_rows import SlotGeometry
from ._svg import add_element, add_hatching, clip_text, text_width, to_xml, wrap_text
from ._timeline_legend import draw_legend, draw_notes

MAX_BOXES: Final = 60
"""The maximum number of jobs that are drawn as bars in nested boxes. If there are more, each row is a slot, because the
labels of the boxes would be unreadable."""
MIN_WIDTH: Final = 300
"""The minimum width in pixels that users may choose."""
MAX_WIDTH: Final = 1_000_000
"""The maximum width in pixels that browsers show."""


def timeline_svg(record: TraceRecord, width: int, has_title: bool = True) -> str:
    """Draw the timeline of a record and return it as SVG. If more than `MAX_BOXES` jobs started, each row is a slot.

    Raises:
        ValueError: `width` is out of range.

    """
    if not MIN_WIDTH <= (whole_number(width, "width", "a timeline") or 0) <= MAX_WIDTH:
        raise ValueError(f"width={short_repr(width)} of a timeline: give {MIN_WIDTH} to {MAX_WIDTH} pixels")
    picture = new_picture("timeline")
    top = draw_title(picture, record, width) if has_title else 0.0
    if sum(span.started_at is not None for span in record.leaf_spans) > MAX_BOXES:
        height = _draw_slot_layout(picture, record, float(width), top)
    else:
        height = _draw_nested_layout(picture, Geometry(record, width, top))
    return to_xml(picture, width, height)


def _draw_slot_layout(picture: Tree.Element, record: TraceRecord, width: float, top: float) -> float:
    """Draw a row for each slot, and the legend. Return the y coordinate of the lower edge."""
    geometry = SlotGeometry(record, width, top + 26)
    line_group = add_element(picture, "g")
    bottom = _slot_rows.draw_slots(picture, picture[0], geometry)
    draw_axis(line_group, picture, geometry, geometry.left, top + 20)
    draw_incidents(picture, geometry, top + 20)
    return draw_notes(picture, record, bottom, width)


def _draw_nested_layout(picture: Tree.Element, geometry: Geometry) -> float:
    """Draw a bar for each job, a box for each nested scheduler, and the legend. Return the y of the lower edge."""
    record = geometry.record
    draw_axis(picture, picture, geometry, MARGIN, geometry.axis_y)
    if geometry.boxes:
        draw_running_jobs(picture, geometry, record.root_runs[-1])
    draw_bars(picture, geometry, for_schedulers=True)
    patterns = draw_waits(picture, picture[0], geometry)
    wait_causes = draw_critical_path_arrows(picture, geometry)
    draw_bars(picture, geometry, for_schedulers=False)
    draw_critical_path_outlines(picture, geometry)
    draw_ready_marks(picture, geometry)
    draw_incidents(picture, geometry, geometry.axis_y)
    draw_labels(picture, geometry)
    bottom = _slot_rows.draw_resources(picture, record, geometry.time_to_x, MARGIN, geometry.width, geometry.bottom + 8)
    return draw_legend(picture, record, bottom + 16, geometry.width, wait_causes, patterns)


def read_style_sheet() -> str:
    """Return the style sheet of timelines."""
    return (resources.files("trioflow.view.trace.report") / "timeline.css").read_text(encoding="utf-8")


def new_picture(css_class: str, extra_rules: str = "") -> Tree.Element:
    """Return an empty picture with a style sheet, a hatch pattern and a background. `to_xml` sets its size later.

    Args:
        css_class: the CSS class of the picture.
        extra_rules: CSS rules to append to the style sheet.

    """
    picture = Tree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "class": css_class})
    definitions = add_element(picture, "defs")
    add_element(definitions, "style").text = read_style_sheet() + extra_rules
    add_hatching(definitions, "hatch", "hatched", "hatching", 1)
    add_element(picture, "rect", css="paper", width="100%", height="100%")
    return picture


SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3600.0, 86400.0
TICK_UNITS: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
"""The units for the texts of ticks below a minute: the number of seconds in each unit, and its symbol."""
TICK_STEPS: Final = (
    *(mantissa * 10.0**power for power in range(-9, 0) for mantissa in (1, 2, 5)),
    *(SECOND * number for number in (1, 2, 5, 10, 15, 30)),
    *(MINUTE * number for number in (1, 2, 5, 10, 15, 30)),
    *(HOUR * number for number in (1, 2, 3, 6, 12)),
    *(DAY * number for number in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
)
"""The possible distances between two ticks: round numbers of seconds, in ascending order."""
MIN_TICK_DISTANCE: Final = 110
"""The minimum distance between two ticks, in pixels."""
MAX_CURVE_SHARE: Final = 0.86
"""The share of the available height that the curve of the running jobs takes at its highest point."""


def draw_title(svg: Tree.Element, record: TraceRecord, width: float) -> float:
    """Write the label, the verdict, and the use of the slots. Return the y coordinate of the lower edge."""
    inner_width = width - 2 * MARGIN
    root_runs = record.root_runs
    name = ", ".join(dict.fromkeys(run.label for run in root_runs)) or "nothing has run"
    add_element(svg, "text", clip_text(name, inner_width, 15, is_bold=True), css="title", x=MARGIN, y=24.0)
    if not root_runs:
        return 30.0
    verdicts = dict.fromkeys(record.verdict(run, run.stop_reason).sentence for run in root_runs)
    lines = [
        *wrap_text("; ".join(verdicts), inner_width, 11),
        *wrap_text(str(compute_slot_use(record)), inner_width, 11),
    ]
    for index, line in enumerate(lines):
        add_element(svg, "text", line, css="subtitle", x=MARGIN, y=41.0 + 14 * index)
    return 41.0 + 14 * len(lines) - 10


def draw_axis(
    line_group: Tree.Element, svg: Tree.Element, geometry: Geometry | SlotGeometry, left: float, top: float
) -> None:
    """Draw the time axis, with a vertical line through all rows at each tick."""
    for seconds, text in compute_ticks(geometry.axis_seconds, max(2, int((geometry.width - left) / MIN_TICK_DISTANCE))):
        x = geometry.time_to_x(geometry.start_time + seconds)
        add_element(line_group, "line", css="grid", x1=x, y1=top, x2=x, y2=geometry.bottom)
        if x + text_width(text, 11) / 2 <= geometry.width:
            anchor = "start" if seconds == 0 else "middle"
            add_element(svg, "text", text, css="tick", x=x, y=top - 3, text_anchor=anchor)
    _draw_horizontal_line(line_group, geometry.width, "frame", top, left)


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
    return [(step * number, _tick_text(step * number, step, step * last_number)) for number in range(last_number + 1)]


def _tick_text(time: float, step: float, last_time: float) -> str:
    """Return the text of a tick, as precise as `step` requires.

    All ticks below a minute have the unit that fits the time of the last tick.
    """
    if time == 0:
        return "0"
    if step >= DAY:
        return f"{round(time / DAY)} d"
    if time >= MINUTE:
        return _clock_text(time, step)
    unit, name = next(((unit, name) for unit, name in TICK_UNITS if last_time >= unit * 0.9999999), TICK_UNITS[-1])
    decimals = max(0, -math.floor(math.log10(step / unit) + 1e-9))
    return f"{time / unit:.{decimals}f} {name}"


def _clock_text(time: float, step: float) -> str:
    """Return a time as days, hours, minutes and seconds, with the precision that `step` requires."""
    days, remainder = divmod(time + step * 1e-6, DAY)
    hours, remainder = divmod(remainder, HOUR)
    minutes, seconds = divmod(remainder, MINUTE)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    texts = [f"{int(number)} {name}" for number, name in parts if number]
    if step < SECOND:
        texts.append(f"{seconds:.{-math.floor(math.log10(step) + 1e-9)}f} s")
    elif int(seconds):
        texts.append(f"{int(seconds)} s")
    return " ".join(texts)


def draw_running_jobs(svg: Tree.Element, geometry: Geometry, run: RunSpan) -> None:
    """Draw the number of running jobs over time, with a line for the size of the window.

    If there are nested schedulers, no line is drawn. They take slots of the window, but the curve counts the jobs in
    them instead, and the number of these jobs can exceed the size of the window.
    """
    record = geometry.record
    spans = (span for span in record.leaf_spans if span.started_at is not None and not span.forever)
    times, running_counts = count_overlaps(
        (span.started_at or 0.0, record.end_time if span.finished_at is None else span.finished_at) for span in spans
    )
    max_running_count = max(running_counts, default=0)
    window_size = None if record.scheduler_numbers else run.window_size
    has_line = (
        window_size is not None and window_size <= 4 * max_running_count
    )  # the line of a larger window would flatten the curve
    base_y = geometry.axis_y + 4 + LOAD_CURVE_HEIGHT
    pixels_per_job = (
        LOAD_CURVE_HEIGHT * MAX_CURVE_SHARE / max(max_running_count, (window_size or 0) if has_line else 0, 1)
    )
    curve = "".join(
        f"H{geometry.time_to_x(time):.1f}V{base_y - running_count * pixels_per_job:.1f}"
        for time, running_count in zip(times, running_counts, strict=True)
    )
    add_element(svg, "path", css="load", d=f"M{MARGIN} {base_y:.1f}{curve}V{base_y:.1f}Z")
    _draw_horizontal_line(svg, geometry.width, "frame", base_y)
    if has_line:
        _draw_horizontal_line(svg, geometry.width, "window", base_y - (window_size or 0) * pixels_per_job)
    text = f"running, at most {max_running_count}" + (f" of window {window_size}" if window_size is not None else "")
    add_element(svg, "text", text, css="note", x=MARGIN + 4, y=base_y - 5)


def _draw_horizontal_line(svg: Tree.Element, width: float, css_class: str, y: float, left: float = MARGIN) -> None:
    add_element(svg, "line", css=css_class, x1=left, y1=y, x2=width - MARGIN, y2=y)
