"""The timeline of a trace as an SVG picture: title and axis, a row for each lane, and notes on the jobs without bars.

Each family of jobs has a color. Adjacent jobs of a family share a bar if they are too narrow for labels. The label of
such a bar says how many jobs share it. Forever jobs take no slots, and have thin rows of their own. Bars on the
critical path have a border.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final, Literal
from xml.etree import ElementTree as Tree

from ..._core.base._states import MOVED_ON, JobState, WaitCause
from ..._core.base._text_forms import clause, duration_text, fit
from ..._core.job._labels import printable, shorten
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
    *(mantissa * 10.0**power for power in range(-9, 0) for mantissa in (1, 2, 5)),
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
    texts = record.verdict(run, run.stop_reason).sentence, str(compute_slot_use(record))
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
    step = next(
        (step for step in TICK_STEPS if end_seconds / step <= max_ticks),
        TICK_STEPS[-1] * math.ceil(end_seconds / TICK_STEPS[-1] / max_ticks),
    )
    last_number = int(end_seconds / step * (1 + 1e-12))
    return [
        (0.0, "0"),
        *(
            (step * number, duration_text(step * number))
            for number in range(1, last_number + 1)
        ),
    ]


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
    yield span.name
    yield f"{span.kind}, {recorded_state(span).value}{', critical' * bool(span.critical)}"
    if span.started_at is not None:
        # A job whose attempts were all throttled has bars, but never started.
        duration = "still running"
        if span.took is not None:
            duration = f"took {duration_text(span.took)}"
        yield f"started at {duration_text(span.started_at - record.start_time)}, {duration}"
    # Waits for jobs come last.
    yield from wait_texts(
        record.spans, sorted(span.waits, key=lambda wait: wait.cause is WaitCause.JOBS)
    )
    if span.first_attempt > 1:
        yield f"attempt {span.last_attempt}"
    elif len(span.attempts) > 1:
        yield f"{len(span.attempts)} attempts"
    if span.throttled:
        if len(span.throttled) > 1:
            yield f"throttled {len(span.throttled)} times"
        else:
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


class SlotGeometry:
    """The coordinates of times and slots in a timeline, and the colors of jobs."""

    def __init__(self, record: TraceRecord, width: float, top: float) -> None:
        self.record: Final = record
        self.slot_use: Final = compute_slot_use(record)
        self.width: Final = width
        self.left: Final = MARGIN + NAME_WIDTH
        self.start_time: Final = record.start_time
        self.axis_seconds: Final = max(
            record.end_time - record.start_time, MIN_AXIS_SECONDS
        )
        self.top: Final = top
        row_count = max(self.slot_use.slot_count, 1)
        self.row_height: Final = _row_height(row_count)
        self.font_size: Final = 11.0 if self.row_height >= 20 else 9.0
        self.has_labels: Final = self.row_height >= 14
        gaps = ((14, 2.0), (6, 1.0), (0, 0.0))
        self.row_gap: Final = next(
            gap for height, gap in gaps if self.row_height >= height
        )
        self.forever_rows: Final = _assign_forever_rows(record, self.slot_use)
        # An `Answer` takes no slot either.
        names = (
            span.kind if not (span.takes_slot or span.forever) else "forever job"
            for spans in self.forever_rows
            for span in spans
        )
        self.forever_names: Final = ", ".join(sorted(set(names)))
        self.forever_top: Final = (
            top + row_count * self.row_height + 4 * bool(self.forever_rows)
        )
        self.forever_row_height: Final = min(
            FOREVER_ROW_HEIGHT, _row_height(len(self.forever_rows))
        )
        self.bottom: Final = (
            self.forever_top + len(self.forever_rows) * self.forever_row_height
        )
        self.summaries_by_family: Final = _summarize_families(record, self.slot_use)
        # The number of jobs with each label. A job has several spans if its scheduler ran several times.
        self._label_counts: Final = Counter(
            label for label, _ in {(span.label, span.path) for span in record.spans}
        )

    def time_to_x(self, time: float) -> float:
        """Return the x coordinate of a time, in pixels."""
        return (
            self.left
            + (time - self.start_time)
            * (self.width - MARGIN - self.left)
            / self.axis_seconds
        )

    def row_bounds(self, row: int) -> tuple[float, float]:
        """Return the y coordinate of a row's upper edge, and the height of the row."""
        return (
            self.top + row * self.row_height + self.row_gap / 2,
            self.row_height - self.row_gap,
        )

    def name(self, span: Span) -> str:
        """Return the label of a job, or its path if several jobs have the same label."""
        return span.label if self._label_counts[span.label] == 1 else span.path

    def css_class(self, bar: SlotBar) -> str:
        """Return the CSS class of a bar, which stands for its job's family, or for a job that did not succeed."""
        if bar.is_failed_attempt:
            return FAILED_ATTEMPT
        if (state := recorded_state(bar.span)) is not JobState.SUCCEEDED:
            return state_class(state)
        return self.summaries_by_family[self.record.families[bar.span.number]].css_class


def _row_height(row_count: int) -> float:
    return next(
        (height for max_rows, height in ROW_HEIGHTS if row_count <= max_rows), 1.5
    )


def _assign_forever_rows(record: TraceRecord, slot_use: SlotUse) -> list[list[Span]]:
    """Return the rows of the jobs that started without a slot: forever jobs, and members of forever schedulers."""
    slot_users = {bar.span.number for bars in slot_use.bars_by_slot for bar in bars}
    spans = [
        span
        for span in record.leaf_spans
        if span.started_at is not None and span.number not in slot_users
    ]
    rows: dict[int, list[Span]] = {}
    intervals = (
        (span.started_at or 0.0, or_infinity(span.finished_at)) for span in spans
    )
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
    spans = {
        bar.span.number: bar.span for bars in slot_use.bars_by_slot for bar in bars
    }.values()
    succeeded, failed = (
        Counter(
            record.families[span.number]
            for span in spans
            if recorded_state(span) is state
        )
        for state in (JobState.SUCCEEDED, JobState.FAILED)
    )
    times = sorted(compute_family_times(record).items(), key=lambda item: -item[1].work)
    summaries = {
        key: FamilySummary(family, succeeded[key], failed[key])
        for key, family in times
        if family.count
    }
    colored_families = (
        family for family in summaries.values() if family.succeeded_count
    )
    for number, family in enumerate(
        itertools.islice(colored_families, MAX_COLORED_FAMILIES)
    ):
        family.css_class = f"family{number}"
    return summaries


def draw_slots(svg: Tree.Element, geometry: SlotGeometry) -> float:
    """Draw the rows, and below them the legend. Return the y coordinate of the lower edge."""
    for row in range(geometry.slot_use.slot_count):
        y, height = geometry.row_bounds(row)
        width = geometry.width - MARGIN - geometry.left
        add_element(
            svg, "rect", css="empty", x=geometry.left, y=y, width=width, height=height
        )
        if geometry.has_labels or row == 0:
            if geometry.has_labels:
                text = f"lane {row + 1}"
            else:
                text = f"{geometry.slot_use.slot_count} lanes"
            add_element(
                svg, "text", text, css="name", x=MARGIN, y=y + max(height / 2 + 4, 9)
            )
    for row, bars in enumerate(geometry.slot_use.bars_by_slot):
        merged_bars = _merge_bars(geometry, bars)
        for bar in sorted(
            merged_bars, key=lambda bar: bar.css_class == JobState.FAILED.value
        ):
            _draw_merged_bar(svg, geometry, bar, row)
        if geometry.has_labels:
            _draw_labels(svg, geometry, merged_bars, row)
    _draw_forever_jobs(svg, geometry)
    return _draw_legend(svg, geometry, geometry.bottom + 24)


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
    svg: Tree.Element, geometry: SlotGeometry, merged_bar: MergedBar, row: int
) -> None:
    left = geometry.time_to_x(merged_bar.start)
    right = geometry.time_to_x(merged_bar.end)
    y, height = geometry.row_bounds(row)
    first_span = merged_bar.spans[0]
    job_count = len(merged_bar.spans)
    group = add_element(svg, "g", css="job", data_number=first_span.number)
    if job_count > 1 and len(geometry.record.spans) <= MAX_LINKED_SPANS:
        group.set(
            "data-numbers", " ".join(str(span.number) for span in merged_bar.spans)
        )
    start = duration_text(merged_bar.start - geometry.start_time)
    duration = duration_text(merged_bar.end - merged_bar.start)
    name = geometry.summaries_by_family[merged_bar.family].times.family
    summary = f"{job_count} jobs: {name}\nfrom {start} on, for {duration}"
    add_element(
        group,
        "title",
        summary if job_count > 1 else _tooltip_text(geometry, first_span),
    )
    width = max(
        right - left, 3.0 if merged_bar.css_class == JobState.FAILED.value else 0.5
    )
    classes = "bar " * (width >= 3 and geometry.row_height >= 6) + merged_bar.css_class
    if not geometry.record.critical_path_numbers.isdisjoint(merged_bar.spans_by_number):
        classes += " on-path"
    add_element(group, "rect", css=classes, x=left, y=y, width=width, height=height)


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
    next_lefts = [
        *(geometry.time_to_x(bar.start) for bar in merged_bars[1:]),
        geometry.width - MARGIN,
    ]
    for bar, free_until in zip(merged_bars, next_lefts, strict=True):
        left = geometry.time_to_x(bar.start)
        right = geometry.time_to_x(bar.end)
        is_failed = bar.css_class == JobState.FAILED.value
        name = geometry.name(bar.spans[0])
        keep: Literal["start", "ends"] = "ends"
        if len(bar.spans) > 1:
            name = f"{geometry.summaries_by_family[bar.family].times.family} × {len(bar.spans)}"
            keep = "start"
        if symbol := SYMBOLS_BY_CLASS.get(bar.css_class):
            name = f"{symbol} {name}"
        label = clip_text(name, right - left - 7, font_size, is_failed, keep)
        css_class = "label on-dark" if is_failed else "label"
        x = left + (4 if right - left > 16 else 2)
        if is_failed and not label:
            css_class = "label strong"
            x = max(right, left + 3) + 3
            label = clip_text(
                name,
                min(MAX_SIDE_LABEL_WIDTH, free_until - x - 3),
                font_size,
                is_failed,
                keep,
            )
        if label:
            add_element(
                svg,
                "text",
                label,
                css=css_class,
                x=x,
                y=top + height / 2 + font_size * 0.36,
                font_size=font_size,
            )


def _draw_forever_jobs(svg: Tree.Element, geometry: SlotGeometry) -> None:
    height = geometry.forever_row_height
    for row, spans in enumerate(geometry.forever_rows):
        top = geometry.forever_top + row * height
        if row == 0:
            text = clip_text(geometry.forever_names, NAME_WIDTH, 11)
            add_element(
                svg, "text", text, css="name", x=MARGIN, y=top + max(height / 2 + 4, 9)
            )
        for span in spans:
            assert span.started_at is not None
            left = geometry.time_to_x(span.started_at)
            right = geometry.time_to_x(geometry.record.end_of(span))
            is_failed = span.state is JobState.FAILED
            group = add_element(svg, "g", css="job", data_number=span.number)
            add_element(group, "title", _tooltip_text(geometry, span))
            css_class = f"bar forever{' failed' * is_failed}"
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
                continue
            if is_failed:
                name = f"{FAILED_SYMBOL} {geometry.name(span)}"
            else:
                name = geometry.name(span)
            if label := clip_text(name, right - left - 7, 9, is_failed, "ends"):
                css_class = "label on-dark" if is_failed else "label"
                add_element(
                    svg,
                    "text",
                    label,
                    css=css_class,
                    x=left + 4,
                    y=top + height / 2 + 3,
                    font_size=9,
                )


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
            y = y + LINE_HEIGHT
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
        failed_text = f", {family.failed_count} failed" * (
            count > 1 and family.failed_count > 0
        )
        text = f"{family.times.family}{f': {count}' * (count > 1)}, {duration_text(family.times.work)}{failed_text}"
        yield f"bar {family.css_class}", text
    if len(families) > MAX_COLORED_FAMILIES:
        other_families = families[MAX_COLORED_FAMILIES:]
        other_count = sum(family.times.count for family in other_families)
        yield "bar family-other", f"{len(other_families)} other families: {other_count}"
    all_bars = [bar for bars in geometry.slot_use.bars_by_slot for bar in bars]
    if any(bar.is_failed_attempt for bar in all_bars):
        yield f"bar {FAILED_ATTEMPT}", f"{FAILED_SYMBOL} failed attempt"
    states = Counter(recorded_state(bar.span) for bar in all_bars)
    for state in STATE_STYLES:
        if states[state] and state is not JobState.SUCCEEDED:
            yield (
                f"bar {state_class(state)}",
                f"{STATE_STYLES[state].symbol} {state.value}",
            )
    if geometry.forever_rows:
        yield "bar forever", geometry.forever_names
    if geometry.record.critical_path_numbers:
        yield "empty on-path", "critical path"


# ---- notes


def draw_notes(svg: Tree.Element, record: TraceRecord, y: float, width: float) -> float:
    """Write a line for each group of jobs without bars, below `y`. Return the y coordinate of the lower edge."""
    for words, spans in _jobs_without_bars(record):
        if spans:
            y += NOTE_HEIGHT
            names = ", ".join(shorten(span.path) for span in spans[:MAX_NAMED_JOBS])
            names += clause(", …", len(spans) > MAX_NAMED_JOBS)
            text = clip_text(f"{len(spans)} {words}: {names}", width - 2 * MARGIN, 11)
            note = add_element(svg, "text", text, css="note", x=MARGIN, y=y + 4)
            add_element(note, "title", names)
    return y + NOTE_HEIGHT


def _jobs_without_bars(record: TraceRecord) -> Iterator[tuple[str, list[Span]]]:
    """Yield the groups of jobs without bars: the restored jobs, and those that never started, by state."""
    yield (
        "restored from the journal, not run again",
        [span for span in record.counted_spans if span.restored],
    )
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
        is_float = isinstance(value, float)
        if is_float:
            texts[name.replace("_", "-")] = f"{value:.2f}".rstrip("0").rstrip(".")
        else:
            texts[name.replace("_", "-")] = str(value)
    element = Tree.SubElement(parent, tag, texts)
    if text is not None:
        if tag != "title":
            element.text = printable(text)
        else:
            element.text = "\n".join(map(printable, text.split("\n")))
    return element


def _width_units(character: str) -> float:
    if ord(character) > 0x2E7F:
        return 1.05 * _symbols.display_width(character) / 2
    return 0.36 if character in NARROW_CHARACTERS else 0.6


def text_width(text: str, font_size: float, is_bold: bool = False) -> float:
    """Estimate the width in pixels of a text in a sans-serif typeface. The estimate is generous."""
    width_units = sum(map(_width_units, text))
    wide_character_count = sum(
        character.isupper() or character in "mw%@" for character in text
    )
    return (
        font_size
        * (width_units + 0.14 * wide_character_count)
        * (1.06 if is_bold else 1.0)
    )


def clip_text(
    text: str,
    max_width: float,
    font_size: float,
    is_bold: bool = False,
    keep: Literal["start", "ends"] = "start",
) -> str:
    """Cut a text to fit a width, and add an ellipsis. Return an empty string if too little would be left.

    With "ends", the end is kept, too, because similar names often differ there.
    """
    shown = printable(fit(text, MAX_CHARACTERS, keep))
    clipped_text = fit(
        shown, max_width, keep, lambda text: text_width(text, font_size, is_bold)
    )
    return (
        clipped_text
        if clipped_text == shown or len(clipped_text) > MIN_CHARACTERS
        else ""
    )
