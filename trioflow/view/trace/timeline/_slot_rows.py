"""The timeline of a run with many jobs: a row for each slot, colours by kind, and hatching where a slot was empty.

Adjacent jobs of one kind that are too narrow for labels share a bar, whose label has their number. Below the slots, the
critical path is a row of labelled boxes, and a strip shows the use of each resource.
"""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final
from xml.etree import ElementTree as Tree

from ...._core.api.views import JobState, duration_text, printable
from ..._state_styles import STATE_STYLES
from .._resource_use import Steps
from .._shares import PathPart, path_steps
from .._slots import NOTHING_READY, Bar, Reason, SlotUse, reason_words, slot_use
from .._span_builder import TraceRecord
from .._spans import Span
from ._bars import FAILED_SYMBOL, tooltip_lines
from ._gaps import HatchPatterns, draw_word
from ._geometry import MARGIN, MIN_SECONDS
from ._svg import add, clip, clip_middle, flow, text_width

NAME_WIDTH: Final = 92.0
"""The width of the names in front of rows, in pixels."""
MAX_COLOURED_KINDS: Final = 6
"""The number of kinds of jobs that have a colour of their own; the others are grey."""
MIN_BAR_WIDTH: Final = 30.0
"""Pixels below which adjacent jobs of one kind share a bar."""
COLUMN_WIDTH: Final = 2.0
"""The width in pixels of the columns into which time is divided, to find the reasons of empty slots."""
PITCHES: Final = ((24, 20.0), (40, 14.0), (100, 6.0), (400, 3.0))
"""For up to so many rows, the height of a row in pixels; with more rows, it is 1.5."""
MAX_NAMED_JOBS: Final = 20_000
"""The number of jobs above which shared bars do not list the numbers of their jobs."""
STRIP_HEIGHT: Final = 34.0
MAX_STRIPS: Final = 12
LINE_HEIGHT: Final = 18.0


@dataclass(frozen=True, slots=True)
class Block:
    """A bar in a slot: one job, or several adjacent ones of one kind."""

    began: float
    ended: float
    spans: tuple[Span, ...]
    style: str
    kind: str


class SlotGeometry:
    """The coordinates of times and slots in one picture, and the colours of jobs."""

    def __init__(self, record: TraceRecord, width: float, top: float) -> None:
        self.record: Final = record
        self.use: Final = slot_use(record)
        self.width: Final = width
        self.left: Final = MARGIN + NAME_WIDTH
        self.began: Final = record.began
        self.seconds: Final = max(record.now - record.began, MIN_SECONDS)
        self.top: Final = top
        number = max(self.use.slots, 1)
        self.pitch: Final = next((size for most, size in PITCHES if number <= most), 1.5)
        self.font: Final = 11.0 if self.pitch >= 20 else 9.0
        self.has_words: Final = self.pitch >= 14
        self.gap: Final = 2.0 if self.pitch >= 14 else 1.0 if self.pitch >= 6 else 0.0
        self.bottom: Final = top + number * self.pitch
        self.kinds: Final = _find_kinds(record, self.use)

    def x(self, at: float) -> float:
        """Return the x coordinate of a time, in pixels."""
        return self.left + (at - self.began) * (self.width - MARGIN - self.left) / self.seconds

    def row_bounds(self, row: int) -> tuple[float, float]:
        """Return the upper edge of a row, and its height."""
        return self.top + row * self.pitch + self.gap / 2, self.pitch - self.gap

    def style(self, span: Span) -> str:
        """Return the CSS class of a job's bar: that of its kind, or of its state if it did not succeed."""
        if span.state is not JobState.SUCCEEDED:
            return str(span.state.value)
        return self.kinds[self.record.kinds[span.number]].css


@dataclass(slots=True)
class KindOfJobs:
    """The sample in the legend for the jobs of one kind."""

    name: str
    css: str = "kind-other"
    count: int = 0
    failed: int = 0
    work: float = 0.0


def _find_kinds(record: TraceRecord, use: SlotUse) -> dict[str, KindOfJobs]:
    """Return the kinds of the jobs in the slots, the kind with most work first; the first kinds get a colour."""
    kinds: dict[str, KindOfJobs] = {}
    for bar in itertools.chain.from_iterable(use.rows):
        name = record.kinds[bar.span.number]
        kind = kinds.setdefault(name, KindOfJobs(bar.span.label))
        kind.name = name if kind.count else kind.name  # a single job is shown by its label
        kind.count += 1
        kind.failed += bar.span.state is JobState.FAILED
        kind.work += bar.ended - bar.began
    ordered = dict(sorted(kinds.items(), key=lambda item: -item[1].work))
    for number, kind in enumerate(itertools.islice(ordered.values(), MAX_COLOURED_KINDS)):
        kind.css = f"kind{number}"
    return ordered


def draw_slots(svg: Tree.Element, definitions: Tree.Element, geometry: SlotGeometry) -> float:
    """Draw the rows, and below them the critical path, the resources and the legend; return the lower edge."""
    patterns = HatchPatterns(definitions, (reason for reason, seconds in geometry.use.empty.items() if seconds > 0))
    for row in range(geometry.use.slots):
        y, height = geometry.row_bounds(row)
        width = geometry.width - MARGIN - geometry.left
        add(svg, "rect", css="empty", x=geometry.left, y=y, width=width, height=height)
        if geometry.has_words or row == 0:
            text = f"slot {row + 1}" if geometry.has_words else f"{geometry.use.slots} slots"
            add(svg, "text", text, css="name", x=MARGIN, y=y + max(height / 2 + 4, 9))
    _draw_reasons(svg, geometry, patterns)
    for row, bars in enumerate(geometry.use.rows):
        for block in sorted(_blocks(geometry, bars), key=lambda block: block.style == JobState.FAILED.value):
            _draw_block(svg, geometry, block, row)
    y = _draw_path(svg, geometry, geometry.bottom + 12)
    y = draw_resources(svg, geometry.record, geometry.x, geometry.left, geometry.width, y + 8)
    return _draw_legend(svg, geometry, patterns, y + 12)


# ---- why slots were empty


def _draw_reasons(svg: Tree.Element, geometry: SlotGeometry, patterns: HatchPatterns) -> None:
    """Hatch the slots that were empty for a reason other than `NOTHING_READY`.

    If more slots were empty than jobs waited, the upper ones are hatched.
    """
    rows = [*geometry.use.rows, *[()] * (geometry.use.slots - len(geometry.use.rows))]
    times = [at for at, _ in geometry.use.empty_steps]
    columns = int((geometry.width - MARGIN - geometry.left) / COLUMN_WIDTH)
    current = [0] * len(rows)  # in each row, the index of the first bar that has not ended
    cells: list[tuple[int, int, Reason]] = []  # row, column and reason
    for column in range(columns):
        at = geometry.began + geometry.seconds * (column + 0.5) / columns
        steps = geometry.use.empty_steps[bisect.bisect_right(times, at) - 1][1] if times else ()
        reasons = list(itertools.chain.from_iterable(itertools.repeat(reason, slots) for reason, slots in steps))
        for row, bars in enumerate(rows):
            if not reasons:
                break
            while current[row] < len(bars) and bars[current[row]].ended <= at:
                current[row] += 1
            if current[row] == len(bars) or bars[current[row]].began > at:
                cells.append((row, column, reasons.pop(0)))
    cells.sort(key=lambda cell: cell[:2])
    # The row and left edge of the last area for each reason: of adjacent areas, only the first is labelled.
    last_areas: dict[Reason, tuple[int, float]] = {}
    for (row, reason, _), group in itertools.groupby(
        enumerate(cells), key=lambda item: (item[1][0], item[1][2], item[1][1] - item[0])
    ):
        adjacent = [column for _, (_, column, _) in group]
        left, right = geometry.left + adjacent[0] * COLUMN_WIDTH, geometry.left + (adjacent[-1] + 1) * COLUMN_WIDTH
        y, height = geometry.row_bounds(row)
        fill = patterns.gap_fill(reason)
        add(svg, "rect", css="why", x=left, y=y, width=right - left, height=height, fill=fill)
        above = last_areas.get(reason)
        if geometry.has_words and (above is None or above[0] < row - 1 or abs(above[1] - left) > 60):
            draw_word(svg, printable(reason_words(reason)), left, y, right - left, height, geometry.font)
        last_areas[reason] = row, left


# ---- the jobs


def _blocks(geometry: SlotGeometry, bars: Sequence[Bar]) -> Iterator[Block]:
    """Yield the blocks of a row: adjacent narrow bars of one kind are merged."""
    open_block: Block | None = None
    for bar in bars:
        kind, style = geometry.record.kinds[bar.span.number], geometry.style(bar.span)
        block = Block(bar.began, bar.ended, (bar.span,), style, kind)
        is_narrow = geometry.x(bar.ended) - geometry.x(bar.began) < MIN_BAR_WIDTH
        if (
            open_block is not None
            and is_narrow
            and (open_block.style, open_block.kind) == (style, kind)
            and geometry.x(bar.began) - geometry.x(open_block.ended) < 1
        ):
            open_block = replace(open_block, ended=bar.ended, spans=(*open_block.spans, bar.span))
            continue
        if open_block is not None:
            yield open_block
        open_block = block if is_narrow else None
        if not is_narrow:
            yield block
    if open_block is not None:
        yield open_block


def _draw_block(svg: Tree.Element, geometry: SlotGeometry, block: Block, row: int) -> None:
    left, right = geometry.x(block.began), geometry.x(block.ended)
    y, height = geometry.row_bounds(row)
    is_failed = block.style == JobState.FAILED.value
    first, number = block.spans[0], len(block.spans)
    group = add(svg, "g", css="job", data_number=first.number)
    if number > 1 and len(geometry.record.spans) <= MAX_NAMED_JOBS:
        group.set("data-numbers", " ".join(str(span.number) for span in block.spans))
    name = geometry.kinds[block.kind].name if number > 1 else first.label
    began, seconds = duration_text(block.began - geometry.began), duration_text(block.ended - block.began)
    several = f"{number} jobs: {name}\nfrom {began} on, for {seconds}"
    tooltip = several if number > 1 else "\n".join(map(printable, tooltip_lines(geometry.record, first)))
    add(group, "title", tooltip)
    width = max(right - left, 3.0 if is_failed else 0.5)
    outline = "bar " * (width >= 3 and geometry.pitch >= 6)
    add(group, "rect", css=f"{outline}{block.style}", x=left, y=y, width=width, height=height)
    if not geometry.has_words:
        return
    symbol = f"{FAILED_SYMBOL} " if is_failed else ""
    text = f"{name} × {number}" if number > 1 else clip_middle(symbol + name, width - 7, geometry.font, is_failed)
    text = clip(text, width - 7, geometry.font) if number > 1 else text
    if not text and is_failed and width >= 12:
        text = FAILED_SYMBOL
    if text:
        css = "label on-dark" if is_failed else "label"
        x = left + (4 if width > 16 else 2)
        add(svg, "text", text, css=css, x=x, y=y + height / 2 + geometry.font * 0.36, font_size=geometry.font)


# ---- the critical path


def _draw_path(svg: Tree.Element, geometry: SlotGeometry, top: float) -> float:
    """Draw the critical path as a row of labelled boxes; return the lower edge."""
    parts = list(_path_boxes(geometry.record))
    if not parts:
        return top
    height = 22.0
    add(svg, "text", "critical path", css="name strong", x=MARGIN, y=top + 15)
    for part, waited in parts:
        left, right = geometry.x(part.began), geometry.x(part.began + part.seconds)
        group = add(svg, "g", css="job" if part.count == 1 else "", data_number=part.span)
        share = 100 * part.seconds / geometry.seconds
        words = f"{part.text}  {duration_text(part.seconds)}  {share:.0f} %"
        wait = f" ({duration_text(waited)} of it waiting)" if waited > 0.01 * part.seconds else ""
        add(group, "title", words + wait)
        add(group, "rect", css="on-path step", x=left, y=top, width=max(right - left, 1.0), height=height)
        room = right - left - 10
        fitting = [text for text in (words + wait, words) if text_width(text, 11) <= room]
        text = fitting[0] if fitting else clip_middle(part.text, room, 11)
        if text:
            add(svg, "text", text, css="label", x=left + 6, y=top + 15, font_size=11)
    return top + height


def _path_boxes(record: TraceRecord) -> Iterator[tuple[PathPart, float]]:
    """Yield the boxes of the critical path in chronological order, each with the seconds of waiting in it.

    A box begins with the wait before its job; adjacent jobs of one kind share a box.
    """
    boxes: list[tuple[str, PathPart, float]] = []
    waited = 0.0
    for part in path_steps(record):
        if part.is_wait:
            waited += part.seconds
            continue
        kind = record.kinds[part.span]
        began = part.began - waited
        if boxes and boxes[-1][0] == kind:
            before = boxes[-1][1]
            seconds = part.began + part.seconds - before.began
            whole = replace(before, name=kind, count=before.count + 1, seconds=seconds)
            boxes[-1] = kind, whole, boxes[-1][2] + waited
        else:
            boxes.append((kind, replace(part, began=began, seconds=part.seconds + waited), waited))
        waited = 0.0
    return ((part, waits) for _, part, waits in boxes)


# ---- the use of resources


def draw_resources(
    svg: Tree.Element, record: TraceRecord, x_of: Callable[[float], float], left: float, width: float, top: float
) -> float:
    """Draw the use of each resource over time; return the lower edge."""
    for name, note, (times, values), total in itertools.islice(_resource_uses(record), MAX_STRIPS):
        base, most = top + STRIP_HEIGHT - 8, max([total or 0.0, *values])
        unit = (STRIP_HEIGHT - 12) / most if most else 0.0
        outline = "".join(
            f"H{x_of(min(max(at, record.began), record.now)):.1f}V{base - value * unit:.1f}"
            for at, value in zip(times, values, strict=True)
        )
        add(svg, "path", css="load", d=f"M{left:.1f} {base:.1f}{outline}H{width - MARGIN:.1f}V{base:.1f}Z")
        if total:
            y = base - total * unit
            add(svg, "line", css="window", x1=left, y1=y, x2=width - MARGIN, y2=y)
        add(svg, "line", css="frame", x1=left, y1=base, x2=width - MARGIN, y2=base)
        room = left - MARGIN - 6
        if room > 0:
            add(svg, "text", clip(name, room, 11), css="name strong", x=MARGIN, y=base - 12)
            add(svg, "text", clip(note, room, 11), css="tick", x=MARGIN, y=base + 1)
        else:
            add(svg, "text", clip(f"{name}, {note}", width / 2, 11), css="note", x=left + 4, y=base - 5)
        top += STRIP_HEIGHT
    return top


def _resource_uses(record: TraceRecord) -> Iterator[tuple[str, str, Steps, float | None]]:
    """Yield the name, a note, the use over time, and the total amount of each resource."""
    seconds = max(record.now - record.began, MIN_SECONDS)
    for resource in record.resources:
        if not resource.uses or resource.is_reservation:
            continue
        steps = resource.amount_over_time(record.now)
        if resource.total is None:
            yield f"jobs on {resource.name}", f"at most {max(steps[1], default=0):.0f}", steps, None
            continue
        used = sum(amount * (min(until, record.now) - since) for since, until, amount, _ in resource.uses)
        share = used / (resource.total * seconds) if resource.total else 0.0
        yield resource.name, f"{100 * share:.0f} % of {resource.format_amount(resource.total)}", steps, resource.total


# ---- the legend


def _draw_legend(svg: Tree.Element, geometry: SlotGeometry, patterns: HatchPatterns, top: float) -> float:
    entries = [(css, fill, clip(text, 300, 11)) for css, fill, text in _legend_entries(geometry, patterns)]
    widths = [17 + text_width(text, 11) + 16 for *_, text in entries]
    y = top
    for (css, fill, text), (x, y) in zip(entries, flow(widths, MARGIN, geometry.width, top, LINE_HEIGHT), strict=True):
        attributes = {} if fill is None else {"fill": fill}
        add(svg, "rect", css=css, x=x, y=y - 9, width=12, height=12, **attributes)
        add(svg, "text", text, css="legend", x=x + 17, y=y + 1)
    return y


def _legend_entries(geometry: SlotGeometry, patterns: HatchPatterns) -> Iterator[tuple[str, str | None, str]]:
    """Yield the CSS class, the fill (None for that of the class) and the text of each entry of the legend."""
    kinds = list(geometry.kinds.values())
    for kind in kinds[:MAX_COLOURED_KINDS]:
        failed = f", {kind.failed} failed" * bool(kind.failed)
        yield f"bar {kind.css}", None, f"{kind.name}: {kind.count}, {duration_text(kind.work)}{failed}"
    if len(kinds) > MAX_COLOURED_KINDS:
        others = kinds[MAX_COLOURED_KINDS:]
        yield "bar kind-other", None, f"{len(others)} other kinds: {sum(kind.count for kind in others)}"
    states = Counter(bar.span.state for bars in geometry.use.rows for bar in bars)
    for state in STATE_STYLES:
        if states[state] and state is not JobState.SUCCEEDED:
            yield f"bar {state.value}", None, f"{STATE_STYLES[state].symbol} {state.value}"
    for reason in patterns:
        yield "why", patterns.gap_fill(reason), f"empty: {reason_words(reason)}"
    if geometry.use.empty.get(NOTHING_READY, 0) > 0:
        yield "empty", None, f"empty: {reason_words(NOTHING_READY)}"
