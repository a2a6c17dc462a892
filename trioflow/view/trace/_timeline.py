"""The timeline of a trace as an SVG picture: title and axis, a row for each lane, and notes on the jobs without bars.

Each family of jobs has a color. Adjacent jobs of a family share a bar if they are too narrow for labels. The label of
such a bar says how many jobs share it. Forever jobs take no slots, and have thin rows of their own. Bars on the
critical path have a border.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any, Final
from xml.etree import ElementTree as Tree

from ..._core.base._states import MOVED_ON, JobState, WaitCause
from ..._core.base._text_forms import clause, duration_text, fit
from ..._core.job._labels import printable, shorten
from .._families import fit_name
from .._state_styles import (
    NEVER_STARTED_STATES,
    STATE_STYLES,
    recorded_state,
    state_class,
)
from ..text import _symbols, _verdict
from ._spans import Span, assign_lanes, or_infinity, wait_texts
from ._time_spent import (
    FamilyTime,
    SlotBar,
    SlotUse,
    compute_family_times,
    compute_slot_use,
)
from ._trace_record import TraceRecord

NOTE_HEIGHT: Final = 18.0
MAX_NAMED_JOBS: Final = 30


def timeline_svg(record: TraceRecord, width: int = 1200, has_title: bool = True) -> str:
    """Draw the timeline of a record, `width` pixels wide, and return it as SVG."""
    picture = _new_picture()
    top = 0.0
    if has_title:
        top = draw_title(picture, record, width)
    geometry = SlotGeometry(record, float(width), top + 26)
    line_group = add_element(picture, "g")
    bottom = draw_slots(picture, geometry)
    draw_axis(line_group, picture, geometry, top + 20)
    draw_incidents(picture, geometry, top + 20)
    height = draw_notes(picture, record, bottom, float(width))
    picture.attrib |= {
        "width": f"{width}",
        "height": f"{height:g}",
        "viewBox": f"0 0 {width} {height:g}",
    }
    return Tree.tostring(picture, encoding="unicode") + "\n"


def read_resource(name: str) -> str:
    """Return a style sheet, a script or a template of the timeline and the report."""
    return (resources.files("trioflow.view.trace.report") / name).read_text(
        encoding="utf-8"
    )


def _new_picture() -> Tree.Element:
    """Return an empty picture with a style sheet, a hatch pattern and a background. It has no size yet."""
    picture = Tree.Element(
        "svg", {"xmlns": "http://www.w3.org/2000/svg", "class": "timeline"}
    )
    definitions = add_element(picture, "defs")
    add_element(definitions, "style").text = read_resource("timeline.css")
    size = {"width": "6", "height": "6"}
    pattern = add_element(
        definitions,
        "pattern",
        id="trioflow-hatch",
        patternUnits="userSpaceOnUse",
        **size,
    )
    # Slanted stripes on a background.
    pattern.set("patternTransform", "rotate(45)")
    add_element(pattern, "rect", css="hatched", **size)
    add_element(pattern, "line", css="hatching", x1=1, y1=0, x2=1, y2=6)
    add_element(picture, "rect", css="paper", width="100%", height="100%")
    return picture


SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3600.0, 86400.0
TICK_STEPS: Final = (
    *(
        number * 10.0**power for power in range(-9, 0) for number in (1, 2, 5)
    ),  # dense: a product
    *(SECOND * number for number in (1, 2, 5, 10, 15, 30)),
    *(MINUTE * number for number in (1, 2, 5, 10, 15, 30)),
    *(HOUR * number for number in (1, 2, 3, 6, 12)),
    *(DAY * number for number in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
)
MIN_TICK_DISTANCE: Final = 110


def draw_title(svg: Tree.Element, record: TraceRecord, width: float) -> float:
    """Write the label, the verdict, and the use of the slots. Return the y coordinate of the lower edge."""
    inner_width = width - 2 * MARGIN
    run = record.root_run
    add_element(
        svg,
        "text",
        clip_text(record.name, inner_width, 15, is_bold=True),
        css="title",
        x=MARGIN,
        y=24.0,
    )
    if run is None:
        return 30.0
    sentence = record.verdict(run, run.stop_reason).sentence
    lines = list(wrap_text(sentence, inner_width, 11))
    lines += wrap_text(str(compute_slot_use(record)), inner_width, 11)
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


def draw_axis(
    line_group: Tree.Element, svg: Tree.Element, geometry: SlotGeometry, top: float
) -> None:
    """Draw the time axis, with a vertical line through all rows at each tick."""
    max_ticks = max(2, int((geometry.width - geometry.left) / MIN_TICK_DISTANCE))
    for seconds, text in compute_ticks(geometry.axis_seconds, max_ticks):
        x = geometry.time_to_x(geometry.start_time + seconds)
        add_element(
            line_group, "line", css="grid", x1=x, y1=top, x2=x, y2=geometry.bottom
        )
        if x + text_width(text, 11) / 2 <= geometry.width:
            anchor = "start" if seconds == 0 else "middle"
            add_element(
                svg, "text", text, css="tick", x=x, y=top - 3, text_anchor=anchor
            )
    add_element(
        line_group,
        "line",
        css="frame",
        x1=geometry.left,
        y1=top,
        x2=geometry.width - MARGIN,
        y2=top,
    )


def compute_ticks(end_seconds: float, max_ticks: int) -> list[tuple[float, str]]:
    """Return the times and texts of the ticks on an axis from 0 to `end_seconds`.

    There is a tick at 0, and at most `max_ticks` further ticks.
    """
    step = _tick_step(end_seconds, max_ticks)
    last_number = int(end_seconds / step * (1 + 1e-12))
    ticks = [(0.0, "0")]
    for number in range(1, last_number + 1):
        ticks.append((step * number, duration_text(step * number)))
    return ticks


def _tick_step(end_seconds: float, max_ticks: int) -> float:
    for step in TICK_STEPS:
        if end_seconds / step <= max_ticks:
            return step
    longest = TICK_STEPS[-1]
    return longest * math.ceil(end_seconds / longest / max_ticks)


def draw_incidents(svg: Tree.Element, geometry: SlotGeometry, axis_y: float) -> None:
    """Mark incidents on the axis, whose y coordinate is `axis_y`."""
    for incident in geometry.record.incidents:
        x = geometry.time_to_x(incident.occurred_at)
        marker = add_element(
            svg, "path", css="incident", d=f"M{x:.1f} {axis_y - 5:.1f}l4 5l-4 5l-4 -5z"
        )
        add_element(marker, "title", f"incident: {incident.message}")


# ---- the rows

FAILED_SYMBOL: Final = STATE_STYLES[JobState.FAILED].symbol
FAILED_ATTEMPT: Final = "failed-attempt"
SYMBOLS_BY_CLASS: Final = {
    FAILED_ATTEMPT: FAILED_SYMBOL,
    **{
        state_class(state): STATE_STYLES[state].symbol
        for state in (JobState.FAILED, MOVED_ON, JobState.SKIPPED)
    },
}
MIN_AXIS_SECONDS: Final = 1e-9
"""The minimum length of the axis in seconds. It is not 0, because a run on a virtual clock may take no time."""
NAME_WIDTH: Final = 92.0
MAX_COLORED_FAMILIES: Final = 6
MIN_BAR_WIDTH: Final = 30.0
"""How many families have their own color, and how narrow, in pixels, a bar of its own may be: others share a bar."""
ROW_HEIGHTS: Final = ((24, 20.0), (40, 14.0), (100, 6.0), (400, 3.0))
"""Pairs of a maximum number of rows, and the height of a row in pixels. The first pair with room for all rows applies.
If there is none, the height is 1.5."""
FOREVER_ROW_HEIGHT: Final = 13.0
"""The height in pixels of a row with forever jobs. It is lower if there are many such rows."""
MAX_SIDE_LABEL_WIDTH: Final = 130.0
"""The maximum width in pixels of the label beside the bar of a failed job that is too narrow for a label."""
MAX_LINKED_SPANS: Final = 20_000
"""The maximum number of spans in a record whose merged bars contain links to all their jobs."""
LINE_HEIGHT: Final = 18.0


def tooltip_lines(record: TraceRecord, span: Span) -> Iterator[str]:
    critical = clause(", critical", span.critical)
    yield span.name
    yield f"{span.kind}, {recorded_state(span).value}{critical}"
    if span.started_at is not None:
        # A job whose attempts were all throttled has bars, but never started.
        duration = "still running"
        if span.took is not None:
            duration = f"took {duration_text(span.took)}"
        yield f"started at {duration_text(span.started_at - record.start_time)}, {duration}"
    # Waits for jobs come last.
    waits = sorted(span.waits, key=lambda wait: wait.cause is WaitCause.JOBS)
    yield from wait_texts(record.spans, waits)
    if span.first_attempt > 1:
        yield f"attempt {span.last_attempt}"
    elif len(span.attempts) > 1:
        yield f"{len(span.attempts)} attempts"
    if len(span.throttled) > 1:
        yield f"throttled {len(span.throttled)} times"
    elif span.throttled:
        yield "throttled once"
    if span.exception is not None:
        yield span.exception_text


@dataclass(slots=True)
class MergedBar:
    """A bar in a slot, which stands for a job, or for several adjacent jobs of a family."""

    start: float
    end: float
    # A job that paused between attempts had the slot several times.
    spans_by_number: dict[int, Span]
    css_class: str
    family: str

    @property
    def spans(self) -> list[Span]:
        return list(self.spans_by_number.values())

    @property
    def is_failed(self) -> bool:
        return self.css_class == JobState.FAILED.value


class SlotGeometry:
    """The coordinates of times and slots in a timeline, and the colors of jobs."""

    def __init__(self, record: TraceRecord, width: float, top: float) -> None:
        self.record: Final = record
        self.slot_use: Final = compute_slot_use(record)
        self.width: Final = width
        self.left: Final = MARGIN + NAME_WIDTH
        self.start_time: Final = record.start_time
        self.axis_seconds: Final = max(record.seconds, MIN_AXIS_SECONDS)
        self.top: Final = top
        row_count = max(self.slot_use.slot_count, 1)
        self.row_height: Final = _row_height(row_count)
        self.font_size: Final = 11.0 if self.row_height >= 20 else 9.0
        self.has_labels: Final = self.row_height >= 14
        # Low rows have less of a gap, or none.
        self.row_gap: Final = min(2.0, self.row_height // 6)
        self.forever_rows: Final = _assign_forever_rows(record, self.slot_use)
        names = set(map(_forever_name, itertools.chain(*self.forever_rows)))
        self.forever_names: Final = ", ".join(sorted(names))
        distance = 4 if self.forever_rows else 0
        self.forever_top: Final = top + row_count * self.row_height + distance
        self.forever_row_height: Final = min(
            FOREVER_ROW_HEIGHT, _row_height(len(self.forever_rows))
        )
        self.bottom: Final = (
            self.forever_top + len(self.forever_rows) * self.forever_row_height
        )
        self.summaries_by_family: Final = _summarize_families(record, self.slot_use)
        # The number of jobs with each label. A job has several spans if its scheduler ran several times.
        labels_and_paths = {(span.label, span.path) for span in record.spans}
        self._label_counts: Final = Counter(label for label, _ in labels_and_paths)

    def time_to_x(self, time: float) -> float:
        """Return the x coordinate of a time, in pixels."""
        axis_width = self.width - MARGIN - self.left
        return self.left + (time - self.start_time) * axis_width / self.axis_seconds

    def row_bounds(self, row: int) -> tuple[float, float]:
        """Return the y coordinate of a row's upper edge, and the height of the row."""
        y = self.top + row * self.row_height + self.row_gap / 2
        return y, self.row_height - self.row_gap

    def name(self, span: Span) -> str:
        """Return the label of a job, or its path if several jobs have the same label."""
        return span.label if self._label_counts[span.label] == 1 else span.path

    def css_class(self, bar: SlotBar) -> str:
        """Return the CSS class of a bar, which stands for its job's family, or for a job that did not succeed."""
        if bar.is_failed_attempt:
            return FAILED_ATTEMPT
        state = recorded_state(bar.span)
        if state is not JobState.SUCCEEDED:
            return state_class(state)
        family = self.record.families[bar.span.number]
        return self.summaries_by_family[family].css_class


def _row_height(row_count: int) -> float:
    for max_rows, height in ROW_HEIGHTS:
        if row_count <= max_rows:
            return height
    return 1.5


def _forever_name(span: Span) -> str:
    # An `Answer` takes no slot either.
    return "forever job" if span.takes_slot or span.forever else span.kind


def _assign_forever_rows(record: TraceRecord, slot_use: SlotUse) -> list[list[Span]]:
    """Return the rows of the jobs that started without a slot: forever jobs, and members of forever schedulers."""
    slot_users = {bar.span.number for bar in slot_use.bars}
    spans: list[Span] = []
    intervals: list[tuple[float, float]] = []
    for span in record.leaf_spans:
        if span.started_at is not None and span.number not in slot_users:
            spans.append(span)
            intervals.append((span.started_at, or_infinity(span.finished_at)))
    rows: dict[int, list[Span]] = {}
    for span, row in zip(spans, assign_lanes(intervals), strict=True):
        rows.setdefault(row, []).append(span)
    return list(rows.values())


@dataclass(slots=True)
class FamilySummary:
    """The jobs of a family in the slots, as summarized in the legend, with the times of the report's table."""

    times: FamilyTime
    succeeded_count: int
    failed_count: int
    css_class: str = "family-other"


def _summarize_families(
    record: TraceRecord, slot_use: SlotUse
) -> dict[str, FamilySummary]:
    """Summarize each family of jobs in the slots, the family with the most work first.

    Only the first families with a job that succeeded get colors, because other bars show their states.
    """
    spans = {bar.span.number: bar.span for bar in slot_use.bars}
    counts = Counter(
        (record.families[number], recorded_state(span))
        for number, span in spans.items()
    )
    times = compute_family_times(record)
    summaries: dict[str, FamilySummary] = {}
    color_count = 0
    for key in sorted(times, key=lambda key: -times[key].work):
        if not times[key].count:
            continue
        succeeded = counts[key, JobState.SUCCEEDED]
        failed = counts[key, JobState.FAILED]
        summaries[key] = summary = FamilySummary(times[key], succeeded, failed)
        if succeeded and color_count < MAX_COLORED_FAMILIES:
            summary.css_class = f"family{color_count}"
            color_count += 1
    return summaries


def draw_slots(svg: Tree.Element, geometry: SlotGeometry) -> float:
    """Draw the rows, and below them the legend. Return the y coordinate of the lower edge."""
    slot_count = geometry.slot_use.slot_count
    width = geometry.width - MARGIN - geometry.left
    for row in range(slot_count):
        y, height = geometry.row_bounds(row)
        add_element(
            svg, "rect", css="empty", x=geometry.left, y=y, width=width, height=height
        )
        if geometry.has_labels:
            _name_row(svg, f"lane {row + 1}", y, height)
        elif row == 0:
            _name_row(svg, f"{slot_count} lanes", y, height)
    for row, bars in enumerate(geometry.slot_use.bars_by_slot):
        merged_bars = _merge_bars(geometry, bars)
        # Bars of failed jobs lie above others.
        for bar in sorted(merged_bars, key=lambda bar: bar.is_failed):
            _draw_merged_bar(svg, geometry, bar, row)
        if geometry.has_labels:
            _draw_labels(svg, geometry, merged_bars, row)
    for row, spans in enumerate(geometry.forever_rows):
        height = geometry.forever_row_height
        y = geometry.forever_top + row * height
        if row == 0:
            name = clip_text(geometry.forever_names, NAME_WIDTH, 11)
            _name_row(svg, name, y, height)
        for span in spans:
            _draw_forever_job(svg, geometry, span, y)
    return _draw_legend(svg, geometry, geometry.bottom + 24)


def _name_row(svg: Tree.Element, name: str, y: float, height: float) -> None:
    baseline = y + max(height / 2 + 4, 9)
    add_element(svg, "text", name, css="name", x=MARGIN, y=baseline)


# ---- the jobs


def _merge_bars(geometry: SlotGeometry, bars: Sequence[SlotBar]) -> list[MergedBar]:
    """Return the bars of a row. Adjacent narrow bars of a family are merged."""
    merged_bars: list[MergedBar] = []
    is_last_narrow = False
    for bar in bars:
        left = geometry.time_to_x(bar.start)
        right = geometry.time_to_x(bar.end)
        bar_style = geometry.css_class(bar), geometry.record.families[bar.span.number]
        is_narrow = right - left < MIN_BAR_WIDTH
        last = merged_bars[-1] if is_narrow and is_last_narrow else None
        if (
            last is None
            or (last.css_class, last.family) != bar_style
            or left - geometry.time_to_x(last.end) >= 1
        ):
            last = MergedBar(bar.start, bar.end, {}, *bar_style)
            merged_bars.append(last)
        last.end = bar.end
        last.spans_by_number[bar.span.number] = bar.span
        is_last_narrow = is_narrow
    return merged_bars


def _draw_merged_bar(
    svg: Tree.Element, geometry: SlotGeometry, bar: MergedBar, row: int
) -> None:
    left = geometry.time_to_x(bar.start)
    y, height = geometry.row_bounds(row)
    spans = bar.spans
    group = add_element(svg, "g", css="job", data_number=spans[0].number)
    title = _tooltip_text(geometry, spans[0])
    if len(spans) > 1:
        start = duration_text(bar.start - geometry.start_time)
        duration = duration_text(bar.end - bar.start)
        name = geometry.summaries_by_family[bar.family].times.family
        title = f"{len(spans)} jobs: {name}\nfrom {start} on, for {duration}"
        if len(geometry.record.spans) <= MAX_LINKED_SPANS:
            group.set("data-numbers", " ".join(map(str, bar.spans_by_number)))
    add_element(group, "title", title)
    min_width = 3.0 if bar.is_failed else 0.5
    width = max(geometry.time_to_x(bar.end) - left, min_width)
    css_class = bar.css_class
    if width >= 3 and geometry.row_height >= 6:
        css_class = f"bar {css_class}"
    if geometry.record.critical_path.keys() & bar.spans_by_number.keys():
        css_class += " on-path"
    add_element(group, "rect", css=css_class, x=left, y=y, width=width, height=height)


def _tooltip_text(geometry: SlotGeometry, span: Span) -> str:
    return "\n".join(map(printable, tooltip_lines(geometry.record, span)))


def _draw_labels(
    svg: Tree.Element,
    geometry: SlotGeometry,
    merged_bars: Sequence[MergedBar],
    row: int,
) -> None:
    """Write the labels into the bars of a row.

    If a failed bar is too narrow for its label, the label is beside the bar, as far as the row is empty there.
    """
    top, height = geometry.row_bounds(row)
    font_size = geometry.font_size
    y = top + height / 2 + font_size * 0.36
    next_lefts = [geometry.time_to_x(bar.start) for bar in merged_bars[1:]]
    next_lefts.append(geometry.width - MARGIN)
    for bar, free_until in zip(merged_bars, next_lefts, strict=True):
        left = geometry.time_to_x(bar.start)
        right = geometry.time_to_x(bar.end)
        name = geometry.name(bar.spans[0])
        cut: Callable[..., str] = fit_name
        if len(bar.spans) > 1:
            name = f"{geometry.summaries_by_family[bar.family].times.family} × {len(bar.spans)}"
            cut = fit
        if bar.css_class in SYMBOLS_BY_CLASS:
            name = f"{SYMBOLS_BY_CLASS[bar.css_class]} {name}"
        label = clip_text(name, right - left - 7, font_size, bar.is_failed, cut)
        css_class = "label on-dark" if bar.is_failed else "label"
        x = left + (4 if right - left > 16 else 2)
        if bar.is_failed and not label:
            css_class = "label strong"
            x = max(right, left + 3) + 3
            free_width = min(MAX_SIDE_LABEL_WIDTH, free_until - x - 3)
            label = clip_text(name, free_width, font_size, bar.is_failed, cut)
        if label:
            add_element(
                svg, "text", label, css=css_class, x=x, y=y, font_size=font_size
            )


def _draw_forever_job(
    svg: Tree.Element, geometry: SlotGeometry, span: Span, top: float
) -> None:
    assert span.started_at is not None
    is_failed = span.state is JobState.FAILED
    group = add_element(svg, "g", css="job", data_number=span.number)
    add_element(group, "title", _tooltip_text(geometry, span))
    left = geometry.time_to_x(span.started_at)
    right = geometry.time_to_x(geometry.record.end_of(span))
    height = geometry.forever_row_height
    css_class = "bar forever failed" if is_failed else "bar forever"
    width = max(right - left, 3.0 if is_failed else 0.5)
    add_element(
        group,
        "rect",
        css=css_class,
        x=left,
        y=top + 1,
        width=width,
        height=max(height - 2, 1.0),
    )
    if height < FOREVER_ROW_HEIGHT:
        return
    name = geometry.name(span)
    css_class = "label"
    if is_failed:
        name = f"{FAILED_SYMBOL} {name}"
        css_class = "label on-dark"
    if label := clip_text(name, right - left - 7, 9, is_failed, fit_name):
        y = top + height / 2 + 3
        add_element(svg, "text", label, css=css_class, x=left + 4, y=y, font_size=9)


# ---- the legend


def _draw_legend(svg: Tree.Element, geometry: SlotGeometry, top: float) -> float:
    """Draw the entries of the legend like words in lines. Return the y coordinate of the last line."""
    x = MARGIN
    y = top
    for css_class, words in _legend_entries(geometry):
        text = clip_text(words, 300, 11)
        width = 17 + text_width(text, 11) + 16
        if x + width > geometry.width and x > MARGIN:
            x = MARGIN
            y += LINE_HEIGHT
        add_element(svg, "rect", css=css_class, x=x, y=y - 9, width=12, height=12)
        add_element(svg, "text", text, css="legend", x=x + 17, y=y + 1)
        x += width
    return y


def _legend_entries(geometry: SlotGeometry) -> Iterator[tuple[str, str]]:
    """Yield the CSS class and the text of each legend entry."""
    families = [
        family
        for family in geometry.summaries_by_family.values()
        if family.succeeded_count
    ]
    for family in families[:MAX_COLORED_FAMILIES]:
        count = family.times.count
        name = family.times.family
        work = duration_text(family.times.work)
        text = f"{name}, {work}"
        if count > 1:
            failed_text = clause(", {} failed", family.failed_count)
            text = f"{name}: {count}, {work}{failed_text}"
        yield f"bar {family.css_class}", text
    if len(families) > MAX_COLORED_FAMILIES:
        others = [family.times.count for family in families[MAX_COLORED_FAMILIES:]]
        noun = "families" if len(others) > 1 else "family"
        yield "bar family-other", f"{len(others)} other {noun}: {sum(others)}"
    if any(bar.is_failed_attempt for bar in geometry.slot_use.bars):
        yield f"bar {FAILED_ATTEMPT}", f"{FAILED_SYMBOL} failed attempt"
    states = {recorded_state(bar.span) for bar in geometry.slot_use.bars}
    for state, style in STATE_STYLES.items():
        if state in states and state is not JobState.SUCCEEDED:
            yield f"bar {state_class(state)}", f"{style.symbol} {state.value}"
    if geometry.forever_rows:
        yield "bar forever", geometry.forever_names
    if geometry.record.critical_path:
        yield "empty on-path", "critical path"


# ---- notes


def draw_notes(svg: Tree.Element, record: TraceRecord, y: float, width: float) -> float:
    """Write a line for each group of jobs without bars, below `y`. Return the y coordinate of the lower edge."""
    for words, spans in _jobs_without_bars(record):
        if not spans:
            continue
        y += NOTE_HEIGHT
        names = ", ".join(shorten(span.path) for span in spans[:MAX_NAMED_JOBS])
        names += clause(", …", spans[MAX_NAMED_JOBS:])
        text = clip_text(f"{len(spans)} {words}: {names}", width - 2 * MARGIN, 11)
        note = add_element(svg, "text", text, css="note", x=MARGIN, y=y + 4)
        add_element(note, "title", names)
    return y + NOTE_HEIGHT


def _jobs_without_bars(record: TraceRecord) -> Iterator[tuple[str, list[Span]]]:
    """Yield the groups of jobs without bars: the restored jobs, and those that never started, by state."""
    restored = [span for span in record.counted_spans if span.restored]
    yield "restored from the journal, not run again", restored
    unstarted = [span for span in record.counted_spans if span.started_at is None]
    for state in NEVER_STARTED_STATES:
        in_state = [
            span
            for span in unstarted
            if _verdict.tally_key(span.state, span.forever) is state
        ]
        yield f"never started, {state.value}", in_state


# ---- SVG: elements, and text that is cut to a width

NARROW_CHARACTERS: Final = frozenset("iljtf.,:;'|!()[] -I1r/")
MARGIN: Final = 16.0
MAX_CHARACTERS: Final = 200
"""A longer text is cut before it is measured, because no picture has room for more characters."""
MIN_CHARACTERS: Final = 4
"""The minimum number of characters in a text that was cut: a shorter one would be useless."""


def add_element(
    parent: Tree.Element, tag: str, text: str | None = None, /, **attributes: Any
) -> Tree.Element:
    """Append an element to `parent` and return it.

    Args:
        parent: the parent element.
        tag: the name of the element.
        text: the text of the element, or None if it has no text.
        attributes: the attributes of the element. "_" in a name stands for "-", and `css` is the attribute "class".
            Floats have at most two decimals.

    """
    css = attributes.pop("css", None)
    texts = {} if css is None else {"class": css}
    for name, value in attributes.items():
        shown = str(value)
        if isinstance(value, float):
            shown = f"{value:.2f}".rstrip("0").rstrip(".")
        texts[name.replace("_", "-")] = shown
    element = Tree.SubElement(parent, tag, texts)
    if text is not None:
        # The tooltip of a title has lines.
        lines = [text]
        if tag == "title":
            lines = text.split("\n")
        element.text = "\n".join(map(printable, lines))
    return element


def _width_units(character: str) -> float:
    if ord(character) > 0x2E7F:
        return 1.05 * _symbols.display_width(character) / 2
    return 0.36 if character in NARROW_CHARACTERS else 0.6


def text_width(text: str, font_size: float, is_bold: bool = False) -> float:
    """Estimate the width in pixels of a text in a sans-serif typeface. The estimate is generous."""
    width_units = sum(map(_width_units, text))
    wide_characters = [each for each in text if each.isupper() or each in "mw%@"]
    factor = 1.06 if is_bold else 1.0
    return font_size * (width_units + 0.14 * len(wide_characters)) * factor


def clip_text(
    text: str,
    max_width: float,
    font_size: float,
    is_bold: bool = False,
    cut: Callable[..., str] = fit,
) -> str:
    """Cut a text to fit a width, and add an ellipsis. Return an empty string if too little would be left.

    With "ends", the end is kept, too, because similar names often differ there.
    """
    shown = printable(cut(text, MAX_CHARACTERS))
    measure = partial(text_width, font_size=font_size, is_bold=is_bold)
    clipped = cut(shown, max_width, measure=measure)
    if clipped == shown or len(clipped) > MIN_CHARACTERS:
        return clipped
    return ""
